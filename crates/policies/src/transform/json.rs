//! JSON that is opened only where a step leads: everything else stays the text it was, so that numbers, order and spaces of what is not
//! touched survive. Knows nothing of steps' settings.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::target::Segment;
use super::trouble::Trouble;

/// Members or items of one value that may be opened.
const MAX_VALUES: usize = 200_000;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json<'a> {
    /// As it was written, not opened; always well-formed where it was reached.
    Raw(&'a str),
    /// Members in their order; no name twice.
    Object(Vec<Member<'a>>),
    /// Items.
    Array(Vec<Json<'a>>),
}

/// A member of an object.
type Member<'a> = (Cow<'a, str>, Json<'a>);

impl<'a> Json<'a> {
    /// Reads a document; what it holds is opened when it is needed, but all of it is known to be well-formed.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Json<'a>, Trouble> {
        let text = text(bytes)?;
        let mut document = Json::Raw(text.trim_matches([' ', '\t', '\n', '\r']));
        if document.object()?.is_none() && document.array()?.is_none() {
            // nothing was opened, so nothing was read yet
            serde_json::from_str::<&RawValue>(text).map_err(malformed)?;
        }
        Ok(document)
    }

    /// Its members, when it is an object.
    fn object(&mut self) -> Result<Option<&mut Vec<Member<'a>>>, Trouble> {
        if let Json::Raw(text) = self
            && text.starts_with('{')
        {
            *self = Json::Object(serde_json::from_str::<Members<'a>>(text).map_err(malformed)?.0);
        }
        Ok(if let Json::Object(members) = self { Some(members) } else { None })
    }

    /// Its items, when it is an array.
    fn array(&mut self) -> Result<Option<&mut Vec<Json<'a>>>, Trouble> {
        if let Json::Raw(text) = self
            && text.starts_with('[')
        {
            *self = Json::Array(serde_json::from_str::<Items<'a>>(text).map_err(malformed)?.0);
        }
        Ok(if let Json::Array(items) = self { Some(items) } else { None })
    }

    fn is_null(&self) -> bool {
        matches!(self, Json::Raw("null"))
    }

    /// Puts a value at a place, making the objects on the way to it; says whether anything changed.
    pub(super) fn set(&mut self, way: &[Segment], value: &Json<'a>) -> Result<bool, Trouble> {
        let Some((segment, rest)) = way.split_first() else {
            *self = value.clone();
            return Ok(true);
        };
        match segment {
            Segment::Name(name) => {
                let was_null = self.is_null();
                if was_null {
                    *self = Json::Object(Vec::new());
                }
                let members = self.object()?.ok_or_else(|| Trouble::shape("an object is needed where it has none"))?;
                if let Some((_, inner)) = members.iter_mut().find(|(known, _)| **known == **name) {
                    return inner.set(rest, value);
                }
                let mut inner = Json::Raw("null");
                let nothing = rest.first() == Some(&Segment::Every);
                if !nothing && inner.set(rest, value)? {
                    members.push((Cow::Owned(name.to_string()), inner));
                    return Ok(true);
                }
                if was_null {
                    *self = Json::Raw("null");
                }
                Ok(false)
            }
            Segment::Index(number) => {
                let item = self.array()?.and_then(|items| items.get_mut(*number));
                item.ok_or_else(|| Trouble::shape("it lacks an item that is needed"))?.set(rest, value)
            }
            Segment::Every => {
                if self.is_null() {
                    return Ok(false);
                }
                let items = self.array()?.ok_or_else(|| Trouble::shape("a list is needed where it has none"))?;
                items.iter_mut().try_fold(false, |changed, item| Ok(item.set(rest, value)? | changed))
            }
        }
    }

    /// Takes out what stands at a place; says whether there was anything.
    pub(super) fn remove(&mut self, way: &[Segment]) -> Result<bool, Trouble> {
        let Some((segment, rest)) = way.split_first() else { return Ok(false) };
        if !rest.is_empty() {
            return self.each(segment, |inner| inner.remove(rest));
        }
        match segment {
            Segment::Name(name) => {
                let Some(members) = self.object()? else { return Ok(false) };
                let at = members.iter().position(|(known, _)| **known == **name);
                at.map(|at| members.remove(at));
                Ok(at.is_some())
            }
            Segment::Index(number) => {
                let Some(items) = self.array()?.filter(|items| *number < items.len()) else { return Ok(false) };
                items.remove(*number);
                Ok(true)
            }
            Segment::Every => {
                let Some(items) = self.array()? else { return Ok(false) };
                let any = !items.is_empty();
                items.clear();
                Ok(any)
            }
        }
    }

    /// Gives the member at a place another name, in place of what had it before.
    pub(super) fn rename(&mut self, way: &[Segment], new: &'a str) -> Result<bool, Trouble> {
        let Some((segment, rest)) = way.split_first() else { return Ok(false) };
        if !rest.is_empty() {
            return self.each(segment, |inner| inner.rename(rest, new));
        }
        let Segment::Name(old) = segment else { return Ok(false) };
        let Some(members) = self.object()? else { return Ok(false) };
        if **old == *new || !members.iter().any(|(known, _)| **known == **old) {
            return Ok(false);
        }
        members.retain(|(known, _)| **known != *new);
        for (known, _) in members.iter_mut().filter(|(known, _)| **known == **old) {
            *known = Cow::Borrowed(new);
        }
        Ok(true)
    }

    /// Does the same with all that one segment leads to.
    fn each(
        &mut self,
        segment: &Segment,
        mut act: impl FnMut(&mut Json<'a>) -> Result<bool, Trouble>,
    ) -> Result<bool, Trouble> {
        match segment {
            Segment::Name(name) => {
                let inner = self.object()?.and_then(|members| members.iter_mut().find(|(known, _)| **known == **name));
                inner.map_or(Ok(false), |(_, inner)| act(inner))
            }
            Segment::Index(number) => self.array()?.and_then(|items| items.get_mut(*number)).map_or(Ok(false), act),
            Segment::Every => {
                let items = self.array()?.map(Vec::as_mut_slice).unwrap_or_default();
                items.iter_mut().try_fold(false, |changed, item| Ok(act(item)? | changed))
            }
        }
    }

    /// Leaves only what is kept. The whole must be of the kind that is kept from.
    pub(super) fn keep(&mut self, keep: &Keep) -> Result<bool, Trouble> {
        match self.prune(keep)? {
            Pruned::Gone => Err(Trouble::shape("it has none of what is kept")),
            Pruned::Same => Ok(false),
            Pruned::Less => Ok(true),
        }
    }

    fn prune(&mut self, keep: &Keep) -> Result<Pruned, Trouble> {
        if keep.all {
            return Ok(Pruned::Same);
        }
        if !keep.names.is_empty()
            && let Some(members) = self.object()?
        {
            return retain(members, |(name, inner), _| match keep.names.iter().find(|(known, _)| **known == **name) {
                Some((_, keep)) => inner.prune(keep),
                None => Ok(Pruned::Gone),
            });
        }
        if (keep.every.is_some() || !keep.items.is_empty())
            && let Some(items) = self.array()?
        {
            return retain(items, |inner, at| {
                let own = keep.items.iter().find(|(known, _)| *known == at).map(|(_, keep)| keep);
                match own.or(keep.every.as_deref()) {
                    Some(keep) => inner.prune(keep),
                    None => Ok(Pruned::Gone),
                }
            });
        }
        Ok(Pruned::Gone)
    }

    /// Writes it.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Json::Raw(text) => out.extend_from_slice(text.as_bytes()),
            Json::Object(members) => {
                out.push(b'{');
                for (at, (name, inner)) in members.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    write_text(name, out);
                    out.push(b':');
                    inner.write(out);
                }
                out.push(b'}');
            }
            Json::Array(items) => {
                out.push(b'[');
                for (at, inner) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    inner.write(out);
                }
                out.push(b']');
            }
        }
    }

    /// Opens one level: its members or items, or the text of what has none.
    pub(super) fn open(text: &'a str) -> Result<Json<'a>, Trouble> {
        let mut value = Json::Raw(text);
        if value.object()?.is_none() {
            value.array()?;
        }
        Ok(value)
    }
}

