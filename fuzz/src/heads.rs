//! A reader of message heads written from RFC 9110 and RFC 9112 alone: it goes line by line and shares no code with the engine's.

use daemun_dataplane::http1::parse::BodyLength;
use daemun_pipeline::FieldId;
use daemun_pipeline::head::Field;

/// A name or value, of a head that was accepted, that no strict reader would take.
#[derive(Debug)]
pub struct Bad(pub &'static str);

/// A head line by line: its first line, and its fields without white space round their values.
#[derive(Debug)]
pub struct Lines<'a> {
    pub first: &'a [u8],
    pub fields: Vec<(&'a [u8], &'a [u8])>,
}

/// Reads a whole head, its empty line included.
pub fn lines(mut head: &[u8]) -> Result<Lines<'_>, Bad> {
    let first = take_line(&mut head)?;
    let mut fields = Vec::new();
    loop {
        let line = take_line(&mut head)?;
        if line.is_empty() {
            break;
        }
        let colon = line.iter().position(|&byte| byte == b':').ok_or(Bad("a line has no colon"))?;
        let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
        if !is_token(name) {
            return Err(Bad("a name is no token"));
        }
        if value.iter().any(|&byte| (byte < 0x20 && byte != b'\t') || byte == 0x7F) {
            return Err(Bad("a value holds a control byte"));
        }
        fields.push((name, value));
    }
    if head.is_empty() { Ok(Lines { first, fields }) } else { Err(Bad("bytes follow the empty line")) }
}

/// Takes a line that ends in CRLF and holds neither of both.
pub fn take_line<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Bad> {
    let end = rest.windows(2).position(|pair| pair == b"\r\n").ok_or(Bad("a line does not end"))?;
    let line = &rest[..end];
    *rest = &rest[end + 2..];
    if line.iter().any(|byte| b"\r\n\0".contains(byte)) { Err(Bad("a line holds CR, LF or NUL")) } else { Ok(line) }
}

/// RFC 9110, section 5.6.2.
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

pub fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

impl<'a> Lines<'a> {
    /// The values of a field.
    pub fn values(&self, name: &str) -> Vec<&'a [u8]> {
        let named = self.fields.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()));
        named.map(|(_, value)| *value).collect()
    }

    /// What all `Connection` fields list, in lower case.
    pub fn options(&self) -> Vec<Vec<u8>> {
        let values = self.values("connection");
        values
            .iter()
            .flat_map(|value| value.split(|&byte| byte == b','))
            .map(|word| trim(word).to_ascii_lowercase())
            .collect()
    }

    /// Whether `Connection` lists a word.
    pub fn has_option(&self, word: &str) -> bool {
        self.options().iter().any(|option| option == word.as_bytes())
    }

    /// What the framing fields say of the body. An error where a strict reader would refuse the head.
    pub fn framing(&self, version: u8) -> Result<BodyLength, Bad> {
        let (lengths, codings) = (self.values("content-length"), self.values("transfer-encoding"));
        match (lengths.as_slice(), codings.as_slice()) {
            ([], []) => Ok(BodyLength::None),
            ([], [coding]) if version == 11 && coding.eq_ignore_ascii_case(b"chunked") => Ok(BodyLength::Chunked),
            ([length], []) => {
                let digits = length.iter().all(u8::is_ascii_digit);
                let text = str::from_utf8(length).ok().filter(|_| digits);
                text.and_then(|text| text.parse().ok()).map(BodyLength::Length).ok_or(Bad("the length is no number"))
            }
            _ => Err(Bad("the end of the body is given twice, or in a way that is not to be understood")),
        }
    }

    /// Holds the engine's index against the lines: the same names and values in the same order, but for zeros before a length.
    pub fn check_index(&self, buf: &[u8], fields: &[Field]) {
        assert_eq!(self.fields.len(), fields.len());
        for (&(name, value), field) in self.fields.iter().zip(fields) {
            assert_eq!(&buf[field.name.range()], name);
            let indexed = &buf[field.value.range()];
            if field.id == FieldId::ContentLength {
                assert!(
                    value.ends_with(indexed) && value[..value.len() - indexed.len()].iter().all(|&byte| byte == b'0')
                );
            } else {
                assert_eq!(indexed, value);
            }
            assert_eq!(field.id == FieldId::Identity, is_identity(name), "{}", name.escape_ascii());
        }
    }
}

/// Whether a back end may read a name as `X-Consumer-…`.
pub fn is_identity(name: &[u8]) -> bool {
    let guarded = b"x-consumer-";
    let same = |(byte, wanted): (&u8, &u8)| match wanted {
        b'-' => !byte.is_ascii_alphanumeric(),
        _ => byte.eq_ignore_ascii_case(wanted),
    };
    name.len() >= guarded.len() && name.iter().zip(guarded).all(same)
}

/// The fields that are passed on.
pub fn kept<'a>(buf: &'a [u8], fields: &[Field]) -> Vec<(&'a [u8], &'a [u8])> {
    let kept = fields.iter().filter(|field| !field.removed);
    kept.map(|field| (&buf[field.name.range()], &buf[field.value.range()])).collect()
}

/// The head as it is sent on: a first line, then the fields in canonical form.
pub fn written(first: &[u8], fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut out = [first, b"\r\n"].concat();
    for (name, value) in fields {
        out.extend([name, b": ".as_slice(), value, b"\r\n"].concat());
    }
    out.extend(b"\r\n");
    out
}
