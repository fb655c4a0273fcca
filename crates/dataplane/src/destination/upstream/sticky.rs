//! The cookie that tells a client's target: an opaque keyed digest, never an address. Knows nothing of how a target is picked.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use daemun_config::model;
use daemun_pipeline::{Carry, Exchange};

/// Hexadecimal digits of a digest: 128 bits.
const DIGITS: usize = 32;

/// The cookie of an upstream.
pub(crate) struct Sticky {
    pub(crate) cookie: String,
    /// What stands behind its value.
    attributes: String,
    key: hmac::Key,
    /// Held so that it is found again.
    _own: Arc<OwnKey>,
}

/// Key of a process's own, the same over reloads.
struct OwnKey([u8; 32]);

impl Sticky {
    /// `None` when the system gives no random numbers for a key of its own.
    pub(crate) fn new(config: &model::Sticky, carry: &Carry) -> Option<Sticky> {
        let own = carry.get_or("key of sticky cookies", "", || {
            let mut key = [0; 32];
            let made = aws_lc_rs::rand::fill(&mut key).is_ok();
            OwnKey(if made { key } else { [0; 32] })
        });
        if config.secret.is_none() && own.0 == [0; 32] {
            return None;
        }
        let key = config.secret.as_ref().map_or(&own.0[..], |secret| secret.as_bytes());
        let age = config.ttl.map_or_else(String::new, |ttl: Duration| format!("; Max-Age={}", ttl.as_secs().max(1)));
        Some(Sticky {
            cookie: config.cookie.clone(),
            attributes: format!("; Path=/; HttpOnly; SameSite=Lax{age}"),
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
            _own: own,
        })
    }

    /// What the cookie holds for a target of an upstream.
    pub(crate) fn digest(&self, upstream: &str, target: &str) -> String {
        let tag = hmac::sign(&self.key, format!("{upstream}\0{target}").as_bytes());
        tag.as_ref()
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .take(DIGITS)
            .filter_map(|digit| char::from_digit(digit.into(), 16))
            .collect()
    }

    /// Puts the cookie into an answer.
    pub(crate) fn mark(&self, digest: &str, exchange: &mut Exchange) {
        let secure = if exchange.client.tls { "; Secure" } else { "" };
        let value = [self.cookie.as_str(), "=", digest, &self.attributes, secure].concat();
        exchange.response.head.append("set-cookie", value.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sticky(secret: Option<&str>, ttl: Option<u64>, carry: &Carry) -> Sticky {
        let config =
            model::Sticky { cookie: "to".into(), ttl: ttl.map(Duration::from_secs), secret: secret.map(str::to_owned) };
        Sticky::new(&config, carry).unwrap()
    }

    #[test]
    fn a_digest_tells_nothing_of_the_target_and_depends_on_secret_upstream_and_target() {
        let carry = Carry::default();
        let (one, other) =
            (sticky(Some("0123456789abcdef"), None, &carry), sticky(Some("fedcba9876543210"), None, &carry));
        let digest = one.digest("u", "10.0.0.1:80");
        assert!(digest.len() == DIGITS && digest.bytes().all(|b| b.is_ascii_hexdigit()) && !digest.contains("10.0"));
        assert_eq!(digest, one.digest("u", "10.0.0.1:80"));
        for differs in
            [one.digest("v", "10.0.0.1:80"), one.digest("u", "10.0.0.2:80"), other.digest("u", "10.0.0.1:80")]
        {
            assert_ne!(digest, differs);
        }
        let own = sticky(None, None, &carry);
        assert_ne!(digest, own.digest("u", "10.0.0.1:80"));
    }

    #[test]
    fn the_cookie_is_out_of_reach_of_scripts_and_secure_over_tls() {
        let carry = Carry::default();
        let mut exchange = Exchange::default();
        sticky(Some("0123456789abcdef"), Some(60), &carry).mark("abc", &mut exchange);
        exchange.client.tls = true;
        sticky(Some("0123456789abcdef"), None, &carry).mark("abc", &mut exchange);
        let values: Vec<&[u8]> = exchange.response.head.values("set-cookie").collect();
        assert_eq!(values[0], b"to=abc; Path=/; HttpOnly; SameSite=Lax; Max-Age=60");
        assert_eq!(values[1], b"to=abc; Path=/; HttpOnly; SameSite=Lax; Secure");
    }
}
