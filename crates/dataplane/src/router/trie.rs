//! The tree of all path patterns and the walk down it. Knows nothing of methods, conditions or what a winner is: each list of
//! entries that a path reaches is shown to a visitor, in the order of precedence, until it has what it wants.
//!
//! A node stands at the end of some segments; segments that no other pattern shares are one label. The entries lie sorted by
//! key, so that every list is a range of them, and a lower index is a higher precedence. A walk visits a node at most once:
//! it costs the nodes that agree with the path, never more than there are.

use std::ops::{ControlFlow, Range};

use daemun_pipeline::bounded::Bounded;
use regex::bytes::{Regex, RegexSet};

use super::methods::MethodSet;
use super::pattern::MAX_PARAMETERS;
use super::table::{Table, first, hash, size_for, tag};
use super::text::Text;

/// No node, no group.
pub(super) const NONE: u32 = u32::MAX;
/// Several literal children: ask the table.
pub(super) const MANY: u32 = u32::MAX - 1;
/// A parameter in a label.
pub(super) const PARAM_MARK: u8 = 0;

/// One route under one host.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) methods: MethodSet,
    /// Index of the route as it was given.
    pub(super) route: u32,
    pub(super) priority: i32,
    /// Index of its conditions, or [`NONE`].
    pub(super) conditions: u32,
    pub(super) flags: EntryFlags,
}

/// What else there is to know of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct EntryFlags {
    pub(super) keep_slashes: bool,
    pub(super) keep_encoded_slash: bool,
    /// A remainder that needs the slash before it.
    pub(super) needs_slash: bool,
    /// A remainder that is a parameter.
    pub(super) captures_rest: bool,
}

/// A range of entries, as small as it can be stored.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct List {
    pub(super) start: u32,
    pub(super) len: u32,
}

impl List {
    pub(super) fn range(self) -> Range<usize> {
        let start = self.start as usize;
        start..start.saturating_add(self.len as usize)
    }
}

/// Segments: a slash and the text of each, [`PARAM_MARK`] for a parameter.
pub(super) type Label<const N: usize> = Text<N>;

/// A node from which patterns go on, or with several entries; one cache line. Knows the segments it adds to its parent.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub(super) struct Node {
    pub(super) label: Label<22>,
    pub(super) has_parameters: bool,
    /// The child whose first segment is a parameter, or [`NONE`].
    pub(super) parameter: u32,
    /// The child whose first segment is a literal: [`NONE`], the only one, or [`MANY`].
    pub(super) literal: u32,
    /// Entries whose pattern ends here.
    pub(super) ends: List,
    /// Entries for which the remainder begins here.
    pub(super) rests: List,
    /// Index of its expressions, or [`NONE`].
    pub(super) chunks: u32,
    /// The highest priority here and below.
    pub(super) max_priority: i32,
}

/// The end of a single pattern, which most nodes of a large table are; one cache line, and a lookup needs no other for it. Its
/// number among all nodes has the bit [`LEAF`].
#[derive(Clone, Debug)]
#[repr(align(64))]
pub(super) struct Leaf {
    pub(super) label: Label<22>,
    pub(super) has_parameters: bool,
    /// Whether the remainder begins here; else the pattern ends.
    pub(super) is_rest: bool,
    /// What tells it from others that a lookup passes on its way.
    pub(super) tag: u32,
    /// Index of the entry; [`NONE`] where there is no leaf.
    pub(super) index: u32,
    /// A copy of the entry.
    pub(super) entry: Entry,
}

/// All leaves. Those that are one of several literal children stand where the hash of their parent and segment says, so that a lookup finds
/// them on the first line it reads; the others behind those.
#[derive(Debug)]
pub(super) struct Leaves {
    /// A table of `hashed` places, see [`super::table`], then the others.
    places: Box<[Leaf]>,
    hashed: usize,
}

