//! A call that is made without its client: its body is here whole, and nobody waits to be told of interim answers. Knows neither how its
//! target was found nor what becomes of the answer.

use std::future::poll_fn;
use std::task::{Context, Poll};

use daemun_pipeline::{Exchange, Fault, Method, Reason};

use super::local::LocalUpstream;
use super::picked::Awaited;
use super::pool::LocalTarget;
use super::reach::{self, Site};
use crate::http1::parse::{BodyLength, Bounds};
use crate::http1::response::ResponseHead;
use crate::http1::up::Said;
use crate::peer::Up;
use crate::pipe::Pipe;
use crate::serve::Trail;

/// Makes it, and gives the connection with the head of its answer, which stands in the exchange. `awaited` is told when it was sent, and
/// dropped when it has ended.
#[allow(clippy::too_many_arguments, reason = "the parts of one call, passed on once")]
pub(crate) async fn call(
    site: Site<'_>,
    exchange: &mut Exchange,
    upstream: &LocalUpstream,
    target: &LocalTarget,
    framing: BodyLength,
    body: Option<Vec<u8>>,
    awaited: &mut Option<Awaited>,
    trail: &mut Trail,
) -> Result<(Up, ResponseHead), Fault> {
    let result = async {
        let mut up = reach::begin(site, exchange, upstream, target, None, framing, trail).await?;
        let bounds = &site.local.snapshot.settings.bounds;
        let limits = reach::limits(site, exchange, upstream, false);
        let until = site.worker.clock.now().saturating_add(limits.response);
        let mut body = Pipe::whole(body.unwrap_or_default(), None);
        let head = poll_fn(|cx| {
            let polled = poll_head(cx, site, &mut up, exchange, &mut body, bounds, until);
            if let Some(awaited) = awaited.as_mut().filter(|awaited| !awaited.is_sent())
                && body.is_finished()
                && up.all_written()
            {
                awaited.sent(site.worker.clock.now());
            }
            polled
        })
        .await?;
        exchange.times.answered = site.worker.clock.now();
        Ok((up, head))
    };
    let result = result.await;
    *awaited = None;
    result
}

fn poll_head(
    cx: &mut Context<'_>,
    site: Site<'_>,
    up: &mut Up,
    exchange: &mut Exchange,
    body: &mut Pipe,
    bounds: &Bounds,
    until: u64,
) -> Poll<Result<ResponseHead, Fault>> {
    if !body.is_finished() || !up.all_written() {
        // one that cannot be written may have been answered; if not, reading its head says so
        let _ = up.poll_drain(cx, body);
    }
    let bodyless = exchange.request.method == Method::Head;
    loop {
        match up.poll_head(cx, exchange, bounds, bodyless) {
            Poll::Ready(Ok(Said::Final(head))) => return Poll::Ready(Ok(head)),
            Poll::Ready(Ok(Said::Interim(_))) => exchange.response.head.clear(),
            Poll::Ready(Err(fault)) => return Poll::Ready(Err(fault)),
            Poll::Pending => break,
        }
    }
    let late = || Err(Fault::new(Reason::UpstreamTimeout, "the backend did not answer in time"));
    site.deadline.poll_until(cx, until).map(|()| late())
}
