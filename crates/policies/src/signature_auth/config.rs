//! The settings of `signature_auth`.

use std::time::Duration;

use daemun_config::decode::{Bounded, Decoder, SchemaBuilder, Setting, Size, text};
use daemun_config::settings;
use daemun_config::tree::Node;
use daemun_pipeline::head::is_token;
use serde_json::Value as Json;

use super::components::DERIVED;
use crate::hmac_auth::{Replays, SignedBodies};

/// Longest difference between the clocks of caller and gateway.
const LONGEST_SKEW: Duration = Duration::from_secs(3600);

settings! {
    /// Who calls, by an HTTP message signature (RFC 9421).
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct SignatureAuthConfig {
        /// Components that a signature must cover: names of fields in lower case, and derived ones such as `@method`.
        pub required: Vec<Component> = "[\"@method\", \"@authority\", \"@path\", \"@query\"]",
        /// The application that a signature must be made for; signatures with another tag, or none, are not looked at.
        pub tag: Option<String>,
        /// How far the time at which it was made may lie in the past or future.
        pub clock_skew: Duration = "5m",
        /// Whether the body must be signed, by its digest in `Content-Digest`.
        pub body: SignedBodies = "signed",
        /// Largest body that is held to compare it with its digest.
        pub max_body: Size = "1MiB",
        /// Whether a signature must have a nonce.
        pub require_nonce: bool = "false",
        /// Whether a signature lets one request in only.
        pub replay: Replays = "refuse",
        /// Signatures of one consumer that are remembered at most; while so many are not too old, its further requests are refused.
        pub replay_entries: Bounded<1_000, 10_000_000> = "100000",
        /// Whether the signature is passed on to the upstream.
        pub forward: bool = "false",
    }
    check check;
}

/// A component without parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component(pub String);

impl Setting for Component {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let name = text(node, cx, "the name of a component")?;
        let is_field = !name.is_empty()
            && name.len() <= 128
            && name.bytes().all(|byte| is_token(byte) && !byte.is_ascii_uppercase());
        if !is_field && !DERIVED.contains(&name) {
            let help = format!("write the name of a field in lower case, or one of `{}`", DERIVED.join("`, `"));
            cx.bad_value_help(node, format!("`{}` is no component of a request", node.shown()), help);
            return None;
        }
        if is_field {
            cx.reads_field(node, name);
        }
        Some(Self(name.to_owned()))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        let doc = "Name of a field in lower case, or a derived component: `@method`, `@authority`, `@path`.";
        s.pattern("component", doc, "^(@[a-z-]{1,32}|[a-z0-9!#$%&'*+.^_`|~-]{1,128})$")
    }
}

fn check(settings: &SignatureAuthConfig, node: &Node, cx: &mut Decoder<'_>) {
    let skew = settings.clock_skew;
    if skew < Duration::from_secs(1) || skew > LONGEST_SKEW {
        let node = node.get("clock_skew").unwrap_or(node);
        let message = format!("`{}` is not from `1s` to `1h`", node.shown());
        cx.key("clock_skew", |cx| cx.bad_value(node, message));
    }
    let fits = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    if settings.tag.as_ref().is_some_and(|tag| tag.is_empty() || tag.len() > 256 || !tag.bytes().all(fits)) {
        let node = node.get("tag").unwrap_or(node);
        let help = "1 to 256 printable ASCII characters";
        cx.key("tag", |cx| cx.bad_value_help(node, format!("`{}` cannot be a tag", node.shown()), help));
    }
}
