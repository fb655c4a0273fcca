//! Memory that is needed soon, asked for before it is.

#![allow(unsafe_code, reason = "an intrinsic that takes a pointer; there is no safe form of it")]
/// Asks the processor for the cache line a value begins on, so that whoever reads it a little later does not wait for it. Costs one
/// instruction; does nothing on processors other than x86-64.
#[inline]
#[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables, reason = "nothing to ask"))]
pub fn prefetch<T: ?Sized>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads and changes nothing a program could see, and never faults; the address is that of a live value anyway.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast());
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
        assert_eq!(values.iter().sum::<u64>(), 1000);
    }
}
