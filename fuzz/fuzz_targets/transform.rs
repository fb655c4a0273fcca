//! Bodies that are transformed: none makes a reader panic, what comes out reads as its kind again, and what steps take out is not in it.
#![no_main]

use std::sync::{Arc, LazyLock};

use daemun_config::{Diagnostics, parse_text};
use daemun_pipeline::{BuildContext, Carry, Directory, Exchange, Flow, Policy};
use libfuzzer_sys::fuzz_target;

const KINDS: [&str; 3] = ["application/json", "text/xml", "application/x-www-form-urlencoded"];

/// Steps that lead everywhere, and the same taken out again.
static POLICIES: LazyLock<[Box<dyn Policy>; 2]> = LazyLock::new(|| {
    let remove = "{ remove: [body.a, body.b.c, 'body.b[0].c', 'body.d[*].a', body.a.@a, 'body[\"e f\"]'] }";
    let all = format!(
        "[{remove}, {{ rename: {{ body.x: y, body.d.x: y }} }}, \
         {{ template: {{ header.x-a: '{{{{ body | tojson }}}}' }} }}]"
    );
    [policy(&all), policy(&format!("[{remove}]"))]
});

fn policy(settings: &str) -> Box<dyn Policy> {
    let mut diagnostics = Diagnostics::new();
    let node = parse_text(settings, &mut diagnostics).expect("YAML");
    let row = daemun_policies::REGISTRY.iter().find(|row| row.name == "transform").expect("the policy");
    let mut ctx = BuildContext {
        diagnostics: &mut diagnostics,
        directory: &Arc::new(Directory::new(Vec::new())),
        carry: &Carry::default(),
        world: &daemun_pipeline::Nowhere::shared(),
        token_services: &[],
        has_store: false,
        folders: &[],
        upstreams: &(Arc::new(()) as _),
        route: Some("a"),
        authenticated: false,
        always: &[],
        body: 10 << 20,
        path: String::new(),
        at: node.at,
        param_names: &[],
    };
    (row.build)(&node, &mut ctx).expect("good settings").pop().expect("a policy").1
}

fn run(policy: &dyn Policy, kind: &str, body: &[u8]) -> Option<Vec<u8>> {
    let mut exchange = Exchange::default();
    exchange.request.head.append("content-type", kind.as_bytes());
    exchange.request.body = Some(body.to_vec());
    let passes = match policy.on_request(&mut exchange) {
        Flow::Now(verdict) => verdict.is_ok(),
        Flow::Later(_) => unreachable!("it never waits"),
    };
    exchange.request.body.take().filter(|_| passes)
}

fuzz_target!(|data: &[u8]| {
    let [all, remove] = &*POLICIES;
    for kind in KINDS {
        let Some(out) = run(&**all, kind, data) else { continue };
        // what is gone is gone: to take it out again changes nothing, and what came out can be read
        let again = run(&**remove, kind, &out);
        assert_eq!(again.as_deref(), Some(&*out), "{kind}");
    }
});
