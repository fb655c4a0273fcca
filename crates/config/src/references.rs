//! Replaces `${env:NAME}`, `${env:NAME:-default}` and `${file:PATH}` in the values of a tree, and knows which values are secrets.
//! Knows no key but those that hold credentials.
//!
//! Replacement happens on parsed text values, never on the text of the file and never in keys. `$$` becomes `$`. Every other `$`
//! stays as it is, so that templates (`${status}` in `access_log` or `errors`) and regular expressions (`^/a$`) need no
//! escaping. A default ends at the first `}`. A value that a reference was replaced in may stand for a value of any scalar type,
//! and is a secret: it is never shown.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::decode::{Decoder, expression_end};
use crate::diagnostic::{self, BAD_REFERENCE, Diagnostic, Diagnostics, LIMIT};
use crate::file::why;
use crate::load::Environment;
use crate::tree::{At, Node, Sources, Text, Value, clip};

/// Largest file that a reference may name.
const FILE_LIMIT: u64 = 1 << 20;
/// Text that references may add in all.
const TOTAL_LIMIT: usize = 100 << 20;

/// What replacing references came to.
#[derive(Debug, Default)]
pub struct Resolved {
    /// The files that references name, readable or not.
    pub files: Vec<PathBuf>,
    /// Places of the values that could not be had; each has been reported.
    pub unresolved: HashSet<At>,
    /// What references stand for, each once, as far as it can be part of a line.
    pub given: Vec<Given>,
}

/// Longest text of [`Given`], bytes.
const GIVEN_MOST: usize = 16 << 10;
/// So many texts are kept.
const GIVEN_COUNT: usize = 10_000;

/// A reference, and the text that took its place: to be hidden from whatever is shown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Given {
    /// As written, without the default: `${env:NAME}`.
    pub reference: String,
    /// What it stands for.
    pub text: String,
}

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reference)
    }
}

/// Replaces all references in a tree. `folders` gives the folder of each file, to which relative paths refer.
pub fn resolve(
    node: &mut Node,
    folders: &[PathBuf],
    environment: &dyn Environment,
    diagnostics: &mut Diagnostics,
) -> Resolved {
    let mut resolver = Resolver {
        environment,
        files: Vec::new(),
        known: HashMap::new(),
        unresolved: HashSet::new(),
        left: TOTAL_LIMIT,
        given: HashSet::new(),
    };
    if has_dollar(node) {
        resolver.node(node, &mut Decoder::new(diagnostics, "").folders(folders));
    }
    let mut given: Vec<Given> = resolver.given.into_iter().collect();
    // the longest first, since one may be part of another
    given.sort_by(|a, b| (b.text.len(), &a.reference).cmp(&(a.text.len(), &b.reference)));
    Resolved { files: resolver.files, unresolved: resolver.unresolved, given }
}

/// Whether a text in the tree has a `$`.
fn has_dollar(node: &Node) -> bool {
    match &node.value {
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
        Value::String(text) => text.text.contains('$'),
        Value::Seq(items) => items.iter().any(has_dollar),
        Value::Map(entries) => entries.iter().any(|entry| has_dollar(&entry.value)),
    }
}

struct Resolver<'a> {
    environment: &'a dyn Environment,
    files: Vec<PathBuf>,
    /// What a file held, or why nothing could be had from it.
    known: HashMap<PathBuf, Result<String, String>>,
    unresolved: HashSet<At>,
    /// Bytes that may still be added.
    left: usize,
    given: HashSet<Given>,
}

/// Why a reference has no value: a code and a message, and what would be right.
struct Refused(&'static str, String, Option<&'static str>);

/// A text whose references are replaced.
#[derive(Default)]
struct Replaced {
    text: String,
    /// The same for readers of `${…}`: a dollar that a reference stands for is written so that nothing begins with it.
    template: String,
    /// Whether there was a reference.
    found: bool,
}

