//! Daemun, with metrics and the ring of recent requests on, as they always are.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::super::signer::ACCEPTED;
use super::super::stats::Numbers;
use super::{Bench, CONSUMERS, Certificate, LIMIT_PER_SECOND, Place, Scenario, key};

pub(super) fn configure(bench: &Bench, scenario: Scenario, place: Place, folder: &Path) -> Result<Command> {
    let mut text = head(bench, scenario, place, folder)?;
    text += "routes:\n  - name: everything\n    match: { prefix: / }\n    upstream: origin\n";
    if scenario.policies {
        write!(text, "{}", policies())?;
    } else if scenario.permission {
        text += "    policies:\n      key_auth: { header: X-Api-Key }\n      \
                 permission: { allow: [{ name: buyers, roles: buyer, when: 'request.path.startsWith(\"/items/\")' }] }\n";
    } else if let Some(file) = scenario.jwt {
        let file = bench.folder.join(file);
        writeln!(text, "    policies: {{ jwt: {{ {ACCEPTED}, keys: {{ file: \"{}\" }} }} }}", file.display())?;
    } else if scenario.keys {
        write!(
            text,
            "    policies:\n      key_auth: {{ header: X-Api-Key }}\n      \
             rate_limit: {{ limit: {LIMIT_PER_SECOND}/s, burst: {LIMIT_PER_SECOND}, by: consumer }}\n"
        )?;
    }
    if scenario.keys || scenario.permission {
        text += "consumers:\n";
        for index in 0..CONSUMERS {
            writeln!(text, "  - {{ name: consumer-{index}, roles: [buyer], keys: [\"{}\"] }}", key(index))?;
        }
    }
    let file = folder.join("daemun.yaml");
    std::fs::write(&file, text)?;
    Ok(command(bench, &file))
}

/// Six policies of a route, each of which acts on every request. The load's address is in none of the 1,000 networks.
fn policies() -> String {
    let networks: Vec<String> = (0..1_000).map(|n| format!("10.{}.{}.0/26", n / 250, n % 250)).collect();
    format!(
        "    policies:\n      ip_filter: {{ deny: [{}] }}\n      key_auth: {{ header: X-Api-Key }}\n      \
         rate_limit: {{ limit: {LIMIT_PER_SECOND}/s, burst: {LIMIT_PER_SECOND}, by: consumer }}\n      \
         cors: {{ origins: [\"https://shop.example.com\"] }}\n      security_headers: {{}}\n      \
         transform: {{ request: [{{ set: {{ header.x-tenant: shop }} }}, {{ remove: [header.x-debug] }}] }}\n",
        networks.join(", ")
    )
}

/// The start of a configuration, up to its routes.
fn head(bench: &Bench, scenario: Scenario, place: Place, folder: &Path) -> Result<String> {
    let Place { listen, status, origin } = place;
    let mut text = format!("workers: 1\nlisteners:\n  - bind: {listen}\n");
    if let Some(kind) = scenario.tls {
        let Certificate { cert, key, .. } = Certificate::of(bench, kind)?;
        let (cert, key) = (cert.display(), key.display());
        writeln!(text, "    tls: {{ certificates: [{{ cert: \"{cert}\", key: \"{key}\" }}] }}")?;
    }
    writeln!(text, "status: {{ bind: {status} }}")?;
    if scenario.access_log {
        writeln!(text, "access_log: {{ format: json, to: \"{}\" }}", folder.join("access.log").display())?;
    } else {
        writeln!(text, "access_log: off")?;
    }
    writeln!(text, "upstreams:\n  origin:\n    targets: [\"http://{origin}\"]")?;
    if scenario.adaptive {
        // clients of an open loop may not need a connection for long
        writeln!(text, "    concurrency: adaptive\ntimeouts: {{ head: 10m, keep_alive: 10m }}")?;
    }
    Ok(text)
}

