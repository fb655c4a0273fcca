//! Schemas and descriptions as they are written: one text and those beside it that it names, read with the places of everything in them.
//! Nothing is ever read from a network, nor from outside the folder of the first text.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use daemun_config::diagnostic::{self, Diagnostic, Diagnostics};
use daemun_config::tree::{At, Node, Value as Tree};
use daemun_config::{Format, parse, read_file, why};
use daemun_pipeline::BuildContext;
use serde_json::{Map, Value};

use super::config::Source;

/// Bytes of one document.
const MAX_BYTES: u64 = 64 << 20;
/// Documents that one may consist of.
const MAX_FILES: usize = 200;
/// Findings that are told of one document.
const MAX_FINDINGS: usize = 50;

/// Documents that are named by addresses.
pub(super) type Named = Vec<(String, Source)>;

/// A text and what it refers to.
pub(super) struct Documents {
    list: Vec<Document>,
    /// Index by path or address; or why it cannot be had.
    by_path: BTreeMap<PathBuf, Result<usize, String>>,
}

struct Document {
    /// `None`: written within the configuration.
    path: Option<PathBuf>,
    /// The address that references name it by.
    address: Option<String>,
    root: Node,
}

/// A node, and the document it stands in.
#[derive(Clone, Copy)]
pub(super) struct Placed<'d> {
    pub(super) file: usize,
    pub(super) node: &'d Node,
}

/// Something wrong in a document.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    path: Option<PathBuf>,
    at: At,
    code: &'static str,
    message: String,
    help: Option<&'static str>,
}

/// What was found wrong.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn append(&mut self, other: Findings) {
        self.0.extend(other.0);
    }

    pub(super) fn push(&mut self, documents: &Documents, placed: Placed<'_>, message: impl Into<String>) {
        self.push_help(documents, placed, message, None);
    }

    pub(super) fn push_help(
        &mut self,
        documents: &Documents,
        placed: Placed<'_>,
        message: impl Into<String>,
        help: Option<&'static str>,
    ) {
        if self.0.len() < MAX_FINDINGS {
            let path = documents.list.get(placed.file).and_then(|document| document.path.clone());
            self.0.push(Finding { path, at: placed.node.at, code: diagnostic::SCHEMA, message: message.into(), help });
        }
    }

    /// Tells the operator. A place in a document of its own is told in words, since the configuration's texts do not hold it.
    pub(super) fn report(&self, ctx: &mut BuildContext<'_>) {
        for found in &self.0 {
            let (at, message) = match &found.path {
                None => (found.at, found.message.clone()),
                Some(path) if found.at.line > 0 => {
                    let (At { line, column, .. }, path) = (found.at, path.display());
                    (ctx.at, format!("`{path}`, line {line}, column {column}: {}", found.message))
                }
                Some(path) => (ctx.at, format!("`{}`: {}", path.display(), found.message)),
            };
            let at = if at.line == 0 { ctx.at } else { at };
            let told = Diagnostic::error(found.code, at, message).path(ctx.path.clone());
            ctx.diagnostics.push(match found.help {
                Some(help) => told.help(help),
                None => told,
            });
        }
    }
}

impl Documents {
    /// Reads a document and all that it names. What is named and cannot be read is a finding only where it is used.
    pub(super) fn load(source: &Source, named: &Named) -> Result<Documents, Findings> {
        let mut documents = Documents { list: Vec::new(), by_path: BTreeMap::new() };
        documents.open(source, None)?;
        for (address, source) in named {
            documents.open(source, Some(address.clone()))?;
        }
        let mut next = 0;
        while let Some(document) = documents.list.get(next) {
            let mut named = Vec::new();
            each_reference(&document.root, &mut |_, reference| {
                if let Some(Ok(path)) = documents.path_of(next, reference)
                    && !documents.by_path.contains_key(&path)
                    && !named.contains(&path)
                {
                    named.push(path);
                }
            });
            for path in named {
                documents.add(path);
            }
            next += 1;
        }
        Ok(documents)
    }

    fn open(&mut self, source: &Source, address: Option<String>) -> Result<(), Findings> {
        let (path, root) = match source {
            Source::Inline(node) => (None, node.clone()),
            Source::File(path) => (Some(path.clone()), read(path).map_err(|found| Findings(vec![found]))?),
        };
        let names = address.iter().map(PathBuf::from).chain(path.clone());
        let index = self.list.len();
        self.by_path.extend(names.map(|name| (name, Ok(index))));
        self.list.push(Document { path, address, root });
        Ok(())
    }

    fn add(&mut self, path: PathBuf) {
        let read = if self.list.len() < MAX_FILES {
            read(&path).map_err(|found| found.message)
        } else {
            Err(format!("more than {MAX_FILES} documents"))
        };
        let entry = read.map(|root| {
            self.list.push(Document { path: Some(path.clone()), address: None, root });
            self.list.len() - 1
        });
        self.by_path.insert(path, entry);
    }

