//! Keys that signatures are verified with: read out of JWK, JWK Sets (RFC 7517), PEM and secrets, and kept ready. What a key may be used for
//! is the key's to say and never the token's. Knows no token's claims and no network.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ED25519, ParsedPublicKey, RsaPublicKeyComponents};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{PemObject as _, SectionKind};
use serde_json::{Map, Value};
use webpki::EndEntityCert;

use super::algorithm::{Algorithm, Family};
use super::der;
use super::jws::{Header, Jws, decoded};
use daemun_pipeline::strict_json::read_object;

/// Keys that one set may have.
const MOST_KEYS: usize = 128;
/// Keys that are tried on a token that names none.
pub(super) const MOST_TRIED: usize = 4;
/// Keys that are tried on a signature that names none and is no token's.
#[cfg(feature = "saml")]
pub(crate) const MOST_SIGNERS: usize = 8;
/// Bits of an RSA key.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// Shortest secret, in bytes: that of HS256.
pub(super) const SHORTEST_SECRET: usize = 32;

/// Tells keys from one another as long as the process runs.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// Why a key, or a set of them, cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable(pub String);

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn unusable<T>(why: impl Into<String>) -> Result<T, Unusable> {
    Err(Unusable(why.into()))
}

/// One key, ready to verify with. `Debug` shows nothing of it.
pub struct Key {
    kid: Option<String>,
    verifiers: Vec<(Algorithm, Verifier)>,
    is_secret: bool,
    /// Over everything that matters, to know the key again.
    print: [u8; 32],
    serial: u64,
    /// The header of the first token that was genuine by it, as written and as read: most issuers write one only.
    header: OnceLock<(Box<[u8]>, Arc<Header>)>,
}

enum Verifier {
    Secret(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("serial", &self.serial).finish_non_exhaustive()
    }
}

impl Key {
    fn new(kid: Option<String>, verifiers: Vec<(Algorithm, Verifier)>, material: &[&[u8]]) -> Result<Key, Unusable> {
        if verifiers.is_empty() {
            return unusable("none of its algorithms is allowed");
        }
        let mut all = Vec::new();
        for (algorithm, _) in &verifiers {
            all.extend_from_slice(algorithm.name().as_bytes());
        }
        for part in [kid.as_deref().unwrap_or_default().as_bytes()].iter().chain(material) {
            all.extend_from_slice(&(part.len() as u64).to_le_bytes());
            all.extend_from_slice(part);
        }
        let print = digest(&SHA256, &all).as_ref().try_into().unwrap_or_default();
        let is_secret = verifiers.iter().any(|(_, verifier)| matches!(verifier, Verifier::Secret(_)));
        let serial = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(Key { kid, verifiers, is_secret, print, serial, header: OnceLock::new() })
    }

    /// A shared secret. The algorithms are those of `allowed` that it is long enough for.
    pub(super) fn of_secret(kid: Option<String>, secret: &[u8], allowed: &[Algorithm]) -> Result<Key, Unusable> {
        if secret.len() < SHORTEST_SECRET {
            return unusable(format!("a secret has {SHORTEST_SECRET} bytes at least"));
        }
        let mut verifiers = Vec::new();
        for &algorithm in allowed {
            if let Family::Hmac(hash, shortest) = algorithm.family()
                && secret.len() >= shortest
            {
                verifiers.push((algorithm, Verifier::Secret(Box::new(hmac::Key::new(hash, secret)))));
            }
        }
        Key::new(kid, verifiers, &[secret])
    }

