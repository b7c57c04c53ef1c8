//! See `hushgate_fuzz::pipeline`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| hushgate_fuzz::pipeline::run(input));
