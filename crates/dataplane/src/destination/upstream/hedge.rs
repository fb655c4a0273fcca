//! Two calls for one: the second is made when the first is not answered in time, and the answer that comes first counts. Knows nothing of
//! how an answer is passed on.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use daemun_pipeline::{Fault, Reason};

use super::choice::Outcome;
use super::gate;
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
use crate::worker::Busy;

/// Who answered first.
enum Won {
    First(ResponseHead),
    Second(Up, ResponseHead),
    /// The second failed, and the first is waited for as if there had been none.
    Neither,
}

/// Makes a second call beside one that takes long, if there is another target and the budget allows it. Gives the head of the answer that
/// came first; the transfer and `picked` are then of the call it came to. `None` where the first is to be waited for alone: no second call
/// is made, or it failed.
pub(super) async fn race(
    site: Site<'_>,
    transfer: &mut Transfer<'_, '_>,
    upstream: &LocalUpstream,
    hedge: &Hedge,
    picked: &mut Picked,
    framing: BodyLength,
    trail: &mut Trail,
) -> Option<Result<ResponseHead, Fault>> {
    let worker = site.worker;
    transfer.limits.look_at = NEVER;
    let now = worker.clock.now();
    // before a target is picked: one that is tried again is not, if nothing is made of it
    if !hedge.budget.withdraw(now) {
        return None;
    }
    let found = upstream.pick(transfer.exchange, site.route, &[Rc::clone(&picked.target)], now);
    let found = found.ok().and_then(|found| gate::beside(upstream, &found.target).map(|permit| (found, permit)));
    let Some((mut found, permit)) = found else {
        hedge.budget.give_back();
        return None;
    };
    let mut copy = worker.copy(transfer.exchange);
    let body = transfer.exchange.request.body.clone();
    let slot = worker.timers.slot();
    let second_site = Site { deadline: &slot, ..site };
    let mut awaited = found.awaited(false);
    let (won, fault_of_second) = {
        let Busy { exchange, trail } = &mut *copy;
        let target = &found.target;
        let second = pin!(solo::call(second_site, exchange, upstream, target, framing, body, &mut awaited, trail));
        first_of(transfer, site, second).await
    };
    trail.attempts = trail.attempts.saturating_add(1);
    trail.hedged = true;
    upstream.cells.count_hedge();
    match (&won, &fault_of_second) {
        (_, Some(fault)) => found.report(Outcome::of(fault), None, worker.clock.now()),
        (Ok(Won::Second(..) | Won::Neither), None) => {}
        // it was given up unanswered, which tells something of a target that is tried
        (Ok(Won::First(_)) | Err(_), None) => found.end(Outcome::Cancelled, awaited.take(), worker.clock.now()),
    }
    let (result, lost) = match won {
        Ok(Won::Second(up, head)) => {
            *transfer.up = up;
            // the answer may come before all of the body is sent: nothing more of it is, and its connection is not used again
            transfer.upload.done = transfer.up.all_written();
            transfer.upload.refused = !transfer.upload.done;
            if permit.is_some() {
                trail.permit = permit;
            }
            transfer.upload.moved = now;
            picked.report(Outcome::Overtaken, None, copy.exchange.times.answered);
            std::mem::swap(&mut transfer.exchange.response, &mut copy.exchange.response);
            transfer.exchange.times.begin_again(now);
            transfer.exchange.times.connected = copy.exchange.times.connected;
            trail.target = Some(Rc::clone(&found.target));
            trail.reused = copy.trail.reused;
            (Some(Ok(head)), std::mem::replace(picked, found))
        }
        Ok(Won::First(head)) => (Some(Ok(head)), found),
        Ok(Won::Neither) => (None, found),
        Err(fault) => (Some(Err(fault)), found),
    };
    worker.recorder.attempt_failed(&lost.target.shared.cells, 0, 0);
    worker.idle(copy);
    result
}

/// Waits for the answer that comes first, or for the second call to fail, and gives its fault. Where both fail, the first one's counts.
async fn first_of(
    transfer: &mut Transfer<'_, '_>,
    site: Site<'_>,
    mut second: Pin<&mut impl Future<Output = Result<(Up, ResponseHead), Fault>>>,
) -> (Result<Won, Fault>, Option<Fault>) {
    let bounds = &site.local.snapshot.settings.bounds;
    let (mut first_failed, mut second_failed): (Option<Fault>, _) = (None, None);
    let won = poll_fn(|cx| {
        if first_failed.is_none() {
            match transfer.poll_head(cx, bounds) {
                Poll::Ready(Ok(head)) => return Poll::Ready(Ok(Won::First(head))),
                Poll::Ready(Err(fault)) if fault.reason.status() == 499 => return Poll::Ready(Err(fault)),
                Poll::Ready(Err(fault)) => first_failed = Some(fault),
                Poll::Pending => {}
            }
        } else if transfer.down.poll_gone(cx, &site.worker.buffers).is_ready() {
            return Poll::Ready(Err(Fault::new(Reason::ClientGone, "the client left before the answer")));
        }
        match second.as_mut().poll(cx) {
            Poll::Ready(Ok((up, head))) => Poll::Ready(Ok(Won::Second(up, head))),
            Poll::Ready(Err(fault)) => {
                second_failed = Some(fault);
                Poll::Ready(first_failed.take().map_or(Ok(Won::Neither), Err))
            }
            Poll::Pending => Poll::Pending,
        }
    });
    let won = won.await;
    (won, second_failed)
}