    /// A public key as a certificate or a PEM file holds it.
    fn of_spki(der: &[u8], allowed: &[Algorithm]) -> Result<Key, Unusable> {
        if let Some((n, e)) = der::rsa_numbers(der) {
            return Key::of_rsa(None, n, e, allowed);
        }
        for algorithm in Algorithm::ALL {
            let parsed = match algorithm.family() {
                Family::Hmac(..) | Family::Rsa(_) => continue,
                Family::Ec(curve, _, _) => ParsedPublicKey::new(curve, der),
                Family::Ed25519 => ParsedPublicKey::new(&ED25519, der),
            };
            if let Ok(key) = parsed {
                let verifiers = allowed.contains(&algorithm).then_some((algorithm, Verifier::Public(key)));
                return Key::new(None, verifiers.into_iter().collect(), &[der]);
            }
        }
        unusable("it is no key of RSA, P-256, P-384, P-521 or Ed25519")
    }

    /// A JWK (RFC 7517, section 4).
    fn of_jwk(jwk: &Map<String, Value>, allowed: &[Algorithm]) -> Result<Key, Unusable> {
        let text = |name: &str| match jwk.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => unusable(format!("`{name}` is no text")),
        };
        let bytes = |name: &str| match text(name)?.map(|text| decoded(text.as_bytes())) {
            Some(Ok(bytes)) => Ok(bytes),
            Some(Err(_)) => unusable(format!("`{name}` is not base64url")),
            None => unusable(format!("`{name}` is missing")),
        };
        if text("use")?.is_some_and(|of| of != "sig") {
            return unusable("its `use` is not `sig`");
        }
        if let Some(operations) = jwk.get("key_ops")
            && !operations.as_array().is_some_and(|all| all.iter().any(|one| one == "verify"))
        {
            return unusable("its `key_ops` do not have `verify`");
        }
        let own = match text("alg")?.map(|name| (name, Algorithm::of(name))) {
            Some((name, None)) => return unusable(format!("its `alg`, `{}`, is not verified here", clip(name))),
            Some((_, algorithm)) => algorithm,
            None => None,
        };
        let fits = |algorithm: &&Algorithm| own.is_none_or(|own| own == **algorithm);
        let allowed: Vec<Algorithm> = allowed.iter().filter(fits).copied().collect();
        let kid = text("kid")?.map(str::to_owned);
        let kty = text("kty")?.unwrap_or_default();
        if kty == "oct" {
            return Key::of_secret(kid, &bytes("k")?, &allowed);
        }
        if ["d", "p", "q", "dp", "dq", "qi", "oth"].iter().any(|member| jwk.contains_key(*member)) {
            return unusable("it is a private key; only the public one is needed");
        }
        match kty {
            "RSA" => Key::of_rsa(kid, &bytes("n")?, &bytes("e")?, &allowed),
            "EC" => {
                let (x, y) = (bytes("x")?, bytes("y")?);
                Key::of_point(kid, text("crv")?.unwrap_or_default(), &x, &y, &allowed)
            }
            "OKP" if text("crv")? == Some("Ed25519") => Key::of_ed25519(kid, &bytes("x")?, &allowed),
            "OKP" => unusable("its curve is not `Ed25519`"),
            _ => unusable(format!("its `kty` is `{}`, not `RSA`, `EC`, `OKP` or `oct`", clip(kty))),
        }
    }

    fn of_rsa(kid: Option<String>, n: &[u8], e: &[u8], allowed: &[Algorithm]) -> Result<Key, Unusable> {
        let bits = n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
        // a leading zero is another spelling of the number (RFC 7518, section 6.3.1.1)
        if n.first() == Some(&0) || e.first() == Some(&0) || !RSA_BITS.contains(&bits) {
            return unusable(format!("an RSA key has 2048 to 8192 bits, and this one {bits}"));
        }
        if e.last().is_none_or(|last| last % 2 == 0) || e == [1] || e.len() > 5 {
            return unusable("its exponent is none that RSA can be used with");
        }
        if has_roca(n) {
            return unusable("it is of the weak kind that some chips made (CVE-2017-15361)");
        }
        let mut verifiers = Vec::new();
        for &algorithm in allowed {
            let Family::Rsa(parameters) = algorithm.family() else { continue };
            let key = RsaPublicKeyComponents { n, e }.to_parsed_public_key(parameters);
            let Ok(key) = key else { return unusable("it is no RSA key") };
            verifiers.push((algorithm, Verifier::Public(key)));
        }
        Key::new(kid, verifiers, &[n, e])
    }

    fn of_point(kid: Option<String>, crv: &str, x: &[u8], y: &[u8], allowed: &[Algorithm]) -> Result<Key, Unusable> {
        for algorithm in Algorithm::ALL {
            let Family::Ec(curve, name, size) = algorithm.family() else { continue };
            if name != crv {
                continue;
            }
            let point = [&[4], x, y].concat();
            let key = ParsedPublicKey::new(curve, &point);
            let (Ok(key), true) = (key, x.len() == size && y.len() == size) else {
                return unusable(format!("it is no point of {name}"));
            };
            let verifiers = allowed.contains(&algorithm).then_some((algorithm, Verifier::Public(key)));
            return Key::new(kid, verifiers.into_iter().collect(), &[&point]);
        }
        unusable("its curve is not `P-256`, `P-384` or `P-521`")
    }

    fn of_ed25519(kid: Option<String>, x: &[u8], allowed: &[Algorithm]) -> Result<Key, Unusable> {
        // anything longer could be read as another form of key
        let key = ParsedPublicKey::new(&ED25519, x);
        let (Ok(key), 32) = (key, x.len()) else { return unusable("it is no key of Ed25519") };
        let verifiers = allowed.contains(&Algorithm::EdDsa).then_some((Algorithm::EdDsa, Verifier::Public(key)));
        Key::new(kid, verifiers.into_iter().collect(), &[x])
    }

    /// Which one it is, as long as the process runs; a key that is fetched again stays the same.
    pub(crate) fn serial(&self) -> u64 {
        self.serial
    }

    /// Remembers the header of a token that is genuine by it, if it is the first.
    pub(super) fn remember_header(&self, token: &Jws<'_>) {
        self.header.get_or_init(|| (token.written_header.into(), Arc::clone(&token.header)));
    }

    fn verifier(&self, algorithm: Algorithm) -> Option<&Verifier> {
        self.verifiers.iter().find(|(of, _)| *of == algorithm).map(|(_, verifier)| verifier)
    }
}

