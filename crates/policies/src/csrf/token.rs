//! Tokens: a seed and a time, signed together with whom they are of. Knows no request.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac::{Context, HMAC_SHA256, Key};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};

/// Bytes of what tells one token from another.
const SEED: usize = 16;
/// Bytes of a time.
const TIME: usize = 8;
/// Bytes of a signature.
const SIGNATURE: usize = 32;
/// Bytes of a token.
const BYTES: usize = SEED + TIME + SIGNATURE;
/// Characters of a token: two for a byte.
pub(super) const LENGTH: usize = 2 * BYTES;

/// Tokens signed for other ends with the same secret are none of these.
const PURPOSE: &[u8] = b"daemun csrf token 1";

/// A token whose signature was good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    seed: [u8; SEED],
    /// Seconds since the Unix epoch.
    issued: u64,
}

/// Whom a token is of: each part is told from the next.
pub(super) struct Owner<'a> {
    /// Whether the caller is a consumer of the configuration.
    pub(super) configured: bool,
    /// Name of the caller; empty for nobody.
    pub(super) caller: &'a [u8],
    /// Value of the session's cookie; `None` for no session.
    pub(super) session: Option<&'a [u8]>,
}

/// What signs tokens, and what has signed those that are still about.
pub(super) struct Keys(Box<[Key]>);

impl Keys {
    pub(super) fn new<'a>(secrets: impl Iterator<Item = &'a [u8]>) -> Keys {
        Keys(secrets.map(|secret| Key::new(HMAC_SHA256, secret)).collect())
    }

    /// A new token; `None` when the system has no random numbers.
    pub(super) fn mint(&self, now: u64) -> Option<Token> {
        let mut seed = [0; SEED];
        SystemRandom::new().fill(&mut seed).ok()?;
        Some(Token { seed, issued: now })
    }

    /// A token as it is sent.
    pub(super) fn text(&self, token: &Token, owner: &Owner<'_>) -> Option<String> {
        let signature = sign(self.0.first()?, token, owner);
        let mut text = String::with_capacity(LENGTH);
        for byte in token.seed.iter().chain(&token.issued.to_be_bytes()).chain(signature.as_ref()) {
            for digit in [byte >> 4, byte & 15] {
                text.extend(char::from_digit(digit.into(), 16));
            }
        }
        Some(text)
    }

    /// Reads a token; `None` when it is none, or not this owner's, or was issued longer than `lasts` seconds ago, or later than now.
    pub(super) fn read(&self, text: &[u8], owner: &Owner<'_>, now: u64, lasts: u64) -> Option<Token> {
        let mut bytes = [0; BYTES];
        if text.len() != LENGTH {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            let [high, low] = pair else { return None };
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        let (seed, rest) = bytes.split_first_chunk::<SEED>()?;
        let (time, signature) = rest.split_first_chunk::<TIME>()?;
        let token = Token { seed: *seed, issued: u64::from_be_bytes(*time) };
        let is_signed = |key: &Key| verify_slices_are_equal(sign(key, &token, owner).as_ref(), signature).is_ok();
        // of several gateways one clock may be a little ahead
        let in_time = token.issued <= now.saturating_add(60) && now.saturating_sub(token.issued) < lasts;
        (self.0.iter().any(is_signed) && in_time).then_some(token)
    }
}

impl Token {
    /// Whether it is the same token, though one of the two may be renewed.
    pub(super) fn is_same(&self, other: &Token) -> bool {
        verify_slices_are_equal(&self.seed, &other.seed).is_ok()
    }

    /// Whether half of its time is over.
    pub(super) fn is_old(&self, now: u64, lasts: u64) -> bool {
        now.saturating_sub(self.issued) >= lasts / 2
    }

    /// The same with all of its time before it.
    pub(super) fn renewed(self, now: u64) -> Token {
        Token { issued: now, ..self }
    }
}

