//! Targets are found while the gateway runs: by a file, a web server, a name, Consul and Kubernetes, each scripted after the published
//! form of its answers.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use daemun_e2e::gateway::Folder;
use daemun_e2e::origin::serving;
use daemun_e2e::wait::PATIENCE;
use daemun_e2e::{Certificates, Gateway, Next, Origin, Peer, Request, wait_until};
use serde_json::{Value, json};

fn configuration(discover: &str) -> String {
    format!(
        "workers: 2\naccess_log: off\nlisteners: [{{ bind: 127.0.0.1:0 }}]\n\
         upstreams:\n  u:\n    discover:\n      {discover}\n\
         routes: [{{ name: a, upstream: u }}]\n"
    )
}

/// Who answers so many calls, each once.
pub(crate) fn answering(gateway: &Gateway) -> Vec<String> {
    let mut client = gateway.connect();
    let shown =
        |answer: daemun_e2e::Response| if answer.status == 200 { answer.text() } else { answer.status.to_string() };
    let mut who: Vec<String> = (0..8).map(|_| shown(client.get("/x"))).collect();
    who.sort();
    who.dedup();
    who
}

pub(crate) fn until_answering(gateway: &Gateway, who: &[&str]) {
    let what = format!("calls are answered by {who:?} alone");
    wait_until(&what, PATIENCE, || (answering(gateway) == who).then_some(()));
}

pub(crate) fn until_told(gateway: &Gateway, text: &str) {
    wait_until(&format!("it says `{text}`"), PATIENCE, || gateway.stderr().contains(text).then_some(()));
}

