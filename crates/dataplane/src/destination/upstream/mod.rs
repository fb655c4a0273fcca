//! A call to an upstream: a target is picked, a connection taken or made, the call sent, its answer passed on. Knows no policy.

pub(crate) mod balance;
pub(crate) mod breaker;
pub(crate) mod budget;
pub(crate) mod choice;
pub(crate) mod connect;
pub(crate) mod forsaken;
pub(crate) mod gate;
pub(crate) mod grpc;
pub(crate) mod head;
mod hedge;
pub(crate) mod kept;
pub(crate) mod latency;
mod leave;
pub(crate) mod links;
pub(crate) mod local;
pub(crate) mod mirror;
mod news;
pub(crate) mod outliers;
mod peers;
pub(crate) mod picked;
pub(crate) mod place;
pub(crate) mod plan;
pub(crate) mod pool;
pub(crate) mod reach;
pub(crate) mod rest;
pub(crate) mod retry;
pub(crate) mod retry_budget;
mod solo;
pub(crate) mod state;
pub(crate) mod sticky;
pub(crate) mod transfer;
pub(crate) mod upload;
pub(crate) mod window;

use std::rc::Rc;
use std::sync::Arc;

use daemun_pipeline::{Exchange, Fault, Reason, Span, Stop, Verdict};

use crate::http1::parse::BodyLength;
use crate::http1::response::ResponseHead;
use crate::kept::Kept;
use crate::kept::store::Store;
use crate::peer::{Down, Up};
use crate::pipe::Pipe;
use crate::serve::{Ask, Trail};
use crate::snapshot::Route;
use crate::snapshot::failure::Hedge;
use crate::worker::Worker;
use choice::Outcome;
use local::LocalUpstream;
use picked::Picked;
use pool::LocalTarget;
use rest::{Left, Rest};
use retry::{Failed, Tries};
use transfer::{CallLimits, Transfer, let_others_read};
use upload::Upload;

/// What of a call outlives its attempts.
pub(crate) struct Call {
    upgrade: Option<String>,
    framing: BodyLength,
    pub(crate) upload: Upload,
    /// How many policies ran inward: all of them see its answer, whichever attempt that is of.
    pub(crate) ran: usize,
    /// It failed by the status it was answered with.
    pub(crate) by_status: bool,
    /// The answer that is given in place of the one that was refused.
    pub(crate) kept: Option<Arc<Kept>>,
    /// It goes where calls go that failed elsewhere; nothing is done in its place any more.
    pub(crate) falls_back: bool,
}

impl Call {
    /// Of the request as its policies left it.
    pub(crate) fn new(ask: &mut Ask<'_, '_>, exchange: &mut Exchange, keep: usize) -> Result<Call, Fault> {
        let upgrade = wanted_upgrade(ask.route, exchange, ask.framing, ask.upgrade)?;
        head::check_path(exchange, ask.route.own.rewrite.as_ref())?;
        exchange.times.decided = ask.worker.clock.now();
        let framing = sent_framing(upgrade.as_deref(), ask.framing);
        let keep = if matches!(framing, BodyLength::None | BodyLength::Length(0)) { 0 } else { keep };
        let upload = Upload::new(exchange, ask.trailers.take(), keep, exchange.times.decided);
        Ok(Call { ran: 0, upgrade, framing, upload, by_status: false, kept: None, falls_back: false })
    }

    /// Whether it may be made again although it may have had an effect.
    pub(crate) fn is_safe(&self, exchange: &Exchange) -> bool {
        self.upload.can_repeat() && (self.upload.unprocessed || exchange.request.method.is_idempotent())
    }

    /// The last good answer to it, where one is kept. Only a call that is its head alone is known by that.
    pub(crate) fn kept(&mut self, store: &Store, route: &Route, exchange: &Exchange, now: u64) -> Option<Arc<Kept>> {
        self.kept.take().or_else(|| if self.is_head() { store.find(exchange, route, now) } else { None })
    }

    /// Whether it has neither a body nor asks for another protocol.
    fn is_head(&self) -> bool {
        self.upgrade.is_none() && matches!(self.framing, BodyLength::None | BodyLength::Length(0))
    }

    /// Whether, and when, it is made a second time beside the first.
    fn hedge<'u>(&self, of: &'u LocalUpstream, exchange: &Exchange, limits: &mut CallLimits) -> Option<&'u Hedge> {
        let hedge = of.shared.failure.hedge.as_ref().filter(|_| self.is_light(exchange))?;
        hedge.budget.deposit();
        limits.look_at = self.upload.moved.saturating_add(hedge.after);
        Some(hedge)
    }

    /// Whether it may be in flight twice at once: the whole of it is here.
    fn is_light(&self, exchange: &Exchange) -> bool {
        let is_here =
            matches!(self.framing, BodyLength::None | BodyLength::Length(0)) || exchange.request.body.is_some();
        is_here && self.upgrade.is_none() && !exchange.request.grpc && self.is_safe(exchange)
    }
}

