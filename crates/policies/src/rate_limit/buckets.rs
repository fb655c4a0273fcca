//! A bounded table of buckets, one per key, shared by all threads. Knows no request; whose key it is was decided before.
//!
//! Looking a known key up takes no lock and no allocation: a few words of one or two cache lines. The table grows by levels, each
//! eight times the last, and a level is a row of windows of eight places. A key may stand in one window of each level, so nothing ever
//! moves. A bucket that is full again is the same as none: its place is given to the next key that needs one, and no sweep is needed. As
//! long as the table may grow, only places that were idle for a while are given away, so that callers who come back find theirs.
//!
//! Two things keep it exact. A place changes hands by setting its bucket to [`BUSY`] first, which no token can be taken from, and
//! always to a later moment than it had, so that a thread that still holds the old value cannot write. And what a dropped key could
//! have used up is remembered in `floor`, so that a key that comes back, seen by a thread with an older reading of the clock, does not
//! find more than it left.
//!
//! A key that finds no place shares one of [`SHARED`] buckets with others like it, and begins, once it gets a place, with no more than
//! that bucket holds: a full table is never a way round the limit.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use daemun_accounts::gcra::{Gcra, Taken, units};

/// A bucket whose place is changing hands.
const BUSY: u64 = u64::MAX;
/// Windows that are allocated together.
const CHUNK: usize = 64;
/// Levels. All but the last few grow; those are for the rare keys whose windows are full before the table is.
const LEVELS: usize = 10;
/// Buckets of keys without a place.
const SHARED: usize = 256;
/// Locks for new keys.
const LOCKS: usize = 16;
/// How long a bucket is full before its place is given away while there are others: a minute.
const IDLE: u64 = units(60_000_000_000);
/// The largest table, in keys. Full, a table takes some 40 bytes a key.
pub(super) const MAX_KEYS: u64 = 16_000_000;

/// A key as the table knows it: 128 bits of a hash that callers cannot predict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    tag: u64,
    place: u64,
}

impl Key {
    /// From two independent hashes.
    pub(super) fn new(tag: u64, place: u64) -> Key {
        Key { tag: tag.max(1), place }
    }
}

/// One bucket and the key it is of; tag 0: never used.
#[derive(Debug, Default)]
struct Place {
    tag: AtomicU64,
    full_at: AtomicU64,
}

impl Place {
    /// Takes a token; `None` when the bucket is not, or no longer, that of `tag`.
    fn take(&self, tag: u64, gcra: Gcra, now: u64) -> Option<Result<Taken<'_>, u64>> {
        let mut seen = self.full_at.load(Ordering::Acquire);
        loop {
            if seen == BUSY || self.tag.load(Ordering::Acquire) != tag {
                return None;
            }
            let written = match gcra.admit(seen, now) {
                Ok(written) => written,
                Err(wait) => return Some(Err(wait)),
            };
            match self.full_at.compare_exchange_weak(seen, written, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    let taken = Taken { bucket: &self.full_at, before: seen.max(now), written };
                    if self.tag.load(Ordering::Acquire) == tag {
                        return Some(Ok(taken));
                    }
                    taken.give_back();
                    return None;
                }
                Err(other) => seen = other,
            }
        }
    }
}

/// Eight places side by side; the one at `tag % 8` is tried first.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Window([Place; 8]);

impl Window {
    fn places(&self, tag: u64) -> impl Iterator<Item = &Place> {
        let first = (tag & 7) as usize;
        (first..first + 8).filter_map(|n| self.0.get(n & 7))
    }

    /// Finds a key without looking behind a place that was never used: keys are not put there. May miss a key whose neighbour is only
    /// just being brought in.
    #[inline]
    fn find(&self, tag: u64) -> Option<&Place> {
        for place in self.places(tag) {
            let seen = place.tag.load(Ordering::Acquire);
            if seen == tag {
                return Some(place);
            }
            if seen == 0 {
                return None;
            }
        }
        None
    }
}

/// A row of windows, allocated by and by.
#[derive(Debug)]
struct Level {
    chunks: Box<[OnceLock<Box<[Window]>>]>,
    windows: usize,
}

impl Level {
    fn new(windows: usize) -> Level {
        let chunks = (0..windows.div_ceil(CHUNK)).map(|_| OnceLock::new()).collect();
        Level { chunks, windows }
    }

