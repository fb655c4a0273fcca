//! What `cors` holds beyond its page.

use daemun_pipeline::Outcome;

use super::Origin;
use crate::testing::{Bench, consumer, field_lines, respond};

#[test]
fn origins_match_as_browsers_write_them() {
    for (pattern, origin, expected) in [
        ("*", "https://a.test", true),
        ("*", "null", true),
        ("https://a.test", "https://a.test", true),
        ("HTTPS://A.Test:443", "https://a.test", true),
        ("http://a.test:80", "http://a.test", true),
        ("http://a.test:443", "http://a.test:443", true),
        ("https://a.test", "http://a.test", false),
        ("https://a.test", "https://a.test:8443", false),
        ("https://a.test", "https://a.test.evil.test", false),
        ("https://a.test", "https://a.test@evil.test", false),
        ("https://a.test", "null", false),
        ("https://a.test:8443", "https://a.test:8443", true),
        ("https://a.test:8443", "https://a.test", false),
        ("https://*.a.test", "https://b.a.test", true),
        ("https://*.a.test", "https://c.b.a.test", true),
        ("https://*.a.test", "https://a.test", false),
        ("https://*.a.test", "https://.a.test", false),
        ("https://*.a.test", "https://ba.test", false),
        ("https://*.a.test", "https://evil.test/.a.test", false),
        ("https://*.a.test", "https://evil.test#.a.test", false),
        ("https://*.a.test", "https://evil.test?x.a.test", false),
        ("https://*.a.test", "https://u@b.a.test", false),
        ("https://*.a.test", "https://b.a.test:444", false),
        ("https://*.a.test:444", "https://b.a.test:444", true),
        ("http://localhost:*", "http://localhost:5173", true),
        ("http://localhost:*", "http://localhost", true),
        ("http://localhost:*", "http://localhost:5173.evil.test", false),
        ("http://localhost:*", "http://localhost:", false),
        ("http://[::1]:3000", "http://[::1]:3000", true),
        ("http://[::1]:3000", "http://[::2]:3000", false),
        ("chrome-extension://abcdef", "chrome-extension://abcdef", true),
    ] {
        let parsed = Origin::parse(pattern).unwrap_or_else(|| panic!("{pattern} is an origin"));
        assert_eq!(parsed.matches(origin.as_bytes()), expected, "{pattern} {origin}");
    }
}

#[test]
fn what_is_no_origin_is_refused() {
    for text in [
        "",
        "a.test",
        "null",
        "https://",
        "https://a.test/",
        "https://a.test/x",
        "https://a.test:",
        "https://a.test:0",
        "https://a.test:99999",
        "https://*",
        "https://a.*.test",
        "https://*a.test",
        "https://a b",
        "https://u@a.test",
        "*://a.test",
        "https://*.",
        "https://.a.test",
        "https://a.test?x",
    ] {
        assert_eq!(Origin::parse(text), None, "{text}");
    }
}

#[test]
fn wrong_settings_are_found() {
    let bench = Bench::new(Vec::new());
    for (settings, codes) in [
        ("{}", vec!["missing_key"]),
        ("{ origins: [] }", vec!["bad_value"]),
        ("{ origins: ['https://a.test/'] }", vec!["bad_value"]),
        ("{ origins: '*', credentials: true }", vec!["conflicting_keys"]),
        ("{ origins: '*', methods: [get] }", vec!["bad_value"]),
        ("{ origins: '*', headers: ['*'] }", vec!["bad_value"]),
        ("{ origins: '*', expose_headers: ['*'] }", vec!["bad_value"]),
        ("{ origins: '*', max_age: 5 }", vec!["bad_value"]),
        ("{ origins: '*', orgins: x }", vec!["unknown_key"]),
    ] {
        let errors = bench.errors(&format!("cors: {settings}"));
        let found: Vec<_> = errors.iter().filter_map(|error| error.split(' ').next()).collect();
        assert_eq!(found, codes, "{settings}: {errors:?}");
    }
}

