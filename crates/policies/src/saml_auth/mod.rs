//! `saml_auth`: who calls, by a SAML 2.0 assertion that another service signed. What an assertion says counts for nothing before its
//! signature was verified, with a certificate that is not the assertion's to choose; the caller is never told what was wrong.

mod config;
mod said;
mod signed;
#[cfg(test)]
pub(crate) mod tests;
mod times;
pub(crate) mod verifier;
mod xml;

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use daemun_accounts::Accounts;
use daemun_pipeline::{
    BuildContext, Exchange, Explanation, Flow, Identity, Passed, Phase, Policy, PolicyConfig, Request, Runtimes, Stop,
};
use data_encoding::HEXLOWER;

pub use config::SamlAuthConfig;

use crate::bearer::{ANOTHER, Absent, Places, refused};
use crate::caller;
use crate::claims::Unfit;
use crate::jwt::keys::KeySet;
use crate::token_cache::TokenCache;
use verifier::{Verifier, certificates};

/// What fuzzing holds against the readers of assertions: a text that can be read has one canonical form, which is read as the same.
///
/// # Errors
/// What does not hold.
pub fn check_reader(text: &[u8]) -> Result<(), &'static str> {
    let Ok(text) = std::str::from_utf8(text) else { return Ok(()) };
    // reading is all that is asked of it
    drop(said::read(text));
    signed::check_reader(text)
}

/// What fuzzing holds against signatures: of a text that passes for signed with these keys in PEM, the part that was signed; `None` for
/// any other.
#[must_use]
pub fn signed_part(text: &[u8], pem: &[u8]) -> Option<String> {
    let keys = KeySet::of_pem(pem, &signed::ALGORITHMS).ok()?;
    let signed = signed::verify(std::str::from_utf8(text).ok()?, &keys).ok()?;
    Some(signed.text)
}

/// The namespace of assertions.
const ASSERTION: &str = "urn:oasis:names:tc:SAML:2.0:assertion";

/// Why an assertion is not taken, behind "the assertion is not taken:"; for `explain` and the log, never for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) &'static str);

/// The same, where it may be for what the assertion says of its subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// The assertion is none that is taken.
    Refused(Refused),
    /// It does not say what is asked of it.
    Unfit(Unfit),
}

impl From<Refused> for Denied {
    fn from(refused: Refused) -> Denied {
        Denied::Refused(refused)
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Denied::Refused(Refused(why)) => f.write_str(why),
            Denied::Unfit(why) => why.fmt(f),
        }
    }
}

impl PolicyConfig for SamlAuthConfig {
    const NAME: &'static str = "saml_auth";

    fn build(self, ctx: &mut BuildContext<'_>) -> Option<Runtimes> {
        let trust = &self.trust;
        let pem = certificates(trust, ctx)?;
        let verifier = Verifier::build(trust, &pem, ctx)?;
        // whatever is verified by the same settings and certificates is remembered together, over routes and reloads
        let print = HEXLOWER.encode(digest(&SHA256, &pem).as_ref());
        let known = usize::try_from(self.cache.get()).unwrap_or_default();
        let known = || Known { verifier, cache: TokenCache::new(known) };
        let known = ctx.carry.get_or(Self::NAME, &format!("{trust:?} {print} {known:?}", known = self.cache), known);
        let (places, accounts) = (Places::new(self.from.0, self.forward), Accounts::of(ctx.carry));
        let policy = SamlAuth { known, places, accounts, forward: self.forward };
        Some(vec![(Phase::Authenticate, Box::new(policy) as Box<dyn Policy>)])
    }
}

/// What is shared by all routes with the same settings.
#[derive(Debug)]
struct Known {
    verifier: Verifier,
    /// By digests: assertions all end alike.
    cache: TokenCache,
}

struct SamlAuth {
    known: Arc<Known>,
    places: Places,
    /// Whose names nobody else may have.
    accounts: Arc<Accounts>,
    forward: bool,
}

/// Why a request is not let in; the caller is never told.
enum NotLetIn {
    Absent(Absent),
    Denied(Denied),
    /// Another authenticator found somebody else, or the caller cannot be one that is told of here.
    Another,
}

impl Policy for SamlAuth {
    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        let found = self.identify(exchange, true);
        Flow::Now(found.and_then(|identity| self.admit(exchange, &identity)).map_err(|why| refusal(&why)))
    }

    fn removed_from_requests(&self) -> &[Box<str>] {
        self.places.removed()
    }

    fn forwarded_in_requests(&self) -> &[Box<str>] {
        self.places.forwarded()
    }

    fn pass_by(&self, request: &mut Request, passed: &Passed<'_>) {
        self.places.pass_by(request, passed);
    }

    fn is_shown(&self, exchange: &Exchange) -> bool {
        !matches!(self.places.find(&exchange.request), Err(Absent::None))
    }

    fn explain(&self, exchange: &mut Exchange) -> Explanation {
        let found = self.identify(exchange, false);
        match found.and_then(|identity| self.admit(exchange, &identity).map(|()| identity)) {
            Ok(identity) => Explanation::pass(format!("the assertion is of `{}`", identity.subject.escape_debug())),
            Err(why) => Explanation::stop(&refusal(&why), why.words()),
        }
    }
}

impl SamlAuth {
    fn identify(&self, exchange: &Exchange, remember: bool) -> Result<Arc<Identity>, NotLetIn> {
        let text = self.places.find(&exchange.request).map_err(NotLetIn::Absent)?;
        let (verifier, now) = (&self.known.verifier, exchange.wall);
        if text.len() > verifier.longest() {
            return Err(NotLetIn::Denied(Refused("it is longer than `max_size`").into()));
        }
        let digest = digest(&SHA256, &text);
        if let Some(known) = self.known.cache.find(digest.as_ref(), now, |_| true) {
            return Ok(known);
        }
        let proven = verifier.verify(&text, now).map_err(NotLetIn::Denied)?;
        if proven.once {
            let why = "it may be used once, and is shown with each call; a token service takes such ones";
            return Err(NotLetIn::Denied(Refused(why).into()));
        }
        let identity = Arc::new(proven.identity);
        if remember {
            self.known.cache.keep(digest.as_ref(), proven.span, proven.key, &identity, now);
        }
        Ok(identity)
    }

    /// Notes the caller and tells the upstream, instead of the assertion.
    fn admit(&self, exchange: &mut Exchange, identity: &Arc<Identity>) -> Result<(), NotLetIn> {
        if !caller::note_other(exchange, identity, &self.accounts) {
            return Err(NotLetIn::Another);
        }
        if !self.forward {
            self.places.remove(&mut exchange.request);
        }
        Ok(())
    }
}

#[cold]
fn refusal(why: &NotLetIn) -> Stop {
    match why {
        NotLetIn::Absent(Absent::None) => refused(false, why.words()),
        NotLetIn::Absent(Absent::Several) | NotLetIn::Denied(_) | NotLetIn::Another => refused(true, why.words()),
    }
}

impl NotLetIn {
    fn words(&self) -> String {
        match self {
            NotLetIn::Absent(absent) => absent.words().to_owned(),
            NotLetIn::Denied(why) => format!("the assertion is not taken: {why}"),
            NotLetIn::Another => ANOTHER.to_owned(),
        }
    }
}
