//! People who call with a name and a password, and where they are known.

use std::path::PathBuf;
use std::time::Duration;

use super::{PasswordHash, Secret, SecretBytes, Spanned};

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
    /// A directory.
    Ldap(Box<LdapSource>),
    /// A database.
    Sql(Box<SqlSource>),
}

/// A directory that is asked by LDAP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LdapSource {
    /// `ldap:` or `ldaps:`, host and port.
    pub url: String,
    /// Whether a connection without TLS is secured before anything is asked (RFC 4511, section 4.14).
    pub start_tls: bool,
    /// Authorities of the server's certificate; the system's when absent.
    pub ca_file: Option<PathBuf>,
    /// Who searches, and its password; nobody in particular when absent.
    pub bind: Option<(String, Secret)>,
    /// Below which entry users are.
    pub base: String,
    /// What their entries are like; holds `{username}`.
    pub filter: String,
    /// The attribute with a user's name.
    pub name: String,
    /// Where their groups are.
    pub groups: Option<LdapGroups>,
    /// Roles of the members of groups.
    pub roles: Vec<(String, Vec<String>)>,
    /// Time for all of it.
    pub timeout: Duration,
}

/// Where the groups of users are in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LdapGroups {
    /// Below which entry groups are; when absent, users' own entries name them.
    pub base: Option<String>,
    /// What the entries of a user's groups are like; may hold `{dn}` and `{username}`.
    pub filter: String,
    /// The attribute that names a group.
    pub attribute: String,
}

/// A database that is asked by SQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlSource {
    /// `postgres:`, without a password.
    pub url: String,
    /// The password of the database's user.
    pub password: Option<Secret>,
    /// Whether the connection is TLS.
    pub tls: bool,
    /// Authorities of the server's certificate; the system's when absent.
    pub ca_file: Option<PathBuf>,
    /// The query; `$1` is the name.
    pub query: String,
    /// Time for one answer.
    pub timeout: Duration,
}
