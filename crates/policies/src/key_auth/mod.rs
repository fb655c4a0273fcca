//! `key_auth`: who calls, by API key. Holds digests only and never says whether a key was missing or unknown.

mod config;
mod keys;
mod presented;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use daemun_config::diagnostic;
use daemun_pipeline::{
    BuildContext, ConsumerId, Directory, Exchange, Explanation, Fault, Flow, Phase, Policy, PolicyConfig, Reason, Stop,
};

pub use config::KeyAuthConfig;

use crate::caller::{self, Unsendable};
use crate::per_directory::PerDirectory;
use keys::{Caller, Keys};
use presented::{Absent, Source, Sources};

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
    unsendable: Unsendable,
}

impl Findings {
    fn of(directory: &Directory) -> Findings {
        Findings {
            no_keys: directory.iter().all(|(_, consumer)| consumer.keys.is_empty()),
            unsendable: Unsendable::of(directory),
        }
    }

    /// Says whether the directory can be used.
    fn report(&self, ctx: &mut BuildContext<'_>) -> bool {
        if self.no_keys {
            let help = "give a consumer `keys`, or every call is refused; `daemun key new` makes one";
            ctx.warning(diagnostic::NO_CREDENTIALS, "no consumer has a key", Some(help.to_owned()));
        }
        self.unsendable.report(ctx)
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
        let roles = caller::sent_roles(directory);
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
            Err(Refused::Another) => Explanation::stop(&self.refusal(), "the key is not the authenticated consumer's"),
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
    /// Another authenticator found another consumer.
    Another,
}

impl KeyAuth {
    fn identify(&self, exchange: &Exchange) -> Result<(Source, &Caller), Refused> {
        let found =
            self.sources.find(&exchange.request, |source, key| Some((source, self.known.value.keys.find(key)?)));
        let found = found.map_err(Refused::Absent)?.ok_or(Refused::Unknown)?;
        if caller::agrees(exchange, found.1.consumer) { Ok(found) } else { Err(Refused::Another) }
    }

    /// Notes the caller on the exchange and tells the upstream, instead of the key.
    fn note(&self, source: Source, caller: &Caller, exchange: &mut Exchange) {
        if !self.forward {
            self.sources.remove(source, &mut exchange.request);
        }
        let (name, roles) = caller.sent().unwrap_or_else(|| self.known.sent(caller.consumer));
        caller::note(exchange, caller.consumer, name, roles);
    }

    #[cold]
    fn refusal(&self) -> Stop {
        let detail = "the request has no API key that is known here";
        Stop::Fault(Fault::new(Reason::Unauthenticated, detail).field("WWW-Authenticate", &*self.challenge))
    }
}