impl Replaced {
    fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.template.push_str(text);
    }

    fn push_given(&mut self, value: &str) {
        self.text.push_str(value);
        self.template.push_str(&value.replace('$', "${\"$\"}"));
        self.found = true;
    }
}

impl Resolver<'_> {
    fn node(&mut self, node: &mut Node, cx: &mut Decoder<'_>) {
        let at = node.at;
        match &mut node.value {
            Value::String(text) if text.text.contains('$') => match self.replace(&text.text, cx.folder(at)) {
                Ok(replaced) => {
                    let reference = replaced.found;
                    text.template = (reference && replaced.text.contains("${")).then(|| replaced.template.into());
                    text.text = replaced.text;
                    text.quoted |= reference;
                    text.reference |= reference;
                    text.secret |= reference;
                }
                Err(Refused(code, message, help)) => {
                    let mut found = Diagnostic::error(code, at, message);
                    found.help = help.map(str::to_owned);
                    cx.report(found);
                    self.unresolved.insert(at);
                    node.value = Value::String(Text {
                        text: String::new(),
                        quoted: true,
                        reference: true,
                        secret: true,
                        template: None,
                    });
                }
            },
            Value::Seq(items) => {
                for (index, item) in items.iter_mut().enumerate().filter(|(_, item)| has_dollar(item)) {
                    match item.get("name").and_then(Node::as_str).map(str::to_owned) {
                        Some(name) if !name.is_empty() => cx.key(&name, |cx| self.node(item, cx)),
                        _ => cx.numbered(index, |cx| self.node(item, cx)),
                    }
                }
            }
            Value::Map(entries) => {
                for entry in entries.iter_mut().filter(|entry| has_dollar(&entry.value)) {
                    cx.key(&entry.key, |cx| self.node(&mut entry.value, cx));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// The text with its references replaced.
    fn replace(&mut self, text: &str, folder: &Path) -> Result<Replaced, Refused> {
        let mut replaced = Replaced::default();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('$') {
            replaced.push(before);
            if let Some(behind) = behind.strip_prefix('$') {
                replaced.push("$");
                rest = behind;
                continue;
            }
            let is_reference = |text: &str| text.contains("${env:") || text.contains("${file:");
            let expression = behind.strip_prefix('{').and_then(|inner| inner.get(..expression_end(inner)?));
            if expression.is_some_and(is_reference) {
                let message =
                    "a reference cannot stand within an expression: what it stands for would be read as part of it";
                return Err(Refused(
                    BAD_REFERENCE,
                    message.to_owned(),
                    Some("put it beside the expression, as in `${env:A}${request.id}`"),
                ));
            }
            let reference = behind.strip_prefix("{env:").map(|body| (body, true));
            let Some((body, is_variable)) =
                reference.or_else(|| behind.strip_prefix("{file:").map(|body| (body, false)))
            else {
                replaced.push("$");
                rest = behind;
                continue;
            };
            let Some((body, behind)) = body.split_once('}') else {
                return Err(Refused(BAD_REFERENCE, "a `${…}` reference has no closing `}`".to_owned(), None));
            };
            let value = if is_variable { self.variable(body)? } else { self.file(body, folder)? };
            self.note(body, is_variable, &value);
            self.left = self
                .left
                .checked_sub(value.len())
                .ok_or_else(|| Refused(LIMIT, "references add more than 100 MiB of text".to_owned(), None))?;
            replaced.push_given(&value);
            rest = behind;
        }
        replaced.push(rest);
        Ok(replaced)
    }

    /// Keeps what a reference stands for; a default is no secret, since it stands in the file.
    fn note(&mut self, body: &str, is_variable: bool, value: &str) {
        let name = body.split(":-").next().filter(|_| is_variable).unwrap_or(body);
        let is_default = name.len() < body.len() && body.get(name.len() + 2..) == Some(value);
        if !is_default && value.len() <= GIVEN_MOST && self.given.len() < GIVEN_COUNT {
            let kind = if is_variable { "env" } else { "file" };
            self.given.insert(Given { reference: format!("${{{kind}:{name}}}"), text: value.to_owned() });
        }
    }

    fn variable(&self, body: &str) -> Result<String, Refused> {
        let (name, default) = match body.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (body, None),
        };
        let fits = |char: char| char.is_ascii_alphanumeric() || char == '_';
        if name.is_empty() || name.starts_with(|char: char| char.is_ascii_digit()) || !name.chars().all(fits) {
            let message = format!("`{}` is not the name of an environment variable", clip(name));
            return Err(Refused(BAD_REFERENCE, message, Some("write `${env:NAME}` or `${env:NAME:-default}`")));
        }
        let value = self.environment.variable(name).filter(|value| !value.is_empty());
        value.or_else(|| default.map(str::to_owned)).ok_or_else(|| {
            let message = format!("the environment variable `{name}` is not set, or empty");
            Refused(BAD_REFERENCE, message, Some("set it, or give a default: `${env:NAME:-default}`"))
        })
    }

    fn file(&mut self, path: &str, folder: &Path) -> Result<String, Refused> {
        if path.is_empty() {
            return Err(Refused(BAD_REFERENCE, "`${file:}` names no file".to_owned(), None));
        }
        let full = folder.join(path);
        if !self.known.contains_key(&full) {
            self.files.push(full.clone());
            let text = read(self.environment, &full);
            self.known.insert(full.clone(), text);
        }
        match self.known.get(&full) {
            Some(Ok(text)) => Ok(text.clone()),
            Some(Err(reason)) => Err(Refused(BAD_REFERENCE, format!("the file `{}` {reason}", clip(path)), None)),
            None => Err(Refused(BAD_REFERENCE, format!("the file `{}` cannot be read", clip(path)), None)),
        }
    }
}

/// The text of a referenced file without its last line break, or what is wrong with it.
fn read(environment: &dyn Environment, path: &Path) -> Result<String, String> {
    let bytes = environment.read(path, FILE_LIMIT).map_err(|error| format!("cannot be read: {}", why(&error)))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > FILE_LIMIT) {
        return Err("is larger than 1 MiB".to_owned());
    }
    let mut text = String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned())?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() { Err("is empty".to_owned()) } else { Ok(text) }
}

