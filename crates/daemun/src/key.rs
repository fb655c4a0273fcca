//! API keys on the command line, as `daemun_accounts::text` makes them. Knows nothing of who holds them.

use std::fmt::Write as _;

use daemun_accounts::text::{self, NoRandomness, Prefix};

/// How every key begins.
pub(crate) const PREFIX: &str = "dmn_";
/// Fewest bytes of a key that a configuration accepts, whoever made it.
pub(crate) const SHORTEST: usize = 16;

/// Makes a key from the system's random numbers.
///
/// # Errors
/// When the system has none to give, for which there is no ordinary reason.
pub(crate) fn generate() -> Result<String, NoRandomness> {
    Prefix::Key.make()
}

/// The SHA-256 digest of a key, as a configuration takes it: lower-case hexadecimal.
pub(crate) fn digest(key: &[u8]) -> String {
    text::digest(key).iter().fold(String::with_capacity(64), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Whether a text that begins as a key of Daemun's is a whole one; `None` for keys that others made.
pub(crate) fn is_whole(key: &str) -> Option<bool> {
    Prefix::Key.is_whole(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_whole_until_a_letter_is_lost() {
        let key = generate().unwrap();
        assert!(key.starts_with(PREFIX));
        assert_eq!(is_whole(&key), Some(true));
        assert_eq!(is_whole(&key[..key.len() - 1]), Some(false));
        assert_eq!(is_whole("some-other-kind-of-key"), None);
    }

    #[test]
    fn the_digest_is_that_of_the_bytes() {
        assert_eq!(digest(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
