//! The upstream's side of one call over HTTP/1.1: call out, answer in.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

use daemun_pipeline::{Exchange, Fault, Reason};

use super::conn::Conn;
use super::parse::{BodyLength, Bounds, Scan};
use super::response::{ResponseHead, parse_response};
use crate::destination::upstream::budget::Place;
use crate::pipe::Pipe;

/// Interim answers a call may give before its final one.
pub(crate) const INTERIM_MOST: u8 = 32;
/// Room made for each read of a head.
const HEAD_READ: usize = 8 * 1024;

/// A connection to a target, and the state of the one call on it.
pub(crate) struct H1Up {
    pub(crate) conn: Conn,
    /// The answer's head was read from here on; nothing came before.
    pub(crate) answered: bool,
    /// The connection ends with this call.
    pub(crate) close: bool,
    /// Its last answer must not have a body, but a target that errs may have sent one behind it.
    pub(crate) dubious: bool,
    scanned: Scan,
    interims: u8,
    pub(crate) place: Place,
    /// The header that told the target whose connection it serves; it may serve no other.
    pub(crate) told: Option<Box<[u8]>>,
    /// The address it leads to, where that is one of a name's; it serves as long as the name has it.
    pub(crate) to: Option<SocketAddr>,
}

/// What the upstream said.
pub(crate) enum Said {
    /// An interim answer; more follows.
    Interim(u16),
    /// The final head.
    Final(ResponseHead),
}

impl H1Up {
    pub(crate) fn new(conn: Conn, place: Place) -> H1Up {
        let scanned = Scan::default();
        H1Up { conn, answered: false, close: false, dubious: false, scanned, interims: 0, place, told: None, to: None }
    }

    /// Makes it ready for the next call.
    pub(crate) fn renew(&mut self) {
        self.answered = false;
        self.close = false;
        self.dubious = false;
        self.scanned = Scan::default();
        self.interims = 0;
    }

    /// Queues a head that was written into `out`, and fixes the framing of the body.
    pub(crate) fn begin(&mut self, length: BodyLength) {
        self.conn.begin_body(length);
    }

    pub(crate) fn poll_drain(&mut self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<io::Result<()>> {
        self.conn.poll_drain(cx, pipe)
    }

    /// Reads the next head of the answer into the exchange.
    pub(crate) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        exchange: &mut Exchange,
        bounds: &Bounds,
        head_request: bool,
    ) -> Poll<Result<Said, Fault>> {
        let head = &mut exchange.response.head;
        loop {
            if self.conn.has_unread() {
                self.conn.take_unread(&mut head.buf);
            }
            if !head.buf.is_empty() {
                self.answered = true;
                head.fields.clear();
                if let Some(found) =
                    parse_response(&head.buf, bounds, &mut self.scanned, &mut head.fields, head_request)?
                {
                    self.scanned = Scan::default();
                    let rest = head.buf.get(found.len..).unwrap_or_default();
                    if !rest.is_empty() {
                        self.conn.put_unread(rest);
                    }
                    head.buf.truncate(found.len);
                    return Poll::Ready(self.said(found, exchange, head_request));
                }
            }
            if head.buf.capacity() - head.buf.len() < 1024 {
                head.buf.reserve(HEAD_READ);
            }
            match ready!(self.conn.stream.poll_read(cx, &mut head.buf, usize::MAX)) {
                Ok(0) => return Poll::Ready(Err(self.reset("the backend closed the connection before it answered"))),
                Ok(_) => {}
                Err(error) => {
                    return Poll::Ready(Err(self
                        .reset("the connection to the backend failed before it answered")
                        .cause(error)));
                }
            }
        }
    }

    fn said(&mut self, found: ResponseHead, exchange: &mut Exchange, head_request: bool) -> Result<Said, Fault> {
        exchange.response.status = found.status;
        if (100..200).contains(&found.status) && found.status != 101 {
            self.interims += 1;
            if self.interims > INTERIM_MOST {
                return Err(Fault::new(Reason::BadResponse, "the backend sent too many interim answers"));
            }
            return Ok(Said::Interim(found.status));
        }
        self.close = found.close;
        self.dubious = head_request || matches!(found.status, 204 | 304);
        self.conn.expect_body(found.body);
        Ok(Said::Final(found))
    }

    fn reset(&self, detail: &'static str) -> Fault {
        let fault = Fault::new(Reason::UpstreamReset, detail);
        if self.answered { fault } else { fault.retryable() }
    }
}
