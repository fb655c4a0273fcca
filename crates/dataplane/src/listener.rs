//! Accepts connections: counts them, refuses those over the limit, waits out a lack of descriptors, empties a queue before it is closed;
//! then what comes before requests: a header of the PROXY protocol, TLS.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use daemun_config::model::{Bind, ListenerProxy};
use daemun_pipeline::{Client, Ends};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Notify, oneshot};

use crate::io::Stream;
use crate::proxy_protocol::{self, Said};
use crate::snapshot::{Entrance, Settings};
use crate::worker::{Vital, Worker};
use crate::{http1, http2};

/// Pause after accepting failed for want of descriptors or memory.
const PAUSE: u64 = 100_000_000;

/// A listening socket.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// Unix socket.
    Unix(std::os::unix::net::UnixListener),
}

/// The sockets of one listener that one worker serves. An empty list keeps those it already serves under that name.
#[derive(Debug)]
pub struct Sockets {
    /// Name of the listener: its address as configured, `#1` and so on behind it from the second of the same on.
    pub name: Arc<str>,
    /// The sockets.
    pub sockets: Vec<Socket>,
}

/// The listeners one worker serves.
#[derive(Default)]
pub(crate) struct Listeners {
    running: HashMap<Arc<str>, Vec<Running>>,
}

struct Running {
    stop: Rc<Notify>,
    empty_queue: Rc<std::cell::Cell<bool>>,
    done: oneshot::Receiver<()>,
}

impl Listeners {
    /// Serves exactly `wanted`: new ones are begun, missing ones are emptied and closed.
    pub(crate) async fn update(&mut self, worker: &Rc<Worker>, wanted: Vec<Sockets>) {
        let mut next = HashMap::new();
        for listener in wanted {
            let mut running = self.running.remove(&listener.name).unwrap_or_default();
            for socket in listener.sockets {
                if let Ok(one) = begin(worker, socket, &listener.name) {
                    running.push(one);
                }
            }
            next.insert(listener.name, running);
        }
        for gone in std::mem::replace(&mut self.running, next).into_values().flatten() {
            gone.stop.notify_one();
            let _ = gone.done.await;
        }
    }

    /// Stops accepting; with `empty_queue`, only after what waits in the kernel's queue was accepted.
    pub(crate) async fn stop(&mut self, empty_queue: bool) {
        for running in std::mem::take(&mut self.running).into_values().flatten() {
            running.empty_queue.set(empty_queue);
            running.stop.notify_one();
            let _ = running.done.await;
        }
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

impl Listener {
    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Listener::Tcp(listener) => listener.accept().await.map(|(s, peer)| Accepted::Tcp(s, peer)),
            Listener::Unix(listener) => listener.accept().await.map(|(s, _)| Accepted::Unix(s)),
        }
    }
}

impl Listener {
    /// Everything that waits in the kernel's queue, accepted without waiting.
    fn queued(self) -> Vec<Accepted> {
        let mut out = Vec::new();
        match self {
            Listener::Tcp(listener) => {
                let Ok(listener) = listener.into_std() else { return out };
                while let Ok((stream, peer)) = listener.accept() {
                    if stream.set_nonblocking(true).is_ok()
                        && let Ok(stream) = TcpStream::from_std(stream)
                    {
                        out.push(Accepted::Tcp(stream, peer));
                    }
                }
            }
            Listener::Unix(listener) => {
                let Ok(listener) = listener.into_std() else { return out };
                while let Ok((stream, _)) = listener.accept() {
                    if stream.set_nonblocking(true).is_ok()
                        && let Ok(stream) = UnixStream::from_std(stream)
                    {
                        out.push(Accepted::Unix(stream));
                    }
                }
            }
        }
        out
    }
}

fn begin(worker: &Rc<Worker>, socket: Socket, name: &Arc<str>) -> io::Result<Running> {
    let listener = match socket {
        Socket::Tcp(socket) => {
            socket.set_nonblocking(true)?;
            Listener::Tcp(TcpListener::from_std(socket)?)
        }
        Socket::Unix(socket) => {
            socket.set_nonblocking(true)?;
            Listener::Unix(UnixListener::from_std(socket)?)
        }
    };
    let stop = Rc::new(Notify::new());
    let empty_queue = Rc::new(std::cell::Cell::new(true));
    let (ended, done) = oneshot::channel();
    let accepting =
        accept_loop(Rc::clone(worker), listener, Arc::clone(name), Rc::clone(&stop), Rc::clone(&empty_queue));
    let vital = Vital::new(worker);
    tokio::task::spawn_local(async move {
        let _vital = vital;
        accepting.await;
        let _ = ended.send(());
    });
    Ok(Running { stop, empty_queue, done })
}

