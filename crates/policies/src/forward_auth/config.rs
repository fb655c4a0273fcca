//! The settings of `forward_auth`.

use std::path::PathBuf;
use std::time::Duration;

use daemun_config::decode::{
    Bounded, Decoder, FieldName, FieldTemplate, JsonValue, Mapping, OneOrMany, SchemaBuilder, Setting, Size, Status,
    TimeLimit, WebUrl,
};
use daemun_config::diagnostic::{self, Diagnostic};
use daemun_config::model::Spanned;
use daemun_config::settings;
use daemun_config::tree::Node;
use daemun_pipeline::FieldId;
use daemun_pipeline::head::is_token;

use crate::headers::config::{Direction, refused};

/// Names in one list.
const MOST_NAMES: usize = 64;
/// Parts of a key.
const MOST_PARTS: usize = 8;
/// Upstreams that may be chosen.
const MOST_UPSTREAMS: usize = 1000;
/// The longest time the service may take.
const LONGEST: Duration = Duration::from_secs(60);
/// The longest time a decision is kept.
const LONGEST_KEPT: Duration = Duration::from_secs(3600);
/// Most bytes of the body of an answer.
const MOST_ANSWER: u64 = 1 << 20;

settings! {
    /// Whether a call is let in, and who calls, as another service decides that is asked about each.
    #[derive(Clone, Debug, PartialEq)]
    pub struct ForwardAuthConfig {
        /// Address of the service, `http` or `https`.
        pub url: WebUrl,
        /// Authorities that the service's certificate must chain to; the system's when absent.
        pub ca_file: Option<PathBuf>,
        /// How the service is asked, and what its answers mean.
        pub style: Style = "auth_request",
        /// Method it is asked with, for `auth_request`; `GET` when absent.
        pub method: Option<AskMethod>,
        /// What stands before the path it is asked about, for `ext_authz`; nothing when absent.
        pub path_prefix: Option<String>,
        /// Request headers that it is sent. All but those of the connection, of the body and of caches when absent; `[]` for none.
        pub send: Option<OneOrMany<FieldName>>,
        /// Headers that it is sent beside them; `${…}` in a value is an expression.
        pub headers: Option<Mapping<FieldName, Spanned<FieldTemplate>>>,
        /// Headers of its answer that go on to the upstream, in place of the caller's own, which are always removed.
        pub pass: Option<OneOrMany<FieldName>>,
        /// Headers of its answer that go to the caller, whether the call is let in or not.
        pub to_client: Option<OneOrMany<FieldName>>,
        /// Header of its answer that names the consumer of the configuration who calls.
        pub consumer: Option<FieldName>,
        /// Header of its answer that names who calls, who need not be a consumer of the configuration.
        pub subject: Option<FieldName>,
        /// Header of its answer with the caller's roles, separated by commas.
        pub roles: Option<FieldName>,
        /// Header of its answer with the caller's groups, separated by commas.
        pub groups: Option<FieldName>,
        /// Header of its answer with the caller's scopes, separated by spaces or commas.
        pub scopes: Option<FieldName>,
        /// Lets the service choose where calls go.
        pub upstream: Option<ChoiceConfig>,
        /// Keeps decisions for a while.
        pub cache: Option<CacheConfig>,
        /// Time for the whole answer, at most `60s`.
        pub timeout: TimeLimit = "2s",
        /// Bytes of the body of an answer; one with more counts as none. At most `1MiB`.
        pub max_answer: Size = "64KiB",
        /// What happens when the service cannot be asked: a status, 403 or 500 to 504, or `allow`, which lets everyone in.
        pub unavailable: Unavailable = "503",
    }
    exclusive { "consumer", "subject" }
    check check;
}

settings! {
    /// How a service is asked, and what its answers mean.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Style {
        /// As nginx does: asked at `url`; 2xx lets the call in, 401 and 403 refuse it, and anything else is no answer.
        AuthRequest = "auth_request",
        /// As Envoy does over HTTP: asked with the method and path of the call; 200 lets it in, 5xx is no answer, and anything else goes to the caller as it is.
        ExtAuthz = "ext_authz",
    }
}

settings! {
    /// A method to ask with.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum AskMethod {
        /// GET.
        Get = "GET",
        /// HEAD.
        Head = "HEAD",
        /// POST, with an empty body.
        Post = "POST",
    }
}

settings! {
    /// Where calls may go as the service chooses.
    #[derive(Clone, Debug, PartialEq)]
    pub struct ChoiceConfig {
        /// Header of the service's answer that holds the name of an upstream, or the address of a target with path and query perhaps. An answer without it leaves the call to where its route ends.
        pub header: FieldName,
        /// Upstreams that it may choose.
        pub among: OneOrMany<Spanned<String>>,
    }
}

