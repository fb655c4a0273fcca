//! Where a route ends: an upstream, an answer, a redirect.

pub(crate) mod upstream;

use daemun_pipeline::{Answer, Exchange, Fault, Reason, Stop};

use crate::serve::{Ask, Trail};
use crate::snapshot::{Destination, Redirect};
use upstream::gate;
use upstream::rest::Rest;

/// Ends the way inward; of a call that may last, gives what is left of it. An answer of the gateway's own is a stop like a policy's.
pub(crate) async fn send(
    ask: &mut Ask<'_, '_>,
    exchange: &mut Exchange,
    trail: &mut Trail,
) -> Result<Option<Box<Rest>>, Stop> {
    match &ask.route.destination {
        Destination::Upstream(index) => {
            let local = ask.local;
            let upstream =
                local.upstreams.get(*index).ok_or_else(|| Fault::new(Reason::Internal, "an upstream is missing"))?;
            gate::enter(ask, exchange, upstream, trail).await?;
            let result = upstream::send(ask, exchange, upstream, trail).await;
            gate::called(&result, ask, exchange, trail);
            result
        }
        Destination::Answer(answer) => Err(Stop::Answer(answer.clone())),
        Destination::Redirect(to) => Err(Stop::Answer(Box::new(redirect(to, exchange)))),
    }
}

/// The answer of a redirect.
pub(crate) fn redirect(redirect: &Redirect, exchange: &Exchange) -> Answer {
    let mut location = Vec::new();
    redirect.to.push_location(exchange, &mut location);
    let location = String::from_utf8_lossy(&location).into_owned();
    Answer { status: redirect.status, fields: vec![("location".to_owned(), location)], body: bytes::Bytes::new() }
}
