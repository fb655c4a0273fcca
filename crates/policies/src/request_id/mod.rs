//! `request_id`: by which id a request is known. The data plane gives every request one, and sends it on; this says how it looks, whose
//! is taken over, and where it is told.

mod config;
mod made;
#[cfg(test)]
mod tests;

use daemun_pipeline::exchange::is_request_id;
use daemun_pipeline::{BuildContext, Exchange, Explanation, FieldId, Flow, Head, Phase, Policy, PolicyConfig, Verdict};

pub use config::{Accept, Form, RequestIdConfig};

impl PolicyConfig for RequestIdConfig {
    const NAME: &'static str = "request_id";

    fn build(self, _: &mut BuildContext<'_>) -> Option<Vec<(Phase, Box<dyn Policy>)>> {
        let is_own = FieldId::of(self.header.0.as_bytes()) == FieldId::XRequestId;
        let header: Box<str> = self.header.0.into();
        let replaced = if is_own { Box::from([]) } else { Box::from([header.clone()]) };
        let policy = RequestId {
            header,
            replaced,
            response: self.response,
            accept: self.accept,
            uuid: self.format == Form::Uuid,
        };
        Some(vec![(Phase::Admit, Box::new(policy))])
    }
}

struct RequestId {
    header: Box<str>,
    /// The header, unless it is the data plane's own.
    replaced: Box<[Box<str>]>,
    response: bool,
    accept: Accept,
    uuid: bool,
}

/// Where an id comes from.
enum Came {
    /// The caller sent it in the header.
    Sent,
    /// A trusted proxy sent it in `X-Request-Id`, and the header has none.
    Before,
    /// The gateway made it.
    Made,
}

impl RequestId {
    /// Settles the id, and puts it where the upstream looks for it.
    fn settle(&self, exchange: &mut Exchange) -> Came {
        let trusted = exchange.client.trusted;
        let accepted = match self.accept {
            Accept::Never => false,
            Accept::Trusted => trusted,
            Accept::Always => true,
        };
        // the data plane has taken over a trusted proxy's, but of no other header and from nobody else
        let head = &exchange.request.head;
        let taken = trusted && head.get_id(FieldId::XRequestId) == Some(&exchange.id);
        let came = match self.sent(head).filter(|_| accepted) {
            Some(id) => {
                exchange.id.clear();
                exchange.id.extend_from_slice(id);
                Came::Sent
            }
            None if taken && accepted => Came::Before,
            None => {
                if self.uuid || taken {
                    self.make(exchange);
                }
                Came::Made
            }
        };
        if !self.replaced.is_empty() {
            exchange.request.head.set(&self.header, &exchange.id);
        }
        exchange.hides_id = !self.response || !self.replaced.is_empty();
        came
    }

    /// The one usable id in the header.
    fn sent<'a>(&'a self, head: &'a Head) -> Option<&'a [u8]> {
        let mut values = head.values(&self.header);
        values.next().filter(|id| is_request_id(id) && values.next().is_none())
    }

    /// An id made from the random numbers of this exchange and the id it has, which no other has.
    fn make(&self, exchange: &mut Exchange) {
        let known = exchange
            .id
            .iter()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, b| (hash ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
        let drawn = [exchange.draw(known), exchange.draw(!known)];
        exchange.id.clear();
        if self.uuid { made::push_uuid(drawn, &mut exchange.id) } else { made::push_short(drawn, &mut exchange.id) }
    }
}

impl Policy for RequestId {
    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        self.settle(exchange);
        Flow::Now(Ok(()))
    }

    fn on_response(&self, exchange: &mut Exchange) -> Verdict {
        if !self.replaced.is_empty() {
            let head = &mut exchange.response.head;
            head.remove(&self.header);
            if self.response {
                head.append(&self.header, &exchange.id);
            }
        }
        Ok(())
    }

    fn removed_from_requests(&self) -> &[Box<str>] {
        &self.replaced
    }

    fn removed_from_answers(&self) -> &[Box<str>] {
        &self.replaced
    }

    fn explain(&self, exchange: &mut Exchange) -> Explanation {
        let header = &self.header;
        let from = match self.settle(exchange) {
            Came::Sent => format!("the id is the one sent in `{header}`"),
            Came::Before => "the id is the one a trusted proxy sent in `x-request-id`".to_owned(),
            Came::Made => "the id is the gateway's own".to_owned(),
        };
        let told = if self.response { "; the answer has it" } else { "; the answer does not have it" };
        Explanation::pass(format!("{from}{told}"))
    }
}
