//! What `permission` holds beyond its page.

use std::sync::Arc;

use daemun_pipeline::{Consumer, ConsumerId, Exchange, Identity, Outcome, Stop};
use proptest::prelude::*;
use serde_json::json;

use crate::testing::{Bench, Chain, consumer};

fn bench() -> Bench {
    let with = |name: &str, roles: &[&str], groups: &[&str], tags: &[&str]| {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Consumer { groups: texts(groups), tags: texts(tags), ..consumer(name, roles, &[]) }
    };
    Bench::new(vec![
        with("app", &["buyer"], &["partners"], &[]),
        with("clerk", &["buyer", "seller"], &["staff"], &["internal"]),
        with("nobody", &[], &[], &[]),
    ])
}

fn chain(settings: &str) -> Chain {
    bench().build(&format!("permission: {settings}")).unwrap()
}

fn as_consumer(chain: &Chain, name: &str, text: &str) -> Exchange {
    let mut exchange = chain.exchange(text);
    exchange.consumer = exchange.directory.as_ref().unwrap().find(name);
    assert!(exchange.consumer.is_some(), "{name}");
    exchange
}

fn as_identity(chain: &Chain, identity: Identity) -> Exchange {
    let mut exchange = chain.exchange("GET /orders HTTP/1.1");
    exchange.identity = Some(Arc::new(identity));
    exchange
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

/// Which of the consumers come through with GET, in order: `app`, `clerk`, `nobody`.
fn through(settings: &str) -> Vec<&'static str> {
    let chain = chain(settings);
    let passes = |name: &&str| chain.status(&mut as_consumer(&chain, name, "GET /orders HTTP/1.1")) == 0;
    ["app", "clerk", "nobody"].into_iter().filter(passes).collect()
}

#[test]
fn a_rule_applies_when_all_of_its_conditions_hold_and_a_list_when_one_does() {
    for (rule, expected) in [
        ("{ roles: [buyer, seller] }", &["app", "clerk"][..]),
        ("{ roles: { all: [buyer, seller] } }", &["clerk"]),
        ("{ roles: seller }", &["clerk"]),
        ("{ groups: staff }", &["clerk"]),
        ("{ groups: [staff, partners], roles: buyer }", &["app", "clerk"]),
        ("{ tags: internal }", &["clerk"]),
        ("{ consumers: [app, nobody] }", &["app", "nobody"]),
        ("{ authenticated: true }", &["app", "clerk", "nobody"]),
        ("{ roles: buyer, consumers: nobody }", &[]),
        ("{ roles: buyer, methods: [POST] }", &[]),
        ("{ roles: buyer, client_ip: 10.0.0.0/8 }", &[]),
        ("{ roles: buyer, when: 'consumer.name == \"clerk\"' }", &["clerk"]),
        ("{ scopes: buyer }", &[]),
        // a role is no group, and no tag
        ("{ groups: buyer }", &[]),
        ("{ tags: staff }", &[]),
    ] {
        assert_eq!(through(&format!("{{ allow: [{rule}] }}")), expected, "{rule}");
        let others: Vec<&str> =
            ["app", "clerk", "nobody"].into_iter().filter(|name| !expected.contains(name)).collect();
        let denying = format!("{{ deny: [{rule}], allow: [{{ anyone: true }}] }}");
        assert_eq!(through(&denying), others, "{rule}");
    }
}

#[test]
fn denying_rules_win_wherever_they_stand() {
    assert_eq!(through("{ allow: [{ roles: buyer }], deny: [{ groups: staff }] }"), ["app"]);
    assert_eq!(
        through("{ allow: [{ consumers: clerk }, { anyone: true }], deny: [{ tags: internal }] }"),
        ["app", "nobody"]
    );
}

