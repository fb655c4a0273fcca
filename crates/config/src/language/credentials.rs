//! What consumers sign with and the certificates they show, as written. Judges no key: whoever verifies with it reads it.

use serde_json::{Value as Json, json};

use super::consumer::{Said, note};
use super::terms::{Label, Moment, terms};
use crate::decode::{Decoder, SchemaBuilder, Setting, text};
use crate::diagnostic::{Diagnostic, SHORT_KEY};
use crate::model::{
    CertificateName, CertificateRule, CredentialName, HmacKey, SecretBytes, SignatureAlgorithm, SigningKey, Spanned,
    Terms,
};
use crate::settings;
use crate::tree::{At, Node};

/// Most bytes of a name in a certificate.
const NAME: usize = 2048;
/// Most bytes of an id.
const ID: usize = 256;
/// Fewest and most bytes of a secret.
const SECRET: std::ops::RangeInclusive<usize> = 16..=1024;
/// Most bytes of a public key's text.
const PUBLIC_KEY: usize = 16 * 1024;

/// A certificate of a consumer, with its place.
pub(super) struct CertificateText(CertificateRule, Terms);

settings! {
    /// By what a consumer's certificate is known; one of `fingerprint`, `subject`, `cn` and `san`.
    struct CertificateParts {
        /// SHA-256 of the certificate: 64 hexadecimal digits, with or without colons.
        fingerprint: Option<Fingerprint>,
        /// Distinguished name as RFC 4514 writes it: `CN=orders,O=Shop`.
        subject: Option<CertificateWord>,
        /// The common name in the subject.
        cn: Option<CertificateWord>,
        /// Alternative name: `dns:orders.shop.example`, `uri:spiffe://shop.example/orders` or `email:orders@shop.example`; what stands
        /// before the colon may be left out.
        san: Option<CertificateWord>,
        /// Distinguished name of the authority that must have issued it, where a listener trusts several.
        issuer: Option<CertificateWord>,
        /// What it is for.
        label: Option<Label>,
        /// From when on it is not good any more, in UTC: `2027-01-31T00:00:00Z`, or a day, with which it begins.
        expires: Option<Moment>,
        /// Whether it is not good for now.
        disabled: bool = "false",
    }
    exclusive { "fingerprint", "subject", "cn", "san" }
    needs_one { "fingerprint", "subject", "cn", "san" }
}

impl Setting for CertificateText {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let parts = CertificateParts::decode(node, cx)?;
        let san = parts.san.map(|CertificateWord(written)| alternative(&written));
        let name = parts
            .fingerprint
            .map(|digits| CertificateName::Fingerprint(digits.0))
            .or_else(|| parts.subject.map(|name| CertificateName::Subject(name.0)))
            .or_else(|| parts.cn.map(|name| CertificateName::CommonName(name.0)))
            .or(san)?;
        let rule = CertificateRule { name, issuer: parts.issuer.map(|name| name.0), at: node.at };
        Some(Self(rule, terms(parts.label, parts.expires, parts.disabled)))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        CertificateParts::schema(s)
    }
}

impl CertificateText {
    pub(super) fn lower(self, said: &mut Said) -> CertificateRule {
        note(said, || self.0.credential(), self.1);
        self.0
    }

    /// What tells it from others, and its place.
    pub(super) fn key(&self) -> (String, At) {
        (format!("{:?} {:?}", self.0.name, self.0.issuer), self.0.at)
    }
}

/// An alternative name by its kind.
fn alternative(written: &str) -> CertificateName {
    let of = |prefix: &str| written.strip_prefix(prefix).map(str::to_owned);
    if let Some(name) = of("dns:") {
        CertificateName::Dns(name.to_ascii_lowercase())
    } else if let Some(uri) = of("uri:") {
        CertificateName::Uri(uri)
    } else if let Some(address) = of("email:") {
        CertificateName::Email(address)
    } else if written.contains("://") {
        CertificateName::Uri(written.to_owned())
    } else if written.contains('@') {
        CertificateName::Email(written.to_owned())
    } else {
        CertificateName::Dns(written.to_ascii_lowercase())
    }
}

/// A name in a certificate.
struct CertificateWord(String);

