//! Content-Length in every form that two parsers might read differently.

use daemun_e2e::case::{After, anything, case, run_cases, seen};
use daemun_e2e::lane::FORWARD_ALL;

use super::{SMUGGLED, get, post};

/// Values that are not a length; each must refuse the message.
const BAD_VALUES: &[(&str, &str)] = &[
    ("a plus sign", "+5"),
    ("a minus sign", "-5"),
    ("minus zero", "-0"),
    ("hexadecimal", "0x5"),
    ("octal with a letter", "0o5"),
    ("a letter behind", "5a"),
    ("a letter before", "a5"),
    ("two numbers with a space", "5 5"),
    ("a fraction", "5.0"),
    ("an exponent", "5e0"),
    ("quotes", "\"5\""),
    ("single quotes", "'5'"),
    ("a parameter", "5;a=b"),
    ("a list of the same", "5, 5"),
    ("a list of different ones", "5, 6"),
    ("a list of the same without a space", "5,5"),
    ("a list with an empty end", "5,"),
    ("a list with an empty start", ",5"),
    ("nothing", ""),
    ("white space only", "  \t "),
    ("an underscore", "1_0"),
    ("a grouping point", "1.000"),
    ("arabic digits", "\u{0665}"),
    ("full-width digits", "\u{ff15}"),
    ("a no-break space before", "\u{a0}5"),
    ("a vertical tab before", "\u{b}5"),
    ("a form feed behind", "5\u{c}"),
    ("a NUL behind", "5\0"),
    ("a NUL within", "5\x005"),
    ("words", "five"),
    ("2^63 + 5", "9223372036854775813"),
    ("2^64 - 1", "18446744073709551615"),
    ("2^64", "18446744073709551616"),
    ("2^64 + 5", "18446744073709551621"),
    ("2^128 + 5", "340282366920938463463374607431768211461"),
    (
        "a hundred digits",
        "9999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999",
    ),
];

#[test]
fn a_length_that_can_be_read_in_two_ways_is_refused() {
    let mut cases: Vec<_> = BAD_VALUES
        .iter()
        .map(|(name, value)| {
            let bytes = post(&format!("Content-Length: {value}\r\n"), &format!("hello{SMUGGLED}"));
            case(format!("a length with {name}"), bytes).refused(&[400, 413])
        })
        .collect();
    let body = format!("hello{SMUGGLED}");
    let both = |name: &str, fields: &str| case(name, post(fields, &body)).refused(&[400]);
    cases.extend([
        both("two equal lengths", "Content-Length: 5\r\nContent-Length: 5\r\n"),
        both("two lengths, the first larger", "Content-Length: 50\r\nContent-Length: 5\r\n"),
        both("two lengths, the first smaller", "Content-Length: 5\r\nContent-Length: 50\r\n"),
        both("two lengths, the first 0", "Content-Length: 0\r\nContent-Length: 5\r\n"),
        both("two lengths in different cases", "Content-Length: 5\r\ncontent-length: 50\r\n"),
        both("two lengths far apart", "Content-Length: 5\r\nX-A: 1\r\nX-B: 2\r\nCONTENT-LENGTH: 6\r\n"),
        both("a good and an empty length", "Content-Length: 5\r\nContent-Length:\r\n"),
        both("three lengths", "Content-Length: 5\r\nContent-Length: 5\r\nContent-Length: 5\r\n"),
        both("a space before the colon", "Content-Length : 5\r\n"),
        both("a tab before the colon", "Content-Length\t: 5\r\n"),
        both("a NUL before the colon", "Content-Length\0: 5\r\n"),
        both("a vertical tab before the colon", "Content-Length\u{b}: 5\r\n"),
        both("a form feed in the name", "Content\u{c}Length: 5\r\n"),
        both("a folded value", "Content-Length:\r\n 5\r\n"),
        both("a value folded in its middle", "Content-Length: 5\r\n 0\r\n"),
        both("a value folded with a tab", "Content-Length: 5\r\n\t0\r\n"),
        both("a space before the name", "X-A: b\r\n Content-Length: 5\r\n"),
        both("a bare CR before the value", "Content-Length:\r5\r\n"),
        both("a bare CR behind the value", "Content-Length: 5\r\r\n"),
        both("a bare LF behind the value", "Content-Length: 5\nX-A: b\r\n"),
    ]);
    run_cases(FORWARD_ALL, cases);
}

