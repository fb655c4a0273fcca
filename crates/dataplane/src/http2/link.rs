//! One connection to a target over HTTP/2, shared by the calls of a worker. Knows neither calls nor which target it leads to.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use http::Request;

use super::body::broken;
use super::wire::Wire;
use crate::destination::upstream::budget::Place;
use crate::destination::upstream::links::Connecting;
use crate::io::Stream;
use crate::pipe::Buffers;

/// Calls on one connection at the same time, whatever more the target would take.
const CALLS_MOST: usize = 250;
/// Calls a connection takes before the target has said how many: that of whoever made it.
const CALLS_FIRST: usize = 1;
/// Bytes of the head of a frame; the first that a target sends are those of its settings (RFC 9113, section 3.4).
const FRAME_HEAD: u64 = 9;
/// Answer bytes a target may send on one call before the gateway has passed them on.
const STREAM_WINDOW: u32 = 64 * 1024;
/// The same for all calls of a connection: enough for every one of them, so that one client that reads slowly holds up no other.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * 256;
/// Request bytes of one call that may wait for the socket.
const SEND_BUFFER: usize = 64 * 1024;

/// A connection.
pub(crate) struct Link {
    sender: RefCell<SendRequest<Bytes>>,
    wire: Wire,
    open: Cell<usize>,
    /// Since when it was seen to have no call; 0 while it has some.
    since: Cell<u64>,
    /// It takes no new calls.
    closed: Cell<bool>,
    /// There until the target has said how many calls it takes: the attempt to connect, for which others wait.
    connecting: RefCell<Option<Connecting>>,
    place: Rc<Place>,
    /// The address it leads to, where that is one of a name's.
    to: Option<SocketAddr>,
}

/// Held by the task that moves a connection's frames: without it there is none, however it ended.
struct Driven(Weak<Link>);

impl Drop for Driven {
    fn drop(&mut self) {
        if let Some(link) = self.0.upgrade() {
            link.closed.set(true);
            *link.connecting.borrow_mut() = None;
        }
    }
}

/// A call's place on its connection, counted from the moment it was taken; given up when it is dropped.
pub(crate) struct Hold {
    link: Rc<Link>,
    /// Bytes the target had sent when the call began.
    heard: u64,
}

impl Link {
    /// Begins to speak over `stream`; the first frames leave with the first call.
    pub(crate) async fn begin(
        buffers: &Rc<Buffers>,
        stream: Stream,
        head: usize,
        place: Place,
        to: Option<SocketAddr>,
    ) -> std::io::Result<Rc<Link>> {
        let wire = Wire::new(buffers, stream, Vec::new());
        let handshake = Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .initial_max_send_streams(CALLS_FIRST)
            .max_send_buffer_size(SEND_BUFFER)
            .max_header_list_size(u32::try_from(head).unwrap_or(u32::MAX))
            .handshake(wire.clone());
        let (sender, connection) = handshake.await.map_err(broken)?;
        // whoever ends last closes the socket
        let place = Rc::new(place);
        let link = Rc::new(Link {
            sender: RefCell::new(sender),
            wire: wire.clone(),
            open: Cell::new(0),
            since: Cell::new(0),
            closed: Cell::new(false),
            connecting: RefCell::default(),
            place: Rc::clone(&place),
            to,
        });
        let driven = Driven(Rc::downgrade(&link));
        tokio::task::spawn_local(async move {
            drive(connection, &wire, &driven.0).await;
            let budget = Arc::clone(place.budget());
            drop((driven, place));
            budget.tell_closed();
        });
        Ok(link)
    }

    /// Keeps the attempt that made it under way until the target has said how many calls it takes.
    pub(crate) fn keep_until_greeted(&self, connecting: Connecting) {
        if !self.closed.get() && self.wire.heard() < FRAME_HEAD {
            *self.connecting.borrow_mut() = Some(connecting);
        }
    }

    /// Whether it takes another call.
    pub(crate) fn has_room(&self) -> bool {
        !self.closed.get() && self.open.get() < self.most()
    }

    /// Calls it takes at the same time.
    pub(crate) fn most(&self) -> usize {
        self.sender.borrow().current_max_send_streams().min(CALLS_MOST)
    }

    /// Calls on it.
    pub(crate) fn open(&self) -> usize {
        self.open.get()
    }

    /// The address it leads to, where that is one of a name's; new calls take it as long as the name has it.
    pub(crate) fn to(&self) -> Option<&SocketAddr> {
        self.to.as_ref()
    }

    /// Whether it takes no new calls any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Since when it has no call, as far as those who asked before saw; `None` while it has some.
    pub(crate) fn rests_since(&self, now: u64) -> Option<u64> {
        if self.open.get() > 0 {
            return None;
        }
        if self.since.get() == 0 {
            self.since.set(now);
        }
        Some(self.since.get())
    }

    /// Its place among all connections.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Takes a place for a call on it.
    pub(crate) fn hold(self: &Rc<Link>) -> Hold {
        self.open.set(self.open.get() + 1);
        self.since.set(0);
        Hold { link: Rc::clone(self), heard: self.wire.heard() }
    }
}

impl Hold {
    /// The connection.
    pub(crate) fn link(&self) -> &Rc<Link> {
        &self.link
    }

    /// Queues the head of a call; an error means that nothing of it was sent.
    pub(super) fn send(
        &self,
        request: Request<()>,
        ended: bool,
    ) -> Result<(ResponseFuture, h2::SendStream<Bytes>), h2::Error> {
        // a clone, because the original may wait for an earlier call to be opened
        let mut sender = self.link.sender.borrow().clone();
        let sent = sender.send_request(request, ended);
        if sent.is_err() {
            self.link.closed.set(true);
        }
        sent
    }

    /// A target that said nothing at all during a call that took too long gets no other on this connection.
    pub(super) fn doubt(&self) {
        if self.link.wire.heard() == self.heard {
            self.link.closed.set(true);
        }
    }

    /// The connection ends for new calls.
    pub(super) fn close(&self) {
        self.link.closed.set(true);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.link.open.set(self.link.open.get() - 1);
    }
}

/// Moves frames until the connection has ended, which it does by itself once nothing refers to it.
async fn drive(mut connection: Connection<Wire, Bytes>, wire: &Wire, link: &Weak<Link>) {
    let mut greeted = false;
    poll_fn(|cx| {
        loop {
            let ended = Pin::new(&mut connection).poll(cx);
            if !greeted && wire.heard() >= FRAME_HEAD {
                greeted = true;
                drop(link.upgrade().and_then(|link| link.connecting.take()));
            }
            match wire.poll_send(cx) {
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) if wire.was_full() => {}
                Poll::Ready(Ok(())) | Poll::Pending => return ended.map(drop),
            }
        }
    })
    .await;
}
