//! Time limits where TLS or HTTP/2 is spoken, and that of a drain, with an injected clock.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod support;
#[path = "support/h2.rs"]
mod peers;
#[path = "support/tls.rs"]
mod tls;

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use daemun_dataplane::Clock;
use http::Method;
use peers::{Client, echo, read_all, run};
use support::{Running, advance_until_readable, client, origin, read_head, read_to_end, start, start_with};
use tls::Certificates;
use tokio::task::spawn_local;

const STEP: Duration = Duration::from_millis(500);
const MOST: Duration = Duration::from_secs(600);

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A configuration with one upstream that takes everything, with these settings, and further lines.
fn proxy_to(target: &str, settings: &str, more: &str) -> String {
    format!(
        "upstreams:\n  origin:\n    targets: [\"{target}\"]\n{settings}routes:\n  - name: all\n    match: {{ prefix: / }}\n    \
         upstream: origin\n{more}"
    )
}

/// Reads and never says anything.
fn silent() -> String {
    let address = origin(|mut stream| {
        let mut sink = [0u8; 4096];
        while matches!(stream.read(&mut sink), Ok(1..)) {}
    });
    format!("http://{address}")
}

/// Lets everything else run for a moment.
async fn pause() {
    let _ = tokio::time::timeout(Duration::from_millis(5), std::future::pending::<()>()).await;
}

/// Moves the clock second by second until `reached`, doing `each` between; gives how far it was moved.
async fn advance_until(running: &Running, mut each: impl FnMut(), reached: impl Fn() -> bool) -> Duration {
    let before = running.clock.now();
    let moved = || Duration::from_nanos(running.clock.now() - before);
    while !reached() && moved() < MOST {
        each();
        running.clock.advance(seconds(1));
        pause().await;
    }
    moved()
}

#[test]
fn a_handshake_that_does_not_end_is_cut_after_the_head_limit() {
    let certificates = Certificates::new("handshake");
    let yaml = "routes:\n  - name: all\n    match: { prefix: / }\n    answer: {}\ntimeouts: { head: 10s }\n";
    // a record of 512 bytes with a greeting of 508
    let greeting = [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &[7; 501]].concat();
    for (at_first, trickles) in [(0, false), (200, false), (0, true)] {
        let running = start_with(&certificates.listener(""), yaml, Clock::manual());
        let mut stream = client(running.address, &greeting[..at_first]);
        let mut left = greeting[at_first..].iter();
        let mut moved = Duration::ZERO;
        loop {
            let more = advance_until_readable(&running, &stream, STEP, STEP);
            moved += more;
            if more.is_zero() || moved >= MOST {
                break;
            }
            if trickles && let Some(byte) = left.next() {
                let _ = stream.write_all(&[*byte]);
            }
        }
        assert!(moved >= seconds(10) && moved < seconds(60), "{at_first} {trickles} {moved:?}");
        assert_eq!(read_to_end(&mut stream), "");
        for line in ["daemun_tls_handshakes_failed_total 1\n", "daemun_connections_open 0\n"] {
            support::until_said(&running, line);
        }
    }
}