impl Verifier {
    fn verifies(&self, token: &Jws<'_>) -> bool {
        self.verifies_bytes(token.signed, &token.signature)
    }

    fn verifies_bytes(&self, signed: &[u8], signature: &[u8]) -> bool {
        match self {
            // in constant time, and of the whole tag only
            Verifier::Secret(key) => hmac::verify(key, signed, signature).is_ok(),
            Verifier::Public(key) => key.verify_sig(signed, signature).is_ok(),
        }
    }
}

/// Refuses the first of names that stand twice.
fn check_names<'n>(mut twice: impl Iterator<Item = &'n str>) -> Result<(), Unusable> {
    match twice.next() {
        Some(kid) => unusable(format!("two of its keys have the `kid` `{}`", clip(kid))),
        None => Ok(()),
    }
}

/// Whether a modulus has the fingerprint of CVE-2017-15361: it is a power of 65537 by each of these primes, as one of four billions of
/// others is.
fn has_roca(n: &[u8]) -> bool {
    const PRIMES: [u32; 17] = [11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157];
    PRIMES.iter().all(|prime| {
        let rest = n.iter().fold(0, |rest, byte| (rest << 8 | u32::from(*byte)) % prime);
        let mut power = 1;
        (0..*prime).any(|_| {
            power = power * 65_537 % prime;
            power == rest
        })
    })
}

/// Part of a name that others chose, for a message.
fn clip(name: &str) -> String {
    name.chars().take(32).flat_map(char::escape_debug).collect()
}

/// Why no key says that a token is genuine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unverified {
    /// The key it names is not among those known, or it names none and none of those known verifies it.
    UnknownKey,
    /// The key it names may not be used with its algorithm.
    Algorithm,
    /// Its signature is not that of the key.
    Signature,
}

