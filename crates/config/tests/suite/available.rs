//! Every key of the language is either built or the error `not_available`; none is unknown, none is ignored.

use std::path::Path;

use crate::support::{VOCABULARY, World, load};
use daemun_config::model::TrustedProxies;
use daemun_config::{Loaded, diagnostic, load_text};

fn load_example(text: &str) -> Loaded {
    let world = World::default().variable("SHOP_APP_KEY", "a key of sufficient length");
    load_text(Path::new("daemun.yaml"), text, &world, &VOCABULARY)
}

#[test]
fn every_key_of_the_example_is_built_or_not_available() {
    let loaded = load_example(include_str!("../language/example.yaml"));
    let found: Vec<(&str, &str)> = loaded.diagnostics.iter().map(|found| (found.code, found.path.as_str())).collect();
    let expected = ["plans.gold.quota"];
    let expected: Vec<_> = expected.map(|path| (diagnostic::NOT_AVAILABLE, path)).into();
    assert_eq!(found, expected);
}

#[test]
fn every_key_that_is_built_is_accepted() {
    let loaded = load_example(include_str!("../language/built.yaml"));
    assert_eq!(loaded.diagnostics.render(&loaded.sources, false), "");
    assert!(loaded.config.is_some());
}

/// What the language has beside the example, each in a place where it belongs.
#[test]
fn what_is_not_built_is_refused_at_its_place() {
    let route = |line: &str| format!("routes: [{{ name: a, answer: {{}}, {line} }}]");
    let cases = [
        (route("policies: { ldap_auth: {} }"), "routes.a.policies.ldap_auth"),
        (route("authenticate: { any: [ldap_auth] }"), "routes.a.authenticate.any"),
        ("plans: { gold: { limit: 1/s, quota: 5/day } }".to_owned(), "plans.gold.quota"),
    ];
    for (text, path) in cases {
        let loaded = load(&text);
        let found: Vec<&str> = loaded
            .diagnostics
            .iter()
            .filter(|found| found.code == diagnostic::NOT_AVAILABLE)
            .map(|found| found.path.as_str())
            .collect();
        assert_eq!(found, [path], "{text}");
        let unknown = [diagnostic::UNKNOWN_KEY, diagnostic::UNKNOWN_POLICY, diagnostic::BAD_VALUE];
        assert!(!loaded.diagnostics.iter().any(|found| unknown.contains(&found.code)), "{text}");
    }
}

#[test]
fn defaults_are_those_of_the_language() {
    let loaded = load("listeners: [{ bind: 127.0.0.1:0 }]\nroutes: [{ name: a, answer: { body: hello } }]");
    let config = loaded.config.unwrap();
    assert_eq!((config.limits.head, config.limits.fields, config.limits.target), (64 << 10, 100, 16 << 10));
    assert_eq!((config.limits.body, config.limits.connections), (10 << 20, None));
    let seconds = [
        config.timeouts.head,
        config.timeouts.body_idle,
        config.timeouts.write_idle,
        config.timeouts.keep_alive,
        config.timeouts.stream_idle,
        config.timeouts.min_rate_after,
        config.timeouts.drain,
    ];
    assert_eq!(seconds.map(|duration| duration.as_secs()), [10, 30, 30, 75, 300, 10, 30]);
    assert_eq!(config.timeouts.min_rate, 240);
    assert!(config.access_log.is_some());
    assert!(config.admin.is_none() && config.status.is_none() && config.workers.is_none());
    assert!(config.trusted_proxies == TrustedProxies::default() && !config.hosts_fall_through);
    assert_eq!(config.routes[0].upgrades, ["websocket"]);
}
