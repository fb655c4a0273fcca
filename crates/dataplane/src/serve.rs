//! One exchange, the whole way on one screen: route, policies inward, destination, stop to response, policies outward, record.

use std::future::poll_fn;
use std::rc::Rc;

use daemun_pipeline::{Exchange, Fault, FieldId, Method, Reason, Span, Stop};

use crate::destination;
use crate::destination::upstream::gate::Permit;
use crate::destination::upstream::rest::Rest;
use crate::http1::parse::BodyLength;
use crate::peer::Down;
use crate::pipe::Pipe;
use crate::respond;
use crate::route;
use crate::snapshot::{Ledger, Route, Settings};
use crate::timers::Deadline;
use crate::worker::{Local, Worker};

/// What came with the head, beside what policies see.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived {
    pub(crate) framing: BodyLength,
    pub(crate) upgrade: Option<Span>,
}

/// What a destination is given.
pub(crate) struct Ask<'a, 'd> {
    pub(crate) worker: &'a Worker,
    pub(crate) local: &'a Local,
    pub(crate) route: &'a Route,
    pub(crate) deadline: &'a Deadline,
    pub(crate) down: &'a mut Down<'d>,
    pub(crate) framing: BodyLength,
    pub(crate) upgrade: Option<Span>,
}

/// What happened on the way, for the record; reused.
#[derive(Default)]
pub(crate) struct Trail {
    pub(crate) verdicts: crate::chain::Verdicts,
    /// The target that was called last.
    pub(crate) target: Option<Rc<destination::upstream::pool::LocalTarget>>,
    /// Status it sent; 0 when no head came.
    pub(crate) upstream_status: u16,
    pub(crate) attempts: u8,
    pub(crate) reused: bool,
    /// The next attempt must not take a connection at rest.
    pub(crate) fresh: bool,
    pub(crate) upgraded: bool,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    /// Its place at the upstream.
    pub(crate) permit: Option<Permit>,
    /// How long the answer took to begin once the whole call was sent, nanoseconds; 0 when that is not known.
    pub(crate) answered_in: u64,
}

impl Trail {
    pub(crate) fn clear(&mut self) {
        self.verdicts.clear();
        self.target = None;
        self.upstream_status = 0;
        self.attempts = 0;
        self.reused = false;
        self.fresh = false;
        self.upgraded = false;
        self.bytes_in = 0;
        self.bytes_out = 0;
        self.permit = None;
        self.answered_in = 0;
    }
}

/// Serves one exchange whose head is complete. Never dropped half-way: a client that leaves is a fault like any other.
pub(crate) async fn serve(
    worker: &Worker,
    deadline: &Deadline,
    down: &mut Down<'_>,
    exchange: &mut Exchange,
    arrived: Arrived,
    trail: &mut Trail,
) {
    let local = worker.local(); // pinned: one configuration per exchange
    let snapshot = &local.snapshot;
    worker.identify(exchange, snapshot);
    let (route, outcome) = match route::find(snapshot, exchange) {
        Ok(route) => {
            let mut ask = Ask {
                worker,
                local: &local,
                route,
                deadline,
                down,
                framing: arrived.framing,
                upgrade: arrived.upgrade,
            };
            (Some(route), inward_and_on(&mut ask, exchange, trail).await)
        }
        Err(fault) => (None, snapshot.unmatched.inward(exchange, &mut trail.verdicts).await.and(Err(fault.into()))),
    };
    let fault = match outcome {
        Ok(None) => None,
        Ok(Some(rest)) => {
            let ledger = route.map(Route::ledger);
            drop(local); // it may be replaced long before this ends
            exchange.forget_others();
            return go_on(worker, deadline, down, exchange, ledger, rest, trail).await;
        }
        Err(stop) => {
            let chain = route.map_or(&snapshot.unmatched, |route| &route.chain);
            answer_stop(worker, &local, deadline, down, exchange, chain, &stop, trail).await;
            if let Stop::Fault(fault) = stop { Some(fault) } else { None }
        }
    };
    exchange.times.end = worker.clock.now();
    worker.record(route.map(Route::entry), exchange, fault.as_ref(), down.started(), trail);
}

