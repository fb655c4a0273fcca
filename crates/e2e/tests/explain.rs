//! What `explain` says is what the gateway does: each generated request is explained and sent through a running gateway, over TLS or
//! not, by a proxy that is trusted or by anybody; the route, the
//! verdicts, the status and, byte for byte, the head the upstream received must agree.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests are tests")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daemun_config::{Diagnostics, PolicyDescription, System, Vocabulary, load_text};
use daemun_dataplane::explain::{ExplainRequest, Explained, explain_with};
use daemun_dataplane::record::{Metrics, Setup};
use daemun_dataplane::{Clock, Gateway, IdSource, Ids, Options, Snapshot, Socket, Sockets};
use daemun_e2e::wire::Stream;
use daemun_e2e::{Certificates, TlsClient};
use daemun_pipeline::{Carry, Outcome, PolicyRow};
use proptest::prelude::*;
use rustix::net::{AddressFamily, SocketType, bind, socket};

const CONFIG: &str = r#"
listeners:
  - { bind: "127.0.0.1:0" }
  - { bind: "127.0.0.1:0", tls: { certificates: [{ CERTIFICATE }] } }
access_log: off
trusted_proxies: [127.0.0.2, 127.0.0.4]
upstreams:
  plain: { targets: ["http://ORIGIN"] }
  based: { targets: ["http://ORIGIN/base"], host: target }
  many: { targets: ["http://ORIGIN"], protocol: h2c }
policies:
  cors: { origins: ["https://shop.example.com"] }
  rate_limit: { limit: 1000000/s, burst: 1000000, by: client_ip }
routes:
  - name: item
    match: { hosts: [api.example.com], path: "/items/{id}", methods: [GET, POST] }
    upstream: plain
    rewrite: { path: "/v2/{id}", query: { set: { from: gate }, remove: [secret] } }
  - name: files
    match: { hosts: [api.example.com, "*.example.com"], path: "/files/{*rest}" }
    upstream: based
    policies:
      headers: { request: { set: { X-Stage: test }, remove: [X-Drop] }, response: { set: { X-Seen: "1" } } }
  - name: locked
    match: { prefix: /locked }
    upstream: plain
    rewrite: { strip_prefix: /locked }
    policies:
      key_auth: { header: X-Api-Key, query: key }
      rate_limit: { limit: 1000000/s, burst: 1000000, by: consumer }
  - name: any
    match: { path: /any }
    upstream: plain
    policies:
      key_auth: { header: X-Api-Key, authorization: Bearer, forward: true }
      basic_auth: { }
      jwt: { keys: { secret: correct horse battery staple 4711 }, audience: off, from: [{ cookie: session }] }
      cors: off
      headers: { request: { add: { X-Stage: any } } }
    authenticate: { any: [key_auth, basic_auth, jwt] }
  - name: all
    match: { path: /all }
    upstream: based
    policies:
      key_auth: { query: key }
      rate_limit:
        - { limit: 1000000/s, burst: 1000000, by: consumer }
        - { limit: 1000000/s, burst: 1000000, by: route, name: whole }
      headers: { request: { remove: [Cookie] } }
    authenticate: { all: [key_auth] }
  - name: office
    match: { path: /office, client_ip: [10.0.0.0/8, 127.0.0.4] }
    upstream: plain
    policies: { rate_limit: off }
  - name: open
    match: { path: /office }
    answer: { status: 202, body: elsewhere }
    policies: { cors: off }
  - name: korean
    match: { prefix: /where, headers: { x-country: KR }, query: { page: ["1", "2"] } }
    upstream: plain
  - name: small
    match: { path: /small }
    upstream: plain
    limits: { body: 4B }
    upgrades: [websocket, chat]
  - name: fixed
    match: { path: /fixed }
    upstream: plain
    upgrades: []
  - name: many
    match: { path: /many }
    upstream: many
    upgrades: [chat]
  - name: where
    match: { prefix: /where }
    answer: { status: 203, body: elsewhere }
  - name: moved
    match: { path: /old }
    redirect: { to: "https://new.example.com/{path}", status: 301 }
consumers:
  - { name: shop-app, roles: [buyer], keys: ["k-0123456789abcdef"] }
"#;

struct Rig {
    plain: SocketAddr,
    secure: SocketAddr,
    client: TlsClient,
    _certificates: Certificates,
    gateway: Gateway,
    snapshot: Arc<Snapshot>,
    ids: Ids,
    clock: Clock,
    received: Receiver<Vec<u8>>,
    runtime: tokio::runtime::Runtime,
}

