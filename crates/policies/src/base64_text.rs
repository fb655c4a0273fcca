//! Base64 with padding, and no other spelling of the same bytes (RFC 4648, sections 3.5 and 4). Allocates nothing to read.

/// What a text stands for, in `buffer`; `None` when it is no base64, or stands for more than there is room for. An empty text is none.
pub(crate) fn decode<'b>(text: &[u8], buffer: &'b mut [u8]) -> Option<&'b [u8]> {
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

/// Exactly `N` bytes.
pub(crate) fn decode_array<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut buffer = [0; N];
    let read = decode(text, &mut buffer)?.len();
    (read == N).then_some(buffer)
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

/// Appends bytes as text.
pub(crate) fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.reserve(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = DIGITS.get((bits >> (18 - 6 * place)) as usize & 63).copied().unwrap_or(b'=');
            out.push(if place <= group.len() { digit } else { b'=' });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_and_fits_exactly(bytes in proptest::collection::vec(any::<u8>(), 1..100)) {
            let mut text = Vec::new();
            encode(&bytes, &mut text);
            let (mut exact, mut short) = (vec![0; bytes.len()], vec![0; bytes.len() - 1]);
            prop_assert_eq!(decode(&text, &mut exact), Some(&bytes[..]));
            prop_assert_eq!(decode(&text, &mut short), None);
        }
    }
}
