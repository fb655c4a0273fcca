//! The chunked coding (RFC 9112, section 7.1): a decoder fed piece by piece, and what writes chunks. Extensions are checked and dropped,
//! trailer fields kept where they may be passed on. Knows no socket, and of the head before it nothing.

use daemun_pipeline::head::{Field, is_token, is_value};
use daemun_pipeline::{Fault, FieldId, Head, Reason, Side, Span};

use super::parse::{is_dropped, is_guarded};

/// Hexadecimal digits of a chunk size, leading zeros included.
const SIZE_DIGITS_MAX: u8 = 16;
/// Bytes of all chunk extensions of a body together.
const EXTENSIONS_MAX: usize = 4 * 1024;
/// Bytes of the trailer section.
const TRAILERS_MAX: usize = 8 * 1024;
/// Fields in the trailer section.
const TRAILER_FIELDS_MAX: usize = 64;

/// How far a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It goes on: with bytes to come, or with bytes for which there was no room.
    More,
    /// It is complete; what was not used belongs to the next message.
    Done,
}

/// Reads one chunked body.
#[derive(Debug)]
pub struct ChunkDecoder {
    state: State,
    /// Payload bytes the open chunk still has; its size while the size is being read.
    left: u64,
    digits: u8,
    /// Bytes of extensions so far.
    extensions: usize,
    reason: Reason,
    keep_underscores: bool,
    /// Only there once a trailer field came.
    trailers: Option<Box<Head>>,
    /// Where the trailer line being read begins.
    line: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    /// Behind `;` or within the name; whether a byte of it was there.
    ExtensionName(bool),
    /// Behind `=` or within a token; whether a byte of it was there.
    ExtensionValue(bool),
    ExtensionQuoted,
    ExtensionEscape,
    ExtensionEnd,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerLine,
    TrailerLf,
    EndLf,
    Done,
}

impl ChunkDecoder {
    /// For one body; `reason` is given for whatever is wrong with it, and says whose body it is.
    #[must_use]
    pub fn new(reason: Reason) -> ChunkDecoder {
        ChunkDecoder {
            state: State::Size,
            left: 0,
            digits: 0,
            extensions: 0,
            reason,
            keep_underscores: false,
            trailers: None,
            line: 0,
        }
    }

    /// Whether a client's trailer fields with `_` in their name are kept (`underscores: keep`); they are not unless told.
    #[must_use]
    pub fn keep_underscores(mut self, keep: bool) -> ChunkDecoder {
        self.keep_underscores = keep;
        self
    }

    /// Takes bytes as they came, appends at most `room` bytes of payload to `out`, and says how many bytes it used. All were used, or
    /// the room was, or the body is complete; framing is read on even when there is no room left.
    ///
    /// # Errors
    /// Whatever is not exactly the coding, with the reason given to [`ChunkDecoder::new`]. The decoder and the connection cannot be used
    /// after it; what was appended is payload that came before the mistake.
    pub fn decode(&mut self, raw: &[u8], out: &mut Vec<u8>, room: usize) -> Result<(usize, Progress), Fault> {
        let mut used = 0;
        let mut room = room;
        while self.state != State::Done {
            let rest = raw.get(used..).unwrap_or_default();
            if self.state == State::Data {
                let most = usize::try_from(self.left).unwrap_or(usize::MAX);
                let payload = rest.get(..most.min(room).min(rest.len())).unwrap_or_default();
                out.extend_from_slice(payload);
                used += payload.len();
                room -= payload.len();
                self.left -= payload.len() as u64;
                if self.left > 0 {
                    return Ok((used, Progress::More));
                }
                self.state = State::DataCr;
                continue;
            }
            let Some(&byte) = rest.first() else { return Ok((used, Progress::More)) };
            self.state = self.step(byte).map_err(|why| self.fault(why))?;
            used += 1;
        }
        Ok((used, Progress::Done))
    }

