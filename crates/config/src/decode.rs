//! How settings are read from a [`Node`]: one description gives decoding, defaults, documentation and JSON Schema. Knows no
//! particular setting; the language itself and every policy describe theirs with it.
//!
//! ```
//! use daemun_config::decode::{Decoder, OneOrMany, Rate, Setting};
//! use daemun_config::diagnostic::Diagnostics;
//! use daemun_config::{parse_text, settings};
//!
//! settings! {
//!     /// How often a caller may call.
//!     #[derive(Clone, Debug, PartialEq)]
//!     pub struct LimitConfig {
//!         /// Calls per time.
//!         pub limit: Rate,
//!         /// Calls that may come at once; as many as `limit` counts when absent.
//!         pub burst: Option<u32>,
//!         /// Who is counted.
//!         pub by: By = "route",
//!         /// Paths that are not counted.
//!         pub except: OneOrMany<String> = "[]",
//!     }
//! }
//!
//! settings! {
//!     /// Who is counted.
//!     #[derive(Clone, Debug, PartialEq)]
//!     pub enum By {
//!         /// All callers of the route together.
//!         Route = "route",
//!         /// Each value of this header, written `{header: x-user}`.
//!         Header(String) = "header",
//!     }
//! }
//!
//! let mut diagnostics = Diagnostics::new();
//! let node = parse_text("{ limit: 100/s, by: { header: x-user } }", &mut diagnostics).unwrap();
//! let config = LimitConfig::decode(&node, &mut Decoder::new(&mut diagnostics, "policies.limit")).unwrap();
//! assert!(!diagnostics.has_errors());
//! assert_eq!(config.limit.count, 100);
//! assert_eq!(config.by, By::Header("x-user".into()));
//!
//! // Every mistake is found in one pass, and unknown names get the nearest known one.
//! let node = parse_text("{ limt: 100/s, burst: many }", &mut diagnostics).unwrap();
//! LimitConfig::decode(&node, &mut Decoder::new(&mut diagnostics, "policies.limit"));
//! assert_eq!(diagnostics.error_count(), 3); // `limt` is unknown, `limit` is missing, `many` is not a number
//! ```

mod claims;
mod containers;
mod expressions;
mod habits;
mod macros;
mod scalars;
mod schema;
mod web;
mod words;

pub use claims::{ClaimPath, ClaimValue};
pub(crate) use containers::Checked;
pub use containers::{Key, Mapping, Needed, NonEmpty, OneOrMany, OrOff};
pub use expressions::{ExpressionText, FieldTemplate, TemplateText, expression_end};
pub(crate) use habits::meant;
pub use scalars::{Bounded, Percent, Period, Rate, Size, TimeLimit, text};
pub use schema::{Object, SchemaBuilder};
pub use serde_json::Value as JsonValue;
pub use web::WebUrl;
pub use words::{Challenge, FieldName, FieldValue, Method, Name, RegexText, Status};

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::diagnostic::{self, Diagnostic, Diagnostics};
use crate::model::Spanned;
use crate::policy::PolicyDescription;
use crate::tree::{At, Entry, Node, Value};

/// A type that settings consist of: read from the tree, and described in the JSON Schema.
pub trait Setting: Sized {
    /// Whether a mapping must give a value for it when no default is written down.
    const REQUIRED: bool = true;

    /// Reads the value. Reports what is wrong to `cx`; `None` when there is nothing to go on with. `Some` does not mean that
    /// there were no findings: whoever uses the value asks [`Diagnostics::has_errors`] first.
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self>;

    /// What an absent key means, if anything.
    #[must_use]
    fn absent() -> Option<Self> {
        None
    }

    /// The JSON Schema of what `decode` takes.
    fn schema(s: &mut SchemaBuilder<'_>) -> serde_json::Value;
}

/// Settings that are read from the keys of a mapping; `settings!` makes them.
pub trait Settings: Setting {
    /// The keys.
    const KEYS: &'static [&'static str];

