//! A request to its route. Knows how the best of several is chosen, not how they are stored.

use std::fmt;
use std::ops::{ControlFlow, Range};

use daemun_pipeline::expression::Place;

use super::Router;
use super::conditions::{ConditionSet, Conditions, Looked};
use super::hosts::Host;
use super::methods::MethodSet;
use super::path::ReadPath;
use super::trie::{Entry, EntryFlags, NONE, Reached, Spans, Visitor};

/// What a request asks of the router.
#[derive(Clone, Copy)]
pub struct Query<'a> {
    /// Host in lower case, without port; empty when there is none. A dot at its end is ignored.
    pub host: &'a [u8],
    /// Its path, read.
    pub path: &'a ReadPath<'a>,
    /// Its method; of a preflight, `Access-Control-Request-Method`.
    pub method: &'a str,
    /// Asked only when a route that could win has such conditions.
    pub request: &'a dyn Conditions,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A route takes it.
    Found(Found),
    /// None takes it, but one would with another method: 405.
    MethodNotAllowed(Allow),
    /// None takes it: 404.
    NotFound,
    /// Its path holds `%2F`, and no route takes it that says `encoded_slash: keep`: 400.
    EncodedSlash,
}

/// The route that takes a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Index of the route, as it was given to [`Router::build`].
    pub route: u32,
    /// Which variant of the path the route matched, and is forwarded: [`ReadPath::forwarded`].
    pub keep_slashes: bool,
}

/// The methods that would be allowed. [`Router::allow`] names them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allow(MethodSet);

/// What the parameters of the route that was found took: ranges of the forwarded path. Kept by the caller and used again.
#[derive(Clone, Copy)]
pub struct Captures(Spans);

impl Captures {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self(Spans::EMPTY)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.as_slice().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.as_slice().is_empty()
    }

    /// Range of the forwarded path that the parameter of this number took; its `;parameters` are part of it.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Range<usize>> {
        self.0.as_slice().get(index).map(|&(start, end)| start as usize..end as usize)
    }
}

impl Default for Captures {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Captures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.as_slice()).finish()
    }
}

/// Which routes a walk may take, by how they want the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variant {
    /// All: the path is the same for all.
    Either,
    /// Those without `slashes: keep`.
    Collapsed,
    /// Those with it.
    Kept,
}

impl Variant {
    pub(super) fn takes(self, entry: &Entry) -> bool {
        match self {
            Self::Either => true,
            Self::Collapsed => !entry.flags.keep_slashes,
            Self::Kept => entry.flags.keep_slashes,
        }
    }
}

/// An entry that takes the request, with all of it that is needed further: the entry itself may be far away.
#[derive(Clone, Copy, Debug)]
struct Best {
    index: u32,
    priority: i32,
    route: u32,
    flags: EntryFlags,
    regex: Option<u32>,
    variant: Variant,
}

/// How many searches taking groups out of a path costs at worst, where there is no faster way than to follow each thread of the automaton.
const CAPTURE_COST: u64 = 4;

impl Router {
    /// The route that takes a request; what its parameters took is left in `captures`.
    pub fn find(&self, query: &Query<'_>, captures: &mut Captures) -> Outcome {
        self.find_by(query, Looked::All, captures)
    }

    /// The route that the request would take which a CORS preflight announces: headers, query and cookies are not looked at.
    pub fn find_preflight(&self, query: &Query<'_>, captures: &mut Captures) -> Outcome {
        self.find_by(query, Looked::ClientIpOnly, captures)
    }

    /// The names of allowed methods, for the `Allow` field.
    pub fn allow(&self, allow: Allow) -> impl Iterator<Item = &str> {
        self.methods.names(allow.0)
    }

    pub(super) fn find_by(&self, query: &Query<'_>, looked: Looked, captures: &mut Captures) -> Outcome {
        captures.0 = Spans::EMPTY;
        let mut search =
            Search { router: self, query, looked, method: self.methods.set_of(query.method), other_methods: false };
        let found = self.hosts.each(query.host, |host| match search.best(host, &mut captures.0) {
            Some(best) => ControlFlow::Break(Some(best)),
            None if self.hosts_fall_through => ControlFlow::Continue(()),
            None => ControlFlow::Break(None),
        });
        let Some(best) = found.break_value().flatten() else { return search.refusal() };
        if query.path.had_encoded_slash() && !best.flags.keep_encoded_slash {
            return Outcome::EncodedSlash;
        }
        let keep_slashes = best.variant == Variant::Kept;
        if let Some(regex) = best.regex {
            self.capture_groups(regex, best.route, query.path.matched(keep_slashes), query.request, &mut captures.0);
        }
        if query.path.had_parameters() {
            for span in captures.0.as_mut_slice() {
                *span = query.path.widen(keep_slashes, *span);
            }
        }
        Outcome::Found(Found { route: best.route, keep_slashes: best.flags.keep_slashes })
    }

