//! What `basic_auth` holds beyond its page.

use daemun_accounts::{Accounts, Revoked};
use daemun_pipeline::{Consumer, FieldId, Outcome};
use proptest::prelude::*;

use super::presented::MAX;
use crate::base64_text::decode;
use crate::testing::{Bench, Chain, basic, consumer, told, upstream_lines, wait};

const PASSWORD: &str = "open sesame: now!";

fn bench() -> Bench {
    let of = |name: &str, roles: &[&str], username: &str, password: &str| Consumer {
        basic: vec![basic(username, password)],
        ..consumer(name, roles, &[])
    };
    Bench::new(vec![of("shop-app", &["buyer", "reader"], "shop", PASSWORD), of("partner", &[], "partner", "pässwörd")])
}

fn chain(settings: &str) -> Chain {
    bench().build(&format!("basic_auth: {settings}")).unwrap()
}

fn encode(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let mut whole = [0; 4];
        whole[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(whole);
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place)) as usize & 63];
            out.push(if place <= group.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

fn request(login: &str) -> String {
    format!("GET / HTTP/1.1\nAuthorization: Basic {}", encode(login.as_bytes()))
}

#[test]
fn the_caller_is_noted_and_the_password_stays_here() {
    let chain = chain("{}");
    let mut exchange = chain.exchange(&request(&format!("shop:{PASSWORD}")));
    assert_eq!(chain.status(&mut exchange), 0);
    assert_eq!((exchange.consumer().unwrap().name.as_str(), exchange.consumer_name()), ("shop-app", Some("shop-app")));
    assert_eq!(
        upstream_lines(&exchange.request),
        ["GET / HTTP/1.1", "X-Consumer-Name: shop-app", "X-Consumer-Roles: buyer,reader"]
    );
    let mut exchange = chain.exchange(&request("partner:pässwörd"));
    assert_eq!(chain.status(&mut exchange), 0);
    assert_eq!(exchange.request.head.values_id(FieldId::Identity).count(), 1, "a consumer without roles sends none");
}

#[test]
fn whatever_is_wrong_is_refused_in_the_same_words() {
    let chain = chain("{ realm: shop }");
    // each from an address of its own, so that none is slowed down
    let address = std::cell::Cell::new(0);
    let refusal = |text: &str| {
        let mut exchange = chain.exchange(text);
        address.set(address.get() + 1);
        exchange.client.ip = [10, 0, 0, address.get()].into();
        told(chain.inward(&mut exchange).1.unwrap_err())
    };
    let missing = refusal("GET / HTTP/1.1");
    assert!(missing.contains("Basic realm=\\\"shop\\\", charset=\\\"UTF-8\\\""), "{missing}");
    let right = encode(format!("shop:{PASSWORD}").as_bytes());
    for wrong in [
        request("shop:wrong password"),
        request(&format!("nobody:{PASSWORD}")),
        request(&format!("SHOP:{PASSWORD}")),
        request(&format!("shop:{PASSWORD} ")),
        request("shop:"),
        request("shop"),
        request(":"),
        request(&format!("partner:{PASSWORD}")),
        request(&format!("shop:{PASSWORD}\0")),
        request(&"x".repeat(100_000)),
        format!("GET / HTTP/1.1\nAuthorization: Basic {}", right.trim_end_matches('=')),
        format!("GET / HTTP/1.1\nAuthorization: Basic {right}="),
        format!("GET / HTTP/1.1\nAuthorization: Basic {right}, Basic {right}"),
        format!("GET / HTTP/1.1\nAuthorization: Basic{right}"),
        format!("GET / HTTP/1.1\nAuthorization: Bearer {right}"),
        format!("GET / HTTP/1.1\nProxy-Authorization: Basic {right}"),
        "GET / HTTP/1.1\nAuthorization: Basic".to_owned(),
        "GET / HTTP/1.1\nAuthorization: Basic ====".to_owned(),
        format!("{}\nAuthorization: Basic {}", request("shop:wrong password"), right),
    ] {
        assert_eq!(refusal(&wrong), missing, "{wrong}");
    }
    let twice = format!("{0}\nauthorization: BASIC   {right}", request(&format!("shop:{PASSWORD}")));
    let mut exchange = chain.exchange(&twice);
    assert_eq!(chain.status(&mut exchange), 0);
    assert_eq!(exchange.request.head.values_id(FieldId::Authorization).count(), 0, "no copy goes on");
    for other in ["Bearer sesame", "Basic\tc2hvcDpzaG9w", "Basic"] {
        let mut exchange = chain.exchange(&request(&format!("shop:{PASSWORD}")));
        assert!(exchange.request.head.append("Authorization", other.as_bytes()));
        if chain.status(&mut exchange) == 0 {
            assert_eq!(exchange.request.head.values_id(FieldId::Authorization).count(), 0, "{other:?} goes on");
        } else {
            assert_eq!(other, "Basic");
        }
    }
}

/// What a call comes to that shows a login from an address, so many milliseconds after the first.
fn ask(chain: &Chain, address: u8, login: &str, at: u64) -> u16 {
    let mut exchange = chain.exchange(&request(login));
    exchange.client.ip = [10, 0, 0, address].into();
    exchange.times.start = 1_000_000_000 + at * 1_000_000;
    chain.status(&mut exchange)
}

#[test]
fn who_guesses_has_to_wait_and_is_not_told_which_guess_is_right() {
    let chain = chain("{}");
    let right = format!("shop:{PASSWORD}");
    for _ in 0..11 {
        assert_eq!(ask(&chain, 1, "shop:a wrong one", 0), 401);
    }
    for login in [&*right, "shop:a wrong one", "nobody:a wrong one", "partner:pässwörd"] {
        assert_eq!(ask(&chain, 1, login, 0), 429, "{login}");
    }
    assert_eq!(ask(&chain, 2, &right, 0), 429, "the name, from anywhere");
    assert_eq!(ask(&chain, 2, "partner:pässwörd", 0), 0);
    assert_eq!(ask(&chain, 1, &right, 2_000), 0);
    let bench = bench();
    let (basic, accounts) = (bench.build("basic_auth: {}").unwrap(), Accounts::of(&bench.carry));
    wait(accounts.revoke(&Revoked::Credential("client:shop".to_owned()), None, 1)).unwrap();
    let statuses: Vec<u16> = (0..12).map(|_| ask(&basic, 1, &right, 0)).collect();
    assert_eq!(statuses, [[401; 11].as_slice(), &[429]].concat(), "one that was revoked is a failure like any other");
}

#[test]
fn who_was_let_in_before_is_not_held_up_by_those_who_guess() {
    let chain = chain("{}");
    let right = format!("shop:{PASSWORD}");
    assert_eq!(ask(&chain, 1, &right, 0), 0);
    for other in 2..100 {
        ask(&chain, other, "shop:a wrong one", 0);
        ask(&chain, 1, &format!("nobody-{other}:a wrong one"), 0);
    }
    assert_eq!((ask(&chain, 100, &right, 0), ask(&chain, 1, "partner:pässwörd", 0)), (429, 429));
    assert_eq!(ask(&chain, 1, &right, 0), 0);
    for _ in 0..4 {
        assert_eq!(ask(&chain, 1, "shop:a wrong one", 0), 401);
    }
    assert_eq!(ask(&chain, 1, &right, 0), 429, "who guesses there as well is");
}

#[test]
fn what_a_call_shows_that_is_no_login_is_no_guess() {
    let chain = chain("{}");
    for _ in 0..100 {
        assert_eq!(chain.status(&mut chain.exchange("GET / HTTP/1.1")), 401);
        assert_eq!(chain.status(&mut chain.exchange("GET / HTTP/1.1\nAuthorization: Basic !!")), 401);
        let (_, detail) = chain.explain(&mut chain.exchange(&request("shop:a wrong one")));
        assert!(detail.contains("not those of a consumer"), "{detail}");
    }
    assert_eq!(chain.status(&mut chain.exchange(&request(&format!("shop:{PASSWORD}")))), 0);
}

#[test]
fn a_password_that_was_revoked_is_answered_as_an_unknown_one() {
    let bench = bench();
    let (chain, accounts) = (bench.build("basic_auth: {}").unwrap(), Accounts::of(&bench.carry));
    let ask = |login: &str| chain.inward(&mut chain.exchange(&request(login))).1;
    let (shop, partner) = (format!("shop:{PASSWORD}"), "partner:pässwörd");
    assert!(ask(&shop).is_ok());
    wait(accounts.revoke(&Revoked::Credential("client:shop".to_owned()), None, 1)).unwrap();
    assert_eq!(told(ask(&shop).unwrap_err()), told(ask("shop:another one").unwrap_err()));
    assert!(ask(partner).is_ok());
    let (outcome, detail) = chain.explain(&mut chain.exchange(&request(&shop)));
    assert_eq!(outcome, Outcome::Refuse(401, "unauthenticated"));
    assert!(detail.contains("were revoked"), "{detail}");
}

#[test]
fn two_authenticators_must_mean_one_consumer() {
    const KEY: &str = "shop-app-key-0001";
    let with = |keys: &[&str]| Consumer { basic: vec![basic("shop", PASSWORD)], ..consumer("shop-app", &["a"], keys) };
    for (consumers, status) in
        [(vec![with(&[KEY])], 0), (vec![with(&["another-key-00001"]), consumer("other", &[], &[KEY])], 401)]
    {
        let bench = Bench::new(consumers);
        let chain = bench.build("{ key_auth: { header: X-Api-Key }, basic_auth: {} }").unwrap();
        let text = format!("{}\nX-Api-Key: {KEY}", request(&format!("shop:{PASSWORD}")));
        let mut exchange = chain.exchange(&text);
        assert_eq!(chain.status(&mut exchange), status);
        if status == 0 {
            assert_eq!(exchange.request.head.values_id(FieldId::Identity).count(), 2, "name and roles are told once");
        } else {
            let (outcome, detail) = chain.explain(&mut chain.exchange(&text));
            assert_eq!(outcome, Outcome::Refuse(401, "unauthenticated"), "{detail}");
        }
    }
}

#[test]
fn a_limit_by_consumer_may_stand_behind_it() {
    assert_eq!(bench().errors("{ basic_auth: {}, rate_limit: { limit: 1/s, by: consumer } }"), [""; 0]);
}

#[test]
fn explain_shows_neither_username_nor_password() {
    let chain = chain("{ forward: true }");
    for (text, words) in [
        (request(&format!("shop:{PASSWORD}")), "those of `shop-app`"),
        (request("sesame:sesame"), "not those of a consumer"),
        (request("sesame"), "not base64"),
        ("GET / HTTP/1.1".to_owned(), "no username"),
        (format!("{}\nAuthorization: Basic sesame", request("sesame:sesame")), "more than one"),
    ] {
        let (_, detail) = chain.explain(&mut chain.exchange(&text));
        assert!(detail.contains(words) && !detail.contains("sesame"), "{detail}");
    }
}

#[test]
fn wrong_settings_are_found_and_no_password_at_all_is_a_warning() {
    for settings in ["{ realm: '' }", "{ realm: 'a\"b' }", "{ realm: 'a\\b' }", "{ realm: ü }"] {
        let errors = bench().errors(&format!("basic_auth: {settings}"));
        assert!(errors.len() == 1 && errors[0].starts_with("bad_value"), "{settings}: {errors:?}");
    }
    assert_eq!(bench().errors("basic_auth: { users: [] }").len(), 1);
    let bench = Bench::new(vec![consumer("a", &[], &[])]);
    let chain = bench.build("basic_auth: {}").unwrap();
    assert_eq!(chain.findings.lines(), ["no_credentials routes.items.policies.basic_auth: no consumer has a password"]);
    assert_eq!(chain.status(&mut chain.exchange(&request(":"))), 401);
    let unsendable = Consumer { basic: vec![basic("a", PASSWORD)], ..consumer("a\nb", &[], &[]) };
    let errors = Bench::new(vec![unsendable]).errors("basic_auth: {}");
    assert!(errors.len() == 1 && errors[0].starts_with("bad_value"), "{errors:?}");
}

#[test]
fn base64_has_one_spelling() {
    let read = |text: &str| decode(text.as_bytes(), &mut [0; MAX]).map(<[u8]>::to_vec);
    assert_eq!(read("YQ==").as_deref(), Some(&b"a"[..]));
    for wrong in ["", "YQ", "YQ=", "YR==", "YWI", "YWJ=", "Y===", "====", "YQ==YQ==", "Y_-=", "YQ =", "YQ==\n", "YWJj="]
    {
        assert_eq!(read(wrong), None, "{wrong}");
    }
    assert_eq!(read(&encode(&[7; MAX])).map(|bytes| bytes.len()), Some(MAX));
    assert_eq!(read(&encode(&[7; MAX + 1])), None);
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_and_no_other_text_is(bytes in proptest::collection::vec(any::<u8>(), 1..100), text in "[A-Za-z0-9+/=]{0,12}") {
        let (encoded, mut buffer) = (encode(&bytes), [0; MAX]);
        prop_assert_eq!(decode(encoded.as_bytes(), &mut buffer), Some(&bytes[..]));
        if let Some(read) = decode(text.as_bytes(), &mut buffer) {
            prop_assert_eq!(encode(read), text);
        }
    }
}
