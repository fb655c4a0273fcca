use super::super::parse::tests::Random;
use super::*;

type Decoded = (Vec<u8>, usize, Progress, Vec<(String, String)>);

fn pairs(head: Option<&Head>) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    head.into_iter().flat_map(Head::iter).map(|(_, name, value)| (text(name), text(value))).collect()
}

/// Feeds the pieces one after the other, as a connection does: what was not used stays before the next.
fn feed(decoder: &mut ChunkDecoder, pieces: &[&[u8]], room: usize) -> Result<Decoded, Reason> {
    let (mut held, mut out, mut used) = (Vec::new(), Vec::new(), 0);
    let mut progress = Progress::More;
    for piece in pieces {
        held.extend_from_slice(piece);
        loop {
            let before = out.len();
            let (n, now) = decoder.decode(&held, &mut out, room).map_err(|fault| fault.reason)?;
            assert!(out.len() - before <= room);
            held.drain(..n);
            used += n;
            progress = now;
            if progress == Progress::Done || (n == 0 && out.len() == before) {
                break;
            }
        }
    }
    let trailers = decoder.take_trailers();
    Ok((out, used, progress, pairs(trailers.as_deref())))
}

fn decode(raw: &[u8]) -> Result<Decoded, Reason> {
    feed(&mut ChunkDecoder::new(Reason::BadRequest), &[raw], usize::MAX)
}

fn good(raw: &str) -> (Vec<u8>, Vec<(String, String)>) {
    match decode(raw.as_bytes()) {
        Ok((out, used, Progress::Done, trailers)) => {
            assert_eq!(used, raw.len(), "{raw:?}");
            (out, trailers)
        }
        other => panic!("{other:?} for {raw:?}"),
    }
}

fn refused(raw: &str) {
    assert_eq!(decode(raw.as_bytes()), Err(Reason::BadRequest), "{raw:?}");
}

#[test]
fn chunks_are_joined_and_what_follows_is_left() {
    let (out, used, progress, trailers) =
        decode(b"5\r\nhello\r\n00a\r\n, chunked!\r\nA\r\n0123456789\r\n0\r\n\r\nGET / HTTP/1.1").unwrap();
    assert_eq!(out, b"hello, chunked!0123456789");
    assert_eq!((used, progress, trailers), (47, Progress::Done, vec![]));
    for partial in [
        "",
        "5",
        "5\r",
        "5\r\n",
        "5\r\nhel",
        "5\r\nhello",
        "5\r\nhello\r",
        "5\r\nhello\r\n",
        "0",
        "0\r\n",
        "0\r\n\r",
        "0\r\nX: y\r\n",
        "0\r\nX",
    ] {
        assert_eq!(decode(partial.as_bytes()).unwrap().2, Progress::More, "{partial:?}");
    }
}

#[test]
fn a_chunk_size_is_hexadecimal_digits_and_nothing_else() {
    for raw in [
        " 5\r\nhello\r\n",
        "5 \r\nhello\r\n",
        "5\t\r\nhello\r\n",
        "+5\r\nhello\r\n",
        "-5\r\n",
        "0x5\r\nhello\r\n",
        "5h\r\n",
        "g\r\n",
        "\r\n",
        "\n",
        ";\r\n",
        ";a\r\n",
        "5,5\r\n",
        "\"5\"\r\n",
        "5\nhello\r\n",
        "5\rhello\r\n",
        "5\r\r\nhello",
        "5\0\r\n",
        "\u{665}\r\n",
        "5_0\r\n",
        "00000000000000005\r\nhello\r\n",
        "10000000000000000\r\n",
        "ffffffffffffffff0\r\n",
        "5\x0b\r\n",
        "5.\r\n",
        "\u{a0}5\r\n",
    ] {
        refused(raw);
    }
    assert_eq!(good("0000000000000005\r\nhello\r\n0000000000000000\r\n\r\n").0, b"hello");
    assert_eq!(decode(b"ffffffffffffffff\r\nabc").unwrap().0, b"abc");
    assert_eq!(decode(b"FFFFFFFFFFFFFFFF\r\nabc").unwrap().2, Progress::More);
}

#[test]
fn a_chunk_is_exactly_as_long_as_its_size() {
    for raw in [
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\rX",
        "5\r\nhello\r\r\n",
        "5\r\nhell\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "0\r\nGET / HTTP/1.1\r\n",
        "0\r\n\n",
        "0\n\n",
        "0\r\n\rX",
        "0\r\n \r\n",
    ] {
        refused(raw);
    }
}

