//! A blocking byte stream with a deadline and a buffer, and the strict readers of heads and bodies that both the scripted
//! client and the scripted upstream use. Reads every message in the one way the RFCs allow, and says what was wrong otherwise.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::message::{Head, fields};
use crate::tls::Tls;
use crate::wait::PATIENCE;

/// Where a gateway or an upstream listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

/// Why bytes that were waited for did not come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The peer closed before the first byte of a message.
    Closed,
    /// The peer closed in the middle of a message.
    Truncated,
    /// The connection was reset.
    Reset,
    /// Nothing came in time: the peer hangs.
    TimedOut,
    /// What came is not HTTP.
    Malformed(String),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed before a byte"),
            Self::Truncated => f.write_str("closed in the middle of a message"),
            Self::Reset => f.write_str("reset"),
            Self::TimedOut => f.write_str("nothing came in time"),
            Self::Malformed(why) => write!(f, "malformed: {why}"),
        }
    }
}

/// A connected socket of either kind.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// Unix.
    Unix(UnixStream),
    /// TLS over TCP.
    Tls(Box<Tls>),
}

impl Stream {
    /// Connects to `address`, which must be listening.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn connect(address: &Address) -> std::io::Result<Self> {
        let stream = match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, PATIENCE)?;
                stream.set_nodelay(true)?;
                Self::Tcp(stream)
            }
            Address::Unix(path) => Self::Unix(UnixStream::connect(path)?),
        };
        stream.set_timeout(PATIENCE);
        Ok(stream)
    }

    /// Bounds each later read and write.
    pub fn set_timeout(&self, limit: Duration) {
        let limit = Some(limit.max(Duration::from_millis(1)));
        match self {
            Self::Tcp(stream) => {
                let _ = stream.set_read_timeout(limit);
                let _ = stream.set_write_timeout(limit);
            }
            Self::Unix(stream) => {
                let _ = stream.set_read_timeout(limit);
                let _ = stream.set_write_timeout(limit);
            }
            Self::Tls(tls) => {
                let _ = tls.socket.set_read_timeout(limit);
                let _ = tls.socket.set_write_timeout(limit);
            }
        }
    }

    /// Closes one or both directions.
    pub fn shutdown(&self, how: Shutdown) {
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
            Self::Tls(tls) => tls.socket.shutdown(how),
        };
    }

    /// Makes the close of the socket a reset instead of an orderly end.
    pub fn reset_on_close(&self) {
        if let Some(stream) = self.socket() {
            let _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
        }
    }

    /// A second handle of the same socket, below TLS.
    #[must_use]
    pub fn clone_handle(&self) -> Self {
        match self {
            Self::Tcp(stream) => Self::Tcp(stream.try_clone().expect("a socket handle")),
            Self::Unix(stream) => Self::Unix(stream.try_clone().expect("a socket handle")),
            Self::Tls(tls) => Self::Tcp(tls.socket.try_clone().expect("a socket handle")),
        }
    }

    /// Makes the receive buffer as small as the system allows, so that a reader who stops is felt soon.
    pub fn shrink_receive_buffer(&self) {
        if let Some(stream) = self.socket() {
            let _ = rustix::net::sockopt::set_socket_recv_buffer_size(stream, 4096);
        }
    }

    /// The TCP address of the other end, when it is one.
    #[must_use]
    pub fn peer_address(&self) -> Option<SocketAddr> {
        self.socket()?.peer_addr().ok()
    }

    /// The local TCP address, when it is one.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.socket()?.local_addr().ok()
    }

    /// The TLS connection.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn tls(&self) -> &Tls {
        let Self::Tls(tls) = self else { panic!("not a TLS connection") };
        tls
    }

    fn socket(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            Self::Unix(_) => None,
            Self::Tls(tls) => Some(&tls.socket),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
            Self::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
            Self::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => Ok(()),
            Self::Tls(tls) => tls.flush(),
        }
    }
}

/// What a chunked or counted body came to, complete or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// The bytes received.
    pub bytes: Vec<u8>,
    /// Trailer fields, in order.
    pub trailers: Vec<(String, String)>,
    /// Number of chunks; 0 for a counted body.
    pub chunks: usize,
    /// Why it is not complete, `None` when it is.
    pub broken: Option<Broken>,
}

/// A socket with a read buffer.
#[derive(Debug)]
pub struct Wire {
    /// The socket itself.
    pub stream: Stream,
    /// Bytes read and not yet taken.
    pub buffer: Vec<u8>,
    /// Everything read so far, up to [`Wire::RECORDED`] bytes.
    pub record: Vec<u8>,
    /// Counts the wires that wait for bytes, where somebody wants to know.
    pub waiting: Option<Arc<AtomicUsize>>,
}

impl Wire {
    /// How many bytes of a connection are kept for failure messages.
    pub const RECORDED: usize = 256 * 1024;
    /// A head longer than this is malformed.
    pub const HEAD: usize = 1024 * 1024;

