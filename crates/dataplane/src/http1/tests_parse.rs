use super::*;

/// An index that can be compared.
#[derive(Debug, Default)]
struct Index(Vec<Field>);

impl std::ops::Deref for Index {
    type Target = [Field];

    fn deref(&self) -> &[Field] {
        &self.0
    }
}

impl PartialEq for Index {
    fn eq(&self, other: &Index) -> bool {
        let parts = |f: &Field| (f.name, f.value, f.id, f.removed);
        self.iter().map(parts).eq(other.iter().map(parts))
    }
}

type Read = Result<Option<(RequestHead, Index)>, Reason>;

/// A request with `Host` and these further field lines.
fn with(lines: &str) -> Vec<u8> {
    format!("POST /a?b HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n").into_bytes()
}

fn parse(buf: &[u8]) -> Read {
    parse_within(buf, &Bounds::default())
}

fn parse_within(buf: &[u8], bounds: &Bounds) -> Read {
    read_on(buf, bounds, &mut Scan::default())
}

fn read_on(buf: &[u8], bounds: &Bounds, scan: &mut Scan) -> Read {
    let mut fields = Vec::new();
    let head = parse_request(buf, bounds, scan, &mut fields).map_err(|fault| fault.reason)?;
    Ok(head.map(|head| (head, Index(fields))))
}

fn good(buf: &[u8]) -> (RequestHead, Index) {
    match parse(buf) {
        Ok(Some(read)) => read,
        other => panic!("{other:?} for {}", buf.escape_ascii()),
    }
}

fn refused(buf: &[u8], reason: Reason) {
    match parse(buf) {
        Err(found) => assert_eq!(found, reason, "{}", buf.escape_ascii()),
        other => panic!("{other:?} for {}", buf.escape_ascii()),
    }
}

fn kept<'a>(buf: &'a [u8], fields: &[Field]) -> Vec<&'a [u8]> {
    fields.iter().filter(|f| !f.removed).map(|f| &buf[f.name.range()]).collect()
}

#[test]
fn a_plain_request_is_indexed_in_place() {
    let buf = b"GET /a/b?c=d HTTP/1.1\r\nHost: a.example:81\r\nX-Empty:\r\nX-Spaces: \t \r\nX-Trim: \t a b\t \r\nx:y\r\n\r\nrest";
    let (head, fields) = good(buf);
    assert_eq!(head.len, buf.len() - 4);
    assert_eq!((head.method, head.version, head.body), (Method::Get, 11, BodyLength::None));
    assert_eq!(&buf[head.method_span.range()], b"GET");
    assert_eq!(&buf[head.target.range()], b"/a/b?c=d");
    assert_eq!(&buf[head.host.range()], b"a.example:81");
    assert!(!head.close && !head.expect_continue && head.upgrade.is_none());
    let pairs: Vec<_> = fields.iter().map(|f| (&buf[f.name.range()], &buf[f.value.range()])).collect();
    let expected: [(&[u8], &[u8]); 5] =
        [(b"Host", b"a.example:81"), (b"X-Empty", b""), (b"X-Spaces", b""), (b"X-Trim", b"a b"), (b"x", b"y")];
    assert_eq!(pairs, expected);
}

