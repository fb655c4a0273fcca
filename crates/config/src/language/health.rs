//! How targets are checked.

use serde_json::{Value as Json, json};

use super::target::is_authority;
use crate::decode::{
    Bounded, Decoder, FieldName, FieldValue, Mapping, Method, OneOrMany, Percent, RegexText, SchemaBuilder, Setting,
    TimeLimit, text,
};
use crate::diagnostic::{CONFLICTING_KEYS, Diagnostic};
use crate::model::{BodyTest, GrpcProbe, HealthCheck, HttpProbe, Probe, Secret, Spanned};
use crate::settings;
use crate::tree::{Node, Value};

settings! {
    /// How targets are checked.
    pub(super) struct HealthText {
        /// Path that every target is asked for now and then; `/` where `protocol: http` stands alone.
        path: Option<CheckPath>,
        /// What a check speaks.
        protocol: Option<CheckProtocol>,
        /// Time between two checks of one target; at least `100ms`.
        interval: TimeLimit = "5s",
        /// By how much an interval may be shorter or longer, so that checks do not come all at once.
        jitter: Percent = "10%",
        /// How long a check may take, connecting included.
        timeout: TimeLimit = "2s",
        /// Checks that fail in a row before a target gets no more calls.
        unhealthy_after: Bounded<1, 1_000> = "3",
        /// Checks that succeed in a row before it gets calls again.
        healthy_after: Bounded<1, 1_000> = "2",
        /// Port to check in place of the target's own.
        port: Option<Bounded<1, 65_535>>,
        /// Method of the request; `GET` unless given.
        method: Option<Method>,
        /// What goes into `Host`; the target's own unless given.
        host: Option<CheckHost>,
        /// Fields of the request; the values are secrets.
        headers: Mapping<FieldName, FieldValue> = "{}",
        /// What a healthy target answers; any status of 200 to 299 unless given.
        expect: Option<ExpectText>,
        /// Service to ask the health service of gRPC for; the server as a whole unless given.
        grpc_service: Option<String>,
        /// While less than this share of the targets' weight is healthy, calls go to all of them; never when absent.
        panic_threshold: Option<Percent>,
    }
    needs_one { "path", "protocol" }
    check HealthText::check;
}

settings! {
    /// What a check speaks.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum CheckProtocol {
        /// A request over HTTP; HTTP/2 where the upstream's `protocol` is `h2` or `h2c`.
        Http = "http",
        /// A connection that is accepted is all it takes; over TLS, the handshake too.
        Tcp = "tcp",
        /// `grpc.health.v1.Health/Check` must answer `SERVING`.
        Grpc = "grpc",
    }
}

settings! {
    /// What a healthy target answers.
    struct ExpectText {
        /// Statuses: `200`, `2xx` for all of a kind, `200-399` for a range; one or a list of them.
        status: Option<OneOrMany<StatusTest>>,
        /// A text that the body holds, or `{regex: …}`; looked for in its first 64 KiB.
        body: Option<BodyTest>,
    }
    needs_one { "status", "body" }
    check ExpectText::check;
}

impl ExpectText {
    fn check(&self, node: &Node, cx: &mut Decoder<'_>) {
        if let Some(list) = node.get("status").filter(|list| list.as_seq().is_some_and(<[Node]>::is_empty)) {
            cx.key("status", |cx| cx.bad_value(list, "expected at least one item, found an empty list"));
        }
    }
}

impl HealthText {
    fn check(&self, node: &Node, cx: &mut Decoder<'_>) {
        let (of, keys): (&str, &[&str]) = match self.protocol {
            None | Some(CheckProtocol::Http) => ("grpc", &["grpc_service"]),
            Some(CheckProtocol::Grpc) => ("http", &["path", "method", "expect"]),
            Some(CheckProtocol::Tcp) => ("http", &["path", "method", "expect", "host", "headers", "grpc_service"]),
        };
        for entry in keys.iter().filter_map(|key| node.entry(key)) {
            let of = if entry.key == "grpc_service" { "grpc" } else { of };
            let message = format!("`{}` is for `protocol: {of}`", entry.key);
            cx.key(&entry.key, |cx| cx.report(Diagnostic::error(CONFLICTING_KEYS, entry.key_at, message)));
        }
        if let Some(node) = node.get("interval").filter(|_| self.interval.0.as_millis() < 100) {
            cx.key("interval", |cx| {
                cx.bad_value(node, "a target is checked ten times a second at most: write `100ms` or more")
            });
        }
        if let Some(node) = node.get("jitter").filter(|_| self.jitter.basis_points > 5_000) {
            cx.key("jitter", |cx| cx.bad_value(node, "an interval may vary by `50%` at most"));
        }
    }

    /// Share of healthy weight, in hundredths of a per cent, below which all targets are called.
    pub(super) fn panic_threshold(&self) -> Option<u32> {
        self.panic_threshold.map(|share| share.basis_points)
    }