impl Setting for CertificateWord {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let name = text(node, cx, "a name of a certificate")?;
        if name.is_empty() || name.len() > NAME || name.contains(char::is_control) {
            let help = "it has 1 to 2048 bytes and no control characters";
            cx.bad_value_help(node, "this cannot be a name of a certificate", help);
            return None;
        }
        Some(Self(name.to_owned()))
    }

    fn schema(_: &mut SchemaBuilder<'_>) -> Json {
        json!({ "type": "string", "minLength": 1, "maxLength": NAME })
    }
}

/// 32 bytes in hexadecimal, in lower case without colons.
struct Fingerprint(String);

impl Setting for Fingerprint {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let written = text(node, cx, "a SHA-256 fingerprint")?;
        let digits: String = written.chars().filter(|char| *char != ':').collect::<String>().to_ascii_lowercase();
        if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let help = "it has 64 hexadecimal digits; `openssl x509 -noout -fingerprint -sha256 -in FILE` prints it";
            cx.bad_value_help(node, "this is not a SHA-256 fingerprint", help);
            return None;
        }
        Some(Self(digits))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        let doc = "SHA-256 of a certificate, 64 hexadecimal digits, with or without colons.";
        s.pattern("fingerprint", doc, "^([0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}$")
    }
}

settings! {
    /// A secret that a consumer signs its requests with.
    pub(super) struct HmacText {
        /// What the consumer names it by (`keyId`), unique among all keys that sign.
        pub(super) id: Spanned<KeyId>,
        /// The secret: a text of 16 to 1024 bytes, best out of a reference like `${env:SHOP_SECRET}`.
        secret: Spanned<SecretText>,
        /// How the secret is written.
        encoding: SecretEncoding = "text",
        /// What it is for.
        label: Option<Label>,
        /// From when on it is not good any more, in UTC: `2027-01-31T00:00:00Z`, or a day, with which it begins.
        expires: Option<Moment>,
        /// Whether it is not good for now.
        disabled: bool = "false",
    }
    check HmacText::check;
}

settings! {
    /// How a secret is written.
    enum SecretEncoding {
        /// Its bytes are those of the text.
        Text = "text",
        /// In base64 (RFC 4648, section 4).
        Base64 = "base64",
    }
}

impl HmacText {
    fn check(&self, node: &Node, cx: &mut Decoder<'_>) {
        let at = node.get("secret").unwrap_or(node);
        let length = self.bytes().map(|secret| secret.len());
        cx.key("secret", |cx| match length {
            None => cx.bad_value(at, "this is not base64"),
            Some(length) if length < *SECRET.start() => {
                let message = format!("a secret has at least {} bytes, and this one {length}", SECRET.start());
                cx.report(Diagnostic::error(SHORT_KEY, at.at, message).help("`daemun key new` makes a good one"));
            }
            Some(length) if !SECRET.contains(&length) => {
                cx.bad_value_help(at, "this cannot be a secret", "it has 1024 bytes at most");
            }
            Some(_) => {}
        });
    }

    fn bytes(&self) -> Option<Vec<u8>> {
        match self.encoding {
            SecretEncoding::Text => Some(self.secret.value.0.clone().into_bytes()),
            SecretEncoding::Base64 => from_base64(self.secret.value.0.as_bytes()),
        }
    }

    pub(super) fn lower(self, said: &mut Said) -> HmacKey {
        let secret = self.bytes().unwrap_or_default();
        let Spanned { value, at } = self.id;
        note(said, || CredentialName::Signer(value.0.clone()), terms(self.label, self.expires, self.disabled));
        HmacKey { id: Spanned { value: value.0, at }, secret: SecretBytes(secret) }
    }
}

/// Base64 with padding, and no other spelling of the same bytes (RFC 4648, sections 3.5 and 4).
fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let padding = text.iter().rev().take_while(|&&byte| byte == b'=').count();
    let digits = text.get(..text.len().checked_sub(padding)?).filter(|_| padding <= 2)?;
    if text.is_empty() || !text.len().is_multiple_of(4) {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for group in digits.chunks(4) {
        let mut bits = 0_u32;
        for digit in group {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        let (whole, left) = (group.len() * 6 / 8, group.len() * 6 % 8);
        if whole == 0 || bits & ((1 << left) - 1) != 0 {
            return None;
        }
        bytes.extend_from_slice((bits >> left).to_be_bytes().get(4 - whole..)?);
    }
    Some(bytes)
}

/// A secret as written.
struct SecretText(String);

impl Setting for SecretText {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        text(node, cx, "a secret").map(|secret| Self(secret.to_owned()))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        s.or_reference(json!({ "type": "string", "minLength": SECRET.start(), "title": "secret" }))
    }
}

