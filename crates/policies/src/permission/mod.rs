//! `permission`: what callers may do, by rules. Finds out nothing of who calls: that is what authenticators are for.

#[cfg(feature = "cedar")]
mod cedar;
mod claims;
mod config;
#[cfg(not(feature = "cedar"))]
#[path = "without_cedar.rs"]
mod cedar;
mod members;
mod rule;
mod service;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use daemun_config::decode::NonEmpty;
use daemun_config::diagnostic;
use daemun_pipeline::{
    BuildContext, Exchange, Explanation, Fault, Flow, Phase, Policy, PolicyConfig, Reason, Runtimes, Stop, Verdict,
};

pub use config::{
    CacheConfig, CedarConfig, ClaimWanted, PermissionConfig, PrincipalConfig, ReadFile, ResourceConfig, RuleConfig,
    ServiceConfig, TypeName, Wanted,
};

use crate::per_directory::PerDirectory;
use cedar::Cedar;
use members::Members;
use rule::Rule;
use service::{Decision, Service};

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
        let cedar = match self.cedar {
            Some(settings) => Some(Cedar::build(settings, ctx)?),
            None => None,
        };
        let service = match self.service {
            Some(settings) => Some(Service::build(settings, ctx)?),
            None => None,
        };
        let policy = Permission { members, deny, allow, cedar, service, challenge: self.challenge.0.into() };
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
    /// What must permit the call beside the rules.
    cedar: Option<Cedar>,
    service: Option<Service>,
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

/// What somebody beside the rules says to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opinion {
    Allows,
    Denies,
    /// Neither: the call does not pass.
    HasNone,
}

impl Policy for Permission {
    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        let ruled = match self.rule(exchange) {
            Ok(Ruling::Allowed(_) | Ruling::Open) => Ok(()),
            Ok(Ruling::Denied(rule)) => Err(denied(rule)),
            Ok(Ruling::Unmatched) => Err(self.unmatched(exchange)),
            Err(fault) => Err(fault.into()),
        };
        match &self.service {
            Some(service) if ruled.is_ok() => match self.judge(exchange).map(|()| service.look(exchange)) {
                Err(stop) => Flow::Now(Err(stop)),
                Ok(Err(fault)) => Flow::Now(Err(fault.into())),
                Ok(Ok(Ok(decision))) => Flow::Now(self.decided(decision, exchange)),
                Ok(Ok(Err(question))) => Flow::Later(Box::pin(async move {
                    let decision = service.ask(question, exchange.now()).await?;
                    self.decided(decision, exchange)
                })),
            },
            Some(_) | None => Flow::Now(ruled.and_then(|()| self.judge(exchange))),
        }
    }

    fn sees_answers(&self) -> bool {
        false
    }

    fn explain(&self, exchange: &mut Exchange) -> Explanation {
        let ruled = match self.rule(exchange) {
            Ok(Ruling::Allowed(rule)) => Some(format!("the rule `{}` allows it", rule.name)),
            Ok(Ruling::Open) => (!self.deny.is_empty()).then(|| "no rule denies it".to_owned()),
            Ok(Ruling::Denied(rule)) => {
                return Explanation::stop(&denied(rule), format!("the rule `{}` denies it", rule.name));
            }
            Ok(Ruling::Unmatched) => {
                let who = match (exchange.is_known(), exchange.anonymous) {
                    (true, false) => "",
                    (true, true) => ", and the call is anonymous",
                    (false, _) => ", and nobody is known to call",
                };
                return Explanation::stop(&self.unmatched(exchange), format!("no rule of `allow` applies{who}"));
            }
            Err(fault) => return failed(fault),
        };
        let mut said: Vec<String> = ruled.into_iter().collect();
        match self.cedar.as_ref().map(|cedar| cedar.judge(exchange)).transpose() {
            Ok(None) => {}
            Ok(Some(judgement)) => match self.heard(judgement.opinion(), exchange, || judgement.why()) {
                Ok(()) => said.push(judgement.why()),
                Err(stop) => return Explanation::stop(&stop, judgement.why()),
            },
            Err(fault) => return failed(fault),
        }
        said.extend(
            self.service.as_ref().map(|service| format!("the decision service at `{}` would be asked", service.name())),
        );
        Explanation::pass(said.join("; "))
    }
}

fn failed(fault: Fault) -> Explanation {
    let detail = fault.detail.to_string();
    Explanation::stop(&fault.into(), detail)
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

    /// Asks Cedar, where there are policies in it.
    #[inline]
    fn judge(&self, exchange: &Exchange) -> Verdict {
        let Some(cedar) = &self.cedar else { return Ok(()) };
        let judgement = cedar.judge(exchange)?;
        self.heard(judgement.opinion(), exchange, || judgement.why())
    }

    /// What a decision of the service comes to.
    fn decided(&self, decision: Decision, exchange: &Exchange) -> Verdict {
        let (opinion, why) = match decision {
            Decision::Allowed => (Opinion::Allows, "the decision service allows it"),
            Decision::Denied => (Opinion::Denies, "the decision service denies it"),
            Decision::Undefined => (Opinion::HasNone, "the decision service has no decision on it"),
        };
        self.heard(opinion, exchange, || why.to_owned())
    }

    /// What an opinion comes to: who is not known may try to become so where nothing was said against the call.
    fn heard(&self, opinion: Opinion, exchange: &Exchange, why: impl FnOnce() -> String) -> Verdict {
        match opinion {
            Opinion::Allows => Ok(()),
            Opinion::HasNone if !exchange.is_proven() => Err(self.unknown(&why())),
            Opinion::HasNone | Opinion::Denies => Err(forbidden(&why())),
        }
    }

    /// What is answered where no rule lets a call pass: who is not known may try to become so where that could help.
    #[cold]
    fn unmatched(&self, exchange: &Exchange) -> Stop {
        let helps = |rule: &Rule| rule.needs_caller() && rule.is_of_request(exchange);
        let mut rules = self.allow.iter().flatten();
        if !exchange.is_proven() && rules.any(helps) {
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
