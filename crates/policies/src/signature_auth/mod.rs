//! `signature_auth`: who calls, by an HTTP message signature (RFC 9421) with a key of a consumer. Never says what of it was wrong, and
//! remembers what it let in, so that nobody can send it again.

mod components;
mod config;
mod keys;
mod presented;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use daemun_accounts::Accounts;
use daemun_config::diagnostic;
use daemun_config::model::CredentialName;
use daemun_pipeline::{
    BuildContext, ConsumerId, Exchange, Explanation, Fault, Flow, Phase, Policy, PolicyConfig, Reason, SignedBody, Stop,
};
use sfv::ListEntry;

pub use config::{Component, SignatureAuthConfig};

use crate::caller::{self, Unsendable};
use crate::hmac_auth::{Replays, SignedBodies};
use crate::lasting::{DISABLED, Ended, Lasting};
use crate::per_directory::PerDirectory;
use crate::replay::{Mark, Remembered, Replay, SHARES, Seen};
use crate::signed_body::{self, DigestField, SignedBodyCheck};
use keys::{Known, Unusable};
use presented::{Absent, Presented};

const SECOND: u64 = 1_000_000_000;
const CHALLENGE: &str = "Signature realm=\"daemun\"";

impl PolicyConfig for SignatureAuthConfig {
    const NAME: &'static str = "signature_auth";

    fn build(self, ctx: &mut BuildContext<'_>) -> Option<Vec<(Phase, Box<dyn Policy>)>> {
        let mut findings = None;
        let accounts = Accounts::of(ctx.carry);
        let known = PerDirectory::of(ctx, Self::NAME, |directory| {
            let (known, unusable) = Known::new(directory, &accounts);
            findings = Some(Findings { none: known.keys.is_empty(), unusable, unsendable: Unsendable::of(directory) });
            known
        });
        let usable = findings.is_none_or(|findings| findings.report(ctx));
        let entries = self.replay_entries.get();
        let skew = u64::try_from(self.clock_skew.as_nanos()).unwrap_or(u64::MAX);
        let replay = (self.replay == Replays::Refuse).then(|| {
            let most = usize::try_from(entries).unwrap_or(usize::MAX);
            // one for all routes, whatever each has set: what one has let in, none lets in again
            let replay = ctx.carry.get_or("signature_auth replay", "", || Replay::new(most, SHARES));
            replay.widen(most, skew);
            Remembered { replay, world: Arc::clone(ctx.world), policy: Self::NAME }
        });
        let max = self.max_body.0.min(ctx.body);
        let signs_body = self.body == SignedBodies::Signed;
        let policy = SignatureAuth {
            known,
            accounts,
            required: self.required.into_iter().map(|Component(name)| name.into()).collect(),
            tag: self.tag.map(Into::into),
            skew,
            signs_body,
            needs_nonce: self.require_nonce,
            replay,
            fields: ["signature".into(), "signature-input".into()],
            forward: self.forward,
        };
        let mut built: Vec<(Phase, Box<dyn Policy>)> = vec![(Phase::Authenticate, Box::new(policy))];
        if signs_body {
            built.push((Phase::Authorize, Box::new(SignedBodyCheck { max, challenge: CHALLENGE.into() })));
        }
        usable.then_some(built)
    }
}

/// What is wrong with a directory; reported by the first route that is built with it.
struct Findings {
    none: bool,
    unusable: Vec<Unusable>,
    unsendable: Unsendable,
}

impl Findings {
    /// Says whether the directory can be used.
    fn report(&self, ctx: &mut BuildContext<'_>) -> bool {
        for (consumer, id, why) in &self.unusable {
            let (consumer, id) = (consumer.escape_debug(), id.escape_debug());
            let message = format!("the public key `{id}` of consumer `{consumer}` cannot be used: {why}");
            let help = "`openssl pkey -in KEY -pubout` prints a public key as PEM";
            ctx.error(diagnostic::BAD_VALUE, message, Some(help.to_owned()));
        }
        if self.none && self.unusable.is_empty() {
            let help = "give a consumer `signing_keys` or `hmac`, or every call is refused";
            ctx.warning(diagnostic::NO_CREDENTIALS, "no consumer has a key to sign with", Some(help.to_owned()));
        }
        self.unsendable.report(ctx) && self.unusable.is_empty()
    }
}

