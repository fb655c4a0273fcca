//! One rule: conditions on a request and on who calls. Decides from memory, and allocates nothing where it holds no expression that needs
//! the interpreter. Knows no list of rules.

use std::sync::Arc;

use daemun_config::decode::{JsonValue, Mapping, OneOrMany};
use daemun_config::diagnostic::{self, Diagnostic, nearest};
use daemun_config::model::IpNet;
use daemun_pipeline::expression::Expression;
use daemun_pipeline::{BuildContext, ConsumerId, Exchange, Fault, Identity, Method, Request};

use super::claims::Claim;
use super::config::{ClaimWanted, RuleConfig, Wanted};
use super::members::{Kind, Members};
use crate::per_directory::PerDirectory;

/// A compiled rule.
pub(super) struct Rule {
    /// As explanations and the log call it.
    pub(super) name: Box<str>,
    methods: Option<Methods>,
    /// Where callers are; anywhere when empty.
    networks: Box<[IpNet]>,
    callers: Box<[Callers]>,
    when: Option<Expression>,
}

/// Some methods.
struct Methods {
    /// One bit each of those that are known.
    known: u16,
    others: Box<[Box<str>]>,
}

/// A condition on who calls.
enum Callers {
    Known,
    Consumers(Box<[ConsumerId]>),
    Subjects(Box<[Box<str>]>),
    Members {
        kind: Kind,
        all: bool,
        /// With their numbers, and [`NOBODYS`] for those that no consumer of the configuration has.
        names: Box<[(u32, Box<str>)]>,
    },
    Scopes {
        all: bool,
        names: Box<[Box<str>]>,
    },
    Claim {
        claim: Claim,
        all: bool,
        values: Box<[JsonValue]>,
    },
}

/// The number of what no consumer has.
const NOBODYS: u32 = u32::MAX;

impl Rule {
    /// Compiles a rule that stands at `key` of the settings; `None` after what is wrong with it was reported.
    pub(super) fn build(
        settings: RuleConfig,
        key: &str,
        members: &PerDirectory<Members>,
        ctx: &mut BuildContext<'_>,
    ) -> Option<Rule> {
        let name = settings.name.map_or_else(|| key.into(), |name| name.0.into());
        let when = match &settings.when {
            Some(text) => Some(ctx.condition_at(&format!("{key}.when"), &text.0)?),
            None => None,
        };
        let mut callers = Vec::new();
        if settings.authenticated {
            callers.push(Callers::Known);
        }
        if let Some(OneOrMany(names)) = settings.consumers {
            let found = names.iter().map(|name| match members.directory.find(&name.value.0) {
                Some(id) => Some(id),
                None => {
                    let known = members.directory.iter().map(|(_, consumer)| consumer.name.as_str()).take(10_000);
                    let message = format!("there is no consumer `{}`", name.value.0);
                    let found = Diagnostic::error(diagnostic::UNKNOWN_CONSUMER, name.at, message);
                    let found = found.path(format!("{}.{key}.consumers", ctx.path));
                    let near = nearest(&name.value.0, known);
                    ctx.diagnostics.push(match near {
                        Some(_) => found.did_you_mean(near),
                        None => found.help("whom only a store or a token knows is named in `subjects`"),
                    });
                    None
                }
            });
            let mut ids = found.collect::<Vec<_>>().into_iter().collect::<Option<Vec<_>>>()?;
            ids.sort_unstable_by_key(|id| id.0);
            callers.push(Callers::Consumers(ids.into()));
        }
        if let Some(OneOrMany(names)) = settings.subjects {
            callers.push(Callers::Subjects(names.into_iter().map(|name| name.value.into()).collect()));
        }
        for (kind, wanted) in [(Kind::Role, settings.roles), (Kind::Group, settings.groups), (Kind::Tag, settings.tags)]
        {
            callers.extend(wanted.map(|wanted| Callers::members(kind, wanted, key, &members.value, ctx)));
        }
        if let Some(Wanted { all, names }) = settings.scopes {
            callers.push(Callers::Scopes { all, names: names.into_iter().map(|name| name.value.into()).collect() });
        }
        for (name, ClaimWanted { all, values }) in settings.claims.map(|Mapping(claims)| claims).unwrap_or_default() {
            callers.push(Callers::Claim { claim: Claim::new(&name.value), all, values: values.into() });
        }
        Some(Rule {
            name,
            methods: settings.methods.map(|methods| Methods::new(methods.0.iter().map(|method| method.0.as_str()))),
            networks: settings.client_ip.map(|list| list.0.into()).unwrap_or_default(),
            callers: callers.into(),
            when,
        })
    }

    /// Whether it asks who calls.
    pub(super) fn needs_caller(&self) -> bool {
        !self.callers.is_empty()
    }

    /// Whether it could apply to this request, were it somebody else's.
    pub(super) fn is_of_request(&self, exchange: &Exchange) -> bool {
        self.methods.as_ref().is_none_or(|methods| methods.contain(&exchange.request)) && self.is_from(exchange, true)
    }

