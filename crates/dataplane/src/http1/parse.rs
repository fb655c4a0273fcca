//! Reads the head of a request, and refuses every spelling that two readers could take in two ways. What the response reader needs as well
//! (scanning, `Connection`, lengths, codings) is here too. Knows no socket and no clock.

use daemun_pipeline::head::{Field, is_token};
use daemun_pipeline::{Fault, FieldId, Method, Reason, Span};
use memchr::{memchr, memchr2};

use super::tokens::{RequestLine, field_lines, request_line};

/// Longest method, in bytes; the longest registered one has 17.
pub(super) const METHOD_MAX: usize = 32;
/// Names in all `Connection` fields of a head together, the known options not counted.
const CONNECTION_NAMES_MAX: usize = 16;
/// What stands behind the target of a request line: a space and the version.
const VERSION_LEN: usize = " HTTP/1.1".len();

/// How large a head may be, and what of it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of the whole head, its empty line included.
    pub head: usize,
    /// Number of fields.
    pub fields: usize,
    /// Bytes of the request target.
    pub target: usize,
    /// Whether fields with `_` in their name are passed on (`underscores: keep`).
    pub keep_underscores: bool,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds { head: 64 * 1024, fields: 100, target: 16 * 1024, keep_underscores: false }
    }
}

/// How the end of a body is found (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyLength {
    /// There is no body, and no field that says how long it is.
    #[default]
    None,
    /// That many bytes, as `Content-Length` says; possibly none.
    Length(u64),
    /// Chunks, up to the last one and its trailer section.
    Chunked,
    /// Everything until the connection ends; responses only.
    UntilClose,
}

/// The head of a request. Spans point into the buffer it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// Bytes it takes in the buffer, a leading empty line and the final one included.
    pub len: usize,
    /// Method.
    pub method: Method,
    /// Method as sent.
    pub method_span: Span,
    /// Target as sent.
    pub target: Span,
    /// HTTP version times ten: 10 or 11.
    pub version: u8,
    /// How the body ends.
    pub body: BodyLength,
    /// Whether the connection ends after this exchange, as version and `Connection` say.
    pub close: bool,
    /// Value of `Upgrade`, when `Connection` names it and the version is 1.1.
    pub upgrade: Option<Span>,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
    /// Value of `Host`; empty when there is none, which only HTTP/1.0 may do.
    pub host: Span,
}

/// Where earlier calls stopped looking for the end of a head that is still arriving, so that its bytes are not looked at again for each
/// piece that comes: they are read when the first piece is here and when the head is complete, and passed over once between. Belongs to one
/// message; made ready for the next when its head is complete.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scan {
    /// First byte not looked at; 0 before the first call that found the head incomplete.
    at: usize,
    /// Where the message begins.
    start: usize,
    /// End of its first line; 0 while that is not complete.
    first: usize,
    /// Where the line begins that is not complete.
    line: usize,
    /// Complete lines.
    lines: usize,
}

impl Scan {
    pub(super) fn is_fresh(&self) -> bool {
        self.at == 0
    }

    /// Begins behind a leading empty line.
    pub(super) fn begin(&mut self, start: usize) {
        *self = Scan { at: start, start, first: 0, line: start, lines: 0 };
    }

    /// Goes on to the end of the buffer; says whether the head is complete. Lone CR and LF are refused at once.
    pub(super) fn advance(&mut self, buf: &[u8]) -> Result<bool, Flaw> {
        while let Some(found) = memchr2(b'\r', b'\n', buf.get(self.at..).unwrap_or_default()) {
            let end = self.at + found;
            match (buf.get(end), buf.get(end + 1)) {
                (Some(b'\r'), Some(b'\n')) => {}
                (Some(b'\r'), None) => {
                    self.at = end;
                    return Ok(false);
                }
                _ => return Err(Flaw::LINE_END),
            }
            if end == self.line {
                self.at = end;
                return Ok(true);
            }
            if self.lines == 0 {
                self.first = end;
            }
            self.lines += 1;
            self.line = end + 2;
            self.at = self.line;
        }
        self.at = buf.len();
        Ok(false)
    }

