//! A call to an upstream: a target is picked, a connection taken or made, the call sent, its answer passed on. Knows no policy.

pub(crate) mod connect;
pub(crate) mod head;
pub(crate) mod pool;
pub(crate) mod transfer;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use daemun_pipeline::{Exchange, Fault, Reason};

use crate::http1::parse::BodyLength;
use crate::http1::response::ResponseHead;
use crate::http1::up::H1Up;
use crate::pipe::Pipe;
use crate::serve::{Ask, Trail};
use crate::snapshot::upstream::Upstream;
use pool::LocalTarget;
use transfer::{CallLimits, Transfer, Upload};

/// Attempts of one call at most; only what had no effect is tried again.
const ATTEMPTS_MOST: u8 = 3;

/// One upstream as one worker sees it.
pub(crate) struct LocalUpstream {
    pub(crate) shared: Arc<Upstream>,
    pub(crate) targets: Vec<Rc<LocalTarget>>,
    /// Smooth weighted round robin: what each target is owed.
    owed: RefCell<Vec<i64>>,
}

impl LocalUpstream {
    /// `offset` lets workers begin with different targets.
    pub(crate) fn new(shared: Arc<Upstream>, targets: Vec<Rc<LocalTarget>>, offset: usize) -> LocalUpstream {
        let count = targets.len().max(1);
        let owed = (0..targets.len()).map(|i| i64::from(i == offset % count)).collect();
        LocalUpstream { shared, targets, owed: RefCell::new(owed) }
    }

    /// The next target by weight, passing over those in `tried`.
    pub(crate) fn pick(&self, tried: &[usize]) -> Option<usize> {
        if self.targets.len() == 1 && tried.is_empty() {
            return self.shared.targets.first().filter(|t| t.weight > 0).map(|_| 0);
        }
        let mut owed = self.owed.borrow_mut();
        let mut total = 0;
        let mut best: Option<(usize, i64)> = None;
        for (index, (target, owed)) in self.shared.targets.iter().zip(owed.iter_mut()).enumerate() {
            if target.weight == 0 || tried.contains(&index) {
                continue;
            }
            total += i64::from(target.weight);
            *owed += i64::from(target.weight);
            if best.is_none_or(|(_, most)| *owed > most) {
                best = Some((index, *owed));
            }
        }
        let (index, _) = best?;
        if let Some(owed) = owed.get_mut(index) {
            *owed -= total;
        }
        Some(index)
    }
}

/// Makes the call and passes its answer on.
pub(crate) async fn send(ask: &mut Ask<'_, '_>, exchange: &mut Exchange, upstream: &LocalUpstream, trail: &mut Trail) -> Result<(), Fault> {
    let upgrade = wanted_upgrade(ask, exchange)?;
    exchange.times.decided = ask.worker.clock.now();
    let mut upload = Upload::new(exchange.times.decided);
    let mut tried = Vec::new();
    loop {
        let Some(index) = upstream.pick(&tried) else {
            return Err(Fault::new(Reason::NoTarget, "no backend can be called"));
        };
        let Some(target) = upstream.targets.get(index) else {
            return Err(Fault::new(Reason::Internal, "a target is missing"));
        };
        trail.target = Some(Rc::clone(target));
        trail.upstream_status = 0;
        trail.attempts += 1;
        let result = attempt(ask, exchange, upstream, target, &upgrade, &mut upload, trail).await;
        trail.bytes_in = upload.pipe.total;
        let Err(fault) = result else { return Ok(()) };
        let again = fault.retry && !upload.touched() && !ask.down.started() && trail.attempts < ATTEMPTS_MOST;
        let connect_fault = matches!(fault.reason, Reason::ConnectFailed | Reason::ConnectTimeout | Reason::NoTarget);
        let safe = connect_fault || (trail.reused && exchange.request.method.is_idempotent());
        if !again || !safe || (connect_fault && tried.len() + 1 >= upstream.targets.len()) {
            return Err(fault);
        }
        ask.worker.recorder.attempt_failed(&target.shared.cells, 0, 0);
        if connect_fault {
            tried.push(index);
        } else {
            trail.fresh = true;
        }
        exchange.response.head.clear();
        // nothing of the body was taken; the head must be sent again
        upload = Upload::new(ask.worker.clock.now());
    }
}

