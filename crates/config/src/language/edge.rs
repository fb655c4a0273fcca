//! What faces callers and operators: listeners and their TLS, the status and admin addresses, the access log, bounds and time
//! limits, replacement bodies.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::decode::{
    Bounded, Decoder, FieldValue, Key, Mapping, NonEmpty, OneOrMany, OrOff, SchemaBuilder, Setting, Size, TemplateText,
    TimeLimit, expression_end, text,
};
use crate::diagnostic::{BAD_VALUE, CONFLICTING_KEYS, Diagnostic, WRONG_TYPE};
use crate::model::{
    AccessLog, Bind, Certificate, ClientTimeouts, ErrorBody, IpNet, Limits, Listener, ListenerProxy, ListenerTls,
    LogFormat, LogTarget, Spanned, TlsVersion, TrustedProxies,
};
use crate::settings;
use crate::tree::{At, Node, Value};

impl Setting for Bind {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        if let Value::Number(port) = &node.value {
            let found = Diagnostic::error(
                WRONG_TYPE,
                node.at,
                format!("expected an address to listen on, found {}", node.found()),
            );
            cx.report(found.help(format!("write the address as well: `0.0.0.0:{port}`")));
            return None;
        }
        let address = text(node, cx, "an address to listen on")?;
        if let Some(path) = address.strip_prefix("unix:") {
            return unix_path(path, node, cx).map(Self::Unix);
        }
        match address.parse::<SocketAddr>() {
            Ok(address) => Some(Self::Tcp(address)),
            Err(_) => {
                let help = match address.rsplit_once(':') {
                    Some(("" | "*", port)) if !node.is_secret() => format!("for all addresses, write `0.0.0.0:{port}`"),
                    Some(("localhost", port)) => format!("write the address itself: `127.0.0.1:{port}`"),
                    _ => "write it like `0.0.0.0:8080`, `[::]:8080` or `unix:/run/daemun.sock`".to_owned(),
                };
                cx.bad_value_help(node, format!("`{}` is not an address to listen on", node.shown()), help);
                None
            }
        }
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        let doc = "Address and port, or a Unix socket: `0.0.0.0:8080`, `[::]:8080`, `unix:/run/daemun.sock`.";
        s.pattern("bind address", doc, "^(unix:.+|([0-9]{1,3}(\\.[0-9]{1,3}){3}|\\[[0-9A-Fa-f:.%]+\\]):[0-9]{1,5})$")
    }
}

/// A peer that is trusted.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ProxyText {
    /// One on a Unix socket.
    Unix,
    /// One with such an address.
    Net(IpNet),
}

impl Setting for ProxyText {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        match &node.value {
            Value::String(written) if written.text == "unix" => Some(Self::Unix),
            Value::String(written) if written.text.starts_with("unix:") => {
                let help = "write `unix`; it means whoever connects to a Unix socket of the gateway";
                cx.bad_value_help(node, format!("`{}` is not a peer", node.shown()), help);
                None
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Seq(_) | Value::Map(_) => {
                IpNet::decode(node, cx).map(Self::Net)
            }
        }
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        let unix = json!({ "const": "unix", "description": "Whoever connects to a Unix socket." });
        json!({ "anyOf": [unix, IpNet::schema(s)] })
    }
}

/// The peers that are trusted.
pub(super) fn trusted_proxies(written: Vec<ProxyText>) -> TrustedProxies {
    let mut all = TrustedProxies::default();
    for proxy in written {
        match proxy {
            ProxyText::Unix => all.unix = true,
            ProxyText::Net(net) => all.nets.push(net),
        }
    }
    all
}

