//! Who a client's certificate names: subject and issuer as text, and its alternative names. Judges no certificate: whoever asks has it
//! from a handshake that did.

use std::cell::OnceCell;
use std::fmt::Write as _;

use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;

use crate::der_time::read_der_time;

/// Identity proven by a client certificate that chains to the listener's `client_ca`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsIdentity {
    /// SHA-256 of the certificate's DER, lower-case hexadecimal.
    pub fingerprint: String,
    /// The certificate in DER.
    pub der: Vec<u8>,
    /// The last second, since the Unix epoch, in which it is valid; 0 when that cannot be read.
    ends: u64,
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
    /// Alternative names that are e-mail addresses.
    pub emails: Vec<String>,
}

impl TlsIdentity {
    /// The identity of a certificate.
    #[must_use]
    pub fn new(fingerprint: String, der: Vec<u8>) -> TlsIdentity {
        let ends = not_after(&der).unwrap_or_default();
        TlsIdentity { fingerprint, der, ends, names: OnceCell::new() }
    }

    /// Whether it is over by then, in nanoseconds since the Unix epoch: a connection may outlast it, and so may a session that is resumed.
    #[must_use]
    pub fn has_ended(&self, wall: u64) -> bool {
        wall / 1_000_000_000 > self.ends
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
            emails: emails(&der).unwrap_or_default(),
        }
    }
}

/// When a certificate ends (RFC 5280, section 4.1.2.5).
fn not_after(mut der: &[u8]) -> Option<u64> {
    let mut certificate = expect(&mut der, SEQUENCE)?;
    let mut signed = expect(&mut certificate, SEQUENCE)?;
    // `version`, tagged 0, is not there in the first one
    if signed.first() == Some(&0xa0) {
        next(&mut signed)?;
    }
    let (_serial, _algorithm, _issuer) = (next(&mut signed)?, next(&mut signed)?, next(&mut signed)?);
    let mut validity = expect(&mut signed, SEQUENCE)?;
    let _from = next(&mut validity)?;
    let (tag, text) = next(&mut validity)?;
    read_der_time(tag, text)
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

/// The encoded identifier of alternative names (RFC 5280, section 4.2.1.6).
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];
/// The tag of an alternative name that is an e-mail address: `rfc822Name`.
const RFC822_NAME: u8 = 0x81;

/// Alternative names that are e-mail addresses: those of the one extension that holds them.
fn emails(mut der: &[u8]) -> Option<Vec<String>> {
    let mut certificate = expect(&mut der, SEQUENCE)?;
    let mut signed = expect(&mut certificate, SEQUENCE)?;
    let mut extensions = None;
    while !signed.is_empty() {
        let (tag, value) = next(&mut signed)?;
        // `extensions`, tagged 3
        if tag == 0xa3 {
            extensions = Some(value);
        }
    }
    let mut all = expect(&mut extensions?, SEQUENCE)?;
    let mut found = Vec::new();
    while !all.is_empty() {
        let mut extension = expect(&mut all, SEQUENCE)?;
        if expect(&mut extension, OID)? != ALTERNATIVE_NAMES {
            continue;
        }
        let (mut tag, mut value) = next(&mut extension)?;
        // whether it is critical
        if tag == 0x01 {
            (tag, value) = next(&mut extension)?;
        }
        let mut names = (tag == 0x04).then_some(value).and_then(|mut held| expect(&mut held, SEQUENCE))?;
        while !names.is_empty() {
            let (tag, name) = next(&mut names)?;
            let name = (tag == RFC822_NAME && name.is_ascii()).then(|| std::str::from_utf8(name).ok());
            found.extend(name.flatten().map(str::to_owned));
        }
    }
    Some(found)
}

/// A distinguished name as somebody typed it, in the words in which [`CertificateNames`] has it: keywords in their own case, white space
/// around parts left out, each character escaped in one way.
///
/// # Errors
/// What is wrong with it, in words.
pub fn read_name(text: &str) -> Result<String, &'static str> {
    let mut out = String::new();
    let mut rest = text.trim();
    loop {
        let (kind, behind) = rest.split_once('=').ok_or("each part is written `CN=…`")?;
        push_kind(kind.trim(), &mut out)?;
        out.push('=');
        let (value, separator, behind) = read_value(behind.trim_start())?;
        if let Some(digits) = value.as_hex {
            out.push('#');
            out.push_str(&digits);
        } else {
            push_escaped(&value.text, &mut out);
        }
        let Some(separator) = separator else { return Ok(out) };
        out.push(separator);
        rest = behind.trim_start();
    }
}

