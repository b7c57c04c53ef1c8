//! The front doors: bytes from sockets to a `Query`, replies back to bytes. No policy, no cache, no upstream.

pub mod context;
pub mod settings;

pub mod at_once;
pub mod presence;
pub mod session;

pub mod doh3;
pub mod http;

#[cfg(test)]
pub(crate) mod rehearsal;

pub use context::Context;
pub use settings::{Door, DoorKind, Limits, Settings};
