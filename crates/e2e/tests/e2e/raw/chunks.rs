//! Chunk sizes, extensions, terminators and trailers.

use daemun_e2e::case::{After, Case, case, run_cases, seen};
use daemun_e2e::lane::FORWARD_ALL;

use super::{SMUGGLED, join, post};

fn chunked(name: impl Into<String>, body: impl AsRef<[u8]>) -> Case {
    case(name, join(&[&post("Transfer-Encoding: chunked\r\n", ""), body.as_ref()]))
}

fn hello(request: &daemun_e2e::Request) -> Result<(), String> {
    if request.body == b"hello" && request.trailers.is_empty() {
        return Ok(());
    }
    Err(format!("body `{}`, trailers {:?}", request.body.escape_ascii(), request.trailers))
}

#[test]
fn a_chunk_size_that_can_be_read_in_two_ways_is_refused() {
    let sizes: &[(&str, &[u8])] = &[
        ("a plus sign", b"+5\r\n"),
        ("a minus sign", b"-5\r\n"),
        ("a prefix 0x", b"0x5\r\n"),
        ("a suffix h", b"5h\r\n"),
        ("a letter behind f", b"g\r\n"),
        ("nothing", b"\r\n"),
        ("an extension alone", b";a=b\r\n"),
        ("a space before", b" 5\r\n"),
        ("a tab before", b"\t5\r\n"),
        ("a vertical tab before", b"\x0b5\r\n"),
        ("a space within", b"0 5\r\n"),
        ("a bare LF", b"5\n"),
        ("a bare CR", b"5\r"),
        ("CR CR LF", b"5\r\r\n"),
        ("an LF before", b"\n5\r\n"),
        ("a CR LF before", b"\r\n5\r\n"),
        ("a NUL behind", b"5\0\r\n"),
        ("quotes", b"\"5\"\r\n"),
        ("a comma", b"5,5\r\n"),
        ("an underscore", b"0_5\r\n"),
        ("a point", b"5.0\r\n"),
        ("a colon", b"5: a\r\n"),
        ("a high byte", b"5\xa0\r\n"),
        ("17 digits that overflow to 5", b"10000000000000005\r\n"),
        ("33 digits that overflow to 5", b"100000000000000000000000000000005\r\n"),
        ("2^64 - 1", b"ffffffffffffffff\r\n"),
        ("2^63", b"8000000000000000\r\n"),
        ("2^64 - 1 in 17 digits", b"0ffffffffffffffff\r\n"),
        ("17 letters f", b"fffffffffffffffff\r\n"),
    ];
    let rest = format!("hello\r\n0\r\n\r\n{SMUGGLED}");
    let mut cases: Vec<_> = sizes
        .iter()
        .map(|(name, size)| chunked(*name, join(&[size, rest.as_bytes()])).refused_midway(&[400, 413]))
        .collect();
    let later = sizes.iter().map(|(name, size)| {
        let body = join(&[b"3\r\nabc\r\n", size, rest.as_bytes()]);
        chunked(format!("{name}, in the second chunk"), body).refused_midway(&[400, 413])
    });
    cases.extend(later);
    run_cases(FORWARD_ALL, cases);
}

#[test]
fn a_chunk_that_does_not_end_where_it_said_is_refused() {
    let bodies: &[(&str, &[u8])] = &[
        ("longer than its size", b"3\r\nhello\r\n0\r\n\r\n"),
        ("shorter than its size", b"7\r\nhello\r\n0\r\n\r\n"),
        ("no CR LF", b"5\r\nhello0\r\n\r\n"),
        ("a bare LF", b"5\r\nhello\n0\r\n\r\n"),
        ("a bare CR", b"5\r\nhello\r0\r\n\r\n"),
        ("LF CR", b"5\r\nhello\n\r0\r\n\r\n"),
        ("a space before CR LF", b"5\r\nhello \r\n0\r\n\r\n"),
        ("two bytes that are not CR LF", b"5\r\nhelloXX0\r\n\r\n"),
        ("CR CR LF", b"5\r\nhello\r\r\n0\r\n\r\n"),
    ];
    let cases = bodies
        .iter()
        .map(|(name, body)| chunked(*name, join(&[body, SMUGGLED.as_bytes()])).refused_midway(&[400]))
        .collect();
    run_cases(FORWARD_ALL, cases);
}