#[test]
fn what_a_credential_brings_along_counts_as_well() {
    let identity = Identity {
        subject: "alice".into(),
        roles: texts(&["seller", "outside"]),
        groups: texts(&["staff"]),
        tags: texts(&["internal"]),
        scopes: texts(&["orders:read", "orders:write"]),
        claims: json!({
            "tenant": "shop", "level": 3, "share": 2.0, "verified": true, "amr": ["pwd", "otp"], "none": null,
            "realm": { "roles": ["buyer"] }
        })
        .as_object()
        .unwrap()
        .clone()
        .into(),
        ..Identity::default()
    };
    for (rule, passes) in [
        ("{ roles: seller }", true),
        ("{ roles: outside }", true),
        ("{ roles: { all: [seller, outside] } }", true),
        ("{ roles: { all: [seller, buyer] } }", false),
        ("{ groups: staff, tags: internal }", true),
        ("{ scopes: [orders:read, orders:delete] }", true),
        ("{ scopes: { all: [orders:read, orders:delete] } }", false),
        ("{ scopes: { all: [orders:read, orders:write] } }", true),
        ("{ scopes: orders }", false),
        ("{ authenticated: true }", true),
        // a subject is the name of no consumer
        ("{ consumers: app }", false),
        ("{ subjects: [bob, alice] }", true),
        ("{ subjects: bob }", false),
        ("{ claims: { tenant: shop } }", true),
        ("{ claims: { tenant: [mill, shop], level: 3 } }", true),
        ("{ claims: { tenant: shop, level: 4 } }", false),
        ("{ claims: { level: '3' } }", false),
        ("{ claims: { share: 2 } }", true),
        ("{ claims: { share: 3 } }", false),
        ("{ claims: { verified: true } }", true),
        ("{ claims: { verified: 'true' } }", false),
        ("{ claims: { amr: otp } }", true),
        ("{ claims: { amr: { all: [otp, pwd] } } }", true),
        ("{ claims: { amr: { all: [otp, sms] } } }", false),
        ("{ claims: { realm.roles: buyer } }", true),
        ("{ claims: { none: '' } }", false),
        ("{ claims: { missing: '' } }", false),
    ] {
        let chain = chain(&format!("{{ allow: [{rule}] }}"));
        assert_eq!(chain.status(&mut as_identity(&chain, identity.clone())) == 0, passes, "{rule}");
    }
}

#[test]
fn a_consumer_and_its_credential_have_what_both_have() {
    let chain = chain("{ allow: [{ roles: { all: [buyer, outside] }, groups: partners }] }");
    let mut exchange = as_consumer(&chain, "app", "GET / HTTP/1.1");
    exchange.identity = Some(Arc::new(Identity { roles: texts(&["outside"]), ..Identity::default() }));
    assert_eq!(chain.status(&mut exchange), 0);
    exchange.consumer = Some(ConsumerId(2));
    assert_eq!(chain.status(&mut exchange), 403);
    // what names a consumer is no subject
    let chain = bench().build("permission: { allow: [{ subjects: app }] }").unwrap();
    for (consumer, status) in [(None, 0), (Some("app".into()), 403)] {
        let identity = Identity { subject: "app".into(), consumer, ..Identity::default() };
        assert_eq!(chain.status(&mut as_identity(&chain, identity)), status);
    }
}

#[test]
fn methods_are_told_apart_and_get_includes_head() {
    let chain = chain("{ allow: [{ methods: [GET, PURGE, POST] }] }");
    for (method, status) in [
        ("GET", 0),
        ("HEAD", 0),
        ("POST", 0),
        ("PURGE", 0),
        ("PURGES", 403),
        ("get", 403),
        ("PUT", 403),
        ("OPTIONS", 403),
    ] {
        assert_eq!(chain.status(&mut chain.exchange(&format!("{method} / HTTP/1.1"))), status, "{method}");
    }
}

#[test]
fn what_cannot_be_answered_denies() {
    let asks = "when: 'int(request.header[\"x\"]) > 3'";
    let allow = chain(&format!("{{ allow: [{{ {asks} }}] }}"));
    let deny = chain(&format!("{{ deny: [{{ {asks} }}], allow: [{{ anyone: true }}] }}"));
    for (value, allowed, denied) in [("4", 0, 403), ("2", 403, 0), ("x", 403, 403)] {
        let text = format!("GET / HTTP/1.1\nX: {value}");
        assert_eq!(allow.status(&mut allow.exchange(&text)), allowed, "{value}");
        assert_eq!(deny.status(&mut deny.exchange(&text)), denied, "{value}");
    }
    let allow = chain("{ allow: [{ client_ip: 0.0.0.0/0 }] }");
    let deny = chain("{ deny: [{ client_ip: 10.0.0.0/8 }], allow: [{ anyone: true }] }");
    for (unreadable, status) in [(false, 0), (true, 403)] {
        for chain in [&allow, &deny] {
            let mut exchange = chain.exchange("GET / HTTP/1.1");
            exchange.client.unreadable = unreadable;
            assert_eq!(chain.status(&mut exchange), status, "{unreadable}");
        }
    }
}

