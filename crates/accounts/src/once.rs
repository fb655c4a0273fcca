//! What is good once until it ends by itself, such as an assertion of others: remembered until then, and forgotten. Knows no clock.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::{Mutex, PoisonError};

use crate::text::{Digest, digest};

/// Things that are remembered at most; what comes beyond is not taken, and nothing that was used is forgotten for it.
const MOST: usize = 1 << 20;
/// Ended ones that are forgotten for each new one.
const FORGOTTEN: usize = 8;
/// In a store, before the moment that it ends in, so that those that ended stand together.
pub(crate) const KIND: &str = "once";

/// Those that were used, and when they end.
#[derive(Debug, Default)]
pub(crate) struct Once(Mutex<Used>);

#[derive(Debug, Default)]
struct Used {
    until: HashMap<Digest, u64>,
    /// The same, the soonest first.
    ends: BinaryHeap<Reverse<(u64, Digest)>>,
}

/// What became of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It was not used before, and is now.
    First,
    /// It was used before.
    Again,
    /// It cannot be remembered, since too many are.
    Full,
}

impl Once {
    /// Uses one that ends at a moment, in milliseconds; one that ended is as new.
    pub(crate) fn take(&self, of: Digest, until: u64, now: u64) -> Taken {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        used.forget(now);
        if used.until.get(&of).is_some_and(|until| now < *until) {
            return Taken::Again;
        }
        if used.until.len() >= MOST {
            return Taken::Full;
        }
        used.note(of, until);
        Taken::First
    }

    /// Notes one that a store has, or another process used.
    pub(crate) fn note(&self, of: Digest, until: u64, now: u64) {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        used.forget(now);
        let known = used.until.get(&of).copied().unwrap_or(0);
        if now < until && known < until {
            used.note(of, until);
        }
    }
}

impl Used {
    fn note(&mut self, of: Digest, until: u64) {
        self.until.insert(of, until);
        self.ends.push(Reverse((until, of)));
    }

    fn forget(&mut self, now: u64) {
        for _ in 0..FORGOTTEN {
            let Some(Reverse((until, of))) = self.ends.peek().copied().filter(|Reverse((until, _))| *until <= now)
            else {
                return;
            };
            self.ends.pop();
            // one that was noted again ends later
            if self.until.get(&of) == Some(&until) {
                self.until.remove(&of);
            }
        }
    }
}

/// What one is known by: a digest, so that a name of any length takes the same room.
pub(crate) fn digest_of(kind: &str, name: &str) -> Digest {
    digest(format!("{kind}:{name}").as_bytes())
}

/// Its name in a store.
pub(crate) fn name(of: &Digest, until: u64) -> String {
    let digits: String = of.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{KIND}:{until:016x}:{digits}")
}

/// Reads what [`name`] writes behind the kind.
pub(crate) fn parse(name: &str) -> Option<Digest> {
    let (_, digits) = name.split_once(':')?;
    let mut digest = Digest::default();
    if digits.len() != digest.len() * 2 {
        return None;
    }
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(at * 2..at * 2 + 2)?, 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_good_once_until_it_ends_and_is_forgotten_then() {
        let once = Once::default();
        let of = digest_of("saml", "a");
        assert_eq!(once.take(of, 100, 10), Taken::First);
        assert_eq!((once.take(of, 100, 99), once.take(of, 500, 99)), (Taken::Again, Taken::Again));
        assert_eq!(once.take(digest_of("saml", "b"), 100, 99), Taken::First);
        assert_eq!(once.take(of, 200, 100), Taken::First);
        assert_eq!(once.take(of, 200, 199), Taken::Again);
        assert_eq!(once.0.lock().unwrap().until.len(), 1);
    }

    #[test]
    fn what_a_store_has_is_used_and_nothing_takes_it_back() {
        let once = Once::default();
        let of = digest_of("saml", "a");
        once.note(of, 100, 10);
        once.note(of, 50, 10);
        assert_eq!(once.take(of, 100, 60), Taken::Again);
        once.note(of, 300, 100);
        assert_eq!(once.take(of, 300, 299), Taken::Again);
    }

    #[test]
    fn a_name_in_a_store_is_read_again_and_sorted_by_its_end() {
        let of = digest_of("saml", "a");
        let written = name(&of, 1_800_000_000_000);
        assert_eq!(written.split_once(':').and_then(|(kind, rest)| (kind == KIND).then(|| parse(rest))?), Some(of));
        assert!(written < name(&Digest::default(), 1_800_000_000_001));
        for wrong in ["", "a", "00:zz", "00:é"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
