//! Heads that HTTP/2 forbids or that would become another message in HTTP/1.1.

use daemun_e2e::Request;
use daemun_e2e::case::run_each;
use daemun_e2e::client::shown;
use daemun_e2e::http2::{Ending, Http2};
use daemun_e2e::lane::{FORWARD_ALL, Lane};

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// A head and what may become of it.
struct HeadCase {
    name: String,
    fields: Fields,
    body: Option<Vec<u8>>,
    trailers: Option<Fields>,
    want: Want,
}

enum Want {
    /// The stream or the connection is ended, or answered 4xx or 501; nothing reaches the upstream whole.
    Refused,
    /// Answered 200; the check holds for what the upstream received.
    Passes(fn(&Request) -> Result<(), String>),
    /// Either.
    Either(fn(&Request) -> Result<(), String>),
}

fn pairs(fields: &[(&str, &str)]) -> Fields {
    fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}

fn usual(method: &str) -> Fields {
    pairs(&[(":method", method), (":scheme", "http"), (":path", "/t"), (":authority", "e2e.test")])
}

fn any(_: &Request) -> Result<(), String> {
    Ok(())
}

fn without_proxy(request: &Request) -> Result<(), String> {
    if request.head.fields.iter().any(|(name, _)| name == "proxy") { Err("`proxy` went on".to_owned()) } else { Ok(()) }
}

fn head(name: &str, fields: Fields, want: Want) -> HeadCase {
    HeadCase { name: name.to_owned(), fields, body: None, trailers: None, want }
}

/// The usual head and one more field.
fn plus(name: &str, field: (&[u8], &[u8]), want: Want) -> HeadCase {
    let mut fields = usual("GET");
    fields.push((field.0.to_vec(), field.1.to_vec()));
    head(name, fields, want)
}

/// The usual head with another value for one pseudo-field.
fn with(pseudo: &str, value: &[u8], want: Want) -> HeadCase {
    let mut fields = usual("GET");
    for (name, own) in &mut fields {
        if name == pseudo.as_bytes() {
            *own = value.to_vec();
        }
    }
    head(&format!("{pseudo} {}", value.escape_ascii()), fields, want)
}

fn run(cases: Vec<HeadCase>) {
    run_each(
        cases.len(),
        || Lane::start(FORWARD_ALL),
        |lane, index| {
            let case = &cases[index];
            judge(lane, case).map_err(|why| {
                let fields = case.fields.iter().chain(case.trailers.iter().flatten());
                let sent = fields.map(|(name, value)| format!("{}: {}", name.escape_ascii(), shown(value)));
                format!("{}\n    {why}\n    sent {}", case.name, sent.collect::<Vec<_>>().join(" | "))
            })
        },
    );
}

fn judge(lane: &Lane, case: &HeadCase) -> Result<(), String> {
    let mut client = Http2::connect(lane.gateway.address());
    let bodiless = case.body.is_none() && case.trailers.is_none();
    client.headers(1, &case.fields, bodiless);
    if let Some(body) = &case.body {
        client.data(1, body, case.trailers.is_none());
    }
    if let Some(trailers) = &case.trailers {
        client.headers(1, trailers, true);
    }
    let ending = client.ending(1).map_err(|broken| format!("{broken}; so far {:?}", client.so_far(1)))?;
    let log = lane.settle().map_err(|why| format!("{why}; the stream ended with {ending:?}"))?;
    if !log.faults.is_empty() {
        return Err(format!("the upstream received {}", log.faults.join(" and ")));
    }
    let answered = matches!(&ending, Ending::Answer(answer) if answer.status == 200);
    let refused = match &ending {
        Ending::Answer(answer) => (400..500).contains(&answer.status) || answer.status == 501,
        Ending::Reset(_) | Ending::GoAway(_) => true,
        Ending::Closed => false,
    };
    let (may_pass, may_refuse, check) = match case.want {
        Want::Refused => (false, true, any as fn(&Request) -> Result<(), String>),
        Want::Passes(check) => (true, false, check),
        Want::Either(check) => (true, true, check),
    };
    match log.requests.as_slice() {
        [] if refused && may_refuse => Ok(()),
        [request] if answered && may_pass => check(request),
        requests => {
            let seen: Vec<String> = requests.iter().map(Request::shown).collect();
            Err(format!("the stream ended with {ending:?}; the upstream received {seen:?}"))
        }
    }
}

