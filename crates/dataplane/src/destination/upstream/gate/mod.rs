//! Admission to an upstream: how many calls it gets at once, over all workers, and what becomes of those beyond. Knows neither targets nor
//! what is sent.
//!
//! As long as there is room, a call costs one addition to a shared counter and one subtraction. Only where there is none it takes a lock:
//! one line for all workers is what makes turns fair among callers, whichever worker their connections are with. It is held for as long as
//! it takes to put a call into the line or take one out.

pub(crate) mod bound;
mod limiter;
pub(crate) mod line;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;

use daemun_config::model::{Adaptive, Importance};
use daemun_pipeline::{Exchange, Fault, Reason, Stop};
use tokio::sync::oneshot;

use super::local::LocalUpstream;
use super::pool::LocalTarget;
use super::upload::Upload;
use crate::clock::Clock;
use crate::http1::parse::BodyLength;
use crate::record::{Metrics, UpstreamCells};
use crate::serve::{Ask, Trail};
use bound::{CallAt, TargetBound};
use limiter::{Limiter, Outcome};
use line::{Caller, Line, Pushed, Ticket};

/// Bounds of one upstream, compiled. Times in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GateSettings {
    /// Calls in flight, streams included.
    pub(crate) requests: usize,
    /// The same for each target it has.
    pub(crate) per_target: usize,
    /// Calls that may wait.
    pub(crate) queue: usize,
    /// How long.
    pub(crate) timeout: u64,
    /// Whether the number of calls in flight but streams is learned.
    pub(crate) adaptive: Option<Adaptive>,
}

/// The gates of all upstreams, the same for all workers and over reloads; looked up when a configuration is adopted.
#[derive(Default)]
pub(crate) struct Gates {
    upstreams: Mutex<HashMap<Arc<str>, Weak<Gate>>>,
    /// By upstream and key.
    targets: Mutex<HashMap<(String, String), Weak<TargetBound>>>,
}

impl Gates {
    /// The gate of the upstream of this name.
    pub(crate) fn of(&self, name: &Arc<str>, clock: &Clock, metrics: &Metrics) -> Arc<Gate> {
        let mut known = lock(&self.upstreams);
        known.get(name).and_then(Weak::upgrade).unwrap_or_else(|| {
            known.retain(|_, gate| gate.strong_count() > 0);
            let gate = Arc::new(Gate::new(clock.clone(), metrics.upstream(name)));
            known.insert(Arc::clone(name), Arc::downgrade(&gate));
            gate
        })
    }

    /// The bounds of a target of this key on calls and connections, with these numbers from now on, unless a snapshot made later than
    /// `made` gave others.
    pub(crate) fn target(
        &self,
        upstream: &str,
        key: &str,
        (calls, connections): (usize, usize),
        made: u64,
    ) -> Arc<TargetBound> {
        let key = (upstream.to_owned(), key.to_owned());
        let mut known = lock(&self.targets);
        let bound = known.get(&key).and_then(Weak::upgrade).unwrap_or_else(|| {
            known.retain(|_, bound| bound.strong_count() > 0);
            let bound = Arc::<TargetBound>::default();
            known.insert(key, Arc::downgrade(&bound));
            bound
        });
        bound.configure(calls, connections, made);
        bound
    }

    /// The bounds of targets that an upstream no longer has, but for these, and that may still have calls.
    pub(crate) fn left(&self, upstream: &str, but: &[Rc<LocalTarget>]) -> Vec<Weak<TargetBound>> {
        let is_there = |bound: &Weak<TargetBound>| {
            let own = bound.as_ptr();
            but.iter().filter_map(|target| target.bound.as_ref()).any(|there| Arc::as_ptr(there) == own)
        };
        let known = lock(&self.targets);
        let own = known.iter().filter(|((name, _), bound)| name == upstream && bound.strong_count() > 0);
        own.map(|(_, bound)| bound).filter(|bound| !is_there(bound)).cloned().collect()
    }
}

