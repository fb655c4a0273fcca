//! Several requests on one connection, good and refused.

use daemun_e2e::case::{After, Check, case, run_cases, seen};
use daemun_e2e::lane::FORWARD_ALL;

use super::SMUGGLED;

const A: &str = "GET /a HTTP/1.1\r\nHost: e2e.test\r\n\r\n";
const B: &str = "POST /b HTTP/1.1\r\nHost: e2e.test\r\nContent-Length: 5\r\n\r\nhello";
const C: &str = "POST /c HTTP/1.1\r\nHost: e2e.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
const BAD: &str = "GET /bad HTTP/1.1\r\nHost: e2e.test\r\nX A: b\r\n\r\n";

#[test]
fn pipelined_requests_are_answered_in_order() {
    let good: &[u16] = &[200];
    let (a, b, c) = (|| seen("/a", b""), || seen("/b", b"hello"), || seen("/c", b"hello"));
    let hundred: Vec<Check> = (0..100).map(|_| a()).collect();
    let hundred_answers = vec![good; 100];
    let cases = vec![
        case("two", format!("{A}{B}")).answered(&[good; 2], After::Open, vec![a(), b()]).split_everywhere(),
        case("three", format!("{A}{B}{C}")).answered(&[good; 3], After::Open, vec![a(), b(), c()]),
        case("bodies first", format!("{C}{B}{A}"))
            .answered(&[good; 3], After::Open, vec![c(), b(), a()])
            .split_everywhere(),
        case("a hundred", A.repeat(100)).answered(&hundred_answers, After::Open, hundred),
        case("a request in a body", {
            let length = SMUGGLED.len();
            format!("POST /t HTTP/1.1\r\nHost: e2e.test\r\nContent-Length: {length}\r\n\r\n{SMUGGLED}{A}")
        })
        .answered(&[good; 2], After::Open, vec![seen("/t", SMUGGLED.as_bytes()), a()]),
        case("a request in a chunk", {
            let chunk = format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len());
            format!("POST /t HTTP/1.1\r\nHost: e2e.test\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{A}")
        })
        .answered(&[good; 2], After::Open, vec![seen("/t", SMUGGLED.as_bytes()), a()]),
    ];
    run_cases(FORWARD_ALL, cases);
}

#[test]
fn nothing_behind_a_refused_request_is_forwarded() {
    let (a, b) = (|| seen("/a", b""), || seen("/b", b"hello"));
    let both = format!(
        "{A}POST /x HTTP/1.1\r\nHost: e2e.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{A}"
    );
    let cases = vec![
        case("good, refused, good", format!("{A}{BAD}{A}"))
            .answered(&[&[200], &[400]], After::Closed, vec![a()])
            .split_everywhere(),
        case("refused, good", format!("{BAD}{A}")).refused(&[400]),
        case("refused, then good in a later write", BAD).then(A).refused(&[400]),
        case("a body, refused, good", format!("{B}{BAD}{A}")).answered(&[&[200], &[400]], After::Closed, vec![b()]),
        case("good, both framings, good", both).answered(&[&[200], &[400]], After::Closed, vec![a()]),
        case("good, another version, good", format!("{A}GET /x HTTP/3.0\r\nHost: e2e.test\r\n\r\n{A}")).answered(
            &[&[200], &[400, 505]],
            After::Closed,
            vec![a()],
        ),
        case("good, garbage", format!("{A}\u{1}\u{2}\u{3}\r\n\r\n{A}")).answered(
            &[&[200], &[400]],
            After::Closed,
            vec![a()],
        ),
        case(
            "good, refused length, good",
            format!("{A}POST /x HTTP/1.1\r\nHost: e2e.test\r\nContent-Length: +5\r\n\r\nhello{A}"),
        )
        .answered(&[&[200], &[400]], After::Closed, vec![a()]),
        case("good, then the client leaves within a head", format!("{A}GET /x HTTP/1.1\r\nHost: e2e"))
            .then_fin()
            .answered(&[&[200]], After::Closed, vec![a()])
            .answered(&[&[200], &[400, 408]], After::Closed, vec![a()]),
    ];
    run_cases(FORWARD_ALL, cases);
}

/// A client that closes its sending side may have left for good, so its call may be cancelled; but it never gets half an answer,
/// and what it did not finish is never forwarded.
#[test]
fn a_client_that_stops_sending_gets_whole_answers_or_none() {
    let (a, b) = (|| seen("/a", b""), || seen("/b", b"hello"));
    let cases = vec![
        case("one", A)
            .then_fin()
            .answered(&[&[200]], After::Closed, vec![a()])
            .answered(&[&[200]], After::Closed, vec![a(), b()])
            .answered(&[], After::Closed, vec![a()])
            .answered(&[], After::Closed, vec![])
            .allow_partial(),
        case("two", format!("{A}{B}"))
            .then_fin()
            .answered(&[&[200], &[200]], After::Closed, vec![a(), b()])
            .answered(&[&[200]], After::Closed, vec![a()])
            .answered(&[&[200]], After::Closed, vec![a(), b()])
            .answered(&[], After::Closed, vec![a()])
            .answered(&[], After::Closed, vec![])
            .allow_partial(),
        case("none", "").then_fin().answered(&[], After::Closed, vec![]),
        case("an empty line", "\r\n").then_fin().answered(&[], After::Closed, vec![]).refused(&[400]),
        case("half a request line", "GET /t HT").then_fin().answered(&[], After::Closed, vec![]).refused(&[400, 408]),
    ];
    run_cases(FORWARD_ALL, cases);
}