#[test]
fn a_value_that_would_become_another_message_is_refused() {
    let mut cases = Vec::new();
    for (name, byte) in [("a CR", b'\r'), ("an LF", b'\n'), ("a NUL", 0)] {
        let poison = |before: &str, after: &str| [before.as_bytes(), &[byte], after.as_bytes()].concat();
        for (pseudo, before, after) in [
            (":path", "/t", "x"),
            (":path", "/t HTTP/1.1", "Host: evil.test"),
            (":method", "GET", "x"),
            (":method", "GET /smuggled HTTP/1.1", ""),
            (":authority", "e2e.test", "X-A: b"),
            (":scheme", "http", "x"),
        ] {
            cases.push(with(pseudo, &poison(before, after), Want::Refused));
        }
        cases.push(plus(&format!("{name} in a value"), (b"x-a", &poison("b", "x-b: c")), Want::Refused));
        cases.push(plus(&format!("{name} at the end of a value"), (b"x-a", &poison("b", "")), Want::Refused));
        cases.push(plus(&format!("{name} in a name"), (&poison("x-a", "x-b"), b"c"), Want::Refused));
        cases.push(plus(&format!("{name} in host"), (b"host", &poison("e2e.test", "X-A: b")), Want::Refused));
        cases.push(plus(&format!("{name} in cookie"), (b"cookie", &poison("a=b", "X-A: b")), Want::Refused));
        cases.push(plus(&format!("{name} in te"), (b"te", &poison("trailers", "X-A: b")), Want::Refused));
    }
    let crlf = b"b\r\nTransfer-Encoding: chunked\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: e2e.test\r\n\r\n";
    cases.push(plus("a whole request in a value", (b"x-a", crlf), Want::Refused));
    cases.push(plus("a whole request in a name", (crlf, b"b"), Want::Refused));
    let mut path = b"/t HTTP/1.1\r\nHost: e2e.test\r\n\r\nGET /smuggled HTTP/1.1\r\nX-A: ".to_vec();
    cases.push(with(":path", &path, Want::Refused));
    path.retain(|byte| *byte != b'\r');
    cases.push(with(":path", &path, Want::Refused));
    run(cases);
}

#[test]
fn a_name_that_is_no_token_is_refused() {
    let mut cases: Vec<HeadCase> = (0_u8..=255)
        .filter(|&byte| !daemun_e2e::message::is_token(byte))
        .map(|byte| {
            let name = [b"x-", [byte].as_slice(), b"a"].concat();
            plus(&format!("the byte {byte:#04x} in a name"), (&name, b"b"), Want::Refused)
        })
        .collect();
    cases.extend([
        plus("a capital", (b"X-a", b"b"), Want::Refused),
        plus("a capital at the end", (b"x-A", b"b"), Want::Refused),
        plus("capitals only", (b"HOST", b"evil.test"), Want::Refused),
        plus("an empty name", (b"", b"b"), Want::Refused),
        plus("a colon at the end", (b"x-a:", b"b"), Want::Refused),
    ]);
    run(cases);
}

#[test]
fn a_control_byte_in_a_value_is_refused() {
    let controls = (1_u8..32).chain([127]).filter(|byte| !b"\t\r\n".contains(byte));
    let mut cases: Vec<HeadCase> = controls
        .map(|byte| {
            let value = [b"b", [byte].as_slice(), b"c"].concat();
            plus(&format!("the byte {byte:#04x} in a value"), (b"x-a", &value), Want::Refused)
        })
        .collect();
    let trimmed = |request: &Request| match request.field("x-a") {
        Some("b") => Ok(()),
        other => Err(format!("x-a {other:?}")),
    };
    cases.extend([
        plus("a space before a value", (b"x-a", b" b"), Want::Either(trimmed)),
        plus("a tab behind a value", (b"x-a", b"b\t"), Want::Either(trimmed)),
        plus("an empty value", (b"x-a", b""), Want::Passes(any)),
        plus("bytes over 127", (b"x-a", b"b\xc3\xa4"), Want::Either(any)),
    ]);
    run(cases);
}

