//! `body_limit`: how large the body of a request may be. Judges the length that is told; what is told by none is counted by the data plane.

mod config;
#[cfg(test)]
mod tests;

use daemun_config::diagnostic;
use daemun_pipeline::{
    BuildContext, Exchange, Explanation, Fault, FieldId, Flow, Phase, Policy, PolicyConfig, Reason, Request, Stop,
    Verdict,
};

pub use config::BodyLimitConfig;

impl PolicyConfig for BodyLimitConfig {
    const NAME: &'static str = "body_limit";

    fn build(self, ctx: &mut BuildContext<'_>) -> Option<Vec<(Phase, Box<dyn Policy>)>> {
        if self.max.0 > ctx.body {
            let message = format!("`max` has no effect: `limits.body` allows {} bytes and no more", ctx.body);
            let help = "write less, or a larger `limits: { body: … }` for the route or the gateway";
            ctx.warning(diagnostic::CONTRADICTION, message, Some(help.to_owned()));
        }
        Some(vec![(Phase::Admit, Box::new(BodyLimit { max: self.max.0 }))])
    }
}

struct BodyLimit {
    max: u64,
}

impl BodyLimit {
    #[inline]
    fn judge(&self, request: &Request) -> Verdict {
        match told(request) {
            Some(length) if length > self.max && !request.grpc => Err(self.refusal()),
            Some(_) | None => Ok(()),
        }
    }

    #[cold]
    fn refusal(&self) -> Stop {
        Fault::new(Reason::BodyTooLarge, format!("the request body is larger than {} bytes", self.max)).into()
    }
}

/// The length of the body, where it is told. One that is no number of 64 bits was refused before; here it is larger than any.
#[inline]
fn told(request: &Request) -> Option<u64> {
    let length = request.head.get_id(FieldId::ContentLength)?;
    let text = std::str::from_utf8(length).ok();
    Some(text.and_then(|text| text.parse().ok()).unwrap_or(u64::MAX))
}

impl Policy for BodyLimit {
    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        let allowed = exchange.body_limit.map_or(self.max, |other| other.min(self.max));
        exchange.body_limit = Some(allowed);
        Flow::Now(self.judge(&exchange.request))
    }

    fn sees_answers(&self) -> bool {
        false
    }

    fn explain(&self, exchange: &mut Exchange) -> Explanation {
        let max = self.max;
        let detail = match told(&exchange.request) {
            _ if exchange.request.grpc => "a gRPC call is a stream, which has no limit of size".to_owned(),
            Some(length) => format!("the body has {length} bytes, and {max} are allowed"),
            None => format!("a body may have {max} bytes, and the request does not tell of one"),
        };
        match self.judge(&exchange.request) {
            Ok(()) => Explanation::pass(detail),
            Err(stop) => Explanation::stop(&stop, detail),
        }
    }
}
