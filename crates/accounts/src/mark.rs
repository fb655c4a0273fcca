//! What was issued before a moment is void: two such moments for each subject, client and credential, one of them of access tokens alone.
//! Shared by all tokens of it, so that a revocation is one store.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::grant::Kind;

/// Moments, and how much that came behind them is live.
#[derive(Debug, Default)]
pub(crate) struct Mark {
    /// Milliseconds since the Unix epoch; what was issued earlier is void.
    before: AtomicU64,
    /// The same of access tokens; never earlier.
    access_before: AtomicU64,
    /// Tokens that have not expired.
    live: AtomicU32,
}

impl Mark {
    /// Whether a token that was issued at this moment is void.
    #[inline]
    pub(crate) fn voids(&self, kind: Kind, issued: u64) -> bool {
        let before = match kind {
            Kind::Access => &self.access_before,
            Kind::Refresh => &self.before,
        };
        issued < before.load(Ordering::Acquire)
    }

    /// Voids what was issued before a moment; never takes back what was void.
    pub(crate) fn void_before(&self, moment: u64) {
        self.advance(moment);
    }

    /// Voids access tokens that were issued before a moment; refresh tokens stay as they were.
    pub(crate) fn void_access_before(&self, moment: u64) {
        self.access_before.fetch_max(moment, Ordering::AcqRel);
    }

    /// As [`Mark::void_before`]; says whether it was not so before.
    pub(crate) fn advance(&self, moment: u64) -> bool {
        self.void_access_before(moment);
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
