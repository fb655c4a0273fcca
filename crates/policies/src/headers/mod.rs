//! `headers`: changes to the headers of requests and answers. Knows no body.

pub(crate) mod config;
mod edits;
#[cfg(test)]
mod tests;

use daemun_pipeline::{BuildContext, Exchange, Explanation, Flow, Phase, Policy, PolicyConfig, Verdict};

pub use config::{HeaderEdits, HeadersConfig};

use edits::Edits;

impl PolicyConfig for HeadersConfig {
    const NAME: &'static str = "headers";

    fn build(self, ctx: &mut BuildContext<'_>) -> Option<Vec<(Phase, Box<dyn Policy>)>> {
        let mut edits = |settings: Option<HeaderEdits>, side: &str| match settings {
            Some(settings) => Edits::new(settings, side, ctx),
            None => Some(Edits::default()),
        };
        let (request, response) = (edits(self.request, "request"), edits(self.response, "response"));
        let (request, response) = (request?, response?);
        let mut parts: Vec<(Phase, Box<dyn Policy>)> = Vec::new();
        // answers of the gateway's own, and those to requests without a route, get the fields as well
        if !response.is_empty() {
            parts.push((Phase::Admit, Box::new(Headers { request: Edits::default(), response })));
        }
        if !request.is_empty() || parts.is_empty() {
            parts.push((Phase::Transform, Box::new(Headers { request, response: Edits::default() })));
        }
        Some(parts)
    }
}

struct Headers {
    request: Edits,
    response: Edits,
}

impl Policy for Headers {
    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        Flow::Now(self.request.apply(exchange, |exchange| &mut exchange.request.head).map_err(Into::into))
    }

    fn on_response(&self, exchange: &mut Exchange) -> Verdict {
        Ok(self.response.apply(exchange, |exchange| &mut exchange.response.head)?)
    }

    fn removed_from_requests(&self) -> &[Box<str>] {
        self.request.removed()
    }

    fn removed_from_answers(&self) -> &[Box<str>] {
        self.response.removed()
    }

    fn protects(&self) -> bool {
        false
    }

    fn explain(&self, exchange: &mut Exchange) -> Explanation {
        if let Err(fault) = self.request.apply(exchange, |exchange| &mut exchange.request.head) {
            return Explanation::stop(&fault.into(), "a value would cost too much to compute");
        }
        let parts = [("request", &self.request), ("answer", &self.response)];
        let parts = parts.iter().filter(|(_, edits)| !edits.is_empty());
        let said: Vec<String> = parts.map(|(side, edits)| format!("{side}: {}", edits.describe())).collect();
        Explanation::pass(if said.is_empty() { "changes nothing".to_owned() } else { said.join("; ") })
    }
}
