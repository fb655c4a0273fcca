//! The schemas of a description as JSON Schemas of one draft, each once: 3.0 becomes draft 7, which says all of it, and 3.1 is 2020-12
//! already. What only documents (examples, descriptions) is left out. Knows no operation.

use std::collections::HashMap;

use daemun_config::tree::{Node, Value as Tree};
use jsonschema::Draft;
use serde_json::{Map, Value, json};

use super::super::document::{Documents, Findings, Placed, nearest, to_json};
use super::super::schema::Schemas;
use super::super::violation::escape;

/// Version of a description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V30,
    V31,
}

/// Which way what a schema describes goes: `readOnly` is not for requests, `writeOnly` not for answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Request,
    Response,
}

/// Schemas that are collected, and those that they refer to.
pub(crate) struct Bundle<'d> {
    documents: &'d Documents,
    version: Version,
    side: Side,
    /// Where each stands; its index is its name.
    places: Vec<Placed<'d>>,
    names: HashMap<(usize, *const Node), usize>,
    schemas: Map<String, Value>,
}

/// Keywords whose value is a schema.
const ONE: &[&str] = &[
    "not",
    "additionalProperties",
    "items",
    "contains",
    "propertyNames",
    "if",
    "then",
    "else",
    "unevaluatedItems",
    "unevaluatedProperties",
];
/// Keywords whose value is a list of schemas.
const LIST: &[&str] = &["allOf", "anyOf", "oneOf", "prefixItems"];
/// Keywords whose value maps names to schemas.
const MAP: &[&str] = &["patternProperties", "dependentSchemas"];
/// Keywords that are taken as they are.
const PLAIN: &[&str] = &[
    "multipleOf",
    "maximum",
    "minimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "maxProperties",
    "minProperties",
    "format",
];
/// Those of 3.1 beside.
const PLAIN_31: &[&str] = &[
    "type",
    "enum",
    "const",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "dependentRequired",
    "maxContains",
    "minContains",
];
/// Keywords of 3.1 that would need the description to be a schema as a whole.
const REFUSED: &[&str] = &["$id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor"];

