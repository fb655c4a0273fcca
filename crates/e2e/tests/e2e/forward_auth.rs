//! Another service decides about calls: what it is told, what its answers come to, and what happens when it fails or means harm.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use daemun_e2e::gateway::run_command;
use daemun_e2e::http2::{Ending, Http2};
use daemun_e2e::origin::echo;
use daemun_e2e::{Client, Gateway, Next, Origin, Peer, Request, Response, wait_until};

/// A gateway whose calls a service decides about: `settings` of the policy, and upstreams `one` and `two`.
fn gateway(service: &str, one: &Origin, two: &Origin, settings: &str) -> Gateway {
    Gateway::start(&yaml(service, one, two, settings))
}

fn yaml(service: &str, one: &Origin, two: &Origin, settings: &str) -> String {
    format!(
        "workers: 2\nlisteners:\n  - bind: 127.0.0.1:0\nstatus: {{ bind: 127.0.0.1:0 }}\nupstreams:\n  one: {{ targets: [\"{}\"] }}\n  \
         two: {{ targets: [\"{}/base\"] }}\n  closed: {{ targets: [\"http://127.0.0.1:1\"] }}\npolicies:\n  \
         cors: {{ origins: [\"https://shop.test\"] }}\n  forward_auth: {{ url: \"{service}\", {settings} }}\nroutes:\n  \
         - {{ name: all, match: {{ prefix: / }}, upstream: one }}\n  \
         - {{ name: rewritten, match: {{ prefix: /rewritten }}, upstream: one, rewrite: {{ strip_prefix: /rewritten }} }}\n  \
         - {{ name: fixed, match: {{ path: /fixed }}, answer: {{ status: 410 }} }}\n  \
         - {{ name: other, match: {{ path: /never }}, upstream: closed }}\n",
        one.url(),
        two.url()
    )
}

/// A service that answers each question with these bytes.
fn saying(answer: impl Fn(&Request) -> String + Send + Sync + 'static) -> Origin {
    Origin::serve(move |peer, request| if peer.send(answer(request)) { Next::Keep } else { Next::Close })
}

/// An answer with fields, each with its line's end.
fn answer(status: &str, fields: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{fields}Content-Length: 0\r\n\r\n")
}

fn call(gateway: &Gateway, target: &str, fields: &str) -> Response {
    gateway.connect().call(format!("GET {target} HTTP/1.1\r\nHost: e2e.test\r\n{fields}\r\n"))
}

fn reached(origin: &Origin) -> Vec<String> {
    origin.look(|log| log.requests.iter().map(|request| format!("{} {}", request.method, request.target)).collect())
}

#[test]
fn the_service_is_told_which_call_it_is_and_says_who_makes_it() {
    let service = saying(|request| match request.field("authorization") {
        Some("Bearer good") => answer("200 OK", "X-User: alice\r\nX-Roles: a,b\r\nSet-Cookie: seen=1\r\n"),
        Some("Bearer banned") => answer("403 Forbidden", "Set-Cookie: seen=; Max-Age=0\r\n"),
        _ => answer("401 Unauthorized", "WWW-Authenticate: Bearer realm=\"shop\"\r\nWWW-Authenticate: Basic\r\n"),
    });
    let (one, two) = (Origin::echo(), Origin::echo());
    let settings = "pass: [x-user], subject: x-user, roles: x-roles, to_client: [set-cookie], headers: { X-Query: '${request.query[\"a\"]}' }";
    let gateway = gateway(&format!("{}/check?by=gate", service.url()), &one, &two, settings);
    let passed = call(
        &gateway,
        "/a/../items//1?a=%41",
        "Authorization: Bearer good\r\nX-User: root\r\nX_User: root\r\nX-Consumer-Name: root\r\nX-Forwarded-For: 6.6.6.6\r\n\
         X-Original-URI: /fine\r\nConnection: x-user\r\n",
    );
    assert_eq!((passed.status, passed.field("set-cookie")), (200, Some("seen=1")));
    let asked = service.only_request();
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("GET", "/check?by=gate"));
    for (name, value) in [
        ("authorization", "Bearer good"),
        ("x-original-uri", "/items/1?a=%41"),
        ("x-original-method", "GET"),
        ("x-forwarded-uri", "/items/1?a=%41"),
        ("x-forwarded-host", "e2e.test"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-query", "A"),
        ("host", service.url().trim_start_matches("http://")),
    ] {
        assert_eq!(asked.field(name), Some(value), "{}", asked.shown());
    }
    assert!(!asked.has("x-consumer-name") && !asked.shown().contains("6.6.6.6"), "{}", asked.shown());
    let got = one.only_request();
    assert_eq!((got.target.as_str(), got.field("x-user")), ("/items/1?a=%41", Some("alice")));
    assert_eq!((got.field("x-consumer-name"), got.field("x-consumer-roles")), (Some("alice"), Some("a,b")));
    assert_eq!(got.field("x-request-id"), asked.field("x-request-id"), "both are told the same id");
    let refused = call(&gateway, "/", "");
    let challenges: Vec<&str> = refused.head.all("www-authenticate").collect();
    assert_eq!((refused.status, challenges), (401, vec!["Bearer realm=\"shop\"", "Basic"]));
    assert_eq!(refused.field("content-type"), Some("application/problem+json"));
    let banned = call(&gateway, "/", "Authorization: Bearer banned\r\n");
    assert_eq!((banned.status, banned.field("set-cookie")), (403, Some("seen=; Max-Age=0")));
    assert_eq!(reached(&one).len(), 1);
}

