//! XML as a tree of elements whose texts stay as they were written. No document type is read and no entity is ever expanded. Knows
//! nothing of namespaces but the prefixes as they are written.

use std::borrow::Cow;

use quick_xml::Reader;
use quick_xml::escape::unescape;
use quick_xml::events::attributes::{Attribute, Attributes};
use quick_xml::events::{BytesDecl, BytesRef, Event};

use super::json::{Keep, text};
use super::target::Segment;
use super::trouble::Trouble;

/// Elements within elements.
const MAX_DEPTH: usize = 64;
/// Elements, and pieces of text between them.
const MAX_NODES: usize = 100_000;

/// A document.
#[derive(Debug)]
pub(super) struct Xml<'a> {
    /// What stands before the root, as it was written.
    before: &'a str,
    root: Element<'a>,
    /// What stands behind it.
    behind: &'a str,
}

#[derive(Clone, Debug)]
pub(super) struct Element<'a> {
    pub(super) name: Cow<'a, str>,
    /// As they were written, with the white space before them.
    attributes: Cow<'a, str>,
    pub(super) children: Vec<Child<'a>>,
    /// Whether it is written `<name/>` while it is empty.
    short: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Child<'a> {
    Element(Element<'a>),
    /// Text, references, CDATA, comments and instructions, as they are written.
    Raw(Cow<'a, str>),
}

impl<'a> Xml<'a> {
    /// Reads a document.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Xml<'a>, Trouble> {
        Builder::new(text(bytes)?).build()
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.before.as_bytes());
        self.root.write(out);
        out.extend_from_slice(self.behind.as_bytes());
    }

    /// The way within the root, when the place is in it.
    fn within<'w>(&mut self, way: &'w [Segment]) -> Option<(&mut Element<'a>, &'w [Segment])> {
        let (first, mut rest) = way.split_first()?;
        if !matches!(first, Segment::Name(name) if **name == *self.root.name) {
            return None;
        }
        if let Some((Segment::Index(0) | Segment::Every, behind)) = rest.split_first() {
            rest = behind;
        }
        Some((&mut self.root, rest))
    }

    /// Puts a text at a place, making the elements on the way to it.
    pub(super) fn set(&mut self, way: &[Segment], value: &str) -> Result<bool, Trouble> {
        if !value.chars().all(is_char) {
            return Err(Trouble::shape("a text holds what XML cannot"));
        }
        let within = self.within(way);
        let (root, rest) = within.ok_or_else(|| Trouble::shape("the document has another root"))?;
        root.set(rest, value)
    }

    pub(super) fn remove(&mut self, way: &[Segment]) -> Result<bool, Trouble> {
        match self.within(way) {
            Some((_, [])) => Err(Trouble::shape("a document cannot be without its root")),
            Some((root, rest)) => Ok(root.remove(rest)),
            None => Ok(false),
        }
    }

    pub(super) fn rename(&mut self, way: &[Segment], new: &'a str) -> Result<bool, Trouble> {
        if !is_name(new.strip_prefix('@').unwrap_or(new)) {
            return Err(Trouble::shape("a new name is none of XML"));
        }
        match self.within(way) {
            Some((root, [])) => {
                root.name = Cow::Borrowed(new);
                Ok(true)
            }
            Some((root, rest)) => Ok(root.rename(rest, new)),
            None => Ok(false),
        }
    }

    pub(super) fn keep(&mut self, keep: &Keep) -> Result<bool, Trouble> {
        if keep.is_all() {
            return Ok(false);
        }
        let own = keep.names.iter().find(|(name, _)| **name == *self.root.name);
        let (_, inner) = own.ok_or_else(|| Trouble::shape("it has none of what is kept"))?;
        let inner = inner.at(0).ok_or_else(|| Trouble::shape("it has none of what is kept"))?;
        Ok(self.root.keep(inner))
    }

    pub(super) fn root(&self) -> &Element<'a> {
        &self.root
    }
}

