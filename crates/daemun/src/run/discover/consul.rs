//! Targets by a service of Consul: its health endpoint, with blocking queries, so that a change is known at once.

use std::sync::Arc;
use std::time::Duration;

use daemun_config::model::ConsulSource;
use daemun_dataplane::FoundTarget;
use serde_json::Value;

use super::super::ask::{Question, Service, encoded};
use super::super::names::nanos;
use super::super::retry::{Backoff, chance};
use super::super::within;
use super::feed::{Feed, at, sort};
use super::{ANSWER, MOST_BYTES, RETRY, World};

/// How long Consul may hold an answer back while nothing changes. It adds up to a sixteenth by itself.
const WAIT: Duration = Duration::from_secs(60);
/// Shortest time between two questions that are answered, however often something changes.
const PACE: Duration = Duration::from_millis(500);

pub(super) async fn run(source: ConsulSource, tls: bool, feed: &Feed, world: &World) {
    let service = Service::new(world.clock.clone(), source.server.clone(), Arc::clone(&world.lookup));
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    let mut index = Index::default();
    loop {
        let began = world.clock.now();
        let limit = ANSWER + if index.0 > 0 { WAIT + WAIT / 16 } else { Duration::ZERO };
        let asked = within(&world.clock, limit + ANSWER, ask(&service, &source, index, limit, tls)).await;
        let until = match asked.unwrap_or_else(|| Err("the answer does not come to its end".to_owned())) {
            Ok((targets, next)) => {
                backoff.reset();
                // one who does not say how far it is cannot be waited for
                let pace = if next.is_some() { PACE } else { WAIT / 12 };
                index.follow(next);
                feed.found(targets, 0);
                began.saturating_add(nanos(pace))
            }
            Err(why) => {
                // what it counted may be gone with it
                index = Index::default();
                feed.failed(&why);
                world.clock.now().saturating_add(nanos(backoff.after_failure(chance())))
            }
        };
        world.clock.wait(until).await;
    }
}

/// Which change the last answer held; 0: none, so that the next one is not waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Index(u64);

impl Index {
    /// One that goes backwards was reset, and waiting for it would be for ever.
    fn follow(&mut self, next: Option<u64>) {
        self.0 = next.filter(|next| *next >= self.0.max(1)).unwrap_or_default();
    }
}

async fn ask(
    service: &Service,
    source: &ConsulSource,
    index: Index,
    limit: Duration,
    tls: bool,
) -> Result<(Vec<FoundTarget>, Option<u64>), String> {
    let mut question = Question::get(target(source, index), service.authority());
    if let Some(token) = &source.token {
        question = question.with("x-consul-token", &token.0);
    }
    let answer = service.ask(question, limit).await?;
    if answer.status != 200 {
        return Err(format!("Consul answers {}", answer.status));
    }
    let next = answer.field("x-consul-index").and_then(|index| index.parse().ok());
    let body = answer.whole(MOST_BYTES).await?;
    let (passing, near) = (source.only_passing, source.near.is_some());
    let read = tokio::task::spawn_blocking(move || targets(&body, passing, near, tls)).await;
    Ok((read.map_err(|error| error.to_string())??, next))
}

/// Path and query of the question.
fn target(source: &ConsulSource, index: Index) -> String {
    let mut target = format!("{}/v1/health/service/{}?", source.base_path, encoded(&source.service));
    if source.only_passing {
        target.push_str("passing=1&");
    }
    let given = [("tag", &source.tag), ("dc", &source.datacenter), ("ns", &source.namespace), ("near", &source.near)];
    for (name, value) in given.iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
        target.push_str(&format!("{name}={}&", encoded(value)));
    }
    if index.0 > 0 {
        target.push_str(&format!("index={}&wait={}s&", index.0, WAIT.as_secs()));
    }
    target.pop();
    target
}

/// The instances of an answer that may be called. In its own order where that says which are near.
fn targets(body: &[u8], only_passing: bool, near: bool, tls: bool) -> Result<Vec<FoundTarget>, String> {
    let answer: Value = serde_json::from_slice(body).map_err(|error| format!("the answer is not JSON: {error}"))?;
    let instances = answer.as_array().ok_or("the answer is not a list of instances")?;
    let mut targets: Vec<FoundTarget> =
        instances.iter().filter_map(|instance| target_of(instance, only_passing, tls)).collect();
    if !near {
        sort(&mut targets);
    }
    Ok(targets)
}

fn target_of(instance: &Value, only_passing: bool, tls: bool) -> Option<FoundTarget> {
    let service = instance.get("Service")?;
    let text = |value: &Value, key: &str| {
        value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let address = text(service, "Address").or_else(|| text(instance.get("Node")?, "Address"))?;
    let port = service
        .get("Port")
        .and_then(Value::as_u64)
        .and_then(|port| u16::try_from(port).ok())
        .filter(|port| *port > 0)?;
    let checks = instance.get("Checks").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let is = |status: &str| checks.iter().any(|check| check.get("Status").and_then(Value::as_str) == Some(status));
    let (critical, warns) = (is("critical") || is("maintenance"), is("warning"));
    if critical || (only_passing && warns) {
        return None;
    }
    let weight = service.get("Weights").and_then(|weights| weights.get(if warns { "Warning" } else { "Passing" }));
    let mut target = at(&address, port, tls);
    target.weight =
        weight.and_then(Value::as_u64).map_or(1, |weight| u32::try_from(weight).unwrap_or(u32::MAX).min(1_000_000));
    let zone = |part: Option<&Value>| text(part?.get("Locality")?, "Zone");
    target.zone = zone(Some(service)).or_else(|| zone(instance.get("Node")));
    Some(target)
}

#[cfg(test)]
mod tests;
