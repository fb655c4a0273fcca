//! What is secret at rest: sealed with AES-256-GCM under a key that is derived from the operator's. Knows nothing of what is sealed.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};

/// Fewest bytes of the operator's key.
pub const SHORTEST: usize = 32;

/// Seals and opens.
pub struct Seal(RandomizedNonceKey);

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal")
    }
}

/// What cannot be opened: sealed under another key, or changed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what is sealed cannot be opened with this key")]
pub struct Sealed;

impl Seal {
    /// Of the store, under the operator's key. `None` when it is too short.
    #[must_use]
    pub fn new(key: &[u8]) -> Option<Seal> {
        Seal::derived(key, b"daemun store", b"signing keys, AES-256-GCM")
    }

    /// Under a key of its own for each `place` and `purpose`, which is derived from the operator's (HKDF-SHA256, RFC 5869). `None` when
    /// that is too short.
    #[must_use]
    pub fn derived(key: &[u8], place: &[u8], purpose: &[u8]) -> Option<Seal> {
        if key.len() < SHORTEST {
            return None;
        }
        let extracted = Salt::new(HKDF_SHA256, place).extract(key);
        let mut derived = [0; 32];
        extracted.expand(&[purpose], HKDF_SHA256).ok()?.fill(&mut derived).ok()?;
        RandomizedNonceKey::new(&AES_256_GCM, &derived).ok().map(Seal)
    }

    /// Seals; `of` is what it is of, and must be the same when it is opened.
    ///
    /// # Errors
    /// When there are no random numbers.
    pub fn seal(&self, of: &str, secret: &[u8]) -> Result<Vec<u8>, Sealed> {
        let mut sealed = secret.to_vec();
        let nonce = self.0.seal_in_place_append_tag(Aad::from(of.as_bytes()), &mut sealed).map_err(|_| Sealed)?;
        let mut out = nonce.as_ref().to_vec();
        out.append(&mut sealed);
        Ok(out)
    }

    /// Opens what [`Seal::seal`] gave.
    ///
    /// # Errors
    /// When it was sealed under another key or for something else, or was changed.
    pub fn open(&self, of: &str, sealed: &[u8]) -> Result<Vec<u8>, Sealed> {
        let (nonce, body) = sealed.split_at_checked(NONCE_LEN).ok_or(Sealed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Sealed)?;
        let mut body = body.to_vec();
        let length = self.0.open_in_place(nonce, Aad::from(of.as_bytes()), &mut body).map_err(|_| Sealed)?.len();
        body.truncate(length);
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_under_the_same_key_and_for_the_same_thing_alone() {
        let seal = Seal::new(&[7; 32]).unwrap();
        let sealed = seal.seal("kid-1", b"secret").unwrap();
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        assert_ne!(sealed, seal.seal("kid-1", b"secret").unwrap());
        assert_eq!(seal.open("kid-1", &sealed).unwrap(), b"secret");
        assert_eq!(seal.open("kid-2", &sealed), Err(Sealed));
        assert_eq!(Seal::new(&[8; 32]).unwrap().open("kid-1", &sealed), Err(Sealed));
        for cut in 0..sealed.len() {
            assert_eq!(seal.open("kid-1", &sealed[..cut]), Err(Sealed));
        }
        assert!(Seal::new(&[7; 31]).is_none());
    }

    #[test]
    fn each_purpose_has_a_key_of_its_own() {
        let sealed = Seal::derived(&[7; 32], b"a", b"b").unwrap().seal("x", b"secret").unwrap();
        for (place, purpose) in [(b"a", b"c"), (b"c", b"b")] {
            assert_eq!(Seal::derived(&[7; 32], place, purpose).unwrap().open("x", &sealed), Err(Sealed));
        }
        assert_eq!(Seal::derived(&[7; 32], b"a", b"b").unwrap().open("x", &sealed).unwrap(), b"secret");
        assert!(Seal::derived(&[7; 31], b"a", b"b").is_none());
    }
}
