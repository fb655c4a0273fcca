//! Host: missing, repeated, malformed, or at odds with an absolute target.

use daemun_e2e::case::{After, case, run_cases};
use daemun_e2e::lane::FORWARD_ALL;

use super::{SMUGGLED, join};

#[test]
fn a_host_that_can_be_read_in_two_ways_is_refused() {
    let fields: &[(&str, &[u8])] = &[
        ("none", b""),
        ("an empty one", b"Host:\r\n"),
        ("white space", b"Host: \t\r\n"),
        ("two equal ones", b"Host: e2e.test\r\nHost: e2e.test\r\n"),
        ("two different ones", b"Host: e2e.test\r\nHost: evil.test\r\n"),
        ("two in different cases", b"Host: e2e.test\r\nhost: evil.test\r\n"),
        ("two far apart", b"Host: e2e.test\r\nX-A: b\r\nHOST: evil.test\r\n"),
        ("a good and an empty one", b"Host: e2e.test\r\nHost:\r\n"),
        ("a list", b"Host: e2e.test, evil.test\r\n"),
        ("a space within", b"Host: e2e.test evil.test\r\n"),
        ("a tab within", b"Host: e2e.test\tevil.test\r\n"),
        ("a user", b"Host: user@e2e.test\r\n"),
        ("a user and a password", b"Host: user:word@e2e.test\r\n"),
        ("an empty user", b"Host: @e2e.test\r\n"),
        ("words for a port", b"Host: e2e.test:http\r\n"),
        ("a port over 65535", b"Host: e2e.test:99999\r\n"),
        ("a negative port", b"Host: e2e.test:-1\r\n"),
        ("a signed port", b"Host: e2e.test:+80\r\n"),
        ("two ports", b"Host: e2e.test:80:80\r\n"),
        ("a space before the port", b"Host: e2e.test :80\r\n"),
        ("a port alone", b"Host: :80\r\n"),
        ("a path", b"Host: e2e.test/t\r\n"),
        ("a query", b"Host: e2e.test?x\r\n"),
        ("a fragment", b"Host: e2e.test#x\r\n"),
        ("a backslash", b"Host: e2e.test\\x\r\n"),
        ("a scheme", b"Host: http://e2e.test\r\n"),
        ("an encoded NUL", b"Host: e2e%00.test\r\n"),
        ("a NUL", b"Host: e2e\0.test\r\n"),
        ("quotes", b"Host: \"e2e.test\"\r\n"),
        ("angle brackets", b"Host: <e2e.test>\r\n"),
        ("a comma", b"Host: e2e.test,\r\n"),
        ("raw bytes over 127", b"Host: \xc3\xa9.test\r\n"),
        ("an open bracket", b"Host: [::1\r\n"),
        ("a closed bracket", b"Host: ::1]\r\n"),
        ("no address in brackets", b"Host: [e2e.test]\r\n"),
        ("a bad address in brackets", b"Host: [::g]\r\n"),
        ("bytes behind the brackets", b"Host: [::1]x\r\n"),
        ("an address without brackets", b"Host: ::1\r\n"),
        ("a zone", b"Host: [fe80::1%eth0]\r\n"),
        ("a space before the colon", b"Host : e2e.test\r\n"),
        ("a space before the name", b" Host: e2e.test\r\n"),
        ("folded", b"Host:\r\n e2e.test\r\n"),
        ("folded behind", b"Host: e2e.test\r\n evil.test\r\n"),
        ("a bare CR", b"Host: e2e.test\revil.test\r\n"),
        ("an underscore twin alone", b"HOST_: e2e.test\r\n"),
    ];
    let cases = fields
        .iter()
        .map(|(name, field)| {
            let bytes = join(&[b"GET /t HTTP/1.1\r\n", field, b"\r\n", SMUGGLED.as_bytes()]);
            case(*name, bytes).refused(&[400])
        })
        .collect();
    run_cases(FORWARD_ALL, cases);
}

#[test]
fn a_good_host_passes_as_it_is() {
    let hosts = [
        "e2e.test",
        "E2E.Test",
        "e2e.test:8080",
        "e2e.test.",
        "localhost",
        "127.0.0.1",
        "127.0.0.1:80",
        "[::1]",
        "[::1]:8080",
        "xn--bcher-kva.example",
        "a-b.c-d",
    ];
    let mut cases: Vec<_> = hosts
        .iter()
        .map(|&host| {
            case(host, format!("GET /t HTTP/1.1\r\nHost: {host}\r\n\r\n")).passes_as(move |request| {
                let found = request.field("host").unwrap_or_default();
                if found.eq_ignore_ascii_case(host) { Ok(()) } else { Err(format!("host `{found}`")) }
            })
        })
        .collect();
    let open = [
        "e2e.test:",
        "e2e_x.test",
        "e2e..test",
        ".e2e.test",
        "*",
        "-",
        "a%62c.test",
        "e2e.test:0",
        "e2e.test:080",
        "a!$&'()*+;=b",
    ];
    cases.extend(open.iter().map(|&host| {
        case(format!("{host}, which is left open"), format!("GET /t HTTP/1.1\r\nHost: {host}\r\n\r\n"))
            .passes()
            .answered(&[&[400, 404]], After::Any, vec![])
    }));
    let label = "a".repeat(300);
    cases.push(
        case("a label of 300 bytes", format!("GET /t HTTP/1.1\r\nHost: {label}.test\r\n\r\n")).passes().answered(
            &[&[400, 404]],
            After::Any,
            vec![],
        ),
    );
    run_cases(FORWARD_ALL, cases);
}

