//! TOML, with positions.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeInteger, DeTable, DeValue};

use super::MAX_DEPTH;
use crate::diagnostic::{DUPLICATE_KEY, Diagnostic, Diagnostics, LIMIT, REFERENCE_IN_KEY, SYNTAX};
use crate::tree::{At, Entry, Node, Text, Value, clip};

/// Errors reported of one text: what follows the first ones is seldom news.
const MAX_ERRORS: usize = 100;

/// Reads a text; what is wrong with it is reported. `None` when there is no tree.
pub(super) fn parse(text: &str, file: u16, diagnostics: &mut Diagnostics) -> Option<Node> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let places = Places::new(text, file);
    if !errors.is_empty() {
        for error in errors.into_iter().take(MAX_ERRORS) {
            let span = error.span().unwrap_or(0..0);
            let at = places.at(&span);
            let found = if error.message() == "duplicate key" {
                duplicate(text, &table, &span, &places, at)
            } else if error.message().contains("recursion") {
                diagnostics.push(too_deep(at));
                // the rest was not read, so that what is said of it means nothing
                return None;
            } else {
                Diagnostic::error(SYNTAX, at, format!("this is not TOML: {}", clip(error.message())))
            };
            diagnostics.push(found);
        }
        return None;
    }
    let mut reader = Reader { places, diagnostics, failed: false };
    let entries = reader.entries(table.get_ref(), 1);
    let root = Node { at: At::file(file), value: Value::Map(entries) };
    (!reader.failed).then_some(root)
}

fn too_deep(at: At) -> Diagnostic {
    Diagnostic::error(LIMIT, at, format!("lists and mappings are nested deeper than {MAX_DEPTH}"))
}

/// The finding for a key that is given twice, with its first place.
fn duplicate(text: &str, table: &Spanned<DeTable<'_>>, span: &Range<usize>, places: &Places<'_>, at: At) -> Diagnostic {
    let written = text.get(span.clone()).unwrap_or_default();
    let name = written.trim_matches(['"', '\'', '[', ']', ' ']);
    let found = Diagnostic::error(DUPLICATE_KEY, at, format!("`{}` is given twice", clip(name)));
    match first_key(table.get_ref(), name, span.start) {
        Some(first) => found.related(places.at(&first), "first given here"),
        None => found,
    }
}

/// The last place before `before` where a key `name` stands.
fn first_key(table: &DeTable<'_>, name: &str, before: usize) -> Option<Range<usize>> {
    let mut best: Option<Range<usize>> = None;
    let mut consider = |place: Option<Range<usize>>| {
        if let Some(place) = place.filter(|place| place.start < before)
            && best.as_ref().is_none_or(|best| best.start < place.start)
        {
            best = Some(place);
        }
    };
    for (key, value) in table {
        if key.get_ref() == name {
            consider(Some(key.span()));
        }
        match value.get_ref() {
            DeValue::Table(inner) => consider(first_key(inner, name, before)),
            DeValue::Array(items) => {
                for item in items.iter().filter_map(|item| item.get_ref().as_table()) {
                    consider(first_key(item, name, before));
                }
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {}
        }
    }
    best
}

struct Reader<'a> {
    places: Places<'a>,
    diagnostics: &'a mut Diagnostics,
    failed: bool,
}