#[test]
fn calls_of_every_kind_are_asked_about_and_preflights_are_not() {
    let service = saying(|request| match request.field("x-token") {
        Some("good") => answer("200 OK", ""),
        _ => answer("401 Unauthorized", ""),
    });
    let one = Origin::serve(|peer, request| {
        if request.has("upgrade") {
            peer.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello");
            return Next::Close;
        }
        echo(peer, request)
    });
    let gateway = gateway(&service.url(), &one, &Origin::echo(), "send: [x-token]");
    let preflight = gateway.connect().call(
        "OPTIONS /a HTTP/1.1\r\nHost: e2e.test\r\nOrigin: https://shop.test\r\nAccess-Control-Request-Method: PUT\r\n\r\n",
    );
    assert!(preflight.status < 300, "{}", preflight.status);
    assert_eq!(reached(&service), [""; 0]);
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    for (line, extra, wanted) in [
        ("HEAD /a", "", 200),
        ("OPTIONS /a", "", 200),
        ("POST /a", "Content-Length: 2\r\n", 200),
        ("PROPFIND /a", "", 200),
        ("GET /a", upgrade, 101),
    ] {
        for (token, wanted) in [("good", wanted), ("bad", 401)] {
            let body = if line.starts_with("POST") { "{}" } else { "" };
            let request = format!("{line} HTTP/1.1\r\nHost: e2e.test\r\nX-Token: {token}\r\n{extra}\r\n{body}");
            let answer = gateway.connect().call(request);
            assert_eq!(answer.status, wanted, "{line} {token}");
        }
    }
    let asked = service.look(|log| log.requests.clone());
    assert!(asked.iter().all(|asked| asked.method == "GET" && asked.body.is_empty() && !asked.has("upgrade")));
    assert_eq!(asked.len(), 10);
    assert_eq!(reached(&one).len(), 5, "what is refused does not reach the upstream");
    let mut h2 = Http2::connect(gateway.address());
    let grpc = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/a.B/C"),
        (":authority", "e2e.test"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    h2.headers(1, &grpc, true);
    let Ending::Answer(ended) = h2.ending(1).unwrap() else { panic!("no answer") };
    assert_eq!((ended.field("grpc-status"), ended.status), (Some("16"), 200));
    assert_eq!(reached(&one).len(), 5);
}

/// Services that give no answer that can be gone by: what each does, and whether it is away rather than heard.
fn failing(redirected: &Origin) -> Vec<(&'static str, Origin, bool)> {
    let whole = |text: &'static str| {
        Origin::serve(move |peer, _| {
            peer.send(text);
            Next::Close
        })
    };
    let endless = |piece: &'static [u8], head: &'static str| {
        Origin::serve(move |peer: &mut Peer, _| {
            peer.send(head);
            for _ in 0..100 * 1024 * 1024 / piece.len() {
                if !peer.send(piece) {
                    break;
                }
            }
            Next::Close
        })
    };
    let stalled = |head: &'static str| {
        Origin::serve(move |peer: &mut Peer, _| {
            peer.send(head);
            peer.stall();
            Next::Close
        })
    };
    let megabyte: &'static [u8] = Box::leak(vec![b'a'; 1 << 20].into_boxed_slice());
    let to = redirected.url();
    let redirect = saying(move |_| answer("302 Found", &format!("Location: {to}/let-in\r\n")));
    vec![
        ("stalls at once", stalled(""), true),
        ("stalls in its head", stalled("HTTP/1.1 200 OK\r\nX-User: alice\r\n"), true),
        ("stalls in its body", stalled("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"), false),
        ("closes", whole(""), true),
        ("closes in its head", whole("HTTP/1.1 200 OK\r\nX-User"), true),
        ("closes in its body", whole("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"), false),
        ("talks garbage", whole("200 yes\r\n\r\n"), false),
        ("talks another protocol", whole("220 mail.test ESMTP\r\n"), false),
        ("sends no number", whole("HTTP/1.1 yes OK\r\n\r\n"), false),
        (
            "has a bare CR in a field",
            whole("HTTP/1.1 200 OK\r\nX-User: a\rX-Admin: 1\r\nContent-Length: 0\r\n\r\n"),
            false,
        ),
        ("has a NUL in a field", whole("HTTP/1.1 200 OK\r\nX-User: a\0b\r\nContent-Length: 0\r\n\r\n"), false),
        ("has two lengths", whole("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nhello"), false),
        (
            "says 100 MB and sends them",
            endless(megabyte, "HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n"),
            false,
        ),
        ("sends 100 MB without a length", endless(megabyte, "HTTP/1.1 200 OK\r\n\r\n"), false),
        (
            "sends 100 MB of head",
            endless(b"X-Filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n", "HTTP/1.1 200 OK\r\n"),
            false,
        ),
        ("sends the client away", redirect, false),
        ("fails", saying(|_| answer("500 Internal Server Error", "")), true),
        ("does not know the path", saying(|_| answer("404 Not Found", "")), false),
    ]
}

