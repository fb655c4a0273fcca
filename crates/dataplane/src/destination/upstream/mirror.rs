//! Calls that are sent to another upstream as well. What it answers is dropped; nobody waits for it.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use daemun_pipeline::{Exchange, Fault, Reason};

use super::choice::Outcome;
use super::reach::{self, Site};
use super::{Call, gate, keep_connection, solo};
use crate::http1::parse::BodyLength;
use crate::peer::Up;
use crate::pipe::Pipe;
use crate::serve::{Ask, Trail};
use crate::snapshot::Route;
use crate::snapshot::failure::Mirror;
use crate::timers::Deadline;
use crate::worker::{Busy, Local, Worker};

/// Such calls of one worker in flight at most; those beyond are not made.
const MOST: usize = 256;
/// Bytes of their bodies that a worker holds at most.
const BYTES_MOST: usize = 64 * 1024 * 1024;
/// Bytes of an answer that are read to keep its connection.
const READ_MOST: u64 = 1024 * 1024;
/// Salt of the choice.
const SALT: u64 = 0x6d69_7272_6f72;

/// What of this call is sent elsewhere, if it is one of those that are.
pub(crate) fn of<'a>(route: &'a Route, exchange: &Exchange) -> Option<&'a Mirror> {
    let mirror = route.own.failure.as_ref()?.mirror.as_ref()?;
    let drawn = u32::try_from(exchange.draw(SALT) % 10_000).unwrap_or(0);
    (drawn < mirror.share && !exchange.request.grpc).then_some(mirror)
}

/// Sends the call elsewhere, if all of its body was kept.
pub(crate) fn send(ask: &Ask<'_, '_>, exchange: &Exchange, call: &Call, mirror: &Mirror, trail: &Trail) {
    let worker = ask.worker;
    // what was never sent is not sent elsewhere
    if call.upgrade.is_some() || trail.attempts == 0 || worker.mirrors.get() >= MOST {
        return;
    }
    let framing = match call.framing {
        BodyLength::None | BodyLength::Length(0) => call.framing,
        BodyLength::Length(_) | BodyLength::Chunked | BodyLength::UntilClose => {
            let Some(body) = call.upload.all(exchange).filter(|body| body.len() <= mirror.buffer) else { return };
            BodyLength::Length(body.len() as u64)
        }
    };
    let bytes = call.upload.all(exchange).map_or(0, <[u8]>::len);
    if worker.mirrored_bytes.get().saturating_add(bytes) > BYTES_MOST {
        return;
    }
    let mut copy = worker.copy(exchange);
    // they are for whom the call itself is sent to
    copy.exchange.credentials = None;
    copy.exchange.request.body = call.upload.all(exchange).map(<[u8]>::to_vec);
    // its place among the routes, which live as long as what is held here
    let routes = &ask.local.snapshot.routes;
    let offset = std::ptr::from_ref(ask.route).addr().saturating_sub(routes.as_ptr().addr());
    let sent = Sent { route: offset / size_of::<Route>(), upstream: mirror.upstream, framing };
    let (counted, local) = (Counted::new(worker, bytes), Rc::clone(ask.local));
    tokio::task::spawn_local(async move {
        let worker = &counted.worker;
        let deadline = worker.timers.slot();
        let _ = sent.run(worker, &local, &deadline, &mut copy).await;
        worker.idle(copy);
    });
}

/// Such a call in flight.
struct Counted {
    worker: Rc<Worker>,
    bytes: usize,
}

impl Counted {
    fn new(worker: &Rc<Worker>, bytes: usize) -> Counted {
        worker.mirrors.set(worker.mirrors.get() + 1);
        worker.mirrored_bytes.set(worker.mirrored_bytes.get() + bytes);
        Counted { worker: Rc::clone(worker), bytes }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.worker.mirrors.set(self.worker.mirrors.get() - 1);
        self.worker.mirrored_bytes.set(self.worker.mirrored_bytes.get() - self.bytes);
    }
}

struct Sent {
    route: usize,
    upstream: usize,
    framing: BodyLength,
}

impl Sent {
    async fn run(
        &self,
        worker: &Rc<Worker>,
        local: &Rc<Local>,
        deadline: &Deadline,
        copy: &mut Busy,
    ) -> Result<(), Fault> {
        let missing = || Fault::new(Reason::Internal, "a mirror is missing");
        let route = local.snapshot.routes.get(self.route).ok_or_else(missing)?;
        let upstream = local.upstreams.get(self.upstream).ok_or_else(missing)?;
        let site = Site { worker, local, route, deadline };
        let exchange = &mut copy.exchange;
        let mut picked = upstream.pick(exchange, route, &[], worker.clock.now())?;
        let no_room = || Fault::new(Reason::Overloaded, "the upstream has no room for a copy");
        let _permit = gate::beside(upstream, &picked.target).ok_or_else(no_room)?;
        let body = exchange.request.body.take();
        let (mut awaited, trail) = (picked.awaited(exchange.request.grpc), &mut copy.trail);
        let target = Rc::clone(&picked.target);
        let called = solo::call(site, exchange, upstream, &target, self.framing, body, &mut awaited, trail).await;
        if picked.wants_report() {
            let outcome = called.as_ref().map_or_else(Outcome::of, |(_, head)| Outcome::Answered(head.status));
            picked.report(outcome, None, worker.clock.now());
        }
        let cells = &picked.target.shared.cells;
        match called {
            Ok((up, head)) => {
                worker.recorder.mirrored(cells, head.status);
                let idle = reach::limits(site, exchange, upstream, false).response;
                if let Some(up) = drain(site, up, idle).await {
                    keep_connection(worker, exchange, &picked.target, up, &head);
                }
                Ok(())
            }
            Err(fault) => {
                worker.recorder.mirrored(cells, 0);
                Err(fault)
            }
        }
    }
}

/// Reads an answer's body to its end; one that is long or slow costs its connection.
async fn drain(site: Site<'_>, mut up: Up, idle: u64) -> Option<Up> {
    let mut pipe = Pipe::default();
    let buffers = &site.worker.buffers;
    let until = site.worker.clock.now().saturating_add(idle);
    let ended = poll_fn(|cx| {
        loop {
            let filled = up.poll_fill(cx, &mut pipe, buffers);
            pipe.consume(pipe.data().len());
            match filled {
                Poll::Ready(Ok(())) if pipe.eof => return Poll::Ready(true),
                Poll::Ready(Ok(())) if pipe.total <= READ_MOST => {}
                Poll::Ready(_) => return Poll::Ready(false),
                Poll::Pending => return site.deadline.poll_until(cx, until).map(|()| false),
            }
        }
    });
    let ended = ended.await;
    pipe.release(buffers);
    ended.then_some(up)
}
