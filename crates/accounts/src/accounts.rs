//! The accounts in memory: what a request asks, without a lock, and what changes them. A change lasts before it is acknowledged; one that
//! takes something away is in force on every worker before that.

mod absorb;
mod held;
mod signing;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use arc_swap::ArcSwap;
use daemun_pipeline::{Carry, Identity};
use serde_json::json;

use crate::change::{Change, GrantRow, SigningKeyRow, TokenRow};
use crate::consumer::{Consumer, Held};
use crate::expiry::Expiry;
use crate::grant::{Asked, Grant, Issued, Kind, Mint, Token, Wanted, name};
use crate::intern::Interned;
use crate::journal::{Around, Journal};
use crate::mark::Mark;
use crate::once::{self, Once, Taken};
use crate::seal::Seal;
use crate::store::{Store, StoreError};
use crate::text::{Digest, NoRandomness, Prefix, digest};

/// Tokens that all subjects may have at once; what is beyond is not given out.
const MOST_TOKENS: usize = 20_000_000;
/// Tokens that are forgotten at once.
const FORGET: usize = 1_000;

/// Bits of an id that tell processes apart.
const TAG_BITS: u32 = 10;

/// Chance decides; without any, processes are told apart by their numbers.
fn tag() -> i64 {
    let mut bytes = [0; 2];
    let drawn = aws_lc_rs::rand::fill(&mut bytes).map(|()| u32::from(u16::from_le_bytes(bytes)));
    i64::from(drawn.unwrap_or_else(|_| std::process::id()) & ((1 << TAG_BITS) - 1))
}

/// A digest is as good as random, so that its first bytes are its hash.
#[derive(Default)]
pub(crate) struct First(u64);

impl Hasher for First {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.first_chunk::<8>().map_or(0, |first| u64::from_le_bytes(*first));
    }

    // the length, which is always the same
    fn write_usize(&mut self, _: usize) {}
}

type ByDigest<T> = papaya::HashMap<Digest, T, BuildHasherDefault<First>>;

/// Why a credential or token is no good. The caller is never told which it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is none such, or it is another kind of token, or of another service.
    Unknown,
    /// It has ended.
    Expired,
    /// It, its login, its credential or its subject was revoked.
    Revoked,
    /// A refresh token that was used before: its login is revoked now.
    Reused,
    /// More was asked for than it was given for.
    Scope,
}

impl Refusal {
    /// For the log and `explain`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::Unknown => "it is none that is known here",
            Refusal::Expired => "it has expired",
            Refusal::Revoked => "it was revoked",
            Refusal::Reused => "it was used before, so that all of its login is revoked",
            Refusal::Scope => "it was given for less than is asked for",
        }
    }
}

/// Why what was asked was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Too much waits for the store.
    #[error("too much waits for the store")]
    Busy,
    /// The store failed.
    #[error("the store does not work: {0}")]
    Store(#[from] StoreError),
    /// The subject, or all of them, have as many tokens as they may.
    #[error("there are too many tokens")]
    TooMany,
    /// There are no random numbers.
    #[error("the system gives no random numbers")]
    NoRandomness,
    /// An access token that is to be signed cannot be.
    #[error("the access token cannot be signed: {0}")]
    Unsigned(&'static str),
    /// A credential or token that is no good.
    #[error("{}", .0.as_str())]
    Refused(Refusal),
    /// There is none of this name.
    #[error("there is none such")]
    None,
    /// There is one of this name.
    #[error("there is one such already")]
    There,
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Trouble {
        Trouble::Refused(refusal)
    }
}

/// What a revocation names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// A token, by its text: an access token alone, with a refresh token its whole login.
    Token(String),
    /// What was issued for a credential, by its id, and the credential itself where it is a key.
    Credential(String),
    /// What was issued to a subject: a consumer or a user.
    Subject(String),
    /// Everything.
    All,
}

