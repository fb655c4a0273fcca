//! Makes a connection to a target: address by address, then TLS where the target asks for it.

use std::io;

use daemun_config::model::TargetAddress;
use daemun_pipeline::{Fault, Reason};
use tokio::net::{TcpStream, UnixStream};

use super::pool::LocalTarget;
use crate::http1::conn::Conn;
use crate::http1::up::H1Up;
use crate::io::Stream;
use crate::snapshot::upstream::Target;

/// Connects within no time limit of its own; a connect fault is safe to retry, nothing was sent.
pub(crate) async fn connect(local: &LocalTarget, target: &Target) -> Result<H1Up, Fault> {
    let stream = plain(local, target).await?;
    Ok(H1Up::new(Conn::new(stream, Reason::BodyBroken)))
}

async fn plain(local: &LocalTarget, target: &Target) -> Result<Stream, Fault> {
    if let Some(path) = target.unix_path() {
        return UnixStream::connect(path).await.map(Stream::Unix).map_err(|error| failed(target, &error));
    }
    let addresses = target.resolved.load_full();
    let turn = local.turn();
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
