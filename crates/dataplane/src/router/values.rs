//! Values of query parameters and cookies out of a request's raw text, as conditions see them. Knows nothing of routes.

use daemun_pipeline::exchange::decode;

/// Shows the values of a query parameter, decoded (`%41`, and `+` as a space), until `visit` says `false`. A parameter without
/// `=` has the empty value. Allocates only for what is encoded.
pub fn query_values(query: &[u8], name: &str, visit: &mut dyn FnMut(&[u8]) -> bool) {
    for pair in query.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()) {
        let (key, value) = split_once(pair, b'=');
        if *decode(key, true) == *name.as_bytes() && !visit(&decode(value, true)) {
            return;
        }
    }
}

/// Shows the values of a cookie in one `Cookie` field, until `visit` says `false`; gives whether it wants more. Quotes round a
/// value belong to it (RFC 6265, section 5.4).
pub fn cookie_values(field: &[u8], name: &str, visit: &mut dyn FnMut(&[u8]) -> bool) -> bool {
    field.split(|&byte| byte == b';').map(<[u8]>::trim_ascii).all(|pair| {
        let (key, value) = split_once(pair, b'=');
        key.trim_ascii() != name.as_bytes() || visit(value.trim_ascii())
    })
}

fn split_once(pair: &[u8], separator: u8) -> (&[u8], &[u8]) {
    match pair.iter().position(|&byte| byte == separator) {
        Some(at) => (pair.get(..at).unwrap_or_default(), pair.get(at + 1..).unwrap_or_default()),
        None => (pair, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str, name: &str) -> Vec<String> {
        let mut values = Vec::new();
        query_values(text.as_bytes(), name, &mut |value| {
            values.push(String::from_utf8_lossy(value).into_owned());
            true
        });
        values
    }

    #[test]
    fn query_values_are_decoded_once() {
        assert_eq!(query("a=1&b=2&a=%33&%61=4", "a"), ["1", "3", "4"]);
        assert_eq!(query("a=x+y%2Bz&a&a=%2&a=%zz&a=%2541", "a"), ["x y+z", "", "%2", "%zz", "%41"]);
        assert_eq!(query("a=b=c&=d", "a"), ["b=c"]);
        assert!(query("", "a").is_empty());
    }

    #[test]
    fn cookie_values_keep_their_quotes() {
        let mut values = Vec::new();
        cookie_values(b"a=1; b=2;a=\"3\" ; a", "a", &mut |value| {
            values.push(value.to_vec());
            true
        });
        assert_eq!(values, [b"1".to_vec(), b"\"3\"".to_vec(), b"".to_vec()]);
    }

    #[test]
    fn a_visitor_that_has_enough_is_not_asked_again() {
        let mut seen = 0;
        let more = cookie_values(b"a=1; a=2", "a", &mut |_| {
            seen += 1;
            false
        });
        query_values(b"a=1&a=2", "a", &mut |_| {
            seen += 1;
            false
        });
        assert!(!more);
        assert_eq!(seen, 2);
    }
}
