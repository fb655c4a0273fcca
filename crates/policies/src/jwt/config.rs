//! The settings of `jwt`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use daemun_config::decode::{
    Bounded, Decoder, JsonValue, Mapping, OneOrMany, SchemaBuilder, Setting, Size, TimeLimit, WebUrl, text,
};
use daemun_config::diagnostic::{self, Diagnostic};
use daemun_config::settings;
use daemun_config::tree::Node;

use super::algorithm::Algorithm;
use super::keys::SHORTEST_SECRET;
use super::remote::Published;
use crate::bearer::{Audience, Place, check_audience, check_places, is_in_clear};
use crate::claims::{ClaimPath, ClaimValue};

/// Smallest and largest `max_size`.
const SIZES: std::ops::RangeInclusive<u64> = 256..=64 << 10;
/// Longest `leeway`.
const LONGEST_LEEWAY: Duration = Duration::from_secs(600);

settings! {
    /// Who calls, by a signed token (JWT) that another service issued.
    #[derive(Clone, Debug)]
    pub struct JwtConfig {
        /// Who issues the tokens: what `iss` must be. Without `keys` it is asked for its keys, by OpenID Connect Discovery.
        pub issuer: Option<String>,
        /// Whom tokens must be for: `aud` must be one of these. `off` takes tokens that were issued for others.
        pub audience: Audience,
        /// What signatures are verified with; one of `secret`, `file` and `url`.
        pub keys: Option<KeySource>,
        /// File with the authorities, in PEM, that the certificate of the issuer must come from; without it the system's.
        pub ca: Option<PathBuf>,
        /// Algorithms that are accepted; when absent those that the key's type allows.
        pub algorithms: OneOrMany<Algorithm> = "[]",
        /// Types of token that are accepted, as `typ` names them; a token without a type is.
        pub types: OneOrMany<String> = "[JWT, at+jwt]",
        /// How much the clocks of issuer and gateway may differ; at most `10m`.
        pub leeway: Duration = "30s",
        /// Claims that must be there.
        pub required: OneOrMany<ClaimPath> = "exp",
        /// Claims, each with the value or values it must have one of.
        pub claims: Option<Mapping<ClaimPath, OneOrMany<ClaimValue>>>,
        /// How long a token may be valid in all, from `iat` to `exp`.
        pub max_lifetime: Option<TimeLimit>,
        /// Size of a token at most, from `256B` to `64KiB`.
        pub max_size: Size = "8KiB",
        /// Where the token stands: `bearer`, `{header: X-Token}`, `{cookie: token}` or `{query: access_token}`, or several of them.
        pub from: OneOrMany<Place> = "bearer",
        /// Whether the token is passed on to the upstream.
        pub forward: bool = "false",
        /// Claim that tells what the caller is called by; of several, the first that is there.
        pub subject: OneOrMany<ClaimPath> = "sub",
        /// Claim that names a consumer of the configuration; whose token names none is refused.
        pub consumer: Option<ClaimPath>,
        /// Claim that lists the caller's roles, such as `realm_access.roles`.
        pub roles: Option<ClaimPath>,
        /// Claim that lists the caller's groups.
        pub groups: Option<ClaimPath>,
        /// Claim that lists what the token may be used for; of several, the first that is there.
        pub scopes: OneOrMany<ClaimPath> = "[scope, scp]",
        /// Tokens that are remembered once they are verified; when there are so many that have not ended, another one is once it comes again, or as one of eight, and takes the place of one that nobody used lately. 0 for none.
        pub cache: Bounded<0, 1_000_000> = "4096",
    }
    check check;
}

settings! {
    /// What signatures are verified with.
    #[derive(Clone, Debug)]
    pub enum KeySource {
        /// A secret that issuer and gateway share, 32 bytes at least.
        Secret(Secret) = "secret",
        /// File with public keys: PEM, a JWK or a JWK Set.
        File(KeyFile) = "file",
        /// Address of a JWK Set.
        Url(WebUrl) = "url",
    }
}

/// A shared secret. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub(super) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Setting for Secret {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let secret = text(node, cx, "a text")?;
        if secret.len() < SHORTEST_SECRET {
            let message = format!("a secret has {SHORTEST_SECRET} bytes at least");
            cx.report(Diagnostic::error(diagnostic::BAD_VALUE, node.at, message).help("a shorter one can be guessed"));
            return None;
        }
        Some(Self(secret.to_owned()))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> JsonValue {
        s.pattern("shared secret", "32 characters or more.", "^[\\s\\S]{32,}$")
    }
}