    /// Takes the parameters of a route out of the groups of its expression.
    fn capture_groups(&self, regex: u32, route: u32, path: &[u8], request: &dyn Conditions, spans: &mut Spans) {
        let names = self.names_of(route);
        if names.is_empty() {
            return;
        }
        let regex = self.trie.regexes.get(regex as usize).map(|regex| &regex.regex);
        let groups = regex.and_then(|regex| {
            let compiled = regex.over(path.len())?;
            if !request.spend(regex.work(path.len()).saturating_mul(CAPTURE_COST)) {
                request.too_long();
                return None;
            }
            compiled.captures(path)
        });
        for name in names {
            let group = groups.as_ref().and_then(|groups| groups.name(name));
            spans.push(group.map_or(0, |group| group.start()), group.map_or(0, |group| group.end()));
        }
    }
}

/// One lookup.
struct Search<'a> {
    router: &'a Router,
    query: &'a Query<'a>,
    looked: Looked,
    method: MethodSet,
    /// Whether a route was passed over for its method.
    other_methods: bool,
}

impl Search<'_> {
    /// The best route under one host.
    fn best(&mut self, host: &Host, spans: &mut Spans) -> Option<Best> {
        if !self.query.path.had_empty_segments() {
            return self.best_variant(host, Variant::Either, spans);
        }
        let collapsed = self.best_variant(host, Variant::Collapsed, spans);
        if !self.router.keeps_slashes {
            return collapsed;
        }
        let mut kept_spans = Spans::EMPTY;
        let kept = self.best_variant(host, Variant::Kept, &mut kept_spans);
        let rank = |best: &Best| (std::cmp::Reverse(best.priority), best.index);
        match (collapsed, kept) {
            (Some(collapsed), Some(kept)) if rank(&collapsed) < rank(&kept) => Some(collapsed),
            (collapsed, None) => collapsed,
            (_, kept) => {
                *spans = kept_spans;
                kept
            }
        }
    }

    fn best_variant(&mut self, host: &Host, variant: Variant, spans: &mut Spans) -> Option<Best> {
        let trie = &self.router.trie;
        let path = self.query.path.matched(variant == Variant::Kept);
        let ceiling = host.max_priority;
        let path_len = path.len();
        let mut finder = Finder { search: self, variant, ceiling, path_len, best: None, spans };
        let _ = trie.walk(host.root, path, &mut finder);
        finder.best
    }

    #[inline]
    fn conditions_hold(&self, entry: &Entry, reached: &Reached<'_>, variant: Variant) -> bool {
        entry.conditions == NONE
            || conditions(self.router, entry).is_none_or(|set| {
                set.hold(self.query.request, self.looked)
                    && (set.when.is_none() || self.looked != Looked::All || {
                        let keep_slashes = variant == Variant::Kept;
                        when_holds(self.router, set, self.query, &Walked { entry, reached, keep_slashes })
                    })
            })
    }

    /// What to answer when no route takes the request.
    fn refusal(&self) -> Outcome {
        if self.query.path.had_encoded_slash() {
            return Outcome::EncodedSlash;
        }
        if !self.other_methods {
            return Outcome::NotFound;
        }
        let mut allowed = Allowed { search: self, variant: Variant::Either, methods: MethodSet::default() };
        let _ = self.router.hosts.each::<()>(self.query.host, |host| {
            allowed.collect(host);
            if self.router.hosts_fall_through { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        if allowed.methods.is_empty() { Outcome::NotFound } else { Outcome::MethodNotAllowed(Allow(allowed.methods)) }
    }
}

/// The conditions of an entry that has some.
pub(super) fn conditions<'a>(router: &'a Router, entry: &Entry) -> Option<&'a ConditionSet> {
    router.conditions.get(entry.conditions as usize)
}

