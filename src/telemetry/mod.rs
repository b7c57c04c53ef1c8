//! What the gateway counts and logs about itself.

pub mod counters;
pub mod log;
pub mod metrics;
pub mod names;
pub mod proxies;
pub mod queries;
pub mod reloads;
mod totals;
pub mod upstreams;

pub use counters::{Counter, Counters};
pub use metrics::{CertificateGauge, Gauges, SnapshotGauge};
pub use reloads::ReloadGauge;
pub use upstreams::UpstreamFacts;
