//! HTTP/2 on either side, and both sides against HTTP/1.1: heads, bodies, trailers, resets, windows, ends of connections.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests are tests")]

mod support;
#[path = "support/h2.rs"]
mod peers;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use daemun_dataplane::Clock;
use http::{HeaderMap, HeaderValue, Method, Response};
use peers::{Client, echo, run, send_all};
use support::{Running, origin, read_head, start};

/// A configuration with one upstream of this protocol.
fn proxy_to(origin: SocketAddr, protocol: &str, more: &str) -> String {
    format!(
        "limits: {{ body: 64MiB }}\nupstreams:\n  origin:\n    targets: [\"http://{origin}\"]\n    protocol: {protocol}\n\
         routes:\n  - name: all\n    match: {{ prefix: / }}\n    upstream: origin\n{more}"
    )
}

fn trailers(value: &str) -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static("x-sum"), HeaderValue::from_str(value).unwrap())])
}

fn large() -> Bytes {
    (0..3_000_000_u32).map(|at| u8::try_from(at % 251).unwrap()).collect::<Vec<u8>>().into()
}

/// Lets everything else run for a moment.
async fn pause() {
    let _ = tokio::time::timeout(Duration::from_millis(5), std::future::pending::<()>()).await;
}

/// Waits until `reached`, letting everything else run, and moving the clock by `step` each time.
async fn until(running: &Running, step: Duration, reached: impl Fn() -> bool) {
    while !reached() {
        running.clock.advance(step);
        pause().await;
    }
}

/// A message of HTTP/1.1 read from a stream: head, body, trailer lines.
struct Message {
    head: String,
    body: Vec<u8>,
    trailers: String,
}

fn read_message(stream: &mut TcpStream, buf: &mut Vec<u8>) -> Option<Message> {
    let end = read_head(stream, buf)?;
    let head = String::from_utf8_lossy(&buf[..end]).into_owned();
    buf.drain(..end);
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let mut message = Message { head: head.clone(), body: Vec::new(), trailers: String::new() };
    if let Some(length) = field("content-length:") {
        message.body = take(stream, buf, length.parse().unwrap())?;
    } else if field("transfer-encoding:").is_some() {
        loop {
            let size = usize::from_str_radix(line(stream, buf)?.trim(), 16).unwrap();
            if size == 0 {
                break;
            }
            message.body.extend(take(stream, buf, size)?);
            line(stream, buf)?;
        }
        loop {
            let line = line(stream, buf)?;
            if line.trim().is_empty() {
                break;
            }
            message.trailers.push_str(&line);
        }
    }
    Some(message)
}

fn more(stream: &mut TcpStream, buf: &mut Vec<u8>) -> Option<()> {
    let mut piece = [0u8; 16 * 1024];
    let n = stream.read(&mut piece).ok().filter(|&n| n > 0)?;
    buf.extend_from_slice(&piece[..n]);
    Some(())
}

fn take(stream: &mut TcpStream, buf: &mut Vec<u8>, n: usize) -> Option<Vec<u8>> {
    while buf.len() < n {
        more(stream, buf)?;
    }
    Some(buf.drain(..n).collect())
}

fn line(stream: &mut TcpStream, buf: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(at) = buf.iter().position(|&b| b == b'\n') {
            return Some(String::from_utf8_lossy(&buf.drain(..=at).collect::<Vec<_>>()).into_owned());
        }
        more(stream, buf)?;
    }
}

