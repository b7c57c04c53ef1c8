//! What the gateway counts and logs about itself.

pub mod counters;
pub mod queries;
pub mod log;
pub mod metrics;
pub mod names;
mod totals;

pub use counters::{Counter, Counters};
pub use metrics::{CertificateGauge, Gauges};
