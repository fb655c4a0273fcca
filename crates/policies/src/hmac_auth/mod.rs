//! `hmac_auth`: who calls, by a signature over the request with a shared secret. Never says what of it was wrong, and remembers what it let
//! in, so that nobody can send it again.

mod config;
pub(crate) mod presented;
mod signed;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use daemun_accounts::Accounts;
use daemun_config::diagnostic;
use daemun_config::model::CredentialName;
use daemun_pipeline::{
    BuildContext, ConsumerId, Directory, Exchange, Explanation, Fault, Flow, Phase, Policy, PolicyConfig, Reason,
    SignedBody, Stop,
};

pub use config::{Covered, HmacAlgorithm, HmacAuthConfig, Replays, SignedBodies};

use crate::caller::{self, Unsendable};
use crate::lasting::{DISABLED, Ended, Lasting};
use crate::per_directory::PerDirectory;
use crate::replay::{Mark, Remembered, Replay, SHARES, Seen};
use crate::signed_body::{self, DigestField, SignedBodyCheck};
use presented::{Absent, Presented};

const SECOND: u64 = 1_000_000_000;

impl PolicyConfig for HmacAuthConfig {
    const NAME: &'static str = "hmac_auth";

    fn build(self, ctx: &mut BuildContext<'_>) -> Option<Vec<(Phase, Box<dyn Policy>)>> {
        let mut made = None;
        let accounts = Accounts::of(ctx.carry);
        let known = PerDirectory::of(ctx, Self::NAME, |directory| {
            made = Some(Unsendable::of(directory));
            Known::new(directory, &accounts)
        });
        // reported by the first route that is built with a directory
        if made.is_some() && known.value.keys.is_empty() {
            let help = "give a consumer `hmac: { id: …, secret: … }`, or every call is refused";
            ctx.warning(diagnostic::NO_CREDENTIALS, "no consumer has a secret to sign with", Some(help.to_owned()));
        }
        let usable = made.is_none_or(|unsendable| unsendable.report(ctx));
        let entries = self.replay_entries.get();
        let skew = u64::try_from(self.clock_skew.as_nanos()).unwrap_or(u64::MAX);
        let replay = (self.replay == Replays::Refuse).then(|| {
            let most = usize::try_from(entries).unwrap_or(usize::MAX);
            // one for all routes, whatever each has set: what one has let in, none lets in again
            let replay = ctx.carry.get_or("hmac_auth replay", "", || Replay::new(most, SHARES));
            replay.widen(most, skew);
            Remembered { replay, world: Arc::clone(ctx.world), policy: Self::NAME }
        });
        let covered: Vec<&str> = self.required.iter().map(|part| part.0.as_str()).collect();
        let challenge: Box<str> = format!("Signature realm=\"daemun\", headers=\"{}\"", covered.join(" ")).into();
        let max = self.max_body.0.min(ctx.body);
        let signs_body = self.body == SignedBodies::Signed;
        let policy = HmacAuth {
            known,
            accounts,
            algorithms: self.algorithms.0.into(),
            required: self.required.into_iter().map(|Covered(name)| name.into()).collect(),
            skew,
            signs_body,
            replay,
            fields: ["authorization".into()],
            forward: self.forward,
            challenge: challenge.clone(),
        };
        let mut built: Vec<(Phase, Box<dyn Policy>)> = vec![(Phase::Authenticate, Box::new(policy))];
        if signs_body {
            built.push((Phase::Authorize, Box::new(SignedBodyCheck { max, challenge })));
        }
        usable.then_some(built)
    }
}

/// What is worked out once for all routes.
#[derive(Debug)]
struct Known {
    keys: HashMap<Box<str>, (ConsumerId, Keys, Lasting)>,
    /// What a signature with an unknown key is verified with, so that it takes the work of a known one.
    nobody: Keys,
    /// Each consumer's roles as they are sent, by position; empty for none.
    roles: Box<[Box<str>]>,
}

/// A secret, ready for each algorithm. Prints no secret.
#[derive(Debug)]
struct Keys {
    sha256: hmac::Key,
    sha384: hmac::Key,
    sha512: hmac::Key,
}

impl Keys {
    fn new(secret: &[u8]) -> Keys {
        Keys {
            sha256: hmac::Key::new(hmac::HMAC_SHA256, secret),
            sha384: hmac::Key::new(hmac::HMAC_SHA384, secret),
            sha512: hmac::Key::new(hmac::HMAC_SHA512, secret),
        }
    }

    fn of(&self, algorithm: HmacAlgorithm) -> &hmac::Key {
        match algorithm {
            HmacAlgorithm::Sha256 => &self.sha256,
            HmacAlgorithm::Sha384 => &self.sha384,
            HmacAlgorithm::Sha512 => &self.sha512,
        }
    }
}

