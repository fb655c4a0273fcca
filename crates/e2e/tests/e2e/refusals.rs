//! The gateway's own answers: problem documents, their fields, and their replacements.

use daemun_e2e::lane::FORWARD_ALL;
use daemun_e2e::{Gateway, Origin, Response};

fn is_problem(answer: &Response, status: u16) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.field("content-type"), Some("application/problem+json"));
    let problem = answer.json();
    assert_eq!(problem["status"], status);
    for key in ["type", "title", "detail", "instance"] {
        assert!(problem[key].as_str().is_some_and(|text| !text.is_empty()), "`{key}` of {problem}");
    }
    assert_eq!(problem["instance"].as_str(), answer.field("x-request-id"), "the instance is the request's id");
    let text = answer.text();
    assert!(!text.contains("127.0.0.1") && !text.contains("panicked") && !text.contains(".rs"), "{text}");
}

#[test]
fn refusals_are_problem_documents() {
    let origin = Origin::echo();
    let yaml = FORWARD_ALL
        .replace("match: { prefix: / }", "match: { path: /known, methods: [GET] }")
        .replace("routes:\n", "routes:\n  - name: down\n    match: { path: /down }\n    upstream: down\n")
        .replace("upstreams:\n", "upstreams:\n  down: { targets: [\"http://127.0.0.1:1\"] }\n");
    let gateway = Gateway::start(&yaml.replace("{origin}", &origin.url()));
    let mut client = gateway.connect();
    is_problem(&client.get("/unknown"), 404);
    let refused = client.call("DELETE /known HTTP/1.1\r\nHost: e2e.test\r\n\r\n");
    is_problem(&refused, 405);
    assert_eq!(refused.field("allow"), Some("GET, HEAD"));
    let down = client.get("/down");
    assert!(matches!(down.status, 502 | 503));
    is_problem(&down, down.status);
    let path = client.get("/a%00b");
    assert_eq!(path.status, 400);
    let head = gateway.connect().call("HEAD /unknown HTTP/1.1\r\nHost: e2e.test\r\n\r\n");
    assert_eq!((head.status, head.body.len()), (404, 0));
    assert_eq!(origin.look(|log| log.requests.len()), 0);
}

