//! The route table in the order it matches, and why a request takes the route it takes. For people: slower than a lookup, and
//! it allocates.

use std::cmp::Reverse;
use std::ops::ControlFlow;

use super::Router;
use super::conditions::{ConditionSet, FailedCondition, Looked};
use super::find::{Captures, Outcome, Query, Variant, Walked, conditions, takes, when_holds};
use super::methods::MethodSet;
use super::trie::{Entry, Reached, Visitor};

/// Most routes an explanation lists under one host.
const MAX_CONSIDERED: usize = 1_000;

/// One line of the route table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRow {
    /// Host pattern; `*` for any.
    pub host: String,
    /// Index of the route.
    pub route: u32,
}

/// Why a request takes its route.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Host patterns that were looked under, best first; none when no route has the host.
    pub hosts: Vec<String>,
    /// All routes whose path matches, by precedence: at most 1,000 per host.
    pub considered: Vec<Considered>,
    /// What [`Router::find`] says.
    pub outcome: Outcome,
    /// What the parameters took.
    pub captures: Captures,
}

/// A route whose path matches a request, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Considered {
    /// Host pattern under which it was considered; `*` for any.
    pub host: String,
    /// Index of the route.
    pub route: u32,
    /// Why it takes the request, or does not.
    pub verdict: Verdict,
}

/// Why a route takes a request, or does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the first that matches.
    Taken,
    /// It would match, but another stands before it.
    Outranked,
    /// It does not take this method.
    Method,
    /// A condition does not hold.
    Condition(FailedCondition),
}

impl Router {
    /// All routes in the order they are tried: by host, then priority, path and conditions. A route under several hosts has as
    /// many rows.
    #[must_use]
    pub fn table(&self) -> Vec<TableRow> {
        let mut rows = Vec::with_capacity(self.trie.entries.len());
        for host in self.hosts.list() {
            let pattern = self.hosts.pattern(host);
            let mut entries: Vec<_> = self.trie.list(host.entries).iter().collect();
            entries.sort_by_key(|entry| Reverse(entry.priority));
            rows.extend(entries.into_iter().map(|entry| TableRow { host: pattern.clone(), route: entry.route }));
        }
        rows
    }

    /// Why a request takes its route: every route whose path matches, with the reason it was passed over.
    #[must_use]
    pub fn explain(&self, query: &Query<'_>) -> Explanation {
        self.explain_by(query, Looked::All)
    }

    /// The same for the request that a CORS preflight announces, see [`Router::find_preflight`].
    #[must_use]
    pub fn explain_preflight(&self, query: &Query<'_>) -> Explanation {
        self.explain_by(query, Looked::ClientIpOnly)
    }

    fn explain_by(&self, query: &Query<'_>, looked: Looked) -> Explanation {
        let mut captures = Captures::new();
        let outcome = self.find_by(query, looked, &mut captures);
        let mut explanation = Explanation { hosts: Vec::new(), considered: Vec::new(), outcome, captures };
        let mut taken = false;
        let _ = self.hosts.each::<()>(query.host, |host| {
            let pattern = self.hosts.pattern(host);
            let mut lister = Lister { router: self, query, looked, variant: Variant::Either, listed: Vec::new() };
            lister.list(host.root);
            lister.listed.sort_by_key(|listed| listed.rank);
            for Listed { route, failed, .. } in lister.listed {
                let verdict = match failed {
                    Some(verdict) => verdict,
                    None if taken => Verdict::Outranked,
                    None => Verdict::Taken,
                };
                taken |= verdict == Verdict::Taken;
                explanation.considered.push(Considered { host: pattern.clone(), route, verdict });
            }
            explanation.hosts.push(pattern);
            if taken || !self.hosts_fall_through { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        explanation
    }
}

struct Listed {
    rank: (Reverse<i32>, u32),
    route: u32,
    failed: Option<Verdict>,
}

/// Lists every entry that the path reaches.
struct Lister<'a> {
    router: &'a Router,
    query: &'a Query<'a>,
    looked: Looked,
    variant: Variant,
    listed: Vec<Listed>,
}

impl Lister<'_> {
    fn list(&mut self, root: u32) {
        let path = self.query.path;
        let variants: &[Variant] =
            if path.had_empty_segments() { &[Variant::Collapsed, Variant::Kept] } else { &[Variant::Either] };
        for &variant in variants {
            self.variant = variant;
            let _ = self.router.trie.walk(root, path.matched(variant == Variant::Kept), self);
        }
    }

    fn failed(&self, set: &ConditionSet, entry: &Entry, reached: &Reached<'_>) -> Option<FailedCondition> {
        let failed = set.explain(self.query.request, self.looked);
        if failed.is_some() || self.looked != Looked::All {
            return failed;
        }
        let keep_slashes = self.variant == Variant::Kept;
        if when_holds(self.router, set, self.query, &Walked { entry, reached, keep_slashes }) {
            return None;
        }
        set.when.as_ref().map(|when| FailedCondition::When(when.expression.text().to_owned()))
    }

    fn method(&self) -> MethodSet {
        self.router.methods.set_of(self.query.method)
    }
}

impl Visitor for Lister<'_> {
    fn wants(&self, _max_priority: i32) -> bool {
        self.listed.len() < MAX_CONSIDERED
    }

    fn visit(&mut self, reached: &Reached<'_>) -> ControlFlow<()> {
        for (index, entry) in (reached.start..).zip(reached.entries) {
            if !takes(entry, reached, self.variant) {
                continue;
            }
            let failed = if entry.methods.intersects(self.method()) {
                conditions(self.router, entry).and_then(|set| self.failed(set, entry, reached)).map(Verdict::Condition)
            } else {
                Some(Verdict::Method)
            };
            self.listed.push(Listed { rank: (Reverse(entry.priority), index), route: entry.route, failed });
        }
        ControlFlow::Continue(())
    }
}
