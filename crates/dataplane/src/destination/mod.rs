//! Where a route ends: an upstream, an answer, a redirect, files; and what is done in place of an upstream's call that failed.

pub(crate) mod files;
pub(crate) mod upstream;

use daemun_pipeline::{Answer, Exchange, Fault, Reason, Stop};

use crate::record::Fallback;
use crate::serve::{Ask, Trail};
use crate::snapshot::failure::FallbackTo;
use crate::snapshot::{Destination, Redirect};
use upstream::local::LocalUpstream;
use upstream::rest::Rest;
use upstream::{Call, gate, kept, mirror, retry};

/// How often a call that was let in and found every target full waits again.
const FOUND_FULL_MOST: u8 = 3;

/// Ends the way inward; of a call that may last, gives what is left of it. An answer of the gateway's own is a stop like a policy's.
pub(crate) async fn send(
    ask: &mut Ask<'_, '_>,
    exchange: &mut Exchange,
    trail: &mut Trail,
) -> Result<Option<Box<Rest>>, Stop> {
    let index = match (&exchange.elsewhere, &ask.route.destination) {
        (Some(elsewhere), _) => elsewhere.upstream,
        (None, Destination::Upstream(index)) => *index,
        (None, Destination::Answer(answer)) => return Err(Stop::Answer(answer.clone())),
        (None, Destination::Files(files)) => {
            // boxed, so that calls to upstreams do not carry the size of this
            return Box::pin(files::send(ask, exchange, files, trail)).await.map(|()| None);
        }
        (None, Destination::Policy) => {
            let fault = Fault::new(Reason::Internal, "nothing answers here");
            return Err(fault.cause("the last policy let the request pass").into());
        }
        (None, Destination::Redirect(to)) => return Err(Stop::Answer(Box::new(redirect(to, exchange)))),
    };
    let upstream = find(ask, index)?;
    let retry = retry::retry_of(ask.route, upstream);
    let mirror = mirror::of(ask.route, exchange);
    let keep = retry.map_or(0, |retry| retry.buffer).max(mirror.map_or(0, |mirror| mirror.buffer));
    let mut call = Call::new(ask, exchange, keep)?;
    call.ran = trail.verdicts.ran();
    let result = through(ask, exchange, upstream, &mut call, trail).await;
    if let Some(mirror) = mirror {
        mirror::send(ask, exchange, &call, mirror, trail);
    }
    match result {
        // boxed, so that calls that succeed do not carry the size of this
        Err(Stop::Fault(fault)) => Box::pin(fall_back(ask, exchange, upstream, &mut call, fault, trail)).await,
        other => other,
    }
}

fn find<'a>(ask: &Ask<'a, '_>, index: usize) -> Result<&'a LocalUpstream, Fault> {
    ask.local.upstreams.get(index).ok_or_else(|| Fault::new(Reason::Internal, "an upstream is missing"))
}

/// Makes the call once the upstream lets it in.
async fn through(
    ask: &mut Ask<'_, '_>,
    exchange: &mut Exchange,
    upstream: &LocalUpstream,
    call: &mut Call,
    trail: &mut Trail,
) -> Result<Option<Box<Rest>>, Stop> {
    let (attempts, mut found_full) = (trail.attempts, 0);
    loop {
        if gate::enter(ask, exchange, upstream, &mut call.upload, trail).await? {
            // its time begins now
            let now = ask.worker.clock.now();
            if exchange.times.again > 0 {
                exchange.times.again = now
            } else {
                exchange.times.decided = now
            }
            call.upload.begin_at(now);
        }
        let result = upstream::send(ask, exchange, upstream, call, trail).await;
        let is_full = |fault: &Fault| fault.reason == Reason::Overloaded && trail.attempts == attempts;
        if matches!(&result, Err(Stop::Fault(fault)) if is_full(fault)) && found_full < FOUND_FULL_MOST {
            // its place was that of a call at a target that is called no more: it waits for one where there is room
            found_full += 1;
            trail.permit = None;
            continue;
        }
        gate::called(&result, ask, exchange, trail);
        return result;
    }
}

