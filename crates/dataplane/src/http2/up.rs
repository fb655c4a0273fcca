//! The upstream's side of one call over HTTP/2: call out, answer in.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use daemun_pipeline::{Exchange, Fault, FieldId, Method, Reason, Span};
use h2::SendStream;
use h2::client::ResponseFuture;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, Version};

use super::body::{Incoming, poll_send};
use super::fields::{Sender, read_answer};
use super::link::Hold;
use crate::destination::upstream::head;
use crate::http1::parse::{BodyLength, Bounds};
use crate::http1::response::ResponseHead;
use crate::http1::up::{INTERIM_MOST, Said};
use crate::pipe::{Buffers, Pipe};
use crate::snapshot::Rewrite;
use crate::snapshot::upstream::{Target, Upstream};

/// One call.
pub(crate) struct H2Up {
    hold: Hold,
    response: ResponseFuture,
    stream: SendStream<Bytes>,
    /// There once the final head came.
    body: Option<Incoming>,
    /// The end of the request was queued.
    ended: bool,
    interims: u8,
    /// The target said that it did nothing with the call.
    pub(crate) unprocessed: bool,
}

impl H2Up {
    /// Queues the head of a call.
    pub(crate) fn call(
        hold: Hold,
        exchange: &Exchange,
        upstream: &Upstream,
        target: &Target,
        rewrite: Option<&Rewrite>,
        framing: BodyLength,
    ) -> Result<H2Up, Fault> {
        let request = request(exchange, upstream, target, rewrite, framing)?;
        let ended = matches!(framing, BodyLength::None | BodyLength::Length(0));
        match hold.send(request, ended) {
            Ok((response, stream)) => {
                Ok(H2Up { hold, response, stream, body: None, ended, interims: 0, unprocessed: false })
            }
            Err(error) => {
                Err(Fault::new(Reason::ConnectFailed, "the backend takes no more calls").cause(error).retryable())
            }
        }
    }

    pub(crate) fn poll_drain(&mut self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<io::Result<()>> {
        poll_send(cx, &mut self.stream, &mut self.ended, pipe)
    }

    /// Whether the whole request was given to the connection.
    pub(crate) fn all_written(&self) -> bool {
        self.ended
    }

    /// Reads the next head of the answer into the exchange.
    pub(crate) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        exchange: &mut Exchange,
        bounds: &Bounds,
    ) -> Poll<Result<Said, Fault>> {
        if let Poll::Ready(Some(said)) = self.response.poll_informational(cx) {
            return Poll::Ready(
                said.map_err(|error| self.reset(&error)).and_then(|answer| self.interim(&answer, exchange, bounds)),
            );
        }
        let (parts, body) = match ready!(Pin::new(&mut self.response).poll(cx)) {
            Ok(answer) => answer.into_parts(),
            Err(error) => return Poll::Ready(Err(self.reset(&error))),
        };
        read_answer(&mut exchange.response.head, &parts.headers, bounds)?;
        let status = parts.status.as_u16();
        exchange.response.status = status;
        let mut body = Incoming::new(body, Sender::Upstream);
        let stated = exchange
            .response
            .head
            .get_id(FieldId::ContentLength)
            .and_then(|v| std::str::from_utf8(v).ok()?.parse().ok());
        let length = match stated {
            _ if exchange.request.method == Method::Head || matches!(status, 204 | 304) => {
                body.ignore();
                BodyLength::None
            }
            _ if body.is_done() => BodyLength::None,
            Some(length) => BodyLength::Length(length),
            None => BodyLength::Chunked,
        };
        self.body = Some(body);
        Poll::Ready(Ok(Said::Final(ResponseHead {
            len: 0,
            status,
            reason: Span::default(),
            version: 20,
            body: length,
            close: false,
            upgrade: None,
        })))
    }

    fn interim(
        &mut self,
        answer: &http::Response<()>,
        exchange: &mut Exchange,
        bounds: &Bounds,
    ) -> Result<Said, Fault> {
        let status = answer.status().as_u16();
        self.interims += 1;
        if self.interims > INTERIM_MOST || status == 101 {
            return Err(Fault::new(Reason::BadResponse, "the backend sent an interim answer that cannot be"));
        }
        read_answer(&mut exchange.response.head, answer.headers(), bounds)?;
        exchange.response.status = status;
        Ok(Said::Interim(status))
    }

