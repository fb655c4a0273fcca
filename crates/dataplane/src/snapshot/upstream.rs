//! Compiled upstreams and targets. A target's resolved addresses change beneath it without a new snapshot.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use daemun_config::diagnostic::Diagnostics;
use daemun_config::model::{self, HostRule, ProxyVersion, TargetAddress, UpstreamProtocol};
use daemun_pipeline::Carry;

use super::failure::{Failure, Names};
use super::set::{FoundTarget, Known, Maker, TargetSet};
use crate::clock::nanos;
use crate::destination::upstream::choice::{Choice, Finding};
use crate::destination::upstream::gate::GateSettings;
use crate::destination::upstream::state::TargetState;
use crate::record::{Metrics, TargetMetrics};
use crate::tls::ClientTls;

/// Upstreams compiled so far.
static MADE: AtomicU64 = AtomicU64::new(1);

/// A compiled upstream.
pub struct Upstream {
    /// Name.
    pub name: String,
    /// Which of all that were compiled it is, so that what several share goes by the newest.
    pub(crate) made: u64,
    /// How one of them is chosen.
    pub(crate) choice: Choice,
    /// Its targets, which change beneath it.
    pub(crate) set: Arc<TargetSet>,
    /// Whether targets are found while the gateway runs.
    pub(crate) finds: bool,
    /// What is wrong with where they are found.
    trouble: Mutex<Option<Box<str>>>,
    pub(crate) host: HostRule,
    pub(crate) protocol: UpstreamProtocol,
    /// How its targets are told whose connection a call came over.
    pub(crate) proxy_protocol: Option<ProxyVersion>,
    pub(crate) connect: u64,
    pub(crate) response: u64,
    pub(crate) idle: u64,
    /// TLS towards its `https` targets.
    pub(crate) tls: Option<ClientTls>,
    pub(crate) failure: Failure,
    /// How many calls it gets at once; `None` where nothing bounds them.
    pub(crate) gate: Option<GateSettings>,
    /// Connections over all workers.
    pub(crate) connections: usize,
    /// Calls and connections to each target over all workers; `None` where nothing bounds them.
    pub(crate) target_bounds: Option<(usize, usize)>,
}

/// A compiled target.
pub struct Target {
    /// As written, without anything secret.
    pub url: String,
    /// What tells its connections from those of another target: address, TLS settings and protocols.
    pub(crate) key: String,
    pub(crate) address: TargetAddress,
    pub(crate) authority: String,
    pub(crate) base_path: String,
    pub(crate) weight: u32,
    pub(crate) tls: bool,
    pub(crate) resolved: ArcSwap<Vec<SocketAddr>>,
    pub(crate) tier: u8,
    pub(crate) zone: Option<String>,
    pub(crate) drain: bool,
    pub(crate) cells: Arc<TargetMetrics>,
    state: Arc<TargetState>,
    /// What it was made of.
    pub(super) found: FoundTarget,
}

impl Upstream {
    /// The targets of this moment.
    #[must_use]
    pub fn targets(&self) -> Arc<Vec<Arc<Target>>> {
        self.set.now()
    }

    /// What is wrong with where targets are found; nothing secret.
    pub fn found_with(&self, trouble: Option<&str>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble.map(Into::into);
    }

    /// How its targets are found; `None` where they are all written down.
    pub(crate) fn finding(&self) -> Option<Finding> {
        let trouble = || self.trouble.lock().unwrap_or_else(PoisonError::into_inner).as_deref().map(str::to_owned);
        self.finds.then(|| Finding { trouble: trouble() })
    }

    /// Puts the targets that were found in place of those found before; those that are written down stay, and come first. Targets that
    /// stay keep their connections and what is known of them. At most 4,096 count.
    pub fn replace_targets(&self, found: &[FoundTarget]) {
        self.set.replace(found);
    }
}

impl Target {
    pub(super) fn new(found: FoundTarget, of: &Maker) -> Target {
        let (authority, resolved) = match &found.address {
            TargetAddress::Tcp { host, port } => {
                let name = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                let usual = if found.tls { 443 } else { 80 };
                let authority = if *port == usual { name } else { format!("{name}:{port}") };
                (authority, host.parse().map(|ip| vec![SocketAddr::new(ip, *port)]).unwrap_or_default())
            }
            TargetAddress::Unix(_) => ("localhost".to_owned(), Vec::new()),
        };
        Target {
            url: found.url.clone(),
            key: format!("{:?} {} {} {:?} {:?}", found.address, found.tls, of.tls_key, of.protocol, of.proxy_protocol),
            address: found.address.clone(),
            authority,
            base_path: found.base_path.clone(),
            weight: found.weight,
            tls: found.tls,
            resolved: ArcSwap::from_pointee(resolved),
            tier: found.tier,
            zone: found.zone.clone(),
            drain: found.drain,
            cells: of.metrics.target(&of.upstream, &found.url),
            state: of.known.state(&found.address, found.tls),
            found,
        }
    }

