//! Whether a call that failed is made again, where, and when. Knows neither connections nor what is sent.

use std::rc::Rc;
use std::sync::Arc;

use daemun_pipeline::{Exchange, Fault, Reason};

use super::Call;
use super::local::LocalUpstream;
use super::picked::Picked;
use super::pool::LocalTarget;
use super::transfer::Transfer;
use crate::http1::response::ResponseHead;
use crate::kept::Kept;
use crate::kept::copying::Copying;
use crate::serve::Trail;
use crate::snapshot::Route;
use crate::snapshot::failure::{Fallback, FallbackTo, Retry};

/// Attempts of one call at most that need no setting; only what had no effect is tried so.
const UNASKED_MOST: u8 = 3;
/// Doublings of the wait at most.
const DOUBLED_MOST: u8 = 8;
/// Salt of the random part of a wait.
const SALT: u64 = 0x0072_6574_7279;

/// The attempts of one call so far.
pub(crate) struct Tries<'a> {
    retry: Option<&'a Retry>,
    fallback: Option<&'a Fallback>,
    /// The call is its head alone.
    is_head: bool,
    /// The answer that is given in place of the one that was refused last.
    pub(crate) kept: Option<Arc<Kept>>,
    /// The next attempt must not take a connection at rest.
    pub(crate) fresh: bool,
    tried: Vec<Rc<LocalTarget>>,
    /// Repetitions that were asked for.
    repeated: u8,
    /// Attempts so far that needed no setting.
    unasked: u8,
    /// The target that is asked in place of the one whose answer was refused last.
    next: Option<Picked>,
    /// Where no other target is left, those that were tried are tried again: once for each repetition that was asked for.
    may_return: bool,
    /// Another target is left.
    others: bool,
    /// The last attempt failed in a way that may pass by itself.
    waits: bool,
}

/// An attempt that failed.
pub(crate) struct Failed<'a> {
    pub(crate) fault: &'a Fault,
    pub(crate) call: &'a Call,
    pub(crate) exchange: &'a Exchange,
    pub(crate) trail: &'a Trail,
    pub(crate) targets: usize,
    pub(crate) now: u64,
}

/// What holds for a call of this route to this upstream.
pub(crate) fn retry_of<'a>(route: &'a Route, upstream: &'a LocalUpstream) -> Option<&'a Retry> {
    let own = route.own.failure.as_ref().and_then(|own| own.retry.as_ref());
    own.map_or(upstream.shared.failure.retry.as_ref(), Option::as_ref)
}

/// What is done in place of a call of this route to this upstream.
pub(crate) fn fallback_of<'a>(route: &'a Route, upstream: &'a LocalUpstream) -> Option<&'a Fallback> {
    let own = route.own.failure.as_ref().and_then(|own| own.fallback.as_ref());
    own.map_or(upstream.shared.failure.fallback.as_ref(), Option::as_ref)
}

