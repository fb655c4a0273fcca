//! The settings of `key_auth`.

use daemun_config::decode::{Decoder, FieldName};
use daemun_config::diagnostic::{self, Diagnostic};
use daemun_config::settings;
use daemun_config::tree::Node;
use daemun_pipeline::head::is_token;

use crate::presented::usable_header;

settings! {
    /// Who calls, by API key. Where keys are looked for: one of `header`, `query` and `authorization` at least.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct KeyAuthConfig {
        /// Request header that holds the key, such as `X-Api-Key`.
        pub header: Option<FieldName>,
        /// Query parameter that holds the key. Targets end up in logs and histories; prefer a header.
        pub query: Option<String>,
        /// Scheme of the `Authorization` header that holds the key, such as `Bearer`.
        pub authorization: Option<String>,
        /// Whether the key is passed on to the upstream.
        pub forward: bool = "false",
    }
    check check;
}

fn check(settings: &KeyAuthConfig, node: &Node, cx: &mut Decoder<'_>) {
    let at = |key: &str| node.get(key).unwrap_or(node);
    if ["header", "query", "authorization"].iter().all(|key| node.get(key).is_none()) {
        let found = Diagnostic::error(diagnostic::MISSING_KEY, node.at, "nothing says where the key is");
        cx.report(found.help("give one of `header`, `query` and `authorization`: `key_auth: { header: X-Api-Key }`"));
    }
    if let Some(FieldName(name)) = &settings.header {
        usable_header(name, at("header"), "header", "a key", cx);
    }
    if let Some(name) = &settings.query
        && (name.is_empty()
            || name.len() > 256
            || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b)))
    {
        let help = "1 to 256 letters, digits and `- . _ ~`";
        cx.key("query", |cx| {
            cx.bad_value_help(at("query"), format!("`{name}` cannot be the name of the parameter"), help)
        });
    }
    if let Some(scheme) = &settings.authorization
        && (scheme.is_empty() || scheme.len() > 64 || !scheme.bytes().all(is_token))
    {
        let message = format!("`{scheme}` is not an authorization scheme");
        cx.key("authorization", |cx| cx.bad_value_help(at("authorization"), message, "one word, such as `Bearer`"));
    }
}
