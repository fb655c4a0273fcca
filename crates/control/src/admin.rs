//! What this machine may know and do: single requests, the draining of targets, who may call, beside all that status shows. Decides by the request alone who asks; see `origin`.

use std::sync::Arc;

use daemun_dataplane::record::Recent;
use http::{Request, StatusCode};
use hyper::body::Body;

use crate::answer::{self, Answer};
use crate::origin::{Here, check};
use crate::{MOST_RECENT, Source, accounts, drain, status};

/// Requests that are told unless `limit` says otherwise.
const RECENT: usize = 50;
/// Bytes of an id that is looked for.
const MOST_ID: usize = 256;

/// The answer to any request.
pub(crate) async fn answer<B>(request: Request<B>, here: Here, source: &Arc<dyn Source>) -> Answer
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if let Err((status, detail)) = check(&request, here) {
        return answer::problem(status, detail);
    }
    if accounts::is_here(request.uri().path()) {
        return accounts::answer(request, source).await;
    }
    let (request, source) = (&request, &**source);
    if let Some(answer) = status::answer(request, source) {
        return answer;
    }
    if let Some(answer) = drain::answer(request, source) {
        return answer;
    }
    let Some(rest) = request.uri().path().strip_prefix("/requests") else { return answer::not_found() };
    let id = match rest.strip_prefix('/') {
        Some(id) if !id.is_empty() && !id.contains('/') => Some(id),
        None if rest.is_empty() => None,
        Some(_) | None => return answer::not_found(),
    };
    if !status::reads(request) {
        return answer::read_only();
    }
    match id {
        Some(id) => one(id, source).await,
        None => newest(request.uri().query().unwrap_or_default(), source).await,
    }
}

async fn newest(query: &str, source: &dyn Source) -> Answer {
    let Some(n) = limit(query) else {
        return answer::problem(StatusCode::BAD_REQUEST, "the query may hold `limit`, 1 to 1000");
    };
    let recent = source.recent(n).await;
    let mut body = b"{\"requests\":[".to_vec();
    for (position, recent) in recent.iter().take(n).enumerate() {
        if position > 0 {
            body.push(b',');
        }
        body.push(b'\n');
        recent.write_json(&mut body);
    }
    body.extend_from_slice(b"\n]}\n");
    answer::json(body)
}

async fn one(id: &str, source: &dyn Source) -> Answer {
    let Some(id) = decoded(id).filter(|id| id.len() <= MOST_ID) else {
        return answer::problem(StatusCode::BAD_REQUEST, "the id is malformed");
    };
    let found: Option<Recent> = source.find(&id).await;
    let Some(found) = found else {
        return answer::problem(StatusCode::NOT_FOUND, "no worker has a request with this id, or not any more");
    };
    let mut body = Vec::new();
    found.write_json(&mut body);
    body.push(b'\n');
    answer::json(body)
}

/// How many requests a query asks for; `None` when it is malformed.
fn limit(query: &str) -> Option<usize> {
    let mut limit = RECENT;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        limit = pair.strip_prefix("limit=")?.parse().ok().filter(|n| (1..=MOST_RECENT).contains(n))?;
    }
    Some(limit)
}

/// Undoes percent-encoding; `None` when it is malformed.
pub(crate) fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
            plain => plain,
        });
    }
    Some(out)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_bounded_and_nothing_else_is_understood() {
        assert_eq!(limit(""), Some(50));
        assert_eq!(limit("limit=1000"), Some(1000));
        for wrong in ["limit=0", "limit=1001", "limit=", "limit=-1", "limit=x", "n=5", "limit", "limit=5&x=1"] {
            assert_eq!(limit(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_id_is_decoded_or_refused() {
        assert_eq!(decoded("a%2Fb%41-").unwrap(), b"a/bA-");
        for wrong in ["%", "%4", "%zz", "a%"] {
            assert_eq!(decoded(wrong), None, "{wrong}");
        }
    }
}
