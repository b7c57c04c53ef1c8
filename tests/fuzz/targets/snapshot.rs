//! See `hushgate_fuzz::snapshot`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| hushgate_fuzz::snapshot::run(input));
