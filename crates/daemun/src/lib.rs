//! The `daemun` program: its command line, and what runs around the data plane. Decides nothing about a request itself.

mod cli;
mod code;
mod command;
mod configuration;
mod demo;
mod key;
mod output;
mod panics;
mod run;

pub use cli::{main, run_command};
pub use code::Code;
pub use output::Output;