#[test]
fn an_upstream_that_does_not_shake_hands_is_given_up_after_the_connect_limit() {
    let settings = "    timeouts: { connect: 5s }\n    tls: { insecure_skip_verify: true }\n";
    let yaml = proxy_to(&silent().replace("http:", "https:"), settings, "");
    let running = start(&yaml, Clock::manual());
    let mut stream = client(running.address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let moved = advance_until_readable(&running, &stream, STEP, MOST);
    assert!(moved >= seconds(5) && moved < seconds(30), "{moved:?}");
    let mut buf = Vec::new();
    read_head(&mut stream, &mut buf).unwrap();
    assert!(buf.starts_with(b"HTTP/1.1 504 "), "{}", String::from_utf8_lossy(&buf));
}

#[test]
fn an_upstream_over_http2_that_does_not_answer_is_given_up_after_its_limit() {
    // one that never says a word, and one that speaks HTTP/2 but leaves this call without an answer
    run(async {
        let answers = |request: http::Request<h2::RecvStream>, respond| async move {
            match request.uri().path() {
                "/never" => std::future::pending().await,
                _ => echo(request, respond).await,
            }
        };
        let (address, seen) = peers::origin(h2::server::Builder::new(), answers).await;
        for (target, speaks) in [(silent(), false), (format!("http://{address}"), true)] {
            let settings = "    protocol: h2c\n    timeouts: { response: 20s }\n";
            let running = start(&proxy_to(&target, settings, ""), Clock::manual());
            let client = Rc::new(Client::connect(running.address).await);
            let (own, answered) = (Rc::clone(&client), Rc::new(RefCell::new(None)));
            let set = Rc::clone(&answered);
            spawn_local(async move { *set.borrow_mut() = Some(own.get("/never").await.unwrap()) });
            let moved = advance_until(&running, || (), || answered.borrow().is_some()).await;
            assert!(moved >= seconds(20) && moved < seconds(60), "{speaks} {moved:?}");
            let answer = answered.borrow_mut().take().unwrap();
            let text = String::from_utf8(answer.body).unwrap();
            assert!(answer.status == 504 && text.contains("problems/upstream_timeout"), "{} {text}", answer.status);
            if speaks {
                assert_eq!(client.get("/other").await.unwrap().status, 200);
                assert_eq!(seen.connections.get(), 1, "the connection goes on");
            }
        }
    });
}

/// Sends a body over HTTP/2 of so many bytes a second; status of the answer that came before its end, and how long that took.
async fn upload(timeouts: &str, bytes_a_second: usize, most: u64) -> Option<(u16, Duration)> {
    let running = start(&proxy_to(&silent(), "", timeouts), Clock::manual());
    let client = Rc::new(Client::connect(running.address).await);
    let mut sender = client.sender.clone().ready().await.unwrap();
    let request = client.request(Method::POST, "/").body(()).unwrap();
    let (response, mut stream) = sender.send_request(request, false).unwrap();
    let status = Rc::new(Cell::new(None));
    let set = Rc::clone(&status);
    spawn_local(async move {
        let (parts, mut incoming) = response.await.unwrap().into_parts();
        // a body that is not read on is refused as a stream, not as a connection
        let _ = read_all(&mut incoming).await;
        set.set(Some(parts.status.as_u16()));
    });
    let count = Cell::new(0);
    let each = || {
        count.set(count.get() + 1);
        if bytes_a_second > 0 {
            let _ = stream.send_data(Bytes::from(vec![b'x'; bytes_a_second]), false);
        }
    };
    let moved = advance_until(&running, each, || status.get().is_some() || count.get() >= most).await;
    assert!(!client.ended.get(), "the connection ended");
    let (own, alive) = (Rc::clone(&client), Rc::new(Cell::new(false)));
    let set = Rc::clone(&alive);
    spawn_local(async move {
        let mut ping = own.request(Method::GET, "/bad%zz").body(()).unwrap();
        *ping.version_mut() = http::Version::HTTP_2;
        let answer = own.send(ping, None, None).await.unwrap();
        set.set(answer.status == 400);
    });
    for _ in 0..2000 {
        if alive.get() {
            break;
        }
        pause().await;
    }
    assert!(alive.get(), "the connection serves no other stream");
    status.get().map(|status| (status, moved))
}

#[test]
fn a_body_over_http2_slower_than_the_least_rate_is_refused_alone() {
    run(async {
        let limits = "timeouts: { min_rate: 240, min_rate_after: 10s }\n";
        let (status, moved) = upload(limits, 100, 300).await.expect("an answer");
        assert!(status == 408 && moved >= seconds(10) && moved < seconds(60), "{status} {moved:?}");
        // as fast as it must be, for longer than the limit is in coming
        assert_eq!(upload(limits, 300, 25).await, None);
    });
}

#[test]
fn a_body_over_http2_that_stops_is_refused_after_its_idle_limit() {
    run(async {
        let limits = "timeouts: { body_idle: 15s, min_rate: 0 }\n";
        let (status, moved) = upload(limits, 0, 300).await.expect("an answer");
        assert!(status == 408 && moved >= seconds(15) && moved < seconds(60), "{status} {moved:?}");
        assert_eq!(upload(limits, 1, 40).await, None);
    });
}

#[test]
fn a_drain_cuts_what_is_left_when_its_limit_comes_and_not_before() {
    run(async {
        let (arrived, arrivals) = std::sync::mpsc::sync_channel(8);
        let switching = origin(move |mut stream| {
            let mut buf = Vec::new();
            read_head(&mut stream, &mut buf);
            arrived.send(()).unwrap();
            if buf.starts_with(b"GET /tunnel") {
                let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
                stream.write_all(head.as_bytes()).unwrap();
            }
            let mut sink = [0u8; 64];
            while matches!(stream.read(&mut sink), Ok(1..)) {}
        });
        let mut running = start(&proxy_to(&format!("http://{switching}"), "", ""), Clock::manual());
        let mut tunnel = client(
            running.address,
            b"GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        );
        read_head(&mut tunnel, &mut Vec::new()).unwrap();
        let mut waiting = client(running.address, b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
        let streams = Rc::new(Client::connect(running.address).await);
        let (own, failed) = (Rc::clone(&streams), Rc::new(Cell::new(false)));
        let set = Rc::clone(&failed);
        spawn_local(async move { set.set(own.get("/wait").await.is_err()) });
        for _ in 0..3 {
            while arrivals.try_recv().is_err() {
                pause().await;
            }
        }
        let gateway = running.gateway.take().unwrap();
        gateway.stop_accepting(true).await;
        let cut = Rc::new(Cell::new(None));
        let set = Rc::clone(&cut);
        spawn_local(async move {
            set.set(Some(gateway.drain(seconds(20)).await));
            gateway.join();
        });
        // its first step, in which it reads the clock
        tokio::task::yield_now().await;
        let moved = advance_until(&running, || (), || cut.get().is_some()).await;
        assert!(moved >= seconds(20) && moved < seconds(30), "{moved:?}");
        assert_eq!(cut.get(), Some(3), "a tunnel, an exchange, a connection with a stream");
        assert_eq!(read_to_end(&mut waiting), "");
        assert_eq!(read_to_end(&mut tunnel), "");
        for _ in 0..400 {
            if failed.get() && streams.ended.get() {
                return;
            }
            pause().await;
        }
        panic!("the stream goes on");
    });
}
