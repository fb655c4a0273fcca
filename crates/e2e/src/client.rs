//! A scripted client: raw bytes out, and a strict reader of what comes back.

use std::net::Shutdown;
use std::time::Duration;

use crate::message::{Framing, Head};
use crate::queue::Queue;
use crate::wait::{PATIENCE, poll};
use crate::wire::{Address, Body, Broken, Stream, Wire};

/// A final answer, with what came before it.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// Status.
    pub status: u16,
    /// Head of the final answer.
    pub head: Head,
    /// Heads of the interim answers (1xx) before it.
    pub interim: Vec<Head>,
    /// Body, as far as it came.
    pub body: Vec<u8>,
    /// Trailer fields.
    pub trailers: Vec<(String, String)>,
    /// Number of chunks, 0 when not chunked.
    pub chunks: usize,
    /// Why the body is not complete; `None` when it is.
    pub broken: Option<Broken>,
}

impl Response {
    /// The only value of a field; `None` when absent or repeated.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.one(name)
    }

    /// All of it, but for when it was made and by what ids the exchange is known: what two answers that are alike have alike.
    #[must_use]
    pub fn without_ids(&self) -> String {
        let fields =
            self.head.fields.iter().filter(|(name, _)| !["date", "x-request-id"].contains(&&*name.to_lowercase()));
        let fields: String = fields.map(|(name, value)| format!("{name}: {value}\n")).collect();
        let ids = serde_json::from_slice::<serde_json::Value>(&self.body).unwrap_or_default();
        let id = ids["instance"].as_str().unwrap_or("there is none");
        format!("{}\n{fields}\n{}", self.head.start, self.text().replace(id, ""))
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in `{}`", self.text()))
    }

    /// Whether the sender said that this connection ends here.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.head.all("connection").any(|value| value.to_ascii_lowercase().contains("close"))
    }
}

/// A connection to a gateway.
#[derive(Debug)]
pub struct Client {
    /// The connection.
    pub wire: Wire,
}

impl Client {
    /// Connects.
    ///
    /// # Panics
    /// When nobody listens there.
    #[must_use]
    pub fn connect(address: &Address) -> Self {
        Self::try_connect(address).unwrap_or_else(|error| panic!("connecting to {address}: {error}"))
    }

