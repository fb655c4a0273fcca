//! How long a target takes for the heads of its answers, of late. Shared by workers: an observation that another one meets in the same
//! moment may be lost. Time is an argument.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// After this time a peak counts for a third of what it was, nanoseconds.
const FADING: f64 = 10_000_000_000.0;
/// What a failure counts for, nanoseconds.
const PENALTY: u64 = 1_000_000_000;
/// Observations of which the mean is one.
const MEMORY: u32 = 8;

/// The peak, which a slow answer raises at once and time lets fade, and the mean.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    peak: AtomicU64,
    at: AtomicU64,
    /// When an answer came last.
    last: AtomicU64,
    mean: AtomicU64,
    seen: AtomicU32,
}

impl Latency {
    /// Takes an answer that took `nanos`; into the peak only where somebody looks at that.
    pub(crate) fn observe(&self, nanos: u64, peaks: bool, now: u64) {
        if peaks {
            self.raise(nanos, now);
        }
        self.last.store(now, Relaxed);
        let (mean, seen) = (self.mean.load(Relaxed), self.seen.load(Relaxed));
        let parts = u64::from(seen.saturating_add(1).min(MEMORY));
        self.mean.store((mean.saturating_mul(parts - 1).saturating_add(nanos)) / parts, Relaxed);
        if seen < MEMORY {
            self.seen.store(seen + 1, Relaxed);
        }
    }

    fn raise(&self, nanos: u64, now: u64) {
        let share = fading(now.saturating_sub(self.at.load(Relaxed)));
        let peak = whole(real(self.peak.load(Relaxed)) * share);
        // never quite forgotten: an answer at the end of a burst still counts for something
        let share = share.min(1.0 - 1.0 / f64::from(MEMORY));
        let next = if nanos > peak { nanos } else { whole(real(peak) * share + real(nanos) * (1.0 - share)) };
        self.peak.store(next, Relaxed);
        self.at.store(now, Relaxed);
    }

    /// Notes a failure: it may come fast, but must not draw calls.
    pub(crate) fn penalty(&self, now: u64) {
        self.peak.store(self.peak(now).max(PENALTY), Relaxed);
        self.at.store(now, Relaxed);
    }

    /// The peak as it has faded by now; 0 when nothing was observed.
    pub(crate) fn peak(&self, now: u64) -> u64 {
        let peak = self.peak.load(Relaxed);
        if peak == 0 {
            return 0;
        }
        whole(real(peak) * fading(now.saturating_sub(self.at.load(Relaxed))))
    }

    /// The mean of the last answers; `None` while there are few.
    pub(crate) fn mean(&self) -> Option<u64> {
        (self.seen.load(Relaxed) >= MEMORY).then(|| self.mean.load(Relaxed))
    }

    /// When an answer came last; 0 for never.
    pub(crate) fn last(&self) -> u64 {
        self.last.load(Relaxed)
    }

    /// Forgets all, for a target that begins anew.
    pub(crate) fn clear(&self) {
        self.peak.store(0, Relaxed);
        self.mean.store(0, Relaxed);
        self.seen.store(0, Relaxed);
    }
}

/// About e to the power of minus the share of [`FADING`], by the first terms of its inverse: with every request, what matters is that it is
/// cheap and falls.
fn fading(elapsed: u64) -> f64 {
    let share = real(elapsed) / FADING;
    1.0 / (1.0 + share * (1.0 + share * (0.5 + share * (1.0 / 6.0))))
}

#[allow(clippy::cast_precision_loss, reason = "nanoseconds of an answer are far below 2^52")]
fn real(nanos: u64) -> f64 {
    nanos as f64
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a mean of times is a time")]
fn whole(nanos: f64) -> u64 {
    nanos as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_slow_answer_counts_at_once_and_fades() {
        let latency = Latency::default();
        latency.observe(MS, true, 1_000 * MS);
        latency.observe(500 * MS, true, 1_001 * MS);
        assert_eq!(latency.peak(1_001 * MS), 500 * MS);
        let later = latency.peak(11_001 * MS);
        assert!((180 * MS..190 * MS).contains(&later), "{later}");
    }

    #[test]
    fn quick_answers_bring_a_peak_down() {
        let latency = Latency::default();
        latency.observe(500 * MS, true, 1_000 * MS);
        (0..40).for_each(|i| latency.observe(MS, true, (1_001 + i) * MS));
        assert!(latency.peak(1_041 * MS) < 20 * MS);
    }

    #[test]
    fn the_mean_is_known_after_some_answers_and_one_slow_one_does_not_make_it() {
        let latency = Latency::default();
        (0..7).for_each(|i| latency.observe(10 * MS, false, i * MS));
        assert_eq!(latency.mean(), None);
        latency.observe(10 * MS, false, 8 * MS);
        assert_eq!(latency.mean(), Some(10 * MS));
        latency.observe(90 * MS, false, 9 * MS);
        assert_eq!((latency.mean(), latency.peak(9 * MS)), (Some(20 * MS), 0));
    }

    #[test]
    fn a_failure_is_no_answer() {
        let latency = Latency::default();
        latency.observe(MS, true, 1_000 * MS);
        latency.penalty(2_000 * MS);
        assert_eq!((latency.last(), latency.peak(2_000 * MS)), (1_000 * MS, PENALTY));
    }
}
