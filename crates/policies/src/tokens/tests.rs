#[cfg(feature = "saml")]
mod assertions;
mod introspection;
mod names;

use std::sync::Arc;

use daemun_accounts::consumer::Credential;
use daemun_accounts::{Accounts, Consumer as Stored, CredentialKind, Revoked, text};
use daemun_config::model::{ServiceUrls, SignedTokens, SigningAlgorithm, TokenFormat, TokenMember, TokenService};
use daemun_pipeline::{Consumer, ConsumerId, Directory, Outcome, Stop, World};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use crate::jwt::Algorithm;
use crate::jwt::jws::Jws;
use crate::jwt::keys::KeySet;
use crate::testing::{Bench, Chain, basic, consumer, token_service, wait};
use crate::tokens::users::tests::Computing;

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
pub(super) fn ask(chain: &Chain, fields: &str, body: &str, at: u64) -> (u16, Value) {
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

pub(super) fn text_of<'a>(told: &'a Value, name: &str) -> &'a str {
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
    let right = "grant_type=client_credentials&client_id=shop&client_secret=a+secret%3Aof+two";
    assert_eq!(ask(&chain, "", right, 0), (429, json!("slow_down")), "what is right is not told of either");
    assert_eq!(ask(&chain, "", right, 3_000).0, 200);
}

/// Puts a consumer into the store, with a key and the secret of a client.
fn hold(accounts: &Accounts, consumer: Stored, key: &str, client: &str) {
    let name = consumer.name.clone();
    wait(accounts.put_consumer(consumer, NOW)).unwrap();
    for (kind, id, secret) in [(CredentialKind::Key, "key:1", key), (CredentialKind::Client, client, "dms_secret")] {
        let credential = Credential {
            id: id.to_owned(),
            consumer: name.clone(),
            kind,
            digest: text::digest(secret.as_bytes()),
            label: String::new(),
            created: NOW,
            expires: None,
            disabled: false,
        };
        wait(accounts.put_credential(credential, NOW)).unwrap();
    }
}

#[test]
fn explain_counts_no_guess_notes_no_use_and_gives_nothing() {
    let (bench, accounts) = bench();
    hold(&accounts, Stored { name: "partner".to_owned(), ..Stored::default() }, "dmn_first", "cid");
    let used = || {
        let key = accounts.key(&text::digest(b"dmn_first")).unwrap().last_use();
        (key, accounts.client("cid").unwrap().last_use())
    };
    let clients = bench.build("tokens: { service: shop, grants: [client_credentials] }").unwrap();
    let keys = bench.build("tokens: { service: shop, grants: [key] }").unwrap();
    let direct = bench.build("key_auth: { header: X-Api-Key }").unwrap();
    let explain = |chain: &Chain, field: &str| {
        let mut exchange = chain.exchange(&format!("POST /auth HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n"));
        (exchange.wall, exchange.times.start) = (NOW * 1_000_000, 1_000_000_000);
        chain.explain(&mut exchange)
    };
    // `shop:wrong`, `shop:a secret:of two`, `cid:dms_secret`
    for _ in 0..100 {
        let (outcome, detail) = explain(&clients, "Authorization: Basic c2hvcDp3cm9uZw==");
        assert_eq!(outcome, Outcome::Refuse(401, "unauthenticated"), "{detail}");
    }
    for (chain, field, wanted) in [
        (&clients, "Authorization: Basic c2hvcDphK3NlY3JldCUzQW9mK3R3bw==", "would give tokens to `shop-app`"),
        (&clients, "Authorization: Basic Y2lkOmRtc19zZWNyZXQ=", "would give tokens to `partner`"),
        (&keys, "X-Api-Key: dmn_first", "would give tokens to `partner`"),
        (&direct, "X-Api-Key: dmn_first", "the key is one of `partner`"),
    ] {
        let (_, detail) = explain(chain, field);
        assert!(detail.contains(wanted), "{detail}");
    }
    assert_eq!((used(), accounts.tokens()), ((None, None), 0));
    let right = |id: &str, secret: &str| format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
    assert_eq!(ask(&clients, "", &right("shop", "a+secret%3Aof+two"), 0).0, 200, "no guess was counted");
    assert_eq!(ask(&clients, "", &right("cid", "dms_secret"), 0).0, 200);
    assert_eq!(used(), (None, Some(NOW)));
    assert_eq!(ask(&keys, "X-Api-Key: dmn_first\r\n", "", 0).0, 200);
    assert_eq!(used(), (Some(NOW), Some(NOW)), "a login notes the use");
}

