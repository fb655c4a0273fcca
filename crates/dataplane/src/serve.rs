//! One exchange, the whole way on one screen: route, policies inward, destination, stop to response, policies outward, record.

use std::future::poll_fn;
use std::rc::Rc;

use bytes::Bytes;
use daemun_pipeline::{Exchange, Fault, FieldId, Head, Method, Reason, Span, Stop};

use crate::destination;
use crate::destination::upstream::gate::Permit;
use crate::destination::upstream::reach::Site;
use crate::destination::upstream::rest::Rest;
use crate::http1::parse::BodyLength;
use crate::peer::Down;
use crate::pipe::Pipe;
use crate::record::Fallback;
use crate::respond;
use crate::route::{self, Miss};
use crate::snapshot::{Ledger, Route, Settings, Snapshot};
use crate::timers::Deadline;
use crate::whole::Reader;
use crate::worker::{Local, Worker};

/// What came with the head, beside what policies see.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived {
    pub(crate) framing: BodyLength,
    pub(crate) upgrade: Option<Span>,
}

/// What a destination is given.
pub(crate) struct Ask<'a, 'd> {
    pub(crate) worker: &'a Rc<Worker>,
    pub(crate) local: &'a Rc<Local>,
    pub(crate) route: &'a Route,
    pub(crate) deadline: &'a Deadline,
    pub(crate) down: &'a mut Down<'d>,
    pub(crate) framing: BodyLength,
    pub(crate) upgrade: Option<Span>,
    /// Fields behind a body that was read whole.
    pub(crate) trailers: Option<Box<Head>>,
}

/// What happened on the way, for the record; reused.
#[derive(Default)]
pub(crate) struct Trail {
    pub(crate) verdicts: crate::chain::Verdicts,
    /// The target that was called last.
    pub(crate) target: Option<Rc<destination::upstream::pool::LocalTarget>>,
    /// The upstream that would have been called, where none of its targets was.
    pub(crate) uncalled: Option<Box<str>>,
    /// What stands in for the call that failed.
    pub(crate) fallback: Option<Fallback>,
    /// A second call was made beside one that took long.
    pub(crate) hedged: bool,
    /// The attempt, while it lasts longer than its destination.
    pub(crate) picked: Option<destination::upstream::picked::Picked>,
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
        self.uncalled = None;
        self.fallback = None;
        self.hedged = false;
        self.picked = None;
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
    worker: &Rc<Worker>,
    deadline: &Deadline,
    down: &mut Down<'_>,
    exchange: &mut Exchange,
    arrived: Arrived,
    trail: &mut Trail,
) {
    let local = worker.local(); // pinned: one configuration per exchange
    let snapshot = &local.snapshot;
    worker.identify(exchange, snapshot);
    let mut trailers = None;
    let found = match route::find(snapshot, exchange) {
        Ok(route) => Ok(route),
        Err(Miss::Fault(fault)) => Err(fault),
        Err(Miss::Body(most)) => {
            let mut reader = Reader::before_route(worker, &snapshot.settings, deadline, down, arrived.framing);
            // boxed, so that calls whose routes depend on no body do not carry the size of this
            let found = Box::pin(find_with_body(snapshot, exchange, &mut reader, most, arrived.upgrade)).await;
            trailers = reader.trailers;
            found
        }
    };
    let (route, outcome) = match found {
        Ok(route) => {
            let mut ask = Ask {
                worker,
                local: &local,
                route,
                deadline,
                down,
                framing: arrived.framing,
                upgrade: arrived.upgrade,
                trailers: None,
            };
            ask.hold(exchange, trailers, trail);
            (Some(route), inward_and_on(&mut ask, exchange, trail).await)
        }
        Err(fault) => {
            (None, snapshot.unmatched.inward(exchange, &mut trail.verdicts, None).await.and(Err(fault.into())))
        }
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
            answer_stop(worker, &local, deadline, down, exchange, route, &stop, trail).await;
            if let Stop::Fault(fault) = stop { Some(fault) } else { None }
        }
    };
    exchange.times.end = worker.clock.now();
    worker.record(route.map(Route::entry), exchange, fault.as_ref(), down.started(), trail);
}

/// Reads the body that the route depends on, and finds the route.
async fn find_with_body<'s>(
    snapshot: &'s Snapshot,
    exchange: &mut Exchange,
    reader: &mut Reader<'_, '_>,
    most: u64,
    upgrade: Option<Span>,
) -> Result<&'s Route, Fault> {
    if upgrade.is_some() {
        // what follows its head is no body
        exchange.request.body = Some(Vec::new());
    } else {
        reader.read(exchange, most).await?;
    }
    let found = route::find(snapshot, exchange);
    if upgrade.is_some() {
        exchange.request.body = None;
    }
    match found {
        Ok(route) => Ok(route),
        Err(Miss::Fault(fault)) => Err(fault),
        Err(Miss::Body(_)) => Err(Fault::new(Reason::Internal, "the body is not there")),
    }
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
    trail.picked = None;
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
    let chain = &ask.route.chain;
    if chain.bodies.request && ask.framing == BodyLength::None {
        // all of it is here
        exchange.request.body.get_or_insert_default();
        let verdict = chain.inward(exchange, &mut trail.verdicts, None).await;
        // a policy may have given it one
        ask.hold(exchange, None, trail);
        verdict?;
    } else if chain.bodies.request {
        let mut reader = Reader::new(ask);
        let verdict = chain.inward(exchange, &mut trail.verdicts, Some(&mut reader)).await;
        let trailers = reader.trailers.take().or_else(|| ask.trailers.take());
        ask.hold(exchange, trailers, trail);
        verdict?;
    } else {
        chain.inward(exchange, &mut trail.verdicts, None).await?;
    }
    if exchange.delay > 0 {
        Box::pin(ask.pause(std::mem::take(&mut exchange.delay))).await?;
    }
    destination::send(ask, exchange, trail).await
}

