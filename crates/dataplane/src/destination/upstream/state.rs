//! What is known of one target, by all workers and by whoever watches over it: one object per upstream and address, kept over reloads.
//! Atomics only where calls come by. Time is an argument.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::snapshot::set::Changes;

/// Bytes of a reason that are kept.
const MOST_REASON: usize = 256;

/// What active checks came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// None came to an end yet, or there are none; the target is called.
    Unknown,
    /// It is well.
    Healthy,
    /// It is not, and is not called.
    Unhealthy,
}

/// The state of one target.
#[derive(Debug)]
#[repr(align(128))]
pub struct TargetState {
    changes: Arc<Changes>,
    verdict: AtomicU8,
    draining: AtomicBool,
    /// What the active check said last.
    reason: Mutex<String>,
}

impl TargetState {
    pub(crate) fn new(changes: Arc<Changes>) -> TargetState {
        TargetState { changes, verdict: AtomicU8::new(0), draining: AtomicBool::new(false), reason: Mutex::default() }
    }

    /// Takes over what active checks came to: the verdict, not the result of a single check, whose repetition is counted by whoever
    /// checks. `reason` is what the operator reads, `3 checks failed: 503`. Costs nothing when nothing changed.
    pub fn report_active(&self, healthy: bool, reason: &str, _now: u64) {
        let verdict = if healthy { Verdict::Healthy } else { Verdict::Unhealthy };
        let mut kept = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        if *kept != reason {
            kept.clear();
            kept.push_str(reason.get(..reason.floor_char_boundary(MOST_REASON)).unwrap_or_default());
        }
        drop(kept);
        if self.verdict.swap(verdict as u8, Ordering::AcqRel) != verdict as u8 {
            self.changes.note();
        }
    }

    /// What active checks came to.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self.verdict.load(Ordering::Acquire) {
            1 => Verdict::Healthy,
            2 => Verdict::Unhealthy,
            _ => Verdict::Unknown,
        }
    }

    /// Lets the target get no new call from now on, or again some; calls under way end as they would.
    pub fn drain(&self, on: bool) {
        if self.draining.swap(on, Ordering::AcqRel) != on {
            self.changes.note();
        }
    }

    /// Whether it was told to drain.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}
