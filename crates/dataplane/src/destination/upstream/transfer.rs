//! One call in flight: the request's body up, the answer's head and body down, both at once, with every time limit. Knows neither how a
//! target is chosen nor what happens after a fault.

use std::future::poll_fn;
use std::task::{Context, Poll};

use daemun_pipeline::{Exchange, Fault, Reason};

use super::upload::{Upload, client_side};
use crate::chain::Unwanted;
use crate::coded::{Coded, Coders};
use crate::http1::down::gone;
use crate::http1::parse::{BodyLength, Bounds};
use crate::http1::response::ResponseHead;
use crate::http1::up::Said;
use crate::kept::copying::Copying;
use crate::peer::{Down, Up};
use crate::pipe::{Buffers, Pipe};
use crate::timers::{Deadline, NEVER};
use crate::worker::Worker;

/// Limits of one call, nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallLimits {
    /// To the end of the answer's head, and between two pieces of its body.
    pub(crate) response: u64,
    /// Bytes of the request's body.
    pub(crate) body: u64,
    /// A stream: idle limit only.
    pub(crate) stream: bool,
    /// When the whole call must have ended, as its client asked.
    pub(crate) until: u64,
    /// Between two pieces of the request's body.
    pub(crate) body_idle: u64,
    /// The client takes nothing of its answer.
    pub(crate) write_idle: u64,
    /// When it is looked at what else can be done than to wait: a second call, or another target.
    pub(crate) look_at: u64,
    /// Nothing moves on a stream.
    pub(crate) stream_idle: u64,
    /// Bytes a second of the request's body, once `min_rate_after` is over; 0 for any.
    pub(crate) min_rate: u64,
    pub(crate) min_rate_after: u64,
}

/// A call in flight. Holds nothing of the snapshot it began under, so that what lasts need not keep it.
pub(crate) struct Transfer<'a, 'd> {
    pub(crate) worker: &'a Worker,
    pub(crate) deadline: &'a Deadline,
    pub(crate) down: &'a mut Down<'d>,
    pub(crate) up: &'a mut Up,
    pub(crate) exchange: &'a mut Exchange,
    pub(crate) limits: CallLimits,
    pub(crate) unwanted: &'a Unwanted,
    pub(crate) upload: &'a mut Upload,
    pub(crate) download: Pipe,
    /// What the answer's body passes through.
    pub(crate) coded: Option<Box<Coded>>,
    /// A copy of the answer as it comes.
    pub(crate) copying: Option<Box<Copying>>,
    /// It waited for its answer's head until it is looked at what else can be done.
    pub(crate) is_due: bool,
}

