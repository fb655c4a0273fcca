//! `cargo xtask test`: one command that makes the machine ready, runs every test, and says what did not run.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::{shell, tools, tree};

/// Where a test that could not run says so, one line each; the variable holds the path of a file to append to.
const SKIPPED: &str = "DAEMUN_SKIPPED";

/// Where the tests find the binary under test.
const BINARY: &str = "DAEMUN_BIN";

/// Installs, builds, tests, and prints a summary. Fails when a test failed, and as well when one was skipped.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if let Some(argument) = arguments.first() {
        bail!("`test` takes no argument, and got `{argument}`");
    }
    let mut skipped = tools::install()?;
    if let Err(error) = tools::node_peers() {
        skipped.push(format!("the Node peers: {error:#}"));
    }
    if let Err(error) = tools::schema_suite() {
        skipped.push(format!("the suite of JSON Schema: {error:#}"));
    }
    if let Err(error) = tools::retailer() {
        skipped.push(format!("the retailer's packages: {error:#}"));
    }
    if let Err(error) = tools::jose_vectors() {
        skipped.push(format!("the test vectors of JOSE: {error:#}"));
    }
    if let Err(error) = tools::opa() {
        skipped.push(format!("Open Policy Agent: {error:#}"));
    }
    shell::run(shell::cargo().args(["build", "--locked", "--package", "daemun"]))?;
    let notes = tree::target().join("xtask/skipped.txt");
    std::fs::create_dir_all(tree::target().join("xtask"))?;
    std::fs::write(&notes, "")?;
    let tests = cargo_test(&notes)?;
    skipped.extend(std::fs::read_to_string(&notes)?.lines().map(str::to_owned));
    if tests.ignored > 0 {
        skipped.push(format!("{} tests are marked as ignored", tests.ignored));
    }
    println!("\nsummary: {} test programs, {} passed, {} failed", tests.programs, tests.passed, tests.failed);
    for line in &skipped {
        println!("skipped: {line}");
    }
    if tests.failed > 0 || !tests.exit_ok {
        bail!("{} tests failed", tests.failed.max(1));
    }
    if !skipped.is_empty() {
        bail!("{} things were skipped", skipped.len());
    }
    println!("nothing was skipped");
    Ok(())
}

/// The sums of cargo's `test result:` lines.
#[derive(Default)]
struct Tests {
    programs: usize,
    passed: usize,
    failed: usize,
    ignored: usize,
    exit_ok: bool,
}

/// Runs all tests of the workspace, passing their output through as it comes.
fn cargo_test(notes: &std::path::Path) -> Result<Tests> {
    let binary = tree::target().join("debug/daemun");
    let mut child = shell::cargo()
        .args(["test", "--locked", "--workspace", "--no-fail-fast"])
        .env(SKIPPED, notes)
        .env(BINARY, binary)
        .stdout(Stdio::piped())
        .spawn()
        .context("`cargo test` did not start")?;
    let mut tests = Tests::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            tests.count(&line);
        }
    }
    tests.exit_ok = child.wait()?.success();
    Ok(tests)
}

impl Tests {
    fn count(&mut self, line: &str) {
        let Some(result) = line.trim_start().strip_prefix("test result: ") else { return };
        self.programs += 1;
        let mut before = "";
        for word in result.split_whitespace() {
            match word.trim_end_matches(';') {
                "passed" => self.passed += before.parse().unwrap_or(0),
                "failed" => self.failed += before.parse().unwrap_or(0),
                "ignored" => self.ignored += before.parse().unwrap_or(0),
                _ => {}
            }
            before = word;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sums_of_result_lines_are_counted() {
        let mut tests = Tests::default();
        tests.count("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s");
        tests.count("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out");
        tests.count("test a_name ... ok");
        assert_eq!((tests.programs, tests.passed, tests.failed, tests.ignored), (2, 15, 2, 1));
    }
}