/// The gate of one upstream, shared by all workers.
pub(crate) struct Gate {
    clock: Clock,
    cells: Arc<UpstreamCells>,
    line: Mutex<Line<oneshot::Sender<Grant>>>,
    limiter: Mutex<Option<Limiter>>,
    /// Which snapshot's settings it follows, and which change of targets.
    follows: Mutex<(u64, u64)>,
}

/// A place among the calls in flight, on its way to the call that gets it; given back when it is dropped.
struct Grant(Option<Arc<Gate>>);

impl Grant {
    /// Hands the place over to a permit.
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        if let Some(gate) = self.0.take() {
            gate.release(false);
        }
    }
}

/// Why a call does not even wait.
struct Full;

impl Gate {
    fn new(clock: Clock, cells: Arc<UpstreamCells>) -> Gate {
        Gate { clock, cells, line: Mutex::default(), limiter: Mutex::default(), follows: Mutex::default() }
    }

    /// Takes over settings, unless newer ones than those of this number hold, for so many targets that are called, and so many calls
    /// that are still at others. What waits goes on waiting, unless there is room now.
    fn configure(self: &Arc<Gate>, settings: &GateSettings, targets: usize, elsewhere: usize, of: (u64, u64)) {
        let mut follows = lock(&self.follows);
        if of < *follows {
            return;
        }
        *follows = of;
        let places = settings.per_target.saturating_mul(targets.max(1)).saturating_add(elsewhere);
        let requests = settings.requests.min(places);
        let mut limiter = lock(&self.limiter);
        let limit = match (&mut *limiter, &settings.adaptive) {
            (_, None) => {
                *limiter = None;
                requests
            }
            (Some(limiter), Some(Adaptive { min, max })) => {
                limiter.bound(*min, *max);
                limiter.limit()
            }
            (None, Some(Adaptive { min, max })) => limiter.insert(Limiter::new(*min, *max)).limit(),
        };
        drop(limiter);
        self.cells.requests.store(requests, SeqCst);
        self.cells.limit.store(limit, SeqCst);
        drop(follows);
        self.admit();
    }

    /// Takes a place if there is one and nobody waits for it.
    fn enter(&self) -> bool {
        self.cells.waiting.load(SeqCst) == 0 && self.take()
    }

    fn take(&self) -> bool {
        let cells = &self.cells;
        // streams are counted apart where only other calls tell how many there should be
        let room = cells.requests.load(Relaxed).saturating_sub(cells.streams.load(Relaxed));
        let most = room.min(cells.limit.load(Relaxed));
        cells.calls.fetch_update(SeqCst, SeqCst, |calls| (calls < most).then_some(calls + 1)).is_ok()
    }

    /// Gives a place back, and to whoever waits for it.
    fn release(self: &Arc<Gate>, stream: bool) {
        let of = if stream { &self.cells.streams } else { &self.cells.calls };
        of.fetch_sub(1, SeqCst);
        // whoever puts a call into the line looks for a place after that: one of both sees the other
        if self.cells.waiting.load(SeqCst) > 0 {
            self.admit();
        }
    }

    /// Gives the places there are to those that wait.
    fn admit(self: &Arc<Gate>) {
        let mut line = lock(&self.line);
        // a place that nobody took is given back only when the lock is
        let _left = self.admit_from(&mut line);
        drop(line);
    }

    fn admit_from(self: &Arc<Gate>, line: &mut Line<oneshot::Sender<Grant>>) -> Option<Grant> {
        if line.len() == 0 {
            return None;
        }
        let now = self.clock.now();
        let mut left = None;
        while line.len() > 0 {
            let grant = match left.take() {
                Some(grant) => grant,
                None if self.take() => Grant(Some(Arc::clone(self))),
                None => break,
            };
            left = match line.next(now) {
                Some(caller) => caller.send(grant).err(),
                None => Some(grant),
            };
            self.cells.waiting.store(line.len(), SeqCst);
        }
        left
    }

