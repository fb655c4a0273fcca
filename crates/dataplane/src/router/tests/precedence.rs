//! The rules of precedence, by example.

use daemun_config::model::ValueMatch;

use super::{Answer, Request, TestRoute, ask, build, exact, get, regex, request, route, taken, try_build};

fn expect(routes: &[TestRoute], cases: &[(Request, &str)]) {
    let router = build(routes);
    for (request, name) in cases {
        assert_eq!(taken(routes, &router, request), *name, "{request:?}");
    }
}

#[test]
fn the_exact_host_wins_then_the_longest_wildcard_then_any() {
    let routes = [
        route("any"),
        route("short").host("*.com"),
        route("long").host("*.example.com"),
        route("exact").host("api.example.com"),
    ];
    expect(
        &routes,
        &[
            (request("GET", "api.example.com", "/"), "exact"),
            (request("GET", "api.example.com.", "/"), "exact"),
            (request("GET", "www.example.com", "/"), "long"),
            (request("GET", "a.b.example.com", "/"), "long"),
            (request("GET", "example.com", "/"), "short"),
            (request("GET", "com", "/"), "any"),
            (request("GET", "", "/"), "any"),
        ],
    );
}

#[test]
fn the_best_host_that_has_any_route_decides() {
    let routes = [route("exact").host("a.x").path("/a"), route("wild").host("*.x").path("/b"), route("any").path("/c")];
    let cases = [("/a", "exact", "exact"), ("/b", "404", "wild"), ("/c", "404", "any"), ("/d", "404", "404")];
    let strict = build(&routes);
    let (falling, _) = try_build(&routes, true);
    for (path, without, with) in cases {
        let request = request("GET", "a.x", path);
        assert_eq!(taken(&routes, &strict, &request), without);
        assert_eq!(taken(&routes, falling.as_ref().unwrap(), &request), with);
    }
}

#[test]
fn priority_decides_between_routes_of_equal_host_rank_only() {
    let routes = [
        route("literal").host("a.x").path("/a/b"),
        route("loud").host("a.x").prefix("/a").method("GET").priority(1),
        route("quiet").host("a.x").path("/{*rest}").priority(-1),
        route("wild").host("*.x").priority(9),
    ];
    expect(
        &routes,
        &[
            (request("GET", "a.x", "/a/b"), "loud"),
            (request("POST", "a.x", "/a/b"), "literal"),
            (request("POST", "a.x", "/a/c"), "quiet"),
            (request("GET", "b.x", "/a/b"), "wild"),
        ],
    );
}

#[test]
fn segments_are_compared_from_the_left() {
    let routes = [
        route("rest").path("/{*rest}"),
        route("xb").path("/{x}/b"),
        route("ay").path("/a/{y}"),
        route("ab").path("/a/b"),
        route("regex").regex("/a/[a-z]+/[0-9]+"),
        route("prefix").prefix("/a"),
        route("root").path("/"),
    ];
    expect(
        &routes,
        &[
            (get("/a/b"), "ab"),
            (get("/a/c"), "ay"),
            (get("/c/b"), "xb"),
            (get("/a"), "prefix"),
            (get("/a/"), "prefix"),
            (get("/a/c/7"), "regex"),
            (get("/a/c/d"), "prefix"),
            (get("/ab"), "rest"),
            (get("/"), "root"),
            (get("/c"), "rest"),
        ],
    );
}

#[test]
fn a_literal_that_leads_nowhere_gives_way_to_a_parameter() {
    let routes = [route("lit").path("/a/b/c"), route("par").path("/{x}/b/d"), route("mix").path("/a/{y}/e")];
    expect(&routes, &[(get("/a/b/c"), "lit"), (get("/a/b/d"), "par"), (get("/a/b/e"), "mix"), (get("/a/b/f"), "404")]);
}

#[test]
fn a_prefix_matches_whole_segments_and_a_remainder_needs_its_slash() {
    let routes = [route("prefix").prefix("/p"), route("slash").prefix("/s/"), route("rest").path("/r/{*rest}")];
    expect(
        &routes,
        &[
            (get("/p"), "prefix"),
            (get("/p/"), "prefix"),
            (get("/p/x/y"), "prefix"),
            (get("/px"), "404"),
            (get("/s"), "404"),
            (get("/s/"), "slash"),
            (get("/s/x"), "slash"),
            (get("/r"), "404"),
            (get("/r/"), "rest"),
            (get("/r/x/y/"), "rest"),
        ],
    );
}

