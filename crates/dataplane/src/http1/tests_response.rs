use super::super::parse::tests::Random;
use super::*;

use daemun_pipeline::Reason;

type Read = Result<Option<ResponseHead>, Reason>;

fn read_on(buf: &[u8], scan: &mut Scan, fields: &mut Vec<Field>, to_head: bool) -> Read {
    parse_response(buf, &Bounds::default(), scan, fields, to_head).map_err(|fault| {
        assert!(fault.cause.is_some(), "the log says why");
        fault.reason
    })
}

fn parse(buf: &[u8]) -> Read {
    read_on(buf, &mut Scan::default(), &mut Vec::new(), false)
}

fn good(text: &str) -> ResponseHead {
    match parse(text.as_bytes()) {
        Ok(Some(head)) => head,
        other => panic!("{other:?} for {text:?}"),
    }
}

fn refused(text: &str) {
    assert_eq!(parse(text.as_bytes()), Err(Reason::BadResponse), "{text:?}");
}

/// The head of an answer to GET.
fn with(status: u16, lines: &str) -> ResponseHead {
    good(&format!("HTTP/1.1 {status} Text\r\n{lines}\r\n"))
}

#[test]
fn a_plain_response_is_indexed_in_place() {
    let buf = b"HTTP/1.1 200 All fine\r\nContent-Length: 4\r\nX: \xe9 \r\n\r\nbody";
    let mut fields = Vec::new();
    let head = read_on(buf, &mut Scan::default(), &mut fields, false).unwrap().unwrap();
    assert_eq!((head.len, head.status, head.version, head.body), (buf.len() - 4, 200, 11, BodyLength::Length(4)));
    assert_eq!(&buf[head.reason.range()], b"All fine");
    assert_eq!(fields.iter().map(|f| &buf[f.value.range()]).collect::<Vec<_>>(), [&b"4"[..], b"\xe9"]);
    assert!(!head.close && head.upgrade.is_none() && !head.is_interim());
}

#[test]
fn a_reason_phrase_may_be_empty_missing_or_in_another_charset() {
    for (line, reason) in [
        ("HTTP/1.1 200 ", ""),
        ("HTTP/1.1 200", ""),
        ("HTTP/1.1 404 Nicht da", "Nicht da"),
        ("HTTP/1.1 200 \u{e9}t\u{e9}", "\u{e9}t\u{e9}"),
        ("HTTP/1.1 200  a\t", " a\t"),
    ] {
        let text = format!("{line}\r\n\r\n");
        assert_eq!(&text[good(&text).reason.range()], reason);
    }
}

#[test]
fn a_status_line_has_one_spelling() {
    for line in [
        "HTTP/1.2 200 OK",
        "HTTP/2 200 OK",
        "HTTP/2.0 200 OK",
        "HTTP/0.9 200 OK",
        "http/1.1 200 OK",
        "HTTP/1.1  200 OK",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 099 OK",
        "HTTP/1.1 000 OK",
        "HTTP/1.1 600 OK",
        "HTTP/1.1 999 OK",
        "HTTP/1.1 2a0 OK",
        "HTTP/1.1 -20 OK",
        "HTTP/1.1 200OK",
        "HTTP/1.1 200\tOK",
        "HTTP/1.1\t200 OK",
        " HTTP/1.1 200 OK",
        "\r\nHTTP/1.1 200 OK",
        "\nHTTP/1.1 200 OK",
        "HTTP/1.1 200 O\0K",
        "HTTP/1.1 200 O\x7fK",
        "HTTP/1.1 200 O\rK",
        "HTTP/1.1200 OK",
        "ICY 200 OK",
        "<html>",
        "HTTP/1.1 200 OK\r",
        "HTTP/1.1",
        "HTTP/1.1 ",
    ] {
        refused(&format!("{line}\r\nContent-Length: 0\r\n\r\n"));
    }
}

