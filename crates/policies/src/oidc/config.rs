//! The settings of `oidc`.

use std::path::PathBuf;
use std::time::Duration;

use daemun_config::decode::{Decoder, JsonValue, Mapping, OneOrMany, SchemaBuilder, Setting, TimeLimit, WebUrl, text};
use daemun_config::diagnostic::{self, Diagnostic};
use daemun_config::settings;
use daemun_config::tree::Node;
use serde_json::json;

use crate::bearer::is_in_clear;
use crate::claims::{ClaimPath, ClaimValue};
use crate::csrf::{CookieName, SecretText};
use crate::introspection::ClientSecret;
use crate::jwt::remote::Published;

/// Longest `leeway`.
const LONGEST_LEEWAY: Duration = Duration::from_secs(600);
/// Shortest `lifetime` and `idle`.
const SHORTEST: Duration = Duration::from_secs(60);
/// Longest `lifetime`: a session that lasts longer is not asked about for too long.
const LONGEST: Duration = Duration::from_secs(90 * 24 * 3600);
/// Secrets at once.
const MOST_SECRETS: usize = 8;
/// Bytes of a path or address of the gateway's own.
const LONGEST_PATH: usize = 512;
/// Scopes that are asked for.
const MOST_SCOPES: usize = 32;

settings! {
    /// Who calls, by a login at an OpenID provider that a browser is sent to.
    #[derive(Clone, Debug)]
    pub struct OidcConfig {
        /// The provider, by its address; it is asked for its endpoints and keys, by OpenID Connect Discovery.
        pub issuer: String,
        /// The gateway's name at the provider.
        pub client_id: String,
        /// Its secret there.
        pub client_secret: ClientSecret,
        /// What is asked for; `openid` is among it.
        pub scopes: OneOrMany<String> = "[openid, profile]",
        /// Where the provider sends the browser back to: a path of this route, or its whole address as it is registered there.
        pub callback: OwnPath = "/oidc/callback",
        /// Path of this route that ends a session.
        pub logout: OwnPath = "/oidc/logout",
        /// Where the browser goes then: a path, or an address.
        pub after_logout: OwnPath = "/",
        /// Whether the provider's userinfo endpoint is asked at a login, for what the ID token does not say.
        pub userinfo: bool = "false",
        /// File with the authorities, in PEM, that the certificate of the provider must come from; without it the system's.
        pub ca: Option<PathBuf>,
        /// How much the clocks of provider and gateway may differ; at most `10m`.
        pub leeway: Duration = "30s",
        /// Time for an answer of the provider.
        pub timeout: TimeLimit = "5s",
        /// Claims that a login must have, each with the value or values it must have one of.
        pub claims: Option<Mapping<ClaimPath, OneOrMany<ClaimValue>>>,
        /// Claim that tells what the caller is called by; of several, the first that is there.
        pub subject: OneOrMany<ClaimPath> = "sub",
        /// Claim that names a consumer of the configuration; whose login names none is refused.
        pub consumer: Option<ClaimPath>,
        /// Claim that lists the caller's roles, such as `realm_access.roles`.
        pub roles: Option<ClaimPath>,
        /// Claim that lists the caller's groups.
        pub groups: Option<ClaimPath>,
        /// The session that a login begins.
        pub session: SessionConfig,
    }
    check check;
}

settings! {
    /// A session.
    #[derive(Clone, Debug)]
    pub struct SessionConfig {
        /// Secret that sessions are sealed with, of at least 32 bytes. Of a list the first seals, and all open.
        pub secret: OneOrMany<SecretText>,
        /// How long a session lasts at most.
        pub lifetime: TimeLimit = "8h",
        /// How long it lasts without a request.
        pub idle: TimeLimit = "1h",
        /// Cookie that holds it; over HTTPS its name begins with `__Host-`.
        pub cookie: CookieName = "daemun-session",
        /// Claims that it holds beside those that say who calls; all when absent.
        pub claims: Option<OneOrMany<String>>,
    }
}

/// A path of the gateway's own, or the whole address of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnPath {
    /// As written.
    pub(super) written: String,
    /// The address, where one is written.
    pub(super) url: Option<WebUrl>,
}

impl OwnPath {
    /// Its path.
    pub(super) fn path(&self) -> &str {
        self.url.as_ref().map_or(self.written.as_str(), WebUrl::target)
    }

    /// Scheme, host and port, where the address is written.
    pub(super) fn origin(&self) -> Option<&str> {
        let url = self.url.as_ref()?;
        url.written().get(..url.written().len().saturating_sub(url.target().len()))
    }
}

/// Whether a text is a path of this site and cannot be read as an address of another.
pub(super) fn is_local(path: &str) -> bool {
    let mut bytes = path.bytes();
    bytes.next() == Some(b'/')
        && !matches!(bytes.next(), Some(b'/' | b'\\'))
        && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
}

