//! The client's side of one exchange over HTTP/2: request body in, answer out.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use daemun_pipeline::{Exchange, Fault, FieldId, Head};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{Response, StatusCode};

use super::body::{Incoming, poll_send};
use super::fields::{Sender, map_of};
use crate::destination::upstream::grpc;
use crate::http1::parse::BodyLength;
use crate::http1::request::Parts;
use crate::pipe::{Buffers, Pipe};

/// The client's side of one exchange.
pub(crate) struct H2Down {
    body: Incoming,
    respond: SendResponse<Bytes>,
    /// There once the final head was queued.
    stream: Option<SendStream<Bytes>>,
    /// Whether the client waits for `100 (Continue)`.
    expects: bool,
    /// Whether the final head was queued.
    pub(crate) started: bool,
    /// The end of the answer was queued.
    ended: bool,
    /// The answer must not carry a body.
    bodyless: bool,
    /// The client was seen to give the stream up.
    abandoned: bool,
}

impl H2Down {
    pub(super) fn new(body: RecvStream, respond: SendResponse<Bytes>, to_head: bool, keep_underscores: bool) -> H2Down {
        H2Down {
            body: Incoming::new(body, Sender::Client { keep_underscores }),
            respond,
            stream: None,
            expects: false,
            started: false,
            ended: false,
            bodyless: to_head,
            abandoned: false,
        }
    }

    /// Takes what the head says about the body, and gives how it is passed on.
    pub(crate) fn expect(&mut self, parts: &Parts) -> BodyLength {
        self.body.expect(parts.length);
        self.expects = parts.expect_continue;
        match parts.length {
            Some(length) => BodyLength::Length(length),
            None if self.body.is_done() => BodyLength::None,
            None => BodyLength::Chunked,
        }
    }

    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
        buffers: &Buffers,
    ) -> Poll<Result<(), Fault>> {
        if self.expects && !self.started {
            self.expects = false;
            let mut answer = Response::new(());
            *answer.status_mut() = StatusCode::CONTINUE;
            // a stream that ended meanwhile says so below
            let _ = self.respond.send_informational(answer);
        }
        self.body.poll_fill(cx, pipe, buffers)
    }

    /// Passes an interim answer on.
    pub(crate) fn interim(&mut self, status: u16, head: &Head) {
        if self.started {
            return;
        }
        if let Ok(status) = StatusCode::from_u16(status) {
            let mut answer = Response::new(());
            *answer.status_mut() = status;
            *answer.headers_mut() = map_of(head, None);
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
        *answer.headers_mut() = map_of(&exchange.response.head, stated_length(exchange, length, none));
        self.ended = none || matches!(length, BodyLength::None | BodyLength::Length(0));
        // an error here is a stream that the client has given up, which the first write says
        self.stream = self.respond.send_response(answer, self.ended).ok();
    }

    /// Gives what the pipe holds to the connection. `Ready` when all of it was given.
    pub(crate) fn poll_drain(&mut self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<io::Result<()>> {
        if !self.started {
            return Poll::Ready(Ok(()));
        }
        match &mut self.stream {
            Some(stream) => poll_send(cx, stream, &mut self.ended, pipe),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    /// A gRPC call that broke off ends with trailers that say why; everything else is reset.
    pub(crate) fn fail(&mut self, exchange: &Exchange, fault: &Fault) {
        if !exchange.request.grpc || self.ended || fault.reason.status() == 499 {
            return;
        }
        if let Some(stream) = &mut self.stream {
            let mut head = Head::default();
            grpc::push_status(&mut head, fault);
            self.ended = stream.send_trailers(map_of(&head, None)).is_ok();
        }
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

    /// Ends the stream; one whose answer is not whole is reset, so that nobody takes it for whole. Says whether the client gave it up.
    pub(crate) fn finish(&mut self) -> bool {
        if !self.ended {
            self.respond.send_reset(h2::Reason::INTERNAL_ERROR);
        }
        self.abandoned || self.body.broken
    }
}

/// The length an answer states; one without a body still may say how long it would be (RFC 9110, section 8.6).
fn stated_length(exchange: &Exchange, length: BodyLength, none: bool) -> Option<u64> {
    let stated = if none { exchange.response.head.get_id(FieldId::ContentLength) } else { None };
    match (stated, length) {
        _ if exchange.response.status == 204 || exchange.request.grpc => None,
        (Some(stated), _) => std::str::from_utf8(stated).ok()?.parse().ok(),
        (None, BodyLength::Length(n)) => Some(n),
        (None, BodyLength::None | BodyLength::Chunked | BodyLength::UntilClose) => None,
    }
}
