//! A scripted HTTP/2 client over cleartext with prior knowledge, or over TLS: any frame out, and what became of each stream.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::hpack::{Decoder, encode};
use crate::wire::{Address, Broken, Stream, Wire};

/// What every HTTP/2 connection begins with.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types (RFC 9113, 6).
pub mod kind {
    /// DATA.
    pub const DATA: u8 = 0;
    /// HEADERS.
    pub const HEADERS: u8 = 1;
    /// PRIORITY.
    pub const PRIORITY: u8 = 2;
    /// RST_STREAM.
    pub const RESET: u8 = 3;
    /// SETTINGS.
    pub const SETTINGS: u8 = 4;
    /// PUSH_PROMISE.
    pub const PUSH: u8 = 5;
    /// PING.
    pub const PING: u8 = 6;
    /// GOAWAY.
    pub const GOAWAY: u8 = 7;
    /// WINDOW_UPDATE.
    pub const WINDOW: u8 = 8;
    /// CONTINUATION.
    pub const CONTINUATION: u8 = 9;
}

/// The flag END_STREAM, and ACK.
pub const END_STREAM: u8 = 1;
/// The flag END_HEADERS.
pub const END_HEADERS: u8 = 4;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Type.
    pub kind: u8,
    /// Flags.
    pub flags: u8,
    /// Stream.
    pub stream: u32,
    /// Payload.
    pub payload: Vec<u8>,
}

/// A frame's bytes.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame's length");
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// What a stream received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Final status, 0 while there is none.
    pub status: u16,
    /// Statuses of interim answers.
    pub interim: Vec<u16>,
    /// Fields of the final head, without the status.
    pub fields: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
    /// Trailer fields.
    pub trailers: Vec<(String, String)>,
}

impl Answer {
    /// The only value of a field; `None` when absent or repeated.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(own, _)| own == name);
        let first = values.next();
        if values.next().is_some() { None } else { first.map(|(_, value)| value.as_str()) }
    }
}

/// How a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With a complete answer.
    Answer(Box<Answer>),
    /// With RST_STREAM and this code.
    Reset(u32),
    /// The whole connection was ended with this code.
    GoAway(u32),
    /// The connection was closed without a word.
    Closed,
}

/// A connection to a gateway.
#[derive(Debug)]
pub struct Http2 {
    /// The connection.
    pub wire: Wire,
    decoder: Decoder,
    answers: BTreeMap<u32, Answer>,
    endings: BTreeMap<u32, Ending>,
    away: Option<u32>,
    /// Number of PING acknowledgements received.
    pub pongs: usize,
    /// Number of SETTINGS acknowledgements received.
    pub settings_acks: usize,
    /// Streams the server will accept at once, as far as it said so.
    pub max_streams: Option<u32>,
    window: i64,
    windows: BTreeMap<u32, i64>,
    initial: i64,
}

impl Http2 {
    /// Connects, and sends the preface and settings that give the server all the room there is.
    ///
    /// # Panics
    /// When nobody listens there.
    #[must_use]
    pub fn connect(address: &Address) -> Self {
        Self::connect_with(address, 1 << 30)
    }

    /// Like [`Http2::connect`], with so many bytes of room for each stream's body.
    ///
    /// # Panics
    /// When nobody listens there.
    #[must_use]
    pub fn connect_with(address: &Address, window: u32) -> Self {
        let stream = Stream::connect(address).unwrap_or_else(|error| panic!("connecting to {address}: {error}"));
        Self::begin(stream, window)
    }

