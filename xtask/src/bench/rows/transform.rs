//! What changing a JSON body costs beside what the JSON library alone takes to read and write it.

use std::process::Command;

use anyhow::{Context, Result};

use super::super::Bench;
use super::super::process::LOAD_CPU;
use super::super::stats::Spread;
use super::super::table::Line;
use crate::shell;

pub(super) fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let mut command = Command::new("taskset");
    command.args(["-c", &LOAD_CPU.to_string()]).arg(&bench.runner).args(["shape", &bench.rounds().to_string()]);
    let ratios: Vec<f64> = shell::output(&mut command)?.lines().filter_map(|line| line.parse().ok()).collect();
    let spread = Spread::of(&ratios).context("no value")?;
    let mut line = Line { what: "`transform` of 4 KiB of JSON".to_owned(), unit: "ratio", ..Line::default() };
    line.ratio(spread, "the JSON library's own reading and writing", Some(1.3));
    Ok(vec![line])
}