/// The path behind `unix:`; a relative one refers to the folder of the file.
pub(super) fn unix_path(path: &str, node: &Node, cx: &mut Decoder<'_>) -> Option<PathBuf> {
    if path.is_empty() || path.contains('\0') || path.starts_with("//") {
        let message = format!("`{}` is not a Unix socket", node.shown());
        cx.bad_value_help(node, message, "write it like `unix:/run/daemun.sock`");
        return None;
    }
    let path = cx.folder(node.at).join(path);
    if path.as_os_str().len() > 107 {
        cx.bad_value(node, "the path of a Unix socket has 107 bytes at most");
        return None;
    }
    Some(path)
}

settings! {
    /// One place where callers come in.
    pub(super) struct ListenerText {
        /// Address to listen on: `0.0.0.0:8080`, `[::]:8443`, `unix:/run/daemun.sock`. Port 0 takes a free one.
        pub(super) bind: Spanned<Bind>,
        /// TLS termination; cleartext without it.
        pub(super) tls: Option<ListenerTlsText>,
        /// Connections begin with a header of the PROXY protocol, version 1 or 2, that names the client. `true`: those of
        /// `trusted_proxies`, and others are closed; or a mapping that says whose.
        pub(super) proxy_protocol: OrOff<Spanned<ListenerProxyText>> = "off",
    }
}

impl ListenerText {
    /// `trusted` are the peers of `trusted_proxies`.
    pub(super) fn lower(self, index: usize, trusted: &TrustedProxies) -> Listener {
        let proxy_protocol = match self.proxy_protocol {
            OrOff::Off => None,
            OrOff::On(proxy) => Some(proxy.value.lower(trusted)),
        };
        Listener { index, bind: self.bind, tls: self.tls.map(ListenerTlsText::lower), proxy_protocol }
    }
}

/// Whose connections begin with a header of the PROXY protocol.
pub(super) enum ListenerProxyText {
    /// Those of `trusted_proxies`.
    Trusted,
    /// Those of peers of its own.
    From(ProxyPeersText),
}

impl Setting for ListenerProxyText {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        match &node.value {
            Value::Bool(true) => Some(Self::Trusted),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Seq(_) | Value::Map(_) => {
                ProxyPeersText::decode(node, cx).map(Self::From)
            }
        }
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        let trusted = json!({ "const": true, "description": "Those of `trusted_proxies`." });
        json!({ "anyOf": [trusted, ProxyPeersText::schema(s)] })
    }
}

impl ListenerProxyText {
    fn lower(self, trusted: &TrustedProxies) -> ListenerProxy {
        match self {
            Self::Trusted => ListenerProxy { from: trusted.clone(), serve_others: false },
            Self::From(peers) => ListenerProxy {
                from: trusted_proxies(peers.from.0),
                serve_others: matches!(peers.others, OtherPeers::Serve),
            },
        }
    }
}

settings! {
    /// Whose connections begin with a header of the PROXY protocol.
    pub(super) struct ProxyPeersText {
        /// Addresses and networks of the load balancers, or `unix`. Their connections must begin with a header, which is believed.
        from: NonEmpty<ProxyText>,
        /// What becomes of the connections of other peers.
        others: OtherPeers = "close",
    }
}

settings! {
    /// What becomes of the connections of peers that pass nobody on.
    enum OtherPeers {
        /// They are closed.
        Close = "close",
        /// They are served as what they are; a header is no request, and refused.
        Serve = "serve",
    }
}

settings! {
    /// TLS of a listener.
    pub(super) struct ListenerTlsText {
        /// Certificates, chosen by the name the client asks for (SNI); the first is the default. Reloaded when the files change.
        certificates: NonEmpty<CertificateText>,
        /// Authorities that client certificates must chain to, a PEM file; with it the client must show a certificate.
        client_ca: Option<Spanned<PathBuf>>,
        /// Whether a client may come without a certificate although `client_ca` is given.
        client_auth: Option<Spanned<ClientAuth>>,
        /// Lists of client certificates that their authorities have taken back (CRL), PEM files; one or a list. Reloaded when the files
        /// change. A list that has expired refuses the clients of its authority.
        client_crl: OneOrMany<Spanned<PathBuf>> = "[]",
        /// What becomes of a client of whose authority there is no list in `client_crl`.
        client_crl_unknown: Option<Spanned<UnknownStatus>>,
        /// Least protocol version.
        min_version: MinVersion = "\"1.2\"",
    }
    check ListenerTlsText::check;
}

