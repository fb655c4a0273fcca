//! The texts of credentials that the gateway makes: a prefix that says what it is, 30 random characters, and a check of 6. Knows nothing
//! of who holds them.
//!
//! A random character is one of 62, so that a text holds 178 bits. The check lets a scanner for leaked secrets tell one from a look-alike,
//! and whoever is given one that was cut while it was copied say so.

use aws_lc_rs::digest::{SHA256, digest as hash};
use aws_lc_rs::rand;

const RANDOM: usize = 30;
const CHECK: usize = 6;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// SHA-256 of a credential: all that is kept of it.
pub type Digest = [u8; 32];

/// What a text is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefix {
    /// An API key.
    Key,
    /// A secret of a client.
    Secret,
    /// An access token.
    Access,
    /// A refresh token.
    Refresh,
    /// A one-time code of a login.
    Code,
}

impl Prefix {
    /// How every text of this kind begins.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Prefix::Key => "dmn_",
            Prefix::Secret => "dms_",
            Prefix::Access => "dmt_",
            Prefix::Refresh => "dmr_",
            Prefix::Code => "dmc_",
        }
    }

    /// Whether a text may be an access or a refresh token: a whole one, or a signed one, which has no check.
    #[must_use]
    pub(crate) fn is_of_token(text: &[u8]) -> bool {
        let opaque = |text| [Prefix::Access, Prefix::Refresh].into_iter().find_map(|kind: Prefix| kind.is_whole(text));
        std::str::from_utf8(text).is_ok_and(|text| opaque(text).unwrap_or_else(|| text.starts_with("eyJ")))
    }

    /// Makes a text of this kind from the system's random numbers.
    ///
    /// # Errors
    /// When the system has none to give, for which there is no ordinary reason.
    pub fn make(self) -> Result<String, NoRandomness> {
        let mut random = String::with_capacity(RANDOM);
        let mut buffer = [0_u8; 48];
        while random.len() < RANDOM {
            rand::fill(&mut buffer).map_err(|_| NoRandomness)?;
            // 248 is the greatest multiple of 62 that a byte can reach: what is above it would make some letters likelier
            let usable = buffer.iter().filter(|byte| **byte < 248);
            let letters = usable.filter_map(|byte| ALPHABET.get(usize::from(byte % 62)));
            random.extend(letters.take(RANDOM - random.len()).map(|letter| char::from(*letter)));
        }
        Ok(format!("{}{random}{}", self.as_str(), check(self.as_str(), &random)))
    }

    /// Whether a text that begins as one of this kind is a whole one; `None` for those that begin otherwise.
    #[must_use]
    pub fn is_whole(self, text: &str) -> Option<bool> {
        let body = text.strip_prefix(self.as_str())?;
        let whole = body.len() == RANDOM + CHECK
            && body.bytes().all(|byte| ALPHABET.contains(&byte))
            && body.split_at_checked(RANDOM).is_some_and(|(random, end)| check(self.as_str(), random) == end);
        Some(whole)
    }
}

/// The system gives no random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random numbers")]
pub struct NoRandomness;

/// The digest of a credential.
#[must_use]
pub fn digest(text: &[u8]) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(hash(&SHA256, text).as_ref());
    out
}

/// The id of a credential that is known by its digest: no secret, and told in logs.
#[must_use]
pub fn id_of(kind: &str, digest: &Digest) -> String {
    let head: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("{kind}:{head}")
}

/// The first 32 bits of the SHA-256 of prefix and random part, in base 62.
fn check(prefix: &str, random: &str) -> String {
    let digest = digest(format!("{prefix}{random}").as_bytes());
    let mut number = digest.iter().take(4).fold(0_usize, |number, byte| number * 256 + usize::from(*byte));
    let mut letters = [b'0'; CHECK];
    for letter in letters.iter_mut().rev() {
        *letter = ALPHABET.get(number % 62).copied().unwrap_or(b'0');
        number /= 62;
    }
    String::from_utf8_lossy(&letters).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_told_from_look_alikes_and_no_two_are_the_same() {
        for prefix in [Prefix::Key, Prefix::Secret, Prefix::Access, Prefix::Refresh, Prefix::Code] {
            let (one, other) = (prefix.make().unwrap(), prefix.make().unwrap());
            assert_ne!(one, other);
            assert_eq!(one.len(), 40);
            assert_eq!(prefix.is_whole(&one), Some(true));
            assert_eq!(prefix.is_whole(&one[..39]), Some(false));
            let mut wrong = one.into_bytes();
            wrong[10] = if wrong[10] == b'a' { b'b' } else { b'a' };
            assert_eq!(prefix.is_whole(&String::from_utf8(wrong).unwrap()), Some(false));
            assert_eq!(prefix.is_whole("sk_live_1234"), None);
        }
    }

    #[test]
    fn a_check_is_that_of_the_keys_made_before() {
        assert_eq!(check("dmn_", "0123456789ABCDEFGHIJKLMNOPQRST").len(), 6);
        assert_eq!(Prefix::Key.is_whole("dmn_0123456789ABCDEFGHIJKLMNOPQRSTnot_it"), Some(false));
    }

    #[test]
    fn an_id_tells_a_little_of_the_digest() {
        assert_eq!(id_of("key", &[0xab; 32]), "key:abababababab");
    }
}
