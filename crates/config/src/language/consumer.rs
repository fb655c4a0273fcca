//! Consumers, their keys and passwords. What is given in clear is digested here and not kept.

use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};

use super::credentials::{CertificateText, HmacText, SigningKeyText};
use super::gate::ImportanceText;
use super::redirect_uri::RedirectText;
use super::terms::{Label, Moment, terms};
use crate::decode::{Decoder, Name, Needed, OneOrMany, SchemaBuilder, Setting, text};
use crate::diagnostic::{DUPLICATE_NAME, Diagnostic, SHORT_KEY};
use crate::model::{BasicCredential, Consumer, CredentialName, Spanned, Terms};
use crate::settings;
use crate::tree::Node;

/// Fewest bytes of a key.
const SHORTEST: usize = 16;
/// Fewest and most bytes of a password.
const PASSWORD: std::ops::RangeInclusive<usize> = 8..=512;
/// Addresses that browsers may be sent back to for one client.
pub const MOST_REDIRECTS: usize = 64;
/// Plans that one consumer may be on.
pub const MOST_PLANS: usize = 8;
/// Most bytes of a username.
const USERNAME: usize = 255;

settings! {
    /// A known caller.
    pub(super) struct ConsumerText {
        /// Name, unique.
        pub(super) name: Needed<Spanned<Name>>,
        /// Roles.
        roles: Vec<Name> = "[]",
        /// Groups it belongs to.
        groups: Vec<Name> = "[]",
        /// Tags: free words that rules and expressions can ask for.
        tags: Vec<Name> = "[]",
        /// What its calls and tokens may be used for (RFC 6749, section 3.3): `[orders:read]`.
        scopes: Vec<Scope> = "[]",
        /// API keys: texts of at least 16 bytes, best out of a reference like `${env:SHOP_KEY}`, or `{sha256: …}`, the digest that
        /// `daemun key hash` prints; `{key: …, expires: 2027-01-31, label: …, disabled: true}` for one that is not to be good for ever.
        pub(super) keys: Vec<KeyDigest> = "[]",
        /// Which calls go first when an upstream can take no more; that of the route when absent.
        importance: Option<ImportanceText>,
        /// Credentials of HTTP Basic, for `basic_auth`; one or a list.
        pub(super) basic: OneOrMany<BasicText> = "[]",
        /// Certificates, for `mtls_auth`; one or a list.
        pub(super) certificates: OneOrMany<CertificateText> = "[]",
        /// Secrets that it signs requests with, for `hmac_auth` and `signature_auth`; one or a list.
        pub(super) hmac: OneOrMany<HmacText> = "[]",
        /// Public keys that its signatures are verified with, for `signature_auth`; one or a list.
        pub(super) signing_keys: OneOrMany<SigningKeyText> = "[]",
        /// Where browsers may be sent back to with a login of a user, for a client that asks a token service for one: each address whole.
        /// Such a client is known by the usernames of `basic`, or without those by its name.
        pub(super) redirect_uris: OneOrMany<RedirectText> = "[]",
        /// The plan that it is on, out of `plans`; a list where it is on several, all of which must admit a call.
        pub(super) plan: OneOrMany<Spanned<Name>> = "[]",
    }
    check ConsumerText::check;
}

impl ConsumerText {
    fn check(&self, node: &Node, cx: &mut Decoder<'_>) {
        if self.redirect_uris.0.len() > MOST_REDIRECTS {
            let at = node.get("redirect_uris").unwrap_or(node);
            cx.key("redirect_uris", |cx| cx.bad_value(at, format!("expected {MOST_REDIRECTS} addresses at most")));
        }
        if self.plan.0.len() > MOST_PLANS {
            let at = node.get("plan").unwrap_or(node);
            cx.key("plan", |cx| cx.bad_value(at, format!("expected {MOST_PLANS} plans at most")));
        }
        for (index, plan) in self.plan.0.iter().enumerate() {
            if self.plan.0.iter().take(index).any(|other| other.value == plan.value) {
                let message = format!("plan `{}` is named twice", plan.value.0);
                cx.key("plan", |cx| cx.report(Diagnostic::error(DUPLICATE_NAME, plan.at, message)));
            }
        }
    }

