//! One HTTP/1.1 connection to either side: body bytes in and out with their framing. Knows neither heads nor time limits nor which
//! exchange it serves.

use std::io;
use std::task::{Context, Poll, Waker, ready};

use daemun_pipeline::{Fault, Reason};

use super::chunked::{ChunkDecoder, Progress, push_chunk_head, push_last_chunk};
use super::parse::BodyLength;
use crate::io::Stream;
use crate::pipe::{Buffers, Pipe};

/// Bodies up to this size are copied behind the head, so that one write takes both.
const COPY_UP_TO: usize = 8 * 1024;

/// A connection at rest keeps buffers up to this capacity.
const KEEP: usize = 16 * 1024;

/// How a body that comes in is read.
#[derive(Debug, Default)]
enum Incoming {
    #[default]
    Done,
    Length(u64),
    Chunked(Box<ChunkDecoder>),
    UntilClose,
}

/// How a body that goes out is framed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Outgoing {
    #[default]
    Done,
    Length(u64),
    Chunked {
        /// Payload bytes of the open chunk that are still to be written.
        open: usize,
    },
    UntilClose,
}

/// A connection.
pub(crate) struct Conn {
    pub(crate) stream: Stream,
    /// Bytes read behind the head, not yet used.
    pub(crate) unread: Vec<u8>,
    used: usize,
    /// Bytes to be written: heads, chunk framing, small bodies.
    pub(crate) out: Vec<u8>,
    written: usize,
    incoming: Incoming,
    outgoing: Outgoing,
    broken: Reason,
    /// Payload bytes a chunked body may announce.
    pub(crate) body_limit: u64,
    /// Whether trailer fields with `_` in their name are kept.
    pub(crate) keep_underscores: bool,
    /// When its last exchange ended.
    pub(crate) last_end: u64,
    /// The peer ended the connection.
    pub(crate) ended: bool,
}

impl Conn {
    /// A fresh connection; `broken` is the reason given when its peer cheats or leaves within a body.
    pub(crate) fn new(stream: Stream, broken: Reason) -> Conn {
        Conn {
            stream,
            unread: Vec::new(),
            used: 0,
            out: Vec::new(),
            written: 0,
            incoming: Incoming::Done,
            outgoing: Outgoing::Done,
            broken,
            body_limit: u64::MAX,
            keep_underscores: false,
            last_end: 0,
            ended: false,
        }
    }

    /// Begins to read a body.
    pub(crate) fn expect_body(&mut self, length: BodyLength) {
        self.incoming = match length {
            BodyLength::None | BodyLength::Length(0) => Incoming::Done,
            BodyLength::Length(n) => Incoming::Length(n),
            BodyLength::Chunked => {
                let decoder = ChunkDecoder::new(self.broken).keep_underscores(self.keep_underscores);
                Incoming::Chunked(Box::new(decoder))
            }
            BodyLength::UntilClose => Incoming::UntilClose,
        };
    }

    /// Begins to write a body.
    pub(crate) fn begin_body(&mut self, length: BodyLength) {
        self.outgoing = match length {
            BodyLength::None | BodyLength::Length(0) => Outgoing::Done,
            BodyLength::Length(n) => Outgoing::Length(n),
            BodyLength::Chunked => Outgoing::Chunked { open: 0 },
            BodyLength::UntilClose => Outgoing::UntilClose,
        };
    }

    /// Whether the body that comes in was read to its end.
    pub(crate) fn body_read(&self) -> bool {
        matches!(self.incoming, Incoming::Done)
    }

    /// A body that nobody wants is passed over when all of it is already here; says whether the next message can follow.
    pub(crate) fn skip_body(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let buffers = Buffers::default();
        let mut pipe = Pipe::default();
        while !self.body_read() && self.has_unread() {
            if !matches!(self.poll_fill(&mut cx, &mut pipe, &buffers), Poll::Ready(Ok(()))) {
                return false;
            }
            pipe.consume(pipe.data().len());
        }
        self.body_read()
    }

    /// A small body that was read with its head goes straight behind the head that is queued on the other side.
    pub(crate) fn pass_whole(&mut self, to: &mut Conn, pipe: &mut Pipe) {
        let (Incoming::Length(length), Outgoing::Length(wanted)) = (&self.incoming, to.outgoing) else { return };
        let Ok(n) = usize::try_from(*length) else { return };
        let whole = self.unread.get(self.used..self.used.saturating_add(n));
        if let Some(body) = whole.filter(|_| *length == wanted && n <= COPY_UP_TO) {
            to.out.extend_from_slice(body);
            to.outgoing = Outgoing::Done;
            self.incoming = Incoming::Done;
            self.used += n;
            self.forget_used();
            pipe.added(n);
            pipe.eof = true;
        }
    }

