//! Which routes never match, and which route a request goes to when it fails another's conditions. Knows patterns and
//! conditions, no requests.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::ControlFlow;

use daemun_config::diagnostic::{self, Diagnostic, Diagnostics};
use daemun_config::model::PathMatch;

use super::Router;
use super::build::RouteSpec;
use super::conditions::ConditionSet;
use super::cover::Cover;
use super::hosts::Host;
use super::methods::MethodSet;
use super::pattern::{PARAM, Pattern, REGEX, REST, SEP};
use super::trie::{Entry, List, NONE};

/// Nodes visited in all; beyond, routes are left unchecked.
const MAX_NODES: usize = 20_000_000;
/// Findings in all.
const MAX_FINDINGS: usize = 1_000;
/// Entries of one list looked at for one route.
const MAX_LOOKED_AT: usize = 1_024;

/// A route, and the one that takes its requests when they fail its conditions (a header, a method) only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FallThrough {
    /// Index of the route with conditions.
    pub route: u32,
    /// Index of the next route that matches all that it matches, by precedence.
    pub next: u32,
}

/// Warns of each route that another one takes all requests from, under every host.
pub(super) fn report_unreachable(router: &Router, specs: &[RouteSpec<'_>], keys: &[&[u8]], found: &mut Diagnostics) {
    // Per route: entries that can be reached, or the route that takes all.
    let mut shadowed: HashMap<u32, u32> = HashMap::new();
    let mut reached: Vec<bool> = vec![false; specs.len()];
    let mut search = Search { router, cover: Cover::new(&router.trie, MAX_NODES) };
    for host in router.hosts.list() {
        let ceiling = host.max_priority;
        for index in host.entries.range() {
            let (Some(entry), Some(key)) = (router.trie.entries.get(index), keys.get(index)) else { continue };
            let spec = specs.get(entry.route as usize);
            let shadow = match single_segment(key, spec) {
                Some(key) => search.shadow(host, index, entry, &key),
                None if entry.priority < ceiling => search.shadow(host, index, entry, key),
                None => None,
            };
            match shadow {
                Some(by) => _ = shadowed.entry(entry.route).or_insert(by),
                None => reached.get_mut(entry.route as usize).into_iter().for_each(|reached| *reached = true),
            }
        }
    }
    let mut shadowed: Vec<_> = shadowed.into_iter().collect();
    shadowed.retain(|(route, _)| reached.get(*route as usize) == Some(&false));
    shadowed.sort_unstable();
    for (route, by) in shadowed.into_iter().take(MAX_FINDINGS) {
        if let (Some(spec), Some(other)) = (specs.get(route as usize), specs.get(by as usize)) {
            let message = format!("this route never matches: `{}` takes all its requests", other.name.value);
            let finding = Diagnostic::warning(diagnostic::ROUTE_UNREACHABLE, spec.at(), message)
                .path(spec.path(""))
                .related(other.at(), format!("`{}` is here", other.name.value));
            found.push(finding);
        }
    }
}

/// The key of a pattern that covers an expression, when that matches exactly one segment behind its literals: `{x}`, which
/// stands before it in precedence, may take all from it.
fn single_segment(key: &[u8], spec: Option<&RouteSpec<'_>>) -> Option<Vec<u8>> {
    let at = key.len().checked_sub(6)?;
    let Some(PathMatch::Regex(text)) = spec?.matches.path.as_ref().map(|path| &path.value) else { return None };
    let literals = key.get(..at).filter(|_| key.get(at..at + 2) == Some(&[SEP, REGEX]))?;
    let hir = regex_syntax::ParserBuilder::new().unicode(false).utf8(false).build().parse(text).ok()?;
    let slashes = literals.iter().filter(|&&byte| byte == SEP).count() + 1;
    let longer = hir.properties().minimum_len().is_some_and(|len| len > literals.len() + 1);
    (slashes_of(&hir) == Some(slashes) && longer).then(|| [literals, &[SEP, PARAM]].concat())
}

/// How many slashes every text has that an expression matches, if that is one number.
fn slashes_of(hir: &regex_syntax::hir::Hir) -> Option<usize> {
    use regex_syntax::hir::{Class, HirKind};

    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Some(0),
        HirKind::Literal(literal) => Some(literal.0.iter().filter(|&&byte| byte == b'/').count()),
        HirKind::Class(Class::Bytes(class)) => {
            (!class.iter().any(|range| (range.start()..=range.end()).contains(&b'/'))).then_some(0)
        }
        HirKind::Class(Class::Unicode(class)) => {
            (!class.iter().any(|range| (range.start()..=range.end()).contains(&'/'))).then_some(0)
        }
        HirKind::Repetition(repetition) => match slashes_of(&repetition.sub)? {
            0 => Some(0),
            count if repetition.max == Some(repetition.min) => count.checked_mul(repetition.min as usize),
            _ => None,
        },
        HirKind::Capture(capture) => slashes_of(&capture.sub),
        HirKind::Concat(parts) => parts.iter().try_fold(0, |sum, part| Some(sum + slashes_of(part)?)),
        HirKind::Alternation(parts) => {
            let mut counts = parts.iter().map(slashes_of);
            let first = counts.next()??;
            counts.all(|count| count == Some(first)).then_some(first)
        }
    }
}

