//! The positioned tree every configuration text is read into, and the texts themselves. Knows no key and no type of the language.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::shown::Shown;

/// Where a value stood: a file and a range of it. Lines and columns count from 1, columns in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At {
    /// Index of the file in [`Sources`].
    pub file: u16,
    /// Line of the first character; 0 when the place is not in any text (a default).
    pub line: u32,
    /// Column of the first character.
    pub column: u32,
    /// Line of the last character.
    pub end_line: u32,
    /// Column behind the last character, on `end_line`.
    pub end_column: u32,
}

impl At {
    /// The place of a byte of the text that stands here; all of the text where that cannot be told, since it was not written as it is.
    #[must_use]
    pub fn within(self, text: &str, offset: usize) -> Self {
        let count = |text: &str| u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
        let width = self.end_column.saturating_sub(self.column);
        let quote = match width.checked_sub(count(text)) {
            // a blank behind a value may belong to its place
            Some(0 | 1) => 0,
            Some(2 | 3) => 1,
            Some(_) | None => return self,
        };
        if self.line != self.end_line {
            return self;
        }
        let column = self.column + quote + text.get(..offset).map_or(0, count);
        Self { column, end_column: self.end_column.saturating_sub(quote).max(column), ..self }
    }

    /// The start of a file: for findings about a file as a whole.
    #[must_use]
    pub fn file(file: u16) -> Self {
        Self { file, line: 1, column: 1, end_line: 1, end_column: 1 }
    }
}

/// A value of the tree and where it stood.
#[derive(Clone, PartialEq, Eq)]
pub struct Node {
    /// Where it stood.
    pub at: At,
    /// The value.
    pub value: Value,
}

/// What a node holds.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// Nothing: YAML `null`, `~` or an empty value.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as it was written.
    Number(Box<str>),
    /// A text.
    String(Text),
    /// A list.
    Seq(Vec<Node>),
    /// A mapping, in written order; keys are unique.
    Map(Vec<Entry>),
}

/// A text and how it came to be.
#[derive(Clone, PartialEq, Eq)]
pub struct Text {
    /// The text itself.
    pub text: String,
    /// Whether it was quoted, so that it is certainly meant as text.
    pub quoted: bool,
    /// Whether a `${…}` reference was replaced in it: then it may stand for a value of any scalar type.
    pub reference: bool,
    /// Whether it must not be shown: it came out of a reference or is a credential.
    pub secret: bool,
    /// What readers of `${…}` read in its place, where a reference stands for a text in which they could see one.
    pub template: Option<Box<str>>,
}

/// One key of a mapping and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stood.
    pub key_at: At,
    /// The value.
    pub value: Node,
}

impl Node {
    /// A quoted text that stands in no file.
    #[must_use]
    pub fn text(text: &str) -> Self {
        let text = Text { text: text.to_owned(), quoted: true, reference: false, secret: false, template: None };
        Self { at: At::default(), value: Value::String(text) }
    }

