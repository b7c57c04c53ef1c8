//! What the front doors are told.

use std::net::SocketAddr;
use std::time::Duration;

/// What is spoken at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum DoorKind {
    /// Plain DNS over UDP and TCP.
    Dns,
    /// DNS over TLS.
    Dot,
    /// DNS over HTTPS: HTTP/1.1 and HTTP/2 on TCP, HTTP/3 on UDP.
    Doh,
    /// The same on TCP alone: for a proxy in front, whose header QUIC has no place for.
    DohTcp,
    /// DNS over HTTPS in clear text, HTTP/1.1 and h2c on TCP, for a web server in front.
    DohClear,
    /// DNS over QUIC.
    Doq,
}

/// One configured address. Its index in [`Settings::doors`] is its `DoorId`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Door {
    /// What is spoken there.
    pub kind: DoorKind,
    /// Where; port 0 lets the system choose.
    pub address: SocketAddr,
}

/// When a QUIC client must prove its address before the handshake (RFC 9000 8.1.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retry {
    /// Never: who has too many is refused.
    Never,
    /// While many handshakes are under way or come in, or the address has too many.
    #[default]
    WhenBusy,
    /// Always: a round trip more for everybody.
    Always,
}

/// Bounds and deadlines of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Questions in flight on one connection. Default 100.
    pub streams_per_connection: usize,
    /// TLS and QUIC handshakes. Default 5 s.
    pub handshake_timeout: Duration,
    /// Idle TCP and DoT connections. Default 10 s.
    pub tcp_idle_timeout: Duration,
    /// Idle HTTP and QUIC connections. Default 30 s.
    pub idle_timeout: Duration,
    /// Proof of address before QUIC handshakes. Default when busy.
    pub retry: Retry,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams_per_connection: 100,
            handshake_timeout: Duration::from_secs(5),
            tcp_idle_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            retry: Retry::default(),
        }
    }
}

impl Limits {
    /// The same for when memory is short: who says nothing goes soon (RFC 7766 6.2.3).
    #[must_use]
    pub fn strained(self) -> Self {
        Self {
            tcp_idle_timeout: self.tcp_idle_timeout.min(STRAINED),
            idle_timeout: self.idle_timeout.min(STRAINED),
            ..self
        }
    }
}

/// How long anybody may be idle while memory is short.
const STRAINED: Duration = Duration::from_millis(500);

/// The doors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// In the order of their ids.
    pub doors: Vec<Door>,
    /// Paths that DoH answers at. Default `/dns-query`.
    pub doh_paths: Vec<String>,
    /// Is a page there that tells how devices are set up? Default true.
    pub setup_page: bool,
    /// Bounds and deadlines.
    pub limits: Limits,
}
