//! Large bodies: whole, both ways, in bounded memory, whoever is slow.

use std::sync::OnceLock;

use daemun_e2e::client::shown;
use daemun_e2e::lane::FORWARD_ALL;
use daemun_e2e::{Client, Gateway, Next, Origin, Peer};

const LENGTH: usize = 64 * 1024 * 1024;
/// The most that a stalled peer may add to the gateway's resident memory, in KiB.
const GROWTH: u64 = 2 * 1024;

fn large() -> String {
    format!("limits: {{ body: 1TiB }}\n{FORWARD_ALL}")
}

/// What all bodies here are made of, again and again. Its length is a prime, so that a part that is lost or repeated shows.
fn pattern() -> &'static [u8] {
    static PATTERN: OnceLock<Vec<u8>> = OnceLock::new();
    PATTERN.get_or_init(|| (0..65_521_usize).map(|at| u8::try_from((at / 7 + at % 251) % 256).unwrap()).collect())
}

/// The parts of the pattern that stand from byte `from` on, `length` bytes in all.
fn parts(from: usize, length: usize) -> impl Iterator<Item = &'static [u8]> {
    let (mut at, end) = (from, from + length);
    std::iter::from_fn(move || {
        let rest = &pattern()[at % pattern().len()..];
        let part = &rest[..rest.len().min(end - at)];
        at += part.len();
        (!part.is_empty()).then_some(part)
    })
}

fn piece(from: usize, length: usize) -> Vec<u8> {
    parts(from, length).collect::<Vec<_>>().concat()
}

/// Checks a stream of bytes against the pattern as it goes by.
#[derive(Default)]
struct Checked {
    count: usize,
    wrong: Option<usize>,
}

impl Checked {
    fn take(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        for part in parts(self.count, bytes.len()) {
            let (now, later) = rest.split_at(part.len());
            if now != part {
                self.wrong = self.wrong.or(Some(self.count));
            }
            self.count += part.len();
            rest = later;
        }
    }
}

