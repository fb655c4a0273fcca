//! Policies that hold bodies, change them, code them, or stop the answer.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests are tests")]

mod support;

use std::io::{Read, Result, Write};
use std::net::TcpStream;

use daemun_dataplane::Clock;
use daemun_pipeline::{
    Bodies, BodyNeed, Coder, Exchange, Explanation, Fault, Flow, Phase, Policy, PolicyRow, Reason, Verdict,
};
use support::{Running, client, read_head, read_to_end, start_with_policies};

/// Bytes the test's policy needs at most.
const MOST: u64 = 100;

/// Doubles request bodies, puts answers' in brackets, refuses an answer that says `secret`; each where the path says so.
struct Holds;

impl Holds {
    fn at(exchange: &Exchange, part: &str) -> bool {
        exchange.request.path_text().contains(part)
    }
}

impl Policy for Holds {
    fn bodies(&self) -> Bodies {
        Bodies { request: true, response: true, coded: false }
    }

    fn request_body(&self, exchange: &Exchange) -> BodyNeed {
        if Holds::at(exchange, "request") { BodyNeed::Whole { max: MOST } } else { BodyNeed::Untouched }
    }

    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        if let Some(body) = &mut exchange.request.body {
            body.extend_from_within(..);
        }
        Flow::Now(Ok(()))
    }

    fn response_body(&self, exchange: &Exchange) -> BodyNeed {
        if Holds::at(exchange, "answer") { BodyNeed::Whole { max: MOST } } else { BodyNeed::Untouched }
    }

    fn on_response(&self, exchange: &mut Exchange) -> Verdict {
        exchange.coding = Holds::at(exchange, "coded").then_some("loud");
        let Some(body) = exchange.response.body.as_mut().filter(|body| !body.is_empty()) else { return Ok(()) };
        if body == b"secret" {
            return Err(Fault::new(Reason::BadResponse, "the answer is not for you").into());
        }
        body.insert(0, b'[');
        body.push(b']');
        Ok(())
    }

    fn coder(&self, exchange: &Exchange) -> Option<Box<dyn Coder>> {
        Holds::at(exchange, "coded").then(|| Box::new(Loud::default()) as Box<dyn Coder>)
    }

    fn explain(&self, _: &mut Exchange) -> Explanation {
        Explanation::pass("")
    }
}

/// Makes letters large, holding them until it is flushed, and ends with a mark.
#[derive(Default)]
struct Loud(Vec<u8>);

impl Coder for Loud {
    fn push(&mut self, piece: &[u8], _: &mut Vec<u8>) -> Result<()> {
        self.0.extend_from_slice(&piece.to_ascii_uppercase());
        Ok(())
    }

