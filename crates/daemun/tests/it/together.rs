//! What is found while compiling is told together with what is wrong in the text, and nothing that only follows from that.

use daemun::Code;

use crate::support::{Folder, daemun};

/// Every finding of a configuration that is wrong as its code and path, in order.
fn found(text: &str) -> Vec<String> {
    let (code, found) = checked(text);
    assert_eq!(code, Code::Wrong, "{found:?}");
    found
}

fn checked(text: &str) -> (Code, Vec<String>) {
    let folder = Folder::new();
    let path = folder.write("daemun.yaml", text).display().to_string();
    let ran = daemun(&["check", "-c", &path, "--format", "json"]);
    let listed: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let findings = listed["diagnostics"].as_array().unwrap();
    let line = |one: &serde_json::Value| format!("{} {}", one["code"].as_str().unwrap(), one["path"].as_str().unwrap());
    (ran.code, findings.iter().map(line).collect())
}

#[test]
fn findings_of_reading_and_of_compiling_come_together() {
    let text = r#"
listeners:
  - { bind: 5 }
  - bind: 127.0.0.1:0
    tls: { client_ca: none.ca, certificates: [{ cert: none.crt, key: none.key }, { cert: two.crt, key: two.key }] }
access_log: { format: "${statu}" }
upstreams:
  u: { targets: ["https://a"], tls: { ca: none.ca, cert: none.crt, key: none.key } }
  broken: { targets: ["ftp://x"] }
routes:
  - { name: wrong, upstream: u, match: { path: /a }, timeouts: { response: soon } }
  - { name: b, upstream: u, match: { path: /a } }
  - { name: c, upstream: u, match: { path: /a } }
  - { name: d, upstream: broken, match: { path: /d }, policies: { rate_limit: { limit: 1/s, by: consumer } } }
  - { name: e, upstream: u, match: { path: /e }, policies: { rate_limit: { limit: 1/s, by: consumer } } }
  - { name: f, upstream: u, match: { path: "/f/{id}" }, rewrite: { path: "/x//{id}" } }
  - { name: g, upstream: u, match: { path: /g }, redirect: { to: "https://a.example{path}b" } }
"#;
    assert_eq!(
        found(text),
        [
            "wrong_type listeners[0].bind",
            "tls_file listeners[1].tls.client_ca",
            "tls_file listeners[1].tls.certificates[0].cert",
            "tls_file listeners[1].tls.certificates[0].key",
            "tls_file listeners[1].tls.certificates[1].cert",
            "tls_file listeners[1].tls.certificates[1].key",
            "bad_value access_log.format",
            "tls_file upstreams.u.tls.ca",
            "tls_file upstreams.u.tls.cert",
            "tls_file upstreams.u.tls.key",
            "bad_value upstreams.broken.targets[0]",
            "bad_value routes.wrong.timeouts.response",
            "route_conflict routes.c.match",
            "needs_authenticator routes.d.policies.rate_limit",
            "needs_authenticator routes.e.policies.rate_limit",
            "bad_value routes.f.rewrite.path",
            "conflicting_keys routes.g.redirect",
        ]
    );
}

