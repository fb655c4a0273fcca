//! What the gateway may cost, as far as it can be counted rather than timed: system calls per request, memory per idle connection,
//! memory while peers stall, whatever they speak.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests are tests")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use daemun_e2e::gateway::Gateway;
use daemun_e2e::hpack::encode;
use daemun_e2e::http2::{END_HEADERS, Http2, frame, kind};
use daemun_e2e::trace::system_calls;
use daemun_e2e::wire::Stream;
use daemun_e2e::{Broken, Certificates, Next, Origin, Peer};

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
    let (count, text) = system_calls(gateway.pid(), || (0..CALLS).for_each(|_| call(&mut stream)));
    let calls = count as f64;
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

/// What is spoken on one side of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Spoken {
    tls: bool,
    h2: bool,
}

const PLAIN: Spoken = Spoken { tls: false, h2: false };
const TLS: Spoken = Spoken { tls: true, h2: false };
const H2: Spoken = Spoken { tls: false, h2: true };
const TLS_H2: Spoken = Spoken { tls: true, h2: true };

/// What each side says it sends.
const LENGTH: u64 = 4 << 30;
/// More than all buffers on the way may hold.
const TOO_MUCH: usize = 64 << 20;

/// Reads one head, says that 4 GiB come, sends as much as is taken, and never reads a body.
fn stalled_origin(spoken: Spoken, certificates: &Certificates) -> Origin {
    let script = if spoken.h2 { stalled_streams } else { stalled };
    let server = certificates.server("a", None, &[if spoken.h2 { "h2" } else { "http/1.1" }]);
    if spoken.tls { Origin::start_tls(server, script) } else { Origin::start(script) }
}

fn stalled(peer: &mut Peer) -> Next {
    let mut byte = [0u8; 1];
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if !matches!(peer.wire.stream.read(&mut byte), Ok(1)) {
            return Next::Close;
        }
        head.push(byte[0]);
    }
    peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n"));
    let piece = vec![b'x'; 1 << 16];
    while peer.send(&piece) {}
    Next::Close
}

/// The same over HTTP/2: what comes is read off the connection, but no window is given back.
fn stalled_streams(peer: &mut Peer) -> Next {
    let answer = |stream| {
        let length = LENGTH.to_string();
        frame(kind::HEADERS, END_HEADERS, stream, &encode(&[(":status", "200"), ("content-length", length.as_str())]))
    };
    daemun_e2e::http2_origin::pour(peer, answer)
}

/// Offers 4 GiB, of which `body` is the beginning, to a peer that reads nothing, and reads nothing itself; how much was taken. The
/// connection is added to `held`.
fn offer(gateway: &Gateway, spoken: Spoken, certificates: &Certificates, body: &[u8], held: &mut Vec<Stream>) -> usize {
    let address = &gateway.addresses()[usize::from(spoken.tls)];
    let stream = if spoken.tls {
        let alpn = if spoken.h2 { "h2" } else { "http/1.1" };
        certificates.client(None, &[alpn], &[&rustls::version::TLS13]).connect(address, "a.test")
    } else {
        Stream::connect(address).unwrap()
    };
    let length = LENGTH.to_string();
    if spoken.h2 {
        let mut client = Http2::begin(stream, 0);
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/"),
            (":authority", "a"),
            ("content-length", &length),
        ];
        client.headers(1, &fields, false);
        client.set_timeout(Duration::from_secs(1));
        let (taken, broken) = client.upload_part(1, body, false);
        assert!(matches!(broken, None | Some(Broken::TimedOut)), "{broken:?} after {taken} bytes");
        held.push(client.wire.stream);
        taken
    } else {
        let mut stream = stream;
        stream.set_timeout(Duration::from_secs(1));
        stream.write_all(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n").as_bytes()).unwrap();
        let mut taken = 0;
        while taken < body.len() {
            match stream.write(&body[taken..body.len().min(taken + 65_536)]) {
                Ok(count) => taken += count,
                Err(_) => break,
            }
        }
        held.push(stream);
        taken
    }
}

#[test]
fn bodies_against_stalled_peers_take_bounded_memory() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let certificates = Certificates::new();
    certificates.issue("a", "ca", "DNS:a.test,IP:127.0.0.1");
    let body = vec![b'x'; TOO_MUCH];
    let pairs =
        [(PLAIN, PLAIN), (TLS, PLAIN), (H2, PLAIN), (TLS_H2, PLAIN), (PLAIN, TLS), (PLAIN, H2), (TLS_H2, TLS_H2)];
    // each has a gateway of its own, and most of the time all wait
    std::thread::scope(|scope| {
        for (client, upstream) in pairs {
            let (certificates, body) = (&certificates, &body);
            scope.spawn(move || {
                let (taken, grown) = against_stalled_peers(client, upstream, certificates, body);
                let what = format!("{client:?} to {upstream:?}");
                assert!(taken > 1 << 16, "{what}: only {taken} bytes were taken");
                assert!(taken < TOO_MUCH, "{what}: {taken} bytes were taken although nobody read them");
                assert!(grown <= 2 * 1024, "{what}: the resident set grew by {grown} KiB");
            });
        }
    });
}

/// How many bytes of `body` were taken, and by how many KiB the resident set grew.
fn against_stalled_peers(client: Spoken, upstream: Spoken, certificates: &Certificates, body: &[u8]) -> (usize, u64) {
    let origin = stalled_origin(upstream, certificates);
    let scheme = if upstream.tls { "https" } else { "http" };
    let protocol = match (upstream.h2, upstream.tls) {
        (false, _) => "http1",
        (true, false) => "h2c",
        (true, true) => "h2",
    };
    let yaml = format!(
        "workers: 1\naccess_log: off\nlimits: {{ body: 8000MiB }}\nlisteners:\n  - {{ bind: \"127.0.0.1:0\" }}\n  \
         - {{ bind: \"127.0.0.1:0\", tls: {{ certificates: [{{ {} }}] }} }}\nupstreams:\n  \
         origin: {{ targets: [\"{scheme}://127.0.0.1:{}\"], protocol: {protocol}, tls: {{ ca: \"{}\" }} }}\n\
         routes:\n  - {{ name: all, match: {{ prefix: / }}, upstream: origin }}\n",
        certificates.pair("a"),
        origin.port(),
        certificates.path("ca.crt")
    );
    let gateway = Gateway::start(&yaml);
    let mut held = Vec::new();
    // what is made once, and stays, is there after this
    let _ = offer(&gateway, client, certificates, b"x", &mut held);
    origin.wait("the first call arrived", |log| (log.accepted > 0).then_some(()));
    let before = gateway.resident_kib();
    let taken = offer(&gateway, client, certificates, body, &mut held);
    let grown = gateway.resident_kib().saturating_sub(before);
    (taken, grown)
}
