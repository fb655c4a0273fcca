//! What happens to accounts, as stores keep it. A store applies changes in order; reading them back gives the accounts as they were.

use crate::consumer::{Consumer, Credential};
use crate::grant::Kind;
use crate::plan::Plan;
use crate::text::Digest;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A login.
    Grant(GrantRow),
    /// A token was given out.
    Token(TokenRow),
    /// A refresh token is used. Where it is not good any more, nothing of what whoever asks for it asks for is done; stands first of that.
    Spend(i64),
    /// A token was revoked.
    Spent(i64),
    /// A login was revoked.
    Revoked(i64),
    /// What was issued before a moment is void, of a subject or a credential; or when one of the configuration was last used.
    Void {
        /// Which: `subject:NAME`, `credential:ID`, `recovery:CODE`, `totp:NAME`, `once:MOMENT:DIGEST`, `ended:MOMENT:ID`, `used:ID`, or `all`; `access:` and one of the first two or the last is
        /// access tokens alone.
        name: String,
        /// Milliseconds since the Unix epoch.
        before: u64,
    },
    /// What is good once is used up (`recovery:CODE`, `totp:NAME`, `once:MOMENT:DIGEST`), up to a moment. Where it was before, nothing of what whoever asks for it
    /// asks for is done; stands first of that.
    UseUp {
        /// Which.
        name: String,
        /// Milliseconds since the Unix epoch.
        before: u64,
    },
    /// A consumer is there, or has changed. Where another process changed it since this one looked last, nothing of what whoever asks for
    /// it asks for is done; stands first of that, as a credential does.
    Consumer(Consumer),
    /// A consumer is gone, and its credentials.
    NoConsumer(String),
    /// A credential is there, or has changed; not done where its consumer is not there, and where another process changed it.
    Credential(Credential),
    /// A credential is gone.
    NoCredential(String),
    /// When a credential was last used.
    Used {
        /// Its id.
        id: String,
        /// Milliseconds since the Unix epoch.
        at: u64,
    },
    /// A plan is there, or has changed.
    Plan(Plan),
    /// A plan is gone.
    NoPlan(String),
    /// So many more calls of a consumer were admitted by a plan on a day.
    Usage {
        /// Whose.
        consumer: String,
        /// Name of the plan.
        plan: String,
        /// Days since the Unix epoch, in UTC.
        day: u32,
        /// How many more.
        calls: u64,
    },
    /// A key that tokens are signed with.
    SigningKey(SigningKeyRow),
    /// Such a key is forgotten, by its id; other processes see by its time that it has ended.
    NoSigningKey(String),
}

impl Change {
    /// Whether a consumer or a credential is not good any more by it.
    pub(crate) fn takes_away(&self) -> bool {
        match self {
            Change::Consumer(consumer) => consumer.disabled,
            Change::Credential(credential) => credential.disabled,
            Change::NoConsumer(_) | Change::NoCredential(_) => true,
            Change::Grant(_)
            | Change::Token(_)
            | Change::Spend(_)
            | Change::Spent(_)
            | Change::Revoked(_)
            | Change::Void { .. }
            | Change::UseUp { .. }
            | Change::Used { .. }
            | Change::SigningKey(_)
            | Change::NoSigningKey(_)
            | Change::Plan(_)
            | Change::NoPlan(_)
            | Change::Usage { .. } => false,
        }
    }
}

/// A login as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct GrantRow {
    /// Id.
    pub id: i64,
    /// Token service.
    pub service: String,
    /// Who holds it.
    pub subject: String,
    /// Whether that is a consumer of the configuration.
    pub consumer: bool,
    /// Id of the credential that was shown.
    pub credential: String,
    /// Roles, groups, scopes and claims, as JSON.
    pub says: String,
    /// Milliseconds since the Unix epoch.
    pub created: u64,
    /// When its last token ends at the latest.
    pub expires: u64,
    /// Whether it was revoked.
    pub revoked: bool,
}

/// A token as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// Id.
    pub id: i64,
    /// Its login.
    pub grant: i64,
    /// What it is for.
    pub kind: Kind,
    /// SHA-256 of it.
    pub digest: Digest,
    /// Milliseconds since the Unix epoch.
    pub issued: u64,
    /// When it ends.
    pub expires: u64,
    /// Whether it was used or revoked.
    pub spent: bool,
    /// What it may be used for, where that is less than its login is for.
    pub scopes: Option<Vec<String>>,
}

/// A key that tokens are signed with, as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKeyRow {
    /// Its `kid`.
    pub id: String,
    /// Token service.
    pub service: String,
    /// Its algorithm: `ES256`.
    pub algorithm: String,
    /// The key, sealed.
    pub sealed: Vec<u8>,
    /// Milliseconds since the Unix epoch.
    pub created: u64,
    /// From when on it signs.
    pub from: u64,
    /// When nothing that it signed is good any more; none while it signs.
    pub until: Option<u64>,
}

impl std::fmt::Debug for SigningKeyRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKeyRow").field("id", &self.id).finish_non_exhaustive()
    }
}
