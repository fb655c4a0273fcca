//! Builds the tree out of sorted keys, in one pass and without a search. Knows nothing of where the keys come from.

use std::ops::Range;

use super::conditions::any_of;
use super::pattern::{PARAM, REGEX, REST, SEP};
use super::table::{Table, hash};
use super::text::Text;
use super::trie::{Chunk, Entry, Group, LEAF, Leaf, Leaves, List, MANY, NONE, Node, PARAM_MARK, PathRegex, Trie};

/// Expressions of one node that are worth asking all at once first.
const MIN_SET: usize = 8;
/// Most expressions that are asked at once.
const MAX_CHUNK: usize = 128;

/// A tree that is being built. Entries and their keys are parallel, and sorted by key within each root's range.
pub(super) struct Grower<'a> {
    keys: &'a [&'a [u8]],
    entries: &'a [Entry],
    nodes: Vec<Node>,
    leaves: Vec<Leaf>,
    labels: Vec<u8>,
    chunks: Vec<Box<[Chunk]>>,
    regexes: Vec<PathRegex>,
    children: Vec<(u64, u32)>,
}

impl<'a> Grower<'a> {
    pub(super) fn new(keys: &'a [&'a [u8]], entries: &'a [Entry], regexes: Vec<PathRegex>) -> Self {
        Self {
            keys,
            entries,
            nodes: Vec::new(),
            leaves: Vec::with_capacity(entries.len()),
            labels: Vec::new(),
            chunks: Vec::new(),
            regexes,
            children: Vec::with_capacity(entries.len()),
        }
    }

    /// Adds the tree of a range of entries; gives the number of its root, and the highest priority.
    pub(super) fn root(&mut self, range: Range<usize>) -> (u32, i32) {
        self.grow(range, 0)
    }

    /// The finished tree; `roots` are the numbers of its roots, which change.
    pub(super) fn finish<'r>(mut self, roots: impl Iterator<Item = &'r mut u32>) -> Trie {
        let (leaves, nodes): (Vec<_>, Vec<_>) = self.children.into_iter().partition(|(_, child)| child & LEAF != 0);
        let (leaves, numbers) = Leaves::new(self.leaves, &leaves);
        let renumber = |id: &mut u32| {
            if *id < MANY && *id & LEAF != 0 {
                *id = numbers.get((*id & !LEAF) as usize).copied().unwrap_or(NONE);
            }
        };
        for node in &mut self.nodes {
            renumber(&mut node.parameter);
            renumber(&mut node.literal);
        }
        roots.for_each(renumber);
        Trie {
            nodes: self.nodes.into(),
            leaves,
            children: Table::new(&nodes),
            labels: self.labels.into(),
            chunks: self.chunks.into(),
            regexes: self.regexes.into(),
            entries: self.entries.into(),
        }
    }

    /// Adds the node of a range of keys that agree up to `start`, and all below it.
    fn grow(&mut self, range: Range<usize>, start: usize) -> (u32, i32) {
        let first = self.key(range.start);
        let end = shared_end(first, self.key(range.end.saturating_sub(1)), start);
        let label: Vec<u8> = first.get(start..end).unwrap_or_default().iter().map(|&byte| label_byte(byte)).collect();
        if let Some(leaf) = self.leaf(&range, &label, end) {
            return leaf;
        }
        let id = number(self.nodes.len());
        self.nodes.push(Node {
            label: Text::new(&label, &mut self.labels),
            has_parameters: label.contains(&PARAM_MARK),
            parameter: NONE,
            literal: NONE,
            ends: List::default(),
            rests: List::default(),
            chunks: NONE,
            max_priority: i32::MIN,
        });
        let branches = self.branch(id, range, end);
        let chunks = if branches.groups.is_empty() { NONE } else { number(self.chunks.len()) };
        if chunks != NONE {
            self.chunks.push(branches.groups.chunks(MAX_CHUNK).map(|groups| self.chunk(groups)).collect());
        }
        let max_priority = branches.max_priority;
        if let Some(node) = self.nodes.get_mut(id as usize) {
            node.parameter = branches.parameter;
            (node.ends, node.rests) = (branches.ends, branches.rests);
            node.max_priority = max_priority;
            node.literal = match branches.literals.as_slice() {
                [] => NONE,
                [(_, only)] => *only,
                _ => MANY,
            };
            if node.literal == MANY {
                self.children.extend(branches.literals);
            }
            node.chunks = chunks;
        }
        (id, max_priority)
    }

    fn chunk(&self, groups: &[Group]) -> Chunk {
        let text = |group: &Group| self.regexes.get(group.regex as usize).map(|regex| regex.text.as_ref());
        let any = if groups.len() < MIN_SET { None } else { any_of(groups.iter().filter_map(text)) };
        let most = |group: &Group| self.regexes.get(group.regex as usize).map(|regex| regex.regex.most());
        let most = groups.iter().filter_map(most).min().unwrap_or(0);
        Chunk { groups: groups.into(), any, most }
    }

    /// A leaf, if a single pattern is left and ends here or in a remainder.
    fn leaf(&mut self, range: &Range<usize>, label: &[u8], end: usize) -> Option<(u32, i32)> {
        let key = self.key(range.start);
        let is_rest = segment_at(key, end) == [REST];
        if range.len() != 1 || !is_rest && key.len() != end {
            return None;
        }
        let entry = self.entries.get(range.start)?.clone();
        let id = number(self.leaves.len()) | LEAF;
        let priority = entry.priority;
        self.leaves.push(Leaf {
            label: Text::new(label, &mut self.labels),
            has_parameters: label.contains(&PARAM_MARK),
            is_rest,
            tag: 0,
            index: number(range.start),
            entry,
        });
        Some((id, priority))
    }

    /// What goes on behind the label of a node, which ends at `end`; adds all nodes below.
    fn branch(&mut self, id: u32, range: Range<usize>, end: usize) -> Branches {
        let mut branches = Branches::default();
        let ends = self.run(&range, |key| key.len() == end);
        branches.ends = self.list(&ends, &mut branches.max_priority);
        let mut rest = ends.end..range.end;
        while !rest.is_empty() {
            let segment = segment_at(self.key(rest.start), end);
            let run = self.run(&rest, |other| segment_at(other, end) == segment);
            rest.start = run.end;
            match segment.first() {
                Some(&REST) => branches.rests = self.list(&run, &mut branches.max_priority),
                Some(&REGEX) => {
                    let mut max_priority = i32::MIN;
                    let entries = self.list(&run, &mut max_priority);
                    branches.groups.push(Group { regex: regex_number(segment), max_priority, entries });
                    branches.max_priority = branches.max_priority.max(max_priority);
                }
                kind => {
                    let (child, max_priority) = self.grow(run, end);
                    branches.max_priority = branches.max_priority.max(max_priority);
                    if kind == Some(&PARAM) {
                        branches.parameter = child;
                    } else {
                        branches.literals.push((hash(id, segment), child));
                    }
                }
            }
        }
        branches
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

/// What goes on behind a node.
struct Branches {
    parameter: u32,
    literals: Vec<(u64, u32)>,
    groups: Vec<Group>,
    ends: List,
    rests: List,
    max_priority: i32,
}

impl Default for Branches {
    fn default() -> Self {
        Self {
            parameter: NONE,
            literals: Vec::new(),
            groups: Vec::new(),
            ends: List::default(),
            rests: List::default(),
            max_priority: i32::MIN,
        }
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