async fn accept_loop(
    worker: Rc<Worker>,
    listener: Listener,
    name: Arc<str>,
    stop: Rc<Notify>,
    empty_queue: Rc<std::cell::Cell<bool>>,
) {
    loop {
        match either(listener.accept(), stop.notified()).await {
            Some(Ok(accepted)) => admit(&worker, accepted, &name),
            Some(Err(error)) if is_of_one_connection(&error) => {}
            Some(Err(error)) => {
                if is_out_of_descriptors(&error) {
                    worker.shed_pools();
                }
                pause(&worker).await;
            }
            None => break,
        }
    }
    if empty_queue.get() {
        for accepted in listener.queued() {
            admit(&worker, accepted, &name);
        }
    }
}

/// Out of descriptors or memory: waits until a connection ended or a moment passed, whichever is first.
async fn pause(worker: &Worker) {
    let slot = worker.timers.slot();
    slot.set(worker.clock.now().saturating_add(PAUSE));
    let _ = slot.limit(worker.closed.notified()).await;
}

fn admit(worker: &Rc<Worker>, accepted: Accepted, name: &Arc<str>) {
    let local = worker.local();
    let settings = &local.snapshot.settings;
    let (stream, peer) = match accepted {
        Accepted::Tcp(stream, peer) => {
            // answers must not wait for acknowledgements; without it they are only slower
            let _ = stream.set_nodelay(true);
            (Stream::Tcp(stream), Some(peer))
        }
        Accepted::Unix(stream) => (Stream::Unix(stream), None),
    };
    if !worker.opened(settings.connections) {
        worker.recorder.connection_refused(Some(503));
        http1::refuse(stream);
        return;
    }
    let open = OpenConnection::new(worker);
    let mut client = client(settings, peer.map(|peer| peer.ip().to_canonical()));
    if local.snapshot.tells_ends {
        client.ends = peer.and_then(|from| ends(&stream, from));
    }
    let worker = Rc::clone(worker);
    let entrance = local.snapshot.entrances.get(&**name).cloned().map(|entrance| (entrance, Arc::clone(name)));
    tokio::task::spawn_local(async move {
        match entrance {
            None => http1::connection(&worker, stream, client, true).await,
            Some((entrance, name)) => Box::pin(enter(&worker, stream, client, (entrance, name))).await,
        }
        drop(open);
    });
}

/// Who is at the other end, as far as an address tells.
fn client(settings: &Settings, peer: Option<IpAddr>) -> Client {
    let trusted = settings.trusted_proxies.trust(peer);
    let ip = peer.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
    let peer_text = peer.map(|ip| ip.to_string()).unwrap_or_default();
    Client {
        peer,
        ip,
        peer_text: Rc::from(peer_text),
        trusted,
        unreadable: false,
        tls: false,
        handshake: None,
        identity: None,
        ends: None,
    }
}

/// Both ends of a connection; `None` when it ended already.
fn ends(stream: &Stream, from: SocketAddr) -> Option<Rc<Ends>> {
    let Stream::Tcp(stream) = stream else { return None };
    let plain = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
    Some(Rc::new(Ends { from: plain(from), to: plain(stream.local_addr().ok()?) }))
}

/// A client connection that was let in; counted until it is dropped, however its task ends.
struct OpenConnection(Rc<Worker>);

impl OpenConnection {
    fn new(worker: &Rc<Worker>) -> OpenConnection {
        worker.recorder.connection_opened();
        OpenConnection(Rc::clone(worker))
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.recorder.connection_closed();
        self.0.closed();
    }
}

/// What comes before requests, each within the time a head may take.
async fn enter(worker: &Rc<Worker>, stream: Stream, mut client: Client, through: (Entrance, Arc<str>)) {
    let (entrance, name) = through;
    if let Some(proxy) = &entrance.proxy
        && let Err(why) = named(worker, &stream, &mut client, proxy).await
    {
        worker.recorder.connection_unnamed();
        tell_unnamed(worker, &client, &entrance, (&name, why));
        return;
    }
    match entrance.tls {
        None => http1::connection(worker, stream, client, true).await,
        Some(tls) => secure(worker, stream, client, tls).await,
    }
}

#[cold]
fn tell_unnamed(worker: &Worker, client: &Client, entrance: &Entrance, (name, why): (&str, &str)) {
    let Some(events) = worker.recorder.metrics().events() else { return };
    let Some(left_out) = entrance.unnamed.admit(worker.clock.now()) else { return };
    let peer = client.peer.map_or_else(|| "a Unix socket".to_owned(), |ip| format!("`{ip}`"));
    let more = if left_out > 0 { format!("; {left_out} more were closed since the last line") } else { String::new() };
    events.warning("proxy_protocol", format_args!("`{name}` closed a connection from {peer}: {why}{more}"));
}

