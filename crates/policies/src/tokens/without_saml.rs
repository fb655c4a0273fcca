//! Stands in for SAML in a build without it: its settings are refused, so that nobody is refused later.

use daemun_config::diagnostic::{self, Diagnostic};
use daemun_config::model::SamlConfig;
use daemun_pipeline::{BuildContext, Identity};

/// There are none.
pub(super) enum Assertions {}

/// An assertion that holds.
pub(super) struct Shown {
    pub(super) identity: Identity,
    pub(super) credential: String,
    pub(super) name: String,
    pub(super) until: u64,
    pub(super) session_ends: Option<u64>,
}

impl Assertions {
    /// Reports that there is no SAML.
    pub(super) fn build(_: &SamlConfig, ctx: &mut BuildContext<'_>) -> Option<Assertions> {
        let found = Diagnostic::error(diagnostic::NOT_AVAILABLE, ctx.at, "this build of Daemun has no SAML");
        ctx.diagnostics.push(found.path(ctx.path.clone()).help("it is built with the feature `saml`"));
        None
    }

    pub(super) fn longest(&self) -> u64 {
        match *self {}
    }

    pub(super) fn judge(&self, _: &str, _: u64) -> Result<Shown, String> {
        match *self {}
    }
}
