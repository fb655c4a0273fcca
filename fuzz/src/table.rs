//! Route tables and requests as the router's naive matcher takes them, and how the router is asked. The matcher itself is that of the
//! router's tests.

use std::net::IpAddr;

use daemun_config::diagnostic::Diagnostics;
use daemun_config::model::{Match, Spanned};
use daemun_config::tree::At;
use daemun_dataplane::router::path;
use daemun_dataplane::router::{Captures, Conditions, Outcome, Query, RouteSpec, Router, Verdict};
use daemun_pipeline::bounded::Budget;
use daemun_pipeline::expression::{Expression, Place, ReadBody};

#[path = "../../crates/dataplane/src/router/tests/naive.rs"]
mod naive;

/// Regular expressions for `path_regex`: the naive matcher knows how each of them ranks.
pub fn expressions() -> impl Iterator<Item = &'static str> {
    naive::EXPRESSIONS.iter().map(|(expression, _)| *expression)
}

/// A path as the rules read it.
#[derive(Debug, PartialEq, Eq)]
pub struct NaivePath {
    pub forwarded: String,
    pub matched: String,
    pub encoded_slash: bool,
}

/// Reads a path by the rules; `None` where they refuse it.
pub fn read_naively(raw: &str, keep_slashes: bool) -> Option<NaivePath> {
    naive::read(raw, false)?;
    let (segments, encoded_slash) = naive::read(raw, keep_slashes)?;
    let forwarded = segments.iter().map(|segment| format!("/{}{}", segment.name, segment.parameters)).collect();
    let matched = segments.iter().map(|segment| format!("/{}", segment.name)).collect();
    Some(NaivePath { forwarded, matched, encoded_slash })
}

/// A route.
#[derive(Clone, Debug)]
pub struct TestRoute {
    pub name: Spanned<String>,
    pub matches: Match,
    pub priority: i32,
    pub keep_slashes: bool,
    pub keep_encoded_slash: bool,
}

/// A value that stands in no file.
pub fn spanned<T>(value: T) -> Spanned<T> {
    Spanned { value, at: At::default() }
}

/// Compiles routes, and gives what is said about them.
pub fn build(routes: &[TestRoute], hosts_fall_through: bool) -> (Option<Router>, Diagnostics) {
    let specs = routes.iter().map(|route| RouteSpec {
        name: &route.name,
        matches: &route.matches,
        priority: route.priority,
        keep_slashes: route.keep_slashes,
        keep_encoded_slash: route.keep_encoded_slash,
    });
    let mut diagnostics = Diagnostics::new();
    let router = Router::build(specs, hosts_fall_through, &mut diagnostics);
    assert_eq!(router.is_none(), diagnostics.has_errors());
    (router, diagnostics)
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub host: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub query: Vec<(String, String)>,
    pub cookies: Vec<(String, String)>,
    pub client_ip: IpAddr,
}

fn show(values: &[(String, String)], name: &str, visit: &mut dyn FnMut(&[u8]) -> bool) {
    let _ = values.iter().filter(|(other, _)| other == name).all(|(_, value)| visit(value.as_bytes()));
}

impl Conditions for Request {
    fn header(&self, name: &str, visit: &mut dyn FnMut(&[u8]) -> bool) {
        show(&self.headers, name, visit);
    }

    fn query(&self, name: &str, visit: &mut dyn FnMut(&[u8]) -> bool) {
        show(&self.query, name, visit);
    }

    fn cookie(&self, name: &str, visit: &mut dyn FnMut(&[u8]) -> bool) {
        show(&self.cookies, name, visit);
    }

    fn client_ip(&self) -> Option<IpAddr> {
        Some(self.client_ip)
    }

    fn when(&self, when: &Expression, _: u64, place: Place<'_>) -> bool {
        when.test_at(&self.exchange(), place, &ReadBody::default(), &Budget::default())
            .expect("a condition that holds or not")
    }
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Route { index: usize, forwarded: String, parameters: Vec<(String, String)> },
    MethodNotAllowed(Vec<String>),
    NotFound,
    EncodedSlash,
}

/// What the router says of a request, allowed methods sorted; `explain` must say the same. The path must be one that can be read.
pub fn ask(router: &Router, request: &Request, preflight: bool) -> Answer {
    let mut buffer = Vec::new();
    let reading = path::read(request.path.as_bytes(), &mut buffer).expect("a path that can be read");
    let path = reading.view(request.path.as_bytes(), &buffer);
    let query = Query { host: request.host.as_bytes(), path: &path, method: &request.method, request };
    let mut captures = Captures::new();
    let outcome =
        if preflight { router.find_preflight(&query, &mut captures) } else { router.find(&query, &mut captures) };
    let explained = if preflight { router.explain_preflight(&query) } else { router.explain(&query) };
    assert_eq!(explained.outcome, outcome);
    let taken = explained.considered.iter().find(|considered| considered.verdict == Verdict::Taken);
    match outcome {
        Outcome::Found(found) => {
            assert_eq!(taken.map(|taken| taken.route), Some(found.route));
            let forwarded = String::from_utf8(path.forwarded(found.keep_slashes).to_vec()).expect("ASCII");
            let names = router.parameters(found.route).map(str::to_owned);
            assert_eq!(names.len(), captures.len());
            let values = (0..captures.len()).filter_map(|index| captures.get(index));
            let parameters = names.zip(values.map(|range| forwarded[range].to_owned())).collect();
            Answer::Route { index: found.route as usize, forwarded, parameters }
        }
        Outcome::MethodNotAllowed(allow) => {
            assert_eq!(taken, None);
            let mut allowed: Vec<String> = router.allow(allow).map(str::to_owned).collect();
            allowed.sort();
            Answer::MethodNotAllowed(allowed)
        }
        Outcome::NotFound => {
            assert_eq!(taken, None);
            Answer::NotFound
        }
        Outcome::EncodedSlash => Answer::EncodedSlash,
    }
}

/// What the rules say of a request, allowed methods sorted.
pub fn ask_naively(routes: &[TestRoute], request: &Request, hosts_fall_through: bool, preflight: bool) -> Answer {
    let mut answer = naive::answer(routes, request, hosts_fall_through, preflight);
    if let Answer::MethodNotAllowed(allowed) = &mut answer {
        allowed.sort();
    }
    answer
}