    /// Puts a call into the line.
    fn wait(
        self: &Arc<Gate>,
        importance: Importance,
        caller: Caller,
        (now, until): (u64, u64),
        most: usize,
    ) -> Result<(Ticket, oneshot::Receiver<Grant>), Full> {
        let (sender, receiver) = oneshot::channel();
        let mut line = lock(&self.line);
        let ticket = match line.push(importance, caller, now, until, most, sender) {
            // whose sender is dropped hears of it
            Pushed::Waits(ticket) | Pushed::Instead(ticket, _) => Some(ticket),
            Pushed::Refused(_) => None,
        };
        self.cells.waiting.store(line.len(), SeqCst);
        let left = self.admit_from(&mut line);
        drop(line);
        drop(left);
        ticket.map(|ticket| (ticket, receiver)).ok_or(Full)
    }

    fn leave(&self, ticket: &Ticket) {
        let mut line = lock(&self.line);
        line.leave(ticket);
        self.cells.waiting.store(line.len(), SeqCst);
    }

    /// Takes note of how calls ended, where that is learned from. Of those that several workers tell of at the same moment, some may be
    /// passed over.
    fn observe(self: &Arc<Gate>, ended: &[Ended]) {
        let Ok(mut limiter) = self.limiter.try_lock() else { return };
        let Some(learned) = limiter.as_mut() else { return };
        let mut changed = false;
        for call in ended {
            changed |= learned.observe(call.now, call.begun, call.in_flight, call.outcome);
        }
        if !changed {
            return;
        }
        self.cells.limit.store(learned.limit(), SeqCst);
        drop(limiter);
        if self.cells.waiting.load(SeqCst) > 0 {
            self.admit();
        }
    }
}

/// How a call ended that is learned from.
struct Ended {
    now: u64,
    begun: u64,
    in_flight: usize,
    outcome: Outcome,
}

/// Calls that a worker tells of at once: what is learned from is reached by all.
const AT_ONCE: usize = 8;
/// Fewer are told of when the first of them ended so long ago, nanoseconds.
const AT_LATEST: u64 = 5_000_000;

/// A gate as one worker sees it under one configuration.
pub(crate) struct LocalGate {
    gate: Arc<Gate>,
    settings: GateSettings,
    /// Calls that were not told of yet.
    ended: RefCell<Vec<Ended>>,
}

impl LocalGate {
    pub(crate) fn new(gate: Arc<Gate>, settings: &GateSettings) -> Rc<LocalGate> {
        let ended = RefCell::new(Vec::with_capacity(if settings.adaptive.is_some() { AT_ONCE } else { 0 }));
        Rc::new(LocalGate { gate, settings: settings.clone(), ended })
    }

    /// Takes note of how a call ended.
    fn observe(&self, now: u64, begun: u64, outcome: Outcome) {
        let mut ended = self.ended.borrow_mut();
        let in_flight = self.gate.cells.calls.load(Relaxed);
        ended.push(Ended { now, begun, in_flight, outcome });
        let first = ended.first().map_or(now, |first| first.now);
        if ended.len() >= AT_ONCE || now.saturating_sub(first) >= AT_LATEST {
            self.gate.observe(&ended);
            ended.clear();
        }
    }

    /// Goes on with so many targets that are called, and so many calls at others. `of`: number of the snapshot and of the last change of
    /// its targets; what is older than what the gate goes by does not count.
    pub(crate) fn follow(&self, targets: usize, elsewhere: usize, of: (u64, u64)) {
        self.gate.configure(&self.settings, targets, elsewhere, of);
    }
}

/// A call's place at an upstream; given back when it is dropped, whatever became of the call.
pub(crate) struct Permit {
    local: Rc<LocalGate>,
    /// Counted as a stream.
    stream: bool,
    /// Its place at the target, where those are bounded.
    call: Option<CallAt>,
}

