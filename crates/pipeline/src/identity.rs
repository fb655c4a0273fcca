//! Who calls, as a credential tells it. Knows no credential and no configuration.

use serde_json::{Map, Value};

/// A caller beyond what the configuration says of its consumers: what a token, a certificate, a store or another service knows of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Identity {
    /// Its name where it is no consumer of the configuration; what it is logged, limited and told upstream by.
    pub subject: Box<str>,
    /// The consumer of the configuration that it is.
    pub consumer: Option<Box<str>>,
    /// Roles, beside those of the consumer.
    pub roles: Vec<String>,
    /// Groups, beside those of the consumer.
    pub groups: Vec<String>,
    /// Tags, beside those of the consumer.
    pub tags: Vec<String>,
    /// What the credential may be used for (RFC 6749, section 3.3).
    pub scopes: Vec<String>,
    /// What else the credential says.
    pub claims: Map<String, Value>,
    /// Which credential it was, by an id that is no secret.
    pub credential: Option<Box<str>>,
}
