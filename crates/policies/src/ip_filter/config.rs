//! The settings of `ip_filter`.

use std::path::PathBuf;

use daemun_config::decode::{Decoder, JsonValue, OneOrMany, SchemaBuilder, Setting};
use daemun_config::diagnostic::{CONTRADICTION, Diagnostic};
use daemun_config::model::IpNet;
use daemun_config::settings;
use daemun_config::tree::Node;
use serde_json::json;

use super::ranges::Ranges;

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

/// What is allowed and wholly denied never gets in.
fn allowed_in_vain(config: &IpFilterConfig, node: &Node, cx: &mut Decoder<'_>) {
    let callers = |list: &Option<OneOrMany<Caller>>| list.as_ref().map(|list| list.0.clone()).unwrap_or_default();
    let (allowed, denied) = (callers(&config.allow), callers(&config.deny));
    let nets: Vec<IpNet> = denied
        .iter()
        .filter_map(|caller| match caller {
            Caller::Net(net) => Some(*net),
            Caller::Unix => None,
        })
        .collect();
    let ranges = Ranges::new(&nets);
    let Some(written) = node.get("allow") else { return };
    let items = written.as_seq().unwrap_or(std::slice::from_ref(written));
    // where one could not be read, places do not tell which is which
    for (item, caller) in items.iter().zip(&allowed).filter(|_| items.len() == allowed.len()) {
        let in_vain = match caller {
            Caller::Net(net) => ranges.cover(*net),
            Caller::Unix => denied.contains(&Caller::Unix),
        };
        if in_vain {
            let message = format!("`{}` is allowed in vain: all of it is denied, which wins", item.shown());
            let found = Diagnostic::warning(CONTRADICTION, item.at, message);
            cx.key("allow", |cx| cx.report(found.help("leave it out, or narrow `deny`")));
        }
    }
}

fn check(config: &IpFilterConfig, node: &Node, cx: &mut Decoder<'_>) {
    allowed_in_vain(config, node, cx);
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
