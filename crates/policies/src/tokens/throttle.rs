//! Slows down whoever guesses passwords: failures are counted by address, by network and by the name that is tried, in tables of fixed size,
//! and nobody else's hold up who logged in from an address before. Knows no password.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use daemun_pipeline::Carry;

/// Places of a table. Two that share one slow each other down; whoever guesses cannot choose with whom.
const PLACES: usize = 1 << 14;
/// Nanoseconds that each failure costs an address or a name.
const COST: u64 = 2_000_000_000;
/// What it costs a network of IPv6, whose owner has as many addresses as they like.
const NETWORK_COST: u64 = COST / 8;
/// What it costs who logged in from an address before, which nobody else's failures do.
const KNOWN_COST: u64 = COST * 3;
/// Nanoseconds of failures that nobody has to wait for.
const FREE: u64 = 10 * COST;

type Table = Box<[AtomicU64]>;

/// Failures of the last while: for each place, when it has none left that count.
pub(crate) struct Throttle {
    /// Addresses; of IPv6, networks of 64 bits.
    addresses: Table,
    /// Networks of IPv6, of 48 bits.
    networks: Table,
    names: Table,
    /// Addresses with names that logged in there.
    pairs: Table,
    /// Which pairs have: for each place, the one that did so last.
    known: Table,
    /// When nobody has to wait any more.
    last: AtomicU64,
    secret: RandomState,
}

impl Default for Throttle {
    fn default() -> Throttle {
        let table = || std::iter::repeat_with(AtomicU64::default).take(PLACES).collect();
        Throttle {
            addresses: table(),
            networks: table(),
            names: table(),
            pairs: table(),
            known: table(),
            last: AtomicU64::new(0),
            secret: RandomState::new(),
        }
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

impl Try<'_> {
    /// What an address is counted as, and the network of one of IPv6.
    fn address(&self) -> (u128, Option<u128>) {
        match self.address.to_canonical() {
            IpAddr::V4(ip) => (ip.to_ipv6_mapped().to_bits(), None),
            IpAddr::V6(ip) => (ip.to_bits() >> 64 << 64, Some(ip.to_bits() >> 80 << 80)),
        }
    }
}

/// A name as it is counted: a place may hold names for the same that are written in other letters, or with spaces around.
#[derive(Clone, Copy)]
struct Alike<'a>(&'a str);

impl Hash for Alike<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.trim().chars().flat_map(char::to_lowercase).for_each(|letter| letter.hash(state));
    }
}

/// An address and a name.
#[derive(Clone, Copy)]
pub(crate) struct Pair(u64);

/// Where failures are counted, and what one costs there.
#[derive(Clone, Copy)]
struct Place<'a> {
    until: &'a AtomicU64,
    cost: u64,
}

/// What was counted before it was known whether it is a failure.
pub(crate) struct Charge<'a>(Option<Place<'a>>);

impl Charge<'_> {
    /// Takes it back.
    pub(crate) fn give_back(self) {
        if let Some(Place { until, cost }) = self.0 {
            let less = |until: u64| Some(until.saturating_sub(cost));
            let _ = until.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        }
    }
}

/// How many seconds to wait where failures cost until a moment; `None` for not at all.
fn wait(until: u64, now: u64) -> Option<u64> {
    let over = until.saturating_sub(now).saturating_sub(FREE);
    (over > 0).then(|| over.div_ceil(1_000_000_000))
}

fn at(table: &Table, hash: u64) -> Option<&AtomicU64> {
    table.get(usize::try_from(hash % PLACES as u64).ok()?)
}

impl Throttle {
    /// The one of the running gateway: for one password there is one, wherever it is shown.
    pub(crate) fn of(carry: &Carry) -> Arc<Throttle> {
        carry.get_or("passwords", "throttle", Throttle::default)
    }

    /// How many seconds to wait before the next try; `None` for not at all. One load while nobody guesses.
    #[inline]
    pub(crate) fn wait(&self, tried: &Try<'_>) -> Option<u64> {
        if tried.now >= self.last.load(Ordering::Acquire) { None } else { self.wait_of(tried) }
    }

    #[cold]
    fn wait_of(&self, tried: &Try<'_>) -> Option<u64> {
        let places = match self.of_known(tried) {
            Some(known) => [Some(known), None, None],
            None => {
                let [address, network] = self.of_address(tried);
                [address, network, self.of_name(tried)]
            }
        };
        places.into_iter().flatten().filter_map(|place| wait(place.until.load(Ordering::Acquire), tried.now)).max()
    }

    /// The address and the name of a try; one hash.
    pub(crate) fn pair(&self, tried: &Try<'_>) -> Pair {
        // no place holds zero before it holds a pair
        Pair(self.secret.hash_one((tried.address().0, Alike(tried.name))) | 1)
    }

    /// Notes that the name was let in from the address: others' failures hold it up there no more.
    pub(crate) fn succeeded(&self, Pair(pair): Pair) {
        if let Some(place) = at(&self.known, pair).filter(|place| place.load(Ordering::Relaxed) != pair) {
            place.store(pair, Ordering::Relaxed);
        }
    }

