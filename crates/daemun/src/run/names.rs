//! Keeps the names of targets resolved, as long as their records hold. No worker ever waits for a name.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daemun_config::model::DnsRecords;
use daemun_dataplane::record::Events;
use daemun_dataplane::{Clock, Upstream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::lookup::{Addresses, Lookup};
use super::retry::{Backoff, chance};

/// Lookups under way at once.
const AT_ONCE: usize = 16;
/// Shortest and longest time between two lookups of a name.
const HOLDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// Longest time between two lookups that fail.
const RETRY_MOST: Duration = Duration::from_secs(30);
/// Addresses of one name that are used.
const MOST_ADDRESSES: usize = 256;

/// The names of the targets of some upstreams.
pub(super) struct Names {
    clock: Clock,
    events: Events,
    lookup: Arc<Lookup>,
    table: Mutex<Table>,
    followed: Mutex<Followed>,
    /// Targets have changed.
    changed: Notify,
    /// A lookup has come to an end.
    answered: Notify,
    /// Moves when targets have changed, for whoever else follows them.
    version: watch::Sender<u64>,
}

/// Whose names are kept.
#[derive(Default)]
struct Followed {
    running: Vec<Arc<Upstream>>,
    /// Those of a configuration that is about to be published.
    coming: Vec<Arc<Upstream>>,
}

/// Names of a configuration that is about to be published. Let go, only those of the one that runs are kept.
pub(super) struct Prepared(Arc<Names>);

impl Drop for Prepared {
    fn drop(&mut self) {
        let coming = std::mem::take(&mut locked(&self.0.followed).coming);
        if !coming.is_empty() {
            self.0.changed.notify_one();
        }
    }
}

impl Names {
    pub(super) fn new(clock: Clock, events: Events, lookup: Arc<Lookup>) -> Self {
        Self {
            clock,
            events,
            lookup,
            table: Mutex::default(),
            followed: Mutex::default(),
            changed: Notify::new(),
            answered: Notify::new(),
            version: watch::Sender::new(0),
        }
    }

    /// Keeps the names of these upstreams as well, which are about to be published, until what this gives is let go.
    pub(super) fn prepare(self: &Arc<Self>, upstreams: Vec<Arc<Upstream>>) -> Prepared {
        locked(&self.followed).coming = upstreams;
        self.tell();
        self.changed.notify_one();
        Prepared(Arc::clone(self))
    }

    /// Keeps the names of exactly these upstreams.
    pub(super) fn follow(&self, upstreams: Vec<Arc<Upstream>>) {
        *locked(&self.followed) = Followed { running: upstreams, coming: Vec::new() };
        self.tell();
        self.changed.notify_one();
    }

    /// Targets of an upstream have changed.
    pub(super) fn look(&self) {
        self.tell();
        self.changed.notify_one();
        self.version.send_modify(|version| *version += 1);
    }

    /// Moves when targets of an upstream have changed.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Waits until every name was looked up once at least.
    pub(super) async fn known(&self) {
        loop {
            let answered = self.answered.notified();
            tokio::pin!(answered);
            answered.as_mut().enable();
            if locked(&self.table).knows(&self.wanted()) {
                return;
            }
            answered.await;
        }
    }

    /// Looks names up as they come and as their records end. Does not end.
    pub(super) async fn run(self: Arc<Self>) {
        let mut under_way = JoinSet::new();
        loop {
            let wanted = self.wanted();
            let due = {
                let mut table = locked(&self.table);
                table.want(&wanted);
                let room = AT_ONCE.saturating_sub(under_way.len());
                for name in table.take_due(self.clock.now(), room) {
                    let lookup = Arc::clone(&self.lookup);
                    under_way.spawn(async move {
                        let found = lookup.addresses(&name, DnsRecords::Addresses).await;
                        (name, found)
                    });
                }
                if under_way.len() < AT_ONCE { table.due() } else { None }
            };
            self.answered.notify_waiters();
            tokio::select! {
                Some(done) = under_way.join_next() => {
                    if let Ok((name, found)) = done {
                        self.keep(&name, found);
                    }
                }
                () = self.changed.notified() => {}
                () = until(&self.clock, due) => {}
            }
        }
    }

    fn keep(&self, name: &str, found: Result<Addresses, String>) {
        let now = self.clock.now();
        let told = locked(&self.table).answered(name, found, now, chance());
        match told {
            Told::Nothing => return,
            Told::Changed => {}
            Told::Failed(why, stays) => {
                let stays = if stays { "; its last addresses stay" } else { "" };
                self.events.warning("target_unresolved", format_args!("`{name}` is not resolved: {why}{stays}"));
            }
            Told::Again => self.events.info("target_unresolved", format_args!("`{name}` is resolved again")),
        }
        self.tell();
    }

    fn upstreams(&self) -> Vec<Arc<Upstream>> {
        let followed = locked(&self.followed);
        followed.running.iter().chain(&followed.coming).map(Arc::clone).collect()
    }

    fn wanted(&self) -> BTreeSet<String> {
        let upstreams = self.upstreams();
        let targets = upstreams.iter().flat_map(|upstream| upstream.targets().to_vec());
        targets.filter_map(|target| target.name_to_resolve().map(|(host, _)| host.to_owned())).collect()
    }

    /// Gives targets the addresses of their names.
    fn tell(&self) {
        let upstreams = self.upstreams();
        let table = locked(&self.table);
        for target in upstreams.iter().flat_map(|upstream| upstream.targets().to_vec()) {
            let Some((host, port)) = target.name_to_resolve() else { continue };
            let Some(found) = table.addresses(host) else { continue };
            let addresses: Vec<SocketAddr> = found.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
            if !addresses.is_empty() && *target.addresses() != addresses {
                target.set_addresses(addresses);
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for a moment; for ever when there is none.
pub(super) async fn until(clock: &Clock, moment: Option<u64>) {
    match moment {
        Some(moment) => clock.wait(moment).await,
        None => std::future::pending().await,
    }
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What names were last resolved to, and when to look again. Knows no target and no network.
#[derive(Default)]
struct Table(BTreeMap<String, Entry>);

struct Entry {
    addresses: Vec<IpAddr>,
    /// When to look it up; `None` while that is under way.
    due: Option<u64>,
    backoff: Backoff,
    answered: bool,
    /// Why it failed last; `None` while it does not.
    failing: Option<String>,
}

/// What to say of an answer.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Changed,
    /// It failed, and not as before; whether addresses stay.
    Failed(String, bool),
    /// It failed before.
    Again,
}

impl Table {
    /// Keeps exactly these names; new ones are due at once.
    fn want(&mut self, names: &BTreeSet<String>) {
        self.0.retain(|name, _| names.contains(name));
        for name in names {
            self.0.entry(name.clone()).or_insert_with(|| Entry {
                addresses: Vec::new(),
                due: Some(0),
                backoff: Backoff::new(HOLDS.0, RETRY_MOST),
                answered: false,
                failing: None,
            });
        }
    }

    fn knows(&self, names: &BTreeSet<String>) -> bool {
        names.iter().all(|name| self.0.get(name).is_some_and(|entry| entry.answered))
    }

    fn addresses(&self, name: &str) -> Option<&[IpAddr]> {
        self.0.get(name).map(|entry| entry.addresses.as_slice())
    }

    /// When the next name is due.
    fn due(&self) -> Option<u64> {
        self.0.values().filter_map(|entry| entry.due).min()
    }

    /// Names that are due, at most so many; they are under way from now on.
    fn take_due(&mut self, now: u64, most: usize) -> Vec<String> {
        let due = self.0.iter_mut().filter(|(_, entry)| entry.due.is_some_and(|due| due <= now));
        let taken = due.take(most).map(|(name, entry)| {
            entry.due = None;
            name.clone()
        });
        taken.collect()
    }

    /// Takes up what a lookup came to. A name that fails, or has no address, keeps those it had.
    fn answered(&mut self, name: &str, found: Result<Addresses, String>, now: u64, chance: u64) -> Told {
        let Some(entry) = self.0.get_mut(name) else { return Told::Nothing };
        entry.answered = true;
        let why = match found {
            Ok(mut found) if !found.addresses.is_empty() => {
                found.addresses.truncate(MOST_ADDRESSES);
                entry.backoff.reset();
                entry.due = Some(now.saturating_add(nanos(found.ttl.clamp(HOLDS.0, HOLDS.1))));
                let changed = std::mem::replace(&mut entry.addresses, found.addresses) != entry.addresses;
                return match (entry.failing.take().is_some(), changed) {
                    (true, _) => Told::Again,
                    (false, true) => Told::Changed,
                    (false, false) => Told::Nothing,
                };
            }
            Ok(_) => "it has no address".to_owned(),
            Err(why) => why,
        };
        entry.due = Some(now.saturating_add(nanos(entry.backoff.after_failure(chance))));
        if entry.failing.as_ref() == Some(&why) {
            return Told::Nothing;
        }
        entry.failing = Some(why.clone());
        Told::Failed(why, !entry.addresses.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn table(names: &[&str]) -> Table {
        let mut table = Table::default();
        table.want(&names.iter().map(|name| (*name).to_owned()).collect());
        table
    }

    fn found(last: u8, ttl: u64) -> Result<Addresses, String> {
        Ok(Addresses { addresses: vec![IpAddr::from([10, 0, 0, last])], ttl: Duration::from_secs(ttl) })
    }

    /// The upstreams of a configuration whose only target is this.
    fn upstreams(target: &str) -> Vec<Arc<Upstream>> {
        let host = target.rsplit('/').next().unwrap();
        let path = std::env::temp_dir().join(format!("daemun-names-{}-{host}.yaml", std::process::id()));
        let text = format!(
            "listeners: [{{ bind: 127.0.0.1:0 }}]\nupstreams: {{ u: {{ targets: [\"{target}\"] }} }}\n\
             routes: [{{ name: a, upstream: u }}]\n"
        );
        std::fs::write(&path, text).unwrap();
        let compiled = crate::configuration::Compiled::detached(Some(&path));
        std::fs::remove_file(&path).unwrap();
        let (_, snapshot) = compiled.sound.unwrap();
        snapshot.upstreams().map(Arc::clone).collect()
    }

    #[tokio::test]
    async fn names_of_a_configuration_that_is_refused_are_not_kept() {
        let clock = Clock::system();
        let lookup = Arc::new(Lookup::system(clock.clone()));
        let names = Arc::new(Names::new(clock, Events::to(Clock::system(), std::io::sink()).unwrap(), lookup));
        let wanted = |all: &[&str]| {
            let all: BTreeSet<String> = all.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(names.wanted(), all);
        };
        names.follow(upstreams("http://running.test"));
        let prepared = names.prepare(upstreams("http://coming.test"));
        wanted(&["coming.test", "running.test"]);
        drop(prepared);
        wanted(&["running.test"]);
        let prepared = names.prepare(upstreams("http://next.test"));
        names.follow(upstreams("http://next.test"));
        drop(prepared);
        wanted(&["next.test"]);
    }

    #[test]
    fn a_name_is_looked_up_when_its_record_ends_within_bounds() {
        for (ttl, expected) in [(0, 1), (7, 7), (86_400, 300)] {
            let mut table = table(&["a"]);
            assert_eq!(table.take_due(5 * S, 8), ["a"]);
            assert_eq!((table.due(), table.take_due(9 * S, 8).len()), (None, 0));
            assert_eq!(table.answered("a", found(1, ttl), 10 * S, 0), Told::Changed);
            assert_eq!(table.due(), Some((10 + expected) * S));
        }
    }

    #[test]
    fn addresses_stay_while_a_name_fails_and_each_kind_of_failure_is_told_once() {
        let mut table = table(&["a"]);
        table.take_due(0, 8);
        table.answered("a", found(1, 10), 0, 0);
        assert_eq!(table.answered("a", Err("no answer".into()), 10 * S, 0), Told::Failed("no answer".into(), true));
        assert_eq!(table.answered("a", Err("no answer".into()), 15 * S, 0), Told::Nothing);
        let none = || Ok(Addresses { addresses: Vec::new(), ttl: Duration::ZERO });
        assert_eq!(table.answered("a", none(), 20 * S, 0), Told::Failed("it has no address".into(), true));
        assert_eq!(table.answered("a", none(), 20 * S, 0), Told::Nothing);
        assert_eq!(table.addresses("a"), Some(&[IpAddr::from([10, 0, 0, 1])][..]));
        assert!(table.due() > Some(20 * S));
        assert_eq!(table.answered("a", found(1, 10), 30 * S, 0), Told::Again);
        assert_eq!(table.answered("a", found(1, 10), 40 * S, 0), Told::Nothing);
    }

    #[test]
    fn names_nobody_wants_are_forgotten_and_an_answer_for_one_means_nothing() {
        let mut table = table(&["a", "b"]);
        assert_eq!(table.take_due(0, 1), ["a"]);
        table.want(&BTreeSet::from(["b".to_owned()]));
        assert_eq!(table.answered("a", found(1, 1), 0, 0), Told::Nothing);
        assert_eq!(table.addresses("a"), None);
        assert!(!table.knows(&BTreeSet::from(["b".to_owned()])));
    }
}
