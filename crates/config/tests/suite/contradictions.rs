//! Settings that are each fine and together never do what they say; and what is beside the point of a mistake and yet often made.

use crate::findings::{finds, upstream};
use crate::support::load;

/// Upstreams `u`, with these keys, and `v`; a route `a` to `u` with these.
#[track_caller]
fn both(of_upstream: &str, of_route: &str, expected: &[&str]) {
    finds(
        &format!(
            "upstreams:\n  u: {{ targets: [\"http://h\", \"http://h:81\"]{of_upstream} }}\n  v: {{ targets: [\"http://i\"] }}\n\
             routes:\n  - {{ name: a, upstream: u{of_route} }}\n  - {{ name: v, match: {{ path: /v }}, upstream: v }}\n\
             consumers: [{{ name: c, keys: [\"0123456789abcdef0123\"] }}]\n"
        ),
        expected,
    );
}

const FINE: &[&str] = &[];

#[test]
fn the_longest_ejection_is_not_shorter_than_the_first() {
    upstream(
        "targets: [\"http://h\"], outliers: { eject_for: 60s, max_eject_for: 10s }",
        &[
            "contradiction upstreams.u.outliers.max_eject_for: `max_eject_for` is less than `eject_for`, which holds: a target is \
           ejected for 60s each time; write a longer time, up to which ejections that follow each other double",
        ],
    );
    upstream("targets: [\"http://h\"], outliers: { eject_for: 10s, max_eject_for: 10s }", FINE);
    // the usual longest time gives way
    upstream("targets: [\"http://h\"], outliers: { eject_for: 10m }", FINE);
}

#[test]
fn a_second_call_comes_before_the_time_limit_of_the_first() {
    let finding = |after: &str, response: &str| {
        format!(
            "contradiction upstreams.u.hedge.after: a second call after {after} is never made: `timeouts.response` ends the \
             first at {response}; set `after` near the time that the slowest twentieth of the answers take"
        )
    };
    both(", hedge: { after: 2s }, timeouts: { response: 2s }", "", &[&finding("2s", "2s")]);
    both(", hedge: { after: 31s }", "", &[&finding("31s", "30s")]);
    both(", hedge: { after: 1s }, timeouts: { response: 2s }", "", FINE);
    both(", hedge: { after: 2s }, timeouts: { response: 2s }", ", timeouts: { response: 3s }", FINE);
}

#[test]
fn a_fallback_leads_elsewhere() {
    let finding = |path: &str| {
        format!(
            "contradiction {path}.fallback.upstream: the fallback of calls to `u` is `u` itself; name another upstream; `retry` \
             makes calls to the same one again"
        )
    };
    both(", fallback: { upstream: u }", "", &[&finding("upstreams.u")]);
    both("", ", fallback: { upstream: u }", &[&finding("routes.a")]);
    both(", fallback: { upstream: v }", ", fallback: { upstream: v }", FINE);
    // a fallback's own fallback is not used, so that a circle is none
    finds(
        "upstreams:\n  u: { targets: [\"http://h\"], fallback: { upstream: v } }\n  v: { targets: [\"http://i\"], fallback: { upstream: u } }\n\
         routes: [{ name: a, upstream: u }]",
        FINE,
    );
}

#[test]
fn a_mirror_is_another_upstream() {
    both(
        "",
        ", mirror: { upstream: u }",
        &[
            "contradiction routes.a.mirror.upstream: calls to `u` are sent to `u` once more, which doubles them and tries nothing; \
           name the upstream that is on trial",
        ],
    );
    both("", ", mirror: { upstream: v }", FINE);
}

