//! Texts of targets, fields and forms: percent-decoding, and what a text stands for where a schema asks for another type. Knows no request.

use std::borrow::Cow;

use daemun_config::tree::{Node, Value as Tree};
use serde_json::Value;

use super::document::{Documents, Placed};

/// Decodes `%41`, and `+` as a space where `plus`; a `%` without two digits stands for itself. Fails where UTF-8 does not come out.
pub(super) fn decode(text: &str, plus: bool) -> Result<Cow<'_, str>, ()> {
    if !text.bytes().any(|b| b == b'%' || plus && b == b'+') {
        return Ok(Cow::Borrowed(text));
    }
    let hex = |b: Option<&u8>| b.and_then(|&b| char::from(b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        match (first, hex(behind.first()), hex(behind.get(1))) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                rest = behind.get(2..).unwrap_or_default();
            }
            (b'+', _, _) if plus => out.push(b' '),
            _ => out.push(first),
        }
    }
    String::from_utf8(out).map(Cow::Owned).map_err(|_| ())
}

/// What types a schema allows: what a text may stand for.
#[derive(Clone, Debug, Default)]
pub(super) struct Shape {
    pub(super) string: bool,
    number: bool,
    boolean: bool,
    null: bool,
    pub(super) array: bool,
    pub(super) object: bool,
    items: Option<Box<Shape>>,
    pub(super) properties: Vec<(String, Shape)>,
    /// Of properties without a name of their own.
    other: Option<Box<Shape>>,
}

/// Schemas that are looked at for one shape.
const MAX_LOOKED_AT: usize = 5000;
/// How deep items and properties are looked at: what stands in a text does not nest deeper.
const MAX_DEPTH: usize = 6;
/// What has no shape of its own is text.
const TEXT: &Shape = &Shape {
    string: true,
    number: false,
    boolean: false,
    null: false,
    array: false,
    object: false,
    items: None,
    properties: Vec::new(),
    other: None,
};

impl Shape {
    /// The shape of a schema. References that lead nowhere are left to whoever compiles the schema.
    pub(super) fn of(documents: &Documents, schema: Placed<'_>) -> Shape {
        let mut shape = Shape::default();
        let mut left = MAX_LOOKED_AT;
        shape.add(documents, schema, 0, 0, &mut left);
        shape
    }

    fn add(&mut self, documents: &Documents, schema: Placed<'_>, depth: usize, steps: usize, left: &mut usize) {
        if depth > MAX_DEPTH || steps > 32 || *left == 0 {
            return;
        }
        *left -= 1;
        for (key, value) in schema.entries() {
            match key {
                "$ref" => {
                    if let Some((target, _)) =
                        value.node.as_str().and_then(|to| documents.resolve(schema.file, to).ok())
                    {
                        self.add(documents, target, depth, steps + 1, left);
                    }
                }
                "type" => {
                    value.node.as_str().into_iter().for_each(|name| self.add_type(name));
                    value.items().filter_map(|item| item.node.as_str()).for_each(|name| self.add_type(name));
                }
                "nullable" => self.null |= schema.is("nullable"),
                "enum" if schema.node.get("type").is_none() => value.items().for_each(|item| self.add_value(item.node)),
                "const" => self.add_value(value.node),
                "allOf" | "anyOf" | "oneOf" => {
                    value.items().for_each(|item| self.add(documents, item, depth, steps + 1, left));
                }
                "if" | "then" | "else" => self.add(documents, value, depth, steps + 1, left),
                "items" if value.node.as_map().is_some() => {
                    self.array |= schema.node.get("type").is_none();
                    self.items.get_or_insert_default().add(documents, value, depth + 1, 0, left);
                }
                "properties" => {
                    self.object |= schema.node.get("type").is_none();
                    for entry in value.node.as_map().unwrap_or_default() {
                        let property = Placed { file: value.file, node: &entry.value };
                        self.property(&entry.key).add(documents, property, depth + 1, 0, left);
                    }
                }
                "additionalProperties" if value.node.as_map().is_some() => {
                    self.other.get_or_insert_default().add(documents, value, depth + 1, 0, left);
                }
                _ => {}
            }
        }
    }

    fn property(&mut self, name: &str) -> &mut Shape {
        let found = self.properties.iter().position(|(known, _)| known == name);
        let at = found.unwrap_or_else(|| {
            self.properties.push((name.to_owned(), Shape::default()));
            self.properties.len() - 1
        });
        #[allow(clippy::indexing_slicing, reason = "found or pushed above")]
        &mut self.properties[at].1
    }

    fn add_type(&mut self, name: &str) {
        match name {
            "string" => self.string = true,
            "number" | "integer" => self.number = true,
            "boolean" => self.boolean = true,
            "null" => self.null = true,
            "array" => self.array = true,
            "object" => self.object = true,
            _ => {}
        }
    }

    fn add_value(&mut self, node: &Node) {
        self.add_type(match &node.value {
            Tree::Null => "null",
            Tree::Bool(_) => "boolean",
            Tree::Number(_) => "number",
            Tree::String(_) => "string",
            Tree::Seq(_) => "array",
            Tree::Map(_) => "object",
        });
    }

    /// Whether a text can stand for it as it is, without lists.
    pub(super) fn is_scalar(&self) -> bool {
        self.string || self.number || self.boolean || !(self.array || self.object)
    }

    /// The shape of a list's items.
    pub(super) fn item(&self) -> &Shape {
        self.items.as_deref().unwrap_or(TEXT)
    }

    /// Whether it says something of a property of this name.
    pub(super) fn names(&self, name: &str) -> bool {
        self.other.is_some() || self.properties.iter().any(|(known, _)| known == name)
    }

    /// The shape of a property.
    pub(super) fn named(&self, name: &str) -> &Shape {
        let own = self.properties.iter().find(|(known, _)| known == name).map(|(_, shape)| shape);
        own.or(self.other.as_deref()).unwrap_or(TEXT)
    }

    /// What a text stands for. One that is no number where a number is asked for stays a text, and the schema says so.
    pub(super) fn value(&self, text: &str) -> Value {
        if self.number
            && text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b))
            && let Ok(number) = serde_json::from_str::<serde_json::Number>(text)
        {
            return Value::Number(number);
        }
        match text {
            "true" if self.boolean => Value::Bool(true),
            "false" if self.boolean => Value::Bool(false),
            "null" if self.null => Value::Null,
            "" if self.null && !self.string => Value::Null,
            _ => Value::String(text.to_owned()),
        }
    }

    /// What a property that came with these texts stands for: a list where one is asked for, or where there is more than one.
    pub(super) fn values(&self, texts: Vec<Cow<'_, str>>) -> Value {
        match texts.as_slice() {
            [one] if self.is_scalar() => self.value(one),
            _ => texts.iter().map(|text| self.item().value(text)).collect(),
        }
    }
}
