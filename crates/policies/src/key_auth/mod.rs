//! `key_auth`: who calls, by API key. Holds digests only and never says whether a key was missing or unknown.

mod config;
mod keys;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use daemun_accounts::{Accounts, HeldKey, text};
use daemun_config::diagnostic;
use daemun_config::model::CredentialName;
use daemun_pipeline::{
    BuildContext, ConsumerId, Directory, Exchange, Explanation, Fault, Flow, Passed, Phase, Policy, PolicyConfig,
    Reason, Request, Stop,
};

pub use config::KeyAuthConfig;

use crate::caller::{self, Unsendable};
use crate::lasting::DISABLED;
use crate::per_directory::PerDirectory;
use crate::presented::{Absent, Source, Sources};
use keys::{Caller, Keys, Place};

impl PolicyConfig for KeyAuthConfig {
    const NAME: &'static str = "key_auth";

    fn build(self, ctx: &mut BuildContext<'_>) -> Option<Vec<(Phase, Box<dyn Policy>)>> {
        let accounts = Accounts::of(ctx.carry);
        let (known, findings) = Known::of(ctx);
        let usable = findings.is_none_or(|findings| findings.report(ctx));
        let challenge = self.challenge();
        let sources = Sources {
            header: self.header.map(|name| name.0.into()),
            query: self.query.map(Into::into),
            scheme: self.authorization.map(Into::into),
        };
        let forwarded = if self.forward { sources.fields() } else { Box::default() };
        let policy = KeyAuth { sources, known, accounts, forward: self.forward, forwarded, challenge };
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
pub(crate) struct Findings {
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
        if self.no_keys && !ctx.has_store {
            let help = "give a consumer `keys`, or every call is refused; `daemun key new` makes one";
            ctx.warning(diagnostic::NO_CREDENTIALS, "no consumer has a key", Some(help.to_owned()));
        }
        self.unsendable.report(ctx)
    }
}

/// What is worked out once for all routes.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) keys: Keys,
    /// Each consumer's roles as they are sent, by position; empty for none.
    roles: Box<[Box<str>]>,
}

impl Known {
    /// What there is for the directory that is compiled against; with what is wrong with it, when it is made.
    pub(crate) fn of(ctx: &BuildContext<'_>) -> (Arc<PerDirectory<Known>>, Option<Findings>) {
        // before: what is carried over is looked for one at a time
        let (mut findings, accounts) = (None, Accounts::of(ctx.carry));
        let known = PerDirectory::of(ctx, KeyAuthConfig::NAME, |directory| {
            findings = Some(Findings::of(directory));
            Known::new(directory, &accounts)
        });
        (known, findings)
    }

    fn new(directory: &Directory, accounts: &Accounts) -> Known {
        let roles = caller::sent_roles(directory);
        Known { keys: Keys::new(directory, &roles, accounts), roles }
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
    accounts: Arc<Accounts>,
    forward: bool,
    /// What keys go on in; empty where they do not.
    forwarded: Box<[Box<str>]>,
    challenge: Box<str>,
}

impl Policy for KeyAuth {
    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        Flow::Now(match self.identify(exchange) {
            Ok((source, found)) => match self.note(source, &found, exchange) {
                Ok(()) => {
                    self.note_use(&found, exchange.wall / 1_000_000);
                    Ok(())
                }
                Err(why) => Err(self.refusal(why)),
            },
            Err(why) => Err(self.refusal(why)),
        })
    }

    fn removed_from_requests(&self) -> &[Box<str>] {
        if self.forward { &[] } else { self.sources.header.as_slice() }
    }

    fn is_shown(&self, exchange: &Exchange) -> bool {
        !matches!(self.sources.find(&exchange.request, |_, _| ()), Err(Absent::None))
    }

    fn forwarded_in_requests(&self) -> &[Box<str>] {
        &self.forwarded
    }

    fn pass_by(&self, request: &mut Request, passed: &Passed<'_>) {
        if !self.forward {
            self.sources.pass_by(request, passed);
        }
    }

    fn explain(&self, exchange: &mut Exchange) -> Explanation {
        let noted = self.identify(exchange).and_then(|(source, found)| {
            let name = match &found {
                Found::Declared(caller, _) => self.known.directory.get(caller.consumer).map(|known| known.name.clone()),
                Found::Held(held) => held.identity().map(|identity| identity.subject.to_string()),
            };
            self.note(source, &found, exchange).map(|()| name.unwrap_or_default())
        });
        match noted {
            Ok(name) => Explanation::pass(format!("the key is one of `{name}`")),
            Err(Refused::Unknown) if self.is_disabled(exchange) => {
                Explanation::stop(&self.refusal(Refused::Unknown), DISABLED)
            }
            Err(Refused::Unknown) => {
                let consumers = self.known.value.keys.len();
                Explanation::stop(&self.refusal(Refused::Unknown), format!("the key is none of the {consumers} known"))
            }
            Err(why) => Explanation::stop(&self.refusal(why), why.as_str()),
        }
    }
}

