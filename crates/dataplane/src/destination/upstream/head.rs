//! The head of a call: what of the request goes upstream, what stays, what the gateway adds. The same for every protocol and for `explain`.

use std::net::IpAddr;

use daemun_config::model::HostRule;
use daemun_pipeline::head::Field;
use daemun_pipeline::{Exchange, Fault, FieldId, Head, Outgoing};

use crate::http1::parse::BodyLength;
use crate::respond::{push_copied, push_field, push_number};
use crate::snapshot::upstream::{Target, Upstream};
use crate::snapshot::{PathRewrite, Rewrite};

/// Where fields go: text of HTTP/1.1, or a map of HTTP/2.
pub(crate) trait FieldSink {
    /// Takes a field whose value is the parts one after another.
    fn field(&mut self, name: &[u8], parts: &[&[u8]]);

    /// Takes a field of a head as it is.
    fn copied(&mut self, head: &Head, field: &Field) {
        self.field(head.bytes(field.name), &[head.bytes(field.value)]);
    }
}

impl FieldSink for Vec<u8> {
    #[allow(clippy::inline_always, reason = "where it is called the names are known, and become a few stores")]
    #[inline(always)]
    fn field(&mut self, name: &[u8], parts: &[&[u8]]) {
        self.extend_from_slice(name);
        self.extend_from_slice(b": ");
        for part in parts {
            self.extend_from_slice(part);
        }
        self.extend_from_slice(b"\r\n");
    }

    fn copied(&mut self, head: &Head, field: &Field) {
        push_copied(head, field, self);
    }
}

/// Writes the whole head of a call over HTTP/1.1.
pub(crate) fn write(
    exchange: &Exchange,
    upstream: &Upstream,
    target: &Target,
    rewrite: Option<&Rewrite>,
    framing: BodyLength,
    upgrade: Option<&[u8]>,
    out: &mut Vec<u8>,
) {
    let request = &exchange.request;
    out.reserve(request.head.buf.len() + 512);
    out.extend_from_slice(request.head.bytes(request.method_span));
    out.push(b' ');
    push_path(exchange, target, rewrite, out);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    push_field(b"host", authority(exchange, upstream, target), out);
    fields(exchange, out);
    credentials(exchange, upstream, target, rewrite, out);
    match framing {
        BodyLength::Length(n) => {
            out.extend_from_slice(b"content-length: ");
            push_number(n, out);
            out.extend_from_slice(b"\r\n");
        }
        BodyLength::Chunked | BodyLength::UntilClose => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        BodyLength::None => {}
    }
    if let Some(protocol) = upgrade {
        out.extend_from_slice(b"connection: upgrade\r\n");
        push_field(b"upgrade", protocol, out);
    }
    out.extend_from_slice(b"\r\n");
}

/// What stands in `Host` or `:authority`.
pub(crate) fn authority<'a>(exchange: &'a Exchange, upstream: &'a Upstream, target: &'a Target) -> &'a [u8] {
    match &upstream.host {
        HostRule::Preserve => {
            let sent = exchange.request.head.bytes(exchange.request.authority);
            // an HTTP/1.0 client need not say whom it wants
            if sent.is_empty() { target.authority.as_bytes() } else { sent }
        }
        HostRule::Target => target.authority.as_bytes(),
        HostRule::Fixed(name) => name.as_bytes(),
    }
}

/// Whether the path that would be sent has one reading, and all that is computed can be; to be asked before anything is sent.
pub(crate) fn check_path(exchange: &Exchange, rewrite: Option<&Rewrite>) -> Result<(), Fault> {
    let Some(rewrite) = rewrite.filter(|_| other_resource(exchange).is_none()) else { return Ok(()) };
    for (_, value) in rewrite.query_set.iter().chain(&rewrite.query_add) {
        if value.literal().is_none() {
            value.push(exchange, &mut Vec::new())?;
        }
    }
    match &rewrite.path {
        Some(PathRewrite::Mixed { template, keep_slashes, keep_encoded_slash }) => {
            template.check_computed(exchange, *keep_encoded_slash)?;
            template.read(exchange, *keep_slashes).map(|_| ()).map_err(|error| crate::route::bad_path(&error))
        }
        Some(PathRewrite::Template(_) | PathRewrite::StripPrefix(_) | PathRewrite::ReplacePrefix(..)) | None => Ok(()),
    }
}

