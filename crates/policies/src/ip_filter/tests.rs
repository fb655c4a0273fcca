//! What `ip_filter` holds beyond its page.

use std::net::IpAddr;

use daemun_config::model::IpNet;
use daemun_pipeline::Outcome;
use proptest::prelude::*;

use super::list::parse;
use super::ranges::{Ranges, holds};
use crate::testing::{Bench, Chain};

fn chain(settings: &str) -> Chain {
    Bench::new(Vec::new()).build(&format!("ip_filter: {settings}")).unwrap()
}

/// Status for a caller at an address; 0 when it passes.
fn from(chain: &Chain, ip: &str) -> u16 {
    let ip: IpAddr = ip.parse().unwrap();
    let mut exchange = chain.exchange("GET / HTTP/1.1");
    exchange.client.peer = Some(ip);
    exchange.client.ip = ip;
    chain.status(&mut exchange)
}

#[test]
fn what_is_denied_is_refused_even_where_it_is_allowed() {
    let chain = chain("{ allow: [10.0.0.0/8, '2001:db8::/32'], deny: [10.1.0.0/16, '2001:db8:bad::/48'] }");
    for (ip, status) in [
        ("10.0.0.1", 0),
        ("10.0.255.255", 0),
        ("10.1.0.0", 403),
        ("10.1.255.255", 403),
        ("10.2.0.0", 0),
        ("11.0.0.0", 403),
        ("9.255.255.255", 403),
        ("::ffff:10.0.0.1", 0),
        ("::ffff:10.1.0.1", 403),
        ("2001:db8::1", 0),
        ("2001:db8:bad::1", 403),
        ("2001:db9::", 403),
        ("::10.0.0.1", 403),
    ] {
        assert_eq!(from(&chain, ip), status, "{ip}");
    }
}

#[test]
fn a_caller_whose_address_cannot_be_read_is_not_taken_for_the_proxy_that_speaks_for_it() {
    let status = |settings: &str| {
        let chain = chain(settings);
        let mut exchange = chain.exchange("GET / HTTP/1.1\nX-Forwarded-For: unknown");
        let proxy = "10.0.0.1".parse().unwrap();
        (exchange.client.peer, exchange.client.ip) = (Some(proxy), proxy);
        (exchange.client.trusted, exchange.client.unreadable) = (true, true);
        let told = chain.explain(&mut exchange).0;
        let status = chain.status(&mut exchange);
        assert_eq!(told == Outcome::Pass, status == 0, "{settings}: {told:?}");
        status
    };
    for (settings, expected) in [
        ("{ allow: 10.0.0.0/8 }", 403),
        ("{ allow: [0.0.0.0/0, '::/0', unix] }", 403),
        ("{ deny: 10.0.0.0/8 }", 403),
        ("{ deny: 192.0.2.0/24 }", 0),
    ] {
        assert_eq!(status(settings), expected, "{settings}");
    }
}

#[test]
fn what_is_allowed_and_wholly_denied_is_told() {
    let findings = |settings: &str| {
        let chain = Bench::new(Vec::new()).build(&format!("ip_filter: {settings}")).unwrap();
        chain.findings.lines().iter().filter(|line| line.starts_with("contradiction")).count()
    };
    for (settings, count) in [
        ("{ allow: [10.1.0.0/16, 10.2.0.0/16], deny: 10.1.0.0/16 }", 1),
        ("{ allow: 10.1.0.0/16, deny: [10.1.0.0/17, 10.1.128.0/17] }", 1),
        ("{ allow: 10.1.0.0/16, deny: 10.1.0.0/17 }", 0),
        ("{ allow: 10.0.0.0/8, deny: 10.1.0.0/16 }", 0),
        ("{ allow: [unix, '::1'], deny: [unix, '::/0'] }", 2),
        ("{ allow: unix, deny: '::/0' }", 0),
    ] {
        assert_eq!(findings(settings), count, "{settings}");
    }
}

#[test]
fn without_a_list_of_who_may_everybody_may_but_the_denied() {
    let chain = chain("{ deny: 192.0.2.7 }");
    assert_eq!((from(&chain, "192.0.2.7"), from(&chain, "192.0.2.8"), from(&chain, "::1")), (403, 0, 0));
}

#[test]
fn mapped_networks_are_networks_of_ipv4_and_all_of_ipv6_is_not() {
    let mapped = chain("{ deny: '::ffff:192.0.2.0/120' }");
    assert_eq!(
        (from(&mapped, "192.0.2.9"), from(&mapped, "::ffff:192.0.2.9"), from(&mapped, "192.0.3.9")),
        (403, 403, 0)
    );
    let everywhere = chain("{ allow: '0.0.0.0/0' }");
    assert_eq!((from(&everywhere, "255.255.255.255"), from(&everywhere, "::1")), (0, 403));
    let all6 = chain("{ allow: '::/0' }");
    assert_eq!((from(&all6, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), from(&all6, "1.2.3.4")), (0, 403));
}