impl Transfer<'_, '_> {
    /// Sends the call and waits for the final head of its answer.
    pub(crate) async fn until_head(&mut self, bounds: &Bounds) -> Result<ResponseHead, Fault> {
        poll_fn(|cx| self.poll_head(cx, bounds)).await
    }

    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>, bounds: &Bounds) -> Poll<Result<ResponseHead, Fault>> {
        let was_done = self.upload.done;
        let moved = self.poll_upload(cx)?;
        loop {
            let bodyless = self.exchange.request.method == daemun_pipeline::Method::Head;
            match self.up.poll_head(cx, self.exchange, bounds, bodyless) {
                Poll::Ready(Ok(Said::Final(head))) => return Poll::Ready(Ok(head)),
                Poll::Ready(Ok(Said::Interim(status))) => {
                    if status != 100 {
                        self.upload.told = true;
                        self.down.interim(status, &self.exchange.response.head);
                        if let Poll::Ready(Err(error)) = self.down.poll_drain(cx, &mut Pipe::default()) {
                            return Poll::Ready(Err(gone(error)));
                        }
                    }
                    self.exchange.response.head.clear();
                }
                Poll::Ready(Err(fault)) => {
                    self.upload.unprocessed = self.up.unprocessed();
                    return Poll::Ready(Err(fault));
                }
                Poll::Pending => break,
            }
        }
        if self.down.poll_gone(cx, &self.worker.buffers).is_ready() {
            return Poll::Ready(Err(Fault::new(Reason::ClientGone, "the client left before the answer")));
        }
        let limit = self.head_limit(moved, was_done);
        let look_at = self.limits.look_at;
        self.deadline.poll_until(cx, limit.min(self.limits.until).min(look_at)).map(|()| {
            self.is_due = look_at < limit.min(self.limits.until);
            Err(self.head_expired(limit))
        })
    }

    /// When the phase before the head is over. Only bodies on their way cost clock readings.
    fn head_limit(&mut self, moved: bool, was_done: bool) -> u64 {
        let upload = &mut *self.upload;
        if upload.done && (was_done || upload.pipe.total == 0) {
            return upload.moved.saturating_add(self.limits.response);
        }
        if moved {
            upload.moved = self.worker.clock.now();
        }
        self.upload_limit()
    }

    /// When a body on its way is late: the client with its next piece or its rate, or the upstream with taking it.
    fn upload_limit(&self) -> u64 {
        let upload = &*self.upload;
        if upload.done || upload.refused {
            return upload.moved.saturating_add(self.limits.response);
        }
        if !upload.pipe.is_empty() {
            return upload.moved.saturating_add(self.limits.response);
        }
        if self.limits.stream {
            return upload.moved.saturating_add(self.limits.stream_idle);
        }
        upload.moved.saturating_add(self.limits.body_idle).min(self.rate_limit())
    }

    /// When the body will have been too slow, if nothing more comes.
    fn rate_limit(&self) -> u64 {
        if self.limits.min_rate == 0 {
            return NEVER;
        }
        let allowed = u128::from(self.upload.pipe.total) * 1_000_000_000 / u128::from(self.limits.min_rate);
        let allowed = u64::try_from(allowed).unwrap_or(u64::MAX).max(self.limits.min_rate_after);
        self.upload.began.saturating_add(allowed)
    }

    fn head_expired(&self, limit: u64) -> Fault {
        if self.limits.until < limit {
            return past_deadline();
        }
        let waits_for_client = !self.upload.done && !self.upload.refused && self.upload.pipe.is_empty();
        if waits_for_client {
            Fault::new(Reason::ClientTimeout, "the request body did not arrive in time")
        } else {
            Fault::new(Reason::UpstreamTimeout, "the backend did not answer in time")
        }
    }

    /// Moves what it can of the request's body; says whether anything moved.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<bool, Fault> {
        let mut moved = false;
        if self.upload.done || self.upload.refused {
            return Ok(false);
        }
        loop {
            let pipe = &mut self.upload.pipe;
            let come = pipe.total;
            let filled =
                if pipe.eof { Poll::Ready(Ok(())) } else { self.down.poll_fill(cx, pipe, &self.worker.buffers) };
            self.upload.keep(come);
            let pipe = &mut self.upload.pipe;
            let waiting = match filled {
                Poll::Ready(Ok(())) => false,
                Poll::Ready(Err(fault)) => return Err(client_side(fault)),
                Poll::Pending => true,
            };
            if pipe.total > self.limits.body && !self.limits.stream {
                return Err(Fault::new(Reason::BodyTooLarge, "the request body is larger than allowed"));
            }
            self.unwanted.requests.strip(pipe.trailers.as_deref_mut());
            let before = pipe.data().len();
            let drained = self.up.poll_drain(cx, pipe);
            moved |= !waiting || pipe.data().len() < before;
            match drained {
                Poll::Ready(Ok(())) if pipe.is_finished() && self.up.all_written() => {
                    pipe.release(&self.worker.buffers);
                    self.upload.done = true;
                    if let Some(awaited) = &mut self.upload.awaited {
                        awaited.sent(self.upload.moved);
                    }
                    return Ok(moved);
                }
                // what was held may have been why nothing could be read: only an empty pipe waits for the socket
                Poll::Ready(Ok(())) if waiting && before == 0 => return Ok(moved),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => {
                    // it may have answered before it closed; if not, reading its head says so
                    self.upload.refused = true;
                    return Ok(moved);
                }
                Poll::Pending if waiting || pipe.eof => return Ok(moved),
                Poll::Pending if pipe.space(&self.worker.buffers).is_none() => return Ok(moved),
                Poll::Pending => {}
            }
        }
    }

    /// Passes the answer's body on, and what is left of the request's, to the end.
    pub(crate) async fn until_end(&mut self, length: BodyLength) -> Result<(), Fault> {
        if self.worker.draining.get() {
            self.down.doom();
        }
        self.down.start(self.exchange, length);
        if let (Up::H1(up), Down::H1(down), None, None) = (&mut *self.up, &mut *self.down, &self.coded, &self.copying)
            && self.download.is_new()
        {
            up.conn.pass_whole(down.conn, &mut self.download);
        }
        let_others_read(self.down).await;
        let mut moved = self.exchange.times.answered;
        poll_fn(|cx| self.poll_body(cx, &mut moved)).await
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, last: &mut u64) -> Poll<Result<(), Fault>> {
        let mut moved = self.poll_upload_beside(cx)?;
        let stalled = loop {
            let pipe = &mut self.download;
            let copying = self.copying.as_deref_mut();
            let filled = match &mut self.coded {
                Some(coded) => coded.poll_fill(cx, self.up, pipe, &self.worker.buffers, copying),
                // a body that was held is here to its end
                None if pipe.eof => Poll::Ready(Ok(())),
                None => filled(self.up, cx, pipe, &self.worker.buffers, copying),
            };
            if pipe.eof && self.copying.is_some() {
                self.keep_copy();
            }
            let pipe = &mut self.download;
            let waiting = match filled {
                Poll::Ready(Ok(())) => false,
                Poll::Ready(Err(fault)) => return self.poll_broken(cx, fault),
                Poll::Pending => true,
            };
            self.unwanted.answers.strip(pipe.trailers.as_deref_mut());
            let before = pipe.data().len();
            let drained = self.down.poll_drain(cx, pipe);
            moved |= !waiting || pipe.data().len() < before;
            match drained {
                Poll::Ready(Ok(())) if pipe.is_finished() => {
                    pipe.release(&self.worker.buffers);
                    return Poll::Ready(Ok(()));
                }
                // what was held may have been why nothing could be read: only an empty pipe waits for the socket
                Poll::Ready(Ok(())) if waiting && before == 0 => {
                    pipe.release(&self.worker.buffers);
                    break false;
                }
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(gone(error))),
                Poll::Pending if waiting || pipe.eof || pipe.space(&self.worker.buffers).is_none() => break true,
                Poll::Pending => {}
            }
        };
        if !stalled && self.down.poll_gone(cx, &self.worker.buffers).is_ready() {
            return Poll::Ready(Err(Fault::new(Reason::ClientGone, "the client left within the answer")));
        }
        self.poll_body_limits(cx, moved, stalled, last)
    }

    /// The answer is here to its end.
    fn keep_copy(&mut self) {
        if let Some(copying) = self.copying.take() {
            copying.end(&self.download);
        }
    }

    /// Moves what it can of the request's body beside the answer; says whether anything moved.
    fn poll_upload_beside(&mut self, cx: &mut Context<'_>) -> Result<bool, Fault> {
        let moved = match self.poll_upload(cx) {
            Ok(moved) => moved,
            // the answer has begun; what the rest of the request is matters no more
            Err(fault) if fault.reason == Reason::ClientGone => return Err(fault),
            Err(_) => {
                self.upload.refused = true;
                self.down.doom();
                false
            }
        };
        if moved {
            self.upload.moved = self.worker.clock.now();
        }
        Ok(moved)
    }

    /// Reads the answer's body whole into the exchange; one of more than `max` bytes is left to pass, with what was read of it in front.
    pub(crate) async fn hold(&mut self, length: BodyLength, max: u64) -> Result<(), Fault> {
        if matches!(length, BodyLength::Length(length) if length > max) {
            return Ok(());
        }
        let (mut body, mut last) = (Vec::new(), self.exchange.times.answered);
        let whole = poll_fn(|cx| self.poll_hold(cx, &mut body, max, &mut last)).await?;
        let trailers = self.download.trailers.take();
        self.download.release(&self.worker.buffers);
        if whole {
            self.exchange.response.body = Some(body);
            self.download = Pipe::whole(Vec::new(), trailers);
        } else if self.download.eof {
            self.download = Pipe::whole(body, trailers);
        } else {
            self.download = Pipe::begun(body);
        }
        Ok(())
    }

    fn poll_hold(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut Vec<u8>,
        max: u64,
        last: &mut u64,
    ) -> Poll<Result<bool, Fault>> {
        let mut moved = self.poll_upload_beside(cx)?;
        loop {
            let pipe = &mut self.download;
            let filled = filled(self.up, cx, pipe, &self.worker.buffers, self.copying.as_deref_mut())?;
            moved |= filled.is_ready();
            body.extend_from_slice(pipe.data());
            pipe.consume(pipe.data().len());
            if body.len() as u64 > max {
                return Poll::Ready(Ok(false));
            }
            if pipe.eof {
                self.unwanted.answers.strip(pipe.trailers.as_deref_mut());
                return Poll::Ready(Ok(true));
            }
            if filled.is_pending() {
                break;
            }
        }
        if self.down.poll_gone(cx, &self.worker.buffers).is_ready() {
            return Poll::Ready(Err(Fault::new(Reason::ClientGone, "the client left before the answer")));
        }
        if moved {
            *last = self.worker.clock.now();
        }
        let limit = last.saturating_add(self.limits.response);
        let fault = || Fault::new(Reason::BodyBroken, "the backend stopped within its answer");
        self.deadline.poll_until(cx, limit).map(|()| Err(fault()))
    }

    /// What is sent of an answer whose policies ran: a body that was held, and coders before it. Gives how it is framed.
    pub(crate) fn prepare(&mut self, length: BodyLength, coders: Option<Coders>) -> Result<BodyLength, Fault> {
        if let Some(body) = self.exchange.response.body.take() {
            let body = match coders {
                Some(coders) if !body.is_empty() => coders.whole(&body)?,
                Some(_) | None => body,
            };
            let length = body.len() as u64;
            self.download = Pipe::whole(body, self.download.trailers.take());
            return Ok(if self.download.trailers.is_some() { BodyLength::Chunked } else { BodyLength::Length(length) });
        }
        let Some(coders) = coders else { return Ok(length) };
        self.coded = Some(Box::new(Coded::new(coders, std::mem::take(&mut self.download))));
        Ok(BodyLength::Chunked)
    }

    /// What came before the break is still passed on, so that the client sees where it broke.
    fn poll_broken(&mut self, cx: &mut Context<'_>, fault: Fault) -> Poll<Result<(), Fault>> {
        let _ = self.down.poll_drain(cx, &mut self.download);
        Poll::Ready(Err(fault))
    }

    fn poll_body_limits(
        &mut self,
        cx: &mut Context<'_>,
        moved: bool,
        stalled: bool,
        last: &mut u64,
    ) -> Poll<Result<(), Fault>> {
        if moved {
            *last = self.worker.clock.now();
        }
        let idle = match (self.limits.stream, stalled) {
            (true, _) => self.limits.stream_idle,
            (false, true) => self.limits.write_idle,
            (false, false) => self.limits.response,
        };
        let limit = last.saturating_add(idle);
        let uploading = !self.upload.done && !self.upload.refused && !self.limits.stream;
        let upload_limit = if uploading { self.upload_limit() } else { NEVER };
        if self.deadline.poll_until(cx, limit.min(self.limits.until).min(upload_limit)).is_pending() {
            return Poll::Pending;
        }
        if upload_limit < limit.min(self.limits.until) {
            // a body that drips must not hold the exchange; the answer goes on without it
            self.upload.refused = true;
            self.down.doom();
            return self.poll_body_limits(cx, false, stalled, last);
        }
        Poll::Ready(Err(if self.limits.until < limit {
            past_deadline()
        } else if stalled {
            Fault::new(Reason::ClientStalled, "the client does not read its answer")
        } else {
            Fault::new(Reason::BodyBroken, "the backend stopped within its answer")
        }))
    }

    /// Passes bytes both ways until both sides ended or nothing moved for too long.
    pub(crate) async fn tunnel(&mut self) -> Result<(), Fault> {
        let mut last = self.exchange.times.answered;
        let mut ends = [false; 2];
        self.upload.pipe = Pipe::default();
        poll_fn(|cx| self.poll_tunnel(cx, &mut last, &mut ends)).await
    }

    fn poll_tunnel(&mut self, cx: &mut Context<'_>, last: &mut u64, ends: &mut [bool; 2]) -> Poll<Result<(), Fault>> {
        let moved_up = self.poll_tunnel_up(cx, &mut ends[0])?;
        let moved_down = self.poll_tunnel_down(cx, &mut ends[1])?;
        if ends[0] && ends[1] {
            return Poll::Ready(Ok(()));
        }
        if moved_up || moved_down {
            *last = self.worker.clock.now();
        }
        let limit = last.saturating_add(self.limits.stream_idle);
        self.deadline
            .poll_until(cx, limit)
            .map(|()| Err(Fault::new(Reason::ClientTimeout, "nothing moved for too long")))
    }

    fn poll_tunnel_up(&mut self, cx: &mut Context<'_>, ended: &mut bool) -> Result<bool, Fault> {
        let mut moved = false;
        while !*ended {
            let pipe = &mut self.upload.pipe;
            let filled = self.down.poll_fill(cx, pipe, &self.worker.buffers);
            if let Poll::Ready(Err(fault)) = filled {
                return Err(client_side(fault));
            }
            moved |= filled.is_ready();
            let before = pipe.data().len();
            match self.up.poll_drain(cx, pipe) {
                Poll::Ready(Ok(())) if pipe.is_finished() => match self.up.poll_shutdown(cx) {
                    Poll::Pending => break,
                    Poll::Ready(_) => *ended = true,
                },
                Poll::Ready(Ok(())) if filled.is_pending() && before == 0 => {
                    pipe.release(&self.worker.buffers);
                    break;
                }
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    return Err(Fault::new(Reason::BodyBroken, "the backend left the tunnel").cause(error));
                }
                Poll::Pending => break,
            }
        }
        Ok(moved)
    }

    fn poll_tunnel_down(&mut self, cx: &mut Context<'_>, ended: &mut bool) -> Result<bool, Fault> {
        let mut moved = false;
        while !*ended {
            let pipe = &mut self.download;
            let filled = self.up.poll_fill(cx, pipe, &self.worker.buffers);
            if let Poll::Ready(Err(fault)) = filled {
                return Err(fault);
            }
            moved |= filled.is_ready();
            let before = pipe.data().len();
            match self.down.poll_drain(cx, pipe) {
                Poll::Ready(Ok(())) if pipe.is_finished() => match self.down.poll_shutdown(cx) {
                    Poll::Pending => break,
                    Poll::Ready(_) => *ended = true,
                },
                Poll::Ready(Ok(())) if filled.is_pending() && before == 0 => {
                    pipe.release(&self.worker.buffers);
                    break;
                }
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Err(gone(error)),
                Poll::Pending => break,
            }
        }
        Ok(moved)
    }
}

/// Reads bytes of the answer's body into the pipe, and copies them where they are to be kept.
pub(crate) fn filled(
    up: &mut Up,
    cx: &mut Context<'_>,
    pipe: &mut Pipe,
    buffers: &Buffers,
    copying: Option<&mut Copying>,
) -> Poll<Result<(), Fault>> {
    let before = pipe.total;
    let filled = up.poll_fill(cx, pipe, buffers);
    if let Some(copying) = copying {
        copying.take(pipe, before);
    }
    filled
}

/// What else has come is read first, and then all is written: the peers of many exchanges are woken once for many messages, not once for
/// each, which costs more than the turn given up. Over HTTP/2 the messages of many streams are gathered as it is.
pub(super) async fn let_others_read(down: &Down<'_>) {
    let mut waited = matches!(down, Down::H2(_));
    poll_fn(|cx| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The client gave the call no more time than this.
fn past_deadline() -> Fault {
    Fault::new(Reason::UpstreamTimeout, "the call's deadline has passed")
}
