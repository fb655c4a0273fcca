//! What the router says of a route table: mistakes, conflicts, routes without a use, and where requests fall through.

use daemun_config::diagnostic::{BAD_VALUE, ROUTE_CONFLICT, ROUTE_UNREACHABLE};
use daemun_config::model::ValueMatch;

use super::super::{Query, Verdict};
use super::{Request, TestRoute, build, exact, get, regex, request, route, try_build};

/// Codes of the findings, each with the route it is about.
fn findings(routes: &[TestRoute]) -> Vec<(&'static str, String)> {
    let (_, diagnostics) = try_build(routes, false);
    diagnostics.iter().map(|finding| (finding.code, finding.path.split('.').nth(1).unwrap().to_owned())).collect()
}

#[test]
fn every_mistake_in_a_pattern_is_found_at_once() {
    let mistakes = [
        (route("a").path("a/b"), "`a/b` does not begin with `/`"),
        (route("b").path("/a/{x}/{x}"), "the parameter `x` stands in the path twice"),
        (route("c").path("/{*rest}/a"), "`{*rest}` stands before the end"),
        (route("d").path("/a/x{y}"), "`x{y}` is not a whole parameter"),
        (route("e").path("/a/*"), "`*` has no meaning here"),
        (route("f").path("/a/:id"), "`:id` is not a parameter"),
        (route("g").path("/a//b"), "the path has an empty segment, which no request has after it was read"),
        (route("h").path("/a/../b"), "`..` is a dot segment, which no request has after it was read"),
        (route("i").path("/a;v=1"), "`a;v=1` holds `;`"),
        (route("j").path("/a%2fb"), "`a%2fb` holds `%2F`, which is refused"),
        (route("k").path("/a%2"), "the path has a `%` without two hexadecimal digits behind it"),
        (route("l").path("/a?b"), "the path holds the byte 0x3F, which must be encoded"),
        (route("m").prefix("/a/{*rest}"), "a prefix cannot hold `{*rest}`: it has a remainder already"),
        (route("n").regex("/a/(b"), "`/a/(b` is not a regular expression: unclosed group"),
        (route("o").regex("/a)|(/b"), "`/a)|(/b` is not a regular expression: unopened group"),
        (route("p").path("/{1x}"), "`1x` is not the name of a parameter"),
        (route("q").path("/{}"), "`` is not the name of a parameter"),
        (route("r").path(&"/a".repeat(129)), "the path has more than 128 segments"),
        (route("s").regex("/(a{1000}){1000}"), "`/(a{1000}){1000}` needs more than 262144 bytes when compiled"),
        (route("t").header("h", regex("[")), "`[` is not a regular expression: unclosed character class"),
        (route("u").host("a.*.b"), "`a.*.b` is not a host name or `*.` and one"),
        (route("v").path("/%2e%2E/a"), "`%2e%2E` is a dot segment, which no request has after it was read"),
        (route("w").path(r"/a\b"), "the path holds a backslash"),
    ];
    let routes: Vec<TestRoute> = mistakes.iter().map(|(route, _)| route.clone()).collect();
    let (router, diagnostics) = try_build(&routes, false);
    assert!(router.is_none());
    let messages: Vec<&str> = diagnostics.iter().map(|finding| finding.message.as_str()).collect();
    let expected: Vec<&str> = mistakes.iter().map(|(_, message)| *message).collect();
    assert_eq!(messages, expected);
    assert!(diagnostics.iter().all(|finding| finding.code == BAD_VALUE));
}

#[test]
fn patterns_have_bounds() {
    let parameters = |count: usize| (0..count).map(|index| format!("/{{p{index}}}")).collect::<String>();
    assert!(findings(&[route("r").path(&parameters(16))]).is_empty());
    assert_eq!(findings(&[route("r").path(&parameters(17))]), [(BAD_VALUE, "r".to_owned())]);
    assert_eq!(findings(&[route("r").path(&format!("/{}", "a".repeat(9_000)))]), [(BAD_VALUE, "r".to_owned())]);
    let methods: Vec<TestRoute> =
        (0..60).map(|index| route(&format!("r{index}")).method(&format!("M{index}"))).collect();
    assert_eq!(findings(&methods).len(), 6);
}

