//! `basic_auth`: who calls, by username and password. Holds digests only and never says which of the two was wrong.

mod config;
mod passwords;
pub(crate) mod presented;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use daemun_accounts::Accounts;
use daemun_config::diagnostic;
use daemun_config::model::CredentialName;
use daemun_pipeline::{
    BuildContext, ConsumerId, Directory, Exchange, Explanation, Fault, Flow, Identity, Phase, Policy, PolicyConfig,
    Reason, Stop, Verdict,
};

pub use config::BasicAuthConfig;

use crate::caller::{self, Unsendable};
use crate::lasting::{DISABLED, Ended, Lasting};
use crate::per_directory::PerDirectory;
use crate::tokens::throttle::{Pair, Throttle, Try};
use crate::tokens::users::{self, Explained, Users};
use passwords::Passwords;
use presented::{Absent, SCHEME};

impl PolicyConfig for BasicAuthConfig {
    const NAME: &'static str = "basic_auth";

    fn build(self, ctx: &mut BuildContext<'_>) -> Option<Vec<(Phase, Box<dyn Policy>)>> {
        let (known, made) = Known::of(ctx);
        // reported by the first route that is built with a directory
        let first = made.is_some();
        if first && self.users.is_none() && known.value.passwords.len() == 0 {
            let help = "give a consumer `basic: { username: …, password: … }`, or every call is refused";
            ctx.warning(diagnostic::NO_CREDENTIALS, "no consumer has a password", Some(help.to_owned()));
        }
        let usable = made.is_none_or(|unsendable| unsendable.report(ctx));
        let users = match &self.users {
            Some(sources) => Some(Users::of(sources, ctx)?),
            None => None,
        };
        if users.as_ref().is_some_and(|users| users.value.are_none()) {
            let help = "write `users: [{ name: …, password: … }]`, or leave `users` out here";
            ctx.warning(diagnostic::NO_CREDENTIALS, "there are no users", Some(help.to_owned()));
        }
        let challenge = format!("{SCHEME} realm=\"{}\", charset=\"UTF-8\"", self.realm).into();
        let (accounts, throttle) = (Accounts::of(ctx.carry), Throttle::of(ctx.carry));
        let fields = ["authorization".into()];
        let policy = BasicAuth { known, users, accounts, throttle, fields, forward: self.forward, challenge };
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
        // before: what is carried over is looked for one at a time
        let (mut made, accounts) = (None, Accounts::of(ctx.carry));
        let known = PerDirectory::of(ctx, BasicAuthConfig::NAME, |directory| {
            made = Some(Unsendable::of(directory));
            Known::new(directory, &accounts)
        });
        (known, made)
    }

    fn new(directory: &Directory, accounts: &Accounts) -> Known {
        Known { passwords: Passwords::new(directory, accounts), roles: caller::sent_roles(directory) }
    }
}

struct BasicAuth {
    known: Arc<PerDirectory<Known>>,
    /// Where those are known who are no consumers.
    users: Option<Arc<PerDirectory<Users>>>,
    accounts: Arc<Accounts>,
    throttle: Arc<Throttle>,
    /// What its credentials stand in.
    fields: [Box<str>; 1],
    forward: bool,
    challenge: Box<str>,
}

/// Why a request was not let in; the caller is never told.
#[derive(Debug)]
enum Refused {
    Absent(Absent),
    Unknown,
    /// A consumer's, and expired or revoked.
    Void(Ended),
    /// Another authenticator found another caller.
    Another,
    User(users::Refused),
}

/// Who a request says it is from.
enum Shown<'k> {
    /// A consumer, by its password.
    Consumer(ConsumerId, Pair, &'k Lasting),
    /// A user whose password was good a short while ago.
    User(Arc<Identity>),
    /// Whoever is still to be asked for.
    Somebody { name: String, password: Vec<u8>, no_consumer: Refused },
}

