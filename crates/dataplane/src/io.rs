//! A byte stream towards either side: TCP, Unix socket, or one wrapped in TLS. Knows nothing of HTTP.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::BufMut;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::socket;

/// Bytes read at once from a Unix socket into room that has to be initialized for it.
const PIECE: usize = 16 * 1024;

/// A stream that is neither of the two plain kinds; TLS over one of them.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

/// A byte stream.
pub(crate) enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// Unix socket.
    Unix(UnixStream),
    /// TLS over either.
    Tls(Box<dyn Duplex>),
}

macro_rules! on {
    ($self:expr, $stream:ident => $work:expr) => {
        match $self {
            Stream::Tcp($stream) => $work,
            Stream::Unix($stream) => $work,
            Stream::Tls($stream) => $work,
        }
    };
}

impl Stream {
    /// Reads at most `limit` bytes behind what `buf` holds, within its capacity; 0 is the end of the stream.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut Vec<u8>,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        let room = buf.capacity() - buf.len();
        match self {
            Stream::Tcp(s) if room <= limit => socket::poll_read(s, cx, buf),
            Stream::Unix(s) if room <= limit => socket::poll_read(s, cx, buf),
            // the runtime's own way takes a part for all there is
            Stream::Unix(s) => {
                let held = buf.len();
                buf.resize(held + limit, 0);
                let read = socket::poll_read_into(s, cx, buf.get_mut(held..).unwrap_or_default());
                buf.truncate(held + if let Poll::Ready(Ok(n)) = read { n } else { 0 });
                read
            }
            Stream::Tcp(_) | Stream::Tls(_) => {
                let mut buf = buf.limit(room.min(limit));
                on!(self, s => tokio_util::io::poll_read_buf(Pin::new(s), cx, &mut buf))
            }
        }
    }

    /// Copies what waits to be read behind what `buf` holds, within its capacity, and leaves it there; 0 is the end. Of plain sockets only.
    pub(crate) fn poll_peek(&self, cx: &mut Context<'_>, buf: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        match self {
            Stream::Tcp(s) => socket::poll_peek(s, cx, buf),
            Stream::Unix(s) => socket::poll_peek(s, cx, buf),
            Stream::Tls(_) => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        }
    }

    /// Takes out as many bytes as `seen` has, which [`Stream::poll_peek`] gave.
    pub(crate) fn take(&self, seen: &mut [u8]) -> io::Result<()> {
        match self {
            Stream::Tcp(s) => socket::take(s, seen),
            Stream::Unix(s) => socket::take(s, seen),
            Stream::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Writes some of `first` and `second`.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, first: &[u8], second: &[u8]) -> Poll<io::Result<usize>> {
        if second.is_empty() || first.is_empty() {
            let data = if first.is_empty() { second } else { first };
            return Pin::new(self).poll_write(cx, data);
        }
        Pin::new(self).poll_write_vectored(cx, &[IoSlice::new(first), IoSlice::new(second)])
    }

    /// Sends what TLS holds back; nothing on plain sockets.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => Poll::Ready(Ok(())),
            Stream::Tls(s) => Pin::new(s).poll_flush(cx),
        }
    }

    /// Ends the sending side.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on!(self, s => Pin::new(s).poll_shutdown(cx))
    }

    /// Makes dropping it a reset: what was sent must not look complete. TLS shows it by the missing `close_notify`.
    pub(crate) fn abort(&self) {
        if let Stream::Tcp(stream) = self {
            // without it the peer sees an end like any other, which only misleads where the end was the framing
            let _ = stream.set_zero_linger();
        }
    }

    /// Whether what is read is what the socket holds.
    pub(crate) fn is_plain(&self) -> bool {
        !matches!(self, Stream::Tls(_))
    }

    /// Whether an idle stream has neither ended nor sent something unasked; costs no system call while nothing happened. With `look`, a
    /// plain socket itself is asked, which knows more than the runtime was told.
    pub(crate) fn is_quiet(&mut self, look: bool) -> bool {
        match self {
            Stream::Tcp(s) if look => socket::holds_nothing(s),
            Stream::Unix(s) if look => socket::holds_nothing(s),
            Stream::Tcp(s) => socket::is_quiet(s),
            Stream::Unix(s) => socket::is_quiet(s),
            Stream::Tls(s) => {
                let mut byte = [0u8; 1];
                let mut buf = tokio::io::ReadBuf::new(&mut byte);
                let mut cx = Context::from_waker(Waker::noop());
                // out of budget, it would pass for quiet whatever it holds
                tokio::task::coop::has_budget_remaining() && Pin::new(s).poll_read(&mut cx, &mut buf).is_pending()
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let whole = buf.capacity() == buf.initialized().len();
        let read = match &mut *self {
            // what is not initialized yet only the runtime's own way may fill
            Stream::Tcp(s) if whole => socket::poll_read_into(s, cx, buf.initialize_unfilled()),
            Stream::Unix(s) => {
                let room = buf.remaining().min(PIECE);
                socket::poll_read_into(s, cx, buf.initialize_unfilled_to(room))
            }
            Stream::Tcp(s) => return Pin::new(s).poll_read(cx, buf),
            Stream::Tls(s) => return Pin::new(s).poll_read(cx, buf),
        };
        read.map_ok(|n| buf.advance(n))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Stream::Tcp(s) => socket::poll_write(s, cx, data),
            Stream::Unix(s) => socket::poll_write(s, cx, data),
            Stream::Tls(s) => Pin::new(s).poll_write(cx, data),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on!(&mut *self, s => Pin::new(s).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on!(&mut *self, s => Pin::new(s).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Stream::Tcp(s) => socket::poll_write_vectored(s, cx, data),
            Stream::Unix(s) => socket::poll_write_vectored(s, cx, data),
            Stream::Tls(s) => Pin::new(s).poll_write_vectored(cx, data),
        }
    }

    fn is_write_vectored(&self) -> bool {
        on!(self, s => s.is_write_vectored())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::IoSlice;
    use std::mem::MaybeUninit;
    use std::os::fd::AsFd;

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use tokio::io::ReadBuf;

    use super::*;

    /// Sends each piece with a descriptor, so that every read ends with one.
    fn send(to: &UnixStream, pieces: &[&str]) {
        for piece in pieces {
            let descriptors = [to.as_fd()];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
            sendmsg(to, &[IoSlice::new(piece.as_bytes())], &mut control, SendFlags::empty()).unwrap();
        }
    }

    #[tokio::test]
    async fn what_lies_behind_descriptors_on_a_unix_socket_is_read_without_another_word() {
        type Read = fn(&mut Stream, &mut Context<'_>, &mut Vec<u8>) -> Poll<io::Result<usize>>;
        let ways: [Read; 4] = [
            |stream, cx, buf| stream.poll_read(cx, buf, usize::MAX),
            |stream, cx, buf| stream.poll_read(cx, buf, 64),
            |stream, cx, buf| {
                let mut space = [0u8; 64];
                let mut read = ReadBuf::new(&mut space);
                Pin::new(stream).poll_read(cx, &mut read).map_ok(|()| {
                    buf.extend_from_slice(read.filled());
                    read.filled().len()
                })
            },
            |stream, cx, buf| {
                let mut space = [MaybeUninit::uninit(); 64];
                let mut read = ReadBuf::uninit(&mut space);
                Pin::new(stream).poll_read(cx, &mut read).map_ok(|()| {
                    buf.extend_from_slice(read.filled());
                    read.filled().len()
                })
            },
        ];
        for (at, way) in ways.into_iter().enumerate() {
            let (own, other) = UnixStream::pair().unwrap();
            other.writable().await.unwrap();
            send(&other, &["GET /a", " HTTP/1.1\r\n", "\r\n"]);
            let mut stream = Stream::Unix(own);
            let mut buf = Vec::with_capacity(1024);
            let first = poll_fn(|cx| way(&mut stream, cx, &mut buf)).await.unwrap();
            assert_eq!(first, 6, "way {at}");
            let mut cx = Context::from_waker(Waker::noop());
            while let Poll::Ready(read) = way(&mut stream, &mut cx, &mut buf) {
                assert!(read.unwrap() > 0, "way {at}");
            }
            assert_eq!(String::from_utf8_lossy(&buf), "GET /a HTTP/1.1\r\n\r\n", "way {at}");
        }
    }
}
