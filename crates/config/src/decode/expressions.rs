//! Texts that are or hold expressions, and where those end. Knows nothing of what they say.

use serde_json::Value as Json;

use super::{Decoder, FieldValue, SchemaBuilder, Setting};
use crate::model::Spanned;
use crate::tree::Node;

/// An expression in CEL that stands alone. It holds no reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpressionText(pub Spanned<String>);

impl Setting for ExpressionText {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        if node.is_secret() {
            let message = "an expression holds no `${env:…}` and no `${file:…}`: it is shown as it is, and what they stand for would be read as part of it";
            let help = "what is secret can be compared with in `headers`, `query` and `cookies`";
            cx.bad_value_help(node, message, help);
        }
        Spanned::decode(node, cx).map(Self)
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        String::schema(s)
    }
}

/// A text with expressions in `${…}`. What references stand for is never read as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateText(pub String);

impl Setting for TemplateText {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let text = String::decode(node, cx)?;
        Some(Self(node.as_template().map_or(text, str::to_owned)))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        String::schema(s)
    }
}

/// The value of a header field with expressions in `${…}`, otherwise as [`TemplateText`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTemplate(pub String);

impl Setting for FieldTemplate {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let FieldValue(text) = FieldValue::decode(node, cx)?;
        Some(Self(node.as_template().map_or(text, str::to_owned)))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        FieldValue::schema(s)
    }
}

/// Bytes up to the `}` that ends an expression, of which the text begins behind the `${`; braces and quotes within it are passed over.
/// `None` when none ends it.
#[must_use]
pub fn expression_end(text: &str) -> Option<usize> {
    let (mut depth, mut quote, mut escaped) = (0_usize, None, false);
    for (at, char) in text.char_indices() {
        match (quote, char) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), _) if open == char => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(char),
            (None, '{') => depth += 1,
            (None, '}') if depth == 0 => return Some(at),
            (None, '}') => depth -= 1,
            (None, _) => {}
        }
    }
    None
}
