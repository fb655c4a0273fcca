//! When credentials of the configuration were last used. Knows neither whose they are nor how good.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::consumer::USE;

/// When one of them was.
#[derive(Debug, Default)]
pub struct Uses {
    /// Milliseconds since the Unix epoch, to the minute; 0 for never.
    used: AtomicU64,
    /// What of that was written.
    written: AtomicU64,
}

impl Uses {
    /// Notes a use.
    #[inline]
    pub fn note(&self, now: u64) {
        if now.abs_diff(self.used.load(Ordering::Relaxed)) >= USE {
            self.used.store(now, Ordering::Relaxed);
        }
    }

    /// The last one, to the minute.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        Some(self.used.load(Ordering::Relaxed)).filter(|used| *used > 0)
    }

    /// Has the last one be written again.
    pub(crate) fn unwrite(&self) {
        self.written.store(0, Ordering::Relaxed);
    }

    /// Takes in one that was kept.
    pub(crate) fn keep(&self, at: u64) {
        self.used.fetch_max(at, Ordering::Relaxed);
        self.written.fetch_max(at, Ordering::Relaxed);
    }
}

/// When something was last used, where what is written of it is so many milliseconds behind, and behind at all; it is taken to be written then.
pub(crate) fn unwritten(used: &AtomicU64, written: &AtomicU64, behind: u64) -> Option<u64> {
    let (at, known) = (used.load(Ordering::Relaxed), written.load(Ordering::Relaxed));
    let is_behind = at != known && at.abs_diff(known) >= behind;
    is_behind.then(|| {
        written.store(at, Ordering::Relaxed);
        at
    })
}

/// Those of all credentials of the configuration, by id.
#[derive(Debug, Default)]
pub(crate) struct AllUses(papaya::HashMap<Box<str>, Arc<Uses>>);

impl AllUses {
    /// Those of one; the same from one configuration to the next.
    pub(crate) fn of(&self, id: &str) -> Arc<Uses> {
        let all = self.0.pin();
        match all.get(id) {
            Some(known) => Arc::clone(known),
            None => Arc::clone(all.get_or_insert_with(id.into(), Arc::default)),
        }
    }

    /// The last one of a credential.
    pub(crate) fn last(&self, id: &str) -> Option<u64> {
        self.0.pin().get(id).and_then(|uses| uses.last())
    }

    /// Uses of so many credentials at most whose last one that is written is so far [behind](unwritten).
    pub(crate) fn unwritten(&self, most: usize, behind: u64) -> Vec<(String, u64)> {
        let all = self.0.pin();
        let unwritten = |uses: &Uses| unwritten(&uses.used, &uses.written, behind);
        all.iter().filter_map(|(id, uses)| Some((id.to_string(), unwritten(uses)?))).take(most).collect()
    }
}
