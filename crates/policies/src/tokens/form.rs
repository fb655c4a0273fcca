//! What a client sends to a token service: a form, or the same as a JSON object. Knows nothing of what it asks for.

use daemun_pipeline::{Exchange, FieldId};
use serde::de::{Deserializer, MapAccess, Visitor};

/// Bytes of a body at most.
pub(super) const MOST: u64 = 16 * 1024;
/// Names of a body at most.
const MOST_NAMES: usize = 32;

/// The members of a request, each once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Form(Vec<(String, String)>);

/// What cannot be read, in words for the client.
pub(super) type Unreadable = &'static str;

impl Form {
    /// Of the body of a request; empty for none.
    pub(super) fn of(exchange: &Exchange) -> Result<Form, Unreadable> {
        let body = exchange.request.body.as_deref().unwrap_or_default();
        if body.is_empty() {
            return Ok(Form::default());
        }
        let declared = exchange.request.head.values_id(FieldId::ContentType).next().unwrap_or_default();
        let media = declared.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
        if media.eq_ignore_ascii_case(b"application/x-www-form-urlencoded") {
            return Form::read(form_urlencoded::parse(body).map(|(name, value)| (name.into(), value.into())));
        }
        if media.eq_ignore_ascii_case(b"application/json") {
            let pairs: Pairs = serde_json::from_slice(body).map_err(|_| "the body is not a JSON object of texts")?;
            return Form::read(pairs.0.into_iter());
        }
        Err("the body is neither a form nor JSON")
    }

    fn read(pairs: impl Iterator<Item = (String, String)>) -> Result<Form, Unreadable> {
        let mut form = Form::default();
        for (name, value) in pairs {
            // a member without a value counts as not there, and none may stand twice (RFC 6749, section 3.2)
            if value.is_empty() {
                continue;
            }
            if form.get(&name).is_some() {
                return Err("a parameter stands twice");
            }
            if form.0.len() >= MOST_NAMES {
                return Err("there are too many parameters");
            }
            form.0.push((name, value));
        }
        Ok(form)
    }

    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of a member.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A JSON object of texts, with members that stand twice.
struct Pairs(Vec<(String, String)>);

impl<'de> serde::Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Pairs;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        from.deserialize_map(Object)
    }
}