#[test]
fn a_service_that_fails_in_any_way_lets_nobody_in() {
    let (one, redirected) = (Origin::echo(), Origin::echo());
    let refused = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    for (what, service, _) in &failing(&redirected) {
        let gateway = gateway(&service.url(), &one, &one, "pass: [x-user], timeout: 500ms");
        let before = gateway.resident_kib();
        let refused = call(&gateway, "/", "");
        assert_eq!(refused.status, 503, "a service that {what}: {}", refused.text());
        assert!(refused.json()["type"].as_str().unwrap().ends_with("auth_unavailable"), "{what}");
        assert!(!refused.text().contains("127.0.0.1"), "a client reads no address: {}", refused.text());
        let line = wait_until("the access log tells why", Duration::from_secs(10), || gateway.access_log().pop());
        assert!(line["cause"].as_str().is_some_and(|cause| cause.contains(&service.url())), "{what}: {line}");
        assert_eq!(call(&gateway, "/", "").status, 503, "{what}, asked again");
        let after = gateway.resident_kib();
        assert!(after < before + 50_000, "{what}: from {before} KiB to {after}");
    }
    assert_eq!(reached(&redirected), [""; 0], "nobody follows");
    let gateway = gateway(&format!("http://{refused}"), &one, &one, "unavailable: 403");
    let answer = call(&gateway, "/", "");
    assert_eq!((answer.status, answer.json()["status"].as_u64()), (403, Some(403)));
    // an exchange is counted once its answer is on its way
    wait_until("the metrics tell why", Duration::from_secs(10), || {
        let metrics = gateway.metrics();
        let told = |(name, value): (&String, &f64)| name.contains("auth_unavailable") && *value > 0.0;
        metrics.samples().iter().any(told).then_some(())
    });
    assert_eq!(reached(&one), [""; 0], "nothing reached the upstream");
}

#[test]
fn openness_is_what_was_written_and_nothing_more() {
    let one = Origin::echo();
    let refused = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let open = gateway(&format!("http://{refused}"), &one, &one, "unavailable: allow, pass: [x-user]");
    assert_eq!(call(&open, "/", "X-User: root\r\n").status, 200);
    assert!(!one.only_request().has("x-user"), "nobody said who calls");
    let line = wait_until("the access log says so", Duration::from_secs(10), || open.access_log().pop());
    assert!(line["cause"].as_str().unwrap().starts_with("let in although"), "{line}");
}