    /// Payload bytes the open chunk announced that have not come yet; while its size is still being read, what is known of it.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The fields after the body; `None` when there were none. Those that must not be passed on are marked removed.
    pub fn take_trailers(&mut self) -> Option<Box<Head>> {
        self.trailers.take()
    }

    fn fault(&self, why: &'static str) -> Fault {
        if self.is_clients() {
            Fault::new(self.reason, why)
        } else {
            Fault::new(self.reason, "the body of the backend's answer is malformed").cause(why)
        }
    }

    fn is_clients(&self) -> bool {
        self.reason.side() == Side::Client
    }

    /// What one byte outside of payload leads to.
    fn step(&mut self, byte: u8) -> Result<State, &'static str> {
        match (self.state, byte) {
            (State::Size, _) => self.size(byte),
            (State::SizeLf, b'\n') => {
                let last = self.left == 0;
                self.digits = 0;
                Ok(if last { State::TrailerStart } else { State::Data })
            }
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::Size),
            (State::DataCr | State::DataLf, _) => Err("the chunk is longer than its size"),
            (State::TrailerStart, b'\r') => Ok(State::EndLf),
            (State::TrailerStart | State::TrailerLine, _) => self.trailer(byte),
            (State::TrailerLf, b'\n') => self.end_trailer(),
            (State::EndLf, b'\n') => Ok(State::Done),
            (State::SizeLf | State::TrailerLf | State::EndLf, _) => {
                Err("a line of the chunked coding does not end in CRLF")
            }
            (
                State::ExtensionName(_)
                | State::ExtensionValue(_)
                | State::ExtensionQuoted
                | State::ExtensionEscape
                | State::ExtensionEnd,
                _,
            ) => self.extension(byte),
            (State::Data | State::Done, _) => Ok(self.state),
        }
    }

    fn size(&mut self, byte: u8) -> Result<State, &'static str> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if self.digits > 0 => return Ok(State::SizeLf),
            b';' if self.digits > 0 => return self.extension(byte),
            _ => return Err("a chunk size is malformed"),
        };
        if self.digits == SIZE_DIGITS_MAX {
            return Err("a chunk size has more than 16 digits");
        }
        self.left = if self.digits == 0 { 0 } else { self.left << 4 } | u64::from(digit);
        self.digits += 1;
        Ok(State::Size)
    }

    /// A byte of a chunk extension, the `;` before it included: `;name`, `;name=token` or `;name="text"`, without white space.
    fn extension(&mut self, byte: u8) -> Result<State, &'static str> {
        self.extensions += usize::from(byte != b'\r');
        if self.extensions > EXTENSIONS_MAX {
            return Err("chunk extensions are larger than 4 KiB");
        }
        match (self.state, byte) {
            (State::ExtensionName(_), _) if is_token(byte) => Ok(State::ExtensionName(true)),
            (State::ExtensionName(true), b'=') => Ok(State::ExtensionValue(false)),
            (State::ExtensionValue(_), _) if is_token(byte) => Ok(State::ExtensionValue(true)),
            (State::ExtensionValue(false), b'"') => Ok(State::ExtensionQuoted),
            (State::ExtensionQuoted, b'"') => Ok(State::ExtensionEnd),
            (State::ExtensionQuoted, b'\\') => Ok(State::ExtensionEscape),
            (State::ExtensionQuoted | State::ExtensionEscape, _) if is_value(byte) => Ok(State::ExtensionQuoted),
            (State::Size | State::ExtensionName(true) | State::ExtensionValue(true) | State::ExtensionEnd, b';') => {
                Ok(State::ExtensionName(false))
            }
            (State::ExtensionName(true) | State::ExtensionValue(true) | State::ExtensionEnd, b'\r') => {
                Ok(State::SizeLf)
            }
            _ => Err("a chunk extension is malformed"),
        }
    }

    fn trailer(&mut self, byte: u8) -> Result<State, &'static str> {
        if byte == b'\r' {
            return Ok(State::TrailerLf);
        }
        if !is_value(byte) {
            return Err("a trailer field holds a control byte");
        }
        let head = self.trailers.get_or_insert_default();
        if head.buf.len() == TRAILERS_MAX {
            return Err("the trailer section is larger than 8 KiB");
        }
        head.buf.push(byte);
        Ok(State::TrailerLine)
    }

    /// Takes a complete trailer line into the index.
    fn end_trailer(&mut self) -> Result<State, &'static str> {
        let (from_client, keep_underscores) = (self.is_clients(), self.keep_underscores);
        let head = self.trailers.get_or_insert_default();
        let line = head.buf.get(self.line..).unwrap_or_default();
        let colon = memchr::memchr(b':', line).ok_or("a trailer line has no colon")?;
        let name = line.get(..colon).unwrap_or_default();
        if name.is_empty() || !name.iter().all(|&b| is_token(b)) {
            return Err("the name of a trailer field is not a token directly followed by a colon");
        }
        let raw = line.get(colon + 1..).unwrap_or_default();
        if head.fields.len() == TRAILER_FIELDS_MAX {
            return Err("there are more than 64 trailer fields");
        }
        let id = FieldId::of(name);
        let removed = match trailer_use(id, name, from_client, keep_underscores) {
            TrailerUse::Pass => false,
            TrailerUse::Drop => true,
            TrailerUse::Refuse => return Err("a field that must come before the body comes after it"),
        };
        let from = self.line + colon + 1 + (raw.len() - raw.trim_ascii_start().len());
        let value = Span::new(from, from + raw.trim_ascii().len());
        let name = Span::new(self.line, self.line + colon);
        head.fields.push(Field { name, value, id, removed });
        self.line = head.buf.len();
        Ok(State::TrailerStart)
    }
}

