//! Tokens for SAML assertions.

use std::sync::Arc;

use daemun_accounts::{Accounts, Revoked};
use daemun_config::decode::{Decoder, Setting as _};
use daemun_config::diagnostic::Diagnostics;
use daemun_config::model::{GrantType, SamlConfig};
use daemun_config::parse_text;
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use super::{NOW, ask, bench, text_of, token};
use crate::jwt::Algorithm;
use crate::saml_auth::tests::issuer::{How, Issuer, PLAIN};
use crate::saml_auth::tests::settings;
use crate::testing::{Bench, Chain, wait};

const GRANT: &str = "grant_type=urn:ietf:params:oauth:grant-type:saml2-bearer";

fn with(more: &str) -> (Bench, Arc<Accounts>, Issuer) {
    let issuer = Issuer::new(Algorithm::Rs256);
    let (mut bench, accounts) = bench();
    let mut diagnostics = Diagnostics::new();
    let node = parse_text(&format!("{{ {}{more} }}", settings(&[&issuer])), &mut diagnostics).unwrap();
    let saml = SamlConfig::decode(&node, &mut Decoder::new(&mut diagnostics, "saml")).unwrap();
    assert!(!diagnostics.has_errors());
    let service = &mut bench.token_services[0];
    service.saml = Some(Box::new(saml));
    service.grants.push(GrantType::Saml2Bearer);
    (bench, accounts, issuer)
}

fn form(text: &str) -> String {
    format!("{GRANT}&assertion={}", BASE64URL_NOPAD.encode(text.as_bytes()))
}

/// That an assertion is refused, and that nothing is told of why.
fn refused(chain: &Chain, text: &str) {
    assert_eq!(ask(chain, "", &form(text), 0), (400, json!("invalid_grant")), "{text}");
}

#[test]
fn an_assertion_gives_an_access_token_once_and_no_refresh_token() {
    let (bench, accounts, issuer) = with(", roles: role");
    let chain = bench.build("tokens: shop").unwrap();
    let text = issuer.sign(PLAIN);
    let told = token(&chain, "", &form(&text));
    assert_eq!((&told["expires_in"], &told["scope"]), (&json!(900), &json!("read write")));
    assert!(told.get("refresh_token").is_none(), "{told}");
    let access = text_of(&told, "access_token").as_bytes();
    let identity = accounts.check(access, "shop", NOW).unwrap();
    assert_eq!((&*identity.subject, identity.consumer.as_deref()), ("alice@example.com", None));
    assert_eq!(identity.roles, ["buyer", "reader"]);
    assert!(identity.claims.is_empty(), "what is said of a person is not kept");
    refused(&chain, &text);
    // the same one signed again, or with other white space around it, is the same one
    refused(&chain, &issuer.sign(PLAIN));
    refused(&chain, &format!("{text}\n"));
    token(&chain, "", &form(&issuer.sign_as(&PLAIN.replace("_one", "_two"), &How { uri: "#_two", ..How::default() })));
    let revoked = Revoked::Credential("saml:https://idp.example.com".to_owned());
    wait(accounts.revoke(&revoked, None, NOW)).unwrap();
    assert!(accounts.check(access, "shop", NOW).is_err());
}

#[test]
fn what_cannot_be_had_does_not_use_an_assertion_up() {
    let (bench, _accounts, issuer) = with("");
    let chain = bench.build("tokens: shop").unwrap();
    let body = form(&issuer.sign(PLAIN));
    assert_eq!(ask(&chain, "", &format!("{body}&scope=admin"), 0), (400, json!("invalid_scope")));
    assert_eq!(token(&chain, "", &format!("{body}&scope=read"))["scope"], "read");
}

#[test]
fn an_assertion_that_is_not_taken_is_answered_alike_whatever_is_wrong() {
    let (bench, _accounts, issuer) = with("");
    let chain = bench.build("tokens: shop").unwrap();
    let other = Issuer::new(Algorithm::Rs256);
    for text in [
        "x".to_owned(),
        PLAIN.replace("{signature}", ""),
        other.sign(PLAIN),
        issuer.sign(&PLAIN.replace("shop-api", "other-api")),
        issuer.sign(&PLAIN.replace("https://api.example.com/auth", "https://other.example.com/auth")),
        issuer.sign(&PLAIN.replace("08:05:00", "07:59:10")),
        // a consumer's name is not an issuer's to give
        issuer.sign(&PLAIN.replace("alice@example.com", "shop-app")),
        issuer.sign(PLAIN).replace("alice", "mallory"),
    ] {
        refused(&chain, &text);
    }
    let (bench, _accounts, _issuer) = with("");
    let chain = bench.build("tokens: shop").unwrap();
    assert_eq!(ask(&chain, "", &format!("{GRANT}&assertion=!!"), 0), (400, json!("invalid_grant")));
    assert_eq!(ask(&chain, "", GRANT, 0), (400, json!("invalid_request")));
    assert_eq!(ask(&chain, "", "grant_type=saml2_bearer", 0), (400, json!("unsupported_grant_type")));
    // a signature cannot be guessed, so that wrong ones shut nobody out
    let all: Vec<_> = (0..12).map(|_| ask(&chain, "", &form("x"), 0)).collect();
    assert_eq!(all.last(), Some(&(400, json!("invalid_grant"))));
}