    /// Refuses a head that is incomplete and too large already. The first line does not count as a field.
    pub(super) fn check(&self, buf: &[u8], bounds: &Bounds) -> Result<(), Flaw> {
        if self.lines > bounds.fields.saturating_add(1) {
            return Err(Flaw::TOO_MANY_FIELDS);
        }
        if buf.len() >= bounds.head {
            return Err(Flaw::HEAD_TOO_LARGE);
        }
        Ok(())
    }
}

/// What is wrong with a message, before it is known whose message it is. Small, so that the good path stays cheap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flaw {
    reason: Reason,
    why: &'static str,
}

impl Flaw {
    pub(super) const LINE_END: Flaw = Flaw::bad("a line does not end in CRLF");
    pub(super) const HEAD_TOO_LARGE: Flaw = Flaw::new(Reason::HeadTooLarge, "the head is larger than allowed");
    pub(super) const TOO_MANY_FIELDS: Flaw = Flaw::new(Reason::TooManyFields, "there are more fields than allowed");
    pub(super) const TARGET_TOO_LONG: Flaw =
        Flaw::new(Reason::TargetTooLong, "the request target is longer than allowed");

    pub(super) const fn new(reason: Reason, why: &'static str) -> Flaw {
        Flaw { reason, why }
    }

    pub(super) const fn bad(why: &'static str) -> Flaw {
        Flaw::new(Reason::BadRequest, why)
    }

    /// In a request: the client reads why.
    pub(super) fn of_request(self) -> Fault {
        Fault::new(self.reason, self.why)
    }

    /// In a response: only the log says why.
    pub(super) fn of_response(self) -> Fault {
        Fault::new(Reason::BadResponse, "the backend's answer cannot be read in exactly one way").cause(self.why)
    }
}

/// Reads a request head at the start of `buf`; `None` while it is incomplete and more is to be read behind what is there. `fields` is
/// replaced by the index of the head, its spans pointing into `buf`; a field that must not be passed on (identity, `_`, named by
/// `Connection`) is marked removed. Needs no allocation once `fields` has room.
///
/// # Errors
/// The client's fault; the connection cannot be used after it, except that an answer may be written.
pub fn parse_request(
    buf: &[u8],
    bounds: &Bounds,
    scan: &mut Scan,
    fields: &mut Vec<Field>,
) -> Result<Option<RequestHead>, Fault> {
    match step(buf, bounds, scan, fields) {
        Ok(None) => Ok(None),
        Ok(head) => {
            *scan = Scan::default();
            Ok(head)
        }
        Err(flaw) => {
            *scan = Scan::default();
            Err(flaw.of_request())
        }
    }
}

fn step(buf: &[u8], bounds: &Bounds, scan: &mut Scan, fields: &mut Vec<Field>) -> Result<Option<RequestHead>, Flaw> {
    if scan.is_fresh() || scan.advance(buf)? {
        let start = match buf {
            [b'\r', b'\n', b'\r' | b'\n', ..] | [b'\n', ..] => {
                return Err(Flaw::bad("there is more than one empty line before the request"));
            }
            [] | [b'\r'] | [b'\r', b'\n'] => return Ok(None),
            [b'\r', b'\n', ..] => 2,
            _ => 0,
        };
        if let Some(head) = read(buf, start, bounds, fields)? {
            return Ok(Some(head));
        }
        scan.begin(start);
        scan.advance(buf)?;
    }
    let end = if scan.first == 0 { buf.len() } else { scan.first };
    check_first_line(buf.get(scan.start..end).unwrap_or_default(), bounds)?;
    scan.check(buf, bounds)?;
    Ok(None)
}

/// Refuses a request line that is too long, be it complete or not.
fn check_first_line(line: &[u8], bounds: &Bounds) -> Result<(), Flaw> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let method = line.get(..METHOD_MAX + 1).unwrap_or(line);
    match memchr(b' ', method) {
        Some(space) if line.len() - space - 1 > bounds.target.saturating_add(VERSION_LEN) => Err(Flaw::TARGET_TOO_LONG),
        None if line.len() > METHOD_MAX => Err(Flaw::new(Reason::BadMethod, "the method is longer than 32 bytes")),
        Some(_) | None => Ok(()),
    }
}