fn rig() -> Rig {
    let (sender, received) = sync_channel(16);
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let certificates = Certificates::new();
    certificates.issue("a", "ca", "DNS:a.test");
    let config = CONFIG.replace("ORIGIN", &origin.local_addr().unwrap().to_string());
    let config = config.replace("CERTIFICATE", &certificates.pair("a"));
    std::thread::spawn(move || {
        for stream in origin.incoming().flatten() {
            let sender = sender.clone();
            std::thread::spawn(move || serve(stream, &sender));
        }
    });
    let policies: Vec<PolicyDescription> = daemun_policies::REGISTRY.iter().map(PolicyRow::describe).collect();
    let loaded = load_text("explain.yaml".as_ref(), &config, &System, &Vocabulary { policies: &policies });
    let config = loaded.config.unwrap_or_else(|| panic!("{}", loaded.diagnostics.render(&loaded.sources, false)));
    let names = daemun_policies::REGISTRY.iter().map(|row| row.name).collect();
    let setup = Setup { workers: 1, policies: names, version: "test", commit: "test", started: 0 };
    let (metrics, recorders) = Metrics::new(setup);
    let mut diagnostics = Diagnostics::new();
    let compiled = Snapshot::compile(
        &config,
        daemun_policies::REGISTRY,
        &Carry::detached(),
        &daemun_pipeline::Nowhere::shared(),
        &metrics,
        &mut diagnostics,
    );
    let snapshot = Arc::new(compiled.unwrap_or_else(|| panic!("{}", diagnostics.render(&loaded.sources, false))));
    let listen = |name: &str| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (address, Sockets { name: name.into(), sockets: vec![Socket::Tcp(listener)] })
    };
    let ((plain, first), (secure, second)) = (listen("127.0.0.1:0"), listen("127.0.0.1:0#1"));
    let sockets = vec![vec![first, second]];
    let clock = Clock::system();
    let options = Options { clock: clock.clone(), ids: IdSource::fixed(11), recorders };
    let gateway = Gateway::start(Arc::clone(&snapshot), sockets, options).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let client = certificates.client(None, &["http/1.1"], &[&rustls::version::TLS13]);
    let ids = IdSource::fixed(11).worker(0);
    Rig { plain, secure, client, _certificates: certificates, gateway, snapshot, ids, clock, received, runtime }
}

