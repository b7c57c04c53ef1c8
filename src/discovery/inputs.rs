//! What a description is made from: plain facts, so that a running gateway and a command that only reads its configuration come to
//! the same words.

use std::net::{IpAddr, SocketAddr};

use super::{Covered, Protocol};

/// All that is known of the gateway's doors and of how the outside sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    /// Every door that is open, or would be.
    pub doors: Vec<Door>,
    /// What the default certificate is for: the one that clients see who send no name.
    pub certificate: Covered,
    /// The certificate (DER) of the private authority that signed it, if that is who did.
    pub authority: Option<Vec<u8>>,
    /// The paths that DoH answers at.
    pub doh_paths: Vec<String>,
    /// Is the set-up page served there too?
    pub setup_page: bool,
    /// The addresses of the machine's interfaces: what a door at every address is reached by.
    pub machine: Vec<IpAddr>,
    /// What the operator says.
    pub advertise: Advertise,
}

/// A door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Door {
    /// What is spoken there; None: plain DNS.
    pub protocol: Option<Protocol>,
    /// Where. A port of 0 is one that nobody knows yet.
    pub address: SocketAddr,
}

impl Door {
    /// Is it for clients on this machine alone?
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.address.ip().to_canonical().is_loopback()
    }
}

/// What the outside sees of the doors, where that is not what is seen from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertise {
    /// The name to go by, in lower case; None: the first that the certificate is for.
    pub name: Option<String>,
    /// Where the outside reaches the gateway; none: where the doors are.
    pub addresses: Vec<IpAddr>,
    /// DNS over TLS.
    pub dot: Port,
    /// DNS over HTTPS.
    pub doh: Port,
    /// DNS over QUIC.
    pub doq: Port,
    /// Are the doors told of in `_dns.resolver.arpa` and at the gateway's own names (RFC 9462)?
    pub discovery: bool,
    /// Is RESINFO answered (RFC 9606)?
    pub resinfo: bool,
    /// The page that RESINFO names.
    pub info_url: Option<String>,
}

impl Default for Advertise {
    fn default() -> Self {
        Self {
            name: None,
            addresses: Vec::new(),
            dot: Port::AsBound,
            doh: Port::AsBound,
            doq: Port::AsBound,
            discovery: true,
            resinfo: true,
            info_url: None,
        }
    }
}

impl Advertise {
    /// The port of `protocol`.
    #[must_use]
    pub const fn port(&self, protocol: Protocol) -> Port {
        match protocol {
            Protocol::Dot => self.dot,
            Protocol::Doh => self.doh,
            Protocol::Doq => self.doq,
        }
    }
}

/// The port of a service as the outside sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Port {
    /// That of the first door.
    #[default]
    AsBound,
    /// This one.
    At(u16),
    /// The outside does not see the service.
    Hidden,
}