    /// Whether it applies; `in_doubt` is what a condition counts as that cannot be answered.
    ///
    /// # Errors
    /// When its expression would cost more than it may.
    #[inline]
    pub(super) fn applies(&self, exchange: &Exchange, members: &Members, in_doubt: bool) -> Result<bool, Fault> {
        let applies = self.methods.as_ref().is_none_or(|methods| methods.contain(&exchange.request))
            && self.is_from(exchange, in_doubt)
            && self.callers.iter().all(|callers| callers.include(exchange, members));
        match &self.when {
            Some(when) if applies => when.test_or(exchange, in_doubt),
            Some(_) | None => Ok(applies),
        }
    }

    #[inline]
    fn is_from(&self, exchange: &Exchange, in_doubt: bool) -> bool {
        if self.networks.is_empty() {
            return true;
        }
        let client = &exchange.client;
        if client.unreadable { in_doubt } else { self.networks.iter().any(|network| network.contains(client.ip)) }
    }
}

impl Methods {
    fn new<'a>(names: impl Iterator<Item = &'a str>) -> Methods {
        let (mut known, mut others) = (0, Vec::new());
        for name in names {
            match Method::of(name.as_bytes()) {
                Method::Get => known |= bit(Method::Get) | bit(Method::Head),
                Method::Other => others.push(name.into()),
                method @ (Method::Head
                | Method::Post
                | Method::Put
                | Method::Delete
                | Method::Connect
                | Method::Options
                | Method::Trace
                | Method::Patch) => known |= bit(method),
            }
        }
        Methods { known, others: others.into() }
    }

    #[inline]
    fn contain(&self, request: &Request) -> bool {
        self.known & bit(request.method) != 0
            || request.method == Method::Other && self.others.iter().any(|other| **other == *request.method_text())
    }
}

#[inline]
fn bit(method: Method) -> u16 {
    1 << (method as u8)
}

impl Callers {
    fn members(kind: Kind, wanted: Wanted, key: &str, members: &Members, ctx: &mut BuildContext<'_>) -> Callers {
        let mut names = Vec::with_capacity(wanted.names.len());
        for name in wanted.names {
            let number = members.number(kind, &name.value);
            // where consumers have none of a kind, credentials bring them along; and a store has consumers of its own
            if number.is_none() && !ctx.has_store && members.names(kind).next().is_some() {
                let message = format!("no consumer has the {} `{}`", kind.word(), name.value.escape_debug());
                let found = Diagnostic::warning(diagnostic::UNKNOWN_ROLE, name.at, message);
                let found = found.path(format!("{}.{key}.{}s", ctx.path, kind.word()));
                ctx.diagnostics.push(found.did_you_mean(nearest(&name.value, members.names(kind).take(10_000))));
            }
            names.push((number.unwrap_or(NOBODYS), name.value.into()));
        }
        Callers::Members { kind, all: wanted.all, names: names.into() }
    }

    #[inline]
    fn include(&self, exchange: &Exchange, members: &Members) -> bool {
        match self {
            Callers::Known => exchange.is_proven(),
            Callers::Consumers(ids) => {
                exchange.consumer.is_some_and(|own| ids.binary_search_by_key(&own.0, |id| id.0).is_ok())
            }
            Callers::Subjects(names) => {
                // what names a consumer of the configuration is no subject
                let subject = exchange.identity.as_ref().filter(|identity| identity.consumer.is_none());
                subject.is_some_and(|identity| names.iter().any(|name| **name == *identity.subject))
            }
            Callers::Members { kind, all, names } => {
                let own = exchange.consumer.map(|consumer| members.of(consumer)).unwrap_or_default();
                let identity: Option<&Arc<Identity>> = exchange.identity.as_ref();
                some(*all, names, |(number, name)| {
                    own.contains(number)
                        || identity.is_some_and(|identity| kind.brought(identity).iter().any(|own| **own == **name))
                })
            }
            Callers::Scopes { all, names } => some(*all, names, |name| exchange.has_scope(name)),
            Callers::Claim { claim, all, values } => {
                let own = exchange.claims().and_then(|claims| claim.of(claims));
                own.is_some_and(|own| some(*all, values, |value| has(own, value)))
            }
        }
    }
}

/// Whether it is true of all, or of one.
#[inline]
fn some<T>(all: bool, list: &[T], is: impl FnMut(&T) -> bool) -> bool {
    if all { list.iter().all(is) } else { list.iter().any(is) }
}

/// Whether a claim is a value, or a list that has it. Texts are no numbers.
fn has(claim: &JsonValue, value: &JsonValue) -> bool {
    match claim {
        JsonValue::Array(items) => items.iter().any(|item| is(item, value)),
        JsonValue::Null | JsonValue::Bool(_) | JsonValue::Number(_) | JsonValue::String(_) | JsonValue::Object(_) => {
            is(claim, value)
        }
    }
}

/// Whether two values are the same; numbers also where one is written with a fraction, as `3.0` is.
fn is(claim: &JsonValue, value: &JsonValue) -> bool {
    match (claim, value) {
        (JsonValue::Number(one), JsonValue::Number(other)) if one.is_f64() => one.as_f64() == other.as_f64(),
        (one, other) => one == other,
    }
}