/// Makes the call and passes its answer on; of one that may last, gives what is left to be done.
pub(crate) async fn send(
    ask: &mut Ask<'_, '_>,
    exchange: &mut Exchange,
    upstream: &LocalUpstream,
    call: &mut Call,
    trail: &mut Trail,
) -> Result<Option<Box<Rest>>, Stop> {
    let_others_read(ask.down).await;
    let mut tries = Tries::new(ask.route, upstream, call);
    let mut now = exchange.times.called();
    let mut failed: Option<Fault> = None;
    loop {
        let picked = tries.pick(upstream, ask.route, exchange, now);
        // that no other target is left says less than why the last one failed
        let mut picked = picked.map_err(|none| failed.take().unwrap_or(none))?;
        if !gate::call_at(&picked.target, trail) {
            failed = Some(failed.unwrap_or_else(|| gate::all_full(upstream)));
            tries.pass(&picked.target);
            continue;
        }
        if let Some(last) = trail.target.replace(Rc::clone(&picked.target)) {
            made_again(ask.worker, exchange, upstream, &last, trail, now);
        }
        trail.upstream_status = 0;
        call.by_status = false;
        trail.attempts = trail.attempts.saturating_add(1);
        call.upload.awaited = picked.awaited(exchange.request.grpc);
        let result = attempt(ask, exchange, upstream, &mut picked, call, &mut tries, trail).await;
        trail.bytes_in = call.upload.pipe.total;
        let awaited = call.upload.awaited.take();
        let fault = match result {
            Ok(rest) => {
                trail.picked = rest.is_some().then_some(picked);
                return Ok(rest);
            }
            Err(Stop::Fault(fault)) => fault,
            // a policy's, on the way out
            Err(stop @ Stop::Answer(_)) => return Err(stop),
        };
        if picked.wants_report() {
            picked.end(Outcome::of(&fault), awaited, ask.worker.clock.now());
        }
        now = ask.worker.clock.now();
        let attempt = Failed { fault: &fault, call, exchange, trail, targets: upstream.targets().len(), now };
        if ask.down.started() || !tries.again(&attempt, &picked.target) {
            return Err(fault.into());
        }
        drop(picked);
        gate::leave_target(trail);
        let wait = tries.wait(exchange);
        if wait > 0 {
            Box::pin(ask.pause(wait)).await?;
        }
        trail.fresh = tries.fresh;
        exchange.response.head.clear();
        exchange.response.body = None;
        trail.verdicts.begin_outward(call.ran);
        failed = Some(fault);
        now = ask.worker.clock.now();
        call.upload.repeat(exchange, now);
    }
}

/// Counts an attempt that failed, now that another is made.
#[cold]
fn made_again(
    worker: &Worker,
    exchange: &mut Exchange,
    upstream: &LocalUpstream,
    last: &LocalTarget,
    trail: &Trail,
    now: u64,
) {
    worker.recorder.attempt_failed(&last.shared.cells, trail.upstream_status, 0);
    upstream.cells.count_retry();
    exchange.times.begin_again(now);
}

