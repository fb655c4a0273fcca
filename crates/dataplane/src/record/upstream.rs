//! What is counted of one upstream as a whole: by whoever lets calls in, and by whoever does something about those that fail. Knows nothing
//! of why.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use daemun_config::model::Importance;
use daemun_pipeline::Reason;

use super::metrics::MOST_NAMES;

/// Names of the classes of importance, in the order of [`Importance`].
pub(super) const CLASSES: [&str; 3] = ["high", "normal", "low"];

/// What was done in place of a call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// The answer that the configuration has.
    Answer,
    /// Another upstream was called.
    Upstream,
    /// The last good answer.
    Cached,
}

impl Fallback {
    /// In the order of their numbers.
    pub(super) const ALL: [Fallback; 3] = [Fallback::Answer, Fallback::Upstream, Fallback::Cached];

    /// Name in metrics and log lines.
    #[must_use]
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Fallback::Answer => "answer",
            Fallback::Upstream => "upstream",
            Fallback::Cached => "cached",
        }
    }
}

/// Counts of one upstream, shared by all workers. Those of calls that are let in are for upstreams whose calls are bounded; the others are
/// reached for only when a call fails or takes long.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct UpstreamCells {
    /// Whether its calls are bounded, and counted.
    pub(crate) bounded: AtomicBool,
    /// Calls in flight but streams.
    pub(crate) calls: AtomicUsize,
    /// Streams in flight.
    pub(crate) streams: AtomicUsize,
    /// Calls that may be in flight but streams.
    pub(crate) limit: AtomicUsize,
    /// Calls that may be in flight, streams included.
    pub(crate) requests: AtomicUsize,
    /// Calls that wait.
    pub(crate) waiting: AtomicUsize,
    /// Calls that were refused, by importance.
    shed: [AtomicU64; CLASSES.len()],
    /// Calls that were made again.
    retries: AtomicU64,
    /// Second calls that were made beside one that took long.
    hedges: AtomicU64,
    /// What was done in place of calls that failed.
    fallbacks: [AtomicU64; Fallback::ALL.len()],
    /// Calls that failed after all attempts, by reason.
    faults: PerReason,
}

/// A count for each reason.
#[derive(Debug)]
struct PerReason(Box<[AtomicU64]>);

impl Default for PerReason {
    fn default() -> PerReason {
        PerReason(Reason::ALL.iter().map(|_| AtomicU64::default()).collect())
    }
}

impl UpstreamCells {
    /// A call was made again.
    pub(crate) fn count_retry(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    /// A second call was made beside one that took long.
    pub(crate) fn count_hedge(&self) {
        self.hedges.fetch_add(1, Relaxed);
    }

    /// Something was done in place of a call that failed.
    pub(crate) fn count_fallback(&self, fallback: Fallback) {
        if let Some(count) = self.fallbacks.get(fallback as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// A call failed, after all attempts.
    pub(crate) fn count_fault(&self, reason: Reason) {
        if let Some(count) = self.faults.0.get(reason as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// A call of this importance was refused.
    pub(crate) fn count_shed(&self, importance: Importance) {
        if let Some(shed) = self.shed.get(importance as usize) {
            shed.fetch_add(1, Relaxed);
        }
    }

    fn sum(&self) -> UpstreamSum {
        let load = |count: &AtomicU64| count.load(Relaxed);
        let limit = self.limit.load(Relaxed).min(self.requests.load(Relaxed));
        UpstreamSum {
            in_flight: self.calls.load(Relaxed) + self.streams.load(Relaxed),
            limit: (limit < usize::MAX).then_some(limit),
            waiting: self.waiting.load(Relaxed),
            bounded: self.bounded.load(Relaxed),
            shed: self.shed.each_ref().map(load),
            retries: load(&self.retries),
            hedges: load(&self.hedges),
            fallbacks: self.fallbacks.each_ref().map(load),
            faults: self.faults.0.iter().map(load).collect(),
        }
    }
}

/// What there is at one upstream, or at several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct UpstreamSum {
    pub(super) bounded: bool,
    pub(super) in_flight: usize,
    /// `None` where there is none, or of several.
    pub(super) limit: Option<usize>,
    pub(super) waiting: usize,
    pub(super) shed: [u64; CLASSES.len()],
    pub(super) retries: u64,
    pub(super) hedges: u64,
    pub(super) fallbacks: [u64; Fallback::ALL.len()],
    /// In the order of [`Reason::ALL`].
    pub(super) faults: Vec<u64>,
}

impl UpstreamSum {
    /// What was counted; nothing of how it stands.
    fn counted(&self) -> UpstreamSum {
        let bounded = self.shed.iter().any(|shed| *shed > 0);
        UpstreamSum { bounded, in_flight: 0, limit: None, waiting: 0, ..self.clone() }
    }

    fn add(&mut self, other: &UpstreamSum) {
        let add = |sums: &mut [u64], others: &[u64]| sums.iter_mut().zip(others).for_each(|(sum, other)| *sum += other);
        self.bounded |= other.bounded;
        self.in_flight += other.in_flight;
        self.limit = None;
        self.waiting += other.waiting;
        add(&mut self.shed, &other.shed);
        self.retries += other.retries;
        self.hedges += other.hedges;
        add(&mut self.fallbacks, &other.fallbacks);
        self.faults.resize(Reason::ALL.len(), 0);
        add(&mut self.faults, &other.faults);
    }
}

/// All upstreams, as many as the configuration has.
#[derive(Debug, Default)]
pub(super) struct UpstreamNames {
    known: std::collections::BTreeMap<Box<str>, Arc<UpstreamCells>>,
    /// What those forgotten had counted: sums never shrink.
    removed: UpstreamSum,
}

impl UpstreamNames {
    /// The counts of an upstream: those it had before, if it is still known.
    pub(super) fn get(&mut self, name: &str) -> Arc<UpstreamCells> {
        if let Some(known) = self.known.get(name) {
            return Arc::clone(known);
        }
        let cells = Arc::<UpstreamCells>::default();
        self.known.insert(name.into(), Arc::clone(&cells));
        cells
    }

    /// Forgets upstreams that nobody uses any more.
    pub(super) fn sweep(&mut self) {
        let removed = &mut self.removed;
        self.known.retain(|_, cells| {
            let unused = Arc::get_mut(cells).map(|cells| cells.sum());
            unused.inspect(|sum| removed.add(&sum.counted())).is_none()
        });
    }

    /// What there is, by name; those beyond the bound together.
    pub(super) fn sums(&self) -> Vec<(Box<str>, UpstreamSum)> {
        let mut sums: Vec<_> = self.known.iter().map(|(name, cells)| (name.clone(), cells.sum())).collect();
        if sums.len() > MOST_NAMES {
            let mut other = UpstreamSum::default();
            sums.drain(MOST_NAMES..).for_each(|(_, sum)| other.add(&sum));
            sums.push(("(other)".into(), other));
        }
        if self.removed != UpstreamSum::default() {
            sums.push(("(removed)".into(), self.removed.clone()));
        }
        sums
    }
}
