//! Makes a connection to a target: address by address, then TLS where the target asks for it.

use std::io;
use std::sync::Arc;

use daemun_config::model::TargetAddress;
use daemun_pipeline::{Fault, Reason};
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};

use super::pool::Pool;
use crate::http1::conn::Conn;
use crate::http1::up::H1Up;
use crate::io::Stream;
use crate::snapshot::upstream::{Target, Upstream};

/// Connects within no time limit of its own; a connect fault is safe to retry, nothing was sent.
pub(crate) async fn connect(pool: &Pool, upstream: &Upstream, target: &Target) -> Result<H1Up, Fault> {
    let mut stream = plain(pool, target).await?;
    if target.tls {
        stream = secure(stream, upstream, target).await?;
    }
    Ok(H1Up::new(Conn::new(stream, Reason::BodyBroken)))
}

/// The TLS handshake. One that fails is not tried again elsewhere unasked: a wrong certificate is no outage.
async fn secure(stream: Stream, upstream: &Upstream, target: &Target) -> Result<Stream, Fault> {
    let fault = |cause: String| Fault::new(Reason::UpstreamTls, "the backend's TLS handshake failed").cause(cause);
    let Some(tls) = &upstream.tls else { return Err(fault("no TLS settings".to_owned())) };
    let name = match (&tls.server_name, &target.address) {
        (Some(name), _) => name.clone(),
        (None, TargetAddress::Tcp { host, .. }) => {
            ServerName::try_from(host.clone()).map_err(|error| fault(format!("{}: {error}", target.url)))?
        }
        (None, TargetAddress::Unix(_)) => return Err(fault("a Unix socket needs `server_name`".to_owned())),
    };
    let connector = tokio_rustls::TlsConnector::from(Arc::clone(&tls.config));
    let stream = connector.connect(name, stream).await.map_err(|error| fault(format!("{}: {error}", target.url)))?;
    Ok(Stream::Tls(Box::new(stream)))
}

async fn plain(pool: &Pool, target: &Target) -> Result<Stream, Fault> {
    if let Some(path) = target.unix_path() {
        return UnixStream::connect(path).await.map(Stream::Unix).map_err(|error| failed(target, &error));
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
                return Ok(Stream::Tcp(stream));
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
    Fault::new(Reason::ConnectFailed, "the backend does not accept connections")
        .cause(format_args!("{}: {error}", target.url))
        .retryable()
}
