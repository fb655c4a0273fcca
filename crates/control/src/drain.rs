//! `PUT` and `DELETE /upstreams/{upstream}/targets/{target}/drain`: no new call for a target from now on, or again some. Whoever asks was
//! let in before; see `origin`.

use daemun_dataplane::Unknown;
use http::{Method, Request, StatusCode};
use hyper::body::Body;

use crate::Source;
use crate::admin::decoded;
use crate::answer::{self, Answer};

/// The answer to a request for the drain of a target; `None` for any other path.
pub(crate) fn answer<B: Body>(request: &Request<B>, source: &dyn Source) -> Option<Answer> {
    let inner = request.uri().path().strip_prefix("/upstreams/")?.strip_suffix("/drain")?;
    let (upstream, target) = inner.split_once("/targets/")?;
    let on = match *request.method() {
        Method::PUT => true,
        Method::DELETE => false,
        _ => return Some(answer::only("only PUT and DELETE are allowed here", "PUT, DELETE")),
    };
    let bad = |detail| Some(answer::problem(StatusCode::BAD_REQUEST, detail));
    // whoever says more than that expects it to matter
    if request.uri().query().is_some() || !request.body().is_end_stream() {
        return bad("a drain takes neither query nor body: PUT begins it, DELETE ends it");
    }
    let text = |part: &str| decoded(part).and_then(|bytes| String::from_utf8(bytes).ok());
    let (Some(upstream), Some(name)) = (text(upstream), text(target)) else {
        return bad("the percent-encoding is malformed");
    };
    if target.contains('/') {
        return bad("the target's URL must be percent-encoded, with %2F for each slash");
    }
    let missing = |detail| Some(answer::problem(StatusCode::NOT_FOUND, detail));
    match source.drain(&upstream, &name, on) {
        Ok(target) => Some(answer::json(format!("{:#}\n", target.to_json()).into_bytes())),
        Err(Unknown::Upstream) => missing("there is no upstream of this name; GET /upstreams lists them"),
        Err(Unknown::Target) => missing("the upstream has no target of this URL; GET /upstreams lists them"),
    }
}
