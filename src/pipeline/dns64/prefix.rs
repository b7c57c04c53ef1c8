//! IPv4 addresses inside IPv6 ones (RFC 6052 2.2): the prefix, the address behind it, octet 8 left zero between them.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A translator's prefix: what IPv4 addresses are put behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    address: [u8; 16],
    /// Octets that are the prefix.
    length: usize,
}

/// Why text is no such prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// The part before `/` is no IPv6 address.
    #[error("not an IPv6 address")]
    Address,
    /// The part after `/` is none of the lengths there are (RFC 6052 2.2).
    #[error("the length must be 32, 40, 48, 56, 64 or 96")]
    Length,
    /// Bits are set past the prefix.
    #[error("bits are set past the prefix length")]
    HostBits,
    /// Bits are set where no such address has any.
    #[error("bits 64 to 71 must be zero")]
    Reserved,
}

impl Prefix {
    /// `64:ff9b::/96` (RFC 6052 2.1).
    pub const WELL_KNOWN: Self =
        Self { address: [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], length: 12 };

    /// The octets that are the prefix.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        self.address.get(..self.length).unwrap_or_default()
    }

    /// `v4` behind this prefix.
    #[must_use]
    pub fn embed(&self, v4: Ipv4Addr) -> Ipv6Addr {
        let mut octets = self.address;
        for (place, octet) in self.places(&mut octets).zip(v4.octets()) {
            *place = octet;
        }
        octets.into()
    }

    /// The address that `v6` has behind this prefix; `None` where it begins otherwise. What follows is not looked at (RFC 6052 2.2).
    #[must_use]
    pub fn extract(&self, v6: Ipv6Addr) -> Option<Ipv4Addr> {
        let mut octets = v6.octets();
        if octets.get(..self.length) != self.address.get(..self.length) {
            return None;
        }
        let mut v4 = [0; 4];
        for (place, octet) in v4.iter_mut().zip(self.places(&mut octets)) {
            *place = *octet;
        }
        Some(v4.into())
    }

    /// May `v4` be put behind this prefix? The well-known one is for addresses that mean the same everywhere (RFC 6052 3.1; D64-10).
    /// Those of documentation (RFC 5737) nobody has: they are left as they are.
    #[must_use]
    pub fn takes(&self, v4: Ipv4Addr) -> bool {
        let within = |&(network, length): &(Ipv4Addr, u32)| (v4.to_bits() ^ network.to_bits()) >> (32 - length) == 0;
        *self != Self::WELL_KNOWN || !NOT_GLOBAL.iter().any(within)
    }

    /// The four octets of `address` behind the prefix, the one that stays zero left out.
    fn places<'a>(&self, address: &'a mut [u8; 16]) -> impl Iterator<Item = &'a mut u8> {
        let behind = address.iter_mut().enumerate().skip(self.length);
        behind.filter(|(at, _)| *at != ZERO).map(|(_, octet)| octet).take(4)
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let (address, length) = text.split_once('/').unwrap_or((text, ""));
        let address = address.parse::<Ipv6Addr>().map_err(|_| PrefixError::Address)?.octets();
        let length = length.parse().ok().filter(|length| LENGTHS.contains(length)).ok_or(PrefixError::Length)? / 8;
        if address.iter().skip(length).any(|octet| *octet != 0) {
            return Err(PrefixError::HostBits);
        }
        if address.get(ZERO) != Some(&0) {
            return Err(PrefixError::Reserved);
        }
        Ok(Self { address, length })
    }
}

/// The lengths there are, in bits.
const LENGTHS: [usize; 6] = [32, 40, 48, 56, 64, 96];

/// The octet that is zero in every such address.
const ZERO: usize = 8;

/// What is not the same network everywhere, or no host's address (RFC 6890).
const NOT_GLOBAL: [(Ipv4Addr, u32); 11] = [
    (Ipv4Addr::UNSPECIFIED, 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d64_01_addresses_stand_behind_prefixes_as_in_the_table_of_rfc_6052() {
        let v4 = Ipv4Addr::new(192, 0, 2, 33);
        for (prefix, v6) in [
            ("2001:db8::/32", "2001:db8:c000:221::"),
            ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
            ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
            ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
            ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
            ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
            ("64:ff9b::/96", "64:ff9b::192.0.2.33"),
        ] {
            let (prefix, v6): (Prefix, Ipv6Addr) = (prefix.parse().unwrap(), v6.parse().unwrap());
            assert_eq!((prefix.embed(v4), prefix.extract(v6)), (v6, Some(v4)), "{prefix:?}");
            assert_eq!(prefix.extract("2001:db9::1".parse().unwrap()), None);
        }
        assert_eq!("64:ff9b::/96".parse(), Ok(Prefix::WELL_KNOWN));
    }

    #[test]
    fn d64_01_a_prefix_has_one_of_six_lengths_and_nothing_behind_it_nor_in_octet_8() {
        for (text, error) in [
            ("64:ff9b::", PrefixError::Length),
            ("64:ff9b::/95", PrefixError::Length),
            ("64:ff9b::/128", PrefixError::Length),
            ("192.0.2.0/24", PrefixError::Address),
            ("64:ff9b::1/96", PrefixError::HostBits),
            ("2001:db8:1::/32", PrefixError::HostBits),
            ("2001:db8:0:0:100::/96", PrefixError::Reserved),
        ] {
            assert_eq!(text.parse::<Prefix>(), Err(error), "{text}");
        }
    }

    #[test]
    fn d64_10_the_well_known_prefix_takes_global_addresses_alone() {
        let own: Prefix = "2001:db8:64::/96".parse().unwrap();
        for (text, taken) in [
            ("10.0.0.1", false),
            ("172.16.0.1", false),
            ("172.31.255.255", false),
            ("172.32.0.1", true),
            ("192.168.9.9", false),
            ("127.0.0.1", false),
            ("169.254.1.1", false),
            ("100.64.0.1", false),
            ("100.128.0.1", true),
            ("0.0.0.0", false),
            ("255.255.255.255", false),
            ("224.0.0.1", false),
            ("8.8.8.8", true),
            ("192.0.2.1", true),
        ] {
            let v4 = text.parse().unwrap();
            assert_eq!((Prefix::WELL_KNOWN.takes(v4), own.takes(v4)), (taken, true), "{text}");
        }
    }
}
