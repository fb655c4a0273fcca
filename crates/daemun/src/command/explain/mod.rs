//! `daemun explain`: what would be done with a request, and why, without doing it.

mod mask;
mod request;
mod show;

use daemun_dataplane::IdSource;
use daemun_dataplane::explain::{ExplainRequest, explain};

use crate::cli::{Explain, Format};
use crate::code::{Code, Failure};
use crate::configuration::Compiled;
use crate::output::Output;

use mask::Mask;
use request::Asked;

pub(crate) fn run(command: &Explain, output: &mut Output<'_>) -> Result<Code, Failure> {
    let asked = Asked::parse(&command.method, &command.url, &command.headers).map_err(Failure::wrong)?;
    let (config, snapshot) = Compiled::detached(command.file.config.as_deref()).sound(output)?;
    let request =
        ExplainRequest { head: asked.head(), peer: command.client_ip, tls: asked.tls, ids: IdSource::fixed(0) };
    let explained = explain(&snapshot, &request);
    let mask = Mask::new(&config);
    match command.format {
        Format::Text => output.line(show::text(&asked, command.client_ip, &config, &explained, &mask))?,
        Format::Json => output.json(&show::json(&config, &explained, &mask))?,
    }
    Ok(Code::Done)
}
