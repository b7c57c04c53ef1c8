//! What is done with any octets, one module a target. `targets/` hands it to libFuzzer, `mutate.rs` runs it on stable.

use std::path::{Path, PathBuf};

pub mod doh_query;
pub mod framing;
pub mod options;
pub mod pipeline;
pub mod proxy_header;
pub mod snapshot;
pub mod wire_view;

/// A target: its name, which is that of the folder of its seeds too, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 7] = [
    ("wire_view", wire_view::run),
    ("framing", framing::run),
    ("doh_query", doh_query::run),
    ("options", options::run),
    ("pipeline", pipeline::run),
    ("snapshot", snapshot::run),
    ("proxy_header", proxy_header::run),
];

/// Where the seeds of `target` are.
#[must_use]
pub fn seeds(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target)
}