fn read(buf: &[u8], start: usize, bounds: &Bounds, fields: &mut Vec<Field>) -> Result<Option<RequestHead>, Flaw> {
    let judge = || judge_version(buf.get(start..).unwrap_or_default());
    let Some(line) = request_line(buf, start, judge)? else { return Ok(None) };
    let mut facts = Facts::default();
    match field_lines(buf, line.end, bounds.fields, fields, &mut facts)? {
        None => Ok(None),
        Some(len) => self::judge(buf, &line, len, bounds, fields, &facts).map(Some),
    }
}

/// The version is none that is served: well-formed and another one, or not a version, or not yet complete.
fn judge_version(buf: &[u8]) -> Result<(), Flaw> {
    let line_end = memchr2(b'\r', b'\n', buf);
    let line = buf.get(..line_end.unwrap_or(buf.len())).unwrap_or_default();
    let word = line.splitn(3, |&b| b == b' ').nth(2).unwrap_or_default();
    let fits = word.iter().zip(b"HTTP/0.0").all(|(&b, &p)| if p == b'0' { b.is_ascii_digit() } else { b == p });
    match word.len() {
        8 if fits && word != b"HTTP/0.9" => {
            Err(Flaw::new(Reason::BadVersion, "only HTTP/1.0, HTTP/1.1 and HTTP/2 are served"))
        }
        ..8 if fits && line_end.is_none() => Ok(()),
        _ => Err(Flaw::bad("the version is malformed")),
    }
}

/// Draws the conclusions.
fn judge(
    buf: &[u8],
    line: &RequestLine,
    len: usize,
    bounds: &Bounds,
    fields: &mut [Field],
    facts: &Facts,
) -> Result<RequestHead, Flaw> {
    let &RequestLine { method, target, version, .. } = line;
    if method.len() > METHOD_MAX {
        return Err(Flaw::new(Reason::BadMethod, "the method is longer than 32 bytes"));
    }
    if target.len() > bounds.target {
        return Err(Flaw::TARGET_TOO_LONG);
    }
    if len > bounds.head {
        return Err(Flaw::HEAD_TOO_LARGE);
    }
    if facts.host.times > 1 {
        return Err(Flaw::new(Reason::BadHost, "`host` is repeated"));
    }
    if facts.host.value.is_empty() && (version == 11 || facts.host.times > 0) {
        return Err(Flaw::new(Reason::BadHost, "`host` is missing or empty"));
    }
    let options = connection(buf, facts, fields, names_what_matters)?;
    let body = request_body(buf, facts, fields, version)?;
    let expects = expectation(buf, facts, version)?;
    if facts.droppable {
        drop_fields(buf, fields, bounds.keep_underscores);
    }
    Ok(RequestHead {
        len,
        method: Method::of(buf.get(method.range()).unwrap_or_default()),
        method_span: method,
        target,
        version,
        body,
        close: options.close || (version == 10 && !options.keep_alive),
        upgrade: upgrade(facts, &options, version)?,
        expect_continue: expects && !matches!(body, BodyLength::None | BodyLength::Length(0)),
        host: facts.host.value,
    })
}

/// A field that must not come twice.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// The last value.
    pub(super) value: Span,
    /// How often it came.
    pub(super) times: u32,
}

impl Seen {
    fn note(&mut self, value: Span) {
        self.value = value;
        self.times += 1;
    }
}

/// What of a head decides how it is read, gathered in one pass.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    pub(super) host: Seen,
    pub(super) length: Seen,
    pub(super) coding: Seen,
    pub(super) upgrade: Seen,
    expect: Seen,
    connection: bool,
    droppable: bool,
}

impl Facts {
    pub(super) fn note(&mut self, id: FieldId, value: Span) {
        if id == FieldId::Host {
            self.host.note(value);
        } else if id == FieldId::Connection {
            self.connection = true;
        } else if id == FieldId::ContentLength {
            self.length.note(value);
        } else if id == FieldId::TransferEncoding {
            self.coding.note(value);
        } else if id == FieldId::Upgrade {
            self.upgrade.note(value);
        } else if id == FieldId::Expect {
            self.expect.note(value);
        } else if matches!(id, FieldId::Identity | FieldId::Underscore) {
            self.droppable = true;
        }
    }
}

/// What `Connection` says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Options {
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade: bool,
}

