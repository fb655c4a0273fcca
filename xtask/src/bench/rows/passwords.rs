//! What others notice of a flood of wrong passwords: their median latency with it and without, on the same gateway.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::super::Bench;
use super::super::loads::{get, json_of, own, request, write_requests};
use super::super::process::{Process, free_addresses};
use super::super::stats::{Spread, median};
use super::super::table::Line;

/// Pairs of runs, one with a flood and one without.
const PAIRS: usize = 10;
/// Calls a second of the others.
pub(super) const RATE: f64 = 1_000.0;
/// Guesses that are under way at once.
const GUESSERS: usize = 32;
/// Names and addresses they come from, so that slowing down guesses does not end the flood.
const NAMES: usize = 50_000;

const MOST: f64 = 1.25;

/// The password of the one user there is; nobody guesses it.
const HASH: &str = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";

pub(super) fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let [listen] = free_addresses()?;
    let file = bench.folder.join("passwords.yaml");
    let text = format!(
        "workers: 1\naccess_log: off\nlisteners: [{{ bind: \"{listen}\" }}]\ntrusted_proxies: [127.0.0.0/8]\nstore: memory\n\
         tokens: {{ bench: {{ grants: [password] }} }}\nusers: [{{ name: alice, password: \"{HASH}\" }}]\n\
         upstreams: {{ origin: {{ targets: [\"http://{}\"] }} }}\nroutes:\n  \
         - {{ name: login, match: {{ path: /auth }}, tokens: bench }}\n  \
         - {{ name: plain, match: {{ prefix: /items }}, upstream: origin }}\n",
        bench.origin
    );
    let _running = Process::daemun(bench, "passwords", (&file, &text), listen)?;

    let plain = plain(&bench.folder)?;
    let guesses = guesses(bench)?;

    let seconds = if bench.quick { 2.0 } else { 5.0 };
    let others = || latencies(bench, listen, &plain, seconds);
    others()?;
    let (mut halves, mut tails, mut made) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        let quiet = others()?;
        let mut command = own(&bench.runner, "closed", listen);
        command.arg("--requests").arg(&guesses);
        command.args(["--connections", &GUESSERS.to_string(), "--expect", "0", "--until", "stdin-ends"]);
        let mut flood = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let flooded = others();
        drop(flood.stdin.take());
        let said = flood.wait_with_output()?;
        let flooded = flooded?;
        let told: Value = serde_json::from_slice(&said.stdout).context("the flood ended early")?;
        let checked = told.pointer("/statuses/400").and_then(Value::as_f64).unwrap_or(0.0);
        if checked < 1.0 {
            bail!("no password was checked: {told}");
        }
        made.push(checked / told.get("seconds").and_then(Value::as_f64).context("no seconds")?);
        halves.push(flooded.0 / quiet.0);
        tails.push(flooded.1 / quiet.1);
        eprintln!(
            "   median {:.0} and {:.0} µs, p99 {:.0} and {:.0} µs: {told}",
            quiet.0, flooded.0, quiet.1, flooded.1
        );
    }
    let rate = median(&made).unwrap_or(0.0);
    let what =
        |of: &str| format!("{of} of {RATE:.0} calls/s beside a flood of wrong passwords ({rate:.0}/s are checked)");
    let mut half = Line { what: what("median latency"), unit: "ratio", ..Line::default() };
    half.ratio(Spread::of(&halves).context("no pair")?, "without", Some(MOST));
    let mut tail = Line { what: what("p99"), unit: "ratio", ..Line::default() };
    tail.ratio(Spread::of(&tails).context("no pair")?, "without", None);
    Ok(vec![half, tail])
}

/// The calls of the others, in a file of a folder.
pub(super) fn plain(folder: &Path) -> Result<PathBuf> {
    let plain = folder.join("plain.requests");
    write_requests(&plain, &[get("bench.example", "/items/4711")])?;
    Ok(plain)
}

/// Median and 99th percentile, microseconds, of the requests of a file at [`RATE`] for so many seconds, all of which must succeed.
pub(super) fn latencies(bench: &Bench, listen: SocketAddr, requests: &Path, seconds: f64) -> Result<(f64, f64)> {
    let mut command = own(&bench.runner, "open", listen);
    command.arg("--requests").arg(requests);
    command.args(["--rate", &RATE.to_string(), "--seconds", &seconds.to_string()]);
    let told = json_of(&mut command)?;
    if told.get("failed").and_then(Value::as_u64) != Some(0) {
        bail!("others' calls failed: {told}");
    }
    let at = |key: &str| told.get(key).and_then(Value::as_f64).with_context(|| format!("no {key}"));
    Ok((at("p50")?, at("p99")?))
}

/// Guesses, each of another user and from another address.
fn guesses(bench: &Bench) -> Result<PathBuf> {
    let file = bench.folder.join("guesses.requests");
    let guess = |n: usize| {
        let body = format!("grant_type=password&username=guess-{n}&password=wrong-{n}");
        let fields = format!(
            "Content-Type: application/x-www-form-urlencoded\r\nX-Forwarded-For: 10.{}.{}.{}\r\n",
            n >> 16,
            n >> 8 & 255,
            n & 255
        );
        request("POST", "bench.example", "/auth", &fields, body.as_bytes())
    };
    write_requests(&file, &(0..NAMES).map(guess).collect::<Vec<_>>())?;
    Ok(file)
}
