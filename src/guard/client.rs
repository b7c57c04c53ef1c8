//! Whom limits count by: who a client has shown itself to be, or else its network: one IPv4 address, one IPv6 /56, since that is what
//! one subscriber is given (RFC 6177 2).

use std::net::{IpAddr, Ipv6Addr};

use crate::peer::{ClientId, Peer};

/// Who asks, as limits see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Client {
    /// Somebody in a network.
    Network(ClientNetwork),
    /// Somebody known, wherever they are.
    Known(ClientId),
}

impl Client {
    /// The client at the other end.
    #[must_use]
    pub fn of(peer: &Peer) -> Self {
        peer.client.map_or_else(|| Self::Network(ClientNetwork::of(peer.shown_ip())), Self::Known)
    }
}

/// The client network of an address, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientNetwork(u64);

/// Set in IPv6 networks, whose last eight bits are otherwise zero; IPv4 networks leave the lower half zero.
const V6: u64 = 1;

impl ClientNetwork {
    /// The network of `address`. A v4-mapped IPv6 address counts as IPv4.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self(u64::from(v4.to_bits()) << 32),
            IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or_else(|| Self::of_v6(v6), |v4| Self::of(v4.into())),
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        let [a, b, c, d, ..] = address.segments();
        let upper = [a, b, c, d & 0xff00].into_iter().fold(0, |bits, segment| (bits << 16) | u64::from(segment));
        Self(upper | V6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> ClientNetwork {
        ClientNetwork::of(text.parse().unwrap())
    }

    #[test]
    fn each_ipv4_address_is_a_client_and_mapped_ones_are_the_same_client() {
        assert_ne!(of("198.51.100.1"), of("198.51.100.2"));
        assert_eq!(of("198.51.100.1"), of("::ffff:198.51.100.1"));
    }

    #[test]
    fn an_ipv6_client_is_a_56() {
        assert_eq!(of("2001:db8:1:ff00::1"), of("2001:db8:1:ffff:1234::9"));
        assert_ne!(of("2001:db8:1:ff00::1"), of("2001:db8:1:fe00::1"));
    }

    #[test]
    fn families_never_meet() {
        // 10.0.0.0 shifted up is the upper half of a00::, which only the family bit tells apart.
        assert_ne!(of("10.0.0.0"), of("a00::"));
        assert_ne!(of("0.0.0.0"), of("::"));
    }
}
