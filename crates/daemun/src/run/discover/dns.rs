//! Targets by name: addresses, or services with port, weight and priority (RFC 2782). Asks again when the records end.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use daemun_config::model::{DnsRecords, DnsSource};
use daemun_dataplane::FoundTarget;

use super::super::lookup::{Lookup, Service};
use super::super::names::nanos;
use super::super::retry::{Backoff, chance};
use super::feed::{Feed, at, sort};
use super::{MOST_TARGETS, RETRY, World};

/// Hosts of SRV records that are looked up, those whose addresses come along not counted.
const MOST_HOSTS: usize = 256;
/// Tiers there are; further priorities share the last.
const LAST_TIER: u8 = 15;

pub(super) async fn run(source: DnsSource, tls: bool, feed: &Feed, world: &World) {
    let lookup = match source.server {
        Some(server) => Arc::new(Lookup::of(server, world.clock.clone())),
        None => Arc::clone(&world.lookup),
    };
    let mut backoff = Backoff::new(RETRY.0.max(source.refresh_min), RETRY.1.max(source.refresh_min));
    loop {
        let wait = match find(&source, tls, &lookup).await {
            Ok((targets, ttl)) => {
                let ttl = ttl.clamp(source.refresh_min, source.refresh_max);
                // a name that has lost its addresses is asked for again soon, and less and less often
                let wait = if targets.is_empty() { ttl.max(backoff.after_failure(chance())) } else { ttl };
                if !targets.is_empty() {
                    backoff.reset();
                }
                feed.found(targets, 0);
                wait
            }
            Err(why) => {
                feed.failed(&why);
                backoff.after_failure(chance())
            }
        };
        let until = world.clock.now().saturating_add(nanos(wait));
        world.clock.wait(until).await;
    }
}

async fn find(source: &DnsSource, tls: bool, lookup: &Lookup) -> Result<(Vec<FoundTarget>, Duration), String> {
    if source.records != DnsRecords::Srv {
        let found = lookup.addresses(&source.name, source.records).await?;
        let port = source.port.unwrap_or(if tls { 443 } else { 80 });
        let targets = found.addresses.iter().map(|ip| at(&ip.to_string(), port, tls)).collect();
        return Ok((targets, found.ttl));
    }
    let found = lookup.services(&source.name).await?;
    let (mut services, mut ttl) = (found.services, found.ttl);
    services.retain(|service| !service.host.is_empty());
    services.sort_by(|a, b| (a.priority, &a.host, a.port).cmp(&(b.priority, &b.host, b.port)));
    services.truncate(MOST_TARGETS);
    let mut addresses: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    for (host, address) in found.known {
        addresses.entry(host).or_default().push(address);
    }
    let mut left = MOST_HOSTS;
    for service in &services {
        if addresses.contains_key(&service.host) || left == 0 {
            continue;
        }
        left -= 1;
        let own = lookup.addresses(&service.host, DnsRecords::Addresses).await?;
        if !own.addresses.is_empty() {
            ttl = ttl.min(own.ttl);
        }
        addresses.insert(service.host.clone(), own.addresses);
    }
    Ok((targets(&services, &addresses, tls), ttl))
}

/// One target for each address of each service.
fn targets(services: &[Service], addresses: &BTreeMap<String, Vec<IpAddr>>, tls: bool) -> Vec<FoundTarget> {
    let mut priorities: Vec<u16> = services.iter().map(|service| service.priority).collect();
    priorities.sort_unstable();
    priorities.dedup();
    let mut targets = Vec::new();
    for service in services {
        let rank = priorities.iter().position(|priority| *priority == service.priority).unwrap_or_default();
        let tier = u8::try_from(rank).unwrap_or(LAST_TIER).min(LAST_TIER);
        for ip in addresses.get(&service.host).into_iter().flatten() {
            let mut target = at(&ip.to_string(), service.port, tls);
            target.tier = tier;
            target.weight = weight(service, services);
            targets.push(target);
        }
    }
    sort(&mut targets);
    targets
}

/// Weight 0 is a very small chance beside others, and an even one among its like.
fn weight(service: &Service, services: &[Service]) -> u32 {
    let peers = || services.iter().filter(|other| other.priority == service.priority);
    match (service.weight, peers().any(|peer| peer.weight == 0)) {
        (0, _) => 1,
        (weight, false) => weight.into(),
        (weight, true) => u32::from(weight) * 10,
    }
}

#[cfg(test)]
mod tests;
