//! `daemun demo`: see [`crate::demo`].

use crate::code::{Code, Failure};
use crate::demo;
use crate::output::Output;

pub(crate) fn run(output: &mut Output<'_>) -> Result<Code, Failure> {
    demo::run(output)
}
