//! What `hmac_auth` holds beyond its page.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use aws_lc_rs::hmac;
use daemun_config::model::{HmacKey, SecretBytes, Spanned};
use daemun_config::tree::At;
use daemun_pipeline::{Consumer, Exchange, FieldId, OutError, Outcome};
use proptest::prelude::*;

use super::presented::Presented;
use crate::base64_text;
use crate::scripted_world::{Given, Scripted};
use crate::testing::{Bench, Chain, SECOND, consumer, consumer_of, told, upstream_lines};

const SECRET: &str = "correct horse battery staple";
/// `DATE` in seconds.
const NOW: u64 = 1_700_000_000;
const DATE: &str = "Tue, 14 Nov 2023 22:13:20 GMT";

fn signer(name: &str, id: &str, secret: &str) -> Consumer {
    let key = HmacKey {
        id: Spanned { value: id.into(), at: At::default() },
        secret: SecretBytes(secret.as_bytes().to_vec()),
    };
    Consumer { hmac: vec![key], ..consumer(name, &[], &[]) }
}

fn chain(settings: &str) -> Chain {
    let bench =
        Bench::new(vec![signer("shop-app", "shop", SECRET), signer("partner", "partner", "another secret 0001")]);
    bench.build(&format!("hmac_auth: {settings}")).unwrap()
}

fn base64(bytes: &[u8]) -> String {
    let mut text = Vec::new();
    base64_text::encode(bytes, &mut text);
    String::from_utf8(text).unwrap()
}

fn sign(secret: &str, text: &str) -> String {
    base64(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), text.as_bytes()).as_ref())
}

/// `Authorization` for a text that is signed.
fn authorization(covered: &str, text: &str) -> String {
    let signature = sign(SECRET, text);
    format!(
        "Authorization: Signature keyId=\"shop\",algorithm=\"hmac-sha256\",headers=\"{covered}\",signature=\"{signature}\""
    )
}

/// A request whose target, host and date are signed, with further fields.
fn request(method: &str, fields: &[(&str, String)]) -> String {
    let mut covered = "(request-target) host date".to_owned();
    let mut text = format!("(request-target): {} /a?b=c\nhost: h\ndate: {DATE}", method.to_lowercase());
    let mut head = format!("{method} /a?b=c HTTP/1.1\nHost: h\nDate: {DATE}");
    for (name, value) in fields {
        covered.push_str(&format!(" {name}"));
        text.push_str(&format!("\n{name}: {value}"));
        head.push_str(&format!("\n{name}: {value}"));
    }
    format!("{head}\n{}", authorization(&covered, &text))
}

fn asked(chain: &Chain, text: &str, wall: u64) -> Exchange {
    let mut exchange = chain.exchange(text);
    exchange.wall = wall * SECOND;
    exchange
}

fn status(chain: &Chain, text: &str, body: &str, wall: u64) -> u16 {
    let mut exchange = asked(chain, text, wall);
    chain.inward_with(&mut exchange, body.as_bytes()).1.map_or_else(|stop| crate::testing::status(&stop), |()| 0)
}

#[test]
fn a_signed_request_passes_once_and_its_signature_stays_here() {
    let chain = chain("{}");
    let mut exchange = asked(&chain, &request("GET", &[]), NOW);
    assert!(chain.inward_with(&mut exchange, b"").1.is_ok());
    assert_eq!(exchange.consumer_name(), Some("shop-app"));
    let sent = upstream_lines(&exchange.request);
    assert_eq!(sent, ["GET /a?b=c HTTP/1.1", "Host: h", &format!("Date: {DATE}"), "X-Consumer-Name: shop-app"]);
    assert_eq!(status(&chain, &request("GET", &[]), "", NOW), 401, "again");
    assert_eq!(status(&chain, &request("GET", &[("x-nonce", "1".into())]), "", NOW), 0);
}

