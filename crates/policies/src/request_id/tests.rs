//! What `request_id` holds beyond its page.

use std::collections::HashSet;

use daemun_pipeline::Exchange;

use super::made::{push_short, push_uuid};
use crate::testing::{Bench, Chain};

/// The gateway's own id of every exchange here.
const OWN: &str = "5f3a09c1000000000001";

fn chain(settings: &str) -> Chain {
    Bench::new(Vec::new()).build(&format!("request_id: {settings}")).unwrap()
}

/// An exchange as the data plane hands it over: with an id, taken over from a trusted proxy's first `X-Request-Id`.
fn exchange(chain: &Chain, trusted: bool, fields: &str) -> Exchange {
    let mut exchange = chain.exchange(&format!("GET / HTTP/1.1\n{fields}"));
    exchange.client.trusted = trusted;
    exchange.trace = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_vec();
    let sent = exchange.request.head.get("X-Request-Id").filter(|_| trusted).map(<[u8]>::to_vec);
    exchange.id = sent.unwrap_or_else(|| OWN.into());
    exchange
}

fn id(settings: &str, trusted: bool, fields: &str) -> String {
    let chain = chain(settings);
    let mut exchange = exchange(&chain, trusted, fields);
    assert_eq!(chain.status(&mut exchange), 0);
    String::from_utf8(exchange.id).unwrap()
}

#[test]
fn whose_id_is_taken_over_is_as_configured() {
    let (never, always) = ("{ accept: never }", "{ accept: always }");
    let sent = "X-Request-Id: mine-1";
    assert_eq!(id("{}", false, sent), OWN);
    assert_eq!(id("{}", true, sent), "mine-1");
    assert_eq!(id(always, false, sent), "mine-1");
    assert_eq!(id(never, false, sent), OWN);
    let made = id(never, true, sent);
    assert!(made.len() == 20 && made.bytes().all(|b| b.is_ascii_hexdigit()) && made != OWN, "{made}");
}

#[test]
fn another_header_is_taken_over_by_the_same_rule() {
    let (other, always) = ("{ header: X-Trace }", "{ header: X-Trace, accept: always }");
    let both = "X-Trace: theirs\nX-Request-Id: mine-1";
    assert_eq!(id(other, true, both), "theirs");
    assert_eq!(id(other, false, both), OWN);
    assert_eq!(id(always, false, both), "theirs");
    assert_eq!(
        id(other, true, "X-Request-Id: mine-1"),
        "mine-1",
        "what the proxy says elsewhere is better than nothing"
    );
}

#[test]
fn an_id_that_would_need_quoting_or_could_be_read_in_two_ways_is_not_taken_over() {
    for bad in [
        "X-Request-Id: a b",
        "X-Request-Id: a\"b",
        "X-Request-Id: <script>",
        "X-Request-Id:",
        "X-Request-Id: é",
        "X-Request-Id: a\nX-Request-Id: b",
        &format!("X-Request-Id: {}", "a".repeat(129)),
    ] {
        assert_eq!(id("{ accept: always }", false, bad), OWN, "{bad}");
    }
    assert_eq!(id("{ accept: always }", false, &format!("X-Request-Id: {}", "a".repeat(128))).len(), 128);
}

#[test]
fn the_upstream_and_the_caller_read_the_same_id() {
    let chain = chain("{ header: X-Trace, accept: trusted }");
    let mut exchange = exchange(&chain, false, "X-Trace: forged\nx-trace: twice");
    assert_eq!(chain.status(&mut exchange), 0);
    assert!(exchange.request.head.values("X-Trace").eq([OWN.as_bytes()]));
    assert!(exchange.response.head.append("X-Trace", b"the upstream's"));
    chain.outward(1, &mut exchange).expect("it passes");
    assert!(exchange.response.head.values("X-Trace").eq([OWN.as_bytes()]));
    assert!(exchange.hides_id, "the data plane does not add its own beside it");
}

#[test]
fn an_answer_that_is_not_to_carry_it_carries_nobodys() {
    for settings in ["{ header: X-Trace, response: false }", "{ response: false }"] {
        let chain = chain(settings);
        let mut exchange = exchange(&chain, false, "");
        assert_eq!(chain.status(&mut exchange), 0);
        assert!(exchange.response.head.append("X-Trace", b"the upstream's"));
        chain.outward(1, &mut exchange).expect("it passes");
        assert!(exchange.hides_id);
        assert_eq!(exchange.response.head.values("X-Trace").count(), usize::from(!settings.contains("Trace")));
        exchange.reset();
        assert!(!exchange.hides_id, "the next request of the connection has its own");
    }
}

#[test]
fn a_uuid_has_its_version_and_variant() {
    for drawn in [[0, 0], [u64::MAX, u64::MAX], [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210]] {
        let mut out = Vec::new();
        push_uuid(drawn, &mut out);
        let uuid = String::from_utf8(out).unwrap();
        assert_eq!((uuid.len(), &uuid[14..15]), (36, "4"), "{uuid}");
        assert!("89ab".contains(&uuid[19..20]), "{uuid}");
        assert!([8, 13, 18, 23].iter().all(|at| &uuid[*at..=*at] == "-"), "{uuid}");
    }
    let mut out = Vec::new();
    push_uuid([0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210], &mut out);
    push_short([0x0123_4567_89ab_cdef, 0x3210], &mut out);
    assert_eq!(out, b"01234567-89ab-4def-bedc-ba98765432100123456789abcdef3210");
}

#[test]
fn ids_that_are_made_differ() {
    let chain = chain("{ format: uuid }");
    let ids: HashSet<Vec<u8>> = (0..10_000u32)
        .map(|n| {
            let mut exchange = exchange(&chain, false, "");
            // one span for all: the ids they had before tell them apart
            exchange.id = format!("5f3a09c1{n:012x}").into_bytes();
            assert_eq!(chain.status(&mut exchange), 0);
            exchange.id
        })
        .collect();
    assert_eq!(ids.len(), 10_000);
}

#[test]
fn explain_says_whose_id_it_is() {
    for (settings, trusted, fields, words) in [
        ("{}", true, "X-Request-Id: a", "the id is the one sent in `x-request-id`; the answer has it"),
        (
            "{ header: X-T }",
            true,
            "X-Request-Id: a",
            "the id is the one a trusted proxy sent in `x-request-id`; the answer has it",
        ),
        ("{ response: false }", false, "", "the id is the gateway's own; the answer does not have it"),
    ] {
        let chain = chain(settings);
        assert_eq!(chain.explain(&mut exchange(&chain, trusted, fields)).1, words);
    }
}

#[test]
fn wrong_settings_are_found() {
    let bench = Bench::new(Vec::new());
    for (settings, code) in [
        ("{ header: 'X Id' }", "bad_value"),
        ("{ header: Host }", "bad_value"),
        ("{ header: Content-Length }", "bad_value"),
        ("{ header: X-Consumer-Name }", "bad_value"),
        ("{ header: traceparent }", "bad_value"),
        ("{ accept: sometimes }", "bad_value"),
        ("{ format: ulid }", "bad_value"),
        ("{ response: 1 }", "wrong_type"),
        ("{ name: x }", "unknown_key"),
    ] {
        let errors = bench.errors(&format!("request_id: {settings}"));
        assert_eq!(errors.len(), 1, "{settings}: {errors:?}");
        assert!(errors[0].starts_with(code), "{settings}: {errors:?}");
    }
}
