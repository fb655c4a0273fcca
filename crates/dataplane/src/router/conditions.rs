//! What a route asks of headers, query, cookies and client address, and by expression, beside host, path and method. Knows nothing of routes:
//! the questions are asked of a [`Conditions`], which the exchange answers, and only when a route asks them.

use std::collections::HashMap;
use std::net::IpAddr;

use daemun_config::model::{IpNet, Match, Spanned, ValueMatch};
use daemun_pipeline::bounded::{Bounded, MOST_COMPILED};
use daemun_pipeline::expression::{Expression, Place};
use regex::bytes::{Regex, RegexSet};

/// Largest compiled size of the expressions of a set, in bytes.
const MOST_OF_SET: usize = 1 << 24;

/// What a request answers to the conditions of routes. A name may have several values; each is shown to `visit` until it
/// says `false`.
pub trait Conditions {
    /// The values of a header; the name is in lower case.
    fn header(&self, name: &str, visit: &mut dyn FnMut(&[u8]) -> bool);
    /// The values of a query parameter, decoded.
    fn query(&self, name: &str, visit: &mut dyn FnMut(&[u8]) -> bool);
    /// The values of a cookie.
    fn cookie(&self, name: &str, visit: &mut dyn FnMut(&[u8]) -> bool);
    /// The caller's address, trusted proxies taken into account; `None` where what these say cannot be read.
    fn client_ip(&self) -> Option<IpAddr>;
    /// Whether an expression holds for it. It may read a JSON body of up to `body` bytes.
    fn when(&self, when: &Expression, body: u64, place: Place<'_>) -> bool {
        let _ = (when, body, place);
        false
    }
    /// Notes that a value is longer than a regular expression goes through: the request is not to be answered by any route.
    fn too_long(&self) {}
    /// Takes so much of what all that is asked of a request may cost together; where not so much is left, the request is not to be
    /// answered by any route.
    fn spend(&self, work: u64) -> bool {
        let _ = work;
        true
    }
}

/// An expression, and how much of a body it may read.
#[derive(Clone, Debug)]
pub(super) struct When {
    pub(super) expression: Expression,
    /// Bytes.
    pub(super) body: u64,
}

/// The conditions of one route. All must hold.
#[derive(Clone, Debug, Default)]
pub(super) struct ConditionSet {
    headers: Vec<Condition>,
    query: Vec<Condition>,
    cookies: Vec<Condition>,
    client_ip: Vec<IpNet>,
    pub(super) when: Option<When>,
}

/// One condition on the values of a name. It holds when there is a value and **every** value fulfils it, so that a request
/// that repeats a field cannot meet two conditions that exclude each other.
#[derive(Clone, Debug)]
struct Condition {
    name: Box<str>,
    value: Matcher,
}

#[derive(Clone, Debug)]
enum Matcher {
    /// Sorted.
    OneOf(Vec<Box<[u8]>>),
    Present,
    Absent,
    Regex(Bounded<Regex>),
}

/// The condition that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FailedCondition {
    /// A header of this name.
    Header(String),
    /// A query parameter of this name.
    Query(String),
    /// A cookie of this name.
    Cookie(String),
    /// The client address.
    ClientIp,
    /// The expression, as written.
    When(String),
}

/// The same, without a copy of its name.
enum Failed<'a> {
    Header(&'a Condition),
    Query(&'a Condition),
    Cookie(&'a Condition),
    ClientIp,
}

/// Shows all values of a name.
type Values<'a> = dyn Fn(&str, &mut dyn FnMut(&[u8]) -> bool) + 'a;

/// Which conditions are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Looked {
    /// All.
    All,
    /// The client address only: a preflight carries no headers, query or cookies of the request it asks for.
    ClientIpOnly,
}

/// Regular expressions of conditions, each compiled once.
#[derive(Debug, Default)]
pub(super) struct RegexCache {
    compiled: HashMap<String, Bounded<Regex>>,
}

impl RegexCache {
    fn get(&mut self, text: &str) -> Result<Bounded<Regex>, String> {
        if let Some(regex) = self.compiled.get(text) {
            return Ok(regex.clone());
        }
        let regex = anchored(text)?;
        self.compiled.insert(text.to_owned(), regex.clone());
        Ok(regex)
    }
}

/// Compiles an expression that must match the whole text.
///
/// # Errors
/// A message for the operator.
pub(super) fn anchored(text: &str) -> Result<Bounded<Regex>, String> {
    // Alone first: `a)|(b` is only well-formed within the parentheses added here.
    regex_syntax::ast::parse::Parser::new()
        .parse(text)
        .map_err(|error| format!("`{text}` is not a regular expression: {}", error.kind()))?;
    // Without Unicode classes the automaton is a fraction of the size; an expression that needs them gets them.
    let whole = whole(text);
    let build = |unicode| {
        Bounded::build(|size| regex::bytes::RegexBuilder::new(&whole).unicode(unicode).size_limit(size).build())
    };
    build(false).or_else(|_| build(true)).map_err(|error| {
        if matches!(error, regex::Error::CompiledTooBig(_)) {
            format!("`{text}` needs more than {MOST_COMPILED} bytes when compiled")
        } else {
            format!("`{text}` cannot be used as a regular expression: {error}")
        }
    })
}

/// An expression that matches where any of these match the whole text; `None` when it would be too large.
pub(super) fn any_of<'a>(texts: impl Iterator<Item = &'a str>) -> Option<RegexSet> {
    let texts: Vec<String> = texts.map(whole).collect();
    let build = |unicode| regex::bytes::RegexSetBuilder::new(&texts).unicode(unicode).size_limit(MOST_OF_SET).build();
    build(false).or_else(|_| build(true)).ok()
}

