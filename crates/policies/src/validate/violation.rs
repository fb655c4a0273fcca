//! What is wrong with a message, as its sender is told. No violation holds a value of the message: only names of keys, places, and what the
//! schema asks for.

use std::fmt::Write as _;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{JsonType, ValidationError};
use serde_json::{Value, json};

/// Violations that are told of one message.
pub(super) const MAX_VIOLATIONS: usize = 50;
/// Characters of a name or value of a schema within a message.
const MAX_SHOWN: usize = 80;

/// Which part of a message a violation is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Path,
    Query,
    Header,
    Cookie,
    Body,
    Status,
}

impl Part {
    pub(super) fn name(self) -> &'static str {
        match self {
            Part::Path => "path",
            Part::Query => "query",
            Part::Header => "header",
            Part::Cookie => "cookie",
            Part::Body => "body",
            Part::Status => "status",
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) part: Part,
    /// Name of the parameter, a JSON pointer into the body, or both: `filter/since`.
    pub(super) at: String,
    pub(super) message: String,
}

/// What was found, up to [`MAX_VIOLATIONS`].
#[derive(Debug, Default)]
pub(super) struct Violations {
    list: Vec<Violation>,
    /// Whether there are more.
    more: bool,
}

impl Violations {
    pub(super) fn push(&mut self, part: Part, at: impl Into<String>, message: impl Into<String>) {
        if self.is_full() {
            self.more = true;
            return;
        }
        let found = Violation { part, at: clip(&at.into(), 256), message: message.into() };
        if !self.list.contains(&found) {
            self.list.push(found);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.list.len() >= MAX_VIOLATIONS
    }

    pub(super) fn into_list(self) -> Vec<Violation> {
        self.list
    }

    /// Adds what a schema says of a value that stands at `at`; `skip` is the length of what its pointers begin with and nobody asked for.
    pub(super) fn add_schema(&mut self, part: Part, at: &str, skip: usize, error: &ValidationError<'_>) {
        let path = error.instance_path().as_str();
        let pointer = path.get(skip..).unwrap_or_default();
        let mut tell = |below: &str, message| self.push(part, format!("{at}{pointer}{below}"), message);
        explain(error.kind(), path.len(), &mut tell);
    }

    /// For the problem document.
    pub(super) fn to_json(&self) -> Value {
        self.list
            .iter()
            .map(|found| json!({ "in": found.part.name(), "at": found.at, "message": found.message }))
            .collect()
    }

    /// `1 violation`, `3 violations`, `more than 50 violations`.
    pub(super) fn count(&self) -> String {
        match (self.list.len(), self.more) {
            (1, false) => "1 violation".to_owned(),
            (n, false) => format!("{n} violations"),
            (n, true) => format!("more than {n} violations"),
        }
    }

    /// For the log: the first few on one line.
    pub(super) fn line(&self) -> String {
        const SHOWN: usize = 5;
        let mut line = self.count();
        for (n, found) in self.list.iter().take(SHOWN).enumerate() {
            let separator = if n == 0 { ": " } else { "; " };
            let space = if found.at.is_empty() { "" } else { " " };
            let _ = write!(line, "{separator}{}{space}{} {}", found.part.name(), found.at, found.message);
        }
        line
    }
}

/// A JSON pointer (RFC 6901) that grows and shrinks.
#[derive(Debug, Default)]
pub(super) struct Pointer(String);

impl Pointer {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Goes one key deeper; returns what [`Pointer::truncate`] takes to come back.
    pub(super) fn push(&mut self, key: &str) -> usize {
        let length = self.0.len();
        self.0.push('/');
        escape(key, &mut self.0);
        length
    }

    pub(super) fn push_index(&mut self, index: usize) -> usize {
        let length = self.0.len();
        let _ = write!(self.0, "/{index}");
        length
    }