    /// Reads them. Where they are not alone in the mapping, whoever has the other keys looks after those that are not known.
    fn decode_keys(node: &Node, alone: bool, cx: &mut Decoder<'_>) -> Option<Self>;

    /// Adds them to the schema of a mapping.
    fn describe(object: &mut Object, s: &mut SchemaBuilder<'_>);
}

/// Where findings go while settings are read, and the path in the configuration's own names that they stand under.
#[derive(Debug)]
pub struct Decoder<'a> {
    diagnostics: &'a mut Diagnostics,
    path: String,
    folders: &'a [PathBuf],
    policies: &'a [PolicyDescription],
    /// Places of values that could not be had.
    unresolved: Option<&'a HashSet<At>>,
    /// Fields of a request with `_` in their names that settings read, each with its path and place.
    underscored: Vec<(String, At, String)>,
    /// Upstreams that policies send calls to, each with its path.
    upstreams: Vec<(Spanned<String>, String)>,
    /// Files that settings name and a policy reads.
    files: Vec<PathBuf>,
    /// Names that may still be compared for suggestions: keeps a large broken configuration linear.
    comparisons: usize,
}

/// A value of a key while its mapping is read: absent, failed, or there.
pub type Slot<T> = Option<Option<T>>;

impl<'a> Decoder<'a> {
    /// A decoder whose findings stand under `path`.
    #[must_use]
    pub fn new(diagnostics: &'a mut Diagnostics, path: &str) -> Self {
        Self {
            diagnostics,
            path: path.to_owned(),
            folders: &[],
            policies: &[],
            unresolved: None,
            underscored: Vec::new(),
            upstreams: Vec::new(),
            files: Vec::new(),
            comparisons: 300_000,
        }
    }

    /// Gives each file's folder, to which relative paths in it refer.
    #[must_use]
    pub fn folders(mut self, folders: &'a [PathBuf]) -> Self {
        self.folders = folders;
        self
    }

    /// Gives the places of values that could not be had.
    pub(crate) fn unresolved(mut self, unresolved: &'a HashSet<At>) -> Self {
        self.unresolved = Some(unresolved);
        self
    }

    /// Whether nothing was found wrong since there were `before` errors, and every value of `node` could be had.
    pub(crate) fn is_sound_since(&self, before: usize, node: &Node) -> bool {
        let unresolved = self.unresolved.filter(|places| !places.is_empty());
        self.error_count() == before && !unresolved.is_some_and(|places| stands_in(places, node))
    }

    /// Gives the policies there are.
    #[must_use]
    pub fn policies(mut self, policies: &'a [PolicyDescription]) -> Self {
        self.policies = policies;
        self
    }

    /// The policies there are.
    #[must_use]
    pub fn known_policies(&self) -> &'a [PolicyDescription] {
        self.policies
    }

