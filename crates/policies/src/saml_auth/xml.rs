//! XML that can be read in one way and costs no more than its length: nothing in it makes it another text than the one that is written. No
//! document type, no entities, no instructions; bounded in depth and number. Knows no signature and no assertion.

use quick_xml::Reader;
use quick_xml::escape::unescape;
use quick_xml::events::{BytesStart, Event};
use uppsala::{Document, Element, NodeId, NodeKind};

use super::Refused;

/// Elements within elements.
const MOST_DEEP: usize = 32;
/// Elements, and pieces of text between them.
const MOST_PIECES: usize = 8_192;
/// Elements.
const MOST_ELEMENTS: usize = 2_048;
/// Attributes of one element.
const MOST_ATTRIBUTES: usize = 32;
/// Prefixes that are declared in an element and those around it.
const MOST_PREFIXES: usize = 32;

/// Reads a text.
///
/// # Errors
/// When it is not well-formed, holds what is not taken, or is too much.
pub(super) fn parse(text: &str) -> Result<Document<'_>, Refused> {
    check(text)?;
    uppsala::parse(text).map_err(|_| Refused("it is not well-formed XML"))
}

/// Refuses what would be more than it looks like, before anything is built of it.
fn check(text: &str) -> Result<(), Refused> {
    const MALFORMED: Refused = Refused("it is not well-formed XML");
    if !text.chars().all(is_char) {
        return Err(MALFORMED);
    }
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_comments = true;
    // how many prefixes each open element declares
    let mut open: Vec<usize> = Vec::new();
    let (mut pieces, mut elements, mut begun) = (0, 0, false);
    loop {
        pieces += 1;
        if pieces > MOST_PIECES || elements > MOST_ELEMENTS || open.len() > MOST_DEEP {
            return Err(Refused("it has too many elements, or they are too deep"));
        }
        match reader.read_event().map_err(|_| MALFORMED)? {
            Event::Eof => return if open.is_empty() { Ok(()) } else { Err(MALFORMED) },
            Event::Start(tag) => {
                elements += 1;
                open.push(check_tag(&tag, open.iter().sum())?);
            }
            Event::Empty(tag) => {
                elements += 1;
                check_tag(&tag, open.iter().sum())?;
            }
            Event::End(_) => {
                open.pop().ok_or(MALFORMED)?;
            }
            Event::GeneralRef(reference) => {
                let known = match reference.resolve_char_ref().map_err(|_| MALFORMED)? {
                    Some(char) => is_char(char),
                    None => matches!(&*reference, "amp" | "lt" | "gt" | "quot" | "apos"),
                };
                if !known {
                    return Err(Refused("it refers to an entity"));
                }
            }
            Event::Decl(declaration) => {
                let encoding = declaration.encoding().transpose().map_err(|_| MALFORMED)?;
                let is_utf8 = encoding.is_none_or(|name| name.eq_ignore_ascii_case("utf-8"));
                if begun || !is_utf8 {
                    return Err(Refused("its declaration is misplaced, or names another encoding than UTF-8"));
                }
            }
            Event::DocType(_) => return Err(Refused("it has a document type")),
            Event::PI(_) => return Err(Refused("it has a processing instruction")),
            Event::Text(_) | Event::CData(_) | Event::Comment(_) => {}
        }
        begun = true;
    }
}

/// Says how many prefixes an element declares; `around` is how many are declared already.
fn check_tag(tag: &BytesStart<'_>, around: usize) -> Result<usize, Refused> {
    let (mut attributes, mut prefixes) = (0, 0);
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(|_| Refused("it is not well-formed XML"))?;
        unescape(&attribute.value).map_err(|_| Refused("it refers to an entity"))?;
        let name = attribute.key.into_inner();
        attributes += 1;
        prefixes += usize::from(name == "xmlns" || name.starts_with("xmlns:"));
    }
    if attributes > MOST_ATTRIBUTES || around + prefixes > MOST_PREFIXES {
        return Err(Refused("an element of it has too many attributes or prefixes"));
    }
    Ok(prefixes)
}