    /// Begins on a connection that is there, with so many bytes of room for each stream's body.
    #[must_use]
    pub fn begin(stream: Stream, window: u32) -> Self {
        let mut settings = vec![0, 1, 0, 0, 0, 0, 0, 4];
        settings.extend_from_slice(&window.to_be_bytes());
        let mut own = Self::over(Wire::new(stream));
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frame(kind::SETTINGS, 0, 0, &settings));
        bytes.extend(frame(kind::WINDOW, 0, 0, &(1_u32 << 30).to_be_bytes()));
        own.send(&bytes);
        own
    }

    /// Goes on over a connection whose preface has been sent.
    #[must_use]
    pub fn over(wire: Wire) -> Self {
        Self {
            wire,
            decoder: Decoder::default(),
            answers: BTreeMap::new(),
            endings: BTreeMap::new(),
            away: None,
            pongs: 0,
            settings_acks: 0,
            max_streams: None,
            window: 65_535,
            windows: BTreeMap::new(),
            initial: 65_535,
        }
    }

    /// Writes raw bytes; a peer that has closed is not an error, since its answer is what counts.
    pub fn send(&mut self, bytes: &[u8]) -> &mut Self {
        let _ = self.wire.send(bytes);
        self
    }

    /// Writes one frame.
    pub fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> &mut Self {
        self.send(&frame(kind, flags, stream, payload))
    }

    /// Writes a head in one HEADERS frame.
    pub fn headers<N: AsRef<[u8]>, V: AsRef<[u8]>>(&mut self, stream: u32, fields: &[(N, V)], end: bool) -> &mut Self {
        let flags = END_HEADERS | if end { END_STREAM } else { 0 };
        self.frame(kind::HEADERS, flags, stream, &encode(fields))
    }

    /// Writes one DATA frame.
    pub fn data(&mut self, stream: u32, bytes: &[u8], end: bool) -> &mut Self {
        self.frame(kind::DATA, u8::from(end), stream, bytes)
    }

    /// A GET of `target`, and how it ended.
    ///
    /// # Errors
    /// See [`Broken`].
    pub fn get(&mut self, stream: u32, target: &str) -> Result<Ending, Broken> {
        let fields = [(":method", "GET"), (":scheme", "http"), (":path", target), (":authority", "e2e.test")];
        self.headers(stream, &fields, true);
        self.ending(stream)
    }

    /// Bounds each later read.
    pub fn set_timeout(&mut self, limit: Duration) -> &mut Self {
        self.wire.stream.set_timeout(limit);
        self
    }

    /// Reads until it is clear how `stream` ended.
    ///
    /// # Errors
    /// [`Broken::TimedOut`] when nothing came in time, [`Broken::Malformed`] when what came is not HTTP/2.
    pub fn ending(&mut self, stream: u32) -> Result<Ending, Broken> {
        loop {
            if let Some(ending) = self.endings.get(&stream) {
                return Ok(ending.clone());
            }
            match self.step() {
                Ok(_) => {}
                Err(Broken::Closed | Broken::Truncated | Broken::Reset) => {
                    return Ok(self.away.map_or(Ending::Closed, Ending::GoAway));
                }
                Err(broken) => return Err(broken),
            }
        }
    }

    /// Reads until the server closes the connection; the code of its GOAWAY.
    ///
    /// # Errors
    /// [`Broken::TimedOut`] when it does not close in time, [`Broken::Malformed`] when what came is not HTTP/2.
    pub fn until_closed(&mut self) -> Result<Option<u32>, Broken> {
        loop {
            match self.step() {
                Ok(_) => {}
                Err(Broken::Closed | Broken::Truncated | Broken::Reset) => return Ok(self.away),
                Err(broken) => return Err(broken),
            }
        }
    }

    /// Like [`Http2::until_closed`], but a server that merely stops sending ends the wait as well: `Ok(None)`.
    ///
    /// # Errors
    /// [`Broken::Malformed`] when what came is not HTTP/2.
    pub fn until_closed_or_quiet(&mut self) -> Result<Option<u32>, Broken> {
        self.set_timeout(Duration::from_secs(2));
        match self.until_closed() {
            Err(Broken::TimedOut) => Ok(self.away),
            other => other,
        }
    }

    /// Sends a body of any length on `stream`, as the server's windows allow, and ends the stream.
    ///
    /// # Errors
    /// See [`Broken`].
    pub fn upload(&mut self, stream: u32, body: &[u8]) -> Result<(), Broken> {
        self.upload_part(stream, body, true).1.map_or(Ok(()), Err)
    }

    /// Sends the first part of a body on `stream`, as the server's windows allow, and ends the stream with it if it is the `last`. How
    /// much was sent, and why it is not all.
    pub fn upload_part(&mut self, stream: u32, body: &[u8], last: bool) -> (usize, Option<Broken>) {
        let mut sent = 0;
        while sent < body.len() {
            let allowed = self.initial + self.windows.get(&stream).copied().unwrap_or(0);
            let room = self.window.min(allowed - i64::try_from(sent).unwrap_or(i64::MAX));
            let room = usize::try_from(room).unwrap_or(0).min(16_384).min(body.len() - sent);
            if room == 0 {
                match self.step() {
                    Ok(_) => continue,
                    Err(broken) => return (sent, Some(broken)),
                }
            }
            self.data(stream, &body[sent..sent + room], last && sent + room == body.len());
            self.window -= i64::try_from(room).unwrap_or(0);
            sent += room;
        }
        (sent, None)
    }

    /// What `stream` has received so far.
    #[must_use]
    pub fn so_far(&self, stream: u32) -> Answer {
        self.answers.get(&stream).cloned().unwrap_or_default()
    }

    /// Whether a GOAWAY came, and its code.
    #[must_use]
    pub fn away(&self) -> Option<u32> {
        self.away
    }

    /// Reads one frame and takes note of it.
    ///
    /// # Errors
    /// See [`Broken`].
    pub fn step(&mut self) -> Result<Frame, Broken> {
        let mut frame = self.read()?;
        match frame.kind {
            kind::SETTINGS if frame.flags & 1 == 0 => {
                for setting in frame.payload.chunks_exact(6) {
                    match setting[1] {
                        3 => self.max_streams = Some(number(&setting[2..])),
                        4 => self.initial = i64::from(number(&setting[2..])),
                        _ => {}
                    }
                }
                self.frame(kind::SETTINGS, 1, 0, &[]);
            }
            kind::SETTINGS => self.settings_acks += 1,
            kind::PING if frame.flags & 1 == 0 => {
                let payload = frame.payload.clone();
                self.frame(kind::PING, 1, 0, &payload);
            }
            kind::PING => self.pongs += 1,
            kind::WINDOW if frame.stream == 0 => self.window += i64::from(number(&frame.payload)),
            kind::WINDOW => *self.windows.entry(frame.stream).or_insert(0) += i64::from(number(&frame.payload)),
            kind::GOAWAY => self.away = Some(number(frame.payload.get(4..8).unwrap_or_default())),
            kind::RESET => {
                let code = number(&frame.payload);
                self.endings.entry(frame.stream).or_insert(Ending::Reset(code));
            }
            kind::DATA => {
                let answer = self.answers.entry(frame.stream).or_default();
                answer.body.extend_from_slice(&frame.payload);
                if frame.flags & END_STREAM != 0 {
                    self.end(frame.stream);
                }
            }
            kind::HEADERS => self.head(&mut frame)?,
            _ => {}
        }
        Ok(frame)
    }

    fn head(&mut self, frame: &mut Frame) -> Result<(), Broken> {
        let mut flags = frame.flags;
        while flags & END_HEADERS == 0 {
            let more = self.read()?;
            if more.kind != kind::CONTINUATION || more.stream != frame.stream {
                return Err(Broken::Malformed("a head that is interrupted".to_owned()));
            }
            flags |= more.flags & END_HEADERS;
            frame.payload.extend_from_slice(&more.payload);
        }
        let mut fields = self.decoder.decode(&frame.payload).map_err(Broken::Malformed)?;
        let answer = self.answers.entry(frame.stream).or_default();
        let status = fields.iter().position(|(name, _)| name == ":status").map(|at| fields.remove(at).1);
        if let Some((name, value)) = fields.iter().find(|(name, _)| !is_fit(name)) {
            return Err(Broken::Malformed(format!("the field `{name}: {value}` in an HTTP/2 answer")));
        }
        match status.map(|text| text.parse::<u16>()) {
            Some(Ok(interim @ 100..200)) => answer.interim.push(interim),
            Some(Ok(last)) => (answer.status, answer.fields) = (last, fields),
            Some(Err(error)) => return Err(Broken::Malformed(format!(":status {error}"))),
            None => answer.trailers = fields,
        }
        if frame.flags & END_STREAM != 0 {
            self.end(frame.stream);
        }
        Ok(())
    }

    fn end(&mut self, stream: u32) {
        let answer = self.answers.get(&stream).cloned().unwrap_or_default();
        self.endings.entry(stream).or_insert_with(|| Ending::Answer(Box::new(answer)));
    }

    fn read(&mut self) -> Result<Frame, Broken> {
        while self.wire.buffer.len() < 9 {
            self.wire.fill()?;
        }
        let length = number(&[0, self.wire.buffer[0], self.wire.buffer[1], self.wire.buffer[2]]) as usize;
        while self.wire.buffer.len() < 9 + length {
            self.wire.fill()?;
        }
        let bytes: Vec<u8> = self.wire.buffer.drain(..9 + length).collect();
        let stream = number(&bytes[5..9]) & 0x7fff_ffff;
        Ok(Frame { kind: bytes[3], flags: bytes[4], stream, payload: bytes[9..].to_vec() })
    }
}

fn is_fit(name: &str) -> bool {
    let own = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];
    !name.is_empty()
        && !name.starts_with(':')
        && !name.bytes().any(|byte| byte.is_ascii_uppercase())
        && !own.contains(&name)
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).fold(0, |number, byte| number << 8 | u32::from(*byte))
}
