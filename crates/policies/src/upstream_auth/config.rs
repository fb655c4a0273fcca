//! The settings of `upstream_auth`.

use std::fmt;
use std::path::PathBuf;

use daemun_config::decode::{Decoder, FieldName, JsonValue, SchemaBuilder, Setting, TimeLimit, WebUrl, text};
use daemun_config::diagnostic::{self, Diagnostic};
use daemun_config::settings;
use daemun_config::tree::Node;
use daemun_pipeline::FieldId;
use daemun_pipeline::head::is_value;
use serde_json::json;

settings! {
    /// What the upstream is shown of who calls it; one of `basic`, `api_key`, `client_credentials` and `aws_sigv4`.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct UpstreamAuthConfig {
        /// A username and a password.
        pub basic: Option<UpstreamBasic>,
        /// A key in a header or the query.
        pub api_key: Option<UpstreamKey>,
        /// A token that is fetched from an authorization server and renewed.
        pub client_credentials: Option<ClientCredentials>,
        /// A signature of AWS.
        pub aws_sigv4: Option<AwsSigV4>,
    }
    exclusive { "basic", "api_key", "client_credentials", "aws_sigv4" }
    needs_one { "basic", "api_key", "client_credentials", "aws_sigv4" }
}

settings! {
    /// HTTP Basic (RFC 7617).
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct UpstreamBasic {
        /// Username, without a colon.
        pub username: String,
        /// Password, best out of a reference like `${env:UPSTREAM_PASSWORD}`.
        pub password: SecretText,
    }
    check check_basic;
}

settings! {
    /// A key.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct UpstreamKey {
        /// Request header that holds it.
        pub header: Option<FieldName>,
        /// Query parameter that holds it.
        pub query: Option<String>,
        /// The key as it is sent, best out of a reference like `${env:UPSTREAM_KEY}`.
        pub key: SecretText,
    }
    exclusive { "header", "query" }
    needs_one { "header", "query" }
    check check_key;
}

settings! {
    /// OAuth 2.0 client credentials (RFC 6749, section 4.4).
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ClientCredentials {
        /// The token endpoint.
        pub token_url: WebUrl,
        /// Who the gateway is to the authorization server.
        pub client_id: String,
        /// Its secret, best out of a reference like `${env:CLIENT_SECRET}`.
        pub client_secret: SecretText,
        /// What the token is to be used for.
        pub scope: Vec<Scope> = "[]",
        /// Whom the token is to be shown to, where the authorization server wants to be told.
        pub audience: Option<String>,
        /// How the gateway proves itself to the token endpoint.
        pub authentication: ClientAuthentication = "basic",
        /// Authorities that the certificate of the token endpoint must chain to, a PEM file; the system's when absent.
        pub ca: Option<PathBuf>,
        /// Time for an answer of the token endpoint.
        pub timeout: TimeLimit = "5s",
    }
    check check_client;
}

settings! {
    /// How a client proves itself to the token endpoint (RFC 6749, section 2.3.1).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum ClientAuthentication {
        /// By HTTP Basic.
        Basic = "basic",
        /// In the body.
        Body = "body",
    }
}

settings! {
    /// Signature Version 4.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct AwsSigV4 {
        /// The service: `s3`, `execute-api`, `lambda`.
        pub service: AwsWord,
        /// The region: `eu-central-1`.
        pub region: AwsWord,
        /// Id of the access key.
        pub access_key_id: AwsWord,
        /// The access key, best out of a reference like `${env:AWS_SECRET_ACCESS_KEY}`.
        pub secret_access_key: SecretText,
        /// Token of a session, for keys that last for a while only.
        pub session_token: Option<SecretText>,
        /// Whether the body is signed.
        pub payload: AwsPayload = "signed",
        /// Largest body that is held to be signed.
        pub max_body: daemun_config::decode::Size = "1MiB",
    }
}

settings! {
    /// What becomes of bodies.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum AwsPayload {
        /// They are held, and signed.
        Signed = "signed",
        /// They pass as they come, and are not signed: for services that take that, such as S3 over TLS.
        Unsigned = "unsigned",
    }
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(pub String);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl Setting for SecretText {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let secret = text(node, cx, "a secret")?;
        if secret.is_empty() || secret.len() > 4096 || secret.contains(char::is_control) {
            let help = "it has 1 to 4096 bytes and no control characters";
            cx.report(Diagnostic::error(diagnostic::BAD_VALUE, node.at, "this cannot be a secret").help(help));
            return None;
        }
        Some(Self(secret.to_owned()))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> JsonValue {
        s.or_reference(json!({ "type": "string", "minLength": 1, "title": "secret" }))
    }
}

