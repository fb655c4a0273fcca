//! How a target is reached by whoever checks it rather than calls it. Makes no connection.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use daemun_config::model::{ProxyVersion, TargetAddress, UpstreamProtocol};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::upstream::{Target, Upstream};

/// How a target is reached.
#[derive(Clone, Debug)]
pub struct Reach {
    /// Its Unix socket, if it has one.
    pub unix: Option<PathBuf>,
    /// Its addresses; none while its name is not resolved.
    pub addresses: Vec<SocketAddr>,
    /// The version of the PROXY protocol that connections to it begin with, if they do.
    pub proxy_protocol: Option<ProxyVersion>,
    /// What calls put into `Host` under `host: target`.
    pub authority: String,
    /// TLS, where it asks for it; what is offered by ALPN is for whoever connects to set.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// Whether it speaks nothing but HTTP/2.
    pub h2: bool,
}

impl Target {
    /// Whether connections to it are TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls
    }
}

impl Upstream {
    /// How one of its targets is reached.
    ///
    /// # Errors
    /// When there is no name to verify its certificate by.
    pub fn reach(&self, target: &Target) -> Result<Reach, String> {
        let tls = match &self.tls {
            Some(tls) if target.tls => {
                let name = match (&tls.server_name, &target.address) {
                    (Some(name), _) => name.clone(),
                    (None, TargetAddress::Tcp { host, .. }) => {
                        ServerName::try_from(host.clone()).map_err(|error| error.to_string())?
                    }
                    (None, TargetAddress::Unix(_)) => return Err("a Unix socket needs `server_name`".to_owned()),
                };
                Some((Arc::clone(&tls.config), name))
            }
            None if target.tls => return Err("no TLS settings".to_owned()),
            Some(_) | None => None,
        };
        Ok(Reach {
            unix: target.unix_path().cloned(),
            addresses: target.addresses().to_vec(),
            proxy_protocol: self.proxy_protocol,
            authority: target.authority.clone(),
            tls,
            h2: matches!(self.protocol, UpstreamProtocol::H2 | UpstreamProtocol::H2c),
        })
    }
}