#[test]
fn extensions_are_checked_and_dropped() {
    for extension in
        [";a", ";a=b", ";a=\"b;c\\\"d\\\\\"", ";a=\"\"", ";a=\"b\";c;d=e", ";a=\"\u{e9}\t \"", ";!#$%&'*+-.^_`|~=1"]
    {
        assert_eq!(good(&format!("5{extension}\r\nhello\r\n0{extension}\r\n\r\n")).0, b"hello");
    }
    for extension in [
        ";",
        ";;a",
        "; a",
        ";a ",
        ";a =b",
        ";a= b",
        ";a=",
        ";=b",
        ";a=b=c",
        ";a=\"b",
        ";a=\"b\"c",
        ";a=b\"c\"",
        ";a=\"b\nc\"",
        ";a=\"b\rc\"",
        ";a=\"\\\rb\"",
        ";a=\"\0\"",
        ";a\nX",
        ";a\rX",
        ";a\r",
        " ;a",
        ";a=\"\x7f\"",
        ";a=(b)",
        ";a,b",
        ";a=\"\r\nb\"",
        ";\u{e9}",
    ] {
        refused(&format!("5{extension}\r\nhello\r\n0\r\n\r\n"));
    }
}

#[test]
fn extensions_of_a_body_are_bounded_together() {
    let chunk = format!("1;{}\r\nx\r\n", "a".repeat(1023));
    assert_eq!(good(&format!("{}0\r\n\r\n", chunk.repeat(4))).0, b"xxxx");
    refused(&format!("{}1;a\r\n", chunk.repeat(4)));
    refused(&format!("1;{}", "a".repeat(4096)));
}

#[test]
fn trailer_fields_are_indexed() {
    let (_, trailers) = good("0\r\nX-Sum: \t abc \r\nEmpty:\r\ngrpc-status: 0\r\nServer-Timing: a;dur=1\r\n\r\n");
    let text: Vec<_> = trailers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(text, [("X-Sum", "abc"), ("Empty", ""), ("grpc-status", "0"), ("Server-Timing", "a;dur=1")]);
    for line in [
        "X : y",
        ": y",
        "X",
        "X y: z",
        " X: y",
        "X: y\r\n z",
        "X: \0",
        "X: a\rb",
        "X: a\nb",
        "X: \x7f",
        "\u{e9}: y",
        "GET / HTTP/1.1",
        "\tX: y",
    ] {
        refused(&format!("0\r\n{line}\r\n\r\n"));
    }
}

