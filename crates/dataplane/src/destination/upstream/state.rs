//! What is known of one target, by all workers and by whoever watches over it: one object per upstream and address, kept over reloads.
//! Atomics only where calls come by. Time is an argument.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::outliers::{Cause, OutlierRules, Told};
use crate::snapshot::set::Changes;

/// Characters of a reason that are kept.
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
    /// What calls tell.
    pub(crate) told: Told,
    changes: Arc<Changes>,
    verdict: AtomicU8,
    draining: AtomicBool,
    /// When it became healthy again; 0 for always.
    risen: AtomicU64,
    /// What the active check said last.
    reason: Mutex<String>,
}

impl TargetState {
    pub(crate) fn new(changes: Arc<Changes>) -> TargetState {
        TargetState {
            told: Told::default(),
            changes,
            verdict: AtomicU8::new(0),
            draining: AtomicBool::new(false),
            risen: AtomicU64::new(0),
            reason: Mutex::default(),
        }
    }

    /// Takes over what active checks came to: the verdict, not the result of a single check, whose repetition is counted by whoever
    /// checks. `reason` is what the operator reads, `3 checks failed: 503`. `now` is a time of the gateway's clock.
    pub fn report_active(&self, healthy: bool, reason: &str, now: u64) {
        let verdict = if healthy { Verdict::Healthy } else { Verdict::Unhealthy };
        self.explain_active(reason);
        let before = self.verdict.swap(verdict as u8, Ordering::AcqRel);
        if before == Verdict::Unhealthy as u8 && healthy {
            self.risen.store(now, Ordering::Relaxed);
        }
        if before != verdict as u8 {
            self.changes.note();
        }
    }

    /// Takes over what the last check came to where that leaves the verdict as it is, so that the reason is that of now.
    pub fn explain_active(&self, reason: &str) {
        let mut kept = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clear();
        kept.extend(reason.chars().take(MOST_REASON));
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

    /// Lets the target get no new call from now on, or again some; calls under way end as they would. Whether that is new.
    pub fn drain(&self, on: bool) -> bool {
        let is_new = self.draining.swap(on, Ordering::AcqRel) != on;
        if is_new {
            self.changes.note();
        }
        is_new
    }

    /// Whether it was told to drain.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// When it became healthy again; 0 for always.
    pub(crate) fn risen(&self) -> u64 {
        self.risen.load(Ordering::Relaxed)
    }

    pub(crate) fn eject(&self, cause: Cause, rules: &OutlierRules, now: u64) {
        self.told.eject(cause, rules, now);
        self.changes.note();
    }

    /// Whether it had no calls before.
    pub(crate) fn readmit(&self, now: u64) -> bool {
        let back = self.told.readmit(now);
        self.risen.store(now, Ordering::Relaxed);
        self.changes.note();
        back
    }

    /// Which of the things that may keep calls from it holds, given what its upstream looks at; the first that does.
    pub(crate) fn standing(&self, checked: bool, watched: bool, drain: bool, now: u64) -> Standing {
        let ejected = self.told.ejected();
        if drain || self.is_draining() {
            Standing::Draining
        } else if checked && self.verdict() == Verdict::Unhealthy {
            Standing::Unhealthy
        } else if watched && ejected > now {
            Standing::Ejected
        } else if watched && ejected > 0 {
            Standing::Trial
        } else {
            Standing::Healthy
        }
    }

    /// Why it stands as it does, for whoever operates the gateway; empty where there is nothing to say.
    pub(crate) fn why(&self, standing: Standing, now: u64) -> String {
        let mut why = String::new();
        let cause = |why: &mut String| {
            if let Some(cause) = self.told.cause() {
                // writing to a text cannot fail
                let _ = write!(why, "{cause}");
            }
        };
        match standing {
            Standing::Draining if self.is_draining() => why.push_str("told to drain"),
            Standing::Draining => why.push_str("`drain: true` in the configuration"),
            Standing::Unhealthy | Standing::Healthy => {
                why.push_str(&self.reason.lock().unwrap_or_else(PoisonError::into_inner));
            }
            Standing::Ejected => {
                cause(&mut why);
                let left = self.told.ejected().saturating_sub(now) / 100_000_000;
                let _ = write!(why, ", {}.{} s left", left / 10, left % 10);
            }
            Standing::Trial => {
                cause(&mut why);
                why.push_str(", tried by one call at a time");
            }
        }
        why
    }
}

/// How a target stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It gets its share of the calls.
    Healthy,
    /// Active checks say that it is not well.
    Unhealthy,
    /// What calls told keeps it out for a while.
    Ejected,
    /// It was ejected, and one call at a time tries it.
    Trial,
    /// It gets no new call.
    Draining,
}

impl Standing {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Standing::Healthy => "healthy",
            Standing::Unhealthy => "unhealthy",
            Standing::Ejected => "ejected",
            Standing::Trial => "trial",
            Standing::Draining => "draining",
        }
    }
}
