//! Reads the head of a response, as strictly as a request's, and draws from it how its body ends (RFC 9112, section 6.3). Knows no socket
//! and no clock, and of the request only what framing needs.

use daemun_pipeline::head::Field;
use daemun_pipeline::{Fault, FieldId, Span};

use super::parse::{BodyLength, Bounds, Facts, Flaw, Options, Scan, connection, content_length, is_chunked};
use super::tokens::{field_lines, status_line};

/// The head of a response. Spans point into the buffer it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// Bytes it takes in the buffer.
    pub len: usize,
    /// Status, 100 to 599; below 200 another head follows, but for 101.
    pub status: u16,
    /// Reason phrase, often empty.
    pub reason: Span,
    /// HTTP version times ten: 10 or 11.
    pub version: u8,
    /// How the body ends.
    pub body: BodyLength,
    /// Whether the connection cannot carry another exchange after this one.
    pub close: bool,
    /// Value of `Upgrade` of a 101 that also names it in `Connection`.
    pub upgrade: Option<Span>,
}

impl ResponseHead {
    /// Whether another head follows for the same request: 1xx, but for 101, after which the connection speaks something else.
    #[must_use]
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }
}

/// Reads a response head at the start of `buf`; `None` while it is incomplete. `fields` is replaced by the index of the head; fields that
/// `Connection` names, and a length where the status allows no body, are marked removed. Of `bounds` the size and the number of fields
/// count. Needs no allocation once `fields` has room.
///
/// # Errors
/// [`daemun_pipeline::Reason::BadResponse`]; the connection cannot be used after it.
pub fn parse_response(
    buf: &[u8],
    bounds: &Bounds,
    scan: &mut Scan,
    fields: &mut Vec<Field>,
    to_head: bool,
) -> Result<Option<ResponseHead>, Fault> {
    match step(buf, bounds, scan, fields, to_head) {
        Ok(None) => Ok(None),
        Ok(head) => {
            *scan = Scan::default();
            Ok(head)
        }
        Err(flaw) => {
            *scan = Scan::default();
            Err(flaw.of_response())
        }
    }
}

fn step(
    buf: &[u8],
    bounds: &Bounds,
    scan: &mut Scan,
    fields: &mut Vec<Field>,
    to_head: bool,
) -> Result<Option<ResponseHead>, Flaw> {
    if scan.is_fresh() || scan.advance(buf)? {
        match buf.first() {
            Some(b'H') => {}
            Some(_) => return Err(Flaw::bad("the answer does not begin with a version")),
            None => return Ok(None),
        }
        if let Some(head) = read(buf, bounds, fields, to_head)? {
            return Ok(Some(head));
        }
        scan.begin(0);
        scan.advance(buf)?;
    }
    scan.check(buf, bounds)?;
    Ok(None)
}

fn read(buf: &[u8], bounds: &Bounds, fields: &mut Vec<Field>, to_head: bool) -> Result<Option<ResponseHead>, Flaw> {
    let Some(line) = status_line(buf)? else { return Ok(None) };
    let (status, version) = (line.status, line.version);
    let mut facts = Facts::default();
    let Some(len) = field_lines(buf, line.end, bounds.fields, fields, &mut facts)? else { return Ok(None) };
    if len > bounds.head {
        return Err(Flaw::HEAD_TOO_LARGE);
    }
    let options = connection(buf, &facts, fields, |id, _| id == FieldId::ContentLength)?;
    let (body, surplus) = body(buf, &facts, fields, status, version, to_head)?;
    let persistent = if version == 10 { options.keep_alive && !options.close } else { !options.close };
    Ok(Some(ResponseHead {
        len,
        status,
        reason: line.reason,
        version,
        body,
        close: !persistent || surplus || body == BodyLength::UntilClose,
        upgrade: upgrade(&facts, &options, status, version)?,
    }))
}

/// How the body ends, and whether bytes may follow that belong to no message.
fn body(
    buf: &[u8],
    facts: &Facts,
    fields: &mut [Field],
    status: u16,
    version: u8,
    to_head: bool,
) -> Result<(BodyLength, bool), Flaw> {
    let chunked = is_chunked(buf, facts, version)?;
    let length = content_length(buf, facts, fields)?;
    if status < 200 || status == 204 {
        for field in fields.iter_mut().filter(|f| f.id == FieldId::ContentLength) {
            field.removed = true;
        }
        return Ok((BodyLength::None, chunked || length.is_some_and(|n| n > 0)));
    }
    if to_head || status == 304 {
        return Ok((BodyLength::None, false));
    }
    Ok(match (chunked, length) {
        (true, _) => (BodyLength::Chunked, false),
        (false, Some(n)) => (BodyLength::Length(n), false),
        (false, None) => (BodyLength::UntilClose, false),
    })
}

/// What a 101 switches to; one that does not say so in both fields is no switch.
fn upgrade(facts: &Facts, options: &Options, status: u16, version: u8) -> Result<Option<Span>, Flaw> {
    if status != 101 {
        return Ok(None);
    }
    if version == 10 || !options.upgrade || facts.upgrade.times != 1 || facts.upgrade.value.is_empty() {
        return Err(Flaw::bad("a 101 does not say what it switches to"));
    }
    Ok(Some(facts.upgrade.value))
}

#[cfg(test)]
#[path = "tests_response.rs"]
mod tests;
