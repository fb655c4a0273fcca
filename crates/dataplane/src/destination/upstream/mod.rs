//! A call to an upstream: a target is picked, a connection taken or made, the call sent, its answer passed on. Knows no policy.

pub(crate) mod budget;
pub(crate) mod connect;
pub(crate) mod gate;
pub(crate) mod grpc;
pub(crate) mod head;
pub(crate) mod links;
pub(crate) mod local;
pub(crate) mod place;
pub(crate) mod pool;
pub(crate) mod rest;
pub(crate) mod transfer;

use std::rc::Rc;

use daemun_config::model::UpstreamProtocol;
use daemun_pipeline::{Exchange, Fault, Reason, Span, Stop, Verdict};

use crate::http1::parse::BodyLength;
use crate::http1::response::ResponseHead;
use crate::http2::link::Hold;
use crate::http2::up::H2Up;
use crate::peer::{Down, Up};
use crate::pipe::Pipe;
use crate::serve::{Ask, Trail};
use crate::snapshot::Route;
use crate::timers::NEVER;
use crate::worker::Worker;
use connect::Fresh;
use links::Links;
use local::LocalUpstream;
use pool::LocalTarget;
use rest::{Left, Rest};
use transfer::{CallLimits, Transfer, Upload, let_others_read};

/// Attempts of one call at most; only what had no effect is tried again.
const ATTEMPTS_MOST: u8 = 3;

/// Connections a call tries when those it finds turn out to take no more.
const LINK_TRIES: u8 = 3;

