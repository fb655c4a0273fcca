//! Settings made of other settings: optional, positioned, repeated, named.

use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Deref;

use serde_json::{Value as Json, json};

use super::{Decoder, SchemaBuilder, Setting};
use crate::diagnostic::{DUPLICATE_KEY, Diagnostic, WRONG_TYPE};
use crate::model::Spanned;
use crate::tree::{At, Node, Value};

impl<T: Setting> Setting for Option<T> {
    const REQUIRED: bool = false;

    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        T::decode(node, cx).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        T::schema(s)
    }
}

/// A required setting whose absence or failure is reported, but does not stop the mapping around it from being checked further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needed<T>(pub Option<T>);

impl<T: Setting> Setting for Needed<T> {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        Some(Self(T::decode(node, cx)))
    }

    fn absent() -> Option<Self> {
        Some(Self(None))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        T::schema(s)
    }
}

/// A setting that remembers whether anything was wrong in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checked<T> {
    pub(crate) value: T,
    pub(crate) sound: bool,
}

impl<T: Setting> Setting for Checked<T> {
    const REQUIRED: bool = T::REQUIRED;

    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let before = cx.error_count();
        let value = T::decode(node, cx)?;
        Some(Self { value, sound: cx.is_sound_since(before, node) })
    }

    fn absent() -> Option<Self> {
        T::absent().map(|value| Self { value, sound: true })
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        T::schema(s)
    }
}

impl<T> Deref for Checked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Setting> Setting for Spanned<T> {
    const REQUIRED: bool = T::REQUIRED;

    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        T::decode(node, cx).map(|value| Self { value, at: node.at })
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        T::schema(s)
    }
}

impl<T: Setting> Setting for Box<T> {
    const REQUIRED: bool = T::REQUIRED;

    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        T::decode(node, cx).map(Self::new)
    }

    fn absent() -> Option<Self> {
        T::absent().map(Self::new)
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        T::schema(s)
    }
}

/// A list; items that cannot be read are reported and left out.
impl<T: Setting> Setting for Vec<T> {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let Some(items) = node.as_seq() else {
            let message = format!("expected a list, found {}", node.found());
            let found = Diagnostic::error(WRONG_TYPE, node.at, message);
            cx.report(match &node.value {
                Value::String(text) if !text.secret => {
                    found.help(format!("a list of one is written `[{}]`", text.shown()))
                }
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Seq(_) | Value::Map(_) => {
                    found.help("write each item below it behind `- `, or all as `[one, two]`")
                }
            });
            return None;
        };
        Some(decode_items(items, cx))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        let items = T::schema(s);
        json!({ "type": "array", "items": items })
    }
}

fn decode_items<T: Setting>(items: &[Node], cx: &mut Decoder<'_>) -> Vec<T> {
    let decode = |(index, item)| cx.item(index, item, |cx| T::decode(item, cx));
    items.iter().enumerate().filter_map(decode).collect()
}

/// A list of at least one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NonEmpty<T>(pub Vec<T>);

impl<T: Setting> Setting for NonEmpty<T> {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let items = Vec::decode(node, cx)?;
        if node.as_seq().is_some_and(<[Node]>::is_empty) {
            cx.bad_value(node, "expected at least one item, found an empty list");
        }
        Some(Self(items))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        let items = T::schema(s);
        json!({ "type": "array", "items": items, "minItems": 1 })
    }
}

/// One value or a list of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneOrMany<T>(pub Vec<T>);

impl<T: Setting> Setting for OneOrMany<T> {
    const REQUIRED: bool = T::REQUIRED;

    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        match node.as_seq() {
            Some(items) => Some(Self(decode_items(items, cx))),
            None => T::decode(node, cx).map(|value| Self(vec![value])),
        }
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        let one = T::schema(s);
        // A choice and nothing else is widened; anything else becomes one of two forms.
        let choice = one.as_object().filter(|object| object.len() == 1).and_then(|object| object.get("anyOf"));
        let mut forms = choice.and_then(Json::as_array).cloned().unwrap_or_else(|| vec![one.clone()]);
        forms.push(json!({ "type": "array", "items": one }));
        json!({ "anyOf": forms })
    }
}

/// A setting that `off` or `false` switches off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrOff<T> {
    /// Switched off.
    Off,
    /// The settings.
    On(T),
}

impl<T: Setting> Setting for OrOff<T> {
    const REQUIRED: bool = T::REQUIRED;

    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        if node.is_off() { Some(Self::Off) } else { T::decode(node, cx).map(Self::On) }
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        let on = T::schema(s);
        json!({ "anyOf": [{ "enum": ["off", false] }, on] })
    }
}

/// What a key of a [`Mapping`] is read into.
pub trait Key: Sized {
    /// Reads the key, reporting what is wrong with it.
    fn decode_key(key: &str, at: At, cx: &mut Decoder<'_>) -> Option<Self>;

    /// JSON Schema that each key must meet; `None` when any text will do.
    #[must_use]
    fn key_schema() -> Option<Json> {
        None
    }
}

impl Key for String {
    fn decode_key(key: &str, _: At, _: &mut Decoder<'_>) -> Option<Self> {
        Some(key.to_owned())
    }
}

/// A mapping from names the operator chooses, in written order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping<K, V>(pub Vec<(Spanned<K>, V)>);

impl<K: Key + Eq + Hash, V: Setting> Setting for Mapping<K, V> {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let entries = cx.map(node)?;
        let mut pairs: Vec<(Spanned<K>, V)> = Vec::with_capacity(entries.len());
        for entry in entries {
            let pair = cx.key(&entry.key, |cx| {
                let key = K::decode_key(&entry.key, entry.key_at, cx);
                let value = V::decode(&entry.value, cx);
                Some((Spanned { value: key?, at: entry.key_at }, value?))
            });
            pairs.extend(pair);
        }
        check_twice(&pairs, cx);
        Some(Self(pairs))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        let values = V::schema(s);
        let mut schema = json!({ "type": "object", "additionalProperties": values });
        if let (Some(object), Some(keys)) = (schema.as_object_mut(), K::key_schema()) {
            object.insert("propertyNames".to_owned(), keys);
        }
        schema
    }
}

/// Reports keys that are written differently but mean the same, as header names in upper and lower case do.
fn check_twice<K: Eq + Hash, V>(pairs: &[(Spanned<K>, V)], cx: &mut Decoder<'_>) {
    if pairs.len() < 2 {
        return;
    }
    let mut known: HashMap<&K, At> = HashMap::with_capacity(pairs.len());
    for (key, _) in pairs {
        match known.get(&key.value) {
            None => {
                known.insert(&key.value, key.at);
            }
            Some(first) => {
                let found = Diagnostic::error(DUPLICATE_KEY, key.at, "this key means the same as an earlier one");
                cx.report(found.related(*first, "first given here"));
            }
        }
    }
}

/// The settings as written, for whoever reads them later.
impl Setting for Node {
    fn decode(node: &Node, _: &mut Decoder<'_>) -> Option<Self> {
        Some(node.clone())
    }

    fn schema(_: &mut SchemaBuilder<'_>) -> Json {
        json!({})
    }
}