#[test]
fn keys_cannot_be_guessed_so_that_wrong_ones_slow_nobody_down() {
    let (bench, _accounts) = bench();
    let chain = bench.build("tokens: shop").unwrap();
    for _ in 0..100 {
        assert_eq!(ask(&chain, "X-Api-Key: no-such-key-00001\r\n", "", 0), (401, json!("invalid_client")));
    }
    token(&chain, &format!("X-Api-Key: {KEY}\r\n"), "");
    token(&chain, "", "grant_type=client_credentials&client_id=shop&client_secret=a+secret%3Aof+two");
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
fn a_login_is_not_refreshed_once_its_credential_is_taken_out_of_the_configuration() {
    let (mut bench, accounts) = bench();
    let told = token(&bench.build("tokens: shop").unwrap(), &format!("X-Api-Key: {KEY}\r\n"), "");
    let body = format!("grant_type=refresh_token&refresh_token={}", text_of(&told, "refresh_token"));
    for without in [consumer("shop-app", &["buyer"], &["another-key-000001"]), consumer("b", &[], &[])] {
        bench.directory = Arc::new(Directory::new(vec![without]));
        let refused = ask(&bench.build("tokens: shop").unwrap(), "", &body, 1);
        assert_eq!(refused, (400, json!("invalid_grant")));
    }
    bench.directory = Arc::new(Directory::new(vec![consumer("shop-app", &["buyer"], &["another-key-000001", KEY])]));
    let next = token(&bench.build("tokens: shop").unwrap(), "", &body);
    assert!(accounts.check(text_of(&next, "access_token").as_bytes(), "shop", NOW).is_ok());
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
    wait(accounts.put_credential(credential(CredentialKind::Key, "key:1", "dmn_first", Some(NOW + 1000)), NOW))
        .unwrap();
    wait(accounts.put_credential(credential(CredentialKind::Key, "key:2", "dmn_second", None), NOW)).unwrap();
    wait(accounts.put_credential(credential(CredentialKind::Client, "cid", "dms_secret", None), NOW)).unwrap();
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

#[test]
fn a_route_that_asks_for_a_token_where_the_first_one_is_given_out_is_warned_of() {
    let (mut bench, _accounts) = bench();
    let lines = |bench: &Bench, settings: &str| bench.build(settings).unwrap().findings.lines();
    let warning = "contradiction routes.items.policies.tokens: nobody comes to a first token here, since `token_auth` asks for one";
    assert_eq!(lines(&bench, "{ token_auth: {}, tokens: shop }"), [warning]);
    for fine in [
        "tokens: shop",
        "{ key_auth: { header: X-Key }, tokens: shop }",
        "{ token_auth: {}, tokens: { service: shop, grants: [refresh_token] } }",
        "{ token_auth: {}, tokens: { service: shop, endpoint: revoke } }",
        "{ token_auth: {}, tokens: { service: shop, endpoint: introspect } }",
    ] {
        assert_eq!(lines(&bench, fine), Vec::<String>::new(), "{fine}");
    }
    bench.token_services.push(token_service("other"));
    assert_eq!(lines(&bench, "{ token_auth: { service: other }, tokens: shop }"), Vec::<String>::new());
}

/// A service for clients that have headers of their own.
fn replaced() -> (Bench, Arc<Accounts>) {
    let (mut bench, accounts) = bench();
    bench.token_services = vec![TokenService {
        key_header: "X-API-KEY".to_owned(),
        refresh_header: Some("X-API-REFRESH-TOKEN".to_owned()),
        answer: vec![TokenMember::AccessToken, TokenMember::RefreshToken, TokenMember::ExpiresIn],
        challenge: "Bearer realm=\"retailer\"".to_owned(),
        ..token_service("shop")
    }];
    (bench, accounts)
}

/// Status and challenge of a refusal, and what the log says.
fn refusal(chain: &Chain, fields: &str, body: &str) -> (u16, Option<String>, String) {
    let kind = "Content-Type: application/x-www-form-urlencoded";
    let mut exchange = chain.exchange(&format!("POST /auth HTTP/1.1\r\nHost: a\r\n{kind}\r\n{fields}\r\n"));
    exchange.wall = NOW * 1_000_000;
    match chain.inward_with(&mut exchange, body.as_bytes()).1 {
        Err(Stop::Fault(fault)) => {
            let challenge = fault.fields.iter().find(|(name, _)| name == "WWW-Authenticate");
            (fault.status(), challenge.map(|(_, value)| value.clone()), fault.cause.unwrap_or_default().into())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_no_good_in_a_header_is_401_with_the_challenge_and_in_a_form_400() {
    let (bench, _accounts) = replaced();
    let chain = bench.build("tokens: shop").unwrap();
    let told = token(&chain, &format!("X-API-KEY: {KEY}\r\n"), "");
    let used = text_of(&told, "refresh_token").to_owned();
    let header = format!("X-API-REFRESH-TOKEN: {used}\r\n");
    let next = token(&chain, &header, "");
    let asked = Some("Bearer realm=\"retailer\"".to_owned());
    for (fields, why) in [
        ("X-API-REFRESH-TOKEN: dmr_none\r\n", "it is none that is known here"),
        ("X-API-REFRESH-TOKEN:\r\n", "it is none that is known here"),
        (&format!("X-API-REFRESH-TOKEN: {}\r\n", text_of(&next, "access_token")), "it is none that is known here"),
        (&header, "it was used before, so that all of its login is revoked"),
        ("X-API-KEY: no-such-key-00001\r\n", "the key is none of those known, or not good any more"),
    ] {
        assert_eq!(refusal(&chain, fields, ""), (401, asked.clone(), why.to_owned()), "{fields}");
    }
    let form = format!("grant_type=refresh_token&refresh_token={used}");
    assert_eq!(refusal(&chain, "", &form), (400, None, "it was revoked".to_owned()));
    let twice = format!("{header}{header}");
    assert_eq!(refusal(&chain, &twice, ""), (400, None, "the refresh token stands in two places".to_owned()));
    let more = format!("X-API-REFRESH-TOKEN: {}\r\n", text_of(&next, "refresh_token"));
    assert_eq!(ask(&chain, &more, "scope=admin", 0), (401, json!("invalid_grant")));
    let fresh = token(&chain, &format!("X-API-KEY: {KEY}\r\n"), "");
    let more = format!("X-API-REFRESH-TOKEN: {}\r\n", text_of(&fresh, "refresh_token"));
    assert_eq!(ask(&chain, &more, "scope=admin", 0), (400, json!("invalid_scope")));
    // no secret of a request is in what is told of it
    assert!(!format!("{:?}", refusal(&chain, &header, "")).contains(&used));
}

#[test]
fn an_answer_holds_the_members_that_are_wanted_in_their_order() {
    let (mut bench, _accounts) = replaced();
    let body = |bench: &Bench| {
        let chain = bench.build("tokens: shop").unwrap();
        let mut exchange = chain.exchange(&format!("POST /auth HTTP/1.1\r\nHost: a\r\nX-API-KEY: {KEY}\r\n\r\n"));
        exchange.wall = NOW * 1_000_000;
        match chain.inward(&mut exchange).1 {
            Err(Stop::Answer(answer)) => String::from_utf8(answer.body.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        }
    };
    let members = |text: &str| {
        let names = text.trim_matches(['{', '}']).split(',').map(|member| member.split(':').next().unwrap().to_owned());
        names.collect::<Vec<_>>().join(" ")
    };
    let text = body(&bench);
    assert_eq!(members(&text), r#""access_token" "refresh_token" "expires_in""#);
    assert!(text.ends_with(r#","expires_in":900}"#), "{text}");
    bench.token_services[0].answer = TokenMember::ALL.to_vec();
    let all = r#""access_token" "token_type" "expires_in" "refresh_token" "refresh_expires_in" "scope""#;
    assert_eq!(members(&body(&bench)), all);
    bench.token_services[0].refresh = None;
    assert_eq!(members(&body(&bench)), r#""access_token" "token_type" "expires_in" "scope""#);
}

#[test]
fn a_route_gives_for_what_it_says_and_needs_no_grant_type_for_one() {
    let (bench, _accounts) = replaced();
    let keys = bench.build("tokens: { service: shop, grants: [key] }").unwrap();
    let renews = bench.build("tokens: { service: shop, grants: [refresh_token] }").unwrap();
    let key = format!("X-API-KEY: {KEY}\r\n");
    let told = token(&keys, &key, "");
    let refresh = format!("X-API-REFRESH-TOKEN: {}\r\n", text_of(&told, "refresh_token"));
    let asked = Some("Bearer realm=\"retailer\"".to_owned());
    for (chain, fields, why) in [
        (&keys, "", "there is no key in the request"),
        (&keys, &*refresh, "there is no key in the request"),
        (&renews, "", "there is no refresh token in the request"),
        (&renews, &*key, "there is no refresh token in the request"),
    ] {
        assert_eq!(refusal(chain, fields, ""), (401, asked.clone(), why.to_owned()), "{fields}");
    }
    assert_eq!(refusal(&renews, "", "scope=read").0, 400);
    for (chain, grant) in [(&keys, "refresh_token"), (&renews, "key"), (&keys, "client_credentials")] {
        let fields = format!("{key}{refresh}");
        assert_eq!(ask(chain, &fields, &format!("grant_type={grant}"), 0), (400, json!("unsupported_grant_type")));
    }
    token(&renews, &format!("{key}{refresh}"), "");
    assert_eq!(
        bench.errors("tokens: { service: shop, grants: [password] }"),
        ["bad_value routes.items.policies.tokens: `shop` gives no tokens for `password`"]
    );
    assert_eq!(
        bench.errors("tokens: { service: shop, endpoint: revoke, grants: [key] }"),
        [
            "conflicting_keys routes.items.policies.tokens.grants: `grants` is of `endpoint: token`, and no tokens are given here"
        ]
    );
    assert_eq!(
        bench.errors("tokens: { service: shop, grants: [] }"),
        ["bad_value routes.items.policies.tokens.grants: expected at least one item, found an empty list"]
    );
}

#[test]
fn whoever_asks_is_told_no_more_scopes_than_a_token_has_and_of_no_consumer_that_is_gone() {
    let (mut bench, accounts) = bench();
    let chain = bench.build("tokens: shop").unwrap();
    let key = "X-Api-Key: other-key-00000001\r\n";
    let introspect = "{ key_auth: { header: X-Api-Key }, tokens: { service: shop, endpoint: introspect } }";
    let asks = bench.build(introspect).unwrap();
    let told =
        |asks: &Chain, token: &Value, kind: &str| ask(asks, key, &format!("token={}", text_of(token, kind)), 0).1;
    let wide = token(&chain, &format!("X-Api-Key: {KEY}\r\n"), "");
    let refresh = format!("grant_type=refresh_token&scope=read&refresh_token={}", text_of(&wide, "refresh_token"));
    let narrow = token(&chain, "", &refresh);
    assert_eq!(told(&asks, &narrow, "access_token")["scope"], "read");
    for (token, kind) in [(&narrow, "refresh_token"), (&wide, "access_token")] {
        assert_eq!(told(&asks, token, kind)["scope"], "read write", "{kind}");
    }
    bench.directory = Bench::new(vec![consumer("b", &[], &["other-key-00000001"])]).directory;
    let asks = bench.build(introspect).unwrap();
    for (token, kind) in [(&narrow, "refresh_token"), (&narrow, "access_token"), (&wide, "access_token")] {
        assert_eq!(told(&asks, token, kind), json!({ "active": false }), "{kind}");
    }
    assert!(accounts.check(text_of(&wide, "access_token").as_bytes(), "shop", NOW).is_ok(), "it may come back");
}

/// The same with signed tokens.
fn signing_bench(consumers: Vec<Consumer>) -> (Bench, Arc<Accounts>) {
    let how = SignedTokens {
        issuer: "https://api.example.com".to_owned(),
        algorithm: SigningAlgorithm::Es256,
        audience: vec!["shop-api".to_owned()],
        rotate: None,
        seal: None,
    };
    let mut bench = Bench::new(consumers);
    bench.token_services = vec![TokenService {
        format: TokenFormat::Jwt(Box::new(how)),
        issuer: Some("https://api.example.com".to_owned()),
        urls: ServiceUrls {
            token: "https://api.example.com/auth".to_owned(),
            jwks: "https://api.example.com/jwks".to_owned(),
            revoke: Some("https://api.example.com/revoke".to_owned()),
            introspect: None,
            ..ServiceUrls::default()
        },
        ..token_service("shop")
    }];
    let accounts = Accounts::of(&bench.carry);
    (bench, accounts)
}

fn shop() -> Consumer {
    Consumer {
        scopes: vec!["read".to_owned(), "write".to_owned()],
        groups: vec!["staff".to_owned()],
        basic: vec![basic("shop", "secret")],
        ..consumer("shop-app", &["buyer"], &[KEY])
    }
}

fn read(chain: &Chain) -> (u16, Vec<(String, String)>, Value) {
    let mut exchange = chain.exchange("GET /jwks HTTP/1.1\r\nHost: a\r\n\r\n");
    exchange.wall = NOW * 1_000_000;
    match chain.inward(&mut exchange).1 {
        Err(Stop::Answer(answer)) => (answer.status, answer.fields, serde_json::from_slice(&answer.body).unwrap()),
        other => panic!("{other:?}"),
    }
}

fn part(token: &str, at: usize) -> Value {
    serde_json::from_slice(&BASE64URL_NOPAD.decode(token.split('.').nth(at).unwrap().as_bytes()).unwrap()).unwrap()
}

#[test]
fn a_signed_token_says_what_it_stands_for_and_is_verified_with_the_published_keys() {
    let (bench, accounts) = signing_bench(vec![shop()]);
    let chain = bench.build("tokens: shop").unwrap();
    let told = token(&chain, &format!("X-Api-Key: {KEY}\r\n"), "");
    let text = text_of(&told, "access_token");
    let known = accounts.find(text.as_bytes()).unwrap();
    assert_eq!(
        part(text, 1),
        json!({
            "iss": "https://api.example.com", "sub": "shop-app", "aud": "shop-api", "client_id": "shop-app",
            "iat": NOW / 1000, "exp": NOW / 1000 + 900, "jti": known.name(),
            "scope": "read write", "roles": ["buyer"], "groups": ["staff"],
        })
    );
    let (status, fields, set) = read(&bench.build("tokens: { service: shop, endpoint: jwks }").unwrap());
    assert_eq!((status, set["keys"].as_array().unwrap().len()), (200, 1));
    assert!(fields.contains(&("cache-control".to_owned(), "public, max-age=900".to_owned())), "{fields:?}");
    let keys = KeySet::of_json(set.to_string().as_bytes(), &[Algorithm::Es256], true).unwrap().set;
    assert!(keys.verify(&Jws::parse(text.as_bytes()).unwrap()).is_ok());
    assert_eq!(part(text, 0), json!({ "typ": "at+jwt", "alg": "ES256", "kid": set["keys"][0]["kid"] }));
    // refresh tokens stay opaque, and the next access token is another one
    let refresh = text_of(&told, "refresh_token");
    assert!(refresh.starts_with("dmr_"));
    let next = token(&chain, "", &format!("grant_type=refresh_token&refresh_token={refresh}&scope=read"));
    assert_eq!(part(text_of(&next, "access_token"), 1)["scope"], "read");
    assert_ne!(part(text_of(&next, "access_token"), 1)["jti"], part(text, 1)["jti"]);
    let of_client = token(&chain, "", "grant_type=client_credentials&client_id=shop&client_secret=secret");
    assert_eq!(part(text_of(&of_client, "access_token"), 1)["client_id"], "shop");
}

#[test]
fn a_signed_token_opens_what_an_opaque_one_does_until_it_is_revoked() {
    let (bench, accounts) = signing_bench(vec![shop()]);
    let chain = bench.build("tokens: shop").unwrap();
    let opens = bench.build("token_auth: {}").unwrap();
    let status = |text: &str, at: u64| {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {text}\r\n\r\n");
        let mut exchange = opens.exchange(&request);
        exchange.wall = (NOW + at) * 1_000_000;
        let status = opens.status(&mut exchange);
        assert!(status != 0 || exchange.has_role("buyer") && exchange.has_scope("read"));
        status
    };
    let key = format!("X-Api-Key: {KEY}\r\n");
    let (one, other) = (token(&chain, &key, ""), token(&chain, &key, ""));
    let (one, other) = (text_of(&one, "access_token"), text_of(&other, "access_token"));
    assert_eq!((status(one, 0), status(one, 899_999), status(one, 900_000)), (0, 0, 401));
    // genuine in every part, and still none that was given out: another text of the same signature, a part exchanged
    let parts: Vec<&str> = one.split('.').collect();
    let others: Vec<&str> = other.split('.').collect();
    for made in [format!("{one}="), format!("{}.{}.{}", parts[0], others[1], parts[2]), parts[..2].join(".") + "."] {
        assert_eq!(status(&made, 0), 401, "{made}");
    }
    wait(accounts.revoke(&Revoked::Token(one.to_owned()), None, NOW)).unwrap();
    assert_eq!((status(one, 0), status(other, 0)), (401, 0));
    wait(accounts.revoke(&Revoked::Subject("shop-app".to_owned()), None, NOW)).unwrap();
    assert_eq!(status(other, 0), 401);
    assert_eq!(status(&"x".repeat(8193), 0), 401);
}

#[test]
fn nothing_is_signed_for_who_is_not_there_any_more_or_has_more_roles_than_fit() {
    let (mut bench, _accounts) = signing_bench(vec![shop()]);
    let key = format!("X-Api-Key: {KEY}\r\n");
    let told = token(&bench.build("tokens: shop").unwrap(), &key, "");
    let roles: Vec<String> = (0..2000).map(|n| format!("role-{n}")).collect();
    let roles: Vec<&str> = roles.iter().map(String::as_str).collect();
    bench.directory = Arc::new(Directory::new(vec![consumer("b", &roles, &[KEY])]));
    let chain = bench.build("tokens: shop").unwrap();
    let form = format!("grant_type=refresh_token&refresh_token={}", text_of(&told, "refresh_token"));
    assert_eq!(ask(&chain, "", &form, 0), (400, json!("invalid_grant")));
    assert_eq!(ask(&chain, &key, "", 0), (503, json!("temporarily_unavailable")));
}

#[test]
fn a_service_tells_where_it_is_found_and_what_it_does() {
    let (bench, _accounts) = signing_bench(vec![shop()]);
    let (status, _, told) = read(&bench.build("tokens: { service: shop, endpoint: metadata }").unwrap());
    assert_eq!(status, 200);
    assert_eq!(
        told,
        json!({
            "issuer": "https://api.example.com",
            "token_endpoint": "https://api.example.com/auth",
            "jwks_uri": "https://api.example.com/jwks",
            "revocation_endpoint": "https://api.example.com/revoke",
            "grant_types_supported": ["key", "client_credentials", "refresh_token"],
            "response_types_supported": [],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
            "scopes_supported": ["read", "write"],
        })
    );
    let (bench, _accounts) = self::bench();
    for (endpoint, expected) in [
        ("jwks", "bad_value routes.items.policies.tokens: tokens of `shop` are opaque, so that there are no keys"),
        (
            "metadata",
            "missing_key routes.items.policies.tokens: `shop` has no `issuer`, which clients would know it by",
        ),
    ] {
        assert_eq!(bench.errors(&format!("tokens: {{ service: shop, endpoint: {endpoint} }}")), [expected]);
    }
}

#[test]
fn a_scope_that_was_taken_away_is_gone_with_the_next_refresh() {
    let (mut bench, accounts) = bench();
    let told = token(&bench.build("tokens: shop").unwrap(), &format!("X-Api-Key: {KEY}\r\n"), "");
    let mut shop = bench.directory.get(ConsumerId(0)).unwrap().clone();
    shop.scopes = vec!["read".to_owned(), "more".to_owned()];
    bench.directory = Arc::new(Directory::new(vec![shop]));
    let chain = bench.build("tokens: shop").unwrap();
    let form = |told: &Value, more: &str| {
        format!("grant_type=refresh_token&refresh_token={}{more}", text_of(told, "refresh_token"))
    };
    for gone in ["&scope=write", "&scope=more"] {
        assert_eq!(ask(&chain, "", &form(&told, gone), 0), (400, json!("invalid_scope")), "{gone}");
    }
    let next = token(&chain, "", &form(&told, ""));
    assert_eq!(next["scope"], "read");
    let identity = accounts.check(text_of(&next, "access_token").as_bytes(), "shop", NOW).unwrap();
    assert_eq!(identity.scopes, ["read"]);
    // one that was used is told from one that asks for too much
    assert_eq!(ask(&chain, "", &form(&told, "&scope=write"), 0), (400, json!("invalid_grant")));
    assert_eq!(ask(&chain, "", &form(&next, ""), 0), (400, json!("invalid_grant")));
}

#[test]
fn who_calls_without_a_credential_revokes_like_anybody_who_has_the_token() {
    let (bench, accounts) = bench();
    let told = token(&bench.build("tokens: shop").unwrap(), &format!("X-Api-Key: {KEY}\r\n"), "");
    let chain = bench.build("tokens: { service: shop, endpoint: revoke }").unwrap();
    let access = text_of(&told, "access_token");
    let form = "Content-Type: application/x-www-form-urlencoded";
    let mut exchange = chain.exchange(&format!("POST /revoke HTTP/1.1\r\nHost: a\r\n{form}\r\n\r\n"));
    exchange.wall = NOW * 1_000_000;
    exchange.anonymous = true;
    exchange.note_consumer(ConsumerId(1), b"b", b"");
    assert!(chain.inward_with(&mut exchange, format!("token={access}").as_bytes()).1.is_err());
    assert_eq!(accounts.check(access.as_bytes(), "shop", NOW).err(), Some(daemun_accounts::Refusal::Revoked));
}

#[test]
fn a_flood_of_passwords_keeps_no_signed_token_from_who_has_a_key() {
    let (mut bench, _accounts) = signing_bench(vec![shop()]);
    let world = Arc::new(Computing::default());
    bench.world = Arc::clone(&world) as Arc<dyn World>;
    if let TokenFormat::Jwt(how) = &mut bench.token_services[0].format {
        how.algorithm = SigningAlgorithm::Rs256;
    }
    let chain = bench.build("tokens: shop").unwrap();
    let key = format!("X-Api-Key: {KEY}\r\n");
    token(&chain, &key, "");
    world.fill(true);
    let told = token(&chain, &key, "");
    let (_, _, set) = read(&bench.build("tokens: { service: shop, endpoint: jwks }").unwrap());
    let keys = KeySet::of_json(set.to_string().as_bytes(), &[Algorithm::Rs256], true).unwrap().set;
    assert!(keys.verify(&Jws::parse(text_of(&told, "access_token").as_bytes()).unwrap()).is_ok());
}
