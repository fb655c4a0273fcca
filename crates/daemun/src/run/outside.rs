//! What policies may ask of the world: calls over HTTP/1.1 on connections that each thread keeps, work beside the workers, heavy
//! computing on a few slow threads. Knows no policy.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use daemun_config::model::{DnsRecords, Server, TargetAddress};
use daemun_dataplane::Clock;
use daemun_dataplane::record::Events;
use daemun_pipeline::world::Busy;
use daemun_pipeline::{Later, OutAnswer, OutCall, OutError, World};
use http::header::{HOST, USER_AGENT};
use http::{HeaderName, HeaderValue, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::ask::{Stream, chain, secure, tcp, unix};
use super::lookup::Lookup;
use super::names::nanos;
use super::within;

/// Bytes of an answer's head.
const MOST_HEAD: usize = 64 * 1024;
/// Fields of an answer's head.
const MOST_FIELDS: usize = 100;
/// Connections at rest that a thread keeps to one server.
const AT_REST: usize = 64;
/// How long one rests.
const REST: Duration = Duration::from_secs(30);
/// Servers that a thread keeps connections to.
const SERVERS: usize = 256;
/// Calls of one thread at once.
const CALLS: usize = 4096;
/// Jobs that wait for a computing thread.
const JOBS: usize = 64;
/// Why a call is not made.
const UNWRITABLE: &str = "a field cannot be written";
/// How nice computing threads are: they take what the workers leave.
const NICE: i32 = 15;

/// The world of a running gateway.
pub(super) struct Outside {
    shared: Arc<Shared>,
    jobs: SyncSender<Job>,
}

struct Shared {
    clock: Clock,
    events: Events,
    control: Handle,
    lookup: Lookup,
    /// Read again after a failure, since authorities are exchanged under their names.
    tls: Mutex<HashMap<Option<PathBuf>, Arc<ClientConfig>>>,
}

type Job = (Box<dyn FnOnce() + Send>, oneshot::Sender<()>);
type Sender = SendRequest<Full<Bytes>>;

/// Connections at rest of one thread, the newest last, each with when it came to rest.
type Resting = HashMap<(String, bool, Option<PathBuf>), Vec<(Sender, u64)>>;

thread_local! {
    static RESTING: RefCell<Resting> = RefCell::default();
    static CALLING: Cell<usize> = const { Cell::new(0) };
}

impl Outside {
    /// To be called inside the control runtime.
    ///
    /// # Errors
    /// When there are no threads to be had.
    pub(super) fn start(clock: Clock, events: Events) -> io::Result<Arc<dyn World>> {
        let (jobs, waiting) = sync_channel(JOBS);
        let waiting = Arc::new(Mutex::new(waiting));
        let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(4)).min(8);
        for number in 0..threads {
            let waiting = Arc::clone(&waiting);
            std::thread::Builder::new().name(format!("compute-{number}")).spawn(move || work(&waiting))?;
        }
        let lookup = Lookup::system(clock.clone());
        let shared = Shared { clock, events, control: Handle::current(), lookup, tls: Mutex::default() };
        Ok(Arc::new(Outside { shared: Arc::new(shared), jobs }))
    }
}

/// Does jobs until nobody has any more.
fn work(waiting: &Mutex<Receiver<Job>>) {
    // a system that does not let it is slower for others, not wrong
    let _ = rustix::process::setpriority_process(None, NICE);
    loop {
        let next = lock(waiting).recv();
        let Ok((job, done)) = next else { return };
        // what panics is told by the hook; whoever waits finds no result
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
        let _ = done.send(());
    }
}

