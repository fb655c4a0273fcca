//! What a policy is: settings that build a runtime, and a runtime that decides. The data plane runs policies through this and knows none by name.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use daemun_config::PolicyDescription;
use daemun_config::decode::{Decoder, JsonValue, SchemaBuilder, Setting};
use daemun_config::tree::Node;

use crate::build::BuildContext;
use crate::exchange::{Exchange, Request};
use crate::explain::Explanation;
use crate::fault::Fault;
use crate::head::Head;

/// When a policy runs on the way in; outward, in reverse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Preflights, addresses, sizes: before anything is known of the caller; also for requests that match no route.
    Admit,
    /// Who calls.
    Authenticate,
    /// What they may call.
    Authorize,
    /// How often.
    Limit,
    /// Answers kept from before.
    Cache,
    /// Changes to request and answer.
    Transform,
}

impl Phase {
    /// As documents write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Phase::Admit => "admit",
            Phase::Authenticate => "authenticate",
            Phase::Authorize => "authorize",
            Phase::Limit => "limit",
            Phase::Cache => "cache",
            Phase::Transform => "transform",
        }
    }
}

/// What a policy decided: go on, or stop.
pub type Verdict = Result<(), Stop>;

/// Why the way inward ends before the destination.
#[derive(Clone, Debug)]
pub enum Stop {
    /// The policy's own answer, no failure.
    Answer(Box<Answer>),
    /// A failure.
    Fault(Fault),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Stop {
        Stop::Fault(fault)
    }
}

/// An answer of the gateway's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Status, 200 to 599.
    pub status: u16,
    /// Fields, without framing.
    pub fields: Vec<(String, String)>,
    /// Body.
    pub body: Bytes,
}

/// Which bodies a policy may have a need of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bodies {
    /// The request's.
    pub request: bool,
    /// The answer's, whole.
    pub response: bool,
    /// The answer's, to be coded as it passes.
    pub coded: bool,
}

impl Bodies {
    /// Whether the body of an answer may become another.
    #[must_use]
    #[inline]
    pub fn of_answers(self) -> bool {
        self.response || self.coded
    }
}

/// What a policy needs of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyNeed {
    /// It may pass as it comes.
    Untouched,
    /// All of it, in [`crate::Request::body`] or [`crate::Response::body`], where the policy may change it. Of more than `max` bytes, a
    /// request is refused with 413, and an answer is passed on with no body given to the policy, which may stop it.
    Whole {
        /// Bytes.
        max: u64,
    },
}

/// Codes a body piece by piece.
pub trait Coder {
    /// Takes a piece and appends what comes out of it. All that was taken comes out by the next flush.
    ///
    /// # Errors
    /// When the body cannot be coded; the answer then breaks off.
    fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> std::io::Result<()>;

    /// Appends all that is still held, since nothing more has come for now.
    ///
    /// # Errors
    /// As [`Coder::push`].
    fn flush(&mut self, out: &mut Vec<u8>) -> std::io::Result<()>;

    /// Appends the end.
    ///
    /// # Errors
    /// As [`Coder::push`].
    fn finish(&mut self, out: &mut Vec<u8>) -> std::io::Result<()>;
}

/// A decision now, or a future that will make it. Deciding now costs no allocation.
pub enum Flow<'a> {
    /// Decided.
    Now(Verdict),
    /// Must wait; borrows the exchange until then.
    Later(Pin<Box<dyn Future<Output = Verdict> + 'a>>),
}

/// What is to stay in a request that one of several authenticators let in.
#[derive(Clone, Copy, Debug)]
pub struct Passed<'a> {
    /// How many fields there were before that one ran: what stands behind is the gateway's own.
    pub fields: usize,
    /// Names of fields that its credential goes on in.
    pub forwarded: &'a [Box<str>],
}

impl Passed<'_> {
    /// Whether the credential of the one that let the request in goes on in a field.
    #[must_use]
    pub fn forwards(&self, name: &str) -> bool {
        self.forwarded.iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    /// Removes the caller's own fields of a name, in every spelling that a back end may read as the same.
    pub fn remove(&self, head: &mut Head, name: &str) {
        if !self.forwards(name) {
            head.remove_alike(name, self.fields);
        }
    }
}