/// Whether XML 1.0 may hold a character (section 2.2).
fn is_char(char: char) -> bool {
    matches!(char, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// An element of a document.
#[derive(Clone, Copy)]
pub(super) struct Node<'d> {
    pub(super) doc: &'d Document<'d>,
    pub(super) id: NodeId,
}

impl<'d> Node<'d> {
    /// The root.
    pub(super) fn root(doc: &'d Document<'d>) -> Option<Node<'d>> {
        doc.document_element().map(|id| Node { doc, id })
    }

    fn element(self) -> Option<&'d Element<'d>> {
        self.doc.element(self.id)
    }

    /// Whether it has this name of a namespace.
    pub(super) fn is(self, space: &str, name: &str) -> bool {
        self.element().is_some_and(|element| element.name.matches(Some(space), name))
    }

    /// Its name, where it is of a namespace.
    pub(super) fn name_in(self, space: &str) -> Option<&'d str> {
        let name = &self.element()?.name;
        (name.namespace_uri.as_deref() == Some(space)).then_some(&*name.local_name)
    }

    /// The elements in it, in order.
    pub(super) fn children(self) -> Vec<Node<'d>> {
        let doc = self.doc;
        let is_element = |id: &NodeId| doc.element(*id).is_some();
        doc.children(self.id).into_iter().filter(is_element).map(|id| Node { doc, id }).collect()
    }

    /// The same where there is nothing else in it but white space and comments.
    pub(super) fn only_children(self) -> Result<Vec<Node<'d>>, Refused> {
        let is_blank = |text: &str| text.bytes().all(|byte| byte.is_ascii_whitespace());
        for id in self.doc.children(self.id) {
            match self.doc.node_kind(id) {
                Some(NodeKind::Text(text) | NodeKind::CData(text)) if !is_blank(text) => {
                    return Err(Refused("text stands where elements are expected"));
                }
                _ => {}
            }
        }
        Ok(self.children())
    }

    /// All elements of the document.
    pub(super) fn all(doc: &'d Document<'d>) -> impl Iterator<Item = Node<'d>> {
        let all = doc.descendants(doc.root());
        all.into_iter().filter(|id| doc.element(*id).is_some()).map(|id| Node { doc, id })
    }

    /// All of its text, whatever comments stand in it; `None` where there are elements in it.
    pub(super) fn text(self) -> Option<String> {
        let mut all = String::new();
        for id in self.doc.children(self.id) {
            match self.doc.node_kind(id)? {
                NodeKind::Text(text) | NodeKind::CData(text) => all.push_str(text),
                NodeKind::Comment(_) => {}
                NodeKind::Document
                | NodeKind::Element(_)
                | NodeKind::ProcessingInstruction(_)
                | NodeKind::Attribute(..) => return None,
            }
        }
        Some(all)
    }

    /// An attribute without a namespace.
    pub(super) fn attribute(self, name: &str) -> Option<&'d str> {
        let of = |space: Option<&str>| space.unwrap_or_default().is_empty();
        let found = self
            .element()?
            .attributes
            .iter()
            .find(|attribute| *attribute.name.local_name == *name && of(attribute.name.namespace_uri.as_deref()));
        found.map(|attribute| &*attribute.value)
    }

    /// Attributes that may be meant by a reference, whatever their namespace and spelling.
    pub(super) fn ids(self) -> impl Iterator<Item = &'d str> {
        let attributes = self.element().map(|element| &element.attributes[..]).unwrap_or_default();
        let is_id = |name: &str| name.eq_ignore_ascii_case("id") || name.eq_ignore_ascii_case("AssertionID");
        attributes.iter().filter(move |attribute| is_id(&attribute.name.local_name)).map(|attribute| &*attribute.value)
    }
}
