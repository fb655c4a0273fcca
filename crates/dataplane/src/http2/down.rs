//! The client's side of one exchange over HTTP/2: request body in, answer out, under the stream's flow control.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use daemun_pipeline::{Exchange, Fault, FieldId, Head, Method, Reason};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{Response, StatusCode};

use super::fields::{Sender, map_of, read_trailers};
use crate::http1::parse::BodyLength;
use crate::http1::request::Parts;
use crate::pipe::{Buffers, Pipe};
use crate::respond::push_number;

/// How far the request's body was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Data,
    /// All bytes of the stated length are here, but not yet the end that proves it.
    Proof,
    Trailers,
    Done,
}

/// The client's side of one exchange.
pub(crate) struct H2Down {
    body: RecvStream,
    respond: SendResponse<Bytes>,
    /// There once the final head was queued.
    stream: Option<SendStream<Bytes>>,
    /// Received, not yet in a pipe; its window is not yet given back.
    held: Bytes,
    /// The last bytes of the stated length, until the end of the stream proves it.
    last: Bytes,
    /// Bytes missing to the stated length.
    left: Option<u64>,
    stage: Stage,
    /// Whether the client waits for `100 (Continue)`.
    expects: bool,
    /// Whether the final head was queued.
    pub(crate) started: bool,
    /// The end of the answer was queued.
    ended: bool,
    /// The answer must not carry a body.
    bodyless: bool,
    keep_underscores: bool,
    /// The client was seen to give the stream up.
    abandoned: bool,
}

impl H2Down {
    pub(super) fn new(body: RecvStream, respond: SendResponse<Bytes>, to_head: bool, keep_underscores: bool) -> H2Down {
        let stage = if body.is_end_stream() { Stage::Done } else { Stage::Data };
        H2Down {
            body,
            respond,
            stream: None,
            held: Bytes::new(),
            last: Bytes::new(),
            left: None,
            stage,
            expects: false,
            started: false,
            ended: false,
            bodyless: to_head,
            keep_underscores,
            abandoned: false,
        }
    }

    /// Whether the request has no body at all.
    pub(super) fn is_bodyless(&self) -> bool {
        self.stage == Stage::Done
    }

