//! Host, path, method and conditions of a request to the route that takes it. A pure core: no I/O, no clock, no socket; what a
//! route does once it is found, this module deliberately does not know.
//!
//! ```text
//! path.rs        a request's path, read one way
//! pattern.rs     a route's path condition → a key whose byte order is precedence
//! conditions.rs  headers, query, cookies, client address, expressions
//! methods.rs     sets of methods
//! build.rs       routes → sorted entries → trees; findings through conflicts.rs and reach.rs
//! hosts.rs       a request's host → the tree of the best host
//! trie.rs        the tree and the walk down it (grow.rs builds it, cover.rs walks it with a pattern)
//! find.rs        a request → its route, 404, 405 or 400
//! explain.rs     the table in matching order, why a request takes its route, and which route it would fall through to
//! values.rs      values of query parameters and cookies, as conditions see them
//! ```
//!
//! The rules of precedence are in `docs/reference/routing.md`; a naive matcher written from that page alone checks this one.

pub mod path;
pub mod values;
mod text;
mod table;
mod methods;
mod conditions;
mod pattern;
mod trie;
mod grow;
mod hosts;
mod build;
mod conflicts;
mod cover;
mod reach;
mod find;
mod explain;

#[cfg(test)]
mod tests;

pub use build::RouteSpec;
pub use conditions::{Conditions, FailedCondition};
pub use explain::{Considered, Explanation, TableRow, Verdict};
pub use find::{Allow, Captures, Found, Outcome, Query};
pub use path::{PathError, ReadPath, Reading};
pub(crate) use pattern::{normal_prefix, normal_template};
pub use reach::FallThrough;

/// A compiled route table. Immutable, and shared by all workers; a lookup allocates nothing, unless the route that is found
/// takes parameters out of a `path_regex`.
#[derive(Debug)]
pub struct Router {
    hosts: hosts::Hosts,
    trie: trie::Trie,
    conditions: Box<[conditions::ConditionSet]>,
    methods: methods::Methods,
    /// Lists of parameter names, each once.
    names: Box<[Box<[Box<str>]>]>,
    /// Index of each route's list of names.
    route_names: Box<[u32]>,
    hosts_fall_through: bool,
    keeps_slashes: bool,
}

impl Router {
    /// Names of a route's parameters, in the order of [`Captures`]; `route` is its index as it was given to
    /// [`Router::build`]. Named groups of a `path_regex` are parameters too.
    pub fn parameters(&self, route: u32) -> impl ExactSizeIterator<Item = &str> {
        self.names_of(route).iter().map(AsRef::as_ref)
    }

    fn names_of(&self, route: u32) -> &[Box<str>] {
        self.route_names
            .get(route as usize)
            .and_then(|&list| self.names.get(list as usize))
            .map(AsRef::as_ref)
            .unwrap_or_default()
    }
}
