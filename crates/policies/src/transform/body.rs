//! Bodies: what kind one is of, and changes to one. Knows no message but its head.

use std::borrow::Cow;

use daemun_pipeline::{FieldId, Head, expression};

use super::json::{Json, Keep, text};
use super::pairs::{self, Writing};
use super::target::{BodyPath, Segment};
use super::trouble::Trouble;
use super::xml::Xml;

/// Kinds of bodies that can be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `application/json`, `text/json`, `+json`.
    Json,
    /// `application/xml`, `text/xml`, `+xml`.
    Xml,
    /// `application/x-www-form-urlencoded`.
    Form,
}

impl Kind {
    /// Of a content type; `None` for others, and for other charsets than UTF-8.
    pub(super) fn of_type(value: &[u8]) -> Option<Kind> {
        let mut parts = value.split(|&b| b == b';').map(<[u8]>::trim_ascii);
        let essence = parts.next().unwrap_or_default();
        let is = |name: &str| essence.eq_ignore_ascii_case(name.as_bytes());
        let ends_xml = essence.last_chunk::<4>().is_some_and(|end| end.eq_ignore_ascii_case(b"+xml"));
        let kind = if expression::is_json(essence) {
            Kind::Json
        } else if is("application/xml") || is("text/xml") || ends_xml {
            Kind::Xml
        } else if is("application/x-www-form-urlencoded") {
            Kind::Form
        } else {
            return None;
        };
        parts.all(is_readable).then_some(kind)
    }

    /// Of a message; `None` also when its body is coded, or has two types.
    pub(super) fn of(head: &Head) -> Option<Kind> {
        let mut types = head.values_id(FieldId::ContentType);
        let kind = types.next().and_then(Kind::of_type)?;
        let coded = head.values("content-encoding").any(|value| !value.eq_ignore_ascii_case(b"identity"));
        (types.next().is_none() && !coded).then_some(kind)
    }
}

/// Whether a parameter of a content type leaves the body readable.
fn is_readable(parameter: &[u8]) -> bool {
    let Some(at) = parameter.iter().position(|&b| b == b'=') else { return true };
    let (name, value) = parameter.split_at(at);
    if !name.trim_ascii().eq_ignore_ascii_case(b"charset") {
        return true;
    }
    let value: &[u8] = value.get(1..).unwrap_or_default().trim_ascii();
    let value = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
    [&b"utf-8"[..], b"utf8", b"us-ascii"].iter().any(|known| value.eq_ignore_ascii_case(known))
}

/// A change to a body.
#[derive(Debug)]
pub(super) enum BodyEdit {
    Set(BodyPath, BodyValue),
    /// Sets a value that was computed before: its number among these.
    Computed(BodyPath, usize),
    Remove(BodyPath),
    Rename(BodyPath, Box<str>),
    Keep(Keep),
}

/// A value for a body, in the forms of its kinds.
#[derive(Clone, Debug)]
pub(super) struct BodyValue {
    pub(super) json: Box<str>,
    /// `None` for lists and mappings.
    pub(super) text: Option<Box<str>>,
}

impl BodyValue {
    /// A text.
    pub(super) fn of(text: String) -> BodyValue {
        BodyValue { json: serde_json::Value::from(text.as_str()).to_string().into(), text: Some(text.into()) }
    }

    fn plain(&self) -> Result<&str, Trouble> {
        self.text.as_deref().ok_or_else(|| Trouble::shape("a list or mapping is set in a body that has none"))
    }
}

/// Makes changes to a body; `None` when it stays as it is.
pub(super) fn edit(
    kind: Kind,
    bytes: &[u8],
    edits: &[BodyEdit],
    computed: &[BodyValue],
) -> Result<Option<Vec<u8>>, Trouble> {
    match kind {
        Kind::Json => edit_json(bytes, edits, computed),
        Kind::Xml => edit_xml(bytes, edits, computed),
        Kind::Form => edit_form(bytes, edits, computed),
    }
}