async fn attempt(
    ask: &mut Ask<'_, '_>,
    exchange: &mut Exchange,
    upstream: &LocalUpstream,
    picked: &mut Picked,
    call: &mut Call,
    tries: &mut Tries<'_>,
    trail: &mut Trail,
) -> Result<Option<Box<Rest>>, Stop> {
    let site = ask.site();
    let upgrade = call.upgrade.as_deref();
    let mut up = reach::begin(site, exchange, upstream, &picked.target, upgrade, call.framing, trail).await?;
    let mut limits = reach::limits(site, exchange, upstream, call.upgrade.is_some());
    let hedge = call.hedge(upstream, exchange, &mut limits);
    leave::prepare(&mut limits, hedge.is_some(), upstream, tries, call.upload.moved);
    ask.down.limit_body(if limits.stream { u64::MAX } else { limits.body });
    let mut transfer = Transfer {
        worker: ask.worker,
        deadline: ask.deadline,
        down: ask.down,
        up: &mut up,
        exchange,
        limits,
        unwanted: &ask.route.chain.unwanted,
        upload: &mut call.upload,
        download: Pipe::default(),
        coded: None,
        copying: None,
        is_due: false,
    };
    let mut head = transfer.until_head(&ask.local.snapshot.settings.bounds).await;
    if transfer.is_due {
        // boxed, so that calls that are answered soon do not carry the size of it
        head = Box::pin(do_more(site, &mut transfer, upstream, hedge, picked, tries, call.framing, trail)).await;
    }
    let mut head = match head {
        Ok(head) => head,
        Err(fault) => {
            up.doubt_after(&fault);
            return Err(fault.into());
        }
    };
    let answered = ask.worker.clock.now();
    transfer.exchange.times.answered = answered;
    trail.upstream_status = head.status;
    transfer.upload.awaited = None;
    let waited = transfer.upload.waited(answered);
    trail.answered_in = waited.unwrap_or(0).min(answered.saturating_sub(transfer.exchange.times.connected));
    picked.report(Outcome::Answered(head.status), waited, answered);
    if let Some(fault) = tries.refuses(head.status, upstream, ask.route, picked, &transfer) {
        (call.by_status, call.kept) = (true, tries.kept.take());
        give_up(ask.worker, exchange, &picked.target, up, &call.upload, &head);
        return Err(fault.into());
    }
    transfer.copying = tries.copy(ask.route, transfer.exchange, &head);
    picked.mark(transfer.exchange);
    let chain = &ask.route.chain;
    if head.status == 101 {
        let Some(wanted) = &call.upgrade else {
            return Err(Fault::new(Reason::BadResponse, "the backend switched protocols unasked").into());
        };
        begin_tunnel(&mut transfer, chain, wanted, trail)?;
        let limits = transfer.limits;
        return Ok(Some(Rest::new(up, &mut call.upload, limits, &chain.unwanted, Left::Tunnel)));
    }
    transfer.limits.stream |= is_event_stream(transfer.exchange);
    outward(&mut transfer, chain, &mut head, trail).await?;
    crate::serve::stamp(transfer.exchange);
    if transfer.limits.stream {
        let Transfer { limits, download, coded, .. } = transfer;
        let left = Left::Answer(head, download, coded);
        return Ok(Some(Rest::new(up, &mut call.upload, limits, &chain.unwanted, left)));
    }
    let result = transfer.until_end(head.body).await;
    trail.bytes_out = transfer.download.total;
    finish(ask.worker, ask.down, exchange, &picked.target, up, &call.upload, &head, result)?;
    Ok(None)
}

/// Does what else can be done than to wait for the head of an answer that takes long.
#[allow(clippy::too_many_arguments, reason = "the parts of one call, passed on once")]
async fn do_more(
    site: reach::Site<'_>,
    transfer: &mut Transfer<'_, '_>,
    upstream: &LocalUpstream,
    hedge: Option<&Hedge>,
    picked: &mut Picked,
    tries: &mut Tries<'_>,
    framing: BodyLength,
    trail: &mut Trail,
) -> Result<ResponseHead, Fault> {
    if let Some(hedge) = hedge
        && let Some(head) = hedge::race(site, transfer, upstream, hedge, picked, framing, trail).await
    {
        return head;
    }
    leave::wait(site, transfer, upstream, picked, tries).await
}

/// Runs the policies outward over the answer, with its body where they need it, and makes ready what is sent of it.
async fn outward(
    transfer: &mut Transfer<'_, '_>,
    chain: &crate::chain::Chain,
    head: &mut ResponseHead,
    trail: &mut Trail,
) -> Verdict {
    if !chain.bodies.of_answers() {
        return chain.outward(transfer.exchange, &mut trail.verdicts);
    }
    if head.body == BodyLength::None {
        // so that it is told from one that is too large to be held; an empty one takes no memory
        transfer.exchange.response.body = Some(Vec::new());
        chain.outward(transfer.exchange, &mut trail.verdicts)?;
        transfer.exchange.response.body = None;
        return Ok(());
    }
    let ran = trail.verdicts.ran();
    let need = if transfer.limits.stream { None } else { chain.answer_need(transfer.exchange, &trail.verdicts) };
    if let Some(max) = need {
        // boxed, so that calls whose answers pass do not carry the size of this
        Box::pin(transfer.hold(head.body, max)).await?;
    }
    chain.outward(transfer.exchange, &mut trail.verdicts)?;
    if transfer.exchange.coding.is_none() && transfer.exchange.response.body.is_none() {
        return Ok(());
    }
    let coders = chain.coders(transfer.exchange, &trail.verdicts, ran);
    head.body = transfer.prepare(head.body, coders)?;
    Ok(())
}

