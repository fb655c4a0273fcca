//! The targets of one upstream as they change beneath its snapshot: found, gone, told to drain. Workers look at one number a call and
//! build their own view anew when it moved. Knows nothing of how a target is found, tried or called.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;
use daemun_config::model::{ProxyVersion, TargetAddress, UpstreamProtocol};

use super::upstream::Target;
use crate::destination::upstream::state::TargetState;
use crate::record::{Events, Metrics};

/// Targets one upstream has at most; of more that are found the first count.
pub(crate) const MOST_TARGETS: usize = 4_096;

/// Counts what changed about an upstream's targets; whoever keeps a view of them compares.
#[derive(Debug, Default)]
pub(crate) struct Changes(AtomicU64);

impl Changes {
    /// Which change was the last. Read before what it tells of.
    pub(crate) fn seen(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Notes one, after it was made.
    pub(crate) fn note(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

/// What is known of an upstream's targets whatever configuration they stand in: found again by the upstream's name.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) changes: Arc<Changes>,
    /// When it was last looked at whether one hangs.
    pub(crate) looked: AtomicU64,
    /// One is being ejected.
    pub(crate) ejecting: AtomicBool,
    /// Whether it was told that all are called for want of healthy ones.
    pub(crate) panics: Mutex<bool>,
    /// By address; freed with the last target that has it.
    states: Mutex<HashMap<String, Weak<TargetState>>>,
}

impl Known {
    /// The state of the target at this address, the same for every target of the upstream there and over reloads.
    pub(crate) fn state(&self, address: &TargetAddress, tls: bool) -> Arc<TargetState> {
        let key = format!("{address:?} {tls}");
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = states.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        states.retain(|_, state| state.strong_count() > 0);
        let state = Arc::new(TargetState::new(Arc::clone(&self.changes)));
        states.insert(key, Arc::downgrade(&state));
        state
    }
}

/// A target that was found rather than written down.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FoundTarget {
    /// What logs and metrics call it, `http://10.0.0.7:8080`.
    pub url: String,
    /// Where to connect.
    pub address: TargetAddress,
    /// Whether the connection is TLS.
    pub tls: bool,
    /// Path put before each forwarded path, without trailing slash; empty when there is none.
    pub base_path: String,
    /// Share of the calls, 0 takes it out.
    pub weight: u32,
    /// Lower tiers are called first.
    pub tier: u8,
    /// Where it is.
    pub zone: Option<String>,
    /// Whether it gets no new call.
    pub drain: bool,
}

/// What makes targets of an upstream: what they all have in common.
pub(crate) struct Maker {
    pub(crate) upstream: String,
    pub(crate) protocol: UpstreamProtocol,
    pub(crate) proxy_protocol: Option<ProxyVersion>,
    /// What tells its TLS settings from others.
    pub(crate) tls_key: String,
    pub(crate) known: Arc<Known>,
    pub(crate) metrics: Arc<Metrics>,
}

/// The targets of an upstream. Kept over reloads that change nothing about those that are written down.
pub(crate) struct TargetSet {
    maker: Maker,
    /// Those that are written down, which always come first.
    fixed: Vec<Arc<Target>>,
    now: ArcSwap<Vec<Arc<Target>>>,
    /// One change at a time.
    changing: Mutex<()>,
}

impl TargetSet {
    /// With the targets that are written down.
    pub(crate) fn new(maker: Maker, written: Vec<FoundTarget>) -> TargetSet {
        let fixed: Vec<_> = written.into_iter().map(|target| Arc::new(Target::new(target, &maker))).collect();
        TargetSet { now: ArcSwap::from_pointee(fixed.clone()), fixed, maker, changing: Mutex::default() }
    }

    /// Which change was the last; to be read before [`TargetSet::now`].
    pub(crate) fn version(&self) -> u64 {
        self.maker.known.changes.seen()
    }

    /// What is known of the targets.
    pub(crate) fn known(&self) -> &Known {
        &self.maker.known
    }