/// What becomes of a trailer field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrailerUse {
    /// It is passed on.
    Pass,
    /// It is left out.
    Drop,
    /// The message is refused: the field would have changed how it is read.
    Refuse,
}

/// What becomes of a trailer field (RFC 9110, section 6.5.1), over HTTP/1 and HTTP/2 alike: framing and connection fields are refused;
/// what routes, proves identity, controls caches or describes the content is left out, and from a client so is identity in every
/// spelling and, unless kept, any name with `_`.
#[must_use]
pub fn trailer_use(id: FieldId, name: &[u8], from_client: bool, keep_underscores: bool) -> TrailerUse {
    const LATE: [&[u8]; 17] = [
        b"set-cookie",
        b"cache-control",
        b"www-authenticate",
        b"content-encoding",
        b"content-range",
        b"content-location",
        b"content-disposition",
        b"content-language",
        b"age",
        b"expires",
        b"vary",
        b"pragma",
        b"range",
        b"max-forwards",
        b"retry-after",
        b"if-match",
        b"if-none-match",
    ];
    if id.is_hop_by_hop() || matches!(id, FieldId::Host | FieldId::ContentLength) {
        return TrailerUse::Refuse;
    }
    let late = (is_guarded(id) && id != FieldId::Identity)
        || matches!(id, FieldId::Expect | FieldId::Location | FieldId::Origin | FieldId::Date)
        || LATE.iter().any(|n| n.eq_ignore_ascii_case(name));
    if late || (from_client && is_dropped(id, name, keep_underscores)) { TrailerUse::Drop } else { TrailerUse::Pass }
}

/// Writes the line before a chunk of `len` bytes. `len` is not 0, which would end the body; a CRLF must follow the payload.
pub fn push_chunk_head(len: usize, out: &mut Vec<u8>) {
    let digits = (usize::BITS - len.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        let digit = (len >> (4 * place)) as u8 & 15;
        out.push(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the last chunk, the trailer fields that were not removed, and the end.
pub fn push_last_chunk(trailers: Option<&Head>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    for (_, name, value) in trailers.into_iter().flat_map(Head::iter) {
        out.extend_from_slice(name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
#[path = "tests_chunked.rs"]
mod tests;
