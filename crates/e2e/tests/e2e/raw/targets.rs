//! Request targets: one reading of each, and what was matched is what is forwarded.

use daemun_e2e::case::{After, Case, case, run_cases};
use daemun_e2e::lane::FORWARD_ALL;

use super::{SMUGGLED, join};

fn target(name: impl Into<String>, target: impl AsRef<[u8]>) -> Case {
    let head: &[u8] = b" HTTP/1.1\r\nHost: e2e.test\r\n\r\n";
    case(name, join(&[b"GET ", target.as_ref(), head]))
}

#[test]
fn a_target_holds_no_byte_that_must_be_encoded() {
    let bad = (0_u8..=32).chain([127]);
    let cases = bad
        .map(|byte| {
            let head = join(&[b"GET /a", &[byte], b"b HTTP/1.1\r\nHost: e2e.test\r\n\r\n", SMUGGLED.as_bytes()]);
            case(format!("the byte {byte:#04x} in a target"), head).refused(&[400, 505])
        })
        .collect();
    run_cases(FORWARD_ALL, cases);
}

#[test]
fn a_target_of_no_known_form_is_refused() {
    let targets: &[(&str, &[u8])] = &[
        ("no slash", b"t"),
        ("a query alone", b"?x"),
        ("an asterisk on a GET", b"*"),
        ("an asterisk and more", b"*/t"),
        ("a point", b"."),
        ("a fragment alone", b"#x"),
        ("an authority on a GET", b"e2e.test:80"),
        ("a backslash", b"\\t"),
        ("a backslash within", b"/a\\b"),
        ("an encoded NUL", b"/a%00b"),
        ("an encoded backslash", b"/a%5Cb"),
        ("an encoded backslash in lower case", b"/a%5cb"),
        ("an encoded slash", b"/a%2Fb"),
        ("an encoded slash in lower case", b"/a%2fb"),
        ("a dot segment by an encoded slash", b"/a/..%2fb"),
        ("a per cent sign alone", b"/a%"),
        ("a per cent sign and one digit", b"/a%4"),
        ("a per cent sign and no digits", b"/a%zzb"),
        ("a per cent sign and unicode digits", b"/a%u0041"),
        ("a parent segment with parameters", b"/a/..;x=1/b"),
        ("a dot segment with parameters", b"/a/.;x/b"),
        ("an empty segment with parameters", b"/a/;x/b"),
        ("an encoded parent segment with parameters", b"/a/%2e%2e;x/b"),
    ];
    let cases = targets
        .iter()
        .map(|(name, bytes)| target(*name, bytes).refused(&[400]).answered(&[&[400]], After::Any, vec![]))
        .collect();
    run_cases(FORWARD_ALL, cases);
}

#[test]
fn a_path_is_read_one_way_and_forwarded_as_read() {
    let pairs: &[(&str, &str)] = &[
        ("/", "/"),
        ("/t", "/t"),
        ("/t/", "/t/"),
        ("//t", "/t"),
        ("/a//b///c", "/a/b/c"),
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/b/../../c", "/c"),
        ("/a/.", "/a/"),
        ("/a/b/..", "/a/"),
        ("/a/%2e/b", "/a/b"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/.%2e/b", "/b"),
        ("/a//../b", "/b"),
        ("/%41%7a%30%2d%5f%7E", "/Az0-_~"),
        ("/%c3%a9", "/%C3%A9"),
        ("/a%3fb", "/a%3Fb"),
        ("/a%23b", "/a%23b"),
        ("/a%25b", "/a%25b"),
        ("/a%252Fb", "/a%252Fb"),
        ("/a%20b", "/a%20b"),
        ("/a;x=1/b", "/a;x=1/b"),
        ("/a;/b", "/a;/b"),
        ("/...", "/..."),
        ("/..a/.b", "/..a/.b"),
        ("/a+b@c:d,e=f!g$h&i'j(k)l*m", "/a+b@c:d,e=f!g$h&i'j(k)l*m"),
        ("/a?", "/a?"),
        ("/a?x=/../..//%2F%2e", "/a?x=/../..//%2F%2e"),
        ("/a?x=1&y=2?z", "/a?x=1&y=2?z"),
        ("/a/../b?c/../d", "/b?c/../d"),
    ];
    let cases = pairs
        .iter()
        .map(|&(sent, expected)| {
            target(sent, sent).passes_as(move |request| {
                if request.target == expected || (expected == "/a?" && request.target == "/a") {
                    return Ok(());
                }
                Err(format!("`{}` was forwarded, not `{expected}`", request.target))
            })
        })
        .collect();
    run_cases(FORWARD_ALL, cases);
}

#[test]
fn what_climbs_over_the_root_stays_within_it_or_is_refused() {
    let targets = ["/..", "/../", "/../t", "/../../t", "/a/../../t", "/%2e%2e/t", "/..//../t", "/./../t"];
    let cases = targets
        .iter()
        .map(|sent| {
            let inside = |request: &daemun_e2e::Request| {
                let whole = request.target == "/" || request.target == "/t";
                if whole { Ok(()) } else { Err(format!("`{}` was forwarded", request.target)) }
            };
            target(*sent, sent).passes_as(inside).answered(&[&[400]], After::Any, vec![])
        })
        .collect();
    run_cases(FORWARD_ALL, cases);
}

#[test]
fn what_the_rfc_leaves_open_reaches_the_upstream_clean_or_not_at_all() {
    let targets: &[(&str, &[u8])] = &[
        ("a fragment", b"/t#x"),
        ("a fragment behind a query", b"/t?x#y"),
        ("raw bytes over 127", b"/\xc3\xa9"),
        ("a raw byte over 127 that is not UTF-8", b"/\xff"),
        ("raw bytes over 127 in the query", b"/t?x=\xc3\xa9"),
        ("encoded bytes that are not UTF-8", b"/%ff%fe"),
        ("an overlong encoded slash", b"/a%c0%afb"),
        ("an overlong encoded dot", b"/%c0%ae%c0%ae/t"),
        ("a quote", b"/a\"b"),
        ("angle brackets", b"/<a>"),
        ("braces", b"/{a}"),
        ("a caret and a bar", b"/a^b|c"),
        ("square brackets", b"/[a]"),
        ("a grave", b"/a`b"),
        ("an encoded control byte", b"/a%01b"),
        ("encoded line ends", b"/a%0d%0aX-A:%20b"),
        ("encoded line ends in the query", b"/t?x=%0d%0aX-A:%20b"),
        ("an encoded NUL in the query", b"/t?x=%00"),
        ("a bad escape in the query", b"/t?x=%zz"),
        ("an encoded DEL", b"/a%7fb"),
        ("an encoded space at the end", b"/a%20"),
    ];
    let cases = targets
        .iter()
        .map(|(name, bytes)| target(*name, bytes).passes().answered(&[&[400]], After::Any, vec![]))
        .collect();
    run_cases(FORWARD_ALL, cases);
}
