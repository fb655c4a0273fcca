//! Identities that are alike are one: a consumer may have very many tokens.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use daemun_pipeline::Identity;

/// Identities by a hash; those that hash alike are told apart by what they are.
#[derive(Debug, Default)]
pub(crate) struct Interned(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    known: HashMap<u64, Vec<Weak<Identity>>>,
    /// How many there were when those that are gone were last forgotten.
    swept: usize,
}

impl Interned {
    /// The one that is like this.
    pub(crate) fn one(&self, identity: Identity) -> Arc<Identity> {
        let mut hasher = DefaultHasher::new();
        (&identity.subject, &identity.consumer, &identity.credential, &identity.scopes, &identity.roles)
            .hash(&mut hasher);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.known.len() > known.swept * 2 + 1024 {
            known.known.retain(|_, alike| {
                alike.retain(|one| one.strong_count() > 0);
                !alike.is_empty()
            });
            known.swept = known.known.len();
        }
        let alike = known.known.entry(hasher.finish()).or_default();
        if let Some(found) = alike.iter().filter_map(Weak::upgrade).find(|one| **one == identity) {
            return found;
        }
        alike.retain(|one| one.strong_count() > 0);
        let identity = Arc::new(identity);
        alike.push(Arc::downgrade(&identity));
        identity
    }
}

/// Texts that stand in very many places, of which there are few.
#[derive(Debug, Default)]
pub(crate) struct Texts(Mutex<HashSet<Arc<str>>>);

impl Texts {
    /// The one that is like this.
    pub(crate) fn one(&self, text: &str) -> Arc<str> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = text.into();
        known.insert(Arc::clone(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_alike_is_one_and_what_is_gone_is_forgotten() {
        let interned = Interned::default();
        let of = |name: &str| Identity { subject: name.into(), ..Identity::default() };
        let one = interned.one(of("a"));
        assert!(Arc::ptr_eq(&one, &interned.one(of("a"))));
        assert!(!Arc::ptr_eq(&one, &interned.one(of("b"))));
        for n in 0..10_000 {
            interned.one(of(&n.to_string()));
        }
        assert!(interned.0.lock().unwrap().known.len() < 5_000);
        assert!(Arc::ptr_eq(&one, &interned.one(of("a"))));
    }
}