impl Unverified {
    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Unverified::UnknownKey => "it is signed with a key that is not known",
            Unverified::Algorithm => "its `alg` is none that its key may be used with",
            Unverified::Signature => "its signature is not genuine",
        }
    }
}

/// The keys of one issuer. Never empty.
#[derive(Debug)]
pub struct KeySet {
    keys: Vec<Arc<Key>>,
}

/// A set that was read, and what was left out of it.
#[derive(Debug)]
pub struct ReadSet {
    /// The set.
    pub set: KeySet,
    /// Why a key of it is not used, once for each.
    pub left_out: Vec<String>,
}

impl KeySet {
    pub(super) fn of(key: Key) -> KeySet {
        KeySet { keys: vec![Arc::new(key)] }
    }

    /// Reads a JWK or a JWK Set. Keys that cannot be used are left out (RFC 7517, section 5); a shared secret is one of them where the
    /// set is `public`.
    ///
    /// # Errors
    /// When it is neither, none of its keys can be used, or two have one name, or a shared secret is beside a public key.
    pub fn of_json(text: &[u8], allowed: &[Algorithm], public: bool) -> Result<ReadSet, Unusable> {
        let Some(object) = read_object(text) else {
            return unusable("it is no JSON object that can be read in one way");
        };
        let mut left_out = Vec::new();
        let mut keys: Vec<Arc<Key>> = Vec::new();
        let mut names: Vec<(String, Option<String>, Option<String>)> = Vec::new();
        let mut take = |jwk: &Map<String, Value>| {
            let member = |name: &str| jwk.get(name).and_then(Value::as_str).map(str::to_owned);
            names.extend(member("kid").map(|kid| (kid, member("kty"), member("use"))));
            match Key::of_jwk(jwk, allowed) {
                _ if public && jwk.get("kty").is_some_and(|kty| kty == "oct") => {
                    left_out.push("a shared secret is not to be published".to_owned());
                }
                Ok(key) => keys.push(Arc::new(key)),
                Err(Unusable(why)) => left_out.push(why),
            }
        };
        match object.get("keys") {
            Some(Value::Array(list)) if list.len() > MOST_KEYS => {
                return unusable(format!("it has more than {MOST_KEYS} keys"));
            }
            Some(Value::Array(list)) => {
                for jwk in list {
                    let Some(jwk) = jwk.as_object() else { return unusable("one of its `keys` is no object") };
                    take(jwk);
                }
            }
            Some(_) => return unusable("its `keys` are no list"),
            None => take(&object),
        }
        if keys.is_empty() {
            return unusable(match left_out.first() {
                Some(why) => format!("no key of it can be used: {why}"),
                None => "it has no keys".to_owned(),
            });
        }
        names.sort_unstable();
        check_names(
            names
                .windows(2)
                .filter(|pair| pair.first() == pair.last())
                .filter_map(|pair| pair.first())
                .map(|(kid, ..)| &**kid),
        )?;
        let set = KeySet { keys };
        set.check()?;
        Ok(ReadSet { set, left_out })
    }

