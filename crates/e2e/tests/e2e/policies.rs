//! The first policies on the wire: who calls, how often, from which page.

use daemun_e2e::{Client, Gateway, Lane, Response};

const ALICE: &str = "alice-key-0123456789";
const BOB: &str = "bob-key-0123456789-x";

fn yaml(policies: &str, routes: &str) -> String {
    format!(
        "workers: 1\naccess_log: off\nlisteners:\n  - bind: 127.0.0.1:0\nupstreams:\n  origin:\n    targets: [\"{{origin}}\"]\n\
         policies:\n{policies}routes:\n{routes}consumers:\n  - name: alice\n    roles: [buyer, admin]\n    keys: [\"{ALICE}\"]\n  \
         - name: bob\n    keys: [\"{BOB}\"]\n"
    )
}

const ALL: &str = "  - name: all\n    match: { prefix: / }\n    upstream: origin\n";

fn get(client: &mut Client, fields: &str) -> Response {
    client.call(format!("GET /t HTTP/1.1\r\nHost: e2e.test\r\n{fields}\r\n"))
}

#[test]
fn a_key_tells_who_calls_and_stays_here() {
    let lane = Lane::start(&yaml("  key_auth: { header: X-Api-Key }\n", ALL));
    let mut client = lane.connect();
    let answer = get(&mut client, &format!("X-Api-Key: {ALICE}\r\nX-Consumer-Name: bob\r\nX_Consumer_Name: bob\r\n"));
    assert_eq!(answer.status, 200);
    let request = lane.origin.only_request();
    assert_eq!(request.field("x-consumer-name"), Some("alice"));
    assert!(!request.has("x-api-key"), "the key reached the upstream");
    assert!(!request.shown().contains(ALICE), "the key reached the upstream");
    for bad in [
        String::new(),
        "X-Api-Key: wrong-key-0123456789\r\n".to_owned(),
        "X-Api-Key:\r\n".to_owned(),
        format!("X-Api-Key: {ALICE}x\r\n"),
        format!("X-Api-Key: {}\r\n", &ALICE[1..]),
        format!("X_Api_Key: {ALICE}\r\n"),
        format!("Authorization: Bearer {ALICE}\r\n"),
        format!("X-Api-Key: {ALICE}\r\nX-Api-Key: {BOB}\r\n"),
        format!("X-Api-Key: {ALICE}, {BOB}\r\n"),
    ] {
        let answer = get(&mut client, &bad);
        assert_eq!(answer.status, 401, "{bad}");
        assert!(answer.head.has("www-authenticate"), "{bad}");
        assert_eq!(answer.field("content-type"), Some("application/problem+json"));
        assert!(!answer.text().contains("key-0123456789"), "the answer repeats a key: {}", answer.text());
    }
    assert_eq!(lane.origin.look(|log| log.requests.len()), 1);
}

#[test]
fn a_key_may_come_elsewhere_and_go_on() {
    let lane = Lane::start(&yaml("  key_auth: { query: key, authorization: Bearer, forward: true }\n", ALL));
    let mut client = lane.connect();
    let by_query = client.get(&format!("/t?a=b&key={BOB}&c=d"));
    assert_eq!((by_query.status, by_query.text()), (200, format!("/t?a=b&key={BOB}&c=d")));
    assert_eq!(get(&mut client, &format!("Authorization: Bearer {ALICE}\r\n")).status, 200);
    let names: Vec<_> =
        lane.origin.look(|log| log.requests.iter().map(|r| r.field("x-consumer-name").map(str::to_owned)).collect());
    assert_eq!(names, [Some("bob".to_owned()), Some("alice".to_owned())]);
    let lane = Lane::start(&yaml("  key_auth: { query: key }\n", ALL));
    let stripped = lane.gateway.get(&format!("/t?a=b&key={BOB}&c=d"));
    assert_eq!((stripped.status, stripped.text().as_str()), (200, "/t?a=b&c=d"));
}

