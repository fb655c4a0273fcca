//! Targets by name: addresses, or services with port, weight and priority (RFC 2782). Asks again when the records end.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use daemun_config::model::{DnsRecords, DnsSource};
use daemun_dataplane::FoundTarget;
use tokio::task::JoinSet;

use super::super::lookup::{Lookup, Service};
use super::super::names::nanos;
use super::super::retry::{Backoff, chance};
use super::feed::{Feed, at, sort};
use super::{MOST_TARGETS, RETRY, World};

/// Hosts of SRV records that are looked up, those whose addresses come along not counted.
const MOST_HOSTS: usize = 256;
/// Of them, asked for at once.
const AT_ONCE: usize = 16;
/// Tiers there are; further priorities share the last.
const LAST_TIER: u8 = 15;

pub(super) async fn run(source: DnsSource, tls: bool, feed: &Feed, world: &World) {
    let lookup = match source.server {
        Some(server) => Arc::new(Lookup::of(server, world.clock.clone())),
        None => Arc::clone(&world.lookup),
    };
    let mut hosts = Hosts::default();
    let mut backoff = Backoff::new(RETRY.0.max(source.refresh_min), RETRY.1.max(source.refresh_min));
    loop {
        let found = find(&source, tls, &lookup, &mut hosts).await;
        for (host, why) in std::mem::take(&mut hosts.news) {
            let (events, name) = (&world.events, &source.name);
            let Some(why) = why else {
                events.info("discover", format_args!("`{host}` of `{name}` is resolved again"));
                continue;
            };
            let stays = if hosts.knows(&host) { "; its last addresses stay" } else { "" };
            events.warning("discover", format_args!("`{host}` of `{name}` is not resolved: {why}{stays}"));
        }
        let wait = match found {
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

/// What was last known of the hosts of SRV records.
#[derive(Default)]
struct Hosts {
    known: BTreeMap<String, Vec<IpAddr>>,
    /// Those that failed last, and why.
    failing: BTreeMap<String, String>,
    /// What is to be told: hosts that fail, not as before, and why; those that do not fail any more.
    news: Vec<(String, Option<String>)>,
}

impl Hosts {
    fn knows(&self, host: &str) -> bool {
        self.known.get(host).is_some_and(|addresses| !addresses.is_empty())
    }

    /// Asks for these hosts. One that fails keeps what was known of it; why the last one did, and how long the rest holds.
    async fn ask(&mut self, hosts: &[&str], lookup: &Arc<Lookup>) -> (Option<String>, Duration) {
        let (mut failed, mut ttl) = (None, Duration::MAX);
        let (mut known, mut failing) = (BTreeMap::new(), BTreeMap::new());
        for some in hosts.chunks(AT_ONCE) {
            let mut under_way = JoinSet::new();
            for host in some {
                let (host, lookup) = ((*host).to_owned(), Arc::clone(lookup));
                under_way.spawn(async move {
                    let found = lookup.addresses(&host, DnsRecords::Addresses).await;
                    (host, found)
                });
            }
            while let Some(done) = under_way.join_next().await {
                let Ok((host, found)) = done else { continue };
                match found {
                    Ok(found) => {
                        if !found.addresses.is_empty() {
                            ttl = ttl.min(found.ttl);
                        }
                        if self.failing.contains_key(&host) {
                            self.news.push((host.clone(), None));
                        }
                        known.insert(host, found.addresses);
                    }
                    Err(why) => {
                        // asked again as soon as may be
                        ttl = Duration::ZERO;
                        known.extend(self.known.remove_entry(&host));
                        if self.failing.get(&host) != Some(&why) {
                            self.news.push((host.clone(), Some(why.clone())));
                        }
                        failing.insert(host, why.clone());
                        failed = Some(why);
                    }
                }
            }
        }
        (self.known, self.failing) = (known, failing);
        (failed, ttl)
    }
}

/// What the name stands for now, and how long.
///
/// # Errors
/// When that is not known: nobody answers, or nothing is known of any host.
async fn find(
    source: &DnsSource,
    tls: bool,
    lookup: &Arc<Lookup>,
    hosts: &mut Hosts,
) -> Result<(Vec<FoundTarget>, Duration), String> {
    if source.records != DnsRecords::Srv {
        let found = lookup.addresses(&source.name, source.records).await?;
        let port = source.port.unwrap_or(if tls { 443 } else { 80 });
        let targets = found.addresses.iter().map(|ip| at(&ip.to_string(), port, tls)).collect();
        return Ok((targets, found.ttl));
    }
    let found = lookup.services(&source.name).await?;
    let mut services = found.services;
    services.retain(|service| !service.host.is_empty());
    services.sort_by(|a, b| (a.priority, &a.host, a.port).cmp(&(b.priority, &b.host, b.port)));
    services.truncate(MOST_TARGETS);
    let mut addresses: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    for (host, address) in found.known {
        addresses.entry(host).or_default().push(address);
    }
    let mut seen = BTreeSet::new();
    let others = services.iter().map(|service| service.host.as_str());
    let others = others.filter(|host| !addresses.contains_key(*host) && seen.insert(*host));
    let others: Vec<&str> = others.take(MOST_HOSTS).collect();
    let (failed, ttl) = hosts.ask(&others, lookup).await;
    for (host, known) in &hosts.known {
        addresses.insert(host.clone(), known.clone());
    }
    let targets = targets(&services, &addresses, tls);
    match failed {
        // none is left that is known, which is not to say that there is none
        Some(why) if targets.is_empty() => Err(why),
        Some(_) | None => Ok((targets, found.ttl.min(ttl))),
    }
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
