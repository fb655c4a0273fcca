//! Request lines: their spaces, methods and versions.

use daemun_e2e::case::{After, Case, anything, case, run_cases, seen};
use daemun_e2e::lane::FORWARD_ALL;

use super::{SMUGGLED, join};

fn line(name: impl Into<String>, line: impl AsRef<[u8]>) -> Case {
    case(name, join(&[line.as_ref(), b"\r\nHost: e2e.test\r\n\r\n", SMUGGLED.as_bytes()]))
}

#[test]
fn a_request_line_that_can_be_read_in_two_ways_is_refused() {
    let lines: &[(&str, &[u8])] = &[
        ("two spaces before the target", b"GET  /t HTTP/1.1"),
        ("two spaces behind the target", b"GET /t  HTTP/1.1"),
        ("a tab before the target", b"GET\t/t HTTP/1.1"),
        ("a tab behind the target", b"GET /t\tHTTP/1.1"),
        ("a vertical tab for a space", b"GET\x0b/t HTTP/1.1"),
        ("a form feed for a space", b"GET /t\x0cHTTP/1.1"),
        ("a NUL for a space", b"GET\0/t HTTP/1.1"),
        ("a CR for a space", b"GET\r/t HTTP/1.1"),
        ("a space before the method", b" GET /t HTTP/1.1"),
        ("a tab before the method", b"\tGET /t HTTP/1.1"),
        ("a space behind the version", b"GET /t HTTP/1.1 "),
        ("a tab behind the version", b"GET /t HTTP/1.1\t"),
        ("a word behind the version", b"GET /t HTTP/1.1 x"),
        ("a second request line within", b"GET /t HTTP/1.1 GET /smuggled HTTP/1.1"),
        ("a space in the target", b"GET /t /x HTTP/1.1"),
        ("no version", b"GET /t"),
        ("no version, a space behind", b"GET /t "),
        ("no target", b"GET HTTP/1.1"),
        ("no method", b"/t HTTP/1.1"),
        ("no method, a space", b" /t HTTP/1.1"),
        ("the method alone", b"GET"),
        ("garbage", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        ("a NUL in the method", b"G\0T /t HTTP/1.1"),
        ("a space in the method", b"GE T /t HTTP/1.1"),
        ("a parenthesis in the method", b"GE(T /t HTTP/1.1"),
        ("a colon in the method", b"GET: /t HTTP/1.1"),
        ("a high byte in the method", b"G\xc9T /t HTTP/1.1"),
        ("a bare CR in the method", b"G\rET /t HTTP/1.1"),
        ("a slash in the method", b"GET/ /t HTTP/1.1"),
    ];
    let cases = lines.iter().map(|(name, bytes)| line(*name, bytes).refused(&[400, 405, 501, 505])).collect();
    run_cases(FORWARD_ALL, cases);
}

#[test]
fn a_version_other_than_1_0_and_1_1_is_refused() {
    let versions: &[&[u8]] = &[
        b"HTTP/0.9",
        b"HTTP/1.2",
        b"HTTP/1.9",
        b"HTTP/2.0",
        b"HTTP/2",
        b"HTTP/3.0",
        b"HTTP/9.9",
        b"HTTP/1.10",
        b"HTTP/1.01",
        b"HTTP/01.1",
        b"HTTP/11",
        b"HTTP/1",
        b"HTTP/1.",
        b"HTTP/.1",
        b"HTTP/1.1x",
        b"HTTP/1.1.1",
        b"HTTP/1,1",
        b"HTTP/-1.1",
        b"HTTP/+1.1",
        b"HTTP/ 1.1",
        b"HTTP /1.1",
        b"HTTP//1.1",
        b"HTTP/1.x",
        b"HTTP/a.b",
        b"http/1.1",
        b"Http/1.1",
        b"HTTP1.1",
        b"HTTPS/1.1",
        b"HTTQ/1.1",
        b"ICAP/1.0",
        b"RTSP/1.0",
        b"HTTP/1.1\0",
        b"HTTP/\xef\xbc\x91.1",
    ];
    let cases = versions
        .iter()
        .map(|version| {
            let bytes = join(&[b"GET /t ", version]);
            line(format!("the version {}", version.escape_ascii()), bytes).refused(&[400, 505])
        })
        .collect();
    run_cases(FORWARD_ALL, cases);
}

#[test]
fn empty_lines_before_a_request_are_no_request() {
    let good = "GET /t HTTP/1.1\r\nHost: e2e.test\r\n\r\n";
    let cases = vec![
        case("one CR LF", format!("\r\n{good}")).passes().split_everywhere(),
        case("two CR LF", format!("\r\n\r\n{good}")).passes().refused(&[400]),
        case("an LF", format!("\n{good}")).passes().refused(&[400]),
        case("a CR", format!("\r{good}")).refused(&[400]),
        case("CR LF and a space", format!("\r\n {good}")).refused(&[400]),
        case("a space and CR LF", format!(" \r\n{good}")).refused(&[400]),
        case("a NUL", format!("\0{good}")).refused(&[400]),
        case("a byte-order mark", format!("\u{feff}{good}")).refused(&[400]),
        case("between two requests", format!("{good}\r\n{good}")).answered(
            &[&[200], &[200]],
            After::Open,
            vec![seen("/t", b""), seen("/t", b"")],
        ),
        case("100,000 of them", format!("{}{good}", "\r\n".repeat(100_000))).passes().refused(&[400, 431]),
    ];
    run_cases(FORWARD_ALL, cases);
}

#[test]
fn methods_are_passed_as_they_are_or_refused() {
    let plain = |method: &'static str| {
        move |request: &daemun_e2e::Request| {
            if request.method == method { Ok(()) } else { Err(format!("method `{}`", request.method)) }
        }
    };
    let one =
        |method: &str| case(format!("the method {method}"), format!("{method} /t HTTP/1.1\r\nHost: e2e.test\r\n\r\n"));
    let long = "M".repeat(2000);
    let cases = vec![
        one("GET").passes_as(plain("GET")).split_everywhere(),
        one("HEAD").passes_as(plain("HEAD")),
        one("DELETE").passes_as(plain("DELETE")),
        one("OPTIONS").passes_as(plain("OPTIONS")),
        one("PATCH").passes_as(plain("PATCH")),
        one("PROPFIND").passes_as(plain("PROPFIND")),
        one("M-SEARCH").passes_as(plain("M-SEARCH")),
        one("get").passes_as(plain("get")).refused(&[400, 405, 501]).answered(&[&[405, 501]], After::Open, vec![]),
        one("Get").passes_as(plain("Get")).refused(&[400, 405, 501]).answered(&[&[405, 501]], After::Open, vec![]),
        one("!#$%&'*+-.^|~").passes_as(plain("!#$%&'*+-.^|~")).refused(&[400, 405, 501]),
        one("TRACE").passes_as(plain("TRACE")).refused(&[400, 405, 501]).answered(&[&[405, 501]], After::Open, vec![]),
        one(&long).refused(&[400, 405, 414, 431, 501]).answered(&[&[200]], After::Open, vec![anything()]),
    ];
    run_cases(FORWARD_ALL, cases);
}

#[test]
fn a_tunnel_is_never_opened_by_connect() {
    let refusals = &[400, 404, 405, 501];
    let connect = |name: &str, text: &str| {
        case(name, text).answered(&[refusals], After::Closed, vec![]).answered(&[refusals], After::Any, vec![])
    };
    let cases =
        vec![
            connect("an authority", "CONNECT e2e.test:443 HTTP/1.1\r\nHost: e2e.test:443\r\n\r\n"),
            connect("an authority and another host", "CONNECT 10.0.0.1:22 HTTP/1.1\r\nHost: e2e.test\r\n\r\n"),
            connect("a path", "CONNECT /t HTTP/1.1\r\nHost: e2e.test\r\n\r\n"),
            connect("an absolute target", "CONNECT http://e2e.test/ HTTP/1.1\r\nHost: e2e.test\r\n\r\n"),
            connect("a length", "CONNECT e2e.test:443 HTTP/1.1\r\nHost: e2e.test:443\r\nContent-Length: 0\r\n\r\n"),
            case("HTTP/2's preface cut short", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n")
                .refused(&[400, 405, 501, 505])
                .answered(&[], After::Closed, vec![]),
        ];
    run_cases(FORWARD_ALL, cases);
}