/// Appends path and query as they are sent.
pub(crate) fn push_path(exchange: &Exchange, target: &Target, rewrite: Option<&Rewrite>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(target.base_path.as_bytes());
    push_resource(exchange, rewrite, out);
    let parameter = exchange.credentials.as_ref().map_or(&[][..], |credentials| credentials.query());
    if !parameter.is_empty() {
        out.push(if out.get(start..).is_some_and(|path| path.contains(&b'?')) { b'&' } else { b'?' });
        out.extend_from_slice(parameter);
    }
}

/// Gives the fields that show the target who calls it to `sink`, where a policy has it so; they are of what is sent.
#[inline]
pub(crate) fn credentials(
    exchange: &Exchange,
    upstream: &Upstream,
    target: &Target,
    rewrite: Option<&Rewrite>,
    sink: &mut impl FieldSink,
) {
    let Some(credentials) = &exchange.credentials else { return };
    let mut path = Vec::new();
    push_path(exchange, target, rewrite, &mut path);
    let call = Outgoing {
        method: exchange.request.head.bytes(exchange.request.method_span),
        authority: authority(exchange, upstream, target),
        target: &path,
        wall: sent_at(exchange),
    };
    credentials.fields(&call, &mut |name, value| sink.field(name, &[value]));
}

/// Wall clock when the attempt is sent: the body or a token may have been waited for since the head came, and a connection since then.
fn sent_at(exchange: &Exchange) -> u64 {
    let times = &exchange.times;
    exchange.wall.saturating_add(times.called().max(times.connected).saturating_sub(times.start))
}

/// What is sent in place of the request's own path and query, where a policy chose it with the upstream.
#[inline]
fn other_resource(exchange: &Exchange) -> Option<&str> {
    exchange.elsewhere.as_ref().and_then(|elsewhere| elsewhere.resource.as_deref())
}

/// The same without what stands before it at a target.
pub(crate) fn push_resource(exchange: &Exchange, rewrite: Option<&Rewrite>, out: &mut Vec<u8>) {
    if let Some(resource) = other_resource(exchange) {
        out.extend_from_slice(resource.as_bytes());
        return;
    }
    let request = &exchange.request;
    let path = request.head.bytes(request.path);
    let Some(rewrite) = rewrite else {
        out.extend_from_slice(path);
        if let Some(query) = request.query {
            out.push(b'?');
            out.extend_from_slice(request.head.bytes(query));
        }
        return;
    };
    push_rewritten(exchange, rewrite, out);
    push_query(exchange, rewrite, out);
}

/// Appends the path that a rewrite makes.
pub(crate) fn push_rewritten(exchange: &Exchange, rewrite: &Rewrite, out: &mut Vec<u8>) {
    let path = exchange.request.head.bytes(exchange.request.path);
    match &rewrite.path {
        None => out.extend_from_slice(path),
        Some(PathRewrite::Template(template)) => template.push(exchange, out),
        Some(PathRewrite::Mixed { template, keep_slashes, .. }) => {
            // `check_path` has refused what cannot be read
            out.extend_from_slice(&template.read(exchange, *keep_slashes).unwrap_or_else(|_| b"/".to_vec()));
        }
        Some(PathRewrite::StripPrefix(prefix)) => push_stripped(path, prefix.trim_end_matches('/').as_bytes(), out),
        Some(PathRewrite::ReplacePrefix(from, to)) => push_replaced(path, from.as_bytes(), to.as_bytes(), out),
    }
}

