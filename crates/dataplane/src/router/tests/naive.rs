//! A matcher written from `docs/reference/routing.md` and `docs/reference/paths.md` alone: it looks at every route, and shares
//! no code with the router. Slow, and easy to believe.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::HashMap;

use daemun_config::model::{PathMatch, ValueMatch};
use daemun_pipeline::Exchange;
use daemun_pipeline::expression::{Expression, Scope};

use super::{Answer, Request, TestRoute};

impl Request {
    /// The same as expressions see it, without its path.
    pub(super) fn exchange(&self) -> Exchange {
        let mut exchange = Exchange::default();
        let request = &mut exchange.request;
        request.method_span = request.head.store(self.method.as_bytes());
        request.host = request.head.store(self.host.as_bytes());
        let query: Vec<String> = self.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        request.query = Some(request.head.store(query.join("&").as_bytes()));
        request.method = daemun_pipeline::Method::Other;
        for (name, value) in &self.headers {
            request.head.append(name, value.as_bytes());
        }
        for (name, value) in &self.cookies {
            request.head.append("cookie", format!("{name}={value}").as_bytes());
        }
        exchange.client.ip = self.client_ip;
        exchange
    }
}

/// The plain segments that each expression the tests use begins with, worked out by hand.
pub(super) const EXPRESSIONS: [(&str, &[&str]); 7] = [
    ("/[ab]+/.*", &[]),
    ("/.*", &[]),
    ("/a/[ab]+", &["a"]),
    ("/a/b", &["a"]),
    ("^/a/b/.?$", &["a", "b"]),
    ("/b/(a|b/a)", &["b"]),
    ("/a/|/b.*", &[]),
];

/// One segment of a request: its name, and its parameters with the `;`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) name: String,
    pub(super) parameters: String,
}

/// Reads a path; `None` where it is refused. The second value: whether it had an encoded slash.
pub(super) fn read(raw: &str, keep_slashes: bool) -> Option<(Vec<Segment>, bool)> {
    let mut segments: Vec<Segment> = Vec::new();
    let mut encoded_slash = false;
    let pieces: Vec<&str> = raw.strip_prefix('/')?.split('/').collect();
    for (index, piece) in pieces.iter().enumerate() {
        let last = index + 1 == pieces.len();
        if !piece.bytes().all(|byte| (0x21..0x7F).contains(&byte) && !b"\\#?".contains(&byte)) {
            return None;
        }
        let (name, parameters) = piece.split_at(piece.find(';').unwrap_or(piece.len()));
        let (name, slash_in_name) = decode(name, true)?;
        let (parameters, slash_in_parameters) = decode(parameters, false)?;
        encoded_slash |= slash_in_name || slash_in_parameters;
        let whole = format!("{name}{parameters}").to_ascii_uppercase().replace("%2E", ".").replace("%3B", ";");
        let climbs = |piece: &str| matches!(piece.split(';').next(), Some("." | ".."));
        if (slash_in_name || slash_in_parameters) && whole.split("%2F").any(climbs) {
            return None;
        }
        if !parameters.is_empty() && ["", ".", ".."].contains(&name.as_str()) {
            return None;
        }
        if ["%3B", ".%3B", "..%3B"].iter().any(|dots| name.starts_with(dots)) {
            return None;
        }
        match name.as_str() {
            "" if last || keep_slashes => segments.push(Segment { name, parameters }),
            "" | "." => {}
            ".." => _ = segments.pop()?,
            _ => segments.push(Segment { name, parameters }),
        }
        if last && (name_is_dots(piece)) {
            segments.push(Segment { name: String::new(), parameters: String::new() });
        }
    }
    Some((segments, encoded_slash))
}

fn name_is_dots(piece: &str) -> bool {
    let (name, _) = decode(piece, true).unwrap();
    name == "." || name == ".."
}

/// Checks the escapes of a text, and brings them into normal form if asked to.
fn decode(text: &str, normalise: bool) -> Option<(String, bool)> {
    let mut out = String::new();
    let mut encoded_slash = false;
    let mut rest = text;
    while let Some(char) = rest.chars().next() {
        if char != '%' {
            out.push(char);
            rest = &rest[1..];
            continue;
        }
        let digits = rest.get(1..3).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        let value = char::from(u8::from_str_radix(digits, 16).unwrap());
        if value == '\0' || value == '\\' {
            return None;
        }
        encoded_slash |= value == '/';
        if !normalise {
            out.push_str(&rest[..3]);
        } else if value.is_ascii_alphanumeric() || "-._~".contains(value) {
            out.push(value);
        } else {
            out.push_str(&rest[..3].to_ascii_uppercase());
        }
        rest = &rest[3..];
    }
    Some((out, encoded_slash))
}

/// How a pattern compares, segment by segment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Literal(String),
    Parameter,
    /// Its place among the expressions of the file.
    Regex(usize),
    Rest,
}

