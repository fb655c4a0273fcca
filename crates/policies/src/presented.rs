//! The one credential a request presents: finds it, refuses what could be read in two ways, takes it out. Knows no consumer.

use daemun_config::decode::Decoder;
use daemun_config::tree::Node;
use daemun_pipeline::{FieldId, Head, Passed, Request, Span};

use crate::authorization::{after_scheme, remove_scheme};

/// The longest key that is looked at, in bytes.
pub(crate) const MAX_KEY: usize = 512;

/// Where keys are looked for.
#[derive(Debug)]
pub(crate) struct Sources {
    /// A header, lower case.
    pub(crate) header: Option<Box<str>>,
    /// A query parameter.
    pub(crate) query: Option<Box<str>>,
    /// A scheme of `Authorization`.
    pub(crate) scheme: Option<Box<str>>,
}

/// Where a key was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// In the header.
    Header,
    /// In the query.
    Query,
    /// In `Authorization`.
    Authorization,
}

/// Why a request has no key to look up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absent {
    /// None is there.
    None,
    /// Keys are in two places, or different ones in one.
    Several,
    /// It is longer than any key.
    TooLong,
}

impl Sources {
    /// Finds the one key of a request and hands it to `look_up`. A key in two places, or two different ones in one place, is none.
    pub(crate) fn find<T>(&self, request: &Request, look_up: impl FnOnce(Source, &[u8]) -> T) -> Result<T, Absent> {
        self.find_up_to(MAX_KEY, request, look_up)
    }

    /// The same where a key in a field may have so many bytes.
    pub(crate) fn find_up_to<T>(
        &self,
        longest: usize,
        request: &Request,
        look_up: impl FnOnce(Source, &[u8]) -> T,
    ) -> Result<T, Absent> {
        let field = self.in_fields(&request.head)?;
        let written = self.in_query(request)?;
        match (field, written) {
            (None, None) => Err(Absent::None),
            (Some(_), Some(_)) => Err(Absent::Several),
            (Some((_, key)), None) if key.len() > longest => Err(Absent::TooLong),
            (Some((source, key)), None) => Ok(look_up(source, key)),
            (None, Some(written)) => {
                let mut key = [0; MAX_KEY];
                let mut length = 0;
                for byte in decoded(written) {
                    *key.get_mut(length).ok_or(Absent::TooLong)? = byte;
                    length += 1;
                }
                Ok(look_up(Source::Query, key.get(..length).unwrap_or_default()))
            }
        }
    }

