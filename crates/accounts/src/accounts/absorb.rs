//! What a store held, or another process did, comes into memory; the same twice is the same.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use daemun_pipeline::Identity;
use serde_json::Value;

use super::{ACCESS, Accounts, USED, USER};
use crate::change::{Change, GrantRow, TokenRow};
use crate::grant::{Grant, Narrow, Token};
use crate::{ended, once};

impl Accounts {
    /// Takes in what was kept, or what another process did. `grants` holds logins whose tokens may come behind them.
    pub(super) fn absorb(&self, change: Change, now: u64, grants: &mut Vec<Arc<Grant>>) {
        match change {
            Change::Grant(row) => self.absorb_grant(row, now, grants),
            Change::Token(row) => self.absorb_token(&row, now),
            Change::Spend(_) | Change::Spent(_) | Change::Revoked(_) | Change::UseUp { .. } => {}
            Change::Void { name, before } => match name.split_once(':') {
                None => self.void_all(before),
                Some((ACCESS, whose)) => self.void_access(whose.split_once(':'), before),
                Some((USED, id)) => self.uses.of(id).keep(before),
                Some((once::KIND, name)) => {
                    if let Some(of) = once::parse(name) {
                        self.once.note(of, before, now);
                    }
                }
                Some((ended::KIND, name)) => {
                    if let Some(id) = ended::parse(name) {
                        self.ended.note(id, before, now);
                    }
                }
                // the largest number that a store can keep
                Some((kind, name)) if i64::try_from(before).is_ok_and(|before| before < i64::MAX) => {
                    self.void(kind, name, before);
                }
                Some((kind, name)) => self.void(kind, name, u64::MAX),
            },
            Change::Consumer(consumer) => self.set_consumer(consumer),
            Change::NoConsumer(name) => self.drop_consumer(&name),
            Change::Credential(credential) => {
                let used = self.held(&credential.id).map_or(0, |held| held.used.load(Ordering::Relaxed));
                self.set_credential(credential, used);
            }
            Change::NoCredential(id) => {
                if let Some(held) = self.held(&id) {
                    self.drop_credential(&held.credential);
                }
            }
            Change::Used { id, at } => {
                if let Some(held) = self.held(&id) {
                    held.used.fetch_max(at, Ordering::Relaxed);
                    held.written.fetch_max(at, Ordering::Relaxed);
                }
            }
            Change::Plan(plan) => self.set_plan(plan),
            Change::NoPlan(name) => self.drop_plan(&name),
            // what is used is only added to, and asked of the store
            Change::Usage { .. } => {}
            Change::SigningKey(key) => self.set_signing_key(key),
            Change::NoSigningKey(id) => self.drop_signing_key(&id),
        }
    }

    fn absorb_grant(&self, row: GrantRow, now: u64, kept: &mut Vec<Arc<Grant>>) {
        if let Some(known) = self.grants.pin().get(&row.id).and_then(Weak::upgrade) {
            known.revoked.fetch_or(row.revoked, Ordering::AcqRel);
            return;
        }
        if row.expires <= now {
            return;
        }
        let said: Value = serde_json::from_str(&row.says).unwrap_or_default();
        let list = |key: &str| -> Vec<String> {
            let list = said.get(key).and_then(Value::as_array).into_iter().flatten();
            list.filter_map(|item| item.as_str().map(str::to_owned)).collect()
        };
        let scopes = list("scopes");
        let identity = Identity {
            subject: row.subject.as_str().into(),
            consumer: row.consumer.then(|| row.subject.as_str().into()),
            roles: list("roles"),
            groups: list("groups"),
            tags: Vec::new(),
            scopes: scopes.clone(),
            claims: said.get("claims").and_then(Value::as_object).cloned().unwrap_or_default().into(),
            credential: Some(row.credential.as_str().into()),
            ..Identity::default()
        };
        let grant = Arc::new(Grant {
            id: row.id,
            service: self.services.one(&row.service),
            identity: ArcSwap::new(self.interned.one(identity)),
            subject: self.mark("subject", &row.subject),
            credential: self.mark("credential", &row.credential),
            created: row.created,
            expires: row.expires,
            revoked: AtomicBool::new(row.revoked),
            of_user: row.credential.starts_with(USER),
            stood: AtomicU64::new(0),
            access_from: AtomicU64::new(0),
            scopes: scopes.into(),
            live: AtomicU32::new(0),
        });
        self.follow(&grant);
        self.grants.pin().insert(grant.id, Arc::downgrade(&grant));
        kept.push(grant);
        self.last_id.fetch_max(row.id, Ordering::AcqRel);
        self.youngest.fetch_max(row.created, Ordering::AcqRel);
    }

    fn absorb_token(&self, row: &TokenRow, now: u64) {
        if let Some(known) = self.token(&row.digest) {
            known.spent.fetch_or(row.spent, Ordering::AcqRel);
            return;
        }
        let Some(grant) = self.grants.pin().get(&row.grant).and_then(Weak::upgrade) else { return };
        if row.expires <= now {
            return;
        }
        let subject = Arc::clone(&grant.subject);
        subject.take(1, u32::MAX);
        let token = Token {
            id: row.id,
            grant,
            kind: row.kind,
            issued: row.issued,
            expires: row.expires,
            spent: AtomicBool::new(row.spent),
            narrow: row.scopes.clone().map(Narrow::of),
        };
        self.put(row.digest, token);
        self.last_id.fetch_max(row.id, Ordering::AcqRel);
    }
}