/// An origin of HTTP/1.1 that answers with the body and the trailers it gets.
fn old_echo() -> SocketAddr {
    origin(|mut stream| {
        let mut buf = Vec::new();
        while let Some(message) = read_message(&mut stream, &mut buf) {
            let first = message.head.lines().next().unwrap_or_default();
            let head = format!("HTTP/1.1 200 OK\r\nX-Seen: {first}\r\nTransfer-Encoding: chunked\r\n\r\n");
            let mut bytes = head.into_bytes();
            for chunk in message.body.chunks(50_000) {
                bytes.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend(format!("0\r\n{}\r\n", message.trailers).into_bytes());
            if stream.write_all(&bytes).is_err() {
                return;
            }
        }
    })
}

/// Sends a chunked request over HTTP/1.1 on a thread of its own and reads the answer.
async fn old_post(address: SocketAddr, body: Bytes) -> Message {
    let work = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
        let mut writer = stream.try_clone().unwrap();
        let upload = std::thread::spawn(move || {
            writer
                .write_all(b"POST /p HTTP/1.1\r\nHost: a.test\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n")
                .unwrap();
            for chunk in body.chunks(70_000) {
                writer.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).unwrap();
                writer.write_all(chunk).unwrap();
                writer.write_all(b"\r\n").unwrap();
            }
            writer.write_all(b"0\r\nX-Sum: 7\r\n\r\n").unwrap();
        });
        let message = read_message(&mut stream, &mut Vec::new()).unwrap();
        upload.join().unwrap();
        message
    });
    work.await.unwrap()
}

#[test]
fn bodies_and_trailers_pass_from_http2_to_http2() {
    run(async {
        let (address, seen) = peers::origin(h2::server::Builder::new(), echo).await;
        let running = start(&proxy_to(address, "h2c", ""), Clock::system());
        let client = Client::connect(running.address).await;
        for round in 0..3 {
            let request = client.request(Method::POST, "/p?q=1").header("te", "trailers").body(()).unwrap();
            let answer = client.send(request, Some(large()), Some(trailers("7"))).await.unwrap();
            assert_eq!((answer.status, answer.trailer("x-sum")), (200, Some("7")), "round {round}");
            assert!(answer.body == large(), "{} bytes came back", answer.body.len());
            let expected = format!("POST http://{}/p?q=1 te=trailers length=-", running.address);
            assert_eq!(answer.field("x-seen"), Some(expected.as_str()));
        }
        assert_eq!((seen.connections.get(), seen.requests.get()), (1, 3));
    });
}

#[test]
fn bodies_and_trailers_pass_from_http2_to_http1() {
    run(async {
        let running = start(&proxy_to(old_echo(), "http1", ""), Clock::system());
        let client = Client::connect(running.address).await;
        let request = client.request(Method::POST, "/p").body(()).unwrap();
        let answer = client.send(request, Some(large()), Some(trailers("7"))).await.unwrap();
        assert_eq!((answer.status, answer.trailer("x-sum")), (200, Some("7")));
        assert_eq!(answer.field("x-seen"), Some("POST /p HTTP/1.1"));
        assert!(answer.body == large(), "{} bytes came back", answer.body.len());
        let request = client.request(Method::POST, "/p").header("content-length", "5").body(()).unwrap();
        let answer = client.send(request, Some(Bytes::from_static(b"hello")), None).await.unwrap();
        assert_eq!((answer.status, answer.body, answer.trailers), (200, b"hello".to_vec(), None));
    });
}

#[test]
fn bodies_and_trailers_pass_from_http1_to_http2() {
    run(async {
        let (address, _) = peers::origin(h2::server::Builder::new(), echo).await;
        let running = start(&proxy_to(address, "h2c", ""), Clock::system());
        let message = old_post(running.address, large()).await;
        assert!(message.head.starts_with("HTTP/1.1 200 OK\r\n"), "{}", message.head);
        assert!(message.head.contains("x-seen: POST http://a.test/p te=trailers length=-\r\n"), "{}", message.head);
        assert!(message.body == large(), "{} bytes came back", message.body.len());
        assert_eq!(message.trailers.to_ascii_lowercase(), "x-sum: 7\r\n");
    });
}

#[test]
fn bodies_and_trailers_pass_from_http1_to_http1() {
    run(async {
        let running = start(&proxy_to(old_echo(), "http1", ""), Clock::system());
        let message = old_post(running.address, large()).await;
        assert!(message.body == large(), "{} bytes came back", message.body.len());
        assert_eq!(message.trailers.to_ascii_lowercase(), "x-sum: 7\r\n");
    });
}

