//! Upstreams: pools of targets and how they are called.

use std::path::PathBuf;

use serde_json::{Value as Json, json};

use super::balance::Balance;
use super::discover::DiscoverText;
use super::failure::{FallbackText, HedgeText, RetryText};
use super::gate::{ConcurrencyText, UpstreamLimitsText};
use super::health::HealthText;
use super::outliers::{BreakerText, OutliersText};
use super::target::{HostName, TargetUrl, is_authority};
use crate::decode::{Bounded, Decoder, Name, NonEmpty, SchemaBuilder, Setting, TimeLimit, text};
use crate::diagnostic::{self, BAD_VALUE, CONFLICTING_KEYS, Diagnostic, MISSING_KEY};
use crate::model::{
    HostRule, ProxyVersion, Spanned, Target, Upstream, UpstreamProtocol, UpstreamTimeouts, UpstreamTls,
};
use crate::settings;
use crate::tree::Node;

settings! {
    /// A named pool of targets.
    pub(super) struct UpstreamText {
        /// Where the calls go: `http://host:port`, `https://host`, `unix:/run/x.sock`, each as a text or as a mapping of `url` and
        /// `weight`.
        targets: Option<NonEmpty<TargetText>>,
        /// Where targets are found while the gateway runs, instead of `targets` or beside them.
        discover: Option<DiscoverText>,
        /// How a target is picked.
        balance: Balance = "round_robin",
        /// What calls tell of a target; nothing when absent.
        outliers: Option<OutliersText>,
        /// When the upstream as a whole is left alone for a while; never when absent.
        breaker: Option<BreakerText>,
        /// Over this time the weight of a target rises from a tenth to what it is, once it is healthy again.
        slow_start: Option<TimeLimit>,
        /// Time limits of a call.
        timeouts: UpstreamTimeoutsText = "{}",
        /// What goes into `Host`: `preserve` for what the client sent, `target` for the target's own, or a fixed name.
        host: HostRule = "preserve",
        /// Protocol towards the targets.
        protocol: Protocol = "http1",
        /// Each connection begins with a header of the PROXY protocol that names the client. It then serves that client's connection alone;
        /// with `protocol: http1` only.
        proxy_protocol: Option<Spanned<ProxyVersionText>>,
        /// TLS towards `https` targets; the target's certificate is verified.
        tls: Option<UpstreamTlsText>,
        /// Bounds on the calls to it, and how many may wait.
        limits: UpstreamLimitsText = "{}",
        /// `adaptive`: how many calls it gets at once is learned from how long its answers take.
        concurrency: Option<ConcurrencyText>,
        /// When a call that failed is made again; without it, only one that found no connection, or one at rest that had ended.
        retry: Option<RetryText>,
        /// A second call when the first takes long.
        hedge: Option<HedgeText>,
        /// What is done in place of a call that failed.
        pub(super) fallback: Option<FallbackText>,
        /// How targets are checked.
        health: Option<HealthText>,
    }
    needs_one { "targets", "discover" }
    check UpstreamText::check;
}

impl UpstreamText {
    fn check(&self, node: &Node, cx: &mut Decoder<'_>) {
        if let Some(limits) = node.get("limits") {
            self.limits.check(limits, self.concurrency.is_some(), cx);
        }
        let targets = self.targets.as_ref().map_or(&[][..], |targets| &targets.0);
        if let Some(node) = node.get("targets").filter(|_| {
            self.discover.is_none() && !targets.is_empty() && targets.iter().all(|target| target.weight == 0)
        }) {
            cx.key("targets", |cx| cx.bad_value(node, "all weights are zero, so no target would get a call"));
        }
        for target in targets {
            let (url, message) = match (&self.protocol, target.url.value.tls) {
                (Protocol::H2, false) => (&target.url, "is cleartext, but `protocol: h2` is HTTP/2 over TLS"),
                (Protocol::H2c, true) => (&target.url, "is TLS, but `protocol: h2c` is cleartext HTTP/2"),
                _ => continue,
            };
            let help =
                if url.value.tls { "write `protocol: h2`" } else { "write `protocol: h2c`, or an `https` target" };
            let found = Diagnostic::error(
                CONFLICTING_KEYS,
                url.at,
                format!("`{}` {message}", crate::tree::clip(&url.value.written)),
            );
            cx.key("targets", |cx| cx.report(found.help(help)));
        }
        if let Some(given) = self.proxy_protocol.as_ref().filter(|_| !matches!(self.protocol, Protocol::Http1)) {
            let message = "`proxy_protocol` names one client for each connection, and over HTTP/2 many share one";
            let found = Diagnostic::error(CONFLICTING_KEYS, given.at, message);
            cx.key("proxy_protocol", |cx| cx.report(found.help("leave `protocol` out; it is `http1` then")));
        }
        if let Some(entry) = self
            .tls
            .as_ref()
            .and_then(|_| node.entry("tls"))
            .filter(|_| !self.discover.as_ref().is_some_and(DiscoverText::may_be_tls))
            .filter(|_| self.discover.is_some() || !targets.is_empty())
            .filter(|_| !targets.iter().any(|target| target.url.value.tls))
        {
            let found =
                Diagnostic::warning(diagnostic::NO_EFFECT, entry.key_at, "`tls` has no effect: no target is `https`");
            cx.key("tls", |cx| cx.report(found));
        }
    }

