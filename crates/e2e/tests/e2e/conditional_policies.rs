//! Policies that run on some requests only: whom they hold, what they leave alone, and what happens where that cannot be told.

use daemun_e2e::gateway::{Folder, run_command};
use daemun_e2e::{Client, Lane, Response};

const SHOP: &str = "shop-key-0123456789";
const BATCH: &str = "batch-key-0123456789";

fn yaml(policies: &str) -> String {
    format!(
        "workers: 1\naccess_log: off\nlisteners:\n  - bind: 127.0.0.1:0\nupstreams:\n  origin:\n    targets: [\"{{origin}}\"]\n\
         routes:\n  - name: all\n    match: {{ path: \"/{{*rest}}\" }}\n    upstream: origin\n    policies:\n{policies}\
         consumers:\n  - name: shop\n    keys: [\"{SHOP}\"]\n  - name: batch\n    keys: [\"{BATCH}\"]\n"
    )
}

fn call(client: &mut Client, request_line: &str, fields: &str) -> Response {
    client.call(format!("{request_line} HTTP/1.1\r\nHost: e2e.test\r\nContent-Length: 0\r\n{fields}\r\n"))
}

fn get(client: &mut Client, target: &str, fields: &str) -> Response {
    client.call(format!("GET {target} HTTP/1.1\r\nHost: e2e.test\r\n{fields}\r\n"))
}

#[test]
fn a_limit_holds_only_those_its_condition_names() {
    for limit in [
        r#"{ limit: 2/day, by: consumer, when: 'consumer.name != "batch" && request.method == "POST"' }"#,
        r#"{ when: 'consumer.name != "batch" && request.method == "POST"', limits: [{ limit: 2/day, by: consumer }, { limit: 9/day, by: route }] }"#,
    ] {
        let lane = Lane::start(&yaml(&format!("      key_auth: {{ header: x-api-key }}\n      rate_limit: {limit}\n")));
        let mut client = lane.connect();
        let (shop, batch) = (format!("x-api-key: {SHOP}\r\n"), format!("x-api-key: {BATCH}\r\n"));
        let posts = |client: &mut Client, who: &str| -> Vec<u16> {
            (0..4).map(|_| call(client, "POST /a", who).status).collect()
        };
        assert_eq!(posts(&mut client, &batch), [200; 4], "{limit}");
        assert_eq!((0..4).map(|_| get(&mut client, "/a", &shop).status).collect::<Vec<_>>(), [200; 4], "{limit}");
        assert_eq!(posts(&mut client, &shop), [200, 200, 429, 429], "{limit}");
        assert_eq!(posts(&mut client, &batch), [200; 4], "{limit}");
        assert_eq!(call(&mut client, "POST /a", "").status, 401, "who calls is asked all the same");
    }
}

#[test]
fn what_did_not_run_inward_does_not_run_outward() {
    let policies = r#"      headers: { when: 'request.query["on"] == "1"', request: { set: { x-in: "1" } }, response: { set: { x-out: "1" } } }
      security_headers: { when: 'params.rest != "plain"' }
      compress: { when: 'request.query["on"] != "1"', min_size: 1B }
"#;
    let lane = Lane::start(&yaml(policies));
    let mut client = lane.connect();
    for (target, on, secured) in [("/a?on=1", true, true), ("/plain", false, false), ("/plain?on=1", true, false)] {
        let answer = get(&mut client, target, "Accept-Encoding: gzip\r\n");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.field("x-out").is_some(), on, "{target}");
        assert_eq!(answer.field("x-content-type-options").is_some(), secured, "{target}");
        assert_eq!(answer.field("content-encoding").is_some(), !on, "{target}");
        let request = lane.origin.look(|log| log.requests.last().cloned().unwrap());
        assert_eq!(request.has("x-in"), on, "{target}");
    }
}

#[test]
fn no_body_is_held_for_a_policy_that_does_not_run() {
    let policies = "      transform: { when: '\"x-change\" in request.header', request: [{ set: { body.a: 1 } }], max_body: 1KiB }\n";
    let lane = Lane::start(&yaml(policies));
    let mut client = lane.connect();
    let body = format!("{{\"b\":\"{}\"}}", "x".repeat(5_000));
    let post = |client: &mut Client, fields: &str| {
        let length = body.len();
        client.call(format!(
            "POST /a HTTP/1.1\r\nHost: e2e.test\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{fields}\r\n{body}"
        ))
    };
    assert_eq!(post(&mut client, "").status, 200);
    assert_eq!(lane.origin.only_request().body, body.as_bytes());
    assert_eq!(post(&mut client, "X-Change: 1\r\n").status, 413);
    assert_eq!(lane.origin.look(|log| log.requests.len()), 1);
}

