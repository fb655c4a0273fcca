//! Sends a file piece by piece: never more of it in memory than a pipe holds, never faster than the client reads, and never so that the
//! worker waits for a disk.

use std::future::poll_fn;
use std::io::{self, IoSliceMut};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Poll;

use daemun_pipeline::{Exchange, Fault, Method, Reason, Stop};
use rustix::io::{Errno, ReadWriteFlags};

use super::Body;
use crate::coded::Coders;
use crate::http1::down::gone;
use crate::http1::parse::BodyLength;
use crate::pipe::{CAPACITY, Pipe};
use crate::serve::{Ask, Trail, prepare};

/// Longest time, nanoseconds, that a disk may take for one answer of its own.
const DISK: u64 = 30_000_000_000;

/// What is sent of a file.
enum Source {
    /// Its bytes, as they are read.
    Plain,
    /// The same, coded.
    Coded(Coders),
    /// What policies made of it.
    Held(Vec<u8>),
}

/// Answers without a body, and without saying how long it would be.
pub(super) async fn head(ask: &mut Ask<'_, '_>, exchange: &mut Exchange, trail: &mut Trail) -> Result<(), Stop> {
    begin(ask, exchange, BodyLength::None, trail).await
}

/// Answers with a body; to HEAD, with its head alone.
pub(super) async fn body(
    ask: &mut Ask<'_, '_>,
    exchange: &mut Exchange,
    body: &Body,
    trail: &mut Trail,
) -> Result<(), Stop> {
    let changes = ask.route.chain.bodies.of_answers();
    if exchange.request.method == Method::Head {
        // how long it would be is not known before it was changed
        let length = if changes { BodyLength::None } else { BodyLength::Length(body.length()) };
        return begin(ask, exchange, length, trail).await;
    }
    let source = if changes {
        // boxed, so that files that pass as they are do not carry the size of this
        Box::pin(outward_with_body(ask, exchange, body, trail)).await?
    } else {
        ask.route.chain.outward(exchange, &mut trail.verdicts)?;
        Source::Plain
    };
    prepare(ask.worker, ask.down, exchange);
    let (mut pipe, length, coders) = match source {
        Source::Plain => (Pipe::default(), BodyLength::Length(body.length()), None),
        Source::Coded(coders) => (Pipe::default(), BodyLength::Chunked, Some(coders)),
        Source::Held(bytes) => {
            let length = BodyLength::Length(bytes.len() as u64);
            (Pipe::whole(bytes, None), length, None)
        }
    };
    ask.down.start(exchange, length);
    let sent = match coders {
        Some(coders) => Box::pin(coded(ask, body, coders, &mut pipe)).await,
        None if pipe.eof => pass(ask, &mut pipe).await,
        None => pieces(ask, body, &mut pipe).await,
    };
    trail.bytes_out = pipe.total;
    pipe.release(&ask.worker.buffers);
    if let Err(fault) = &sent {
        ask.down.fail(exchange, fault);
    }
    Ok(sent?)
}

/// Sends a head alone, as the policies leave it.
async fn begin(
    ask: &mut Ask<'_, '_>,
    exchange: &mut Exchange,
    length: BodyLength,
    trail: &mut Trail,
) -> Result<(), Stop> {
    ask.route.chain.outward(exchange, &mut trail.verdicts)?;
    prepare(ask.worker, ask.down, exchange);
    ask.down.start(exchange, length);
    Ok(pass(ask, &mut Pipe::of(&[])).await?)
}

/// Runs the policies over an answer whose body one of them may need whole, or codes.
async fn outward_with_body(
    ask: &mut Ask<'_, '_>,
    exchange: &mut Exchange,
    body: &Body,
    trail: &mut Trail,
) -> Result<Source, Stop> {
    let chain = &ask.route.chain;
    let ran = trail.verdicts.ran();
    if chain.answer_need(exchange, &trail.verdicts).is_some_and(|max| body.length() <= max) {
        exchange.response.body = Some(hold(ask, body).await?);
    }
    chain.outward(exchange, &mut trail.verdicts)?;
    let held = exchange.response.body.take();
    let coders = if body.length() == 0 { None } else { chain.coders(exchange, &trail.verdicts, ran) };
    Ok(match (held, coders) {
        (Some(held), Some(coders)) => Source::Held(coders.whole(&held)?),
        (Some(held), None) => Source::Held(held),
        (None, Some(coders)) => Source::Coded(coders),
        (None, None) => Source::Plain,
    })
}

/// Reads all that would be sent.
async fn hold(ask: &mut Ask<'_, '_>, body: &Body) -> Result<Vec<u8>, Fault> {
    let (mut held, mut pipe) = (Vec::new(), Pipe::default());
    for (before, part) in &body.pieces {
        held.extend_from_slice(before);
        let (mut at, mut left) = (part.at, part.length);
        while left > 0 {
            let n = read(ask, &body.file, at, left, &mut pipe).await?;
            (at, left) = (at + n, left - n);
            held.extend_from_slice(pipe.data());
            pipe.consume(pipe.data().len());
        }
    }
    held.extend_from_slice(&body.end);
    pipe.release(&ask.worker.buffers);
    Ok(held)
}