impl Policy for BasicAuth {
    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        let shown = match self.shown(exchange) {
            Ok(shown) => shown,
            Err(why) => return Flow::Now(Err(self.refusal(&why))),
        };
        match (shown, &self.users) {
            (Shown::Consumer(consumer, pair, lasting), _) => {
                self.throttle.succeeded(pair);
                lasting.note_use(&self.accounts, exchange.wall / 1_000_000);
                Flow::Now(self.admit(consumer, exchange))
            }
            (Shown::User(identity), _) => Flow::Now(self.admit_user(&identity, exchange)),
            (Shown::Somebody { name, no_consumer, .. }, None) => {
                let slow = self.throttle.failed(&tried(exchange, &name)).map(users::Refused::Slow);
                Flow::Now(Err(self.refusal(&slow.map_or(no_consumer, Refused::User))))
            }
            (Shown::Somebody { name, password, .. }, Some(users)) => Flow::Later(Box::pin(async move {
                let checked = users.value.check_kept(&login(exchange, &name, &password)).await;
                match checked {
                    Ok(identity) => self.admit_user(&identity, exchange),
                    Err(why) => Err(self.refusal(&Refused::User(why))),
                }
            })),
        }
    }

    fn removed_from_requests(&self) -> &[Box<str>] {
        if self.forward { &[] } else { &self.fields }
    }

    fn forwarded_in_requests(&self) -> &[Box<str>] {
        if self.forward { &self.fields } else { &[] }
    }

    fn is_shown(&self, exchange: &Exchange) -> bool {
        !matches!(presented::find(&exchange.request.head, |_, _| ()), Err(Absent::None))
    }

    fn explain(&self, exchange: &mut Exchange) -> Explanation {
        let shown = match self.shown(exchange) {
            Ok(shown) => shown,
            Err(why) => return Explanation::stop(&self.refusal(&why), why.as_str()),
        };
        let (admitted, name) = match (shown, &self.users) {
            (Shown::Consumer(consumer, ..), _) => {
                let name = self.known.directory.get(consumer).map_or("", |consumer| &consumer.name).to_owned();
                (self.admit(consumer, exchange), name)
            }
            (Shown::User(identity), _) => (self.admit_user(&identity, exchange), identity.subject.to_string()),
            (Shown::Somebody { name, no_consumer: Refused::Unknown, .. }, None)
                if self.known.directory.has_disabled(&CredentialName::Basic(name.clone())) =>
            {
                return Explanation::stop(&self.refusal(&Refused::Unknown), DISABLED);
            }
            (Shown::Somebody { no_consumer, .. }, None) => {
                return Explanation::stop(&self.refusal(&no_consumer), no_consumer.as_str());
            }
            (Shown::Somebody { name, password, .. }, Some(users)) => {
                match users.value.explain(&login(exchange, &name, &password)) {
                    Explained::User(identity) => (self.admit_user(&identity, exchange), identity.subject.to_string()),
                    Explained::Asked => {
                        return Explanation::pass("it would be asked whether such a user has this password");
                    }
                    Explained::Refused(why) => {
                        let refused = Refused::User(users::Refused::Wrong(why));
                        return Explanation::stop(&self.refusal(&refused), why);
                    }
                }
            }
        };
        match admitted {
            Ok(()) => Explanation::pass(format!("username and password are those of `{name}`")),
            Err(stop) => Explanation::stop(&stop, Refused::Another.as_str()),
        }
    }
}

/// What is asked of users; there is no place for a one-time password.
fn login<'a>(exchange: &Exchange, name: &'a str, password: &'a [u8]) -> users::Login<'a> {
    let (address, now, wall) = (exchange.client.ip, exchange.now(), exchange.wall / 1_000_000);
    users::Login { name, password, otp: None, address, now, wall }
}

fn tried<'a>(exchange: &Exchange, name: &'a str) -> Try<'a> {
    Try { address: exchange.client.ip, name, now: exchange.now() }
}

