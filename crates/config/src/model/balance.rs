//! How a target is picked, what calls tell of it, and when an upstream is left alone.

use std::fmt;
use std::time::Duration;

use super::Spanned;

/// How a target is picked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Balance {
    /// One after the other, by weight (default).
    RoundRobin,
    /// Of two, the one with fewer calls under way.
    LeastRequests,
    /// Of two, the one that answered faster.
    Latency,
    /// The same for the same value.
    Hash(HashBy),
    /// The same for the same client.
    Sticky(Sticky),
}

/// What is hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashBy {
    /// The client's address.
    ClientIp,
    /// The consumer.
    Consumer,
    /// A header, name in lower case.
    Header(String),
    /// A cookie.
    Cookie(String),
    /// A query parameter.
    Query(String),
    /// A path parameter.
    Param(String),
    /// What an expression gives.
    Expression(Spanned<String>),
}

/// The cookie that tells a client's target.
/// `Debug` does not print the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Sticky {
    /// Name of the cookie.
    pub cookie: String,
    /// How long it is kept; `None`: until the client is closed.
    pub ttl: Option<Duration>,
    /// Key of its digest; `None`: one of the process's own.
    pub secret: Option<String>,
}

impl fmt::Debug for Sticky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sticky").field("cookie", &self.cookie).field("ttl", &self.ttl).finish_non_exhaustive()
    }
}

/// What calls tell of a target. Shares in hundredths of a per cent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outliers {
    /// Failed calls in a row; 5; 0: any number.
    pub consecutive_failures: u32,
    /// Share of failed calls.
    pub failure_ratio: Option<u32>,
    /// Time over which that is taken; 10s.
    pub window: Duration,
    /// Calls from which it holds; 20.
    pub min_requests: u32,
    /// Longest time to the head of an answer.
    pub slower_than: Option<Duration>,
    /// How many times as long as the others' that may be.
    pub slower_than_peers: Option<u32>,
    /// Statuses of failed calls; 500, 502, 503, 504.
    pub statuses: Vec<u16>,
    /// First time it is ejected; 10s.
    pub eject_for: Duration,
    /// Longest time it is ejected; 5m.
    pub max_eject_for: Duration,
    /// Share of targets that may be ejected; 5,000.
    pub max_ejected: u32,
}

/// When an upstream is left alone. Shares in hundredths of a per cent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// Share of failed calls.
    pub failure_ratio: Option<u32>,
    /// Failed calls in a row.
    pub consecutive: Option<u32>,
    /// From when a call is slow, and the share of slow calls.
    pub slow: Option<(Duration, u32)>,
    /// Time over which shares are taken; 10s.
    pub window: Duration,
    /// Calls from which they hold; 20.
    pub min_requests: u32,
    /// Statuses of failed calls; 500, 502, 503, 504.
    pub statuses: Vec<u16>,
    /// How long it is open; 5s.
    pub open_for: Duration,
    /// Calls that try the upstream then; 3.
    pub half_open_requests: u32,
}