    fn flush(&mut self, out: &mut Vec<u8>) -> Result<()> {
        out.append(&mut self.0);
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        out.append(&mut self.0);
        out.push(b'!');
        Ok(())
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

/// Answers with what the last segment of the path says; `echo` with what was sent.
fn origin(mut stream: TcpStream) {
    loop {
        let mut head = Vec::new();
        let Some(end) = read_head(&mut stream, &mut head) else { return };
        let mut body = head.split_off(end);
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |length| length.parse().unwrap());
        while body.len() < length {
            let mut piece = vec![0; length - body.len()];
            let n = stream.read(&mut piece).unwrap();
            body.extend_from_slice(&piece[..n]);
        }
        let last = head.lines().next().unwrap().split(' ').nth(1).unwrap().rsplit('/').next().unwrap().to_owned();
        let head = head.replace("\r\n", "|");
        let answer = match last.as_str() {
            "echo" => format!("content-length: {}\r\n\r\n{}", body.len(), String::from_utf8(body).unwrap()),
            "head" => format!("content-length: {}\r\n\r\n{head}", head.len()),
            "long" => format!("content-length: 150\r\n\r\n{}", "a".repeat(150)),
            "chunked" => "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\nx-end: 1\r\n\r\n".to_owned(),
            "longer" => {
                format!("transfer-encoding: chunked\r\n\r\n50\r\n{0}\r\n50\r\n{0}\r\n0\r\n\r\n", "b".repeat(80))
            }
            text => format!("content-length: {}\r\n\r\n{text}", text.len()),
        };
        stream.write_all(format!("HTTP/1.1 200 OK\r\n{answer}").as_bytes()).unwrap();
    }
}

fn gateway() -> Running {
    let more = "policies: { holds: {} }\nerrors: {}\n";
    start_with_policies(ROWS, &support::proxy_to(support::origin(origin), more), Clock::system())
}

/// Head and body of the answer to a request, on a connection that ends with it.
fn ask(running: &Running, target: &str, more: &str) -> (String, String) {
    let method = if more.is_empty() { "GET" } else { "POST" };
    let more = if more.is_empty() { "\r\n" } else { more };
    let request = format!("{method} {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{more}");
    let answer = read_to_end(&mut client(running.address, request.as_bytes()));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
    (head.to_owned(), body.to_owned())
}

#[test]
fn a_request_body_is_held_changed_and_sent_with_its_new_length() {
    let running = gateway();
    assert_eq!(ask(&running, "/request/echo", "Content-Length: 3\r\n\r\nabc").1, "abcabc");
    let chunked = "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n";
    assert_eq!(ask(&running, "/request/echo", chunked).1, "abcdabcd");
    assert!(ask(&running, "/request/head", chunked).1.contains("|content-length: 8|"));
    assert_eq!(ask(&running, "/untouched/echo", "Content-Length: 3\r\n\r\nabc").1, "abc");
    // a request without a body does not get one
    let (_, head) = ask(&running, "/request/head", "");
    assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
}

#[test]
fn the_fields_behind_a_held_body_go_on_with_it() {
    let running = gateway();
    let (_, head) =
        ask(&running, "/request/head", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-End: 1\r\n\r\n");
    assert!(head.contains("|transfer-encoding: chunked|"), "{head}");
}

#[test]
fn a_request_body_larger_than_a_policy_needs_is_refused_however_it_is_framed() {
    let running = gateway();
    let body = "a".repeat(101);
    for more in [
        format!("Content-Length: 101\r\n\r\n{body}"),
        format!("Transfer-Encoding: chunked\r\n\r\n65\r\n{body}\r\n0\r\n\r\n"),
        format!("Transfer-Encoding: chunked\r\n\r\n60\r\n{}\r\n60\r\n", "a".repeat(96)),
    ] {
        let (head, _) = ask(&running, "/request/echo", &more);
        assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
    }
    assert_eq!(ask(&running, "/request/echo", &format!("Content-Length: 50\r\n\r\n{}", "a".repeat(50))).1.len(), 100);
}

#[test]
fn an_answer_is_held_changed_and_sent_with_its_new_length() {
    let running = gateway();
    let (head, body) = ask(&running, "/answer/hello", "");
    assert!(head.contains("\r\ncontent-length: 7"), "{head}");
    assert_eq!(body, "[hello]");
    let (head, body) = ask(&running, "/answer/chunked", "");
    assert!(head.contains("\r\ntransfer-encoding: chunked"), "{head}");
    assert_eq!(body, "8\r\n[abcdef]\r\n0\r\nx-end: 1\r\n\r\n");
    assert_eq!(ask(&running, "/untouched/hello", "").1, "hello");
}

#[test]
fn an_answer_larger_than_a_policy_needs_passes_as_it_is() {
    let running = gateway();
    assert_eq!(ask(&running, "/answer/long", "").1, "a".repeat(150));
    let (_, body) = ask(&running, "/answer/longer", "");
    assert_eq!(body.matches('b').count(), 160, "{body}");
    assert!(!body.contains('['), "{body}");
    let (_, body) = ask(&running, "/answer/coded/longer", "");
    assert_eq!(body.matches('B').count(), 160, "{body}");
}

#[test]
fn a_policy_may_stop_an_answer() {
    let running = gateway();
    let (head, body) = ask(&running, "/answer/secret", "");
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    assert!(body.contains("the answer is not for you"), "{body}");
    support::until_said(&running, "daemun_faults_total{reason=\"bad_response\"} 1\n");
}

#[test]
fn an_answer_is_coded_on_its_way_or_whole() {
    let running = gateway();
    let (head, body) = ask(&running, "/coded/hello", "");
    assert!(head.contains("\r\ntransfer-encoding: chunked") && !head.contains("content-length"), "{head}");
    let letters: String = body.chars().filter(|c| c.is_ascii_uppercase() || *c == '!').collect();
    assert_eq!(letters, "HELLO!", "{body}");
    let (head, body) = ask(&running, "/answer/coded/hello", "");
    assert!(head.contains("\r\ncontent-length: 8"), "{head}");
    assert_eq!(body, "[HELLO]!");
    let (_, body) = ask(&running, "/coded/chunked", "");
    assert!(body.ends_with("0\r\nx-end: 1\r\n\r\n"), "{body}");
}

#[test]
fn an_answer_of_the_gateways_own_is_changed_and_coded() {
    let yaml = "routes: [{ name: own, match: { prefix: / }, answer: { body: hello } }]\npolicies: { holds: {} }\n";
    let running = start_with_policies(ROWS, yaml, Clock::system());
    let (head, body) = ask(&running, "/coded", "");
    assert!(head.contains("\r\ncontent-length: 8"), "{head}");
    assert_eq!(body, "[HELLO]!");
    let mut stream = client(running.address, b"HEAD /coded HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(read_to_end(&mut stream).ends_with("\r\n\r\n"));
}

#[test]
fn a_coder_is_flushed_when_nothing_more_comes_for_now() {
    let (go, wait) = std::sync::mpsc::sync_channel::<()>(0);
    let wait = std::sync::Mutex::new(wait);
    let origin = support::origin(move |mut stream| {
        read_head(&mut stream, &mut Vec::new()).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc").unwrap();
        wait.lock().unwrap().recv().unwrap();
        stream.write_all(b"def").unwrap();
    });
    let running = start_with_policies(ROWS, &support::proxy_to(origin, "policies: { holds: {} }\n"), Clock::system());
    let mut stream = client(running.address, b"GET /coded HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let mut so_far = Vec::new();
    while !so_far.windows(3).any(|w| w == b"ABC") {
        let mut piece = [0; 1000];
        let n = stream.read(&mut piece).unwrap();
        assert!(n > 0, "{}", String::from_utf8_lossy(&so_far));
        so_far.extend_from_slice(&piece[..n]);
    }
    go.send(()).unwrap();
    assert!(read_to_end(&mut stream).contains("DEF"));
}

#[test]
fn a_file_is_held_changed_and_coded_like_any_answer() {
    let root = std::env::temp_dir().join(format!("daemun-held-{}", std::process::id()));
    std::fs::create_dir_all(&root).unwrap();
    let long = "a".repeat(200_000);
    for (name, text) in [
        ("plain", "hello"),
        ("answer", "hello"),
        ("answer-long", &long),
        ("coded", &long),
        ("coded-empty", ""),
        ("answer-coded", "hello"),
    ] {
        std::fs::write(root.join(name), text).unwrap();
    }
    let yaml = format!(
        "routes: [{{ name: own, match: {{ prefix: / }}, files: {{ root: \"{}\" }} }}]\npolicies: {{ holds: {{}} }}\n",
        root.display()
    );
    let running = start_with_policies(ROWS, &yaml, Clock::system());
    for (target, length, expected) in [
        ("/plain", "5", "hello"),
        ("/answer", "7", "[hello]"),
        ("/answer-long", "200000", &long),
        ("/answer-coded", "8", "[HELLO]!"),
        ("/coded-empty", "0", ""),
    ] {
        let (head, body) = ask(&running, target, "");
        assert!(head.contains(&format!("\r\ncontent-length: {length}\r\n")), "{target}: {head}");
        assert!(body == expected, "{target}: {} bytes", body.len());
    }
    let (head, body) = ask(&running, "/coded", "");
    assert!(head.contains("\r\ntransfer-encoding: chunked") && !head.contains("content-length"), "{head}");
    // sizes of chunks are short lines, in small letters
    assert_eq!(body.matches('A').count(), 200_000);
    assert!(body.ends_with("!\r\n0\r\n\r\n"), "the end");
    let mut stream = client(running.address, b"HEAD /coded HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let head = read_to_end(&mut stream);
    assert!(head.ends_with("\r\n\r\n") && !head.contains("content-length"), "{head}");
    std::fs::remove_dir_all(&root).unwrap();
}
