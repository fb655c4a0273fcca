//! Parameters as OpenAPI serialises them (3.1, section 4.8.12.2; RFC 6570): texts in, JSON values out. Knows no document and no request.

use std::borrow::Cow;

use daemun_pipeline::Head;
use serde_json::{Map, Value};

use super::super::form::Pairs;
use super::super::text::{Shape, decode};

/// Items of one list, and properties of one object.
const MAX_ITEMS: usize = 1000;

/// Keys in brackets behind one name: as deep as an object may be.
const MAX_KEYS: usize = 16;

/// Where a parameter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    Path,
    Query,
    Header,
    Cookie,
}

/// How lists and objects are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Simple,
    Label,
    Matrix,
    Form,
    SpaceDelimited,
    PipeDelimited,
    DeepObject,
}

impl Style {
    /// The style of a name, where it may be used.
    pub(crate) fn of(name: &str, location: Location) -> Option<Style> {
        match (name, location) {
            ("simple", Location::Path | Location::Header) => Some(Style::Simple),
            ("label", Location::Path) => Some(Style::Label),
            ("matrix", Location::Path) => Some(Style::Matrix),
            ("form", Location::Query | Location::Cookie) => Some(Style::Form),
            ("spaceDelimited", Location::Query) => Some(Style::SpaceDelimited),
            ("pipeDelimited", Location::Query) => Some(Style::PipeDelimited),
            ("deepObject", Location::Query) => Some(Style::DeepObject),
            _ => None,
        }
    }

    /// The one that is meant where none is named.
    pub(crate) fn default_of(location: Location) -> Style {
        match location {
            Location::Path | Location::Header => Style::Simple,
            Location::Query | Location::Cookie => Style::Form,
        }
    }
}

/// How one parameter is written.
#[derive(Clone, Debug)]
pub(crate) struct Coding {
    pub(crate) name: String,
    pub(crate) location: Location,
    pub(crate) style: Style,
    pub(crate) explode: bool,
    pub(crate) shape: Shape,
    /// Its text is JSON.
    pub(crate) json: bool,
}

/// What a parameter came to: its value, or that it is not there, or why it cannot be read.
pub(crate) type Decoded = Result<Option<Value>, String>;

impl Coding {
    /// Reads it out of a path segment.
    pub(crate) fn of_segment(&self, segment: &str) -> Decoded {
        if self.json {
            return json(&text(segment, false)?).map(Some);
        }
        match self.style {
            Style::Label => {
                let rest = segment.strip_prefix('.').ok_or("must begin with `.`")?;
                self.split(rest, if self.explode { '.' } else { ',' }, false).map(Some)
            }
            Style::Matrix => self.matrix(segment).map(Some),
            Style::Simple | Style::Form | Style::SpaceDelimited | Style::PipeDelimited | Style::DeepObject => {
                self.split(segment, ',', false).map(Some)
            }
        }
    }

    /// Reads it out of a query, or of the cookies of a request.
    pub(crate) fn of_pairs(&self, pairs: &Pairs<'_>) -> Decoded {
        let plus = self.location == Location::Query;
        if self.json {
            return match self.only(pairs)? {
                Some(value) => json(&text(value, plus)?).map(Some),
                None => Ok(None),
            };
        }
        if self.style == Style::DeepObject {
            return self.deep(pairs);
        }
        let object = self.shape.object && !self.shape.is_scalar() && !self.shape.array;
        if object && self.explode && self.style == Style::Form {
            return self.spread(pairs, plus);
        }
        let separator = match self.style {
            Style::SpaceDelimited => ' ',
            Style::PipeDelimited => '|',
            Style::Simple | Style::Label | Style::Matrix | Style::Form | Style::DeepObject => ',',
        };
        if self.shape.array && self.explode {
            let texts: Vec<Cow<'_, str>> =
                pairs.values(&self.name).map(|value| text(value, plus)).collect::<Result<_, _>>()?;
            return Ok((!texts.is_empty()).then(|| self.shape.values(texts)));
        }
        match self.only(pairs)? {
            Some(value) => self.split(value, separator, plus).map(Some),
            None => Ok(None),
        }
    }