/// Whose key was found.
enum Found<'a> {
    /// A consumer of the configuration.
    Declared(&'a Caller, Place),
    /// One of the store.
    Held(HeldKey),
}

/// Why a request was not let in; the caller is never told.
#[derive(Clone, Copy)]
enum Refused {
    Absent(Absent),
    Unknown,
    /// It has ended, was disabled or revoked.
    Void,
    /// Another authenticator found another consumer.
    Another,
    /// It is the store's, of a consumer whose name the configuration has for a consumer or a user of its own.
    Name,
}

impl Refused {
    /// For the log and `explain`.
    fn as_str(self) -> &'static str {
        match self {
            Refused::Absent(Absent::None) => "there is no key in the request",
            Refused::Absent(Absent::Several) => "there is more than one key in the request",
            Refused::Absent(Absent::TooLong) => "the key is longer than 512 bytes",
            Refused::Another => "the key is not the authenticated consumer's, or the consumer was disabled",
            Refused::Name => "the configuration has the name of the key's consumer",
            Refused::Unknown => "the key is none of those known",
            Refused::Void => "the key has expired, or was disabled or revoked",
        }
    }
}

/// Why a key of the store lets nobody in under this name.
#[cold]
fn not_held(exchange: &Exchange, name: &str) -> Refused {
    let is_taken = exchange.directory.as_ref().is_some_and(|known| known.has_name(name));
    if is_taken { Refused::Name } else { Refused::Another }
}

impl KeyAuth {
    fn identify(&self, exchange: &Exchange) -> Result<(Source, Found<'_>), Refused> {
        let now = exchange.wall / 1_000_000;
        let found = self.sources.find(&exchange.request, |source, key| (source, self.look_up(key, now)));
        let (source, found) = found.map_err(Refused::Absent)?;
        match found? {
            Found::Declared(caller, _) if !caller::agrees(exchange, caller.consumer) => Err(Refused::Another),
            found @ (Found::Declared(..) | Found::Held(_)) => Ok((source, found)),
        }
    }

    /// Costs one SHA-256, whether the key is known or not.
    #[inline]
    fn look_up(&self, key: &[u8], now: u64) -> Result<Found<'_>, Refused> {
        let digest = text::digest(key);
        if let Some((caller, place)) = self.known.value.keys.find(&digest) {
            let is_void = self.known.value.keys.has_expired((caller, place), now) || self.accounts.is_void_key(&digest);
            return if is_void { Err(Refused::Void) } else { Ok(Found::Declared(caller, place)) };
        }
        let held = self.accounts.held_key(&digest).ok_or(Refused::Unknown)?;
        if held.is_good(now) { Ok(Found::Held(held)) } else { Err(Refused::Void) }
    }

    /// Whether the key is one of the configuration that is disabled, for `explain`.
    fn is_disabled(&self, exchange: &Exchange) -> bool {
        let digest = self.sources.find(&exchange.request, |_, key| text::digest(key));
        digest.is_ok_and(|digest| self.known.directory.has_disabled(&CredentialName::Key(digest)))
    }

    /// Notes the caller on the exchange and tells the upstream, instead of the key.
    fn note(&self, source: Source, found: &Found<'_>, exchange: &mut Exchange) -> Result<(), Refused> {
        match found {
            Found::Declared(caller, _) => {
                let (name, roles) = caller.sent().unwrap_or_else(|| self.known.sent(caller.consumer));
                caller::note(exchange, caller.consumer, name, roles);
            }
            Found::Held(held) => {
                let Some(identity) = held.identity() else { return Err(Refused::Unknown) };
                let is_users = exchange.directory.as_ref().is_some_and(|known| known.user(&identity.subject).is_some());
                if is_users || !caller::note_identity(exchange, identity) {
                    return Err(not_held(exchange, &identity.subject));
                }
            }
        }
        if !self.forward {
            self.sources.remove(source, &mut exchange.request);
        }
        Ok(())
    }

    /// Notes that a key let a call in, where that is kept.
    #[inline]
    fn note_use(&self, found: &Found<'_>, now: u64) {
        match found {
            Found::Declared(_, place) if self.accounts.is_kept() => {
                if let Some(lasting) = self.known.value.keys.lasting(*place) {
                    lasting.note_use(&self.accounts, now);
                }
            }
            Found::Declared(..) => {}
            Found::Held(held) => held.note_use(now),
        }
    }

    #[cold]
    fn refusal(&self, why: Refused) -> Stop {
        let detail = "the request has no API key that is known here";
        let fault = Fault::new(Reason::Unauthenticated, detail).cause(why.as_str());
        Stop::Fault(fault.field("WWW-Authenticate", &*self.challenge))
    }
}
