//! The settings of `security_headers`.

use daemun_config::decode::{Decoder, FieldValue, OrOff};
use daemun_config::settings;
use daemun_config::tree::Node;

settings! {
    /// Headers that tell browsers what an answer may be used for. Each has a value of its own or is `off`.
    #[derive(Clone, Debug, PartialEq)]
    pub struct SecurityHeadersConfig {
        /// Value of `Strict-Transport-Security`; sent only to callers that came over TLS.
        pub strict_transport_security: OrOff<FieldValue> = "max-age=31536000",
        /// Value of `X-Content-Type-Options`.
        pub content_type_options: OrOff<FieldValue> = "nosniff",
        /// Value of `X-Frame-Options`: `DENY` or `SAMEORIGIN`.
        pub frame_options: OrOff<FieldValue> = "SAMEORIGIN",
        /// Value of `Referrer-Policy`.
        pub referrer_policy: OrOff<FieldValue> = "strict-origin-when-cross-origin",
        /// Value of `Permissions-Policy`.
        pub permissions_policy: OrOff<FieldValue> = "\"camera=(), geolocation=(), microphone=()\"",
        /// Value of `Content-Security-Policy`.
        pub content_security_policy: OrOff<FieldValue> = "off",
        /// Value of `Cross-Origin-Opener-Policy`.
        pub cross_origin_opener_policy: OrOff<FieldValue> = "same-origin",
        /// Value of `Cross-Origin-Resource-Policy`.
        pub cross_origin_resource_policy: OrOff<FieldValue> = "same-site",
        /// Value of `Cross-Origin-Embedder-Policy`.
        pub cross_origin_embedder_policy: OrOff<FieldValue> = "off",
        /// Whether an upstream's own value of these headers is replaced.
        pub overrides: bool as "override" = "false",
    }
    check check;
}

impl SecurityHeadersConfig {
    /// Every header: key, name, value.
    pub(super) fn all(&self) -> [(&'static str, &'static str, &OrOff<FieldValue>); 9] {
        [
            ("strict_transport_security", super::STRICT_TRANSPORT, &self.strict_transport_security),
            ("content_type_options", "X-Content-Type-Options", &self.content_type_options),
            ("frame_options", "X-Frame-Options", &self.frame_options),
            ("referrer_policy", "Referrer-Policy", &self.referrer_policy),
            ("permissions_policy", "Permissions-Policy", &self.permissions_policy),
            ("content_security_policy", "Content-Security-Policy", &self.content_security_policy),
            ("cross_origin_opener_policy", "Cross-Origin-Opener-Policy", &self.cross_origin_opener_policy),
            ("cross_origin_resource_policy", "Cross-Origin-Resource-Policy", &self.cross_origin_resource_policy),
            ("cross_origin_embedder_policy", "Cross-Origin-Embedder-Policy", &self.cross_origin_embedder_policy),
        ]
    }
}

fn check(settings: &SecurityHeadersConfig, node: &Node, cx: &mut Decoder<'_>) {
    for (key, name, value) in settings.all() {
        let (OrOff::On(FieldValue(value)), Some(node)) = (value, node.get(key)) else { continue };
        if let Some(help) = meaningless(key, value) {
            cx.key(key, |cx| {
                cx.bad_value_help(node, format!("`{}` means nothing as `{name}`", node.shown()), help);
            });
        }
    }
}

/// What a browser would take in place of a value that it ignores; for a header that is a list of directives anything goes.
fn meaningless(key: &str, value: &str) -> Option<&'static str> {
    let is = |words: &[&str]| words.iter().any(|word| word.eq_ignore_ascii_case(value));
    let (fits, help) = match key {
        "strict_transport_security" => (has_max_age(value), "write it like `max-age=31536000; includeSubDomains`"),
        "content_type_options" => (is(&["nosniff"]), "the value is `nosniff`"),
        "frame_options" => (is(&["DENY", "SAMEORIGIN"]), "the values are `DENY` and `SAMEORIGIN`"),
        _ => (!value.is_empty(), "an empty value is ignored; `off` leaves the header out"),
    };
    (!fits).then_some(help)
}

/// RFC 6797, section 6.1.1: `max-age` is required, and without it the header is ignored.
fn has_max_age(value: &str) -> bool {
    value.split(';').filter_map(|directive| directive.split_once('=')).any(|(name, seconds)| {
        let seconds = seconds.trim().trim_matches('"');
        name.trim().eq_ignore_ascii_case("max-age")
            && !seconds.is_empty()
            && seconds.bytes().all(|byte| byte.is_ascii_digit())
    })
}
