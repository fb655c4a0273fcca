//! Counts of the calls of the last while, in slices that pass out of it one by one. Shared by workers: atomics only, and what is counted in the
//! very moment a slice begins anew may be lost. Time is an argument.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Slices of a window.
const SLICES: u64 = 10;

/// Calls by what they came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) calls: u64,
    pub(crate) failed: u64,
    pub(crate) slow: u64,
}

#[derive(Debug, Default)]
struct Slice {
    /// Which slice of time it holds; 0 for none.
    tick: AtomicU64,
    calls: AtomicU32,
    failed: AtomicU32,
    slow: AtomicU32,
}

/// The window; how long it is, is said with each use.
#[derive(Debug, Default)]
pub(crate) struct Window {
    slices: [Slice; SLICES as usize],
}

impl Window {
    /// Counts a call that ended.
    pub(crate) fn add(&self, failed: bool, slow: bool, span: u64, now: u64) {
        let tick = tick(span, now);
        let Some(slice) = self.slices.get(usize::try_from(tick % SLICES).unwrap_or_default()) else { return };
        let held = slice.tick.load(Relaxed);
        if held != tick && slice.tick.compare_exchange(held, tick, Relaxed, Relaxed).is_ok() {
            slice.clear();
        }
        slice.calls.fetch_add(1, Relaxed);
        if failed {
            slice.failed.fetch_add(1, Relaxed);
        }
        if slow {
            slice.slow.fetch_add(1, Relaxed);
        }
    }

    /// The counts of the last `span`.
    pub(crate) fn counts(&self, span: u64, now: u64) -> Counts {
        let tick = tick(span, now);
        let held = self.slices.iter().filter(|slice| slice.tick.load(Relaxed).saturating_add(SLICES) > tick);
        held.fold(Counts::default(), |sum, slice| Counts {
            calls: sum.calls + u64::from(slice.calls.load(Relaxed)),
            failed: sum.failed + u64::from(slice.failed.load(Relaxed)),
            slow: sum.slow + u64::from(slice.slow.load(Relaxed)),
        })
    }

    /// Forgets all.
    pub(crate) fn clear(&self) {
        self.slices.iter().for_each(Slice::clear);
    }
}

impl Slice {
    fn clear(&self) {
        self.calls.store(0, Relaxed);
        self.failed.store(0, Relaxed);
        self.slow.store(0, Relaxed);
    }
}

/// Never 0, nor one that a slice without counts would be taken for.
fn tick(span: u64, now: u64) -> u64 {
    now / (span / SLICES).max(1) + SLICES
}

/// Whether `part` of `all` is at least this share, in hundredths of a per cent.
pub(crate) fn is_share(part: u64, all: u64, share: u32) -> bool {
    part.saturating_mul(10_000) >= all.saturating_mul(u64::from(share))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn what_is_older_than_the_window_does_not_count() {
        let window = Window::default();
        window.add(true, false, 10 * SECOND, 5 * SECOND);
        window.add(false, true, 10 * SECOND, 9 * SECOND);
        let at = |now| window.counts(10 * SECOND, now);
        assert_eq!(at(10 * SECOND), Counts { calls: 2, failed: 1, slow: 1 });
        assert_eq!(at(16 * SECOND), Counts { calls: 1, failed: 0, slow: 1 });
        assert_eq!(at(30 * SECOND), Counts::default());
    }

    #[test]
    fn a_slice_begins_anew_when_its_time_comes_again() {
        let window = Window::default();
        window.add(true, false, 10 * SECOND, 5 * SECOND);
        window.add(false, false, 10 * SECOND, 15 * SECOND);
        assert_eq!(window.counts(10 * SECOND, 15 * SECOND), Counts { calls: 1, failed: 0, slow: 0 });
    }

    #[test]
    fn a_share_is_reached_when_it_is_met() {
        assert!(is_share(5, 10, 5_000) && !is_share(4, 10, 5_000) && is_share(0, 0, 5_000));
    }
}
