//! Makes N decisions of a limit per consumer (N from the command line), for counting instructions: run it under callgrind with two
//! counts and subtract.

use std::sync::Arc;

use daemun_config::diagnostic::Diagnostics;
use daemun_config::tree::At;
use daemun_pipeline::{BuildContext, Carry, Consumer, ConsumerId, Directory, Exchange, Flow, Nowhere, Runtimes};

fn main() {
    let count: u64 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1_000);
    let consumers = (0..10_000).map(|n| Consumer { name: format!("consumer-{n}"), ..Consumer::default() });
    let directory = Arc::new(Directory::new(consumers.collect()));
    let mut diagnostics = Diagnostics::new();
    let settings = "{ limit: 1000000/s, burst: 10000000, by: consumer }";
    let node = daemun_config::parse_text(settings, &mut diagnostics);
    let row = daemun_policies::REGISTRY.iter().find(|row| row.name == "rate_limit");
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
        path: "routes.items.policies.rate_limit".to_owned(),
        at: At::default(),
        param_names: &[],
    };
    let Some(policies) = (row.build)(&node, &mut ctx) else { return };
    assert_eq!(measured(&policies, count), count);
}

/// What is counted.
#[inline(never)]
fn measured(policies: &Runtimes, count: u64) -> u64 {
    let mut exchange = Exchange::default();
    let mut passed = 0_u64;
    for n in 0..count {
        // the first 10,000 decisions bring each consumer in
        exchange.consumer = Some(ConsumerId(u32::try_from(n % 10_000).unwrap_or(0)));
        exchange.times.start = 1_000_000_000 + n;
        for (_, policy) in policies {
            passed += u64::from(matches!(policy.on_request(&mut exchange), Flow::Now(Ok(()))));
        }
    }
    passed
}
