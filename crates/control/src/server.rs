//! A small HTTP/1.1 server: few connections, one request each, bounds on everything. Knows nothing of what is asked.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::answer::Answer;
use crate::origin::Here;

/// Connections at once; one more, and another is closed, so that slow callers keep nobody out: the oldest that has not asked yet, else the
/// oldest.
const CONNECTIONS: usize = 64;
/// Connections of one address at once, by the same rule. Those of this machine are not told apart.
const OF_ONE_ADDRESS: usize = CONNECTIONS / 8;
/// Time for a request's head to arrive.
const HEAD: Duration = Duration::from_secs(5);
/// Time for a whole connection: head, answer, and the reading of it.
const CONNECTION: Duration = Duration::from_secs(30);
/// Bytes of a head.
const HEAD_BYTES: usize = 16 * 1024;
/// Fields of a head.
const FIELDS: usize = 64;
/// Time for the calls that are under way when the listener is closed.
const LAST_CALLS: Duration = Duration::from_secs(5);
/// Pause after accepting failed, as it does while the process has no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// Where callers of the control plane come in.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// Unix socket.
    Unix(UnixListener),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Listener {
        Listener::Tcp(listener)
    }
}

impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Listener {
        Listener::Unix(listener)
    }
}

enum Accepted {
    Tcp(TcpStream, Caller),
    Unix(UnixStream),
}

impl Listener {
    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Listener::Tcp(listener) => {
                listener.accept().await.map(|(stream, peer)| Accepted::Tcp(stream, caller(peer.ip())))
            }
            Listener::Unix(listener) => listener.accept().await.map(|(stream, _)| Accepted::Unix(stream)),
        }
    }

    /// Which hosts a request to it may name; an error when others than this machine reach it.
    pub(crate) fn here(&self) -> io::Result<Here> {
        match self {
            Listener::Unix(_) => Ok(Here::Unix),
            Listener::Tcp(listener) => {
                let address = listener.local_addr()?;
                let message = format!("the admin listener is bound to `{address}`, which is no loopback address");
                Here::of(address).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, message))
            }
        }
    }
}

/// Answers every request that comes in until `stop` is done; then closes the listener, and ends once the calls under way have their answers
/// or five seconds have passed.
pub(crate) async fn serve<F, A>(listener: Listener, answer: F, stop: impl Future<Output = ()>)
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + 'static,
    A: Future<Output = Answer> + Send + 'static,
{
    let mut connections = Connections::default();
    let (serving, stopped) = watch::channel(());
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        match accepted {
            Ok(Accepted::Tcp(stream, caller)) => {
                connections.start(caller, |asked| connection(stream, asked, answer.clone(), stopped.clone()));
            }
            Ok(Accepted::Unix(stream)) => {
                connections.start(None, |asked| connection(stream, asked, answer.clone(), stopped.clone()));
            }
            Err(_) => pause().await,
        }
    }
    drop((listener, serving));
    // those that take longer are cut
    let _ = tokio::time::timeout(LAST_CALLS, connections.ended()).await;
}

#[allow(
    clippy::disallowed_methods,
    reason = "no worker runs here, and nothing that depends on it is tested by a clock"
)]
async fn pause() {
    tokio::time::sleep(PAUSE).await;
}

/// Who calls, as far as callers are told apart; an address of IPv6 by the network that one subscriber has (RFC 6177).
type Caller = Option<IpAddr>;

fn caller(address: IpAddr) -> Caller {
    match address.to_canonical() {
        of_here if of_here.is_loopback() => None,
        IpAddr::V6(v6) => Some(IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64))),
        v4 @ IpAddr::V4(_) => Some(v4),
    }
}