impl<'a> Element<'a> {
    fn new(name: &str) -> Element<'a> {
        Element { name: Cow::Owned(name.to_owned()), attributes: "".into(), children: Vec::new(), short: true }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut push = |text: &str| out.extend_from_slice(text.as_bytes());
        push("<");
        push(&self.name);
        push(&self.attributes);
        if self.short && self.children.is_empty() {
            return push("/>");
        }
        push(">");
        for child in &self.children {
            match child {
                Child::Element(element) => element.write(out),
                Child::Raw(text) => out.extend_from_slice(text.as_bytes()),
            }
        }
        out.extend_from_slice(b"</");
        out.extend_from_slice(self.name.as_bytes());
        out.extend_from_slice(b">");
    }

    /// Its elements of a name.
    fn named<'e>(&'e mut self, name: &'e str) -> impl Iterator<Item = &'e mut Element<'a>> {
        self.children.iter_mut().filter_map(move |child| match child {
            Child::Element(element) if element.name == name => Some(element),
            Child::Element(_) | Child::Raw(_) => None,
        })
    }

    fn set(&mut self, way: &[Segment], value: &str) -> Result<bool, Trouble> {
        let Some((segment, rest)) = way.split_first() else {
            self.children = vec![Child::Raw(escaped(value))];
            return Ok(true);
        };
        let Segment::Name(name) = segment else { return Err(Trouble::shape("an item is needed where it has none")) };
        if let Some(attribute) = name.strip_prefix('@') {
            return if rest.is_empty() {
                self.set_attribute(attribute, value)
            } else {
                Err(Trouble::shape("an attribute holds nothing"))
            };
        }
        let (which, rest) = selected(rest);
        let (mut found, mut changed) = (false, false);
        for element in which.of(self.named(name)) {
            found = true;
            changed |= element.set(rest, value)?;
        }
        if found || which == Which::Every {
            return Ok(changed);
        }
        if which != Which::All {
            return Err(Trouble::shape("it lacks an item that is needed"));
        }
        if !is_name(name) {
            return Err(Trouble::shape("a new name is none of XML"));
        }
        let mut element = Element::new(name);
        element.set(rest, value)?;
        self.children.push(Child::Element(element));
        Ok(true)
    }

    fn remove(&mut self, way: &[Segment]) -> bool {
        let Some((Segment::Name(name), rest)) = way.split_first() else { return false };
        if let Some(attribute) = name.strip_prefix('@') {
            return rest.is_empty() && self.edit_attributes(|kept| kept.retain(|(known, _)| known != attribute));
        }
        let (which, rest) = selected(rest);
        if !rest.is_empty() {
            return which.of(self.named(name)).fold(false, |changed, element| element.remove(rest) | changed);
        }
        let (before, mut at) = (self.children.len(), 0);
        self.children.retain(|child| match child {
            Child::Element(element) if element.name == **name => {
                at += 1;
                !which.takes(at - 1)
            }
            Child::Element(_) | Child::Raw(_) => true,
        });
        before != self.children.len()
    }

    fn rename(&mut self, way: &[Segment], new: &'a str) -> bool {
        let Some((Segment::Name(name), rest)) = way.split_first() else { return false };
        if let Some(old) = name.strip_prefix('@') {
            let new = new.strip_prefix('@').unwrap_or(new);
            if old == new || !rest.is_empty() || !self.attributes().flatten().any(|known| known.key.into_inner() == old)
            {
                return false;
            }
            return self.edit_attributes(|kept| {
                kept.retain(|(known, _)| known != new);
                for (known, _) in kept.iter_mut().filter(|(known, _)| known == old) {
                    new.clone_into(known);
                }
            });
        }
        let (which, rest) = selected(rest);
        let is_last = rest.is_empty();
        which.of(self.named(name)).fold(false, |changed, element| {
            if is_last {
                element.name = Cow::Borrowed(new);
                return true;
            }
            element.rename(rest, new) | changed
        })
    }

    /// Leaves only what is kept; text goes with what is not named.
    fn keep(&mut self, keep: &Keep) -> bool {
        if keep.is_all() {
            return false;
        }
        let wanted = |name: &str| keep.names.iter().find(|(known, _)| **known == *name).map(|(_, inner)| inner);
        let attribute = |known: &str| keep.names.iter().any(|(name, _)| name.strip_prefix('@') == Some(known));
        let mut changed = self.edit_attributes(|kept| {
            // what names a prefix gives the others their meaning
            kept.retain(|(name, _)| attribute(name) || name == "xmlns" || name.starts_with("xmlns:"));
        });
        let mut seen: Vec<(Box<str>, usize)> = Vec::new();
        self.children.retain_mut(|child| {
            let Child::Element(element) = child else {
                let blank = matches!(child, Child::Raw(text) if text.trim_ascii().is_empty());
                changed |= !blank;
                return blank;
            };
            let inner = wanted(&element.name).and_then(|inner| inner.at(count(&mut seen, &element.name)));
            changed |= inner.is_none_or(|inner| element.keep(inner));
            inner.is_some()
        });
        changed
    }

    fn attributes(&self) -> Attributes<'_> {
        Attributes::new(&self.attributes, 0)
    }

    /// Its attributes, names and values as they are meant.
    pub(super) fn attribute_values(&self) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
        self.attributes().flatten().map(|known| {
            let value = known.value;
            let plain = unescape(&value).map_or_else(|_| value.to_string(), Cow::into_owned);
            (known.key.into_inner(), Cow::Owned(plain))
        })
    }

    fn set_attribute(&mut self, name: &str, value: &str) -> Result<bool, Trouble> {
        if !is_name(name) {
            return Err(Trouble::shape("a new name is none of XML"));
        }
        let value = escaped(value).into_owned();
        self.edit_attributes(|kept| match kept.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => kept.push((name.to_owned(), value)),
        });
        Ok(true)
    }

    /// Changes its attributes, names and values as they are written. Says whether anything changed.
    fn edit_attributes(&mut self, edit: impl FnOnce(&mut Vec<(String, String)>)) -> bool {
        let written = |known: Attribute<'_>| (known.key.into_inner().to_owned(), known.value.replace('"', "&quot;"));
        let before: Vec<(String, String)> = self.attributes().flatten().map(written).collect();
        let mut after = before.clone();
        edit(&mut after);
        if before == after {
            return false;
        }
        let all = after.iter().map(|(name, value)| format!(" {name}=\"{value}\""));
        self.attributes = Cow::Owned(all.collect());
        true
    }
}

