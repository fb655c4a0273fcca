//! Both sides of one exchange, whatever their protocols: what `serve` and the destinations speak to.

use std::io;
use std::task::{Context, Poll};

use daemun_pipeline::{Exchange, Fault, Head, Reason};

use crate::http1::down::H1Down;
use crate::http1::parse::{BodyLength, Bounds};
use crate::http1::request::Parts;
use crate::http1::up::{H1Up, Said};
use crate::http2::down::H2Down;
use crate::http2::up::H2Up;
use crate::pipe::{Buffers, Pipe};

/// The client's side of one exchange.
pub(crate) enum Down<'a> {
    /// HTTP/1.0 or 1.1.
    H1(H1Down<'a>),
    /// One stream of HTTP/2.
    H2(H2Down),
}

impl Down<'_> {
    /// Reads request body bytes into the pipe. `Ready` means progress or the end.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
        buffers: &Buffers,
    ) -> Poll<Result<(), Fault>> {
        match self {
            Down::H1(down) => down.poll_fill(cx, pipe, buffers),
            Down::H2(down) => down.poll_fill(cx, pipe, buffers),
        }
    }

    /// Takes what the head of a stream says about its body, and gives how it is passed on.
    pub(crate) fn expect(&mut self, parts: &Parts) -> BodyLength {
        match self {
            // there the parser says it
            Down::H1(_) => BodyLength::None,
            Down::H2(down) => down.expect(parts),
        }
    }

    /// Ends a stream; says whether the client gave it up.
    pub(crate) fn end_stream(&mut self) -> bool {
        match self {
            Down::H1(_) => false,
            Down::H2(down) => down.finish(),
        }
    }

    /// Passes an interim answer on.
    pub(crate) fn interim(&mut self, status: u16, head: &Head) {
        match self {
            Down::H1(down) => down.interim(status, head),
            Down::H2(down) => down.interim(status, head),
        }
    }

    /// Queues the final head.
    pub(crate) fn start(&mut self, exchange: &Exchange, length: BodyLength) {
        match self {
            Down::H1(down) => down.start(exchange, length),
            Down::H2(down) => down.start(exchange, length),
        }
    }

    /// Answers an upgrade; the rest is a tunnel.
    pub(crate) fn start_tunnel(&mut self, exchange: &Exchange, protocol: &[u8]) {
        match self {
            Down::H1(down) => down.start_tunnel(exchange, protocol),
            // no stream asks for one
            Down::H2(_) => {}
        }
    }

    /// Whether the final head was queued: no other answer can be given.
    pub(crate) fn started(&self) -> bool {
        match self {
            Down::H1(down) => down.started,
            Down::H2(down) => down.started,
        }
    }

    /// Writes what is queued and what the pipe holds. `Ready` when all of it left.
    pub(crate) fn poll_drain(&mut self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<io::Result<()>> {
        match self {
            Down::H1(down) => down.poll_drain(cx, pipe),
            Down::H2(down) => down.poll_drain(cx, pipe),
        }
    }

    /// Ends the sending side of a tunnel.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Down::H1(down) => down.conn.stream.poll_shutdown(cx),
            Down::H2(_) => Poll::Ready(Ok(())),
        }
    }

    /// Ready when the client left.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>, buffers: &Buffers) -> Poll<()> {
        match self {
            Down::H1(down) => down.poll_gone(cx, buffers),
            Down::H2(down) => down.poll_gone(cx),
        }
    }

    /// Bounds what a chunked body may announce, so that it is refused before it comes.
    pub(crate) fn limit_body(&mut self, most: u64) {
        match self {
            Down::H1(down) => down.conn.body_limit = most,
            // its length is only known by what came
            Down::H2(_) => {}
        }
    }

    /// Before an answer of the gateway's own: a request body that is not here yet ends the connection, and the answer says so.
    pub(crate) fn settle_body(&mut self) {
        match self {
            Down::H1(down) => down.close |= !down.conn.skip_body(),
            Down::H2(_) => {}
        }
    }

    /// Ends an answer that a fault broke off after its head, where the protocol knows how to say so.
    pub(crate) fn fail(&mut self, exchange: &Exchange, fault: &Fault) {
        match self {
            // the connection ends within the body
            Down::H1(_) => {}
            Down::H2(down) => down.fail(exchange, fault),
        }
    }

    /// The connection must not be used again, where it carries nothing else.
    pub(crate) fn doom(&mut self) {
        match self {
            Down::H1(down) => down.close = true,
            // the stream is reset when its answer is not whole; the connection goes on
            Down::H2(_) => {}
        }
    }
}

/// The upstream's side of one call.
pub(crate) enum Up {
    /// A connection over HTTP/1.1; boxed, since it moves between its pool and its calls.
    H1(Box<H1Up>),
    /// One stream of HTTP/2.
    H2(H2Up),
}

impl Up {
    /// Writes what is queued and what the pipe holds of the request's body. `Ready` when all of it left.
    pub(crate) fn poll_drain(&mut self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<io::Result<()>> {
        match self {
            Up::H1(up) => up.poll_drain(cx, pipe),
            Up::H2(up) => up.poll_drain(cx, pipe),
        }
    }

    /// Whether the whole request was written.
    pub(crate) fn all_written(&self) -> bool {
        match self {
            Up::H1(up) => up.conn.all_written(),
            Up::H2(up) => up.all_written(),
        }
    }

    /// Reads the next head of the answer into the exchange; `to_head` when the answer has no body.
    pub(crate) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        exchange: &mut Exchange,
        bounds: &Bounds,
        to_head: bool,
    ) -> Poll<Result<Said, Fault>> {
        match self {
            Up::H1(up) => up.poll_head(cx, exchange, bounds, to_head),
            Up::H2(up) => up.poll_head(cx, exchange, bounds),
        }
    }

    /// Reads bytes of the answer's body into the pipe. `Ready` means progress or the end.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
        buffers: &Buffers,
    ) -> Poll<Result<(), Fault>> {
        match self {
            Up::H1(up) => up.conn.poll_fill(cx, pipe, buffers),
            Up::H2(up) => up.poll_fill(cx, pipe, buffers),
        }
    }

    /// The rest of the connection is a tunnel.
    pub(crate) fn begin_tunnel(&mut self) {
        if let Up::H1(up) = self {
            up.conn.expect_body(BodyLength::UntilClose);
            up.conn.begin_body(BodyLength::UntilClose);
        }
    }

    /// Ends the sending side of a tunnel.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Up::H1(up) => up.conn.stream.poll_shutdown(cx),
            Up::H2(_) => Poll::Ready(Ok(())),
        }
    }

    /// Whether the target said that it did nothing with the call, so that any call may be made again.
    pub(crate) fn unprocessed(&self) -> bool {
        match self {
            Up::H1(_) => false,
            Up::H2(up) => up.unprocessed,
        }
    }

    /// The call ended so: where it took too long, other calls on its connection may do so too. One of HTTP/1.1 is not used again.
    pub(crate) fn doubt_after(&self, fault: &Fault) {
        if let (Up::H2(up), Reason::UpstreamTimeout) = (self, fault.reason) {
            up.doubt();
        }
    }
}
