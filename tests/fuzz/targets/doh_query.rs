//! See `hushgate_fuzz::doh_query`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| hushgate_fuzz::doh_query::run(input));