impl Permit {
    /// The call goes on as a stream, for as long as it likes: it says no more of how much the upstream can work on. It keeps its place
    /// among those that are bounded by number.
    fn become_stream(&mut self) {
        if self.stream || self.local.settings.adaptive.is_none() {
            return;
        }
        self.stream = true;
        self.local.gate.cells.streams.fetch_add(1, SeqCst);
        self.local.gate.release(false);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // whoever gets the place next must find one at the target as well
        self.call = None;
        self.local.gate.release(self.stream);
    }
}

/// Lets a call in, at once or when it is its turn; a fault when it is refused. Whether it waited. To be called before anything is done for the call.
#[inline]
pub(crate) async fn enter(
    ask: &mut Ask<'_, '_>,
    exchange: &Exchange,
    upstream: &LocalUpstream,
    upload: &mut Upload,
    trail: &mut Trail,
) -> Result<bool, Fault> {
    let Some(local) = &upstream.gate else { return Ok(false) };
    // a target that is called again since the last call went makes room
    let again = || upstream.renew(ask.worker.clock.now()) && local.gate.enter();
    let waits = !(local.gate.enter() || again());
    if waits {
        if let Some(fault) = upstream.closed(ask.worker.clock.now()) {
            return Err(fault);
        }
        // boxed, so that calls that need not wait do not carry the size of this
        Box::pin(wait(ask, exchange, &upstream.shared.name, local, upload)).await?;
    }
    trail.permit = Some(Permit { local: Rc::clone(local), stream: false, call: None });
    Ok(waits)
}

/// A place for a call that is made beside another, if there is one at once: such a call does not wait. `Some(None)` where nothing is
/// bounded.
#[allow(clippy::option_option, reason = "outer: it may be made; inner: it is counted")]
pub(crate) fn beside(upstream: &LocalUpstream, target: &LocalTarget) -> Option<Option<Permit>> {
    let Some(local) = &upstream.gate else { return Some(None) };
    let mut permit = local.gate.enter().then(|| Permit { local: Rc::clone(local), stream: false, call: None })?;
    if let Some(bound) = &target.bound {
        permit.call = Some(bound.call()?);
    }
    Some(Some(permit))
}

/// Takes note of how a call ended, or that it goes on as a stream. A place is given back unless it does.
#[inline]
pub(crate) fn called<T>(result: &Result<Option<T>, Stop>, ask: &Ask<'_, '_>, exchange: &Exchange, trail: &mut Trail) {
    let Some(permit) = &mut trail.permit else { return };
    if permit.local.settings.adaptive.is_some() {
        let fault = match result {
            Err(Stop::Fault(fault)) => Some(fault.reason),
            Ok(_) | Err(Stop::Answer(_)) => None,
        };
        let now = if fault.is_some() { ask.worker.clock.now() } else { exchange.times.answered };
        let begun = exchange.times.called();
        // of one with a body it is not known since when the upstream had all of it
        let bodiless = matches!(ask.framing, BodyLength::None | BodyLength::Length(0));
        let waited = if bodiless { now.saturating_sub(begun) } else { 0 };
        if let Some(outcome) = outcome(trail.upstream_status, trail.answered_in, fault, waited) {
            permit.local.observe(now, begun, outcome);
        }
    }
    match result {
        Ok(Some(_)) => permit.become_stream(),
        Ok(None) | Err(_) => trail.permit = None,
    }
}

/// What a call tells of its upstream's load; nothing when it ended for another reason.
fn outcome(status: u16, answered_in: u64, fault: Option<Reason>, waited: u64) -> Option<Outcome> {
    match status {
        429 | 503 => Some(Outcome::Refused),
        1.. => (answered_in > 0).then_some(Outcome::Answered(answered_in)),
        0 => {
            let late = matches!(fault, Some(Reason::UpstreamTimeout | Reason::ConnectTimeout | Reason::ClientGone));
            (late && waited > 0).then_some(Outcome::Unanswered(waited))
        }
    }
}

