//! Consumers and credentials of the store, in memory.

use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};

use daemun_pipeline::Identity;

use super::by_digest::Key;
use super::{Accounts, Trouble, USED};
use crate::change::Change;
use crate::consumer::{Consumer, Credential, CredentialKind, Held};
use crate::grant::Grant;
use crate::uses;

/// Time between two looks at when credentials were last used, milliseconds, and uses that are written at once: so few that whoever waits
/// for the store meanwhile does not wait long.
const LOOK: u64 = 60_000;
pub(super) const MOST_USES: usize = 10_000;
/// How far behind what is written may be at most, milliseconds, where there are more than that.
const MOST_BEHIND: u64 = 24 * 60 * 60 * 1_000;

impl Accounts {
    /// What the store says of a consumer, where a credential of it there shows that it calls.
    fn as_of_store(&self, subject: &str, credential: &str) -> Option<Consumer> {
        let held = self.held(credential)?;
        if held.credential.consumer == subject { self.consumer(subject) } else { None }
    }

    /// A consumer of the store.
    #[must_use]
    pub fn consumer(&self, name: &str) -> Option<Consumer> {
        self.consumers.pin().get(name).cloned()
    }

    /// Whether the store has a consumer of this name. Costs next to nothing where there never was one.
    #[must_use]
    #[inline]
    pub fn has_consumer(&self, name: &str) -> bool {
        self.any_consumer.load(Ordering::Acquire) && self.consumers.pin().contains_key(name)
    }

    /// Whether an identity is that of a consumer of the store, by a credential that it has there.
    #[must_use]
    pub fn is_of_store(&self, identity: &Identity) -> bool {
        let credential = identity.credential.as_deref().filter(|_| identity.consumer.is_none());
        credential.and_then(|id| self.held(id)).is_some_and(|held| *held.credential.consumer == *identity.subject)
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
        let credentials = self.credentials.pin();
        let mut all: Vec<Arc<Held>> =
            credentials.values().filter(|held| held.credential.consumer == consumer).cloned().collect();
        all.sort_by(|a, b| (a.credential.created, &a.credential.id).cmp(&(b.credential.created, &b.credential.id)));
        all
    }

    /// Makes a consumer, or changes one: what it may do changes at once, for tokens it has as well. One that is disabled has no good
    /// credential and no good token. Tokens of somebody else who had the name of one that is new end.
    ///
    /// # Errors
    /// When that cannot be made to last, or another process has changed it since this one looked.
    pub async fn put_consumer(&self, mut consumer: Consumer, now: u64) -> Result<(), Trouble> {
        consumer.had_secret |= self.consumer(&consumer.name).is_some_and(|known| known.had_secret);
        let mut changes = vec![Change::Consumer(consumer.clone())];
        let (before, subject) = (self.behind_all(now), format!("subject:{}", consumer.name));
        let takes_name = !self.has_consumer(&consumer.name) && self.marks.pin().contains_key(&subject);
        if consumer.disabled || takes_name {
            changes.push(Change::Void { name: subject, before });
        }
        let of_logins = if consumer.disabled { self.of_logins(&consumer.name) } else { Vec::new() };
        changes.extend(of_logins.iter().map(|of| Change::Void { name: format!("credential:{of}"), before }));
        if consumer.disabled {
            // in force at once; what gives more waits until it lasts
            self.set_consumer(consumer.clone());
            self.void("subject", &consumer.name, before);
            of_logins.iter().for_each(|of| self.void("credential", of, before));
        }
        let disabled = consumer.disabled;
        let done = self.write_changed(changes).await;
        if done.is_ok() && takes_name {
            self.void("subject", &consumer.name, before);
        }
        if done.is_ok() || disabled {
            // once more where it was in force before: what another process did may have come between
            self.set_consumer(consumer);
        }
        done
    }

    /// Has what was read before and is changed written.
    async fn write_changed(&self, changes: Vec<Change>) -> Result<(), Trouble> {
        if self.write(changes).await? { Ok(()) } else { Err(Trouble::Changed) }
    }