fn whole(text: &str) -> String {
    format!("^(?:{text})$")
}

impl ConditionSet {
    /// Compiles what a route asks. A regular expression that cannot be used is given to `report`.
    pub(super) fn compile(
        matches: &Match,
        cache: &mut RegexCache,
        report: &mut dyn FnMut(&Spanned<String>, String),
    ) -> Self {
        let mut list = |conditions: &[(Spanned<String>, ValueMatch)]| {
            let mut compiled = Vec::with_capacity(conditions.len());
            for (name, value) in conditions {
                match Matcher::compile(value, cache) {
                    Ok(value) => compiled.push(Condition { name: name.value.as_str().into(), value }),
                    Err((regex, message)) => report(regex, message),
                }
            }
            compiled
        };
        Self {
            headers: list(&matches.headers),
            query: list(&matches.query),
            cookies: list(&matches.cookies),
            client_ip: matches.client_ip.clone(),
            when: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.headers.is_empty()
            && self.query.is_empty()
            && self.cookies.is_empty()
            && self.client_ip.is_empty()
            && self.when.is_none()
    }

    /// How many conditions there are, comparable: headers weigh more than any number of query parameters, those more than
    /// cookies, those more than a client address, and that more than an expression. However many ranges it lists, an address is one
    /// condition.
    pub(super) fn weight(&self) -> u64 {
        let count = |list: &[Condition]| u64::try_from(list.len()).unwrap_or(u64::MAX).min(0xFFFF);
        count(&self.headers) << 48
            | count(&self.query) << 32
            | count(&self.cookies) << 16
            | u64::from(!self.client_ip.is_empty()) << 1
            | u64::from(self.when.is_some())
    }

    /// Whether a request fulfils all but the expression.
    #[inline]
    pub(super) fn hold(&self, request: &dyn Conditions, looked: Looked) -> bool {
        self.first_failed(request, looked).is_none()
    }

    /// The first condition that a request does not fulfil, for a person to read.
    pub(super) fn explain(&self, request: &dyn Conditions, looked: Looked) -> Option<FailedCondition> {
        let failed = self.first_failed(request, looked)?;
        let name = |condition: &Condition| condition.name.to_string();
        Some(match failed {
            Failed::Header(condition) => FailedCondition::Header(name(condition)),
            Failed::Query(condition) => FailedCondition::Query(name(condition)),
            Failed::Cookie(condition) => FailedCondition::Cookie(name(condition)),
            Failed::ClientIp => FailedCondition::ClientIp,
        })
    }

    fn first_failed(&self, request: &dyn Conditions, looked: Looked) -> Option<Failed<'_>> {
        let failed = |list: &'_ [Condition], values: &Values<'_>| {
            list.iter().position(|condition| !condition.holds(values, request))
        };
        if looked == Looked::All {
            if let Some(index) = failed(&self.headers, &|name, visit| request.header(name, visit)) {
                return self.headers.get(index).map(Failed::Header);
            }
            if let Some(index) = failed(&self.query, &|name, visit| request.query(name, visit)) {
                return self.query.get(index).map(Failed::Query);
            }
            if let Some(index) = failed(&self.cookies, &|name, visit| request.cookie(name, visit)) {
                return self.cookies.get(index).map(Failed::Cookie);
            }
        }
        if !self.client_ip.is_empty() {
            let is_in = |ip| self.client_ip.iter().any(|net| net.contains(ip));
            if !request.client_ip().is_some_and(is_in) {
                return Some(Failed::ClientIp);
            }
        }
        None
    }

    /// Whether no request can fulfil both. `false` also where that cannot be told: two different expressions on one name.
    pub(super) fn excludes(&self, other: &Self) -> bool {
        self.kinds().into_iter().zip(other.kinds()).any(|(own, others)| {
            own.iter().any(|condition| {
                others.iter().any(|other| condition.name == other.name && condition.value.excludes(&other.value))
            })
        }) || self.addresses_exclude(other)
            || matches!((&self.when, &other.when), (Some(own), Some(other)) if own.expression.excludes(&other.expression))
    }