#[test]
fn an_answer_begins_before_its_request_has_ended() {
    run(async {
        let (address, _) = peers::origin(h2::server::Builder::new(), echo).await;
        let running = start(&proxy_to(address, "h2c", ""), Clock::system());
        let client = Client::connect(running.address).await;
        let mut sender = client.sender.clone().ready().await.unwrap();
        let request = client.request(Method::POST, "/p").body(()).unwrap();
        let (response, mut stream) = sender.send_request(request, false).unwrap();
        let mut incoming = response.await.unwrap().into_body();
        for word in ["one", "two", "three"] {
            stream.send_data(Bytes::from(word), false).unwrap();
            let echoed = incoming.data().await.unwrap().unwrap();
            assert_eq!(echoed, word);
        }
        stream.send_data(Bytes::new(), true).unwrap();
        assert_eq!(peers::read_all(&mut incoming).await.unwrap().0, b"");
    });
}

#[test]
fn a_reset_by_the_client_cancels_the_call() {
    run(async {
        let reset = Rc::new(RefCell::new(None));
        let set = Rc::clone(&reset);
        let serve = move |_, mut respond: h2::server::SendResponse<Bytes>| {
            let set = Rc::clone(&set);
            async move {
                let reason = poll_fn(|cx| respond.poll_reset(cx)).await;
                *set.borrow_mut() = reason.ok();
            }
        };
        let (address, seen) = peers::origin(h2::server::Builder::new(), serve).await;
        let running = start(&proxy_to(address, "h2c", ""), Clock::system());
        let client = Client::connect(running.address).await;
        let mut sender = client.sender.clone().ready().await.unwrap();
        let (_response, mut stream) =
            sender.send_request(client.request(Method::GET, "/").body(()).unwrap(), true).unwrap();
        until(&running, Duration::ZERO, || seen.requests.get() == 1).await;
        stream.send_reset(h2::Reason::CANCEL);
        until(&running, Duration::ZERO, || reset.borrow().is_some()).await;
        assert_eq!(*reset.borrow(), Some(h2::Reason::CANCEL));
        let status = client.get("/again");
        let waiting = tokio::time::timeout(Duration::from_millis(50), status).await;
        assert!(waiting.is_err(), "the connection is still served");
        assert_eq!(seen.connections.get(), 1, "the upstream's connection was kept");
    });
}

#[test]
fn a_client_that_does_not_read_holds_back_the_upstream_and_is_let_go() {
    run(async {
        let sent = Rc::new(Cell::new(0));
        let ended = Rc::new(Cell::new(false));
        let (count, end) = (Rc::clone(&sent), Rc::clone(&ended));
        let serve = move |_, mut respond: h2::server::SendResponse<Bytes>| {
            let (count, end) = (Rc::clone(&count), Rc::clone(&end));
            async move {
                let mut stream = respond.send_response(Response::new(()), false).unwrap();
                let piece = Bytes::from(vec![b'x'; 16 * 1024]);
                while send_all(&mut stream, piece.clone(), false).await.is_ok() {
                    count.set(count.get() + piece.len());
                }
                end.set(true);
            }
        };
        let (address, _) = peers::origin(h2::server::Builder::new(), serve).await;
        let running = start(&proxy_to(address, "h2c", "timeouts: { write_idle: 30s }\n"), Clock::manual());
        let client = Client::connect(running.address).await;
        let mut sender = client.sender.clone().ready().await.unwrap();
        let (response, _stream) =
            sender.send_request(client.request(Method::GET, "/").body(()).unwrap(), true).unwrap();
        let mut incoming = response.await.unwrap().into_body();
        until(&running, Duration::from_secs(1), || ended.get()).await;
        assert!((64 * 1024..1024 * 1024).contains(&sent.get()), "{} bytes were taken from the upstream", sent.get());
        let mut broken = None;
        while let Some(piece) = incoming.data().await {
            if let Err(error) = piece {
                broken = error.reason();
                break;
            }
        }
        assert_eq!(broken, Some(h2::Reason::INTERNAL_ERROR), "the client was told that the answer is not whole");
    });
}

