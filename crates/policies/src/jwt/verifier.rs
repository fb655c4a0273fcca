//! From the text of a token to who bears it: signature, type, claims, and what is remembered of it. Shared by all routes with the same
//! settings; knows no request.

use std::sync::Arc;

use daemun_pipeline::{Claims, Identity};
use serde_json::{Map, Value};

use super::jws::{self, Jws, Malformed};
use super::keys::{KeySet, Unverified};
use super::remote::Remote;
use crate::claims::{Rules, Telling, Unfit};
use crate::token_cache::TokenCache;
use daemun_pipeline::strict_json::{Members, members_of, read_members, read_object};

/// Where keys come from.
#[derive(Debug)]
pub(crate) enum Keys {
    /// Out of the configuration.
    Given(Box<KeySet>),
    /// Published by the issuer.
    Published(Arc<Remote>),
}

/// Verifies tokens.
#[derive(Debug)]
pub(crate) struct Verifier {
    pub(crate) keys: Keys,
    pub(crate) rules: Rules,
    pub(crate) telling: Telling,
    /// In lower case.
    pub(crate) types: Box<[String]>,
    pub(crate) max_size: usize,
    pub(crate) known: TokenCache,
}

/// Why a token is not taken; the caller is never told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    TooLong,
    Malformed(Malformed),
    /// It is of a type that is not accepted.
    Type,
    Unverified(Unverified),
    /// What it says is no JSON object that can be read in one way.
    Payload,
    Unfit(Unfit),
    /// No keys are there yet to verify it with.
    NoKeys,
}

impl Refused {
    /// In words, behind "the token is not taken:".
    pub(crate) fn words(&self) -> String {
        match self {
            Refused::TooLong => "it is longer than `max_size`".to_owned(),
            Refused::Malformed(why) => why.words().to_owned(),
            Refused::Type => "its `typ` is not among `types`".to_owned(),
            Refused::Unverified(why) => why.words().to_owned(),
            Refused::Payload => "what it says is no JSON object that can be read in one way".to_owned(),
            Refused::Unfit(why) => why.to_string(),
            Refused::NoKeys => "there are no keys yet to verify it with".to_owned(),
        }
    }
}

impl Verifier {
    /// The bearer of a token that was verified before and still holds. No lock and no allocation.
    #[inline]
    pub(crate) fn remembered(&self, token: &[u8], now: u64) -> Option<Arc<Identity>> {
        match &self.keys {
            Keys::Given(_) => self.known.find(token, now, |_| true),
            Keys::Published(remote) => {
                let keys = remote.keys();
                let keys = keys.as_deref()?;
                self.known.find(token, now, |key| keys.holds(key))
            }
        }
    }

    /// The bearer of a token; `remember` is whether it is kept.
    ///
    /// # Errors
    /// Why it is not taken.
    #[inline(never)]
    pub(crate) fn verify(&self, token: &[u8], now: u64, remember: bool) -> Result<Arc<Identity>, Refused> {
        let (payload, key) = self.proven(token, now)?;
        let claims = members_of(&payload).ok_or(Refused::Payload)?;
        let span = self.rules.check(&claims, now).map_err(Refused::Unfit)?;
        let bearer = self.telling.bearer(&claims).map_err(Refused::Unfit)?;
        let token: Arc<[u8]> = token.into();
        let identity = Arc::new(Identity { claims: Claims::of_credential(Arc::clone(&token), jws::claims), ..bearer });
        if remember {
            self.known.offer(token, span, key, &identity, now);
        }
        Ok(identity)
    }

    /// What a token says.
    ///
    /// # Errors
    /// Why it is not taken.
    pub(crate) fn claims(&self, token: &[u8], now: u64) -> Result<Map<String, Value>, Refused> {
        let (payload, _) = self.proven(token, now)?;
        let claims = read_object(payload.as_bytes()).ok_or(Refused::Payload)?;
        self.rules.check(&Members::of(&claims), now).map_err(Refused::Unfit)?;
        Ok(claims)
    }

    /// The text of what a token says, and which key it was verified with.
    fn proven(&self, token: &[u8], now: u64) -> Result<(String, u64), Refused> {
        if token.len() > self.max_size {
            return Err(Refused::TooLong);
        }
        let published;
        let keys = match &self.keys {
            Keys::Given(keys) => Some(&**keys),
            Keys::Published(remote) => {
                published = remote.keys();
                published.as_deref()
            }
        };
        let known = |written: &[u8]| keys?.header(written);
        let jws = Jws::parse_with(token, known).map_err(Refused::Malformed)?;
        let fits = |typ: &String| self.types.contains(typ);
        if jws.header.typ.as_ref().is_some_and(|typ| !fits(typ)) {
            return Err(Refused::Type);
        }
        let key = match keys.ok_or(Refused::NoKeys)?.verify(&jws) {
            Ok(key) => {
                key.remember_header(&jws);
                key.serial()
            }
            Err(Unverified::UnknownKey) => return Err(self.of_unknown_key(&jws, now)),
            Err(why) => return Err(Refused::Unverified(why)),
        };
        String::from_utf8(jws.payload).map(|payload| (payload, key)).map_err(|_| Refused::Payload)
    }

    /// A token that could not be valid with any key is no reason to ask for more of them.
    #[cold]
    fn of_unknown_key(&self, jws: &Jws<'_>, now: u64) -> Refused {
        let Some(claims) = read_members(&jws.payload) else { return Refused::Payload };
        match self.rules.check_issuer(&claims).and_then(|()| self.rules.check_times(&claims, now)) {
            Err(why) => Refused::Unfit(why),
            Ok(_) => Refused::Unverified(Unverified::UnknownKey),
        }
    }
}
