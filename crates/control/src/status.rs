//! What anybody may know: metrics, how upstreams stand, whether the process lives, whether it serves. Knows nothing of single requests.

use daemun_dataplane::UpstreamStatus;
use daemun_dataplane::record::METRICS_CONTENT_TYPE;
use http::{HeaderValue, Method, Request, StatusCode};

use crate::Source;
use crate::answer::{self, Answer, TEXT};

/// Whether the method only reads.
pub(crate) fn reads<B>(request: &Request<B>) -> bool {
    *request.method() == Method::GET || *request.method() == Method::HEAD
}

/// The answer to a request for one of the status paths; `None` for any other path.
pub(crate) fn answer<B>(request: &Request<B>, source: &dyn Source) -> Option<Answer> {
    let make: fn(&dyn Source) -> Answer = match request.uri().path() {
        "/metrics" => metrics,
        "/upstreams" => upstreams,
        "/healthz" => |_| answer::with(StatusCode::OK, TEXT, "ok\n"),
        "/readyz" => ready,
        _ => return None,
    };
    Some(if reads(request) { make(source) } else { answer::read_only() })
}

fn metrics(source: &dyn Source) -> Answer {
    answer::with(StatusCode::OK, HeaderValue::from_static(METRICS_CONTENT_TYPE), source.metrics())
}

fn upstreams(source: &dyn Source) -> Answer {
    answer::json(UpstreamStatus::list(&source.upstreams()).into_bytes())
}

fn ready(source: &dyn Source) -> Answer {
    if source.ready() {
        answer::with(StatusCode::OK, TEXT, "ready\n")
    } else {
        answer::with(StatusCode::SERVICE_UNAVAILABLE, TEXT, "not ready\n")
    }
}