/// A file with keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile(pub(super) PathBuf);

impl Setting for KeyFile {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let path = PathBuf::decode(node, cx)?;
        cx.reads_file(&path);
        Some(Self(path))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> JsonValue {
        PathBuf::schema(s)
    }
}

impl JwtConfig {
    /// Where keys are published, if they are.
    pub(super) fn published(&self) -> Option<Result<Published, String>> {
        match (&self.keys, &self.issuer) {
            (Some(KeySource::Url(at)), _) => Some(Ok(Published::At(at.clone()))),
            (None, Some(issuer)) => Some(Published::by(issuer)),
            (Some(KeySource::Secret(_) | KeySource::File(_)), _) | (None, None) => None,
        }
    }

    /// Algorithms that are accepted, of those that the source of keys can have.
    pub(super) fn allowed(&self) -> Vec<Algorithm> {
        let is_shared = |algorithm: &Algorithm| algorithm.is_shared();
        let possible = |algorithm: &Algorithm| match &self.keys {
            Some(KeySource::Secret(_)) => is_shared(algorithm),
            Some(KeySource::File(_)) => true,
            Some(KeySource::Url(_)) | None => !is_shared(algorithm),
        };
        let named = |algorithm: &Algorithm| self.algorithms.0.is_empty() || self.algorithms.0.contains(algorithm);
        Algorithm::ALL.into_iter().filter(possible).filter(named).collect()
    }
}

fn check(settings: &JwtConfig, node: &Node, cx: &mut Decoder<'_>) {
    let at = |key: &str| node.get(key).unwrap_or(node);
    if node.get("issuer").is_none() && node.get("keys").is_none() {
        let found = Diagnostic::error(diagnostic::MISSING_KEY, node.at, "nothing says what tokens are verified with");
        cx.report(found.help("give `issuer`, which is asked for its keys, or `keys`"));
    }
    match settings.published() {
        Some(Err(why)) => {
            let message = format!("`{}` cannot be asked for its keys: {why}", at("issuer").shown());
            let help =
                "an issuer is named by its address, `https://accounts.example.com`; give `keys` for one that is not";
            cx.key("issuer", |cx| cx.bad_value_help(at("issuer"), message, help));
        }
        Some(Ok(published)) if is_in_clear(published.address()) => {
            let key = if settings.keys.is_some() { "keys" } else { "issuer" };
            let message = "keys come over `http`, so that whoever is on the way can put theirs in place of them";
            let warning = Diagnostic::warning(diagnostic::INSECURE, at(key).at, message);
            cx.key(key, |cx| cx.report(warning.help("use `https`")));
        }
        Some(Ok(_)) | None => {}
    }
    if settings.published().is_none() && node.get("ca").is_some() {
        let found = Diagnostic::error(diagnostic::CONFLICTING_KEYS, at("ca").at, "`ca` is of an issuer that is called");
        cx.key("ca", |cx| cx.report(found.help("these keys are not fetched")));
    }
    let is_shared = matches!(settings.keys, Some(KeySource::Secret(_)));
    let of_many = !is_shared && (settings.keys.is_some() || settings.issuer.is_some());
    check_audience(&settings.audience, of_many, node, cx);
    if settings.allowed().is_empty() {
        let help = "`HS256`, `HS384` and `HS512` are of a shared secret, the others of published keys";
        let message = "no algorithm of these can be verified with such keys";
        cx.key("algorithms", |cx| cx.bad_value_help(at("algorithms"), message, help));
    }
    if settings.leeway > LONGEST_LEEWAY {
        cx.key("leeway", |cx| cx.bad_value(at("leeway"), "a leeway is `10m` at most"));
    }
    if !SIZES.contains(&settings.max_size.0) {
        cx.key("max_size", |cx| cx.bad_value(at("max_size"), "a token has from `256B` to `64KiB`"));
    }
    if settings.subject.0.is_empty() {
        cx.key("subject", |cx| cx.bad_value(at("subject"), "expected at least one claim, found an empty list"));
    }
    check_places(&settings.from.0, node, cx);
}