    /// What is known of it, the same over reloads.
    #[must_use]
    pub fn state(&self) -> &TargetState {
        &self.state
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> &TargetAddress {
        &self.address
    }

    /// What resolved to, or was written as, its addresses.
    #[must_use]
    pub fn addresses(&self) -> Arc<Vec<SocketAddr>> {
        self.resolved.load_full()
    }

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

    /// Whether its name has lost this address; one that has none, because nobody has asked yet, has lost none.
    pub(crate) fn has_lost(&self, address: &SocketAddr) -> bool {
        let resolved = self.resolved.load();
        !resolved.is_empty() && !resolved.contains(address)
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

/// Compiles an upstream of the configuration; its targets are found again where nothing about them changed, their counters by URL.
pub(crate) fn compile(
    config: &model::Upstream,
    zone: Option<&str>,
    upstreams: &Names<'_>,
    carry: &Carry,
    metrics: &Arc<Metrics>,
    diagnostics: &mut Diagnostics,
) -> Option<Upstream> {
    let default = |d: Option<std::time::Duration>, seconds: u64| d.map_or(seconds * 1_000_000_000, nanos);
    let found_tls = config.discover.as_ref().is_some_and(|discover| discover.tls);
    let tls = if found_tls || config.targets.iter().any(|target| target.tls) {
        Some(crate::tls::client(&config.name.value, &config.tls, config.protocol, diagnostics)?)
    } else {
        None
    };
    let tls_key = tls.as_ref().map_or("", |tls| &tls.key);
    Some(Upstream {
        choice: Choice::compile(config, zone, carry, diagnostics)?,
        set: targets(config, tls_key, carry, metrics),
        finds: config.discover.is_some(),
        trouble: Mutex::default(),
        tls,
        made: MADE.fetch_add(1, Ordering::Relaxed),
        name: config.name.value.clone(),
        host: config.host.clone(),
        protocol: config.protocol,
        proxy_protocol: config.proxy_protocol,
        connect: default(config.timeouts.connect, 5),
        response: default(config.timeouts.response, 30),
        idle: default(config.timeouts.idle, 60),
        failure: Failure::compile(config, upstreams, carry),
        gate: gate(config),
        connections: config.limits.connections.unwrap_or(usize::MAX),
        target_bounds: target_bounds(config),
    })
}

/// What bounds the calls in flight. Over HTTP/1.1 every call has a connection of its own, so that they cannot be more than those.
fn gate(config: &model::Upstream) -> Option<GateSettings> {
    let limits = &config.limits;
    let alone = config.protocol == UpstreamProtocol::Http1;
    let connections = limits.connections.filter(|_| alone);
    let per_target = target_bounds(config).map(|(calls, _)| calls).filter(|calls| *calls < usize::MAX);
    let requests = [limits.requests, connections].into_iter().flatten().min();
    (requests.is_some() || per_target.is_some() || config.concurrency.is_some()).then(|| GateSettings {
        requests: requests.unwrap_or(usize::MAX),
        per_target: per_target.unwrap_or(usize::MAX),
        queue: limits.queue,
        timeout: nanos(limits.queue_timeout),
        adaptive: config.concurrency,
    })
}

/// Calls in flight to each target, and connections.
fn target_bounds(config: &model::Upstream) -> Option<(usize, usize)> {
    let limits = &config.limits;
    let alone = config.protocol == UpstreamProtocol::Http1;
    let connections = limits.target_connections;
    let calls = [limits.target_requests, connections.filter(|_| alone)].into_iter().flatten().min();
    (calls.is_some() || connections.is_some()).then(|| (calls.unwrap_or(usize::MAX), connections.unwrap_or(usize::MAX)))
}

fn targets(config: &model::Upstream, tls_key: &str, carry: &Carry, metrics: &Arc<Metrics>) -> Arc<TargetSet> {
    let name = config.name.value.as_str();
    let known = carry.get_or(&format!("targets of {name}"), "", Known::default);
    let written: Vec<FoundTarget> = config.targets.iter().map(written).collect();
    // targets found by one source are not those of another
    let shape =
        format!("{written:?} {tls_key} {:?} {:?} {:?}", config.protocol, config.discover, config.proxy_protocol);
    carry.get_or(&format!("target set of {name}"), &shape, || {
        let maker = Maker {
            upstream: name.to_owned(),
            protocol: config.protocol,
            proxy_protocol: config.proxy_protocol,
            tls_key: tls_key.to_owned(),
            known,
            metrics: Arc::clone(metrics),
        };
        TargetSet::new(maker, written)
    })
}

fn written(target: &model::Target) -> FoundTarget {
    FoundTarget {
        url: target.url.value.clone(),
        address: target.address.clone(),
        tls: target.tls,
        base_path: target.base_path.clone(),
        weight: target.weight,
        tier: target.tier,
        zone: target.zone.clone(),
        drain: target.drain,
    }
}
