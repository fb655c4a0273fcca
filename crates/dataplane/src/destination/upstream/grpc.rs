//! What the gateway knows of gRPC: how much time a call has, and how it is told that it failed. Reads no messages.

use bytes::Bytes;
use daemun_pipeline::{Exchange, Fault, Head};

use crate::timers::NEVER;

/// When a call must have ended, on the gateway's clock: its `grpc-timeout` from the moment its head came (gRPC over HTTP/2, "Requests").
pub(crate) fn deadline(exchange: &Exchange) -> u64 {
    let timeout = exchange.request.head.get("grpc-timeout").and_then(timeout);
    timeout.map_or(NEVER, |timeout| exchange.times.start.saturating_add(timeout))
}

/// At most eight digits and a unit, in nanoseconds; what is neither limits nothing, and the target judges it.
fn timeout(text: &[u8]) -> Option<u64> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let unit: u64 = match unit {
        b'H' => 3_600_000_000_000,
        b'M' => 60_000_000_000,
        b'S' => 1_000_000_000,
        b'm' => 1_000_000,
        b'u' => 1_000,
        b'n' => 1,
        _ => return None,
    };
    Some(number.saturating_mul(unit))
}

/// Makes the exchange's response out of a fault: a head only, whose status is HTTP's 200 and whose fields are gRPC's trailers.
pub(crate) fn from_fault(fault: &Fault, exchange: &mut Exchange) -> Bytes {
    exchange.response.status = 200;
    let head = &mut exchange.response.head;
    head.append("content-type", b"application/grpc");
    push_status(head, fault);
    for (name, value) in &fault.fields {
        head.append(name, value.as_bytes());
    }
    Bytes::new()
}

/// Adds the fields that tell a gRPC client how its call failed.
pub(crate) fn push_status(head: &mut Head, fault: &Fault) {
    head.append("grpc-status", fault.reason.grpc_status().to_string().as_bytes());
    head.append("grpc-message", &encoded(&fault.detail));
}

/// Percent-encodes everything but visible ASCII and the space (gRPC over HTTP/2, "Percent-Encoded").
fn encoded(text: &str) -> Vec<u8> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = Vec::with_capacity(text.len());
    for &b in text.as_bytes() {
        if (b' '..=b'~').contains(&b) && b != b'%' {
            out.push(b);
        } else {
            let digit = |n: u8| HEX.get(usize::from(n)).copied().unwrap_or(b'0');
            out.extend_from_slice(&[b'%', digit(b >> 4), digit(b & 15)]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use daemun_pipeline::Reason;

    use super::*;

    #[test]
    fn a_timeout_is_read_in_every_unit_and_nothing_else_is() {
        for (text, nanos) in [
            ("1H", 3_600_000_000_000),
            ("2M", 120_000_000_000),
            ("10S", 10_000_000_000),
            ("250m", 250_000_000),
            ("7u", 7_000),
            ("99999999n", 99_999_999),
            ("99999999H", u64::MAX),
        ] {
            assert_eq!(timeout(text.as_bytes()), Some(nanos), "{text}");
        }
        for text in ["", "S", "1", "1s", "-1S", "123456789S", "1.5S", " 1S"] {
            assert_eq!(timeout(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_fault_becomes_a_head_with_status_and_message() {
        let mut exchange = Exchange::default();
        let fault = Fault::new(Reason::RateLimited, "100 % of the limit\nis used ü").field("retry-after", "3");
        assert!(from_fault(&fault, &mut exchange).is_empty());
        let head = &exchange.response.head;
        assert_eq!(exchange.response.status, 200);
        assert_eq!(head.get("content-type"), Some(&b"application/grpc"[..]));
        assert_eq!(head.get("grpc-status"), Some(&b"8"[..]));
        assert_eq!(head.get("grpc-message"), Some(&b"100 %25 of the limit%0Ais used %C3%BC"[..]));
        assert_eq!(head.get("retry-after"), Some(&b"3"[..]));
    }
}
