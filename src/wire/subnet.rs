//! The first bits of a client's address, as the client-subnet option tells them (RFC 7871 6).
//!
//! Read at the edge of the pipeline, written into questions to servers and into replies to those who told one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// FAMILY of IPv4 and of IPv6.
const V4: u16 = 1;
const V6: u16 = 2;
/// `2002::/16`, where IPv6 addresses are made of IPv4 ones (RFC 3056).
const SIX_TO_FOUR: u16 = 0x2002;

/// A network of clients: an address of which some first bits count, all others being zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subnet {
    family: u16,
    length: u8,
    octets: [u8; 16],
}

impl Subnet {
    /// The most bits of an IPv6 address that are told to anybody; of IPv4 it is 24 (RFC 7871 11.1).
    pub const LONGEST: u8 = 56;
    /// The same of an IPv4 address.
    pub const LONGEST_V4: u8 = 24;
    /// No bit of any address: 0.0.0.0/0.
    pub const NOTHING: Self = Self { family: V4, length: 0, octets: [0; 16] };

    /// All bits of `address`; one of IPv4 within IPv6 is of IPv4.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                Self { family: V4, length: 32, octets: [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] }
            }
            IpAddr::V6(v6) => Self { family: V6, length: 128, octets: v6.octets() },
        }
    }

    /// Reads the data of an option: the subnet, and SCOPE PREFIX-LENGTH. `None` where it breaks RFC 7871 6: another family (unless
    /// no bit of it counts), more bits than there are, an address of another length than theirs, or a bit set after them.
    #[must_use]
    pub fn read(data: &[u8]) -> Option<(Self, u8)> {
        let (&[f0, f1, length, scope], address) = data.split_first_chunk()?;
        let family = u16::from_be_bytes([f0, f1]);
        let most = match family {
            V4 => 32,
            V6 => 128,
            _ => 0,
        };
        if length > most || address.len() != usize::from(length).div_ceil(8) {
            return None;
        }
        let mut octets = [0; 16];
        octets.get_mut(..address.len())?.copy_from_slice(address);
        let subnet = Self { family, length, octets };
        (subnet.within(length) == subnet).then_some((subnet, scope))
    }

    /// What of it may be told to servers: 24 bits of IPv4, 56 of IPv6 (RFC 7871 11.1), no bit where there was none (7.1.2), and
    /// nothing at all of a network that has no meaning elsewhere: private ones, and what begins with eight zero bits, which nobody
    /// asks from (this network, loopback, IPv4 within IPv6).
    #[must_use]
    pub fn public(self) -> Option<Self> {
        let [a, b, c, d, ..] = self.octets;
        let v4 = Ipv4Addr::new(a, b, c, d);
        let v6 = Ipv6Addr::from(self.octets);
        match self.family {
            _ if self.length == 0 => Some(Self { family: if self.family == V6 { V6 } else { V4 }, ..self }),
            _ if a == 0 => None,
            V4 if v4.is_private() || v4.is_loopback() || v4.is_link_local() || (a == 100 && b & 0xc0 == 64) => None,
            V4 => Some(self.within(Self::LONGEST_V4)),
            _ if v6.is_unique_local() || v6.is_unicast_link_local() => None,
            // 6to4: a whole IPv4 address follows the first 16 bits (RFC 3056 2).
            _ if v6.segments().first() == Some(&SIX_TO_FOUR) => Some(self.within(16 + Self::LONGEST_V4)),
            _ => Some(self.within(Self::LONGEST)),
        }
    }

    /// The network of `length` bits that it is in; itself where it has no more.
    #[must_use]
    pub fn within(self, length: u8) -> Self {
        let length = self.length.min(length);
        let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
        Self { octets: (u128::from_be_bytes(self.octets) & mask).to_be_bytes(), length, ..self }
    }

    /// Is `other` all of it, or a part?
    #[must_use]
    pub fn holds(self, other: Self) -> bool {
        other.within(self.length) == self
    }

    /// The same family, no bit of the address: what is told for clients who want nothing told.
    #[must_use]
    pub fn hidden(self) -> Self {
        self.within(0)
    }

    /// How many bits count.
    #[must_use]
    pub const fn length(self) -> u8 {
        self.length
    }

    /// Is it of an IPv6 address?
    #[must_use]
    pub const fn is_v6(self) -> bool {
        self.family == V6
    }

    /// The data of an option before the address: FAMILY, SOURCE PREFIX-LENGTH, and this SCOPE PREFIX-LENGTH.
    #[must_use]
    pub const fn head(self, scope: u8) -> [u8; 4] {
        let [f0, f1] = self.family.to_be_bytes();
        [f0, f1, self.length, scope]
    }

    /// The octets that the bits which count stand in.
    #[must_use]
    pub fn address(&self) -> &[u8] {
        self.octets.get(..usize::from(self.length).div_ceil(8)).unwrap_or(&self.octets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(data: &[u8]) -> Option<Subnet> {
        Subnet::read(data).map(|(subnet, _)| subnet)
    }

    fn sent(data: &[u8]) -> Option<Vec<u8>> {
        let subnet = read(data).unwrap().public()?;
        Some([&subnet.head(0)[..], subnet.address()].concat())
    }

    #[test]
    fn ecs_03_what_breaks_the_form_of_the_option_is_not_read() {
        for wrong in [
            &[][..],
            &[0, 1, 24],
            &[0, 3, 8, 0, 1],
            &[0, 1, 33, 0, 1, 2, 3, 4, 5],
            &[0, 2, 129, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17],
            &[0, 1, 24, 0, 198, 51],
            &[0, 1, 24, 0, 198, 51, 100, 0],
            &[0, 1, 20, 0, 198, 51, 100],
            &[0, 1, 0, 0, 0],
        ] {
            assert_eq!(Subnet::read(wrong), None, "{wrong:?}");
        }
        assert_eq!(Subnet::read(&[0, 1, 20, 9, 198, 51, 96]).unwrap().1, 9);
        assert!(read(&[0, 0, 0, 0]).is_some() && read(&[0, 9, 0, 0]).is_some(), "no bit of no family");
    }

    #[test]
    fn ecs_04_and_ecs_05_no_more_is_told_than_was_and_at_most_24_or_56_bits_the_others_zero() {
        assert_eq!(sent(&[0, 1, 32, 0, 198, 51, 100, 77]), Some(vec![0, 1, 24, 0, 198, 51, 100]));
        assert_eq!(sent(&[0, 1, 16, 0, 198, 51]), Some(vec![0, 1, 16, 0, 198, 51]));
        assert_eq!(sent(&[0, 1, 20, 0, 198, 51, 96]), Some(vec![0, 1, 20, 0, 198, 51, 96]));
        let v6 = [0, 2, 64, 0, 0x20, 1, 0xd, 0xb8, 1, 2, 3, 4];
        assert_eq!(sent(&v6), Some(vec![0, 2, 56, 0, 0x20, 1, 0xd, 0xb8, 1, 2, 3]));
    }

    #[test]
    fn ecs_05_of_an_ipv4_address_within_a_6to4_one_no_more_is_told_than_of_any_other() {
        let told = Subnet::of("2002:c633:644d:1::1".parse().unwrap()).public();
        assert_eq!(told, read(&[0, 2, 40, 0, 0x20, 2, 198, 51, 100]));
        assert_eq!(sent(&[0, 2, 56, 0, 0x20, 2, 198, 51, 100, 77, 0]), Some(vec![0, 2, 40, 0, 0x20, 2, 198, 51, 100]));
        assert_eq!(sent(&[0, 2, 32, 0, 0x20, 2, 198, 51]), Some(vec![0, 2, 32, 0, 0x20, 2, 198, 51]));
    }

    #[test]
    fn a_network_holds_its_parts_and_no_address_of_the_other_family() {
        let of = |text: &str| Subnet::of(text.parse().unwrap());
        let network = of("198.51.100.77").within(24);
        assert_eq!(Some(network), read(&[0, 1, 24, 0, 198, 51, 100]));
        assert!(
            network.holds(of("198.51.100.9")) && network.holds(of("::ffff:198.51.100.9")) && network.holds(network)
        );
        assert!(!network.holds(of("198.51.101.9")) && !network.holds(network.within(23)));
        assert!(!of("c633:6409::").within(24).holds(of("198.51.100.9")));
        assert_eq!(Some(of("2001:db8:1:2::3").within(56)), read(&[0, 2, 56, 0, 0x20, 1, 0xd, 0xb8, 0, 1, 0]));
    }

    #[test]
    fn ecs_02_who_tells_no_bit_has_none_told() {
        assert_eq!(sent(&[0, 1, 0, 0]), Some(vec![0, 1, 0, 0]));
        assert_eq!(sent(&[0, 2, 0, 0]), Some(vec![0, 2, 0, 0]));
        assert_eq!(sent(&[0, 0, 0, 0]), Some(vec![0, 1, 0, 0]));
    }

    #[test]
    fn ecs_15_networks_that_mean_nothing_elsewhere_are_not_told() {
        for private in [[10, 1, 2], [172, 31, 0], [192, 168, 7], [127, 0, 0], [169, 254, 1], [100, 127, 0], [0, 1, 2]] {
            assert_eq!(sent(&[&[0, 1, 24, 0][..], &private].concat()), None, "{private:?}");
        }
        assert_eq!(sent(&[0, 2, 16, 0, 0xfd, 0]), None);
        assert_eq!(sent(&[0, 2, 16, 0, 0xfe, 0x80]), None);
        for nobody in ["::1", "::", "::127.0.0.1"] {
            assert_eq!(Subnet::of(nobody.parse().unwrap()).public(), None, "{nobody}");
        }
        assert!(sent(&[0, 1, 24, 0, 100, 128, 0]).is_some());
    }
}
