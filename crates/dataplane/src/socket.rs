//! Reads and writes of plain sockets by the system calls themselves. In a process of several threads the C library's wrappers cost two
//! locked instructions each, since they can be cancelled; there is one such call per side and direction of every request.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::task::{Context, Poll, ready};

use rustix::buffer::spare_capacity;
use rustix::net::{RecvFlags, SendFlags};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

/// A socket whose readiness the runtime knows.
pub(crate) trait Socket: AsFd {
    /// Whether a read that fills a part of its room has emptied the queue. On a Unix socket it may have ended at descriptors that were sent
    /// along, with more behind them, of which the kernel says nothing again.
    const PART_IS_ALL: bool;
    /// Ready when it may be read.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Ready when it may be written.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Does `work`; where that would block, the socket is not ready until the kernel says so.
    fn attempt(&self, interest: Interest, work: impl FnOnce() -> io::Result<()>) -> io::Result<()>;
}

macro_rules! socket {
    ($of:ty, $part_is_all:literal) => {
        impl Socket for $of {
            const PART_IS_ALL: bool = $part_is_all;

            #[inline]
            fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_read_ready(cx)
            }

            #[inline]
            fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_write_ready(cx)
            }

            #[inline]
            fn attempt(&self, interest: Interest, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
                self.try_io(interest, work)
            }
        }
    };
}

socket!(TcpStream, true);
socket!(UnixStream, false);

/// Reads behind what `buf` holds, within its capacity; 0 is the end, or no room.
pub(crate) fn poll_read(socket: &impl Socket, cx: &mut Context<'_>, buf: &mut Vec<u8>) -> Poll<io::Result<usize>> {
    let room = buf.capacity() - buf.len();
    if room == 0 {
        return Poll::Ready(Ok(0));
    }
    poll(socket, cx, Interest::READABLE, room, || {
        rustix::net::recv(socket.as_fd(), spare_capacity(buf), RecvFlags::empty()).map(|(_, n)| n)
    })
}

/// Reads into `buf`; 0 is the end, or no room.
pub(crate) fn poll_read_into(socket: &impl Socket, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
    if buf.is_empty() {
        return Poll::Ready(Ok(0));
    }
    let room = buf.len();
    poll(socket, cx, Interest::READABLE, room, || {
        rustix::net::recv(socket.as_fd(), &mut *buf, RecvFlags::empty()).map(|(n, _)| n)
    })
}

/// Copies what waits to be read behind what `buf` holds, within its capacity, and leaves it there; 0 is the end, or no room.
pub(crate) fn poll_peek(socket: &impl Socket, cx: &mut Context<'_>, buf: &mut Vec<u8>) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_readable(cx))?;
        let mut seen = 0;
        let mut peek = || rustix::net::recv(socket.as_fd(), spare_capacity(buf), RecvFlags::PEEK | RecvFlags::DONTWAIT);
        // the runtime goes on taking the socket for readable, since what was seen is still there
        let tried = socket.attempt(Interest::READABLE, || {
            seen = peek()?.1;
            Ok(())
        });
        match tried {
            Ok(()) => return Poll::Ready(Ok(seen)),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
}

/// Takes out as many bytes as `seen` has, which were seen to wait there.
pub(crate) fn take(socket: &impl Socket, mut seen: &mut [u8]) -> io::Result<()> {
    while !seen.is_empty() {
        let (_, n) = rustix::net::recv(socket.as_fd(), &mut *seen, RecvFlags::DONTWAIT)?;
        match seen.get_mut(n..).filter(|_| n > 0) {
            Some(rest) => seen = rest,
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
    Ok(())
}

/// Whether nothing came and the other side has not ended. Asked without the runtime's budget, under which the 129th socket in a row would
/// pass for quiet whatever it holds; costs no system call while the kernel has said nothing.
pub(crate) fn is_quiet(socket: &impl Socket) -> bool {
    let looked = socket.attempt(Interest::READABLE, || Ok(peek(socket)?));
    looked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

/// The same by a system call, whatever the kernel has said.
pub(crate) fn holds_nothing(socket: &impl Socket) -> bool {
    peek(socket).is_err_and(|error| error == rustix::io::Errno::WOULDBLOCK)
}

fn peek(socket: &impl Socket) -> rustix::io::Result<()> {
    rustix::net::recv(socket.as_fd(), &mut [0u8; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT).map(drop)
}

/// Writes some of `data`.
pub(crate) fn poll_write(socket: &impl Socket, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
    poll(socket, cx, Interest::WRITABLE, data.len(), || rustix::net::send(socket.as_fd(), data, SendFlags::NOSIGNAL))
}

/// Writes some of several pieces.
pub(crate) fn poll_write_vectored(
    socket: &impl Socket,
    cx: &mut Context<'_>,
    data: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    // the system takes one piece more cheaply, and TLS seldom has more
    if let [piece] = data {
        return poll_write(socket, cx, piece);
    }
    let whole = data.iter().map(|piece| piece.len()).sum();
    // unlike `send` it cannot be told to raise no SIGPIPE, which Rust's runtime ignores for the whole process
    poll(socket, cx, Interest::WRITABLE, whole, || rustix::io::writev(socket.as_fd(), data))
}

/// Makes a call that moves up to `whole` bytes once the socket is ready. One that moved a part has found the socket's queue empty, or full,
/// so that the next one need not be made to learn it.
#[inline]
fn poll<S: Socket>(
    socket: &S,
    cx: &mut Context<'_>,
    interest: Interest,
    whole: usize,
    mut call: impl FnMut() -> rustix::io::Result<usize>,
) -> Poll<io::Result<usize>> {
    let part_is_all = S::PART_IS_ALL || interest.is_writable();
    loop {
        ready!(if interest.is_readable() { socket.poll_readable(cx) } else { socket.poll_writable(cx) })?;
        let mut moved = None;
        let tried = socket.attempt(interest, || {
            let n = call()?;
            moved = Some(n);
            if 0 < n && n < whole && part_is_all { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match (moved, tried) {
            (Some(n), _) => return Poll::Ready(Ok(n)),
            (None, Err(error)) if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Poll::Ready(Err(error));
            }
            (None, _) => {}
        }
    }
}
