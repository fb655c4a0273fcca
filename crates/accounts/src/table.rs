//! What a digest stands for, found with one look into memory: with very many callers each look takes longer than all else that is done for a
//! call. Read without a lock; knows not what stands in it.
//!
//! Open addressing (Knuth, The Art of Computer Programming, volume 3, section 6.4) in shards that grow each for itself. A place is one line
//! of the processor's caches. It is written once, and not used again until its shard is made anew: whoever reads never finds a part of one
//! thing and a part of another. What was taken out of it stays in memory until then.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::{ArcSwapOption, Guard};
use daemun_sys::prefetch;

use crate::text::Digest;

/// Enough that making one anew is short, few enough that where they stand stays in the processor's caches.
const SHARDS: usize = 256;
/// Places of the smallest shard that has any.
const LEAST: usize = 4;
/// The first word of a place that has no digest yet, and of one that has none any more.
const FREE: u64 = 0;
const GONE: u64 = u64::MAX;

/// A place. Its first word is written behind all else, and again when what stands in it is taken out.
#[derive(Debug)]
#[repr(C, align(64))]
struct Place<T> {
    digest: [AtomicU64; 4],
    of: OnceLock<T>,
}

impl<T> Default for Place<T> {
    fn default() -> Place<T> {
        Place { digest: Default::default(), of: OnceLock::new() }
    }
}

type Places<T> = Box<[Place<T>]>;

/// How many of a shard's places are not free, and in how many of them something stands.
#[derive(Clone, Copy, Debug, Default)]
struct Filled {
    used: usize,
    live: usize,
}

/// The table.
pub(crate) struct ByDigest<T> {
    /// Of each shard, side by side.
    places: Box<[ArcSwapOption<Places<T>>]>,
    /// Held by whoever changes a shard.
    filled: Box<[Mutex<Filled>]>,
}

/// A shard that is changed.
struct Shard<'a, T> {
    places: &'a ArcSwapOption<Places<T>>,
    filled: MutexGuard<'a, Filled>,
}

impl<T> std::fmt::Debug for ByDigest<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ByDigest").finish_non_exhaustive()
    }
}

impl<T> Default for ByDigest<T> {
    fn default() -> ByDigest<T> {
        ByDigest {
            places: std::iter::repeat_with(ArcSwapOption::empty).take(SHARDS).collect(),
            filled: std::iter::repeat_with(Mutex::default).take(SHARDS).collect(),
        }
    }
}

/// Where something was found. It stays as it was; of what is changed in it, some may be lost while the shard is made anew.
pub(crate) struct Spot<T> {
    places: Guard<Option<Arc<Places<T>>>>,
    at: usize,
}

impl<T> Spot<T> {
    /// What was found; always there.
    #[inline]
    pub(crate) fn get(&self) -> Option<&T> {
        self.places.as_ref()?.get(self.at)?.of.get()
    }
}

impl<T: Clone> ByDigest<T> {
    /// Where a digest stands. No lock, no allocation.
    #[inline]
    pub(crate) fn find(&self, digest: &Digest) -> Option<Spot<T>> {
        let words = words(digest);
        let places = self.places.get(shard_of(&words))?.load();
        let at = seek(places.as_ref()?, &words)?;
        Some(Spot { places, at })
    }

    /// Has something stand for a digest, at once; gives what did before.
    pub(crate) fn insert(&self, digest: &Digest, of: T) -> Option<T> {
        let words = words(digest);
        let mut shard = self.change(&words)?;
        let known = shard.places.load_full().filter(|places| 2 * (shard.filled.used + 1) <= places.len());
        let places = known.unwrap_or_else(|| shard.renew());
        let before = seek(&places, &words).and_then(|at| places.get(at));
        // behind what it takes the place of: whoever passes by that finds this
        put(&places, &words, of);
        *shard.filled = Filled { used: shard.filled.used + 1, live: shard.filled.live + 1 };
        before.and_then(|before| take(before, &mut shard.filled))
    }

    /// Has nothing stand for a digest; gives what did.
    pub(crate) fn remove(&self, digest: &Digest) -> Option<T> {
        let words = words(digest);
        let mut shard = self.change(&words)?;
        let places = shard.places.load_full()?;
        let before = seek(&places, &words).and_then(|at| places.get(at));
        let before = before.and_then(|before| take(before, &mut shard.filled));
        let Filled { used, live } = *shard.filled;
        // no more of what is gone stays in memory than there is of what is not, and no more room than that has need of
        if used - live > live + LEAST || places.len() > LEAST && 16 * live < places.len() {
            shard.renew();
        }
        before
    }