fn json_answer(peer: &mut Peer, status: &str, fields: &str, body: &str) -> Next {
    peer.send(format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{fields}Content-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    Next::Keep
}

#[test]
fn a_file_that_lists_targets_is_followed_and_a_bad_one_changes_nothing() {
    let (first, second) = (Origin::named("a"), Origin::named("b"));
    let folder = Folder::new();
    let path = folder.write("targets.yaml", format!("- {}\n", first.url()));
    let gateway = Gateway::start(&configuration(&format!("file: {{ path: {} }}", path.display())));
    assert_eq!(answering(&gateway), ["a"]);
    folder.write("targets.yaml", format!("- {}\n- {{ url: {}, weight: 2 }}\n", first.url(), second.url()));
    until_answering(&gateway, &["a", "b"]);
    folder.write("targets.yaml", "- not a target\n");
    until_told(
        &gateway,
        "line 1, column 3: `not a target` is not the address of a target: it has no scheme; the last 2 stay",
    );
    assert_eq!(answering(&gateway), ["a", "b"]);
    folder.write("targets.yaml", format!("[\"{}\"]", second.url()));
    until_answering(&gateway, &["b"]);
    folder.write("targets.yaml", "[]");
    until_told(&gateway, "`u` has no target any more by `file`; the last 1 stay");
    assert_eq!(answering(&gateway), ["b"]);
    assert!(gateway.stderr().contains("`u` has 1 target by `file`, which answers again"));
}

#[test]
fn a_list_that_is_empty_takes_all_away_where_that_is_wanted() {
    let first = Origin::named("a");
    let folder = Folder::new();
    let path = folder.write("targets.json", format!("[\"{}\"]", first.url()));
    let gateway = Gateway::start(&configuration(&format!("file: {{ path: {}, when_empty: clear }}", path.display())));
    assert_eq!(answering(&gateway), ["a"]);
    folder.write("targets.json", "[]");
    until_answering(&gateway, &["503"]);
    until_told(&gateway, "`u` has no target any more by `file`: calls get 503");
}

#[test]
fn a_web_server_is_asked_for_a_list_again_only_when_it_has_changed() {
    let (first, second) = (Origin::named("a"), Origin::named("b"));
    let list = Arc::new(Mutex::new((format!("[\"{}\"]", first.url()), "200 OK")));
    let own = Arc::clone(&list);
    let server = Origin::serve(move |peer, request| {
        assert_eq!(request.field("authorization"), Some("Bearer of-the-inventory"));
        let (text, status) = own.lock().unwrap().clone();
        let tag = format!("\"{}\"", text.len() * 7 % 1_000);
        if request.field("if-none-match") == Some(&tag) && status.starts_with("200") {
            peer.send(format!("HTTP/1.1 304 Not Modified\r\nETag: {tag}\r\n\r\n"));
            return Next::Keep;
        }
        json_answer(peer, status, &format!("ETag: {tag}\r\n"), &text)
    });
    let discover = format!(
        "http: {{ url: \"{}/targets?of=u\", interval: 100ms, headers: {{ authorization: Bearer of-the-inventory }} }}",
        server.url()
    );
    let gateway = Gateway::start(&configuration(&discover));
    assert_eq!(answering(&gateway), ["a"]);
    server.wait("it was asked for what changed", |log| {
        log.requests.iter().any(|request| request.has("if-none-match")).then_some(())
    });
    // as Prometheus has it
    let second_address = second.url().trim_start_matches("http://").to_owned();
    *list.lock().unwrap() = (json!([{ "targets": [second_address], "labels": { "job": "u" } }]).to_string(), "200 OK");
    until_answering(&gateway, &["b"]);
    list.lock().unwrap().1 = "500 Internal Server Error";
    until_told(&gateway, "targets of `u` are not found by `http`: the server answers 500; the last 1 stay");
    assert_eq!(answering(&gateway), ["b"]);
    assert!(server.look(|log| log.requests.iter().all(|request| request.target == "/targets?of=u")));
    assert!(!gateway.stderr().contains("of-the-inventory"));
}

#[test]
fn a_list_behind_tls_is_taken_only_from_a_server_that_proves_itself() {
    let certificates = Certificates::new();
    certificates.authority("ca");
    certificates.authority("other");
    certificates.issue("good", "ca", "IP:127.0.0.1");
    let first = Origin::named("a");
    let text = format!("[\"{}\"]", first.url());
    let answer = move |peer: &mut Peer, _: &Request| json_answer(peer, "200 OK", "", &text);
    let server = Origin::start_tls(certificates.server("good", None, &["http/1.1"]), serving(answer));
    let url = server.url().replace("http://", "https://");
    let by = |ca: &str| configuration(&format!("http: {{ url: \"{url}/\", ca_file: {} }}", certificates.path(ca)));
    let gateway = Gateway::start(&by("other.crt"));
    until_told(&gateway, "targets of `u` are not found by `http`: TLS: ");
    assert_eq!(answering(&gateway), ["503"]);
    gateway.rewrite(&by("ca.crt"));
    until_answering(&gateway, &["a"]);
}

#[test]
fn of_more_than_a_thousand_targets_the_first_are_called_and_a_list_without_end_is_refused() {
    let first = Origin::named("a");
    let long = Arc::new(AtomicU64::new(0));
    let (own, url) = (Arc::clone(&long), first.url());
    let server = Origin::serve(move |peer, _| {
        if own.load(Ordering::SeqCst) > 0 {
            peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            while push(peer, &" ".repeat(64 * 1024)) {}
            return Next::Close;
        }
        let others = (1..1_003).map(|port| json!({ "url": format!("http://127.0.0.9:{port}"), "weight": 0 }));
        let all: Vec<Value> = [Value::from(url.clone())].into_iter().chain(others).collect();
        json_answer(peer, "200 OK", "", &Value::from(all).to_string())
    });
    let gateway = Gateway::start(&configuration(&format!("http: {{ url: \"{}\", interval: 100ms }}", server.url())));
    until_told(&gateway, "`u` has too many targets by `http`: the first 1000 are called, 3 are not");
    assert_eq!(answering(&gateway), ["a"]);
    long.store(1, Ordering::SeqCst);
    until_told(&gateway, "the answer is larger than 8192 KiB; the last 1000 stay");
    assert_eq!(answering(&gateway), ["a"]);
}

/// A name server that gives a name so many addresses that these need a connection: over UDP it says that not all fit.
fn name_server_of_many(count: u16) -> SocketAddr {
    let both = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // the port may be taken for the other one
        UdpSocket::bind(listener.local_addr().unwrap()).ok().map(|socket| (listener, socket))
    };
    let (listener, socket) = wait_until("a port is free for both", PATIENCE, both);
    let address = listener.local_addr().unwrap();
    let question = |query: &[u8]| 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let mut answer = buffer[..question(&buffer[..length])].to_vec();
            answer[2..12].copy_from_slice(&[0x83, 0x80, 0, 1, 0, 0, 0, 0, 0, 0]);
            let _ = socket.send_to(&answer, peer);
        }
    });
    let serve = move |mut stream: TcpStream| {
        let mut length = [0; 2];
        while stream.read_exact(&mut length).is_ok() {
            let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
            if stream.read_exact(&mut query).is_err() {
                return;
            }
            let end = question(&query);
            let count = if query[end - 4..end - 2] == [0, 1] { count } else { 0 };
            let mut answer = query[..end].to_vec();
            answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0]);
            answer[6..8].copy_from_slice(&count.to_be_bytes());
            for number in 0..count {
                answer.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 1]);
                answer.extend(number.to_be_bytes());
            }
            let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
            if stream.write_all(&[&length[..], &answer].concat()).is_err() {
                return;
            }
        }
    };
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

