//! Claims: where in what a token says something stands, and what it must be. Knows no token.

use std::fmt;

use serde_json::{Map, Value, json};

use super::{Decoder, Key, SchemaBuilder, Setting, text};
use crate::diagnostic::{BAD_VALUE, Diagnostic};
use crate::tree::{At, Node, Value as Tree};

/// Bytes of the path of a claim.
const LONGEST_PATH: usize = 256;

/// Where in the claims something stands: a claim of exactly this name, or else the names of nested objects with points between them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClaimPath(Box<str>);

impl ClaimPath {
    fn read(path: &str, at: At, cx: &mut Decoder<'_>) -> Option<Self> {
        let fits = (1..=LONGEST_PATH).contains(&path.len()) && !path.chars().any(char::is_control);
        if !fits {
            let message = "expected the name of a claim, 1 to 256 bytes without control characters";
            cx.report(Diagnostic::error(BAD_VALUE, at, message).help("write it like `sub` or `realm_access.roles`"));
            return None;
        }
        Some(Self(path.into()))
    }

    /// A claim of this name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self(name.into())
    }

    /// The members of the claims that it may be in.
    pub fn members(&self) -> impl Iterator<Item = &str> {
        [Some(&*self.0), self.0.split('.').next()].into_iter().flatten()
    }

    /// As written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands there.
    #[must_use]
    pub fn find<'c>(&self, claims: &'c Map<String, Value>) -> Option<&'c Value> {
        if let Some(found) = claims.get(&*self.0) {
            return Some(found);
        }
        let mut names = self.0.split('.');
        let mut value = claims.get(names.next()?)?;
        for name in names {
            value = value.as_object()?.get(name)?;
        }
        Some(value)
    }
}

impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Setting for ClaimPath {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let path = text(node, cx, "the name of a claim")?;
        Self::read(path, node.at, cx)
    }

    fn schema(_: &mut SchemaBuilder<'_>) -> Value {
        json!({ "type": "string", "minLength": 1, "maxLength": LONGEST_PATH, "title": "claim" })
    }
}

impl Key for ClaimPath {
    fn decode_key(key: &str, at: At, cx: &mut Decoder<'_>) -> Option<Self> {
        Self::read(key, at, cx)
    }
}

/// What a claim must be.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimValue(Value);

impl ClaimValue {
    /// A value.
    #[must_use]
    pub fn of(value: Value) -> Self {
        Self(value)
    }

    /// What it is.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.0
    }

    /// Whether a claim is this.
    #[must_use]
    pub fn is(&self, found: &Value) -> bool {
        self.0 == *found
    }
}

impl Setting for ClaimValue {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        match &node.value {
            Tree::Bool(value) => Some(Self(Value::Bool(*value))),
            Tree::String(text) => Some(Self(Value::String(text.text.clone()))),
            Tree::Number(text) => match text.parse::<i64>() {
                Ok(number) => Some(Self(number.into())),
                Err(_) => {
                    cx.bad_value(node, format!("expected a whole number, found {}", node.found()));
                    None
                }
            },
            Tree::Null | Tree::Seq(_) | Tree::Map(_) => {
                cx.wrong_type(node, "a text, a whole number, `true` or `false`");
                None
            }
        }
    }

    fn schema(_: &mut SchemaBuilder<'_>) -> Value {
        json!({ "type": ["string", "integer", "boolean"], "title": "value of a claim" })
    }
}
