//! What callers notice of a target that is killed, that hangs, or that answers 500, while the others are well: an open loop at half of what
//! the machine can carry, and one of three targets at fault.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::super::Bench;
use super::super::loads::{CONNECTIONS, Load, get, json_of, own, write_requests};
use super::super::peer::Peer;
use super::super::process::{LOAD_CPU, Process, free_addresses};
use super::super::scenario::{Kind, Place, failing_origin, origin};
use super::super::table::Line;
use crate::load::response::fetch;
use crate::shell;

const TARGETS: usize = 3;

/// How long a fault lasts, seconds; what arrives in it is counted.
const FAULT: u64 = 10;
/// After this a target that hangs must be known, seconds.
const NOTICED: u64 = 3;
/// After this the shares must be even again, seconds, and for so long they are counted.
const RECOVERED: u64 = 10;
const COUNTED: u64 = 5;

/// Calls that may fail among those that arrived during the fault.
const FAILED_MOST: f64 = 0.001;
/// Calls a second that may go to a target that hangs.
const HUNG_MOST: f64 = 2.0;
/// How far a share may be from even.
const UNEVEN_MOST: f64 = 0.10;

/// How the first target errs.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    Killed,
    Hung,
    Failing,
}

pub(super) fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let requests = bench.folder.join("plain.requests");
    write_requests(&requests, &[get("bench.example", "/items/4711")])?;
    let targets = free_addresses::<TARGETS>()?;
    let [listen, status] = free_addresses()?;
    let place = Place { listen, status, origin: bench.origin };
    let file = bench.folder.join("faults.yaml");
    std::fs::write(&file, configuration(place, &targets))?;
    let mut command = Command::new(&bench.daemun);
    command.args(["run", "-c"]).arg(&file);
    let mut farm = Farm { bench, targets, running: BTreeMap::new() };
    for at in 0..TARGETS {
        farm.start(at, false)?;
    }
    let peer = Peer::launch(bench, Kind::Daemun, place, &command, "faults")?;
    let closed = Load::Closed { requests: requests.clone(), connections: CONNECTIONS };
    let rate = (peer.run(bench, &closed, bench.count(100_000))?.rate * 0.5).floor();
    let mut lines = Vec::new();
    for (fault, what) in
        [(Fault::Killed, "killed"), (Fault::Hung, "hung (`SIGSTOP`)"), (Fault::Failing, "answering 500")]
    {
        lines.extend(one(&mut farm, &peer, &requests, rate, fault, what)?);
    }
    Ok(lines)
}

fn configuration(place: Place, targets: &[SocketAddr]) -> String {
    let targets: Vec<String> = targets.iter().map(|target| format!("\"http://{target}\"")).collect();
    format!(
        "workers: 1\nlisteners: [{{ bind: \"{}\" }}]\nstatus: {{ bind: \"{}\" }}\naccess_log: off\nupstreams:\n  origin:\n    \
         targets: [{}]\n    balance: least_requests\n    timeouts: {{ connect: 250ms, response: 1s }}\n    \
         health: {{ path: /items/1, interval: 1s, timeout: 500ms, unhealthy_after: 2, healthy_after: 2 }}\n    \
         outliers: {{ consecutive_failures: 5, slower_than: 250ms, eject_for: 2s }}\n    \
         retry: {{ retries: 2, on: [connect_failure, reset, timeout, \"500\"], budget: 50% }}\nroutes:\n  \
         - {{ name: everything, match: {{ prefix: / }}, upstream: origin }}\n",
        place.listen,
        place.status,
        targets.join(", ")
    )
}

/// The targets.
struct Farm<'a> {
    bench: &'a Bench,
    targets: [SocketAddr; TARGETS],
    running: BTreeMap<usize, Process>,
}

