//! What the gateway counts and logs about itself.

pub mod counters;

pub use counters::{Counter, Counters};