/// All accounts.
pub struct Accounts {
    tokens: ByDigest<Arc<Token>>,
    keys: ByDigest<Arc<Held>>,
    clients: papaya::HashMap<String, Arc<Held>>,
    consumers: papaya::HashMap<String, Consumer>,
    /// Logins that have not ended, by id.
    grants: papaya::HashMap<i64, Weak<Grant>>,
    marks: papaya::HashMap<String, Arc<Mark>>,
    once: Once,
    signing: papaya::HashMap<String, SigningKeyRow>,
    /// Goes up when those change.
    signing_changes: AtomicU64,
    own_seal: OnceLock<Option<Arc<Seal>>>,
    /// What was issued before is void.
    before: AtomicU64,
    /// Whether keys of the configuration may be void.
    voids_keys: AtomicBool,
    count: AtomicUsize,
    expiry: Expiry,
    interned: Interned,
    last_id: AtomicI64,
    /// The lowest bits of the ids this process gives out.
    tag: i64,
    /// When it was last looked at uses of credentials.
    looked: AtomicU64,
    journal: OnceLock<Journal>,
}

impl std::fmt::Debug for Accounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accounts").field("tokens", &self.count).finish_non_exhaustive()
    }
}

/// What of a grant is kept as JSON.
fn says(identity: &Identity) -> String {
    json!({
        "roles": identity.roles, "groups": identity.groups, "scopes": identity.scopes, "claims": identity.claims,
    })
    .to_string()
}

impl Accounts {
    /// Empty ones that nothing keeps.
    #[must_use]
    pub fn in_memory() -> Accounts {
        Accounts {
            tokens: papaya::HashMap::default(),
            keys: papaya::HashMap::default(),
            clients: papaya::HashMap::default(),
            consumers: papaya::HashMap::default(),
            grants: papaya::HashMap::default(),
            marks: papaya::HashMap::default(),
            once: Once::default(),
            signing: papaya::HashMap::default(),
            signing_changes: AtomicU64::new(0),
            own_seal: OnceLock::new(),
            before: AtomicU64::new(0),
            voids_keys: AtomicBool::new(false),
            count: AtomicUsize::new(0),
            expiry: Expiry::default(),
            interned: Interned::default(),
            last_id: AtomicI64::new(0),
            tag: tag(),
            looked: AtomicU64::new(0),
            journal: OnceLock::new(),
        }
    }

    /// Takes in what a store holds and keeps it there; a thread writes to it from now on. `now` reads the wall clock, milliseconds since the
    /// Unix epoch, `tell` tells the operator what does not work. Does nothing where there is a store already.
    ///
    /// # Errors
    /// When the store cannot be read, or there is no thread to be had.
    pub fn keep_in(
        self: &Arc<Self>,
        mut store: Box<dyn Store>,
        now: impl Fn() -> u64 + Send + 'static,
        tell: impl Fn(String) + Send + 'static,
    ) -> Result<(), StoreError> {
        if self.is_kept() {
            return Ok(());
        }
        let moment = now();
        // logins live as long as their tokens, which come behind them
        let mut grants = Vec::new();
        store.read(&mut |change| self.absorb(change, moment, &mut grants))?;
        drop(grants);
        let around = Surroundings { accounts: Arc::downgrade(self), now: Box::new(now), tell: Box::new(tell) };
        let journal = Journal::start(store, around).map_err(|error| StoreError(format!("no thread: {error}")))?;
        let _ = self.journal.set(journal);
        Ok(())
    }