#[test]
fn an_upstream_that_does_not_read_holds_back_the_client() {
    run(async {
        let taken = Rc::new(Cell::new(false));
        let set = Rc::clone(&taken);
        let serve = move |request: http::Request<h2::RecvStream>, respond| {
            set.set(true);
            async move {
                let _keep: (h2::RecvStream, h2::server::SendResponse<Bytes>) = (request.into_body(), respond);
                std::future::pending::<()>().await;
            }
        };
        let (address, _) = peers::origin(h2::server::Builder::new(), serve).await;
        let running = start(&proxy_to(address, "h2c", ""), Clock::manual());
        let client = Client::connect(running.address).await;
        let sent = Rc::new(Cell::new(0));
        let count = Rc::clone(&sent);
        let mut sender = client.sender.clone().ready().await.unwrap();
        let (response, mut stream) =
            sender.send_request(client.request(Method::POST, "/").body(()).unwrap(), false).unwrap();
        tokio::task::spawn_local(async move {
            let piece = Bytes::from(vec![b'x'; 16 * 1024]);
            while send_all(&mut stream, piece.clone(), false).await.is_ok() {
                count.set(count.get() + piece.len());
            }
        });
        until(&running, Duration::ZERO, || taken.get() && sent.get() >= 64 * 1024).await;
        let answered = Rc::new(Cell::new(0));
        let set = Rc::clone(&answered);
        tokio::task::spawn_local(async move { set.set(response.await.map_or(1, |answer| answer.status().as_u16())) });
        until(&running, Duration::from_secs(1), || answered.get() != 0).await;
        assert_eq!(answered.get(), 504);
        assert!(sent.get() < 1024 * 1024, "{} bytes were taken from the client", sent.get());
    });
}

/// An origin that allows so many streams, answers only once `gate` opens, and notes the most each of its connections had at the same time.
async fn narrow_origin(
    gate: &Rc<tokio::sync::Semaphore>,
    streams: u32,
) -> (SocketAddr, Rc<RefCell<Vec<Rc<peers::Seen>>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let all = Rc::<RefCell<Vec<Rc<peers::Seen>>>>::default();
    let (gate, known) = (Rc::clone(gate), Rc::clone(&all));
    tokio::task::spawn_local(async move {
        let settings = h2::server::Builder::new().max_concurrent_streams(streams).clone();
        while let Ok((stream, _)) = listener.accept().await {
            let gate = Rc::clone(&gate);
            let serve = move |request, respond| {
                let gate = Rc::clone(&gate);
                async move {
                    drop(gate.acquire().await);
                    echo(request, respond).await;
                }
            };
            let seen = Rc::<peers::Seen>::default();
            known.borrow_mut().push(Rc::clone(&seen));
            tokio::task::spawn_local(peers::connection(stream, settings.clone(), Rc::new(serve), seen));
        }
    });
    (address, all)
}

/// Fifty calls at once: each of five connections carries ten of them, none waits for another.
async fn fifty_calls(warm: bool) {
    let gate = Rc::new(tokio::sync::Semaphore::new(0));
    let (address, connections) = narrow_origin(&gate, 10).await;
    let running = start(&proxy_to(address, "h2c", ""), Clock::system());
    let client = Rc::new(Client::connect(running.address).await);
    if warm {
        gate.add_permits(1);
        assert_eq!(client.get("/first").await.unwrap().status, 200);
        gate.forget_permits(1);
    }
    let calls: Vec<_> = (0..50)
        .map(|at| {
            let client = Rc::clone(&client);
            tokio::task::spawn_local(async move { client.get(&format!("/{at}")).await.unwrap().status })
        })
        .collect();
    let open = || connections.borrow().iter().map(|seen| seen.open.get()).sum::<usize>();
    until(&running, Duration::ZERO, || open() == 50).await;
    gate.add_permits(1);
    for call in calls {
        assert_eq!(call.await.unwrap(), 200);
    }
    let most: Vec<usize> = connections.borrow().iter().map(|seen| seen.most.get()).collect();
    assert_eq!(most, [10; 5]);
}

