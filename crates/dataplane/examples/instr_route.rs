//! Reads a path and finds its route among 1,000 N times (N from the command line), for counting instructions: run it under callgrind
//! with two counts and subtract.

use std::net::{IpAddr, Ipv4Addr};

use daemun_config::diagnostic::Diagnostics;
use daemun_config::model::{Match, PathMatch, Spanned};
use daemun_config::tree::At;
use daemun_dataplane::router::{Captures, Conditions, Outcome, Query, RouteSpec, Router, path};

const ROUTES: usize = 1_000;
/// Shares no factor with the number of routes, so that each is asked for as often.
const STRIDE: usize = 387;

/// A route, and the host and path of a request that it takes.
struct Case {
    name: Spanned<String>,
    matches: Match,
    host: String,
    path: String,
}

/// A request without anything that conditions could look at.
struct Bare;

impl Conditions for Bare {
    fn header(&self, _: &str, _: &mut dyn FnMut(&[u8]) -> bool) {}

    fn query(&self, _: &str, _: &mut dyn FnMut(&[u8]) -> bool) {}

    fn cookie(&self, _: &str, _: &mut dyn FnMut(&[u8]) -> bool) {}

    fn client_ip(&self) -> Option<IpAddr> {
        Some(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }
}

fn spanned<T>(value: T) -> Spanned<T> {
    Spanned { value, at: At::default() }
}

/// One third literal, one third with parameters, one sixth remainders, one sixth under wildcard hosts; one in a hundred is an expression.
fn case(index: usize) -> Case {
    let service = format!("/api/v1/service-{}/resource-{}", index / 60, index % 60);
    let tenant = format!("tenant-{}.example.org", index / 60);
    let api = || "api.example.com".to_owned();
    let pattern = |rest: &str| PathMatch::Pattern(format!("{service}/{rest}"));
    let (condition, rest, pattern_host, host) = match index % 6 {
        _ if index.is_multiple_of(100) => {
            (PathMatch::Regex(format!("{service}/[0-9]+-[a-z]+")), "17-abc".to_owned(), api(), api())
        }
        0 | 1 => (pattern("list"), "list".to_owned(), api(), api()),
        2 | 3 => (pattern("{id}/items/{item}"), format!("8a7f/items/{index}"), api(), api()),
        4 => (pattern("files/{*rest}"), format!("files/a/b/{index}.png"), api(), api()),
        _ => (pattern("{id}"), "17".to_owned(), format!("*.{tenant}"), format!("eu.{tenant}")),
    };
    let matches = Match { hosts: vec![spanned(pattern_host)], path: Some(spanned(condition)), ..Match::default() };
    Case { name: spanned(format!("route-{index}")), matches, host, path: format!("{service}/{rest}") }
}

fn main() -> Result<(), &'static str> {
    let count: usize = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1_000);
    let cases: Vec<Case> = (0..ROUTES).map(case).collect();
    let specs = cases.iter().map(|case| RouteSpec {
        name: &case.name,
        matches: &case.matches,
        priority: 0,
        keep_slashes: false,
        keep_encoded_slash: false,
    });
    let router = Router::build(specs, false, &mut Diagnostics::new()).ok_or("the routes conflict")?;
    let order: Vec<usize> = (0..ROUTES).map(|step| step * STRIDE % ROUTES).collect();
    assert_eq!(measured(&router, &cases, order.iter().copied().cycle().take(count))?, count);
    Ok(())
}

/// What is counted.
#[inline(never)]
fn measured(router: &Router, cases: &[Case], order: impl Iterator<Item = usize>) -> Result<usize, &'static str> {
    let mut buffer = Vec::new();
    let mut captures = Captures::new();
    let mut found = 0;
    for index in order {
        let case = cases.get(index).ok_or("there is no such route")?;
        let reading = path::read(case.path.as_bytes(), &mut buffer).map_err(|_| "a path cannot be read")?;
        let path = reading.view(case.path.as_bytes(), &buffer);
        let query = Query { host: case.host.as_bytes(), path: &path, method: "GET", request: &Bare };
        let outcome = router.find(&query, &mut captures);
        found += usize::from(matches!(outcome, Outcome::Found(taken) if taken.route as usize == index));
    }
    Ok(found)
}
