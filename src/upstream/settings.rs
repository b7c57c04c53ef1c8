//! What the upstream side is told.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::Address;

/// How a DoH server is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Method {
    /// POST: the body says it all.
    #[default]
    Post,
    /// GET: HTTP caches on the way may help.
    Get,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    /// Its URL.
    pub url: Address,
    /// Where its name is, instead of a look-up.
    pub addresses: Vec<IpAddr>,
    /// The name to verify when it is not the URL's host.
    pub tls_name: Option<String>,
    /// Authorities to trust instead of the system's, a PEM file.
    pub ca: Option<PathBuf>,
    /// SHA-256 digests of public keys (SPKI) to insist on.
    pub pins: Vec<[u8; 32]>,
    /// How a DoH server is asked.
    pub method: Method,
}

impl Server {
    /// A server with nothing said beside its URL.
    #[must_use]
    pub const fn new(url: Address) -> Self {
        Self { url, addresses: Vec::new(), tls_name: None, ca: None, pins: Vec::new(), method: Method::Post }
    }
}

/// A pool of servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Asked in order.
    pub servers: Vec<Server>,
    /// Asked only when none of `servers` answered.
    pub fallback: Vec<Server>,
    /// All attempts together. Default 4 s.
    pub timeout: Duration,
    /// One attempt at one server. Default 1.5 s.
    pub attempt_timeout: Duration,
}