settings! {
    /// How decisions are kept.
    #[derive(Clone, Debug, PartialEq)]
    pub struct CacheConfig {
        /// What tells callers from one another: names of request headers, or texts with expressions in `${…}`. A call without any of them is asked about each time.
        pub key: OneOrMany<Spanned<FieldTemplate>>,
        /// How long a call that was let in is let in again, at most `1h`.
        pub kept: TimeLimit as "for",
        /// How long a call that was refused is refused again; `0s` for not at all.
        pub refused_for: Duration = "1s",
        /// Decisions that are kept at once.
        pub max: Bounded<1, 1_000_000> = "10000",
        /// Whether a decision counts for every method, host, path and query, because the service decides by the key alone.
        pub any_request: bool = "false",
    }
}

/// What happens when the service cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// The call is refused with this status.
    Refuse(u16),
    /// The call is let in.
    Allow,
}

impl Setting for Unavailable {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        if node.as_str() == Some("allow") {
            return Some(Unavailable::Allow);
        }
        let Status(status) = Status::decode(node, cx)?;
        if !matches!(status, 403 | 500..=504) {
            let help = "403, 500 to 504, or `allow`, which lets everyone in";
            cx.bad_value_help(node, format!("`{status}` does not say that a call cannot be checked"), help);
            return None;
        }
        Some(Unavailable::Refuse(status))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> JsonValue {
        let statuses =
            s.or_reference(JsonValue::from_iter([("enum", JsonValue::from(vec![403, 500, 501, 502, 503, 504]))]));
        let allow = JsonValue::from_iter([("enum", JsonValue::from(vec!["allow"]))]);
        JsonValue::from_iter([("anyOf", JsonValue::from(vec![allow, statuses]))])
    }
}

fn check(settings: &ForwardAuthConfig, node: &Node, cx: &mut Decoder<'_>) {
    check_asking(settings, node, cx);
    check_names(settings, node, cx);
    let at = |key: &str| node.get(key).unwrap_or(node);
    for (key, name) in [("roles", &settings.roles), ("groups", &settings.groups), ("scopes", &settings.scopes)] {
        if name.is_some() && settings.consumer.is_none() && settings.subject.is_none() {
            let message = format!("`{key}` says what a caller is whom nothing names");
            cx.key(key, |cx| cx.bad_value_help(at(key), message, "give `consumer` or `subject` as well"));
        }
    }
    if settings.timeout.0 > LONGEST {
        cx.key("timeout", |cx| cx.bad_value(at("timeout"), "callers would wait for longer than `60s`"));
    }
    if settings.max_answer.0 > MOST_ANSWER {
        cx.key("max_answer", |cx| cx.bad_value(at("max_answer"), "an answer is no larger than `1MiB`"));
    }
    if let (Some(cache), Some(node)) = (&settings.cache, node.get("cache")) {
        cx.key("cache", |cx| check_cache(settings, cache, node, cx));
    }
    if let (Some(choice), Some(node)) = (&settings.upstream, node.get("upstream")) {
        let node = node.get("among").unwrap_or(node);
        let among = |cx: &mut Decoder<'_>| {
            if choice.among.0.is_empty() || choice.among.0.len() > MOST_UPSTREAMS {
                cx.bad_value(node, format!("expected 1 to {MOST_UPSTREAMS} upstreams, found {}", choice.among.0.len()));
            }
            choice.among.0.iter().for_each(|name| cx.names_upstream(name));
        };
        cx.key("upstream", |cx| cx.key("among", among));
    }
}

/// What goes with one style only, or with one scheme.
fn check_asking(settings: &ForwardAuthConfig, node: &Node, cx: &mut Decoder<'_>) {
    let mut conflict = |key: &str, message: &str, help: &str| {
        if let Some(entry) = node.entry(key) {
            let found = Diagnostic::error(diagnostic::CONFLICTING_KEYS, entry.key_at, message).help(help);
            cx.key(key, |cx| cx.report(found));
        }
    };
    match settings.style {
        Style::AuthRequest => conflict(
            "path_prefix",
            "`path_prefix` stands before paths, which `auth_request` does not ask with",
            "the path of `url` is asked for; `style: ext_authz` asks with that of the call",
        ),
        Style::ExtAuthz => conflict("method", "`ext_authz` asks with the method of the call", "leave out `method`"),
    }
    if !settings.url.is_https() {
        conflict("ca_file", "`ca_file` is for a service that is `https`", "leave it out, or write `https://`");
    }
    if settings.style == Style::ExtAuthz && settings.url.target() != "/" {
        let help = "write what stands before it as `path_prefix`";
        let node = node.get("url").unwrap_or(node);
        cx.key("url", |cx| cx.bad_value_help(node, "`ext_authz` asks with the path of the call", help));
    }
    if let (Some(prefix), Some(node)) = (&settings.path_prefix, node.get("path_prefix"))
        && !is_prefix(prefix)
    {
        let help = "write it like `/check`, without `/` at its end, `?` and `#`";
        cx.key("path_prefix", |cx| cx.bad_value_help(node, format!("`{}` is not a prefix", node.shown()), help));
    }
}