fn serve(mut stream: TcpStream, sender: &std::sync::mpsc::SyncSender<Vec<u8>>) {
    let mut buf = Vec::new();
    while let Some(end) = head_end(&mut stream, &mut buf) {
        let head: Vec<u8> = buf.drain(..end).collect();
        let text = String::from_utf8_lossy(&head).into_owned();
        sender.send(head).unwrap();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        while buf.len() < length {
            read_more(&mut stream, &mut buf).unwrap();
        }
        buf.drain(..length);
        if text.contains("transfer-encoding: chunked") {
            // the last chunk ends like a head
            head_end(&mut stream, &mut buf).map(|end| buf.drain(..end));
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
    }
}

fn head_end(stream: &mut impl Read, buf: &mut Vec<u8>) -> Option<usize> {
    loop {
        if let Some(end) = buf.windows(4).position(|w| w == b"\r\n\r\n") {
            return Some(end + 4);
        }
        read_more(stream, buf)?;
    }
}

/// `None` at the end of the stream.
fn read_more(stream: &mut impl Read, buf: &mut Vec<u8>) -> Option<()> {
    let mut piece = [0u8; 4096];
    let n = stream.read(&mut piece).ok().filter(|n| *n > 0)?;
    buf.extend_from_slice(&piece[..n]);
    Some(())
}

/// Fields of which each request has some.
const FIELDS: &[&str] = &[
    "X-Country: KR",
    "X-Country: US",
    "X-Api-Key: k-0123456789abcdef",
    "X-Api-Key: wrong-wrong-wrong",
    "X-Drop: me",
    "Origin: https://shop.example.com",
    "Access-Control-Request-Method: GET",
    "Origin: https://shop.example.com\r\nAccess-Control-Request-Method: POST",
    "X-Consumer-Name: forged",
    "x_consumer_name: forged",
    "Connection: close, X-Drop",
    "Connection: keep-alive",
    "Authorization: Bearer k-0123456789abcdef",
    "Authorization: Basic eA==",
    "X-Forwarded-For: 9.9.9.9",
    "X-Forwarded-For: 10.1.2.3",
    "X-Forwarded-For: 9.9.9.9, 10.1.2.3, 127.0.0.4",
    "X-Forwarded-For: 2001:db8::1",
    "X-Forwarded-For: unknown, 10.1.2.3:80",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: api.example.com",
    "X-Forwarded-Port: 8443",
    "Forwarded: for=10.1.2.3;proto=https;host=other.test",
    "X-Real-IP: 10.1.2.3",
    "Via: 1.0 before",
    "TE: trailers",
    "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate: a=b",
    "X-Request-Id: mine",
    "Accept: */*",
    "Upgrade: websocket",
    "Upgrade: websocket\r\nConnection: Upgrade",
    "Upgrade: WebSocket\r\nConnection: keep-alive, upgrade\r\nSec-WebSocket-Version: 13",
    "Upgrade: chat\r\nConnection: upgrade",
    "Upgrade: h2c, websocket\r\nConnection: upgrade",
    "Content-Type: application/grpc",
    "Bad Name: x",
    "Proxy-Authorization: Basic eA==",
    "Cookie: a=b; c=d",
    "Expect: 100-continue",
];

fn request() -> impl Strategy<Value = Vec<u8>> {
    let method = prop::sample::select(vec!["GET", "HEAD", "POST", "PUT", "OPTIONS", "DELETE"]);
    let host =
        prop::sample::select(vec!["api.example.com", "API.example.com:8080", "x.example.com", "other.test", "a..b"]);
    let path = prop::sample::select(vec![
        "/items/1",
        "/items/%41",
        "/items/a%2Fb",
        "/items//1",
        "/items/1;v=2",
        "/items/",
        "/files/",
        "/files/a/b.txt",
        "/files/../files/c",
        "/files/%2e%2e/x",
        "/locked",
        "/locked/a",
        "/lockedX",
        "/where",
        "/where/ever",
        "/small",
        "/small",
        "/any",
        "/all",
        "/office",
        "/office",
        "/fixed",
        "/old",
        "/",
        "/nope",
        "/files/%zz",
        "/files/a\\b",
    ]);
    let query = prop::sample::select(vec![
        "",
        "?page=1",
        "?page=3",
        "?secret=s&a=b",
        "?key=k-0123456789abcdef&x=1",
        "?a&&b",
        "?x=%20+y",
    ]);
    let fields = prop::collection::vec(prop::sample::select(FIELDS.to_vec()), 0..6);
    let body = prop::sample::select(vec![
        ("", ""),
        ("", ""),
        ("", ""),
        ("Content-Length: 0\r\n", ""),
        ("Content-Length: 4\r\n", "four"),
        ("Content-Length: 5\r\n", "fives"),
        ("Content-Length: 10485761\r\n", ""),
        ("Content-Length: 99999999999999999999999999\r\n", ""),
        ("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"),
    ]);
    (method, host, path, query, fields, body).prop_map(|(method, host, path, query, fields, (framing, body))| {
        let mut text = format!("{method} {path}{query} HTTP/1.1\r\nHost: {host}\r\n");
        for field in fields {
            text.push_str(field);
            text.push_str("\r\n");
        }
        text.push_str(framing);
        text.push_str("\r\n");
        text.push_str(body);
        text.into_bytes()
    })
}

/// How a request comes: from which loopback address, and whether over TLS.
fn way() -> impl Strategy<Value = (Ipv4Addr, bool)> {
    let peer =
        prop::sample::select(vec![Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3)]);
    (peer, any::<bool>())
}

/// A connection from this address.
fn connect(peer: Ipv4Addr, address: SocketAddr) -> TcpStream {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::from((peer, 0))).unwrap();
    rustix::net::connect(&socket, &address).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Status, and request id, of the answer on a connection of its own.
fn send(rig: &Rig, (peer, tls): (Ipv4Addr, bool), head: &[u8]) -> (u16, String) {
    let plain = Stream::Tcp(connect(peer, if tls { rig.secure } else { rig.plain }));
    let mut stream = if tls { rig.client.try_over(plain, "a.test").unwrap() } else { plain };
    // a gateway that refuses the head may be gone before the body is written
    let _ = stream.write_all(head);
    let mut buf = Vec::new();
    let mut end = 0;
    while end == 0 || buf.starts_with(b"HTTP/1.1 100 ") {
        buf.drain(..end);
        end =
            head_end(&mut stream, &mut buf).unwrap_or_else(|| panic!("no answer to {}", String::from_utf8_lossy(head)));
    }
    let text = String::from_utf8_lossy(&buf).into_owned();
    let status = text.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap();
    let id = text.lines().find_map(|l| l.strip_prefix("x-request-id: ")).unwrap_or_default().to_owned();
    (status, id)
}

