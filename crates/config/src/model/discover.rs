//! Where targets are found while the gateway runs, as a configuration says it.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::TargetAddress;

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Where an upstream's targets are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discover {
    /// Who knows them.
    pub source: Source,
    /// Whether the targets are called over TLS, where the source does not say it itself.
    pub tls: bool,
    /// Whether an answer without any target takes all away; else the last ones stay.
    pub may_be_empty: bool,
}

/// Who knows the targets of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A name.
    Dns(DnsSource),
    /// A file.
    File(PathBuf),
    /// A web server.
    Http(HttpSource),
    /// Consul.
    Consul(ConsulSource),
    /// Kubernetes.
    Kubernetes(KubernetesSource),
}

impl Source {
    /// Its key in a configuration.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Dns(_) => "dns",
            Self::File(_) => "file",
            Self::Http(_) => "http",
            Self::Consul(_) => "consul",
            Self::Kubernetes(_) => "kubernetes",
        }
    }
}

/// A name whose addresses are the targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsSource {
    /// The name.
    pub name: String,
    /// Which records are asked for.
    pub records: DnsRecords,
    /// Port of every address; SRV records have their own.
    pub port: Option<u16>,
    /// Who is asked; as the system is configured when absent.
    pub server: Option<SocketAddr>,
    /// Shortest time between two lookups, whatever the records say.
    pub refresh_min: Duration,
    /// Longest time between two lookups.
    pub refresh_max: Duration,
}

/// Which records of a name are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsRecords {
    /// Addresses of IPv4.
    A,
    /// Addresses of IPv6.
    Aaaa,
    /// Addresses of both.
    Addresses,
    /// Services: host, port, weight and priority.
    Srv,
}

/// A server that is asked over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where to connect.
    pub address: TargetAddress,
    /// Whether that is over TLS.
    pub tls: bool,
    /// What goes into `Host`.
    pub authority: String,
    /// Authorities its certificate must chain to; the system's when absent.
    pub ca_file: Option<PathBuf>,
}

/// A web server that lists targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSource {
    /// The server.
    pub server: Server,
    /// Path and query of the list; may hold a secret.
    pub target: Secret,
    /// Fields of the request.
    pub headers: Vec<(String, Secret)>,
    /// Time between two questions.
    pub interval: Duration,
}

/// A service of Consul.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsulSource {
    /// The agent.
    pub server: Server,
    /// Path before `/v1`.
    pub base_path: String,
    /// Name of the service.
    pub service: String,
    /// Tag that its instances must have.
    pub tag: Option<String>,
    /// Datacenter; the agent's own when absent.
    pub datacenter: Option<String>,
    /// Namespace, of Consul Enterprise.
    pub namespace: Option<String>,
    /// Token of the access control list.
    pub token: Option<Secret>,
    /// Whether only instances whose checks all pass are targets.
    pub only_passing: bool,
    /// Node from which distances are counted; instances come nearest first.
    pub near: Option<String>,
}

/// A service of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesSource {
    /// The API server; the cluster's own when absent.
    pub server: Option<Server>,
    /// Path before `/apis`.
    pub base_path: String,
    /// Namespace; the gateway's own when absent.
    pub namespace: Option<String>,
    /// Name of the service.
    pub service: String,
    /// Which of its ports; the only one when absent.
    pub port: Option<PortRef>,
    /// File of the token; read again for every request, since it is exchanged.
    pub token_file: Option<PathBuf>,
    /// Authorities of the API server, where `server` is absent.
    pub ca_file: Option<PathBuf>,
}

/// A port by number or by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortRef {
    /// By number.
    Number(u16),
    /// By name.
    Name(String),
}
