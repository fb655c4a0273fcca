//! What a caller's credential says, as expressions see it: JSON, of which only what is asked for is looked at. Knows no credential.

use std::collections::HashMap;

use cel::Value;
use serde_json::Value as Json;

use super::Stop;
use super::cost::{MOST_BYTES, Size};
use super::facts::Facts;

/// The names that lead to a claim, from the outside inward; at least one.
pub(super) type Path = Box<[Box<str>]>;

/// The claim that names lead to.
pub(super) fn find<'a>(facts: &Facts<'a>, path: &[Box<str>]) -> Option<&'a Json> {
    let (first, rest) = path.split_first()?;
    let claim = facts.exchange.claims()?.get(&**first)?;
    rest.iter().try_fold(claim, |value, name| value.get(&**name))
}

/// The same; an error where there is none, so that neither a condition nor its opposite holds.
pub(super) fn get<'a>(facts: &Facts<'a>, path: &[Box<str>]) -> Result<&'a Json, Stop> {
    find(facts, path).ok_or_else(|| Stop::Error("there is no such claim".to_owned()))
}

/// A claim as the interpreter takes it, and its size.
pub(super) fn read(facts: &Facts<'_>, path: &[Box<str>]) -> Result<(Value, Size), Stop> {
    let claim = get(facts, path)?;
    bounded(size(claim), || value(claim))
}

/// All claims; none of a caller without any.
pub(super) fn all(facts: &Facts<'_>) -> Result<(Value, Size), Stop> {
    let Some(claims) = facts.exchange.claims() else {
        return Ok((Value::from(HashMap::<String, Value>::new()), Size::default()));
    };
    let all = claims.iter().map(|(name, claim)| with_name(name, size(claim)));
    bounded(sum(all, claims.len()), || {
        Value::from(claims.iter().map(|(name, claim)| (name.clone(), value(claim))).collect::<HashMap<_, _>>())
    })
}

/// Whether a text is in a claim: an item of a list, or a name of an object.
pub(super) fn holds(claim: &Json, text: &str) -> Result<bool, Stop> {
    match claim {
        Json::Array(items) => Ok(items.iter().any(|item| item.as_str() == Some(text))),
        Json::Object(object) => Ok(object.contains_key(text)),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {
            Err(Stop::Error("the claim is neither a list nor an object".to_owned()))
        }
    }
}

fn bounded(size: Size, make: impl FnOnce() -> Value) -> Result<(Value, Size), Stop> {
    if size.weight() > MOST_BYTES { Err(Stop::Cost) } else { Ok((make(), size)) }
}

fn size(claim: &Json) -> Size {
    match claim {
        Json::Null | Json::Bool(_) | Json::Number(_) => Size::text(8),
        Json::String(text) => Size::text(text.len()),
        Json::Array(items) => sum(items.iter().map(size), items.len()),
        Json::Object(object) => sum(object.iter().map(|(name, claim)| with_name(name, size(claim))), object.len()),
    }
}

fn with_name(name: &str, size: Size) -> Size {
    Size { bytes: size.bytes.saturating_add(name.len() as u64), ..size }
}

fn sum(parts: impl Iterator<Item = Size>, count: usize) -> Size {
    let count = count as u64;
    parts.fold(Size { bytes: 0, items: count, widest: count }, |sum, part| Size {
        bytes: sum.bytes.saturating_add(part.bytes),
        items: sum.items.saturating_add(part.items),
        widest: sum.widest.max(part.widest),
    })
}

/// Numbers as in a body: whole ones are whole numbers.
fn value(claim: &Json) -> Value {
    match claim {
        Json::Null => Value::Null,
        Json::Bool(bool) => Value::Bool(*bool),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::Int(number),
            (None, Some(number)) => Value::UInt(number),
            (None, None) => number.as_f64().map_or(Value::Null, Value::Float),
        },
        Json::String(text) => Value::from(text.clone()),
        Json::Array(items) => Value::from(items.iter().map(value).collect::<Vec<_>>()),
        Json::Object(object) => {
            Value::from(object.iter().map(|(name, claim)| (name.clone(), value(claim))).collect::<HashMap<_, _>>())
        }
    }
}
