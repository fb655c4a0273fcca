//! What a digest stands for, found with one look into memory: with very many callers each look takes longer than all else that is done for a
//! call. Read without a lock; knows not what stands in it.
//!
//! Open addressing (Knuth, The Art of Computer Programming, volume 3, section 6.4) in shards that grow each for itself. A place is one line
//! of the processor's caches, has its digest once and for all, and is not used again until its shard is made anew: whoever reads never finds
//! a part of one thing and a part of another.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwapOption, Guard};
use daemun_sys::prefetch;

use crate::text::Digest;

/// Enough that making one anew is short, few enough that their heads stay in the processor's caches.
const SHARDS: usize = 256;
/// Places of the smallest shard that has any.
const LEAST: usize = 4;

/// What stands in a place, beside its digest; empty at first, and once it is cleared.
pub(crate) trait Slot: Default + Send + Sync {
    /// What is put into it.
    type Of;

    fn fill(&self, of: Self::Of);

    /// What stands in it, unless it is empty.
    fn of(&self) -> Option<Self::Of>;

    fn clear(&self);
}

/// A place. Its digest is written before the first word of it, and what stands in it before that.
#[derive(Debug, Default)]
#[repr(C, align(64))]
struct Place<S> {
    digest: [AtomicU64; 4],
    slot: S,
}

impl<S> Place<S> {
    #[inline]
    fn is_of(&self, words: &[u64; 4]) -> bool {
        // the first one is known to be the same
        self.digest.iter().zip(words).skip(1).all(|(stored, word)| stored.load(Ordering::Relaxed) == *word)
    }
}

type Places<S> = Box<[Place<S>]>;

#[derive(Debug)]
struct Shard<S> {
    places: ArcSwapOption<Places<S>>,
    /// Held by whoever changes it.
    filled: Mutex<Filled>,
}

/// How many of a shard's places have a digest, and how many of those are not cleared.
#[derive(Clone, Copy, Debug, Default)]
struct Filled {
    used: usize,
    live: usize,
}

/// The table.
pub(crate) struct ByDigest<S> {
    shards: Box<[Shard<S>]>,
}

impl<S> std::fmt::Debug for ByDigest<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ByDigest").finish_non_exhaustive()
    }
}

impl<S: Slot> Default for ByDigest<S> {
    fn default() -> ByDigest<S> {
        let shard = || Shard { places: ArcSwapOption::empty(), filled: Mutex::default() };
        ByDigest { shards: std::iter::repeat_with(shard).take(SHARDS).collect() }
    }
}

/// A place that was found. What is changed in its slot may be lost where the shard is made anew.
pub(crate) struct Spot<S> {
    places: Guard<Option<Arc<Places<S>>>>,
    at: usize,
}

impl<S> Spot<S> {
    pub(crate) fn slot(&self) -> Option<&S> {
        self.places.as_ref()?.get(self.at).map(|place| &place.slot)
    }
}

impl<S: Slot> ByDigest<S> {
    /// What `look` finds in the slot of a digest, and where; it finds nothing in one that is empty. No lock, no allocation.
    #[inline]
    pub(crate) fn find<R>(&self, digest: &Digest, look: impl Fn(&S) -> Option<R>) -> Option<(R, Spot<S>)> {
        let words = words(digest);
        let places = self.shard(&words)?.places.load();
        let all = places.as_ref()?;
        let (at, found) = seek(all, &words, look)?;
        Some((found, Spot { places, at }))
    }

    /// What stands for a digest.
    pub(crate) fn get(&self, digest: &Digest) -> Option<S::Of> {
        self.find(digest, S::of).map(|(of, _)| of)
    }

    /// Has something stand for a digest, at once; gives what did before.
    pub(crate) fn insert(&self, digest: &Digest, of: S::Of) -> Option<S::Of> {
        let words = words(digest);
        let shard = self.shard(&words)?;
        let mut filled = shard.filled.lock().unwrap_or_else(PoisonError::into_inner);
        let known = shard.places.load_full().filter(|places| 2 * (filled.used + 1) <= places.len());
        let places = known.unwrap_or_else(|| shard.renew(&mut filled));
        // whoever passes by what is cleared finds what came behind it
        let before = seek(&places, &words, S::of);
        put(&places, &words, of);
        filled.used += 1;
        match before {
            Some((at, before)) => {
                places.get(at).into_iter().for_each(|place| place.slot.clear());
                Some(before)
            }
            None => {
                filled.live += 1;
                None
            }
        }
    }

    /// Has nothing stand for a digest; gives what did.
    pub(crate) fn remove(&self, digest: &Digest) -> Option<S::Of> {
        let words = words(digest);
        let shard = self.shard(&words)?;
        let mut filled = shard.filled.lock().unwrap_or_else(PoisonError::into_inner);
        let places = shard.places.load_full()?;
        let (at, before) = seek(&places, &words, S::of)?;
        places.get(at).into_iter().for_each(|place| place.slot.clear());
        filled.live -= 1;
        if places.len() > LEAST && 16 * filled.live < places.len() {
            shard.renew(&mut filled);
        }
        Some(before)
    }

    #[inline]
    fn shard(&self, words: &[u64; 4]) -> Option<&Shard<S>> {
        // by bits that the place in it does not depend on
        self.shards.get(words[1] as usize % SHARDS)
    }
}

