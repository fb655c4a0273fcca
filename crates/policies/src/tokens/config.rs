//! The settings of `tokens`: which service, and what of it.

use daemun_config::decode::{Decoder, JsonValue, SchemaBuilder, Setting, text};
use daemun_config::model::Spanned;
use daemun_config::settings;
use daemun_config::tree::Node;

/// What a route asks of a token service.
#[derive(Clone, Debug, PartialEq)]
pub struct TokensConfig {
    /// The service, by its name.
    pub service: Spanned<String>,
    /// What is asked of it.
    pub endpoint: Endpoint,
}

settings! {
    /// What a route asks of a token service.
    #[derive(Clone, Debug, PartialEq)]
    struct TokensText {
        /// The service, by its name.
        service: Spanned<String>,
        /// What is asked of it.
        endpoint: Endpoint = "token",
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
            let TokensText { service, endpoint } = TokensText::decode(node, cx)?;
            return Some(Self { service, endpoint });
        }
        let name = text(node, cx, "the name of a token service")?;
        Some(Self { service: Spanned { value: name.to_owned(), at: node.at }, endpoint: Endpoint::Token })
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> JsonValue {
        let form = TokensText::schema(s);
        let name = String::schema(s);
        serde_json::json!({ "anyOf": [name, form] })
    }
}