    /// Reads bytes of the answer's body into the pipe.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
        buffers: &Buffers,
    ) -> Poll<Result<(), Fault>> {
        match &mut self.body {
            Some(body) => body.poll_fill(cx, pipe, buffers),
            None => Poll::Pending,
        }
    }

    /// The call took too long: when the target said nothing else meanwhile, its connection gets no other.
    pub(crate) fn doubt(&self) {
        self.hold.doubt();
    }

    /// What it means that the target, or the end of its connection, broke the call off before it answered.
    fn reset(&mut self, error: &h2::Error) -> Fault {
        let away = error.is_go_away() && error.is_remote();
        self.unprocessed = away || (error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM));
        if away || error.is_io() {
            self.hold.close();
        }
        let reason = if error.is_library() { Reason::BadResponse } else { Reason::UpstreamReset };
        let fault = Fault::new(reason, "the backend broke the call off before it answered").cause(error);
        if reason == Reason::UpstreamReset && self.interims == 0 { fault.retryable() } else { fault }
    }
}

/// The head of a call, made of the same parts as one of HTTP/1.
fn request(
    exchange: &Exchange,
    upstream: &Upstream,
    target: &Target,
    rewrite: Option<&Rewrite>,
    framing: BodyLength,
) -> Result<Request<()>, Fault> {
    let unfit = |_| Fault::new(Reason::BadRequest, "the request cannot be sent over HTTP/2");
    let mut path = Vec::with_capacity(exchange.request.target.len() + target.base_path.len());
    head::push_path(exchange, target, rewrite, &mut path);
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(if target.tls { Scheme::HTTPS } else { Scheme::HTTP });
    let authority = head::authority(exchange, upstream, target);
    parts.authority = Some(Authority::from_maybe_shared(Bytes::copy_from_slice(authority)).map_err(unfit)?);
    let path = Bytes::from(path);
    parts.path_and_query = Some(match PathAndQuery::from_maybe_shared(path.clone()) {
        Ok(path) => path,
        Err(_) => PathAndQuery::from_maybe_shared(encoded(&path)).map_err(unfit)?,
    });
    let mut request = Request::new(());
    *request.version_mut() = Version::HTTP_2;
    let method = exchange.request.head.bytes(exchange.request.method_span);
    *request.method_mut() =
        http::Method::from_bytes(method).map_err(|_| Fault::new(Reason::BadMethod, "the method is no token"))?;
    *request.uri_mut() =
        Uri::from_parts(parts).map_err(|_| Fault::new(Reason::BadPath, "the path cannot be sent over HTTP/2"))?;
    *request.headers_mut() = fields(exchange, framing);
    head::credentials(exchange, upstream, target, rewrite, request.headers_mut());
    Ok(request)
}

fn fields(exchange: &Exchange, framing: BodyLength) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(exchange.request.head.fields.len() + 10);
    head::fields(exchange, &mut map);
    if let BodyLength::Length(length) = framing {
        map.insert(http::header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    let accepts_trailers = exchange
        .request
        .head
        .values_id(FieldId::Te)
        .any(|value| value.split(|&b| b == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(b"trailers")));
    if accepts_trailers || exchange.request.grpc {
        map.insert(HeaderName::from_static("te"), HeaderValue::from_static("trailers"));
    }
    map
}

/// Percent-encodes what stands in a path or query of HTTP/1 here and there, but is no part of either (RFC 3986, appendix A).
fn encoded(path: &[u8]) -> Bytes {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = Vec::with_capacity(path.len() + 16);
    for &b in path {
        if b"\"<>\\^`{|}".contains(&b) {
            let digit = |n: u8| HEX.get(usize::from(n)).copied().unwrap_or(b'0');
            out.extend_from_slice(&[b'%', digit(b >> 4), digit(b & 15)]);
        } else {
            out.push(b);
        }
    }
    out.into()
}
