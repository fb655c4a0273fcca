//! What `forward_auth` holds beyond its page.

use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use daemun_pipeline::world::Busy;
use daemun_pipeline::{
    Elsewhere, Exchange, FieldId, Flow, Identity, Later, OutAnswer, OutCall, OutError, Stop, Upstreams, Verdict, World,
};

use super::MOST_TURNS;
use crate::service::Service;
use crate::testing::{Bench, Chain, SECOND, consumer, status, upstream_lines};

const URL: &str = "url: http://auth.internal:9000/check";

/// A chain with a service to ask.
fn chain(settings: &str) -> (Chain, Arc<Service>) {
    let service = Arc::new(Service::default());
    let bench = Bench {
        world: Arc::clone(&service) as Arc<dyn World>,
        upstreams: Arc::new(Two),
        ..Bench::new(vec![consumer("shop-app", &["buyer"], &["shop-app-key-0001"]), consumer("other", &[], &[])])
    };
    (bench.build(settings).unwrap(), service)
}

/// One chain of `forward_auth` alone.
fn alone(settings: &str) -> (Chain, Arc<Service>) {
    chain(&format!("forward_auth: {{ {URL}, {settings} }}"))
}

/// Two upstreams that can be chosen by name.
struct Two;

impl Upstreams for Two {
    fn names(&self) -> Vec<&str> {
        vec!["products", "orders"]
    }

    fn find(&self, text: &str, among: &[usize]) -> Result<Elsewhere, &'static str> {
        let upstream = ["products", "orders"].iter().position(|name| *name == text);
        let upstream = upstream.filter(|place| among.contains(place)).ok_or("there is no way")?;
        Ok(Elsewhere { upstream, name: text.into(), resource: None })
    }
}

const GET: &str = "GET /items HTTP/1.1\nHost: a.test\nAuthorization: Bearer 1";

/// Status a call ends with when the service answers so, and what the log is told.
fn ended(chain: &Chain, service: &Service, answer: &str) -> (u16, String) {
    service.answer(answer);
    told(chain.inward(&mut chain.exchange(GET)).1)
}

fn told(verdict: Verdict) -> (u16, String) {
    match verdict {
        Ok(()) => (0, String::new()),
        Err(Stop::Fault(fault)) => (fault.status(), fault.cause.as_deref().unwrap_or_default().to_owned()),
        Err(stop @ Stop::Answer(_)) => (status(&stop), String::new()),
    }
}

#[test]
fn only_a_clear_yes_lets_a_call_in() {
    let (chain, service) = alone("send: [authorization]");
    for (answered, wanted) in [
        (200, 0),
        (204, 0),
        (299, 0),
        (401, 401),
        (403, 403),
        (300, 503),
        (302, 503),
        (304, 503),
        (400, 503),
        (404, 503),
        (407, 503),
        (429, 503),
        (500, 503),
        (503, 503),
        (599, 503),
        (100, 503),
        (0, 503),
        (999, 503),
    ] {
        let (found, cause) = ended(&chain, &service, &format!("HTTP/1.1 {answered} x\nLocation: http://evil.test/"));
        assert_eq!(found, wanted, "{answered} {cause}");
        assert_eq!(cause.is_empty(), wanted < 500, "{answered} {cause}");
    }
    service.fail("no answer in 2s");
    let (found, cause) = told(chain.inward(&mut chain.exchange(GET)).1);
    assert_eq!((found, cause.as_str()), (503, "GET http://auth.internal:9000/check: no answer in 2s"));
    service.asked();
    assert!(service.is_done(), "each was asked once, redirects included");
}

#[test]
fn the_status_of_a_service_that_is_down_can_be_chosen_and_openness_must_be() {
    for (written, wanted) in [("403", 403), ("500", 500), ("502", 502), ("504", 504), ("allow", 0)] {
        let (chain, service) = alone(&format!("unavailable: {written}"));
        service.fail("connection refused");
        let mut exchange = chain.exchange(GET);
        assert_eq!(told(chain.inward(&mut exchange).1).0, wanted);
        assert_eq!(exchange.remark.is_some(), wanted == 0, "the access log says so");
        assert_eq!(ended(&chain, &service, "HTTP/1.1 503 x").0, wanted);
        // what is answered and not understood never opens
        let closed = if wanted == 0 { 503 } else { wanted };
        for answer in ["HTTP/1.1 302 x", "HTTP/1.1 404 x", "HTTP/1.1 429 x", "HTTP/1.1 200 x\nX: a"] {
            let expected = if answer.contains("200") { 0 } else { closed };
            assert_eq!(ended(&chain, &service, answer).0, expected, "{written} {answer}");
        }
        assert_eq!(ended(&chain, &service, "HTTP/1.1 403 x").0, 403);
    }
    let (chain, service) =
        alone("unavailable: allow, pass: [x-user], subject: x-user, upstream: { header: x-to, among: orders }");
    let mut exchange = chain.exchange(&format!("{GET}\nX-User: root"));
    service.fail("connection refused");
    assert_eq!(told(chain.inward(&mut exchange).1).0, 0);
    assert_eq!(exchange.request.head.values("x-user").count(), 0, "nobody said who calls");
    assert!(!exchange.is_known());
    for unusable in
        ["HTTP/1.1 200 x", "HTTP/1.1 200 x\nX-User: a\nX-To: elsewhere", "HTTP/1.1 200 x\nX-User: a\nX-User: b"]
    {
        assert_eq!(ended(&chain, &service, unusable).0, 503, "{unusable}");
    }
}

