//! A proxy that is running, and one run of load against it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::Bench;
use super::loads::{Count, Load, get};
use super::process::{PROXY_CPU, Process, free_addresses};
use super::scenario::{Kind, Place, Scenario, configure};
use crate::load::response::fetch;
use crate::shell;

/// The counter of ended exchanges that every run is checked against; summed over all its labels.
const REQUESTS: &str = "daemun_requests_total";

/// How long the last records may take to be counted.
const SETTLING: Duration = Duration::from_secs(3);

/// A running proxy.
pub(super) struct Peer {
    pub(super) kind: Kind,
    pub(super) process: Process,
    pub(super) place: Place,
}

/// What one run cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Processor time per completed request, in microseconds.
    pub(super) user: f64,
    pub(super) system: f64,
    /// Requests a second.
    pub(super) rate: f64,
}

impl Sample {
    pub(super) fn total(self) -> f64 {
        self.user + self.system
    }
}

impl Peer {
    /// Starts `kind` for `scenario` in front of the bench's origin, and waits until it listens.
    pub(super) fn start(bench: &Bench, kind: Kind, scenario: Scenario) -> Result<Peer> {
        Peer::start_before(bench, kind, scenario, bench.origin)
    }

    /// Starts `kind` in front of `origin`.
    pub(super) fn start_before(bench: &Bench, kind: Kind, scenario: Scenario, origin: SocketAddr) -> Result<Peer> {
        let (place, command, name) = Peer::prepare(bench, kind, scenario, origin)?;
        Peer::launch(bench, kind, place, &command, &name)
    }

    /// The configuration of a proxy on free ports, written, and the command that starts it.
    pub(super) fn prepare(
        bench: &Bench,
        kind: Kind,
        scenario: Scenario,
        origin: SocketAddr,
    ) -> Result<(Place, Command, String)> {
        let [listen, status] = free_addresses()?;
        let place = Place { listen, status, origin };
        let name = format!("{}-{}", kind.name().to_lowercase(), listen.port());
        let command = configure(bench, kind, scenario, place, &folder(bench, &name))?;
        Ok((place, command, name))
    }

    /// Starts a prepared proxy and waits until it listens.
    pub(super) fn launch(bench: &Bench, kind: Kind, place: Place, command: &Command, name: &str) -> Result<Peer> {
        let mut process = Process::start(name, PROXY_CPU, command, &bench.logs())?;
        process.listening(place.listen)?;
        Ok(Peer { kind, process, place })
    }

    /// Runs `count` requests of `load` and returns what each cost. Void, as an error, when one failed or when Daemun did
    /// not count exactly as many.
    pub(super) fn run(&self, bench: &Bench, load: &Load, count: u64) -> Result<Sample> {
        let counted = self.counted()?;
        let before = self.process.cpu();
        let result = load.run(&bench.runner, self.place.listen, count).with_context(|| self.process.name.clone())?;
        let after = self.process.cpu();
        self.agree(counted, result)?;
        let each = 1.0 / result.completed.max(1) as f64;
        Ok(Sample {
            user: (after.user - before.user) * each,
            system: (after.system - before.system) * each,
            rate: result.completed as f64 / result.seconds.max(1e-9),
        })
    }

    /// How many exchanges Daemun has counted so far; nothing for other proxies.
    pub(super) fn counted(&self) -> Result<Option<u64>> {
        if self.kind != Kind::Daemun {
            return Ok(None);
        }
        let (status, body) = fetch(self.place.status, &get("status.example", "/metrics"))?;
        if status != 200 {
            bail!("/metrics answers {status}");
        }
        Ok(Some(sum_of(&String::from_utf8_lossy(&body), REQUESTS)))
    }

    /// Holds what Daemun counted since `before` against what the load counted.
    pub(super) fn agree(&self, before: Option<u64>, load: Count) -> Result<()> {
        let Some(before) = before else { return Ok(()) };
        let since = Instant::now();
        loop {
            let counted = self.counted()?.unwrap_or(0) - before;
            if counted == load.exchanges {
                return Ok(());
            }
            if since.elapsed() > SETTLING || counted > load.exchanges {
                bail!("the load counted {} exchanges, {REQUESTS} {counted}", load.exchanges);
            }
            shell::pause(Duration::from_millis(20));
        }
    }
}

fn folder(bench: &Bench, name: &str) -> PathBuf {
    // One folder a kind is enough: what is there belongs to a proxy that has ended, or has been read already.
    bench.folder.join("run").join(name)
}

/// The sum of all samples of the metric `name` in Prometheus' text format.
fn sum_of(text: &str, name: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.strip_prefix(name))
        .filter(|rest| rest.starts_with(['{', ' ']))
        .filter_map(|rest| rest.rsplit_once(' '))
        .filter_map(|(_, value)| value.parse::<f64>().ok())
        .sum::<f64>() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_samples_of_one_metric_are_summed() {
        let text = "# TYPE a_total counter\na_total{route=\"x y\"} 3\na_total{route=\"z\"} 4\na_total_b 100\nb 5\n";
        assert_eq!(sum_of(text, "a_total"), 7);
        assert_eq!(sum_of(text, "b"), 5);
    }
}