/// Makes the call and passes its answer on; of one that may last, gives what is left to be done.
pub(crate) async fn send(
    ask: &mut Ask<'_, '_>,
    exchange: &mut Exchange,
    upstream: &LocalUpstream,
    trail: &mut Trail,
) -> Result<Option<Box<Rest>>, Stop> {
    let upgrade = wanted_upgrade(ask.route, exchange, ask.framing, ask.upgrade)?;
    head::check_path(exchange, ask.route.own.rewrite.as_ref())?;
    exchange.times.decided = ask.worker.clock.now();
    let mut upload = Upload::new(exchange.times.decided);
    let_others_read(ask.down).await;
    let mut tried = Vec::new();
    loop {
        let Some(index) = upstream.pick(&tried) else {
            return Err(gate::none_left(upstream, &tried).into());
        };
        let Some(target) = upstream.targets.get(index) else {
            return Err(Fault::new(Reason::Internal, "a target is missing").into());
        };
        if !gate::call_at(target, &mut tried, index, trail) {
            continue;
        }
        trail.target = Some(Rc::clone(target));
        trail.upstream_status = 0;
        trail.attempts += 1;
        let result = attempt(ask, exchange, upstream, target, &upgrade, &mut upload, trail).await;
        trail.bytes_in = upload.pipe.total;
        let fault = match result {
            Ok(rest) => return Ok(rest),
            Err(Stop::Fault(fault)) => fault,
            // a policy's, on the way out
            Err(stop @ Stop::Answer(_)) => return Err(stop),
        };
        let again = fault.retry && !upload.touched() && !ask.down.started() && trail.attempts < ATTEMPTS_MOST;
        let connect_fault = matches!(fault.reason, Reason::ConnectFailed | Reason::ConnectTimeout | Reason::NoTarget);
        let safe = connect_fault || upload.unprocessed || (trail.reused && exchange.request.method.is_idempotent());
        if !again || !safe || (connect_fault && tried.len() + 1 >= upstream.targets.len()) {
            return Err(fault.into());
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
) -> Result<Option<Box<Rest>>, Stop> {
    let framing = sent_framing(upgrade.as_deref(), ask.framing);
    let mut up = begin(ask, exchange, upstream, target, upgrade.as_deref(), framing, trail).await?;
    let limits = limits(ask, exchange, upstream, upgrade.is_some());
    ask.down.limit_body(if limits.stream { u64::MAX } else { limits.body });
    let mut transfer = Transfer {
        worker: ask.worker,
        deadline: ask.deadline,
        down: ask.down,
        up: &mut up,
        exchange,
        limits,
        unwanted: &ask.route.chain.unwanted,
        upload,
        download: Pipe::default(),
    };
    let head = match transfer.until_head(&ask.local.snapshot.settings.bounds).await {
        Ok(head) => head,
        Err(fault) => {
            if fault.reason == Reason::UpstreamTimeout {
                up.doubt();
            }
            return Err(fault.into());
        }
    };
    transfer.exchange.times.answered = ask.worker.clock.now();
    trail.upstream_status = head.status;
    let times = &transfer.exchange.times;
    trail.answered_in = transfer.upload.answered_in(times.answered, times.connected);
    if head.status == 101 {
        let Some(wanted) = upgrade else {
            return Err(Fault::new(Reason::BadResponse, "the backend switched protocols unasked").into());
        };
        begin_tunnel(&mut transfer, &ask.route.chain, wanted, trail)?;
        let limits = transfer.limits;
        return Ok(Some(Rest::new(up, upload, limits, &ask.route.chain.unwanted, Left::Tunnel)));
    }
    transfer.limits.stream |= is_event_stream(transfer.exchange);
    ask.route.chain.outward(transfer.exchange, &mut trail.verdicts)?;
    crate::serve::stamp(transfer.exchange);
    if transfer.limits.stream {
        let limits = transfer.limits;
        return Ok(Some(Rest::new(up, upload, limits, &ask.route.chain.unwanted, Left::Answer(head))));
    }
    let result = transfer.until_end(head.body).await;
    trail.bytes_out = transfer.download.total;
    finish(ask.worker, ask.down, exchange, target, up, upload, &head, result)?;
    Ok(None)
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
    // a stream of HTTP/2 leaves its connection as it is
    let Up::H1(mut up) = up else { return Ok(()) };
    if upload.done && !head.close && up.conn.body_read() && !up.conn.has_unread() {
        up.conn.release(&worker.buffers);
        target.pool.keep(up, exchange.times.answered, worker.turn());
        worker.pools_used();
    }
    Ok(())
}

/// The limits of one call.
fn limits(ask: &Ask<'_, '_>, exchange: &Exchange, upstream: &LocalUpstream, upgrade: bool) -> CallLimits {
    let settings = &ask.local.snapshot.settings;
    let grpc = exchange.request.grpc;
    let response = if grpc { settings.stream_idle } else { upstream.shared.response };
    CallLimits {
        response: ask.route.own.response.unwrap_or(response),
        body: ask.route.own.body.unwrap_or(settings.body),
        stream: grpc || upgrade,
        until: if grpc { grpc::deadline(exchange) } else { NEVER },
        body_idle: settings.body_idle,
        write_idle: settings.write_idle,
        stream_idle: settings.stream_idle,
        min_rate: settings.min_rate,
        min_rate_after: settings.min_rate_after,
    }
}

/// Finds a connection for the call and queues its head there.
async fn begin(
    ask: &Ask<'_, '_>,
    exchange: &mut Exchange,
    upstream: &LocalUpstream,
    target: &LocalTarget,
    upgrade: Option<&str>,
    framing: BodyLength,
    trail: &mut Trail,
) -> Result<Up, Fault> {
    let rewrite = ask.route.own.rewrite.as_ref();
    for _ in 0..LINK_TRIES {
        match connection(ask, exchange, upstream, target, upgrade.is_some(), trail).await? {
            Fresh::H1(mut up) => {
                let upgrade = upgrade.map(str::as_bytes);
                head::write(exchange, &upstream.shared, &target.shared, rewrite, framing, upgrade, &mut up.conn.out);
                up.begin(framing);
                return Ok(Up::H1(up));
            }
            Fresh::H2(_) if upgrade.is_some() => return Err(no_upgrade()),
            Fresh::H2(hold) => match H2Up::call(hold, exchange, &upstream.shared, &target.shared, rewrite, framing) {
                Ok(up) => return Ok(Up::H2(up)),
                Err(fault) if fault.retry => {}
                Err(fault) => return Err(fault),
            },
        }
    }
    Err(Fault::new(Reason::ConnectFailed, "the backend takes no more calls").cause(&target.shared.url).retryable())
}

/// A connection at rest or with room, or a new one, within the connect limit.
async fn connection(
    ask: &Ask<'_, '_>,
    exchange: &mut Exchange,
    upstream: &LocalUpstream,
    target: &LocalTarget,
    old: bool,
    trail: &mut Trail,
) -> Result<Fresh, Fault> {
    if !trail.fresh
        && let Some(up) = target.pool.reuse(|| ask.worker.turn()).await
    {
        trail.reused = true;
        return Ok(Fresh::H1(up));
    }
    let limit = ask.route.own.connect.unwrap_or(upstream.shared.connect);
    ask.deadline.set(ask.worker.clock.now().saturating_add(limit));
    let many = upstream.shared.protocol != UpstreamProtocol::Http1 && !old;
    if many && let Some(hold) = shared_link(ask, &target.pool.links, &target.shared.url).await? {
        trail.reused = true;
        return Ok(Fresh::H2(hold));
    }
    trail.reused = false;
    // boxed, so that calls over connections there are do not carry the size of this
    Box::pin(new_connection(ask, exchange, upstream, target, many)).await
}

/// Makes a connection, within the time that is left of the limit. `many`: one for several calls at a time, if the target likes.
async fn new_connection(
    ask: &Ask<'_, '_>,
    exchange: &mut Exchange,
    upstream: &LocalUpstream,
    target: &LocalTarget,
    many: bool,
) -> Result<Fresh, Fault> {
    let shared = &target.shared;
    let links = &target.pool.links;
    let connecting = many.then(|| links.connect());
    let result = match place::find(ask, upstream, target).await {
        Ok(place) => {
            let connect = connect::connect(ask.worker, &target.pool, &upstream.shared, shared, !many, place);
            let connected = ask.deadline.limit(connect).await;
            exchange.times.connected = ask.worker.clock.now();
            let result = connected.unwrap_or_else(|| Err(connect_timeout(&shared.url)));
            ask.worker.recorder.connected(&shared.cells, result.is_ok());
            result
        }
        Err(fault) => Err(fault),
    };
    match (&result, connecting) {
        (Ok(Fresh::H2(hold)), Some(connecting)) => {
            links.keep(hold.link(), connecting);
            ask.worker.pools_used();
        }
        (Ok(Fresh::H1(_)), Some(_)) => links.prefers_old(),
        (Err(fault), Some(connecting)) => connecting.failed(fault),
        // only who may speak HTTP/2 asks for it
        (Ok(_) | Err(_), None) => {}
    }
    result
}

/// A place on a connection with room; waits for one that is being made.
async fn shared_link(ask: &Ask<'_, '_>, links: &Links, url: &str) -> Result<Option<Hold>, Fault> {
    loop {
        let hold = links.take();
        if hold.is_some() || !links.is_coming() {
            return Ok(hold);
        }
        let waited = ask.deadline.limit(links.wait()).await.unwrap_or_else(|| Err(connect_timeout(url)));
        if let Err(fault) = waited {
            // another attempt may have ended well meanwhile
            return links.take().map(Some).ok_or(fault);
        }
    }
}

fn connect_timeout(url: &str) -> Fault {
    Fault::new(Reason::ConnectTimeout, "the backend did not accept a connection in time").cause(url).retryable()
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