#[test]
fn a_last_chunk_that_can_be_read_in_two_ways_is_refused() {
    let bodies: &[(&str, &[u8])] = &[
        ("minus zero", b"-0\r\n\r\n"),
        ("plus zero", b"+0\r\n\r\n"),
        ("0x0", b"0x0\r\n\r\n"),
        ("a bare LF behind the zero", b"0\n\r\n"),
        ("only bare LF", b"0\n\n"),
        ("a bare LF for the empty line", b"0\r\n\n"),
        ("a bare CR for the empty line", b"0\r\n\rX"),
        ("CR CR LF for the empty line", b"0\r\n\r\r\n"),
        ("a byte that is no trailer", b"0\r\nX\r\n\r\n"),
        ("a space in the empty line", b"0\r\n \r\n\r\n"),
        ("a request where trailers stand", b"0\r\nGET /smuggled HTTP/1.1\r\nHost: e2e.test\r\n\r\n"),
    ];
    let cases = bodies
        .iter()
        .map(|(name, body)| {
            chunked(*name, join(&[b"5\r\nhello\r\n", body, SMUGGLED.as_bytes()])).refused_midway(&[400])
        })
        .collect();
    run_cases(FORWARD_ALL, cases);
}

#[test]
fn good_chunks_pass_and_are_written_anew() {
    let cases = vec![
        chunked("one chunk", b"5\r\nhello\r\n0\r\n\r\n").passes_as(hello).split_everywhere(),
        chunked("one chunk per byte", b"1\r\nh\r\n1\r\ne\r\n1\r\nl\r\n1\r\nl\r\n1\r\no\r\n0\r\n\r\n").passes_as(hello),
        chunked("an empty body", b"0\r\n\r\n")
            .passes_as(|request| if request.body.is_empty() { Ok(()) } else { Err("a body from nowhere".to_owned()) }),
        chunked("capitals", b"A\r\nhellohello\r\n0\r\n\r\n")
            .passes_as(|request| if request.body == b"hellohello" { Ok(()) } else { Err("another body".to_owned()) }),
        chunked("CR LF within the data", b"9\r\nab\r\n0\r\n\r\n\r\n0\r\n\r\n").passes_as(|request| {
            if request.body == b"ab\r\n0\r\n\r\n" { Ok(()) } else { Err("another body".to_owned()) }
        }),
        chunked("zeros before the size", b"0005\r\nhello\r\n000\r\n\r\n").passes_as(hello).refused_midway(&[400]),
        chunked("sixteen digits", b"0000000000000005\r\nhello\r\n0\r\n\r\n").passes_as(hello).refused_midway(&[400]),
        chunked("seventeen digits", b"00000000000000005\r\nhello\r\n0\r\n\r\n").passes_as(hello).refused_midway(&[400]),
        chunked("white space behind the size", b"5 \t\r\nhello\r\n0 \r\n\r\n").passes_as(hello).refused_midway(&[400]),
        chunked("an extension", b"5;a=b\r\nhello\r\n0;c\r\n\r\n")
            .passes_as(hello)
            .refused_midway(&[400])
            .split_everywhere(),
        chunked("a quoted extension", b"5;a=\"q;x\\\"\"\r\nhello\r\n0\r\n\r\n").passes_as(hello).refused_midway(&[400]),
        chunked("white space round an extension", b"5 ; a = b\r\nhello\r\n0\r\n\r\n")
            .passes_as(hello)
            .refused_midway(&[400]),
        chunked("an empty extension", b"5;\r\nhello\r\n0\r\n\r\n").passes_as(hello).refused_midway(&[400]),
        chunked("several extensions", b"5;a;b=c;d=\"e\"\r\nhello\r\n0\r\n\r\n").passes_as(hello).refused_midway(&[400]),
        chunked("a pipelined request behind it", format!("5\r\nhello\r\n0\r\n\r\n{SMUGGLED}")).answered(
            &[&[200], &[200]],
            After::Open,
            vec![seen("/t", b"hello"), seen("/smuggled", b"")],
        ),
    ];
    run_cases(FORWARD_ALL, cases);
}

#[test]
fn an_extension_can_neither_hide_a_line_end_nor_grow_without_bound() {
    let long = |count: usize| format!("5;a={}\r\nhello\r\n0\r\n\r\n", "x".repeat(count));
    let many = format!("{}0\r\n\r\n", format!("1;{}\r\nx\r\n", "y".repeat(900)).repeat(2000));
    let rest = b"\r\nhello\r\n0\r\n\r\n";
    let with = |name: &str, extension: &[u8]| {
        chunked(name, join(&[b"5", extension, rest, SMUGGLED.as_bytes()])).refused_midway(&[400])
    };
    let cases = vec![
        with("a bare LF", b";a\nb"),
        with("a bare CR", b";a\rb"),
        with("a bare LF in quotes", b";a=\"\n\""),
        with("CR LF in quotes", b";a=\"\r\n\""),
        with("a NUL", b";a=\0"),
        with("a control byte", b";a=\x01"),
        with("a DEL", b";a=\x7f"),
        chunked("20 KiB", long(20 * 1024)).refused_midway(&[400, 413, 431]),
        chunked("1 MiB", long(1024 * 1024)).refused_midway(&[400, 413, 431]),
        chunked("many that are short", many)
            .refused_midway(&[400, 413, 431])
            .passes_as(|request| if request.body.len() == 2000 { Ok(()) } else { Err("another body".to_owned()) }),
    ];
    run_cases(FORWARD_ALL, cases);
}

