//! Memory that is needed soon, asked for before it is.

#![allow(unsafe_code, reason = "an intrinsic that takes a pointer; there is no safe form of it")]

/// A line of the caches of most processors, bytes.
const LINE: usize = 64;

/// Asks the processor for the cache line a value begins on, so that whoever reads it a little later does not wait for it. Costs one
/// instruction; does nothing on processors other than x86-64.
#[inline]
pub fn prefetch<T: ?Sized>(value: &T) {
    ask(std::ptr::from_ref(value).cast());
}

/// Asks for the lines that the first `bytes` of a value stand on, as [`prefetch`] does for one. Costs one instruction for each.
#[inline]
pub fn prefetch_first<T>(value: &T, bytes: usize) {
    let start = std::ptr::from_ref(value).cast::<i8>();
    (0..bytes.min(size_of::<T>())).step_by(LINE).for_each(|at| ask(start.wrapping_add(at)));
}

#[inline]
#[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables, reason = "nothing to ask"))]
fn ask(line: *const i8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads and changes nothing a program could see, and never faults, whatever the address.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(line);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn any_value_may_be_asked_for() {
        let values = vec![1_u64; 1000];
        super::prefetch(&values[999]);
        super::prefetch("");
        super::prefetch::<[u64]>(&[]);
        super::prefetch(&());
        super::prefetch_first(&[1_u64; 40], usize::MAX);
        super::prefetch_first(&(), 100);
        super::prefetch_first(&1_u8, 0);
        assert_eq!(values.iter().sum::<u64>(), 1000);
    }
}
