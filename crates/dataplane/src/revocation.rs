//! Lists of client certificates that were taken back (RFC 5280, section 5), read out of PEM files. Judges no certificate: rustls does, with
//! what is read here.

use std::path::PathBuf;

use daemun_config::diagnostic::{Diagnostic, Diagnostics, TLS_EXPIRED};
use daemun_config::model::Spanned;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateRevocationListDer, UnixTime};

const INTEGER: u8 = 0x02;
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
pub(crate) fn next_update(list: &[u8]) -> Option<u64> {
    let mut rest = list;
    let mut outer = expect(&mut rest, SEQUENCE)?;
    let mut signed = expect(&mut outer, SEQUENCE)?;
    if signed.first() == Some(&INTEGER) {
        next(&mut signed)?;
    }
    let (_algorithm, _issuer, _this) = (next(&mut signed)?, next(&mut signed)?, next(&mut signed)?);
    let (tag, text) = next(&mut signed)?;
    daemun_pipeline::read_der_time(tag, text)
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
    fn what_is_no_list_has_no_time() {
        for bytes in [&[][..], &[SEQUENCE], &[SEQUENCE, 0x84, 0xff, 0xff, 0xff, 0xff], &[SEQUENCE, 2, SEQUENCE, 0]] {
            assert_eq!(next_update(bytes), None);
        }
    }
}