impl Leaves {
    /// Gives each leaf its place. `children` are the hashes and numbers of those that are one of several; also tells each leaf's new number.
    pub(super) fn new(leaves: Vec<Leaf>, children: &[(u64, u32)]) -> (Self, Vec<u32>) {
        let hashed = if children.is_empty() { 0 } else { size_for(children.len()) };
        let mut places = vec![Leaf::NONE; hashed];
        let mut numbers = vec![NONE; leaves.len()];
        for &(hash, id) in children {
            let (Some(leaf), Some(number)) =
                (leaves.get((id & !LEAF) as usize), numbers.get_mut((id & !LEAF) as usize))
            else {
                continue;
            };
            let mut at = first(hash, hashed - 1);
            while places.get(at).is_some_and(|place| place.index != NONE) {
                at = (at + 1) & (hashed - 1);
            }
            if let Some(place) = places.get_mut(at) {
                *place = Leaf { tag: tag(hash), ..leaf.clone() };
                *number = LEAF | offset(at);
            }
        }
        for (leaf, number) in leaves.into_iter().zip(&mut numbers).filter(|(_, number)| **number == NONE) {
            *number = LEAF | offset(places.len());
            places.push(leaf);
        }
        (Self { places: places.into(), hashed }, numbers)
    }

    /// The leaf of this hash whose first segment is this.
    #[inline]
    fn find(&self, hash: u64, segment: &[u8], labels: &[u8]) -> Option<u32> {
        let mask = self.hashed.checked_sub(1)?;
        let mut at = first(hash, mask);
        loop {
            let leaf = self.places.get(at).filter(|leaf| leaf.index != NONE)?;
            if leaf.tag == tag(hash) && begins_with(leaf.label.bytes(labels), segment) {
                return Some(LEAF | offset(at));
            }
            at = (at + 1) & mask;
        }
    }

    /// Leaves there are.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.places.iter().filter(|leaf| leaf.index != NONE).count()
    }
}

impl Leaf {
    const NONE: Leaf = Leaf {
        label: Label::EMPTY,
        has_parameters: false,
        is_rest: false,
        tag: 0,
        index: NONE,
        entry: Entry {
            methods: MethodSet::NONE,
            route: NONE,
            priority: 0,
            conditions: NONE,
            flags: EntryFlags {
                keep_slashes: false,
                keep_encoded_slash: false,
                needs_slash: false,
                captures_rest: false,
            },
        },
    };
}

/// Whether the first segment of a label is this.
#[inline]
fn begins_with(label: &[u8], segment: &[u8]) -> bool {
    label.get(1..=segment.len()) == Some(segment) && matches!(label.get(segment.len() + 1), None | Some(&b'/'))
}

/// Marks the number of a leaf.
pub(super) const LEAF: u32 = 1 << 31;

/// An expression and the entries that it leads to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub(super) regex: u32,
    pub(super) max_priority: i32,
    pub(super) entries: List,
}

/// Some expressions of one node, in file order.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) groups: Box<[Group]>,
    /// Matches where one of them does: a path that none of many matches is found out in one go.
    pub(super) any: Option<RegexSet>,
    /// Bytes of the longest path that each of them goes through.
    pub(super) most: usize,
}

/// A regular expression for whole paths.
#[derive(Debug)]
pub(super) struct PathRegex {
    pub(super) text: Box<str>,
    pub(super) regex: Bounded<Regex>,
    /// What every path it matches begins with: cheaper to compare than the expression to run.
    pub(super) prefix: Box<[u8]>,
}

/// All patterns of all hosts.
#[derive(Debug)]
pub(super) struct Trie {
    pub(super) nodes: Box<[Node]>,
    pub(super) leaves: Leaves,
    /// Nodes that are one of several literal children.
    pub(super) children: Table,
    pub(super) labels: Box<[u8]>,
    pub(super) chunks: Box<[Box<[Chunk]>]>,
    pub(super) regexes: Box<[PathRegex]>,
    pub(super) entries: Box<[Entry]>,
}

/// Ranges of the matched path that parameters took, in the order of the pattern.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spans {
    spans: [(u32, u32); MAX_PARAMETERS],
    len: u8,
}

impl Spans {
    pub(super) const EMPTY: Self = Self { spans: [(0, 0); MAX_PARAMETERS], len: 0 };

