//! Compiled JSON Schemas. The library does the judging; here is what it may cost: patterns are matched in linear time only, nothing is
//! fetched, and details are looked for at a bounded cost only. Knows no request.

use std::collections::HashMap;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, PatternOptions, Retrieve, Uri, ValidationError, ValidationOptions, Validator};
use serde_json::{Map, Value};

use super::document::{self, Documents, Findings, Placed};
use super::violation::{Part, Violations};
use super::weight::Weight;

/// Bytes of a compiled pattern, and of the tables it may fill while it runs.
const PATTERN_BYTES: usize = 1 << 20;
/// Values, and bytes of text, up to which a value that is wrong is searched for all that is wrong with it. What the library keeps of what
/// it finds is many times as large as the value itself.
const DETAILED_VALUES: usize = 10_000;
const DETAILED_BYTES: usize = 256 << 10;
/// What the place of documents is called.
const BASE: &str = "json-schema:///";

/// How large a value is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) values: usize,
    pub(super) bytes: usize,
}

/// A compiled schema, and what it costs to search by it.
struct Judge {
    validator: Validator,
    weight: Weight,
}

/// One schema.
pub(super) struct Schema(Judge);

impl Schema {
    /// Compiles a document that is a schema of a draft that it names, or of 2020-12.
    pub(super) fn compile(documents: &Documents, formats: Option<bool>, findings: &mut Findings) -> Option<Schema> {
        let root = documents.root()?;
        let schema = document::to_json(root.node);
        if !schema.is_object() && !schema.is_boolean() {
            findings.push(documents, root, "a schema is a mapping, or `true` or `false`");
            return None;
        }
        let mut options = limited(formats).with_retriever(Beside::of(documents));
        if schema.get("$id").or(schema.get("id")).and_then(Value::as_str).is_none() {
            let name = documents.paths().next().and_then(|path| path.file_name()?.to_str());
            options = options.with_base_uri(uri_of(name.unwrap_or("configuration")));
        }
        let place = |pointer: &str| Placed { file: 0, node: document::nearest(root.node, pointer) };
        match options.build(&schema) {
            Ok(validator) => Some(Schema(Judge { validator, weight: Weight::of(&schema) })),
            Err(error) => {
                let of_reference = matches!(error.kind(), ValidationErrorKind::Referencing(_));
                let unread = if of_reference { documents.unread() } else { Vec::new() };
                if !unread.is_empty() {
                    unread.into_iter().for_each(|(at, message)| findings.push(documents, at, message));
                    return None;
                }
                for (pointer, message) in build_errors(&schema, &error) {
                    findings.push(documents, place(&pointer), message);
                }
                None
            }
        }
    }

    /// Adds what is wrong with a value.
    pub(super) fn check(&self, value: &Value, size: Size, part: Part, found: &mut Violations) {
        self.0.judge(value, size, part, "", 0, found);
    }
}

/// Schemas of one document, compiled together so that each is compiled once however often it is referred to: the validator is that of an
/// object with one property for each, and a value is judged as that property.
pub(super) struct Schemas(Judge);

impl Schemas {
    /// Compiles schemas by their names, all of one draft. `place` says where the schema of a name stands.
    pub(super) fn compile<'d>(
        draft: Draft,
        named: Map<String, Value>,
        documents: &Documents,
        place: impl Fn(&str, &str) -> Option<Placed<'d>>,
        findings: &mut Findings,
    ) -> Option<Schemas> {
        let mut root = Map::new();
        root.insert("properties".to_owned(), Value::Object(named));
        let schema = Value::Object(root);
        let error = match limited(Some(true)).with_draft(draft).build(&schema) {
            Ok(validator) => return Some(Schemas(Judge { validator, weight: Weight::of(&schema) })),
            Err(error) => error,
        };
        for (pointer, message) in build_errors(&schema, &error) {
            let below = pointer.strip_prefix("/properties/").unwrap_or_default();
            let (name, pointer) = below.find('/').map_or((below, ""), |slash| below.split_at(slash));
            if let Some(placed) = place(name, pointer).or(documents.root()) {
                findings.push(documents, placed, message);
            }
        }
        None
    }

    /// Adds what is wrong with a value that stands at `at`, by the schema of a name.
    pub(super) fn check(&self, name: &str, value: Value, size: Size, part: Part, at: &str, found: &mut Violations) {
        let mut object = Map::new();
        object.insert(name.to_owned(), value);
        self.0.judge(&Value::Object(object), size, part, at, name.len() + 1, found);
    }
}

