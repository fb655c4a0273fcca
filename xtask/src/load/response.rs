//! Reading an HTTP/1.1 response as it comes in: where it ends, its status, and whether the connection ends with it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// The longest head that is read.
const MAX_HEAD: usize = 64 * 1024;

/// A response that is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) status: u16,
    /// The connection cannot be used again.
    pub(crate) closes: bool,
}

/// How far a response has come. One reader serves all responses of a connection, one after the other.
#[derive(Default)]
pub(crate) struct Reader {
    head: Vec<u8>,
    body: Body,
    status: u16,
    closes: bool,
    /// The body, where it is wanted.
    kept: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Body {
    /// The head is not complete.
    #[default]
    None,
    Length(u64),
    UntilClose,
    ChunkSize(u64),
    ChunkExtension(u64),
    ChunkData(u64),
    /// The line end after a chunk's data.
    ChunkEnd,
    /// In the trailer section; whether the current line has anything in it.
    Trailer(bool),
}

impl Reader {
    /// A reader that keeps bodies.
    fn keeping() -> Reader {
        Reader { kept: Some(Vec::new()), ..Reader::default() }
    }

    /// Takes what was received. A complete response leaves the reader ready for the next.
    ///
    /// # Errors
    /// When the bytes are not a response, or go on behind its end.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<Option<Done>> {
        while self.body == Body::None {
            if bytes.is_empty() {
                return Ok(None);
            }
            let Some(rest) = self.head(bytes)? else { return Ok(None) };
            bytes = rest;
        }
        if let Some(kept) = &mut self.kept {
            // Chunk framing stays in; who keeps bodies asks with HTTP/1.0.
            kept.extend_from_slice(bytes);
        }
        if !self.read_body(bytes)? {
            return Ok(None);
        }
        let done = Done { status: self.status, closes: self.closes };
        self.body = Body::None;
        Ok(Some(done))
    }

    /// The connection ended. A response that ends with it is complete.
    pub(crate) fn end(&mut self) -> Option<Done> {
        let complete = self.body == Body::UntilClose;
        complete.then_some(Done { status: self.status, closes: true })
    }