    pub(super) fn as_slice(&self) -> &[(u32, u32)] {
        self.spans.get(..usize::from(self.len)).unwrap_or_default()
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [(u32, u32)] {
        self.spans.get_mut(..usize::from(self.len)).unwrap_or_default()
    }

    pub(super) fn copy_from(&mut self, other: &[(u32, u32)]) {
        self.len = 0;
        for &(start, end) in other {
            self.push(start as usize, end as usize);
        }
    }

    /// Patterns have at most [`MAX_PARAMETERS`], so none is ever left out.
    pub(super) fn push(&mut self, start: usize, end: usize) {
        if let Some(span) = self.spans.get_mut(usize::from(self.len)) {
            *span = (offset(start), offset(end));
            self.len += 1;
        }
    }
}

/// Paths are bounded far below 4 GiB.
fn offset(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// What a walk found on its way.
pub(super) struct Reached<'a> {
    /// Entries of one pattern, by precedence; none is never shown.
    pub(super) entries: &'a [Entry],
    /// Index of the first of them.
    pub(super) start: u32,
    /// What the parameters took, a remainder not included.
    pub(super) spans: &'a Spans,
    /// Where the remainder begins, when that is what these entries match.
    pub(super) rest: Option<usize>,
    /// Whether the path ends here, so that there is no slash before the (empty) remainder.
    pub(super) at_end: bool,
    /// The expression that matched.
    pub(super) regex: Option<u32>,
}

/// Who is shown what a walk reaches.
pub(super) trait Visitor {
    /// Whether anything of this priority could still be of use.
    fn wants(&self, max_priority: i32) -> bool;
    /// Looks at a list; breaks when nothing further is of use.
    fn visit(&mut self, reached: &Reached<'_>) -> ControlFlow<()>;
    /// The path is longer than an expression goes through that could match it.
    fn too_long(&mut self) {}
    /// Takes so much of what may be spent; whether there was so much left.
    fn spend(&mut self, work: u64) -> bool {
        let _ = work;
        true
    }
}

impl Trie {
    /// Walks a path below `root`, the number of a node or leaf, and shows every list of entries it reaches.
    #[inline]
    pub(super) fn walk(&self, root: u32, path: &[u8], visitor: &mut impl Visitor) -> ControlFlow<()> {
        Walk { trie: self, path, spans: Spans::EMPTY }.enter(root, 0, visitor)
    }

    #[inline]
    pub(super) fn node(&self, id: u32) -> Option<&Node> {
        self.nodes.get(id as usize)
    }

    #[inline]
    pub(super) fn leaf(&self, id: u32) -> Option<&Leaf> {
        self.leaves.places.get((id & !LEAF) as usize)
    }

    pub(super) fn list(&self, list: List) -> &[Entry] {
        self.entries.get(list.range()).unwrap_or_default()
    }

    pub(super) fn chunks_of(&self, node: &Node) -> &[Chunk] {
        self.chunks.get(node.chunks as usize).map(AsRef::as_ref).unwrap_or_default()
    }

    /// The label of a node or leaf.
    #[inline]
    pub(super) fn label(&self, id: u32) -> &[u8] {
        let label = if id & LEAF == 0 {
            self.node(id).map(|node| node.label.bytes(&self.labels))
        } else {
            self.leaf(id).map(|leaf| leaf.label.bytes(&self.labels))
        };
        label.unwrap_or_default()
    }

    /// The literal child of a node whose first segment may be this; it is, if the label agrees.
    #[inline]
    pub(super) fn literal_child(&self, id: u32, node: &Node, segment: &[u8]) -> Option<u32> {
        match node.literal {
            NONE => None,
            // The first segment of a child's label tells it from its siblings, so at most one agrees. Nodes are few beside leaves.
            MANY => {
                let hash = hash(id, segment);
                self.children
                    .find(hash, |child| begins_with(self.label(child), segment).then_some(child))
                    .or_else(|| self.leaves.find(hash, segment, &self.labels))
            }
            only => Some(only),
        }
    }
}

struct Walk<'a> {
    trie: &'a Trie,
    path: &'a [u8],
    spans: Spans,
}

impl<'a> Walk<'a> {
    /// Goes on at a node or leaf if its label agrees with the path from `at`, which is its end or a slash.
    fn enter(&mut self, id: u32, at: usize, visitor: &mut impl Visitor) -> ControlFlow<()> {
        let before = self.spans.len;
        let flow = if id & LEAF == 0 { self.enter_node(id, at, visitor) } else { self.enter_leaf(id, at, visitor) };
        self.spans.len = before;
        flow
    }

    fn enter_node(&mut self, id: u32, at: usize, visitor: &mut impl Visitor) -> ControlFlow<()> {
        let trie = self.trie;
        if let Some(node) = trie.node(id)
            && visitor.wants(node.max_priority)
            && let Some(at) = self.match_label(node.label.bytes(&trie.labels), node.has_parameters, at)
        {
            self.descend(id, node, at, visitor)?;
        }
        ControlFlow::Continue(())
    }

