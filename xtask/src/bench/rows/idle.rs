//! What a feature costs that is configured and has nothing to do: user instructions per request of the shipped program, counted under
//! callgrind, as a ratio to a configuration without it.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::super::Bench;
use super::super::loads::{Load, get, write_requests};
use super::super::process::{PROXY_CPU, Process, free_addresses};
use super::super::stats::{Spread, median};
use super::super::table::Line;
use crate::shell;

/// The lengths of the runs that are subtracted, so that start and end cost nothing.
const LENGTHS: (u64, u64) = (2_000, 10_000);

/// Connections of the load: few, for under callgrind each request takes its time.
pub(super) const CONNECTIONS: usize = 8;

const MOST: f64 = 1.01;

/// A feature, and the lines that configure it: at the top, in the upstream, in the route.
pub(super) struct Feature {
    name: &'static str,
    top: &'static str,
    upstream: &'static str,
    route: &'static str,
    /// What the ratio must not exceed.
    most: f64,
}

pub(super) const fn feature(name: &'static str) -> Feature {
    Feature { name, top: "", upstream: "", route: "", most: MOST }
}

impl Feature {
    const fn top(self, top: &'static str) -> Feature {
        Feature { top, ..self }
    }

    const fn upstream(self, upstream: &'static str) -> Feature {
        Feature { upstream, ..self }
    }

    pub(super) const fn route(self, route: &'static str) -> Feature {
        Feature { route, ..self }
    }

    const fn most(self, most: f64) -> Feature {
        Feature { most, ..self }
    }
}

const FEATURES: &[Feature] = &[
    feature("least requests").upstream("balance: least_requests"),
    feature("the lowest latency").upstream("balance: latency"),
    feature("consistent hashing").upstream("balance: { hash: { header: x-user } }"),
    feature("health checks").upstream("health: { path: /, interval: 1h }"),
    feature("ejection of outliers").upstream("outliers: {}"),
    feature("a slow start").upstream("slow_start: 30s"),
    feature("a breaker").upstream("breaker: { failure_ratio: 50% }"),
    feature("retries").upstream("retry: { retries: 2 }"),
    feature("hedged calls").upstream("hedge: { after: 1s }"),
    feature("a fallback").upstream("fallback: { answer: { body: sorry } }"),
    feature("a mirror of no call")
        .top("shadow: { targets: [\"http://127.0.0.1:1\"] }")
        .route("mirror: { upstream: shadow, share: 0% }"),
    feature("bounds on calls").upstream("limits: { requests: 1000, queue: 100 }"),
    feature("adaptive concurrency").upstream("concurrency: adaptive"),
    feature("importance").route("importance: high"),
    feature("the PROXY protocol from others").top("PROXY"),
    feature("a body limit").route("policies: { body_limit: { max: 1MiB } }"),
    feature("compression of another kind").route("policies: { compress: { types: [text/css] } }"),
    feature("a filter of programs").route("policies: { bot_filter: { deny: [badbot] } }"),
    feature("a canonical host").route("policies: { canonical_host: { host: bench.example } }"),
    feature("1,000 networks").route("NETWORKS"),
    feature("a transformation of bodies")
        .route("policies: { transform: { request: [{ set: { body.a: b } }], on_other_body: pass } }"),
    feature("faults in no call").route("policies: { fault_injection: { abort: { status: 503, share: 0% } } }"),
    feature("a condition in CEL, one comparison that is made").route("WHEN").most(1.03),
];

pub(super) fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let valgrind = shell::need("valgrind")?;
    let requests = bench.folder.join("plain.requests");
    write_requests(&requests, &[get("bench.example", "/items/4711")])?;
    let load = Load::Closed { requests, connections: CONNECTIONS };
    let plain = || per_request(bench, &valgrind, &load, &feature("plain"));
    let (first, mut lines) = (plain()?, Vec::new());
    for feature in FEATURES {
        let counts = [per_request(bench, &valgrind, &load, feature)?, per_request(bench, &valgrind, &load, feature)?];
        let ratios = counts.map(|count| count / first);
        eprintln!("   {}: {:.0} of {first:.0} instructions", feature.name, counts[0]);
        let spread = Spread::of(&ratios).context("no count")?;
        let what = format!("with {}", feature.name);
        let mut line = Line { what, unit: "instructions", ..Line::default() };
        line.against = "plain proxying".to_owned();
        line.target = Some((format!("≤ {:.2}", feature.most), spread.median <= feature.most));
        line.figure = format!("**{:.3}** ({:.3}–{:.3})", spread.median, spread.low, spread.high);
        lines.push(line);
    }
    // what the same configuration differs by from run to run is what a ratio may be off
    let again = [plain()?, plain()?].map(|count| count / first);
    eprintln!("   plain again: {:.4}, {:.4}", again[0], again[1]);
    if median(&again).is_none_or(|again| (again - 1.0).abs() > 0.005) {
        bail!("counts of the same configuration differ by more than half of a per cent: {again:?}");
    }
    Ok(lines)
}

