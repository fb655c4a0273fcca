//! `key_auth`: who calls, by API key. Holds digests only and never says whether a key was missing or unknown.

mod config;
mod keys;
mod presented;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use daemun_config::diagnostic;
use daemun_pipeline::head::{Field, is_value};
use daemun_pipeline::{
    BuildContext, Consumer, ConsumerId, Directory, Exchange, Explanation, Fault, FieldId, Flow, Head, Phase, Policy,
    PolicyConfig, Reason, Span, Stop,
};

pub use config::KeyAuthConfig;

use crate::per_directory::PerDirectory;
use keys::{Caller, Keys};
use presented::{Absent, Source, Sources};

/// Tells the upstream who calls.
const NAME_FIELD: &str = "X-Consumer-Name";
/// Tells the upstream what roles the caller has, separated by commas.
const ROLES_FIELD: &str = "X-Consumer-Roles";

impl PolicyConfig for KeyAuthConfig {
    const NAME: &'static str = "key_auth";

    fn build(self, ctx: &mut BuildContext<'_>) -> Option<Vec<(Phase, Box<dyn Policy>)>> {
        let mut findings = None;
        let known = PerDirectory::of(ctx, Self::NAME, |directory| {
            findings = Some(Findings::of(directory));
            Known::new(directory)
        });
        let usable = findings.is_none_or(|findings| findings.report(ctx));
        let challenge = self.challenge();
        let sources = Sources {
            header: self.header.map(|name| name.0.into()),
            query: self.query.map(Into::into),
            scheme: self.authorization.map(Into::into),
        };
        let policy = KeyAuth { sources, known, forward: self.forward, challenge };
        usable.then(|| vec![(Phase::Authenticate, Box::new(policy) as Box<dyn Policy>)])
    }
}

impl KeyAuthConfig {
    /// Value of `WWW-Authenticate`.
    fn challenge(&self) -> Box<str> {
        let scheme = self.authorization.as_ref().map(|scheme| format!("{scheme} realm=\"daemun\""));
        let other = (self.header.is_some() || self.query.is_some()).then(|| "ApiKey realm=\"daemun\"".to_owned());
        scheme.into_iter().chain(other).collect::<Vec<_>>().join(", ").into()
    }
}

/// What is wrong with a directory; reported by the first route that is built with it.
struct Findings {
    no_keys: bool,
    /// Consumers whose name or roles cannot be sent in a header.
    unsendable: Vec<String>,
}

impl Findings {
    fn of(directory: &Directory) -> Findings {
        let sendable = |text: &str| !text.is_empty() && text.bytes().all(is_value) && text.trim() == text;
        let fits = |consumer: &Consumer| {
            sendable(&consumer.name) && consumer.roles.iter().all(|role| sendable(role) && !role.contains(','))
        };
        Findings {
            no_keys: directory.iter().all(|(_, consumer)| consumer.keys.is_empty()),
            unsendable: directory.iter().filter(|(_, c)| !fits(c)).map(|(_, c)| c.name.clone()).collect(),
        }
    }

    /// Says whether the directory can be used.
    fn report(&self, ctx: &mut BuildContext<'_>) -> bool {
        if self.no_keys {
            let help = "give a consumer `keys`, or every call is refused; `daemun key new` makes one";
            ctx.warning(diagnostic::NO_CREDENTIALS, "no consumer has a key", Some(help.to_owned()));
        }
        for name in &self.unsendable {
            let message =
                format!("the name or a role of consumer `{}` cannot be sent in a header", name.escape_debug());
            let help = "no control characters, no white space at the ends, and no comma in a role";
            ctx.error(diagnostic::BAD_VALUE, message, Some(help.to_owned()));
        }
        self.unsendable.is_empty()
    }
}

/// What is worked out once for all routes.
#[derive(Debug)]
struct Known {
    keys: Keys,
    /// Each consumer's roles as they are sent, by position; empty for none.
    roles: Box<[Box<str>]>,
}

