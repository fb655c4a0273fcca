//! `basic_auth`: who calls, by username and password. Holds digests only and never says which of the two was wrong.

mod config;
mod passwords;
pub(crate) mod presented;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use daemun_config::diagnostic;
use daemun_pipeline::{
    BuildContext, ConsumerId, Directory, Exchange, Explanation, Fault, Flow, Phase, Policy, PolicyConfig, Reason, Stop,
};

pub use config::BasicAuthConfig;

use crate::caller::{self, Unsendable};
use crate::per_directory::PerDirectory;
use passwords::Passwords;
use presented::{Absent, SCHEME};

impl PolicyConfig for BasicAuthConfig {
    const NAME: &'static str = "basic_auth";

    fn build(self, ctx: &mut BuildContext<'_>) -> Option<Vec<(Phase, Box<dyn Policy>)>> {
        let (known, made) = Known::of(ctx);
        // reported by the first route that is built with a directory
        let first = made.is_some();
        if first && known.value.passwords.len() == 0 {
            let help = "give a consumer `basic: { username: …, password: … }`, or every call is refused";
            ctx.warning(diagnostic::NO_CREDENTIALS, "no consumer has a password", Some(help.to_owned()));
        }
        let usable = made.is_none_or(|unsendable| unsendable.report(ctx));
        let challenge = format!("{SCHEME} realm=\"{}\", charset=\"UTF-8\"", self.realm).into();
        let removed = if self.forward { Box::from([]) } else { Box::from(["authorization".into()]) };
        let policy = BasicAuth { known, removed, challenge };
        usable.then(|| vec![(Phase::Authenticate, Box::new(policy) as Box<dyn Policy>)])
    }
}

/// What is worked out once for all routes.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) passwords: Passwords,
    /// Each consumer's roles as they are sent, by position; empty for none.
    roles: Box<[Box<str>]>,
}

impl Known {
    /// What there is for the directory that is compiled against; with what cannot be sent of it, when it is made.
    pub(crate) fn of(ctx: &BuildContext<'_>) -> (Arc<PerDirectory<Known>>, Option<Unsendable>) {
        let mut made = None;
        let known = PerDirectory::of(ctx, BasicAuthConfig::NAME, |directory| {
            made = Some(Unsendable::of(directory));
            Known::new(directory)
        });
        (known, made)
    }

    fn new(directory: &Directory) -> Known {
        Known { passwords: Passwords::new(directory), roles: caller::sent_roles(directory) }
    }
}

struct BasicAuth {
    known: Arc<PerDirectory<Known>>,
    /// What does not go on to the upstream; empty where it does.
    removed: Box<[Box<str>]>,
    challenge: Box<str>,
}

/// Why a request was not let in; the caller is never told.
#[derive(Clone, Copy)]
enum Refused {
    Absent(Absent),
    Unknown,
    /// Another authenticator found another consumer.
    Another,
}

impl Policy for BasicAuth {
    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        Flow::Now(match self.identify(exchange) {
            Ok(consumer) => {
                self.note(consumer, exchange);
                Ok(())
            }
            Err(why) => Err(self.refusal(why)),
        })
    }

    fn removed_from_requests(&self) -> &[Box<str>] {
        &self.removed
    }

    fn explain(&self, exchange: &mut Exchange) -> Explanation {
        match self.identify(exchange) {
            Ok(consumer) => {
                self.note(consumer, exchange);
                let name = self.known.directory.get(consumer).map_or("", |consumer| &consumer.name);
                Explanation::pass(format!("username and password are those of `{name}`"))
            }
            Err(why) => Explanation::stop(&self.refusal(why), why.as_str()),
        }
    }
}

impl Refused {
    /// For the log and `explain`.
    fn as_str(self) -> &'static str {
        match self {
            Refused::Absent(Absent::None) => "there is no username and password in the request",
            Refused::Absent(Absent::Several) => "there is more than one username and password in the request",
            Refused::Absent(Absent::Malformed) => "the credentials are not base64 of `username:password`",
            Refused::Another => "username and password are not the authenticated consumer's",
            Refused::Unknown => "username and password are not those of a consumer",
        }
    }
}

impl BasicAuth {
    fn identify(&self, exchange: &Exchange) -> Result<ConsumerId, Refused> {
        let known = &self.known.value.passwords;
        let found = presented::find(&exchange.request.head, |username, password| known.find(username, password));
        let consumer = found.map_err(Refused::Absent)?.ok_or(Refused::Unknown)?;
        if caller::agrees(exchange, consumer) { Ok(consumer) } else { Err(Refused::Another) }
    }

    /// Notes the caller on the exchange and tells the upstream, instead of the password.
    fn note(&self, consumer: ConsumerId, exchange: &mut Exchange) {
        if !self.removed.is_empty() {
            // all of it: another back end could take another scheme's, or one that is written in another way
            exchange.request.head.remove("authorization");
        }
        let name = self.known.directory.get(consumer).map_or("", |known| &known.name);
        let roles = self.known.value.roles.get(consumer.0 as usize).map_or("", |roles| roles);
        caller::note(exchange, consumer, name.as_bytes(), roles.as_bytes());
    }

    #[cold]
    fn refusal(&self, why: Refused) -> Stop {
        let detail = "the request has no username and password that are known here";
        let fault = Fault::new(Reason::Unauthenticated, detail).cause(why.as_str());
        Stop::Fault(fault.field("WWW-Authenticate", &*self.challenge))
    }
}