fn sign(key: &Key, token: &Token, owner: &Owner<'_>) -> aws_lc_rs::hmac::Tag {
    let mut context = Context::with_key(key);
    context.update(PURPOSE);
    context.update(&token.seed);
    context.update(&token.issued.to_be_bytes());
    context.update(&[u8::from(owner.configured)]);
    // no session is not an empty one
    context.update(&[u8::from(owner.session.is_some())]);
    for part in [owner.caller, owner.session.unwrap_or_default()] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    context.sign()
}

/// A lower-case hexadecimal digit: a token has one spelling.
fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;

    fn owner<'a>(caller: &'a str, session: &'a str) -> Owner<'a> {
        Owner { configured: false, caller: caller.as_bytes(), session: Some(session.as_bytes()) }
    }

    fn keys(secrets: &[&str]) -> Keys {
        Keys::new(secrets.iter().map(|secret| secret.as_bytes()))
    }

    #[test]
    fn a_token_is_good_for_its_owner_in_its_time_and_in_one_spelling() {
        let keys = keys(&["a secret of the gateway, 32 bytes"]);
        let token = keys.mint(1_000).unwrap();
        let text = keys.text(&token, &owner("alice", "s1")).unwrap();
        let read = |text: &str, owner: Owner<'_>, now: u64| keys.read(text.as_bytes(), &owner, now, HOUR);
        assert_eq!(read(&text, owner("alice", "s1"), 1_000), Some(token));
        assert_eq!(read(&text, owner("alice", "s1"), 1_000 + HOUR - 1), Some(token));
        assert_eq!(read(&text, owner("alice", "s1"), 940), Some(token));
        for (owner, now) in [
            (owner("alice", "s1"), 1_000 + HOUR),
            (owner("alice", "s1"), 939),
            (owner("alice", "s2"), 1_000),
            (owner("bob", "s1"), 1_000),
            // the parts of an owner do not run into each other
            (owner("alices", "1"), 1_000),
            (owner("", "alices1"), 1_000),
            (Owner { configured: true, ..owner("alice", "s1") }, 1_000),
            (Owner { session: None, ..owner("alice", "s1") }, 1_000),
        ] {
            assert_eq!(read(&text, owner, now), None);
        }
        for text in
            [text.to_uppercase(), format!("{text}0"), text[1..].to_owned(), String::new(), "é".repeat(LENGTH / 2)]
        {
            assert_eq!(read(&text, owner("alice", "s1"), 1_000), None, "{text}");
        }
    }

    #[test]
    fn no_changed_token_is_good() {
        let keys = keys(&["a secret of the gateway, 32 bytes"]);
        let text = keys.text(&keys.mint(5).unwrap(), &owner("", "")).unwrap();
        for at in 0..LENGTH {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(keys.read(&changed, &owner("", ""), 5, HOUR), None, "{at}");
        }
    }

    #[test]
    fn a_token_of_an_older_secret_is_believed_and_signed_anew() {
        let old = keys(&["the older secret, which has 32 bytes"]);
        let both = keys(&["the newer secret, which has 32 bytes", "the older secret, which has 32 bytes"]);
        let token = old.mint(5).unwrap();
        let text = old.text(&token, &owner("", "")).unwrap();
        assert_eq!(both.read(text.as_bytes(), &owner("", ""), 5, HOUR), Some(token));
        let renewed = both.text(&token.renewed(6), &owner("", "")).unwrap();
        assert_eq!(old.read(renewed.as_bytes(), &owner("", ""), 6, HOUR), None);
        assert!(both.read(renewed.as_bytes(), &owner("", ""), 6, HOUR).unwrap().is_same(&token));
        assert!(!both.mint(5).unwrap().is_same(&token));
    }

    #[test]
    fn half_of_its_time_makes_a_token_old() {
        let token = keys(&["a secret of the gateway, 32 bytes"]).mint(100).unwrap();
        assert!(!token.is_old(100 + HOUR / 2 - 1, HOUR) && token.is_old(100 + HOUR / 2, HOUR));
        assert!(!token.renewed(200 + HOUR).is_old(200 + HOUR, HOUR));
    }
}
