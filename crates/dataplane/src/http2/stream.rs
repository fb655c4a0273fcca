//! One stream of a client's connection: its head read, its exchange served, its end told. Knows neither other streams nor sockets.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use daemun_pipeline::{Exchange, Fault, Stop};
use h2::RecvStream;
use h2::server::SendResponse;
use http::Request;

use super::down::H2Down;
use super::fields::read_request;
use super::tasks::Job;
use crate::peer::Down;
use crate::record::BadHead;
use crate::respond;
use crate::serve::{self, Arrived, Trail};
use crate::timers::Deadline;
use crate::worker::{Busy, Worker};

/// A request as the protocol hands it over.
pub(super) struct Incoming {
    pub(super) request: Request<RecvStream>,
    pub(super) respond: SendResponse<Bytes>,
    /// When it was read from the connection.
    pub(super) now: u64,
}

/// Serves the stream that is given, to its end. It is taken where it is put to use: it is too large to be passed on by value.
pub(super) async fn serve(worker: &Rc<Worker>, given: &RefCell<Option<Job>>) {
    let Some(Job { incoming: Incoming { request, respond, now }, client, open }) = given.take() else { return };
    let (parts, body) = request.into_parts();
    let local = worker.local();
    let bounds = &local.snapshot.settings.bounds;
    let to_head = parts.method == http::Method::HEAD;
    let mut down = Down::H2(H2Down::new(body, respond, to_head, bounds.keep_underscores));
    let deadline = worker.timers.slot();
    let mut state = worker.busy();
    let watched = worker.watch(&mut state);
    let Busy { exchange, trail, .. } = &mut *watched.busy;
    exchange.client = client;
    exchange.times.start = now;
    exchange.wall = worker.clock.wall(now);
    let read = read_request(&mut exchange.request, &parts, bounds);
    drop(parts);
    drop(local);
    match read {
        Ok(parts) => {
            let framing = down.expect(&parts);
            serve::serve(worker, &deadline, &mut down, exchange, Arrived { framing, upgrade: None }, trail).await;
        }
        Err(fault) => refuse(worker, &deadline, &mut down, exchange, trail, &fault).await,
    }
    let abandoned = down.end_stream();
    let ended = exchange.times.end;
    drop(watched);
    worker.idle(state);
    open.end(ended, abandoned);
}

/// Answers a head that cannot be read in one way, and counts it; the connection goes on.
async fn refuse(
    worker: &Worker,
    deadline: &Deadline,
    down: &mut Down<'_>,
    exchange: &mut Exchange,
    trail: &mut Trail,
    fault: &Fault,
) {
    let local = worker.local();
    exchange.request.head.fields.clear();
    worker.identify(exchange, &local.snapshot);
    let stop = Stop::Fault(fault.clone());
    let body = respond::from_stop(&stop, exchange, &local.snapshot.settings.errors);
    serve::answer(worker, &local, deadline, down, exchange, &body, trail).await;
    exchange.times.end = worker.clock.now();
    worker.recorder.bad_head(&BadHead {
        wall: exchange.wall,
        id: &exchange.id,
        client_ip: exchange.client.peer,
        tls: exchange.client.tls,
        fault,
        status: Some(fault.reason.status()),
    });
}
