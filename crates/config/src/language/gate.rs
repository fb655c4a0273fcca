//! Service levels of the gateway itself: how many calls an upstream gets at once, what waits, and what is let go first.

use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::decode::{Bounded, Decoder, SchemaBuilder, Setting, TimeLimit};
use crate::diagnostic::{self, BAD_VALUE, Diagnostic};
use crate::settings;
use crate::tree::{Node, Value};

/// Calls that may wait unless it is said how many.
const QUEUE: usize = 100;
/// How long one may wait unless it is said.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(1);

/// Bounds of an upstream, over all workers; `None`: no bound of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamLimits {
    /// Calls in flight.
    pub requests: Option<usize>,
    /// Connections, those at rest included.
    pub connections: Option<usize>,
    /// Calls that may wait when no more may be in flight; 100.
    pub queue: usize,
    /// How long one may wait; 1s.
    pub queue_timeout: Duration,
    /// Calls in flight to each target.
    pub target_requests: Option<usize>,
    /// Connections to each target, those at rest included.
    pub target_connections: Option<usize>,
}

impl Default for UpstreamLimits {
    fn default() -> Self {
        Self {
            requests: None,
            connections: None,
            queue: QUEUE,
            queue_timeout: QUEUE_TIMEOUT,
            target_requests: None,
            target_connections: None,
        }
    }
}

/// How many calls an upstream gets at once, where that is learned from how long its answers take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adaptive {
    /// Never fewer; 8.
    pub min: usize,
    /// Never more; 1,000.
    pub max: usize,
}

/// Which calls go first when not all can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Importance {
    /// Before all others.
    High,
    /// The usual (default).
    #[default]
    Normal,
    /// Behind all others.
    Low,
}

settings! {
    /// Bounds on the calls to an upstream, over all workers.
    pub(super) struct UpstreamLimitsText {
        /// Calls in flight.
        requests: Option<Bounded<1, 1_000_000>>,
        /// Calls that wait while no more may be in flight; 100 unless given.
        queue: Option<Bounded<0, 100_000>>,
        /// How long a call waits before it is refused; 1s unless given.
        queue_timeout: Option<TimeLimit>,
        /// Connections, those at rest included. Over HTTP/1.1, where each call has one of its own, this bounds the calls in flight as well.
        connections: Option<Bounded<1, 1_000_000>>,
        /// The same for each target.
        per_target: TargetLimitsText = "{}",
    }
}

settings! {
    /// Bounds on the calls to each target, over all workers.
    struct TargetLimitsText {
        /// Calls in flight; a target that has so many is passed over.
        requests: Option<Bounded<1, 1_000_000>>,
        /// Connections, those at rest included.
        connections: Option<Bounded<1, 1_000_000>>,
    }
}

fn number<const MIN: u64, const MAX: u64>(bounded: Option<Bounded<MIN, MAX>>) -> Option<usize> {
    bounded.and_then(|number| usize::try_from(number.get()).ok())
}

impl UpstreamLimitsText {
    /// Warns of a queue for which nothing can ever wait.
    pub(super) fn check(&self, node: &Node, adaptive: bool, cx: &mut Decoder<'_>) {
        let per_target = &self.per_target;
        let bounds = [self.requests, self.connections, per_target.requests, per_target.connections];
        if adaptive || bounds.iter().any(Option::is_some) {
            return;
        }
        for key in ["queue", "queue_timeout"] {
            if let Some(entry) = node.entry(key) {
                let message = format!("`{key}` has no effect: nothing bounds the calls in flight");
                let found = Diagnostic::warning(diagnostic::NO_EFFECT, entry.key_at, message);
                let help = "give `requests` beside it, or `concurrency: adaptive`";
                cx.key("limits", |cx| cx.key(key, |cx| cx.report(found.help(help))));
            }
        }
    }

    pub(super) fn lower(self) -> UpstreamLimits {
        UpstreamLimits {
            requests: number(self.requests),
            connections: number(self.connections),
            queue: number(self.queue).unwrap_or(QUEUE),
            queue_timeout: self.queue_timeout.map_or(QUEUE_TIMEOUT, |limit| limit.0),
            target_requests: number(self.per_target.requests),
            target_connections: number(self.per_target.connections),
        }
    }
}

settings! {
    /// Between what the number of calls in flight is kept.
    struct AdaptiveText {
        /// Never fewer calls.
        min: Bounded<1, 1_000_000> = "8",
        /// Never more calls.
        max: Bounded<1, 1_000_000> = "1000",
    }
    check AdaptiveText::check;
}

impl AdaptiveText {
    fn check(&self, node: &Node, cx: &mut Decoder<'_>) {
        if self.min > self.max {
            let (min, max) = (self.min.get(), self.max.get());
            let at = node.get("min").or(node.get("max")).unwrap_or(node).at;
            let found = Diagnostic::error(BAD_VALUE, at, format!("`min` is {min}, which is more than `max`, {max}"));
            cx.report(found);
        }
    }
}

settings! {
    /// How the number of calls in flight is found.
    enum ConcurrencyForm {
        /// It is learned from how long answers take, between these bounds.
        Adaptive(AdaptiveText) = "adaptive",
    }
}

/// `adaptive`, or `{ adaptive: { min: …, max: … } }`.
pub(super) struct ConcurrencyText(Adaptive);

impl ConcurrencyText {
    pub(super) fn lower(self) -> Adaptive {
        self.0
    }
}

impl Setting for ConcurrencyText {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        if node.as_str() == Some("adaptive") {
            return Some(Self(Adaptive { min: 8, max: 1_000 }));
        }
        if let Value::Number(number) = &node.value {
            let message = format!("`concurrency` is how the bound is found, and `{}` is a bound", node.shown());
            let help =
                format!("write `concurrency: adaptive` to have it learned, or `limits: {{ requests: {number} }}`");
            cx.bad_value_help(node, message, help);
            return None;
        }
        let ConcurrencyForm::Adaptive(text) = ConcurrencyForm::decode(node, cx)?;
        Some(Self(Adaptive { min: number(Some(text.min))?, max: number(Some(text.max))? }))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        let form = ConcurrencyForm::schema(s);
        let word = s.or_reference(json!({ "const": "adaptive", "title": "`adaptive`" }));
        json!({ "anyOf": [word, form] })
    }
}

settings! {
    /// Which calls go first when not all can.
    #[derive(Clone, Copy)]
    pub(super) enum ImportanceText {
        /// Before all others.
        High = "high",
        /// The usual.
        Normal = "normal",
        /// Behind all others.
        Low = "low",
    }
}

impl ImportanceText {
    pub(super) fn lower(self) -> Importance {
        match self {
            Self::High => Importance::High,
            Self::Normal => Importance::Normal,
            Self::Low => Importance::Low,
        }
    }
}
