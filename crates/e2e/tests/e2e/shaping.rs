//! Bodies that policies change: compressed as a client can read them, transformed as an upstream and a client get them.

use std::io::Read;

use daemun_e2e::http2::{Ending, Http2};
use daemun_e2e::{Gateway, Lane, Next, Origin, Response};

fn yaml(policies: &str) -> String {
    format!(
        "workers: 1\naccess_log: off\nlisteners:\n  - bind: 127.0.0.1:0\nupstreams:\n  origin:\n    targets: [\"{{origin}}\"]\n\
         policies:\n{policies}routes:\n  - {{ name: empty, match: {{ path: /empty }}, answer: {{ status: 200 }} }}\n  \
         - {{ name: all, match: {{ prefix: / }}, upstream: origin }}\n"
    )
}

fn decoded(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        "gzip" => flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap(),
        "br" => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut out).unwrap(),
        "zstd" => zstd::stream::read::Decoder::new(bytes).unwrap().read_to_end(&mut out).unwrap(),
        other => panic!("{other}"),
    };
    out
}

fn text() -> String {
    "a line that repeats itself\n".repeat(8000)
}

/// Answers by target: `/length`, `/chunked`, `/close` and others with a text; some that must stay as they are.
fn texts() -> Origin {
    Origin::serve(|peer, request| {
        let kind = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nETag: \"a\"\r\n";
        let text = text();
        let body: &str = if request.method == "HEAD" { "" } else { &text };
        let sent = match &*request.target {
            "/chunked" => {
                let pieces: Vec<String> = text.as_bytes().chunks(5000).map(|c| format!("{:x}\r\n{}\r\n", c.len(), String::from_utf8_lossy(c))).collect();
                format!("{kind}Transfer-Encoding: chunked\r\nTrailer: x-t\r\n\r\n{}0\r\nx-t: 1\r\n\r\n", pieces.concat())
            }
            "/close" => format!("{kind}Connection: close\r\n\r\n{body}"),
            "/304" => format!("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", text.len()),
            "/204" => "HTTP/1.1 204 No Content\r\nContent-Type: text/plain\r\n\r\n".to_owned(),
            "/none" => format!("{kind}Content-Length: 0\r\n\r\n"),
            "/small" => format!("{kind}Content-Length: 5\r\n\r\nsmall"),
            "/range" => "HTTP/1.1 206 Partial Content\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/5\r\nContent-Length: 2\r\n\r\nab".to_owned(),
            "/coded" => format!("{kind}Content-Encoding: x-own\r\nContent-Length: {}\r\n\r\n{body}", text.len()),
            _ => format!("{kind}Content-Length: {}\r\n\r\n{body}", text.len()),
        };
        let closes = request.target == "/close";
        if peer.send(sent) && !closes { Next::Keep } else { Next::Close }
    })
}

fn ask(gateway: &Gateway, method: &str, target: &str, coding: &str) -> Response {
    let mut client = gateway.connect();
    client.send(format!("{method} {target} HTTP/1.1\r\nHost: e2e.test\r\nAccept-Encoding: {coding}\r\n\r\n"));
    client.response_to(method).unwrap()
}

#[test]
fn a_client_reads_compressed_answers_however_they_were_framed() {
    let origin = texts();
    let gateway = Gateway::start(&yaml("  compress: {}\n").replace("{origin}", &origin.url()));
    for coding in ["gzip", "br", "zstd"] {
        for target in ["/length", "/chunked", "/close"] {
            let answer = ask(&gateway, "GET", target, coding);
            assert_eq!(answer.field("content-encoding"), Some(coding), "{target}");
            assert_eq!(answer.field("vary"), Some("Accept-Encoding"), "{target}");
            assert_eq!(answer.field("etag"), Some("W/\"a\""), "{target}");
            assert!(!answer.head.has("content-length") && answer.chunks > 0, "{target}");
            assert!(answer.body.len() < text().len() / 20, "{coding} {target} has {} bytes", answer.body.len());
            assert!(decoded(coding, &answer.body) == text().as_bytes(), "{coding} {target}");
            let trailers: &[(String, String)] =
                if target == "/chunked" { &[("x-t".to_owned(), "1".to_owned())] } else { &[] };
            assert_eq!(answer.trailers, trailers, "{target}");
        }
        let mut client = Http2::connect(gateway.address());
        let fields = [
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/length"),
            (":authority", "e2e.test"),
            ("accept-encoding", coding),
        ];
        client.headers(1, &fields, true);
        let Ending::Answer(answer) = client.ending(1).unwrap() else { panic!("no answer") };
        assert_eq!(answer.field("content-encoding"), Some(coding));
        assert!(decoded(coding, &answer.body) == text().as_bytes());
    }
    let plain = ask(&gateway, "GET", "/length", "identity");
    assert!(plain.body == text().as_bytes() && plain.field("vary") == Some("Accept-Encoding"));
    assert_eq!(plain.field("etag"), Some("\"a\""));
}

