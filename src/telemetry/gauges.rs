//! What is measured at the moment of a scrape: filled in by the control thread, written by [`metrics`](super::metrics).

use std::net::SocketAddr;

use super::AcmeGauge;
use super::confinement::Parts;
use super::reloads::ReloadGauge;
use super::upstreams::UpstreamFacts;

/// What is measured at the moment of a scrape, not counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gauges {
    /// Answers in the cache.
    pub cache_entries: u64,
    /// Octets the answers in the cache take.
    pub cache_bytes: u64,
    /// Octets that everything the cache holds may take, index and spare room included.
    pub cache_bytes_limit: u64,
    /// Times an answer got no lasting place in the cache because its domain has its share.
    pub cache_limited: u64,
    /// Different questions waiting for an upstream.
    pub joins: u64,
    /// Connection permits given out.
    pub connections_held: u64,
    /// Questions of each client that is known by name.
    pub clients: Vec<(String, u64)>,
    /// Certificates in force.
    pub certificates: Vec<CertificateGauge>,
    /// The encrypted doors, as the gateway itself finds them.
    pub probes: Vec<ProbeGauge>,
    /// Changes of certificates that are in force, and those that could not be used.
    pub certificate_reloads: [u64; 2],
    /// When the gateway started, in seconds since 1970.
    pub started: u64,
    /// Does `/readyz` say yes?
    pub ready: bool,
    /// Workers serving.
    pub workers: u64,
    /// Is the clock earlier than it can be?
    pub clock_behind: bool,
    /// Certificates judged by a later time than the clock's.
    pub clock_adjusted: u64,
    /// Questions for time servers asked in plain text.
    pub time_names_in_plain: u64,
    /// The upstream servers.
    pub upstreams: Vec<UpstreamFacts>,
    /// The cache over a restart.
    pub snapshot: SnapshotGauge,
    /// Configurations taken over.
    pub reloads: ReloadGauge,
    /// What holds the process back.
    pub sandbox: Parts,
    /// The memory of this process.
    pub memory: MemoryGauge,
    /// Session tickets made, opened, and shown but not known, at the doors over TCP and over QUIC.
    pub tickets: [[u64; 3]; 2],
    /// Certificates by ACME; none: it is off.
    pub acme: Option<AcmeGauge>,
}

/// The memory of this process, in octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryGauge {
    /// Resident; 0 where the system does not tell.
    pub resident: u64,
    /// What it may take (`limits.memory`); 0 if that is not known.
    pub limit: u64,
    /// Of clients' answers that are not read and questions that are not whole.
    pub held: u64,
}

/// What has become of the snapshot of the cache since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotGauge {
    /// Answers taken over from it at the start.
    pub loaded: u64,
    /// Files refused.
    pub refused: u64,
    /// Answers in the last one written.
    pub entries: u64,
    /// Octets of the last one written.
    pub octets: u64,
    /// When the last one was written, in seconds since 1970; 0: none was.
    pub written: u64,
    /// Times that one could not be written.
    pub failed: u64,
}

/// A certificate in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateGauge {
    /// The names it is for.
    pub names: Vec<String>,
    /// Its file, or `private authority`.
    pub source: String,
    /// When it ends, in seconds since 1970.
    pub not_after: i64,
    /// Whole days until then.
    pub days_left: i64,
    /// Are its files newer than it is, and cannot be used?
    pub stale: bool,
}

/// How an encrypted door stands the gateway's own probe.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeGauge {
    /// What is spoken there.
    pub door: &'static str,
    /// Where it was reached.
    pub address: SocketAddr,
    /// Did it do what it is there for?
    pub success: bool,
    /// How long that took, in seconds.
    pub seconds: f64,
    /// Probes so far. Handshakes and questions of theirs count with the clients'.
    pub probes: u64,
}
