//! The store, and the services that give out tokens.

use std::path::PathBuf;
use std::time::Duration;

use super::{SamlConfig, Secret, Spanned, UserSources};
use crate::decode::{ClaimPath, ClaimValue};
use crate::settings;
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

settings! {
    /// What tokens are given for.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum GrantType {
        /// An API key.
        Key = "key",
        /// A client's id and secret (RFC 6749, section 4.4).
        ClientCredentials = "client_credentials",
        /// A refresh token (RFC 6749, section 6).
        RefreshToken = "refresh_token",
        /// The name and the password of a user (RFC 6749, section 4.3).
        Password = "password",
        /// The code of a login in a browser (RFC 6749, section 4.1).
        AuthorizationCode = "authorization_code",
        /// A SAML 2.0 assertion (RFC 7522).
        Saml2Bearer = "saml2_bearer",
    }
}

settings! {
    /// A member of the answer that tokens are given in (RFC 6749, section 5.1).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum TokenMember {
        /// The access token.
        AccessToken = "access_token",
        /// How it is shown: `Bearer`.
        TokenType = "token_type",
        /// In how many seconds it ends.
        ExpiresIn = "expires_in",
        /// The refresh token, where there is one.
        RefreshToken = "refresh_token",
        /// In how many seconds that ends.
        RefreshExpiresIn = "refresh_expires_in",
        /// What they may be used for, where that is anything.
        Scope = "scope",
    }
}

impl TokenMember {
    /// All of them, as they stand where nothing else is said.
    pub const ALL: [TokenMember; 6] = [
        TokenMember::AccessToken,
        TokenMember::TokenType,
        TokenMember::ExpiresIn,
        TokenMember::RefreshToken,
        TokenMember::RefreshExpiresIn,
        TokenMember::Scope,
    ];

    /// As clients read it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            TokenMember::AccessToken => "access_token",
            TokenMember::TokenType => "token_type",
            TokenMember::ExpiresIn => "expires_in",
            TokenMember::RefreshToken => "refresh_token",
            TokenMember::RefreshExpiresIn => "refresh_expires_in",
            TokenMember::Scope => "scope",
        }
    }
}

impl GrantType {
    /// All of them.
    pub const ALL: [GrantType; 6] = [
        GrantType::Key,
        GrantType::ClientCredentials,
        GrantType::RefreshToken,
        GrantType::Password,
        GrantType::AuthorizationCode,
        GrantType::Saml2Bearer,
    ];

    /// As clients write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            GrantType::Key => "key",
            GrantType::ClientCredentials => "client_credentials",
            GrantType::RefreshToken => "refresh_token",
            GrantType::Password => "password",
            GrantType::AuthorizationCode => "authorization_code",
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
    /// Where clients send browsers to log in.
    pub authorize: String,
    /// Where the provider sends them back to.
    pub callback: String,
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
    /// Where users log in with a browser; there where tokens are given for codes.
    pub provider: Option<Box<LoginProvider>>,
    /// Whose SAML assertions tokens are given for.
    pub saml: Option<Box<SamlConfig>>,
    /// What access tokens are.
    pub format: TokenFormat,
    /// How long access tokens last.
    pub access: Duration,
    /// How long one-time codes are good.
    pub code: Duration,
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
    /// What an answer with tokens holds, in this order; never without the access token.
    pub answer: Vec<TokenMember>,
    /// What `WWW-Authenticate` asks of a client whose credentials are not good.
    pub challenge: String,
    /// Tokens that one subject may have at once, of all services together.
    pub most: u32,
}

/// The OpenID provider that users log in at.
#[derive(Clone, Debug, PartialEq)]
pub struct LoginProvider {
    /// Its address, without a query.
    pub issuer: String,
    /// The gateway's name there.
    pub client_id: String,
    /// Its secret there.
    pub client_secret: Secret,
    /// What is asked for; `openid` is among it.
    pub scopes: Vec<String>,
    /// Whether it is asked for more than the ID token says.
    pub userinfo: bool,
    /// Authorities of its certificate; the system's when absent.
    pub ca: Option<PathBuf>,
    /// How much the clocks may differ.
    pub leeway: Duration,
    /// Time for an answer.
    pub timeout: Duration,
    /// Claims that a login must have, each with its values.
    pub claims: Vec<(ClaimPath, Vec<ClaimValue>)>,
    /// What a user is called by: the first that is there.
    pub subject: Vec<ClaimPath>,
    /// What lists roles.
    pub roles: Option<ClaimPath>,
    /// What lists groups.
    pub groups: Option<ClaimPath>,
    /// What logins under way are sealed with; the first seals, and all open.
    pub secrets: Vec<Secret>,
}
