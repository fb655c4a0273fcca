//! Builds the tree out of a stream of openings, scalars and closings, with duplicate keys and depth checked on the way.

use std::collections::HashMap;

use super::MAX_DEPTH;
use crate::diagnostic::{DUPLICATE_KEY, Diagnostic, Diagnostics, LIMIT, REFERENCE_IN_KEY, SYNTAX};
use crate::tree::{At, Entry, Node, Value, clip};

/// Maps with more keys than this look for duplicates in an index.
const SMALL: usize = 16;

/// A list or mapping that is still open.
enum Frame {
    Seq {
        at: At,
        items: Vec<Node>,
    },
    Map {
        at: At,
        entries: Vec<Entry>,
        index: Option<HashMap<String, usize>>,
        key: Option<(String, At)>,
        repeated: bool,
    },
}

/// The tree so far.
pub(super) struct Builder<'a> {
    stack: Vec<Frame>,
    root: Option<Node>,
    diagnostics: &'a mut Diagnostics,
}

/// The text cannot be read on; why has been reported.
pub(super) struct Stopped;

impl<'a> Builder<'a> {
    pub(super) fn new(diagnostics: &'a mut Diagnostics) -> Self {
        Self { stack: Vec::new(), root: None, diagnostics }
    }

    /// The finished tree.
    pub(super) fn finish(self) -> Option<Node> {
        self.root
    }

    pub(super) fn stop(&mut self, code: &'static str, at: At, message: impl Into<String>) -> Stopped {
        self.report(Diagnostic::error(code, at, message));
        Stopped
    }

    pub(super) fn report(&mut self, found: Diagnostic) {
        let path = self.path();
        self.diagnostics.push(found.path(path));
    }

    pub(super) fn open_seq(&mut self, at: At) -> Result<(), Stopped> {
        self.open(at, Frame::Seq { at, items: Vec::new() })
    }

    pub(super) fn open_map(&mut self, at: At) -> Result<(), Stopped> {
        self.open(at, Frame::Map { at, entries: Vec::new(), index: None, key: None, repeated: false })
    }

    fn open(&mut self, at: At, frame: Frame) -> Result<(), Stopped> {
        if self.wants_key() {
            return Err(self.stop(SYNTAX, at, "a key must be a word, not a list or mapping"));
        }
        if self.stack.len() >= MAX_DEPTH {
            return Err(self.too_deep(at));
        }
        self.stack.push(frame);
        Ok(())
    }

    /// Reports that the nesting ends here.
    pub(super) fn too_deep(&mut self, at: At) -> Stopped {
        self.stop(LIMIT, at, format!("lists and mappings are nested deeper than {MAX_DEPTH}"))
    }

    /// Whether the next scalar is a key.
    pub(super) fn wants_key(&self) -> bool {
        matches!(self.stack.last(), Some(Frame::Map { key: None, .. }))
    }

    /// Open lists and mappings.
    pub(super) fn depth(&self) -> usize {
        self.stack.len()
    }

    pub(super) fn key(&mut self, text: String, at: At) {
        if text.contains("${env:") || text.contains("${file:") {
            let message = "a `${…}` reference may not stand in a key";
            self.report(Diagnostic::error(REFERENCE_IN_KEY, at, message));
        }
        let Some(Frame::Map { entries, index, key, repeated, .. }) = self.stack.last_mut() else { return };
        let first = if entries.len() < SMALL {
            entries.iter().find(|entry| entry.key == text)
        } else {
            let index = index.get_or_insert_with(|| {
                entries.iter().enumerate().map(|(position, entry)| (entry.key.clone(), position)).collect()
            });
            index.get(&text).and_then(|position| entries.get(*position))
        };
        let first = first.map(|entry| entry.key_at);
        *repeated = first.is_some();
        let shown = first.map(|first| (first, clip(&text)));
        *key = Some((text, at));
        if let Some((first, shown)) = shown {
            let found = Diagnostic::error(DUPLICATE_KEY, at, format!("`{shown}` is given twice"));
            self.report(found.related(first, "first given here"));
        }
    }

    /// Adds a finished value.
    pub(super) fn value(&mut self, node: Node) {
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Frame::Seq { items, .. }) => items.push(node),
            Some(Frame::Map { entries, index, key, repeated, .. }) => {
                if let Some((key, key_at)) = key.take()
                    && !std::mem::take(repeated)
                {
                    if let Some(index) = index {
                        index.insert(key.clone(), entries.len());
                    }
                    entries.push(Entry { key, key_at, value: node });
                }
            }
        }
    }

    /// Closes the innermost list or mapping; `end` is behind its bracket, or `None` where it has none. `keep` is given the
    /// finished value first.
    pub(super) fn close(&mut self, end: Option<(u32, u32)>, keep: impl FnOnce(&Node)) {
        let node = match self.stack.pop() {
            None => return,
            Some(Frame::Seq { at, items }) => {
                let at = ending(at, end, items.last().map(|item| item.at));
                Node { at, value: Value::Seq(items) }
            }
            Some(Frame::Map { at, entries, .. }) => {
                let at = ending(at, end, entries.last().map(|entry| entry.value.at));
                Node { at, value: Value::Map(entries) }
            }
        };
        keep(&node);
        self.value(node);
    }

    /// Where the text stands, in the configuration's own names.
    fn path(&self) -> String {
        let mut path = String::new();
        for (depth, frame) in self.stack.iter().enumerate() {
            match frame {
                Frame::Seq { items, .. } => match self.stack.get(depth + 1).and_then(name) {
                    Some(name) => push(&mut path, name),
                    None => path.push_str(&format!("[{}]", items.len())),
                },
                Frame::Map { key: Some((key, _)), .. } => push(&mut path, key),
                Frame::Map { key: None, .. } => {}
            }
        }
        path
    }
}

/// The `name` that an open mapping has been given already.
fn name(frame: &Frame) -> Option<&str> {
    let Frame::Map { entries, .. } = frame else { return None };
    entries.iter().find(|entry| entry.key == "name")?.value.as_str().filter(|name| !name.is_empty())
}

fn push(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(&clip(key));
}

/// Extends a place to its closing bracket or its last child.
fn ending(at: At, end: Option<(u32, u32)>, last: Option<At>) -> At {
    let (end_line, end_column) = match (end, last) {
        (Some(end), _) => end,
        (None, Some(last)) if (last.end_line, last.end_column) > (at.line, at.column) => {
            (last.end_line, last.end_column)
        }
        (None, _) => (at.end_line, at.end_column),
    };
    At { end_line, end_column, ..at }
}
