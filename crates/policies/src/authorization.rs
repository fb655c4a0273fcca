//! Values of `Authorization` by their scheme. Knows no credential.

use daemun_pipeline::{FieldId, Head};

/// What follows a scheme and at least one space (RFC 9110, section 11.4); the scheme in any case.
#[inline]
pub(crate) fn after_scheme<'a>(value: &'a [u8], scheme: &str) -> Option<&'a [u8]> {
    let (first, rest) = value.split_at_checked(scheme.len())?;
    // most write it as it is registered
    if first != scheme.as_bytes() && !first.eq_ignore_ascii_case(scheme.as_bytes()) {
        return None;
    }
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix(b" ").map(<[u8]>::trim_ascii_start) }
}

/// Takes every `Authorization` of a scheme out of a head, among so many of its first fields.
pub(crate) fn remove_scheme(head: &mut Head, scheme: &str, among: usize) {
    let (buf, fields) = (&head.buf, &mut head.fields);
    for field in fields.iter_mut().take(among).filter(|field| field.id == FieldId::Authorization) {
        let value = buf.get(field.value.range()).unwrap_or_default();
        field.removed |= after_scheme(value, scheme).is_some();
    }
}
