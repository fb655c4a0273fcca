//! An allocator that counts what passes through it, for tests that gate the number of allocations of a path.
//!
//! Not for shipped binaries: the counter all threads share costs every allocation an atomic addition.
#![allow(unsafe_code, reason = "an allocator is an unsafe trait; each method only counts and passes the call on")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    // Constant and without a destructor: reaching it allocates nothing, and it is there until the thread is gone.
    static OF_THIS_THREAD: Cell<u64> = const { Cell::new(0) };
}

/// Passes everything to the allocator inside and counts `alloc`, `alloc_zeroed` and `realloc`; freeing is not counted.
///
/// ```no_run
/// # use daemun_sys::CountingAllocator;
/// #[global_allocator]
/// static ALLOCATOR: CountingAllocator = CountingAllocator::system();
///
/// let before = CountingAllocator::thread_allocations();
/// // the path under test, on this thread
/// assert_eq!(CountingAllocator::thread_allocations() - before, 0);
/// ```
#[derive(Debug)]
pub struct CountingAllocator<A = System>(A);

impl CountingAllocator {
    /// Counts in front of the system's allocator.
    #[must_use]
    pub const fn system() -> Self {
        CountingAllocator(System)
    }

    /// Allocations so far by all threads of the process, whichever allocator is inside.
    #[must_use]
    pub fn allocations() -> u64 {
        ALLOCATIONS.load(Ordering::Relaxed)
    }

    /// Allocations so far by the current thread, whichever allocator is inside. No other thread disturbs this one.
    #[must_use]
    pub fn thread_allocations() -> u64 {
        OF_THIS_THREAD.get()
    }
}

impl<A> CountingAllocator<A> {
    /// Counts in front of `inner`.
    pub const fn new(inner: A) -> Self {
        CountingAllocator(inner)
    }
}

fn count() {
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    // Never panics: an allocator must not unwind, and a thread may allocate while its locals are torn down.
    let _ = OF_THIS_THREAD.try_with(|counter| counter.set(counter.get().wrapping_add(1)));
}

// SAFETY: every method hands its arguments unchanged to `A`, itself a `GlobalAlloc`, and returns what that returned.
// Counting neither allocates nor unwinds.
unsafe impl<A: GlobalAlloc> GlobalAlloc for CountingAllocator<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise about `layout` is passed on as it is.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as in `alloc`.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: `block` came from `self.0`, since all blocks of this allocator do; the caller vouches for the rest.
        unsafe { self.0.realloc(block, layout, new_size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as in `realloc`.
        unsafe { self.0.dealloc(block, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;

    #[global_allocator]
    static ALLOCATOR: CountingAllocator = CountingAllocator::new(System);

    #[test]
    fn each_allocation_and_each_growth_counts_once() {
        let before = CountingAllocator::thread_allocations();
        let mut block: Vec<u8> = black_box(Vec::with_capacity(16));
        assert_eq!(CountingAllocator::thread_allocations() - before, 1);
        block.reserve_exact(4096);
        assert_eq!(CountingAllocator::thread_allocations() - before, 2);
        let zeroed = black_box(vec![0_u8; 4096]);
        assert_eq!(CountingAllocator::thread_allocations() - before, 3);
        drop((block, zeroed));
        assert_eq!(CountingAllocator::thread_allocations() - before, 3);
    }

    #[test]
    fn what_does_not_allocate_counts_nothing() {
        let before = CountingAllocator::thread_allocations();
        black_box([0_u8; 4096]);
        black_box(Vec::<u8>::new());
        assert_eq!(CountingAllocator::thread_allocations(), before);
    }

    #[test]
    fn another_threads_allocations_count_in_the_sum_only() {
        let before = CountingAllocator::allocations();
        let worker = std::thread::spawn(|| {
            (0..1000).for_each(|_| drop(black_box(Box::new(7_u64))));
            CountingAllocator::thread_allocations()
        });
        // Starting and joining a thread allocates here too, a handful of times, but not a thousand.
        let mine = CountingAllocator::thread_allocations();
        let theirs = worker.join().unwrap();
        assert!(theirs >= 1000);
        assert!(CountingAllocator::thread_allocations() - mine < 100);
        assert!(CountingAllocator::allocations() - before >= 1000);
    }
}
