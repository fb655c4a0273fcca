//! The signature a request presents, in the form of the Internet-Draft draft-cavage-http-signatures-12: takes its parameters apart, and
//! refuses what could be read in two ways. Knows no key.

use daemun_pipeline::head::is_token;
use daemun_pipeline::{FieldId, Head};

use crate::authorization::after_scheme;
use crate::base64_text;

/// The schemes: the draft's, and that of clients of Kong, which name the key `username`.
pub(crate) const SCHEMES: [&str; 2] = ["Signature", "hmac"];
/// Longest value that is looked at, in bytes.
const MAX: usize = 8 * 1024;
/// Longest signature, in bytes.
pub(crate) const MAX_SIGNATURE: usize = 64;
/// Most parts that a signature covers.
const MAX_COVERED: usize = 64;

/// Why a request has no signature to verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absent {
    /// None is there.
    None,
    /// Several are.
    Several,
    /// It is not well-formed.
    Malformed,
}

/// A signature and what it says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Presented<'a> {
    /// Which key it is made with.
    pub(crate) key: &'a str,
    /// Algorithm, where it is said.
    pub(crate) algorithm: Option<&'a str>,
    /// What it covers, one space between two.
    pub(crate) covered: &'a str,
    /// When it was made, seconds since the Unix epoch.
    pub(crate) created: Option<u64>,
    /// When it ends, likewise.
    pub(crate) expires: Option<u64>,
    signature: [u8; MAX_SIGNATURE],
    length: usize,
}

impl<'a> Presented<'a> {
    /// The one signature of a request. Allocates nothing.
    pub(crate) fn find(head: &'a Head) -> Result<Presented<'a>, Absent> {
        let mut found = None;
        let values = head.values_id(FieldId::Authorization);
        for value in values.filter_map(|value| SCHEMES.iter().find_map(|scheme| after_scheme(value, scheme))) {
            if found.replace(value).is_some() {
                return Err(Absent::Several);
            }
        }
        Presented::read(found.ok_or(Absent::None)?).ok_or(Absent::Malformed)
    }

    /// What follows the scheme.
    pub(crate) fn read(text: &'a [u8]) -> Option<Presented<'a>> {
        let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= MAX && text.is_ascii())?;
        let (mut key, mut algorithm, mut covered, mut signature) = (None, None, None, None);
        let (mut created, mut expires) = (None, None);
        let mut rest = text;
        loop {
            let (name, value, behind) = parameter(rest)?;
            let slot = match name {
                "keyId" | "username" => &mut key,
                "algorithm" => &mut algorithm,
                "headers" => &mut covered,
                "signature" => &mut signature,
                "created" => &mut created,
                "expires" => &mut expires,
                // parameters that are not known mean nothing (section 2.1)
                _ => &mut None,
            };
            if slot.replace(value).is_some() {
                return None;
            }
            match behind {
                Some(behind) => rest = behind,
                None => break,
            }
        }
        let mut presented = Presented {
            key: key?,
            algorithm,
            covered: covered.unwrap_or("date"),
            created: created.map(|seconds| seconds.parse().ok()).map_or(Some(None), |read| read.map(Some))?,
            expires: expires.map(|seconds| seconds.parse().ok()).map_or(Some(None), |read| read.map(Some))?,
            signature: [0; MAX_SIGNATURE],
            length: 0,
        };
        presented.length = base64_text::decode(signature?.as_bytes(), &mut presented.signature)?.len();
        presented.is_plain().then_some(presented)
    }

    /// The bytes of the signature.
    pub(crate) fn signature(&self) -> &[u8] {
        self.signature.get(..self.length).unwrap_or_default()
    }

    /// What it covers, in its order.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.covered.split(' ')
    }

    /// Whether it covers something.
    pub(crate) fn covers(&self, part: &str) -> bool {
        self.parts().any(|covered| covered == part)
    }

    /// Whether what it covers are names in lower case, none of them twice.
    fn is_plain(&self) -> bool {
        let is_name = |part: &str| {
            matches!(part, "(request-target)" | "(created)" | "(expires)" | "@request-target")
                || !part.is_empty() && part.bytes().all(|byte| is_token(byte) && !byte.is_ascii_uppercase())
        };
        let once = |at: usize, part: &str| !self.parts().take(at).any(|before| before == part);
        self.parts().count() <= MAX_COVERED
            && self.parts().enumerate().all(|(at, part)| is_name(part) && once(at, part))
    }
}

/// A name and its value, quoted or a number, and what follows behind a comma.
fn parameter(text: &str) -> Option<(&str, &str, Option<&str>)> {
    let (name, rest) = text.trim_start_matches([' ', '\t']).split_once('=')?;
    if name.is_empty() || !name.bytes().all(is_token) {
        return None;
    }
    let (value, behind) = match rest.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"')?,
        None => rest.split_at(rest.bytes().take_while(u8::is_ascii_digit).count()),
    };
    // what is escaped could be read with or without
    if value.is_empty() || value.contains('\\') {
        return None;
    }
    match behind.trim_matches([' ', '\t']) {
        "" => Some((name, value, None)),
        behind => Some((name, value, Some(behind.strip_prefix(',')?))),
    }
}