    fn index(&self, key: Key) -> usize {
        (key.place as usize) & (self.windows - 1)
    }

    fn window(&self, key: Key) -> Option<&Window> {
        let index = self.index(key);
        self.chunks.get(index / CHUNK)?.get()?.get(index % CHUNK)
    }

    fn window_or_new(&self, key: Key) -> Option<&Window> {
        let index = self.index(key);
        let chunk = self.chunks.get(index / CHUNK)?;
        let windows = chunk.get_or_init(|| (0..self.windows.min(CHUNK)).map(|_| Window::default()).collect());
        windows.get(index % CHUNK)
    }
}

/// Which places a new key may take.
#[derive(Clone, Copy)]
enum Wanted {
    /// Those never used.
    New,
    /// Those whose bucket was full at this moment already.
    FullBefore(u64),
}

/// The table.
#[derive(Debug)]
pub(super) struct Buckets {
    levels: [OnceLock<Level>; LEVELS],
    /// Size of the first level: eight to this power.
    first: usize,
    /// Highest level there is.
    top: AtomicUsize,
    /// Places that were ever used; never more than `max_keys`.
    used: AtomicU64,
    max_keys: u64,
    /// Units that a bucket must have been full for before its place is given away while the table may grow.
    idle: u64,
    /// The latest moment at which a bucket that was dropped was full.
    floor: AtomicU64,
    /// The buckets of keys that found no place; there once they are needed.
    shared: OnceLock<Box<[AtomicU64]>>,
    /// One thread at a time brings a new key in, so that no key gets two places.
    locks: [Mutex<()>; LOCKS],
}

impl Buckets {
    /// An empty table for at most `max_keys` keys at a time, which finds `expected` of them in its first level; takes some 600 bytes,
    /// and for every thousand expected another hundred.
    pub(super) fn new(max_keys: u64, expected: usize) -> Buckets {
        Buckets::with_idle(max_keys, expected, IDLE)
    }

    /// An empty table with another time, in units, before places are given away.
    pub(super) fn with_idle(max_keys: u64, expected: usize, idle: u64) -> Buckets {
        let max_keys = max_keys.clamp(1, MAX_KEYS);
        // half full at most
        let windows = expected.div_ceil(4).min(windows_for(max_keys));
        let first = (0..LEVELS).find(|power| 1 << (3 * power) >= windows).unwrap_or(0);
        let levels: [OnceLock<Level>; LEVELS] = Default::default();
        if let Some(level) = levels.first() {
            let _ = level.set(Level::new(windows_for(max_keys).min(1 << (3 * first))));
        }
        Buckets {
            levels,
            first,
            top: AtomicUsize::new(0),
            used: AtomicU64::new(0),
            max_keys,
            idle,
            floor: AtomicU64::new(0),
            shared: OnceLock::new(),
            locks: Default::default(),
        }
    }

