//! Takes the lines of a head apart, once, byte by byte: first line, names, values, line ends. Every byte is held to the grammar of RFC 9110
//! and RFC 9112 where it is met, so that nothing is looked at again. Knows no field by meaning, but for its name.

use daemun_pipeline::head::{Field, is_token, is_value};
use daemun_pipeline::{FieldId, Span};

use super::parse::{Facts, Flaw};

const NAME: Flaw = Flaw::bad("a field name is not a token directly followed by a colon");
const VALUE: Flaw = Flaw::bad("a field value holds a control byte");
const FIRST_LINE: Flaw = Flaw::bad("the first line is malformed");

/// What every version that is served begins with.
const VERSION: &[u8] = b"HTTP/1.";

/// The first line of a request.
pub(super) struct RequestLine {
    pub(super) method: Span,
    pub(super) target: Span,
    /// HTTP version times ten.
    pub(super) version: u8,
    /// Where the next line begins.
    pub(super) end: usize,
}

/// What stands where a version should.
pub(super) enum Version {
    /// HTTP version times ten.
    Served(u8),
    /// It may still become one.
    Incomplete,
    /// Another version, or none.
    Other,
}

/// Reads the request line that begins at `start`; `None` while it is incomplete. `judge` says what a version that is not served is.
pub(super) fn request_line(
    buf: &[u8],
    start: usize,
    judge: impl FnOnce() -> Result<(), Flaw>,
) -> Result<Option<RequestLine>, Flaw> {
    let method_end = start + token_len(buf, start);
    match buf.get(method_end) {
        None => return Ok(None),
        Some(b' ') if method_end > start => {}
        Some(_) => return Err(FIRST_LINE),
    }
    let target_start = method_end + 1;
    let target_end = target_start + visible_len(buf, target_start);
    match buf.get(target_end) {
        None => return Ok(None),
        Some(b' ') if target_end > target_start => {}
        Some(_) => return Err(FIRST_LINE),
    }
    let version = match version(buf, target_end + 1) {
        Version::Served(version) => version,
        Version::Incomplete => return Ok(None),
        Version::Other => return judge().map(|()| None),
    };
    let Some(end) = line_end(buf, target_end + 1 + VERSION.len() + 1, FIRST_LINE)? else { return Ok(None) };
    let (method, target) = (Span::new(start, method_end), Span::new(target_start, target_end));
    Ok(Some(RequestLine { method, target, version, end }))
}

/// The first line of a response.
pub(super) struct StatusLine {
    pub(super) status: u16,
    pub(super) reason: Span,
    /// HTTP version times ten.
    pub(super) version: u8,
    /// Where the next line begins.
    pub(super) end: usize,
}

/// Reads the status line that a response begins with; `None` while it is incomplete.
pub(super) fn status_line(buf: &[u8]) -> Result<Option<StatusLine>, Flaw> {
    let version = match version(buf, 0) {
        Version::Served(version) => version,
        Version::Incomplete => return Ok(None),
        Version::Other => return Err(Flaw::bad("the version is malformed")),
    };
    let status = VERSION.len() + 1;
    match buf.get(status) {
        None => return Ok(None),
        Some(b' ') => {}
        Some(_) => return Err(FIRST_LINE),
    }
    let mut code = 0;
    for at in status + 1..status + 4 {
        match buf.get(at) {
            None => return Ok(None),
            Some(digit @ b'0'..=b'9') => code = code * 10 + u16::from(digit - b'0'),
            Some(_) => return Err(FIRST_LINE),
        }
    }
    if !(100..=599).contains(&code) {
        return Err(Flaw::bad("the status is not between 100 and 599"));
    }
    let start = status + 4;
    let reason = match buf.get(start) {
        Some(b' ') => Span::new(start + 1, start + 1 + value_len(buf, start + 1)),
        Some(_) | None => Span::new(start, start),
    };
    let end = line_end(buf, reason.range().end, FIRST_LINE)?;
    Ok(end.map(|end| StatusLine { status: code, reason, version, end }))
}

fn version(buf: &[u8], at: usize) -> Version {
    let found = buf.get(at..).unwrap_or_default();
    let digits = found.get(..VERSION.len()).filter(|word| *word == VERSION).and(found.get(VERSION.len()));
    match digits {
        Some(b'1') => Version::Served(11),
        Some(b'0') => Version::Served(10),
        None if found.len() <= VERSION.len() && VERSION.starts_with(found) => Version::Incomplete,
        Some(_) | None => Version::Other,
    }
}

