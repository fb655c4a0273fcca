//! Response heads: whole and in pieces they read the same, what is accepted is what a strict reader takes, and what is sent on reads as
//! what came.
#![no_main]

use daemun_dataplane::http1::parse::{BodyLength, Bounds, Scan};
use daemun_dataplane::http1::response::{ResponseHead, parse_response};
use daemun_fuzz::{cuts, heads};
use daemun_pipeline::Reason;
use daemun_pipeline::head::Field;
use libfuzzer_sys::fuzz_target;

const SMALL: Bounds = Bounds { head: 200, fields: 4, target: 20, keep_underscores: false };
const LARGE: Bounds = Bounds { head: 1 << 20, fields: 10_000, target: 1 << 20, keep_underscores: true };

type Read = Result<Option<ResponseHead>, Reason>;

fuzz_target!(|data: &[u8]| {
    let [options, one, other, buf @ ..] = data else { return };
    let bounds = if options & 1 == 0 { Bounds::default() } else { SMALL };
    let to_head = options & 2 != 0;
    let mut fields = Vec::new();
    let whole = read(buf, &bounds, &mut Scan::default(), &mut fields, to_head);
    let ends = cuts(buf.len(), *one, *other);
    in_pieces(buf, &bounds, to_head, (&whole, &fields), &mut ends.into_iter());
    in_pieces(buf, &bounds, to_head, (&whole, &fields), &mut (0..=buf.len()));
    if let Ok(Some(head)) = whole {
        judge(&buf[..head.len], &bounds, to_head, &head, &fields);
        send_on(&buf[..head.len], to_head, &head, &fields);
    }
});

fn read(buf: &[u8], bounds: &Bounds, scan: &mut Scan, fields: &mut Vec<Field>, to_head: bool) -> Read {
    parse_response(buf, bounds, scan, fields, to_head).map_err(|fault| fault.reason)
}

/// The same head, or a refusal both times. One that is incomplete may be refused later in pieces, but no later than when it ends.
fn in_pieces(
    buf: &[u8],
    bounds: &Bounds,
    to_head: bool,
    (whole, fields): (&Read, &[Field]),
    ends: &mut dyn Iterator<Item = usize>,
) {
    let (mut scan, mut again) = (Scan::default(), Vec::new());
    let mut pieces = Ok(None);
    for end in ends {
        pieces = read(&buf[..end], bounds, &mut scan, &mut again, to_head);
        if pieces != Ok(None) {
            break;
        }
    }
    match (whole, &pieces) {
        (Ok(Some(_)), _) => {
            assert_eq!(*whole, pieces);
            assert_eq!(format!("{fields:?}"), format!("{again:?}"));
        }
        (Err(_), Ok(None)) => {
            assert!(read(&[buf, b"\r\n\r\n"].concat(), bounds, &mut scan, &mut again, to_head).is_err());
        }
        (whole, pieces) => assert_eq!(whole, pieces),
    }
}

/// Holds an accepted head against the strict reader.
fn judge(buf: &[u8], bounds: &Bounds, to_head: bool, head: &ResponseHead, fields: &[Field]) {
    let lines = heads::lines(buf).expect("what is accepted is strict");
    lines.check_index(buf, fields);
    let reason = &buf[head.reason.range()];
    let status = format!("HTTP/1.{} {}", head.version - 10, head.status);
    let rest = lines.first.strip_prefix(status.as_bytes()).expect("the version and the status");
    assert!(rest.is_empty() && reason.is_empty() || rest.strip_prefix(b" ") == Some(reason));
    assert!(reason.iter().all(|&byte| byte == b'\t' || byte >= 0x20 && byte != 0x7F));
    assert!((100..=599).contains(&head.status) && matches!(head.version, 10 | 11));
    assert!(buf.len() <= bounds.head && fields.len() <= bounds.fields);
    let said = lines.framing(head.version).expect("what is accepted has one framing");
    let bodiless = head.status < 200 || head.status == 204;
    let body = match said {
        _ if bodiless || to_head || head.status == 304 => BodyLength::None,
        BodyLength::None => BodyLength::UntilClose,
        said => said,
    };
    assert_eq!(head.body, body);
    let persistent = !lines.has_option("close") && (head.version == 11 || lines.has_option("keep-alive"));
    let surplus = bodiless && !matches!(said, BodyLength::None | BodyLength::Length(0));
    assert_eq!(head.close, !persistent || surplus || body == BodyLength::UntilClose);
    let upgrade = if head.status == 101 { lines.values("upgrade") } else { Vec::new() };
    assert_eq!(head.status == 101, upgrade.len() == 1 && !upgrade[0].is_empty() && lines.has_option("upgrade"));
    assert_eq!(head.upgrade.map(|span| &buf[span.range()]), upgrade.first().copied());
    let own = ["close", "keep-alive", "upgrade"].map(|word| word.as_bytes().to_vec());
    let named: Vec<_> = lines.options().into_iter().filter(|option| !own.contains(option)).collect();
    for (name, _) in heads::kept(buf, fields) {
        assert!(!named.contains(&name.to_ascii_lowercase()), "{} is named in `connection`", name.escape_ascii());
        assert!(!bodiless || !name.eq_ignore_ascii_case(b"content-length"));
    }
}

/// What a next reader sees of the fields that are sent on, is what was read here.
fn send_on(buf: &[u8], to_head: bool, head: &ResponseHead, fields: &[Field]) {
    if head.status == 101 {
        return;
    }
    let kept = heads::kept(buf, fields);
    let sent = heads::written(format!("HTTP/1.{} {} ", head.version - 10, head.status).as_bytes(), &kept);
    let mut again = Vec::new();
    let next = read(&sent, &LARGE, &mut Scan::default(), &mut again, to_head);
    let next = next.expect("it can be read").expect("it is complete");
    assert_eq!(next.len, sent.len());
    assert_eq!(heads::kept(&sent, &again), kept);
    // `Connection` may name `Transfer-Encoding`; the field the next server needs is written anew.
    let coded = kept.iter().any(|(name, _)| name.eq_ignore_ascii_case(b"transfer-encoding"));
    if head.body != BodyLength::Chunked || coded {
        assert_eq!(next.body, head.body);
    }
}
