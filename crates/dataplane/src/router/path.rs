//! The one reading of request paths: what the router matches is what is forwarded. Knows nothing of routes, and never
//! allocates beyond the buffer it is given.
//!
//! A path is brought into one form: unreserved characters decoded, hexadecimal digits in upper case, dot segments
//! resolved, empty segments collapsed. A route may ask for empty segments to be kept, so that a path that has some comes
//! in two variants; both are made in one go, and a path without them (nearly every one) has one only. `;parameters` are
//! left out of the text that is matched and stay in the text that is forwarded. The table of cases is in
//! `docs/reference/paths.md`; a test runs it.

use std::fmt;

/// Longest path that is read, in bytes: far above any bound on request targets, so that offsets fit.
const MAX_LEN: usize = 1 << 20;

/// Why a path is refused with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathError {
    /// It does not begin with `/`.
    NotAbsolute,
    /// It is longer than 1 MiB.
    TooLong,
    /// A `%` without two hexadecimal digits behind it.
    MalformedEscape,
    /// `%00`.
    Nul,
    /// `\` or `%5C`: some servers read it as `/`.
    Backslash,
    /// A byte that a path may not hold: a control, a space, `#`, `?`, or one outside ASCII.
    ForbiddenByte(u8),
    /// `..` at the root.
    AboveRoot,
    /// A segment that is empty, `.` or `..` before its first `;` or `%3B`: servers that cut parameters would read it anew.
    DotBeforeParameters,
    /// `.` or `..` beside an encoded slash: servers that decode `%2F` would climb.
    DotBesideEncodedSlash,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAbsolute => "the path does not begin with `/`",
            Self::TooLong => "the path is longer than 1 MiB",
            Self::MalformedEscape => "the path has a `%` without two hexadecimal digits behind it",
            Self::Nul => "the path holds `%00`",
            Self::Backslash => "the path holds a backslash",
            Self::ForbiddenByte(byte) => {
                return write!(f, "the path holds the byte 0x{byte:02X}, which must be encoded");
            }
            Self::AboveRoot => "the path climbs above its root with `..`",
            Self::DotBeforeParameters => "the path has a segment that is empty, `.` or `..` before its `;`",
            Self::DotBesideEncodedSlash => "the path has `.` or `..` beside an encoded slash",
        })
    }
}

impl std::error::Error for PathError {}

/// A query holds a byte it may not hold: a control, a space or `#`. Refused with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryError(pub u8);

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the query holds the byte 0x{:02X}, which must be encoded", self.0)
    }
}

impl std::error::Error for QueryError {}

/// Splits a request target in origin form at its first `?`: path, and query without the `?`.
#[must_use]
pub fn split_query(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    match target.iter().position(|&byte| byte == b'?') {
        Some(at) => (target.get(..at).unwrap_or(target), target.get(at + 1..)),
        None => (target, None),
    }
}

/// Checks a query, which is forwarded as it came.
///
/// # Errors
/// When it holds a control byte, a space or `#`.
pub fn check_query(query: &[u8]) -> Result<(), QueryError> {
    match query.iter().find(|&&byte| byte < 0x21 || byte == 0x7F || byte == b'#') {
        Some(&byte) => Err(QueryError(byte)),
        None => Ok(()),
    }
}

/// A range of bytes in the raw path or in the buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// What reading a path gave: offsets only, so that it can be stored beside the bytes. [`Reading::view`] makes it readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Whether the spans lie in the buffer; else in the raw path.
    in_buffer: bool,
    flags: Flags,
    /// Forwarded text: with empty segments collapsed, and kept.
    forwarded: [Span; 2],
    /// Matched text: the same without parameters.
    matched: [Span; 2],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Flags {
    empty_segments: bool,
    encoded_slash: bool,
    parameters: bool,
}

impl Reading {
    /// The reading with its bytes: `raw` and `buffer` as they were given to, and left by, [`read`].
    #[must_use]
    pub fn view<'a>(&self, raw: &'a [u8], buffer: &'a [u8]) -> ReadPath<'a> {
        let bytes = if self.in_buffer { buffer } else { raw };
        ReadPath {
            forwarded: self.forwarded.map(|span| span.of(bytes)),
            matched: self.matched.map(|span| span.of(bytes)),
            flags: self.flags,
        }
    }

    /// Whether the path came in its normal form, so that nothing was written to the buffer.
    #[must_use]
    pub fn is_borrowed(&self) -> bool {
        !self.in_buffer
    }
}