/// What stands behind the prefix stays as it is: a path without a slash at its end gets none.
fn push_replaced(path: &[u8], from: &[u8], to: &[u8], out: &mut Vec<u8>) {
    match behind_prefix(path, from) {
        Some([]) if to.is_empty() => out.push(b'/'),
        Some(rest) => {
            out.extend_from_slice(to);
            out.extend_from_slice(rest);
        }
        // the route would not have been taken
        None => out.extend_from_slice(path),
    }
}

/// A prefix is stripped by whole segments only, each with its parameters; what is left always is a path.
fn push_stripped(path: &[u8], prefix: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(match behind_prefix(path, prefix) {
        Some([]) => b"/",
        Some(rest) => rest,
        None => path,
    });
}

/// What stands behind a prefix of whole segments: nothing, or a path.
fn behind_prefix<'a>(path: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let mut rest = path;
    // the empty piece before the first slash
    for segment in prefix.split(|&byte| byte == b'/').skip(1) {
        rest = rest.strip_prefix(b"/")?.strip_prefix(segment)?;
        if rest.first() == Some(&b';') {
            rest = rest.get(rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len())..)?;
        }
        if !matches!(rest, [] | [b'/', ..]) {
            return None;
        }
    }
    Some(rest)
}

/// Appends the query after its changes: parameters removed, set, added. Untouched parameters stay byte for byte.
fn push_query(exchange: &Exchange, rewrite: &Rewrite, out: &mut Vec<u8>) {
    let request = &exchange.request;
    let mut separator = b'?';
    let changes = !rewrite.query_remove.is_empty() || !rewrite.query_set.is_empty();
    if changes {
        for pair in request.query_text().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let name = pair.split_once('=').map_or(pair, |(name, _)| name);
            let named = |known: &str| daemun_pipeline::exchange::is_query_name(name, known);
            if rewrite.query_remove.iter().any(|n| named(n)) || rewrite.query_set.iter().any(|(n, _)| named(n)) {
                continue;
            }
            out.push(separator);
            out.extend_from_slice(pair.as_bytes());
            separator = b'&';
        }
    } else if let Some(query) = request.query {
        out.push(separator);
        out.extend_from_slice(request.head.bytes(query));
        separator = b'&';
    }
    for (name, value) in rewrite.query_set.iter().chain(&rewrite.query_add) {
        out.push(separator);
        push_query_text(name.as_bytes(), out);
        out.push(b'=');
        match value.literal() {
            Some(value) => push_query_text(value.as_bytes(), out),
            None => {
                // `check_path` has refused what cannot be computed
                let _ = value.put_all(exchange, out, &mut push_query_text);
            }
        }
        separator = b'&';
    }
}

/// Percent-encodes what may not stand in a query as it is (RFC 3986, section 3.4), and what would end a parameter.
fn push_query_text(text: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &b in text {
        if b.is_ascii_alphanumeric() || b"-._~!$'()*,;:@/?".contains(&b) {
            out.push(b);
        } else {
            let digit = |n: u8| HEX.get(usize::from(n)).copied().unwrap_or(b'0');
            out.extend_from_slice(&[b'%', digit(b >> 4), digit(b & 15)]);
        }
    }
}

