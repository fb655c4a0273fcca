//! The `policies` mapping: each name belongs to a policy, which checks its settings itself; `when` beside them is the language's.

use serde_json::{Map, Value as Json, json};

use crate::decode::{Decoder, ExpressionText, SchemaBuilder, Setting, meant};
use crate::diagnostic::{BAD_VALUE, Diagnostic, NOT_AVAILABLE, UNKNOWN_POLICY, WRONG_TYPE};
use crate::model::{PolicyEntry, Spanned};
use crate::policy::{PLANNED_POLICIES, PolicyDescription};
use crate::tree::{At, Entry, Node, Value, clip};

/// The key of a policy's condition.
const WHEN: &str = "when";

/// Policies and their settings, in written order.
pub(super) struct PoliciesText(
    pub(super) Vec<PolicyEntry>,
    /// Whether each name was that of a policy.
    pub(super) bool,
);

impl Setting for PoliciesText {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let entries = cx.map(node)?;
        let known: Vec<PolicyEntry> =
            entries.iter().filter_map(|entry| cx.key(&entry.key, |cx| policy(entry, cx))).collect();
        let whole = known.len() == entries.len();
        Some(Self(known, whole))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        let mut properties = Map::new();
        for policy in s.known_policies().iter().filter(|policy| !policy.ends) {
            let settings = (policy.schema)(s);
            let settings = if policy.unconditional.is_some() {
                settings
            } else {
                s.with_key(settings, policy.name, WHEN, &condition_schema())
            };
            let forms = json!({ "description": policy.doc, "anyOf": [{ "enum": ["off", false] }, settings] });
            properties.insert(policy.name.to_owned(), forms);
        }
        s.define("policies", |_| {
            json!({
                "type": "object",
                "title": "policies",
                "description": "Policies by name; their order is Daemun's own.",
                "properties": properties,
                "additionalProperties": false,
            })
        })
    }
}

fn condition_schema() -> Json {
    json!({
        "type": "string",
        "description": "A condition in CEL, such as `consumer.name != \"batch\"`: the policy runs on no other requests, nor on their answers. Always when absent.",
    })
}

fn policy(entry: &Entry, cx: &mut Decoder<'_>) -> Option<PolicyEntry> {
    let known = cx.known_policies().iter().find(|policy| policy.name == entry.key);
    if known.is_some_and(|policy| policy.ends) {
        let message = format!("`{}` is where a route ends, and no policy beside others", entry.key);
        let found = Diagnostic::error(UNKNOWN_POLICY, entry.key_at, message);
        cx.report(found.help(format!("write it beside the route's `match`: `{}: …`", entry.key)));
        return None;
    }
    let Some(policy) = known else {
        unknown_policy(&entry.key, entry.key_at, cx);
        return None;
    };
    let name = Spanned { value: entry.key.clone(), at: entry.key_at };
    if entry.value.is_off() {
        return Some(PolicyEntry { name, settings: None, when: None, sound: true });
    }
    let before = cx.error_count();
    let (settings, when) = split(&entry.value);
    if !has_only_defaults(policy, entry, cx) {
        (policy.check)(&settings, cx);
    }
    let when = when.and_then(|when| cx.key(WHEN, |cx| condition(policy, when, cx)));
    let sound = cx.is_sound_since(before, &entry.value);
    Some(PolicyEntry { name, settings: Some(settings), when, sound })
}

/// A policy's own settings, and the condition beside them.
fn split(node: &Node) -> (Node, Option<&Entry>) {
    let Some(when) = node.entry(WHEN) else { return (node.clone(), None) };
    let own = node.as_map().unwrap_or_default().iter().filter(|entry| entry.key != WHEN);
    (Node { at: node.at, value: Value::Map(own.cloned().collect()) }, Some(when))
}

fn condition(policy: &PolicyDescription, entry: &Entry, cx: &mut Decoder<'_>) -> Option<Spanned<String>> {
    if let Some(why) = policy.unconditional {
        let message = format!("`{}` takes no `when`: {why}", policy.name);
        cx.report(Diagnostic::error(BAD_VALUE, entry.key_at, message));
        return None;
    }
    ExpressionText::decode(&entry.value, cx).map(|when| when.0)
}

/// Reports `true` or nothing at all where settings of which none is needed belong.
fn has_only_defaults(policy: &PolicyDescription, entry: &Entry, cx: &mut Decoder<'_>) -> bool {
    if !matches!(entry.value.value, Value::Bool(true) | Value::Null) {
        return false;
    }
    let takes = |node: &Node| {
        let mut found = crate::Diagnostics::new();
        (policy.check)(node, &mut Decoder::new(&mut found, "").policies(cx.known_policies()));
        !found.has_errors()
    };
    if takes(&entry.value) || !takes(&Node { at: entry.value.at, value: Value::Map(Vec::new()) }) {
        return false;
    }
    let message = format!("expected the settings of `{}`, found {}", policy.name, entry.value.found());
    let help = format!("none of them is needed: write `{}: {{}}`", policy.name);
    cx.report(Diagnostic::error(WRONG_TYPE, entry.value.at, message).help(help));
    true
}

/// Reports a policy that does not exist, or not yet.
pub(super) fn unknown_policy(name: &str, at: At, cx: &mut Decoder<'_>) {
    let shown = clip(name);
    if PLANNED_POLICIES.contains(&name) {
        let message = format!("the policy `{shown}` is not available in this version");
        cx.report(Diagnostic::error(NOT_AVAILABLE, at, message));
        return;
    }
    let known: Vec<&str> = cx.known_policies().iter().filter(|policy| !policy.ends).map(|policy| policy.name).collect();
    let meant = meant(name, &known);
    let near = if meant.is_some() { None } else { cx.suggest(name, known.iter().copied()) };
    let mut found = Diagnostic::error(UNKNOWN_POLICY, at, format!("there is no policy `{shown}`"));
    found = match (near, meant) {
        (Some(_), _) => found.did_you_mean(near),
        (None, Some(meant)) => found.help(format!("write `{meant}`")),
        (None, None) => found.help(format!("the policies are {}", known.join(", "))),
    };
    cx.report(found);
}
