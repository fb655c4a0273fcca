//! The types of a checked configuration, as the rest of Daemun reads them. Knows nothing of text, only where each value stood.

mod balance;
mod credentials;
mod discover;
mod failure;
mod health;
mod password;
mod tokens;
mod users;

pub use balance::{Balance, Breaker, HashBy, Outliers, Sticky};
pub use credentials::{
    CertificateName, CertificateRule, CredentialName, HmacKey, SecretBytes, SignatureAlgorithm, SigningKey, Terms,
};
pub use discover::{
    ConsulSource, Discover, DnsRecords, DnsSource, HttpSource, KubernetesSource, PortRef, Secret, Server, Source,
};
pub use failure::{Cached, Fallback, FallbackTo, Hedge, Mirror, Retry, RetryOn};
pub use health::{BodyTest, GrpcProbe, HealthCheck, HttpProbe, Probe};
pub use password::PasswordHash;
pub use tokens::{
    GrantType, LoginProvider, ServiceUrls, SignedTokens, SigningAlgorithm, StoreConfig, TokenFormat, TokenMember,
    TokenService,
};
pub use users::{LdapGroups, LdapSource, SqlSource, User, UserSource};

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::decode::Rate;
pub use crate::language::gate::{Adaptive, Importance, UpstreamLimits};
pub use crate::language::saml::{ClaimName, SamlConfig, SamlName, SamlPem};
pub use crate::language::user_sources::UserSources;
use crate::tree::{At, Node};

/// A value and where it stood in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stood.
    pub at: At,
}

/// A whole configuration, checked within itself: every name resolves, every value is within its bounds.
/// `Debug` prints how much there is of what, not the values: some may come out of secrets.
#[derive(Clone)]
pub struct Config {
    /// The folder of each file it was read from, which relative paths in it refer to, by [`crate::tree::At::file`].
    pub folders: Vec<PathBuf>,
    /// Worker threads; `None`: one per core.
    pub workers: Option<usize>,
    /// Whether a change of the files reloads (SIGHUP always does).
    pub reload: Reload,
    /// Where callers come in.
    pub listeners: Vec<Listener>,
    /// Loopback address of the admin listener, `None` when there is none.
    pub admin: Option<Spanned<Bind>>,
    /// Address of `/metrics`, `/healthz`, `/readyz`.
    pub status: Option<Spanned<Bind>>,
    /// The access log; `None` when it is off.
    pub access_log: Option<AccessLog>,
    /// Peers whose forwarding fields are believed.
    pub trusted_proxies: TrustedProxies,
    /// Whether fields with `_` in their name are kept.
    pub underscores: Underscores,
    /// Whether a host without a matching route falls through to a wildcard or any host.
    pub hosts_fall_through: bool,
    /// Bounds on what a client may send.
    pub limits: Limits,
    /// Time limits towards clients.
    pub timeouts: ClientTimeouts,
    /// Where the gateway is.
    pub zone: Option<String>,
    /// Pools of targets.
    pub upstreams: Vec<Upstream>,
    /// Where accounts last; `None` where there are none beside the configuration's.
    pub store: Option<StoreConfig>,
    /// Services that give out tokens.
    pub tokens: Vec<TokenService>,
    /// Policies of every route.
    pub policies: Vec<PolicyEntry>,
    /// Routes, in file order, files by name.
    pub routes: Vec<Route>,
    /// Known callers.
    pub consumers: Vec<Consumer>,
    /// People who call with a name and a password.
    pub users: Vec<User>,
    /// What consumers may be on.
    pub plans: Vec<Plan>,
    /// Replacement bodies of the gateway's own answers, per status.
    pub errors: Vec<(u16, ErrorBody)>,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("listeners", &self.listeners.len())
            .field("upstreams", &self.upstreams.len())
            .field("routes", &self.routes.len())
            .field("consumers", &self.consumers.len())
            .field("users", &self.users.len())
            .finish_non_exhaustive()
    }
}

/// What makes the gateway read its configuration again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// A change of the files, and SIGHUP.
    Watch,
    /// SIGHUP alone.
    Signal,
}

/// What happens to fields with `_` in their name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Underscores {
    /// They are removed (default): a back end may read `_` as `-`.
    Drop,
    /// They are passed on.
    Keep,
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    /// A TCP address; port 0 takes a free one.
    Tcp(std::net::SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// One place where callers come in.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Its place in the list as written.
    pub index: usize,
    /// Address.
    pub bind: Spanned<Bind>,
    /// TLS termination, `None` for cleartext.
    pub tls: Option<ListenerTls>,
    /// Who must say first whose connection it passes on; `None` where nobody may.
    pub proxy_protocol: Option<ListenerProxy>,
}

