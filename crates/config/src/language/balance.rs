//! How a target is picked among those of an upstream.

use std::time::Duration;

use serde_json::Value as Json;

use super::conditions::{CookieName, ParameterName};
use crate::decode::{Decoder, ExpressionText, FieldName, SchemaBuilder, Setting, TimeLimit, text};
use crate::diagnostic::{BAD_VALUE, Diagnostic};
use crate::model;
use crate::settings;
use crate::tree::Node;

/// Characters of a secret at least.
const SHORTEST_SECRET: usize = 16;

settings! {
    /// How a target is picked.
    pub(super) enum Balance {
        /// One after the other, by weight.
        RoundRobin = "round_robin",
        /// Of two drawn by weight, the one with fewer calls under way.
        LeastRequests = "least_requests",
        /// Of two drawn by weight, the one that answered faster of late, with regard to the calls under way.
        Latency = "latency",
        /// The same target for the same value of the request, as long as it is there.
        Hash(HashBy) = "hash",
        /// The same target for the same client, which a cookie tells: with the settings below as they are by default.
        Sticky = "sticky",
        /// The same, written `{ sticky: { cookie: name } }`.
        StickyBy(StickyText) = "sticky",
    }
}

settings! {
    /// What is hashed. A request without it goes to any target, by weight.
    pub(super) enum HashBy {
        /// The client's address.
        ClientIp = "client_ip",
        /// The consumer's name.
        Consumer = "consumer",
        /// The value of a request header, written `{ header: x-user }`.
        Header(HeaderName) = "header",
        /// The value of a cookie, written `{ cookie: session }`.
        Cookie(CookieName) = "cookie",
        /// The first value of a query parameter as sent, written `{ query: id }`.
        Query(ParameterName) = "query",
        /// The value of a path parameter of the route, written `{ param: id }`.
        Param(ParameterName) = "param",
        /// The text that an expression gives, written `{ expression: 'request.header["x-tenant"]' }`.
        Expression(ExpressionText) = "expression",
    }
}

/// A header of requests that is read.
pub(super) struct HeaderName(String);

impl Setting for HeaderName {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let FieldName(name) = FieldName::decode(node, cx)?;
        cx.reads_field(node, &name);
        Some(Self(name))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        FieldName::schema(s)
    }
}

settings! {
    /// The cookie that tells a client's target.
    pub(super) struct StickyText {
        /// Name of the cookie, which holds a digest and no address.
        cookie: CookieName = "daemun-target",
        /// How long the client keeps it; until it is closed when absent.
        ttl: Option<TimeLimit>,
        /// Key of the digest, 16 characters or more, the same for every gateway that shares clients: `${env:STICKY_SECRET}`. When absent, each
        /// process makes one of its own, and clients may change their target once when it is started again.
        secret: Option<Secret>,
    }
}

/// A text nobody may guess.
pub(super) struct Secret(String);

impl Setting for Secret {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let secret = text(node, cx, "a text")?;
        if secret.len() < SHORTEST_SECRET {
            let message = format!("a secret has {SHORTEST_SECRET} characters at least");
            cx.report(Diagnostic::error(BAD_VALUE, node.at, message));
            return None;
        }
        Some(Self(secret.to_owned()))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        s.pattern("secret", "16 characters or more.", "^[\\s\\S]{16,}$")
    }
}

impl Balance {
    pub(super) fn lower(self) -> model::Balance {
        match self {
            Self::RoundRobin => model::Balance::RoundRobin,
            Self::LeastRequests => model::Balance::LeastRequests,
            Self::Latency => model::Balance::Latency,
            Self::Hash(by) => model::Balance::Hash(by.lower()),
            Self::Sticky => model::Balance::Sticky(sticky("daemun-target".to_owned(), None, None)),
            Self::StickyBy(StickyText { cookie, ttl, secret }) => {
                model::Balance::Sticky(sticky(cookie.0, ttl.map(|ttl| ttl.0), secret.map(|secret| secret.0)))
            }
        }
    }
}

fn sticky(cookie: String, ttl: Option<Duration>, secret: Option<String>) -> model::Sticky {
    model::Sticky { cookie, ttl, secret }
}

impl HashBy {
    fn lower(self) -> model::HashBy {
        match self {
            Self::ClientIp => model::HashBy::ClientIp,
            Self::Consumer => model::HashBy::Consumer,
            Self::Header(name) => model::HashBy::Header(name.0),
            Self::Cookie(name) => model::HashBy::Cookie(name.0),
            Self::Query(name) => model::HashBy::Query(name.0),
            Self::Param(name) => model::HashBy::Param(name.0),
            Self::Expression(text) => model::HashBy::Expression(text.0),
        }
    }
}
