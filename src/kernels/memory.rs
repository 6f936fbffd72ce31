//! Memory that the allocator keeps for later.

/// Gives memory that nothing uses back to the system, where the C library would keep it: glibc keeps what a burst of
/// large blocks has left behind, on each thread's heap, for as long as the process lives. Takes milliseconds.
pub fn give_memory_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: takes a number and works on the allocator's own lists, under its locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
