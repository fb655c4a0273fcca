//! What the language must know of the policies to check and describe their settings; the policies themselves live elsewhere.

use crate::decode::{Decoder, SchemaBuilder};
use crate::tree::Node;

/// One policy, as far as the language goes.
#[derive(Clone, Copy, Debug)]
pub struct PolicyDescription {
    /// Name, as written under `policies`.
    pub name: &'static str,
    /// Phase it runs in, for the reference page.
    pub phase: &'static str,
    /// One sentence on what it does.
    pub doc: &'static str,
    /// Whether it tells who calls, so that `authenticate` may name it.
    pub authenticator: bool,
    /// Whether a route ends in it: then it is a key of routes, not one of `policies`.
    pub ends: bool,
    /// Whether every route that tells who calls has it, without being told to, unless it is `off`.
    pub implied: bool,
    /// Why it must run on every request, where it must: then it takes no `when`.
    pub unconditional: Option<&'static str>,
    /// Reads the settings for their findings.
    pub check: fn(&Node, &mut Decoder<'_>),
    /// JSON Schema of the settings.
    pub schema: fn(&mut SchemaBuilder<'_>) -> serde_json::Value,
}

/// The policies that a configuration may name.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vocabulary<'a> {
    /// In running order.
    pub policies: &'a [PolicyDescription],
}

/// Policies of the language that this version does not have; naming one that the vocabulary lacks is `not_available`.
pub const PLANNED_POLICIES: &[&str] = &[
    "bandwidth",
    "cache",
    "compression",
    "concurrency",
    "expressions",
    "graphql",
    "ldap_auth",
    "mirror",
    "mock",
    "quota",
    "request_size",
    "saml",
    "schema_validation",
    "script",
    "transform",
    "wasm",
];