#[test]
fn one_empty_line_before_a_request_is_skipped_and_no_more() {
    let (head, fields) = good(b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((head.len, head.target), (29, Span::new(6, 7)));
    assert_eq!(fields[0].name, Span::new(18, 22));
    for partial in ["", "\r", "\r\n", "\r\nG", "GET / HTTP/1.1\r\nHost: a\r\n\r"] {
        assert_eq!(parse(partial.as_bytes()), Ok(None), "{partial:?}");
    }
    for text in [
        "\r\n\r\n",
        "\r\n\r",
        "\r\n\n",
        "\n",
        "\rG",
        "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        refused(text.as_bytes(), Reason::BadRequest);
    }
}

#[test]
fn a_request_line_has_one_spelling() {
    for line in [
        "GET  / HTTP/1.1",
        " GET / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET\t/ HTTP/1.1",
        "GET /\tHTTP/1.1",
        "GET / a HTTP/1.1",
        "GET /",
        "GET / ",
        "GET HTTP/1.1",
        "GET  HTTP/1.1",
        "/ HTTP/1.1",
        "G@T / HTTP/1.1",
        "G\u{e9}T / HTTP/1.1",
        "GET / http/1.1",
        "GET / HTTP/1.10",
        "GET / HTTP/01.1",
        "GET / HTTP/1",
        "GET / HTTP/1.",
        "GET / HTTP/1,1",
        "GET / HTTP/0.9",
        "GET / HTTPS/1.1",
        "GET / HTTP /1.1",
        "GET /\0 HTTP/1.1",
        "GET /\x7f HTTP/1.1",
        "GET /\x0b HTTP/1.1",
        "\x16\x03\x01\x02",
    ] {
        refused(format!("{line}\r\nHost: a\r\n\r\n").as_bytes(), Reason::BadRequest);
    }
    for version in ["HTTP/1.2", "HTTP/2.0", "HTTP/3.0", "HTTP/1.9", "HTTP/0.8"] {
        refused(format!("GET / {version}\r\nHost: a\r\n\r\n").as_bytes(), Reason::BadVersion);
    }
    refused(format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(33)).as_bytes(), Reason::BadMethod);
    let (head, _) = good(b"M-SEARCH * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(head.method, Method::Other);
    assert_eq!(good(b"get / HTTP/1.1\r\nHost: a\r\n\r\n").0.method, Method::Other, "methods are case-sensitive");
}

#[test]
fn every_line_ends_in_crlf_and_nothing_is_folded() {
    for text in [
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: y\n\r\n",
        "GET / HTTP/1.1\r\nX:\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nX: \nHost: a\r\n\r\n",
        "GET / HTTP/1.1\rHost: a\r\r",
        "GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n",
        "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\tz\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX:\r\n z\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n \r\n\r\n",
    ] {
        refused(text.as_bytes(), Reason::BadRequest);
    }
}

#[test]
fn lone_line_ends_are_refused_before_the_head_is_complete() {
    for text in [
        "GET / HTTP/1.1\nHost: a",
        "GET / HTTP/1.1\r\nHost: a\nX",
        "GET / HTTP/1.1\r\nHost: a\rX",
        "GET / HTTP/1.1\r\nHost: a\n",
    ] {
        let mut scan = Scan::default();
        let mut fields = Vec::new();
        assert_eq!(parse_request(b"GET / H", &Bounds::default(), &mut scan, &mut fields), Ok(None));
        let fault = parse_request(text.as_bytes(), &Bounds::default(), &mut scan, &mut fields).unwrap_err();
        assert_eq!(fault.reason, Reason::BadRequest, "{text:?}");
        refused(text.as_bytes(), Reason::BadRequest);
    }
}

#[test]
fn names_are_tokens_and_values_hold_no_control_bytes() {
    for line in [
        "X : y",
        "X\t: y",
        ": y",
        "X",
        "X y: z",
        "X(y): z",
        "X\"y: z",
        "X\u{e9}: y",
        "X\0: y",
        "X[]: y",
        "X@y: z",
        "X/y: z",
        "X;y: z",
    ] {
        refused(&with(&format!("{line}\r\n")), Reason::BadRequest);
    }
    for byte in (0..0x20u8).chain([0x7f]).filter(|b| !b"\t\r\n".contains(b)) {
        let mut buf = with("");
        let at = buf.len() - 2;
        buf.splice(at..at, [b"X: a", &[byte][..], b"b\r\n"].concat());
        refused(&buf, Reason::BadRequest);
    }
    let buf = b"GET / HTTP/1.1\r\nHost: a\r\nX: caf\xe9\r\n!#$%&'*+-.^`|~9: \xff\r\n\r\n";
    assert_eq!(&buf[good(buf).1[1].value.range()], b"caf\xe9");
}

#[test]
fn a_body_has_one_length() {
    let length = |lines: &str| good(&with(lines)).0.body;
    assert_eq!(length(""), BodyLength::None);
    assert_eq!(length("Content-Length: 0\r\n"), BodyLength::Length(0));
    assert_eq!(length("content-length: \t17 \r\n"), BodyLength::Length(17));
    assert_eq!(length("Content-Length: 18446744073709551615\r\n"), BodyLength::Length(u64::MAX));
    assert_eq!(length("Transfer-Encoding: chunked\r\n"), BodyLength::Chunked);
    assert_eq!(length("TRANSFER-ENCODING: \tChunKed \r\n"), BodyLength::Chunked);
    for value in [
        "",
        "+1",
        "-1",
        "1.0",
        "1e1",
        "0x1",
        "1 1",
        "1,1",
        "1, 1",
        "1;",
        "a",
        "\"1\"",
        "18446744073709551616",
        "99999999999999999999",
        "000000000000000000001",
        "\u{661}",
        "1\u{a0}",
        "_1",
    ] {
        refused(&with(&format!("Content-Length: {value}\r\n")), Reason::BadRequest);
    }
    for lines in [
        "Content-Length: 1\r\nContent-Length: 1\r\n",
        "Content-Length: 1\r\nContent-Length: 2\r\n",
        "Content-Length: 1\r\ncontent-length: \r\n",
        "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
        "Transfer-Encoding: identity\r\nContent-Length: 1\r\n",
    ] {
        refused(&with(lines), Reason::BadRequest);
    }
}

#[test]
fn leading_zeros_of_a_length_are_not_passed_on() {
    for (sent, read) in [("007", "7"), ("00", "0"), ("0", "0"), ("10", "10"), ("00000000000000000010", "10")] {
        let buf = with(&format!("Content-Length: {sent}\r\n"));
        let (head, fields) = good(&buf);
        assert_eq!(head.body, BodyLength::Length(read.parse().unwrap()));
        assert_eq!(&buf[fields[1].value.range()], read.as_bytes());
    }
}

#[test]
fn only_chunked_alone_is_a_coding() {
    for value in [
        "",
        "identity",
        "gzip",
        "chunked, gzip",
        "chunked, identity",
        "chunked, chunked",
        "chunked,chunked",
        "chunked,",
        ",chunked",
        "chunked;q=1",
        "xchunked",
        "chunkedx",
        "chunked x",
        "x chunked",
        "\"chunked\"",
        "chunked\u{a0}",
        "gzip,, chunked",
        "chunked, gzip, chunked",
        "c hunked",
    ] {
        refused(&with(&format!("Transfer-Encoding: {value}\r\n")), Reason::BadRequest);
    }
    for value in ["gzip, chunked", "identity, chunked", "deflate ,\tCHUNKED", "a, b, chunked"] {
        refused(&with(&format!("Transfer-Encoding: {value}\r\n")), Reason::UnknownCoding);
    }
    refused(&with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), Reason::BadRequest);
    refused(&with("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"), Reason::BadRequest);
    refused(&with("Transfer-Encoding : chunked\r\n"), Reason::BadRequest);
    refused(b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", Reason::BadRequest);
}

#[test]
fn a_host_is_given_exactly_once() {
    for text in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: \t\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nhOST: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.0\r\nHost:\r\n\r\n",
        "GET http://a/ HTTP/1.1\r\n\r\n",
    ] {
        refused(text.as_bytes(), Reason::BadHost);
    }
    assert!(good(b"GET / HTTP/1.0\r\n\r\n").0.host.is_empty());
}

