//! The settings of `rate_limit`.

use std::collections::HashSet;

use daemun_config::decode::{
    Bounded, Decoder, ExpressionText, FieldName, JsonValue, Name, OneOrMany, Period, Rate, SchemaBuilder, Setting,
};
use daemun_config::diagnostic::{self, Diagnostic};
use daemun_config::settings;
use daemun_config::tree::Node;
use daemun_pipeline::Phase;

use daemun_accounts::gcra::Gcra;

/// Limits in one list.
pub(super) const MAX_LIMITS: usize = 8;

/// One limit, or a list of limits that must all admit a call, also as `limits` of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimitConfig(pub Vec<LimitConfig>);

settings! {
    /// How often callers may call.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct LimitConfig {
        /// Name in the answer's `RateLimit` fields; made from `by` and the period of `limit` when absent, as `consumer_per_second`.
        pub name: Option<Name>,
        /// Calls per time, such as `100/s` or `5000/day`; a month counts 30 days.
        pub limit: Rate,
        /// Calls that may come at once after a pause; as many as `limit` counts when absent.
        pub burst: Option<Bounded<1, 1_000_000_000_000>>,
        /// Who is counted.
        pub by: By,
        /// Bits of an IPv6 address that make one caller, for `by: client_ip`.
        pub ipv6_prefix: Bounded<16, 128> = "64",
        /// Callers that are counted one by one; more share 256 buckets until others' are full again.
        pub max_keys: Bounded<1, 16_000_000> = "1000000",
        /// Whether calls that pass are answered with `RateLimit` fields as well.
        pub headers: bool = "false",
    }
    check check;
}

settings! {
    /// Who is counted.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum By {
        /// Each consumer; the route needs an authenticator.
        Consumer = "consumer",
        /// Each client address, before anything else is known of the caller.
        ClientIp = "client_ip",
        /// All callers of the route together.
        Route = "route",
        /// Each value of a request header, written `{ header: x-tenant }`; calls without it count together.
        Header(FieldName) = "header",
        /// Each text that an expression gives, written `{ expression: 'request.header["x-tenant"]' }`; calls for which it gives none count together.
        Expression(ExpressionText) = "expression",
    }
}

impl By {
    /// When the limit is asked: an address is known from the start; everything else only counts callers that were let in.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self {
            By::ClientIp => Phase::Admit,
            By::Consumer | By::Route | By::Header(_) | By::Expression(_) => Phase::Limit,
        }
    }

    /// As written; the header's name for `header`.
    #[must_use]
    pub fn word(&self) -> &str {
        match self {
            By::Consumer => "consumer",
            By::ClientIp => "client_ip",
            By::Route => "route",
            By::Header(name) => &name.0,
            By::Expression(_) => "expression",
        }
    }
}

impl LimitConfig {
    /// The name given, or the one made from what is counted.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.name {
            Some(name) => name.0.clone(),
            None => format!("{}_per_{}", self.by.word(), period_word(self.limit.per)),
        }
    }

    /// Calls that may come at once.
    #[must_use]
    pub fn burst(&self) -> u64 {
        self.burst.map_or(self.limit.count, Bounded::get)
    }

    /// What the state of this limit depends on; a limit that keeps it keeps its counts across a reload.
    pub(super) fn shape(&self) -> String {
        let (limit, burst) = (self.limit, self.burst());
        let by = match &self.by {
            // not where it stands
            By::Expression(text) => format!("Expression({:?})", text.0.value),
            by @ (By::Consumer | By::ClientIp | By::Route | By::Header(_)) => format!("{by:?}"),
        };
        format!("{limit} burst {burst} {by} /{} {}", self.ipv6_prefix.get(), self.max_keys.get())
    }

    pub(super) fn gcra(&self) -> Option<Gcra> {
        Gcra::new(self.limit.count, self.limit.per.duration(), self.burst())
    }
}

fn period_word(period: Period) -> &'static str {
    match period {
        Period::Second => "second",
        Period::Minute => "minute",
        Period::Hour => "hour",
        Period::Day => "day",
        Period::Week => "week",
        Period::Month => "month",
    }
}

fn check(limit: &LimitConfig, node: &Node, cx: &mut Decoder<'_>) {
    let at = |key: &str| node.get(key).unwrap_or(node);
    if let Some(message) = limit.limit.why_too_fast() {
        cx.key("limit", |cx| cx.bad_value(at("limit"), message));
    }
    if let By::Header(FieldName(name)) = &limit.by {
        let node = at("by");
        cx.key("by", |cx| cx.key("header", |cx| cx.reads_field(node.get("header").unwrap_or(node), name)));
    }
    if let Some(message) = limit.limit.why_too_slow(limit.burst()) {
        cx.key("burst", |cx| cx.bad_value_help(at("burst"), message, "a smaller `burst` or a faster `limit`"));
    }
    if limit.name.as_ref().is_some_and(|name| !name.0.is_ascii()) {
        let help = "it is sent to callers in the `RateLimit` field; use ASCII letters and digits";
        cx.key("name", |cx| cx.bad_value_help(at("name"), "the name of a limit must be ASCII", help));
    }
}

settings! {
    /// Several limits in a mapping, so that `when` can stand beside them.
    struct Limits {
        /// The limits, which must all admit a call.
        limits: Vec<LimitConfig>,
    }
}

impl Setting for RateLimitConfig {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let list = node.get("limits");
        let limits = match list {
            Some(_) => Limits::decode(node, cx)?.limits,
            None => OneOrMany::<LimitConfig>::decode(node, cx)?.0,
        };
        let listed = list.unwrap_or(node);
        if let Some(items) = listed.as_seq().filter(|items| items.is_empty() || items.len() > MAX_LIMITS) {
            cx.bad_value(listed, format!("expected 1 to {MAX_LIMITS} limits, found {}", items.len()));
        }
        let mut names = HashSet::new();
        for name in limits.iter().map(LimitConfig::name) {
            if let Some(twice) = names.replace(name.clone()) {
                let message = format!("two limits have the name `{twice}`");
                let found = Diagnostic::error(diagnostic::DUPLICATE_NAME, listed.at, message);
                cx.report(found.help("give each a `name` of its own"));
            }
        }
        Some(RateLimitConfig(limits))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> JsonValue {
        let (one, several) = (LimitConfig::schema(s), Limits::schema(s));
        JsonValue::from_iter([(
            "anyOf",
            JsonValue::from(vec![
                one.clone(),
                JsonValue::from_iter([("type", "array".into()), ("items", one)]),
                several,
            ]),
        )])
    }
}
