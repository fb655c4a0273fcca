//! Where targets are found: names, files, web servers, Consul, Kubernetes.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value as Json, json};

use super::target::{HostName, TargetUrl};
use crate::decode::{
    Bounded, Decoder, FieldName, FieldValue, Mapping, SchemaBuilder, Setting, TimeLimit, WebUrl, text,
};
use crate::diagnostic::{CONFLICTING_KEYS, Diagnostic, MISSING_KEY};
use crate::model::{
    ConsulSource, Discover, DnsRecords, DnsSource, HttpSource, KubernetesSource, PortRef, Secret, Server, Source,
    TargetAddress,
};
use crate::settings;
use crate::tree::{Node, Value};

settings! {
    /// Who knows the targets.
    pub(super) enum DiscoverText {
        /// A name whose addresses are the targets.
        Dns(DnsText) = "dns",
        /// A file that lists them.
        File(FileText) = "file",
        /// A web server that lists them.
        Http(HttpText) = "http",
        /// A service of Consul.
        Consul(ConsulText) = "consul",
        /// A service of Kubernetes.
        Kubernetes(KubernetesText) = "kubernetes",
    }
}

impl DiscoverText {
    /// Whether the targets it finds may be `https`; a list says so for each.
    pub(super) fn may_be_tls(&self) -> bool {
        match self {
            Self::Dns(dns) => dns.scheme.is_tls(),
            Self::Consul(consul) => consul.scheme.is_tls(),
            Self::Kubernetes(kubernetes) => kubernetes.scheme.is_tls(),
            Self::File(_) | Self::Http(_) => true,
        }
    }

    pub(super) fn lower(self) -> Discover {
        let tls = self.may_be_tls();
        match self {
            Self::Dns(dns) => {
                let may_be_empty = dns.when_empty.may_be_empty();
                Discover { source: Source::Dns(dns.lower()), tls, may_be_empty }
            }
            Self::File(file) => {
                let may_be_empty = file.when_empty.may_be_empty();
                Discover { source: Source::File(file.path), tls, may_be_empty }
            }
            Self::Http(http) => {
                let may_be_empty = http.when_empty.may_be_empty();
                Discover { source: Source::Http(http.lower()), tls, may_be_empty }
            }
            Self::Consul(consul) => {
                let may_be_empty = consul.when_empty.may_be_empty();
                Discover { source: Source::Consul(consul.lower()), tls, may_be_empty }
            }
            Self::Kubernetes(kubernetes) => {
                let may_be_empty = kubernetes.when_empty.may_be_empty();
                Discover { source: Source::Kubernetes(kubernetes.lower()), tls, may_be_empty }
            }
        }
    }
}

settings! {
    /// What becomes of the targets when an answer holds none.
    #[derive(Clone, Copy)]
    enum WhenEmpty {
        /// The last ones stay.
        Keep = "keep",
        /// There are none, so that calls get 503.
        Clear = "clear",
    }
}

impl WhenEmpty {
    fn may_be_empty(self) -> bool {
        matches!(self, Self::Clear)
    }
}

settings! {
    /// How targets are called.
    #[derive(Clone, Copy)]
    enum Scheme {
        /// In clear text.
        Http = "http",
        /// Over TLS, as the upstream's `tls` says.
        Https = "https",
    }
}

impl Scheme {
    fn is_tls(self) -> bool {
        matches!(self, Self::Https)
    }
}

settings! {
    /// A name whose addresses are the targets.
    pub(super) struct DnsText {
        /// The name: `orders.internal`, or `_http._tcp.orders.internal` for SRV records.
        name: HostName,
        /// Port of every address; SRV records have their own.
        port: Option<Bounded<1, 65_535>>,
        /// Which records are asked for.
        records: RecordsText as "type" = "auto",
        /// Name server to ask, an address and port; as the system is configured when absent.
        server: Option<SocketAddr>,
        /// Shortest time between two lookups, however short the records may be kept; at least `1s`.
        refresh_min: TimeLimit = "1s",
        /// Longest time between two lookups, however long they may be kept.
        refresh_max: TimeLimit = "5m",
        /// How the targets are called.
        scheme: Scheme = "http",
        /// What becomes of the targets when the name has no address.
        when_empty: WhenEmpty = "keep",
    }
    check DnsText::check;
}

settings! {
    /// Which records of a name are asked for.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum RecordsText {
        /// SRV for a name that begins with `_`, else A and AAAA.
        Auto = "auto",
        /// Addresses of IPv4.
        A = "A",
        /// Addresses of IPv6.
        Aaaa = "AAAA",
        /// Services: host, port, weight and priority of each.
        Srv = "SRV",
    }
}