#[test]
fn what_only_follows_from_another_finding_is_not_told() {
    let listener = "listeners: [{ bind: 127.0.0.1:0 }]\n";
    for (text, expected) in [
        // the broken policy is there, and the misspelt one may be the authenticator that is missing
        (
            "policies: { key_auth: { header: 5 } }\nroutes: [{ name: a, answer: {}, policies: { rate_limit: { limit: 1/s, by: consumer } } }]\n\
             consumers: [{ name: c, keys: [a-key-of-16-bytes] }]\n",
            &["wrong_type policies.key_auth.header"][..],
        ),
        (
            "policies: { key_ath: {} }\nroutes:\n  - { name: a, answer: {}, authenticate: { any: [key_auth] }, policies: { rate_limit: { limit: 1/s, by: consumer } } }\n  \
             - { name: b, match: { path: /b }, answer: {}, policies: { key_auth: off } }\n",
            &["unknown_policy policies.key_ath"],
        ),
        // a consumer with an error may have the key that nobody has
        (
            "policies: { key_auth: { header: X-Key } }\nroutes: [{ name: a, answer: {} }]\nconsumers: [{ name: c, keys: [short] }]\n",
            &["short_key consumers.c.keys[0]"],
        ),
        // a route without a readable upstream may use any
        (
            "upstreams: { u: { targets: [\"http://a\"] } }\nroutes: [{ name: a, upstream: 5 }]\n",
            &["wrong_type routes.a.upstream"],
        ),
        (
            "upstreams: { cataloge: { targets: [\"http://a\"] } }\nroutes: [{ name: a, upstream: catalog }]\n",
            &["unknown_upstream routes.a.upstream"],
        ),
        (
            "upstreams: { u: { targets: [5] } }\nroutes: [{ name: a, upstream: u }]\n",
            &["wrong_type upstreams.u.targets[0]"],
        ),
        // a condition that is not known is not taken for none
        (
            "routes: [{ name: a, match: { path: /a, headers: { x: \"${env:NO_SUCH_VARIABLE}\" } }, answer: {} }, { name: b, match: { path: /a, headers: { x: \"\" } }, answer: {} }]\n",
            &["bad_reference routes.a.match.headers.x"],
        ),
        (
            "routes: [{ name: a, match: { pth: /a }, answer: {} }, { name: b, answer: {} }]\n",
            &["unknown_key routes.a.match.pth"],
        ),
    ] {
        assert_eq!(found(&format!("{listener}{text}")), expected, "{text}");
    }
}

#[test]
fn every_finding_of_compiling_comes_at_once() {
    let text = r#"
listeners: [{ bind: 127.0.0.1:0, tls: { certificates: [{ cert: none.crt, key: none.key }] } }]
routes:
  - { name: a, match: { path: /a }, answer: {}, policies: { rate_limit: { limit: 1/s, by: consumer } } }
  - { name: b, match: { path: /a }, answer: {} }
  - { name: c, match: { path: /c }, redirect: { to: "https://{q}" } }
"#;
    let expected = [
        "tls_file listeners[0].tls.certificates[0].cert",
        "tls_file listeners[0].tls.certificates[0].key",
        "needs_authenticator routes.a.policies.rate_limit",
        "route_conflict routes.b.match",
        "unknown_parameter routes.c.redirect.to",
    ];
    assert_eq!(found(text), expected);
}

#[test]
fn a_token_that_everybody_must_show_for_the_first_one_is_warned_of() {
    let with = |policies: &str, login: &str| {
        checked(&format!(
            "listeners: [{{ bind: 127.0.0.1:0 }}]\nstore: memory\ntokens: {{ shop: {{}} }}\npolicies: {{ {policies} }}\nroutes:\n  \
             - {{ name: login, match: {{ path: /auth }}, tokens: shop{login} }}\n  - {{ name: items, match: {{ path: /items }}, answer: {{}} }}\n\
             consumers: [{{ name: app, keys: [a-key-of-16-bytes] }}, {{ name: guest }}]\n"
        ))
        .1
    };
    let always = "token_auth: {}";
    let warning = ["contradiction routes.login.policies.tokens"];
    assert_eq!(with(always, ""), warning);
    assert_eq!(with("token_auth: {}, key_auth: { header: X-Key }", ""), warning, "a key beside it does not help");
    for (policies, login) in [
        (always, ", policies: { token_auth: off }"),
        ("token_auth: {}, key_auth: { header: X-Key }", ", authenticate: { any: [token_auth, key_auth] }"),
        (always, ", authenticate: { anonymous: guest }"),
    ] {
        let found = with(policies, login);
        assert!(!found.contains(&warning[0].to_owned()), "{policies} {login}: {found:?}");
    }
}