    /// The files that were read.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.list.iter().filter_map(|document| document.path.as_deref())
    }

    /// The root of the first document.
    pub(super) fn root(&self) -> Option<Placed<'_>> {
        self.list.first().map(|document| Placed { file: 0, node: &document.root })
    }

    /// Every document that is named by an address.
    pub(super) fn addressed(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.list.iter().filter_map(|document| Some((document.address.as_deref()?, &document.root)))
    }

    /// Every document beside the first, with its path relative to the folder of the first.
    pub(super) fn beside(&self) -> impl Iterator<Item = (&Path, &Node)> {
        let folder = self.folder();
        self.list.iter().skip(1).filter_map(move |document| {
            let path = document.path.as_deref()?.strip_prefix(folder?).ok()?;
            Some((path, &document.root))
        })
    }

    fn folder(&self) -> Option<&Path> {
        self.list.first()?.path.as_deref().map(|path| path.parent().unwrap_or(Path::new("")))
    }

    /// The file that a reference of document `file` is to: `None` for one within the document.
    fn path_of(&self, file: usize, reference: &str) -> Option<Result<PathBuf, String>> {
        let name = reference.split('#').next().filter(|name| !name.is_empty())?;
        if self.by_path.contains_key(Path::new(name)) && name.contains("://") {
            return Some(Ok(PathBuf::from(name)));
        }
        let beside = "only documents in the folder of the first one are read";
        if name.contains(':') || name.starts_with("//") {
            return Some(Err(format!("`{name}` is not read: {beside}, and nothing over a network")));
        }
        let (Some(folder), Some(own)) = (self.folder(), self.list.get(file).and_then(|d| d.path.as_deref())) else {
            return Some(Err("a document within the configuration cannot name others".to_owned()));
        };
        let mut path = own.parent().unwrap_or(Path::new("")).to_owned();
        for component in Path::new(name).components() {
            match component {
                Component::Normal(part) => path.push(part),
                Component::CurDir => {}
                Component::ParentDir if path != folder && path.starts_with(folder) => {
                    path.pop();
                }
                Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                    return Some(Err(format!("`{name}` is not read: {beside}")));
                }
            }
        }
        Some(Ok(path))
    }

    /// References to documents that were not read, each with the reason.
    pub(super) fn unread(&self) -> Vec<(Placed<'_>, String)> {
        let mut found = Vec::new();
        for (file, document) in self.list.iter().enumerate() {
            each_reference(&document.root, &mut |node, reference| {
                let why = match self.path_of(file, reference) {
                    Some(Err(message)) => message,
                    Some(Ok(path)) => match self.by_path.get(&path) {
                        Some(Err(message)) => message.clone(),
                        Some(Ok(_)) | None => return,
                    },
                    None => return,
                };
                found.push((Placed { file, node }, format!("`$ref: {reference}`: {why}")));
            });
        }
        found
    }

    /// What a reference of document `file` is to, and its place as a pointer.
    pub(super) fn resolve(&self, file: usize, reference: &str) -> Result<(Placed<'_>, String), String> {
        let file = match self.path_of(file, reference) {
            None => file,
            Some(path) => match self.by_path.get(&path?) {
                Some(Ok(file)) => *file,
                Some(Err(message)) => return Err(message.clone()),
                None => return Err("the document it names was not read".to_owned()),
            },
        };
        let fragment = reference.split_once('#').map_or("", |(_, fragment)| fragment);
        let pointer = super::text::decode(fragment, false).map_err(|()| "it is not UTF-8".to_owned())?.into_owned();
        let root = self.list.get(file).map(|document| &document.root).ok_or("the document is not there")?;
        let node = find(root, &pointer).ok_or_else(|| format!("nothing is at `{pointer}`"))?;
        Ok((Placed { file, node }, pointer))
    }

    /// Follows `$ref` of things that are no schemas: parameters, answers and their like.
    pub(super) fn follow<'d>(&'d self, placed: Placed<'d>, findings: &mut Findings) -> Option<Placed<'d>> {
        const MAX_STEPS: usize = 16;
        let mut at = placed;
        for _ in 0..MAX_STEPS {
            let Some(reference) = at.node.get("$ref").and_then(Node::as_str) else { return Some(at) };
            match self.resolve(at.file, reference) {
                Ok((next, _)) => at = next,
                Err(message) => {
                    findings.push(self, at, format!("`$ref: {reference}`: {message}"));
                    return None;
                }
            }
        }
        findings.push(self, placed, "this reference leads in a circle");
        None
    }
}

