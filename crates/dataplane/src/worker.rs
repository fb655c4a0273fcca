//! One thread, one current-thread runtime: its listeners, its pools, its timers, its view of the snapshot. Shares nothing with other
//! workers but the snapshot and counts of connections.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use daemun_pipeline::exchange::is_request_id;
use daemun_pipeline::{Client, Exchange, Fault, FieldId, Reason, Request};
use tokio::sync::{mpsc, oneshot};

use crate::clock::Clock;
use crate::destination::upstream::budget::Budget;
use crate::destination::upstream::gate::{Gates, LocalGate};
use crate::destination::upstream::local::LocalUpstream;
use crate::destination::upstream::place;
use crate::destination::upstream::pool::Pools;
use crate::http2::tasks::Tasks;
use crate::ids::{IdSource, Ids};
use crate::listener::{self, Sockets};
use crate::pipe::Buffers;
use crate::record::{AccessLog, Called, Finished, Recent, Recorder, RouteCells};
use crate::serve::Trail;
use crate::snapshot::{Route, Snapshot};
use crate::timers::Timers;

/// How often resting upstream connections are looked through.
const SWEEP: u64 = 5_000_000_000;
/// Exchanges a worker keeps for the next request.
const SPARE_EXCHANGES: usize = 256;
/// A spare exchange keeps its buffers up to this size.
const SPARE_HEAD: usize = 32 * 1024;

/// What every worker shares.
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    pub(crate) ids: IdSource,
    /// Open client connections of all workers.
    pub(crate) connections: AtomicUsize,
    /// Connections to upstreams of all workers.
    pub(crate) budget: Arc<Budget>,
    /// Admission to upstreams.
    pub(crate) gates: Arc<Gates>,
}

/// What a worker is told from outside; the only crossing of threads but for [`Budget`].
pub(crate) enum Message {
    Publish {
        snapshot: Arc<Snapshot>,
        sockets: Vec<Sockets>,
        done: oneshot::Sender<()>,
    },
    StopAccepting {
        empty_queue: bool,
        done: oneshot::Sender<()>,
    },
    Drain {
        until: u64,
        done: oneshot::Sender<usize>,
    },
    #[cfg(debug_assertions)]
    Break,
    Latest {
        most: usize,
        done: oneshot::Sender<Vec<Recent>>,
    },
    Find {
        id: Vec<u8>,
        done: oneshot::Sender<Option<Recent>>,
    },
    UseLog {
        log: Option<AccessLog>,
        done: oneshot::Sender<()>,
    },
    FlushLog {
        done: oneshot::Sender<()>,
    },
}

/// One configuration as one worker runs it.
pub(crate) struct Local {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) upstreams: Vec<LocalUpstream>,
}

/// A worker.
pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) clock: Clock,
    pub(crate) timers: Rc<Timers>,
    pub(crate) buffers: Rc<Buffers>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) recorder: Rc<Recorder>,
    pub(crate) draining: Cell<bool>,
    /// Client connections of this worker.
    pub(crate) open: Cell<usize>,
    /// Counts how often the kernel was asked what has come.
    turns: Cell<u64>,
    local: RefCell<Rc<Local>>,
    /// Its connections to targets.
    pub(crate) pools: Rc<Pools>,
    #[allow(clippy::vec_box, reason = "moved in and out as pointers; a busy state is some kilobytes")]
    exchanges: RefCell<Vec<Box<Busy>>>,
    /// Calls in flight that are sent elsewhere as well.
    pub(crate) mirrors: Cell<usize>,
    /// Bytes of their bodies.
    pub(crate) mirrored_bytes: Cell<usize>,
    /// Tasks that serve streams of HTTP/2.
    pub(crate) stream_tasks: Tasks,
    ids: RefCell<Ids>,
    date: RefCell<(u64, Vec<u8>)>,
    sweeper: tokio::sync::Notify,
    pub(crate) closed: tokio::sync::Notify,
    /// Something without which the worker cannot go on has panicked.
    broken: tokio::sync::Notify,
}

