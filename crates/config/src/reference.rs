//! The reference page of the language, made from the JSON Schema, and the list of findings.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde_json::{Map, Value as Json};

use crate::diagnostic::CODES;
use crate::language::schema;
use crate::policy::Vocabulary;

/// The reference page of every key, as Markdown.
#[must_use]
pub fn reference_markdown(vocabulary: &Vocabulary<'_>) -> String {
    let schema = schema(vocabulary);
    let empty = Map::new();
    let definitions = schema.get("$defs").and_then(Json::as_object).unwrap_or(&empty);
    let mut page = Page { out: String::new(), definitions, seen: HashMap::new(), waiting: Vec::new() };
    page.out.push_str(
        "# Every key of the configuration\n\n\
         Every key, its type, its default and its meaning. In the headings, `NAME` stands for a name you choose and `[]` for each \
         item of a list. A value may come out of the environment or a file: `${env:NAME}`, `${env:NAME:-default}`, \
         `${file:PATH}`; `$$` is a dollar. Relative paths refer to the folder of the file they are written in.\n",
    );
    page.sections(&schema);
    page.forms();
    page.policies(vocabulary);
    page.out
}

/// The page of every kind of finding, as Markdown.
#[must_use]
pub fn codes_markdown() -> String {
    let mut out =
        "# Findings\n\nEvery finding of `daemun check` has a code, `error[code]` or `warning[code]`.\n".to_owned();
    for code in CODES {
        let _ = write!(out, "\n## {}\n\n{}\n", code.name, code.explanation);
    }
    out
}

struct Page<'a> {
    out: String,
    definitions: &'a Map<String, Json>,
    /// The section each definition is described in.
    seen: HashMap<String, String>,
    /// Sections that are still to come.
    waiting: Vec<(String, &'a Json)>,
}

impl<'a> Page<'a> {
    /// The sections of the language, each followed by those below it.
    fn sections(&mut self, schema: &'a Json) {
        self.section("", schema);
        while !self.waiting.is_empty() {
            let mut later = std::mem::take(&mut self.waiting);
            let (path, schema) = later.remove(0);
            self.section(&path, schema);
            self.waiting.append(&mut later);
        }
    }

    /// The words with a form of their own.
    fn forms(&mut self) {
        self.out.push_str("\n## Forms of values\n\n| type | form |\n|---|---|\n");
        let mut forms: Vec<(&str, &str)> = Vec::new();
        for schema in self.definitions.values().filter(|schema| schema.get("pattern").is_some()) {
            let text = |key: &str| schema.get(key).and_then(Json::as_str);
            forms.extend(text("title").zip(text("description")));
        }
        forms.sort_unstable();
        for (title, doc) in forms {
            let _ = writeln!(self.out, "| {title} | {} |", doc.replace('|', "\\|"));
        }
    }

    fn section(&mut self, path: &str, schema: &'a Json) {
        let title = if path.is_empty() { "Top level".to_owned() } else { format!("`{path}`") };
        let _ = write!(self.out, "\n## {title}\n\n");
        if let Some(doc) = schema.get("description").and_then(Json::as_str) {
            let _ = write!(self.out, "{doc}\n\n");
        }
        self.table(path, schema);
    }