impl World for Outside {
    fn call(&self, call: OutCall) -> Later<Result<OutAnswer, OutError>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let Some(_counted) = Counted::new() else {
                return Err(OutError::not_made("too many calls are under way"));
            };
            let mut head = None;
            let within_time = within(&shared.clock, call.within, shared.call(&call, &mut head)).await;
            within_time.unwrap_or_else(|| {
                let why = format!("no answer in {:?}", call.within);
                Err(if head.is_some() { OutError::unusable(why, head) } else { OutError::away(why) })
            })
        })
    }

    fn spawn(&self, work: Later<()>) {
        drop(self.shared.control.spawn(work));
    }

    fn compute(&self, job: Box<dyn FnOnce() + Send>) -> Later<Result<(), Busy>> {
        let (tell, done) = oneshot::channel();
        let taken = self.jobs.try_send((job, tell));
        Box::pin(async move {
            match taken {
                Ok(()) => done.await.map_err(|_| Busy),
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(Busy),
            }
        })
    }

    fn wait(&self, how_long: Duration) -> Later<()> {
        let clock = self.shared.clock.clone();
        let until = clock.now().saturating_add(nanos(how_long));
        Box::pin(async move { clock.wait(until).await })
    }

    fn now(&self) -> u64 {
        self.shared.clock.wall(self.shared.clock.now())
    }

    fn tell(&self, subject: &'static str, text: String) {
        self.shared.events.warning(subject, format_args!("{text}"));
    }
}

/// A call under way on this thread.
struct Counted;

impl Counted {
    fn new() -> Option<Counted> {
        let calls = CALLING.get();
        (calls < CALLS).then(|| {
            CALLING.set(calls + 1);
            Counted
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        CALLING.set(CALLING.get().saturating_sub(1));
    }
}

impl Shared {
    /// Makes a call; `begun` gets the head of its answer before the rest of it is read.
    async fn call(&self, call: &OutCall, begun: &mut Option<OutAnswer>) -> Result<OutAnswer, OutError> {
        let mut request = request(call)?;
        let key = (call.server.authority.clone(), call.server.tls, call.server.ca_file.clone());
        // a connection at rest may be closed by the server just now; then nothing was sent
        while let Some(mut sender) = self.rested(&key) {
            match sender.try_send_request(request).await {
                Ok(answer) => return self.read(call, key, sender, answer, begun).await,
                Err(mut failed) => match failed.take_message() {
                    Some(again) => request = again,
                    None => return Err(broken(&failed.into_error())),
                },
            }
        }
        let mut sender = self.connect(&call.server).await?;
        match sender.try_send_request(request).await {
            Ok(answer) => self.read(call, key, sender, answer, begun).await,
            Err(failed) => Err(broken(&failed.into_error())),
        }
    }

    /// Reads an answer to its end and keeps the connection.
    async fn read(
        &self,
        call: &OutCall,
        key: (String, bool, Option<PathBuf>),
        sender: Sender,
        answer: http::Response<hyper::body::Incoming>,
        begun: &mut Option<OutAnswer>,
    ) -> Result<OutAnswer, OutError> {
        let (head, mut body) = answer.into_parts();
        let fields = head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
        let head = OutAnswer { status: head.status.as_u16(), fields: fields.collect(), body: Bytes::new() };
        let head = begun.insert(head);
        let mut whole = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| OutError::unusable(broke_off(&error), Some(std::mem::take(head))))?;
            let Ok(piece) = frame.into_data() else { continue };
            if whole.len() + piece.len() > call.most {
                let why = format!("the answer is larger than {} bytes", call.most);
                return Err(OutError::unusable(why, Some(std::mem::take(head))));
            }
            whole.extend_from_slice(&piece);
        }
        self.rest(key, sender);
        Ok(OutAnswer { body: whole.into(), ..std::mem::take(head) })
    }

    /// A connection at rest that still stands, the newest first.
    fn rested(&self, key: &(String, bool, Option<PathBuf>)) -> Option<Sender> {
        let now = self.clock.now();
        RESTING.with_borrow_mut(|resting| {
            let known = resting.get_mut(key)?;
            known.retain(|(sender, since)| !sender.is_closed() && now.saturating_sub(*since) < nanos(REST));
            let ready = known.iter().rposition(|(sender, _)| sender.is_ready())?;
            Some(known.swap_remove(ready).0)
        })
    }

    fn rest(&self, key: (String, bool, Option<PathBuf>), sender: Sender) {
        if sender.is_closed() {
            return;
        }
        let now = self.clock.now();
        RESTING.with_borrow_mut(|resting| {
            if resting.len() >= SERVERS && !resting.contains_key(&key) {
                resting.retain(|_, known| {
                    known.retain(|(sender, since)| !sender.is_closed() && now.saturating_sub(*since) < nanos(REST));
                    !known.is_empty()
                });
            }
            if resting.len() < SERVERS || resting.contains_key(&key) {
                let known = resting.entry(key).or_default();
                if known.len() < AT_REST {
                    known.push((sender, now));
                }
            }
        });
    }

