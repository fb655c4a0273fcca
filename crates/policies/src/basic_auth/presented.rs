//! The username and password a request presents: finds them, and refuses what could be read in two ways. Knows no consumer.

use daemun_pipeline::{FieldId, Head};

use crate::authorization::after_scheme;

/// The scheme (RFC 7617, section 2).
pub(crate) const SCHEME: &str = "Basic";
/// Most bytes of username and password together: the longest of each that a configuration may hold, and the colon.
pub(crate) const MAX: usize = 255 + 1 + 512;

/// Why a request has no credentials to look up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absent {
    /// None are there.
    None,
    /// Several are, and they differ.
    Several,
    /// They are not base64 of `username:password`, or longer than any.
    Malformed,
}

/// Hands the one username and password of a request to `look_up`. Allocates nothing.
pub(crate) fn find<T>(head: &Head, look_up: impl FnOnce(&[u8], &[u8]) -> T) -> Result<T, Absent> {
    let mut found: Option<&[u8]> = None;
    for value in head.values_id(FieldId::Authorization).filter_map(|value| after_scheme(value, SCHEME)) {
        if found.is_some_and(|known| known != value) {
            return Err(Absent::Several);
        }
        found = Some(value);
    }
    let mut buffer = [0; MAX];
    let decoded = decode(found.ok_or(Absent::None)?, &mut buffer).ok_or(Absent::Malformed)?;
    // the first colon ends the username; a password may hold more
    let colon = decoded.iter().position(|&b| b == b':').ok_or(Absent::Malformed)?;
    let (username, rest) = decoded.split_at_checked(colon).ok_or(Absent::Malformed)?;
    Ok(look_up(username, rest.get(1..).unwrap_or_default()))
}

/// Base64 with padding, and no other spelling of the same bytes (RFC 4648, sections 3.5 and 4).
pub(crate) fn decode<'b>(text: &[u8], buffer: &'b mut [u8; MAX]) -> Option<&'b [u8]> {
    if text.is_empty() || !text.len().is_multiple_of(4) {
        return None;
    }
    let padding = text.iter().rev().take_while(|&&b| b == b'=').count();
    let digits = text.get(..text.len() - padding).filter(|_| padding <= 2)?;
    let mut length = 0;
    for group in digits.chunks(4) {
        let mut bits = 0u32;
        for &digit in group {
            bits = bits << 6 | value(digit)?;
        }
        // of the last group, as many whole bytes as there are; bits left over must be zero
        let bytes = group.len() * 6 / 8;
        let left = group.len() * 6 - bytes * 8;
        if bytes == 0 || bits & ((1 << left) - 1) != 0 {
            return None;
        }
        let whole = (bits >> left).to_be_bytes();
        let to = buffer.get_mut(length..length + bytes)?;
        to.copy_from_slice(whole.get(4 - bytes..)?);
        length += bytes;
    }
    buffer.get(..length)
}

fn value(digit: u8) -> Option<u32> {
    let value = match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}