    /// Takes a token from the bucket of `key`; `Err` is how long to wait, in units.
    pub(super) fn take(&self, gcra: Gcra, key: Key, now: u64) -> Result<Taken<'_>, u64> {
        if let Some(place) = self.find(key)
            && let Some(result) = place.take(key.tag, gcra, now)
        {
            return result;
        }
        self.take_new(gcra, key, now)
    }

    /// When the bucket of `key` is full, or counts as full for a key that has none; takes nothing.
    pub(super) fn full_at(&self, key: Key) -> u64 {
        let found = self.find_all(key).map(|place| place.full_at.load(Ordering::Acquire)).filter(|at| *at != BUSY);
        found.unwrap_or_else(|| self.start(key))
    }

    /// When the bucket of a key that has no place counts as full.
    fn start(&self, key: Key) -> u64 {
        let shared = self.shared.get().and_then(|buckets| buckets.get(shared_by(key)));
        let full_at = shared.map_or(0, |bucket| bucket.load(Ordering::Acquire));
        self.floor.load(Ordering::Acquire).max(full_at)
    }

    /// Keys that have had a place at the same time, at most.
    #[cfg(test)]
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    #[inline]
    fn find(&self, key: Key) -> Option<&Place> {
        let mut level = self.top.load(Ordering::Acquire);
        loop {
            if let Some(window) = self.levels.get(level)?.get()?.window(key)
                && let Some(place) = window.find(key.tag)
            {
                return Some(place);
            }
            level = level.checked_sub(1)?;
        }
    }

    /// Finds a key wherever it may stand.
    fn find_all(&self, key: Key) -> Option<&Place> {
        let top = self.top.load(Ordering::Acquire);
        self.levels.get(..=top)?.iter().rev().find_map(|level| {
            let window = level.get()?.window(key)?;
            window.places(key.tag).find(|place| place.tag.load(Ordering::Acquire) == key.tag)
        })
    }

    #[cold]
    fn take_new(&self, gcra: Gcra, key: Key, now: u64) -> Result<Taken<'_>, u64> {
        let lock = self.locks.get(key.place as usize % LOCKS);
        let _held = lock.map(|lock| lock.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(place) = self.find_all(key)
            && let Some(result) = place.take(key.tag, gcra, now)
        {
            return result;
        }
        let before = self.start(key).max(now);
        let written = gcra.admit(before, now)?;
        if let Some(place) = self.claim(key, now, written) {
            return Ok(Taken { bucket: &place.full_at, before, written });
        }
        let buckets = self.shared.get_or_init(|| (0..SHARED).map(|_| AtomicU64::new(0)).collect());
        let bucket = buckets.get(shared_by(key)).ok_or(0_u64)?;
        gcra.take(bucket, self.floor.load(Ordering::Acquire), now)
    }

    /// Gives `key` a place with a bucket that is full at `written`: one long idle, else a new one, else any whose bucket is full.
    fn claim(&self, key: Key, now: u64, written: u64) -> Option<&Place> {
        let top = self.top.load(Ordering::Acquire);
        let levels = self.levels.get(..=top)?;
        let among = |wanted| levels.iter().rev().find_map(|level| self.claim_in(level.get()?, key, wanted, written));
        if let Some(place) = among(Wanted::FullBefore(now.saturating_sub(self.idle))).or_else(|| among(Wanted::New)) {
            return Some(place);
        }
        if self.used.load(Ordering::Relaxed) < self.max_keys
            && let Some(level) = self.levels.get(top + 1)
        {
            let windows = windows_for(self.max_keys).min(1 << (3 * (self.first + top + 1)));
            let level = level.get_or_init(|| Level::new(windows));
            self.top.fetch_max(top + 1, Ordering::AcqRel);
            if let Some(place) = self.claim_in(level, key, Wanted::New, written) {
                return Some(place);
            }
        }
        among(Wanted::FullBefore(now))
    }

    fn claim_in<'a>(&'a self, level: &'a Level, key: Key, wanted: Wanted, written: u64) -> Option<&'a Place> {
        for place in level.window_or_new(key)?.places(key.tag) {
            let seen = place.full_at.load(Ordering::Acquire);
            let fresh = place.tag.load(Ordering::Acquire) == 0;
            match wanted {
                _ if seen == BUSY => continue,
                Wanted::FullBefore(_) if fresh => return None, // nothing stands behind a place that was never used
                Wanted::FullBefore(moment) if seen > moment => continue,
                Wanted::New if !fresh => continue,
                Wanted::New if !self.reserve() => return None,
                Wanted::FullBefore(_) | Wanted::New => {}
            }
            self.floor.fetch_max(seen, Ordering::AcqRel);
            if place.full_at.compare_exchange(seen, BUSY, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                if fresh {
                    self.used.fetch_sub(1, Ordering::Relaxed);
                }
                continue;
            }
            place.tag.store(key.tag, Ordering::Release);
            place.full_at.store(written, Ordering::Release);
            return Some(place);
        }
        None
    }

    fn reserve(&self) -> bool {
        let more = |used| (used < self.max_keys).then_some(used + 1);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }
}

/// Windows that hold that many keys at half their places; [`MAX_KEYS`] keeps it within 23 bits.
fn windows_for(keys: u64) -> usize {
    usize::try_from(keys.div_ceil(4)).unwrap_or(usize::MAX >> 1).next_power_of_two()
}

/// Which of the shared buckets a key without a place uses.
fn shared_by(key: Key) -> usize {
    (key.place >> 32) as usize % SHARED
}
