//! Hashes of passwords: argon2id as a PHC string, within bounds on what one costs to check. Knows nobody whose they are.

use std::fmt;

use argon2::password_hash::phc::{self, Output};
use argon2::password_hash::{CustomizedPasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};

/// Most memory that one check may take, in KiB: 256 MiB.
const MEMORY: u32 = 256 * 1024;
/// Most passes over it.
const PASSES: u32 = 10;
/// Most lanes.
const LANES: u32 = 16;
/// Fewest bytes of a salt.
const SALT: usize = 8;
/// Fewest bytes of the hash itself.
const OUTPUT: usize = 16;
/// Most bytes of a PHC string.
const LONGEST: usize = 512;
/// What may stand in a PHC string of argon2id, for whoever wrote another.
const ALLOWED: &str =
    "argon2id with `v=19`, at most 256 MiB (`m=262144`), 10 passes and 16 lanes, a salt of 8 bytes and a hash of 16";

/// The hash of a password: argon2id of version 0x13, as a PHC string. `Debug` does not print it.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(phc::PasswordHash);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl PasswordHash {
    /// Reads a PHC string (`$argon2id$v=19$m=19456,t=2,p=1$…$…`).
    ///
    /// # Errors
    /// What may stand there, when it is another hash, malformed, or would take too much memory or time to check.
    pub fn parse(text: &str) -> Result<PasswordHash, &'static str> {
        if text.len() > LONGEST {
            return Err(ALLOWED);
        }
        let hash = phc::PasswordHash::new(text).map_err(|_| ALLOWED)?;
        let params = Params::try_from(&hash).map_err(|_| ALLOWED)?;
        let fits = hash.algorithm == Algorithm::Argon2id.ident()
            && hash.version == Some(Version::V0x13.into())
            && params.m_cost() <= MEMORY
            && params.t_cost() <= PASSES
            && params.p_cost() <= LANES
            && params.keyid().is_empty()
            && params.data().is_empty()
            && hash.salt.as_ref().is_some_and(|salt| salt.len() >= SALT)
            && hash.hash.as_ref().is_some_and(|hash| hash.len() >= OUTPUT);
        if fits { Ok(PasswordHash(hash)) } else { Err(ALLOWED) }
    }

    /// Hashes a password with the parameters that are right for most (19 MiB, two passes, one lane); the salt must be random. Takes some
    /// 20 ms. `None` only when there is no memory.
    #[must_use]
    pub fn make(password: &[u8], salt: &[u8; 16]) -> Option<PasswordHash> {
        Self::with(password, salt, Params::DEFAULT)
    }

    fn with(password: &[u8], salt: &[u8], params: Params) -> Option<PasswordHash> {
        let made = Argon2::default().hash_password_customized(password, salt, None, None, params);
        made.ok().map(PasswordHash)
    }

    /// Whether this is the password. Takes as long for a wrong one as for the right one; compares in constant time.
    #[must_use]
    pub fn is_of(&self, password: &[u8]) -> bool {
        Argon2::default().verify_password(password, &self.0).is_ok()
    }

    /// One that no password has, so that one can be checked for nobody with the same work. `random` is compared with the hash that comes
    /// out, and must be so.
    #[must_use]
    pub fn decoy(&self, random: &[u8; 32]) -> PasswordHash {
        let mut hash = self.0.clone();
        hash.hash = Output::new(random).ok();
        PasswordHash(hash)
    }

    /// What it costs to check: memory in KiB, passes, lanes.
    #[must_use]
    pub fn cost(&self) -> (u32, u32, u32) {
        Params::try_from(&self.0).map_or((0, 0, 0), |params| (params.m_cost(), params.t_cost(), params.p_cost()))
    }

    /// As it is written.
    #[must_use]
    pub fn text(&self) -> String {
        self.0.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `correct horse`, cheap to check.
    fn cheap() -> PasswordHash {
        PasswordHash::with(b"correct horse", &[7; 16], Params::new(64, 1, 1, None).unwrap()).unwrap()
    }

    #[test]
    fn a_hash_is_read_again_and_is_of_its_password_alone() {
        let hash = PasswordHash::parse(&cheap().text()).unwrap();
        assert_eq!(hash, cheap());
        assert!(hash.is_of(b"correct horse") && !hash.is_of(b"correct horsf") && !hash.is_of(b""));
        assert_eq!(hash.cost(), (64, 1, 1));
        assert_eq!(format!("{hash:?}"), "…");
    }

    #[test]
    fn the_hash_of_another_program_is_understood() {
        // by the reference implementation: `argon2 somesalt -id -t 2 -k 65536 -p 1`, of `password`
        let text = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert!(PasswordHash::parse(text).unwrap().is_of(b"password"));
    }

    #[test]
    fn a_decoy_costs_the_same_and_is_of_no_password() {
        let decoy = cheap().decoy(&[1; 32]);
        assert_eq!(decoy.cost(), cheap().cost());
        assert!(!decoy.is_of(b"correct horse"));
        assert!(PasswordHash::parse(&decoy.text()).is_ok());
    }

    #[test]
    fn what_is_another_hash_or_too_dear_to_check_is_refused() {
        let good = cheap().text();
        assert!(PasswordHash::parse(&good.replace("m=64", "m=262144")).is_ok());
        for (from, to) in [
            ("argon2id", "argon2i"),
            ("argon2id", "argon2d"),
            ("argon2id", "scrypt"),
            ("v=19", "v=16"),
            ("$v=19", ""),
            ("m=64", "m=262145"),
            ("m=64", "m=4294967296"),
            ("m=64", "m=1"),
            ("t=1", "t=11"),
            ("t=1", "t=0"),
            ("p=1", "p=17"),
            ("p=1", "p=0"),
            (",p=1", ",p=1,keyid=Zm9v"),
            (",p=1", ",p=1,x=1"),
            ("$BwcHBwcHBwcHBwcHBwcHBw", "$BwcHBwc"),
            ("$argon2id", "argon2id"),
        ] {
            assert_ne!(good.replace(from, to), good, "{from}");
            assert_eq!(PasswordHash::parse(&good.replace(from, to)), Err(ALLOWED), "{from} {to}");
        }
        let (head, _) = good.rsplit_once('$').unwrap();
        for text in [
            head.to_owned(),
            format!("{head}$"),
            format!("{head}$AAAA"),
            String::new(),
            format!("{good}{}", "A".repeat(500)),
        ] {
            assert_eq!(PasswordHash::parse(&text), Err(ALLOWED), "{text}");
        }
    }
}
