//! Bodies of HTTP/2 streams, in and out, under their flow control; the same towards clients and targets. Knows no heads.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use daemun_pipeline::{Fault, Reason};
use h2::{RecvStream, SendStream};

use super::fields::{Sender, map_of, read_trailers};
use crate::pipe::{Buffers, Pipe};

/// How far a body was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Data,
    /// All bytes of the stated length are here, but not yet the end that proves it.
    Proof,
    Trailers,
    Done,
}

/// A body that comes in.
pub(super) struct Incoming {
    stream: RecvStream,
    /// Received, not yet in a pipe; its window is not yet given back.
    held: Bytes,
    /// The last bytes of the stated length, until the end of the stream proves it.
    last: Bytes,
    /// Bytes missing to the stated length.
    left: Option<u64>,
    stage: Stage,
    sender: Sender,
    /// The stream was seen to be reset, or its connection to be gone.
    pub(super) broken: bool,
}

impl Incoming {
    pub(super) fn new(stream: RecvStream, sender: Sender) -> Incoming {
        let stage = if stream.is_end_stream() { Stage::Done } else { Stage::Data };
        Incoming { stream, held: Bytes::new(), last: Bytes::new(), left: None, stage, sender, broken: false }
    }

    /// Whether nothing of it is left to read.
    pub(super) fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// A client's body has this length; a target's is taken as it comes, since its reader sees where it breaks.
    pub(super) fn expect(&mut self, length: Option<u64>) {
        self.left = length;
    }

    /// What follows is not wanted.
    pub(super) fn ignore(&mut self) {
        self.stage = Stage::Done;
    }

    /// Reads bytes into the pipe, and gives the sender room for as many. `Ready` means progress or the end.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
        buffers: &Buffers,
    ) -> Poll<Result<(), Fault>> {
        loop {
            if !self.held.is_empty() {
                let Some(space) = pipe.space(buffers) else { return Poll::Pending };
                let n = self.held.len().min(space.capacity() - space.len());
                space.extend_from_slice(self.held.get(..n).unwrap_or_default());
                pipe.added(n);
                self.held.advance(n);
                // refused only for more than was received
                let _ = self.stream.flow_control().release_capacity(n);
                if self.held.is_empty() && self.stage == Stage::Data && self.stream.is_end_stream() {
                    self.stage = Stage::Done;
                    pipe.eof = true;
                }
                return Poll::Ready(Ok(()));
            }
            match self.stage {
                Stage::Data => match self.stream.poll_data(cx) {
                    Poll::Ready(Some(Ok(data))) => self.take(data),
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(self.broke(&error))),
                    Poll::Ready(None) => self.stage = Stage::Trailers,
                    Poll::Pending => {
                        pipe.release(buffers);
                        return Poll::Pending;
                    }
                },
                Stage::Proof => match ready!(self.stream.poll_data(cx)) {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Poll::Ready(Err(self.broke(&error))),
                    None => {
                        self.held = std::mem::take(&mut self.last);
                        self.stage = Stage::Trailers;
                    }
                },
                Stage::Trailers => {
                    match ready!(self.stream.poll_trailers(cx)) {
                        Ok(Some(map)) => pipe.trailers = read_trailers(&map, self.sender)?,
                        Ok(None) => {}
                        Err(error) => return Poll::Ready(Err(self.broke(&error))),
                    }
                    self.stage = Stage::Done;
                }
                Stage::Done => {
                    pipe.eof = true;
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// A body that turns out longer than its length must not have gone out whole before: an upstream of HTTP/1 would take it for a good one.
    fn take(&mut self, data: Bytes) {
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(data.len() as u64);
            if *left == 0 && !self.stream.is_end_stream() {
                self.last = data;
                self.stage = Stage::Proof;
                return;
            }
        }
        self.held = data;
    }

    fn broke(&mut self, error: &h2::Error) -> Fault {
        self.broken = true;
        match self.sender {
            Sender::Client { .. } => Fault::new(Reason::ClientGone, "the client gave the request up").cause(error),
            Sender::Upstream => Fault::new(Reason::BodyBroken, "the backend broke its answer off").cause(error),
        }
    }
}

/// Gives what the pipe holds to the connection, as far as the windows allow, and the end with its trailers. `Ready` when all of it was given.
pub(super) fn poll_send(
    cx: &mut Context<'_>,
    stream: &mut SendStream<Bytes>,
    ended: &mut bool,
    pipe: &mut Pipe,
) -> Poll<io::Result<()>> {
    while !*ended {
        let data = pipe.data();
        if data.is_empty() {
            if pipe.eof {
                match pipe.trailers.take() {
                    Some(trailers) => stream.send_trailers(map_of(&trailers, None)).map_err(broken)?,
                    None => stream.send_data(Bytes::new(), true).map_err(broken)?,
                }
                *ended = true;
            }
            break;
        }
        let n = ready!(poll_window(cx, stream, data.len()))?;
        let last = n == data.len() && pipe.eof && pipe.trailers.is_none();
        let piece = Bytes::copy_from_slice(data.get(..n).unwrap_or_default());
        stream.send_data(piece, last).map_err(broken)?;
        pipe.consume(n);
        *ended = last;
    }
    Poll::Ready(Ok(()))
}

/// How many bytes may be sent now, at most `wanted`.
fn poll_window(cx: &mut Context<'_>, stream: &mut SendStream<Bytes>, wanted: usize) -> Poll<io::Result<usize>> {
    stream.reserve_capacity(wanted);
    let mut window = stream.capacity();
    while window == 0 {
        match ready!(stream.poll_capacity(cx)) {
            Some(Ok(n)) => window = n,
            Some(Err(error)) => return Poll::Ready(Err(broken(error))),
            None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }
    Poll::Ready(Ok(window.min(wanted)))
}

/// An error of the protocol as one of a stream of bytes.
pub(super) fn broken(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, error)
}
