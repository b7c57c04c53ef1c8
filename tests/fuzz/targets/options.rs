//! See `hushgate_fuzz::options`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| hushgate_fuzz::options::run(input));