#[test]
fn a_caller_without_an_address_is_let_in_only_by_name() {
    let status = |settings: &str| {
        let chain = chain(settings);
        // as on a Unix socket: no peer, and nobody says for whom
        chain.status(&mut chain.exchange("GET / HTTP/1.1"))
    };
    assert_eq!(status("{ allow: 0.0.0.0/0 }"), 403);
    assert_eq!(status("{ allow: [unix, 10.0.0.0/8] }"), 0);
    assert_eq!(status("{ deny: 10.0.0.0/8 }"), 0);
    assert_eq!(status("{ deny: unix }"), 403);
    assert_eq!(status("{ allow: unix, deny: unix }"), 403);
    let allowed = chain("{ allow: 10.0.0.0/8 }");
    let mut exchange = allowed.exchange("GET / HTTP/1.1");
    exchange.client.ip = "10.0.0.1".parse().unwrap();
    assert_eq!(allowed.status(&mut exchange), 0, "a trusted proxy on the socket says for whom it calls");
    let unix = chain("{ allow: unix }");
    let mut exchange = unix.exchange("GET / HTTP/1.1\nX-Forwarded-For: 0.0.0.0");
    exchange.client.trusted = true;
    assert_eq!(unix.status(&mut exchange), 403, "the proxy calls for another, whatever it calls it");
    exchange.client.trusted = false;
    assert_eq!(unix.status(&mut exchange), 0);
}

#[test]
fn explain_names_the_narrowest_network_that_matched() {
    let chain = chain("{ allow: [10.0.0.0/8, 10.1.0.0/16], deny: [10.1.2.0/24] }");
    for (ip, outcome, words) in [
        ("10.1.2.3", Outcome::Refuse(403, "forbidden"), "`10.1.2.3` is denied by `10.1.2.0/24`"),
        ("10.1.3.3", Outcome::Pass, "`10.1.3.3` is allowed by `10.1.0.0/16`"),
        ("192.0.2.1", Outcome::Refuse(403, "forbidden"), "`192.0.2.1` is not among those allowed"),
    ] {
        let mut exchange = chain.exchange("GET / HTTP/1.1");
        exchange.client.ip = ip.parse().unwrap();
        assert_eq!(chain.explain(&mut exchange), (outcome, words.to_owned()));
    }
}

#[test]
fn wrong_settings_are_found() {
    let bench = Bench::new(Vec::new());
    for (settings, code) in [
        ("{}", "missing_key"),
        ("{ allow: [] }", "bad_value"),
        ("{ deny: [10.0.0.1/8] }", "bad_value"),
        ("{ deny: [10.0.0.0/33] }", "bad_value"),
        ("{ deny: [example.com] }", "bad_value"),
        ("{ deny: [10] }", "wrong_type"),
        ("{ deny_file: /nowhere/at/all }", "bad_value"),
        ("{ deny: 10.0.0.1, block: x }", "unknown_key"),
    ] {
        let errors = bench.errors(&format!("ip_filter: {settings}"));
        assert_eq!(errors.len(), 1, "{settings}: {errors:?}");
        assert!(errors[0].starts_with(code), "{settings}: {errors:?}");
    }
}

#[test]
fn a_file_lists_one_network_a_line() {
    let text = "\u{feff}# ours\n10.0.0.0/8   # the office\r\n\n 2001:db8::/32 \n192.0.2.1\n";
    assert_eq!(parse(text).map(|nets| nets.len()), Ok(3));
    let errors = parse("10.0.0.1/8\n\nnonsense\u{1b}[31m\n1.2.3.4 5.6.7.8").unwrap_err();
    assert_eq!(
        errors,
        [
            "line 1: `10.0.0.1/8` has bits set behind its prefix; the range is `10.0.0.0/8`",
            "line 3: `nonsense\\u{1b}[31m` is not an address or range",
            "line 4: `1.2.3.4 5.6.7.8` is not an address or range",
        ]
    );
    assert_eq!(parse(&"x\n".repeat(1000)).unwrap_err().len(), 10);
}

#[test]
fn a_hundred_thousand_networks_are_told_apart() {
    let text: String = (0..100_000u32).map(|n| format!("{}.{}.{}.0/25\n", n >> 16, n >> 8 & 255, n & 255)).collect();
    let ranges = Ranges::new(&parse(&text).unwrap());
    for n in (0..100_000u32).step_by(997) {
        let ip = |last: u8| IpAddr::from([(n >> 16) as u8, (n >> 8) as u8, n as u8, last]);
        assert!(ranges.contain(ip(0)) && ranges.contain(ip(127)) && !ranges.contain(ip(128)), "{n}");
    }
}

fn nets() -> impl Strategy<Value = Vec<IpNet>> {
    // few high bits, so that networks overlap and touch
    let v4 = (any::<u8>(), 0u8..=32).prop_map(|(bits, prefix)| (IpAddr::from([bits, bits, 0, bits]), prefix));
    let v6 = (any::<u8>(), 0u8..=128, any::<bool>()).prop_map(|(bits, prefix, mapped)| {
        let middle = if mapped { 0xffff } else { 0 };
        (IpAddr::from([0, 0, 0, 0, 0, middle, u16::from(bits), u16::from(bits)]), prefix)
    });
    let net = prop_oneof![v4, v6].prop_map(|(addr, prefix)| IpNet { addr, prefix });
    proptest::collection::vec(net, 0..12)
}

proptest! {
    #[test]
    fn a_set_of_ranges_holds_what_one_of_its_networks_holds(
        nets in nets(), bytes in proptest::collection::vec((any::<u8>(), any::<u8>()), 1..32),
    ) {
        let ranges = Ranges::new(&nets);
        let edges = nets.iter().map(|net| net.addr);
        let others = bytes.iter().flat_map(|(a, b)| {
            [IpAddr::from([*a, *a, 0, *b]), IpAddr::from([0, 0, 0, 0, 0, 0xffff, u16::from(*a), u16::from(*b)])]
        });
        for ip in edges.chain(others) {
            prop_assert_eq!(ranges.contain(ip), nets.iter().any(|net| holds(*net, ip)), "{} in {:?}", ip, nets);
        }
    }
}