/// Marks what stands under `consumers` and `users` as secret, names and roles apart, and keeps it out of snippets; what an upstream sends to
/// be told of targets or to check them: tokens and fields; what opens places where users are known; the key of the store; and the secrets
/// of policies. A misspelt key is meant as well.
pub(crate) fn mark_secrets(root: &mut Node, sources: &mut Sources) {
    let Value::Map(entries) = &mut root.value else { return };
    for entry in entries {
        if diagnostic::nearest(&entry.key, ["consumers", "users"]).is_some() {
            mark(&mut entry.value, sources);
        } else if diagnostic::nearest(&entry.key, ["tokens"]).is_some() {
            mark_keys(&mut entry.value, SERVICE_SECRETS, sources);
        } else if diagnostic::nearest(&entry.key, ["upstreams"]).is_some() {
            mark_credentials(&mut entry.value, 0, sources);
        } else if diagnostic::nearest(&entry.key, ["store"]).is_some() {
            mark_keys(&mut entry.value, &["key"], sources);
        } else if diagnostic::nearest(&entry.key, ["policies"]).is_some() {
            mark_policies(&mut entry.value, sources);
        } else if diagnostic::nearest(&entry.key, ["routes"]).is_some()
            && let Value::Seq(routes) = &mut entry.value.value
        {
            routes.iter_mut().for_each(|route| mark_policies_of(route, sources));
        }
    }
}

/// What of a consumer may be shown.
const PUBLIC_OF_CONSUMERS: &[&str] =
    &["name", "roles", "groups", "tags", "scopes", "plan", "certificates", "redirect_uris"];
