//! The walk down the tree with a pattern in place of a path: which patterns match every path that this one matches. Knows
//! nothing of what the answer is for.

use super::pattern::{PARAM, REGEX, REST, SEP};
use super::trie::{LEAF, List, NONE, Node, PARAM_MARK, Trie};

/// A list of entries whose pattern covers the one asked about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Covering {
    pub(super) entries: List,
    /// Whether those of them that need a slash before the remainder do not cover it.
    pub(super) without_slash_only: bool,
}

/// A segment of the pattern asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Segment<'a> {
    Literal(&'a [u8]),
    Parameter,
    Regex(u32),
    Rest,
}

/// A walk with patterns; one may serve many, and stops when it has visited as many nodes as it may.
pub(super) struct Cover<'a> {
    trie: &'a Trie,
    /// Nodes it may still visit.
    pub(super) budget: usize,
}

impl<'a> Cover<'a> {
    pub(super) fn new(trie: &'a Trie, budget: usize) -> Self {
        Self { trie, budget }
    }

    /// Shows every list under `root` that covers the pattern with this key, by precedence of the path. A list may hold the
    /// pattern's own entry.
    pub(super) fn each(&mut self, root: u32, key: &[u8], needs_slash: bool, visit: &mut dyn FnMut(Covering)) {
        let segments = split(key);
        let mut walk = Walk { trie: self.trie, segments: &segments, needs_slash, budget: self.budget, visit };
        walk.enter(root, 0);
        self.budget = walk.budget;
    }
}

struct Walk<'a, 'v> {
    trie: &'a Trie,
    segments: &'a [Segment<'a>],
    needs_slash: bool,
    budget: usize,
    visit: &'v mut dyn FnMut(Covering),
}

impl Walk<'_, '_> {
    fn enter(&mut self, id: u32, at: usize) {
        if self.budget == 0 {
            return;
        }
        self.budget -= 1;
        let Some(at) = self.match_label(self.trie.label(id), at) else { return };
        if id & LEAF == 0 {
            if let Some(node) = self.trie.node(id) {
                self.descend(id, node, at);
            }
        } else if let Some(leaf) = self.trie.leaf(id) {
            let entries = List { start: leaf.index, len: 1 };
            match self.segments.get(at) {
                None => self.show(entries, leaf.is_rest),
                Some(Segment::Rest) if leaf.is_rest => self.show(entries, !self.needs_slash),
                Some(_) if leaf.is_rest => self.show(entries, false),
                Some(_) => {}
            }
        }
    }

    /// Where the pattern goes on behind a label, if the label covers it.
    fn match_label(&self, label: &[u8], at: usize) -> Option<usize> {
        let Some(label) = label.strip_prefix(b"/") else { return Some(at) };
        let mut at = at;
        for segment in label.split(|&byte| byte == b'/') {
            let covered = match self.segments.get(at)? {
                Segment::Literal(literal) => segment == *literal || segment == [PARAM_MARK] && !literal.is_empty(),
                Segment::Parameter => segment == [PARAM_MARK],
                Segment::Regex(_) | Segment::Rest => false,
            };
            if !covered {
                return None;
            }
            at += 1;
        }
        Some(at)
    }

    fn descend(&mut self, id: u32, node: &Node, at: usize) {
        match self.segments.get(at).copied() {
            None => {
                self.show(node.ends, false);
                self.show(node.rests, true);
            }
            Some(Segment::Rest) => self.show(node.rests, !self.needs_slash),
            Some(Segment::Regex(regex)) => {
                let groups = self.trie.chunks_of(node).iter().flat_map(|chunk| &chunk.groups);
                for group in groups.filter(|group| group.regex == regex) {
                    self.show(group.entries, false);
                }
                self.show(node.rests, false);
            }
            Some(Segment::Literal(literal)) => {
                if let Some(child) = self.trie.literal_child(id, node, literal) {
                    self.enter(child, at);
                }
                if node.parameter != NONE {
                    self.enter(node.parameter, at);
                }
                self.show(node.rests, false);
            }
            Some(Segment::Parameter) => {
                if node.parameter != NONE {
                    self.enter(node.parameter, at);
                }
                self.show(node.rests, false);
            }
        }
    }

    fn show(&mut self, entries: List, without_slash_only: bool) {
        if entries.len > 0 {
            (self.visit)(Covering { entries, without_slash_only });
        }
    }
}

/// The segments of a key.
fn split(key: &[u8]) -> Vec<Segment<'_>> {
    let mut segments = Vec::new();
    let mut rest = key;
    while let [SEP, tail @ ..] = rest {
        if let [REGEX, number @ ..] = tail {
            segments.push(Segment::Regex(number.try_into().map_or(NONE, u32::from_be_bytes)));
            break;
        }
        let len = tail.iter().position(|&byte| byte == SEP).unwrap_or(tail.len());
        let (segment, after) = tail.split_at_checked(len).unwrap_or((tail, &[]));
        segments.push(match segment {
            [PARAM] => Segment::Parameter,
            [REST] => Segment::Rest,
            literal => Segment::Literal(literal),
        });
        rest = after;
    }
    segments
}