impl<'d> Placed<'d> {
    /// The value of a key.
    pub(super) fn get(self, key: &str) -> Option<Placed<'d>> {
        self.node.get(key).map(|node| Placed { file: self.file, node })
    }

    pub(super) fn str(self, key: &str) -> Option<&'d str> {
        self.node.get(key).and_then(Node::as_str)
    }

    pub(super) fn is(self, key: &str) -> bool {
        self.node.get(key).is_some_and(|node| node.value == Tree::Bool(true))
    }

    /// Keys and values of a mapping, extensions (`x-…`) left out.
    pub(super) fn entries(self) -> impl Iterator<Item = (&'d str, Placed<'d>)> {
        self.all_entries().filter(|(key, _)| !key.starts_with("x-"))
    }

    /// Keys and values of a mapping whose keys are names.
    pub(super) fn all_entries(self) -> impl Iterator<Item = (&'d str, Placed<'d>)> {
        let entries = self.node.as_map().unwrap_or_default().iter();
        entries.map(move |entry| (entry.key.as_str(), Placed { file: self.file, node: &entry.value }))
    }

    pub(super) fn items(self) -> impl Iterator<Item = Placed<'d>> {
        self.node.as_seq().unwrap_or_default().iter().map(move |node| Placed { file: self.file, node })
    }
}

fn read(path: &Path) -> Result<Node, Finding> {
    let found = |at, code, message| Finding { path: Some(path.to_owned()), at, code, message, help: None };
    let wrong = |message: String| found(At::default(), diagnostic::FILE, message);
    let bytes = read_file(path, MAX_BYTES).map_err(|error| wrong(format!("cannot be read: {}", why(&error))))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_BYTES) {
        return Err(wrong(format!("is larger than {} MiB", MAX_BYTES >> 20)));
    }
    let text = String::from_utf8(bytes).map_err(|_| wrong("is not UTF-8 text".to_owned()))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut diagnostics = Diagnostics::new();
    let node = parse(text, Format::of(path), 0, &mut diagnostics);
    diagnostics.sort();
    match (node, diagnostics.iter().find(|found| found.severity == daemun_config::Severity::Error)) {
        (Some(node), None) => Ok(node),
        (_, Some(first)) => Err(found(first.at, diagnostic::SCHEMA, first.message.clone())),
        (None, None) => Err(wrong("holds nothing".to_owned())),
    }
}

/// Gives every `$ref` in a document, with the node that it is.
fn each_reference<'n>(node: &'n Node, found: &mut dyn FnMut(&'n Node, &'n str)) {
    match &node.value {
        Tree::Map(entries) => {
            for entry in entries {
                match entry.value.as_str() {
                    Some(reference) if entry.key == "$ref" => found(&entry.value, reference),
                    _ => each_reference(&entry.value, found),
                }
            }
        }
        Tree::Seq(items) => items.iter().for_each(|item| each_reference(item, found)),
        Tree::Null | Tree::Bool(_) | Tree::Number(_) | Tree::String(_) => {}
    }
}

/// What stands at a JSON pointer.
pub(super) fn find<'n>(root: &'n Node, pointer: &str) -> Option<&'n Node> {
    if pointer.is_empty() {
        return Some(root);
    }
    pointer.strip_prefix('/')?.split('/').try_fold(root, |node, step| {
        let step = step.replace("~1", "/").replace("~0", "~");
        match &node.value {
            Tree::Map(_) => node.get(&step),
            Tree::Seq(items) => items.get(step.parse::<usize>().ok()?),
            Tree::Null | Tree::Bool(_) | Tree::Number(_) | Tree::String(_) => None,
        }
    })
}

/// The deepest node on the way to a pointer.
pub(super) fn nearest<'n>(root: &'n Node, pointer: &str) -> &'n Node {
    let mut end = pointer.len();
    loop {
        let part = pointer.get(..end).unwrap_or_default();
        if let Some(node) = find(root, part) {
            return node;
        }
        match part.rfind('/') {
            Some(slash) => end = slash,
            None => return root,
        }
    }
}

/// As JSON.
pub(super) fn to_json(node: &Node) -> Value {
    match &node.value {
        Tree::Null => Value::Null,
        Tree::Bool(value) => Value::Bool(*value),
        Tree::Number(text) => number(text),
        Tree::String(text) => Value::String(text.text.clone()),
        Tree::Seq(items) => items.iter().map(to_json).collect(),
        Tree::Map(entries) => {
            Value::Object(entries.iter().map(|entry| (entry.key.clone(), to_json(&entry.value))).collect::<Map<_, _>>())
        }
    }
}

/// A number in the forms of YAML's core schema.
fn number(text: &str) -> Value {
    let radix = |prefix: &str, radix: u32| {
        text.strip_prefix(prefix).and_then(|digits| u64::from_str_radix(digits, radix).ok()).map(Value::from)
    };
    let plain = || serde_json::from_str::<serde_json::Number>(text).ok().map(Value::Number);
    let float = || text.parse::<f64>().ok().and_then(serde_json::Number::from_f64).map(Value::Number);
    plain()
        .or_else(|| radix("0x", 16))
        .or_else(|| radix("0o", 8))
        .or_else(float)
        .unwrap_or_else(|| Value::String(text.to_owned()))
}
