//! How long a text takes to become a tree, measured in an optimized build of this program, since the one that runs the benchmark is none.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use daemun_config::{Diagnostics, parse_text};

/// Reads the file that is named, and prints in how many milliseconds its text became a tree.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let [file] = arguments else { bail!("`read` is for the benchmark") };
    let text = std::fs::read_to_string(file)?;
    let mut diagnostics = Diagnostics::new();
    let since = Instant::now();
    let tree = parse_text(&text, &mut diagnostics);
    let span = since.elapsed();
    tree.context("the configuration is no YAML")?;
    println!("{:.3}", span.as_secs_f64() * 1e3);
    Ok(())
}
