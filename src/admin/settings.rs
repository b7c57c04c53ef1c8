//! What the admin listener is told.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A TCP address.
    Address(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// The admin listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Health, metrics, API, page. Default `127.0.0.1:8054`.
    pub listen: Vec<Place>,
    /// Health and metrics alone.
    pub probes: Vec<SocketAddr>,
    /// The bearer token's file; needed off loopback.
    pub token_file: Option<PathBuf>,
    /// How long `/readyz` waits for an upstream before it tells the truth anyway. Default 2 s.
    pub ready_wait: Duration,
    /// Does the gateway knock at its own encrypted doors, for the metrics? Default yes.
    pub self_probe: bool,
}