async fn pieces(ask: &mut Ask<'_, '_>, body: &Body, pipe: &mut Pipe) -> Result<(), Fault> {
    let length = body.length();
    for (before, part) in &body.pieces {
        pipe.put(&ask.worker.buffers, before);
        let (mut at, mut left) = (part.at, part.length);
        while left > 0 {
            let n = read(ask, &body.file, at, left, pipe).await?;
            (at, left) = (at + n, left - n);
            // known with the last piece, so that both leave in one
            pipe.eof = pipe.total == length;
            pass(ask, pipe).await?;
            if !pipe.eof {
                // however quick the client, others have their turn
                tokio::task::yield_now().await;
            }
        }
    }
    pipe.put(&ask.worker.buffers, &body.end);
    pipe.eof = true;
    pass(ask, pipe).await
}

/// The same through coders.
async fn coded(ask: &mut Ask<'_, '_>, body: &Body, mut coders: Coders, pipe: &mut Pipe) -> Result<(), Fault> {
    let mut raw = Pipe::default();
    for (before, part) in &body.pieces {
        raw.put(&ask.worker.buffers, before);
        let (mut at, mut left) = (part.at, part.length);
        while left > 0 {
            let n = read(ask, &body.file, at, left, &mut raw).await?;
            (at, left) = (at + n, left - n);
            pipe.append(|out| coders.push(raw.data(), out))?;
            raw.consume(raw.data().len());
            pass(ask, pipe).await?;
            tokio::task::yield_now().await;
        }
    }
    pipe.append(|out| coders.last(&body.end, out))?;
    raw.release(&ask.worker.buffers);
    pipe.eof = true;
    pass(ask, pipe).await
}

/// Reads a piece into the pipe, behind what it holds; what the kernel has at hand at once, the rest on a thread that may wait.
async fn read(ask: &Ask<'_, '_>, file: &Arc<OwnedFd>, at: u64, left: u64, pipe: &mut Pipe) -> Result<u64, Fault> {
    let mut buf = pipe.take(&ask.worker.buffers);
    let held = buf.len();
    let most = usize::try_from(left).unwrap_or(CAPACITY).min(CAPACITY.saturating_sub(held)).max(1);
    buf.resize(held + most, 0);
    let room = buf.get_mut(held..).unwrap_or_default();
    let read = match rustix::io::preadv2(file, &mut [IoSliceMut::new(room)], at, ReadWriteFlags::NOWAIT) {
        Err(Errno::AGAIN | Errno::INTR | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
            let file = Arc::clone(file);
            let (back, read) = on_disk(ask, move || {
                let read = whole(&file, buf.get_mut(held..).unwrap_or_default(), at);
                (buf, read)
            })
            .await?;
            buf = back;
            read
        }
        read => read.map_err(io::Error::from),
    };
    let n = *read.as_ref().unwrap_or(&0);
    buf.truncate(held + n);
    pipe.refill(buf, n);
    match read {
        // framed as longer, it breaks off
        Ok(0) => Err(Fault::new(Reason::Internal, "the file became shorter while it was sent")),
        Ok(n) => Ok(n as u64),
        Err(error) => Err(Fault::new(Reason::Internal, "the file cannot be read").cause(error)),
    }
}

/// Reads once, whatever interrupts it.
fn whole(file: &OwnedFd, buf: &mut [u8], at: u64) -> io::Result<usize> {
    loop {
        match rustix::io::pread(file, &mut *buf, at) {
            Err(Errno::INTR) => {}
            read => return Ok(read?),
        }
    }
}

/// Does what may wait for a disk on a thread that may. One that hangs keeps its thread, not the exchange.
pub(super) async fn on_disk<T: Send + 'static>(
    ask: &Ask<'_, '_>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Fault> {
    ask.deadline.set(ask.worker.clock.now().saturating_add(DISK));
    match ask.deadline.limit(tokio::task::spawn_blocking(work)).await {
        Some(Ok(done)) => Ok(done),
        Some(Err(error)) => Err(Fault::new(Reason::Internal, "the file cannot be read").cause(error)),
        None => Err(Fault::new(Reason::Internal, "the disk does not answer")),
    }
}

/// Writes all that the pipe holds, as the client takes it.
pub(in crate::destination) async fn pass(ask: &mut Ask<'_, '_>, pipe: &mut Pipe) -> Result<(), Fault> {
    let idle = ask.local.snapshot.settings.write_idle;
    let mut last = ask.worker.clock.now();
    poll_fn(|cx| {
        let before = pipe.data().len();
        match ask.down.poll_drain(cx, pipe) {
            Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(gone(error))),
            Poll::Pending => {}
        }
        if pipe.data().len() < before {
            last = ask.worker.clock.now();
        }
        let stalled = ask.deadline.poll_until(cx, last.saturating_add(idle));
        stalled.map(|()| Err(Fault::new(Reason::ClientStalled, "the client does not read its answer")))
    })
    .await
}
