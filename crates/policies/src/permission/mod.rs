//! `permission`: what callers may do, by rules. Finds out nothing of who calls: that is what authenticators are for.

mod claims;
mod config;
mod members;
mod rule;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use daemun_config::decode::NonEmpty;
use daemun_config::diagnostic;
use daemun_pipeline::{
    BuildContext, Exchange, Explanation, Fault, Flow, Phase, Policy, PolicyConfig, Reason, Runtimes, Stop,
};

pub use config::{ClaimWanted, PermissionConfig, RuleConfig, Wanted};

use crate::per_directory::PerDirectory;
use members::Members;
use rule::Rule;

impl PolicyConfig for PermissionConfig {
    const NAME: &'static str = "permission";

    fn build(self, ctx: &mut BuildContext<'_>) -> Option<Runtimes> {
        let members = PerDirectory::of(ctx, Self::NAME, Members::new);
        let deny = rules(self.deny, "deny", &members, ctx);
        let allow = rules(self.allow, "allow", &members, ctx);
        let (deny, allow) = (deny?, allow?);
        let asks = deny.iter().flatten().chain(allow.iter().flatten()).any(Rule::needs_caller);
        if asks && !ctx.authenticated {
            let message = match ctx.route {
                Some(route) => format!("rules ask who calls, and route `{route}` has no authenticator that tells"),
                None => "rules ask who calls, and a route has no authenticator that tells".to_owned(),
            };
            let help = "add one such as `key_auth`, or switch the policy off there with `permission: off`";
            ctx.warning(diagnostic::NEEDS_AUTHENTICATOR, message, Some(help.to_owned()));
        }
        let deny = deny.unwrap_or_default();
        let policy = Permission { members, deny, allow, challenge: self.challenge.0.into() };
        Some(vec![(Phase::Authorize, Box::new(policy))])
    }
}

/// The rules of a list, if it is given; `None` after what is wrong with one was reported.
fn rules(
    list: Option<NonEmpty<RuleConfig>>,
    key: &str,
    members: &Arc<PerDirectory<Members>>,
    ctx: &mut BuildContext<'_>,
) -> Option<Option<Box<[Rule]>>> {
    let Some(NonEmpty(list)) = list else { return Some(None) };
    let mut built = Vec::with_capacity(list.len());
    let mut complete = true;
    for (index, settings) in list.into_iter().enumerate() {
        let key = match &settings.name {
            Some(name) => format!("{key}.{}", name.0),
            None => format!("{key}[{index}]"),
        };
        let rule = Rule::build(settings, &key, members, ctx);
        complete &= rule.is_some();
        built.extend(rule);
    }
    complete.then(|| Some(built.into()))
}

struct Permission {
    members: Arc<PerDirectory<Members>>,
    deny: Box<[Rule]>,
    /// `None`: whatever is not denied.
    allow: Option<Box<[Rule]>>,
    challenge: Box<str>,
}

/// What the rules come to.
enum Ruling<'p> {
    Denied(&'p Rule),
    Allowed(&'p Rule),
    /// No rule applies, of those that could let the call pass.
    Unmatched,
    /// There are none that could.
    Open,
}

impl Policy for Permission {
    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        Flow::Now(match self.rule(exchange) {
            Ok(Ruling::Allowed(_) | Ruling::Open) => Ok(()),
            Ok(Ruling::Denied(rule)) => Err(denied(rule)),
            Ok(Ruling::Unmatched) => Err(self.unmatched(exchange)),
            Err(fault) => Err(fault.into()),
        })
    }

    fn sees_answers(&self) -> bool {
        false
    }

    fn explain(&self, exchange: &mut Exchange) -> Explanation {
        match self.rule(exchange) {
            Ok(Ruling::Allowed(rule)) => Explanation::pass(format!("the rule `{}` allows it", rule.name)),
            Ok(Ruling::Open) => Explanation::pass("no rule denies it"),
            Ok(Ruling::Denied(rule)) => Explanation::stop(&denied(rule), format!("the rule `{}` denies it", rule.name)),
            Ok(Ruling::Unmatched) => {
                let count = self.allow.as_ref().map_or(0, |rules| rules.len());
                let rules = if count == 1 { "the only rule" } else { "none of the rules" };
                let who = if exchange.is_known() { "" } else { ", and nobody is known to call" };
                Explanation::stop(&self.unmatched(exchange), format!("{rules} of `allow` applies{who}"))
            }
            Err(fault) => {
                let detail = fault.detail.to_string();
                Explanation::stop(&fault.into(), detail)
            }
        }
    }
}

impl Permission {
    /// Asks the rules: denying ones first, and in doubt they deny.
    #[inline]
    fn rule(&self, exchange: &Exchange) -> Result<Ruling<'_>, Fault> {
        let members = &self.members.value;
        for rule in &self.deny {
            if rule.applies(exchange, members, true)? {
                return Ok(Ruling::Denied(rule));
            }
        }
        let Some(allow) = &self.allow else { return Ok(Ruling::Open) };
        for rule in allow {
            if rule.applies(exchange, members, false)? {
                return Ok(Ruling::Allowed(rule));
            }
        }
        Ok(Ruling::Unmatched)
    }

    /// What is answered where no rule lets a call pass: who is not known may try to become so where that could help.
    #[cold]
    fn unmatched(&self, exchange: &Exchange) -> Stop {
        let helps = |rule: &Rule| rule.needs_caller() && rule.is_of_request(exchange);
        let rules = self.allow.iter().flatten();
        if !exchange.is_known() && rules.into_iter().any(helps) {
            return self.unknown("no rule of `allow` applies to a caller that is not known");
        }
        forbidden("no rule of `allow` applies")
    }

    fn unknown(&self, cause: &str) -> Stop {
        let fault = Fault::new(Reason::Unauthenticated, "the caller must be known here to do this");
        fault.field("WWW-Authenticate", &*self.challenge).cause(cause).into()
    }
}

#[cold]
fn denied(rule: &Rule) -> Stop {
    forbidden(&format!("the rule `{}` denies it", rule.name))
}

fn forbidden(cause: &str) -> Stop {
    Fault::new(Reason::Forbidden, "the caller may not do this").cause(cause).into()
}
