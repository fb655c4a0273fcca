//! The settings of `introspection`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use daemun_config::decode::{
    Bounded, Decoder, JsonValue, Mapping, OneOrMany, SchemaBuilder, Setting, Size, TimeLimit, WebUrl, text,
};
use daemun_config::diagnostic::{self, Diagnostic};
use daemun_config::settings;
use daemun_config::tree::Node;

use crate::bearer::{Audience, Place, check_audience, check_places, is_in_clear};
use crate::claims::{ClaimPath, ClaimValue};

/// Longest `cache`: what is revoked opens for so long.
const LONGEST_CACHE: Duration = Duration::from_secs(3600);
/// Longest `leeway`.
const LONGEST_LEEWAY: Duration = Duration::from_secs(600);
/// Smallest and largest `max_size`.
const SIZES: std::ops::RangeInclusive<u64> = 256..=64 << 10;

settings! {
    /// Who calls, by a token that the service which issued it is asked about (RFC 7662).
    #[derive(Clone, Debug)]
    pub struct IntrospectionConfig {
        /// Address that is asked.
        pub url: WebUrl,
        /// What the gateway proves itself with there.
        pub client: ClientConfig,
        /// File with the authorities, in PEM, that the certificate of the service must come from; without it the system's.
        pub ca: Option<PathBuf>,
        /// Time for an answer.
        pub timeout: TimeLimit = "3s",
        /// How long an answer is good for, unless the token expires before; at most `1h`, and `0s` to ask every time.
        pub cache: Duration = "30s",
        /// Tokens whose answers are kept.
        pub max_tokens: Bounded<1, 1_000_000> = "16384",
        /// Who must have issued the token, where the answer must say so.
        pub issuer: Option<String>,
        /// Whom tokens must be for: `aud` must be one of these. `off` takes tokens that were issued for others.
        pub audience: Audience,
        /// How much the clocks of service and gateway may differ; at most `10m`.
        pub leeway: Duration = "30s",
        /// What the answer must say, each with the value or values it must have one of.
        pub claims: Option<Mapping<ClaimPath, OneOrMany<ClaimValue>>>,
        /// Size of a token at most, from `256B` to `64KiB`.
        pub max_size: Size = "8KiB",
        /// Where the token stands: `bearer`, `{header: X-Token}`, `{cookie: token}` or `{query: access_token}`, or several of them.
        pub from: OneOrMany<Place> = "bearer",
        /// Whether the token is passed on to the upstream.
        pub forward: bool = "false",
        /// What the caller is called by; of several, the first that is there.
        pub subject: OneOrMany<ClaimPath> = "[sub, client_id]",
        /// What names a consumer of the configuration; whose token names none is refused.
        pub consumer: Option<ClaimPath>,
        /// What lists the caller's roles.
        pub roles: Option<ClaimPath>,
        /// What lists the caller's groups.
        pub groups: Option<ClaimPath>,
        /// What lists what the token may be used for; of several, the first that is there.
        pub scopes: OneOrMany<ClaimPath> = "[scope, scp]",
    }
    check check;
}

settings! {
    /// What the gateway proves itself with (RFC 6749, section 2.3.1).
    #[derive(Clone, Debug)]
    pub struct ClientConfig {
        /// The gateway's name at the service.
        pub id: String,
        /// Its secret.
        pub secret: ClientSecret,
        /// How they are sent.
        pub send: SendAs = "basic",
    }
}

settings! {
    /// How a client's name and secret are sent.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum SendAs {
        /// In `Authorization`, by HTTP Basic.
        Basic = "basic",
        /// In the body, beside the token.
        Body = "body",
    }
}

/// The secret of a client. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientSecret(pub(crate) String);

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSecret")
    }
}

impl Setting for ClientSecret {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let secret = text(node, cx, "a text")?;
        if secret.is_empty() || secret.len() > 1024 {
            cx.report(Diagnostic::error(diagnostic::BAD_VALUE, node.at, "a client's secret has 1 to 1024 bytes"));
            return None;
        }
        Some(Self(secret.to_owned()))
    }

    fn schema(_: &mut SchemaBuilder<'_>) -> JsonValue {
        serde_json::json!({ "type": "string", "minLength": 1, "maxLength": 1024, "title": "secret" })
    }
}

fn check(settings: &IntrospectionConfig, node: &Node, cx: &mut Decoder<'_>) {
    let at = |key: &str| node.get(key).unwrap_or(node);
    if is_in_clear(&settings.url) {
        let message = "tokens and the client's secret go over `http`, where whoever is on the way can read them";
        let warning = Diagnostic::warning(diagnostic::INSECURE, at("url").at, message);
        cx.key("url", |cx| cx.report(warning.help("use `https`")));
    }
    if settings.client.id.is_empty() || settings.client.id.len() > 1024 {
        cx.key("client", |cx| cx.bad_value(at("client"), "the `id` of a client has 1 to 1024 bytes"));
    }
    if settings.cache > LONGEST_CACHE {
        let help = "a token that is revoked would open for so long";
        cx.key("cache", |cx| cx.bad_value_help(at("cache"), "an answer is kept for `1h` at most", help));
    }
    check_audience(&settings.audience, true, node, cx);
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