pub(super) fn per_request(bench: &Bench, valgrind: &Path, load: &Load, feature: &Feature) -> Result<f64> {
    let [short, long] = [LENGTHS.0, LENGTHS.1].map(|count| collected(bench, valgrind, load, feature, count));
    let (short, long) = (short?, long?);
    Ok(long.saturating_sub(short) as f64 / (LENGTHS.1 - LENGTHS.0) as f64)
}

/// Instructions of the worker in a whole run of `count` requests.
fn collected(bench: &Bench, valgrind: &Path, load: &Load, feature: &Feature, count: u64) -> Result<u64> {
    let [listen] = free_addresses()?;
    let file = bench.folder.join("idle.yaml");
    let Feature { top, upstream, route, .. } = feature;
    let (top_upstreams, top) = if top.starts_with("shadow") { (*top, "") } else { ("", *top) };
    let networks: Vec<String> = (0..1_000).map(|n| format!("10.{}.{}.0/26", n / 250, n % 250)).collect();
    let route = route.replace("NETWORKS", &format!("policies: {{ ip_filter: {{ deny: [{}] }} }}", networks.join(", ")));
    let (route, when) = match route.as_str() {
        "WHEN" => (String::new(), ", when: 'request.method == \"GET\"'"),
        _ => (route, ""),
    };
    let (top, listener) = match top {
        "PROXY" => ("", ", proxy_protocol: { from: [10.0.0.0/8], others: serve }"),
        other => (other, ""),
    };
    let comma = |text: &str| if text.is_empty() { String::new() } else { format!(", {text}") };
    let text = format!(
        "workers: 1\nlisteners: [{{ bind: \"{listen}\"{listener} }}]\naccess_log: off\n{top}\nupstreams:\n  origin: {{ targets: \
         [\"http://{}\"]{} }}\n  {top_upstreams}\nroutes:\n  - {{ name: everything, match: {{ prefix: /{when} }}, upstream: origin{} }}\n",
        bench.origin,
        comma(upstream),
        comma(&route),
    );
    std::fs::write(&file, text)?;
    let mut command = Command::new(valgrind);
    let counts = bench.folder.join("idle-counts");
    std::fs::create_dir_all(&counts)?;
    for old in std::fs::read_dir(&counts)? {
        std::fs::remove_file(old?.path())?;
    }
    let out = format!("--callgrind-out-file={}/thread", counts.display());
    command
        .args(["--tool=callgrind", "--separate-threads=yes", &out])
        .arg(&bench.daemun)
        .args(["run", "-c"])
        .arg(&file);
    let mut process = Process::start("idle", PROXY_CPU, &command, &bench.logs())?;
    process.listening(listen)?;
    load.run(&bench.runner, listen, count)?;
    process.signal(Signal::TERM)?;
    let since = Instant::now();
    loop {
        let said = process.said()?;
        if said.contains("Collected :") {
            return busiest(&counts).with_context(|| format!("callgrind said: {said}"));
        }
        if since.elapsed() > Duration::from_secs(60) {
            bail!("{}: callgrind does not end: {said}", feature.name);
        }
        shell::pause(Duration::from_millis(20));
    }
}

/// The count of the busiest thread, of files that callgrind wrote. Others do what depends on how long the run takes, not on its requests;
/// the first thread's reading of the configuration is in no other.
fn busiest(counts: &Path) -> Result<u64> {
    let mut most = None;
    for file in std::fs::read_dir(counts)? {
        let path = file?.path();
        if path.to_string_lossy().ends_with("-01") {
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        let total =
            text.lines().find_map(|line| line.strip_prefix("totals: ").or_else(|| line.strip_prefix("summary: ")));
        let total = total.and_then(|total| total.trim().parse::<u64>().ok());
        most = most.max(total);
    }
    most.context("no thread's count was written")
}
