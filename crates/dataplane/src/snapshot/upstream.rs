//! Compiled upstreams and targets. A target's resolved addresses change beneath it without a new snapshot.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use daemun_config::diagnostic::Diagnostics;
use daemun_config::model::{HostRule, TargetAddress, UpstreamProtocol};

use crate::clock::nanos;
use crate::destination::upstream::gate::GateSettings;
use crate::record::TargetMetrics;
use crate::tls::ClientTls;

/// A compiled upstream.
pub struct Upstream {
    /// Name.
    pub name: String,
    /// Targets.
    pub targets: Vec<Arc<Target>>,
    pub(crate) host: HostRule,
    pub(crate) protocol: UpstreamProtocol,
    pub(crate) connect: u64,
    pub(crate) response: u64,
    pub(crate) idle: u64,
    /// How many calls it gets at once; `None` where nothing bounds them.
    pub(crate) gate: Option<GateSettings>,
    /// Connections over all workers.
    pub(crate) connections: usize,
    /// TLS towards its `https` targets.
    pub(crate) tls: Option<ClientTls>,
}

/// A compiled target.
pub struct Target {
    /// As written, without anything secret.
    pub url: String,
    /// What tells its connections from those of another target: address, TLS settings and protocol.
    pub(crate) key: String,
    pub(crate) address: TargetAddress,
    pub(crate) authority: String,
    pub(crate) base_path: String,
    pub(crate) weight: u32,
    pub(crate) tls: bool,
    pub(crate) resolved: ArcSwap<Vec<SocketAddr>>,
    pub(crate) cells: Arc<TargetMetrics>,
    /// Calls and connections over all workers; `None` where nothing bounds them.
    pub(crate) bounds: Option<(usize, usize)>,
}

impl Target {
    /// The name that must be resolved before it can be called; `None` for addresses and Unix sockets.
    #[must_use]
    pub fn name_to_resolve(&self) -> Option<(&str, u16)> {
        match &self.address {
            TargetAddress::Tcp { host, port } if host.parse::<std::net::IpAddr>().is_err() => Some((host, *port)),
            TargetAddress::Tcp { .. } | TargetAddress::Unix(_) => None,
        }
    }

    /// Takes over what a name resolved to.
    pub fn set_addresses(&self, addresses: Vec<SocketAddr>) {
        self.resolved.store(Arc::new(addresses));
    }

    /// Whether it has an address to connect to.
    #[must_use]
    pub fn is_resolved(&self) -> bool {
        matches!(self.address, TargetAddress::Unix(_)) || !self.resolved.load().is_empty()
    }

    /// The path of its Unix socket.
    pub(crate) fn unix_path(&self) -> Option<&PathBuf> {
        match &self.address {
            TargetAddress::Unix(path) => Some(path),
            TargetAddress::Tcp { .. } => None,
        }
    }
}

/// Compiles an upstream of the configuration; its targets' counters are found again by URL.
pub(crate) fn compile(
    config: &daemun_config::model::Upstream,
    metrics: &crate::record::Metrics,
    diagnostics: &mut Diagnostics,
) -> Option<Upstream> {
    let default = |d: Option<std::time::Duration>, seconds: u64| d.map_or(seconds * 1_000_000_000, nanos);
    let tls = if config.targets.iter().any(|target| target.tls) {
        Some(crate::tls::client(&config.name.value, &config.tls, config.protocol, diagnostics)?)
    } else {
        None
    };
    let tls_key = tls.as_ref().map_or("", |tls| &tls.key);
    let targets =
        config.targets.iter().map(|target| Arc::new(compile_target(config, target, tls_key, metrics))).collect();
    Some(Upstream {
        tls,
        name: config.name.value.clone(),
        targets,
        host: config.host.clone(),
        protocol: config.protocol,
        connect: default(config.timeouts.connect, 5),
        response: default(config.timeouts.response, 30),
        idle: default(config.timeouts.idle, 60),
        gate: gate(config),
        connections: config.limits.connections.unwrap_or(usize::MAX),
    })
}

/// What bounds the calls in flight. Over HTTP/1.1 every call has a connection of its own, so that they cannot be more than those.
fn gate(config: &daemun_config::model::Upstream) -> Option<GateSettings> {
    let limits = &config.limits;
    let alone = config.protocol == UpstreamProtocol::Http1;
    let connections = limits.connections.filter(|_| alone);
    let called = config.targets.iter().filter(|target| target.weight > 0).count().max(1);
    let per_target = target_bounds(config).map(|(calls, _)| calls).filter(|calls| *calls < usize::MAX);
    let all = [limits.requests, connections, per_target.map(|calls| calls.saturating_mul(called))];
    let requests = all.into_iter().flatten().min();
    (requests.is_some() || config.concurrency.is_some()).then(|| GateSettings {
        requests: requests.unwrap_or(usize::MAX),
        queue: limits.queue,
        timeout: nanos(limits.queue_timeout),
        adaptive: config.concurrency,
    })
}

/// Calls in flight to each target, and connections.
fn target_bounds(config: &daemun_config::model::Upstream) -> Option<(usize, usize)> {
    let limits = &config.limits;
    let alone = config.protocol == UpstreamProtocol::Http1;
    let connections = limits.target_connections;
    let calls = [limits.target_requests, connections.filter(|_| alone)].into_iter().flatten().min();
    (calls.is_some() || connections.is_some()).then(|| (calls.unwrap_or(usize::MAX), connections.unwrap_or(usize::MAX)))
}

fn compile_target(
    upstream: &daemun_config::model::Upstream,
    target: &daemun_config::model::Target,
    tls_key: &str,
    metrics: &crate::record::Metrics,
) -> Target {
    let (authority, resolved) = match &target.address {
        TargetAddress::Tcp { host, port } => {
            let name = if host.contains(':') { format!("[{host}]") } else { host.clone() };
            let usual = if target.tls { 443 } else { 80 };
            let authority = if *port == usual { name } else { format!("{name}:{port}") };
            (authority, host.parse().map(|ip| vec![SocketAddr::new(ip, *port)]).unwrap_or_default())
        }
        TargetAddress::Unix(_) => ("localhost".to_owned(), Vec::new()),
    };
    Target {
        url: target.url.value.clone(),
        key: format!("{:?} {} {tls_key} {:?}", target.address, target.tls, upstream.protocol),
        address: target.address.clone(),
        authority,
        base_path: target.base_path.clone(),
        weight: target.weight,
        tls: target.tls,
        resolved: ArcSwap::from_pointee(resolved),
        cells: metrics.target(&upstream.name.value, &target.url.value),
        bounds: target_bounds(upstream),
    }
}
