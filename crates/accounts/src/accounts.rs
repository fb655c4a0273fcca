//! The accounts in memory: what a request asks, without a lock, and what changes them. A change lasts before it is acknowledged; one that
//! takes something away is in force on every worker before that.

mod absorb;
mod around;
mod by_digest;
mod checks;
mod code;
mod declared;
mod held;
mod plans;
mod revoking;
mod signing;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use daemun_pipeline::{Carry, CutOff, Identity};
use serde_json::json;
use tokio::sync::oneshot;

use crate::change::{Change, GrantRow, SigningKeyRow};
use crate::consumer::{Consumer, CredentialKind, Held};
use crate::ended::Ended;
use crate::expiry::Expiry;
use crate::grant::{Asked, Grant, Holder, Issued, Kind, Mint, Narrow, Token, Wanted, name};
use crate::intern::{Interned, Texts};
use crate::journal::{Journal, NotTaken};
use crate::mark::Mark;
use crate::once::Once;
use crate::seal::Seal;
use crate::store::{Store, StoreError};
use crate::table::ByDigest;
use crate::text::{Digest, NoRandomness, Prefix, digest};
use crate::uses::AllUses;

use around::Surroundings;
pub use by_digest::HeldKey;
use by_digest::{Given, Key};
pub use checks::Checks;
pub use code::{Bound, Code};
pub use plans::MOST_PLANS;

/// Tokens that all subjects may have at once; what is beyond is not given out.
const MOST_TOKENS: usize = 20_000_000;

/// Bits of an id that tell processes apart.
const TAG_BITS: u32 = 10;

/// Chance decides; without any, processes are told apart by their numbers.
fn tag() -> i64 {
    let mut bytes = [0; 2];
    let drawn = aws_lc_rs::rand::fill(&mut bytes).map(|()| u32::from(u16::from_le_bytes(bytes)));
    i64::from(drawn.unwrap_or_else(|_| std::process::id()) & ((1 << TAG_BITS) - 1))
}

/// Why a credential or token is no good. The caller is never told which it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is none such, or it is another kind of token, or of another service.
    Unknown,
    /// It has ended.
    Expired,
    /// It, its login, its credential or its subject was revoked.
    Revoked,
    /// A refresh token or a code that was used before: its login is revoked now.
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
    /// Another process has changed it meanwhile.
    #[error("another process has changed it meanwhile")]
    Changed,
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
    /// Access tokens alone; refresh tokens stay good.
    Access(Whose),
}

/// Whose access tokens a revocation names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Those issued for a credential, by its id, which stays good.
    Credential(String),
    /// Those of a consumer or a user.
    Subject(String),
    /// Everybody's.
    All,
}

/// How ids of credentials of users of the configuration begin.
const USER: &str = "user:";

/// How revocations of access tokens alone begin in the store.
const ACCESS: &str = "access";

/// How last uses of credentials of the configuration begin in the store.
const USED: &str = "used";

