//! What it may cost to look for all that is wrong with a value. Of alternatives that do not fit, each is searched, so that by a schema that
//! refers to itself the cost may double with every level of the value; it is counted before, each schema with each value once. Knows no
//! message and no library.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::text::decode;

/// What a search may cost at least, and more for each value: searches, and copies of values that are kept with what they find.
const LEAST: u64 = 10_000;
const PER_VALUE: u64 = 8;
/// Pairs of a schema and a value that are counted before it is too much.
const MAX_PAIRS: usize = 50_000;
/// Values within values, where the cost cannot be counted.
const MAX_LEVELS: usize = 6;

/// What is known of the cost by a schema.
pub(super) enum Weight {
    /// No schema refers to itself: the cost grows with the size of a value alone.
    Plain,
    /// Some do: the whole that they are in.
    Recursive(Value),
    /// It refers to what is not in it.
    Unknown,
}

impl Weight {
    /// Of a whole schema.
    pub(super) fn of(root: &Value) -> Weight {
        match is_recursive(root) {
            Some(false) => Weight::Plain,
            Some(true) => Weight::Recursive(root.clone()),
            None => Weight::Unknown,
        }
    }

    /// Whether all that is wrong with a value, which consists of so many, may be looked for.
    pub(super) fn allows(&self, value: &Value, values: usize) -> bool {
        match self {
            Weight::Plain => true,
            Weight::Recursive(root) => {
                let values = u64::try_from(values).unwrap_or(u64::MAX);
                let most = LEAST.saturating_add(values.saturating_mul(PER_VALUE));
                let mut count = Count { root, most, known: HashMap::new(), sizes: HashMap::new() };
                count.of(root, value) <= most
            }
            Weight::Unknown => is_within(value, MAX_LEVELS),
        }
    }
}

/// Whether a value is nested no deeper than so many levels.
fn is_within(value: &Value, levels: usize) -> bool {
    let inner = |value: &Value| levels.checked_sub(1).is_some_and(|below| is_within(value, below));
    match value {
        Value::Array(items) => levels > 0 && items.iter().all(inner),
        Value::Object(members) => levels > 0 && members.values().all(inner),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

/// Whether a schema refers to one that it is in, at once or by others; `None` where that cannot be told.
fn is_recursive(root: &Value) -> Option<bool> {
    let mut targets = vec![root];
    let mut known = HashMap::from([(address(root), 0_usize)]);
    // which target refers to which
    let mut arrows: Vec<Vec<usize>> = Vec::new();
    while let Some(at) = targets.get(arrows.len()).copied() {
        let mut references = Vec::new();
        collect(at, std::ptr::eq(at, root), &mut references)?;
        let mut to = Vec::with_capacity(references.len());
        for reference in references {
            let target = target(root, reference)?;
            let next = targets.len();
            let index = *known.entry(address(target)).or_insert(next);
            if index == next {
                targets.push(target);
            }
            to.push(index);
        }
        arrows.push(to);
    }
    // what nothing refers to is in no circle, and neither is what is left then
    let mut referred = vec![0_usize; arrows.len()];
    for to in arrows.iter().flatten() {
        referred.get_mut(*to).into_iter().for_each(|count| *count += 1);
    }
    let mut free: Vec<usize> = (0..arrows.len()).filter(|at| referred.get(*at) == Some(&0)).collect();
    let mut done = 0;
    while let Some(at) = free.pop() {
        done += 1;
        for to in arrows.get(at).into_iter().flatten() {
            let Some(count) = referred.get_mut(*to) else { continue };
            *count -= 1;
            if *count == 0 {
                free.push(*to);
            }
        }
    }
    Some(done < arrows.len())
}

/// Adds all references within a schema; `None` where they may mean something else than a place in it.
fn collect<'v>(schema: &'v Value, is_root: bool, found: &mut Vec<&'v str>) -> Option<()> {
    match schema {
        Value::Object(members) => {
            for (key, inner) in members {
                match (key.as_str(), inner) {
                    ("$ref", Value::String(reference)) => found.push(reference),
                    ("$dynamicRef" | "$recursiveRef", Value::String(_)) => return None,
                    ("$id", Value::String(_)) if !is_root => return None,
                    _ => collect(inner, false, found)?,
                }
            }
        }
        Value::Array(items) => items.iter().try_for_each(|item| collect(item, false, found))?,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    Some(())
}

/// What a reference is to, when it is a pointer into the same text.
fn target<'v>(root: &'v Value, reference: &str) -> Option<&'v Value> {
    root.pointer(&decode(reference.strip_prefix('#')?, false).ok()?)
}

fn address(value: &Value) -> usize {
    std::ptr::from_ref(value).addr()
}

/// The cost of searching a value, at most: alternatives count as if none of them fitted.
struct Count<'v> {
    root: &'v Value,
    /// What is too much.
    most: u64,
    /// By the addresses of a schema and a value.
    known: HashMap<(usize, usize), u64>,
    sizes: HashMap<usize, u64>,
}

impl<'v> Count<'v> {
    fn of(&mut self, schema: &'v Value, value: &'v Value) -> u64 {
        let Value::Object(keywords) = schema else { return 1 };
        let key = (address(schema), address(value));
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        if self.known.len() >= MAX_PAIRS {
            return u64::MAX;
        }
        // who comes here again on the way goes in a circle, which no one follows
        self.known.insert(key, 0);
        let mut sum = self.size(value).saturating_add(1);
        for (keyword, inner) in keywords {
            if sum > self.most {
                break;
            }
            sum = sum.saturating_add(self.keyword(keywords, keyword, inner, value));
        }
        self.known.insert(key, sum);
        sum
    }

