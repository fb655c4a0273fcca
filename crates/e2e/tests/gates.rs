//! What the gateway may cost, as far as it can be counted rather than timed: system calls per request, memory per idle connection,
//! memory while peers stall.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests are tests")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use daemun_e2e::gateway::Gateway;

const PATIENCE: Duration = Duration::from_secs(60);
/// The gates measure one at a time.
static ALONE: Mutex<()> = Mutex::new(());
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// An origin that answers every piece it reads.
fn answering() -> SocketAddr {
    origin(|mut stream| {
        let mut buf = [0u8; 4096];
        while matches!(stream.read(&mut buf), Ok(n) if n > 0) {
            if stream.write_all(ANSWER).is_err() {
                return;
            }
        }
    })
}

fn origin(serve: impl Fn(TcpStream) + Send + Sync + Clone + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

fn gateway(origin: SocketAddr) -> Gateway {
    Gateway::start(&format!(
        "workers: 1\nlisteners: [{{ bind: \"127.0.0.1:0\" }}]\nstatus: {{ bind: \"127.0.0.1:0\" }}\naccess_log: off\nlimits: {{ body: 8000MiB }}\n\
         upstreams:\n  origin: {{ targets: [\"http://{origin}\"] }}\nroutes:\n  - name: all\n    match: {{ prefix: / }}\n    upstream: origin\n"
    ))
}

fn tcp(gateway: &Gateway) -> TcpStream {
    let daemun_e2e::wire::Address::Tcp(address) = gateway.address() else { panic!("not a TCP listener") };
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn call(stream: &mut TcpStream) {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: example.com\r\nUser-Agent: gate\r\n\r\n").unwrap();
    let mut got = Vec::new();
    let mut buf = [0u8; 4096];
    while !got.ends_with(b"hello") {
        let n = stream.read(&mut buf).unwrap();
        assert!(n > 0, "the connection ended");
        got.extend_from_slice(&buf[..n]);
    }
}

#[test]
fn a_request_costs_at_most_six_and_a_half_system_calls() {
    const CALLS: u32 = 2_000;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let gateway = gateway(answering());
    let mut stream = tcp(&gateway);
    for _ in 0..100 {
        call(&mut stream);
    }
    let mut strace = Command::new("strace")
        .args(["-c", "-f", "-p", &gateway.pid().to_string()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("strace is needed: {error}"));
    let mut report = strace.stderr.take().unwrap();
    // it says so on its error stream once it is attached
    let mut attached = Vec::new();
    let mut byte = [0u8; 1];
    while !String::from_utf8_lossy(&attached).contains("attached") {
        assert_eq!(report.read(&mut byte).unwrap(), 1, "strace did not attach");
        attached.push(byte[0]);
    }
    for _ in 0..CALLS {
        call(&mut stream);
    }
    Command::new("kill").args(["-INT", &strace.id().to_string()]).status().unwrap();
    let mut text = String::new();
    report.read_to_string(&mut text).unwrap();
    strace.wait().unwrap();
    let calls: f64 = text
        .lines()
        .filter(|line| line.trim_end().ends_with("total"))
        .filter_map(|line| line.split_whitespace().nth(3)?.parse::<f64>().ok())
        .sum();
    assert!(calls / f64::from(CALLS) >= 4.0, "nothing was counted:\n{text}");
    assert!(calls / f64::from(CALLS) <= 6.5, "{} system calls a request:\n{text}", calls / f64::from(CALLS));
}

/// Proportional memory of the gateway in KiB.
fn pss(gateway: &Gateway) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", gateway.pid())).unwrap();
    text.lines()
        .find_map(|l| l.strip_prefix("Pss:"))
        .and_then(|l| l.trim().trim_end_matches(" kB").parse().ok())
        .unwrap()
}

#[test]
fn an_idle_connection_costs_at_most_two_kib_of_memory() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let gateway = gateway(answering());
    let open = |count: usize| -> Vec<TcpStream> {
        (0..count)
            .map(|_| {
                let mut stream = tcp(&gateway);
                call(&mut stream);
                stream
            })
            .collect()
    };
    let first = open(1_000);
    let low = settled(&gateway);
    let second = open(7_000);
    let high = settled(&gateway);
    let each = (high - low) / 7_000.0;
    drop((first, second));
    assert!(each <= 2.0, "{each} KiB for each idle connection");
}

/// The memory once it has stopped falling: busy state is given back a moment after the last request.
fn settled(gateway: &Gateway) -> f64 {
    let mut least = f64::MAX;
    let mut unchanged = 0;
    daemun_e2e::wait_until("the memory settles", PATIENCE, || {
        let now = pss(gateway);
        unchanged = if now < least { 0 } else { unchanged + 1 };
        least = least.min(now);
        (unchanged > 400).then_some(())
    });
    least
}

#[test]
fn bodies_against_stalled_peers_take_bounded_memory() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let length = 4u64 << 30;
    // reads the head, says that 4 GiB come, sends as much as is taken, and never reads a body
    let origin = origin(move |mut stream| {
        let mut head = Vec::new();
        let mut byte = [0u8; 1];
        while !head.ends_with(b"\r\n\r\n") {
            if !matches!(stream.read(&mut byte), Ok(1)) {
                return;
            }
            head.push(byte[0]);
        }
        let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").as_bytes());
        let piece = vec![b'x'; 1 << 16];
        while stream.write_all(&piece).is_ok() {}
    });
    let gateway = gateway(origin);
    let mut warm = tcp(&gateway);
    warm.write_all(b"GET /warm HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut byte = [0u8; 1];
    warm.read_exact(&mut byte).unwrap();
    let before = gateway.resident_kib();
    let mut stream = tcp(&gateway);
    stream.write_all(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n").as_bytes()).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let piece = vec![b'x'; 1 << 16];
    let mut sent = 0u64;
    // until nothing more is taken: both sockets' buffers and the gateway's are full
    while sent < length {
        match stream.write(&piece) {
            Ok(n) => sent += n as u64,
            Err(_) => break,
        }
    }
    let grown = gateway.resident_kib().saturating_sub(before);
    assert!(sent < 64 << 20, "{sent} bytes were taken although nobody read them");
    assert!(grown <= 2 * 1024, "the resident set grew by {grown} KiB");
}