#[test]
fn two_routes_that_no_rule_tells_apart_conflict() {
    let conflict = |one: TestRoute, other: TestRoute| {
        let (_, diagnostics) = try_build(&[one, other], false);
        let found: Vec<_> = diagnostics.iter().map(|finding| finding.code).collect();
        assert!(found.is_empty() || found == [ROUTE_CONFLICT], "{diagnostics:?}");
        !found.is_empty()
    };
    let a = || route("a").path("/a/{x}");
    let b = || route("b").path("/a/{y}");
    assert!(conflict(a(), b()));
    assert!(conflict(route("a").prefix("/a/"), route("b").path("/a/{*rest}")));
    assert!(conflict(route("a").prefix("/a"), route("b").path("/a/{*rest}")));
    assert!(conflict(route("a"), route("b").prefix("/")));
    assert!(conflict(a().host("x").host("y"), b().host("z").host("y")));
    assert!(conflict(a().method("GET"), b().method("HEAD")));
    assert!(conflict(a().header("h", exact("1")), b().header("i", exact("1"))));
    assert!(conflict(a().header("h", exact("1")), b().header("h", ValueMatch::Present)));
    assert!(conflict(a().header("h", exact("1")), b().header("h", regex("[0-9]"))));
    assert!(conflict(a().header("h", regex("a.*")), b().header("h", regex(".*b"))));
    assert!(conflict(a().client_ip([10, 0, 0, 0], 8), b().client_ip([10, 1, 0, 0], 16)));
    assert!(conflict(a().when("request.header.h == '1'"), b().when("request.header.i == '1'")));
    assert!(conflict(a().when("request.header.h == '1'"), b().when("request.header.h == '1' || true")));
    assert!(conflict(a().when("request.header.h != '1'"), b().when("request.header.h != '2'")));
    assert!(conflict(a(), b().keep_slashes().keep_encoded_slash()));
    assert!(conflict(route("a").regex("/a/.*x"), route("b").regex("/a/.*x")));

    assert!(!conflict(a(), b().priority(1).method("GET")));
    assert!(!conflict(a(), b().host("x")));
    assert!(!conflict(a(), b().method("GET")));
    assert!(!conflict(a().method("GET"), b().method("POST")));
    assert!(!conflict(a().header("h", exact("1")), b().header("h", exact("2"))));
    assert!(!conflict(a().header("h", exact("1")), b().header("h", ValueMatch::OneOf(vec!["2".into(), "3".into()]))));
    assert!(!conflict(a().header("h", exact("a")), b().header("h", regex("[0-9]"))));
    assert!(!conflict(a().query("q", ValueMatch::Present), b().query("q", ValueMatch::Absent)));
    assert!(!conflict(a().cookie("c", exact("1")), b().query("c", exact("1"))));
    assert!(!conflict(
        a().when("request.header.h == '1'"),
        b().when("'2' == request.header['H'] && request.path != ''")
    ));
    assert!(!conflict(
        a().when("request.method in ['A', 'B']"),
        b().when("request.method != 'A' && request.method == 'C'")
    ));
    assert!(!conflict(a().when("request.header.h == '1'"), b().when("!(request.header.h == '1')")));
    assert!(!conflict(a().when("true"), b()));
    assert!(!conflict(a().when("true"), b().when("request.header.h == '1'").priority(1)));
    assert!(!conflict(a().client_ip([10, 0, 0, 0], 8), b().client_ip([192, 168, 0, 0], 16)));
    assert!(!conflict(route("a").regex("/a/.*x"), route("b").regex("/a/.*y")));
}