#[test]
fn whom_the_service_names_by_the_name_of_a_consumer_is_not_taken_for_it() {
    let service =
        saying(|request| answer("200 OK", &format!("X-Who: {}\r\n", request.field("x-token").unwrap_or("nobody"))));
    let one = Origin::echo();
    let settings = "send: [x-token], subject: x-who";
    let yaml = yaml(&service.url(), &one, &one, settings);
    let gateway = Gateway::start(&format!(
        "{yaml}consumers: [{{ name: shop-app, roles: [admin], keys: [shop-app-key-0123456789] }}]\n"
    ));
    assert_eq!(call(&gateway, "/", "X-Token: alice\r\n").status, 200);
    assert_eq!(one.take().requests.first().unwrap().field("x-consumer-name"), Some("alice"));
    assert_eq!(call(&gateway, "/", "X-Token: shop-app\r\n").status, 401);
    assert_eq!(reached(&one), [""; 0]);
}

#[test]
fn openness_is_for_a_service_that_is_away_and_for_no_other() {
    let (one, redirected) = (Origin::echo(), Origin::echo());
    for (what, service, away) in &failing(&redirected) {
        // one that must be heard has its time, and one that is not has none to lose
        let timeout = if *away && what.starts_with("stalls") { "500ms" } else { "5s" };
        let open = gateway(&service.url(), &one, &one, &format!("unavailable: allow, timeout: {timeout}"));
        assert_eq!(call(&open, "/", "").status, if *away { 200 } else { 503 }, "a service that {what}");
    }
    let body = "a".repeat(70_000);
    let refusals = [
        (format!("HTTP/1.1 403 Forbidden\r\nContent-Length: 70000\r\n\r\n{body}"), 403),
        (format!("HTTP/1.1 401 Unauthorized\r\n\r\n{body}"), 401),
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nab".to_owned(), 403),
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nhello".to_owned(), 503),
        (format!("HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n{body}"), 503),
    ];
    for (text, wanted) in refusals {
        let said = text.clone();
        let service = Origin::serve(move |peer, _| {
            peer.send(&said);
            Next::Close
        });
        for unavailable in ["allow", "503"] {
            let settings = format!("unavailable: {unavailable}, timeout: 60s");
            let answer = call(&gateway(&service.url(), &one, &one, &settings), "/", "");
            assert_eq!(answer.status, wanted, "{unavailable}: {}", &text[..60]);
        }
    }
}

