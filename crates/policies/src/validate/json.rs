//! Reads JSON in one way only: a key that stands twice is refused, since two readers could take another value of it; nesting is bounded by
//! the JSON library at 128. Knows no schema.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::violation::Pointer;

/// What was read, and how many values it consists of.
pub(super) struct Read {
    pub(super) value: Value,
    pub(super) values: usize,
}

/// Why a text is not JSON that can be read in one way.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// Where, as a JSON pointer; empty for the whole.
    pub(super) at: String,
    /// Lower case, without anything of the text but a key.
    pub(super) message: String,
}

/// Reads one JSON text (RFC 8259).
pub(super) fn read(text: &[u8]) -> Result<Read, Refused> {
    let state = RefCell::new(State { values: 0, path: Pointer::default(), twice: None });
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let read = Seed(&state).deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    let state = state.into_inner();
    match (read, state.twice) {
        (Ok(value), _) => Ok(Read { value, values: state.values }),
        (Err(_), Some(at)) => Err(Refused { at, message: "this key stands twice".to_owned() }),
        (Err(error), None) => Err(Refused { at: String::new(), message: reason(&error) }),
    }
}

/// What the library says, without its words for what it found.
fn reason(error: &serde_json::Error) -> String {
    let place = format!("line {} column {}", error.line(), error.column());
    if error.is_eof() {
        return "the JSON text ends too early".to_owned();
    }
    if error.to_string().starts_with("recursion limit") {
        return format!("nested deeper than 128 at {place}");
    }
    if error.to_string().starts_with("number out of range") {
        return format!("a number out of range at {place}");
    }
    format!("not JSON at {place}")
}

struct State {
    values: usize,
    path: Pointer,
    twice: Option<String>,
}

#[derive(Clone, Copy)]
struct Seed<'s>(&'s RefCell<State>);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let mut state = self.0.borrow_mut();
        state.values = state.values.saturating_add(1);
        drop(state);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let length = self.0.borrow_mut().path.push_index(list.len());
            let Some(item) = items.next_element_seed(self)? else {
                self.0.borrow_mut().path.truncate(length);
                return Ok(Value::Array(list));
            };
            self.0.borrow_mut().path.truncate(length);
            list.push(item);
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let length = self.0.borrow_mut().path.push(&key);
            if map.contains_key(&key) {
                let mut state = self.0.borrow_mut();
                state.twice = Some(state.path.as_str().to_owned());
                return Err(A::Error::custom("a key stands twice"));
            }
            let value = entries.next_value_seed(self)?;
            self.0.borrow_mut().path.truncate(length);
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}
