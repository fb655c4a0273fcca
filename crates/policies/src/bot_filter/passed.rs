//! Values that passed lately, as each worker remembers them: the same programs call again and again, and to go through what they say costs
//! more than to see that it is the same. Knows not what values are looked through for.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};

/// Values of a worker that are remembered at once, of all filters together; a power of two.
const PLACES: usize = 128;
/// Longer ones, which no honest program sends, are not, bytes.
const LONGEST: usize = 256;

thread_local! {
    static PASSED: RefCell<Vec<Place>> = const { RefCell::new(Vec::new()) };
}

/// What passed which filter; 0 for none.
#[derive(Clone, Default)]
struct Place {
    filter: u64,
    value: Vec<u8>,
}

/// What one filter let pass.
pub(super) struct Passed {
    /// No other filter has it, before or after a reload.
    filter: u64,
}

impl Passed {
    pub(super) fn new() -> Passed {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Passed { filter: NEXT.fetch_add(1, Ordering::Relaxed) }
    }

    /// Whether the value is known to pass, or does so now. Allocates nothing for one that is remembered.
    #[inline]
    pub(super) fn holds(&self, value: &[u8], passes: impl FnOnce() -> bool) -> bool {
        let at = self.place(value);
        let is = |place: &Place| place.filter == self.filter && place.value == value;
        if PASSED.with_borrow(|places| places.get(at).is_some_and(is)) {
            return true;
        }
        let passes = passes();
        if passes && value.len() <= LONGEST {
            self.remember(at, value);
        }
        passes
    }

    /// Where it would be. Of values that share a place the last one is remembered.
    #[inline]
    fn place(&self, value: &[u8]) -> usize {
        let word = |bytes: Option<&[u8; 8]>| bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let mixed =
            word(value.first_chunk()) ^ word(value.last_chunk()).rotate_left(29) ^ self.filter ^ value.len() as u64;
        (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 57) as usize % PLACES
    }

    #[cold]
    fn remember(&self, at: usize, value: &[u8]) {
        PASSED.with_borrow_mut(|places| {
            places.resize_with(PLACES, Place::default);
            let Some(place) = places.get_mut(at) else { return };
            place.filter = self.filter;
            place.value.clear();
            place.value.extend_from_slice(value);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn what_passed_is_not_looked_through_again_and_what_did_not_is() {
        let (one, other) = (Passed::new(), Passed::new());
        let looked = Cell::new(0);
        let ask = |passed: &Passed, value: &[u8], passes: bool| {
            looked.set(0);
            let held = passed.holds(value, || {
                looked.set(1);
                passes
            });
            (held, looked.get())
        };
        assert_eq!(ask(&one, b"curl/8.5.0", true), (true, 1));
        assert_eq!(ask(&one, b"curl/8.5.0", false), (true, 0));
        assert_eq!(ask(&other, b"curl/8.5.0", false), (false, 1));
        assert_eq!(ask(&other, b"curl/8.5.0", false), (false, 1));
        assert_eq!(ask(&one, b"curl/8.5.1", false), (false, 1));
        // the same ends and length, so the same place
        let (first, second) = (b"12345678 one 12345678", b"12345678 two 12345678");
        assert_eq!(ask(&one, first, true), (true, 1));
        assert_eq!(ask(&one, second, false), (false, 1));
        assert_eq!(ask(&one, first, true), (true, 0));
        assert_eq!(ask(&one, second, true), (true, 1));
        assert_eq!(ask(&one, first, false), (false, 1));
        let long = [b'x'; LONGEST + 1];
        assert_eq!(ask(&one, &long, true), (true, 1));
        assert_eq!(ask(&one, &long, false), (false, 1));
    }

    #[test]
    fn as_many_as_come_only_so_many_are_remembered() {
        let passed = Passed::new();
        for number in 0..10_000_u32 {
            assert!(passed.holds(format!("program/{number}").as_bytes(), || true));
        }
        PASSED.with_borrow(|places| assert_eq!(places.len(), PLACES));
    }
}
