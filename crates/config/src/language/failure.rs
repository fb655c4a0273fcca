//! What is done when a call to an upstream fails, or beside it.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::route::AnswerText;
use crate::decode::{Bounded, Decoder, FieldName, NonEmpty, Percent, SchemaBuilder, Setting, Size, TimeLimit, text};
use crate::diagnostic::{BAD_VALUE, Diagnostic};
use crate::model::{Cached, Fallback, FallbackTo, Hedge, Mirror, Retry, RetryOn, Spanned};
use crate::settings;
use crate::tree::Node;

settings! {
    /// Calls that failed are made again, on another target where there is one. Only what is safe is repeated: what had no effect, and
    /// methods that may be repeated (RFC 9110, section 9.2.2); never after a byte went to the caller.
    pub(super) struct RetryText {
        /// Times a call is made again at most.
        retries: Bounded<0, 10> = "1",
        /// What it is made again after: `connect_failure`, `reset`, `timeout`, and statuses that the upstream sent, in quotes.
        on: NonEmpty<RetryOnText> = "[connect_failure, reset, timeout]",
        /// Retries among all calls of the upstream at most; beside it, one a second.
        budget: Percent = "20%",
        /// Bytes of a request's body that are kept while it is sent on; one that is longer is not sent again.
        buffer: Size = "64KiB",
        /// Wait before the second retry, doubled for each that follows, less a random part; the first goes to another target at once.
        backoff: Duration = "25ms",
    }
}

impl RetryText {
    pub(super) fn lower(self) -> Retry {
        Retry {
            retries: u8::try_from(self.retries.get()).unwrap_or(u8::MAX),
            on: self.on.0.into_iter().map(|on| on.0).collect(),
            budget: self.budget.basis_points,
            buffer: self.buffer.0,
            backoff: self.backoff,
        }
    }
}

/// What a call is made again after.
struct RetryOnText(RetryOn);

impl Setting for RetryOnText {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let on = match text(node, cx, "`connect_failure`, `reset`, `timeout` or a status like \"503\"")? {
            "connect_failure" => RetryOn::ConnectFailure,
            "reset" => RetryOn::Reset,
            "timeout" => RetryOn::Timeout,
            _ => RetryOn::Status(status(node, cx, &["connect_failure", "reset", "timeout"])?),
        };
        Some(Self(on))
    }

    fn schema(_: &mut SchemaBuilder<'_>) -> Json {
        json!({ "anyOf": [{ "enum": ["connect_failure", "reset", "timeout"] }, status_schema()] })
    }
}

/// A status in quotes, where one of these words may stand as well.
fn status(node: &Node, cx: &mut Decoder<'_>, words: &[&str]) -> Option<u16> {
    let written = text(node, cx, "a status in quotes")?;
    let status = written.parse().ok().filter(|status| written.len() == 3 && (200..=599).contains(status));
    if status.is_none() {
        let found =
            Diagnostic::error(BAD_VALUE, node.at, format!("`{}` is nothing that can be waited for", node.shown()));
        let near = cx.suggest(written, words.iter().copied()).filter(|_| !node.is_secret());
        cx.report(match near {
            Some(_) => found.did_you_mean(near),
            None => {
                let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
                found.help(format!("write {} or a status like \"503\"", words.join(", ")))
            }
        });
    }
    status
}

fn status_schema() -> Json {
    json!({ "type": "string", "pattern": "^[2-5][0-9]{2}$" })
}

settings! {
    /// A second call to another target, made when the first has not been answered in time; the answer that comes first is passed on, and the
    /// other call given up. Only for methods that may be repeated, and for bodies that are here whole.
    pub(super) struct HedgeText {
        /// How long the first call has for itself.
        after: TimeLimit,
        /// Second calls among all calls of the upstream at most.
        budget: Percent = "10%",
    }
}

impl HedgeText {
    pub(super) fn lower(self) -> Hedge {
        Hedge { after: self.after.0, budget: self.budget.basis_points }
    }
}

