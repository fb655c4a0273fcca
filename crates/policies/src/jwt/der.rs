//! The two numbers of an RSA key as certificates and PEM files hold it (RFC 5280, section 4.1.2.7; RFC 8017, appendix A.1.1), so that they are
//! judged like those of a JWK. Knows no other key.

/// The object identifier `rsaEncryption`, with its tag and length.
const RSA: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 3;
const INTEGER: u8 = 2;

/// Modulus and exponent, without the zero in front that tells numbers from negative ones. `None` for what is no RSA key.
pub(crate) fn rsa_numbers(spki: &[u8]) -> Option<(&[u8], &[u8])> {
    let (spki, &[]) = element(spki, SEQUENCE)? else { return None };
    let (algorithm, rest) = element(spki, SEQUENCE)?;
    algorithm.starts_with(RSA).then_some(())?;
    let (bits, &[]) = element(rest, BIT_STRING)? else { return None };
    let (numbers, &[]) = element(bits.strip_prefix(&[0])?, SEQUENCE)? else { return None };
    let (n, rest) = element(numbers, INTEGER)?;
    let (e, &[]) = element(rest, INTEGER)? else { return None };
    let unsigned = |number| <[u8]>::strip_prefix(number, &[0]).unwrap_or(number);
    Some((unsigned(n), unsigned(e)))
}

/// What an element of this tag holds, and what stands behind it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (length, rest) = match der {
        [first, length @ 0..=0x7f, rest @ ..] if *first == tag => (usize::from(*length), rest),
        [first, 0x81, length @ 0x80..=0xff, rest @ ..] if *first == tag => (usize::from(*length), rest),
        [first, 0x82, high @ 1..=0xff, low, rest @ ..] if *first == tag => {
            (usize::from(*high) << 8 | usize::from(*low), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}