    /// Where it is told what changed about them.
    pub(crate) fn events(&self) -> Option<&Events> {
        self.maker.metrics.events()
    }

    /// The targets of this moment, in a stable order.
    pub(crate) fn now(&self) -> Arc<Vec<Arc<Target>>> {
        self.now.load_full()
    }

    /// Puts what was found in place of what was found before. A target that stays is the same object, with its connections and state,
    /// and one whose weight, tier or zone alone changed keeps these as well. Nothing happens when nothing changed.
    pub(crate) fn replace(&self, found: &[FoundTarget]) {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.now.load_full();
        let mut next = self.fixed.clone();
        let known: HashMap<&FoundTarget, &Arc<Target>> =
            before.iter().skip(self.fixed.len()).map(|target| (&target.found, target)).collect();
        let mut seen = HashSet::new();
        for found in found.iter().filter(|found| seen.insert(*found)).take(MOST_TARGETS.saturating_sub(next.len())) {
            next.push(known.get(found).map_or_else(|| self.make(found, &before), |target| Arc::clone(target)));
        }
        let same = before.len() == next.len() && before.iter().zip(&next).all(|(a, b)| Arc::ptr_eq(a, b));
        if !same {
            self.now.store(Arc::new(next));
            self.maker.known.changes.note();
        }
    }

    /// A target that was not there before as it is now; its name may have been resolved already.
    fn make(&self, found: &FoundTarget, before: &[Arc<Target>]) -> Arc<Target> {
        let target = Target::new(found.clone(), &self.maker);
        if let Some(before) = before.iter().find(|before| before.key == target.key) {
            target.resolved.store(before.resolved.load_full());
        }
        Arc::new(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Setup;

    fn found(port: u16, weight: u32) -> FoundTarget {
        FoundTarget {
            url: format!("http://127.0.0.1:{port}"),
            address: TargetAddress::Tcp { host: "127.0.0.1".into(), port },
            tls: false,
            base_path: String::new(),
            weight,
            tier: 0,
            zone: None,
            drain: false,
        }
    }

    fn set(written: Vec<FoundTarget>) -> TargetSet {
        let setup = Setup { workers: 1, policies: Vec::new(), version: "0", commit: "0", started: 0 };
        let maker = Maker {
            upstream: "u".into(),
            protocol: UpstreamProtocol::Http1,
            proxy_protocol: None,
            tls_key: String::new(),
            known: Arc::default(),
            metrics: Metrics::new(setup).0,
        };
        TargetSet::new(maker, written)
    }

    #[test]
    fn targets_that_stay_are_the_same_and_keep_their_order() {
        let set = set(vec![found(1, 1)]);
        set.replace(&[found(2, 1), found(3, 1)]);
        let before = set.now();
        set.replace(&[found(3, 1), found(4, 1)]);
        let after = set.now();
        let urls: Vec<_> = after.iter().map(|t| t.url.as_str()).collect();
        assert_eq!(urls, ["http://127.0.0.1:1", "http://127.0.0.1:3", "http://127.0.0.1:4"]);
        assert!(Arc::ptr_eq(&before[0], &after[0]) && Arc::ptr_eq(&before[2], &after[1]));
    }

    #[test]
    fn a_change_is_told_once_and_none_when_nothing_changed() {
        let set = set(Vec::new());
        let first = set.version();
        set.replace(&[found(2, 1)]);
        assert_eq!(set.version(), first + 1);
        set.replace(&[found(2, 1)]);
        assert_eq!(set.version(), first + 1);
    }

    #[test]
    fn a_target_whose_weight_changes_keeps_its_state_and_its_connections() {
        let set = set(Vec::new());
        set.replace(&[found(2, 1)]);
        let before = set.now();
        set.replace(&[found(2, 5)]);
        let after = set.now();
        assert_eq!((before[0].weight, after[0].weight), (1, 5));
        assert!(std::ptr::eq(before[0].state(), after[0].state()));
        assert_eq!(before[0].key, after[0].key);
    }
}
