//! Asks name servers, and the system where they know nothing. Knows no target and keeps no answer.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daemun_config::model::DnsRecords;
use daemun_dataplane::Clock;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::{Hosts, TokioResolver};

use super::within;

/// How long answers hold that do not say so themselves: those of `/etc/hosts` and of the system.
const UNSAID: Duration = Duration::from_secs(30);
/// How long one name may take, search domains and attempts included.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a name server of its own may take for one question.
const ANSWER: Duration = Duration::from_secs(2);
/// What system resolvers are configured by.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Addresses {
    /// Each once; none where the name has none.
    pub(super) addresses: Vec<IpAddr>,
    /// How long that holds.
    pub(super) ttl: Duration,
}

/// One SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) port: u16,
    /// Without the dot at its end; empty where the service is said not to be there (RFC 2782).
    pub(super) host: String,
}

/// SRV records of a name, with the addresses that came with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Services {
    pub(super) services: Vec<Service>,
    /// Addresses by host.
    pub(super) known: Vec<(String, IpAddr)>,
    pub(super) ttl: Duration,
}

/// Who is asked.
pub(super) struct Lookup {
    clock: Clock,
    /// One server; else as the system is configured.
    server: Option<SocketAddr>,
    /// How long that server may take for one question.
    answer: Duration,
    /// Who asks, and the state of the files it was made by.
    asker: Mutex<Option<(Stamp, Arc<Asker>)>>,
}

type Stamp = [Option<(i64, i64, u64)>; 2];

struct Asker {
    resolver: TokioResolver,
    hosts: Hosts,
    /// Whether the system may know what name servers do not.
    system: bool,
}

impl Lookup {
    /// Asks as the system is configured: `/etc/hosts`, name servers and search domains of `/etc/resolv.conf`.
    pub(super) fn system(clock: Clock) -> Self {
        Self { clock, server: None, answer: ANSWER, asker: Mutex::default() }
    }

    /// Asks one name server and nobody else.
    pub(super) fn of(server: SocketAddr, clock: Clock) -> Self {
        Self { clock, server: Some(server), answer: ANSWER, asker: Mutex::default() }
    }

    /// The same, of less patience.
    #[cfg(test)]
    pub(super) fn hasty(server: SocketAddr, clock: Clock, answer: Duration) -> Self {
        Self { answer, ..Self::of(server, clock) }
    }

    /// The addresses of a name: those of IPv4 first.
    ///
    /// # Errors
    /// Why nothing is known of it; that it has none is no error.
    pub(super) async fn addresses(&self, name: &str, records: DnsRecords) -> Result<Addresses, String> {
        let limited = within(&self.clock, PATIENCE, self.ask_addresses(name, records));
        limited.await.unwrap_or_else(|| Err(format!("no answer in {PATIENCE:?}")))
    }

    /// The services of a name.
    ///
    /// # Errors
    /// Why nothing is known of it; that it has none is no error.
    pub(super) async fn services(&self, name: &str) -> Result<Services, String> {
        let limited = within(&self.clock, PATIENCE, self.ask_services(name));
        limited.await.unwrap_or_else(|| Err(format!("no answer in {PATIENCE:?}")))
    }

    async fn ask_addresses(&self, name: &str, records: DnsRecords) -> Result<Addresses, String> {
        let asker = self.asker()?;
        if let Some(found) = in_hosts(&asker.hosts, name, records) {
            return Ok(found);
        }
        let result = match records {
            DnsRecords::A => asker.resolver.lookup(name, RecordType::A).await,
            DnsRecords::Aaaa => asker.resolver.lookup(name, RecordType::AAAA).await,
            DnsRecords::Addresses | DnsRecords::Srv => match asker.resolver.lookup_ip(name).await {
                // that is said of IPv4 alone: IPv6 may have failed otherwise
                Err(error) if error.is_no_records_found() => asker.resolver.lookup(name, RecordType::AAAA).await,
                found => found.map(|found| found.as_lookup().clone()),
            },
        };
        match result {
            Ok(found) => Ok(addresses_in(found.answers())),
            Err(error) if asker.system && is_ignorance(&error) => match system(name, records).await {
                Some(found) => Ok(found),
                None => nothing(&error, UNSAID),
            },
            Err(error) => nothing(&error, negative_ttl(&error)),
        }
    }

