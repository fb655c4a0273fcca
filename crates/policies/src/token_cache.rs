//! Who the bearers of tokens are that were looked at before, so that a token that comes often is not verified often. Bounded, shared by all
//! threads, read without a lock. A token is found by comparing all of it; knows not how tokens are verified.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use daemun_pipeline::Identity;

use crate::claims::Span;

/// Places that a token may stand in.
const WAYS: usize = 4;
/// Of so many that ask for the place of another one may take it, whichever it is.
const TURNS: u32 = 8;
/// Bytes at a token's end that its place is found by: of a signature, which is as good as random and cannot be chosen.
const TAIL: usize = 32;

/// A token that was verified.
struct Entry {
    token: Arc<[u8]>,
    span: Span,
    /// What it was verified with.
    key: u64,
    identity: Arc<Identity>,
}

/// Where a token stands, with what is looked at of those that are not the one asked for.
#[derive(Default)]
struct Place {
    /// A hash of the token; 0 where there never was one.
    tag: AtomicU64,
    /// When it ends.
    until: AtomicU64,
    /// The last one that would have taken the place and was not let, and in the lowest bits how many were not since one was.
    asked: AtomicU32,
    /// Whether the token was found since somebody wanted its place.
    used: AtomicBool,
    entry: ArcSwapOption<Entry>,
}

/// Tokens and their bearers.
pub(crate) struct TokenCache {
    /// As many as a power of two, or none.
    sets: Box<[[Place; WAYS]]>,
    /// Unknown outside, so that nobody can aim at places or learn from the time it takes how much of a token is right.
    seeds: [u64; 2],
}

impl std::fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenCache").field("places", &(self.sets.len() * WAYS)).finish_non_exhaustive()
    }
}

impl TokenCache {
    /// For so many tokens, rounded up to a power of two; 0 for none.
    pub(crate) fn new(tokens: usize) -> TokenCache {
        let sets = if tokens == 0 { 0 } else { tokens.div_ceil(WAYS).next_power_of_two() };
        let random = RandomState::new();
        TokenCache {
            sets: std::iter::repeat_with(Default::default).take(sets).collect(),
            seeds: [random.hash_one(0u64), random.hash_one(1u64)],
        }
    }

    /// The bearer of a token that was verified, still holds, and was verified with a key that is still known. Allocates nothing.
    #[inline]
    pub(crate) fn find(&self, token: &[u8], now: u64, is_known: impl Fn(u64) -> bool) -> Option<Arc<Identity>> {
        let tag = self.tag(token);
        for place in self.set(tag)? {
            if place.tag.load(Ordering::Relaxed) != tag {
                continue;
            }
            if let Some(entry) = &*place.entry.load()
                && *entry.token == *token
                && entry.span.holds(now)
                && is_known(entry.key)
            {
                // written once, so that the line stays with all threads
                if !place.used.load(Ordering::Relaxed) {
                    place.used.store(true, Ordering::Relaxed);
                }
                return Some(Arc::clone(&entry.identity));
            }
        }
        None
    }

    /// Keeps the bearer of a token as [`TokenCache::keep`] does, but in the place of one that has not ended only where it comes again, or
    /// as one of eight, and then of one that nobody used lately: many that come once do not drive out those that are used, and cost less.
    pub(crate) fn offer(
        &self,
        token: impl Into<Arc<[u8]>> + AsRef<[u8]>,
        span: Span,
        key: u64,
        identity: &Arc<Identity>,
        now: u64,
    ) {
        let tag = self.tag(token.as_ref());
        let Some(set) = self.set(tag) else { return };
        let place = match set.iter().find(|place| place.is_free(tag, now)) {
            Some(free) => free,
            None => match place_of(set, tag).filter(|place| place.lets(tag)).and_then(|_| unused(set)) {
                Some(place) => place,
                None => return,
            },
        };
        place.take(tag, Entry { token: token.into(), span, key, identity: Arc::clone(identity) });
    }

    /// Keeps the bearer of a token, in place of one that has ended, or else of any.
    pub(crate) fn keep(&self, token: impl Into<Arc<[u8]>>, span: Span, key: u64, identity: &Arc<Identity>, now: u64) {
        let token = token.into();
        let tag = self.tag(&token);
        let Some(set) = self.set(tag) else { return };
        let free = set.iter().find(|place| place.is_free(tag, now));
        if let Some(place) = free.or_else(|| place_of(set, tag)) {
            place.take(tag, Entry { token, span, key, identity: Arc::clone(identity) });
        }
    }

    #[inline]
    fn set(&self, tag: u64) -> Option<&[Place; WAYS]> {
        self.sets.get(tag as usize & self.sets.len().wrapping_sub(1))
    }

    /// A hash of the end of a token, never 0.
    #[inline]
    fn tag(&self, token: &[u8]) -> u64 {
        let padded;
        let tail = match token.last_chunk::<TAIL>() {
            Some(tail) => tail,
            None => {
                padded = padded_tail(token);
                &padded
            }
        };
        let (words, _) = tail.as_chunks::<8>();
        let [a, b, c, d] = [0, 1, 2, 3].map(|at| words.get(at).map_or(0, |word| u64::from_le_bytes(*word)));
        let [first, second] = self.seeds;
        let state = folded(a ^ first ^ token.len() as u64, b ^ second);
        folded(c ^ first ^ state, d ^ second).max(1)
    }
}

