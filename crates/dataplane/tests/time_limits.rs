//! Every time limit of the data plane, with an injected clock: nothing happens before the limit, and it happens once the clock is there.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests are tests")]

mod support;

use std::io::{Read, Write};
use std::time::Duration;

use daemun_dataplane::Clock;
use support::{advance_until_readable, client, origin, proxy_to, read_head, read_to_end, start};

const STEP: Duration = Duration::from_millis(500);
const MOST: Duration = Duration::from_secs(600);
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Answers every request after its head.
fn answering() -> std::net::SocketAddr {
    origin(|mut stream| {
        let mut buf = Vec::new();
        while let Some(end) = read_head(&mut stream, &mut buf) {
            buf.drain(..end);
            if stream.write_all(ANSWER).is_err() {
                return;
            }
        }
    })
}

/// Reads heads and never says anything.
fn silent() -> std::net::SocketAddr {
    origin(|mut stream| {
        let mut sink = [0u8; 4096];
        while let Ok(n) = stream.read(&mut sink) {
            if n == 0 {
                return;
            }
        }
    })
}

#[test]
fn a_head_that_stops_is_refused_after_its_limit() {
    let running = start(&proxy_to(answering(), "timeouts: { head: 10s }\n"), Clock::manual());
    let mut stream = client(running.address, b"GET / HTTP/1.1\r\nHost: a\r\n");
    let moved = advance_until_readable(&running, &stream, STEP, MOST);
    assert!(moved >= Duration::from_secs(10), "{moved:?}");
    assert!(read_to_end(&mut stream).starts_with("HTTP/1.1 408 "));
}

#[test]
fn a_connection_that_never_speaks_is_closed_after_the_head_limit() {
    let running = start(&proxy_to(answering(), "timeouts: { head: 10s }\n"), Clock::manual());
    let mut stream = client(running.address, b"");
    let moved = advance_until_readable(&running, &stream, STEP, MOST);
    assert!(moved >= Duration::from_secs(10), "{moved:?}");
    assert_eq!(read_to_end(&mut stream), "");
}