#[test]
fn an_own_answer_without_a_body_is_left_alone() {
    let lane = Lane::start(&yaml("  compress: { min_size: 0B }\n"));
    let empty = ask(&lane.gateway, "GET", "/empty", "gzip");
    assert!(empty.body.is_empty() && !empty.head.has("content-encoding"));
}

#[test]
fn a_refusal_is_compressed_as_the_caller_takes_it() {
    let lane = Lane::start(&yaml("  compress: { min_size: 0B }\n  rate_limit: { limit: 1/h, by: route }\n"));
    let first = ask(&lane.gateway, "GET", "/x", "gzip");
    assert_eq!(first.status, 200);
    let refused = ask(&lane.gateway, "GET", "/x", "gzip");
    assert_eq!((refused.status, refused.field("content-encoding")), (429, Some("gzip")));
    let told: serde_json::Value = serde_json::from_slice(&decoded("gzip", &refused.body)).unwrap();
    assert_eq!(told["status"], 429);
}

#[test]
fn what_has_no_body_or_must_stay_is_not_compressed() {
    let origin = texts();
    let gateway = Gateway::start(&yaml("  compress: {}\n").replace("{origin}", &origin.url()));
    for (target, method, length) in [
        ("/304", "GET", 0),
        ("/204", "GET", 0),
        ("/none", "GET", 0),
        ("/small", "HEAD", 0),
        ("/small", "GET", 5),
        ("/range", "GET", 2),
        ("/coded", "GET", text().len()),
    ] {
        let answer = ask(&gateway, method, target, "gzip");
        assert!(answer.broken.is_none(), "{target}");
        assert_eq!(answer.body.len(), length, "{target}");
        assert_ne!(answer.field("content-encoding"), Some("gzip"), "{target}");
    }
    let mut client = gateway.connect();
    for _ in 0..2 {
        client.send("HEAD /length HTTP/1.1\r\nHost: e2e.test\r\nAccept-Encoding: gzip\r\n\r\n");
        let head = client.response_to("HEAD").unwrap();
        assert!(head.broken.is_none() && head.body.is_empty());
        assert_eq!(head.field("content-encoding"), Some("gzip"), "what GET would be, HEAD is told");
        assert_eq!((head.field("content-length"), head.field("etag")), (None, Some("W/\"a\"")));
    }
    client.send("GET /304 HTTP/1.1\r\nHost: e2e.test\r\nAccept-Encoding: gzip\r\nIf-None-Match: W/\"a\"\r\n\r\n");
    let same = client.response_to("GET").unwrap();
    assert_eq!((same.status, same.field("etag"), same.field("vary")), (304, Some("W/\"a\""), Some("Accept-Encoding")));
}

#[test]
fn each_piece_of_a_stream_leaves_as_it_comes() {
    let (go, gone) = std::sync::mpsc::sync_channel::<()>(1);
    let gone = std::sync::Mutex::new(gone);
    let origin = Origin::serve(move |peer, _| {
        peer.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
        let _ = gone.lock().unwrap().recv();
        peer.send("6\r\nsecond\r\n0\r\n\r\n");
        Next::Keep
    });
    let gateway = Gateway::start(&yaml("  compress: {}\n").replace("{origin}", &origin.url()));
    let mut client = gateway.connect();
    client.send("GET /s HTTP/1.1\r\nHost: e2e.test\r\nAccept-Encoding: gzip\r\n\r\n");
    let mut so_far = Vec::new();
    // the first piece can be read before the second is sent
    loop {
        client.wire.fill().unwrap();
        so_far.append(&mut client.wire.buffer.drain(..).collect());
        let head = so_far.windows(4).position(|window| window == b"\r\n\r\n");
        let Some(body) = head.and_then(|end| so_far.get(end + 4..)) else { continue };
        if unchunked(body).is_some_and(|coded| read_so_far(&coded) == b"first") {
            break;
        }
    }
    go.send(()).unwrap();
}

/// The bytes of whole chunks.
fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?, 16).ok()?;
        let Some(piece) = rest.get(end + 2..end + 2 + length) else { break };
        out.extend_from_slice(piece);
        rest = rest.get(end + 4 + length..).unwrap_or_default();
    }
    Some(out)
}

fn read_so_far(coded: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let _ = flate2::read::GzDecoder::new(coded).read_to_end(&mut out);
    out
}

