//! A route's policies in running order: inward on the way to the destination, outward in reverse for those that ran inward.

use std::ops::Range;
use std::sync::Arc;

use daemun_pipeline::expression::Expression;
use daemun_pipeline::{
    Bodies, BodyNeed, ConsumerId, Exchange, Explanation, Fault, Flow, Head, Outcome, Passed, Phase, Policy, Reason,
    Stop, Verdict,
};

use crate::coded::Coders;
use crate::record::PolicyVerdict;
use crate::whole::Reader;

/// A compiled policy in its place.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) name: &'static str,
    /// Row of the registry, for verdict counters.
    pub(crate) row: u8,
    pub(crate) phase: Phase,
    pub(crate) policy: Arc<dyn Policy>,
    /// Part of `authenticate: { any: … }`: one of these that stand together must pass.
    pub(crate) any: bool,
    /// It does not simply run: it is one of several, or the first authenticator that somebody without a credential is let past.
    pub(crate) apart: bool,
    /// The requests it runs on; all when absent. None of an authenticator, nor of what answers preflights.
    pub(crate) when: Option<Expression>,
}

impl Link {
    /// Whether it runs. One that protects does so where that cannot be told.
    #[inline]
    fn runs(&self, exchange: &Exchange) -> Result<bool, Fault> {
        match &self.when {
            None => Ok(true),
            Some(when) => when.test_or(exchange, self.policy.protects()),
        }
    }

    fn explain(&self, exchange: &mut Exchange) -> Explanation {
        match (self.runs(exchange), &self.when) {
            (Ok(false), Some(when)) => Explanation::skip(format!("its `when` does not hold: `{}`", when.text())),
            (Err(fault), _) => {
                let detail = fault.detail.to_string();
                Explanation::stop(&fault.into(), detail)
            }
            (Ok(_), _) => self.policy.explain(exchange),
        }
    }
}

/// Whose calls are that show no credential: a consumer, with name and roles as they are sent.
#[derive(Clone)]
pub(crate) struct Anonymous {
    pub(crate) consumer: ConsumerId,
    pub(crate) name: Box<str>,
    pub(crate) roles: Box<str>,
}

/// A route's policies, sorted by phase and registry order.
#[derive(Clone, Default)]
pub(crate) struct Chain {
    links: Vec<Link>,
    /// Whose calls are that show no credential, and the links that they are let past.
    anonymous: Option<Box<(Anonymous, Range<usize>)>>,
    /// Which bodies one of them may have a need of.
    pub(crate) bodies: Bodies,
    /// One of them runs outward.
    sees_answers: bool,
    pub(crate) unwanted: Arc<Unwanted>,
}

/// Names of fields that must not pass behind a body, because policies take them out of the head. Kept apart, since what lasts keeps it.
#[derive(Debug, Default)]
pub(crate) struct Unwanted {
    pub(crate) requests: Names,
    pub(crate) answers: Names,
}

/// Names of fields.
#[derive(Debug, Default)]
pub(crate) struct Names(Box<[Box<str>]>);

impl Names {
    fn of<'a>(links: &'a [Link], removed: impl Fn(&'a dyn Policy) -> &'a [Box<str>]) -> Names {
        Names(links.iter().flat_map(|link| removed(&*link.policy)).cloned().collect())
    }

    /// Takes them out of the fields behind a body, where there are any, in every spelling that a receiver may read as the same.
    pub(crate) fn strip(&self, trailers: Option<&mut Head>) {
        let Some(trailers) = trailers else { return };
        for name in &self.0 {
            trailers.remove_alike(name, usize::MAX);
        }
    }
}

/// Verdicts of one exchange; reused.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    /// Registry row and decision, in running order.
    pub(crate) made: Vec<(u8, PolicyVerdict)>,
    /// How many links ran inward, and not outward yet.
    ran: usize,
    /// Those of the links that were passed by, because their conditions did not hold; one bit each.
    skipped: u64,
}

/// The bit of a link; those behind the last bit have no conditions.
#[inline]
fn bit(at: usize) -> u64 {
    1_u64.checked_shl(u32::try_from(at).unwrap_or(u32::MAX)).unwrap_or(0)
}

