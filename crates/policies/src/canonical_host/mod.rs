//! `canonical_host`: sends callers that came under another name to the one host.

mod config;
#[cfg(test)]
mod tests;

use daemun_pipeline::{BuildContext, Exchange, Explanation, Flow, Phase, Policy, PolicyConfig, Request, Stop};

pub use config::{CanonicalHostConfig, OneHost, OtherHost};

use crate::redirect::{Except, MovedStatus, location, moved};

impl PolicyConfig for CanonicalHostConfig {
    const NAME: &'static str = "canonical_host";

    fn build(self, _: &mut BuildContext<'_>) -> Option<Vec<(Phase, Box<dyn Policy>)>> {
        let policy = CanonicalHost {
            host: self.host.0.into(),
            from: self.from.map(|from| from.0.into()),
            status: self.status,
            except: Except::new(self.except.0),
        };
        Some(vec![(Phase::Admit, Box::new(policy))])
    }
}

struct CanonicalHost {
    host: Box<str>,
    /// `None`: every other.
    from: Option<Box<[OtherHost]>>,
    status: MovedStatus,
    except: Except,
}

/// Why a request may stay.
enum Stays<'a> {
    /// It came under the one name.
    Here,
    /// Its host is none of those that are sent on.
    Unlisted,
    /// Its path is excepted.
    Excepted(&'a str),
}

impl CanonicalHost {
    #[inline]
    fn stays(&self, request: &Request) -> Option<Stays<'_>> {
        let host = request.head.bytes(request.host);
        if host == self.host.as_bytes() {
            return Some(Stays::Here);
        }
        if self.from.as_ref().is_some_and(|from| !from.iter().any(|other| other.holds(host))) {
            return Some(Stays::Unlisted);
        }
        self.except.find(request).map(Stays::Excepted)
    }

    /// The scheme is the caller's, and so is the port, which says nothing of the name.
    #[cold]
    fn elsewhere(&self, exchange: &Exchange) -> (Stop, String) {
        let request = &exchange.request;
        let scheme = if exchange.is_https() { "https" } else { "http" };
        let to = location(scheme, self.host.as_bytes(), port(request.head.bytes(request.authority)), request);
        (moved(self.status, to.clone()), to)
    }
}

/// The port of `host:port` with its colon; empty when there is none.
fn port(authority: &[u8]) -> &[u8] {
    let behind = authority.iter().rposition(|&b| b == b']').map_or(0, |end| end + 1);
    let rest = authority.get(behind..).unwrap_or_default();
    let colon = rest.iter().rposition(|&b| b == b':').and_then(|colon| rest.get(colon..)).unwrap_or_default();
    // nothing but digits behind it, whoever read the authority before
    if colon.len() > 1 && colon.iter().skip(1).all(u8::is_ascii_digit) { colon } else { b"" }
}

impl Policy for CanonicalHost {
    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        Flow::Now(match self.stays(&exchange.request) {
            Some(_) => Ok(()),
            None => Err(self.elsewhere(exchange).0),
        })
    }

    fn sees_answers(&self) -> bool {
        false
    }

    fn explain(&self, exchange: &mut Exchange) -> Explanation {
        match self.stays(&exchange.request) {
            Some(Stays::Here) => Explanation::pass("the host is the one"),
            Some(Stays::Unlisted) => Explanation::pass("the host is none of those that are sent on"),
            Some(Stays::Excepted(path)) => Explanation::pass(format!("the path is below `{path}`, which is excepted")),
            None => {
                let (stop, to) = self.elsewhere(exchange);
                Explanation::stop(&stop, format!("the host is another, and the caller is sent to `{to}`"))
            }
        }
    }
}