struct SignatureAuth {
    known: Arc<PerDirectory<Known>>,
    accounts: Arc<Accounts>,
    required: Box<[Box<str>]>,
    tag: Option<Box<str>>,
    /// Nanoseconds.
    skew: u64,
    signs_body: bool,
    needs_nonce: bool,
    replay: Option<Remembered>,
    /// What signatures stand in.
    fields: [Box<str>; 2],
    forward: bool,
}

/// A signature that is right.
struct Verified<'k> {
    consumer: ConsumerId,
    /// Of the key it was made with.
    lasting: &'k Lasting,
    /// What the body must be; `None` where it is not looked at.
    body: Option<SignedBody>,
    mark: Mark,
    /// From when on it is too old.
    until: u64,
}

/// Why a request was not let in; the caller is never told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    Absent(Absent),
    /// It does not cover what is required.
    Coverage,
    /// It has no nonce where one is needed.
    Nonce,
    /// It covers something that the request does not have, or that is not understood.
    Missing,
    /// The key is unknown, meant for another algorithm, or the signature is not made with it.
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
            Refused::Absent(Absent::None) => "there is no signature in the request that is meant for here",
            Refused::Absent(Absent::Several) => {
                "there is more than one signature in the request that is meant for here"
            }
            Refused::Absent(Absent::Malformed) => "the signature is malformed, or has no `created` or no `keyid`",
            Refused::Coverage => "the signature does not cover all of `required`",
            Refused::Nonce => "the signature has no nonce",
            Refused::Missing => {
                "the signature covers a component that the request does not have, or that is not understood"
            }
            Refused::Unknown => "the signature is not made with a key of a consumer and its algorithm",
            Refused::Void(why) => why.as_str(),
            Refused::Time => "the signature has expired, or was made further away than `clock_skew`",
            Refused::Digest => "the signed digest of the body cannot be read",
            Refused::Again => "the signature was presented before",
            Refused::Full => "more signatures were presented than `replay_entries` lets be remembered",
            Refused::Another => "the signature is not the authenticated consumer's",
        }
    }
}

impl Policy for SignatureAuth {
    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        Flow::Now(self.authenticate(exchange).map(|_| ()).map_err(refusal))
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
        !matches!(Presented::find(&exchange.request.head, self.tag.as_deref()), Err(Absent::None))
    }

    fn explain(&self, exchange: &mut Exchange) -> Explanation {
        let explained = self.verify(exchange).and_then(|verified| {
            let seen = self.replay.as_ref().is_some_and(|replay| replay.replay.has(&verified.mark));
            if seen { Err(Refused::Again) } else { self.note(verified, exchange) }
        });
        match explained {
            Ok(consumer) => {
                let name = self.known.directory.get(consumer).map_or("", |consumer| &consumer.name);
                Explanation::pass(format!("the signature is made with a key of `{name}`"))
            }
            Err(Refused::Unknown) if self.is_disabled(exchange) => {
                Explanation::stop(&refusal(Refused::Unknown), DISABLED)
            }
            Err(refused) => Explanation::stop(&refusal(refused), refused.why()),
        }
    }
}

