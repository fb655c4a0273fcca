//! Key pairs that tokens are signed with: made, read back, used, and told of in public (RFC 7517). Knows not when they are used.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
};
use daemun_config::model::SigningAlgorithm;
use data_encoding::BASE64URL_NOPAD;

use crate::jwt::der;

/// A key pair. `Debug` shows nothing of it.
pub(in crate::tokens) enum Pair {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
    Rs256(Box<RsaKeyPair>),
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.algorithm().as_str())
    }
}

impl Pair {
    /// Makes one from the system's random numbers; also gives it as PKCS #8. RSA takes some 100 ms.
    pub(in crate::tokens) fn generate(algorithm: SigningAlgorithm) -> Option<(Pair, Vec<u8>)> {
        match algorithm {
            SigningAlgorithm::Es256 => {
                let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).ok()?;
                let kept = pair.to_pkcs8v1().ok()?.as_ref().to_vec();
                Some((Pair::Es256(pair), kept))
            }
            SigningAlgorithm::EdDsa => {
                let pair = Ed25519KeyPair::generate().ok()?;
                let kept = pair.to_pkcs8().ok()?.as_ref().to_vec();
                Some((Pair::EdDsa(pair), kept))
            }
            SigningAlgorithm::Rs256 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).ok()?;
                let kept = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).ok()?.as_ref().to_vec();
                Some((Pair::Rs256(Box::new(pair)), kept))
            }
        }
    }

    /// Reads what [`Pair::generate`] gave.
    pub(in crate::tokens) fn read(algorithm: SigningAlgorithm, kept: &[u8]) -> Option<Pair> {
        match algorithm {
            SigningAlgorithm::Es256 => {
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, kept).ok().map(Pair::Es256)
            }
            SigningAlgorithm::EdDsa => Ed25519KeyPair::from_pkcs8(kept).ok().map(Pair::EdDsa),
            SigningAlgorithm::Rs256 => RsaKeyPair::from_pkcs8(kept).ok().map(|pair| Pair::Rs256(Box::new(pair))),
        }
    }

    pub(in crate::tokens) fn algorithm(&self) -> SigningAlgorithm {
        match self {
            Pair::Es256(_) => SigningAlgorithm::Es256,
            Pair::EdDsa(_) => SigningAlgorithm::EdDsa,
            Pair::Rs256(_) => SigningAlgorithm::Rs256,
        }
    }

    /// Whether it signs so slowly that requests are not to wait behind one another for it.
    pub(in crate::tokens) fn is_slow(&self) -> bool {
        matches!(self, Pair::Rs256(_))
    }

    /// The signature over a text, as JWS wants it (RFC 7518, section 3). Some 15 µs, and with RSA 600.
    pub(in crate::tokens) fn sign(&self, text: &[u8]) -> Option<Vec<u8>> {
        match self {
            Pair::Es256(pair) => Some(pair.sign(&SystemRandom::new(), text).ok()?.as_ref().to_vec()),
            Pair::EdDsa(pair) => Some(pair.try_sign(text).ok()?.as_ref().to_vec()),
            Pair::Rs256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature).ok()?;
                Some(signature)
            }
        }
    }

    /// The members of its public key that its thumbprint is of, in their order (RFC 7638, section 3.2; RFC 8037, section 2).
    fn members(&self) -> Option<String> {
        let part = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
        match self {
            Pair::Es256(pair) => {
                // an uncompressed point (SEC 1, section 2.3.3)
                let (x, y) = pair.public_key().as_ref().strip_prefix(&[4])?.split_at_checked(32)?;
                Some(format!(r#""crv":"P-256","kty":"EC","x":"{}","y":"{}""#, part(x), part(y)))
            }
            Pair::EdDsa(pair) => {
                Some(format!(r#""crv":"Ed25519","kty":"OKP","x":"{}""#, part(pair.public_key().as_ref())))
            }
            Pair::Rs256(pair) => {
                let public = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).ok()?;
                let (n, e) = der::rsa_numbers(public.as_ref())?;
                Some(format!(r#""e":"{}","kty":"RSA","n":"{}""#, part(e), part(n)))
            }
        }
    }

    /// Its name, the thumbprint of its public key (RFC 7638), and that key as a JWK.
    pub(in crate::tokens) fn published(&self) -> Option<(String, String)> {
        let members = self.members()?;
        let name = BASE64URL_NOPAD.encode(digest(&SHA256, format!("{{{members}}}").as_bytes()).as_ref());
        let algorithm = self.algorithm().as_str();
        let jwk = format!(r#"{{{members},"kid":"{name}","use":"sig","alg":"{algorithm}"}}"#);
        Some((name, jwk))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwt::Algorithm;
    use crate::jwt::jws::Jws;
    use crate::jwt::keys::KeySet;

    #[test]
    fn what_is_signed_is_verified_with_the_published_key_and_with_no_other() {
        for algorithm in [SigningAlgorithm::Es256, SigningAlgorithm::EdDsa, SigningAlgorithm::Rs256] {
            let (pair, kept) = Pair::generate(algorithm).unwrap();
            let again = Pair::read(algorithm, &kept).unwrap();
            let (name, jwk) = pair.published().unwrap();
            assert_eq!(again.published().unwrap(), (name.clone(), jwk.clone()));
            let header = format!(r#"{{"alg":"{}","kid":"{name}"}}"#, algorithm.as_str());
            let signed = format!("{}.e30", BASE64URL_NOPAD.encode(header.as_bytes()));
            let token = format!("{signed}.{}", BASE64URL_NOPAD.encode(&again.sign(signed.as_bytes()).unwrap()));
            let verify = |jwk: &str| {
                let set = KeySet::of_json(jwk.as_bytes(), &Algorithm::ALL, true).unwrap();
                set.set.verify(&Jws::parse(token.as_bytes()).unwrap()).map(drop)
            };
            assert_eq!(verify(&jwk), Ok(()), "{algorithm:?}");
            let other = Pair::generate(algorithm).unwrap().0.published().unwrap();
            assert!(verify(&other.1).is_err());
            assert!(verify(&other.1.replace(&other.0, &name)).is_err());
            for wrong in [&kept[1..], b"", b"{}"] {
                assert!(Pair::read(algorithm, wrong).is_none());
            }
            assert!(!jwk.contains("\"d\""), "{jwk}");
        }
    }

    #[test]
    fn a_name_is_the_thumbprint_of_the_key() {
        // RFC 8037, appendix A.1 to A.3
        let seed = BASE64URL_NOPAD.decode(b"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
        let pair = Pair::EdDsa(Ed25519KeyPair::from_seed_unchecked(&seed).unwrap());
        let (name, jwk) = pair.published().unwrap();
        assert_eq!(name, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        assert!(jwk.contains(r#""x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo""#), "{jwk}");
    }
}