/// Held by a task without which its worker cannot go on: when it panics, the worker ends.
pub(crate) struct Vital(Rc<Worker>);

impl Vital {
    pub(crate) fn new(worker: &Rc<Worker>) -> Vital {
        Vital(Rc::clone(worker))
    }
}

impl Drop for Vital {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.broken.notify_one();
        }
    }
}

/// What a busy connection needs and an idle one does not.
#[derive(Default)]
pub(crate) struct Busy {
    pub(crate) exchange: Exchange,
    pub(crate) trail: Trail,
}

/// A busy state while exchanges are served in it: one that panics is recorded all the same.
pub(crate) struct Watched<'a> {
    worker: &'a Worker,
    pub(crate) busy: &'a mut Busy,
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // a second panic would end the process
            let record = std::panic::AssertUnwindSafe(|| self.worker.record_panic(self.busy));
            let _ = std::panic::catch_unwind(record);
        }
    }
}

impl Worker {
    pub(crate) fn new(
        index: usize,
        shared: Arc<Shared>,
        recorder: Rc<Recorder>,
        snapshot: Arc<Snapshot>,
    ) -> Rc<Worker> {
        let clock = shared.clock.clone();
        let ids = shared.ids.worker(index);
        let empty = Rc::new(Local { snapshot: Arc::clone(&snapshot), upstreams: Vec::new() });
        let worker = Rc::new(Worker {
            index,
            timers: Timers::new(clock.clone()),
            clock,
            buffers: Rc::default(),
            shared,
            recorder,
            draining: Cell::new(false),
            open: Cell::new(0),
            turns: Cell::new(0),
            local: RefCell::new(empty),
            pools: Rc::default(),
            exchanges: RefCell::default(),
            mirrors: Cell::new(0),
            mirrored_bytes: Cell::new(0),
            stream_tasks: Tasks::default(),
            ids: RefCell::new(ids),
            date: RefCell::default(),
            sweeper: tokio::sync::Notify::new(),
            closed: tokio::sync::Notify::new(),
            broken: tokio::sync::Notify::new(),
        });
        worker.adopt(snapshot);
        worker
    }

    /// The configuration this moment's exchanges run under.
    pub(crate) fn local(&self) -> Rc<Local> {
        Rc::clone(&self.local.borrow())
    }

    /// Runs under another snapshot from now on; connections to targets that stay are kept.
    pub(crate) fn adopt(&self, snapshot: Arc<Snapshot>) {
        let now = self.clock.now();
        let upstreams = snapshot.upstreams.iter().map(|upstream| {
            let name = Arc::from(upstream.name.as_str());
            let share = self.shared.budget.share(&name);
            let gates = &self.shared.gates;
            let cells = self.recorder.metrics().upstream(&name);
            cells.bounded.store(upstream.gate.is_some(), Ordering::Relaxed);
            let gate = upstream
                .gate
                .as_ref()
                .map(|settings| LocalGate::new(gates.of(&name, &self.clock, self.recorder.metrics()), settings));
            let (upstream, pools) = (Arc::clone(upstream), Rc::clone(&self.pools));
            LocalUpstream::new(upstream, pools, share, gate, Arc::clone(gates), cells, self.index, now)
        });
        let upstreams = upstreams.collect();
        let before = self.local.replace(Rc::new(Local { snapshot, upstreams }));
        drop(before);
        self.pools.forget_unused();
    }

    /// Tells apart the times between which the kernel was asked what has come.
    pub(crate) fn turn(&self) -> u64 {
        self.turns.get()
    }

    /// State for a busy connection.
    pub(crate) fn busy(&self) -> Box<Busy> {
        self.exchanges.borrow_mut().pop().unwrap_or_default()
    }

