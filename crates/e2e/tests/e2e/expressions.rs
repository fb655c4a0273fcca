//! Expressions on the wire: which route, which headers, which path, which line of the log; and callers who try to make something else of
//! them.

use std::time::Duration;

use daemun_e2e::gateway::Folder;
use daemun_e2e::http2::{Ending, Http2};
use daemun_e2e::{Client, Gateway, Lane, Next, Origin, Response, gateway, wait_until};

fn yaml(log: &str, routes: &str) -> String {
    format!(
        "workers: 1\n{log}\nlisteners:\n  - bind: 127.0.0.1:0\nupstreams:\n  origin:\n    targets: [\"{{origin}}\"]\nroutes:\n{routes}"
    )
}

fn answers(name: &str, matches: &str) -> String {
    format!("  - name: {name}\n    match: {matches}\n    answer: {{ body: {name} }}\n")
}

fn get(client: &mut Client, target: &str, fields: &str) -> Response {
    client.call(format!("GET {target} HTTP/1.1\r\nHost: e2e.test\r\n{fields}\r\n"))
}

fn post(client: &mut Client, kind: &str, body: &str) -> Response {
    let length = body.len();
    client.call(format!(
        "POST /calls HTTP/1.1\r\nHost: e2e.test\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"
    ))
}