impl<'a> Ask<'a, '_> {
    /// What is sent on of a body that was read whole: it, framed anew.
    fn hold(&mut self, exchange: &Exchange, trailers: Option<Box<Head>>, trail: &mut Trail) {
        let Some(body) = &exchange.request.body else { return };
        trail.bytes_in = body.len() as u64;
        self.framing = match self.framing {
            _ if trailers.is_some() => BodyLength::Chunked,
            BodyLength::None if body.is_empty() => BodyLength::None,
            BodyLength::None | BodyLength::Length(_) | BodyLength::Chunked | BodyLength::UntilClose => {
                BodyLength::Length(body.len() as u64)
            }
        };
        self.trailers = trailers;
    }

    /// Where attempts are made from.
    pub(crate) fn site(&self) -> Site<'a> {
        Site { worker: self.worker, local: self.local, route: self.route, deadline: self.deadline }
    }

    /// Waits so many nanoseconds, or until the client leaves.
    pub(crate) async fn pause(&mut self, nanos: u64) -> Result<(), Fault> {
        let slot = self.worker.timers.slot();
        slot.set(self.worker.clock.now().saturating_add(nanos));
        let left = slot.limit(poll_fn(|cx| self.down.poll_gone(cx, &self.worker.buffers))).await;
        left.map_or(Ok(()), |()| Err(Fault::new(Reason::ClientGone, "the client left before the call was made")))
    }
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
    route: Option<&Route>,
    stop: &Stop,
    trail: &mut Trail,
) {
    let snapshot = &local.snapshot;
    let chain = route.map_or(&snapshot.unmatched, |route| &route.chain);
    let errors = route.map_or(&snapshot.settings.errors, |route| route.errors(&snapshot.settings));
    let gone = matches!(stop, Stop::Fault(fault) if fault.reason.status() == 499);
    if down.started() || gone {
        down.doom();
        return;
    }
    if matches!(stop, Stop::Fault(fault) if matches!(fault.reason, Reason::BadRequest | Reason::ClientTimeout)) {
        down.doom();
    }
    let mut body = respond::from_stop(stop, exchange, errors);
    if chain.bodies.of_answers() {
        body = outward_with_body(chain, errors, exchange, body, trail);
    } else {
        // ends, since each time fewer policies are left
        while let Err(stop) = chain.outward(exchange, &mut trail.verdicts) {
            body = respond::from_stop(&stop, exchange, errors);
        }
    }
    answer(worker, local, deadline, down, exchange, &body, trail).await;
}

/// Runs the policies outward over an answer of the gateway's own, which they may change whole; gives the body that is sent.
fn outward_with_body(
    chain: &crate::chain::Chain,
    errors: &respond::ErrorBodies,
    exchange: &mut Exchange,
    mut body: Bytes,
    trail: &mut Trail,
) -> Bytes {
    let ran = trail.verdicts.ran();
    loop {
        exchange.response.body = Some(body.to_vec());
        let Err(stop) = chain.outward(exchange, &mut trail.verdicts) else { break };
        body = respond::from_stop(&stop, exchange, errors);
    }
    let body = exchange.response.body.take().unwrap_or_default();
    let coders = if body.is_empty() { None } else { chain.coders(exchange, &trail.verdicts, ran) };
    match coders.map(|coders| coders.whole(&body)) {
        None => body.into(),
        Some(Ok(coded)) => coded.into(),
        // its head says that it is coded
        Some(Err(fault)) => respond::from_stop(&Stop::Fault(fault), exchange, errors),
    }
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
    prepare(worker, down, exchange);
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

/// Makes ready for an answer of the gateway's own whose head stands in the exchange.
pub(crate) fn prepare(worker: &Worker, down: &mut Down<'_>, exchange: &mut Exchange) {
    stamp(exchange);
    worker.push_date(exchange);
    down.settle_body();
    if worker.draining.get() {
        down.doom();
    }
}

/// Puts the request id into the answer, unless a policy hides it; an upstream's own is taken out.
pub(crate) fn stamp(exchange: &mut Exchange) {
    let head = &mut exchange.response.head;
    for field in &mut head.fields {
        if field.id == FieldId::XRequestId {
            field.removed = true;
        }
    }
    if exchange.hides_id {
        return;
    }
    let name = head.store(b"x-request-id");
    let value = head.store(&exchange.id);
    head.fields.push(daemun_pipeline::head::Field { name, value, id: FieldId::XRequestId, removed: false });
}
