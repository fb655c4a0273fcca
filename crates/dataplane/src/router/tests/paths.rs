//! The reading of paths: the published table, and its properties.

use proptest::prelude::*;

use super::super::path::{self, PathError, check_query, read, split_query};
use super::naive;

const TABLE: &str = include_str!("../../../../../docs/reference/paths.md");

fn forms(raw: &str) -> Result<[String; 4], PathError> {
    let mut buffer = b"left from the last request".to_vec();
    let reading = read(raw.as_bytes(), &mut buffer)?;
    let path = reading.view(raw.as_bytes(), &buffer);
    let texts = [path.forwarded(false), path.matched(false), path.forwarded(true), path.matched(true)];
    Ok(texts.map(|text| String::from_utf8(text.to_vec()).unwrap()))
}

#[test]
fn the_table_of_cases_in_the_documentation_holds() {
    let mut cases = 0;
    for line in TABLE.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let [raw, matched, forwarded, kept, why] = cells.as_slice() else { panic!("not a case: {line}") };
        let kept = kept.replace("same", forwarded);
        cases += 1;
        match forms(raw) {
            Err(error) => {
                assert_eq!((*matched, *forwarded, kept.as_str()), ("400", "400", "400"), "{raw}: {error} ({why})")
            }
            Ok([own_forwarded, own_matched, own_kept, _]) => {
                assert_eq!((own_matched.as_str(), own_forwarded.as_str()), (*matched, *forwarded), "{raw} ({why})");
                assert_eq!(own_kept, kept, "{raw} with `slashes: keep` ({why})");
            }
        }
    }
    assert!(cases >= 60, "the table has {cases} cases");
}

#[test]
fn a_path_in_normal_form_stays_where_it_is() {
    for raw in ["/", "/a", "/a/", "/a/b.c/~d", "/.well-known/x", "/...", "/..a/.b", "/%EC%83%81", "/a:b@c!$&'()*+,="] {
        let mut buffer = Vec::new();
        let reading = read(raw.as_bytes(), &mut buffer).unwrap();
        assert!(reading.is_borrowed(), "{raw}");
        assert_eq!(buffer.capacity(), 0);
        assert_eq!(reading.view(raw.as_bytes(), &buffer).forwarded(false), raw.as_bytes());
    }
}

#[test]
fn every_byte_that_a_path_may_not_hold_is_refused() {
    for byte in (0..=0x20).chain(0x7F..=0xFF).chain(*b"#?\\") {
        let raw = [b'/', b'a', byte, b'b'];
        let error = read(&raw, &mut Vec::new()).unwrap_err();
        let expected = if byte == b'\\' { PathError::Backslash } else { PathError::ForbiddenByte(byte) };
        assert_eq!(error, expected);
    }
}

#[test]
fn a_path_without_a_slash_in_front_and_one_without_end_are_refused() {
    for raw in ["", "*", "a", "%2Fa", "http://a/"] {
        assert_eq!(forms(raw), Err(PathError::NotAbsolute), "{raw}");
    }
    assert_eq!(forms(&format!("/{}", "a".repeat(1 << 20))), Err(PathError::TooLong));
}

#[test]
fn the_query_begins_at_the_first_question_mark() {
    assert_eq!(split_query(b"/a?b?c"), (b"/a".as_slice(), Some(b"b?c".as_slice())));
    assert_eq!(split_query(b"/a?"), (b"/a".as_slice(), Some(b"".as_slice())));
    assert_eq!(split_query(b"/a"), (b"/a".as_slice(), None));
    assert!(check_query("a=%zz&\u{e9}|\\".as_bytes()).is_ok());
    for byte in (0..=0x20).chain([0x7F, b'#']) {
        assert!(check_query(&[b'a', byte]).is_err());
    }
}

#[test]
fn a_literal_of_a_pattern_is_read_like_a_request() {
    let read = |segment| path::read_pattern_segment(segment).map(|(name, _)| String::from_utf8(name).unwrap());
    assert_eq!(read("상품").unwrap(), "%EC%83%81%ED%92%88");
    assert_eq!(read("a b%7e%c3").unwrap(), "a%20b~%C3");
    assert!(read("a%").is_err());
}

/// Texts made of the pieces that the rules speak of.
fn hostile_path() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "/", "//", "/./", "/../", ".", "..", "a", "b", "%2e", "%2E", "%2f", "%2F", "%61", "%7e", "%c3", "%C3", ";",
        ";x=1", "%3b", "%25", "%252e", "%5c", "%00", "%", "%zz", "~", "-", "A",
    ]);
    prop::collection::vec(pieces, 0..10).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn reading_a_path_twice_is_reading_it_once(raw in hostile_path()) {
        if let Ok([forwarded, matched, kept, kept_matched]) = forms(&raw) {
            for (text, own) in [(&forwarded, &matched), (&kept, &kept_matched)] {
                let again = forms(text).unwrap();
                let index = if text == &kept && kept != forwarded { 2 } else { 0 };
                prop_assert_eq!(&again[index], text);
                prop_assert_eq!(&again[index + 1], own);
            }
            let again = forms(&matched).unwrap();
            prop_assert_eq!(&again, &[matched.clone(), matched.clone(), matched.clone(), matched]);
        }
    }

    #[test]
    fn a_path_is_read_as_the_rules_say(raw in hostile_path()) {
        let text = |segments: Vec<naive::Segment>, with: bool| -> String {
            segments.iter().map(|s| format!("/{}{}", s.name, if with { &s.parameters } else { "" })).collect()
        };
        match (forms(&raw), naive::read(&raw, false), naive::read(&raw, true)) {
            (Ok(own), Some((collapsed, _)), Some((kept, _))) => {
                let expected = [text(collapsed.clone(), true), text(collapsed, false), text(kept.clone(), true), text(kept, false)];
                prop_assert_eq!(own, expected);
            }
            (Err(_), None, _) => {}
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn whatever_is_read_is_never_read_otherwise_by_a_stricter_server(raw in prop::collection::vec(any::<u8>(), 0..40)) {
        let raw = [b"/".as_slice(), &raw].concat();
        let mut buffer = Vec::new();
        if let Ok(reading) = read(&raw, &mut buffer) {
            let text = reading.view(&raw, &buffer).forwarded(false).to_vec();
            prop_assert!(text.starts_with(b"/"));
            prop_assert!(text.iter().all(|byte| (0x21..0x7F).contains(byte) && *byte != b'\\'));
            let mut segments = text[1..].split(|&byte| byte == b'/').peekable();
            while let Some(segment) = segments.next() {
                prop_assert!(!segment.is_empty() || segments.peek().is_none());
                prop_assert!(!matches!(segment, b"." | b".."));
            }
        }
    }
}
