//! Where a call finds what it shows, by its digest: one look finds the place, and the next one all that the place names, at once.

use std::mem::offset_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use daemun_pipeline::Identity;
use daemun_sys::{prefetch, prefetch_first};

use super::Accounts;
use crate::consumer::{Held, USE};
use crate::grant::{Grant, Kind, Token};
use crate::table::Spot;
use crate::text::Digest;

/// Has memory asked for what each call looks at of whoever calls.
#[inline]
fn ask_for(identity: &Identity) {
    prefetch_first(identity, offset_of!(Identity, roles));
}

/// A token, with what it names: a call does not have to wait for the one to find the other in memory.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) token: Arc<Token>,
    pub(super) grant: Arc<Grant>,
    /// Who held an access token when it was given out, for memory to be asked for it before the login says who holds it now.
    holder: Option<Arc<Identity>>,
}

impl Given {
    pub(super) fn new(token: Token) -> Given {
        let grant = Arc::clone(&token.grant);
        let is_whole = token.kind == Kind::Access && token.narrow.is_none();
        Given { holder: is_whole.then(|| grant.identity()), token: Arc::new(token), grant }
    }

    /// Has memory asked for all of it.
    #[inline]
    pub(super) fn foresee(&self) {
        prefetch(&*self.token);
        prefetch(&*self.grant);
        self.holder.iter().for_each(|holder| ask_for(holder));
    }
}

/// A key of the store, as it stands in its place.
#[derive(Debug)]
pub(super) struct Key {
    identity: Arc<Identity>,
    pub(super) held: Arc<Held>,
    lasting: Lasting,
}

impl Key {
    pub(super) fn new(held: Arc<Held>) -> Key {
        let lasting = Lasting::new(held.until, held.used.load(Ordering::Relaxed));
        Key { identity: Arc::clone(&held.identity), held, lasting }
    }
}

impl Clone for Key {
    fn clone(&self) -> Key {
        Key::new(Arc::clone(&self.held))
    }
}

/// How long a key is good, and the minute it was last used in, as one word: its place has room for no more.
#[derive(Debug)]
struct Lasting(AtomicU64);

/// Bits of a minute; the others are of milliseconds since the Unix epoch, enough until the year 2527.
const MINUTE_BITS: u32 = 20;
const MINUTES: u64 = (1 << MINUTE_BITS) - 1;

impl Lasting {
    fn new(until: u64, used: u64) -> Lasting {
        Lasting(AtomicU64::new(until.min(u64::MAX >> MINUTE_BITS) << MINUTE_BITS | (used / USE) & MINUTES))
    }

    #[inline]
    fn is_good(&self, now: u64) -> bool {
        now < self.0.load(Ordering::Relaxed) >> MINUTE_BITS
    }

    /// Whether a use is the first one in its minute, which it is no more then.
    #[inline]
    fn is_first(&self, now: u64) -> bool {
        let (known, minute) = (self.0.load(Ordering::Relaxed), (now / USE) & MINUTES);
        let is_first = known & MINUTES != minute;
        if is_first {
            self.0.store(known & !MINUTES | minute, Ordering::Relaxed);
        }
        is_first
    }
}

/// A key of the store that a call shows. It stays as it was found.
pub struct HeldKey(Spot<Key>);

impl std::fmt::Debug for HeldKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeldKey").field("identity", &self.identity()).finish_non_exhaustive()
    }
}

impl HeldKey {
    /// Who calls with it; always there.
    #[must_use]
    #[inline]
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        self.0.get().map(|key| &key.identity)
    }

    /// Whether it is good at a moment, milliseconds since the Unix epoch.
    #[must_use]
    #[inline]
    pub fn is_good(&self, now: u64) -> bool {
        self.0.get().is_some_and(|key| key.lasting.is_good(now))
    }

    /// Notes that it was used.
    #[inline]
    pub fn note_use(&self, now: u64) {
        if let Some(key) = self.0.get().filter(|key| key.lasting.is_first(now)) {
            // not read before, since nobody has to wait for what is only written
            key.held.used.store(now, Ordering::Relaxed);
        }
    }
}

impl Accounts {
    /// A key of the store, good or not. No lock, no allocation; one load where there never was one.
    #[must_use]
    #[inline]
    pub fn held_key(&self, digest: &Digest) -> Option<HeldKey> {
        if !self.any_key.load(Ordering::Acquire) {
            return None;
        }
        let spot = self.keys.find(digest)?;
        ask_for(&spot.get()?.identity);
        Some(HeldKey(spot))
    }
}
