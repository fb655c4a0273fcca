//! The settings of `token_auth`.

use daemun_config::decode::{Challenge, Decoder, FieldName};
use daemun_config::model::Spanned;
use daemun_config::settings;
use daemun_config::tree::Node;

use crate::presented::usable_header;

settings! {
    /// Who calls, by an access token that a service of `tokens` gave out.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct TokenAuthConfig {
        /// The token service, by its name; the only one when absent.
        pub service: Option<Spanned<String>>,
        /// Request header that holds the token; `Authorization: Bearer` when absent.
        pub header: Option<FieldName>,
        /// What `WWW-Authenticate` asks of a call without a good token, whatever is wrong with it; `Bearer realm="daemun"` when absent, with
        /// `error="invalid_token"` where there is a token.
        pub challenge: Option<Challenge>,
        /// Whether the token is passed on to the upstream.
        pub forward: bool = "false",
    }
    check check;
}

fn check(settings: &TokenAuthConfig, node: &Node, cx: &mut Decoder<'_>) {
    if let Some(FieldName(name)) = &settings.header {
        usable_header(name, node.get("header").unwrap_or(node), "header", "a token", cx);
    }
}