/// Whether a text can stand before a path.
fn is_prefix(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@%".contains(&byte);
    text.len() <= 1024 && text.starts_with('/') && !text.ends_with('/') && text.bytes().all(fits)
}

/// Why a name has no place in a list, if it has none.
type Refused = fn(&str) -> Option<&'static str>;

fn check_names(settings: &ForwardAuthConfig, node: &Node, cx: &mut Decoder<'_>) {
    let list = |names: &Option<OneOrMany<FieldName>>| -> Vec<String> {
        names.iter().flat_map(|names| &names.0).map(|name| name.0.clone()).collect()
    };
    let set = settings.headers.iter().flat_map(|set| &set.0).map(|(name, _)| name.value.0.clone()).collect();
    let lists: [(&str, Vec<String>, Refused); 4] = [
        ("send", list(&settings.send), unsent),
        ("headers", set, unset),
        ("pass", list(&settings.pass), |name| refused(name, Direction::Request)),
        ("to_client", list(&settings.to_client), |name| refused(name, Direction::Response)),
    ];
    for (key, names, refused) in lists {
        let Some(node) = node.get(key) else { continue };
        cx.key(key, |cx| {
            if names.len() > MOST_NAMES {
                cx.bad_value(node, format!("expected at most {MOST_NAMES} names, found {}", names.len()));
            }
            for name in &names {
                if let Some(help) = refused(name) {
                    cx.bad_value_help(node, format!("`{name}` has no place here"), help);
                }
                if key == "send" {
                    cx.reads_field(node, name);
                }
            }
        });
    }
}

/// Why a header of the request is not sent to the service as it is.
fn unsent(name: &str) -> Option<&'static str> {
    let id = FieldId::of(name.as_bytes());
    if id.is_hop_by_hop() || matches!(id, FieldId::ContentLength | FieldId::Expect) {
        Some("it is of the connection or the body, which the service does not get")
    } else if matches!(
        id,
        FieldId::Host
            | FieldId::Forwarded
            | FieldId::XForwardedFor
            | FieldId::XForwardedHost
            | FieldId::XForwardedProto
            | FieldId::XForwardedPort
            | FieldId::XRealIp
            | FieldId::ForwardedOther
    ) {
        Some("the service is told by `X-Forwarded-*` headers, which the gateway writes; `headers` can set others")
    } else {
        None
    }
}

/// Why a header is not for the operator to set.
fn unset(name: &str) -> Option<&'static str> {
    let id = FieldId::of(name.as_bytes());
    let is_framing = id.is_hop_by_hop() || matches!(id, FieldId::ContentLength | FieldId::Expect);
    is_framing.then_some("it is of the connection or the body, which the gateway looks after")
}

fn check_cache(settings: &ForwardAuthConfig, cache: &CacheConfig, node: &Node, cx: &mut Decoder<'_>) {
    let at = |key: &str| node.get(key).unwrap_or(node);
    cx.key("key", |cx| {
        let node = at("key");
        if cache.key.0.is_empty() || cache.key.0.len() > MOST_PARTS {
            cx.bad_value(node, format!("expected 1 to {MOST_PARTS} parts, found {}", cache.key.0.len()));
        }
        for part in cache.key.0.iter().map(|part| &part.value.0).filter(|part| !is_computed(part)) {
            if part.is_empty() || part.len() > 256 || !part.bytes().all(is_token) {
                let help = "a part is the name of a header, or a text with an expression such as `${client.ip}`";
                cx.bad_value_help(node, "a part of the key is neither of the two", help);
            } else {
                cx.reads_field(node, &part.to_ascii_lowercase());
            }
        }
    });
    for (key, time) in [("for", cache.kept.0), ("refused_for", cache.refused_for)] {
        if time > LONGEST_KEPT {
            cx.key(key, |cx| cx.bad_value(at(key), "a decision is kept for `1h` at most"));
        }
    }
    if cache.any_request && settings.upstream.is_some() {
        let message = "where a call goes depends on the call: a decision cannot count for every one";
        cx.key("any_request", |cx| cx.bad_value_help(at("any_request"), message, "leave out one of the two"));
    }
}

/// Whether a part of a key is a text with an expression, and not the name of a header.
pub(super) fn is_computed(part: &str) -> bool {
    part.contains("${")
}
