//! The target of one attempt, and what is counted of the attempt until it is over.

use std::rc::Rc;

use daemun_pipeline::Exchange;

use super::breaker::{End, Pass};
use super::choice::Outcome;
use super::pool::LocalTarget;

/// The target of one attempt. To be held as long as the attempt lasts, its answer's body included; dropped without a report, the attempt
/// counts as given up.
pub(crate) struct Picked {
    pub(crate) target: Rc<LocalTarget>,
    /// Something is counted, and is to be counted back.
    live: bool,
    /// What it comes to is still to be told.
    told: bool,
    pass: Pass,
    /// It tries a target that was ejected.
    trial: bool,
    /// The client is to be told its target.
    unmarked: bool,
}

/// That the answer of an attempt is waited for, from when it was sent. A target whose calls wait long without any answer hangs.
pub(crate) struct Awaited {
    target: Rc<LocalTarget>,
    trial: bool,
    sent: bool,
}

impl Picked {
    /// Nothing is to be told.
    pub(crate) fn plain(target: Rc<LocalTarget>) -> Picked {
        Picked { target, live: false, told: false, pass: Pass::Closed, trial: false, unmarked: false }
    }

    pub(crate) fn counted(target: Rc<LocalTarget>, pass: Pass, trial: bool, unmarked: bool) -> Picked {
        if target.home.choice.counts {
            target.shared.state().told.begin();
        }
        Picked { target, live: true, told: true, pass, trial, unmarked }
    }

    /// Whether a report is of use.
    pub(crate) fn wants_report(&self) -> bool {
        self.told
    }

    /// To be told when the attempt was sent, and dropped when there is an answer; `None` where nobody wants to know.
    pub(crate) fn awaited(&self) -> Option<Awaited> {
        let wanted = self.told && self.target.home.choice.counts;
        wanted.then(|| Awaited { target: Rc::clone(&self.target), trial: self.trial, sent: false })
    }

    /// Tells what the attempt came to, and how long the head of its answer took where that is known; the first report counts.
    pub(crate) fn report(&mut self, outcome: Outcome, nanos: Option<u64>, now: u64) {
        if !std::mem::take(&mut self.told) {
            return;
        }
        let LocalTarget { home, shared, .. } = &*self.target;
        home.take(shared, outcome, nanos, self.trial, now);
        // not only when its answer, which may be a stream, is over
        if std::mem::take(&mut self.trial) {
            shared.state().told.tried();
        }
        if let Some(breaker) = &home.choice.breaker
            && let Some(turn) = breaker.end(self.pass, home.choice.breaker_end(outcome, nanos), now)
        {
            home.tell_turn(breaker, turn);
        }
    }

    /// Puts the cookie that tells the target into the answer, where the client does not have it yet.
    pub(crate) fn mark(&self, exchange: &mut Exchange) {
        if self.unmarked
            && let Some(sticky) = self.target.home.choice.sticky()
        {
            sticky.mark(&self.target.digest, exchange);
        }
    }
}

impl Drop for Picked {
    fn drop(&mut self) {
        if !self.live {
            return;
        }
        let choice = &self.target.home.choice;
        if self.told
            && let Some(breaker) = &choice.breaker
        {
            breaker.end(self.pass, End::Unknown, 0);
        }
        let told = &self.target.shared.state().told;
        if self.trial {
            told.tried();
        }
        if choice.counts {
            told.end();
        }
    }
}

impl Awaited {
    /// The attempt was sent at this time.
    pub(crate) fn sent(&mut self, now: u64) {
        if !std::mem::replace(&mut self.sent, true) {
            self.target.shared.state().told.wait(self.trial, now);
        }
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        if self.sent {
            self.target.shared.state().told.waited();
        }
    }
}
