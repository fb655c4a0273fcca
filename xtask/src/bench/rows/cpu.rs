//! Rows that are processor time per request of each proxy, and Daemun's ratio to one of them.

use anyhow::{Context, Result};

use super::super::Bench;
use super::super::loads::{CONNECTIONS, Load, get, own, request, write_requests};
use super::super::peer::{Peer, Sample};
use super::super::process::{LOAD_CPU, Process, free_addresses};
use super::super::scenario::{CONSUMERS, Key, Kind, Scenario, key};
use super::super::signer::Signer;
use super::super::stats::{Numbers, Spread, median};
use super::super::table::Line;

/// A row to measure.
struct Measure {
    what: &'static str,
    scenario: Scenario,
    load: Load,
    /// Requests of a run.
    count: u64,
    /// What Daemun's time is divided by.
    against: Against,
    /// What the ratio must not exceed.
    most: Option<f64>,
    /// Where the proxies forward to, if not the common origin.
    origin: Option<std::net::SocketAddr>,
}

#[derive(Clone, Copy, PartialEq)]
enum Against {
    Nginx,
    /// nginx doing nothing but plain proxying.
    BareNginx,
    Haproxy,
    BetterOfBoth,
}

pub(super) fn plain(bench: &Bench) -> Result<Vec<Line>> {
    let load = requests(bench, "plain", &[get("bench.example", "/items/4711")])?;
    measure(bench, &Measure::of("plain proxying", load, 300_000, Some(0.85)))
}

pub(super) fn logs(bench: &Bench) -> Result<Vec<Line>> {
    let load = requests(bench, "plain", &[get("bench.example", "/items/4711")])?;
    let scenario = Scenario { access_log: true, ..Scenario::default() };
    measure(bench, &Measure { scenario, ..Measure::of("plain, each with its access log", load, 300_000, None) })
}

pub(super) fn keys(bench: &Bench) -> Result<Vec<Line>> {
    let load = keyed(bench)?;
    let scenario = Scenario { keys: true, ..Scenario::default() };
    let row = Measure::of("10,000 keys, a limit per consumer", load, 300_000, Some(0.95));
    measure(bench, &Measure { scenario, against: Against::BareNginx, ..row })
}

pub(super) fn permission(bench: &Bench) -> Result<Vec<Line>> {
    let scenario = Scenario { permission: true, ..Scenario::default() };
    let row = Measure::of("10,000 keys, a role, a condition in CEL", keyed(bench)?, 300_000, Some(0.95));
    measure(bench, &Measure { scenario, against: Against::BareNginx, ..row })
}

/// Tokens of so many subjects, each seen before.
const SUBJECTS: usize = 1_000;

pub(super) fn jwt(bench: &Bench) -> Result<Vec<Line>> {
    const KEYS: &str = "jwt-cpu.key";
    let signer = Signer::es256()?;
    std::fs::write(bench.folder.join(KEYS), signer.key_file()?)?;
    let of = |number: usize| -> Result<Vec<u8>> {
        let fields = format!("Authorization: Bearer {}\r\n", signer.token(number)?);
        Ok(request("GET", "bench.example", &format!("/items/{number}"), &fields, &[]))
    };
    let load = requests(bench, "jwt", &(0..SUBJECTS).map(of).collect::<Result<Vec<_>>>()?)?;
    let scenario = Scenario { jwt: Some(KEYS), ..Scenario::default() };
    let row = Measure::of("a JWT, one of 1,000 that were seen before", load, 300_000, Some(0.95));
    measure(bench, &Measure { scenario, against: Against::BareNginx, ..row })
}

pub(super) fn policies(bench: &Bench) -> Result<Vec<Line>> {
    let of = |consumer: usize| {
        let fields = format!("X-Api-Key: {}\r\nOrigin: https://shop.example.com\r\nX-Debug: 1\r\n", key(consumer));
        request("GET", "bench.example", &format!("/items/{consumer}"), &fields, &[])
    };
    let mut all: Vec<Vec<u8>> = (0..CONSUMERS).map(of).collect();
    Numbers(1).shuffle(&mut all);
    let load = requests(bench, "policies", &all)?;
    let scenario = Scenario { keys: true, policies: true, ..Scenario::default() };
    let what = "key, limit per consumer, 1,000 networks, CORS, two headers changed, security headers";
    let row = Measure::of(what, load, 300_000, Some(1.0));
    measure(bench, &Measure { scenario, against: Against::BareNginx, ..row })
}

