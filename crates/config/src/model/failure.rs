//! What is done when a call to an upstream fails, or beside it: retries, hedges, fallbacks, mirrors.

use std::time::Duration;

use super::{Answer, Spanned};

/// When a call that failed is made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Times, 0 to 10; 1.
    pub retries: u8,
    /// What it is made again after.
    pub on: Vec<RetryOn>,
    /// Retries among all calls, in hundredths of a per cent; 20 %.
    pub budget: u32,
    /// Bytes of a request's body that are kept for another attempt; 64 KiB.
    pub buffer: u64,
    /// Before the second retry; doubled for each that follows; 25ms.
    pub backoff: Duration,
}

/// What a call is made again after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryOn {
    /// No connection could be made.
    ConnectFailure,
    /// The connection ended before the answer's head.
    Reset,
    /// The answer's head did not come in time.
    Timeout,
    /// The upstream answered with this status.
    Status(u16),
}

/// A second call, made when the first takes long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hedge {
    /// How long the first has for itself.
    pub after: Duration,
    /// Second calls among all calls, in hundredths of a per cent; 10 %.
    pub budget: u32,
}

/// What is done in place of a call that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// Whether failures count.
    pub on_failure: bool,
    /// Statuses of the upstream that count as failures.
    pub on_status: Vec<u16>,
    /// Whether the last good answer to the same call is given, where one is kept.
    pub cached: Option<Cached>,
    /// What is done where none is.
    pub to: Option<FallbackTo>,
}

/// Good answers that are kept for calls that fail later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cached {
    /// How old one may be; 10m.
    pub keep: Duration,
    /// Bytes of all together; 16 MiB.
    pub memory: u64,
    /// Bytes of one's body; 256 KiB.
    pub max: u64,
    /// Request fields, in lower case, that do not tell one call from another.
    pub ignore: Vec<String>,
}

/// Where a call that failed goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FallbackTo {
    /// Another upstream, by name.
    Upstream(Spanned<String>),
    /// A fixed answer.
    Answer(Answer),
}

/// Calls that are sent elsewhere as well; their answers are dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// The upstream, by name.
    pub upstream: Spanned<String>,
    /// Share of the calls, in hundredths of a per cent; all.
    pub share: u32,
    /// Bytes of a body up to which calls are sent there; 64 KiB.
    pub buffer: u64,
}