/// What a consumer names a key by.
pub(super) struct KeyId(pub(super) String);

impl Setting for KeyId {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let id = text(node, cx, "the id of a key")?;
        let fits = |byte: u8| (byte == b' ' || byte.is_ascii_graphic()) && !b"\"\\".contains(&byte);
        if id.is_empty() || id.len() > ID || !id.bytes().all(fits) {
            let help = "1 to 256 printable ASCII characters without `\"` and `\\`";
            cx.bad_value_help(node, "this cannot be the id of a key", help);
            return None;
        }
        Some(Self(id.to_owned()))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        s.pattern("key id", "1 to 256 printable ASCII characters without `\"` and `\\`.", "^[ !#-\\[\\]-~]{1,256}$")
    }
}

settings! {
    /// A public key that a consumer's signatures are verified with.
    pub(super) struct SigningKeyText {
        /// What the consumer names it by (`keyid`), unique among all keys that sign.
        pub(super) id: Spanned<KeyId>,
        /// The one algorithm it is used with, by its name in RFC 9421.
        algorithm: SigningAlgorithm,
        /// The key as PEM (`BEGIN PUBLIC KEY`) or JWK, best out of a file: `${file:keys/partner.pem}`.
        public_key: Spanned<PublicKeyText>,
        /// What it is for.
        label: Option<Label>,
        /// From when on it is not good any more, in UTC: `2027-01-31T00:00:00Z`, or a day, with which it begins.
        expires: Option<Moment>,
        /// Whether it is not good for now.
        disabled: bool = "false",
    }
}

settings! {
    /// Algorithms of signatures with public keys.
    enum SigningAlgorithm {
        /// EdDSA over edwards25519.
        Ed25519 = "ed25519",
        /// ECDSA over P-256 with SHA-256.
        EcdsaP256Sha256 = "ecdsa-p256-sha256",
        /// ECDSA over P-384 with SHA-384.
        EcdsaP384Sha384 = "ecdsa-p384-sha384",
        /// RSASSA-PSS with SHA-512.
        RsaPssSha512 = "rsa-pss-sha512",
        /// RSASSA-PKCS1-v1_5 with SHA-256.
        RsaV15Sha256 = "rsa-v1_5-sha256",
    }
}

impl SigningKeyText {
    pub(super) fn lower(self, said: &mut Said) -> SigningKey {
        let (id, key) = (self.id, self.public_key);
        note(said, || CredentialName::Signer(id.value.0.clone()), terms(self.label, self.expires, self.disabled));
        SigningKey {
            id: Spanned { value: id.value.0, at: id.at },
            algorithm: match self.algorithm {
                SigningAlgorithm::Ed25519 => SignatureAlgorithm::Ed25519,
                SigningAlgorithm::EcdsaP256Sha256 => SignatureAlgorithm::EcdsaP256Sha256,
                SigningAlgorithm::EcdsaP384Sha384 => SignatureAlgorithm::EcdsaP384Sha384,
                SigningAlgorithm::RsaPssSha512 => SignatureAlgorithm::RsaPssSha512,
                SigningAlgorithm::RsaV15Sha256 => SignatureAlgorithm::RsaV15Sha256,
            },
            public_key: Spanned { value: key.value.0, at: key.at },
        }
    }
}

/// The text of a public key.
struct PublicKeyText(String);

impl Setting for PublicKeyText {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let key = text(node, cx, "a public key in PEM or JWK")?;
        if key.contains("PRIVATE KEY") {
            let help = "`openssl pkey -in KEY -pubout` prints the public one";
            cx.bad_value_help(node, "this is a private key: only whom it belongs to should have it", help);
            return None;
        }
        if key.is_empty() || key.len() > PUBLIC_KEY {
            cx.bad_value_help(node, "this cannot be a public key", "it has 16 KiB at most");
            return None;
        }
        Some(Self(key.to_owned()))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        s.or_reference(json!({ "type": "string", "minLength": 1, "title": "public key" }))
    }
}