    /// Takes bytes of the head, and returns what is behind it once it is complete and not an interim one.
    fn head<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<&'a [u8]>> {
        let before = self.head.len();
        self.head.extend_from_slice(bytes);
        let from = before.saturating_sub(3);
        let found = self.head.get(from..).and_then(|new| new.windows(4).position(|end| end == b"\r\n\r\n"));
        let Some(end) = found.map(|at| from + at + 4) else {
            if self.head.len() > MAX_HEAD {
                bail!("the head of a response is longer than {MAX_HEAD} bytes");
            }
            return Ok(None);
        };
        self.head.truncate(end);
        self.parse()?;
        self.head.clear();
        Ok(bytes.get(end - before..))
    }

    fn parse(&mut self) -> Result<()> {
        let text = String::from_utf8_lossy(&self.head);
        let mut lines = text.split("\r\n");
        let start = lines.next().unwrap_or_default();
        self.status = start
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.get(2..5))
            .and_then(|status| status.parse().ok())
            .with_context(|| format!("`{start}` is not a status line"))?;
        self.closes = start.starts_with("HTTP/1.0");
        let mut body = Body::UntilClose;
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                body = Body::Length(value.parse().context("a malformed length")?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked") {
                body = Body::ChunkSize(0);
            } else if name.eq_ignore_ascii_case("connection") {
                self.closes = value.eq_ignore_ascii_case("close");
            }
        }
        self.body = match self.status {
            // Ends with its head, and so does an upgrade as far as HTTP is concerned.
            101 | 204 | 304 => Body::Length(0),
            100..200 => Body::None,
            _ => body,
        };
        Ok(())
    }

    /// Whether the body is complete with `bytes`.
    fn read_body(&mut self, mut bytes: &[u8]) -> Result<bool> {
        loop {
            match self.body {
                Body::None => bail!("a response goes on behind its end"),
                Body::UntilClose => return Ok(false),
                Body::Length(left) => {
                    let left = left.checked_sub(bytes.len() as u64).context("a response goes on behind its end")?;
                    self.body = Body::Length(left);
                    return Ok(left == 0);
                }
                Body::ChunkData(left) => {
                    let take = left.min(bytes.len() as u64);
                    bytes = bytes.get(take as usize..).unwrap_or_default();
                    self.body = if left == take { Body::ChunkEnd } else { Body::ChunkData(left - take) };
                }
                Body::ChunkSize(_) | Body::ChunkExtension(_) | Body::ChunkEnd | Body::Trailer(_) => {}
            }
            let Some((byte, rest)) = bytes.split_first() else { return Ok(false) };
            if matches!(self.body, Body::ChunkData(_)) {
                continue;
            }
            bytes = rest;
            if self.chunk_byte(*byte)? {
                return if bytes.is_empty() { Ok(true) } else { bail!("a response goes on behind its end") };
            }
        }
    }

    /// One byte of chunk framing; whether it was the last of the body.
    fn chunk_byte(&mut self, byte: u8) -> Result<bool> {
        self.body = match (self.body, byte) {
            (Body::ChunkSize(0) | Body::ChunkExtension(0), b'\n') => Body::Trailer(false),
            (Body::ChunkSize(size) | Body::ChunkExtension(size), b'\n') => Body::ChunkData(size),
            (Body::ChunkSize(size), b'\r' | b';') | (Body::ChunkExtension(size), _) => Body::ChunkExtension(size),
            (Body::ChunkSize(size), digit) => {
                let digit = char::from(digit).to_digit(16).context("a malformed chunk size")?;
                Body::ChunkSize(size.checked_mul(16).context("a chunk size too large")? + u64::from(digit))
            }
            (Body::ChunkEnd, b'\n') => Body::ChunkSize(0),
            (Body::Trailer(false), b'\n') => return Ok(true),
            (Body::Trailer(true), b'\n') => Body::Trailer(false),
            (state @ (Body::ChunkEnd | Body::Trailer(_)), b'\r') => state,
            (Body::Trailer(_), _) => Body::Trailer(true),
            _ => bail!("malformed chunks"),
        };
        Ok(false)
    }
}

/// Sends `request` on a new connection and waits for its response: status and body.
pub(crate) fn fetch(address: SocketAddr, request: &[u8]) -> Result<(u16, Vec<u8>)> {
    let patience = Duration::from_secs(10);
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(request)?;
    let mut reader = Reader::keeping();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = stream.read(&mut buffer)?;
        let done = if read == 0 { reader.end() } else { reader.feed(buffer.get(..read).unwrap_or_default())? };
        match done {
            Some(done) => return Ok((done.status, reader.kept.unwrap_or_default())),
            None if read == 0 => bail!("{address} closed the connection before its answer was complete"),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole_and_split(text: &str) -> Vec<Option<Done>> {
        let mut results = vec![Reader::default().feed(text.as_bytes()).unwrap()];
        let mut reader = Reader::default();
        let mut last = None;
        for (index, byte) in text.bytes().enumerate() {
            last = reader.feed(&[byte]).unwrap();
            assert_eq!(last.is_some(), index + 1 == text.len() && results[0].is_some(), "at {index} of {text:?}");
        }
        results.push(last);
        results
    }

    #[test]
    fn a_response_ends_where_its_framing_says_however_it_is_split() {
        let done = Some(Done { status: 200, closes: false });
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nabcde\r\n1\r\nf\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na",
        ] {
            assert_eq!(whole_and_split(text), [done, done], "{text:?}");
        }
    }

    #[test]
    fn bytes_behind_the_end_are_an_error() {
        assert!(Reader::default().feed(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab").is_err());
        assert!(Reader::default().feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nx").is_err());
    }

    #[test]
    fn a_response_without_length_ends_with_the_connection() {
        let mut reader = Reader::default();
        assert_eq!(reader.feed(b"HTTP/1.1 200 OK\r\n\r\nabc").unwrap(), None);
        assert_eq!(reader.end(), Some(Done { status: 200, closes: true }));
        assert_eq!(Reader::default().end(), None);
    }
}
