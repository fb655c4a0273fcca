//! The settings of `canonical_host`.

use daemun_config::decode::{Decoder, JsonValue, OneOrMany, SchemaBuilder, Setting, text};
use daemun_config::settings;
use daemun_config::tree::Node;

use crate::redirect::{BelowPath, MovedStatus};

settings! {
    /// Sends callers that came under another name to the one host.
    #[derive(Clone, Debug, PartialEq)]
    pub struct CanonicalHostConfig {
        /// The one host, without scheme and port.
        pub host: OneHost,
        /// Hosts that are sent there, exact or `*.` and a suffix; every other host when absent.
        pub from: Option<OneOrMany<OtherHost>>,
        /// Status: 301, 302, 307 or 308; the last two keep method and body.
        pub status: MovedStatus = "308",
        /// Paths that are served under any name, each with everything below it.
        pub except: OneOrMany<BelowPath> = "[]",
    }
    check check;
}

fn check(settings: &CanonicalHostConfig, node: &Node, cx: &mut Decoder<'_>) {
    let Some(list) = node.get("from") else { return };
    cx.key("from", |cx| {
        if list.as_seq().is_some_and(<[Node]>::is_empty) {
            cx.bad_value(list, "expected at least one item, found an empty list");
        }
        let exact = OtherHost::Exact(settings.host.0.clone());
        if settings.from.iter().flat_map(|from| &from.0).any(|from| *from == exact) {
            cx.bad_value(list, format!("`{}` is the host that the others are sent to", settings.host.0));
        }
    });
}

/// A host name in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneHost(pub String);

impl Setting for OneHost {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let written = text(node, cx, "a host")?;
        let name = name(written);
        if name.is_none() {
            let help = "write the name alone, like `www.example.com`";
            cx.bad_value_help(node, format!("`{}` is not a host", node.shown()), help);
        }
        name.map(Self)
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> JsonValue {
        s.pattern("host name", "Host name: `orders.internal`.", "^[A-Za-z0-9._-]+$")
    }
}

/// A host that is sent elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OtherHost {
    /// This one.
    Exact(String),
    /// Every one that ends in this, which begins with a dot.
    Below(String),
}

impl OtherHost {
    /// Whether it is a host, given in lower case without port.
    pub(super) fn holds(&self, host: &[u8]) -> bool {
        match self {
            OtherHost::Exact(name) => host == name.as_bytes(),
            OtherHost::Below(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_bytes()),
        }
    }
}

impl Setting for OtherHost {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let written = text(node, cx, "a host")?;
        let read = match written.strip_prefix("*.") {
            Some(suffix) => name(suffix).map(|suffix| Self::Below(format!(".{suffix}"))),
            None => name(written).map(Self::Exact),
        };
        if read.is_none() {
            let help = "write it like `example.com` or `*.example.com`";
            cx.bad_value_help(node, format!("`{}` is not a host", node.shown()), help);
        }
        read
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> JsonValue {
        s.pattern(
            "other host",
            "Host name, or `*.` and a suffix: `example.com`, `*.example.com`.",
            "^(\\*\\.)?[A-Za-z0-9._-]+$",
        )
    }
}

/// A name as requests have it: lower case, without the dot of the root.
fn name(written: &str) -> Option<String> {
    let name = written.strip_suffix('.').unwrap_or(written);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    (name.len() <= 253 && name.split('.').all(is_label)).then(|| name.to_ascii_lowercase())
}
