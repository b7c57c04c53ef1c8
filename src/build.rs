//! Before compilation: writes down when the program is built, the least that any clock can truthfully say when it runs.
//!
//! `SOURCE_DATE_EPOCH` stands for the time where a build must come out the same twice (reproducible-builds.org).
#![allow(clippy::print_stdout, reason = "this is how a build script speaks")]

use std::time::SystemTime;

fn main() {
    let told = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.trim().parse::<u64>().ok());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    println!("cargo::rustc-env=HUSHGATE_BUILT={}", told.unwrap_or(now));
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    // Not at every edit: a time that is somewhat old is still a floor, and nothing need be compiled again for it.
    println!("cargo::rerun-if-changed=Cargo.lock");
    println!("cargo::rerun-if-changed=src/build.rs");
}
