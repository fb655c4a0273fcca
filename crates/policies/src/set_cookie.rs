//! A cookie on an answer, which then is its caller's alone. Knows no policy.

use daemun_pipeline::head::Head;

/// Gives the caller a cookie, and forbids caches that many share to keep the answer: they would give the cookie to others as well, and
/// nothing in HTTP but `Cache-Control` keeps them from it (RFC 9111, section 7.3).
pub(crate) fn set_cookie(head: &mut Head, cookie: &str) {
    head.append("Set-Cookie", cookie.as_bytes());
    // what is said to certain caches counts there before `Cache-Control` (RFC 9213, section 2.2)
    for targeted in ["cdn-cache-control", "surrogate-control"] {
        head.remove(targeted);
    }
    let mut said = Vec::new();
    let mut is_private = false;
    for value in head.values("cache-control") {
        each_directive(value, |directive| {
            let name = directive.split(|&byte| byte == b'=').next().unwrap_or_default().trim_ascii();
            let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
            is_private |= is("no-store") || is("private") && name.len() == directive.len();
            // `private` that names fields is about these alone
            if !directive.is_empty() && !is("public") && !is("s-maxage") && !is("private") {
                said.extend_from_slice(b", ");
                said.extend_from_slice(directive);
            }
        });
    }
    if !is_private {
        head.set("Cache-Control", &[b"private", &said[..]].concat());
    }
}

/// The directives of a value; a comma in quotes is part of one.
fn each_directive<'a>(value: &'a [u8], mut note: impl FnMut(&'a [u8])) {
    let (mut quoted, mut escaped, mut start) = (false, false, 0);
    for (at, &byte) in value.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => {
                note(value.get(start..at).unwrap_or_default().trim_ascii());
                start = at + 1;
            }
            _ => {}
        }
    }
    // what follows a quote without an end cannot be told, and is left out
    if !quoted {
        note(value.get(start..).unwrap_or_default().trim_ascii());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_with_a_cookie_is_its_callers_alone() {
        for (said, wanted) in [
            (&[][..], "private"),
            (&["public, max-age=60"], "private, max-age=60"),
            (&["max-age=60", "S-MaxAge=600 , PUBLIC"], "private, max-age=60"),
            (&["private=\"set-cookie, x\", must-revalidate"], "private, must-revalidate"),
            (&["no-cache=\"a, \\\"public\"", ",, immutable"], "private, no-cache=\"a, \\\"public\", immutable"),
            (&["max-age=60, x=\"public"], "private, max-age=60"),
            (&["no-store, public"], "no-store, public"),
            (&["max-age=60, Private, s-maxage=60"], "max-age=60, Private, s-maxage=60"),
        ] {
            let mut head = Head::default();
            for value in said {
                head.append("Cache-Control", value.as_bytes());
            }
            head.append("CDN-Cache-Control", b"max-age=60");
            head.append("Surrogate-Control", b"max-age=60");
            set_cookie(&mut head, "a=b");
            let values: Vec<_> = head.values("cache-control").map(String::from_utf8_lossy).collect();
            assert_eq!(values, [wanted], "{said:?}");
            assert_eq!(head.get("set-cookie"), Some(&b"a=b"[..]));
            assert!(head.get("cdn-cache-control").is_none() && head.get("surrogate-control").is_none());
        }
    }
}