    /// The active checks it asks for.
    pub(super) fn lower(self) -> Option<HealthCheck> {
        let number = |number: Bounded<1, 1_000>| u32::try_from(number.get()).unwrap_or(1);
        let host = self.host.map(|host| host.0);
        let headers = secret_fields(self.headers);
        let probe = match (self.protocol, self.path) {
            (None, None) => return None,
            (Some(CheckProtocol::Tcp), _) => Probe::Tcp,
            (Some(CheckProtocol::Grpc), _) => {
                Probe::Grpc(GrpcProbe { service: self.grpc_service.unwrap_or_default(), host, headers })
            }
            (Some(CheckProtocol::Http) | None, path) => {
                let (statuses, body) = self.expect.map_or((None, None), |expect| (expect.status, expect.body));
                Probe::Http(Box::new(HttpProbe {
                    method: self.method.map_or_else(|| "GET".to_owned(), |method| method.0),
                    path: path.map_or_else(|| "/".to_owned(), |path| path.0),
                    host,
                    headers,
                    statuses: statuses
                        .map_or_else(|| vec![(200, 299)], |list| list.0.iter().map(|test| test.0).collect()),
                    body,
                }))
            }
        };
        Some(HealthCheck {
            probe,
            interval: self.interval.0,
            jitter: self.jitter.basis_points,
            timeout: self.timeout.0,
            unhealthy_after: number(self.unhealthy_after),
            healthy_after: number(self.healthy_after),
            port: self.port.and_then(|port| u16::try_from(port.get()).ok()),
        })
    }
}

/// Fields whose values are never printed.
pub(super) fn secret_fields(fields: Mapping<FieldName, FieldValue>) -> Vec<(String, Secret)> {
    fields.0.into_iter().map(|(name, value)| (name.value.0, Secret(value.0))).collect()
}

/// Path and query of a check.
struct CheckPath(String);

impl Setting for CheckPath {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let path = text(node, cx, "a path")?;
        if path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            return Some(Self(path.to_owned()));
        }
        let message = format!("`{}` is not the path of a check", node.shown());
        cx.bad_value_help(node, message, "write it like `/healthz` or `/healthz?full=1`, encoded where it must be");
        None
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        s.pattern("path of a check", "Path, with a query perhaps: `/healthz`.", "^/[!-\"$-~]*$")
    }
}

/// A host, and a port perhaps.
struct CheckHost(String);

impl Setting for CheckHost {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let name = text(node, cx, "a host name")?;
        if is_authority(name) {
            return Some(Self(name.to_ascii_lowercase()));
        }
        cx.bad_value(node, format!("`{}` cannot stand in `Host`", node.shown()));
        None
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        let doc = "Host, and a port perhaps: `orders.internal`, `orders.internal:8080`.";
        s.pattern("authority", doc, "^([0-9A-Za-z_.-]+|\\[[0-9A-Fa-f:.]+\\])(:[0-9]{1,5})?$")
    }
}

/// First and last of the statuses that pass.
struct StatusTest((u16, u16));

impl Setting for StatusTest {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        if let Some(text) = node.as_str().filter(|text| text.contains(|c: char| !c.is_ascii_digit())) {
            let status = |text: &str| {
                let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
                text.parse::<u16>().ok().filter(|status| digits && (100..=599).contains(status))
            };
            let kind =
                text.strip_suffix("xx").and_then(|kind| kind.parse::<u16>().ok()).filter(|kind| (1..=5).contains(kind));
            let range = text.split_once('-').and_then(|(first, last)| Some((status(first)?, status(last)?)));
            let range = range.filter(|(first, last)| first <= last);
            let found = kind.map(|kind| (kind * 100, kind * 100 + 99)).or(range);
            if found.is_none() {
                let help = "write `2xx` for 200 to 299, `200-399` for a range, or one status like `204`";
                cx.bad_value_help(node, format!("`{}` is neither a status nor several", node.shown()), help);
            }
            return found.map(Self);
        }
        let status = Bounded::<200, 599>::decode(node, cx).and_then(|status| u16::try_from(status.get()).ok())?;
        Some(Self((status, status)))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        let one = Bounded::<200, 599>::schema(s);
        json!({ "anyOf": [one, { "type": "string", "pattern": "^([1-5]xx|[1-5][0-9]{2}-[1-5][0-9]{2})$", "title": "kind or range of statuses" }] })
    }
}

impl Setting for BodyTest {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        if matches!(node.value, Value::Map(_)) {
            return RegexTest::decode(node, cx)
                .map(|test| Self::Regex(Spanned { value: test.regex.value.0, at: test.regex.at }));
        }
        text(node, cx, "a text that the body holds, or `{regex: …}`").map(|text| Self::Contains(text.to_owned()))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        let test = RegexTest::schema(s);
        json!({ "anyOf": [{ "type": "string" }, test] })
    }
}

settings! {
    /// A test of a body by a regular expression.
    struct RegexTest {
        /// Regular expression that matches somewhere in the body.
        regex: Spanned<RegexText>,
    }
}