#[test]
fn an_idle_connection_is_closed_after_keep_alive() {
    let running = start(&proxy_to(answering(), "timeouts: { keep_alive: 75s }\n"), Clock::manual());
    let mut stream = client(running.address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut buf = Vec::new();
    read_head(&mut stream, &mut buf).unwrap();
    while !buf.ends_with(b"ok") {
        let mut piece = [0u8; 64];
        let n = stream.read(&mut piece).unwrap();
        buf.extend_from_slice(&piece[..n]);
    }
    let moved = advance_until_readable(&running, &stream, STEP, MOST);
    assert!(moved >= Duration::from_secs(74), "{moved:?}");
    assert_eq!(read_to_end(&mut stream), "");
}

#[test]
fn a_body_that_stops_is_refused_after_its_idle_limit() {
    let running = start(&proxy_to(silent(), "timeouts: { body_idle: 30s, min_rate: 0 }\n"), Clock::manual());
    let mut stream = client(running.address, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc");
    let moved = advance_until_readable(&running, &stream, STEP, MOST);
    assert!(moved >= Duration::from_secs(30), "{moved:?}");
    assert!(read_to_end(&mut stream).starts_with("HTTP/1.1 408 "));
}

#[test]
fn a_body_slower_than_the_least_rate_is_refused() {
    let running = start(&proxy_to(silent(), "timeouts: { min_rate: 240, min_rate_after: 10s }\n"), Clock::manual());
    let mut stream = client(running.address, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    let mut moved = Duration::ZERO;
    let mut byte = [0u8; 1];
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    while stream.peek(&mut byte).is_err() && moved < MOST {
        // 100 bytes a second: never idle, always too slow
        let _ = stream.write_all(&[b'x'; 100]);
        running.clock.advance(Duration::from_secs(1));
        moved += Duration::from_secs(1);
    }
    assert!(moved >= Duration::from_secs(10), "{moved:?}");
    assert!(moved < MOST);
    stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
    assert!(read_to_end(&mut stream).starts_with("HTTP/1.1 408 "));
}

#[test]
fn an_upstream_that_does_not_answer_is_given_up_after_its_limit() {
    let yaml = proxy_to(silent(), "").replace("origin:\n", "origin:\n    timeouts: { response: 30s }\n");
    let running = start(&yaml, Clock::manual());
    let mut stream = client(running.address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let moved = advance_until_readable(&running, &stream, STEP, MOST);
    assert!(moved >= Duration::from_secs(30), "{moved:?}");
    let mut buf = Vec::new();
    read_head(&mut stream, &mut buf).unwrap();
    assert!(buf.starts_with(b"HTTP/1.1 504 "), "{}", String::from_utf8_lossy(&buf));
}

#[test]
fn a_routes_own_limit_wins_over_its_upstreams() {
    let yaml =
        proxy_to(silent(), "").replace("upstream: origin\n", "upstream: origin\n    timeouts: { response: 5s }\n");
    let running = start(&yaml, Clock::manual());
    let mut stream = client(running.address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let moved = advance_until_readable(&running, &stream, STEP, MOST);
    assert!(moved >= Duration::from_secs(5) && moved < Duration::from_secs(30), "{moved:?}");
    let mut buf = Vec::new();
    read_head(&mut stream, &mut buf).unwrap();
    assert!(buf.starts_with(b"HTTP/1.1 504 "));
}

#[test]
fn an_answer_that_stops_is_cut_after_the_upstreams_limit() {
    let origin = origin(|mut stream| {
        let mut buf = Vec::new();
        read_head(&mut stream, &mut buf);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        let mut sink = [0u8; 64];
        while matches!(stream.read(&mut sink), Ok(n) if n > 0) {}
    });
    let running = start(&proxy_to(origin, ""), Clock::manual());
    let mut stream = client(running.address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut buf = Vec::new();
    read_head(&mut stream, &mut buf).unwrap();
    while !buf.ends_with(b"half") {
        let mut piece = [0u8; 64];
        let n = stream.read(&mut piece).unwrap();
        buf.extend_from_slice(&piece[..n]);
    }
    let moved = advance_until_readable(&running, &stream, STEP, MOST);
    assert!(moved >= Duration::from_secs(30), "{moved:?}");
    assert_eq!(read_to_end(&mut stream), "");
}

#[test]
fn a_client_that_does_not_read_is_cut_after_write_idle() {
    let origin = origin(|mut stream| {
        let mut buf = Vec::new();
        read_head(&mut stream, &mut buf);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
        let piece = vec![b'x'; 65536];
        while stream.write_all(&piece).is_ok() {}
    });
    let running = start(&proxy_to(origin, "timeouts: { write_idle: 30s }\n"), Clock::manual());
    let stream = client(running.address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let needle = "daemun_faults_total{reason=\"client_stalled\"} 1";
    let mut moved = Duration::ZERO;
    while !running.metrics.render().contains(needle) && moved < MOST {
        running.clock.advance(STEP);
        moved += STEP;
        let mut byte = [0u8; 1];
        // gives the worker a moment without reading anything
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let _ = stream.peek(&mut byte);
        std::thread::yield_now();
    }
    assert!(moved >= Duration::from_secs(30) && moved < MOST, "{moved:?}");
}

#[test]
fn an_upstream_that_does_not_accept_is_given_up_after_the_connect_limit() {
    // a queue of one that is full: further connections get no answer
    let listener = daemun_sys::bind_tcp("127.0.0.1:0".parse().unwrap(), false, 0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        held.push(stream);
        assert!(held.len() < 100, "the queue does not fill");
    }
    let yaml = proxy_to(address, "").replace("origin:\n", "origin:\n    timeouts: { connect: 5s }\n");
    let running = start(&yaml, Clock::manual());
    let mut stream = client(running.address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let moved = advance_until_readable(&running, &stream, STEP, MOST);
    assert!(moved >= Duration::from_secs(5), "{moved:?}");
    let mut buf = Vec::new();
    read_head(&mut stream, &mut buf).unwrap();
    assert!(buf.starts_with(b"HTTP/1.1 504 "), "{}", String::from_utf8_lossy(&buf));
}

#[test]
fn a_resting_upstream_connection_is_closed_after_its_idle_time() {
    let (sender, ended) = std::sync::mpsc::sync_channel(4);
    let origin = origin(move |mut stream| {
        let mut buf = Vec::new();
        while let Some(end) = read_head(&mut stream, &mut buf) {
            buf.drain(..end);
            stream.write_all(ANSWER).unwrap();
        }
        let _ = sender.send(());
    });
    let running = start(&proxy_to(origin, ""), Clock::manual());
    let mut stream = client(running.address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut buf = Vec::new();
    read_head(&mut stream, &mut buf).unwrap();
    let mut moved = Duration::ZERO;
    while ended.recv_timeout(Duration::from_millis(30)).is_err() && moved < MOST {
        running.clock.advance(STEP);
        moved += STEP;
    }
    assert!(moved >= Duration::from_secs(60) && moved < MOST, "{moved:?}");
}

#[test]
fn a_tunnel_in_which_nothing_moves_ends_after_stream_idle() {
    let origin = origin(|mut stream| {
        let mut buf = Vec::new();
        read_head(&mut stream, &mut buf);
        let _ =
            stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
        let mut sink = [0u8; 64];
        while matches!(stream.read(&mut sink), Ok(n) if n > 0) {}
    });
    let running = start(&proxy_to(origin, "timeouts: { stream_idle: 5m }\n"), Clock::manual());
    let mut stream =
        client(running.address, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    let mut buf = Vec::new();
    read_head(&mut stream, &mut buf).unwrap();
    assert!(buf.starts_with(b"HTTP/1.1 101 "));
    let moved = advance_until_readable(&running, &stream, Duration::from_secs(5), MOST);
    assert!(moved >= Duration::from_secs(300), "{moved:?}");
}

/// A client that asked for more meanwhile is not read from, so its leaving is not seen: the limits end its exchanges, each with its record.
#[test]
fn a_client_that_pipelined_and_left_is_given_up_after_the_limits() {
    for at_once in [true, false] {
        let (arrived, arrival) = std::sync::mpsc::sync_channel(8);
        let origin = origin(move |mut stream| {
            let mut sink = [0u8; 4096];
            while let Ok(1..) = stream.read(&mut sink) {
                arrived.send(()).unwrap();
            }
        });
        let running = start(&proxy_to(origin, ""), Clock::manual());
        let first = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n".as_slice();
        let next = b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n".as_slice();
        let mut stream =
            client(running.address, if at_once { [first, next].concat() } else { first.to_vec() }.as_slice());
        arrival.recv().unwrap();
        if !at_once {
            stream.write_all(next).unwrap();
        }
        drop(stream);
        let said = || running.metrics.render();
        let mut moved = Duration::ZERO;
        while !said().contains("daemun_connections_open 0\n") {
            assert!(moved < MOST, "{}", said());
            running.clock.advance(STEP);
            moved += STEP;
            let _ = arrival.recv_timeout(Duration::from_millis(5));
        }
        let said = said();
        assert!(moved >= Duration::from_secs(30), "{moved:?}");
        assert!(said.contains("daemun_requests_total{route=\"all\",code=\"504\"} 1\n"), "{said}");
        assert!(said.contains("daemun_requests_abandoned_total{route=\"all\"} 1\n"), "{said}");
    }
}
