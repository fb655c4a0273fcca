//! What `headers` holds beyond its page.

use crate::testing::{Bench, upstream_lines};

#[test]
fn wrong_settings_are_found() {
    let bench = Bench::new(Vec::new());
    for (settings, codes) in [
        ("{ request: { set: { Host: a } } }", vec!["bad_value"]),
        ("{ request: { set: { Connection: close } } }", vec!["bad_value"]),
        ("{ request: { add: { Transfer-Encoding: chunked } } }", vec!["bad_value"]),
        ("{ request: { remove: [Content-Length] } }", vec!["bad_value"]),
        ("{ request: { set: { X-Consumer-Name: admin } } }", vec!["bad_value"]),
        ("{ request: { set: { x_consumer_name: admin } } }", vec!["bad_value"]),
        ("{ request: { set: { X-Forwarded-For: 1.2.3.4 } } }", vec!["bad_value"]),
        ("{ response: { set: { Content-Length: '1' } } }", vec!["bad_value"]),
        ("{ response: { set: { Host: fine-in-an-answer } } }", vec![]),
        ("{ request: { set: { 'X A': b } } }", vec!["bad_value"]),
        ("{ request: { set: { X-A: \"b\\nc\" } } }", vec!["bad_value"]),
        ("{ request: { set: { X-A: 5 } } }", vec!["wrong_type"]),
        ("{ request: { set: { X-A: a, x-a: b } } }", vec!["duplicate_key"]),
        ("{ request: { remove: X-A, set: { x-a: b } } }", vec!["conflicting_keys"]),
        ("{ request: { remove: X-A, add: { x-a: b } } }", vec![]),
        ("{ request: {} }", vec!["missing_key"]),
        ("{ requests: {} }", vec!["unknown_key"]),
        ("{ request: { set: { Host: a, TE: b } }, response: { remove: Upgrade } }", vec!["bad_value"; 3]),
    ] {
        let errors = bench.errors(&format!("headers: {settings}"));
        let found: Vec<_> = errors.iter().filter_map(|error| error.split(' ').next()).collect();
        assert_eq!(found, codes, "{settings}: {errors:?}");
    }
}

#[test]
fn a_finding_names_the_way_the_list_and_the_header() {
    let errors = Bench::new(Vec::new()).errors("headers: { request: { set: { Host: a } } }");
    assert_eq!(errors, ["bad_value routes.items.policies.headers.request.set: `host` cannot be changed here"]);
}

#[test]
fn removing_and_adding_replaces_with_several_fields() {
    let chain =
        Bench::new(Vec::new()).build("headers: { request: { remove: [X-A], add: { X-A: ['1', '2'] } } }").unwrap();
    let mut exchange = chain.exchange("GET / HTTP/1.1\nx-a: 0\nX-A: 9\nB: 1");
    assert_eq!(chain.status(&mut exchange), 0);
    assert_eq!(upstream_lines(&exchange.request), ["GET / HTTP/1.1", "B: 1", "x-a: 1", "x-a: 2"]);
}

#[test]
fn explain_names_headers_and_never_values() {
    let settings = "headers: { request: { remove: a, set: { b: secret } }, response: { add: { c: [secret, x] } } }";
    let chain = Bench::new(Vec::new()).build(settings).unwrap();
    let (_, detail) = chain.explain(&mut chain.exchange("GET / HTTP/1.1"));
    assert_eq!(detail, "answer: adds `c`; request: removes `a`, sets `b`");
}