    pub(super) fn truncate(&mut self, length: usize) {
        self.0.truncate(length);
    }
}

/// Appends a key as it stands in a pointer.
pub(super) fn escape(key: &str, out: &mut String) {
    for c in key.chars() {
        match c {
            '~' => out.push_str("~0"),
            '/' => out.push_str("~1"),
            c => out.push(c),
        }
    }
}

/// Gives each message with what its place adds to the pointer, which is `own` long. Of alternatives, those of the one that was probably meant
/// are told.
#[allow(clippy::wildcard_enum_match_arm, reason = "the other kinds of the library have no parts")]
fn explain(kind: &ValidationErrorKind, own: usize, tell: &mut dyn FnMut(&str, String)) {
    match kind {
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            alternatives(context, own, tell);
        }
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            for name in unexpected {
                tell(&below(name), "this key is not known here".to_owned());
            }
        }
        ValidationErrorKind::Required { property } => {
            tell(&below(property.as_str().unwrap_or_default()), "is missing".to_owned());
        }
        ValidationErrorKind::PropertyNames { error } => {
            let own = error.instance_path().as_str().len();
            explain(error.kind(), own, &mut |_, message| tell("", format!("a key here {message}")));
        }
        other => tell("", plain(other)),
    }
}

fn below(name: &str) -> String {
    let mut pointer = String::from("/");
    escape(&clip(name, MAX_SHOWN), &mut pointer);
    pointer
}

/// What the alternative asks for that fits best: the one with the right type and the fewest things wrong.
fn alternatives(context: &[Vec<ValidationError<'static>>], own: usize, tell: &mut dyn FnMut(&str, String)) {
    let at_root = |error: &ValidationError<'_>| error.instance_path().as_str().len() == own;
    let of_type = |error: &ValidationError<'_>| {
        use ValidationErrorKind as Kind;
        at_root(error) && matches!(error.kind(), Kind::Type { .. } | Kind::Constant { .. } | Kind::Enum { .. })
    };
    let fitting: Vec<&Vec<_>> = context.iter().filter(|errors| !errors.iter().any(of_type)).collect();
    if fitting.is_empty() {
        let types: Vec<String> =
            context.iter().flatten().filter(|error| of_type(error)).map(|e| plain(e.kind())).collect();
        return tell("", one_of(types));
    }
    let Some(best) = fitting.iter().min_by_key(|errors| errors.len()) else { return };
    if fitting.len() > 1 {
        tell("", format!("fits none of {} alternatives; the nearest lacks what follows", context.len()));
    }
    for error in best.iter().take(MAX_VIOLATIONS) {
        let pointer = error.instance_path().as_str();
        let relative = pointer.get(own.min(pointer.len())..).unwrap_or_default();
        explain(error.kind(), pointer.len(), &mut |below, message| tell(&format!("{relative}{below}"), message));
    }
}

/// `must be a string` and `must be null` as one sentence.
fn one_of(mut messages: Vec<String>) -> String {
    messages.dedup();
    let alternatives: Vec<&str> =
        messages.iter().map(|message| message.strip_prefix("must be ").unwrap_or(message)).collect();
    clip(&format!("must be {}", alternatives.join(" or ")), 400)
}