#[test]
fn a_route_is_taken_by_what_its_expression_says() {
    let routes = [
        answers(
            "korea",
            r#"{ prefix: /, when: 'request.header["X-Country"] == "KR" && request.query["beta"] != "1"' }"#,
        ),
        answers("even", r#"{ path: "/items/{id}", when: 'params.id.matches("^[0-9]*[02468]$")' }"#),
        answers(
            "local",
            r#"{ prefix: /local, when: 'in_network(client.ip, "127.0.0.0/8") && !has(request.cookie.session)' }"#,
        ),
        answers("other", "{ prefix: / }"),
    ];
    let lane = Lane::start(&yaml("access_log: off", &routes.concat()));
    let mut client = lane.connect();
    for (target, fields, name) in [
        ("/", "X-Country: KR\r\n", "korea"),
        ("/?beta=1", "X-Country: KR\r\n", "other"),
        ("/", "X-Country: JP\r\nX-Country: KR\r\n", "other"),
        ("/items/12", "", "even"),
        ("/items/1%32", "", "even"),
        ("/items/13", "", "other"),
        ("/items/12;x", "", "even"),
        ("/local/x", "", "local"),
        ("/local/x", "Cookie: a=b; session=1\r\n", "other"),
    ] {
        assert_eq!(get(&mut client, target, fields).text(), name, "{target} {fields}");
    }
}

#[test]
fn a_route_is_taken_by_a_json_body_when_it_says_so() {
    let forward = |name: &str, when: &str| {
        format!(
            "  - name: {name}\n    match: {{ path: /calls{when} }}\n    upstream: origin\n    policies: {{ headers: {{ request: {{ set: {{ x-route: {name} }} }} }} }}\n"
        )
    };
    let routes = [
        forward("orders", r#", when: 'request.body.type == "order" && request.body.lines.size() > 1', body: 64KiB"#),
        forward("rest", ""),
    ];
    let lane = Lane::start(&yaml("access_log: off", &routes.concat()));
    let mut client = lane.connect();
    let order = r#"{"type":"order","lines":[1,2]}"#;
    for (kind, body, name) in [
        ("application/json", order, "orders"),
        ("application/vnd.shop+json; charset=utf-8", order, "orders"),
        ("text/plain", order, "rest"),
        ("application/json", r#"{"type":"order","lines":[1]}"#, "rest"),
        ("application/json", r#"{"type":"order"}"#, "rest"),
        ("application/json", r#"{"type":["order"],"lines":7}"#, "rest"),
        ("application/json", "", "rest"),
    ] {
        assert_eq!(post(&mut client, kind, body).status, 200, "{body:.60}");
        let request = lane.origin.look(|log| log.requests.last().cloned().unwrap());
        assert_eq!(request.field("x-route"), Some(name), "{kind} {body:.60}");
        assert_eq!(String::from_utf8_lossy(&request.body), body, "the body is passed on as it came");
    }
    for body in ["{\"type\":\"order\"", &format!("{}1{}", "[".repeat(20_000), "]".repeat(20_000))] {
        assert_eq!(post(&mut client, "application/json", body).status, 400, "{body:.60}");
    }
    // chunked, with fields behind it
    let chunked = format!("{:x}\r\n{order}\r\n0\r\nX-Behind: 1\r\n\r\n", order.len());
    let head = "POST /calls HTTP/1.1\r\nHost: e2e.test\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(client.call(format!("{head}{chunked}")).status, 200);
    let request = lane.origin.look(|log| log.requests.last().cloned().unwrap());
    assert_eq!((request.field("x-route"), request.body.as_slice()), (Some("orders"), order.as_bytes()));
    let large = post(&mut client, "application/json", &format!("\"{}\"", "x".repeat(70_000)));
    assert_eq!(large.status, 413);
}

#[test]
fn headers_take_values_and_never_more() {
    let routes = r#"  - name: all
    match: { path: "/t/{id}" }
    upstream: origin
    policies:
      headers:
        request:
          set:
            x-tenant: 'tenant ${params.id} of ${request.header["x-tenant"]}'
            x-empty: '${request.header["x-none"]}'
            x-upper: '${request.query["q"].upperAscii()}'
        response:
          set: { x-status: '${response.status}', x-was: '${response.header["content-type"]}' }
"#;
    let lane = Lane::start(&yaml("access_log: off", routes));
    let mut client = lane.connect();
    let answer = get(&mut client, "/t/7?q=abc", "X-Tenant: shop\r\nX-Empty: forged\r\n");
    assert_eq!((answer.status, answer.field("x-status")), (200, Some("200")));
    let request = lane.origin.only_request();
    assert_eq!(request.field("x-tenant"), Some("tenant 7 of shop"));
    assert_eq!(request.field("x-upper"), Some("ABC"));
    assert!(!request.has("x-empty"), "what the caller forged passed");
    for (target, what) in [
        ("/t/a%0D%0AX-Forged:%201?q=a", "a path parameter"),
        ("/t/a?q=a%0D%0Ax-forged:1%0D%0A%0D%0AGET%20/", "a query parameter"),
        ("/t/a%00?q=%00", "a null byte"),
    ] {
        lane.origin.take();
        let _ = get(&mut client, target, "X-Tenant: b\r\n");
        for request in lane.origin.take().requests {
            assert!(!request.has("x-forged") && request.target.starts_with("/t/"), "{what}: {}", request.shown());
            assert!(request.field("x-upper").is_none_or(|value| value == "A"), "{what}: {}", request.shown());
        }
    }
}

#[test]
fn paths_and_queries_take_values_as_one_segment() {
    let routes = r#"  - name: all
    match: { path: "/t/{id}" }
    upstream: origin
    rewrite:
      path: '/v2/${request.header["x-tenant"]}/items/{id}'
      query: { set: { who: 'a ${request.header["x-who"]}&' }, add: { n: '${size(request.path)}' } }
"#;
    let lane = Lane::start(&yaml("access_log: off", routes));
    let mut client = lane.connect();
    for (tenant, path) in [
        ("shop", Some("/v2/shop/items/1")),
        ("a b?c#d", Some("/v2/a%20b%3Fc%23d/items/1")),
        ("%2e%2e", Some("/v2/%252e%252e/items/1")),
        ("a;b=c", Some("/v2/a%3Bb=c/items/1")),
        ("..", None),
        (".", None),
        ("", None),
        ("../../admin", None),
        ("..;/x", None),
        ("a\\b", None),
    ] {
        lane.origin.take();
        let answer = get(&mut client, "/t/1?who=x&a=b", &format!("X-Tenant: {tenant}\r\nX-Who: b=c&d\r\n"));
        let seen = lane.origin.take().requests;
        match path {
            Some(path) => {
                assert_eq!(answer.status, 200, "{tenant}");
                assert_eq!(seen[0].target, format!("{path}?a=b&who=a%20b%3Dc%26d%26&n=4"), "{tenant}");
            }
            None => {
                assert_eq!((answer.status, seen.len()), (400, 0), "{tenant}");
            }
        }
    }
    lane.origin.take();
    let answer = get(&mut client, "/t/1", "X-Tenant: a/b\r\n");
    let seen = lane.origin.take().requests;
    assert!(answer.status == 400 || seen[0].target.starts_with("/v2/a%2Fb/items/1?"), "{}", answer.status);
}

#[test]
fn a_limit_counts_by_expression() {
    let routes = r#"  - name: all
    match: { prefix: / }
    upstream: origin
    policies:
      rate_limit: { limit: 2/h, by: { expression: 'request.header["x-tenant"] + "/" + request.method' } }
"#;
    let lane = Lane::start(&yaml("access_log: off", routes));
    let mut client = lane.connect();
    let mut statuses = |tenant: &str| [0; 3].map(|_| get(&mut client, "/", &format!("X-Tenant: {tenant}\r\n")).status);
    assert_eq!(statuses("a"), [200, 200, 429]);
    assert_eq!(statuses("b"), [200, 200, 429]);
}

#[test]
fn lines_of_the_log_take_values() {
    let log = r#"access_log: { format: json, fields: { tenant: '${request.header["x-tenant"]}', size: 'v${size(request.header["x-tenant"])}', none: '${request.header["x-none"]}' } }"#;
    let origin = Origin::echo();
    let route = "  - name: all\n    match: { prefix: / }\n    upstream: origin\n";
    let lane = Lane::with(&yaml(log, route), origin);
    get(&mut lane.connect(), "/", "X-Tenant: a\"b\\\r\n");
    let lines = wait_until("a line was written", Duration::from_secs(5), || {
        let lines = lane.gateway.access_log();
        (!lines.is_empty()).then_some(lines)
    });
    assert_eq!((lines[0]["tenant"].as_str(), lines[0]["size"].as_str()), (Some("a\"b\\"), Some("v4")));
    assert!(lines[0].get("none").is_none());

    let log = r#"access_log: { format: '${method} ${request.header["x-tenant"]} ${request.header["x-none"]} ${ {"a": "}"}["a"] } ${status}' }"#;
    let lane = Lane::start(&yaml(log, route));
    get(&mut lane.connect(), "/", "X-Tenant: a\r\n");
    let line = wait_until("a line was written", Duration::from_secs(5), || {
        lane.gateway.stdout().into_iter().find(|line| line.starts_with("GET"))
    });
    assert_eq!(line, "GET a - } 200");
}

#[test]
fn a_request_that_would_cost_too_much_is_refused_and_nothing_else_disturbed() {
    let when = "request.header.x.split(',').all(a, request.header.x.split(',').all(b, a != b || a == b))";
    let lane = Lane::start(&yaml("access_log: off", &answers("all", &format!("{{ prefix: /, when: \"{when}\" }}"))));
    let mut client = lane.connect();
    assert_eq!(get(&mut client, "/", "x: a,b\r\n").status, 200);
    let refused = get(&mut client, "/", &format!("x: {}\r\n", "a,".repeat(5_000)));
    assert_eq!(refused.status, 413);
    assert_eq!(refused.json()["type"].as_str().map(|kind| kind.contains("expression_cost")), Some(true));
    assert_eq!(get(&mut client, "/", "x: a,b\r\n").status, 200);
}

#[test]
fn a_text_too_long_for_a_regular_expression_is_refused_and_opens_no_other_route() {
    let pattern = "[01]*1[01]{600}2";
    for matches in [
        format!("{{ prefix: /, when: 'request.header.x.matches(\"{pattern}\")' }}"),
        format!("{{ prefix: /, headers: {{ x: {{ regex: '{pattern}' }} }} }}"),
        format!("{{ path_regex: '/{pattern}' }}"),
    ] {
        let lane =
            Lane::start(&yaml("access_log: off", &[answers("a", &matches), answers("b", "{ prefix: / }")].concat()));
        let mut client = lane.connect();
        let call = |client: &mut Client, size: usize| {
            let text = "01".repeat(size / 2);
            get(client, &format!("/{text}"), &format!("x: {text}\r\n")).status
        };
        assert_eq!((call(&mut client, 100), call(&mut client, 8_000)), (200, 413), "{matches}");
    }
}

#[test]
fn a_json_body_that_could_be_read_in_two_ways_opens_no_other_route() {
    let matches = "{ prefix: /, when: 'has(request.body.a)', body: 64KiB }";
    let lane = Lane::start(&yaml("access_log: off", &[answers("a", matches), answers("b", "{ prefix: / }")].concat()));
    let mut client = lane.connect();
    for kind in ["application/json", "text/json"] {
        assert_eq!(post(&mut client, kind, r#"{"a":1}"#).text(), "a");
        assert_eq!(post(&mut client, kind, r#"{"b":1}"#).text(), "b");
        assert_eq!(post(&mut client, kind, "").text(), "b");
        for body in ["\u{feff}{\"a\":1}", r#"{"a":1}x"#, r#"{"b":1,"b":2}"#, r#"{"a":"#] {
            assert_eq!(post(&mut client, kind, body).status, 400, "{body}");
        }
    }
}

#[test]
fn a_slash_of_a_value_stays_out_of_a_path_that_takes_no_encoded_one() {
    let route = |more: &str| {
        format!(
            "  - name: a\n    match: {{ prefix: / }}\n    upstream: origin\n    rewrite: {{ path: '/v/${{request.header.x}}/y' }}\n{more}"
        )
    };
    for (more, slash) in [("", 400), ("    encoded_slash: keep\n", 200)] {
        let lane = Lane::with(&yaml("access_log: off", &route(more)), Origin::echo());
        let mut client = lane.connect();
        assert_eq!(get(&mut client, "/", "x: a b\r\n").status, 200);
        assert_eq!(get(&mut client, "/", "x: a/b\r\n").status, slash);
    }
}

#[test]
fn what_comes_out_of_references_is_not_shown_and_is_part_of_no_expression() {
    let run = |routes: &str, command: &[&str]| {
        let folder = Folder::new();
        folder.write("secret", "s3cr3t-s3cr3t");
        folder.write("daemun.yaml", yaml("access_log: off", routes).replace("{origin}", "http://127.0.0.1:1"));
        let (code, out, err) = gateway::run_command(folder.path(), command);
        assert!(!format!("{out}{err}").contains("s3cr3t"), "{out}{err}");
        (code, format!("{out}{err}"))
    };
    let headers =
        "{ prefix: /, headers: { x: '${file:secret}', y: { regex: '${file:secret}' }, z: [a, '${file:secret}'] } }";
    let (code, out) = run(&answers("a", headers), &["routes"]);
    assert!(code == Some(0) && out.contains("header x=…; header y=…; header z=…"), "{out}");
    for when in [r#"request.header.x == "${file:secret}""#, r#"request.path.matches("${file:secret}")"#] {
        let (code, out) = run(&answers("a", &format!("{{ prefix: /, when: '{when}' }}")), &["check"]);
        assert!(code == Some(1) && out.contains("an expression holds no `${env:…}`"), "{out}");
    }
    let rewrite = "  - name: a\n    match: { prefix: / }\n    upstream: origin\n    rewrite: { path: '/${request.id + \"${file:secret}\"}' }\n";
    let (code, out) = run(rewrite, &["check"]);
    assert!(code == Some(1) && out.contains("a reference cannot stand within an expression"), "{out}");
}

#[test]
fn what_is_wrong_is_found_when_it_is_read_and_explained_when_it_is_asked() {
    let check = |routes: &str| {
        let folder = Folder::new();
        folder.write("daemun.yaml", yaml("access_log: off", routes).replace("{origin}", "http://127.0.0.1:1"));
        gateway::run_command(folder.path(), &["check"])
    };
    let (code, out, err) = check(&answers("a", r#"{ prefix: /, when: 'request.methud == "GET"' }"#));
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(format!("{out}{err}").contains("did you mean `request.method`?"), "{out}{err}");
    assert!(format!("{out}{err}").contains("daemun.yaml:10:39"), "{out}{err}");
    let both = [
        answers("a", "{ prefix: /, when: 'request.header.a == \"1\"' }"),
        answers("b", "{ prefix: /, when: 'request.header.b == \"1\"' }"),
    ];
    let (code, out, err) = check(&both.concat());
    assert_eq!(code, Some(1));
    assert!(format!("{out}{err}").contains("no rule says which wins"), "{out}{err}");

    let guarded = |guard: &str| {
        let route = answers("a", "{ prefix: /, when: 'request.header.a == \"1\"' }");
        check(&format!("{route}    policies: {{ {guard} }}\n{}", answers("b", "{ prefix: / }")))
    };
    for (guard, warned) in
        [("ip_filter: { allow: 10.0.0.0/8 }", true), ("bot_filter: { deny: bot }", true), ("request_id: {}", false)]
    {
        let (_, out, err) = guarded(guard);
        assert_eq!(format!("{out}{err}").contains("route_less_protected"), warned, "{guard}: {out}{err}");
    }

    let folder = Folder::new();
    let routes = [answers("a", r#"{ prefix: /, when: 'request.header.a == "1"' }"#), answers("b", "{ prefix: / }")];
    folder.write("daemun.yaml", yaml("access_log: off", &routes.concat()).replace("{origin}", "http://127.0.0.1:1"));
    let (_, out, err) = gateway::run_command(folder.path(), &["explain", "GET", "http://e2e.test/"]);
    assert!(out.contains("its `when` does not hold: `request.header.a == \"1\"`"), "{out}{err}");
    let (_, out, err) = gateway::run_command(folder.path(), &["routes"]);
    assert!(out.contains("when request.header.a == \"1\""), "{out}{err}");
}

#[test]
fn a_gateway_with_expressions_reloads() {
    let lane = Lane::start(&yaml("access_log: off", &answers("a", "{ prefix: /, when: 'request.path == \"/a\"' }")));
    let gateway: &Gateway = &lane.gateway;
    assert_eq!(gateway.get("/a").text(), "a");
    gateway.rewrite(
        &yaml("access_log: off", &answers("b", "{ prefix: /, when: 'request.path == \"/b\"' }"))
            .replace("{origin}", &lane.origin.url()),
    );
    wait_until("the other route is there", Duration::from_secs(10), || (gateway.get("/b").status == 200).then_some(()));
    assert_eq!(gateway.get("/a").status, 404);
}

#[test]
fn a_target_is_hashed_by_what_an_expression_gives() {
    let name = |name: &'static str| {
        Origin::serve(move |peer, _| {
            peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len()));
            Next::Keep
        })
    };
    let (first, second) = (name("a"), name("b"));
    let gateway = Gateway::start(&format!(
        "workers: 1\naccess_log: off\nlisteners: [{{ bind: 127.0.0.1:0 }}]\n\
         upstreams:\n  u:\n    targets: [\"{}\", \"{}\"]\n    balance: {{ hash: {{ expression: 'params[\"tenant\"].lowerAscii() + request.header[\"x-part\"]' }} }}\n\
         routes:\n  - {{ name: all, match: {{ path: \"/x/{{id}}/{{tenant}}\" }}, upstream: u }}\n  - {{ name: none, match: {{ path: /none }}, upstream: u }}\n",
        first.url(),
        second.url()
    ));
    let mut client = gateway.connect();
    let mut of = |tenant: usize, id: usize| {
        let spelt = if id.is_multiple_of(2) { format!("t{tenant}") } else { format!("T{tenant}") };
        get(&mut client, &format!("/x/{id}/{spelt}"), "X-Part: eu\r\n").text()
    };
    let targets: Vec<String> = (0..16).map(|tenant| of(tenant, 0)).collect();
    assert!(targets.contains(&"a".to_owned()) && targets.contains(&"b".to_owned()), "{targets:?}");
    for (tenant, target) in targets.iter().enumerate() {
        assert!((1..5).all(|id| of(tenant, id) == *target), "{tenant}");
    }
    assert_eq!(gateway.get("/none").status, 200, "what is not there is hashed as nothing");
}

#[test]
fn the_log_knows_path_parameters_of_every_route() {
    let routes = "  - { name: items, match: { path: \"/items/{id}\" }, upstream: origin }\n  - { name: orders, match: { path: \"/{shop}/orders/{id}\" }, upstream: origin }\n  - { name: plain, match: { path: /plain }, upstream: origin }\n";
    let log = |log: &str| Lane::start(&yaml(&format!("access_log: {log}"), routes));
    let lane = log(
        r#"{ fields: { item: '${params["id"]}', both: '${params.shop}/${params.id}', shops: '${"shop" in params}' } }"#,
    );
    let mut client = lane.connect();
    for target in ["/items/a%20b", "/kr/orders/7", "/plain", "/missing"] {
        let _ = client.get(target);
    }
    let lines = wait_until("four lines", Duration::from_secs(5), || {
        let lines = lane.gateway.access_log();
        (lines.len() == 4).then_some(lines)
    });
    let seen: Vec<[Option<&str>; 3]> =
        lines.iter().map(|line| ["item", "both", "shops"].map(|name| line[name].as_str())).collect();
    assert_eq!(
        seen,
        [
            [Some("a b"), Some("/a b"), Some("false")],
            [Some("7"), Some("kr/7"), Some("true")],
            [None, Some("/"), Some("false")],
            [None, Some("/"), Some("false")],
        ]
    );
    let lane = log(r#"{ format: 'item=${params["id"]} ${route}' }"#);
    let mut client = lane.connect();
    for target in ["/items/9", "/plain", "/items/10"] {
        let _ = client.get(target);
    }
    wait_until("three lines", Duration::from_secs(5), || {
        let lines: Vec<String> = lane.gateway.stdout().into_iter().filter(|line| line.starts_with("item=")).collect();
        (lines.len() == 3).then(|| assert_eq!(lines, ["item=9 items", "item=- plain", "item=10 items"]))
    });
}

#[test]
fn what_a_reference_stands_for_is_never_read_as_an_expression() {
    let routes = r#"  - name: all
    match: { prefix: / }
    upstream: origin
    rewrite: { query: { set: { token: '${env:DAEMUN_TEST_SECRET}' } } }
    policies:
      headers: { request: { set: { x-token: '${request.method} ${env:DAEMUN_TEST_SECRET}', x-joined: '${env:DAEMUN_TEST_END}{request.method}' } } }
      transform: [{ set: { header.x-changed: '${env:DAEMUN_TEST_SECRET}' } }]
"#;
    let origin = Origin::echo();
    let text = yaml("access_log: { fields: { token: '${env:DAEMUN_TEST_SECRET}' } }", routes)
        .replace("{origin}", &origin.url());
    let secret = "s3cr3t-${request.path}-$${x";
    let environment = [("DAEMUN_TEST_SECRET", secret), ("DAEMUN_TEST_END", "end-$")];
    let gateway = Gateway::launch(Folder::new(), &text, &environment).unwrap_or_else(|refusal| panic!("{refusal:?}"));
    assert_eq!(gateway.get("/path").status, 200);
    let request = origin.take().requests.remove(0);
    assert_eq!(request.field("x-token"), Some(format!("GET {secret}").as_str()));
    assert_eq!(request.field("x-joined"), Some("end-${request.method}"));
    assert_eq!(request.field("x-changed"), Some(secret));
    assert!(!request.target.contains("token=s3cr3t-/path"), "{}", request.target);
    wait_until("a line", Duration::from_secs(5), || {
        let lines = gateway.access_log();
        lines.first().map(|line| assert_eq!(line["token"], secret))
    });
}

#[test]
fn what_many_routes_ask_of_one_request_is_bounded_together() {
    // each of these alone goes through such a header; all of them together are too much
    let costly = |at: usize| {
        let part = |text: String| {
            format!(
                "  - name: r{at}\n    priority: {}\n    match: {{ prefix: /, {text} }}\n    answer: {{ body: r{at} }}\n",
                100 - at
            )
        };
        match at % 2 {
            0 => part(format!("headers: {{ x: {{ regex: \"[01]*1[01]{{100}}2{at}\" }} }}")),
            _ => part(format!("when: 'request.header[\"x\"].matches(\"^[01]*1[01]{{100}}2{at}$\")'")),
        }
    };
    let yaml = |count: usize| {
        let routes: String = (0..count).map(costly).collect();
        yaml("access_log: off", &format!("{routes}{}", answers("rest", "{ prefix: / }")))
    };
    let header = format!("X: {}\r\n", "01".repeat(500));
    let few = Lane::start(&yaml(3));
    assert_eq!(get(&mut few.connect(), "/", &header).text(), "rest");
    let many = Lane::start(&yaml(60));
    let refused = get(&mut many.connect(), "/", &header);
    assert_eq!((refused.status, refused.json()["title"].is_string()), (413, true), "{}", refused.text());
    assert!(refused.text().contains("expression_cost"), "{}", refused.text());
    assert_eq!(get(&mut many.connect(), "/", "X: 0101\r\n").text(), "rest");
}

#[test]
fn a_route_is_taken_by_a_json_body_over_http2_as_well() {
    let forward = |name: &str, when: &str| {
        format!(
            "  - name: {name}\n    match: {{ path: /calls{when} }}\n    upstream: origin\n    policies: {{ headers: {{ request: {{ set: {{ x-route: {name} }} }} }} }}\n"
        )
    };
    let routes = [
        forward("orders", r#", when: 'request.body.type == "order" && request.body.lines.size() > 1', body: 1KiB"#),
        forward("rest", ""),
    ];
    let lane = Lane::start(&yaml("access_log: off", &routes.concat()));
    let mut client = Http2::connect(lane.gateway.address());
    let mut post = |stream: u32, kind: &str, pieces: &[&str]| {
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/calls"),
            (":authority", "e2e.test"),
            ("content-type", kind),
        ];
        client.headers(stream, &fields, pieces.is_empty());
        for (at, piece) in pieces.iter().enumerate() {
            client.data(stream, piece.as_bytes(), at + 1 == pieces.len());
        }
        match client.ending(stream) {
            Ok(Ending::Answer(answer)) => answer.status,
            other => panic!("{other:?}"),
        }
    };
    let large = format!("\"{}\"", "x".repeat(2_000));
    for (stream, kind, pieces, name) in [
        (1, "application/json", &[r#"{"type":"order","#, r#""lines":[1,2]}"#][..], Some("orders")),
        (3, "application/json", &[r#"{"type":"order","lines":[1]}"#], Some("rest")),
        (5, "text/plain", &[r#"{"type":"order","lines":[1,2]}"#], Some("rest")),
        (7, "application/json", &[], Some("rest")),
        (9, "application/json", &[r#"{"type":"order","type":"x"}"#], None),
        (11, "application/json", &[&large], None),
        (13, "application/vnd.shop+json", &[r#"{"lines":[1,2],"type":"order"}"#], Some("orders")),
    ] {
        lane.origin.take();
        let status = post(stream, kind, pieces);
        match (lane.origin.take().requests.pop(), name) {
            (Some(request), Some(name)) => {
                assert_eq!((status, request.field("x-route")), (200, Some(name)), "{stream}");
                assert_eq!(String::from_utf8_lossy(&request.body), pieces.concat(), "the body is passed on as it came");
            }
            (None, None) => assert!(matches!(status, 400 | 413), "{stream}: {status}"),
            (request, _) => panic!("{stream}: {status} {request:?}"),
        }
    }
}
