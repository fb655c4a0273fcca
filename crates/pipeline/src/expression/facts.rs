//! What expressions speak of: a name becomes a slot, and a slot is read out of an exchange. Knows no syntax.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;

use super::Stop;
use super::body::ReadBody;
use super::check::Tables;
use super::claims;
use crate::bounded::Budget;
use crate::certificate::{CertificateNames, TlsIdentity};
use crate::exchange::{Exchange, Span};
use crate::exchange::{decode, taken, without_parameters};
use crate::head::Head;

/// Where the request's path and parameters are, while no route is found yet.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The path as it is matched.
    pub path: &'a [u8],
    /// The same as it is forwarded, with the parameters of its segments.
    pub full: &'a [u8],
    /// Ranges of it that the parameters of the route took, in the order of its pattern.
    pub params: &'a [(u32, u32)],
}

/// An exchange as an expression sees it.
#[derive(Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) exchange: &'a Exchange,
    pub(super) place: Option<Place<'a>>,
    /// Where the body is kept once it is read.
    pub(super) body: Option<&'a ReadBody>,
    /// What all the conditions that are asked may still cost together, where that is bounded.
    pub(super) budget: Option<&'a Budget>,
}

/// A text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Method,
    Path,
    FullPath,
    QueryString,
    Host,
    Scheme,
    Id,
    ClientIp,
    Consumer,
    Credential,
    Fingerprint,
    TlsVersion,
    ServerName,
    Subject,
    SubjectCn,
    Issuer,
    /// The value of a name; empty when there is none.
    Named(Names, Box<str>),
    Param(u16),
    /// The parameter of this name of the route that was taken; empty where it has none.
    ParamOf(Box<str>),
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

/// A list of texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    Roles,
    Groups,
    Tags,
    Scopes,
    DnsNames,
    Uris,
}

impl List {
    /// Whether a text is in it; in none where there is no such list.
    #[inline]
    pub(super) fn has(self, text: &str, facts: &Facts<'_>) -> bool {
        let listed = |list: &[String]| list.iter().any(|known| **known == *text);
        match self {
            List::Roles => facts.exchange.has_role(text),
            List::Groups => facts.exchange.has_group(text),
            List::Tags => facts.exchange.has_tag(text),
            List::Scopes => facts.exchange.has_scope(text),
            List::DnsNames => facts.certificate().is_some_and(|names| listed(&names.dns_names)),
            List::Uris => facts.certificate().is_some_and(|names| listed(&names.uris)),
        }
    }

    /// Its texts; none where there is no such list.
    pub(super) fn all(self, facts: &Facts<'_>) -> Vec<String> {
        let exchange = facts.exchange;
        match self {
            List::Roles => exchange.roles().map(str::to_owned).collect(),
            List::Groups => exchange.groups().map(str::to_owned).collect(),
            List::Tags => exchange.tags().map(str::to_owned).collect(),
            List::Scopes => exchange.scopes().map(str::to_owned).collect(),
            List::DnsNames => facts.certificate().map(|names| names.dns_names.clone()).unwrap_or_default(),
            List::Uris => facts.certificate().map(|names| names.uris.clone()).unwrap_or_default(),
        }
    }
}

/// A name of an expression that stands for something of an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Text(Source),
    /// Whether a name is there.
    Has(Names, Box<str>),
    All(Names),
    List(List),
    /// What a credential says under these names.
    Claim(claims::Path),
    /// Whether it says anything under them.
    HasClaim(claims::Path),
    /// All it says.
    Claims,
    Status,
    Body,
}

impl Slot {
    /// Whether it needs the names of the parameters.
    pub(super) fn names_params(&self) -> bool {
        self.is_param() || matches!(self, Slot::Has(Names::Params, _))
    }

    /// Whether it stands for what a parameter took.
    pub(super) fn is_param(&self) -> bool {
        matches!(self, Slot::Text(Source::Param(_) | Source::ParamOf(_)) | Slot::All(Names::Params))
    }
}