/// How often a name came before.
fn count(seen: &mut Vec<(Box<str>, usize)>, name: &str) -> usize {
    if let Some((_, count)) = seen.iter_mut().find(|(known, _)| **known == *name) {
        *count += 1;
        return *count;
    }
    seen.push((name.into(), 0));
    0
}

/// Which of the elements of one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    /// All there are; where there is none, one is made.
    All,
    /// All there are.
    Every,
    One(usize),
}

impl Which {
    fn takes(self, at: usize) -> bool {
        match self {
            Which::All | Which::Every => true,
            Which::One(number) => number == at,
        }
    }

    fn of<T>(self, all: impl Iterator<Item = T>) -> impl Iterator<Item = T> {
        all.enumerate().filter(move |(at, _)| self.takes(*at)).map(|(_, one)| one)
    }
}

/// What of a name's elements a way goes on with.
fn selected(way: &[Segment]) -> (Which, &[Segment]) {
    match way.split_first() {
        Some((Segment::Index(number), rest)) => (Which::One(*number), rest),
        Some((Segment::Every, rest)) => (Which::Every, rest),
        Some((Segment::Name(_), _)) | None => (Which::All, way),
    }
}

/// Reads events into a tree.
struct Builder<'a> {
    source: &'a str,
    reader: Reader<&'a [u8]>,
    /// Elements that are not closed yet, the root first.
    open: Vec<Element<'a>>,
    root: Option<Element<'a>>,
    /// Where the root begins and ends.
    begins: usize,
    ends: usize,
    nodes: usize,
}

impl<'a> Builder<'a> {
    fn new(source: &'a str) -> Builder<'a> {
        let mut reader = Reader::from_str(source);
        reader.config_mut().check_comments = true;
        reader.config_mut().trim_markup_names_in_closing_tags = true;
        Builder { source, reader, open: Vec::new(), root: None, begins: 0, ends: 0, nodes: 0 }
    }

    fn build(mut self) -> Result<Xml<'a>, Trouble> {
        loop {
            let from = self.position();
            let event = self.reader.read_event().map_err(Trouble::malformed)?;
            let piece = self.source.get(from..self.position()).unwrap_or_default();
            if !piece.chars().all(is_char) {
                return Err(Trouble::malformed("it holds what XML cannot"));
            }
            self.nodes += 1;
            if self.nodes > MAX_NODES {
                return Err(Trouble::malformed("it has too many elements"));
            }
            match event {
                Event::Eof => break,
                Event::Start(_) => self.start(element(piece, ">")?, from)?,
                Event::Empty(_) => {
                    self.start(element(piece, "/>")?, from)?;
                    self.end()?;
                }
                Event::End(_) => self.end()?,
                Event::Text(_) if self.open.is_empty() => {
                    if !piece.trim_matches([' ', '\t', '\r', '\n']).is_empty() {
                        return Err(Trouble::malformed("text stands outside of the root"));
                    }
                }
                Event::Text(_) if piece.contains("]]>") => return Err(Trouble::malformed("`]]>` stands in a text")),
                Event::GeneralRef(reference) => {
                    check_reference(&reference)?;
                    self.raw(piece)?;
                }
                Event::Text(_) | Event::CData(_) => self.raw(piece)?,
                Event::Comment(_) | Event::PI(_) => {
                    if !self.open.is_empty() {
                        self.raw(piece)?;
                    }
                }
                Event::Decl(declaration) => check_declaration(&declaration, from)?,
                Event::DocType(_) => return Err(Trouble::malformed("it has a document type")),
            }
        }
        let root = self.root.filter(|_| self.open.is_empty());
        let root = root.ok_or_else(|| Trouble::malformed("its root does not end"))?;
        let source = self.source;
        let before = source.get(..self.begins).unwrap_or_default();
        Ok(Xml { before, root, behind: source.get(self.ends..).unwrap_or_default() })
    }

