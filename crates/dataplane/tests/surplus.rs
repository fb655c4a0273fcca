//! What an upstream sends behind its answer is nobody's next answer.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests are tests")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, OnceLock};

use daemun_dataplane::Clock;
use daemun_pipeline::{Exchange, Explanation, Flow, Phase, Policy, PolicyRow};
use support::{client, read_head, start_with_policies};

const POISON: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";

/// Tells when the surplus was sent.
static SENT: OnceLock<Mutex<Receiver<()>>> = OnceLock::new();

/// Holds the worker's thread before the second call until the surplus of the first was sent: the kernel has it, the runtime cannot know.
struct Holds;

impl Policy for Holds {
    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        if exchange.request.head.bytes(exchange.request.path) == b"/second" {
            SENT.get().unwrap().lock().unwrap().recv().unwrap();
        }
        Flow::Now(Ok(()))
    }

    fn explain(&self, _: &mut Exchange) -> Explanation {
        Explanation::pass("")
    }
}

const ROWS: &[PolicyRow] = &[PolicyRow {
    ends: false,
    implied: false,
    name: "holds",
    phase: Phase::Transform,
    manual: "",
    unconditional: None,
    check: |_, _| {},
    schema: |_| true.into(),
    build: |_, _| Some(vec![(Phase::Transform, Box::new(Holds) as Box<dyn Policy>)]),
}];

fn answer(stream: &mut TcpStream, text: &str) -> bool {
    stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()).as_bytes()).is_ok()
}

/// Reads one answer and gives its body.
fn read_answer(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0u8; 1];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0].to_ascii_lowercase());
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    String::from_utf8(body).unwrap()
}

/// An origin that answers with the path; behind that of `/first` it sends a whole answer more, once told that the client has the first.
fn origin(had: Receiver<()>, sent: SyncSender<()>) -> std::net::SocketAddr {
    let had = Mutex::new(had);
    support::origin(move |mut stream: TcpStream| {
        // what is written must be there at once
        stream.set_nodelay(true).unwrap();
        loop {
            let mut head = Vec::new();
            if read_head(&mut stream, &mut head).is_none() {
                return;
            }
            let text = String::from_utf8(head).unwrap();
            let path = text.split(' ').nth(1).unwrap();
            if !answer(&mut stream, path) {
                return;
            }
            if path == "/first" {
                had.lock().unwrap().recv().unwrap();
                let _ = stream.write_all(POISON);
                sent.send(()).unwrap();
            }
        }
    })
}

#[test]
fn what_comes_behind_an_answer_while_the_next_call_is_on_its_way_is_not_its_answer() {
    let (has, had) = sync_channel(1);
    let (send, sent) = sync_channel(1);
    SENT.set(Mutex::new(sent)).unwrap();
    let origin = origin(had, send);
    let running = start_with_policies(ROWS, &support::proxy_to(origin, "policies: { holds: {} }\n"), Clock::system());
    for _ in 0..50 {
        let mut stream =
            client(running.address, b"GET /first HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(read_answer(&mut stream), "/first");
        has.send(()).unwrap();
        assert_eq!(read_answer(&mut stream), "/second");
    }
}
