//! The answer that tokens are given in (RFC 6749, section 5.1). Knows nothing of how they came about.

use daemun_accounts::{Issued, Trouble};
use daemun_config::model::TokenMember;
use daemun_pipeline::Stop;
use serde::ser::{Serialize, SerializeMap as _, Serializer};

/// With these members, in this order; what there is nothing to say of is left out.
pub(super) fn answer(issued: &Issued, members: &[TokenMember], now: u64) -> Stop {
    match serde_json::to_string(&Told { issued, members, now }) {
        Ok(text) => super::answer_text(text),
        Err(_) => super::trouble(&Trouble::Unsigned("what is told of it cannot be written")),
    }
}

struct Told<'a> {
    issued: &'a Issued,
    members: &'a [TokenMember],
    now: u64,
}

impl Serialize for Told<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let (issued, mut map) = (self.issued, to.serialize_map(None)?);
        let seconds = |expires: u64| expires.saturating_sub(self.now) / 1000;
        for member in self.members {
            let name = member.as_str();
            match member {
                TokenMember::AccessToken => map.serialize_entry(name, &issued.access)?,
                TokenMember::TokenType => map.serialize_entry(name, "Bearer")?,
                TokenMember::ExpiresIn => map.serialize_entry(name, &seconds(issued.access_expires))?,
                TokenMember::RefreshToken => {
                    if let Some((token, _)) = &issued.refresh {
                        map.serialize_entry(name, token)?;
                    }
                }
                TokenMember::RefreshExpiresIn => {
                    if let Some((_, expires)) = &issued.refresh {
                        map.serialize_entry(name, &seconds(*expires))?;
                    }
                }
                TokenMember::Scope => {
                    if !issued.scopes.is_empty() {
                        map.serialize_entry(name, &issued.scopes.join(" "))?;
                    }
                }
            }
        }
        map.end()
    }
}
