//! What workers give each other when the process has few descriptors. Alone in its process, whose limit it lowers.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests are tests")]

mod support;

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Barrier};

use daemun_dataplane::record::{Metrics, Setup};
use daemun_dataplane::{Clock, Gateway, IdSource, Options, Socket, Sockets};
use rustix::process::{Resource, Rlimit, setrlimit};
use support::{client, read_head, read_to_end};

const DESCRIPTORS: u64 = 300;
/// Connections to upstreams there may be: half of the descriptors but 256.
const PLACES: usize = 22;

fn begin(address: SocketAddr, target: &str) -> TcpStream {
    client(address, format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes())
}

fn status(mut stream: TcpStream) -> String {
    read_to_end(&mut stream).lines().next().unwrap_or_default().to_owned()
}

#[test]
fn connections_that_rest_with_one_worker_make_room_for_a_call_of_another() {
    setrlimit(Resource::Nofile, Rlimit { current: Some(DESCRIPTORS), maximum: Some(DESCRIPTORS) }).unwrap();
    // as many calls as there are places are answered only once all of them are there
    let barrier = Arc::new(Barrier::new(PLACES));
    let origin = support::origin(move |mut stream: TcpStream| {
        let mut head = Vec::new();
        while read_head(&mut stream, &mut head).is_some() {
            if head.starts_with(b"GET /together ") {
                barrier.wait();
            }
            head.clear();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let setup = Setup { workers: 2, policies: Vec::new(), version: "test", commit: "test", started: 0 };
    let (metrics, recorders) = Metrics::new(setup);
    let snapshot = support::compile("", &support::proxy_to(origin, "limits: { connections: 30 }\n"), &metrics);
    let listeners = [TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap()];
    let addresses = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
    let sockets =
        listeners.map(|socket| vec![Sockets { name: "127.0.0.1:0".into(), sockets: vec![Socket::Tcp(socket)] }]);
    let options = Options { clock: Clock::system(), ids: IdSource::fixed(7), recorders };
    let _gateway = Gateway::start(snapshot, sockets.into(), options).unwrap();
    let all: Vec<_> = (0..PLACES).map(|_| begin(addresses[0], "/together")).collect();
    for stream in all {
        assert_eq!(status(stream), "HTTP/1.1 200 OK");
    }
    assert_eq!(status(begin(addresses[1], "/")), "HTTP/1.1 200 OK");
}