    /// Connects.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn try_connect(address: &Address) -> std::io::Result<Self> {
        Ok(Self { wire: Wire::new(Stream::connect(address)?) })
    }

    /// Goes on over a connection that is there.
    #[must_use]
    pub fn over(stream: Stream) -> Self {
        Self { wire: Wire::new(stream) }
    }

    /// Writes `bytes`; a peer that has closed already is not an error, since its answer is what counts.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _ = self.wire.send(bytes.as_ref());
        self
    }

    /// Writes `bytes`, and waits until the gateway has taken them from its socket, so that what is written next arrives in
    /// a read of its own.
    pub fn send_apart(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.send(bytes);
        let ends = (self.wire.stream.peer_address(), self.wire.stream.local_address());
        if let ((Some(there), Some(here)), Some(queue)) = (ends, Queue::open()) {
            let _ = poll(Duration::from_millis(500), || (queue.unread(there, here).unwrap_or(0) == 0).then_some(()));
        }
        self
    }

    /// Reads one answer to a request of any method but HEAD and CONNECT.
    ///
    /// # Errors
    /// See [`Broken`]; a body that breaks off is in [`Response::broken`] instead.
    pub fn response(&mut self) -> Result<Response, Broken> {
        self.response_to("GET")
    }

    /// Reads one answer to a request of `method`, skipping and keeping interim ones.
    ///
    /// # Errors
    /// See [`Broken`]; a body that breaks off is in [`Response::broken`] instead.
    pub fn response_to(&mut self, method: &str) -> Result<Response, Broken> {
        let mut interim = Vec::new();
        loop {
            let head = self.wire.head()?;
            let status = status_of(&head)?;
            if (100..200).contains(&status) && status != 101 {
                interim.push(head);
                if interim.len() > 1000 {
                    return Err(Broken::Malformed("more than 1000 interim answers".to_owned()));
                }
                continue;
            }
            let framing = head.framing().map_err(Broken::Malformed)?;
            let bodiless = method == "HEAD" || matches!(status, 101 | 204 | 304);
            let body = match framing {
                _ if bodiless => Body::default(),
                Framing::Length(length) => self.wire.counted(length),
                Framing::Chunked => self.wire.chunked(),
                Framing::Absent => self.wire.until_close(),
            };
            let Body { bytes, trailers, chunks, broken } = body;
            return Ok(Response { status, head, interim, body: bytes, trailers, chunks, broken });
        }
    }

    /// Sends a request and reads its answer.
    ///
    /// # Panics
    /// When no complete answer comes.
    pub fn call(&mut self, request: impl AsRef<[u8]>) -> Response {
        let request = request.as_ref();
        self.send(request);
        let method =
            String::from_utf8_lossy(request.split(|&byte| byte == b' ').next().unwrap_or_default()).into_owned();
        let answer = self.response_to(&method).unwrap_or_else(|broken| {
            panic!("no answer ({broken}) to `{}`; received `{}`", shown(request), shown(&self.wire.record))
        });
        assert_eq!(answer.broken, None, "incomplete answer to `{}`: {answer:?}", shown(request));
        answer
    }

    /// Sends a GET of `target` with the usual host.
    pub fn get(&mut self, target: &str) -> Response {
        self.call(format!("GET {target} HTTP/1.1\r\nHost: e2e.test\r\n\r\n"))
    }

    /// Reads one interim answer's head, such as `100 Continue`.
    ///
    /// # Errors
    /// See [`Broken`].
    pub fn interim(&mut self) -> Result<Head, Broken> {
        let head = self.wire.head()?;
        let status = status_of(&head)?;
        if (100..200).contains(&status) { Ok(head) } else { Err(Broken::Malformed(format!("{status} is not interim"))) }
    }

    /// Reads until the gateway closes. What came before that.
    ///
    /// # Errors
    /// [`Broken::Reset`] and [`Broken::TimedOut`], with nothing of what came.
    pub fn rest(&mut self) -> Result<Vec<u8>, Broken> {
        let body = self.wire.until_close();
        body.broken.map_or(Ok(body.bytes), Err)
    }

    /// Whether the gateway closes now, orderly or not, without another byte.
    pub fn is_closed(&mut self) -> bool {
        let body = self.wire.until_close();
        body.bytes.is_empty() && matches!(body.broken, None | Some(Broken::Reset))
    }

    /// Says that no more bytes will come.
    pub fn finish(&mut self) -> &mut Self {
        self.wire.stream.shutdown(Shutdown::Write);
        self
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        self.wire.stream.reset_on_close();
    }

    /// Bounds each later read and write.
    pub fn set_timeout(&mut self, limit: Duration) -> &mut Self {
        self.wire.stream.set_timeout(limit);
        self
    }

    /// Back to the usual bound.
    pub fn set_patience(&mut self) -> &mut Self {
        self.set_timeout(PATIENCE)
    }
}

fn status_of(head: &Head) -> Result<u16, Broken> {
    let line = &head.start;
    let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|digits| digits.parse().ok());
    status
        .filter(|_| matches!(line.as_bytes().get(12), None | Some(b' ')))
        .ok_or_else(|| Broken::Malformed(format!("status line `{}`", line.escape_default())))
}

/// Bytes for a message, escaped and cut to a readable length.
#[must_use]
pub fn shown(bytes: &[u8]) -> String {
    const MOST: usize = 600;
    if bytes.len() <= MOST {
        return bytes.escape_ascii().to_string();
    }
    format!("{}… ({} bytes)", bytes[..MOST].escape_ascii(), bytes.len())
}
