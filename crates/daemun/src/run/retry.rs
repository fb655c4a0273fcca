//! When to try again what failed: later each time, and never all at once. Time and chance are arguments.

use std::time::Duration;

/// Times between attempts that fail one after the other: each twice the one before, less up to half of it by chance.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    /// Begins with `first`; no time is longer than `most`.
    pub(super) fn new(first: Duration, most: Duration) -> Self {
        Self { first, most: most.max(first), failures: 0 }
    }

    /// How long to wait after one more failure.
    pub(super) fn after_failure(&mut self, chance: u64) -> Duration {
        let doubled = self.first.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1);
        let whole = doubled.min(self.most);
        whole / 2 + part(whole / 2, chance)
    }

    /// Something succeeded: the next failure is the first again.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A part of `whole` by chance.
pub(super) fn part(whole: Duration, chance: u64) -> Duration {
    let whole = u64::try_from(whole.as_nanos()).unwrap_or(u64::MAX);
    let part = (u128::from(whole) * u128::from(chance)) >> 64;
    Duration::from_nanos(u64::try_from(part).unwrap_or(u64::MAX))
}

/// `whole`, a tenth shorter or longer by chance, so that those who began together do not go on together.
pub(super) fn about(whole: Duration, chance: u64) -> Duration {
    whole.saturating_sub(whole / 10).saturating_add(part(whole / 5, chance))
}

/// Chance, from the system; without it, none.
pub(super) fn chance() -> u64 {
    let mut bytes = [0; 8];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(_) => u64::from_ne_bytes(bytes),
        Err(_) => u64::MAX / 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_doubles_the_time_up_to_a_bound_and_success_starts_anew() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        let longest: Vec<u64> = (0..8).map(|_| backoff.after_failure(u64::MAX).as_millis() as u64).collect();
        assert_eq!(longest, [999, 1999, 3999, 7999, 15_999, 29_999, 29_999, 29_999]);
        assert_eq!(backoff.after_failure(0), Duration::from_secs(15));
        backoff.reset();
        assert_eq!(backoff.after_failure(0), Duration::from_millis(500));
        for _ in 0..100 {
            assert!(backoff.after_failure(u64::MAX) <= Duration::from_secs(30));
        }
    }

    #[test]
    fn about_is_within_a_tenth() {
        let ten = Duration::from_secs(10);
        assert_eq!(about(ten, 0), Duration::from_secs(9));
        assert!(about(ten, u64::MAX) <= Duration::from_secs(11));
        assert_eq!(about(ten, 1 << 63), ten);
    }
}
