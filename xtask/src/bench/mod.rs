//! `cargo xtask bench`: Daemun against nginx, HAProxy and Envoy, in processor time per request and a few figures more.
//!
//! The proxy has core 0 to itself, load and origin share core 1. Contestants take turns, and a ratio is always of one
//! round, so that what else the machine does falls on all of them. After each run Daemun's own count of requests must be
//! exactly the load's; a figure whose counts differ is void.

mod loads;
mod peer;
mod process;
pub(crate) mod reading;
mod rows;
mod scenario;
pub(crate) mod shaping;
mod signer;
mod stats;
mod table;
pub(crate) mod verifying;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{shell, tools, tree};
use process::{LOAD_CPU, Process, free_addresses};
use rows::ROWS;
use table::Line;

const USAGE: &str = "\
usage: cargo xtask bench [--quick] [--only ROW,ROW] [--daemun FILE] [--write]

  --quick        a fifth of the requests, shorter spans: for trying things out, not for figures
  --only ROWS    only these rows
  --daemun FILE  measures this binary instead of building one
  --write        writes the table into the document even after --quick or --only
";

/// What all rows share.
pub(crate) struct Bench {
    /// Where configurations, logs and files of requests are written.
    folder: PathBuf,
    /// This program as a load: optimized, unlike the one that is running.
    runner: PathBuf,
    daemun: PathBuf,
    envoy: Option<PathBuf>,
    origin: SocketAddr,
    quick: bool,
}

impl Bench {
    fn logs(&self) -> PathBuf {
        self.folder.join("logs")
    }

    /// How many requests a run has, of the `full` number.
    fn count(&self, full: u64) -> u64 {
        if self.quick { (full / 5).max(1) } else { full }
    }

    fn rounds(&self) -> usize {
        if self.quick { 3 } else { 5 }
    }
}

struct Options {
    quick: bool,
    only: Vec<String>,
    daemun: Option<PathBuf>,
    write: bool,
}

/// Measures the rows asked for, prints the table, and writes it into the document after a whole run. Fails when a row
/// could not be measured or is void; a target that is missed is a line of the table, not a failure.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let Some(options) = Options::parse(arguments)? else {
        print!("{USAGE}\nrows: {}\n", ROWS.iter().map(|row| row.name).collect::<Vec<_>>().join(", "));
        return Ok(());
    };
    let missing = tools::install()?;
    if std::thread::available_parallelism()?.get() < 2 {
        bail!("the benchmark needs two cores: one for the proxy, one for load and origin");
    }
    // Two at once would measure each other.
    std::fs::create_dir_all(tree::target().join("bench"))?;
    let lock = std::fs::File::create(tree::target().join("bench/lock"))?;
    lock.try_lock().context("another benchmark is running")?;
    let bench = prepare(&options)?;
    let origin_command = scenario::origin(bench.origin, &bench.folder.join("origin"))?;
    let mut origin = Process::start("origin", LOAD_CPU, &origin_command, &bench.logs())?;
    origin.listening(bench.origin)?;

    let (mut lines, mut failed): (Vec<Line>, usize) = (Vec::new(), 0);
    for row in ROWS.iter().filter(|row| options.only.is_empty() || options.only.iter().any(|name| name == row.name)) {
        eprintln!("── {}", row.name);
        match (row.measure)(&bench) {
            Ok(measured) => {
                for line in &measured {
                    eprintln!("{}", line.markdown());
                }
                lines.extend(measured);
            }
            Err(error) => {
                failed += 1;
                eprintln!("{}: void: {error:#}", row.name);
                lines.push(Line::void(row.title, &format!("{error:#}")));
            }
        }
    }
    let text = table::document(&bench, &lines)?;
    println!("{text}");
    if options.write || (!bench.quick && options.only.is_empty()) {
        table::write(&text)?;
    }
    if failed > 0 || !missing.is_empty() || bench.envoy.is_none() {
        bail!("{failed} rows are void; missing: {}", if bench.envoy.is_none() { "Envoy" } else { "nothing" });
    }
    Ok(())
}

impl Options {
    /// `None` when help is asked for.
    fn parse(arguments: &[String]) -> Result<Option<Options>> {
        let mut options = Options { quick: false, only: Vec::new(), daemun: None, write: false };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match argument.as_str() {
                "--quick" => options.quick = true,
                "--write" => options.write = true,
                "--only" => {
                    options.only = rest.next().context("`--only` needs rows")?.split(',').map(str::to_owned).collect()
                }
                "--daemun" => options.daemun = Some(rest.next().context("`--daemun` needs a file")?.into()),
                "--help" | "-h" => return Ok(None),
                other => bail!("`bench` does not know `{other}`\n\n{USAGE}"),
            }
        }
        if let Some(unknown) = options.only.iter().find(|name| !ROWS.iter().any(|row| row.name == **name)) {
            bail!(
                "there is no row `{unknown}`; the rows are {}",
                ROWS.iter().map(|row| row.name).collect::<Vec<_>>().join(", ")
            );
        }
        Ok(Some(options))
    }
}

/// Builds what is measured and what measures.
fn prepare(options: &Options) -> Result<Bench> {
    let target = tree::target();
    shell::run(shell::cargo().args(["build", "--quiet", "--locked", "--package", "xtask", "--profile", "quick"]))?;
    let daemun = match &options.daemun {
        Some(file) => file.canonicalize().with_context(|| format!("there is no `{}`", file.display()))?,
        None => {
            shell::run(shell::cargo().args(["build", "--quiet", "--locked", "--package", "daemun", "--release"]))?;
            target.join("release/daemun")
        }
    };
    let envoy = tools::envoy().map_err(|error| eprintln!("Envoy is left out: {error:#}")).ok();
    let folder = target.join("bench");
    std::fs::create_dir_all(folder.join("logs"))?;
    let [origin] = free_addresses()?;
    Ok(Bench { folder, runner: target.join("quick/xtask"), daemun, envoy, origin, quick: options.quick })
}

/// The first line that `command` says that holds a digit, for a table of versions.
fn version(command: &mut Command) -> String {
    shell::said(command)
        .ok()
        .and_then(|said| said.lines().find(|line| line.contains(|c: char| c.is_ascii_digit())).map(str::to_owned))
        .unwrap_or_else(|| "not known".to_owned())
}