/// A path that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadPath<'a> {
    forwarded: [&'a [u8]; 2],
    matched: [&'a [u8]; 2],
    flags: Flags,
}

impl<'a> ReadPath<'a> {
    /// The path as it is forwarded, parameters included. `keep_slashes`: with its empty segments.
    #[must_use]
    pub fn forwarded(&self, keep_slashes: bool) -> &'a [u8] {
        let [collapsed, kept] = self.forwarded;
        if keep_slashes { kept } else { collapsed }
    }

    /// The path as it is matched, without parameters. `keep_slashes`: with its empty segments.
    #[must_use]
    pub fn matched(&self, keep_slashes: bool) -> &'a [u8] {
        let [collapsed, kept] = self.matched;
        if keep_slashes { kept } else { collapsed }
    }

    /// Whether it came with empty segments, so that the two variants differ.
    #[must_use]
    pub fn had_empty_segments(&self) -> bool {
        self.flags.empty_segments
    }

    /// Whether it came with `%2F`: refused unless the route says `encoded_slash: keep`.
    #[must_use]
    pub fn had_encoded_slash(&self) -> bool {
        self.flags.encoded_slash
    }

    /// Whether it came with `;parameters`, so that matched and forwarded text differ.
    #[must_use]
    pub fn had_parameters(&self) -> bool {
        self.flags.parameters
    }

    /// The range of the forwarded text that a range of the matched text stands for: a range that ends with a segment takes
    /// that segment's parameters along.
    pub(super) fn widen(&self, keep_slashes: bool, range: (u32, u32)) -> (u32, u32) {
        if !self.flags.parameters {
            return range;
        }
        let (matched, forwarded) = (self.matched(keep_slashes), self.forwarded(keep_slashes));
        let (start, end) = (range.0 as usize, range.1 as usize);
        let moved = |offset: usize| {
            let head = matched.get(..offset).unwrap_or_default();
            let slashes = head.iter().filter(|&&byte| byte == b'/').count();
            let within = head.iter().rev().take_while(|&&byte| byte != b'/').count();
            let segment = after_slashes(forwarded, slashes);
            (segment, segment + within)
        };
        let (_, new_start) = moved(start);
        let (last_segment, mut new_end) = moved(end);
        if end >= start && !matches!(matched.get(end), Some(&byte) if byte != b'/') {
            let rest = forwarded.get(last_segment..).unwrap_or_default();
            new_end = last_segment + rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
        }
        (offset(new_start), offset(new_end))
    }
}

/// Offset behind the `count`th slash.
fn after_slashes(bytes: &[u8], count: usize) -> usize {
    match count.checked_sub(1) {
        None => 0,
        Some(skip) => bytes
            .iter()
            .enumerate()
            .filter(|&(_, &byte)| byte == b'/')
            .nth(skip)
            .map_or(bytes.len(), |(index, _)| index + 1),
    }
}

/// Reads a path (the request target up to its `?`). One that comes in its normal form is scanned once and left where it is;
/// any other is written to `buffer`, whose former content is dropped.
///
/// # Errors
/// When the path is one that is always refused. Whether `%2F` is refused depends on the route, so it is not an error here.
pub fn read(raw: &[u8], buffer: &mut Vec<u8>) -> Result<Reading, PathError> {
    if raw.len() > MAX_LEN {
        return Err(PathError::TooLong);
    }
    if raw.first() != Some(&b'/') {
        return Err(PathError::NotAbsolute);
    }
    if is_normal(raw)? {
        let span = Span { start: 0, end: offset(raw.len()) };
        return Ok(Reading { in_buffer: false, flags: Flags::default(), forwarded: [span; 2], matched: [span; 2] });
    }
    rewrite(raw, buffer)
}

/// What a byte of a path asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Plain,
    Slash,
    Percent,
    Semicolon,
    Forbidden,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Forbidden; 256];
    let mut byte = 0x21;
    while byte < 0x7F {
        #[allow(clippy::indexing_slicing, reason = "evaluated at compile time, where a bad index fails the build")]
        {
            classes[byte] = match byte as u8 {
                b'/' => Class::Slash,
                b'%' => Class::Percent,
                b';' => Class::Semicolon,
                b'\\' | b'#' | b'?' => Class::Forbidden,
                _ => Class::Plain,
            };
        }
        byte += 1;
    }
    classes
};

