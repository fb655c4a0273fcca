//! HTTP/1.0 and 1.1 towards clients: the life of one connection. Heads are read here, exchanges served elsewhere.

pub mod chunked;
pub(crate) mod conn;
pub(crate) mod down;
pub mod parse;
pub mod request;
pub mod response;
mod tokens;
pub(crate) mod up;

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use daemun_pipeline::{Client, Fault, Method, Reason};

use crate::http2::{self, Wire};
use crate::io::Stream;
use crate::peer::Down;
use crate::record::BadHead;
use crate::respond;
use crate::serve::{self, Arrived};
use crate::timers::Deadline;
use crate::worker::{Busy, Worker};
use conn::Conn;
use down::H1Down;
use parse::{RequestHead, Scan, parse_request};

/// A connection whose requests follow each other within this time keeps its state, so that steady traffic allocates nothing.
const LINGER: u64 = 1_000_000_000;
/// Room made for each read of a head.
const HEAD_READ: usize = 8 * 1024;

/// What became of waiting.
enum Waited {
    /// Bytes came.
    Bytes,
    /// Nothing came in time.
    Idle,
    /// The connection ended.
    Closed,
}

/// Serves a connection to its end. `is_open`: it may turn out to speak HTTP/2.
pub(crate) async fn connection(worker: &Rc<Worker>, stream: Stream, client: Client, is_open: bool) {
    let deadline = worker.timers.slot();
    let mut conn = Conn::new(stream, Reason::BadRequest);
    let mut first = true;
    loop {
        let local = worker.local();
        let settings = &local.snapshot.settings;
        let wait = if worker.draining.get() {
            settings.keep_alive.min(LINGER)
        } else if first {
            settings.head
        } else {
            settings.keep_alive
        };
        drop(local);
        deadline.set_idle(worker.clock.now().saturating_add(wait));
        match first_bytes(worker, &mut conn, &deadline).await {
            Waited::Bytes => {}
            Waited::Idle | Waited::Closed => return,
        }
        if is_open && first && conn.unread.first() == Some(&b'P') && Box::pin(http2::begins(&mut conn, &deadline)).await
        {
            let Conn { stream, unread, .. } = conn;
            return Box::pin(http2::connection(worker, stream, unread, client)).await;
        }
        first = false;
        // boxed, so that an idle connection's task does not carry the size of a busy one
        if !Box::pin(busy(worker, &mut conn, &client, &deadline)).await {
            Box::pin(close(worker, conn, &deadline)).await;
            return;
        }
        conn.strip(&worker.buffers);
    }
}

/// Waits for the first bytes of a request, holding no buffer meanwhile.
async fn first_bytes(worker: &Worker, conn: &mut Conn, deadline: &Deadline) -> Waited {
    if conn.has_unread() {
        return Waited::Bytes;
    }
    poll_fn(|cx| {
        let mut buf = worker.buffers.take();
        match conn.stream.poll_read(cx, &mut buf, HEAD_READ) {
            Poll::Ready(Ok(n)) if n > 0 => {
                conn.unread = buf;
                Poll::Ready(Waited::Bytes)
            }
            Poll::Ready(_) => {
                worker.buffers.give(buf);
                Poll::Ready(Waited::Closed)
            }
            Poll::Pending => {
                worker.buffers.give(buf);
                deadline.poll(cx).map(|()| Waited::Idle)
            }
        }
    })
    .await
}

/// Serves exchanges until the connection has been quiet for a while (true) or ends (false).
async fn busy(worker: &Rc<Worker>, conn: &mut Conn, client: &Client, deadline: &Deadline) -> bool {
    let mut state = worker.busy();
    state.exchange.client = client.clone();
    let watched = worker.watch(&mut state);
    let keep = exchanges(worker, conn, deadline, watched.busy).await;
    drop(watched);
    worker.idle(state);
    keep
}