    #[inline]
    fn enter_leaf(&mut self, id: u32, at: usize, visitor: &mut impl Visitor) -> ControlFlow<()> {
        let trie = self.trie;
        if let Some(leaf) = trie.leaf(id)
            && visitor.wants(leaf.entry.priority)
            && let Some(at) = self.match_label(leaf.label.bytes(&trie.labels), leaf.has_parameters, at)
        {
            let at_end = at == self.path.len();
            if at_end || leaf.is_rest {
                let rest = leaf.is_rest.then_some(if at_end { at } else { at + 1 });
                self.show((std::slice::from_ref(&leaf.entry), leaf.index), rest, at_end, None, visitor)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Where the path goes on behind a label, if it agrees.
    #[inline]
    fn match_label(&mut self, label: &[u8], has_parameters: bool, at: usize) -> Option<usize> {
        let rest = self.path.get(at..)?;
        let len = if has_parameters {
            self.match_parameters(label, at)?
        } else if rest.starts_with(label) {
            label.len()
        } else {
            return None;
        };
        matches!(rest.get(len), None | Some(&b'/')).then_some(at + len)
    }

    /// Length of the path that a label with parameters takes.
    fn match_parameters(&mut self, label: &[u8], at: usize) -> Option<usize> {
        let mut position = at;
        for (index, literal) in label.split(|&byte| byte == PARAM_MARK).enumerate() {
            if index > 0 {
                let end = segment_end(self.path, position);
                if end == position {
                    return None;
                }
                self.spans.push(position, end);
                position = end;
            }
            if !self.path.get(position..)?.starts_with(literal) {
                return None;
            }
            position += literal.len();
        }
        Some(position - at)
    }

    fn descend(&mut self, id: u32, node: &Node, at: usize, visitor: &mut impl Visitor) -> ControlFlow<()> {
        let trie = self.trie;
        if at == self.path.len() {
            self.show(self.list(node.ends), None, true, None, visitor)?;
            return self.show(self.list(node.rests), Some(at), true, None, visitor);
        }
        if node.literal != NONE {
            let segment = self.path.get(at + 1..segment_end(self.path, at + 1)).unwrap_or_default();
            if let Some(child) = trie.literal_child(id, node, segment) {
                self.enter(child, at, visitor)?;
            }
        }
        if node.parameter != NONE {
            self.enter(node.parameter, at, visitor)?;
        }
        if node.chunks != NONE {
            for chunk in trie.chunks_of(node) {
                self.try_expressions(chunk, visitor)?;
            }
        }
        self.show(self.list(node.rests), Some(at + 1), false, None, visitor)
    }

    /// The entries of a list, and the index of the first.
    #[inline]
    fn list(&self, list: List) -> (&'a [Entry], u32) {
        (if list.len == 0 { &[] } else { self.trie.list(list) }, list.start)
    }

    fn try_expressions(&self, chunk: &Chunk, visitor: &mut impl Visitor) -> ControlFlow<()> {
        if self.path.len() <= chunk.most && chunk.any.as_ref().is_some_and(|any| !any.is_match(self.path)) {
            return ControlFlow::Continue(());
        }
        for group in &chunk.groups {
            if visitor.wants(group.max_priority) && self.matches(group.regex, visitor) {
                self.show(self.list(group.entries), None, false, Some(group.regex), visitor)?;
            }
        }
        ControlFlow::Continue(())
    }

    fn matches(&self, regex: u32, visitor: &mut impl Visitor) -> bool {
        let Some(regex) = self.trie.regexes.get(regex as usize) else { return false };
        if !self.path.starts_with(&regex.prefix) {
            return false;
        }
        let affordable = visitor.spend(regex.regex.work(self.path.len()));
        match regex.regex.over(self.path.len()).filter(|_| affordable) {
            Some(regex) => regex.is_match(self.path),
            None => {
                visitor.too_long();
                false
            }
        }
    }

    #[inline]
    fn show(
        &self,
        (entries, start): (&[Entry], u32),
        rest: Option<usize>,
        at_end: bool,
        regex: Option<u32>,
        visitor: &mut impl Visitor,
    ) -> ControlFlow<()> {
        if entries.is_empty() {
            return ControlFlow::Continue(());
        }
        visitor.visit(&Reached { entries, start, spans: &self.spans, rest, at_end, regex })
    }
}

/// Where the segment that begins at `start` ends.
#[inline]
fn segment_end(path: &[u8], start: usize) -> usize {
    let rest = path.get(start..).unwrap_or_default();
    start + rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len())
}
