//! `security_headers`: headers that tell browsers what an answer may be used for. Enforcing is the browser's part.

mod config;
#[cfg(test)]
mod tests;

use daemun_config::decode::OrOff;
use daemun_pipeline::{BuildContext, Exchange, Explanation, Line, Lines, Phase, Policy, PolicyConfig, Verdict};

pub use config::SecurityHeadersConfig;

/// Binds a browser to TLS; over cleartext it means nothing (RFC 6797, section 7.2).
const STRICT_TRANSPORT: &str = "Strict-Transport-Security";

impl PolicyConfig for SecurityHeadersConfig {
    const NAME: &'static str = "security_headers";

    fn build(self, _: &mut BuildContext<'_>) -> Option<Vec<(Phase, Box<dyn Policy>)>> {
        let on = || {
            self.all().into_iter().filter_map(|(_, name, value)| match value {
                OrOff::On(value) => Line::new(name, &value.0),
                OrOff::Off => None,
            })
        };
        let over_tls = Lines::new(on().collect());
        let cleartext = Lines::new(on().filter(|line| line.name() != STRICT_TRANSPORT).collect());
        let replaced = if self.overrides { over_tls.names().map(Into::into).collect() } else { Box::from([]) };
        Some(vec![(Phase::Admit, Box::new(SecurityHeaders { over_tls, cleartext, replaced }))])
    }
}

struct SecurityHeaders {
    over_tls: Lines,
    cleartext: Lines,
    /// Names of headers that an upstream may not set.
    replaced: Box<[Box<str>]>,
}

impl SecurityHeaders {
    fn lines(&self, exchange: &Exchange) -> &Lines {
        if exchange.is_https() { &self.over_tls } else { &self.cleartext }
    }
}

impl Policy for SecurityHeaders {
    fn on_response(&self, exchange: &mut Exchange) -> Verdict {
        let lines = self.lines(exchange);
        let head = &mut exchange.response.head;
        for name in &self.replaced {
            head.remove(name);
        }
        lines.append_absent(head);
        Ok(())
    }

    fn removed_from_answers(&self) -> &[Box<str>] {
        &self.replaced
    }

    fn explain(&self, exchange: &mut Exchange) -> Explanation {
        let names: Vec<String> = self.lines(exchange).names().map(|name| format!("`{name}`")).collect();
        if names.is_empty() {
            return Explanation::pass("adds nothing to the answer");
        }
        let unless = if self.replaced.is_empty() { ", unless the answer has them" } else { "" };
        Explanation::pass(format!("adds to the answer: {}{unless}", names.join(", ")))
    }
}