/// Writes a text in quotes.
pub(super) fn write_text(text: &str, out: &mut Vec<u8>) {
    // a text and a buffer do not fail
    let _ = serde_json::to_writer(out, text);
}

/// The text of a body, which is UTF-8 without a mark (RFC 8259, section 8.1).
pub(super) fn text(bytes: &[u8]) -> Result<&str, Trouble> {
    if bytes.starts_with(&[0xef, 0xbb, 0xbf]) || bytes.starts_with(&[0xfe, 0xff]) || bytes.starts_with(&[0xff, 0xfe]) {
        return Err(Trouble::malformed("it begins with a byte order mark"));
    }
    std::str::from_utf8(bytes).map_err(|_| Trouble::malformed("it is not UTF-8"))
}

fn malformed(error: serde_json::Error) -> Trouble {
    Trouble::malformed(error)
}

/// What pruning left.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pruned {
    Gone,
    Less,
    Same,
}

fn retain<T>(
    all: &mut Vec<T>,
    mut prune: impl FnMut(&mut T, usize) -> Result<Pruned, Trouble>,
) -> Result<Pruned, Trouble> {
    let (mut at, mut less, mut failed) = (0, false, None);
    all.retain_mut(|one| {
        let pruned = if failed.is_some() { Ok(Pruned::Same) } else { prune(one, at) };
        at += 1;
        match pruned {
            Ok(pruned) => {
                less |= pruned != Pruned::Same;
                pruned != Pruned::Gone
            }
            Err(trouble) => {
                failed = Some(trouble);
                true
            }
        }
    });
    failed.map_or(Ok(if less { Pruned::Less } else { Pruned::Same }), Err)
}