    /// What logins of users come from that a consumer asked for.
    fn of_logins(&self, name: &str) -> Vec<String> {
        let clients = self.credentials(name).into_iter().filter(|held| held.credential.kind == CredentialKind::Client);
        clients.map(|held| held.credential.id.clone()).chain([Consumer::named(name)]).collect()
    }

    pub(super) fn set_consumer(&self, consumer: Consumer) {
        let name = consumer.name.clone();
        self.cut_off.set(&name, consumer.disabled);
        self.consumers.pin().insert(name.clone(), consumer);
        self.any_consumer.store(true, Ordering::Release);
        self.follow_plans(&name);
        for held in self.credentials(&name) {
            self.set_credential(held.credential.clone(), held.used.load(Ordering::Relaxed));
        }
        for grant in self.grants.pin().values().filter_map(Weak::upgrade) {
            if *grant.identity().subject == *name {
                self.follow(&grant);
            }
        }
    }

    /// Lets a login be what its consumer is now: its roles, and no more scopes than that has.
    pub(super) fn follow(&self, grant: &Grant) {
        let identity = grant.identity();
        let credential = identity.credential.as_deref().filter(|_| identity.consumer.is_none());
        let Some(now) = credential.and_then(|id| self.as_of_store(&identity.subject, id)) else { return };
        let scopes = grant.scopes.iter().filter(|scope| now.scopes.contains(scope)).cloned().collect();
        let is = Identity { roles: now.roles, groups: now.groups, tags: now.tags, scopes, ..(*identity).clone() };
        if is != *identity {
            grant.identity.store(self.interned.one(is));
        }
    }

    /// Takes a consumer and its credentials away; its tokens are void. Gives whether there was one.
    ///
    /// # Errors
    /// When that cannot be made to last; it is in force all the same, until the process ends.
    pub async fn remove_consumer(&self, name: &str, now: u64) -> Result<bool, Trouble> {
        let known = self.consumers.pin().contains_key(name);
        // with each credential goes what is being given for it now, here or in another process: that may begin behind this
        let credentials = self.credentials(name).into_iter().map(|held| ("credential", held.credential.id.clone()));
        let own = [("subject", name.to_owned()), ("credential", Consumer::named(name))];
        let voided: Vec<_> = own.into_iter().chain(credentials).collect();
        self.drop_consumer(name);
        let before = self.behind_all(now);
        let mut changes = vec![Change::NoConsumer(name.to_owned())];
        for (kind, of) in voided {
            self.void(kind, &of, before);
            changes.push(Change::Void { name: format!("{kind}:{of}"), before });
        }
        let done = self.write(changes).await;
        // once more: what another process did may have come between
        self.drop_consumer(name);
        done.map(|_| known)
    }

    pub(super) fn drop_consumer(&self, name: &str) {
        self.consumers.pin().remove(name);
        self.forget_use(name);
        self.cut_off.set(name, false);
        for held in self.credentials(name) {
            self.drop_credential(&held.credential);
        }
    }

    /// Makes a credential of a consumer, or changes one. Good once this returns. With one that is disabled goes what was issued for it.
    ///
    /// # Errors
    /// When there is no such consumer, another credential is the same, it cannot be made to last, or another process has changed it since
    /// this one looked.
    pub async fn put_credential(&self, credential: Credential, now: u64) -> Result<(), Trouble> {
        let consumer = self.consumer(&credential.consumer).ok_or(Trouble::None)?;
        let of_key = (credential.kind == CredentialKind::Key).then(|| self.key(&credential.digest)).flatten();
        let same = |other: &Arc<Held>| other.credential.is_same(&credential);
        // an id is not all of a digest, and whoever gives digests may give two with the same id
        if !of_key.iter().chain(&self.held(&credential.id)).all(same) {
            return Err(Trouble::There);
        }
        let used = || self.held(&credential.id).map_or(0, |held| held.used.load(Ordering::Relaxed));
        let mut changes = vec![Change::Credential(credential.clone())];
        let first = credential.kind == CredentialKind::Client && !consumer.had_secret;
        let confidential = first.then_some(Consumer { had_secret: true, ..consumer });
        changes.extend(confidential.clone().map(Change::Consumer));
        if credential.disabled {
            let before = self.behind_all(now);
            self.set_credential(credential.clone(), used());
            self.void("credential", &credential.id, before);
            changes.push(Change::Void { name: format!("credential:{}", credential.id), before });
        }
        let done = self.write_changed(changes).await;
        if done.is_ok() || credential.disabled {
            let used = used();
            confidential.into_iter().for_each(|consumer| self.set_consumer(consumer));
            self.set_credential(credential, used);
        }
        done
    }

