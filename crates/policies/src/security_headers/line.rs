//! A field that is always the same, kept as it is written out. Knows nothing of what it says.

use daemun_pipeline::head::Field;
use daemun_pipeline::{FieldId, Head, Span};

/// A field, ready to be appended: `name: value` and the line's end, so that what is appended together is written out as one piece.
#[derive(Debug)]
pub(super) struct Line {
    text: Box<str>,
    name: usize,
    id: FieldId,
}

impl Line {
    /// The line of a field whose name and value were checked.
    pub(super) fn new(name: &str, value: &str) -> Line {
        Line { text: format!("{name}: {value}\r\n").into(), name: name.len(), id: FieldId::of(name.as_bytes()) }
    }

    /// The field's name.
    pub(super) fn name(&self) -> &str {
        self.text.get(..self.name).unwrap_or_default()
    }

    /// Appends it to a head; allocates only where its buffers must grow.
    pub(super) fn append(&self, head: &mut Head) {
        let line = head.store(self.text.as_bytes());
        let (start, end) = (line.start(), line.start() + line.len());
        let name = Span::new(start, start + self.name);
        let value = Span::new(start + self.name + 2, end - 2);
        head.fields.push(Field { name, value, id: self.id, removed: false });
    }
}