#[test]
fn what_is_balanced_by_is_there_on_every_route() {
    let by_param = ", balance: { hash: { param: id } }";
    let finding = "contradiction routes.a.upstream: `u` is balanced by the parameter `{id}`, which the `path` of this route does \
                   not have: its calls go to any target; write a `path` like `/items/{id}`, or balance by something every \
                   request has";
    both(by_param, "", &[finding]);
    both(by_param, ", match: { prefix: /items }", &[finding]);
    both(by_param, ", match: { path: \"/items/{name}\" }", &[finding]);
    both(by_param, ", match: { path: \"/items/{id}\" }", FINE);
    both(by_param, ", match: { path: \"/items/{*id}\" }", FINE);

    let by_consumer = ", balance: { hash: consumer }";
    let finding = "contradiction routes.a.upstream: `u` is balanced by consumer, and nothing on this route tells who calls: its \
                   calls go to any target; add an authenticator, such as `key_auth`, or balance by `client_ip`";
    both(by_consumer, "", &[finding]);
    both(by_consumer, ", policies: { cors: { origins: \"*\" } }", &[finding]);
    both(by_consumer, ", policies: { key_auth: { header: x-key } }", FINE);
    let global = |own: &str| {
        format!(
            "policies: {{ key_auth: {{ header: x-key }} }}\nupstreams: {{ u: {{ targets: [\"http://h\"], balance: {{ hash: consumer }} }} }}\n\
             routes: [{{ name: a, upstream: u{own} }}]\nconsumers: [{{ name: c, keys: [\"0123456789abcdef0123\"] }}]\n"
        )
    };
    finds(&global(""), FINE);
    finds(&global(", policies: { key_auth: off }"), &[finding]);
}

#[test]
fn some_target_gets_calls() {
    let finding = "contradiction upstreams.u.targets: no target gets a call, so every call is answered with 503: all are drained or \
                   have no weight; leave `drain` out at one of them";
    upstream("targets: [{ url: \"http://h\", drain: true }]", &[finding]);
    upstream("targets: [{ url: \"http://h\", drain: true }, { url: \"http://i\", weight: 0 }]", &[finding]);
    upstream("targets: [{ url: \"http://h\", drain: true }, \"http://i\"]", FINE);
    upstream("targets: [{ url: \"http://h\", drain: true }], discover: { file: { path: t.yaml } }", FINE);
}

#[test]
fn a_target_stands_there_once() {
    let finding = |place: usize| {
        format!(
            "contradiction upstreams.u.targets[{place}]: the target `http://h:80` is given twice, and gets twice the calls; a \
             greater share is written `{{ url: …, weight: 2 }}`"
        )
    };
    upstream("targets: [\"http://h\", \"http://i\", \"http://h:80\"]", &[&finding(2)]);
    upstream("targets: [\"http://h\", \"http://h/base\", \"https://h:80\", \"http://h:81\"]", FINE);
}

#[test]
fn a_contradiction_shows_its_place() {
    let text = "listeners: [{ bind: 127.0.0.1:0 }]\nupstreams:\n  u:\n    targets: [\"http://h\", \"http://j\"]\n    hedge: { after: 40s }\n\
                routes:\n  - name: a\n    upstream: u\n";
    let loaded = load(text);
    let shown = loaded.diagnostics.render(&loaded.sources, false);
    assert!(shown.starts_with("warning[contradiction] upstreams.u.hedge.after: "), "{shown}");
    assert!(shown.contains("--> daemun.yaml:5:21"), "{shown}");
    assert!(loaded.config.is_some());
}

#[test]
fn a_number_without_a_unit_is_offered_the_likely_ones() {
    upstream(
        "targets: [\"http://h\"], retry: { backoff: 25 }",
        &[
            "bad_value upstreams.u.retry.backoff: expected a duration like `250ms`, found the number `25` without a unit; write \
           `25ms`, `25s` or another unit",
        ],
    );
}

#[test]
fn statuses_of_a_check_are_single_a_kind_or_a_range() {
    for status in ["200", "2xx", "[200, 3xx]", "200-399", "[200-204, 401]"] {
        upstream(&format!("targets: [\"http://h\"], health: {{ path: /h, expect: {{ status: {status} }} }}"), FINE);
    }
    for status in ["2xy", "6xx", "399-200", "200-", "20-30", "200-600", "ok"] {
        let finding = format!(
            "bad_value upstreams.u.health.expect.status: `{status}` is neither a status nor several; write `2xx` for 200 to 299, \
             `200-399` for a range, or one status like `204`"
        );
        upstream(
            &format!("targets: [\"http://h\"], health: {{ path: /h, expect: {{ status: {status} }} }}"),
            &[&finding],
        );
    }
    upstream(
        "targets: [\"http://h\"], health: { path: /h, expect: { status: [] } }",
        &["bad_value upstreams.u.health.expect.status: expected at least one item, found an empty list"],
    );
}

#[test]
fn a_bound_in_place_of_how_it_is_found_is_told_where_it_belongs() {
    upstream(
        "targets: [\"http://h\"], concurrency: 64",
        &[
            "bad_value upstreams.u.concurrency: `concurrency` is how the bound is found, and `64` is a bound; write `concurrency: \
           adaptive` to have it learned, or `limits: { requests: 64 }`",
        ],
    );
}

