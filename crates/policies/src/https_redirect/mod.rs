//! `https_redirect`: sends callers that came without TLS to the same address over TLS.

mod config;
#[cfg(test)]
mod tests;

use daemun_pipeline::{
    BuildContext, Exchange, Explanation, Fault, Flow, Phase, Policy, PolicyConfig, Reason, Stop, Verdict,
};

pub use config::HttpsRedirectConfig;

use crate::redirect::{Except, MovedStatus, location, moved};

impl PolicyConfig for HttpsRedirectConfig {
    const NAME: &'static str = "https_redirect";

    fn build(self, _: &mut BuildContext<'_>) -> Option<Vec<(Phase, Box<dyn Policy>)>> {
        let port = match self.port.get() {
            443 => String::new(),
            port => format!(":{port}"),
        };
        let policy = HttpsRedirect { port: port.into(), status: self.status, except: Except::new(self.except.0) };
        Some(vec![(Phase::Admit, Box::new(policy))])
    }
}

struct HttpsRedirect {
    /// With its colon; empty for the scheme's own.
    port: Box<str>,
    status: MovedStatus,
    except: Except,
}

impl HttpsRedirect {
    fn judge(&self, exchange: &Exchange) -> Verdict {
        if exchange.is_https() || self.except.find(&exchange.request).is_some() {
            return Ok(());
        }
        Err(self.elsewhere(exchange))
    }

    #[cold]
    fn elsewhere(&self, exchange: &Exchange) -> Stop {
        let request = &exchange.request;
        if request.host.is_empty() {
            // of an HTTP/1.0 client: nothing says which address it meant
            let detail = "this is served over TLS only, and the request names no host to go on to";
            return Fault::new(Reason::BadHost, detail).into();
        }
        let host = request.head.bytes(request.host);
        moved(self.status, location("https", host, self.port.as_bytes(), request))
    }
}

impl Policy for HttpsRedirect {
    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        Flow::Now(self.judge(exchange))
    }

    fn sees_answers(&self) -> bool {
        false
    }

    fn explain(&self, exchange: &mut Exchange) -> Explanation {
        let except = self.except.find(&exchange.request);
        match (self.judge(exchange), except) {
            (Ok(()), _) if exchange.is_https() => Explanation::pass("the caller came over TLS"),
            (Ok(()), except) => {
                Explanation::pass(format!("the path is below `{}`, which is excepted", except.unwrap_or_default()))
            }
            (Err(stop), _) => {
                let detail = match &stop {
                    Stop::Answer(answer) => {
                        let to = answer.fields.first().map_or("", |(_, to)| to);
                        format!("the caller came without TLS, and is sent to `{to}`")
                    }
                    Stop::Fault(_) => "the caller came without TLS and names no host".to_owned(),
                };
                Explanation::stop(&stop, detail)
            }
        }
    }
}
