//! When what has expired is forgotten: by spans of time, a little at a time. That it is void is known without this; it only takes room.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::text::Digest;

/// Milliseconds.
const SPAN: u64 = 5_000;

/// Digests by the span that their tokens end in.
#[derive(Debug, Default)]
pub(crate) struct Expiry(Mutex<BTreeMap<u64, Vec<Digest>>>);

impl Expiry {
    /// Notes when a token ends.
    pub(crate) fn note(&self, expires: u64, digest: Digest) {
        let mut spans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spans.entry(expires / SPAN).or_default().push(digest);
    }

    /// Takes at most so many that have ended.
    pub(crate) fn take(&self, now: u64, most: usize) -> Vec<Digest> {
        let mut spans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some(mut first) = spans.first_entry().filter(|first| (first.key() + 1) * SPAN <= now)
        {
            let ended = first.get_mut();
            taken.append(&mut ended.split_off(ended.len().saturating_sub(most - taken.len())));
            if ended.is_empty() {
                first.remove();
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_ended_comes_out_a_little_at_a_time_and_nothing_else_does() {
        let expiry = Expiry::default();
        for n in 0..10_u8 {
            expiry.note(u64::from(n) * 2_500, [n; 32]);
        }
        assert!(expiry.take(4_999, 10).is_empty());
        assert_eq!(expiry.take(5_000, 1).len(), 1);
        assert_eq!(expiry.take(5_000, 5).len(), 1);
        assert!(expiry.take(5_000, 5).is_empty());
        let mut left = 0;
        while !expiry.take(u64::MAX, 3).is_empty() {
            left += 1;
        }
        assert_eq!(left, 3, "eight, of several spans at once");
    }
}