    async fn connect(&self, server: &Server) -> Result<Sender, OutError> {
        let stream = self.stream(server).await.map_err(OutError::away)?;
        let mut builder = Builder::new();
        builder.max_buf_size(MOST_HEAD).max_headers(MOST_FIELDS);
        let made = builder.handshake(TokioIo::new(stream)).await;
        let (sender, connection) = made.map_err(|error| OutError::away(chain(&error)))?;
        drop(tokio::spawn(async move { drop(connection.await) }));
        Ok(sender)
    }

    async fn stream(&self, server: &Server) -> Result<Stream, String> {
        let refused = |error: io::Error| format!("no connection: {}", daemun_config::why(&error));
        let (host, port) = match &server.address {
            TargetAddress::Unix(path) => return unix(path).await.map_err(refused),
            TargetAddress::Tcp { host, port } => (host, *port),
        };
        let addresses = match host.parse() {
            Ok(ip) => vec![ip],
            Err(_) => self.lookup.addresses(host, DnsRecords::Addresses).await?.addresses,
        };
        if addresses.is_empty() {
            return Err("the server's name has no address".to_owned());
        }
        let addresses: Vec<SocketAddr> = addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
        let stream = tcp(&addresses).await.map_err(refused)?;
        if !server.tls {
            return Ok(stream);
        }
        let name = ServerName::try_from(host.clone()).map_err(|error| error.to_string())?;
        let secured = secure(stream, self.tls(server).await?, name).await;
        if secured.is_err() {
            lock(&self.tls).remove(&server.ca_file);
        }
        secured
    }

    async fn tls(&self, server: &Server) -> Result<Arc<ClientConfig>, String> {
        if let Some(config) = lock(&self.tls).get(&server.ca_file) {
            return Ok(Arc::clone(config));
        }
        let ca_file = server.ca_file.clone();
        let read = self.control.spawn_blocking(move || daemun_dataplane::client_config(ca_file.as_deref())).await;
        let config = read.map_err(|error| error.to_string())??;
        lock(&self.tls).insert(server.ca_file.clone(), Arc::clone(&config));
        Ok(config)
    }
}

fn request(call: &OutCall) -> Result<Request<Full<Bytes>>, OutError> {
    let malformed = |_| OutError::not_made("the call cannot be written");
    let mut request = Request::builder().method(call.method).uri(call.target.as_str());
    if let Some(fields) = request.headers_mut() {
        let host = HeaderValue::from_str(&call.server.authority)
            .map_err(|_| OutError::not_made("the host cannot be written"))?;
        fields.insert(HOST, host);
        let agent = concat!("daemun/", env!("CARGO_PKG_VERSION"));
        fields.insert(USER_AGENT, HeaderValue::from_static(agent));
        for (name, value) in &call.fields {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| OutError::not_made(UNWRITABLE))?;
            let mut value = HeaderValue::from_bytes(value).map_err(|_| OutError::not_made(UNWRITABLE))?;
            value.set_sensitive(true);
            if name == HOST || name == USER_AGENT {
                fields.insert(name, value);
            } else {
                fields.append(name, value);
            }
        }
    }
    request.body(Full::new(call.body.clone())).map_err(malformed)
}

/// What became of a call that ended before there was a head. Only of a connection that ended is nobody taken to have answered.
fn broken(error: &hyper::Error) -> OutError {
    let ended = error.is_incomplete_message() || error.is_closed() || error.is_canceled();
    let failed = std::error::Error::source(error).is_some_and(|source| source.is::<io::Error>());
    let why = broke_off(error);
    if ended || failed { OutError::away(why) } else { OutError::unusable(why, None) }
}

