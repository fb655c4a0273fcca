//! What a head says of the bytes of its body, when a policy makes others of them. Knows no policy.

use daemun_pipeline::Head;

/// Takes out what told of the bytes as they were: digests (RFC 9530, RFC 3230) and that parts of them can be had.
pub(crate) fn forget_bytes(head: &mut Head) {
    for name in ["accept-ranges", "content-md5", "content-digest", "digest", "repr-digest"] {
        head.remove(name);
    }
}

/// Makes the validator of a 304 weak where the request asks by its weak form: whoever holds the body got it from here, with that form.
pub(crate) fn weaken_as_asked(request: &Head, answer: &mut Head) {
    let Some(strong) = answer.get("etag").filter(|tag| tag.first() == Some(&b'"')) else { return };
    // a validator may hold commas, and no quotes
    let holds = |value: &[u8]| value.windows(strong.len() + 2).any(|part| part.strip_prefix(b"W/") == Some(strong));
    if request.values("if-none-match").any(holds) {
        weaken(answer);
    }
}

/// Makes a strong validator weak: what is sent means the same each time, but has other bytes (RFC 9110, section 8.8.1).
pub(crate) fn weaken(head: &mut Head) {
    let Some(strong) = head.get("etag").filter(|tag| tag.first() == Some(&b'"')) else { return };
    let weak = [b"W/", strong].concat();
    head.set("etag", &weak);
}