    fn change(&self, words: &[u64; 4]) -> Option<Shard<'_, T>> {
        let at = shard_of(words);
        let filled = self.filled.get(at)?.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Shard { places: self.places.get(at)?, filled })
    }
}

/// By bits that the place in it does not depend on.
#[inline]
fn shard_of(words: &[u64; 4]) -> usize {
    words[1] as usize % SHARDS
}

impl<T: Clone> Shard<'_, T> {
    /// Makes it anew, with room, of what was not taken out.
    fn renew(&mut self) -> Arc<Places<T>> {
        let room = (3 * (self.filled.live + 1)).next_power_of_two().max(LEAST);
        let places: Places<T> = std::iter::repeat_with(Place::default).take(room).collect();
        let mut live = 0;
        for place in self.places.load().as_ref().into_iter().flat_map(|old| old.iter()) {
            let digest = place.digest.each_ref().map(|word| word.load(Ordering::Acquire));
            if let Some(of) = place.of.get().filter(|_| digest[0] != GONE) {
                put(&places, &digest, of.clone());
                live += 1;
            }
        }
        *self.filled = Filled { used: live, live };
        let places = Arc::new(places);
        self.places.store(Some(Arc::clone(&places)));
        places
    }
}

/// Where a digest stands.
#[inline]
fn seek<T>(places: &[Place<T>], words: &[u64; 4]) -> Option<usize> {
    let last = places.len().wrapping_sub(1);
    let mut at = words[0] as usize & last;
    // it ends at a place that is free, of which there are always some
    for _ in 0..places.len() {
        let (place, next) = (places.get(at)?, (at + 1) & last);
        places.get(next).into_iter().for_each(prefetch);
        let first = place.digest[0].load(Ordering::Acquire);
        let rest = || place.digest.iter().zip(words).skip(1).all(|(own, word)| own.load(Ordering::Relaxed) == *word);
        if first == words[0] && rest() {
            return Some(at);
        }
        if first == FREE {
            return None;
        }
        at = next;
    }
    None
}

/// Puts something into the first place that is free.
fn put<T>(places: &[Place<T>], words: &[u64; 4], of: T) {
    let start = words[0] as usize;
    let mut in_turn = (0..places.len()).filter_map(|step| places.get(start.wrapping_add(step) & (places.len() - 1)));
    let Some(place) = in_turn.find(|place| place.digest[0].load(Ordering::Relaxed) == FREE) else { return };
    let _ = place.of.set(of);
    for (stored, word) in place.digest.iter().zip(words).rev() {
        stored.store(*word, Ordering::Release);
    }
}

/// Takes out what stands in a place.
fn take<T: Clone>(place: &Place<T>, filled: &mut Filled) -> Option<T> {
    place.digest[0].store(GONE, Ordering::Release);
    filled.live = filled.live.saturating_sub(1);
    place.of.get().cloned()
}