async fn exchanges(worker: &Rc<Worker>, conn: &mut Conn, deadline: &Deadline, state: &mut Busy) -> bool {
    loop {
        let head = match read_head(worker, conn, deadline, state).await {
            Ok(Some(head)) => head,
            Ok(None) => return !conn.ended,
            Err(fault) => {
                refuse_head(worker, conn, deadline, state, &fault).await;
                return false;
            }
        };
        let Busy { exchange, trail } = &mut *state;
        let mut down = Down::H1(H1Down::new(conn, &head));
        if worker.draining.get() {
            down.doom();
        }
        let arrived = Arrived { framing: head.body, upgrade: head.upgrade };
        serve::serve(worker, deadline, &mut down, exchange, arrived, trail).await;
        let Down::H1(down) = down else { return false };
        let close = down.close;
        if close || !conn.skip_body() {
            return false;
        }
        let (start, end) = (exchange.times.start, exchange.times.end);
        exchange.reset();
        trail.clear();
        let steady = start.saturating_sub(conn.last_end) < LINGER;
        conn.last_end = end;
        if !steady && !conn.has_unread() {
            return true;
        }
        deadline.set_idle(end.saturating_add(LINGER));
    }
}

/// Reads the next head into the exchange; `None` when none came.
async fn read_head(
    worker: &Worker,
    conn: &mut Conn,
    deadline: &Deadline,
    state: &mut Busy,
) -> Result<Option<RequestHead>, Fault> {
    let local = worker.local();
    let settings = &local.snapshot.settings;
    conn.keep_underscores = settings.bounds.keep_underscores;
    let request = &mut state.exchange.request;
    let mut scan = Scan::default();
    conn.take_unread(&mut request.head.buf);
    let mut begun = false;
    loop {
        if !request.head.buf.is_empty() {
            if let Some(head) = parse_request(&request.head.buf, &settings.bounds, &mut scan, &mut request.head.fields)?
            {
                let rest = request.head.buf.get(head.len..).unwrap_or_default();
                if !rest.is_empty() {
                    conn.put_unread(rest);
                }
                request.head.buf.truncate(head.len);
                let now = worker.clock.now();
                state.exchange.times.start = now;
                state.exchange.wall = worker.clock.wall(now);
                request::read_target(request, &head)?;
                return Ok(Some(head));
            }
            // an empty line before a request is no beginning of one
            if !begun && !matches!(request.head.buf.as_slice(), b"\r" | b"\r\n") {
                begun = true;
                deadline.set(worker.clock.now().saturating_add(settings.head));
            }
        }
        if request.head.buf.capacity() - request.head.buf.len() < 1024 {
            request.head.buf.reserve(HEAD_READ);
        }
        let read = deadline.limit(poll_fn(|cx| conn.stream.poll_read(cx, &mut request.head.buf, usize::MAX))).await;
        match read {
            Some(Ok(n)) if n > 0 => {}
            Some(_) => {
                conn.ended = true;
                return Ok(None);
            }
            None if begun => return Err(Fault::new(Reason::ClientTimeout, "the request head did not arrive in time")),
            None => return Ok(None),
        }
    }
}

/// Answers what cannot be read, counts it, and ends the connection.
async fn refuse_head(worker: &Worker, conn: &mut Conn, deadline: &Deadline, state: &mut Busy, fault: &Fault) {
    let local = worker.local();
    let Busy { exchange, trail } = state;
    let now = worker.clock.now();
    exchange.times.start = now;
    exchange.wall = worker.clock.wall(now);
    exchange.request.head.fields.clear();
    worker.identify(exchange, &local.snapshot);
    let stop = daemun_pipeline::Stop::Fault(fault.clone());
    let body = respond::from_stop(&stop, exchange, &local.snapshot.settings.errors);
    let mut down = Down::H1(H1Down::refusing(conn, exchange.request.method == Method::Head));
    serve::answer(worker, &local, deadline, &mut down, exchange, &body, trail).await;
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

/// Ends a connection so that what was sent arrives; one whose answer is not whole is reset.
async fn close(worker: &Worker, conn: Conn, deadline: &Deadline) {
    if conn.ended {
        return;
    }
    if !conn.all_written() {
        conn.stream.abort();
        return;
    }
    let wire = Wire::new(&worker.buffers, conn.stream, Vec::new());
    http2::linger(worker, &wire, deadline).await;
}

/// Answers a connection over the limit with 503 as far as its socket takes it at once, and drops it.
pub(crate) fn refuse(mut stream: Stream) {
    const ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\n\
        content-length: 105\r\nconnection: close\r\n\r\n\
        {\"type\":\"https://daemun.dev/problems/too_many_connections\",\"title\":\"Too many connections\",\"status\":503  }";
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let _ = stream.poll_write(&mut cx, ANSWER, &[]);
}