fn class(byte: u8) -> Class {
    CLASSES.get(usize::from(byte)).copied().unwrap_or(Class::Forbidden)
}

/// Whether a path that begins with `/` needs no rewriting: one form for all routes, and no `%2F`.
fn is_normal(raw: &[u8]) -> Result<bool, PathError> {
    let mut rest = raw;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match class(*byte) {
            Class::Plain => {}
            Class::Slash => match tail {
                [b'/', ..] | [b'%', b'3', b'B', ..] | [b'.'] | [b'.', b'/' | b'%', ..] => return Ok(false),
                [b'.', b'.'] | [b'.', b'.', b'/' | b'%', ..] => return Ok(false),
                _ => {}
            },
            Class::Percent => {
                let value = escape(tail)?;
                let upper = tail.iter().take(2).all(|digit| !digit.is_ascii_lowercase());
                if !upper || is_unreserved(value) || value == b'/' {
                    return Ok(false);
                }
                rest = tail.get(2..).unwrap_or_default();
            }
            Class::Semicolon => return Ok(false),
            Class::Forbidden => return Err(forbidden(*byte)),
        }
    }
    Ok(true)
}

/// Writes all variants of a path to `buffer`.
fn rewrite(raw: &[u8], buffer: &mut Vec<u8>) -> Result<Reading, PathError> {
    buffer.clear();
    let mut flags = Flags::default();
    let collapsed = written(buffer, |buffer| normalise(raw, false, buffer, &mut flags))?;
    let kept = if flags.empty_segments {
        written(buffer, |buffer| normalise(raw, true, buffer, &mut flags))?
    } else {
        collapsed
    };
    let forwarded = [collapsed, kept];
    let mut matched = forwarded;
    if flags.parameters {
        let stripped = strip_parameters(collapsed, buffer);
        matched = [stripped, if flags.empty_segments { strip_parameters(kept, buffer) } else { stripped }];
    }
    Ok(Reading { in_buffer: true, flags, forwarded, matched })
}

/// The span that `write` appends.
fn written(buffer: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Result<(), PathError>) -> Result<Span, PathError> {
    let start = offset(buffer.len());
    write(buffer)?;
    Ok(Span { start, end: offset(buffer.len()) })
}

