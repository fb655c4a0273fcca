//! What a policy says it would do with a request, without doing it.

/// What a policy would decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It would not run: its condition does not hold.
    Skip,
    /// It would let the request pass.
    Pass,
    /// It would answer itself, with this status.
    Answer(u16),
    /// It would refuse: status and reason code.
    Refuse(u16, &'static str),
}

/// A policy's answer to "what would you do, and why?".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The decision.
    pub outcome: Outcome,
    /// Why, one sentence, lower case, no final period; never a secret.
    pub detail: String,
}

impl Explanation {
    /// It would not run, because `detail`.
    #[must_use]
    pub fn skip(detail: impl Into<String>) -> Explanation {
        Explanation { outcome: Outcome::Skip, detail: detail.into() }
    }

    /// It would pass, because `detail`.
    #[must_use]
    pub fn pass(detail: impl Into<String>) -> Explanation {
        Explanation { outcome: Outcome::Pass, detail: detail.into() }
    }

    /// It would stop the exchange, because `detail`.
    #[must_use]
    pub fn stop(stop: &crate::Stop, detail: impl Into<String>) -> Explanation {
        let outcome = match stop {
            crate::Stop::Answer(answer) => Outcome::Answer(answer.status),
            crate::Stop::Fault(fault) => Outcome::Refuse(fault.status(), fault.reason.code()),
        };
        Explanation { outcome, detail: detail.into() }
    }
}