fn expected_status(explained: &Explained) -> u16 {
    let refused = explained.verdicts.iter().find_map(|(_, e)| match e.outcome {
        Outcome::Pass | Outcome::Skip => None,
        Outcome::Answer(status) | Outcome::Refuse(status, _) => Some(status),
    });
    refused.or(explained.status).unwrap_or(200)
}

fn check(rig: &mut Rig, way: (Ipv4Addr, bool), head: &[u8]) {
    let (peer, tls) = way;
    let request = ExplainRequest { head: head.to_vec(), peer: peer.into(), tls, ids: IdSource::fixed(11) };
    let explained = explain_with(&rig.snapshot, &request, &mut rig.ids, &rig.clock);
    let (status, id) = send(rig, way, head);
    let shown = format!("{way:?} {}", String::from_utf8_lossy(head));
    assert_eq!(status, expected_status(&explained), "status of\n{shown}\n{explained:?}");
    let sent = rig.received.try_recv().ok();
    assert_eq!(
        sent.as_deref().map(String::from_utf8_lossy),
        explained.upstream_head.as_deref().map(String::from_utf8_lossy),
        "upstream head of\n{shown}"
    );
    let Some(recent) = rig.runtime.block_on(rig.gateway.find(id.as_bytes())) else {
        assert!(explained.route.is_none(), "no record of\n{shown}");
        return;
    };
    let mut json = Vec::new();
    recent.write_json(&mut json);
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["route"].as_str(), explained.route.as_deref(), "route of\n{shown}\n{json}");
    let verdicts: Vec<&str> =
        json["policies"].as_array().into_iter().flatten().filter_map(|v| v["policy"].as_str()).collect();
    let explained_names: Vec<&str> = explained.verdicts.iter().map(|(name, _)| *name).collect();
    assert_eq!(verdicts, explained_names, "policies of\n{shown}\n{json}");
}

#[test]
fn explain_and_the_running_gateway_agree() {
    let rig = Mutex::new((rig(), 0));
    proptest!(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() }, |(way in way(), head in request())| {
        let (rig, count) = &mut *rig.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *count += 1;
        // an id that is taken over must name one request
        let head = String::from_utf8(head).unwrap().replace("X-Request-Id: mine", &format!("X-Request-Id: mine{count}"));
        check(rig, way, head.as_bytes());
    });
}

#[test]
fn an_upgrade_over_http2_is_refused_as_by_the_gateway_and_a_preflight_is_found_by_what_it_announces() {
    let mut rig = rig();
    let mut explained = |head: &str| {
        let peer = "127.0.0.1".parse().unwrap();
        let request = ExplainRequest { head: head.as_bytes().to_vec(), peer, tls: false, ids: IdSource::fixed(11) };
        explain_with(&rig.snapshot, &request, &mut rig.ids, &rig.clock)
    };
    let refused = explained("GET /many HTTP/1.1\r\nHost: a\r\nUpgrade: chat\r\nConnection: upgrade\r\n\r\n");
    assert_eq!(refused.fault.map(|fault| fault.reason.code()), Some("upgrade_refused"));
    let passed = explained("GET /many HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(passed.over_http2 && passed.upstream_head.is_some());

    let origin = "Host: api.example.com\r\nOrigin: https://shop.example.com\r\nAccess-Control-Request-Method: GET";
    let preflight = explained(&format!("OPTIONS /items/1 HTTP/1.1\r\n{origin}\r\n\r\n"));
    assert_eq!((preflight.route.as_deref(), preflight.preflight.as_deref()), (Some("item"), Some("GET")));
    let taken: Vec<_> = preflight.considered.unwrap().considered;
    assert_eq!(taken[0].verdict, daemun_dataplane::router::Verdict::Taken, "{taken:?}");
    let plain = explained("OPTIONS /items/1 HTTP/1.1\r\nHost: api.example.com\r\n\r\n");
    assert_eq!((plain.status, plain.preflight), (Some(405), None));
}
