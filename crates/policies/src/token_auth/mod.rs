//! `token_auth`: who calls, by an access token of the gateway's own. Holds digests only and never says whether a token was missing, unknown
//! or has ended. A signed token is known by its digest like an opaque one: that is one SHA-256 in place of the verification of a signature,
//! nobody without the token can make its text, and what is asked of it beside that (revoked? ended?) is the same.

mod config;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use daemun_accounts::{Accounts, Holder, Refusal};
use daemun_config::model::TokenFormat;
use daemun_pipeline::{
    BuildContext, Directory, Exchange, Explanation, Fault, Flow, Passed, Phase, Policy, PolicyConfig, Reason, Request,
    Stop,
};

pub use config::TokenAuthConfig;

use crate::caller;
use crate::presented::{Absent, MAX_KEY, Source, Sources};
use crate::tokens;
use crate::tokens::users::{self, Now};

impl PolicyConfig for TokenAuthConfig {
    const NAME: &'static str = "token_auth";

    fn build(self, ctx: &mut BuildContext<'_>) -> Option<Vec<(Phase, Box<dyn Policy>)>> {
        let service = tokens::service(self.service.as_ref(), ctx)?;
        let header: Option<Box<str>> = self.header.map(|name| name.0.into());
        let scheme = header.is_none().then(|| SCHEME.into());
        let sources = Sources { header, query: None, scheme };
        let longest = match service.format {
            TokenFormat::Opaque => MAX_KEY,
            TokenFormat::Jwt(_) => LONGEST_SIGNED,
        };
        let policy = TokenAuth {
            service: service.name.value.as_str().into(),
            forwarded: if self.forward { sources.fields() } else { Box::default() },
            sources,
            accounts: Accounts::of(ctx.carry),
            forward: self.forward,
            challenge: self.challenge.map(|challenge| challenge.0.into()),
            longest,
        };
        Some(vec![(Phase::Authenticate, Box::new(policy) as Box<dyn Policy>)])
    }
}

/// Bytes of a signed token at most; longer ones are not given out.
pub(crate) const LONGEST_SIGNED: usize = 8 << 10;

/// The scheme of access tokens (RFC 6750, section 2.1).
const SCHEME: &str = "Bearer";

struct TokenAuth {
    service: Arc<str>,
    sources: Sources,
    accounts: Arc<Accounts>,
    forward: bool,
    /// In place of the usual ones.
    challenge: Option<Box<str>>,
    /// What tokens go on in; empty where they do not.
    forwarded: Box<[Box<str>]>,
    /// Bytes of a token at most.
    longest: usize,
}

/// Why a request was not let in; the caller is never told.
#[derive(Clone, Copy)]
enum Refused {
    Absent(Absent),
    Token(Refusal),
    /// Its holder is not there any more, or another authenticator found another caller.
    Another,
    /// The configuration has the name of its holder for somebody else.
    Name,
}

impl Refused {
    /// For the log and `explain`.
    fn as_str(self) -> &'static str {
        match self {
            Refused::Absent(Absent::None) => "there is no access token in the request",
            Refused::Absent(Absent::Several) => "there is more than one access token in the request",
            Refused::Absent(Absent::TooLong) => "the access token is longer than any that is given out",
            Refused::Token(Refusal::Unknown) => "the access token is none that is known here",
            Refused::Token(Refusal::Expired) => "the access token has expired",
            Refused::Token(Refusal::Revoked | Refusal::Reused | Refusal::Scope) => "the access token was revoked",
            Refused::Another => "the access token is of nobody who may call, or not the authenticated consumer's",
            Refused::Name => "the configuration has the name of the token's holder",
        }
    }
}

impl Policy for TokenAuth {
    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        match self.admit(exchange) {
            Ok(()) => Flow::Now(Ok(())),
            // given out a moment ago, by a process whose place this one takes or which takes the place of this one
            Err(Refused::Token(Refusal::Unknown)) if self.accounts.has_others() => Flow::Later(Box::pin(async move {
                self.accounts.look().await;
                self.admit(exchange).map_err(|why| self.refusal(why))
            })),
            Err(why) => Flow::Now(Err(self.refusal(why))),
        }
    }

    fn removed_from_requests(&self) -> &[Box<str>] {
        if self.forward { &[] } else { self.sources.header.as_slice() }
    }

    fn forwarded_in_requests(&self) -> &[Box<str>] {
        &self.forwarded
    }

    fn pass_by(&self, request: &mut Request, passed: &Passed<'_>) {
        if !self.forward {
            self.sources.pass_by(request, passed);
        }
    }

    fn sees_answers(&self) -> bool {
        false
    }

    fn is_shown(&self, exchange: &Exchange) -> bool {
        !matches!(self.sources.find(&exchange.request, |_, _| ()), Err(Absent::None))
    }

    fn explain(&self, exchange: &mut Exchange) -> Explanation {
        match self.admit(exchange) {
            Ok(()) => {
                let holder = exchange.identity.as_ref().map_or("", |identity| &identity.subject);
                Explanation::pass(format!("the access token is one of `{holder}`"))
            }
            Err(why) => Explanation::stop(&self.refusal(why), why.as_str()),
        }
    }
}

impl TokenAuth {
    #[inline]
    fn admit(&self, exchange: &mut Exchange) -> Result<(), Refused> {
        let now = exchange.wall / 1_000_000;
        let found = self.sources.find_up_to(self.longest, &exchange.request, |source, token| {
            (source, self.holder(token, exchange.directory.as_deref(), now))
        });
        let (source, identity) = found.map_err(Refused::Absent)?;
        if !caller::note_identity(exchange, identity?) {
            return Err(Refused::Another);
        }
        if !self.forward && source != Source::Query {
            self.sources.remove(source, &mut exchange.request);
        }
        Ok(())
    }

    /// Whose token this is, as the configuration has them now.
    #[inline]
    fn holder(&self, token: &[u8], directory: Option<&Directory>, now: u64) -> Result<Holder, Refused> {
        let (holder, of_user) = self.accounts.check_holder(token, &self.service, now).map_err(Refused::Token)?;
        if !of_user {
            let is_taken = users::has_name_of_user(directory, &self.accounts, &holder);
            return if is_taken { Err(Refused::Name) } else { Ok(holder) };
        }
        match users::as_of_now(directory, &holder) {
            Now::Same => Ok(holder),
            Now::Changed(identity) => Ok(Holder::from_inner(self.accounts.set_identity(token, *identity))),
            Now::Gone => Err(Refused::Token(Refusal::Revoked)),
        }
    }

    /// With `invalid_token` where there was one (RFC 6750, section 3.1).
    #[cold]
    fn refusal(&self, why: Refused) -> Stop {
        let usual = match why {
            Refused::Absent(Absent::None) => "Bearer realm=\"daemun\"",
            Refused::Absent(_) | Refused::Token(_) | Refused::Another | Refused::Name => {
                "Bearer realm=\"daemun\", error=\"invalid_token\""
            }
        };
        let detail = "the request has no access token that is good here";
        let fault = Fault::new(Reason::Unauthenticated, detail).cause(why.as_str());
        Stop::Fault(fault.field("WWW-Authenticate", self.challenge.as_deref().unwrap_or(usual)))
    }
}
