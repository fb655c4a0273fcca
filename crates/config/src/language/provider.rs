//! The OpenID provider that a token service sends browsers to.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::consumer::Scope;
use super::user_sources::is_here;
use crate::decode::{
    ClaimPath, ClaimValue, Decoder, Mapping, OneOrMany, SchemaBuilder, Setting, TimeLimit, WebUrl, text,
};
use crate::diagnostic::{Diagnostic, INSECURE, SHORT_KEY};
use crate::model::{LoginProvider, Secret};
use crate::settings;
use crate::tree::Node;

/// Longest `leeway`.
const LONGEST_LEEWAY: Duration = Duration::from_secs(600);
/// Bytes of the gateway's name at a provider and of its secret there, at most.
const LONGEST: usize = 1024;
/// Fewest bytes of what logins are sealed with.
const SHORTEST_SECRET: usize = 32;
/// Secrets at once, and scopes that are asked for.
const MOST_SECRETS: usize = 8;
const MOST_SCOPES: usize = 32;

settings! {
    /// The OpenID provider that users log in at, for `authorization_code`.
    pub(super) struct ProviderText {
        /// The provider, by its address; it is asked for its endpoints and keys, by OpenID Connect Discovery.
        issuer: WebUrl,
        /// The gateway's name at the provider.
        client_id: ShownText,
        /// Its secret there, best out of a reference like `${env:PROVIDER_SECRET}`.
        client_secret: ShownText,
        /// What is asked for; `openid` is among it.
        scopes: OneOrMany<Scope> = "[openid, profile]",
        /// Whether the provider's userinfo endpoint is asked at a login, for what the ID token does not say.
        userinfo: bool = "false",
        /// File with the authorities, in PEM, that the certificate of the provider must come from; without it the system's.
        ca: Option<PathBuf>,
        /// How much the clocks of provider and gateway may differ; at most `10m`.
        leeway: Duration = "30s",
        /// Time for an answer of the provider.
        timeout: TimeLimit = "5s",
        /// Claims that a login must have, each with the value or values it must have one of.
        claims: Option<Mapping<ClaimPath, OneOrMany<ClaimValue>>>,
        /// Claim that tells what the user is called by; of several, the first that is there. It must be one that users cannot choose.
        subject: OneOrMany<ClaimPath> = "sub",
        /// Claim that lists the user's roles, such as `realm_access.roles`.
        roles: Option<ClaimPath>,
        /// Claim that lists the user's groups.
        groups: Option<ClaimPath>,
        /// Secret that logins under way are sealed with, of at least 32 bytes. Of a list the first seals, and all open.
        secret: OneOrMany<SealText>,
    }
    check ProviderText::check;
}

impl ProviderText {
    fn check(&self, node: &Node, cx: &mut Decoder<'_>) {
        let at = |key: &str| node.get(key).unwrap_or(node);
        if self.issuer.written().contains('?') {
            cx.key("issuer", |cx| cx.bad_value(at("issuer"), "an issuer has no query"));
        }
        if !self.issuer.is_https() && !is_here(self.issuer.host()) {
            let message = "logins come over `http`, so that whoever is on the way can read and change them";
            let warning = Diagnostic::warning(INSECURE, at("issuer").at, message);
            cx.key("issuer", |cx| cx.report(warning.help("use `https`")));
        }
        cx.key("scopes", |cx| {
            if self.scopes.0.len() > MOST_SCOPES {
                cx.bad_value(at("scopes"), format!("expected {MOST_SCOPES} scopes at most"));
            }
            if !self.scopes.0.iter().any(|scope| scope.0 == "openid") {
                let help = "without it the provider does not say who logs in";
                cx.bad_value_help(at("scopes"), "`openid` is missing", help);
            }
        });
        if self.subject.0.is_empty() {
            cx.key("subject", |cx| cx.bad_value(at("subject"), "expected at least one claim, found an empty list"));
        }
        if self.leeway > LONGEST_LEEWAY {
            cx.key("leeway", |cx| cx.bad_value(at("leeway"), "a leeway is `10m` at most"));
        }
        let count = self.secret.0.len();
        if count > MOST_SECRETS || at("secret").as_seq().is_some_and(<[Node]>::is_empty) {
            let message = format!("expected 1 to {MOST_SECRETS} secrets, found {count}");
            cx.key("secret", |cx| cx.bad_value(at("secret"), message));
        }
    }

    pub(super) fn lower(self) -> LoginProvider {
        let claims = self.claims.into_iter().flat_map(|Mapping(pairs)| pairs);
        LoginProvider {
            issuer: self.issuer.written().to_owned(),
            client_id: self.client_id.0,
            client_secret: Secret(self.client_secret.0),
            scopes: self.scopes.0.into_iter().map(|scope| scope.0).collect(),
            userinfo: self.userinfo,
            ca: self.ca,
            leeway: self.leeway,
            timeout: self.timeout.0,
            claims: claims.map(|(path, values)| (path.value, values.0)).collect(),
            subject: self.subject.0,
            roles: self.roles,
            groups: self.groups,
            secrets: self.secret.0.into_iter().map(|secret| Secret(secret.0)).collect(),
        }
    }
}

/// What the provider knows the gateway by.
struct ShownText(String);

impl Setting for ShownText {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let shown = text(node, cx, "a text")?;
        if shown.is_empty() || shown.len() > LONGEST {
            cx.bad_value(node, format!("it has 1 to {LONGEST} bytes"));
            return None;
        }
        Some(Self(shown.to_owned()))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        s.or_reference(json!({ "type": "string", "minLength": 1, "maxLength": LONGEST, "title": "text" }))
    }
}

/// What logins are sealed with.
struct SealText(String);

impl Setting for SealText {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let secret = text(node, cx, "a secret")?;
        if secret.len() < SHORTEST_SECRET {
            let message = format!("the secret has {} bytes, and needs {SHORTEST_SECRET}", secret.len());
            let found = Diagnostic::error(SHORT_KEY, node.at, message);
            cx.report(found.help("`openssl rand -hex 32` makes one; keep it in `${env:LOGIN_SECRET}`"));
            return None;
        }
        Some(Self(secret.to_owned()))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        s.or_reference(json!({ "type": "string", "minLength": SHORTEST_SECRET, "title": "secret" }))
    }
}