    pub(super) fn set_credential(&self, credential: Credential, used: u64) {
        let consumer = self.consumer(&credential.consumer);
        let is_good = consumer.as_ref().is_some_and(|consumer| !consumer.disabled) && !credential.disabled;
        let consumer = consumer.unwrap_or_default();
        let identity = Identity {
            subject: credential.consumer.as_str().into(),
            credential: Some(credential.id.as_str().into()),
            roles: consumer.roles,
            groups: consumer.groups,
            tags: consumer.tags,
            scopes: consumer.scopes,
            ..Identity::default()
        };
        // what is not written yet of the same one stays due
        let written = self.held(&credential.id).map_or(used, |known| known.written.load(Ordering::Relaxed));
        let held = Arc::new(Held {
            identity: self.interned.one(identity),
            until: if is_good { credential.expires.unwrap_or(u64::MAX) } else { 0 },
            used: AtomicU64::new(used),
            written: AtomicU64::new(written),
            credential,
        });
        if held.credential.kind == CredentialKind::Key {
            self.keys.insert(&held.credential.digest, Key::new(Arc::clone(&held)));
            self.any_key.store(true, Ordering::Release);
        }
        self.credentials.pin().insert(held.credential.id.clone(), held);
    }

    /// A credential of the store, by its id.
    pub(super) fn held(&self, id: &str) -> Option<Arc<Held>> {
        self.credentials.pin().get(id).cloned()
    }

    pub(super) fn drop_credential(&self, credential: &Credential) {
        if credential.kind == CredentialKind::Key {
            self.keys.remove(&credential.digest);
        }
        self.credentials.pin().remove(&credential.id);
    }

    /// Uses of credentials that are not written yet; looked for once a minute, since there may be very many credentials. Where there are more
    /// of them than are written at once, each is written less often, so that all are in turn.
    pub(super) fn uses(&self, now: u64) -> Vec<Change> {
        if now.abs_diff(self.looked.load(Ordering::Relaxed)) < LOOK {
            return Vec::new();
        }
        self.looked.store(now, Ordering::Relaxed);
        let behind = self.behind.load(Ordering::Relaxed);
        let all = self.unwritten_uses(behind);
        let behind = if all.len() < MOST_USES { behind / 2 } else { (2 * behind).clamp(LOOK, MOST_BEHIND) };
        self.behind.store(behind, Ordering::Relaxed);
        all
    }

    /// As many as are written at once, where what is written is so many milliseconds behind; they are taken to be written then.
    pub(super) fn unwritten_uses(&self, behind: u64) -> Vec<Change> {
        let credentials = self.credentials.pin();
        let unwritten = credentials.values().filter_map(|held| {
            let used = uses::unwritten(&held.used, &held.written, behind)?;
            Some(Change::Used { id: held.credential.id.clone(), at: used })
        });
        let mut all: Vec<Change> = unwritten.take(MOST_USES).collect();
        let declared = self.uses.unwritten(MOST_USES - all.len(), behind).into_iter();
        all.extend(declared.map(|(id, at)| Change::Void { name: format!("{USED}:{id}"), before: at }));
        all
    }

    /// Has uses that could not be written due again.
    pub(super) fn unwrite_uses(&self, changes: &[Change]) {
        for change in changes {
            if let Change::Used { id, .. } = change {
                self.held(id).iter().for_each(|held| held.written.store(0, Ordering::Relaxed));
            } else if let Change::Void { name, .. } = change
                && let Some((USED, id)) = name.split_once(':')
            {
                self.uses.of(id).unwrite();
            }
        }
    }
}