settings! {
    /// What is done in place of a call that failed, retries included, before a byte went to the caller.
    pub(super) struct FallbackText {
        /// The last good answer to the same call, where one is kept; where none is, what stands beside it.
        cached: Option<CachedText>,
        /// The upstream that the call is sent to instead; its own fallback is not used.
        pub(super) upstream: Option<Spanned<String>>,
        /// A fixed answer instead.
        answer: Option<AnswerText>,
        /// What counts as failed: `failure` (no target, no connection, a reset, no answer in time, one that is malformed) and statuses that
        /// the upstream sent, in quotes.
        on: NonEmpty<FallbackOnText> = "[failure]",
    }
    exclusive { "upstream", "answer" }
    needs_one { "cached", "upstream", "answer" }
}

settings! {
    /// Good answers are kept for calls that fail later. Of `GET` alone, and only what a shared cache may keep and use when it is stale (RFC 9111,
    /// sections 3 and 4.2.4); what one consumer was given never reaches another.
    struct CachedText {
        /// How old an answer may be.
        keep: TimeLimit as "for" = "10m",
        /// Memory for all answers together; those not used for longest go first.
        memory: Size = "16MiB",
        /// The largest body that is kept; a quarter of `memory` at most.
        max: Size = "256KiB",
        /// Request fields that do not tell one call from another. Every field does that is not one of HTTP's own or a trace's.
        ignore: Vec<FieldName> = "[]",
    }
    check CachedText::check;
}

/// The least memory that is worth keeping answers in.
const LEAST_MEMORY: u64 = 1 << 20;

impl CachedText {
    fn check(&self, node: &Node, cx: &mut Decoder<'_>) {
        if let Some(node) = node.get("memory").filter(|_| self.memory.0 < LEAST_MEMORY) {
            cx.key("memory", |cx| cx.bad_value(node, "answers are kept in `1MiB` at least"));
            return;
        }
        if self.max.0 > self.memory.0 / 4 {
            let at = node.entry("max").or_else(|| node.entry("memory"));
            let Some(entry) = at else { return };
            let message = format!(
                "an answer may take a quarter of `memory` at most, {} bytes, and `max` is {}",
                self.memory.0 / 4,
                self.max.0
            );
            cx.key(&entry.key, |cx| cx.bad_value(&entry.value, message));
        }
    }

    fn lower(self) -> Cached {
        Cached {
            keep: self.keep.0,
            memory: self.memory.0,
            max: self.max.0,
            ignore: self.ignore.into_iter().map(|name| name.0).collect(),
        }
    }
}

/// What counts as failed; `None` for a failure to answer at all.
struct FallbackOnText(Option<u16>);

impl Setting for FallbackOnText {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        match text(node, cx, "`failure` or a status like \"503\"")? {
            "failure" => Some(Self(None)),
            _ => status(node, cx, &["failure"]).map(|status| Self(Some(status))),
        }
    }

    fn schema(_: &mut SchemaBuilder<'_>) -> Json {
        json!({ "anyOf": [{ "enum": ["failure"] }, status_schema()] })
    }
}

impl FallbackText {
    /// `None` if it is not complete.
    pub(super) fn lower(self) -> Option<Fallback> {
        let to = match (self.upstream, self.answer) {
            (Some(upstream), _) => Some(FallbackTo::Upstream(upstream)),
            (None, Some(answer)) => Some(FallbackTo::Answer(answer.lower())),
            (None, None) => None,
        };
        let cached = self.cached.map(CachedText::lower);
        (cached.is_some() || to.is_some()).then(|| Fallback {
            on_failure: self.on.0.iter().any(|on| on.0.is_none()),
            on_status: self.on.0.iter().filter_map(|on| on.0).collect(),
            cached,
            to,
        })
    }
}

settings! {
    /// Calls that are sent to another upstream as well, for trials; what it answers is dropped, and the caller does not wait for it.
    pub(super) struct MirrorText {
        /// The upstream.
        pub(super) upstream: Spanned<String>,
        /// Share of the calls.
        share: Percent = "100%",
        /// Bytes of a request's body up to which calls are sent there.
        buffer: Size = "64KiB",
    }
}

impl MirrorText {
    pub(super) fn lower(self) -> Mirror {
        Mirror { upstream: self.upstream, share: self.share.basis_points, buffer: self.buffer.0 }
    }
}