#[test]
fn every_name_of_the_services_own_is_taken_from_callers() {
    let settings =
        "pass: [x-p], subject: x-s, roles: x-r, groups: x-g, scopes: x-c, upstream: { header: x-w, among: orders }";
    let (chain, service) = alone(settings);
    let own = "X-P: 1\nX-S: root\nX-R: admin\nX-G: staff\nX_C: all\nX-W: products\nX-Fine: yes";
    service.answer("HTTP/1.1 200 x\nX-S: alice");
    let mut exchange = chain.exchange(&format!("{GET}\n{own}"));
    assert_eq!(chain.status(&mut exchange), 0);
    let lines = upstream_lines(&exchange.request);
    let left: Vec<&String> = lines.iter().filter(|line| line.to_lowercase().starts_with('x')).collect();
    assert_eq!(left, ["X-Fine: yes", "X-Consumer-Name: alice"]);
}

#[test]
fn a_caller_cannot_say_what_only_the_service_may() {
    let (chain, service) = alone("pass: [x-user, x-tenant-id], send: []");
    let text =
        format!("{GET}\nX-User: root\nx-user: root\nX_User: root\nX-Tenant_Id: 1\nX.Tenant.Id: 2\nX-Users: fine");
    for (answer, user) in [("HTTP/1.1 200 x", None), ("HTTP/1.1 200 x\nX-User: alice\nX-Other: 1", Some("alice"))] {
        service.answer(answer);
        let mut exchange = chain.exchange(&text);
        assert_eq!(chain.status(&mut exchange), 0);
        let lines = upstream_lines(&exchange.request);
        let left: Vec<&String> = lines.iter().filter(|line| line.to_lowercase().starts_with('x')).collect();
        match user {
            None => assert_eq!(left, ["X-Users: fine"]),
            Some(user) => assert_eq!(left, ["X-Users: fine", &format!("x-user: {user}")]),
        }
    }
    let policy = &chain.steps[0].1;
    assert_eq!(policy.removed_from_requests(), [Box::from("x-user"), Box::from("x-tenant-id")]);
}

#[test]
fn nothing_of_an_answer_can_add_a_line_to_a_head() {
    let (chain, service) =
        alone("pass: [x-user], to_client: [x-note], consumer: x-consumer, upstream: { header: x-to, among: orders }");
    let good = [("x-user", "a"), ("x-note", "b"), ("x-consumer", "shop-app"), ("x-to", "orders")];
    for bad in 0..=good.len() {
        let fields = good.iter().enumerate().map(|(n, (name, value))| {
            let value = if n == bad { format!("{value}\r\nX-Admin: 1") } else { (*value).to_owned() };
            ((*name).to_owned(), value.into_bytes())
        });
        service.give(Ok(OutAnswer { status: 200, fields: fields.collect(), body: Bytes::new() }));
        let mut exchange = chain.exchange(GET);
        let found = chain.status(&mut exchange);
        assert_eq!(found, if bad < good.len() { 503 } else { 0 }, "{bad}");
        assert!(!upstream_lines(&exchange.request).join("\n").contains("X-Admin"));
    }
    let (chain, service) = alone("to_client: [x-note], style: auth_request");
    let fields =
        vec![("x-note".to_owned(), b"a\r\nX-Admin: 1".to_vec()), ("www-authenticate".to_owned(), b"a\nb".to_vec())];
    service.give(Ok(OutAnswer { status: 401, fields, body: Bytes::new() }));
    let Err(Stop::Fault(fault)) = chain.inward(&mut chain.exchange(GET)).1 else { panic!("it is refused") };
    assert_eq!(fault.fields, [("WWW-Authenticate".into(), "Bearer realm=\"daemun\"".to_owned())]);
}

