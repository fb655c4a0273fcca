//! Lists of client certificates that were taken back (RFC 5280, section 5), read out of PEM files. Judges no certificate: rustls does, with
//! what is read here.

use std::path::PathBuf;

use daemun_config::diagnostic::{Diagnostic, Diagnostics, TLS_EXPIRED};
use daemun_config::model::Spanned;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateRevocationListDer, UnixTime};

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;

/// The lists of a file; `Err` holds what is wrong with it. One that has expired is a warning: until another is in its place, the clients of
/// its authority are refused.
pub(crate) fn lists(
    pem: &[u8],
    file: &Spanned<PathBuf>,
    path: &str,
    diagnostics: &mut Diagnostics,
) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(pem).collect();
    let lists = read.map_err(|error| error.to_string())?;
    if lists.is_empty() {
        return Err("it holds no list of certificates (`BEGIN X509 CRL`)".to_owned());
    }
    let now = UnixTime::now().as_secs();
    for list in &lists {
        webpki::BorrowedCertRevocationList::from_der(list)
            .map_err(|error| format!("a list in it is not understood: {error:?}"))?;
        if next_update(list).is_some_and(|next| next < now) {
            let message =
                format!("a list in `{}` has expired: clients of its authority are refused", file.value.display());
            let found = Diagnostic::warning(TLS_EXPIRED, file.at, message).path(path);
            diagnostics.push(found.help("get its next one from the authority; the file is read again when it changes"));
        }
    }
    Ok(lists)
}

/// When the next list is due, in seconds since the Unix epoch.
fn next_update(list: &[u8]) -> Option<u64> {
    let mut rest = list;
    let mut outer = expect(&mut rest, SEQUENCE)?;
    let mut signed = expect(&mut outer, SEQUENCE)?;
    if signed.first() == Some(&INTEGER) {
        next(&mut signed)?;
    }
    let (_algorithm, _issuer, _this) = (next(&mut signed)?, next(&mut signed)?, next(&mut signed)?);
    match next(&mut signed)? {
        (UTC_TIME, text) => {
            let year = number(text.get(..2)?)?;
            seconds(if year < 50 { 2000 + year } else { 1900 + year }, text.get(2..)?)
        }
        (GENERALIZED_TIME, text) => seconds(number(text.get(..4)?)?, text.get(4..)?),
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

fn expect<'a>(rest: &mut &'a [u8], wanted: u8) -> Option<&'a [u8]> {
    next(rest).filter(|(tag, _)| *tag == wanted).map(|(_, value)| value)
}

/// Takes the next value, with its tag.
fn next<'a>(rest: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&[tag, first], behind) = rest.split_first_chunk()?;
    let (length, behind) = match first {
        0..=0x7f => (usize::from(first), behind),
        0x81..=0x84 => {
            let (length, behind) = behind.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte)), behind)
        }
        _ => return None,
    };
    let (value, behind) = behind.split_at_checked(length)?;
    *rest = behind;
    Some((tag, value))
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
    }

    #[test]
    fn what_is_no_list_has_no_time() {
        for bytes in [&[][..], &[SEQUENCE], &[SEQUENCE, 0x84, 0xff, 0xff, 0xff, 0xff], &[SEQUENCE, 2, SEQUENCE, 0]] {
            assert_eq!(next_update(bytes), None);
        }
    }
}