#[test]
fn a_body_that_breaks_off_is_never_completed() {
    let bodies: &[(&str, &[u8])] = &[
        ("before the first size", b""),
        ("within a size line", b"5"),
        ("behind a size line", b"5\r\n"),
        ("within the data", b"5\r\nhel"),
        ("behind the data", b"5\r\nhello"),
        ("behind a chunk", b"5\r\nhello\r\n"),
        ("within the last size line", b"5\r\nhello\r\n0"),
        ("behind the last size line", b"5\r\nhello\r\n0\r\n"),
        ("within a trailer", b"5\r\nhello\r\n0\r\nX-A: b"),
        ("behind a trailer", b"5\r\nhello\r\n0\r\nX-A: b\r\n"),
        ("within the empty line", b"5\r\nhello\r\n0\r\n\r"),
    ];
    let cases = bodies
        .iter()
        .map(|(name, body)| {
            let broken = chunked(*name, body).then_fin();
            broken.answered(&[], After::Closed, vec![]).allow_partial().refused_midway(&[400, 408])
        })
        .collect();
    run_cases(FORWARD_ALL, cases);
}

#[test]
fn trailers_pass_unless_they_would_change_the_message() {
    let with = |name: &str, trailers: &str| {
        chunked(name, format!("5\r\nhello\r\n0\r\n{trailers}\r\n")).refused_midway(&[400, 431])
    };
    let not = |name: &'static str| {
        move |request: &daemun_e2e::Request| {
            let twin = |own: &str| own.replace('_', "-").eq_ignore_ascii_case(&name.replace('_', "-"));
            match request.trailers.iter().find(|(own, _)| twin(own)) {
                Some(found) => Err(format!("the trailer {found:?} reached the upstream")),
                None if request.body == b"hello" => Ok(()),
                None => Err("another body".to_owned()),
            }
        }
    };
    let forbidden: &[(&str, &str)] = &[
        ("Content-Length", "50"),
        ("Transfer-Encoding", "chunked"),
        ("Host", "evil.test"),
        ("Authorization", "Basic eDp5"),
        ("Connection", "close"),
        ("Content-Encoding", "gzip"),
        ("Content-Type", "text/html"),
        ("Trailer", "X"),
        ("TE", "trailers"),
        ("Upgrade", "websocket"),
        ("X-Forwarded-For", "10.0.0.1"),
        ("Forwarded", "for=10.0.0.1"),
        ("X-Consumer-Name", "admin"),
        ("X_Consumer_Name", "admin"),
        ("x-consumer_name", "admin"),
        ("Transfer_Encoding", "chunked"),
        ("Cookie", "session=1"),
        ("Expect", "100-continue"),
    ];
    let mut cases: Vec<_> = forbidden
        .iter()
        .map(|&(name, value)| {
            with(&format!("the trailer {name}"), &format!("{name}: {value}\r\n")).passes_as(not(name))
        })
        .collect();
    cases.extend([
        chunked("a harmless trailer", "5\r\nhello\r\n0\r\nX-Checksum: abc\r\nX-Other:  d \r\n\r\n")
            .passes_as(|request| {
                let wanted = [("X-Checksum", "abc"), ("X-Other", "d")];
                let good = |(own, value): &(String, String)| {
                    wanted.iter().any(|(name, expected)| own.eq_ignore_ascii_case(name) && value == expected)
                };
                let fits = request.trailers.len() == 2 && request.trailers.iter().all(good) && request.body == b"hello";
                if fits { Ok(()) } else { Err(format!("trailers {:?}", request.trailers)) }
            })
            .split_everywhere(),
        with("without a colon", "X-Checksum\r\n"),
        with("a space before the colon", "X-Checksum : abc\r\n"),
        with("an empty name", ": abc\r\n"),
        with("folded", "X-Checksum: abc\r\n def\r\n"),
        with("behind a space", " X-Checksum: abc\r\n"),
        with("a bare LF", "X-Checksum: abc\nX-Consumer-Name: admin\r\n"),
        with("a bare CR", "X-Checksum: abc\rX-Consumer-Name: admin\r\n"),
        with("a NUL", "X-Checksum: a\0c\r\n"),
        with("a control byte in the name", "X-\u{1}: abc\r\n"),
        with("200 trailers", &(0..200).fold(String::new(), |text, at| text + &format!("X-{at}: y\r\n"))),
        with("100 KiB of trailers", &format!("X-A: {}\r\n", "y".repeat(100 * 1024))),
    ]);
    run_cases(FORWARD_ALL, cases);
}
