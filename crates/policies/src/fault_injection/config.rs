//! The settings of `fault_injection`.

use std::time::Duration;

use daemun_config::decode::{Bounded, Decoder, FieldName, JsonValue, Percent, SchemaBuilder, Setting, TimeLimit};
use daemun_config::settings;
use daemun_config::tree::Node;
use serde_json::json;

/// The longest delay.
const LONGEST: Duration = Duration::from_secs(600);
/// All calls.
const ALL: Percent = Percent { basis_points: 10_000 };

settings! {
    /// Failures on purpose, for tests: calls that take longer, and calls that fail.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct FaultInjectionConfig {
        /// How long calls are held up before they go on: a time for all, or `{for: 200ms, share: 10%}`.
        pub delay: Option<Delay>,
        /// The error that calls are answered with: a status for all, or `{status: 503, share: 10%}`.
        pub abort: Option<Abort>,
        /// Request header without which a call is left alone.
        pub when_header: Option<FieldName>,
    }
    needs_one { "delay", "abort" }
    check check;
}

settings! {
    /// How long a share of the calls is held up.
    struct DelayText {
        /// How long; 10 minutes at most.
        time: TimeLimit as "for",
        /// Of how many of the calls.
        share: Percent = "100%",
    }
}

settings! {
    /// Which error a share of the calls is answered with.
    struct AbortText {
        /// Status, 400 to 599.
        status: ErrorStatus,
        /// How many of the calls.
        share: Percent = "100%",
    }
}

type ErrorStatus = Bounded<400, 599>;

/// How long a share of the calls is held up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay {
    /// How long.
    pub time: Duration,
    /// Of how many of the calls.
    pub share: Percent,
}

/// Which error a share of the calls is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abort {
    /// Status, 400 to 599.
    pub status: u16,
    /// How many of the calls.
    pub share: Percent,
}

impl Setting for Delay {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let DelayText { time, share } = match node.as_map() {
            Some(_) => DelayText::decode(node, cx)?,
            None => DelayText { time: TimeLimit::decode(node, cx)?, share: ALL },
        };
        if time.0 > LONGEST {
            cx.bad_value(node, "a call is held up for 10 minutes at most");
            return None;
        }
        Some(Delay { time: time.0, share })
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> JsonValue {
        let all = TimeLimit::schema(s);
        json!({ "anyOf": [all, DelayText::schema(s)] })
    }
}

impl Setting for Abort {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let AbortText { status, share } = match node.as_map() {
            Some(_) => AbortText::decode(node, cx)?,
            None => AbortText { status: ErrorStatus::decode(node, cx)?, share: ALL },
        };
        Some(Abort { status: u16::try_from(status.get()).ok()?, share })
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> JsonValue {
        let all = ErrorStatus::schema(s);
        json!({ "anyOf": [all, AbortText::schema(s)] })
    }
}

fn check(settings: &FaultInjectionConfig, node: &Node, cx: &mut Decoder<'_>) {
    if let (Some(FieldName(name)), Some(node)) = (&settings.when_header, node.get("when_header")) {
        cx.key("when_header", |cx| cx.reads_field(node, name));
    }
}