fn broke_off(error: &hyper::Error) -> String {
    format!("the call broke off: {}", chain(error))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use daemun_pipeline::OutFailure;
    use daemun_pipeline::world::compute;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;

    use super::*;

    fn asked(path: &Path, most: usize) -> OutCall {
        let address = TargetAddress::Unix(path.to_owned());
        let server = Server { address, tls: false, authority: "here".to_owned(), ca_file: None };
        OutCall {
            server: Arc::new(server),
            method: "POST",
            target: "/x?y".to_owned(),
            fields: vec![("x-secret".to_owned(), b"s".to_vec())],
            body: Bytes::from_static(b"ask"),
            within: Duration::from_secs(3600),
            most,
        }
    }

    /// Answers every request of every connection with what it was sent; a connection takes `each` requests. Gives their count.
    fn echo(listener: UnixListener, each: usize) -> Arc<AtomicUsize> {
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        drop(tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                for _ in 0..each {
                    let mut request = Vec::new();
                    while !request.ends_with(b"ask") {
                        let mut piece = [0; 1024];
                        let Ok(read @ 1..) = stream.read(&mut piece).await else { break };
                        request.extend_from_slice(&piece[..read]);
                    }
                    let head = format!("HTTP/1.1 200 OK\r\nX-Been: here\r\ncontent-length: {}\r\n\r\n", request.len());
                    let _ = stream.write_all(&[head.as_bytes(), &request].concat()).await;
                }
            }
        }));
        connections
    }

    fn world() -> Arc<dyn World> {
        let clock = Clock::system();
        Outside::start(clock.clone(), Events::to(clock, io::sink()).unwrap()).unwrap()
    }

    #[test]
    fn a_call_is_sent_whole_and_its_connection_serves_the_next_one() {
        super::super::block_on(async {
            let folder = tempfile();
            let path = folder.join("echo.sock");
            let connections = echo(UnixListener::bind(&path).unwrap(), 2);
            let world = world();
            for _ in 0..4 {
                let answer = world.call(asked(&path, 1000)).await.unwrap();
                let text = String::from_utf8(answer.body.to_vec()).unwrap().to_lowercase();
                assert!(text.starts_with("post /x?y http/1.1\r\n") && text.ends_with("ask"), "{text}");
                assert!(text.contains("\r\nhost: here\r\n") && text.contains("\r\nx-secret: s\r\n"), "{text}");
                assert_eq!((answer.status, answer.field("x-been")), (200, Some(&b"here"[..])));
            }
            assert_eq!(connections.load(Ordering::Relaxed), 2);
            std::fs::remove_dir_all(folder).unwrap();
        })
        .unwrap_or_else(|_| panic!("no runtime"));
    }

    #[test]
    fn an_answer_that_is_too_large_and_a_server_that_is_not_there_are_told() {
        super::super::block_on(async {
            let folder = tempfile();
            let path = folder.join("echo.sock");
            let world = world();
            let error = world.call(asked(&path, 10)).await.unwrap_err();
            assert!(matches!(error.failure, OutFailure::Away) && error.why.starts_with("no connection"), "{error}");
            echo(UnixListener::bind(&path).unwrap(), 1);
            let error = world.call(asked(&path, 10)).await.unwrap_err();
            assert_eq!(error.why, "the answer is larger than 10 bytes");
            let head = match error.failure {
                OutFailure::Unusable(head) => head.unwrap(),
                OutFailure::Away | OutFailure::NotMade => panic!("it was answered"),
            };
            assert_eq!((head.status, head.field("x-been"), head.body.len()), (200, Some(&b"here"[..]), 0));
            std::fs::remove_dir_all(folder).unwrap();
        })
        .unwrap_or_else(|_| panic!("no runtime"));
    }

    #[test]
    fn computing_is_done_elsewhere_and_refused_once_too_much_waits() {
        super::super::block_on(async {
            let world = world();
            assert_eq!(compute(&*world, || 6 * 7).await, Ok(42));
            let gate = Arc::new(Mutex::new(()));
            let held = lock(&gate);
            let jobs: Vec<_> = (0..JOBS + 64)
                .map(|_| {
                    let gate = Arc::clone(&gate);
                    world.compute(Box::new(move || drop(lock(&gate))))
                })
                .collect();
            drop(held);
            let mut busy = 0;
            for job in jobs {
                busy += usize::from(job.await.is_err());
            }
            assert!((1..=64).contains(&busy), "{busy}");
        })
        .unwrap_or_else(|_| panic!("no runtime"));
    }

    fn tempfile() -> PathBuf {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("daemun-outside-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }
}