impl Source {
    /// The text; empty for what is not there.
    #[inline]
    pub(super) fn read<'a>(&self, facts: &Facts<'a>) -> Result<Cow<'a, [u8]>, Stop> {
        let exchange = facts.exchange;
        let request = &exchange.request;
        Ok(match self {
            Source::Method => Cow::Borrowed(request.method_text().as_bytes()),
            Source::Path => match facts.place {
                Some(place) => Cow::Borrowed(place.path),
                None => without_parameters(request.head.bytes(request.path)),
            },
            Source::FullPath => {
                Cow::Borrowed(facts.place.map_or_else(|| request.head.bytes(request.path), |place| place.full))
            }
            Source::QueryString => Cow::Borrowed(request.query.map_or(&[], |query| request.head.bytes(query))),
            Source::Host => Cow::Borrowed(request.head.bytes(request.host)),
            Source::Scheme => Cow::Borrowed(if exchange.is_https() { b"https" } else { b"http" }),
            Source::Id => Cow::Borrowed(&exchange.id),
            Source::ClientIp => Cow::Owned(facts.client_ip()?.to_canonical().to_string().into_bytes()),
            Source::Consumer => Cow::Borrowed(exchange.consumer_bytes().unwrap_or_default()),
            Source::Credential => {
                let credential = exchange.identity.as_deref().and_then(|identity| identity.credential.as_deref());
                Cow::Borrowed(credential.unwrap_or_default().as_bytes())
            }
            Source::Fingerprint => {
                let identity = exchange.client.identity.as_deref();
                Cow::Borrowed(identity.map(|identity| identity.fingerprint.as_bytes()).unwrap_or_default())
            }
            Source::TlsVersion => Cow::Borrowed(
                exchange.client.handshake.as_ref().map(|made| made.version).unwrap_or_default().as_bytes(),
            ),
            Source::ServerName => {
                let made = exchange.client.handshake.as_deref();
                Cow::Borrowed(made.map(|made| made.server_name.as_bytes()).unwrap_or_default())
            }
            Source::Subject => facts.named(|names| &names.subject),
            Source::SubjectCn => facts.named(|names| &names.subject_cn),
            Source::Issuer => facts.named(|names| &names.issuer),
            Source::Named(names, name) => names.get(name, facts)?.unwrap_or_default(),
            Source::Param(index) => taken(facts.param(*index)),
            Source::ParamOf(name) => {
                let names = exchange.param_names.as_deref().unwrap_or_default();
                let found = names.iter().zip(0..).find(|(known, _)| **known == **name);
                found.map_or(Cow::Borrowed(&[][..]), |(_, index)| taken(facts.param(index)))
            }
        })
    }
}

impl Names {
    /// The value of a name: of a header that is there several times, all of them.
    #[inline]
    pub(super) fn get<'a>(self, name: &str, facts: &Facts<'a>) -> Result<Option<Cow<'a, [u8]>>, Stop> {
        let request = &facts.exchange.request;
        match self {
            Names::Header => Ok(header(&request.head, name)),
            Names::AnswerHeader => Ok(header(&facts.exchange.response.head, name)),
            Names::Cookie => only(name, cookies(facts.exchange).map(|(key, value)| (key, Cow::Borrowed(value)))),
            Names::Query => only(name, pairs(facts.exchange)),
            Names::Params => Ok(None),
        }
    }

    /// Whether a name is there.
    #[inline]
    pub(super) fn has(self, name: &str, facts: &Facts<'_>, params: &[String]) -> bool {
        match self {
            Names::Header => first(&facts.exchange.request.head, name).is_some(),
            Names::AnswerHeader => first(&facts.exchange.response.head, name).is_some(),
            Names::Cookie => cookies(facts.exchange).any(|(key, _)| key == name.as_bytes()),
            Names::Query => pairs(facts.exchange).any(|(key, _)| *key == *name.as_bytes()),
            Names::Params => params.iter().any(|known| known == name),
        }
    }

    /// All names with their values; names of headers in lower case. `params` are the names of the route's.
    pub(super) fn all(self, facts: &Facts<'_>, params: &[String]) -> Result<HashMap<String, String>, Stop> {
        let mut found: HashMap<String, String> = HashMap::new();
        let exchange = facts.exchange;
        match self {
            Names::Header | Names::AnswerHeader => {
                let head = if self == Names::Header { &exchange.request.head } else { &exchange.response.head };
                for (_, name, value) in head.iter() {
                    match found.entry(lossy(name).to_ascii_lowercase()) {
                        Entry::Vacant(entry) => _ = entry.insert(lossy(value)),
                        Entry::Occupied(mut entry) => {
                            let separator = separator(entry.key());
                            let all = entry.get_mut();
                            all.push_str(separator);
                            all.push_str(&String::from_utf8_lossy(value));
                        }
                    }
                }
            }
            Names::Query => {
                for (name, value) in pairs(exchange) {
                    add_only(&mut found, lossy(&name), lossy(&value))?;
                }
            }
            Names::Cookie => {
                for (name, value) in cookies(exchange) {
                    add_only(&mut found, lossy(name), lossy(value))?;
                }
            }
            Names::Params => {
                for (name, index) in params.iter().zip(0..) {
                    found.insert(name.clone(), lossy(&taken(facts.param(index))));
                }
            }
        }
        Ok(found)
    }
}

