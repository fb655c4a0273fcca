//! Asks servers over HTTP/1.1, one connection a question: for lists of targets, and for the health of one. Knows nothing of what is asked.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use daemun_config::model::{DnsRecords, Server, TargetAddress};
use daemun_dataplane::Clock;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::lookup::Lookup;
use super::within;

/// Bytes of an answer's head.
const MOST_HEAD: usize = 64 * 1024;
/// Interim answers (1xx) before an answer; of one who sends more, none is waited for any longer.
pub(super) const MOST_INTERIM: usize = 16;
/// Fields of an answer's head.
const MOST_FIELDS: usize = 100;

/// What can be read from and written to.
pub(super) trait Io: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Io for T {}

/// A connection of any kind.
pub(super) type Stream = Pin<Box<dyn Io>>;

/// Connects to the first of these addresses that accepts.
///
/// # Errors
/// What the last one said.
pub(super) async fn tcp(addresses: &[SocketAddr]) -> io::Result<Stream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // without it, questions are only slower
                let _ = stream.set_nodelay(true);
                return Ok(Box::pin(stream));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Connects to a Unix socket.
///
/// # Errors
/// When nobody listens there.
pub(super) async fn unix(path: &Path) -> io::Result<Stream> {
    Ok(Box::pin(UnixStream::connect(path).await?))
}

/// Secures a connection.
///
/// # Errors
/// Why the handshake failed, in words.
pub(super) async fn secure(
    stream: Stream,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> Result<Stream, String> {
    let secured = TlsConnector::from(config).connect(name, stream).await;
    let secured = secured.map_err(|error| format!("TLS: {}", daemun_dataplane::handshake_in_words(&error)))?;
    Ok(Box::pin(secured))
}

/// A task that ends when it is let go.
pub(super) struct Held(JoinHandle<()>);

impl Held {
    pub(super) fn new(task: JoinHandle<()>) -> Self {
        Self(task)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An answer whose body is still to be read.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) fields: HeaderMap,
    body: Incoming,
    _connection: Held,
}

impl Answer {
    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// When the connection breaks.
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, String> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|error| format!("the answer breaks off: {}", chain(&error)))?;
            if let Ok(piece) = frame.into_data() {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    /// The whole body, of at most so many bytes.
    ///
    /// # Errors
    /// When it is larger, or the connection breaks.
    pub(super) async fn whole(mut self, most: usize) -> Result<Vec<u8>, String> {
        let mut whole = Vec::new();
        while let Some(piece) = self.piece().await? {
            if whole.len() + piece.len() > most {
                return Err(format!("the answer is larger than {} KiB", most / 1024));
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole)
    }

    /// The first bytes of the body, so many at most.
    ///
    /// # Errors
    /// When the connection breaks before.
    pub(super) async fn first(mut self, most: usize) -> Result<Vec<u8>, String> {
        let mut first = Vec::new();
        while let Some(piece) = self.piece().await? {
            first.extend(piece.iter().take(most - first.len()));
            if first.len() >= most {
                break;
            }
        }
        Ok(first)
    }

    /// A field that is text.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).and_then(|value| value.to_str().ok())
    }
}

/// One question.
#[derive(Clone)]
pub(super) struct Question {
    pub(super) method: Method,
    /// Path and query.
    pub(super) target: String,
    /// What goes into `Host`.
    pub(super) authority: String,
    pub(super) fields: Vec<(HeaderName, HeaderValue)>,
}

impl Question {
    /// A GET.
    pub(super) fn get(target: String, authority: &str) -> Self {
        Self { method: Method::GET, target, authority: authority.to_owned(), fields: Vec::new() }
    }

    /// Adds a field; one that cannot be sent is left out, which the configuration has seen to.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(mut value)) = (name, HeaderValue::from_str(value)) {
            value.set_sensitive(true);
            self.fields.push((name, value));
        }
        self
    }

    /// Asks over a connection.
    ///
    /// # Errors
    /// Why there is no answer, in words.
    pub(super) async fn ask(self, stream: Stream) -> Result<Answer, String> {
        let mut builder = hyper::client::conn::http1::Builder::new();
        builder.max_buf_size(MOST_HEAD).max_headers(MOST_FIELDS);
        let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|error| chain(&error))?;
        let connection = Held::new(tokio::spawn(async move { drop(connection.await) }));
        let mut request = Request::builder().method(self.method).uri(self.target);
        if let Some(fields) = request.headers_mut() {
            if let Ok(host) = HeaderValue::from_str(&self.authority) {
                fields.insert(http::header::HOST, host);
            }
            let agent = concat!("daemun/", env!("CARGO_PKG_VERSION"));
            fields.insert(http::header::USER_AGENT, HeaderValue::from_static(agent));
            fields.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
            for (name, value) in self.fields {
                fields.insert(name, value);
            }
        }
        let mut request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
        let flooded = Arc::new(Notify::new());
        let (tell, interim) = (Arc::clone(&flooded), AtomicUsize::new(0));
        hyper::ext::on_informational(&mut request, move |_| {
            if interim.fetch_add(1, Ordering::Relaxed) == MOST_INTERIM {
                tell.notify_one();
            }
        });
        let answer = tokio::select! {
            biased;
            () = flooded.notified() => return Err(too_many_interim()),
            answer = sender.send_request(request) => answer.map_err(|error| chain(&error))?,
        };
        let (head, body) = answer.into_parts();
        Ok(Answer { status: head.status.as_u16(), fields: head.headers, body, _connection: connection })
    }
}

