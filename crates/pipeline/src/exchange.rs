//! One request and its answer, as policies see them. Knows nothing of sockets, framing or bodies.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use crate::certificate::TlsIdentity;
use crate::directory::{Consumer, ConsumerId, Directory};
use crate::elsewhere::Elsewhere;
use crate::head::{FieldId, Head};
use crate::identity::Identity;
use crate::outward::{Credentials, SignedBody};

/// Tells the upstream who calls; with what stands before the value.
pub const CONSUMER_NAME: &str = "X-Consumer-Name: ";
/// Tells the upstream what roles the caller has, separated by commas; with what stands before the value.
pub const CONSUMER_ROLES: &str = "X-Consumer-Roles: ";

/// A piece of a head's buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// From `start` up to `end`; heads are far smaller than 4 GiB.
    #[must_use]
    pub fn new(start: usize, end: usize) -> Span {
        Span { start: u32::try_from(start).unwrap_or(u32::MAX), end: u32::try_from(end).unwrap_or(u32::MAX) }
    }

    /// As a range of bytes.
    #[must_use]
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// First byte.
    #[must_use]
    pub fn start(self) -> usize {
        self.start as usize
    }

    /// The same piece of what was appended to a buffer behind so many bytes; heads are far smaller than 4 GiB.
    #[must_use]
    #[inline]
    pub(crate) fn behind(self, bytes: Span) -> Span {
        Span { start: self.start.wrapping_add(bytes.start), end: self.end.wrapping_add(bytes.start) }
    }

    /// What stands right before it: of so many bytes all but the last few.
    #[must_use]
    #[inline]
    pub(crate) fn before(self, bytes: usize, but: usize) -> Span {
        Span { start: self.start.wrapping_sub(bytes as u32), end: self.start.wrapping_sub(but as u32) }
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether it is empty.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// A request method; text of any is in [`Request::method_text`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each variant is the method of that name")]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
    Other,
}

impl Method {
    /// Recognises a method; methods are case-sensitive (RFC 9110, section 9.1).
    #[must_use]
    pub fn of(text: &[u8]) -> Method {
        match text {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            b"PUT" => Method::Put,
            b"DELETE" => Method::Delete,
            b"CONNECT" => Method::Connect,
            b"OPTIONS" => Method::Options,
            b"TRACE" => Method::Trace,
            b"PATCH" => Method::Patch,
            _ => Method::Other,
        }
    }

    /// Whether doing it twice is the same as doing it once (RFC 9110, section 9.2.2).
    #[must_use]
    pub fn is_idempotent(self) -> bool {
        match self {
            Method::Get | Method::Head | Method::Put | Method::Delete | Method::Options | Method::Trace => true,
            Method::Post | Method::Connect | Method::Patch | Method::Other => false,
        }
    }
}

/// What was asked.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Fields; its buffer also holds everything the spans below point into.
    pub head: Head,
    /// Method.
    pub method: Method,
    /// Method as sent.
    pub method_span: Span,
    /// Target as sent (path and query; of an absolute-form target, from its path on).
    pub target: Span,
    /// Path in its one reading, what is matched and forwarded.
    pub path: Span,
    /// Query without `?`; `None` when there was none.
    pub query: Option<Span>,
    /// Host in lower case, without port.
    pub host: Span,
    /// Host and port as sent.
    pub authority: Span,
    /// HTTP version times ten: 10, 11 or 20.
    pub version: u8,
    /// Whether the call is gRPC (`content-type: application/grpc…` over HTTP/2).
    pub grpc: bool,
    /// The whole body, where a policy needed it; what is here is what is sent.
    pub body: Option<Vec<u8>>,
}

impl Request {
    /// Method as sent.
    #[must_use]
    pub fn method_text(&self) -> &str {
        // the most common one is spared the check that it is text
        if self.method == Method::Get && self.method_span.len() == 3 { "GET" } else { self.text(self.method_span) }
    }

    /// Path in its one reading.
    #[must_use]
    pub fn path_text(&self) -> &str {
        self.text(self.path)
    }

