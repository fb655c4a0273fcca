//! The client's side of one exchange, whatever the protocol: what `serve` and the destinations speak to.

use std::io;
use std::task::{Context, Poll};

use daemun_pipeline::{Exchange, Fault, Head};

use crate::http1::down::H1Down;
use crate::http1::parse::BodyLength;
use crate::http2::down::H2Down;
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

    /// The connection must not be used again, where it carries nothing else.
    pub(crate) fn doom(&mut self) {
        match self {
            Down::H1(down) => down.close = true,
            // the stream is reset when its answer is not whole; the connection goes on
            Down::H2(_) => {}
        }
    }
}
