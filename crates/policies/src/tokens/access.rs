//! The texts of signed access tokens (RFC 9068). Knows neither how keys come about nor who may have a token.

use std::sync::Arc;

use daemun_accounts::{Mint, Refusal, Text, Trouble, Wanted};
use daemun_config::model::SignedTokens;
use daemun_pipeline::world::{World, compute};
use daemun_pipeline::{Directory, Identity};
use data_encoding::BASE64URL_NOPAD;
use serde::ser::{Serialize, SerializeMap as _, Serializer};

use super::signing::{Signing, SigningKey};
use crate::token_auth::LONGEST_SIGNED;

/// Makes them for one service.
pub(super) struct Minting<'a> {
    pub(super) signing: &'a Signing,
    pub(super) how: &'a SignedTokens,
    /// Where the roles of consumers of the configuration are.
    pub(super) directory: &'a Directory,
    pub(super) world: &'a dyn World,
}

impl Mint for Minting<'_> {
    fn text<'a>(&'a self, wanted: Wanted<'a>) -> Text<'a> {
        Box::pin(async move {
            let key = self.signing.current(wanted.issued).await?;
            let (roles, groups) = self.standing(wanted.identity)?;
            let claims = Claims { how: self.how, wanted: &wanted, roles, groups };
            let mut claims_text = Vec::with_capacity(512);
            serde_json::to_writer(&mut claims_text, &claims).map_err(|_| UNWRITTEN)?;
            let mut text = String::with_capacity(key.head.len() + claims_text.len() * 4 / 3 + 96);
            text.push_str(&key.head);
            BASE64URL_NOPAD.encode_append(&claims_text, &mut text);
            // before anything is signed that would not be taken back
            if text.len() > LONGEST_SIGNED - SIGNATURE {
                return Err(Trouble::Unsigned(
                    "it would be longer than 8 KiB; the caller has very many roles or scopes",
                ));
            }
            let signature = signature(&key, &text, self.world).await?;
            text.push('.');
            BASE64URL_NOPAD.encode_append(&signature, &mut text);
            Ok(text)
        })
    }
}

const UNWRITTEN: Trouble = Trouble::Unsigned("what it says cannot be written");

/// Bytes of the longest signature, encoded, with the point before it: RSA with 2,048 bits.
const SIGNATURE: usize = 343;

/// Over a text. What is slow is done beside the workers, and here where those who guess passwords leave no room for it there: nobody can
/// keep tokens from who shows another credential.
async fn signature(key: &Arc<SigningKey>, text: &str, world: &dyn World) -> Result<Vec<u8>, Trouble> {
    let elsewhere = match key.pair.is_slow() {
        true => {
            let (pair, text) = (Arc::clone(&key.pair), text.to_owned());
            compute(world, move || pair.sign(text.as_bytes())).await.ok()
        }
        false => None,
    };
    let signed = elsewhere.unwrap_or_else(|| key.pair.sign(text.as_bytes()));
    signed.ok_or(Trouble::Unsigned("the key does not sign"))
}

impl Minting<'_> {
    /// Roles and groups: of a consumer of the configuration those that are written there now. One that is not there any more has no good
    /// token, and others who see this one could not know.
    fn standing<'a>(&'a self, identity: &'a Identity) -> Result<(&'a [String], &'a [String]), Trouble> {
        let Some(name) = identity.consumer.as_deref() else { return Ok((&identity.roles, &identity.groups)) };
        let consumer = self.directory.find(name).and_then(|id| self.directory.get(id)).ok_or(Refusal::Revoked)?;
        Ok((&consumer.roles, &consumer.groups))
    }
}

/// What a token says.
struct Claims<'a> {
    how: &'a SignedTokens,
    wanted: &'a Wanted<'a>,
    roles: &'a [String],
    groups: &'a [String],
}

/// Claims with a meaning of their own here, which no other one may take the place of.
const OWN: [&str; 11] = ["iss", "sub", "aud", "exp", "iat", "nbf", "jti", "client_id", "scope", "roles", "groups"];

impl Serialize for Claims<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let (wanted, identity) = (self.wanted, self.wanted.identity);
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("iss", &self.how.issuer)?;
        map.serialize_entry("sub", &*identity.subject)?;
        match self.how.audience.as_slice() {
            [one] => map.serialize_entry("aud", one)?,
            several => map.serialize_entry("aud", several)?,
        }
        // whole seconds, so that it never says that it lasts longer than it does
        map.serialize_entry("exp", &(wanted.expires / 1000))?;
        map.serialize_entry("iat", &(wanted.issued / 1000))?;
        map.serialize_entry("jti", &wanted.name)?;
        map.serialize_entry("client_id", client_of(identity))?;
        if !identity.scopes.is_empty() {
            map.serialize_entry("scope", &identity.scopes.join(" "))?;
        }
        for (name, list) in [("roles", self.roles), ("groups", self.groups)] {
            if !list.is_empty() {
                map.serialize_entry(name, list)?;
            }
        }
        for (name, value) in identity.claims.iter().filter(|(name, _)| !OWN.contains(&name.as_str())) {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// The client that asked: by its id, or by the name of whose key or password was shown.
pub(super) fn client_of(identity: &Identity) -> &str {
    let Some(credential) = identity.credential.as_deref() else { return &identity.subject };
    match credential.split_once(':') {
        Some(("client" | "consumer", id)) => id,
        Some(_) => &identity.subject,
        // a client of the store is its own id
        None => credential,
    }
}
