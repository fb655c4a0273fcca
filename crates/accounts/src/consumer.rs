//! Consumers and credentials that are held in the store, beside those of the configuration.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use daemun_pipeline::Identity;

use crate::text::Digest;

/// A consumer of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Consumer {
    /// Name, unique among those of the store.
    pub name: String,
    /// Roles.
    pub roles: Vec<String>,
    /// Groups.
    pub groups: Vec<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// What its calls and tokens may be used for.
    pub scopes: Vec<String>,
    /// Where browsers may be sent back to with a login of a user; none for one that is no client asking for logins.
    pub redirect_uris: Vec<String>,
    /// Names of plans that it is on, all of which must admit a call; none where nothing but the routes bounds how often it calls.
    pub plans: Vec<String>,
    /// Whether it has ever had a client's secret: from then on it is no client without one, whatever becomes of its secrets.
    pub had_secret: bool,
    /// Whether none of its credentials is good.
    pub disabled: bool,
    /// Milliseconds since the Unix epoch.
    pub created: u64,
}

impl Consumer {
    /// Before the name of a consumer: the credential of logins that a client without a secret asked for. No credential of the store begins so.
    pub const NAMED: &'static str = "consumer:";

    /// What logins come from that it asks for by its name.
    #[must_use]
    pub fn named(name: &str) -> String {
        format!("{}{name}", Consumer::NAMED)
    }

    /// Whether it asks for logins by its name, without a secret.
    #[must_use]
    pub fn is_public_client(&self) -> bool {
        !self.redirect_uris.is_empty() && !self.had_secret
    }
}

/// What a credential is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// An API key.
    Key,
    /// A client's id and secret.
    Client,
}

impl CredentialKind {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            CredentialKind::Key => "key",
            CredentialKind::Client => "client",
        }
    }

    /// Reads what [`CredentialKind::as_str`] writes.
    #[must_use]
    pub fn of(text: &str) -> Option<CredentialKind> {
        [CredentialKind::Key, CredentialKind::Client].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// A credential of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Id, which is no secret; a client's is its `client_id`.
    pub id: String,
    /// Whose it is.
    pub consumer: String,
    /// What it is.
    pub kind: CredentialKind,
    /// SHA-256 of it.
    pub digest: Digest,
    /// What it is for, in the words of whoever made it.
    pub label: String,
    /// Milliseconds since the Unix epoch.
    pub created: u64,
    /// From this moment on it is void; never when absent.
    pub expires: Option<u64>,
    /// Whether it is not good for now.
    pub disabled: bool,
}

impl Credential {
    /// Whether it is the other one, as it was or is to be.
    pub(crate) fn is_same(&self, other: &Credential) -> bool {
        self.id == other.id && self.kind == other.kind && self.consumer == other.consumer && self.digest == other.digest
    }
}

/// A credential as requests find it. What each call looks at stands together.
#[derive(Debug)]
#[repr(C)]
pub struct Held {
    /// Who calls with it.
    pub identity: Arc<Identity>,
    /// From this moment on it is void, milliseconds since the Unix epoch; 0 where it or its consumer is disabled.
    pub(crate) until: u64,
    /// When it was last used, milliseconds since the Unix epoch, to the minute; 0 for never.
    pub(crate) used: AtomicU64,
    /// Which of its uses was last written.
    pub(crate) written: AtomicU64,
    /// What is known of it.
    pub credential: Credential,
}

/// How exact the last use of a credential is, milliseconds: seldom enough that its line is not written all the time.
pub(crate) const USE: u64 = 60_000;

impl Held {
    /// Whether it is good at a moment.
    #[must_use]
    #[inline]
    pub fn is_good(&self, now: u64) -> bool {
        now < self.until
    }

    /// Notes that it was used.
    #[inline]
    pub fn note_use(&self, now: u64) {
        if now.abs_diff(self.used.load(Ordering::Relaxed)) >= USE {
            self.used.store(now, Ordering::Relaxed);
        }
    }

    /// When it was last used, to the minute.
    #[must_use]
    pub fn last_use(&self) -> Option<u64> {
        Some(self.used.load(Ordering::Relaxed)).filter(|used| *used > 0)
    }
}