#[test]
fn a_slash_at_the_end_matters() {
    let routes =
        [route("without").path("/a"), route("with").path("/b/"), route("both").path("/c"), route("both/").path("/c/")];
    expect(
        &routes,
        &[
            (get("/a"), "without"),
            (get("/a/"), "404"),
            (get("/b"), "404"),
            (get("/b/"), "with"),
            (get("/c"), "both"),
            (get("/c/"), "both/"),
        ],
    );
}

#[test]
fn a_parameter_takes_one_segment_that_is_not_empty() {
    let routes = [route("r").path("/a/{x}").keep_slashes(), route("s").path("/a/{x}/{y}").keep_slashes()];
    expect(
        &routes,
        &[(get("/a/b"), "r"), (get("/a/"), "404"), (get("/a"), "404"), (get("/a//b"), "404"), (get("/a/b/c"), "s")],
    );
}

#[test]
fn expressions_match_the_whole_path_and_win_in_file_order() {
    let routes = [
        route("digits").regex("/v[0-9]+/.*"),
        route("any-version").regex("^/v.+/items$"),
        route("quoted").regex(r"/file\.txt"),
        route("prefix").prefix("/v1"),
        route("rest"),
    ];
    expect(
        &routes,
        &[
            (get("/v2/items"), "digits"),
            (get("/vx/items"), "any-version"),
            (get("/vx/items/"), "rest"),
            (get("/x/v2/items"), "rest"),
            (get("/file.txt"), "quoted"),
            (get("/filextxt"), "rest"),
            // `/v1` is a literal, and a literal comes before an expression that begins in the middle of a segment.
            (get("/v1/items"), "prefix"),
        ],
    );
}

#[test]
fn an_expression_is_compared_behind_the_whole_segments_it_begins_with() {
    let routes = [
        route("prefix").prefix("/products"),
        route("deeper").prefix("/products/items"),
        route("regex").regex("/products/[a-z]+/[0-9]+"),
        route("parameter").path("/products/{kind}/new"),
    ];
    expect(
        &routes,
        &[
            (get("/products/tools/7"), "regex"),
            (get("/products/items/7"), "deeper"),
            (get("/products/tools/new"), "parameter"),
            (get("/products/tools"), "prefix"),
        ],
    );
}

#[test]
fn more_conditions_of_an_earlier_kind_win() {
    let routes = [
        route("none").path("/a"),
        route("method").path("/a").method("GET"),
        route("ip").path("/a").client_ip([127, 0, 0, 0], 8),
        route("cookie").path("/a").cookie("c", ValueMatch::Present),
        route("query").path("/a").query("q", exact("1")),
        route("header").path("/a").header("h", exact("1")),
        route("headers").path("/a").header("h", exact("1")).header("i", regex("[0-9]")),
    ];
    let with = |header: bool, query: bool, cookie: bool| {
        let mut request = get("/a");
        request.headers.extend(header.then(|| ("h".to_owned(), "1".to_owned())));
        request.query.extend(query.then(|| ("q".to_owned(), "1".to_owned())));
        request.cookies.extend(cookie.then(|| ("c".to_owned(), "x".to_owned())));
        request
    };
    let far = Request { client_ip: [8, 8, 8, 8].into(), ..get("/a") };
    expect(
        &routes,
        &[
            (with(true, true, true), "header"),
            (with(true, true, true).header("i", "7"), "headers"),
            (with(true, true, true).header("i", "77"), "header"),
            (with(false, true, true), "query"),
            (with(false, false, true), "cookie"),
            (with(false, false, false), "ip"),
            (far.clone(), "method"),
            (Request { method: "PUT".into(), ..far }, "none"),
        ],
    );
}

#[test]
fn a_repeated_field_fulfils_a_condition_only_with_all_its_values() {
    let routes = [
        route("one").path("/a").header("v", exact("1")),
        route("two").path("/a").header("v", exact("2")),
        route("none").path("/a").header("v", ValueMatch::Absent),
        route("else").path("/a"),
    ];
    expect(
        &routes,
        &[
            (get("/a").header("v", "1"), "one"),
            (get("/a").header("v", "1").header("v", "1"), "one"),
            (get("/a").header("v", "1").header("v", "2"), "else"),
            (get("/a").header("v", "3"), "else"),
            (get("/a"), "none"),
        ],
    );
}

