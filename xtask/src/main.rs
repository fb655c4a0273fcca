//! Daemun's own chores, run as `cargo xtask COMMAND`: what tests need, what the tree must look like, what is measured.
//!
//! It deliberately depends on no crate of the gateway: the binary is built and run from outside, as a user would.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a chore talks to the person who started it")]
#![allow(
    clippy::disallowed_methods,
    reason = "chores measure real time and wait for real programs; nothing here serves a request"
)]

mod bench;
mod docs;
mod instructions;
mod licences;
mod load;
mod shell;
mod test;
mod tidy;
mod tools;
mod tree;

use std::process::ExitCode;

/// The shipped program's, so that what is measured in this one costs what it costs there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  test                  installs what tests need where it is missing, then runs everything
  tidy                  checks the shape of the tree: lengths, documents, crate edges, names
  docs                  writes the pages of the book that are made from the source
  licences              checks every dependency's licence and source against `deny.toml`
  bench [OPTIONS]       measures Daemun against nginx, HAProxy and Envoy (`bench --help`)
  instructions [--bless]  compares instruction counts of the `instr_*` examples with `xtask/instructions.json`
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match arguments.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("help", &[][..]),
    };
    let done = match command {
        "test" => test::run(rest),
        "tidy" => tidy::run(),
        "docs" => docs::run(),
        "licences" => licences::run(),
        "bench" => bench::run(rest),
        "instructions" => instructions::run(rest),
        "load" => load::run(rest),
        "read" => bench::reading::run(rest),
        "shape" => bench::shaping::run(rest),
        "verify" => bench::verifying::run(rest),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        other => {
            eprint!("there is no command `{other}`\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