#[test]
fn both_framings_at_once_are_refused() {
    let chunks = format!("0\r\n\r\n{SMUGGLED}");
    let pairs = [
        ("length, then coding", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        ("coding, then length", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
        ("length 0 and coding", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"),
        ("a bad length and coding", "Content-Length: x\r\nTransfer-Encoding: chunked\r\n"),
        ("an empty length and coding", "Content-Length: \r\nTransfer-Encoding: chunked\r\n"),
        ("length and a bad coding", "Content-Length: 5\r\nTransfer-Encoding: xchunked\r\n"),
        ("length and an empty coding", "Content-Length: 5\r\nTransfer-Encoding:\r\n"),
        ("length and identity", "Content-Length: 5\r\nTransfer-Encoding: identity\r\n"),
        ("two lengths and coding", "Content-Length: 5\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        ("length and the coding in capitals", "Content-Length: 5\r\nTRANSFER-ENCODING: CHUNKED\r\n"),
        (
            "length, and Connection names the coding",
            "Connection: transfer-encoding\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        ),
        (
            "length, and Connection names the length",
            "Connection: content-length\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        ),
    ];
    let cases = pairs.map(|(name, fields)| case(name, post(fields, &chunks)).refused(&[400, 501]));
    let get = case("both on a GET", get("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n")).refused(&[400]);
    run_cases(FORWARD_ALL, cases.into_iter().chain([get]).collect());
}

#[test]
fn a_good_length_is_taken_by_its_value() {
    let one = |request: &daemun_e2e::Request| match request.field("content-length") {
        Some("5") if request.body == b"hello" => Ok(()),
        other => Err(format!("content-length {other:?}, body `{}`", request.body.escape_ascii())),
    };
    let bodiless = |request: &daemun_e2e::Request| {
        if request.body.is_empty() && request.field("content-length").is_none_or(|length| length == "0") {
            return Ok(());
        }
        Err("a body from nowhere".to_owned())
    };
    let cases = vec![
        case("plain", post("Content-Length: 5\r\n", "hello")).passes_as(one).split_everywhere(),
        case("no space behind the colon", post("Content-Length:5\r\n", "hello")).passes_as(one),
        case("tabs and spaces round it", post("Content-Length: \t 5 \t \r\n", "hello")).passes_as(one),
        case("name in capitals", post("CONTENT-LENGTH: 5\r\n", "hello")).passes_as(one),
        case("zeros before", post("Content-Length: 0005\r\n", "hello")).passes_as(one).refused(&[400]),
        case("many zeros before", post(&format!("Content-Length: {}5\r\n", "0".repeat(60)), "hello"))
            .passes_as(one)
            .refused(&[400]),
        case("a GET with a body", get("Content-Length: 0\r\n")).passes_as(bodiless),
        case("a GET with five bytes", {
            let mut bytes = get("Content-Length: 5\r\n");
            bytes.extend_from_slice(b"hello");
            bytes
        })
        .passes_as(one),
        case("a POST without a length", post("", "")).passes_as(bodiless),
        case("a POST of nothing", post("Content-Length: 0\r\n", "")).passes_as(bodiless),
        case("what follows the body is the next request", post("Content-Length: 5\r\n", &format!("hello{SMUGGLED}")))
            .answered(&[&[200], &[200]], After::Open, vec![seen("/t", b"hello"), seen("/smuggled", b"")]),
        case("what follows the body is garbage", post("Content-Length: 5\r\n", "helloworld\r\n\r\n")).answered(
            &[&[200], &[400]],
            After::Closed,
            vec![seen("/t", b"hello")],
        ),
        case("an underscore twin is no length", post("Content_Length: 5\r\n", "hello\r\n\r\n"))
            .answered(&[&[200], &[400]], After::Closed, vec![seen("/t", b"")])
            .refused(&[400]),
        case("the client leaves before the end", post("Content-Length: 50\r\n", "hello"))
            .then_fin()
            .answered(&[], After::Closed, vec![])
            .allow_partial()
            .refused_midway(&[400, 408]),
        case("the client leaves before the first byte", post("Content-Length: 50\r\n", ""))
            .then_fin()
            .answered(&[], After::Closed, vec![])
            .allow_partial()
            .refused_midway(&[400, 408]),
        case("a HEAD with a body", b"HEAD /t HTTP/1.1\r\nHost: e2e.test\r\nContent-Length: 5\r\n\r\nhello").answered(
            &[&[200]],
            After::Any,
            vec![anything()],
        ),
    ];
    run_cases(FORWARD_ALL, cases);
}