/// A server that is asked now and then.
pub(super) struct Service {
    clock: Clock,
    server: Server,
    lookup: Arc<Lookup>,
    /// Read again after a failure, since authorities are exchanged under their names.
    tls: Mutex<Option<Arc<ClientConfig>>>,
}

impl Service {
    pub(super) fn new(clock: Clock, server: Server, lookup: Arc<Lookup>) -> Self {
        Self { clock, server, lookup, tls: Mutex::default() }
    }

    /// What goes into `Host`.
    pub(super) fn authority(&self) -> &str {
        &self.server.authority
    }

    /// Asks it; its answer must begin within `limit`, connecting included.
    ///
    /// # Errors
    /// Why there is no answer, in words, without anything secret.
    pub(super) async fn ask(&self, question: Question, limit: Duration) -> Result<Answer, String> {
        let asked = async {
            let stream = self.connect().await?;
            question.ask(stream).await
        };
        let answer = within(&self.clock, limit, asked).await;
        let answer = answer.unwrap_or_else(|| Err(format!("no answer in {limit:?}")));
        if answer.is_err() {
            *self.tls.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        answer
    }

    async fn connect(&self) -> Result<Stream, String> {
        let refused = |error: io::Error| format!("no connection: {}", daemun_config::why(&error));
        let (host, port) = match &self.server.address {
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
        if !self.server.tls {
            return Ok(stream);
        }
        let name = ServerName::try_from(host.clone()).map_err(|error| error.to_string())?;
        secure(stream, self.tls().await?, name).await
    }

    async fn tls(&self) -> Result<Arc<ClientConfig>, String> {
        if let Some(config) = &*self.tls.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(Arc::clone(config));
        }
        let ca_file = self.server.ca_file.clone();
        let read = tokio::task::spawn_blocking(move || daemun_dataplane::client_config(ca_file.as_deref())).await;
        let config = read.map_err(|error| error.to_string())??;
        *self.tls.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&config));
        Ok(config)
    }
}

/// What is said of one who sends interim answers without end.
pub(super) fn too_many_interim() -> String {
    format!("more than {MOST_INTERIM} interim answers (1xx) and none behind them")
}

/// An error with what caused it.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}

/// A text as it stands in one segment of a path or one value of a query.
pub(super) fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_other_systems_are_encoded_where_they_are_sent() {
        assert_eq!(encoded("web-1.x_~"), "web-1.x_~");
        assert_eq!(encoded("a/b?c=d&e f%한"), "a%2Fb%3Fc%3Dd%26e%20f%25%ED%95%9C");
    }
}