impl<'d> Bundle<'d> {
    pub(crate) fn new(documents: &'d Documents, version: Version, side: Side) -> Bundle<'d> {
        Bundle { documents, version, side, places: Vec::new(), names: HashMap::new(), schemas: Map::new() }
    }

    /// The name of a schema, which is taken in.
    pub(crate) fn add(&mut self, schema: Placed<'d>) -> String {
        self.index(schema).to_string()
    }

    fn index(&mut self, schema: Placed<'d>) -> usize {
        let next = self.places.len();
        let index = *self.names.entry((schema.file, std::ptr::from_ref(schema.node))).or_insert(next);
        if index == next {
            self.places.push(schema);
        }
        index
    }

    /// Converts what was taken in and all that it refers to, and compiles it.
    pub(crate) fn compile(mut self, findings: &mut Findings) -> Option<Schemas> {
        let mut next = 0;
        while let Some(schema) = self.places.get(next).copied() {
            let converted = self.convert(schema, findings);
            self.schemas.insert(next.to_string(), converted);
            next += 1;
        }
        if !findings.is_empty() {
            return None;
        }
        let draft = match self.version {
            Version::V30 => Draft::Draft7,
            Version::V31 => Draft::Draft202012,
        };
        let (places, schemas) = (self.places, self.schemas);
        let place = |name: &str, pointer: &str| {
            let schema = places.get(name.parse::<usize>().ok()?)?;
            Some(Placed { file: schema.file, node: nearest(schema.node, pointer) })
        };
        Schemas::compile(draft, schemas, self.documents, place, findings)
    }

    fn convert(&mut self, schema: Placed<'d>, findings: &mut Findings) -> Value {
        if let Tree::Bool(all) = schema.node.value {
            return Value::Bool(all);
        }
        if schema.node.as_map().is_none() {
            findings.push(self.documents, schema, "a schema is a mapping");
            return Value::Bool(true);
        }
        if let Some(reference) = schema.str("$ref") {
            let target = self.reference(schema, reference, findings);
            if self.version == Version::V30 {
                return target;
            }
            let mut own = self.keywords(schema, findings);
            if let (Some(own), Some(target)) = (own.as_object_mut(), target.get("$ref")) {
                own.insert("$ref".to_owned(), target.clone());
            }
            return own;
        }
        self.keywords(schema, findings)
    }

    /// `{"$ref": …}` to what a reference is to.
    fn reference(&mut self, schema: Placed<'d>, reference: &str, findings: &mut Findings) -> Value {
        match self.documents.resolve(schema.file, reference) {
            Ok((target, _)) => json!({ "$ref": format!("#/properties/{}", self.index(target)) }),
            Err(message) => {
                let at = schema.get("$ref").unwrap_or(schema);
                findings.push(self.documents, at, format!("`$ref: {reference}`: {message}"));
                Value::Bool(true)
            }
        }
    }

    fn keywords(&mut self, schema: Placed<'d>, findings: &mut Findings) -> Value {
        let mut out = Map::new();
        for (key, value) in schema.entries() {
            if ONE.contains(&key) {
                out.insert(key.to_owned(), self.convert(value, findings));
            } else if LIST.contains(&key) {
                let list: Vec<Value> = value.items().map(|item| self.convert(item, findings)).collect();
                out.insert(key.to_owned(), Value::Array(list));
            } else if MAP.contains(&key) {
                let entries = value.node.as_map().unwrap_or_default().iter();
                let map = entries.map(|entry| {
                    (entry.key.clone(), self.convert(Placed { file: value.file, node: &entry.value }, findings))
                });
                out.insert(key.to_owned(), Value::Object(map.collect()));
            } else if PLAIN.contains(&key) || self.version == Version::V31 && PLAIN_31.contains(&key) {
                out.insert(key.to_owned(), to_json(value.node));
            } else if REFUSED.contains(&key) && self.version == Version::V31 {
                findings.push(self.documents, value, format!("`{key}` is not taken in an OpenAPI document"));
            } else if key == "type" || key == "enum" {
                out.insert(key.to_owned(), to_json(value.node));
            }
        }
        self.properties(schema, &mut out, findings);
        integers(&mut out);
        if self.version == Version::V30 {
            exclusive(schema, &mut out);
        }
        self.discriminator(schema, &mut out, findings);
        if self.version == Version::V30 && schema.is("nullable") { nullable(out) } else { Value::Object(out) }
    }

    /// `properties` and `required`. A property that is not for this side must not be there, and cannot be needed.
    fn properties(&mut self, schema: Placed<'d>, out: &mut Map<String, Value>, findings: &mut Findings) {
        let mut hidden = Vec::new();
        if let Some(properties) = schema.get("properties") {
            let mut map = Map::new();
            for entry in properties.node.as_map().unwrap_or_default() {
                let property = Placed { file: properties.file, node: &entry.value };
                let converted = if self.is_hidden(property) {
                    hidden.push(entry.key.as_str());
                    json!({ "not": {} })
                } else {
                    self.convert(property, findings)
                };
                map.insert(entry.key.clone(), converted);
            }
            out.insert("properties".to_owned(), Value::Object(map));
        }
        if let Some(required) = schema.get("required").filter(|required| required.node.as_seq().is_some()) {
            let needed = required.items().filter_map(|item| item.node.as_str()).filter(|name| !hidden.contains(name));
            let needed: Vec<Value> = needed.map(Value::from).collect();
            if !needed.is_empty() {
                out.insert("required".to_owned(), Value::Array(needed));
            }
        }
    }

    fn is_hidden(&self, property: Placed<'d>) -> bool {
        let key = match self.side {
            Side::Request => "readOnly",
            Side::Response => "writeOnly",
        };
        let mut at = property;
        for _ in 0..16 {
            if at.is(key) {
                return true;
            }
            let Some(reference) = at.str("$ref") else { return false };
            let Ok((target, _)) = self.documents.resolve(at.file, reference) else { return false };
            at = target;
        }
        false
    }

    /// With a discriminator, the alternative is the one that its property names, so that what is wrong is told of that one only.
    fn discriminator(&mut self, schema: Placed<'d>, out: &mut Map<String, Value>, findings: &mut Findings) {
        let Some(discriminator) = schema.get("discriminator") else { return };
        let Some(property) = discriminator.str("propertyName") else { return };
        let keyword = if out.contains_key("oneOf") { "oneOf" } else { "anyOf" };
        let Some(alternatives) = schema.get(keyword) else { return };
        let mut named: Vec<(String, Value)> = Vec::new();
        for alternative in alternatives.items() {
            let Some(reference) = alternative.str("$ref") else { return };
            let name = reference.rsplit('/').next().unwrap_or_default().replace("~1", "/").replace("~0", "~");
            named.push((name, self.reference(alternative, reference, findings)));
        }
        if let Some(mapping) = discriminator.get("mapping") {
            for (name, target) in mapping.all_entries() {
                let Some(target_text) = target.node.as_str() else { continue };
                let is_reference = target_text.contains(['#', '/']) || target_text.contains('.');
                let reference = if is_reference {
                    target_text.to_owned()
                } else {
                    let mut pointer = String::from("#/components/schemas/");
                    escape(target_text, &mut pointer);
                    pointer
                };
                let mapped = self.reference(target, &reference, findings);
                // a mapped name takes the place of the one that the schema's own name gave
                named.retain(|(known, schema)| known != name && (*schema != mapped || is_mapped(mapping, known)));
                named.push((name.to_owned(), mapped));
            }
        }
        let names: Vec<Value> = named.iter().map(|(name, _)| Value::from(name.as_str())).collect();
        let choices = named
            .into_iter()
            .map(|(name, target)| json!({ "if": { "properties": { property: { "const": name } } }, "then": target }));
        let chosen = json!({
            "type": "object",
            "required": [property],
            "properties": { property: { "enum": names } },
            "allOf": choices.collect::<Vec<Value>>(),
        });
        out.remove(keyword);
        let all = out.entry("allOf").or_insert_with(|| json!([]));
        if let Some(all) = all.as_array_mut() {
            all.push(chosen);
        }
    }
}

fn is_mapped(mapping: Placed<'_>, name: &str) -> bool {
    mapping.node.get(name).is_some()
}

/// Ranges of `int32` and `int64`, where nothing narrower is said.
fn integers(out: &mut Map<String, Value>) {
    let (least, most) = match out.get("format").and_then(Value::as_str) {
        Some("int32") => (json!(i32::MIN), json!(i32::MAX)),
        Some("int64") => (json!(i64::MIN), json!(i64::MAX)),
        _ => return,
    };
    out.entry("minimum").or_insert(least);
    out.entry("maximum").or_insert(most);
}

/// 3.0 says with a boolean whether a bound itself is excluded.
fn exclusive(schema: Placed<'_>, out: &mut Map<String, Value>) {
    for (flag, bound) in [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")] {
        if schema.is(flag)
            && let Some(limit) = out.remove(bound)
        {
            out.insert(flag.to_owned(), limit);
        }
    }
}

/// A schema of 3.0 that takes `null` beside.
fn nullable(mut schema: Map<String, Value>) -> Value {
    let combined = ["allOf", "anyOf", "oneOf", "not"].iter().any(|key| schema.contains_key(*key));
    let Some(Value::String(name)) = schema.get("type").filter(|_| !combined) else {
        return if combined { json!({ "anyOf": [{ "type": "null" }, schema] }) } else { Value::Object(schema) };
    };
    let types = json!([name, "null"]);
    schema.insert("type".to_owned(), types);
    if let Some(Value::Array(values)) = schema.get_mut("enum")
        && !values.contains(&Value::Null)
    {
        values.push(Value::Null);
    }
    Value::Object(schema)
}
