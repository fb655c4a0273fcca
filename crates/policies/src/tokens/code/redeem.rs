//! Tokens for one-time codes (RFC 6749, section 4.1.3), and for the refresh tokens that came of them. Knows no browser.

use aws_lc_rs::digest::{SHA256, digest};
use daemun_accounts::{Bound, Code, Issued, Mint, Refusal, Token, Trouble};
use daemun_pipeline::{Exchange, FieldId, Identity};
use data_encoding::BASE64URL_NOPAD;

use crate::tokens::clients::{Known, of_client};
use crate::tokens::form::Form;
use crate::tokens::login::{Purpose, ShownRefresh};
use crate::tokens::{Refused, Tokens, millis};

/// Bytes of a verifier (RFC 7636, section 4.1).
const VERIFIER: std::ops::RangeInclusive<usize> = 43..=128;

/// Why a login that a client asked for does not go on.
const NO_CLIENT: &str = "the client of the login is not there any more";

/// What a client shows for tokens.
pub(in crate::tokens) struct Shown {
    client: Known,
    code: String,
    redirect: String,
    /// What its verifier comes to.
    challenge: String,
}

impl Tokens {
    /// Whoever asks, and what it shows. The client is known by its secret, or by its name alone where it has none.
    pub(in crate::tokens) fn by_code(
        &self,
        exchange: &Exchange,
        form: &Form,
        purpose: Purpose,
    ) -> Result<Shown, Refused> {
        let client = self.client_of(exchange, form, purpose)?;
        let (Some(code), Some(redirect)) = (form.get("code"), form.get("redirect_uri")) else {
            return Err(Refused::malformed("`code` or `redirect_uri` is missing"));
        };
        let Some(verifier) = form.get("code_verifier") else {
            return Err(Refused::malformed("`code_verifier` is missing: PKCE is needed"));
        };
        let is_unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if !VERIFIER.contains(&verifier.len()) || !verifier.bytes().all(is_unreserved) {
            return Err(Refused::malformed("`code_verifier` has 43 to 128 letters, digits and `- . _ ~`"));
        }
        let challenge = BASE64URL_NOPAD.encode(digest(&SHA256, verifier.as_bytes()).as_ref());
        Ok(Shown { client, code: code.to_owned(), redirect: redirect.to_owned(), challenge })
    }

    /// The client that asks (RFC 6749, section 3.2.1).
    fn client_of(&self, exchange: &Exchange, form: &Form, purpose: Purpose) -> Result<Known, Refused> {
        let (named, now) = (form.get("client_id"), exchange.wall / 1_000_000);
        let has_secret =
            exchange.request.head.get_id(FieldId::Authorization).is_some() || form.get("client_secret").is_some();
        if has_secret {
            let caller = self.by_client(exchange, form, purpose)?;
            let id =
                caller.credential.strip_prefix("client:").filter(|_| caller.consumer).unwrap_or(&caller.credential);
            // one of the store may have the id of another that is configured, and is not that one
            let client = self.client(id, now).filter(|client| *client.credential == *caller.credential);
            let client = client.ok_or_else(|| Refused::client("the client has no `redirect_uris`"))?;
            return match client.refused {
                Some(why) => Err(Refused::client(why)),
                None => Ok(client),
            };
        }
        let id = named.ok_or_else(|| Refused::malformed("`client_id` is missing"))?;
        match self.client(id, now) {
            Some(client) if client.is_confidential => Err(Refused::client("the client's secret is missing")),
            Some(Known { refused: Some(why), .. }) => Err(Refused::client(why)),
            Some(client) => Ok(client),
            None => Err(Refused::client("there is no client of this id that has `redirect_uris`")),
        }
    }

    /// Gives tokens for a code.
    pub(in crate::tokens) async fn redeem(
        &self,
        exchange: &mut Exchange,
        shown: &Shown,
        lifetimes: (u64, Option<u64>),
        now: u64,
    ) -> Result<Issued, Trouble> {
        let minting = self.minting();
        let mint = minting.as_ref().map(|minting| minting as &dyn Mint);
        let code = Code {
            text: &shown.code,
            bound: Bound { client: &shown.client.bound, redirect: &shown.redirect, challenge: &shown.challenge },
            service: &self.name,
            lifetime: millis(self.service.code),
        };
        let may = |identity: &Identity| {
            identity.credential.as_deref() == Some(&*shown.client.credential) && self.let_in(&identity.subject).is_ok()
        };
        let given = self.accounts.redeem_by(mint, &code, may, lifetimes, self.service.most, now).await;
        match given {
            Ok((issued, identity)) => {
                let client = shown.client.id.escape_debug();
                let remark = format!("tokens for `{}`, by a code of the client `{client}`", identity.subject);
                exchange.remark = Some(remark.into());
                Ok(issued)
            }
            Err(Trouble::Refused(refusal)) => {
                if refusal == Refusal::Reused {
                    let address = exchange.client.ip;
                    let what = format!("a code was used twice, from {address}: all of its login is revoked");
                    self.world.tell("token_reused", what);
                }
                Err(refusal.into())
            }
            Err(failed) => Err(failed),
        }
    }

    /// Whether whoever shows a refresh token may have more for it: one that came of a login in a browser is good for the client of that login
    /// alone (RFC 6749, section 6), while there is one, and its user may be let in.
    pub(in crate::tokens) fn may_refresh(
        &self,
        exchange: &Exchange,
        form: &Form,
        shown: &ShownRefresh,
        known: Option<&Token>,
    ) -> Result<(), Refused> {
        // of one that is not known nothing could be asked, and it may be known a moment later
        let unknown = || Refused::grant(Refusal::Unknown.as_str()).of_header(shown.in_head);
        let identity = known.map(|token| token.grant.identity()).ok_or_else(unknown)?;
        if of_client(&identity).is_none() {
            return Ok(());
        }
        let Some(client) = self.client_of_login(&identity, exchange.wall / 1_000_000) else {
            return Err(Refused::grant(NO_CLIENT));
        };
        let shows = form.get("client_id").is_some() || form.get("client_secret").is_some();
        let shows = shows || exchange.request.head.get_id(FieldId::Authorization).is_some();
        let is_other = |asks: Known| asks.credential != client.credential;
        if (client.is_confidential || shows) && is_other(self.client_of(exchange, form, Purpose::Tokens)?) {
            return Err(Refused::grant("the refresh token is of another client"));
        }
        self.may_through(&client, &identity).map_err(Refused::grant)
    }

    /// Whether a login that a client asked for may go on.
    ///
    /// # Errors
    /// Why not.
    pub(in crate::tokens) fn may_for_client(&self, held: &Identity, now: u64) -> Result<(), &'static str> {
        let client = self.client_of_login(held, now).ok_or(NO_CLIENT)?;
        self.may_through(&client, held)
    }

    fn may_through(&self, client: &Known, held: &Identity) -> Result<(), &'static str> {
        client.refused.map_or(Ok(()), Err)?;
        self.let_in(&held.subject)
    }
}
