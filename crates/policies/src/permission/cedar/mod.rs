//! Policies in Cedar: what is asked of them for an exchange, and what they come to. Evaluation is the `cedar-policy` crate's. Knows no rule
//! of the configuration.

mod files;
mod request;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use cedar_policy::{Authorizer, Decision, Entities, EvaluationError, PolicyId, Request, Response};
use daemun_config::diagnostic::{self, Diagnostic};
use daemun_pipeline::{BuildContext, Exchange, Fault};

use super::Opinion;
use super::config::CedarConfig;
use files::Loaded;
use request::Asking;

/// Compiled policies, and how a request is put to them.
pub(super) struct Cedar {
    loaded: Arc<Loaded>,
    asking: Asking,
    authorizer: Authorizer,
}

/// What policies come to.
pub(super) enum Judgement {
    Decided(Response),
    /// One could not be evaluated, which could have forbidden it.
    Unsure(String),
}

impl Judgement {
    pub(super) fn opinion(&self) -> Opinion {
        match self {
            Judgement::Unsure(_) => Opinion::Denies,
            Judgement::Decided(response) => match response.decision() {
                Decision::Allow => Opinion::Allows,
                Decision::Deny if response.diagnostics().reason().next().is_some() => Opinion::Denies,
                Decision::Deny => Opinion::HasNone,
            },
        }
    }

    /// Which policies decided, as explanations and the log say it.
    pub(super) fn why(&self) -> String {
        let response = match self {
            Judgement::Unsure(why) => return why.clone(),
            Judgement::Decided(response) => response,
        };
        let mut names: Vec<String> = response.diagnostics().reason().map(|id| format!("`{id}`")).collect();
        names.sort_unstable();
        names.truncate(8);
        let (verb, of_several) = match response.decision() {
            Decision::Allow => ("permits", "permit"),
            Decision::Deny => ("forbids", "forbid"),
        };
        match names.as_slice() {
            [] => "no Cedar policy permits it".to_owned(),
            [name] => format!("the Cedar policy {name} {verb} it"),
            names => format!("the Cedar policies {} {of_several} it", names.join(", ")),
        }
    }
}

impl Cedar {
    /// Reads and checks the files; `None` after what is wrong with them was reported.
    pub(super) fn build(settings: CedarConfig, ctx: &mut BuildContext<'_>) -> Option<Cedar> {
        let loaded = match files::load(&settings, ctx.carry) {
            Ok(loaded) => Some(loaded),
            Err(findings) => {
                for finding in findings {
                    let told = Diagnostic::error(diagnostic::CEDAR, ctx.at, finding.message);
                    let told = told.path(format!("{}.cedar", ctx.path));
                    ctx.diagnostics.push(match finding.help {
                        Some(help) => told.help(help),
                        None => told,
                    });
                }
                None
            }
        };
        let asking = Asking::build(settings, ctx);
        let (loaded, asking) = (loaded?, asking?);
        for warning in &loaded.warnings {
            let told = Diagnostic::warning(diagnostic::CEDAR, ctx.at, warning.clone());
            ctx.diagnostics.push(told.path(format!("{}.cedar", ctx.path)));
        }
        Some(Cedar { loaded, asking, authorizer: Authorizer::new() })
    }

    /// Asks the policies.
    ///
    /// # Errors
    /// When an expression that names action or resource would cost more than it may.
    pub(super) fn judge(&self, exchange: &Exchange) -> Result<Judgement, Fault> {
        let asked = match self.asking.ask(exchange, &self.loaded.known)? {
            Ok(asked) => asked,
            Err(why) => return Ok(Judgement::Unsure(why)),
        };
        let (request, entities): (Request, Entities) = asked;
        let response = self.authorizer.is_authorized(&request, &self.loaded.policies, &entities);
        if let Some(error) = response.diagnostics().errors().next() {
            let cedar_policy::AuthorizationError::PolicyEvaluationError(error) = error;
            return Ok(Judgement::Unsure(unsure(error.policy_id(), error.inner())));
        }
        Ok(Judgement::Decided(response))
    }
}

/// Why a policy could not be evaluated: names and kinds, but no values, of which one could be secret.
fn unsure(policy: &PolicyId, error: &EvaluationError) -> String {
    #[allow(clippy::wildcard_enum_match_arm, reason = "only what names no value is told; what comes to it is not")]
    let why = match error {
        EvaluationError::EntityDoesNotExist(error) => format!(": {error}"),
        EvaluationError::EntityAttrDoesNotExist(error) => format!(": {error}"),
        EvaluationError::RecordAttrDoesNotExist(error) => format!(": {error}"),
        EvaluationError::TypeError(error) => format!(": {error}"),
        EvaluationError::IntegerOverflow(_) => ": a number became too large".to_owned(),
        _ => String::new(),
    };
    format!("the Cedar policy `{policy}` cannot be evaluated{why}")
}
