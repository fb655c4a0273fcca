//! What lasts until a moment unless it is ended before, and is kept by its holder alone, such as a browser's session in its cookie: which were
//! ended, until that moment is over. Knows no clock.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Ended ones that are remembered at most; what comes beyond is not taken, and nothing is forgotten for it.
const MOST: usize = 1 << 20;
/// Those whose moment is over that are forgotten for each new one.
const FORGOTTEN: usize = 8;
/// In a store, before the moment, so that those that are over stand together.
pub(crate) const KIND: &str = "ended";

/// What tells one from all others: bytes that nobody chooses freely.
pub(crate) type Id = [u8; 16];

/// Those that were ended.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    until: papaya::HashMap<Id, u64>,
    /// The same, the soonest first.
    ends: Mutex<BinaryHeap<Reverse<(u64, Id)>>>,
    /// How many ever were.
    count: AtomicU64,
}

impl Ended {
    /// Whether one was ended. No lock and no allocation.
    pub(crate) fn has(&self, id: &Id) -> bool {
        !self.until.is_empty() && self.until.pin().contains_key(id)
    }

    /// Goes up behind each that was ended.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Whether there is no room for another.
    pub(crate) fn is_full(&self, now: u64) -> bool {
        self.forget(now);
        self.until.len() >= MOST
    }

    /// Notes one that would last until a moment, milliseconds since the Unix epoch.
    pub(crate) fn note(&self, id: Id, until: u64, now: u64) {
        self.forget(now);
        if until <= now {
            return;
        }
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.until.pin();
        let before = known.get(&id).copied();
        if before.is_some_and(|before| before >= until) {
            return;
        }
        known.insert(id, until);
        ends.push(Reverse((until, id)));
        if before.is_none() {
            self.count.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn forget(&self, now: u64) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.until.pin();
        for _ in 0..FORGOTTEN {
            let Some(Reverse((until, id))) = ends.peek().copied().filter(|Reverse((until, _))| *until <= now) else {
                return;
            };
            ends.pop();
            // one that was noted again lasts longer
            if known.get(&id) == Some(&until) {
                known.remove(&id);
            }
        }
    }
}

/// Its name in a store.
pub(crate) fn name(id: &Id, until: u64) -> String {
    format!("{KIND}:{until:016x}:{:032x}", u128::from_be_bytes(*id))
}

/// Reads what [`name`] writes behind the kind.
pub(crate) fn parse(name: &str) -> Option<Id> {
    let (_, digits) = name.split_once(':')?;
    let is_id = digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_id.then(|| u128::from_str_radix(digits, 16).ok().map(u128::to_be_bytes))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_ended_stays_so_until_its_moment_is_over_and_is_forgotten_then() {
        let ended = Ended::default();
        assert!(!ended.has(&[1; 16]));
        ended.note([1; 16], 100, 10);
        ended.note([1; 16], 50, 10);
        ended.note([2; 16], 100, 10);
        assert_eq!((ended.has(&[1; 16]), ended.has(&[2; 16]), ended.count()), (true, true, 2));
        ended.note([1; 16], 300, 20);
        ended.note([3; 16], 5, 20);
        assert_eq!((ended.has(&[3; 16]), ended.count()), (false, 2), "over already, and known already");
        assert!(!ended.is_full(100));
        assert_eq!((ended.has(&[1; 16]), ended.has(&[2; 16])), (true, false));
        assert!(!ended.is_full(300) && !ended.has(&[1; 16]) && ended.until.is_empty());
    }

    #[test]
    fn a_name_in_a_store_is_read_again_and_sorted_by_its_end() {
        let id = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255];
        let written = name(&id, 1_800_000_000_000);
        assert_eq!(written.split_once(':').and_then(|(kind, rest)| (kind == KIND).then(|| parse(rest))?), Some(id));
        assert!(written < name(&[0; 16], 1_800_000_000_001));
        for wrong in ["", "a", "00:zz", "00:é", "00:+0000000000000000000000000000000"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