/// Reads the field lines that begin at `start`, at most `most` of them, into the index, and gives where the head ends; `None` while it is
/// incomplete.
pub(super) fn field_lines(
    buf: &[u8],
    start: usize,
    most: usize,
    fields: &mut Vec<Field>,
    facts: &mut Facts,
) -> Result<Option<usize>, Flaw> {
    // behind the end there is nothing that any line holds
    let byte = |at: usize| buf.get(at).copied().unwrap_or(0);
    fields.clear();
    let mut at = start;
    loop {
        let name_end = at + token_len(buf, at);
        if byte(name_end) != b':' || name_end == at {
            return no_field(buf, at, name_end);
        }
        if fields.len() >= most {
            return Err(Flaw::TOO_MANY_FIELDS);
        }
        let mut from = name_end + 1;
        while matches!(byte(from), b' ' | b'\t') {
            from += 1;
        }
        let text_end = from + value_len(buf, from);
        if byte(text_end) != b'\r' || byte(text_end + 1) != b'\n' {
            return line_end(buf, text_end, VALUE).map(|_| None);
        }
        let mut to = text_end;
        while to > from && matches!(byte(to - 1), b' ' | b'\t') {
            to -= 1;
        }
        let id = FieldId::of(buf.get(at..name_end).unwrap_or_default());
        // an empty value stands directly behind the colon
        let value = if to > from { Span::new(from, to) } else { Span::new(name_end + 1, name_end + 1) };
        fields.push(Field { name: Span::new(at, name_end), value, id, removed: false });
        if id != FieldId::Other {
            facts.note(id, value);
        }
        at = text_end + 2;
    }
}

/// What a line is that does not begin with a name and a colon: the end of the head, one that is incomplete, or none that may be there.
#[inline(never)]
fn no_field(buf: &[u8], at: usize, name_end: usize) -> Result<Option<usize>, Flaw> {
    match buf.get(name_end) {
        None => Ok(None),
        Some(b'\r' | b'\n') if name_end == at => line_end(buf, at, NAME),
        Some(_) => Err(NAME),
    }
}

/// Where the line after a CRLF at `at` begins; `None` while it may still become one. What is neither CR nor LF is `flaw`.
fn line_end(buf: &[u8], at: usize, flaw: Flaw) -> Result<Option<usize>, Flaw> {
    match (buf.get(at), buf.get(at + 1)) {
        (Some(b'\r'), Some(b'\n')) => Ok(Some(at + 2)),
        (None, _) | (Some(b'\r'), None) => Ok(None),
        (Some(b'\r' | b'\n'), _) => Err(Flaw::LINE_END),
        (Some(_), _) => Err(flaw),
    }
}

