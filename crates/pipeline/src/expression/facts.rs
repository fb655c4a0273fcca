//! What expressions speak of: a name becomes a slot, and a slot is read out of an exchange. Knows no syntax.

use std::borrow::Cow;
use std::net::IpAddr;

use crate::exchange::{Exchange, Span};
use crate::head::Head;

/// Where the request's path and parameters are, while no route is found yet.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The path in its one reading.
    pub path: &'a [u8],
    /// Ranges of it that the parameters of the route took, in the order of its pattern.
    pub params: &'a [(u32, u32)],
}

/// An exchange as an expression sees it.
#[derive(Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) exchange: &'a Exchange,
    pub(super) place: Option<Place<'a>>,
}

/// A text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Method,
    Path,
    Host,
    Scheme,
    Id,
    ClientIp,
    Consumer,
    Fingerprint,
    /// The first value of a name; empty when there is none.
    Named(Names, Box<str>),
    Param(u16),
}

/// A mapping of names to texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    Header,
    Query,
    Cookie,
    AnswerHeader,
    Params,
}

/// A name of an expression that stands for something of an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Text(Source),
    /// Whether a name is there.
    Has(Names, Box<str>),
    All(Names),
    Roles,
    Status,
    Body,
}

impl Slot {
    /// Whether it stands for what a parameter took.
    pub(super) fn is_param(&self) -> bool {
        matches!(self, Slot::Text(Source::Param(_)) | Slot::All(Names::Params))
    }
}

impl Source {
    /// The text; empty for what is not there.
    #[inline]
    pub(super) fn read<'a>(&self, facts: &Facts<'a>) -> Cow<'a, [u8]> {
        let exchange = facts.exchange;
        let request = &exchange.request;
        match self {
            Source::Method => Cow::Borrowed(request.method_text().as_bytes()),
            Source::Path => {
                Cow::Borrowed(facts.place.map_or_else(|| request.head.bytes(request.path), |place| place.path))
            }
            Source::Host => Cow::Borrowed(request.head.bytes(request.host)),
            Source::Scheme => Cow::Borrowed(if exchange.client.tls { b"https" } else { b"http" }),
            Source::Id => Cow::Borrowed(&exchange.id),
            Source::ClientIp => Cow::Owned(exchange.client.ip.to_canonical().to_string().into_bytes()),
            Source::Consumer => Cow::Borrowed(exchange.consumer_name().unwrap_or_default().as_bytes()),
            Source::Fingerprint => {
                let identity = exchange.client.identity.as_deref();
                Cow::Borrowed(identity.map(|identity| identity.fingerprint.as_bytes()).unwrap_or_default())
            }
            Source::Named(names, name) => names.get(name, facts).unwrap_or_default(),
            Source::Param(index) => decode(facts.param(*index), false),
        }
    }
}

impl Names {
    /// The first value of a name.
    #[inline]
    pub(super) fn get<'a>(self, name: &str, facts: &Facts<'a>) -> Option<Cow<'a, [u8]>> {
        match self {
            Names::Header => header(&facts.exchange.request.head, name).map(Cow::Borrowed),
            Names::AnswerHeader => header(&facts.exchange.response.head, name).map(Cow::Borrowed),
            Names::Cookie => facts.exchange.request.cookie(name).map(Cow::Borrowed),
            Names::Query => pairs(facts.exchange).find(|(key, _)| **key == *name.as_bytes()).map(|(_, value)| value),
            Names::Params => None,
        }
    }

    /// All names with their first values; names of headers in lower case. `params` are the names of the route's.
    pub(super) fn all(self, facts: &Facts<'_>, params: &[String]) -> Vec<(String, String)> {
        let mut found: Vec<(String, String)> = Vec::new();
        let mut add = |name: String, value: &[u8]| {
            if !found.iter().any(|(known, _)| *known == name) {
                found.push((name, lossy(value)));
            }
        };
        let exchange = facts.exchange;
        match self {
            Names::Header | Names::AnswerHeader => {
                let head = if self == Names::Header { &exchange.request.head } else { &exchange.response.head };
                head.iter().for_each(|(_, name, value)| add(lossy(name).to_ascii_lowercase(), value));
            }
            Names::Query => pairs(exchange).for_each(|(name, value)| add(lossy(&name), &value)),
            Names::Cookie => {
                let fields = exchange.request.head.values_id(crate::FieldId::Cookie);
                for pair in fields.flat_map(|field| field.split(|&byte| byte == b';')).map(<[u8]>::trim_ascii) {
                    if let Some(eq) = pair.iter().position(|&byte| byte == b'=') {
                        let (name, value) = pair.split_at(eq);
                        add(lossy(name), value.get(1..).unwrap_or_default());
                    }
                }
            }
            Names::Params => {
                for (name, index) in params.iter().zip(0..) {
                    add(name.clone(), &decode(facts.param(index), false));
                }
            }
        }
        found
    }
}

impl<'a> Facts<'a> {
    /// The text a parameter took, as it stands in the path.
    fn param(&self, index: u16) -> &'a [u8] {
        match self.place {
            Some(place) => {
                let range = place.params.get(usize::from(index)).map(|&(start, end)| start as usize..end as usize);
                range.and_then(|range| place.path.get(range)).unwrap_or_default()
            }
            None => {
                let found = self.exchange.params.iter().find(|(known, _)| *known == index);
                self.exchange.request.head.bytes(found.map_or(Span::default(), |(_, span)| *span))
            }
        }
    }

    pub(super) fn client_ip(&self) -> IpAddr {
        self.exchange.client.ip
    }

    pub(super) fn roles(&self) -> &'a [String] {
        self.exchange.consumer().map(|consumer| consumer.roles.as_slice()).unwrap_or_default()
    }
}

/// The first value of a field; `name` is in lower case.
#[inline]
pub(super) fn header<'a>(head: &'a Head, name: &str) -> Option<&'a [u8]> {
    let named = |field: &&crate::head::Field| {
        field.name.len() == name.len() && !field.removed && head.bytes(field.name).eq_ignore_ascii_case(name.as_bytes())
    };
    head.fields.iter().find(named).map(|field| head.bytes(field.value))
}

/// The query's parameters, decoded.
fn pairs(exchange: &Exchange) -> impl Iterator<Item = (Cow<'_, [u8]>, Cow<'_, [u8]>)> {
    exchange.request.query_pairs().map(|(name, value)| (decode(name.as_bytes(), true), decode(value.as_bytes(), true)))
}

/// What percent-encoded text stands for. A `%` without two hexadecimal digits stands for itself; in a query `+` is a space.
fn decode(text: &[u8], query: bool) -> Cow<'_, [u8]> {
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

/// Bytes as text; what is not UTF-8 becomes U+FFFD.
pub(super) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