impl DnsText {
    fn records(&self) -> DnsRecords {
        match self.records {
            RecordsText::Auto if self.name.0.starts_with('_') => DnsRecords::Srv,
            RecordsText::Auto => DnsRecords::Addresses,
            RecordsText::A => DnsRecords::A,
            RecordsText::Aaaa => DnsRecords::Aaaa,
            RecordsText::Srv => DnsRecords::Srv,
        }
    }

    fn check(&self, node: &Node, cx: &mut Decoder<'_>) {
        let services = self.records() == DnsRecords::Srv;
        if self.port.is_none() && !services && node.get("port").is_none() {
            let found = Diagnostic::error(MISSING_KEY, node.at, "`port` is missing: addresses have none of their own");
            cx.report(found.help("write `port: 8080`, or `type: SRV` for a name that has SRV records"));
        }
        if let Some(entry) = node.entry("port").filter(|_| services) {
            let found = Diagnostic::error(CONFLICTING_KEYS, entry.key_at, "SRV records have ports of their own");
            cx.key("port", |cx| cx.report(found.help("leave out `port`")));
        }
        if let Some(node) = node.get("refresh_min").filter(|_| self.refresh_min.0.as_millis() < 1_000) {
            cx.key("refresh_min", |cx| {
                cx.bad_value(node, "names are looked up once a second at most: write `1s` or more")
            });
        }
        let late = node.get("refresh_max").or_else(|| node.get("refresh_min"));
        if let Some(node) = late.filter(|_| self.refresh_max < self.refresh_min) {
            cx.bad_value(node, "`refresh_max` is shorter than `refresh_min`");
        }
    }

    fn lower(self) -> DnsSource {
        DnsSource {
            records: self.records(),
            name: self.name.0,
            port: self.port.map(port),
            server: self.server,
            refresh_min: self.refresh_min.0,
            refresh_max: self.refresh_max.0,
        }
    }
}

fn port(port: Bounded<1, 65_535>) -> u16 {
    u16::try_from(port.get()).unwrap_or_default()
}

settings! {
    /// A file that lists the targets, as `targets` does; watched, and read again when it changes.
    pub(super) struct FileText {
        /// The file, YAML or JSON.
        path: PathBuf,
        /// What becomes of the targets when the list is empty.
        when_empty: WhenEmpty = "keep",
    }
}

settings! {
    /// A web server that lists the targets: as `targets` does, or as Prometheus' HTTP service discovery.
    pub(super) struct HttpText {
        /// Where the list is: `https://inventory.internal/targets?of=orders`.
        url: WebUrl,
        /// Time between two questions.
        interval: TimeLimit = "10s",
        /// Fields of the request, such as `authorization`; the values are secrets.
        headers: Mapping<FieldName, FieldValue> = "{}",
        /// Authorities that the server's certificate must chain to, a PEM file; the system's when absent.
        ca_file: Option<PathBuf>,
        /// What becomes of the targets when the list is empty.
        when_empty: WhenEmpty = "keep",
    }
    check HttpText::check;
}

impl HttpText {
    fn check(&self, node: &Node, cx: &mut Decoder<'_>) {
        no_authorities_without_tls(self.url.is_https(), node, cx);
        if let Some(node) = node.get("interval").filter(|_| self.interval.0.as_millis() < 100) {
            cx.key("interval", |cx| {
                cx.bad_value(node, "the server is asked ten times a second at most: write `100ms` or more")
            });
        }
    }

    fn lower(self) -> HttpSource {
        HttpSource {
            server: self.url.server(self.ca_file),
            target: Secret(self.url.target().to_owned()),
            headers: super::health::secret_fields(self.headers),
            interval: self.interval.0,
        }
    }
}

fn no_authorities_without_tls(tls: bool, node: &Node, cx: &mut Decoder<'_>) {
    if let Some(entry) = node.entry("ca_file").filter(|_| !tls) {
        let found = Diagnostic::error(CONFLICTING_KEYS, entry.key_at, "`ca_file` is for a server that is `https`");
        cx.key("ca_file", |cx| cx.report(found));
    }
}

