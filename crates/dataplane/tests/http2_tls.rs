//! TLS on both sides of HTTP/2: what ALPN agrees on is what is spoken.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod support;
#[path = "support/h2.rs"]
mod peers;
#[path = "support/tls.rs"]
mod tls;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use daemun_dataplane::Clock;
use peers::{Client, Seen, echo, run};
use rustls::pki_types::ServerName;
use support::start;
use tls::Certificates;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;

/// What a TLS origin has seen: connections that agreed on HTTP/2, and others.
#[derive(Default)]
struct Agreed {
    h2: Cell<usize>,
    old: Cell<usize>,
}

/// An origin behind TLS that offers `alpn`, and answers over what was agreed on.
async fn tls_origin(certificates: &Certificates, alpn: &[&str]) -> (SocketAddr, Rc<Agreed>) {
    let acceptor = certificates.acceptor(alpn);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let agreed = Rc::<Agreed>::default();
    let own = Rc::clone(&agreed);
    spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, agreed) = (acceptor.clone(), Rc::clone(&own));
            spawn_local(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                    agreed.h2.set(agreed.h2.get() + 1);
                    peers::connection(stream, h2::server::Builder::new(), Rc::new(echo), Rc::<Seen>::default()).await;
                } else {
                    agreed.old.set(agreed.old.get() + 1);
                    old(stream).await;
                }
            });
        }
    });
    (address, agreed)
}

/// Answers every head of HTTP/1.1 on a connection.
async fn old(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) {
    let mut buf = Vec::new();
    loop {
        while !buf.ends_with(b"\r\n\r\n") {
            let mut piece = [0u8; 1024];
            let n = read(&mut stream, &mut piece).await;
            if n == 0 {
                return;
            }
            buf.extend_from_slice(&piece[..n]);
        }
        buf.clear();
        write(&mut stream, b"HTTP/1.1 200 OK\r\nX-Seen: old\r\nContent-Length: 2\r\n\r\nok").await;
    }
}

async fn read(stream: &mut (impl tokio::io::AsyncRead + Unpin), piece: &mut [u8]) -> usize {
    let mut buf = tokio::io::ReadBuf::new(piece);
    let read = std::future::poll_fn(|cx| std::pin::Pin::new(&mut *stream).poll_read(cx, &mut buf)).await;
    if read.is_err() { 0 } else { buf.filled().len() }
}

async fn write(stream: &mut (impl tokio::io::AsyncWrite + Unpin), mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let n = std::future::poll_fn(|cx| std::pin::Pin::new(&mut *stream).poll_write(cx, bytes)).await.unwrap();
        bytes = &bytes[n..];
    }
    std::future::poll_fn(|cx| std::pin::Pin::new(&mut *stream).poll_flush(cx)).await.unwrap();
}

fn proxy_to(origin: SocketAddr, protocol: &str, certificates: &Certificates) -> String {
    format!(
        "upstreams:\n  origin:\n    targets: [\"https://{origin}\"]\n    protocol: {protocol}\n    tls: {{ ca: \"{}\" }}\n\
         routes:\n  - name: all\n    match: {{ prefix: / }}\n    upstream: origin\n",
        certificates.path("ca.crt")
    )
}

#[test]
fn a_listener_speaks_what_was_agreed_on() {
    run(async {
        let certificates = Certificates::new("listener");
        let (origin, _) = peers::origin(h2::server::Builder::new(), echo).await;
        let yaml = format!(
            "upstreams:\n  origin:\n    targets: [\"http://{origin}\"]\n    protocol: h2c\n\
             routes:\n  - name: all\n    match: {{ prefix: / }}\n    upstream: origin\n"
        );
        let running = support::start_with(&certificates.listener(""), &yaml, Clock::system());
        let name = ServerName::try_from("a.test").unwrap();
        let stream = TcpStream::connect(running.address).await.unwrap();
        let stream = certificates.connector(&["h2", "http/1.1"]).connect(name.clone(), stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let client = Client::over(stream, running.address).await;
        let body = Bytes::from(vec![b'x'; 300_000]);
        for _ in 0..2 {
            let request = client.request(http::Method::POST, "/p").body(()).unwrap();
            let answer = client.send(request, Some(body.clone()), None).await.unwrap();
            assert_eq!((answer.status, answer.body.len()), (200, body.len()));
        }
        for alpn in [&["http/1.1"][..], &[]] {
            let stream = TcpStream::connect(running.address).await.unwrap();
            let mut stream = certificates.connector(alpn).connect(name.clone(), stream).await.unwrap();
            write(&mut stream, b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
            let mut piece = [0u8; 32];
            let n = read(&mut stream, &mut piece).await;
            assert!(piece[..n].starts_with(b"HTTP/1.1 200 OK\r\n"), "{alpn:?}");
        }
    });
}

#[test]
fn an_upstream_is_spoken_to_as_it_chooses() {
    run(async {
        let certificates = Certificates::new("upstream");
        for (protocol, offered, h2) in [
            ("h2", &["h2", "http/1.1"][..], true),
            ("auto", &["h2", "http/1.1"], true),
            ("auto", &["http/1.1"], false),
            ("auto", &[], false),
            ("http1", &["h2", "http/1.1"], false),
        ] {
            let (address, agreed) = tls_origin(&certificates, offered).await;
            let running = start(&proxy_to(address, protocol, &certificates), Clock::system());
            let client = Rc::new(Client::connect(running.address).await);
            let calls: Vec<_> = (0..8)
                .map(|_| {
                    let client = Rc::clone(&client);
                    spawn_local(async move { client.get("/").await.unwrap() })
                })
                .collect();
            for call in calls {
                let answer = call.await.unwrap();
                assert_eq!(answer.status, 200, "{protocol} {offered:?}");
                assert_eq!(answer.field("x-seen") == Some("old"), !h2, "{protocol} {offered:?}");
            }
            assert_eq!((agreed.h2.get() > 0, agreed.old.get() > 0), (h2, !h2), "{protocol} {offered:?}");
            if h2 {
                assert_eq!(agreed.h2.get(), 1, "one connection carries all calls");
            }
        }
    });
}

#[test]
fn an_upstream_that_must_speak_http2_and_does_not_is_a_fault() {
    run(async {
        let certificates = Certificates::new("unwilling");
        let (address, agreed) = tls_origin(&certificates, &["http/1.1"]).await;
        let running = start(&proxy_to(address, "h2", &certificates), Clock::system());
        let answer = Client::connect(running.address).await.get("/").await.unwrap();
        assert_eq!(answer.status, 502);
        let problem = String::from_utf8(answer.body).unwrap();
        assert!(problem.contains("problems/upstream_tls"), "{problem}");
        assert_eq!(agreed.h2.get(), 0);
        assert!(!problem.contains(&address.to_string()), "the client learns no address");
    });
}

#[test]
fn a_websocket_goes_over_http1_to_an_upstream_that_may_choose() {
    run(async {
        let certificates = Certificates::new("websocket");
        let (address, agreed) = tls_origin(&certificates, &["h2", "http/1.1"]).await;
        let running = start(&proxy_to(address, "auto", &certificates), Clock::system());
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        let head = b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        write(&mut stream, head).await;
        let mut piece = [0u8; 512];
        let n = read(&mut stream, &mut piece).await;
        assert!(String::from_utf8_lossy(&piece[..n]).contains("old"), "the origin that did not switch answered");
        assert_eq!((agreed.h2.get(), agreed.old.get()), (0, 1));
    });
}
