//! The status and admin listeners over real sockets, with a gateway that is made up.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test: what fails should end it")]

mod accounts;
mod plans;

use std::future::pending;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daemun_accounts::text::{Digest, digest};
use daemun_accounts::{Accounts, Asked};
use daemun_config::model::{CredentialName, Terms};
use daemun_control::{Source, Waiting, serve_admin, serve_status};
use daemun_dataplane::record::{Finished, Metrics, PolicyVerdict, Recent, RouteCells, Setup};
use daemun_dataplane::{Standing, TargetStatus, Unknown, UpstreamStatus};
use daemun_pipeline::{Exchange, Span};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Notify;

/// The time at the gateway that is made up.
const NOW: u64 = 1_800_000_000_000;

/// A gateway that served three requests.
struct Fake {
    ready: AtomicBool,
    metrics: Arc<Metrics>,
    kept: Vec<Recent>,
    /// Told once the id `id-late` may be found.
    late: Notify,
    drains: AtomicBool,
    accounts: Arc<Accounts>,
    audit: Mutex<Vec<String>>,
    _route: Arc<RouteCells>,
}

impl Fake {
    fn new() -> Arc<Fake> {
        let setup = Setup { workers: 1, policies: vec!["key_auth"], version: "1", commit: "c", started: 1 };
        let (metrics, recorders) = Metrics::new(setup);
        let route = metrics.route("get-item");
        for id in ["id-1", "id-2", "id/3"] {
            let mut exchange = Exchange { id: id.into(), ..Exchange::default() };
            exchange.request.method_span = exchange.request.head.store(b"GET");
            exchange.request.path = exchange.request.head.store(b"/items");
            exchange.request.query = Some(exchange.request.head.store(b"key=secret"));
            exchange.request.host = Span::default();
            recorders[0].finish(&Finished {
                uncalled: None,
                hedged: false,
                fallback: None,
                exchange: &exchange,
                route: Some((&route, "get-item")),
                target: None,
                status: 200,
                fault: None,
                bytes_in: 0,
                bytes_out: 5,
                verdicts: &[(0, PolicyVerdict::Passed)],
                attempts: 0,
                reused: false,
                upgraded: false,
            });
        }
        let kept = recorders[0].latest(10);
        Arc::new(Fake {
            ready: AtomicBool::new(true),
            metrics,
            kept,
            late: Notify::new(),
            drains: AtomicBool::new(false),
            accounts: Arc::new(Accounts::in_memory()),
            audit: Mutex::default(),
            _route: route,
        })
    }
}

impl Source for Fake {
    fn metrics(&self) -> String {
        self.metrics.render()
    }

    fn upstreams(&self) -> Vec<UpstreamStatus> {
        let target = TargetStatus {
            url: "http://10.0.0.1:80".into(),
            standing: Standing::Ejected,
            reason: "5 consecutive failures, 7.2 s left".into(),
            weight: 1,
            tier: 0,
            zone: None,
            in_flight: Some(3),
            ejections: 1,
        };
        let targets = vec![target];
        vec![UpstreamStatus {
            name: "u".into(),
            balance: "latency",
            breaker: Some("open"),
            panic: false,
            may_panic: true,
            finding: None,
            targets,
        }]
    }

    fn drain(&self, upstream: &str, target: &str, on: bool) -> Result<TargetStatus, Unknown> {
        let known = self.upstreams().pop().filter(|own| own.name == upstream).ok_or(Unknown::Upstream)?;
        let mut target = known.targets.into_iter().find(|own| own.url == target).ok_or(Unknown::Target)?;
        self.drains.store(on, Ordering::SeqCst);
        target.standing = if on { Standing::Draining } else { Standing::Healthy };
        Ok(target)
    }

    fn accounts(&self) -> &Arc<Accounts> {
        &self.accounts
    }

    fn declares(&self, consumer: &str) -> bool {
        consumer == "shop-app"
    }

    fn declares_user(&self, name: &str) -> bool {
        name == "ann"
    }

    fn declares_credential(&self, sought: &CredentialName) -> bool {
        match sought {
            CredentialName::Key(sought) => *sought == digest(b"a-key-of-the-file"),
            CredentialName::Basic(username) => username == "a-client-of-the-file",
            CredentialName::Signer(_) | CredentialName::Certificate(..) => false,
        }
    }