#[test]
fn a_conflict_shows_both_places_and_is_reported_once() {
    let hosts = |name| route(name).host("x").host("y").path("/a");
    let (_, diagnostics) = try_build(&[hosts("first"), hosts("second")], false);
    let finding = diagnostics.iter().next().unwrap();
    assert_eq!(diagnostics.len(), 1);
    assert_eq!(finding.path, "routes.second.match");
    assert_eq!(finding.message, "this route and `first` match the same requests of x, and no rule says which wins");
    assert_eq!(finding.related[0].1, "`first` is here");
}

#[test]
fn conflicts_among_many_routes_are_found() {
    let tenant = |index: usize| {
        route(&format!("r{index}")).path("/a").header("tenant", exact(&format!("t{index}"))).header("v", exact("1"))
    };
    let mut routes: Vec<TestRoute> = (0..500).map(tenant).collect();
    assert!(findings(&routes).is_empty());
    let mut twin = tenant(250);
    twin.name.value = "twin".into();
    routes.push(twin);
    routes.push(route("wide").path("/a").header("tenant", regex("t7.?")).header("v", exact("1")));
    let found = findings(&routes);
    assert!(
        found.contains(&(ROUTE_CONFLICT, "twin".into())) && found.contains(&(ROUTE_CONFLICT, "wide".into())),
        "{found:?}"
    );
}

#[test]
fn a_route_that_another_takes_everything_from_is_a_warning() {
    let unreachable = |routes: &[TestRoute]| -> Vec<String> {
        let found = findings(routes);
        assert!(found.iter().all(|(code, _)| *code == ROUTE_UNREACHABLE), "{found:?}");
        found.into_iter().map(|(_, name)| name).collect()
    };
    let loud = || route("loud").prefix("/a").priority(1);
    assert_eq!(unreachable(&[loud(), route("b").path("/a/b"), route("c").path("/c")]), ["b"]);
    assert_eq!(unreachable(&[loud(), route("b").path("/{x}/b")]), [""; 0]);
    assert_eq!(unreachable(&[loud().method("GET"), route("b").path("/a/b")]), [""; 0]);
    assert_eq!(unreachable(&[loud().method("GET"), route("b").path("/a/b").method("HEAD")]), ["b"]);
    assert_eq!(unreachable(&[loud().host("x"), route("b").path("/a/b")]), [""; 0]);
    assert_eq!(unreachable(&[loud().host("x"), route("b").path("/a/b").host("x").host("y")]), [""; 0]);
    assert_eq!(unreachable(&[loud().host("x").host("y"), route("b").path("/a/b").host("x").host("y")]), ["b"]);
    let with_header = || loud().header("h", ValueMatch::Present);
    assert_eq!(unreachable(&[with_header(), route("b").path("/a/b").header("h", exact("1"))]), ["b"]);
    assert_eq!(unreachable(&[with_header(), route("b").path("/a/b").header("i", exact("1"))]), [""; 0]);
    let near = |name, bits| route(name).prefix("/a").client_ip([10, 0, 0, 0], bits);
    assert_eq!(unreachable(&[near("loud", 8).priority(1), near("b", 16)]), ["b"]);
    assert_eq!(unreachable(&[near("loud", 16).priority(1), near("b", 8)]), [""; 0]);
    let rest = route("loud").path("/a/{*rest}").priority(1);
    assert_eq!(unreachable(&[rest.clone(), route("b").prefix("/a")]), [""; 0]);
    assert_eq!(unreachable(&[rest.clone(), route("b").prefix("/a/")]), ["b"]);
    assert_eq!(unreachable(&[rest, route("b").regex("/a/.*x.*")]), ["b"]);
}

#[test]
fn an_expression_for_one_segment_behind_a_parameter_is_a_warning() {
    let parameter = || route("parameter").path("/a/{x}");
    for (regex, shadowed) in [
        ("/a/[0-9]+", true),
        ("^/a/(new|old)$", true),
        ("/a/[^/]+", true),
        ("/a/[0-9]*", false),
        ("/a/.+", false),
        ("/a/[0-9]+/?", false),
        ("/[ab]/[0-9]+", false),
    ] {
        let found = findings(&[route("regex").regex(regex), parameter()]);
        assert_eq!(found == [(ROUTE_UNREACHABLE, "regex".to_owned())], shadowed, "{regex}");
    }
    assert!(findings(&[route("regex").regex("/a/[0-9]+"), parameter().method("GET")]).is_empty());
}

