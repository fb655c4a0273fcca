//! Who a client's certificate names: subject and issuer as text, and its alternative names. Judges no certificate: whoever asks has it
//! from a handshake that did.

use std::cell::OnceCell;
use std::fmt::Write as _;

use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;

/// Identity proven by a client certificate that chains to the listener's `client_ca`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsIdentity {
    /// SHA-256 of the certificate's DER, lower-case hexadecimal.
    pub fingerprint: String,
    /// The certificate in DER.
    pub der: Vec<u8>,
    names: OnceCell<Box<CertificateNames>>,
}

/// What a certificate calls whom it was issued to. What cannot be read is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateNames {
    /// Distinguished name as RFC 4514 writes it: `CN=orders,O=Shop`.
    pub subject: String,
    /// The common name in it; empty where there are several.
    pub subject_cn: String,
    /// Distinguished name of the authority.
    pub issuer: String,
    /// Alternative names that are DNS names, in lower case.
    pub dns_names: Vec<String>,
    /// Alternative names that are URIs.
    pub uris: Vec<String>,
}

impl TlsIdentity {
    /// The identity of a certificate.
    #[must_use]
    pub fn new(fingerprint: String, der: Vec<u8>) -> TlsIdentity {
        TlsIdentity { fingerprint, der, names: OnceCell::new() }
    }

    /// Whom it names; read when it is first asked for.
    pub fn names(&self) -> &CertificateNames {
        self.names.get_or_init(|| Box::new(CertificateNames::read(&self.der)))
    }
}

impl CertificateNames {
    fn read(der: &[u8]) -> CertificateNames {
        let der = CertificateDer::from(der);
        let Ok(certificate) = EndEntityCert::try_from(&der) else { return CertificateNames::default() };
        CertificateNames {
            subject: distinguished(certificate.subject()).unwrap_or_default(),
            subject_cn: common_name(certificate.subject()).unwrap_or_default(),
            issuer: distinguished(certificate.issuer()).unwrap_or_default(),
            dns_names: certificate.valid_dns_names().map(str::to_ascii_lowercase).collect(),
            uris: certificate.valid_uri_names().map(str::to_owned).collect(),
        }
    }
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;

/// The encoded identifier of a common name.
const COMMON_NAME: &[u8] = &[0x55, 4, 3];

/// Keywords of RFC 4514, section 3, and two that are as common.
const KEYWORDS: &[(&[u8], &str)] = &[
    (COMMON_NAME, "CN"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 9], "STREET"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
    (&[0x55, 4, 5], "serialNumber"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1], "emailAddress"),
];

/// One attribute of a name: its type, and its value with tag and length.
struct Attribute<'a> {
    kind: &'a [u8],
    tag: u8,
    value: &'a [u8],
    encoded: &'a [u8],
}

/// A name in the words of RFC 4514, last part first; `None` where it cannot be read.
fn distinguished(name: &[u8]) -> Option<String> {
    let mut parts = parts(name)?;
    parts.reverse();
    let mut text = String::new();
    for attributes in parts {
        for (index, attribute) in attributes.iter().enumerate() {
            text.push_str(if index > 0 {
                "+"
            } else if text.is_empty() {
                ""
            } else {
                ","
            });
            push_attribute(attribute, &mut text)?;
        }
    }
    Some(text)
}

/// The one common name of a name.
fn common_name(name: &[u8]) -> Option<String> {
    let parts = parts(name)?;
    let mut found = parts.iter().flatten().filter(|attribute| attribute.kind == COMMON_NAME);
    match (found.next(), found.next()) {
        (Some(only), None) => string(only.tag, only.value),
        _ => None,
    }
}

/// The attributes of each part of a name (RFC 5280, section 4.1.2.4).
fn parts(mut name: &[u8]) -> Option<Vec<Vec<Attribute<'_>>>> {
    let mut all = Vec::new();
    while !name.is_empty() {
        let mut set = expect(&mut name, SET)?;
        let mut attributes = Vec::new();
        while !set.is_empty() {
            let mut pair = expect(&mut set, SEQUENCE)?;
            let kind = expect(&mut pair, OID)?;
            let encoded = pair;
            let (tag, value) = next(&mut pair)?;
            attributes.push(Attribute { kind, tag, value, encoded });
        }
        all.push(attributes);
    }
    Some(all)
}

fn expect<'a>(rest: &mut &'a [u8], wanted: u8) -> Option<&'a [u8]> {
    let (tag, value) = next(rest)?;
    (tag == wanted).then_some(value)
}

/// Takes the next value, with its tag.
fn next<'a>(rest: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&[tag, first], behind) = rest.split_first_chunk()?;
    let (length, behind) = match first {
        0..=0x7f => (usize::from(first), behind),
        0x81 => behind.split_first().map(|(&one, behind)| (usize::from(one), behind))?,
        0x82 => behind.split_first_chunk().map(|(&two, behind)| (usize::from(u16::from_be_bytes(two)), behind))?,
        _ => return None,
    };
    let (value, behind) = behind.split_at_checked(length)?;
    *rest = behind;
    Some((tag, value))
}