/// A compiled policy of one route: immutable, shared by all workers.
pub trait Policy: Send + Sync {
    /// Runs on the way in.
    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        let _ = exchange;
        Flow::Now(Ok(()))
    }

    /// Runs on the way out, when it ran on the way in; may edit the answer, or stop it: what stops it becomes the answer.
    fn on_response(&self, exchange: &mut Exchange) -> Verdict {
        let _ = exchange;
        Ok(())
    }

    /// Whether [`Policy::on_response`] does anything: a chain of policies that say no is not run outward.
    fn sees_answers(&self) -> bool {
        true
    }

    /// Which bodies it may have a need of; it is asked for that of none other.
    fn bodies(&self) -> Bodies {
        Bodies::default()
    }

    /// Of an authenticator: whether a request shows it anything, good or bad, so that the caller is somebody in particular. One that cannot
    /// tell says yes, and is asked who it is.
    fn is_shown(&self, exchange: &Exchange) -> bool {
        let _ = exchange;
        true
    }

    /// What it needs of the request's body; asked before [`Policy::on_request`].
    fn request_body(&self, exchange: &Exchange) -> BodyNeed {
        let _ = exchange;
        BodyNeed::Untouched
    }

    /// What it needs of the answer's body; asked before [`Policy::on_response`], but not for an answer without a body or of a stream.
    fn response_body(&self, exchange: &Exchange) -> BodyNeed {
        let _ = exchange;
        BodyNeed::Untouched
    }

    /// What codes the answer's body on its way to the caller; asked once all policies ran outward, and [`Policy::on_response`] has set the
    /// head so, with [`Exchange::coding`]. Not asked for an answer without a body.
    fn coder(&self, exchange: &Exchange) -> Option<Box<dyn Coder>> {
        let _ = exchange;
        None
    }

    /// Names of fields that it takes out of every request it lets pass. They do not reach the upstream behind the body either.
    fn removed_from_requests(&self) -> &[Box<str>] {
        &[]
    }

    /// Names of fields that its credential goes on in, where it is to: another authenticator does not take them out of a call that this one
    /// let in.
    fn forwarded_in_requests(&self) -> &[Box<str>] {
        &[]
    }

    /// Of an authenticator: takes out of a call that another of `authenticate: { any: … }` let in what would not have gone on if this one
    /// had let it in. It may not have been asked, or have refused.
    fn pass_by(&self, request: &mut Request, passed: &Passed<'_>) {
        for name in self.removed_from_requests() {
            passed.remove(&mut request.head, name);
        }
    }

    /// Names of fields that it takes out of every answer. They do not reach the caller behind the body either.
    fn removed_from_answers(&self) -> &[Box<str>] {
        &[]
    }

    /// Paths of GET requests that it answers itself, so that a route that has it must take them.
    fn answers_at(&self) -> &[Box<str>] {
        &[]
    }

    /// Whether it answers CORS preflights, so that they never reach what stands behind it.
    fn answers_preflights(&self) -> bool {
        false
    }

    /// Whether it keeps something away, so that it runs where a condition that it depends on cannot be answered.
    fn protects(&self) -> bool {
        true
    }

    /// Says what [`Policy::on_request`] would do. May note on the exchange what later policies need (such as the consumer) and edit its
    /// head as the real run would, but spends and counts nothing.
    fn explain(&self, exchange: &mut Exchange) -> Explanation;
}

/// Compiled runtimes of one policy on one route, each with the phase it runs in.
pub type Runtimes = Vec<(Phase, Box<dyn Policy>)>;

/// A policy's settings type.
pub trait PolicyConfig: Setting {
    /// Name in configuration.
    const NAME: &'static str;

    /// Why it must run on every request, where it must: then it takes no `when`.
    const UNCONDITIONAL: Option<&'static str> = None;

    /// Whether a route ends in it: it always answers.
    const ENDS: bool = false;

    /// Whether every route that has an authenticator has it, with the settings that nothing is said of, unless it is `off`.
    const IMPLIED: bool = false;

    /// The compiled runtimes with their phases; findings go into `ctx`. `None` only after an error was reported.
    fn build(self, ctx: &mut BuildContext<'_>) -> Option<Runtimes>;
}

/// One row of the registry.
#[derive(Clone, Copy)]
pub struct PolicyRow {
    /// Name in configuration.
    pub name: &'static str,
    /// Earliest phase it may run in.
    pub phase: Phase,
    /// Manual page, Markdown.
    pub manual: &'static str,
    /// Whether a route ends in it.
    pub ends: bool,
    /// Whether every route with an authenticator has it, unless it is `off`.
    pub implied: bool,
    /// Why it must run on every request, where it must.
    pub unconditional: Option<&'static str>,
    /// Checks settings without building.
    pub check: fn(&Node, &mut Decoder<'_>),
    /// JSON Schema of the settings.
    pub schema: fn(&mut SchemaBuilder<'_>) -> JsonValue,
    /// Decodes and builds.
    pub build: fn(&Node, &mut BuildContext<'_>) -> Option<Runtimes>,
}

impl PolicyRow {
    /// The row of a settings type.
    #[must_use]
    pub const fn of<C: PolicyConfig>(phase: Phase, manual: &'static str) -> PolicyRow {
        PolicyRow {
            name: C::NAME,
            phase,
            manual,
            ends: C::ENDS,
            implied: C::IMPLIED,
            unconditional: if matches!(phase, Phase::Authenticate) {
                Some("who calls must not depend on what a caller sends")
            } else {
                C::UNCONDITIONAL
            },
            check: |node, decoder| {
                let _ = C::decode(node, decoder);
            },
            schema: C::schema,
            build: |node, ctx| {
                let settings = ctx.decode::<C>(node)?;
                settings.build(ctx)
            },
        }
    }

    /// The policy as the language describes it: its page opens with what it does.
    #[must_use]
    pub fn describe(&self) -> PolicyDescription {
        PolicyDescription {
            name: self.name,
            phase: self.phase.name(),
            doc: first_paragraph(self.manual),
            authenticator: self.phase == Phase::Authenticate,
            ends: self.ends,
            implied: self.implied,
            unconditional: self.unconditional,
            check: self.check,
            schema: self.schema,
        }
    }
}

/// The paragraph behind the heading of a manual page.
fn first_paragraph(manual: &'static str) -> &'static str {
    let text = manual.split_once('\n').map_or("", |(_, rest)| rest).trim_start();
    text.split_once("\n\n").map_or(text, |(paragraph, _)| paragraph).trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_begins_with_what_the_policy_does() {
        assert_eq!(first_paragraph("# a\n\nDoes\nthis.\n\nMore."), "Does\nthis.");
        assert_eq!(first_paragraph("# a\n"), "");
    }
}
