//! Finds a place for a new connection; where there is none, what rests makes room. Knows nothing of how the connection is made.

use std::rc::Rc;
use std::sync::Arc;

use daemun_pipeline::{Fault, Reason};

use super::budget::{ASKING, Budget, Missing, Place, Share};
use super::local::LocalUpstream;
use super::pool::{Closed, LocalTarget, Pool};
use super::reach::Site;
use crate::worker::Worker;

/// A connection that rested so long, nanoseconds, is spare, and serves even an upstream that has its share already.
const SPARE: u64 = 1_000_000_000;

/// A place for a new connection. Where there is none, connections that rest in this worker are closed, the oldest first, then those of
/// other workers.
pub(crate) async fn find(site: Site<'_>, upstream: &LocalUpstream, target: &LocalTarget) -> Result<Place, Fault> {
    let worker = site.worker;
    let budget = &worker.shared.budget;
    let most = budget.most(site.local.snapshot.settings.connections);
    let alone = site.local.upstreams.len() == 1;
    let take = || take(budget, upstream, target, most, alone);
    if let Ok(place) = take() {
        return Ok(place);
    }
    let slot = worker.timers.slot();
    let mut end = None;
    loop {
        // whatever is closed from here on wakes the wait below
        let closed = budget.closed();
        let missing = match take() {
            Ok(place) => return Ok(place),
            Err(missing) => missing,
        };
        let now = worker.clock.now();
        // what others asked for may have been closed before this call came: it waits for the end of that, and asks itself
        let limit = match missing {
            Missing::Place | Missing::Share => 2 * ASKING,
            // no more calls are let in than these should do for: one of them is about to rest, or to be closed
            Missing::Upstream | Missing::Target => site.route.own.connect.unwrap_or(upstream.shared.connect),
        };
        let end = *end.get_or_insert(now.saturating_add(limit));
        let _wanted = budget.want(&upstream.share, missing);
        let until = match close_oldest(worker, upstream, missing, now) {
            Closed::AtOnce => continue,
            Closed::Soon => Some(end),
            Closed::Nothing => budget.ask(&upstream.share, missing, now),
        };
        let Some(until) = until.filter(|_| now < end) else { return Err(none_left()) };
        slot.set(until.min(end));
        let _ = slot.limit(closed).await;
    }
}

/// A place, where neither the upstream nor the target has as many connections as it may.
fn take(
    budget: &Arc<Budget>,
    upstream: &LocalUpstream,
    target: &LocalTarget,
    most: usize,
    alone: bool,
) -> Result<Place, Missing> {
    let mut place = budget.take(&upstream.share, most, alone)?;
    // counted already, so that of several that come at once none is too many
    if upstream.share.open() > upstream.shared.connections {
        return Err(Missing::Upstream);
    }
    if let Some(bound) = &target.bound {
        place.target = Some(bound.connect().ok_or(Missing::Target)?);
    }
    Ok(place)
}

/// Closes the connection that has rested longest. For an upstream that has its share, this is one of its own or a spare one.
fn close_oldest(worker: &Worker, upstream: &LocalUpstream, missing: Missing, now: u64) -> Closed {
    let oldest = |pool: &Rc<Pool>, share: Option<&Share>| {
        let (since, resting) = pool.oldest(share, now)?;
        Some((since, Rc::clone(pool), resting))
    };
    let pools = worker.pools.all();
    let all = pools.values().filter_map(|pool| oldest(pool, None));
    let targets = upstream.targets();
    let own = targets.iter().filter_map(|target| oldest(&target.pool, Some(&upstream.share)));
    let found = match missing {
        Missing::Place => all.min_by_key(|(since, ..)| *since),
        // only its own would help
        Missing::Upstream => own.min_by_key(|(since, ..)| *since),
        // where one to the target rested here, the call would have gone over it
        Missing::Target => None,
        Missing::Share => {
            let spare = all.filter(|(since, ..)| now.saturating_sub(*since) >= SPARE);
            spare.chain(own).min_by_key(|(since, ..)| *since)
        }
    };
    found.map_or(Closed::Nothing, |(_, pool, resting)| pool.close(resting))
}

/// Closes what other workers want whenever one of them asks; runs as long as the worker.
pub(crate) async fn close_when_asked(worker: Rc<Worker>) {
    let budget = &worker.shared.budget;
    let close = || {
        let now = worker.clock.now();
        let wanted = |place: &Place, since: u64| now.saturating_sub(since) >= SPARE || budget.wants(place);
        worker.pools.all().values().for_each(|pool| pool.shed(now, wanted));
    };
    budget.whenever_asked(close).await;
}

/// As many connections as may be are open, or the process has no descriptor for another.
pub(crate) fn none_left() -> Fault {
    Fault::new(Reason::TooManyCalls, "the gateway has no connection left for this backend").field("retry-after", "1")
}