    pub(super) fn lower(self) -> Option<Consumer> {
        let Spanned { value, at } = self.name.0?;
        let mut said = Vec::new();
        Some(Consumer {
            name: Spanned { value: value.0, at },
            roles: names(self.roles),
            groups: names(self.groups),
            tags: names(self.tags),
            scopes: self.scopes.into_iter().map(|scope| scope.0).collect(),
            keys: self.keys.into_iter().map(|key| key.lower(&mut said)).collect(),
            importance: self.importance.map(ImportanceText::lower),
            basic: self.basic.0.into_iter().map(|basic| basic.lower(&mut said)).collect(),
            certificates: self.certificates.0.into_iter().map(|rule| rule.lower(&mut said)).collect(),
            hmac: self.hmac.0.into_iter().map(|key| key.lower(&mut said)).collect(),
            signing_keys: self.signing_keys.0.into_iter().map(|key| key.lower(&mut said)).collect(),
            redirect_uris: self.redirect_uris.0.into_iter().map(|uri| uri.0).collect(),
            plans: self.plan.0.into_iter().map(|plan| plan.value.0).collect(),
            terms: said,
        })
    }
}

/// What the configuration says of credentials, beyond what they are.
pub(super) type Said = Vec<(CredentialName, Terms)>;

/// Notes what is said of a credential, if that is anything.
pub(super) fn note(said: &mut Said, name: impl FnOnce() -> CredentialName, terms: Terms) {
    if terms != Terms::default() {
        said.push((name(), terms));
    }
}

/// One scope (RFC 6749, section 3.3).
pub(super) struct Scope(pub(super) String);

impl Setting for Scope {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let scope = text(node, cx, "a scope")?;
        let fits = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
        if scope.is_empty() || scope.len() > 256 || !scope.bytes().all(fits) {
            let help = "a scope is one word of printable ASCII, like `orders:read`";
            cx.bad_value_help(node, format!("`{}` cannot be a scope", node.shown()), help);
            return None;
        }
        Some(Self(scope.to_owned()))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        s.pattern("scope", "What a call may be for: one word, like `orders:read`.", "^[!#-\\[\\]-~]{1,256}$")
    }
}

pub(super) fn names(list: Vec<Name>) -> Vec<String> {
    list.into_iter().map(|name| name.0).collect()
}

settings! {
    /// A username and its password.
    pub(super) struct BasicText {
        /// Username, unique among all consumers: 1 to 255 bytes, no colon and no control characters.
        pub(super) username: Spanned<Username>,
        /// Password: a text of 8 to 512 bytes, best out of a reference like `${env:SHOP_PASSWORD}`, or `{sha256: …}`, its digest.
        password: PasswordDigest,
        /// What it is for.
        label: Option<Label>,
        /// From when on it is not good any more, in UTC: `2027-01-31T00:00:00Z`, or a day, with which it begins.
        expires: Option<Moment>,
        /// Whether it is not good for now.
        disabled: bool = "false",
    }
}

impl BasicText {
    fn lower(self, said: &mut Said) -> BasicCredential {
        let Spanned { value, at } = self.username;
        note(said, || CredentialName::Basic(value.0.clone()), terms(self.label, self.expires, self.disabled));
        BasicCredential { username: Spanned { value: value.0, at }, password: self.password.0 }
    }
}

/// A user-id of RFC 7617, section 2.
pub(super) struct Username(pub(super) String);

impl Setting for Username {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let name = text(node, cx, "a username")?;
        if name.is_empty() || name.len() > USERNAME || name.contains(|char: char| char == ':' || char.is_control()) {
            let help = "a username has 1 to 255 bytes, no colon and no control characters";
            cx.bad_value_help(node, "this cannot be a username", help);
            return None;
        }
        Some(Self(name.to_owned()))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        s.pattern("username", "Username, without colon and control characters.", "^[^:\\u0000-\\u001f\\u007f]{1,255}$")
    }
}

/// SHA-256 of a password.
struct PasswordDigest([u8; 32]);

