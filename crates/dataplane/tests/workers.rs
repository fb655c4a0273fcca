//! What workers close for each other and for themselves when the process has few descriptors. Alone in its process, whose limit it lowers.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests are tests")]

mod support;
#[path = "support/h2.rs"]
mod peers;

use std::fmt::Write as _;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Barrier, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daemun_dataplane::record::{Metrics, Setup};
use daemun_dataplane::{Clock, Gateway, IdSource, Options, Socket, Sockets};
use rustix::process::{Resource, Rlimit, setrlimit};
use support::{client, read_head};

const DESCRIPTORS: u64 = 300;
/// Connections to upstreams there may be: half of the descriptors but 256.
const PLACES: usize = 22;
/// Targets that are called in turn: more than there are places.
const TARGETS: usize = 40;

/// Lowers the limit; the tests of this file, whose peers count too, run one after the other.
fn few_descriptors() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    setrlimit(Resource::Nofile, Rlimit { current: Some(DESCRIPTORS), maximum: Some(DESCRIPTORS) }).unwrap();
    one
}

/// A gateway whose workers have an address each.
fn gateway(workers: usize, yaml: &str, clock: Clock) -> (Gateway, Vec<SocketAddr>) {
    let (metrics, recorders) =
        Metrics::new(Setup { workers, policies: Vec::new(), version: "test", commit: "test", started: 0 });
    let snapshot = support::compile("", &format!("{yaml}limits: {{ connections: 30 }}\n"), &metrics);
    let listeners: Vec<_> = (0..workers).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let addresses = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
    let sockets = listeners.into_iter();
    let sockets =
        sockets.map(|socket| vec![Sockets { name: "127.0.0.1:0".into(), sockets: vec![Socket::Tcp(socket)] }]);
    let options = Options { clock, ids: IdSource::fixed(7), recorders };
    (Gateway::start(snapshot, sockets.collect(), options).unwrap(), addresses)
}

