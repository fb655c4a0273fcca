//! Moments as SAML writes them (SAML core, section 1.3.3): in UTC, always with a `Z`. Reads no clock.

const SECOND: u64 = 1_000_000_000;

/// Nanoseconds since the Unix epoch; digits beyond those do not count. `None` for what is no such moment, and for years outside of 1970 to 2500.
pub(super) fn parse(text: &str) -> Option<u64> {
    let (whole, rest) = text.split_at_checked(19)?;
    let mut parts = whole.split(['-', 'T', ':']);
    let mut number = |digits: usize| {
        let part = parts.next().filter(|part| part.len() == digits)?;
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse::<u64>().ok())?
    };
    let (year, month, day) = (number(4)?, number(2)?, number(2)?);
    let (hour, minute, second) = (number(2)?, number(2)?, number(2)?);
    let marks: String = whole.chars().filter(|char| !char.is_ascii_digit()).collect();
    let is_moment = marks == "--T::" && (1970..=2500).contains(&year) && hour < 24 && minute < 60 && second < 60;
    if !is_moment || !(1..=days_of(year, month)?).contains(&day) {
        return None;
    }
    let leap_years = |year: u64| year / 4 - year / 100 + year / 400;
    let days = (year - 1970) * 365 + leap_years(year - 1) - leap_years(1969);
    let days = days + (1..month).filter_map(|month| days_of(year, month)).sum::<u64>() + day - 1;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    Some(seconds * SECOND + fraction(rest.strip_suffix('Z')?)?)
}

/// Nanoseconds of what stands behind the seconds.
fn fraction(text: &str) -> Option<u64> {
    if text.is_empty() {
        return Some(0);
    }
    let digits = text.strip_prefix('.').filter(|digits| (1..=32).contains(&digits.len()))?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = digits.bytes().chain(std::iter::repeat(b'0')).take(9);
    Some(digits.fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

fn days_of(year: u64, month: u64) -> Option<u64> {
    let leap = year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    match month {
        4 | 6 | 9 | 11 => Some(30),
        2 => Some(if leap { 29 } else { 28 }),
        1..=12 => Some(31),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_to_the_nanosecond() {
        for (text, nanos) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2027-01-15T08:00:00Z", 1_800_000_000 * SECOND),
            ("2027-01-15T08:00:00.5Z", 1_800_000_000 * SECOND + 500_000_000),
            ("2027-01-15T08:00:00.1234567890123Z", 1_800_000_000 * SECOND + 123_456_789),
            ("2000-02-29T23:59:59Z", 951_868_799 * SECOND),
            ("2400-12-31T00:00:00Z", 13_601_001_600 * SECOND),
        ] {
            assert_eq!(parse(text), Some(nanos), "{text}");
        }
    }

    #[test]
    fn what_is_no_moment_in_utc_is_none() {
        for text in [
            "",
            "2027-01-15T08:00:00",
            "2027-01-15T08:00:00+00:00",
            "2027-01-15T08:00:00z",
            "2027-01-15 08:00:00Z",
            "2027-01-15T08:00:60Z",
            "2027-01-15T24:00:00Z",
            "2027-02-29T08:00:00Z",
            "2027-13-01T08:00:00Z",
            "2027-00-01T08:00:00Z",
            "2027-01-00T08:00:00Z",
            "1969-12-31T08:00:00Z",
            "2027-1-15T08:00:000Z",
            "2027-01-15T08:00:00.Z",
            "2027-01-15T08:00:00.-5Z",
            "+027-01-15T08:00:00Z",
            "2027-01-15T08:00:00ZZ",
            "２027-01-15T08:00:00Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
