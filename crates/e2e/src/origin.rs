//! A scripted upstream: records every byte and every request it receives, judges them, and answers as its script says.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Shutdown, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::client::shown;
use crate::message::{Framing, Head, faults_of_forwarded};
use crate::queue::Queue;
use crate::tls::TlsServer;
use crate::wait::{Deadline, PATIENCE, poll};
use crate::wire::{Address, Body, Broken, Stream, Wire};

/// A request as the upstream received it.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Number of the connection it came on, in the order they were accepted.
    pub connection: usize,
    /// Method.
    pub method: String,
    /// Request target.
    pub target: String,
    /// Its head.
    pub head: Head,
    /// Its body.
    pub body: Vec<u8>,
    /// Trailer fields.
    pub trailers: Vec<(String, String)>,
    /// How its body was delimited.
    pub chunked: bool,
}

impl Request {
    /// The only value of a field; `None` when absent or repeated.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.one(name)
    }

    /// Whether a field is there.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.head.has(name)
    }

    /// The request in short, for messages.
    #[must_use]
    pub fn shown(&self) -> String {
        let trailers = if self.trailers.is_empty() { String::new() } else { format!(" trailers {:?}", self.trailers) };
        format!("`{}` body `{}`{trailers}", self.head.shown(), shown(&self.body))
    }
}

/// What the upstream has seen so far.
#[derive(Debug, Default)]
pub struct Log {
    /// Complete requests, in the order they were completed.
    pub requests: Vec<Request>,
    /// Requests that broke off in their body, and bytes that broke off in a head.
    pub partial: Vec<Request>,
    /// What no gateway may ever send.
    pub faults: Vec<String>,
    /// Number of connections accepted.
    pub accepted: usize,
    /// Connections that ended, by number; the gateway's sockets have been told.
    pub ended: Vec<usize>,
    /// Connections that ended with a reset, by number.
    pub reset: Vec<usize>,
    /// Why TLS handshakes failed.
    pub refused: Vec<String>,
}

struct Shared {
    log: Mutex<Log>,
    changed: Condvar,
    stopping: AtomicBool,
    open: Mutex<HashMap<usize, Stream>>,
    handled: AtomicUsize,
    waiting: Arc<AtomicUsize>,
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, change: impl FnOnce(&mut Log)) {
        change(&mut self.log());
        self.changed.notify_all();
    }
}

/// What a handler wants done with the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Read the next request.
    Keep,
    /// Close it.
    Close,
    /// Reset it.
    Reset,
}

/// The upstream's side of one connection.
pub struct Peer {
    /// Number of the connection, in the order they were accepted.
    pub number: usize,
    /// The connection.
    pub wire: Wire,
    shared: Arc<Shared>,
}

impl Peer {
    /// Reads one request whole. `None` when the gateway closed, or broke off, which is recorded.
    pub fn request(&mut self) -> Option<Request> {
        let mut request = self.request_head()?;
        self.body(&mut request).then_some(request)
    }

    /// Reads the head of a request and leaves its body.
    pub fn request_head(&mut self) -> Option<Request> {
        match self.wire.head() {
            Ok(head) => {
                let faults = faults_of_forwarded(&head);
                if !faults.is_empty() {
                    let text = format!("{} in `{}`", faults.join("; "), head.shown());
                    self.shared.note(|log| log.faults.push(text));
                }
                let (method, target, _) = head.request_line().unwrap_or_default();
                let (method, target) = (method.to_owned(), target.to_owned());
                let chunked = head.framing() == Ok(Framing::Chunked);
                Some(Request { connection: self.number, method, target, head, chunked, ..Request::default() })
            }
            Err(Broken::Malformed(why)) => {
                let raw = shown(&self.wire.record);
                self.shared.note(|log| log.faults.push(format!("{why}; the connection received `{raw}`")));
                None
            }
            Err(broken) => {
                self.broke(broken, Request { connection: self.number, ..Request::default() });
                None
            }
        }
    }

    /// Reads the body that goes with a head, and records the request. Whether it is complete.
    pub fn body(&mut self, request: &mut Request) -> bool {
        let body = match request.head.framing() {
            Ok(Framing::Length(length)) => self.wire.counted(length),
            Ok(Framing::Chunked) => self.wire.chunked(),
            Ok(Framing::Absent) => Body::default(),
            Err(_) => return false,
        };
        let Body { bytes, trailers, broken, .. } = body;
        request.body = bytes;
        request.trailers = trailers;
        match broken {
            None => {
                let copy = request.clone();
                self.shared.note(|log| log.requests.push(copy));
                true
            }
            Some(broken) => {
                self.broke(broken, request.clone());
                false
            }
        }
    }

    /// Records a request without reading its body, for scripts that answer early.
    pub fn note(&self, request: &Request) {
        let copy = request.clone();
        self.shared.note(|log| log.requests.push(copy));
    }

