//! What operators are told of upstreams, word for word.

use crate::findings::{FRAME, route, upstream};
use crate::support::load;

#[test]
fn answers_that_are_kept_have_memory_and_fit_it() {
    upstream("targets: [\"http://h\"], fallback: { cached: {} }", &[]);
    upstream("targets: [\"http://h\"], fallback: { cached: { for: 1h, ignore: [X-Device] }, answer: {} }", &[]);
    upstream(
        "targets: [\"http://h\"], fallback: { cached: { memory: 64KiB } }",
        &["bad_value upstreams.u.fallback.cached.memory: answers are kept in `1MiB` at least"],
    );
    upstream(
        "targets: [\"http://h\"], fallback: { cached: { memory: 1MiB, max: 1MiB } }",
        &[
            "bad_value upstreams.u.fallback.cached.max: an answer may take a quarter of `memory` at most, 262144 bytes, and `max` is 1048576",
        ],
    );
    upstream(
        "targets: [\"http://h\"], fallback: { on: [failure] }",
        &["missing_key upstreams.u.fallback: one of `cached`, `upstream` and `answer` is missing"],
    );
}

#[test]
fn upstreams_are_named_and_used() {
    route("upstream: v", &["unknown_upstream routes.a.upstream: there is no upstream `v`; did you mean `u`?"]);
    route(
        "upstream: catalog",
        &["unknown_upstream routes.a.upstream: there is no upstream `catalog`; `upstreams` defines upstreams by name"],
    );
    route("upstream: 5", &["wrong_type routes.a.upstream: expected a text, found the number `5`; quote it: `\"5\"`"]);
    upstream(
        "targets: [\"http://h\"], balanc: x",
        &["unknown_key upstreams.u.balanc: there is no key `balanc` here; did you mean `balance`?"],
    );
    upstream("host: preserve", &["missing_key upstreams.u: one of `targets` and `discover` is missing"]);
    upstream(
        "targets: http://h",
        &[
            "wrong_type upstreams.u.targets: expected a list, found the text `http://h`; a list of one is written `[http://h]`",
        ],
    );
    upstream(
        "targets: [{ url: http://h, weight: 0 }, { url: http://i, weight: 0 }]",
        &["bad_value upstreams.u.targets: all weights are zero, so no target would get a call"],
    );
    upstream(
        "targets: [\"http://h\"], timeouts: { connect: 0s }",
        &["bad_value upstreams.u.timeouts.connect: `0s` would end everything at once; a time limit is at least `1ms`"],
    );
    upstream(
        "targets: [\"http://h\"], protocol: h2",
        &[
            "conflicting_keys upstreams.u.targets: `http://h` is cleartext, but `protocol: h2` is HTTP/2 over TLS; write `protocol: h2c`, or an `https` target",
        ],
    );
    upstream(
        "targets: [\"https://h\"], protocol: h2c",
        &[
            "conflicting_keys upstreams.u.targets: `https://h` is TLS, but `protocol: h2c` is cleartext HTTP/2; write `protocol: h2`",
        ],
    );
    upstream(
        "targets: [\"http://h\"], limits: { queue: 5, queue_timeout: 1s }",
        &[
            "no_effect upstreams.u.limits.queue: `queue` has no effect: nothing bounds the calls in flight; give `requests` beside it, or `concurrency: adaptive`",
            "no_effect upstreams.u.limits.queue_timeout: `queue_timeout` has no effect: nothing bounds the calls in flight; give `requests` beside it, or `concurrency: adaptive`",
        ],
    );
    upstream(
        "targets: [\"http://h\"], limits: { requests: 0, per_target: { requests: 1 } }, concurrency: { adaptive: { min: 9, max: 8 } }",
        &[
            "bad_value upstreams.u.limits.requests: expected a whole number from 1 to 1000000, found the number `0`",
            "bad_value upstreams.u.concurrency.adaptive: `min` is 9, which is more than `max`, 8",
        ],
    );
    upstream(
        "targets: [\"http://h\"], tls: { ca: ca.crt }",
        &["no_effect upstreams.u.tls: `tls` has no effect: no target is `https`"],
    );
    upstream(
        "targets: [\"https://h\"], tls: { cert: c.crt }",
        &["missing_key upstreams.u.tls: `cert` is given without `key`"],
    );
    upstream(
        "targets: [\"https://h\"], tls: { insecure_skip_verify: true }",
        &[
            "insecure upstreams.u.tls.insecure_skip_verify: the target's certificate is not verified: anyone on the way may read and change the calls",
        ],
    );
    upstream(
        "targets: [\"http://h\"], host: \"a b\"",
        &[
            "bad_value upstreams.u.host: `a b` cannot stand in `Host`; write `preserve`, `target` or a fixed name like `shop.internal:8080`",
        ],
    );
    upstream(
        "targets: [\"http://h\"], protocol: http3",
        &[
            "bad_value upstreams.u.protocol: expected one of `http1`, `h2`, `h2c`, `auto`, found the text `http3`; did you mean `http1`?",
        ],
    );
}