impl Known {
    fn new(directory: &Directory, accounts: &Accounts) -> Known {
        let mut keys = HashMap::new();
        for (id, consumer) in directory.iter() {
            for key in &consumer.hmac {
                let lasting = Lasting::new(consumer, &CredentialName::Signer(key.id.value.clone()), accounts);
                keys.insert(key.id.value.as_str().into(), (id, Keys::new(&key.secret.0), lasting));
            }
        }
        Known { keys, nobody: Keys::new(&[0; 32]), roles: caller::sent_roles(directory) }
    }
}

struct HmacAuth {
    known: Arc<PerDirectory<Known>>,
    accounts: Arc<Accounts>,
    algorithms: Box<[HmacAlgorithm]>,
    required: Box<[Box<str>]>,
    /// Nanoseconds.
    skew: u64,
    signs_body: bool,
    replay: Option<Remembered>,
    /// What signatures stand in.
    fields: [Box<str>; 1],
    forward: bool,
    challenge: Box<str>,
}

/// A signature that is right.
struct Verified<'k> {
    consumer: ConsumerId,
    /// Of the key it was made with.
    lasting: &'k Lasting,
    /// What the body must be; `None` where it is not looked at.
    body: Option<SignedBody>,
    mark: Mark,
    /// From when on it is too old, wherever it is presented.
    until: u64,
}

/// Why a request was not let in; the caller is never told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    Absent(Absent),
    /// The algorithm is not one of those taken.
    Algorithm,
    /// It does not cover what is required.
    Coverage,
    /// It covers something that the request does not have.
    Missing,
    /// The key is unknown, or the signature is not made with it.
    Unknown,
    /// The key is not good any more.
    Void(Ended),
    /// It is too old, or of the future.
    Time,
    /// The digest that it covers cannot be read.
    Digest,
    /// It was presented before.
    Again,
    /// There is no room to remember it.
    Full,
    /// Another authenticator found another consumer.
    Another,
}

impl Refused {
    fn why(self) -> &'static str {
        match self {
            Refused::Absent(Absent::None) => "there is no signature in the request",
            Refused::Absent(Absent::Several) => "there is more than one signature in the request",
            Refused::Absent(Absent::Malformed) => "the signature is malformed",
            Refused::Algorithm => "the algorithm of the signature is none of `algorithms`",
            Refused::Coverage => "the signature does not cover all of `required` and a date",
            Refused::Missing => "the signature covers a field that the request does not have",
            Refused::Unknown => "the signature is not made with the secret of a consumer",
            Refused::Void(why) => why.as_str(),
            Refused::Time => "the signed date is further away than `clock_skew`",
            Refused::Digest => "the signed digest of the body cannot be read",
            Refused::Again => "the signature was presented before",
            Refused::Full => "more signatures were presented than `replay_entries` lets be remembered",
            Refused::Another => "the signature is not the authenticated consumer's, or the consumer was disabled",
        }
    }
}

impl Policy for HmacAuth {
    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        Flow::Now(self.authenticate(exchange).map(|_| ()).map_err(|refused| self.refusal(refused)))
    }

    fn sees_answers(&self) -> bool {
        false
    }

    fn removed_from_requests(&self) -> &[Box<str>] {
        if self.forward { &[] } else { &self.fields }
    }

    fn forwarded_in_requests(&self) -> &[Box<str>] {
        if self.forward { &self.fields } else { &[] }
    }

    fn is_shown(&self, exchange: &Exchange) -> bool {
        !matches!(Presented::find(&exchange.request.head), Err(Absent::None))
    }

    fn explain(&self, exchange: &mut Exchange) -> Explanation {
        let explained = self.verify(exchange).and_then(|verified| {
            let seen = self.replay.as_ref().is_some_and(|replay| replay.replay.has(&verified.mark));
            if seen { Err(Refused::Again) } else { self.note(verified, exchange) }
        });
        match explained {
            Ok(consumer) => {
                let name = self.known.directory.get(consumer).map_or("", |consumer| &consumer.name);
                Explanation::pass(format!("the signature is made with a secret of `{name}`"))
            }
            Err(Refused::Unknown) if self.is_disabled(exchange) => {
                Explanation::stop(&self.refusal(Refused::Unknown), DISABLED)
            }
            Err(refused) => Explanation::stop(&self.refusal(refused), refused.why()),
        }
    }
}

impl HmacAuth {
    /// Whether the key that is named is one of the configuration that is disabled, for `explain`.
    fn is_disabled(&self, exchange: &Exchange) -> bool {
        let named = Presented::find(&exchange.request.head).map(|shown| CredentialName::Signer(shown.key.to_owned()));
        named.is_ok_and(|name| self.known.directory.has_disabled(&name))
    }

    fn authenticate(&self, exchange: &mut Exchange) -> Result<ConsumerId, Refused> {
        let verified = self.verify(exchange)?;
        if let Some(replay) = &self.replay {
            match replay.note(verified.mark, verified.consumer, verified.until, exchange.wall) {
                Seen::First => {}
                Seen::Again => return Err(Refused::Again),
                Seen::Full => return Err(Refused::Full),
            }
        }
        verified.lasting.note_use(&self.accounts, exchange.wall / 1_000_000);
        self.note(verified, exchange)
    }

