//! Slows down whoever guesses passwords: failures are counted by address and by the name that is tried, in a table of fixed size. Knows no
//! password.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use daemun_pipeline::Carry;

/// Places of the table. Two that share one slow each other down; whoever guesses cannot choose with whom.
const PLACES: usize = 1 << 14;
/// Nanoseconds that each failure costs.
const COST: u64 = 2_000_000_000;
/// Nanoseconds of failures that nobody has to wait for.
const FREE: u64 = 10 * COST;

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

/// A name and a password that are tried.
#[derive(Clone, Copy)]
pub(crate) struct Try<'a> {
    pub(crate) address: IpAddr,
    /// The name that is tried, whether there is one such or not.
    pub(crate) name: &'a str,
    /// Nanoseconds of a clock that never goes back.
    pub(crate) now: u64,
}

/// What failures are counted for.
#[derive(Clone, Copy, Hash)]
enum Who<'a> {
    /// An address; of IPv6, a network of 64 bits.
    Address(u128),
    Name(Alike<'a>),
}

/// A name as it is counted: a place may hold names for the same that are written in other letters, or with spaces around.
#[derive(Clone, Copy)]
struct Alike<'a>(&'a str);

impl Hash for Alike<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.trim().chars().flat_map(char::to_lowercase).for_each(|letter| letter.hash(state));
    }
}

/// What was counted before it was known whether it is a failure.
pub(crate) struct Charge<'a> {
    place: Option<&'a AtomicU64>,
    cost: u64,
}

impl Charge<'_> {
    /// Takes it back.
    pub(crate) fn give_back(self) {
        if let Some(place) = self.place {
            let less = |until: u64| Some(until.saturating_sub(self.cost));
            let _ = place.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        }
    }
}

impl Try<'_> {
    fn who(&self) -> [Who<'_>; 2] {
        let address = match self.address.to_canonical() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
            IpAddr::V6(ip) => ip.to_bits() >> 64 << 64,
        };
        [Who::Address(address), Who::Name(Alike(self.name))]
    }
}

/// How many seconds to wait where failures cost until a moment; `None` for not at all.
fn wait(until: u64, now: u64) -> Option<u64> {
    let over = until.saturating_sub(now).saturating_sub(FREE);
    (over > 0).then(|| over.div_ceil(1_000_000_000))
}

impl Throttle {
    /// The one of the running gateway: for one password there is one, wherever it is shown.
    pub(crate) fn of(carry: &Carry) -> Arc<Throttle> {
        carry.get_or("passwords", "throttle", Throttle::default)
    }

    fn place(&self, who: Who<'_>) -> Option<&AtomicU64> {
        let hash = usize::try_from(self.secret.hash_one(who) % PLACES as u64).ok()?;
        self.places.get(hash)
    }

    /// How many seconds to wait before the next try; `None` for not at all.
    pub(crate) fn wait(&self, tried: &Try<'_>) -> Option<u64> {
        let places = tried.who().into_iter().filter_map(|who| self.place(who));
        places.filter_map(|place| wait(place.load(Ordering::Acquire), tried.now)).max()
    }

    /// Counts a failure, unless whoever tries has to wait by now: then how many seconds, and the caller is to be told no more than that.
    /// Of tries that come at once no more are judged than of tries that come one after another.
    pub(crate) fn failed(&self, tried: &Try<'_>) -> Option<u64> {
        let charged = tried.who().map(|who| self.charge(who, COST, tried.now));
        charged.into_iter().filter_map(Result::err).max()
    }

    /// The same for the address alone.
    pub(crate) fn failed_from(&self, tried: &Try<'_>) -> Option<u64> {
        let [address, _] = tried.who();
        self.charge(address, COST, tried.now).err()
    }

    /// Counts failures for the name alone, before it is known whether they are some.
    ///
    /// # Errors
    /// How many seconds to wait; nothing was counted then.
    pub(crate) fn charge_name(&self, tried: &Try<'_>, failures: u64) -> Result<Charge<'_>, u64> {
        self.charge(Who::Name(Alike(tried.name)), COST * failures, tried.now)
    }

    fn charge(&self, who: Who<'_>, cost: u64, now: u64) -> Result<Charge<'_>, u64> {
        let Some(place) = self.place(who) else { return Ok(Charge { place: None, cost }) };
        let next = |until: u64| wait(until, now).is_none().then(|| until.max(now).saturating_add(cost));
        match place.fetch_update(Ordering::AcqRel, Ordering::Acquire, next) {
            Ok(_) => Ok(Charge { place: Some(place), cost }),
            Err(until) => Err(wait(until, now).unwrap_or(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000;

    fn tried(address: u8, name: &str) -> Try<'_> {
        Try { address: [10, 0, 0, address].into(), name, now: NOW }
    }

    #[test]
    fn whoever_fails_often_waits_and_nobody_else_does() {
        let throttle = Throttle::default();
        let (guesser, other) = (tried(1, "a"), tried(2, "b"));
        for _ in 0..11 {
            assert_eq!(throttle.wait(&guesser), None);
            assert_eq!(throttle.failed(&guesser), None);
        }
        for _ in 0..10_000 {
            assert_eq!(throttle.failed(&guesser), Some(2), "who waits is not judged, and does not wait longer for it");
        }
        assert_eq!(throttle.wait(&guesser), Some(2));
        assert_eq!((throttle.wait(&tried(1, "b")), throttle.wait(&tried(2, " A "))), (Some(2), Some(2)));
        assert_eq!(throttle.wait(&Try { now: NOW + COST, ..guesser }), None);
        assert_eq!(throttle.wait(&other), None);
    }

    #[test]
    fn what_is_counted_before_and_given_back_costs_nothing() {
        let throttle = Throttle::default();
        let guesser = tried(1, "a");
        for _ in 0..100 {
            throttle.charge_name(&guesser, 9).ok().unwrap().give_back();
        }
        let charges: Vec<_> = (0..3).map(|_| throttle.charge_name(&guesser, 9).err()).collect();
        assert_eq!(charges, [None, None, Some(16)]);
        assert_eq!(throttle.wait(&tried(1, "b")), None, "the address is not counted for");
    }

    #[test]
    fn of_tries_at_once_no_more_are_judged_than_one_after_another() {
        let throttle = Throttle::default();
        let judged = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        if throttle.failed(&tried(1, "a")).is_none() {
                            judged.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(judged.load(Ordering::Relaxed), 11);
    }
}
