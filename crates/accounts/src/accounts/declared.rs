//! What accounts know of credentials of the configuration: which there are, and when each was used.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Accounts;
use crate::grant::Grant;
use crate::uses::Uses;

impl Accounts {
    /// The uses of a credential of the configuration, by its id.
    #[must_use]
    pub fn uses_of(&self, id: &str) -> Arc<Uses> {
        self.uses.of(id)
    }

    /// When a credential of the configuration was last used, to the minute; only known where there is a store.
    #[must_use]
    pub fn last_use(&self, id: &str) -> Option<u64> {
        self.uses.last(id)
    }

    /// Says which credentials the configuration has now: their ids, and whose each is. Logins of those it has no more are good no more, in
    /// force on every worker when this returns; should it have one again, they are good again. With `also` those that it had stay.
    pub fn declare(&self, credentials: impl IntoIterator<Item = (String, String)>, also: bool) {
        let before = self.declared.load_full();
        if also && before.is_none() {
            return;
        }
        let mut now: HashMap<String, String> = credentials.into_iter().collect();
        if let Some(before) = before.filter(|_| also) {
            for (id, consumer) in before.iter() {
                now.entry(id.clone()).or_insert_with(|| consumer.clone());
            }
        }
        self.declared.store(Some(Arc::new(now)));
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// Names of the configuration under which the store has something as well, which is good for nothing there: credentials, of the name of a
    /// consumer (one that was disabled beside the configuration stands in the store without any), or a consumer, of that of a user. In
    /// order. Looks at these names alone, and once through the credentials where the store has one of the consumers.
    #[must_use]
    pub fn names_taken<'a>(
        &self,
        consumers: impl IntoIterator<Item = &'a str>,
        users: impl IntoIterator<Item = &'a str>,
    ) -> Vec<&'a str> {
        let is_here = |name: &&str| self.has_consumer(name);
        let mut taken: BTreeSet<&str> = users.into_iter().filter(is_here).collect();
        let known: HashSet<&str> = consumers.into_iter().filter(is_here).collect();
        if !known.is_empty() {
            let credentials = self.credentials.pin();
            taken.extend(credentials.values().filter_map(|held| known.get(held.credential.consumer.as_str()).copied()));
        }
        taken.into_iter().collect()
    }

    /// Whether the configuration still has the key or password that a login of one of its consumers came from.
    pub(super) fn is_declared(&self, grant: &Grant) -> bool {
        let identity = grant.identity();
        let Some(consumer) = identity.consumer.as_deref() else { return true };
        let credential = identity.credential.as_deref().unwrap_or_default();
        if !credential.starts_with("key:") && !credential.starts_with("client:") {
            return true;
        }
        let declared = self.declared.load();
        declared.as_ref().is_none_or(|declared| declared.get(credential).is_some_and(|whose| whose == consumer))
    }
}