impl ListenerTlsText {
    fn check(&self, _: &Node, cx: &mut Decoder<'_>) {
        if let (Some(given), None) = (&self.client_auth, &self.client_ca) {
            let found = Diagnostic::error(CONFLICTING_KEYS, given.at, "`client_auth` is given without `client_ca`");
            let found = found.help("`client_ca` names the authorities that client certificates must chain to");
            cx.key("client_auth", |cx| cx.report(found));
        }
        if let (Some(first), None) = (self.client_crl.0.first(), &self.client_ca) {
            let found = Diagnostic::error(CONFLICTING_KEYS, first.at, "`client_crl` is given without `client_ca`");
            let found = found.help("`client_ca` names the authorities that client certificates must chain to");
            cx.key("client_crl", |cx| cx.report(found));
        }
        if let (Some(given), []) = (&self.client_crl_unknown, self.client_crl.0.as_slice()) {
            let message = "`client_crl_unknown` is given without `client_crl`";
            let found = Diagnostic::error(CONFLICTING_KEYS, given.at, message);
            let found = found.help("without a list, no certificate is taken back");
            cx.key("client_crl_unknown", |cx| cx.report(found));
        }
    }

    fn lower(self) -> ListenerTls {
        ListenerTls {
            certificates: self.certificates.0.into_iter().map(CertificateText::lower).collect(),
            client_ca: self.client_ca,
            client_auth_optional: self.client_auth.is_some_and(|given| matches!(given.value, ClientAuth::Optional)),
            client_crl: self.client_crl.0,
            client_crl_unknown_allowed: self
                .client_crl_unknown
                .is_some_and(|given| matches!(given.value, UnknownStatus::Allow)),
            min_version: match self.min_version {
                MinVersion::V1_2 => TlsVersion::V1_2,
                MinVersion::V1_3 => TlsVersion::V1_3,
            },
        }
    }
}

settings! {
    /// What becomes of a client whose certificate no list can tell of.
    enum UnknownStatus {
        /// Its handshake fails.
        Refuse = "refuse",
        /// It comes in.
        Allow = "allow",
    }
}

settings! {
    /// A certificate chain and its key, PEM files.
    pub(super) struct CertificateText {
        /// Chain file, the server's own certificate first.
        cert: Spanned<PathBuf>,
        /// Key file.
        key: Spanned<PathBuf>,
    }
}

impl CertificateText {
    fn lower(self) -> Certificate {
        Certificate { cert: self.cert, key: self.key }
    }
}

settings! {
    /// Whether a client must show a certificate.
    #[derive(Clone, Copy)]
    pub(super) enum ClientAuth {
        /// It must.
        Required = "required",
        /// It may; who shows none is let in without an identity.
        Optional = "optional",
    }
}

settings! {
    /// Least protocol version.
    pub(super) enum MinVersion {
        /// TLS 1.2.
        V1_2 = "1.2",
        /// TLS 1.3.
        V1_3 = "1.3",
    }
}

settings! {
    /// The admin listener: admin API, dashboard, recent requests, and all that `status` shows.
    pub(super) struct AdminText {
        /// A loopback address or a Unix socket.
        pub(super) bind: Spanned<Bind>,
    }
}

settings! {
    /// The status listener: `/metrics`, `/upstreams`, `/healthz`, `/readyz`; read-only, no login.
    pub(super) struct StatusText {
        /// Address to listen on.
        pub(super) bind: Spanned<Bind>,
    }
}

