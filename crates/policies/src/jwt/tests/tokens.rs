//! Which tokens are taken and which are not.

use std::io::Write as _;

use aws_lc_rs::rsa::KeySize;
use daemun_pipeline::{Exchange, Stop};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::signer::{SECRET, Signer, encoded};
use crate::jwt::Algorithm;
use crate::jwt::jws::Jws;
use crate::jwt::keys::KeySet;
use crate::testing::{Bench, Chain, WALL};

/// A chain whose keys are in a file.
fn with_file(keys: &str, more: &str) -> Result<Chain, Vec<String>> {
    let file = File::new(keys);
    let settings = format!("jwt: {{ audience: off, keys: {{ file: {} }}, {more} }}", file.path());
    Bench::new(Vec::new()).build(&settings).map_err(|findings| findings.lines())
}

/// A file that is gone when it is dropped.
struct File(std::path::PathBuf);

impl File {
    fn new(text: &str) -> File {
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("daemun-jwt-{}-{number}", std::process::id()));
        std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
        File(path)
    }

    fn path(&self) -> String {
        self.0.display().to_string()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn request(chain: &Chain, token: &str) -> Exchange {
    let mut exchange = chain.exchange(&format!("GET / HTTP/1.1\nAuthorization: Bearer {token}"));
    exchange.wall = WALL;
    exchange
}

fn status(chain: &Chain, token: &str) -> u16 {
    let explained = chain.explain(&mut request(chain, token));
    let status = chain.status(&mut request(chain, token));
    assert_eq!(status == 0, explained.0 == daemun_pipeline::Outcome::Pass, "explain agrees: {}", explained.1);
    status
}

fn claims() -> Value {
    json!({ "sub": "ann", "exp": 1_900_000_000 })
}

fn secret(more: &str) -> Chain {
    Bench::new(Vec::new()).build(&format!("jwt: {{ keys: {{ secret: '{SECRET}' }}, {more} }}")).unwrap()
}

#[test]
fn each_algorithm_verifies_its_own_signatures_and_no_others() {
    for algorithm in Algorithm::ALL {
        let signer = Signer::new(algorithm);
        let chain = with_file(&signer.jwk().to_string(), "").unwrap();
        let token = signer.sign(algorithm, &json!({}), &claims());
        assert_eq!(status(&chain, &token), 0, "{algorithm}");
        assert_eq!(status(&chain, &token), 0, "{algorithm}, again");
        let other =
            if matches!(signer, Signer::Secret(_)) { Signer::Secret(vec![b'x'; 64]) } else { Signer::new(algorithm) };
        assert_eq!(status(&chain, &other.sign(algorithm, &json!({}), &claims())), 401, "{algorithm} of another key");
        let changed = json!({ "sub": "bob", "exp": 1_900_000_000 });
        let parts: Vec<&str> = token.split('.').collect();
        let forged = format!("{}.{}.{}", parts[0], encoded(&changed.to_string()), parts[2]);
        assert_eq!(status(&chain, &forged), 401, "{algorithm} over other claims");
    }
}

#[test]
fn a_subject_with_the_name_of_a_consumer_of_the_store_is_not_taken_for_it() {
    let bench = Bench::new(Vec::new());
    let chain = bench.build(&format!("jwt: {{ keys: {{ secret: '{SECRET}' }} }}")).unwrap();
    let token = Signer::Secret(SECRET.into()).sign(Algorithm::Hs256, &json!({}), &claims());
    assert_eq!(status(&chain, &token), 0);
    let _accounts = bench.with_stored("ann");
    assert_eq!(status(&chain, &token), 401, "also where the token was verified before");
}

#[test]
fn a_token_cannot_choose_what_its_key_is_used_as() {
    let rsa = Signer::new(Algorithm::Rs256);
    let chain = with_file(&rsa.pem(), "").unwrap();
    assert_eq!(status(&chain, &rsa.sign(Algorithm::Ps512, &json!({}), &claims())), 0);
    for secret in [rsa.pem(), rsa.pem().trim().to_owned()] {
        let confused = Signer::Secret(secret.into_bytes()).sign(Algorithm::Hs256, &json!({}), &claims());
        assert_eq!(status(&chain, &confused), 401, "a public key as a secret");
    }
    // what is signed is genuine, but the key is said to be of another algorithm
    let pinned = with_file(&rsa.jwk_with(&json!({ "alg": "RS256" })).to_string(), "").unwrap();
    assert_eq!(status(&pinned, &rsa.sign(Algorithm::Rs256, &json!({}), &claims())), 0);
    assert_eq!(status(&pinned, &rsa.sign(Algorithm::Rs384, &json!({}), &claims())), 401);
    let pinned = with_file(&rsa.jwk().to_string(), "algorithms: [PS256, ES256]").unwrap();
    assert_eq!(status(&pinned, &rsa.sign(Algorithm::Ps256, &json!({}), &claims())), 0);
    assert_eq!(status(&pinned, &rsa.sign(Algorithm::Rs256, &json!({}), &claims())), 401);
    let ec = Signer::new(Algorithm::Es256);
    let chain = with_file(&ec.jwk().to_string(), "").unwrap();
    let token = ec.sign_with(Algorithm::Es256, r#"{"alg":"ES384"}"#, &claims().to_string());
    assert_eq!(status(&chain, &token), 401);
    for none in ["none", "None", "NONE", "", "HS1", "hs256"] {
        let unsigned = format!("{}.{}.", encoded(&json!({ "alg": none }).to_string()), encoded(&claims().to_string()));
        assert_eq!(status(&chain, &unsigned), 401, "{none}");
        let tag = Signer::Secret(SECRET.into());
        let token = tag.sign_with(Algorithm::Hs256, &json!({ "alg": none }).to_string(), &claims().to_string());
        assert_eq!(status(&secret(""), &token), 401, "{none}");
    }
}

#[test]
fn headers_that_demand_or_repeat_something_are_refused() {
    let signer = Signer::Secret(SECRET.into());
    let chain = secret("");
    for (header, expected) in [
        (r#"{"alg":"HS256"}"#, 0),
        (r#"{"typ":"JWT","alg":"HS256"}"#, 0),
        (r#"{"typ":"at+jwt","alg":"HS256"}"#, 0),
        (r#"{"typ":"application/AT+JWT","alg":"HS256"}"#, 0),
        (r#" { "alg" : "HS256", "x" : [1,{"y":null}] } "#, 0),
        (r#"{"alg":"HS256","kid":"anything"}"#, 0),
        (r#"{"alg":"HS256","jku":"https://evil.example/","x5u":"https://evil.example/"}"#, 0),
        (r#"{"alg":"HS256","typ":"dpop+jwt"}"#, 401),
        (r#"{"alg":"HS256","typ":"logout+jwt"}"#, 401),
        (r#"{"alg":"HS256","typ":7}"#, 401),
        (r#"{"alg":"HS256","kid":7}"#, 401),
        (r#"{"alg":["HS256"]}"#, 401),
        (r#"{"alg":"HS256","alg":"HS256"}"#, 401),
        (r#"{"alg":"HS256","a\u006cg":"none"}"#, 401),
        (r#"{"alg":"HS256","x":1,"x":2}"#, 401),
        (r#"{"alg":"HS256","crit":[]}"#, 401),
        (r#"{"alg":"HS256","crit":["exp"],"exp":1}"#, 401),
        (r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#, 401),
        (r#"{"alg":"HS256","b64":false}"#, 401),
        (r#"{"alg":"HS256"}{}"#, 401),
        (r#"["alg","HS256"]"#, 401),
        (r#"{}"#, 401),
        ("", 401),
    ] {
        let token = signer.sign_with(Algorithm::Hs256, header, &claims().to_string());
        assert_eq!(status(&chain, &token), expected, "{header}");
    }
    let typed = secret("types: [logout+jwt]");
    let token = |header: &str| signer.sign_with(Algorithm::Hs256, header, &claims().to_string());
    assert_eq!(status(&typed, &token(r#"{"alg":"HS256","typ":"Logout+JWT"}"#)), 0);
    assert_eq!(status(&typed, &token(r#"{"alg":"HS256","typ":"JWT"}"#)), 401);
}

#[test]
fn an_embedded_key_is_never_trusted() {
    let (own, evil) = (Signer::new(Algorithm::Es256), Signer::new(Algorithm::Es256));
    let chain = with_file(&own.jwk_with(&json!({ "kid": "1" })).to_string(), "").unwrap();
    for header in [json!({ "jwk": evil.jwk() }), json!({ "jwk": evil.jwk(), "kid": "1" })] {
        assert_eq!(status(&chain, &evil.sign(Algorithm::Es256, &header, &claims())), 401);
    }
    assert_eq!(status(&chain, &own.sign(Algorithm::Es256, &json!({ "jwk": evil.jwk(), "kid": "1" }), &claims())), 0);
}

#[test]
fn payloads_that_can_be_read_in_two_ways_are_refused() {
    let signer = Signer::Secret(SECRET.into());
    let chain = secret("");
    let deep = format!(r#"{{"sub":"a","exp":1900000000,"x":{}{}}}"#, "[".repeat(40), "]".repeat(40));
    for (payload, expected) in [
        (r#"{"sub":"a","exp":1900000000}"#, 0),
        (r#"{"sub":"a","sub":"b","exp":1900000000}"#, 401),
        (r#"{"sub":"a","exp":1,"exp":1900000000}"#, 401),
        (r#"{"sub":"a","exp":1900000000,"x":{"y":1,"y":2}}"#, 401),
        (r#"[{"sub":"a","exp":1900000000}]"#, 401),
        (r#"{"sub":"a","exp":1900000000} x"#, 401),
        (r#"{"sub":"a","exp":1900000000"#, 401),
        ("foo", 401),
        ("", 401),
        (&deep, 401),
    ] {
        let token = signer.sign_with(Algorithm::Hs256, r#"{"alg":"HS256"}"#, payload);
        assert_eq!(status(&chain, &token), expected, "{payload}");
    }
}

#[test]
fn a_token_in_another_spelling_is_another_token() {
    let signer = Signer::Secret(SECRET.into());
    let chain = secret("");
    let token = signer.sign(Algorithm::Hs256, &json!({ "x": 1 }), &claims());
    assert_eq!(status(&chain, &token), 0);
    let parts: Vec<&str> = token.split('.').collect();
    let (header, payload, signature) = (parts[0], parts[1], parts[2]);
    // the last character of 43 holds two bits that mean nothing
    let last = signature.chars().last().unwrap();
    let next = char::from_u32(last as u32 + 1).unwrap();
    for text in [
        format!("{header}.{payload}"),
        format!("{header}.{payload}."),
        format!("{header}.{payload}.{signature}."),
        format!("{header}.{payload}.{signature}.{signature}"),
        format!("{header}..{payload}.{signature}"),
        format!("{header}.{payload}.{signature}="),
        format!("{header}.{payload}.{}{next}", &signature[..42]),
        format!("{header}.{payload}.{} {}", &signature[..10], &signature[10..]),
        format!("{header} .{payload}.{signature}"),
        format!("{}.{payload}.{signature}", header.replace('e', "%65")),
        token[..token.len() - 1].to_owned(),
        token[1..].to_owned(),
        ".".to_owned(),
        "..".to_owned(),
        "...".to_owned(),
        "a".repeat(60_000),
    ] {
        assert_eq!(status(&chain, &text), 401, "{text}");
    }
}

#[test]
fn size_is_judged_before_anything_else() {
    let signer = Signer::Secret(SECRET.into());
    let padded = |bytes: usize| json!({ "sub": "a", "exp": 1_900_000_000, "x": "y".repeat(bytes) });
    let (small, large) = (padded(300), padded(8 << 10));
    let chain = secret("");
    assert_eq!(status(&chain, &signer.sign(Algorithm::Hs256, &json!({}), &small)), 0);
    assert_eq!(status(&chain, &signer.sign(Algorithm::Hs256, &json!({}), &large)), 401);
    assert_eq!(status(&secret("max_size: 16KiB"), &signer.sign(Algorithm::Hs256, &json!({}), &large)), 0);
    assert_eq!(status(&secret("max_size: 256B"), &signer.sign(Algorithm::Hs256, &json!({}), &small)), 401);
}

#[test]
fn the_key_that_a_token_names_is_the_one_it_is_verified_with() {
    let (a, b) = (Signer::new(Algorithm::Es256), Signer::new(Algorithm::Es256));
    let set = json!({ "keys": [a.jwk_with(&json!({ "kid": "a" })), b.jwk_with(&json!({ "kid": "b" }))] });
    let chain = with_file(&set.to_string(), "").unwrap();
    for (signer, kid, expected) in [
        (&a, json!({ "kid": "a" }), 0),
        (&b, json!({ "kid": "b" }), 0),
        (&a, json!({ "kid": "b" }), 401),
        (&a, json!({ "kid": "A" }), 401),
        (&a, json!({ "kid": "" }), 401),
        (&a, json!({ "kid": "c" }), 401),
        (&b, json!({}), 0),
    ] {
        assert_eq!(status(&chain, &signer.sign(Algorithm::Es256, &kid, &claims())), expected, "{kid}");
    }
}

#[test]
fn a_token_without_a_key_name_is_tried_on_a_few_keys_only() {
    let signers: Vec<Signer> = (0..6).map(|_| Signer::new(Algorithm::EdDsa)).collect();
    let set = json!({ "keys": signers.iter().map(Signer::jwk).collect::<Vec<_>>() });
    let chain = with_file(&set.to_string(), "").unwrap();
    let taken: Vec<u16> =
        signers.iter().map(|signer| status(&chain, &signer.sign(Algorithm::EdDsa, &json!({}), &claims()))).collect();
    assert_eq!(taken, [0, 0, 0, 0, 401, 401]);
}

#[test]
fn keys_that_may_not_verify_are_refused() {
    let (rsa, ec) = (Signer::new(Algorithm::Rs256), Signer::new(Algorithm::Es256));
    let weak = r#"{"kty":"RSA","e":"AQAB","n":""#.to_owned() + &"g".repeat(171) + "\"}";
    let refused = [
        (rsa.jwk_with(&json!({ "use": "enc" })).to_string(), "`use`"),
        (rsa.jwk_with(&json!({ "key_ops": ["encrypt"] })).to_string(), "`key_ops`"),
        (rsa.jwk_with(&json!({ "key_ops": "verify" })).to_string(), "`key_ops`"),
        (rsa.jwk_with(&json!({ "alg": "RSA-OAEP" })).to_string(), "`alg`, `RSA-OAEP`"),
        (rsa.jwk_with(&json!({ "alg": "ES256" })).to_string(), "none of its algorithms"),
        (rsa.jwk_with(&json!({ "d": "AQAB" })).to_string(), "private key"),
        (rsa.jwk_with(&json!({ "e": "AQ" })).to_string(), "exponent"),
        (rsa.jwk_with(&json!({ "e": "AQAC" })).to_string(), "exponent"),
        (rsa.jwk_with(&json!({ "kty": "EC" })).to_string(), "`x` is missing"),
        (weak, "2048 to 8192 bits, and this one 1024"),
        (ec.jwk_with(&json!({ "crv": "P-384" })).to_string(), "no point of P-384"),
        (ec.jwk_with(&json!({ "crv": "secp256k1" })).to_string(), "curve"),
        (ec.jwk_with(&json!({ "y": ec.jwk()["x"] })).to_string(), "no point of P-256"),
        (json!({ "kty": "oct", "k": "c2hvcnQ" }).to_string(), "32 bytes at least"),
        (json!({ "kty": "OKP", "crv": "Ed448", "x": "AAAA" }).to_string(), "Ed25519"),
        (json!({ "keys": [] }).to_string(), "no keys"),
        (json!({ "keys": {} }).to_string(), "no list"),
        (json!({ "keys": [1] }).to_string(), "no object"),
        (json!({ "keys": [rsa.jwk(), { "kty": "oct", "k": encoded(SECRET) }] }).to_string(), "beside a public key"),
        (
            json!({ "keys": [rsa.jwk_with(&json!({ "kid": "1" })), ec.jwk_with(&json!({ "kid": "1" }))] }).to_string(),
            "two of its keys",
        ),
        (r#"{"keys":[],"keys":[]}"#.to_owned(), "read in one way"),
        ("{".to_owned(), "read in one way"),
        (String::new(), "no `PUBLIC KEY`"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n".to_owned(), "no key of RSA"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".to_owned(), "private key"),
    ];
    for (keys, words) in refused {
        let errors = with_file(&keys, "").err().unwrap_or_else(|| panic!("{keys} is refused"));
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].starts_with("bad_value") && errors[0].contains(words), "{errors:?} has {words}");
    }
}

#[test]
fn keys_of_a_set_that_are_for_something_else_are_left_out() {
    let (rsa, ec) = (Signer::new(Algorithm::Rs256), Signer::new(Algorithm::Es256));
    let set = json!({ "keys": [rsa.jwk_with(&json!({ "use": "enc" })), { "kty": "new" }, ec.jwk_with(&json!({ "use": "sig", "key_ops": ["verify"] }))] });
    let chain = with_file(&set.to_string(), "").unwrap();
    let told = chain.findings.lines();
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(status(&chain, &ec.sign(Algorithm::Es256, &json!({}), &claims())), 0);
    assert_eq!(status(&chain, &rsa.sign(Algorithm::Rs256, &json!({}), &claims())), 401);
}

#[test]
fn pem_may_hold_keys_of_every_kind_of_enough_bits() {
    for algorithm in [Algorithm::Rs256, Algorithm::Es256, Algorithm::Es384, Algorithm::Es512, Algorithm::EdDsa] {
        let (signer, second) = (Signer::new(algorithm), Signer::new(algorithm));
        let chain = with_file(&format!("# comment\n{}{}", second.pem(), signer.pem()), "").unwrap();
        assert_eq!(status(&chain, &signer.sign(algorithm, &json!({ "kid": "x" }), &claims())), 0, "{algorithm}");
        assert_eq!(status(&chain, &second.sign(algorithm, &json!({}), &claims())), 0, "{algorithm}");
    }
    let large = Signer::rsa(KeySize::Rsa4096);
    let chain = with_file(&large.pem(), "").unwrap();
    assert_eq!(status(&chain, &large.sign(Algorithm::Rs512, &json!({}), &claims())), 0);
    let weak = "-----BEGIN PUBLIC KEY-----\nMIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDCFENGw33yGihy92pDjZQhl0C3\n\
                6rPJj+CvfSC8+q28hxA161QFNUd13wuCTUcq0Qd2qsBe/2hFyc2DCJJg0h1L78+6\n\
                Z4UMR7EOcpfdUE9Hf3m/hs+FUR45uBJeDK1HSFHD8bHKD6kv8FPGfJTotc+2xjJw\n\
                oYi+1hqp1fIekaxsyQIDAQAB\n-----END PUBLIC KEY-----\n";
    let errors = with_file(weak, "").err().unwrap();
    assert!(errors[0].contains("2048 to 8192 bits"), "{errors:?}");
}

#[test]
fn the_examples_of_the_standards_verify() {
    let a =
        concat!("eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt", "cGxlLmNvbS9pc19yb290Ijp0cnVlfQ");
    let es256 = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    let ed25519 = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    for (section, keys, token) in [
        (
            "RFC 7515, A.1",
            json!({ "kty": "oct", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow" }),
            format!("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{a}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
        ),
        (
            "RFC 7515, A.3",
            json!({
                "kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
            }),
            format!("eyJhbGciOiJFUzI1NiJ9.{a}.{es256}"),
        ),
        (
            "RFC 8037, A.4",
            json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" }),
            format!("eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.{ed25519}"),
        ),
    ] {
        let keys = KeySet::of_json(keys.to_string().as_bytes(), &Algorithm::ALL, false).unwrap().set;
        let token = Jws::parse(token.as_bytes()).unwrap();
        assert!(keys.verify(&token).is_ok(), "{section}");
    }
}

#[test]
fn what_the_caller_reads_never_says_what_was_wrong() {
    let signer = Signer::Secret(SECRET.into());
    let chain = secret("issuer: https://a, audience: x");
    let told = |token: &str| match chain.inward(&mut request(&chain, token)).1 {
        Err(Stop::Fault(mut fault)) => {
            assert!(fault.cause.take().is_some(), "the log says it");
            format!("{fault:?}")
        }
        other => panic!("{other:?}"),
    };
    let first = told("nonsense");
    for claims in [
        json!({ "sub": "a", "exp": 1 }),
        json!({ "iss": "https://b", "sub": "a", "exp": 1_900_000_000 }),
        json!({ "iss": "https://a", "aud": "y", "sub": "a", "exp": 1_900_000_000 }),
        json!({ "iss": "https://a", "aud": "x", "exp": 1_900_000_000 }),
    ] {
        assert_eq!(told(&signer.sign(Algorithm::Hs256, &json!({}), &claims)), first);
    }
    assert_eq!(told(&Signer::Secret(vec![b'x'; 64]).sign(Algorithm::Hs256, &json!({}), &claims())), first);
    assert!(first.contains("invalid_token"), "{first}");
}

#[test]
fn neither_explain_nor_the_log_holds_a_token_or_a_secret() {
    let signer = Signer::Secret(SECRET.into());
    let chain = secret("issuer: https://a");
    for token in [signer.sign(Algorithm::Hs256, &json!({}), &claims()), "sesame.sesame.sesame".to_owned()] {
        let (_, detail) = chain.explain(&mut request(&chain, &token));
        let stop = format!("{:?}", chain.inward(&mut request(&chain, &token)).1);
        for secret in [&token, SECRET, "sesame", token.split('.').nth(1).unwrap()] {
            assert!(!detail.contains(secret) && !stop.contains(secret), "{detail} {stop}");
        }
    }
}

#[test]
fn wrong_settings_are_found() {
    let bench = Bench::new(Vec::new());
    for (settings, code) in [
        ("jwt: {}", "missing_key"),
        ("jwt: { audience: a }", "missing_key"),
        ("jwt: { keys: { secret: short } }", "bad_value"),
        ("jwt: { keys: { file: /does/not/exist }, audience: off }", "file"),
        ("jwt: { keys: { url: ftp://a/ }, audience: off }", "bad_value"),
        ("jwt: { keys: { path: a }, audience: off }", "unknown_key"),
        ("jwt: { issuer: shop, audience: off }", "bad_value"),
        ("jwt: { issuer: 'https://a/?b', audience: off }", "bad_value"),
        ("jwt: { issuer: https://a, audience: off, algorithms: HS256 }", "bad_value"),
        ("jwt: { issuer: https://a, audience: off, algorithms: none }", "bad_value"),
        ("jwt: { issuer: https://a, audience: [] }", "bad_value"),
        ("jwt: { issuer: https://a, audience: a, leeway: 11m }", "bad_value"),
        ("jwt: { issuer: https://a, audience: a, max_size: 1MiB }", "bad_value"),
        ("jwt: { issuer: https://a, audience: a, subject: [] }", "bad_value"),
        ("jwt: { issuer: https://a, audience: a, from: [] }", "bad_value"),
        ("jwt: { issuer: https://a, audience: a, from: { header: Authorization } }", "bad_value"),
        ("jwt: { issuer: https://a, audience: a, from: { header: Cookie } }", "bad_value"),
        ("jwt: { issuer: https://a, audience: a, from: { cookie: 'a b' } }", "bad_value"),
        ("jwt: { issuer: https://a, audience: a, from: { query: 'a=b' } }", "bad_value"),
        ("jwt: { issuer: https://a, audience: a, roles: '' }", "bad_value"),
        ("jwt: { issuer: https://a, audience: a, claims: { a: 1.5 } }", "bad_value"),
        ("jwt: { issuer: https://a, audience: a, claims: { a: { b: 1 } } }", "wrong_type"),
        ("jwt: { keys: { secret: 0123456789abcdef0123456789abcdef }, ca: a.pem }", "conflicting_keys"),
        ("jwt: { keys: { secret: 0123456789abcdef0123456789abcdef }, algorithms: RS256 }", "bad_value"),
        ("jwt: { keys: { secret: 0123456789abcdef0123456789abcdef }, algorithms: HS512 }", "bad_value"),
    ] {
        let errors = bench.errors(settings);
        assert_eq!(errors.len(), 1, "{settings}: {errors:?}");
        assert!(errors[0].starts_with(code), "{settings}: {errors:?}");
        assert!(!errors[0].contains("0123456789abcdef"), "{errors:?}");
    }
}

#[test]
fn what_gives_up_a_protection_is_a_warning() {
    let warnings = |settings: &str| Bench::new(Vec::new()).build(settings).unwrap().findings.lines();
    assert_eq!(warnings("jwt: { issuer: https://a, audience: x }"), [""; 0]);
    assert_eq!(warnings("jwt: { issuer: https://a, audience: off }"), [""; 0]);
    assert_eq!(warnings("jwt: { issuer: 'http://127.0.0.1:9', audience: x }"), [""; 0]);
    assert!(warnings("jwt: { issuer: https://a }")[0].starts_with("insecure"));
    assert!(warnings("jwt: { issuer: http://a, audience: x }")[0].starts_with("insecure"));
    assert!(warnings("jwt: { keys: { url: http://a/ }, audience: x }")[0].starts_with("insecure"));
}

proptest! {
    #[test]
    fn any_text_is_taken_apart_or_refused(text in "[A-Za-z0-9_.={}\":, -]{0,200}") {
        if let Ok(token) = Jws::parse(text.as_bytes()) {
            // what was read is written in the same way
            let again = format!(
                "{}.{}",
                std::str::from_utf8(token.signed).unwrap(),
                data_encoding::BASE64URL_NOPAD.encode(&token.signature)
            );
            prop_assert_eq!(again, text);
        }
    }

    #[test]
    fn one_changed_byte_is_never_taken(at in 0usize..10_000, to in any::<u8>()) {
        let signer = Signer::Secret(SECRET.into());
        let keys = KeySet::of_json(signer.jwk().to_string().as_bytes(), &Algorithm::ALL, false).unwrap().set;
        let mut token = signer.sign(Algorithm::Hs256, &json!({ "kid": "k" }), &claims()).into_bytes();
        prop_assert!(keys.verify(&Jws::parse(&token).unwrap()).is_ok());
        let at = at % token.len();
        prop_assume!(token[at] != to);
        token[at] = to;
        prop_assert!(Jws::parse(&token).ok().is_none_or(|token| keys.verify(&token).is_err()));
    }

    #[test]
    fn any_bytes_are_keys_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = KeySet::of_json(&bytes, &Algorithm::ALL, true);
        let _ = KeySet::of_pem(&bytes, &Algorithm::ALL);
    }
}
