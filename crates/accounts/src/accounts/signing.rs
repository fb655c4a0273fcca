//! The keys that tokens are signed with, as they are kept: sealed. Knows neither the keys themselves nor when they change.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use aws_lc_rs::rand;

use super::{Accounts, Trouble};
use crate::change::{Change, SigningKeyRow};
use crate::seal::{SHORTEST, Seal};

impl Accounts {
    /// What is sealed under a random key that ends with the process: for keys that nothing keeps. `None` when the system gives no random
    /// numbers.
    #[must_use]
    pub fn own_seal(&self) -> Option<Arc<Seal>> {
        let make = || {
            let mut key = [0; SHORTEST];
            rand::fill(&mut key).ok()?;
            Seal::new(&key).map(Arc::new)
        };
        self.own_seal.get_or_init(make).clone()
    }

    /// Goes up with each change of such a key, of this process or another one.
    #[must_use]
    #[inline]
    pub fn signing_changes(&self) -> u64 {
        self.signing_changes.load(Ordering::Acquire)
    }

    /// Keys that tokens of a service are signed with, by when they begin to sign.
    #[must_use]
    pub fn signing_keys(&self, service: &str) -> Vec<SigningKeyRow> {
        let signing = self.signing.pin();
        let mut keys: Vec<_> = signing.values().filter(|key| key.service == service).cloned().collect();
        keys.sort_by(|a, b| (a.from, &a.id).cmp(&(b.from, &b.id)));
        keys
    }

    /// Keeps a key that tokens are signed with; another process sees it soon after.
    ///
    /// # Errors
    /// When that cannot be made to last.
    pub async fn put_signing_key(&self, key: SigningKeyRow) -> Result<(), Trouble> {
        self.write(vec![Change::SigningKey(key.clone())]).await?;
        self.set_signing_key(key);
        Ok(())
    }

    /// Forgets a key that nothing is signed with any more.
    ///
    /// # Errors
    /// When that cannot be made to last; then it is there again after a restart.
    pub async fn remove_signing_key(&self, id: &str) -> Result<(), Trouble> {
        self.drop_signing_key(id);
        self.write(vec![Change::NoSigningKey(id.to_owned())]).await.map(drop)
    }

    pub(super) fn set_signing_key(&self, key: SigningKeyRow) {
        self.signing.pin().insert(key.id.clone(), key);
        self.signing_changes.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn drop_signing_key(&self, id: &str) {
        if self.signing.pin().remove(id).is_some() {
            self.signing_changes.fetch_add(1, Ordering::AcqRel);
        }
    }
}
