//! See `hushgate_fuzz::framing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| hushgate_fuzz::framing::run(input));
