//! What the gateway counts and logs about itself.

mod acme;
pub mod confinement;
pub mod counters;
pub mod gauges;
pub mod handshakes;
pub mod limited;
pub mod log;
pub mod metrics;
pub mod names;
pub mod proxies;
pub mod queries;
pub mod reloads;
mod totals;
pub mod upstreams;

pub use acme::AcmeGauge;
pub use counters::{Counter, Counters};
pub use gauges::{CertificateGauge, Gauges, MemoryGauge, ProbeGauge, SnapshotGauge};
pub use limited::Limited;
pub use reloads::ReloadGauge;
pub use upstreams::UpstreamFacts;