/// The PROXY protocol of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerProxy {
    /// The peers that must begin with a header, which is believed.
    pub from: TrustedProxies,
    /// Whether other peers are served, without a header; else their connections are closed.
    pub serve_others: bool,
}

/// Version of the PROXY protocol that is spoken to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    /// 1, a line of text.
    V1,
    /// 2, binary.
    V2,
}

/// TLS of a listener.
#[derive(Clone, Debug)]
pub struct ListenerTls {
    /// Certificates, chosen by SNI; the first is the default. Never empty.
    pub certificates: Vec<Certificate>,
    /// Authorities that client certificates must chain to.
    pub client_ca: Option<Spanned<PathBuf>>,
    /// Whether a client may come without a certificate although `client_ca` is set.
    pub client_auth_optional: bool,
    /// Lists of client certificates that were taken back.
    pub client_crl: Vec<Spanned<PathBuf>>,
    /// Whether a client may come whose authority has given none of these lists.
    pub client_crl_unknown_allowed: bool,
    /// Least protocol version.
    pub min_version: TlsVersion,
}

/// A certificate chain and its key, PEM files.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// Chain file.
    pub cert: Spanned<PathBuf>,
    /// Key file.
    pub key: Spanned<PathBuf>,
}

/// Least TLS version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// 1.2 (default).
    V1_2,
    /// 1.3.
    V1_3,
}

/// The access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// Form of a line.
    pub format: LogFormat,
    /// Fields of a JSON line beside the usual ones: names, and texts with `${…}` expressions.
    pub fields: Vec<(Spanned<String>, Spanned<String>)>,
    /// Where lines go.
    pub to: LogTarget,
}

/// Form of an access-log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// A template with `${field}` references.
    Template(Spanned<String>),
}

/// Where access-log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// A file, re-opened on SIGUSR1.
    File(PathBuf),
}

/// An address range in CIDR form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpNet {
    /// First address, host bits zero.
    pub addr: IpAddr,
    /// Prefix length in bits.
    pub prefix: u8,
}

impl IpNet {
    /// Whether `ip` lies within; an IPv4-mapped IPv6 address counts as IPv4.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.addr, ip.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                net.to_bits() & mask == ip.to_bits() & mask
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                net.to_bits() & mask == ip.to_bits() & mask
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// Peers whose forwarding fields are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    /// By address.
    pub nets: Vec<IpNet>,
    /// Whoever connects to a Unix socket, which has no address.
    pub unix: bool,
}

impl TrustedProxies {
    /// Whether a peer is one of them; `None` is one on a Unix socket.
    #[must_use]
    pub fn trust(&self, peer: Option<IpAddr>) -> bool {
        match peer {
            Some(ip) => self.nets.iter().any(|net| net.contains(ip)),
            None => self.unix,
        }
    }
}

/// Bounds on what a client may send, and on how many clients there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a message head; 64 KiB.
    pub head: usize,
    /// Fields of a head; 100.
    pub fields: usize,
    /// Bytes of a request target; 16 KiB.
    pub target: usize,
    /// Bytes of a request body; 10 MiB. Streams have none.
    pub body: u64,
    /// Client connections; `None`: min(16,000, (descriptors − 256) / 2).
    pub connections: Option<usize>,
}

/// Time limits towards clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientTimeouts {
    /// From the first byte of a request to the end of its head; 10s.
    pub head: Duration,
    /// Between two pieces of a request body; 30s.
    pub body_idle: Duration,
    /// While the client does not read its answer; 30s.
    pub write_idle: Duration,
    /// Between two exchanges of a connection; 75s.
    pub keep_alive: Duration,
    /// Silence on a stream (upgrade, gRPC, event stream); 5m.
    pub stream_idle: Duration,
    /// Least bytes per second of a request body, measured after `min_rate_after`; 240. 0 switches it off.
    pub min_rate: u64,
    /// When `min_rate` begins to hold; 10s.
    pub min_rate_after: Duration,
    /// How long a drain waits for exchanges to end; 30s.
    pub drain: Duration,
}

