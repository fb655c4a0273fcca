//! What takes something away: in force on every worker when it returns, without anything being looked at twice by those who only call.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use super::{ACCESS, Accounts, Refusal, Revoked, Trouble, Whose};
use crate::change::Change;
use crate::consumer::{Consumer, CredentialKind, Held};
use crate::ended;
use crate::grant::{Grant, Kind, Token};
use crate::mark::Mark;
use crate::once::{self, Taken};

impl Accounts {
    /// Whether a login was not revoked, nor its subject, its credential or everything since it began. What it depends on is looked at once
    /// for each revocation.
    #[inline]
    pub(super) fn stands(&self, grant: &Grant) -> bool {
        if grant.revoked.load(Ordering::Acquire) {
            return false;
        }
        // before the marks: one that moves behind this moves the epoch behind that
        let epoch = self.epoch.load(Ordering::Acquire);
        if grant.stood.load(Ordering::Acquire) == epoch {
            return true;
        }
        let stands = !self.all.voids(grant.created) && !grant.is_void() && self.is_declared(grant);
        if stands {
            let ended = [&self.all, &*grant.subject, &*grant.credential].map(Mark::access_from);
            grant.access_from.fetch_max(ended.into_iter().fold(0, u64::max), Ordering::AcqRel);
            grant.stood.store(epoch, Ordering::Release);
        }
        stands
    }