    /// Path as routes match it: without the parameters of its segments, which most servers leave out as well.
    #[must_use]
    pub fn matched_path(&self) -> Cow<'_, str> {
        let path = self.path_text();
        match without_parameters(path.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(path),
            Cow::Owned(left) => Cow::Owned(String::from_utf8_lossy(&left).into_owned()),
        }
    }

    /// Query without `?`.
    #[must_use]
    pub fn query_text(&self) -> Option<&str> {
        self.query.map(|q| self.text(q))
    }

    /// Host in lower case, without port.
    #[must_use]
    pub fn host_text(&self) -> &str {
        self.text(self.host)
    }

    /// The text of a span; empty when it is not UTF-8.
    #[must_use]
    pub fn text(&self, span: Span) -> &str {
        std::str::from_utf8(self.head.bytes(span)).unwrap_or_default()
    }

    /// First value of a query parameter as sent, not decoded.
    #[must_use]
    pub fn query_value<'a>(&'a self, name: &str) -> Option<&'a str> {
        self.query_pairs().find(|(n, _)| *n == name).map(|(_, v)| v)
    }

    /// Query parameters as sent, not decoded.
    pub fn query_pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.query_text()
            .unwrap_or_default()
            .split('&')
            .filter(|p| !p.is_empty())
            .map(|p| p.split_once('=').unwrap_or((p, "")))
    }

    /// First value of a cookie.
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<&[u8]> {
        self.head.values_id(FieldId::Cookie).flat_map(|v| v.split(|&b| b == b';')).find_map(|pair| {
            let pair = pair.trim_ascii();
            let eq = pair.iter().position(|&b| b == b'=')?;
            let (n, v) = pair.split_at(eq);
            (n == name.as_bytes()).then(|| v.get(1..).unwrap_or_default())
        })
    }

    fn clear(&mut self) {
        self.head.clear();
        self.method = Method::Get;
        self.method_span = Span::default();
        self.target = Span::default();
        self.path = Span::default();
        self.query = None;
        self.host = Span::default();
        self.authority = Span::default();
        self.version = 11;
        self.grpc = false;
        self.body = None;
    }
}

/// A path or a part of it without the parameters of its segments: what follows the first `;` of each. Allocates only for one that has some.
#[must_use]
pub fn without_parameters(path: &[u8]) -> Cow<'_, [u8]> {
    if !path.contains(&b';') {
        return Cow::Borrowed(path);
    }
    let mut left = Vec::with_capacity(path.len());
    for (place, segment) in path.split(|&byte| byte == b'/').enumerate() {
        if place > 0 {
            left.push(b'/');
        }
        left.extend_from_slice(segment.split(|&byte| byte == b';').next().unwrap_or_default());
    }
    Cow::Owned(left)
}

/// What a parameter of a route took of a path, as it is matched: decoded, and without the parameters of its segments.
#[must_use]
pub fn taken(part: &[u8]) -> Cow<'_, [u8]> {
    match without_parameters(part) {
        Cow::Borrowed(part) => decode(part, false),
        Cow::Owned(part) => Cow::Owned(decode(&part, false).into_owned()),
    }
}

/// What percent-encoded text stands for. Allocates only for what is encoded. A `%` without two hexadecimal digits stands for itself; in a query `+` is a space.
#[must_use]
pub fn decode(text: &[u8], query: bool) -> Cow<'_, [u8]> {
    if !text.iter().any(|&byte| byte == b'%' || query && byte == b'+') {
        return Cow::Borrowed(text);
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match (byte, tail) {
            (b'+', _) if query => decoded.push(b' '),
            (b'%', [high, low, after @ ..]) => match digit(*high).zip(digit(*low)) {
                Some((high, low)) => {
                    decoded.push(high << 4 | low);
                    rest = after;
                }
                None => decoded.push(b'%'),
            },
            (byte, _) => decoded.push(*byte),
        }
    }
    Cow::Owned(decoded)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Whether the name of a query parameter as sent, decoded (`%41`, and `+` as a space), is `name`. No allocation.
