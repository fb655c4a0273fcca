//! What a decision service is asked, and what its answers come to.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use daemun_pipeline::world::Busy;
use daemun_pipeline::{Exchange, Identity, Later, OutAnswer, OutCall, OutError, Outcome, Stop, World};
use serde_json::{Value, json};

use crate::testing::{Bench, Chain, SECOND, consumer};

/// A world with one service, which answers as it is told.
struct Scripted {
    answer: Mutex<Result<(u16, String), &'static str>>,
    calls: Mutex<Vec<OutCall>>,
    count: AtomicUsize,
}

impl Scripted {
    fn answering(answer: &str) -> Arc<Scripted> {
        Arc::new(Scripted {
            answer: Mutex::new(Ok((200, answer.to_owned()))),
            calls: Mutex::default(),
            count: AtomicUsize::new(0),
        })
    }

    fn will(&self, answer: Result<(u16, &str), &'static str>) {
        *self.answer.lock().unwrap() = answer.map(|(status, body)| (status, body.to_owned()));
    }

    fn asked(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    fn last(&self) -> OutCall {
        self.calls.lock().unwrap().last().unwrap().clone()
    }
}

impl World for Scripted {
    fn call(&self, call: OutCall) -> Later<Result<OutAnswer, OutError>> {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.calls.lock().unwrap().push(call);
        let answer = match &*self.answer.lock().unwrap() {
            Ok((status, body)) => {
                Ok(OutAnswer { status: *status, fields: Vec::new(), body: Bytes::from(body.clone()) })
            }
            Err(why) => Err(OutError::away(*why)),
        };
        Box::pin(std::future::ready(answer))
    }

    fn spawn(&self, _: Later<()>) {}

    fn compute(&self, _: Box<dyn FnOnce() + Send>) -> Later<Result<(), Busy>> {
        Box::pin(std::future::ready(Err(Busy)))
    }

    fn wait(&self, _: Duration) -> Later<()> {
        Box::pin(std::future::pending())
    }

    fn now(&self) -> u64 {
        0
    }

