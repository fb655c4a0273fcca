//! Who the bearer of a token is.

use daemun_pipeline::{Carry, Exchange, FieldId};
use serde_json::{Value, json};

use super::signer::{SECRET, Signer};
use crate::jwt::Algorithm;
use crate::testing::{Bench, Chain, SECOND, WALL, consumer};

fn chain(bench: &Bench, more: &str) -> Chain {
    bench.build(&format!("jwt: {{ keys: {{ secret: '{SECRET}' }}, {more} }}")).unwrap()
}

fn bench() -> Bench {
    Bench::new(vec![consumer("shop", &["buyer"], &["shop-app-key-0001"])])
}

fn token(claims: &Value) -> String {
    Signer::Secret(SECRET.into()).sign(Algorithm::Hs512, &json!({}), claims)
}

fn request(chain: &Chain, token: &str) -> Exchange {
    let mut exchange = chain.exchange(&format!("GET / HTTP/1.1\nAuthorization: Bearer {token}"));
    exchange.wall = WALL;
    exchange
}

#[test]
fn the_caller_is_noted_with_all_that_the_token_says() {
    let chain = chain(&bench(), "roles: realm_access.roles, groups: groups");
    let claims = json!({
        "sub": "ann", "exp": 1_900_000_000, "scope": "a b", "groups": ["staff"],
        "realm_access": { "roles": ["admin"] }, "jti": "17",
    });
    for _ in 0..2 {
        let mut exchange = request(&chain, &token(&claims));
        assert_eq!(chain.status(&mut exchange), 0);
        assert_eq!(exchange.consumer_name(), Some("ann"));
        assert!(exchange.has_role("admin") && exchange.has_group("staff") && exchange.has_scope("b"));
        assert_eq!(exchange.claims().unwrap()["jti"], "17");
        assert!(exchange.consumer().is_none());
        assert_eq!(exchange.request.head.values_id(FieldId::Authorization).count(), 0);
    }
}

#[test]
fn a_claim_makes_its_bearer_a_consumer_and_nothing_else_does() {
    let claims = |sub: &str| json!({ "sub": sub, "azp": "shop", "exp": 1_900_000_000 });
    let named = chain(&bench(), "consumer: azp");
    let mut exchange = request(&named, &token(&claims("ann")));
    assert_eq!(named.status(&mut exchange), 0);
    assert_eq!(exchange.consumer().map(|consumer| consumer.name.as_str()), Some("shop"));
    assert!(exchange.has_role("buyer"));
    let unnamed = chain(&bench(), "");
    assert_eq!(unnamed.status(&mut request(&unnamed, &token(&claims("ann")))), 0);
    assert_eq!(unnamed.status(&mut request(&unnamed, &token(&claims("shop")))), 401, "the name of a consumer");
    let other = json!({ "sub": "ann", "azp": "nobody", "exp": 1_900_000_000 });
    assert_eq!(named.status(&mut request(&named, &token(&other))), 401);
}

#[test]
fn a_subject_that_no_header_can_carry_is_refused() {
    let chain = chain(&bench(), "");
    for subject in ["a\nb", " a", "a\u{0}", ""] {
        let claims = json!({ "sub": subject, "exp": 1_900_000_000 });
        assert_eq!(chain.status(&mut request(&chain, &token(&claims))), 401, "{subject:?}");
    }
    let claims = json!({ "sub": "안녕", "exp": 1_900_000_000 });
    assert_eq!(chain.status(&mut request(&chain, &token(&claims))), 0);
}

#[test]
fn a_remembered_token_expires_on_time() {
    let chain = chain(&bench(), "leeway: 0s");
    let token = token(&json!({ "sub": "ann", "exp": 1_800_000_010 }));
    for (second, expected) in [(0, 0), (1, 0), (9, 0), (10, 401), (11, 401), (9, 0)] {
        let mut exchange = request(&chain, &token);
        exchange.wall = WALL + second * SECOND;
        assert_eq!(chain.status(&mut exchange), expected, "after {second} s");
    }
}

#[test]
fn without_the_expiry_a_token_is_refused_unless_it_is_not_asked_for() {
    let token = token(&json!({ "sub": "ann" }));
    let strict = chain(&bench(), "");
    assert_eq!(strict.status(&mut request(&strict, &token)), 401);
    let lax = chain(&bench(), "required: []");
    assert_eq!(lax.status(&mut request(&lax, &token)), 0);
}

#[test]
fn a_key_and_a_token_together_are_one_caller() {
    let bench = bench();
    let both = |more: &str| {
        let settings = format!("{{ key_auth: {{ header: K }}, jwt: {{ keys: {{ secret: '{SECRET}' }}, {more} }} }}");
        bench.build(&settings).unwrap()
    };
    let claims = json!({ "sub": "ann", "azp": "shop", "role": "admin", "exp": 1_900_000_000 });
    let chain = both("roles: role");
    let mut exchange = request(&chain, &token(&claims));
    assert!(exchange.request.head.append("K", b"shop-app-key-0001"));
    assert_eq!(chain.status(&mut exchange), 0);
    assert_eq!(exchange.consumer_name(), Some("shop"));
    assert!(exchange.has_role("buyer") && exchange.has_role("admin"));
    let mut exchange = request(&chain, &token(&claims));
    assert_eq!(chain.status(&mut exchange), 401, "the key is missing");
    let chain = both("consumer: azp");
    for (azp, expected) in [("shop", 0), ("other", 401)] {
        let mut exchange = request(&chain, &token(&json!({ "sub": "ann", "azp": azp, "exp": 1_900_000_000 })));
        assert!(exchange.request.head.append("K", b"shop-app-key-0001"));
        assert_eq!(chain.status(&mut exchange), expected, "{azp}");
    }
}

#[test]
fn routes_with_the_same_settings_verify_a_token_once() {
    let bench = bench();
    let (one, other) = (chain(&bench, ""), chain(&bench, ""));
    let token = token(&json!({ "sub": "ann", "exp": 1_900_000_000 }));
    let identity = |chain: &Chain| {
        let mut exchange = request(chain, &token);
        assert_eq!(chain.status(&mut exchange), 0);
        exchange.identity.unwrap()
    };
    let first = identity(&one);
    assert!(std::sync::Arc::ptr_eq(&first, &identity(&one)) && std::sync::Arc::ptr_eq(&first, &identity(&other)));
    let apart = Bench { carry: Carry::detached(), ..Bench::new(Vec::new()) };
    assert!(!std::sync::Arc::ptr_eq(&first, &identity(&chain(&apart, ""))));
    let none = chain(&bench, "cache: 0");
    assert!(!std::sync::Arc::ptr_eq(&identity(&none), &identity(&none)));
}