    /// Whose signature it is, if it is right in all but that it may have been presented before.
    fn verify(&self, exchange: &Exchange) -> Result<Verified<'_>, Refused> {
        let presented = Presented::find(&exchange.request.head).map_err(Refused::Absent)?;
        let algorithm = self.algorithm(presented.algorithm).ok_or(Refused::Algorithm)?;
        if !self.required.iter().all(|part| signed::covers(&presented, part)) {
            return Err(Refused::Coverage);
        }
        let known = &self.known.value;
        let consumer = known.keys.get(presented.key);
        let keys = consumer.map_or(&known.nobody, |(_, keys, _)| keys);
        let mut context = hmac::Context::with_key(keys.of(algorithm));
        signed::write(&presented, exchange, &mut |bytes| context.update(bytes)).ok_or(Refused::Missing)?;
        let tag = context.sign();
        let same = verify_slices_are_equal(tag.as_ref(), presented.signature()).is_ok();
        let (consumer, _, lasting) = consumer.filter(|_| same).ok_or(Refused::Unknown)?;
        lasting.judge(&self.accounts, exchange.wall / 1_000_000).map_err(Refused::Void)?;
        let made = signed::time(&presented, exchange, self.skew).map_err(|time| match time {
            signed::Untimely::Unsigned => Refused::Coverage,
            signed::Untimely::Wrong => Refused::Time,
        })?;
        Ok(Verified {
            consumer: *consumer,
            lasting,
            body: if self.signs_body { Some(body(&presented, exchange)?) } else { None },
            mark: tag.as_ref().first_chunk().copied().unwrap_or_default(),
            until: self.replay.as_ref().map_or(made, |known| known.replay.until(made)),
        })
    }

    fn algorithm(&self, named: Option<&str>) -> Option<HmacAlgorithm> {
        match (named, &*self.algorithms) {
            (Some(named), taken) => taken.iter().copied().find(|taken| taken.name() == named),
            (None, [only]) => Some(*only),
            (None, _) => None,
        }
    }

    /// Notes the caller on the exchange and tells the upstream, instead of the signature.
    fn note(&self, verified: Verified<'_>, exchange: &mut Exchange) -> Result<ConsumerId, Refused> {
        let consumer = verified.consumer;
        if !caller::agrees(exchange, consumer) {
            return Err(Refused::Another);
        }
        if let Some(body) = verified.body
            && !signed_body::note(exchange, body)
        {
            return Err(Refused::Digest);
        }
        if !self.forward {
            // all of it: another back end could take another scheme's
            exchange.request.head.remove("authorization");
        }
        let name = self.known.directory.get(consumer).map_or("", |known| &known.name);
        let roles = self.known.value.roles.get(consumer.0 as usize).map_or("", |roles| roles);
        caller::note(exchange, consumer, name.as_bytes(), roles.as_bytes());
        Ok(consumer)
    }

    #[cold]
    fn refusal(&self, why: Refused) -> Stop {
        if why == Refused::Full {
            let detail = "the gateway cannot take further signed requests for a while";
            return Fault::new(Reason::Overloaded, detail).cause(why.why()).into();
        }
        let fault = Fault::new(Reason::Unauthenticated, "the request has no signature that is known here");
        Stop::Fault(fault.cause(why.why()).field("WWW-Authenticate", &*self.challenge))
    }
}

/// What the body must be: as the digests say that are signed, or empty.
fn body(presented: &Presented<'_>, exchange: &Exchange) -> Result<SignedBody, Refused> {
    let mut all = SignedBody { empty: true, ..SignedBody::default() };
    for field in presented.parts().filter_map(DigestField::of) {
        let read = field.read(exchange).ok_or(Refused::Digest)?;
        let differ = |one: Option<&[u8]>, other: Option<&[u8]>| one.zip(other).is_some_and(|(one, other)| one != other);
        if differ(all.sha256.as_ref().map(|d| &d[..]), read.sha256.as_ref().map(|d| &d[..]))
            || differ(all.sha512.as_ref().map(|d| &d[..]), read.sha512.as_ref().map(|d| &d[..]))
        {
            return Err(Refused::Digest);
        }
        all = SignedBody { sha256: all.sha256.or(read.sha256), sha512: all.sha512.or(read.sha512), empty: false };
    }
    Ok(all)
}

/// What fuzzing holds against the reader of `Authorization`: what is read covers no part twice, and has a key and a signature.
///
/// # Errors
/// What does not hold.
pub fn check_reader(text: &[u8]) -> Result<(), String> {
    let Some(presented) = Presented::read(text) else { return Ok(()) };
    let parts: Vec<&str> = presented.parts().collect();
    let twice = parts.iter().enumerate().any(|(at, part)| parts.iter().skip(at + 1).any(|other| other == part));
    if twice || presented.key.is_empty() || !(1..=presented::MAX_SIGNATURE).contains(&presented.signature().len()) {
        return Err(format!("{presented:?}"));
    }
    Ok(())
}
