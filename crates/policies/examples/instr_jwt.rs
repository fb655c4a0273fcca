//! Identifies a caller by a token that was seen before N times (N from the command line), for counting instructions: run it under
//! callgrind with two counts and subtract.

use std::sync::Arc;

use aws_lc_rs::hmac;
use daemun_config::diagnostic::Diagnostics;
use daemun_config::tree::At;
use daemun_pipeline::{BuildContext, Carry, Directory, Exchange, Flow, Nowhere, Runtimes};
use data_encoding::BASE64URL_NOPAD;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// When the tokens are looked at: nanoseconds since the Unix epoch, before they expire.
const NOW: u64 = 1_800_000_000_000_000_000;

/// A token as large as those of login services are.
fn token(n: u64) -> String {
    let claims = format!(
        "{{\"iss\":\"https://accounts.example.com\",\"aud\":[\"shop-api\",\"account\"],\
         \"sub\":\"f3b1c1d0-5d0c-4b1e-9b3e-{n:012}\",\"exp\":4102444800,\"iat\":1700000000,\
         \"realm_access\":{{\"roles\":[\"buyer\",\"reader\"]}},\"scope\":\"openid profile orders:read\"}}"
    );
    let [header, claims] = ["{\"alg\":\"HS256\"}", &claims].map(|part| BASE64URL_NOPAD.encode(part.as_bytes()));
    let signed = format!("{header}.{claims}");
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), signed.as_bytes());
    format!("{signed}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
}

fn main() {
    let count: u64 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1_000);
    let mut diagnostics = Diagnostics::new();
    let settings = format!(
        "{{ issuer: https://accounts.example.com, audience: shop-api, roles: realm_access.roles, keys: {{ secret: {SECRET} }} }}"
    );
    let node = daemun_config::parse_text(&settings, &mut diagnostics);
    let row = daemun_policies::REGISTRY.iter().find(|row| row.name == "jwt");
    let (Some(node), Some(row)) = (node, row) else { return };
    let carry = Carry::default();
    let mut ctx = BuildContext {
        diagnostics: &mut diagnostics,
        directory: &Arc::new(Directory::default()),
        carry: &carry,
        world: &Nowhere::shared(),
        token_services: &[],
        has_store: false,
        folders: &[],
        upstreams: &(Arc::new(()) as _),
        route: Some("items"),
        authenticated: true,
        always: &[],
        body: 10 << 20,
        path: "routes.items.policies.jwt".to_owned(),
        at: At::default(),
        param_names: &[],
    };
    let Some(policies) = (row.build)(&node, &mut ctx) else { return };
    // so few that no five of them share places, which they would take from each other
    let tokens: Vec<String> = (0..64).map(|n| format!("Bearer {}", token(n))).collect();
    assert_eq!(measured(&policies, &tokens, count), count);
}

/// What is counted.
#[inline(never)]
fn measured(policies: &Runtimes, tokens: &[String], count: u64) -> u64 {
    let mut exchange = Exchange::default();
    let mut passed = 0_u64;
    for (token, _) in tokens.iter().cycle().zip(0..count) {
        exchange.reset();
        exchange.wall = NOW;
        let head = &mut exchange.request.head;
        head.append("Host", b"api.example.com");
        head.append("Authorization", token.as_bytes());
        for (_, policy) in policies {
            passed += u64::from(matches!(policy.on_request(&mut exchange), Flow::Now(Ok(()))));
        }
    }
    passed
}