fn push_attribute(attribute: &Attribute<'_>, text: &mut String) -> Option<()> {
    let known = KEYWORDS.iter().find(|(kind, _)| *kind == attribute.kind);
    match known {
        Some((_, keyword)) => text.push_str(keyword),
        None => push_dotted(attribute.kind, text)?,
    }
    text.push('=');
    match known.and_then(|_| string(attribute.tag, attribute.value)) {
        Some(value) => push_escaped(&value, text),
        None => {
            text.push('#');
            attribute.encoded.iter().for_each(|byte| _ = write!(text, "{byte:02x}"));
        }
    }
    Some(())
}

/// The text of a value, of the kinds of text that names hold.
fn string(tag: u8, value: &[u8]) -> Option<String> {
    match tag {
        // UTF8String, NumericString, PrintableString, IA5String
        0x0c | 0x12 | 0x13 | 0x16 => std::str::from_utf8(value).ok().map(str::to_owned),
        // TeletexString, which everyone writes in Latin-1
        0x14 => Some(value.iter().map(|&byte| char::from(byte)).collect()),
        // BMPString
        0x1e => {
            let (pairs, []) = value.as_chunks() else { return None };
            char::decode_utf16(pairs.iter().map(|&pair| u16::from_be_bytes(pair))).collect::<Result<_, _>>().ok()
        }
        _ => None,
    }
}

/// An identifier in its dotted form.
fn push_dotted(kind: &[u8], text: &mut String) -> Option<()> {
    let (mut number, mut first) = (0_u64, true);
    for &byte in kind {
        number = number.checked_mul(128)?.checked_add(u64::from(byte & 0x7f))?;
        if byte & 0x80 != 0 {
            continue;
        }
        let _ = if first {
            let root = (number / 40).min(2);
            write!(text, "{root}.{}", number - root * 40)
        } else {
            write!(text, ".{number}")
        };
        (number, first) = (0, false);
    }
    (!first).then_some(())
}

/// A value as RFC 4514, section 2.4, escapes it; control characters too.
fn push_escaped(value: &str, text: &mut String) {
    let last = value.chars().count().saturating_sub(1);
    for (index, char) in value.chars().enumerate() {
        match char {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => text.extend(['\\', char]),
            '#' if index == 0 => text.push_str("\\#"),
            ' ' if index == 0 || index == last => text.push_str("\\ "),
            char if char.is_ascii_control() => _ = write!(text, "\\{:02x}", u32::from(char)),
            char => text.push(char),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
        let length = u8::try_from(value.len()).unwrap();
        [&[tag, length], value].concat()
    }

    fn attribute(kind: &[u8], tag: u8, value: &[u8]) -> Vec<u8> {
        tlv(SEQUENCE, &[tlv(OID, kind), tlv(tag, value)].concat())
    }

    fn part(kind: &[u8], tag: u8, value: &[u8]) -> Vec<u8> {
        tlv(SET, &attribute(kind, tag, value))
    }

    #[test]
    fn a_name_reads_from_its_last_part_to_its_first() {
        let name = [
            part(&[0x55, 4, 6], 0x13, b"KR"),
            part(&[0x55, 4, 10], 0x0c, "상점, Inc".as_bytes()),
            tlv(SET, &[attribute(COMMON_NAME, 0x0c, b" #a\0"), attribute(&[0x55, 4, 11], 0x1e, &[0, b'x'])].concat()),
            part(&[0x2a, 3, 0x88, 0x37], 0x0c, b"x"),
        ];
        let text = distinguished(&name.concat()).unwrap();
        assert_eq!(text, "1.2.3.1079=#0c0178,CN=\\ #a\\00+OU=x,O=상점\\, Inc,C=KR");
        assert_eq!(common_name(&name.concat()).as_deref(), Some(" #a\0"));
    }

    #[test]
    fn of_several_common_names_none_is_taken() {
        let name = [part(COMMON_NAME, 0x0c, b"a"), part(COMMON_NAME, 0x0c, b"b")].concat();
        assert_eq!((distinguished(&name).as_deref(), common_name(&name)), (Some("CN=b,CN=a"), None));
        assert_eq!(distinguished(&[]).as_deref(), Some(""));
    }

    #[test]
    fn what_is_no_name_is_none() {
        for wrong in [
            &[SET, 5, 0][..],
            &[SET, 0x80],
            &[SET, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[SEQUENCE, 0],
            &part(&[], 0x0c, b"a"),
            &part(&[0xff; 12], 0x0c, b"a"),
        ] {
            assert_eq!(distinguished(wrong), None, "{wrong:?}");
        }
        let text = distinguished(&part(COMMON_NAME, 0x0c, &[0xff])).unwrap();
        assert_eq!(text, "CN=#0c01ff");
    }

    proptest! {
        #[test]
        fn no_bytes_bring_it_down(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let names = CertificateNames::read(&bytes);
            prop_assert_eq!(names, CertificateNames::default());
            let _ = (distinguished(&bytes), common_name(&bytes));
        }
    }
}
