//! What is answered of an upstream that can work on 32 calls at once, becomes ten times slower, and is then offered twice what it can do.

use anyhow::{Context, Result};
use serde_json::Value;

use super::super::Bench;
use super::super::loads::{Count, get, json_of, own, write_requests};
use super::super::peer::Peer;
use super::super::process::{LOAD_CPU, Process, free_addresses};
use super::super::scenario::{Kind, Scenario};
use super::super::table::Line;

/// Calls the origin works on at once.
const SLOTS: usize = 32;
/// Calls offered a second, whatever becomes of them.
const OFFERED: u64 = 640;
/// Clients' connections: more than calls can be in flight or wait.
const CLIENTS: usize = 1_024;
/// How long the origin works on a call, in milliseconds: half of what it can do is offered four times over, then twice all of it.
const WORK: [u64; 2] = [10, 100];
const SECONDS: u64 = 20;
/// Of what the origin can do, this must be answered.
const LEAST: f64 = 0.9;
/// Mebibytes of memory that may come to be used while it is overloaded.
const GROWTH: f64 = 4.0;

pub(super) fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let [origin] = free_addresses()?;
    let mut command = own(&bench.runner, "slots", origin);
    command.args(["--slots", &SLOTS.to_string()]);
    let mut slots = Process::start("slots", LOAD_CPU, &command, &bench.logs())?;
    slots.listening(origin)?;
    let peer = Peer::start_before(bench, Kind::Daemun, Scenario { adaptive: true, ..Scenario::default() }, origin)?;
    let seconds = if bench.quick { 5 } else { SECONDS };
    let mut answered = Vec::new();
    let mut memory = Vec::new();
    for work in WORK {
        answered.push(offer(bench, &peer, work, seconds)?);
        memory.push(peer.process.memory("Rss")? / 1024.0);
    }
    // as long again: what grows shows
    let again = offer(bench, &peer, WORK[1], seconds)?;
    let grown = peer.process.memory("Rss")? / 1024.0 - memory.last().copied().unwrap_or(0.0);
    let can = SLOTS as f64 * 1e3 / WORK[1] as f64;
    let least = answered.last().copied().unwrap_or(0.0).min(again);
    let first = answered.first().copied().unwrap_or(0.0);
    let share = least / can;
    let mut goodput = Line {
        what: format!(
            "answered by {SLOTS} slots of {} ms (before: {} ms, {first:.0}/s), offered {OFFERED}/s, {seconds} s",
            WORK[1], WORK[0]
        ),
        unit: "/s",
        figure: format!("**{share:.2}** ({least:.0} of {can:.0})"),
        against: "what the slots can do".to_owned(),
        target: Some((format!("≥ {LEAST:.2}"), share >= LEAST)),
        ..Line::default()
    };
    goodput.cell(Kind::Daemun, format!("{least:.0}"));
    let mut flat = Line {
        what: format!("resident set, growth over {seconds} s of that"),
        unit: "MiB",
        figure: format!("**{grown:.1}**"),
        against: "Daemun".to_owned(),
        ..Line::default()
    };
    flat.cell(Kind::Daemun, format!("{grown:.1}"));
    flat.at_most(grown, Some((GROWTH, format!("{GROWTH:.0}"))));
    Ok(vec![goodput, flat])
}

/// Offers calls that are worked on for so many milliseconds; how many a second were answered.
fn offer(bench: &Bench, peer: &Peer, work: u64, seconds: u64) -> Result<f64> {
    let requests = bench.folder.join(format!("work-{work}.requests"));
    write_requests(&requests, &[get("bench.example", &format!("/calls/{work}"))])?;
    let counted = peer.counted()?;
    let mut command = own(&bench.runner, "open", peer.place.listen);
    command.arg("--requests").arg(&requests).args(["--connections", &CLIENTS.to_string()]);
    command.args(["--rate", &OFFERED.to_string(), "--seconds", &seconds.to_string()]);
    let result = json_of(&mut command)?;
    let number = |key: &str| result.get(key).and_then(Value::as_f64).with_context(|| format!("no {key}: {result}"));
    let (completed, failed, span) = (number("completed")?, number("failed")?, number("seconds")?);
    let exchanges = completed as u64;
    peer.agree(counted, Count { completed: exchanges, exchanges, seconds: span })?;
    eprintln!("   {work} ms: {result}");
    Ok((completed - failed) / span)
}
