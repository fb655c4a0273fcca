//! HTTP/2 on both sides, over the crate `h2`: the life of one client's connection, whose streams are served like exchanges of HTTP/1.
//! Frames, header compression and windows are the crate's; what may be asked, and for how long, is decided here.

pub(crate) mod down;
pub(crate) mod up;
pub(crate) mod link;
mod stream;
pub(crate) mod tasks;
mod body;
mod fields;
mod wire;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use daemun_pipeline::Client;
use h2::server;

use crate::http1::conn::Conn;
use crate::io::Stream;
use crate::timers::{Deadline, NEVER};
use crate::worker::Worker;
use stream::Incoming;
use tasks::Job;
pub(crate) use wire::Wire;

/// Streams a client may have open on one connection; more are refused, and may be tried again.
const STREAMS_MOST: u32 = 128;
/// Body bytes a client may send on one stream before the gateway has passed them on.
const STREAM_WINDOW: u32 = 64 * 1024;
/// The same for all streams of a connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Answer bytes of one stream that may wait for the socket.
const SEND_BUFFER: usize = 64 * 1024;
/// Streams that were reset before the gateway looked at them; more end the connection.
const PENDING_RESETS: usize = 20;
/// Streams the gateway may have to reset for errors of the client; more end the connection.
const ERROR_RESETS: usize = 1024;
/// Streams a client may give up before it must have let as many be answered.
const ABANDONED_FREE: u32 = 200;
/// How long, and how many bytes, a closed connection is read on, so that what was sent last is not lost to a reset.
const CLOSING_TIME: u64 = 2_000_000_000;
const CLOSING_BYTES: usize = 256 * 1024;
const CLOSING_READ: usize = 8 * 1024;

/// What every connection begins with (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of it that no request of HTTP/1.1 begins with.
const TELLING: usize = b"PRI * HTTP/2.0".len();

/// Whether a connection whose first bytes are here speaks HTTP/2 without having asked (prior knowledge); waits for more where they do not tell.
pub(crate) async fn begins(conn: &mut Conn, deadline: &Deadline) -> bool {
    loop {
        let begun = conn.unread.len().min(PREFACE.len());
        if conn.unread.get(..begun) != PREFACE.get(..begun) {
            return false;
        }
        if begun >= TELLING {
            return true;
        }
        let read = deadline.limit(poll_fn(|cx| conn.stream.poll_read(cx, &mut conn.unread, usize::MAX))).await;
        if !matches!(read, Some(Ok(1..))) {
            return false;
        }
    }
}

/// Serves a connection to its end. `early` holds what was read of it already.
pub(crate) async fn connection(worker: &Rc<Worker>, stream: Stream, early: Vec<u8>, client: Client) {
    let deadline = worker.timers.slot();
    let limit = worker.clock.now().saturating_add(worker.local().snapshot.settings.head);
    deadline.set_idle(limit);
    let wire = Wire::new(&worker.buffers, stream, early);
    let Some(connection) = handshake(worker, &wire, &deadline).await else { return };
    let streams = Rc::new(Streams::default());
    let mut driver = Driver {
        worker: Rc::clone(worker),
        client,
        connection,
        wire: wire.clone(),
        streams: Rc::clone(&streams),
        deadline: &deadline,
        phase: Phase::Open,
        left: 0,
        limit,
        stalled: false,
    };
    poll_fn(|cx| driver.poll(cx)).await;
    // streams that are still served see their connection gone, and end with their records written
    drop(driver);
    streams.all_ended().await;
    linger(worker, &wire, &deadline).await;
}

/// Exchanges settings; `None` when the client sent something else, or too little in time.
async fn handshake(worker: &Worker, wire: &Wire, deadline: &Deadline) -> Option<server::Connection<Wire, Bytes>> {
    let head = worker.local().snapshot.settings.bounds.head;
    let handshake = server::Builder::new()
        .max_concurrent_streams(STREAMS_MOST)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(u32::try_from(head).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(Some(ERROR_RESETS))
        .handshake(wire.clone());
    tokio::pin!(handshake);
    let shaken = poll_fn(|cx| {
        let shaken = handshake.as_mut().poll(cx);
        match wire.poll_send(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => shaken.map_err(body::broken),
        }
    });
    deadline.limit(shaken).await?.ok()
}

/// How a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// No new streams are taken; those there are go on.
    Leaving,
    /// The last frames are on their way.
    Closing,
}

/// One connection and what its task knows about it.
struct Driver<'a> {
    worker: Rc<Worker>,
    client: Client,
    connection: server::Connection<Wire, Bytes>,
    wire: Wire,
    streams: Rc<Streams>,
    deadline: &'a Deadline,
    phase: Phase,
    /// When the client was told to begin no more streams.
    left: u64,
    /// When the connection will have been quiet, or its client unreachable, for too long.
    limit: u64,
    /// The client does not take what is sent.
    stalled: bool,
}

