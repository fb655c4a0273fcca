//! The settings of `saml_auth`: those of a token service that takes assertions, and where an assertion stands.

use daemun_config::decode::{Bounded, Decoder, OneOrMany};
use daemun_config::model::SamlConfig;
use daemun_config::settings;
use daemun_config::tree::Node;

use crate::bearer::{Place, check_places};

settings! {
    /// Who calls, by a SAML 2.0 assertion that another service signed.
    #[derive(Clone, Debug)]
    pub struct SamlAuthConfig {
        /// Where the assertion stands, in base64url or base64: `bearer`, `{header: X-Assertion}`, `{cookie: assertion}` or
        /// `{query: assertion}`, or several of them.
        pub from: OneOrMany<Place> = "bearer",
        /// Whether the assertion is passed on to the upstream.
        pub forward: bool = "false",
        /// Assertions that are remembered once they are verified; 0 for none.
        pub cache: Bounded<0, 1_000_000> = "4096",
    }
    beside trust: SamlConfig;
    check check;
}

fn check(settings: &SamlAuthConfig, node: &Node, cx: &mut Decoder<'_>) {
    check_places(&settings.from.0, node, cx);
}
