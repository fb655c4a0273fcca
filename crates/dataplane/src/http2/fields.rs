//! Heads between the crate's maps and the gateway's indexed buffers, both ways. Decides nothing about routes or sockets.

use bytes::Bytes;
use daemun_pipeline::head::Field;
use daemun_pipeline::{Fault, FieldId, Head, Reason, Request, Span};
use http::header::{CONTENT_LENGTH, COOKIE, HeaderMap, HeaderName, HeaderValue};
use http::request;

use crate::destination::upstream::head::FieldSink;
use crate::http1::chunked::{TrailerUse, trailer_use};
use crate::http1::parse::Bounds;
use crate::http1::request::{Parts, check_h2_field, read_parts};
use crate::respond::push_number;

/// Digits of a length at most.
const MAX_DIGITS: usize = 20;
/// Trailer fields a message may have, as over HTTP/1.
const TRAILER_FIELDS_MAX: usize = 64;

/// Fills a request from a head of HTTP/2, by the same rules as one of HTTP/1.
pub(super) fn read_request(request: &mut Request, from: &request::Parts, bounds: &Bounds) -> Result<Parts, Fault> {
    let crumbs = from.headers.get_all(COOKIE).iter().count();
    let mut cookie_read = false;
    for (name, value) in &from.headers {
        let id = check_h2_field(name.as_str().as_bytes(), value.as_bytes())?;
        if id == FieldId::Cookie && crumbs > 1 {
            if !cookie_read {
                cookie_read = true;
                push_cookie(&mut request.head, &from.headers);
            }
            continue;
        }
        push(&mut request.head, name.as_str().as_bytes(), value.as_bytes(), id);
    }
    if from.uri.authority().is_some() && from.uri.scheme().is_none() {
        return Err(Fault::new(Reason::BadRequest, "`:scheme` is empty"));
    }
    let authority = from.uri.authority().map(|authority| authority.as_str().as_bytes());
    let path = from.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    read_parts(request, bounds, from.method.as_str().as_bytes(), authority, path.as_bytes())
}

/// Several `cookie` fields are one for everybody else (RFC 9113, section 8.2.3).
fn push_cookie(head: &mut Head, map: &HeaderMap) {
    let name = head.store(b"cookie");
    let start = head.buf.len();
    for value in map.get_all(COOKIE) {
        if head.buf.len() > start {
            head.buf.extend_from_slice(b"; ");
        }
        head.buf.extend_from_slice(value.as_bytes());
    }
    let value = Span::new(start, head.buf.len());
    head.fields.push(Field { name, value, id: FieldId::Cookie, removed: false });
}

fn push(head: &mut Head, name: &[u8], value: &[u8], id: FieldId) {
    let name = head.store(name);
    let value = head.store(value);
    head.fields.push(Field { name, value, id, removed: false });
}

/// Whose trailers are read, and so what is done about bad ones.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sender {
    /// A client, whose names with `_` may be kept.
    Client { keep_underscores: bool },
    /// A target.
    Upstream,
}

/// Reads the fields after a body; `None` when none of them is passed on.
pub(super) fn read_trailers(map: &HeaderMap, sender: Sender) -> Result<Option<Box<Head>>, Fault> {
    let (reason, from_client, keep_underscores) = match sender {
        Sender::Client { keep_underscores } => (Reason::BadRequest, true, keep_underscores),
        Sender::Upstream => (Reason::BodyBroken, false, true),
    };
    if map.len() > TRAILER_FIELDS_MAX {
        return Err(Fault::new(reason, "there are more than 64 trailer fields"));
    }
    let mut head = Box::<Head>::default();
    for (name, value) in map {
        let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
        let id = check_h2_field(name, value).map_err(|fault| Fault { reason, ..fault })?;
        match trailer_use(id, name, from_client, keep_underscores) {
            TrailerUse::Pass => push(&mut head, name, value, id),
            TrailerUse::Drop => {}
            TrailerUse::Refuse => {
                return Err(Fault::new(reason, "a field that must come before the body comes after it"));
            }
        }
    }
    Ok((!head.fields.is_empty()).then_some(head))
}

