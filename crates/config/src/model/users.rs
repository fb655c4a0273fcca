//! People who call with a name and a password, and where they are known.

use super::{PasswordHash, SecretBytes, Spanned};

/// A person who calls with a name and a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Name, unique among users and consumers: no colon, no control characters.
    pub name: Spanned<String>,
    /// Hash of the password.
    pub password: PasswordHash,
    /// Roles.
    pub roles: Vec<String>,
    /// Groups.
    pub groups: Vec<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// What tokens may be asked for.
    pub scopes: Vec<String>,
    /// What one-time passwords are made with (RFC 6238); none are asked for when absent.
    pub totp: Option<SecretBytes>,
    /// SHA-256 digests of codes that stand in for a one-time password, each once.
    pub recovery: Vec<[u8; 32]>,
    /// Whether it is let in nowhere.
    pub disabled: bool,
    /// Id of the password, another for every other password; no secret.
    pub credential: String,
}

impl User {
    /// Whether its password alone is not enough.
    #[must_use]
    pub fn has_second_factor(&self) -> bool {
        self.totp.is_some() || !self.recovery.is_empty()
    }
}

/// Where users are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserSource {
    /// Those of the configuration.
    Embedded,
}