impl Router {
    /// For each route that has conditions beside its path, the next route that would take its requests without them; none
    /// where they would be answered with 404 or 405. Whether that one protects less, the caller knows. `routes` are those the
    /// router was built from. Costs some microseconds per route.
    #[must_use]
    pub fn fall_through<'a>(&self, routes: impl IntoIterator<Item = RouteSpec<'a>>) -> Vec<FallThrough> {
        let numbers: HashMap<&str, u32> =
            (0..).zip(&self.trie.regexes).map(|(number, regex)| (regex.text.as_ref(), number)).collect();
        let patterns: Vec<_> = routes.into_iter().map(|spec| self.pattern(&spec, &numbers)).collect();
        let mut search = Search { router: self, cover: Cover::new(&self.trie, MAX_NODES) };
        let mut found = Vec::new();
        for host in self.hosts.list() {
            for index in host.entries.range() {
                let Some(entry) = self.trie.entries.get(index) else { continue };
                let Some(pattern) = patterns.get(entry.route as usize).and_then(Option::as_ref) else { continue };
                if entry.conditions == NONE && entry.methods == MethodSet::ANY {
                    continue;
                }
                let next = self.hosts.each_wider(host, |wider| {
                    let after = if wider.root == host.root { Some(index) } else { None };
                    match search.next(wider, after, entry, pattern) {
                        Some(next) => ControlFlow::Break(Some(next)),
                        None if self.hosts_fall_through => ControlFlow::Continue(()),
                        None => ControlFlow::Break(None),
                    }
                });
                found.extend(next.break_value().flatten().map(|next| FallThrough { route: entry.route, next }));
            }
        }
        found.sort_unstable_by_key(|pair| (pair.route, pair.next));
        found.dedup();
        found.retain(|pair| pair.route != pair.next);
        found
    }

    /// The pattern of a route with its whole key.
    fn pattern(&self, spec: &RouteSpec<'_>, numbers: &HashMap<&str, u32>) -> Option<Pattern> {
        let condition = spec.matches.path.as_ref().map(|path| &path.value);
        let mut pattern = Pattern::read(condition, spec.keep()).ok()?;
        if let Some(text) = &pattern.regex {
            pattern.key.extend_from_slice(&numbers.get(text.as_str())?.to_be_bytes());
        }
        Some(pattern)
    }

    fn rank(&self, index: usize) -> Option<(Reverse<i32>, usize)> {
        self.trie.entries.get(index).map(|entry| (Reverse(entry.priority), index))
    }

    fn conditions_of(&self, entry: &Entry) -> Option<&ConditionSet> {
        self.conditions.get(entry.conditions as usize)
    }

    /// Whether every request that fulfils the conditions of `inner` fulfils those of `outer`; paths aside.
    fn includes(&self, outer: &Entry, inner: &Entry) -> bool {
        outer.methods.includes(inner.methods)
            && match (self.conditions_of(outer), self.conditions_of(inner)) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(outer), Some(inner)) => outer.is_implied_by(inner),
            }
    }
}

/// Questions to the tree that share one bound on their cost.
struct Search<'a> {
    router: &'a Router,
    cover: Cover<'a>,
}

impl Search<'_> {
    /// The route that wins against an entry wherever that matches.
    fn shadow(&mut self, host: &Host, index: usize, entry: &Entry, key: &[u8]) -> Option<u32> {
        let router = self.router;
        let own = router.rank(index)?;
        let mut shadow = None;
        let needs_slash = entry.flags.needs_slash;
        self.cover.each(host.root, key, needs_slash, &mut |covering| {
            if shadow.is_some() {
                return;
            }
            let candidates = covering.entries.range().zip(router.trie.list(covering.entries));
            shadow = candidates
                .take(MAX_LOOKED_AT)
                .take_while(|&(other, _)| router.rank(other).is_some_and(|rank| rank < own))
                .find(|(_, other)| {
                    other.route != entry.route
                        && !(covering.without_slash_only && other.flags.needs_slash)
                        && other.flags.keep_slashes == entry.flags.keep_slashes
                        && router.includes(other, entry)
                })
                .map(|(_, other)| other.route);
        });
        shadow
    }

    /// The next route under a host that takes what an entry takes; `after` is the entry's index if it stands under it too.
    fn next(&mut self, host: &Host, after: Option<usize>, entry: &Entry, pattern: &Pattern) -> Option<u32> {
        let router = self.router;
        let own = after.and_then(|index| router.rank(index));
        let mut best: Option<((Reverse<i32>, usize), u32)> = None;
        let needs_slash = pattern.needs_slash || !pattern.key.ends_with(&[SEP, REST]);
        self.cover.each(host.root, &pattern.key, needs_slash, &mut |covering| {
            let start = first_after(router, covering.entries, after, entry);
            for index in (start..covering.entries.range().end).take(MAX_LOOKED_AT) {
                let (Some(other), Some(rank)) = (router.trie.entries.get(index), router.rank(index)) else { break };
                if best.is_some_and(|(best, _)| best < rank) {
                    break;
                }
                if own.is_none_or(|own| own < rank)
                    && !(covering.without_slash_only && other.flags.needs_slash)
                    && router.includes(other, entry)
                {
                    best = Some((rank, other.route));
                    break;
                }
            }
        });
        best.map(|(_, route)| route)
    }
}

/// Where in a list to begin: in the entry's own, behind all that weigh as much as it, for none of these includes it.
fn first_after(router: &Router, list: List, after: Option<usize>, entry: &Entry) -> usize {
    let range = list.range();
    let Some(own) = after.filter(|own| range.contains(own)) else { return range.start };
    let weight = |entry: &Entry| {
        let any_method = entry.methods == MethodSet::ANY;
        (Reverse(entry.priority), Reverse(router.conditions_of(entry).map_or(0, ConditionSet::weight)), any_method)
    };
    let behind = router.trie.entries.get(own..range.end).unwrap_or_default();
    own + behind.partition_point(|other| weight(other) <= weight(entry))
}
