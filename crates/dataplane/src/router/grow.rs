//! Builds the tree out of sorted keys, in one pass and without a search. Knows nothing of where the keys come from.

use std::ops::Range;

use super::pattern::{PARAM, REGEX, REST, SEP};
use super::table::{Table, hash};
use super::trie::{Entry, Group, List, MANY, NONE, Node, PARAM_MARK, PathRegex, Trie};

/// A tree that is being built. Entries and their keys are parallel, and sorted by key within each root's range.
pub(super) struct Grower<'a> {
    keys: &'a [&'a [u8]],
    entries: &'a [Entry],
    nodes: Vec<Node>,
    labels: Vec<u8>,
    groups: Vec<Box<[Group]>>,
    children: Vec<(u64, u32)>,
}

impl<'a> Grower<'a> {
    pub(super) fn new(keys: &'a [&'a [u8]], entries: &'a [Entry]) -> Self {
        let nodes = Vec::with_capacity(entries.len());
        Self { keys, entries, nodes, labels: Vec::new(), groups: Vec::new(), children: Vec::new() }
    }

    /// Adds the tree of a range of entries; gives its root.
    pub(super) fn root(&mut self, range: Range<usize>) -> u32 {
        self.grow(range, 0)
    }

    /// The finished tree.
    pub(super) fn finish(self, regexes: Vec<PathRegex>) -> Trie {
        Trie {
            nodes: self.nodes.into(),
            children: Table::new(&self.children),
            labels: self.labels.into(),
            groups: self.groups.into(),
            regexes: regexes.into(),
            entries: self.entries.into(),
        }
    }

    /// Adds the node of a range of keys that agree up to `start`, and all below it.
    fn grow(&mut self, range: Range<usize>, start: usize) -> u32 {
        let first = self.key(range.start);
        let end = shared_end(first, self.key(range.end.saturating_sub(1)), start);
        let id = number(self.nodes.len());
        let label: Vec<u8> = first.get(start..end).unwrap_or_default().iter().map(|&byte| label_byte(byte)).collect();
        let mut node = Node::new(&label, &mut self.labels);
        self.nodes.push(node);

        let ends = self.run(&range, |key| key.len() == end);
        node.ends = self.list(&ends, &mut node.max_priority);
        let mut rest = ends.end..range.end;
        let mut literals: Vec<(u64, u32)> = Vec::new();
        let mut groups = Vec::new();
        while !rest.is_empty() {
            let key = self.key(rest.start);
            let segment = segment_at(key, end);
            let run = self.run(&rest, |other| segment_at(other, end) == segment);
            match segment.first() {
                Some(&REST) => node.rests = self.list(&run, &mut node.max_priority),
                Some(&REGEX) => {
                    let mut max_priority = i32::MIN;
                    let entries = self.list(&run, &mut max_priority);
                    groups.push(Group { regex: regex_number(segment), max_priority, entries });
                    node.max_priority = node.max_priority.max(max_priority);
                }
                kind => {
                    let child = self.grow(run.clone(), end);
                    let below = self.nodes.get(child as usize).map_or(i32::MIN, |child| child.max_priority);
                    node.max_priority = node.max_priority.max(below);
                    if kind == Some(&PARAM) {
                        node.parameter = child;
                    } else {
                        literals.push((hash(id, segment), child));
                    }
                }
            }
            rest.start = run.end;
        }
        node.literal = match literals.as_slice() {
            [] => NONE,
            [(_, only)] => *only,
            _ => MANY,
        };
        if node.literal == MANY {
            self.children.append(&mut literals);
        }
        if !groups.is_empty() {
            node.groups = number(self.groups.len());
            self.groups.push(groups.into());
        }
        if let Some(slot) = self.nodes.get_mut(id as usize) {
            *slot = node;
        }
        id
    }

    fn key(&self, index: usize) -> &'a [u8] {
        self.keys.get(index).copied().unwrap_or_default()
    }

    /// The leading part of a range whose keys fulfil a condition.
    fn run(&self, range: &Range<usize>, holds: impl Fn(&[u8]) -> bool) -> Range<usize> {
        let keys = self.keys.get(range.clone()).unwrap_or_default();
        range.start..range.start + keys.iter().take_while(|key| holds(key)).count()
    }

    fn list(&self, range: &Range<usize>, max_priority: &mut i32) -> List {
        for entry in self.entries.get(range.clone()).unwrap_or_default() {
            *max_priority = entry.priority.max(*max_priority);
        }
        List { start: number(range.start), len: number(range.len()) }
    }
}

/// Where the literals and parameters end that all keys between two share.
fn shared_end(first: &[u8], last: &[u8], start: usize) -> usize {
    let mut end = start;
    while end < first.len() {
        let segment = segment_at(first, end);
        if matches!(segment.first(), Some(&REGEX | &REST)) || segment_at(last, end) != segment || last.len() == end {
            break;
        }
        end += 1 + segment.len();
    }
    end
}

/// The segment of a key whose separator stands at `at`; that of an expression includes its number.
fn segment_at(key: &[u8], at: usize) -> &[u8] {
    let tail = key.get(at + 1..).unwrap_or_default();
    if tail.first() == Some(&REGEX) {
        return tail;
    }
    let len = tail.iter().position(|&byte| byte == SEP).unwrap_or(tail.len());
    tail.get(..len).unwrap_or_default()
}

/// The number of an expression in its segment.
fn regex_number(segment: &[u8]) -> u32 {
    segment.get(1..).and_then(|bytes| bytes.try_into().ok()).map_or(NONE, u32::from_be_bytes)
}

fn label_byte(byte: u8) -> u8 {
    match byte {
        SEP => b'/',
        PARAM => PARAM_MARK,
        other => other,
    }
}

/// There are fewer entries and nodes than fit; the builder sees to it.
fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(NONE)
}
