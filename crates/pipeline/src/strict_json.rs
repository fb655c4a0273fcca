//! Reads small JSON that others wrote in one way only: a name that stands twice is refused, since two readers could take another value of
//! it, and so is deep nesting. Knows nothing of what it means.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Deepest nesting that is read.
const DEEPEST: u8 = 16;
/// Members of an object that room is made for before they are seen, and that are compared one by one.
const FEW: usize = 16;

const DEEP: &str = "nested too deep";
const TWICE: &str = "a name stands twice";

/// Reads one object (RFC 8259) and nothing behind it. `None` for everything else.
#[must_use]
pub fn read_object(text: &[u8]) -> Option<Map<String, Value>> {
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

/// Reads one object as [`read_object`] does, without taking a copy of what it says.
#[must_use]
pub fn read_members(text: &[u8]) -> Option<Members<'_>> {
    members_of(std::str::from_utf8(text).ok()?)
}

/// The same of what is known to be text.
#[must_use]
pub fn members_of(text: &str) -> Option<Members<'_>> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Borrowing(DEEPEST).deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    match value {
        Json::Members(members) => Some(members),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) | Json::List(_) => None,
    }
}

/// A value within a text, or within a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json<'t> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A text, a copy only where it is written with escapes.
    Text(Cow<'t, str>),
    /// A list.
    List(Vec<Json<'t>>),
    /// An object.
    Members(Members<'t>),
}

/// An object of which each name stands once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Members<'t>(Vec<(Cow<'t, str>, Json<'t>)>);

impl<'t> Members<'t> {
    /// Those of an object that was read.
    #[must_use]
    pub fn of(object: &'t Map<String, Value>) -> Members<'t> {
        Members(object.iter().map(|(name, value)| (Cow::Borrowed(name.as_str()), Json::of(value))).collect())
    }

    /// The value of a name. Costs their number.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Json<'t>> {
        self.0.iter().find(|(known, _)| is_same(known, name)).map(|(_, value)| value)
    }

    /// Whether no name stands twice.
    fn are_distinct(&self) -> bool {
        if self.0.len() <= FEW {
            let mut before = self.0.iter().enumerate();
            return before.all(|(at, (name, _))| !self.0.iter().take(at).any(|(other, _)| is_same(other, name)));
        }
        let mut names: Vec<&str> = self.0.iter().map(|(name, _)| &**name).collect();
        names.sort_unstable();
        names.windows(2).all(|pair| pair.first() != pair.last())
    }
}

/// Whether names are the same. Many are of one length, few of those end alike.
#[inline]
fn is_same(one: &str, other: &str) -> bool {
    one.as_bytes().last() == other.as_bytes().last() && one == other
}

impl<'t> Json<'t> {
    fn of(value: &'t Value) -> Json<'t> {
        match value {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Number(number) => Json::Number(number.clone()),
            Value::String(text) => Json::Text(Cow::Borrowed(text)),
            Value::Array(list) => Json::List(list.iter().map(Json::of).collect()),
            Value::Object(object) => Json::Members(Members::of(object)),
        }
    }

    /// A text.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Json::Text(text) => Some(text),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::List(_) | Json::Members(_) => None,
        }
    }

    /// Whether it is the same as a value that is neither list nor object.
    #[must_use]
    pub fn is(&self, value: &Value) -> bool {
        match (self, value) {
            (Json::Null, Value::Null) => true,
            (Json::Bool(own), Value::Bool(other)) => own == other,
            (Json::Number(own), Value::Number(other)) => own == other,
            (Json::Text(own), Value::String(other)) => own == other,
            _ => false,
        }
    }
}

/// Reads a value that may nest so much deeper, as it stands in the text.
#[derive(Clone, Copy)]
struct Borrowing(u8);

impl Borrowing {
    fn deeper<E: serde::de::Error>(self) -> Result<Borrowing, E> {
        self.0.checked_sub(1).map(Borrowing).ok_or_else(|| E::custom(DEEP))
    }
}

impl<'de> DeserializeSeed<'de> for Borrowing {
    type Value = Json<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Borrowing {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json<'de>, E> {
        Ok(Number::from_f64(value).map_or(Json::Null, Json::Number))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json<'de>, A::Error> {
        let deeper = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(deeper)? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json<'de>, A::Error> {
        let deeper = self.deeper()?;
        let mut list = Vec::with_capacity(FEW);
        while let Some(name) = members.next_key_seed(Name)? {
            list.push((name, members.next_value_seed(deeper)?));
        }
        let members = Members(list);
        if members.are_distinct() { Ok(Json::Members(members)) } else { Err(A::Error::custom(TWICE)) }
    }
}

/// Reads a name as it stands in the text.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

/// Reads a value that may nest so much deeper.
#[derive(Clone, Copy)]
struct Seed(u8);

impl Seed {
    fn deeper<E: serde::de::Error>(self) -> Result<Seed, E> {
        self.0.checked_sub(1).map(Seed).ok_or_else(|| E::custom(DEEP))
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
                return Err(A::Error::custom(TWICE));
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
    fn what_is_borrowed_is_what_is_copied() {
        for text in [
            r#" {"a":[1,-2,1.5,true,null,"x"],"b":{"c":{}},"\u0061b":"\n"} "#.to_owned(),
            "{}".to_owned(),
            format!("{{{}}}", (0..100).map(|n| format!("\"m{n}\":{n}")).collect::<Vec<_>>().join(",")),
        ] {
            let object = read_object(text.as_bytes()).unwrap();
            let members = read_members(text.as_bytes()).unwrap();
            assert_eq!(members, Members::of(&object), "{text}");
            assert!(object.keys().all(|name| members.get(name).is_some()) && members.get("zz").is_none());
        }
        let twice = format!("{{{}\"m7\":1}}", (0..100).map(|n| format!("\"m{n}\":{n},")).collect::<String>());
        assert_eq!(read_members(twice.as_bytes()), None);
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
            assert_eq!(read_members(text.as_bytes()), None, "{text}");
        }
        assert_eq!(read_object(b"{\"a\":\"\xff\"}"), None, "not UTF-8");
        let deepest = format!("{{\"a\":{}{}}}", "[".repeat(15), "]".repeat(15));
        assert!(read_object(deepest.as_bytes()).is_some());
        assert!(read_members(deepest.as_bytes()).is_some());
    }
}