    /// Counts a failure, unless whoever tries has to wait by now: then how many seconds, and the caller is to be told no more than that.
    /// Of tries that come at once no more are judged than of tries that come one after another.
    pub(crate) fn failed(&self, tried: &Try<'_>) -> Option<u64> {
        let [address, network] = self.of_address(tried);
        let known = self.of_known(tried);
        let of_address = [address, network].map(|place| self.charge(place, tried.now).err());
        match known {
            Some(known) => self.charge(Some(known), tried.now).err(),
            None => of_address.into_iter().flatten().max().max(self.charge(self.of_name(tried), tried.now).err()),
        }
    }

    /// The same for the address alone.
    pub(crate) fn failed_from(&self, tried: &Try<'_>) -> Option<u64> {
        let of_address = self.of_address(tried).map(|place| self.charge(place, tried.now).err());
        of_address.into_iter().flatten().max().filter(|_| self.of_known(tried).is_none())
    }

    /// Counts failures for the name alone, before it is known whether they are some.
    ///
    /// # Errors
    /// How many seconds to wait; nothing was counted then.
    pub(crate) fn charge_name(&self, tried: &Try<'_>, failures: u64) -> Result<Charge<'_>, u64> {
        let place = self.of_known(tried).or_else(|| self.of_name(tried));
        self.charge(place.map(|place| Place { cost: COST * failures, ..place }), tried.now)
    }

    fn of_address(&self, tried: &Try<'_>) -> [Option<Place<'_>>; 2] {
        let (address, network) = tried.address();
        let address = at(&self.addresses, self.secret.hash_one(address));
        let network = network.and_then(|network| at(&self.networks, self.secret.hash_one(network)));
        [address.map(|until| Place { until, cost: COST }), network.map(|until| Place { until, cost: NETWORK_COST })]
    }

    fn of_name(&self, tried: &Try<'_>) -> Option<Place<'_>> {
        let until = at(&self.names, self.secret.hash_one(Alike(tried.name)))?;
        Some(Place { until, cost: COST })
    }

    /// The place of a name with its address, where it was let in from there before.
    fn of_known(&self, tried: &Try<'_>) -> Option<Place<'_>> {
        let Pair(pair) = self.pair(tried);
        let known = at(&self.known, pair)?.load(Ordering::Relaxed) == pair;
        let until = at(&self.pairs, pair).filter(|_| known)?;
        Some(Place { until, cost: KNOWN_COST })
    }

    fn charge<'a>(&self, place: Option<Place<'a>>, now: u64) -> Result<Charge<'a>, u64> {
        let Some(Place { until, cost }) = place else { return Ok(Charge(None)) };
        let next = |until: u64| wait(until, now).is_none().then(|| until.max(now).saturating_add(cost));
        match until.fetch_update(Ordering::AcqRel, Ordering::Acquire, next) {
            Ok(before) => {
                let until = before.max(now).saturating_add(cost);
                if wait(until, now).is_some() {
                    self.last.fetch_max(until.saturating_sub(FREE), Ordering::AcqRel);
                }
                Ok(Charge(place))
            }
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

    #[test]
    fn who_logged_in_from_an_address_is_held_up_by_nobody_elses_failures() {
        let throttle = Throttle::default();
        let alice = tried(1, "alice");
        throttle.succeeded(throttle.pair(&alice));
        for other in 2..200 {
            throttle.failed(&tried(other, "Alice "));
            throttle.failed(&tried(1, &format!("name-{other}")));
        }
        assert_eq!(throttle.wait(&tried(1, "bob")), Some(2));
        assert_eq!(throttle.wait(&tried(201, "alice")), Some(2));
        assert_eq!(throttle.wait(&alice), None);
        let judged = (0..100).filter(|_| throttle.failed(&alice).is_none()).count();
        assert_eq!((judged, throttle.wait(&alice)), (4, Some(4)), "her own do, and sooner");
        assert_eq!(throttle.wait(&Try { now: NOW + 2 * COST, ..alice }), None);
    }

    #[test]
    fn no_flood_of_names_and_addresses_holds_up_who_logged_in_before() {
        let throttle = Throttle::default();
        let alice = tried(1, "alice");
        throttle.succeeded(throttle.pair(&alice));
        for number in 0..20 * PLACES as u32 {
            let name = format!("name-{number}");
            let from = Try { address: std::net::Ipv4Addr::from_bits(number).into(), name: &name, now: NOW };
            throttle.failed(&from);
        }
        assert!(throttle.wait(&tried(2, "carol")).is_some(), "the tables are not full");
        assert_eq!(throttle.wait(&alice), None);
    }

    #[test]
    fn networks_of_one_owner_are_counted_together() {
        let throttle = Throttle::default();
        let from = |network: u16, subnet: u16| -> IpAddr { [0x2001, 0xdb8, network, subnet, 0, 0, 0, 1].into() };
        let mut judged = 0;
        for subnet in 0..1000 {
            let name = format!("name-{subnet}");
            judged += usize::from(throttle.failed(&Try { address: from(1, subnet), name: &name, now: NOW }).is_none());
        }
        assert_eq!(judged, 81);
        assert_eq!(throttle.wait(&Try { address: from(1, 5000), name: "a", now: NOW }), Some(1));
        assert_eq!(throttle.wait(&Try { address: from(2, 0), name: "a", now: NOW }), None);
    }
}