/// All accounts.
pub struct Accounts {
    tokens: ByDigest<Given>,
    keys: ByDigest<Key>,
    /// Credentials of the store, by id.
    credentials: papaya::HashMap<String, Arc<Held>>,
    consumers: papaya::HashMap<String, Consumer>,
    /// Whether the store ever had one.
    any_consumer: AtomicBool,
    /// Whether the store ever had a key.
    any_key: AtomicBool,
    /// Logins that have not ended, by id.
    grants: papaya::HashMap<i64, Weak<Grant>>,
    marks: papaya::HashMap<String, Arc<Mark>>,
    once: Once,
    ended: Ended,
    plans: plans::Plans,
    /// Of credentials of the configuration.
    uses: AllUses,
    /// Whose the credentials of the configuration are that logins come from, by id; not known before the first one runs.
    declared: ArcSwapOption<HashMap<String, String>>,
    /// Consumers that are disabled, for those of the configuration.
    cut_off: Arc<CutOff>,
    signing: papaya::HashMap<String, SigningKeyRow>,
    /// Goes up when those change.
    signing_changes: AtomicU64,
    own_seal: OnceLock<Option<Arc<Seal>>>,
    /// Of all logins and tokens.
    all: Mark,
    /// Goes up with each revocation that concerns more than one login.
    epoch: AtomicU64,
    services: Texts,
    /// Whether another process is likely to change what the store holds.
    others: AtomicBool,
    /// Held while consumers or credentials of the store change.
    changing: tokio::sync::Mutex<()>,
    /// Whether keys of the configuration may be void.
    voids_keys: AtomicBool,
    count: AtomicUsize,
    checks: Checks,
    expiry: Expiry,
    interned: Interned,
    last_id: AtomicI64,
    /// When the youngest login began.
    youngest: AtomicU64,
    /// The lowest bits of the ids this process gives out, and what the count above them begins with in each millisecond.
    tag: i64,
    count_from: i64,
    /// When it was last looked at uses of credentials.
    looked: AtomicU64,
    /// How far behind what is written of that may be.
    behind: AtomicU64,
    /// Whether a thread of its own forgets what has ended.
    forgets: AtomicBool,
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
        "roles": identity.roles, "groups": identity.groups, "scopes": identity.scopes, "claims": *identity.claims,
    })
    .to_string()
}

