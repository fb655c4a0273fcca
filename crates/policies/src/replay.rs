//! What was presented already and may not be presented again, until it would be refused for its age. Knows no signature and no clock.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use daemun_pipeline::{ConsumerId, World};

/// Parts that are locked apart, so that workers seldom meet.
const PARTS: usize = 64;

/// What tells one that was presented from others: bytes that nobody chooses freely.
pub(crate) type Mark = [u8; 16];

/// Bounded memory of what was presented. One leaves only when its time is over; while it is full, nothing new is taken. No owner of marks
/// has more of them than its share, nor than what is still free: so none can fill it for the others. Shared by workers: a mark is looked up
/// and noted in one step, or two workers could both take it.
#[derive(Debug)]
pub(crate) struct Replay {
    parts: Box<[Mutex<Part>]>,
    /// Marks that one owner has in a part at most.
    share: AtomicUsize,
    /// How many shares there are.
    shares: usize,
    /// How long a mark is kept at least once it was made, by the caller's clock.
    lasts: AtomicU64,
    /// Marks of all parts.
    held: AtomicUsize,
    /// Whether it was told that it is crowded.
    told: AtomicBool,
}

#[derive(Debug, Default)]
struct Part {
    known: HashSet<Mark>,
    /// Those marks with their owners, soonest over first.
    times: BinaryHeap<Reverse<(u64, Mark, u64)>>,
    /// How many each owner has.
    owners: HashMap<u64, usize>,
}

/// What became of a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It was new, and is noted.
    First,
    /// It was there already.
    Again,
    /// There is no room to note it.
    Full,
}

impl Replay {
    /// Room for so many marks of one owner, and for so many shares of that size.
    pub(crate) fn new(share: usize, shares: usize) -> Replay {
        let parts = std::iter::repeat_with(Mutex::default).take(PARTS).collect();
        let memory = Replay {
            parts,
            share: AtomicUsize::new(0),
            shares,
            lasts: AtomicU64::new(0),
            held: AtomicUsize::new(0),
            told: AtomicBool::new(false),
        };
        memory.widen(share, 0);
        memory
    }

    /// Serves one more that asks for this share, and for marks to be kept so long: of all the largest counts. A memory for each would let
    /// in at one what another has seen.
    pub(crate) fn widen(&self, share: usize, lasts: u64) {
        self.share.fetch_max(share.div_ceil(PARTS).max(1), Ordering::Relaxed);
        self.lasts.fetch_max(lasts, Ordering::Relaxed);
    }

    /// Until when a mark made then is kept.
    pub(crate) fn until(&self, made: u64) -> u64 {
        made.saturating_add(self.lasts.load(Ordering::Relaxed))
    }

    /// Notes a mark of an owner that is refused for its age from `until` on; times are of one clock.
    pub(crate) fn note(&self, mark: Mark, owner: u64, until: u64, now: u64) -> Seen {
        let Some(part) = self.part(&mark) else { return Seen::Full };
        let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
        let over = part.forget(now);
        self.held.fetch_sub(over, Ordering::Relaxed);
        if part.known.contains(&mark) {
            return Seen::Again;
        }
        let share = self.share.load(Ordering::Relaxed);
        let free = share.saturating_mul(self.shares).saturating_sub(part.known.len());
        let own = part.owners.get(&owner).copied().unwrap_or_default();
        if own >= share.min(free) {
            return Seen::Full;
        }
        part.owners.insert(owner, own + 1);
        part.known.insert(mark);
        part.times.push(Reverse((until, mark, owner)));
        self.held.fetch_add(1, Ordering::Relaxed);
        Seen::First
    }

    /// Whether it has come to hold four fifths of one share: once, until it is half empty again.
    pub(crate) fn becomes_crowded(&self) -> bool {
        let (held, share) = (self.held.load(Ordering::Relaxed), self.share.load(Ordering::Relaxed) * PARTS);
        if held >= share / 5 * 4 {
            return !self.told.load(Ordering::Relaxed) && !self.told.swap(true, Ordering::Relaxed);
        }
        if held < share / 2 && self.told.load(Ordering::Relaxed) {
            self.told.store(false, Ordering::Relaxed);
        }
        false
    }

    /// Whether a mark is there; notes nothing.
    pub(crate) fn has(&self, mark: &Mark) -> bool {
        let part = self.part(mark).map(|part| part.lock().unwrap_or_else(PoisonError::into_inner));
        part.is_some_and(|part| part.known.contains(mark))
    }

    fn part(&self, mark: &Mark) -> Option<&Mutex<Part>> {
        let first = mark.first().copied().unwrap_or_default();
        self.parts.get(usize::from(first) % PARTS)
    }
}

/// Shares that there are for the consumers of a policy.
pub(crate) const SHARES: usize = 2;

/// What consumers have signed, and who is told when there is little room left.
pub(crate) struct Remembered {
    pub(crate) replay: Arc<Replay>,
    pub(crate) world: Arc<dyn World>,
    /// The policy that remembers.
    pub(crate) policy: &'static str,
}

