//! HTTP/1.1 and 1.0 as they should be: framing, keep-alive, expectations, hints, trailers, streaming.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use daemun_e2e::gateway::Folder;
use daemun_e2e::lane::{FORWARD_ALL, Lane};
use daemun_e2e::wire::Address;
use daemun_e2e::{Broken, Gateway, Next, Origin, Peer, Request};

/// An upstream that answers with these bytes, target by target, and echoes otherwise.
fn answering(answers: &'static [(&'static str, &'static str)]) -> Origin {
    Origin::serve(move |peer, request| match answers.iter().find(|(target, _)| *target == request.target) {
        Some((_, answer)) if peer.send(answer) => Next::Keep,
        Some(_) => Next::Close,
        None => daemun_e2e::origin::echo(peer, request),
    })
}

fn signal() -> (SyncSender<()>, Mutex<Receiver<()>>) {
    let (sender, receiver) = sync_channel(8);
    (sender, Mutex::new(receiver))
}

fn wait(receiver: &Mutex<Receiver<()>>) {
    receiver.lock().unwrap().recv_timeout(daemun_e2e::wait::PATIENCE).expect("a signal");
}

#[test]
fn one_connection_serves_many_requests_over_one_upstream_connection() {
    let lane = Lane::start(FORWARD_ALL);
    let mut client = lane.connect();
    for at in 0..200 {
        let answer = client.get(&format!("/{at}"));
        assert_eq!((answer.status, answer.text()), (200, format!("/{at}")));
        assert!(!answer.closes());
    }
    assert_eq!(lane.origin.look(|log| log.accepted), 1);
}

#[test]
fn a_chunked_answer_stays_chunked_and_gives_its_trailers() {
    let origin = answering(&[(
        "/t",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 11\r\n\r\n",
    )]);
    let lane = Lane::with(FORWARD_ALL, origin);
    let mut client = lane.connect();
    for _ in 0..2 {
        let answer = client.get("/t");
        assert_eq!(answer.text(), "hello world");
        assert!(answer.chunks > 0);
        assert_eq!(answer.trailers.len(), 1, "{:?}", answer.trailers);
        assert_eq!(answer.trailers[0].1, "11");
    }
}