impl Accounts {
    /// Empty ones that nothing keeps.
    #[must_use]
    pub fn in_memory() -> Accounts {
        Accounts {
            tokens: ByDigest::default(),
            keys: ByDigest::default(),
            credentials: papaya::HashMap::default(),
            consumers: papaya::HashMap::default(),
            any_consumer: AtomicBool::new(false),
            any_key: AtomicBool::new(false),
            grants: papaya::HashMap::default(),
            marks: papaya::HashMap::default(),
            once: Once::default(),
            ended: Ended::default(),
            plans: plans::Plans::default(),
            uses: AllUses::default(),
            declared: ArcSwapOption::empty(),
            cut_off: Arc::default(),
            signing: papaya::HashMap::default(),
            signing_changes: AtomicU64::new(0),
            own_seal: OnceLock::new(),
            all: Mark::default(),
            epoch: AtomicU64::new(1),
            services: Texts::default(),
            others: AtomicBool::new(false),
            changing: tokio::sync::Mutex::default(),
            voids_keys: AtomicBool::new(false),
            count: AtomicUsize::new(0),
            checks: Checks::default(),
            expiry: Expiry::default(),
            interned: Interned::default(),
            last_id: AtomicI64::new(0),
            youngest: AtomicU64::new(0),
            tag: tag(),
            count_from: tag() << TAG_BITS,
            looked: AtomicU64::new(0),
            behind: AtomicU64::new(0),
            forgets: AtomicBool::new(false),
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
        self.drop_empty(&grants);
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
        let cut_off = CutOff::of(carry);
        carry.get_or("accounts", "", || Accounts { cut_off, ..Accounts::in_memory() })
    }

    /// Whose access token this is. No lock, no allocation; some cache misses and one SHA-256.
    ///
    /// # Errors
    /// Why it is no good.
    pub fn check(&self, text: &[u8], service: &str, now: u64) -> Result<Arc<Identity>, Refusal> {
        self.check_holder(text, service, now).map(|(holder, _)| Guard::into_inner(holder))
    }

    /// As [`Accounts::check`], and whether that is a user of the configuration, known without a look at anything else.
    ///
    /// # Errors
    /// Why it is no good.
    #[inline]
    pub fn check_holder(&self, text: &[u8], service: &str, now: u64) -> Result<(Holder, bool), Refusal> {
        let spot = self.tokens.find(&digest(text)).ok_or(Refusal::Unknown)?;
        let given = spot.get().ok_or(Refusal::Unknown)?;
        given.foresee();
        let (token, grant) = (&*given.token, &*given.grant);
        self.judge_of(token, grant, Kind::Access, service, now)?;
        Ok((token.holder_of(grant), grant.of_user))
    }

    /// Tells that another process is about to have the same store open.
    pub fn expect_others(&self) {
        self.others.store(self.is_kept(), Ordering::Release);
    }

    /// Whether what is not known here may be known to another process with the same store, so that a [`Accounts::look`] is worth it.
    #[must_use]
    #[inline]
    pub fn has_others(&self) -> bool {
        self.others.load(Ordering::Acquire)
    }

    /// Takes in what other processes did until now. What does not work is told by whoever keeps the store.
    pub async fn look(&self) {
        if let Some(journal) = self.journal.get() {
            let _ = answer(journal.look()).await;
        }
    }

    /// The token of a text, of any kind, good or not.
    #[must_use]
    pub fn find(&self, text: &[u8]) -> Option<Arc<Token>> {
        self.token(&digest(text))
    }

    fn token(&self, digest: &Digest) -> Option<Arc<Token>> {
        self.tokens.find(digest)?.get().map(|given| Arc::clone(&given.token))
    }

    /// Whether a token is good.
    ///
    /// # Errors
    /// Why not.
    pub fn judge(&self, token: &Token, kind: Kind, service: &str, now: u64) -> Result<(), Refusal> {
        self.judge_of(token, &token.grant, kind, service, now)
    }

    /// The same, given its login.
    #[inline]
    fn judge_of(&self, token: &Token, grant: &Grant, kind: Kind, service: &str, now: u64) -> Result<(), Refusal> {
        if token.kind != kind || *grant.service != *service {
            return Err(Refusal::Unknown);
        }
        if now >= token.expires {
            return Err(Refusal::Expired);
        }
        let spent = token.kind == Kind::Access && token.spent.load(Ordering::Acquire);
        if spent || !self.stands(grant) || token.is_before_access(grant) {
            return Err(Refusal::Revoked);
        }
        Ok(())
    }

    /// Taken by whoever reads consumers or credentials of the store to change them, until that is done. Who is to know what other processes
    /// did before [looks](Accounts::look) once it is held; what they do meanwhile makes the change fail.
    pub async fn changing(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.changing.lock().await
    }

    /// Lets go of logins that no token belongs to.
    fn drop_empty(&self, grants: &[Arc<Grant>]) {
        let known = self.grants.pin();
        for grant in grants.iter().filter(|grant| grant.live.load(Ordering::Acquire) == 0) {
            if known.get(&grant.id).is_some_and(|other| std::ptr::eq(other.as_ptr(), Arc::as_ptr(grant))) {
                known.remove(&grant.id);
            }
        }
    }

    /// The credential of the store that this key is, good or not. One load where there never was one.
    #[must_use]
    pub fn key(&self, digest: &Digest) -> Option<Arc<Held>> {
        if self.any_key.load(Ordering::Acquire) {
            self.keys.find(digest)?.get().map(|key| Arc::clone(&key.held))
        } else {
            None
        }
    }

    /// The credential of the store with this client id, good or not.
    #[must_use]
    pub fn client(&self, id: &str) -> Option<Arc<Held>> {
        self.held(id).filter(|held| held.credential.kind == CredentialKind::Client)
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
        let floor = i64::try_from(now << 20).unwrap_or(0) | self.count_from | self.tag;
        let next = |last: i64| last.saturating_add(1 << TAG_BITS).max(floor);
        let last = self.last_id.fetch_update(Ordering::AcqRel, Ordering::Acquire, |last| Some(next(last)));
        // what another process gave out may have been seen meanwhile
        next(last.unwrap_or(0)) & !((1 << TAG_BITS) - 1) | self.tag
    }

    /// Has changes written; done once they last. False where another process was first at what is good once.
    async fn write(&self, changes: Vec<Change>) -> Result<bool, Trouble> {
        match self.journal.get() {
            Some(journal) => answer(journal.write(changes)).await,
            None => Ok(true),
        }
    }

    /// Gives out tokens of a new login, with an access token whose text comes from `mint` where there is one. They are good from then on
    /// that this returns, and last.
    ///
    /// # Errors
    /// When there are too many, or they cannot be made to last; and those of the mint.
    pub async fn issue(&self, mint: Option<&dyn Mint>, asked: Asked, now: u64) -> Result<Issued, Trouble> {
        let (lifetimes, most) = ((asked.access, asked.refresh), asked.most);
        let (grant, row) = self.begin(asked, now);
        let access = AccessText { mint, scopes: None };
        self.give(grant, vec![Change::Grant(row)], lifetimes, access, most, now).await
    }

    /// A new login, and as it is kept.
    fn begin(&self, asked: Asked, now: u64) -> (Arc<Grant>, GrantRow) {
        let longest = now.saturating_add(asked.longest);
        let identity = Identity {
            subject: asked.subject.clone(),
            consumer: asked.consumer.then(|| asked.subject.clone()),
            credential: Some(asked.credential.clone()),
            roles: asked.roles,
            groups: asked.groups,
            tags: Vec::new(),
            scopes: asked.scopes.clone(),
            claims: asked.claims.into(),
            ..Identity::default()
        };
        let (subject, credential) = (self.mark("subject", &asked.subject), self.mark("credential", &asked.credential));
        // behind revocations that have been, whatever the clock says
        let voided = |mark: &Mark| Some(mark.moment()).filter(|moment| *moment < u64::MAX).unwrap_or(0);
        let created = now.max(voided(&subject)).max(voided(&credential)).max(voided(&self.all));
        self.youngest.fetch_max(created, Ordering::AcqRel);
        let grant = Arc::new(Grant {
            id: self.next_id(now),
            service: asked.service,
            identity: ArcSwap::new(self.interned.one(identity)),
            subject,
            credential,
            created,
            expires: longest,
            revoked: AtomicBool::new(false),
            of_user: asked.credential.starts_with(USER),
            stood: AtomicU64::new(0),
            access_from: AtomicU64::new(0),
            scopes: asked.scopes.into(),
            live: AtomicU32::new(0),
        });
        self.follow(&grant);
        let row = GrantRow {
            id: grant.id,
            service: grant.service.to_string(),
            subject: asked.subject.into(),
            consumer: asked.consumer,
            credential: asked.credential.into(),
            says: says(&grant.identity()),
            created,
            expires: longest,
            revoked: false,
        };
        (grant, row)
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
        // behind what has ended access tokens, whatever the clock says
        let ended = [&self.all, &*grant.subject, &*grant.credential].map(Mark::access_from);
        let issued = ended.into_iter().fold(now, u64::max);
        self.youngest.fetch_max(issued, Ordering::AcqRel);
        let make = |kind: Kind, lifetime: u64| {
            let expires = now.saturating_add(lifetime).min(grant.expires);
            let (id, spent) = (self.next_id(now), AtomicBool::new(false));
            Token { id, grant: Arc::clone(&grant), kind, issued, expires, spent, narrow: None }
        };
        let narrow = text.scopes.map(|scopes| Narrow::of(scopes.to_vec()));
        let token = Token { narrow, ..make(Kind::Access, access) };
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
        self.write_of(&grant, changes).await?;
        room.keep();
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
        // what its consumer and its credential have become meanwhile
        self.follow(&grant);
        if !self.has_credential(&grant, now) {
            self.revoke_grant(&grant).await?;
            return Err(Refusal::Revoked.into());
        }
        Ok(issued)
    }

    /// Has what a login comes to written. It can be found meanwhile: what is written may come back as news before this returns.
    async fn write_of(&self, grant: &Arc<Grant>, changes: Vec<Change>) -> Result<(), Trouble> {
        self.grants.pin().insert(grant.id, Arc::downgrade(grant));
        let unless_written = Unwritten { accounts: self, grant };
        if !self.write(changes).await? {
            return Err(Refusal::Reused.into());
        }
        std::mem::forget(unless_written);
        Ok(())
    }

    /// Puts a token that its subject has room for into force.
    fn put(&self, digest: Digest, token: Token) {
        token.grant.live.fetch_add(1, Ordering::AcqRel);
        self.expiry.note(token.expires, digest);
        match self.tokens.insert(&digest, Given::new(token)) {
            None => {
                self.count.fetch_add(1, Ordering::Relaxed);
            }
            // it had come back as news
            Some(same) => {
                same.grant.live.fetch_sub(1, Ordering::AcqRel);
                same.grant.subject.give(1);
            }
        }
    }

    /// Gives out another pair for a refresh token, which is spent by that; one that was spent before revokes its login. `lifetimes` are of
    /// the next access and refresh token, `scopes` what the former is wanted for where that is less; its text comes from `mint` where there
    /// is one.
    ///
    /// # Errors
    /// When the token is no good, or the next ones cannot be made to last; then it stays good. And those of the mint.
    pub async fn refresh(
        &self,
        mint: Option<&dyn Mint>,
        (text, service): (&[u8], &str),
        lifetimes: (u64, u64),
        scopes: Option<Vec<String>>,
        most: u32,
        now: u64,
    ) -> Result<(Issued, Arc<Identity>), Trouble> {
        let token = self.find_anywhere(text).await?.ok_or(Refusal::Unknown)?;
        self.may_refresh(&token, service, now)?;
        let identity = token.grant.identity();
        if token.is_spent() {
            self.revoke_grant(&token.grant).await?;
            return Err(Refusal::Reused.into());
        }
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
        let given = self.give(grant, vec![Change::Spend(token.id)], lifetimes, access, most, now).await;
        if matches!(given, Err(Trouble::Refused(_))) {
            // another process gave a pair for it, or it was revoked meanwhile
            unspent.keep();
            self.revoke_grant(&token.grant).await?;
            return Err(given.err().unwrap_or(Refusal::Reused.into()));
        }
        let mut issued = given?;
        unspent.keep();
        if let Some(scopes) = scopes {
            issued.scopes = scopes;
        }
        Ok((issued, identity))
    }

    /// Says anew who holds the login of a token, where what is known of them has changed.
    pub fn set_identity(&self, text: &[u8], identity: Identity) -> Arc<Identity> {
        let Some(token) = self.find(text) else { return Arc::new(identity) };
        let identity = match &token.narrow {
            None => identity,
            // its login is for more
            Some(_) => Identity { scopes: token.grant.identity().scopes.clone(), ..identity },
        };
        token.grant.identity.store(self.interned.one(identity));
        token.identity()
    }

    /// Forgets so many tokens at most that have ended; called now and then. Says whether there may be more.
    pub fn forget(&self, now: u64, most: usize) -> bool {
        let ended = self.expiry.take(now, most);
        let grants = self.grants.pin();
        let more = ended.len() == most;
        for digest in ended {
            let Some(Given { grant, .. }) = self.tokens.remove(&digest) else { continue };
            self.count.fetch_sub(1, Ordering::Relaxed);
            grant.subject.give(1);
            if grant.live.fetch_sub(1, Ordering::AcqRel) == 1 {
                grants.remove(&grant.id);
                // another pair may have come at the same time
                if grant.live.load(Ordering::Acquire) > 0 {
                    grants.insert(grant.id, Arc::downgrade(&grant));
                }
            }
        }
        more
    }
}

/// What comes of what the store's thread was asked.
async fn answer<T>(asked: Result<oneshot::Receiver<Result<T, StoreError>>, NotTaken>) -> Result<T, Trouble> {
    match asked.map_err(|_| Trouble::Busy)?.await {
        Ok(done) => Ok(done?),
        Err(_) => Err(StoreError("its thread has ended".to_owned()).into()),
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

/// A login that is not to be found any more where nothing came of it, or whoever waits for it leaves.
struct Unwritten<'a> {
    accounts: &'a Accounts,
    grant: &'a Arc<Grant>,
}

impl Drop for Unwritten<'_> {
    fn drop(&mut self) {
        self.accounts.drop_empty(std::slice::from_ref(self.grant));
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

/// A refresh token or a code that stays good unless something was given out for it.
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
