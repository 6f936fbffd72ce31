//! Memory that the C library's allocator keeps for later.

/// Lets all threads share `heaps` heaps of glibc's, which else makes up to eight for each processor: what
/// large requests leave behind on each is in pieces, so that it cannot be given back. For a server, before
/// its threads begin.
pub fn share_heaps(heaps: usize) {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets a number of the allocator's, which it reads when a thread first asks for memory.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, libc::c_int::try_from(heaps.max(1)).unwrap_or(libc::c_int::MAX));
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    let _ = heaps;
}

/// Gives memory that nothing uses back to the system, where the C library would keep it: glibc keeps what a
/// burst of large blocks has left behind, on each thread's heap, for as long as the process lives. Takes
/// milliseconds.
pub fn give_memory_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: takes a number and works on the allocator's own lists, under its locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
