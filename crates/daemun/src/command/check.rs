//! `daemun check`: every finding of a configuration, for people or for programs.

use crate::cli::{Check, Format};
use crate::code::{Code, Failure};
use crate::configuration::Compiled;
use crate::output::{Output, count};

pub(crate) fn run(command: &Check, output: &mut Output<'_>) -> Result<Code, Failure> {
    let compiled = Compiled::detached(command.file.config.as_deref());
    match command.format {
        Format::Json => output.json(&compiled.diagnostics.to_json(&compiled.sources))?,
        Format::Text => {
            let report = compiled.report(output.color);
            if !report.is_empty() {
                output.findings(&report);
            }
            if let Some((config, _)) = &compiled.sound {
                output.line(format!(
                    "ok: {}, {}, {}, {}",
                    count(config.listeners.len(), "listener"),
                    count(config.routes.len(), "route"),
                    count(config.upstreams.len(), "upstream"),
                    count(config.consumers.len(), "consumer"),
                ))?;
            }
        }
    }
    Ok(compiled.code())
}
