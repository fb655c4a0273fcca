//! Transfer-Encoding in every form that one parser takes for chunked and another does not.

use daemun_e2e::case::{After, case, run_cases, seen};
use daemun_e2e::lane::FORWARD_ALL;

use super::{SMUGGLED, get, join, post};

/// Field lines that are not one plain `chunked`.
const BAD: &[(&str, &str)] = &[
    ("chunked twice in a list", "Transfer-Encoding: chunked, chunked\r\n"),
    ("chunked in two fields", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
    ("chunked in two fields of different case", "Transfer-Encoding: chunked\r\ntransfer-encoding: chunked\r\n"),
    ("identity", "Transfer-Encoding: identity\r\n"),
    ("identity, chunked", "Transfer-Encoding: identity, chunked\r\n"),
    ("chunked, identity", "Transfer-Encoding: chunked, identity\r\n"),
    ("chunked, then identity in another field", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
    ("an unknown coding, then chunked in another field", "Transfer-Encoding: cow\r\nTransfer-Encoding: chunked\r\n"),
    ("chunked, then an unknown coding in another field", "Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n"),
    ("xchunked", "Transfer-Encoding: xchunked\r\n"),
    ("chunkedx", "Transfer-Encoding: chunkedx\r\n"),
    ("chunk", "Transfer-Encoding: chunk\r\n"),
    ("gzip", "Transfer-Encoding: gzip\r\n"),
    ("gzip, chunked", "Transfer-Encoding: gzip, chunked\r\n"),
    ("chunked, gzip", "Transfer-Encoding: chunked, gzip\r\n"),
    ("a parameter", "Transfer-Encoding: chunked;q=1\r\n"),
    ("an empty parameter", "Transfer-Encoding: chunked;\r\n"),
    ("quotes", "Transfer-Encoding: \"chunked\"\r\n"),
    ("single quotes", "Transfer-Encoding: 'chunked'\r\n"),
    ("an empty element before", "Transfer-Encoding: , chunked\r\n"),
    ("an empty element behind", "Transfer-Encoding: chunked,\r\n"),
    ("nothing", "Transfer-Encoding:\r\n"),
    ("white space only", "Transfer-Encoding: \t \r\n"),
    ("a vertical tab before", "Transfer-Encoding: \u{b}chunked\r\n"),
    ("a vertical tab behind", "Transfer-Encoding: chunked\u{b}\r\n"),
    ("a form feed before", "Transfer-Encoding:\u{c}chunked\r\n"),
    ("a NUL behind", "Transfer-Encoding: chunked\0\r\n"),
    ("a no-break space before", "Transfer-Encoding: \u{a0}chunked\r\n"),
    ("a space within", "Transfer-Encoding: chun ked\r\n"),
    ("a kelvin sign for the k", "Transfer-Encoding: chun\u{212a}ed\r\n"),
    ("a space before the colon", "Transfer-Encoding : chunked\r\n"),
    ("a tab before the colon", "Transfer-Encoding\t: chunked\r\n"),
    ("a vertical tab before the colon", "Transfer-Encoding\u{b}: chunked\r\n"),
    ("a NUL before the colon", "Transfer-Encoding\0: chunked\r\n"),
    ("a folded value", "Transfer-Encoding:\r\n chunked\r\n"),
    ("a value folded with a tab", "Transfer-Encoding:\r\n\tchunked\r\n"),
    ("a list folded", "Transfer-Encoding: chunked\r\n , identity\r\n"),
    ("folded into another field", "X-A: b\r\n Transfer-Encoding: chunked\r\n"),
    ("behind a bare CR", "X-A: b\rTransfer-Encoding: chunked\r\n"),
    ("behind a bare LF", "X-A: b\nTransfer-Encoding: chunked\r\n"),
    ("ended by a bare LF", "Transfer-Encoding: chunked\nX-A: b\r\n"),
    ("ended by a bare CR", "Transfer-Encoding: chunked\rX-A: b\r\n"),
    ("behind CR CR LF", "X-A: b\r\r\nTransfer-Encoding: chunked\r\n"),
    ("behind a lone CR at the start of its line", "X-A: b\r\n\rTransfer-Encoding: chunked\r\n"),
    ("a name without a colon", "Transfer-Encoding chunked\r\n"),
    ("a colon before the name", ": Transfer-Encoding: chunked\r\n"),
    ("an accent in the name", "Tr\u{e4}nsfer-Encoding: chunked\r\n"),
];

#[test]
fn a_coding_that_can_be_read_in_two_ways_is_refused() {
    let chunks = format!("5\r\nhello\r\n0\r\n\r\n{SMUGGLED}");
    let mut cases: Vec<_> =
        BAD.iter().map(|(name, fields)| case(*name, post(fields, &chunks)).refused(&[400, 501])).collect();
    let raw = |name: &str, fields: &[u8]| case(name, join(&[b"POST /t HTTP/1.1\r\n", fields, chunks.as_bytes()]));
    cases.extend([
        raw("as the first field behind a space", b" Transfer-Encoding: chunked\r\nHost: e2e.test\r\n\r\n")
            .refused(&[400]),
        raw("as the first field behind a tab", b"\tTransfer-Encoding: chunked\r\nHost: e2e.test\r\n\r\n")
            .refused(&[400]),
        raw("every line ended by LF", b"Host: e2e.test\nTransfer-Encoding: chunked\n\n").refused(&[400]),
        case(
            "in HTTP/1.0",
            format!("POST /t HTTP/1.0\r\nHost: e2e.test\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"),
        )
        .refused(&[400, 501]),
        case(
            "in HTTP/1.0 with keep-alive and a length",
            format!(
                "POST /t HTTP/1.0\r\nHost: e2e.test\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\
                 Transfer-Encoding: chunked\r\n\r\n{chunks}"
            ),
        )
        .refused(&[400, 501]),
    ]);
    run_cases(FORWARD_ALL, cases);
}

#[test]
fn an_underscore_twin_is_not_the_coding() {
    let cases = vec![
        case("without another framing", post("Transfer_Encoding: chunked\r\n", "0\r\n\r\n"))
            .answered(&[&[200], &[400]], After::Closed, vec![seen("/t", b"")])
            .refused(&[400]),
        case("beside a length", post("Content-Length: 5\r\nTransfer_Encoding: chunked\r\n", "0\r\n\r\n"))
            .passes_as(|request| {
                if request.body == b"0\r\n\r\n" { Ok(()) } else { Err("the body was read as chunks".to_owned()) }
            })
            .refused(&[400]),
    ];
    run_cases(FORWARD_ALL, cases);
}

#[test]
fn chunked_is_taken_in_any_case_and_white_space() {
    let fields = [
        ("plain", "Transfer-Encoding: chunked\r\n"),
        ("no space", "Transfer-Encoding:chunked\r\n"),
        ("a tab", "Transfer-Encoding:\tchunked\r\n"),
        ("white space behind", "Transfer-Encoding: chunked \t\r\n"),
        ("capitals", "TRANSFER-ENCODING: CHUNKED\r\n"),
        ("mixed case", "tRANSFER-eNCODING: ChunKed\r\n"),
        ("named by Connection", "Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n"),
    ];
    let mut cases: Vec<_> = fields
        .iter()
        .map(|(name, fields)| {
            let one = case(*name, post(fields, "5\r\nhello\r\n0\r\n\r\n")).passes_as(|request| {
                if request.body == b"hello" { Ok(()) } else { Err(format!("body `{}`", request.body.escape_ascii())) }
            });
            if name.starts_with("named") { one.refused(&[400]) } else { one }
        })
        .collect();
    let mut chunked_get = get("Transfer-Encoding: chunked\r\n");
    chunked_get.extend_from_slice(b"5\r\nhello\r\n0\r\n\r\n");
    cases.push(
        case("a GET with a chunked body", chunked_get)
            .passes_as(|request| if request.body == b"hello" { Ok(()) } else { Err("another body".to_owned()) }),
    );
    run_cases(FORWARD_ALL, cases);
}