#[test]
fn calls_share_as_few_connections_as_the_target_allows() {
    run(fifty_calls(true));
}

#[test]
fn calls_that_come_before_the_target_said_how_many_it_takes_share_as_few() {
    run(fifty_calls(false));
}

#[test]
fn a_target_that_takes_one_call_at_a_time_gets_no_more_connections_than_there_may_be() {
    run(async {
        let gate = Rc::new(tokio::sync::Semaphore::new(1));
        let (address, connections) = narrow_origin(&gate, 1).await;
        let running = start(&proxy_to(address, "h2c", ""), Clock::system());
        let clients =
            [Rc::new(Client::connect(running.address).await), Rc::new(Client::connect(running.address).await)];
        assert_eq!(clients[0].get("/first").await.unwrap().status, 200);
        gate.forget_permits(1);
        let calls: Vec<_> = (0..240)
            .map(|at| {
                let client = Rc::clone(&clients[at % 2]);
                tokio::task::spawn_local(async move { client.get("/").await.unwrap().status })
            })
            .collect();
        until(&running, Duration::ZERO, || connections.borrow().len() >= 64).await;
        gate.add_permits(1);
        for call in calls {
            assert_eq!(call.await.unwrap(), 200);
        }
        assert_eq!(connections.borrow().len(), 64);
    });
}

#[test]
fn a_call_that_the_target_refused_is_made_again_whatever_its_method() {
    run(async {
        let refused = Rc::new(Cell::new(0));
        let count = Rc::clone(&refused);
        let serve = move |request, mut respond: h2::server::SendResponse<Bytes>| {
            let first = count.replace(count.get() + 1) == 0;
            async move {
                if first {
                    respond.send_reset(h2::Reason::REFUSED_STREAM);
                } else {
                    echo(request, respond).await;
                }
            }
        };
        let (address, seen) = peers::origin(h2::server::Builder::new(), serve).await;
        let running = start(&proxy_to(address, "h2c", ""), Clock::system());
        let client = Client::connect(running.address).await;
        let request = client.request(Method::POST, "/").body(()).unwrap();
        let answer = client.send(request, None, None).await.unwrap();
        assert_eq!((answer.status, seen.requests.get()), (200, 2));
    });
}

#[test]
fn a_target_that_goes_away_gets_its_next_call_on_another_connection() {
    run(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Rc::new(Cell::new(0));
        let count = Rc::clone(&connections);
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.set(count.get() + 1);
                tokio::task::spawn_local(async move {
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        connection.graceful_shutdown();
                        tokio::task::spawn_local(echo(request, respond));
                    }
                });
            }
        });
        let running = start(&proxy_to(address, "h2c", ""), Clock::system());
        let client = Client::connect(running.address).await;
        for at in 1..=4 {
            let request = client.request(Method::POST, "/").body(()).unwrap();
            assert_eq!(client.send(request, None, None).await.unwrap().status, 200, "call {at}");
        }
        assert!(connections.get() >= 2, "{} connections", connections.get());
    });
}

/// A configuration whose only target has a name, and what its name stands for.
fn proxy_to_a_name(protocol: &str, address: SocketAddr) -> Running {
    let yaml = proxy_to(address, protocol, "").replace(&address.to_string(), "backend.test:80");
    let running = start(&yaml, Clock::system());
    resolve(&running, &[address]);
    running
}

fn resolve(running: &Running, addresses: &[SocketAddr]) {
    for upstream in running.snapshot.upstreams() {
        upstream.targets().iter().for_each(|target| target.set_addresses(addresses.to_vec()));
    }
}

