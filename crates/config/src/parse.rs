//! Text in, tree out: YAML, JSON and TOML into one kind of [`Node`]. Knows no key of the language.

mod build;
mod json;
mod toml;
mod yaml;

use std::path::Path;

use crate::diagnostic::Diagnostics;
use crate::tree::{At, Node, Text, Value};

/// Deepest nesting of lists and mappings.
pub(crate) const MAX_DEPTH: usize = 64;

/// The forms a configuration text may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// YAML 1.2.
    Yaml,
    /// JSON, RFC 8259.
    Json,
    /// TOML 1.
    Toml,
}

impl Format {
    /// The format a file's name stands for; YAML when it says nothing else.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some(extension) if extension.eq_ignore_ascii_case("json") => Self::Json,
            Some(extension) if extension.eq_ignore_ascii_case("toml") => Self::Toml,
            _ => Self::Yaml,
        }
    }
}

/// Reads one text into a tree, references not yet replaced; what is wrong is reported. `None` when there is no tree.
#[must_use]
pub fn parse(text: &str, format: Format, file: u16, diagnostics: &mut Diagnostics) -> Option<Node> {
    match format {
        Format::Yaml => yaml::parse(text, file, diagnostics),
        Format::Json => json::parse(text, file, diagnostics),
        Format::Toml => toml::parse(text, file, diagnostics),
    }
}

/// Reads one YAML or JSON text that is in no file: for tests of settings.
#[must_use]
pub fn parse_text(text: &str, diagnostics: &mut Diagnostics) -> Option<Node> {
    yaml::parse(text, 0, diagnostics)
}

/// Reads a default as written in [`settings!`](crate::settings). The usual forms take no parser: they are read once for every
/// route.
pub(crate) fn literal(text: &str) -> Node {
    let unplaced = |value| Node { at: At::default(), value };
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let simple = |text: &str| !text.contains(['[', ']', '{', '}', '"', '\'', ':', '#']);
    match (text, inner) {
        ("{}", _) => return unplaced(Value::Map(Vec::new())),
        ("\"\"", _) => return Node::text(""),
        ("[]", _) => return unplaced(Value::Seq(Vec::new())),
        (_, Some(inner)) if simple(inner) => {
            return unplaced(Value::Seq(inner.split(',').map(|item| unplaced(plain(item.trim()))).collect()));
        }
        (_, None) if !text.starts_with(['{', '"']) => return unplaced(plain(text)),
        _ => {}
    }
    let mut findings = Diagnostics::new();
    match yaml::parse(text, 0, &mut findings) {
        Some(mut node) => {
            unplace(&mut node);
            node
        }
        None => Node::text(text),
    }
}

/// Takes the places away: the text is in no file.
fn unplace(node: &mut Node) {
    node.at = At::default();
    match &mut node.value {
        Value::Seq(items) => items.iter_mut().for_each(unplace),
        Value::Map(entries) => {
            for entry in entries {
                entry.key_at = At::default();
                unplace(&mut entry.value);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What an unquoted word means, by YAML's core schema.
pub(crate) fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ if is_number(text) => Value::Number(text.into()),
        _ => Value::String(Text {
            text: text.to_owned(),
            quoted: false,
            reference: false,
            secret: false,
            template: None,
        }),
    }
}

/// `-12`, `0x1f`, `0o17`, `1.5e3`, `.inf`, `.nan` as the core schema has them.
fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return !digits.is_empty() && digits.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let some = !whole.is_empty() || !fraction.is_empty();
    some && digits(whole) && digits(fraction) && exponent.is_none_or(|text| !text.is_empty() && digits(text))
}
