//! Reads small JSON that others wrote in one way only: a name that stands twice is refused, since two readers could take another value of
//! it, and so is deep nesting. Knows nothing of what it means.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Deepest nesting that is read.
const DEEPEST: u8 = 16;

/// Reads one object (RFC 8259) and nothing behind it. `None` for everything else.
pub(crate) fn read_object(text: &[u8]) -> Option<Map<String, Value>> {
    // checked once here, so that the reader need not look at each text
    let text = std::str::from_utf8(text).ok()?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Seed(DEEPEST).deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    match value {
        Value::Object(object) => Some(object),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => None,
    }
}

/// Reads a value that may nest so much deeper.
#[derive(Clone, Copy)]
struct Seed(u8);

impl Seed {
    fn deeper<E: serde::de::Error>(self) -> Result<Seed, E> {
        self.0.checked_sub(1).map(Seed).ok_or_else(|| E::custom("nested too deep"))
    }
}

impl<'de> DeserializeSeed<'de> for Seed {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed {
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
        let deeper = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(deeper)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let deeper = self.deeper()?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(deeper)?;
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a name stands twice"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_read_as_the_library_reads_it() {
        let text = r#" {"a":[1,-2,1.5,true,null,"x"],"b":{"c":{}}} "#;
        assert_eq!(Value::Object(read_object(text.as_bytes()).unwrap()), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(16), "]".repeat(16));
        for text in [
            "",
            "[]",
            "1",
            "null",
            "{",
            "{}x",
            "{}{}",
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"b":{"a":1,"a":2}}"#,
            r#"{"b":[{"a":1,"a":2}]}"#,
            "{\"a\":1e999}",
            "{'a':1}",
            "{\"a\":1,}",
            "{/**/}",
            &deep,
        ] {
            assert_eq!(read_object(text.as_bytes()), None, "{text}");
        }
        assert_eq!(read_object(b"{\"a\":\"\xff\"}"), None, "not UTF-8");
        let deepest = format!("{{\"a\":{}{}}}", "[".repeat(15), "]".repeat(15));
        assert!(read_object(deepest.as_bytes()).is_some());
    }
}