    fn tell(&self, _: &'static str, _: String) {}
}

fn chain(world: &Arc<Scripted>, more: &str) -> Chain {
    let mut bench = Bench::new(vec![consumer("app", &["buyer"], &[])]);
    bench.world = Arc::clone(world) as Arc<dyn World>;
    let service = format!(
        "{{ url: 'http://opa.test:8181/v1/data/shop?secret=x', send: {{ authorization: Bearer sesame }}{more} }}"
    );
    bench.build(&format!("permission: {{ service: {service} }}")).unwrap()
}

fn call(chain: &Chain, text: &str) -> Exchange {
    let mut exchange = chain.exchange(text);
    exchange.consumer = exchange.directory.as_ref().unwrap().find("app");
    exchange.client.ip = "10.1.2.3".parse().unwrap();
    exchange
}

fn at(mut exchange: Exchange, seconds: u64) -> Exchange {
    exchange.times.start = seconds * SECOND;
    exchange
}

#[test]
fn the_service_is_told_what_is_asked_and_by_whom() {
    let world = Scripted::answering("{\"result\":true}");
    let chain = chain(&world, ", headers: [x-tenant, x-none], timeout: 250ms");
    let text = "POST /orders/a%20b/?page=1&tag=a+b&tag=%63 HTTP/1.1\nHost: Shop.test:8080\nX-Tenant: shop\nX-Tenant: mill\nCookie: a=secret";
    let mut exchange = call(&chain, text);
    exchange.identity = Some(Arc::new(Identity {
        subject: "alice".into(),
        scopes: vec!["orders:write".to_owned()],
        claims: json!({ "tenant": "shop" }).as_object().unwrap().clone().into(),
        ..Identity::default()
    }));
    assert_eq!(chain.status(&mut exchange), 0);
    let call = world.last();
    assert_eq!(
        (call.method, call.target.as_str(), call.within),
        ("POST", "/v1/data/shop?secret=x", Duration::from_millis(250))
    );
    assert_eq!((call.server.authority.as_str(), call.server.tls), ("opa.test:8181", false));
    let fields: Vec<_> = call.fields.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
    assert_eq!(fields, [("content-type", &b"application/json"[..]), ("authorization", b"Bearer sesame")]);
    assert_eq!(
        serde_json::from_slice::<Value>(&call.body).unwrap(),
        json!({ "input": {
            "method": "POST", "scheme": "http", "host": "shop.test", "path": ["orders", "a b", ""],
            "full_path": "/orders/a%20b/",
            "query": { "page": ["1"], "tag": ["a b", "c"] }, "headers": { "x-tenant": "shop, mill" }, "params": {},
            "route": "items", "client_ip": "10.1.2.3",
            "consumer": {
                "name": "app", "configured": true, "roles": ["buyer"], "groups": [], "tags": [],
                "scopes": ["orders:write"], "claims": { "tenant": "shop" },
            },
        } })
    );
    let mut nobody = chain.exchange("GET / HTTP/1.1");
    nobody.client.unreadable = true;
    assert_eq!(chain.status(&mut nobody), 0);
    let input = &serde_json::from_slice::<Value>(&world.last().body).unwrap()["input"];
    assert_eq!((&input["consumer"], &input["client_ip"], &input["path"]), (&Value::Null, &Value::Null, &json!([""])));
}

#[test]
fn only_a_plain_yes_lets_a_call_pass() {
    let world = Scripted::answering("");
    let chain = chain(&world, "");
    for (answer, known, unknown) in [
        (Ok((200, "{\"result\":true}")), 0, 0),
        (Ok((200, "{\"result\":{\"allow\":true,\"why\":\"x\"},\"decision_id\":\"1\"}")), 0, 0),
        (Ok((200, "{\"result\":false}")), 403, 403),
        (Ok((200, "{\"result\":{\"allow\":false}}")), 403, 403),
        // undefined: a caller may become known
        (Ok((200, "{}")), 403, 401),
        (Ok((200, "{\"result\":{}}")), 403, 401),
        (Ok((200, "{\"result\":{\"allowed\":true}}")), 403, 401),
        (Ok((200, "{\"result\":\"true\"}")), 503, 503),
        (Ok((200, "{\"result\":1}")), 503, 503),
        (Ok((200, "{\"result\":null}")), 503, 503),
        (Ok((200, "[true]")), 503, 503),
        (Ok((200, "{\"result\":true")), 503, 503),
        (Ok((200, "")), 503, 503),
        (Ok((500, "{\"result\":true}")), 503, 503),
        (Ok((204, "")), 503, 503),
        (Err("no connection"), 503, 503),
    ] {
        world.will(answer);
        assert_eq!(chain.status(&mut call(&chain, "GET / HTTP/1.1")), known, "{answer:?}");
        assert_eq!(chain.status(&mut chain.exchange("GET / HTTP/1.1")), unknown, "{answer:?}");
    }
}

#[test]
fn a_failure_says_why_to_the_log_alone_and_nothing_secret() {
    let world = Scripted::answering("");
    world.will(Err("the connection was refused"));
    let chain = chain(&world, "");
    let Err(Stop::Fault(fault)) = chain.inward(&mut call(&chain, "GET / HTTP/1.1")).1 else { panic!("it fails") };
    assert_eq!((fault.reason.code(), fault.reason.status()), ("undecided", 503));
    assert!(!fault.detail.contains("opa"), "{fault:?}");
    assert_eq!(fault.cause.as_deref(), Some("the decision service at `opa.test:8181`: the connection was refused"));
    let (outcome, detail) = chain.explain(&mut call(&chain, "GET / HTTP/1.1"));
    assert_eq!(outcome, Outcome::Pass);
    assert!(detail.contains("`opa.test:8181` would be asked") && !detail.contains("secret"), "{detail}");
    assert_eq!(world.asked(), 1, "`explain` asks nobody");
}

#[test]
fn a_call_that_rules_refuse_is_not_put_to_the_service() {
    let world = Scripted::answering("{\"result\":true}");
    let mut bench = Bench::new(Vec::new());
    bench.world = Arc::clone(&world) as Arc<dyn World>;
    let chain = bench
        .build("permission: { allow: [{ methods: [GET] }], deny: [{ client_ip: 10.0.0.0/8 }], service: { url: 'http://opa.test/' } }")
        .unwrap();
    assert_eq!(chain.status(&mut chain.exchange("POST / HTTP/1.1")), 403);
    let mut denied = chain.exchange("GET / HTTP/1.1");
    denied.client.ip = "10.0.0.1".parse().unwrap();
    assert_eq!((chain.status(&mut denied), world.asked()), (403, 0));
    assert_eq!((chain.status(&mut chain.exchange("GET / HTTP/1.1")), world.asked()), (0, 1));
}

#[test]
fn decisions_are_kept_as_long_as_they_may_be_for_the_same_question() {
    let world = Scripted::answering("{\"result\":true}");
    let chain = chain(&world, ", cache: { for: 10s }");
    let ask = |text: &str, seconds: u64| (chain.status(&mut at(call(&chain, text), seconds)), world.asked());
    assert_eq!(ask("GET /a HTTP/1.1", 1), (0, 1));
    world.will(Ok((200, "{\"result\":false}")));
    assert_eq!(ask("GET /a HTTP/1.1", 10), (0, 1));
    assert_eq!(ask("GET /b HTTP/1.1", 10), (403, 2));
    assert_eq!(ask("GET /a HTTP/1.1", 11), (403, 3));
    world.will(Err("down"));
    assert_eq!(ask("GET /a HTTP/1.1", 12), (403, 3));
    // who is somebody else asks another question
    assert_eq!((chain.status(&mut at(chain.exchange("GET /a HTTP/1.1"), 12)), world.asked()), (503, 4));
    // what failed or was undefined is asked again
    assert_eq!(ask("GET /c HTTP/1.1", 12), (503, 5));
    world.will(Ok((200, "{}")));
    assert_eq!(ask("GET /c HTTP/1.1", 12), (403, 6));
    world.will(Ok((200, "{\"result\":true}")));
    assert_eq!(ask("GET /c HTTP/1.1", 12), (0, 7));
}

#[test]
fn what_a_decision_depends_on_can_be_said_and_only_so_many_are_kept() {
    let world = Scripted::answering("{\"result\":true}");
    let chain =
        chain(&world, ", cache: { for: 1h, by: '${consumer.name} ${request.method}', any_request: true, max: 2 }");
    let ask = |text: &str| {
        assert_eq!(chain.status(&mut at(call(&chain, text), 1)), 0);
        world.asked()
    };
    assert_eq!((ask("GET /a HTTP/1.1"), ask("GET /b HTTP/1.1")), (1, 1));
    assert_eq!((ask("PUT /a HTTP/1.1"), ask("POST /a HTTP/1.1")), (2, 3));
    assert_eq!((ask("POST /a HTTP/1.1"), ask("PUT /a HTTP/1.1")), (3, 3));
    assert_eq!(ask("GET /a HTTP/1.1"), 4, "the one used longest ago made room");
}

#[test]
fn a_decision_is_of_one_call_unless_it_counts_for_every_one_and_of_nobody_it_is_not_kept() {
    let world = Scripted::answering("{\"result\":true}");
    let one = chain(&world, ", cache: { for: 1h, by: '${request.header[\"x-tenant\"]}' }");
    let ask = |text: &str| {
        assert_eq!(one.status(&mut at(call(&one, text), 1)), 0);
        world.asked()
    };
    let first = "GET /a?b HTTP/1.1\nHost: one.test\nX-Tenant: mill";
    assert_eq!((ask(first), ask(first)), (1, 1));
    for (asked, other) in [
        first.replace("GET", "DELETE"),
        first.replace("/a", "/c"),
        first.replace("/a", "/a;b"),
        first.replace("?b", "?c"),
        first.replace("?b", "?"),
        first.replace("?b", ""),
        first.replace("one.test", "two.test"),
        first.replace("mill", "bakery"),
    ]
    .iter()
    .enumerate()
    {
        assert_eq!(ask(other), asked + 2, "{other}");
    }
    let nobody = first.replace("mill", "");
    assert_eq!((ask(&nobody), ask(&nobody)), (10, 11));
}

#[test]
fn decisions_of_one_policy_are_not_anothers_and_go_with_it() {
    let world = Scripted::answering("{\"result\":true}");
    let first = chain(&world, ", cache: { for: 1h }");
    assert_eq!(first.status(&mut at(call(&first, "GET / HTTP/1.1"), 1)), 0);
    world.will(Ok((200, "{\"result\":false}")));
    let second = chain(&world, ", cache: { for: 1h }");
    assert_eq!(second.status(&mut at(call(&second, "GET / HTTP/1.1"), 1)), 403);
    assert_eq!(first.status(&mut at(call(&first, "GET / HTTP/1.1"), 1)), 0);
    drop(first);
    let third = chain(&world, ", cache: { for: 1h }");
    assert_eq!(third.status(&mut at(call(&third, "GET / HTTP/1.1"), 1)), 403);
    assert_eq!(super::DECISIONS.with_borrow(std::collections::HashMap::len), 2);
}

#[test]
fn decisions_outlast_a_reload_that_asks_alike() {
    let world = Scripted::answering("{\"result\":true}");
    let mut bench = Bench::new(Vec::new());
    bench.world = Arc::clone(&world) as Arc<dyn World>;
    let build = |more: &str| {
        let settings = format!("permission: {{ service: {{ url: 'http://opa.test/', cache: {{ for: 1h{more} }} }} }}");
        bench.build(&settings).unwrap()
    };
    let ask = |chain: &Chain| {
        assert_eq!(chain.status(&mut at(chain.exchange("GET / HTTP/1.1"), 1)), 0);
        world.asked()
    };
    let first = build("");
    assert_eq!((ask(&first), ask(&build("")), ask(&build(", max: 7")), ask(&first)), (1, 1, 2, 1 + 1));
    assert_eq!(ask(&build(", by: '${request.method}'")), 3);
}

#[test]
fn wrong_settings_of_a_service_are_found() {
    let bench = Bench::new(Vec::new());
    for (settings, code) in [
        ("{}", "missing_key"),
        ("{ url: opa }", "bad_value"),
        ("{ url: 'http://opa/', ca_file: a.pem }", "conflicting_keys"),
        ("{ url: 'http://opa/', timeout: 0s }", "bad_value"),
        ("{ url: 'http://opa/', send: { host: a } }", "bad_value"),
        ("{ url: 'http://opa/', cache: {} }", "missing_key"),
        ("{ url: 'http://opa/', cache: { for: 1s, by: '${response.status}' } }", "bad_value"),
        ("{ url: 'http://opa/', cache: { for: 1s, max: 0 } }", "bad_value"),
        ("{ url: 'http://opa/', cache: { for: 61m } }", "bad_value"),
        ("{ url: 'http://opa/', cache: { for: 0s } }", "bad_value"),
        ("{ url: 'http://opa/', cache: { for: 1s, any_request: true } }", "bad_value"),
    ] {
        let errors = bench.errors(&format!("permission: {{ service: {settings} }}"));
        assert!(errors.len() == 1 && errors[0].starts_with(code), "{settings}: {errors:?}");
    }
    let found = bench.errors("permission: { service: { url: 'http://opa/', cache: { for: 61m } } }");
    assert!(found[0].contains("a decision is kept for `1h` at most"), "{found:?}");
}
