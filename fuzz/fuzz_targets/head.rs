//! Request heads: whole and in pieces they read the same, what is accepted is what a strict reader takes, and what is sent on reads as
//! what came.
#![no_main]

use daemun_dataplane::http1::parse::{BodyLength, Bounds, RequestHead, Scan, parse_request};
use daemun_dataplane::http1::request::read_target;
use daemun_fuzz::{cuts, heads};
use daemun_pipeline::head::Field;
use daemun_pipeline::{Reason, Request};
use libfuzzer_sys::fuzz_target;

const SMALL: Bounds = Bounds { head: 200, fields: 4, target: 20, keep_underscores: false };
const LARGE: Bounds = Bounds { head: 1 << 20, fields: 10_000, target: 1 << 20, keep_underscores: true };

type Read = Result<Option<RequestHead>, Reason>;

fuzz_target!(|data: &[u8]| {
    let [options, one, other, buf @ ..] = data else { return };
    let bounds = if options & 1 == 0 { Bounds::default() } else { SMALL };
    let bounds = Bounds { keep_underscores: options & 2 != 0, ..bounds };
    let mut fields = Vec::new();
    let whole = read(buf, &bounds, &mut Scan::default(), &mut fields);
    in_pieces(buf, &bounds, &whole, &fields, &mut cuts(buf.len(), *one, *other).into_iter());
    in_pieces(buf, &bounds, &whole, &fields, &mut (0..=buf.len()));
    if let Ok(Some(head)) = whole {
        judge(&buf[..head.len], &bounds, &head, &fields);
        send_on(&buf[..head.len], &head, &fields);
        target(&buf[..head.len], &head, fields);
    }
});

fn read(buf: &[u8], bounds: &Bounds, scan: &mut Scan, fields: &mut Vec<Field>) -> Read {
    parse_request(buf, bounds, scan, fields).map_err(|fault| fault.reason)
}

/// The same head, or a refusal both times. One that is incomplete may be refused later in pieces, but no later than when it ends.
fn in_pieces(buf: &[u8], bounds: &Bounds, whole: &Read, fields: &[Field], ends: &mut dyn Iterator<Item = usize>) {
    let (mut scan, mut again) = (Scan::default(), Vec::new());
    let mut pieces = Ok(None);
    for end in ends {
        pieces = read(&buf[..end], bounds, &mut scan, &mut again);
        if pieces != Ok(None) {
            break;
        }
    }
    match (whole, &pieces) {
        (Ok(Some(_)), _) => {
            assert_eq!(*whole, pieces);
            assert_eq!(format!("{fields:?}"), format!("{again:?}"));
        }
        (Err(_), Err(_)) => {}
        (Err(_), Ok(None)) => assert!(read(&[buf, b"\r\n\r\n"].concat(), bounds, &mut scan, &mut again).is_err()),
        (whole, pieces) => assert_eq!(whole, pieces),
    }
}

/// Holds an accepted head against the strict reader.
fn judge(buf: &[u8], bounds: &Bounds, head: &RequestHead, fields: &[Field]) {
    let lines = heads::lines(buf.strip_prefix(b"\r\n").unwrap_or(buf)).expect("what is accepted is strict");
    lines.check_index(buf, fields);
    let (method, target) = (&buf[head.method_span.range()], &buf[head.target.range()]);
    let version = format!("HTTP/1.{}", head.version - 10);
    assert_eq!(lines.first, [method, target, version.as_bytes()].join(&b' '));
    assert!(heads::is_token(method) && method.len() <= 32);
    assert!(!target.is_empty() && target.iter().all(|&byte| byte > 0x20 && byte != 0x7F));
    assert!(buf.len() <= bounds.head && fields.len() <= bounds.fields && target.len() <= bounds.target);
    assert_eq!(head.body, lines.framing(head.version).expect("what is accepted has one framing"));
    match lines.values("host").as_slice() {
        [] => assert!(head.version == 10 && head.host.is_empty()),
        [host] => assert!(!host.is_empty() && &buf[head.host.range()] == *host),
        _ => panic!("a host that is repeated was accepted"),
    }
    let persistent = head.version == 11 || lines.has_option("keep-alive");
    assert_eq!(head.close, lines.has_option("close") || !persistent);
    let upgrade = if head.version == 11 && lines.has_option("upgrade") { lines.values("upgrade") } else { Vec::new() };
    assert!(upgrade.len() <= 1);
    assert_eq!(head.upgrade.map(|span| &buf[span.range()]), upgrade.first().copied());
    let waits = head.version == 11 && !matches!(head.body, BodyLength::None | BodyLength::Length(0));
    assert_eq!(head.expect_continue, waits && !lines.values("expect").is_empty());
    let own = ["close", "keep-alive", "upgrade"].map(|word| word.as_bytes().to_vec());
    let named: Vec<_> = lines.options().into_iter().filter(|option| !own.contains(option)).collect();
    for (name, _) in heads::kept(buf, fields) {
        assert!(!heads::is_identity(name));
        assert!(bounds.keep_underscores || !name.contains(&b'_'));
        assert!(!named.contains(&name.to_ascii_lowercase()), "{} is named in `connection`", name.escape_ascii());
    }
}

/// What a next reader sees of the head that is sent on, is what was read here.
fn send_on(buf: &[u8], head: &RequestHead, fields: &[Field]) {
    let bytes = |span: daemun_pipeline::Span| &buf[span.range()];
    let version = format!("HTTP/1.{}", head.version - 10);
    let first = [bytes(head.method_span), bytes(head.target), version.as_bytes()].join(&b' ');
    let kept = heads::kept(buf, fields);
    let sent = heads::written(&first, &kept);
    let mut again = Vec::new();
    let next = read(&sent, &LARGE, &mut Scan::default(), &mut again).expect("it can be read").expect("it is complete");
    assert_eq!((next.len, next.body, next.expect_continue), (sent.len(), head.body, head.expect_continue));
    assert_eq!(&sent[next.host.range()], bytes(head.host));
    assert_eq!(heads::kept(&sent, &again), kept);
}

/// Where the request goes: a path, and a host that is a name or an address.
fn target(buf: &[u8], head: &RequestHead, fields: Vec<Field>) {
    let mut request = Request::default();
    request.head.buf = buf.to_vec();
    request.head.fields = fields;
    if read_target(&mut request, head).is_err() {
        return;
    }
    let (path, host) = (request.head.bytes(request.path), request.head.bytes(request.host));
    assert!(path.starts_with(b"/") && path.iter().all(|&byte| (0x21..0x7F).contains(&byte) && byte != b'?'));
    let query = request.query.map(|query| request.head.bytes(query));
    assert!(query.is_none_or(|query| query.iter().all(|&byte| (0x21..0x7F).contains(&byte))));
    let joined = query.map_or(path.to_vec(), |query| [path, query].join(&b'?'));
    assert_eq!(joined, request.head.bytes(request.target));
    match host {
        [] => assert!(head.version == 10 && head.host.is_empty()),
        [b'[', .., b']'] => assert!(host.iter().all(|byte| byte.is_ascii_hexdigit() || b"[]:.".contains(byte))),
        _ => assert!(host.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~'))),
    }
    let sent = request.head.bytes(request.authority).to_ascii_lowercase();
    assert!(sent.starts_with(host));
    assert!(head.host.is_empty() || sent == request.head.bytes(head.host).to_ascii_lowercase());
}
