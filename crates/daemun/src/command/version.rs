//! `daemun version`: what this binary is.

use crate::code::{Code, Failure};
use crate::output::Output;

/// What this binary can do, in the words of the manual.
const FEATURES: &[&str] = &["http1", "http2", "tls", "websocket", "grpc", "unix-sockets", "hand-over"];

pub(crate) fn run(output: &mut Output<'_>) -> Result<Code, Failure> {
    output.line(format!(
        "daemun {}\ncommit {}\nfeatures {}\npolicies {}",
        env!("CARGO_PKG_VERSION"),
        env!("DAEMUN_COMMIT"),
        FEATURES.join(" "),
        policies().join(" "),
    ))?;
    Ok(Code::Done)
}

fn policies() -> Vec<&'static str> {
    daemun_policies::REGISTRY.iter().map(|row| row.name).collect()
}