impl Refused {
    /// For the log and `explain`.
    fn as_str(&self) -> &str {
        match self {
            Refused::Absent(Absent::None) => "there is no username and password in the request",
            Refused::Absent(Absent::Several) => "there is more than one username and password in the request",
            Refused::Absent(Absent::Malformed) => "the credentials are not base64 of `username:password`",
            Refused::Another => {
                "username and password are not the authenticated consumer's, or the consumer was disabled"
            }
            Refused::Unknown => "username and password are not those of a consumer",
            Refused::Void(Ended::Revoked) => "username and password are a consumer's, and were revoked",
            Refused::Void(why @ (Ended::Expired | Ended::Disabled)) => why.as_str(),
            Refused::User(why) => why.why(),
        }
    }
}

impl BasicAuth {
    fn shown(&self, exchange: &Exchange) -> Result<Shown<'_>, Refused> {
        let known = &self.known.value.passwords;
        let look_up = |username: &[u8], password: &[u8]| {
            let name = std::str::from_utf8(username).map_err(|_| Refused::Unknown)?;
            // before anything is compared: who guesses is not told by any of it that a guess is right
            let tried = tried(exchange, name);
            if let Some(seconds) = self.throttle.wait(&tried) {
                return Err(Refused::User(users::Refused::Slow(seconds)));
            }
            let no_consumer = match known.find(username, password) {
                Some((consumer, lasting)) => match lasting.judge(&self.accounts, exchange.wall / 1_000_000) {
                    Err(why) => Refused::Void(why),
                    Ok(()) => return Ok(Shown::Consumer(consumer, self.throttle.pair(&tried), lasting)),
                },
                None => Refused::Unknown,
            };
            let users = self.users.as_ref();
            if let Some(identity) = users.and_then(|users| users.value.cached(&login(exchange, name, password))) {
                return Ok(Shown::User(identity));
            }
            Ok(Shown::Somebody { name: name.to_owned(), password: password.to_owned(), no_consumer })
        };
        presented::find(&exchange.request.head, look_up).map_err(Refused::Absent)?
    }

    fn admit(&self, consumer: ConsumerId, exchange: &mut Exchange) -> Verdict {
        if !caller::agrees(exchange, consumer) {
            return Err(self.refusal(&Refused::Another));
        }
        self.remove(exchange);
        let name = self.known.directory.get(consumer).map_or("", |known| &known.name);
        let roles = self.known.value.roles.get(consumer.0 as usize).map_or("", |roles| roles);
        caller::note(exchange, consumer, name.as_bytes(), roles.as_bytes());
        Ok(())
    }

    fn admit_user(&self, identity: &Arc<Identity>, exchange: &mut Exchange) -> Verdict {
        if !caller::note_identity(exchange, identity) {
            return Err(self.refusal(&Refused::Another));
        }
        self.remove(exchange);
        Ok(())
    }

    /// The upstream is told who calls, instead of the password.
    fn remove(&self, exchange: &mut Exchange) {
        if !self.forward {
            // all of it: another back end could take another scheme's, or one that is written in another way
            exchange.request.head.remove("authorization");
        }
    }

    #[cold]
    fn refusal(&self, why: &Refused) -> Stop {
        let fault = match why {
            Refused::User(users::Refused::Slow(seconds)) => {
                let fault = Fault::new(Reason::RateLimited, "too many credentials were not good; try again later");
                fault.field("Retry-After", seconds.to_string())
            }
            Refused::User(users::Refused::Busy | users::Refused::Unavailable(_)) => {
                let fault = Fault::new(Reason::AuthUnavailable, "users cannot be checked just now; try again later");
                fault.field("Retry-After", "1")
            }
            Refused::Absent(_) | Refused::Unknown | Refused::Void(_) | Refused::Another | Refused::User(_) => {
                let detail = "the request has no username and password that are known here";
                Fault::new(Reason::Unauthenticated, detail).field("WWW-Authenticate", &*self.challenge)
            }
        };
        Stop::Fault(fault.cause(why.as_str()))
    }
}
