//! What was presented already and may not be presented again, until it would be refused for its age. Knows no signature and no clock.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::sync::{Mutex, PoisonError};

/// Parts that are locked apart, so that workers seldom meet.
const PARTS: usize = 64;

/// What tells one that was presented from others: bytes that nobody chooses freely.
pub(crate) type Mark = [u8; 16];

/// Bounded memory of what was presented. One leaves only when its time is over; while it is full, nothing new is taken. Shared by workers:
/// a mark is looked up and noted in one step, or two workers could both take it.
#[derive(Debug)]
pub(crate) struct Replay {
    parts: Box<[Mutex<Part>]>,
    /// Marks that a part holds at most.
    most: usize,
}

#[derive(Debug, Default)]
struct Part {
    known: HashSet<Mark>,
    /// Those marks, soonest over first.
    times: BinaryHeap<Reverse<(u64, Mark)>>,
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
    /// Room for so many marks.
    pub(crate) fn new(most: usize) -> Replay {
        let parts = std::iter::repeat_with(Mutex::default).take(PARTS).collect();
        Replay { parts, most: most.div_ceil(PARTS).max(1) }
    }

    /// Notes a mark that is refused for its age from `until` on; times are of one clock.
    pub(crate) fn note(&self, mark: Mark, until: u64, now: u64) -> Seen {
        let Some(part) = self.part(&mark) else { return Seen::Full };
        let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(Reverse((over, old))) = part.times.peek().copied().filter(|Reverse((over, _))| *over < now) {
            let _ = over;
            part.times.pop();
            part.known.remove(&old);
        }
        if part.known.contains(&mark) {
            return Seen::Again;
        }
        if part.known.len() >= self.most {
            return Seen::Full;
        }
        part.known.insert(mark);
        part.times.push(Reverse((until, mark)));
        Seen::First
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_presented_is_refused_until_its_time_is_over() {
        let replay = Replay::new(1_000);
        assert_eq!(replay.note([1; 16], 100, 10), Seen::First);
        assert_eq!(replay.note([1; 16], 100, 100), Seen::Again);
        assert!(replay.has(&[1; 16]) && !replay.has(&[2; 16]));
        assert_eq!(replay.note([1; 16], 200, 101), Seen::First);
    }

    #[test]
    fn a_full_memory_takes_nothing_new_and_forgets_nothing() {
        let replay = Replay::new(PARTS * 2);
        let mark = |n: u8| [&[0], &[n; 15][..]].concat().try_into().unwrap();
        assert_eq!(replay.note(mark(1), 100, 0), Seen::First);
        assert_eq!(replay.note(mark(2), 50, 0), Seen::First);
        assert_eq!(replay.note(mark(3), 100, 0), Seen::Full);
        assert_eq!((replay.note(mark(1), 100, 50), replay.note(mark(2), 50, 50)), (Seen::Again, Seen::Again));
        assert_eq!(replay.note(mark(3), 100, 51), Seen::First);
        assert_eq!(replay.note(mark(1), 100, 51), Seen::Again);
    }

    #[test]
    fn of_many_threads_one_is_first() {
        let replay = Replay::new(10_000);
        let first = |_| (0..200_u8).filter(|n| replay.note([*n; 16], 10, 0) == Seen::First).count();
        let counts: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|n| scope.spawn(move || first(n))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(counts, 200);
    }

    proptest! {
        #[test]
        fn it_does_as_a_plain_table_would(steps in proptest::collection::vec((0_u8..4, 0_u64..20, 0_u64..5), 0..200)) {
            let (replay, mut table, mut now) = (Replay::new(PARTS * 3), HashMap::<u8, u64>::new(), 0);
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
                let mark = [&[0], &[n; 15][..]].concat().try_into().unwrap();
                prop_assert_eq!(replay.note(mark, now + lasts, now), wanted);
            }
        }
    }
}