/// A scope-token of RFC 6749, section 3.3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope(pub String);

impl Setting for Scope {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let scope = text(node, cx, "a scope")?;
        let fits = |byte: u8| byte.is_ascii_graphic() && !b"\"\\".contains(&byte);
        if scope.is_empty() || scope.len() > 256 || !scope.bytes().all(fits) {
            let help = "one word of printable ASCII without `\"` and `\\`; write several as a list";
            cx.bad_value_help(node, format!("`{}` is not a scope", node.shown()), help);
            return None;
        }
        Some(Self(scope.to_owned()))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> JsonValue {
        s.pattern("scope", "One word: `orders:read`.", "^[!#-\\[\\]-~]{1,256}$")
    }
}

/// A word in the scope of a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsWord(pub String);

impl Setting for AwsWord {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let word = text(node, cx, "a word")?;
        if word.is_empty()
            || word.len() > 128
            || !word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        {
            let help = "1 to 128 letters, digits and `- _ .`";
            cx.bad_value_help(node, format!("`{}` cannot stand in a signature of AWS", node.shown()), help);
            return None;
        }
        Some(Self(word.to_owned()))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> JsonValue {
        s.or_reference(json!({ "type": "string", "pattern": "^[0-9A-Za-z._-]{1,128}$" }))
    }
}

fn check_basic(settings: &UpstreamBasic, node: &Node, cx: &mut Decoder<'_>) {
    let name = &settings.username;
    if name.len() > 255 || name.contains(|char: char| char == ':' || char.is_control()) {
        let node = node.get("username").unwrap_or(node);
        let help = "a username has 255 bytes at most, no colon and no control characters";
        cx.key("username", |cx| cx.bad_value_help(node, format!("`{}` cannot be a username", node.shown()), help));
    }
}

fn check_key(settings: &UpstreamKey, node: &Node, cx: &mut Decoder<'_>) {
    let at = |key: &str| node.get(key).unwrap_or(node);
    if let Some(FieldName(name)) = &settings.header {
        let id = FieldId::of(name.as_bytes());
        if !matches!(id, FieldId::Other | FieldId::Underscore | FieldId::Authorization) {
            let help = "choose the header that the upstream looks at, such as `X-Api-Key` or `Authorization`";
            let message = format!("a key cannot be sent in `{name}`: the header has a meaning of its own");
            cx.key("header", |cx| cx.bad_value_help(at("header"), message, help));
        }
        if !settings.key.0.bytes().all(is_value) || settings.key.0.trim() != settings.key.0 {
            let help = "no control characters, and no white space at the ends";
            let found = Diagnostic::error(diagnostic::BAD_VALUE, at("key").at, "this cannot be sent in a header");
            cx.key("key", |cx| cx.report(found.help(help)));
        }
    }
    if let Some(name) = &settings.query
        && (name.is_empty()
            || name.len() > 256
            || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b)))
    {
        let message = format!("`{name}` cannot be the name of the parameter");
        let help = "1 to 256 letters, digits and `- . _ ~`";
        cx.key("query", |cx| cx.bad_value_help(at("query"), message, help));
    }
}

fn check_client(settings: &ClientCredentials, node: &Node, cx: &mut Decoder<'_>) {
    let at = |key: &str| node.get(key).unwrap_or(node);
    if let Some(ca) = &settings.ca {
        cx.reads_file(ca);
    }
    let fits = |text: &str| !text.is_empty() && text.len() <= 1024 && !text.contains(char::is_control);
    if !fits(&settings.client_id) {
        let help = "it has 1 to 1024 bytes and no control characters";
        cx.key("client_id", |cx| cx.bad_value_help(at("client_id"), "this cannot be the id of a client", help));
    }
    if settings.audience.as_ref().is_some_and(|audience| !fits(audience)) {
        let help = "it has 1 to 1024 bytes and no control characters";
        cx.key("audience", |cx| cx.bad_value_help(at("audience"), "this cannot be an audience", help));
    }
    let is_near = matches!(settings.token_url.host(), "localhost" | "127.0.0.1" | "::1");
    if !settings.token_url.is_https() && !is_near {
        let message = "the secret of the client is sent without TLS: whoever is on the way can read it";
        let found = Diagnostic::warning(diagnostic::INSECURE, at("token_url").at, message);
        cx.key("token_url", |cx| cx.report(found.help("write `https://`")));
    }
}