    fn plans_of(&self, consumer: &str) -> Vec<String> {
        if self.declares(consumer) { vec!["silver".to_owned()] } else { Vec::new() }
    }

    fn declared(&self, consumer: &str) -> Vec<(CredentialName, Terms)> {
        let key = CredentialName::Key(digest(b"a-key-of-the-file"));
        let terms = Terms { label: Some("old".to_owned()), expires: Some(NOW + 5_000), disabled: false };
        if self.declares(consumer) { vec![(key, terms)] } else { Vec::new() }
    }

    fn now(&self) -> u64 {
        NOW
    }

    fn audit(&self, what: &str) {
        self.audit.lock().unwrap().push(what.to_owned());
    }

    fn ready(&self) -> bool {
        self.ready.load(Ordering::SeqCst)
    }

    fn recent(&self, n: usize) -> Waiting<'_, Vec<Recent>> {
        Box::pin(async move { self.kept.iter().take(n).cloned().collect() })
    }

    fn find<'a>(&'a self, id: &'a [u8]) -> Waiting<'a, Option<Recent>> {
        Box::pin(async move {
            if id == b"id-late" {
                self.late.notified().await;
            }
            self.kept.iter().find(|recent| recent.id() == id).cloned()
        })
    }
}

async fn status(source: &Arc<Fake>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve_status(listener, Arc::clone(source) as Arc<dyn Source>, pending()));
    address
}

async fn admin(source: &Arc<Fake>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve_admin(listener, Arc::clone(source) as Arc<dyn Source>, pending()));
    address
}

/// What came back.
struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    fn of(text: &str) -> Reply {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Reply { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }
}

/// Sends bytes and reads until the end, which comes after one answer.
async fn raw(address: SocketAddr, request: &str) -> Reply {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    Reply::of(&text)
}

async fn ask(address: SocketAddr, line: &str, fields: &str) -> Reply {
    raw(address, &format!("{line} HTTP/1.1\r\nHost: {address}\r\n{fields}\r\n")).await
}

async fn get(address: SocketAddr, path: &str) -> Reply {
    ask(address, &format!("GET {path}"), "").await
}

#[tokio::test]
async fn both_tell_how_upstreams_and_their_targets_stand() {
    let source = Fake::new();
    for address in [status(&source).await, admin(&source).await] {
        let told = get(address, "/upstreams").await.json();
        let upstream = &told["upstreams"][0];
        assert_eq!((&upstream["name"], &upstream["breaker"]), (&"u".into(), &"open".into()));
        let target = &upstream["targets"][0];
        assert_eq!((&target["state"], &target["in_flight"]), (&"ejected".into(), &3.into()));
        assert_eq!(target["reason"], "5 consecutive failures, 7.2 s left");
    }
}