#[test]
fn fields_of_a_connection_are_refused() {
    let cases = [
        ("connection", "close"),
        ("connection", "keep-alive"),
        ("connection", "x-forwarded-for"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("transfer-encoding", ""),
        ("upgrade", "h2c"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("te", "trailers, gzip"),
        ("te", "chunked"),
    ];
    let mut cases: Vec<HeadCase> = cases
        .iter()
        .map(|(name, value)| plus(&format!("{name}: {value}"), (name.as_bytes(), value.as_bytes()), Want::Refused))
        .collect();
    cases.push(plus("te: trailers", (b"te", b"trailers"), Want::Passes(any)));
    cases.push(plus("proxy", (b"proxy", b"http://evil.test"), Want::Passes(without_proxy)));
    let gone = |request: &Request| {
        if request.has("http2-settings") { Err("it reached the upstream".to_owned()) } else { Ok(()) }
    };
    cases.push(plus("http2-settings", (b"http2-settings", b"AAMAAABk"), Want::Either(gone)));
    let mut chunked = head("transfer-encoding with chunks", usual("POST"), Want::Refused);
    chunked.fields.push((b"transfer-encoding".to_vec(), b"chunked".to_vec()));
    chunked.body = Some(b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: e2e.test\r\n\r\n".to_vec());
    cases.push(chunked);
    run(cases);
}

#[test]
fn pseudo_fields_come_once_each_and_first() {
    let order = |name: &str, fields: &[(&str, &str)], want| head(name, pairs(fields), want);
    let (m, s, p, a) = ((":method", "GET"), (":scheme", "http"), (":path", "/t"), (":authority", "e2e.test"));
    let cases = vec![
        order("no method", &[s, p, a], Want::Refused),
        order("no scheme", &[m, p, a], Want::Refused),
        order("no path", &[m, s, a], Want::Refused),
        order("no authority and no host", &[m, s, p], Want::Refused),
        order("nothing", &[], Want::Refused),
        order("only a field", &[("x-a", "b")], Want::Refused),
        order("two methods", &[m, m, s, p, a], Want::Refused),
        order("two different methods", &[m, (":method", "POST"), s, p, a], Want::Refused),
        order("two schemes", &[m, s, s, p, a], Want::Refused),
        order("two paths", &[m, s, p, (":path", "/smuggled"), a], Want::Refused),
        order("two authorities", &[m, s, p, a, (":authority", "evil.test")], Want::Refused),
        order("two equal authorities", &[m, s, p, a, a], Want::Refused),
        order("a path behind a field", &[m, s, a, ("x-a", "b"), p], Want::Refused),
        order("an authority behind a field", &[m, s, p, ("x-a", "b"), a], Want::Refused),
        order("a second path behind a field", &[m, s, p, a, ("x-a", "b"), (":path", "/smuggled")], Want::Refused),
        order("an unknown pseudo-field", &[m, s, p, a, (":x", "b")], Want::Refused),
        order("a status", &[m, s, p, a, (":status", "200")], Want::Refused),
        order("a protocol", &[m, s, p, a, (":protocol", "websocket")], Want::Refused),
        order("a pseudo-field in capitals", &[(":Method", "GET"), s, p, a], Want::Refused),
        order("an empty pseudo-name", &[m, s, p, a, (":", "b")], Want::Refused),
        order("another order", &[a, p, s, m], Want::Passes(any)),
        order(
            "host in place of authority",
            &[m, s, p, ("host", "e2e.test")],
            Want::Passes(|request| {
                if request.field("host") == Some("e2e.test") { Ok(()) } else { Err("another host".to_owned()) }
            }),
        ),
    ];
    run(cases);
}

#[test]
fn pseudo_fields_hold_what_a_request_line_can_hold() {
    let refuse = |pseudo: &str, values: &[&[u8]]| -> Vec<HeadCase> {
        values.iter().map(|value| with(pseudo, value, Want::Refused)).collect()
    };
    let mut cases = refuse(
        ":method",
        &[b"", b" ", b"GET ", b" GET", b"GE T", b"GET\t", b"GET /smuggled", b"G(T", b"G\xc9T", b"GET:"],
    );
    cases.extend(refuse(
        ":path",
        &[
            b"",
            b"t",
            b"*",
            b"?x",
            b" /t",
            b"/t x",
            b"/t ",
            b"/t\tx",
            b"/t HTTP/1.1",
            b"http://e2e.test/t",
            b"http://evil.test/t",
            b"e2e.test",
            b"\\t",
            b"/a\\b",
            b"/a%00b",
            b"/a%2Fb",
            b"/a%5cb",
            b"/a%zz",
            b"/a\x7fb",
            b"/a\x01b",
        ],
    ));
    cases.extend(refuse(
        ":authority",
        &[
            b"",
            b" ",
            b"user@e2e.test",
            b"e2e.test evil.test",
            b"e2e.test, evil.test",
            b"e2e.test/t",
            b"e2e.test?x",
            b"e2e.test#x",
            b"e2e.test:http",
            b"e2e.test:99999",
            b"e2e.test:80:80",
            b"http://e2e.test",
            b"e2e.test\\x",
            b"[::1",
            b"[::g]",
            b"\xc3\xa9.test",
            b"e2e.test\x01",
        ],
    ));
    let open = |pseudo: &str, value: &[u8]| with(pseudo, value, Want::Either(any));
    cases.extend([
        open(":scheme", b"https"),
        open(":scheme", b"HTTP"),
        open(":scheme", b"ftp"),
        open(":path", b"//t"),
        open(":path", b"/t#x"),
        open(":path", b"#x"),
        open(":path", b"/\xc3\xa9"),
        open(":scheme", b""),
        with(":scheme", b"http ", Want::Refused),
        with(":scheme", b"http://evil.test/", Want::Refused),
        with(
            ":path",
            b"/a/../b//c/%7e?x=/..",
            Want::Passes(
                |request| {
                    if request.target == "/b/c/~?x=/.." { Ok(()) } else { Err(format!("`{}`", request.target)) }
                },
            ),
        ),
    ]);
    cases.push(head(
        "OPTIONS *",
        pairs(&[(":method", "OPTIONS"), (":scheme", "http"), (":path", "*"), (":authority", "e2e.test")]),
        Want::Either(any),
    ));
    cases.push(head("CONNECT", pairs(&[(":method", "CONNECT"), (":authority", "e2e.test:443")]), Want::Refused));
    cases.push(head("CONNECT with a path", usual("CONNECT"), Want::Refused));
    cases.push(head(
        "CONNECT with a protocol",
        pairs(&[
            (":method", "CONNECT"),
            (":scheme", "http"),
            (":path", "/t"),
            (":authority", "e2e.test"),
            (":protocol", "websocket"),
        ]),
        Want::Refused,
    ));
    run(cases);
}

#[test]
fn authority_and_host_must_agree() {
    let cases = vec![
        plus("another host", (b"host", b"evil.test"), Want::Refused),
        plus("another port", (b"host", b"e2e.test:81"), Want::Refused),
        plus("an empty host", (b"host", b""), Want::Refused),
        plus("a host with a user", (b"host", b"user@e2e.test"), Want::Refused),
        plus(
            "an equal host",
            (b"host", b"e2e.test"),
            Want::Either(|request| {
                if request.field("host") == Some("e2e.test") { Ok(()) } else { Err("another host".to_owned()) }
            }),
        ),
        {
            let mut twice = plus("two hosts", (b"host", b"e2e.test"), Want::Refused);
            twice.fields.push((b"host".to_vec(), b"evil.test".to_vec()));
            twice
        },
        head(
            "two hosts without an authority",
            pairs(&[
                (":method", "GET"),
                (":scheme", "http"),
                (":path", "/t"),
                ("host", "e2e.test"),
                ("host", "evil.test"),
            ]),
            Want::Refused,
        ),
    ];
    run(cases);
}

#[test]
fn what_is_guarded_over_http_1_is_guarded_here() {
    let mut cases = Vec::new();
    for name in ["x-consumer-name", "x_consumer_name", "x-consumer_name", "x-consumer-anything", "x_a"] {
        cases.push(plus(
            name,
            (name.as_bytes(), b"admin"),
            Want::Passes(|request| {
                let forged = |own: &str| own.contains('_') || own.to_ascii_lowercase().starts_with("x-consumer");
                match request.head.fields.iter().find(|(own, _)| forged(own)) {
                    Some(found) => Err(format!("{found:?} reached the upstream")),
                    None => Ok(()),
                }
            }),
        ));
    }
    for (name, value) in
        [("x-forwarded-for", "10.9.9.9"), ("forwarded", "for=10.9.9.9"), ("x-forwarded-host", "10.9.9.9")]
    {
        cases.push(plus(
            name,
            (name.as_bytes(), value.as_bytes()),
            Want::Passes(|request| match request.head.fields.iter().find(|(_, value)| value.contains("10.9.9.9")) {
                Some(found) => Err(format!("{found:?} reached the upstream")),
                None => Ok(()),
            }),
        ));
    }
    let mut crumbs = usual("GET");
    crumbs.extend(pairs(&[("cookie", "a=b"), ("x-a", "b"), ("cookie", "c=d"), ("cookie", "e=f")]));
    cases.push(head(
        "cookie crumbs",
        crumbs,
        Want::Passes(|request| match request.field("cookie") {
            Some("a=b; c=d; e=f") => Ok(()),
            other => Err(format!("cookie {other:?}")),
        }),
    ));
    let mut twice = usual("GET");
    twice.extend(pairs(&[("x-a", "b"), ("x-a", "c")]));
    cases.push(head(
        "a field twice",
        twice,
        Want::Passes(|request| {
            let values: Vec<&str> = request.head.all("x-a").flat_map(|value| value.split(", ")).collect();
            if values == ["b", "c"] { Ok(()) } else { Err(format!("{values:?}")) }
        }),
    ));
    let trailers = |name: &str, fields: &[(&str, &str)], want| {
        let mut case = head(name, usual("POST"), want);
        case.body = Some(b"hello".to_vec());
        case.trailers = Some(pairs(fields));
        case
    };
    let clean = |request: &Request| {
        let odd =
            |own: &str| own.contains('_') || own.to_ascii_lowercase().starts_with("x-consumer") || own.starts_with(':');
        match request.trailers.iter().find(|(own, _)| odd(own) || own == "content-length" || own == "host") {
            Some(found) => Err(format!("the trailer {found:?} reached the upstream")),
            None if request.body == b"hello" => Ok(()),
            None => Err("another body".to_owned()),
        }
    };
    cases.extend([
        trailers(
            "a harmless trailer",
            &[("x-checksum", "abc")],
            Want::Passes(|request| {
                let found = request
                    .trailers
                    .iter()
                    .any(|(name, value)| name.eq_ignore_ascii_case("x-checksum") && value == "abc");
                if found && request.body == b"hello" { Ok(()) } else { Err(format!("trailers {:?}", request.trailers)) }
            }),
        ),
        trailers("a forged trailer", &[("x-consumer-name", "admin")], Want::Either(clean)),
        trailers("a forged trailer with underscores", &[("x_consumer_name", "admin")], Want::Either(clean)),
        trailers("a length in trailers", &[("content-length", "50")], Want::Either(clean)),
        trailers("a host in trailers", &[("host", "evil.test")], Want::Either(clean)),
        trailers("a pseudo-field in trailers", &[(":path", "/smuggled")], Want::Either(clean)),
        trailers("a status in trailers", &[(":status", "200")], Want::Either(clean)),
        trailers("capitals in trailers", &[("X-Checksum", "abc")], Want::Refused),
        trailers("a line end in trailers", &[("x-checksum", "a\r\n\r\nGET /smuggled HTTP/1.1")], Want::Refused),
        trailers("a connection field in trailers", &[("transfer-encoding", "chunked")], Want::Refused),
    ]);
    run(cases);
}

#[test]
fn a_head_has_its_bounds() {
    let more = |count: usize, length: usize| {
        let mut fields = usual("GET");
        for at in 0..count {
            fields.push((format!("x-{at}").into_bytes(), vec![b'v'; length]));
        }
        fields
    };
    let cases = vec![
        head("90 fields", more(90, 10), Want::Passes(any)),
        head("101 fields", more(101, 1), Want::Refused),
        head("1,000 fields", more(1000, 1), Want::Refused),
        with(":path", format!("/{}", "p".repeat(16 * 1024)).as_bytes(), Want::Refused),
    ];
    run(cases);
}

#[test]
fn a_head_in_many_frames_has_its_bound() {
    use daemun_e2e::hpack::encode;
    use daemun_e2e::http2::{END_HEADERS, END_STREAM, kind};
    let lane = Lane::start(FORWARD_ALL);
    let mut client = Http2::connect(lane.gateway.address());
    client.frame(kind::HEADERS, END_STREAM, 1, &encode(&usual("GET")));
    for at in 0..20 {
        let last = if at == 19 { END_HEADERS } else { 0 };
        client.frame(kind::CONTINUATION, last, 1, &encode(&[(format!("x-{at}"), "v".repeat(10_000))]));
    }
    let ending = client.ending(1);
    match ending {
        Ok(Ending::Answer(answer)) => assert_eq!(answer.status, 431),
        Ok(Ending::Reset(_) | Ending::GoAway(_) | Ending::Closed) => {}
        Err(broken) => panic!("{broken}"),
    }
    assert_eq!(lane.settle().unwrap().requests.len(), 0);
}