    fn position(&self) -> usize {
        usize::try_from(self.reader.buffer_position()).unwrap_or(usize::MAX)
    }

    fn start(&mut self, element: Element<'a>, at: usize) -> Result<(), Trouble> {
        if self.open.is_empty() {
            if self.root.is_some() {
                return Err(Trouble::malformed("it has two roots"));
            }
            self.begins = at;
        }
        if self.open.len() == MAX_DEPTH {
            return Err(Trouble::malformed("its elements are too deep"));
        }
        self.open.push(element);
        Ok(())
    }

    fn end(&mut self) -> Result<(), Trouble> {
        let element = self.open.pop().ok_or_else(|| Trouble::malformed("an element ends that did not begin"))?;
        match self.open.last_mut() {
            Some(parent) => parent.children.push(Child::Element(element)),
            None => {
                self.root = Some(element);
                self.ends = self.position();
            }
        }
        Ok(())
    }

    fn raw(&mut self, piece: &'a str) -> Result<(), Trouble> {
        let parent = self.open.last_mut().ok_or_else(|| Trouble::malformed("text stands outside of the root"))?;
        parent.children.push(Child::Raw(Cow::Borrowed(piece)));
        Ok(())
    }
}

/// The element of a tag, as it was written.
fn element<'a>(tag: &'a str, end: &str) -> Result<Element<'a>, Trouble> {
    let inner = tag.strip_prefix('<').and_then(|tag| tag.strip_suffix(end));
    let inner = inner.ok_or_else(|| Trouble::malformed("a tag does not end"))?;
    let length = inner.find([' ', '\t', '\r', '\n']).unwrap_or(inner.len());
    let (name, attributes) = inner.split_at(length);
    if !is_name(name) || attributes.contains('<') {
        return Err(Trouble::malformed("a tag is malformed"));
    }
    for attribute in Attributes::new(attributes, 0) {
        let attribute = attribute.map_err(Trouble::malformed)?;
        unescape(&attribute.value).map_err(Trouble::malformed)?;
        if !is_name(attribute.key.into_inner()) {
            return Err(Trouble::malformed("an attribute is malformed"));
        }
    }
    let attributes = Cow::Borrowed(attributes.trim_end_matches([' ', '\t', '\r', '\n']));
    Ok(Element { name: Cow::Borrowed(name), attributes, children: Vec::new(), short: end == "/>" })
}

/// Of entities, only the five of XML itself and characters by number are known.
fn check_reference(reference: &BytesRef<'_>) -> Result<(), Trouble> {
    let known = match reference.resolve_char_ref().map_err(Trouble::malformed)? {
        Some(char) => is_char(char),
        None => matches!(&**reference, "amp" | "lt" | "gt" | "quot" | "apos"),
    };
    if known { Ok(()) } else { Err(Trouble::malformed("it refers to an entity")) }
}

fn check_declaration(declaration: &BytesDecl<'_>, at: usize) -> Result<(), Trouble> {
    let encoding = declaration.encoding().transpose().map_err(Trouble::malformed)?;
    if at > 0
        || encoding.is_some_and(|name| !name.eq_ignore_ascii_case("utf-8") && !name.eq_ignore_ascii_case("us-ascii"))
    {
        return Err(Trouble::malformed("its declaration is misplaced or names another encoding than UTF-8"));
    }
    Ok(())
}

/// Whether XML 1.0 may hold a character (section 2.2).
fn is_char(char: char) -> bool {
    matches!(char, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// Whether a text is the name of an element or attribute, as nearly as matters: nothing that ends a name.
fn is_name(name: &str) -> bool {
    let ends = |c: char| {
        c.is_whitespace() || c.is_control() || (c.is_ascii() && !c.is_ascii_alphanumeric() && !"_:-.".contains(c))
    };
    let begins = name.chars().next().is_some_and(|c| !c.is_ascii_digit() && c != '-' && c != '.');
    begins && !name.contains(ends)
}

fn escaped<'a>(value: &str) -> Cow<'a, str> {
    let escaped = quick_xml::escape::escape(value).into_owned();
    // a bare one would be read as a line feed
    Cow::Owned(escaped.replace('\r', "&#13;"))
}
