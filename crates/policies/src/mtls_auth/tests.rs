//! What `mtls_auth` holds beyond its page.

use daemun_pipeline::{Consumer, Exchange, Outcome};

use crate::testing::{Bench, Chain, SECOND, certificate, consumer, consumer_of, told, upstream_lines};

const FINGERPRINT: &str = "ab44e90de4ea5fe4af525e642c2477ca44712fe2bc72443381b0b96e8ba02fac";

fn bench(rules: &[(&str, &str)]) -> Bench {
    let one = |(name, rule): &(&str, &str)| consumer_of(&format!("- {{ name: {name}, certificates: {rule} }}"));
    Bench::new(rules.iter().map(one).collect())
}

fn asked(chain: &Chain, name: &str) -> Exchange {
    let mut exchange = chain.exchange("GET / HTTP/1.1\nClient-Cert: :YQ==:\nClient-Cert-Chain: :YQ==:");
    exchange.client.identity = Some(certificate(name));
    exchange
}

#[test]
fn a_certificate_is_known_by_each_thing_it_says() {
    for rule in [
        &format!("{{ fingerprint: {FINGERPRINT} }}"),
        "{ fingerprint: 'AB:44:E9:0D:E4:EA:5F:E4:AF:52:5E:64:2C:24:77:CA:44:71:2F:E2:BC:72:44:33:81:B0:B9:6E:8B:A0:2F:AC' }",
        "{ subject: 'CN=orders,O=Shop,C=KR' }",
        "{ subject: 'cn = orders, O=Shop , c=KR' }",
        "{ cn: orders }",
        "{ cn: orders, issuer: 'CN=orders,O=Shop,C=KR' }",
        "{ san: Orders.Shop.example }",
        "{ san: 'dns:orders.shop.example' }",
        "{ san: 'spiffe://shop.example/orders' }",
        "{ san: 'uri:spiffe://shop.example/orders' }",
        "{ san: orders@shop.example }",
        "[{ cn: nobody }, { san: 'email:orders@shop.example' }]",
    ] {
        let chain = bench(&[("orders", rule)]).build("mtls_auth: {}").unwrap();
        let mut exchange = asked(&chain, "orders");
        assert_eq!(chain.status(&mut exchange), 0, "{rule}");
        assert_eq!(upstream_lines(&exchange.request), ["GET / HTTP/1.1", "X-Consumer-Name: orders"]);
        for other in ["several", "stray"] {
            assert_eq!(chain.status(&mut asked(&chain, other)), 401, "{rule} {other}");
        }
    }
}

#[test]
fn what_a_certificate_does_not_say_lets_nobody_in() {
    for rule in [
        "{ subject: 'CN=orders' }",
        "{ subject: 'C=KR,O=Shop,CN=orders' }",
        "{ cn: Orders }",
        "{ cn: orders, issuer: 'CN=partners' }",
        "{ san: shop.example }",
        "{ san: 'uri:spiffe://shop.example/orders/' }",
        "{ san: 'dns:spiffe://shop.example/orders' }",
        "{ san: 'email:Orders@shop.example' }",
    ] {
        let chain = bench(&[("orders", rule)]).build("mtls_auth: {}").unwrap();
        assert_eq!(chain.status(&mut asked(&chain, "orders")), 401, "{rule}");
    }
    let chain = bench(&[("a", "{ cn: a }"), ("b", "{ cn: b }")]).build("mtls_auth: {}").unwrap();
    assert_eq!(chain.status(&mut asked(&chain, "several")), 401, "of two common names none counts");
}

/// The last second of the certificates: 2126-11-03T23:36:22Z.
const LAST: u64 = 4_949_422_582;

#[test]
fn a_certificate_that_ends_while_its_connection_is_open_is_known_no_longer() {
    let chain = bench(&[("orders", "{ cn: orders }")]).build("mtls_auth: { forward: true }").unwrap();
    let at = |second: u64| {
        let mut exchange = asked(&chain, "orders");
        exchange.wall = second * SECOND;
        exchange
    };
    assert_eq!((chain.status(&mut at(LAST)), chain.status(&mut at(LAST + 1))), (0, 401));
    let (outcome, detail) = chain.explain(&mut at(LAST + 1));
    assert_eq!(outcome, Outcome::Refuse(401, "unauthenticated"));
    assert!(detail.contains("has expired"), "{detail}");
}