    pub(super) fn lower(self, name: Spanned<String>) -> Upstream {
        Upstream {
            name,
            targets: self.targets.into_iter().flat_map(|targets| targets.0).map(TargetText::lower).collect(),
            discover: self.discover.map(DiscoverText::lower),
            balance: self.balance.lower(),
            outliers: self.outliers.map(OutliersText::lower),
            breaker: self.breaker.map(BreakerText::lower),
            slow_start: self.slow_start.map(|time| time.0),
            panic_threshold: self.health.as_ref().and_then(HealthText::panic_threshold),
            timeouts: self.timeouts.lower(),
            host: self.host,
            protocol: match self.protocol {
                Protocol::Http1 => UpstreamProtocol::Http1,
                Protocol::H2 => UpstreamProtocol::H2,
                Protocol::H2c => UpstreamProtocol::H2c,
                Protocol::Auto => UpstreamProtocol::Auto,
            },
            proxy_protocol: self.proxy_protocol.map(|version| match version.value {
                ProxyVersionText::V1 => ProxyVersion::V1,
                ProxyVersionText::V2 => ProxyVersion::V2,
            }),
            tls: self.tls.map(UpstreamTlsText::lower).unwrap_or_default(),
            limits: self.limits.lower(),
            concurrency: self.concurrency.map(ConcurrencyText::lower),
            retry: self.retry.map(RetryText::lower),
            hedge: self.hedge.map(HedgeText::lower),
            fallback: self.fallback.and_then(FallbackText::lower),
            health: self.health.and_then(HealthText::lower),
        }
    }
}

/// A target: its address as a text, or a mapping of address and weight.
pub(super) struct TargetText {
    url: Spanned<TargetUrl>,
    weight: u32,
    tier: u8,
    zone: Option<String>,
    drain: bool,
}

impl Setting for TargetText {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        if node.as_map().is_none() {
            return Setting::decode(node, cx).map(|url| Self { url, weight: 1, tier: 0, zone: None, drain: false });
        }
        let full = FullTarget::decode(node, cx)?;
        Some(Self {
            url: full.url,
            weight: u32::try_from(full.weight.get()).unwrap_or(1),
            tier: u8::try_from(full.tier.get()).unwrap_or(0),
            zone: full.zone.map(|zone| zone.0),
            drain: full.drain,
        })
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        let short = TargetUrl::schema(s);
        let full = FullTarget::schema(s);
        json!({ "anyOf": [short, full] })
    }
}

impl TargetText {
    pub(super) fn lower(self) -> Target {
        let Spanned { value, at } = self.url;
        Target {
            url: Spanned { value: value.written, at },
            address: value.address,
            tls: value.tls,
            base_path: value.base_path,
            weight: self.weight,
            tier: self.tier,
            zone: self.zone,
            drain: self.drain,
        }
    }
}

settings! {
    /// A target, its weight and where it stands among the others.
    struct FullTarget {
        /// Address: `http://host:port/base`, `https://host`, `unix:/run/x.sock`.
        url: Spanned<TargetUrl>,
        /// Share of the calls among the targets; 0 takes the target out.
        weight: Bounded<0, 1_000_000> = "1",
        /// Targets of tier 0 are called first; those of the next get what the healthy ones before them cannot take.
        tier: Bounded<0, 15> = "0",
        /// Where the target is; one in the gateway's own `zone` is preferred.
        zone: Option<Name>,
        /// Gives the target no new call; calls under way end as they would.
        drain: bool = "false",
    }
}

