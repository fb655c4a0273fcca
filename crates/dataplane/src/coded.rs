//! An answer's body on its way through coders. Knows neither where it comes from nor where it goes.

use std::io;
use std::task::{Context, Poll};

use daemun_pipeline::{Coder, Fault, Reason};

use crate::destination::upstream::transfer::filled;
use crate::kept::copying::Copying;
use crate::peer::Up;
use crate::pipe::{Buffers, CAPACITY, Pipe};

/// What a body passes through, in this order; never empty.
pub(crate) struct Coders(Vec<Box<dyn Coder>>);

/// A step of coders.
type Step<'a> = dyn FnMut(&mut dyn Coder, &[u8], &mut Vec<u8>) -> io::Result<()> + 'a;

impl Coders {
    pub(crate) fn of(coders: Vec<Box<dyn Coder>>) -> Coders {
        Coders(coders)
    }

    /// A whole body, coded.
    pub(crate) fn whole(mut self, body: &[u8]) -> Result<Vec<u8>, Fault> {
        let mut out = Vec::with_capacity(body.len());
        self.last(body, &mut out)?;
        Ok(out)
    }

    /// Takes a piece and appends what comes out of it.
    pub(crate) fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        self.through(piece, out, &mut |coder, piece, out| coder.push(piece, out))
    }

    /// Whatever was taken comes out.
    fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.through(&[], out, &mut |coder, piece, out| {
            coder.push(piece, out)?;
            coder.flush(out)
        })
    }

    /// Takes the last piece and appends all that is left.
    pub(crate) fn last(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        self.through(piece, out, &mut |coder, piece, out| {
            coder.push(piece, out)?;
            coder.finish(out)
        })
    }

    fn through(&mut self, piece: &[u8], out: &mut Vec<u8>, step: &mut Step<'_>) -> Result<(), Fault> {
        let Some((last, before)) = self.0.split_last_mut() else { return Ok(()) };
        let mut piece = std::borrow::Cow::Borrowed(piece);
        for coder in before {
            let mut next = Vec::new();
            step(&mut **coder, &piece, &mut next).map_err(failed)?;
            piece = next.into();
        }
        step(&mut **last, &piece, out).map_err(failed)
    }
}

fn failed(error: io::Error) -> Fault {
    Fault::new(Reason::BodyBroken, "the answer cannot be coded").cause(error)
}

/// A body that is coded while it is read.
pub(crate) struct Coded {
    coders: Coders,
    /// What was read and not yet coded.
    raw: Pipe,
    /// Something was coded since the last flush.
    unflushed: bool,
}

impl Coded {
    /// Of a body of which `begun` was read already.
    pub(crate) fn new(coders: Coders, begun: Pipe) -> Coded {
        Coded { coders, raw: begun, unflushed: false }
    }

    /// Reads the target's body and puts it, coded, into the pipe; a copy is made of it as it came. `Ready` means progress or the end.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        up: &mut Up,
        pipe: &mut Pipe,
        buffers: &Buffers,
        copying: Option<&mut Copying>,
    ) -> Poll<Result<(), Fault>> {
        if pipe.eof {
            return Poll::Ready(Ok(()));
        }
        if pipe.data().len() >= CAPACITY {
            return Poll::Pending;
        }
        let filled =
            if self.raw.is_empty() { filled(up, cx, &mut self.raw, buffers, copying)? } else { Poll::Ready(()) };
        let raw = &mut self.raw;
        if raw.eof {
            let coders = &mut self.coders;
            pipe.append(|out| coders.last(raw.data(), out))?;
            raw.consume(raw.data().len());
            raw.release(buffers);
            pipe.trailers = raw.trailers.take();
            pipe.eof = true;
            return Poll::Ready(Ok(()));
        }
        if !raw.is_empty() {
            let coders = &mut self.coders;
            pipe.append(|out| coders.push(raw.data(), out))?;
            raw.consume(raw.data().len());
            self.unflushed = true;
            return Poll::Ready(Ok(()));
        }
        raw.release(buffers);
        if filled.is_pending() && std::mem::take(&mut self.unflushed) {
            // the caller need not wait for what was read already
            let coders = &mut self.coders;
            pipe.append(|out| coders.flush(out))?;
        }
        filled.map(Ok)
    }
}
