//! Numbers, moments and text as bytes of a log line or a JSON document, without allocation. Knows nothing of what they mean.

use std::io::Write as _;
use std::net::IpAddr;

use daemun_config::is_active;

/// What a text becomes in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// The inside of a JSON string; bytes that are no UTF-8 become U+FFFD, characters that a terminal acts on are escaped.
    Json,
    /// Bare; quotes, backslashes, characters that a terminal acts on and bytes that are no UTF-8 become `\xHH`.
    Plain,
}

/// Appends a whole number.
pub(super) fn push_u64(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    let first = put_digits(&mut digits, number);
    out.extend_from_slice(digits.get(first..).unwrap_or_default());
}

/// Appends nanoseconds as milliseconds with three decimals.
pub(super) fn push_millis(out: &mut Vec<u8>, nanos: u64) {
    let micros = nanos / 1_000;
    let mut text = [0; 24];
    if let Some((whole, decimals)) = text.split_last_chunk_mut::<4>() {
        *decimals = [b'.', digit(micros / 100), digit(micros / 10), digit(micros)];
        let first = put_digits(whole, micros / 1_000);
        out.extend_from_slice(text.get(first..).unwrap_or_default());
    }
}

/// Writes a number so that it ends where the space ends; gives where it begins.
#[inline]
fn put_digits(space: &mut [u8], mut number: u64) -> usize {
    for (at, place) in space.iter_mut().enumerate().rev() {
        *place = digit(number);
        number /= 10;
        if number == 0 {
            return at;
        }
    }
    0
}

/// Appends an address.
pub(super) fn push_ip(out: &mut Vec<u8>, ip: IpAddr) {
    if let IpAddr::V4(v4) = ip {
        let mut text = [b'.'; 16];
        let mut used = 0;
        for octet in v4.octets() {
            let digits = [digit(u64::from(octet) / 100), digit(u64::from(octet) / 10), digit(octet.into()), b'.'];
            let skipped = usize::from(octet < 100) + usize::from(octet < 10);
            for (to, from) in text.iter_mut().skip(used).zip(digits.iter().skip(skipped)) {
                *to = *from;
            }
            used += digits.len() - skipped;
        }
        // without the dot behind the last
        out.extend_from_slice(text.get(..used - 1).unwrap_or_default());
    } else {
        // writing to a `Vec` cannot fail
        let _ = write!(out, "{ip}");
    }
}

/// Appends a text.
pub(super) fn push_text(out: &mut Vec<u8>, text: &[u8], style: Style) {
    if is_all_harmless(text) {
        out.extend_from_slice(text);
    } else {
        push_special(out, text, style);
    }
}

/// Appends a text as a JSON string with its quotes.
pub(super) fn push_quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    push_text(out, text, Style::Json);
    out.push(b'"');
}

/// Whether a text stands for itself in either style; eight bytes at a time, since most texts are short.
#[inline]
fn is_all_harmless(text: &[u8]) -> bool {
    let Some(last) = text.last_chunk::<8>() else { return text.iter().all(|byte| is_harmless(*byte)) };
    // the last eight may overlap those before
    text.as_chunks::<8>().0.iter().fold(special_bytes(*last), |found, word| found | special_bytes(*word)) == 0
}

/// Not 0 when one of eight bytes is not harmless.
#[inline]
fn special_bytes(word: [u8; 8]) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let word = u64::from_ne_bytes(word);
    // a byte below the subtracted one borrows into its highest bit, which was not set; one of 0x7f and more has it, or gets it by 1
    let below = |word: u64, least: u8| word.wrapping_sub(ONES * u64::from(least)) & !word;
    let is = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    (below(word, 0x20) | is(b'"') | is(b'\\') | word | word.wrapping_add(ONES)) & HIGH
}

#[inline]
fn is_harmless(byte: u8) -> bool {
    (0x20..0x7f).contains(&byte) & (byte != b'"') & (byte != b'\\')
}

fn push_special(out: &mut Vec<u8>, text: &[u8], style: Style) {
    for chunk in text.utf8_chunks() {
        for char in chunk.valid().chars() {
            let mut space = [0; 4];
            let bytes = char.encode_utf8(&mut space).as_bytes();
            match (style, char) {
                (Style::Json, '"' | '\\') => out.extend_from_slice(&[b'\\', char as u8]),
                (Style::Plain, '"' | '\\') => bytes.iter().for_each(|byte| push_hex(out, *byte)),
                (_, char) if !is_active(char) => out.extend_from_slice(bytes),
                (Style::Json, char) => char.encode_utf16(&mut [0; 2]).iter().for_each(|unit| push_unit(out, *unit)),
                (Style::Plain, _) => bytes.iter().for_each(|byte| push_hex(out, *byte)),
            }
        }
        if !chunk.invalid().is_empty() {
            match style {
                Style::Json => out.extend_from_slice("\u{fffd}".as_bytes()),
                Style::Plain => chunk.invalid().iter().for_each(|byte| push_hex(out, *byte)),
            }
        }
    }
}

/// Appends a unit of UTF-16 as JSON escapes it.
fn push_unit(out: &mut Vec<u8>, unit: u16) {
    let [high, low] = unit.to_be_bytes();
    out.extend_from_slice(&[b'\\', b'u', hex(high >> 4), hex(high & 15), hex(low >> 4), hex(low & 15)]);
}

fn push_hex(out: &mut Vec<u8>, byte: u8) {
    out.extend_from_slice(&[b'\\', b'x', hex(byte >> 4), hex(byte & 15)]);
}

fn hex(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
}