/// An upstream at every loopback address at once, that answers each call with the one it came to.
fn everywhere() -> u16 {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            std::thread::spawn(move || {
                let own = stream.local_addr().unwrap().ip().to_string();
                let (mut seen, mut byte) = (Vec::new(), [0]);
                while matches!(stream.read(&mut byte), Ok(1)) {
                    seen.push(byte[0]);
                    if seen.ends_with(b"\r\n\r\n") {
                        seen.clear();
                        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{own}", own.len());
                        if stream.write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    port
}

#[test]
fn a_name_of_a_thousand_addresses_is_a_thousand_targets_and_of_more_the_first_count() {
    let port = everywhere();
    for (count, told) in [
        (1_000, "`u` has 1000 targets by `dns`"),
        (1_300, "`u` has too many targets by `dns`: the first 1000 are called, 300 are not"),
    ] {
        let server = name_server_of_many(count);
        let discover = format!("dns: {{ name: orders.internal, port: {port}, server: \"{server}\", type: A }}");
        let config = configuration(&discover).replace("upstreams:", "status: { bind: 127.0.0.1:0 }\nupstreams:");
        let gateway = Gateway::start(&config);
        until_told(&gateway, told);
        let targets = gateway.status("/upstreams").json()["upstreams"][0]["targets"].as_array().unwrap().len();
        assert_eq!(targets, 1_000);
        // each in its turn
        let mut client = gateway.connect();
        let answers: BTreeSet<String> = (0..1_000).map(|_| client.get("/x").text()).collect();
        assert_eq!(answers.len(), 1_000);
        assert!(answers.contains("127.1.0.0") && answers.contains("127.1.3.231") && !answers.contains("127.1.3.232"));
    }
}

/// A name server that gives one name's addresses, or says nothing.
fn name_server(addresses: &Arc<Mutex<Option<Vec<[u8; 4]>>>>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let addresses = Arc::clone(addresses);
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let Some(all) = addresses.lock().unwrap().clone() else { continue };
            let end = 12 + buffer[12..length].iter().position(|byte| *byte == 0).unwrap() + 5;
            let is_a = buffer[end - 4..end - 2] == [0, 1];
            let all = if is_a { all } else { Vec::new() };
            let mut answer = buffer[..end].to_vec();
            answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::try_from(all.len()).unwrap(), 0, 0, 0, 0]);
            for ip in all {
                answer.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
                answer.extend(ip);
            }
            let _ = socket.send_to(&answer, peer);
        }
    });
    address
}

#[test]
fn a_name_is_looked_up_again_when_its_record_ends_and_its_last_addresses_outlast_a_silent_server() {
    let origin = Origin::named("a");
    let addresses = Arc::new(Mutex::new(Some(vec![[127, 0, 0, 1]])));
    let server = name_server(&addresses);
    let port = origin.port();
    let discover = format!("dns: {{ name: orders.internal, port: {port}, server: \"{server}\", type: A }}");
    let gateway = Gateway::start(&configuration(&discover));
    assert_eq!(answering(&gateway), ["a"]);
    *addresses.lock().unwrap() = Some(vec![[127, 0, 0, 1], [127, 0, 0, 2]]);
    until_told(&gateway, "`u` has 2 targets by `dns`");
    *addresses.lock().unwrap() = Some(Vec::new());
    until_told(&gateway, "`u` has no target any more by `dns`; the last 2 stay");
    *addresses.lock().unwrap() = Some(vec![[127, 0, 0, 1]]);
    until_told(&gateway, "`u` has 1 target by `dns`");
    *addresses.lock().unwrap() = None;
    wait_until("it says that nobody answers", PATIENCE * 3, || {
        gateway.stderr().contains("targets of `u` are not found by `dns`").then_some(())
    });
    assert_eq!(answering(&gateway), ["a"]);
}

