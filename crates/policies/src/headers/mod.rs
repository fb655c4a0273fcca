//! `headers`: changes to the headers of requests and answers. Knows literal texts only.

mod config;
mod edits;
#[cfg(test)]
mod tests;

use daemun_pipeline::{BuildContext, Exchange, Explanation, Flow, Phase, Policy, PolicyConfig};

pub use config::{HeaderEdits, HeadersConfig};

use edits::Edits;

impl PolicyConfig for HeadersConfig {
    const NAME: &'static str = "headers";

    fn build(self, _: &mut BuildContext<'_>) -> Option<Vec<(Phase, Box<dyn Policy>)>> {
        let edits = |settings: Option<HeaderEdits>| settings.map(Edits::new).unwrap_or_default();
        let policy = Headers { request: edits(self.request), response: edits(self.response) };
        Some(vec![(Phase::Transform, Box::new(policy))])
    }
}

struct Headers {
    request: Edits,
    response: Edits,
}

impl Policy for Headers {
    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        self.request.apply(&mut exchange.request.head);
        Flow::Now(Ok(()))
    }

    fn on_response(&self, exchange: &mut Exchange) {
        self.response.apply(&mut exchange.response.head);
    }

    fn explain(&self, exchange: &mut Exchange) -> Explanation {
        self.request.apply(&mut exchange.request.head);
        let one = |edits: &Edits| if edits.is_empty() { "nothing".to_owned() } else { edits.describe() };
        Explanation::pass(format!("request: {}; answer: {}", one(&self.request), one(&self.response)))
    }
}
