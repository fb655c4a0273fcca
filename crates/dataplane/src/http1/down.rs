//! The client's side of one exchange over HTTP/1: request body in, answer out.

use std::io;
use std::task::{Context, Poll, ready};

use daemun_pipeline::{Exchange, Fault, FieldId, Head, Method};

use super::conn::Conn;
use super::parse::BodyLength;
use crate::pipe::{Buffers, Pipe};
use crate::respond::{push_fields, push_number, push_status_line};

/// The client's side of one exchange.
pub(crate) struct H1Down<'a> {
    pub(crate) conn: &'a mut Conn,
    /// Whether the client speaks HTTP/1.0.
    pub(crate) old: bool,
    /// Whether the connection ends with this exchange.
    pub(crate) close: bool,
    /// Whether the client waits for `100 (Continue)`.
    pub(crate) expects: bool,
    /// Whether the final head was queued.
    pub(crate) started: bool,
    /// The answer must not carry a body.
    pub(crate) bodyless: bool,
    /// The client pipelined; its leaving can no longer be seen.
    blind: bool,
}

impl<'a> H1Down<'a> {
    pub(crate) fn new(conn: &'a mut Conn, head: &super::parse::RequestHead) -> H1Down<'a> {
        conn.expect_body(head.body);
        H1Down {
            conn,
            old: head.version == 10,
            close: head.close,
            expects: head.expect_continue,
            started: false,
            bodyless: head.method == Method::Head,
            blind: false,
        }
    }

    /// For a request that could not be read.
    pub(crate) fn refusing(conn: &'a mut Conn, bodyless: bool) -> H1Down<'a> {
        H1Down { conn, old: false, close: true, expects: false, started: false, bodyless, blind: true }
    }

    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
        buffers: &Buffers,
    ) -> Poll<Result<(), Fault>> {
        if self.expects && !self.started {
            self.expects = false;
            if !self.conn.has_unread() {
                self.conn.out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
        }
        if !self.started && !self.conn.out.is_empty() {
            // an interim answer; what does not leave now leaves with the next poll
            if let Poll::Ready(Err(error)) = self.conn.poll_drain(cx, &mut Pipe::default()) {
                return Poll::Ready(Err(gone(error)));
            }
        }
        self.conn.poll_fill(cx, pipe, buffers)
    }

    /// Passes an interim answer on; HTTP/1.0 knows none (RFC 9110, section 15.2).
    pub(crate) fn interim(&mut self, status: u16, head: &Head) {
        if self.old || self.started {
            return;
        }
        push_status_line(status, &mut self.conn.out);
        push_fields(head, &mut self.conn.out);
        self.conn.out.extend_from_slice(b"\r\n");
    }

    /// Switches protocols: the rest of the connection is a tunnel.
    pub(crate) fn start_tunnel(&mut self, exchange: &Exchange, protocol: &[u8]) {
        let out = &mut self.conn.out;
        push_status_line(101, out);
        push_fields(&exchange.response.head, out);
        out.extend_from_slice(b"connection: upgrade\r\nupgrade: ");
        out.extend_from_slice(protocol);
        out.extend_from_slice(b"\r\n\r\n");
        self.started = true;
        self.close = true;
        self.conn.expect_body(BodyLength::UntilClose);
        self.conn.begin_body(BodyLength::UntilClose);
    }

    /// Queues the head of the answer and fixes its framing (RFC 9112, section 6).
    pub(crate) fn start(&mut self, exchange: &Exchange, length: BodyLength) {
        let status = exchange.response.status;
        self.started = true;
        let none = self.bodyless || status == 204 || status == 304;
        let framing = match length {
            _ if none => BodyLength::None,
            BodyLength::Chunked | BodyLength::UntilClose if self.old => BodyLength::UntilClose,
            BodyLength::Chunked | BodyLength::UntilClose => BodyLength::Chunked,
            BodyLength::None => BodyLength::Length(0),
            BodyLength::Length(n) => BodyLength::Length(n),
        };
        if framing == BodyLength::UntilClose {
            self.close = true;
        }
        let out = &mut self.conn.out;
        out.reserve(exchange.response.head.buf.len() + 256);
        push_status_line(status, out);
        push_fields(&exchange.response.head, out);
        match framing {
            BodyLength::Length(n) => {
                out.extend_from_slice(b"content-length: ");
                push_number(n, out);
                out.extend_from_slice(b"\r\n");
            }
            BodyLength::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
            BodyLength::None if status != 204 => push_stated_length(exchange, length, out),
            BodyLength::None | BodyLength::UntilClose => {}
        }
        if self.close {
            out.extend_from_slice(b"connection: close\r\n\r\n");
        } else if self.old {
            out.extend_from_slice(b"connection: keep-alive\r\n\r\n");
        } else {
            out.extend_from_slice(b"\r\n");
        }
        self.conn.begin_body(framing);
    }

    pub(crate) fn poll_drain(&mut self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<io::Result<()>> {
        self.conn.poll_drain(cx, pipe)
    }

    /// Ready when the client left; only seen while nothing else is read from it.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>, buffers: &Buffers) -> Poll<()> {
        if self.blind || self.conn.has_unread() || !self.conn.body_read() {
            return Poll::Pending;
        }
        if self.conn.unread.capacity() == 0 {
            self.conn.unread = buffers.take();
        }
        let read = self.conn.stream.poll_read(cx, &mut self.conn.unread, usize::MAX);
        if self.conn.unread.is_empty() {
            buffers.give(std::mem::take(&mut self.conn.unread));
        }
        match ready!(read) {
            Ok(0) | Err(_) => Poll::Ready(()),
            Ok(_) => {
                self.blind = true;
                Poll::Pending
            }
        }
    }
}

/// A client that cannot be written to has left.
pub(crate) fn gone(error: io::Error) -> Fault {
    Fault::new(daemun_pipeline::Reason::ClientGone, "the client closed the connection").cause(error)
}

/// An answer without a body still may say how long it would be (RFC 9110, section 8.6).
fn push_stated_length(exchange: &Exchange, length: BodyLength, out: &mut Vec<u8>) {
    if let Some(stated) = exchange.response.head.get_id(FieldId::ContentLength) {
        out.extend_from_slice(b"content-length: ");
        out.extend_from_slice(stated);
        out.extend_from_slice(b"\r\n");
    } else if let BodyLength::Length(n) = length {
        out.extend_from_slice(b"content-length: ");
        push_number(n, out);
        out.extend_from_slice(b"\r\n");
    }
}