#[test]
fn whatever_is_wrong_is_refused_in_the_same_words() {
    let chain = chain("{}");
    let refusal = |text: &str| {
        let mut stop = format!("{:?}", chain.inward_with(&mut asked(&chain, text, NOW), b"").1.unwrap_err());
        let (from, to) = (stop.find("cause").unwrap(), stop.find("fields").unwrap());
        stop.replace_range(from..to, "");
        stop
    };
    let missing = refusal("GET /a?b=c HTTP/1.1\nHost: h");
    let right = request("GET", &[]);
    for (wrong, why) in [
        (right.replace("keyId=\"shop\"", "keyId=\"partner\""), "another's key"),
        (right.replace("keyId=\"shop\"", "keyId=\"nobody\""), "an unknown key"),
        (right.replacen("b=c", "b=d", 1), "another query"),
        (right.replacen("GET", "POST", 1), "another method"),
        (right.replace("Host: h", "Host: i"), "another host"),
        (right.replace("signature=\"", "signature=\"AAAA"), "another signature"),
        (right.replace("hmac-sha256", "hmac-sha512"), "another algorithm"),
        (right.replace("hmac-sha256", "hmac-sha1"), "an algorithm that is not taken"),
        (right.replace("hmac-sha256", "rsa-sha256"), "an algorithm that is not there"),
        (right.replace("algorithm=\"hmac-sha256\",", ""), "no algorithm where two are taken"),
        (format!("{right}\n{}", right.lines().last().unwrap()), "two signatures"),
        (right.replace("Signature keyId", "Signature keyId=\"shop\",keyId"), "a parameter twice"),
        (right.replace("host date\"", "host date date\""), "a field twice"),
        (right.replace("host date\"", "host  date\""), "an empty name"),
        (right.replace("host date\"", "host Date\""), "a name that is not in lower case"),
        (right.replace("host date\"", "host date x-none\""), "a field that is not there"),
        (right.replace("signature=\"", "signature=\"*"), "no base64"),
        (right.replace("Signature keyId", "Digest keyId"), "another scheme"),
        (
            format!(
                "GET /a?b=c HTTP/1.1\nHost: h\nDate: {DATE}\n{}",
                authorization("host date", &format!("host: h\ndate: {DATE}"))
            ),
            "no target covered",
        ),
        (
            format!(
                "GET /a?b=c HTTP/1.1\nHost: h\n{}",
                authorization("(request-target) host", "(request-target): get /a?b=c\nhost: h")
            ),
            "no date covered",
        ),
    ] {
        assert_ne!(wrong, right, "{why}");
        assert_eq!(refusal(&wrong), missing, "{why}");
    }
    assert_eq!(status(&chain, &right, "", NOW), 0, "none of these used it up");
}

#[test]
fn a_date_counts_within_the_skew_and_no_longer() {
    let chain = chain("{ clock_skew: 60s, replay: allow }");
    for (wall, wanted) in [(NOW - 61, 401), (NOW - 60, 0), (NOW, 0), (NOW + 60, 0), (NOW + 61, 401)] {
        assert_eq!(status(&chain, &request("GET", &[]), "", wall), wanted, "{wall}");
    }
    // of two dates both must be right
    let both = |date: &str| request("GET", &[("x-date", date.into())]);
    assert_eq!(status(&chain, &both(DATE), "", NOW), 0);
    for wrong in ["Tue, 14 Nov 2023 21:13:20 GMT", "yesterday", "1700000000", ""] {
        assert_eq!(status(&chain, &both(wrong), "", NOW), 401, "{wrong}");
    }
    let twice = request("GET", &[]).replace(&format!("Date: {DATE}"), &format!("Date: {DATE}\nDate: {DATE}"));
    assert_eq!(status(&chain, &twice, "", NOW), 401);
}

#[test]
fn created_and_expires_say_when_as_well() {
    let chain = chain("{ replay: allow }");
    let of = |created: u64, expires: u64| {
        let covered = "(request-target) host (created) (expires)";
        let text = format!("(request-target): get /\nhost: h\n(created): {created}\n(expires): {expires}");
        let parameters = format!("Signature created={created},expires={expires},");
        format!("GET / HTTP/1.1\nHost: h\n{}", authorization(covered, &text).replace("Signature ", &parameters))
    };
    for (created, expires, wanted) in [(NOW, NOW, 0), (NOW, NOW - 1, 401), (NOW - 301, NOW, 401), (0, NOW, 401)] {
        assert_eq!(status(&chain, &of(created, expires), "", NOW), wanted, "{created} {expires}");
    }
}

