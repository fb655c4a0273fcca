//! Which share of a target's calls is given up before they are answered, of late, and how many of these in a row are no chance. Shared by
//! workers: an observation that another one meets in the same moment may be lost. Knows no time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Calls of which the share is one.
const MEMORY: u32 = 64;
/// Calls in a row that are taken in one by one; more than the memory makes no difference.
const MOST: u32 = 8 * MEMORY;
/// All calls, hundredths of a per cent.
const ALL: u64 = 10_000;
/// Parts in which the share is kept.
const PARTS: u64 = 1 << 32;
/// A row that comes about by chance less often than once in so many calls is none.
const CHANCE: f64 = 1e-6;
/// Callers who never gave up may begin to: this share is never ruled out.
const LEAST: f64 = 0.01;

/// The share, with the number of calls it is of.
#[derive(Debug, Default)]
pub(crate) struct Forsaken {
    share: AtomicU64,
    calls: AtomicU64,
}

impl Forsaken {
    /// Takes an answer, and so many calls in a row before it that were given up.
    #[cold]
    pub(crate) fn answered(&self, given_up: u32) {
        let (mut share, mut calls) = (self.share.load(Relaxed), self.calls.load(Relaxed));
        for call in 0..=given_up.min(MOST) {
            calls = (calls + 1).min(u64::from(MEMORY));
            // the answer comes last
            let own = if call < given_up.min(MOST) { PARTS } else { 0 };
            share = (share * (calls - 1) + own) / calls;
        }
        // what is left in the end would be carried along for ever
        let share = if share < PARTS / ALL { 0 } else { share };
        self.share.store(share, Relaxed);
        self.calls.store(calls, Relaxed);
    }

    /// Whether one more answer changes nothing.
    pub(crate) fn is_settled(&self) -> bool {
        self.share.load(Relaxed) == 0 && self.calls.load(Relaxed) >= u64::from(MEMORY)
    }

    /// The share, hundredths of a per cent, as large as it may well be where it is of few calls; 0 while it is of none.
    pub(crate) fn share(&self) -> u64 {
        let share = self.share.load(Relaxed) * ALL / PARTS;
        let unknown = ALL.saturating_sub(share).checked_div(self.calls.load(Relaxed));
        unknown.map_or(0, |unknown| share + unknown)
    }

    /// How many calls in a row must go unanswered, where this share is given up, until that is no chance. The odds are taken twice, as the
    /// share is not known exactly.
    #[allow(clippy::cast_precision_loss, reason = "a share is far below 2^52")]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count that is rounded up")]
    pub(crate) fn unlikely(share: u64) -> u64 {
        let share = (share as f64 / ALL as f64 + LEAST).min(1.0 - LEAST);
        let odds = 2.0 * share / (1.0 - share);
        (CHANCE.ln() / (odds / (1.0 + odds)).ln()).ceil() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_must_be_the_longer_the_more_calls_are_given_up() {
        let rows = [0, 100, 1_000, 5_000, 9_000, 10_000].map(Forsaken::unlikely);
        assert_eq!(rows, [4, 5, 9, 36, 287, 2743]);
    }

    #[test]
    fn the_share_is_that_of_the_last_calls() {
        let forsaken = Forsaken::default();
        assert_eq!(forsaken.share(), 0);
        (0..32).for_each(|_| forsaken.answered(1));
        // as one more call would make it
        assert_eq!(forsaken.share(), 4_999 + 78);
        assert!(!forsaken.is_settled());
        (0..1_000).for_each(|_| forsaken.answered(0));
        assert!(forsaken.is_settled() && forsaken.share() == 156);
        forsaken.answered(u32::MAX);
        assert!(forsaken.share() > 9_800, "{}", forsaken.share());
    }
}
