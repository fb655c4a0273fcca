//! Gives the last good answer to a call in place of one that failed. Knows neither what is kept nor when it is given.

use std::time::{Duration, UNIX_EPOCH};

use daemun_pipeline::{Exchange, Fault, FieldId, Method, Stop};

use crate::destination::files::send::pass;
use crate::destination::remark;
use crate::http1::parse::BodyLength;
use crate::kept::Kept;
use crate::pipe::{CAPACITY, Pipe};
use crate::serve::{Ask, Trail, stamp};

/// What the answer says of itself (RFC 9211).
const STATUS: &[u8] = b"daemun; hit; detail=fallback";

/// Answers with what is kept; `fault` is what it stands in for. Policies run over it as over the answer that it was.
pub(crate) async fn send(
    ask: &mut Ask<'_, '_>,
    exchange: &mut Exchange,
    kept: &Kept,
    fault: &Fault,
    trail: &mut Trail,
) -> Result<(), Stop> {
    let now = ask.worker.clock.now();
    put(exchange, kept, now, ask.worker.clock.wall(now));
    exchange.remark = Some(remark(&format!("the answer of {} s ago", kept.seconds_kept(now)), fault));
    let to_head = exchange.request.method == Method::Head;
    let changes = ask.route.chain.bodies.of_answers();
    let whole = if to_head { &[] } else { kept.body.as_ref() };
    let changed = outward(ask, exchange, whole, trail)?;
    let body = changed.as_deref().unwrap_or(whole);
    stamp(exchange);
    ask.down.settle_body();
    if ask.worker.draining.get() {
        ask.down.doom();
    }
    let length = match to_head {
        // how long it would be is not known before it was changed
        true if changes => BodyLength::None,
        true => BodyLength::Length(kept.body.len() as u64),
        false => BodyLength::Length(body.len() as u64),
    };
    ask.down.start(exchange, length);
    let sent = pieces(ask, body, trail).await;
    if let Err(fault) = &sent {
        ask.down.fail(exchange, fault);
    }
    Ok(sent?)
}

/// Sends a body piece by piece, so that clients that read slowly hold no copies of what all of them are given.
async fn pieces(ask: &mut Ask<'_, '_>, body: &[u8], trail: &mut Trail) -> Result<(), Fault> {
    let (mut pipe, mut rest) = (Pipe::default(), body);
    let mut sent = Ok(());
    while sent.is_ok() && !pipe.eof {
        let (piece, behind) = rest.split_at(rest.len().min(CAPACITY));
        pipe.put(&ask.worker.buffers, piece);
        (rest, pipe.eof) = (behind, behind.is_empty());
        sent = pass(ask, &mut pipe).await;
        if !pipe.eof {
            // however quick the client, others have their turn
            tokio::task::yield_now().await;
        }
    }
    trail.bytes_out = pipe.total;
    pipe.release(&ask.worker.buffers);
    sent
}

/// Puts its head into the exchange, with its age (RFC 9111, section 5.1) and the date that it was given (RFC 9110, section 6.6.1).
fn put(exchange: &mut Exchange, kept: &Kept, now: u64, wall: u64) {
    let response = &mut exchange.response;
    response.status = kept.status;
    response.own = false;
    response.body = None;
    response.head.clone_from(&kept.head);
    if response.head.get_id(FieldId::Date).is_none() {
        let came = (wall / 1_000_000_000).saturating_sub(kept.seconds_kept(now));
        let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(came));
        response.head.append("date", date.as_bytes());
    }
    response.head.append("age", kept.age(now).to_string().as_bytes());
    response.head.append("cache-status", STATUS);
}

/// Runs the policies outward, and gives the body that they make of it; `None` where they leave it.
fn outward(
    ask: &Ask<'_, '_>,
    exchange: &mut Exchange,
    body: &[u8],
    trail: &mut Trail,
) -> Result<Option<Vec<u8>>, Stop> {
    let chain = &ask.route.chain;
    if !chain.bodies.of_answers() {
        chain.outward(exchange, &mut trail.verdicts)?;
        return Ok(None);
    }
    let ran = trail.verdicts.ran();
    let held = chain.answer_need(exchange, &trail.verdicts).is_some_and(|max| body.len() as u64 <= max);
    if held || body.is_empty() {
        exchange.response.body = Some(body.to_vec());
    }
    chain.outward(exchange, &mut trail.verdicts)?;
    let changed = exchange.response.body.take();
    if body.is_empty() {
        return Ok(None);
    }
    let body = changed.as_deref().unwrap_or(body);
    match chain.coders(exchange, &trail.verdicts, ran) {
        Some(coders) if !body.is_empty() => Ok(Some(coders.whole(body)?)),
        Some(_) | None => Ok(changed),
    }
}