    /// A request as its policies left it, to be sent once more beside the exchange.
    pub(crate) fn copy(&self, exchange: &Exchange) -> Box<Busy> {
        let mut busy = self.busy();
        let copy = &mut busy.exchange;
        copy.request = Request { body: None, ..exchange.request.clone() };
        copy.client = exchange.client.clone();
        copy.consumer = exchange.consumer;
        copy.identity.clone_from(&exchange.identity);
        copy.consumer_text = exchange.consumer_text;
        copy.credentials.clone_from(&exchange.credentials);
        copy.directory = exchange.directory.clone();
        copy.params.clone_from(&exchange.params);
        copy.id.clone_from(&exchange.id);
        copy.trace.clone_from(&exchange.trace);
        copy.route_key = exchange.route_key;
        copy.elsewhere.clone_from(&exchange.elsewhere);
        copy.times = exchange.times;
        copy.wall = exchange.wall;
        busy
    }

    /// Takes the state of a connection that is idle again.
    pub(crate) fn idle(&self, mut busy: Box<Busy>) {
        let large =
            busy.exchange.request.head.buf.capacity().max(busy.exchange.response.head.buf.capacity()) > SPARE_HEAD;
        let mut spare = self.exchanges.borrow_mut();
        if !large && spare.len() < SPARE_EXCHANGES {
            busy.exchange.reset();
            busy.exchange.client = Client::default();
            busy.exchange.directory = None;
            busy.trail.clear();
            spare.push(busy);
        }
    }

    /// Gives a request its id, its trace, the caller's address and the directory.
    pub(crate) fn identify(&self, exchange: &mut Exchange, snapshot: &Snapshot) {
        identify(&mut self.ids.borrow_mut(), exchange, snapshot);
    }

    /// Adds `Date` to an answer of the gateway's own; formatted once a second.
    pub(crate) fn push_date(&self, exchange: &mut Exchange) {
        let second = self.clock.wall(exchange.times.start) / 1_000_000_000;
        let mut date = self.date.borrow_mut();
        if date.0 != second {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(second);
            *date = (second, httpdate::fmt_http_date(time).into_bytes());
        }
        exchange.response.head.append("date", &date.1);
    }

    /// Writes the one record of an exchange.
    pub(crate) fn record(
        &self,
        route: Option<(&RouteCells, &str)>,
        exchange: &Exchange,
        fault: Option<&Fault>,
        started: bool,
        trail: &Trail,
    ) {
        let status = match fault {
            Some(fault) if !started => fault.status(),
            Some(_) | None => exchange.response.status,
        };
        self.recorder.finish(&Finished {
            exchange,
            route,
            target: trail.target.as_ref().map(|target| Called {
                metrics: &target.shared.cells,
                upstream: &target.upstream,
                url: &target.shared.url,
                status: trail.upstream_status,
            }),
            uncalled: trail.uncalled.as_deref(),
            status,
            fault,
            bytes_in: trail.bytes_in,
            bytes_out: trail.bytes_out,
            verdicts: &trail.verdicts.made,
            attempts: trail.attempts,
            reused: trail.reused,
            hedged: trail.hedged,
            fallback: trail.fallback,
            upgraded: trail.upgraded,
        });
    }

    /// Watches over the exchanges that are served in `busy`.
    pub(crate) fn watch<'a>(&'a self, busy: &'a mut Busy) -> Watched<'a> {
        Watched { worker: self, busy }
    }

    /// Writes the record of an exchange that something panicked in; none where it has one, or none had begun.
    fn record_panic(&self, busy: &mut Busy) {
        let Busy { exchange, trail } = busy;
        if exchange.times.start == 0 || exchange.times.end != 0 {
            return;
        }
        exchange.times.end = self.clock.now();
        let local = self.local();
        let route = local.snapshot.routes.iter().find(|route| route.key == exchange.route_key);
        let fault = Fault::new(Reason::Internal, "something panicked");
        self.record(route.map(Route::entry), exchange, Some(&fault), false, trail);
    }

    /// Closes every upstream connection that rests, for want of descriptors.
    pub(crate) fn shed_pools(&self) {
        let now = self.clock.now();
        self.pools.all().values().for_each(|pool| pool.shed(now, |_, _| true));
    }

