//! Why a body cannot be changed, and what the caller is told of it. Knows no format.

use std::fmt::Display;

use daemun_pipeline::{Fault, Reason};

/// Why a body cannot be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    kind: Kind,
    /// For the log; never what the body holds.
    cause: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It is not what its type says, or is beyond a bound.
    Malformed,
    /// It lacks what a step needs.
    Shape,
    /// What comes out of it is more than may be written, or takes more steps than it may.
    TooMuch,
    /// What came out cannot be sent.
    Unsendable,
}

impl Trouble {
    pub(super) fn malformed(cause: impl Display) -> Trouble {
        Trouble { kind: Kind::Malformed, cause: cause.to_string() }
    }

    pub(super) fn shape(cause: impl Display) -> Trouble {
        Trouble { kind: Kind::Shape, cause: cause.to_string() }
    }

    pub(super) fn too_much(cause: impl Display) -> Trouble {
        Trouble { kind: Kind::TooMuch, cause: cause.to_string() }
    }

    pub(super) fn unsendable(cause: impl Display) -> Trouble {
        Trouble { kind: Kind::Unsendable, cause: cause.to_string() }
    }

    /// Of a request.
    pub(super) fn of_request(self) -> Fault {
        match self.kind {
            Kind::Malformed => Fault::new(Reason::BadRequest, "the request body is malformed").cause(self.cause),
            Kind::Shape => Fault::new(Reason::BadRequest, "the request lacks what is needed here").cause(self.cause),
            Kind::TooMuch => {
                let detail = "the request holds more than what is made of it here may hold";
                Fault::new(Reason::BodyTooLarge, detail).cause(self.cause)
            }
            Kind::Unsendable => Fault::new(Reason::Internal, "the request cannot be changed").cause(self.cause),
        }
    }

    /// Of an answer.
    pub(super) fn of_answer(self) -> Fault {
        let reason = if self.kind == Kind::Unsendable { Reason::Internal } else { Reason::BadResponse };
        Fault::new(reason, "the backend's answer cannot be changed").cause(self.cause)
    }
}
