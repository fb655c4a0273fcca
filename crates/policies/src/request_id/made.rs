//! Ids made out of random numbers. Knows no request.

/// Appends 20 hexadecimal digits, the form of the gateway's own ids.
pub(super) fn push_short([first, second]: [u64; 2], out: &mut Vec<u8>) {
    push_hex(first, 16, out);
    push_hex(second, 4, out);
}

/// Appends a UUID of version 4 (RFC 9562, section 5.4).
pub(super) fn push_uuid([first, second]: [u64; 2], out: &mut Vec<u8>) {
    let first = first & !0xf000 | 0x4000;
    let second = second & !(0b11 << 62) | 0b10 << 62;
    for (bits, digits) in [(first >> 32, 8), (first >> 16, 4), (first, 4), (second >> 48, 4)] {
        push_hex(bits, digits, out);
        out.push(b'-');
    }
    push_hex(second, 12, out);
}

/// Appends the last `digits` hexadecimal digits of a number.
fn push_hex(bits: u64, digits: u32, out: &mut Vec<u8>) {
    for place in (0..digits).rev() {
        let digit = u8::try_from(bits >> (4 * place) & 0xf).unwrap_or_default();
        out.push(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
    }
}
