//! The router against its rules: by example, against a naive matcher, and at size.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test names the answer it expects, and fails on any other")]

mod naive;
mod paths;
mod precedence;
mod findings;
mod property;
mod scale;
mod cost;

use std::net::{IpAddr, Ipv4Addr};

use daemun_config::diagnostic::Diagnostics;
use daemun_config::model::{IpNet, Match, PathMatch, Spanned, ValueMatch};
use daemun_config::tree::At;
use daemun_pipeline::bounded::Budget;
use daemun_pipeline::expression::{Expression, Place, ReadBody};

use super::path::{self, Reading};
use super::{Captures, Conditions, Outcome, Query, RouteSpec, Router};

/// A route of a test.
#[derive(Clone, Debug)]
struct TestRoute {
    name: Spanned<String>,
    matches: Match,
    priority: i32,
    keep_slashes: bool,
    keep_encoded_slash: bool,
}

fn spanned<T>(value: T) -> Spanned<T> {
    Spanned { value, at: At::default() }
}

fn route(name: &str) -> TestRoute {
    let name = spanned(name.to_owned());
    TestRoute { name, matches: Match::default(), priority: 0, keep_slashes: false, keep_encoded_slash: false }
}

impl TestRoute {
    fn path(mut self, pattern: &str) -> Self {
        self.matches.path = Some(spanned(PathMatch::Pattern(pattern.to_owned())));
        self
    }

    fn prefix(mut self, prefix: &str) -> Self {
        self.matches.path = Some(spanned(PathMatch::Prefix(prefix.to_owned())));
        self
    }

    fn regex(mut self, regex: &str) -> Self {
        self.matches.path = Some(spanned(PathMatch::Regex(regex.to_owned())));
        self
    }

    fn host(mut self, host: &str) -> Self {
        self.matches.hosts.push(spanned(host.to_owned()));
        self
    }

    fn method(mut self, method: &str) -> Self {
        self.matches.methods.push(spanned(method.to_owned()));
        self
    }

    fn header(mut self, name: &str, value: ValueMatch) -> Self {
        self.matches.headers.push((spanned(name.to_owned()), value));
        self
    }

    fn query(mut self, name: &str, value: ValueMatch) -> Self {
        self.matches.query.push((spanned(name.to_owned()), value));
        self
    }

    fn cookie(mut self, name: &str, value: ValueMatch) -> Self {
        self.matches.cookies.push((spanned(name.to_owned()), value));
        self
    }

    fn client_ip(mut self, addr: [u8; 4], prefix: u8) -> Self {
        self.matches.client_ip.push(IpNet { addr: IpAddr::from(addr), prefix });
        self
    }

    fn when(mut self, text: &str) -> Self {
        self.matches.when = Some(spanned(text.to_owned()));
        self
    }

    fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    fn keep_slashes(mut self) -> Self {
        self.keep_slashes = true;
        self
    }

    fn keep_encoded_slash(mut self) -> Self {
        self.keep_encoded_slash = true;
        self
    }

    fn spec(&self) -> RouteSpec<'_> {
        RouteSpec {
            name: &self.name,
            matches: &self.matches,
            priority: self.priority,
            keep_slashes: self.keep_slashes,
            keep_encoded_slash: self.keep_encoded_slash,
        }
    }
}

fn exact(value: &str) -> ValueMatch {
    ValueMatch::Exact(value.to_owned())
}

fn regex(value: &str) -> ValueMatch {
    ValueMatch::Regex(spanned(value.to_owned()))
}

fn try_build(routes: &[TestRoute], fall_through: bool) -> (Option<Router>, Diagnostics) {
    let mut diagnostics = Diagnostics::new();
    let router = Router::build(routes.iter().map(TestRoute::spec), fall_through, &mut diagnostics);
    assert_eq!(router.is_none(), diagnostics.has_errors());
    (router, diagnostics)
}

fn build(routes: &[TestRoute]) -> Router {
    let (router, diagnostics) = try_build(routes, false);
    router.unwrap_or_else(|| panic!("{diagnostics:#?}"))
}

/// A request of a test.
#[derive(Clone, Debug)]
struct Request {
    method: String,
    host: String,
    path: String,
    headers: Vec<(String, String)>,
    query: Vec<(String, String)>,
    cookies: Vec<(String, String)>,
    client_ip: IpAddr,
}

fn request(method: &str, host: &str, path: &str) -> Request {
    Request {
        method: method.to_owned(),
        host: host.to_owned(),
        path: path.to_owned(),
        headers: Vec::new(),
        query: Vec::new(),
        cookies: Vec::new(),
        client_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
    }
}

fn get(path: &str) -> Request {
    request("GET", "example.com", path)
}

impl Request {
    fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn read(&self) -> (Reading, Vec<u8>) {
        let mut buffer = Vec::new();
        let reading = path::read(self.path.as_bytes(), &mut buffer).expect("a path that can be read");
        (reading, buffer)
    }
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
        when.test_at(&self.exchange(), place, &ReadBody::default(), &Budget::default()).unwrap()
    }
}

/// What became of a request, in a form that is easy to compare.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Route { index: usize, forwarded: String, parameters: Vec<(String, String)> },
    MethodNotAllowed(Vec<String>),
    NotFound,
    EncodedSlash,
}

fn ask(router: &Router, request: &Request, preflight: bool) -> Answer {
    let (reading, buffer) = request.read();
    let path = reading.view(request.path.as_bytes(), &buffer);
    let query = Query { host: request.host.as_bytes(), path: &path, method: &request.method, request };
    let mut captures = Captures::new();
    let outcome =
        if preflight { router.find_preflight(&query, &mut captures) } else { router.find(&query, &mut captures) };
    let explained = if preflight { router.explain_preflight(&query) } else { router.explain(&query) };
    assert_eq!(explained.outcome, outcome);
    let taken = explained.considered.iter().find(|considered| considered.verdict == super::Verdict::Taken);
    match outcome {
        Outcome::Found(found) => {
            assert_eq!(taken.map(|taken| taken.route), Some(found.route));
            let forwarded = String::from_utf8(path.forwarded(found.keep_slashes).to_vec()).unwrap();
            let names = router.parameters(found.route);
            assert_eq!(names.len(), captures.len());
            let values = (0..captures.len()).map(|index| forwarded[captures.get(index).unwrap()].to_owned());
            let parameters = names.map(str::to_owned).zip(values).collect();
            Answer::Route { index: found.route as usize, forwarded, parameters }
        }
        Outcome::MethodNotAllowed(allow) => {
            assert_eq!(taken, None);
            Answer::MethodNotAllowed(router.allow(allow).map(str::to_owned).collect())
        }
        Outcome::NotFound => {
            assert_eq!(taken, None);
            Answer::NotFound
        }
        Outcome::EncodedSlash => Answer::EncodedSlash,
    }
}

/// Name of the route that takes a request; `404`, `405`, `400` where none does.
fn taken<'a>(routes: &'a [TestRoute], router: &Router, request: &Request) -> &'a str {
    match ask(router, request, false) {
        Answer::Route { index, .. } => &routes[index].name.value,
        Answer::MethodNotAllowed(_) => "405",
        Answer::NotFound => "404",
        Answer::EncodedSlash => "400",
    }
}