    /// The text, if this is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Value::String(text) = &self.value { Some(&text.text) } else { None }
    }

    /// The text to be read for `${…}`, if this is one: what references stand for is not looked through.
    #[must_use]
    pub fn as_template(&self) -> Option<&str> {
        let Value::String(text) = &self.value else { return None };
        Some(text.template.as_deref().unwrap_or(&text.text))
    }

    /// The entries, if this is a mapping.
    #[must_use]
    pub fn as_map(&self) -> Option<&[Entry]> {
        if let Value::Map(entries) = &self.value { Some(entries) } else { None }
    }

    /// The items, if this is a list.
    #[must_use]
    pub fn as_seq(&self) -> Option<&[Self]> {
        if let Value::Seq(items) = &self.value { Some(items) } else { None }
    }

    /// The value of `key`, if this is a mapping that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The entry of `key`, if this is a mapping that has it.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.as_map()?.iter().find(|entry| entry.key == key)
    }

    /// Whether this is `off` or `false`, which switch a policy or a log off.
    #[must_use]
    pub fn is_off(&self) -> bool {
        match &self.value {
            Value::Bool(on) => !on,
            Value::String(text) => text.text == "off",
            Value::Null | Value::Number(_) | Value::Seq(_) | Value::Map(_) => false,
        }
    }

    /// The values as JSON, secrets shown: for defaults and schemas, not for output.
    #[must_use]
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Number(text) => serde_json::from_str(text).unwrap_or_else(|_| text.as_ref().into()),
            Value::String(text) => text.text.as_str().into(),
            Value::Seq(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(entries) => entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect(),
        }
    }

    /// Whether both hold the same values, wherever they stood and however they were quoted.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        match (&self.value, &other.value) {
            (Value::String(a), Value::String(b)) => a.text == b.text,
            (Value::Seq(a), Value::Seq(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b)),
            (Value::Map(a), Value::Map(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.key == b.key && a.value.same(&b.value))
            }
            (a, b) => a == b,
        }
    }

    /// Whether this is a text that must not be shown.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        matches!(&self.value, Value::String(text) if text.secret)
    }

    /// What this is, in the words of a message: `a list`, `the number 5`, `the text `x``. Secrets are not shown.
    #[must_use]
    pub fn found(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(value) => format!("the boolean `{value}`"),
            Value::Number(text) => format!("the number `{}`", clip(text)),
            Value::String(text) => format!("the text `{}`", text.shown()),
            Value::Seq(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
        }
    }

    /// The scalar as typed, for a message in backticks; `…` for a secret.
    #[must_use]
    pub fn shown(&self) -> String {
        match &self.value {
            Value::Null => "null".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Number(text) => clip(text),
            Value::String(text) => text.shown(),
            Value::Seq(_) => "[…]".to_owned(),
            Value::Map(_) => "{…}".to_owned(),
        }
    }
}

impl Text {
    /// The text for a message: `…` for a secret, cut where it is long, escaped where a terminal would act on it.
    #[must_use]
    pub fn shown(&self) -> String {
        if self.secret { "…".to_owned() } else { clip(&self.text) }
    }
}

/// At most 80 characters of `text`, those escaped that a terminal acts on.
pub(crate) fn clip(text: &str) -> String {
    let (cut, more) = match text.char_indices().nth(80) {
        Some((end, _)) => (text.get(..end).unwrap_or_default(), "…"),
        None => (text, ""),
    };
    format!("{}{more}", Shown(cut))
}

/// Secrets stay hidden: a text that must not be shown prints as `…`.
impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

/// Secrets stay hidden.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => value.fmt(f),
            Self::Number(text) => f.write_str(text),
            Self::String(text) => text.fmt(f),
            Self::Seq(items) => f.debug_list().entries(items).finish(),
            Self::Map(entries) => {
                f.debug_map().entries(entries.iter().map(|entry| (&entry.key, &entry.value))).finish()
            }
        }
    }
}

/// Secrets stay hidden.
impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.secret { f.write_str("…") } else { self.text.fmt(f) }
    }
}

/// One file's text.
struct Source {
    path: PathBuf,
    text: String,
}

/// The texts a configuration was read from, for the snippets of findings.
#[derive(Default)]
pub struct Sources {
    files: Vec<Source>,
    /// Ranges that no snippet shows.
    masked: Vec<At>,
    /// Whether a text could not be read into a tree, so that its secrets are not known by place.
    unread: bool,
}

impl Sources {
    /// No texts.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a text and gives its index; `None` after 65,535 files.
    pub fn add(&mut self, path: &Path, text: String) -> Option<u16> {
        let index = u16::try_from(self.files.len()).ok()?;
        self.files.push(Source { path: path.to_owned(), text });
        Some(index)
    }

    /// Path of a file, as it was opened.
    #[must_use]
    pub fn path(&self, file: u16) -> Option<&Path> {
        self.files.get(usize::from(file)).map(|source| source.path.as_path())
    }

    /// Text of a file.
    #[must_use]
    pub fn text(&self, file: u16) -> Option<&str> {
        self.files.get(usize::from(file)).map(|source| source.text.as_str())
    }

    /// Keeps a range out of every snippet.
    pub fn mask(&mut self, at: At) {
        self.masked.push(at);
    }

    /// Says that a text did not become a tree: from now on snippets hide whatever looks like a credential.
    pub fn mask_unread(&mut self) {
        self.unread = true;
    }

    pub(crate) fn masked(&self) -> &[At] {
        &self.masked
    }

    pub(crate) fn is_unread(&self) -> bool {
        self.unread
    }
}

/// Prints the paths only: the texts may hold secrets.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.files.iter().map(|source| &source.path)).finish()
    }
}