    fn addresses_exclude(&self, other: &Self) -> bool {
        !self.client_ip.is_empty()
            && !other.client_ip.is_empty()
            && !self.client_ip.iter().any(|net| other.client_ip.iter().any(|other| overlap(net, other)))
    }

    /// Whether every request that fulfils `other` fulfils this. `false` also where that cannot be told.
    pub(super) fn is_implied_by(&self, other: &Self) -> bool {
        let values = self.kinds().into_iter().zip(other.kinds()).all(|(own, others)| {
            own.iter().all(|condition| {
                others.iter().any(|other| condition.name == other.name && condition.value.is_implied_by(&other.value))
            })
        });
        let address = self.client_ip.is_empty()
            || !other.client_ip.is_empty()
                && other.client_ip.iter().all(|net| self.client_ip.iter().any(|own| contains(own, net)));
        let when = match (&self.when, &other.when) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(other)) => own.expression == other.expression && own.body == other.body,
        };
        values && address && when
    }

    fn kinds(&self) -> [&[Condition]; 3] {
        [&self.headers, &self.query, &self.cookies]
    }

    /// The exact values asked of each name, to tell many routes apart at once: kind, name, values.
    pub(super) fn exact_values(&self) -> impl Iterator<Item = (usize, &str, &[Box<[u8]>])> {
        self.kinds().into_iter().enumerate().flat_map(|(kind, list)| {
            list.iter().filter_map(move |condition| match &condition.value {
                Matcher::OneOf(values) => Some((kind, condition.name.as_ref(), values.as_slice())),
                Matcher::Present | Matcher::Absent | Matcher::Regex(_) => None,
            })
        })
    }
}

impl Condition {
    fn holds(&self, values: &Values<'_>, request: &dyn Conditions) -> bool {
        let (mut seen, mut fulfilled) = (false, true);
        values(&self.name, &mut |value| {
            seen = true;
            let affordable = match &self.value {
                Matcher::Regex(regex) => request.spend(regex.work(value.len())),
                Matcher::OneOf(_) | Matcher::Present | Matcher::Absent => true,
            };
            fulfilled = self.value.accepts(value).filter(|_| affordable).unwrap_or_else(|| {
                request.too_long();
                false
            });
            fulfilled
        });
        match self.value {
            Matcher::Absent => !seen,
            Matcher::OneOf(_) | Matcher::Present | Matcher::Regex(_) => seen && fulfilled,
        }
    }
}

impl Matcher {
    fn compile<'a>(value: &'a ValueMatch, cache: &mut RegexCache) -> Result<Self, (&'a Spanned<String>, String)> {
        Ok(match value {
            ValueMatch::Exact(value) => Self::OneOf(vec![value.as_bytes().into()]),
            ValueMatch::OneOf(values) => {
                let mut values: Vec<Box<[u8]>> = values.iter().map(|value| value.as_bytes().into()).collect();
                values.sort_unstable();
                Self::OneOf(values)
            }
            ValueMatch::Present => Self::Present,
            ValueMatch::Absent => Self::Absent,
            ValueMatch::Secret(value) => return Self::compile(value, cache),
            ValueMatch::Regex(text) => Self::Regex(cache.get(&text.value).map_err(|message| (text, message))?),
        })
    }

    /// Whether a value fulfils it; `None` when it is longer than an expression goes through.
    #[inline]
    fn accepts(&self, value: &[u8]) -> Option<bool> {
        Some(match self {
            Self::OneOf(values) => values.binary_search_by(|known| known.as_ref().cmp(value)).is_ok(),
            Self::Present => true,
            Self::Absent => false,
            Self::Regex(regex) => regex.over(value.len())?.is_match(value),
        })
    }

    fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Absent, Self::Absent) => false,
            (Self::Absent, _) | (_, Self::Absent) => true,
            (Self::OneOf(values), other) | (other, Self::OneOf(values)) => {
                values.iter().all(|value| other.accepts(value) == Some(false))
            }
            (Self::Present | Self::Regex(_), Self::Present | Self::Regex(_)) => false,
        }
    }

    fn is_implied_by(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Absent, Self::Absent) => true,
            (Self::Absent, _) | (_, Self::Absent) => false,
            (Self::Present, _) => true,
            (own, Self::OneOf(values)) => values.iter().all(|value| own.accepts(value) == Some(true)),
            (Self::Regex(own), Self::Regex(other)) => own.compiled().as_str() == other.compiled().as_str(),
            (Self::OneOf(_) | Self::Regex(_), Self::Present | Self::Regex(_)) => false,
        }
    }
}

/// Whether all addresses of `inner` lie in `outer`.
fn contains(outer: &IpNet, inner: &IpNet) -> bool {
    outer.prefix <= inner.prefix && outer.addr.is_ipv4() == inner.addr.is_ipv4() && outer.contains(inner.addr)
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    contains(one, other) || contains(other, one)
}
