//! Tokens of bearers (RFC 6750): finds the one that a request carries, refuses what could be read in two ways, takes it out of what is
//! forwarded, notes whom it is of. Knows nothing of what makes a token valid.

use std::borrow::Cow;

use daemun_config::decode::{Decoder, FieldName, OneOrMany, OrOff, WebUrl};
use daemun_config::diagnostic::{self, Diagnostic};
use daemun_config::settings;
use daemun_config::tree::Node;
use daemun_pipeline::exchange::is_query_name;
use daemun_pipeline::head::is_token;
use daemun_pipeline::{Fault, FieldId, Head, Passed, Reason, Request, Span, Stop};

use crate::authorization::after_scheme;

/// The scheme (RFC 6750, section 2.1).
const SCHEME: &str = "Bearer";

settings! {
    /// Where a token stands in a request.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum Place {
        /// In `Authorization`, with the scheme `Bearer`.
        Bearer = "bearer",
        /// The whole value of this request header, written `{header: X-Token}`.
        Header(FieldName) = "header",
        /// The cookie of this name.
        Cookie(String) = "cookie",
        /// The query parameter of this name. Targets end up in logs and histories; prefer a header.
        Query(String) = "query",
    }
}

/// Reports places that a token cannot be read from; `node` holds the settings, and `from` the places.
pub(crate) fn check_places(places: &[Place], node: &Node, cx: &mut Decoder<'_>) {
    let at = node.get("from").unwrap_or(node);
    let query = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    cx.key("from", |cx| {
        if places.is_empty() {
            cx.bad_value(at, "expected at least one place, found an empty list");
        }
        if places.len() > 8 {
            cx.bad_value(at, "expected 8 places at most");
        }
        for place in places {
            match place {
                Place::Bearer => {}
                Place::Header(FieldName(name)) => {
                    let (id, message) = (FieldId::of(name.as_bytes()), format!("a token cannot be read from `{name}`"));
                    if id == FieldId::Underscore || id == FieldId::Other {
                        cx.reads_field(at, name);
                    } else if id == FieldId::Authorization {
                        cx.bad_value_help(at, message, "write `bearer`, the scheme that tokens are sent with");
                    } else {
                        let help = "the header has a meaning of its own; choose another, such as `X-Token`";
                        cx.bad_value_help(at, message, help);
                    }
                }
                Place::Cookie(name) if name.is_empty() || name.len() > 256 || !name.bytes().all(is_token) => {
                    let help = "1 to 256 letters, digits and the marks that cookies may have in their names";
                    cx.bad_value_help(at, format!("`{name}` cannot be the name of a cookie"), help);
                }
                Place::Query(name) if name.is_empty() || name.len() > 256 || !name.bytes().all(query) => {
                    let help = "1 to 256 letters, digits and `- . _ ~`";
                    cx.bad_value_help(at, format!("`{name}` cannot be the name of the parameter"), help);
                }
                Place::Cookie(_) | Place::Query(_) => {}
            }
        }
    });
}

/// Whom tokens must be for; anybody where that is off, or not said.
pub(crate) type Audience = Option<OrOff<OneOrMany<String>>>;

/// The names of an audience of which a token must have one; empty for any.
pub(crate) fn audiences(audience: &Audience) -> Vec<String> {
    match audience {
        Some(OrOff::On(OneOrMany(list))) => list.clone(),
        Some(OrOff::Off) | None => Vec::new(),
    }
}

/// Reports an audience that names nobody, and one that is missing where tokens may be of many services.
pub(crate) fn check_audience(audience: &Audience, of_many: bool, node: &Node, cx: &mut Decoder<'_>) {
    match audience {
        None if of_many => {
            let message = "without `audience`, tokens that the issuer made for other services are taken";
            let help = "say what this service is called in `aud`: `audience: shop-api`, or `audience: off`";
            cx.report(Diagnostic::warning(diagnostic::INSECURE, node.at, message).help(help));
        }
        Some(OrOff::On(OneOrMany(list))) if list.is_empty() => {
            let (at, help) = (node.get("audience").unwrap_or(node), "name one, or write `audience: off`");
            cx.key("audience", |cx| cx.bad_value_help(at, "expected at least one audience", help));
        }
        Some(_) | None => {}
    }
}