#[test]
fn what_is_of_the_connection_stays_between_the_two() {
    let (chain, service) =
        chain(&format!("forward_auth: {{ {}, style: ext_authz }}", "url: http://auth.internal:9000"));
    let mut exchange = chain.exchange(&format!(
        "{GET}\nConnection: x-hop\nTE: trailers\nUpgrade: websocket\nExpect: 100-continue\nContent-Length: 5\nContent-Type: a/b\n\
         If-None-Match: 1\nRange: bytes=0-1\nAccept-Encoding: gzip\nX-Forwarded-For: 6.6.6.6\nForwarded: for=6.6.6.6\n\
         X-Forwarded-Host: evil.test\nX-Original-URI: /fine\nX-Request-Id: mine\nX-Plain: yes\nCookie: a=b"
    ));
    service.answer(
        "HTTP/1.1 418 x\nConnection: close\nKeep-Alive: 5\nTransfer-Encoding: chunked\nContent-Length: 9\nUpgrade: h2c\nTrailer: a\n\
         Proxy-Authenticate: Basic\nServer: x\nDate: x\nX-Note: kept\nSet-Cookie: c=d\n\nno",
    );
    let Err(Stop::Answer(answer)) = chain.inward(&mut exchange).1 else { panic!("the answer is the service's") };
    assert_eq!((answer.status, &*answer.body), (418, &b"no"[..]));
    let names: Vec<&str> = answer.fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["x-note", "set-cookie"]);
    let asked = service.asked().remove(0);
    let names: Vec<&str> = asked.iter().skip(1).map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(
        names,
        [
            "authorization",
            "x-plain",
            "cookie",
            "x-forwarded-method",
            "x-forwarded-proto",
            "x-forwarded-host",
            "x-forwarded-uri",
            "x-original-method",
            "x-original-uri"
        ]
    );
    assert!(
        asked.contains(&"x-forwarded-host: a.test".to_owned()) && asked.contains(&"x-original-uri: /items".to_owned())
    );
}

#[test]
fn the_service_is_asked_about_the_path_that_is_forwarded() {
    let (chain, service) =
        chain("forward_auth: { url: http://auth.internal:9000, style: ext_authz, path_prefix: /check }");
    service.answer("HTTP/1.1 200 x");
    let mut exchange = chain.exchange("GET /items/<1>?a=`b` HTTP/1.1\nHost: a.test");
    assert_eq!(chain.status(&mut exchange), 0);
    assert_eq!(service.asked()[0][0], "GET /check/items/%3C1%3E?a=%60b%60 HTTP/1.1");
    for (method, asked) in [("PROPFIND", true), ("OPTIONS", true), ("HEAD", true), ("FETCH", false), ("CONNECT", false)]
    {
        if asked {
            service.answer("HTTP/1.1 200 x");
        }
        let mut exchange = chain.exchange(&format!("{method} /items HTTP/1.1\nHost: a.test"));
        assert_eq!(chain.status(&mut exchange), if asked { 0 } else { 501 }, "{method}");
        assert_eq!(service.asked().len(), usize::from(asked), "{method}");
    }
}

#[test]
fn trusted_proxies_are_believed_and_nobody_else() {
    let (chain, service) = alone("send: []");
    for trusted in [false, true] {
        let mut exchange = chain.exchange(
            "GET / HTTP/1.1\nHost: a.test\nX-Forwarded-For: 1.1.1.1\nX-Forwarded-For: 2.2.2.2\nX-Forwarded-Proto: https\nX-Forwarded-Host: b.test",
        );
        exchange.client.trusted = trusted;
        exchange.client.peer_text = "10.0.0.1".into();
        service.answer("HTTP/1.1 200 x");
        assert_eq!(chain.status(&mut exchange), 0);
        let asked = service.asked().remove(0);
        let says = |line: &str| asked.contains(&line.to_owned());
        assert_eq!(says("x-forwarded-for: 1.1.1.1, 2.2.2.2, 10.0.0.1"), trusted, "{asked:?}");
        assert_eq!(says("x-forwarded-for: 10.0.0.1"), !trusted, "{asked:?}");
        assert_eq!((says("x-forwarded-proto: https"), says("x-forwarded-host: b.test")), (trusted, trusted));
        assert_eq!((says("x-forwarded-proto: http"), says("x-forwarded-host: a.test")), (!trusted, !trusted));
    }
}

#[test]
fn a_value_that_no_header_holds_refuses_the_call_and_asks_nothing() {
    let (chain, service) = alone("headers: { X-Tenant: '${request.query[\"t\"]}' }, unavailable: allow");
    let mut exchange = chain.exchange("GET /?t=a%0d%0aX-Admin:+1 HTTP/1.1\nHost: a.test");
    assert_eq!(chain.status(&mut exchange), 400);
    assert!(service.asked().is_empty());
    service.answer("HTTP/1.1 200 x");
    assert_eq!(chain.status(&mut chain.exchange("GET /?t=+ HTTP/1.1\nHost: a.test\nX-Tenant: mine")), 0);
    assert!(!service.asked()[0].iter().any(|line| line.starts_with("x-tenant")), "its own does not take the place");
}