async fn attempt(
    ask: &mut Ask<'_, '_>,
    exchange: &mut Exchange,
    upstream: &LocalUpstream,
    target: &Rc<LocalTarget>,
    upgrade: &Option<String>,
    upload: &mut Upload,
    trail: &mut Trail,
) -> Result<(), Fault> {
    let mut up = connection(ask, exchange, upstream, target, trail).await?;
    let framing = if upgrade.is_some() { BodyLength::None } else { ask.framing };
    let rewrite = ask.route.rewrite.as_deref();
    head::write(exchange, &upstream.shared, &target.shared, rewrite, framing, upgrade.as_deref().map(str::as_bytes), &mut up.conn.out);
    up.begin(framing);
    let limits = CallLimits {
        response: ask.route.response.unwrap_or(upstream.shared.response),
        body: ask.route.body.unwrap_or(ask.local.snapshot.settings.body),
        stream: exchange.request.grpc || upgrade.is_some(),
    };
    let mut transfer = Transfer {
        worker: ask.worker,
        settings: &ask.local.snapshot.settings,
        deadline: ask.deadline,
        down: ask.down,
        up: &mut up,
        exchange,
        limits,
        upload,
        download: Pipe::default(),
    };
    let head = transfer.until_head().await?;
    transfer.exchange.times.answered = ask.worker.clock.now();
    trail.upstream_status = head.status;
    if head.status == 101 {
        let Some(wanted) = upgrade else {
            return Err(Fault::new(Reason::BadResponse, "the backend switched protocols unasked"));
        };
        return tunnel(&mut transfer, wanted, trail).await;
    }
    transfer.limits.stream |= is_event_stream(transfer.exchange);
    ask.route.chain.outward(transfer.exchange, &mut trail.verdicts);
    crate::serve::stamp(transfer.exchange);
    let result = transfer.until_end(head.body).await;
    trail.bytes_out = transfer.download.total;
    finish(ask, exchange, target, up, upload, &head, result)
}

async fn tunnel(transfer: &mut Transfer<'_, '_>, wanted: &str, trail: &mut Trail) -> Result<(), Fault> {
    let said = transfer.exchange.response.head.get_id(daemun_pipeline::FieldId::Upgrade).unwrap_or_default();
    if !said.eq_ignore_ascii_case(wanted.as_bytes()) {
        return Err(Fault::new(Reason::BadResponse, "the backend switched to another protocol than asked for"));
    }
    trail.upgraded = true;
    transfer.down.start_tunnel(transfer.exchange, wanted.as_bytes());
    transfer.up.conn.expect_body(BodyLength::UntilClose);
    transfer.up.conn.begin_body(BodyLength::UntilClose);
    let result = transfer.tunnel().await;
    trail.bytes_out = transfer.download.total;
    result
}

/// Puts the connection back where its call ended cleanly.
fn finish(
    ask: &mut Ask<'_, '_>,
    exchange: &Exchange,
    target: &Rc<LocalTarget>,
    mut up: H1Up,
    upload: &Upload,
    head: &ResponseHead,
    result: Result<(), Fault>,
) -> Result<(), Fault> {
    if !upload.done {
        ask.down.doom();
    }
    result?;
    if upload.done && !head.close && up.conn.body_read() && !up.conn.has_unread() {
        up.conn.release(&ask.worker.buffers);
        target.pool.keep(up, exchange.times.answered);
        ask.worker.pools_used();
    }
    Ok(())
}

/// A connection at rest, or a new one within the connect limit.
async fn connection(
    ask: &Ask<'_, '_>,
    exchange: &mut Exchange,
    upstream: &LocalUpstream,
    target: &LocalTarget,
    trail: &mut Trail,
) -> Result<H1Up, Fault> {
    if !trail.fresh
        && let Some(up) = target.pool.reuse()
    {
        trail.reused = true;
        return Ok(up);
    }
    trail.reused = false;
    let limit = ask.route.connect.unwrap_or(upstream.shared.connect);
    ask.deadline.set(ask.worker.clock.now().saturating_add(limit));
    let shared = &target.shared;
    let connected = ask.deadline.limit(connect::connect(&target.pool, &upstream.shared, shared)).await;
    exchange.times.connected = ask.worker.clock.now();
    let result = connected.unwrap_or_else(|| {
        Err(Fault::new(Reason::ConnectTimeout, "the backend did not accept a connection in time").cause(&shared.url).retryable())
    });
    ask.worker.recorder.connected(&shared.cells, result.is_ok());
    result
}

/// The protocol the client wants to switch to and the route allows; one that it does not allow is not passed on.
fn wanted_upgrade(ask: &Ask<'_, '_>, exchange: &Exchange) -> Result<Option<String>, Fault> {
    let Some(span) = ask.upgrade else { return Ok(None) };
    let wanted = exchange.request.text(span).trim();
    if wanted.is_empty() || wanted.contains([',', '/', ' ']) || !ask.route.upgrades.iter().any(|u| u.eq_ignore_ascii_case(wanted)) {
        return Ok(None);
    }
    if !matches!(ask.framing, BodyLength::None | BodyLength::Length(0)) {
        return Err(Fault::new(Reason::BadRequest, "a request that asks for an upgrade must not have a body"));
    }
    Ok(Some(wanted.to_ascii_lowercase()))
}

fn is_event_stream(exchange: &Exchange) -> bool {
    exchange
        .response
        .head
        .get_id(daemun_pipeline::FieldId::ContentType)
        .is_some_and(|v| v.get(..17).is_some_and(|p| p.eq_ignore_ascii_case(b"text/event-stream")))
}
