//! A small HTTP/1.1 server: few connections, one request each, bounds on everything. Knows nothing of what is asked.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::io;
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

/// Connections at once; one more, and the oldest is closed, so that slow callers keep nobody out.
const CONNECTIONS: usize = 64;
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
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Listener::Tcp(listener) => listener.accept().await.map(|(stream, _)| Accepted::Tcp(stream)),
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
            Ok(Accepted::Tcp(stream)) => connections.start(connection(stream, answer.clone(), stopped.clone())),
            Ok(Accepted::Unix(stream)) => connections.start(connection(stream, answer.clone(), stopped.clone())),
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

/// Serves one connection to its end. When what holds the other end of `stopped` is dropped, a call that has begun is still answered.
async fn connection<S, F, A>(stream: S, answer: F, mut stopped: watch::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> A + Send + 'static,
    A: Future<Output = Answer> + Send + 'static,
{
    let service = service_fn(move |request| {
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

/// Running connections, oldest first; all end when it is dropped.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    oldest: VecDeque<AbortHandle>,
}

impl Connections {
    /// Waits until all have ended.
    async fn ended(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }

    fn start(&mut self, connection: impl Future<Output = ()> + Send + 'static) {
        while self.tasks.try_join_next().is_some() {}
        self.oldest.retain(|connection| !connection.is_finished());
        while self.oldest.len() >= CONNECTIONS {
            if let Some(oldest) = self.oldest.pop_front() {
                oldest.abort();
            }
        }
        self.oldest.push_back(self.tasks.spawn(connection));
    }
}