#[test]
fn the_caller_that_is_named_is_known_or_the_call_is_refused() {
    let (chain, service) = alone("consumer: x-consumer, roles: x-roles, groups: x-groups, scopes: x-scopes");
    service.answer("HTTP/1.1 200 x\nX-Consumer: shop-app\nX-Roles: a, b,,\nX-Groups: g\nX-Scopes: r:1 w:2,x");
    let mut exchange = chain.exchange(&format!("{GET}\nX-Consumer: other"));
    assert_eq!(chain.status(&mut exchange), 0);
    assert_eq!(exchange.consumer_name(), Some("shop-app"));
    assert_eq!(exchange.roles().collect::<Vec<_>>(), ["buyer", "a", "b"]);
    assert_eq!(exchange.groups().collect::<Vec<_>>(), ["g"]);
    assert_eq!(exchange.scopes().collect::<Vec<_>>(), ["r:1", "w:2", "x"]);
    let many = format!("X-Roles: {}", "a,".repeat(300));
    for (answer, wanted) in [
        ("X-Consumer: nobody", 401),
        ("X-Consumer:", 503),
        ("X-Other: 1", 503),
        ("X-Consumer: shop-app\nX-Consumer: shop-app", 503),
        (&format!("X-Consumer: {}", "a".repeat(600)), 503),
        (&format!("X-Consumer: shop-app\n{many}"), 503),
    ] {
        assert_eq!(ended(&chain, &service, &format!("HTTP/1.1 200 x\n{answer}")).0, wanted, "{answer}");
    }
    let (chain, service) = alone("subject: x-user");
    // whose name is a consumer's is that consumer or nobody
    assert_eq!(ended(&chain, &service, "HTTP/1.1 200 x\nX-User: shop-app").0, 401);
    service.answer("HTTP/1.1 200 x\nX-User: alice");
    let mut exchange = chain.exchange(GET);
    assert_eq!(chain.status(&mut exchange), 0);
    assert_eq!((exchange.consumer_name(), exchange.consumer().is_some()), (Some("alice"), false));
    assert_eq!(exchange.request.head.values_id(FieldId::Identity).count(), 1);
}

#[test]
fn a_subject_with_the_name_of_a_consumer_of_the_store_is_not_taken_for_it() {
    let service = Arc::new(Service::default());
    let bench = Bench { world: Arc::clone(&service) as Arc<dyn World>, ..Bench::new(Vec::new()) };
    let chain = bench.build(&format!("forward_auth: {{ {URL}, subject: x-user }}")).unwrap();
    assert_eq!(ended(&chain, &service, "HTTP/1.1 200 x\nX-User: alice").0, 0);
    let _accounts = bench.with_stored("alice");
    assert_eq!(ended(&chain, &service, "HTTP/1.1 200 x\nX-User: alice").0, 401);
}

#[test]
fn another_authenticator_must_have_found_the_same_caller() {
    let (chain, service) =
        chain(&format!("{{ key_auth: {{ header: x-key }}, forward_auth: {{ {URL}, consumer: x-consumer }} }}"));
    let text = format!("{GET}\nX-Key: shop-app-key-0001");
    for (named, wanted) in [("shop-app", 0), ("other", 401)] {
        service.answer(&format!("HTTP/1.1 200 x\nX-Consumer: {named}"));
        assert_eq!(chain.status(&mut chain.exchange(&text)), wanted, "{named}");
    }
    assert_eq!(chain.status(&mut chain.exchange(GET)), 401);
    assert!(service.is_done());
}

#[test]
fn a_call_goes_elsewhere_only_where_it_may() {
    let (chain, service) = alone("upstream: { header: X-New-Api-Url, among: [orders] }");
    for (answer, wanted) in
        [("X-New-Api-Url: orders", Some("orders")), ("X-Other: orders", None), ("X-New-Api-Url:", None)]
    {
        service.answer(&format!("HTTP/1.1 200 x\n{answer}"));
        let mut exchange = chain.exchange(&format!("{GET}\nX-New-Api-Url: products"));
        assert_eq!(chain.status(&mut exchange), 0);
        assert_eq!(exchange.elsewhere.as_ref().map(|elsewhere| &*elsewhere.name), wanted);
    }
    for answer in [
        "X-New-Api-Url: products",
        "X-New-Api-Url: http://169.254.169.254/",
        "X-New-Api-Url: orders\nX-New-Api-Url: orders",
        &format!("X-New-Api-Url: {}", "a".repeat(9000)),
    ] {
        let (found, cause) = ended(&chain, &service, &format!("HTTP/1.1 200 x\n{answer}"));
        assert_eq!(found, 503, "{answer}");
        assert!(!cause.contains("169.254") && !cause.is_empty(), "{cause}");
    }
}

