//! Host names to the roots of their trees: exact names, then wildcards from the longest, then any. Knows nothing of paths.

use std::ops::ControlFlow;

use super::table::{Table, hash};
use super::text::Text;
use super::trie::List;

/// Longest host name that can be anybody's, RFC 1035.
const MAX_LEN: usize = 255;

/// What hosts a pattern stands for; the order is that of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum HostKind {
    Exact,
    /// `*.` and a suffix: one or more labels, then the suffix.
    Wildcard,
    Any,
}

/// A host pattern of the configuration: what kind, and the name or suffix.
pub(super) fn read_pattern(pattern: &str) -> Option<(HostKind, &str)> {
    let name = pattern.strip_suffix('.').unwrap_or(pattern);
    let (kind, name) = match name.strip_prefix("*.") {
        Some(suffix) => (HostKind::Wildcard, suffix),
        None if name == "*" => return Some((HostKind::Any, "")),
        None => (HostKind::Exact, name),
    };
    (!name.is_empty() && name.len() <= MAX_LEN && !name.contains('*')).then_some((kind, name))
}

/// One host pattern and what lies under it.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub(super) struct Host {
    name: Text<40>,
    pub(super) kind: HostKind,
    /// Root of its tree.
    pub(super) root: u32,
    /// The highest priority of its entries.
    pub(super) max_priority: i32,
    /// All its entries.
    pub(super) entries: List,
}

/// All host patterns.
#[derive(Debug)]
pub(super) struct Hosts {
    exact: Table,
    wildcards: Table,
    any: Option<u32>,
    longest_suffix: usize,
    list: Box<[Host]>,
    names: Box<[u8]>,
}

impl Hosts {
    /// The patterns in their order of precedence: kind, name, root, highest priority and entries.
    pub(super) fn new<'a>(patterns: impl Iterator<Item = (HostKind, &'a str, u32, i32, List)>) -> Self {
        let (mut exact, mut wildcards, mut any) = (Vec::new(), Vec::new(), None);
        let mut longest_suffix = 0;
        let (mut list, mut names) = (Vec::new(), Vec::new());
        for (number, (kind, name, root, max_priority, entries)) in (0_u32..).zip(patterns) {
            let hash = hash(0, name.as_bytes());
            match kind {
                HostKind::Exact => exact.push((hash, number)),
                HostKind::Wildcard => {
                    longest_suffix = longest_suffix.max(name.len());
                    wildcards.push((hash, number));
                }
                HostKind::Any => any = Some(number),
            }
            list.push(Host { name: Text::new(name.as_bytes(), &mut names), kind, root, max_priority, entries });
        }
        Self {
            exact: Table::new(&exact),
            wildcards: Table::new(&wildcards),
            any,
            longest_suffix,
            list: list.into(),
            names: names.into(),
        }
    }

    /// All patterns in their order of precedence.
    pub(super) fn list(&self) -> &[Host] {
        &self.list
    }

    /// A pattern as the configuration writes it; `*` for any.
    pub(super) fn pattern(&self, host: &Host) -> String {
        let name = String::from_utf8_lossy(host.name.bytes(&self.names));
        match host.kind {
            HostKind::Exact => name.into_owned(),
            HostKind::Wildcard => format!("*.{name}"),
            HostKind::Any => "*".to_owned(),
        }
    }

    /// Shows the patterns that a request's host matches, best first, until `visit` breaks. The name is in lower case and
    /// without port; a dot at its end is ignored.
    #[inline]
    pub(super) fn each<T>(&self, name: &[u8], mut visit: impl FnMut(&Host) -> ControlFlow<T>) -> ControlFlow<T> {
        let name = name.strip_suffix(b".").unwrap_or(name);
        if name.len() <= MAX_LEN {
            if let Some(host) = self.lookup(&self.exact, name) {
                visit(host)?;
            }
            self.each_wildcard(name, &mut visit)?;
        }
        match self.any.and_then(|any| self.list.get(any as usize)) {
            Some(host) => visit(host),
            None => ControlFlow::Continue(()),
        }
    }

    fn each_wildcard<T>(&self, name: &[u8], visit: &mut impl FnMut(&Host) -> ControlFlow<T>) -> ControlFlow<T> {
        if self.longest_suffix == 0 {
            return ControlFlow::Continue(());
        }
        let mut rest = name;
        while let Some(dot) = rest.iter().position(|&byte| byte == b'.') {
            let label_is_empty = dot == 0;
            rest = rest.get(dot + 1..).unwrap_or_default();
            if label_is_empty || rest.len() > self.longest_suffix {
                continue;
            }
            if let Some(host) = self.lookup(&self.wildcards, rest) {
                visit(host)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Shows the patterns that stand for all hosts this one stands for, itself first.
    pub(super) fn each_wider<T>(&self, host: &Host, mut visit: impl FnMut(&Host) -> ControlFlow<T>) -> ControlFlow<T> {
        visit(host)?;
        if host.kind != HostKind::Any {
            self.each_wildcard(host.name.bytes(&self.names), &mut visit)?;
            if let Some(any) = self.any.and_then(|any| self.list.get(any as usize)) {
                visit(any)?;
            }
        }
        ControlFlow::Continue(())
    }

    #[inline]
    fn lookup(&self, table: &Table, name: &[u8]) -> Option<&Host> {
        table.find(hash(0, name), |number| {
            self.list.get(number as usize).filter(|host| host.name.bytes(&self.names) == name)
        })
    }
}