    /// Whether a store keeps them.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.journal.get().is_some()
    }

    /// Those of the running gateway; empty ones where `carry` is detached.
    #[must_use]
    pub fn of(carry: &Carry) -> Arc<Accounts> {
        carry.get_or("accounts", "", Accounts::in_memory)
    }

    /// Whose access token this is. No lock, no allocation; some cache misses and one SHA-256.
    ///
    /// # Errors
    /// Why it is no good.
    pub fn check(&self, text: &[u8], service: &str, now: u64) -> Result<Arc<Identity>, Refusal> {
        let tokens = self.tokens.pin();
        let token = tokens.get(&digest(text)).ok_or(Refusal::Unknown)?;
        self.judge(token, Kind::Access, service, now)?;
        Ok(token.identity())
    }

    /// The token of a text, of any kind, good or not.
    #[must_use]
    pub fn find(&self, text: &[u8]) -> Option<Arc<Token>> {
        self.tokens.pin().get(&digest(text)).cloned()
    }

    /// Whether a token is good.
    ///
    /// # Errors
    /// Why not.
    #[inline]
    pub fn judge(&self, token: &Token, kind: Kind, service: &str, now: u64) -> Result<(), Refusal> {
        if token.kind != kind || *token.grant.service != *service {
            return Err(Refusal::Unknown);
        }
        if now >= token.expires {
            return Err(Refusal::Expired);
        }
        let spent = token.kind == Kind::Access && token.spent.load(Ordering::Acquire);
        if spent || token.issued < self.before.load(Ordering::Acquire) || token.grant.voids(token.issued) {
            return Err(Refusal::Revoked);
        }
        Ok(())
    }

    /// The credential of the store that this key is, good or not. Costs nothing where the store has none.
    #[must_use]
    pub fn key(&self, digest: &Digest) -> Option<Arc<Held>> {
        if self.keys.is_empty() { None } else { self.keys.pin().get(digest).cloned() }
    }

    /// The credential of the store with this client id, good or not.
    #[must_use]
    pub fn client(&self, id: &str) -> Option<Arc<Held>> {
        self.clients.pin().get(id).cloned()
    }

    /// Whether a key of the configuration was revoked, by its digest. One load where none was.
    #[must_use]
    #[inline]
    pub fn is_void_key(&self, digest: &Digest) -> bool {
        self.voids_keys.load(Ordering::Acquire) && self.is_void_credential(&crate::text::id_of("key", digest))
    }

    /// Whether a credential of the configuration was revoked, by its id.
    #[must_use]
    pub fn is_void_credential(&self, id: &str) -> bool {
        self.marks.pin().get(&format!("credential:{id}")).is_some_and(|mark| mark.moment() == u64::MAX)
    }

    /// As [`Accounts::is_void_credential`], and one load where nothing of the configuration was revoked.
    #[must_use]
    #[inline]
    pub fn is_void(&self, id: &str) -> bool {
        self.voids_keys.load(Ordering::Acquire) && self.is_void_credential(id)
    }

    /// How many tokens there are.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// How many tokens a subject has.
    #[must_use]
    pub fn tokens_of(&self, subject: &str) -> u32 {
        self.marks.pin().get(&format!("subject:{subject}")).map_or(0, |mark| mark.live())
    }

    fn mark(&self, kind: &str, name: &str) -> Arc<Mark> {
        let marks = self.marks.pin();
        Arc::clone(marks.get_or_insert_with(format!("{kind}:{name}"), Arc::default))
    }

    /// An id that grows with time: milliseconds, a count, and what tells this process from another that has the same store open.
    fn next_id(&self, now: u64) -> i64 {
        let floor = i64::try_from(now << 20).unwrap_or(0) | self.tag;
        let next = |last: i64| last.saturating_add(1 << TAG_BITS).max(floor);
        let last = self.last_id.fetch_update(Ordering::AcqRel, Ordering::Acquire, |last| Some(next(last)));
        // what another process gave out may have been seen meanwhile
        next(last.unwrap_or(0)) & !((1 << TAG_BITS) - 1) | self.tag
    }

    /// Has changes written; done once they last.
    async fn write(&self, changes: Vec<Change>) -> Result<(), Trouble> {
        let Some(journal) = self.journal.get() else { return Ok(()) };
        let done = journal.write(changes).map_err(|_| Trouble::Busy)?;
        match done.await {
            Ok(done) => Ok(done?),
            Err(_) => Err(StoreError("its thread has ended".to_owned()).into()),
        }
    }

    /// Gives out tokens of a new login. They are good from then on that this returns, and last.
    ///
    /// # Errors
    /// When there are too many, or they cannot be made to last.
    pub async fn issue(&self, asked: Asked, now: u64) -> Result<Issued, Trouble> {
        self.issue_by(None, asked, now).await
    }

    /// The same with an access token whose text comes from `mint`.
    ///
    /// # Errors
    /// As those of [`Accounts::issue`], and of the mint.
    pub async fn issue_by(&self, mint: Option<&dyn Mint>, asked: Asked, now: u64) -> Result<Issued, Trouble> {
        let longest = now.saturating_add(asked.longest);
        let identity = Identity {
            subject: asked.subject.clone(),
            consumer: asked.consumer.then(|| asked.subject.clone()),
            credential: Some(asked.credential.clone()),
            ..self.as_of_store(&asked.subject, asked.consumer)
        };
        let identity = Identity {
            roles: if asked.roles.is_empty() { identity.roles } else { asked.roles },
            groups: if asked.groups.is_empty() { identity.groups } else { asked.groups },
            scopes: asked.scopes,
            claims: asked.claims,
            ..identity
        };
        let grant = Arc::new(Grant {
            id: self.next_id(now),
            service: asked.service,
            identity: ArcSwap::new(self.interned.one(identity)),
            subject: self.mark("subject", &asked.subject),
            credential: self.mark("credential", &asked.credential),
            created: now,
            expires: longest,
            revoked: AtomicBool::new(false),
        });
        let row = GrantRow {
            id: grant.id,
            service: grant.service.to_string(),
            subject: asked.subject.into(),
            consumer: asked.consumer,
            credential: asked.credential.into(),
            says: says(&grant.identity()),
            created: now,
            expires: longest,
            revoked: false,
        };
        let access = AccessText { mint, scopes: None };
        self.give(grant, vec![Change::Grant(row)], (asked.access, asked.refresh), access, asked.most, now).await
    }

    /// Makes tokens of a login, has them written behind `changes`, and puts them into force.
    async fn give(
        &self,
        grant: Arc<Grant>,
        mut changes: Vec<Change>,
        (access, refresh): (u64, Option<u64>),
        text: AccessText<'_>,
        most: u32,
        now: u64,
    ) -> Result<Issued, Trouble> {
        let count = if refresh.is_some() { 2 } else { 1 };
        if self.tokens() >= MOST_TOKENS || !grant.subject.take(count, most) {
            return Err(Trouble::TooMany);
        }
        // given back when anything below fails, or whoever waits for it leaves
        let room = Room { subject: &grant.subject, count };
        let make = |kind: Kind, lifetime: u64| {
            let expires = now.saturating_add(lifetime).min(grant.expires);
            let (id, spent) = (self.next_id(now), AtomicBool::new(false));
            Token { id, grant: Arc::clone(&grant), kind, issued: now, expires, spent, scopes: None }
        };
        let token = Token { scopes: text.scopes.map(<[String]>::to_vec), ..make(Kind::Access, access) };
        let access = text.of(&token).await?;
        let access = (access.0, access.1, token);
        changes.push(Change::Token(access.2.row(access.1)));
        let refresh = match refresh {
            Some(lifetime) => {
                let (text, token) = (Prefix::Refresh.make()?, make(Kind::Refresh, lifetime));
                let digest = digest(text.as_bytes());
                changes.push(Change::Token(token.row(digest)));
                Some((text, digest, token))
            }
            None => None,
        };
        self.write(changes).await?;
        room.keep();
        self.grants.pin().insert(grant.id, Arc::downgrade(&grant));
        let issued = Issued {
            access: access.0,
            access_expires: access.2.expires,
            refresh: refresh.as_ref().map(|(text, _, token)| (text.clone(), token.expires)),
            scopes: grant.identity().scopes.clone(),
        };
        self.put(access.1, access.2);
        if let Some((_, digest, token)) = refresh {
            self.put(digest, token);
        }
        Ok(issued)
    }

    fn put(&self, digest: Digest, token: Token) {
        self.expiry.note(token.expires, digest);
        self.tokens.pin().insert(digest, Arc::new(token));
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives out another pair for a refresh token, which is spent by that; one that was spent before revokes its login. `refresh` is how long
    /// the next one lasts, `scopes` what it is wanted for where that is less.
    ///
    /// # Errors
    /// When the token is no good, or the next ones cannot be made to last; then it stays good.
    pub async fn refresh(
        &self,
        text: &[u8],
        service: &str,
        lifetimes: (u64, u64),
        scopes: Option<Vec<String>>,
        most: u32,
        now: u64,
    ) -> Result<(Issued, Arc<Identity>), Trouble> {
        self.refresh_by(None, (text, service), lifetimes, scopes, most, now).await
    }

    /// The same with an access token whose text comes from `mint`.
    ///
    /// # Errors
    /// As those of [`Accounts::refresh`], and of the mint.
    pub async fn refresh_by(
        &self,
        mint: Option<&dyn Mint>,
        (text, service): (&[u8], &str),
        lifetimes: (u64, u64),
        scopes: Option<Vec<String>>,
        most: u32,
        now: u64,
    ) -> Result<(Issued, Arc<Identity>), Trouble> {
        let token = self.find(text).ok_or(Refusal::Unknown)?;
        self.judge(&token, Kind::Refresh, service, now)?;
        let identity = token.grant.identity();
        if scopes.as_ref().is_some_and(|wanted| wanted.iter().any(|scope| !identity.scopes.contains(scope))) {
            return Err(Refusal::Scope.into());
        }
        if token.spent.swap(true, Ordering::AcqRel) {
            self.revoke_grant(&token.grant).await?;
            return Err(Refusal::Reused.into());
        }
        let lifetimes = (lifetimes.0, Some(lifetimes.1));
        let unspent = Unspent(Some(&token));
        let grant = Arc::clone(&token.grant);
        let access = AccessText { mint, scopes: scopes.as_deref() };
        let mut issued = self.give(grant, vec![Change::Spent(token.id)], lifetimes, access, most, now).await?;
        unspent.keep();
        if let Some(scopes) = scopes {
            issued.scopes = scopes;
        }
        Ok((issued, identity))
    }

    async fn revoke_grant(&self, grant: &Grant) -> Result<(), Trouble> {
        grant.revoked.store(true, Ordering::Release);
        self.write(vec![Change::Revoked(grant.id)]).await
    }

    /// Revokes. In force on every worker before this returns; lasts once it has. Gives whether there was anything of it.
    ///
    /// # Errors
    /// When it cannot be made to last; it is in force all the same, until the process ends.
    pub async fn revoke(&self, what: &Revoked, before: Option<u64>, now: u64) -> Result<bool, Trouble> {
        // what was issued within this millisecond was issued before
        let before = before.unwrap_or_else(|| now.saturating_add(1));
        let (name, known) = match what {
            Revoked::Token(text) => return self.revoke_token(text).await,
            Revoked::All => {
                self.before.fetch_max(before, Ordering::AcqRel);
                ("all".to_owned(), true)
            }
            Revoked::Subject(name) => {
                let known = self.marks.pin().contains_key(&format!("subject:{name}"));
                self.mark("subject", name).void_before(before);
                (format!("subject:{name}"), known)
            }
            Revoked::Credential(id) => return self.revoke_credential(id, before).await,
        };
        self.write(vec![Change::Void { name, before }]).await?;
        Ok(known)
    }

    async fn revoke_token(&self, text: &str) -> Result<bool, Trouble> {
        let Some(token) = self.find(text.as_bytes()) else { return Ok(false) };
        if token.kind == Kind::Refresh {
            self.revoke_grant(&token.grant).await?;
            return Ok(true);
        }
        token.spent.store(true, Ordering::Release);
        self.write(vec![Change::Spent(token.id)]).await?;
        Ok(true)
    }

    /// A credential that is revoked is gone where the store has it, and void for ever where the configuration does.
    async fn revoke_credential(&self, id: &str, before: u64) -> Result<bool, Trouble> {
        let held = self.held(id);
        let name = format!("credential:{id}");
        let known = held.is_some() || self.marks.pin().contains_key(&name);
        let mut changes = Vec::new();
        let before = match held {
            Some(held) => {
                self.drop_credential(&held.credential);
                changes.push(Change::NoCredential(id.to_owned()));
                before
            }
            None => {
                self.voids_keys.store(true, Ordering::Release);
                u64::MAX
            }
        };
        self.mark("credential", id).void_before(before);
        changes.push(Change::Void { name, before });
        self.write(changes).await?;
        Ok(known)
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
        self.write(vec![Change::Void { name: format!("{kind}:{name}"), before: moment }]).await?;
        Ok(true)
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
        self.write(vec![Change::Void { name: once::name(&of, until), before: until }]).await?;
        Ok(true)
    }

    /// Says anew who holds the login of a token, where what is known of them has changed.
    pub fn set_identity(&self, text: &[u8], identity: Identity) -> Arc<Identity> {
        let identity = self.interned.one(identity);
        if let Some(token) = self.find(text) {
            token.grant.identity.store(Arc::clone(&identity));
        }
        identity
    }

    /// Forgets tokens that have ended, a few at a time; called now and then.
    pub fn forget(&self, now: u64) {
        let ended = self.expiry.take(now, FORGET);
        let (tokens, grants) = (self.tokens.pin(), self.grants.pin());
        for digest in ended {
            if let Some(token) = tokens.remove(&digest) {
                self.count.fetch_sub(1, Ordering::Relaxed);
                token.grant.subject.give(1);
                if token.grant.expires <= now || Arc::strong_count(&token.grant) <= 2 {
                    grants.remove(&token.grant.id);
                }
            }
        }
    }
}

