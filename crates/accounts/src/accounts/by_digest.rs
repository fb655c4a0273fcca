//! Where a call finds what it shows, by its digest. With very many callers each look into memory takes longer than all else that is done here:
//! one look finds an entry, and the next one all that the entry names, at once.

use std::cell::OnceCell;
use std::hash::{BuildHasherDefault, Hasher};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use daemun_pipeline::Identity;
use papaya::LocalGuard;

use super::Accounts;
use crate::consumer::Held;
use crate::grant::{Grant, Token};
use crate::text::Digest;

/// A digest is as good as random, so that its first bytes are its hash.
#[derive(Default)]
pub(super) struct First(u64);

impl Hasher for First {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.first_chunk::<8>().map_or(0, |first| u64::from_le_bytes(*first));
    }

    // the length, which is always the same
    fn write_usize(&mut self, _: usize) {}
}

type Build = BuildHasherDefault<First>;

pub(super) type ByDigest<T> = papaya::HashMap<Digest, T, Build>;

/// A token, its login and who holds it, so that a call does not have to wait for the one to find the other in memory.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) token: Arc<Token>,
    pub(super) grant: Arc<Grant>,
    /// As of when it was given out.
    holder: Arc<Identity>,
    /// With the digest as long as a line of the processor's caches, so that one look takes in all of it.
    _line: u64,
}

impl Given {
    pub(super) fn new(token: Token) -> Given {
        let grant = Arc::clone(&token.grant);
        Given { holder: grant.identity(), token: Arc::new(token), grant, _line: 0 }
    }

    /// Has memory asked for the holder now, beside token and login.
    #[inline]
    pub(super) fn foresee(&self) {
        black_box(self.holder.is_sendable());
    }
}

/// A key of the store.
#[derive(Debug)]
pub struct HeldKey {
    /// Who calls with it.
    pub identity: Arc<Identity>,
    held: Arc<Held>,
    until: u64,
    /// As in [`Given`].
    _line: u64,
}

impl HeldKey {
    pub(super) fn new(held: Arc<Held>) -> HeldKey {
        HeldKey { identity: Arc::clone(&held.identity), until: held.until, held, _line: 0 }
    }

    pub(super) fn held(&self) -> &Arc<Held> {
        &self.held
    }

    /// Whether it is good at a moment, milliseconds since the Unix epoch.
    #[must_use]
    #[inline]
    pub fn is_good(&self, now: u64) -> bool {
        // asked for beside the identity
        black_box(self.held.used.load(Ordering::Relaxed));
        now < self.until
    }

    /// Notes that it was used.
    #[inline]
    pub fn note_use(&self, now: u64) {
        self.held.note_use(now);
    }
}

/// Keys of the store as they are during one call.
pub struct HeldKeys<'a> {
    accounts: &'a Accounts,
    pinned: OnceCell<papaya::HashMapRef<'a, Digest, HeldKey, Build, LocalGuard<'a>>>,
}

impl std::fmt::Debug for HeldKeys<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeldKeys").finish_non_exhaustive()
    }
}

impl Accounts {
    /// Keys of the store, to be looked for.
    #[must_use]
    #[inline]
    pub fn keys(&self) -> HeldKeys<'_> {
        HeldKeys { accounts: self, pinned: OnceCell::new() }
    }
}

impl HeldKeys<'_> {
    /// One, good or not. No lock, no allocation; costs nothing where the store has none.
    #[must_use]
    #[inline]
    pub fn find(&self, digest: &Digest) -> Option<&HeldKey> {
        let keys = &self.accounts.keys;
        if keys.is_empty() { None } else { self.pinned.get_or_init(|| keys.pin()).get(digest) }
    }
}