#[test]
fn lines_are_as_strict_as_a_requests() {
    for text in [
        "HTTP/1.1 200 OK\nX: y\n\n",
        "HTTP/1.1 200 OK\r\nX: y\n\r\n",
        "HTTP/1.1 200 OK\r\nX: y\r\n\n",
        "HTTP/1.1 200 OK\nX: y\r\n\r\n",
        "HTTP/1.1 200\nX: y\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n",
        "HTTP/1.1 200 OK\r\n X: y\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: y\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: \0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX y: z\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX\r\n\r\n",
    ] {
        refused(text);
    }
}

#[test]
fn a_body_has_one_length() {
    assert_eq!(with(200, "").body, BodyLength::UntilClose);
    assert_eq!(with(200, "Content-Length: 0\r\n").body, BodyLength::Length(0));
    assert_eq!(with(404, "Content-Length: 12\r\n").body, BodyLength::Length(12));
    assert_eq!(with(200, "Transfer-Encoding: Chunked\r\n").body, BodyLength::Chunked);
    for lines in [
        "Content-Length: 1\r\nContent-Length: 1\r\n",
        "Content-Length: 1\r\nContent-Length: 2\r\n",
        "Content-Length: 1, 1\r\n",
        "Content-Length: +1\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: \r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: \r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity\r\n",
    ] {
        for status in [200, 304, 204, 103] {
            refused(&format!("HTTP/1.1 {status} Text\r\n{lines}\r\n"));
        }
    }
    refused("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
}

#[test]
fn some_answers_have_no_body_whatever_they_say() {
    let text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    let mut fields = Vec::new();
    let head = read_on(text.as_bytes(), &mut Scan::default(), &mut fields, true).unwrap().unwrap();
    assert_eq!(
        (head.body, head.close, fields[0].removed),
        (BodyLength::None, false, false),
        "HEAD keeps the length it would have"
    );
    let head = read_on(b"HTTP/1.1 200 OK\r\n\r\n", &mut Scan::default(), &mut fields, true).unwrap().unwrap();
    assert_eq!((head.body, head.close), (BodyLength::None, false));
    let head = with(304, "Content-Length: 5\r\n");
    assert_eq!((head.body, head.close), (BodyLength::None, false));
    for (status, lines, close) in [
        (204, "", false),
        (204, "Content-Length: 0\r\n", false),
        (204, "Content-Length: 5\r\n", true),
        (204, "Transfer-Encoding: chunked\r\n", true),
        (103, "", false),
        (100, "Content-Length: 1\r\n", true),
    ] {
        let head = with(status, lines);
        assert_eq!((head.body, head.close), (BodyLength::None, close), "{status} {lines:?}");
    }
    read_on(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", &mut Scan::default(), &mut fields, false).unwrap();
    assert!(fields[0].removed);
}

#[test]
fn interim_answers_are_told_apart_from_a_switch() {
    assert!(with(100, "").is_interim());
    assert!(with(103, "Link: </a>; rel=preload\r\n").is_interim());
    let text = "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let head = good(text);
    assert!(!head.is_interim());
    assert_eq!(&text[head.upgrade.unwrap().range()], "websocket");
    refused(&text.replace("Connection: Upgrade\r\n", ""));
    refused(&text.replace("Upgrade: websocket\r\n", ""));
    refused(&text.replace("websocket", ""));
    refused(&text.replace("Upgrade: websocket\r\n", "Upgrade: websocket\r\nUpgrade: h2c\r\n"));
    refused(&text.replace("HTTP/1.1", "HTTP/1.0"));
    assert_eq!(
        with(200, "Connection: upgrade\r\nUpgrade: h2\r\nContent-Length: 0\r\n").upgrade,
        None,
        "an offer is no switch"
    );
}

#[test]
fn version_connection_and_length_decide_whether_the_connection_stays() {
    let close = |version: &str, lines: &str| good(&format!("HTTP/{version} 200 OK\r\n{lines}\r\n")).close;
    assert!(!close("1.1", "Content-Length: 0\r\n"));
    assert!(close("1.1", ""), "the end of the connection is the end of the body");
    assert!(close("1.1", "Content-Length: 0\r\nConnection: close\r\n"));
    assert!(close("1.0", "Content-Length: 0\r\n"));
    assert!(!close("1.0", "Content-Length: 0\r\nConnection: keep-alive\r\n"));
    assert!(close("1.0", "Connection: keep-alive\r\n"));
    assert!(close("1.0", "Content-Length: 0\r\nConnection: keep-alive, close\r\n"));
}

#[test]
fn fields_that_connection_names_are_not_passed_on() {
    let text = "HTTP/1.1 200 OK\r\nConnection: X-Hop, Transfer-Encoding\r\nX-Hop: 1\r\nx_y: 2\r\nX-Consumer-Name: a\r\nContent-Length: 0\r\n\r\n";
    let mut fields = Vec::new();
    read_on(text.as_bytes(), &mut Scan::default(), &mut fields, false).unwrap().unwrap();
    assert_eq!(
        fields.iter().map(|f| f.removed).collect::<Vec<_>>(),
        [false, true, false, false, false],
        "an upstream may send what a client may not"
    );
    refused("HTTP/1.1 200 OK\r\nConnection: Content-Length\r\nContent-Length: 0\r\n\r\n");
}

#[test]
fn bounds_hold_exactly_and_early() {
    let text = b"HTTP/1.1 200 OK\r\nX: y\r\nX: y\r\n\r\n";
    let read = |buf: &[u8], head: usize, fields: usize| {
        parse_response(buf, &Bounds { head, fields, ..Bounds::default() }, &mut Scan::default(), &mut Vec::new(), false)
            .map(|head| head.is_some())
            .map_err(|fault| fault.reason)
    };
    assert_eq!(read(text, text.len(), 2), Ok(true));
    assert_eq!(read(text, text.len() - 1, 2), Err(Reason::BadResponse));
    assert_eq!(read(text, text.len(), 1), Err(Reason::BadResponse));
    assert_eq!(read(&text[..text.len() - 2], text.len(), 1), Err(Reason::BadResponse));
    assert_eq!(read(&text[..text.len() - 2], text.len() - 2, 2), Err(Reason::BadResponse));
    assert_eq!(read(&text[..text.len() - 2], text.len(), 2), Ok(false));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(300));
    assert_eq!(read(many.as_bytes(), 1 << 16, 300), Ok(true));
    assert_eq!(read(many.as_bytes(), 1 << 16, 299), Err(Reason::BadResponse));
}

#[test]
fn split_anywhere_a_response_reads_the_same() {
    let pieces = [
        "\r\n",
        "\r\n\r\n",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.0 304\r\n",
        "HTTP/1.1 101 S\r\n",
        "\r",
        "\n",
        " ",
        "Content-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Connection: close, x-a\r\n",
        "x-a: \t\r\n",
        "Upgrade: websocket\r\nConnection: upgrade\r\n",
        ":",
        "a",
    ];
    let mut random = Random(0x1234_5678_9abc_def1);
    let mut complete = 0;
    for _ in 0..1200 {
        let mut buf = b"HTTP/1.1 204 None\r\n".to_vec();
        buf.extend_from_slice(&random.message(&pieces));
        let skip = random.below(3) * 9;
        let buf = &buf[skip.min(buf.len())..];
        let whole = parse(buf);
        complete += usize::from(matches!(whole, Ok(Some(_))));
        for place in 0..buf.len() {
            let (mut scan, mut fields) = (Scan::default(), Vec::new());
            let split = match read_on(&buf[..place], &mut scan, &mut fields, false) {
                Ok(None) => read_on(buf, &mut scan, &mut fields, false),
                done => done,
            };
            match (whole, split) {
                (Err(_), Ok(None)) => {
                    let ended = [buf, b"\r\n\r\n"].concat();
                    assert!(read_on(&ended, &mut scan, &mut fields, false).is_err(), "{}", buf.escape_ascii());
                }
                (whole, split) => assert_eq!(whole, split, "{}", buf.escape_ascii()),
            }
        }
    }
    assert!(complete > 60, "only {complete} of the messages were good");
}