/// Appends one variant of a path. What is written is always whole segments, each with the slash before it.
fn normalise(raw: &[u8], keep_slashes: bool, out: &mut Vec<u8>, flags: &mut Flags) -> Result<(), PathError> {
    let root = out.len();
    let mut segments = raw.get(1..).unwrap_or_default().split(|&byte| byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        let start = out.len();
        out.push(b'/');
        let name_len = append_segment(segment, out, flags)?;
        let parameters = out.len() > start + 1 + name_len;
        let name = out.get(start + 1..start + 1 + name_len).unwrap_or_default();
        if parameters && matches!(name, b"" | b"." | b"..") || begins_with_escaped_parameters(name) {
            return Err(PathError::DotBeforeParameters);
        }
        match name {
            b"" if last => {}
            b"" => {
                flags.empty_segments = true;
                if !keep_slashes {
                    out.truncate(start);
                }
            }
            b"." => {
                out.truncate(start);
                if last {
                    out.push(b'/');
                }
            }
            b".." => {
                out.truncate(start);
                let above = out.get(root..).unwrap_or_default().iter().rposition(|&byte| byte == b'/');
                out.truncate(root + above.ok_or(PathError::AboveRoot)?);
                if last {
                    out.push(b'/');
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Appends one segment in its normal form; gives the length of its name, which ends at its first `;`.
fn append_segment(segment: &[u8], out: &mut Vec<u8>, flags: &mut Flags) -> Result<usize, PathError> {
    let start = out.len();
    let mut name_len = None;
    let mut encoded_slash = false;
    let mut rest = segment;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match class(*byte) {
            Class::Plain | Class::Slash => out.push(*byte),
            Class::Semicolon => {
                name_len.get_or_insert(out.len() - start);
                flags.parameters = true;
                out.push(b';');
            }
            Class::Percent => {
                let value = escape(tail)?;
                let digits = tail.get(..2).unwrap_or_default();
                rest = tail.get(2..).unwrap_or_default();
                flags.encoded_slash |= value == b'/';
                encoded_slash |= value == b'/';
                if name_len.is_some() {
                    out.push(b'%');
                    out.extend_from_slice(digits);
                } else if is_unreserved(value) {
                    out.push(value);
                } else {
                    out.push(b'%');
                    out.extend(digits.iter().map(u8::to_ascii_uppercase));
                }
            }
            Class::Forbidden => return Err(forbidden(*byte)),
        }
    }
    let name_len = name_len.unwrap_or(out.len() - start);
    if encoded_slash && has_dot_piece(out.get(start..).unwrap_or_default()) {
        return Err(PathError::DotBesideEncodedSlash);
    }
    Ok(name_len)
}

/// Whether a name, in its normal form, is nothing, one dot or two before a `%3B`: a server that decodes it before it cuts parameters would
/// be left with that.
fn begins_with_escaped_parameters(name: &[u8]) -> bool {
    let behind_dots = name.strip_prefix(b".").unwrap_or(name);
    behind_dots.strip_prefix(b".").unwrap_or(behind_dots).starts_with(b"%3B")
}

/// Whether a piece between encoded slashes is `.` or `..` before its first `;`, escaped or not, in the name or in the parameters, where
/// escapes stand as they came: a server may decode the slashes before it cuts the parameters, or after.
fn has_dot_piece(segment: &[u8]) -> bool {
    let mut rest = segment;
    loop {
        let end = rest.windows(3).position(|window| window.eq_ignore_ascii_case(b"%2F"));
        let piece = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        let escaped = piece.windows(3).position(|window| window.eq_ignore_ascii_case(b"%3B"));
        let piece = piece.get(..escaped.unwrap_or(piece.len())).unwrap_or_default();
        if is_dots(piece.split(|&byte| byte == b';').next().unwrap_or_default()) {
            return true;
        }
        match end {
            Some(end) => rest = rest.get(end + 3..).unwrap_or_default(),
            None => return false,
        }
    }
}

/// Whether a piece is one dot or two, each as it is or escaped.
fn is_dots(piece: &[u8]) -> bool {
    let mut rest = piece;
    let mut dots = 0;
    while !rest.is_empty() {
        rest = match rest {
            [b'.', tail @ ..] => tail,
            [b'%', b'2', b'E' | b'e', tail @ ..] => tail,
            _ => return false,
        };
        dots += 1;
    }
    dots == 1 || dots == 2
}

/// Appends the text at `span` without parameters.
fn strip_parameters(span: Span, buffer: &mut Vec<u8>) -> Span {
    let start = offset(buffer.len());
    let mut in_parameters = false;
    for index in span.start as usize..span.end as usize {
        let Some(&byte) = buffer.get(index) else { break };
        in_parameters = byte != b'/' && (in_parameters || byte == b';');
        if !in_parameters {
            buffer.push(byte);
        }
    }
    Span { start, end: offset(buffer.len()) }
}

/// The value of the two hexadecimal digits behind a `%`.
fn escape(tail: &[u8]) -> Result<u8, PathError> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let value = match tail {
        [high, low, ..] => digit(*high).zip(digit(*low)).map(|(high, low)| high << 4 | low),
        _ => None,
    };
    match value {
        None => Err(PathError::MalformedEscape),
        Some(0) => Err(PathError::Nul),
        Some(b'\\') => Err(PathError::Backslash),
        Some(value) => Ok(value),
    }
}

fn forbidden(byte: u8) -> PathError {
    if byte == b'\\' { PathError::Backslash } else { PathError::ForbiddenByte(byte) }
}

/// RFC 3986, section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// A length or offset that [`MAX_LEN`] keeps within 32 bits.
fn offset(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Brings a literal segment of a pattern into the form that requests are read into. Characters outside ASCII and spaces,
/// which an operator types as they are, become their escapes.
///
/// # Errors
/// As [`read`]; the second value of a success says whether the segment holds `%2F`.
pub(super) fn read_pattern_segment(segment: &str) -> Result<(Vec<u8>, bool), PathError> {
    let mut typed = Vec::with_capacity(segment.len());
    for byte in segment.bytes() {
        if byte >= 0x80 || byte == b' ' {
            typed.extend_from_slice(format!("%{byte:02X}").as_bytes());
        } else {
            typed.push(byte);
        }
    }
    let mut flags = Flags::default();
    let mut out = Vec::with_capacity(typed.len());
    append_segment(&typed, &mut out, &mut flags)?;
    Ok((out, flags.encoded_slash))
}