pub(super) fn tls(bench: &Bench) -> Result<Vec<Line>> {
    let load = Load::H2load { scheme: "https", path: "/items/4711", arguments: &["--h1", "-c", "64"] };
    let scenario = Scenario { tls: Some(Key::P256), ..Scenario::default() };
    let row = Measure::of("TLS 1.3, keep-alive", load, 300_000, Some(0.75));
    measure(bench, &Measure { scenario, against: Against::BetterOfBoth, ..row })
}

pub(super) fn handshake_p256(bench: &Bench) -> Result<Vec<Line>> {
    handshake(bench, "TLS 1.3, full handshakes, P-256", Key::P256)
}

pub(super) fn handshake_rsa(bench: &Bench) -> Result<Vec<Line>> {
    handshake(bench, "TLS 1.3, full handshakes, RSA-2048", Key::Rsa2048)
}

fn handshake(bench: &Bench, what: &'static str, kind: Key) -> Result<Vec<Line>> {
    const SECONDS: u64 = 5;
    let scenario = Scenario { tls: Some(kind), ..Scenario::default() };
    measure(
        bench,
        &Measure {
            scenario,
            against: Against::BetterOfBoth,
            ..Measure::of(what, Load::Handshakes, SECONDS, Some(1.0))
        },
    )
}

pub(super) fn http2(bench: &Bench) -> Result<Vec<Line>> {
    let load = Load::H2load { scheme: "http", path: "/items/4711", arguments: &["-c", "8", "-m", "16"] };
    let scenario = Scenario { h2c: true, ..Scenario::default() };
    let row = Measure::of("HTTP/2 in (8 × 16 streams), HTTP/1.1 out", load, 300_000, Some(1.10));
    measure(bench, &Measure { scenario, against: Against::Haproxy, ..row })
}

pub(super) fn body_1k(bench: &Bench) -> Result<Vec<Line>> {
    body(bench, "1 KiB answers", "/1KiB", 200_000)
}

pub(super) fn body_64k(bench: &Bench) -> Result<Vec<Line>> {
    body(bench, "64 KiB answers", "/64KiB", 60_000)
}

pub(super) fn body_10m(bench: &Bench) -> Result<Vec<Line>> {
    body(bench, "10 MiB answers", "/10MiB", 400)
}

fn body(bench: &Bench, what: &'static str, path: &str, count: u64) -> Result<Vec<Line>> {
    let load = requests(bench, path.trim_start_matches('/'), &[get("bench.example", path)])?;
    measure(bench, &Measure::of(what, load, count, None))
}

pub(super) fn post(bench: &Bench) -> Result<Vec<Line>> {
    let body = request("POST", "bench.example", "/items", "Content-Type: application/octet-stream\r\n", &[b'x'; 4096]);
    let load = requests(bench, "post", &[body])?;
    measure(bench, &Measure::of("POST of 4 KiB", load, 200_000, None))
}

pub(super) fn websocket(bench: &Bench) -> Result<Vec<Line>> {
    let [address] = free_addresses()?;
    let mut echo = Process::start("echo", LOAD_CPU, &own(&bench.runner, "echo", address), &bench.logs())?;
    echo.listening(address)?;
    let scenario = Scenario { websocket: true, ..Scenario::default() };
    let row = Measure::of("WebSocket messages of 64 bytes, there and back", Load::Websocket, 300_000, None);
    measure(bench, &Measure { scenario, origin: Some(address), ..row })
}

/// A load with the key of each consumer in turn, in an order of chance.
fn keyed(bench: &Bench) -> Result<Load> {
    let of = |consumer: usize| {
        let fields = format!("X-Api-Key: {}\r\n", key(consumer));
        request("GET", "bench.example", &format!("/items/{consumer}"), &fields, &[])
    };
    let mut all: Vec<Vec<u8>> = (0..CONSUMERS).map(of).collect();
    Numbers(1).shuffle(&mut all);
    requests(bench, "keys", &all)
}

/// A load over [`CONNECTIONS`] connections that sends `all` in turn.
fn requests(bench: &Bench, name: &str, all: &[Vec<u8>]) -> Result<Load> {
    let file = bench.folder.join(format!("{name}.requests"));
    write_requests(&file, all)?;
    Ok(Load::Closed { requests: file, connections: CONNECTIONS })
}

