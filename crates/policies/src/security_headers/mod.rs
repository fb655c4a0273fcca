//! `security_headers`: headers that tell browsers what an answer may be used for. Enforcing is the browser's part.

mod config;
mod line;
#[cfg(test)]
mod tests;

use daemun_config::decode::OrOff;
use daemun_pipeline::{BuildContext, Exchange, Explanation, Phase, Policy, PolicyConfig, Verdict};

pub use config::SecurityHeadersConfig;

use line::Line;

/// Binds a browser to TLS; over cleartext it means nothing (RFC 6797, section 7.2).
const STRICT_TRANSPORT: &str = "Strict-Transport-Security";

impl PolicyConfig for SecurityHeadersConfig {
    const NAME: &'static str = "security_headers";

    fn build(self, _: &mut BuildContext<'_>) -> Option<Vec<(Phase, Box<dyn Policy>)>> {
        let on = self.all().into_iter().filter_map(|(_, name, value)| match value {
            OrOff::On(value) => Some(Line::new(name, &value.0)),
            OrOff::Off => None,
        });
        let lines: Box<[Line]> = on.collect();
        let replaced =
            if self.overrides { lines.iter().map(|line| line.name().into()).collect() } else { Box::from([]) };
        Some(vec![(Phase::Admit, Box::new(SecurityHeaders { lines, replaced }))])
    }
}

struct SecurityHeaders {
    lines: Box<[Line]>,
    /// Names of headers that an upstream may not set.
    replaced: Box<[Box<str>]>,
}

impl Policy for SecurityHeaders {
    fn on_response(&self, exchange: &mut Exchange) -> Verdict {
        let https = exchange.is_https();
        let head = &mut exchange.response.head;
        for name in &self.replaced {
            head.remove(name);
        }
        for line in &self.lines {
            if (https || line.name() != STRICT_TRANSPORT) && head.get(line.name()).is_none() {
                line.append(head);
            }
        }
        Ok(())
    }

    fn removed_from_answers(&self) -> &[Box<str>] {
        &self.replaced
    }

    fn explain(&self, exchange: &mut Exchange) -> Explanation {
        let https = exchange.is_https();
        let sent = self.lines.iter().filter(|line| https || line.name() != STRICT_TRANSPORT);
        let names: Vec<String> = sent.map(|line| format!("`{}`", line.name())).collect();
        if names.is_empty() {
            return Explanation::pass("adds nothing to the answer");
        }
        let unless = if self.replaced.is_empty() { ", unless the answer has them" } else { "" };
        Explanation::pass(format!("adds to the answer: {}{unless}", names.join(", ")))
    }
}
