//! What `canonical_host` holds beyond its page.

use daemun_pipeline::{Outcome, Stop};

use crate::testing::{Bench, Chain};

fn chain(settings: &str) -> Chain {
    Bench::new(Vec::new()).build(&format!("canonical_host: {settings}")).unwrap()
}

/// Where a request is sent; `None` when it stays.
fn sent(chain: &Chain, text: &str) -> Option<String> {
    match chain.inward(&mut chain.exchange(text)).1 {
        Ok(()) => None,
        Err(Stop::Answer(answer)) => Some(answer.fields[0].1.clone()),
        Err(Stop::Fault(fault)) => panic!("{fault:?}"),
    }
}

#[test]
fn every_other_host_is_sent_to_the_one_and_nowhere_else() {
    let chain = chain("{ host: WWW.Example.com. }");
    for (target, host, location) in [
        ("/a?b", "www.example.com", None),
        ("/a?b", "WWW.EXAMPLE.COM:8080", None),
        ("/a?b", "example.com", Some("http://www.example.com/a?b")),
        ("/a", "example.com:8080", Some("http://www.example.com:8080/a")),
        ("/a", "www.example.com.evil.test", Some("http://www.example.com/a")),
        ("//evil.test/%2e", "evil.test", Some("http://www.example.com//evil.test/%2e")),
        ("/", "192.0.2.1", Some("http://www.example.com/")),
        ("*", "example.com", Some("http://www.example.com/*")),
    ] {
        let found = sent(&chain, &format!("GET {target} HTTP/1.1\nHost: {host}"));
        assert_eq!(found.as_deref(), location, "{target} {host}");
    }
    assert_eq!(sent(&chain, "GET /x HTTP/1.0").as_deref(), Some("http://www.example.com/x"), "no host is another host");
}

#[test]
fn the_port_is_what_stands_behind_the_host() {
    for (authority, port) in [
        ("a.test", ""),
        ("a.test:80", ":80"),
        ("[::1]", ""),
        ("[::1]:81", ":81"),
        ("a.test:", ""),
        ("a.test:x", ""),
        ("", ""),
    ] {
        assert_eq!(super::port(authority.as_bytes()), port.as_bytes(), "{authority}");
    }
}

#[test]
fn with_a_list_only_its_hosts_are_sent_on() {
    let chain = chain("{ host: www.example.com, from: [example.com, '*.old.test'], except: /health }");
    for (target, host, stays) in [
        ("/", "example.com", false),
        ("/", "a.b.old.test", false),
        ("/", "old.test", true),
        ("/", ".old.test", true),
        ("/", "notold.test", true),
        ("/", "api.example.com", true),
        ("/health/live", "example.com", true),
    ] {
        assert_eq!(sent(&chain, &format!("GET {target} HTTP/1.1\nHost: {host}")).is_none(), stays, "{target} {host}");
    }
}

#[test]
fn the_scheme_stays_the_callers() {
    let chain = chain("{ host: a.test, status: 301 }");
    let mut exchange = chain.exchange("GET / HTTP/1.1\nHost: b.test");
    exchange.client.tls = true;
    let (outcome, detail) = chain.explain(&mut exchange);
    assert_eq!(outcome, Outcome::Answer(301));
    assert_eq!(detail, "the host is another, and the caller is sent to `https://a.test/`");
}

#[test]
fn wrong_settings_are_found() {
    let bench = Bench::new(Vec::new());
    for (settings, code) in [
        ("{}", "missing_key"),
        ("{ host: '' }", "bad_value"),
        ("{ host: 'https://a.test' }", "bad_value"),
        ("{ host: 'a.test:80' }", "bad_value"),
        ("{ host: '*.a.test' }", "bad_value"),
        ("{ host: 'a..test' }", "bad_value"),
        ("{ host: 'a.test/x' }", "bad_value"),
        ("{ host: a.test, from: [] }", "bad_value"),
        ("{ host: a.test, from: [A.test] }", "bad_value"),
        ("{ host: a.test, from: ['*'] }", "bad_value"),
        ("{ host: a.test, status: 404 }", "bad_value"),
        ("{ host: a.test, hosts: x }", "unknown_key"),
    ] {
        let errors = bench.errors(&format!("canonical_host: {settings}"));
        assert_eq!(errors.len(), 1, "{settings}: {errors:?}");
        assert!(errors[0].starts_with(code), "{settings}: {errors:?}");
    }
}
