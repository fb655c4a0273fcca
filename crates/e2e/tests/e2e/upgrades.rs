//! Upgrades: a tunnel only after a 101 that names what was asked for, and only where the route allows it.

use std::time::Duration;

use daemun_e2e::lane::{FORWARD_ALL, Lane};
use daemun_e2e::{Broken, Client, Next, Origin, Peer, Request};

const ASK: &str = "GET /socket HTTP/1.1\r\nHost: e2e.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const AGREE: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Sends back every byte of a tunnel until it ends.
fn echo_bytes(peer: &mut Peer) {
    loop {
        let bytes = std::mem::take(&mut peer.wire.buffer);
        if !bytes.is_empty() && !peer.send(&bytes) {
            return;
        }
        if peer.wire.fill().is_err() {
            return;
        }
    }
}

fn agreeing(peer: &mut Peer, request: &Request) -> Next {
    if request.target != "/socket" {
        return daemun_e2e::origin::echo(peer, request);
    }
    peer.send(AGREE);
    echo_bytes(peer);
    Next::Close
}

fn answering(answer: &'static str) -> Origin {
    Origin::serve(move |peer, request| {
        if request.target != "/socket" {
            return daemun_e2e::origin::echo(peer, request);
        }
        if peer.send(answer) { Next::Keep } else { Next::Close }
    })
}

fn exact(client: &mut Client, bytes: &[u8]) {
    let body = client.wire.counted(bytes.len() as u64);
    assert_eq!(body.broken, None, "after {} bytes", body.bytes.len());
    assert!(body.bytes == bytes, "other bytes came back");
}

