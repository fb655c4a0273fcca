//! What `bot_filter` holds beyond its page.

use daemun_pipeline::Outcome;

use crate::testing::{Bench, Chain};

fn chain(settings: &str) -> Chain {
    Bench::new(Vec::new()).build(&format!("bot_filter: {settings}")).unwrap()
}

/// Whether a program with these headers may call.
fn passes(chain: &Chain, fields: &str) -> bool {
    let status = chain.status(&mut chain.exchange(&format!("GET / HTTP/1.1\n{fields}")));
    assert!(matches!(status, 0 | 403), "{status}");
    status == 0
}

#[test]
fn texts_are_found_anywhere_and_in_any_case() {
    let chain = chain("{ deny: [curl/, BadBot, 'python-requests', a.b] }");
    for (agent, passes_) in [
        ("curl/8.5.0", false),
        ("CURL/8", false),
        ("curly", true),
        ("Mozilla/5.0 (compatible; badbot/2)", false),
        ("Bad Bot", true),
        ("Python-Requests/2", false),
        ("axb", true),
        ("xA.By", false),
        ("Mozilla/5.0", true),
    ] {
        assert_eq!(passes(&chain, &format!("User-Agent: {agent}")), passes_, "{agent}");
        assert!(passes(&chain, &format!("X-Agent: {agent}")), "another header says nothing");
    }
}

#[test]
fn expressions_match_any_part_in_any_case() {
    let chain = chain(
        "{ deny: [{ regex: '(spider|crawler)s?\\b' }, { regex: '^java/1\\.' }], allow: [{ regex: 'good ?spider' }] }",
    );
    for (agent, passes_) in
        [("my Spider", false), ("spiderman", true), ("GoodSpider", true), ("Java/1.8", false), ("x Java/1.8", true)]
    {
        assert_eq!(passes(&chain, &format!("User-Agent: {agent}")), passes_, "{agent}");
    }
}

#[test]
fn of_several_headers_each_must_be_let_in() {
    let chain = chain("{ deny: [bot], allow: [goodbot], empty: deny }");
    for (fields, passes_) in [
        ("User-Agent: goodbot\nUser-Agent: Mozilla", true),
        ("User-Agent: goodbot\nuser-agent: badbot", false),
        ("User-Agent: Mozilla\nUSER-AGENT: badbot", false),
        ("User-Agent:\nUser-Agent: Mozilla", true),
        ("User-Agent:", false),
        ("User-Agent:   ", false),
        ("", false),
    ] {
        assert_eq!(passes(&chain, fields), passes_, "{fields}");
    }
    assert!(passes(&self::chain("{ deny: bot }"), ""), "who says nothing is let in unless it is denied");
    assert!(!passes(&self::chain("{ empty: deny }"), ""));
}

#[test]
fn bytes_that_are_no_text_are_looked_through_as_well() {
    let chain = chain("{ deny: [bot, { regex: 'spider.x' }] }");
    for (value, status) in [(&b"\xff\xfebot\xff"[..], 403), (b"\xffspider-x", 403), (b"\xff\xfe", 0)] {
        let mut exchange = chain.exchange("GET / HTTP/1.1");
        assert!(exchange.request.head.append("User-Agent", value));
        assert_eq!(chain.status(&mut exchange), status);
    }
}

#[test]
fn a_header_that_expressions_are_slow_on_elsewhere_is_no_trouble() {
    let chain = chain("{ deny: [{ regex: '(a+)+$' }, { regex: '(x*)*y' }] }");
    assert!(passes(&chain, &format!("User-Agent: {}!", "b".repeat(8_000))));
    assert!(!passes(&chain, &format!("User-Agent: {}", "a".repeat(60_000))));
}

#[test]
fn a_header_longer_than_expressions_go_through_is_denied_and_never_excepted() {
    let long = format!("User-Agent: {}", "01".repeat(30_000));
    assert!(!passes(&chain("{ deny: [{ regex: '[01]*1[01]{600}2' }] }"), &long));
    assert!(passes(&chain("{ deny: [{ regex: '[01]*1[01]{600}2' }] }"), "User-Agent: 0101"));
    assert!(!passes(&chain("{ deny: ['0101'], allow: [{ regex: '[01]*1[01]{600}' }] }"), &long));
}

#[test]
fn explain_names_the_entry_that_matched() {
    let chain = chain("{ deny: [crawler, bot, { regex: 'sp[iy]der' }], allow: [Googlebot], empty: deny }");
    let refused = Outcome::Refuse(403, "forbidden");
    for (fields, outcome, words) in [
        ("User-Agent: MyBot/1", refused.clone(), "`User-Agent` holds `bot`, which is denied"),
        ("User-Agent: Spyder", refused.clone(), "`User-Agent` holds `sp[iy]der`, which is denied"),
        ("User-Agent: googlebot/2", Outcome::Pass, "`User-Agent` holds `Googlebot`, which is allowed"),
        ("User-Agent: Mozilla", Outcome::Pass, "`User-Agent` holds nothing that is denied"),
        ("", refused, "the request does not say what program calls"),
    ] {
        assert_eq!(
            chain.explain(&mut chain.exchange(&format!("GET / HTTP/1.1\n{fields}"))),
            (outcome, words.to_owned())
        );
    }
}

#[test]
fn wrong_settings_are_found() {
    let bench = Bench::new(Vec::new());
    for (settings, code) in [
        ("{}", "missing_key"),
        ("{ allow: [a] }", "missing_key"),
        ("{ empty: deny, allow: [a] }", "missing_key"),
        ("{ deny: [] }", "bad_value"),
        ("{ deny: [''] }", "bad_value"),
        ("{ deny: [' '] }", "bad_value"),
        ("{ deny: [{ regex: '(' }] }", "bad_value"),
        ("{ deny: [{ regex: 'a{1000}{1000}' }] }", "bad_value"),
        ("{ deny: [{ glob: '*' }] }", "unknown_key"),
        ("{ deny: [5] }", "wrong_type"),
        ("{ deny: a, empty: refuse }", "bad_value"),
        ("{ deny: a, agents: x }", "unknown_key"),
    ] {
        let errors = bench.errors(&format!("bot_filter: {settings}"));
        assert!(!errors.is_empty() && errors.iter().any(|error| error.starts_with(code)), "{settings}: {errors:?}");
    }
    let many =
        |item: &str, count: usize| bench.errors(&format!("bot_filter: {{ deny: [{}] }}", vec![item; count].join(",")));
    assert_eq!((many("{ regex: a }", 100).len(), many("{ regex: a }", 101).len()), (0, 1));
    assert_eq!((many("a", 10_000).len(), many("a", 10_001).len()), (0, 1));
    let large = vec![super::Agent::Regex("\\w{100}".to_owned()); 100];
    assert!(super::agents::Agents::new(&large).is_err(), "large expressions are too large together");
}
