//! Features that are configured and have nothing to do, put together as far as they do not exclude each other.

/// A feature, and the lines that configure it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Feature {
    pub(crate) name: &'static str,
    top: &'static str,
    listener: &'static str,
    upstream: &'static str,
    /// Of a further upstream.
    beside: &'static str,
    /// Of every target.
    target: &'static str,
    route: &'static str,
    when: &'static str,
    policy: &'static str,
}

const fn feature(name: &'static str) -> Feature {
    Feature { name, top: "", listener: "", upstream: "", beside: "", target: "", route: "", when: "", policy: "" }
}

const fn upstream(name: &'static str, upstream: &'static str) -> Feature {
    Feature { upstream, ..feature(name) }
}

const fn policy(name: &'static str, policy: &'static str) -> Feature {
    Feature { policy, ..feature(name) }
}

/// What a request of [`REQUEST`] carries for the features: a user, credentials, an accepted coding.
pub(crate) const REQUEST: &str = "GET /items/4711?color=red HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: idle\r\n\
     Accept: */*\r\nAccept-Encoding: gzip, br\r\nX-User: u1\r\nX-Old: 1\r\nX-Api-Key: shop-app-key-0001\r\n\
     Authorization: Basic c2hvcDpjb3JyZWN0IGhvcnNl\r\n";

/// Who calls.
const CONSUMERS: &str = "consumers:\n  - { name: shop-app, roles: [buyer], keys: [shop-app-key-0001], basic: [{ username: shop, \
     password: correct horse }] }\n  - { name: nobody, groups: [suspended] }\n";

const BESIDE: &str = "{ targets: [\"http://127.0.0.1:1\"] }";

/// Each row is one configuration.
pub(crate) const TOGETHER: &[&[Feature]] = &[
    &[
        upstream("least requests", "balance: least_requests"),
        upstream("health checks", "health: { path: /, interval: 1h, unhealthy_after: 1000 }"),
        upstream("ejection of outliers", "outliers: { failure_ratio: 50%, slower_than: 10s, slower_than_peers: 1000 }"),
        upstream("a slow start", "slow_start: 30s"),
        upstream("a breaker", "breaker: { failure_ratio: 50%, consecutive: 100, slow: { longer_than: 10s } }"),
        upstream("retries", "retry: { retries: 2, on: [connect_failure, reset, timeout, \"503\"] }"),
        upstream("a fallback to an answer", "fallback: { answer: { body: sorry } }"),
        Feature { beside: BESIDE, route: "mirror: { upstream: beside, share: 0% }", ..feature("a mirror of no call") },
        policy("a body limit", "body_limit: { max: 1MiB }"),
        policy("compression of another kind", "compress: { types: [text/css] }"),
        policy("a filter of programs", "bot_filter: { deny: [badbot] }"),
        policy("a canonical host", "canonical_host: { host: www.example.com }"),
        policy("1,000 networks", "ip_filter: { deny: [NETWORKS] }"),
        policy("faults in no call", "fault_injection: { abort: { status: 503, share: 0% } }"),
        policy(
            "a transformation of bodies of another kind",
            "transform: { request: [{ set: { body.a: b } }], response: [{ remove: body.a }], on_other_body: pass }",
        ),
    ],
    &[
        upstream("the lowest latency", "balance: latency"),
        upstream("hedged calls", "hedge: { after: 10s }"),
        upstream("bounds on calls", "limits: { requests: 1000, queue: 100, connections: 100 }"),
        Feature { route: "importance: high", ..feature("importance") },
        Feature {
            beside: BESIDE,
            upstream: "fallback: { upstream: beside }",
            ..feature("a fallback to another upstream")
        },
        Feature {
            listener: "proxy_protocol: { from: [10.0.0.0/8], others: serve }",
            ..feature("the PROXY protocol from others")
        },
        Feature { top: "zone: a\n", target: "tier: 0, zone: a", ..feature("tiers and zones") },
        policy("a request id", "request_id: {}"),
        policy("security headers", "security_headers: {}"),
        policy("CORS without an origin", "cors: { origins: [\"https://shop.example.com\"] }"),
        policy("an API key that passes", "key_auth: { header: X-Api-Key }"),
        policy(
            "rules that let the caller pass",
            "permission: { deny: [{ groups: suspended }, { when: 'request.header[\"x-user\"] == \"u9\"' }], allow: [{ \
             consumers: nobody }, { roles: [buyer], methods: [GET] }] }",
        ),
        policy("a limit that is not reached", "rate_limit: { limit: 1000000/s, by: client_ip }"),
        policy("HTTPS, but for this path", "https_redirect: { except: [/items] }"),
        policy(
            "set and removed fields",
            "headers: { request: { remove: [Cookie], set: { X-Tenant: shop }, add: { X-Tag: [a, b] } }, response: { \
             remove: [Server], set: { X-Done: \"1\" } } }",
        ),
    ],
    &[
        upstream("consistent hashing", "balance: { hash: { header: x-user } }"),
        upstream("adaptive concurrency", "concurrency: adaptive"),
        Feature { when: "request.method == \"GET\"", ..feature("a condition in CEL of one comparison") },
        policy("a password that passes", "basic_auth: {}"),
        policy("a schema of bodies", "validate: { body: { type: object } }"),
        policy(
            "a transformation of fields",
            "transform: { request: [{ set: { header.x-a: b } }, { remove: header.x-old }], response: [{ set: { \
             header.x-done: \"yes\" } }] }",
        ),
    ],
    &[
        upstream("a sticky client", "balance: sticky"),
        policy(
            "an OpenAPI document, and a GET without anything to validate",
            "validate: { openapi: { openapi: 3.1.0, info: { title: t, version: \"1\" }, paths: { \"/items/{id}\": { \
             get: { responses: { \"200\": { description: d } } } } } } }",
        ),
    ],
];

