//! Takes a request's target and host apart, for HTTP/1 heads and HTTP/2 pseudo-fields alike, and refuses what two readers could take in
//! two ways. The reading of the path itself is the router's; neither sockets nor routes are known here.

use std::net::Ipv6Addr;

use daemun_pipeline::head::{is_token, is_value};
use daemun_pipeline::{Fault, FieldId, Method, Reason, Request, Span};
use memchr::{memchr, memchr2};

use super::parse::{Bounds, Flaw, METHOD_MAX, RequestHead, decimal, is_dropped, length_of};

/// Longest host, in bytes: the longest name DNS can hold.
const HOST_MAX: usize = 253;

const BAD_HOST: Flaw =
    Flaw::new(Reason::BadHost, "the host is not a name, an IPv4 address or an IPv6 address in brackets");
const BAD_PORT: Flaw = Flaw::new(Reason::BadHost, "the port of the host is not between 1 and 65535");
const HOSTS_DIFFER: Flaw = Flaw::new(Reason::BadHost, "`host` and the target name different hosts");
const NOT_SERVED: Flaw = Flaw::new(Reason::BadMethod, "`CONNECT` is not served");

/// What an HTTP/2 request says beside its pseudo-fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Length of the body, when `content-length` gives it.
    pub length: Option<u64>,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
}

/// Fills method, version, target, query, host and authority of a request from its head; `request.path` is the path as sent, for the
/// router to read. `request.head` must hold the bytes and the fields the head was read from. Allocates only where the buffer must grow:
/// for a host with upper case, or an absolute target without a path.
///
/// # Errors
/// [`Reason::BadMethod`] for `CONNECT`, [`Reason::BadPath`] for a target that is neither a path nor an absolute `http` or `https` one,
/// [`Reason::BadHost`] for a malformed host or one that differs from an absolute target's.
pub fn read_target(request: &mut Request, head: &RequestHead) -> Result<(), Fault> {
    request.method = head.method;
    request.method_span = head.method_span;
    request.version = head.version;
    request.grpc = false;
    target_and_host(request, head).map_err(Flaw::of_request)
}

fn target_and_host(request: &mut Request, head: &RequestHead) -> Result<(), Flaw> {
    if head.method == Method::Connect {
        return Err(NOT_SERVED);
    }
    let target = request.head.bytes(head.target);
    check_target(target)?;
    if target.first() == Some(&b'/') {
        set_target(request, head.target);
        return set_host(request, head.host);
    }
    let (authority, path) = absolute(target)?;
    let at = head.target.start();
    let authority = Span::new(at + authority.0, at + authority.1);
    let path = Span::new(at + path, at + target.len());
    if !head.host.is_empty() && !request.head.bytes(head.host).eq_ignore_ascii_case(request.head.bytes(authority)) {
        return Err(HOSTS_DIFFER);
    }
    let path = if request.head.bytes(path).first() == Some(&b'/') { path } else { with_slash(request, path) };
    set_target(request, path);
    set_host(request, authority)
}

/// Visible ASCII only, and no fragment, which is never sent.
fn check_target(target: &[u8]) -> Result<(), Flaw> {
    if target.iter().all(|&b| (0x21..0x7f).contains(&b) && b != b'#') {
        Ok(())
    } else {
        Err(Flaw::new(Reason::BadPath, "the target holds a `#` or a byte that must be percent-encoded"))
    }
}

/// Where the authority of an absolute target begins and ends, and where what follows it begins.
fn absolute(target: &[u8]) -> Result<((usize, usize), usize), Flaw> {
    let begins = |scheme: &[u8]| target.get(..scheme.len()).is_some_and(|t| t.eq_ignore_ascii_case(scheme));
    let start = match () {
        () if begins(b"http://") => 7,
        () if begins(b"https://") => 8,
        () => {
            return Err(Flaw::new(
                Reason::BadPath,
                "the target is neither a path nor an absolute `http` or `https` one",
            ));
        }
    };
    let rest = target.get(start..).unwrap_or_default();
    let end = start + memchr2(b'/', b'?', rest).unwrap_or(rest.len());
    if end == start {
        return Err(BAD_HOST);
    }
    Ok(((start, end), end))
}

/// The same target with the `/` it lacks.
fn with_slash(request: &mut Request, rest: Span) -> Span {
    let start = request.head.store(b"/").start();
    request.head.buf.extend_from_within(rest.range());
    Span::new(start, request.head.buf.len())
}

fn set_target(request: &mut Request, target: Span) {
    let start = target.start();
    let end = start + target.len();
    request.target = target;
    match memchr(b'?', request.head.bytes(target)) {
        Some(mark) => {
            request.path = Span::new(start, start + mark);
            request.query = Some(Span::new(start + mark + 1, end));
        }
        None => {
            request.path = target;
            request.query = None;
        }
    }
}