    fn table(&mut self, path: &str, schema: &'a Json) {
        let Some(properties) = schema.get("properties").and_then(Json::as_object) else { return };
        self.out.push_str("| key | type | default | meaning |\n|---|---|---|---|\n");
        let required: Vec<&str> =
            schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str).collect();
        for (key, property) in properties.iter().filter(|(key, _)| !key.starts_with('$')) {
            let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let kind = self.kind(&below, property);
            let default = match property.get("default") {
                _ if required.contains(&key.as_str()) => "**required**".to_owned(),
                Some(Json::Object(map)) if map.is_empty() => String::new(),
                Some(Json::Array(list)) if list.is_empty() => String::new(),
                Some(Json::String(text)) if matches!(crate::parse::plain(text), crate::tree::Value::String(_)) => {
                    format!("`{text}`")
                }
                Some(default) => format!("`{default}`"),
                None => String::new(),
            };
            let doc = property.get("description").and_then(Json::as_str).unwrap_or_default();
            let cell = |text: &str| text.replace('|', "\\|");
            let _ = writeln!(self.out, "| `{key}` | {} | {} | {} |", cell(&kind), cell(&default), cell(doc));
        }
    }

    /// The type of a property in words. What has keys of its own gets a section.
    fn kind(&mut self, path: &str, schema: &'a Json) -> String {
        if let Some(name) = schema.get("$ref").and_then(Json::as_str).and_then(|path| path.rsplit('/').next()) {
            return self.definition(path, name);
        }
        if let Some(forms) = schema.get("anyOf").and_then(Json::as_array) {
            let mut words: Vec<String> = Vec::new();
            for form in forms.iter().filter(|form| !is_reference(form)) {
                let word = self.kind(path, form);
                if !words.contains(&word) {
                    words.push(word);
                }
            }
            return words.join(" or ");
        }
        if let Some(values) = schema.get("enum").and_then(Json::as_array) {
            return values.iter().map(literal).collect::<Vec<_>>().join(", ");
        }
        if let Some(value) = schema.get("const") {
            return literal(value);
        }
        if let Some(title) = schema.get("title").and_then(Json::as_str) {
            return title.to_owned();
        }
        match schema.get("type").and_then(Json::as_str) {
            Some("object") => self.object(path, schema),
            Some("array") => match schema.get("items") {
                Some(items) => format!("list of {}", self.kind(&format!("{path}[]"), items)),
                None => "list".to_owned(),
            },
            Some("integer") => {
                let bound =
                    |key: &str| schema.get(key).and_then(Json::as_i64).filter(|bound| bound.abs() < 4_000_000_000);
                match (bound("minimum"), bound("maximum")) {
                    (Some(least), Some(most)) if most != i64::from(i32::MAX) => format!("{least} to {most}"),
                    _ => "whole number".to_owned(),
                }
            }
            Some("string") => "text".to_owned(),
            Some("boolean") => "`true`, `false`".to_owned(),
            Some(other) => other.to_owned(),
            None => "any".to_owned(),
        }
    }

    fn definition(&mut self, path: &str, name: &str) -> String {
        let Some(schema) = self.definitions.get(name) else { return name.to_owned() };
        if name == "policies" {
            return "[policies](#policies)".to_owned();
        }
        if schema.get("properties").is_none() {
            return self.kind(path, schema);
        }
        if let Some(known) = self.seen.get(name) {
            return format!("as `{known}`");
        }
        self.seen.insert(name.to_owned(), path.to_owned());
        self.waiting.push((path.to_owned(), schema));
        "mapping, see below".to_owned()
    }

    fn object(&mut self, path: &str, schema: &'a Json) -> String {
        if let Some(properties) = schema.get("properties").and_then(Json::as_object) {
            let keys: Vec<String> = properties
                .iter()
                .map(|(key, property)| {
                    let kind = self.kind(&format!("{path}.{key}"), property);
                    format!("`{key}:` {kind}")
                })
                .collect();
            return format!("mapping of {}", keys.join(", "));
        }
        match schema.get("additionalProperties") {
            Some(values @ Json::Object(_)) => {
                let kind = self.kind(&format!("{path}.NAME"), values);
                format!("mapping of names to {kind}")
            }
            _ => "mapping".to_owned(),
        }
    }

    fn policies(&mut self, vocabulary: &Vocabulary<'_>) {
        self.out.push_str(
            "\n## Policies\n\nUnder `policies`, for every route or in a route. `off` in a route removes a policy of every route.\n",
        );
        let definitions = self.definitions;
        let properties =
            definitions.get("policies").and_then(|policies| policies.get("properties")).and_then(Json::as_object);
        for policy in vocabulary.policies {
            let _ = write!(self.out, "\n### `{}`\n\n{} Earliest phase: {}.\n\n", policy.name, policy.doc, policy.phase);
            let settings = properties.and_then(|properties| properties.get(policy.name));
            let Some(forms) = settings.and_then(|settings| settings.get("anyOf")).and_then(Json::as_array) else {
                continue;
            };
            let path = format!("policies.{}", policy.name);
            for form in forms.iter().skip(1) {
                let kind = self.kind(&path, form);
                if kind != "mapping, see below" {
                    let _ = write!(self.out, "Settings: {kind}.\n\n");
                }
            }
            let mut is_first = true;
            while !self.waiting.is_empty() {
                let (below, schema) = self.waiting.remove(0);
                let doc = schema.get("description").and_then(Json::as_str).unwrap_or_default();
                if below != path {
                    let _ = write!(self.out, "\n#### `{below}`\n\n{doc}\n\n");
                } else if !is_first {
                    // another form of the same settings
                    let _ = write!(self.out, "\n#### `{below}`, also written so\n\n{doc}\n\n");
                }
                is_first = false;
                self.table(&below, schema);
            }
        }
    }
}

/// Whether a form is the reference that may stand for any scalar.
fn is_reference(schema: &Json) -> bool {
    schema.get("$ref").and_then(Json::as_str) == Some("#/$defs/reference")
}

fn literal(value: &Json) -> String {
    match value.as_str() {
        Some(text) => format!("`{text}`"),
        None => format!("`{value}`"),
    }
}