impl Verdicts {
    /// Whether a link that was come by did not run.
    #[inline]
    fn has_skipped(&self, at: usize) -> bool {
        self.skipped & bit(at) != 0
    }

    fn skip(&mut self, at: usize) {
        self.skipped |= bit(at);
        self.ran = at + 1;
    }

    /// How many links ran inward, and not outward yet.
    pub(crate) fn ran(&self) -> usize {
        self.ran
    }

    /// Another answer comes in place of one that ran outward in part: all of the links that `ran` inward see it.
    pub(crate) fn begin_outward(&mut self, ran: usize) {
        self.ran = ran;
    }

    pub(crate) fn clear(&mut self) {
        self.made.clear();
        self.ran = 0;
        self.skipped = 0;
    }

    /// Waits for a decision where it is not made yet, and notes it.
    async fn take(&mut self, row: u8, decision: Flow<'_>) -> Verdict {
        let verdict = match decision {
            Flow::Now(verdict) => verdict,
            Flow::Later(work) => work.await,
        };
        let decision = match &verdict {
            Ok(()) => PolicyVerdict::Passed,
            Err(Stop::Answer(_)) => PolicyVerdict::Answered,
            Err(Stop::Fault(_)) => PolicyVerdict::Refused,
        };
        self.made.push((row, decision));
        verdict
    }
}

impl Chain {
    pub(crate) fn new(mut links: Vec<Link>, anonymous: Option<Anonymous>) -> Chain {
        // those of which one must pass stand together, before those that all must
        links.sort_by_key(|link| (link.phase, !link.any, link.row));
        let authenticators = links.partition_point(|link| link.phase < Phase::Authenticate)
            ..links.partition_point(|link| link.phase <= Phase::Authenticate);
        let anonymous = anonymous.map(|anonymous| Box::new((anonymous, authenticators.clone())));
        for (at, link) in links.iter_mut().enumerate() {
            link.apart = link.any || anonymous.is_some() && at == authenticators.start;
        }
        // what could not be noted as passed by always runs
        links.iter_mut().skip(u64::BITS as usize).for_each(|link| link.when = None);
        let unwanted = Unwanted {
            requests: Names::of(&links, |policy| policy.removed_from_requests()),
            answers: Names::of(&links, |policy| policy.removed_from_answers()),
        };
        let needs = |body: fn(Bodies) -> bool| links.iter().any(|link| body(link.policy.bodies()));
        let bodies = Bodies {
            request: needs(|bodies| bodies.request),
            response: needs(|bodies| bodies.response),
            coded: needs(|bodies| bodies.coded),
        };
        let sees_answers = links.iter().any(|link| link.policy.sees_answers());
        Chain { links, anonymous, bodies, sees_answers, unwanted: Arc::new(unwanted) }
    }

    /// Whether one of the policies answers CORS preflights.
    pub(crate) fn answers_preflights(&self) -> bool {
        self.links.iter().any(|link| link.when.is_none() && link.policy.answers_preflights())
    }

    /// Runs every policy on the way in, until one stops the exchange. `reader` gets the request's body for those that need it; without
    /// one, they are not given any.
    pub(crate) async fn inward(
        &self,
        exchange: &mut Exchange,
        verdicts: &mut Verdicts,
        mut reader: Option<&mut Reader<'_, '_>>,
    ) -> Verdict {
        let mut at = 0;
        loop {
            // those that decide at once, without a wait within this loop: what would live across one costs more to get at
            let mut next = at;
            if let Some((row, decision)) = loop {
                let Some(link) = self.links.get(next) else { break None };
                if link.apart || link.when.is_some() || reader.is_some() {
                    break None;
                }
                next += 1;
                match link.policy.on_request(exchange) {
                    Flow::Now(Ok(())) => verdicts.made.push((link.row, PolicyVerdict::Passed)),
                    decision @ (Flow::Now(Err(_)) | Flow::Later(_)) => break Some((link.row, decision)),
                }
            } {
                at = next;
                verdicts.ran = at;
                verdicts.take(row, decision).await?;
                continue;
            }
            at = next;
            verdicts.ran = at;
            let Some(link) = self.links.get(at) else { return Ok(()) };
            if let Some(end) = self.lets_past(at, exchange) {
                (at..end).for_each(|at| verdicts.skip(at));
                at = end;
                continue;
            }
            if link.any {
                at = self.one_of(at, exchange, verdicts).await?;
                continue;
            }
            if !link.runs(exchange)? {
                verdicts.skip(at);
                at += 1;
                continue;
            }
            if let Some(reader) = &mut reader
                && let BodyNeed::Whole { max } = link.policy.request_body(exchange)
            {
                reader.read(exchange, max).await?;
            }
            at += 1;
            verdicts.ran = at;
            verdicts.take(link.row, link.policy.on_request(exchange)).await?;
        }
    }