#[test]
fn version_and_connection_decide_whether_the_connection_stays() {
    let close =
        |version: &str, lines: &str| good(format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n").as_bytes()).0.close;
    assert!(!close("1.1", ""));
    assert!(close("1.1", "Connection: close\r\n"));
    assert!(close("1.1", "Connection: ,, CLOSE ,\r\n"));
    assert!(close("1.1", "Connection: keep-alive\r\nConnection: close\r\n"));
    assert!(!close("1.1", "Connection: closed, keep-alive\r\n"));
    assert!(close("1.0", ""));
    assert!(!close("1.0", "Connection: Keep-Alive\r\n"));
    assert!(close("1.0", "Connection: keep-alive, close\r\n"));
    assert!(close("1.0", "Proxy-Connection: keep-alive\r\n"));
}

#[test]
fn fields_that_connection_names_are_not_passed_on() {
    let buf = with(
        "Connection: close, X-Hop , te\r\nx-hop: 1\r\nX-Hop-Not: 2\r\nX-HOP: 3\r\nTE: trailers\r\nConnection: x-other\r\nX-Other: 1\r\n",
    );
    let (_, fields) = good(&buf);
    assert_eq!(kept(&buf, &fields), [&b"Host"[..], b"Connection", b"X-Hop-Not", b"Connection"]);
}

#[test]
fn connection_must_not_name_what_matters() {
    for name in [
        "Host",
        "Content-Length",
        "transfer-encoding",
        "Authorization",
        "Cookie",
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "x-forwarded-host",
        "x-forwarded-port",
        "Forwarded",
        "X-Real-IP",
        "X-Request-Id",
        "traceparent",
        "tracestate",
        "X-Consumer-Name",
        "x_consumer_name",
        "Via",
        "Expect",
        "Content-Type",
        "Content-Encoding",
        "Cache-Control",
        "Origin",
    ] {
        refused(&with(&format!("Connection: keep-alive, {name}\r\n")), Reason::BadRequest);
    }
    for value in ["a b", "a;b", "\"close\"", "a=b", "close\u{a0}", "a/b"] {
        refused(&with(&format!("Connection: {value}\r\n")), Reason::BadRequest);
    }
    let many: Vec<_> = (0..17).map(|n| format!("x-{n}")).collect();
    good(&with(&format!("Connection: {}\r\n", many[..16].join(","))));
    refused(&with(&format!("Connection: {}\r\n", many.join(","))), Reason::BadRequest);
    refused(&with(&format!("Connection: {}\r\n", ",".repeat(40))), Reason::BadRequest);
}

#[test]
fn an_upgrade_is_one_that_connection_names() {
    let upgrade = |text: &str| good(text.as_bytes()).0.upgrade.map(|span| text[span.range()].to_owned());
    let ask = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\r\n";
    assert_eq!(upgrade(ask).as_deref(), Some("websocket"));
    assert_eq!(upgrade(&ask.replace("keep-alive, Upgrade", "keep-alive")), None);
    assert_eq!(upgrade(&ask.replace("HTTP/1.1", "HTTP/1.0")), None);
    assert_eq!(upgrade(&ask.replace("Upgrade: websocket\r\n", "")), None);
    refused(ask.replace("Upgrade: websocket", "Upgrade: websocket\r\nUpgrade: h2c").as_bytes(), Reason::BadRequest);
    refused(ask.replace("Upgrade: websocket", "Upgrade:").as_bytes(), Reason::BadRequest);
    good(
        ask.replace("websocket", "h2c")
            .replace("Upgrade\r\n", "Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n")
            .as_bytes(),
    );
}

#[test]
fn only_100_continue_can_be_expected() {
    let expects = |lines: &str| good(&with(lines)).0.expect_continue;
    assert!(expects("Expect: 100-continue\r\nContent-Length: 1\r\n"));
    assert!(expects("Expect: 100-CONTINUE\r\nTransfer-Encoding: chunked\r\n"));
    assert!(!expects("Expect: 100-continue\r\n"), "nothing is waited for without a body");
    assert!(!expects("Expect: 100-continue\r\nContent-Length: 0\r\n"));
    for lines in [
        "Expect: \r\n",
        "Expect: 100\r\n",
        "Expect: 200-ok\r\n",
        "Expect: 100-continue\r\nExpect: 100-continue\r\n",
        "Expect: 100-continue, x\r\n",
    ] {
        refused(&with(lines), Reason::BadExpectation);
    }
    assert!(!good(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n").0.expect_continue);
    assert!(!good(b"POST / HTTP/1.0\r\nExpect: x\r\nContent-Length: 1\r\n\r\n").0.expect_continue);
}

#[test]
fn forged_identity_and_underscores_are_marked_removed() {
    let buf = with(
        "X-Consumer-Name: root\r\nx_consumer_roles: a\r\nX_Forwarded_For: ::1\r\nTransfer_Encoding: chunked\r\nKeep_Alive: 1\r\na_b: c\r\na-b: d\r\n",
    );
    let (head, fields) = good(&buf);
    assert_eq!(head.body, BodyLength::None);
    assert_eq!(kept(&buf, &fields), [&b"Host"[..], b"a-b"]);
    let (_, fields) = parse_within(&buf, &Bounds { keep_underscores: true, ..Bounds::default() }).unwrap().unwrap();
    assert_eq!(kept(&buf, &fields), [&b"Host"[..], b"a_b", b"a-b"], "twins of guarded names are never kept");
}

#[test]
fn bounds_hold_exactly_and_early() {
    let target = Bounds { target: 10, ..Bounds::default() };
    let line = |n: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(n - 1)).into_bytes();
    assert!(parse_within(&line(10), &target).unwrap().is_some());
    assert_eq!(parse_within(&line(11), &target), Err(Reason::TargetTooLong));
    assert_eq!(parse_within(format!("GET /{}", "x".repeat(40)).as_bytes(), &target), Err(Reason::TargetTooLong));
    assert_eq!(
        parse_within(format!("GET /{} HTTP/1.1\r\nHost", "x".repeat(40)).as_bytes(), &target),
        Err(Reason::TargetTooLong)
    );
    assert_eq!(parse_within("M".repeat(33).as_bytes(), &target), Err(Reason::BadMethod));

    let whole = with("X: y\r\n");
    let head = |n| Bounds { head: n, ..Bounds::default() };
    assert!(parse_within(&whole, &head(whole.len())).unwrap().is_some());
    assert_eq!(parse_within(&whole, &head(whole.len() - 1)), Err(Reason::HeadTooLarge));
    assert_eq!(parse_within(&whole[..whole.len() - 1], &head(whole.len())), Ok(None));
    assert_eq!(parse_within(&whole[..whole.len() - 1], &head(whole.len() - 1)), Err(Reason::HeadTooLarge));

    for limit in [1, 2, 100, 128, 129, 1000] {
        let bounds = Bounds { fields: limit, ..Bounds::default() };
        let lines = |n: usize| with(&"X: y\r\n".repeat(n - 1));
        assert_eq!(parse_within(&lines(limit), &bounds).unwrap().unwrap().1.len(), limit);
        let mut over = lines(limit + 1);
        assert_eq!(parse_within(&over, &bounds), Err(Reason::TooManyFields));
        over.truncate(over.len() - 2);
        assert_eq!(parse_within(&over, &bounds), Err(Reason::TooManyFields), "before the head is complete");
    }
}

/// What a naive reader, line by line, finds in a head that was accepted.
fn check_naively(buf: &[u8], head: &RequestHead, fields: &[Field]) {
    let text = &buf[..head.len];
    let text = text.strip_prefix(b"\r\n").unwrap_or(text);
    let text: String = text.iter().map(|&b| char::from(b)).collect();
    let lines: Vec<_> = text.strip_suffix("\r\n\r\n").unwrap().split("\r\n").collect();
    assert!(
        lines
            .iter()
            .all(|line| !line.is_empty() && !line.contains(['\r', '\n', '\0']) && !line.starts_with([' ', '\t']))
    );
    let words: Vec<_> = lines[0].split(' ').collect();
    assert_eq!(words.len(), 3);
    assert_eq!(words[2], format!("HTTP/1.{}", head.version - 10));
    assert_eq!(lines.len() - 1, fields.len());
    for (line, field) in lines[1..].iter().zip(fields) {
        let (name, value) = line.split_once(':').unwrap();
        let latin = |span: Span| buf[span.range()].iter().map(|&b| char::from(b)).collect::<String>();
        assert_eq!(latin(field.name), name);
        let value = value.trim_matches([' ', '\t']);
        if field.id == FieldId::ContentLength {
            assert_eq!(latin(field.value).parse::<u64>(), value.parse::<u64>());
        } else {
            assert_eq!(latin(field.value), value);
        }
    }
}

/// Whole and split at every place: the same head, or a refusal both times. One that is incomplete may be refused later when split, but
/// no later than when it is complete.
fn check_splits(buf: &[u8], bounds: &Bounds) {
    let whole = parse_within(buf, bounds);
    if let Ok(Some((head, fields))) = &whole {
        check_naively(buf, head, fields);
    }
    let ended = [buf, b"\r\n\r\n"].concat();
    let check = |mut places: &mut dyn Iterator<Item = usize>| {
        let mut scan = Scan::default();
        let split = (&mut places).find_map(|end| read_on(&buf[..end], bounds, &mut scan).transpose()).transpose();
        match (&whole, split) {
            (Ok(whole), Ok(split)) => assert_eq!(*whole, split, "{}", buf.escape_ascii()),
            (Err(_), Err(_)) => {}
            (Err(_), Ok(None)) => assert!(read_on(&ended, bounds, &mut scan).is_err(), "{}", buf.escape_ascii()),
            (whole, split) => panic!("whole {whole:?}, split {split:?}: {}", buf.escape_ascii()),
        }
    };
    for place in 0..buf.len() {
        check(&mut [place, buf.len()].into_iter());
    }
    check(&mut (0..=buf.len()));
}

pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % n as u64).unwrap()
    }

    /// A message of pieces that go wrong together in interesting ways, sometimes with a byte changed.
    pub(crate) fn message(&mut self, pieces: &[&str]) -> Vec<u8> {
        let mut out: Vec<u8> = (0..self.below(14)).flat_map(|_| pieces[self.below(pieces.len())].bytes()).collect();
        self.damage(&mut out);
        out
    }

    pub(crate) fn damage(&mut self, out: &mut [u8]) {
        if !out.is_empty() && self.below(3) == 0 {
            let at = self.below(out.len());
            out[at] = b"\0\r\n\t :,;0a\x7f\xff"[self.below(12)];
        }
    }
}

