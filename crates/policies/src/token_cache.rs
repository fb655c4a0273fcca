//! Who the bearers of tokens are that were looked at before, so that a token is verified once. Bounded, shared by all threads, read without
//! a lock. A token is found by comparing all of it; knows not how tokens are verified.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use daemun_pipeline::Identity;

use crate::claims::Span;

/// Places that a token may stand in.
const WAYS: usize = 4;
/// Bytes at a token's end that its place is found by: of a signature, which is as good as random and cannot be chosen.
const TAIL: usize = 32;

/// A token that was verified.
#[derive(Debug)]
struct Entry {
    token: Box<[u8]>,
    span: Span,
    /// What it was verified with.
    key: u64,
    identity: Arc<Identity>,
}

/// Tokens and their bearers.
pub(crate) struct TokenCache {
    /// A hash of the token in each place; of those that differ none is looked at.
    tags: Box<[AtomicU64]>,
    entries: Box<[ArcSwapOption<Entry>]>,
    /// Unknown outside, so that nobody can aim at places or learn from the time it takes how much of a token is right.
    seeds: [u64; 2],
}

impl std::fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenCache").field("places", &self.tags.len()).finish_non_exhaustive()
    }
}

impl TokenCache {
    /// For so many tokens, rounded up to a power of two; 0 for none.
    pub(crate) fn new(tokens: usize) -> TokenCache {
        let places = if tokens == 0 { 0 } else { tokens.next_power_of_two().max(WAYS) };
        let random = RandomState::new();
        TokenCache {
            tags: std::iter::repeat_with(AtomicU64::default).take(places).collect(),
            entries: std::iter::repeat_with(ArcSwapOption::empty).take(places).collect(),
            seeds: [random.hash_one(0u64), random.hash_one(1u64)],
        }
    }

    /// The bearer of a token that was verified, still holds, and was verified with a key that is still known. Allocates nothing.
    #[inline]
    pub(crate) fn find(&self, token: &[u8], now: u64, is_known: impl Fn(u64) -> bool) -> Option<Arc<Identity>> {
        let tag = self.tag(token);
        let first = self.first(tag);
        for at in first..first + WAYS {
            if self.tags.get(at)?.load(Ordering::Relaxed) != tag {
                continue;
            }
            let entry = self.entries.get(at)?.load();
            if let Some(entry) = &*entry
                && *entry.token == *token
                && entry.span.holds(now)
                && is_known(entry.key)
            {
                return Some(Arc::clone(&entry.identity));
            }
        }
        None
    }

    /// Keeps the bearer of a token, in place of one that does not hold any more, or else of any.
    pub(crate) fn keep(&self, token: &[u8], span: Span, key: u64, identity: &Arc<Identity>, now: u64) {
        let tag = self.tag(token);
        let first = self.first(tag);
        let free = |at: &usize| {
            let of = self.tags.get(*at).map_or(0, |tag| tag.load(Ordering::Relaxed));
            let holds = |entry: &ArcSwapOption<Entry>| entry.load().as_ref().is_some_and(|entry| entry.span.holds(now));
            of == 0 || of == tag || !self.entries.get(*at).is_some_and(holds)
        };
        // bits of the hash that its place does not depend on
        let at = (first..first + WAYS).find(free).unwrap_or(first + (tag >> 62) as usize);
        if let (Some(known), Some(entry)) = (self.tags.get(at), self.entries.get(at)) {
            let new = Entry { token: token.into(), span, key, identity: Arc::clone(identity) };
            entry.store(Some(Arc::new(new)));
            known.store(tag, Ordering::Relaxed);
        }
    }

    fn first(&self, tag: u64) -> usize {
        let sets = (self.tags.len() / WAYS).max(1);
        (tag as usize & (sets - 1)) * WAYS
    }

    /// A hash of the end of a token, never 0.
    #[inline]
    fn tag(&self, token: &[u8]) -> u64 {
        let tail = token.get(token.len().saturating_sub(TAIL)..).unwrap_or_default();
        let (words, rest) = tail.as_chunks::<8>();
        let mut last = [0; 8];
        last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        let mut state = self.seeds[0] ^ token.len() as u64;
        for word in words.iter().chain((!rest.is_empty()).then_some(&last)) {
            let wide = u128::from(state ^ u64::from_le_bytes(*word)) * u128::from(self.seeds[1] | 1);
            state = (wide as u64) ^ ((wide >> 64) as u64);
        }
        state.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALWAYS: Span = Span { from: 0, until: u64::MAX };

    fn identity(name: &str) -> Arc<Identity> {
        Arc::new(Identity { subject: name.into(), ..Identity::default() })
    }

    fn token(n: usize) -> String {
        format!("eyJhbGciOiJIUzI1NiJ9.{n}.{:043}", n * 7919)
    }

    #[test]
    fn a_token_is_found_again_and_no_other() {
        let cache = TokenCache::new(64);
        cache.keep(token(1).as_bytes(), ALWAYS, 7, &identity("ann"), 0);
        let found = |token: &str| cache.find(token.as_bytes(), 5, |key| key == 7).map(|found| found.subject.clone());
        assert_eq!(found(&token(1)).as_deref(), Some("ann"));
        assert_eq!(found(&token(2)), None);
        assert_eq!(found(&token(1).replace("eyJ", "eyK")), None);
        let same_end = format!("x{}", token(1).get(1..).unwrap());
        assert_eq!(found(&same_end), None, "the end alone finds nothing");
        for short in ["", "a", "abcdefgh", "abcdefghi"] {
            cache.keep(short.as_bytes(), ALWAYS, 7, &identity(short), 0);
            assert_eq!(found(short).as_deref(), Some(short));
        }
    }

    #[test]
    fn a_token_is_gone_when_it_expires_and_when_its_key_does() {
        let cache = TokenCache::new(4);
        cache.keep(token(1).as_bytes(), Span { from: 10, until: 20 }, 7, &identity("ann"), 10);
        let found = |now: u64, known: u64| cache.find(token(1).as_bytes(), now, |key| key == known).is_some();
        assert!(found(10, 7) && found(19, 7));
        assert!(!found(20, 7), "expired");
        assert!(!found(9, 7), "the clock went back to before it begins");
        assert!(!found(15, 8), "its key is gone");
    }

    #[test]
    fn it_never_holds_more_than_it_has_places() {
        let cache = TokenCache::new(100);
        for n in 0..10_000 {
            cache.keep(token(n).as_bytes(), ALWAYS, 1, &identity("a"), 0);
            assert!(cache.find(token(n).as_bytes(), 0, |_| true).is_some(), "the newest is there");
        }
        let held = (0..10_000).filter(|n| cache.find(token(*n).as_bytes(), 0, |_| true).is_some()).count();
        assert!((64..=128).contains(&held), "{held}");
        let none = TokenCache::new(0);
        none.keep(b"a", ALWAYS, 1, &identity("a"), 0);
        assert!(none.find(b"a", 0, |_| true).is_none());
    }

    #[test]
    fn what_does_not_hold_any_more_makes_room_first() {
        let cache = TokenCache::new(4);
        cache.keep(token(0).as_bytes(), Span { from: 0, until: 10 }, 1, &identity("old"), 0);
        for n in 1..5 {
            cache.keep(token(n).as_bytes(), ALWAYS, 1, &identity("new"), 10);
        }
        for n in 1..5 {
            assert!(cache.find(token(n).as_bytes(), 10, |_| true).is_some(), "{n}");
        }
    }
}