/// Settings of policies that are secrets, at any depth.
const POLICY_SECRETS: &[(&str, &[&str])] = &[
    ("basic_auth", SOURCE_SECRETS),
    ("csrf", &["secret"]),
    ("introspection", &["secret", "client_secret"]),
    ("jwt", &["secret"]),
    ("oidc", &["secret", "client_secret"]),
    ("permission", &["send"]),
    ("upstream_auth", &["password", "key", "client_secret", "secret_access_key", "session_token"]),
];
/// Those whose values are mappings of names to secrets.
const MAPPINGS: &[&str] = &["send"];
/// Settings of places where users are known that are secrets.
const SOURCE_SECRETS: &[&str] = &["bind_password", "password"];
/// The same of a token service, and of the provider that it sends browsers to.
const SERVICE_SECRETS: &[&str] = &["bind_password", "password", "secret", "client_secret"];

fn mark_policies_of(route: &mut Node, sources: &mut Sources) {
    let Value::Map(entries) = &mut route.value else { return };
    for entry in entries.iter_mut().filter(|entry| diagnostic::nearest(&entry.key, ["policies"]).is_some()) {
        mark_policies(&mut entry.value, sources);
    }
}

fn mark_policies(policies: &mut Node, sources: &mut Sources) {
    let Value::Map(entries) = &mut policies.value else { return };
    for entry in entries {
        for (_, keys) in POLICY_SECRETS.iter().filter(|(name, _)| diagnostic::nearest(&entry.key, [*name]).is_some()) {
            mark_keys(&mut entry.value, keys, sources);
        }
    }
}

/// What stands under one of these keys, at any depth.
fn mark_keys(node: &mut Node, keys: &[&str], sources: &mut Sources) {
    match &mut node.value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        Value::Seq(items) => items.iter_mut().for_each(|item| mark_keys(item, keys, sources)),
        Value::Map(entries) => {
            for entry in entries {
                let is_secret = diagnostic::nearest(&entry.key, keys.iter().copied())
                    .is_some_and(|key| MAPPINGS.contains(&key) || entry.value.as_map().is_none());
                if is_secret {
                    mark(&mut entry.value, sources);
                } else {
                    mark_keys(&mut entry.value, keys, sources);
                }
            }
        }
    }
}

/// Below an upstream's name: what stands under `discover` and `health`, and there under `token` and `headers`.
fn mark_credentials(node: &mut Node, depth: usize, sources: &mut Sources) {
    const INSIDE: usize = 2;
    let Value::Map(entries) = &mut node.value else { return };
    for entry in entries {
        if depth >= INSIDE && diagnostic::nearest(&entry.key, ["token", "headers"]).is_some() {
            mark(&mut entry.value, sources);
        } else if depth != 1 || diagnostic::nearest(&entry.key, ["discover", "health"]).is_some() {
            mark_credentials(&mut entry.value, depth + 1, sources);
        }
    }
}

fn mark(node: &mut Node, sources: &mut Sources) {
    match &mut node.value {
        Value::Null | Value::Bool(_) => {}
        Value::Number(text) => {
            sources.mask(node.at);
            *text = "…".into();
        }
        Value::String(text) => {
            // A reference tells where the secret is, not what it is.
            if !text.text.starts_with("${") {
                sources.mask(node.at);
            }
            text.secret = true;
        }
        Value::Seq(items) => items.iter_mut().for_each(|item| mark(item, sources)),
        Value::Map(entries) => {
            for entry in entries.iter_mut().filter(|entry| !PUBLIC_OF_CONSUMERS.contains(&entry.key.as_str())) {
                mark(&mut entry.value, sources);
            }
        }
    }
}

/// The secret texts of a tree that are long enough to be recognised in a message.
pub(crate) fn secrets(node: &Node, found: &mut Vec<String>) {
    match &node.value {
        Value::String(text) if text.secret && text.text.len() >= 8 => found.push(text.text.clone()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        Value::Seq(items) => items.iter().for_each(|item| secrets(item, found)),
        Value::Map(entries) => entries.iter().for_each(|entry| secrets(&entry.value, found)),
    }
}