    async fn ask_services(&self, name: &str) -> Result<Services, String> {
        let asker = self.asker()?;
        match asker.resolver.lookup(name, RecordType::SRV).await {
            Ok(found) => Ok(services_in(found.answers(), found.additionals())),
            Err(error) if error.is_no_records_found() => {
                Ok(Services { ttl: negative_ttl(&error), ..Services::default() })
            }
            Err(error) => Err(in_words(&error)),
        }
    }

    /// Who asks; another one when the files that say how have changed.
    fn asker(&self) -> Result<Arc<Asker>, String> {
        let stamp = if self.server.is_some() { [None; 2] } else { FILES.map(stamp) };
        let mut kept = self.asker.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, asker)) = kept.as_ref().filter(|(of, _)| *of == stamp) {
            return Ok(Arc::clone(asker));
        }
        let made = match self.server {
            Some(server) => Asker::of(server, self.answer),
            None => Asker::system(),
        };
        let asker = Arc::new(made.map_err(|error| in_words(&error))?);
        *kept = Some((stamp, Arc::clone(&asker)));
        Ok(asker)
    }
}

impl Asker {
    fn of(server: SocketAddr, answer: Duration) -> Result<Self, NetError> {
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
            connection.port = server.port();
            connection
        });
        let server = NameServerConfig::new(server.ip(), true, connections.into());
        let config = ResolverConfig::from_name_servers(vec![server]);
        let mut options = ResolverOpts::default();
        options.timeout = answer;
        Self::new(config, options, Hosts::default(), false)
    }

    fn system() -> Result<Self, NetError> {
        let hosts = Hosts::from_system().unwrap_or_default();
        match hickory_resolver::system_conf::read_system_conf() {
            Ok((config, options)) => Self::new(config, options, hosts, true),
            // without name servers there are still hosts, and whatever else the system may ask
            Err(_) => Self::new(ResolverConfig::from_name_servers(Vec::new()), ResolverOpts::default(), hosts, true),
        }
    }

    fn new(config: ResolverConfig, mut options: ResolverOpts, hosts: Hosts, system: bool) -> Result<Self, NetError> {
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.try_tcp_on_error = true;
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        Ok(Self { resolver: builder.build()?, hosts, system })
    }
}

/// When a file was changed, and its size.
fn stamp(path: &str) -> Option<(i64, i64, u64)> {
    let found = fs::metadata(path).ok()?;
    Some((found.mtime(), found.mtime_nsec(), found.len()))
}

/// What `/etc/hosts` says; a family that it says nothing of is asked nowhere else, as the system has it.
fn in_hosts(hosts: &Hosts, name: &str, records: DnsRecords) -> Option<Addresses> {
    let mut name: Name = name.parse().ok()?;
    name.set_fqdn(true);
    let kinds: &[RecordType] = match records {
        DnsRecords::A => &[RecordType::A],
        DnsRecords::Aaaa => &[RecordType::AAAA],
        DnsRecords::Addresses | DnsRecords::Srv => &[RecordType::A, RecordType::AAAA],
    };
    let found = kinds.iter().filter_map(|kind| hosts.lookup_static_host(&Query::query(name.clone(), *kind)));
    let found: Vec<Record> = found.flat_map(|found| found.answers().to_vec()).collect();
    let found = addresses_in(&found);
    (!found.addresses.is_empty()).then_some(Addresses { ttl: UNSAID, ..found })
}

fn addresses_in(records: &[Record]) -> Addresses {
    let mut found = Addresses { addresses: Vec::new(), ttl: UNSAID };
    let mut ttl = None;
    for record in records {
        let Some(address) = address(&record.data) else { continue };
        let own = Duration::from_secs(record.ttl.into());
        ttl = Some(ttl.map_or(own, |least: Duration| least.min(own)));
        found.addresses.push(address);
    }
    found.addresses.sort_unstable();
    found.addresses.dedup();
    found.ttl = ttl.unwrap_or(UNSAID);
    found
}

