use super::super::parse::{Scan, parse_request};
use super::*;

use daemun_pipeline::head::Field;

fn read(text: &str) -> Result<Request, Reason> {
    let mut request = Request::default();
    let head = parse_request(text.as_bytes(), &Bounds::default(), &mut Scan::default(), &mut request.head.fields)
        .map_err(|fault| fault.reason)?
        .expect("the head is complete");
    request.head.buf.extend_from_slice(&text.as_bytes()[..head.len]);
    read_target(&mut request, &head).map_err(|fault| fault.reason)?;
    Ok(request)
}

fn get(target: &str) -> Result<Request, Reason> {
    read(&format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n"))
}

fn host(host: &str) -> Result<(String, String), Reason> {
    let request = read(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))?;
    Ok((request.host_text().to_owned(), request.text(request.authority).to_owned()))
}

fn seen(request: &Request) -> (&str, &str, Option<&str>, &str, &str) {
    (
        request.text(request.target),
        request.path_text(),
        request.query_text(),
        request.host_text(),
        request.text(request.authority),
    )
}

#[test]
fn a_path_target_falls_into_path_and_query() {
    for (sent, path, query) in [
        ("/", "/", None),
        ("/a/b", "/a/b", None),
        ("/a?", "/a", Some("")),
        ("/a?b=c&d", "/a", Some("b=c&d")),
        ("/a?b?c", "/a", Some("b?c")),
        ("//a", "//a", None),
        ("/%7e/%2e?%00", "/%7e/%2e", Some("%00")),
        ("/a?b[]={c}|d\"<>`^\\", "/a", Some("b[]={c}|d\"<>`^\\")),
    ] {
        assert_eq!(seen(&get(sent).unwrap()), (sent, path, query, "a.example", "a.example"));
    }
}