fn edit_json(bytes: &[u8], edits: &[BodyEdit], computed: &[BodyValue]) -> Result<Option<Vec<u8>>, Trouble> {
    let mut document = Json::parse(bytes)?;
    let mut changed = false;
    for edit in edits {
        changed |= match edit {
            BodyEdit::Set(path, value) => document.set(&path.0, &Json::Raw(&value.json))?,
            BodyEdit::Computed(path, number) => {
                document.set(&path.0, &Json::Raw(&value_at(computed, *number)?.json))?
            }
            BodyEdit::Remove(path) => document.remove(&path.0)?,
            BodyEdit::Rename(path, new) => document.rename(&path.0, new)?,
            BodyEdit::Keep(keep) => document.keep(keep)?,
        };
    }
    Ok(changed.then(|| {
        let mut out = Vec::with_capacity(bytes.len() + 64);
        document.write(&mut out);
        out
    }))
}

fn edit_xml(bytes: &[u8], edits: &[BodyEdit], computed: &[BodyValue]) -> Result<Option<Vec<u8>>, Trouble> {
    let mut document = Xml::parse(bytes)?;
    let mut changed = false;
    for edit in edits {
        changed |= match edit {
            BodyEdit::Set(path, value) => document.set(&path.0, value.plain()?)?,
            BodyEdit::Computed(path, number) => document.set(&path.0, value_at(computed, *number)?.plain()?)?,
            BodyEdit::Remove(path) => document.remove(&path.0)?,
            BodyEdit::Rename(path, new) => document.rename(&path.0, new)?,
            BodyEdit::Keep(keep) => document.keep(keep)?,
        };
    }
    Ok(changed.then(|| {
        let mut out = Vec::with_capacity(bytes.len() + 64);
        document.write(&mut out);
        out
    }))
}

fn edit_form(bytes: &[u8], edits: &[BodyEdit], computed: &[BodyValue]) -> Result<Option<Vec<u8>>, Trouble> {
    let before = text(bytes)?;
    let mut form = Cow::Borrowed(before);
    for edit in edits {
        let after = match edit {
            BodyEdit::Set(path, value) => Some(set_field(&form, path, value)?),
            BodyEdit::Computed(path, number) => Some(set_field(&form, path, value_at(computed, *number)?)?),
            BodyEdit::Remove(path) => field(path).and_then(|name| pairs::remove(&form, name)),
            BodyEdit::Rename(path, new) => field(path).and_then(|name| pairs::rename(&form, name, new, Writing::Form)),
            BodyEdit::Keep(keep) if keep.is_all() => None,
            BodyEdit::Keep(keep) => pairs::keep(&form, |name| keep.names.iter().any(|(known, _)| name(known))),
        };
        form = after.map_or(form, Cow::Owned);
    }
    Ok(match form {
        Cow::Borrowed(_) => None,
        Cow::Owned(form) => Some(form.into_bytes()),
    })
}

fn set_field(form: &str, path: &BodyPath, value: &BodyValue) -> Result<String, Trouble> {
    let name = field(path).ok_or_else(|| Trouble::shape("a form has fields only"))?;
    Ok(pairs::set(form, name, value.plain()?, Writing::Form))
}

fn value_at(computed: &[BodyValue], number: usize) -> Result<&BodyValue, Trouble> {
    computed.get(number).ok_or_else(|| Trouble::unsendable("a value was not computed"))
}

/// The field of a form that a place is.
fn field(path: &BodyPath) -> Option<&str> {
    if let [Segment::Name(name)] = &*path.0 { Some(name) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_type_and_charset() {
        for (value, kind) in [
            ("application/json", Some(Kind::Json)),
            ("Application/Problem+JSON; charset=\"UTF-8\"", Some(Kind::Json)),
            ("application/json;charset=utf-16", None),
            ("application/json; version=1; CharSet = latin1", None),
            ("text/xml", Some(Kind::Xml)),
            ("image/svg+xml;charset=us-ascii", Some(Kind::Xml)),
            ("application/x-www-form-urlencoded", Some(Kind::Form)),
            ("multipart/form-data; boundary=x", None),
            ("text/plain", None),
            ("", None),
        ] {
            assert_eq!(Kind::of_type(value.as_bytes()), kind, "{value}");
        }
        for (fields, kind) in [
            (&[("content-type", "text/json"), ("content-encoding", "gzip")][..], None),
            (&[("content-type", "text/json"), ("content-encoding", "Identity")], Some(Kind::Json)),
            (&[("content-type", "text/json"), ("content-type", "text/json")], None),
            (&[], None),
        ] {
            let mut head = Head::default();
            for (name, value) in fields {
                head.append(name, value.as_bytes());
            }
            assert_eq!(Kind::of(&head), kind, "{fields:?}");
        }
    }
}
