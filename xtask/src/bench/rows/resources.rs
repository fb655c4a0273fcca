//! What a proxy takes beside processor time: memory at start and per idle connection, time to the first answer, system
//! calls per request.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::super::Bench;
use super::super::loads::{Load, get, own, write_requests};
use super::super::peer::Peer;
use super::super::process::{LOAD_CPU, PROXY_CPU, Process};
use super::super::scenario::{Kind, Scenario};
use super::super::stats::Spread;
use super::super::table::Line;
use crate::shell;

/// Numbers of idle connections between which the slope is taken.
const IDLE: (usize, usize) = (1_000, 8_000);

/// Requests between which the slope of system calls is taken.
const CALLS: (u64, u64) = (500, 2_500);

fn kinds(bench: &Bench) -> impl Iterator<Item = Kind> {
    Kind::ALL.into_iter().filter(|kind| *kind != Kind::Envoy || bench.envoy.is_some())
}

/// A figure that stands for itself: Daemun's spread, the medians of the others, and what must be reached.
fn line(what: &str, unit: &'static str, digits: usize, most: f64, values: &[(Kind, Vec<f64>)]) -> Result<Line> {
    let mut line = Line { what: what.to_owned(), unit, ..Line::default() };
    for (kind, values) in values {
        let spread = Spread::of(values).context("no value")?;
        line.cell(*kind, format!("{:.digits$}", spread.median));
        if *kind == Kind::Daemun {
            line.figure = format!("**{:.digits$}** ({:.digits$}–{:.digits$})", spread.median, spread.low, spread.high);
            line.against = "Daemun".to_owned();
            line.at_most(spread.median, Some((most, most.to_string())));
        }
    }
    Ok(line)
}

pub(super) fn memory_and_start(bench: &Bench) -> Result<Vec<Line>> {
    let request = get("bench.example", "/items/4711");
    let requests = bench.folder.join("plain.requests");
    write_requests(&requests, std::slice::from_ref(&request))?;
    let (mut starts, mut resident, mut idle) = (Vec::new(), Vec::new(), Vec::new());
    for kind in kinds(bench) {
        starts.push((kind, Vec::new()));
        resident.push((kind, Vec::new()));
        idle.push((kind, Vec::new()));
    }
    for round in 0..bench.rounds() {
        for (index, kind) in kinds(bench).enumerate() {
            let (place, command, name) = Peer::prepare(bench, kind, Scenario::default(), bench.origin)?;
            let since = Instant::now();
            let mut process = Process::start(&name, PROXY_CPU, &command, &bench.logs())?;
            let started = process.first_answer(place.listen, &request, since)?;
            push(&mut starts, index, started.as_secs_f64() * 1e3);
            push(&mut resident, index, process.memory("Rss")? / 1024.0);
            if round < 3 {
                let peer = Peer { kind, process, place };
                push(&mut idle, index, idle_slope(bench, &peer, &requests)?);
            }
        }
    }
    Ok(vec![
        line("resident set after the first answer (nginx: both processes)", "MiB", 1, 15.0, &resident)?,
        line("from start to the first answer", "ms", 0, 100.0, &starts)?,
        line("user memory per idle connection (PSS, 1,000 → 8,000)", "KiB", 2, 2.0, &idle)?,
    ])
}

fn push(values: &mut [(Kind, Vec<f64>)], index: usize, value: f64) {
    if let Some((_, values)) = values.get_mut(index) {
        values.push(value);
    }
}

/// What is counted once the first answer is: its reader may be ahead of its record.
fn counted_first(peer: &Peer) -> Result<Option<u64>> {
    let since = Instant::now();
    loop {
        match peer.counted()? {
            Some(0) if since.elapsed() < Duration::from_secs(10) => shell::pause(Duration::from_millis(5)),
            counted => return Ok(counted),
        }
    }
}

