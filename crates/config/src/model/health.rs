//! How targets are checked while the gateway runs, as a configuration says it.

use std::time::Duration;

use super::{Secret, Spanned};

/// Active checks of an upstream's targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked, and what must come back.
    pub probe: Probe,
    /// Time between two checks of one target.
    pub interval: Duration,
    /// By how much, in hundredths of a per cent, an interval may be shorter or longer.
    pub jitter: u32,
    /// How long a check may take.
    pub timeout: Duration,
    /// Failures in a row after which a target is unhealthy.
    pub unhealthy_after: u32,
    /// Successes in a row after which it is healthy again.
    pub healthy_after: u32,
    /// Port to ask in place of the target's own.
    pub port: Option<u16>,
}

/// What a check asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Whether a connection is accepted.
    Tcp,
    /// A request and its answer.
    Http(Box<HttpProbe>),
    /// The health service of gRPC.
    Grpc(GrpcProbe),
}

/// A request, and the answer it must get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpProbe {
    /// Method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// What goes into `Host`; the target's own authority when absent.
    pub host: Option<String>,
    /// Fields.
    pub headers: Vec<(String, Secret)>,
    /// Statuses of a healthy target, first and last of each range.
    pub statuses: Vec<(u16, u16)>,
    /// What its body must hold.
    pub body: Option<BodyTest>,
}

/// What the body of an answer must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyTest {
    /// This text, anywhere.
    Contains(String),
    /// A match of this regular expression, anywhere.
    Regex(Spanned<String>),
}

/// A call of `grpc.health.v1.Health/Check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcProbe {
    /// The service that is asked for; empty: the server as a whole.
    pub service: String,
    /// What goes into `:authority`; the target's own when absent.
    pub host: Option<String>,
    /// Metadata.
    pub headers: Vec<(String, Secret)>,
}
