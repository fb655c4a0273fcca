//! Verifies N tokens (N from the command line; `known` behind it for one that is remembered), for counting instructions: run it under
//! callgrind with two counts and subtract. `bare` has the signature alone.

use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, ParsedPublicKey,
};
use daemun_config::diagnostic::Diagnostics;
use daemun_config::tree::At;
use daemun_pipeline::{BuildContext, Carry, Directory, Exchange, Flow, Nowhere, Policy};
use data_encoding::BASE64URL_NOPAD;

/// A token as large as those of a login service are, and the key that it is signed with.
fn token(pair: &EcdsaKeyPair) -> Option<(String, String)> {
    let point = pair.public_key().as_ref();
    let (x, y) = point.get(1..)?.split_at_checked(32)?;
    let jwk = format!(
        "{{\"kty\":\"EC\",\"crv\":\"P-256\",\"kid\":\"1\",\"x\":\"{}\",\"y\":\"{}\"}}",
        BASE64URL_NOPAD.encode(x),
        BASE64URL_NOPAD.encode(y)
    );
    let claims = "{\"iss\":\"https://accounts.example.com\",\"aud\":[\"shop-api\",\"account\"],\"sub\":\"f3b1c1d0-5d0c-4b1e-9b3e-1f5d2a7c9e10\",\
                  \"exp\":4102444800,\"iat\":1700000000,\"jti\":\"0b7c2c6e-8b3d-4d7e-a1f4-2f6a9c1d3e5b\",\"azp\":\"shop-app\",\
                  \"realm_access\":{\"roles\":[\"buyer\",\"reader\"]},\"scope\":\"openid profile orders:read\",\"email_verified\":true}";
    let header = "{\"alg\":\"ES256\",\"typ\":\"JWT\",\"kid\":\"1\"}";
    let signed = format!("{}.{}", BASE64URL_NOPAD.encode(header.as_bytes()), BASE64URL_NOPAD.encode(claims.as_bytes()));
    let signature = pair.sign(&SystemRandom::new(), signed.as_bytes()).ok()?;
    Some((format!("{signed}.{}", BASE64URL_NOPAD.encode(signature.as_ref())), jwk))
}

fn policy(jwk: &str, cache: u32) -> Option<Box<dyn Policy>> {
    let file = std::env::temp_dir().join(format!("daemun-instr-{}.json", std::process::id()));
    std::fs::write(&file, jwk).ok()?;
    let settings = format!(
        "{{ issuer: https://accounts.example.com, audience: shop-api, roles: realm_access.roles, cache: {cache}, keys: {{ file: {} }} }}",
        file.display()
    );
    let mut diagnostics = Diagnostics::new();
    let node = daemun_config::parse_text(&settings, &mut diagnostics)?;
    let row = daemun_policies::REGISTRY.iter().find(|row| row.name == "jwt")?;
    let mut ctx = BuildContext {
        diagnostics: &mut diagnostics,
        directory: &Arc::new(Directory::new(Vec::new())),
        carry: &Carry::default(),
        world: &Nowhere::shared(),
        token_services: &[],
        has_store: false,
        upstreams: &(Arc::new(()) as _),
        route: Some("items"),
        authenticated: true,
        body: 10 << 20,
        path: "routes.items.policies.jwt".to_owned(),
        at: At::default(),
        param_names: &[],
    };
    let built = (row.build)(&node, &mut ctx);
    let _ = std::fs::remove_file(&file);
    built?.pop().map(|(_, policy)| policy)
}

fn main() {
    let count: u64 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1_000);
    let kind = std::env::args().nth(2).unwrap_or_default();
    let Ok(pair) = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING) else { return };
    let Some((token, jwk)) = token(&pair) else { return };
    let mut passed = 0_u64;
    if kind == "bare" {
        let Ok(key) = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref()) else { return };
        let Some((signed, signature)) = token.rsplit_once('.') else { return };
        let Ok(signature) = BASE64URL_NOPAD.decode(signature.as_bytes()) else { return };
        for _ in 0..count {
            passed += u64::from(key.verify_sig(signed.as_bytes(), &signature).is_ok());
        }
    } else {
        let Some(policy) = policy(&jwk, if kind == "known" { 16 } else { 0 }) else { return };
        let value = format!("Bearer {token}");
        let mut exchange = Exchange::default();
        for _ in 0..count {
            exchange.reset();
            exchange.wall = 1_800_000_000_000_000_000;
            let head = &mut exchange.request.head;
            head.append("Host", b"api.example.com");
            head.append("User-Agent", b"instr");
            if kind != "idle" {
                head.append("Authorization", value.as_bytes());
                passed += u64::from(matches!(policy.on_request(&mut exchange), Flow::Now(Ok(()))));
            } else {
                head.append("Authorization", value.as_bytes());
                passed += 1;
            }
        }
    }
    assert_eq!(passed, count);
}
