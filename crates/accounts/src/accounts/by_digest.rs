//! Where a call finds what it shows, by its digest: one look finds the place, and the next one all that the place names, at once.

use std::mem::offset_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwapOption, Guard};
use daemun_pipeline::Identity;
use daemun_sys::{prefetch, prefetch_first};

use super::Accounts;
use crate::consumer::{Held, USE};
use crate::grant::{Grant, Kind, Token};
use crate::table::{Slot, Spot};
use crate::text::Digest;

/// Has memory asked for what each call looks at of whoever calls.
#[inline]
fn ask_for(identity: &Identity) {
    prefetch_first(identity, offset_of!(Identity, roles));
}

/// A token, with what it names: a call does not have to wait for the one to find the other in memory.
#[derive(Debug, Default)]
pub(super) struct TokenSlot {
    token: ArcSwapOption<Token>,
    grant: ArcSwapOption<Grant>,
    /// Who held an access token when it was given out, for memory to be asked for it before the login says who holds it now.
    holder: ArcSwapOption<Identity>,
}

/// A token of a call, and its login.
pub(super) struct Given {
    token: Guard<Option<Arc<Token>>>,
    grant: Guard<Option<Arc<Grant>>>,
}

impl TokenSlot {
    /// Has memory asked for all of it.
    #[inline]
    pub(super) fn given(&self) -> Option<Given> {
        let token = self.token.load();
        prefetch(&**token.as_ref()?);
        let grant = self.grant.load();
        prefetch(&**grant.as_ref()?);
        if let Some(holder) = &*self.holder.load() {
            ask_for(holder);
        }
        Some(Given { token, grant })
    }
}

impl Given {
    #[inline]
    pub(super) fn parts(&self) -> Option<(&Token, &Grant)> {
        Some((self.token.as_deref()?, self.grant.as_deref()?))
    }
}

impl Slot for TokenSlot {
    type Of = Arc<Token>;

    fn fill(&self, token: Arc<Token>) {
        let is_whole = token.kind == Kind::Access && token.narrow.is_none();
        self.holder.store(is_whole.then(|| token.grant.identity()));
        self.grant.store(Some(Arc::clone(&token.grant)));
        self.token.store(Some(token));
    }

    fn of(&self) -> Option<Arc<Token>> {
        self.token.load_full()
    }

    fn clear(&self) {
        self.token.store(None);
        self.grant.store(None);
        self.holder.store(None);
    }
}

/// A key of the store.
#[derive(Debug, Default)]
pub(super) struct KeySlot {
    identity: ArcSwapOption<Identity>,
    held: ArcSwapOption<Held>,
    until: AtomicU64,
    /// When it was last used, so that within the same minute nothing else need be looked at.
    noted: AtomicU64,
}

impl Slot for KeySlot {
    type Of = Arc<Held>;

    fn fill(&self, held: Arc<Held>) {
        self.until.store(held.until, Ordering::Relaxed);
        self.noted.store(held.used.load(Ordering::Relaxed), Ordering::Relaxed);
        self.identity.store(Some(Arc::clone(&held.identity)));
        self.held.store(Some(held));
    }

    fn of(&self) -> Option<Arc<Held>> {
        self.held.load_full()
    }

    fn clear(&self) {
        self.held.store(None);
        self.identity.store(None);
    }
}

/// A key of the store that a call shows. It stays as it was found.
pub struct HeldKey {
    identity: Guard<Option<Arc<Identity>>>,
    until: u64,
    spot: Spot<KeySlot>,
}

impl std::fmt::Debug for HeldKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeldKey").field("identity", &*self.identity).finish_non_exhaustive()
    }
}

impl HeldKey {
    /// Who calls with it; always there.
    #[must_use]
    #[inline]
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        self.identity.as_ref()
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
        let Some(slot) = self.spot.slot() else { return };
        if now.saturating_sub(slot.noted.load(Ordering::Relaxed)) >= USE {
            slot.noted.store(now, Ordering::Relaxed);
            if let Some(held) = &*slot.held.load() {
                // not read before, since nobody has to wait for what is only written
                held.used.store(now, Ordering::Relaxed);
            }
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
        let look = |slot: &KeySlot| {
            let identity = slot.identity.load();
            ask_for(identity.as_ref()?);
            Some((identity, slot.until.load(Ordering::Relaxed)))
        };
        let ((identity, until), spot) = self.keys.find(digest, look)?;
        Some(HeldKey { identity, until, spot })
    }
}