#[test]
fn a_websocket_carries_bytes_both_ways() {
    let lane = Lane::with(FORWARD_ALL, Origin::serve(agreeing));
    let mut client = lane.connect();
    let answer = client.call(ASK);
    assert_eq!(answer.status, 101);
    assert_eq!(answer.field("upgrade").map(str::to_ascii_lowercase).as_deref(), Some("websocket"));
    assert_eq!(answer.field("connection").map(str::to_ascii_lowercase).as_deref(), Some("upgrade"));
    assert_eq!(answer.field("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    for length in [1, 126, 70_000, 1_000_000] {
        let bytes: Vec<u8> = (0..length).map(|at| u8::try_from(at % 253).unwrap()).collect();
        std::thread::scope(|scope| {
            let mut writer = client.wire.stream.clone_handle();
            let sent = &bytes;
            scope.spawn(move || std::io::Write::write_all(&mut writer, sent).unwrap());
            exact(&mut client, &bytes);
        });
    }
    let request = lane.origin.only_request();
    assert_eq!(request.field("upgrade"), Some("websocket"));
    assert_eq!(request.field("sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
    client.finish();
    assert!(client.is_closed());
    lane.origin.wait("the tunnel ended upstream", |log| (!log.ended.is_empty()).then_some(()));
    lane.settle().unwrap();
}

#[test]
fn bytes_sent_along_with_the_handshake_are_not_lost() {
    let lane = Lane::with(
        FORWARD_ALL,
        Origin::serve(|peer, request| {
            if request.target != "/socket" {
                return daemun_e2e::origin::echo(peer, request);
            }
            peer.send(format!("{AGREE}server first"));
            echo_bytes(peer);
            Next::Close
        }),
    );
    let mut client = lane.connect();
    let answer = client.call(format!("{ASK}client first"));
    assert_eq!(answer.status, 101);
    exact(&mut client, b"server first");
    exact(&mut client, b"client first");
}

#[test]
fn either_side_may_end_a_tunnel() {
    let lane = Lane::with(
        FORWARD_ALL,
        Origin::serve(|peer, request| {
            if request.target != "/socket" {
                return daemun_e2e::origin::echo(peer, request);
            }
            peer.send(AGREE);
            let _ = peer.wire.fill();
            peer.send("last words");
            Next::Close
        }),
    );
    let mut client = lane.connect();
    assert_eq!(client.call(ASK).status, 101);
    client.send("go");
    exact(&mut client, b"last words");
    assert!(client.is_closed());
    let mut leaver = lane.connect();
    assert_eq!(leaver.call(ASK).status, 101);
    leaver.reset();
    lane.origin.wait("both tunnels ended", |log| (log.ended.len() >= 2).then_some(()));
}

#[test]
fn an_upgrade_that_the_upstream_refuses_is_an_ordinary_answer() {
    let lane = Lane::with(FORWARD_ALL, answering("HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nhello"));
    let mut client = lane.connect();
    let answer = client.call(ASK);
    assert_eq!((answer.status, answer.text().as_str()), (403, "hello"));
    if !answer.closes() {
        assert_eq!(client.get("/next").text(), "/next");
    }
    lane.settle().unwrap();
}

#[test]
fn a_request_behind_a_refused_handshake_is_no_tunnel_data() {
    let lane = Lane::with(
        FORWARD_ALL,
        answering("HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13\r\nContent-Length: 0\r\n\r\n"),
    );
    let mut client = lane.connect();
    let bad = ASK.replace("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 777");
    client.send(format!("{bad}GET /secret HTTP/1.1\r\nHost: e2e.test\r\nX-Consumer-Name: admin\r\n\r\n"));
    assert_eq!(client.response().unwrap().status, 426);
    match client.response() {
        Ok(answer) => assert_eq!(answer.text(), "/secret"),
        Err(Broken::Closed | Broken::Reset) => {}
        Err(broken) => panic!("{broken}"),
    }
    let log = lane.settle().unwrap();
    assert_eq!(log.faults, Vec::<String>::new());
    assert!(log.requests.iter().all(|request| !request.has("x-consumer-name")), "the request went through a tunnel");
}

#[test]
fn a_101_that_names_something_else_is_no_tunnel() {
    for answer in [
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket, h2c\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ] {
        let lane = Lane::with(FORWARD_ALL, answering(answer));
        let got = lane.connect().call(ASK);
        assert_eq!(got.status, 502, "{answer}");
        lane.settle().unwrap();
    }
}

#[test]
fn a_route_says_which_upgrades_it_passes() {
    let none = FORWARD_ALL.replace("    upstream: origin\n", "    upstream: origin\n    upgrades: []\n");
    let lane = Lane::with(&none, Origin::serve(daemun_e2e::origin::echo));
    let answer = lane.connect().call(ASK);
    assert!(matches!(answer.status, 200 | 400 | 403 | 426), "{answer:?}");
    assert!(lane.origin.look(|log| log.requests.iter().all(|request| !request.has("upgrade"))));
    let other = FORWARD_ALL.replace("    upstream: origin\n", "    upstream: origin\n    upgrades: [chat]\n");
    let lane = Lane::with(
        &other,
        Origin::serve(|peer, request| {
            let protocol = request.field("upgrade").unwrap_or_default().to_owned();
            peer.send(format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: {protocol}\r\n\r\n"
            ));
            echo_bytes(peer);
            Next::Close
        }),
    );
    let mut client = lane.connect();
    assert_eq!(
        client.call("GET /socket HTTP/1.1\r\nHost: e2e.test\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n").status,
        101
    );
    client.send("hello");
    exact(&mut client, b"hello");
}

#[test]
fn a_silent_tunnel_is_closed_after_its_idle_limit() {
    let yaml = format!("timeouts: {{ stream_idle: 400ms, keep_alive: 60s }}\n{FORWARD_ALL}");
    let lane = Lane::with(&yaml, Origin::serve(agreeing));
    let mut client = lane.connect();
    assert_eq!(client.call(ASK).status, 101);
    client.send("hello");
    exact(&mut client, b"hello");
    client.set_timeout(Duration::from_secs(5));
    assert!(client.is_closed());
    lane.origin.wait("the tunnel ended upstream", |log| (!log.ended.is_empty()).then_some(()));
}