impl SignatureAuth {
    /// Whether the key that is named is one of the configuration that is disabled, for `explain`.
    fn is_disabled(&self, exchange: &Exchange) -> bool {
        let shown = Presented::find(&exchange.request.head, self.tag.as_deref()).ok();
        let named = shown.and_then(|shown| Some(CredentialName::Signer(shown.text("keyid")?.to_owned())));
        named.is_some_and(|name| self.known.directory.has_disabled(&name))
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
        let presented = Presented::find(&exchange.request.head, self.tag.as_deref()).map_err(Refused::Absent)?;
        if !self.required.iter().all(|name| components::covers(&presented.input, exchange, name)) {
            return Err(Refused::Coverage);
        }
        if self.needs_nonce && presented.text("nonce").is_none_or(str::is_empty) {
            return Err(Refused::Nonce);
        }
        let base = components::base(&presented.input, exchange).ok_or(Refused::Missing)?;
        let found = presented.text("keyid").and_then(|id| self.known.value.keys.get(id));
        // the key says which algorithm it is for, never the request
        let found = found.filter(|(_, key, _)| presented.text("alg").is_none_or(|named| named == key.algorithm()));
        let found = found.filter(|(_, key, _)| key.verifies(&base, &presented.signature));
        let (consumer, _, lasting) = found.ok_or(Refused::Unknown)?;
        lasting.judge(&self.accounts, exchange.wall / 1_000_000).map_err(Refused::Void)?;
        let until = self.until(&presented, exchange.wall).ok_or(Refused::Time)?;
        // of the text, not the signature: of many algorithms one text has several, and anyone can make another out of one
        let mark = digest(&SHA256, &base).as_ref().first_chunk().copied().unwrap_or_default();
        let body = if self.signs_body { Some(body(&presented, exchange)?) } else { None };
        Ok(Verified { consumer: *consumer, lasting, body, mark, until })
    }

    /// From when on a signature is too old, wherever it is presented, if it is of now.
    fn until(&self, presented: &Presented, now: u64) -> Option<u64> {
        let made = presented.created.checked_mul(SECOND).filter(|made| made.abs_diff(now) <= self.skew)?;
        let expires = presented.expires.map_or(u64::MAX, |expires| expires.saturating_mul(SECOND));
        (expires >= now).then(|| self.replay.as_ref().map_or(made, |known| known.replay.until(made)).min(expires))
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
        for name in self.removed_from_requests() {
            exchange.request.head.remove(name);
        }
        let name = self.known.directory.get(consumer).map_or("", |known| &known.name);
        let roles = self.known.value.roles.get(consumer.0 as usize).map_or("", |roles| roles);
        caller::note(exchange, consumer, name.as_bytes(), roles.as_bytes());
        Ok(consumer)
    }
}

/// What the body must be: as the digest says that is signed, or empty.
fn body(presented: &Presented, exchange: &Exchange) -> Result<SignedBody, Refused> {
    if exchange.request.head.get("content-digest").is_some()
        && components::covers(&presented.input, exchange, "content-digest")
    {
        return DigestField::ContentDigest.read(exchange).ok_or(Refused::Digest);
    }
    Ok(SignedBody { empty: true, ..SignedBody::default() })
}

#[cold]
fn refusal(why: Refused) -> Stop {
    if why == Refused::Full {
        let detail = "the gateway cannot take further signed requests for a while";
        return Fault::new(Reason::Overloaded, detail).cause(why.why()).into();
    }
    let fault = Fault::new(Reason::Unauthenticated, "the request has no signature that is known here");
    Stop::Fault(fault.cause(why.why()).field("WWW-Authenticate", CHALLENGE))
}

/// What fuzzing holds against the reader of `Signature-Input`: the base of whatever is read is made or refused, and ends with the
/// parameters in their one spelling, which read as the same again.
///
/// # Errors
/// What does not hold.
pub fn check_reader(text: &[u8], exchange: &Exchange) -> Result<(), String> {
    for (label, entry) in presented::read(text).into_iter().flatten() {
        let ListEntry::InnerList(input) = entry else { continue };
        let Some(base) = components::base(&input, exchange) else { continue };
        let base = String::from_utf8_lossy(&base).into_owned();
        let spelled =
            base.rsplit_once("\"@signature-params\": ").map(|(_, params)| format!("{}={params}", label.as_str()));
        let again = spelled.as_ref().and_then(|text| presented::read(text.as_bytes()));
        let same = again.is_some_and(|again| again.values().eq([&ListEntry::InnerList(input)]));
        if !same {
            return Err(format!("{base:?}"));
        }
    }
    Ok(())
}