settings! {
    /// The access log: one line for each request.
    pub(super) struct AccessLogText {
        /// `json` for one JSON object a line, or a template with `${field}` references and `${…}` expressions.
        format: LogFormat = "json",
        /// Fields of a JSON line beside the usual ones, with `${…}` expressions: `{ tenant: '${request.header["x-tenant"]}' }`.
        fields: Mapping<LogFieldName, Spanned<TemplateText>> = "{}",
        /// `stdout`, or a file; the file is opened again on SIGUSR1.
        to: LogTarget = "stdout",
    }
    check AccessLogText::check;
}

impl AccessLogText {
    fn check(&self, node: &Node, cx: &mut Decoder<'_>) {
        if let (LogFormat::Template(_), Some(fields)) =
            (&self.format, node.get("fields").filter(|_| !self.fields.0.is_empty()))
        {
            let message = "a line that follows a template has the fields that stand in it";
            let found = Diagnostic::error(BAD_VALUE, fields.at, message);
            cx.key("fields", |cx| cx.report(found.help("give `fields` with `format: json` only")));
        }
    }

    pub(super) fn lower(self) -> AccessLog {
        let fields = self.fields.0.into_iter();
        let plain = |Spanned { value: TemplateText(value), at }| Spanned { value, at };
        let fields =
            fields.map(|(Spanned { value, at }, text)| (Spanned { value: value.0, at }, plain(text))).collect();
        AccessLog { format: self.format, fields, to: self.to }
    }
}

/// The name of a field of the access log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct LogFieldName(String);

impl Key for LogFieldName {
    fn decode_key(key: &str, at: At, cx: &mut Decoder<'_>) -> Option<Self> {
        let fits = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_';
        if key.is_empty() || key.len() > 64 || !key.chars().all(fits) {
            let message = format!("`{}` is not the name of a log field", crate::tree::clip(key));
            cx.report(Diagnostic::error(BAD_VALUE, at, message).help("write it in lower case, like `tenant_id`"));
            return None;
        }
        Some(Self(key.to_owned()))
    }

    fn key_schema() -> Option<Json> {
        Some(json!({ "type": "string", "pattern": "^[a-z0-9_]{1,64}$" }))
    }
}

impl Setting for LogFormat {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let format = text(node, cx, "`json` or a template")?;
        if format == "json" {
            return Some(Self::Json);
        }
        let message = if !format.contains("${") {
            "expected `json` or a template with `${field}` references"
        } else if format.contains(['\n', '\r']) {
            "a template is one line"
        } else if !closed(format) {
            "a `${` of the template has no closing `}`"
        } else {
            let template = node.as_template().unwrap_or(format);
            return Some(Self::Template(Spanned { value: template.to_owned(), at: node.at }));
        };
        cx.report(Diagnostic::error(BAD_VALUE, node.at, format!("{message}, found {}", node.found())));
        None
    }

    fn schema(_: &mut SchemaBuilder<'_>) -> Json {
        json!({ "type": "string", "title": "`json` or template", "pattern": "^(json|[^\\n\\r]*\\$\\{[^\\n\\r]*\\}[^\\n\\r]*)$" })
    }
}

/// Whether each `${` of a template is closed.
fn closed(template: &str) -> bool {
    let mut rest = template;
    while let Some((_, behind)) = rest.split_once("${") {
        let Some(end) = expression_end(behind) else { return false };
        rest = behind.get(end..).unwrap_or_default();
    }
    true
}

impl Setting for LogTarget {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        match node.as_str() {
            Some("stdout") => Some(Self::Stdout),
            Some("stderr") => {
                let message = "the access log goes to `stdout` or a file; `stderr` is for diagnostics";
                cx.report(Diagnostic::error(BAD_VALUE, node.at, message));
                None
            }
            _ => PathBuf::decode(node, cx).map(Self::File),
        }
    }

    fn schema(_: &mut SchemaBuilder<'_>) -> Json {
        json!({ "type": "string", "minLength": 1, "title": "`stdout` or path", "not": { "const": "stderr" } })
    }
}

