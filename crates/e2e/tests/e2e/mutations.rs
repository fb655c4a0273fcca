//! Good messages with a few bytes changed at random, judged by an independent strict reader: what the upstream receives as a request
//! of its own must be one by that reading as well, and an answer that looks complete must be the one that was sent.
//! `SEED` repeats a run, `MUTATIONS` makes it longer.

use std::sync::Arc;
use std::time::Duration;

use daemun_e2e::case::run_each;
use daemun_e2e::client::shown;
use daemun_e2e::lane::{FORWARD_ALL, Lane};
use daemun_e2e::message::{Framing, Head};
use daemun_e2e::wire::find;
use daemun_e2e::{Broken, Next, Origin, Request};

/// Xorshift: small, seeded, good enough to choose bytes.
struct Random(u64);

impl Random {
    fn next(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap()
    }

    fn below(&mut self, bound: usize) -> usize {
        self.next() % bound.max(1)
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What is put into messages: the bytes and words that parsers quarrel about.
const PIECES: &[&[u8]] = &[
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\n\n",
    b" ",
    b"\t",
    b"\0",
    b":",
    b";",
    b",",
    b"0",
    b"5",
    b"a",
    b"f",
    b"-",
    b"+",
    b"x",
    b"\"",
    b"\x0b",
    b"\x0c",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"chunked",
    b"identity",
    b"close",
    b"0\r\n\r\n",
    b"\r\n ",
    b"%2f",
    b"%00",
    b"/../",
    b"_",
    b"HTTP/1.1",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: evil.test\r\n",
    b"Connection: close\r\n",
    b"Expect: 100-continue\r\n",
    b"Connection: content-length\r\n",
    b"Upgrade: websocket\r\n",
];

fn mutate(random: &mut Random, good: &[u8]) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len());
        match random.below(6) {
            0 => drop(bytes.remove(at)),
            1 => bytes[at] = u8::try_from(random.below(256)).unwrap(),
            2 => bytes[at] = *random.pick(b"\r\n \t\0:;,0159afx-+\"/%_"),
            3 => {
                let length = random.below(12).min(bytes.len() - at);
                let copy = bytes[at..at + length].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, copy);
            }
            4 => {
                let length = random.below(12).min(bytes.len() - at);
                bytes.drain(at..at + length);
            }
            _ => {
                let piece = *random.pick(PIECES);
                bytes.splice(at..at, piece.iter().copied());
            }
        }
        if bytes.is_empty() {
            return good.to_vec();
        }
    }
    bytes
}

const REQUESTS: &[&str] = &[
    "GET /a?x=1 HTTP/1.1\r\nHost: e2e.test\r\nX-A: b\r\n\r\nGET /b HTTP/1.1\r\nHost: e2e.test\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: e2e.test\r\nContent-Length: 44\r\n\r\nGET /inner HTTP/1.1\r\nHost: e2e.test\r\n\r\nabcdeGET /b HTTP/1.1\r\nHost: e2e.test\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: e2e.test\r\nTransfer-Encoding: chunked\r\n\r\n27\r\nGET /inner HTTP/1.1\r\nHost: e2e.test\r\n\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET /b HTTP/1.1\r\nHost: e2e.test\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: e2e.test\r\nTransfer-Encoding: chunked\r\n\r\n5;x=\"y\"\r\nhello\r\n0\r\nX-Sum: GET /inner HTTP/1.1\r\nHost-Like: e2e.test\r\n\r\nGET /b HTTP/1.1\r\nHost: e2e.test\r\n\r\n",
    "GET http://e2e.test/a HTTP/1.1\r\nHost: e2e.test\r\nConnection: keep-alive\r\nX-A: GET /inner HTTP/1.1\r\n\r\n\r\nGET /b HTTP/1.1\r\nHost: e2e.test\r\n\r\n",
    "POST /a HTTP/1.0\r\nHost: e2e.test\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhelloGET /b HTTP/1.1\r\nHost: e2e.test\r\nConnection: close\r\n\r\nGET /inner HTTP/1.1\r\nHost: e2e.test\r\n\r\n",
];

/// Reads one chunked body at the start of `bytes`; extensions may be anything in a line. Its length; `None` when it is malformed or breaks off.
fn chunked_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = find(&bytes[at..], b"\r\n")?;
        let digits = bytes[at..at + line].split(|byte| *byte == b';').next()?;
        let digits = std::str::from_utf8(digits).ok()?;
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let size = usize::try_from(u64::from_str_radix(digits, 16).ok()?).ok()?;
        at += line + 2;
        if size == 0 {
            break;
        }
        if bytes.get(at.checked_add(size)?..)?.get(..2)? != b"\r\n" {
            return None;
        }
        at += size + 2;
    }
    loop {
        let line = find(&bytes[at..], b"\r\n")?;
        at += line + 2;
        if line == 0 {
            return Some(at);
        }
    }
}

