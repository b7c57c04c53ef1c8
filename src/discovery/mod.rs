//! What the gateway tells of its own encrypted doors: one description, from which are made the records that clients discover it by
//! (RFC 9462, RFC 9606), the options of DHCP and router advertisements (RFC 9463), the profiles of devices and the set-up page.
//!
//! Described is what really runs, as the outside sees it, and nothing that its certificate does not cover.

use std::net::IpAddr;

mod covered;
mod describe;
mod inputs;
pub mod page;
mod problem;
pub mod profile;
pub mod qr;
mod records;
mod svcb;

pub use covered::Covered;
pub use describe::MOST_ADDRESSES;
pub use inputs::{Advertise, Door, Inputs, Port};
pub use problem::{Problem, problems};
pub use records::{Addition, OwnName, Set, TTL, own_names};
use svcb::params;

/// The gateway as its clients may find and verify it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolver {
    /// The names that its certificate covers and that clients may know it by, in lower case; the first is the one it goes by
    /// (the authentication domain name of RFC 9463). None: it is known by address alone.
    pub names: Vec<String>,
    /// Where the outside reaches it.
    pub addresses: Vec<Address>,
    /// What is spoken there, most wanted first.
    pub services: Vec<Service>,
    /// The certificate (DER) of the private authority that devices must trust first; None: public authorities vouch for it.
    pub authority: Option<Vec<u8>>,
    /// Is there a set-up page with files to fetch, where DoH is told of?
    pub has_page: bool,
}

/// An address of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// Does the certificate cover it, so that a client that knows nothing else can verify it (RFC 9462 4.2)?
    pub is_certified: bool,
}

/// One encrypted service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The protocol.
    pub protocol: Protocol,
    /// The port, as the outside sees it.
    pub port: u16,
    /// The path that DoH answers at; None for the others.
    pub path: Option<String>,
}

/// How questions are asked of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// DNS over TLS.
    Dot,
    /// DNS over HTTPS: HTTP/2 on TCP, HTTP/3 on UDP at the same port.
    Doh,
    /// DNS over QUIC.
    Doq,
}

impl Protocol {
    /// Most wanted first: DoT and DoQ carry DNS and nothing else, and DoH what HTTP brings along.
    pub const ALL: [Self; 3] = [Self::Dot, Self::Doq, Self::Doh];

    /// The port that needs no saying (RFC 7858 3.1, RFC 9250 4.1.1, RFC 8484 5).
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Dot | Self::Doq => 853,
            Self::Doh => 443,
        }
    }

    /// What it is called in TLS and QUIC handshakes (RFC 7301), most wanted first. HTTP/1.1 is served, and not told of: it carries one
    /// question at a time.
    #[must_use]
    pub const fn alpn(self) -> &'static [&'static str] {
        match self {
            Self::Dot => &["dot"],
            Self::Doh => &["h2", "h3"],
            Self::Doq => &["doq"],
        }
    }

    /// Its key under `listen` and `advertise`.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Dot => "dot",
            Self::Doh => "doh",
            Self::Doq => "doq",
        }
    }
}

impl Address {
    /// May a client that finds us in plain DNS at this address go over to the doors? Where the certificate covers the address it
    /// verifies that (RFC 9462 4.2); without, it may all the same where the address is of no network but its own (4.3).
    #[must_use]
    pub const fn is_discoverable(&self) -> bool {
        self.is_certified || is_local(self.ip)
    }
}

/// RFC 1918, RFC 3927, RFC 4193 and link-local IPv6: whom else it leads to, the client's own network decides.
const fn is_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}