/// An origin of HTTP/1.1 that answers with this.
fn old_named(name: &'static str) -> SocketAddr {
    origin(move |mut stream| {
        let mut buf = Vec::new();
        while read_message(&mut stream, &mut buf).is_some() {
            stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{name}").as_bytes()).unwrap();
        }
    })
}

#[test]
fn an_address_that_a_name_has_lost_gets_no_further_call_over_http1() {
    run(async {
        let (first, second) = (old_named("a"), old_named("b"));
        let running = proxy_to_a_name("http1", first);
        let client = Client::connect(running.address).await;
        for (addresses, expected) in [(&[first][..], "a"), (&[second, first], "a"), (&[second], "b"), (&[second], "b")]
        {
            resolve(&running, addresses);
            assert_eq!(client.get("/").await.unwrap().body, expected.as_bytes(), "{addresses:?}");
        }
    });
}

#[test]
fn an_address_that_a_name_has_lost_gets_no_further_call_over_http2_and_ends_those_it_has() {
    run(async {
        let (first, seen_first) = peers::origin(h2::server::Builder::new(), echo).await;
        let (second, seen_second) = peers::origin(h2::server::Builder::new(), echo).await;
        let running = proxy_to_a_name("h2c", first);
        let client = Client::connect(running.address).await;
        assert_eq!(client.get("/").await.unwrap().status, 200);
        let mut sender = client.sender.clone().ready().await.unwrap();
        let request = client.request(Method::POST, "/").body(()).unwrap();
        let (response, mut upload) = sender.send_request(request, false).unwrap();
        let (parts, mut incoming) = response.await.unwrap().into_parts();
        assert_eq!((parts.status.as_u16(), seen_first.requests.get()), (200, 2));
        resolve(&running, &[second]);
        for _ in 0..3 {
            assert_eq!(client.get("/").await.unwrap().status, 200);
        }
        assert_eq!((seen_first.requests.get(), seen_second.requests.get(), seen_second.connections.get()), (2, 3, 1));
        send_all(&mut upload, Bytes::from_static(b"still here"), true).await.unwrap();
        assert_eq!(peers::read_all(&mut incoming).await.unwrap().0, b"still here");
    });
}

#[test]
fn interim_answers_pass_and_a_client_that_waits_is_told_to_go_on() {
    run(async {
        let serve = |request: http::Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>| async move {
            let hints = Response::builder().status(103).header("link", "</a>; rel=preload").body(()).unwrap();
            respond.send_informational(hints).unwrap();
            echo(request, respond).await;
        };
        let (address, _) = peers::origin(h2::server::Builder::new(), serve).await;
        let running = start(&proxy_to(address, "h2c", ""), Clock::system());
        let client = Client::connect(running.address).await;
        assert_eq!(client.get("/").await.unwrap().interim, [103]);
        let mut sender = client.sender.clone().ready().await.unwrap();
        let request = client.request(Method::POST, "/").header("expect", "100-continue").body(()).unwrap();
        let (mut response, mut stream) = sender.send_request(request, false).unwrap();
        let first = poll_fn(|cx| response.poll_informational(cx)).await.unwrap().unwrap();
        assert_eq!(first.status(), 100);
        stream.send_data(Bytes::from_static(b"hello"), true).unwrap();
        let mut incoming = response.await.unwrap().into_body();
        assert_eq!(peers::read_all(&mut incoming).await.unwrap().0, b"hello");
    });
}

#[test]
fn a_connection_without_streams_is_closed_after_keep_alive() {
    run(async {
        let (address, _) = peers::origin(h2::server::Builder::new(), echo).await;
        let running = start(&proxy_to(address, "h2c", "timeouts: { keep_alive: 75s }\n"), Clock::manual());
        let client = Client::connect(running.address).await;
        assert_eq!(client.get("/").await.unwrap().status, 200);
        let before = running.clock.now();
        until(&running, Duration::from_secs(1), || client.ended.get()).await;
        let moved = running.clock.now() - before;
        assert!((74_000_000_000..90_000_000_000).contains(&moved), "{moved}");
    });
}