settings! {
    /// Protocol towards the targets.
    #[derive(Clone, Copy)]
    enum Protocol {
        /// HTTP/1.1.
        Http1 = "http1",
        /// HTTP/2 over TLS.
        H2 = "h2",
        /// HTTP/2 cleartext with prior knowledge.
        H2c = "h2c",
        /// What TLS negotiates; HTTP/1.1 on cleartext.
        Auto = "auto",
    }
}

settings! {
    /// Version of the PROXY protocol.
    enum ProxyVersionText {
        /// Version 1, a line of text.
        V1 = "v1",
        /// Version 2, binary.
        V2 = "v2",
    }
}

settings! {
    /// Time limits of a call to an upstream.
    pub(super) struct UpstreamTimeoutsText {
        /// To connect, TLS handshake included; 5s unless given.
        connect: Option<TimeLimit>,
        /// From the end of the request to the end of the answer's head, for each attempt; 30s unless given.
        response: Option<TimeLimit>,
        /// A pooled connection's idle time; 60s unless given.
        idle: Option<TimeLimit>,
    }
}

impl UpstreamTimeoutsText {
    pub(super) fn lower(self) -> UpstreamTimeouts {
        let duration = |limit: Option<TimeLimit>| limit.map(|limit| limit.0);
        UpstreamTimeouts {
            connect: duration(self.connect),
            response: duration(self.response),
            idle: duration(self.idle),
        }
    }
}

impl Setting for HostRule {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        match text(node, cx, "`preserve`, `target` or a host name")? {
            "preserve" => Some(Self::Preserve),
            "target" => Some(Self::Target),
            name if is_authority(name) => Some(Self::Fixed(name.to_ascii_lowercase())),
            _ => {
                let help = "write `preserve`, `target` or a fixed name like `shop.internal:8080`";
                let message = format!("`{}` cannot stand in `Host`", node.shown());
                cx.report(Diagnostic::error(BAD_VALUE, node.at, message).help(help));
                None
            }
        }
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        let doc = "`preserve`, `target` or a fixed name.";
        s.pattern("host rule", doc, "^([0-9A-Za-z_.-]+|\\[[0-9A-Fa-f:.]+\\])(:[0-9]{1,5})?$")
    }
}

settings! {
    /// TLS towards an upstream's `https` targets.
    struct UpstreamTlsText {
        /// Authorities that the target's certificate must chain to, a PEM file; the system's when absent.
        ca: Option<Spanned<PathBuf>>,
        /// Client certificate chain, a PEM file; with `key`.
        cert: Option<Spanned<PathBuf>>,
        /// Client key, a PEM file; with `cert`.
        key: Option<Spanned<PathBuf>>,
        /// Name to ask for (SNI) and to verify; the target's host when absent.
        server_name: Option<Spanned<HostName>>,
        /// Accept any certificate of the target: for trials only.
        insecure_skip_verify: bool = "false",
    }
    check UpstreamTlsText::check;
}

impl UpstreamTlsText {
    fn check(&self, node: &Node, cx: &mut Decoder<'_>) {
        let lone = match (&self.cert, &self.key) {
            (Some(cert), None) => Some((cert.at, "cert", "key")),
            (None, Some(key)) => Some((key.at, "key", "cert")),
            _ => None,
        };
        if let Some((at, given, missing)) = lone.filter(|(_, _, missing)| node.get(missing).is_none()) {
            let message = format!("`{given}` is given without `{missing}`");
            cx.report(Diagnostic::error(MISSING_KEY, at, message));
        }
        if let Some(entry) = node.entry("insecure_skip_verify").filter(|_| self.insecure_skip_verify) {
            let message = "the target's certificate is not verified: anyone on the way may read and change the calls";
            cx.key("insecure_skip_verify", |cx| {
                cx.report(Diagnostic::warning(diagnostic::INSECURE, entry.key_at, message))
            });
        }
    }

    fn lower(self) -> UpstreamTls {
        UpstreamTls {
            ca: self.ca,
            cert: self.cert,
            key: self.key,
            server_name: self.server_name.map(|Spanned { value, at }| Spanned { value: value.0, at }),
            insecure_skip_verify: self.insecure_skip_verify,
        }
    }
}
