//! The settings of `tokens`: which service, and what of it.

use daemun_config::decode::{Decoder, JsonValue, NonEmpty, SchemaBuilder, Setting, text};
use daemun_config::diagnostic::{CONFLICTING_KEYS, Diagnostic};
use daemun_config::model::{GrantType, Spanned};
use daemun_config::settings;
use daemun_config::tree::Node;

/// What a route asks of a token service.
#[derive(Clone, Debug, PartialEq)]
pub struct TokensConfig {
    /// The service, by its name.
    pub service: Spanned<String>,
    /// What is asked of it.
    pub endpoint: Endpoint,
    /// What tokens are given for here; what the service gives them for when absent.
    pub grants: Option<Vec<GrantType>>,
}

settings! {
    /// What a route asks of a token service.
    #[derive(Clone, Debug, PartialEq)]
    struct TokensText {
        /// The service, by its name.
        service: Spanned<String>,
        /// What is asked of it.
        endpoint: Endpoint = "token",
        /// What tokens are given for here, of what the service gives them for; all of that when absent. One alone is asked for without
        /// `grant_type`.
        grants: Option<NonEmpty<GrantType>>,
    }
    check check;
}

fn check(settings: &TokensText, node: &Node, cx: &mut Decoder<'_>) {
    if let (false, Some(entry)) = (settings.endpoint == Endpoint::Token, node.entry("grants")) {
        let message = "`grants` is of `endpoint: token`, and no tokens are given here";
        cx.key("grants", |cx| cx.report(Diagnostic::error(CONFLICTING_KEYS, entry.key_at, message)));
    }
}

settings! {
    /// What is asked of a token service.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Endpoint {
        /// Tokens.
        Token = "token",
        /// That one be revoked (RFC 7009).
        Revoke = "revoke",
        /// What one stands for (RFC 7662).
        Introspect = "introspect",
        /// The keys of its signed tokens (RFC 7517).
        Jwks = "jwks",
        /// Where it is found and what it does (RFC 8414).
        Metadata = "metadata",
        /// A login of a user, by browsers that clients send (RFC 6749, section 4.1).
        Authorize = "authorize",
        /// The same, by browsers that the provider sends back.
        Callback = "callback",
    }
}

impl Setting for TokensConfig {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        if node.as_map().is_some() {
            let TokensText { service, endpoint, grants } = TokensText::decode(node, cx)?;
            return Some(Self { service, endpoint, grants: grants.map(|grants| grants.0) });
        }
        let name = text(node, cx, "the name of a token service")?;
        let service = Spanned { value: name.to_owned(), at: node.at };
        Some(Self { service, endpoint: Endpoint::Token, grants: None })
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> JsonValue {
        let form = TokensText::schema(s);
        let name = String::schema(s);
        serde_json::json!({ "anyOf": [name, form] })
    }
}