impl Judge {
    fn judge(&self, value: &Value, size: Size, part: Part, at: &str, skip: usize, found: &mut Violations) {
        // the library remembers what it came to by schemas that are referred to, so that this costs no more for depth
        if self.validator.is_valid(value) {
            return;
        }
        if size.values > DETAILED_VALUES || size.bytes > DETAILED_BYTES {
            found.push(part, at, "does not match its schema; it is too large to say where");
            return;
        }
        if !self.weight.allows(value, size.values) {
            found.push(part, at, "does not match its schema; it is too deep to say where");
            return;
        }
        for error in self.validator.iter_errors(value) {
            found.add_schema(part, at, skip, &error);
            if found.is_full() {
                return;
            }
        }
    }
}

fn limited(formats: Option<bool>) -> ValidationOptions<'static> {
    let options = jsonschema::options()
        .with_pattern_options(PatternOptions::regex().size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES))
        .with_format("byte", is_base64);
    match formats {
        Some(formats) => options.should_validate_formats(formats),
        None => options,
    }
}

/// Base64 with padding (RFC 4648, section 4), which OpenAPI 3.0 calls `byte`.
fn is_base64(text: &str) -> bool {
    let data = text.trim_end_matches('=');
    let padding = text.len() - data.len();
    text.len().is_multiple_of(4)
        && padding <= 2
        && data.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/".contains(&b))
}

/// What is wrong with a schema: pointers and messages. Everything that its own draft's schema finds, or else why it cannot be compiled.
fn build_errors(schema: &Value, error: &ValidationError<'_>) -> Vec<(String, String)> {
    const MAX: usize = 20;
    if !error.instance_path().is_empty()
        && let Ok(meta) = jsonschema::meta::validator_for(schema)
    {
        let mut found = Violations::default();
        meta.iter_errors(schema).take(MAX).for_each(|error| found.add_schema(Part::Body, "", 0, &error));
        let all: Vec<_> = found.into_list().into_iter().map(|found| (found.at, found.message)).collect();
        if !all.is_empty() {
            return all;
        }
    }
    let at = if error.instance_path().is_empty() { error.schema_path() } else { error.instance_path() };
    const PATTERN: &str = "the pattern cannot be matched in linear time: look-around and back-references are not taken, nor are very large \
                           repetitions";
    let message = if matches!(error.kind(), ValidationErrorKind::Format { format } if format == "regex") {
        PATTERN.to_owned()
    } else if let ValidationErrorKind::Referencing(error) = error.kind() {
        reference(error)
    } else {
        error.to_string()
    };
    vec![(at.as_str().to_owned(), message)]
}

/// Why a reference cannot be had, with the reason that [`Beside`] gives.
fn reference(error: &jsonschema::ReferencingError) -> String {
    let reason = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    format!("{error}{reason}")
}

/// Gives the documents that were read beside a schema; all else is refused.
struct Beside(HashMap<String, Value>);

impl Beside {
    fn of(documents: &Documents) -> Beside {
        let named =
            documents.beside().filter_map(|(path, node)| Some((uri_of(path.to_str()?), document::to_json(node))));
        let addressed = documents.addressed().map(|(address, node)| (address.to_owned(), document::to_json(node)));
        Beside(named.chain(addressed).collect())
    }
}

impl Retrieve for Beside {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        let found = self.0.get(uri.as_str());
        found.cloned().ok_or_else(|| {
            "only `documents` and those in the folder of the first one are read, and nothing over a network".into()
        })
    }
}

/// The name of a document for references.
fn uri_of(path: &str) -> String {
    let mut uri = BASE.to_owned();
    for c in path.chars() {
        if c.is_ascii_alphanumeric() || "-._~/".contains(c) {
            uri.push(c);
        } else {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                uri.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    uri
}
