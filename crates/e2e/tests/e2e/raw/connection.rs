//! Connection, Expect, Upgrade and the other fields of the client's own connection.

use daemun_e2e::case::{After, anything, case, run_cases, seen};
use daemun_e2e::lane::FORWARD_ALL;

use super::{SMUGGLED, get, post};

#[test]
fn fields_of_the_connection_stay_on_it() {
    let without = |names: &'static [&'static str]| {
        move |request: &daemun_e2e::Request| match names.iter().find(|name| request.has(name)) {
            Some(name) => Err(format!("`{name}` reached the upstream")),
            None if request.has("x-kept") => Ok(()),
            None => Err("a field beside it was lost".to_owned()),
        }
    };
    let with = |name: &str, fields: &str| case(name, get(format!("{fields}X-Kept: 1\r\n")));
    let cases = vec![
        with("one it names", "Connection: x-hop\r\nX-Hop: 1\r\n").passes_as(without(&["x-hop"])),
        with("one it names first", "X-Hop: 1\r\nConnection: X-HOP\r\n").passes_as(without(&["x-hop"])),
        with("two it names", "Connection: x-hop, x-leap\r\nX-Hop: 1\r\nX-Leap: 2\r\n")
            .passes_as(without(&["x-hop", "x-leap"])),
        with("two fields", "Connection: x-hop\r\nX-Hop: 1\r\nConnection: x-leap\r\nX-Leap: 2\r\n")
            .passes_as(without(&["x-hop", "x-leap"])),
        with("white space and empty elements", "Connection: , x-hop\t,,  x-leap ,\r\nX-Hop: 1\r\nX-Leap: 2\r\n")
            .passes_as(without(&["x-hop", "x-leap"])),
        with("one that is repeated", "Connection: x-hop\r\nX-Hop: 1\r\nx-hop: 2\r\nX-HOP: 3\r\n")
            .passes_as(without(&["x-hop"])),
        with("Keep-Alive", "Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n").passes_as(without(&["keep-alive"])),
        with("Keep-Alive that is not named", "Keep-Alive: timeout=5\r\n").passes_as(without(&["keep-alive"])),
        with("Proxy-Connection", "Proxy-Connection: keep-alive\r\n").passes_as(without(&["proxy-connection"])),
        with("TE", "TE: gzip, trailers\r\nConnection: TE\r\n").passes_as(|request| match request.field("te") {
            None | Some("trailers") => Ok(()),
            Some(other) => Err(format!("te: {other}")),
        }),
        with("itself", "Connection: connection\r\n").passes(),
        with("many names", &format!("Connection: {}\r\n", "x-hop,".repeat(2000))).passes().refused(&[400, 431]),
        with("a bad name", "Connection: x hop\r\n").passes().refused(&[400]),
        with("only commas", "Connection: ,,,,\r\n").passes(),
        with("nothing", "Connection:\r\n").passes(),
    ];
    run_cases(FORWARD_ALL, cases);
}

#[test]
fn connection_cannot_take_away_what_matters() {
    let kept = |name: &'static str| {
        move |request: &daemun_e2e::Request| {
            if request.has(name) { Ok(()) } else { Err(format!("`{name}` did not reach the upstream")) }
        }
    };
    let with = |named: &str, fields: &str| {
        case(format!("naming {named}"), get(format!("Connection: {named}\r\n{fields}"))).refused(&[400])
    };
    let body = |named: &str, fields: &str, body: &str| {
        let check = |request: &daemun_e2e::Request| {
            if request.body == b"hello" { Ok(()) } else { Err(format!("body `{}`", request.body.escape_ascii())) }
        };
        case(format!("naming {named} with a body"), post(&format!("Connection: {named}\r\n{fields}"), body))
            .passes_as(check)
            .refused(&[400])
    };
    let cases = vec![
        with("Host", "").passes_as(kept("host")),
        with("host, close", "").answered(&[&[200]], After::Closed, vec![anything()]),
        with("X-Forwarded-For", "").passes_as(kept("x-forwarded-for")),
        with("X-Forwarded-Proto", "").passes_as(kept("x-forwarded-proto")),
        with("X-Forwarded-Host", "").passes_as(kept("x-forwarded-host")),
        with("Forwarded", "").passes(),
        with("Via", "").passes_as(kept("via")),
        with("X-Request-Id", "X-Request-Id: abc\r\n").passes_as(kept("x-request-id")),
        with("Traceparent", "").passes_as(kept("traceparent")),
        with("Authorization", "Authorization: Basic eDp5\r\n").passes(),
        with("Cookie", "Cookie: a=b\r\n").passes(),
        with("X-Consumer-Name", "X-Consumer-Name: admin\r\n")
            .passes_as(|request| if request.has("x-consumer-name") { Err("forged".to_owned()) } else { Ok(()) }),
        body("Content-Length", "Content-Length: 5\r\n", "hello"),
        body("Transfer-Encoding", "Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        body("Trailer", "Trailer: x-a\r\nTransfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\nX-A: b\r\n\r\n"),
    ];
    run_cases(FORWARD_ALL, cases);
}