/// Whether a call can be read and changed on its way: it is not encrypted, and leaves the machine.
pub(crate) fn is_in_clear(url: &WebUrl) -> bool {
    let is_here = url.host() == "localhost"
        || url.host().ends_with(".localhost")
        || url.host().parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    !url.is_https() && !is_here
}

/// Why a request has no token to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absent {
    /// None is there.
    None,
    /// There is more than one.
    Several,
}

impl Absent {
    /// In words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Absent::None => "there is no token in the request",
            Absent::Several => "there is more than one token in the request",
        }
    }
}

/// Where tokens are looked for.
#[derive(Debug)]
pub(crate) struct Places {
    list: Box<[Place]>,
    /// Names of the fields that are tokens as a whole, in lower case.
    fields: Box<[Box<str>]>,
    forward: bool,
}

impl Places {
    /// From the settings; with `forward` nothing is taken out of requests.
    pub(crate) fn new(list: Vec<Place>, forward: bool) -> Places {
        let fields = list.iter().filter_map(|place| match place {
            Place::Bearer => Some("authorization".into()),
            Place::Header(FieldName(name)) => Some(name.as_str().into()),
            Place::Cookie(_) | Place::Query(_) => None,
        });
        Places { fields: fields.collect(), forward, list: list.into() }
    }

    /// Names of the fields that are taken out whole.
    pub(crate) fn removed(&self) -> &[Box<str>] {
        if self.forward { &[] } else { &self.fields }
    }

    /// Names of the fields that a token goes on in.
    pub(crate) fn forwarded(&self) -> &[Box<str>] {
        if self.forward { &self.fields } else { &[] }
    }

    /// The one token of a request.
    // what it gives would go through memory otherwise
    #[inline(always)]
    pub(crate) fn find<'r>(&self, request: &'r Request) -> Result<Cow<'r, [u8]>, Absent> {
        let [Place::Bearer] = &*self.list else { return self.find_anywhere(request) };
        let mut found = None;
        for value in request.head.values_id(FieldId::Authorization) {
            let Some(token) = after_scheme(value, SCHEME) else { continue };
            if found.replace(token).is_some() {
                return Err(Absent::Several);
            }
        }
        found.filter(|token| !token.is_empty()).map(Cow::Borrowed).ok_or(Absent::None)
    }

    #[inline(never)]
    fn find_anywhere<'r>(&self, request: &'r Request) -> Result<Cow<'r, [u8]>, Absent> {
        let mut found: Option<Cow<'r, [u8]>> = None;
        let mut take = |token: Cow<'r, [u8]>| match found.replace(token) {
            None => Ok(()),
            Some(_) => Err(Absent::Several),
        };
        for place in &self.list {
            match place {
                Place::Bearer => {
                    for token in request.head.values_id(FieldId::Authorization).filter_map(|v| after_scheme(v, SCHEME))
                    {
                        take(Cow::Borrowed(token))?;
                    }
                }
                Place::Header(FieldName(name)) => {
                    for (_, _, token) in request.head.iter().filter(|(_, of, _)| same(of, name)) {
                        take(Cow::Borrowed(token))?;
                    }
                }
                Place::Cookie(name) => {
                    for token in cookies(&request.head).filter_map(|pair| value_of(pair, name)) {
                        take(Cow::Borrowed(token))?;
                    }
                }
                Place::Query(name) => {
                    for (_, token) in request.query_pairs().filter(|(sent, _)| is_query_name(sent, name)) {
                        take(daemun_pipeline::exchange::decode(token.as_bytes(), false))?;
                    }
                }
            }
        }
        found.filter(|token| !token.is_empty()).ok_or(Absent::None)
    }

    /// Takes tokens out of what is forwarded: `Authorization` whole, since a back end could take another scheme's.
    pub(crate) fn remove(&self, request: &mut Request) {
        if self.forward {
            return;
        }
        if let [Place::Bearer] = &*self.list {
            return request.head.remove_id(FieldId::Authorization);
        }
        for name in self.removed() {
            request.head.remove(name);
        }
        self.remove_parts(request);
    }

    /// The same of a request that another authenticator let in.
    pub(crate) fn pass_by(&self, request: &mut Request, passed: &Passed<'_>) {
        for name in self.removed() {
            passed.remove(&mut request.head, name);
        }
        self.remove_parts(request);
    }

    /// Takes out those that are part of something else.
    fn remove_parts(&self, request: &mut Request) {
        for place in self.list.iter().filter(|_| !self.forward) {
            match place {
                Place::Bearer | Place::Header(_) => {}
                Place::Cookie(name) => remove_cookie(&mut request.head, name),
                Place::Query(name) => remove_parameter(request, name),
            }
        }
    }
}

