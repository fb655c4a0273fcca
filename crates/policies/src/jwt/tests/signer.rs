//! An issuer in memory: keys of every kind, and tokens signed with them.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair,
    Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use aws_lc_rs::{hmac, signature};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use serde_json::{Value, json};

use crate::jwt::Algorithm;

pub(crate) const SECRET: &str = "a secret that is long enough for each of the three algorithms: 64+";

/// A key that signs.
pub(crate) enum Signer {
    Secret(Vec<u8>),
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Signer {
    /// A new key that an algorithm can be used with.
    pub(crate) fn new(algorithm: Algorithm) -> Signer {
        let ec = |of: &'static signature::EcdsaSigningAlgorithm| Signer::Ec(EcdsaKeyPair::generate(of).unwrap());
        match algorithm {
            Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => Signer::Secret(SECRET.into()),
            Algorithm::Es256 => ec(&ECDSA_P256_SHA256_FIXED_SIGNING),
            Algorithm::Es384 => ec(&ECDSA_P384_SHA384_FIXED_SIGNING),
            Algorithm::Es512 => ec(&ECDSA_P521_SHA512_FIXED_SIGNING),
            Algorithm::EdDsa => Signer::Ed25519(Ed25519KeyPair::generate().unwrap()),
            Algorithm::Rs256
            | Algorithm::Rs384
            | Algorithm::Rs512
            | Algorithm::Ps256
            | Algorithm::Ps384
            | Algorithm::Ps512 => Signer::rsa(KeySize::Rsa2048),
        }
    }

    pub(crate) fn rsa(size: KeySize) -> Signer {
        Signer::Rsa(RsaKeyPair::generate(size).unwrap())
    }

    /// The public key as JWK, or the secret.
    pub(crate) fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
        match self {
            Signer::Secret(secret) => json!({ "kty": "oct", "k": text(secret) }),
            Signer::Rsa(pair) => {
                // SEQUENCE, INTEGER n with a zero in front, INTEGER e
                let der = pair.public_key().as_ref();
                let n = der.get(9..der.len() - 5).unwrap();
                json!({ "kty": "RSA", "n": text(n), "e": "AQAB" })
            }
            Signer::Ec(pair) => {
                let point = pair.public_key().as_ref().get(1..).unwrap();
                let (x, y) = point.split_at(point.len() / 2);
                let crv = match x.len() {
                    32 => "P-256",
                    48 => "P-384",
                    _ => "P-521",
                };
                json!({ "kty": "EC", "crv": crv, "x": text(x), "y": text(y) })
            }
            Signer::Ed25519(pair) => json!({ "kty": "OKP", "crv": "Ed25519", "x": text(pair.public_key().as_ref()) }),
        }
    }

    /// The JWK with members of its own.
    pub(crate) fn jwk_with(&self, members: &Value) -> Value {
        let mut jwk = self.jwk();
        jwk.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        jwk
    }

    /// The public key as PEM.
    pub(crate) fn pem(&self) -> String {
        let der = match self {
            Signer::Secret(_) => panic!("a secret has no public key"),
            Signer::Rsa(pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
            Signer::Ec(pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
            Signer::Ed25519(pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
        };
        let lines: Vec<String> =
            BASE64.encode(&der).as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into()).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    /// A token with a header of its own; `algorithm` is what it is signed with, whatever the header says.
    pub(crate) fn sign_with(&self, algorithm: Algorithm, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", encoded(header), encoded(payload));
        let signature = self.signature(algorithm, signed.as_bytes());
        format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
    }

    /// A token; `extra` are members of its header.
    pub(crate) fn sign(&self, algorithm: Algorithm, extra: &Value, claims: &Value) -> String {
        let mut header = json!({ "alg": algorithm.name() });
        header.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        self.sign_with(algorithm, &header.to_string(), &claims.to_string())
    }

    pub(crate) fn signature(&self, algorithm: Algorithm, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Signer::Secret(secret) => {
                let hashes = [(Algorithm::Hs384, hmac::HMAC_SHA384), (Algorithm::Hs512, hmac::HMAC_SHA512)];
                let hash =
                    hashes.into_iter().find(|(of, _)| *of == algorithm).map_or(hmac::HMAC_SHA256, |(_, hash)| hash);
                hmac::sign(&hmac::Key::new(hash, secret), message).as_ref().to_vec()
            }
            Signer::Rsa(pair) => {
                let paddings: [(Algorithm, &'static dyn RsaEncoding); 5] = [
                    (Algorithm::Rs384, &RSA_PKCS1_SHA384),
                    (Algorithm::Rs512, &RSA_PKCS1_SHA512),
                    (Algorithm::Ps256, &RSA_PSS_SHA256),
                    (Algorithm::Ps384, &RSA_PSS_SHA384),
                    (Algorithm::Ps512, &RSA_PSS_SHA512),
                ];
                let padding = paddings.into_iter().find(|(of, _)| *of == algorithm);
                let padding = padding.map_or(&RSA_PKCS1_SHA256 as &'static dyn RsaEncoding, |(_, padding)| padding);
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, message, &mut signature).unwrap();
                signature
            }
            Signer::Ec(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Signer::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }
}

/// Base64url of a text.
pub(crate) fn encoded(text: &str) -> String {
    BASE64URL_NOPAD.encode(text.as_bytes())
}
