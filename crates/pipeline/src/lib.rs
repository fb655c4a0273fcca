//! The contract between the data plane and the policies: what an exchange is, how it may stop, what a policy is. Knows no socket,
//! no clock and no policy by name.

pub mod bounded;
pub mod head;
pub mod line;
pub mod certificate;
mod der_time;
pub mod exchange;
pub mod fault;
pub mod policy;
pub mod build;
pub mod carry;
pub mod cut_off;
pub mod directory;
pub mod identity;
pub mod outward;
pub mod world;
pub mod elsewhere;
pub mod explain;
pub mod expression;
pub mod strict_json;

pub use build::BuildContext;
pub use carry::Carry;
pub use certificate::{CertificateNames, TlsIdentity, read_name};
pub use cut_off::CutOff;
pub use der_time::read_der_time;
pub use directory::{BasicCredential, Consumer, ConsumerId, Directory};
pub use elsewhere::{Elsewhere, Upstreams};
pub use exchange::{Client, Ends, Exchange, Handshake, Method, Request, Response, Span, Times};
pub use explain::{Explanation, Outcome};
pub use fault::{Fault, Reason, Side};
pub use head::{FieldId, Head, same_in_any_case};
pub use identity::{Claims, Identity};
pub use line::{Line, Lines, Name};
pub use outward::{Credentials, Outgoing, SignedBody};
pub use policy::{
    Answer, Bodies, BodyNeed, Coder, Flow, Passed, Phase, Policy, PolicyConfig, PolicyRow, Runtimes, Stop, Verdict,
};
pub use world::{Later, Nowhere, OutAnswer, OutCall, OutError, OutFailure, World};