#[test]
fn a_preflight_is_answered_before_authentication_and_a_call_is_not() {
    let bench = Bench::new(vec![consumer("a", &[], &["0123456789abcdef"])]);
    let chain = bench.build("{ cors: { origins: 'https://a.test' }, key_auth: { header: K } }").unwrap();
    let preflight = "OPTIONS / HTTP/1.1\nOrigin: https://a.test\nAccess-Control-Request-Method: GET";
    assert_eq!(chain.status(&mut chain.exchange(preflight)), 204);
    assert_eq!(chain.explain(&mut chain.exchange(preflight)).0, Outcome::Answer(204));
    for call in [
        "OPTIONS / HTTP/1.1\nOrigin: https://a.test",
        "OPTIONS / HTTP/1.1\nAccess-Control-Request-Method: GET",
        "GET / HTTP/1.1\nOrigin: https://a.test\nAccess-Control-Request-Method: GET",
    ] {
        assert_eq!(chain.status(&mut chain.exchange(call)), 401, "{call}");
    }
}

#[test]
fn a_refusal_can_be_read_by_the_page() {
    let bench = Bench::new(vec![consumer("a", &[], &["0123456789abcdef"])]);
    let chain = bench.build("{ cors: { origins: 'https://a.test' }, key_auth: { header: K } }").unwrap();
    let mut exchange = chain.exchange("GET / HTTP/1.1\nOrigin: https://a.test");
    let (passed, verdict) = chain.inward(&mut exchange);
    respond(&verdict.unwrap_err(), &mut exchange);
    chain.outward(passed, &mut exchange).expect("it passes");
    assert!(field_lines(&exchange.response.head).contains(&"Access-Control-Allow-Origin: https://a.test".to_owned()));
}

#[test]
fn an_answered_preflight_is_left_alone_on_the_way_out() {
    let chain = Bench::new(Vec::new()).build("cors: { origins: 'https://a.test' }").unwrap();
    let mut exchange = chain.exchange("OPTIONS / HTTP/1.1\nOrigin: https://a.test\nAccess-Control-Request-Method: GET");
    respond(&chain.inward(&mut exchange).1.unwrap_err(), &mut exchange);
    let before = field_lines(&exchange.response.head);
    chain.outward(1, &mut exchange).expect("it passes");
    assert_eq!(field_lines(&exchange.response.head), before);
}

#[test]
fn two_origins_are_none() {
    let chain = Bench::new(Vec::new()).build("cors: { origins: ['https://a.test', 'https://b.test'] }").unwrap();
    let mut exchange = chain.exchange("GET / HTTP/1.1\nOrigin: https://a.test\nOrigin: https://b.test");
    chain.outward(1, &mut exchange).expect("it passes");
    assert_eq!(field_lines(&exchange.response.head), ["Vary: Origin"]);
}

#[test]
fn vary_is_not_repeated() {
    let chain = Bench::new(Vec::new()).build("cors: { origins: ['https://a.test'] }").unwrap();
    for known in ["origin", "Accept, ORIGIN", "*"] {
        let mut exchange = chain.exchange("GET / HTTP/1.1");
        exchange.response.head.append("Vary", known.as_bytes());
        chain.outward(1, &mut exchange).expect("it passes");
        assert_eq!(field_lines(&exchange.response.head), [format!("Vary: {known}")]);
    }
}

#[test]
fn header_names_that_could_be_anything_else_are_not_repeated() {
    let chain = Bench::new(Vec::new()).build("cors: { origins: '*' }").unwrap();
    for asked in ["x; y", "x\"", "x:y"] {
        let text = format!(
            "OPTIONS / HTTP/1.1\nOrigin: https://a.test\nAccess-Control-Request-Method: GET\nAccess-Control-Request-Headers: {asked}"
        );
        let mut exchange = chain.exchange(&text);
        respond(&chain.inward(&mut exchange).1.unwrap_err(), &mut exchange);
        assert!(exchange.response.head.get("Access-Control-Allow-Headers").is_none(), "{asked}");
    }
}