#[test]
fn trouble_with_finding_targets_is_shown_as_long_as_it_lasts() {
    let origin = Origin::named("a");
    let folder = Folder::new();
    let path = folder.write("targets.yaml", "[]");
    let yaml = configuration(&format!("file: {{ path: {} }}", path.display()));
    let gateway = Gateway::start(&format!("{yaml}status: {{ bind: 127.0.0.1:0 }}\n"));
    until_told(&gateway, "`u` has no target yet by `file`");
    let discovery = || gateway.status("/upstreams").json()["upstreams"][0]["discovery"].clone();
    let ok = || gateway.metrics().sum("daemun_upstream_discovery_ok", &["upstream=\"u\""]);
    assert_eq!(discovery(), serde_json::json!({ "ok": false, "trouble": "no target is known there" }));
    assert_eq!(ok(), 0.0);
    folder.write("targets.yaml", format!("- {}\n", origin.url()));
    until_answering(&gateway, &["a"]);
    wait_until("the trouble is over", PATIENCE, || (discovery()["ok"] == true).then_some(()));
    assert_eq!(ok(), 1.0);
    folder.write("targets.yaml", "- not a target\n");
    wait_until("there is trouble", PATIENCE, || {
        discovery()["trouble"].as_str()?.contains("`not a target` is not the address of a target").then_some(())
    });
    assert_eq!(ok(), 0.0);
    assert_eq!(answering(&gateway), ["a"]);
}

#[test]
fn a_list_that_is_empty_from_the_start_has_no_target_yet() {
    let folder = Folder::new();
    let path = folder.write("targets.json", "[]");
    let gateway = Gateway::start(&configuration(&format!("file: {{ path: {}, when_empty: clear }}", path.display())));
    until_told(&gateway, "`u` has no target yet by `file`: calls get 503");
}

#[test]
fn a_name_without_an_address_is_shown_as_such() {
    let gateway = Gateway::start(
        "access_log: off\nlisteners: [{ bind: 127.0.0.1:0 }]\nstatus: { bind: 127.0.0.1:0 }\n\
         upstreams: { u: { targets: [\"http://nobody.invalid:80\"] } }\nroutes: [{ name: all, match: { prefix: / }, upstream: u }]\n",
    );
    let target = gateway.status("/upstreams").json()["upstreams"][0]["targets"][0].clone();
    assert_eq!(target["reason"], "its name has no address");
    assert_eq!(gateway.status("/upstreams").json()["upstreams"][0]["discovery"], Value::Null);
}

/// An agent of Consul: its index, and the instances at it.
#[derive(Default)]
struct Agent {
    index: AtomicU64,
    instances: Mutex<Vec<Value>>,
}

impl Agent {
    fn set(&self, index: u64, origins: &[&Origin]) {
        let instance = |origin: &&Origin| {
            json!({
                "Node": { "Node": "n", "Address": "127.0.0.1" },
                "Service": { "ID": "u", "Service": "u", "Address": "", "Port": origin.port(), "Weights": { "Passing": 1, "Warning": 1 } },
                "Checks": [{ "CheckID": "c", "Status": "passing" }],
            })
        };
        *self.instances.lock().unwrap() = origins.iter().map(instance).collect();
        self.index.store(index, Ordering::SeqCst);
    }

    /// Answers as soon as there is another index than the one that is known.
    fn answer(&self, peer: &mut Peer, request: &Request) -> Next {
        let known = request.target.split(['?', '&']).find_map(|part| part.strip_prefix("index="));
        let known: u64 = known.map_or(0, |index| index.parse().unwrap());
        if known > 0 {
            assert!(request.target.contains("wait="), "{}", request.target);
            let _ = daemun_e2e::poll(PATIENCE, || (self.index.load(Ordering::SeqCst) != known).then_some(()));
        }
        let index = self.index.load(Ordering::SeqCst);
        let body = Value::from(self.instances.lock().unwrap().clone()).to_string();
        json_answer(peer, "200 OK", &format!("X-Consul-Index: {index}\r\n"), &body)
    }
}