#[test]
fn a_client_that_only_sends_the_preface_is_closed_after_the_head_limit() {
    let running = start(&proxy_to(old_echo(), "http1", "timeouts: { head: 10s }\n"), Clock::manual());
    let mut stream = support::client(running.address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    let mut settings = [0u8; 9 + 18 + 9];
    stream.read_exact(&mut settings).unwrap();
    let mut window = [0u8; 13];
    stream.read_exact(&mut window).unwrap();
    let moved =
        support::advance_until_readable(&running, &stream, Duration::from_millis(500), Duration::from_secs(600));
    assert!(moved >= Duration::from_secs(10), "{moved:?}");
    let mut away = [0u8; 17];
    stream.read_exact(&mut away).unwrap();
    assert_eq!(away[3], 7, "GOAWAY");
    let mut ping = [0u8; 17];
    stream.read_exact(&mut ping).unwrap();
    let moved =
        support::advance_until_readable(&running, &stream, Duration::from_millis(500), Duration::from_secs(600));
    assert!(moved <= Duration::from_secs(5), "a client that does not confirm is waited for: {moved:?}");
    assert_eq!(stream.read(&mut away).unwrap(), 17, "the last GOAWAY");
}

#[test]
fn a_preface_in_pieces_is_recognised_and_a_part_of_it_is_no_http2() {
    for pieces in [
        &[&b"P"[..], b"RI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"][..],
        &[b"PRI * HTTP/2.0\r\n", b"\r\nSM\r\n\r", b"\n\0\0\0\x04\0\0\0\0\0"],
    ] {
        let running = start(&proxy_to(old_echo(), "http1", ""), Clock::system());
        let mut stream = support::client(running.address, pieces[0]);
        stream.set_nodelay(true).unwrap();
        for piece in &pieces[1..] {
            std::thread::yield_now();
            stream.write_all(piece).unwrap();
        }
        let mut settings = [0u8; 9];
        stream.read_exact(&mut settings).unwrap();
        assert_eq!(settings[..4], [0, 0, 18, 4], "SETTINGS");
    }
    let running = start(&proxy_to(old_echo(), "http1", ""), Clock::system());
    let mut stream = support::client(running.address, b"PRI /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(support::read_to_end(&mut stream).starts_with("HTTP/1.1 200 OK\r\n"));
}

#[test]
fn draining_ends_connections_after_their_streams() {
    run(async {
        let gate = Rc::new(tokio::sync::Notify::new());
        let (wait, arrived) = (Rc::clone(&gate), Rc::new(Cell::new(false)));
        let set = Rc::clone(&arrived);
        let serve = move |request, respond| {
            let wait = Rc::clone(&wait);
            set.set(true);
            async move {
                wait.notified().await;
                echo(request, respond).await;
            }
        };
        let (address, _) = peers::origin(h2::server::Builder::new(), serve).await;
        let mut running = start(&proxy_to(address, "h2c", ""), Clock::system());
        let idle = Client::connect(running.address).await;
        let client = Client::connect(running.address).await;
        let call = client.get("/slow");
        tokio::pin!(call);
        tokio::select! {
            answer = &mut call => panic!("{answer:?}"),
            () = until(&running, Duration::ZERO, || arrived.get()) => {}
        }
        let gateway = running.gateway.take().unwrap();
        let drained = tokio::task::spawn_local(async move {
            gateway.stop_accepting(true).await;
            gateway.drain(Duration::from_secs(20)).await
        });
        while !idle.ended.get() {
            tokio::task::yield_now().await;
        }
        assert!(!client.ended.get());
        gate.notify_one();
        assert_eq!(call.await.unwrap().status, 200);
        assert_eq!(drained.await.unwrap(), 0);
    });
}