    /// Whether everything queued and the body that goes out were written.
    pub(crate) fn all_written(&self) -> bool {
        self.out.is_empty() && self.outgoing == Outgoing::Done
    }

    /// Bytes that belong to the next message.
    pub(crate) fn take_unread(&mut self, into: &mut Vec<u8>) {
        into.extend_from_slice(self.unread.get(self.used..).unwrap_or_default());
        self.unread.clear();
        self.used = 0;
    }

    /// Keeps bytes that were read behind a head.
    pub(crate) fn put_unread(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
    }

    /// Whether bytes wait that were read behind a head.
    pub(crate) fn has_unread(&self) -> bool {
        self.used < self.unread.len()
    }

    /// Reads body bytes into the pipe until it has none left to read, no room, or the socket has nothing. `Ready` means progress or the end.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
        buffers: &Buffers,
    ) -> Poll<Result<(), Fault>> {
        if pipe.eof {
            return Poll::Ready(Ok(()));
        }
        let result = match &mut self.incoming {
            Incoming::Done => {
                pipe.eof = true;
                return Poll::Ready(Ok(()));
            }
            Incoming::Length(left) => {
                let left = *left;
                self.poll_fill_raw(cx, pipe, buffers, left)
            }
            Incoming::UntilClose => self.poll_fill_raw(cx, pipe, buffers, u64::MAX),
            Incoming::Chunked(_) => self.poll_fill_chunked(cx, pipe, buffers),
        };
        if matches!(self.incoming, Incoming::Done) {
            pipe.eof = true;
        }
        result
    }

    fn poll_fill_raw(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
        buffers: &Buffers,
        left: u64,
    ) -> Poll<Result<(), Fault>> {
        let Some(space) = pipe.space(buffers) else { return Poll::Pending };
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let held = self.unread.len() - self.used;
        let got = if held > 0 {
            let n = held.min(most).min(space.capacity() - space.len());
            space.extend_from_slice(self.unread.get(self.used..self.used + n).unwrap_or_default());
            self.used += n;
            self.forget_used();
            n
        } else {
            match self.stream.poll_read(cx, space, most) {
                Poll::Pending => {
                    pipe.release(buffers);
                    return Poll::Pending;
                }
                Poll::Ready(Ok(n)) => n,
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Err(self.fault("the connection failed within a body").cause(error)));
                }
            }
        };
        if got == 0 {
            if matches!(self.incoming, Incoming::UntilClose) {
                self.incoming = Incoming::Done;
                return Poll::Ready(Ok(()));
            }
            return Poll::Ready(Err(self.fault("the connection ended within a body")));
        }
        pipe.added(got);
        if let Incoming::Length(left) = &mut self.incoming {
            *left -= got as u64;
            if *left == 0 {
                self.incoming = Incoming::Done;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_fill_chunked(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
        buffers: &Buffers,
    ) -> Poll<Result<(), Fault>> {
        loop {
            let Some(space) = pipe.space(buffers) else { return Poll::Pending };
            let Incoming::Chunked(decoder) = &mut self.incoming else { return Poll::Ready(Ok(())) };
            let before = space.len();
            let room = space.capacity() - before;
            let (used, progress) = decoder.decode(self.unread.get(self.used..).unwrap_or_default(), space, room)?;
            let got = space.len() - before;
            if pipe.total.saturating_add(got as u64).saturating_add(decoder.left()) > self.body_limit {
                return Poll::Ready(Err(Fault::new(Reason::BodyTooLarge, "the request body is larger than allowed")));
            }
            self.used += used;
            pipe.added(got);
            if progress == Progress::Done {
                pipe.trailers = decoder.take_trailers();
                self.incoming = Incoming::Done;
                self.forget_used();
                return Poll::Ready(Ok(()));
            }
            self.forget_used();
            if got > 0 {
                return Poll::Ready(Ok(()));
            }
            if self.unread.capacity() == 0 {
                self.unread = buffers.take();
            } else if self.unread.len() == self.unread.capacity() {
                self.unread.drain(..self.used);
                self.used = 0;
                self.unread.reserve(1024);
            }
            match ready!(self.stream.poll_read(cx, &mut self.unread, usize::MAX)) {
                Ok(0) => return Poll::Ready(Err(self.fault("the connection ended within a body"))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(self.fault("the connection failed within a body").cause(error))),
            }
        }
    }

    fn forget_used(&mut self) {
        if self.used >= self.unread.len() {
            self.unread.clear();
            self.used = 0;
        }
    }

    fn fault(&self, detail: &'static str) -> Fault {
        Fault::new(self.broken, detail)
    }

    /// Writes what is queued and what the pipe holds, with framing. `Ready` when all that is there now was written and flushed.
    pub(crate) fn poll_drain(&mut self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<io::Result<()>> {
        loop {
            self.frame(pipe);
            let queued = self.out.get(self.written..).unwrap_or_default();
            let payload = pipe.data();
            let payload = match self.outgoing {
                Outgoing::Chunked { open } => payload.get(..open.min(payload.len())).unwrap_or_default(),
                Outgoing::Length(_) | Outgoing::UntilClose => payload,
                Outgoing::Done => &[],
            };
            if queued.is_empty() && payload.is_empty() {
                self.out.clear();
                self.written = 0;
                return self.stream.poll_flush(cx);
            }
            let queued_len = queued.len();
            let n = ready!(self.stream.poll_write(cx, queued, payload))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let from_queue = n.min(queued_len);
            self.written += from_queue;
            if self.written >= self.out.len() {
                self.out.clear();
                self.written = 0;
            }
            self.wrote_payload(pipe, n - from_queue);
        }
    }

    fn wrote_payload(&mut self, pipe: &mut Pipe, n: usize) {
        if n == 0 {
            return;
        }
        pipe.consume(n);
        match &mut self.outgoing {
            Outgoing::Length(left) => {
                *left = left.saturating_sub(n as u64);
                if *left == 0 {
                    self.outgoing = Outgoing::Done;
                }
            }
            Outgoing::Chunked { open } => {
                *open -= n;
                if *open == 0 {
                    self.out.extend_from_slice(b"\r\n");
                }
            }
            Outgoing::Done | Outgoing::UntilClose => {}
        }
    }

    /// Puts framing, and small payloads with it, into the queue.
    fn frame(&mut self, pipe: &mut Pipe) {
        let held = pipe.data().len();
        match self.outgoing {
            Outgoing::Done => {}
            Outgoing::Length(_) | Outgoing::UntilClose => {
                if held > 0 && held <= COPY_UP_TO && self.written < self.out.len() {
                    self.copy_payload(pipe, held);
                }
                if self.outgoing == Outgoing::UntilClose && pipe.is_finished() {
                    self.outgoing = Outgoing::Done;
                }
            }
            Outgoing::Chunked { open: 0 } if held > 0 => {
                push_chunk_head(held, &mut self.out);
                self.outgoing = Outgoing::Chunked { open: held };
                if held <= COPY_UP_TO {
                    self.copy_payload(pipe, held);
                }
            }
            Outgoing::Chunked { open: 0 } if pipe.eof => {
                push_last_chunk(pipe.trailers.as_deref(), &mut self.out);
                self.outgoing = Outgoing::Done;
            }
            Outgoing::Chunked { .. } => {}
        }
        // a small chunk and the end of the body leave in one write
        if self.outgoing == (Outgoing::Chunked { open: 0 }) && pipe.is_finished() {
            push_last_chunk(pipe.trailers.as_deref(), &mut self.out);
            self.outgoing = Outgoing::Done;
        }
    }

    fn copy_payload(&mut self, pipe: &mut Pipe, n: usize) {
        let data = pipe.data();
        self.out.extend_from_slice(data.get(..n).unwrap_or_default());
        self.wrote_payload(pipe, n);
    }

    /// Gives back what a connection at rest does not need; it keeps small buffers, so that its next message allocates nothing.
    pub(crate) fn release(&mut self, buffers: &Buffers) {
        if !self.has_unread() && self.unread.capacity() > KEEP {
            self.used = 0;
            buffers.give(std::mem::take(&mut self.unread));
        }
        if self.out.is_empty() && self.out.capacity() > KEEP {
            self.out = Vec::new();
        }
    }

    /// Gives back everything: an idle client costs as little as can be.
    pub(crate) fn strip(&mut self, buffers: &Buffers) {
        if !self.has_unread() {
            self.used = 0;
            buffers.give(std::mem::take(&mut self.unread));
        }
        if self.out.is_empty() {
            self.out = Vec::new();
        }
    }
}