/// An upstream that counts and checks what it gets, and answers with the count, or `wrong`.
fn checking() -> Origin {
    Origin::start(|peer: &mut Peer| {
        while let Some(request) = peer.request_head() {
            let mut checked = Checked::default();
            if request.chunked {
                let body = peer.wire.chunked();
                if body.broken.is_some() {
                    return Next::Close;
                }
                checked.take(&body.bytes);
            } else {
                let mut left: usize =
                    request.field("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
                while left > 0 {
                    if peer.wire.buffer.is_empty() && peer.wire.fill().is_err() {
                        return Next::Close;
                    }
                    let count = left.min(peer.wire.buffer.len());
                    let bytes: Vec<u8> = peer.wire.buffer.drain(..count).collect();
                    checked.take(&bytes);
                    left -= count;
                }
            }
            let text = checked.wrong.map_or_else(|| checked.count.to_string(), |at| format!("wrong at {at}"));
            peer.answer(text);
        }
        Next::Close
    })
}

#[test]
fn a_large_body_goes_up_whole() {
    let origin = checking();
    let gateway = Gateway::start(&large().replace("{origin}", &origin.url()));
    let mut client = gateway.connect();
    client.send(format!("POST /t HTTP/1.1\r\nHost: e2e.test\r\nContent-Length: {LENGTH}\r\n\r\n"));
    let mut sent = 0;
    while sent < LENGTH {
        let count = (LENGTH - sent).min(777_777);
        client.wire.send(&piece(sent, count)).unwrap();
        sent += count;
    }
    assert_eq!(client.response().unwrap().text(), LENGTH.to_string());
    client.send("POST /t HTTP/1.1\r\nHost: e2e.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut sent = 0;
    while sent < LENGTH {
        let count = (LENGTH - sent).min(54_321);
        let mut chunk = format!("{count:x}\r\n").into_bytes();
        chunk.extend(piece(sent, count));
        chunk.extend_from_slice(b"\r\n");
        client.wire.send(&chunk).unwrap();
        sent += count;
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.response().unwrap().text(), LENGTH.to_string());
}

#[test]
fn a_large_body_comes_down_whole() {
    let origin = Origin::serve(|peer, request| {
        let chunked = request.target == "/chunked";
        let framing =
            if chunked { "Transfer-Encoding: chunked".to_owned() } else { format!("Content-Length: {LENGTH}") };
        peer.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n"));
        let mut sent = 0;
        while sent < LENGTH {
            let count = (LENGTH - sent).min(if chunked { 54_321 } else { 777_777 });
            let bytes = piece(sent, count);
            let good = match chunked {
                true => peer.send(format!("{count:x}\r\n")) && peer.send(bytes) && peer.send("\r\n"),
                false => peer.send(bytes),
            };
            if !good {
                return Next::Close;
            }
            sent += count;
        }
        if chunked {
            peer.send("0\r\n\r\n");
        }
        Next::Keep
    });
    let gateway = Gateway::start(&large().replace("{origin}", &origin.url()));
    let mut client = gateway.connect();
    for target in ["/length", "/chunked"] {
        let answer = client.get(target);
        let mut checked = Checked::default();
        checked.take(&answer.body);
        assert_eq!((checked.count, checked.wrong), (LENGTH, None), "{target}");
    }
}

#[test]
fn uploads_and_downloads_at_once_do_not_mix() {
    let origin = Origin::echo();
    let gateway = Gateway::start(&large().replace("{origin}", &origin.url()));
    std::thread::scope(|scope| {
        for thread in 0..8_usize {
            let gateway = &gateway;
            scope.spawn(move || {
                let mut client = gateway.connect();
                for round in 0..5 {
                    let body = piece(thread * 1000 + round, 200_000 + thread * 3 + round);
                    let mut request =
                        format!("POST /{thread} HTTP/1.1\r\nHost: e2e.test\r\nContent-Length: {}\r\n\r\n", body.len())
                            .into_bytes();
                    request.extend_from_slice(&body);
                    let answer = client.call(&request);
                    assert!(answer.body == body, "thread {thread}: another body, `{}`", shown(&answer.body));
                }
            });
        }
    });
}

#[test]
fn an_upstream_that_does_not_read_holds_the_client_back_and_no_memory() {
    let origin = Origin::start(|peer| {
        if let Some(request) = peer.request_head()
            && request.target == "/warm"
        {
            return daemun_e2e::origin::echo(peer, &request);
        }
        let (_sender, receiver) = std::sync::mpsc::sync_channel::<()>(0);
        let _ = receiver.recv_timeout(daemun_e2e::wait::PATIENCE);
        Next::Reset
    });
    let gateway = Gateway::start(&large().replace("{origin}", &origin.url()));
    assert_eq!(gateway.get("/warm").status, 200);
    let before = gateway.resident_kib();
    let mut client = gateway.connect();
    client.set_timeout(std::time::Duration::from_secs(1));
    client.send("POST /stalled HTTP/1.1\r\nHost: e2e.test\r\nContent-Length: 4294967296\r\n\r\n");
    let mut sent = 0_usize;
    let bytes = vec![b'x'; 1024 * 1024];
    while sent < 1024 && client.wire.send(&bytes).is_ok() {
        sent += 1;
    }
    assert!(sent < 64, "the gateway took {sent} MiB that nobody reads");
    assert!(growth(&gateway, before) < GROWTH, "resident memory grew by {} KiB", growth(&gateway, before));
}

#[test]
fn a_client_that_does_not_read_holds_the_upstream_back_and_no_memory() {
    let origin = Origin::serve(|peer, request| {
        if request.target == "/warm" {
            return daemun_e2e::origin::echo(peer, request);
        }
        peer.wire.stream.set_timeout(std::time::Duration::from_secs(1));
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 4294967296\r\n\r\n");
        let bytes = vec![b'x'; 1024 * 1024];
        let mut sent = 0;
        while sent < 1024 && peer.send(&bytes) {
            sent += 1;
        }
        let mut note = request.clone();
        note.target = format!("/sent/{sent}");
        peer.note(&note);
        Next::Reset
    });
    let gateway = Gateway::start(&large().replace("{origin}", &origin.url()));
    assert_eq!(gateway.get("/warm").status, 200);
    let before = gateway.resident_kib();
    let mut client: Client = gateway.connect();
    client.wire.stream.shrink_receive_buffer();
    client.send("GET /stalled HTTP/1.1\r\nHost: e2e.test\r\n\r\n");
    let sent: usize = origin.wait("the upstream was held back", |log| {
        log.requests.iter().find_map(|request| request.target.strip_prefix("/sent/")?.parse().ok())
    });
    assert!(sent < 64, "the gateway took {sent} MiB that nobody reads");
    assert!(growth(&gateway, before) < GROWTH, "resident memory grew by {} KiB", growth(&gateway, before));
}

fn growth(gateway: &Gateway, before: u64) -> u64 {
    gateway.resident_kib().saturating_sub(before)
}