/// Serves one connection to its end; `asked` is set once its request's head is here. When what holds the other end of `stopped` is dropped, a
/// call that has begun is still answered.
async fn connection<S, F, A>(stream: S, asked: Arc<AtomicBool>, answer: F, mut stopped: watch::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> A + Send + 'static,
    A: Future<Output = Answer> + Send + 'static,
{
    let service = service_fn(move |request| {
        asked.store(true, Ordering::Relaxed);
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .max_headers(FIELDS)
        .keep_alive(false);
    let whole = async {
        let serving = http.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(serving);
        let served = tokio::select! {
            served = &mut serving => Some(served),
            _ = stopped.changed() => None,
        };
        match served {
            Some(served) => served,
            None => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        }
    };
    // whatever ends a connection early, there is nobody to tell
    let _ = tokio::time::timeout(CONNECTION, whole).await;
}

/// Running connections; all end when it is dropped.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    running: Vec<Running>,
}

/// One of them; the oldest comes first.
struct Running {
    task: AbortHandle,
    caller: Caller,
    asked: Arc<AtomicBool>,
}

impl Connections {
    /// Waits until all have ended.
    async fn ended(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }

    fn start<C>(&mut self, caller: Caller, connection: impl FnOnce(Arc<AtomicBool>) -> C)
    where
        C: Future<Output = ()> + Send + 'static,
    {
        while self.tasks.try_join_next().is_some() {}
        self.running.retain(|connection| !connection.task.is_finished());
        if let Some(at) = self.in_the_way(caller) {
            self.running.remove(at).task.abort();
        }
        let asked = Arc::<AtomicBool>::default();
        let task = self.tasks.spawn(connection(Arc::clone(&asked)));
        self.running.push(Running { task, caller, asked });
    }

    /// Which connection has to go for another of this caller.
    fn in_the_way(&self, caller: Caller) -> Option<usize> {
        let own = |connection: &&Running| caller.is_some() && connection.caller == caller;
        let one_too_many = self.running.iter().filter(own).count() >= OF_ONE_ADDRESS;
        if !one_too_many && self.running.len() < CONNECTIONS {
            return None;
        }
        let may_go = |connection: &Running| !one_too_many || own(&connection);
        let silent = |connection: &Running| may_go(connection) && !connection.asked.load(Ordering::Relaxed);
        self.running.iter().position(silent).or_else(|| self.running.iter().position(may_go))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Connections {
        fn begin(&mut self, from: &str, asks: bool) {
            self.start(caller(from.parse().unwrap()), |asked| {
                asked.store(asks, Ordering::Relaxed);
                std::future::pending()
            });
        }

        fn of(&self, from: &str) -> usize {
            self.running.iter().filter(|one| one.caller == caller(from.parse().unwrap())).count()
        }
    }

    #[tokio::test]
    async fn one_address_has_an_eighth_and_makes_room_for_itself() {
        let mut connections = Connections::default();
        connections.begin("192.0.2.2", false);
        for _ in 0..100 {
            connections.begin("192.0.2.1", false);
            connections.begin("::ffff:192.0.2.1", true);
            connections.begin("2001:db8::1", false);
            connections.begin("2001:db8::2:3:4:5", true);
        }
        assert_eq!(connections.of("192.0.2.1"), OF_ONE_ADDRESS);
        assert_eq!(connections.of("2001:db8::"), OF_ONE_ADDRESS);
        assert_eq!(connections.of("192.0.2.2"), 1);
        assert_eq!(connections.running.len(), 2 * OF_ONE_ADDRESS + 1);
    }

    #[tokio::test]
    async fn callers_of_this_machine_share_everything() {
        let mut connections = Connections::default();
        for _ in 0..100 {
            connections.begin("127.0.0.1", false);
            connections.begin("::1", false);
        }
        assert_eq!(connections.running.len(), CONNECTIONS);
    }

    #[tokio::test]
    async fn those_that_asked_stay_while_there_is_one_that_has_not() {
        let mut connections = Connections::default();
        for at in 0..CONNECTIONS {
            connections.begin(&format!("192.0.2.{at}"), at != 40);
        }
        connections.begin("198.51.100.1", true);
        assert_eq!((connections.of("192.0.2.40"), connections.of("192.0.2.0")), (0, 1));
        connections.begin("198.51.100.2", true);
        assert_eq!((connections.of("192.0.2.0"), connections.of("192.0.2.1")), (0, 1));
        assert_eq!(connections.running.len(), CONNECTIONS);
    }
}