#[test]
fn an_assertion_names_no_user_of_the_configuration() {
    let (bench, _accounts, issuer) = with("");
    let hash = daemun_config::model::PasswordHash::make(b"a password", &[7; 16]).unwrap().text();
    let users = format!("- {{ name: alice, password: \"{hash}\" }}");
    let chain = bench.with_users(Vec::new(), &users).build("tokens: shop").unwrap();
    refused(&chain, &issuer.sign(&PLAIN.replace("alice@example.com", "alice")));
    token(&chain, "", &form(&issuer.sign(PLAIN)));
}

#[test]
fn a_subject_whose_tokens_could_not_be_taken_back_by_name_is_given_none() {
    let (bench, accounts, issuer) = with("");
    let chain = bench.build("tokens: shop").unwrap();
    let longest = "a".repeat(256);
    let told = token(&chain, "", &form(&issuer.sign(&PLAIN.replace("alice@example.com", &longest))));
    for name in [format!("{longest}a"), "a\u{85}b".to_owned()] {
        let text = issuer.sign_as(
            &PLAIN.replace("_one", "_two").replace("alice@example.com", &name),
            &How { uri: "#_two", ..How::default() },
        );
        assert_eq!(ask(&chain, "", &form(&text), 0), (400, json!("invalid_grant")), "{name}");
    }
    wait(accounts.revoke(&Revoked::Subject(longest), None, NOW)).unwrap();
    assert!(accounts.check(text_of(&told, "access_token").as_bytes(), "shop", NOW).is_err());
}

#[test]
fn an_assertion_may_name_a_consumer_of_the_configuration() {
    let (bench, accounts, issuer) = with(", consumer: app");
    let chain = bench.build("tokens: shop").unwrap();
    let named = |name: &str| PLAIN.replace("Name=\"scope\"", "Name=\"app\"").replace("read write", name);
    refused(&chain, &issuer.sign(PLAIN));
    refused(&chain, &issuer.sign(&named("nobody")));
    let told = token(&chain, "", &form(&issuer.sign(&named("shop-app"))));
    assert_eq!(told["scope"], "read write");
    let identity = accounts.check(text_of(&told, "access_token").as_bytes(), "shop", NOW).unwrap();
    assert_eq!(identity.consumer.as_deref(), Some("shop-app"));
}

#[test]
fn a_token_ends_with_the_login_at_the_issuer() {
    let (bench, _accounts, issuer) = with("");
    let chain = bench.build("tokens: shop").unwrap();
    let session = "SessionIndex=\"s-1\"";
    let text = PLAIN.replace(session, &format!("{session} SessionNotOnOrAfter=\"2027-01-15T08:02:00Z\""));
    assert_eq!(token(&chain, "", &form(&issuer.sign(&text)))["expires_in"], 120);
}

#[test]
fn what_the_service_does_is_told_and_explained() {
    let (mut bench, _accounts, issuer) = with("");
    bench.token_services[0].issuer = Some("https://api.example.com".to_owned());
    let chain = bench.build("tokens: { service: shop, endpoint: metadata }").unwrap();
    let mut exchange = chain.exchange("GET / HTTP/1.1\nHost: a");
    let Err(daemun_pipeline::Stop::Answer(answer)) = chain.inward(&mut exchange).1 else { panic!("no answer") };
    let told: Value = serde_json::from_slice(&answer.body).unwrap();
    let grants = told["grant_types_supported"].as_array().unwrap();
    assert!(grants.contains(&json!("urn:ietf:params:oauth:grant-type:saml2-bearer")), "{told}");
    let chain = bench.build("tokens: shop").unwrap();
    let (outcome, detail) = chain.explain(&mut chain.exchange("POST / HTTP/1.1\nHost: a"));
    assert_eq!(
        (outcome, &*detail),
        (daemun_pipeline::Outcome::Answer(200), "the service `shop` would check the assertion in the body")
    );
    // beyond what a form may have without one
    let long = PLAIN.replace(">buyer<", &format!(">{}<", "b".repeat(40 << 10)));
    token(&chain, "", &form(&issuer.sign(&long)));
}
