//! The signature algorithms of JOSE that are verified (RFC 7518, section 3; RFC 8037; RFC 9864). `none` is not among them.

use std::fmt;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{self, EcdsaVerificationAlgorithm, RsaParameters};
use daemun_config::settings;

settings! {
    /// A signature algorithm.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum Algorithm {
        /// HMAC with SHA-256.
        Hs256 = "HS256",
        /// HMAC with SHA-384.
        Hs384 = "HS384",
        /// HMAC with SHA-512.
        Hs512 = "HS512",
        /// RSA, PKCS #1 v1.5, with SHA-256.
        Rs256 = "RS256",
        /// RSA, PKCS #1 v1.5, with SHA-384.
        Rs384 = "RS384",
        /// RSA, PKCS #1 v1.5, with SHA-512.
        Rs512 = "RS512",
        /// RSA-PSS with SHA-256.
        Ps256 = "PS256",
        /// RSA-PSS with SHA-384.
        Ps384 = "PS384",
        /// RSA-PSS with SHA-512.
        Ps512 = "PS512",
        /// ECDSA over P-256 with SHA-256.
        Es256 = "ES256",
        /// ECDSA over P-384 with SHA-384.
        Es384 = "ES384",
        /// ECDSA over P-521 with SHA-512.
        Es512 = "ES512",
        /// Ed25519; a token may call it `Ed25519` as well.
        EdDsa = "EdDSA",
    }
}

/// How the secret or key of an algorithm is used.
#[derive(Clone, Copy)]
pub(super) enum Family {
    /// A shared secret; of fewer bytes than this it is too weak (RFC 7518, section 3.2).
    Hmac(hmac::Algorithm, usize),
    /// An RSA key of 2,048 bits at least.
    Rsa(&'static RsaParameters),
    /// A point of a curve, by its name in a JWK, and the bytes of a coordinate.
    Ec(&'static EcdsaVerificationAlgorithm, &'static str, usize),
    /// An Ed25519 key.
    Ed25519,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Algorithm; 13] = [
        Algorithm::Hs256,
        Algorithm::Hs384,
        Algorithm::Hs512,
        Algorithm::Rs256,
        Algorithm::Rs384,
        Algorithm::Rs512,
        Algorithm::Ps256,
        Algorithm::Ps384,
        Algorithm::Ps512,
        Algorithm::Es256,
        Algorithm::Es384,
        Algorithm::Es512,
        Algorithm::EdDsa,
    ];

    /// As tokens and keys name it; `None` for what is not verified.
    #[must_use]
    pub fn of(name: &str) -> Option<Algorithm> {
        if name == "Ed25519" {
            return Some(Algorithm::EdDsa);
        }
        Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Hs256 => "HS256",
            Algorithm::Hs384 => "HS384",
            Algorithm::Hs512 => "HS512",
            Algorithm::Rs256 => "RS256",
            Algorithm::Rs384 => "RS384",
            Algorithm::Rs512 => "RS512",
            Algorithm::Ps256 => "PS256",
            Algorithm::Ps384 => "PS384",
            Algorithm::Ps512 => "PS512",
            Algorithm::Es256 => "ES256",
            Algorithm::Es384 => "ES384",
            Algorithm::Es512 => "ES512",
            Algorithm::EdDsa => "EdDSA",
        }
    }

    /// Whether it is of a secret that is shared.
    pub(crate) fn is_shared(self) -> bool {
        matches!(self.family(), Family::Hmac(..))
    }

    pub(super) fn family(self) -> Family {
        match self {
            Algorithm::Hs256 => Family::Hmac(hmac::HMAC_SHA256, 32),
            Algorithm::Hs384 => Family::Hmac(hmac::HMAC_SHA384, 48),
            Algorithm::Hs512 => Family::Hmac(hmac::HMAC_SHA512, 64),
            Algorithm::Rs256 => Family::Rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
            Algorithm::Rs384 => Family::Rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
            Algorithm::Rs512 => Family::Rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
            Algorithm::Ps256 => Family::Rsa(&signature::RSA_PSS_2048_8192_SHA256),
            Algorithm::Ps384 => Family::Rsa(&signature::RSA_PSS_2048_8192_SHA384),
            Algorithm::Ps512 => Family::Rsa(&signature::RSA_PSS_2048_8192_SHA512),
            Algorithm::Es256 => Family::Ec(&signature::ECDSA_P256_SHA256_FIXED, "P-256", 32),
            Algorithm::Es384 => Family::Ec(&signature::ECDSA_P384_SHA384_FIXED, "P-384", 48),
            Algorithm::Es512 => Family::Ec(&signature::ECDSA_P521_SHA512_FIXED, "P-521", 66),
            Algorithm::EdDsa => Family::Ed25519,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
