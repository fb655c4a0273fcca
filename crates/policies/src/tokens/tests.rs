use std::sync::Arc;

use daemun_accounts::consumer::Credential;
use daemun_accounts::{Accounts, Consumer as Stored, CredentialKind, Revoked, text};
use daemun_pipeline::{Consumer, Stop};
use serde_json::{Value, json};

use crate::testing::{Bench, Chain, basic, consumer, wait};

const NOW: u64 = 1_800_000_000_000;
const KEY: &str = "shop-app-key-0001";

fn bench() -> (Bench, Arc<Accounts>) {
    let shop = Consumer {
        scopes: vec!["read".to_owned(), "write".to_owned()],
        basic: vec![basic("shop", "a secret:of two")],
        ..consumer("shop-app", &["buyer"], &[KEY])
    };
    let bench = Bench::new(vec![shop, consumer("b", &[], &["other-key-00000001"])]);
    let accounts = Accounts::of(&bench.carry);
    (bench, accounts)
}

/// What a request comes to: its status, and the answer's body.
fn ask(chain: &Chain, fields: &str, body: &str, at: u64) -> (u16, Value) {
    let kind = if body.starts_with('{') { "application/json" } else { "application/x-www-form-urlencoded" };
    let text = format!("POST /auth HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\n{fields}\r\n");
    let mut exchange = chain.exchange(&text);
    exchange.wall = (NOW + at) * 1_000_000;
    exchange.times.start = 1_000_000_000 + at * 1_000_000;
    match chain.inward_with(&mut exchange, body.as_bytes()).1 {
        Ok(()) => (0, Value::Null),
        Err(Stop::Answer(answer)) => (answer.status, serde_json::from_slice(&answer.body).unwrap()),
        Err(Stop::Fault(fault)) => {
            let members = fault.members.unwrap_or_default().0;
            let error = members.iter().find(|(name, _)| *name == "error").map(|(_, value)| value.clone());
            (fault.reason.status(), error.unwrap_or(Value::Null))
        }
    }
}

fn token(chain: &Chain, fields: &str, body: &str) -> Value {
    let (status, told) = ask(chain, fields, body, 0);
    assert_eq!(status, 200, "{told}");
    told
}

fn text_of<'a>(told: &'a Value, name: &str) -> &'a str {
    told[name].as_str().unwrap()
}

#[test]
fn a_key_is_given_a_pair_and_a_refresh_token_the_next() {
    let (bench, accounts) = bench();
    let chain = bench.build("tokens: shop").unwrap();
    let told = token(&chain, &format!("X-Api-Key: {KEY}\r\n"), "");
    assert_eq!((&told["expires_in"], &told["token_type"]), (&json!(900), &json!("Bearer")));
    assert_eq!((&told["scope"], &told["refresh_expires_in"]), (&json!("read write"), &json!(3600)));
    let identity = accounts.check(text_of(&told, "access_token").as_bytes(), "shop", NOW).unwrap();
    assert_eq!(
        (identity.consumer.as_deref(), &*identity.scopes),
        (Some("shop-app"), &["read".into(), "write".into()][..])
    );
    let body = format!("grant_type=refresh_token&refresh_token={}", text_of(&told, "refresh_token"));
    let next = token(&chain, "", &body);
    assert_ne!(next["access_token"], told["access_token"]);
    assert_eq!(ask(&chain, "", &body, 1), (400, json!("invalid_grant")));
    assert!(accounts.check(text_of(&next, "access_token").as_bytes(), "shop", NOW).is_err());
}

