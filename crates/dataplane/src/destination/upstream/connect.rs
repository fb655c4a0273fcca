//! Makes a connection to a target: address by address, then TLS where the target asks for it.

use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use daemun_config::model::{ProxyVersion, TargetAddress, UpstreamProtocol};
use daemun_pipeline::{Client, Fault, Reason};
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};

use super::budget::Place;
use super::place::none_left;
use super::pool::Pool;
use crate::http1::conn::Conn;
use crate::http1::up::H1Up;
use crate::http2::link::{Hold, Link};
use crate::io::Stream;
use crate::proxy_protocol::{self, Said};
use crate::snapshot::upstream::{Target, Upstream};
use crate::worker::Worker;

/// A fresh connection, and what is spoken over it.
pub(crate) enum Fresh {
    /// HTTP/1.1, for one call at a time.
    H1(Box<H1Up>),
    /// A place on a connection over HTTP/2.
    H2(Hold),
}

/// Connects within no time limit of its own; a connect fault is safe to retry, nothing of a call was sent. `told` comes before all else. `old` asks for HTTP/1.1 where the target
/// may choose.
pub(crate) async fn connect(
    worker: &Worker,
    pool: &Pool,
    upstream: &Upstream,
    target: &Target,
    told: Option<Box<[u8]>>,
    old: bool,
    place: Place,
) -> Result<Fresh, Fault> {
    let (mut stream, to) = match plain(pool, target).await {
        Err(fault) if fault.reason == Reason::TooManyCalls => {
            // those that rest in pools serve nobody now
            worker.shed_pools();
            plain(pool, target).await?
        }
        other => other?,
    };
    if let Some(told) = &told {
        tell(&mut stream, told).await.map_err(|error| failed(target, &error))?;
    }
    let mut agreed = false;
    if target.tls {
        (stream, agreed) = secure(stream, upstream, target, old).await?;
    }
    let h2 = match upstream.protocol {
        UpstreamProtocol::Http1 => false,
        UpstreamProtocol::Auto => agreed,
        UpstreamProtocol::H2 | UpstreamProtocol::H2c if target.tls && !agreed => {
            let fault = Fault::new(Reason::UpstreamTls, "the backend does not speak HTTP/2");
            return Err(fault.cause(format_args!("{}: `h2` was not agreed on", target.url)));
        }
        UpstreamProtocol::H2 | UpstreamProtocol::H2c => true,
    };
    if !h2 {
        let mut up = H1Up::new(Conn::new(stream, Reason::BodyBroken), place);
        up.told = told;
        up.to = to;
        return Ok(Fresh::H1(Box::new(up)));
    }
    let head = worker.local().snapshot.settings.bounds.head;
    let link = Link::begin(&worker.buffers, stream, head, place, to).await.map_err(|error| failed(target, &error))?;
    Ok(Fresh::H2(link.hold()))
}

/// What a target is told of a client, as the header of the PROXY protocol that a connection begins with: the caller's address, with its
/// port where it is the peer's own.
pub(crate) fn told(version: ProxyVersion, client: &Client) -> Box<[u8]> {
    let (port, to) = match client.ends.as_deref() {
        Some(ends) => (if ends.from.ip() == client.ip { ends.from.port() } else { 0 }, ends.to),
        None => {
            let any = if client.ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            (0, SocketAddr::new(any, 0))
        }
    };
    let said = match client.ip.is_unspecified() {
        // on a Unix socket
        true => Said::Nobody,
        false => Said::Client { from: SocketAddr::new(client.ip, port), to },
    };
    let mut out = Vec::with_capacity(proxy_protocol::LONGEST_V1);
    proxy_protocol::push(version, &said, &mut out);
    out.into()
}

async fn tell(stream: &mut Stream, mut told: &[u8]) -> io::Result<()> {
    while !told.is_empty() {
        let n = poll_fn(|cx| stream.poll_write(cx, told, &[])).await?;
        told = told.get(n..).filter(|_| n > 0).ok_or(io::ErrorKind::WriteZero)?;
    }
    Ok(())
}

/// The TLS handshake; also says whether HTTP/2 was agreed on. One that fails is not tried again elsewhere unasked: a wrong certificate is no outage.
async fn secure(stream: Stream, upstream: &Upstream, target: &Target, old: bool) -> Result<(Stream, bool), Fault> {
    let fault = |cause: String| Fault::new(Reason::UpstreamTls, "the backend's TLS handshake failed").cause(cause);
    let Some(tls) = &upstream.tls else { return Err(fault("no TLS settings".to_owned())) };
    let name = match (&tls.server_name, &target.address) {
        (Some(name), _) => name.clone(),
        (None, TargetAddress::Tcp { host, .. }) => {
            ServerName::try_from(host.clone()).map_err(|error| fault(format!("{}: {error}", target.url)))?
        }
        (None, TargetAddress::Unix(_)) => return Err(fault("a Unix socket needs `server_name`".to_owned())),
    };
    let mut config = Arc::clone(&tls.config);
    if old && config.alpn_protocols.len() > 1 {
        Arc::make_mut(&mut config).alpn_protocols = vec![b"http/1.1".to_vec()];
    }
    let connector = tokio_rustls::TlsConnector::from(config);
    let stream = connector.connect(name, stream).await;
    let stream =
        stream.map_err(|error| fault(format!("{}: {}", target.url, crate::tls::handshake_in_words(&error))))?;
    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok((Stream::Tls(Box::new(stream)), h2))
}

/// Also gives which of its name's addresses it led to, where the target has a name.
async fn plain(pool: &Pool, target: &Target) -> Result<(Stream, Option<SocketAddr>), Fault> {
    if let Some(path) = target.unix_path() {
        let connected = UnixStream::connect(path).await;
        return connected.map(|stream| (Stream::Unix(stream), None)).map_err(|error| failed(target, &error));
    }
    let addresses = target.resolved.load_full();
    let turn = pool.turn();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for offset in 0..addresses.len() {
        let Some(address) = addresses.get((turn + offset) % addresses.len()) else { break };
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // small heads must not wait for acknowledgements of earlier ones; without it, calls are only slower
                let _ = stream.set_nodelay(true);
                // a byte out of band would lie there unseen, and be missing where it should be
                let _ = rustix::net::sockopt::set_socket_oobinline(&stream, true);
                let to = target.name_to_resolve().map(|_| *address);
                return Ok((Stream::Tcp(stream), to));
            }
            Err(error) => last = error,
        }
    }
    if addresses.is_empty() {
        return Err(Fault::new(Reason::NoTarget, "the backend's name has no address").cause(name(target)).retryable());
    }
    Err(failed(target, &last))
}

fn name(target: &Target) -> &str {
    match &target.address {
        TargetAddress::Tcp { host, .. } => host,
        TargetAddress::Unix(_) => &target.url,
    }
}

fn failed(target: &Target, error: &io::Error) -> Fault {
    if crate::listener::is_out_of_descriptors(error) {
        return none_left().cause(format_args!("{}: {error}", target.url));
    }
    Fault::new(Reason::ConnectFailed, "the backend does not accept connections")
        .cause(format_args!("{}: {error}", target.url))
        .retryable()
}