    fn keyword(&mut self, own: &'v Map<String, Value>, keyword: &str, inner: &'v Value, value: &'v Value) -> u64 {
        let listed = |keyword: &str| own.get(keyword).and_then(Value::as_array).map_or(0, Vec::len);
        let items = value.as_array().map(Vec::as_slice).unwrap_or_default().iter();
        let members = value.as_object().into_iter().flatten();
        match (keyword, inner) {
            ("$ref", Value::String(reference)) => match target(self.root, reference) {
                Some(target) => self.of(target, value),
                None => u64::MAX,
            },
            ("allOf" | "anyOf" | "oneOf", Value::Array(all)) => self.sum(all.iter().map(|schema| (schema, value))),
            ("then", _) if own.get("if").is_some_and(|schema| differs(schema, value)) => 0,
            ("then" | "else", _) => self.of(inner, value),
            ("properties" | "dependentSchemas" | "dependencies", Value::Object(named)) => {
                let of_whole = keyword != "properties";
                let found = members.filter_map(|(name, member)| Some((named.get(name)?, member)));
                self.sum(found.map(|(schema, member)| (schema, if of_whole { value } else { member })))
            }
            ("patternProperties", Value::Object(patterns)) => {
                self.sum(members.flat_map(|(_, member)| patterns.values().map(move |schema| (schema, member))))
            }
            ("additionalProperties" | "unevaluatedProperties", _) => {
                let named = own.get("properties").and_then(Value::as_object);
                let other = members.filter(|(name, _)| named.is_none_or(|named| !named.contains_key(*name)));
                self.sum(other.map(|(_, member)| (inner, member)))
            }
            ("items" | "prefixItems", Value::Array(schemas)) => self.sum(schemas.iter().zip(items)),
            ("items", _) => self.sum(items.skip(listed("prefixItems")).map(|item| (inner, item))),
            ("additionalItems", _) => self.sum(items.skip(listed("items")).map(|item| (inner, item))),
            ("unevaluatedItems", _) => self.sum(items.map(|item| (inner, item))),
            _ => 0,
        }
    }

    fn sum(&mut self, pairs: impl Iterator<Item = (&'v Value, &'v Value)>) -> u64 {
        let mut sum = 0_u64;
        for (schema, value) in pairs {
            if sum > self.most {
                break;
            }
            sum = sum.saturating_add(self.of(schema, value));
        }
        sum
    }

    /// How many values one consists of.
    fn size(&mut self, value: &'v Value) -> u64 {
        let inner: &mut dyn Iterator<Item = &'v Value> = match value {
            Value::Array(items) => &mut items.iter(),
            Value::Object(members) => &mut members.values(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return 1,
        };
        if let Some(known) = self.sizes.get(&address(value)) {
            return *known;
        }
        let sum = inner.fold(1_u64, |sum, value| sum.saturating_add(self.size(value)));
        self.sizes.insert(address(value), sum);
        sum
    }
}

/// Whether a property has not the value that a schema gives it: how a discriminator is asked for.
fn differs(schema: &Value, value: &Value) -> bool {
    let named = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    named.filter_map(|(name, schema)| schema.get("const").zip(value.get(name))).any(|(wanted, found)| wanted != found)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_refers_to_itself_is_told_from_what_does_not() {
        for (schema, recursive) in [
            (json!(true), Some(false)),
            (json!({ "$ref": "#/$defs/a", "$defs": { "a": { "$ref": "#/$defs/b" }, "b": {} } }), Some(false)),
            (json!({ "anyOf": [{ "$ref": "#/$defs/a" }, { "$ref": "#/$defs/a" }], "$defs": { "a": {} } }), Some(false)),
            (json!({ "properties": { "a": { "$ref": "#/properties/b" }, "b": { "type": "string" } } }), Some(false)),
            (json!({ "items": { "$ref": "#" } }), Some(true)),
            (json!({ "$defs": { "a": { "items": { "$ref": "#/$defs/b" } }, "b": { "$ref": "#/$defs/a/x" } } }), None),
            (json!({ "$defs": { "a b": { "items": { "$ref": "#/$defs/a%20b/items" } } } }), Some(true)),
            (json!({ "$ref": "other.json" }), None),
            (json!({ "properties": { "$ref": { "type": "string" } } }), Some(false)),
            (json!({ "items": { "$id": "x", "$ref": "#" } }), None),
        ] {
            assert_eq!(is_recursive(&schema), recursive, "{schema}");
        }
    }

    #[test]
    fn the_cost_is_counted_without_paying_it() {
        let tree = |depth: usize| (0..depth).fold(json!(1), |inner, _| json!([inner]));
        let twice = Weight::of(&json!({ "oneOf": [{ "items": { "$ref": "#" } }, { "items": { "$ref": "#" } }] }));
        assert!(twice.allows(&tree(6), 6) && !twice.allows(&tree(14), 14) && !twice.allows(&tree(120), 120));
        let once = Weight::of(&json!({ "items": { "$ref": "#" } }));
        assert!(once.allows(&tree(60), 60));
        let unknown = Weight::of(&json!({ "items": { "$ref": "other.json" } }));
        assert!(unknown.allows(&tree(6), 6) && !unknown.allows(&tree(7), 7));
    }
}