#[test]
fn a_condition_that_cannot_be_answered_leaves_protection_on_and_changes_off() {
    let policies = r#"      ip_filter: { deny: ["127.0.0.0/8"], when: 'request.query["deny"] == "1"' }
      rate_limit: { limit: 1/day, by: route, when: 'int(request.query["page"]) > 10' }
      headers: { request: { set: { x-trusted: "1" } }, when: 'request.query["pass"] == "open"' }
"#;
    let lane = Lane::start(&yaml(policies));
    let mut client = lane.connect();
    let mut status = |target: &str| get(&mut client, target, "").status;
    assert_eq!((status("/a?deny=0&page=1"), status("/a?deny=1&page=1")), (200, 403));
    assert_eq!(status("/a?deny=0&deny=1&page=1"), 403, "which of two values counts is not known");
    assert_eq!(status("/a?deny=0&deny=2&page=1"), 403);
    assert_eq!((status("/a?page=none"), status("/a?page=none"), status("/a?page=2")), (200, 429, 200));
    lane.origin.take();
    assert_eq!((status("/a?page=1&pass=open"), status("/a?page=1&pass=open&pass=x")), (200, 200));
    let trusted: Vec<bool> = lane.origin.take().requests.iter().map(|request| request.has("x-trusted")).collect();
    assert_eq!(trusted, [true, false]);
}

#[test]
fn a_request_whose_condition_would_cost_too_much_is_refused() {
    let policies = r#"      headers: { response: { set: { x-out: "1" } }, when: 'request.header["x"].matches("[01]*1[01]{600}2")' }
"#;
    let lane = Lane::start(&yaml(policies));
    let mut client = lane.connect();
    assert_eq!(get(&mut client, "/a", "X: 0101\r\n").status, 200);
    let refused = get(&mut client, "/a", &format!("X: {}\r\n", "01".repeat(2_000)));
    assert_eq!(
        (refused.status, refused.json()["type"].as_str().is_some_and(|kind| kind.ends_with("expression_cost"))),
        (413, true)
    );
    assert_eq!(lane.origin.look(|log| log.requests.len()), 1);
}

#[test]
fn requests_without_a_route_are_held_by_global_policies_under_their_conditions() {
    let text = yaml("      body_limit: { max: 1MiB }\n").replace("\"/{*rest}\"", "/a").replace(
        "routes:\n",
        "policies:\n  ip_filter: { deny: [\"127.0.0.0/8\"], when: 'request.path.startsWith(\"/internal\")' }\nroutes:\n",
    );
    let lane = Lane::start(&text);
    let mut client = lane.connect();
    let mut status = |target: &str| get(&mut client, target, "").status;
    assert_eq!((status("/a"), status("/b"), status("/internal/b"), status("/x/../internal")), (200, 404, 403, 403));
}

#[test]
fn explain_says_which_policies_do_not_run() {
    let folder = Folder::new();
    let text = yaml("      headers: { request: { set: { x-in: \"1\" } }, when: 'request.query[\"on\"] == \"1\"' }\n");
    folder.write("daemun.yaml", text.replace("{origin}", "http://127.0.0.1:9"));
    let explain = |target: &str| {
        let (code, out, err) = run_command(folder.path(), &["explain", "-c", "daemun.yaml", "GET", target]);
        assert_eq!(code, Some(0), "{err}");
        out
    };
    let skipped = explain("http://a.test/a");
    assert!(skipped.contains("does not run"), "{skipped}");
    assert!(skipped.contains(r#"its `when` does not hold: `request.query["on"] == "1"`"#), "{skipped}");
    assert!(!skipped.contains("x-in: 1"), "{skipped}");
    let ran = explain("http://a.test/a?on=1");
    assert!(ran.contains("x-in: 1") && !ran.contains("does not run"), "{ran}");
}

#[test]
fn conditions_that_cannot_stand_are_refused_where_they_are() {
    for (policies, path, what) in [
        (
            "ip_filter: { deny: [10.0.0.1], when: 'consumer.name == \"a\"' }",
            "ip_filter.when",
            "who calls is not known yet",
        ),
        (
            "rate_limit: { when: 'consumer.name == \"a\"', limits: [{ limit: 1/s, by: client_ip }, { limit: 1/s, by: route }] }",
            "rate_limit.when",
            "who calls is not known yet",
        ),
        ("key_auth: { when: 'request.method == \"GET\"' }", "key_auth.when", "`key_auth` takes no `when`: who calls"),
        ("cors: { origins: [\"https://a.test\"], when: 'true' }", "cors.when", "`cors` takes no `when`: a preflight"),
        (
            "headers: { response: { set: { a: b } }, when: 'response.status == 200' }",
            "headers.when",
            "there is no answer yet",
        ),
        (
            "headers: { response: { set: { a: b } }, when: 'request.body.a == 1' }",
            "headers.when",
            "the body is not read here",
        ),
        ("headers: { response: { set: { a: b } }, when: 'request.methd == \"GET\"' }", "headers.when", "did you mean"),
        ("headers: { response: { set: { a: b } }, when: '${env:PATH}' }", "headers.when", "an expression holds no"),
        ("headers: { response: { set: { a: b } }, when: true }", "headers.when", "quote it"),
        ("rate_limit: [{ limit: 1/s, by: route, when: 'true' }]", "rate_limit[0]", "`when`"),
    ] {
        let folder = Folder::new();
        folder.write("daemun.yaml", yaml(&format!("      {policies}\n")).replace("{origin}", "http://127.0.0.1:9"));
        let (code, out, err) = run_command(folder.path(), &["check", "-c", "daemun.yaml"]);
        let said = format!("{out}{err}");
        assert_eq!(code, Some(1), "{policies}\n{said}");
        assert!(said.contains(&format!("routes.all.policies.{path}")) && said.contains(what), "{policies}\n{said}");
    }
}
