//! Names and values of a query or a form, changed in place: what is not touched stays byte for byte. Knows no percent but its own.

use daemun_pipeline::exchange::is_query_name;

/// How names and values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writing {
    /// A query (RFC 3986, section 3.4).
    Query,
    /// `application/x-www-form-urlencoded`: a space is `+`.
    Form,
}

/// Gives the first of a name this value and takes out the others, or appends it.
pub(super) fn set(text: &str, name: &str, value: &str, writing: Writing) -> String {
    let mut out = String::with_capacity(text.len() + name.len() + value.len() + 2);
    let mut done = false;
    for (sent, pair) in pairs(text) {
        if !is_query_name(sent, name) {
            push(&mut out, pair);
        } else if !std::mem::replace(&mut done, true) {
            push_new(&mut out, name, value, writing);
        }
    }
    if !done {
        push_new(&mut out, name, value, writing);
    }
    out
}

/// Takes a name out; `None` when it is not there.
pub(super) fn remove(text: &str, name: &str) -> Option<String> {
    retain(text, |sent| !is_query_name(sent, name))
}

/// Takes out all whose name is not one that stays; `None` when there are none.
pub(super) fn keep(text: &str, stays: impl Fn(&dyn Fn(&str) -> bool) -> bool) -> Option<String> {
    retain(text, |sent| stays(&|name| is_query_name(sent, name)))
}

fn retain(text: &str, stays: impl Fn(&str) -> bool) -> Option<String> {
    if pairs(text).all(|(sent, _)| stays(sent)) {
        return None;
    }
    let mut out = String::with_capacity(text.len());
    pairs(text).filter(|(sent, _)| stays(sent)).for_each(|(_, pair)| push(&mut out, pair));
    Some(out)
}

/// Gives another name, in place of what had it before; `None` when the old one is not there.
pub(super) fn rename(text: &str, old: &str, new: &str, writing: Writing) -> Option<String> {
    if old == new || !pairs(text).any(|(sent, _)| is_query_name(sent, old)) {
        return None;
    }
    let mut out = String::with_capacity(text.len() + new.len());
    for (sent, pair) in pairs(text) {
        if is_query_name(sent, old) {
            separate(&mut out);
            push_text(&mut out, new, writing);
            out.push_str(pair.get(sent.len()..).unwrap_or_default());
        } else if !is_query_name(sent, new) {
            push(&mut out, pair);
        }
    }
    Some(out)
}

/// Names as sent, and whole pairs.
fn pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let parts = text.split('&').filter(|pair| !pair.is_empty());
    parts.map(|pair| (pair.split_once('=').map_or(pair, |(name, _)| name), pair))
}

fn separate(out: &mut String) {
    if !out.is_empty() {
        out.push('&');
    }
}

fn push(out: &mut String, pair: &str) {
    separate(out);
    out.push_str(pair);
}

fn push_new(out: &mut String, name: &str, value: &str, writing: Writing) {
    separate(out);
    push_text(out, name, writing);
    out.push('=');
    push_text(out, value, writing);
}

/// Percent-encodes all but unreserved characters (RFC 3986, section 2.3), which no reader takes for anything else.
pub(super) fn push_text(out: &mut String, text: &str, writing: Writing) {
    match writing {
        Writing::Form => form_urlencoded::byte_serialize(text.as_bytes()).for_each(|piece| out.push_str(piece)),
        Writing::Query => push_encoded(out, text.as_bytes()),
    }
}

/// Percent-encodes all but unreserved characters.
pub(super) fn push_encoded(out: &mut String, bytes: &[u8]) {
    for &b in bytes {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            out.push(char::from(b));
        } else {
            out.push('%');
            for half in [b >> 4, b & 15] {
                out.push(char::from_digit(u32::from(half), 16).unwrap_or('0').to_ascii_uppercase());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_touched_stays_byte_for_byte() {
        assert_eq!(set("a=%31&b", "c d", "é&", Writing::Query), "a=%31&b&c%20d=%C3%A9%26");
        assert_eq!(set("a=%31&b", "c d", "é&", Writing::Form), "a=%31&b&c+d=%C3%A9%26");
        assert_eq!(set("%61=1&b=2&a=3", "a", "x", Writing::Query), "a=x&b=2");
        assert_eq!(set("", "a", "", Writing::Query), "a=");
        assert_eq!(remove("a=1&%61=2&b=+&a", "a").unwrap(), "b=+");
        assert_eq!(remove("b=1", "a"), None);
        assert_eq!(remove("a", "a").unwrap(), "");
        assert_eq!(keep("a=1&&b=2&c", |is| is("a") || is("c")).unwrap(), "a=1&c");
        assert_eq!(keep("a=1", |is| is("a")), None);
        assert_eq!(rename("x=0&a=%20&b=1&a", "a", "b", Writing::Query).unwrap(), "x=0&b=%20&b");
        assert_eq!(rename("x=0", "a", "b", Writing::Query), None);
    }
}
