//! Looks up the names of targets: before a snapshot is published, and again now and then. No worker ever waits for a name.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use daemun_dataplane::record::Events;
use daemun_dataplane::{Clock, Snapshot};
use tokio::task::JoinSet;

use super::within;

/// How often names are looked up again. The system's resolver does not tell how long an answer holds.
pub(crate) const REFRESH: Duration = Duration::from_secs(30);
/// How long a start or a reload waits for names it does not know yet; targets without an address answer 503 until then.
const PATIENCE: Duration = Duration::from_secs(5);
/// Lookups under way at once: each holds a thread.
const AT_ONCE: usize = 8;

type Name = (String, u16);

/// What names last resolved to.
pub(crate) struct Resolver {
    clock: Clock,
    events: Events,
    known: BTreeMap<Name, Vec<SocketAddr>>,
}

impl Resolver {
    pub(crate) fn new(clock: Clock, events: Events) -> Self {
        Self { clock, events, known: BTreeMap::new() }
    }

    /// Gives a snapshot that is about to be published the addresses of its targets; looks up what is not known yet.
    pub(crate) async fn prepare(&mut self, snapshot: &Snapshot) {
        let wanted = names(snapshot);
        self.known.retain(|name, _| wanted.contains(name));
        let unknown: Vec<Name> = wanted.into_iter().filter(|name| !self.known.contains_key(name)).collect();
        self.look_up(unknown).await;
        self.tell(snapshot);
    }

    /// Looks every name of the running snapshot up again. One that fails keeps its addresses.
    pub(crate) async fn refresh(&mut self, snapshot: &Snapshot) {
        let wanted = names(snapshot);
        if !wanted.is_empty() {
            self.look_up(wanted.into_iter().collect()).await;
            self.tell(snapshot);
        }
    }

    async fn look_up(&mut self, names: Vec<Name>) {
        let mut waiting = names.into_iter();
        let mut under_way = JoinSet::new();
        for name in waiting.by_ref().take(AT_ONCE) {
            under_way.spawn(look_up(name));
        }
        let until = self.clock.now().saturating_add(u64::try_from(PATIENCE.as_nanos()).unwrap_or(u64::MAX));
        loop {
            let left = Duration::from_nanos(until.saturating_sub(self.clock.now()));
            let Some(done) = within(&self.clock, left, under_way.join_next()).await else {
                self.events
                    .warning("target_unresolved", format_args!("names of targets are not resolved in {PATIENCE:?}"));
                return;
            };
            match done {
                None => return,
                Some(Ok((name, result))) => self.keep(name, result),
                Some(Err(_)) => {}
            }
            if let Some(name) = waiting.next() {
                under_way.spawn(look_up(name));
            }
        }
    }

    fn keep(&mut self, name: Name, result: io::Result<Vec<SocketAddr>>) {
        let known = self.known.contains_key(&name);
        let stays = if known { "; its last addresses stay" } else { "" };
        match result {
            Ok(addresses) if !addresses.is_empty() => {
                self.known.insert(name, addresses);
            }
            Ok(_) => {
                self.events.warning("target_unresolved", format_args!("`{}` has no address{stays}", name.0));
            }
            Err(error) => {
                self.events.warning("target_unresolved", format_args!("`{}` is not resolved: {error}{stays}", name.0));
            }
        }
    }

    fn tell(&self, snapshot: &Snapshot) {
        for target in snapshot.upstreams().flat_map(|upstream| upstream.targets().to_vec()) {
            let name = target.name_to_resolve().map(|(host, port)| (host.to_owned(), port));
            if let Some(addresses) = name.and_then(|name| self.known.get(&name)) {
                target.set_addresses(addresses.clone());
            }
        }
    }
}

fn names(snapshot: &Snapshot) -> BTreeSet<Name> {
    let targets = snapshot.upstreams().flat_map(|upstream| upstream.targets().to_vec());
    targets.filter_map(|target| target.name_to_resolve().map(|(host, port)| (host.to_owned(), port))).collect()
}

async fn look_up(name: Name) -> (Name, io::Result<Vec<SocketAddr>>) {
    let result = tokio::net::lookup_host((name.0.as_str(), name.1)).await.map(|found| {
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for address in found {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    });
    (name, result)
}
