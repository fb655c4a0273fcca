//! Tells the gateway's log what changed about an upstream: targets ejected and back, its breaker, the need to call all targets. Each change
//! once, whichever worker made it; decides nothing.

use std::sync::PoisonError;
use std::time::Duration;

use super::breaker::{Breaker, Pass, Turn};
use super::outliers::Cause;
use crate::snapshot::upstream::{Target, Upstream};

impl Upstream {
    /// A target was ejected at `now`.
    #[cold]
    pub(super) fn tell_ejected(&self, target: &Target, cause: Cause, now: u64) {
        let Some(events) = self.set.events() else { return };
        let told = &target.state().told;
        let (length, url, name) = (Duration::from_nanos(told.ejected().saturating_sub(now)), &target.url, &self.name);
        events.warning("outliers", format_args!("target `{url}` of `{name}` is ejected for {length:?}: {cause}"));
    }

    /// A target that was ejected has calls again.
    #[cold]
    pub(super) fn tell_back(&self, target: &Target) {
        let Some(events) = self.set.events() else { return };
        let (url, name) = (&target.url, &self.name);
        events.info("outliers", format_args!("target `{url}` of `{name}` is back: a call that tried it was answered"));
    }

    /// A call tries the upstream that was left alone.
    #[cold]
    pub(super) fn tell_half_open(&self, breaker: &Breaker, pass: Pass) {
        if breaker.half_opens(pass)
            && let Some(events) = self.set.events()
        {
            let (name, most) = (&self.name, breaker.rules.half_open_requests);
            events.info("breaker", format_args!("breaker of `{name}` is half open: {most} calls at most try it"));
        }
    }

    /// A call turned the breaker.
    #[cold]
    pub(super) fn tell_turn(&self, breaker: &Breaker, turn: Turn) {
        let Some(events) = self.set.events() else { return };
        let (name, length) = (&self.name, Duration::from_nanos(breaker.rules.open_for));
        match turn {
            Turn::Opened(why) => {
                events.warning("breaker", format_args!("breaker of `{name}` is open for {length:?}: {why}"));
            }
            Turn::Closed(1) => {
                events.info("breaker", format_args!("breaker of `{name}` is closed: a call tried it well"))
            }
            Turn::Closed(calls) => {
                events.info("breaker", format_args!("breaker of `{name}` is closed: {calls} calls tried it well"));
            }
        }
    }

    /// Tells whether all targets are called for want of healthy ones, where that changed. `now` is a time of the gateway's clock.
    pub fn tell_panic(&self, now: u64) {
        let known = self.set.known();
        // held while it is worked out, so that of two workers the later one sees the later state
        let mut told = known.panics.lock().unwrap_or_else(PoisonError::into_inner);
        let least = self.choice.panic();
        if least.is_none() && !*told {
            return;
        }
        let plan = self.choice.plan(&self.targets(), now);
        if std::mem::replace(&mut *told, plan.panic) == plan.panic {
            return;
        }
        drop(told);
        let Some(events) = self.set.events() else { return };
        let (name, (healthy, all)) = (&self.name, plan.healthy);
        let share = healthy * 100 / all.max(1);
        if plan.panic {
            let least = f64::from(least.unwrap_or(0)) / 100.0;
            events.warning(
                "panic_mode",
                format_args!(
                    "all targets of `{name}` are called: {share} % of their weight is healthy, less than \
                     `panic_threshold` ({least} %)"
                ),
            );
        } else {
            let text = format_args!("only healthy targets of `{name}` are called again: {share} % of their weight");
            events.info("panic_mode", text);
        }
    }
}