/// Ends an exchange that may last, without the configuration it began under.
async fn go_on(
    worker: &Worker,
    deadline: &Deadline,
    down: &mut Down<'_>,
    exchange: &mut Exchange,
    ledger: Option<Ledger>,
    rest: Box<Rest>,
    trail: &mut Trail,
) {
    let fault = rest.pass(worker, deadline, down, exchange, trail).await.err();
    trail.permit = None;
    if fault.is_some() {
        down.doom();
    }
    exchange.times.end = worker.clock.now();
    let entry = ledger.as_ref().map(|(cells, name)| (&**cells, &**name));
    worker.record(entry, exchange, fault.as_ref(), down.started(), trail);
}

async fn inward_and_on(
    ask: &mut Ask<'_, '_>,
    exchange: &mut Exchange,
    trail: &mut Trail,
) -> Result<Option<Box<Rest>>, Stop> {
    check_length(ask.route, &ask.local.snapshot.settings, exchange, ask.framing)?;
    ask.route.chain.inward(exchange, &mut trail.verdicts).await?;
    destination::send(ask, exchange, trail).await
}

/// A body that says it is too large is refused before anything is done for it.
pub(crate) fn check_length(
    route: &Route,
    settings: &Settings,
    exchange: &Exchange,
    framing: BodyLength,
) -> Result<(), Fault> {
    let limit = route.own.body.unwrap_or(settings.body);
    match framing {
        BodyLength::Length(n) if n > limit && !exchange.request.grpc => {
            Err(Fault::new(Reason::BodyTooLarge, format!("the request body is larger than {limit} bytes")))
        }
        BodyLength::Length(_) | BodyLength::None | BodyLength::Chunked | BodyLength::UntilClose => Ok(()),
    }
}

/// Turns a stop into the answer, where one can still be given.
#[allow(clippy::too_many_arguments, reason = "the parts of one exchange, passed on once")]
async fn answer_stop(
    worker: &Worker,
    local: &Local,
    deadline: &Deadline,
    down: &mut Down<'_>,
    exchange: &mut Exchange,
    chain: &crate::chain::Chain,
    stop: &Stop,
    trail: &mut Trail,
) {
    let gone = matches!(stop, Stop::Fault(fault) if fault.reason.status() == 499);
    if down.started() || gone {
        down.doom();
        return;
    }
    if matches!(stop, Stop::Fault(fault) if matches!(fault.reason, Reason::BadRequest | Reason::ClientTimeout)) {
        down.doom();
    }
    let mut body = respond::from_stop(stop, exchange, &local.snapshot.settings.errors);
    // ends, since each time fewer policies are left
    while let Err(stop) = chain.outward(exchange, &mut trail.verdicts) {
        body = respond::from_stop(&stop, exchange, &local.snapshot.settings.errors);
    }
    answer(worker, local, deadline, down, exchange, &body, trail).await;
}

/// Sends an answer of the gateway's own whose head stands in the exchange.
pub(crate) async fn answer(
    worker: &Worker,
    local: &Local,
    deadline: &Deadline,
    down: &mut Down<'_>,
    exchange: &mut Exchange,
    body: &[u8],
    trail: &mut Trail,
) {
    stamp(exchange);
    worker.push_date(exchange);
    down.settle_body();
    if worker.draining.get() {
        down.doom();
    }
    down.start(exchange, BodyLength::Length(body.len() as u64));
    let mut pipe = Pipe::of(body);
    if exchange.request.method == Method::Head {
        pipe = Pipe::of(&[]);
    }
    trail.bytes_out = pipe.total;
    deadline.set(worker.clock.now().saturating_add(local.snapshot.settings.write_idle));
    let written = deadline.limit(poll_fn(|cx| down.poll_drain(cx, &mut pipe))).await;
    if !matches!(written, Some(Ok(()))) {
        down.doom();
    }
}

/// Puts the request id into the answer; an upstream's own is replaced.
pub(crate) fn stamp(exchange: &mut Exchange) {
    let head = &mut exchange.response.head;
    for field in &mut head.fields {
        if field.id == FieldId::XRequestId {
            field.removed = true;
        }
    }
    let name = head.store(b"x-request-id");
    let value = head.store(&exchange.id);
    head.fields.push(daemun_pipeline::head::Field { name, value, id: FieldId::XRequestId, removed: false });
}