    /// Where in the configuration the decoder stands, in the configuration's own names.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The folder that relative paths written at `at` refer to.
    #[must_use]
    pub fn folder(&self, at: At) -> &'a Path {
        self.folders.get(usize::from(at.file)).map_or(Path::new(""), PathBuf::as_path)
    }

    /// Reports a finding; the path is filled in when it has none.
    pub fn report(&mut self, mut diagnostic: Diagnostic) {
        if diagnostic.path.is_empty() {
            diagnostic.path.clone_from(&self.path);
        }
        self.diagnostics.push(diagnostic);
    }

    /// How many errors were reported so far, by anyone.
    #[must_use]
    pub fn error_count(&self) -> usize {
        self.diagnostics.error_count()
    }

    /// Runs `f` one key deeper.
    pub fn key<R>(&mut self, key: &str, f: impl FnOnce(&mut Self) -> R) -> R {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        if key.len() <= 64 && !key.contains(crate::shown::is_active) {
            self.path.push_str(key);
        } else {
            self.path.push_str(&crate::tree::clip(key));
        }
        let result = f(self);
        self.path.truncate(length);
        result
    }

    /// Runs `f` in an item of a list: named by its `name` where it has one, by its number otherwise.
    pub fn item<R>(&mut self, index: usize, item: &Node, f: impl FnOnce(&mut Self) -> R) -> R {
        match item.get("name").filter(|name| !name.is_secret()).and_then(Node::as_str) {
            Some(name) if !name.is_empty() => self.key(name, f),
            _ => self.numbered(index, f),
        }
    }

    /// Runs `f` in an item of a list, named by its number.
    pub fn numbered<R>(&mut self, index: usize, f: impl FnOnce(&mut Self) -> R) -> R {
        let length = self.path.len();
        let _ = write!(self.path, "[{index}]");
        let result = f(self);
        self.path.truncate(length);
        result
    }

    /// Notes that settings read a field of requests, named at `node`. One with `_` in its name is warned of when the configuration
    /// as a whole drops such fields.
    pub fn reads_field(&mut self, node: &Node, name: &str) {
        if name.contains('_') {
            self.underscored.push((self.path.clone(), node.at, name.to_owned()));
        }
    }

    /// Notes an upstream that calls may be sent to: it must be there, and counts as used.
    pub fn names_upstream(&mut self, name: &Spanned<String>) {
        self.upstreams.push((name.clone(), self.path.clone()));
    }

    /// What [`Decoder::names_upstream`] noted so far.
    pub(crate) fn take_upstreams(&mut self) -> Vec<(Spanned<String>, String)> {
        std::mem::take(&mut self.upstreams)
    }

    /// Notes a file that is read beside the configuration: a change of it is a change of the configuration.
    pub fn reads_file(&mut self, path: &Path) {
        self.files.push(path.to_owned());
    }

    /// What [`Decoder::reads_file`] noted so far.
    pub(crate) fn take_files(&mut self) -> Vec<PathBuf> {
        std::mem::take(&mut self.files)
    }

    /// What [`Decoder::reads_field`] noted so far, each with its path and place.
    pub(crate) fn take_underscored(&mut self) -> Vec<(String, At, String)> {
        std::mem::take(&mut self.underscored)
    }

    /// Reports that `node` is of another type than `expected` (`a text`, `a list of hosts`).
    pub fn wrong_type(&mut self, node: &Node, expected: &str) {
        let message = format!("expected {expected}, found {}", node.found());
        self.report(Diagnostic::error(diagnostic::WRONG_TYPE, node.at, message));
    }

    /// Reports that `node` has the right type but no meaning here.
    pub fn bad_value(&mut self, node: &Node, message: impl Into<String>) {
        self.report(Diagnostic::error(diagnostic::BAD_VALUE, node.at, message));
    }

    /// Reports that `node` has the right type but no meaning here, and what would be right.
    pub fn bad_value_help(&mut self, node: &Node, message: impl Into<String>, help: impl Into<String>) {
        self.report(Diagnostic::error(diagnostic::BAD_VALUE, node.at, message).help(help));
    }

    /// The entries of a mapping of names; anything else is reported.
    pub fn map<'n>(&mut self, node: &'n Node) -> Option<&'n [Entry]> {
        self.map_of(node, &[])
    }

    /// The entries of a mapping that has these keys, or any when there are none; anything else is reported.
    pub fn map_of<'n>(&mut self, node: &'n Node, keys: &[&str]) -> Option<&'n [Entry]> {
        let entries = node.as_map();
        if entries.is_none() {
            let message = format!("expected a mapping, found {}", node.found());
            let form = match &node.value {
                Value::Seq(_) => "write `key: value` lines without `-` before them",
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                    "write `key: value` lines below it, or `{ key: value }`"
                }
                Value::Map(_) => "",
            };
            let help = if (1..=12).contains(&keys.len()) {
                format!("{form}; the keys here are {}", list(keys))
            } else {
                form.to_owned()
            };
            self.report(Diagnostic::error(diagnostic::WRONG_TYPE, node.at, message).help(help));
        }
        entries
    }

    /// The name among `names` that was probably meant by `typed`.
    pub fn suggest<'n>(&mut self, typed: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
        let mut left = self.comparisons;
        let found = diagnostic::nearest(
            typed,
            names.into_iter().take_while(|_| {
                left = left.saturating_sub(1);
                left > 0
            }),
        );
        self.comparisons = left;
        found
    }

    /// Reports a key that means nothing here, with the nearest one that does.
    pub fn unknown_key(&mut self, entry: &Entry, known: &[&str], not_available: &[&str]) {
        let key = crate::tree::clip(&entry.key);
        if not_available.contains(&entry.key.as_str()) {
            self.key(&entry.key, |cx| {
                cx.report(Diagnostic::error(
                    diagnostic::NOT_AVAILABLE,
                    entry.key_at,
                    format!("`{key}` is not available in this version"),
                ));
            });
            return;
        }
        let is_policy = known.contains(&"policies") && self.policies.iter().any(|policy| policy.name == entry.key);
        let meant = match meant(&entry.key, known) {
            _ if is_policy => Some(format!("write `policies: {{ {key}: … }}`")),
            meant => meant.map(|meant| format!("write `{meant}`")),
        };
        let near = if meant.is_some() { None } else { self.suggest(&entry.key, known.iter().copied()) };
        let mut found =
            Diagnostic::error(diagnostic::UNKNOWN_KEY, entry.key_at, format!("there is no key `{key}` here"));
        found = match near {
            Some(_) => found.did_you_mean(near),
            None if meant.is_some() => found.help(meant.unwrap_or_default()),
            None if known.len() <= 40 => found.help(format!("the keys here are {}", list(known))),
            None => found,
        };
        self.key(&entry.key, |cx| cx.report(found));
    }

    /// Reports all but the first of `keys` that are given: they exclude each other.
    pub fn exclusive(&mut self, entries: &[Entry], keys: &[&str]) {
        let mut given = entries.iter().filter(|entry| keys.contains(&entry.key.as_str()));
        let Some(first) = given.next() else { return };
        for other in given {
            let message = format!("`{}` and `{}` exclude each other", first.key, other.key);
            let found = Diagnostic::error(diagnostic::CONFLICTING_KEYS, other.key_at, message);
            self.key(&other.key, |cx| cx.report(found.related(first.key_at, format!("`{}` is given here", first.key))));
        }
    }

    /// Reports that none of `keys` is given, where one is needed.
    pub fn needs_one(&mut self, node: &Node, entries: &[Entry], keys: &[&str]) {
        if !entries.iter().any(|entry| keys.contains(&entry.key.as_str())) {
            let message = format!("one of {} is missing", list(keys));
            self.report(Diagnostic::error(diagnostic::MISSING_KEY, node.at, message));
        }
    }

    /// Reads the value of a key for [`settings!`](crate::settings).
    pub fn field<T: Setting>(&mut self, entry: &Entry) -> Slot<T> {
        Some(self.key(&entry.key, |cx| T::decode(&entry.value, cx)))
    }

    /// What a key comes to for [`settings!`](crate::settings): its value, its default, or a finding that it is missing.
    pub fn settle<T: Setting>(&mut self, slot: Slot<T>, node: &Node, key: &str, default: Option<&str>) -> Option<T> {
        let failed = match slot {
            Some(Some(value)) => return Some(value),
            Some(None) => true,
            None => false,
        };
        if let Some(default) = default {
            let literal = crate::parse::literal(default);
            return T::decode(&literal, self);
        }
        if T::REQUIRED && !failed {
            let message = format!("`{key}` is missing");
            self.report(Diagnostic::error(diagnostic::MISSING_KEY, node.at, message));
        }
        T::absent()
    }

    /// Reports a text or mapping that is none of the choices of an enum of [`settings!`](crate::settings).
    pub fn unknown_choice(&mut self, node: &Node, words: &[&str], keyed: &[&str], not_available: &[&str]) {
        let single = node.as_map().and_then(|entries| if let [entry] = entries { Some(entry) } else { None });
        let typed = node.as_str().or(single.map(|entry| entry.key.as_str()));
        if let Some(name) = not_available.iter().find(|name| Some(**name) == typed) {
            let message = format!("`{name}` is not available in this version");
            self.report(Diagnostic::error(diagnostic::NOT_AVAILABLE, node.at, message));
            return;
        }
        if let Some(entry) = single.filter(|_| !keyed.is_empty()) {
            self.unknown_key(entry, keyed, &[]);
            return;
        }
        let forms: Vec<String> = words
            .iter()
            .map(|word| format!("`{word}`"))
            .chain(keyed.iter().map(|word| format!("`{{{word}: …}}`")))
            .collect();
        let expected = format!("one of {}", forms.join(", "));
        match node.as_str() {
            Some(text) => {
                let near = self.suggest(text, words.iter().copied());
                let message = format!("expected {expected}, found {}", node.found());
                self.report(Diagnostic::error(diagnostic::BAD_VALUE, node.at, message).did_you_mean(near));
            }
            None => {
                let shown = node.shown();
                let message = format!("expected {expected}, found {}", node.found());
                let found = Diagnostic::error(diagnostic::WRONG_TYPE, node.at, message);
                let quoted = words.contains(&shown.as_str());
                self.report(if quoted { found.help(format!("quote it: `\"{shown}\"`")) } else { found });
            }
        }
    }
}

/// Whether one of the places is that of a value in the tree.
fn stands_in(places: &HashSet<At>, node: &Node) -> bool {
    match &node.value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => places.contains(&node.at),
        Value::Seq(items) => items.iter().any(|item| stands_in(places, item)),
        Value::Map(entries) => entries.iter().any(|entry| stands_in(places, &entry.value)),
    }
}

/// `a`, `b` and `c`.
fn list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => "none".to_owned(),
    }
}
