//! `plan`: how often a consumer may call, over all routes, by the plans that it is on. Knows no clock but the exchange's, and not where plans
//! and counts last.

mod config;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::sync::Arc;

use daemun_accounts::Accounts;
use daemun_accounts::gcra::{seconds, units};
use daemun_accounts::plan::{Entitled, Plan, Short, day_of};
use daemun_config::diagnostic;
use daemun_pipeline::{
    BuildContext, Directory, Exchange, Explanation, Fault, Flow, Phase, Policy, PolicyConfig, Reason, Stop, Verdict,
};

pub use config::PlanConfig;

use crate::per_directory::PerDirectory;

impl PolicyConfig for PlanConfig {
    const NAME: &'static str = "plan";
    const IMPLIED: bool = true;

    fn build(self, ctx: &mut BuildContext<'_>) -> Option<Vec<(Phase, Box<dyn Policy>)>> {
        if !ctx.authenticated {
            // for all routes, it is for those that have one
            let Some(route) = ctx.route else { return Some(Vec::new()) };
            let message = format!("`plan` needs an authenticator, and route `{route}` has none");
            let help = "add one such as `key_auth`, or leave `plan` out: routes with one have it by themselves";
            ctx.error(diagnostic::NEEDS_AUTHENTICATOR, message, Some(help.to_owned()));
            return None;
        }
        // before: what is carried over is looked for one at a time
        let accounts = Accounts::of(ctx.carry);
        let declared = PerDirectory::of(ctx, Self::NAME, |directory| entitle(directory, &accounts));
        Some(vec![(Phase::Limit, Box::new(CallersPlan { declared, accounts }))])
    }
}

/// What each consumer of the configuration may use, by position; empty where none is on a plan.
type Declared = Box<[Option<Arc<Entitled>>]>;

fn entitle(directory: &Directory, accounts: &Accounts) -> Declared {
    if directory.iter().all(|(_, consumer)| consumer.plans.is_empty()) {
        return Box::default();
    }
    let find = |name: &str| directory.plan(name).cloned();
    directory.iter().map(|(_, consumer)| accounts.entitle(&consumer.name, &consumer.plans, find)).collect()
}

struct CallersPlan {
    declared: Arc<PerDirectory<Declared>>,
    accounts: Arc<Accounts>,
}

impl Policy for CallersPlan {
    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        Flow::Now(self.with_entitled(exchange, |entitled| take(entitled, exchange)).unwrap_or(Ok(())))
    }

    fn sees_answers(&self) -> bool {
        false
    }

    fn explain(&self, exchange: &mut Exchange) -> Explanation {
        let explained = self.with_entitled(exchange, |entitled| explain(entitled, exchange));
        explained.unwrap_or_else(|| Explanation::pass("the caller is on no plan"))
    }
}

impl CallersPlan {
    /// What the caller may use; nothing where it is on no plan.
    #[inline]
    fn with_entitled<T>(&self, exchange: &Exchange, with: impl FnOnce(&Entitled) -> T) -> Option<T> {
        if let Some(consumer) = exchange.consumer {
            return self.declared.value.get(consumer.0 as usize)?.as_deref().map(with);
        }
        // nobody who is no consumer of the store has the name of one
        self.accounts.with_entitled(&exchange.identity.as_ref()?.subject, with)
    }
}

#[inline]
fn take(entitled: &Entitled, exchange: &Exchange) -> Verdict {
    entitled.take(units(exchange.now()), day_of(exchange.wall / 1_000_000)).map_err(|short| refusal(&short))
}

fn explain(entitled: &Entitled, exchange: &Exchange) -> Explanation {
    let shares = match entitled {
        Entitled::Plans(shares) => shares,
        Entitled::Missing(name) => {
            return Explanation::stop(
                &refusal(&Short::Missing(name)),
                format!("the caller is on plan `{name}`, which is nowhere"),
            );
        }
    };
    let mut detail = String::new();
    for share in shares {
        let plan = &share.plan;
        match share.left(units(exchange.now())) {
            Ok(left) => {
                let separator = if detail.is_empty() { "" } else { ", " };
                let _ = write!(detail, "{separator}plan `{}` has {left} of {} left", plan.name, plan.burst());
            }
            Err(wait) => {
                let detail = format!("plan `{}` is used up for {} s", plan.name, seconds(wait));
                return Explanation::stop(&refusal(&Short::UsedUp(plan, wait)), detail);
            }
        }
    }
    Explanation::pass(detail)
}

#[cold]
fn refusal(short: &Short<'_>) -> Stop {
    let fault = match short {
        Short::UsedUp(plan, wait) => used_up(plan, seconds(*wait)),
        Short::Missing(name) => {
            let detail =
                "the plan of the caller is not there: whoever runs the gateway must put the caller on another one";
            let cause = format!("the caller is on plan `{name}`, which neither the configuration nor the store has");
            Fault::new(Reason::Forbidden, detail).cause(cause)
        }
    };
    Stop::Fault(fault)
}

fn used_up(plan: &Plan, wait: u64) -> Fault {
    let Plan { name, limit, .. } = plan;
    let detail = format!("plan `{name}` ({limit}) is used up; the next call will be admitted in {wait} s");
    Fault::new(Reason::RateLimited, detail)
        .field("Retry-After", wait.to_string())
        .field("RateLimit-Policy", format!("\"{name}\";q={};w={}", limit.count, limit.per.duration().as_secs()))
        .field("RateLimit", format!("\"{name}\";r=0;t={wait}"))
}
