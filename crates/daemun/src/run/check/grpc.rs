//! `grpc.health.v1.Health/Check`: its question and its answer as bytes. Knows no connection.

use bytes::Bytes;

/// Path of the call.
pub(super) const PATH: &str = "/grpc.health.v1.Health/Check";
/// `HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: u64 = 1;
/// Bytes before a message: whether it is compressed, and how long it is.
const PREFIX: usize = 5;

/// The message that asks for a service; none for the server as a whole.
pub(super) fn question(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        // field 1, bytes
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(u8::try_from(length & 0x7f).unwrap_or_default() | 0x80);
            length >>= 7;
        }
        message.push(u8::try_from(length).unwrap_or_default());
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    framed.append(&mut message);
    framed.into()
}

/// Whether an answer says that the service serves.
///
/// # Errors
/// What it says instead, in words.
pub(super) fn judge(http: u16, status: Option<&str>, body: &[u8]) -> Result<(), String> {
    match status {
        Some("0") => {}
        Some("5") => return Err("the health service does not know this service".to_owned()),
        Some("12") => return Err("there is no health service".to_owned()),
        Some(code) if code.len() <= 3 => return Err(format!("gRPC status {code}")),
        Some(_) => return Err("the gRPC status is no number".to_owned()),
        None if http != 200 => return Err(format!("status {http}")),
        None => return Err("the answer has no gRPC status".to_owned()),
    }
    match serving_status(body) {
        Some(SERVING) => Ok(()),
        Some(2) => Err("it says `NOT_SERVING`".to_owned()),
        Some(0) => Err("it says `UNKNOWN`".to_owned()),
        Some(3) => Err("it says `SERVICE_UNKNOWN`".to_owned()),
        Some(other) => Err(format!("it says {other}, which is no known status")),
        None => Err("its message is malformed".to_owned()),
    }
}

/// Field 1 of the message; other fields are passed over.
fn serving_status(body: &[u8]) -> Option<u64> {
    let (prefix, message) = body.split_at_checked(PREFIX)?;
    let (compressed, length) = prefix.split_first()?;
    let length = usize::try_from(u32::from_be_bytes(length.try_into().ok()?)).ok()?;
    if *compressed != 0 {
        return None;
    }
    let mut rest = message.get(..length)?;
    let mut status = 0;
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        match (key >> 3, key & 7) {
            (1, 0) => status = varint(&mut rest)?,
            (_, 0) => drop(varint(&mut rest)?),
            (_, 1) => rest = rest.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                rest = rest.get(length..)?;
            }
            (_, 5) => rest = rest.get(4..)?,
            (_, _) => return None,
        }
    }
    Some(status)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (first, behind) = rest.split_first()?;
        *rest = behind;
        number |= u64::from(first & 0x7f).checked_shl(shift)?;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_a_framed_message() {
        assert_eq!(question("").as_ref(), [0, 0, 0, 0, 0]);
        assert_eq!(question("a.B").as_ref(), b"\0\0\0\0\x05\x0a\x03a.B");
        let long = question(&"x".repeat(300));
        assert_eq!(long.get(..8).unwrap(), [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
    }

    #[test]
    fn serving_alone_is_well() {
        assert_eq!(judge(200, Some("0"), b"\0\0\0\0\x02\x08\x01"), Ok(()));
        // other fields before and behind
        assert_eq!(judge(200, Some("0"), b"\0\0\0\0\x07\x12\x01x\x08\x01\x18\x05"), Ok(()));
        for (http, status, body, why) in [
            (200, Some("0"), &b"\0\0\0\0\x02\x08\x02"[..], "it says `NOT_SERVING`"),
            (200, Some("0"), b"\0\0\0\0\0", "it says `UNKNOWN`"),
            (200, Some("0"), b"\0\0\0\0\x02\x08\x09", "it says 9, which is no known status"),
            (200, Some("0"), b"\x01\0\0\0\x02\x08\x01", "its message is malformed"),
            (200, Some("0"), b"\0\0\0\0\x09\x08\x01", "its message is malformed"),
            (200, Some("0"), b"\0\0\0\0\x03\x08\xff\xff", "its message is malformed"),
            (200, Some("0"), b"\0\0\0\0\x02\x12\x7f", "its message is malformed"),
            (200, Some("0"), b"", "its message is malformed"),
            (200, Some("5"), b"", "the health service does not know this service"),
            (200, Some("12"), b"", "there is no health service"),
            (200, Some("14"), b"", "gRPC status 14"),
            (503, None, b"", "status 503"),
            (200, None, b"\0\0\0\0\x02\x08\x01", "the answer has no gRPC status"),
        ] {
            assert_eq!(judge(http, status, body).unwrap_err(), why);
        }
    }
}