/// A named pool of targets.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Name.
    pub name: Spanned<String>,
    /// Targets; empty only where they are found.
    pub targets: Vec<Target>,
    /// How one is picked.
    pub balance: Balance,
    /// Share of healthy weight, in hundredths of a per cent, below which all targets are called.
    pub panic_threshold: Option<u32>,
    /// What calls tell of a target.
    pub outliers: Option<Outliers>,
    /// When the upstream is left alone.
    pub breaker: Option<Breaker>,
    /// Time over which the weight of a target rises that is healthy again.
    pub slow_start: Option<Duration>,
    /// Where targets are found.
    pub discover: Option<Discover>,
    /// Time limits.
    pub timeouts: UpstreamTimeouts,
    /// What goes into `Host`.
    pub host: HostRule,
    /// Protocol towards the targets.
    pub protocol: UpstreamProtocol,
    /// How its targets are told whose connection a call came over; with HTTP/1.1 only.
    pub proxy_protocol: Option<ProxyVersion>,
    /// TLS towards `https` targets.
    pub tls: UpstreamTls,
    /// Bounds on its calls.
    pub limits: UpstreamLimits,
    /// Whether the number of calls in flight is learned.
    pub concurrency: Option<Adaptive>,
    /// When a call that failed is made again.
    pub retry: Option<Retry>,
    /// A second call when the first takes long.
    pub hedge: Option<Hedge>,
    /// What is done in place of a call that failed.
    pub fallback: Option<Fallback>,
    /// Active checks of the targets.
    pub health: Option<HealthCheck>,
}

/// One address of an upstream.
#[derive(Clone, Debug)]
pub struct Target {
    /// As written, for logs and metrics.
    pub url: Spanned<String>,
    /// Where to connect.
    pub address: TargetAddress,
    /// Whether the connection is TLS (`https:`).
    pub tls: bool,
    /// Path put before each forwarded path, normalised, without trailing slash; empty when there is none.
    pub base_path: String,
    /// Share of the calls among the targets; 1 to 1,000,000, default 1; 0 takes it out.
    pub weight: u32,
    /// Lower tiers are called first; 0.
    pub tier: u8,
    /// Where it is.
    pub zone: Option<String>,
    /// Whether it gets no new call.
    pub drain: bool,
}

/// Where a target is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TargetAddress {
    /// A host name or address (IPv6 without brackets), and a port.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

/// Time limits towards an upstream; a route's own win over these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTimeouts {
    /// To connect, TLS handshake included; 5s.
    pub connect: Option<Duration>,
    /// From the end of the request to the end of the answer's head, per attempt; 30s.
    pub response: Option<Duration>,
    /// A pooled connection's idle time; 60s.
    pub idle: Option<Duration>,
}

/// What goes into `Host` towards an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostRule {
    /// What the client sent (default).
    Preserve,
    /// The target's own authority.
    Target,
    /// A fixed name.
    Fixed(String),
}

/// Protocol towards an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// HTTP/1.1 (default).
    Http1,
    /// HTTP/2 over TLS.
    H2,
    /// HTTP/2 cleartext with prior knowledge.
    H2c,
    /// ALPN decides on TLS; HTTP/1.1 otherwise.
    Auto,
}

/// TLS towards an upstream's `https` targets.
#[derive(Clone, Debug, Default)]
pub struct UpstreamTls {
    /// Authorities; the system's when absent.
    pub ca: Option<Spanned<PathBuf>>,
    /// Client certificate chain.
    pub cert: Option<Spanned<PathBuf>>,
    /// Client key.
    pub key: Option<Spanned<PathBuf>>,
    /// Name for SNI and verification; the target's host when absent.
    pub server_name: Option<Spanned<String>>,
    /// Whether the target's certificate is verified; true.
    pub insecure_skip_verify: bool,
}

/// A policy's settings as written: decoded by the policy itself.
#[derive(Clone, Debug)]
pub struct PolicyEntry {
    /// Policy name.
    pub name: Spanned<String>,
    /// Settings; `None` when the policy is switched `off`.
    pub settings: Option<Node>,
    /// The condition under which it runs; always when absent.
    pub when: Option<Spanned<String>>,
    /// Whether nothing is wrong with the settings; always so in a configuration without errors.
    pub sound: bool,
}