#[test]
fn the_service_chooses_among_the_upstreams_that_it_may_and_reaches_nothing_else() {
    let (one, two, secret) = (Origin::echo(), Origin::echo(), Origin::echo());
    let service = saying(|request| match request.field("x-to") {
        Some(to) => answer("200 OK", &format!("X-New-Api-Url: {to}\r\n")),
        None => answer("200 OK", ""),
    });
    let settings = "upstream: { header: X-New-Api-Url, among: [two] }, timeout: 60s";
    let gateway = gateway(&service.url(), &one, &two, settings);
    let port = two.port();
    let good = [
        ("two".to_owned(), "/items?a=b", "/base/items?a=b"),
        (format!("http://127.0.0.1:{port}/base/v2/items/7?lang=ko"), "/items?a=b", "/base/v2/items/7?lang=ko"),
        (format!("http://127.0.0.1:{port}/base/v2//x/./y"), "/items?a=b", "/base/v2/x/y"),
        (format!("http://127.0.0.1:{port}/base"), "/items?a=b", "/base/"),
        (format!("http://127.0.0.1:{port}"), "/items?a=b", "/base/items?a=b"),
        (format!("http://127.0.0.1:{port}/base/v2"), "/rewritten/items?a=b", "/base/v2"),
        ("two".to_owned(), "/rewritten/items", "/base/items"),
        ("two".to_owned(), "/fixed", "/base/fixed"),
    ];
    let good_calls = good.len() + 2;
    for (to, target, wanted) in good {
        let answer = call(&gateway, target, &format!("X-To: {to}\r\n"));
        assert_eq!((answer.status, answer.text().as_str()), (200, wanted), "{to}");
        assert_eq!(two.take().requests.len(), 1, "{to}");
    }
    assert_eq!(call(&gateway, "/own", "").text(), "/own", "without the header it is the route's own");
    assert_eq!(call(&gateway, "/fixed", "").status, 410, "as well where that is an answer");
    assert_eq!(reached(&one), ["GET /own"]);
    let bad = [
        "one".to_owned(),
        one.url(),
        secret.url(),
        format!("{}/base", secret.url()),
        format!("http://127.0.0.1:{port}/"),
        format!("http://127.0.0.1:{port}/basement"),
        format!("http://127.0.0.1:{port}/base/../../admin"),
        format!("http://127.0.0.1:{port}/base/%2e%2e/admin"),
        format!("http://127.0.0.1:{port}/base/a%2fb"),
        format!("http://127.0.0.1:{port}/base/a b"),
        format!("http://127.0.0.1:{port}@127.0.0.1:{}/", secret.port()),
        format!("http://localhost:{port}/base"),
        format!("https://127.0.0.1:{port}/base"),
        format!("http://[::ffff:127.0.0.1]:{port}/base"),
        format!("http://2130706433:{port}/base"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "unix:/run/x.sock".to_owned(),
        "file:///etc/passwd".to_owned(),
        "/base/items".to_owned(),
    ];
    for to in &bad {
        let answer = call(&gateway, "/items", &format!("X-To: {to}\r\n"));
        assert_eq!(answer.status, 503, "{to}");
    }
    for origin in [&two, &secret] {
        assert_eq!(
            (reached(origin), origin.look(|log| log.accepted > 0 && log.requests.is_empty())),
            (Vec::new(), origin.port() == port)
        );
    }
    assert_eq!(reached(&one), ["GET /own"]);
    let line = wait_until("the last is logged", Duration::from_secs(10), || {
        let log = gateway.access_log();
        (log.len() == good_calls + bad.len()).then(|| log.last().cloned()).flatten()
    });
    assert_eq!((line["path"].as_str(), line["status"].as_u64()), (Some("/items"), Some(503)));
}

#[test]
fn an_upstream_that_may_be_chosen_must_be_there_and_counts_as_used() {
    let (one, two) = (Origin::echo(), Origin::echo());
    let yaml = yaml("http://127.0.0.1:1/check", &one, &two, "upstream: { header: x-to, among: [two, oen] }");
    let folder = daemun_e2e::gateway::Folder::new();
    folder.write("daemun.yaml", yaml.replace("oen", "one"));
    let (code, out, _) = run_command(folder.path(), &["check", "-c", "daemun.yaml"]);
    assert!(code == Some(0) && !out.contains("no route uses"), "{out}");
    let (code, out, _) = run_command(folder.path(), &["explain", "-c", "daemun.yaml", "GET", "http://a.test/items"]);
    assert!(code == Some(0) && out.contains("would ask `GET http://127.0.0.1:1/check`"), "{out}");
    folder.write("daemun.yaml", yaml);
    let (code, out, err) = run_command(folder.path(), &["check", "-c", "daemun.yaml"]);
    assert_eq!(code, Some(1));
    assert!(
        format!("{out}{err}").contains("there is no upstream `oen`") && format!("{out}{err}").contains("`one`"),
        "{out}{err}"
    );
}

#[test]
fn a_crowd_of_one_caller_is_one_question_and_each_caller_has_an_answer_of_their_own() {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let opened = Arc::clone(&gate);
    let service = saying(move |request| {
        let (open, changed) = &*opened;
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        while !*open {
            open = changed.wait(open).unwrap_or_else(PoisonError::into_inner);
        }
        let token = request.field("x-token").unwrap_or_default().to_owned();
        if token == "bad" {
            answer("401 Unauthorized", "")
        } else {
            answer("200 OK", &format!("X-User: user-{token}\r\n"))
        }
    });
    let one = Origin::serve(|peer, request| {
        peer.answer(request.field("x-user").unwrap_or("nobody"));
        Next::Keep
    });
    let settings = "send: [x-token], pass: [x-user], cache: { key: x-token, for: 1h, refused_for: 1h }, timeout: 30s";
    let gateway = gateway(&service.url(), &one, &one, settings);
    let tokens = ["alice", "bob", "bad"];
    let mut clients: Vec<(usize, Client)> = (0..60)
        .map(|n| {
            let mut client = gateway.connect();
            client.send(format!("GET /items HTTP/1.1\r\nHost: e2e.test\r\nX-Token: {}\r\n\r\n", tokens[n % 3]));
            (n % 3, client)
        })
        .collect();
    service.wait("all three are asked about", |log| (log.accepted >= 3).then_some(()));
    *gate.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
    gate.1.notify_all();
    for (which, client) in &mut clients {
        let answer = client.response().unwrap();
        match tokens[*which] {
            "bad" => assert_eq!(answer.status, 401),
            token => assert_eq!((answer.status, answer.text()), (200, format!("user-{token}"))),
        }
    }
    let mut asked: Vec<String> = service
        .look(|log| log.requests.iter().map(|one| one.field("x-token").unwrap_or_default().to_owned()).collect());
    asked.sort();
    assert_eq!(asked, ["alice", "bad", "bob"], "each is asked about once, on whichever worker");
    let without: Vec<u16> = (0..2).map(|_| call(&gateway, "/items", "").status).collect();
    assert_eq!(
        (without, service.look(|log| log.requests.len())),
        (vec![200, 200], 5),
        "calls without a key share nothing"
    );
    assert_eq!(call(&gateway, "/other", "X-Token: alice\r\n").status, 200);
    assert_eq!(service.look(|log| log.requests.len()), 6, "another path is another question");
}

#[test]
fn the_service_of_ext_authz_answers_for_the_gateway() {
    let service = saying(|request| match request.target.as_str() {
        "/check/ok?a=b" => answer("200 OK", "X-User: alice\r\nX-Secret: 1\r\n"),
        "/check/login" => answer(
            "302 Found",
            "Location: https://login.test/\r\nSet-Cookie: back=1\r\nConnection: x-hop\r\nX-Hop: 1\r\n",
        ),
        "/check/created" => answer("201 Created", ""),
        "/check/teapot" => "HTTP/1.1 418 Teapot\r\nContent-Type: text/x-tea\r\nContent-Length: 3\r\n\r\ntea".to_owned(),
        _ => answer("503 Busy", ""),
    });
    let one = Origin::echo();
    let yaml = yaml(&service.url(), &one, &one, "style: ext_authz, path_prefix: /check, pass: [x-user]");
    let gateway = Gateway::start(&yaml);
    let ok =
        gateway.connect().call("PUT /ok?a=b HTTP/1.1\r\nHost: e2e.test\r\nContent-Length: 2\r\nX-User: root\r\n\r\nhi");
    assert_eq!((ok.status, ok.text().as_str()), (200, "hi"));
    let asked = service.only_request();
    assert_eq!((asked.method.as_str(), asked.body.len()), ("PUT", 0), "{}", asked.shown());
    let got = one.only_request();
    assert!(got.field("x-user") == Some("alice") && !got.has("x-secret"), "{}", got.shown());
    let login = call(&gateway, "/login", "");
    assert_eq!((login.status, login.field("location")), (302, Some("https://login.test/")));
    assert_eq!(login.field("set-cookie"), Some("back=1"));
    assert_eq!(call(&gateway, "/created", "").status, 201, "only 200 lets a call in");
    let tea = call(&gateway, "/teapot", "");
    assert_eq!((tea.status, tea.field("content-type"), tea.text().as_str()), (418, Some("text/x-tea"), "tea"));
    let head = gateway.connect().call("HEAD /teapot HTTP/1.1\r\nHost: e2e.test\r\n\r\n");
    assert_eq!((head.status, head.body.len()), (418, 0));
    assert_eq!(call(&gateway, "/busy", "").status, 503);
    assert_eq!(reached(&one), ["PUT /ok?a=b"]);
}

#[test]
fn a_client_that_leaves_while_it_is_asked_about_harms_nobody() {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let opened = Arc::clone(&gate);
    let service = saying(move |_| {
        let (open, changed) = &*opened;
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        while !*open {
            open = changed.wait(open).unwrap_or_else(PoisonError::into_inner);
        }
        answer("200 OK", "")
    });
    let one = Origin::echo();
    let settings = "send: [x-token], cache: { key: x-token, for: 1h }, timeout: 30s";
    let gateway = gateway(&service.url(), &one, &one, settings);
    let ask = "GET /items HTTP/1.1\r\nHost: e2e.test\r\nX-Token: a\r\n\r\n";
    let mut first = gateway.connect();
    first.send(ask);
    service.wait("the first is asked about", |log| (log.accepted > 0).then_some(()));
    let mut second = gateway.connect();
    second.send_apart(ask);
    first.reset();
    *gate.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
    gate.1.notify_all();
    assert_eq!(second.response().unwrap().status, 200);
    assert_eq!(call(&gateway, "/items", "X-Token: a\r\n").status, 200);
}
