//! Whether paths that policies answer themselves lead to a route that has them. Knows no policy by name.

use std::collections::BTreeMap;
use std::net::IpAddr;

use daemun_config::diagnostic::{Diagnostic, Diagnostics, NO_EFFECT};
use daemun_config::model;

use super::Route;
use crate::router::path::read;
use crate::router::{Captures, Conditions, Outcome, Query, Router};

/// Most warnings.
const MOST: usize = 100;

/// Warns of each path that none of the routes takes, of the same hosts, whose policies would answer there.
pub(super) fn check(config: &model::Config, routes: &[Route], diagnostics: &mut Diagnostics) {
    let mut answered: BTreeMap<(&str, &str, Vec<&str>), Vec<&model::Route>> = BTreeMap::new();
    for (route, compiled) in config.routes.iter().zip(routes) {
        for (name, path) in compiled.chain.answers_at() {
            let hosts = route.matches.hosts.iter().map(|host| host.value.as_str()).collect();
            answered.entry((name, path, hosts)).or_default().push(route);
        }
    }
    let missed = answered.iter().filter(|((_, path, _), routes)| !routes.iter().any(|route| takes(route, path)));
    for ((name, path, _), routes) in missed.take(MOST) {
        let Some(route) = routes.first() else { continue };
        let message = format!("`{name}` answers at `{path}`, and no route that has it takes that path");
        let help = format!(
            "add a route with `match: {{ path: {path} }}` and the same `{name}`, or let one with it match more"
        );
        let finding = Diagnostic::warning(NO_EFFECT, route.name.at, message).help(help);
        diagnostics.push(finding.path(format!("routes.{}.match", route.name.value)));
    }
}

/// Whether a route takes GET requests of a path, whatever else it asks of them.
fn takes(route: &model::Route, path: &str) -> bool {
    let mut alone = route.clone();
    let matches = &mut alone.matches;
    matches.hosts.clear();
    matches.headers.clear();
    matches.query.clear();
    matches.cookies.clear();
    matches.client_ip.clear();
    matches.when = None;
    let Some(router) = Router::build([(&alone).into()], false, &mut Diagnostics::new()) else { return true };
    let mut buffer = Vec::new();
    let Ok(reading) = read(path.as_bytes(), &mut buffer) else { return false };
    let view = reading.view(path.as_bytes(), &buffer);
    // what arrives is in its normal form
    if view.forwarded(false) != path.as_bytes() {
        return false;
    }
    let query = Query { host: b"", path: &view, method: "GET", request: &Nothing };
    matches!(router.find(&query, &mut Captures::new()), Outcome::Found(_))
}

/// A request of which nothing else is known.
struct Nothing;

impl Conditions for Nothing {
    fn header(&self, _: &str, _: &mut dyn FnMut(&[u8]) -> bool) {}

    fn query(&self, _: &str, _: &mut dyn FnMut(&[u8]) -> bool) {}

    fn cookie(&self, _: &str, _: &mut dyn FnMut(&[u8]) -> bool) {}

    fn client_ip(&self) -> Option<IpAddr> {
        None
    }
}