#[test]
fn a_misspelt_cause_of_a_retry_or_a_fallback_gets_the_nearest() {
    upstream(
        "targets: [\"http://h\"], retry: { on: [timeouts, resets, never] }",
        &[
            "bad_value upstreams.u.retry.on[0]: `timeouts` is nothing that can be waited for; did you mean `timeout`?",
            "bad_value upstreams.u.retry.on[1]: `resets` is nothing that can be waited for; did you mean `reset`?",
            "bad_value upstreams.u.retry.on[2]: `never` is nothing that can be waited for; write `connect_failure`, `reset`, \
             `timeout` or a status like \"503\"",
        ],
    );
    upstream(
        "targets: [\"http://h\"], fallback: { answer: {}, on: [failures] }",
        &[
            "bad_value upstreams.u.fallback.on[0]: `failures` is nothing that can be waited for; did you mean `failure`?",
        ],
    );
}

#[test]
fn a_policy_that_needs_no_settings_is_switched_on_with_none() {
    for (written, found) in [("true", "the boolean `true`"), ("", "nothing")] {
        let finding = format!(
            "wrong_type policies.key_auth: expected the settings of `key_auth`, found {found}; none of them is needed: write \
             `key_auth: {{}}`"
        );
        finds(&format!("policies:\n  key_auth: {written}\nroutes: [{{ name: a, answer: {{}} }}]"), &[&finding]);
    }
    // one that needs some says which
    let loaded =
        load("listeners: [{ bind: 127.0.0.1:0 }]\npolicies: { rate_limit: true }\nroutes: [{ name: a, answer: {} }]");
    let found = loaded.diagnostics.iter().next().unwrap();
    assert!(!found.help.as_deref().unwrap_or_default().contains("none of them is needed"), "{found:?}");
}

#[test]
fn a_second_call_needs_a_second_target_and_a_slow_start_one_that_comes_back() {
    let alone = "contradiction upstreams.u.hedge: a second call is never made: it goes to another target, and there is one only; add a \
                 target, or leave `hedge` out";
    upstream("targets: [\"http://h\"], hedge: { after: 1s }", &[alone]);
    upstream("targets: [\"http://h\", \"http://i\"], hedge: { after: 1s }", FINE);
    upstream("targets: [\"http://h\"], discover: { file: { path: /nowhere } }, hedge: { after: 1s }", FINE);
    let never = "contradiction upstreams.u.slow_start: `slow_start` never acts: a target is healthy again only where `health` or \
                 `outliers` said that it was not; add `health` or `outliers`";
    upstream("targets: [\"http://h\"], slow_start: 5s", &[never]);
    upstream("targets: [\"http://h\"], slow_start: 5s, health: { path: / }", FINE);
}

#[test]
fn a_bound_lies_below_the_one_over_all() {
    let never = |path: &str, what: &str, number: u32| {
        format!(
            "contradiction upstreams.u.{path}: `{what}` of {number} is never reached: `limits.requests` lets 10 calls in at once; raise \
             `limits.requests`, or leave this out"
        )
    };
    let each = "targets: [\"http://h\", \"http://i\"], limits: { requests: 10, per_target: { requests: 11 } }";
    upstream(each, &[&never("limits.per_target.requests", "per_target.requests", 11)]);
    upstream(&each.replace("11", "10"), FINE);
    let learned = "targets: [\"http://h\"], limits: { requests: 10 }, concurrency: { adaptive: { min: 20 } }";
    upstream(learned, &[&never("concurrency", "concurrency.min", 20)]);
    upstream(&learned.replace("20", "5"), FINE);
}

/// A token service in a store, with these keys; the store has these beside its path.
#[track_caller]
fn tokens(of_store: &str, of_service: &str, expected: &[&str]) {
    finds(
        &format!(
            "store: {{ path: d.db{of_store} }}\ntokens: {{ shop: {{ {of_service} }} }}\n\
             routes: [{{ name: a, match: {{ path: /a }}, answer: {{ body: a }} }}]\n"
        ),
        expected,
    );
}

