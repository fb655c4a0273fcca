//! The settings of `headers`.

use std::collections::HashSet;

use daemun_config::decode::{Decoder, FieldName, FieldTemplate, Mapping, OneOrMany};
use daemun_config::diagnostic::{self, Diagnostic};
use daemun_config::model::Spanned;
use daemun_config::settings;
use daemun_config::tree::{At, Node};
use daemun_pipeline::FieldId;

settings! {
    /// Changes to the headers of requests and answers.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct HeadersConfig {
        /// What changes on the way to the upstream.
        pub request: Option<HeaderEdits>,
        /// What changes on the way to the caller; answers of the gateway's own included.
        pub response: Option<HeaderEdits>,
    }
    check check;
}

settings! {
    /// Changes to one head: first `remove`, then `set`, then `add`.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct HeaderEdits {
        /// Headers that are taken out.
        pub remove: Option<OneOrMany<FieldName>>,
        /// Headers that are given this value, whatever they had; `${…}` in it is an expression.
        pub set: Option<Mapping<FieldName, Spanned<FieldTemplate>>>,
        /// Headers that are added to those of the same name; one value or a list, with expressions as in `set`.
        pub add: Option<Mapping<FieldName, OneOrMany<Spanned<FieldTemplate>>>>,
    }
}

/// Which way a head goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Request,
    Response,
}

fn check(settings: &HeadersConfig, node: &Node, cx: &mut Decoder<'_>) {
    for (key, direction, edits) in
        [("request", Direction::Request, &settings.request), ("response", Direction::Response, &settings.response)]
    {
        if let (Some(edits), Some(node)) = (edits, node.get(key)) {
            cx.key(key, |cx| check_edits(edits, direction, node, cx));
        }
    }
}

fn check_edits(edits: &HeaderEdits, direction: Direction, node: &Node, cx: &mut Decoder<'_>) {
    let at = |key: &str| node.get(key).map_or(node.at, |node| node.at);
    let removed = edits.remove.iter().flat_map(|names| &names.0).map(|name| ("remove", name, at("remove")));
    let set = edits.set.iter().flat_map(|set| &set.0).map(|(name, _)| ("set", &name.value, name.at));
    let added = edits.add.iter().flat_map(|add| &add.0).map(|(name, _)| ("add", &name.value, name.at));
    let mut gone = HashSet::new();
    for (key, FieldName(name), at) in removed.chain(set).chain(added) {
        cx.key(key, |cx| {
            if let Some(reason) = refused(name, direction) {
                cx.report(
                    Diagnostic::error(diagnostic::BAD_VALUE, at, format!("`{name}` cannot be changed here"))
                        .help(reason),
                );
            }
            if key == "set" && gone.contains(name) {
                let message = format!("`{name}` is both removed and set");
                cx.report(
                    Diagnostic::error(diagnostic::CONFLICTING_KEYS, at, message)
                        .help("`set` alone replaces what was there"),
                );
            }
        });
        if key == "remove" {
            gone.insert(name);
        }
    }
    report_empty(edits, node.at, cx);
}

fn report_empty(edits: &HeaderEdits, at: At, cx: &mut Decoder<'_>) {
    if edits.remove.is_none() && edits.set.is_none() && edits.add.is_none() {
        let found = Diagnostic::error(diagnostic::MISSING_KEY, at, "nothing is changed here");
        cx.report(found.help("give one of `remove`, `set` and `add`"));
    }
}

/// Why a header is not for a policy of the operator's to change.
pub(crate) fn refused(name: &str, direction: Direction) -> Option<&'static str> {
    let id = FieldId::of(name.as_bytes());
    if id.is_hop_by_hop() {
        return Some("it belongs to one connection, which the gateway looks after");
    }
    if id == FieldId::ContentLength {
        return Some("it says where the message ends, which the gateway looks after");
    }
    if direction == Direction::Response {
        return None;
    }
    if id == FieldId::Host {
        Some("the upstream's `host` decides what is sent")
    } else if id == FieldId::Identity {
        Some("`X-Consumer-*` headers tell the upstream who calls; authenticators set them")
    } else if is_gateways(id) {
        Some("the gateway writes it itself")
    } else {
        None
    }
}

/// Request fields that the gateway writes from what it knows of the connection and the exchange.
fn is_gateways(id: FieldId) -> bool {
    [
        FieldId::Expect,
        FieldId::Via,
        FieldId::Forwarded,
        FieldId::XForwardedFor,
        FieldId::XForwardedHost,
        FieldId::XForwardedProto,
        FieldId::XRequestId,
        FieldId::Traceparent,
        FieldId::Tracestate,
    ]
    .contains(&id)
}