#[test]
fn a_route_can_switch_a_policy_off_or_replace_it() {
    let routes = "  - name: open\n    match: { path: /open }\n    upstream: origin\n    policies: { key_auth: off }\n\
                  \x20 - name: other\n    match: { path: /other }\n    upstream: origin\n    policies: { key_auth: { header: X-Other } }\n\
                  \x20 - name: all\n    match: { prefix: / }\n    upstream: origin\n";
    let lane = Lane::start(&yaml("  key_auth: { header: X-Api-Key }\n", routes));
    assert_eq!(lane.gateway.get("/open").status, 200);
    assert_eq!(lane.gateway.get("/t").status, 401);
    let with = |target: &str, field: &str| {
        lane.connect().call(format!("GET {target} HTTP/1.1\r\nHost: e2e.test\r\n{field}: {ALICE}\r\n\r\n")).status
    };
    assert_eq!((with("/other", "X-Other"), with("/other", "X-Api-Key"), with("/t", "X-Api-Key")), (200, 401, 200));
    let open = lane.connect().call("GET /open HTTP/1.1\r\nHost: e2e.test\r\nX-Consumer-Name: admin\r\n\r\n");
    assert_eq!(open.status, 200);
    assert!(
        lane.origin.look(|log| log.requests.iter().filter(|r| r.target == "/open").all(|r| !r.has("x-consumer-name")))
    );
}

#[test]
fn a_limit_refuses_what_is_over_it_and_says_when_to_come_back() {
    let policies = "  key_auth: { header: X-Api-Key }\n  rate_limit: { limit: 3/h, by: consumer }\n";
    let lane = Lane::start(&yaml(policies, ALL));
    let mut client = lane.connect();
    let alice = format!("X-Api-Key: {ALICE}\r\n");
    let statuses: Vec<u16> = (0..5).map(|_| get(&mut client, &alice).status).collect();
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    let refused = get(&mut client, &alice);
    let seconds: u64 = refused.field("retry-after").expect("retry-after").parse().expect("seconds");
    assert!((1..=1200).contains(&seconds), "{seconds}");
    assert!(
        refused.head.fields.iter().any(|(name, _)| name.to_ascii_lowercase().starts_with("ratelimit")),
        "{}",
        refused.head.shown()
    );
    assert_eq!(refused.field("content-type"), Some("application/problem+json"));
    assert_eq!(refused.json()["status"], 429);
    assert_eq!(
        get(&mut client, &format!("X-Api-Key: {BOB}\r\n")).status,
        200,
        "another consumer has a limit of their own"
    );
    assert_eq!(get(&mut client, "").status, 401);
    assert_eq!(lane.origin.look(|log| log.requests.len()), 4);
}

#[test]
fn a_limit_holds_over_all_workers_and_connections() {
    let policies = "  rate_limit: { limit: 100/h, burst: 100, by: client_ip }\n";
    let lane = Lane::start(&yaml(policies, ALL).replace("workers: 1", "workers: 2"));
    let good: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let gateway = &lane.gateway;
                scope.spawn(move || (0..25).filter(|_| gateway.get("/t").status == 200).count())
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    // one more may be admitted for each 36 seconds that the test runs
    assert!((100..=104).contains(&good), "{good} of 200 were admitted");
}