    /// Where the authenticators end that begin at `at`, when the call shows none of them anything and is therefore noted as the one of whom
    /// such calls are.
    fn lets_past(&self, at: usize, exchange: &mut Exchange) -> Option<usize> {
        let (anonymous, authenticators) = &**self.anonymous.as_ref().filter(|known| known.1.start == at)?;
        let links = self.links.get(authenticators.clone())?;
        let is_cut_off = exchange.directory.as_ref().is_some_and(|known| known.is_cut_off(anonymous.consumer));
        if is_cut_off || links.iter().any(|link| link.policy.is_shown(exchange)) {
            return None;
        }
        // what only they may say, they do not
        pass_others_by(links, None, exchange.request.head.fields.len(), exchange);
        exchange.anonymous = true;
        exchange.note_consumer(anonymous.consumer, anonymous.name.as_bytes(), anonymous.roles.as_bytes());
        Some(authenticators.end)
    }

    /// One of the authenticators from `at` on must pass; the first one's refusal is the answer, with the challenges of the others.
    async fn one_of(&self, at: usize, exchange: &mut Exchange, verdicts: &mut Verdicts) -> Result<usize, Stop> {
        let group = self.group(at);
        let end = at + group.len();
        let mut first = None;
        for (offset, link) in group.iter().enumerate() {
            verdicts.ran = at + offset + 1;
            let fields = exchange.request.head.fields.len();
            match verdicts.take(link.row, link.policy.on_request(exchange)).await {
                Ok(()) => {
                    pass_others_by(group, Some(offset), fields, exchange);
                    verdicts.ran = end;
                    return Ok(end);
                }
                Err(stop) => first = Some(both(first, stop)),
            }
        }
        first.map_or(Ok(end), Err)
    }

    /// The links from `at` on of which one must pass.
    fn group(&self, at: usize) -> &[Link] {
        let rest = self.links.get(at..).unwrap_or_default();
        rest.get(..rest.iter().take_while(|link| link.any).count()).unwrap_or_default()
    }

    /// Runs those that ran inward on the way out, in reverse, until one stops the answer. What becomes the answer then goes on outward
    /// from there: those that are left run when this is called again.
    pub(crate) fn outward(&self, exchange: &mut Exchange, verdicts: &mut Verdicts) -> Verdict {
        if !self.sees_answers {
            verdicts.ran = 0;
            return Ok(());
        }
        while let Some(link) = verdicts.ran.checked_sub(1).and_then(|last| self.links.get(last)) {
            verdicts.ran -= 1;
            if verdicts.has_skipped(verdicts.ran) {
                continue;
            }
            link.policy.on_response(exchange)?;
        }
        verdicts.ran = 0;
        Ok(())
    }

    /// Bytes of the answer's body that those that ran inward need whole, at most; `None` where none needs it.
    #[inline]
    pub(crate) fn answer_need(&self, exchange: &Exchange, verdicts: &Verdicts) -> Option<u64> {
        if self.bodies.response { self.need_of_those_that_ran(exchange, verdicts) } else { None }
    }

    fn need_of_those_that_ran(&self, exchange: &Exchange, verdicts: &Verdicts) -> Option<u64> {
        let needs = self.ran(verdicts, verdicts.ran).map(|link| link.policy.response_body(exchange));
        let needs = needs.filter_map(|need| match need {
            BodyNeed::Whole { max } => Some(max),
            BodyNeed::Untouched => None,
        });
        needs.max()
    }

