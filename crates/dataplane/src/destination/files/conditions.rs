//! Whether a request's conditions hold of a file (RFC 9110, section 13). Pure.

use std::time::{Duration, SystemTime};

use daemun_pipeline::Head;

/// What a file is told apart by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Validators {
    /// Strong entity tag, with its quotes.
    pub(super) etag: String,
    /// Seconds since the Unix epoch.
    pub(super) modified: u64,
}

/// What the conditions come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The file is wanted.
    Wanted,
    /// The caller has it already.
    NotModified,
    /// The caller wants it only as it was before.
    Failed,
}

/// Judges a GET or HEAD, in the order of section 13.2.2. A date that cannot be read is passed over.
pub(super) fn judge(head: &Head, file: &Validators) -> Outcome {
    if head.get("if-match").is_some() {
        if !head.values("if-match").any(|list| names(list, &file.etag, true)) {
            return Outcome::Failed;
        }
    } else if date(head, "if-unmodified-since").is_some_and(|date| file.modified > date) {
        return Outcome::Failed;
    }
    if head.get("if-none-match").is_some() {
        if head.values("if-none-match").any(|list| names(list, &file.etag, false)) {
            return Outcome::NotModified;
        }
    } else if date(head, "if-modified-since").is_some_and(|date| file.modified <= date) {
        return Outcome::NotModified;
    }
    Outcome::Wanted
}

/// Whether `Range` may be looked at: `If-Range` is absent, or names the file as it is (section 13.1.5).
pub(super) fn ranges_hold(head: &Head, file: &Validators) -> bool {
    match head.get("if-range") {
        None => true,
        Some(tag) if tag.contains(&b'"') => tag == file.etag.as_bytes(),
        Some(_) => date(head, "if-range") == Some(file.modified),
    }
}

/// A date of the head, in seconds since the Unix epoch; `None` when it is absent, repeated or malformed.
fn date(head: &Head, name: &str) -> Option<u64> {
    let mut values = head.values(name);
    let (first, None) = (values.next()?, values.next()) else { return None };
    let time = httpdate::parse_http_date(std::str::from_utf8(first).ok()?).ok()?;
    time.duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs())
}

/// A moment as a field writes it.
pub(super) fn text(seconds: u64) -> String {
    // beyond the year 9999 there is no such text
    let seconds = seconds.min(253_402_300_799);
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Whether a list of entity tags has `etag`, or is `*`. A tag may hold commas; what is malformed ends the list.
fn names(list: &[u8], etag: &str, strong: bool) -> bool {
    let mut rest = list.trim_ascii();
    if rest == b"*" {
        return true;
    }
    while !rest.is_empty() {
        let (weak, tag) = match rest.strip_prefix(b"W/") {
            Some(tag) => (true, tag),
            None => (false, rest),
        };
        let Some(length) = tag.get(1..).and_then(|opaque| opaque.iter().position(|&b| b == b'"')) else { return false };
        let Some((tag, behind)) = tag.split_at_checked(length + 2).filter(|(tag, _)| tag.starts_with(b"\"")) else {
            return false;
        };
        if tag == etag.as_bytes() && !(weak && strong) {
            return true;
        }
        rest = match behind.trim_ascii_start() {
            [b',', more @ ..] => more.trim_ascii_start(),
            _ => return false,
        };
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sunday, 6 November 1994, 08:49:37.
    const THEN: u64 = 784_111_777;
    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn file() -> Validators {
        Validators { etag: "\"a,b\"".to_owned(), modified: THEN }
    }

    fn head(fields: &[(&str, &str)]) -> Head {
        let mut head = Head::default();
        for (name, value) in fields {
            assert!(head.append(name, value.as_bytes()));
        }
        head
    }

    #[test]
    fn conditions_are_judged_in_their_order() {
        use Outcome::{Failed, NotModified, Wanted};
        for (fields, expected) in [
            (&[][..], Wanted),
            (&[("If-None-Match", "\"a,b\"")], NotModified),
            (&[("If-None-Match", "W/\"a,b\"")], NotModified),
            (&[("If-None-Match", "\"x\", \"a,b\"")], NotModified),
            (&[("If-None-Match", "\"x\""), ("If-None-Match", "\"a,b\"")], NotModified),
            (&[("If-None-Match", "*")], NotModified),
            (&[("If-None-Match", "\"a\"")], Wanted),
            (&[("If-None-Match", "a,b")], Wanted),
            (&[("If-None-Match", "\"a")], Wanted),
            (&[("If-None-Match", "\"x\" \"a,b\"")], Wanted),
            (&[("If-Modified-Since", DATE)], NotModified),
            (&[("If-Modified-Since", AFTER)], NotModified),
            (&[("If-Modified-Since", BEFORE)], Wanted),
            (&[("If-Modified-Since", "yesterday")], Wanted),
            (&[("If-None-Match", "\"x\""), ("If-Modified-Since", DATE)], Wanted),
            (&[("If-Match", "\"a,b\"")], Wanted),
            (&[("If-Match", "*")], Wanted),
            (&[("If-Match", "W/\"a,b\"")], Failed),
            (&[("If-Match", "\"x\"")], Failed),
            (&[("If-Match", "\"x\""), ("If-None-Match", "\"a,b\"")], Failed),
            (&[("If-Unmodified-Since", BEFORE)], Failed),
            (&[("If-Unmodified-Since", DATE)], Wanted),
            (&[("If-Match", "\"a,b\""), ("If-Unmodified-Since", BEFORE)], Wanted),
        ] {
            assert_eq!(judge(&head(fields), &file()), expected, "{fields:?}");
        }
    }

    #[test]
    fn a_range_holds_of_exactly_the_file_that_was_seen() {
        for (value, holds) in [
            ("\"a,b\"", true),
            ("W/\"a,b\"", false),
            ("\"x\"", false),
            (DATE, true),
            (BEFORE, false),
            (AFTER, false),
            ("x", false),
        ] {
            assert_eq!(ranges_hold(&head(&[("If-Range", value)]), &file()), holds, "{value}");
        }
        assert!(ranges_hold(&head(&[]), &file()));
    }

    proptest! {
        #[test]
        fn a_moment_is_read_as_it_was_written(seconds in 0u64..253_402_300_800) {
            let text = text(seconds);
            let file = Validators { etag: "\"x\"".to_owned(), modified: seconds };
            prop_assert_eq!(judge(&head(&[("If-Modified-Since", &text)]), &file), Outcome::NotModified);
            prop_assert!(ranges_hold(&head(&[("If-Range", &text)]), &file));
        }

        #[test]
        fn any_list_is_judged(list in "[W/\"a, *]{0,12}") {
            let _ = names(list.as_bytes(), "\"a\"", false);
        }
    }
}