impl Driver<'_> {
    /// Ready when the connection has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.streams.wake_when_quiet(cx);
        loop {
            if self.poll_frames(cx).is_ready() {
                return Poll::Ready(());
            }
            let sent = match self.wire.poll_send(cx) {
                Poll::Ready(Ok(())) => true,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => false,
            };
            if sent && self.wire.was_full() {
                continue;
            }
            let fired = self.deadline.poll(cx).is_ready();
            match self.settle(sent, fired) {
                Next::Turn => {}
                Next::Wait => return Poll::Pending,
                Next::End => return Poll::Ready(()),
            }
        }
    }

    /// Lets the protocol read and write its frames, and begins every stream that came.
    fn poll_frames(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut now = 0;
        loop {
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    if now == 0 {
                        now = self.worker.clock.now();
                    }
                    self.begin(Incoming { request, respond, now });
                }
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn begin(&self, incoming: Incoming) {
        let open = Open::new(&self.streams, incoming.now);
        tasks::serve(&self.worker, Job { incoming, client: self.client.clone(), open });
    }

    /// Decides, after a turn, how long the connection may stay as it is, and whether it may.
    fn settle(&mut self, sent: bool, fired: bool) -> Next {
        let idle = self.streams.open.get() == 0;
        match self.phase {
            Phase::Closing if fired => return Next::End,
            Phase::Closing => return Next::Wait,
            Phase::Open | Phase::Leaving if self.streams.are_given_up() => {
                return self.close(h2::Reason::ENHANCE_YOUR_CALM);
            }
            Phase::Open if self.worker.draining.get() => return self.leave(),
            Phase::Open | Phase::Leaving => {}
        }
        let local = self.worker.local();
        let settings = &local.snapshot.settings;
        let was_stalled = std::mem::replace(&mut self.stalled, !sent);
        if self.stalled {
            if !was_stalled || self.wire.has_moved() {
                self.limit = self.worker.clock.now().saturating_add(settings.write_idle);
            }
        } else if !idle {
            self.limit = NEVER;
        } else if self.phase == Phase::Leaving {
            // the protocol ends it once the client has confirmed that it begins no more streams
            self.limit = self.streams.ended.get().max(self.left).saturating_add(CLOSING_TIME);
        } else if self.streams.served.get() > 0 {
            self.limit = self.streams.ended.get().saturating_add(settings.keep_alive);
        }
        if fired && self.worker.clock.now() >= self.limit {
            return match self.phase {
                _ if self.stalled => Next::End,
                Phase::Open => self.leave(),
                Phase::Leaving | Phase::Closing => self.close(h2::Reason::NO_ERROR),
            };
        }
        self.deadline.set_idle(self.limit);
        // a deadline that fired forgot whom to wake; the next turn asks it again
        if fired { Next::Turn } else { Next::Wait }
    }

    fn leave(&mut self) -> Next {
        self.phase = Phase::Leaving;
        self.left = self.worker.clock.now();
        self.connection.graceful_shutdown();
        Next::Turn
    }

    fn close(&mut self, reason: h2::Reason) -> Next {
        self.phase = Phase::Closing;
        self.connection.abrupt_shutdown(reason);
        self.deadline.set(self.worker.clock.now().saturating_add(CLOSING_TIME));
        Next::Turn
    }
}

/// What a connection's task does after a turn.
enum Next {
    /// Another turn: there are frames to be written.
    Turn,
    Wait,
    End,
}

/// The streams of one connection.
#[derive(Default)]
struct Streams {
    open: Cell<u32>,
    /// Streams that were begun, and those the client gave up before they were answered.
    served: Cell<u32>,
    abandoned: Cell<u32>,
    /// When the last one ended.
    ended: Cell<u64>,
    waiting: RefCell<Option<Waker>>,
}

impl Streams {
    /// Whether the client makes the gateway work for answers it does not take.
    fn are_given_up(&self) -> bool {
        let abandoned = self.abandoned.get();
        abandoned > ABANDONED_FREE && abandoned > self.served.get() / 2
    }

    /// Lets the connection's task be woken whenever the last open stream ends.
    fn wake_when_quiet(&self, cx: &Context<'_>) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            *waiting = Some(cx.waker().clone());
        }
    }

    async fn all_ended(&self) {
        poll_fn(|cx| {
            self.wake_when_quiet(cx);
            if self.open.get() == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// One open stream; counted until it is dropped, however its task ends.
struct Open {
    streams: Rc<Streams>,
}

impl Open {
    fn new(streams: &Rc<Streams>, now: u64) -> Open {
        streams.open.set(streams.open.get() + 1);
        streams.served.set(streams.served.get().saturating_add(1));
        streams.ended.set(now);
        Open { streams: Rc::clone(streams) }
    }

    fn end(self, at: u64, abandoned: bool) {
        self.streams.ended.set(at);
        if abandoned {
            self.streams.abandoned.set(self.streams.abandoned.get().saturating_add(1));
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.streams.open.set(self.streams.open.get() - 1);
        if self.streams.open.get() == 0
            && let Some(waker) = &*self.streams.waiting.borrow()
        {
            waker.wake_by_ref();
        }
    }
}

/// Ends a connection of either protocol so that what was sent arrives (RFC 9112, section 9.6): sending ends first, then what still comes is
/// read and dropped.
pub(crate) async fn linger(worker: &Worker, wire: &Wire, deadline: &Deadline) {
    deadline.set(worker.clock.now().saturating_add(CLOSING_TIME));
    let mut wire = wire.clone();
    let ended =
        deadline.limit(poll_fn(|cx| tokio::io::AsyncWrite::poll_shutdown(std::pin::Pin::new(&mut wire), cx))).await;
    if !matches!(ended, Some(Ok(()))) {
        return;
    }
    let mut left = CLOSING_BYTES;
    while left > 0 {
        match deadline.limit(poll_fn(|cx| wire.poll_discard(cx, CLOSING_READ))).await {
            Some(Ok(n)) if n > 0 => left = left.saturating_sub(n),
            _ => break,
        }
    }
}