type Rank = (Reverse<i32>, Vec<Kind>, [Reverse<usize>; 5], bool);

/// What the rules say of a request. Panics where two routes tie.
pub(super) fn answer(routes: &[TestRoute], request: &Request, fall_through: bool, preflight: bool) -> Answer {
    let encoded_slash = read(&request.path, false).unwrap().1;
    let mut hosts: Vec<(u8, Reverse<usize>, String)> = Vec::new();
    for pattern in routes.iter().flat_map(host_patterns) {
        if host_matches(&pattern, &request.host) {
            let kind = if pattern == "*" { 2 } else { u8::from(pattern.starts_with("*.")) };
            hosts.push((kind, Reverse(pattern.len()), pattern));
        }
    }
    hosts.sort();
    hosts.dedup();
    if !fall_through {
        hosts.truncate(1);
    }
    let mut allowed: Vec<String> = Vec::new();
    for (_, _, host) in hosts {
        let mut matching: Vec<(Rank, usize)> = Vec::new();
        for (index, route) in routes.iter().enumerate().filter(|(_, route)| host_patterns(route).contains(&host)) {
            if parameters(route, request).is_none() || !conditions_hold(route, request, preflight) {
                continue;
            }
            if method_matches(route, &request.method) {
                matching.push((rank(routes, route), index));
            } else {
                allowed.extend(route.matches.methods.iter().map(|method| method.value.clone()));
            }
        }
        matching.sort();
        if let Some((best, index)) = matching.first() {
            assert!(matching.get(1).is_none_or(|(second, _)| second != best), "two routes tie: {matching:?}");
            let route = &routes[*index];
            if encoded_slash && !route.keep_encoded_slash {
                return Answer::EncodedSlash;
            }
            let segments = read(&request.path, route.keep_slashes).unwrap().0;
            let parameters = parameters(route, request).unwrap();
            return Answer::Route { index: *index, forwarded: text(&segments), parameters };
        }
    }
    if encoded_slash {
        return Answer::EncodedSlash;
    }
    if allowed.is_empty() {
        return Answer::NotFound;
    }
    if allowed.contains(&"GET".to_owned()) {
        allowed.push("HEAD".to_owned());
    }
    let order = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"];
    allowed.sort_by_key(|method| (order.iter().position(|other| other == method).unwrap_or(99), method.clone()));
    allowed.dedup();
    Answer::MethodNotAllowed(allowed)
}

fn host_patterns(route: &TestRoute) -> Vec<String> {
    let hosts: Vec<String> = route.matches.hosts.iter().map(|host| host.value.clone()).collect();
    if hosts.is_empty() { vec!["*".to_owned()] } else { hosts }
}

fn host_matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*") {
        Some("") => true,
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        None => pattern == host,
    }
}

/// What the parameters of a route take, if its path condition holds.
fn parameters(route: &TestRoute, request: &Request) -> Option<Vec<(String, String)>> {
    let (segments, _) = read(&request.path, route.keep_slashes).unwrap();
    match route.matches.path.as_ref().map(|path| &path.value) {
        None => Some(Vec::new()),
        Some(PathMatch::Regex(regex)) => {
            let names: Vec<String> = segments.iter().map(|segment| format!("/{}", segment.name)).collect();
            whole_match(regex, &names.concat()).then(Vec::new)
        }
        Some(PathMatch::Prefix(prefix)) => {
            let wanted: Vec<&str> = prefix[1..].split('/').collect();
            let (wanted, slash) = match wanted.split_last() {
                Some((&"", wanted)) => (wanted, true),
                _ => (wanted.as_slice(), false),
            };
            let begins = segments.len() >= wanted.len() + usize::from(slash)
                && wanted.iter().zip(&segments).all(|(wanted, segment)| *wanted == segment.name);
            begins.then(Vec::new)
        }
        Some(PathMatch::Pattern(pattern)) => {
            let mut taken = Vec::new();
            let wanted: Vec<&str> = pattern[1..].split('/').collect();
            for (index, wanted) in wanted.iter().enumerate() {
                let rest = segments.get(index..).filter(|rest| !rest.is_empty())?;
                if let Some(name) = wanted.strip_prefix("{*") {
                    taken.push((name.trim_end_matches('}').to_owned(), text(rest)[1..].to_owned()));
                    return Some(taken);
                }
                if let Some(name) = wanted.strip_prefix('{') {
                    if rest[0].name.is_empty() {
                        return None;
                    }
                    taken.push((name.trim_end_matches('}').to_owned(), text(&rest[..1])[1..].to_owned()));
                } else if *wanted != rest[0].name {
                    return None;
                }
            }
            (wanted.len() == segments.len()).then_some(taken)
        }
    }
}

fn text(segments: &[Segment]) -> String {
    segments.iter().map(|segment| format!("/{}{}", segment.name, segment.parameters)).collect()
}

