//! `fault_injection`: calls that take longer or fail on purpose, for tests. Which ones is drawn; waiting is the destination's part.

mod config;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use daemun_config::decode::Percent;
use daemun_pipeline::{Answer, BuildContext, Exchange, Explanation, Flow, Phase, Policy, PolicyConfig, Stop, Verdict};

pub use config::{Abort, Delay, FaultInjectionConfig};

/// What tells the draw of delays from other draws for the same exchange.
const DELAY_SALT: u64 = 0x6465_6c61_7921_0001;
/// The same for aborts.
const ABORT_SALT: u64 = 0x6162_6f72_7421_0001;

impl PolicyConfig for FaultInjectionConfig {
    const NAME: &'static str = "fault_injection";

    fn build(self, _: &mut BuildContext<'_>) -> Option<Vec<(Phase, Box<dyn Policy>)>> {
        let policy = FaultInjection {
            delay: self.delay.map(|delay| (u64::try_from(delay.time.as_nanos()).unwrap_or(u64::MAX), delay.share)),
            abort: self.abort.map(|abort| (Box::new(answer(abort.status)), abort.share)),
            when_header: self.when_header.map(|name| name.0.into()),
        };
        Some(vec![(Phase::Transform, Box::new(policy))])
    }
}

/// A problem document (RFC 9457) that says that nothing is wrong but on purpose.
fn answer(status: u16) -> Answer {
    let body = format!("{{\"type\":\"about:blank\",\"status\":{status},\"detail\":\"this failure is injected\"}}");
    let fields = vec![("content-type".to_owned(), "application/problem+json".to_owned())];
    Answer { status, fields, body: Bytes::from(body) }
}

struct FaultInjection {
    /// Nanoseconds, and of how many calls.
    delay: Option<(u64, Percent)>,
    abort: Option<(Box<Answer>, Percent)>,
    when_header: Option<Box<str>>,
}

/// Whether an exchange is among a share of all.
fn is_drawn(exchange: &Exchange, salt: u64, share: Percent) -> bool {
    share.basis_points > 0 && exchange.draw(salt) % 10_000 < u64::from(share.basis_points)
}

impl FaultInjection {
    fn is_meant(&self, exchange: &Exchange) -> bool {
        self.when_header.as_deref().is_none_or(|name| exchange.request.head.get(name).is_some())
    }

    fn inject(&self, exchange: &mut Exchange) -> Verdict {
        if !self.is_meant(exchange) {
            return Ok(());
        }
        if let Some((answer, share)) = &self.abort
            && is_drawn(exchange, ABORT_SALT, *share)
        {
            return Err(Stop::Answer(answer.clone()));
        }
        if let Some((delay, share)) = self.delay
            && is_drawn(exchange, DELAY_SALT, share)
        {
            exchange.delay = exchange.delay.saturating_add(delay);
        }
        Ok(())
    }
}

impl Policy for FaultInjection {
    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        Flow::Now(self.inject(exchange))
    }

    fn sees_answers(&self) -> bool {
        false
    }

    /// What is drawn cannot be told before; what becomes of every call can.
    fn protects(&self) -> bool {
        false
    }

    fn explain(&self, exchange: &mut Exchange) -> Explanation {
        if !self.is_meant(exchange) {
            let name = self.when_header.as_deref().unwrap_or_default();
            return Explanation::pass(format!("the request has no `{name}`, so nothing is done to it"));
        }
        let mut parts = Vec::new();
        if let Some((answer, share)) = &self.abort {
            let part = format!("{} of the calls are answered with {}", percent(*share), answer.status);
            if share.basis_points == 10_000 {
                return Explanation::stop(&Stop::Answer(answer.clone()), part);
            }
            parts.push(part);
        }
        if let Some((delay, share)) = self.delay {
            parts.push(format!("{} of the calls are held up for {} ms", percent(share), delay / 1_000_000));
        }
        Explanation::pass(parts.join("; "))
    }
}

/// As an operator writes it.
fn percent(share: Percent) -> String {
    let (whole, rest) = (share.basis_points / 100, share.basis_points % 100);
    if rest == 0 { format!("{whole}%") } else { format!("{whole}.{rest:02}%") }
}