#[test]
fn what_the_service_has_for_the_caller_reaches_it_either_way() {
    let (chain, service) = alone("to_client: [set-cookie, x-note]");
    service.answer("HTTP/1.1 200 x\nSet-Cookie: a=1\nSet-Cookie: b=2\nX-Note: hi\nX-Other: no");
    let mut exchange = chain.exchange(GET);
    let (passed, verdict) = chain.inward(&mut exchange);
    assert!(verdict.is_ok());
    assert!(exchange.response.head.append("Set-Cookie", b"own=1") && exchange.response.head.append("X-Note", b"own"));
    assert!(chain.outward(passed, &mut exchange).is_ok());
    let lines = crate::testing::field_lines(&exchange.response.head);
    assert_eq!(lines, ["Set-Cookie: own=1", "set-cookie: a=1", "set-cookie: b=2", "x-note: hi"]);
    let (chain, service) = alone("to_client: [x-note, content-type, www-authenticate]");
    service.answer("HTTP/1.1 403 x\nX-Note: no\nX-Other: no\nContent-Type: a/b\nWWW-Authenticate: X");
    let Err(Stop::Fault(fault)) = chain.inward(&mut chain.exchange(GET)).1 else { panic!("it is refused") };
    assert_eq!(fault.fields, [("x-note".into(), "no".to_owned())]);
}

#[test]
fn a_grpc_call_is_refused_as_one() {
    let (chain, service) = chain("forward_auth: { url: http://auth.internal:9000, style: ext_authz }");
    for (answered, reason) in
        [(401, "unauthenticated"), (403, "forbidden"), (429, "rate_limited"), (503, "auth_unavailable")]
    {
        service.answer(&format!("HTTP/1.1 {answered} x"));
        let mut exchange = chain.exchange("POST /shop.Orders/Get HTTP/1.1\nHost: a.test");
        exchange.request.grpc = true;
        let Err(Stop::Fault(fault)) = chain.inward(&mut exchange).1 else { panic!("{answered} is a fault") };
        assert_eq!(fault.reason.code(), reason);
    }
}

/// How often the service is asked about these calls, which it lets in each time.
fn questions(chain: &Chain, service: &Service, calls: &[(u64, &str)]) -> usize {
    calls
        .iter()
        .map(|(at, text)| {
            let mut exchange = chain.exchange(text);
            exchange.times.start = at * SECOND;
            service.answer("HTTP/1.1 200 x");
            let found = chain.status(&mut exchange);
            assert_eq!(found, 0);
            let asked = service.asked().len();
            if asked == 0 {
                // the answer is not needed
                service.fail("left");
                let _ = crate::testing::wait(service.call(nothing())).unwrap();
                let _ = crate::testing::wait(service.call(nothing())).unwrap_err();
                service.asked();
            }
            asked
        })
        .sum()
}

fn nothing() -> OutCall {
    let url = daemun_config::decode::WebUrl::parse("http://a.test/").unwrap();
    OutCall {
        server: Arc::new(url.server(None)),
        method: "GET",
        target: "/".into(),
        fields: Vec::new(),
        body: Bytes::new(),
        within: Duration::from_secs(1),
        most: 0,
    }
}

#[test]
fn no_two_callers_share_a_decision() {
    let (chain, service) = alone("cache: { key: [authorization, x-tenant], for: 10s, any_request: true }");
    let call = |fields: &str| format!("GET / HTTP/1.1\nHost: a.test\n{fields}");
    let texts = [
        "Authorization: a",
        "X-Tenant: a",
        "Authorization: a\nX-Tenant: b",
        "Authorization: ab",
        "Authorization: a\nAuthorization: b",
        "Authorization: b\nAuthorization: a",
        "Authorization: a, b",
        "Authorization: a\nX-Tenant: b\nX-Tenant:",
        "Authorization: A",
        "Authorization: aX-Tenant: b",
    ]
    .map(call);
    let calls: Vec<(u64, &str)> = texts.iter().map(|text| (0, text.as_str())).collect();
    assert_eq!(questions(&chain, &service, &calls), calls.len(), "each is a caller of its own");
    assert_eq!(questions(&chain, &service, &calls), 0, "and known the second time");
    // those without a credential that the key knows may have any other
    let unknown = [call("Cookie: session=alice"), call("Cookie: session=bob"), call("X-Tenant:"), call("X: y")];
    let calls: Vec<(u64, &str)> = unknown.iter().chain(&unknown).map(|text| (0, text.as_str())).collect();
    assert_eq!(questions(&chain, &service, &calls), calls.len());
}

