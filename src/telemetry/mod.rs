//! What the gateway counts and logs about itself.

pub mod counters;
pub mod limited;
pub mod log;
pub mod metrics;
pub mod names;
pub mod proxies;
pub mod queries;
pub mod reloads;
mod totals;
pub mod upstreams;

pub use counters::{Counter, Counters};
pub use limited::Limited;
pub use metrics::{CertificateGauge, Gauges, MemoryGauge, SnapshotGauge};
pub use reloads::ReloadGauge;
pub use upstreams::UpstreamFacts;
