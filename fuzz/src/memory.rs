//! An allocator that ends the process where an input asks for more memory than any input is worth.
//!
//! A limit that the code under test has forgotten shows as an allocation that succeeds, unnoticed, on a
//! machine with much memory: counting makes it a finding. It stands in front of the system's allocator, in
//! the fuzzers and in `tests/fuzz.rs`.
#![allow(unsafe_code)] // An allocator is unsafe by its definition; this and src/kernels are the only places.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The largest single allocation.
pub const LARGEST: usize = 256 << 20;
/// The most bytes alive at once.
pub const MOST: usize = 512 << 20;

/// Bytes alive.
static LIVE: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counted.
pub struct Counting;

/// Accounts for `size` more bytes.
fn take(size: usize) {
    let live = LIVE.fetch_add(size, Ordering::Relaxed) + size;
    if size > LARGEST || live > MOST {
        // No limit while the message is made, which allocates.
        LIVE.store(0, Ordering::Relaxed);
        std::eprintln!(
            "out of memory: an allocation of {size} bytes, {live} alive with it; at most {LARGEST} and {MOST}"
        );
        std::eprintln!("{}", std::backtrace::Backtrace::force_capture());
        std::process::abort();
    }
}

// SAFETY: every call goes on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both may be alive while the content moves, but most systems move pages: only the difference counts.
        if size > layout.size() {
            take(size - layout.size());
        } else {
            LIVE.fetch_sub(layout.size() - size, Ordering::Relaxed);
        }
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.dealloc(at, layout) }
    }
}