    fn broke(&mut self, broken: Broken, request: Request) {
        let number = self.number;
        let began = !request.method.is_empty() || !self.wire.buffer.is_empty();
        let left = shown(&self.wire.buffer);
        self.shared.note(|log| {
            match broken {
                Broken::Malformed(why) => log.faults.push(format!("{why} after {}, `{left}`", request.shown())),
                Broken::Reset => log.reset.push(number),
                Broken::Closed | Broken::Truncated | Broken::TimedOut => {}
            }
            if began {
                log.partial.push(request);
            }
        });
    }

    /// Writes bytes; whether the gateway took them.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.wire.send(bytes.as_ref()).is_ok()
    }

    /// Answers 200 with a counted body.
    pub fn answer(&mut self, body: impl AsRef<[u8]>) -> bool {
        let body = body.as_ref();
        let mut bytes = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        bytes.extend_from_slice(body);
        self.send(bytes)
    }

    /// Keeps the connection open without a word until the gateway closes it.
    pub fn stall(&mut self) {
        self.wire.stream.set_timeout(Duration::from_secs(600));
        let _ = self.wire.until_close();
    }

    /// Closes the sending direction only.
    pub fn finish(&mut self) {
        self.wire.stream.shutdown(Shutdown::Write);
    }
}

/// A scripted upstream. Dropping it ends its connections.
pub struct Origin {
    address: Address,
    shared: Arc<Shared>,
}

impl Origin {
    /// Starts an upstream on a free port of the loopback address; `script` plays each connection, on a thread of its own,
    /// and the connection is closed when it returns.
    pub fn start(script: impl Fn(&mut Peer) -> Next + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = Address::Tcp(listener.local_addr().expect("a bound address"));
        let accept = move || {
            let (stream, _) = listener.accept().ok()?;
            let _ = stream.set_nodelay(true);
            Some(Stream::Tcp(stream))
        };
        Self::run(address, accept, script)
    }

    /// Like [`Origin::start`], behind TLS. A handshake that fails ends its connection, and nothing else.
    pub fn start_tls(server: TlsServer, script: impl Fn(&mut Peer) -> Next + Send + Sync + 'static) -> Self {
        Self::start(move |peer| match server.accept(peer.wire.stream.clone_handle()) {
            Ok(stream) => {
                peer.wire.stream = stream;
                script(peer)
            }
            Err(error) => {
                peer.shared.note(|log| log.refused.push(error.to_string()));
                Next::Close
            }
        })
    }

    /// Starts an upstream on a Unix socket that does not exist yet.
    pub fn start_unix(path: &Path, script: impl Fn(&mut Peer) -> Next + Send + Sync + 'static) -> Self {
        let listener = UnixListener::bind(path).expect("a free path");
        let accept = move || Some(Stream::Unix(listener.accept().ok()?.0));
        Self::run(Address::Unix(path.to_owned()), accept, script)
    }

    /// Starts an upstream that reads each request whole, then lets `handler` answer it.
    pub fn serve(handler: impl Fn(&mut Peer, &Request) -> Next + Send + Sync + 'static) -> Self {
        Self::start(serving(handler))
    }

    /// Starts an upstream that answers each request with this text.
    #[must_use]
    pub fn named(name: &'static str) -> Self {
        Self::serve(move |peer, _| {
            peer.answer(name);
            Next::Keep
        })
    }

    /// `targets` of an upstream in a configuration.
    #[must_use]
    pub fn targets(origins: &[&Self]) -> String {
        let urls: Vec<String> = origins.iter().map(|origin| origin.url()).collect();
        format!("targets: [{}]", urls.join(", "))
    }

    /// Starts an upstream that answers each request with [`echo`].
    #[must_use]
    pub fn echo() -> Self {
        Self::serve(echo)
    }