impl Setting for PasswordDigest {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        if node.as_map().is_some() {
            return DigestText::decode(node, cx).map(|digest| Self(digest.sha256.0));
        }
        let password = text(node, cx, "a password, or `{sha256: …}`")?;
        if password.len() < *PASSWORD.start() {
            let message =
                format!("a password has at least {} bytes, and this one {}", PASSWORD.start(), password.len());
            let help = "a long random one is best: `daemun key new` makes one";
            cx.report(Diagnostic::error(SHORT_KEY, node.at, message).help(help));
            return None;
        }
        if !PASSWORD.contains(&password.len()) || password.contains(char::is_control) {
            let help = "it has no control characters and 512 bytes at most";
            cx.bad_value_help(node, "this cannot be a password", help);
            return None;
        }
        Some(Self(Sha256::digest(password.as_bytes()).into()))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        let password = s.or_reference(json!({ "type": "string", "minLength": 8, "title": "password" }));
        let digest = DigestText::schema(s);
        json!({ "anyOf": [password, digest] })
    }
}

/// SHA-256 of an API key, and how long it is good.
pub(super) struct KeyDigest(pub(super) Spanned<[u8; 32]>, Terms);

settings! {
    /// An API key, and how long it is good; one of `key` and `sha256`.
    struct KeyParts {
        /// The key: a text of at least 16 bytes, best out of a reference like `${env:SHOP_KEY}`.
        key: Option<ClearKey>,
        /// SHA-256 of the key, 64 hexadecimal digits: the file need not hold the key itself.
        sha256: Option<HexDigest>,
        /// What it is for.
        label: Option<Label>,
        /// From when on it is not good any more, in UTC: `2027-01-31T00:00:00Z`, or a day, with which it begins.
        expires: Option<Moment>,
        /// Whether it is not good for now.
        disabled: bool = "false",
    }
    exclusive { "key", "sha256" }
    needs_one { "key", "sha256" }
}

/// SHA-256 of a key that is given in clear.
struct ClearKey([u8; 32]);

impl Setting for ClearKey {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let key = text(node, cx, "a key, or `{sha256: …}`")?;
        if key.len() < SHORTEST {
            let message = format!("a key has at least {SHORTEST} bytes, and this one {}", key.len());
            cx.report(Diagnostic::error(SHORT_KEY, node.at, message).help("`daemun key new` makes a good one"));
            return None;
        }
        Some(Self(Sha256::digest(key.as_bytes()).into()))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        s.or_reference(json!({ "type": "string", "minLength": 16, "title": "key" }))
    }
}

impl Setting for KeyDigest {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let at = node.at;
        if node.as_map().is_none() {
            return ClearKey::decode(node, cx).map(|key| Self(Spanned { value: key.0, at }, Terms::default()));
        }
        let parts = KeyParts::decode(node, cx)?;
        let value = parts.key.map(|key| key.0).or_else(|| parts.sha256.map(|digest| digest.0))?;
        Some(Self(Spanned { value, at }, terms(parts.label, parts.expires, parts.disabled)))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        let key = ClearKey::schema(s);
        let parts = KeyParts::schema(s);
        json!({ "anyOf": [key, parts] })
    }
}

impl KeyDigest {
    fn lower(self, said: &mut Said) -> Spanned<[u8; 32]> {
        note(said, || CredentialName::Key(self.0.value), self.1);
        self.0
    }
}

settings! {
    /// A password by its digest, so that the file need not hold it.
    struct DigestText {
        /// SHA-256, 64 hexadecimal digits.
        sha256: HexDigest,
    }
}

/// 32 bytes as 64 hexadecimal digits.
pub(super) struct HexDigest(pub(super) [u8; 32]);

impl Setting for HexDigest {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let written = text(node, cx, "a SHA-256 digest")?;
        let digest = hex(written);
        if digest.is_none() {
            let help = "it has 64 hexadecimal digits; `daemun key hash` prints it";
            cx.bad_value_help(node, "this is not a SHA-256 digest", help);
        }
        digest.map(Self)
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        s.pattern("sha256", "SHA-256 digest, 64 hexadecimal digits.", "^[0-9A-Fa-f]{64}$")
    }
}

fn hex(text: &str) -> Option<[u8; 32]> {
    let text = text.as_bytes();
    if text.len() != 64 {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(text.chunks_exact(2)) {
        let digit = |index: usize| pair.get(index).and_then(|digit| char::from(*digit).to_digit(16));
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some(digest)
}