/// Fills a head from the map of an answer; values that HTTP/1 could not carry are refused.
pub(super) fn read_answer(head: &mut Head, map: &HeaderMap, bounds: &Bounds) -> Result<(), Fault> {
    if map.len() > bounds.fields {
        return Err(Fault::new(Reason::BadResponse, "there are more fields than allowed"));
    }
    head.clear();
    for (name, value) in map {
        let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
        let id = check_h2_field(name, value).map_err(|fault| Fault { reason: Reason::BadResponse, ..fault })?;
        push(head, name, value, id);
    }
    Ok(())
}

/// The fields of a head that may go out over HTTP/2: neither framing nor those of one connection, but the length, if one is stated. Names
/// become lower case.
pub(super) fn map_of(head: &Head, length: Option<u64>) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(head.fields.len() + 1);
    let mut text = Vec::with_capacity(head.buf.len() + MAX_DIGITS);
    text.extend_from_slice(&head.buf);
    if let Some(length) = length {
        push_number(length, &mut text);
    }
    let text = Bytes::from(text); // all values share it
    if length.is_some()
        && let Ok(value) = HeaderValue::from_maybe_shared(text.slice(head.buf.len()..))
    {
        map.insert(CONTENT_LENGTH, value);
    }
    for field in &head.fields {
        if field.removed || field.id.is_hop_by_hop() || field.id == FieldId::ContentLength {
            continue;
        }
        let range = field.value.range();
        if range.end > text.len() {
            continue;
        }
        let value = HeaderValue::from_maybe_shared(text.slice(range));
        if let (Some(name), Ok(mut value)) = (name_of(field.id, head.bytes(field.name)), value) {
            value.set_sensitive(is_fleeting(field.id));
            // bounded far below what a map holds
            let _ = map.try_append(name, value);
        }
    }
    map
}

/// A map as the sink of an upstream call's fields.
impl FieldSink for HeaderMap {
    fn field(&mut self, name: &[u8], parts: &[&[u8]]) {
        let value = match parts {
            [one] => HeaderValue::from_bytes(one),
            parts => HeaderValue::from_maybe_shared(Bytes::from(parts.concat())),
        };
        let id = FieldId::of(name);
        if let (Some(name), Ok(mut value)) = (name_of(id, name), value) {
            value.set_sensitive(is_fleeting(id));
            let _ = self.try_append(name, value);
        }
    }
}

/// Whether a value seldom comes again. Such ones are kept out of the tables of header compression (RFC 7541, section 6.2.3), which they
/// would fill, and which would be searched through all of them.
fn is_fleeting(id: FieldId) -> bool {
    matches!(id, FieldId::XRequestId | FieldId::Traceparent | FieldId::Date)
}

/// The name in lower case; common ones without reading them again.
#[allow(clippy::wildcard_enum_match_arm, reason = "every name is right as it is read; a few are spared the reading")]
fn name_of(id: FieldId, name: &[u8]) -> Option<HeaderName> {
    Some(match id {
        FieldId::XRequestId => HeaderName::from_static("x-request-id"),
        FieldId::ContentType => http::header::CONTENT_TYPE,
        FieldId::Date => http::header::DATE,
        FieldId::Server => http::header::SERVER,
        FieldId::Via => http::header::VIA,
        FieldId::Forwarded => http::header::FORWARDED,
        FieldId::XForwardedFor => HeaderName::from_static("x-forwarded-for"),
        FieldId::XForwardedHost => HeaderName::from_static("x-forwarded-host"),
        FieldId::XForwardedProto => HeaderName::from_static("x-forwarded-proto"),
        FieldId::Traceparent => HeaderName::from_static("traceparent"),
        FieldId::Cookie => COOKIE,
        _ => HeaderName::from_bytes(name).ok()?,
    })
}
