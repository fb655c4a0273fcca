//! One direction of a body on its way through: bytes read and not yet written, never more than [`CAPACITY`]. Knows no framing.

use std::cell::RefCell;

use daemun_pipeline::Head;

/// Bytes a direction may hold.
pub(crate) const CAPACITY: usize = 64 * 1024;
/// Buffers a worker keeps for the next body.
const SPARE: usize = 64;

/// Buffers of one worker that no body uses.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    spare: RefCell<Vec<Vec<u8>>>,
}

impl Buffers {
    pub(crate) fn take(&self) -> Vec<u8> {
        self.spare.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(CAPACITY))
    }

    pub(crate) fn give(&self, mut buf: Vec<u8>) {
        let mut spare = self.spare.borrow_mut();
        if buf.capacity() >= CAPACITY && buf.capacity() <= 2 * CAPACITY && spare.len() < SPARE {
            buf.clear();
            spare.push(buf);
        }
    }
}

/// Bytes on their way.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    buf: Vec<u8>,
    pos: usize,
    /// Nothing follows what is held.
    pub(crate) eof: bool,
    /// Fields after the body.
    pub(crate) trailers: Option<Box<Head>>,
    /// Bytes that went in.
    pub(crate) total: u64,
}

impl Pipe {
    /// A whole body.
    pub(crate) fn of(bytes: &[u8]) -> Pipe {
        Pipe { buf: bytes.to_vec(), pos: 0, eof: true, trailers: None, total: bytes.len() as u64 }
    }

    /// A whole body, with the fields behind it.
    pub(crate) fn whole(bytes: Vec<u8>, trailers: Option<Box<Head>>) -> Pipe {
        Pipe { total: bytes.len() as u64, buf: bytes, pos: 0, eof: true, trailers }
    }

    /// A body that was read so far; more may follow.
    pub(crate) fn begun(bytes: Vec<u8>) -> Pipe {
        Pipe { eof: false, ..Pipe::whole(bytes, None) }
    }

    /// Lets `write` add bytes, however many.
    pub(crate) fn append<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        if self.pos > 0 {
            self.buf.drain(..self.pos);
            self.pos = 0;
        }
        let before = self.buf.len();
        let result = write(&mut self.buf);
        self.total += (self.buf.len() - before) as u64;
        result
    }

    /// What is held.
    pub(crate) fn data(&self) -> &[u8] {
        self.buf.get(self.pos..).unwrap_or_default()
    }

    /// Whether nothing was ever put into it.
    pub(crate) fn is_new(&self) -> bool {
        self.total == 0 && !self.eof
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pos >= self.buf.len()
    }

    /// Whether all that will ever come has gone out.
    pub(crate) fn is_finished(&self) -> bool {
        self.eof && self.is_empty()
    }

    /// Takes out the first `n` bytes.
    pub(crate) fn consume(&mut self, n: usize) {
        self.pos += n;
        if self.pos >= self.buf.len() {
            self.buf.clear();
            self.pos = 0;
        }
    }

    /// The buffer to read into, with room; `None` while there is none.
    pub(crate) fn space(&mut self, buffers: &Buffers) -> Option<&mut Vec<u8>> {
        if self.buf.capacity() == 0 {
            self.buf = buffers.take();
        }
        if self.pos > 0 && self.buf.len() == self.buf.capacity() {
            self.buf.drain(..self.pos);
            self.pos = 0;
        }
        (self.buf.len() < self.buf.capacity()).then_some(&mut self.buf)
    }

    /// Notes that `n` bytes were put into [`Pipe::space`].
    pub(crate) fn added(&mut self, n: usize) {
        self.total += n as u64;
    }

    /// Puts text behind what is held; there must be little of it.
    pub(crate) fn put(&mut self, buffers: &Buffers, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let mut buf = self.take(buffers);
        buf.extend_from_slice(bytes);
        self.refill(buf, bytes.len());
    }

    /// Takes the buffer out, with what is held at its beginning; [`Pipe::refill`] puts it back.
    pub(crate) fn take(&mut self, buffers: &Buffers) -> Vec<u8> {
        if self.buf.capacity() == 0 {
            self.buf = buffers.take();
        }
        self.buf.drain(..self.pos.min(self.buf.len()));
        self.pos = 0;
        std::mem::take(&mut self.buf)
    }

    /// Puts the buffer back that [`Pipe::take`] gave, with `n` bytes more.
    pub(crate) fn refill(&mut self, buf: Vec<u8>, n: usize) {
        self.buf = buf;
        self.added(n);
    }

    /// Gives the buffer back while it holds nothing.
    pub(crate) fn release(&mut self, buffers: &Buffers) {
        if self.is_empty() && self.buf.capacity() > 0 {
            self.pos = 0;
            buffers.give(std::mem::take(&mut self.buf));
        }
    }
}
