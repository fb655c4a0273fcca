//! `application/x-www-form-urlencoded` and queries as objects. Knows no schema but the shape of what it asks for.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::text::{Shape, decode};

/// Pairs of a form or query.
const MAX_PAIRS: usize = 1000;

/// Pairs of a query or form: names decoded, values as they came.
#[derive(Debug, Default)]
pub(super) struct Pairs<'t>(pub(super) Vec<(Cow<'t, str>, &'t str)>);

impl<'t> Pairs<'t> {
    /// Reads `a=1&b=2`; a reason when it cannot be read.
    pub(super) fn parse(text: &'t str) -> Result<Pairs<'t>, String> {
        let mut pairs = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            if pairs.len() == MAX_PAIRS {
                return Err(format!("has more than {MAX_PAIRS} parameters"));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            pairs.push((decode(name, true).map_err(|()| "the name of a parameter is not UTF-8".to_owned())?, value));
        }
        Ok(Pairs(pairs))
    }

    /// Values of a name, as they came.
    pub(super) fn values<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'t str> + 's {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| *value)
    }

    /// As an object of a shape.
    pub(super) fn object(&self, shape: &Shape) -> Result<Value, (String, String)> {
        let mut map = Map::new();
        for (name, _) in &self.0 {
            if map.contains_key(name.as_ref()) {
                continue;
            }
            let texts: Result<Vec<_>, ()> = self.values(name).map(|value| decode(value, true)).collect();
            let texts = texts.map_err(|()| (name.to_string(), "is not UTF-8".to_owned()))?;
            map.insert(name.to_string(), shape.named(name).values(texts));
        }
        Ok(Value::Object(map))
    }
}
