//! Names that addresses are looked up by: out of ip6.arpa (RFC 3596 2.5), into in-addr.arpa (RFC 1035 3.5).

use std::net::{Ipv4Addr, Ipv6Addr};

/// The address that the wire name `qname` stands for: all of it, no network.
#[must_use]
pub fn address(qname: &[u8]) -> Option<Ipv6Addr> {
    let (digits, zone) = qname.split_at_checked(2 * DIGITS)?;
    if !zone.eq_ignore_ascii_case(ZONE) {
        return None;
    }
    // The last label is the first digit.
    let bits = digits.chunks_exact(2).rev().try_fold(0_u128, |bits, label| match label {
        [1, digit] => Some(bits << 4 | u128::from(char::from(*digit).to_digit(16)?)),
        _ => None,
    });
    bits.map(Ipv6Addr::from_bits)
}

/// The wire name of the domain that the names of addresses lie in which begin with `octets`.
#[must_use]
pub fn network(octets: &[u8]) -> Vec<u8> {
    let digits: Vec<u8> = octets.iter().flat_map(|octet| format!("{octet:02x}").into_bytes()).collect();
    let labels = digits.iter().rev().flat_map(|digit| [1, *digit]);
    labels.chain(*ZONE).collect()
}

/// The wire name that `v4` is looked up by.
#[must_use]
pub fn name(v4: Ipv4Addr) -> Vec<u8> {
    let mut name = Vec::with_capacity(32);
    for octet in v4.octets().into_iter().rev() {
        let digits = octet.to_string();
        name.extend(u8::try_from(digits.len()));
        name.extend_from_slice(digits.as_bytes());
    }
    name.extend_from_slice(b"\x07in-addr\x04arpa\0");
    name
}

/// Where the names of addresses lie.
const ZONE: &[u8; 10] = b"\x03ip6\x04arpa\0";

/// Digits of an address.
const DIGITS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::name::from_text;

    #[test]
    fn d64_08_names_are_turned_into_addresses_and_back_into_names() {
        let digits = "1.2.2.0.0.0.0.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.b.9.F.f.4.6.0.0";
        let wire = |text: &str| from_text(text).unwrap();
        let v6 = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0xc000, 0x221);
        assert_eq!(name(Ipv4Addr::new(192, 0, 2, 33)), wire("33.2.0.192.in-addr.arpa"));
        assert_eq!(address(&wire(&format!("{digits}.IP6.arpa"))), Some(v6));
        assert_eq!(network(&v6.octets()[..12]), wire(&format!("{}.ip6.arpa", digits.split_at(16).1.to_lowercase())));
        for other in [
            format!("{digits}.ip6.int"),
            format!("x.{digits}.ip6.arpa"),
            format!("{}.ip6.arpa", digits.trim_start_matches("1.")),
            digits.replace('F', "g") + ".ip6.arpa",
            digits.replacen("1.2", "12", 1) + ".ip6.arpa",
            "33.2.0.192.in-addr.arpa".to_owned(),
            ".".to_owned(),
        ] {
            assert_eq!(address(&wire(&other)), None, "{other}");
        }
    }
}
