//! What changing a JSON body costs beside what the JSON library alone takes to read and write it, measured in an optimized build of this
//! program, since the one that runs the benchmark is none.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use daemun_config::{Diagnostics, parse_text};
use daemun_pipeline::{BuildContext, Carry, Directory, Exchange, Flow, Policy};

/// Bodies that are changed, and read and written, in one go.
const EACH: u32 = 2_000;

const SETTINGS: &str = "{ request: [{ set: { body.customer.name: Lee } }, { remove: 'body.items[*].internal' }, \
                        { rename: { body.user_id: userId } }] }";

/// Prints the ratio of each round, one a line.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let [rounds] = arguments else { bail!("`shape` is for the benchmark") };
    let rounds: usize = rounds.parse()?;
    let document = document();
    let policy = built("transform", SETTINGS)?;
    let (before, after) = (once(&*policy, &document)?.len(), document.len());
    ensure!(before < after, "the policy does not act");
    for _ in 0..rounds {
        let library = timed(|| {
            let value: serde_json::Value = serde_json::from_slice(&document)?;
            black_box(serde_json::to_vec(&value)?);
            Ok(())
        })?;
        let ours = timed(|| {
            black_box(once(&*policy, &document)?);
            Ok(())
        })?;
        println!("{:.4}", ours.as_secs_f64() / library.as_secs_f64());
    }
    Ok(())
}

fn timed(mut act: impl FnMut() -> Result<()>) -> Result<Duration> {
    let since = Instant::now();
    for _ in 0..EACH {
        act()?;
    }
    Ok(since.elapsed())
}

/// One request with the document through the policy; what would be sent.
fn once(policy: &dyn Policy, document: &[u8]) -> Result<Vec<u8>> {
    let mut exchange = Exchange::default();
    exchange.request.head.append("content-type", b"application/json");
    exchange.request.body = Some(document.to_vec());
    match policy.on_request(&mut exchange) {
        Flow::Now(Ok(())) => {}
        Flow::Now(Err(_)) | Flow::Later(_) => bail!("the policy refuses the document"),
    }
    exchange.request.body.context("the body is gone")
}

/// An order of 4 KiB.
fn document() -> Vec<u8> {
    let item = |n: usize| {
        format!(
            "{{\"sku\":\"item-{n:04}\",\"name\":\"A thing of number {n}\",\"price\":{n}.50,\"count\":{n},\"tags\":[\"a\",\"b\",\"c\"],\
             \"internal\":{{\"cost\":{n}.25,\"note\":\"x\"}},\"on\":true}}"
        )
    };
    let items: Vec<String> = (0..28).map(item).collect();
    let customer = "\"customer\":{\"name\":\"Kim\",\"city\":\"Seoul\"}";
    format!("{{\"user_id\":12345,{customer},\"items\":[{}],\"total\":99.5}}", items.join(",")).into_bytes()
}

/// The policy `name` with `settings`, on a route that knows who calls.
pub(super) fn built(name: &str, settings: &str) -> Result<Box<dyn Policy>> {
    let mut diagnostics = Diagnostics::new();
    let node = parse_text(settings, &mut diagnostics).context("the settings are no YAML")?;
    let row = daemun_policies::REGISTRY.iter().find(|row| row.name == name).context("there is no such policy")?;
    let mut ctx = BuildContext {
        diagnostics: &mut diagnostics,
        directory: &Arc::new(Directory::new(Vec::new())),
        carry: &Carry::default(),
        world: &daemun_pipeline::Nowhere::shared(),
        token_services: &[],
        has_store: false,
        folders: &[],
        upstreams: &(Arc::new(()) as _),
        route: Some("items"),
        authenticated: true,
        always: &[],
        body: 10 << 20,
        path: format!("routes.items.policies.{name}"),
        at: node.at,
        param_names: &[],
    };
    let built = (row.build)(&node, &mut ctx).and_then(|mut built| built.pop());
    built.map(|(_, policy)| policy).context("the settings are wrong")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_acts_on_the_document_that_is_measured() {
        let document = document();
        assert!((4000..4700).contains(&document.len()), "{}", document.len());
        let out = once(&*built("transform", SETTINGS).unwrap(), &document).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["customer"]["name"], "Lee");
        assert_eq!((value["userId"].as_u64(), value["items"][3].get("internal")), (Some(12345), None));
    }
}