    /// Reads it out of a head.
    pub(crate) fn of_head(&self, head: &Head) -> Decoded {
        let mut joined = String::new();
        let mut any = false;
        for value in head.values(&self.name) {
            let value = std::str::from_utf8(value).map_err(|_| "is not UTF-8")?;
            if any {
                joined.push(',');
            }
            any = true;
            joined.push_str(value);
        }
        match any {
            true if self.json => json(&joined).map(Some),
            true => self.plain_split(&joined).map(Some),
            false => Ok(None),
        }
    }

    /// The one value of its name; a list that is not asked for is refused, since two readers could take another value of it.
    fn only<'t>(&self, pairs: &Pairs<'t>) -> Result<Option<&'t str>, String> {
        let mut values = pairs.values(&self.name);
        let first = values.next();
        if values.next().is_some() {
            return Err("must be given once only".to_owned());
        }
        Ok(first)
    }

    /// A text that may be a list or an object by its separator.
    fn split(&self, raw: &str, separator: char, plus: bool) -> Result<Value, String> {
        let shape = &self.shape;
        let pieces = Pieces { raw, separator };
        if shape.is_scalar() && !(shape.array && pieces.are_many()) {
            return Ok(shape.value(&text(raw, plus)?));
        }
        let pieces = pieces.list(plus)?;
        if shape.array || !shape.object {
            return Ok(pieces.iter().map(|piece| shape.item().value(piece)).collect());
        }
        self.object(&pieces)
    }

    /// A header's list: white space around items is none of theirs, and nothing is percent-encoded.
    fn plain_split(&self, raw: &str) -> Result<Value, String> {
        let shape = &self.shape;
        if shape.is_scalar() && !(shape.array && raw.contains(',')) {
            return Ok(shape.value(raw));
        }
        let pieces: Vec<Cow<'_, str>> = match raw {
            "" => Vec::new(),
            raw => raw.split(',').take(MAX_ITEMS + 1).map(|piece| Cow::Borrowed(piece.trim())).collect(),
        };
        if pieces.len() > MAX_ITEMS {
            return Err(too_many());
        }
        if shape.array || !shape.object {
            return Ok(pieces.iter().map(|piece| shape.item().value(piece)).collect());
        }
        self.object(&pieces)
    }

    /// `R,100,G,200`, or exploded `R=100,G=200`.
    fn object(&self, pieces: &[Cow<'_, str>]) -> Result<Value, String> {
        let mut map = Map::new();
        let mut rest = pieces.iter();
        while let Some(piece) = rest.next() {
            let (name, value) = if self.explode {
                piece.split_once('=').ok_or("must hold pairs of a name, `=` and a value")?
            } else {
                (piece.as_ref(), rest.next().ok_or("must hold names and values in turn")?.as_ref())
            };
            put(&mut map, name, self.shape.named(name).value(value))?;
        }
        Ok(Value::Object(map))
    }

    /// `;color=blue,black`, or exploded `;color=blue;color=black` and `;R=100;G=200`.
    fn matrix(&self, segment: &str) -> Result<Value, String> {
        let rest = segment.strip_prefix(';').ok_or("must begin with `;`")?;
        let expected = || format!("must be written `;{}=…`", self.name);
        if !self.explode || self.shape.is_scalar() && !rest.contains(';') {
            let value = match rest.split_once('=') {
                Some((name, value)) if name == self.name => value,
                None if rest == self.name => "",
                _ => return Err(expected()),
            };
            return self.split(value, ',', false);
        }
        let object = self.shape.object && !self.shape.array;
        let (mut items, mut map) = (Vec::new(), Map::new());
        for pair in rest.split(';') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = text(value, false)?;
            if object {
                let name = text(name, false)?;
                put(&mut map, &name, self.shape.named(&name).value(&value))?;
            } else if name == self.name && items.len() < MAX_ITEMS {
                items.push(self.shape.item().value(&value));
            } else {
                return Err(expected());
            }
        }
        Ok(if object { Value::Object(map) } else { Value::Array(items) })
    }

    /// `filter[since]=…&filter[tags]=a&filter[tags]=b`; brackets within brackets are objects in objects.
    fn deep(&self, pairs: &Pairs<'_>) -> Decoded {
        let mut map = Map::new();
        let mut any = false;
        for (name, value) in &pairs.0 {
            let Some(rest) = name.strip_prefix(self.name.as_str()).filter(|rest| rest.starts_with('[')) else {
                continue;
            };
            any = true;
            if rest.bytes().filter(|&b| b == b'[').nth(MAX_KEYS).is_some() {
                return Err(format!("has more than {MAX_KEYS} keys in brackets"));
            }
            let mut keys =
                rest.split('[').skip(1).map(|key| key.strip_suffix(']').ok_or("must be written `name[key]`"));
            let first = keys.next().ok_or("must be written `name[key]`")??;
            deepen(&mut map, &self.shape, first, &mut keys, &text(value, true)?)?;
        }
        Ok(any.then_some(Value::Object(map)))
    }

    /// An object whose properties are parameters of their own.
    fn spread(&self, pairs: &Pairs<'_>, plus: bool) -> Decoded {
        let mut map = Map::new();
        for (name, shape) in &self.shape.properties {
            let texts: Vec<Cow<'_, str>> =
                pairs.values(name).map(|value| text(value, plus)).collect::<Result<_, _>>()?;
            if !texts.is_empty() {
                map.insert(name.clone(), shape.values(texts));
            }
        }
        Ok((!map.is_empty()).then_some(Value::Object(map)))
    }
}