#[test]
fn a_page_of_another_origin_may_call_when_it_is_listed() {
    let policies = "  key_auth: { header: X-Api-Key }\n  cors: { origins: [\"https://shop.example.com\"] }\n";
    let lane = Lane::start(&yaml(policies, ALL));
    let preflight = |origin: &str, method: &str| {
        lane.connect().call(format!(
            "OPTIONS /t HTTP/1.1\r\nHost: e2e.test\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: {method}\r\n\
             Access-Control-Request-Headers: x-api-key\r\n\r\n"
        ))
    };
    let good = preflight("https://shop.example.com", "PUT");
    assert!(matches!(good.status, 200 | 204), "{good:?}");
    assert_eq!(good.field("access-control-allow-origin"), Some("https://shop.example.com"));
    assert!(good.field("access-control-allow-methods").is_some_and(|methods| methods.contains("PUT")));
    let bad = preflight("https://evil.example", "PUT");
    assert!(!bad.head.has("access-control-allow-origin"), "{}", bad.head.shown());
    assert_eq!(lane.origin.look(|log| log.requests.len()), 0, "a preflight reached the upstream");
    let mut client = lane.connect();
    let call = get(&mut client, &format!("Origin: https://shop.example.com\r\nX-Api-Key: {ALICE}\r\n"));
    assert_eq!((call.status, call.field("access-control-allow-origin")), (200, Some("https://shop.example.com")));
    let refused = get(&mut client, "Origin: https://shop.example.com\r\n");
    assert_eq!((refused.status, refused.field("access-control-allow-origin")), (401, Some("https://shop.example.com")));
    let stranger = get(&mut client, &format!("Origin: https://evil.example\r\nX-Api-Key: {ALICE}\r\n"));
    assert!(!stranger.head.has("access-control-allow-origin"));
}

#[test]
fn headers_are_edited_on_both_ways() {
    let policies = "  headers:\n    request: { remove: [x-gone], set: { x-set: \"1\" }, add: { x-add: \"2\" } }\n    \
                    response: { remove: [x-seen], set: { x-frame-options: DENY } }\n";
    let lane = Lane::start(&yaml(policies, ALL));
    let mut client = lane.connect();
    let answer = get(&mut client, "X-Gone: 1\r\nX-Set: 0\r\nX-Add: 1\r\n");
    let request = lane.origin.only_request();
    assert!(!request.has("x-gone"));
    assert_eq!(request.field("x-set"), Some("1"));
    assert_eq!(request.head.all("x-add").collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!((answer.field("x-seen"), answer.field("x-frame-options")), (None, Some("DENY")));
}

#[test]
fn global_policies_of_the_first_phase_apply_where_no_route_does() {
    let policies = "  cors: { origins: [\"https://shop.example.com\"] }\n  rate_limit: { limit: 2/h, by: client_ip }\n";
    let routes = "  - name: one\n    match: { path: /one }\n    answer: { status: 200, body: one }\n";
    let gateway = Gateway::start(&yaml(policies, routes).replace("{origin}", "http://127.0.0.1:9"));
    let mut client = gateway.connect();
    let statuses: Vec<u16> = (0..3).map(|_| get(&mut client, "Origin: https://shop.example.com\r\n").status).collect();
    assert_eq!(statuses, [404, 404, 429]);
}

#[test]
fn what_a_policy_takes_out_of_heads_does_not_pass_behind_the_body_either() {
    let policies = "  key_auth: { header: X-Api-Key }\n  headers:\n    request: { remove: [X-Internal], set: { X-Tenant: shop } }\n    \
                    response: { remove: [X-Secret], set: { X-Safe: 'yes' } }\n";
    let origin = daemun_e2e::Origin::serve(|peer, request| {
        peer.send(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\
             X-Sum: 2\r\nX-SECRET: a\r\nX-Safe: no\r\n\r\n",
        );
        let _ = request;
        daemun_e2e::Next::Keep
    });
    let lane = Lane::with(&yaml(policies, ALL), origin);
    let answer = lane.connect().call(format!(
        "POST /t HTTP/1.1\r\nHost: e2e.test\r\nX-Api-Key: {ALICE}\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n\
         2\r\nhi\r\n0\r\nX-Sum: 1\r\nx-internal: a\r\nX-Internal: b\r\nX-Tenant: forged\r\nX-API-Key: {BOB}\r\n\r\n"
    ));
    let names = |fields: &[(String, String)]| fields.iter().map(|(name, _)| name.to_lowercase()).collect::<Vec<_>>();
    assert_eq!((answer.status, names(&answer.trailers)), (200, vec!["x-sum".to_owned()]));
    let request = lane.origin.only_request();
    assert_eq!((request.field("x-tenant"), names(&request.trailers)), (Some("shop"), vec!["x-sum".to_owned()]));
}
