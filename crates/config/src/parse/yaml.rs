//! YAML 1.2 with the core schema: one document, no merge keys, anchors and aliases within bounds.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};

use super::build::{Builder, Stopped};
use super::plain;
use crate::diagnostic::{ALIAS_LIMIT, Diagnostic, Diagnostics, SYNTAX};
use crate::tree::{At, Node, Text, Value};

/// Values that aliases may repeat in one document.
const ALIAS_VALUES: usize = 100_000;
/// Bytes of text that aliases may repeat in one document.
const ALIAS_BYTES: usize = 16 << 20;

/// Reads a document; what is wrong with it is reported. `None` when there is no tree.
pub(super) fn parse(text: &str, file: u16, diagnostics: &mut Diagnostics) -> Option<Node> {
    let mut reader = Reader {
        file,
        builder: Builder::new(diagnostics),
        anchors: HashMap::new(),
        open: Vec::new(),
        values: 0,
        bytes: 0,
        documents: 0,
    };
    let mut parser = Parser::new_from_str(text);
    while let Some(next) = parser.next_event() {
        let step = match next {
            Ok((event, span)) => reader.event(event, span),
            Err(error) => {
                let at = reader.at(*error.marker(), *error.marker());
                Err(reader.malformed(error.info(), at))
            }
        };
        if step.is_err() {
            return None;
        }
    }
    let nothing = Node { at: At::file(file), value: Value::Null };
    reader.builder.finish().or(Some(nothing))
}

struct Reader<'a> {
    file: u16,
    builder: Builder<'a>,
    /// Finished anchored values, with how many values and bytes of text each holds.
    anchors: HashMap<usize, (Node, usize, usize)>,
    /// Anchors of the open lists and mappings; 0 for none.
    open: Vec<usize>,
    values: usize,
    bytes: usize,
    documents: usize,
}