/// One rule of what goes where.
#[derive(Clone, Debug)]
pub struct Route {
    /// Name, unique.
    pub name: Spanned<String>,
    /// Conditions.
    pub matches: Match,
    /// Decides between routes of equal host rank; higher wins; 0.
    pub priority: i32,
    /// `slashes: keep` was given.
    pub keep_slashes: bool,
    /// `encoded_slash: keep` was given.
    pub keep_encoded_slash: bool,
    /// Where a matched request ends.
    pub destination: Destination,
    /// What is forwarded in place of the path and query.
    pub rewrite: Rewrite,
    /// Time limits that win over the upstream's.
    pub timeouts: UpstreamTimeouts,
    /// In place of the upstream's; `Some(None)` switches that off.
    #[allow(clippy::option_option, reason = "outer: given; inner: on")]
    pub retry: Option<Option<Retry>>,
    /// In place of the upstream's; `Some(None)` switches that off.
    #[allow(clippy::option_option, reason = "outer: given; inner: on")]
    pub fallback: Option<Option<Fallback>>,
    /// Calls that are sent elsewhere as well.
    pub mirror: Option<Mirror>,
    /// Bytes of a request body, in place of the global limit.
    pub body_limit: Option<u64>,
    /// Upgrade protocols passed on, lower case; `["websocket"]`.
    pub upgrades: Vec<String>,
    /// Policies; same names replace the global ones.
    pub policies: Vec<PolicyEntry>,
    /// How several authenticators combine.
    pub authenticate: Authenticate,
    /// The consumer that calls without any credential are of; they are refused when absent.
    pub anonymous: Option<Spanned<String>>,
    /// Replacement bodies of the gateway's own answers here, per status; they win over the global ones.
    pub errors: Vec<(u16, ErrorBody)>,
    /// Whether its calls go first when not all can.
    pub importance: Importance,
}

/// How several authenticators combine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authenticate {
    /// All that the route lists must pass (default).
    All,
    /// One of these policies must pass.
    Any(Vec<Spanned<String>>),
}

/// Conditions of a route.
#[derive(Clone, Debug, Default)]
pub struct Match {
    /// Host patterns: exact, or `*.` and a suffix; lower case, no port. Empty: any host.
    pub hosts: Vec<Spanned<String>>,
    /// Path condition; `None`: any path.
    pub path: Option<Spanned<PathMatch>>,
    /// Upper-case methods; empty: any. GET includes HEAD.
    pub methods: Vec<Spanned<String>>,
    /// Header conditions; names lower case.
    pub headers: Vec<(Spanned<String>, ValueMatch)>,
    /// Query parameter conditions.
    pub query: Vec<(Spanned<String>, ValueMatch)>,
    /// Cookie conditions.
    pub cookies: Vec<(Spanned<String>, ValueMatch)>,
    /// Client address ranges; empty: any.
    pub client_ip: Vec<IpNet>,
    /// A condition in CEL; the router reads it.
    pub when: Option<Spanned<String>>,
    /// Bytes of a JSON body that `when` may read; it reads none without.
    pub body: Option<u64>,
}

/// How a path is matched. Text as written; the router reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathMatch {
    /// `path:` whole path with `{name}` and `{*rest}`.
    Pattern(String),
    /// `prefix:` whole segments.
    Prefix(String),
    /// `path_regex:` anchored to the whole path.
    Regex(String),
}

/// How a header, query or cookie value is matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueMatch {
    /// Equal, byte for byte (`x-country: KR`).
    Exact(String),
    /// Any of these.
    OneOf(Vec<String>),
    /// Present with any value (`{ present: true }`).
    Present,
    /// Absent (`{ present: false }`).
    Absent,
    /// Anchored regular expression (`{ regex: … }`).
    Regex(Spanned<String>),
    /// One of these whose text is not to be shown: it came out of a reference.
    Secret(Box<ValueMatch>),
}

/// Where a matched request ends.
#[derive(Clone, Debug)]
pub enum Destination {
    /// Index into [`Config::upstreams`].
    Upstream(usize),
    /// A fixed answer.
    Answer(Answer),
    /// A redirect.
    Redirect(Redirect),
    /// Files of a folder.
    Files(Files),
    /// What a policy of the route answers, by its name.
    Policy(&'static str),
}

/// Files of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The folder.
    pub root: Spanned<PathBuf>,
    /// Name of the file that stands for a folder; `index.html`.
    pub index: Option<String>,
    /// File, relative to the folder, that stands for one that is not there.
    pub fallback: Option<String>,
    /// `cache-control` of the answers with a file.
    pub cache_control: Option<String>,
    /// Whether names that begin with a dot are served; false.
    pub serve_hidden: bool,
    /// Whether symbolic links are followed that stay within the folder; false.
    pub follow_symlinks: bool,
    /// Codings of which a coded file may stand beside the plain one, the preferred first.
    pub precompressed: Vec<FileCoding>,
}

