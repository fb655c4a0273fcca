//! What a configuration of 100,000 routes takes until it is live, on a gateway that is not asked anything: from its text to the tree, and
//! from the tree to the published snapshot.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::super::Bench;
use super::super::peer::Peer;
use super::super::process::{LOAD_CPU, free_addresses};
use super::super::scenario::{Kind, Place, routes};
use super::super::stats::Spread;
use super::super::table::Line;
use crate::shell;

const ROUTES: usize = 100_000;

/// How long a reload may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let [listen, status] = free_addresses()?;
    let place = Place { listen, status, origin: bench.origin };
    let folder = bench.folder.join("run/daemun-publish");
    let first = routes(bench, ROUTES, 0, place, &folder)?;
    let peer = Peer::launch(bench, Kind::Daemun, place, &first.command, "daemun-publish")?;
    let file = folder.join("daemun.yaml");
    let (mut trees, mut published) = (Vec::new(), Vec::new());
    for generation in 1..=bench.rounds() {
        routes(bench, ROUTES, generation, place, &folder)?;
        peer.process.signal(Signal::HUP)?;
        let since = Instant::now();
        let whole = loop {
            if let Some(&span) = reloads(&peer.process.said()?).get(generation - 1) {
                break span;
            }
            if since.elapsed() > PATIENCE {
                bail!("reload {generation} is not there after {} s", PATIENCE.as_secs());
            }
            shell::pause(Duration::from_millis(10));
        };
        let mut reading = Command::new("taskset");
        reading.args(["-c", &LOAD_CPU.to_string()]).arg(&bench.runner).arg("read").arg(&file);
        let tree: f64 = shell::output(&mut reading)?.trim().parse()?;
        trees.push(tree);
        published.push(whole - tree);
    }
    let made = reloads(&peer.process.said()?).len();
    if made != bench.rounds() {
        bail!("{made} reloads instead of {}: some were measured beside others", bench.rounds());
    }
    Ok(vec![
        line("100,000 routes, from the text to the tree", &trees, None)?,
        line("100,000 routes, from the tree to the published snapshot", &published, Some(1_000.0))?,
    ])
}

fn line(what: &str, values: &[f64], most: Option<f64>) -> Result<Line> {
    let spread = Spread::of(values).context("no value")?;
    let mut line = Line { what: what.to_owned(), unit: "ms", against: "Daemun".to_owned(), ..Line::default() };
    line.cell(Kind::Daemun, format!("{:.0}", spread.median));
    line.figure = format!("**{:.0}** ({:.0}–{:.0})", spread.median, spread.low, spread.high);
    line.at_most(spread.median, most.map(|most| (most, format!("{most:.0}"))));
    Ok(line)
}

/// The milliseconds of each reload that the gateway told of, reading included.
fn reloads(said: &str) -> Vec<f64> {
    said.lines()
        .filter_map(|line| line.split_once(" was read again after "))
        .filter_map(|(_, told)| told.split(", ").find_map(|part| part.trim().strip_suffix(" ms")?.parse().ok()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_reload_is_read_from_its_event() {
        let line = "2026-11-25T13:11:39.029Z info reload: `/x, 7 ms/daemun.yaml` was read again after SIGHUP: 100000 routes, number 2, 812 ms";
        assert_eq!(reloads(line), [812.0]);
        assert_eq!(reloads(&format!("{line}, with 1 warning\nready\n{line}")), [812.0, 812.0]);
    }
}
