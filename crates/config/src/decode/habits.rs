//! Keys as other gateways name them, and what they are here: for whoever writes from habit. Knows no key's meaning.

/// What a key of another gateway's is here, by a key that must be known at the place: `(theirs, ours, how it is written)`.
const HABITS: &[(&[&str], &str, &str)] = &[
    (
        &["servers", "server", "backends", "nodes", "endpoints", "hosts", "url", "address"],
        "targets",
        "targets: [\"http://10.0.0.11:9001\"]",
    ),
    (&["retries", "retry_policy", "num_retries", "proxy_next_upstream"], "retry", "retry: { retries: 1 }"),
    (
        &["healthchecks", "healthcheck", "health_check", "health_checks", "active_health_check", "checks"],
        "health",
        "health: { path: /healthz }",
    ),
    (&["circuit_breaker", "circuit_breakers", "circuitbreaker"], "breaker", "breaker: { failure_ratio: 50% }"),
    (&["outlier_detection", "passive_health", "passive_health_check", "max_fails"], "outliers", "outliers: {}"),
    (&["connect_timeout", "proxy_connect_timeout"], "timeouts", "timeouts: { connect: 1s }"),
    (
        &["read_timeout", "request_timeout", "proxy_read_timeout", "timeout_ms"],
        "timeouts",
        "timeouts: { response: 29s }",
    ),
    (
        &["load_balancing", "load_balancer", "loadbalancing", "lb_policy", "algorithm", "lb", "hash_on"],
        "balance",
        "balance: least_requests",
    ),
    (&["plugins", "filters", "middlewares", "middleware", "extra_config"], "policies", "policies: { … }"),
    (&["strip_path", "strip_prefix", "strip_listen_path"], "rewrite", "rewrite: { strip_prefix: /api }"),
    (&["rewrite_path", "upstream_path", "url_pattern", "prefix_rewrite"], "rewrite", "rewrite: { path: /v2/items }"),
    (
        &["path", "paths", "prefix", "uri", "uris", "endpoint", "host", "method", "methods", "when", "predicates"],
        "match",
        "match: { hosts: [api.example.com], prefix: /items, methods: [GET] }",
    ),
    (
        &["backend", "service", "service_id", "upstream_id", "cluster", "proxy_pass", "target_url"],
        "upstream",
        "upstream: NAME",
    ),
    (&["listen", "port", "ports", "bind", "entrypoints"], "listeners", "listeners: [{ bind: 0.0.0.0:8080 }]"),
    (
        &["acl", "rbac", "roles", "scopes", "authorization", "authz", "opa", "cedar", "casbin", "permissions"],
        "permission",
        "permission: { allow: [{ roles: [buyer], methods: [GET] }] }",
    ),
    (
        &["acl", "rbac", "roles", "scopes", "required_scopes", "authorization", "authz", "permissions"],
        "policies",
        "policies: { permission: { allow: [{ roles: [buyer] }] } }",
    ),
    (
        &["services", "clusters", "backends"],
        "upstreams",
        "upstreams: { NAME: { targets: [\"http://10.0.0.11:9001\"] } }",
    ),
    (
        &["endpoints", "apis", "paths", "virtual_hosts", "locations"],
        "routes",
        "routes: [{ name: items, match: { prefix: /items }, upstream: NAME }]",
    ),
    (&["applications", "clients", "credentials"], "consumers", "consumers: [{ name: shop-app }]"),
];

/// How a key that is not known here is written, if it is known what it means and `known` has the key for that.
pub(crate) fn meant(key: &str, known: &[&str]) -> Option<&'static str> {
    let key = key.to_ascii_lowercase().replace('-', "_");
    let fits = |(theirs, ours, _): &&(&[&str], &str, &str)| theirs.contains(&key.as_str()) && known.contains(ours);
    HABITS.iter().find(fits).map(|(_, _, written)| *written)
}