/// Reads all `Connection` fields and marks as removed what else they name (RFC 9110, section 7.6.1); `guarded` says which names they
/// must not hold.
pub(super) fn connection(
    buf: &[u8],
    facts: &Facts,
    fields: &mut [Field],
    guarded: fn(FieldId, &[u8]) -> bool,
) -> Result<Options, Flaw> {
    let mut options = Options::default();
    if !facts.connection {
        return Ok(options);
    }
    let mut names = 0;
    for i in 0..fields.len() {
        let Some(&Field { value, id: FieldId::Connection, .. }) = fields.get(i) else { continue };
        let value = buf.get(value.range()).unwrap_or_default();
        if value == b"keep-alive" {
            options.keep_alive = true; // nearly all say just this
            continue;
        }
        for option in value.split(|&b| b == b',') {
            let option = option.trim_ascii();
            if option.eq_ignore_ascii_case(b"keep-alive") {
                options.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"close") {
                options.close = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                options.upgrade = true;
            } else {
                names += 1;
                if names > CONNECTION_NAMES_MAX || !option.iter().all(|&b| is_token(b)) {
                    return Err(Flaw::bad("`connection` is malformed or too long"));
                }
                if guarded(FieldId::of(option), option) {
                    return Err(Flaw::bad("`connection` names a field that is not the connection's own"));
                }
                remove_named(buf, fields, option);
            }
        }
    }
    Ok(options)
}

fn remove_named(buf: &[u8], fields: &mut [Field], name: &[u8]) {
    for field in fields {
        if field.name.len() == name.len() && buf.get(field.name.range()).is_some_and(|n| n.eq_ignore_ascii_case(name)) {
            field.removed = true;
        }
    }
}

/// Fields that a client must not have removed by naming them in `Connection`: what frames, routes, guards, or is set by the gateway.
fn names_what_matters(id: FieldId, name: &[u8]) -> bool {
    is_guarded(id)
        || matches!(id, FieldId::Expect | FieldId::Origin | FieldId::Date)
        || name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"content-"))
        || name.eq_ignore_ascii_case(b"cache-control")
}

/// Fields that frame a message, say where it goes, prove who sent it, or are the gateway's own to set.
pub(super) fn is_guarded(id: FieldId) -> bool {
    matches!(
        id,
        FieldId::Host
            | FieldId::ContentLength
            | FieldId::TransferEncoding
            | FieldId::Authorization
            | FieldId::Cookie
            | FieldId::ContentType
            | FieldId::Via
            | FieldId::Forwarded
            | FieldId::XForwardedFor
            | FieldId::XForwardedHost
            | FieldId::XForwardedProto
            | FieldId::XForwardedPort
            | FieldId::XRealIp
            | FieldId::XRequestId
            | FieldId::Traceparent
            | FieldId::Tracestate
            | FieldId::Identity
            | FieldId::ForwardedOther
    )
}

/// The number `Content-Length` gives, if it is there once and nothing but digits.
pub(super) fn content_length(buf: &[u8], facts: &Facts, fields: &mut [Field]) -> Result<Option<u64>, Flaw> {
    match facts.length.times {
        0 => return Ok(None),
        1 => {}
        _ => return Err(Flaw::bad("`content-length` is repeated")),
    }
    fields.iter_mut().find(|f| f.id == FieldId::ContentLength).map(|field| length_of(buf, field)).transpose()
}

/// The number a field of digits gives. Leading zeros are cut off the indexed value, so that no later reader takes it for another base.
pub(super) fn length_of(buf: &[u8], field: &mut Field) -> Result<u64, Flaw> {
    let digits = buf.get(field.value.range()).unwrap_or_default();
    let length = decimal(digits).ok_or(Flaw::bad("`content-length` is not a number"))?;
    let zeros = digits.iter().rev().skip(1).rev().take_while(|&&b| b == b'0').count();
    field.value = Span::new(field.value.start() + zeros, field.value.range().end);
    Ok(length)
}

/// Digits only, at least one, at most 20, no overflow.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 20 {
        return None;
    }
    digits.iter().try_fold(0u64, |n, &b| {
        let digit = b.wrapping_sub(b'0');
        if digit > 9 { None } else { n.checked_mul(10)?.checked_add(u64::from(digit)) }
    })
}

