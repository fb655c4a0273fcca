//! Where answers are kept: a bound on their memory, what was not used for longest leaves first. Shared by all workers; they meet at a lock
//! only when an answer is put in or looked for. Knows nothing of HTTP.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use daemun_config::model;
use daemun_pipeline::{Exchange, Method};
use hashlink::LruCache;

use super::key::{Asked, Digest};
use super::{Kept, SECOND};
use crate::clock::nanos;
use crate::snapshot::Route;

/// Places for moments of what was stored, and of what was changed.
const PLACES: usize = 4_096;
/// Calls that differ in their fields alone whose answers may be copied in a second.
const LOOKS: u64 = 15;
/// Bytes of an entry beside its answer.
const ENTRY: usize = 160;

/// Answers that are kept, and their bounds.
pub(crate) struct Store {
    keep: u64,
    /// Bytes of a body.
    max: u64,
    ignore: Box<[Box<str>]>,
    /// Bytes of all that is kept.
    capacity: usize,
    /// Bytes of all that is being copied at most.
    copying_most: usize,
    copying: AtomicUsize,
    seed: u64,
    /// Calls that were looked at closely: a part of their coarse number, the second, and how many they were.
    looked: Moments,
    /// When a copy of a call's answer was begun: a part of the call's number, and the second.
    begun: Moments,
    /// When what answers are about was changed through this gateway last. Others may share a place, so that an answer may be taken for
    /// outdated that is not.
    changed: Moments,
    shelf: Mutex<Shelf>,
}

type Moments = Box<[AtomicU64]>;

struct Shelf {
    entries: LruCache<Digest, Entry, RandomState>,
    used: usize,
}

enum Entry {
    Answer(Arc<Kept>),
    /// The answer depends on these fields, and stands where they are looked at too.
    Varies(Arc<[String]>),
}

impl Entry {
    fn size(&self) -> usize {
        ENTRY
            + match self {
                Entry::Answer(kept) => kept.size(),
                Entry::Varies(names) => names.iter().map(|name| name.len() + size_of::<String>()).sum(),
            }
    }
}

impl Store {
    pub(crate) fn new(config: &model::Cached) -> Store {
        let memory = usize::try_from(config.memory).unwrap_or(usize::MAX);
        let moments = || (0..PLACES).map(|_| AtomicU64::new(0)).collect::<Moments>();
        Store {
            keep: nanos(config.keep),
            max: config.max,
            ignore: config.ignore.iter().map(|name| name.as_str().into()).collect(),
            capacity: memory - memory / 4,
            copying_most: memory / 4,
            copying: AtomicUsize::new(0),
            seed: RandomState::new().hash_one(0),
            looked: moments(),
            begun: moments(),
            changed: moments(),
            shelf: Mutex::new(Shelf { entries: LruCache::with_hasher(usize::MAX, RandomState::new()), used: 0 }),
        }
    }

    /// Nanoseconds that an answer is kept at most.
    pub(super) fn keep(&self) -> u64 {
        self.keep
    }

    /// Bytes of a body that is kept at most.
    pub(super) fn max(&self) -> u64 {
        self.max
    }