#[test]
fn a_length_is_kept_where_the_upstream_gave_one() {
    let origin = answering(&[
        ("/length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
        ("/nothing", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ]);
    let lane = Lane::with(FORWARD_ALL, origin);
    let mut client = lane.connect();
    assert_eq!(client.get("/length").field("content-length"), Some("5"));
    assert_eq!(client.get("/nothing").field("content-length"), Some("0"));
}

#[test]
fn head_204_and_304_have_no_body_and_keep_their_fields() {
    let origin = answering(&[
        ("/204", "HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n"),
        ("/304", "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 50\r\n\r\n"),
        ("/length", "HTTP/1.1 200 OK\r\nContent-Length: 50\r\nX-A: b\r\n\r\n"),
        ("/chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ]);
    let lane = Lane::with(FORWARD_ALL, origin);
    let mut client = lane.connect();
    let answer = client.get("/204");
    assert_eq!((answer.status, answer.field("x-a"), answer.field("transfer-encoding")), (204, Some("b"), None));
    assert!(!answer.head.has("content-length"), "204 has no length (RFC 9110, 8.6)");
    let answer = client.get("/304");
    assert_eq!((answer.status, answer.field("etag")), (304, Some("\"x\"")));
    let answer = client.call("HEAD /length HTTP/1.1\r\nHost: e2e.test\r\n\r\n");
    assert_eq!((answer.status, answer.field("x-a"), answer.field("content-length")), (200, Some("b"), Some("50")));
    let answer = client.call("HEAD /chunked HTTP/1.1\r\nHost: e2e.test\r\n\r\n");
    assert_eq!(answer.status, 200);
    assert_eq!(client.get("/after").text(), "/after");
    assert_eq!(lane.origin.look(|log| log.accepted), 1);
}

#[test]
fn an_http_1_0_client_gets_no_chunks_and_no_interim_answers() {
    let origin = answering(&[
        ("/chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"),
        ("/hints", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
    ]);
    let lane = Lane::with(FORWARD_ALL, origin);
    let answer = lane.connect().call("GET /chunked HTTP/1.0\r\nHost: e2e.test\r\n\r\n");
    assert_eq!((answer.text().as_str(), answer.field("transfer-encoding")), ("hello", None));
    let mut client = lane.connect();
    let answer = client.call("GET /hints HTTP/1.0\r\nHost: e2e.test\r\n\r\n");
    assert_eq!((answer.text().as_str(), answer.interim.len()), ("hello", 0));
    assert!(client.is_closed());
    let mut client = lane.connect();
    let first = client.call("GET /a HTTP/1.0\r\nHost: e2e.test\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(first.text(), "/a");
    if !first.closes() {
        assert_eq!(first.field("connection").map(str::to_ascii_lowercase).as_deref(), Some("keep-alive"));
        assert_eq!(client.call("GET /b HTTP/1.0\r\nHost: e2e.test\r\n\r\n").text(), "/b");
    }
    assert!(client.is_closed());
}

#[test]
fn a_body_that_ends_with_the_upstreams_connection_is_framed_for_the_client() {
    let origin = Origin::serve(|peer, request| {
        if request.target == "/t" {
            peer.send("HTTP/1.1 200 OK\r\n\r\nhello");
            return Next::Close;
        }
        daemun_e2e::origin::echo(peer, request)
    });
    let lane = Lane::with(FORWARD_ALL, origin);
    let mut client = lane.connect();
    let answer = client.get("/t");
    assert_eq!(answer.text(), "hello");
    assert!(answer.chunks > 0 || answer.closes(), "{answer:?}");
    if !answer.closes() {
        assert_eq!(client.get("/next").text(), "/next");
    }
}

#[test]
fn early_hints_are_passed_on_before_the_answer() {
    let (go, gone) = signal();
    let origin = Origin::serve(move |peer, _| {
        peer.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n");
        wait(&gone);
        peer.answer("hello");
        Next::Keep
    });
    let lane = Lane::with(FORWARD_ALL, origin);
    let mut client = lane.connect();
    client.send("GET /t HTTP/1.1\r\nHost: e2e.test\r\n\r\n");
    let hints = client.interim().unwrap();
    assert!(hints.start.starts_with("HTTP/1.1 103"), "{}", hints.start);
    assert_eq!(hints.one("link"), Some("</a.css>; rel=preload"));
    assert!(!hints.has("x-hop"));
    go.send(()).unwrap();
    assert_eq!(client.response().unwrap().text(), "hello");
}

#[test]
fn a_client_that_expects_to_be_asked_is_asked_once_and_before_the_body() {
    let lane = Lane::start(FORWARD_ALL);
    let mut client = lane.connect();
    for body in ["hello", "world"] {
        client.send("POST /t HTTP/1.1\r\nHost: e2e.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
        let asked = client.interim().unwrap();
        assert!(asked.start.starts_with("HTTP/1.1 100"), "{}", asked.start);
        client.send(body);
        let answer = client.response().unwrap();
        assert_eq!((answer.interim.len(), answer.text().as_str()), (0, body));
    }
    let requests = lane.settle().unwrap().requests;
    assert_eq!(requests.len(), 2);
}

#[test]
fn a_client_that_expects_to_be_asked_may_be_refused_instead() {
    let yaml = FORWARD_ALL.replace("match: { prefix: / }", "match: { prefix: /known }");
    let lane_origin = Origin::echo();
    let gateway = Gateway::start(&yaml.replace("{origin}", &lane_origin.url()));
    let mut client = gateway.connect();
    client.send("POST /other HTTP/1.1\r\nHost: e2e.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    let answer = client.response().unwrap();
    assert_eq!((answer.status, answer.interim.len()), (404, 0));
    if answer.closes() {
        assert!(client.is_closed());
    } else {
        client.send("helloGET /known HTTP/1.1\r\nHost: e2e.test\r\n\r\n");
        assert_eq!(client.response().unwrap().text(), "/known");
    }
    assert!(lane_origin.look(|log| log.requests.iter().all(|request| request.target == "/known")));
}

#[test]
fn a_request_body_reaches_the_upstream_while_it_is_still_being_sent() {
    let (seen, first) = signal();
    let origin = Origin::start(move |peer| {
        let Some(mut request) = peer.request_head() else { return Next::Close };
        while !peer.wire.buffer.windows(5).any(|window| window == b"hello") {
            if peer.wire.fill().is_err() {
                return Next::Close;
            }
        }
        seen.send(()).unwrap();
        peer.body(&mut request);
        daemun_e2e::origin::echo(peer, &request)
    });
    let gateway = Gateway::start(&FORWARD_ALL.replace("{origin}", &origin.url()));
    let mut client = gateway.connect();
    client.send("POST /t HTTP/1.1\r\nHost: e2e.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    wait(&first);
    client.send("6\r\n world\r\n0\r\n\r\n");
    assert_eq!(client.response().unwrap().text(), "hello world");
}

#[test]
fn an_answer_reaches_the_client_while_it_is_still_being_made() {
    let (go, gone) = signal();
    let origin = Origin::serve(move |peer, request| {
        let head = match request.target.as_str() {
            "/chunks" => "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            "/events" => "Content-Type: text/event-stream\r\n\r\nhello",
            _ => "Content-Length: 11\r\n\r\nhello",
        };
        peer.send(format!("HTTP/1.1 200 OK\r\n{head}"));
        wait(&gone);
        peer.send(if request.target == "/chunks" { "6\r\n world\r\n0\r\n\r\n" } else { " world" });
        Next::Close
    });
    let lane = Lane::with(FORWARD_ALL, origin);
    for target in ["/chunks", "/events", "/length"] {
        let mut client = lane.connect();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: e2e.test\r\n\r\n"));
        while !client.wire.buffer.windows(5).any(|window| window == b"hello") {
            client.wire.fill().unwrap_or_else(|broken| panic!("{target}: {broken} before the first part"));
        }
        go.send(()).unwrap();
        assert_eq!(client.response().unwrap().text(), "hello world", "{target}");
    }
}

#[test]
fn a_head_that_arrives_byte_by_byte_is_read() {
    let lane = Lane::start(FORWARD_ALL);
    let mut client = lane.connect();
    for byte in b"POST /t HTTP/1.1\r\nHost: e2e.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" {
        client.send_apart([*byte]);
    }
    assert_eq!(client.response().unwrap().text(), "abc");
}

#[test]
fn an_answer_that_arrives_byte_by_byte_is_read() {
    let origin = Origin::serve(|peer: &mut Peer, request: &Request| {
        let whole = format!(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{}\r\n0\r\nX-A: b\r\n\r\n",
            request.target.len(),
            request.target
        );
        let sent = whole.as_bytes().iter().all(|byte| peer.send([*byte]));
        if sent { Next::Keep } else { Next::Close }
    });
    let lane = Lane::with(FORWARD_ALL, origin);
    let mut client = lane.connect();
    for target in ["/a", "/b", "/c"] {
        let answer = client.get(target);
        assert_eq!(answer.text(), target);
        assert_eq!(answer.trailers.len(), 1);
    }
}

#[test]
fn unix_sockets_serve_on_both_sides() {
    let folder = Folder::new();
    let upstream = folder.path().join("up.sock");
    let origin = Origin::start_unix(&upstream, daemun_e2e::origin::serving(daemun_e2e::origin::echo));
    let listener = folder.path().join("in.sock");
    let yaml = FORWARD_ALL
        .replace("bind: 127.0.0.1:0", &format!("bind: \"unix:{}\"\n  - bind: 127.0.0.1:0", listener.display()))
        .replace("{origin}", &origin.url());
    let gateway = Gateway::start(&yaml);
    assert_eq!(gateway.addresses()[0], Address::Unix(listener));
    let mut client = gateway.connect();
    for at in 0..5 {
        assert_eq!(client.get(&format!("/{at}")).text(), format!("/{at}"));
    }
    let tcp = daemun_e2e::Client::connect(&gateway.addresses()[1]).get("/tcp");
    assert_eq!(tcp.text(), "/tcp");
    assert_eq!(origin.look(|log| log.faults.clone()), Vec::<String>::new());
}

#[test]
fn a_proxy_on_a_unix_socket_is_believed_when_it_is_trusted() {
    for (proxies, trusted) in [("[unix, 10.0.0.0/8]", true), ("[10.0.0.0/8]", false)] {
        let folder = Folder::new();
        let origin = Origin::echo();
        let listener = folder.path().join("in.sock");
        let yaml = FORWARD_ALL
            .replace("bind: 127.0.0.1:0", &format!("bind: \"unix:{}\"", listener.display()))
            .replace("{origin}", &origin.url())
            .replace("routes:\n", "routes:\n  - name: inside\n    match: { prefix: /, client_ip: [203.0.113.0/24] }\n    answer: { status: 200, body: inside }\n");
        let gateway = Gateway::start(&format!("trusted_proxies: {proxies}\n{yaml}"));
        let mut client = gateway.connect();
        let mut get = |fields: &str| client.call(format!("GET /t HTTP/1.1\r\nHost: e2e.test\r\n{fields}\r\n")).text();
        assert_eq!(get("X-Forwarded-For: 203.0.113.7, 10.1.1.1\r\n") == "inside", trusted);
        // the caller of the last request is not that of the next
        assert_eq!(get(""), "/t");
        assert_eq!(get("X-Forwarded-For: 198.51.100.1, 10.0.0.1\r\nX-Forwarded-Proto: https\r\n"), "/t");
        let (path, scheme) = origin.look(|log| {
            let last = log.requests.last().unwrap();
            (last.field("x-forwarded-for").map(str::to_owned), last.field("x-forwarded-proto").map(str::to_owned))
        });
        let believed = (Some("198.51.100.1, 10.0.0.1".to_owned()), Some("https".to_owned()));
        assert_eq!((path, scheme), if trusted { believed } else { (None, Some("http".to_owned())) });
    }
}

#[test]
fn a_client_that_leaves_cancels_the_call() {
    for reset in [false, true] {
        let origin = Origin::serve(|peer, request| {
            if request.target == "/slow" {
                peer.stall();
                return Next::Close;
            }
            daemun_e2e::origin::echo(peer, request)
        });
        let lane = Lane::with(FORWARD_ALL, origin);
        let mut client = lane.connect();
        client.send("GET /slow HTTP/1.1\r\nHost: e2e.test\r\n\r\n");
        lane.origin.wait_requests(1);
        if reset {
            client.reset()
        } else {
            drop(client)
        }
        lane.origin.wait("the call was cancelled", |log| (!log.ended.is_empty()).then_some(()));
        lane.settle().unwrap();
    }
}

#[test]
fn a_client_that_leaves_in_the_middle_of_an_answer_cancels_the_call() {
    let origin = Origin::serve(|peer, request| {
        if request.target == "/endless" {
            peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            while peer.send("400\r\n") && peer.send([b'x'; 1024]) && peer.send("\r\n") {}
            return Next::Close;
        }
        daemun_e2e::origin::echo(peer, request)
    });
    let lane = Lane::with(FORWARD_ALL, origin);
    let mut client = lane.connect();
    client.send("GET /endless HTTP/1.1\r\nHost: e2e.test\r\n\r\n");
    client.wire.fill().unwrap();
    client.reset();
    lane.origin.wait("the call was cancelled", |log| (!log.ended.is_empty()).then_some(()));
    lane.settle().unwrap();
}

#[test]
fn a_connection_that_is_never_used_may_be_closed_without_a_word() {
    let lane = Lane::start(FORWARD_ALL);
    for _ in 0..50 {
        drop(lane.connect());
        lane.connect().reset();
    }
    let mut client = lane.connect();
    client.finish();
    assert!(matches!(client.response(), Err(Broken::Closed)));
    lane.settle().unwrap();
}
