//! Which parts of a file a request asks for (RFC 9110, section 14). Pure.

/// Parts that one request may ask for; with more it gets the whole, as from a server that knows no ranges.
const MOST: usize = 16;

/// A part: where it begins, and how many bytes it has; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) at: u64,
    pub(super) length: u64,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it.
    Whole,
    /// These parts, in the order asked for; never empty.
    Parts(Vec<Part>),
    /// Parts of which none exists.
    Nothing,
}

/// Reads `Range` for a file of `size` bytes. What is malformed, of another unit, of very many parts, or of parts that overlap so that they
/// are more than the file, is passed over, as section 14.2 allows.
pub(super) fn wanted(range: &[u8], size: u64) -> Wanted {
    let Some((unit, list)) = range.iter().position(|&b| b == b'=').and_then(|at| range.split_at_checked(at)) else {
        return Wanted::Whole;
    };
    if !unit.eq_ignore_ascii_case(b"bytes") {
        return Wanted::Whole;
    }
    let mut parts = Vec::new();
    let mut asked = 0;
    for item in list.get(1..).unwrap_or_default().split(|&b| b == b',') {
        let item = item.trim_ascii();
        if item.is_empty() {
            continue;
        }
        asked += 1;
        match part(item, size) {
            _ if asked > MOST => return Wanted::Whole,
            None => return Wanted::Whole,
            Some(None) => {}
            Some(Some(part)) => parts.push(part),
        }
    }
    let total = parts.iter().fold(0u64, |total, part: &Part| total.saturating_add(part.length));
    match asked {
        0 => Wanted::Whole,
        _ if parts.is_empty() => Wanted::Nothing,
        _ if total > size => Wanted::Whole,
        _ => Wanted::Parts(parts),
    }
}

/// One part; `None` when it is malformed, `Some(None)` when the file has nothing there.
#[allow(clippy::option_option, reason = "outer: malformed; inner: not satisfiable")]
fn part(item: &[u8], size: u64) -> Option<Option<Part>> {
    let dash = item.iter().position(|&b| b == b'-')?;
    let (first, last) = (item.get(..dash)?, item.get(dash + 1..)?);
    if first.is_empty() {
        let length = number(last)?.min(size);
        return Some((length > 0).then_some(Part { at: size - length, length }));
    }
    let first = number(first)?;
    let last = if last.is_empty() { u64::MAX } else { number(last)? };
    if last < first {
        return None;
    }
    Some((first < size).then(|| Part { at: first, length: last.min(size - 1) - first + 1 }))
}

/// A number in decimal; one too large for any file counts as the largest.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits
        .iter()
        .try_fold(0u64, |n, b| b.is_ascii_digit().then(|| n.saturating_mul(10).saturating_add(u64::from(b - b'0'))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(range: &str, size: u64) -> Wanted {
        wanted(range.as_bytes(), size)
    }

    fn some(parts: &[(u64, u64)]) -> Wanted {
        Wanted::Parts(parts.iter().map(|&(at, length)| Part { at, length }).collect())
    }

    #[test]
    fn parts_are_cut_to_what_the_file_has() {
        for (range, expected) in [
            ("bytes=0-0", some(&[(0, 1)])),
            ("bytes=0-9", some(&[(0, 10)])),
            ("Bytes=5-", some(&[(5, 5)])),
            ("bytes=-3", some(&[(7, 3)])),
            ("bytes=-99", some(&[(0, 10)])),
            ("bytes=8-99999999999999999999999", some(&[(8, 2)])),
            ("bytes=0-1, 4-5,,\t-1", some(&[(0, 2), (4, 2), (9, 1)])),
            ("bytes=4-5,0-1", some(&[(4, 2), (0, 2)])),
            ("bytes=0-1,50-60", some(&[(0, 2)])),
            ("bytes=10-", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=10-,99-", Wanted::Nothing),
        ] {
            assert_eq!(parts(range, 10), expected, "{range}");
        }
        assert_eq!(parts("bytes=0-", 0), Wanted::Nothing);
        assert_eq!(parts("bytes=-1", 0), Wanted::Nothing);
    }

    #[test]
    fn what_is_malformed_greedy_or_of_another_unit_gets_the_whole() {
        let many = format!("bytes={}", "0-0,".repeat(17));
        for range in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "items=0-1",
            "bytes=1",
            "bytes=-",
            "bytes=5-4",
            "bytes=a-b",
            "bytes=0-1-2",
            "bytes=0x1-2",
            "bytes=+1-2",
            "bytes=0 - 1",
            "bytes=0-9,0-9",
            "bytes=0-1;2-3",
            &many,
        ] {
            assert_eq!(parts(range, 10), Wanted::Whole, "{range}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_asked_for_lies_within_the_file_and_is_no_more_than_it(range: Vec<u8>, size: u64) {
            let range = [b"bytes=", range.as_slice()].concat();
            if let Wanted::Parts(parts) = wanted(&range, size) {
                prop_assert!(!parts.is_empty() && parts.len() <= MOST);
                prop_assert!(parts.iter().all(|part| part.length > 0 && part.at.checked_add(part.length).is_some_and(|end| end <= size)));
                prop_assert!(parts.iter().map(|part| u128::from(part.length)).sum::<u128>() <= u128::from(size));
            }
        }

        #[test]
        fn a_part_is_what_the_file_holds_there(size in 1u64..1000, first in 0u64..1200, more in 0u64..1200) {
            let last = first + more;
            let expected = if first < size { some(&[(first, last.min(size - 1) - first + 1)]) } else { Wanted::Nothing };
            prop_assert_eq!(parts(&format!("bytes={first}-{last}"), size), expected);
        }
    }
}