#[test]
fn who_is_not_known_is_asked_where_that_could_help() {
    let chain =
        chain("{ challenge: 'Basic realm=\"a\"', allow: [{ roles: buyer, methods: [POST] }, { methods: [PUT] }] }");
    let answer = |text: &str| match chain.inward(&mut chain.exchange(text)).1 {
        Ok(()) => (0, None),
        Err(Stop::Fault(fault)) => {
            (fault.reason.status(), fault.fields.first().map(|(name, value)| (name.to_string(), value.clone())))
        }
        Err(Stop::Answer(answer)) => (answer.status, None),
    };
    let asked = Some(("WWW-Authenticate".to_owned(), "Basic realm=\"a\"".to_owned()));
    assert_eq!(answer("POST / HTTP/1.1"), (401, asked));
    assert_eq!(answer("GET / HTTP/1.1"), (403, None));
    assert_eq!(answer("PUT / HTTP/1.1"), (0, None));
    let mut known = as_consumer(&chain, "nobody", "POST / HTTP/1.1");
    assert_eq!(chain.status(&mut known), 403);
}

#[test]
fn a_refusal_does_not_say_which_rule_and_the_log_and_explain_do() {
    let chain = chain(
        "{ allow: [{ name: buyers, roles: buyer }, { roles: seller }], deny: [{ name: staff-out, groups: staff }, { consumers: nobody }] }",
    );
    let mut told = Vec::new();
    for (name, outcome, words) in [
        ("app", Outcome::Pass, "`buyers` allows"),
        ("clerk", Outcome::Refuse(403, "forbidden"), "`staff-out` denies"),
        ("nobody", Outcome::Refuse(403, "forbidden"), "`deny[1]` denies"),
    ] {
        let mut exchange = as_consumer(&chain, name, "GET / HTTP/1.1");
        let (found, detail) = chain.explain(&mut exchange);
        assert_eq!(found, outcome, "{name}");
        assert!(detail.contains(words), "{detail}");
        if let Err(Stop::Fault(fault)) = chain.inward(&mut exchange).1 {
            assert!(fault.cause.as_deref().unwrap().contains(words), "{fault:?}");
            told.push(fault.detail);
        }
    }
    assert_eq!(told, ["the caller may not do this"; 2]);
    let unknown = chain.explain(&mut chain.exchange("GET / HTTP/1.1"));
    assert_eq!(unknown.0, Outcome::Refuse(401, "unauthenticated"));
    assert!(unknown.1.contains("no rule of `allow` applies") && unknown.1.contains("nobody is known"), "{}", unknown.1);
}

#[test]
fn a_rule_that_asks_who_calls_without_an_authenticator_is_warned_of() {
    let warnings = |settings: &str| bench().build(settings).unwrap().findings.lines();
    let asks = "permission: { allow: [{ roles: buyer }] }";
    assert_eq!(
        warnings(asks),
        [
            "needs_authenticator routes.items.policies.permission: rules ask who calls, and route `items` has no authenticator that tells"
        ]
    );
    let quiet = |findings: Vec<String>| findings.iter().all(|line| !line.starts_with("needs_authenticator"));
    assert!(quiet(warnings(&format!("key_auth: {{ header: K }}\n{asks}"))));
    assert!(quiet(warnings("permission: { allow: [{ methods: [GET] }] }")));
}

#[test]
fn names_that_nobody_has_are_warned_of_and_unknown_consumers_are_errors() {
    let bench = bench();
    let found = |rule: &str| -> Vec<String> {
        let settings = format!("key_auth: {{ header: K }}\npermission: {{ allow: [{rule}] }}");
        let lines = match bench.build(&settings) {
            Ok(chain) => chain.findings.lines(),
            Err(findings) => findings.lines(),
        };
        lines.into_iter().filter(|line| !line.starts_with("no_credentials")).collect()
    };
    let at = "routes.items.policies.permission.allow";
    assert_eq!(
        found("{ roles: [buyer, bayer] }"),
        [format!("unknown_role {at}[0].roles: no consumer has the role `bayer`")]
    );
    assert_eq!(found("{ name: a, groups: x }"), [format!("unknown_role {at}.a.groups: no consumer has the group `x`")]);
    assert_eq!(
        found("{ consumers: [app, ap] }"),
        [format!("unknown_consumer {at}[0].consumers: there is no consumer `ap`")]
    );
    assert_eq!(found("{ scopes: x, claims: { a: b } }"), [""; 0]);
    // where no consumer has any, credentials bring them along
    let plain = Bench::new(vec![consumer("a", &[], &["0123456789abcdef"])]);
    assert_eq!(
        plain.build("key_auth: { header: K }\npermission: { allow: [{ roles: x }] }").unwrap().findings.lines(),
        [""; 0]
    );
}