/// How an entry was reached.
pub(super) struct Walked<'a> {
    pub(super) entry: &'a Entry,
    pub(super) reached: &'a Reached<'a>,
    /// Whether the entry reads the path with its empty segments.
    pub(super) keep_slashes: bool,
}

/// Whether the expression of an entry holds; `true` when it has none.
pub(super) fn when_holds(router: &Router, set: &ConditionSet, query: &Query<'_>, walked: &Walked<'_>) -> bool {
    let Some(when) = &set.when else { return true };
    let &Walked { entry, reached, keep_slashes } = walked;
    let (path, full) = (query.path.matched(keep_slashes), query.path.forwarded(keep_slashes));
    let mut spans = Spans::EMPTY;
    if when.expression.needs_params() {
        spans.copy_from(reached.spans.as_slice());
        if let Some(start) = reached.rest
            && entry.flags.captures_rest
        {
            spans.push(start, path.len());
        }
        if let Some(regex) = reached.regex {
            router.capture_groups(regex, entry.route, path, query.request, &mut spans);
        }
    }
    query.request.when(&when.expression, when.body, Place { path, full, params: spans.as_slice() })
}

/// Keeps the best entry seen. The walk goes by precedence of the path, so that one seen later wins only by its priority.
struct Finder<'s, 'a> {
    search: &'s mut Search<'a>,
    variant: Variant,
    /// The highest priority there is: nothing beats it.
    ceiling: i32,
    path_len: usize,
    best: Option<Best>,
    spans: &'s mut Spans,
}

impl Visitor for Finder<'_, '_> {
    #[inline]
    fn wants(&self, max_priority: i32) -> bool {
        self.best.is_none_or(|best| max_priority > best.priority)
    }

    #[cold]
    fn too_long(&mut self) {
        self.search.query.request.too_long();
    }

    fn spend(&mut self, work: u64) -> bool {
        self.search.query.request.spend(work)
    }

    #[inline]
    fn visit(&mut self, reached: &Reached<'_>) -> ControlFlow<()> {
        for (index, entry) in (reached.start..).zip(reached.entries) {
            if !self.wants(entry.priority) {
                break;
            }
            if !takes(entry, reached, self.variant) {
                continue;
            }
            if !entry.methods.intersects(self.search.method) {
                self.search.other_methods = true;
                continue;
            }
            if !self.search.conditions_hold(entry, reached, self.variant) {
                continue;
            }
            let &Entry { priority, route, flags, .. } = entry;
            self.best = Some(Best { index, priority, route, flags, regex: reached.regex, variant: self.variant });
            self.spans.copy_from(reached.spans.as_slice());
            if let Some(start) = reached.rest
                && entry.flags.captures_rest
            {
                self.spans.push(start, self.path_len);
            }
            break;
        }
        if self.wants(self.ceiling) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

/// Whether the path, and how it was read, suit an entry that was reached.
#[inline]
pub(super) fn takes(entry: &Entry, reached: &Reached<'_>, variant: Variant) -> bool {
    !(reached.at_end && entry.flags.needs_slash) && variant.takes(entry)
}

/// Collects the methods of the routes that were passed over for their method alone.
struct Allowed<'s, 'a> {
    search: &'s Search<'a>,
    variant: Variant,
    methods: MethodSet,
}

impl Allowed<'_, '_> {
    fn collect(&mut self, host: &Host) {
        let path = self.search.query.path;
        let variants: &[Variant] = match (path.had_empty_segments(), self.search.router.keeps_slashes) {
            (false, _) => &[Variant::Either],
            (true, false) => &[Variant::Collapsed],
            (true, true) => &[Variant::Collapsed, Variant::Kept],
        };
        for &variant in variants {
            self.variant = variant;
            let _ = self.search.router.trie.walk(host.root, path.matched(variant == Variant::Kept), self);
        }
    }
}

impl Visitor for Allowed<'_, '_> {
    fn wants(&self, _max_priority: i32) -> bool {
        true
    }

    fn visit(&mut self, reached: &Reached<'_>) -> ControlFlow<()> {
        for entry in reached.entries {
            if takes(entry, reached, self.variant)
                && !self.methods.includes(entry.methods)
                && self.search.conditions_hold(entry, reached, self.variant)
            {
                self.methods = self.methods.with(entry.methods);
            }
        }
        ControlFlow::Continue(())
    }
}
