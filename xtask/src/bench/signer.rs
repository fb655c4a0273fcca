//! Signed tokens (JWT, RFC 7519) for rows about them, as large as those of a login service are.

use anyhow::{Context, Result, anyhow};
use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256,
};
use data_encoding::{BASE64, BASE64URL_NOPAD};

/// What a policy has to say of tokens that are signed here, but for its keys.
pub(super) const ACCEPTED: &str = "issuer: https://accounts.example.com, audience: shop-api, roles: realm_access.roles";

/// A key that tokens are signed with.
pub(super) enum Signer {
    Es256(Box<EcdsaKeyPair>),
    Rs256(Box<RsaKeyPair>),
}

impl Signer {
    /// Another P-256 key each time.
    pub(super) fn es256() -> Result<Signer> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
        Ok(Signer::Es256(Box::new(pair.map_err(|_| anyhow!("no P-256 key"))?)))
    }

    /// Another RSA key of 2,048 bits each time.
    pub(super) fn rs256() -> Result<Signer> {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| anyhow!("no RSA key"))?;
        Ok(Signer::Rs256(Box::new(pair)))
    }

    pub(super) fn algorithm(&self) -> &'static str {
        match self {
            Signer::Es256(_) => "ES256",
            Signer::Rs256(_) => "RS256",
        }
    }

    /// The public key as a file that a policy reads: a JWK (RFC 7517), or PEM.
    pub(super) fn key_file(&self) -> Result<String> {
        Ok(match self {
            Signer::Es256(pair) => {
                let (x, y) = pair
                    .public_key()
                    .as_ref()
                    .get(1..)
                    .and_then(|point| point.split_at_checked(32))
                    .context("no point")?;
                let [x, y] = [x, y].map(|part| BASE64URL_NOPAD.encode(part));
                format!("{{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"{x}\",\"y\":\"{y}\"}}")
            }
            Signer::Rs256(pair) => {
                let der: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(|_| anyhow!("no public key"))?;
                format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", BASE64.encode(der.as_ref()))
            }
        })
    }

    /// A token of another subject for each `number`.
    pub(super) fn token(&self, number: usize) -> Result<String> {
        let claims = format!(
            "{{\"iss\":\"https://accounts.example.com\",\"aud\":[\"shop-api\",\"account\"],\
             \"sub\":\"f3b1c1d0-5d0c-4b1e-9b3e-{number:012}\",\"exp\":4102444800,\"iat\":1700000000,\
             \"jti\":\"0b7c2c6e-8b3d-4d7e-a1f4-{number:012}\",\"azp\":\"shop-app\",\
             \"realm_access\":{{\"roles\":[\"buyer\",\"reader\"]}},\"scope\":\"openid profile orders:read\",\
             \"email_verified\":true}}"
        );
        let algorithm = self.algorithm();
        let header = format!("{{\"alg\":\"{algorithm}\",\"typ\":\"JWT\"}}");
        let [header, claims] = [header, claims].map(|part| BASE64URL_NOPAD.encode(part.as_bytes()));
        let signed = format!("{header}.{claims}");
        let random = SystemRandom::new();
        let signature = match self {
            Signer::Es256(pair) => {
                pair.sign(&random, signed.as_bytes()).map_err(|_| anyhow!("no signature"))?.as_ref().to_vec()
            }
            Signer::Rs256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature)
                    .map_err(|_| anyhow!("no signature"))?;
                signature
            }
        };
        Ok(format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature)))
    }

    /// The key as the library of signatures takes it, read once.
    pub(super) fn public(&self) -> Result<ParsedPublicKey> {
        let key = match self {
            Signer::Es256(pair) => ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref()),
            Signer::Rs256(pair) => ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref()),
        };
        key.map_err(|_| anyhow!("the key is not read"))
    }
}
