//! Networks and the lists of them that say who may ask.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address prefix, `10.0.0.0/8` or `2001:db8::/32`; a bare address is a prefix of full length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    address: u128,
    length: u8,
    v4: bool,
}

/// Why text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// The part before `/` is no address.
    #[error("not an IP address")]
    Address,
    /// The part after `/` is no prefix length for this family.
    #[error("the prefix length must be 0 to 32 for IPv4, 0 to 128 for IPv6")]
    Length,
    /// Bits are set past the prefix.
    #[error("bits are set past the prefix length")]
    HostBits,
}

fn bits(address: IpAddr) -> (u128, bool) {
    match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, true),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => (u128::from(v4.to_bits()) << 96, true),
            None => (v6.to_bits(), false),
        },
    }
}

const fn mask(length: u8) -> u128 {
    if length == 0 { 0 } else { u128::MAX << (128 - length as u32) }
}

impl Network {
    /// The network of the first `length` bits of `address`; bits after it are dropped, `length` is capped at the family's.
    #[must_use]
    pub fn of(address: IpAddr, length: u8) -> Self {
        let (whole, v4) = bits(address);
        let length = length.min(if v4 { 32 } else { 128 });
        Self { address: whole & mask(length), length, v4 }
    }

    /// Is every address of the family in it?
    #[must_use]
    pub const fn is_everybody(&self) -> bool {
        self.length == 0
    }

    /// The length of the prefix, in bits of the address's own family.
    #[must_use]
    pub const fn length(&self) -> u8 {
        self.length
    }

    /// Is `address` in this network? A v4-mapped IPv6 address counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (whole, v4) = bits(address);
        v4 == self.v4 && whole & mask(self.length) == self.address
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Address)?;
        let full: u8 = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => full,
            Some(length) => length.parse().ok().filter(|&length| length <= full).ok_or(NetworkError::Length)?,
        };
        // A mapped address is IPv4, and of its prefix only what reaches past the mapping counts.
        let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
        let length = if mapped { length.checked_sub(96).ok_or(NetworkError::HostBits)? } else { length };
        let network = Self::of(address, length);
        if bits(address).0 == network.address { Ok(network) } else { Err(NetworkError::HostBits) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.v4 {
            let v4 = Ipv4Addr::from_bits(u32::try_from(self.address >> 96).unwrap_or_default());
            write!(f, "{v4}/{}", self.length)
        } else {
            write!(f, "{}/{}", Ipv6Addr::from_bits(self.address), self.length)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_their_addresses_in_both_families_and_mapped() {
        let ten: Network = "10.0.0.0/8".parse().unwrap();
        assert!(ten.contains("10.255.0.1".parse().unwrap()));
        assert!(ten.contains("::ffff:10.0.0.1".parse().unwrap()));
        assert!(!ten.contains("11.0.0.1".parse().unwrap()));
        let ula: Network = "fc00::/7".parse().unwrap();
        assert!(ula.contains("fdff::1".parse().unwrap()));
        assert!(!ula.contains("2001:db8::1".parse().unwrap()));
        assert_eq!("10.0.0.1/8".parse::<Network>(), Err(NetworkError::HostBits));
        assert_eq!(ten.to_string(), "10.0.0.0/8");
    }

    #[test]
    fn a_network_written_in_mapped_form_is_the_ipv4_one_it_means() {
        for (mapped, plain) in [
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::ffff:192.0.2.1/128", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
        ] {
            assert_eq!(mapped.parse::<Network>(), plain.parse(), "{mapped}");
        }
        assert_eq!("::ffff:10.1.2.3/104".parse::<Network>(), Err(NetworkError::HostBits));
        assert_eq!("::ffff:0:0/95".parse::<Network>(), Err(NetworkError::HostBits));
        assert_eq!("::ffff:0:0/129".parse::<Network>(), Err(NetworkError::Length));
    }
}
