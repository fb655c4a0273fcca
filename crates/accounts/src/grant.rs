//! A grant is one login: who it was given to, and for what. Its tokens come and go; revoking it revokes them all.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use daemun_pipeline::Identity;
use serde_json::{Map, Value};

use crate::accounts::Trouble;
use crate::mark::Mark;

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Calls.
    Access,
    /// Another pair of tokens, once.
    Refresh,
}

/// One login.
#[derive(Debug)]
pub struct Grant {
    pub(crate) id: i64,
    /// The token service it came from.
    pub service: Arc<str>,
    /// Who holds it.
    pub(crate) identity: ArcSwap<Identity>,
    pub(crate) subject: Arc<Mark>,
    pub(crate) credential: Arc<Mark>,
    /// Moment it began, milliseconds since the Unix epoch.
    pub created: u64,
    /// When its last token ends at the latest.
    pub expires: u64,
    pub(crate) revoked: AtomicBool,
}

impl Grant {
    /// Who holds it.
    #[must_use]
    pub fn identity(&self) -> Arc<Identity> {
        self.identity.load_full()
    }

    /// Whether a token of it, of this kind, that was issued at this moment is void.
    #[inline]
    pub(crate) fn voids(&self, kind: Kind, issued: u64) -> bool {
        self.revoked.load(Ordering::Acquire) || self.subject.voids(kind, issued) || self.credential.voids(kind, issued)
    }
}

/// A token, without its text.
#[derive(Debug)]
pub struct Token {
    pub(crate) id: i64,
    /// The login it belongs to.
    pub grant: Arc<Grant>,
    /// What it is for.
    pub kind: Kind,
    /// Milliseconds since the Unix epoch.
    pub issued: u64,
    /// From this moment on it is void; milliseconds since the Unix epoch.
    pub expires: u64,
    /// A refresh token that was used, or a token that was revoked.
    pub(crate) spent: AtomicBool,
    /// What it may be used for, where that is less than its login is for.
    pub(crate) scopes: Option<Vec<String>>,
}

impl Token {
    /// Who holds it, and what it may be used for.
    #[must_use]
    #[inline]
    pub fn identity(&self) -> Arc<Identity> {
        let identity = self.grant.identity();
        match &self.scopes {
            None => identity,
            // seldom asked for, and what a login is for may change at any time
            Some(scopes) => Arc::new(Identity { scopes: scopes.clone(), ..Identity::clone(&identity) }),
        }
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