impl Setting for OwnPath {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let written = text(node, cx, "a path")?.to_owned();
        let help = "write it like `/oidc/callback` or `https://shop.example.com/oidc/callback`";
        if written.len() > LONGEST_PATH {
            cx.bad_value(node, format!("it has {LONGEST_PATH} bytes at most"));
            return None;
        }
        if is_local(&written) && !written.contains('#') {
            return Some(Self { written, url: None });
        }
        match WebUrl::parse(&written) {
            Ok(url) => Some(Self { written, url: Some(url) }),
            Err(_) => {
                cx.bad_value_help(node, format!("`{}` is neither a path nor an address", node.shown()), help);
                None
            }
        }
    }

    fn schema(_: &mut SchemaBuilder<'_>) -> JsonValue {
        json!({ "type": "string", "minLength": 1, "maxLength": LONGEST_PATH, "title": "path or address" })
    }
}

fn check(settings: &OidcConfig, node: &Node, cx: &mut Decoder<'_>) {
    let at = |key: &str| node.get(key).unwrap_or(node);
    match Published::by(&settings.issuer) {
        Err(why) => {
            let message = format!("`{}` cannot be asked: {why}", at("issuer").shown());
            let help = "an issuer is named by its address, `https://accounts.example.com`";
            cx.key("issuer", |cx| cx.bad_value_help(at("issuer"), message, help));
        }
        Ok(published) if is_in_clear(published.address()) => {
            let message = "logins come over `http`, so that whoever is on the way can read and change them";
            let warning = Diagnostic::warning(diagnostic::INSECURE, at("issuer").at, message);
            cx.key("issuer", |cx| cx.report(warning.help("use `https`")));
        }
        Ok(_) => {}
    }
    if settings.client_id.is_empty() || settings.client_id.len() > 1024 {
        cx.key("client_id", |cx| cx.bad_value(at("client_id"), "the name of a client has 1 to 1024 bytes"));
    }
    check_scopes(&settings.scopes.0, at("scopes"), cx);
    if settings.subject.0.is_empty() {
        cx.key("subject", |cx| cx.bad_value(at("subject"), "expected at least one claim, found an empty list"));
    }
    if settings.leeway > LONGEST_LEEWAY {
        cx.key("leeway", |cx| cx.bad_value(at("leeway"), "a leeway is `10m` at most"));
    }
    for (key, own) in [("callback", &settings.callback), ("logout", &settings.logout)] {
        if own.path().contains('?') || !is_local(own.path()) {
            cx.key(key, |cx| cx.bad_value(at(key), "the path has no query, and does not begin with `//`"));
        }
    }
    if settings.logout.url.is_some() {
        cx.key("logout", |cx| cx.bad_value_help(at("logout"), "`logout` is a path", "write it like `/oidc/logout`"));
    }
    if settings.callback.path() == settings.logout.path() {
        let message = "`logout` and `callback` are the same path";
        cx.key("logout", |cx| cx.bad_value_help(at("logout"), message, "give each a path of its own"));
    }
    cx.key("session", |cx| check_session(&settings.session, at("session"), cx));
}

fn check_scopes(scopes: &[String], at: &Node, cx: &mut Decoder<'_>) {
    cx.key("scopes", |cx| {
        let is_scope = |scope: &String| {
            // RFC 6749, section 3.3
            (1..=256).contains(&scope.len()) && scope.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
        };
        if scopes.len() > MOST_SCOPES || !scopes.iter().all(is_scope) {
            cx.bad_value(
                at,
                format!("expected {MOST_SCOPES} scopes at most, each of 1 to 256 characters without blanks"),
            );
        }
        if !scopes.iter().any(|scope| scope == "openid") {
            cx.bad_value_help(at, "`openid` is missing", "without it the provider does not say who logs in");
        }
    });
}

fn check_session(session: &SessionConfig, node: &Node, cx: &mut Decoder<'_>) {
    let at = |key: &str| node.get(key).unwrap_or(node);
    let secrets = session.secret.0.len();
    if secrets == 0 || secrets > MOST_SECRETS {
        let message = format!("expected 1 to {MOST_SECRETS} secrets, found {secrets}");
        cx.key("secret", |cx| cx.bad_value(at("secret"), message));
    }
    for (key, time) in [("lifetime", session.lifetime.0), ("idle", session.idle.0)] {
        if !(SHORTEST..=LONGEST).contains(&time) {
            cx.key(key, |cx| cx.bad_value(at(key), "a session lasts from `1m` to `2160h`"));
        }
    }
    let cookie = session.cookie.0.to_ascii_lowercase();
    if cookie.starts_with("__host-") || cookie.starts_with("__secure-") {
        let help = "over HTTPS `__Host-` is put before it";
        cx.key("cookie", |cx| cx.bad_value_help(at("cookie"), "the prefix is the gateway's to choose", help));
    }
}