#[test]
fn get_includes_head_and_405_says_what_is_allowed() {
    let routes = [
        route("get").path("/a").method("GET"),
        route("post").path("/a").method("POST").method("BREW"),
        route("header").path("/a").method("PUT").header("h", exact("1")),
        route("wide").path("/b/{x}"),
        route("deep").path("/b/c").method("DELETE"),
    ];
    let router = build(&routes);
    assert_eq!(taken(&routes, &router, &request("HEAD", "x", "/a")), "get");
    assert_eq!(taken(&routes, &router, &request("BREW", "x", "/a")), "post");
    assert_eq!(taken(&routes, &router, &request("get", "x", "/a")), "405");
    let allowed = |request: &Request| match ask(&router, request, false) {
        Answer::MethodNotAllowed(methods) => methods.join(", "),
        other => panic!("{other:?}"),
    };
    assert_eq!(allowed(&request("DELETE", "x", "/a")), "GET, HEAD, POST, BREW");
    assert_eq!(allowed(&request("DELETE", "x", "/a").header("h", "1")), "GET, HEAD, POST, PUT, BREW");
    assert_eq!(taken(&routes, &router, &request("GET", "x", "/b/c")), "wide");
    assert_eq!(taken(&routes, &router, &request("DELETE", "x", "/c")), "404");
}

#[test]
fn a_preflight_is_matched_by_the_method_it_asks_for_without_conditions_it_cannot_carry() {
    let routes = [
        route("put").path("/a").method("PUT").header("h", exact("1")).query("q", exact("1")).cookie("c", exact("1")),
        route("near").path("/a").method("POST").client_ip([10, 0, 0, 0], 8),
        route("options").path("/a").method("OPTIONS"),
    ];
    let router = build(&routes);
    let index = |request: &Request| match ask(&router, request, true) {
        Answer::Route { index, .. } => index,
        other => panic!("{other:?}"),
    };
    assert_eq!(index(&request("PUT", "x", "/a")), 0);
    assert_eq!(index(&Request { client_ip: [10, 0, 0, 1].into(), ..request("POST", "x", "/a") }), 1);
    assert_eq!(
        ask(&router, &request("POST", "x", "/a"), true),
        Answer::MethodNotAllowed(vec!["PUT".into(), "OPTIONS".into()])
    );
}

#[test]
fn parameters_take_what_is_forwarded() {
    let routes = [
        route("two").path("/a/{x}/{y-1}"),
        route("rest").path("/f/{id}/{*rest}"),
        route("prefix").prefix("/t/{tenant}"),
        route("regex").regex("/r/(?<year>[0-9]+)-(?<month>[0-9]+)?x"),
    ];
    let router = build(&routes);
    let parameters = |path: &str| match ask(&router, &get(path), false) {
        Answer::Route { parameters, .. } => {
            parameters.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        }
        other => panic!("{other:?} for {path}"),
    };
    assert_eq!(parameters("/a/%61b/c%20d"), "x=ab y-1=c%20d");
    assert_eq!(parameters("/a/b;v=1/c"), "x=b;v=1 y-1=c");
    assert_eq!(parameters("/f;u/7;v/a/b;w/"), "id=7;v rest=a/b;w/");
    assert_eq!(parameters("/f/7/"), "id=7 rest=");
    assert_eq!(parameters("/t/acme/x"), "tenant=acme");
    assert_eq!(parameters("/r/2024-05x"), "year=2024 month=05");
    assert_eq!(parameters("/r/2024-x"), "year=2024 month=");
    assert_eq!(parameters("/r;u/2024-x;v"), "year=2024 month=");
}

#[test]
fn an_encoded_slash_is_refused_unless_the_route_it_leads_to_keeps_it() {
    let routes = [
        route("open").path("/{*rest}").keep_encoded_slash(),
        route("closed").path("/admin/{x}").method("GET"),
        route("literal").path("/g/a%2fb").keep_encoded_slash(),
    ];
    let router = build(&routes);
    for (path, name) in
        [("/admin/a%2Fb", "400"), ("/x/a%2Fb", "open"), ("/g/a%2Fb", "literal"), ("/admin/ab", "closed")]
    {
        assert_eq!(taken(&routes, &router, &get(path)), name);
    }
    let closed = [route("a").path("/a/{x}").method("POST")];
    let router = build(&closed);
    assert_eq!(taken(&closed, &router, &get("/a/b%2Fc")), "400");
    assert_eq!(taken(&closed, &router, &get("/b%2Fc")), "400");
    assert_eq!(taken(&closed, &router, &get("/a/b")), "405");
}