impl<'a> Tries<'a> {
    pub(crate) fn new(route: &'a Route, upstream: &'a LocalUpstream, call: &Call) -> Tries<'a> {
        let retry = retry_of(route, upstream);
        let fallback = fallback_of(route, upstream).filter(|_| !call.falls_back);
        if let Some(retry) = retry {
            retry.budget.deposit();
        }
        Tries {
            retry,
            fallback,
            is_head: call.is_head(),
            kept: None,
            fresh: false,
            tried: Vec::new(),
            repeated: 0,
            unasked: 0,
            next: None,
            may_return: false,
            others: true,
            waits: false,
        }
    }

    /// A copy of an answer that is passed on, where good ones are kept for calls that fail later.
    pub(crate) fn copy(&self, route: &Route, exchange: &Exchange, head: &ResponseHead) -> Option<Box<Copying>> {
        let store = self.fallback?.cached.as_ref()?;
        Copying::begin(store, exchange, route, head, self.is_head)
    }

    /// Passes over a target that has no room.
    pub(crate) fn pass(&mut self, target: &Rc<LocalTarget>) {
        self.tried.push(Rc::clone(target));
    }

    /// The target of the next attempt: one that was not tried, while there is one.
    pub(crate) fn pick(
        &mut self,
        upstream: &LocalUpstream,
        route: &Route,
        exchange: &Exchange,
        now: u64,
    ) -> Result<Picked, Fault> {
        if let Some(next) = self.next.take() {
            return Ok(next);
        }
        match upstream.pick(exchange, route, &self.tried, now) {
            Err(fault) if fault.reason == Reason::NoTarget && std::mem::take(&mut self.may_return) => {
                self.tried.clear();
                self.others = false;
                upstream.pick(exchange, route, &[], now)
            }
            picked => picked,
        }
    }

    /// Why an answer of this status is not passed on, if it is not: the call is made again, or something is done in its place. One that can
    /// be made nowhere else keeps its answer.
    pub(crate) fn refuses(
        &mut self,
        status: u16,
        upstream: &LocalUpstream,
        route: &Route,
        picked: &Picked,
        transfer: &Transfer<'_, '_>,
    ) -> Option<Fault> {
        if self.retry.is_none() && self.fallback.is_none() {
            return None;
        }
        let exchange = &*transfer.exchange;
        let safe = transfer.upload.can_repeat() && exchange.request.method.is_idempotent();
        let now = exchange.times.answered;
        let retry = self.retry.filter(|retry| safe && retry.takes_status(status) && self.repeated < retry.retries);
        if retry.is_some_and(|retry| retry.budget.withdraw(now)) {
            self.repeat(&picked.target, upstream.targets().len());
            self.next = self.pick(upstream, route, exchange, now).ok();
        }
        let fallback = self.fallback.filter(|fallback| fallback.takes_status(status));
        if self.next.is_none() && self.is_head {
            let store = fallback.and_then(|fallback| fallback.cached.as_ref());
            self.kept = store.and_then(|store| store.find(exchange, route, now));
        }
        let falls_back = self.kept.is_some()
            || fallback.is_some_and(|fallback| match fallback.to {
                Some(FallbackTo::Answer(_)) => true,
                Some(FallbackTo::Upstream(_)) => safe,
                None => false,
            });
        let fault = || Fault::new(Reason::BadResponse, "the backend answered with an error");
        (self.next.is_some() || falls_back).then(|| fault().cause(format_args!("it answered {status}")))
    }

    /// Whether a call that is not answered in time would be made again, as far as is known before it is sent.
    pub(crate) fn takes_timeouts(&self) -> bool {
        self.retry.is_some_and(|retry| retry.takes_timeouts() && self.repeated < retry.retries)
    }

    /// Whether a call that still waits is made again at another target at once.
    pub(crate) fn leaves(
        &mut self,
        upstream: &LocalUpstream,
        route: &Route,
        picked: &Picked,
        transfer: &Transfer<'_, '_>,
        now: u64,
    ) -> bool {
        let exchange = &*transfer.exchange;
        let safe = transfer.upload.can_repeat() && exchange.request.method.is_idempotent();
        let targets = upstream.targets().len();
        let wanted = safe && self.takes_timeouts() && self.tried.len() + 1 < targets;
        let Some(retry) = self.retry.filter(|retry| wanted && retry.budget.withdraw(now)) else { return false };
        self.tried.push(Rc::clone(&picked.target));
        self.next = upstream.pick(exchange, route, &self.tried, now).ok();
        if self.next.is_none() {
            self.tried.pop();
            retry.budget.give_back();
            return false;
        }
        self.repeated += 1;
        self.may_return = true;
        self.waits = false;
        true
    }

    /// Whether the call is made again after an attempt on `target` failed.
    pub(crate) fn again(&mut self, failed: &Failed<'_>, target: &Rc<LocalTarget>) -> bool {
        if self.next.is_some() {
            return true;
        }
        if !failed.call.upload.can_repeat() || failed.call.by_status {
            return false;
        }
        let unreached =
            matches!(failed.fault.reason, Reason::ConnectFailed | Reason::ConnectTimeout | Reason::NoTarget);
        if failed.fault.retry && self.unasked + 1 < UNASKED_MOST {
            if unreached && self.tried.len() + 1 < failed.targets {
                self.tried.push(Rc::clone(target));
                return self.repeat_unasked();
            }
            // a connection that had rested may have ended before the call came to it
            let had_rested = failed.trail.reused && failed.exchange.request.method.is_idempotent();
            if !unreached && (failed.call.upload.unprocessed || had_rested) {
                self.fresh = true;
                return self.repeat_unasked();
            }
        }
        let safe = unreached || failed.call.is_safe(failed.exchange);
        let Some(retry) = self.retry else { return false };
        let takes =
            safe && self.repeated < retry.retries && retry.takes(failed.fault) && retry.budget.withdraw(failed.now);
        takes && self.repeat(target, failed.targets)
    }

    fn repeat_unasked(&mut self) -> bool {
        self.unasked += 1;
        self.waits = false;
        true
    }

    fn repeat(&mut self, target: &Rc<LocalTarget>, targets: usize) -> bool {
        self.tried.push(Rc::clone(target));
        self.others = self.tried.len() < targets;
        self.repeated += 1;
        self.may_return = true;
        self.waits = true;
        true
    }

    /// How long the next attempt waits, nanoseconds: not the first on another target, and then longer each time, with half of it random so
    /// that calls which failed together do not come back together.
    pub(crate) fn wait(&self, exchange: &Exchange) -> u64 {
        let Some(retry) = self.retry.filter(|_| self.waits && !(self.others && self.repeated == 1)) else { return 0 };
        let doubled = self.repeated.saturating_sub(if self.others { 2 } else { 1 }).min(DOUBLED_MOST);
        let most = retry.backoff.saturating_mul(1 << doubled);
        let random = exchange.draw(SALT ^ u64::from(self.repeated)) % (most / 2 + 1);
        most - random
    }
}
