//! A call that waits at a target which is ejected for its silence goes to another one, where it may be made again. Knows nothing of how it
//! is found that a target hangs.

use daemun_pipeline::{Fault, Reason};

use super::local::LocalUpstream;
use super::picked::Picked;
use super::reach::Site;
use super::retry::Tries;
use super::transfer::{CallLimits, Transfer};
use crate::http1::response::ResponseHead;
use crate::timers::NEVER;

/// How often it is looked at whether the target of a call that waits was ejected, nanoseconds.
const LOOKS: u64 = 500_000_000;

/// Has it looked at, where a call that began to wait at this time could go elsewhere at all; of one that a second call may be made beside,
/// that is looked at first.
pub(super) fn prepare(
    limits: &mut CallLimits,
    is_hedged: bool,
    upstream: &LocalUpstream,
    tries: &Tries<'_>,
    moved: u64,
) {
    if !is_hedged && may_leave(upstream, tries) {
        limits.look_at = moved.saturating_add(LOOKS);
    }
}

/// Whether calls that wait here go elsewhere at all.
fn may_leave(upstream: &LocalUpstream, tries: &Tries<'_>) -> bool {
    upstream.shared.choice.outliers.is_some() && tries.takes_timeouts()
}

/// Waits for the head of the answer, and looks now and then whether the target was ejected meanwhile. The fault of a call that goes to
/// another one is that of one that was not answered in time; which one that is, `tries` knows.
pub(super) async fn wait(
    site: Site<'_>,
    transfer: &mut Transfer<'_, '_>,
    upstream: &LocalUpstream,
    picked: &Picked,
    tries: &mut Tries<'_>,
) -> Result<ResponseHead, Fault> {
    loop {
        let now = site.worker.clock.now();
        // nobody else may come by
        upstream.shared.watch(now);
        let hangs = may_leave(upstream, tries) && transfer.upload.done && picked.is_left_since(transfer.upload.moved);
        if hangs && tries.leaves(upstream, site.route, picked, transfer, now) {
            let fault = Fault::new(Reason::UpstreamTimeout, "the backend does not answer");
            return Err(fault.cause(format_args!("{}: it was ejected meanwhile", picked.target.shared.url)));
        }
        transfer.is_due = false;
        transfer.limits.look_at = if may_leave(upstream, tries) { now.saturating_add(LOOKS) } else { NEVER };
        let head = transfer.until_head(&site.local.snapshot.settings.bounds).await;
        if !transfer.is_due {
            return head;
        }
    }
}
