//! Slows down whoever guesses: failures are counted by address and by the name that is tried, in a table of fixed size. Knows no credential.

use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

/// Places of the table. Two that share one slow each other down; whoever guesses cannot choose with whom.
const PLACES: usize = 1 << 14;
/// Nanoseconds that each failure costs.
const COST: u64 = 2_000_000_000;
/// Failures that are free when there was none for a while.
const FREE: u64 = 10;

/// Failures of the last while: for each place, when it has none left that count.
pub(crate) struct Throttle {
    places: Box<[AtomicU64]>,
    secret: RandomState,
}

impl Default for Throttle {
    fn default() -> Throttle {
        let places = std::iter::repeat_with(AtomicU64::default).take(PLACES).collect();
        Throttle { places, secret: RandomState::new() }
    }
}

/// Who tries.
#[derive(Clone, Copy, Hash)]
pub(crate) enum Who<'a> {
    /// An address; of IPv6, a network of 64 bits.
    Address(u128),
    /// The name that is tried, whether there is one such or not.
    Name(&'a str),
}

impl Who<'_> {
    /// Whoever has an address.
    pub(crate) fn at(ip: IpAddr) -> Who<'static> {
        Who::Address(match ip.to_canonical() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
            IpAddr::V6(ip) => ip.to_bits() >> 64 << 64,
        })
    }
}

impl Throttle {
    fn place(&self, who: Who<'_>) -> Option<&AtomicU64> {
        let hash = usize::try_from(self.secret.hash_one(who) % PLACES as u64).ok()?;
        self.places.get(hash)
    }

    /// How many seconds to wait before the next try; `None` for not at all. `now` in nanoseconds of a clock that never goes back.
    pub(crate) fn wait(&self, who: Who<'_>, now: u64) -> Option<u64> {
        let until = self.place(who)?.load(Ordering::Acquire);
        let over = until.saturating_sub(now).checked_sub(FREE * COST)?;
        (over > 0).then(|| over.div_ceil(1_000_000_000).max(1))
    }

    /// Counts a failure.
    pub(crate) fn failed(&self, who: Who<'_>, now: u64) {
        let Some(place) = self.place(who) else { return };
        // no further than some minutes, so that a name is not shut out for long
        let next = |until: u64| Some((until.max(now) + COST).min(now + FREE * COST * 4));
        let _ = place.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_fails_often_waits_and_nobody_else_does() {
        let throttle = Throttle::default();
        let (who, other) = (Who::Name("a"), Who::Name("b"));
        for _ in 0..FREE {
            throttle.failed(who, 1_000);
            assert_eq!(throttle.wait(who, 1_000), None);
        }
        throttle.failed(who, 1_000);
        assert_eq!(throttle.wait(who, 1_000), Some(2));
        assert_eq!(throttle.wait(who, 1_000 + COST), None);
        assert_eq!(throttle.wait(other, 1_000), None);
        for _ in 0..10_000 {
            throttle.failed(who, 1_000);
        }
        assert_eq!(throttle.wait(who, 1_000), Some(60));
        assert_eq!(throttle.wait(who, 1_000 + FREE * COST * 4), None);
    }
}
