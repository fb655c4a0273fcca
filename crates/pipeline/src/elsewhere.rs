//! Where an exchange goes in place of where its route ends, and who knows the way there. Knows no socket and no policy.

use std::sync::Arc;

/// Where an exchange goes in place of where its route ends. Only an upstream of the configuration can be named: nothing outside of it is
/// reached, whatever chose it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// The upstream's place in the configuration.
    pub upstream: usize,
    /// Its name.
    pub name: Arc<str>,
    /// Path and query that are sent in place of what the request and the route's `rewrite` come to; the path in its one reading, without
    /// what stands before paths at a target.
    pub resource: Option<Box<str>>,
}

/// The upstreams of a configuration, as a policy may send exchanges to them.
pub trait Upstreams: Send + Sync {
    /// Their names, in the order of the configuration.
    fn names(&self) -> Vec<&str>;

    /// The way to what a text names: one of the upstreams `among`, by its name, or the address of a target that one of them has now, with
    /// path and query perhaps.
    ///
    /// # Errors
    /// Why there is no way, in words, without the text.
    fn find(&self, text: &str, among: &[usize]) -> Result<Elsewhere, &'static str>;
}

/// No upstreams at all.
impl Upstreams for () {
    fn names(&self) -> Vec<&str> {
        Vec::new()
    }

    fn find(&self, _: &str, _: &[usize]) -> Result<Elsewhere, &'static str> {
        Err("there are no upstreams")
    }
}
