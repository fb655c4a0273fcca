//! The settings of `hmac_auth`.

use std::time::Duration;

use daemun_config::decode::{Bounded, Decoder, NonEmpty, SchemaBuilder, Setting, Size, text};
use daemun_config::settings;
use daemun_config::tree::Node;
use daemun_pipeline::head::is_token;
use serde_json::Value as Json;

/// Longest difference between the clocks of caller and gateway.
const LONGEST_SKEW: Duration = Duration::from_secs(3600);

settings! {
    /// Who calls, by a signature over the request with a secret that the caller shares with the gateway.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct HmacAuthConfig {
        /// Algorithms that are taken.
        pub algorithms: NonEmpty<HmacAlgorithm> = "[hmac-sha256, hmac-sha512]",
        /// What a signature must cover, beside the date: names of fields in lower case, and `(request-target)`.
        pub required: Vec<Covered> = "[\"(request-target)\", host]",
        /// How far the signed date may lie in the past or future.
        pub clock_skew: Duration = "5m",
        /// Whether the body must be signed, by its digest in `Digest` or `Content-Digest`.
        pub body: SignedBodies = "signed",
        /// Largest body that is held to compare it with its digest.
        pub max_body: Size = "1MiB",
        /// Whether a signature lets one request in only.
        pub replay: Replays = "refuse",
        /// Signatures of one consumer that are remembered at most; while so many are not too old, its further requests are refused.
        pub replay_entries: Bounded<1_000, 10_000_000> = "100000",
        /// Whether the signature is passed on to the upstream.
        pub forward: bool = "false",
    }
    check check;
}

settings! {
    /// Algorithms of signatures with a shared secret.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum HmacAlgorithm {
        /// HMAC with SHA-256.
        Sha256 = "hmac-sha256",
        /// HMAC with SHA-384.
        Sha384 = "hmac-sha384",
        /// HMAC with SHA-512.
        Sha512 = "hmac-sha512",
    }
}

impl HmacAlgorithm {
    /// As callers write it.
    pub(super) fn name(self) -> &'static str {
        match self {
            HmacAlgorithm::Sha256 => "hmac-sha256",
            HmacAlgorithm::Sha384 => "hmac-sha384",
            HmacAlgorithm::Sha512 => "hmac-sha512",
        }
    }
}

settings! {
    /// What becomes of bodies.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum SignedBodies {
        /// A request with a body must have its digest signed, and the body must be the one it is of.
        Signed = "signed",
        /// They are not looked at.
        Ignored = "ignored",
    }
}

settings! {
    /// What becomes of a signature that was seen before.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Replays {
        /// The request is refused.
        Refuse = "refuse",
        /// It is not noticed.
        Allow = "allow",
    }
}

/// Something that a signature covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Covered(pub String);

impl Setting for Covered {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let name = text(node, cx, "the name of a field, or `(request-target)`")?;
        let is_field = !name.is_empty()
            && name.len() <= 128
            && name.bytes().all(|byte| is_token(byte) && !byte.is_ascii_uppercase());
        if !is_field && name != "(request-target)" {
            let help = "write the name of a field in lower case, such as `host`, or `(request-target)` for method, path and query";
            cx.bad_value_help(node, format!("`{}` is nothing that a signature covers", node.shown()), help);
            return None;
        }
        if is_field {
            cx.reads_field(node, name);
        }
        Some(Self(name.to_owned()))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        let doc = "Name of a field in lower case, or `(request-target)`.";
        s.pattern("covered", doc, "^(\\(request-target\\)|[a-z0-9!#$%&'*+.^_`|~-]{1,128})$")
    }
}

fn check(settings: &HmacAuthConfig, node: &Node, cx: &mut Decoder<'_>) {
    let skew = settings.clock_skew;
    if skew < Duration::from_secs(1) || skew > LONGEST_SKEW {
        let node = node.get("clock_skew").unwrap_or(node);
        let message = format!("`{}` is not from `1s` to `1h`", node.shown());
        cx.key("clock_skew", |cx| cx.bad_value(node, message));
    }
}
