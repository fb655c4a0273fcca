//! How many passwords of users were checked, so that it is seen that a name that nobody has takes the work of one that somebody has. Knows no
//! user.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Accounts;

/// Checks so far; a password that was not looked at, as of whoever has to wait, is none.
#[derive(Debug, Default)]
pub struct Checks {
    hashes: AtomicU64,
    binds: AtomicU64,
}

impl Checks {
    /// Counts a password that was hashed here.
    pub fn note_hash(&self) {
        self.hashes.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a password that a directory was asked about.
    pub fn note_bind(&self) {
        self.binds.fetch_add(1, Ordering::Relaxed);
    }

    /// Passwords that were hashed here.
    #[must_use]
    pub fn hashes(&self) -> u64 {
        self.hashes.load(Ordering::Relaxed)
    }

    /// Passwords that directories were asked about.
    #[must_use]
    pub fn binds(&self) -> u64 {
        self.binds.load(Ordering::Relaxed)
    }
}

impl Accounts {
    /// Passwords of users that were checked.
    #[must_use]
    pub fn checks(&self) -> &Checks {
        &self.checks
    }
}