#[test]
fn wrong_settings_are_found() {
    let bench = bench();
    for (settings, code) in [
        ("{}", "missing_key"),
        ("{ deny: [{ roles: buyer }] }", "missing_key"),
        ("{ allow: [] }", "bad_value"),
        ("{ allow: { roles: buyer } }", "wrong_type"),
        ("{ allow: [{}] }", "missing_key"),
        ("{ allow: [{ name: a }] }", "missing_key"),
        ("{ allow: [{ anyone: false }] }", "bad_value"),
        ("{ allow: [{ anyone: true, roles: buyer }] }", "conflicting_keys"),
        ("{ allow: [{ roles: [] }] }", "bad_value"),
        ("{ allow: [{ roles: { all: [] } }] }", "bad_value"),
        ("{ allow: [{ roles: { any: [a] } }] }", "wrong_type"),
        ("{ allow: [{ roles: '' }] }", "bad_value"),
        ("{ allow: [{ consumers: [] }] }", "bad_value"),
        ("{ allow: [{ claims: {} }] }", "bad_value"),
        ("{ allow: [{ claims: { a: 1.5 } }] }", "bad_value"),
        ("{ allow: [{ claims: { a: { b: c } } }] }", "wrong_type"),
        ("{ allow: [{ methods: [get] }] }", "bad_value"),
        ("{ allow: [{ when: 'consumer.nam == \"a\"' }] }", "bad_value"),
        ("{ allow: [{ when: 'response.status == 200' }] }", "bad_value"),
        ("{ allow: [{ role: buyer }] }", "unknown_key"),
    ] {
        let errors = bench.errors(&format!("permission: {settings}"));
        assert!(!errors.is_empty() && errors.iter().all(|error| error.starts_with(code)), "{settings}: {errors:?}");
    }
}

#[test]
fn rules_of_ten_thousand_consumers_are_decided_by_number() {
    let consumers = (0..10_000).map(|n| consumer(&format!("c{n}"), &[&format!("role-{}", n % 500), "all"], &[]));
    let bench = Bench::new(consumers.collect());
    let chain = bench.build("permission: { allow: [{ roles: role-7 }] }").unwrap();
    let passed = (0..10_000u32).filter(|n| {
        let mut exchange = chain.exchange("GET / HTTP/1.1");
        exchange.consumer = Some(ConsumerId(*n));
        chain.status(&mut exchange) == 0
    });
    assert!(passed.eq((0..10_000).filter(|n| n % 500 == 7)));
    let mut nobody = chain.exchange("GET / HTTP/1.1");
    nobody.consumer = Some(ConsumerId(10_000));
    assert_eq!(chain.status(&mut nobody), 403);
}