/// The value of an attribute as typed.
struct Typed {
    text: String,
    /// Its encoding, where that was typed.
    as_hex: Option<String>,
}

/// Reads a value up to the separator behind it.
fn read_value(text: &str) -> Result<(Typed, Option<char>, &str), &'static str> {
    let mut bytes = Vec::new();
    // what stands behind the last character that is not white space to be left out
    let mut kept = 0;
    let mut chars = text.char_indices();
    let end = loop {
        let Some((at, char)) = chars.next() else { break None };
        match char {
            ',' | '+' => break Some((at, char)),
            '\\' => {
                let (_, escaped) = chars.next().ok_or("it ends within an escape")?;
                match escaped.to_digit(16) {
                    Some(high) => {
                        let low = chars.next().and_then(|(_, low)| low.to_digit(16)).ok_or("an escape is `\\2c`")?;
                        bytes.extend(u8::try_from(high * 16 + low));
                    }
                    None => bytes.extend_from_slice(escaped.encode_utf8(&mut [0; 4]).as_bytes()),
                }
                kept = bytes.len();
            }
            char => {
                bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
                if char != ' ' {
                    kept = bytes.len();
                }
            }
        }
    };
    bytes.truncate(kept);
    let behind = end.and_then(|(at, _)| text.get(at + 1..)).unwrap_or_default();
    let typed = text.get(..end.map_or(text.len(), |(at, _)| at)).unwrap_or_default().trim_end();
    let as_hex = typed.strip_prefix('#').map(str::to_ascii_lowercase);
    if as_hex.as_ref().is_some_and(|digits| digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit())) {
        return Err("behind `#` stand hexadecimal digits");
    }
    let text = String::from_utf8(bytes).map_err(|_| "its escapes are not UTF-8")?;
    Ok((Typed { text, as_hex }, end.map(|(_, separator)| separator), behind))
}

/// Appends the type of an attribute.
fn push_kind(kind: &str, out: &mut String) -> Result<(), &'static str> {
    let kind = if kind.eq_ignore_ascii_case("E") { "emailAddress" } else { kind };
    if let Some((_, keyword)) = KEYWORDS.iter().find(|(_, keyword)| keyword.eq_ignore_ascii_case(kind)) {
        out.push_str(keyword);
    } else if kind.contains('.') && kind.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        out.push_str(kind);
    } else {
        return Err("a part of it has no keyword that is known, such as `CN`, `O` or `OU`");
    }
    Ok(())
}

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

    #[test]
    fn a_typed_name_becomes_the_one_that_a_certificate_has() {
        for (typed, read) in [
            ("CN=orders,O=Shop", "CN=orders,O=Shop"),
            (" cn = orders , o=Shop\\, Inc + e = a@b ", "CN=orders,O=Shop\\, Inc+emailAddress=a@b"),
            ("CN=a\\2cb\\ ,O=\\c3\\a9", "CN=a\\,b\\ ,O=é"),
            ("1.2.3=#0C01,CN=", "1.2.3=#0c01,CN="),
            ("CN=a=b", "CN=a=b"),
        ] {
            assert_eq!(read_name(typed).as_deref(), Ok(read), "{typed}");
            assert_eq!(read_name(read).as_deref(), Ok(read), "{read}");
        }
        for wrong in ["", "orders", "CN=a,", "XX=a", "CN=a\\", "CN=\\zz1,b", "CN=\\ff", "CN=#xx", "CN=\\a"] {
            assert!(read_name(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_brings_it_down(text in "\\PC{0,60}") {
            if let Ok(read) = read_name(&text) {
                prop_assert_eq!(read_name(&read), Ok(read.clone()));
            }
        }

        #[test]
        fn no_bytes_bring_it_down(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let names = CertificateNames::read(&bytes);
            prop_assert_eq!(names, CertificateNames::default());
            let _ = (distinguished(&bytes), common_name(&bytes), emails(&bytes), not_after(&bytes));
        }
    }
}