impl Known {
    fn new(directory: &Directory) -> Known {
        let roles: Box<[Box<str>]> = directory.iter().map(|(_, consumer)| consumer.roles.join(",").into()).collect();
        Known { keys: Keys::new(directory, &roles), roles }
    }
}

impl PerDirectory<Known> {
    /// A consumer's name and roles as they are sent.
    fn sent(&self, consumer: ConsumerId) -> (&[u8], &[u8]) {
        let name = self.directory.get(consumer).map_or("", |known| &known.name);
        let roles = self.value.roles.get(consumer.0 as usize).map_or("", |roles| roles);
        (name.as_bytes(), roles.as_bytes())
    }
}

struct KeyAuth {
    sources: Sources,
    known: Arc<PerDirectory<Known>>,
    forward: bool,
    challenge: Box<str>,
}

impl Policy for KeyAuth {
    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        Flow::Now(match self.identify(exchange) {
            Ok((source, caller)) => {
                self.note(source, caller, exchange);
                Ok(())
            }
            Err(_) => Err(self.refusal()),
        })
    }

    fn removed_from_requests(&self) -> &[Box<str>] {
        if self.forward { &[] } else { self.sources.header.as_slice() }
    }

    fn explain(&self, exchange: &mut Exchange) -> Explanation {
        let consumers = self.known.value.keys.len();
        match self.identify(exchange) {
            Ok((source, caller)) => {
                self.note(source, caller, exchange);
                let name = self.known.directory.get(caller.consumer).map_or("", |consumer| &consumer.name);
                Explanation::pass(format!("the key is one of `{name}`"))
            }
            Err(Refused::Absent(Absent::None)) => Explanation::stop(&self.refusal(), "there is no key in the request"),
            Err(Refused::Absent(Absent::Several)) => {
                Explanation::stop(&self.refusal(), "there is more than one key in the request")
            }
            Err(Refused::Absent(Absent::TooLong)) => {
                Explanation::stop(&self.refusal(), "the key is longer than 512 bytes")
            }
            Err(Refused::Unknown) => {
                Explanation::stop(&self.refusal(), format!("the key is none of the {consumers} known"))
            }
        }
    }
}

/// Why a request was not let in; the caller is never told.
enum Refused {
    Absent(Absent),
    Unknown,
}

impl KeyAuth {
    fn identify(&self, exchange: &Exchange) -> Result<(Source, &Caller), Refused> {
        let found =
            self.sources.find(&exchange.request, |source, key| Some((source, self.known.value.keys.find(key)?)));
        found.map_err(Refused::Absent)?.ok_or(Refused::Unknown)
    }

    /// Notes the caller on the exchange and tells the upstream, instead of the key.
    fn note(&self, source: Source, caller: &Caller, exchange: &mut Exchange) {
        exchange.consumer = Some(caller.consumer);
        if !self.forward {
            self.sources.remove(source, &mut exchange.request);
        }
        let head = &mut exchange.request.head;
        let (name, roles) = caller.sent().unwrap_or_else(|| self.known.sent(caller.consumer));
        exchange.consumer_text = push(head, NAME_FIELD, name);
        if !roles.is_empty() {
            push(head, ROLES_FIELD, roles);
        }
    }

    #[cold]
    fn refusal(&self) -> Stop {
        let detail = "the request has no API key that is known here";
        Stop::Fault(Fault::new(Reason::Unauthenticated, detail).field("WWW-Authenticate", &*self.challenge))
    }
}

/// Appends one of the gateway's own fields; the value was checked when the directory was taken in ([`Findings`]).
fn push(head: &mut Head, name: &str, value: &[u8]) -> Span {
    let name = head.store(name.as_bytes());
    let value = head.store(value);
    head.fields.push(Field { name, value, id: FieldId::Identity, removed: false });
    value
}
