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
    /// When it was sent; 0 while it is not.
    sent: u64,
    trial: bool,
    /// Its answer may begin late.
    lasting: bool,
    /// It is the one of these whose age is looked at.
    looked_at: bool,
}

impl Picked {
    /// Nothing is to be told.
    pub(crate) fn plain(target: Rc<LocalTarget>) -> Picked {
        Picked { target, live: false, told: false, pass: Pass::Closed, trial: false, unmarked: false }
    }

    pub(crate) fn counted(target: Rc<LocalTarget>, pass: Pass, trial: bool, unmarked: bool) -> Picked {
        let choice = &target.home.choice;
        let live = choice.counts || choice.breaker.is_some();
        if choice.counts {
            target.shared.state().told.begin();
        }
        Picked { target, live, told: live, pass, trial, unmarked }
    }

    /// Whether a report is of use.
    pub(crate) fn wants_report(&self) -> bool {
        self.told
    }

    /// To be told when the attempt was sent, and dropped when there is an answer; `None` where nobody wants to know.
    /// `lasting`: its answer may begin late, as that to a stream of gRPC.
    pub(crate) fn awaited(&self, lasting: bool) -> Option<Awaited> {
        let wanted = self.told && self.target.home.choice.counts;
        wanted.then(|| Awaited {
            target: Rc::clone(&self.target),
            sent: 0,
            trial: self.trial,
            lasting,
            looked_at: false,
        })
    }

    /// Whether its target was ejected for its silence since this time, and is not back.
    pub(crate) fn is_left_since(&self, sent: u64) -> bool {
        self.target.shared.state().told.is_silent_since(sent)
    }

    /// Tells what an attempt came to that was not answered, and since when it waited for that.
    pub(crate) fn end(&mut self, outcome: Outcome, awaited: Option<Awaited>, now: u64) {
        let waited = awaited.filter(|awaited| awaited.sent > 0 && !awaited.lasting).map(|awaited| awaited.sent);
        if let (Some(sent), Outcome::Cancelled, false) = (waited, outcome, self.trial) {
            self.target.shared.state().told.gave_up(sent, now);
        }
        self.report(outcome, None, now);
    }

    /// Tells what the attempt came to, and how long the head of its answer took where that is known; the first report counts.
    pub(crate) fn report(&mut self, outcome: Outcome, nanos: Option<u64>, now: u64) {
        if !std::mem::take(&mut self.told) {
            return;
        }
        let LocalTarget { home, shared, .. } = &*self.target;
        if home.choice.counts {
            home.take(shared, outcome, nanos, self.trial, now);
        }
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
    /// Whether it was sent.
    pub(crate) fn is_sent(&self) -> bool {
        self.sent > 0
    }

    /// The attempt was sent at this time.
    pub(crate) fn sent(&mut self, now: u64) {
        if self.sent > 0 {
            return;
        }
        self.sent = now.max(1);
        let told = &self.target.shared.state().told;
        if self.lasting {
            self.looked_at = told.wait_lasting(self.trial, now);
        } else {
            told.wait(self.trial, now);
        }
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        if self.sent == 0 {
            return;
        }
        let told = &self.target.shared.state().told;
        if self.lasting {
            told.waited_lasting(self.looked_at);
        } else {
            told.waited();
        }
    }
}