/// Kibibytes per connection between the two numbers of [`IDLE`].
fn idle_slope(bench: &Bench, peer: &Peer, requests: &Path) -> Result<f64> {
    let counted = counted_first(peer)?;
    let mut command = own(&bench.runner, "idle", peer.place.listen);
    let mut child = command.arg("--requests").arg(requests).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (Some(mut orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else { bail!("no pipes") };
    let mut answers = BufReader::new(answers);
    let mut at = |wanted: usize| -> Result<f64> {
        writeln!(orders, "{wanted}")?;
        let mut answer = String::new();
        answers.read_line(&mut answer)?;
        if answer.trim() != wanted.to_string() {
            bail!("{} does not hold {wanted} connections", peer.process.name);
        }
        peer.process.memory("Pss")
    };
    let measured = at(IDLE.0).and_then(|few| Ok((few, at(IDLE.1)?)));
    drop(orders);
    child.wait()?;
    let (few, many) = measured?;
    let exchanges = IDLE.1 as u64;
    peer.agree(counted, super::super::loads::Count { completed: exchanges, exchanges, seconds: 0.0 })?;
    Ok((many - few) / (IDLE.1 - IDLE.0) as f64)
}

pub(super) fn system_calls(bench: &Bench) -> Result<Vec<Line>> {
    let requests = bench.folder.join("plain.requests");
    write_requests(&requests, &[get("bench.example", "/items/4711")])?;
    let load = Load::Closed { requests, connections: 1 };
    let mut values = Vec::new();
    for kind in kinds(bench) {
        let peer = Peer::start(bench, kind, Scenario::default())?;
        peer.run(bench, &load, 100)?;
        let mut rounds = Vec::new();
        for _ in 0..3 {
            let (few, many) = (traced(bench, &peer, &load, CALLS.0)?, traced(bench, &peer, &load, CALLS.1)?);
            rounds.push((many - few) / (CALLS.1 - CALLS.0) as f64);
        }
        values.push((kind, rounds));
    }
    Ok(vec![line("system calls per request, one connection", "calls", 2, 6.5, &values)?])
}

/// The system calls of all of `peer`'s threads while `count` requests are made.
fn traced(bench: &Bench, peer: &Peer, load: &Load, count: u64) -> Result<f64> {
    let report = bench.folder.join("strace.txt");
    let family = peer.process.family();
    let mut command = Command::new("taskset");
    command.args(["-c", &LOAD_CPU.to_string()]).arg(shell::need("strace")?).args(["-c", "-f", "-o"]).arg(&report);
    for id in &family {
        command.args(["-p", &id.to_string()]);
    }
    let mut strace = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let since = Instant::now();
    while !family.iter().all(|id| is_traced(*id)) {
        if strace.try_wait()?.is_some() || since.elapsed() > Duration::from_secs(10) {
            bail!("strace cannot follow {}", peer.process.name);
        }
        shell::pause(Duration::from_millis(5));
    }
    let run = peer.run(bench, load, count);
    if let Some(id) = Pid::from_raw(i32::try_from(strace.id())?) {
        kill_process(id, Signal::INT)?;
    }
    strace.wait()?;
    run?;
    let text = std::fs::read_to_string(&report)?;
    total_calls(&text).with_context(|| format!("strace reported: {text}"))
}

/// Whether every thread of process `id` has a tracer.
fn is_traced(id: u32) -> bool {
    let Ok(threads) = Path::new(&format!("/proc/{id}/task")).read_dir() else { return false };
    threads.flatten().all(|thread| {
        let status = std::fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|tracer| tracer.trim() != "0"))
    })
}

/// The calls in the last line of `strace -c`: share, seconds, microseconds a call, calls, perhaps errors, `total`.
fn total_calls(report: &str) -> Option<f64> {
    let line = report.lines().rev().find(|line| line.trim_end().ends_with(" total"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_total_of_a_trace_is_read() {
        let report = "% time     seconds  usecs/call     calls    errors syscall\n\
            ------ ----------- ----------- --------- --------- ----------------\n\
             60.00    0.000600           1       600       100 read\n\
            100.00    0.001000           1      1000       100 total\n";
        assert_eq!(super::total_calls(report), Some(1000.0));
    }
}
