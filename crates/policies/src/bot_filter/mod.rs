//! `bot_filter`: which programs may call, by what they say they are. Keeps honest ones away; whoever lies is not found here.

mod agents;
mod config;
mod passed;
#[cfg(test)]
mod tests;

use daemun_config::decode::OneOrMany;
use daemun_config::diagnostic;
use daemun_pipeline::{
    BuildContext, Exchange, Explanation, Fault, Flow, Phase, Policy, PolicyConfig, Reason, Request, Stop,
};

pub use config::{Agent, BotFilterConfig, Empty};

use agents::Agents;
use passed::Passed;

const FIELD: &str = "User-Agent";

impl PolicyConfig for BotFilterConfig {
    const NAME: &'static str = "bot_filter";

    fn build(self, ctx: &mut BuildContext<'_>) -> Option<Vec<(Phase, Box<dyn Policy>)>> {
        let mut compile = |list: Option<OneOrMany<Agent>>| {
            let compiled = Agents::new(&list.map(|list| list.0).unwrap_or_default());
            compiled.map_err(|error| ctx.error(diagnostic::BAD_VALUE, error, None)).ok()
        };
        let (deny, allow) = (compile(self.deny), compile(self.allow));
        let policy =
            BotFilter { deny: deny?, allow: allow?, deny_empty: self.empty == Empty::Deny, passed: Passed::new() };
        Some(vec![(Phase::Admit, Box::new(policy))])
    }
}

struct BotFilter {
    deny: Agents,
    allow: Agents,
    deny_empty: bool,
    passed: Passed,
}

/// What a program is refused for.
enum Refused<'a> {
    Empty,
    Denied(&'a [u8]),
}

impl BotFilter {
    /// Of several headers, which back ends read differently, each must be one that may call.
    fn judge<'a>(&self, request: &'a Request) -> Result<(), Refused<'a>> {
        let mut empty = true;
        for value in request.head.values(FIELD).filter(|value| !value.is_empty()) {
            empty = false;
            if !self.passed.holds(value, || !self.deny.are_in(value, true) || self.allow.are_in(value, false)) {
                return Err(Refused::Denied(value));
            }
        }
        if empty && self.deny_empty { Err(Refused::Empty) } else { Ok(()) }
    }
}

impl Policy for BotFilter {
    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        Flow::Now(self.judge(&exchange.request).map_err(|_| refusal()))
    }

    fn sees_answers(&self) -> bool {
        false
    }

    fn explain(&self, exchange: &mut Exchange) -> Explanation {
        let request = &exchange.request;
        match self.judge(request) {
            Err(Refused::Empty) => Explanation::stop(&refusal(), "the request does not say what program calls"),
            Err(Refused::Denied(value)) => {
                let why = match self.deny.first_in(value) {
                    Some(entry) => format!("`User-Agent` holds `{entry}`, which is denied"),
                    None => "`User-Agent` is longer than the expressions of `deny` go through".to_owned(),
                };
                Explanation::stop(&refusal(), why)
            }
            Ok(()) => {
                let excepted = request.head.values(FIELD).filter(|value| self.deny.are_in(value, true));
                Explanation::pass(match excepted.filter_map(|value| self.allow.first_in(value)).next() {
                    Some(entry) => format!("`User-Agent` holds `{entry}`, which is allowed"),
                    None => "`User-Agent` holds nothing that is denied".to_owned(),
                })
            }
        }
    }
}

#[cold]
fn refusal() -> Stop {
    Fault::new(Reason::Forbidden, "calls of this program are not allowed").cause("the user agent is denied").into()
}