#[test]
fn a_decision_is_of_one_request_unless_it_is_said_to_be_of_all() {
    let calls = [
        "GET /a HTTP/1.1\nHost: a.test\nAuthorization: x",
        "POST /a HTTP/1.1\nHost: a.test\nAuthorization: x",
        "GET /b HTTP/1.1\nHost: a.test\nAuthorization: x",
        "GET /a? HTTP/1.1\nHost: a.test\nAuthorization: x",
        "GET /a?b HTTP/1.1\nHost: a.test\nAuthorization: x",
        "GET /a HTTP/1.1\nHost: b.test\nAuthorization: x",
    ]
    .map(|text| (0, text));
    let (chain, service) = alone("cache: { key: authorization, for: 10s }");
    assert_eq!(questions(&chain, &service, &calls), calls.len());
    assert_eq!(questions(&chain, &service, &calls), 0);
    let (chain, service) = alone("cache: { key: '${request.header[\"authorization\"]}', for: 10s, any_request: true }");
    assert_eq!(questions(&chain, &service, &calls), 1);
    let times = [9, 10, 11, 19, 20].map(|at| (at, calls[0].1));
    assert_eq!(questions(&chain, &service, &times), 2, "it holds for ten seconds each time");
}

#[test]
fn a_decision_is_of_the_host_and_the_headers_that_the_service_is_told() {
    let ask = |settings: &str, text: &str, others: &[String]| {
        let (chain, service) = alone(settings);
        let asked = |text: &str| {
            service.answer("HTTP/1.1 200 OK");
            let mut exchange = chain.exchange(text);
            exchange.client.trusted = true;
            assert!(chain.inward(&mut exchange).1.is_ok(), "{text}");
            service.asked().len()
        };
        assert_eq!((asked(text), asked(text)), (1, 0), "{settings}");
        for other in others {
            assert_eq!(asked(other), 1, "{settings}: {other}");
        }
    };
    let text = "GET / HTTP/1.1\nHost: a.test\nAuthorization: x\nX-Forwarded-Host: one.test\nX-Tenant: mill";
    ask("cache: { key: authorization, for: 10s }", text, &[text.replace("one.test", "two.test")]);
    let told = "headers: { x-of: '${request.header[\"x-tenant\"]}' }, cache: { key: authorization, for: 10s, any_request: true }";
    ask(told, text, &[text.replace("mill", "bakery"), text.replace("mill", "")]);
}

#[test]
fn a_decision_is_of_the_roles_that_the_service_is_told() {
    let (chain, service) = alone("cache: { key: x-tenant, for: 10s, any_request: true }");
    let asked = |role: &str| {
        service.answer("HTTP/1.1 200 OK");
        let mut exchange = chain.exchange("GET / HTTP/1.1\nHost: a.test\nX-Tenant: mill");
        let roles = vec![role.to_owned()];
        let alice = Identity { subject: "alice".into(), roles, ..Identity::default() };
        assert!(crate::caller::note_identity(&mut exchange, Arc::new(alice)));
        assert!(chain.inward(&mut exchange).1.is_ok());
        service.asked().len()
    };
    assert_eq!((asked("admin"), asked("admin"), asked("reader"), asked("reader")), (1, 0, 1, 0));
}

#[test]
fn refusals_are_kept_for_a_time_of_their_own_and_failures_not_at_all() {
    let (chain, service) = alone("cache: { key: authorization, for: 10s, refused_for: 2s }");
    let at = |seconds: u64| {
        let mut exchange = chain.exchange(GET);
        exchange.times.start = seconds * SECOND;
        (told(chain.inward(&mut exchange).1).0, service.asked().len())
    };
    service.fail("connection refused");
    assert_eq!(at(0), (503, 1));
    service.answer("HTTP/1.1 401 x");
    assert_eq!((at(0), at(1)), ((401, 1), (401, 0)));
    service.answer("HTTP/1.1 200 x\nCache-Control: private, no-store");
    assert_eq!(at(2), (0, 1));
    service.answer("HTTP/1.1 200 x");
    assert_eq!((at(2), at(11)), ((0, 1), (0, 0)));
    service.answer("HTTP/1.1 403 x");
    assert_eq!(at(12), (403, 1));
    assert!(service.is_done());
}

#[test]
fn what_hands_out_a_cookie_or_is_large_is_of_one_call() {
    let (chain, service) = alone("to_client: [set-cookie], cache: { key: authorization, for: 10s }");
    for answer in ["HTTP/1.1 200 x\nSet-Cookie: a=b".to_owned(), format!("HTTP/1.1 200 x\nX: {}", "a".repeat(17 << 10))]
    {
        for _ in 0..2 {
            assert_eq!(ended(&chain, &service, &answer).0, 0);
            assert_eq!(service.asked().len(), 1);
        }
    }
}

#[test]
fn decisions_outlive_a_reload_that_changes_nothing_about_them() {
    let service = Arc::new(Service::default());
    let bench = Bench { world: Arc::clone(&service) as Arc<dyn World>, ..Bench::new(Vec::new()) };
    let build = |settings: &str| {
        bench.build(&format!("{settings}forward_auth: {{ {URL}, cache: {{ key: authorization, for: 10s }} }}"))
    };
    let before = build("").unwrap();
    assert_eq!(questions(&before, &service, &[(0, GET)]), 1);
    let after = build("request_id: {}\n").unwrap();
    assert_eq!(questions(&after, &service, &[(0, GET)]), 0);
    let other = bench
        .build(&format!("forward_auth: {{ {URL}, timeout: 1s, cache: {{ key: authorization, for: 10s }} }}"))
        .unwrap();
    assert_eq!(questions(&other, &service, &[(0, GET)]), 1);
}

