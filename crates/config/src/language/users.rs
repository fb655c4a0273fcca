//! Users: people who call with a name and a password. A password in clear is refused, not digested: what people
//! choose is guessed from a plain digest.

use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};

use super::consumer::{HexDigest, Scope, Username, names};
use crate::decode::{Decoder, Name, Needed, SchemaBuilder, Setting, text};
use crate::diagnostic::{CLEAR_PASSWORD, Diagnostic, SHORT_KEY};
use crate::model::{PasswordHash, SecretBytes, Spanned, User};
use crate::settings;
use crate::tree::Node;

/// Fewest and most bytes of a secret that one-time passwords are made with (RFC 4226, section 4, R6).
const SECRET: std::ops::RangeInclusive<usize> = 16..=128;
/// Recovery codes of one user at most.
const RECOVERY: usize = 64;

settings! {
    /// A person who calls with a name and a password: for tokens (`grants: [password]`) or with HTTP Basic (`basic_auth: { users: … }`).
    pub(super) struct UserText {
        /// Name, unique among users and consumers: 1 to 255 bytes, no colon and no control characters.
        pub(super) name: Needed<Spanned<Username>>,
        /// Hash of the password, as `daemun password hash` makes it: argon2id as a PHC string.
        password: PasswordText,
        /// Roles.
        roles: Vec<Name> = "[]",
        /// Groups it belongs to.
        groups: Vec<Name> = "[]",
        /// Tags: free words that rules and expressions can ask for.
        tags: Vec<Name> = "[]",
        /// What its tokens may be used for (RFC 6749, section 3.3): `[orders:read]`.
        scopes: Vec<Scope> = "[]",
        /// Secret that one-time passwords are made with (RFC 6238), in base32, best out of a reference like `${env:ALICE_TOTP}`.
        totp: Option<TotpSecret>,
        /// SHA-256 digests of codes that stand in for a one-time password, each once; `daemun key new` makes such a code.
        recovery: Vec<HexDigest> = "[]",
        /// Whether it is let in nowhere.
        disabled: bool = "false",
    }
    check UserText::check;
}

impl UserText {
    fn check(&self, node: &Node, cx: &mut Decoder<'_>) {
        if let Some(name) = &self.name.0
            && name.value.0.trim() != name.value.0
        {
            let at = node.get("name").unwrap_or(node);
            let help = "upstreams are told the name in a header, where white space at its ends is lost";
            cx.key("name", |cx| cx.bad_value_help(at, "the name of a user begins or ends with white space", help));
        }
        if self.recovery.len() > RECOVERY {
            let at = node.get("recovery").unwrap_or(node);
            cx.key("recovery", |cx| cx.bad_value(at, format!("a user has {RECOVERY} recovery codes at most")));
        }
    }

    pub(super) fn lower(self) -> Option<User> {
        let Spanned { value: Username(name), at } = self.name.0?;
        // not of the name: another password is another credential, and what was given for the old one is void
        let digest = Sha256::digest(self.password.0.text().as_bytes());
        let head: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        Some(User {
            credential: format!("user:{name}:{head}"),
            name: Spanned { value: name, at },
            password: self.password.0,
            roles: names(self.roles),
            groups: names(self.groups),
            tags: names(self.tags),
            scopes: self.scopes.into_iter().map(|scope| scope.0).collect(),
            totp: self.totp.map(|secret| SecretBytes(secret.0)),
            recovery: self.recovery.into_iter().map(|digest| digest.0).collect(),
            disabled: self.disabled,
        })
    }
}

/// The hash of a password.
struct PasswordText(PasswordHash);

impl Setting for PasswordText {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let written = text(node, cx, "the hash of a password")?;
        if !written.starts_with('$') {
            let message =
                "this is a password in clear, or the digest of a key: a user's password is hashed with argon2id";
            let found = Diagnostic::error(CLEAR_PASSWORD, node.at, message);
            cx.report(found.help("`daemun password hash` reads a password and prints its hash"));
            return None;
        }
        match PasswordHash::parse(written) {
            Ok(hash) => Some(Self(hash)),
            Err(allowed) => {
                let help = format!("it is {allowed}; `daemun password hash` makes one");
                cx.bad_value_help(node, "this hash of a password is not taken", help);
                None
            }
        }
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        s.or_reference(json!({
            "type": "string", "title": "hash of a password", "pattern": "^\\$argon2id\\$v=19\\$m=[0-9]+,t=[0-9]+,p=[0-9]+\\$.+\\$.+$",
        }))
    }
}

/// A secret in base32 (RFC 4648, section 6), as authenticators take it: letters of either case, with or without padding.
struct TotpSecret(Vec<u8>);

impl Setting for TotpSecret {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let written = text(node, cx, "a secret in base32")?;
        let Some(secret) = from_base32(written.trim_end_matches('=').as_bytes()) else {
            cx.bad_value_help(node, "this is not base32", "it has the letters A to Z and the digits 2 to 7");
            return None;
        };
        if secret.len() < *SECRET.start() {
            let message = format!("a secret has at least {} bytes, and this one {}", SECRET.start(), secret.len());
            let help = "`head -c 20 /dev/urandom | base32` makes a good one";
            cx.report(Diagnostic::error(SHORT_KEY, node.at, message).help(help));
            return None;
        }
        if !SECRET.contains(&secret.len()) {
            cx.bad_value_help(node, "this secret is too long", format!("it has {} bytes at most", SECRET.end()));
            return None;
        }
        Some(Self(secret))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        s.or_reference(json!({ "type": "string", "title": "secret", "pattern": "^[A-Za-z2-7]{26,}=*$" }))
    }
}

/// Bits that are left over must be zero, so that a secret has one spelling.
fn from_base32(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 5 / 8);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for letter in text {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a',
            b'2'..=b'7' => letter - b'2' + 26,
            _ => return None,
        };
        bits = bits << 5 | u32::from(value);
        held += 5;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff).ok()?);
        }
        bits &= (1 << held) - 1;
    }
    (held < 5 && bits == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base32_is_read_as_rfc_4648_writes_it() {
        for (text, bytes) in
            [("", ""), ("MY", "f"), ("MZXQ", "fo"), ("MZXW6", "foo"), ("MZXW6YQ", "foob"), ("mzxw6ytboi", "foobar")]
        {
            assert_eq!(from_base32(text.as_bytes()).as_deref(), Some(bytes.as_bytes()), "{text}");
        }
        for wrong in ["M", "MZ", "MZX", "M1", "MZXW6=", "MY MY", "MZXW6YTBOIA2"] {
            assert_eq!(from_base32(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
