//! Times as certificates and lists of them hold them (RFC 5280, section 4.1.2.5). Knows no clock.

const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The time that a value with this tag holds, in seconds since the Unix epoch.
#[must_use]
pub fn read_der_time(tag: u8, text: &[u8]) -> Option<u64> {
    match tag {
        UTC_TIME => {
            let year = number(text.get(..2)?)?;
            seconds(if year < 50 { 2000 + year } else { 1900 + year }, text.get(2..)?)
        }
        GENERALIZED_TIME => seconds(number(text.get(..4)?)?, text.get(4..)?),
        _ => None,
    }
}

/// `MMDDHHMMSSZ` of a year.
fn seconds(year: u64, text: &[u8]) -> Option<u64> {
    let [digits @ .., b'Z'] = text else { return None };
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    let [month, day, hour, minute, second] = pairs else { return None };
    let [month, day, hour, minute, second] =
        [number(month)?, number(day)?, number(hour)?, number(minute)?, number(second)?];
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // days of a calendar whose years begin in March, so that the day that leap years have is the last
    let (years, months) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let days = years * 365 + years / 4 - years / 100 + years / 400 + (months * 153 + 2) / 5 + day - 1;
    // of 1 March of year 0 up to 1 January 1970
    let days = days.checked_sub(719_468)?;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |sum, &digit| Some(sum * 10 + u64::from(char::from(digit).to_digit(10)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_both_kinds_are_read() {
        for (year, text, read) in [
            (1970, "0101000000Z", Some(0)),
            (2000, "0229235959Z", Some(951_868_799)),
            (2026, "1127232715Z", Some(1_795_822_035)),
            (2100, "0301000000Z", Some(4_107_542_400)),
            (1969, "1231235959Z", None),
            (2026, "1327232715Z", None),
            (2026, "1127232715", None),
            (2026, "112723271Z", None),
            (2026, "11272327xxZ", None),
        ] {
            assert_eq!(seconds(year, text.as_bytes()), read, "{year} {text}");
        }
        assert_eq!(read_der_time(UTC_TIME, b"491231235959Z"), Some(2_524_607_999));
        assert_eq!(read_der_time(UTC_TIME, b"991231235959Z"), Some(946_684_799));
        assert_eq!(read_der_time(GENERALIZED_TIME, b"20500101000000Z"), Some(2_524_608_000));
        for (tag, text) in [(0x02, &b"20500101000000Z"[..]), (GENERALIZED_TIME, b"20"), (UTC_TIME, b"")] {
            assert_eq!(read_der_time(tag, text), None);
        }
    }
}