/// Whether the body is chunked. Any other coding, or chunked together with one, is refused (RFC 9112, section 6.1).
pub(super) fn is_chunked(buf: &[u8], facts: &Facts, version: u8) -> Result<bool, Flaw> {
    if facts.coding.times == 0 {
        return Ok(false);
    }
    if facts.coding.times > 1 {
        return Err(Flaw::bad("`transfer-encoding` is repeated"));
    }
    if facts.length.times > 0 {
        return Err(Flaw::bad("both `transfer-encoding` and `content-length` are given"));
    }
    if version == 10 {
        return Err(Flaw::bad("`transfer-encoding` is not part of HTTP/1.0"));
    }
    let value = buf.get(facts.coding.value.range()).unwrap_or_default();
    if value.eq_ignore_ascii_case(b"chunked") { Ok(true) } else { Err(bad_coding(value)) }
}

/// Some coding and then chunked is well-formed, but not supported; everything else has no end that could be found.
fn bad_coding(value: &[u8]) -> Flaw {
    let is_name =
        |name: &[u8]| !name.is_empty() && name.iter().all(|&b| is_token(b)) && !name.eq_ignore_ascii_case(b"chunked");
    let mut codings = value.rsplit(|&b| b == b',').map(<[u8]>::trim_ascii);
    let last_is_chunked = codings.next().is_some_and(|c| c.eq_ignore_ascii_case(b"chunked"));
    if last_is_chunked && codings.all(is_name) {
        Flaw::new(Reason::UnknownCoding, "no transfer coding but `chunked` is supported")
    } else {
        Flaw::bad("`transfer-encoding` is malformed or does not end in `chunked`")
    }
}

fn request_body(buf: &[u8], facts: &Facts, fields: &mut [Field], version: u8) -> Result<BodyLength, Flaw> {
    if is_chunked(buf, facts, version)? {
        return Ok(BodyLength::Chunked);
    }
    Ok(content_length(buf, facts, fields)?.map_or(BodyLength::None, BodyLength::Length))
}

/// Whether `100-continue` is expected; HTTP/1.0 cannot expect anything (RFC 9110, section 10.1.1).
fn expectation(buf: &[u8], facts: &Facts, version: u8) -> Result<bool, Flaw> {
    if facts.expect.times == 0 || version == 10 {
        return Ok(false);
    }
    let value = buf.get(facts.expect.value.range()).unwrap_or_default();
    if facts.expect.times > 1 || !value.eq_ignore_ascii_case(b"100-continue") {
        return Err(Flaw::new(Reason::BadExpectation, "only `100-continue` can be expected"));
    }
    Ok(true)
}

fn upgrade(facts: &Facts, options: &Options, version: u8) -> Result<Option<Span>, Flaw> {
    if !options.upgrade || version == 10 || facts.upgrade.times == 0 {
        return Ok(None);
    }
    if facts.upgrade.times > 1 || facts.upgrade.value.is_empty() {
        return Err(Flaw::bad("`upgrade` is repeated or empty"));
    }
    Ok(Some(facts.upgrade.value))
}

/// Marks as removed what a client may not send on.
fn drop_fields(buf: &[u8], fields: &mut [Field], keep_underscores: bool) {
    for field in fields {
        if is_dropped(field.id, buf.get(field.name.range()).unwrap_or_default(), keep_underscores) {
            field.removed = true;
        }
    }
}

/// Whether a client's field is never passed on: identity in every spelling, names with `_` unless they are kept, and even then those
/// that a back end may read as a guarded name.
pub(super) fn is_dropped(id: FieldId, name: &[u8], keep_underscores: bool) -> bool {
    if id != FieldId::Underscore {
        return id == FieldId::Identity;
    }
    if !keep_underscores {
        return true;
    }
    let mut twin = [0u8; 32];
    let Some(twin) = twin.get_mut(..name.len()) else { return false };
    for (to, &from) in twin.iter_mut().zip(name) {
        *to = if from == b'_' { b'-' } else { from };
    }
    let id = FieldId::of(twin);
    is_guarded(id) || id.is_hop_by_hop()
}

#[cfg(test)]
#[path = "tests_parse.rs"]
pub(super) mod tests;
