//! How much later the slowest hundredth of answers comes than through nginx, at half of what the machine can carry.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::super::Bench;
use super::super::loads::{CONNECTIONS, Count, Load, get, json_of, own, write_requests};
use super::super::peer::Peer;
use super::super::scenario::{Kind, Scenario};
use super::super::stats::{Spread, median, upper_bound_of_median};
use super::super::table::Line;

const PAIRS: usize = 20;
const SECONDS: u64 = 10;

/// Below half, so that what is called half load never exceeds it.
const SHARE: f64 = 0.45;

const MOST: f64 = 1.25;

pub(super) fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let requests = bench.folder.join("plain.requests");
    write_requests(&requests, &[get("bench.example", "/items/4711")])?;
    let daemun = Peer::start(bench, Kind::Daemun, Scenario::default())?;
    let nginx = Peer::start(bench, Kind::Nginx, Scenario::default())?;
    let closed = Load::Closed { requests: requests.clone(), connections: CONNECTIONS };
    let capacity = [&daemun, &nginx]
        .into_iter()
        .map(|peer| Ok(peer.run(bench, &closed, bench.count(60_000))?.rate))
        .collect::<Result<Vec<f64>>>()?;
    let rate = (capacity.into_iter().fold(f64::INFINITY, f64::min) * SHARE).floor();
    let seconds = if bench.quick { 1 } else { SECONDS };
    let (mut own, mut theirs, mut direct) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        let p99 = |peer: &Peer| through(bench, peer, &requests, rate, seconds);
        if pair % 2 == 0 {
            own.push(p99(&daemun)?);
            theirs.push(p99(&nginx)?);
        } else {
            theirs.push(p99(&nginx)?);
            own.push(p99(&daemun)?);
        }
        direct.push(open(bench, bench.origin, &requests, rate, seconds)?.0);
    }
    let ratios: Vec<f64> = own.iter().zip(&theirs).map(|(own, theirs)| own / theirs).collect();
    let spread = Spread::of(&ratios).context("no pair")?;
    let bound = upper_bound_of_median(&ratios).context("too few pairs")?;
    let [own, theirs, direct] = [&own, &theirs, &direct].map(|values| median(values).unwrap_or(0.0));
    let what =
        format!("p99 at half load ({rate:.0}/s; straight to the origin {direct:.0}), {PAIRS} pairs of {seconds} s");
    let mut line = Line { what, unit: "µs", ..Line::default() };
    line.cell(Kind::Daemun, format!("{own:.0}"));
    line.cell(Kind::Nginx, format!("{theirs:.0}"));
    line.figure = format!("**{bound:.2}** (median {:.2}, {:.2}–{:.2})", spread.median, spread.low, spread.high);
    line.against = "nginx; 95 % bound of the median".to_owned();
    line.at_most(bound, Some((MOST, format!("{MOST:.2}"))));
    Ok(vec![line])
}

fn through(bench: &Bench, peer: &Peer, requests: &Path, rate: f64, seconds: u64) -> Result<f64> {
    let counted = peer.counted()?;
    let (p99, completed) = open(bench, peer.place.listen, requests, rate, seconds)?;
    peer.agree(counted, Count { completed, exchanges: completed, seconds: seconds as f64 })?;
    Ok(p99)
}

/// The p99 in microseconds, and how many requests were made.
fn open(bench: &Bench, address: SocketAddr, requests: &Path, rate: f64, seconds: u64) -> Result<(f64, u64)> {
    let mut command = own(&bench.runner, "open", address);
    command.arg("--requests").arg(requests).args(["--rate", &rate.to_string(), "--seconds", &seconds.to_string()]);
    let result = json_of(&mut command)?;
    if result.get("failed").and_then(Value::as_u64) != Some(0) {
        bail!("requests failed: {result}");
    }
    let p99 = result.get("p99").and_then(Value::as_f64).context("no p99")?;
    Ok((p99, result.get("completed").and_then(Value::as_u64).context("no count")?))
}
