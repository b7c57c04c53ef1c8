//! See `hushgate_fuzz::wire_view`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| hushgate_fuzz::wire_view::run(input));
