//! The router against the naive matcher, on routes and requests so alike that they collide.

use std::collections::HashSet;
use std::net::IpAddr;

use daemun_config::diagnostic::{ROUTE_CONFLICT, ROUTE_UNREACHABLE};
use daemun_config::model::{IpNet, Match, PathMatch, ValueMatch};
use proptest::prelude::*;
use proptest::sample::select;

use super::super::path;
use super::naive::{self, EXPRESSIONS};
use super::{Answer, Request, TestRoute, ask, exact, regex, route, spanned, try_build};

const HOSTS: [&str; 6] = ["a.x", "*.x", "*.b.x", "b.x", "*", "*.y.x"];

fn path_condition() -> impl Strategy<Value = Option<PathMatch>> {
    let segment = || select(vec!["a", "b", "a", "b", "{}", "{}", "ab", ""]);
    let segments = prop::collection::vec(segment(), 1..5);
    let pattern = (segments.clone(), select(vec!["", "", "{*rest}"])).prop_map(|(segments, rest)| {
        let mut pattern = String::new();
        for (index, segment) in segments.iter().enumerate() {
            pattern.push('/');
            pattern.push_str(&segment.replace("{}", &format!("{{p{index}}}")));
        }
        if rest.is_empty() { pattern } else { format!("{pattern}/{rest}") }
    });
    let literals = prop::collection::vec(select(vec!["a", "b", ""]), 1..3);
    prop_oneof![
        6 => pattern.prop_map(|pattern| Some(PathMatch::Pattern(pattern))),
        2 => literals.prop_map(|segments| Some(PathMatch::Prefix(format!("/{}", segments.join("/"))))),
        2 => select(EXPRESSIONS.to_vec()).prop_map(|(text, _)| Some(PathMatch::Regex(text.to_owned()))),
        1 => Just(None),
    ]
}

fn value() -> impl Strategy<Value = ValueMatch> {
    prop_oneof![
        3 => select(vec!["1", "2"]).prop_map(exact),
        1 => Just(ValueMatch::OneOf(vec!["2".to_owned(), "1".to_owned()])),
        1 => Just(ValueMatch::Present),
        1 => Just(ValueMatch::Absent),
        1 => select(vec!["[12]", "1"]).prop_map(regex),
    ]
}

fn conditions(
    names: &'static [&'static str],
) -> impl Strategy<Value = Vec<(daemun_config::Spanned<String>, ValueMatch)>> {
    let some = prop::collection::vec((select(names), value()), 0..=2).prop_map(|list| {
        let mut seen = HashSet::new();
        list.into_iter()
            .filter(|(name, _)| seen.insert(*name))
            .map(|(name, value)| (spanned(name.to_owned()), value))
            .collect::<Vec<_>>()
    });
    prop_oneof![3 => Just(Vec::new()), 2 => some]
}

fn nets() -> impl Strategy<Value = Vec<IpNet>> {
    let net = select(vec![([10, 0, 0, 0], 8), ([10, 1, 0, 0], 16), ([192, 168, 0, 0], 16)])
        .prop_map(|(addr, prefix): ([u8; 4], u8)| IpNet { addr: IpAddr::from(addr), prefix });
    prop_oneof![4 => Just(Vec::new()), 1 => prop::collection::vec(net, 1..3)]
}

fn when() -> impl Strategy<Value = Option<&'static str>> {
    let some = select(vec![
        "request.header.x == '1'",
        "request.header.x != '1'",
        "request.query['q'] in ['1', '2'] && request.method != 'POST'",
        "has(request.cookie.c) || request.path.startsWith('/a')",
        "in_network(client.ip, '10.0.0.0/8')",
        "request.path.split('/').exists(part, part == 'b')",
        "params.exists(name, params[name] == 'a')",
    ]);
    prop_oneof![4 => Just(None), 1 => some.prop_map(Some)]
}

fn test_route() -> impl Strategy<Value = TestRoute> {
    let hosts = prop_oneof![2 => Just(Vec::new()), 3 => prop::collection::vec(select(HOSTS.to_vec()), 1..3)];
    let methods = prop_oneof![
        2 => Just(Vec::new()),
        2 => prop::collection::vec(select(vec!["GET", "POST", "HEAD", "BREW"]), 1..3),
    ];
    let conditions = (conditions(&["x", "y"]), conditions(&["q"]), conditions(&["c"]), nets(), when());
    let priority = prop_oneof![5 => Just(0), 1 => -1..=1];
    let keep = (prop::bool::weighted(0.2), prop::bool::weighted(0.3));
    (hosts, path_condition(), methods, conditions, priority, keep).prop_map(
        |(hosts, path, methods, (headers, query, cookies, client_ip, when), priority, (slashes, encoded_slash))| {
            TestRoute {
                matches: Match {
                    hosts: hosts.into_iter().map(|host| spanned(host.to_owned())).collect(),
                    path: path.map(spanned),
                    methods: methods.into_iter().map(|method| spanned(method.to_owned())).collect(),
                    headers,
                    query,
                    cookies,
                    client_ip,
                    when: when.map(|text| spanned(text.to_owned())),
                    body: None,
                },
                priority,
                keep_slashes: slashes,
                keep_encoded_slash: encoded_slash,
                ..route("")
            }
        },
    )
}