/// The one value that a name has; an error when it has several, of which another reader could take another.
fn only<'a, N: AsRef<[u8]>>(
    name: &str,
    mut pairs: impl Iterator<Item = (N, Cow<'a, [u8]>)>,
) -> Result<Option<Cow<'a, [u8]>>, Stop> {
    let Some((_, value)) = pairs.find(|(key, _)| key.as_ref() == name.as_bytes()) else { return Ok(None) };
    if pairs.any(|(key, other)| key.as_ref() == name.as_bytes() && other != value) {
        Err(several(name))
    } else {
        Ok(Some(value))
    }
}

fn add_only(found: &mut HashMap<String, String>, name: String, value: String) -> Result<(), Stop> {
    match found.entry(name) {
        Entry::Vacant(entry) => _ = entry.insert(value),
        Entry::Occupied(entry) if *entry.get() != value => return Err(several(entry.key())),
        Entry::Occupied(_) => {}
    }
    Ok(())
}

#[cold]
fn several(name: &str) -> Stop {
    Stop::Error(format!("`{name}` has several values"))
}

impl<'a> Facts<'a> {
    /// Those of an exchange whose route is found.
    pub(super) fn of(exchange: &'a Exchange) -> Facts<'a> {
        Facts { exchange, place: None, body: None, budget: None }
    }

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

    /// The names of the parameters.
    pub(super) fn param_names<'t>(&self, tables: &'t Tables) -> &'t [String]
    where
        'a: 't,
    {
        if tables.any_params { self.exchange.param_names.as_deref().unwrap_or_default() } else { &tables.params }
    }

    /// The caller's address. One that trusted proxies say unreadably is none: neither a condition nor its opposite holds of it.
    pub(super) fn client_ip(&self) -> Result<IpAddr, Stop> {
        let client = &self.exchange.client;
        if client.unreadable {
            Err(Stop::Error("the caller's address is not readable".to_owned()))
        } else {
            Ok(client.ip)
        }
    }

    /// Whom the client's certificate names.
    fn certificate(&self) -> Option<&'a CertificateNames> {
        self.exchange.client.identity.as_deref().map(TlsIdentity::names)
    }

    fn named(&self, name: fn(&CertificateNames) -> &String) -> Cow<'a, [u8]> {
        Cow::Borrowed(self.certificate().map(|names| name(names).as_bytes()).unwrap_or_default())
    }
}

/// The value of a field; `name` is in lower case. Several lines are one value (RFC 9110, section 5.3).
#[inline]
pub(super) fn header<'a>(head: &'a Head, name: &str) -> Option<Cow<'a, [u8]>> {
    let mut values = lines(head, name);
    let value = values.next()?;
    let Some(second) = values.next() else { return Some(Cow::Borrowed(value)) };
    let mut all = value.to_vec();
    for more in std::iter::once(second).chain(values) {
        all.extend_from_slice(separator(name).as_bytes());
        all.extend_from_slice(more);
    }
    Some(Cow::Owned(all))
}

fn first<'a>(head: &'a Head, name: &str) -> Option<&'a [u8]> {
    lines(head, name).next()
}

#[inline]
fn lines<'a>(head: &'a Head, name: &str) -> impl Iterator<Item = &'a [u8]> {
    let named = move |field: &&crate::head::Field| {
        field.name.len() == name.len() && !field.removed && head.bytes(field.name).eq_ignore_ascii_case(name.as_bytes())
    };
    head.fields.iter().filter(named).map(|field| head.bytes(field.value))
}

/// What stands between the lines of a field; cookies have their own (RFC 9113, section 8.2.3).
fn separator(name: &str) -> &'static str {
    if name == "cookie" { "; " } else { ", " }
}

/// The names and values of cookies.
fn cookies(exchange: &Exchange) -> impl Iterator<Item = (&[u8], &[u8])> {
    let fields = exchange.request.head.values_id(crate::FieldId::Cookie);
    fields.flat_map(|field| field.split(|&byte| byte == b';')).filter_map(|pair| {
        let pair = pair.trim_ascii();
        let (name, value) = pair.split_at(pair.iter().position(|&byte| byte == b'=')?);
        Some((name, value.get(1..).unwrap_or_default()))
    })
}

/// The query's parameters, decoded.
fn pairs(exchange: &Exchange) -> impl Iterator<Item = (Cow<'_, [u8]>, Cow<'_, [u8]>)> {
    exchange.request.query_pairs().map(|(name, value)| (decode(name.as_bytes(), true), decode(value.as_bytes(), true)))
}

/// Bytes as text; what is not UTF-8 becomes U+FFFD.
pub(super) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
