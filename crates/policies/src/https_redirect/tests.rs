//! What `https_redirect` holds beyond its page.

use daemun_pipeline::{Outcome, Span, Stop};

use crate::testing::{Bench, Chain};

fn chain(settings: &str) -> Chain {
    Bench::new(Vec::new()).build(&format!("https_redirect: {settings}")).unwrap()
}

/// Where a request without TLS is sent.
fn sent(chain: &Chain, text: &str) -> Option<(u16, String)> {
    match chain.inward(&mut chain.exchange(text)).1 {
        Ok(()) => None,
        Err(Stop::Answer(answer)) => Some((answer.status, answer.fields[0].1.clone())),
        Err(Stop::Fault(fault)) => Some((fault.reason.status(), String::new())),
    }
}

#[test]
fn path_and_query_stay_and_the_host_is_never_another() {
    let chain = chain("{ status: 301 }");
    for (target, host, location) in [
        ("/a/b?c=d&e", "Shop.Example.com", "https://shop.example.com/a/b?c=d&e"),
        ("/", "shop.example.com:8080", "https://shop.example.com/"),
        ("/?", "a.test", "https://a.test/?"),
        ("//evil.example/x", "a.test", "https://a.test//evil.example/x"),
        ("/\\evil.example", "a.test", "https://a.test/\\evil.example"),
        ("/@evil.example", "a.test", "https://a.test/@evil.example"),
        ("/?u=https://evil.example", "a.test", "https://a.test/?u=https://evil.example"),
        ("*", "a.test", "https://a.test/*"),
    ] {
        let found = sent(&chain, &format!("GET {target} HTTP/1.1\nHost: {host}"));
        assert_eq!(found, Some((301, location.to_owned())), "{target} {host}");
    }
}

#[test]
fn a_request_that_names_no_host_is_refused() {
    let chain = chain("{}");
    assert_eq!(sent(&chain, "GET / HTTP/1.0"), Some((400, String::new())));
    assert_eq!(chain.explain(&mut chain.exchange("GET / HTTP/1.0")).0, Outcome::Refuse(400, "bad_host"));
}

#[test]
fn only_a_trusted_proxy_may_say_that_the_caller_came_over_tls() {
    let chain = chain("{}");
    for (trusted, tls, said, passes) in [
        (false, false, "https", false),
        (true, false, "https", true),
        (true, false, "http", false),
        (true, true, "http", false),
        (false, true, "http", true),
    ] {
        let mut exchange = chain.exchange(&format!("GET / HTTP/1.1\nHost: a.test\nX-Forwarded-Proto: {said}"));
        exchange.client.trusted = trusted;
        exchange.client.tls = tls;
        assert_eq!(chain.status(&mut exchange) == 0, passes, "{trusted} {tls} {said}");
    }
}

#[test]
fn what_is_excepted_is_a_path_and_below_it_by_whole_segments() {
    let chain = chain("{ except: [/.well-known/acme-challenge/, /health] }");
    for (target, passes) in [
        ("/.well-known/acme-challenge/token", true),
        ("/.well-known/acme-challenge", true),
        ("/.well-known/acme-challenges", false),
        ("/health?x", true),
        ("/healthz", false),
        ("/a/health", false),
        ("/", false),
    ] {
        assert_eq!(sent(&chain, &format!("GET {target} HTTP/1.1\nHost: a.test")).is_none(), passes, "{target}");
    }
    let mut exchange = chain.exchange("GET /HEALTH HTTP/1.1\nHost: a.test");
    exchange.request.path = Span::default();
    assert_eq!(chain.status(&mut exchange), 308);
}

#[test]
fn explain_says_where_to_and_why_not() {
    let chain = chain("{ port: 8443, except: /health }");
    for (target, tls, expected) in [
        (
            "/a?b",
            false,
            (Outcome::Answer(308), "the caller came without TLS, and is sent to `https://a.test:8443/a?b`"),
        ),
        ("/a", true, (Outcome::Pass, "the caller came over TLS")),
        ("/health", false, (Outcome::Pass, "the path is below `/health`, which is excepted")),
    ] {
        let mut exchange = chain.exchange(&format!("GET {target} HTTP/1.1\nHost: a.test"));
        exchange.client.tls = tls;
        let (outcome, detail) = chain.explain(&mut exchange);
        assert_eq!((outcome, detail.as_str()), expected);
    }
}

#[test]
fn wrong_settings_are_found() {
    let bench = Bench::new(Vec::new());
    for (settings, code) in [
        ("{ port: 0 }", "bad_value"),
        ("{ port: 70000 }", "bad_value"),
        ("{ status: 303 }", "bad_value"),
        ("{ status: 200 }", "bad_value"),
        ("{ status: moved }", "wrong_type"),
        ("{ except: health }", "bad_value"),
        ("{ except: ['/a?b'] }", "bad_value"),
        ("{ except: ['/a/../b'] }", "bad_value"),
        ("{ except: ['/a//b'] }", "bad_value"),
        ("{ except: ['/a%2Fb'] }", "bad_value"),
        ("{ to: x }", "unknown_key"),
    ] {
        let errors = bench.errors(&format!("https_redirect: {settings}"));
        assert_eq!(errors.len(), 1, "{settings}: {errors:?}");
        assert!(errors[0].starts_with(code), "{settings}: {errors:?}");
    }
    assert_eq!(bench.errors("https_redirect: { except: / }"), [""; 0]);
}