impl Farm<'_> {
    fn start(&mut self, at: usize, failing: bool) -> Result<()> {
        // the port is free once its process has ended
        self.running.remove(&at);
        let address = *self.targets.get(at).context("no such target")?;
        let folder = self.bench.folder.join(format!("target-{at}"));
        let command = if failing { failing_origin(address, &folder)? } else { origin(address, &folder)? };
        let mut process = Process::start(&format!("target-{at}"), LOAD_CPU, &command, &self.bench.logs())?;
        process.listening(address)?;
        self.running.insert(at, process);
        Ok(())
    }

    fn signal(&self, at: usize, signal: Signal) -> Result<()> {
        for id in self.running.get(&at).context("no such target")?.family() {
            if let Some(id) = i32::try_from(id).ok().and_then(Pid::from_raw) {
                kill_process(id, signal)?;
            }
        }
        Ok(())
    }

    fn begin(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::Killed => self.signal(0, Signal::KILL),
            Fault::Hung => self.signal(0, Signal::STOP),
            Fault::Failing => self.start(0, true),
        }
    }

    fn end(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::Hung => self.signal(0, Signal::CONT),
            Fault::Killed | Fault::Failing => self.start(0, false),
        }
    }
}

fn one(farm: &mut Farm<'_>, peer: &Peer, requests: &PathBuf, rate: f64, fault: Fault, what: &str) -> Result<Vec<Line>> {
    let bench = farm.bench;
    let load = |seconds: u64| open(bench, peer.place.listen, requests, rate, seconds);
    load(2)?;
    farm.begin(fault)?;
    let target = *farm.targets.first().context("no target")?;
    let (during, hung) = std::thread::scope(|scope| -> Result<((u64, u64), f64)> {
        let running = scope.spawn(|| load(FAULT));
        shell::pause(Duration::from_secs(NOTICED + 1));
        let before = calls(peer, target)?;
        shell::pause(Duration::from_secs(FAULT - NOTICED - 2));
        let hung = (calls(peer, target)? - before) as f64 / (FAULT - NOTICED - 2) as f64;
        let during = running.join().map_err(|_| anyhow::anyhow!("the load panicked"))??;
        Ok((during, hung))
    })?;
    farm.end(fault)?;
    load(RECOVERED)?;
    let before = farm.targets.map(|target| calls(peer, target));
    load(COUNTED)?;
    let mut shares = Vec::new();
    for (target, before) in farm.targets.into_iter().zip(before) {
        shares.push((calls(peer, target)? - before?) as f64);
    }
    let even = shares.iter().sum::<f64>() / TARGETS as f64;
    let uneven = shares.iter().map(|share| (share / even - 1.0).abs()).fold(0.0, f64::max);
    let (completed, failed) = during;
    let line = |figure: &str, value: f64, most: f64, digits: usize, unit: &'static str| {
        let what = format!("one of three targets {what}, {rate:.0} calls/s: {figure}");
        let mut line = Line { what, unit, ..Line::default() };
        line.figure = format!("**{value:.digits$}**");
        line.target = Some((format!("≤ {most:.digits$}"), value <= most));
        line
    };
    let percent = failed as f64 / completed.max(1) as f64 * 100.0;
    let mut lines = vec![line(&format!("{failed} of {completed} failed"), percent, FAILED_MOST * 100.0, 3, "%")];
    if fault == Fault::Hung {
        lines.push(line("calls to it after 3 s", hung, HUNG_MOST, 1, "a second"));
    }
    lines.push(line("shares 10 s after recovery, from even", uneven * 100.0, UNEVEN_MOST * 100.0, 1, "%"));
    Ok(lines)
}

/// How many calls were made, and how many of them failed.
fn open(bench: &Bench, address: SocketAddr, requests: &PathBuf, rate: f64, seconds: u64) -> Result<(u64, u64)> {
    let mut command = own(&bench.runner, "open", address);
    command.arg("--requests").arg(requests).args(["--rate", &rate.to_string(), "--seconds", &seconds.to_string()]);
    // enough that a call does not wait for one that hangs
    command.args(["--connections", "2048"]);
    let result = json_of(&mut command)?;
    let number = |key: &str| result.get(key).and_then(Value::as_u64).with_context(|| format!("no `{key}`"));
    Ok((number("completed")?, number("failed")?))
}

/// Calls that were made to a target and have ended, whatever came of them.
fn calls(peer: &Peer, target: SocketAddr) -> Result<u64> {
    let (status, body) = fetch(peer.place.status, &get("status.example", "/metrics"))?;
    if status != 200 {
        bail!("/metrics answers {status}");
    }
    let label = format!("target=\"http://{target}\"");
    let text = String::from_utf8_lossy(&body).into_owned();
    let lines =
        text.lines().filter(|line| line.starts_with("daemun_upstream_requests_total{") && line.contains(&label));
    Ok(lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum::<f64>() as u64)
}
