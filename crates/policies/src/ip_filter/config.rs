//! The settings of `ip_filter`.

use std::path::PathBuf;

use daemun_config::decode::{Decoder, JsonValue, OneOrMany, SchemaBuilder, Setting};
use daemun_config::model::IpNet;
use daemun_config::settings;
use daemun_config::tree::Node;
use serde_json::json;

settings! {
    /// Which addresses may call. What is denied is refused even where it is allowed; with a list of who is allowed, nobody else is.
    #[derive(Clone, Debug, PartialEq)]
    pub struct IpFilterConfig {
        /// Addresses and ranges that may call, and `unix` for callers over a Unix socket; everybody when neither this nor `allow_file` is given.
        pub allow: Option<OneOrMany<Caller>>,
        /// Addresses and ranges that may not call, and `unix`.
        pub deny: Option<OneOrMany<Caller>>,
        /// File of further addresses and ranges that may call, one a line.
        pub allow_file: Option<PathBuf>,
        /// File of further addresses and ranges that may not call, one a line.
        pub deny_file: Option<PathBuf>,
    }
    needs_one { "allow", "deny", "allow_file", "deny_file" }
    check check;
}

/// Where a caller may come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// An address in this range.
    Net(IpNet),
    /// A Unix socket, without an address.
    Unix,
}

fn check(_: &IpFilterConfig, node: &Node, cx: &mut Decoder<'_>) {
    for key in ["allow", "deny"] {
        if let Some(list) = node.get(key).filter(|list| list.as_seq().is_some_and(<[Node]>::is_empty)) {
            cx.key(key, |cx| cx.bad_value(list, "expected at least one item, found an empty list"));
        }
    }
}

impl Setting for Caller {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        if node.as_str() == Some("unix") { Some(Self::Unix) } else { IpNet::decode(node, cx).map(Self::Net) }
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> JsonValue {
        let unix = json!({ "const": "unix", "description": "Whoever comes over a Unix socket." });
        json!({ "anyOf": [unix, IpNet::schema(s)] })
    }
}