/// A service that answers once it is told to.
#[derive(Default)]
struct Slow {
    answer: Arc<Mutex<Option<OutAnswer>>>,
    asked: Mutex<usize>,
}

impl World for Slow {
    fn call(&self, _: OutCall) -> Later<Result<OutAnswer, OutError>> {
        *self.asked.lock().unwrap() += 1;
        let answer = Arc::clone(&self.answer);
        Box::pin(poll_fn(move |_| match &*answer.lock().unwrap() {
            Some(answer) => Poll::Ready(Ok(answer.clone())),
            None => Poll::Pending,
        }))
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

#[test]
fn many_who_wait_for_the_same_ask_once() {
    let slow = Arc::new(Slow::default());
    let bench = Bench { world: Arc::clone(&slow) as Arc<dyn World>, ..Bench::new(Vec::new()) };
    let chain = bench
        .build(&format!("forward_auth: {{ {URL}, pass: [x-user], cache: {{ key: authorization, for: 10s }} }}"))
        .unwrap();
    let mut exchanges: Vec<Exchange> = (0..50).map(|_| chain.exchange(GET)).collect();
    let mut other = chain.exchange(&GET.replace("Bearer 1", "Bearer 2"));
    let mut context = Context::from_waker(Waker::noop());
    {
        let policy = &chain.steps[0].1;
        let mut flows: Vec<_> = exchanges.iter_mut().chain([&mut other]).map(|one| policy.on_request(one)).collect();
        let mut poll = |flow: &mut Flow<'_>| match flow {
            Flow::Now(verdict) => Poll::Ready(verdict.is_ok()),
            Flow::Later(work) => work.as_mut().poll(&mut context).map(|verdict| verdict.is_ok()),
        };
        assert!(flows.iter_mut().all(|flow| poll(flow).is_pending()));
        assert_eq!(*slow.asked.lock().unwrap(), 2, "one question for each caller");
        let fields = vec![("x-user".to_owned(), b"alice".to_vec())];
        *slow.answer.lock().unwrap() = Some(OutAnswer { status: 200, fields, body: Bytes::new() });
        assert!(flows.iter_mut().all(|flow| poll(flow) == Poll::Ready(true)));
    }
    assert_eq!(*slow.asked.lock().unwrap(), 2);
    assert!(exchanges.iter().all(|one| one.request.head.get("x-user") == Some(b"alice")));
}

#[test]
fn where_the_one_who_asks_goes_one_of_those_who_wait_asks_for_all() {
    let slow = Arc::new(Slow::default());
    let bench = Bench { world: Arc::clone(&slow) as Arc<dyn World>, ..Bench::new(Vec::new()) };
    let settings = format!("forward_auth: {{ {URL}, pass: [x-user], cache: {{ key: authorization, for: 10s }} }}");
    let chain = bench.build(&settings).unwrap();
    let mut exchanges: Vec<Exchange> = (0..50).map(|_| chain.exchange(GET)).collect();
    let mut newcomers: Vec<Exchange> = (0..MOST_TURNS).map(|_| chain.exchange(GET)).collect();
    let mut context = Context::from_waker(Waker::noop());
    let policy = &chain.steps[0].1;
    let mut poll = |flow: &mut Flow<'_>| match flow {
        Flow::Now(verdict) => Poll::Ready(verdict.is_ok()),
        Flow::Later(work) => work.as_mut().poll(&mut context).map(|verdict| verdict.is_ok()),
    };
    {
        let mut flows: Vec<_> = exchanges.iter_mut().map(|one| policy.on_request(one)).collect();
        for gone in 1..=MOST_TURNS - 1 {
            assert!(flows.iter_mut().all(|flow| poll(flow).is_pending()));
            assert_eq!(*slow.asked.lock().unwrap(), gone, "one asks at a time");
            // it was the first to be looked at, and so the one who asks
            drop(flows.remove(0));
        }
        assert!(flows.iter_mut().all(|flow| poll(flow).is_pending()));
        assert_eq!(*slow.asked.lock().unwrap(), MOST_TURNS);
        let fields = vec![("x-user".to_owned(), b"alice".to_vec())];
        *slow.answer.lock().unwrap() = Some(OutAnswer { status: 200, fields, body: Bytes::new() });
        assert!(flows.iter_mut().all(|flow| poll(flow) == Poll::Ready(true)));
        assert_eq!(*slow.asked.lock().unwrap(), MOST_TURNS, "the answer is everybody's");
    }
    assert!(exchanges.iter().skip(MOST_TURNS).all(|one| one.request.head.get("x-user") == Some(b"alice")));