#[test]
fn what_is_asked_for_may_be_less_but_not_more() {
    let (bench, _accounts) = bench();
    let chain = bench.build("tokens: shop").unwrap();
    let key = format!("X-Api-Key: {KEY}\r\n");
    assert_eq!(token(&chain, &key, "grant_type=key&scope=read")["scope"], "read");
    assert_eq!(token(&chain, &key, r#"{"grant_type": "key", "scope": "write"}"#)["scope"], "write");
    assert_eq!(ask(&chain, &key, "scope=read+admin", 0), (400, json!("invalid_scope")));
}

#[test]
fn a_client_shows_its_credentials_in_one_place() {
    let (bench, _accounts) = bench();
    let chain = bench.build("tokens: shop").unwrap();
    // `shop:a secret:of two`, each half encoded as in a form
    let basic = "Authorization: Basic c2hvcDphK3NlY3JldCUzQW9mK3R3bw==\r\n";
    let grant = "grant_type=client_credentials";
    let told = token(&chain, basic, grant);
    assert!(told.get("refresh_token").is_none());
    token(&chain, "", &format!("{grant}&client_id=shop&client_secret=a+secret%3Aof+two"));
    for (fields, body, status, error) in [
        (basic, format!("{grant}&client_id=shop&client_secret=x"), 400, "invalid_request"),
        ("", format!("{grant}&client_id=shop&client_secret=wrong-secret"), 401, "invalid_client"),
        ("", format!("{grant}&client_id=nobody&client_secret=a+secret%3Aof+two"), 401, "invalid_client"),
        ("Authorization: Basic !!\r\n", grant.to_owned(), 401, "invalid_client"),
        ("", grant.to_owned(), 401, "invalid_client"),
    ] {
        assert_eq!(ask(&chain, fields, &body, 0), (status, json!(error)), "{fields} {body}");
    }
}

#[test]
fn what_cannot_be_read_in_one_way_is_refused() {
    let (bench, _accounts) = bench();
    let chain = bench.build("tokens: shop").unwrap();
    let key = format!("X-Api-Key: {KEY}\r\n");
    for (fields, body, status, error) in [
        ("", "", 400, "invalid_request"),
        (&key, "grant_type=key&grant_type=key", 400, "invalid_request"),
        (&key, r#"{"grant_type": "key", "grant_type": "key"}"#, 400, "invalid_request"),
        (&key, r#"{"grant_type": 1}"#, 400, "invalid_request"),
        (&key, "{", 400, "invalid_request"),
        (&key, "grant_type=implicit", 400, "unsupported_grant_type"),
        (&key, "grant_type=refresh_token", 400, "invalid_request"),
        (&key, "grant_type=refresh_token&refresh_token=dmr_none", 400, "invalid_grant"),
        ("X-Api-Key: no-such-key-00001\r\n", "", 401, "invalid_client"),
        (&format!("{key}X-Api-Key: other-key-00000001\r\n"), "", 401, "invalid_client"),
    ] {
        assert_eq!(ask(&chain, fields, body, 0), (status, json!(error)), "{fields} {body}");
    }
    let many: Vec<String> = (0..40).map(|n| format!("n{n}=x")).collect();
    assert_eq!(ask(&chain, &key, &many.join("&"), 0), (400, json!("invalid_request")));
}

#[test]
fn a_service_gives_only_for_what_it_says() {
    let (mut bench, _accounts) = bench();
    bench.token_services[0].grants = vec![daemun_config::model::GrantType::ClientCredentials];
    bench.token_services[0].refresh = None;
    let chain = bench.build("tokens: shop").unwrap();
    assert_eq!(ask(&chain, &format!("X-Api-Key: {KEY}\r\n"), "", 0), (400, json!("unsupported_grant_type")));
}

#[test]
fn guessing_is_slowed_down_for_the_guesser_and_the_name() {
    let (bench, _accounts) = bench();
    let chain = bench.build("tokens: shop").unwrap();
    let guess = |at| ask(&chain, "", "grant_type=client_credentials&client_id=shop&client_secret=wrong-one", at);
    for _ in 0..11 {
        assert_eq!(guess(0).0, 401);
    }
    assert_eq!(guess(0), (429, json!("slow_down")));
    // a key is not tried either by whoever guessed, until time has passed
    let key = format!("X-Api-Key: {KEY}\r\n");
    assert_eq!(ask(&chain, &key, "", 0).0, 429);
    assert_eq!(ask(&chain, &key, "", 3_000).0, 200);
}

#[test]
fn a_revoked_key_of_the_configuration_gives_nothing_and_opens_nothing() {
    let (bench, accounts) = bench();
    let chain = bench.build("tokens: shop").unwrap();
    let key = format!("X-Api-Key: {KEY}\r\n");
    let told = token(&chain, &key, "");
    let id = text::id_of("key", &text::digest(KEY.as_bytes()));
    wait(accounts.revoke(&Revoked::Credential(id), None, NOW)).unwrap();
    assert!(accounts.check(text_of(&told, "access_token").as_bytes(), "shop", NOW).is_err());
    assert_eq!(ask(&chain, &key, "", 1), (401, json!("invalid_client")));
    let direct = bench.build("key_auth: { header: X-Api-Key }").unwrap();
    for (key, status) in [(KEY, 401), ("other-key-00000001", 0)] {
        let mut exchange = direct.exchange(&format!("GET / HTTP/1.1\r\nHost: a\r\nX-Api-Key: {key}\r\n\r\n"));
        assert_eq!(direct.status(&mut exchange), status);
    }
}

#[test]
fn consumers_of_the_store_call_with_their_keys_and_get_tokens() {
    let (bench, accounts) = bench();
    let partner = Stored {
        name: "partner".to_owned(),
        roles: vec!["reader".to_owned()],
        scopes: vec!["read".to_owned()],
        ..Stored::default()
    };
    wait(accounts.put_consumer(partner, NOW)).unwrap();
    let credential = |kind, id: &str, secret: &str, expires| Credential {
        id: id.to_owned(),
        consumer: "partner".to_owned(),
        kind,
        digest: text::digest(secret.as_bytes()),
        label: String::new(),
        created: NOW,
        expires,
        disabled: false,
    };
    wait(accounts.put_credential(credential(CredentialKind::Key, "key:1", "dmn_first", Some(NOW + 1000)))).unwrap();
    wait(accounts.put_credential(credential(CredentialKind::Key, "key:2", "dmn_second", None))).unwrap();
    wait(accounts.put_credential(credential(CredentialKind::Client, "cid", "dms_secret", None))).unwrap();
    let direct = bench.build("key_auth: { header: X-Api-Key }").unwrap();
    let call = |key: &str, at: u64| {
        let mut exchange = direct.exchange(&format!("GET / HTTP/1.1\r\nHost: a\r\nX-Api-Key: {key}\r\n\r\n"));
        exchange.wall = (NOW + at) * 1_000_000;
        (direct.status(&mut exchange), exchange.consumer_name().map(str::to_owned), exchange.has_role("reader"))
    };
    assert_eq!(call("dmn_first", 999), (0, Some("partner".to_owned()), true));
    assert_eq!(call("dmn_first", 1000).0, 401);
    assert_eq!(call("dmn_second", 5000).0, 0);
    assert_eq!(call("dms_secret", 0).0, 401);
    let chain = bench.build("tokens: shop").unwrap();
    assert_eq!(token(&chain, "X-Api-Key: dmn_second\r\n", "")["scope"], "read");
    let told = token(&chain, "", "grant_type=client_credentials&client_id=cid&client_secret=dms_secret");
    assert_eq!(accounts.check(text_of(&told, "access_token").as_bytes(), "shop", NOW).unwrap().roles, ["reader"]);
    wait(accounts.revoke(&Revoked::Credential("key:2".to_owned()), None, NOW)).unwrap();
    assert_eq!(call("dmn_second", 0).0, 401);
}

#[test]
fn whoever_may_ask_is_told_what_a_token_stands_for_and_can_revoke_their_own() {
    let (bench, accounts) = bench();
    let chain = bench.build("tokens: shop").unwrap();
    let (mine, other) =
        (token(&chain, &format!("X-Api-Key: {KEY}\r\n"), ""), token(&chain, "X-Api-Key: other-key-00000001\r\n", ""));
    let key = format!("X-Api-Key: {KEY}\r\n");
    let asks =
        bench.build("{ key_auth: { header: X-Api-Key }, tokens: { service: shop, endpoint: introspect } }").unwrap();
    let told = ask(&asks, &key, &format!("token={}", text_of(&mine, "access_token")), 0).1;
    assert_eq!(told["active"], true);
    assert_eq!((&told["sub"], &told["scope"]), (&json!("shop-app"), &json!("read write")));
    assert_eq!((&told["iat"], &told["exp"]), (&json!(NOW / 1000), &json!(NOW / 1000 + 900)));
    assert_eq!(ask(&asks, &key, "token=dmt_none", 0).1, json!({ "active": false }));
    assert_eq!(ask(&asks, "", "token=dmt_none", 0).0, 401);
    let found = bench.errors("tokens: { service: shop, endpoint: introspect }");
    assert_eq!(found, ["unprotected_endpoint routes.items.policies.tokens: anybody could ask what tokens stand for"]);
    let revokes =
        bench.build("{ key_auth: { header: X-Api-Key }, tokens: { service: shop, endpoint: revoke } }").unwrap();
    for (told, gone) in [(&other, false), (&mine, true)] {
        let text = text_of(told, "access_token");
        assert_eq!(ask(&revokes, &key, &format!("token={text}"), 0), (200, json!({})));
        assert_eq!(accounts.check(text.as_bytes(), "shop", NOW).is_err(), gone);
    }
    assert_eq!(ask(&revokes, &key, "", 0), (400, json!("invalid_request")));
}