/// Does what is to be done in place of a call that failed; its fault stays where that is nothing.
async fn fall_back(
    ask: &mut Ask<'_, '_>,
    exchange: &mut Exchange,
    upstream: &LocalUpstream,
    call: &mut Call,
    fault: Fault,
    trail: &mut Trail,
) -> Result<Option<Box<Rest>>, Stop> {
    upstream.cells.count_fault(fault.reason);
    let fault = of_uncalled(fault, upstream, trail);
    let fallback = retry::fallback_of(ask.route, upstream).filter(|fallback| fallback.takes(&fault) || call.by_status);
    let Some(fallback) = fallback.filter(|_| !ask.down.started()) else { return Err(fault.into()) };
    // a policy that refused the answer, and those that saw it before, see what comes in its place
    trail.verdicts.begin_outward(call.ran);
    exchange.response.body = None;
    if let Some(store) = &fallback.cached {
        let now = ask.worker.clock.now();
        if let Some(kept) = call.kept(store, ask.route, exchange, now) {
            trail.permit = None; // the upstream has nothing more to do with it
            stands_in(Fallback::Cached, upstream, trail);
            return kept::send(ask, exchange, &kept, &fault, trail).await.map(|()| None);
        }
    }
    match &fallback.to {
        None => Err(fault.into()),
        Some(FallbackTo::Answer(answer)) => {
            stands_in(Fallback::Answer, upstream, trail);
            exchange.remark = Some(remark("a fixed answer", &fault));
            Err(Stop::Answer(answer.clone()))
        }
        Some(FallbackTo::Upstream(index)) => {
            if !(call.is_safe(exchange) || fault.reason.is_unsent() && call.upload.can_repeat()) {
                return Err(fault.into());
            }
            let other = find(ask, *index)?;
            if let Some(target) = trail.target.take() {
                ask.worker.recorder.attempt_failed(&target.shared.cells, trail.upstream_status, 0);
            }
            exchange.response.head.clear();
            call.by_status = false;
            call.falls_back = true;
            trail.fresh = false;
            let now = ask.worker.clock.now();
            exchange.times.begin_again(now);
            call.upload.repeat(exchange, now);
            let result = through(ask, exchange, other, call, trail).await;
            let Err(Stop::Fault(failed)) = result else {
                stands_in(Fallback::Upstream, upstream, trail);
                exchange.remark = Some(remark(&format!("upstream `{}`", other.shared.name), &fault));
                return result;
            };
            other.cells.count_fault(failed.reason);
            let failed = of_uncalled(failed, other, trail);
            let own = failed.cause.as_deref().unwrap_or(&failed.detail).to_owned();
            let first = fault.cause.as_deref().unwrap_or(&fault.detail);
            let cause =
                format!("{own}; called in place of `{}`: {}: {first}", upstream.shared.name, fault.reason.code());
            Err(failed.cause(cause).into())
        }
    }
}

/// Says which upstream could not be called, where nothing else does.
fn of_uncalled(fault: Fault, upstream: &LocalUpstream, trail: &mut Trail) -> Fault {
    let name = &upstream.shared.name;
    if trail.target.is_none() {
        trail.uncalled = Some(name.as_str().into());
    }
    match (fault.reason, upstream.targets().len()) {
        _ if fault.cause.is_some() => fault,
        (Reason::CircuitOpen, _) => fault.cause(format!("upstream `{name}`: its breaker is open")),
        (Reason::NoTarget, 0) => fault.cause(format!("upstream `{name}`: it has no target")),
        (Reason::NoTarget, count) => {
            fault.cause(format!("upstream `{name}`: none of its {count} targets can be called"))
        }
        _ => fault,
    }
}

fn stands_in(fallback: Fallback, upstream: &LocalUpstream, trail: &mut Trail) {
    trail.fallback = Some(fallback);
    upstream.cells.count_fallback(fallback);
}

/// What the access log says of what stands in for a call that failed.
pub(crate) fn remark(what: &str, fault: &Fault) -> Box<str> {
    let cause = fault.cause.as_deref().unwrap_or(&fault.detail);
    format!("{what} stands in for {}: {cause}", fault.reason.code()).into()
}

/// The answer of a redirect.
pub(crate) fn redirect(redirect: &Redirect, exchange: &Exchange) -> Answer {
    let mut location = Vec::new();
    redirect.to.push_location(exchange, &mut location);
    let location = String::from_utf8_lossy(&location).into_owned();
    Answer { status: redirect.status, fields: vec![("location".to_owned(), location)], body: bytes::Bytes::new() }
}