#[test]
fn a_certificate_of_two_consumers_is_nobodys() {
    let rules = [("a", "{ san: a.shop.example }"), ("b", "{ san: b.shop.example }")];
    let chain = bench(&rules).build("mtls_auth: { subject: fingerprint }").unwrap();
    assert_eq!(chain.status(&mut asked(&chain, "several")), 401);
    let (outcome, detail) = chain.explain(&mut asked(&chain, "several"));
    assert_eq!(outcome, Outcome::Refuse(401, "unauthenticated"));
    assert!(detail.contains("several consumers"), "{detail}");
    let chain = bench(&[("a", "[{ san: a.shop.example }, { san: b.shop.example }]")]).build("mtls_auth: {}").unwrap();
    assert_eq!(chain.status(&mut asked(&chain, "several")), 0);
}

#[test]
fn a_part_names_the_caller_and_only_one_of_its_kind() {
    for (part, name) in [
        ("san_uri", "spiffe://shop.example/orders"),
        ("san_dns", "orders.shop.example"),
        ("san_email", "orders@shop.example"),
        ("cn", "orders"),
        ("dn", "CN=orders,O=Shop,C=KR"),
        ("fingerprint", FINGERPRINT),
    ] {
        let chain = bench(&[]).build(&format!("mtls_auth: {{ subject: {part} }}")).unwrap();
        let mut exchange = asked(&chain, "orders");
        assert_eq!((chain.status(&mut exchange), exchange.consumer_name()), (0, Some(name)));
        let credential = exchange.identity.as_ref().and_then(|identity| identity.credential.as_deref());
        assert_eq!(credential, Some(FINGERPRINT));
        let of_several = chain.status(&mut asked(&chain, "several"));
        assert_eq!(of_several, if matches!(part, "dn" | "fingerprint") { 0 } else { 401 }, "{part}");
    }
}

#[test]
fn a_part_with_the_name_of_a_consumer_of_the_store_is_not_taken_for_it() {
    let bench = bench(&[]);
    let _accounts = bench.with_stored("orders");
    for (part, wanted) in [("cn", 401), ("san_dns", 0)] {
        let chain = bench.build(&format!("mtls_auth: {{ subject: {part} }}")).unwrap();
        assert_eq!(chain.status(&mut asked(&chain, "orders")), wanted, "{part}");
    }
}

#[test]
fn who_is_called_by_the_name_of_a_consumer_is_not_taken_for_it() {
    for (part, name) in [
        ("san_uri", "'spiffe://shop.example/orders'"),
        ("san_dns", "orders.shop.example"),
        ("san_email", "orders@shop.example"),
        ("cn", "orders"),
        ("fingerprint", FINGERPRINT),
    ] {
        // consumers of that name with another certificate, and with none
        for certificates in ["{ cn: nobody }", "[]"] {
            let settings = format!("mtls_auth: {{ subject: {part}, forward: true }}");
            let chain = bench(&[(name, certificates)]).build(&settings).unwrap();
            let mut exchange = asked(&chain, "orders");
            assert_eq!(chain.status(&mut exchange), 401, "{part} {certificates}");
            assert_eq!((exchange.consumer_name(), exchange.is_known()), (None, false), "{part}");
            let sent = upstream_lines(&exchange.request);
            assert!(!sent.iter().any(|line| line.starts_with("X-Consumer")), "{part}: {sent:?}");
            let (outcome, detail) = chain.explain(&mut asked(&chain, "orders"));
            assert_eq!(outcome, Outcome::Refuse(401, "unauthenticated"), "{part}");
            assert!(detail.contains("its name is one of a consumer"), "{detail}");
        }
        let chain = bench(&[("other", "{ cn: nobody }")]).build(&format!("mtls_auth: {{ subject: {part} }}")).unwrap();
        assert_eq!(chain.status(&mut asked(&chain, "orders")), 0, "{part}");
    }
    // said to be the consumer's, it is
    let chain = bench(&[("orders", "{ cn: orders }")]).build("mtls_auth: { subject: cn }").unwrap();
    let mut exchange = asked(&chain, "orders");
    assert_eq!(chain.status(&mut exchange), 0);
    assert_eq!(exchange.consumer().map(|consumer| consumer.name.as_str()), Some("orders"));
}

