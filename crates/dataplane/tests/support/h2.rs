//! Peers that speak HTTP/2: a client and an origin, both over the crate `h2`, on the test's own runtime.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "it is only compiled into tests")]

use std::cell::Cell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;

/// Runs a test on a runtime of its own.
pub fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async { tokio::time::timeout(crate::support::PATIENCE * 2, test).await.unwrap() });
}

/// A client's connection.
pub struct Client {
    pub sender: SendRequest<Bytes>,
    pub address: SocketAddr,
    /// Set when the connection has ended.
    pub ended: Rc<Cell<bool>>,
}

/// An answer that was read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub fields: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
    pub interim: Vec<u16>,
}

impl Answer {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).and_then(|value| value.to_str().ok())
    }

    pub fn trailer(&self, name: &str) -> Option<&str> {
        self.trailers.as_ref()?.get(name).and_then(|value| value.to_str().ok())
    }
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Client {
        Client::over(TcpStream::connect(address).await.unwrap(), address).await
    }

    pub async fn over<S>(stream: S, address: SocketAddr) -> Client
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
    {
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        let ended = Rc::new(Cell::new(false));
        let set = Rc::clone(&ended);
        spawn_local(async move {
            let _ = connection.await;
            set.set(true);
        });
        Client { sender, address, ended }
    }

    /// A request of the usual fields.
    pub fn request(&self, method: Method, path: &str) -> http::request::Builder {
        Request::builder().method(method).uri(format!("http://{}{path}", self.address)).version(http::Version::HTTP_2)
    }

    pub async fn get(&self, path: &str) -> Result<Answer, h2::Error> {
        self.send(self.request(Method::GET, path).body(()).unwrap(), None, None).await
    }

    /// Sends a whole request and reads its whole answer, both at once.
    pub async fn send(
        &self,
        request: Request<()>,
        body: Option<Bytes>,
        trailers: Option<HeaderMap>,
    ) -> Result<Answer, h2::Error> {
        let mut sender = self.sender.clone().ready().await?;
        let (mut response, mut stream) = sender.send_request(request, body.is_none() && trailers.is_none())?;
        let upload = spawn_local(async move {
            if let Some(body) = body {
                send_all(&mut stream, body, trailers.is_none()).await?;
            }
            if let Some(trailers) = trailers {
                stream.send_trailers(trailers)?;
            }
            Ok::<_, h2::Error>(())
        });
        let mut interim = Vec::new();
        while let Some(answer) = poll_fn(|cx| response.poll_informational(cx)).await {
            interim.push(answer?.status().as_u16());
        }
        let (parts, mut incoming) = response.await?.into_parts();
        let (body, trailers) = read_all(&mut incoming).await?;
        let _ = upload.await;
        Ok(Answer { status: parts.status.as_u16(), fields: parts.headers, body, trailers, interim })
    }
}

/// Sends a body under flow control.
pub async fn send_all(stream: &mut SendStream<Bytes>, mut body: Bytes, end: bool) -> Result<(), h2::Error> {
    while !body.is_empty() {
        stream.reserve_capacity(body.len());
        let Some(window) = poll_fn(|cx| stream.poll_capacity(cx)).await else {
            return Err(h2::Reason::CANCEL.into());
        };
        let piece = body.split_to(window?.min(body.len()));
        stream.send_data(piece, false)?;
    }
    if end { stream.send_data(Bytes::new(), true) } else { Ok(()) }
}

/// Reads a body and what follows it.
pub async fn read_all(incoming: &mut RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut body = Vec::new();
    while let Some(piece) = incoming.data().await {
        let piece = piece?;
        incoming.flow_control().release_capacity(piece.len())?;
        body.extend_from_slice(&piece);
    }
    Ok((body, incoming.trailers().await?))
}

/// What an origin has seen.
#[derive(Default)]
pub struct Seen {
    pub connections: Cell<usize>,
    pub requests: Cell<usize>,
    /// Most requests at the same time.
    pub most: Cell<usize>,
    pub open: Cell<usize>,
}

/// An origin that serves each request by `serve`.
pub async fn origin<F>(
    settings: h2::server::Builder,
    serve: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + 'static,
) -> (SocketAddr, Rc<Seen>)
where
    F: Future<Output = ()> + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Rc::<Seen>::default();
    let own = Rc::clone(&seen);
    let serve = Rc::new(serve);
    spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            own.connections.set(own.connections.get() + 1);
            spawn_local(connection(stream, settings.clone(), Rc::clone(&serve), Rc::clone(&own)));
        }
    });
    (address, seen)
}

/// Serves one connection, TLS or not.
pub async fn connection<S, F>(
    stream: S,
    settings: h2::server::Builder,
    serve: Rc<impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + 'static>,
    seen: Rc<Seen>,
) where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    F: Future<Output = ()> + 'static,
{
    let Ok(mut connection) = settings.handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let (serve, seen) = (Rc::clone(&serve), Rc::clone(&seen));
        seen.requests.set(seen.requests.get() + 1);
        seen.open.set(seen.open.get() + 1);
        seen.most.set(seen.most.get().max(seen.open.get()));
        spawn_local(async move {
            serve(request, respond).await;
            seen.open.set(seen.open.get() - 1);
        });
    }
}

/// Answers with the body and the trailers it gets, and says in `x-seen` what was asked.
pub async fn echo(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let (parts, mut incoming) = request.into_parts();
    let text = |name: &str| parts.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("-").to_owned();
    let seen = format!("{} {} te={} length={}", parts.method, parts.uri, text("te"), text("content-length"));
    let response = Response::builder().header("x-seen", seen).body(()).unwrap();
    let Ok(mut stream) = respond.send_response(response, false) else { return };
    while let Some(Ok(piece)) = incoming.data().await {
        let _ = incoming.flow_control().release_capacity(piece.len());
        if send_all(&mut stream, piece, false).await.is_err() {
            return;
        }
    }
    match incoming.trailers().await {
        Ok(Some(trailers)) => drop(stream.send_trailers(trailers)),
        Ok(None) => drop(stream.send_data(Bytes::new(), true)),
        Err(_) => {}
    }
}