/// Begins a call to a target, if it has room.
pub(crate) fn call_at(target: &LocalTarget, trail: &mut Trail) -> bool {
    let (Some(bound), Some(permit)) = (&target.bound, &mut trail.permit) else { return true };
    // that of an attempt before is over
    permit.call = None;
    permit.call = bound.call();
    permit.call.is_some()
}

/// The attempt is over; another may not come soon, nor to the same target.
pub(crate) fn leave_target(trail: &mut Trail) {
    if let Some(permit) = &mut trail.permit {
        permit.call = None;
    }
}

/// Every target that is left has as many calls as it may.
pub(crate) fn all_full(upstream: &LocalUpstream) -> Fault {
    // calls at targets that are no longer called may have ended, whose places are nobody's
    upstream.recount();
    overloaded(&upstream.shared.name, "no target has room")
}

fn overloaded(name: &str, why: &str) -> Fault {
    let fault = Fault::new(Reason::Overloaded, "the service has too many calls at the moment");
    fault.cause(format!("upstream `{name}`: {why}")).field("retry-after", "1")
}

async fn wait(
    ask: &mut Ask<'_, '_>,
    exchange: &Exchange,
    name: &str,
    local: &LocalGate,
    upload: &mut Upload,
) -> Result<(), Fault> {
    let importance = importance(ask, exchange);
    let worker = ask.worker;
    let now = worker.clock.now();
    let until = now.saturating_add(local.settings.timeout);
    let gate = &local.gate;
    let shed = |why: &str| {
        gate.cells.count_shed(importance);
        overloaded(name, why)
    };
    let Ok((ticket, mut receiver)) = gate.wait(importance, caller(exchange), (now, until), local.settings.queue) else {
        return Err(shed("no place is left in the queue"));
    };
    let mut place = InLine { gate, ticket: Some(ticket) };
    ask.deadline.set(until);
    let (down, deadline) = (&mut *ask.down, ask.deadline);
    let result = poll_fn(|cx| {
        match Pin::new(&mut receiver).poll(cx) {
            // the place is the caller's permit from here on
            Poll::Ready(Ok(grant)) => {
                grant.keep();
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(Err(_)) if worker.clock.now() >= until => return Poll::Ready(Err(shed("it waited too long"))),
            Poll::Ready(Err(_)) => return Poll::Ready(Err(shed("another call took its place in the queue"))),
            Poll::Pending => {}
        }
        // as long as its body is not here, only reading it tells whether a client is still there
        if let Poll::Ready(Err(fault)) = upload.poll_fill(cx, down, &worker.buffers) {
            return Poll::Ready(Err(fault));
        }
        if down.poll_gone(cx, &worker.buffers).is_ready() {
            return Poll::Ready(Err(Fault::new(Reason::ClientGone, "the client left while its call waited")));
        }
        deadline.poll_until(cx, until).map(|()| Err(shed("it waited too long")))
    })
    .await;
    if result.is_ok() {
        // whoever got a place is out of the line
        place.ticket = None;
    }
    result
}

/// A call in the line; it leaves when this is dropped.
struct InLine<'a> {
    gate: &'a Arc<Gate>,
    ticket: Option<Ticket>,
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = &self.ticket {
            self.gate.leave(ticket);
        }
    }
}

/// How important a call is: what its consumer is worth wins over what its route is.
fn importance(ask: &Ask<'_, '_>, exchange: &Exchange) -> Importance {
    let consumer = exchange.consumer.and_then(|id| ask.local.snapshot.importance.get(id.0 as usize).copied().flatten());
    consumer.unwrap_or(ask.route.own.importance)
}

/// With whom a call shares its turns: its consumer's calls, or those of its address; of IPv6, a network of 64 bits is one caller.
fn caller(exchange: &Exchange) -> Caller {
    match exchange.consumer_name() {
        Some(name) => Caller::Consumer(Arc::from(name)),
        None => Caller::Address(match exchange.client.ip.to_canonical() {
            std::net::IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
            std::net::IpAddr::V6(ip) => ip.to_bits() >> 64 << 64,
        }),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