impl Reader<'_> {
    fn entries(&mut self, table: &DeTable<'_>, depth: usize) -> Vec<Entry> {
        let mut pairs: Vec<_> = table.iter().collect();
        pairs.sort_by_key(|(key, _)| key.span().start);
        let mut entries = Vec::with_capacity(pairs.len());
        for (key, value) in pairs {
            let key_at = self.places.at(&key.span());
            let name = key.get_ref().clone().into_owned();
            if name.contains("${env:") || name.contains("${file:") {
                let message = "a `${…}` reference may not stand in a key";
                self.diagnostics.push(Diagnostic::error(REFERENCE_IN_KEY, key_at, message));
            }
            entries.push(Entry { key: name, key_at, value: self.node(value, depth) });
        }
        entries
    }

    fn node(&mut self, value: &Spanned<DeValue<'_>>, depth: usize) -> Node {
        let at = self.places.at(&value.span());
        if depth >= MAX_DEPTH && matches!(value.get_ref(), DeValue::Array(_) | DeValue::Table(_)) {
            if !self.failed {
                self.diagnostics.push(too_deep(at));
            }
            self.failed = true;
            return Node { at, value: Value::Null };
        }
        let value = match value.get_ref() {
            DeValue::String(text) => quoted(text),
            DeValue::Integer(number) => self.number(integer(number), at),
            DeValue::Float(number) => self.number(float(number.as_str()), at),
            DeValue::Boolean(value) => Value::Bool(*value),
            DeValue::Datetime(value) => quoted(&value.to_string()),
            DeValue::Array(items) => Value::Seq(self.items(items, depth + 1)),
            DeValue::Table(table) => Value::Map(self.entries(table, depth + 1)),
        };
        Node { at, value }
    }

    /// The reader of TOML takes words such as `1_0p` for numbers, and leaves it to whoever wants a number to find that it is none.
    fn number(&mut self, text: Option<String>, at: At) -> Value {
        text.map_or_else(
            || {
                self.failed = true;
                self.diagnostics.push(Diagnostic::error(SYNTAX, at, "this is not TOML: the number is malformed"));
                Value::Null
            },
            |text| Value::Number(text.into()),
        )
    }

    fn items(&mut self, items: &DeArray<'_>, depth: usize) -> Vec<Node> {
        items.iter().map(|item| self.node(item, depth)).collect()
    }
}

fn quoted(text: &str) -> Value {
    Value::String(Text { text: text.to_owned(), quoted: true, reference: false, secret: false, template: None })
}

/// A whole number as YAML would write it; `None` when it is none.
fn integer(number: &DeInteger<'_>) -> Option<String> {
    let text = number.as_str();
    if number.radix() == 10 {
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        return (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())).then(|| text.to_owned());
    }
    i128::from_str_radix(text, number.radix()).ok().map(|value| value.to_string())
}

/// A fraction as YAML would write it; `None` when it is none.
fn float(text: &str) -> Option<String> {
    let text = text.replace('_', "");
    Some(match text.trim_start_matches(['+', '-']) {
        "inf" => text.replace("inf", ".inf"),
        "nan" => ".nan".to_owned(),
        digits if digits.starts_with(|first: char| first.is_ascii_digit()) && text.parse::<f64>().is_ok() => text,
        _ => return None,
    })
}

/// Lines and columns of byte offsets, in constant time each.
struct Places<'a> {
    text: &'a [u8],
    file: u16,
    lines: Vec<usize>,
    /// Characters before each multiple of [`Places::STEP`] bytes.
    characters: Vec<usize>,
}

impl<'a> Places<'a> {
    const STEP: usize = 256;

    fn new(text: &'a str, file: u16) -> Self {
        let text = text.as_bytes();
        let lines = std::iter::once(0)
            .chain(text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(offset, _)| offset + 1))
            .collect();
        let mut characters = vec![0];
        let mut count = 0;
        for chunk in text.chunks(Self::STEP) {
            count += starts(chunk);
            characters.push(count);
        }
        Self { text, file, lines, characters }
    }

    fn at(&self, span: &Range<usize>) -> At {
        let (line, column) = self.place(span.start);
        let (end_line, end_column) = self.place(span.end);
        At { file: self.file, line, column, end_line, end_column }
    }

    fn place(&self, offset: usize) -> (u32, u32) {
        let line = self.lines.partition_point(|start| *start <= offset).max(1);
        let start = self.lines.get(line - 1).copied().unwrap_or(0);
        let column = self.before(offset).saturating_sub(self.before(start)) + 1;
        (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
    }

    /// Characters before a byte offset.
    fn before(&self, offset: usize) -> usize {
        let step = offset / Self::STEP;
        let known = self.characters.get(step).copied().unwrap_or(0);
        known + self.text.get(step * Self::STEP..offset).map_or(0, starts)
    }
}

/// Characters that begin in some bytes of UTF-8.
fn starts(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| (**byte & 0xc0) != 0x80).count()
}