impl Reader<'_> {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Stopped> {
        let at = self.at(span.start, span.end);
        match event {
            Event::DocumentStart(_) => {
                self.documents = self.documents.saturating_add(1);
                if self.documents > 1 {
                    return Err(self.builder.stop(SYNTAX, at, "a second document begins here; a file holds one"));
                }
            }
            Event::Scalar(text, style, anchor, tag) => self.scalar(&text, style, anchor, tag.as_deref(), at)?,
            Event::Alias(anchor) => self.alias(anchor, at)?,
            Event::SequenceStart(anchor, tag) => {
                self.tag(tag.as_deref(), "seq", at)?;
                self.builder.open_seq(at)?;
                self.open.push(anchor);
            }
            Event::MappingStart(anchor, tag) => {
                self.tag(tag.as_deref(), "map", at)?;
                self.builder.open_map(at)?;
                self.open.push(anchor);
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    /// Reports what the parser could not read, with the usual cause of it.
    fn malformed(&mut self, info: &str, at: At) -> Stopped {
        if info.contains("recursion limit") {
            return self.builder.too_deep(at);
        }
        let mut found = Diagnostic::error(SYNTAX, at, format!("this is not YAML: {}", crate::tree::clip(info)));
        if info.contains("flow") {
            found = found.help("within `{…}` and `[…]`, quote texts that hold `{`, `}`, `[`, `]` or `,`");
        } else if info.contains("tab") {
            found = found.help("YAML is indented with spaces");
        } else if info.contains("mapping values are not allowed") {
            found = found.help("quote texts that hold `: `, and check the indentation");
        }
        self.builder.report(found);
        Stopped
    }

    fn close(&mut self, span: Span) {
        // The end of a bracket's span lies behind the white space and comments that follow it.
        let start = self.at(span.start, span.start);
        let bracket = (!span.is_empty()).then_some((start.line, start.column.saturating_add(1)));
        let anchor = self.open.pop().unwrap_or(0);
        let anchors = &mut self.anchors;
        self.builder.close(bracket, |node| {
            if anchor > 0 {
                remember(anchors, anchor, node);
            }
        });
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        at: At,
    ) -> Result<(), Stopped> {
        let quoted = style != ScalarStyle::Plain;
        if self.builder.wants_key() {
            if !quoted && text == "<<" {
                return Err(self.builder.stop(SYNTAX, at, "merge keys (`<<`) are not read: write the keys out"));
            }
            if text.is_empty() && !quoted {
                return Err(self.builder.stop(SYNTAX, at, "a key is missing before the colon"));
            }
            self.builder.key(text.to_owned(), at);
            return Ok(());
        }
        let is_text = quoted || self.tag(tag, "str", at)?;
        let value = if is_text {
            Value::String(Text { text: text.to_owned(), quoted: true, reference: false, secret: false, template: None })
        } else {
            plain(text)
        };
        let node = Node { at, value };
        if anchor > 0 {
            remember(&mut self.anchors, anchor, &node);
        }
        self.builder.value(node);
        Ok(())
    }

    /// Whether the tag is the core schema's `name`; an unknown one is refused.
    fn tag(&mut self, tag: Option<&Tag>, name: &str, at: At) -> Result<bool, Stopped> {
        match tag {
            None => Ok(false),
            Some(tag) if tag.is_yaml_core_schema() => Ok(tag.suffix == name),
            Some(tag) if tag.handle.is_empty() && tag.suffix == "!" => Ok(true),
            Some(_) => Err(self.builder.stop(SYNTAX, at, "YAML tags (`!name`) have no meaning here")),
        }
    }

    fn alias(&mut self, anchor: usize, at: At) -> Result<(), Stopped> {
        if self.open.contains(&anchor) {
            return Err(self.builder.stop(ALIAS_LIMIT, at, "an alias stands within its own anchor"));
        }
        let Some((node, values, bytes)) = self.anchors.get(&anchor) else {
            return Err(self.builder.stop(SYNTAX, at, "the alias has no anchor"));
        };
        self.values = self.values.saturating_add(*values);
        self.bytes = self.bytes.saturating_add(*bytes);
        if self.values > ALIAS_VALUES || self.bytes > ALIAS_BYTES {
            let found = Diagnostic::error(ALIAS_LIMIT, at, "aliases repeat too much")
                .help(format!("all aliases together may repeat {ALIAS_VALUES} values and 16 MiB of text"));
            self.builder.report(found);
            return Err(Stopped);
        }
        if self.builder.wants_key() {
            let Some(text) = node.as_str().map(str::to_owned) else {
                return Err(self.builder.stop(SYNTAX, at, "a key must be a word, not a list or mapping"));
            };
            self.builder.key(text, at);
            return Ok(());
        }
        let node = node.clone();
        if self.builder.depth() + depth(&node) > super::MAX_DEPTH {
            return Err(self.builder.too_deep(at));
        }
        self.builder.value(node);
        Ok(())
    }

    fn at(&self, start: Marker, end: Marker) -> At {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        At {
            file: self.file,
            line: number(start.line()),
            column: number(start.col()).saturating_add(1),
            end_line: number(end.line()),
            end_column: number(end.col()).saturating_add(1),
        }
    }
}

fn remember(anchors: &mut HashMap<usize, (Node, usize, usize)>, anchor: usize, node: &Node) {
    let (values, bytes) = weigh(node);
    anchors.insert(anchor, (node.clone(), values, bytes));
}

/// How many values and bytes of text a tree holds.
fn weigh(node: &Node) -> (usize, usize) {
    let add = |(values, bytes): (usize, usize), (more, extra): (usize, usize)| (values + more, bytes + extra);
    match &node.value {
        Value::Null | Value::Bool(_) => (1, 0),
        Value::Number(text) => (1, text.len()),
        Value::String(text) => (1, text.text.len()),
        Value::Seq(items) => items.iter().map(weigh).fold((1, 0), add),
        Value::Map(entries) => entries
            .iter()
            .map(|entry| {
                let (values, bytes) = weigh(&entry.value);
                (values, bytes + entry.key.len())
            })
            .fold((1, 0), add),
    }
}

/// Nesting of lists and mappings in a tree.
fn depth(node: &Node) -> usize {
    match &node.value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
        Value::Seq(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Map(entries) => 1 + entries.iter().map(|entry| depth(&entry.value)).max().unwrap_or(0),
    }
}