fn same(name: &[u8], header: &str) -> bool {
    name.len() == header.len() && daemun_pipeline::same_in_any_case(name, header.as_bytes())
}

/// The pairs of all cookies.
pub(crate) fn cookies(head: &Head) -> impl Iterator<Item = &[u8]> {
    head.values_id(FieldId::Cookie).flat_map(|value| value.split(|&b| b == b';'))
}

/// The value of a cookie's pair, if it is of this name.
pub(crate) fn value_of<'p>(pair: &'p [u8], name: &str) -> Option<&'p [u8]> {
    let value = pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
    // quotes are no part of what is quoted
    Some(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value))
}

/// Writes cookies again without one.
fn remove_cookie(head: &mut Head, name: &str) {
    if !cookies(head).any(|pair| value_of(pair, name).is_some()) {
        return;
    }
    let mut left = Vec::new();
    for pair in cookies(head).filter(|pair| value_of(pair, name).is_none()).map(<[u8]>::trim_ascii) {
        if !pair.is_empty() {
            if !left.is_empty() {
                left.extend_from_slice(b"; ");
            }
            left.extend_from_slice(pair);
        }
    }
    head.remove("cookie");
    if !left.is_empty() {
        head.append("Cookie", &left);
    }
}

/// Writes the query again without a parameter, behind everything else in the buffer.
fn remove_parameter(request: &mut Request, name: &str) {
    let Some(query) = request.query else { return };
    let named = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).unwrap_or_default();
        is_query_name(pair.split_once('=').map_or(pair, |(name, _)| name), name)
    };
    let buf = &mut request.head.buf;
    let (mut from, begin) = (query.start(), buf.len());
    while from < query.range().end {
        let rest = buf.get(from..query.range().end).unwrap_or_default();
        let length = rest.iter().position(|&b| b == b'&').unwrap_or(rest.len());
        if !named(rest.get(..length).unwrap_or_default()) {
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

/// Why the bearer of a token is not the caller.
pub(crate) const ANOTHER: &str = "the token names no consumer of the configuration, or another caller than one that is authenticated, or has a consumer's name";

/// A request without a token that is taken (RFC 6750, section 3): the same words whatever was wrong, but no error where no token is.
pub(crate) fn refused(has_token: bool, cause: String) -> Stop {
    let challenge =
        if has_token { "Bearer realm=\"daemun\", error=\"invalid_token\"" } else { "Bearer realm=\"daemun\"" };
    let fault = Fault::new(Reason::Unauthenticated, "the request has no token that is valid here");
    Stop::Fault(fault.field("WWW-Authenticate", challenge).cause(cause))
}

/// Whether a token is valid cannot be told now.
pub(crate) fn unavailable(cause: String) -> Stop {
    let fault = Fault::new(Reason::AuthUnavailable, "whether the token is valid cannot be told at the moment");
    Stop::Fault(fault.field("Retry-After", "5").cause(cause))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{exchange, upstream_lines};

    fn everywhere() -> Places {
        let places = vec![
            Place::Bearer,
            Place::Header(FieldName("x-token".to_owned())),
            Place::Cookie("session".to_owned()),
            Place::Query("access_token".to_owned()),
        ];
        Places::new(places, false)
    }

    #[test]
    fn a_token_is_found_wherever_it_may_stand() {
        for text in [
            "GET / HTTP/1.1\nAuthorization: Bearer a.b",
            "GET / HTTP/1.1\nauthorization: bEARER   a.b",
            "GET / HTTP/1.1\nX-TOKEN: a.b",
            "GET / HTTP/1.1\nCookie: a=1; session=a.b ;c",
            "GET / HTTP/1.1\nCookie: a=1\nCookie: session=\"a.b\"",
            "GET /?x=1&access_token=a.b HTTP/1.1",
            "GET /?access%5ftoken=a%2Eb HTTP/1.1",
        ] {
            let exchange = exchange(text);
            assert_eq!(everywhere().find(&exchange.request).as_deref(), Ok(&b"a.b"[..]), "{text}");
        }
    }

    #[test]
    fn several_tokens_are_refused_even_when_they_are_the_same() {
        for text in [
            "GET / HTTP/1.1\nAuthorization: Bearer a\nAuthorization: Bearer a",
            "GET / HTTP/1.1\nAuthorization: Bearer a\nX-Token: a",
            "GET / HTTP/1.1\nAuthorization: Bearer a\nX-Token:",
            "GET / HTTP/1.1\nCookie: session=a; session=b",
            "GET / HTTP/1.1\nCookie: session=a\nCookie: session=a",
            "GET /?access_token=a&access%5Ftoken=a HTTP/1.1",
            "GET /?access_token=a HTTP/1.1\nCookie: session=a",
        ] {
            let exchange = exchange(text);
            assert_eq!(everywhere().find(&exchange.request).err(), Some(Absent::Several), "{text}");
        }
    }

    #[test]
    fn what_is_no_token_is_none() {
        for text in [
            "GET / HTTP/1.1",
            "GET / HTTP/1.1\nAuthorization: Basic a",
            "GET / HTTP/1.1\nAuthorization: Bearera",
            "GET / HTTP/1.1\nAuthorization: Bearer",
            "GET /?access_token HTTP/1.1",
            "GET / HTTP/1.1\nCookie: sessio=a; Session=b; xsession=c",
        ] {
            let exchange = exchange(text);
            assert_eq!(everywhere().find(&exchange.request).err(), Some(Absent::None), "{text}");
        }
    }

    #[test]
    fn what_is_forwarded_has_no_token_and_keeps_all_else() {
        for (text, left) in [
            ("GET /p?a=1&access_token=x&b HTTP/1.1\nHost: h", &["GET /p?a=1&b HTTP/1.1", "Host: h"][..]),
            ("GET /p?access%5Ftoken=x HTTP/1.1", &["GET /p HTTP/1.1"]),
            ("GET / HTTP/1.1\nCookie: a=1; session=x; b=2", &["GET / HTTP/1.1", "Cookie: a=1; b=2"]),
            ("GET / HTTP/1.1\nCookie: session=x", &["GET / HTTP/1.1"]),
            ("GET / HTTP/1.1\nCookie: a=1;b=2", &["GET / HTTP/1.1", "Cookie: a=1;b=2"]),
            ("GET / HTTP/1.1\nAuthorization: Bearer x\nAuthorization: Basic y\nx-token: z", &["GET / HTTP/1.1"]),
        ] {
            let mut exchange = exchange(text);
            everywhere().remove(&mut exchange.request);
            assert_eq!(upstream_lines(&exchange.request), left, "{text}");
        }
    }
}
