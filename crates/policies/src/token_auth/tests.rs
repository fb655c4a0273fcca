use daemun_accounts::{Accounts, Asked, Issued, Revoked};
use daemun_pipeline::{Outcome, Stop};

use crate::testing::{Bench, consumer, token_service, upstream_lines, wait};

const NOW: u64 = 1_800_000_000_000;

fn give(bench: &Bench, subject: &str) -> Issued {
    let asked = Asked {
        service: "shop".into(),
        subject: subject.into(),
        consumer: true,
        credential: "key:1".into(),
        roles: Vec::new(),
        groups: Vec::new(),
        scopes: vec!["read".to_owned()],
        claims: serde_json::Map::new(),
        access: 1000,
        refresh: Some(2000),
        longest: 5000,
        most: 10,
    };
    wait(Accounts::of(&bench.carry).issue(None, asked, NOW)).unwrap()
}

/// The accounts live as long as somebody holds them.
fn bench() -> (Bench, std::sync::Arc<Accounts>) {
    let bench = Bench::new(vec![consumer("shop-app", &["buyer"], &[]), consumer("b", &[], &[])]);
    let accounts = Accounts::of(&bench.carry);
    (bench, accounts)
}

#[test]
fn a_good_token_tells_who_calls_and_goes_no_further() {
    let (bench, _accounts) = bench();
    let issued = give(&bench, "shop-app");
    for (settings, field) in [
        ("{}", format!("Authorization: bearer {}", issued.access)),
        ("{ header: X-T }", format!("X-T: {}", issued.access)),
    ] {
        let chain = bench.build(&format!("token_auth: {settings}")).unwrap();
        let mut exchange = chain.exchange(&format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\nX-B: c\r\n\r\n"));
        exchange.wall = (NOW + 999) * 1_000_000;
        assert_eq!(chain.status(&mut exchange), 0);
        assert_eq!(exchange.consumer_name(), Some("shop-app"));
        assert!(exchange.has_role("buyer") && exchange.has_scope("read") && !exchange.has_scope("write"));
        let sent = upstream_lines(&exchange.request).join("\n");
        assert!(sent.contains("X-Consumer-Name: shop-app\nX-Consumer-Roles: buyer"), "{sent}");
        assert!(!sent.contains("dmt_"), "{sent}");
    }
}

#[test]
fn what_is_no_good_any_more_is_refused_and_explained() {
    let (bench, accounts) = bench();
    let (issued, gone, revoked) = (give(&bench, "shop-app"), give(&bench, "nobody"), give(&bench, "b"));
    wait(accounts.revoke(&Revoked::Token(revoked.access.clone()), None, NOW)).unwrap();
    let chain = bench.build("token_auth: { service: shop }").unwrap();
    let refresh = &issued.refresh.as_ref().unwrap().0;
    for (token, at, why) in [
        (issued.access.as_str(), 1000, "the access token has expired"),
        (&gone.access, 0, "the access token is of nobody who may call, or not the authenticated consumer's"),
        (&revoked.access, 0, "the access token was revoked"),
        (refresh, 0, "the access token is none that is known here"),
        ("dmt_x", 0, "the access token is none that is known here"),
        (&"x".repeat(600), 0, "the access token is longer than any that is given out"),
    ] {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n");
        let mut exchange = chain.exchange(&text);
        exchange.wall = (NOW + at) * 1_000_000;
        assert_eq!(chain.status(&mut exchange), 401, "{why}");
        assert!(!exchange.is_known());
        let mut exchange = chain.exchange(&text);
        exchange.wall = (NOW + at) * 1_000_000;
        assert_eq!(chain.explain(&mut exchange), (Outcome::Refuse(401, "unauthenticated"), why.to_owned()));
    }
}

#[test]
fn a_challenge_of_its_own_is_the_same_whatever_is_wrong() {
    let (bench, _accounts) = bench();
    let asked = |settings: &str, field: &str| {
        let chain = bench.build(&format!("token_auth: {settings}")).unwrap();
        let mut exchange = chain.exchange(&format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n"));
        match chain.inward(&mut exchange).1 {
            Err(Stop::Fault(fault)) => fault.fields,
            other => panic!("{other:?}"),
        }
    };
    let field = |value: &str| vec![("WWW-Authenticate".into(), value.to_owned())];
    for sent in ["", "X-T: dmt_none\r\n", "X-T: a\r\nX-T: b\r\n"] {
        let own = asked(r#"{ header: X-T, challenge: 'Bearer realm="retailer"' }"#, sent);
        assert_eq!(own, field("Bearer realm=\"retailer\""), "{sent}");
    }
    assert_eq!(asked("{ header: X-T }", ""), field("Bearer realm=\"daemun\""));
    let error = field("Bearer realm=\"daemun\", error=\"invalid_token\"");
    assert_eq!(asked("{ header: X-T }", "X-T: dmt_none\r\n"), error);
    for wrong in ["''", "'realm=\"a b'", "'Bearer realm=\"한\"'", "'Bearer '", &format!("'{}'", "x".repeat(600))] {
        let found = bench.errors(&format!("token_auth: {{ challenge: {wrong} }}"));
        assert!(found[0].starts_with("bad_value routes.items.policies.token_auth.challenge: `"), "{wrong}: {found:?}");
    }
}

#[test]
fn a_token_of_another_service_is_none() {
    let (mut bench, _accounts) = bench();
    let issued = give(&bench, "shop-app");
    bench.token_services.push(token_service("other"));
    let chain = bench.build("token_auth: { service: other }").unwrap();
    let mut exchange =
        chain.exchange(&format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\n\r\n", issued.access));
    exchange.wall = NOW * 1_000_000;
    assert_eq!(chain.status(&mut exchange), 401);
    let found = bench.errors("token_auth: {}");
    assert_eq!(found, ["unknown_token_service routes.items.policies.token_auth: there are several token services"]);
    let found = bench.errors("token_auth: { service: shp }");
    assert_eq!(found, ["unknown_token_service routes.items.policies.token_auth: there is no token service `shp`"]);
}