    /// A call as it is known here.
    pub(super) fn asked<'a>(&'a self, exchange: &'a Exchange, route: &'a Route) -> Asked<'a> {
        Asked { exchange, route, ignore: &self.ignore }
    }

    /// What numbers of calls are drawn with.
    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    /// Whether it is worth a closer look whether the answer to a call of this coarse number may be copied: some a second are, so that those that
    /// differ in their fields alone have their turns. No lock; two workers may count one.
    pub(super) fn may_look(&self, coarse: u64, now: u64) -> bool {
        let Some(place) = place(&self.looked, coarse) else { return false };
        let moment = coarse & !0xffff_ffff | (now / SECOND) << 8 & 0xffff_ff00;
        let seen = place.load(Ordering::Relaxed);
        if seen & !0xff != moment {
            place.store(moment, Ordering::Relaxed);
            return true;
        }
        let more = seen & 0xff < LOOKS;
        if more {
            place.store(seen + 1, Ordering::Relaxed);
        }
        more
    }

    /// Whether an answer to the call of this number may be copied now: one a second is, whichever worker comes first. No lock.
    pub(super) fn may_copy(&self, call: u64, now: u64) -> bool {
        let Some(place) = place(&self.begun, call) else { return false };
        let moment = call & !0xffff_ffff | (now / SECOND) & 0xffff_ffff;
        let seen = place.load(Ordering::Relaxed);
        seen != moment && place.compare_exchange(seen, moment, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Notes that what these calls are about was changed: answers that were asked for before are not given any more (RFC 9111, section 4.4).
    pub(super) fn changed(&self, resource: u64, now: u64) {
        if let Some(place) = place(&self.changed, resource) {
            place.fetch_max(now, Ordering::AcqRel);
        }
    }

    /// Makes room for so many bytes more of what is being copied; says whether there is any.
    pub(super) fn reserve(&self, bytes: usize) -> bool {
        let add = |copying: usize| copying.checked_add(bytes).filter(|all| *all <= self.copying_most);
        self.copying.fetch_update(Ordering::AcqRel, Ordering::Relaxed, add).is_ok()
    }

    pub(super) fn release(&self, bytes: usize) {
        self.copying.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// Keeps an answer; `varied` is where it stands if it depends on fields that it names.
    pub(super) fn put(&self, call: Digest, varied: Option<Digest>, kept: Kept) {
        let names = kept.terms.vary.clone();
        let kept = Entry::Answer(Arc::new(kept));
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        match varied {
            None => shelf.put(call, kept),
            Some(varied) => {
                shelf.put(call, Entry::Varies(names.into()));
                shelf.put(varied, kept);
            }
        }
        while shelf.used > self.capacity {
            let Some((_, entry)) = shelf.entries.remove_lru() else { break };
            shelf.used -= entry.size();
        }
    }

    /// The last good answer to a call, if it may be given now.
    pub(crate) fn find(&self, exchange: &Exchange, route: &Route, now: u64) -> Option<Arc<Kept>> {
        let reads = matches!(exchange.request.method, Method::Get | Method::Head);
        if !reads || exchange.request.grpc {
            return None;
        }
        let asked = self.asked(exchange, route);
        let call = asked.digest();
        let kept = match self.look(&call)? {
            Entry::Answer(kept) => kept,
            Entry::Varies(names) => match self.look(&asked.varied(&call, &names))? {
                Entry::Answer(kept) => kept,
                Entry::Varies(_) => return None,
            },
        };
        let changed = place(&self.changed, kept.resource).map_or(0, |place| place.load(Ordering::Acquire));
        let holds = now < kept.until && changed < kept.received;
        (holds && kept.is_for(&exchange.request.head)).then_some(kept)
    }

    fn look(&self, call: &Digest) -> Option<Entry> {
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        Some(match shelf.entries.get(call)? {
            Entry::Answer(kept) => Entry::Answer(Arc::clone(kept)),
            Entry::Varies(names) => Entry::Varies(Arc::clone(names)),
        })
    }
}

impl Shelf {
    fn put(&mut self, call: Digest, entry: Entry) {
        self.used += entry.size();
        if let Some(before) = self.entries.insert(call, entry) {
            self.used -= before.size();
        }
    }
}

fn place(moments: &Moments, number: u64) -> Option<&AtomicU64> {
    moments.get(usize::try_from(number % PLACES as u64).ok()?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use daemun_pipeline::Head;

    use super::super::rules::Terms;
    use super::*;

    fn store(memory: u64) -> Store {
        Store::new(&model::Cached { keep: Duration::from_secs(60), memory, max: memory / 4, ignore: Vec::new() })
    }

    fn kept(bytes: usize) -> Kept {
        Kept {
            status: 200,
            head: Head::default(),
            body: Bytes::from(vec![0; bytes]),
            received: 1,
            until: 100,
            terms: Terms::default(),
            resource: 0,
        }
    }

    fn call(number: u8) -> Digest {
        [number; 32]
    }

    #[test]
    fn memory_is_bounded_and_what_was_not_used_for_longest_leaves_first() {
        let store = store(1 << 20);
        for number in 0..3 {
            store.put(call(number), None, kept(200_000));
        }
        assert!(store.look(&call(0)).is_some());
        store.put(call(3), None, kept(200_000));
        let there = |number| store.look(&call(number)).is_some();
        assert_eq!([0, 1, 2, 3].map(there), [true, false, true, true]);
        for number in 0..200 {
            store.put(call(number), None, kept(usize::from(number) * 1000));
            let shelf = store.shelf.lock().unwrap();
            assert!(shelf.used <= store.capacity);
            assert_eq!(shelf.used, shelf.entries.iter().map(|(_, entry)| entry.size()).sum::<usize>());
        }
    }

    #[test]
    fn what_is_being_copied_is_bounded_as_well() {
        let store = store(1 << 20);
        assert!(store.reserve(200_000));
        assert!(!store.reserve(100_000));
        store.release(200_000);
        assert!(store.reserve(100_000));
    }

    #[test]
    fn some_calls_a_second_are_looked_at_closely() {
        let store = store(1 << 20);
        for second in 1..4 {
            let looked = (0..100).filter(|_| store.may_look(1 << 32 | 5, second * SECOND)).count();
            assert_eq!(looked as u64, LOOKS + 1);
            assert!(store.may_look(2 << 32 | 6, second * SECOND));
        }
    }

    #[test]
    fn an_answer_is_copied_once_a_second() {
        let store = store(1 << 20);
        let copied = |call: u64, now: u64| store.may_copy(call << 32 | 5, now);
        assert!(copied(1, 3 * SECOND));
        assert!(!copied(1, 3 * SECOND + SECOND / 2));
        assert!(copied(1, 4 * SECOND));
        assert!(copied(2, 4 * SECOND));
    }
}
