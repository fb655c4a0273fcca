//! What it costs to know who calls: keys and tokens of the store, ten of each and a million, and tokens given out.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use daemun_accounts::change::{GrantRow, TokenRow};
use daemun_accounts::store::{Durability, Sqlite};
use daemun_accounts::{Change, Consumer, Credential, CredentialKind, Kind, Store as _, text};

use super::super::Bench;
use super::super::loads::{CONNECTIONS, Load, request, write_requests};
use super::super::process::{Process, free_addresses};
use super::super::scenario::key;
use super::super::stats::{Numbers, Spread, median};
use super::super::table::Line;

/// How many callers there are, few and many.
const FEW: usize = 10;
const MANY: usize = 1_000_000;
/// How many parts the callers are measured in, each beside the same part of the others: so close together, what else the machine
/// does weighs on all of them.
const PARTS: usize = 10;
/// How often all parts are measured, for each round of other rows.
const TURNS: usize = 6;
/// Far behind any measurement, milliseconds since the Unix epoch.
const NEVER: u64 = 4_000_000_000_000;
/// What the store seals its own keys under.
const SEAL: &str = "0123456789abcdef0123456789abcdef";
/// Rows of a commit while the store is made.
const COMMIT: usize = 20_000;

/// A gateway with so many callers.
struct Callers {
    process: Process,
    listen: SocketAddr,
    plain: Vec<Load>,
    keys: Vec<Load>,
    tokens: Vec<Load>,
}

pub(super) fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let callers = if bench.quick { MANY / 10 } else { MANY };
    let few = Callers::start(bench, FEW, callers)?;
    let many = Callers::start(bench, callers, callers)?;
    let calls = (callers / PARTS) as u64;
    let mut ratios: [Vec<f64>; 4] = Default::default();
    let mut costs: [Vec<f64>; 5] = Default::default();
    // the first time round fills caches and pools
    for turn in 0..PARTS + bench.rounds() * TURNS {
        let cost = |gateway: &Callers, parts: &[Load]| -> Result<f64> {
            let load = parts.get(turn % PARTS).context("no part")?;
            let before = gateway.process.cpu();
            let done = load.run(&bench.runner, gateway.listen, calls)?;
            let after = gateway.process.cpu();
            let spent = after.user - before.user + after.system - before.system;
            Ok(spent / done.completed.max(1) as f64)
        };
        let plain = cost(&few, &few.plain)?;
        let (few_keys, many_keys) = (cost(&few, &few.keys)?, cost(&many, &many.keys)?);
        let (few_tokens, many_tokens) = (cost(&few, &few.tokens)?, cost(&many, &many.tokens)?);
        if turn >= PARTS {
            let found = [few_keys / plain, many_keys / few_keys, few_tokens / plain, many_tokens / few_tokens];
            ratios.iter_mut().zip(found).for_each(|(all, ratio)| all.push(ratio));
            let found = [plain, few_keys, many_keys, few_tokens, many_tokens];
            costs.iter_mut().zip(found).for_each(|(all, cost)| all.push(cost));
        }
    }
    let costs: Vec<String> = costs.iter().filter_map(|all| Some(format!("{:.2}", median(all)?))).collect();
    eprintln!("   plain, keys of few and many, tokens of few and many: {} µs", costs.join(", "));
    let rows = [
        ("a key of the store, of ten", "plain proxying", 1.05),
        ("a key of the store, of a million", "one of ten", 1.10),
        ("an opaque token, of ten", "plain proxying", 1.05),
        ("an opaque token, of a million", "one of ten", 1.10),
    ];
    rows.into_iter()
        .zip(&ratios)
        .map(|((what, against, most), ratios)| {
            let mut line = Line { what: what.to_owned(), unit: "µs CPU", ..Line::default() };
            line.ratio(Spread::of(ratios).context("no round")?, against, Some(most));
            Ok(line)
        })
        .collect()
}

/// Pairs of tokens given out in a second, on the one core that workers and store share.
pub(super) fn issue(bench: &Bench) -> Result<Vec<Line>> {
    let gateway = Callers::start(bench, FEW, PARTS)?;
    [("opaque tokens", "/auth"), ("tokens, the access token signed with ES256,", "/auth-signed")]
        .into_iter()
        .map(|(what, path)| pairs(bench, &gateway, what, path))
        .collect()
}

fn pairs(bench: &Bench, gateway: &Callers, what: &str, path: &str) -> Result<Line> {
    const LEAST: f64 = 5_000.0;
    let asks: Vec<Vec<u8>> = (0..FEW)
        .map(|caller| request("POST", "bench.example", path, &format!("X-Api-Key: {}\r\n", key(caller)), &[]))
        .collect();
    let file = bench.folder.join("issue.requests");
    write_requests(&file, &asks)?;
    let load = Load::Closed { requests: file, connections: CONNECTIONS };
    let mut rates = Vec::new();
    for round in 0..=bench.rounds() {
        let done = load.run(&bench.runner, gateway.listen, bench.count(50_000))?;
        if round > 0 {
            rates.push(done.completed as f64 / done.seconds.max(1e-9));
        }
    }
    let spread = Spread::of(&rates).context("no round")?;
    let what = format!("pairs of {what} given out, kept before they are");
    let mut line = Line { what, unit: "a second, one core", ..Line::default() };
    line.figure = format!("**{:.0}** ({:.0}–{:.0})", spread.median, spread.low, spread.high);
    line.target = Some((format!("≥ {LEAST:.0}"), spread.median >= LEAST));
    Ok(line)
}