    /// Reads the public keys and certificates of a PEM file.
    ///
    /// # Errors
    /// When there is none, or one that cannot be used.
    pub fn of_pem(text: &[u8], allowed: &[Algorithm]) -> Result<KeySet, Unusable> {
        let mut keys = Vec::new();
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
            let Ok((kind, der)) = section else { return unusable("it is not PEM") };
            let key = if kind == SectionKind::PublicKey {
                Key::of_spki(&der, allowed)?
            } else if kind == SectionKind::Certificate {
                let der = CertificateDer::from(der);
                let Ok(certificate) = EndEntityCert::try_from(&der) else {
                    return unusable("a certificate of it cannot be read");
                };
                Key::of_spki(&certificate.subject_public_key_info(), allowed)?
            } else if [SectionKind::PrivateKey, SectionKind::RsaPrivateKey, SectionKind::EcPrivateKey].contains(&kind) {
                return unusable("it is a private key; only the public one is needed");
            } else {
                continue;
            };
            keys.push(Arc::new(key));
            if keys.len() > MOST_KEYS {
                return unusable(format!("it has more than {MOST_KEYS} keys"));
            }
        }
        if keys.is_empty() { unusable("it has no `PUBLIC KEY` and no `CERTIFICATE`") } else { Ok(KeySet { keys }) }
    }

    /// A name stands for one key, and who publishes a key beside a secret has published the secret.
    fn check(&self) -> Result<(), Unusable> {
        let mut names: Vec<&str> = self.keys.iter().filter_map(|key| key.kid.as_deref()).collect();
        names.sort_unstable();
        check_names(
            names.windows(2).filter(|pair| pair.first() == pair.last()).filter_map(|pair| pair.first().copied()),
        )?;
        if self.keys.iter().any(|key| key.is_secret) && self.keys.iter().any(|key| !key.is_secret) {
            return unusable("it has a shared secret beside a public key");
        }
        Ok(())
    }

    /// How many keys without a name no token will be verified with, because others of their algorithms come before them.
    pub(super) fn never_tried(&self) -> usize {
        let nameless: Vec<&Key> = self.keys.iter().map(|key| &**key).filter(|key| key.kid.is_none()).collect();
        let before = |place: usize, algorithm: Algorithm| {
            nameless.iter().take(place).filter(|key| key.verifier(algorithm).is_some()).count()
        };
        let is_tried = |place: usize, key: &Key| key.verifiers.iter().any(|(of, _)| before(place, *of) < MOST_TRIED);
        nameless.iter().enumerate().filter(|(place, key)| !is_tried(*place, key)).count()
    }

    /// Keeps of an earlier set what is in this one as well, so that what was verified with it stays so.
    pub(super) fn renew(&mut self, earlier: &KeySet) {
        for key in &mut self.keys {
            if let Some(same) = earlier.keys.iter().find(|known| known.print == key.print) {
                *key = Arc::clone(same);
            }
        }
    }

    /// Whether a key is still in it.
    #[inline]
    pub(super) fn holds(&self, serial: u64) -> bool {
        self.keys.iter().any(|key| key.serial == serial)
    }

    /// What a header says that one of them remembers.
    pub(super) fn header(&self, written: &[u8]) -> Option<Arc<Header>> {
        let mut known = self.keys.iter().filter_map(|key| key.header.get());
        known.find(|(text, _)| **text == *written).map(|(_, header)| Arc::clone(header))
    }

    /// How many there are.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// The key that a token is genuine by. A token that names a key is verified with that one alone; where no key has its name, with those
    /// that have none.
    ///
    /// # Errors
    /// When there is none.
    pub fn verify(&self, token: &Jws<'_>) -> Result<&Key, Unverified> {
        let kid = token.header.kid.as_deref();
        if let Some(named) = kid.and_then(|kid| self.keys.iter().find(|key| key.kid.as_deref() == Some(kid))) {
            let verifier = named.verifier(token.header.algorithm).ok_or(Unverified::Algorithm)?;
            return if verifier.verifies(token) { Ok(named) } else { Err(Unverified::Signature) };
        }
        let possible = self.keys.iter().filter(|key| kid.is_none() || key.kid.is_none());
        let possible = possible.filter_map(|key| Some((key, key.verifier(token.header.algorithm)?)));
        let found = possible.take(MOST_TRIED).find(|(_, verifier)| verifier.verifies(token));
        found.map(|(key, _)| &**key).ok_or(Unverified::UnknownKey)
    }

    /// The key that bytes are signed with, of whichever there is; for signatures that name none.
    #[cfg(feature = "saml")]
    pub(crate) fn verify_bytes(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> Option<&Key> {
        let possible = self.keys.iter().filter_map(|key| Some((key, key.verifier(algorithm)?)));
        let mut possible = possible.take(MOST_SIGNERS);
        possible.find(|(_, verifier)| verifier.verifies_bytes(signed, signature)).map(|(key, _)| &**key)
    }
}