#[test]
fn the_body_must_be_the_one_whose_digest_is_signed() {
    let chain = chain("{ replay: allow, max_body: 1KiB }");
    let body = "{\"sku\": 7}";
    let (short, long) =
        (base64(digest(&SHA256, body.as_bytes()).as_ref()), base64(digest(&SHA512, body.as_bytes()).as_ref()));
    let fields = [
        ("digest", format!("SHA-256={short}")),
        ("digest", format!("sha-512={long},md5=x")),
        ("content-digest", format!("sha-256=:{short}:, sha-512=:{long}:")),
    ];
    for field in &fields {
        let text = request("POST", std::slice::from_ref(field));
        assert_eq!(status(&chain, &text, body, NOW), 0, "{field:?}");
        for other in ["", "{\"sku\": 8}", "{\"sku\": 7} "] {
            assert_eq!(status(&chain, &text, other, NOW), 401, "{field:?} {other}");
        }
        assert_eq!(status(&chain, &text, &"x".repeat(1025), NOW), 413);
    }
    assert_eq!(status(&chain, &request("POST", &fields[1..]), body, NOW), 0);
    let unsigned = request("POST", &[]).replace("Host: h", &format!("Digest: SHA-256={short}\nHost: h"));
    assert_eq!(status(&chain, &unsigned, body, NOW), 401, "a digest that is not covered says nothing");
    assert_eq!(status(&chain, &request("POST", &[]), "", NOW), 0, "an empty body needs no digest");
    for wrong in ["md5=x", "SHA-256=x", &format!("SHA-256={short},SHA-256={}", base64(&[0; 32]))] {
        assert_eq!(status(&chain, &request("POST", &[("digest", wrong.into())]), body, NOW), 401, "{wrong}");
    }
    let ignored = self::chain("{ body: ignored }");
    assert_eq!(status(&ignored, &request("POST", &[]), body, NOW), 0);
}

#[test]
fn no_body_is_held_for_a_signature_that_is_wrong() {
    let chain = chain("{}");
    let mut exchange = asked(&chain, &request("POST", &[]).replace("signature=\"", "signature=\"AAAA"), NOW);
    let (passed, verdict) = chain.inward_with(&mut exchange, b"a body");
    assert!(passed == 0 && verdict.is_err() && exchange.request.body.is_none());
}

#[test]
fn a_full_memory_refuses_what_is_new_and_what_is_old() {
    let chain = chain("{ replay_entries: 1000, clock_skew: 60s }");
    let of = |n: usize| request("GET", &[("x-nonce", n.to_string())]);
    let mut refused = 0;
    for n in 0..2_000 {
        match status(&chain, &of(n), "", NOW) {
            0 => {}
            503 => refused += 1,
            other => panic!("{other}"),
        }
    }
    assert!((800..=1_200).contains(&refused), "{refused}");
    assert_eq!((0..50).filter(|n| status(&chain, &of(*n), "", NOW + 60) == 0).count(), 0, "none was forgotten");
}

#[test]
fn a_signature_that_one_route_has_let_in_no_other_does_whatever_it_remembers() {
    let bench = Bench::new(vec![signer("shop-app", "shop", SECRET)]);
    let chain = |settings: &str| bench.build(&format!("hmac_auth: {settings}")).unwrap();
    let brief = chain("{ replay_entries: 1000, clock_skew: 10s }");
    let long = chain("{ replay_entries: 200000, clock_skew: 5m }");
    assert_eq!(status(&brief, &request("GET", &[]), "", NOW), 0);
    // others make it forget what is over
    for n in 0..500 {
        assert_eq!(status(&long, &request("GET", &[("x-nonce", n.to_string())]), "", NOW + 200), 0);
    }
    for wall in [NOW, NOW + 5, NOW + 11, NOW + 300] {
        assert_eq!(status(&long, &request("GET", &[]), "", wall), 401, "{wall}");
    }
}

#[test]
fn a_consumer_that_signs_much_leaves_room_for_the_others_and_is_told_of() {
    let world = Scripted::new(|_| Err(OutError::not_made("nobody is there")));
    let consumers = vec![signer("shop-app", "shop", SECRET), signer("partner", "partner", "another secret 0001")];
    let bench = Bench { world: Arc::new(Given(Arc::clone(&world))), ..Bench::new(consumers) };
    let chain = bench.build("hmac_auth: { replay_entries: 1000 }").unwrap();
    let of = |n: usize| request("GET", &[("x-nonce", n.to_string())]);
    let passed = (0..2_000).filter(|n| status(&chain, &of(*n), "", NOW) == 0).count();
    assert!((800..=1_024).contains(&passed), "{passed}");
    let text = |n: usize| format!("(request-target): get /a?b=c\nhost: h\ndate: {DATE}\nx-nonce: {n}");
    let partner = |n: usize| {
        of(n)
            .replace("\"shop\"", "\"partner\"")
            .replace(&sign(SECRET, &text(n)), &sign("another secret 0001", &text(n)))
    };
    assert_eq!((0..100).filter(|n| status(&chain, &partner(*n), "", NOW) == 0).count(), 100);
    let told = &world.seen().told;
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("hmac_auth: four fifths of `replay_entries`"), "{told:?}");
}

