#![no_main]

#[global_allocator]
static MEMORY: s2s_fuzz::memory::Counting = s2s_fuzz::memory::Counting;

libfuzzer_sys::fuzz_target!(|data: &[u8]| s2s_fuzz::check("pytorch_pickle", data));