    /// Wraps a connected socket.
    #[must_use]
    pub fn new(stream: Stream) -> Self {
        Self { stream, buffer: Vec::new(), record: Vec::new(), waiting: None }
    }

    /// Reads more bytes into the buffer; the number of bytes, never 0.
    ///
    /// # Errors
    /// [`Broken::Closed`] at the end of the stream, or what went wrong.
    pub fn fill(&mut self) -> Result<usize, Broken> {
        let mut piece = [0_u8; 32 * 1024];
        loop {
            self.waiting.iter().for_each(|count| _ = count.fetch_add(1, Ordering::SeqCst));
            let read = self.stream.read(&mut piece);
            self.waiting.iter().for_each(|count| _ = count.fetch_sub(1, Ordering::SeqCst));
            match read {
                Ok(0) => return Err(Broken::Closed),
                Ok(count) => {
                    self.buffer.extend_from_slice(&piece[..count]);
                    let room = Self::RECORDED.saturating_sub(self.record.len()).min(count);
                    self.record.extend_from_slice(&piece[..room]);
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Err(Broken::TimedOut);
                }
                Err(_) => return Err(Broken::Reset),
            }
        }
    }

    fn fill_within(&mut self) -> Result<usize, Broken> {
        self.fill().map_err(|broken| if broken == Broken::Closed { Broken::Truncated } else { broken })
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// Takes one head, through its empty line.
    ///
    /// # Errors
    /// See [`Broken`].
    pub fn head(&mut self) -> Result<Head, Broken> {
        let mut from = 0;
        loop {
            if let Some(at) = find(&self.buffer[from..], b"\r\n\r\n") {
                let raw: Vec<u8> = self.buffer.drain(..from + at + 4).collect();
                return Head::parse(raw).map_err(Broken::Malformed);
            }
            if self.buffer.len() > Self::HEAD {
                return Err(Broken::Malformed(format!("a head of more than {} bytes", Self::HEAD)));
            }
            from = self.buffer.len().saturating_sub(3);
            if self.buffer.is_empty() {
                self.fill()?
            } else {
                self.fill_within()?
            };
        }
    }

    /// Takes exactly `length` bytes.
    pub fn counted(&mut self, length: u64) -> Body {
        let mut body = Body::default();
        while (body.bytes.len() as u64) < length {
            if self.buffer.is_empty()
                && let Err(broken) = self.fill_within()
            {
                body.broken = Some(broken);
                return body;
            }
            let missing = usize::try_from(length).unwrap_or(usize::MAX) - body.bytes.len();
            let count = missing.min(self.buffer.len());
            body.bytes.extend_from_slice(&self.buffer[..count]);
            self.buffer.drain(..count);
        }
        body
    }

    /// Takes everything to the end of the stream.
    pub fn until_close(&mut self) -> Body {
        let mut body = Body::default();
        loop {
            body.bytes.append(&mut self.buffer);
            match self.fill() {
                Ok(_) => {}
                Err(Broken::Closed) => return body,
                Err(broken) => {
                    body.broken = Some(broken);
                    return body;
                }
            }
        }
    }

    /// Takes a chunked body and its trailers, strictly: no extension, no white space, every line ended by CRLF.
    pub fn chunked(&mut self) -> Body {
        let mut body = Body::default();
        body.broken = self.chunks(&mut body).err();
        body
    }

    fn chunks(&mut self, body: &mut Body) -> Result<(), Broken> {
        loop {
            let line = self.line()?;
            let size = chunk_size(&line).ok_or_else(|| malformed("chunk size", &line))?;
            if size == 0 {
                break;
            }
            let data = self.counted(size);
            body.bytes.extend_from_slice(&data.bytes);
            if let Some(broken) = data.broken {
                return Err(broken);
            }
            body.chunks += 1;
            let end = self.line()?;
            if !end.is_empty() {
                return Err(malformed("end of a chunk", &end));
            }
        }
        let mut raw = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            raw.push(line);
        }
        body.trailers = fields(raw.iter().map(Vec::as_slice)).map_err(Broken::Malformed)?;
        Ok(())
    }

    fn line(&mut self) -> Result<Vec<u8>, Broken> {
        loop {
            if let Some(at) = find(&self.buffer, b"\n") {
                let mut line: Vec<u8> = self.buffer.drain(..=at).collect();
                line.pop();
                if line.pop() != Some(b'\r') {
                    return Err(malformed("a line without CR LF", &line));
                }
                return Ok(line);
            }
            if self.buffer.len() > Self::HEAD {
                return Err(Broken::Malformed("a line without end".to_owned()));
            }
            self.fill_within()?;
        }
    }
}

fn malformed(what: &str, bytes: &[u8]) -> Broken {
    Broken::Malformed(format!("{what}: `{}`", bytes.escape_ascii()))
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(line).ok()?;
    let plain = !text.is_empty() && text.len() <= 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u64::from_str_radix(text, 16).ok().filter(|_| plain)
}

/// Where `needle` first occurs in `bytes`.
#[must_use]
pub fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}
