//! Texts of HTTP and of the language that must have a certain form: names, methods, field names and values, statuses.

use serde_json::{Value as Json, json};

use super::{Decoder, Key, SchemaBuilder, Setting, text};
use crate::diagnostic::{BAD_VALUE, Diagnostic};
use crate::tree::{At, Node};

/// Bytes of RFC 9110's `token` beside letters and digits.
const TOKEN: &str = "!#$%&'*+-.^_`|~";
const TOKEN_PATTERN: &str = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$";

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.len() <= 256 && text.chars().all(|c| c.is_ascii_alphanumeric() || TOKEN.contains(c))
}

/// The name of a route, upstream or consumer: 1 to 128 letters, digits and `_ - . : / @ +`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name(pub String);

impl Name {
    fn check(name: &str, at: At, cx: &mut Decoder<'_>) -> Option<Self> {
        let fits = |char: char| char.is_alphanumeric() || "_-.:/@+".contains(char);
        if !name.is_empty() && name.chars().take(129).count() <= 128 && name.chars().all(fits) {
            return Some(Self(name.to_owned()));
        }
        let message = format!("`{}` is not a name", crate::tree::clip(name));
        let help = "a name has 1 to 128 letters, digits and `_ - . : / @ +`";
        cx.report(Diagnostic::error(BAD_VALUE, at, message).help(help));
        None
    }
}

impl Setting for Name {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let name = text(node, cx, "a name")?;
        Self::check(name, node.at, cx)
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        s.or_reference(name_schema())
    }
}

impl Key for Name {
    fn decode_key(key: &str, at: At, cx: &mut Decoder<'_>) -> Option<Self> {
        Self::check(key, at, cx)
    }

    fn key_schema() -> Option<Json> {
        Some(name_schema())
    }
}

fn name_schema() -> Json {
    json!({ "type": "string", "pattern": "^[\\p{L}\\p{N}\\p{M}_.:/@+-]{1,128}$", "title": "name" })
}

/// The name of a header field, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FieldName(pub String);

impl FieldName {
    fn check(name: &str, at: At, cx: &mut Decoder<'_>) -> Option<Self> {
        if is_token(name) {
            return Some(Self(name.to_ascii_lowercase()));
        }
        let message = format!("`{}` is not the name of a header", crate::tree::clip(name));
        let help = "a header name has letters, digits and `-`, and no colon or space";
        cx.report(Diagnostic::error(BAD_VALUE, at, message).help(help));
        None
    }
}

impl Setting for FieldName {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let name = text(node, cx, "the name of a header")?;
        Self::check(name, node.at, cx)
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        s.pattern("header name", "Name of a header field, in any case.", TOKEN_PATTERN)
    }
}

impl Key for FieldName {
    fn decode_key(key: &str, at: At, cx: &mut Decoder<'_>) -> Option<Self> {
        Self::check(key, at, cx)
    }

    fn key_schema() -> Option<Json> {
        Some(json!({ "type": "string", "pattern": TOKEN_PATTERN }))
    }
}

/// The value of a header field: no control characters but tab, no white space at its ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldValue(pub String);

impl Setting for FieldValue {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let value = text(node, cx, "the value of a header")?;
        if value.chars().any(|char| char.is_control() && char != '\t') || value.trim_matches([' ', '\t']) != value {
            let message = format!("`{}` cannot be the value of a header", node.shown());
            cx.bad_value_help(node, message, "it may hold no control characters and no white space at its ends");
            return None;
        }
        Some(Self(value.to_owned()))
    }

    fn schema(_: &mut SchemaBuilder<'_>) -> Json {
        json!({ "type": "string", "title": "header value" })
    }
}

/// A value of `WWW-Authenticate`: a scheme, and what belongs to it (RFC 9110, section 11.6.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge(pub String);

/// Bytes of a challenge at most.
const LONGEST_CHALLENGE: usize = 512;

impl Setting for Challenge {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let challenge = text(node, cx, "a challenge, such as `Bearer realm=\"api\"`")?;
        let begins = challenge.split(' ').next().is_some_and(is_token);
        let is_printable = challenge.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        if !begins || !is_printable || challenge.ends_with(' ') || challenge.len() > LONGEST_CHALLENGE {
            let message = format!("`{}` is no challenge", node.shown());
            let help = "write a scheme and its parameters, such as `Bearer realm=\"api\"`, in 512 bytes at most";
            cx.bad_value_help(node, message, help);
            return None;
        }
        Some(Self(challenge.to_owned()))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        let pattern = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+(?: [ -~]*[!-~])?$";
        s.pattern(
            "challenge",
            "Value of `WWW-Authenticate`: a scheme and its parameters, such as `Bearer realm=\"api\"`.",
            pattern,
        )
    }
}

/// A request method, upper case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Method(pub String);

impl Setting for Method {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let method = text(node, cx, "a method")?;
        if is_token(method) && !method.bytes().any(|byte| byte.is_ascii_lowercase()) {
            return Some(Self(method.to_owned()));
        }
        let upper = method.to_ascii_uppercase();
        let message = format!("`{}` is not a method", node.shown());
        if is_token(method) && !node.is_secret() {
            cx.bad_value_help(node, message, format!("methods are written in upper case: `{upper}`"));
        } else {
            cx.bad_value_help(node, message, "a method is a word in upper case, like `GET`");
        }
        None
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        s.pattern("method", "Request method, upper case.", "^[!#$%&'*+.^_`|~0-9A-Z-]+$")
    }
}

/// A final status, 200 to 599.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Status(pub u16);

impl Setting for Status {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let number = super::Bounded::<200, 599>::decode(node, cx)?;
        u16::try_from(number.get()).ok().map(Self)
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        s.or_reference(json!({ "type": "integer", "minimum": 200, "maximum": 599, "title": "status" }))
    }
}

/// An error status as a key: 400 to 599.
impl Key for Status {
    fn decode_key(key: &str, at: At, cx: &mut Decoder<'_>) -> Option<Self> {
        let status = key.parse().ok().filter(|status| (400..=599).contains(status) && key.len() == 3);
        if status.is_none() {
            let message = format!("`{}` is not an error status", crate::tree::clip(key));
            cx.report(Diagnostic::error(BAD_VALUE, at, message).help("error statuses are 400 to 599"));
        }
        status.map(Self)
    }

    fn key_schema() -> Option<Json> {
        Some(json!({ "type": "string", "pattern": "^[45][0-9]{2}$" }))
    }
}

/// A regular expression that compiles, within bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegexText(pub String);

impl RegexText {
    /// Bytes that a compiled expression may take.
    pub const SIZE_LIMIT: usize = 1 << 20;
}

impl Setting for RegexText {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let expression = text(node, cx, "a regular expression")?;
        match regex::RegexBuilder::new(expression).size_limit(Self::SIZE_LIMIT).build() {
            Ok(_) => Some(Self(expression.to_owned())),
            Err(error) => {
                let reason = if matches!(error, regex::Error::CompiledTooBig(_)) {
                    "it is too large when compiled".to_owned()
                } else {
                    last_line(&error.to_string())
                };
                cx.bad_value_help(node, format!("`{}` is not a regular expression", node.shown()), reason);
                None
            }
        }
    }

    fn schema(_: &mut SchemaBuilder<'_>) -> Json {
        json!({ "type": "string", "title": "regular expression" })
    }
}

/// The last line of the regex crate's message, which says what is wrong.
fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ").to_owned()
}
