//! What `security_headers` holds beyond its page.

use crate::testing::{Bench, Chain, field_lines, respond};

fn chain(settings: &str) -> Chain {
    Bench::new(Vec::new()).build(&format!("security_headers: {settings}")).unwrap()
}

/// The names of an answer's headers, after the policy.
fn names(chain: &Chain, tls: bool, own: &[(&str, &str)]) -> Vec<String> {
    let mut exchange = chain.exchange("GET / HTTP/1.1");
    exchange.client.tls = tls;
    for (name, value) in own {
        assert!(exchange.response.head.append(name, value.as_bytes()));
    }
    chain.outward(1, &mut exchange).expect("it passes");
    let name = |line: &String| line.split(':').next().unwrap_or_default().to_owned();
    field_lines(&exchange.response.head).iter().map(name).collect()
}

#[test]
fn wrong_settings_are_found() {
    let bench = Bench::new(Vec::new());
    for (settings, code) in [
        ("{ strict_transport_security: includeSubDomains }", "bad_value"),
        ("{ strict_transport_security: max-age=soon }", "bad_value"),
        ("{ strict_transport_security: '' }", "bad_value"),
        ("{ content_type_options: sniff }", "bad_value"),
        ("{ frame_options: ALLOWALL }", "bad_value"),
        ("{ referrer_policy: '' }", "bad_value"),
        ("{ content_security_policy: \"a\\nb\" }", "bad_value"),
        ("{ referrer_policy: true }", "wrong_type"),
        ("{ override: 1 }", "wrong_type"),
        ("{ hsts: off }", "unknown_key"),
        ("[]", "wrong_type"),
    ] {
        let errors = bench.errors(&format!("security_headers: {settings}"));
        assert_eq!(errors.len(), 1, "{settings}: {errors:?}");
        assert!(errors[0].starts_with(code), "{settings}: {errors:?}");
    }
    for right in ["{ strict_transport_security: 'max-age=\"1\"; preload' }", "{ frame_options: deny }", "{}"] {
        assert_eq!(bench.errors(&format!("security_headers: {right}")), [""; 0]);
    }
}

#[test]
fn transport_security_is_promised_only_to_callers_over_tls() {
    let chain = chain("{}");
    let sent = |tls| names(&chain, tls, &[]).contains(&"Strict-Transport-Security".to_owned());
    assert!(sent(true) && !sent(false));
    let mut exchange = chain.exchange("GET / HTTP/1.1\nX-Forwarded-Proto: https");
    for (trusted, sent) in [(true, 1), (false, 0)] {
        exchange.client.trusted = trusted;
        exchange.response.head.clear();
        chain.outward(1, &mut exchange).expect("it passes");
        assert_eq!(exchange.response.head.values("strict-transport-security").count(), sent);
    }
}

#[test]
fn an_upstreams_value_stays_unless_it_is_overridden() {
    let own = [("x-frame-options", "DENY"), ("X-Frame-Options", "ALLOWALL")];
    let off = "permissions_policy: off, cross_origin_opener_policy: off, cross_origin_resource_policy: off";
    let off = format!("referrer_policy: off, content_type_options: off, {off}");
    assert_eq!(names(&chain(&format!("{{ {off} }}")), false, &own), ["x-frame-options", "X-Frame-Options"]);
    let chain = chain(&format!("{{ {off}, override: true }}"));
    assert_eq!(names(&chain, false, &own), ["X-Frame-Options"]);
    assert_eq!(&**chain.steps[0].1.removed_from_answers().last().unwrap(), "X-Frame-Options");
}

#[test]
fn everything_off_changes_nothing() {
    let keys = ["strict_transport_security", "content_type_options", "frame_options", "referrer_policy"];
    let more = ["permissions_policy", "cross_origin_opener_policy", "cross_origin_resource_policy"];
    let off: Vec<String> = keys.iter().chain(&more).map(|key| format!("{key}: off")).collect();
    let chain = chain(&format!("{{ {} }}", off.join(", ")));
    assert_eq!(names(&chain, true, &[("A", "1")]), ["A"]);
    assert_eq!(chain.explain(&mut chain.exchange("GET / HTTP/1.1")).1, "adds nothing to the answer");
}

#[test]
fn refusals_of_what_stands_behind_it_carry_them() {
    let bench = Bench::new(Vec::new());
    let chain = bench.build("{ security_headers: {}, ip_filter: { deny: 192.0.2.0/24 } }").unwrap();
    let mut exchange = chain.exchange("GET / HTTP/1.1");
    exchange.client.peer = Some([192, 0, 2, 1].into());
    exchange.client.ip = [192, 0, 2, 1].into();
    let (passed, verdict) = chain.inward(&mut exchange);
    respond(&verdict.unwrap_err(), &mut exchange);
    assert_eq!(exchange.response.status, 403);
    chain.outward(passed, &mut exchange).expect("it passes");
    assert!(exchange.response.head.get("X-Content-Type-Options").is_some());
}

#[test]
fn explain_names_headers_and_no_values() {
    let chain = chain("{ content_security_policy: \"default-src 'none'\", permissions_policy: off }");
    let (_, detail) = chain.explain(&mut chain.exchange("GET / HTTP/1.1"));
    assert!(detail.contains("`Content-Security-Policy`") && !detail.contains("default-src"), "{detail}");
    assert!(!detail.contains("Strict-Transport-Security") && !detail.contains("Permissions-Policy"), "{detail}");
}