/// Puts a value below the keys in brackets, of which there are [`MAX_KEYS`] at most; an empty key, or a key that comes again, makes a list.
fn deepen(
    map: &mut Map<String, Value>,
    shape: &Shape,
    key: &str,
    keys: &mut dyn Iterator<Item = Result<&str, &'static str>>,
    text: &str,
) -> Result<(), String> {
    const MIXED: &str = "has a key that is both a value and an object";
    let own = shape.named(key);
    let length = map.len();
    match keys.next().transpose()? {
        Some(next) if !next.is_empty() => {
            let below = map.entry(key).or_insert_with(|| Value::Object(Map::new()));
            let below = below.as_object_mut().ok_or(MIXED)?;
            deepen(below, own, next, keys, text)?;
        }
        list => {
            let item = if own.array { own.item() } else { own };
            let value = item.value(text);
            match map.get_mut(key) {
                None if list.is_some() || own.array => drop(map.insert(key.to_owned(), Value::Array(vec![value]))),
                None => drop(map.insert(key.to_owned(), value)),
                Some(Value::Array(items)) if items.len() < MAX_ITEMS => items.push(value),
                Some(_) => return Err(MIXED.to_owned()),
            }
        }
    }
    if length >= MAX_ITEMS { Err(too_many()) } else { Ok(()) }
}

fn put(map: &mut Map<String, Value>, name: &str, value: Value) -> Result<(), String> {
    if map.insert(name.to_owned(), value).is_some() {
        return Err("must give each name once only".to_owned());
    }
    Ok(())
}

/// Pieces of a raw text between separators, which stand as they are or, where clients encode them, encoded.
struct Pieces<'t> {
    raw: &'t str,
    separator: char,
}

impl<'t> Pieces<'t> {
    fn are_many(&self) -> bool {
        self.split().nth(1).is_some()
    }

    fn split(&self) -> Box<dyn Iterator<Item = &'t str> + 't> {
        match self.separator {
            ' ' => Box::new(self.raw.split("%20").flat_map(|piece| piece.split('+'))),
            '|' => {
                Box::new(self.raw.split('|').flat_map(|piece| piece.split("%7C")).flat_map(|piece| piece.split("%7c")))
            }
            separator => Box::new(self.raw.split(separator)),
        }
    }

    fn list(&self, plus: bool) -> Result<Vec<Cow<'t, str>>, String> {
        if self.raw.is_empty() {
            return Ok(Vec::new());
        }
        let list: Vec<_> = self.split().take(MAX_ITEMS + 1).map(|piece| text(piece, plus)).collect::<Result<_, _>>()?;
        if list.len() > MAX_ITEMS { Err(too_many()) } else { Ok(list) }
    }
}

fn too_many() -> String {
    format!("has more than {MAX_ITEMS} items")
}

fn text(raw: &str, plus: bool) -> Result<Cow<'_, str>, String> {
    decode(raw, plus).map_err(|()| "is not UTF-8".to_owned())
}

fn json(text: &str) -> Result<Value, String> {
    super::super::json::read(text.as_bytes()).map(|read| read.value).map_err(|refused| refused.message)
}