#[test]
fn a_request_that_fails_only_a_route_s_conditions_falls_through_to_the_next_wider_one() {
    let routes = [
        route("post").host("x").path("/a/{id}").method("POST"),
        route("get").host("x").path("/a/{id}").method("GET"),
        route("get-beta").host("x").path("/a/{id}").method("GET").header("beta", exact("1")),
        route("prefix").host("x").prefix("/a"),
        route("all").host("x").priority(-1),
        route("wild").host("*").path("/a/{id}"),
        route("lone").host("x").path("/b").method("GET").priority(-2),
        route("version").host("y").path("/v").header("v", exact("1")),
        route("version-2").host("y").path("/v").header("v", exact("2")),
        route("regex").host("z").regex("/r/.*[0-9]").method("GET"),
        route("regex-rest").host("z").prefix("/r"),
    ];
    let pairs = |fall_through: bool| -> Vec<String> {
        let router = try_build(&routes, fall_through).0.unwrap();
        let name = |index: u32| routes[index as usize].name.value.as_str();
        let pairs = router.fall_through(routes.iter().map(TestRoute::spec));
        pairs.iter().map(|pair| format!("{} → {}", name(pair.route), name(pair.next))).collect()
    };
    assert_eq!(pairs(false), ["post → prefix", "get → prefix", "get-beta → get", "regex → regex-rest"]);
    let routes_under_any = [route("exact").host("x").path("/a/b").method("GET"), route("any").path("/a/{id}")];
    let router = try_build(&routes_under_any, true).0.unwrap();
    assert_eq!(router.fall_through(routes_under_any.iter().map(TestRoute::spec)).len(), 1);
    let router = build(&routes_under_any);
    assert!(router.fall_through(routes_under_any.iter().map(TestRoute::spec)).is_empty());
}

#[test]
fn an_explanation_says_why_each_route_was_passed_over() {
    let routes = [
        route("prefix").host("x").prefix("/a"),
        route("post").host("x").path("/a/{id}").method("POST"),
        route("beta").host("x").path("/a/{id}").header("beta", exact("1")).cookie("c", exact("1")),
        route("near").host("x").path("/a/{id}").client_ip([10, 0, 0, 0], 8),
        route("taken").host("x").path("/{*rest}").priority(1).method("GET"),
        route("other").host("x").path("/b"),
        route("elsewhere"),
    ];
    let router = build(&routes);
    let explain = |request: &Request| {
        let (reading, buffer) = request.read();
        let path = reading.view(request.path.as_bytes(), &buffer);
        let query = Query { host: request.host.as_bytes(), path: &path, method: &request.method, request };
        let explanation = router.explain(&query);
        let lines = explanation.considered.iter().map(|considered| {
            let verdict = match &considered.verdict {
                Verdict::Condition(condition) => format!("{condition:?}"),
                verdict => format!("{verdict:?}"),
            };
            format!("{} {} {verdict}", considered.host, routes[considered.route as usize].name.value)
        });
        lines.collect::<Vec<_>>()
    };
    assert_eq!(
        explain(&request("DELETE", "x", "/a/7").header("beta", "1")),
        ["x taken Method", "x beta Cookie(\"c\")", "x near ClientIp", "x post Method", "x prefix Taken"]
    );
    assert_eq!(explain(&request("GET", "x", "/a/7"))[..2], ["x taken Taken", "x beta Header(\"beta\")"]);
    assert_eq!(explain(&request("GET", "x", "/a/7")).last().unwrap(), "x prefix Outranked");
    assert_eq!(explain(&get("/a/7")), ["* elsewhere Taken"]);
}