#[must_use]
pub fn is_query_name(sent: &str, name: &str) -> bool {
    let mut rest = sent.as_bytes();
    let mut wanted = name.bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let hex =
            |at: usize| behind.get(at).and_then(|&b| char::from(b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
        let (byte, behind) = match (first, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => (high << 4 | low, behind.get(2..).unwrap_or_default()),
            (b'+', _, _) => (b' ', behind),
            _ => (first, behind),
        };
        if wanted.next() != Some(byte) {
            return false;
        }
        rest = behind;
    }
    wanted.next().is_none()
}

/// Whether a text from outside may be a request id: short, and nothing that needs quoting anywhere.
#[must_use]
pub fn is_request_id(id: &[u8]) -> bool {
    (1..=128).contains(&id.len()) && id.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.:/=+".contains(b))
}

/// What is answered.
#[derive(Debug, Default)]
pub struct Response {
    /// Status; 0 before there is one.
    pub status: u16,
    /// Fields.
    pub head: Head,
    /// The whole body, where a policy needed it; what is here is what is sent. Empty where a policy may have a need of one and there is none,
    /// and nothing put here is then sent.
    pub body: Option<Vec<u8>>,
    /// Whether the gateway made it itself, and not an upstream.
    pub own: bool,
}

/// Who is at the other end of the connection.
#[derive(Clone, Debug)]
pub struct Client {
    /// Peer of the connection; `None` on a Unix socket.
    pub peer: Option<IpAddr>,
    /// The caller's address: the peer, or what trusted proxies say.
    pub ip: IpAddr,
    /// The peer's address as text; empty on a Unix socket.
    pub peer_text: Rc<str>,
    /// Whether the peer is a trusted proxy.
    pub trusted: bool,
    /// Trusted proxies say of the caller what cannot be read; `ip` is the nearest of them, and not the caller's.
    pub unreadable: bool,
    /// Whether the connection is TLS.
    pub tls: bool,
    /// What the TLS handshake came to, where this gateway made one.
    pub handshake: Option<Rc<Handshake>>,
    /// Identity proven by a client certificate.
    pub identity: Option<Rc<TlsIdentity>>,
    /// Both ends of the client's connection, where an upstream is told of them.
    pub ends: Option<Rc<Ends>>,
}

/// Both ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The client's.
    pub from: SocketAddr,
    /// Where it connected to.
    pub to: SocketAddr,
}

impl Default for Client {
    fn default() -> Self {
        let ip = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
        Client {
            peer: None,
            ip,
            peer_text: Rc::from(""),
            trusted: false,
            unreadable: false,
            tls: false,
            handshake: None,
            identity: None,
            ends: None,
        }
    }
}

/// What a TLS handshake came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// Version of the protocol: `1.3`.
    pub version: &'static str,
    /// The name the client asked for, in lower case; empty where it asked for none.
    pub server_name: Box<str>,
}

/// When each step of an exchange was done, in nanoseconds of the gateway's clock; 0 when it was not reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// The request head was complete.
    pub start: u64,
    /// Policies had passed and the call was about to be sent.
    pub decided: u64,
    /// The last attempt of several began.
    pub again: u64,
    /// A connection to the target was there, when one had to be made.
    pub connected: u64,
    /// The answer's head was complete.
    pub answered: u64,
    /// The exchange ended.
    pub end: u64,
}

impl Times {
    /// When the attempt began that the other times are of.
    #[must_use]
    #[inline]
    pub fn called(&self) -> u64 {
        if self.again > 0 { self.again } else { self.decided }
    }

    /// Another attempt begins.
    pub fn begin_again(&mut self, now: u64) {
        (self.again, self.connected, self.answered) = (now, 0, 0);
    }
}

/// One request and its answer. Reused: everything in it keeps its memory.
#[derive(Debug, Default)]
pub struct Exchange {
    /// What was asked.
    pub request: Request,
    /// What is answered.
    pub response: Response,
    /// Who asks.
    pub client: Client,
    /// Which consumer of the configuration the caller proved to be.
    pub consumer: Option<ConsumerId>,
    /// Whether it is the one that calls without a credential are of: then nothing was proved.
    pub anonymous: bool,
    /// Who the caller is beyond that.
    pub identity: Option<Arc<Identity>>,
    /// Its name, where an authenticator stored it in the request's head; empty where it did not.
    pub consumer_text: Span,
    /// Known callers of the snapshot this exchange runs under.
    pub directory: Option<Arc<Directory>>,
    /// Path parameters of the route: name index in the route's pattern, and value.
    pub params: Vec<(u16, Span)>,
    /// Their names, where the configuration asks for parameters of whichever route was taken.
    pub param_names: Option<Arc<[String]>>,
    /// Request id, hexadecimal or as taken over from a trusted proxy.
    pub id: Vec<u8>,
    /// Whether the answer does not carry `x-request-id`.
    pub hides_id: bool,
    /// `traceparent` that is sent upstream (W3C Trace Context).
    pub trace: Vec<u8>,
    /// What tells the route from others, the same over reloads; 0 when there is none.
    pub route_key: u64,
    /// How long the destination waits before it does anything, nanoseconds.
    pub delay: u64,
    /// Where it goes in place of where its route ends. What keeps answers tells them apart by it.
    pub elsewhere: Option<Box<Elsewhere>>,
    /// Fields that another service has for the caller, for the policy that asked it to put into the answer.
    pub for_caller: Option<Arc<Head>>,
    /// What is remarked of an answer that is no failure, for the access log: by a policy that lets it pass, or of what it stands in for.
    pub remark: Option<Box<str>>,
    /// Bytes of the request's body, where a policy allows less than its route.
    pub body_limit: Option<u64>,
    /// What the request's body must be, where its caller signed that.
    pub signed_body: Option<Box<SignedBody>>,
    /// What the upstream is shown of who calls it.
    pub credentials: Option<Arc<dyn Credentials>>,
    /// Content coding agreed on with the caller; behind the way outward, the one that the answer's body is given.
    pub coding: Option<&'static str>,
    /// When each step was done.
    pub times: Times,
    /// Wall clock at `times.start`, nanoseconds since the Unix epoch.
    pub wall: u64,
}