#[test]
fn an_absolute_target_agrees_with_the_host() {
    for (sent, target, path, query) in [
        ("http://a.example/b?c", "/b?c", "/b", Some("c")),
        ("HTTPS://A.Example/b", "/b", "/b", None),
        ("http://a.example", "/", "/", None),
        ("http://a.example?c", "/?c", "/", Some("c")),
        ("http://a.example//b", "//b", "//b", None),
    ] {
        let request = get(sent).unwrap();
        let (t, p, q, h, authority) = seen(&request);
        assert_eq!((t, p, q, h), (target, path, query, "a.example"), "{sent}");
        assert!(authority.eq_ignore_ascii_case("a.example"));
    }
    let request = read("GET http://a.example:81/b HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(seen(&request), ("/b", "/b", None, "a.example", "a.example:81"));
    for sent in [
        "http://b.example/",
        "http://a.example:80/",
        "http://a.example./",
        "http://x@a.example/",
        "http://a.example@b/",
        "http:///b",
        "http://",
        "http://?a",
        "http://a.example\\b/",
        "http://a.example:/",
        "http://[a.example]/",
    ] {
        assert_eq!(get(sent).map(|_| ()), Err(Reason::BadHost), "{sent}");
    }
    assert_eq!(
        read("GET http://x@a/ HTTP/1.1\r\nHost: x@a\r\n\r\n").map(|_| ()),
        Err(Reason::BadHost),
        "also when both agree"
    );
    assert_eq!(read("GET / HTTP/1.0\r\n\r\n").map(|r| r.host_text().to_owned()), Ok(String::new()));
}

#[test]
fn other_targets_are_refused() {
    for sent in [
        "*",
        "a",
        "a.example:443",
        "ftp://a.example/",
        "http:/a",
        "http:a",
        "https//a.example/",
        "ws://a.example/",
        "?a",
        "\\",
        "/a#b",
        "/#",
        "/a?b#c",
        "/\u{e9}",
        "/?\u{e9}",
    ] {
        assert_eq!(get(sent).map(|_| ()), Err(Reason::BadPath), "{sent}");
    }
    assert_eq!(read("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").map(|_| ()), Err(Reason::BadPath));
    for sent in ["a.example:443", "/", "http://a.example/"] {
        assert_eq!(
            read(&format!("CONNECT {sent} HTTP/1.1\r\nHost: a.example\r\n\r\n")).map(|_| ()),
            Err(Reason::BadMethod)
        );
    }
}

#[test]
fn a_host_is_matched_in_lower_case_without_port_and_root_dot() {
    for (sent, matched) in [
        ("a", "a"),
        ("A.Example", "a.example"),
        ("a.example.", "a.example"),
        ("a.example.:8080", "a.example"),
        ("a.example:1", "a.example"),
        ("a.example:65535", "a.example"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("my_service-1", "my_service-1"),
        ("[::1]", "[::1]"),
        ("[2001:DB8::1]:8443", "[2001:db8::1]"),
        ("[::ffff:1.2.3.4]", "[::ffff:1.2.3.4]"),
        ("xn--80ak6aa92e.com", "xn--80ak6aa92e.com"),
    ] {
        assert_eq!(host(sent), Ok((matched.to_owned(), sent.to_owned())));
    }
}

#[test]
fn a_malformed_host_is_refused() {
    let long = "a.".repeat(127);
    for sent in [
        ".",
        "..",
        ".a",
        "a..b",
        "a..",
        ":80",
        "a:",
        "a:0",
        "a:65536",
        "a:00080",
        "a:000080",
        "a:+80",
        "a:8a",
        "a:80:80",
        "a:80,b",
        "a b",
        "a,b",
        "a;b",
        "a/b",
        "a?b",
        "a#b",
        "a\\b",
        "a@b",
        "x@a",
        "%61",
        "a%00",
        "a%2eb",
        "[",
        "[]",
        "[a]",
        "[::1",
        "::1",
        "[::1]a",
        "[::1]:",
        "[::1%25eth0]",
        "[v1.a]",
        "[1.2.3.4]",
        "[::1]]",
        "a]",
        "(a)",
        "a*",
        "*",
        "a\u{e9}",
        "a\tb",
        "http://a",
        "\"a\"",
        "<a>",
        "a&b",
        "a=b",
        "a'b",
        "a!b",
        "a$b",
        "a+b",
        "{a}",
        "a|b",
        "a^b",
        "a`b",
    ] {
        assert_eq!(host(sent).map(|_| ()), Err(Reason::BadHost), "{sent:?}");
    }
    assert!(host(&long).is_ok());
    assert_eq!(host(&format!("{long}a")).map(|_| ()), Err(Reason::BadHost));
}

#[test]
fn nothing_is_appended_where_nothing_must_be() {
    let text = "GET /a?b HTTP/1.1\r\nHost: a.example:80\r\n\r\n";
    assert_eq!(read(text).unwrap().head.buf, text.as_bytes());
}

/// A request of HTTP/2 with these fields.
fn h2(authority: Option<&str>, path: &str, fields: &[(&str, &str)]) -> Result<(Request, Parts), Reason> {
    h2_within(&Bounds::default(), "POST", authority, path, fields)
}

fn h2_within(
    bounds: &Bounds,
    method: &str,
    authority: Option<&str>,
    path: &str,
    fields: &[(&str, &str)],
) -> Result<(Request, Parts), Reason> {
    let mut request = Request::default();
    for (name, value) in fields {
        let id = check_h2_field(name.as_bytes(), value.as_bytes()).map_err(|fault| fault.reason)?;
        let (name, value) = (request.head.store(name.as_bytes()), request.head.store(value.as_bytes()));
        request.head.fields.push(Field { name, value, id, removed: false });
    }
    let parts = read_parts(&mut request, bounds, method.as_bytes(), authority.map(str::as_bytes), path.as_bytes())
        .map_err(|fault| fault.reason)?;
    Ok((request, parts))
}

#[test]
fn pseudo_fields_give_the_same_request() {
    let (request, parts) = h2(
        Some("A.Example:443"),
        "/a?b",
        &[
            ("content-length", "012"),
            ("expect", "100-continue"),
            ("x-consumer-name", "a"),
            ("x_y", "b"),
            ("te", "trailers"),
        ],
    )
    .unwrap();
    assert_eq!(seen(&request), ("/a?b", "/a", Some("b"), "a.example", "A.Example:443"));
    assert_eq!(
        (request.method, request.method_text(), request.version, request.grpc),
        (Method::Post, "POST", 20, false)
    );
    assert_eq!(parts, Parts { length: Some(12), expect_continue: true });
    let kept: Vec<_> = request.head.iter().map(|(_, name, value)| (name, value)).collect();
    assert_eq!(kept, [(&b"content-length"[..], &b"12"[..]), (b"expect", b"100-continue"), (b"te", b"trailers")]);
    let (request, _) = h2(None, "/", &[("host", "b.example")]).unwrap();
    assert_eq!((request.host_text(), request.text(request.authority)), ("b.example", "b.example"));
    h2(Some("B.example"), "/", &[("host", "b.example")]).unwrap();
}

#[test]
fn pseudo_fields_are_held_to_the_same_rules() {
    let refused = |authority, path, fields: &[(&str, &str)]| h2(authority, path, fields).map(|_| ()).unwrap_err();
    let a = Some("a");
    assert_eq!(refused(None, "/", &[]), Reason::BadHost);
    assert_eq!(refused(Some(""), "/", &[]), Reason::BadHost);
    assert_eq!(refused(Some("x@a"), "/", &[]), Reason::BadHost);
    assert_eq!(refused(a, "/", &[("host", "b")]), Reason::BadHost);
    assert_eq!(refused(a, "/", &[("host", "a:80")]), Reason::BadHost);
    assert_eq!(refused(a, "/", &[("host", "a"), ("host", "a")]), Reason::BadHost);
    for path in ["", "*", "a", "http://a/", "/a b", "/a\r\n", "/a#b", "/\u{e9}", "/\0", "/\x7f"] {
        assert_eq!(refused(a, path, &[]), Reason::BadPath, "{path:?}");
    }
    assert_eq!(refused(a, "/", &[("content-length", "1"), ("content-length", "1")]), Reason::BadRequest);
    assert_eq!(refused(a, "/", &[("content-length", "+1")]), Reason::BadRequest);
    assert_eq!(refused(a, "/", &[("expect", "x")]), Reason::BadExpectation);
    let tight = Bounds { fields: 1, target: 2, ..Bounds::default() };
    let within = |method, path, fields: &[(&str, &str)]| h2_within(&tight, method, a, path, fields).map(|_| ());
    assert_eq!(within("GET", "/a", &[("x", "y")]), Ok(()));
    assert_eq!(within("GET", "/ab", &[]), Err(Reason::TargetTooLong));
    assert_eq!(within("GET", "/", &[("x", "y"), ("x", "y")]), Err(Reason::TooManyFields));
    for method in ["", "G T", "G\r\n", "CONNECT", &"M".repeat(33)] {
        assert_eq!(within(method, "/", &[]), Err(Reason::BadMethod), "{method:?}");
    }
}

#[test]
fn fields_that_http2_forbids_are_refused() {
    for (name, value) in [
        ("connection", "close"),
        ("keep-alive", "1"),
        ("proxy-connection", "close"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("http2-settings", "a"),
        ("te", "gzip"),
        ("te", "trailers, gzip"),
        ("te", ""),
        ("X-A", "b"),
        ("", "b"),
        (":path", "/"),
        ("x a", "b"),
        ("x\r\n", "b"),
        ("x\u{e9}", "b"),
        ("x:", "b"),
        ("x", " b"),
        ("x", "b "),
        ("x", "\tb"),
        ("x", "b\t"),
        ("x", " "),
        ("x", "a\r\nb: c"),
        ("x", "a\0"),
        ("x", "a\n"),
        ("x", "\x7f"),
    ] {
        assert_eq!(
            check_h2_field(name.as_bytes(), value.as_bytes()).map_err(|f| f.reason),
            Err(Reason::BadRequest),
            "{name:?}: {value:?}"
        );
    }
    assert_eq!(check_h2_field(b"x-a", b"a\tb c"), Ok(FieldId::Other));
    assert_eq!(check_h2_field(b"x", b""), Ok(FieldId::Other));
    assert_eq!(check_h2_field(b"te", b"trailers"), Ok(FieldId::Te));
    assert_eq!(check_h2_field(b"proxy", b"x"), Ok(FieldId::Proxy), "it is dropped, not refused");
}

#[test]
fn grpc_is_told_by_its_media_type() {
    for (media_type, grpc) in [
        ("application/grpc", true),
        ("application/grpc+proto", true),
        ("application/grpc; charset=utf-8", true),
        ("application/grpc-web", false),
        ("application/json", false),
        ("application/grpcx", false),
    ] {
        assert_eq!(h2(Some("a"), "/", &[("content-type", media_type)]).unwrap().0.grpc, grpc, "{media_type}");
    }
}