/// Sets authority and host; none at all is for HTTP/1.0 to lack.
fn set_host(request: &mut Request, authority: Span) -> Result<(), Flaw> {
    request.authority = authority;
    if authority.is_empty() {
        request.host = Span::default();
        return Ok(());
    }
    let Host { len, upper } = read_host(request.head.bytes(authority))?;
    let start = authority.start();
    request.host = Span::new(start, start + len);
    if upper {
        let lower = request.head.buf.len();
        request.head.buf.extend_from_within(start..start + len);
        request.head.buf.get_mut(lower..).unwrap_or_default().make_ascii_lowercase();
        request.host = Span::new(lower, lower + len);
    }
    Ok(())
}

/// The host within `host[:port]`.
struct Host {
    /// How many bytes it has, without port and without the dot of the root.
    len: usize,
    /// Whether a letter is in upper case.
    upper: bool,
}

/// What a byte is in a name of a host: letters, digits and `-_~` (RFC 3986, section 3.2.2, without what no name of DNS holds), the dots
/// between its labels, and what ends it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Name,
    Upper,
    Dot,
    End,
}

#[allow(clippy::indexing_slicing, reason = "evaluated while compiling")]
const PARTS: [Part; 256] = {
    let mut table = [Part::End; 256];
    let mut b = 0;
    while b < 256 {
        table[b] = match b as u8 {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => Part::Name,
            b'A'..=b'Z' => Part::Upper,
            b'.' => Part::Dot,
            _ => Part::End,
        };
        b += 1;
    }
    table
};

/// The host as it is matched; an IPv6 address keeps its brackets.
fn read_host(text: &[u8]) -> Result<Host, Flaw> {
    if text.first() == Some(&b'[') {
        let end = memchr(b']', text).ok_or(BAD_HOST)?;
        let address = text.get(1..end).and_then(|a| std::str::from_utf8(a).ok()).ok_or(BAD_HOST)?;
        address.parse::<Ipv6Addr>().map_err(|_| BAD_HOST)?;
        check_port(text.get(end + 1..).unwrap_or_default())?;
        return Ok(Host { len: end + 1, upper: address.bytes().any(|b| b.is_ascii_uppercase()) });
    }
    let (mut end, mut upper, mut last) = (0, false, Part::Dot);
    for &b in text {
        let part = PARTS.get(usize::from(b)).copied().unwrap_or(Part::End);
        match part {
            Part::Name => {}
            Part::Upper => upper = true,
            Part::Dot if last == Part::Dot => return Err(BAD_HOST),
            Part::Dot => {}
            Part::End => break,
        }
        last = part;
        end += 1;
    }
    check_port(text.get(end..).unwrap_or_default())?;
    // the dot of the root is no part of the name; nothing, or nothing before it, is none
    let len = if last == Part::Dot { end.saturating_sub(1) } else { end };
    if len == 0 || len > HOST_MAX { Err(BAD_HOST) } else { Ok(Host { len, upper }) }
}

/// Nothing, or a colon and a port.
fn check_port(text: &[u8]) -> Result<(), Flaw> {
    match text {
        [] => Ok(()),
        [b':', digits @ ..] => {
            let fits = digits.first() != Some(&b'0') && decimal(digits).is_some_and(|port| port <= 65535);
            if fits { Ok(()) } else { Err(BAD_PORT) }
        }
        _ => Err(BAD_HOST),
    }
}

/// Fills a request from the pseudo-fields of HTTP/2 as [`read_target`] does from a head, and holds its fields, each of which passed
/// [`check_h2_field`] and is in `request.head` already, to the same rules: one host, one length, a known expectation, identity and `_`
/// removed. `path` and `authority` are appended to the head's buffer.
///
/// # Errors
/// As [`read_target`]; further [`Reason::TargetTooLong`], [`Reason::TooManyFields`], [`Reason::BadExpectation`] and
/// [`Reason::BadRequest`] for a length that is repeated or no number.
pub fn read_parts(
    request: &mut Request,
    bounds: &Bounds,
    method: &[u8],
    authority: Option<&[u8]>,
    path: &[u8],
) -> Result<Parts, Fault> {
    parts(request, bounds, method, authority, path).map_err(Flaw::of_request)
}

