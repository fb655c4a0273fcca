//! `daemun explain`: what would be done with a request, and why, without doing it.

mod call;
mod mask;
mod missed;
mod request;
mod show;

use daemun_dataplane::IdSource;
use daemun_dataplane::explain::{ExplainRequest, explain};

use crate::cli::{Explain, Format};
use crate::code::{Code, Failure};
use crate::configuration::Compiled;
use crate::output::Output;

use mask::Mask;
use missed::Missed;
use request::Asked;

pub(crate) fn run(command: &Explain, output: &mut Output<'_>) -> Result<Code, Failure> {
    let asked = Asked::parse(&command.method, &command.url, &command.headers).map_err(Failure::wrong)?;
    let mut compiled = Compiled::detached(command.file.config.as_deref());
    let (mut config, snapshot) = compiled.sound(output)?;
    call::read_lists(&config, &snapshot);
    let request =
        ExplainRequest { head: asked.head(), peer: command.client_ip, tls: asked.tls, ids: IdSource::fixed(0) };
    let explained = explain(&snapshot, &request);
    let missed = Missed::of(&mut config, &snapshot, &request, asked.path(), &explained);
    let mask = Mask::new(&config, compiled.given);
    let call = call::lines(&config, &asked.method, &explained, &mask);
    match command.format {
        Format::Text => {
            let text = show::text(&asked, command.client_ip, &config, &explained, &call, &missed, &mask);
            output.line(mask.references(&text))?
        }
        Format::Json => {
            let mut shown = show::json(&config, &explained, &call, &missed, &mask);
            mask.references_in(&mut shown);
            output.json(&shown)?;
        }
    }
    Ok(Code::Done)
}
