//! Answers of the listeners: whole bodies, and the fields that keep browsers from making more of them than they are.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use hyper::body::{Body, Frame, SizeHint};

/// A body that is there as a whole.
pub(crate) struct Whole(Option<Bytes>);

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

/// An answer as the listeners give it.
pub(crate) type Answer = Response<Whole>;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
/// Plain text.
pub(crate) const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// An answer with the fields all of them have: nothing is kept, guessed, embedded or passed on.
pub(crate) fn with(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Answer {
    let body: Bytes = body.into();
    let mut answer = Response::new(Whole((!body.is_empty()).then_some(body)));
    *answer.status_mut() = status;
    let fields = answer.headers_mut();
    fields.insert(CONTENT_TYPE, content_type);
    for (name, value) in [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        fields.insert(name, HeaderValue::from_static(value));
    }
    answer
}

/// 200 with a JSON document.
pub(crate) fn json(body: Vec<u8>) -> Answer {
    with(StatusCode::OK, JSON, body)
}

/// A refusal as a problem document (RFC 9457). `detail` needs no escaping: it is never made of what the caller sent.
pub(crate) fn problem(status: StatusCode, detail: &str) -> Answer {
    let title = status.canonical_reason().unwrap_or("Error");
    let detail = serde_json::Value::from(detail);
    let body = format!("{{\"title\":\"{title}\",\"status\":{},\"detail\":{detail}}}\n", status.as_u16());
    with(status, PROBLEM, body)
}

/// 404.
pub(crate) fn not_found() -> Answer {
    problem(StatusCode::NOT_FOUND, "there is nothing here")
}

/// 405: what is there is for reading only.
pub(crate) fn read_only() -> Answer {
    only("only GET and HEAD are allowed here", "GET, HEAD")
}

/// 405.
pub(crate) fn only(detail: &'static str, methods: &'static str) -> Answer {
    let mut answer = problem(StatusCode::METHOD_NOT_ALLOWED, detail);
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    answer
}
