//! How many calls may be made again: a share of all, and one a second beside it. Knows no call and reads no clock.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};

/// What one repetition costs; calls pay in hundredths of a per cent of it.
const ONE: usize = 10_000;
/// Repetitions that calls may save up.
const SAVED_MOST: usize = 1_000;
/// Repetitions that time alone saves up, one a second.
const RESERVE: usize = 10;
/// One of these for each of those, nanoseconds.
const EACH: u64 = 1_000_000_000;

/// Shared by all workers. Counting is not exact where several count at once, by a few.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    /// What each call pays in, of [`ONE`].
    share: usize,
    saved: AtomicUsize,
    /// Up to when time has paid in.
    paid: AtomicU64,
}

impl RetryBudget {
    /// `share`: repetitions among calls, in hundredths of a per cent.
    pub(crate) fn new(share: u32) -> RetryBudget {
        let share = usize::try_from(share).unwrap_or(ONE);
        RetryBudget { share, saved: AtomicUsize::new(RESERVE * ONE), paid: AtomicU64::new(0) }
    }

    /// A call is made.
    pub(crate) fn deposit(&self) {
        if self.saved.load(Relaxed) < SAVED_MOST * ONE {
            self.saved.fetch_add(self.share, Relaxed);
        }
    }

    /// Whether one may be made again at `now`, in nanoseconds; it then is counted.
    pub(crate) fn withdraw(&self, now: u64) -> bool {
        self.let_time_pay(now);
        self.saved.fetch_update(Relaxed, Relaxed, |saved| saved.checked_sub(ONE)).is_ok()
    }

    /// One that was counted is not made after all.
    pub(crate) fn give_back(&self) {
        self.saved.fetch_add(ONE, Relaxed);
    }

    fn let_time_pay(&self, now: u64) {
        let paid = self.paid.load(Relaxed);
        let seconds = now.saturating_sub(paid) / EACH;
        if seconds == 0 || self.paid.compare_exchange(paid, paid + seconds * EACH, Relaxed, Relaxed).is_err() {
            return;
        }
        let more = usize::try_from(seconds).unwrap_or(RESERVE).min(RESERVE) * ONE;
        let _ = self
            .saved
            .fetch_update(Relaxed, Relaxed, |saved| (saved < RESERVE * ONE).then(|| (saved + more).min(RESERVE * ONE)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemun_seeded::{Random, seeds};

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn repetitions_are_a_share_of_the_calls_and_one_a_second() {
        for seed in seeds() {
            let mut random = Random::new(seed);
            let share = u32::try_from(random.below(5_000)).unwrap();
            let budget = RetryBudget::new(share);
            let start = random.below(1 << 50);
            let (mut now, mut calls, mut repeated) = (start, 0u64, 0u64);
            for _ in 0..2_000 {
                now += random.below(20_000_000);
                calls += 1;
                budget.deposit();
                // a share of the calls fails, now few and now all
                if random.below(10) < calls / 200 % 11 && budget.withdraw(now) {
                    repeated += 1;
                }
            }
            let seconds = (now - start) / SECOND;
            let most = RESERVE as u64 + calls * u64::from(share) / 10_000 + seconds + 1;
            assert!(repeated <= most, "seed {seed}: {repeated} of {most}");
        }
    }

    #[test]
    fn one_that_is_not_made_after_all_costs_nothing() {
        let budget = RetryBudget::new(0);
        assert_eq!((0..100).filter(|_| budget.withdraw(1)).count(), RESERVE);
        budget.give_back();
        assert!(budget.withdraw(1) && !budget.withdraw(1));
    }

    #[test]
    fn what_was_saved_does_not_last_for_ever() {
        let budget = RetryBudget::new(10_000);
        (0..1_000_000).for_each(|_| budget.deposit());
        assert_eq!((0..2 * SAVED_MOST).filter(|_| budget.withdraw(1)).count(), SAVED_MOST);
    }

    #[test]
    fn an_upstream_with_few_calls_may_repeat_them_too() {
        let budget = RetryBudget::new(0);
        assert_eq!((0..100).filter(|_| budget.withdraw(SECOND)).count(), RESERVE);
        assert!(!budget.withdraw(2 * SECOND - 1));
        assert!(budget.withdraw(2 * SECOND));
        assert!(!budget.withdraw(2 * SECOND));
        assert_eq!((0..100).filter(|_| budget.withdraw(3600 * SECOND)).count(), RESERVE);
    }
}