/// A rule as plainly as it can be written down.
#[derive(Clone, Debug, Default)]
struct Plain {
    roles: Option<(bool, Vec<&'static str>)>,
    groups: Option<(bool, Vec<&'static str>)>,
    scopes: Option<(bool, Vec<&'static str>)>,
    consumers: Option<Vec<&'static str>>,
    tenant: Option<&'static str>,
    methods: Option<Vec<&'static str>>,
    authenticated: bool,
}

/// A call: method, consumer, and what a credential says beside it.
#[derive(Clone, Debug)]
struct Called {
    method: &'static str,
    consumer: Option<&'static str>,
    identity: Option<(Vec<&'static str>, Vec<&'static str>, Option<&'static str>)>,
}

impl Plain {
    fn yaml(&self) -> String {
        let mut parts = Vec::new();
        for (key, wanted) in [("roles", &self.roles), ("groups", &self.groups), ("scopes", &self.scopes)] {
            parts.extend(wanted.as_ref().map(|(all, names)| match all {
                true => format!("{key}: {{ all: [{}] }}", names.join(", ")),
                false => format!("{key}: [{}]", names.join(", ")),
            }));
        }
        parts.extend(self.consumers.as_ref().map(|names| format!("consumers: [{}]", names.join(", "))));
        parts.extend(self.methods.as_ref().map(|names| format!("methods: [{}]", names.join(", "))));
        parts.extend(self.tenant.map(|tenant| format!("claims: {{ tenant: {tenant} }}")));
        parts.extend(self.authenticated.then(|| "authenticated: true".to_owned()));
        if parts.is_empty() { "{ anyone: true }".to_owned() } else { format!("{{ {} }}", parts.join(", ")) }
    }

    fn applies(&self, called: &Called) -> bool {
        let (roles, groups): (&[&str], &[&str]) = match called.consumer {
            Some("app") => (&["buyer"], &["partners"]),
            Some("clerk") => (&["buyer", "seller"], &["staff"]),
            _ => (&[], &[]),
        };
        let (brought, scopes, tenant) = called.identity.clone().unwrap_or_default();
        let roles: Vec<&str> = roles.iter().copied().chain(brought).collect();
        let fits = |wanted: &Option<(bool, Vec<&str>)>, own: &[&str]| match wanted {
            None => true,
            Some((true, names)) => names.iter().all(|name| own.contains(name)),
            Some((false, names)) => names.iter().any(|name| own.contains(name)),
        };
        let method = if called.method == "HEAD" { "GET" } else { called.method };
        fits(&self.roles, &roles)
            && fits(&self.groups, groups)
            && fits(&self.scopes, &scopes)
            && self.consumers.as_ref().is_none_or(|names| called.consumer.is_some_and(|own| names.contains(&own)))
            && self.methods.as_ref().is_none_or(|names| names.contains(&method))
            && self.tenant.is_none_or(|wanted| tenant == Some(wanted))
            && (!self.authenticated || called.consumer.is_some() || called.identity.is_some())
    }
}

fn some_of(names: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    proptest::collection::vec(proptest::sample::select(names), 1..3)
}

fn plain() -> impl Strategy<Value = Plain> {
    let wanted = |names| proptest::option::weighted(0.3, (any::<bool>(), some_of(names)));
    (
        wanted(&["buyer", "seller", "outside"]),
        wanted(&["staff", "partners", "none"]),
        wanted(&["read", "write"]),
        proptest::option::weighted(0.2, some_of(&["app", "clerk", "nobody"])),
        proptest::option::weighted(0.2, proptest::sample::select(&["shop", "mill"][..])),
        proptest::option::weighted(0.4, some_of(&["GET", "PUT", "PURGE"])),
        any::<bool>(),
    )
        .prop_map(|(roles, groups, scopes, consumers, tenant, methods, authenticated)| Plain {
            roles,
            groups,
            scopes,
            consumers,
            tenant,
            methods,
            authenticated,
        })
}

fn called() -> impl Strategy<Value = Called> {
    let identity = (
        proptest::collection::vec(proptest::sample::select(&["buyer", "outside"][..]), 0..3),
        proptest::collection::vec(proptest::sample::select(&["read", "write"][..]), 0..3),
        proptest::option::of(proptest::sample::select(&["shop", "mill"][..])),
    );
    (
        proptest::sample::select(&["GET", "HEAD", "PUT", "PURGE", "POST"][..]),
        proptest::option::of(proptest::sample::select(&["app", "clerk", "nobody"][..])),
        proptest::option::of(identity),
    )
        .prop_map(|(method, consumer, identity)| Called { method, consumer, identity })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn rules_decide_as_they_read(
        allow in proptest::collection::vec(plain(), 1..4),
        deny in proptest::collection::vec(plain(), 0..3),
        called in proptest::collection::vec(called(), 1..6),
    ) {
        let list = |rules: &[Plain]| rules.iter().map(Plain::yaml).collect::<Vec<_>>().join(", ");
        let denied = if deny.is_empty() { String::new() } else { format!(", deny: [{}]", list(&deny)) };
        let chain = chain(&format!("{{ allow: [{}]{denied} }}", list(&allow)));
        for called in called {
            let mut exchange = chain.exchange(&format!("{} / HTTP/1.1", called.method));
            exchange.consumer = called.consumer.and_then(|name| exchange.directory.as_ref().unwrap().find(name));
            exchange.identity = called.identity.as_ref().map(|(roles, scopes, tenant)| {
                let claims = tenant.map(|tenant| ("tenant".to_owned(), json!(tenant)));
                let claims = claims.into_iter().collect();
                Arc::new(Identity { roles: texts(roles), scopes: texts(scopes), claims, ..Identity::default() })
            });
            let passes = !deny.iter().any(|rule| rule.applies(&called)) && allow.iter().any(|rule| rule.applies(&called));
            prop_assert_eq!(chain.status(&mut exchange) == 0, passes, "{:?}", called);
        }
    }
}
