//! The store, and the services that give out tokens.

use std::path::PathBuf;
use std::time::Duration;

use super::{SamlConfig, Secret, Spanned, UserSources};
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
    /// For the name and password of a user (RFC 6749, section 4.3).
    Password,
    /// For a SAML assertion (RFC 7522).
    Saml2Bearer,
}

impl GrantType {
    /// As clients write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            GrantType::Key => "key",
            GrantType::ClientCredentials => "client_credentials",
            GrantType::RefreshToken => "refresh_token",
            GrantType::Password => "password",
            GrantType::Saml2Bearer => "urn:ietf:params:oauth:grant-type:saml2-bearer",
        }
    }
}

/// What access tokens are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenFormat {
    /// A random text; what it stands for is kept here.
    Opaque,
    /// A signed text that others can verify as well (RFC 9068).
    Jwt(Box<SignedTokens>),
}

/// How access tokens are signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedTokens {
    /// Their `iss`.
    pub issuer: String,
    /// What they are signed with.
    pub algorithm: SigningAlgorithm,
    /// Their `aud`; never empty.
    pub audience: Vec<String>,
    /// After what time another key signs; none where the first one stays.
    pub rotate: Option<Duration>,
    /// What keys are sealed under; none where they are in memory alone.
    pub seal: Option<Secret>,
}

/// What tokens are signed with (RFC 7518, section 3.1; RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SigningAlgorithm {
    /// ECDSA over P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
    /// RSA, PKCS #1 v1.5, with SHA-256.
    Rs256,
}

impl SigningAlgorithm {
    /// As tokens and keys name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            SigningAlgorithm::Es256 => "ES256",
            SigningAlgorithm::EdDsa => "EdDSA",
            SigningAlgorithm::Rs256 => "RS256",
        }
    }

    /// Reads what [`SigningAlgorithm::as_str`] writes.
    #[must_use]
    pub fn of(text: &str) -> Option<SigningAlgorithm> {
        let all = [SigningAlgorithm::Es256, SigningAlgorithm::EdDsa, SigningAlgorithm::Rs256];
        all.into_iter().find(|algorithm| algorithm.as_str() == text)
    }
}

/// Where clients find a service; without an issuer they are not told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceUrls {
    /// Where tokens are asked for.
    pub token: String,
    /// Where the keys of signed tokens are.
    pub jwks: String,
    /// Where tokens are revoked.
    pub revoke: Option<String>,
    /// Where it is told what tokens stand for.
    pub introspect: Option<String>,
}

/// A service that gives out tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenService {
    /// Name, unique.
    pub name: Spanned<String>,
    /// What tokens are given for.
    pub grants: Vec<GrantType>,
    /// Where users are known whom tokens are given to.
    pub users: UserSources,
    /// Whose SAML assertions tokens are given for.
    pub saml: Option<Box<SamlConfig>>,
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
    /// Where clients find it.
    pub urls: ServiceUrls,
    /// Tokens that one subject may have at once.
    pub most: u32,
}
