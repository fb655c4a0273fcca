//! What `fault_injection` holds beyond its page.

use daemun_pipeline::{Exchange, Outcome};

use crate::testing::{Bench, Chain};

fn chain(settings: &str) -> Chain {
    Bench::new(Vec::new()).build(&format!("fault_injection: {settings}")).unwrap()
}

/// The `n`th exchange, with a span of its own.
fn exchange(chain: &Chain, n: u64) -> Exchange {
    let mut exchange = chain.exchange("GET / HTTP/1.1\nX-Test: 1");
    exchange.trace = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{n:016x}-01").into_bytes();
    exchange
}

/// How many of 10,000 calls are aborted, held up, and both drawn alike.
fn counts(settings: &str) -> (u32, u32) {
    let chain = chain(settings);
    let (mut aborted, mut delayed) = (0, 0);
    for n in 0..10_000 {
        let mut exchange = exchange(&chain, n);
        aborted += u32::from(chain.status(&mut exchange) == 503);
        delayed += u32::from(exchange.delay == 200_000_000);
    }
    (aborted, delayed)
}

#[test]
fn as_many_calls_fail_as_the_share_says() {
    assert_eq!(counts("{ abort: 503, delay: 200ms }"), (10_000, 0), "what is aborted is not held up");
    assert_eq!(counts("{ delay: 200ms }"), (0, 10_000));
    assert_eq!(counts("{ abort: { status: 503, share: 0% }, delay: { for: 200ms, share: 0% } }"), (0, 0));
    let (aborted, delayed) = counts("{ abort: { status: 503, share: 10% }, delay: { for: 200ms, share: 50% } }");
    assert!((900..1100).contains(&aborted), "{aborted}");
    // half of the nine tenths that go on: the two are drawn apart
    assert!((4300..4700).contains(&delayed), "{delayed}");
    let (rare, _) = counts("{ abort: { status: 503, share: 0.5% } }");
    assert!((30..75).contains(&rare), "{rare}");
}

#[test]
fn only_calls_with_the_header_are_meant() {
    for (settings, status) in
        [("{ abort: 500, when_header: X-Test }", 500), ("{ abort: 500, when_header: x-other }", 0)]
    {
        let chain = chain(settings);
        assert_eq!(chain.status(&mut exchange(&chain, 1)), status);
    }
}

#[test]
fn a_delay_is_added_to_what_another_policy_asks_for() {
    let chain = chain("{ delay: 1s }");
    let mut exchange = exchange(&chain, 1);
    exchange.delay = 5;
    assert_eq!((chain.status(&mut exchange), exchange.delay), (0, 1_000_000_005));
}

#[test]
fn explain_tells_shares_and_decides_only_what_is_certain() {
    for (settings, outcome, words) in [
        ("{ abort: 503 }", Outcome::Answer(503), "100% of the calls are answered with 503"),
        (
            "{ abort: { status: 503, share: 12.5% }, delay: 20ms }",
            Outcome::Pass,
            "12.50% of the calls are answered with 503; 100% of the calls are held up for 20 ms",
        ),
        (
            "{ abort: 503, when_header: x-chaos }",
            Outcome::Pass,
            "the request has no `x-chaos`, so nothing is done to it",
        ),
    ] {
        let chain = chain(settings);
        let mut exchange = exchange(&chain, 1);
        assert_eq!(chain.explain(&mut exchange), (outcome, words.to_owned()));
        assert_eq!(exchange.delay, 0);
    }
}

#[test]
fn wrong_settings_are_found() {
    let bench = Bench::new(Vec::new());
    for (settings, code) in [
        ("{}", "missing_key"),
        ("{ when_header: x }", "missing_key"),
        ("{ delay: 0ms }", "bad_value"),
        ("{ delay: 11m }", "bad_value"),
        ("{ delay: 5 }", "bad_value"),
        ("{ delay: { share: 5% } }", "missing_key"),
        ("{ delay: { for: 5s, share: 101% } }", "bad_value"),
        ("{ delay: { for: 5s, share: 0.1 } }", "bad_value"),
        ("{ abort: 200 }", "bad_value"),
        ("{ abort: 600 }", "bad_value"),
        ("{ abort: { status: 503, rate: 5% } }", "unknown_key"),
        ("{ abort: 503, when_header: 'a b' }", "bad_value"),
    ] {
        let errors = bench.errors(&format!("fault_injection: {settings}"));
        assert_eq!(errors.len(), 1, "{settings}: {errors:?}");
        assert!(errors[0].starts_with(code), "{settings}: {errors:?}");
    }
}
