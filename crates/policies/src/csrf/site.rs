//! Where a page stands that sends a request, as far as the browser says. Knows no token.

use daemun_pipeline::{Exchange, FieldId};

use crate::cors::Origin;

/// Whether the browser says, or does not say, that the page is of this site, or of one of `origins`.
///
/// # Errors
/// Why it is not, in words.
pub(crate) fn judge(exchange: &Exchange, origins: &[Origin]) -> Result<(), &'static str> {
    let head = &exchange.request.head;
    let is_ours = |origin: &[u8]| is_own(exchange, origin) || origins.iter().any(|known| known.matches(origin));
    let mut values = head.values_id(FieldId::Origin);
    if let Some(origin) = values.next() {
        if values.next().is_some() {
            return Err("there are several `Origin`s");
        }
        return if is_ours(origin) { Ok(()) } else { Err("`Origin` is another site's") };
    }
    // what a browser says of a request that has no `Origin` (Fetch Metadata)
    let mut values = head.values("sec-fetch-site");
    match (values.next(), values.next()) {
        (None, _) => {}
        (Some(b"same-origin" | b"none"), None) => return Ok(()),
        (Some(_), _) => return Err("`Sec-Fetch-Site` says that the page is another site's"),
    }
    let mut values = head.values("referer");
    match (values.next(), values.next()) {
        (None, _) => Ok(()),
        (Some(referer), None) if origin_of(referer).is_some_and(is_ours) => Ok(()),
        (Some(_), _) => Err("`Referer` is another site's"),
    }
}

/// Scheme, host and port of an address.
fn origin_of(address: &[u8]) -> Option<&[u8]> {
    let start = address.windows(3).position(|part| part == b"://")? + 3;
    let end =
        address.get(start..)?.iter().position(|byte| b"/?#".contains(byte)).map_or(address.len(), |end| start + end);
    address.get(..end)
}

/// Whether an origin is that of the request itself.
fn is_own(exchange: &Exchange, origin: &[u8]) -> bool {
    let (scheme, port): (&[u8], &[u8]) =
        if exchange.is_https() { (b"https://", b":443") } else { (b"http://", b":80") };
    let own = exchange.request.head.bytes(exchange.request.authority);
    let own = own.strip_suffix(port).unwrap_or(own);
    let Some(host) = origin.strip_prefix(scheme) else { return false };
    !own.is_empty() && host.strip_suffix(port).unwrap_or(host).eq_ignore_ascii_case(own)
}