/// Bytes from `at` on that a token may hold; eight are looked at at once, as long as they are what most names are made of.
#[inline]
fn token_len(buf: &[u8], at: usize) -> usize {
    let rest = buf.get(at..).unwrap_or_default();
    let mut len = 0;
    while let Some(word) = rest.get(len..).and_then(|rest| rest.first_chunk::<8>()) {
        let odd = not_common(u64::from_le_bytes(*word));
        if odd != 0 {
            len += odd.trailing_zeros() as usize / 8;
            if rest.get(len) == Some(&b':') {
                return len;
            }
            break;
        }
        len += 8;
    }
    let tail = rest.get(len..).unwrap_or_default();
    len + tail.iter().position(|&b| !is_token(b)).unwrap_or(tail.len())
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = ONES * 0x80;

/// High bits of the bytes of a word that are neither letters, digits nor `-`. No sum leaves its byte, whose high bit is taken out before.
#[inline]
fn not_common(word: u64) -> u64 {
    let low = word & !HIGH;
    let folded = low | (ONES * 0x20);
    let at_least = |bytes: u64, n: u64| bytes + ONES * (0x80 - n);
    let letter = at_least(folded, u64::from(b'a')) & !at_least(folded, u64::from(b'z') + 1);
    let digit = at_least(low, u64::from(b'0')) & !at_least(low, u64::from(b'9') + 1);
    let hyphen = !((low ^ (ONES * u64::from(b'-'))) + ONES * 0x7f);
    (word | !(letter | digit | hyphen)) & HIGH
}

/// High bits of the bytes of a word that are below `n` or DEL; those above the lowest may be wrong.
#[inline]
const fn below_or_del(word: u64, n: u64) -> u64 {
    let del = word ^ (ONES * 0x7f);
    ((word.wrapping_sub(ONES * n) & !word) | (del.wrapping_sub(ONES) & !del)) & HIGH
}

/// Bytes from `at` on that are neither control bytes nor spaces; eight are looked at at once.
#[inline]
fn visible_len(buf: &[u8], at: usize) -> usize {
    let rest = buf.get(at..).unwrap_or_default();
    let mut len = 0;
    while let Some(word) = rest.get(len..).and_then(|rest| rest.first_chunk::<8>()) {
        let found = below_or_del(u64::from_le_bytes(*word), 0x21);
        if found != 0 {
            return len + found.trailing_zeros() as usize / 8;
        }
        len += 8;
    }
    let tail = rest.get(len..).unwrap_or_default();
    len + tail.iter().position(|&b| b < 0x21 || b == 0x7f).unwrap_or(tail.len())
}

/// Bytes from `at` on that a field value may hold; eight are looked at at once, and many of one that is long.
#[inline]
fn value_len(buf: &[u8], at: usize) -> usize {
    let rest = buf.get(at..).unwrap_or_default();
    let mut len = 0;
    while let Some(word) = rest.get(len..).and_then(|rest| rest.first_chunk::<8>()) {
        let found = below_or_del(u64::from_le_bytes(*word), 0x20);
        if found == 0 {
            len += 8;
            if len == LONG {
                len += long_len(rest);
            }
            continue;
        }
        len += found.trailing_zeros() as usize / 8;
        if rest.get(len) != Some(&b'\t') {
            return len;
        }
        len += 1;
    }
    let tail = rest.get(len..).unwrap_or_default();
    len + tail.iter().position(|&b| !is_value(b)).unwrap_or(tail.len())
}

/// Bytes of a value after which more are looked at at once: a token or a cookie.
const LONG: usize = 48;

/// Bytes behind the first [`LONG`] that a value may hold, in whole blocks.
#[inline(never)]
fn long_len(rest: &[u8]) -> usize {
    let (blocks, _) = rest.get(LONG..).unwrap_or_default().as_chunks::<64>();
    // without a branch for each byte, so that the compiler looks at many with one instruction
    let is_good = |block: &&[u8; 64]| !block.iter().fold(false, |bad, &b| bad | (b < 0x20) | (b == 0x7f));
    blocks.iter().take_while(is_good).count() * 64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_byte_is_told_apart_wherever_it_stands() {
        for b in 0..=u8::MAX {
            for place in 0..8 {
                let mut word = *b"a-Z09zA-";
                word[place] = b;
                let common = b.is_ascii_alphanumeric() || b == b'-';
                let found = not_common(u64::from_le_bytes(word));
                assert_eq!(found, if common { 0 } else { 0x80 << (place * 8) }, "{b} at {place}");
            }
        }
    }

    proptest! {
        #[test]
        fn eight_at_once_find_what_one_by_one_finds(text in prop::collection::vec(byte(), 0..300), at in 0usize..44) {
            let rest = text.get(at..).unwrap_or_default();
            let value = rest.iter().position(|&b| b != b'\t' && (b < 0x20 || b == 0x7f)).unwrap_or(rest.len());
            prop_assert_eq!(value_len(&text, at), value);
            let visible = rest.iter().position(|&b| b <= 0x20 || b == 0x7f).unwrap_or(rest.len());
            prop_assert_eq!(visible_len(&text, at), visible);
            let token = rest.iter().position(|&b| !is_token(b)).unwrap_or(rest.len());
            prop_assert_eq!(token_len(&text, at), token);
        }

        #[test]
        fn a_head_is_taken_apart_as_httparse_does(text in head()) {
            let mut headers = [httparse::EMPTY_HEADER; 16];
            let mut request = httparse::Request::new(&mut headers);
            let theirs = request.parse(&text);
            let (mut fields, mut facts) = (Vec::new(), Facts::default());
            let mut ours = || {
                let Some(line) = request_line(&text, 0, || Err(FIRST_LINE))? else { return Ok(None) };
                Ok::<_, Flaw>(field_lines(&text, line.end, 16, &mut fields, &mut facts)?.map(|end| (line, end)))
            };
            // what the strict reader takes, the lenient one takes, and in the same way
            if let Ok(Some((line, end))) = ours() {
                prop_assert_eq!(theirs, Ok(httparse::Status::Complete(end)));
                prop_assert_eq!(request.method.map(str::as_bytes), text.get(line.method.range()));
                prop_assert_eq!(request.path.map(str::as_bytes), text.get(line.target.range()));
                prop_assert_eq!(request.version, Some(line.version - 10));
                let read = fields.iter().map(|f| (&text[f.name.range()], &text[f.value.range()]));
                prop_assert!(read.eq(request.headers.iter().map(|h| (h.name.as_bytes(), h.value))));
            }
        }
    }

    /// Bytes of which long runs are good.
    fn byte() -> impl Strategy<Value = u8> {
        prop_oneof![120 => b'!'..=b'~', 1 => any::<u8>()]
    }

    /// Heads in which most lines are good.
    fn head() -> impl Strategy<Value = Vec<u8>> {
        let line = prop_oneof![
            8 => "[a-zA-Z!#~-]{1,12}: ?[ -~\t]{0,24}\r\n".prop_map(String::into_bytes),
            1 => "[a-z :]{0,5}[ -~]{0,9}[\r\n]{1,2}".prop_map(String::into_bytes),
            1 => prop::collection::vec(any::<u8>(), 0..12),
        ];
        ("[A-Z]{1,7} /[!-~]{0,20} HTTP/1.[012]\r\n", prop::collection::vec(line, 0..6))
            .prop_map(|(first, lines)| [first.into_bytes(), lines.concat(), b"\r\n".to_vec()].concat())
    }
}
