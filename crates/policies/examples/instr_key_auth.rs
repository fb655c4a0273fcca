//! Identifies N callers by API key (N from the command line), for counting instructions: run it under callgrind with two counts and
//! subtract.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use daemun_config::diagnostic::Diagnostics;
use daemun_config::tree::At;
use daemun_pipeline::{BuildContext, Carry, Consumer, Directory, Exchange, Flow, Nowhere, Runtimes};

fn key(n: u64) -> String {
    format!("dk_{n:032x}")
}

fn main() {
    let count: u64 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1_000);
    let consumers = (0..10_000).map(|n| {
        let sha256 = digest(&SHA256, key(n).as_bytes()).as_ref().try_into().unwrap_or_default();
        Consumer {
            name: format!("consumer-{n}"),
            roles: vec!["buyer".to_owned()],
            keys: vec![sha256],
            ..Consumer::default()
        }
    });
    let directory = Arc::new(Directory::new(consumers.collect()));
    let mut diagnostics = Diagnostics::new();
    let node = daemun_config::parse_text("{ header: X-Api-Key }", &mut diagnostics);
    let row = daemun_policies::REGISTRY.iter().find(|row| row.name == "key_auth");
    let (Some(node), Some(row)) = (node, row) else { return };
    let carry = Carry::default();
    let mut ctx = BuildContext {
        diagnostics: &mut diagnostics,
        directory: &directory,
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
        path: "routes.items.policies.key_auth".to_owned(),
        at: At::default(),
        param_names: &[],
    };
    let Some(policies) = (row.build)(&node, &mut ctx) else { return };
    let keys: Vec<String> = (0..256).map(|n| key(n * 39)).collect();
    assert_eq!(measured(&policies, &keys, count), count);
}

/// What is counted.
#[inline(never)]
fn measured(policies: &Runtimes, keys: &[String], count: u64) -> u64 {
    let mut exchange = Exchange::default();
    let mut passed = 0_u64;
    for (key, _) in keys.iter().cycle().zip(0..count) {
        exchange.reset();
        let head = &mut exchange.request.head;
        head.append("Host", b"api.example.com");
        head.append("User-Agent", b"instr");
        head.append("X-Api-Key", key.as_bytes());
        for (_, policy) in policies {
            passed += u64::from(matches!(policy.on_request(&mut exchange), Flow::Now(Ok(()))));
        }
    }
    passed
}
