//! Logins that began before a moment are void, and access tokens that were issued before another one: two such moments for each subject, client
//! and credential. Shared by all tokens of it, so that a revocation is one store.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A moment, and how much that came behind it is live.
#[derive(Debug, Default)]
pub(crate) struct Mark {
    /// Milliseconds since the Unix epoch; what began earlier is void.
    before: AtomicU64,
    /// Access tokens that were issued earlier are void, and nothing else is.
    access_before: AtomicU64,
    /// Tokens that have not expired.
    live: AtomicU32,
}

impl Mark {
    /// Whether what was issued at this moment is void.
    #[inline]
    pub(crate) fn voids(&self, issued: u64) -> bool {
        issued < self.before.load(Ordering::Acquire)
    }

    /// Voids what was issued before a moment; never takes back what was void.
    pub(crate) fn void_before(&self, moment: u64) {
        self.before.fetch_max(moment, Ordering::AcqRel);
    }

    /// Voids access tokens that were issued before a moment; never takes back what was void.
    pub(crate) fn void_access_before(&self, moment: u64) {
        self.access_before.fetch_max(moment, Ordering::AcqRel);
    }

    /// From when on access tokens are not void.
    pub(crate) fn access_from(&self) -> u64 {
        self.access_before.load(Ordering::Acquire)
    }

    /// As [`Mark::void_before`]; says whether it was not so before.
    pub(crate) fn advance(&self, moment: u64) -> bool {
        self.before.fetch_max(moment, Ordering::AcqRel) < moment
    }

    /// The moment.
    pub(crate) fn moment(&self) -> u64 {
        self.before.load(Ordering::Acquire)
    }

    /// Takes room for so many tokens; `false` when there would be more than `most`.
    pub(crate) fn take(&self, count: u32, most: u32) -> bool {
        let took = self.live.fetch_update(Ordering::AcqRel, Ordering::Acquire, |live| {
            live.checked_add(count).filter(|live| *live <= most)
        });
        took.is_ok()
    }

    /// Gives room back.
    pub(crate) fn give(&self, count: u32) {
        let _ = self.live.fetch_update(Ordering::AcqRel, Ordering::Acquire, |live| Some(live.saturating_sub(count)));
    }

    /// Tokens that have not expired.
    pub(crate) fn live(&self) -> u32 {
        self.live.load(Ordering::Acquire)
    }
}
