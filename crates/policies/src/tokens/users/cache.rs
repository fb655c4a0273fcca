//! Logins that were good a short while ago, so that not every call hashes: in a table of fixed size, known by a keyed digest. Holds no
//! password, and takes no lock.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac::{Context, HMAC_SHA256, Key};
use daemun_pipeline::Identity;

/// Places of the table; of two logins that share one, the newer is kept.
const PLACES: usize = 4096;
/// How long a login is good for, in nanoseconds: so long may a password still let in that was changed elsewhere.
const KEPT: u64 = 30_000_000_000;

/// Digest of a name and a password, under a key of this process alone.
pub(super) type Tag = [u8; 32];

struct Entry {
    tag: Tag,
    until: u64,
    identity: Arc<Identity>,
}

/// The table.
pub(super) struct Cache {
    key: Key,
    places: Box<[ArcSwapOption<Entry>]>,
}

impl Cache {
    /// An empty one; the secret must be random.
    pub(super) fn new(secret: &[u8]) -> Cache {
        let places = std::iter::repeat_with(ArcSwapOption::empty).take(PLACES).collect();
        Cache { key: Key::new(HMAC_SHA256, secret), places }
    }

    pub(super) fn tag(&self, name: &str, password: &[u8]) -> Tag {
        let mut context = Context::with_key(&self.key);
        // its length, so that nobody can move a letter from the one to the other
        context.update(&(name.len() as u64).to_le_bytes());
        context.update(name.as_bytes());
        context.update(password);
        let mut tag = [0; 32];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }

    fn place(&self, tag: &Tag) -> Option<&ArcSwapOption<Entry>> {
        let number = tag.first_chunk::<8>().map(|first| u64::from_le_bytes(*first))?;
        self.places.get(usize::try_from(number % PLACES as u64).ok()?)
    }

    /// Whose login this is, if it was good a short while ago.
    pub(super) fn get(&self, tag: &Tag, now: u64) -> Option<Arc<Identity>> {
        let entry = self.place(tag)?.load();
        let entry = entry.as_ref().filter(|entry| now < entry.until)?;
        verify_slices_are_equal(&entry.tag, tag).ok()?;
        Some(Arc::clone(&entry.identity))
    }

    /// Keeps a login that is good.
    pub(super) fn put(&self, tag: Tag, identity: &Arc<Identity>, now: u64) {
        if let Some(place) = self.place(&tag) {
            let entry = Entry { tag, until: now.saturating_add(KEPT), identity: Arc::clone(identity) };
            place.store(Some(Arc::new(entry)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_known_for_a_while_and_no_other_is() {
        let cache = Cache::new(&[7; 32]);
        let alice = Arc::new(Identity { subject: "alice".into(), ..Identity::default() });
        let tag = cache.tag("alice", b"secret");
        assert!(cache.get(&tag, 0).is_none());
        cache.put(tag, &alice, 1_000);
        assert_eq!(cache.get(&tag, 1_000 + KEPT - 1).unwrap().subject, alice.subject);
        assert!(cache.get(&tag, 1_000 + KEPT).is_none());
        for other in
            [cache.tag("alic", b"esecret"), cache.tag("alice", b"secreT"), Cache::new(&[8; 32]).tag("alice", b"secret")]
        {
            assert_ne!(other, tag);
            assert!(cache.get(&other, 1_000).is_none());
        }
    }
}
