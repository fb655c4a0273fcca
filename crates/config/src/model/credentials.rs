//! What consumers prove themselves with beside keys and passwords: certificates, shared secrets, public keys.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::Spanned;
use crate::tree::At;

/// Bytes that are never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretBytes(pub Vec<u8>);

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// By what a consumer's certificate is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRule {
    /// What it must say.
    pub name: CertificateName,
    /// Distinguished name of the authority that must have issued it; any that the listener trusts when absent.
    pub issuer: Option<String>,
    /// Where it stood.
    pub at: At,
}

/// What a certificate must say.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CertificateName {
    /// SHA-256 of its DER, lower-case hexadecimal.
    Fingerprint(String),
    /// Its distinguished name, as typed.
    Subject(String),
    /// The one common name in it.
    CommonName(String),
    /// An alternative name that is a DNS name, in lower case.
    Dns(String),
    /// An alternative name that is a URI, such as a SPIFFE ID.
    Uri(String),
    /// An alternative name that is an e-mail address.
    Email(String),
}

impl CertificateRule {
    /// What tells it from other credentials.
    #[must_use]
    pub fn credential(&self) -> CredentialName {
        CredentialName::Certificate(self.name.clone(), self.issuer.clone())
    }
}

/// What is said of a credential, beyond what it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// What it is for, in the words of whoever wrote it.
    pub label: Option<String>,
    /// From this moment on it is void, milliseconds since the Unix epoch; never when absent.
    pub expires: Option<u64>,
    /// Whether it is not good for now.
    pub disabled: bool,
}

/// What tells a credential of the configuration from all others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CredentialName {
    /// A key, by its SHA-256 digest.
    Key([u8; 32]),
    /// A password, by its username.
    Basic(String),
    /// A secret or public key that signs, by its id.
    Signer(String),
    /// A certificate, by what it must say and its authority.
    Certificate(CertificateName, Option<String>),
}

impl CredentialName {
    /// An id that is no secret: what it is revoked by and told of as.
    #[must_use]
    pub fn id(&self) -> String {
        match self {
            Self::Key(digest) => format!("key:{}", head(digest)),
            Self::Basic(username) => format!("client:{username}"),
            Self::Signer(id) => format!("signer:{id}"),
            Self::Certificate(name, issuer) => {
                let (kind, text) = match name {
                    CertificateName::Fingerprint(text) => ("fingerprint", text),
                    CertificateName::Subject(text) => ("subject", text),
                    CertificateName::CommonName(text) => ("cn", text),
                    CertificateName::Dns(text) => ("dns", text),
                    CertificateName::Uri(text) => ("uri", text),
                    CertificateName::Email(text) => ("email", text),
                };
                let all = [kind, text, issuer.as_deref().unwrap_or_default()].join("\0");
                format!("certificate:{}", head(&Sha256::digest(all)))
            }
        }
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Key(_) => "key",
            Self::Basic(_) => "client",
            Self::Signer(_) => "signer",
            Self::Certificate(..) => "certificate",
        }
    }
}

/// A little of a digest.
fn head(digest: &[u8]) -> String {
    digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// A secret that a consumer signs its requests with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HmacKey {
    /// What the consumer names it by, unique among all keys that sign.
    pub id: Spanned<String>,
    /// The secret.
    pub secret: SecretBytes,
}

/// A public key that a consumer's signatures are verified with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKey {
    /// What the consumer names it by, unique among all keys that sign.
    pub id: Spanned<String>,
    /// The one algorithm it is used with.
    pub algorithm: SignatureAlgorithm,
    /// PEM or JWK.
    pub public_key: Spanned<String>,
}

/// Algorithms of signatures with public keys, by their names in RFC 9421, section 6.2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignatureAlgorithm {
    /// `ed25519`
    Ed25519,
    /// `ecdsa-p256-sha256`
    EcdsaP256Sha256,
    /// `ecdsa-p384-sha384`
    EcdsaP384Sha384,
    /// `rsa-pss-sha512`
    RsaPssSha512,
    /// `rsa-v1_5-sha256`
    RsaV15Sha256,
}

impl SignatureAlgorithm {
    /// Its registered name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::EcdsaP256Sha256 => "ecdsa-p256-sha256",
            Self::EcdsaP384Sha384 => "ecdsa-p384-sha384",
            Self::RsaPssSha512 => "rsa-pss-sha512",
            Self::RsaV15Sha256 => "rsa-v1_5-sha256",
        }
    }
}