fn parts(
    request: &mut Request,
    bounds: &Bounds,
    method: &[u8],
    authority: Option<&[u8]>,
    path: &[u8],
) -> Result<Parts, Flaw> {
    if method.is_empty() || method.len() > METHOD_MAX || !method.iter().all(|&b| is_token(b)) {
        return Err(Flaw::new(Reason::BadMethod, "the method is no token of at most 32 bytes"));
    }
    request.method = Method::of(method);
    if request.method == Method::Connect {
        return Err(NOT_SERVED);
    }
    if path.len() > bounds.target {
        return Err(Flaw::TARGET_TOO_LONG);
    }
    if request.head.fields.len() > bounds.fields {
        return Err(Flaw::TOO_MANY_FIELDS);
    }
    check_target(path)?;
    if path.first() != Some(&b'/') {
        return Err(Flaw::new(Reason::BadPath, "`:path` does not begin with `/`"));
    }
    let (parts, host) = h2_fields(request, bounds)?;
    let authority = match (authority, host) {
        (None, None) => return Err(Flaw::new(Reason::BadHost, "neither `:authority` nor `host` is given")),
        (Some(a), Some(host)) if !a.eq_ignore_ascii_case(request.head.bytes(host)) => return Err(HOSTS_DIFFER),
        (Some(a), _) => request.head.store(a),
        (None, Some(host)) => host,
    };
    if authority.is_empty() {
        return Err(BAD_HOST);
    }
    request.version = 20;
    request.method_span = request.head.store(method);
    let target = request.head.store(path);
    set_target(request, target);
    set_host(request, authority)?;
    request.grpc = request.head.get_id(FieldId::ContentType).is_some_and(is_grpc);
    Ok(parts)
}

/// Looks at every field once; the second result is where the value of `host` lies.
fn h2_fields(request: &mut Request, bounds: &Bounds) -> Result<(Parts, Option<Span>), Flaw> {
    let mut parts = Parts::default();
    let mut host = None;
    let buf = &request.head.buf;
    for field in &mut request.head.fields {
        let bytes = |span: Span| buf.get(span.range()).unwrap_or_default();
        if field.id == FieldId::Host {
            if host.replace(field.value).is_some() {
                return Err(Flaw::new(Reason::BadHost, "`host` is repeated"));
            }
        } else if field.id == FieldId::ContentLength {
            if parts.length.replace(length_of(buf, field)?).is_some() {
                return Err(Flaw::bad("`content-length` is repeated"));
            }
        } else if field.id == FieldId::Expect {
            if parts.expect_continue || !bytes(field.value).eq_ignore_ascii_case(b"100-continue") {
                return Err(Flaw::new(Reason::BadExpectation, "only `100-continue` can be expected"));
            }
            parts.expect_continue = true;
        } else if is_dropped(field.id, bytes(field.name), bounds.keep_underscores) {
            field.removed = true;
        }
    }
    Ok((parts, host))
}

/// Whether a media type is one of gRPC's own; gRPC-Web is another protocol.
fn is_grpc(media_type: &[u8]) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    media_type.get(..GRPC.len()).is_some_and(|start| start.eq_ignore_ascii_case(GRPC))
        && matches!(media_type.get(GRPC.len()), None | Some(b'+' | b';' | b' '))
}

/// Checks a field of an HTTP/2 request (no pseudo-field) and recognises its name (RFC 9113, sections 8.2.1 and 8.2.2).
///
/// # Errors
/// [`Reason::BadRequest`] for a name that is no lower-case token, one that belongs to an HTTP/1 connection, `te` other than `trailers`, and
/// a value with control bytes or with white space at an end.
pub fn check_h2_field(name: &[u8], value: &[u8]) -> Result<FieldId, Fault> {
    h2_field(name, value).map_err(Flaw::of_request)
}

fn h2_field(name: &[u8], value: &[u8]) -> Result<FieldId, Flaw> {
    if name.is_empty() || !name.iter().all(|&b| is_token(b) && !b.is_ascii_uppercase()) {
        return Err(Flaw::bad("a field name is not a lower-case token"));
    }
    let is_space = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t'));
    if is_space(value.first()) || is_space(value.last()) || !value.iter().all(|&b| is_value(b)) {
        return Err(Flaw::bad("a field value holds a control byte or begins or ends with white space"));
    }
    let id = FieldId::of(name);
    if matches!(
        id,
        FieldId::Connection
            | FieldId::ProxyConnection
            | FieldId::KeepAlive
            | FieldId::TransferEncoding
            | FieldId::Upgrade
            | FieldId::Http2Settings
    ) {
        return Err(Flaw::bad("a field of HTTP/1 connections is not part of HTTP/2"));
    }
    if id == FieldId::Te && !value.eq_ignore_ascii_case(b"trailers") {
        return Err(Flaw::bad("`te` is other than `trailers`"));
    }
    Ok(id)
}

#[cfg(test)]
#[path = "tests_request.rs"]
mod tests;
