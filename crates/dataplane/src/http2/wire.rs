//! The byte stream under one HTTP/2 connection: what the protocol writes is gathered, and leaves when its task has done its turn, so that
//! the frames of many streams share one write. Knows no frames.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::io::Stream;
use crate::pipe::{Buffers, CAPACITY};

/// A handle on the stream; the protocol holds one, the task that drives it another.
#[derive(Clone)]
pub(crate) struct Wire(Rc<RefCell<Inner>>);

struct Inner {
    buffers: Rc<Buffers>,
    stream: Stream,
    /// Bytes that were read before it was known what the connection speaks.
    early: Vec<u8>,
    taken: usize,
    /// Bytes that were not written yet.
    out: Vec<u8>,
    written: usize,
    /// Something was written that a flush has not followed.
    unflushed: bool,
    /// Whether bytes left since it was last asked.
    moved: bool,
    /// Whether the protocol was told to wait for room.
    full: bool,
    /// Bytes read.
    heard: u64,
}

impl Wire {
    /// `early` is read before the stream.
    pub(crate) fn new(buffers: &Rc<Buffers>, stream: Stream, early: Vec<u8>) -> Wire {
        Wire(Rc::new(RefCell::new(Inner {
            buffers: Rc::clone(buffers),
            stream,
            early,
            taken: 0,
            out: Vec::new(),
            written: 0,
            unflushed: false,
            moved: false,
            full: false,
            heard: 0,
        })))
    }

    /// Writes everything that was gathered.
    pub(crate) fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_send(cx)
    }

    /// Whether bytes left since this was last asked.
    pub(crate) fn has_moved(&self) -> bool {
        std::mem::take(&mut self.0.borrow_mut().moved)
    }

    /// Whether the protocol was told to wait for room since this was last asked; once there is room, it must be asked again.
    pub(crate) fn was_full(&self) -> bool {
        std::mem::take(&mut self.0.borrow_mut().full)
    }

    /// How many bytes the peer has sent so far.
    pub(crate) fn heard(&self) -> u64 {
        self.0.borrow().heard
    }

    /// Reads bytes nobody wants any more, at most `most`; 0 is the end.
    pub(crate) fn poll_discard(&self, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<usize>> {
        let inner = &mut *self.0.borrow_mut();
        let mut buf = inner.buffers.take();
        let read = inner.stream.poll_read(cx, &mut buf, most);
        inner.buffers.give(buf);
        read
    }
}

impl Inner {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest @ [_, ..]) = self.out.get(self.written..) {
            let n = ready!(self.stream.poll_write(cx, rest, &[]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += n;
            self.moved = true;
            self.unflushed = true;
        }
        if self.out.capacity() > 0 {
            self.written = 0;
            self.buffers.give(std::mem::take(&mut self.out));
        }
        if self.unflushed {
            ready!(self.stream.poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Room for more; written out first where there is none.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.out.len() >= CAPACITY {
            let sent = self.poll_send(cx);
            self.full = sent.is_pending();
            ready!(sent)?;
        }
        if self.out.capacity() == 0 {
            self.out = self.buffers.take();
        }
        Poll::Ready(Ok(CAPACITY - self.out.len()))
    }

    fn put(&mut self, data: &[u8], room: usize) -> usize {
        let n = data.len().min(room);
        self.out.extend_from_slice(data.get(..n).unwrap_or_default());
        n
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.0.borrow_mut();
        let early = inner.early.get(inner.taken..).unwrap_or_default();
        if early.is_empty() {
            let before = buf.filled().len();
            let read = Pin::new(&mut inner.stream).poll_read(cx, buf);
            inner.heard += (buf.filled().len() - before) as u64;
            return read;
        }
        let n = early.len().min(buf.remaining());
        buf.put_slice(early.get(..n).unwrap_or_default());
        inner.taken += n;
        if inner.taken >= inner.early.len() {
            inner.taken = 0;
            inner.buffers.give(std::mem::take(&mut inner.early));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let inner = &mut *self.0.borrow_mut();
        let room = ready!(inner.poll_room(cx))?;
        Poll::Ready(Ok(inner.put(data, room)))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let inner = &mut *self.0.borrow_mut();
        let room = ready!(inner.poll_room(cx))?;
        let put = data.iter().fold(0, |put, slice| put + inner.put(slice, room - put));
        Poll::Ready(Ok(put))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Does nothing: the driving task sends when its turn is over.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.0.borrow_mut();
        ready!(inner.poll_send(cx))?;
        inner.stream.poll_shutdown(cx)
    }
}