    fn in_fields<'a>(&self, head: &'a Head) -> Result<Option<(Source, &'a [u8])>, Absent> {
        let mut found: Option<(Source, &[u8])> = None;
        for (id, name, value) in head.iter() {
            let key = if id == FieldId::Authorization {
                self.scheme
                    .as_deref()
                    .and_then(|scheme| after_scheme(value, scheme))
                    .map(|key| (Source::Authorization, key))
            } else {
                let header = self.header.as_deref().filter(|header| is_field(name, header));
                header.map(|_| (Source::Header, value))
            };
            let Some(key) = key.filter(|(_, key)| !key.is_empty()) else { continue };
            if found.is_some_and(|known| known != key) {
                return Err(Absent::Several);
            }
            found = Some(key);
        }
        Ok(found)
    }

    /// The value as written, not decoded.
    fn in_query<'a>(&self, request: &'a Request) -> Result<Option<&'a [u8]>, Absent> {
        let (Some(wanted), Some(query)) = (self.query.as_deref(), request.query) else { return Ok(None) };
        let mut found: Option<&[u8]> = None;
        for (name, value) in request.head.bytes(query).split(|&b| b == b'&').map(name_and_value) {
            if value.is_empty() || !is_named(name, wanted) {
                continue;
            }
            if found.is_some_and(|known| !decoded(known).eq(decoded(value))) {
                return Err(Absent::Several);
            }
            found = Some(value);
        }
        Ok(found)
    }

    /// Takes the key out of what is forwarded.
    pub(crate) fn remove(&self, source: Source, request: &mut Request) {
        match source {
            Source::Header => {
                if let Some(header) = &self.header {
                    request.head.remove(header);
                }
            }
            Source::Authorization => {
                if let Some(scheme) = &self.scheme {
                    remove_scheme(&mut request.head, scheme, usize::MAX);
                }
            }
            Source::Query => self.remove_parameter(request),
        }
    }

    /// Names of the fields that keys may stand in.
    pub(crate) fn fields(&self) -> Box<[Box<str>]> {
        let scheme = self.scheme.iter().map(|_| "authorization".into());
        self.header.iter().cloned().chain(scheme).collect()
    }

    /// Takes whatever could be a key out of a request that another authenticator let in.
    pub(crate) fn pass_by(&self, request: &mut Request, passed: &Passed<'_>) {
        if let Some(header) = &self.header {
            passed.remove(&mut request.head, header);
        }
        if let Some(scheme) = self.scheme.as_deref().filter(|_| !passed.forwards("authorization")) {
            remove_scheme(&mut request.head, scheme, passed.fields);
        }
        self.remove_parameter(request);
    }

    /// Writes the query again without the parameter, behind everything else in the buffer.
    fn remove_parameter(&self, request: &mut Request) {
        let (Some(wanted), Some(query)) = (self.query.as_deref(), request.query) else { return };
        let buf = &mut request.head.buf;
        let (mut from, begin) = (query.start(), buf.len());
        while from < query.range().end {
            let rest = buf.get(from..query.range().end).unwrap_or_default();
            let length = rest.iter().position(|&b| b == b'&').unwrap_or(rest.len());
            let pair = rest.get(..length).unwrap_or_default();
            if !is_named(name_and_value(pair).0, wanted) {
                if buf.len() > begin {
                    buf.push(b'&');
                }
                buf.extend_from_within(from..from + length);
            }
            from += length + 1;
        }
        let end = buf.len();
        request.query = (end > begin).then(|| Span::new(begin, end));
    }
}

#[inline]
fn is_field(name: &[u8], header: &str) -> bool {
    daemun_pipeline::same_in_any_case(name, header.as_bytes())
}

fn name_and_value(pair: &[u8]) -> (&[u8], &[u8]) {
    match pair.iter().position(|&b| b == b'=') {
        Some(at) => (pair.get(..at).unwrap_or_default(), pair.get(at + 1..).unwrap_or_default()),
        None => (pair, &[]),
    }
}

/// Whether a parameter's name as written, encoded or not, is this one: a back end would read both alike.
fn is_named(written: &[u8], wanted: &str) -> bool {
    decoded(written).eq(wanted.bytes())
}

/// The bytes of a query component with `%XX` decoded; a `+` is itself, since keys may contain it.
fn decoded(written: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let mut rest = written;
    std::iter::from_fn(move || {
        if let [b'%', high, low, after @ ..] = rest
            && let (Some(high), Some(low)) = (hexadecimal(*high), hexadecimal(*low))
        {
            rest = after;
            return Some(high << 4 | low);
        }
        let (first, after) = rest.split_first()?;
        rest = after;
        Some(*first)
    })
}

fn hexadecimal(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Reports a header that a credential cannot be read from.
pub(crate) fn usable_header(name: &str, node: &Node, key: &str, what: &str, cx: &mut Decoder<'_>) {
    cx.key(key, |cx| match unusable(name) {
        Some(help) => cx.bad_value_help(node, format!("{what} cannot be read from `{name}`"), help),
        None => cx.reads_field(node, name),
    });
}

/// Why a credential cannot be read from a header of this name.
fn unusable(name: &str) -> Option<&'static str> {
    let id = FieldId::of(name.as_bytes());
    if id == FieldId::Authorization {
        Some("write `authorization: Bearer`, with the scheme")
    } else if id == FieldId::Identity {
        Some("`X-Consumer-*` headers tell the upstream who calls; a caller's own are removed")
    } else if id == FieldId::Underscore || id == FieldId::Other {
        None
    } else {
        Some("the header has a meaning of its own; choose another, such as `X-Api-Key`")
    }
}
