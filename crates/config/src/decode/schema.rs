//! Builds the JSON Schema (2020-12) and, from the same descriptions, the sections of the reference page.

use serde_json::{Map, Value as Json, json};

use super::Setting;
use crate::policy::PolicyDescription;

/// Collects the schema's shared definitions while types describe themselves.
#[derive(Debug, Default)]
pub struct SchemaBuilder<'a> {
    definitions: Map<String, Json>,
    policies: &'a [PolicyDescription],
}

impl<'a> SchemaBuilder<'a> {
    /// An empty builder that knows `policies`.
    #[must_use]
    pub fn new(policies: &'a [PolicyDescription]) -> Self {
        Self { definitions: Map::new(), policies }
    }

    /// The policies there are.
    #[must_use]
    pub fn known_policies(&self) -> &'a [PolicyDescription] {
        self.policies
    }

    /// Defines `name` once and gives a reference to it. Two types of one name get two definitions.
    pub fn define(&mut self, name: &str, schema: impl FnOnce(&mut Self) -> Json) -> Json {
        let schema = schema(self);
        let mut key = name.to_owned();
        let mut number = 2_u32;
        while self.definitions.get(&key).is_some_and(|known| *known != schema) {
            key = format!("{name}{number}");
            number = number.saturating_add(1);
        }
        let reference = json!({ "$ref": format!("#/$defs/{key}") });
        self.definitions.insert(key, schema);
        reference
    }

    /// The schema with one more key in each mapping it may be; those that have a definition get another, under `name`.
    pub fn with_key(&mut self, schema: Json, name: &str, key: &str, property: &Json) -> Json {
        let mut replaced = Vec::new();
        let schema = self.widened(schema, name, key, property, &mut replaced);
        for name in replaced {
            // a type that is described later defines it again
            let reference = Json::from(format!("#/$defs/{name}"));
            if !self.definitions.values().chain([&schema]).any(|schema| holds(schema, &reference)) {
                self.definitions.remove(&name);
            }
        }
        schema
    }

    fn widened(
        &mut self,
        mut schema: Json,
        name: &str,
        key: &str,
        property: &Json,
        replaced: &mut Vec<String>,
    ) -> Json {
        let reference = schema.get("$ref").and_then(Json::as_str).and_then(|path| path.strip_prefix("#/$defs/"));
        if let Some(definition) = reference.map(str::to_owned) {
            let known = self.definitions.get(&definition).filter(|known| known.get("properties").is_some());
            let Some(known) = known.cloned() else { return schema };
            let extended = self.widened(known, name, key, property, replaced);
            replaced.push(definition);
            return self.define(name, |_| extended);
        }
        if let Some(forms) = schema.get_mut("anyOf").and_then(Json::as_array_mut) {
            for form in forms {
                *form = self.widened(form.take(), name, key, property, replaced);
            }
        } else if let Some(properties) = schema.get_mut("properties").and_then(Json::as_object_mut) {
            properties.insert(key.to_owned(), property.clone());
        }
        schema
    }

    /// A text of a certain form, shared under its title.
    pub fn pattern(&mut self, title: &str, doc: &str, pattern: &str) -> Json {
        let schema = json!({ "type": "string", "title": title, "description": doc, "pattern": pattern });
        let form = self.define(&title.replace(' ', "_"), |_| schema);
        self.or_reference(form)
    }

    /// The schema, or a text with a `${…}` reference in it.
    pub fn or_reference(&mut self, schema: Json) -> Json {
        let reference = self.define("reference", |_| {
            json!({
                "type": "string",
                "title": "reference",
                "description": "A value from the environment or a file: `${env:NAME}`, `${env:NAME:-default}`, `${file:PATH}`.",
                "pattern": "\\$\\{(env|file):[^}]+\\}",
            })
        });
        json!({ "anyOf": [schema, reference] })
    }

    /// A choice of words and of mappings of one key; for [`settings!`](crate::settings).
    pub fn choices(&mut self, doc: &[&str], choices: Vec<(&str, Option<Json>, &[&str])>) -> Json {
        let form = |(word, payload, doc): (&str, Option<Json>, &[&str])| {
            let doc = join(doc);
            match payload {
                None => json!({ "const": word, "description": doc }),
                Some(payload) => json!({
                    "type": "object",
                    "description": doc,
                    "properties": { word: payload },
                    "required": [word],
                    "additionalProperties": false,
                }),
            }
        };
        let forms: Vec<Json> = choices.into_iter().map(form).collect();
        let choice = json!({ "description": join(doc), "anyOf": forms });
        self.or_reference(choice)
    }

    /// The definitions collected, for the `$defs` of a schema.
    #[must_use]
    pub fn definitions(self) -> Map<String, Json> {
        self.definitions
    }
}

/// Whether a value stands somewhere in another.
fn holds(schema: &Json, value: &Json) -> bool {
    match schema {
        Json::Array(items) => items.iter().any(|item| holds(item, value)),
        Json::Object(fields) => fields.values().any(|field| holds(field, value)),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => schema == value,
    }
}

/// The schema of a mapping with known keys.
#[derive(Debug)]
pub struct Object {
    doc: String,
    properties: Map<String, Json>,
    required: Vec<Json>,
    rules: Vec<Json>,
}

impl Object {
    /// A mapping described by the lines of a doc comment.
    #[must_use]
    pub fn new(doc: &[&str]) -> Self {
        Self { doc: join(doc), properties: Map::new(), required: Vec::new(), rules: Vec::new() }
    }

    /// Adds a key of type `T`, with its doc comment and its default as written.
    pub fn field<T: Setting>(&mut self, s: &mut SchemaBuilder<'_>, key: &str, doc: &[&str], default: Option<&str>) {
        let mut schema = T::schema(s);
        if let Some(object) = schema.as_object_mut() {
            object.insert("description".to_owned(), join(doc).into());
            if let Some(default) = default {
                object.insert("default".to_owned(), crate::parse::literal(default).to_json());
            }
        }
        if T::REQUIRED && default.is_none() {
            self.required.push(key.into());
        }
        self.properties.insert(key.to_owned(), schema);
    }

    /// Says that one of `keys` at most may be given.
    pub fn exclusive(&mut self, keys: &[&str]) {
        for (index, first) in keys.iter().enumerate() {
            for second in keys.iter().skip(index.saturating_add(1)) {
                // Some checkers want the properties named beside `required`.
                let both = json!({ *first: true, *second: true });
                self.rules
                    .push(json!({ "not": { "type": "object", "properties": both, "required": [first, second] } }));
            }
        }
    }

    /// Says that one of `keys` at least must be given.
    pub fn needs_one(&mut self, keys: &[&str]) {
        let form = |key: &&str| json!({ "type": "object", "properties": { *key: true }, "required": [key] });
        let forms: Vec<Json> = keys.iter().map(form).collect();
        self.rules.push(json!({ "anyOf": forms }));
    }

    /// The schema.
    #[must_use]
    pub fn build(self) -> Json {
        let mut schema = json!({ "type": "object", "description": self.doc, "properties": self.properties });
        if let Some(object) = schema.as_object_mut() {
            if !self.required.is_empty() {
                object.insert("required".to_owned(), self.required.into());
            }
            object.insert("additionalProperties".to_owned(), false.into());
            if !self.rules.is_empty() {
                object.insert("allOf".to_owned(), self.rules.into());
            }
        }
        schema
    }
}

/// The lines of a doc comment as one text.
fn join(doc: &[&str]) -> String {
    doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ").trim().to_owned()
}
