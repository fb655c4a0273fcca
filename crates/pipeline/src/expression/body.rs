//! The request's body as expressions see it: JSON that can be read in one way only, read once for all that ask for it.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::fmt;

use cel::Value;
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};

use super::Stop;
use super::cost::{MOST_BYTES, Size};
use crate::exchange::Request;

/// The body of one exchange, once an expression has asked for it.
#[derive(Debug, Default)]
pub struct ReadBody(OnceCell<Result<(Value, Size), Stop>>);

impl ReadBody {
    pub(super) fn get(&self, request: &Request) -> Result<(Value, Size), Stop> {
        self.0.get_or_init(|| read(request)).clone()
    }
}

/// Whether a request says that its body is JSON.
#[must_use]
pub fn has_json(request: &Request) -> bool {
    request.head.values_id(crate::FieldId::ContentType).any(is_json)
}

/// Whether a media type is JSON's: `application/json`, `text/json`, or one that ends in `+json` (RFC 6839, section 3.1).
#[must_use]
pub fn is_json(kind: &[u8]) -> bool {
    let kind = kind.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    let ending = kind.len().checked_sub(5).and_then(|at| kind.get(at..)).unwrap_or_default();
    kind.eq_ignore_ascii_case(b"application/json")
        || kind.eq_ignore_ascii_case(b"text/json")
        || ending.eq_ignore_ascii_case(b"+json")
}

/// Reads the body of a request, and how large it is.
pub(super) fn read(request: &Request) -> Result<(Value, Size), Stop> {
    let Some(body) = &request.body else { return Err(Stop::Error("the body is not there".to_owned())) };
    if body.is_empty() {
        return Err(Stop::Error("the body is empty".to_owned()));
    }
    if !has_json(request) {
        return Err(Stop::Error("the body is not JSON".to_owned()));
    }
    let state = RefCell::new(State::default());
    let mut reader = serde_json::Deserializer::from_slice(body);
    let read = One(&state).deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    let state = state.into_inner();
    match read {
        Ok(value) => Ok((value, state.size)),
        Err(_) if state.too_large => Err(Stop::Cost),
        Err(_) => Err(Stop::Malformed),
    }
}

#[derive(Default)]
struct State {
    size: Size,
    too_large: bool,
}

/// One value.
#[derive(Clone, Copy)]
struct One<'s>(&'s RefCell<State>);

impl One<'_> {
    /// Counts what was read; stops where an expression would be stopped for it.
    fn count<E: de::Error>(self, bytes: usize, items: u64) -> Result<(), E> {
        let mut state = self.0.borrow_mut();
        state.size.bytes = state.size.bytes.saturating_add(bytes as u64);
        state.size.items = state.size.items.saturating_add(items);
        if state.size.weight() > MOST_BYTES {
            state.too_large = true;
            return Err(E::custom("it is too large"));
        }
        Ok(())
    }

    fn text<E: de::Error>(self, text: String) -> Result<Value, E> {
        self.count(text.len(), 0)?;
        Ok(Value::from(text))
    }

    /// Notes how many elements a list or a mapping has.
    fn widen(self, elements: usize) {
        let mut state = self.0.borrow_mut();
        state.size.widest = state.size.widest.max(elements as u64);
    }
}

impl<'de> DeserializeSeed<'de> for One<'_> {
    type Value = Value;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for One<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, bool: bool) -> Result<Value, E> {
        Ok(Value::Bool(bool))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Int(number))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Value, E> {
        Ok(i64::try_from(number).map_or(Value::UInt(number), Value::Int))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Float(number))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        self.text(text.to_owned())
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Value, E> {
        self.text(text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items: Vec<Value> = Vec::new();
        while let Some(item) = list.next_element_seed(self)? {
            self.count(0, 1)?;
            items.push(item);
        }
        self.widen(items.len());
        Ok(Value::from(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields: HashMap<String, Value> = HashMap::new();
        while let Some(name) = map.next_key::<String>()? {
            self.count(name.len(), 1)?;
            let value = map.next_value_seed(self)?;
            if fields.insert(name, value).is_some() {
                return Err(de::Error::custom("a key stands twice"));
            }
        }
        self.widen(fields.len());
        Ok(Value::from(fields))
    }
}