    /// Voids the logins of a subject or a credential that began before a moment; in force on every worker when this returns.
    pub(super) fn void(&self, kind: &str, name: &str, before: u64) {
        self.mark(kind, name).void_before(before);
        if kind == "credential" && before == u64::MAX {
            self.voids_keys.store(true, Ordering::Release);
        }
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn void_all(&self, before: u64) {
        self.all.void_before(before);
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// Voids access tokens of a subject or a credential, or all of them, that were issued before a moment.
    pub(super) fn void_access(&self, whose: Option<(&str, &str)>, before: u64) {
        match whose {
            Some((kind, name)) => self.mark(kind, name).void_access_before(before),
            None => self.all.void_access_before(before),
        }
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// The moment that all logins so far began before, were the clock set back meanwhile.
    pub(super) fn behind_all(&self, now: u64) -> u64 {
        now.max(self.youngest.load(Ordering::Acquire)).saturating_add(1)
    }

    /// Revokes of these logins those whose consumer or credential is gone or disabled, and gives them; one that has only ended is not
    /// among them, since what was given for it before is good to its own end.
    pub(super) fn of_gone(&self, mut grants: Vec<Arc<Grant>>) -> Vec<Arc<Grant>> {
        let is_gone = |grant: &Arc<Grant>| {
            let identity = grant.identity();
            let is_cut_off = identity.consumer.is_some() && self.cut_off.has(&identity.subject);
            is_cut_off || !self.has_credential(grant, 0)
        };
        grants.retain(|grant| self.stands(grant) && is_gone(grant));
        grants.iter().for_each(|grant| grant.revoked.store(true, Ordering::Release));
        grants
    }

    /// The same of all logins.
    pub(super) fn grants_of_gone(&self) -> Vec<Arc<Grant>> {
        self.of_gone(self.grants.pin().values().filter_map(Weak::upgrade).collect())
    }

    /// Whether another pair may be given for a token, spent or not: it is a good refresh token, and so is the credential that its login came from.
    ///
    /// # Errors
    /// Why not.
    pub fn may_refresh(&self, token: &Token, service: &str, now: u64) -> Result<(), Refusal> {
        self.judge(token, Kind::Refresh, service, now)?;
        if self.has_credential(&token.grant, now) { Ok(()) } else { Err(Refusal::Revoked) }
    }

    /// Whether the credential that a login came from is still good. What is not of the store is not known here but where it was revoked.
    pub(super) fn has_credential(&self, grant: &Grant, now: u64) -> bool {
        let identity = grant.identity();
        let credential = identity.credential.as_deref().unwrap_or_default();
        if identity.consumer.is_some() {
            return !self.is_void(credential);
        }
        if let Some(client) = credential.strip_prefix(Consumer::NAMED) {
            let client = self.consumer(client).filter(|client| !client.disabled && client.is_public_client());
            return client.is_some() && !self.is_void(credential);
        }
        // its own, or that of a client through which a user logged in
        let is_of = |held: &Arc<Held>| {
            held.credential.kind == CredentialKind::Client || *held.credential.consumer == *identity.subject
        };
        match self.held(credential).filter(is_of) {
            Some(held) => held.is_good(now),
            // of the store, and gone since; or of a configuration, and void for ever
            None => grant.credential.moment() == 0,
        }
    }

    pub(super) async fn revoke_grant(&self, grant: &Grant) -> Result<(), Trouble> {
        grant.revoked.store(true, Ordering::Release);
        self.write(vec![Change::Revoked(grant.id)]).await.map(drop)
    }

    /// Revokes. In force on every worker before this returns; lasts once it has. Gives whether there was anything of it.
    ///
    /// # Errors
    /// When it cannot be made to last; it is in force all the same, until the process ends.
    pub async fn revoke(&self, what: &Revoked, before: Option<u64>, now: u64) -> Result<bool, Trouble> {
        let before = before.unwrap_or_else(|| self.behind_all(now));
        let (name, known) = match what {
            Revoked::Token(text) => return self.revoke_token(text).await,
            Revoked::All => {
                self.void_all(before);
                ("all".to_owned(), true)
            }
            Revoked::Access(whose) => return self.revoke_access(whose, before).await,
            Revoked::Subject(name) => {
                let known = self.marks.pin().contains_key(&format!("subject:{name}"));
                self.void("subject", name, before);
                (format!("subject:{name}"), known)
            }
            Revoked::Credential(id) => return self.revoke_credential(id, before).await,
        };
        self.write(vec![Change::Void { name, before }]).await?;
        Ok(known)
    }

    async fn revoke_access(&self, whose: &Whose, before: u64) -> Result<bool, Trouble> {
        let whose = match whose {
            Whose::Credential(id) => Some(("credential", id.as_str())),
            Whose::Subject(name) => Some(("subject", name.as_str())),
            Whose::All => None,
        };
        let name = whose.map_or_else(|| "all".to_owned(), |(kind, of)| format!("{kind}:{of}"));
        let known = whose.is_none() || self.marks.pin().contains_key(&name);
        self.void_access(whose, before);
        self.write(vec![Change::Void { name: format!("{ACCESS}:{name}"), before }]).await?;
        Ok(known)
    }

    async fn revoke_token(&self, text: &str) -> Result<bool, Trouble> {
        let Some(token) = self.find_anywhere(text.as_bytes()).await? else { return Ok(false) };
        if token.kind == Kind::Refresh {
            self.revoke_grant(&token.grant).await?;
            return Ok(true);
        }
        token.spent.store(true, Ordering::Release);
        self.write(vec![Change::Spent(token.id)]).await?;
        Ok(true)
    }

    /// A credential that is revoked is gone where the store has it, and void for ever where the configuration may.
    async fn revoke_credential(&self, id: &str, before: u64) -> Result<bool, Trouble> {
        let held = self.held(id);
        let name = format!("credential:{id}");
        let mark = self.marks.pin().get(&name).map(|mark| mark.moment());
        let known = held.is_some() || mark.is_some();
        let mut changes = Vec::new();
        // one that was the store's is not the configuration's, and may be made anew; the configuration's have a kind before a colon
        let is_client = id.strip_prefix(Consumer::NAMED).is_some_and(|name| self.has_consumer(name));
        let of_store = held.is_some()
            || is_client
            || mark.is_some_and(|moment| moment > 0 && moment < u64::MAX)
            || !id.contains(':');
        if let Some(held) = &held {
            self.drop_credential(&held.credential);
            changes.push(Change::NoCredential(id.to_owned()));
        }
        let before = if of_store { before } else { u64::MAX };
        self.void("credential", id, before);
        changes.push(Change::Void { name, before });
        let done = self.write(changes).await;
        if let Some(held) = self.held(id).filter(|_| held.is_some()) {
            // another process may have told of it meanwhile
            self.drop_credential(&held.credential);
        }
        done.map(|_| known)
    }

    /// Uses up what is good once: a one-time password, a recovery code. `name` is what is used (`recovery:…`, `totp:…`); for one of a row,
    /// `moment` says which, and the earlier ones go with it; `u64::MAX` for one that stands alone. Says whether it was still good; that it
    /// no longer is holds on every worker before this returns, and lasts once it has.
    ///
    /// # Errors
    /// When that cannot be made to last; it is used up all the same.
    pub async fn use_up(&self, kind: &'static str, name: &str, moment: u64) -> Result<bool, Trouble> {
        if !self.mark(kind, name).advance(moment) {
            return Ok(false);
        }
        self.write(vec![Change::UseUp { name: format!("{kind}:{name}"), before: moment }]).await
    }

    /// Uses up what is good once and ends by itself, such as an assertion that somebody else issued: `name` is what tells it from all others of
    /// its kind, and `until` when it is void anyhow, after which it is forgotten. Says whether it was still good, as [`Accounts::use_up`] does.
    ///
    /// # Errors
    /// When that cannot be made to last, or too many are remembered; it is good no more all the same.
    pub async fn use_once(&self, kind: &'static str, name: &str, until: u64, now: u64) -> Result<bool, Trouble> {
        let of = once::digest_of(kind, name);
        match self.once.take(of, until, now) {
            Taken::First => {}
            Taken::Again => return Ok(false),
            Taken::Full => return Err(Trouble::Busy),
        }
        self.write(vec![Change::UseUp { name: once::name(&of, until), before: until }]).await
    }

    /// Ends what would last until a moment and is kept by its holder alone, such as a browser's session in its cookie; `id` is what tells it from
    /// all others, at random. Once this returns [`Accounts::has_ended`] says so here, within moments in other processes with the same store,
    /// and after a restart.
    ///
    /// # Errors
    /// When that cannot be made to last, or too many are remembered; nothing is noted then.
    pub async fn end(&self, id: &[u8; 16], until: u64, now: u64) -> Result<(), Trouble> {
        if self.ended.is_full(now) {
            return Err(Trouble::Busy);
        }
        self.write(vec![Change::Void { name: ended::name(id, until), before: until }]).await?;
        self.ended.note(*id, until, now);
        Ok(())
    }

    /// Whether [`Accounts::end`] ended it. No lock, no allocation, and one look where nothing was ended.
    #[must_use]
    pub fn has_ended(&self, id: &[u8; 16]) -> bool {
        self.ended.has(id)
    }

    /// Goes up with each that was ended: what was remembered before is to be looked at again.
    #[must_use]
    pub fn endings(&self) -> u64 {
        self.ended.count()
    }
}
