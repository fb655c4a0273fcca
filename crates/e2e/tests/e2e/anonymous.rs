//! `authenticate: { anonymous: NAME }`: who shows nothing is a consumer of the configuration, and who shows something wrong is nobody.

use std::time::Duration;

use daemun_e2e::gateway::{Folder, run_command};
use daemun_e2e::{Gateway, Lane, Origin, wait_until};

/// `key_auth` and `basic_auth`, one of which must pass, on a route that anonymous calls may read.
fn yaml(origin: &str) -> String {
    format!(
        "workers: 1\nlisteners: [{{ bind: 127.0.0.1:0 }}]\nupstreams: {{ origin: {{ targets: [\"{origin}\"] }} }}\n\
         policies:\n  key_auth: {{ header: X-Api-Key }}\n  basic_auth: {{}}\nroutes:\n  \
         - name: items\n    match: {{ prefix: /items }}\n    upstream: origin\n    \
         authenticate: {{ any: [key_auth, basic_auth], anonymous: guest }}\n    \
         policies:\n      permission: {{ allow: [{{ roles: reader, methods: [GET] }}, {{ roles: buyer }}] }}\n      \
         rate_limit: {{ limit: 2/h, by: consumer }}\n  \
         - {{ name: both, match: {{ path: /both }}, upstream: origin, authenticate: {{ anonymous: guest }} }}\n  \
         - {{ name: closed, match: {{ path: /closed }}, upstream: origin, authenticate: {{ any: [key_auth, basic_auth] }} }}\n  \
         - name: proven\n    match: {{ path: /proven }}\n    upstream: origin\n    \
         authenticate: {{ any: [key_auth, basic_auth], anonymous: guest }}\n    \
         policies: {{ permission: {{ allow: [{{ authenticated: true }}] }} }}\n\
         consumers:\n  - {{ name: guest, roles: [reader] }}\n  \
         - {{ name: app, roles: [buyer], keys: [app-key-0000000001], basic: {{ username: app, password: app-password }} }}\n"
    )
}

/// `app:app-password`
const BASIC: &str = "Authorization: Basic YXBwOmFwcC1wYXNzd29yZA==\r\n";
const KEY: &str = "X-Api-Key: app-key-0000000001\r\n";

#[test]
fn who_shows_nothing_is_the_anonymous_consumer_and_who_shows_something_wrong_is_refused() {
    let origin = Origin::echo();
    let gateway = Gateway::start(&yaml(&origin.url()));
    let lane = Lane { origin, gateway };
    let mut client = lane.connect();
    let mut call = |line: &str, fields: &str| {
        client.call(format!("{line} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n{fields}\r\n")).status
    };
    let cases = [
        ("GET /items/1", "", 200, "guest"),
        // what no authenticator of the route reads is no credential
        ("GET /items/1", "Authorization: Bearer x\r\nX-Api-Key:\r\n", 200, "guest"),
        ("GET /items/1", "", 429, "guest"),
        // with a credential it could be let in
        ("POST /items/1", "", 401, "guest"),
        ("GET /proven", "", 401, "guest"),
        ("GET /proven", KEY, 200, "app"),
        ("GET /items/1", "X-Consumer-Name: app\r\nX-Consumer-Roles: buyer\r\n", 429, "guest"),
        ("GET /items/1", "X-Api-Key: wrong-key-0000000001\r\n", 401, ""),
        ("GET /items/1", "Authorization: Basic !!\r\n", 401, ""),
        ("GET /items/1", "X-Api-Key: a\r\nX-Api-Key: b\r\n", 401, ""),
        ("POST /items/1", KEY, 200, "app"),
        ("POST /items/1", BASIC, 200, "app"),
        ("GET /both", "", 200, "guest"),
        // where all must pass, one alone is not enough
        ("GET /both", KEY, 401, "app"),
        ("GET /both", &format!("{KEY}{BASIC}"), 200, "app"),
        ("GET /closed", "", 401, ""),
    ];
    for (line, fields, status, _) in &cases {
        assert_eq!(call(line, fields), *status, "{line} {fields}");
    }
    let log = wait_until("the access log", Duration::from_secs(10), || {
        Some(lane.gateway.access_log()).filter(|lines| lines.len() == cases.len())
    });
    for ((line, fields, status, consumer), logged) in cases.iter().zip(log) {
        assert_eq!(logged["consumer"].as_str().unwrap_or_default(), *consumer, "{line} {fields} {status}: {logged}");
    }
    let told = lane.origin.look(|log| {
        let of = |request: &daemun_e2e::Request, name| request.head.all(name).collect::<Vec<_>>().join("|");
        let told = |request| format!("{}:{}", of(request, "x-consumer-name"), of(request, "x-consumer-roles"));
        log.requests.iter().map(told).collect::<Vec<_>>()
    });
    assert_eq!(
        told,
        ["guest:reader", "guest:reader", "app:buyer", "app:buyer", "app:buyer", "guest:reader", "app:buyer"]
    );
}

#[test]
fn explain_tells_that_a_call_is_anonymous_and_check_that_nobody_could_be() {
    let folder = Folder::new();
    folder.write("daemun.yaml", yaml("http://127.0.0.1:1"));
    let (code, out, _) = run_command(folder.path(), &["explain", "-c", "daemun.yaml", "GET", "http://a/items/1"]);
    assert!(
        code == Some(0) && out.contains("there is no credential in the request, which is therefore one of `guest`"),
        "{out}"
    );
    let wrong = ["explain", "-c", "daemun.yaml", "GET", "http://a/items/1", "-H", "X-Api-Key: wrong-key-000001"];
    let (_, out, _) = run_command(folder.path(), &wrong);
    assert!(out.contains("401") && !out.contains("guest"), "{out}");
    let wrong = "listeners: [{ bind: 127.0.0.1:0 }]\nroutes:\n  \
                 - { name: a, answer: {}, authenticate: { anonymous: gues } }\n  \
                 - { name: b, match: { path: /b }, answer: {}, policies: { key_auth: { header: K } }, authenticate: { anonymous: guest } }\n  \
                 - { name: c, match: { path: /c }, tokens: { service: shop, endpoint: introspect }, policies: { key_auth: { header: K } }, authenticate: { anonymous: guest } }\n\
                 store: memory\ntokens: { shop: {} }\n\
                 consumers: [{ name: guest }, { name: app, keys: [app-key-0000000001] }]\n";
    folder.write("wrong.yaml", wrong);
    let (code, _, err) = run_command(folder.path(), &["check", "-c", "wrong.yaml"]);
    assert_eq!(code, Some(1), "{err}");
    for found in [
        "error[unknown_consumer] routes.a.authenticate.anonymous: there is no consumer `gues`",
        "error[not_an_authenticator] routes.a.authenticate.anonymous: the route has no authenticator",
    ] {
        assert!(err.contains(found), "{err}");
    }
    assert!(err.contains("routes.c.authenticate.anonymous: a token service is asked here"), "{err}");
    assert_eq!(err.matches("error[").count(), 3, "{err}");
}