    /// Notes that connections rest in a pool, so that they are looked through in time.
    pub(crate) fn pools_used(&self) {
        self.sweeper.notify_one();
    }

    /// Closes upstream connections that rested too long; runs as long as the worker.
    pub(crate) async fn sweep_pools(self: Rc<Worker>) {
        loop {
            self.sweeper.notified().await;
            loop {
                self.clock.wait(self.clock.now().saturating_add(SWEEP)).await;
                let now = self.clock.now();
                let local = self.local();
                for upstream in &local.upstreams {
                    for target in upstream.targets().iter() {
                        target.pool.expire(now, upstream.shared.idle);
                    }
                }
                drop(local);
                self.pools.forget_unused();
                if !self.pools.all().values().any(|pool| pool.has_idle()) {
                    break;
                }
            }
        }
    }

    /// A client connection opened; false when there are too many.
    pub(crate) fn opened(&self, most: usize) -> bool {
        if self.shared.connections.fetch_add(1, Ordering::Relaxed) >= most {
            self.shared.connections.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        self.open.set(self.open.get() + 1);
        true
    }

    /// A client connection closed.
    pub(crate) fn closed(&self) {
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
        self.open.set(self.open.get().saturating_sub(1));
        self.closed.notify_waiters();
        self.closed.notify_one();
    }
}

/// Gives a request its id, its trace, the caller's address and the directory.
pub(crate) fn identify(ids: &mut Ids, exchange: &mut Exchange, snapshot: &Snapshot) {
    if exchange.directory.as_ref().is_none_or(|known| !Arc::ptr_eq(known, &snapshot.directory)) {
        exchange.directory = Some(Arc::clone(&snapshot.directory));
    }
    exchange.client.trusted = snapshot.settings.trusted_proxies.trust(exchange.client.peer);
    let head = &exchange.request.head;
    let taken = head.get_id(FieldId::XRequestId).filter(|id| exchange.client.trusted && is_request_id(id));
    match taken {
        Some(id) => exchange.id.extend_from_slice(id),
        None => ids.push_request_id(&mut exchange.id),
    }
    let went_on = ids.push_traceparent(head.get_id(FieldId::Traceparent), &mut exchange.trace);
    if !went_on {
        for field in exchange.request.head.fields.iter_mut().filter(|f| f.id == FieldId::Tracestate) {
            field.removed = true;
        }
    }
    exchange.client.ip = exchange.client.peer.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
    exchange.client.unreadable = false;
    if exchange.client.trusted {
        let (ip, unreadable) = forwarded_ip(exchange, snapshot);
        exchange.client.ip = ip.unwrap_or(exchange.client.ip);
        exchange.client.unreadable = unreadable;
    }
}

/// The caller behind trusted proxies: the last address of `X-Forwarded-For` that is not one of them; and whether what stands there cannot be
/// read, so that it is the nearest proxy that can be named and not the caller.
fn forwarded_ip(exchange: &Exchange, snapshot: &Snapshot) -> (Option<IpAddr>, bool) {
    let trusted = |ip: IpAddr| snapshot.settings.trusted_proxies.trust(Some(ip));
    let values: Vec<&[u8]> = exchange.request.head.values_id(FieldId::XForwardedFor).collect();
    let mut last = None;
    for text in values.iter().rev().flat_map(|value| value.rsplit(|&b| b == b',')) {
        // what cannot be read, and everything a client could have put before it, is not believed
        let Some(ip) = std::str::from_utf8(text).ok().and_then(|text| address_of(text.trim())) else {
            return (last, true);
        };
        last = Some(ip.to_canonical());
        if !trusted(ip.to_canonical()) {
            break;
        }
    }
    (last, false)
}

/// An address with or without a port, as proxies write it.
fn address_of(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|t| t.split_once(']')).map_or(text, |(ip, _)| ip);
    bare.parse().ok().or_else(|| bare.parse::<std::net::SocketAddrV4>().ok().map(|address| (*address.ip()).into()))
}

