//! The settings of `csrf`.

use std::fmt;

use daemun_config::decode::{Decoder, FieldName, JsonValue, OneOrMany, SchemaBuilder, Setting, Size, TimeLimit, text};
use daemun_config::diagnostic::{self, Diagnostic};
use daemun_config::settings;
use daemun_config::tree::Node;
use daemun_pipeline::FieldId;
use daemun_pipeline::head::is_token;
use serde_json::json;

use crate::cors::Origin;

/// Bytes of a secret at least: those of the digest that it keys (RFC 2104, section 3).
const SHORTEST_SECRET: usize = 32;
/// Secrets at once.
const MAX_SECRETS: usize = 8;

settings! {
    /// Whether a request that changes something comes from a page of this site, and not from one that only makes a browser send it.
    #[derive(Clone, Debug)]
    pub struct CsrfConfig {
        /// Secret that tokens are signed with, of at least 32 bytes. Of a list the first signs, and all are believed.
        pub secret: OneOrMany<SecretText>,
        /// Cookie that holds the token; over HTTPS its name begins with `__Host-`.
        pub cookie: CookieName = "csrf",
        /// Request header that a page sends the token in.
        pub header: FieldName = "x-csrf-token",
        /// Field of a form that may hold the token in place of the header; forms are then held.
        pub field: Option<String>,
        /// Largest form that is held.
        pub max_form: Size = "64KiB",
        /// Cookie of the user's session: a token is of one session, beside being of one caller.
        pub session: Option<CookieName>,
        /// Origins beside the site's own whose pages may send.
        pub origins: OneOrMany<Origin> = "[]",
        /// How long a token is good for; in use it is renewed.
        pub lasts: TimeLimit = "12h",
        /// When browsers send the cookie from other sites.
        pub same_site: SameSite = "lax",
        /// Whether scripts cannot read the cookie, because pages are given the token by the upstream.
        pub http_only: bool = "false",
    }
    check check;
}

settings! {
    /// When browsers send a cookie from other sites.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum SameSite {
        /// When the user follows a link.
        Lax = "lax",
        /// Never.
        Strict = "strict",
        /// Always; over HTTPS only.
        None = "none",
    }
}

impl SameSite {
    pub(super) fn word(self) -> &'static str {
        match self {
            SameSite::Lax => "Lax",
            SameSite::Strict => "Strict",
            SameSite::None => "None",
        }
    }
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(pub(crate) String);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl Setting for SecretText {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let secret = text(node, cx, "a secret")?;
        if secret.len() < SHORTEST_SECRET {
            let message = format!("the secret has {} bytes, and needs {SHORTEST_SECRET}", secret.len());
            cx.bad_value_help(node, message, "`openssl rand -hex 32` makes one; keep it in `${env:CSRF_SECRET}`");
        }
        Some(Self(secret.to_owned()))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> JsonValue {
        s.or_reference(json!({ "type": "string", "minLength": SHORTEST_SECRET, "title": "secret" }))
    }
}

/// The name of a cookie (RFC 6265, section 4.1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieName(pub String);

impl Setting for CookieName {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let name = text(node, cx, "the name of a cookie")?;
        if name.is_empty() || name.len() > 128 || !name.bytes().all(is_token) {
            cx.bad_value_help(
                node,
                format!("`{}` is not the name of a cookie", node.shown()),
                "1 to 128 letters, digits and `! # $ % & ' * + - . ^ _ | ~`",
            );
            return None;
        }
        Some(Self(name.to_owned()))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> JsonValue {
        s.pattern("cookie name", "Name of a cookie.", "^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$")
    }
}

fn check(settings: &CsrfConfig, node: &Node, cx: &mut Decoder<'_>) {
    let at = |key: &str| node.get(key).unwrap_or(node);
    let secrets = settings.secret.0.len();
    if secrets > MAX_SECRETS || at("secret").as_seq().is_some_and(<[Node]>::is_empty) {
        cx.key("secret", |cx| {
            cx.bad_value(at("secret"), format!("expected 1 to {MAX_SECRETS} secrets, found {secrets}"))
        });
    }
    let name = &settings.header.0;
    if !matches!(FieldId::of(name.as_bytes()), FieldId::Other | FieldId::Underscore) {
        let message = format!("a token cannot be read from `{name}`");
        let help = "the header has a meaning of its own; choose another, such as `x-csrf-token`";
        cx.key("header", |cx| cx.bad_value_help(at("header"), message, help));
    } else {
        cx.key("header", |cx| cx.reads_field(at("header"), name));
    }
    if let Some(field) = &settings.field
        && (field.is_empty() || field.len() > 256)
    {
        cx.key("field", |cx| cx.bad_value(at("field"), "the name of a field has 1 to 256 bytes"));
    }
    if let (None, Some(entry)) = (&settings.field, node.entry("max_form")) {
        let found =
            Diagnostic::error(diagnostic::CONFLICTING_KEYS, entry.key_at, "`max_form` is of forms that hold the token");
        cx.key("max_form", |cx| cx.report(found.help("say which `field` holds it")));
    }
    if settings.origins.0.contains(&Origin::Any) {
        let message = "pages of the origin `*` are those that `csrf` keeps away";
        cx.key("origins", |cx| cx.bad_value_help(at("origins"), message, "list the origins whose pages may send"));
    }
    if settings.lasts.0.as_secs() < 60 {
        cx.key("lasts", |cx| cx.bad_value(at("lasts"), "a token lasts at least `1m`"));
    }
    let cookie = &settings.cookie.0;
    if cookie.to_ascii_lowercase().starts_with("__host-") || cookie.to_ascii_lowercase().starts_with("__secure-") {
        let help = "over HTTPS `__Host-` is put before it";
        cx.key("cookie", |cx| cx.bad_value_help(at("cookie"), "the prefix is the gateway's to choose", help));
    }
}
