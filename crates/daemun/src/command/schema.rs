//! `daemun schema`: the JSON Schema that editors check a configuration with.

use crate::code::{Code, Failure};
use crate::configuration::Language;
use crate::output::Output;

pub(crate) fn run(output: &mut Output<'_>) -> Result<Code, Failure> {
    let schema = daemun_config::schema(&Language::new().vocabulary());
    output.json(&schema)?;
    Ok(Code::Done)
}