#[test]
fn a_message_that_cannot_be_read_gets_a_problem_document_as_well() {
    let origin = Origin::echo();
    let gateway = Gateway::start(&FORWARD_ALL.replace("{origin}", &origin.url()));
    for (bytes, status) in [
        ("GET /t HTTP/1.1\r\n\r\n", 400),
        ("GET /t HTTP/1.1\r\nHost: e2e.test\r\nX A: b\r\n\r\n", 400),
        ("GET /t HTTP/3.0\r\nHost: e2e.test\r\n\r\n", 505),
        ("POST /t HTTP/1.1\r\nHost: e2e.test\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
        ("POST /t HTTP/1.1\r\nHost: e2e.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        ("POST /t HTTP/1.1\r\nHost: e2e.test\r\nContent-Length: 99999999999\r\n\r\n", 413),
    ] {
        let mut client = gateway.connect();
        let answer = client.call(bytes);
        assert_eq!(answer.status, status, "{bytes}");
        assert_eq!(answer.field("content-type"), Some("application/problem+json"), "{bytes}");
        assert_eq!(answer.json()["status"], status);
        assert!(answer.closes(), "{bytes}: the connection ends without a word");
        assert!(client.is_closed(), "{bytes}");
    }
}

#[test]
fn what_a_caller_sends_is_never_repeated_as_markup() {
    let origin = Origin::echo();
    let yaml = FORWARD_ALL.replace("prefix: /", "path: /known");
    let gateway = Gateway::start(&yaml.replace("{origin}", &origin.url()));
    let answer = gateway.get("/%3Cscript%3E?<script>alert(1)</script>");
    assert!(matches!(answer.status, 400 | 404));
    assert!(!answer.text().contains("<script>"), "{}", answer.text());
    assert_eq!(answer.field("content-type"), Some("application/problem+json"));
}

#[test]
fn replaced_bodies_are_used_and_filled_in() {
    let origin = Origin::echo();
    let yaml = format!(
        "errors:\n  404: {{ content_type: application/json, body: '{{\"code\":${{status}},\"why\":\"${{title}}\",\"id\":\"${{instance}}\"}}' }}\n{}",
        FORWARD_ALL.replace("prefix: /", "path: /known")
    );
    let gateway = Gateway::start(&yaml.replace("{origin}", &origin.url()));
    let answer = gateway.get("/unknown");
    assert_eq!((answer.status, answer.field("content-type")), (404, Some("application/json")));
    let body = answer.json();
    assert_eq!(body["code"], 404);
    assert!(body["why"].as_str().is_some_and(|why| !why.is_empty() && !why.contains("${")), "{body}");
    assert_eq!(body["id"].as_str(), answer.field("x-request-id"));
}

#[test]
fn bodies_of_a_route_win_over_those_of_all_and_have_one_type() {
    let body = |text: &str| format!("{{ content_type: text/{text}, body: {text} }}");
    let route = |name: &str, more: &str| {
        format!(
            "  - {{ name: {name}, match: {{ path: /{name} }}, answer: {{}}, policies: {{ key_auth: {{ header: X-Key }} }}{more} }}\n"
        )
    };
    let yaml = format!(
        "workers: 1\naccess_log: off\nlisteners: [{{ bind: 127.0.0.1:0 }}]\nstore: memory\ntokens: {{ shop: {{}} }}\n\
         errors: {{ 401: {}, 404: {} }}\nroutes:\n{}{}{}  \
         - {{ name: auth, match: {{ path: /auth }}, tokens: {{ service: shop, grants: [key] }}, errors: {{ 401: {} }} }}\n\
         consumers: [{{ name: a, keys: [a-key-of-somebody] }}]\n",
        body("all"),
        body("none"),
        route("own", &format!(", errors: {{ 401: {} }}", body("own"))),
        route("other", &format!(", errors: {{ 403: {} }}", body("other"))),
        route("plain", ""),
        body("auth"),
    );
    let gateway = Gateway::start(&yaml);
    for (path, status, text) in
        [("/own", 401, "own"), ("/other", 401, "all"), ("/plain", 401, "all"), ("/nothing", 404, "none")]
    {
        let answer = gateway.get(path);
        assert_eq!((answer.status, &*answer.text()), (status, text), "{path}");
        assert_eq!(answer.field("content-type"), Some(&*format!("text/{text}")), "{path}");
    }
    // what OAuth has as JSON has the type of the body in its place, once
    let answer = gateway.connect().call("POST /auth HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!((answer.status, &*answer.text()), (401, "auth"));
    assert_eq!(answer.field("content-type"), Some("text/auth"));
    assert_eq!(answer.field("www-authenticate"), Some("Basic realm=\"daemun\""));
}

#[test]
fn a_refused_request_with_a_body_leaves_the_connection_usable_or_closed() {
    let origin = Origin::echo();
    let yaml = FORWARD_ALL.replace("prefix: /", "path: /known");
    let gateway = Gateway::start(&yaml.replace("{origin}", &origin.url()));
    for length in [5, 5000, 500_000] {
        let mut client = gateway.connect();
        let body = "b".repeat(length);
        client.send(format!("POST /unknown HTTP/1.1\r\nHost: e2e.test\r\nContent-Length: {length}\r\n\r\n{body}"));
        let answer = client.response().unwrap_or_else(|broken| panic!("{length} bytes: {broken}"));
        assert_eq!(answer.status, 404);
        if answer.closes() {
            assert!(client.is_closed(), "{length} bytes");
        } else {
            assert_eq!(client.get("/known").text(), "/known", "{length} bytes");
        }
    }
}