#[tokio::test]
async fn status_tells_metrics_health_and_readiness() {
    let source = Fake::new();
    let address = status(&source).await;
    let metrics = get(address, "/metrics").await;
    assert_eq!(metrics.status, 200);
    assert!(metrics.head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{}", metrics.head);
    assert!(metrics.body.contains("daemun_requests_total{route=\"get-item\",code=\"200\"} 3\n"));
    assert_eq!(get(address, "/healthz").await.body, "ok\n");
    assert_eq!(get(address, "/readyz?verbose").await.status, 200);
    source.ready.store(false, Ordering::SeqCst);
    assert_eq!(get(address, "/readyz").await.status, 503);
    assert_eq!(get(address, "/healthz").await.status, 200);
}

#[tokio::test]
async fn status_is_for_reading_and_tells_nothing_of_single_requests() {
    let source = Fake::new();
    let address = status(&source).await;
    for path in ["/", "/requests", "/requests/id-1", "/metrics/", "/METRICS", "/readyz/x"] {
        assert_eq!(get(address, path).await.status, 404, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "FOO"] {
        let reply = ask(address, &format!("{method} /metrics"), "").await;
        assert_eq!(reply.status, 405, "{method}");
        assert!(reply.head.contains("allow: get, head"));
    }
    // anybody may ask, by whatever name
    assert_eq!(raw(address, "GET /healthz HTTP/1.1\r\nHost: gateway.example\r\n\r\n").await.status, 200);
    assert_eq!(raw(address, "GET /healthz HTTP/1.0\r\n\r\n").await.status, 200);
}

#[tokio::test]
async fn head_is_answered_like_get_without_the_body() {
    let source = Fake::new();
    let address = status(&source).await;
    for path in ["/metrics", "/healthz", "/readyz"] {
        let (get, head) = (get(address, path).await, ask(address, &format!("HEAD {path}"), "").await);
        assert_eq!((head.status, head.body.as_str()), (200, ""));
        assert!(head.head.contains(&format!("content-length: {}", get.body.len())), "{}", head.head);
    }
}

#[tokio::test]
async fn every_answer_keeps_browsers_from_making_more_of_it() {
    let source = Fake::new();
    let (status, admin) = (status(&source).await, admin(&source).await);
    for (address, path) in
        [(status, "/metrics"), (status, "/nothing"), (admin, "/requests"), (admin, "/requests/nothing")]
    {
        let head = get(address, path).await.head;
        for field in [
            "x-content-type-options: nosniff",
            "cache-control: no-store",
            "content-security-policy: default-src 'none'; frame-ancestors 'none'",
            "cross-origin-resource-policy: same-origin",
            "connection: close",
        ] {
            assert!(head.contains(field), "{path}: {field} in {head}");
        }
        assert!(!head.contains("access-control"));
    }
}

#[tokio::test]
async fn admin_tells_recent_requests_and_all_that_status_shows() {
    let source = Fake::new();
    let address = admin(&source).await;
    assert!(get(address, "/metrics").await.body.contains("daemun_workers 1"));
    assert_eq!(get(address, "/readyz").await.status, 200);
    let all = get(address, "/requests").await;
    assert_eq!(all.status, 200);
    assert!(all.head.contains("content-type: application/json"));
    assert!(!all.body.contains("secret"));
    let all = all.json();
    assert_eq!(all["requests"].as_array().unwrap().len(), 3);
    assert_eq!(all["requests"][0]["id"], "id/3");
    assert_eq!(all["requests"][0]["path"], "/items?key=***");
    assert_eq!(get(address, "/requests?limit=2").await.json()["requests"].as_array().unwrap().len(), 2);
    let one = get(address, "/requests/id-2").await.json();
    assert_eq!(
        (one["id"].as_str(), one["route"].as_str(), one["status"].as_u64()),
        (Some("id-2"), Some("get-item"), Some(200))
    );
    assert_eq!(get(address, "/requests/id%2F3").await.json()["id"], "id/3");
    assert_eq!(get(address, "/requests/id-4").await.status, 404);
    assert_eq!(get(address, "/requests/id-4").await.json()["status"], 404);
    for (path, status) in [
        ("/requests?limit=0", 400),
        ("/requests?limit=1001", 400),
        ("/requests/%zz", 400),
        ("/requests/a/b", 404),
        ("/requests/", 404),
        ("/requestsX", 404),
        ("/", 404),
    ] {
        assert_eq!(get(address, path).await.status, status, "{path}");
    }
    assert_eq!(ask(address, "POST /requests", "Content-Length: 0\r\n").await.status, 405);
    assert_eq!(ask(address, "DELETE /requests/id-2", "").await.status, 405);
}

#[tokio::test]
async fn admin_answers_only_requests_that_name_this_machine() {
    let source = Fake::new();
    let address = admin(&source).await;
    let named = |host: String| async move {
        raw(address, &format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n")).await.status
    };
    assert_eq!(named(format!("localhost:{}", address.port())).await, 200);
    assert_eq!(named(format!("[::1]:{}", address.port())).await, 200);
    assert_eq!(named(format!("rebound.example:{}", address.port())).await, 421);
    assert_eq!(named("localhost:1".into()).await, 421);
    assert_eq!(raw(address, "GET /metrics HTTP/1.0\r\n\r\n").await.status, 421);
    assert_eq!(
        raw(address, &format!("GET http://rebound.example/metrics HTTP/1.1\r\nHost: {address}\r\n\r\n")).await.status,
        421
    );
    assert_eq!(ask(address, "GET /requests", "Origin: http://rebound.example\r\n").await.status, 403);
    assert_eq!(ask(address, "GET /requests", &format!("Origin: http://{address}\r\n")).await.status, 200);
    assert_eq!(ask(address, "GET /requests", "Sec-Fetch-Site: cross-site\r\n").await.status, 403);
}

/// The one target there is, as a path.
const DRAIN: &str = "/upstreams/u/targets/http%3A%2F%2F10.0.0.1%3a80/drain";

#[tokio::test]
async fn admin_drains_a_target_and_lets_it_be_called_again() {
    let source = Fake::new();
    let address = admin(&source).await;
    for (method, state) in [("PUT", "draining"), ("PUT", "draining"), ("DELETE", "healthy"), ("DELETE", "healthy")] {
        let reply = ask(address, &format!("{method} {DRAIN}"), "").await;
        assert_eq!((reply.status, reply.json()["state"].as_str()), (200, Some(state)), "{method}");
        assert_eq!(reply.json()["url"], "http://10.0.0.1:80");
        assert_eq!(source.drains.load(Ordering::SeqCst), method == "PUT");
    }
    assert_eq!(ask(address, &format!("PUT {DRAIN}"), "Content-Length: 0\r\n").await.status, 200);
}

#[tokio::test]
async fn a_drain_that_is_not_meant_or_not_understood_changes_nothing() {
    let source = Fake::new();
    let (address, status) = (admin(&source).await, status(&source).await);
    let mut refused = vec![(status, format!("PUT {DRAIN}"), String::new(), 404)];
    for (line, code) in [
        (format!("GET {DRAIN}"), 405),
        (format!("HEAD {DRAIN}"), 405),
        (format!("POST {DRAIN}"), 405),
        (format!("PATCH {DRAIN}"), 405),
        (format!("OPTIONS {DRAIN}"), 405),
        (format!("PUT {DRAIN}?on=false"), 400),
        ("PUT /upstreams/u/targets/http://10.0.0.1:80/drain".into(), 400),
        ("PUT /upstreams/u/targets/http%3A%2F%2F10.0.0.1%3/drain".into(), 400),
        ("PUT /upstreams/u/targets/%ff/drain".into(), 400),
        ("PUT /upstreams/v/targets/http%3A%2F%2F10.0.0.1%3A80/drain".into(), 404),
        ("PUT /upstreams/u/targets/http%3A%2F%2F10.0.0.1%3A81/drain".into(), 404),
        ("PUT /upstreams/u/targets//drain".into(), 404),
        ("PUT /upstreams/u/drain".into(), 404),
        (format!("PUT {DRAIN}/"), 404),
        ("PUT /upstreams".into(), 405),
    ] {
        refused.push((address, line, String::new(), code));
    }
    // what a page in a browser on this machine could send, a name of its own that points here among it
    for (fields, code) in [
        ("Origin: http://evil.example\r\n", 403),
        ("Origin: null\r\n", 403),
        ("Origin: http://localhost:3000\r\n", 403),
        ("Sec-Fetch-Site: cross-site\r\n", 403),
        ("Sec-Fetch-Site: same-site\r\n", 403),
        ("Content-Length: 2\r\n\r\n{}", 400),
        ("Transfer-Encoding: chunked\r\n\r\n0\r\n", 400),
    ] {
        refused.push((address, format!("PUT {DRAIN}"), fields.into(), code));
    }
    for (to, line, fields, code) in refused {
        let reply = ask(to, &line, &fields).await;
        assert_eq!(reply.status, code, "{line} {fields}");
        assert!(!source.drains.load(Ordering::SeqCst), "{line} {fields}");
    }
    let rebound = format!("PUT {DRAIN} HTTP/1.1\r\nHost: rebound.example:{}\r\n\r\n", address.port());
    assert_eq!(raw(address, &rebound).await.status, 421);
    assert!(!source.drains.load(Ordering::SeqCst));
    assert!(ask(address, &format!("GET {DRAIN}"), "").await.head.contains("allow: put, delete"));
}

#[tokio::test]
async fn admin_refuses_to_listen_where_others_reach_it() {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let error = serve_admin(listener, Fake::new() as Arc<dyn Source>, pending()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}

#[tokio::test]
async fn both_listen_on_unix_sockets_too() {
    let source = Fake::new();
    let path = std::env::temp_dir().join(format!("daemun-control-{}.sock", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(serve_admin(listener, source as Arc<dyn Source>, pending()));
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream.write_all(b"GET /requests/id-1 HTTP/1.1\r\nHost: whatever\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    std::fs::remove_file(path).unwrap();
    assert_eq!(Reply::of(&text).json()["id"], "id-1");
}

#[tokio::test]
async fn slow_callers_keep_nobody_out() {
    let source = Fake::new();
    let address = status(&source).await;
    let mut slow = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /metr").await.unwrap();
        slow.push(stream);
    }
    for _ in 0..3 {
        assert_eq!(get(address, "/healthz").await.status, 200);
    }
    // the oldest made room
    let mut byte = [0];
    assert!(matches!(slow[0].read(&mut byte).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn a_call_whose_answer_is_on_its_way_makes_no_room_for_those_that_ask_nothing() {
    let source = Fake::new();
    let address = admin(&source).await;
    let mut early = TcpStream::connect(address).await.unwrap();
    early.write_all(format!("GET /requests/id-late HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes()).await.unwrap();
    // it is known to have asked by when a later one is answered
    assert_eq!(get(address, "/healthz").await.status, 200);
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    assert_eq!(get(address, "/healthz").await.status, 200);
    source.late.notify_one();
    let mut text = String::new();
    early.read_to_string(&mut text).await.unwrap();
    assert_eq!(Reply::of(&text).status, 404);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_come_ends_the_connection() {
    let source = Fake::new();
    let address = status(&source).await;
    for begun in ["", "GET /metrics HTTP/1.1\r\nHost: x\r\n"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(begun.as_bytes()).await.unwrap();
        let mut text = Vec::new();
        // the runtime's clock leaps ahead while everything waits
        let ended = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut text)).await;
        assert!(ended.is_ok(), "after {begun:?}");
    }
}

#[tokio::test]
async fn what_is_too_large_or_malformed_is_refused() {
    let source = Fake::new();
    let address = status(&source).await;
    let large = format!("X: {}\r\n", "x".repeat(40_000));
    let many: String = (0..100).map(|n| format!("X-{n}: 1\r\n")).collect();
    for fields in [large, many] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
        let _ = stream.write_all(request.as_bytes()).await;
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text).await;
        assert!(text.is_empty() || text.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&text));
    }
    assert_eq!(raw(address, "nonsense\r\n\r\n").await.status, 400);
    assert_eq!(get(address, "/healthz").await.status, 200);
}

#[tokio::test]
async fn calls_that_are_under_way_are_answered_before_the_listener_ends() {
    let source = Fake::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(serve_status(listener, source as Arc<dyn Source>, async move { drop(stopped.await) }));
    let mut idle = TcpStream::connect(address).await.unwrap();
    let mut begun = TcpStream::connect(address).await.unwrap();
    begun.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
    // both are known by when a later one is answered
    assert_eq!(get(address, "/healthz").await.status, 200);
    drop(stop);
    // nothing was asked on it
    assert!(matches!(idle.read(&mut [0]).await, Ok(0) | Err(_)));
    assert!(TcpStream::connect(address).await.is_err(), "the listener is closed");
    assert!(!server.is_finished());
    begun.write_all(b"Host: x\r\n\r\n").await.unwrap();
    let mut text = String::new();
    begun.read_to_string(&mut text).await.unwrap();
    assert_eq!(Reply::of(&text).body, "ok\n");
    server.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_call_that_never_ends_does_not_keep_the_listener() {
    let source = Fake::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(serve_status(listener, source as Arc<dyn Source>, async move { drop(stopped.await) }));
    let mut begun = TcpStream::connect(address).await.unwrap();
    begun.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
    drop(stop);
    tokio::time::timeout(Duration::from_secs(6), server).await.unwrap().unwrap();
}