/// An access log of its own fields.
pub(crate) const LOG: Feature = Feature {
    top: "access_log: { to: access.log, fields: { user: '${request.header[\"x-user\"]}', how: '${request.method} ${response.status}' } }\n",
    ..feature("fields of the access log")
};

/// The configuration that has these features.
pub(crate) fn configuration(features: &[Feature], targets: &[String]) -> String {
    let of = |part: fn(&Feature) -> &'static str| -> String {
        features.iter().map(part).filter(|text| !text.is_empty()).map(|text| format!(", {text}")).collect()
    };
    let target = of(|feature| feature.target);
    let targets: Vec<_> = targets.iter().map(|url| format!("{{ url: \"{url}\"{target} }}")).collect();
    let top: String = features.iter().map(|feature| feature.top).collect();
    let beside = features.iter().map(|feature| feature.beside).find(|text| !text.is_empty());
    let when = features.iter().map(|feature| feature.when).find(|text| !text.is_empty());
    let networks: Vec<_> = (0..1_000).map(|n| format!("10.{}.{}.0/26", n / 250, n % 250)).collect();
    let policies = of(|feature| feature.policy).replace("NETWORKS", &networks.join(", "));
    format!(
        "workers: 1\nlisteners: [{{ bind: \"127.0.0.1:0\"{} }}]\n{}{top}{CONSUMERS}upstreams:\n  origin: {{ targets: [{}]{} }}\n{}routes:\n  \
         - {{ name: all, match: {{ prefix: /{} }}, upstream: origin{}, policies: {{ {} }} }}\n",
        of(|feature| feature.listener),
        if top.contains("access_log") { "" } else { "access_log: off\n" },
        targets.join(", "),
        of(|feature| feature.upstream),
        beside.map(|text| format!("  beside: {text}\n")).unwrap_or_default(),
        when.map(|text| format!(", when: '{text}'")).unwrap_or_default(),
        of(|feature| feature.route),
        policies.trim_start_matches(", "),
    )
}
