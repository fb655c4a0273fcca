//! What `body_limit` holds beyond its page.

use daemun_pipeline::Outcome;

use crate::testing::{Bench, Chain};

fn chain(settings: &str) -> Chain {
    Bench::new(Vec::new()).build(&format!("body_limit: {settings}")).unwrap()
}

#[test]
fn a_body_may_be_as_large_as_allowed_and_no_larger() {
    let chain = chain("{ max: 1KiB }");
    for (fields, status) in [
        ("Content-Length: 1024", 0),
        ("content-length: 1025", 413),
        ("Content-Length: 0", 0),
        ("Content-Length: 18446744073709551616", 413),
        ("Content-Length: x", 413),
        ("Transfer-Encoding: chunked", 0),
        ("", 0),
    ] {
        let mut exchange = chain.exchange(&format!("POST / HTTP/1.1\n{fields}"));
        assert_eq!(chain.status(&mut exchange), status, "{fields}");
        assert_eq!(exchange.body_limit, Some(1024), "what is not told is counted");
    }
}

#[test]
fn the_least_of_several_limits_holds() {
    let chain = chain("{ max: 1KiB }");
    for (other, left) in [(10, 10), (5000, 1024)] {
        let mut exchange = chain.exchange("POST / HTTP/1.1");
        exchange.body_limit = Some(other);
        assert_eq!((chain.status(&mut exchange), exchange.body_limit), (0, Some(left)));
    }
}

#[test]
fn a_grpc_call_has_no_limit() {
    let chain = chain("{ max: 1B }");
    let mut exchange = chain.exchange("POST / HTTP/1.1\nContent-Length: 5");
    exchange.request.grpc = true;
    assert_eq!(chain.status(&mut exchange), 0);
    assert_eq!(chain.explain(&mut exchange).0, Outcome::Pass);
}

#[test]
fn explain_tells_both_numbers_and_changes_nothing() {
    let chain = chain("{ max: 10B }");
    let mut exchange = chain.exchange("POST / HTTP/1.1\nContent-Length: 11");
    let (outcome, detail) = chain.explain(&mut exchange);
    assert_eq!(outcome, Outcome::Refuse(413, "body_too_large"));
    assert_eq!((detail.as_str(), exchange.body_limit), ("the body has 11 bytes, and 10 are allowed", None));
}

#[test]
fn a_limit_over_that_of_the_route_is_told_to_do_nothing() {
    // the bench allows 10 MiB
    let findings = |settings: &str| chain(settings).findings.lines();
    assert_eq!(findings("{ max: 10MiB }"), Vec::<String>::new());
    assert_eq!(
        findings("{ max: 11MiB }"),
        [
            "contradiction routes.items.policies.body_limit: `max` has no effect: `limits.body` allows 10485760 bytes and no more"
        ]
    );
}

#[test]
fn wrong_settings_are_found() {
    let bench = Bench::new(Vec::new());
    for (settings, code) in [
        ("{}", "missing_key"),
        ("{ max: 5 }", "bad_value"),
        ("{ max: 5MB }", "bad_value"),
        ("{ size: 5B }", "unknown_key"),
    ] {
        let errors = bench.errors(&format!("body_limit: {settings}"));
        assert!(errors.iter().any(|error| error.starts_with(code)), "{settings}: {errors:?}");
    }
}
