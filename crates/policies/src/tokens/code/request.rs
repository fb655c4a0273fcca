//! What a client asks for that sends a browser here (RFC 6749, section 4.1.1; RFC 7636, section 4.3). Gives nothing out, and asks nobody.

use daemun_pipeline::Exchange;

use super::pending::Asked;
use crate::tokens::Tokens;
use crate::tokens::clients::{Known, may_go_back};
use crate::tokens::login::words;

/// Parameters of a query.
const MOST: usize = 64;
/// Bytes of a client's `state`.
const LONGEST_STATE: usize = 1024;
/// Characters of a challenge: SHA-256 in base64url.
const CHALLENGE: usize = 43;

/// What a browser is shown whose client is not known. It is not told which half was wrong.
pub(super) const NO_CLIENT: &str = "the client is not known, or is not one that the browser may be sent back to there";

/// Why a browser is not sent to log in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Bad {
    /// Nobody is known that it could be sent back to: it is shown an error here, and goes nowhere (RFC 6749, section 4.1.2.1).
    Page { detail: &'static str, why: &'static str },
    /// It is sent back with an error.
    Back(Box<Back>),
}

/// An error, and whom it is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Back {
    pub(super) redirect: String,
    pub(super) state: Option<String>,
    pub(super) error: &'static str,
    pub(super) why: &'static str,
}

/// Parameters of a query, as they stand there.
struct Query(Vec<(String, String)>);

/// A parameter stands twice (RFC 6749, section 3.1).
struct Twice;

impl Query {
    fn of(text: &str) -> Option<Query> {
        let mut all = form_urlencoded::parse(text.as_bytes());
        let pairs = all.by_ref().take(MOST).map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
        all.next().is_none().then_some(Query(pairs))
    }

    /// The value of a parameter; one without a value is not there.
    fn one(&self, name: &str) -> Result<Option<&str>, Twice> {
        let mut values = self.0.iter().filter(|(known, _)| known == name);
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(Twice),
            (first, None) => Ok(first.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())),
        }
    }
}

impl Tokens {
    /// What is asked for, if it may be.
    pub(super) fn asked_for(&self, exchange: &Exchange) -> Result<Asked, Bad> {
        let query = Query::of(exchange.request.query_text().unwrap_or_default());
        let page = |why| Bad::Page { detail: why, why };
        let query = query.ok_or_else(|| page("there are too many parameters"))?;
        let needed = |name, missing, twice| match query.one(name) {
            Ok(Some(value)) => Ok(value),
            Ok(None) => Err(page(missing)),
            Err(Twice) => Err(page(twice)),
        };
        let client = needed("client_id", "`client_id` is missing", "`client_id` stands twice")?;
        let redirect = needed("redirect_uri", "`redirect_uri` is missing", "`redirect_uri` stands twice")?;
        let known = self
            .may_ask(client, redirect, exchange.wall / 1_000_000)
            .map_err(|why| Bad::Page { detail: NO_CLIENT, why })?;
        // from here on the client is told itself what is wrong
        let state = query.one("state").ok().flatten();
        let state = state.filter(|state| {
            state.len() <= LONGEST_STATE && state.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
        });
        match rest(&query, &known) {
            Ok((challenge, scopes)) => Ok(Asked {
                client: client.to_owned(),
                redirect: redirect.to_owned(),
                challenge,
                state: state.map(str::to_owned),
                scopes,
            }),
            Err((error, why)) => {
                let (redirect, state) = (redirect.to_owned(), state.map(str::to_owned));
                Err(Bad::Back(Box::new(Back { redirect, state, error, why })))
            }
        }
    }

    /// The client, if it may ask for a login and have the browser sent back there.
    pub(super) fn may_ask(&self, client: &str, redirect: &str, now: u64) -> Result<Known, &'static str> {
        let client = self.client(client, now).ok_or("there is no client of this id that has `redirect_uris`")?;
        if let Some(why) = client.refused {
            return Err(why);
        }
        if !may_go_back(&client.redirect_uris, redirect) {
            return Err("the `redirect_uri` is none of the client's");
        }
        Ok(client)
    }
}

type Wrong = (&'static str, &'static str);

/// Challenge and scopes, once all else is as it must be.
fn rest(query: &Query, client: &Known) -> Result<(String, Option<Vec<String>>), Wrong> {
    let malformed = |why| ("invalid_request", why);
    let one = |name| query.one(name).map_err(|Twice| malformed("a parameter stands twice"));
    let state = one("state")?.unwrap_or_default();
    if state.len() > LONGEST_STATE {
        return Err(malformed("`state` has 1024 bytes at most"));
    }
    if !state.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        return Err(malformed("`state` has a character that is not printable ASCII"));
    }
    match one("response_type")? {
        Some("code") => {}
        None => return Err(malformed("`response_type` is missing")),
        Some(_) => return Err(("unsupported_response_type", "the only `response_type` is `code`")),
    }
    if one("response_mode")?.is_some_and(|mode| mode != "query") {
        return Err(malformed("the only `response_mode` is `query`"));
    }
    // what stands in such an object would be left out (RFC 9101)
    if one("request")?.is_some() {
        return Err(("request_not_supported", "requests are not taken as signed objects"));
    }
    if one("request_uri")?.is_some() {
        return Err(("request_uri_not_supported", "requests are not taken by reference"));
    }
    let Some(challenge) = one("code_challenge")? else {
        return Err(malformed("`code_challenge` is missing: PKCE is needed"));
    };
    if one("code_challenge_method")? != Some("S256") {
        return Err(malformed("the only `code_challenge_method` is `S256`"));
    }
    let is_challenge = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if challenge.len() != CHALLENGE || !challenge.bytes().all(is_challenge) {
        return Err(malformed("`code_challenge` is no SHA-256 in base64url"));
    }
    let scopes = one("scope")?.map(words);
    if scopes.iter().flatten().any(|scope| !client.scopes.contains(scope)) {
        return Err(("invalid_scope", "a scope that is asked for is none that the client may have"));
    }
    Ok((challenge.to_owned(), scopes))
}
