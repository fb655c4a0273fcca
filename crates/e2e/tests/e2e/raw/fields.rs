//! Field lines: names, colons, control bytes, folding, line ends.

use daemun_e2e::case::{Case, case, run_cases};
use daemun_e2e::lane::FORWARD_ALL;

use super::{SMUGGLED, get, join};

fn field(name: impl Into<String>, line: impl AsRef<[u8]>) -> Case {
    case(name, join(&[&get(join(&[line.as_ref(), b"\r\n"])), SMUGGLED.as_bytes()]))
}

#[test]
fn a_line_that_is_no_field_is_refused() {
    let lines: &[(&str, &[u8])] = &[
        ("no colon", b"X-A"),
        ("no colon, with spaces", b"X A b"),
        ("an empty name", b": b"),
        ("a colon alone", b":"),
        ("a space before the colon", b"X-A : b"),
        ("a tab before the colon", b"X-A\t: b"),
        ("a space within the name", b"X A: b"),
        ("a space before the name", b" X-A: b"),
        ("a tab before the name", b"\tX-A: b"),
        ("folded with a space", b"X-A: b\r\n c"),
        ("folded with a tab", b"X-A: b\r\n\tc"),
        ("folded at once", b"X-A:\r\n b"),
        ("folded into an empty line", b"X-A: b\r\n \r\nX-B: c"),
        ("a bare CR in the value", b"X-A: b\rc"),
        ("a bare CR that begins a field", b"X-A: b\rX-B: c"),
        ("a bare CR at the end of the value", b"X-A: b\r"),
        ("a bare CR in the name", b"X-\rA: b"),
        ("a bare CR before the name", b"\rX-A: b"),
        ("a bare LF in the value", b"X-A: b\nX-B: c"),
        ("a bare LF before the name", b"\nX-A: b"),
        ("a bare LF at the end of the value", b"X-A: b\n"),
        ("an empty line of LF", b"X-A: b\n\nGET /smuggled HTTP/1.1"),
        ("an empty line of CR CR LF", b"X-A: b\r\n\r"),
        ("a request line", b"GET /smuggled HTTP/1.1"),
        ("a status line", b"HTTP/1.1 200 OK"),
    ];
    let cases = lines.iter().map(|(name, line)| field(*name, line).refused(&[400])).collect();
    run_cases(FORWARD_ALL, cases);
}

#[test]
fn a_name_is_a_token() {
    let bad = (0_u8..=255).filter(|&byte| !daemun_e2e::message::is_token(byte) && byte != b':');
    let cases = bad
        .map(|byte| {
            let line = join(&[b"X-", &[byte], b"A: b"]);
            field(format!("the byte {byte:#04x} in a name"), line).refused(&[400])
        })
        .collect();
    run_cases(FORWARD_ALL, cases);
}

#[test]
fn a_value_holds_no_control_byte() {
    let controls = (0_u8..32).chain([127]).filter(|byte| *byte != b'\t');
    let cases = controls
        .map(|byte| {
            let line = join(&[b"X-A: b", &[byte], b"c"]);
            field(format!("the byte {byte:#04x} in a value"), line).refused(&[400])
        })
        .collect();
    run_cases(FORWARD_ALL, cases);
}

#[test]
fn line_ends_are_cr_lf_and_nothing_else() {
    let heads: &[(&str, &[u8])] = &[
        ("LF everywhere", b"GET /t HTTP/1.1\nHost: e2e.test\n\n"),
        ("LF behind the request line", b"GET /t HTTP/1.1\nHost: e2e.test\r\n\r\n"),
        ("LF behind a field", b"GET /t HTTP/1.1\r\nHost: e2e.test\n\r\n"),
        ("LF for the empty line", b"GET /t HTTP/1.1\r\nHost: e2e.test\r\n\n"),
        ("LF LF at the end", b"GET /t HTTP/1.1\r\nHost: e2e.test\n\n"),
        ("LF CR LF at the end", b"GET /t HTTP/1.1\r\nHost: e2e.test\n\r\n"),
        ("CR CR LF at the end", b"GET /t HTTP/1.1\r\nHost: e2e.test\r\n\r\r\n"),
        ("CR everywhere", b"GET /t HTTP/1.1\rHost: e2e.test\r\r"),
        ("LF CR everywhere", b"GET /t HTTP/1.1\n\rHost: e2e.test\n\r\n\r"),
        ("CR CR LF behind the request line", b"GET /t HTTP/1.1\r\r\nHost: e2e.test\r\n\r\n"),
    ];
    let cases = heads
        .iter()
        .map(|(name, head)| case(*name, join(&[head, b"\r\n", SMUGGLED.as_bytes()])).refused(&[400]))
        .collect();
    run_cases(FORWARD_ALL, cases);
}

#[test]
fn odd_but_good_fields_pass_unchanged() {
    let with = |name: &'static str, value: &'static str| {
        move |request: &daemun_e2e::Request| match request.field(name) {
            Some(found) if found == value => Ok(()),
            other => Err(format!("{name} is {other:?}")),
        }
    };
    let one = |name: &str, line: &str| case(name, get(format!("{line}\r\n")));
    let cases = vec![
        one("a colon in the value", "X-A: b: c:d").passes_as(with("x-a", "b: c:d")),
        one("two colons", "X-A:: b").passes_as(with("x-a", ": b")),
        one("an empty value", "X-A:").passes_as(with("x-a", "")),
        one("white space for a value", "X-A: \t ").passes_as(with("x-a", "")),
        one("white space within the value", "X-A:  b \t c \t").passes_as(with("x-a", "b \t c")),
        one("every token byte in the name", "X!#$%&'*+-.^`|~9: b").passes_as(with("x!#$%&'*+-.^`|~9", "b")),
        one("quotes and backslashes", "X-A: \"b\\\"c\"").passes_as(with("x-a", "\"b\\\"c\"")),
        case("bytes over 127 in the value", get(b"X-A: b\xc3\xa4\xff\r\n"))
            .passes_as(with("x-a", "b\u{c3}\u{a4}\u{ff}"))
            .refused(&[400]),
        one("the same field twice", "X-A: b\r\nX-A: c").passes_as(|request| {
            let values: Vec<&str> = request.head.all("x-a").flat_map(|value| value.split(", ")).collect();
            if values == ["b", "c"] { Ok(()) } else { Err(format!("x-a is {values:?}")) }
        }),
        case("split anywhere", get("X-A: b\r\nX-B: c\r\n")).passes_as(with("x-b", "c")).split_everywhere(),
    ];
    run_cases(FORWARD_ALL, cases);
}
