//! What calls tell: of a target, which is ejected, and of an upstream, which is left alone.

use crate::decode::{Bounded, Decoder, Percent, Status, TimeLimit};
use crate::diagnostic::{BAD_VALUE, CONTRADICTION, Diagnostic};
use crate::model;
use crate::settings;
use crate::tree::Node;

settings! {
    /// What calls tell of a target: one that fails or is slow is ejected for a while, never the last one, and then tried by one call
    /// at a time.
    pub(super) struct OutliersText {
        /// Failed calls in a row that eject a target; `0` for never.
        consecutive_failures: Bounded<0, 10_000> = "5",
        /// Share of failed calls within `window` that ejects a target.
        failure_ratio: Option<Percent>,
        /// Time over which `failure_ratio` is taken.
        window: TimeLimit = "10s",
        /// Calls of a target within `window` from which `failure_ratio` holds.
        min_requests: Bounded<1, 1_000_000> = "20",
        /// A call without the head of its answer after this time counts as failed, and a target that gives none for so long while it
        /// is waited for is ejected.
        slower_than: Option<TimeLimit>,
        /// How many times as long as the other targets one may take for its answers.
        slower_than_peers: Option<Bounded<2, 1_000>>,
        /// Statuses of failed calls.
        statuses: Vec<Status> = "[500, 502, 503, 504]",
        /// How long a target is ejected; twice as long each time it fails again at once.
        eject_for: TimeLimit = "10s",
        /// The longest time for which it is ejected.
        max_eject_for: TimeLimit = "5m",
        /// Share of the targets that may be ejected at a time; of several always one, never all.
        max_ejected: Percent = "50%",
    }
    check OutliersText::check;
}

impl OutliersText {
    fn check(&self, node: &Node, cx: &mut Decoder<'_>) {
        let (first, longest) = (self.eject_for.0, self.max_eject_for.0);
        if let Some(given) = node.get("max_eject_for").filter(|_| longest < first) {
            let message = format!(
                "`max_eject_for` is less than `eject_for`, which holds: a target is ejected for {first:?} each time"
            );
            let found = Diagnostic::warning(CONTRADICTION, given.at, message);
            let help = "write a longer time, up to which ejections that follow each other double";
            cx.key("max_eject_for", |cx| cx.report(found.help(help)));
        }
    }

    pub(super) fn lower(self) -> model::Outliers {
        model::Outliers {
            consecutive_failures: small(self.consecutive_failures.get()),
            failure_ratio: self.failure_ratio.map(|share| share.basis_points),
            window: self.window.0,
            min_requests: small(self.min_requests.get()),
            slower_than: self.slower_than.map(|limit| limit.0),
            slower_than_peers: self.slower_than_peers.map(|times| small(times.get())),
            statuses: self.statuses.into_iter().map(|status| status.0).collect(),
            eject_for: self.eject_for.0,
            max_eject_for: self.max_eject_for.0.max(self.eject_for.0),
            max_ejected: self.max_ejected.basis_points,
        }
    }
}

settings! {
    /// When the upstream as a whole is left alone for a while: calls are answered 503 `circuit_open` with `Retry-After`.
    pub(super) struct BreakerText {
        /// Share of failed calls within `window` that opens it; half of them unless it is opened otherwise.
        failure_ratio: Option<Percent>,
        /// Failed calls in a row that open it.
        consecutive: Option<Bounded<1, 1_000_000>>,
        /// Share of slow calls within `window` that opens it.
        slow: Option<SlowText>,
        /// Time over which shares are taken.
        window: TimeLimit = "10s",
        /// Calls within `window` from which shares hold.
        min_requests: Bounded<1, 1_000_000> = "20",
        /// Statuses of failed calls.
        statuses: Vec<Status> = "[500, 502, 503, 504]",
        /// How long it is open.
        open_for: TimeLimit = "5s",
        /// Calls that try the upstream behind that; when all of them are well it closes, else it opens again.
        half_open_requests: Bounded<1, 1_000> = "3",
    }
    check BreakerText::check;
}

settings! {
    /// Which calls are slow, and how many may be.
    struct SlowText {
        /// Time to the head of the answer.
        longer_than: TimeLimit,
        /// Share of the calls that opens the breaker.
        ratio: Percent = "50%",
    }
}

impl BreakerText {
    fn check(&self, node: &Node, cx: &mut Decoder<'_>) {
        let zero = |share: Option<Percent>| share.is_some_and(|share| share.basis_points == 0);
        let slow = self.slow.as_ref().map(|slow| slow.ratio);
        for (key, share) in [("failure_ratio", self.failure_ratio), ("slow", slow)] {
            if let Some(node) = node.get(key).filter(|_| zero(share)) {
                let message = "a share of `0%` would open the breaker whatever the calls come to";
                cx.key(key, |cx| cx.report(Diagnostic::error(BAD_VALUE, node.at, message)));
            }
        }
    }

    pub(super) fn lower(self) -> model::Breaker {
        let other = self.consecutive.is_some() || self.slow.is_some();
        model::Breaker {
            failure_ratio: self.failure_ratio.map(|share| share.basis_points).or((!other).then_some(5_000)),
            consecutive: self.consecutive.map(|most| small(most.get())),
            slow: self.slow.map(|slow| (slow.longer_than.0, slow.ratio.basis_points)),
            window: self.window.0,
            min_requests: small(self.min_requests.get()),
            statuses: self.statuses.into_iter().map(|status| status.0).collect(),
            open_for: self.open_for.0,
            half_open_requests: small(self.half_open_requests.get()),
        }
    }
}

/// A number that was bounded when it was read.
fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