fn post(lane: &Lane, kind: &str, body: &str) -> Response {
    lane.connect().call(format!(
        "POST /t?a=1 HTTP/1.1\r\nHost: e2e.test\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

#[test]
fn requests_are_transformed_before_the_upstream_gets_them() {
    let lane = Lane::start(&yaml(
        "  transform:\n    - set: { body.a.b: 1, header.x-a: z, path: /v2, query.q: \"2\" }\n    - remove: body.a.secret\n",
    ));
    for (kind, body, sent) in [
        ("application/json", "{\"n\": 1e400, \"a\": {\"secret\": \"s3cret\"}}", "{\"n\":1e400,\"a\":{\"b\":1}}"),
        ("text/xml", "<a><secret>s3cret</secret></a>", "<a><b>1</b></a>"),
    ] {
        assert_eq!(post(&lane, kind, body).status, 200, "{kind}");
        let request = lane.origin.look(|log| log.requests.last().cloned()).unwrap();
        assert_eq!(String::from_utf8_lossy(&request.body), sent, "{kind}");
        assert_eq!((&*request.target, request.field("x-a")), ("/v2?a=1&q=2", Some("z")));
        assert_eq!(request.field("content-length"), Some(&*sent.len().to_string()), "{kind}");
    }
    let chunked = lane.connect().call(
        "POST /t HTTP/1.1\r\nHost: e2e.test\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    );
    assert_eq!(chunked.status, 200);
    let mut client = Http2::connect(lane.gateway.address());
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/t"),
        (":authority", "e2e.test"),
        ("content-type", "application/json"),
    ];
    client.headers(1, &fields, false).data(1, b"{\"a\":", false).data(1, b"{}}", true);
    assert!(matches!(client.ending(1).unwrap(), Ending::Answer(answer) if answer.status == 200));
    let bodies = lane
        .origin
        .look(|log| log.requests.iter().map(|r| String::from_utf8_lossy(&r.body).into_owned()).collect::<Vec<_>>());
    assert_eq!(bodies[2..], ["{\"a\":{\"b\":1}}", "{\"a\":{\"b\":1}}"]);
    let before = bodies.len();
    for (kind, body, status) in [
        ("application/json", "{\"a\":1}", 400),
        ("application/json", "{\"a\":{},\"a\":{\"secret\":1}}", 400),
        ("application/json", "{", 400),
        ("text/xml", "<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>", 400),
        ("application/x-www-form-urlencoded", "a=1", 400),
        ("text/plain", "hello", 415),
        ("application/json; charset=utf-16", "{}", 415),
    ] {
        let answer = post(&lane, kind, body);
        assert_eq!(
            (answer.status, answer.field("content-type")),
            (status, Some("application/problem+json")),
            "{kind} {body}"
        );
    }
    assert_eq!(lane.origin.look(|log| log.requests.len()), before, "what is refused does not reach the upstream");
    // without a body there is nothing to change in it
    assert_eq!(lane.connect().get("/t").status, 200);
}

#[test]
fn answers_are_transformed_before_the_caller_gets_them() {
    let origin = Origin::serve(|peer, request| {
        assert_eq!(request.field("accept-encoding"), Some("identity"));
        assert!(!request.has("range"));
        let (kind, body) = match &*request.target {
            "/xml" => ("text/xml", "<a><secret>s3cret</secret><b/></a>".to_owned()),
            "/form" => ("application/x-www-form-urlencoded", "a=1&secret=s3cret".to_owned()),
            "/html" => ("text/html", "s3cret".to_owned()),
            "/broken" => ("application/json", "{\"secret\":\"s3cret\"".to_owned()),
            "/large" => ("application/json", format!("{{\"secret\":\"s3cret\",\"x\":\"{}\"}}", "x".repeat(5000))),
            _ => ("application/json", "{\"secret\":\"s3cret\",\"b\":1.0}".to_owned()),
        };
        let head = if request.target == "/chunked" {
            format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
                body.len()
            )
        } else {
            let body = if request.method == "HEAD" { "" } else { &body };
            format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nETag: \"e\"\r\n\r\n{body}",
                body.len()
            )
        };
        if peer.send(head) { Next::Keep } else { Next::Close }
    });
    let policies = "  compress: { min_size: 0B }\n  transform:\n    response: [{ remove: [body.secret, body.a.secret] }]\n    max_body: 4KiB\n";
    let gateway = Gateway::start(&yaml(policies).replace("{origin}", &origin.url()));
    for (target, status, body) in [
        ("/json", 200, "{\"b\":1.0}"),
        ("/chunked", 200, "{\"b\":1.0}"),
        ("/xml", 200, "<a><b/></a>"),
        ("/form", 200, "a=1"),
        ("/html", 502, ""),
        ("/broken", 502, ""),
        ("/large", 502, ""),
    ] {
        let mut client = gateway.connect();
        let answer = client.call(format!("GET {target} HTTP/1.1\r\nHost: e2e.test\r\nRange: bytes=0-3\r\n\r\n"));
        assert_eq!(answer.status, status, "{target}");
        assert!(!answer.text().contains("s3cret"), "{target}: {}", answer.text());
        if status == 200 {
            assert_eq!(answer.text(), body, "{target}");
        }
    }
    let coded = ask(&gateway, "GET", "/json", "gzip");
    assert_eq!((coded.field("content-encoding"), coded.field("etag")), (Some("gzip"), Some("W/\"e\"")));
    assert_eq!(decoded("gzip", &coded.body), b"{\"b\":1.0}");
    assert_eq!(ask(&gateway, "HEAD", "/json", "gzip").status, 200);
}