/// The heads of the complete requests that `bytes` hold by a strict reading, in order.
fn strictly_read(bytes: &[u8]) -> Vec<Head> {
    let mut heads = Vec::new();
    let mut rest = bytes;
    loop {
        rest = rest.strip_prefix(b"\r\n").unwrap_or(rest);
        let Some(end) = find(rest, b"\r\n\r\n") else { return heads };
        let Ok(head) = Head::parse(rest[..end + 4].to_vec()) else { return heads };
        rest = &rest[end + 4..];
        let length = match head.framing() {
            Ok(Framing::Absent) => 0,
            Ok(Framing::Length(length)) => match usize::try_from(length) {
                Ok(length) if length <= rest.len() => length,
                _ => return heads,
            },
            Ok(Framing::Chunked) => match chunked_length(rest) {
                Some(length) => length,
                None => return heads,
            },
            Err(_) => return heads,
        };
        rest = &rest[length..];
        heads.push(head);
    }
}

#[test]
fn a_changed_request_is_read_as_a_strict_reader_would_or_refused() {
    let (seed, count) = (from_environment("SEED", 1), usize::try_from(from_environment("MUTATIONS", 400)).unwrap());
    run_each(
        count,
        || Lane::start(FORWARD_ALL),
        |lane, index| {
            let mut random = Random((seed << 32 | index as u64) * 2 + 0x9e37_79b9);
            (0..8).for_each(|_| _ = random.next());
            let bytes = mutate(&mut random, random_request(index).as_bytes());
            judge(lane, &bytes).map_err(|why| format!("mutation {index}\n    {why}\n    sent `{}`", shown(&bytes)))
        },
    );
}

fn random_request(index: usize) -> &'static str {
    REQUESTS[index % REQUESTS.len()]
}

fn judge(lane: &Lane, bytes: &[u8]) -> Result<(), String> {
    let mut client = lane.connect();
    client.set_timeout(Duration::from_secs(5));
    client.send(bytes);
    let strict = strictly_read(bytes);
    let mut statuses = Vec::new();
    for _ in 0..strict.len() + 1 {
        let method = strict.get(statuses.len()).and_then(Head::request_line).map_or("GET", |(method, _, _)| method);
        if statuses.len() >= strict.len() {
            client.finish();
        }
        match client.response_to(method) {
            Ok(answer) if answer.broken.is_none() => {
                statuses.push(answer.status);
                if answer.closes() {
                    break;
                }
            }
            Ok(answer) => return Err(format!("a broken answer {answer:?}")),
            Err(Broken::Closed | Broken::Reset) => break,
            // what a strict reader takes for whole may be the start of something longer to another
            Err(Broken::TimedOut) => break,
            Err(broken) => return Err(format!("{broken} after {statuses:?}")),
        }
    }
    drop(client);
    let log = lane.settle()?;
    if !log.faults.is_empty() {
        return Err(format!("the upstream received {}", log.faults.join(" and ")));
    }
    // one whose path is refused is not forwarded, though the connection goes on behind it
    let mut left = strict.iter().filter_map(Head::request_line).map(|(method, _, _)| method);
    for request in &log.requests {
        if !left.any(|method| method == request.method) {
            let seen: Vec<String> = log.requests.iter().map(Request::shown).collect();
            let count = strict.len();
            return Err(format!(
                "a strict reader reads {count} requests; the upstream received {seen:?}; answers {statuses:?}"
            ));
        }
    }
    Ok(())
}

const ANSWERS: &[&str] = &[
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nX-Sum: 1\r\n\r\n",
    "HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n",
    "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
];

#[test]
fn a_changed_answer_is_passed_on_clean_or_refused() {
    let (seed, count) = (from_environment("SEED", 1), usize::try_from(from_environment("MUTATIONS", 400)).unwrap());
    let answers: Arc<Vec<Vec<u8>>> = Arc::new(
        (0..count)
            .map(|index| {
                let mut random = Random((seed << 32 | index as u64) * 2 + 0x51_7cc1);
                (0..8).for_each(|_| _ = random.next());
                mutate(&mut random, ANSWERS[index % ANSWERS.len()].as_bytes())
            })
            .collect(),
    );
    let yaml = FORWARD_ALL.replace("    targets:", "    timeouts: { response: 1s }\n    targets:");
    let make = || {
        let answers = Arc::clone(&answers);
        let origin = Origin::serve(move |peer, request| {
            match request.target.strip_prefix("/m/").and_then(|number| number.parse::<usize>().ok()) {
                Some(number) if peer.send(&answers[number]) => {
                    if number % 2 == 0 {
                        Next::Keep
                    } else {
                        Next::Close
                    }
                }
                Some(_) => Next::Close,
                None => daemun_e2e::origin::echo(peer, request),
            }
        });
        Lane::with(&yaml, origin)
    };
    run_each(count, make, |lane, index| {
        let mut client = lane.connect();
        client.set_timeout(Duration::from_secs(5));
        client.send(format!("GET /m/{index} HTTP/1.1\r\nHost: e2e.test\r\n\r\n"));
        let fail = |why: String| {
            Err(format!("mutation {index}\n    {why}\n    the upstream answered `{}`", shown(&answers[index])))
        };
        match client.response() {
            Ok(_) | Err(Broken::Closed | Broken::Reset | Broken::Truncated) => {}
            Err(broken) => return fail(format!("{broken}; received `{}`", shown(&client.wire.record))),
        }
        match lane.settle() {
            Ok(log) if log.faults.is_empty() => Ok(()),
            Ok(log) => fail(log.faults.join(" and ")),
            Err(why) => fail(why),
        }
    });
}