impl<S: Slot> Shard<S> {
    /// Makes it anew, with room, of what is not cleared.
    fn renew(&self, filled: &mut Filled) -> Arc<Places<S>> {
        let room = (3 * (filled.live + 1)).next_power_of_two().max(LEAST);
        let places: Places<S> = std::iter::repeat_with(Place::default).take(room).collect();
        *filled = Filled::default();
        for place in self.places.load().as_ref().into_iter().flat_map(|old| old.iter()) {
            let Some(of) = place.slot.of() else { continue };
            let digest = [0, 1, 2, 3].map(|at| place.digest.get(at).map_or(0, |word| word.load(Ordering::Acquire)));
            put(&places, &digest, of);
            *filled = Filled { used: filled.used + 1, live: filled.live + 1 };
        }
        let places = Arc::new(places);
        self.places.store(Some(Arc::clone(&places)));
        places
    }
}

/// The first place of a digest in whose slot something is found.
#[inline]
fn seek<S, R>(places: &[Place<S>], words: &[u64; 4], look: impl Fn(&S) -> Option<R>) -> Option<(usize, R)> {
    let last = places.len().wrapping_sub(1);
    let mut at = words[0] as usize & last;
    // it ends at a place that has no digest, of which there are always some
    for _ in 0..places.len() {
        let place = places.get(at)?;
        let next = (at + 1) & last;
        places.get(next).into_iter().for_each(prefetch);
        match place.digest[0].load(Ordering::Acquire) {
            0 => return None,
            first if first == words[0] && place.is_of(words) => {
                if let Some(found) = look(&place.slot) {
                    return Some((at, found));
                }
            }
            _ => {}
        }
        at = next;
    }
    None
}

/// Puts something into the first place that has no digest.
fn put<S: Slot>(places: &[Place<S>], words: &[u64; 4], of: S::Of) {
    let start = words[0] as usize;
    let in_turn = (0..places.len()).filter_map(|step| places.get((start + step) & (places.len() - 1)));
    let Some(place) = in_turn.into_iter().find(|place| place.digest[0].load(Ordering::Relaxed) == 0) else { return };
    place.slot.fill(of);
    for (stored, word) in place.digest.iter().zip(words).rev() {
        stored.store(*word, Ordering::Release);
    }
}

/// A digest is as good as random, so that it is its own hash. Whether there is one is told by its first word: that of a digest is never 0, and
/// two that differ in nothing but a first word of 0 and of 1 are the same here.
#[inline]
fn words(digest: &Digest) -> [u64; 4] {
    let (chunks, _) = digest.as_chunks::<8>();
    let [first, rest @ ..] = [0, 1, 2, 3].map(|at| chunks.get(at).map_or(0, |chunk| u64::from_le_bytes(*chunk)));
    let [second, third, fourth] = rest;
    [first.max(1), second, third, fourth]
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use daemun_seeded::{Random, seeds};

    use super::*;

    #[derive(Default)]
    struct Number(ArcSwapOption<u64>);

    impl Slot for Number {
        type Of = Arc<u64>;

        fn fill(&self, of: Arc<u64>) {
            self.0.store(Some(of));
        }

        fn of(&self) -> Option<Arc<u64>> {
            self.0.load_full()
        }

        fn clear(&self) {
            self.0.store(None);
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
        assert_eq!(size_of::<Place<[u64; 4]>>(), 64);
        assert_eq!(align_of::<Place<[u64; 4]>>(), 64);
    }

    #[test]
    fn it_does_what_a_map_does() {
        for seed in seeds() {
            let mut random = Random::new(seed);
            let (table, mut map) = (ByDigest::<Number>::default(), HashMap::new());
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
        let table = ByDigest::<Number>::default();
        let kept = Arc::new(1);
        (0..1_000).for_each(|number| {
            table.insert(&digest(number, 1), Arc::clone(&kept));
        });
        let places = || table.shards[0].places.load().as_ref().map_or(0, |places| places.len());
        assert!((2_000..=4_096).contains(&places()), "{}", places());
        (0..1_000).for_each(|number| {
            table.remove(&digest(number, 1));
        });
        assert_eq!((Arc::strong_count(&kept), places()), (1, LEAST));
        // one after the other, so that there is one at a time
        for number in 0..1_000 {
            table.insert(&digest(number, 1), Arc::clone(&kept));
            table.remove(&digest(number, 1));
        }
        assert_eq!((Arc::strong_count(&kept), places()), (1, LEAST));
    }

    #[test]
    fn what_is_there_is_found_whatever_else_changes() {
        let (table, done) = (ByDigest::<Number>::default(), AtomicBool::new(false));
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
        let table = ByDigest::<Number>::default();
        let of = digest(3, 1);
        table.insert(&of, Arc::new(1));
        let (found, spot) = table.find(&of, |slot| Some(slot.0.load())).unwrap();
        (0..100).for_each(|number| {
            table.insert(&digest(number, 1), Arc::new(2));
        });
        table.remove(&of);
        assert_eq!(found.as_deref(), Some(&1));
        assert!(spot.slot().is_some() && table.get(&of).is_none());
    }
}