impl Place {
    /// Whether nothing is lost where this token stands here.
    fn is_free(&self, tag: u64, now: u64) -> bool {
        let of = self.tag.load(Ordering::Relaxed);
        of == 0 || of == tag || self.until.load(Ordering::Relaxed) <= now
    }

    /// Whether a token may have the place of another, since it asked here before, or nobody that did was let for long.
    fn lets(&self, tag: u64) -> bool {
        let (asked, tag) = (self.asked.load(Ordering::Relaxed), tag as u32 / TURNS);
        let turn = asked % TURNS + 1;
        let lets = turn > 1 && asked / TURNS == tag || turn == TURNS;
        self.asked.store(if lets { 0 } else { tag * TURNS + turn }, Ordering::Relaxed);
        lets
    }

    fn take(&self, tag: u64, entry: Entry) {
        let until = entry.span.until;
        self.entry.store(Some(Arc::new(entry)));
        self.until.store(until, Ordering::Relaxed);
        self.used.store(false, Ordering::Relaxed);
        self.tag.store(tag, Ordering::Relaxed);
    }
}

/// A place whose token was not used since somebody wanted one here; those in front of it have to be used again to stay again.
fn unused(set: &[Place; WAYS]) -> Option<&Place> {
    set.iter().find(|place| !place.used.swap(false, Ordering::Relaxed))
}

/// The place of another that a token would take, by bits of the hash that its set does not depend on.
fn place_of(set: &[Place; WAYS], tag: u64) -> Option<&Place> {
    set.get((tag >> 62) as usize)
}

#[cold]
fn padded_tail(token: &[u8]) -> [u8; TAIL] {
    let mut tail = [0; TAIL];
    tail.iter_mut().zip(token).for_each(|(to, from)| *to = *from);
    tail
}

/// Both halves of a product.
#[inline]
fn folded(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    (wide as u64) ^ ((wide >> 64) as u64)
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
        none.keep(b"a".as_slice(), ALWAYS, 1, &identity("a"), 0);
        assert!(none.find(b"a", 0, |_| true).is_none());
    }

    /// A full memory of four, and whether one of them is found, and what becomes of one that is offered.
    fn full() -> (TokenCache, impl Fn(&TokenCache, usize) -> bool, impl Fn(&TokenCache, usize)) {
        let cache = TokenCache::new(4);
        (0..4).for_each(|n| cache.keep(token(n).as_bytes(), Span { from: 0, until: 10 }, 1, &identity("a"), 0));
        let has = |cache: &TokenCache, n: usize| cache.find(token(n).as_bytes(), 0, |_| true).is_some();
        let offer = |cache: &TokenCache, n: usize| cache.offer(token(n).as_bytes(), ALWAYS, 1, &identity("a"), 0);
        (cache, has, offer)
    }

    #[test]
    fn what_is_offered_takes_the_place_of_another_where_it_comes_again() {
        let (cache, has, offer) = full();
        offer(&cache, 4);
        assert!(!has(&cache, 4), "it came once");
        offer(&cache, 4);
        assert!(has(&cache, 4) && (0..4).filter(|n| has(&cache, *n)).count() == 3);
        cache.offer(token(5).as_bytes(), ALWAYS, 1, &identity("a"), 10);
        assert!(has(&cache, 5), "others have ended");
        TokenCache::new(0).offer(b"a".as_slice(), ALWAYS, 1, &identity("a"), 0);
    }

    #[test]
    fn many_that_come_once_drive_out_only_what_is_not_used() {
        let (cache, has, offer) = full();
        let mut kept = 0;
        for n in 4..8_004 {
            assert!(has(&cache, 1) && has(&cache, 2), "used between any two others: {n}");
            offer(&cache, n);
            kept += usize::from(has(&cache, n));
        }
        assert!(!has(&cache, 0) && !has(&cache, 3));
        assert!((100..=8_000 / TURNS as usize).contains(&kept), "one of eight for each place: {kept}");
    }

    #[test]
    fn of_many_that_come_in_turns_some_get_a_place() {
        let (cache, has, offer) = full();
        let mut found = 0;
        for _ in 0..100 {
            for n in 4..12 {
                if has(&cache, n) {
                    found += 1;
                } else {
                    offer(&cache, n);
                }
            }
        }
        assert!(found > 100, "{found} of 800, where four places would do for 400");
    }

    #[test]
    fn what_was_used_stays_once() {
        let (cache, has, offer) = full();
        assert!((0..4).all(|n| has(&cache, n)));
        (0..2).for_each(|_| offer(&cache, 4));
        let held = |n: &usize| {
            let tag = cache.tag(token(*n).as_bytes());
            cache.set(tag).is_some_and(|set| set.iter().any(|place| place.tag.load(Ordering::Relaxed) == tag))
        };
        assert!((0..4).all(|n| held(&n)) && !held(&4), "all were used");
        (0..2).for_each(|_| offer(&cache, 4));
        assert!(held(&4), "and nobody since");
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