impl Measure {
    fn of(what: &'static str, load: Load, count: u64, most: Option<f64>) -> Measure {
        Measure { what, scenario: Scenario::default(), load, count, against: Against::Nginx, most, origin: None }
    }
}

/// A proxy that takes part in a row. `Bare` is nginx with nothing to do but forward.
struct Contestant {
    peer: Peer,
    bare: bool,
    samples: Vec<Sample>,
}

fn measure(bench: &Bench, row: &Measure) -> Result<Vec<Line>> {
    let mut contestants = start(bench, row)?;
    let count = bench.count(row.count);
    for contestant in &contestants {
        contestant.peer.run(bench, &row.load, row.load.warm_up(count))?;
    }
    for round in 0..bench.rounds() {
        // Nobody is always first.
        let first = round % contestants.len();
        contestants.rotate_left(first);
        for contestant in &mut contestants {
            let sample = contestant.peer.run(bench, &row.load, count)?;
            contestant.samples.push(sample);
        }
        contestants.rotate_right(first);
    }
    line(row, &contestants).map(|line| vec![line])
}

fn start(bench: &Bench, row: &Measure) -> Result<Vec<Contestant>> {
    let origin = row.origin.unwrap_or(bench.origin);
    let mut contestants = Vec::new();
    for kind in Kind::ALL {
        match Peer::start_before(bench, kind, row.scenario, origin) {
            Ok(peer) => contestants.push(Contestant { peer, bare: false, samples: Vec::new() }),
            Err(error) if kind == Kind::Envoy => eprintln!("Envoy takes no part: {error:#}"),
            Err(error) => return Err(error),
        }
    }
    if row.against == Against::BareNginx {
        let peer = Peer::start_before(bench, Kind::Nginx, Scenario::default(), origin)?;
        contestants.push(Contestant { peer, bare: true, samples: Vec::new() });
    }
    Ok(contestants)
}

fn line(row: &Measure, contestants: &[Contestant]) -> Result<Line> {
    let mut line = Line { what: row.what.to_owned(), unit: "µs CPU", ..Line::default() };
    for Contestant { peer, samples, .. } in contestants.iter().filter(|contestant| !contestant.bare) {
        let of = |part: fn(&Sample) -> f64| median(&samples.iter().map(part).collect::<Vec<_>>()).unwrap_or(0.0);
        let rate = of(|sample| sample.rate);
        let (user, system, total) = (of(|sample| sample.user), of(|sample| sample.system), of(|sample| sample.total()));
        eprintln!("   {:8} user {user:.2} + system {system:.2} = {total:.2} µs, {rate:.0}/s", peer.kind.name());
        line.cell(peer.kind, format!("{total:.1}"));
    }
    let totals = |kind: Kind, bare: bool| -> Option<Vec<f64>> {
        let found = contestants.iter().find(|contestant| contestant.peer.kind == kind && contestant.bare == bare)?;
        Some(found.samples.iter().map(|sample| sample.total()).collect())
    };
    let (nginx, haproxy) = (totals(Kind::Nginx, false), totals(Kind::Haproxy, false));
    let (name, base) = match row.against {
        Against::Nginx => ("nginx".to_owned(), nginx),
        Against::Haproxy => ("HAProxy".to_owned(), haproxy),
        Against::BareNginx => {
            let bare = totals(Kind::Nginx, true);
            let figure = bare.as_deref().and_then(median).unwrap_or(0.0);
            (format!("nginx, bare ({figure:.1})"), bare)
        }
        Against::BetterOfBoth => {
            let at = |times: &Option<Vec<f64>>| times.as_deref().and_then(median).unwrap_or(f64::INFINITY);
            if at(&nginx) <= at(&haproxy) { ("nginx".to_owned(), nginx) } else { ("HAProxy".to_owned(), haproxy) }
        }
    };
    let (own, base) = (totals(Kind::Daemun, false).context("no sample")?, base.context("no sample to compare with")?);
    let ratios: Vec<f64> = own.iter().zip(&base).map(|(own, base)| own / base).collect();
    line.ratio(Spread::of(&ratios).context("no round")?, &name, row.most);
    Ok(line)
}
