//! What the gateway counts and logs about itself.

mod acme;
pub mod counters;
pub mod handshakes;
pub mod log;
pub mod metrics;
pub mod names;
pub mod queries;
mod totals;
pub mod upstreams;

pub use acme::AcmeGauge;
pub use counters::{Counter, Counters};
pub use metrics::{CertificateGauge, Gauges, ProbeGauge, SnapshotGauge};
pub use upstreams::UpstreamFacts;
