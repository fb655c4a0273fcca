//! Keys that signatures are verified with, each with the one algorithm it is used with. Holds no private key.

use std::collections::HashMap;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents, VerificationAlgorithm,
};
use daemun_accounts::Accounts;
use daemun_config::model::{CredentialName, SignatureAlgorithm};
use daemun_pipeline::{ConsumerId, Directory};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;

use crate::base64_text;
use crate::caller;
use crate::lasting::Lasting;

/// A key. Prints no secret.
#[derive(Debug)]
pub(super) enum Key {
    /// A shared secret, for `hmac-sha256`.
    Shared(Box<hmac::Key>),
    /// A public key.
    Public(SignatureAlgorithm, Box<ParsedPublicKey>),
}

impl Key {
    /// Name of its algorithm.
    pub(super) fn algorithm(&self) -> &'static str {
        match self {
            Key::Shared(_) => "hmac-sha256",
            Key::Public(algorithm, _) => algorithm.name(),
        }
    }

    /// Whether a signature is one of this text with this key.
    pub(super) fn verifies(&self, text: &[u8], signature: &[u8]) -> bool {
        match self {
            Key::Shared(key) => hmac::verify(key, text, signature).is_ok(),
            Key::Public(_, key) => key.verify_sig(text, signature).is_ok(),
        }
    }
}

/// What is worked out once for all routes.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) keys: HashMap<Box<str>, (ConsumerId, Key, Lasting)>,
    /// Each consumer's roles as they are sent, by position; empty for none.
    pub(super) roles: Box<[Box<str>]>,
}

/// A key that cannot be used: consumer, id, and what is wrong.
pub(super) type Unusable = (String, String, &'static str);

impl Known {
    /// The keys of all consumers, and those that cannot be used.
    pub(super) fn new(directory: &Directory, accounts: &Accounts) -> (Known, Vec<Unusable>) {
        let (mut keys, mut unusable) = (HashMap::new(), Vec::new());
        for (id, consumer) in directory.iter() {
            let lasting = |key: &str| Lasting::new(consumer, &CredentialName::Signer(key.to_owned()), accounts);
            for shared in &consumer.hmac {
                let key = Key::Shared(Box::new(hmac::Key::new(hmac::HMAC_SHA256, &shared.secret.0)));
                keys.insert(shared.id.value.as_str().into(), (id, key, lasting(&shared.id.value)));
            }
            for public in &consumer.signing_keys {
                match read(public.algorithm, &public.public_key.value) {
                    Ok(key) => {
                        let key = Key::Public(public.algorithm, Box::new(key));
                        keys.insert(public.id.value.as_str().into(), (id, key, lasting(&public.id.value)));
                    }
                    Err(why) => unusable.push((consumer.name.clone(), public.id.value.clone(), why)),
                }
            }
        }
        (Known { keys, roles: caller::sent_roles(directory) }, unusable)
    }
}

/// A key out of PEM or JWK.
fn read(algorithm: SignatureAlgorithm, text: &str) -> Result<ParsedPublicKey, &'static str> {
    if text.trim_start().starts_with('{') {
        return jwk(algorithm, text);
    }
    let der = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes())
        .map_err(|_| "it is no PEM with `BEGIN PUBLIC KEY`, and no JWK")?;
    parsed(algorithm, &der)
}

fn parsed(algorithm: SignatureAlgorithm, bytes: &[u8]) -> Result<ParsedPublicKey, &'static str> {
    let verification: &'static dyn VerificationAlgorithm = match algorithm {
        SignatureAlgorithm::Ed25519 => &ED25519,
        SignatureAlgorithm::EcdsaP256Sha256 => &ECDSA_P256_SHA256_FIXED,
        SignatureAlgorithm::EcdsaP384Sha384 => &ECDSA_P384_SHA384_FIXED,
        SignatureAlgorithm::RsaPssSha512 => &RSA_PSS_2048_8192_SHA512,
        SignatureAlgorithm::RsaV15Sha256 => &RSA_PKCS1_2048_8192_SHA256,
    };
    ParsedPublicKey::new(verification, bytes).map_err(|_| "it is no key of its `algorithm`")
}

/// A key as RFC 7517 writes it.
fn jwk(algorithm: SignatureAlgorithm, text: &str) -> Result<ParsedPublicKey, &'static str> {
    let jwk: serde_json::Value = serde_json::from_str(text).map_err(|_| "it is no JSON")?;
    let text = |name: &str| jwk.get(name).and_then(serde_json::Value::as_str);
    let bytes = |name: &str| text(name).and_then(from_base64url).ok_or("a part of the JWK is missing or no base64url");
    if jwk.get("d").is_some() || jwk.get("k").is_some() {
        return Err("it holds a private key: only whom it belongs to should have it");
    }
    let is = |kind: &str, curve: &str| text("kty") == Some(kind) && text("crv") == Some(curve);
    let point = |length: usize| {
        let (x, y) = (bytes("x")?, bytes("y")?);
        let fits = x.len() == length && y.len() == length;
        fits.then(|| [&[4], &*x, &*y].concat()).ok_or("the point of the JWK is not of its curve")
    };
    let rsa = |parameters: &'static RsaParameters| {
        let key = RsaPublicKeyComponents { n: bytes("n")?, e: bytes("e")? };
        key.to_parsed_public_key(parameters).map_err(|_| "the numbers of the JWK are no key of RSA")
    };
    match algorithm {
        SignatureAlgorithm::Ed25519 if is("OKP", "Ed25519") => parsed(algorithm, &bytes("x")?),
        SignatureAlgorithm::EcdsaP256Sha256 if is("EC", "P-256") => parsed(algorithm, &point(32)?),
        SignatureAlgorithm::EcdsaP384Sha384 if is("EC", "P-384") => parsed(algorithm, &point(48)?),
        SignatureAlgorithm::RsaPssSha512 if text("kty") == Some("RSA") => rsa(&RSA_PSS_2048_8192_SHA512),
        SignatureAlgorithm::RsaV15Sha256 if text("kty") == Some("RSA") => rsa(&RSA_PKCS1_2048_8192_SHA256),
        SignatureAlgorithm::Ed25519
        | SignatureAlgorithm::EcdsaP256Sha256
        | SignatureAlgorithm::EcdsaP384Sha384
        | SignatureAlgorithm::RsaPssSha512
        | SignatureAlgorithm::RsaV15Sha256 => Err("it is no key of its `algorithm`"),
    }
}

/// Base64 for addresses and without padding (RFC 7515, section 2).
fn from_base64url(text: &str) -> Option<Vec<u8>> {
    if text.contains(['+', '/', '=']) {
        return None;
    }
    let mut plain = text.replace('-', "+").replace('_', "/");
    while !plain.len().is_multiple_of(4) {
        plain.push('=');
    }
    let mut bytes = vec![0; plain.len() / 4 * 3];
    let length = base64_text::decode(plain.as_bytes(), &mut bytes)?.len();
    bytes.truncate(length);
    Some(bytes)
}
