//! Paths: what is forwarded reads as itself, holds nothing that another server would read anew, and is what a naive reader makes of it.
#![no_main]

use daemun_dataplane::router::path::{self, check_query, split_query};
use daemun_dataplane::router::values::{cookie_values, query_values};
use daemun_fuzz::table;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (raw, query) = split_query(data);
    values(query.unwrap_or_default());
    let mut buffer = b"left from the last request".to_vec();
    let Ok(reading) = path::read(raw, &mut buffer) else {
        let text = str::from_utf8(raw).ok().filter(|raw| raw.len() <= 1 << 20);
        assert_eq!(text.and_then(|text| table::read_naively(text, false)), None, "refused, but not by the rules");
        return;
    };
    let path = reading.view(raw, &buffer);
    if reading.is_borrowed() {
        assert_eq!(path.forwarded(false), raw);
    }
    for keep_slashes in [false, true] {
        let (forwarded, matched) = (path.forwarded(keep_slashes), path.matched(keep_slashes));
        harmless(forwarded, keep_slashes);
        assert!(!matched.contains(&b';') && (path.had_parameters() || matched == forwarded));
        let naive = table::read_naively(str::from_utf8(raw).expect("ASCII"), keep_slashes).expect("good by the rules");
        assert_eq!((forwarded, matched), (naive.forwarded.as_bytes(), naive.matched.as_bytes()));
        assert_eq!(path.had_encoded_slash(), naive.encoded_slash);

        let mut buffer = Vec::new();
        let again = path::read(forwarded, &mut buffer).expect("what is forwarded can be read");
        let again = again.view(forwarded, &buffer);
        assert_eq!((again.forwarded(keep_slashes), again.matched(keep_slashes)), (forwarded, matched));
    }
});

/// What no server may get, whether it decodes before it looks or after.
fn harmless(forwarded: &[u8], keep_slashes: bool) {
    let text = str::from_utf8(forwarded).expect("ASCII");
    assert!(text.starts_with('/'));
    assert!(text.bytes().all(|byte| (0x21..0x7F).contains(&byte) && !b"\\?#".contains(&byte)));
    let upper = text.to_ascii_uppercase();
    assert!(!upper.contains("%00") && !upper.contains("%5C"));
    assert!(keep_slashes || !text.contains("//"));
    for segment in upper.split('/') {
        assert!(!segment.starts_with(';') && !segment.starts_with("%3B"), "{text}");
        // A server may decode before it resolves dots, and cut parameters before or after that.
        let decoded = segment.replace("%2E", ".").replace("%2F", "/").replace("%3B", ";");
        let names = decoded.split('/').map(|piece| piece.split(';').next());
        assert!(names.flatten().all(|name| name != "." && name != ".."), "{text}");
    }
}

/// Queries are forwarded as they came; only their values are looked at.
fn values(query: &[u8]) {
    let bad = |byte: &u8| *byte <= 0x20 || *byte == 0x7F || *byte == b'#';
    assert_eq!(check_query(query).is_err(), query.iter().any(bad));
    query_values(query, "a", &mut |value| {
        assert!(value.len() <= query.len());
        true
    });
    cookie_values(query, "a", &mut |value| value.len() <= query.len());
}
