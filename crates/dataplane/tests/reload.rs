//! What lasts over a reload, and what it keeps of the configuration it began under: nothing.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests are tests")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use daemun_dataplane::{Clock, Snapshot, Sockets};
use support::{Running, client, compile, origin, proxy_to, read_head, start};

/// Publishes another configuration; gives a handle on the one it replaced, which the test holds no more.
async fn reload(running: &mut Running, yaml: &str) -> Weak<Snapshot> {
    let next = compile("", yaml, &running.metrics);
    let old = Arc::downgrade(&std::mem::replace(&mut running.snapshot, Arc::clone(&next)));
    let kept = vec![vec![Sockets { name: "127.0.0.1:0".into(), sockets: Vec::new() }]];
    running.gateway.as_ref().unwrap().publish(next, kept).await;
    old
}

/// How often something is looked for before it is given up.
const LOOKS: usize = 4000;

/// Lets everything else run for a moment.
async fn pause() {
    let _ = tokio::time::timeout(Duration::from_millis(5), std::future::pending::<()>()).await;
}

/// Waits until nothing holds it any more.
async fn freed(old: &Weak<Snapshot>) -> bool {
    for _ in 0..LOOKS {
        if old.strong_count() == 0 {
            return true;
        }
        pause().await;
    }
    false
}

/// What the record of the exchange says, once it is written.
async fn record(running: &Running) -> String {
    for _ in 0..LOOKS {
        if let Some(recent) = running.gateway.as_ref().unwrap().latest(1).await.first() {
            let mut out = Vec::new();
            recent.write_json(&mut out);
            return String::from_utf8(out).unwrap();
        }
        pause().await;
    }
    panic!("no record was written");
}

#[tokio::test]
async fn a_tunnel_lets_go_of_the_configuration_it_began_under() {
    let origin = origin(|mut stream| {
        let mut buf = Vec::new();
        if read_head(&mut stream, &mut buf).is_none() {
            return;
        }
        let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let mut piece = [0u8; 64];
        while let Ok(n @ 1..) = stream.read(&mut piece) {
            stream.write_all(&piece[..n]).unwrap();
        }
    });
    let mut running = start(&proxy_to(origin, ""), Clock::system());
    let mut stream =
        client(running.address, b"GET /t HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    read_head(&mut stream, &mut Vec::new()).unwrap();
    let old = reload(&mut running, "routes: []\n").await;
    assert!(freed(&old).await, "the tunnel keeps the old configuration");
    say(&mut stream, b"still here");
    drop(stream);
    let record = record(&running).await;
    assert!(record.contains(r#""route":"all""#) && record.contains(r#""bytes_in":10"#), "{record}");
}

fn say(stream: &mut TcpStream, text: &[u8]) {
    stream.write_all(text).unwrap();
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(back, text);
}

#[tokio::test]
async fn a_stream_of_events_lets_go_of_the_configuration_it_began_under() {
    let (go_on, going_on) = sync_channel::<()>(1);
    let going_on = Mutex::new(going_on);
    let origin = origin(move |mut stream| {
        let mut buf = Vec::new();
        if read_head(&mut stream, &mut buf).is_none() {
            return;
        }
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 20\r\n\r\ndata: 1\n\n\n";
        stream.write_all(head.as_bytes()).unwrap();
        going_on.lock().unwrap().recv().unwrap();
        stream.write_all(b"data: 2\n\n\n").unwrap();
        let _ = stream.read(&mut [0u8; 64]);
    });
    let mut running = start(&proxy_to(origin, ""), Clock::system());
    let mut stream = client(running.address, b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut buf = Vec::new();
    let head = read_head(&mut stream, &mut buf).unwrap();
    let old = reload(&mut running, "routes: []\n").await;
    assert!(freed(&old).await, "the stream keeps the old configuration");
    go_on.send(()).unwrap();
    let mut rest = vec![0; head + 20 - buf.len()];
    stream.read_exact(&mut rest).unwrap();
    assert!(rest.ends_with(b"data: 2\n\n\n"));
    let record = record(&running).await;
    assert!(record.contains(r#""route":"all""#) && record.contains(r#""bytes_out":20"#), "{record}");
    // the connection goes on, under the configuration of now
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut buf = Vec::new();
    read_head(&mut stream, &mut buf).unwrap();
    assert!(buf.starts_with(b"HTTP/1.1 404"));
}