/// The last decimal digit of a number.
fn digit(number: u64) -> u8 {
    b'0' + (number % 10) as u8
}

/// Writes moments as RFC 3339 in UTC with milliseconds; a date is worked out once a second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    second: u64,
    text: [u8; 20],
}

impl Default for Stamp {
    fn default() -> Stamp {
        Stamp { second: 0, text: *b"1970-01-01T00:00:00." }
    }
}

impl Stamp {
    /// Appends a moment, in nanoseconds since the Unix epoch.
    pub(super) fn push(&mut self, out: &mut Vec<u8>, wall: u64) {
        let second = wall / 1_000_000_000;
        if second != self.second {
            self.second = second;
            self.text = date_and_time(second);
        }
        let millis = wall / 1_000_000 % 1_000;
        out.extend_from_slice(&self.text);
        out.extend_from_slice(&[digit(millis / 100), digit(millis / 10), digit(millis), b'Z']);
    }
}

/// `2026-01-31T23:59:59.` of a second since the Unix epoch, in the proleptic Gregorian calendar; years up to 9999.
fn date_and_time(second: u64) -> [u8; 20] {
    let (days, rest) = (second / 86_400, second % 86_400);
    // days since 0000-03-01, in eras of 400 years, so that the leap day is the last of its year
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    let two = |number: u64| [digit(number / 10), digit(number)];
    let ([y1, y2], [y3, y4]) = (two(year / 100), two(year));
    let ([o1, o2], [d1, d2]) = (two(month), two(day));
    let ([h1, h2], [m1, m2], [s1, s2]) = (two(hour), two(minute), two(second));
    [y1, y2, y3, y4, b'-', o1, o2, b'-', d1, d2, b'T', h1, h2, b':', m1, m2, b':', s1, s2, b'.']
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn moments_are_written_in_utc_with_leap_days_and_ends_of_years() {
        let mut stamp = Stamp::default();
        for (second, shown) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_399, "2000-02-28T23:59:59"),
            (951_782_400, "2000-02-29T00:00:00"),
            (1_709_251_199, "2024-02-29T23:59:59"),
            (1_767_225_599, "2025-12-31T23:59:59"),
            (1_767_225_600, "2026-01-01T00:00:00"),
            (4_107_542_399, "2100-02-28T23:59:59"),
            (4_107_542_400, "2100-03-01T00:00:00"),
        ] {
            let wall = second * 1_000_000_000 + 7_999_999;
            assert_eq!(written(|out| stamp.push(out, wall)), format!("{shown}.007Z"));
        }
    }

    #[test]
    fn every_day_of_eight_centuries_follows_the_one_before() {
        let lengths = |year: u64| {
            let leap = (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400);
            [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
        };
        let mut day = 0;
        for year in 1970..2770 {
            for (month, length) in (1..).zip(lengths(year)) {
                for date in 1..=length {
                    let shown = date_and_time(day * 86_400);
                    assert_eq!(shown.get(..10).unwrap(), format!("{year}-{month:02}-{date:02}").as_bytes());
                    day += 1;
                }
            }
        }
    }

    #[test]
    fn what_a_terminal_acts_on_is_escaped_in_both_styles() {
        let text = "a\u{1b}\"\\\u{9b}\u{202e}é대\u{e0001}\n";
        let of = |style| written(|out| push_text(out, text.as_bytes(), style));
        assert_eq!(of(Style::Json), r#"a\u001b\"\\\u009b\u202eé대\udb40\udc01\u000a"#);
        assert_eq!(serde_json::from_str::<String>(&format!("\"{}\"", of(Style::Json))).unwrap(), text);
        assert_eq!(of(Style::Plain), r"a\x1b\x22\x5c\xc2\x9b\xe2\x80\xaeé대\xf3\xa0\x80\x81\x0a");
    }

    #[test]
    fn numbers_and_addresses_are_written_as_the_standard_library_does() {
        for number in [0, 7, 10, 99, 1_000_000, 10_000_000_000_000_000_000, u64::MAX] {
            assert_eq!(written(|out| push_u64(out, number)), number.to_string());
        }
        assert_eq!(written(|out| push_millis(out, 12_034_567)), "12.034");
        assert_eq!(written(|out| push_millis(out, 999)), "0.000");
        assert_eq!(written(|out| push_millis(out, u64::MAX)), "18446744073709.551");
        for ip in ["0.0.0.0", "1.22.99.100", "192.168.0.255", "255.255.255.255", "::1", "2001:db8::8:800:200c:417a"] {
            assert_eq!(written(|out| push_ip(out, ip.parse().unwrap())), ip);
        }
    }

    #[test]
    fn one_special_byte_is_found_wherever_it_stands() {
        for length in 1..40 {
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    let mut text = vec![b'a'; length];
                    text[at] = byte;
                    assert_eq!(is_all_harmless(&text), is_harmless(byte), "{byte} at {at} of {length}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_become_a_json_string_that_reads_back(text in proptest::collection::vec(any::<u8>(), 0..64)) {
            let json = written(|out| push_quoted(out, &text));
            let back: String = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(back, String::from_utf8_lossy(&text));
            prop_assert!(json.bytes().all(|byte| byte >= 0x20));
        }

        #[test]
        fn any_bytes_become_one_plain_piece_without_quotes_or_control_bytes(text in proptest::collection::vec(any::<u8>(), 0..64)) {
            let plain = written(|out| push_text(out, &text, Style::Plain));
            prop_assert!(plain.bytes().all(|byte| byte >= 0x20 && byte != 0x7f && byte != b'"'));
        }
    }
}
