//! What panics ends what it was doing, and nothing else.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests are tests")]

mod support;
#[path = "support/h2.rs"]
mod peers;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use daemun_dataplane::Clock;
use daemun_pipeline::{Exchange, Explanation, Flow, Phase, Policy, PolicyRow, Verdict};
use peers::{Client, run};
use support::{Running, client, read_head, read_to_end, start, start_with_policies};

/// Panics on the way in where the path says so, and on the way out likewise.
struct Panics;

impl Policy for Panics {
    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        assert_ne!(exchange.request.head.bytes(exchange.request.path), b"/in");
        Flow::Now(Ok(()))
    }

    fn on_response(&self, exchange: &mut Exchange) -> Verdict {
        assert_ne!(exchange.request.head.bytes(exchange.request.path), b"/out");
        Ok(())
    }

    fn explain(&self, _: &mut Exchange) -> Explanation {
        Explanation::pass("")
    }
}

const ROWS: &[PolicyRow] = &[PolicyRow {
    ends: false,
    implied: false,
    name: "panics",
    phase: Phase::Transform,
    manual: "",
    unconditional: None,
    check: |_, _| {},
    schema: |_| true.into(),
    build: |_, _| Some(vec![(Phase::Transform, Box::new(Panics) as Box<dyn Policy>)]),
}];

fn gateway() -> Running {
    let origin = support::origin(|mut stream: TcpStream| {
        while read_head(&mut stream, &mut Vec::new()).is_some() {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").unwrap();
        }
    });
    let more = "policies: { panics: {} }\nlimits: { connections: 3 }\n";
    start_with_policies(ROWS, &support::proxy_to(origin, more), Clock::system())
}

/// Waits until as many client connections are open as said.
fn open(running: &Running, wanted: usize) {
    support::until_said(running, &format!("daemun_connections_open {wanted}\n"));
}

/// Whether each of so many exchanges that panicked was recorded once: in the metrics, with its route, and in the ring.
async fn assert_recorded(running: &Running, panicked: usize) {
    let text = running.metrics.render();
    assert!(text.contains(&format!("daemun_faults_total{{reason=\"internal\"}} {panicked}\n")), "{text}");
    assert!(text.contains(&format!("daemun_requests_total{{route=\"all\",code=\"500\"}} {panicked}\n")), "{text}");
    let kept = running.gateway.as_ref().unwrap().latest(100).await;
    let lines = kept.iter().map(|recent| {
        let mut line = Vec::new();
        recent.write_json(&mut line);
        String::from_utf8(line).unwrap()
    });
    let lines: Vec<_> = lines.filter(|line| line.contains("\"reason\":\"internal\"")).collect();
    assert_eq!(lines.len(), panicked, "{lines:?}");
    assert!(lines.iter().all(|line| line.contains("\"/in\"") || line.contains("\"/out\"")), "{lines:?}");
}

fn get(stream: &mut TcpStream) {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut buf = Vec::new();
    let end = read_head(stream, &mut buf).unwrap();
    assert!(buf.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buf));
    let mut rest = vec![0; end + 2 - buf.len()];
    stream.read_exact(&mut rest).unwrap();
}

#[tokio::test]
async fn a_panic_ends_one_connection_and_gives_its_place_back() {
    let running = gateway();
    let mut other = client(running.address, b"");
    get(&mut other);
    // more than may be open at once
    for target in ["/in", "/out"].repeat(4) {
        let mut stream = client(running.address, format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        assert_eq!(read_to_end(&mut stream), "");
        open(&running, 1);
        get(&mut other);
    }
    drop(other);
    open(&running, 0);
    assert_recorded(&running, 8).await;
}

#[test]
fn a_panic_ends_one_stream_and_no_other() {
    run(async {
        let running = gateway();
        let client = Client::connect(running.address).await;
        for target in ["/in", "/out"].repeat(4) {
            client.get(target).await.unwrap_err();
            assert_eq!(client.get("/").await.unwrap().status, 200);
        }
        assert!(!client.ended.get());
        // its streams are counted right: with one too many it would never be let go as idle
        drop(client);
        let running = tokio::task::spawn_blocking(move || {
            open(&running, 0);
            running
        });
        assert_recorded(&running.await.unwrap(), 8).await;
    });
}

#[cfg(debug_assertions)]
#[tokio::test]
async fn a_worker_that_ends_unasked_is_noticed() {
    let running = start("routes: []\n", Clock::system());
    let gateway = running.gateway.as_ref().unwrap();
    let waiting = tokio::time::timeout(Duration::from_millis(20), gateway.lost());
    waiting.await.unwrap_err();
    gateway.break_worker(0).await;
    assert_eq!(tokio::time::timeout(support::PATIENCE, gateway.lost()).await.unwrap(), 0);
    // nothing waits for it any more
    assert_eq!(gateway.drain(support::PATIENCE).await, 0);
}

#[cfg(debug_assertions)]
#[tokio::test]
async fn a_worker_that_was_drained_is_not_lost() {
    let running = start("routes: []\n", Clock::system());
    let gateway = running.gateway.as_ref().unwrap();
    assert_eq!(gateway.drain(support::PATIENCE).await, 0);
    tokio::time::timeout(Duration::from_millis(50), gateway.lost()).await.unwrap_err();
}
