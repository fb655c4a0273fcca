//! `daemun demo`.
use crate::code::{Code, Failure};
use crate::output::Output;
pub(crate) fn run(_output: &mut Output<'_>) -> Result<Code, Failure> {
    Ok(Code::Done)
}