#[test]
fn changes_of_a_service_of_consul_are_waited_for_over_reloads_and_resets_of_its_index() {
    let (first, second) = (Origin::named("a"), Origin::named("b"));
    let agent = Arc::new(Agent::default());
    agent.set(7, &[&first]);
    let own = Arc::clone(&agent);
    let consul = Origin::serve(move |peer, request| own.answer(peer, request));
    let discover = format!("consul: {{ address: \"{}\", service: u, token: \"${{env:TOKEN}}\" }}", consul.url());
    let text = configuration(&discover);
    let gateway = Gateway::launch(Folder::new(), &text, &[("TOKEN", "of-the-gateway")]).unwrap();
    assert_eq!(answering(&gateway), ["a"]);
    agent.set(8, &[&first, &second]);
    until_answering(&gateway, &["a", "b"]);

    // a reload that leaves it asks nothing anew
    gateway.rewrite(&format!("{text}timeouts: {{ drain: 3s }}\n"));
    until_told(&gateway, "number 2,");
    assert_eq!(answering(&gateway), ["a", "b"]);
    agent.set(9, &[&second]);
    until_answering(&gateway, &["b"]);
    let fresh = || consul.look(|log| log.requests.iter().filter(|request| !request.target.contains("index=")).count());
    assert_eq!(fresh(), 1);

    // an index that goes backwards was reset: the next question does not wait for it
    agent.set(3, &[&first]);
    until_answering(&gateway, &["a"]);
    wait_until("it was asked without an index", PATIENCE, || (fresh() >= 2).then_some(()));
    consul.look(|log| {
        for request in &log.requests {
            assert!(request.target.starts_with("/v1/health/service/u?passing=1"), "{}", request.target);
            assert_eq!(request.field("x-consul-token"), Some("of-the-gateway"));
        }
    });
    assert!(!gateway.stderr().contains("of-the-gateway"));
}

fn slice(name: &str, version: u64, origins: &[&Origin]) -> Value {
    let port = origins.first().map_or(1, |origin| origin.port());
    json!({
        "metadata": { "name": name, "namespace": "shop", "resourceVersion": version.to_string() },
        "addressType": "IPv4",
        "ports": [{ "name": "http", "port": port, "protocol": "TCP" }],
        "endpoints": origins.iter().map(|_| json!({ "addresses": ["127.0.0.1"], "conditions": { "ready": true } })).collect::<Vec<_>>(),
    })
}

fn list(items: &[Value], version: u64, next: &str) -> String {
    json!({ "kind": "EndpointSliceList", "metadata": { "resourceVersion": version.to_string(), "continue": next }, "items": items })
        .to_string()
}

fn event(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({ "type": kind, "object": object }))
}

/// Sends an event as a chunk of a body without end.
fn push(peer: &mut Peer, text: &str) -> bool {
    peer.send(format!("{:x}\r\n{text}\r\n", text.len()))
}

