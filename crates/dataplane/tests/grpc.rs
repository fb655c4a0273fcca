//! gRPC calls: their deadlines, their own time limits, and how a client is told of a fault.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests are tests")]

mod support;
#[path = "support/h2.rs"]
mod peers;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use daemun_dataplane::Clock;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{Method, Request, Response};
use peers::{Answer, Client, run};
use support::{Running, start};

fn proxy_to(origin: SocketAddr, more: &str) -> String {
    format!(
        "limits: {{ body: 1KiB }}\nupstreams:\n  origin:\n    targets: [\"http://{origin}\"]\n    protocol: h2c\n\
         routes:\n  - name: all\n    match: {{ prefix: /shop.Orders }}\n    upstream: origin\n{more}"
    )
}

fn call(client: &Client, timeout: Option<&str>) -> Request<()> {
    let request = client.request(Method::POST, "/shop.Orders/Watch").header("content-type", "application/grpc+proto");
    let request = request.header("te", "trailers");
    let request = match timeout {
        Some(timeout) => request.header("grpc-timeout", timeout),
        None => request,
    };
    request.body(()).unwrap()
}

async fn advance_until<T>(running: &Running, step: Duration, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    loop {
        match tokio::time::timeout(Duration::from_millis(5), &mut work).await {
            Ok(done) => return done,
            Err(_) => running.clock.advance(step),
        }
    }
}

fn status(answer: &Answer) -> (Option<&str>, Option<&str>) {
    let of = |name: &str| answer.field(name).or_else(|| answer.trailer(name));
    (of("grpc-status"), of("grpc-message"))
}

async fn silent(request: Request<RecvStream>, respond: SendResponse<Bytes>) {
    let _keep = (request, respond);
    std::future::pending::<()>().await;
}

#[test]
fn a_call_past_its_deadline_is_told_so_in_a_head_of_trailers() {
    run(async {
        let (address, _) = peers::origin(h2::server::Builder::new(), silent).await;
        let running = start(&proxy_to(address, ""), Clock::manual());
        let client = Client::connect(running.address).await;
        let before = running.clock.now();
        let work = client.send(call(&client, Some("700m")), Some(Bytes::from_static(b"\0\0\0\0\0")), None);
        let answer = advance_until(&running, Duration::from_millis(50), work).await.unwrap();
        let moved = running.clock.now() - before;
        assert!((700_000_000..1_500_000_000).contains(&moved), "{moved}");
        assert_eq!(answer.status, 200);
        assert_eq!(status(&answer), (Some("4"), Some("the call's deadline has passed")));
        assert_eq!(answer.field("content-type"), Some("application/grpc"));
        assert_eq!((answer.field("content-length"), answer.body.len()), (None, 0));
    });
}

#[test]
fn a_stream_past_its_deadline_ends_with_trailers_that_say_so() {
    run(async {
        let serve = |_, mut respond: SendResponse<Bytes>| async move {
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            stream.send_data(Bytes::from_static(b"first"), false).unwrap();
            std::future::pending::<()>().await;
        };
        let (address, _) = peers::origin(h2::server::Builder::new(), serve).await;
        let running = start(&proxy_to(address, ""), Clock::manual());
        let client = Client::connect(running.address).await;
        let work = client.send(call(&client, Some("2S")), Some(Bytes::new()), None);
        let answer = advance_until(&running, Duration::from_millis(100), work).await.unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (200, &b"first"[..]));
        assert_eq!(answer.trailer("grpc-status"), Some("4"));
    });
}

#[test]
fn a_call_outlives_the_response_limit_and_the_body_limit() {
    run(async {
        let release = Rc::new(tokio::sync::Notify::new());
        let wait = Rc::clone(&release);
        let serve = move |request: Request<RecvStream>, mut respond: SendResponse<Bytes>| {
            let wait = Rc::clone(&wait);
            async move {
                let (body, _) = peers::read_all(&mut request.into_body()).await.unwrap();
                wait.notified().await;
                let mut stream = respond.send_response(Response::new(()), false).unwrap();
                stream.send_data(Bytes::from(body.len().to_string()), false).unwrap();
                let trailers = [("grpc-status", "0")].map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap()));
                stream.send_trailers(trailers.into_iter().collect()).unwrap();
            }
        };
        let (address, seen) = peers::origin(h2::server::Builder::new(), serve).await;
        let running = start(&proxy_to(address, ""), Clock::manual());
        let client = Client::connect(running.address).await;
        let work = client.send(call(&client, None), Some(Bytes::from(vec![0; 200_000])), None);
        tokio::pin!(work);
        while seen.requests.get() == 0 {
            assert!(tokio::time::timeout(Duration::from_millis(5), &mut work).await.is_err());
        }
        for _ in 0..60 {
            running.clock.advance(Duration::from_secs(2));
            assert!(tokio::time::timeout(Duration::from_millis(2), &mut work).await.is_err());
        }
        release.notify_one();
        let answer = work.await.unwrap();
        assert_eq!(answer.body, b"200000");
        assert_eq!(answer.trailer("grpc-status"), Some("0"));
    });
}

#[test]
fn a_stream_that_stands_still_ends_after_the_idle_limit() {
    run(async {
        let (address, _) = peers::origin(h2::server::Builder::new(), silent).await;
        let running = start(&proxy_to(address, "timeouts: { stream_idle: 5m }\n"), Clock::manual());
        let client = Client::connect(running.address).await;
        let before = running.clock.now();
        let work = client.send(call(&client, None), Some(Bytes::new()), None);
        let answer = advance_until(&running, Duration::from_secs(2), work).await.unwrap();
        let moved = running.clock.now() - before;
        assert!((300_000_000_000..320_000_000_000).contains(&moved), "{moved}");
        assert_eq!(status(&answer).0, Some("4"));
    });
}

#[test]
fn faults_of_every_side_reach_the_client_as_a_status() {
    run(async {
        let served = Rc::new(Cell::new(0));
        let count = Rc::clone(&served);
        let serve = move |_, mut respond: SendResponse<Bytes>| {
            count.set(count.get() + 1);
            async move {
                let mut stream = respond.send_response(Response::new(()), false).unwrap();
                stream.send_data(Bytes::from_static(b"part"), false).unwrap();
                tokio::task::yield_now().await;
                stream.send_reset(h2::Reason::INTERNAL_ERROR);
            }
        };
        let (address, _) = peers::origin(h2::server::Builder::new(), serve).await;
        let running = start(&proxy_to(address, ""), Clock::system());
        let client = Client::connect(running.address).await;
        let unknown = client.request(Method::POST, "/other.Service/Call").header("content-type", "application/grpc");
        let answer = client.send(unknown.body(()).unwrap(), Some(Bytes::new()), None).await.unwrap();
        assert_eq!((answer.status, status(&answer).0), (200, Some("5")));
        assert!(answer.field("x-request-id").is_some());
        let answer = client.send(call(&client, None), Some(Bytes::new()), None).await.unwrap();
        assert_eq!((answer.status, answer.trailer("grpc-status")), (200, Some("14")));
        assert_eq!(served.get(), 1);
        let plain = client.get("/other").await.unwrap();
        assert_eq!((plain.status, plain.field("content-type")), (404, Some("application/problem+json")));

        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let running = start(&proxy_to(nobody, ""), Clock::system());
        let client = Client::connect(running.address).await;
        let answer = client.send(call(&client, None), Some(Bytes::new()), None).await.unwrap();
        assert_eq!((answer.status, status(&answer).0), (200, Some("14")));
    });
}