/// Answers every call; that for `/together` only when as many are there as the barrier waits for. Tells of every connection.
fn prompt(together: usize, accepted: Arc<AtomicUsize>) -> SocketAddr {
    let barrier = Barrier::new(together);
    support::origin(move |mut stream: TcpStream| {
        accepted.fetch_add(1, Ordering::SeqCst);
        let mut head = Vec::new();
        while read_head(&mut stream, &mut head).is_some() {
            if head.starts_with(b"GET /together ") {
                barrier.wait();
            }
            head.clear();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    })
}

/// Never answers; tells of every call.
fn hanging() -> (SocketAddr, Receiver<()>) {
    let (said, called) = sync_channel(PLACES);
    let said = Mutex::new(said);
    let address = support::origin(move |mut stream: TcpStream| {
        let mut head = Vec::new();
        if read_head(&mut stream, &mut head).is_some() {
            said.lock().unwrap().send(()).unwrap();
            head.clear();
            let _ = read_head(&mut stream, &mut head);
        }
    });
    (address, called)
}

fn ask(stream: &mut TcpStream, path: &str) {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
}

/// The status of an answer without a body, or of a refusal.
fn status(stream: &mut TcpStream) -> u16 {
    let mut head = Vec::new();
    read_head(stream, &mut head).unwrap();
    std::str::from_utf8(&head[9..12]).unwrap().parse().unwrap()
}

/// Whether something comes before the clock must be moved again.
fn is_readable(stream: &TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let readable = stream.peek(&mut [0; 1]).is_ok();
    stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
    readable
}

fn call(stream: &mut TcpStream, path: &str) -> u16 {
    ask(stream, path);
    status(stream)
}

/// An upstream for every target, or one for all, beside another.
fn in_turn(targets: &[SocketAddr], protocol: &str, each: bool) -> String {
    let mut upstreams = String::from("upstreams:\n");
    let mut routes = String::from("routes:\n");
    let mut add = |name: &str, targets: &[String]| {
        let targets = targets.join(", ");
        writeln!(upstreams, "  {name}: {{ protocol: {protocol}, targets: [{targets}] }}").unwrap();
        writeln!(routes, "  - {{ name: {name}, match: {{ path: /{name} }}, upstream: {name} }}").unwrap();
    };
    let urls: Vec<_> = targets.iter().map(|target| format!("\"http://{target}\"")).collect();
    if each {
        for (n, url) in urls.iter().enumerate() {
            add(&format!("u{n}"), std::slice::from_ref(url));
        }
    } else {
        add("all", &urls);
        add("other", &urls[..1]);
    }
    upstreams + &routes
}

/// Calls every target some times, one call at a time, by every worker.
fn call_in_turn(addresses: &[SocketAddr], each: bool) {
    let mut clients: Vec<_> = addresses.iter().map(|&address| client(address, b"")).collect();
    for n in 0..4 * TARGETS {
        let path = if each { format!("/u{}", n % TARGETS) } else { "/all".to_owned() };
        for client in &mut clients {
            assert_eq!(call(client, &path), 200, "call {n} of {path}");
        }
    }
}

#[test]
fn connections_that_rest_with_one_worker_make_room_for_a_call_of_another() {
    let _alone = few_descriptors();
    // as many calls as there are places are answered only once all of them are there
    let origin = prompt(PLACES, Arc::default());
    let (_gateway, addresses) = gateway(2, &support::proxy_to(origin, ""), Clock::system());
    let mut all: Vec<_> = (0..PLACES).map(|_| client(addresses[0], b"")).collect();
    all.iter_mut().for_each(|stream| ask(stream, "/together"));
    assert!(all.iter_mut().all(|stream| status(stream) == 200));
    assert_eq!(call(&mut client(addresses[1], b""), "/"), 200);
}

#[test]
fn more_targets_than_there_are_places_are_called_in_turn_without_a_refusal() {
    let _alone = few_descriptors();
    let targets: Vec<_> = (0..TARGETS).map(|_| prompt(1, Arc::default())).collect();
    for workers in [1, 2] {
        for each in [true, false] {
            let (_gateway, addresses) = gateway(workers, &in_turn(&targets, "http1", each), Clock::system());
            call_in_turn(&addresses, each);
        }
    }
}

#[test]
fn more_targets_of_http2_than_there_are_places_are_called_in_turn_without_a_refusal() {
    let _alone = few_descriptors();
    peers::run(async {
        let mut targets = Vec::new();
        for _ in 0..TARGETS {
            targets.push(peers::origin(h2::server::Builder::new(), peers::echo).await.0);
        }
        for workers in [1, 2] {
            for each in [true, false] {
                let (gateway, addresses) = gateway(workers, &in_turn(&targets, "h2c", each), Clock::system());
                tokio::task::spawn_blocking(move || call_in_turn(&addresses, each)).await.unwrap();
                drop(gateway);
            }
        }
    });
}

#[test]
fn an_upstream_that_hangs_at_its_share_leaves_others_what_they_use() {
    const STEADY: usize = 4;
    for workers in [1, 2] {
        let _alone = few_descriptors();
        let accepted = Arc::<AtomicUsize>::default();
        let prompt = prompt(STEADY, Arc::clone(&accepted));
        let (hanging, called) = hanging();
        let yaml = format!(
            "upstreams:\n  prompt: {{ targets: [\"http://{prompt}\"] }}\n  hanging: {{ targets: [\"http://{hanging}\"] }}\nroutes:\n  \
             - {{ name: prompt, match: {{ path: /together }}, upstream: prompt }}\n  \
             - {{ name: hanging, match: {{ path: /hanging }}, upstream: hanging }}\n"
        );
        let clock = Clock::manual();
        let (_gateway, addresses) = gateway(workers, &yaml, clock.clone());
        let mut steady: Vec<_> = (0..STEADY).map(|_| client(addresses[workers - 1], b"")).collect();
        let mut together = || {
            steady.iter_mut().for_each(|stream| ask(stream, "/together"));
            assert!(steady.iter_mut().all(|stream| status(stream) == 200));
        };
        together();
        // a ninth of what the others do not have is left
        let mut flood: Vec<_> = (0..16).map(|_| client(addresses[0], b"")).collect();
        for stream in &mut flood {
            ask(stream, "/hanging");
            called.recv_timeout(support::PATIENCE).unwrap();
        }
        let mut refused = client(addresses[0], b"");
        ask(&mut refused, "/hanging");
        // those who wait for other workers have waited long enough
        for _ in 0..3 {
            clock.advance(Duration::from_millis(250));
            if is_readable(&refused) {
                break;
            }
        }
        assert_eq!(status(&mut refused), 503);
        together();
        assert_eq!(accepted.load(Ordering::SeqCst), STEADY);
        // what nobody uses any more is another matter
        clock.advance(Duration::from_secs(2));
        ask(&mut refused, "/hanging");
        called.recv_timeout(support::PATIENCE).unwrap();
    }
}