/// Gives every field that goes upstream, but framing and host, to `sink`.
#[allow(clippy::wildcard_enum_match_arm, reason = "what is not named here is passed on")]
#[allow(clippy::too_many_lines, reason = "one rule per field, in one place")]
pub(crate) fn fields(exchange: &Exchange, sink: &mut impl FieldSink) {
    let head = &exchange.request.head;
    let trusted = exchange.client.trusted;
    let (mut kept_host, mut kept_proto, mut forwarded_for, mut forwarded) = (false, false, false, false);
    for field in &head.fields {
        if field.removed || field.id.is_hop_by_hop() {
            continue;
        }
        match field.id {
            FieldId::Host | FieldId::ContentLength | FieldId::Expect | FieldId::XRequestId | FieldId::Traceparent => {}
            FieldId::XForwardedFor if trusted && !forwarded_for && !exchange.client.peer_text.is_empty() => {
                forwarded_for = true;
                let before = all(head, field.id);
                sink.field(b"x-forwarded-for", &[&before, b", ", exchange.client.peer_text.as_bytes()]);
            }
            // a peer on a Unix socket has no address to add
            FieldId::XForwardedFor if trusted && exchange.client.peer_text.is_empty() => sink.copied(head, field),
            FieldId::Forwarded if trusted && !forwarded => {
                forwarded = true;
                push_forwarded(exchange, &[&all(head, field.id), b", "], sink);
            }
            FieldId::XForwardedHost if trusted && !kept_host => {
                kept_host = true;
                sink.field(b"x-forwarded-host", &[last(head, field.id)]);
            }
            FieldId::XForwardedProto if trusted && !kept_proto => {
                kept_proto = true;
                sink.field(b"x-forwarded-proto", &[last(head, field.id)]);
            }
            FieldId::XForwardedPort | FieldId::XRealIp | FieldId::ForwardedOther if trusted => sink.copied(head, field),
            FieldId::XForwardedFor
            | FieldId::Forwarded
            | FieldId::XForwardedHost
            | FieldId::XForwardedProto
            | FieldId::XForwardedPort
            | FieldId::XRealIp
            | FieldId::ForwardedOther => {}
            _ => sink.copied(head, field),
        }
    }
    if !forwarded_for && !exchange.client.peer_text.is_empty() {
        sink.field(b"x-forwarded-for", &[exchange.client.peer_text.as_bytes()]);
    }
    if !kept_proto {
        sink.field(b"x-forwarded-proto", &[scheme(exchange)]);
    }
    let asked = head.bytes(exchange.request.authority);
    if !kept_host && !asked.is_empty() {
        sink.field(b"x-forwarded-host", &[asked]);
    }
    if !forwarded {
        push_forwarded(exchange, &[], sink);
    }
    let version: &[u8] = match exchange.request.version {
        10 => b"1.0 daemun",
        20 => b"2 daemun",
        _ => b"1.1 daemun",
    };
    sink.field(b"via", &[version]);
    sink.field(b"x-request-id", &[&exchange.id]);
    sink.field(b"traceparent", &[&exchange.trace]);
}

/// The value written last, by the proxy next to the gateway; one before it could be the client's own.
fn last(head: &Head, id: FieldId) -> &[u8] {
    head.values_id(id).last().unwrap_or_default()
}

/// All values of a field that may come in several lines, as one (RFC 9110, section 5.3).
fn all(head: &Head, id: FieldId) -> Vec<u8> {
    head.values_id(id).collect::<Vec<_>>().join(&b", "[..])
}

fn scheme(exchange: &Exchange) -> &'static [u8] {
    if exchange.client.tls { b"https" } else { b"http" }
}

/// RFC 7239; an IPv6 address is quoted and bracketed, an unknown peer is `unknown`.
fn push_forwarded(exchange: &Exchange, before: &[&[u8]], sink: &mut impl FieldSink) {
    let peer = exchange.client.peer_text.as_bytes();
    let (open, close): (&[u8], &[u8]) = match exchange.client.peer {
        Some(IpAddr::V6(_)) => (b"for=\"[", b"]\""),
        Some(IpAddr::V4(_)) => (b"for=", b""),
        None => (b"for=unknown", b""),
    };
    let first = before.first().copied().unwrap_or_default();
    let second = before.get(1).copied().unwrap_or_default();
    let asked = exchange.request.head.bytes(exchange.request.authority);
    if asked.is_empty() {
        sink.field(b"forwarded", &[first, second, open, peer, close, b";proto=", scheme(exchange)]);
    } else {
        // the authority was checked to hold neither quotes nor backslashes
        sink.field(
            b"forwarded",
            &[first, second, open, peer, close, b";host=\"", asked, b"\";proto=", scheme(exchange)],
        );
    }
}