    /// What codes the answer's body, of the first `ran` links.
    pub(crate) fn coders(&self, exchange: &Exchange, verdicts: &Verdicts, ran: usize) -> Option<Coders> {
        exchange.coding?;
        let mut coders = self.ran(verdicts, ran).rev().filter_map(|link| link.policy.coder(exchange));
        let first = coders.next()?;
        Some(Coders::of(std::iter::once(first).chain(coders).collect()))
    }

    /// Those of the first `ran` links that ran.
    fn ran(&self, verdicts: &Verdicts, ran: usize) -> impl DoubleEndedIterator<Item = &Link> {
        self.links
            .get(..ran)
            .unwrap_or_default()
            .iter()
            .enumerate()
            .filter_map(|(at, link)| (!verdicts.has_skipped(at)).then_some(link))
    }

    /// What each policy would decide, up to the first that would stop the request.
    pub(crate) fn explain(&self, exchange: &mut Exchange) -> Explained {
        let mut out = Explained::new();
        let mut at = 0;
        while let Some(link) = self.links.get(at) {
            if let Some(end) = self.lets_past(at, exchange) {
                let name = self.anonymous.as_ref().map_or("", |known| &*known.0.name);
                let detail = format!("there is no credential in the request, which is therefore one of `{name}`");
                out.push(("anonymous", Explanation::pass(detail)));
                at = end;
                continue;
            }
            let passed = match self.group(at) {
                [] => explain_next(link, exchange, &mut out),
                group => explain_one_of(group, exchange, &mut out),
            };
            if !passed {
                break;
            }
            at += self.group(at).len().max(1);
        }
        out
    }

    /// Paths that policies answer themselves, with the names of these.
    pub(crate) fn answers_at(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.links.iter().flat_map(|link| link.policy.answers_at().iter().map(|path| (link.name, &**path)))
    }

    /// Names of the policies, in running order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.links.iter().map(|link| link.name)
    }
}

/// Each of several authenticators but the one that let the request in, before which there were `fields` fields, takes out what only it may
/// say, and its credential: nobody has verified it.
fn pass_others_by(group: &[Link], by: Option<usize>, fields: usize, exchange: &mut Exchange) {
    let forwarded = by.and_then(|by| group.get(by)).map_or(&[][..], |link| link.policy.forwarded_in_requests());
    let passed = Passed { fields, forwarded };
    for (_, other) in group.iter().enumerate().filter(|(at, _)| Some(*at) != by) {
        other.policy.pass_by(&mut exchange.request, &passed);
    }
}

/// What policies would decide, with their names.
type Explained = Vec<(&'static str, Explanation)>;

/// Says what a policy would decide; whether the request goes on.
fn explain_next(link: &Link, exchange: &mut Exchange, out: &mut Explained) -> bool {
    let explanation = link.explain(exchange);
    let passed = matches!(explanation.outcome, Outcome::Pass | Outcome::Skip);
    out.push((link.name, explanation));
    passed
}

/// Says what several authenticators would decide, up to the first that lets the request in; whether there is one.
fn explain_one_of(group: &[Link], exchange: &mut Exchange, out: &mut Explained) -> bool {
    let passed = group.iter().enumerate().find_map(|(at, link)| {
        let fields = exchange.request.head.fields.len();
        explain_next(link, exchange, out).then_some((at, fields))
    });
    if let Some((by, fields)) = passed {
        pass_others_by(group, Some(by), fields, exchange);
    }
    passed.is_some()
}

/// The first of two refusals; where both ask for credentials, with every way to give them (RFC 9110, section 11.6.1). Before one that only
/// asks for them comes what an authenticator answers itself, such as the way to a login.
fn both(first: Option<Stop>, next: Stop) -> Stop {
    match (first, next) {
        (None, only) => only,
        (Some(Stop::Fault(mut first)), Stop::Fault(next))
            if first.reason == Reason::Unauthenticated && next.reason == Reason::Unauthenticated =>
        {
            first.fields.extend(next.fields);
            Stop::Fault(first)
        }
        (Some(Stop::Fault(first)), answer @ Stop::Answer(_)) if first.reason == Reason::Unauthenticated => answer,
        (Some(first), _) => first,
    }
}