#[test]
fn an_absolute_target_must_agree_with_the_host() {
    let refused: &[(&str, &str, &str)] = &[
        ("another host", "http://evil.test/t", "Host: e2e.test\r\n"),
        ("another port", "http://e2e.test:81/t", "Host: e2e.test\r\n"),
        ("another port in Host", "http://e2e.test/t", "Host: e2e.test:81\r\n"),
        ("no Host", "http://e2e.test/t", ""),
        ("an empty Host", "http://e2e.test/t", "Host:\r\n"),
        ("two Hosts", "http://e2e.test/t", "Host: e2e.test\r\nHost: e2e.test\r\n"),
        ("a user", "http://user@e2e.test/t", "Host: e2e.test\r\n"),
        ("a user like a host", "http://e2e.test@evil.test/t", "Host: e2e.test\r\n"),
        ("a user and a backslash", "http://evil.test\\@e2e.test/t", "Host: e2e.test\r\n"),
        ("no authority", "http:///t", "Host: e2e.test\r\n"),
        ("no authority and no slashes", "http:/t", "Host: e2e.test\r\n"),
        ("no slashes", "http:e2e.test/t", "Host: e2e.test\r\n"),
        ("another scheme", "ftp://e2e.test/t", "Host: e2e.test\r\n"),
        ("a script", "javascript:alert(1)", "Host: e2e.test\r\n"),
        ("a file", "file:///etc/passwd", "Host: e2e.test\r\n"),
        ("a bad port", "http://e2e.test:x/t", "Host: e2e.test\r\n"),
        ("a bad address", "http://[::g]/t", "Host: e2e.test\r\n"),
        ("a space", "http://e2e.test /t", "Host: e2e.test\r\n"),
    ];
    let cases = refused
        .iter()
        .map(|(name, target, host)| {
            let bytes = format!("GET {target} HTTP/1.1\r\n{host}\r\n{SMUGGLED}");
            case(*name, bytes).refused(&[400, 421, 501, 505])
        })
        .collect();
    run_cases(FORWARD_ALL, cases);
}

#[test]
fn an_absolute_target_is_forwarded_as_a_path() {
    let one =
        |name: &str, target: &str, host: &str| case(name, format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    let seen = |target: &'static str, host: &'static str| {
        move |request: &daemun_e2e::Request| {
            let found = request.field("host").unwrap_or_default();
            if request.target == target && found.eq_ignore_ascii_case(host) {
                return Ok(());
            }
            Err(format!("target `{}`, host `{found}`", request.target))
        }
    };
    let no_tunnel = |case: daemun_e2e::Case| case.answered(&[&[400, 421]], After::Any, vec![]);
    let cases = vec![
        one("plain", "http://e2e.test/t?x=1", "e2e.test").passes_as(seen("/t?x=1", "e2e.test")),
        one("another case", "http://E2E.TEST/t", "e2e.test").passes_as(seen("/t", "e2e.test")),
        one("no path", "http://e2e.test", "e2e.test").passes_as(seen("/", "e2e.test")),
        one("a port", "http://e2e.test:8080/t", "e2e.test:8080").passes_as(seen("/t", "e2e.test:8080")),
        one("an address", "http://[::1]:80/t", "[::1]:80").passes_as(seen("/t", "[::1]:80")),
        one("a path to resolve", "http://e2e.test/a/../t", "e2e.test").passes_as(seen("/t", "e2e.test")),
        one("a query and no path", "http://e2e.test?x", "e2e.test").passes_as(seen("/?x", "e2e.test")).refused(&[400]),
        no_tunnel(one("a scheme in capitals", "HTTP://e2e.test/t", "e2e.test").passes_as(seen("/t", "e2e.test"))),
        no_tunnel(one("the other scheme", "https://e2e.test/t", "e2e.test").passes_as(seen("/t", "e2e.test"))),
        no_tunnel(one("the default port", "http://e2e.test:80/t", "e2e.test").passes()),
        no_tunnel(one("an empty port", "http://e2e.test:/t", "e2e.test").passes()),
    ];
    run_cases(FORWARD_ALL, cases);
}

#[test]
fn http_1_0_may_come_without_a_host() {
    let refusals = &[400, 404];
    let cases = vec![
        case("no host", "GET /t HTTP/1.0\r\n\r\n")
            .answered(&[&[200]], After::Closed, vec![daemun_e2e::case::anything()])
            .refused(refusals),
        case("a host", "GET /t HTTP/1.0\r\nHost: e2e.test\r\n\r\n").answered(
            &[&[200]],
            After::Closed,
            vec![daemun_e2e::case::seen("/t", b"")],
        ),
        case("two hosts", "GET /t HTTP/1.0\r\nHost: e2e.test\r\nHost: evil.test\r\n\r\n").refused(&[400]),
        case("an absolute target without a host", "GET http://e2e.test/t HTTP/1.0\r\n\r\n")
            .answered(&[&[200]], After::Closed, vec![daemun_e2e::case::seen("/t", b"")])
            .refused(refusals),
    ];
    run_cases(FORWARD_ALL, cases);
}

#[test]
fn an_asterisk_is_only_for_options() {
    let cases = vec![
        case("OPTIONS", "OPTIONS * HTTP/1.1\r\nHost: e2e.test\r\n\r\n")
            .answered(&[&[200, 204, 400, 404, 405, 501]], After::Any, vec![])
            .passes_as(|request| {
                if request.target == "*" && request.method == "OPTIONS" {
                    Ok(())
                } else {
                    Err("another target".to_owned())
                }
            }),
        case("POST", "POST * HTTP/1.1\r\nHost: e2e.test\r\nContent-Length: 0\r\n\r\n").answered(
            &[&[400]],
            After::Any,
            vec![],
        ),
    ];
    run_cases(FORWARD_ALL, cases);
}