/// What a keyword asks for.
fn plain(kind: &ValidationErrorKind) -> String {
    use ValidationErrorKind as Kind;
    match kind {
        Kind::Type { kind: TypeKind::Single(one) } => format!("must be {}", type_name(*one)),
        Kind::Type { kind: TypeKind::Multiple(set) } => {
            let names: Vec<&str> = set.iter().map(type_name).collect();
            format!("must be {}", names.join(" or "))
        }
        Kind::Enum { options } => format!("must be one of {}", listed(options)),
        Kind::Constant { expected_value } => format!("must be {}", shown(expected_value)),
        Kind::Minimum { limit } => format!("must be {} or more", number(limit)),
        Kind::Maximum { limit } => format!("must be {} or less", number(limit)),
        Kind::ExclusiveMinimum { limit } => format!("must be more than {}", number(limit)),
        Kind::ExclusiveMaximum { limit } => format!("must be less than {}", number(limit)),
        Kind::MultipleOf { multiple_of } => format!("must be a multiple of {multiple_of}"),
        Kind::MinLength { limit } => format!("must have at least {}", counted(*limit, "character")),
        Kind::MaxLength { limit } => format!("must have at most {}", counted(*limit, "character")),
        Kind::MinItems { limit } => format!("must have at least {}", counted(*limit, "item")),
        Kind::MaxItems { limit } => format!("must have at most {}", counted(*limit, "item")),
        Kind::AdditionalItems { limit } => format!("must have at most {}", counted(*limit as u64, "item")),
        Kind::UnevaluatedItems { .. } => "has more items than are described".to_owned(),
        Kind::MinProperties { limit } => format!("must have at least {}", counted(*limit, "key")),
        Kind::MaxProperties { limit } => format!("must have at most {}", counted(*limit, "key")),
        Kind::UniqueItems => "must not hold the same item twice".to_owned(),
        Kind::Contains => "must hold an item of another kind, or another number of them".to_owned(),
        Kind::Pattern { pattern } => format!("must match the pattern `{}`", clip(pattern, 200)),
        Kind::Format { format } => format!("must be of the format `{}`", clip(format, MAX_SHOWN)),
        Kind::ContentEncoding { content_encoding } => {
            format!("must be encoded as `{}`", clip(content_encoding, MAX_SHOWN))
        }
        Kind::ContentMediaType { content_media_type } => {
            format!("must hold `{}`", clip(content_media_type, MAX_SHOWN))
        }
        Kind::FalseSchema => "must not be here".to_owned(),
        Kind::Not { schema } if schema.as_object().is_some_and(serde_json::Map::is_empty) => {
            "must not be here".to_owned()
        }
        Kind::Not { .. } => "must not be what it is".to_owned(),
        Kind::OneOfMultipleValid { .. } => "fits more than one alternative, and must fit one only".to_owned(),
        Kind::Custom { message, .. } => clip(message, 200),
        Kind::AnyOf { .. } | Kind::OneOfNotValid { .. } => "fits none of the alternatives".to_owned(),
        Kind::AdditionalProperties { .. } | Kind::UnevaluatedProperties { .. } => "has unknown keys".to_owned(),
        Kind::Required { .. } => "lacks a key".to_owned(),
        Kind::PropertyNames { .. } => "has a key of a name that is not allowed".to_owned(),
        Kind::BacktrackLimitExceeded { .. }
        | Kind::RegexEngineFailure { .. }
        | Kind::FromUtf8 { .. }
        | Kind::Referencing(_) => "cannot be checked".to_owned(),
    }
}

fn type_name(one: JsonType) -> &'static str {
    match one {
        JsonType::Null => "null",
        JsonType::Boolean => "a boolean",
        JsonType::Integer => "an integer",
        JsonType::Number => "a number",
        JsonType::String => "a string",
        JsonType::Array => "an array",
        JsonType::Object => "an object",
    }
}

fn counted(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// The first few values of an `enum`.
fn listed(options: &Value) -> String {
    const SHOWN: usize = 12;
    let options = options.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut text: Vec<String> = options.iter().take(SHOWN).map(shown).collect();
    if options.len() > SHOWN {
        text.push("…".to_owned());
    }
    text.join(", ")
}

/// A bound of the schema.
fn number(limit: &Value) -> String {
    clip(&limit.to_string(), MAX_SHOWN)
}

/// A value of the schema.
fn shown(value: &Value) -> String {
    format!("`{}`", clip(&value.to_string(), MAX_SHOWN))
}

/// At most `max` characters, without those that a log or a terminal would act on.
fn clip(text: &str, max: usize) -> String {
    let mut out: String = text.chars().take(max).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(max).is_some() {
        out.push('…');
    }
    out
}
