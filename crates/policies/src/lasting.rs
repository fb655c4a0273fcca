//! How long credentials of the configuration are good, and when they were used. Knows no request.

use std::sync::Arc;

use daemun_accounts::{Accounts, Uses};
use daemun_config::model::CredentialName;
use daemun_pipeline::Consumer;

/// What is asked of a credential of the configuration once it is known to be right.
#[derive(Debug)]
pub(crate) struct Lasting {
    /// What it is revoked by.
    id: Box<str>,
    /// From this moment on it is void, milliseconds since the Unix epoch; 0 where it is disabled.
    end: u64,
    uses: Arc<Uses>,
}

/// Why a credential that is right is not good. The caller is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// `expires` has come.
    Expired,
    /// It is disabled.
    Disabled,
    /// It was revoked.
    Revoked,
}

impl Ended {
    /// For the log and `explain`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Ended::Expired => "the credential is a consumer's, and has expired",
            Ended::Disabled => DISABLED,
            Ended::Revoked => "the credential is a consumer's, and was revoked",
        }
    }
}

/// What is told of a credential that the configuration has and does not let anybody in with, for `explain`.
pub(crate) const DISABLED: &str = "the credential is a consumer's, and is disabled";

impl Lasting {
    pub(crate) fn new(consumer: &Consumer, name: &CredentialName, accounts: &Accounts) -> Lasting {
        let id = name.id();
        let end = if consumer.has_disabled(name) { 0 } else { consumer.end_of(name) };
        Lasting { uses: accounts.uses_of(&id), end, id: id.into() }
    }

    /// What it is revoked by.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Whether it ends at all.
    pub(crate) fn ends(&self) -> bool {
        self.end < u64::MAX
    }

    /// The one of two that ends later.
    pub(crate) fn longer<'a>(&'a self, other: &'a Lasting) -> &'a Lasting {
        if self.end < other.end { other } else { self }
    }

    /// Whether it has not expired.
    #[inline]
    pub(crate) fn is_current(&self, now: u64) -> bool {
        now < self.end
    }

    /// Whether it is good at a moment, milliseconds since the Unix epoch.
    #[inline]
    pub(crate) fn judge(&self, accounts: &Accounts, now: u64) -> Result<(), Ended> {
        if !self.is_current(now) {
            return Err(if self.end == 0 { Ended::Disabled } else { Ended::Expired });
        }
        if accounts.is_void(&self.id) { Err(Ended::Revoked) } else { Ok(()) }
    }

    /// Notes that it let a call in, where that is kept.
    #[inline]
    pub(crate) fn note_use(&self, accounts: &Accounts, now: u64) {
        if accounts.is_kept() {
            self.uses.note(now);
        }
    }
}
