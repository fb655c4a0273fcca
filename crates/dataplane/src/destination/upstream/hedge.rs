//! Two calls for one: the second is made when the first is not answered in time, and the answer that comes first counts. Knows nothing of
//! how an answer is passed on.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use daemun_pipeline::Fault;

use super::choice::Outcome;
use super::local::LocalUpstream;
use super::picked::Picked;
use super::reach::Site;
use super::solo;
use super::transfer::Transfer;
use crate::http1::parse::BodyLength;
use crate::http1::response::ResponseHead;
use crate::peer::Up;
use crate::serve::Trail;
use crate::snapshot::failure::Hedge;
use crate::timers::NEVER;

/// Who answered first.
enum Won {
    First(ResponseHead),
    Second(Up, ResponseHead),
}

/// Makes a second call beside one that takes long, if there is another target and the budget allows it. Gives the head of the answer that
/// came first; the transfer and `picked` are then of the call it came to. Where both fail, the first one's fault counts.
pub(super) async fn race(
    site: Site<'_>,
    transfer: &mut Transfer<'_, '_>,
    upstream: &LocalUpstream,
    hedge: &Hedge,
    picked: &mut Picked,
    framing: BodyLength,
    trail: &mut Trail,
) -> Result<ResponseHead, Fault> {
    let (worker, bounds) = (site.worker, &site.local.snapshot.settings.bounds);
    transfer.limits.hedge_at = NEVER;
    let now = worker.clock.now();
    let found = upstream.pick(transfer.exchange, site.route, &[Rc::clone(&picked.target)], now);
    let Some(mut found) = found.ok().filter(|_| hedge.budget.withdraw(now)) else {
        return transfer.until_head(bounds).await;
    };
    let mut copy = worker.copy(transfer.exchange);
    let body = transfer.exchange.request.body.clone();
    let slot = worker.timers.slot();
    let second_site = Site { deadline: &slot, ..site };
    let mut fault_of_second = None;
    let won = {
        let copy = &mut *copy;
        let call = solo::call(second_site, &mut copy.exchange, upstream, &found.target, framing, body, &mut copy.trail);
        let mut second = pin!(call);
        let (mut first_failed, mut second_failed) = (None, false);
        poll_fn(|cx| {
            if first_failed.is_none() {
                match transfer.poll_head(cx, bounds) {
                    Poll::Ready(Ok(head)) => return Poll::Ready(Ok(Won::First(head))),
                    Poll::Ready(Err(fault)) if fault.reason.status() == 499 => return Poll::Ready(Err(fault)),
                    Poll::Ready(Err(fault)) => first_failed = Some(fault),
                    Poll::Pending => {}
                }
            }
            if !second_failed {
                match second.as_mut().poll(cx) {
                    Poll::Ready(Ok((up, head))) => return Poll::Ready(Ok(Won::Second(up, head))),
                    Poll::Ready(Err(fault)) => {
                        second_failed = true;
                        fault_of_second = Some(fault);
                    }
                    Poll::Pending => {}
                }
            }
            match first_failed.take() {
                Some(fault) if second_failed => Poll::Ready(Err(fault)),
                fault => {
                    first_failed = fault;
                    Poll::Pending
                }
            }
        })
        .await
    };
    trail.attempts = trail.attempts.saturating_add(1);
    if let Some(fault) = &fault_of_second {
        found.report(Outcome::of(fault), None, worker.clock.now());
    }
    let (result, lost) = match won {
        Ok(Won::Second(up, head)) => {
            *transfer.up = up;
            transfer.upload.done = true;
            transfer.upload.moved = now;
            picked.report(Outcome::Overtaken, None, copy.exchange.times.answered);
            std::mem::swap(&mut transfer.exchange.response, &mut copy.exchange.response);
            transfer.exchange.times.connected = copy.exchange.times.connected;
            trail.target = Some(Rc::clone(&found.target));
            trail.reused = copy.trail.reused;
            (Ok(head), std::mem::replace(picked, found))
        }
        Ok(Won::First(head)) => (Ok(head), found),
        Err(fault) => (Err(fault), found),
    };
    worker.recorder.attempt_failed(&lost.target.shared.cells, 0, 0);
    worker.idle(copy);
    result
}