/// Takes the client from the header of the PROXY protocol that the connection begins with; an error says why it may not be served. A peer
/// that is not believed is not asked for one, and nothing that it sends is taken for one.
async fn named(
    worker: &Rc<Worker>,
    stream: &Stream,
    client: &mut Client,
    proxy: &ListenerProxy,
) -> Result<(), &'static str> {
    if !proxy.from.trust(client.peer) {
        let refused = "the listener takes a PROXY header from others only, and serves nobody else";
        return if proxy.serve_others { Ok(()) } else { Err(refused) };
    }
    let slot = worker.timers.slot();
    slot.set(worker.clock.now().saturating_add(worker.local().snapshot.settings.head));
    match slot.limit(header(stream)).await {
        Some(Ok(Said::Client { from, to })) => {
            let local = worker.local();
            *client = self::client(&local.snapshot.settings, Some(from.ip()));
            client.ends = local.snapshot.tells_ends.then(|| Rc::new(Ends { from, to }));
            Ok(())
        }
        Some(Ok(Said::Nobody)) => Ok(()),
        Some(Err(error)) if error.kind() == io::ErrorKind::InvalidData => Err("it does not begin with a PROXY header"),
        Some(Err(_)) => Err("it ended before its PROXY header was whole"),
        None => Err("its PROXY header was not whole within `timeouts.head`"),
    }
}

/// Reads a header of the PROXY protocol and not a byte more: what follows is for TLS or HTTP to read.
async fn header(stream: &Stream) -> io::Result<Said> {
    let mut header = Vec::with_capacity(proxy_protocol::LONGEST_V1);
    loop {
        let taken = header.len();
        header.reserve(proxy_protocol::LONGEST_V1);
        if poll_fn(|cx| stream.poll_peek(cx, &mut header)).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let found = proxy_protocol::parse(&header).map_err(|_| io::ErrorKind::InvalidData)?;
        let end = found.map_or(header.len(), |(length, _)| length);
        // all that was seen belongs to a header that is not whole
        stream.take(header.get_mut(taken..end).unwrap_or_default())?;
        if let Some((_, said)) = found {
            return Ok(said);
        }
    }
}

/// The TLS handshake, within the time a head may take; then the protocol that was agreed on.
async fn secure(worker: &Rc<Worker>, stream: Stream, mut client: Client, tls: Arc<rustls::ServerConfig>) {
    let slot = worker.timers.slot();
    slot.set(worker.clock.now().saturating_add(worker.local().snapshot.settings.head));
    let handshake = tokio_rustls::TlsAcceptor::from(tls).accept(stream);
    let Some(Ok(stream)) = slot.limit(handshake).await else {
        worker.recorder.handshake_failed();
        return;
    };
    drop(slot);
    client.tls = true;
    client.handshake = Some(Rc::new(crate::tls::handshake(stream.get_ref().1)));
    client.identity = crate::tls::identity(stream.get_ref().1).map(Rc::new);
    // nobody verifies a certificate again when its session is resumed
    if client.identity.as_ref().is_some_and(|identity| identity.has_ended(worker.clock.wall(worker.clock.now()))) {
        worker.recorder.handshake_failed();
        return;
    }
    let agreed = stream.get_ref().1.alpn_protocol();
    if agreed == Some(b"h2") {
        return http2::connection(worker, Stream::Tls(Box::new(stream)), Vec::new(), client).await;
    }
    let is_open = agreed.is_none(); // what was agreed on binds
    http1::connection(worker, Stream::Tls(Box::new(stream)), client, is_open).await;
}

/// Name of a listener: its address as configured; `same` counts those before it with the same address.
pub(crate) fn name(bind: &Bind, same: usize) -> String {
    let address = match bind {
        Bind::Tcp(address) => address.to_string(),
        Bind::Unix(path) => format!("unix:{}", path.display()),
    };
    if same == 0 { address } else { format!("{address}#{same}") }
}

/// `EMFILE` and `ENFILE`: the process or the system has no descriptor left.
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(24 | 23))
}

/// Errors of the connection that was about to be accepted, not of accepting.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// The first future's output, or `None` when the second is done first.
pub(crate) async fn either<T>(first: impl Future<Output = T>, second: impl Future<Output = ()>) -> Option<T> {
    tokio::pin!(first, second);
    poll_fn(|cx| {
        if let std::task::Poll::Ready(out) = first.as_mut().poll(cx) {
            return std::task::Poll::Ready(Some(out));
        }
        second.as_mut().poll(cx).map(|()| None)
    })
    .await
}
