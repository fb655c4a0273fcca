//! API keys as Daemun makes them: `dmn_`, 30 random characters, and a check of 6. Knows nothing of who holds them.
//!
//! A random character is one of 62, so a key holds 178 bits. The check lets a scanner for leaked secrets tell a key from a
//! look-alike, and `key hash` tell a key that was cut while it was copied.

use std::io;

use sha2::{Digest, Sha256};

/// How every key begins.
pub(crate) const PREFIX: &str = "dmn_";
/// Fewest bytes of a key that a configuration accepts, whoever made it.
pub(crate) const SHORTEST: usize = 16;

const RANDOM: usize = 30;
const CHECK: usize = 6;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Makes a key from the system's random numbers.
///
/// # Errors
/// When the system has none to give, for which there is no ordinary reason.
pub(crate) fn generate() -> io::Result<String> {
    generate_from(&mut |bytes| Ok(rustix::rand::getrandom(bytes, rustix::rand::GetRandomFlags::empty())?))
}

/// The SHA-256 digest of a key, as a configuration takes it: lower-case hexadecimal.
pub(crate) fn digest(key: &[u8]) -> String {
    Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a text that begins as a key of Daemun's is a whole one; `None` for keys that others made.
pub(crate) fn is_whole(key: &str) -> Option<bool> {
    let body = key.strip_prefix(PREFIX)?;
    let whole = body.len() == RANDOM + CHECK
        && body.bytes().all(|byte| ALPHABET.contains(&byte))
        && body.split_at_checked(RANDOM).is_some_and(|(random, end)| check(random) == end);
    Some(whole)
}

/// Makes a key from bytes that `fill` writes to the front of a buffer, saying how many.
fn generate_from(fill: &mut dyn FnMut(&mut [u8]) -> io::Result<usize>) -> io::Result<String> {
    let mut random = String::with_capacity(RANDOM);
    let mut buffer = [0_u8; 64];
    while random.len() < RANDOM {
        let filled = fill(&mut buffer)?;
        // 248 is the greatest multiple of 62 that a byte can reach: what is above it would make some letters likelier.
        let usable = buffer.iter().take(filled).filter(|byte| **byte < 248);
        let letters = usable.filter_map(|byte| ALPHABET.get(usize::from(byte % 62)));
        random.extend(letters.take(RANDOM - random.len()).map(|letter| char::from(*letter)));
    }
    Ok(format!("{PREFIX}{random}{}", check(&random)))
}

/// The first 32 bits of the SHA-256 of prefix and random part, in base 62.
fn check(random: &str) -> String {
    let digest = Sha256::digest(format!("{PREFIX}{random}"));
    let mut number = digest.iter().take(4).fold(0_usize, |number, byte| number * 256 + usize::from(*byte));
    let mut letters = [b'0'; CHECK];
    for letter in letters.iter_mut().rev() {
        *letter = ALPHABET.get(number % 62).copied().unwrap_or(b'0');
        number /= 62;
    }
    letters.iter().map(|letter| char::from(*letter)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_whole_until_a_letter_is_lost_or_changed() {
        let key = generate().unwrap();
        assert_eq!(key.len(), PREFIX.len() + RANDOM + CHECK);
        assert_eq!(is_whole(&key), Some(true));
        assert_eq!(is_whole(&key[..key.len() - 1]), Some(false));
        let mut swapped = key.clone();
        swapped.replace_range(10..11, if &key[10..11] == "a" { "b" } else { "a" });
        assert_eq!(is_whole(&swapped), Some(false));
        assert_eq!(is_whole("some-other-kind-of-key"), None);
    }

    #[test]
    fn keys_differ() {
        let keys: std::collections::HashSet<String> = (0..100).map(|_| generate().unwrap()).collect();
        assert_eq!(keys.len(), 100);
    }

    #[test]
    fn bytes_that_would_make_a_letter_likelier_are_passed_over() {
        let mut calls = 0;
        let key = generate_from(&mut |bytes| {
            calls += 1;
            bytes.fill(if calls == 1 { 255 } else { 61 });
            Ok(20)
        });
        assert_eq!(&key.unwrap()[4..34], "z".repeat(30));
        assert_eq!(calls, 3);
    }

    #[test]
    fn the_digest_is_that_of_the_bytes() {
        assert_eq!(digest(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