#[test]
fn trailer_fields_that_must_come_early_are_refused_or_left_out() {
    for name in [
        "Content-Length",
        "transfer-encoding",
        "HOST",
        "Trailer",
        "TE",
        "Connection",
        "Upgrade",
        "Keep-Alive",
        "Proxy-Authorization",
    ] {
        refused(&format!("0\r\nX: y\r\n{name}: 1\r\n\r\n"));
    }
    for name in [
        "Authorization",
        "Cookie",
        "Set-Cookie",
        "Content-Type",
        "content-encoding",
        "Content-Range",
        "X-Forwarded-For",
        "Forwarded",
        "Via",
        "X-Real-IP",
        "X-Request-Id",
        "traceparent",
        "Cache-Control",
        "Expect",
        "Location",
        "Date",
        "Vary",
        "If-Match",
        "X-Consumer-Name",
        "x_consumer_name",
        "X_Y",
        "Content_Length",
    ] {
        assert_eq!(good(&format!("0\r\n{name}: 1\r\nX: y\r\n\r\n")).1, [("X".to_owned(), "y".to_owned())], "{name}");
    }
    let raw = b"0\r\nx_y: 1\r\nX_Forwarded_For: 1\r\nx_consumer_name: 1\r\n\r\n";
    let names = |mut decoder: ChunkDecoder| {
        feed(&mut decoder, &[raw], 1).unwrap().3.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(names(ChunkDecoder::new(Reason::BadRequest).keep_underscores(true)), ["x_y"]);
    assert_eq!(
        names(ChunkDecoder::new(Reason::BadResponse)),
        ["x_y", "X_Forwarded_For", "x_consumer_name"],
        "an upstream may send them"
    );
}

#[test]
fn the_trailer_section_is_bounded() {
    let many = |n: usize| format!("0\r\n{}\r\n", "X: y\r\n".repeat(n));
    assert_eq!(good(&many(64)).1.len(), 64);
    refused(&many(65));
    assert_eq!(good(&format!("0\r\nX:{}\r\n\r\n", "y".repeat(8190))).1.len(), 1);
    refused(&format!("0\r\nX:{}", "y".repeat(8191)));
}

#[test]
fn the_reason_says_whose_body_it_is() {
    for reason in [Reason::BadRequest, Reason::BadResponse, Reason::BodyBroken] {
        let fault = ChunkDecoder::new(reason).decode(b"x", &mut Vec::new(), 1).unwrap_err();
        assert_eq!((fault.reason, fault.cause.is_some()), (reason, reason != Reason::BadRequest));
    }
}

#[test]
fn no_more_than_the_room_is_appended() {
    let mut decoder = ChunkDecoder::new(Reason::BadRequest);
    let mut out = Vec::new();
    assert_eq!(decoder.decode(b"5\r\nhello\r\n0\r\n\r\n", &mut out, 0).unwrap(), (3, Progress::More));
    assert_eq!(decoder.decode(b"hello\r\n0\r\n\r\n", &mut out, 3).unwrap(), (3, Progress::More));
    assert_eq!(decoder.decode(b"lo\r\n0\r\n\r\n", &mut out, 2).unwrap(), (9, Progress::Done));
    assert_eq!(out, b"hello");
    assert_eq!(decoder.decode(b"next", &mut out, 2).unwrap(), (0, Progress::Done));
}

#[test]
fn what_is_encoded_is_decoded() {
    let mut random = Random(99);
    for _ in 0..300 {
        let mut body = Vec::new();
        let mut raw = Vec::new();
        for _ in 0..random.below(6) {
            let chunk: Vec<u8> = (0..random.below(300) + 1).map(|_| random.below(256).to_le_bytes()[0]).collect();
            push_chunk_head(chunk.len(), &mut raw);
            raw.extend_from_slice(&chunk);
            raw.extend_from_slice(b"\r\n");
            body.extend_from_slice(&chunk);
        }
        let mut trailers = Head::default();
        for n in 0..random.below(4) {
            trailers.append(&format!("x-{n}"), b"some value");
        }
        push_last_chunk(Some(&trailers), &mut raw);
        let (at, room) = (random.below(raw.len()), random.below(50) + 1);
        let decoded = feed(&mut ChunkDecoder::new(Reason::BadResponse), &[&raw[..at], &raw[at..]], room);
        assert_eq!(decoded, Ok((body, raw.len(), Progress::Done, pairs(Some(&trailers)))));
    }
    for (len, text) in
        [(1, "1\r\n"), (15, "f\r\n"), (16, "10\r\n"), (65_536, "10000\r\n"), (usize::MAX, "ffffffffffffffff\r\n")]
    {
        let mut out = Vec::new();
        push_chunk_head(len, &mut out);
        assert_eq!(out, text.as_bytes());
    }
    let mut out = Vec::new();
    push_last_chunk(None, &mut out);
    assert_eq!(out, b"0\r\n\r\n");
}

#[test]
fn split_anywhere_a_body_decodes_the_same() {
    let pieces = [
        "5\r\nhello\r\n",
        "5\r\nhello\r\n",
        "3;a=\"b\"\r\nabc\r\n",
        "0\r\n",
        "0\r\n\r\n",
        "X: y\r\n",
        "x_y:\r\n",
        "\r\n",
        "\r",
        "\n",
        "1",
        "a",
        ";",
        "00",
        "Content-Length: 1\r\n",
    ];
    let mut random = Random(0xdead_beef);
    let mut complete = 0;
    for _ in 0..1000 {
        let raw = random.message(&pieces);
        let whole = decode(&raw);
        complete += usize::from(matches!(whole, Ok((_, _, Progress::Done, _))));
        let again = |pieces: &[&[u8]], room| {
            let split = feed(&mut ChunkDecoder::new(Reason::BadRequest), pieces, room);
            assert_eq!(whole, split, "{}", raw.escape_ascii());
        };
        for at in 0..=raw.len() {
            again(&[&raw[..at], &raw[at..]], usize::MAX);
            again(&[&raw[..at], &raw[at..]], 1);
        }
        again(&raw.chunks(1).collect::<Vec<_>>(), 2);
    }
    assert!(complete > 50, "only {complete} of the bodies were good");
}

#[test]
fn arbitrary_bytes_are_decoded_or_refused() {
    let mut random = Random(3);
    for _ in 0..2000 {
        let raw: Vec<u8> = (0..random.below(40)).map(|_| random.below(256).to_le_bytes()[0]).collect();
        let whole = decode(&raw);
        let split = feed(&mut ChunkDecoder::new(Reason::BadRequest), &raw.chunks(1).collect::<Vec<_>>(), 1);
        assert_eq!(whole, split);
    }
}