settings! {
    /// Bounds on what a client may send, and on how many clients there may be.
    pub(super) struct LimitsText {
        /// Bytes of a request head, and of an upstream's answer head.
        head: Size = "64KiB",
        /// Fields of a head.
        fields: Bounded<1, 10_000> = "100",
        /// Bytes of a request target.
        target: Size = "16KiB",
        /// Bytes of a request body. A stream (gRPC, event stream, upgraded connection) has no limit.
        body: Size = "10MiB",
        /// Client connections; the lesser of 16,000 and half of the file descriptors, 256 put aside, when absent.
        connections: Option<Bounded<1, 10_000_000>>,
    }
    check LimitsText::check;
}

impl LimitsText {
    fn check(&self, node: &Node, cx: &mut Decoder<'_>) {
        for (key, size, least, most) in [
            ("head", self.head, (1 << 10, "1KiB"), (16 << 20, "16MiB")),
            ("target", self.target, (64, "64B"), (16 << 20, "16MiB")),
        ] {
            if let Some(node) = node.get(key).filter(|_| size.0 < least.0 || size.0 > most.0) {
                cx.key(key, |cx| {
                    cx.bad_value(
                        node,
                        format!("expected a size from `{}` to `{}`, found {}", least.1, most.1, node.found()),
                    );
                });
            }
        }
    }

    pub(super) fn lower(self) -> Limits {
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        Limits {
            head: count(self.head.0),
            fields: count(self.fields.get()),
            target: count(self.target.0),
            body: self.body.0,
            connections: self.connections.map(|number| count(number.get())),
        }
    }
}

settings! {
    /// Time limits towards clients.
    pub(super) struct ClientTimeoutsText {
        /// From the first byte of a request to the end of its head.
        head: TimeLimit = "10s",
        /// Between two pieces of a request body.
        body_idle: TimeLimit = "30s",
        /// While the client does not read its answer.
        write_idle: TimeLimit = "30s",
        /// Between two exchanges of a connection.
        keep_alive: TimeLimit = "75s",
        /// Silence on a stream (gRPC, event stream, upgraded connection).
        stream_idle: TimeLimit = "5m",
        /// Least bytes per second of a request body, a number or a size; 0 switches it off.
        min_rate: ByteRate = "240B",
        /// When `min_rate` begins to hold.
        min_rate_after: TimeLimit = "10s",
        /// How long a drain waits for exchanges to end.
        drain: Duration = "30s",
    }
}

impl ClientTimeoutsText {
    pub(super) fn lower(self) -> ClientTimeouts {
        ClientTimeouts {
            head: self.head.0,
            body_idle: self.body_idle.0,
            write_idle: self.write_idle.0,
            keep_alive: self.keep_alive.0,
            stream_idle: self.stream_idle.0,
            min_rate: self.min_rate.0,
            min_rate_after: self.min_rate_after.0,
            drain: self.drain,
        }
    }
}

/// Bytes per second, as a number or a size.
pub(super) struct ByteRate(u64);

impl Setting for ByteRate {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        match &node.value {
            Value::Number(_) => u64::decode(node, cx).map(Self),
            Value::String(_) | Value::Null | Value::Bool(_) | Value::Seq(_) | Value::Map(_) => {
                Size::decode(node, cx).map(|size| Self(size.0))
            }
        }
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        let size = Size::schema(s);
        json!({ "anyOf": [{ "type": "integer", "minimum": 0 }, size] })
    }
}

settings! {
    /// Replacement of the body of an answer that the gateway makes itself.
    pub(super) struct ErrorText {
        /// Content type of the body.
        content_type: FieldValue = "application/problem+json",
        /// Body; `${status}`, `${title}`, `${detail}` and `${instance}` are replaced, escaped for JSON.
        body: String,
    }
}

impl ErrorText {
    pub(super) fn lower(self) -> ErrorBody {
        ErrorBody { content_type: self.content_type.0, body: self.body }
    }
}
