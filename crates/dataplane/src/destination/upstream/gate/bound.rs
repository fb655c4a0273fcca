//! Bounds of one target, over all workers: calls in flight and connections. Knows neither upstreams nor how a target is picked.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};

/// Bounds of one target and what it has.
#[derive(Debug)]
pub(crate) struct TargetBound {
    calls: Count,
    connections: Count,
    /// Number of the settings it follows.
    made: AtomicU64,
}

#[derive(Debug)]
struct Count {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Default for TargetBound {
    fn default() -> Self {
        let count = || Count { now: AtomicUsize::new(0), most: AtomicUsize::new(usize::MAX) };
        TargetBound { calls: count(), connections: count(), made: AtomicU64::new(0) }
    }
}

impl Count {
    fn take(&self) -> bool {
        let most = self.most.load(Relaxed);
        self.now.fetch_update(Relaxed, Relaxed, |now| (now < most).then_some(now + 1)).is_ok()
    }
}

/// A call to a target; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct CallAt(Arc<TargetBound>);

impl Drop for CallAt {
    fn drop(&mut self) {
        self.0.calls.now.fetch_sub(1, Relaxed);
    }
}

/// A connection to a target; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct ConnectionTo(Arc<TargetBound>);

impl Drop for ConnectionTo {
    fn drop(&mut self) {
        self.0.connections.now.fetch_sub(1, Relaxed);
    }
}

impl TargetBound {
    /// Takes over settings, unless newer ones than those of this number hold; to be called by one worker at a time.
    pub(super) fn configure(&self, calls: usize, connections: usize, made: u64) {
        if self.made.fetch_max(made, Relaxed) > made {
            return;
        }
        self.calls.most.store(calls, Relaxed);
        self.connections.most.store(connections, Relaxed);
    }

    /// Calls in flight.
    pub(crate) fn calls(&self) -> usize {
        self.calls.now.load(Relaxed)
    }

    /// Begins a call, if there is room for one.
    pub(crate) fn call(self: &Arc<TargetBound>) -> Option<CallAt> {
        self.calls.take().then(|| CallAt(Arc::clone(self)))
    }

    /// Begins a connection, if there is room for one.
    pub(crate) fn connect(self: &Arc<TargetBound>) -> Option<ConnectionTo> {
        self.connections.take().then(|| ConnectionTo(Arc::clone(self)))
    }
}