/// How the text of an access token comes about.
struct AccessText<'a> {
    mint: Option<&'a dyn Mint>,
    /// What it is wanted for, where that is less than its login is for.
    scopes: Option<&'a [String]>,
}

impl AccessText<'_> {
    async fn of(&self, token: &Token) -> Result<(String, Digest), Trouble> {
        let text = match self.mint {
            None => Prefix::Access.make()?,
            Some(mint) => {
                let (identity, issued, expires) = (token.identity(), token.issued, token.expires);
                mint.text(Wanted { name: name(token.id), identity: &identity, issued, expires }).await?
            }
        };
        let digest = digest(text.as_bytes());
        Ok((text, digest))
    }
}

impl From<NoRandomness> for Trouble {
    fn from(_: NoRandomness) -> Trouble {
        Trouble::NoRandomness
    }
}

impl Token {
    fn row(&self, digest: Digest) -> TokenRow {
        let (id, grant, kind) = (self.id, self.grant.id, self.kind);
        let (issued, expires, scopes) = (self.issued, self.expires, self.scopes.clone());
        TokenRow { id, grant, kind, digest, issued, expires, spent: false, scopes }
    }
}

/// Room for tokens that are being made.
struct Room<'a> {
    subject: &'a Mark,
    count: u32,
}