impl Callers {
    /// Starts one with `count` callers, who make `most` different calls.
    fn start(bench: &Bench, count: usize, most: usize) -> Result<Callers> {
        let folder = bench.folder.join(format!("callers-{count}"));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder)?;
        fill(&folder.join("daemun.db"), count, |_| NEVER)?;
        let [listen] = free_addresses()?;
        let configuration = (&*folder.join("daemun.yaml"), &*yaml(bench, listen));
        let process = Process::daemun(bench, &format!("callers-{count}"), configuration, listen)?;
        // as many different requests for few callers as for many, so that the client's own reading weighs the same on shared caches
        let load = |name: &str, field: fn(usize) -> String| -> Result<Vec<Load>> {
            let mut calls: Vec<(usize, usize)> = (0..most).map(|call| (call, call % count)).collect();
            Numbers(1).shuffle(&mut calls);
            let part = |(part, calls): (usize, &[(usize, usize)])| -> Result<Load> {
                let file: PathBuf = folder.join(format!("{name}-{part}.requests"));
                let ask = |(call, caller): &(usize, usize)| {
                    request("GET", "bench.example", &format!("/{name}/{call:06}"), &field(*caller), &[])
                };
                write_requests(&file, &calls.iter().map(ask).collect::<Vec<_>>())?;
                Ok(Load::Closed { requests: file, connections: CONNECTIONS })
            };
            calls.chunks(most / PARTS).enumerate().map(part).collect()
        };
        Ok(Callers {
            process,
            listen,
            plain: load("plain", |_| String::new())?,
            keys: load("keys", |caller| format!("X-Api-Key: {}\r\n", key(caller)))?,
            tokens: load("tokens", |caller| format!("Authorization: Bearer {}\r\n", token(caller)))?,
        })
    }
}

fn yaml(bench: &Bench, listen: SocketAddr) -> String {
    format!(
        "workers: 1\naccess_log: off\nlisteners: [{{ bind: \"{listen}\" }}]\nstore: {{ path: daemun.db, key: \"{SEAL}\" }}\n\
         tokens:\n  bench: {{ max_tokens: 10000000 }}\n  signed: {{ max_tokens: 10000000, issuer: \"https://bench.example\", \
         access: {{ format: jwt }} }}\nupstreams: {{ origin: {{ targets: [\"http://{}\"] }} }}\nroutes:\n  \
         - {{ name: login, match: {{ path: /auth }}, tokens: bench }}\n  \
         - {{ name: login-signed, match: {{ path: /auth-signed }}, tokens: signed }}\n  \
         - {{ name: plain, match: {{ prefix: /plain }}, upstream: origin }}\n  \
         - {{ name: keys, match: {{ prefix: /keys }}, upstream: origin, policies: {{ key_auth: {{ header: X-Api-Key }} }} }}\n  \
         - {{ name: tokens, match: {{ prefix: /tokens }}, upstream: origin, policies: {{ token_auth: {{ service: bench }} }} }}\n",
        bench.origin
    )
}

/// The text of a caller's access token.
fn token(caller: usize) -> String {
    format!("dmt_{}", key(caller + MANY))
}

/// Makes a store with so many consumers, each with a key and a token, which ends when it is said to, milliseconds since the Unix epoch.
pub(super) fn fill(path: &Path, count: usize, ends: impl Fn(usize) -> u64) -> Result<()> {
    let mut store = Sqlite::open(path, Durability::Process)?;
    let mut changes = Vec::new();
    for caller in 0..count {
        let name = format!("consumer-{caller}");
        let number = i64::try_from(caller)? + 1;
        changes.push(Change::Consumer(Consumer { name: name.clone(), created: 1, ..Consumer::default() }));
        changes.push(Change::Credential(Credential {
            id: format!("key:{caller}"),
            consumer: name.clone(),
            kind: CredentialKind::Key,
            digest: text::digest(key(caller).as_bytes()),
            label: String::new(),
            created: 1,
            expires: None,
            disabled: false,
        }));
        changes.push(Change::Grant(GrantRow {
            id: number,
            service: "bench".to_owned(),
            subject: name,
            consumer: false,
            credential: format!("key:{caller}"),
            says: "{}".to_owned(),
            created: 1,
            expires: ends(caller),
            revoked: false,
        }));
        changes.push(Change::Token(TokenRow {
            id: number,
            grant: number,
            kind: Kind::Access,
            digest: text::digest(token(caller).as_bytes()),
            issued: 1,
            expires: ends(caller),
            spent: false,
            scopes: None,
        }));
        if changes.len() >= COMMIT {
            store.apply(&[&changes])?;
            changes.clear();
        }
    }
    store.apply(&[&changes])?;
    Ok(())
}