fn address(data: &RData) -> Option<IpAddr> {
    if let RData::A(ip) = data {
        return Some(IpAddr::V4(Ipv4Addr::from(*ip)));
    }
    if let RData::AAAA(ip) = data {
        return Some(IpAddr::V6(Ipv6Addr::from(*ip)));
    }
    None
}

fn services_in(answers: &[Record], additionals: &[Record]) -> Services {
    let mut found = Services::default();
    let mut ttl: Option<Duration> = None;
    let mut least = |record: &Record| {
        let own = Duration::from_secs(record.ttl.into());
        ttl = Some(ttl.map_or(own, |least| least.min(own)));
    };
    for record in answers {
        if let RData::SRV(service) = &record.data {
            let host = host(&service.target);
            found.services.push(Service {
                priority: service.priority,
                weight: service.weight,
                port: service.port,
                host,
            });
            least(record);
        }
    }
    for record in answers.iter().chain(additionals) {
        let named = host(&record.name);
        if let Some(address) = address(&record.data)
            && found.services.iter().any(|service| service.host == named)
        {
            found.known.push((named, address));
            least(record);
        }
    }
    found.ttl = ttl.unwrap_or(UNSAID);
    found
}

fn host(name: &Name) -> String {
    let text = name.to_ascii().to_ascii_lowercase();
    text.strip_suffix('.').map(str::to_owned).unwrap_or(text)
}

/// Whether name servers answered that they know nothing, or there are none: then others may know.
fn is_ignorance(error: &NetError) -> bool {
    error.is_no_records_found() || matches!(error, NetError::NoConnections)
}

/// How long it holds that there is nothing; not at all where that is not said (RFC 2308, section 5).
fn negative_ttl(error: &NetError) -> Duration {
    if let NetError::Dns(hickory_resolver::net::DnsError::NoRecordsFound(none)) = error
        && let Some(ttl) = none.negative_ttl
    {
        return Duration::from_secs(ttl.into()).min(UNSAID);
    }
    Duration::ZERO
}

fn in_words(error: &NetError) -> String {
    if matches!(error, NetError::Timeout) {
        return "the name server does not answer".to_owned();
    }
    if matches!(error, NetError::NoConnections) {
        return "no name server can be reached".to_owned();
    }
    error.to_string()
}

/// What it comes to that nobody gave an address: none, if name servers said so; if they said nothing, it is not known.
fn nothing(error: &NetError, ttl: Duration) -> Result<Addresses, String> {
    if error.is_no_records_found() {
        return Ok(Addresses { addresses: Vec::new(), ttl });
    }
    Err(in_words(error))
}

/// Asks the system, whose sources may be others than name servers; `None` when it fails, be it that the name has no address or that nobody
/// can be asked, which is one error there. Waits on a thread of its own.
async fn system(name: &str, records: DnsRecords) -> Option<Addresses> {
    let wanted = |address: &IpAddr| match records {
        DnsRecords::A => address.is_ipv4(),
        DnsRecords::Aaaa => address.is_ipv6(),
        DnsRecords::Addresses | DnsRecords::Srv => true,
    };
    let found = tokio::net::lookup_host((name, 0)).await.ok()?;
    let mut addresses: Vec<IpAddr> = found.map(|address| address.ip()).filter(wanted).collect();
    addresses.sort_unstable();
    addresses.dedup();
    Some(Addresses { addresses, ttl: UNSAID })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks as the system is configured, but without name servers.
    fn without_servers() -> Lookup {
        let lookup = Lookup::system(Clock::system());
        let config = ResolverConfig::from_name_servers(Vec::new());
        let asker = Asker::new(config, ResolverOpts::default(), Hosts::default(), true).unwrap();
        *lookup.asker.lock().unwrap() = Some((FILES.map(stamp), Arc::new(asker)));
        lookup
    }

    #[test]
    fn a_name_that_nobody_could_be_asked_for_is_not_known_to_have_no_address() {
        for silent in [NetError::NoConnections, NetError::Timeout] {
            assert!(nothing(&silent, UNSAID).is_err(), "{silent}");
        }
    }

    #[tokio::test]
    async fn what_the_system_knows_without_name_servers_is_taken() {
        let found = without_servers().addresses("localhost", DnsRecords::A).await.unwrap();
        assert_eq!(found.addresses, [IpAddr::from([127, 0, 0, 1])]);
    }
}