fn method_matches(route: &TestRoute, method: &str) -> bool {
    let methods = &route.matches.methods;
    methods.is_empty() || methods.iter().any(|own| own.value == method || own.value == "GET" && method == "HEAD")
}

fn conditions_hold(route: &TestRoute, request: &Request, preflight: bool) -> bool {
    let all = |conditions: &[(daemun_config::Spanned<String>, ValueMatch)], values: &[(String, String)]| {
        preflight
            || conditions.iter().all(|(name, condition)| {
                let values: Vec<&str> =
                    values.iter().filter(|(other, _)| *other == name.value).map(|(_, value)| value.as_str()).collect();
                if *condition == ValueMatch::Absent {
                    return values.is_empty();
                }
                !values.is_empty()
                    && values.iter().all(|value| match condition {
                        ValueMatch::Exact(text) => text == value,
                        ValueMatch::OneOf(texts) => texts.iter().any(|text| text == value),
                        ValueMatch::Present | ValueMatch::Absent => true,
                        ValueMatch::Regex(regex) => whole_match(&regex.value, value),
                        ValueMatch::Secret(_) => unreachable!("none is drawn"),
                    })
            })
    };
    let matches = &route.matches;
    all(&matches.headers, &request.headers)
        && all(&matches.query, &request.query)
        && all(&matches.cookies, &request.cookies)
        && (matches.client_ip.is_empty() || matches.client_ip.iter().any(|net| net.contains(request.client_ip)))
        && (preflight || matches.when.as_ref().is_none_or(|when| when_holds(route, &when.value, request)))
}

/// Asks the expression of a route, whose parameters are those of its pattern.
fn when_holds(route: &TestRoute, when: &str, request: &Request) -> bool {
    let taken = parameters(route, request).unwrap();
    let names: Vec<String> = taken.iter().map(|(name, _)| name.clone()).collect();
    let scope = Scope { params: &names, ..Scope::default() };
    let (segments, _) = read(&request.path, route.keep_slashes).unwrap();
    let mut exchange = request.exchange();
    let plain: String = segments.iter().map(|segment| format!("/{}", segment.name)).collect();
    exchange.request.path = exchange.request.head.store(plain.as_bytes());
    for (index, (_, value)) in (0..).zip(&taken) {
        // what follows `;` is no part of what was matched
        let value: Vec<&str> = value.split('/').map(|segment| segment.split(';').next().unwrap()).collect();
        let span = exchange.request.head.store(value.join("/").as_bytes());
        exchange.params.push((index, span));
    }
    thread_local! {
        static PARSED: RefCell<HashMap<(String, Vec<String>), Expression>> = RefCell::default();
    }
    PARSED.with_borrow_mut(|parsed| {
        let new = || Expression::parse(when, &scope).unwrap();
        parsed.entry((when.to_owned(), names.clone())).or_insert_with(new).test(&exchange).unwrap()
    })
}

fn whole_match(regex: &str, text: &str) -> bool {
    thread_local! {
        static COMPILED: RefCell<HashMap<String, regex::Regex>> = RefCell::default();
    }
    COMPILED.with_borrow_mut(|compiled| {
        let new = || regex::Regex::new(&format!("^(?:{regex})$")).unwrap();
        compiled.entry(regex.to_owned()).or_insert_with(new).is_match(text)
    })
}

fn rank(routes: &[TestRoute], route: &TestRoute) -> Rank {
    let matches = &route.matches;
    let counts = [
        Reverse(matches.headers.len()),
        Reverse(matches.query.len()),
        Reverse(matches.cookies.len()),
        Reverse(usize::from(!matches.client_ip.is_empty())),
        Reverse(usize::from(matches.when.is_some())),
    ];
    (Reverse(route.priority), kinds(routes, route), counts, matches.methods.is_empty())
}

fn kinds(routes: &[TestRoute], route: &TestRoute) -> Vec<Kind> {
    let segment = |segment: &str| match segment {
        _ if segment.starts_with("{*") => Kind::Rest,
        _ if segment.starts_with('{') => Kind::Parameter,
        _ => Kind::Literal(segment.to_owned()),
    };
    let condition = route.matches.path.as_ref().map(|path| &path.value);
    match condition {
        None => vec![Kind::Rest],
        Some(PathMatch::Pattern(pattern)) => pattern[1..].split('/').map(segment).collect(),
        Some(PathMatch::Prefix(prefix)) => {
            let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
            prefix.split('/').skip(1).map(segment).chain([Kind::Rest]).collect()
        }
        Some(PathMatch::Regex(text)) => {
            let first = routes
                .iter()
                .position(|other| other.matches.path.as_ref().map(|path| &path.value) == condition)
                .unwrap();
            let (_, literals) = EXPRESSIONS.iter().find(|(known, _)| known == text).unwrap();
            let literals = literals.iter().map(|literal| Kind::Literal((*literal).to_owned()));
            literals.chain([Kind::Regex(first)]).collect()
        }
    }
}
