//! A grant is one login: who it was given to, and for what. Its tokens come and go; revoking it revokes them all.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use daemun_pipeline::Identity;
use serde_json::{Map, Value};

use crate::accounts::Trouble;
use crate::change::TokenRow;
use crate::mark::Mark;
use crate::text::Digest;

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Calls.
    Access,
    /// Another pair of tokens, once.
    Refresh,
    /// The first tokens of its login, once (RFC 6749, section 4.1.2).
    Code,
}

/// One login. What each call looks at stands together.
#[derive(Debug)]
#[repr(C)]
pub struct Grant {
    /// Who holds it.
    pub(crate) identity: ArcSwap<Identity>,
    /// The token service it came from.
    pub service: Arc<str>,
    pub(crate) revoked: AtomicBool,
    /// Whether it is of a user of the configuration.
    pub(crate) of_user: bool,
    /// Up to which revocation of all it is known to stand.
    pub(crate) stood: AtomicU64,
    /// From when on its access tokens are not void, as of then.
    pub(crate) access_from: AtomicU64,
    /// Moment it began, milliseconds since the Unix epoch; what is void from a moment before is void by this, however young its tokens are.
    pub created: u64,
    pub(crate) subject: Arc<Mark>,
    pub(crate) credential: Arc<Mark>,
    pub(crate) id: i64,
    /// When its last token ends at the latest.
    pub expires: u64,
    /// What it was given for, whatever of that is left.
    pub(crate) scopes: Box<[String]>,
    /// Its tokens that are not forgotten.
    pub(crate) live: AtomicU32,
}

/// Who holds a token. Another reference to it is counted only once one is wanted, since that fetches it from memory and waits.
pub type Holder = Guard<Arc<Identity>>;

impl Grant {
    /// Who holds it.
    #[must_use]
    pub fn identity(&self) -> Arc<Identity> {
        self.identity.load_full()
    }

    /// Whether its subject or its credential was revoked since it began.
    pub(crate) fn is_void(&self) -> bool {
        self.subject.voids(self.created) || self.credential.voids(self.created)
    }
}

/// A token, without its text. What each call looks at stands together.
#[derive(Debug)]
#[repr(C)]
pub struct Token {
    /// The login it belongs to.
    pub grant: Arc<Grant>,
    /// From this moment on it is void; milliseconds since the Unix epoch.
    pub expires: u64,
    /// A refresh token or a code that was used, or a token that was revoked.
    pub(crate) spent: AtomicBool,
    /// What it is for.
    pub kind: Kind,
    pub(crate) id: i64,
    /// Milliseconds since the Unix epoch.
    pub issued: u64,
    /// What it may be used for, where that is less than its login is for.
    pub(crate) narrow: Option<Box<Narrow>>,
}

/// What a token may be used for that is for less than its login.
#[derive(Debug)]
pub(crate) struct Narrow {
    pub(crate) scopes: Vec<String>,
    /// Who holds the login, as of the last call, and the same with these scopes alone.
    known: ArcSwapOption<(Arc<Identity>, Arc<Identity>)>,
}

impl Narrow {
    pub(crate) fn of(scopes: Vec<String>) -> Box<Narrow> {
        Box::new(Narrow { scopes, known: ArcSwapOption::empty() })
    }

    /// The holder of a login, with what is left of these scopes alone. Made once for each that there is.
    fn identity(&self, whole: Arc<Identity>) -> Arc<Identity> {
        if let Some(known) = &*self.known.load()
            && Arc::ptr_eq(&known.0, &whole)
        {
            return Arc::clone(&known.1);
        }
        let left = self.scopes.iter().filter(|scope| whole.scopes.contains(scope)).cloned().collect();
        let narrow = Arc::new(Identity { scopes: left, ..Identity::clone(&whole) });
        self.known.store(Some(Arc::new((whole, Arc::clone(&narrow)))));
        narrow
    }
}

impl Token {
    /// Who holds it, and what it may be used for.
    #[must_use]
    pub fn identity(&self) -> Arc<Identity> {
        Guard::into_inner(self.holder_of(&self.grant))
    }

    /// The same, given its login.
    #[inline]
    pub(crate) fn holder_of(&self, grant: &Grant) -> Holder {
        match &self.narrow {
            None => grant.identity.load(),
            // what a login is for may change at any time
            Some(narrow) => Guard::from_inner(narrow.identity(grant.identity())),
        }
    }

    /// Whether it is an access token and was issued before such were ended.
    #[inline]
    pub(crate) fn is_before_access(&self, grant: &Grant) -> bool {
        self.kind == Kind::Access && self.issued < grant.access_from.load(Ordering::Acquire)
    }

    /// As it is kept.
    pub(crate) fn row(&self, digest: Digest) -> TokenRow {
        let (id, grant, kind) = (self.id, self.grant.id, self.kind);
        let scopes = self.narrow.as_ref().map(|narrow| narrow.scopes.clone());
        let (issued, expires) = (self.issued, self.expires);
        TokenRow { id, grant, kind, digest, issued, expires, spent: false, scopes }
    }

    /// Its name, which is no secret and that of no other one.
    #[must_use]
    pub fn name(&self) -> String {
        name(self.id)
    }

    /// Whether it was used, or revoked.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.spent.load(Ordering::Acquire)
    }
}

/// The name of a token: `jti`, where it is signed.
pub(crate) fn name(id: i64) -> String {
    format!("{id:016x}")
}

/// An access token whose text is wanted.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// Its name, that of no other one.
    pub name: String,
    /// Who holds it, and what it may be used for.
    pub identity: &'a Identity,
    /// Milliseconds since the Unix epoch.
    pub issued: u64,
    /// From this moment on it is void.
    pub expires: u64,
}

/// A text that comes later.
pub type Text<'a> = Pin<Box<dyn Future<Output = Result<String, Trouble>> + Send + 'a>>;

/// Makes the texts of access tokens, where they are to say something themselves.
pub trait Mint: Send + Sync {
    /// The text of a token; never the same twice.
    fn text<'a>(&'a self, wanted: Wanted<'a>) -> Text<'a>;
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The token service.
    pub service: Arc<str>,
    /// Who asks: name of a consumer or a user.
    pub subject: Box<str>,
    /// Whether that is a consumer of the configuration, whose roles are looked up with each call.
    pub consumer: bool,
    /// Which credential was shown, by its id.
    pub credential: Box<str>,
    /// Roles that last as long as the login; of a user, not of a consumer.
    pub roles: Vec<String>,
    /// Groups, likewise.
    pub groups: Vec<String>,
    /// What it may be used for.
    pub scopes: Vec<String>,
    /// What else is said of the holder.
    pub claims: Map<String, Value>,
    /// How long access tokens last, milliseconds.
    pub access: u64,
    /// How long refresh tokens last, milliseconds; none are given when absent.
    pub refresh: Option<u64>,
    /// How long the login lasts at most, milliseconds.
    pub longest: u64,
    /// Tokens that one subject may have at once.
    pub most: u32,
}

/// What was given out; the texts are shown once and kept nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    /// Text of the access token.
    pub access: String,
    /// When that ends, milliseconds since the Unix epoch.
    pub access_expires: u64,
    /// Text of the refresh token, and when it ends.
    pub refresh: Option<(String, u64)>,
    /// What it may be used for.
    pub scopes: Vec<String>,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").field("access_expires", &self.access_expires).finish_non_exhaustive()
    }
}
