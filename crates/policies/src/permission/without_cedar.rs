//! Stands in for Cedar in a build without it: its settings are refused, so that nothing that protects is dropped.

use daemun_config::diagnostic::{self, Diagnostic};
use daemun_pipeline::{BuildContext, Exchange, Fault};

use super::Opinion;
use super::config::CedarConfig;

/// There is none.
pub(super) enum Cedar {}

/// What policies would come to.
pub(super) enum Judgement {}

impl Judgement {
    pub(super) fn opinion(&self) -> Opinion {
        match *self {}
    }

    pub(super) fn why(&self) -> String {
        match *self {}
    }
}

impl Cedar {
    /// Reports that there is no Cedar.
    pub(super) fn build(_: CedarConfig, ctx: &mut BuildContext<'_>) -> Option<Cedar> {
        let found = Diagnostic::error(diagnostic::NOT_AVAILABLE, ctx.at, "this build of Daemun has no Cedar");
        let help = "it is built with the feature `cedar`";
        ctx.diagnostics.push(found.path(format!("{}.cedar", ctx.path)).help(help));
        None
    }

    pub(super) fn judge(&self, _: &Exchange) -> Result<Judgement, Fault> {
        match *self {}
    }
}