#[test]
fn slices_of_kubernetes_are_listed_watched_and_listed_again_when_their_version_is_gone() {
    let (first, second, third) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    let ports = [&first, &second, &third].map(|origin| slice("x", 1, &[origin]));
    let step = Arc::new(AtomicU64::new(0));
    let own = Arc::clone(&step);
    let renamed = move |index: usize, name: &str, version: u64| {
        let mut slice = ports[index].clone();
        slice["metadata"] = json!({ "name": name, "namespace": "shop", "resourceVersion": version.to_string() });
        slice
    };
    let server = Origin::serve(move |peer, request| {
        let at = |step: u64| daemun_e2e::poll(PATIENCE, || (own.load(Ordering::SeqCst) >= step).then_some(()));
        let target = request.target.as_str();
        let relisted = own.load(Ordering::SeqCst) >= 3;
        if !target.contains("watch=1") {
            return match (relisted, target.contains("continue=next")) {
                (true, _) => json_answer(peer, "200 OK", "", &list(&[renamed(2, "s3", 50)], 50, "")),
                (false, false) => json_answer(peer, "200 OK", "", &list(&[renamed(0, "s1", 1)], 10, "next")),
                (false, true) => json_answer(peer, "200 OK", "", &list(&[renamed(1, "s2", 2)], 10, "")),
            };
        }
        peer.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
        if target.contains("resourceVersion=10&") {
            // one slice goes, a bookmark moves on, then the connection ends in order
            at(1);
            push(peer, &event("DELETED", &renamed(0, "s1", 11)));
            push(peer, &event("BOOKMARK", &json!({ "metadata": { "resourceVersion": "20" } })));
            peer.send("0\r\n\r\n");
            return Next::Close;
        }
        if target.contains("resourceVersion=20&") {
            at(2);
            push(peer, &event("ADDED", &renamed(0, "s4", 21)));
            at(3);
            push(peer, &event("ERROR", &json!({ "kind": "Status", "code": 410, "reason": "Expired" })));
        }
        peer.stall();
        Next::Close
    });
    let folder = Folder::new();
    let token = folder.write("token", "of-the-account\n");
    let discover = format!(
        "kubernetes: {{ namespace: shop, service: u, port: http, server: \"{}\", token_file: {} }}",
        server.url(),
        token.display()
    );
    let gateway = Gateway::start(&configuration(&discover));
    assert_eq!(answering(&gateway), ["a", "b"]);
    step.store(1, Ordering::SeqCst);
    until_answering(&gateway, &["b"]);
    step.store(2, Ordering::SeqCst);
    until_answering(&gateway, &["a", "b"]);
    step.store(3, Ordering::SeqCst);
    until_answering(&gateway, &["c"]);
    server.look(|log| {
        let path =
            "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Du&";
        for request in &log.requests {
            assert!(request.target.starts_with(path), "{}", request.target);
            assert_eq!(request.field("authorization"), Some("Bearer of-the-account"));
        }
        assert!(log.requests.iter().any(|request| request.target.contains("allowWatchBookmarks=true")));
    });
    assert!(!gateway.stderr().contains("of-the-account"));
}

#[test]
fn a_watch_that_broke_off_is_no_trouble_once_another_runs() {
    let origin = Origin::named("a");
    let found = slice("s1", 1, &[&origin]);
    let watches = AtomicU64::new(0);
    let server = Origin::serve(move |peer, request| {
        if !request.target.contains("watch=1") {
            return json_answer(peer, "200 OK", "", &list(std::slice::from_ref(&found), 10, ""));
        }
        peer.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
        if watches.fetch_add(1, Ordering::SeqCst) > 0 {
            peer.stall();
        }
        Next::Close
    });
    let folder = Folder::new();
    let token = folder.write("token", "of-the-account\n");
    let discover = format!(
        "kubernetes: {{ namespace: shop, service: u, port: http, server: \"{}\", token_file: {} }}",
        server.url(),
        token.display()
    );
    let gateway = Gateway::start(&format!("{}status: {{ bind: 127.0.0.1:0 }}\n", configuration(&discover)));
    until_told(&gateway, "targets of `u` are not found by `kubernetes`: ");
    until_told(&gateway, "`u` has 1 target by `kubernetes`, which answers again");
    assert_eq!(gateway.status("/upstreams").json()["upstreams"][0]["discovery"]["ok"], true);
    assert_eq!(answering(&gateway), ["a"]);
}

#[test]
fn targets_that_are_written_down_stay_beside_those_that_are_found() {
    let (first, second) = (Origin::named("a"), Origin::named("b"));
    let folder = Folder::new();
    let path = folder.write("targets.yaml", format!("- {}\n", first.url()));
    let text = configuration(&format!("file: {{ path: {} }}", path.display()));
    let gateway = Gateway::start(&text.replace("  u:\n", &format!("  u:\n    targets: [\"{}\"]\n", second.url())));
    assert_eq!(answering(&gateway), ["a", "b"]);
    // without it, what it found goes
    let without = text.split("    discover:").next().unwrap().to_owned() + "routes: [{ name: a, upstream: u }]\n";
    gateway.rewrite(&without.replace("  u:\n", &format!("  u:\n    targets: [\"{}\"]\n", second.url())));
    until_answering(&gateway, &["b"]);
}
