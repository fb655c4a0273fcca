//! Paths that a policy may set: only such as have one reading already, so that what is sent is what is meant. Knows no route.

/// Whether a path reads as itself: no segment is empty but the last, none is `.` or `..`, none has parameters, and what is encoded is in
/// upper case and has to be.
pub(super) fn is_normal(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else { return false };
    let mut segments = rest.split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        if (segment.is_empty() && !last) || segment == "." || segment == ".." || !is_segment(segment.as_bytes()) {
            return false;
        }
    }
    path.len() <= 16 << 10
}

fn is_segment(mut rest: &[u8]) -> bool {
    loop {
        match rest {
            [] => return true,
            [b'%', high, low, behind @ ..] => {
                if !is_escape(*high, *low) {
                    return false;
                }
                rest = behind;
            }
            [b, behind @ ..] if b.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(b) => rest = behind,
            _ => return false,
        }
    }
}

/// Whether an escape stands for a byte that must be escaped and may be sent.
fn is_escape(high: u8, low: u8) -> bool {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'A'..=b'F' => Some(b - b'A' + 10),
        _ => None,
    };
    let (Some(high), Some(low)) = (digit(high), digit(low)) else { return false };
    let byte = high << 4 | low;
    !byte.is_ascii_alphanumeric() && !b"-._~/\\;\0".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::is_normal;

    #[test]
    fn only_paths_of_one_reading_are_normal() {
        for path in ["/", "/a", "/a/", "/a/b.c/~d", "/a%20b", "/%C3%A9", "/a:b@c=d,e", "/..a", "/%25"] {
            assert!(is_normal(path), "{path}");
        }
        for path in [
            "", "a", "//", "/a//b", "/.", "/..", "/a/../b", "/a/./b", "/%2F", "/%2f", "/%41", "/%00", "/%5C", "/\\",
            "/a;b", "/%3B", "/a?b", "/a#b", "/a b", "/é", "/%", "/%2", "/%zz", "/\r\n", "/%c3",
        ] {
            assert!(!is_normal(path), "{path}");
        }
    }
}