/// A content coding of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileCoding {
    /// Brotli, `.br`.
    Brotli,
    /// Zstandard, `.zst`.
    Zstandard,
    /// Gzip, `.gz`.
    Gzip,
}

/// A fixed answer.
/// `Debug` prints no values.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status, 200 to 599; 200.
    pub status: u16,
    /// Body; empty.
    pub body: String,
    /// Fields; `content-type` is `text/plain; charset=utf-8` unless given.
    pub headers: Vec<(String, String)>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("status", &self.status).finish_non_exhaustive()
    }
}

/// A redirect. `to` may hold `{name}` of the path pattern, and `{path}`, `{query}`, `{host}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// Location.
    pub to: Spanned<String>,
    /// 301, 302, 303, 307 or 308; 308.
    pub status: u16,
}

/// What is forwarded in place of the path and query.
#[derive(Clone, Debug, Default)]
pub struct Rewrite {
    /// Path change.
    pub path: Option<PathRewrite>,
    /// Query parameters removed, then set (replacing), then added.
    pub query_remove: Vec<String>,
    /// Query parameters set.
    pub query_set: Vec<(String, Spanned<String>)>,
    /// Query parameters added.
    pub query_add: Vec<(String, Spanned<String>)>,
}

/// A path change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathRewrite {
    /// A template with `{name}` of the path pattern and `${…}` expressions.
    Template(Spanned<String>),
    /// A prefix of whole segments that is removed.
    StripPrefix(Spanned<String>),
    /// What stands in place of the route's prefix, which there is.
    ReplacePrefix(Spanned<String>),
}

/// A known caller.
#[derive(Clone, Debug)]
pub struct Consumer {
    /// Name, unique.
    pub name: Spanned<String>,
    /// Roles.
    pub roles: Vec<String>,
    /// Groups.
    pub groups: Vec<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// What its calls and tokens may be used for.
    pub scopes: Vec<String>,
    /// SHA-256 digests of its API keys; a key given in clear is digested while reading, and not kept.
    pub keys: Vec<Spanned<[u8; 32]>>,
    /// In place of the route's.
    pub importance: Option<Importance>,
    /// Its credentials of HTTP Basic.
    pub basic: Vec<BasicCredential>,
    /// By what its certificates are known.
    pub certificates: Vec<CertificateRule>,
    /// Secrets it signs with.
    pub hmac: Vec<HmacKey>,
    /// Public keys of what it signs with.
    pub signing_keys: Vec<SigningKey>,
    /// Where browsers may be sent back to with a login of a user.
    pub redirect_uris: Vec<String>,
    /// How long its credentials are good, of those of which anything is said.
    pub terms: Vec<(CredentialName, Terms)>,
    /// Names of the plans that it is on, all of which must admit a call.
    pub plans: Vec<String>,
}

/// What consumers may be on: how often each of them may call, over all routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Name, unique.
    pub name: String,
    /// Calls per time.
    pub limit: Rate,
    /// Calls that may come at once after a pause; as many as `limit` counts when absent.
    pub burst: Option<u64>,
}

impl Plan {
    /// Calls that may come at once.
    #[must_use]
    pub fn burst(&self) -> u64 {
        self.burst.unwrap_or(self.limit.count)
    }
}

/// A username and the digest of its password.
#[derive(Clone, Debug)]
pub struct BasicCredential {
    /// Username, unique among all consumers: no control characters and no colon.
    pub username: Spanned<String>,
    /// SHA-256 of the password; one given in clear is digested while reading, and not kept.
    pub password: [u8; 32],
}

/// Replacement of a gateway answer's body.
/// `Debug` prints no values.
#[derive(Clone, PartialEq, Eq)]
pub struct ErrorBody {
    /// `content-type`; `application/problem+json` unless given.
    pub content_type: String,
    /// Body; `${status}`, `${title}`, `${detail}`, `${instance}` are replaced, escaped for JSON.
    pub body: String,
}

impl fmt::Debug for ErrorBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ErrorBody").field("content_type", &self.content_type).finish_non_exhaustive()
    }
}