/// What of a body is kept: all, or some of its members and items.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Keep {
    all: bool,
    pub(super) names: Vec<(Box<str>, Keep)>,
    items: Vec<(usize, Keep)>,
    every: Option<Box<Keep>>,
}

impl Keep {
    /// Adds a place that is kept with all that is in it.
    pub(super) fn add(&mut self, way: &[Segment]) {
        let Some((segment, rest)) = way.split_first() else {
            self.all = true;
            return;
        };
        let inner = match segment {
            Segment::Name(name) => entry(&mut self.names, name),
            Segment::Index(number) => entry(&mut self.items, number),
            Segment::Every => &mut **self.every.get_or_insert_default(),
        };
        inner.add(rest);
    }

    /// Whether all of it is kept.
    pub(super) fn is_all(&self) -> bool {
        self.all
    }

    /// What is kept of the element of this number among those of one name; without numbers, the same of each.
    pub(super) fn at(&self, number: usize) -> Option<&Keep> {
        if self.all || !self.names.is_empty() {
            return Some(self);
        }
        let own = self.items.iter().find(|(known, _)| *known == number).map(|(_, keep)| keep);
        own.or(self.every.as_deref())
    }
}

fn entry<'k, K: Clone + PartialEq>(known: &'k mut Vec<(K, Keep)>, key: &K) -> &'k mut Keep {
    let at = known.iter().position(|(other, _)| other == key).unwrap_or_else(|| {
        known.push((key.clone(), Keep::default()));
        known.len() - 1
    });
    #[allow(clippy::indexing_slicing, reason = "found, or pushed just now")]
    &mut known[at].1
}

/// Members of an object, each of them not opened.
struct Members<'a>(Vec<Member<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(Name(name)) = map.next_key()? {
                    if members.len() == MAX_VALUES {
                        return Err(A::Error::custom("too many members"));
                    }
                    members.push((name, Json::Raw(map.next_value::<&RawValue>()?.get())));
                }
                if repeats(&members) {
                    return Err(A::Error::custom("an object has two members of one name"));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Read)
    }
}

/// Whether a name stands twice: readers differ in which of the two they take.
fn repeats(members: &[Member<'_>]) -> bool {
    if members.len() <= 16 {
        let mut before = members.iter().enumerate();
        return before.any(|(at, (name, _))| members.iter().take(at).any(|(other, _)| other == name));
    }
    let mut known = HashSet::with_capacity(members.len());
    !members.iter().all(|(name, _)| known.insert(&**name))
}

/// The name of a member, borrowed where it holds no escape.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(Read)
    }
}

/// Items of an array, each of them not opened.
struct Items<'a>(Vec<Json<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Items<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Items<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Items<'de>, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element::<&RawValue>()? {
                    if items.len() == MAX_VALUES {
                        return Err(A::Error::custom("too many items"));
                    }
                    items.push(Json::Raw(item.get()));
                }
                Ok(Items(items))
            }
        }
        deserializer.deserialize_seq(Read)
    }
}
