//! A signed token in its compact form, taken apart (RFC 7515): what it says is not believed before its signature was verified. Knows no
//! key and no claim.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use serde_json::{Map, Value};
use smallvec::{SmallVec, smallvec};

use super::algorithm::Algorithm;
use daemun_pipeline::strict_json::{Json, read_members, read_object};

/// Bytes of a token's header, decoded.
const LONGEST_HEADER: usize = 8 << 10;
/// Bytes of a signature that are decoded where they are looked at: those of RSA keys of 4,096 bits, and less.
const SHORT_SIGNATURE: usize = 512;
/// Bytes of the name of a key.
const LONGEST_KID: usize = 512;

/// Why a text is no token that can be verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// It is not three parts of base64url with points between them.
    Parts,
    /// The header is no JSON object that can be read in one way.
    Header,
    /// It says no algorithm, or one that is not verified here, such as `none`.
    Algorithm,
    /// It demands what is not understood (`crit`, section 4.1.11), or a payload that is not encoded (RFC 7797).
    Critical,
    /// A member of the header that is looked at is no text, or too long.
    Member,
}

impl Malformed {
    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Malformed::Parts => "it is not three parts of base64url with points between them",
            Malformed::Header => "its header is no JSON object that can be read in one way",
            Malformed::Algorithm => "its `alg` is none that is verified here",
            Malformed::Critical => "its header demands an extension (`crit`, `b64`) that is not understood",
            Malformed::Member => "its header has a member that is not of its type",
        }
    }
}

/// What a header says, as far as anything depends on it. Keys that it carries or points to (`jwk`, `jku`, `x5c`, `x5u`) are not looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Algorithm.
    pub algorithm: Algorithm,
    /// Name of the key.
    pub kid: Option<String>,
    /// Type of the token, in lower case and without `application/`.
    pub typ: Option<String>,
}

/// A token, not yet verified.
#[derive(Clone, Debug)]
pub struct Jws<'t> {
    /// Its header.
    pub header: Arc<Header>,
    /// The same as it is written.
    pub written_header: &'t [u8],
    /// What the signature is over.
    pub signed: &'t [u8],
    /// The payload, decoded.
    pub payload: Vec<u8>,
    /// The signature, decoded.
    pub signature: SmallVec<[u8; SHORT_SIGNATURE]>,
}

impl<'t> Jws<'t> {
    /// Takes a token apart. Costs its length; what it allocates is less than that.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn parse(text: &'t [u8]) -> Result<Jws<'t>, Malformed> {
        Jws::parse_with(text, |_| None)
    }

    /// The same; `known` gives what a header says that was read before.
    pub(super) fn parse_with(
        text: &'t [u8],
        known: impl Fn(&[u8]) -> Option<Arc<Header>>,
    ) -> Result<Jws<'t>, Malformed> {
        let mut points = memchr::memchr_iter(b'.', text);
        let (Some(first), Some(second), None) = (points.next(), points.next(), points.next()) else {
            return Err(Malformed::Parts);
        };
        let part = |from: usize, to: usize| text.get(from..to).ok_or(Malformed::Parts);
        let (header, payload) = (part(0, first)?, part(first + 1, second)?);
        let (signed, signature) = (part(0, second)?, part(second + 1, text.len())?);
        if header.len() > LONGEST_HEADER {
            return Err(Malformed::Header);
        }
        let read = match known(header) {
            Some(known) => known,
            None => Arc::new(Header::read(&decoded(header)?)?),
        };
        let (payload, signature) = (decoded(payload)?, decoded_signature(signature)?);
        Ok(Jws { header: read, written_header: header, signed, payload, signature })
    }
}

/// What a token says that was verified.
pub(super) fn claims(token: &[u8]) -> Map<String, Value> {
    let payload = token.split(|byte| *byte == b'.').nth(1).and_then(|payload| decoded(payload).ok());
    payload.and_then(|payload| read_object(&payload)).unwrap_or_default()
}

/// Base64url without padding, and no other spelling of the same bytes (RFC 4648, sections 3.5 and 5).
pub(super) fn decoded(part: &[u8]) -> Result<Vec<u8>, Malformed> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Malformed::Parts)
}

fn decoded_signature(part: &[u8]) -> Result<SmallVec<[u8; SHORT_SIGNATURE]>, Malformed> {
    let mut signature = smallvec![0; part.len() * 3 / 4];
    let length = URL_SAFE_NO_PAD.decode_slice(part, &mut signature).map_err(|_| Malformed::Parts)?;
    signature.truncate(length);
    Ok(signature)
}

impl Header {
    fn read(text: &[u8]) -> Result<Header, Malformed> {
        let members = read_members(text).ok_or(Malformed::Header)?;
        if members.get("crit").or(members.get("b64")).is_some() {
            return Err(Malformed::Critical);
        }
        let text = |name: &str| match members.get(name) {
            None => Ok(None),
            Some(Json::Text(text)) if text.len() <= LONGEST_KID => Ok(Some(&**text)),
            Some(_) => Err(Malformed::Member),
        };
        let algorithm = text("alg")?.and_then(Algorithm::of).ok_or(Malformed::Algorithm)?;
        let typ = text("typ")?.map(|typ| {
            let typ = typ.to_ascii_lowercase();
            typ.strip_prefix("application/").map(str::to_owned).unwrap_or(typ)
        });
        Ok(Header { algorithm, kid: text("kid")?.map(str::to_owned), typ })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemun_pipeline::strict_json::{Members, members_of};

    #[test]
    fn claims_that_are_read_later_are_those_that_were_checked() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(15), "]".repeat(15));
        for text in [
            "{}",
            r#"{"sub":"ann","exp":4102444800,"roles":["a","b"],"realm":{"x":null,"y":true}}"#,
            r#"{"a":"\u00e9\n\"","\u0062":18446744073709551615,"c":-1,"d":1.5e3,"e":1e-7,"f":0.1}"#,
            "{\"a\":18446744073709551616,\"b\":-9223372036854775809}",
            &deep,
        ] {
            let token = format!("e30.{}.AA", URL_SAFE_NO_PAD.encode(text));
            assert_eq!(Some(Members::of(&claims(token.as_bytes()))), members_of(text), "{text}");
        }
        assert!(claims(b"").is_empty() && claims(b"e30.W10.AA").is_empty());
    }

    #[test]
    fn signatures_of_usual_keys_need_no_memory_of_their_own() {
        let signature = decoded_signature(&[b'A'; 683]).unwrap();
        assert!(signature.len() == 512 && !signature.spilled());
        assert_eq!(decoded_signature(b"AAE").unwrap().as_slice(), [0, 1]);
        for wrong in [&b"AAF"[..], b"AAE=", b"A", b"AA+/", b"AA\n"] {
            assert_eq!(decoded_signature(wrong), Err(Malformed::Parts), "{wrong:?}");
        }
    }
}