#[test]
fn split_anywhere_a_request_reads_the_same() {
    let pieces = [
        "\r\n",
        "\r\n",
        "\r\n\r\n",
        "GET / HTTP/1.1\r\n",
        "POST /a?b HTTP/1.1\r\n",
        "GET http://a/ HTTP/1.0\r\n",
        "X / HTTP/2.0\r\n",
        "\r",
        "\n",
        " ",
        "Host: a\r\n",
        "Content-Length: 5\r\n",
        "Content-Length:07\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Connection: close, x-a\r\n",
        "x-a: \t\r\n",
        "X_A:b \r\n",
        "Upgrade: websocket\r\nConnection: upgrade\r\n",
        "Expect: 100-continue\r\n",
        "X-Consumer-Name: a\r\n",
        ":",
        "a",
    ];
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let small = Bounds { head: 96, fields: 4, target: 8, keep_underscores: false };
    let mut complete = 0;
    for round in 0..1200 {
        let mut buf = random.message(&pieces);
        if round % 2 == 0 {
            let mut start = b"GET /a HTTP/1.1\r\nHost: a\r\n".to_vec();
            start.extend_from_slice(&buf);
            buf = start;
        }
        check_splits(&buf, &Bounds::default());
        check_splits(&buf, &small);
        complete += usize::from(matches!(parse(&buf), Ok(Some(_))));
    }
    assert!(complete > 60, "only {complete} of the messages were good");
}

#[test]
fn arbitrary_bytes_are_read_or_refused() {
    let mut random = Random(7);
    for _ in 0..800 {
        let mut buf: Vec<u8> = (0..random.below(60)).map(|_| random.below(256).to_le_bytes()[0]).collect();
        check_splits(&buf, &Bounds::default());
        buf.splice(0..0, *b"GET / HTTP/1.1\r\nHost: a\r\n");
        check_splits(&buf, &Bounds::default());
    }
}

#[test]
fn a_head_that_arrives_byte_by_byte_is_not_read_again_each_time() {
    let lines = "X-Long-Enough: with a value that takes some time\r\n".repeat(90);
    let buf = with(&lines);
    let (mut scan, mut fields) = (Scan::default(), Vec::new());
    for end in 1..buf.len() {
        assert_eq!(parse_request(&buf[..end], &Bounds::default(), &mut scan, &mut fields), Ok(None));
        assert!(fields.is_empty(), "nothing is indexed before the head is complete");
        assert!(end - scan.at <= 1, "what was looked at is not looked at again");
    }
    assert!(parse_request(&buf, &Bounds::default(), &mut scan, &mut fields).unwrap().is_some());
    assert!(scan.is_fresh());
}
