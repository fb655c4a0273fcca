//! Fields and names of fields made ready: what was checked once is not checked with each message. Knows nothing of what they say.

use crate::exchange::Span;
use crate::head::{Field, FieldId, Head, is_token, is_value};

/// A field that is always the same, ready to be appended: `name: value` and the line's end, so that what is appended together is written
/// out as one piece.
#[derive(Debug)]
pub struct Line {
    text: Box<str>,
    name: usize,
    id: FieldId,
}

impl Line {
    /// The line of a field; `None` when the name is no token or the value holds a control byte (RFC 9110, section 5.5).
    #[must_use]
    pub fn new(name: &str, value: &str) -> Option<Line> {
        let fits = is_name(name) && value.bytes().all(is_value);
        let line = || Line { text: format!("{name}: {value}\r\n").into(), name: name.len(), id: FieldId::of_own(name) };
        fits.then(line)
    }

    /// The field's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.text.get(..self.name).unwrap_or_default()
    }

    /// Appends it to a head; allocates only where its buffers must grow.
    #[inline]
    pub fn append(&self, head: &mut Head) {
        let start = head.store(self.text.as_bytes()).start();
        head.fields.push(self.at(start));
    }

    /// The field of a line that begins there.
    #[inline]
    fn at(&self, start: usize) -> Field {
        let end = start + self.text.len();
        let name = Span::new(start, start + self.name);
        let value = Span::new(start + self.name + 2, end - 2);
        Field { name, value, id: self.id, removed: false }
    }
}

/// Lines that are mostly appended all together, each unless the head has a field of its name.
#[derive(Debug, Default)]
pub struct Lines {
    lines: Box<[Line]>,
    /// All of them, one behind the other.
    text: Box<str>,
    /// A bit for each length that a name of theirs has.
    lengths: u64,
}

impl Lines {
    /// Of lines in the order in which they are to stand.
    #[must_use]
    pub fn new(lines: Vec<Line>) -> Lines {
        let text: String = lines.iter().map(|line| &*line.text).collect();
        let lengths = lines.iter().fold(0, |lengths, line| lengths | length_bit(line.name));
        Lines { lines: lines.into(), text: text.into(), lengths }
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(Line::name)
    }

    /// Appends those that the head has no field of the name of; one pass over the fields, and one copy where it has none of them.
    pub fn append_absent(&self, head: &mut Head) {
        let mut fields = head.fields.iter();
        if fields.any(|field| !field.removed && self.lengths & length_bit(field.name.len()) != 0) {
            for line in self.lines.iter() {
                if head.get(line.name()).is_none() {
                    line.append(head);
                }
            }
            return;
        }
        let mut start = head.store(self.text.as_bytes()).start();
        head.fields.extend(self.lines.iter().map(|line| {
            let field = line.at(start);
            start += line.text.len();
            field
        }));
    }
}

/// Names of 63 bytes and more share one.
#[inline]
fn length_bit(length: usize) -> u64 {
    1 << length.min(63)
}

/// A name that was checked, for fields whose values differ.
#[derive(Debug)]
pub struct Name {
    text: Box<str>,
    id: FieldId,
}

impl Name {
    /// `None` when it is no token (RFC 9110, section 5.1).
    #[must_use]
    pub fn new(name: &str) -> Option<Name> {
        is_name(name).then(|| Name { text: name.into(), id: FieldId::of_own(name) })
    }

    /// As written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Appends a field of this name. Returns false, and adds nothing, when the value holds a control byte.
    #[inline]
    pub fn append(&self, head: &mut Head, value: &[u8]) -> bool {
        head.append_checked(&self.text, self.id, value)
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(is_token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(head: &Head) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        head.iter().map(|(_, name, value)| (text(name), text(value))).collect()
    }

    #[test]
    fn lines_and_names_append_what_a_head_would() {
        let mut head = Head::default();
        Line::new("X-Consumer-A", "b").unwrap().append(&mut head);
        assert!(Name::new("Date").unwrap().append(&mut head, b"now"));
        let mut same = Head::default();
        assert!(same.append("X-Consumer-A", b"b") && same.append("Date", b"now"));
        assert_eq!(read(&head), read(&same));
        let ids = |head: &Head| head.fields.iter().map(|field| field.id).collect::<Vec<_>>();
        assert_eq!(ids(&head), [FieldId::Identity, FieldId::Date]);
        assert_eq!(ids(&head), ids(&same));
        assert_eq!(head.buf, b"X-Consumer-A: b\r\nDate: now\r\n");
        assert_eq!(head.buf, same.buf);
    }

    #[test]
    fn what_is_no_field_is_refused() {
        for (name, value) in [("", "x"), ("a b", "x"), ("a:", "x"), ("a", "x\r\ny: z"), ("a", "\0"), ("a", "\u{7f}")] {
            assert!(Line::new(name, value).is_none(), "{name} {value:?}");
        }
        assert!(Name::new("a\n").is_none());
        let mut head = Head::default();
        assert!(!Name::new("a").unwrap().append(&mut head, b"long enough for words\n"));
        assert!(head.fields.is_empty());
    }

    #[test]
    fn of_lines_only_those_that_are_absent_are_appended() {
        let lines = |names: &[&str]| Lines::new(names.iter().map(|name| Line::new(name, "new").unwrap()).collect());
        let long = "x".repeat(80);
        let all = lines(&["First", "Second", &long]);
        for (has, appended) in [
            (&["other", "thirdly"][..], &["First", "Second", &long][..]),
            (&["firsT"], &["Second", &long]),
            (&["fifth"], &["First", "Second", &long]),
            (&["SECOND", &long.to_uppercase()], &["First"]),
            (&[&"y".repeat(70)], &["First", "Second", &long]),
        ] {
            let mut head = Head::default();
            has.iter().for_each(|name| assert!(head.append(name, b"old")));
            all.append_absent(&mut head);
            let expected = has.iter().map(|name| (*name, "old")).chain(appended.iter().map(|name| (*name, "new")));
            let expected: Vec<_> = expected.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            assert_eq!(read(&head), expected);
        }
        let mut head = Head::default();
        assert!(head.append("First", b"old") && head.remove("first"));
        all.append_absent(&mut head);
        assert_eq!(head.iter().count(), 3);
    }
}