impl Room<'_> {
    fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.subject.give(self.count);
    }
}

/// A refresh token that stays good unless another pair was given out for it.
struct Unspent<'a>(Option<&'a Token>);

impl Unspent<'_> {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Unspent<'_> {
    fn drop(&mut self) {
        if let Some(token) = self.0 {
            token.spent.store(false, Ordering::Release);
        }
    }
}

/// What the store's thread knows of the accounts.
struct Surroundings {
    accounts: Weak<Accounts>,
    now: Box<dyn Fn() -> u64 + Send>,
    tell: Box<dyn Fn(String) + Send>,
}

impl Around for Surroundings {
    fn came(&self, changes: Vec<Change>) {
        let Some(accounts) = self.accounts.upgrade() else { return };
        let (now, mut grants) = ((self.now)(), Vec::new());
        for change in changes {
            accounts.absorb(change, now, &mut grants);
        }
    }

    fn now(&self) -> u64 {
        (self.now)()
    }

    fn tell(&self, what: String) {
        (self.tell)(what);
    }

    fn due(&self) -> Vec<Change> {
        let Some(accounts) = self.accounts.upgrade() else { return Vec::new() };
        accounts.forget((self.now)());
        accounts.uses((self.now)())
    }

    fn is_gone(&self) -> bool {
        self.accounts.strong_count() == 0
    }
}