#[test]
fn settings_of_finding_and_checking_are_held_together() {
    for (body, findings) in [
        (
            "discover: { dns: { name: orders.internal } }",
            "missing_key upstreams.u.discover.dns: `port` is missing: addresses have none of their own; write `port: 8080`, or `type: SRV` for a name that has SRV records",
        ),
        (
            "discover: { dns: { name: _a._tcp.x, port: 1 } }",
            "conflicting_keys upstreams.u.discover.dns.port: SRV records have ports of their own; leave out `port`",
        ),
        (
            "discover: { dns: { name: x, port: 1, refresh_min: 1m, refresh_max: 5s } }",
            "bad_value upstreams.u.discover.dns: `refresh_max` is shorter than `refresh_min`",
        ),
        (
            "discover: { dns: { name: x, port: 1, refresh_min: 10ms } }",
            "bad_value upstreams.u.discover.dns.refresh_min: names are looked up once a second at most: write `1s` or more",
        ),
        (
            "discover: { http: { url: http://h/a, ca_file: ca.crt } }",
            "conflicting_keys upstreams.u.discover.http.ca_file: `ca_file` is for a server that is `https`",
        ),
        (
            "discover: { http: { url: ftp://h/a } }",
            "bad_value upstreams.u.discover.http.url: `ftp://h/a` is not an address: the scheme is `http` or `https`; write it like `https://accounts.internal/keys?of=shop`",
        ),
        (
            "discover: { kubernetes: { service: a, server: https://h } }",
            "missing_key upstreams.u.discover.kubernetes: `namespace` is missing: `server` is not the gateway's own cluster",
        ),
        (
            "targets: [http://h], health: { interval: 1s }",
            "missing_key upstreams.u.health: one of `path` and `protocol` is missing",
        ),
        (
            "targets: [http://h], health: { protocol: tcp, path: / }",
            "conflicting_keys upstreams.u.health.path: `path` is for `protocol: http`",
        ),
        (
            "targets: [http://h], health: { path: /, grpc_service: a }",
            "conflicting_keys upstreams.u.health.grpc_service: `grpc_service` is for `protocol: grpc`",
        ),
        (
            "targets: [http://h], health: { path: healthz }",
            "bad_value upstreams.u.health.path: `healthz` is not the path of a check; write it like `/healthz` or `/healthz?full=1`, encoded where it must be",
        ),
        (
            "targets: [http://h], health: { path: /, expect: { status: [7xx] } }",
            "bad_value upstreams.u.health.expect.status[0]: `7xx` is neither a status nor several; write `2xx` for 200 to 299, `200-399` for a range, or one status like `204`",
        ),
        (
            "targets: [http://h], health: { path: /, interval: 50ms }",
            "bad_value upstreams.u.health.interval: a target is checked ten times a second at most: write `100ms` or more",
        ),
    ] {
        upstream(body, &[findings]);
    }
}

#[test]
fn targets_are_plain_addresses() {
    let form = "write it like `http://10.0.0.11:9001`, `https://orders.internal/base` or `unix:/run/orders.sock`";
    for (target, reason, help) in [
        ("10.0.0.1:80", "it has no scheme", form),
        ("ftp://h", "the scheme is `http`, `https` or `unix`", form),
        ("grpc://h:1", "the scheme is `http` or `https`", "the upstream's `protocol: h2c` or `h2` chooses HTTP/2"),
        ("http://", "the host or port is malformed", form),
        ("http://h:99999", "the host or port is malformed", form),
        ("http://h:0", "port 0 cannot be called", form),
        ("http://h:", "the host or port is malformed", form),
        ("http://[::1", "the host or port is malformed", form),
        ("http://256.1.1.1", "the host or port is malformed", form),
        ("http://a..b", "the host or port is malformed", form),
        ("http://h?x=1", "it has a query", "a route's `rewrite: {query: …}` adds query parameters"),
        ("http://h#f", "it has a fragment", "leave out the `#` and what follows"),
        (
            "http://me:pass@h",
            "it has a user or password",
            "set an `Authorization` header with the `headers` policy instead",
        ),
        (
            "http://h/a/../b",
            "the base path has an empty or dot segment",
            "a base path is made of plain segments, like `/v1/base`",
        ),
        (
            "http://h/a//b",
            "the base path has an empty or dot segment",
            "a base path is made of plain segments, like `/v1/base`",
        ),
        (
            "http://h/a%2fb",
            "the base path has an encoded `/`, `\\` or NUL",
            "a base path is made of plain segments, like `/v1/base`",
        ),
        (
            "http://h/a%2",
            "a `%` of the base path is not followed by two hexadecimal digits",
            "a base path is made of plain segments, like `/v1/base`",
        ),
        (
            "http://h/상품",
            "the base path has a character that must be encoded",
            "a base path is made of plain segments, like `/v1/base`",
        ),
    ] {
        let expected =
            format!("bad_value upstreams.u.targets[0]: `{target}` is not the address of a target: {reason}; {help}");
        upstream(&format!("targets: [{target:?}]"), &[&expected]);
    }
    upstream(
        "targets: [\"unix:\"]",
        &["bad_value upstreams.u.targets[0]: `unix:` is not a Unix socket; write it like `unix:/run/daemun.sock`"],
    );

    let config = load(&format!("{FRAME}upstreams: {{ u: {{ targets: [\"HTTP://Host_A\", \"https://[::1]/%7eb/%3a/\", \"unix:/run/x\"] }} }}\nroutes: [{{ name: a, upstream: u }}]")).config.unwrap();
    let shown: Vec<String> = config.upstreams[0]
        .targets
        .iter()
        .map(|target| format!("{:?} {} {:?}", target.address, target.tls, target.base_path))
        .collect();
    assert_eq!(
        shown,
        [
            "Tcp { host: \"host_a\", port: 80 } false \"\"",
            "Tcp { host: \"::1\", port: 443 } true \"/~b/%3A\"",
            "Unix(\"/run/x\") false \"\"",
        ]
    );
}