settings! {
    /// A service of Consul, whose instances are the targets. Changes are waited for with blocking queries.
    pub(super) struct ConsulText {
        /// The agent: `http://127.0.0.1:8500`, `https://consul.internal`, `unix:/run/consul.sock`.
        address: TargetUrl,
        /// Name of the service.
        service: PlainText,
        /// Tag that an instance must have.
        tag: Option<PlainText>,
        /// Datacenter; the agent's own when absent.
        datacenter: Option<PlainText>,
        /// Namespace, of Consul Enterprise.
        namespace: Option<PlainText>,
        /// Token of the access control list; a secret.
        token: Option<FieldValue>,
        /// Whether only instances whose checks all pass are targets; else those that warn are as well, with their own weight.
        only_passing: bool = "true",
        /// Node that distances are counted from: the instances nearest to it come first. `_agent` is the agent's own.
        near: Option<PlainText>,
        /// Authorities that the agent's certificate must chain to, a PEM file; the system's when absent.
        ca_file: Option<PathBuf>,
        /// How the targets are called.
        scheme: Scheme = "http",
        /// What becomes of the targets when there is no instance.
        when_empty: WhenEmpty = "keep",
    }
    check ConsulText::check;
}

impl ConsulText {
    fn check(&self, node: &Node, cx: &mut Decoder<'_>) {
        no_authorities_without_tls(self.address.tls, node, cx);
    }

    fn lower(self) -> ConsulSource {
        ConsulSource {
            base_path: self.address.base_path.clone(),
            server: server(self.address, self.ca_file),
            service: self.service.0,
            tag: self.tag.map(|tag| tag.0),
            datacenter: self.datacenter.map(|name| name.0),
            namespace: self.namespace.map(|name| name.0),
            token: self.token.map(|token| Secret(token.0)),
            only_passing: self.only_passing,
            near: self.near.map(|near| near.0),
        }
    }
}

fn server(url: TargetUrl, ca_file: Option<PathBuf>) -> Server {
    let authority = match &url.address {
        TargetAddress::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
        TargetAddress::Tcp { host, port } => format!("{host}:{port}"),
        TargetAddress::Unix(_) => "localhost".to_owned(),
    };
    Server { address: url.address, tls: url.tls, authority, ca_file }
}

settings! {
    /// A service of Kubernetes, whose ready endpoints are the targets. Its EndpointSlices are watched.
    pub(super) struct KubernetesText {
        /// Namespace; the gateway's own when absent.
        namespace: Option<PlainText>,
        /// Name of the service.
        service: PlainText,
        /// Which of its ports, by name or by number (`targetPort`); the only one when absent.
        port: Option<PortRef>,
        /// The API server: `https://10.0.0.1:6443`; the cluster's own when absent.
        server: Option<TargetUrl>,
        /// File that holds the token; the service account's when `server` is absent.
        token_file: Option<PathBuf>,
        /// Authorities that the server's certificate must chain to, a PEM file; the service account's when `server` is absent.
        ca_file: Option<PathBuf>,
        /// How the targets are called.
        scheme: Scheme = "http",
        /// What becomes of the targets when there is no ready endpoint.
        when_empty: WhenEmpty = "keep",
    }
    check KubernetesText::check;
}

impl KubernetesText {
    fn check(&self, node: &Node, cx: &mut Decoder<'_>) {
        no_authorities_without_tls(self.server.as_ref().is_none_or(|server| server.tls), node, cx);
        if self.server.is_some() && self.namespace.is_none() && node.get("namespace").is_none() {
            let found = Diagnostic::error(
                MISSING_KEY,
                node.at,
                "`namespace` is missing: `server` is not the gateway's own cluster",
            );
            cx.report(found);
        }
    }

    fn lower(self) -> KubernetesSource {
        let base_path = self.server.as_ref().map(|server| server.base_path.clone()).unwrap_or_default();
        KubernetesSource {
            base_path,
            server: self.server.map(|url| server(url, self.ca_file.clone())),
            namespace: self.namespace.map(|name| name.0),
            service: self.service.0,
            port: self.port,
            token_file: self.token_file,
            ca_file: self.ca_file,
        }
    }
}

/// A text without control characters, as names in other systems are; it is encoded where it is sent.
struct PlainText(String);

impl Setting for PlainText {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let name = text(node, cx, "a name")?;
        if name.is_empty() || name.len() > 512 || name.chars().any(char::is_control) {
            cx.bad_value(node, "expected a name of 1 to 512 bytes without control characters");
            return None;
        }
        Some(Self(name.to_owned()))
    }

    fn schema(_: &mut SchemaBuilder<'_>) -> Json {
        json!({ "type": "string", "minLength": 1, "maxLength": 512, "title": "name" })
    }
}

impl Setting for PortRef {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        if matches!(node.value, Value::Number(_)) {
            return Bounded::decode(node, cx).map(port).map(Self::Number);
        }
        PlainText::decode(node, cx).map(|name| name.0.parse().map_or(Self::Name(name.0), Self::Number))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        let (number, name) = (Bounded::<1, 65_535>::schema(s), PlainText::schema(s));
        json!({ "anyOf": [number, name] })
    }
}
