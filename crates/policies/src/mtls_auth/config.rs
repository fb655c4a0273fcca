//! The settings of `mtls_auth`.

use daemun_config::decode::{Decoder, SchemaBuilder, Setting, text};
use daemun_config::diagnostic::{CONFLICTING_KEYS, Diagnostic};
use daemun_config::model::Spanned;
use daemun_config::settings;
use daemun_config::tree::Node;
use serde_json::Value as Json;

settings! {
    /// Who calls, by the client certificate that the listener verified.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct MtlsAuthConfig {
        /// What of a certificate names a caller that is none of the consumers; without it, only consumers' certificates let a call in.
        pub subject: Option<Spanned<SubjectPart>>,
        /// Trust domains of the SPIFFE IDs that `subject: san_uri` takes; any URI when empty.
        pub trust_domains: Vec<TrustDomain> = "[]",
        /// Distinguished names of the authorities whose certificates are taken, where a listener trusts more; all when empty.
        pub issuers: Vec<String> = "[]",
        /// Whether the certificate is passed on to the upstream, in `Client-Cert` (RFC 9440).
        pub forward: bool = "false",
    }
    check check;
}

settings! {
    /// What of a certificate names a caller.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum SubjectPart {
        /// Its one alternative name that is a URI, such as a SPIFFE ID.
        SanUri = "san_uri",
        /// Its one alternative name that is a DNS name.
        SanDns = "san_dns",
        /// Its one alternative name that is an e-mail address.
        SanEmail = "san_email",
        /// The one common name of its subject.
        Cn = "cn",
        /// Its subject, as RFC 4514 writes it.
        Dn = "dn",
        /// Its SHA-256 in hexadecimal.
        Fingerprint = "fingerprint",
    }
}

/// A trust domain of SPIFFE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustDomain(pub String);

impl Setting for TrustDomain {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let name = text(node, cx, "a trust domain")?;
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
        if name.is_empty() || name.len() > 255 || !name.bytes().all(fits) {
            let help = "write it like `shop.example`: lower-case letters, digits and `. - _`";
            cx.bad_value_help(node, format!("`{}` is not a trust domain", node.shown()), help);
            return None;
        }
        Some(Self(name.to_owned()))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        s.pattern("trust domain", "Trust domain of SPIFFE: `shop.example`.", "^[a-z0-9._-]{1,255}$")
    }
}

fn check(settings: &MtlsAuthConfig, node: &Node, cx: &mut Decoder<'_>) {
    let is_uri = settings.subject.as_ref().is_some_and(|subject| subject.value == SubjectPart::SanUri);
    if !settings.trust_domains.is_empty() && !is_uri {
        let at = node.get("trust_domains").unwrap_or(node).at;
        let found = Diagnostic::error(CONFLICTING_KEYS, at, "`trust_domains` is given without `subject: san_uri`");
        cx.key("trust_domains", |cx| cx.report(found.help("a trust domain is part of a SPIFFE ID, which is a URI")));
    }
}