#[test]
fn connection_close_is_obeyed() {
    let twice = |fields: &str| format!("GET /t HTTP/1.1\r\nHost: e2e.test\r\n{fields}\r\n{SMUGGLED}");
    let closes =
        |name: &str, fields: &str| case(name, twice(fields)).answered(&[&[200]], After::Closed, vec![seen("/t", b"")]);
    let keeps = |name: &str, fields: &str| {
        case(name, twice(fields)).answered(
            &[&[200], &[200]],
            After::Open,
            vec![seen("/t", b""), seen("/smuggled", b"")],
        )
    };
    let old = |fields: &str| format!("GET /t HTTP/1.0\r\nHost: e2e.test\r\n{fields}\r\n{SMUGGLED}");
    let cases = vec![
        closes("close", "Connection: close\r\n"),
        closes("close in capitals", "Connection: CLOSE\r\n"),
        closes("close in a list", "Connection: x-a, close\r\n"),
        closes("close in a second field", "Connection: keep-alive\r\nConnection: close\r\n"),
        closes("close and keep-alive", "Connection: close, keep-alive\r\n"),
        keeps("keep-alive", "Connection: keep-alive\r\n"),
        keeps("a word that holds close", "Connection: closet\r\n"),
        keeps("close in another field", "X-Connection: close\r\n"),
        case("HTTP/1.0", old("")).answered(&[&[200]], After::Closed, vec![seen("/t", b"")]),
        case("HTTP/1.0 that wants to stay", old("Connection: keep-alive\r\n"))
            .answered(&[&[200], &[200]], After::Any, vec![seen("/t", b""), seen("/smuggled", b"")])
            .answered(&[&[200]], After::Closed, vec![seen("/t", b"")]),
    ];
    run_cases(FORWARD_ALL, cases);
}

#[test]
fn an_expectation_is_met_once_or_refused() {
    let with = |name: &str, fields: &str| case(name, post(&format!("{fields}Content-Length: 5\r\n"), "hello"));
    let plain = |request: &daemun_e2e::Request| {
        if request.body == b"hello" { Ok(()) } else { Err("another body".to_owned()) }
    };
    let refused = &[400, 417];
    let odd = |name: &str, fields: &str| {
        with(name, fields).passes_as(plain).refused(refused).answered(&[refused], After::Any, vec![])
    };
    let cases = vec![
        with("100-continue", "Expect: 100-continue\r\n").passes_as(plain).allow_interim(),
        with("in capitals", "EXPECT: 100-CONTINUE\r\n").passes_as(plain).allow_interim(),
        odd("twice in a list", "Expect: 100-continue, 100-continue\r\n").allow_interim(),
        odd("twice in two fields", "Expect: 100-continue\r\nExpect: 100-continue\r\n").allow_interim(),
        odd("another word", "Expect: something\r\n"),
        odd("another word beside it", "Expect: 100-continue, something\r\n").allow_interim(),
        odd("with a parameter", "Expect: 100-continue;a=b\r\n").allow_interim(),
        odd("a word before", "Expect: y 100-continue\r\n"),
        odd("nothing", "Expect:\r\n"),
        odd("a longer word", "Expect: 100-continued\r\n"),
        with("folded", "Expect:\r\n 100-continue\r\n").refused(&[400]),
        case("without a body", get("Expect: 100-continue\r\n")).passes().allow_interim(),
        case(
            "in HTTP/1.0",
            "POST /t HTTP/1.0\r\nHost: e2e.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
        )
        .answered(&[&[200]], After::Closed, vec![seen("/t", b"hello")]),
        case(
            "with chunks",
            "POST /t HTTP/1.1\r\nHost: e2e.test\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        )
        .passes_as(plain)
        .allow_interim(),
    ];
    run_cases(FORWARD_ALL, cases);
}

#[test]
fn an_upgrade_that_no_route_allows_is_not_asked_for() {
    let none = |request: &daemun_e2e::Request| {
        let asked = request.has("upgrade")
            || request.head.all("connection").any(|value| value.to_ascii_lowercase().contains("upgrade"));
        if asked { Err("the upgrade reached the upstream".to_owned()) } else { Ok(()) }
    };
    let with = |name: &str, fields: &str| case(name, get(fields)).passes_as(none).refused(&[400]);
    let cases = vec![
        with("h2c", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"),
        with("h2c without its settings", "Connection: Upgrade\r\nUpgrade: h2c\r\n"),
        with("h2c in capitals", "Connection: upgrade\r\nUpgrade: H2C\r\n"),
        with("h2", "Connection: Upgrade\r\nUpgrade: h2\r\n"),
        with("TLS", "Connection: Upgrade\r\nUpgrade: TLS/1.3\r\n"),
        with("a later HTTP", "Connection: Upgrade\r\nUpgrade: HTTP/2.0\r\n"),
        with("a word of its own", "Connection: Upgrade\r\nUpgrade: something\r\n"),
        with("websocket that Connection does not name", "Upgrade: websocket\r\n"),
        with("only Connection", "Connection: Upgrade\r\n"),
        with("nothing", "Connection: Upgrade\r\nUpgrade:\r\n"),
        with("h2c folded", "Connection: Upgrade\r\nUpgrade:\r\n h2c\r\n"),
        with("h2c_", "Connection: Upgrade\r\nUpgrade_: h2c\r\n"),
    ];
    run_cases(FORWARD_ALL, cases);
}

#[test]
fn an_upgrade_with_a_list_of_protocols_never_names_h2c() {
    let clean = |request: &daemun_e2e::Request| match request.field("upgrade").map(str::to_ascii_lowercase).as_deref() {
        None | Some("websocket") => Ok(()),
        Some(other) => Err(format!("upgrade: {other}")),
    };
    let with = |name: &str, fields: &str| {
        case(name, get(fields)).passes_as(clean).refused(&[400]).answered(&[&[502]], After::Any, vec![anything()])
    };
    let cases = vec![
        with("websocket, h2c", "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n"),
        with("h2c, websocket", "Connection: Upgrade\r\nUpgrade: h2c, websocket\r\n"),
        with("two fields", "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n"),
        with("two fields, h2c first", "Connection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n"),
    ];
    run_cases(FORWARD_ALL, cases);
}
