//! Whose SAML assertions are taken and what they tell, as a token service and the policy `saml_auth` are told it. Reads no certificate and no
//! assertion.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::decode::{Decoder, Key, Mapping, OneOrMany, SchemaBuilder, Setting, Size, TimeLimit, text};
use crate::diagnostic::{BAD_VALUE, Diagnostic};
use crate::settings;
use crate::tree::{At, Node};

/// Bytes of the name of an issuer, an audience, a recipient or a claim.
const LONGEST_NAME: usize = 1024;
/// Names of one kind.
const MOST_NAMES: usize = 16;
/// Texts and files with certificates.
const MOST_CERTIFICATES: usize = 8;
/// Longest `leeway`.
const LONGEST_LEEWAY: Duration = Duration::from_secs(600);
/// Smallest and largest `max_size`.
const SIZES: std::ops::RangeInclusive<u64> = 1 << 10..=256 << 10;

settings! {
    /// Whose SAML 2.0 assertions are taken, and what they tell of the caller.
    #[derive(Clone, Debug, PartialEq)]
    pub struct SamlConfig {
        /// Who issues the assertions: what `Issuer` must be, to the letter; one of these.
        pub issuer: OneOrMany<SamlName>,
        /// Certificates or public keys that assertions are signed with: files, or texts in PEM. Those that an assertion carries are not looked at.
        pub certificates: OneOrMany<SamlPem>,
        /// Whom assertions must be for: each `AudienceRestriction` must name one of these.
        pub audience: OneOrMany<SamlName>,
        /// Where assertions must be sent to: what `Recipient` must be, most often the URL that they come in at; one of these.
        pub recipient: OneOrMany<SamlName>,
        /// How much the clocks of issuer and gateway may differ; at most `10m`.
        pub leeway: Duration = "30s",
        /// How long an assertion may be valid in all, from `IssueInstant` to its end.
        pub max_lifetime: TimeLimit = "24h",
        /// Size of an assertion at most, from `1KiB` to `256KiB`.
        pub max_size: Size = "64KiB",
        /// What the caller is called by: `sub`, which is the `NameID`, or an attribute; of several, the first that is there.
        pub subject: OneOrMany<ClaimName> = "sub",
        /// What names a consumer of the configuration, `sub` or an attribute; whose assertion names none is refused.
        pub consumer: Option<ClaimName>,
        /// Attribute that lists the caller's roles.
        pub roles: Option<ClaimName>,
        /// Attribute that lists the caller's groups.
        pub groups: Option<ClaimName>,
        /// Attribute that lists what the caller may do, as scopes; of several, the first that is there.
        pub scopes: OneOrMany<ClaimName> = "scope",
        /// Attributes, each with the value or values it must have one of.
        pub claims: Option<Mapping<ClaimName, OneOrMany<String>>>,
    }
    check SamlConfig::check;
}

impl SamlConfig {
    /// Reports what is out of bounds; `node` holds the settings.
    pub fn check(&self, node: &Node, cx: &mut Decoder<'_>) {
        let at = |key: &str| node.get(key).unwrap_or(node);
        let mut count = |key: &str, count: usize, most: usize| {
            if !(1..=most).contains(&count) {
                cx.key(key, |cx| cx.bad_value(at(key), format!("expected 1 to {most} of them, found {count}")));
            }
        };
        count("issuer", self.issuer.0.len(), MOST_NAMES);
        count("certificates", self.certificates.0.len(), MOST_CERTIFICATES);
        count("audience", self.audience.0.len(), MOST_NAMES);
        count("recipient", self.recipient.0.len(), MOST_NAMES);
        count("subject", self.subject.0.len(), MOST_NAMES);
        if self.leeway > LONGEST_LEEWAY {
            cx.key("leeway", |cx| cx.bad_value(at("leeway"), "a leeway is `10m` at most"));
        }
        if !SIZES.contains(&self.max_size.0) {
            cx.key("max_size", |cx| cx.bad_value(at("max_size"), "an assertion has from `1KiB` to `256KiB`"));
        }
    }
}

/// The name of an issuer, an audience or a recipient, compared to the letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SamlName(pub String);

impl Setting for SamlName {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let name = text(node, cx, "a name, most often a URL")?;
        read_name(name, node.at, cx).map(Self)
    }

    fn schema(_: &mut SchemaBuilder<'_>) -> Json {
        name_schema("name, most often a URL")
    }
}

/// What an assertion says of its subject: an attribute by its `Name`, or `sub`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClaimName(pub String);

impl Setting for ClaimName {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let name = text(node, cx, "the name of an attribute")?;
        read_name(name, node.at, cx).map(Self)
    }

    fn schema(_: &mut SchemaBuilder<'_>) -> Json {
        name_schema("name of an attribute")
    }
}

impl Key for ClaimName {
    fn decode_key(key: &str, at: At, cx: &mut Decoder<'_>) -> Option<Self> {
        read_name(key, at, cx).map(Self)
    }
}

fn read_name(name: &str, at: At, cx: &mut Decoder<'_>) -> Option<String> {
    let fits = (1..=LONGEST_NAME).contains(&name.len()) && !name.contains(char::is_control) && name.trim() == name;
    if !fits {
        let message = "expected a name of 1 to 1024 bytes, without control characters and white space at its ends";
        cx.report(Diagnostic::error(BAD_VALUE, at, message));
        return None;
    }
    Some(name.to_owned())
}

fn name_schema(title: &str) -> Json {
    json!({ "type": "string", "minLength": 1, "maxLength": LONGEST_NAME, "title": title })
}

/// Certificates or public keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SamlPem {
    /// As they are written in the configuration.
    Text(String),
    /// In a file.
    File(PathBuf),
}

impl Setting for SamlPem {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let written = text(node, cx, "a file with certificates, or a certificate in PEM")?;
        if written.trim_start().starts_with("-----BEGIN ") {
            return Some(Self::Text(written.to_owned()));
        }
        if written.contains('\n') {
            let help = "PEM begins with `-----BEGIN CERTIFICATE-----`";
            cx.bad_value_help(node, "this is neither a file nor a certificate in PEM", help);
            return None;
        }
        let path = PathBuf::decode(node, cx)?;
        cx.reads_file(&path);
        Some(Self::File(path))
    }

    fn schema(_: &mut SchemaBuilder<'_>) -> Json {
        json!({ "type": "string", "minLength": 1, "title": "file with certificates, or PEM" })
    }
}
