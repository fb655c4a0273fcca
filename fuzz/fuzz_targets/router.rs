//! The router against the naive matcher, on routes and requests so alike that they collide.
#![no_main]

use std::collections::HashSet;
use std::net::IpAddr;

use arbitrary::{Result, Unstructured};
use daemun_config::Spanned;
use daemun_config::diagnostic::ROUTE_UNREACHABLE;
use daemun_config::model::{IpNet, Match, PathMatch, ValueMatch};
use daemun_dataplane::router::{Router, path};
use daemun_fuzz::table::{Answer, Request, TestRoute, ask, ask_naively, build, expressions, spanned};
use libfuzzer_sys::fuzz_target;

type Values = Vec<(Spanned<String>, ValueMatch)>;

const HOSTS: [&str; 7] = ["a.x", "*.x", "*.b.x", "b.x", "*", "*.y.x", "c.b.x"];
const SEGMENTS: [&str; 9] = ["a", "b", "{}", "{}", "ab", "", "a%2Fb", "~", "%3A"];
const METHODS: [&str; 5] = ["GET", "POST", "HEAD", "BREW", "OPTIONS"];
const NETS: [([u8; 4], u8); 5] =
    [([10, 0, 0, 0], 8), ([10, 1, 0, 0], 16), ([192, 168, 0, 0], 16), ([0, 0, 0, 0], 0), ([8, 8, 8, 8], 32)];
const ADDRESSES: [[u8; 4]; 4] = [[10, 0, 0, 1], [10, 1, 0, 1], [192, 168, 0, 1], [8, 8, 8, 8]];

const ASKED_HOSTS: [&str; 8] = ["a.x", "b.x", "c.b.x", "d.c.b.x", "x", "other", "q.y.x", ""];
const ASKED_METHODS: [&str; 7] = ["GET", "HEAD", "POST", "BREW", "DELETE", "STEEP", "OPTIONS"];
const PIECES: [&str; 18] = [
    "/a", "/b", "/ab", "/", "//", "/%61", "/a%2Fb", "/b;v=1", "/.", "/a/..", "/c", "/~", "/%7e", "/%3a", "/..", "/a;",
    "/b;/", "/%2e%2e",
];

fuzz_target!(|data: &[u8]| {
    let _ = run(&mut Unstructured::new(data));
});

/// Ends where the input does.
fn run(input: &mut Unstructured<'_>) -> Result<()> {
    let count = input.int_in_range(1..=12)?;
    let routes = (0..count).map(|index| route(index, input)).collect::<Result<Vec<_>>>()?;
    let (routes, router, unreachable) = compatible(routes);
    // A preflight ignores conditions that tell routes apart, so that several may tie: the first in the file wins.
    let preflights = if tie_without_conditions(&routes) { &[false][..] } else { &[false, true] };
    let routers = [router, build(&routes, true).0.expect("it makes no difference to what stands together")];
    loop {
        let request = request(input)?;
        if path::read(request.path.as_bytes(), &mut Vec::new()).is_err() {
            continue;
        }
        for (router, fall_through) in routers.iter().zip([false, true]) {
            for &preflight in preflights {
                let answer = ask(router, &request, preflight);
                let expected = ask_naively(&routes, &request, fall_through, preflight);
                assert_eq!(
                    answer, expected,
                    "{request:#?} {routes:#?} fall_through: {fall_through} preflight: {preflight}"
                );
                if let (Answer::Route { index, .. }, false) = (&answer, preflight) {
                    let name = &routes[*index].name.value;
                    assert!(!unreachable.contains(name), "{name} is said never to match: {request:#?} {routes:#?}");
                }
            }
        }
    }
}

/// The routes that can stand together, the earlier of two that conflict, their router, and the names of those that are said never to match.
fn compatible(mut routes: Vec<TestRoute>) -> (Vec<TestRoute>, Router, HashSet<String>) {
    loop {
        let (router, diagnostics) = build(&routes, false);
        let name = |path: &str| path.split('.').nth(1).unwrap_or_default().to_owned();
        if let Some(router) = router {
            let found = diagnostics.iter().filter(|finding| finding.code == ROUTE_UNREACHABLE);
            return (routes, router, found.map(|finding| name(&finding.path)).collect());
        }
        let bad: HashSet<String> = diagnostics.iter().map(|finding| name(&finding.path)).collect();
        let before = routes.len();
        routes.retain(|route| !bad.contains(&route.name.value));
        assert!(routes.len() < before, "an error names no route: {diagnostics:#?}");
    }
}