/// Tells the client that its protocol was agreed to.
fn begin_tunnel(
    transfer: &mut Transfer<'_, '_>,
    chain: &crate::chain::Chain,
    wanted: &str,
    trail: &mut Trail,
) -> Verdict {
    let said = transfer.exchange.response.head.get_id(daemun_pipeline::FieldId::Upgrade).unwrap_or_default();
    if !said.eq_ignore_ascii_case(wanted.as_bytes()) {
        return Err(Fault::new(Reason::BadResponse, "the backend switched to another protocol than asked for").into());
    }
    trail.upgraded = true;
    chain.outward(transfer.exchange, &mut trail.verdicts)?;
    crate::serve::stamp(transfer.exchange);
    transfer.down.start_tunnel(transfer.exchange, wanted.as_bytes());
    transfer.up.begin_tunnel();
    Ok(())
}

/// Puts the connection back where its call ended cleanly.
#[allow(clippy::too_many_arguments, reason = "the parts of one call, passed on once")]
fn finish(
    worker: &Worker,
    down: &mut Down<'_>,
    exchange: &Exchange,
    target: &Rc<LocalTarget>,
    up: Up,
    upload: &Upload,
    head: &ResponseHead,
    result: Result<(), Fault>,
) -> Result<(), Fault> {
    if !upload.done {
        down.doom();
    }
    if let Err(fault) = &result {
        down.fail(exchange, fault);
    }
    result?;
    keep(worker, exchange, target, up, upload, head);
    Ok(())
}

/// Keeps a connection whose answer was read to its end.
fn keep(worker: &Worker, exchange: &Exchange, target: &LocalTarget, up: Up, upload: &Upload, head: &ResponseHead) {
    if upload.done {
        keep_connection(worker, exchange, target, up, head);
    }
}

/// The same for a request that was sent whole.
fn keep_connection(worker: &Worker, exchange: &Exchange, target: &LocalTarget, up: Up, head: &ResponseHead) {
    // a stream of HTTP/2 leaves its connection as it is
    let Up::H1(mut up) = up else { return };
    if !head.close && up.conn.body_read() && up.conn.all_written() && !up.conn.has_unread() {
        up.conn.release(&worker.buffers);
        target.pool.keep(up, exchange.times.answered, worker.turn());
        worker.pools_used();
    }
}

/// Lets go of an answer that is not passed on; its connection is kept where the rest of it is here already.
fn give_up(
    worker: &Worker,
    exchange: &Exchange,
    target: &LocalTarget,
    mut up: Up,
    upload: &Upload,
    head: &ResponseHead,
) {
    let is_here = match &mut up {
        Up::H1(up) => up.conn.skip_body(),
        Up::H2(_) => true,
    };
    if is_here {
        keep(worker, exchange, target, up, upload, head);
    }
}

/// The protocol the client wants to switch to and the route allows; one that it does not allow is not passed on.
pub(crate) fn wanted_upgrade(
    route: &Route,
    exchange: &Exchange,
    framing: BodyLength,
    upgrade: Option<Span>,
) -> Result<Option<String>, Fault> {
    let Some(span) = upgrade else { return Ok(None) };
    let wanted = exchange.request.text(span).trim();
    if wanted.is_empty()
        || wanted.contains([',', '/', ' '])
        || !route.own.upgrades.iter().any(|u| u.eq_ignore_ascii_case(wanted))
    {
        return Ok(None);
    }
    if !matches!(framing, BodyLength::None | BodyLength::Length(0)) {
        return Err(Fault::new(Reason::BadRequest, "a request that asks for an upgrade must not have a body"));
    }
    Ok(Some(wanted.to_ascii_lowercase()))
}

/// How a call's body is framed: one that asks for an upgrade has none, and does not say so.
pub(crate) fn sent_framing(upgrade: Option<&str>, framing: BodyLength) -> BodyLength {
    if upgrade.is_some() { BodyLength::None } else { framing }
}

/// No target has a weight, or every one was tried.
pub(crate) fn no_target() -> Fault {
    Fault::new(Reason::NoTarget, "no backend can be called")
}

/// A connection of HTTP/2 cannot switch to another protocol (RFC 9113, section 8.6).
pub(crate) fn no_upgrade() -> Fault {
    Fault::new(Reason::UpgradeRefused, "the backend speaks HTTP/2, over which this is no upgrade")
}

fn is_event_stream(exchange: &Exchange) -> bool {
    exchange
        .response
        .head
        .get_id(daemun_pipeline::FieldId::ContentType)
        .is_some_and(|v| v.get(..17).is_some_and(|p| p.eq_ignore_ascii_case(b"text/event-stream")))
}
