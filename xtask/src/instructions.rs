//! `cargo xtask instructions`: instructions per operation, counted under callgrind and held against a committed table.
//!
//! A measured example is a file `crates/*/examples/instr_*.rs` that does one operation COUNT times, its only argument, in a function
//! `measured`: only what that does is counted. Two lengths are subtracted, so that first uses cost nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use crate::{shell, tree};

const TABLE: &str = "xtask/instructions.json";

/// How far a count may rise above the table before the gate closes, and fall below before the table is out of date.
const TOLERANCE: f64 = 0.03;

/// How often an example is counted at most.
const TRIES: usize = 4;

/// What the processor can do that the library of digests would use or not, whichever maker's it is: bits of CPUID's leaf 1.
const MASKED: &str = "~0x1000000040000000";

/// The two lengths that are subtracted.
const LENGTHS: (u64, u64) = (20_000, 40_000);

/// Counts every example. `--bless` writes the table; without it one that differs from its entry, or has none, is a failure.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let bless = match arguments {
        [] => false,
        [flag] if flag == "--bless" => true,
        _ => bail!("usage: cargo xtask instructions [--bless]"),
    };
    let valgrind = shell::need("valgrind")?;
    let file = tree::root().join(TABLE);
    let table = if bless { BTreeMap::new() } else { read_table(&file)? };
    let mut counted = BTreeMap::new();
    for example in examples()? {
        let count = usual(&valgrind, &example, &table)?;
        println!("{}: {count:.1} instructions", example.name);
        counted.insert(example.name, count);
    }
    if bless {
        let table: Map<String, Value> =
            counted.into_iter().map(|(name, count)| (name, Value::from((count * 10.0).round() / 10.0))).collect();
        std::fs::write(&file, format!("{:#}\n", Value::Object(table)))?;
        return Ok(());
    }
    let findings = compare(&table, &counted);
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!(
            "{} counts differ from {TABLE}; if that is meant, run `cargo xtask instructions --bless`",
            findings.len()
        );
    }
    println!("{} counts agree with `{TABLE}`", counted.len());
    Ok(())
}

fn read_table(file: &Path) -> Result<BTreeMap<String, f64>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read `{TABLE}`"))?;
    let table: Map<String, Value> = serde_json::from_str(&text).with_context(|| format!("cannot read `{TABLE}`"))?;
    Ok(table.into_iter().filter_map(|(name, count)| Some((name, count.as_f64()?))).collect())
}

/// What an example takes, counted anew where that is not what the table says: where a map puts what it holds is up to chance, in each run.
fn usual(valgrind: &Path, example: &Example, table: &BTreeMap<String, f64>) -> Result<f64> {
    let differs = |count: f64| table.get(&example.name).is_none_or(|entry| (count / entry - 1.0).abs() > TOLERANCE);
    let mut least = per_operation(valgrind, &example.program)?;
    for _ in 1..TRIES {
        if !differs(least) {
            break;
        }
        let again = per_operation(valgrind, &example.program)?;
        least = if differs(again) { least.min(again) } else { again };
    }
    Ok(least)
}

/// What differs by more than the tolerance, or is in one of the two only.
fn compare(table: &BTreeMap<String, f64>, counted: &BTreeMap<String, f64>) -> Vec<String> {
    let mut findings = Vec::new();
    for (name, count) in counted {
        match table.get(name) {
            None => findings.push(format!("{name}: {count:.1}, and has no entry")),
            Some(entry) if *count > entry * (1.0 + TOLERANCE) => {
                findings.push(format!("{name}: {count:.1}, more than the {entry:.1} it may cost"));
            }
            Some(entry) if *count < entry * (1.0 - TOLERANCE) => {
                findings.push(format!("{name}: {count:.1}, less than {entry:.1}; write the gain down"));
            }
            Some(_) => {}
        }
    }
    findings
        .extend(table.keys().filter(|name| !counted.contains_key(*name)).map(|name| format!("{name}: was not run")));
    findings
}

/// A built example.
struct Example {
    name: String,
    program: PathBuf,
}

/// Builds all measured examples, optimized as what is shipped is but for what lies across crates: that takes most of the time, and shows
/// no other changes.
fn examples() -> Result<Vec<Example>> {
    let mut found = Vec::new();
    for file in tree::files()? {
        let Some((krate, name)) = measured(&file.path) else { continue };
        let manifest = std::fs::read_to_string(tree::root().join(krate).join("Cargo.toml"))?;
        let package = manifest
            .lines()
            .find_map(|line| line.strip_prefix("name = "))
            .with_context(|| format!("`{krate}/Cargo.toml` names no package"))?
            .trim_matches('"')
            .to_owned();
        // how code is divided changes counts
        shell::run(shell::cargo().env("CARGO_INCREMENTAL", "0").args([
            "build",
            "--quiet",
            "--locked",
            "--profile",
            "quick",
            "--package",
            &package,
            "--example",
            name,
        ]))?;
        found.push(Example { name: name.to_owned(), program: tree::target().join("quick/examples").join(name) });
    }
    Ok(found)
}

/// The crate's folder and the example's name, for the path of a measured example.
fn measured(path: &str) -> Option<(&str, &str)> {
    let (krate, file) = path.split_once("/examples/")?;
    let name = file.strip_suffix(".rs")?;
    (path.starts_with("crates/") && name.starts_with("instr_")).then_some((krate, name))
}

fn per_operation(valgrind: &Path, program: &Path) -> Result<f64> {
    let (short, long) = (collected(valgrind, program, LENGTHS.0)?, collected(valgrind, program, LENGTHS.1)?);
    Ok(long.saturating_sub(short) as f64 / (LENGTHS.1 - LENGTHS.0) as f64)
}

/// The instructions that `program COUNT` executes in all.
fn collected(valgrind: &Path, program: &Path, count: u64) -> Result<u64> {
    let output = Command::new(valgrind)
        .args([
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            "--collect-atstart=no",
            "--toggle-collect=*measured*",
        ])
        .env("OPENSSL_ia32cap", MASKED)
        .arg(program)
        .arg(count.to_string())
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    said.lines()
        .find_map(|line| line.split_once("Collected :").map(|(_, count)| count.trim()))
        .and_then(|count| count.parse().ok())
        .filter(|_| output.status.success())
        .with_context(|| format!("`{} {count}` was not counted: {said}", program.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measured_examples_are_found_by_their_name() {
        assert_eq!(measured("crates/a/examples/instr_head.rs"), Some(("crates/a", "instr_head")));
        assert_eq!(measured("crates/a/examples/demo.rs"), None);
        assert_eq!(measured("examples/instr_head.rs"), None);
    }

    #[test]
    fn counts_beyond_the_tolerance_and_missing_ones_are_found() {
        let table = |rows: &[(&str, f64)]| rows.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        let entries = table(&[("a", 100.0), ("b", 100.0), ("c", 100.0), ("gone", 1.0)]);
        let counted = table(&[("a", 102.0), ("b", 104.0), ("c", 90.0), ("new", 1.0)]);
        assert_eq!(compare(&entries, &counted).len(), 4);
    }
}
