//! DNS64 (RFC 6147): for hosts that have IPv6 alone, addresses made of IPv4 ones, which a translator takes back apart.

use std::net::{IpAddr, Ipv6Addr};

use crate::guard::Network;

mod prefix;

pub use prefix::{Prefix, PrefixError};

/// What addresses are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns64 {
    /// The translator's prefix.
    pub prefix: Prefix,
    /// AAAA records of these networks count as absent (RFC 6147 5.1.4). Default `::ffff:0:0/96`.
    pub exclude: Vec<Network>,
}

impl Dns64 {
    /// Does `address` count as absent?
    #[must_use]
    pub fn excludes(&self, address: Ipv6Addr) -> bool {
        self.exclude.iter().any(|network| network.contains(IpAddr::V6(address)))
    }
}
