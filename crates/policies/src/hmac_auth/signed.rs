//! What a signature is made over, out of the request as it came, and when it was made. Knows no key.

use std::time::UNIX_EPOCH;

use daemun_pipeline::Exchange;

use super::SECOND;
use super::presented::Presented;

/// The target as clients of Kong name it: what `(request-target)` is, under this name.
const TARGET: &str = "@request-target";
/// The first line of the request as clients of Kong sign it.
const LINE: &str = "request-line";

/// Whether a signature covers what is required.
pub(super) fn covers(presented: &Presented<'_>, part: &str) -> bool {
    presented.covers(part)
        || part == "(request-target)" && (presented.covers(TARGET) || presented.covers(LINE))
        || part == "date" && presented.covers("x-date")
}

/// Hands the text that is signed to `sink`, piece by piece (section 2.3); `None` when the request does not have all of it.
pub(super) fn write(presented: &Presented<'_>, exchange: &Exchange, sink: &mut impl FnMut(&[u8])) -> Option<()> {
    let request = &exchange.request;
    for (at, part) in presented.parts().enumerate() {
        if at > 0 {
            sink(b"\n");
        }
        if part == LINE {
            sink(request.head.bytes(request.method_span));
            sink(b" ");
            sink(request.head.bytes(request.target));
            sink(match request.version {
                10 => b" HTTP/1.0",
                20 => b" HTTP/2.0",
                _ => b" HTTP/1.1",
            });
            continue;
        }
        sink(part.as_bytes());
        sink(b": ");
        match part {
            "(request-target)" | TARGET => {
                for byte in request.head.bytes(request.method_span) {
                    sink(&[byte.to_ascii_lowercase()]);
                }
                sink(b" ");
                sink(request.head.bytes(request.target));
            }
            "(created)" => number(presented.created?, sink),
            "(expires)" => number(presented.expires?, sink),
            // over HTTP/2 it is no field
            "host" if !request.authority.is_empty() => sink(request.head.bytes(request.authority)),
            name => fields(exchange, name, sink)?,
        }
    }
    Some(())
}

/// The values of a field as one.
fn fields(exchange: &Exchange, name: &str, sink: &mut impl FnMut(&[u8])) -> Option<()> {
    let mut any = false;
    for value in exchange.request.head.values(name) {
        if any {
            sink(b", ");
        }
        sink(value);
        any = true;
    }
    any.then_some(())
}

fn number(number: u64, sink: &mut impl FnMut(&[u8])) {
    let mut digits = [0; 20];
    let (mut left, mut start) = (number, digits.len());
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(left % 10).unwrap_or_default();
        left /= 10;
        start -= 1;
        if left == 0 {
            break;
        }
    }
    sink(digits.get(start..).unwrap_or_default());
}

/// Why a signature is not of now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Untimely {
    /// It covers nothing that says when it was made.
    Unsigned,
    /// It was made too long ago, or not yet, or what says so cannot be read.
    Wrong,
}

/// When a signature was made, in nanoseconds since the Unix epoch; everything in it that says so must be within `skew` of now. Of several
/// times the latest counts: from it on, `skew` later, the signature is too old by all of them.
pub(super) fn time(presented: &Presented<'_>, exchange: &Exchange, skew: u64) -> Result<u64, Untimely> {
    let now = exchange.wall;
    let mut made = None;
    for part in presented.parts() {
        let seconds = match part {
            "date" | "x-date" => date(exchange, part).ok_or(Untimely::Wrong)?,
            "(created)" => presented.created.ok_or(Untimely::Wrong)?,
            _ => continue,
        };
        let at = seconds.checked_mul(SECOND).filter(|at| at.abs_diff(now) <= skew).ok_or(Untimely::Wrong)?;
        made = made.max(Some(at));
    }
    if presented.expires.is_some_and(|expires| expires.saturating_mul(SECOND) < now) {
        return Err(Untimely::Wrong);
    }
    made.ok_or(Untimely::Unsigned)
}

/// The one date of a field, in seconds since the Unix epoch.
fn date(exchange: &Exchange, name: &str) -> Option<u64> {
    let mut values = exchange.request.head.values(name);
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let date = httpdate::parse_http_date(std::str::from_utf8(value).ok()?).ok()?;
    date.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}