    // nor does anybody wait without end for those who begin and leave
    (*slow.asked.lock().unwrap(), *slow.answer.lock().unwrap()) = (0, None);
    let other = GET.replace("Bearer 1", "Bearer 2");
    newcomers.iter_mut().for_each(|one| *one = chain.exchange(&other));
    let mut patient = chain.exchange(&other);
    let mut waits: Option<Flow<'_>> = None;
    let mut patient = Some(&mut patient);
    for (place, newcomer) in newcomers.iter_mut().enumerate() {
        let mut asks = policy.on_request(newcomer);
        assert!(poll(&mut asks).is_pending());
        let waits = waits.get_or_insert_with(|| policy.on_request(patient.take().unwrap()));
        assert!(poll(waits).is_pending());
        assert_eq!(*slow.asked.lock().unwrap(), place + 1);
    }
    assert!(poll(waits.as_mut().unwrap()).is_pending());
    assert_eq!(*slow.asked.lock().unwrap(), MOST_TURNS + 1, "it asks for itself");
}

#[test]
fn settings_that_contradict_themselves_are_refused() {
    let bench = Bench::new(Vec::new());
    for (settings, wanted) in [
        ("", vec!["missing_key"]),
        ("url: ftp://a/", vec!["bad_value"]),
        ("url: http://a/x, style: ext_authz", vec!["bad_value"]),
        ("url: http://a/, style: ext_authz, method: GET", vec!["conflicting_keys"]),
        ("url: http://a/, path_prefix: /x", vec!["conflicting_keys"]),
        ("url: http://a/, style: ext_authz, path_prefix: x/", vec!["bad_value"]),
        ("url: http://a/, ca_file: ca.pem", vec!["conflicting_keys"]),
        ("url: http://a/, send: [connection, x-forwarded-for]", vec!["bad_value", "bad_value"]),
        ("url: http://a/, headers: { transfer-encoding: chunked }", vec!["bad_value"]),
        ("url: http://a/, pass: [x-consumer-name, host, content-length]", vec!["bad_value"; 3]),
        ("url: http://a/, to_client: [connection]", vec!["bad_value"]),
        ("url: http://a/, roles: x-roles", vec!["bad_value"]),
        ("url: http://a/, consumer: x, subject: y", vec!["conflicting_keys"]),
        ("url: http://a/, timeout: 61s", vec!["bad_value"]),
        ("url: http://a/, max_answer: 2MiB", vec!["bad_value"]),
        ("url: http://a/, unavailable: 200", vec!["bad_value"]),
        ("url: http://a/, unavailable: 401", vec!["bad_value"]),
        ("url: http://a/, cache: { for: 1s }", vec!["missing_key"]),
        ("url: http://a/, cache: { key: [], for: 1s }", vec!["bad_value"]),
        ("url: http://a/, cache: { key: 'a b', for: 1s }", vec!["bad_value"]),
        ("url: http://a/, cache: { key: '${request.nothing}', for: 1s }", vec!["bad_value"]),
        ("url: http://a/, cache: { key: a, for: 2h }", vec!["bad_value"]),
        (
            "url: http://a/, cache: { key: a, for: 1s, any_request: true }, upstream: { header: x, among: a }",
            vec!["bad_value"],
        ),
        ("url: http://a/, upstream: { header: x, among: [] }", vec!["bad_value"]),
        ("url: http://a/, headers: { x: '${nothing}' }", vec!["bad_value"]),
    ] {
        let found = bench.errors(&format!("forward_auth: {{ {settings} }}"));
        let codes: Vec<&str> = found.iter().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(codes, wanted, "{settings}: {found:#?}");
    }
}

#[test]
fn explain_says_what_would_be_asked_and_no_secret() {
    let (chain, service) = chain(
        "forward_auth: { url: 'http://auth.internal:9000/check?key=s3cret', headers: { X-Key: s3cret }, pass: [x-user], \
         upstream: { header: x-to, among: orders } }",
    );
    let mut exchange = chain.exchange(&format!("{GET}\nX-User: root"));
    let (outcome, detail) = chain.explain(&mut exchange);
    assert_eq!(outcome, daemun_pipeline::Outcome::Pass);
    assert_eq!(
        detail,
        "would ask `GET http://auth.internal:9000/check`, and go by its answer; it may choose another upstream"
    );
    assert_eq!(exchange.request.head.values("x-user").count(), 0);
    assert!(service.asked().is_empty());
    service.fail("no answer");
    let Err(Stop::Fault(fault)) = chain.inward(&mut chain.exchange(GET)).1 else { panic!("it is refused") };
    assert!(!format!("{fault:?}").contains("s3cret"));
}
