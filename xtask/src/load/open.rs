//! Open-loop load: requests are due at fixed times whatever became of those before, and each latency counts from when
//! the request was due, so that a stall is seen by everyone who would have met it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustix::io::read;
use serde_json::json;

use super::Options;
use super::closed::Connection;
use super::poller::{Poller, ticker};

const TIMER: usize = usize::MAX;

/// How long nothing may happen while answers are due.
const PATIENCE: Duration = Duration::from_secs(20);

/// Sends `--rate` requests a second for `--seconds` over `--connections`, and tells the distribution of latencies in
/// microseconds.
pub(super) fn run(options: &Options) -> Result<()> {
    let rate: f64 = options.number("rate", 1_000.0)?;
    let total = (rate * options.number("seconds", 1.0)?) as usize;
    let (address, requests, expected) = (options.address()?, options.requests()?, options.number("expect", 200)?);
    let mut poller = Poller::new()?;
    let mut connections = Vec::new();
    for token in 0..options.number("connections", 64)? {
        let connection = Connection::open(address)?;
        poller.add(&connection.stream, token)?;
        connections.push((connection, Instant::now()));
    }
    let mut free: Vec<usize> = (0..connections.len()).collect();
    let (mut due, mut latencies) = (VecDeque::new(), Vec::with_capacity(total));
    let (mut scheduled, mut failed) = (0, 0_u64);
    let interval = Duration::from_secs_f64(1.0 / rate);
    let (timer, start) = (ticker(interval)?, Instant::now());
    poller.add_timer(&timer, TIMER)?;
    let (mut ready, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    while latencies.len() < total {
        poller.wait(PATIENCE, &mut ready)?;
        if ready.is_empty() {
            bail!("{} requests are not answered", scheduled - latencies.len());
        }
        for token in &ready {
            if *token == TIMER {
                read(&timer, &mut [0; 8])?;
                continue;
            }
            let Some((connection, was_due)) = connections.get_mut(*token) else { continue };
            connection.send(&requests);
            let Some(done) = connection.receive(&mut buffer) else { continue };
            if std::mem::take(&mut connection.waiting) {
                latencies.push(was_due.elapsed());
                failed += u64::from(done.is_none_or(|done| done.status != expected));
                free.push(*token);
            }
            if connection.broken {
                *connection = Connection::open(address)?;
                poller.add(&connection.stream, *token)?;
            }
        }
        while scheduled < total && start + interval.mul_f64(scheduled as f64) <= Instant::now() {
            due.push_back((scheduled, start + interval.mul_f64(scheduled as f64)));
            scheduled += 1;
        }
        while let Some((index, at)) = due.front().copied() {
            let Some(token) = free.pop() else { break };
            due.pop_front();
            let Some((connection, was_due)) = connections.get_mut(token) else { continue };
            *was_due = at;
            connection.start(&requests, index % requests.len());
        }
    }
    report(latencies, failed, start.elapsed());
    Ok(())
}

fn report(mut latencies: Vec<Duration>, failed: u64, span: Duration) {
    latencies.sort_unstable();
    let at = |quantile: f64| {
        let rank = ((latencies.len() as f64 * quantile).ceil() as usize).clamp(1, latencies.len().max(1));
        latencies.get(rank - 1).map_or(0.0, |latency| latency.as_secs_f64() * 1e6)
    };
    let [half, ninety, ninety_nine, most] = [0.5, 0.9, 0.99, 1.0].map(at);
    println!(
        "{}",
        json!({
            "completed": latencies.len(), "failed": failed, "seconds": span.as_secs_f64(),
            "p50": half, "p90": ninety, "p99": ninety_nine, "max": most,
        })
    );
}