/// A digest is as good as random, so that it is its own hash. Its first word is neither [`FREE`] nor [`GONE`]: one that is stands as its
/// neighbour, and is taken for that one where all else is the same.
#[inline]
fn words(digest: &Digest) -> [u64; 4] {
    let (chunks, _) = digest.as_chunks::<8>();
    let [first, rest @ ..] = [0, 1, 2, 3].map(|at| chunks.get(at).map_or(0, |chunk| u64::from_le_bytes(*chunk)));
    let [second, third, fourth] = rest;
    [first.clamp(FREE + 1, GONE - 1), second, third, fourth]
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use daemun_seeded::{Random, seeds};

    use super::*;

    type Numbers = ByDigest<Arc<u64>>;

    impl Numbers {
        fn get(&self, digest: &Digest) -> Option<Arc<u64>> {
            self.find(digest)?.get().cloned()
        }
    }

    /// Of one shard, where `apart` is 1, and with so few first words that many begin at the same place.
    fn digest(number: u64, apart: u64) -> Digest {
        let mut digest = [0; 32];
        let words = [number % 7, number % apart, number, 0];
        digest.chunks_mut(8).zip(words).for_each(|(to, word)| to.copy_from_slice(&word.to_le_bytes()));
        digest
    }

    #[test]
    fn a_place_is_a_line_of_the_caches() {
        assert_eq!(size_of::<Place<[u64; 3]>>(), 64);
        assert_eq!(align_of::<Place<[u64; 3]>>(), 64);
    }

    #[test]
    fn it_does_what_a_map_does() {
        for seed in seeds() {
            let mut random = Random::new(seed);
            let (table, mut map) = (Numbers::default(), HashMap::new());
            let (apart, many) = (1 + random.below(300), 1 + random.below(60));
            for step in 0..400 {
                let digest = digest(random.below(many), apart);
                match random.below(3) {
                    0 => assert_eq!(table.remove(&digest), map.remove(&digest)),
                    1 => assert_eq!(table.insert(&digest, Arc::new(step)), map.insert(digest, Arc::new(step))),
                    _ => assert_eq!(table.get(&digest), map.get(&digest).cloned()),
                }
            }
            for number in 0..many {
                let digest = digest(number, apart);
                assert_eq!(table.get(&digest), map.get(&digest).cloned(), "seed {seed}");
            }
        }
    }

    #[test]
    fn what_was_cleared_is_let_go_of_and_room_is_given_back() {
        let table = Numbers::default();
        let kept = Arc::new(1);
        (0..1_000).for_each(|number| {
            table.insert(&digest(number, 1), Arc::clone(&kept));
        });
        let places = || table.places[0].load().as_ref().map_or(0, |places| places.len());
        assert!((2_000..=4_096).contains(&places()), "{}", places());
        (0..1_000).for_each(|number| {
            table.remove(&digest(number, 1));
        });
        assert!(Arc::strong_count(&kept) <= 2 + LEAST && places() <= 4 * LEAST, "{}", places());
        // one after the other, so that there is one at a time
        for number in 0..1_000 {
            table.insert(&digest(number, 1), Arc::clone(&kept));
            table.remove(&digest(number, 1));
        }
        assert!(Arc::strong_count(&kept) <= 2 + LEAST && places() <= 4 * LEAST, "{}", places());
    }

    #[test]
    fn what_is_there_is_found_whatever_else_changes() {
        let (table, done) = (Numbers::default(), AtomicBool::new(false));
        let stays = digest(1_000_000, 1);
        table.insert(&stays, Arc::new(0));
        thread::scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| {
                    let mut last = 0;
                    while !done.load(Ordering::Acquire) {
                        let now = *table.get(&stays).expect("it is always there");
                        assert!(now >= last, "{now} came before {last}");
                        last = now;
                    }
                });
            }
            for step in 1..20_000 {
                // it is put anew, and others come and go, so that the shard is made anew again and again
                table.insert(&stays, Arc::new(step));
                table.insert(&digest(step, 1), Arc::new(step));
                if step > 50 {
                    table.remove(&digest(step - 50, 1));
                }
            }
            done.store(true, Ordering::Release);
        });
        assert_eq!(table.get(&stays).as_deref(), Some(&19_999));
    }

    #[test]
    fn what_is_found_stays_as_it_was() {
        let table = Numbers::default();
        let of = digest(3, 1);
        table.insert(&of, Arc::new(1));
        let spot = table.find(&of).unwrap();
        (0..100).for_each(|number| {
            table.insert(&digest(number, 1), Arc::new(2));
        });
        table.remove(&of);
        assert!(spot.get().is_some_and(|found| **found == 1) && table.get(&of).is_none());
    }

    #[test]
    fn a_digest_may_begin_with_anything() {
        let table = Numbers::default();
        let all = [0, 1, 2, u64::MAX - 2, u64::MAX - 1, u64::MAX].map(|first: u64| {
            let mut digest = [7; 32];
            digest[..8].copy_from_slice(&first.to_le_bytes());
            // all else is never the same
            digest[31] = first as u8;
            digest
        });
        for (number, digest) in (0..).zip(&all) {
            assert_eq!(table.insert(digest, Arc::new(number)), None);
        }
        for (number, digest) in (0..).zip(&all) {
            assert_eq!((table.remove(digest), table.get(digest)), (Some(Arc::new(number)), None));
        }
    }
}