#[test]
fn a_route_that_keeps_slashes_reads_its_own_path() {
    let routes = [
        route("keep").path("/k/{*rest}").keep_slashes(),
        route("empty").path("/k//b").keep_slashes(),
        route("other").path("/k/{x}/z"),
    ];
    let router = build(&routes);
    let forwarded = |path: &str| match ask(&router, &get(path), false) {
        Answer::Route { index, forwarded, .. } => format!("{} {forwarded}", routes[index].name.value),
        other => format!("{other:?}"),
    };
    assert_eq!(forwarded("/k/a/b"), "keep /k/a/b");
    assert_eq!(forwarded("/k/a//b"), "keep /k/a//b");
    assert_eq!(forwarded("/k//b"), "empty /k//b");
    assert_eq!(forwarded("/k//a/z"), "other /k/a/z");
    assert_eq!(forwarded("//k/a"), "NotFound");
}

#[test]
fn patterns_are_read_like_paths() {
    let routes = [route("korean").path("/상품/{id}"), route("tilde").path("/%7Euser"), route("space").prefix("/a b")];
    expect(
        &routes,
        &[
            (get("/%ec%83%81%ED%92%88/7"), "korean"),
            (get("/~user"), "tilde"),
            (get("/%7euser"), "tilde"),
            (get("/a%20b/c"), "space"),
        ],
    );
}

#[test]
fn the_table_lists_routes_in_the_order_they_are_tried() {
    let routes = [
        route("rest"),
        route("b").host("b.x").path("/a"),
        route("wild").host("*.x"),
        route("a-param").host("a.x").host("b.x").path("/{x}"),
        route("a-loud").host("a.x").path("/{*rest}").priority(2),
        route("a-lit").host("a.x").path("/z"),
        route("a-lit-get").host("a.x").path("/z").method("GET"),
        route("longer").host("*.y.x"),
    ];
    let rows: Vec<String> = build(&routes)
        .table()
        .into_iter()
        .map(|row| format!("{} {}", row.host, routes[row.route as usize].name.value))
        .collect();
    let expected = [
        "a.x a-loud",
        "a.x a-lit-get",
        "a.x a-lit",
        "a.x a-param",
        "b.x b",
        "b.x a-param",
        "*.y.x longer",
        "*.x wild",
        "* rest",
    ];
    assert_eq!(rows, expected);
}

#[test]
fn an_expression_is_compared_last_of_the_conditions() {
    let routes = [
        route("ip").path("/a").client_ip([127, 0, 0, 0], 8),
        route("when").path("/a").when("request.header.x == '1' || request.header.x == '2'"),
        route("header").path("/a").header("x", exact("1")),
        route("both").path("/a").when("request.header.x == '3'").client_ip([127, 0, 0, 0], 8),
        route("method").path("/a").method("GET"),
        route("any").path("/a"),
    ];
    let router = build(&routes);
    let far = Request { client_ip: [8, 8, 8, 8].into(), ..get("/a") };
    assert_eq!(taken(&routes, &router, &get("/a").header("x", "1")), "header");
    assert_eq!(taken(&routes, &router, &get("/a").header("x", "2")), "ip");
    assert_eq!(taken(&routes, &router, &get("/a").header("x", "3")), "both");
    assert_eq!(taken(&routes, &router, &far.clone().header("x", "2")), "when");
    assert_eq!(taken(&routes, &router, &far), "method");
}

#[test]
fn an_expression_sees_the_path_and_the_parameters_of_its_own_route() {
    let routes = [
        route("even").path("/items/{id}").when("params.id.matches('^[0-9]*[02468]$')"),
        route("rest").path("/files/{*rest}").when("params['rest'] == 'a/b c' && request.path == '/files/a/b%20c'"),
        route("group").regex("/v(?P<version>[0-9]+)/x").when("int(params.version) > 1"),
        route("kept").prefix("/k").keep_slashes().when("request.path == '/k//a'"),
        route("other"),
    ];
    let router = build(&routes);
    for (path, name) in [
        ("/items/12", "even"),
        ("/items/13", "other"),
        ("/items/12;v=3", "even"),
        ("/files/./a//b%20c", "rest"),
        ("/files/a/bc", "other"),
        ("/v2/x", "group"),
        ("/v1/x", "other"),
        ("/k//a", "kept"),
        ("/k/a", "other"),
    ] {
        assert_eq!(taken(&routes, &router, &get(path)), name, "{path}");
    }
}
