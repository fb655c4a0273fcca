//! The username and password a request presents: finds them, and refuses what could be read in two ways. Knows no consumer.

use daemun_pipeline::{FieldId, Head};

use crate::authorization::after_scheme;
use crate::base64_text::decode;

/// The scheme (RFC 7617, section 2).
pub(crate) const SCHEME: &str = "Basic";
/// Most bytes of username and password together: the longest of each that a configuration may hold, and the colon.
pub(crate) const MAX: usize = 255 + 1 + 512;

/// Why a request has no credentials to look up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absent {
    /// None are there.
    None,
    /// Several are, and they differ.
    Several,
    /// They are not base64 of `username:password`, or longer than any.
    Malformed,
}

/// Hands the one username and password of a request to `look_up`. Allocates nothing.
pub(crate) fn find<T>(head: &Head, look_up: impl FnOnce(&[u8], &[u8]) -> T) -> Result<T, Absent> {
    let mut found: Option<&[u8]> = None;
    for value in head.values_id(FieldId::Authorization).filter_map(|value| after_scheme(value, SCHEME)) {
        if found.is_some_and(|known| known != value) {
            return Err(Absent::Several);
        }
        found = Some(value);
    }
    let mut buffer = [0; MAX];
    let decoded = decode(found.ok_or(Absent::None)?, &mut buffer).ok_or(Absent::Malformed)?;
    // the first colon ends the username; a password may hold more
    let colon = decoded.iter().position(|&b| b == b':').ok_or(Absent::Malformed)?;
    let (username, rest) = decoded.split_at_checked(colon).ok_or(Absent::Malformed)?;
    Ok(look_up(username, rest.get(1..).unwrap_or_default()))
}