#[test]
fn only_the_trust_domains_and_issuers_that_are_named_count() {
    for (settings, status) in [
        ("{ subject: san_uri, trust_domains: [shop.example] }", 0),
        ("{ subject: san_uri, trust_domains: [elsewhere.example, shop.example] }", 0),
        ("{ subject: san_uri, trust_domains: [elsewhere.example] }", 401),
        ("{ subject: san_uri, trust_domains: [shop.example.com, hop.example] }", 401),
        ("{ subject: cn, issuers: ['C = KR'] }", 401),
        ("{ subject: cn, issuers: ['CN=x', 'cn=orders, O=Shop, C=KR'] }", 0),
    ] {
        let chain = bench(&[]).build(&format!("mtls_auth: {settings}")).unwrap();
        assert_eq!(chain.status(&mut asked(&chain, "orders")), status, "{settings}");
    }
}

#[test]
fn the_certificate_goes_on_only_where_it_is_forwarded() {
    let chain = bench(&[("orders", "{ cn: orders }")]).build("mtls_auth: { forward: true }").unwrap();
    let mut exchange = asked(&chain, "orders");
    assert_eq!(chain.status(&mut exchange), 0);
    let sent: Vec<_> = exchange.request.head.values("client-cert").collect();
    assert!(sent.len() == 1 && sent[0].starts_with(b":MII") && sent[0].ends_with(b":"), "{sent:?}");
    assert_eq!(exchange.request.head.get("client-cert-chain"), None);
}

#[test]
fn another_authenticator_must_have_found_the_same() {
    let key = "shop-app-key-0001";
    let orders = Consumer {
        keys: consumer("", &[], &[key]).keys,
        ..consumer_of("- { name: orders, certificates: { cn: orders } }")
    };
    for (consumers, status) in [
        (vec![orders], 0),
        (vec![consumer("other", &[], &[key]), consumer_of("- { name: orders, certificates: { cn: orders } }")], 401),
    ] {
        let chain = Bench::new(consumers).build("{ key_auth: { header: X-Api-Key }, mtls_auth: {} }").unwrap();
        let mut exchange = chain.exchange(&format!("GET / HTTP/1.1\nX-Api-Key: {key}"));
        exchange.client.identity = Some(certificate("orders"));
        assert_eq!(chain.status(&mut exchange), status);
    }
}

#[test]
fn wrong_settings_are_found_and_no_certificate_at_all_is_a_warning() {
    for (settings, code) in [
        ("{ trust_domains: [shop.example] }", "conflicting_keys"),
        ("{ subject: cn, trust_domains: [shop.example] }", "conflicting_keys"),
        ("{ subject: san_uri, trust_domains: ['spiffe://shop.example'] }", "bad_value"),
        ("{ subject: san }", "bad_value"),
        ("{ issuers: [partners], subject: cn }", "bad_value"),
    ] {
        let errors = bench(&[]).errors(&format!("mtls_auth: {settings}"));
        assert!(errors.len() == 1 && errors[0].starts_with(code), "{settings}: {errors:?}");
    }
    let errors = bench(&[("a", "{ subject: orders }")]).errors("mtls_auth: {}");
    assert!(errors[0].contains("certificate of consumer `a`"), "{errors:?}");
    let chain = bench(&[]).build("mtls_auth: {}").unwrap();
    let line = "no_credentials routes.items.policies.mtls_auth: no consumer has a certificate";
    assert_eq!(chain.findings.lines(), [line]);
    assert_eq!(chain.status(&mut asked(&chain, "orders")), 401);
}

#[test]
fn a_certificate_that_has_expired_or_is_disabled_for_its_consumer_is_nobody_elses() {
    for (terms, wanted) in [("expires: 2020-01-31", "has expired"), ("disabled: true", "is disabled")] {
        for settings in ["{}", "{ subject: fingerprint }", "{ subject: san_uri, trust_domains: [shop.example] }"] {
            let bench = bench(&[("shop-app", &format!("{{ cn: orders, {terms} }}"))]);
            let chain = bench.build(&format!("mtls_auth: {settings}")).unwrap();
            let at = |name: &str| {
                let mut exchange = asked(&chain, name);
                exchange.wall = 1_700_000_000 * SECOND;
                exchange
            };
            let mut refused = at("orders");
            let stop = chain.inward(&mut refused).1.unwrap_err();
            assert_eq!(refused.consumer_name(), None, "{terms} {settings}");
            let nobody = chain.exchange("GET / HTTP/1.1");
            let absent = chain.inward(&mut { nobody }).1.unwrap_err();
            assert_eq!(told(stop), told(absent), "{terms} {settings}");
            let (outcome, detail) = chain.explain(&mut at("orders"));
            assert_eq!(outcome, Outcome::Refuse(401, "unauthenticated"), "{terms} {settings}");
            assert!(detail.contains(wanted), "{detail}");
        }
    }
}