/// Whether two routes are told apart by the values of headers, query or cookies alone.
fn tie_without_conditions(routes: &[TestRoute]) -> bool {
    let mut routes = routes.to_vec();
    let mut changed = false;
    for matches in routes.iter_mut().map(|route| &mut route.matches) {
        for (_, value) in matches.headers.iter_mut().chain(&mut matches.query).chain(&mut matches.cookies) {
            *value = ValueMatch::Present;
            changed = true;
        }
    }
    changed && build(&routes, false).0.is_none()
}

fn route(index: usize, input: &mut Unstructured<'_>) -> Result<TestRoute> {
    let matches = Match {
        hosts: some(input, 2, |input| Ok(spanned(choose(input, &HOSTS)?)))?,
        path: path_condition(input)?.map(spanned),
        methods: some(input, 2, |input| Ok(spanned(choose(input, &METHODS)?)))?,
        headers: values(input, &["x", "y"])?,
        query: values(input, &["q"])?,
        cookies: values(input, &["c"])?,
        client_ip: some(input, 2, |input| {
            let (addr, prefix) = *input.choose(&NETS)?;
            Ok(IpNet { addr: IpAddr::from(addr), prefix })
        })?,
        when: None,
        body: None,
    };
    let priority = if input.ratio(1, 6)? { input.int_in_range(-1..=1)? } else { 0 };
    let name = spanned(format!("r{index}"));
    Ok(TestRoute { name, matches, priority, keep_slashes: input.ratio(1, 4)?, keep_encoded_slash: input.ratio(1, 3)? })
}

fn path_condition(input: &mut Unstructured<'_>) -> Result<Option<PathMatch>> {
    let segments = |input: &mut Unstructured<'_>, most| -> Result<String> {
        let count = input.int_in_range(1..=most)?;
        let numbered = |index| Ok(input.choose(&SEGMENTS)?.replace("{}", &format!("{{p{index}}}")));
        let segments = (0..count).map(numbered).collect::<Result<Vec<_>>>()?;
        Ok(format!("/{}", segments.join("/")))
    };
    Ok(match input.int_in_range(0..=6)? {
        0 => None,
        1 => Some(PathMatch::Prefix(segments(input, 2)?.replace(['{', '}'], ""))),
        2 => Some(PathMatch::Regex(choose(input, &expressions().collect::<Vec<_>>())?)),
        3 => Some(PathMatch::Pattern(format!("{}/{{*rest}}", segments(input, 4)?))),
        _ => Some(PathMatch::Pattern(segments(input, 4)?)),
    })
}

fn values(input: &mut Unstructured<'_>, names: &[&str]) -> Result<Values> {
    let mut values: Values = some(input, 2, |input| {
        let value = match input.int_in_range(0..=7)? {
            0 => ValueMatch::OneOf(vec!["2".to_owned(), "1".to_owned()]),
            1 => ValueMatch::Present,
            2 => ValueMatch::Absent,
            3 => ValueMatch::Regex(spanned("[12]".to_owned())),
            4 => ValueMatch::Regex(spanned("1".to_owned())),
            5 => ValueMatch::Exact("1".to_owned()),
            _ => ValueMatch::Exact("2".to_owned()),
        };
        Ok((spanned(choose(input, names)?), value))
    })?;
    let mut seen = HashSet::new();
    values.retain(|(name, _)| seen.insert(name.value.clone()));
    Ok(values)
}

fn request(input: &mut Unstructured<'_>) -> Result<Request> {
    let pieces = input.int_in_range(1..=4)?;
    let path = (0..pieces).map(|_| Ok(*input.choose(&PIECES)?)).collect::<Result<String>>()?;
    let mut pairs =
        |names: &[&str]| some(input, 2, |input| Ok((choose(input, names)?, choose(input, &["1", "2", "3"])?)));
    let (headers, query, cookies) = (pairs(&["x", "y"])?, pairs(&["q"])?, pairs(&["c"])?);
    let client_ip = IpAddr::from(*input.choose(&ADDRESSES)?);
    let (host, method) = (choose(input, &ASKED_HOSTS)?, choose(input, &ASKED_METHODS)?);
    if input.is_empty() {
        Err(arbitrary::Error::NotEnoughData)
    } else {
        Ok(Request { method, host, path, headers, query, cookies, client_ip })
    }
}

fn choose(input: &mut Unstructured<'_>, texts: &[&str]) -> Result<String> {
    Ok((*input.choose(texts)?).to_owned())
}

/// None as often as some, at most `most`.
fn some<T>(
    input: &mut Unstructured<'_>,
    most: usize,
    mut one: impl FnMut(&mut Unstructured<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let count = if input.ratio(1, 2)? { 0 } else { input.int_in_range(1..=most)? };
    (0..count).map(|_| one(input)).collect()
}
