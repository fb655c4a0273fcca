//! A flood of calls to an upstream that never answers, in a process with few descriptors. Alone in its process, whose limit it lowers.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests are tests")]

mod support;
#[path = "support/h2.rs"]
mod peers;

use std::cell::Cell;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use daemun_dataplane::Clock;
use peers::{Client, run};
use rustix::process::{Resource, Rlimit, setrlimit};
use support::{client, read_head, read_to_end, start};

/// The gateway's share of these is 172 connections of clients and 172 to upstreams; the peers in this process take as many again.
const DESCRIPTORS: u64 = 600;
const CLIENTS: usize = 6;
const STREAMS: usize = 120;

/// Accepts and never answers, until it is told to.
struct Hanging {
    address: SocketAddr,
    answers: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
}

fn hanging() -> Hanging {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (answers, accepted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (own_answers, own_accepted) = (Arc::clone(&answers), Arc::clone(&accepted));
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for mut stream in listener.incoming().flatten() {
            own_accepted.fetch_add(1, Ordering::SeqCst);
            if own_answers.load(Ordering::SeqCst) {
                held.clear();
                std::thread::spawn(move || {
                    if read_head(&mut stream, &mut Vec::new()).is_some() {
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                    }
                });
            } else {
                held.push(stream);
            }
        }
    });
    Hanging { address, answers, accepted }
}

fn status(address: SocketAddr, target: &str) -> String {
    let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    read_to_end(&mut client(address, request.as_bytes())).lines().next().unwrap_or_default().to_owned()
}

async fn until(what: &str, reached: impl Fn() -> bool) {
    for _ in 0..4000 {
        if reached() {
            return;
        }
        let _ = tokio::time::timeout(Duration::from_millis(5), std::future::pending::<()>()).await;
    }
    panic!("{what}");
}

#[test]
fn a_flood_of_calls_that_hang_leaves_descriptors_for_clients_and_for_other_upstreams() {
    setrlimit(Resource::Nofile, Rlimit { current: Some(DESCRIPTORS), maximum: Some(DESCRIPTORS) }).unwrap();
    run(async {
        let hanging = hanging();
        let prompt = support::origin(|mut stream: TcpStream| {
            while read_head(&mut stream, &mut Vec::new()).is_some() {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
            }
        });
        let yaml = format!(
            "upstreams:\n  hanging: {{ targets: [\"http://{}\"] }}\n  prompt: {{ targets: [\"http://{prompt}\"] }}\nroutes:\n  \
             - {{ name: hanging, match: {{ prefix: /hanging }}, upstream: hanging }}\n  \
             - {{ name: prompt, match: {{ prefix: /prompt }}, upstream: prompt }}\n  \
             - {{ name: own, match: {{ prefix: /own }}, answer: {{ status: 204 }} }}\n",
            hanging.address
        );
        let running = start(&yaml, Clock::system());
        let refused = Rc::new(Cell::new(0));
        let mut flood = Vec::new();
        for _ in 0..CLIENTS {
            let client = Rc::new(Client::connect(running.address).await);
            for _ in 0..STREAMS {
                let (client, refused) = (Rc::clone(&client), Rc::clone(&refused));
                flood.push(tokio::task::spawn_local(async move {
                    let answer = client.get("/hanging").await;
                    if answer.is_ok_and(|answer| answer.status == 503 && answer.field("retry-after").is_some()) {
                        refused.set(refused.get() + 1);
                    }
                }));
            }
        }
        let streams = CLIENTS * STREAMS;
        until("every call hangs or is refused", || refused.get() + hanging.accepted.load(Ordering::SeqCst) == streams)
            .await;
        let held = hanging.accepted.load(Ordering::SeqCst);
        assert!((140..172).contains(&held), "{held} of 172 connections for one upstream of two");
        assert!(running.metrics.render().contains(&format!("reason=\"too_many_calls\"}} {}\n", refused.get())));
        let address = running.address;
        let others = move || {
            for _ in 0..20 {
                assert_eq!(status(address, "/own"), "HTTP/1.1 204 No Content");
                assert_eq!(status(address, "/prompt"), "HTTP/1.1 200 OK");
                assert_eq!(status(address, "/hanging"), "HTTP/1.1 503 Service Unavailable");
            }
        };
        tokio::task::spawn_blocking(others).await.unwrap();
        // with its last call a client leaves
        flood.iter().for_each(tokio::task::JoinHandle::abort);
        drop(flood);
        hanging.answers.store(true, Ordering::SeqCst);
        let recovered =
            tokio::task::spawn_blocking(move || (0..10_000).any(|_| status(address, "/hanging") == "HTTP/1.1 200 OK"));
        assert!(recovered.await.unwrap(), "no place was given back");
    });
}
