//! Tokens and keys: no text makes their readers panic, what is read is written in one way only, and what was changed is never genuine.
#![no_main]

use std::sync::LazyLock;

use arbitrary::Unstructured;
use daemun_policies::jwt::Algorithm;
use daemun_policies::jwt::jws::Jws;
use daemun_policies::jwt::keys::KeySet;
use libfuzzer_sys::fuzz_target;

/// Example A.1 of RFC 7515.
const TOKEN: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
    eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
    dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const KEY: &str =
    r#"{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}"#;

static KEYS: LazyLock<KeySet> = LazyLock::new(|| read(KEY.as_bytes(), false).expect("the key of the example"));

fn read(text: &[u8], public: bool) -> Option<KeySet> {
    KeySet::of_json(text, &Algorithm::ALL, public).ok().map(|read| read.set)
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    match kind % 4 {
        0 => token(rest),
        1 => header(rest),
        2 => changed(rest),
        _ => keys(rest),
    }
});

/// A text as a token.
fn token(text: &[u8]) {
    let Ok(token) = Jws::parse(text) else { return };
    let signature = encode(&token.signature);
    assert_eq!([token.signed, b".", signature.as_bytes()].concat(), text, "another spelling was read");
    let payload = token.signed.split(|&b| b == b'.').next_back().expect("there are two parts");
    assert_eq!(encode(&token.payload).as_bytes(), payload);
    // nobody who does not know the key has its tag, but in the example
    assert!(KEYS.verify(&token).is_err() || text == TOKEN.as_bytes());
}

/// A header out of any bytes, in front of a payload.
fn header(text: &[u8]) {
    let written = format!("{}.e30.AAAA", encode(text));
    let Ok(token) = Jws::parse(written.as_bytes()) else { return };
    let value: serde_json::Value = serde_json::from_slice(text).expect("what was read is JSON");
    let alg = value["alg"].as_str().expect("it has an algorithm");
    assert!(alg == token.header.algorithm.name() || alg == "Ed25519", "{alg}");
    assert_eq!(value.get("kid").and_then(|kid| kid.as_str()), token.header.kid.as_deref());
    assert!(value.get("crit").is_none() && value.get("b64").is_none());
    assert!(KEYS.verify(&token).is_err());
}

/// A genuine token with a part of it replaced.
fn changed(data: &[u8]) {
    let mut choices = Unstructured::new(data);
    let Ok((at, length, with)) = choices.arbitrary::<(u8, u8, &[u8])>() else { return };
    let mut text = TOKEN.as_bytes().to_vec();
    let begin = usize::from(at).min(text.len());
    let end = (begin + usize::from(length)).min(text.len());
    text.splice(begin..end, with.iter().copied());
    let genuine = Jws::parse(&text).is_ok_and(|token| KEYS.verify(&token).is_ok());
    assert_eq!(genuine, text == TOKEN.as_bytes(), "{}", String::from_utf8_lossy(&text));
}

/// Keys out of any text.
fn keys(text: &[u8]) {
    let (all, public) = (read(text, false), read(text, true));
    if let (Some(all), Some(public)) = (&all, &public) {
        assert_eq!(all.len(), public.len(), "a set has secrets or public keys, never both");
    }
    let _ = KeySet::of_pem(text, &Algorithm::ALL);
    let token = Jws::parse(TOKEN.as_bytes()).expect("the example");
    assert!(public.is_none_or(|public| public.verify(&token).is_err()), "a secret was taken for a public key");
}

/// Base64url without padding, written from RFC 4648 alone.
fn encode(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for digit in 0..=group.len() {
            out.push(char::from(DIGITS[(bits >> (18 - 6 * digit)) as usize & 63]));
        }
    }
    out
}