    fn run(
        address: Address,
        accept: impl Fn() -> Option<Stream> + Send + 'static,
        script: impl Fn(&mut Peer) -> Next + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            log: Mutex::default(),
            changed: Condvar::new(),
            stopping: AtomicBool::new(false),
            open: Mutex::default(),
            handled: AtomicUsize::new(0),
            waiting: Arc::default(),
        });
        let own = Arc::clone(&shared);
        let script = Arc::new(script);
        std::thread::spawn(move || {
            while let Some(stream) = accept() {
                if own.stopping.load(Ordering::SeqCst) {
                    return;
                }
                let (shared, script) = (Arc::clone(&own), Arc::clone(&script));
                let number = shared.handled.fetch_add(1, Ordering::SeqCst);
                shared.note(|log| log.accepted += 1);
                std::thread::spawn(move || play(number, stream, &shared, script.as_ref()));
            }
        });
        Self { address, shared }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Where it listens, as a target of a configuration.
    #[must_use]
    pub fn url(&self) -> String {
        match &self.address {
            Address::Tcp(address) => format!("http://{address}"),
            Address::Unix(path) => format!("unix:{}", path.display()),
        }
    }

    /// Its port.
    ///
    /// # Panics
    /// When it listens on a Unix socket.
    #[must_use]
    pub fn port(&self) -> u16 {
        match &self.address {
            Address::Tcp(address) => address.port(),
            Address::Unix(_) => panic!("a Unix socket has no port"),
        }
    }

    /// Waits until every byte that arrived has been read and taken note of, as far as the scripts read at all.
    pub fn quiet(&self) {
        let Some(queue) = Queue::open() else { return };
        let mut before = false;
        let _ = poll(Duration::from_millis(100), || {
            let open = self.shared.open.lock().unwrap_or_else(PoisonError::into_inner);
            let ends = open.values().map(|stream| (stream.local_address(), stream.peer_address()));
            let all_read = ends.into_iter().all(|ends| match ends {
                (Some(here), Some(there)) => queue.unread(here, there).unwrap_or(0) == 0,
                _ => true,
            });
            let now = all_read && self.shared.waiting.load(Ordering::SeqCst) >= open.len();
            let settled = now && before;
            before = now;
            settled.then_some(())
        });
    }

    /// Reads the log.
    pub fn look<T>(&self, read: impl FnOnce(&Log) -> T) -> T {
        read(&self.shared.log())
    }

    /// Takes the log, so that the next look begins afresh. Connection numbers go on.
    pub fn take(&self) -> Log {
        let accepted = self.shared.log().accepted;
        std::mem::replace(&mut *self.shared.log(), Log { accepted, ..Log::default() })
    }

    /// Waits until `probe` finds what it looks for in the log.
    ///
    /// # Panics
    /// When that takes too long; the message names `what`.
    pub fn wait<T>(&self, what: &str, mut probe: impl FnMut(&Log) -> Option<T>) -> T {
        let deadline = Deadline::after(PATIENCE);
        let mut log = self.shared.log();
        loop {
            if let Some(found) = probe(&log) {
                return found;
            }
            let Some(left) = deadline.left() else { panic!("waited in vain until {what}; the upstream saw {log:#?}") };
            log = self.shared.changed.wait_timeout(log, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for `count` complete requests and returns all there are.
    pub fn wait_requests(&self, count: usize) -> Vec<Request> {
        self.wait(&format!("the upstream had {count} requests"), |log| {
            (log.requests.len() >= count).then(|| log.requests.clone())
        })
    }

    /// The only request so far.
    ///
    /// # Panics
    /// When there are none or several, or when anything was wrong with it.
    #[must_use]
    pub fn only_request(&self) -> Request {
        self.look(|log| {
            assert_eq!(log.faults, Vec::<String>::new());
            assert_eq!(log.requests.len(), 1, "{:#?}", log.requests);
            log.requests[0].clone()
        })
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        let _ = Stream::connect(&self.address);
        for stream in self.shared.open.lock().unwrap_or_else(PoisonError::into_inner).values() {
            stream.shutdown(Shutdown::Both);
        }
    }
}

fn play(number: usize, stream: Stream, shared: &Arc<Shared>, script: &(dyn Fn(&mut Peer) -> Next + Send + Sync)) {
    stream.set_timeout(Duration::from_secs(120));
    shared.open.lock().unwrap_or_else(PoisonError::into_inner).insert(number, stream.clone_handle());
    let mut wire = Wire::new(stream);
    wire.waiting = Some(Arc::clone(&shared.waiting));
    let mut peer = Peer { number, wire, shared: Arc::clone(shared) };
    let next = script(&mut peer);
    let handle = shared.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    if next == Next::Reset {
        peer.wire.stream.reset_on_close();
    } else if let Some(handle) = &handle {
        handle.shutdown(Shutdown::Write);
    }
    let ends = (peer.wire.stream.peer_address(), peer.wire.stream.local_address());
    drop(handle);
    drop(peer);
    if let ((Some(there), Some(here)), Some(queue)) = (ends, Queue::open()) {
        let _ = poll(Duration::from_millis(200), || (!queue.is_established(there, here)).then_some(()));
    }
    shared.note(|log| log.ended.push(number));
}

/// A script that reads each request whole, then lets `handler` answer it.
pub fn serving(
    handler: impl Fn(&mut Peer, &Request) -> Next + Send + Sync + 'static,
) -> impl Fn(&mut Peer) -> Next + Send + Sync + 'static {
    move |peer| {
        while let Some(request) = peer.request() {
            match handler(peer, &request) {
                Next::Keep => {}
                next @ (Next::Close | Next::Reset) => return next,
            }
        }
        Next::Close
    }
}

/// Answers 200 with the request's body, or its target where it has none, and `x-seen: METHOD TARGET`.
pub fn echo(peer: &mut Peer, request: &Request) -> Next {
    let body = if request.body.is_empty() { request.target.as_bytes() } else { &request.body };
    let mut bytes = format!(
        "HTTP/1.1 200 OK\r\nX-Seen: {} {}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
        request.method,
        request.target,
        body.len()
    )
    .into_bytes();
    if request.method != "HEAD" {
        bytes.extend_from_slice(body);
    }
    if peer.send(bytes) { Next::Keep } else { Next::Close }
}
