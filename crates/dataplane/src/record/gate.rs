//! What is counted of the admission to one upstream: by whoever lets calls in, and shown as it stands. Knows nothing of why a call waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use daemun_config::model::Importance;

use super::metrics::MOST_NAMES;

/// Names of the classes of importance, in the order of [`Importance`].
pub(super) const CLASSES: [&str; 3] = ["high", "normal", "low"];

/// Counts of one upstream's admission, shared by all workers.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct GateCells {
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
}

impl GateCells {
    /// A call of this importance was refused.
    pub(crate) fn count_shed(&self, importance: Importance) {
        if let Some(shed) = self.shed.get(importance as usize) {
            shed.fetch_add(1, Relaxed);
        }
    }

    fn sum(&self) -> GateSum {
        let limit = self.limit.load(Relaxed).min(self.requests.load(Relaxed));
        GateSum {
            in_flight: self.calls.load(Relaxed) + self.streams.load(Relaxed),
            limit: (limit < usize::MAX).then_some(limit),
            waiting: self.waiting.load(Relaxed),
            shed: self.shed.each_ref().map(|shed| shed.load(Relaxed)),
        }
    }
}

/// What there is at one upstream, or at several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct GateSum {
    pub(super) in_flight: usize,
    /// `None` where there is none, or of several.
    pub(super) limit: Option<usize>,
    pub(super) waiting: usize,
    pub(super) shed: [u64; CLASSES.len()],
}

impl GateSum {
    fn add(&mut self, other: &GateSum) {
        self.in_flight += other.in_flight;
        self.limit = None;
        self.waiting += other.waiting;
        self.shed.iter_mut().zip(other.shed).for_each(|(sum, shed)| *sum += shed);
    }
}

/// The upstreams whose admission is bounded; as many as the configuration has.
#[derive(Debug, Default)]
pub(super) struct GateNames {
    known: std::collections::BTreeMap<Box<str>, Arc<GateCells>>,
    /// What those forgotten had counted: sums never shrink.
    removed: GateSum,
}

impl GateNames {
    /// The counts of an upstream: those it had before, if it is still known.
    pub(super) fn get(&mut self, name: &str) -> Arc<GateCells> {
        if let Some(known) = self.known.get(name) {
            return Arc::clone(known);
        }
        let cells = Arc::<GateCells>::default();
        self.known.insert(name.into(), Arc::clone(&cells));
        cells
    }

    /// Forgets upstreams that nobody uses any more.
    pub(super) fn sweep(&mut self) {
        let removed = &mut self.removed;
        self.known.retain(|_, cells| {
            let unused = Arc::get_mut(cells).map(|cells| cells.sum());
            unused.inspect(|sum| removed.add(sum)).is_none()
        });
    }

    /// What there is, by name; those beyond the bound together.
    pub(super) fn sums(&self) -> Vec<(Box<str>, GateSum)> {
        let mut sums: Vec<_> = self.known.iter().map(|(name, cells)| (name.clone(), cells.sum())).collect();
        if sums.len() > MOST_NAMES {
            let mut other = GateSum::default();
            sums.drain(MOST_NAMES..).for_each(|(_, sum)| other.add(&sum));
            sums.push(("(other)".into(), other));
        }
        if self.removed.shed.iter().any(|shed| *shed > 0) {
            sums.push(("(removed)".into(), GateSum { in_flight: 0, limit: None, waiting: 0, ..self.removed.clone() }));
        }
        sums
    }
}