fn command(bench: &Bench, file: &Path) -> Command {
    let mut command = Command::new(&bench.daemun);
    command.args(["run", "-c"]).arg(file);
    command
}

/// A configuration of many routes, and a request for each.
pub(crate) struct Routes {
    pub(crate) command: Command,
    /// A request for each route, in an order of chance.
    pub(crate) requests: Vec<Vec<u8>>,
    /// Those of them whose route is the same in every generation.
    pub(crate) stable: Vec<Vec<u8>>,
}

/// Routes of which each reload replaces this many.
pub(crate) const REPLACED: usize = 1_000;

/// Writes `count` routes: one third literal, one third with parameters, one sixth remainders, one sixth under wildcard
/// hosts, and one regular expression in a thousand. The first [`REPLACED`] literal ones are others in each `generation`.
pub(crate) fn routes(bench: &Bench, count: usize, generation: usize, place: Place, folder: &Path) -> Result<Routes> {
    std::fs::create_dir_all(folder)?;
    let mut text = head(bench, Scenario::default(), place, folder)? + "routes:\n";
    let mut requests = Vec::with_capacity(count);
    for index in 0..count {
        let Route { host, pattern, key, path } = route(index, generation);
        writeln!(
            text,
            "  - {{ name: r{index}, match: {{ hosts: [\"{host}\"], {key}: \"{pattern}\" }}, upstream: origin }}"
        )?;
        requests.push((is_replaced(index), super::super::loads::get(&host.replace('*', "shop"), &path)));
    }
    Numbers(count as u64).shuffle(&mut requests);
    // Written beside and renamed, so that a gateway that watches never reads half of it.
    let (file, draft) = (folder.join("daemun.yaml"), folder.join("draft"));
    std::fs::write(&draft, text)?;
    std::fs::rename(&draft, &file)?;
    let stable = requests.iter().filter(|(replaced, _)| !replaced).map(|(_, request)| request.clone()).collect();
    let requests = requests.into_iter().map(|(_, request)| request).collect();
    Ok(Routes { command: command(bench, &file), requests, stable })
}

/// The request for the first replaced route of a generation.
pub(crate) fn replaced_request(generation: usize) -> Vec<u8> {
    let Route { host, path, .. } = route(0, generation);
    super::super::loads::get(&host, &path)
}

struct Route {
    host: String,
    key: &'static str,
    pattern: String,
    path: String,
}

/// Literal routes are those whose index is 0 or 1 in six; the first of them are replaced.
fn is_replaced(index: usize) -> bool {
    index % 6 < 2 && index / 6 * 2 + index % 6 < REPLACED
}

fn route(index: usize, generation: usize) -> Route {
    let api = || "api.example.com".to_owned();
    let service = index % 97;
    if index % 1_000 == 999 {
        let (pattern, path) = (format!("^/reports/{index}/[0-9]+$"), format!("/reports/{index}/2026"));
        return Route { host: api(), key: "path_regex", pattern, path };
    }
    let (host, pattern, path) = match index % 6 {
        0 | 1 if is_replaced(index) => {
            let path = format!("/generation-{generation}/item-{index}");
            (api(), path.clone(), path)
        }
        0 | 1 => {
            let path = format!("/service-{service}/v1/item-{index}");
            (api(), path.clone(), path)
        }
        2 => (api(), format!("/users-{index}/{{user}}/orders"), format!("/users-{index}/4711/orders")),
        3 => (
            api(),
            format!("/accounts/{{account}}/apps/app-{index}"),
            format!("/accounts/a-{service}/apps/app-{index}"),
        ),
        4 => (api(), format!("/files-{index}/{{*rest}}"), format!("/files-{index}/2026/11/report.pdf")),
        _ => {
            let path = format!("/catalog/entry-{index}");
            (format!("*.shop-{}.example.com", index / 60), path.clone(), path)
        }
    };
    Route { host, key: "path", pattern, path }
}