#[test]
fn explain_uses_nothing_up_and_shows_no_secret() {
    let chain = chain("{}");
    for _ in 0..2 {
        let (outcome, detail) = chain.explain(&mut asked(&chain, &request("GET", &[]), NOW));
        assert_eq!(outcome, Outcome::Pass, "{detail}");
        assert!(detail.contains("a secret of `shop-app`"), "{detail}");
    }
    assert_eq!(status(&chain, &request("GET", &[]), "", NOW), 0);
    for (text, wall, words) in [
        (request("GET", &[]), NOW, "presented before"),
        (request("GET", &[]), NOW + 301, "clock_skew"),
        ("GET / HTTP/1.1".to_owned(), NOW, "no signature"),
        (request("GET", &[("x-nonce", "1".into())]).replace("x-nonce: 1", "x-nonce: 2"), NOW, "not made with"),
    ] {
        let (outcome, detail) = chain.explain(&mut asked(&chain, &text, wall));
        assert_eq!(outcome, Outcome::Refuse(401, "unauthenticated"));
        assert!(detail.contains(words) && !detail.contains(SECRET), "{detail}");
    }
}

#[test]
fn no_debug_output_shows_a_secret() {
    let consumer = signer("shop-app", "shop", SECRET);
    let bench = Bench::new(vec![consumer]);
    let shown = format!(
        "{:?} {:?}",
        bench.directory,
        super::Known::new(&bench.directory, &daemun_accounts::Accounts::in_memory())
    );
    assert!(!shown.contains(SECRET) && !shown.contains("99, 111, 114, 114"), "{shown}");
}

#[test]
fn the_signature_goes_on_only_where_it_is_forwarded() {
    let chain = chain("{ forward: true }");
    let mut exchange = asked(&chain, &request("GET", &[]), NOW);
    assert!(chain.inward_with(&mut exchange, b"").1.is_ok());
    assert_eq!(exchange.request.head.values_id(FieldId::Authorization).count(), 1);
}

#[test]
fn wrong_settings_are_found_and_no_secret_at_all_is_a_warning() {
    let bench = Bench::new(vec![consumer("a", &[], &[])]);
    for settings in [
        "{ algorithms: [] }",
        "{ algorithms: [hmac-sha1] }",
        "{ required: [Host] }",
        "{ required: ['(created)x'] }",
        "{ clock_skew: 500ms }",
        "{ clock_skew: 2h }",
        "{ replay_entries: 10 }",
    ] {
        let errors = bench.errors(&format!("hmac_auth: {settings}"));
        assert!(errors.len() == 1 && errors[0].starts_with("bad_value"), "{settings}: {errors:?}");
    }
    let chain = Bench::new(vec![consumer("a", &[], &[])]).build("hmac_auth: {}").unwrap();
    let line = "no_credentials routes.items.policies.hmac_auth: no consumer has a secret to sign with";
    assert_eq!(chain.findings.lines(), [line]);
    assert_eq!(status(&chain, &request("GET", &[]), "", NOW), 401);
}

proptest! {
    #[test]
    fn no_text_brings_the_reader_down(text in "(keyId|algorithm|headers|signature|created|,|=|\"|[a-z0-9 ]|YQ==){0,30}") {
        prop_assert_eq!(super::check_reader(text.as_bytes()), Ok(()));
    }

    #[test]
    fn what_is_written_is_read(key in "[a-z0-9 .:/-]{1,20}", created in any::<u64>(), signature in proptest::collection::vec(any::<u8>(), 1..=64)) {
        let text = format!("keyId=\"{key}\", created={created} ,headers=\"(request-target) a\",other=\"x\",signature=\"{}\"", base64(&signature));
        let read = Presented::read(text.as_bytes()).unwrap();
        prop_assert_eq!((read.key, read.created, read.signature()), (key.as_str(), Some(created), &signature[..]));
    }
}

#[test]
fn a_secret_that_has_expired_or_is_disabled_is_answered_as_an_unknown_one() {
    for (terms, wanted) in [("expires: 2023-11-14", "has expired"), ("disabled: true", "is disabled")] {
        let block = format!("- {{ name: shop-app, hmac: {{ id: shop, secret: {SECRET}, {terms} }} }}");
        let chain = Bench::new(vec![consumer_of(&block)]).build("hmac_auth: {}").unwrap();
        let right = request("GET", &[]);
        let ask = |text: &str| told(chain.inward_with(&mut asked(&chain, text, NOW), b"").1.unwrap_err());
        assert_eq!(ask(&right), ask(&right.replace("keyId=\"shop\"", "keyId=\"nobody\"")), "{terms}");
        let (outcome, detail) = chain.explain(&mut asked(&chain, &right, NOW));
        assert_eq!(outcome, Outcome::Refuse(401, "unauthenticated"), "{terms}");
        assert!(detail.contains(wanted), "{detail}");
    }
}
