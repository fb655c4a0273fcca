//! The store, and the services that give out tokens.

use std::path::PathBuf;
use std::time::Duration;

use super::{Secret, Spanned};
use crate::tree::At;

/// Where accounts last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Where it stands in the configuration.
    pub at: At,
    /// The file; `None` where nothing lasts longer than the process.
    pub path: Option<PathBuf>,
    /// Whether what is acknowledged outlives the power as well.
    pub power: bool,
    /// What secrets in it are sealed under.
    pub key: Option<Secret>,
}

/// What a token service gives out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GrantType {
    /// For an API key.
    Key,
    /// For a client's id and secret (RFC 6749, section 4.4).
    ClientCredentials,
    /// For a refresh token (RFC 6749, section 6).
    RefreshToken,
}

impl GrantType {
    /// As clients write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            GrantType::Key => "key",
            GrantType::ClientCredentials => "client_credentials",
            GrantType::RefreshToken => "refresh_token",
        }
    }
}

/// What access tokens are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenFormat {
    /// A random text; what it stands for is kept here.
    Opaque,
}

/// A service that gives out tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenService {
    /// Name, unique.
    pub name: Spanned<String>,
    /// What tokens are given for.
    pub grants: Vec<GrantType>,
    /// What access tokens are.
    pub format: TokenFormat,
    /// How long access tokens last.
    pub access: Duration,
    /// How long refresh tokens last; none are given when absent.
    pub refresh: Option<Duration>,
    /// How long a login lasts, however often it is refreshed.
    pub longest: Duration,
    /// Header with the API key.
    pub key_header: String,
    /// Header that may hold the refresh token, beside the form.
    pub refresh_header: Option<String>,
    /// Who gives the tokens out: the URL of this service.
    pub issuer: Option<String>,
    /// Tokens that one subject may have at once.
    pub most: u32,
}