    /// The request says how long its body is and whether it waits for `100 (Continue)`.
    pub(super) fn expect(&mut self, parts: &Parts) {
        self.left = parts.length;
        self.expects = parts.expect_continue;
    }

    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>, pipe: &mut Pipe, buffers: &Buffers) -> Poll<Result<(), Fault>> {
        if self.expects && !self.started {
            self.expects = false;
            let mut answer = Response::new(());
            *answer.status_mut() = StatusCode::CONTINUE;
            // a stream that ended meanwhile says so below
            let _ = self.respond.send_informational(answer);
        }
        loop {
            if !self.held.is_empty() {
                let Some(space) = pipe.space(buffers) else { return Poll::Pending };
                let n = self.held.len().min(space.capacity() - space.len());
                space.extend_from_slice(self.held.get(..n).unwrap_or_default());
                pipe.added(n);
                self.held.advance(n);
                // the client may send as much again, now that it is in the pipe
                let _ = self.body.flow_control().release_capacity(n);
                return Poll::Ready(Ok(()));
            }
            match self.stage {
                Stage::Data => match self.body.poll_data(cx) {
                    Poll::Ready(Some(Ok(data))) => self.take(data),
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(self.gave_up(&error))),
                    Poll::Ready(None) => self.stage = Stage::Trailers,
                    Poll::Pending => {
                        pipe.release(buffers);
                        return Poll::Pending;
                    }
                },
                Stage::Proof => match ready!(self.body.poll_data(cx)) {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Poll::Ready(Err(self.gave_up(&error))),
                    None => {
                        self.held = std::mem::take(&mut self.last);
                        self.stage = Stage::Trailers;
                    }
                },
                Stage::Trailers => {
                    match ready!(self.body.poll_trailers(cx)) {
                        Ok(Some(map)) => {
                            let sender = Sender::Client { keep_underscores: self.keep_underscores };
                            pipe.trailers = read_trailers(&map, sender)?;
                        }
                        Ok(None) => {}
                        Err(error) => return Poll::Ready(Err(self.gave_up(&error))),
                    }
                    self.stage = Stage::Done;
                }
                Stage::Done => {
                    pipe.eof = true;
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// A body that turns out longer than its length must not have gone out whole before: an upstream of HTTP/1 would take it for a good one.
    fn take(&mut self, data: Bytes) {
        let Some(left) = &mut self.left else {
            self.held = data;
            return;
        };
        *left = left.saturating_sub(data.len() as u64);
        if *left == 0 && !self.body.is_end_stream() {
            self.last = data;
            self.stage = Stage::Proof;
        } else {
            self.held = data;
        }
    }

    /// Passes an interim answer on.
    pub(crate) fn interim(&mut self, status: u16, head: &Head) {
        if self.started {
            return;
        }
        if let Ok(status) = StatusCode::from_u16(status) {
            let mut answer = Response::new(());
            *answer.status_mut() = status;
            *answer.headers_mut() = map_of(head);
            // a stream that ended meanwhile is noticed where it is read or written
            let _ = self.respond.send_informational(answer);
        }
    }

    /// Queues the head of the answer.
    pub(crate) fn start(&mut self, exchange: &Exchange, length: BodyLength) {
        let status = exchange.response.status;
        self.started = true;
        let none = self.bodyless || status == 204 || status == 304;
        let mut answer = Response::new(());
        *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
        *answer.headers_mut() = map_of(&exchange.response.head);
        if let Some(length) = stated_length(exchange, length, none) {
            let mut digits = Vec::with_capacity(20);
            push_number(length, &mut digits);
            if let Ok(value) = http::HeaderValue::from_maybe_shared(Bytes::from(digits)) {
                answer.headers_mut().insert(http::header::CONTENT_LENGTH, value);
            }
        }
        self.ended = none || matches!(length, BodyLength::None | BodyLength::Length(0));
        // an error here is a stream that the client has given up, which the first write says
        self.stream = self.respond.send_response(answer, self.ended).ok();
    }

    /// Gives what the pipe holds to the connection, as far as the windows allow. `Ready` when all of it was given.
    pub(crate) fn poll_drain(&mut self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<io::Result<()>> {
        if !self.started {
            return Poll::Ready(Ok(()));
        }
        let Some(stream) = &mut self.stream else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
        while !self.ended {
            let data = pipe.data();
            if data.is_empty() {
                if pipe.eof {
                    match pipe.trailers.take() {
                        Some(trailers) => stream.send_trailers(map_of(&trailers)).map_err(broken)?,
                        None => stream.send_data(Bytes::new(), true).map_err(broken)?,
                    }
                    self.ended = true;
                }
                return Poll::Ready(Ok(()));
            }
            let n = ready!(poll_window(cx, stream, data.len()))?;
            let last = n == data.len() && pipe.eof && pipe.trailers.is_none();
            let piece = Bytes::copy_from_slice(data.get(..n).unwrap_or_default());
            stream.send_data(piece, last).map_err(broken)?;
            pipe.consume(n);
            self.ended = last;
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when the client gave the stream up, or its connection ended.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.ended {
            return Poll::Pending;
        }
        let _ = ready!(match &mut self.stream {
            Some(stream) => stream.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        });
        self.abandoned = true;
        Poll::Ready(())
    }

    /// A client that reset its stream, broke the protocol's rules or left.
    fn gave_up(&mut self, error: &h2::Error) -> Fault {
        self.abandoned = true;
        Fault::new(Reason::ClientGone, "the client gave the request up").cause(error)
    }

    /// Ends the stream; one whose answer is not whole is reset, so that nobody takes it for whole. Says whether the client gave it up.
    pub(super) fn finish(mut self) -> bool {
        if !self.ended {
            self.respond.send_reset(h2::Reason::INTERNAL_ERROR);
        }
        self.abandoned
    }
}

/// How many bytes may be sent now, at most `wanted`.
pub(super) fn poll_window(cx: &mut Context<'_>, stream: &mut SendStream<Bytes>, wanted: usize) -> Poll<io::Result<usize>> {
    stream.reserve_capacity(wanted);
    let mut window = stream.capacity();
    while window == 0 {
        match ready!(stream.poll_capacity(cx)) {
            Some(Ok(n)) => window = n,
            Some(Err(error)) => return Poll::Ready(Err(broken(error))),
            None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }
    Poll::Ready(Ok(window.min(wanted)))
}

/// An error of the protocol as one of a stream of bytes.
pub(super) fn broken(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, error)
}

/// The length an answer states; one without a body still may say how long it would be (RFC 9110, section 8.6).
fn stated_length(exchange: &Exchange, length: BodyLength, none: bool) -> Option<u64> {
    let stated = if none { exchange.response.head.get_id(FieldId::ContentLength) } else { None };
    match (stated, length) {
        _ if exchange.response.status == 204 => None,
        (Some(stated), _) => std::str::from_utf8(stated).ok()?.parse().ok(),
        (None, BodyLength::Length(n)) => Some(n),
        (None, BodyLength::None | BodyLength::Chunked | BodyLength::UntilClose) => None,
    }
}

/// Whether an answer to this method has no body.
pub(super) fn is_to_head(method: &http::Method) -> bool {
    Method::of(method.as_str().as_bytes()) == Method::Head
}
