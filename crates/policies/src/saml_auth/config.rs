//! The settings of `saml_auth`.

use std::time::Duration;

use daemun_config::decode::{Bounded, Decoder, Mapping, OneOrMany, Size, TimeLimit};
use daemun_config::model::{ClaimName, SamlConfig, SamlName, SamlPem};
use daemun_config::settings;
use daemun_config::tree::Node;

use crate::bearer::{Place, check_places};

settings! {
    /// Who calls, by a SAML 2.0 assertion that another service signed.
    #[derive(Clone, Debug)]
    pub struct SamlAuthConfig {
        /// Who issues the assertions: what `Issuer` must be, to the letter; one of these.
        pub issuer: OneOrMany<SamlName>,
        /// Certificates or public keys that assertions are signed with: files, or texts in PEM. Those that an assertion carries are not looked at.
        pub certificates: OneOrMany<SamlPem>,
        /// Whom assertions must be for: each `AudienceRestriction` must name one of these.
        pub audience: OneOrMany<SamlName>,
        /// Where assertions must be sent to: what `Recipient` must be; one of these.
        pub recipient: OneOrMany<SamlName>,
        /// How much the clocks of issuer and gateway may differ; at most `10m`.
        pub leeway: Duration = "30s",
        /// How long an assertion may be valid in all, from `IssueInstant` to its end.
        pub max_lifetime: TimeLimit = "24h",
        /// Size of an assertion at most, from `1KiB` to `256KiB`.
        pub max_size: Size = "64KiB",
        /// Where the assertion stands, in base64url or base64: `bearer`, `{header: X-Assertion}`, `{cookie: assertion}` or
        /// `{query: assertion}`, or several of them.
        pub from: OneOrMany<Place> = "bearer",
        /// Whether the assertion is passed on to the upstream.
        pub forward: bool = "false",
        /// What the caller is called by: `sub`, which is the `NameID`, or an attribute; of several, the first that is there.
        pub subject: OneOrMany<ClaimName> = "sub",
        /// What names a consumer of the configuration, `sub` or an attribute; whose assertion names none is refused.
        pub consumer: Option<ClaimName>,
        /// Attribute that lists the caller's roles.
        pub roles: Option<ClaimName>,
        /// Attribute that lists the caller's groups.
        pub groups: Option<ClaimName>,
        /// Attribute that lists what the assertion may be used for; of several, the first that is there.
        pub scopes: OneOrMany<ClaimName> = "scope",
        /// Attributes, each with the value or values it must have one of.
        pub claims: Option<Mapping<ClaimName, OneOrMany<String>>>,
        /// Assertions that are remembered once they are verified; 0 for none.
        pub cache: Bounded<0, 1_000_000> = "4096",
    }
    check check;
}

impl SamlAuthConfig {
    /// What a token service is told as well.
    pub(super) fn trust(&self) -> SamlConfig {
        SamlConfig {
            issuer: self.issuer.clone(),
            certificates: self.certificates.clone(),
            audience: self.audience.clone(),
            recipient: self.recipient.clone(),
            leeway: self.leeway,
            max_lifetime: self.max_lifetime,
            max_size: self.max_size,
            subject: self.subject.clone(),
            consumer: self.consumer.clone(),
            roles: self.roles.clone(),
            groups: self.groups.clone(),
            scopes: self.scopes.clone(),
            claims: self.claims.clone(),
        }
    }
}

fn check(settings: &SamlAuthConfig, node: &Node, cx: &mut Decoder<'_>) {
    settings.trust().check(node, cx);
    check_places(&settings.from.0, node, cx);
}