impl Exchange {
    /// Now, as far as policies need it: the monotonic time at which the head was complete, in nanoseconds.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.times.start
    }

    /// Whether the caller came over TLS: what a trusted proxy says of the caller's own connection, else whether this one is.
    #[must_use]
    pub fn is_https(&self) -> bool {
        if !self.client.trusted {
            return self.client.tls;
        }
        // the value written last, by the proxy next to the gateway; one before it could be the caller's own
        let said = self.request.head.values_id(FieldId::XForwardedProto).last();
        let last = said.and_then(|said| said.rsplit(|&b| b == b',').next()).map(<[u8]>::trim_ascii);
        last.map_or(self.client.tls, |scheme| scheme.eq_ignore_ascii_case(b"https"))
    }

    /// A number drawn for this exchange, evenly among all; another for each `salt`. It comes out of the span id of its trace, which is
    /// random: no reader of it costs a generator.
    #[must_use]
    pub fn draw(&self, salt: u64) -> u64 {
        let span = self.trace.get(36..52).unwrap_or_default();
        let seed = span.iter().fold(salt, |seed, &b| (seed ^ u64::from(b)).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        // the finish of splitmix64, so that every bit depends on every other
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Notes a consumer as the caller, and tells the upstream; name and roles as they are sent. Once is enough.
    #[inline]
    pub fn note_consumer(&mut self, consumer: ConsumerId, name: &[u8], roles: &[u8]) {
        if self.consumer.replace(consumer).is_some() {
            return;
        }
        let head = &mut self.request.head;
        self.consumer_text = head.tell(CONSUMER_NAME, name);
        if !roles.is_empty() {
            head.tell(CONSUMER_ROLES, roles);
        }
    }

    /// Whether the caller proved who it is: it is known, and not because it showed nothing.
    #[must_use]
    #[inline]
    pub fn is_proven(&self) -> bool {
        self.is_known() && !self.anonymous
    }

    /// Whether it is known who calls.
    #[must_use]
    #[inline]
    pub fn is_known(&self) -> bool {
        self.consumer.is_some() || self.identity.is_some()
    }

    /// The caller, when an authenticator found a consumer of the configuration.
    #[must_use]
    pub fn consumer(&self) -> Option<&Consumer> {
        self.directory.as_ref()?.get(self.consumer?)
    }

    /// The name of the caller. Of very many, one is seldom at hand, so what an authenticator stored with the head is preferred.
    #[must_use]
    pub fn consumer_name(&self) -> Option<&str> {
        std::str::from_utf8(self.consumer_bytes()?).ok()
    }

    /// The bytes of that name, which costs less.
    #[must_use]
    #[inline]
    pub fn consumer_bytes(&self) -> Option<&[u8]> {
        if !self.is_known() {
            return None;
        }
        match self.request.head.bytes(self.consumer_text) {
            [] => match self.consumer() {
                Some(consumer) => Some(consumer.name.as_bytes()),
                None => self.identity.as_ref().map(|identity| identity.subject.as_bytes()),
            },
            name => Some(name),
        }
    }

    /// The caller's roles: those of its consumer, and those its credential says.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.listed(|consumer| &consumer.roles, |identity| &identity.roles)
    }

    /// The caller's groups, likewise.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.listed(|consumer| &consumer.groups, |identity| &identity.groups)
    }

    /// The caller's tags, likewise.
    pub fn tags(&self) -> impl Iterator<Item = &str> {
        self.listed(|consumer| &consumer.tags, |identity| &identity.tags)
    }

    /// What the caller's credential may be used for: what a token says, and else what its consumer may do.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        let scopes = match &self.identity {
            Some(identity) => Some(identity.scopes.as_slice()),
            None => self.consumer().map(|consumer| consumer.scopes.as_slice()),
        };
        scopes.unwrap_or_default().iter().map(String::as_str)
    }

    fn listed(
        &self,
        of_consumer: fn(&Consumer) -> &[String],
        of_identity: fn(&Identity) -> &[String],
    ) -> impl Iterator<Item = &str> {
        let first = self.consumer().map(of_consumer).unwrap_or_default();
        let second = self.identity.as_deref().map(of_identity).unwrap_or_default();
        first.iter().chain(second).map(String::as_str)
    }

    /// Whether the caller has a role.
    #[must_use]
    pub fn has_role(&self, role: &str) -> bool {
        self.roles().any(|known| known == role)
    }

    /// Whether the caller is of a group.
    #[must_use]
    pub fn has_group(&self, group: &str) -> bool {
        self.groups().any(|known| known == group)
    }

    /// Whether the caller has a tag.
    #[must_use]
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags().any(|known| known == tag)
    }

    /// Whether the caller's credential may be used for this.
    #[must_use]
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes().any(|known| known == scope)
    }

    /// What else the caller's credential says.
    #[must_use]
    pub fn claims(&self) -> Option<&serde_json::Map<String, serde_json::Value>> {
        self.identity.as_deref().map(|identity| &*identity.claims)
    }

    /// Lets go of every known caller but its own: one that lasts must not keep those of a configuration that is gone.
    pub fn forget_others(&mut self) {
        if self.directory.as_ref().is_none_or(|known| known.len() <= 1) {
            return;
        }
        let own = self.consumer().cloned();
        self.consumer = own.is_some().then_some(ConsumerId(0));
        self.directory = Some(Arc::new(Directory::new(own.into_iter().collect())));
    }

    /// Makes it ready for the next request of the same connection.
    pub fn reset(&mut self) {
        self.request.clear();
        self.response.status = 0;
        self.response.head.clear();
        self.response.body = None;
        self.response.own = false;
        self.consumer = None;
        self.anonymous = false;
        self.identity = None;
        self.consumer_text = Span::default();
        self.params.clear();
        self.param_names = None;
        self.id.clear();
        self.hides_id = false;
        self.trace.clear();
        self.route_key = 0;
        self.delay = 0;
        self.elsewhere = None;
        self.for_caller = None;
        self.remark = None;
        self.body_limit = None;
        self.signed_body = None;
        self.credentials = None;
        self.coding = None;
        self.times = Times::default();
        self.wall = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchange_that_lasts_keeps_its_own_caller_and_no_other() {
        let consumer = |name: &str| Consumer { name: name.into(), ..Consumer::default() };
        let all = Arc::new(Directory::new(["a", "b", "c"].map(consumer).into()));
        for (id, name) in [(Some(ConsumerId(1)), Some("b")), (None, None)] {
            let mut exchange = Exchange { consumer: id, directory: Some(Arc::clone(&all)), ..Exchange::default() };
            exchange.forget_others();
            assert_eq!(exchange.consumer().map(|own| own.name.as_str()), name);
            assert_eq!(Arc::strong_count(&all), 1);
        }
    }

    #[test]
    fn what_the_next_trusted_proxy_says_of_the_scheme_counts_and_nothing_else() {
        for (trusted, tls, fields, https) in [
            (false, true, &[][..], true),
            (false, false, &["https"], false),
            (false, true, &["http"], true),
            (true, true, &[], true),
            (true, true, &["http"], false),
            (true, false, &["HTTPS"], true),
            (true, false, &["https", "http"], false),
            (true, false, &["http, https"], true),
            (true, false, &["https,"], false),
            (true, false, &["wss"], false),
        ] {
            let mut exchange = Exchange::default();
            exchange.client.trusted = trusted;
            exchange.client.tls = tls;
            for field in fields {
                assert!(exchange.request.head.append("X-Forwarded-Proto", field.as_bytes()));
            }
            assert_eq!(exchange.is_https(), https, "{trusted} {tls} {fields:?}");
        }
    }

    #[test]
    fn draws_are_even_and_differ_by_salt() {
        let mut below = [0u32; 2];
        for n in 0..10_000u64 {
            let trace = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{n:016x}-01").into_bytes();
            let exchange = Exchange { trace, ..Exchange::default() };
            for (salt, below) in (0u64..).zip(&mut below) {
                *below += u32::from(exchange.draw(salt) < u64::MAX / 4);
            }
            assert_ne!(exchange.draw(0), exchange.draw(1));
        }
        assert!(below.iter().all(|below| (2300..2700).contains(below)), "{below:?}");
    }

    #[test]
    fn names_of_query_parameters_are_compared_decoded() {
        for (sent, name, same) in [
            ("tenant", "tenant", true),
            ("ten%61nt", "tenant", true),
            ("a+b", "a b", true),
            ("tenan", "tenant", false),
            ("%zz", "%zz", true),
            ("x%6", "x%6", true),
            ("tenantx", "tenant", false),
        ] {
            assert_eq!(is_query_name(sent, name), same, "{sent} {name}");
        }
    }
}
