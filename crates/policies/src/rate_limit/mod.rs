//! `rate_limit`: how often callers may call. Decides from memory, without a lock; knows no clock but the exchange's.

mod buckets;
mod config;
mod subject;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use daemun_pipeline::{
    BuildContext, Exchange, Explanation, Fault, Flow, Phase, Policy, PolicyConfig, Reason, Stop, Verdict,
};

pub use config::{By, LimitConfig, RateLimitConfig};

use config::MAX_LIMITS;
use daemun_accounts::gcra::{Gcra, Taken, seconds, units};
use subject::Subject;

impl PolicyConfig for RateLimitConfig {
    const NAME: &'static str = "rate_limit";

    fn build(self, ctx: &mut BuildContext<'_>) -> Option<Vec<(Phase, Box<dyn Policy>)>> {
        let mut by_phase: Vec<(Phase, Vec<Limit>)> = vec![(Phase::Admit, Vec::new()), (Phase::Limit, Vec::new())];
        let mut complete = true;
        for settings in self.0 {
            let phase = settings.by.phase();
            let limit = Limit::build(&settings, ctx);
            complete &= limit.is_some();
            if let Some((_, limits)) = by_phase.iter_mut().find(|(of, _)| *of == phase) {
                limits.extend(limit);
            }
        }
        let policies = by_phase.into_iter().filter(|(_, limits)| !limits.is_empty()).map(|(phase, limits)| {
            let policy: Box<dyn Policy> = Box::new(RateLimit { limits: limits.into() });
            (phase, policy)
        });
        complete.then(|| policies.collect())
    }
}

/// The limits of one phase; all must admit a call, and a call that one refuses costs nothing at the others.
struct RateLimit {
    limits: Box<[Limit]>,
}

/// One limit.
struct Limit {
    name: Box<str>,
    gcra: Gcra,
    burst: u64,
    subject: Subject,
    /// Value of `RateLimit-Policy`.
    policy: Box<str>,
    /// As written, for people.
    rate: Box<str>,
    announced: bool,
}

impl Policy for RateLimit {
    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        Flow::Now(self.decide(exchange))
    }

    fn on_response(&self, exchange: &mut Exchange) -> Verdict {
        for limit in self.limits.iter().filter(|limit| limit.announced) {
            limit.announce(exchange);
        }
        Ok(())
    }

    fn explain(&self, exchange: &mut Exchange) -> Explanation {
        let now = units(exchange.now());
        let mut detail = String::new();
        for limit in &self.limits {
            let full_at = limit.subject.full_at(exchange);
            if let Err(wait) = limit.gcra.admit(full_at, now) {
                let wait = seconds(wait);
                return Explanation::stop(&limit.refusal(wait), format!("`{}` is used up for {wait} s", limit.name));
            }
            let separator = if detail.is_empty() { "" } else { ", " };
            let left = limit.gcra.left(full_at, now);
            let _ = write!(detail, "{separator}`{}` has {left} of {} left", limit.name, limit.burst);
        }
        Explanation::pass(detail)
    }
}

impl RateLimit {
    fn decide(&self, exchange: &Exchange) -> Verdict {
        let now = units(exchange.now());
        match &*self.limits {
            [only] => match only.subject.take(only.gcra, exchange, now) {
                Ok(_) => Ok(()),
                Err(wait) => Err(only.refusal(seconds(wait))),
            },
            limits => take_all(limits, exchange, now),
        }
    }
}

/// Takes one token of each or none. They are looked at first, so that a refused call leaves no trace; only when another thread takes a
/// last token in between must tokens be given back, and then one may be lost.
fn take_all(limits: &[Limit], exchange: &Exchange, now: u64) -> Verdict {
    for limit in limits {
        if let Err(wait) = limit.gcra.admit(limit.subject.full_at(exchange), now) {
            return Err(limit.refusal(seconds(wait)));
        }
    }
    let mut taken: [Option<Taken<'_>>; MAX_LIMITS] = Default::default();
    for (limit, slot) in limits.iter().zip(&mut taken) {
        match limit.subject.take(limit.gcra, exchange, now) {
            Ok(token) => *slot = Some(token),
            Err(wait) => {
                taken.iter().flatten().for_each(Taken::give_back);
                return Err(limit.refusal(seconds(wait)));
            }
        }
    }
    Ok(())
}

impl Limit {
    fn build(settings: &LimitConfig, ctx: &mut BuildContext<'_>) -> Option<Limit> {
        let (name, rate) = (settings.name(), settings.limit);
        if settings.by == By::Consumer && !ctx.authenticated {
            let message = match ctx.route {
                Some(route) => format!("`by: consumer` needs an authenticator, and route `{route}` has none"),
                None => "`by: consumer` needs an authenticator on every route, and one has none".to_owned(),
            };
            let help = "add one such as `key_auth`, count `by: client_ip`, or switch the limit off there with `rate_limit: off`";
            ctx.error(daemun_config::diagnostic::NEEDS_AUTHENTICATOR, message, Some(help.to_owned()));
            return None;
        }
        let Some(gcra) = settings.gcra() else {
            let message = format!("a burst of {} at `{rate}` would take too long to come back", settings.burst());
            ctx.error(daemun_config::diagnostic::BAD_VALUE, message, None);
            return None;
        };
        Some(Limit {
            policy: format!("\"{name}\";q={};w={}", rate.count, rate.per.duration().as_secs()).into(),
            name: name.into(),
            gcra,
            burst: settings.burst(),
            subject: Subject::build(settings, ctx)?,
            rate: rate.to_string().into(),
            announced: settings.headers,
        })
    }

    #[cold]
    fn refusal(&self, wait: u64) -> Stop {
        let detail = format!("the limit of {} is used up; the next call will be admitted in {wait} s", self.rate);
        let fault = Fault::new(Reason::RateLimited, detail)
            .field("Retry-After", wait.to_string())
            .field("RateLimit-Policy", &*self.policy)
            .field("RateLimit", format!("\"{}\";r=0;t={wait}", self.name));
        Stop::Fault(fault)
    }

    /// Adds what is left to an answer that this limit did not refuse.
    fn announce(&self, exchange: &mut Exchange) {
        let full_at = self.subject.full_at(exchange);
        let now = units(exchange.now());
        let left = self.gcra.left(full_at, now);
        let mut value = format!("\"{}\";r={left}", self.name);
        if exchange
            .response
            .head
            .values("RateLimit")
            .any(|known| known.starts_with(format!("\"{}\";", self.name).as_bytes()))
        {
            return;
        }
        if full_at > now {
            let _ = write!(value, ";t={}", seconds(full_at - now));
        }
        exchange.response.head.append("RateLimit-Policy", self.policy.as_bytes());
        exchange.response.head.append("RateLimit", value.as_bytes());
    }
}
