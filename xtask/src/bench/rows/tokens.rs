//! What signed tokens cost: at first sight beside their signature, and when they were seen before.

use std::process::Command;

use anyhow::{Context, Result};

use super::super::Bench;
use super::super::loads::{Load, request, write_requests};
use super::super::process::LOAD_CPU;
use super::super::signer::Signer;
use super::super::stats::Spread;
use super::super::table::Line;
use super::idle::{CONNECTIONS, Feature, feature, per_request};
use crate::shell;

/// How often signatures are measured, for each round of other rows: they take little time.
const TURNS: usize = 5;
/// What a first look may cost, in the time of the signature alone.
const FIRST: f64 = 1.2;
/// What a request with a token that was seen before may cost, in instructions of a plain one that carries it as well.
const AGAIN: f64 = 1.05;

pub(super) fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let mut command = Command::new("taskset");
    command
        .args(["-c", &LOAD_CPU.to_string()])
        .arg(&bench.runner)
        .args(["verify", &(bench.rounds() * TURNS).to_string()]);
    let said = shell::output(&mut command)?;
    let mut lines = Vec::new();
    for algorithm in ["ES256", "RS256"] {
        let ratios: Vec<f64> =
            said.lines().filter_map(|line| line.strip_prefix(algorithm)?.trim().parse().ok()).collect();
        let what = format!("a JWT with {algorithm} at first sight");
        let mut line = Line { what, unit: "ratio", ..Line::default() };
        line.ratio(Spread::of(&ratios).context("no value")?, "verifying the signature alone", Some(FIRST));
        lines.push(line);
    }
    lines.push(seen_before(bench)?);
    Ok(lines)
}

/// User instructions of a request with one token, again and again. A plain one with the same token is what the check is held against; one
/// without it is told beside it.
fn seen_before(bench: &Bench) -> Result<Line> {
    const SETTINGS: &str = "policies: { jwt: { issuer: https://accounts.example.com, audience: shop-api, roles: realm_access.roles, \
                            keys: { file: jwt.key } } }";
    let valgrind = shell::need("valgrind")?;
    let signer = Signer::es256()?;
    std::fs::write(bench.folder.join("jwt.key"), signer.key_file()?)?;
    let fields = format!("Authorization: Bearer {}\r\n", signer.token(1)?);
    let load = |name: &str, fields: &str| -> Result<Load> {
        let file = bench.folder.join(format!("{name}.requests"));
        write_requests(&file, &[request("GET", "bench.example", "/items/4711", fields, &[])])?;
        Ok(Load::Closed { requests: file, connections: CONNECTIONS })
    };
    let (bare, known) = (load("jwt-none", "")?, load("jwt-known", &fields)?);
    let with = feature("a JWT").route(SETTINGS);
    let count = |load: &Load, feature: &Feature| per_request(bench, &valgrind, load, feature);
    let plain = count(&known, &feature("plain"))?;
    let without = count(&bare, &feature("plain"))?;
    let counts = [count(&known, &with)?, count(&known, &with)?];
    eprintln!("   {:.0} of {plain:.0} instructions, {without:.0} without the token", counts[0]);
    let ratios = counts.map(|count| count / plain);
    let mut line = Line { what: "a JWT that was seen before".to_owned(), unit: "instructions", ..Line::default() };
    line.ratio(Spread::of(&ratios).context("no count")?, "plain proxying of the token", Some(AGAIN));
    Ok(line)
}