fn pairs(names: &'static [&'static str]) -> impl Strategy<Value = Vec<(String, String)>> {
    prop::collection::vec((select(names), select(vec!["1", "2", "3"])), 0..=2)
        .prop_map(|pairs| pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

fn test_request() -> impl Strategy<Value = Request> {
    let piece = select(vec!["/a", "/a", "/b", "/b", "/ab", "/", "//", "/%61", "/a%2Fb", "/b;v=1", "/.", "/a/..", "/c"]);
    let path = prop::collection::vec(piece, 1..5).prop_map(|pieces| pieces.concat());
    let host = select(vec!["a.x", "b.x", "c.b.x", "d.c.b.x", "x", "other", "q.y.x", ""]);
    let method = select(vec!["GET", "GET", "HEAD", "POST", "BREW", "DELETE", "STEEP"]);
    let ip = select(vec![[10, 0, 0, 1], [10, 1, 0, 1], [192, 168, 0, 1], [8, 8, 8, 8]]);
    (method, host, path, pairs(&["x", "y"]), pairs(&["q"]), pairs(&["c"]), ip).prop_map(
        |(method, host, path, headers, query, cookies, ip)| Request {
            method: method.to_owned(),
            host: host.to_owned(),
            path,
            headers,
            query,
            cookies,
            client_ip: IpAddr::from(ip),
        },
    )
}

/// The routes that can stand together: those without errors, the earlier of two that conflict. Gives the pairs that conflicted
/// and the routes that are said never to match.
fn compatible(mut routes: Vec<TestRoute>) -> (Vec<TestRoute>, Vec<(TestRoute, TestRoute)>, HashSet<String>) {
    for (index, route) in routes.iter_mut().enumerate() {
        route.name = spanned(format!("r{index}"));
    }
    let mut conflicts = Vec::new();
    loop {
        let (router, diagnostics) = try_build(&routes, false);
        let name = |path: &str| path.split('.').nth(1).unwrap().to_owned();
        if router.is_some() {
            let unreachable = diagnostics.iter().filter(|finding| finding.code == ROUTE_UNREACHABLE);
            return (routes, conflicts, unreachable.map(|finding| name(&finding.path)).collect());
        }
        let find = |name: &str| routes.iter().find(|route| route.name.value == name).unwrap().clone();
        for finding in diagnostics.iter().filter(|finding| finding.code == ROUTE_CONFLICT) {
            let other = finding.related[0].1.split('`').nth(1).unwrap();
            conflicts.push((find(other), find(&name(&finding.path))));
        }
        let bad: HashSet<String> = diagnostics.iter().map(|finding| name(&finding.path)).collect();
        routes.retain(|route| !bad.contains(&route.name.value));
    }
}

fn check(routes: &[TestRoute], unreachable: &HashSet<String>, requests: &[Request]) {
    for fall_through in [false, true] {
        let router = try_build(routes, fall_through).0.unwrap();
        for request in requests.iter().filter(|request| path::read(request.path.as_bytes(), &mut Vec::new()).is_ok()) {
            for preflight in [false, true] {
                // A preflight ignores conditions that tell routes apart, so that several may tie: the first in the file wins.
                if preflight && ties_without_conditions(routes) {
                    continue;
                }
                let mut expected = naive::answer(routes, request, fall_through, preflight);
                let own = ask(&router, request, preflight);
                if let (Answer::MethodNotAllowed(own), Answer::MethodNotAllowed(expected)) = (&own, &mut expected) {
                    assert_eq!(own.iter().collect::<HashSet<_>>().len(), own.len());
                    expected.sort_by_key(|method| own.iter().position(|other| other == method));
                }
                assert_eq!(
                    own, expected,
                    "{request:#?} {routes:#?} fall_through: {fall_through} preflight: {preflight}"
                );
                if let (Answer::Route { index, .. }, false) = (&own, preflight) {
                    assert!(!unreachable.contains(&routes[*index].name.value), "{request:?} {routes:#?}");
                }
            }
        }
    }
}

/// Whether two routes are told apart by the values of headers, query or cookies alone, or by expressions.
fn ties_without_conditions(routes: &[TestRoute]) -> bool {
    let bare: Vec<TestRoute> = routes
        .iter()
        .map(|route| {
            let mut bare = route.clone();
            let only_present = |list: &mut Vec<(daemun_config::Spanned<String>, ValueMatch)>| {
                list.iter_mut().for_each(|(_, value)| *value = ValueMatch::Present);
            };
            only_present(&mut bare.matches.headers);
            only_present(&mut bare.matches.query);
            only_present(&mut bare.matches.cookies);
            // a preflight is asked none
            if let Some(when) = &mut bare.matches.when {
                when.value = "true".to_owned();
            }
            bare
        })
        .collect();
    try_build(&bare, false).0.is_none()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_router_agrees_with_the_naive_matcher(
        routes in prop::collection::vec(test_route(), 1..12),
        requests in prop::collection::vec(test_request(), 12),
    ) {
        let (routes, _, unreachable) = compatible(routes);
        check(&routes, &unreachable, &requests);
    }

    #[test]
    fn paths_alone_agree_with_the_naive_matcher(
        paths in prop::collection::vec((path_condition(), 0..3_i32, any::<bool>()), 1..14),
        requests in prop::collection::vec(test_request(), 12),
    ) {
        let routes = paths.into_iter().map(|(path, priority, keep_slashes)| TestRoute {
            matches: Match { path: path.map(spanned), ..Match::default() },
            priority: priority / 2,
            keep_slashes,
            keep_encoded_slash: true,
            ..route("")
        });
        let (routes, _, unreachable) = compatible(routes.collect());
        check(&routes, &unreachable, &requests);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn routes_that_conflict_do_match_a_common_request(routes in prop::collection::vec(test_route(), 2..14)) {
        let (_, conflicts, _) = compatible(routes);
        for (one, other) in conflicts {
            prop_assert!(common_request(&one, &other), "{one:#?} {other:#?}");
        }
    }
}

/// Whether one of all small requests matches both routes; supposed of any two with an expression.
fn common_request(one: &TestRoute, other: &TestRoute) -> bool {
    if one.matches.when.is_some() || other.matches.when.is_some() {
        return true;
    }
    let mut one = one.clone();
    one.keep_encoded_slash = true;
    // Both have the same pattern: one path stands for all, but for empty segments that only one of them keeps.
    let takes = |route: &TestRoute, request: &Request| {
        matches!(naive::answer(std::slice::from_ref(route), request, false, false), Answer::Route { .. })
    };
    let names = |route: &TestRoute| route.matches.path.as_ref().map(|path| path.value.clone());
    let mut paths = vec!["/".to_owned()];
    for piece in ["/a", "/b", "/ab", "/"] {
        let longer: Vec<String> =
            paths.iter().filter(|path| path.len() < 9).map(|path| format!("{path}{piece}")).collect();
        paths.extend(longer);
    }
    for condition in [names(&one), names(other)].into_iter().flatten() {
        let (PathMatch::Pattern(text) | PathMatch::Prefix(text) | PathMatch::Regex(text)) = &condition;
        let text = text.replace("{*rest}", "a");
        let text: String =
            text.split('/').map(|piece| if piece.starts_with('{') { "/a" } else { piece }.to_owned() + "/").collect();
        paths.push(format!("/{}", text.trim_matches('/')).replace("///", "/").replace("//a", "/a"));
        paths.push(text.replace("//", "/").trim_end_matches('/').to_owned());
        paths.push(text.replace("//", "/"));
        paths.push("/a/a".into());
        paths.push("/b/a".into());
    }
    let bare = |route: &TestRoute| TestRoute {
        matches: Match { path: route.matches.path.clone(), ..Match::default() },
        ..route.clone()
    };
    let get = |path: &str| super::request("GET", "", path);
    let path = paths.iter().find(|path| {
        path.starts_with('/')
            && path::read(path.as_bytes(), &mut Vec::new()).is_ok()
            && takes(&bare(&one), &get(path))
            && takes(&bare(other), &get(path))
    });
    let Some(path) = path else { return one.keep_slashes != other.keep_slashes };
    let values = [None, Some("1"), Some("2")];
    let list = |names: [&str; 2], values: [Option<&str>; 2]| -> Vec<(String, String)> {
        names.iter().zip(values).filter_map(|(name, value)| Some(((*name).to_owned(), value?.to_owned()))).collect()
    };
    for host in ["a.x", "b.x", "c.b.x", "q.x", "other", "q.y.x"] {
        for method in ["GET", "POST", "HEAD", "BREW"] {
            for ip in [[10, 0, 0, 1], [10, 1, 0, 1], [192, 168, 0, 1], [8, 8, 8, 8]] {
                for (x, y) in values.iter().flat_map(|x| values.iter().map(move |y| (*x, *y))) {
                    for (q, c) in values.iter().flat_map(|q| values.iter().map(move |c| (*q, *c))) {
                        let request = Request {
                            headers: list(["x", "y"], [x, y]),
                            query: list(["q", ""], [q, None]),
                            cookies: list(["c", ""], [c, None]),
                            client_ip: IpAddr::from(ip),
                            ..super::request(method, host, path)
                        };
                        if takes(&one, &request) && takes(other, &request) {
                            return true;
                        }
                    }
                }
            }
        }
    }
    false
}
