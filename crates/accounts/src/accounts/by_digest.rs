//! Where a call finds what it shows, by its digest. With very many callers each look into memory takes longer than all else that is done here:
//! one look finds an entry, and the next one all that the entry names, at once.

use std::cell::OnceCell;
use std::hash::{BuildHasherDefault, Hasher};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use daemun_pipeline::Identity;
use papaya::LocalGuard;

use super::Accounts;
use crate::consumer::{Held, USE};
use crate::grant::{Grant, Kind, Token};
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

/// A token and its login, so that a call does not have to wait for the one to find the other in memory.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) token: Arc<Token>,
    pub(super) grant: Arc<Grant>,
    /// Who held an access token when it was given out, for memory to be asked for before the login says who holds it now.
    holder: Option<Arc<Identity>>,
    /// With the digest as long as a line of the processor's caches, so that one look takes in all of it.
    _line: u64,
}

impl Given {
    pub(super) fn new(token: Token) -> Given {
        let grant = Arc::clone(&token.grant);
        let is_whole = token.kind == Kind::Access && token.narrow.is_none();
        Given { holder: is_whole.then(|| grant.identity()), token: Arc::new(token), grant, _line: 0 }
    }

    /// Has memory asked for the holder now, beside token and login.
    #[inline]
    pub(super) fn foresee(&self) {
        if let Some(holder) = &self.holder {
            // in front of what each call looks at, and behind it
            black_box((holder.subject.len(), holder.roles.len()));
        }
    }
}

/// A key of the store.
#[derive(Debug)]
pub struct HeldKey {
    /// Who calls with it.
    pub identity: Arc<Identity>,
    held: Arc<Held>,
    until: u64,
    /// When it was last used, as far as is known here, so that within the same minute nothing else need be looked at.
    noted: AtomicU64,
}

impl HeldKey {
    pub(super) fn new(held: Arc<Held>) -> HeldKey {
        HeldKey { identity: Arc::clone(&held.identity), until: held.until, held, noted: AtomicU64::new(0) }
    }

    pub(super) fn held(&self) -> &Arc<Held> {
        &self.held
    }

    /// Whether it is good at a moment, milliseconds since the Unix epoch.
    #[must_use]
    #[inline]
    pub fn is_good(&self, now: u64) -> bool {
        now < self.until
    }

    /// Notes that it was used.
    #[inline]
    pub fn note_use(&self, now: u64) {
        if now.saturating_sub(self.noted.load(Ordering::Relaxed)) >= USE {
            self.held.note_use(now);
            self.noted.store(self.held.used.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

/// Keys of the store, for one call: what is found stays as it was until that ends.
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
    /// One, good or not. No lock, no allocation; one load where the store never had one.
    #[must_use]
    #[inline]
    pub fn find(&self, digest: &Digest) -> Option<&HeldKey> {
        let accounts = self.accounts;
        if !accounts.any_key.load(Ordering::Acquire) {
            return None;
        }
        self.pinned.get_or_init(|| accounts.keys.pin()).get(digest)
    }
}