impl Remembered {
    /// Notes a signature of a consumer.
    pub(crate) fn note(&self, mark: Mark, consumer: ConsumerId, until: u64, now: u64) -> Seen {
        let seen = self.replay.note(mark, consumer.0.into(), until, now);
        if seen == Seen::First && self.replay.becomes_crowded() {
            let text = "four fifths of `replay_entries` signatures are remembered; a consumer that alone has all of them is refused with 503";
            self.world.tell(self.policy, format!("{text}: allow for more, or for a shorter `clock_skew`"));
        }
        seen
    }
}

impl Part {
    /// Forgets the marks whose time is over; how many.
    fn forget(&mut self, now: u64) -> usize {
        let mut count = 0;
        while let Some(Reverse((_, mark, owner))) = self.times.peek().copied().filter(|Reverse((over, ..))| *over < now)
        {
            self.times.pop();
            self.known.remove(&mark);
            if let Some(own) = self.owners.get_mut(&owner) {
                *own = own.saturating_sub(1);
                if *own == 0 {
                    self.owners.remove(&owner);
                }
            }
            count += 1;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_presented_is_refused_until_its_time_is_over() {
        let replay = Replay::new(1_000, 2);
        assert_eq!(replay.note([1; 16], 0, 100, 10), Seen::First);
        assert_eq!(replay.note([1; 16], 0, 100, 100), Seen::Again);
        assert!(replay.has(&[1; 16]) && !replay.has(&[2; 16]));
        assert_eq!(replay.note([1; 16], 0, 200, 101), Seen::First);
    }

    #[test]
    fn a_full_memory_takes_nothing_new_and_forgets_nothing() {
        let replay = Replay::new(PARTS * 2, 2);
        assert_eq!(replay.note(mark(1), 0, 100, 0), Seen::First);
        assert_eq!(replay.note(mark(2), 0, 50, 0), Seen::First);
        assert_eq!(replay.note(mark(3), 0, 100, 0), Seen::Full);
        assert_eq!((replay.note(mark(1), 0, 100, 50), replay.note(mark(2), 0, 50, 50)), (Seen::Again, Seen::Again));
        assert_eq!(replay.note(mark(3), 0, 100, 51), Seen::First);
        assert_eq!(replay.note(mark(1), 0, 100, 51), Seen::Again);
    }

    #[test]
    fn of_many_threads_one_is_first() {
        let replay = Replay::new(10_000, 2);
        let first = |_| (0..200_u8).filter(|n| replay.note([*n; 16], 0, 10, 0) == Seen::First).count();
        let counts: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|n| scope.spawn(move || first(n))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(counts, 200);
    }

    fn mark(n: u8) -> Mark {
        [&[0], &[n; 15][..]].concat().try_into().unwrap()
    }

    #[test]
    fn no_owner_fills_it_for_the_others() {
        let replay = Replay::new(PARTS * 8, 2);
        let took = |owner: u64, marks: std::ops::Range<u8>| {
            marks.filter(|n| replay.note(mark(*n), owner, 100, 0) == Seen::First).count()
        };
        assert_eq!(took(1, 0..50), 8, "its share");
        assert_eq!(took(2, 50..100), 4, "as many as are free then");
        assert_eq!(took(3, 100..150), 2);
        assert_eq!(took(4, 150..200), 1);
        assert_eq!(took(1, 200..220), 0);
        assert_eq!(replay.note(mark(0), 5, 100, 0), Seen::Again, "whoever shows it");
        assert_eq!(replay.note(mark(221), 1, 300, 101), Seen::First, "what is over is not counted");
    }

    #[test]
    fn of_all_that_it_serves_the_largest_counts() {
        let replay = Replay::new(PARTS, 2);
        replay.widen(PARTS * 3, 50);
        replay.widen(PARTS * 2, 20);
        assert_eq!(replay.until(100), 150);
        let first = (0..10).filter(|n| replay.note(mark(*n), 1, 100, 0) == Seen::First).count();
        assert_eq!(first, 3);
    }

    #[test]
    fn it_is_told_once_when_four_fifths_are_taken() {
        let replay = Replay::new(PARTS * 10, 2);
        let spread = |n: u16| [&n.to_be_bytes()[1..], &n.to_be_bytes(), &[0; 13]].concat().try_into().unwrap();
        let told = |marks: std::ops::Range<u16>, until: u64, now: u64| -> Vec<u16> {
            let noted = marks.filter(|n| {
                assert_eq!(replay.note(spread(*n), 1, until, now), Seen::First);
                replay.becomes_crowded()
            });
            noted.collect()
        };
        assert_eq!(told(0..640, 100, 0), [511]);
        assert_eq!(told(1_000..1_640, 300, 200).len(), 1, "again, once it was empty");
    }

    proptest! {
        #[test]
        fn it_does_as_a_plain_table_would(steps in proptest::collection::vec((0_u8..4, 0_u64..20, 0_u64..5), 0..200)) {
            let (replay, mut table, mut now) = (Replay::new(PARTS * 3, 2), HashMap::<u8, u64>::new(), 0);
            for (n, lasts, passes) in steps {
                now += passes;
                table.retain(|_, until| *until >= now);
                let wanted = if table.contains_key(&n) {
                    Seen::Again
                } else if table.len() >= 3 {
                    Seen::Full
                } else {
                    table.insert(n, now + lasts);
                    Seen::First
                };
                prop_assert_eq!(replay.note(mark(n), 0, now + lasts, now), wanted);
            }
        }
    }
}