#[test]
fn signed_tokens_have_an_issuer_and_a_store_that_their_keys_are_sealed_in() {
    let key = ", key: \"0123456789abcdef0123456789abcdef\"";
    tokens(key, "issuer: \"https://a.example\", access: { format: jwt }", FINE);
    tokens(
        key,
        "access: { format: jwt }",
        &["missing_key tokens.shop: signed tokens say who issued them, and there is no `issuer`; write `issuer: \
           https://api.example.com` beside `access`"],
    );
    tokens(
        "",
        "issuer: \"https://a.example\", access: { format: jwt }",
        &[
            "missing_key store.key: tokens of `shop` are signed, and `store.key` is missing to seal the keys under; write `key: \
           \"${env:DAEMUN_STORE_KEY}\"`; `daemun key new` makes one that will do",
        ],
    );
}

#[test]
fn an_answer_with_tokens_has_each_member_once_and_the_access_token_and_a_challenge_has_a_scheme() {
    tokens("", "answer: [access_token, expires_in], challenge: 'Bearer realm=\"a\"'", FINE);
    tokens("", "challenge: Negotiate", FINE);
    tokens(
        "",
        "answer: [access_token, expires_in, expires_in]",
        &["bad_value tokens.shop.answer: `expires_in` stands twice"],
    );
    tokens(
        "",
        "answer: [refresh_token]",
        &[
            "bad_value tokens.shop.answer: an answer without the access token is of no use to anybody; add `access_token`",
        ],
    );
    for wrong in ["realm=\\\"a\\\"", "Bearer ", "", "Bearer r\\n"] {
        let found = load(&format!(
            "listeners: [{{ bind: 127.0.0.1:0 }}]\nstore: memory\ntokens: {{ shop: {{ challenge: \"{wrong}\" }} }}\n\
             routes: [{{ name: a, answer: {{}} }}]\n"
        ));
        let paths: Vec<_> = found.diagnostics.iter().map(|found| (found.code, found.path.as_str())).collect();
        assert_eq!(paths, [("bad_value", "tokens.shop.challenge")], "{wrong}");
    }
}

#[test]
fn keys_of_signed_tokens_change_no_faster_than_tokens_end_and_opaque_ones_have_none() {
    let key = ", key: \"0123456789abcdef0123456789abcdef\"";
    let finding = "bad_value tokens.shop.access.rotate: keys would change faster than tokens end, or than within a second; make \
                   `rotate` at least as long as `lifetime`";
    let access = |more: &str| format!("issuer: \"https://a.example\", access: {{ format: jwt, {more} }}");
    tokens(key, &access("lifetime: 1h, rotate: 59m"), &[finding]);
    tokens(key, &access("lifetime: 1ms, rotate: 999ms"), &[finding]);
    tokens(key, &access("lifetime: 1h, rotate: 1h"), FINE);
    tokens(key, &access("lifetime: 1h, rotate: off"), FINE);
    tokens(
        key,
        "access: { algorithm: ES256 }",
        &["conflicting_keys tokens.shop.access.algorithm: `algorithm` is of signed tokens, and these are opaque; add \
           `format: jwt`"],
    );
    tokens(
        key,
        &access("audience: []"),
        &["bad_value tokens.shop.access.audience: a service has 1 to 16 audiences, and this one 0"],
    );
    tokens(
        key,
        "issuer: \"https://a.example?x\"",
        &["bad_value tokens.shop.issuer: an issuer has no query (RFC 8414, section 2)"],
    );
    tokens(
        key,
        "urls: { token: auth }",
        &["bad_value tokens.shop.urls.token: `auth` is neither a URL nor a path: it has no scheme; write \
           `https://api.example.com/auth`, or `/auth`"],
    );
}

#[test]
fn where_a_service_is_found_stands_behind_its_issuer() {
    let loaded = load(
        "listeners: [{ bind: 127.0.0.1:0 }]\nstore: memory\ntokens:\n  shop:\n    issuer: https://a.example/v1/\n    \
         access: { format: jwt }\n    urls: { jwks: \"https://b.example/keys\", revoke: /revoke }\n\
         routes: [{ name: a, match: { path: /a }, answer: { body: a } }]\n",
    );
    let service = &loaded.config.unwrap().tokens[0];
    assert_eq!(service.urls.token, "https://a.example/v1/token");
    assert_eq!(service.urls.jwks, "https://b.example/keys");
    assert_eq!(
        (service.urls.revoke.as_deref(), &service.urls.introspect),
        (Some("https://a.example/v1/revoke"), &None)
    );
    let daemun_config::model::TokenFormat::Jwt(how) = &service.format else { panic!("{:?}", service.format) };
    assert_eq!((how.audience.as_slice(), &how.seal), (&["https://a.example/v1/".to_owned()][..], &None));
}
