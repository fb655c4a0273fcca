//! Which route wins, and what it does to the path.

use daemun_e2e::{Client, Gateway, Origin, Response};

/// A gateway with these routes before one echoing upstream called `origin`.
fn routes(origin: &Origin, text: &str) -> Gateway {
    Gateway::start(&format!(
        "workers: 1\naccess_log: off\nlisteners: [{{ bind: 127.0.0.1:0 }}]\n\
         upstreams:\n  origin: {{ targets: [\"{}\"] }}\nroutes:\n{text}",
        origin.url()
    ))
}

/// A route that answers with its own name.
fn named(name: &str, conditions: &str) -> String {
    format!("  - name: {name}\n    match: {{ {conditions} }}\n    answer: {{ status: 200, body: {name} }}\n")
}

fn ask(client: &mut Client, host: &str, target: &str) -> Response {
    client.call(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
}

/// What each request is answered with; a number stands for a status.
fn expect(gateway: &Gateway, rows: &[(&str, &str, &str)]) {
    let mut client = gateway.connect();
    let mut wrong = Vec::new();
    for (host, target, expected) in rows {
        let answer = ask(&mut client, host, target);
        let found = if answer.status == 200 { answer.text() } else { answer.status.to_string() };
        if found != *expected {
            wrong.push(format!("{host}{target}: {found} instead of {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_best_host_decides() {
    let origin = Origin::echo();
    let text = [
        named("exact", "hosts: [api.example.com], path: /a"),
        named("longer", "hosts: [\"*.shop.example.com\"], prefix: /"),
        named("shorter", "hosts: [\"*.example.com\"], prefix: /"),
        named("any", "prefix: /"),
    ]
    .concat();
    expect(
        &routes(&origin, &text),
        &[
            ("api.example.com", "/a", "exact"),
            ("API.Example.COM", "/a", "exact"),
            ("api.example.com:8080", "/a", "exact"),
            ("api.example.com", "/b", "404"),
            ("x.shop.example.com", "/a", "longer"),
            ("shop.example.com", "/a", "shorter"),
            ("y.example.com", "/a", "shorter"),
            ("example.com", "/a", "any"),
            ("other.test", "/a", "any"),
        ],
    );
}

#[test]
fn hosts_fall_through_only_where_asked() {
    let origin = Origin::echo();
    let text = [named("exact", "hosts: [api.example.com], path: /a"), named("any", "prefix: /")].concat();
    let yaml = format!(
        "workers: 1\naccess_log: off\nhosts_fall_through: true\nlisteners: [{{ bind: 127.0.0.1:0 }}]\n\
         upstreams:\n  origin: {{ targets: [\"{}\"] }}\nroutes:\n{text}",
        origin.url()
    );
    expect(&Gateway::start(&yaml), &[("api.example.com", "/a", "exact"), ("api.example.com", "/b", "any")]);
}

#[test]
fn paths_are_compared_segment_by_segment() {
    let origin = Origin::echo();
    let text = [
        named("literal", "path: /products/items/new"),
        named("parameter", "path: \"/products/items/{id}\""),
        named("regex", "path_regex: \"/products/items/[0-9]+/photos\""),
        named("rest", "path: \"/products/items/{id}/{*rest}\""),
        named("prefix", "prefix: /products"),
        named("slash", "path: /exact/"),
        named("exact", "path: /exact"),
    ]
    .concat();
    expect(
        &routes(&origin, &text),
        &[
            ("e2e.test", "/products/items/new", "literal"),
            ("e2e.test", "/products/items/n%65w", "literal"),
            ("e2e.test", "/products/items/7", "parameter"),
            ("e2e.test", "/products/items/7?x=/new", "parameter"),
            ("e2e.test", "/products//items/./7", "parameter"),
            ("e2e.test", "/products/items/new;v=1", "literal"),
            ("e2e.test", "/products/items/7/photos/8", "rest"),
            ("e2e.test", "/products", "prefix"),
            ("e2e.test", "/products/", "prefix"),
            ("e2e.test", "/products/other", "prefix"),
            ("e2e.test", "/productsX", "404"),
            ("e2e.test", "/exact", "exact"),
            ("e2e.test", "/exact/", "slash"),
            ("e2e.test", "/", "404"),
        ],
    );
}

#[test]
fn conditions_and_methods_narrow_a_route() {
    let origin = Origin::echo();
    let text = [
        named("header", "path: /a, headers: { x-country: KR }"),
        named("query", "path: /a, query: { v: \"2\" }"),
        named("cookie", "path: /a, cookies: { beta: \"on\" }"),
        named("get", "path: /a, methods: [GET]"),
        named("post", "path: /a, methods: [POST]"),
    ]
    .concat();
    let gateway = routes(&origin, &text);
    let mut client = gateway.connect();
    let mut with = |method: &str, target: &str, fields: &str| {
        let answer =
            client.call(format!("{method} {target} HTTP/1.1\r\nHost: e2e.test\r\nContent-Length: 0\r\n{fields}\r\n"));
        (answer.status, answer.text())
    };
    let good = |name: &str| (200, name.to_owned());
    assert_eq!(with("GET", "/a", "X-Country: KR\r\n"), good("header"));
    assert_eq!(with("GET", "/a", "X-Country: kr\r\n"), good("get"));
    assert_eq!(with("GET", "/a?v=2", ""), good("query"));
    assert_eq!(with("GET", "/a?v=2", "X-Country: KR\r\n"), good("header"));
    assert_eq!(with("GET", "/a", "Cookie: a=b; beta=on\r\n"), good("cookie"));
    assert_eq!(with("POST", "/a", ""), good("post"));
    assert_eq!(with("HEAD", "/a", "").0, 200);
    let answer = gateway.connect().call("DELETE /a HTTP/1.1\r\nHost: e2e.test\r\n\r\n");
    assert_eq!(answer.status, 405);
    let allow = answer.field("allow").unwrap().to_owned();
    let mut methods: Vec<&str> = allow.split(", ").collect();
    methods.sort_unstable();
    assert!(methods.contains(&"GET") && methods.contains(&"HEAD") && methods.contains(&"POST"), "{allow}");
    assert!(!methods.contains(&"DELETE"), "{allow}");
}

#[test]
fn priority_decides_within_a_host() {
    let origin = Origin::echo();
    let text = format!(
        "{}    priority: 10\n{}{}",
        named("preferred", "prefix: /"),
        named("literal", "path: /a"),
        named("host", "hosts: [api.example.com], prefix: /")
    );
    expect(&routes(&origin, &text), &[("e2e.test", "/a", "preferred"), ("api.example.com", "/a", "host")]);
}

#[test]
fn rewrites_change_what_is_forwarded() {
    let origin = Origin::echo();
    let rewritten = |name: &str, conditions: &str, rewrite: &str| {
        format!("  - name: {name}\n    match: {{ {conditions} }}\n    upstream: origin\n    rewrite: {rewrite}\n")
    };
    let text = [
        rewritten("template", "path: \"/items/{id}\"", "{ path: \"/v2/things/{id}/x\" }"),
        rewritten("rest", "path: \"/all/{*rest}\"", "{ path: \"/r/{rest}\" }"),
        rewritten("strip", "prefix: /api", "{ strip_prefix: /api }"),
        rewritten("query", "path: /q", "{ query: { add: { a: \"1\" }, set: { s: \"2\" }, remove: [r] } }"),
    ]
    .concat();
    expect(
        &routes(&origin, &text),
        &[
            ("e2e.test", "/items/7", "/v2/things/7/x"),
            ("e2e.test", "/items/a%20b?x=1", "/v2/things/a%20b/x?x=1"),
            ("e2e.test", "/items/a..%3b", "/v2/things/a..%3B/x"),
            ("e2e.test", "/all/a/b", "/r/a/b"),
            ("e2e.test", "/all/", "/r/"),
            ("e2e.test", "/api/x?y", "/x?y"),
            ("e2e.test", "/api", "/"),
            ("e2e.test", "/api/", "/"),
            ("e2e.test", "/api;a=b/c", "/c"),
            ("e2e.test", "/api;a=b", "/"),
            ("e2e.test", "/api;a=b;c?d", "/?d"),
            ("e2e.test", "/api/c;a=b", "/c;a=b"),
            ("e2e.test", "/q?r=1&s=0&x=%20y", "/q?x=%20y&s=2&a=1"),
            ("e2e.test", "/q", "/q?s=2&a=1"),
            ("e2e.test", "/q?rr=1&r", "/q?rr=1&s=2&a=1"),
        ],
    );
}

#[test]
fn what_stands_in_place_of_a_prefix_is_followed_by_what_stood_behind_it() {
    let origin = Origin::echo();
    let replaced = |name: &str, prefix: &str, to: &str| {
        format!(
            "  - {{ name: {name}, match: {{ prefix: \"{prefix}\" }}, upstream: origin, rewrite: {{ replace_prefix: \"{to}\" }} }}\n"
        )
    };
    let text = [
        replaced("orders", "/orders", "/v1"),
        replaced("slash", "/shop/", "/v2/shop/"),
        replaced("root", "/a/b", "/"),
        replaced("encoded", "/%7Euser", "/상품"),
    ]
    .concat();
    expect(
        &routes(&origin, &text),
        &[
            ("a", "/orders", "/v1"),
            ("a", "/orders/", "/v1/"),
            ("a", "/orders/7?x=/orders", "/v1/7?x=/orders"),
            ("a", "/orders;v=1/7", "/v1/7"),
            ("a", "/orders/orders/7", "/v1/orders/7"),
            ("a", "/ordersx", "404"),
            ("a", "/shop/1", "/v2/shop/1"),
            ("a", "/a/b", "/"),
            ("a", "/a/b/", "/"),
            ("a", "/a/b/c%20d", "/c%20d"),
            ("a", "/~user/x", "/%EC%83%81%ED%92%88/x"),
        ],
    );
}

#[test]
fn slashes_are_read_as_the_route_says() {
    let origin = Origin::echo();
    let text = format!(
        "  - name: kept\n    match: {{ path: \"/files/{{name}}\" }}\n    encoded_slash: keep\n    upstream: origin\n\
         \x20 - name: empty\n    match: {{ prefix: /raw }}\n    slashes: keep\n    upstream: origin\n{}",
        named("other", "prefix: /other")
    );
    expect(
        &routes(&origin, &text),
        &[
            ("e2e.test", "/files/a%2Fb", "/files/a%2Fb"),
            ("e2e.test", "/files/a%2fb", "/files/a%2Fb"),
            ("e2e.test", "/files/..%2fb", "400"),
            ("e2e.test", "/raw//a///b", "/raw//a///b"),
            ("e2e.test", "/other/a%2Fb", "400"),
            ("e2e.test", "/other//a", "other"),
        ],
    );
}

#[test]
fn redirects_and_answers_need_no_upstream() {
    let origin = Origin::echo();
    let text = "  - name: moved\n    match: { path: \"/old/{id}\" }\n    redirect: { to: \"https://new.example/{id}\", status: 301 }\n\
                \x20 - name: usual\n    match: { path: /usual }\n    redirect: { to: /here }\n\
                \x20 - name: hello\n    match: { path: /hello }\n    answer: { status: 201, body: \"hello\", headers: { x-a: b } }\n\
                \x20 - name: empty\n    match: { path: /empty }\n    answer: { status: 204 }\n";
    let gateway = routes(&origin, text);
    let mut client = gateway.connect();
    let moved = client.get("/old/7");
    assert_eq!((moved.status, moved.field("location")), (301, Some("https://new.example/7")));
    let usual = client.get("/usual");
    assert_eq!((usual.status, usual.field("location")), (308, Some("/here")));
    let hello = client.get("/hello");
    assert_eq!((hello.status, hello.text().as_str(), hello.field("x-a")), (201, "hello", Some("b")));
    assert!(hello.field("content-type").is_some_and(|kind| kind.starts_with("text/plain")));
    let empty = client.get("/empty");
    assert_eq!((empty.status, empty.body.len()), (204, 0));
    let head = client.call("HEAD /hello HTTP/1.1\r\nHost: e2e.test\r\n\r\n");
    assert_eq!((head.status, head.field("content-length")), (201, Some("5")));
    let post = client.call("POST /hello HTTP/1.1\r\nHost: e2e.test\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(post.status, 201);
    assert_eq!(client.get("/hello").status, 201, "the body of the POST was left on the connection");
    let injected = client.get("/old/a%0d%0aX-B:%20c");
    assert!(!injected.head.has("x-b"), "{}", injected.head.shown());
    assert_eq!(origin.look(|log| log.requests.len()), 0);
}

#[test]
fn what_a_value_makes_of_a_template_leaves_neither_the_host_nor_the_one_reading() {
    let origin = Origin::echo();
    let text = "  - name: local\n    match: { path: \"/old/{*rest}\" }\n    slashes: keep\n    redirect: { to: \"/{rest}\" }\n\
                \x20 - name: query\n    match: { path: /query }\n    redirect: { to: \"/{query}\" }\n\
                \x20 - name: whole\n    match: { hosts: [whole.test], prefix: / }\n    slashes: keep\n    redirect: { to: \"{path}\" }\n\
                \x20 - name: mixed\n    match: { path: \"/mixed/{*rest}\" }\n    upstream: origin\n    rewrite: { path: \"/m/{rest}/end\" }\n\
                \x20 - name: between\n    match: { path: \"/b/{a}/{b}\" }\n    encoded_slash: keep\n    upstream: origin\n    \
                rewrite: { path: \"/v{a}.{b}\" }\n";
    let gateway = routes(&origin, text);
    let mut client = gateway.connect();
    let mut location = |host: &str, target: &str| {
        let moved = client.call(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(moved.status, 308, "{target}");
        moved.field("location").unwrap().to_owned()
    };
    assert_eq!(location("e2e.test", "/old//evil.test/a"), "/evil.test/a");
    assert_eq!(location("e2e.test", "/old////evil.test"), "/evil.test");
    assert_eq!(location("e2e.test", "/old/a//b"), "/a//b");
    assert_eq!(location("e2e.test", "/query?/evil.test"), "/evil.test");
    assert_eq!(location("e2e.test", "/query?\\evil.test"), "/evil.test");
    assert_eq!(location("whole.test", "//evil.test"), "/evil.test");
    expect(
        &gateway,
        &[
            ("e2e.test", "/mixed/", "/m/end"),
            ("e2e.test", "/mixed/a/", "/m/a/end"),
            ("e2e.test", "/b/1/2", "/v1.2"),
            ("e2e.test", "/b/x%2F/%2Fy", "400"),
        ],
    );
}

#[test]
fn targets_are_called_by_their_weights() {
    let origins: Vec<Origin> = (0..3).map(|_| Origin::echo()).collect();
    let [a, b, c] = [0, 1, 2].map(|at| origins[at].url());
    let gateway = Gateway::start(&format!(
        "workers: 1\naccess_log: off\nlisteners: [{{ bind: 127.0.0.1:0 }}]\nupstreams:\n  origin:\n    targets:\n      - \"{a}\"\n      \
         - {{ url: \"{b}\", weight: 3 }}\n      - {{ url: \"{c}\", weight: 0 }}\nroutes:\n  - name: all\n    match: {{ prefix: / }}\n    upstream: origin\n"
    ));
    let mut client = gateway.connect();
    for at in 0..400 {
        assert_eq!(client.get(&format!("/{at}")).status, 200);
    }
    let counts: Vec<usize> = origins.iter().map(|origin| origin.look(|log| log.requests.len())).collect();
    assert_eq!(counts, [100, 300, 0]);
}

#[test]
fn a_target_that_is_down_does_not_take_the_others_with_it() {
    let up = Origin::echo();
    let down = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = Gateway::start(&format!(
        "workers: 1\naccess_log: off\nlisteners: [{{ bind: 127.0.0.1:0 }}]\nupstreams:\n  origin:\n    targets: [\"http://{down}\", \"{}\"]\n\
         routes:\n  - name: all\n    match: {{ prefix: / }}\n    upstream: origin\n",
        up.url()
    ));
    let mut client = gateway.connect();
    let statuses: Vec<u16> = (0..20).map(|at| client.get(&format!("/{at}")).status).collect();
    assert!(statuses.iter().filter(|status| **status == 200).count() >= 10, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 502 | 503)), "{statuses:?}");
}