/// The life of a worker thread: serves until its mailbox closes or a drain ends. Says whether it ended as it should.
pub(crate) async fn run(worker: Rc<Worker>, sockets: Vec<Sockets>, mailbox: mpsc::Receiver<Message>) -> bool {
    let turns = Rc::clone(&worker);
    let mut serving = std::pin::pin!(serve(worker, sockets, mailbox));
    // the runtime asks the kernel once between any two times it looks at the thread's own future, and then runs other tasks
    std::future::poll_fn(|cx| {
        turns.turns.set(turns.turns.get() + 1);
        serving.as_mut().poll(cx)
    })
    .await
}

async fn serve(worker: Rc<Worker>, sockets: Vec<Sockets>, mut mailbox: mpsc::Receiver<Message>) -> bool {
    spawn_vital(&worker, Rc::clone(&worker.timers).run());
    spawn_vital(&worker, Rc::clone(&worker).sweep_pools());
    spawn_vital(&worker, place::close_when_asked(Rc::clone(&worker)));
    spawn_vital(&worker, Rc::clone(&worker.recorder).flusher(worker.clock.clone()));
    let mut listeners = listener::Listeners::default();
    listeners.update(&worker, sockets).await;
    loop {
        let Some(message) = listener::either(mailbox.recv(), worker.broken.notified()).await else { return false };
        let Some(message) = message else { return true };
        match message {
            Message::Publish { snapshot, sockets, done } => {
                worker.adopt(snapshot);
                listeners.update(&worker, sockets).await;
                let _ = done.send(());
            }
            Message::StopAccepting { empty_queue, done } => {
                worker.draining.set(true);
                listeners.stop(empty_queue).await;
                let _ = done.send(());
            }
            Message::Drain { until, done } => {
                let left = drain(&worker, until).await;
                worker.recorder.close();
                let _ = done.send(left);
                return true;
            }
            #[cfg(debug_assertions)]
            #[allow(clippy::panic, reason = "what it is for")]
            Message::Break => spawn_vital(&worker, async { panic!("a test breaks this worker") }),
            Message::Latest { most, done } => {
                let _ = done.send(worker.recorder.latest(most));
            }
            Message::Find { id, done } => {
                let _ = done.send(worker.recorder.find(&id));
            }
            Message::UseLog { log, done } => {
                worker.recorder.use_log(log);
                let _ = done.send(());
            }
            Message::FlushLog { done } => {
                worker.recorder.flush();
                let _ = done.send(());
            }
        }
    }
}

fn spawn_vital(worker: &Rc<Worker>, task: impl Future<Output = ()> + 'static) {
    let vital = Vital::new(worker);
    tokio::task::spawn_local(async move {
        let _vital = vital;
        task.await;
    });
}

/// Waits until every client connection has ended, or `until` has come; gives how many are left.
async fn drain(worker: &Rc<Worker>, until: u64) -> usize {
    /// Idle connections get this long for one more request, which is answered with `Connection: close`.
    const GRACE: u64 = 1_000_000_000;
    worker.draining.set(true);
    let now = worker.clock.now();
    worker.timers.hurry_idle(now.saturating_add(GRACE).min(until));
    let deadline = worker.timers.slot();
    deadline.set(until);
    while worker.open.get() > 0 {
        let closed = worker.closed.notified();
        if deadline.limit(closed).await.is_none() {
            break;
        }
    }
    worker.open.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_and_without_a_port() {
        for (text, ip) in [
            ("10.1.0.1", Some("10.1.0.1")),
            ("10.1.0.1:99", Some("10.1.0.1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("[2001:db8::1]:99", Some("2001:db8::1")),
            ("10.1.0.1:", None),
            ("10.1.0.1:x", None),
            ("unknown", None),
        ] {
            assert_eq!(address_of(text), ip.map(|ip| ip.parse().unwrap()), "{text}");
        }
    }
}
