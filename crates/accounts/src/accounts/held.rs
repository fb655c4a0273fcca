//! Consumers and credentials of the store, in memory.

use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};

use daemun_pipeline::Identity;

use super::{Accounts, Trouble};
use crate::change::Change;
use crate::consumer::{Consumer, Credential, CredentialKind, Held};

/// Time between two looks at when credentials were last used, milliseconds, and uses that are written at once.
const LOOK: u64 = 60_000;
const MOST_USES: usize = 50_000;

impl Accounts {
    /// What the store says of a consumer.
    pub(super) fn as_of_store(&self, subject: &str, of_configuration: bool) -> Identity {
        let consumers = self.consumers.pin();
        match consumers.get(subject).filter(|_| !of_configuration) {
            Some(consumer) => Identity {
                roles: consumer.roles.clone(),
                groups: consumer.groups.clone(),
                tags: consumer.tags.clone(),
                scopes: consumer.scopes.clone(),
                ..Identity::default()
            },
            None => Identity::default(),
        }
    }

    /// A consumer of the store.
    #[must_use]
    pub fn consumer(&self, name: &str) -> Option<Consumer> {
        self.consumers.pin().get(name).cloned()
    }

    /// All consumers of the store, by name.
    #[must_use]
    pub fn consumers(&self) -> Vec<Consumer> {
        let mut all: Vec<Consumer> = self.consumers.pin().values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The credentials of a consumer, oldest first.
    #[must_use]
    pub fn credentials(&self, consumer: &str) -> Vec<Arc<Held>> {
        let (keys, clients) = (self.keys.pin(), self.clients.pin());
        let all = keys.values().chain(clients.values()).filter(|held| held.credential.consumer == consumer);
        let mut all: Vec<Arc<Held>> = all.cloned().collect();
        all.sort_by(|a, b| (a.credential.created, &a.credential.id).cmp(&(b.credential.created, &b.credential.id)));
        all
    }

    /// Makes a consumer, or changes one: what it may do changes at once, for tokens it has as well. One that is disabled has no good
    /// credential and no good token.
    ///
    /// # Errors
    /// When that cannot be made to last.
    pub async fn put_consumer(&self, consumer: Consumer, now: u64) -> Result<(), Trouble> {
        let mut changes = vec![Change::Consumer(consumer.clone())];
        if consumer.disabled {
            self.mark("subject", &consumer.name).void_before(now.saturating_add(1));
            changes.push(Change::Void { name: format!("subject:{}", consumer.name), before: now.saturating_add(1) });
            // in force at once; what gives more waits until it lasts
            self.set_consumer(consumer.clone());
            return self.write(changes).await;
        }
        self.write(changes).await?;
        self.set_consumer(consumer);
        Ok(())
    }

    pub(super) fn set_consumer(&self, consumer: Consumer) {
        let name = consumer.name.clone();
        self.consumers.pin().insert(name.clone(), consumer);
        for held in self.credentials(&name) {
            self.set_credential(held.credential.clone(), held.used.load(Ordering::Relaxed));
        }
        for grant in self.grants.pin().values().filter_map(Weak::upgrade) {
            let identity = grant.identity();
            if identity.consumer.is_none() && *identity.subject == *name {
                let now = self.as_of_store(&name, false);
                let changed = Identity { roles: now.roles, groups: now.groups, tags: now.tags, ..(*identity).clone() };
                grant.identity.store(self.interned.one(changed));
            }
        }
    }

    /// Takes a consumer and its credentials away; its tokens are void. Gives whether there was one.
    ///
    /// # Errors
    /// When that cannot be made to last; it is in force all the same, until the process ends.
    pub async fn remove_consumer(&self, name: &str, now: u64) -> Result<bool, Trouble> {
        let known = self.consumers.pin().remove(name).is_some();
        for held in self.credentials(name) {
            self.drop_credential(&held.credential);
        }
        let before = now.saturating_add(1);
        self.mark("subject", name).void_before(before);
        let void = Change::Void { name: format!("subject:{name}"), before };
        self.write(vec![Change::NoConsumer(name.to_owned()), void]).await?;
        Ok(known)
    }

    /// Makes a credential of a consumer, or changes one. Good once this returns; one that is disabled is not, and what was given out for it
    /// is void.
    ///
    /// # Errors
    /// When there is no such consumer, another credential is the same, or it cannot be made to last.
    pub async fn put_credential(&self, credential: Credential, now: u64) -> Result<(), Trouble> {
        if !self.consumers.pin().contains_key(&credential.consumer) {
            return Err(Trouble::None);
        }
        let other = match credential.kind {
            CredentialKind::Key => self.key(&credential.digest),
            CredentialKind::Client => self.client(&credential.id),
        };
        let known = self.held(&credential.id);
        // an id is not all of a digest, and whoever gives digests may give two with the same id
        if [&other, &known].into_iter().flatten().any(|other| !other.credential.is_same(&credential)) {
            return Err(Trouble::There);
        }
        let used = known.map_or(0, |held| held.used.load(Ordering::Relaxed));
        if credential.disabled {
            let before = now.saturating_add(1);
            self.set_credential(credential.clone(), used);
            self.mark("credential", &credential.id).void_before(before);
            let void = Change::Void { name: format!("credential:{}", credential.id), before };
            return self.write(vec![Change::Credential(credential), void]).await;
        }
        self.write(vec![Change::Credential(credential.clone())]).await?;
        self.set_credential(credential, used);
        Ok(())
    }

    pub(super) fn set_credential(&self, credential: Credential, used: u64) {
        let consumer = self.consumer(&credential.consumer);
        let identity = Identity {
            subject: credential.consumer.as_str().into(),
            credential: Some(credential.id.as_str().into()),
            ..self.as_of_store(&credential.consumer, false)
        };
        let held = Arc::new(Held {
            identity: self.interned.one(identity),
            disabled: consumer.is_none_or(|consumer| consumer.disabled),
            used: AtomicU64::new(used),
            written: AtomicU64::new(used),
            credential,
        });
        match held.credential.kind {
            CredentialKind::Key => {
                self.keys.pin().insert(held.credential.digest, held);
            }
            CredentialKind::Client => {
                self.clients.pin().insert(held.credential.id.clone(), held);
            }
        }
    }

    pub(super) fn held(&self, id: &str) -> Option<Arc<Held>> {
        if let Some(client) = self.client(id) {
            return Some(client);
        }
        self.keys.pin().values().find(|held| held.credential.id == id).cloned()
    }

    pub(super) fn drop_credential(&self, credential: &Credential) {
        match credential.kind {
            CredentialKind::Key => {
                self.keys.pin().remove(&credential.digest);
            }
            CredentialKind::Client => {
                self.clients.pin().remove(&credential.id);
            }
        }
    }

    /// Uses of credentials that are not written yet; looked for once a minute, since there may be very many credentials.
    pub(super) fn uses(&self, now: u64) -> Vec<Change> {
        if now.saturating_sub(self.looked.load(Ordering::Relaxed)) < LOOK {
            return Vec::new();
        }
        self.looked.store(now, Ordering::Relaxed);
        let (keys, clients) = (self.keys.pin(), self.clients.pin());
        let unwritten = keys.values().chain(clients.values()).filter_map(|held| {
            let used = held.used.load(Ordering::Relaxed);
            (held.written.swap(used, Ordering::Relaxed) != used).then(|| (held.credential.id.clone(), used))
        });
        unwritten.take(MOST_USES).map(|(id, at)| Change::Used { id, at }).collect()
    }
}
