//! The records that clients discover the gateway by: SVCB at `_dns.resolver.arpa` and at `_dns.` and each of its names (RFC 9462),
//! RESINFO at resolver.arpa and at its names (RFC 9606), and its addresses where the operator has said them.
//!
//! A client that asks `_dns.resolver.arpa` knows the gateway by an address, and verifies that: it is told only of addresses that the
//! certificate covers, or of its own network, and of nothing where there are none. A client that asks `_dns.dns.example` knows a
//! name, and the certificate covers that: it is told of all addresses (RFC 9462 5).

use std::net::IpAddr;

use super::{Address, Advertise, Resolver, params};
use crate::wire::name;
use crate::wire::registry::rtype;

/// Seconds the records live: doors change when the gateway is started anew, and clients should hear of it soon.
pub const TTL: u32 = 300;

/// A name that the gateway speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnName {
    /// On the wire, in lower case.
    pub name: Box<[u8]>,
    /// What is there; one without records says that there are none.
    pub sets: Vec<Set>,
    /// The zone whose SOA denies all other types; None: they are answered as if there were no such place.
    pub apex: Option<Box<[u8]>>,
}

/// The records of one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// TYPE.
    pub rtype: u16,
    /// RDATA of each.
    pub rdata: Vec<Vec<u8>>,
    /// What is worth sending along.
    pub additional: Vec<Addition>,
}

/// A record of another name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addition {
    /// On the wire.
    pub owner: Box<[u8]>,
    /// TYPE.
    pub rtype: u16,
    /// RDATA.
    pub rdata: Vec<u8>,
}

/// All that `resolver` says of itself; `errors` are the extended errors that it may give of its own (RFC 8914), ascending.
#[must_use]
pub fn own_names(resolver: &Resolver, advertise: &Advertise, errors: &[u16]) -> Vec<OwnName> {
    let arpa = wire("resolver.arpa");
    let mut told = Vec::new();
    let info = advertise.resinfo.then(|| resinfo(errors, advertise.info_url.as_deref()));
    if info.is_some() {
        told.extend(place("resolver.arpa", vec![alone(rtype::RESINFO, info.clone())], arpa.clone()));
    }
    let by_address: Vec<IpAddr> = ips(resolver.addresses.iter().filter(|address| address.is_discoverable()));
    let by_name: Vec<IpAddr> = ips(resolver.addresses.iter());
    if advertise.discovery && !by_address.is_empty() {
        told.extend(designation(resolver, &by_address).and_then(|set| place("_dns.resolver.arpa", vec![set], arpa)));
    }
    for own in &resolver.names {
        // What is under localhost has its meaning already (RFC 6761 6.3).
        let is_special = own == "localhost" || own.ends_with(".localhost");
        let mut sets = vec![alone(rtype::RESINFO, info.clone())];
        // The other names of a certificate may be other hosts'.
        let is_ours = advertise.name.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(own));
        if !advertise.addresses.is_empty() && is_ours && !is_special {
            sets.extend([rtype::A, rtype::AAAA].map(|rtype| alone(rtype, of_family(&by_name, rtype))));
        }
        told.extend(place(own, sets, None));
        let below = format!("_dns.{own}");
        let apex = wire(&below).filter(|_| !is_special);
        let set = designation(resolver, &by_name).filter(|_| advertise.discovery);
        told.extend(set.and_then(|set| place(&below, vec![set], apex)));
    }
    told
}

fn place(text: &str, sets: Vec<Set>, apex: Option<Box<[u8]>>) -> Option<OwnName> {
    Some(OwnName { name: wire(text)?, sets, apex })
}

fn alone(rtype: u16, rdata: impl IntoIterator<Item = Vec<u8>>) -> Set {
    Set { rtype, rdata: rdata.into_iter().collect(), additional: Vec::new() }
}

/// One SVCB record a service, the most wanted with the lowest priority (RFC 9460 2.4.1), all of the same target: the name that the
/// certificate covers, with its addresses beside (RFC 9462 4). None where there is no name to send clients to.
fn designation(resolver: &Resolver, addresses: &[IpAddr]) -> Option<Set> {
    let target = wire(resolver.names.first()?)?;
    let record = |(priority, service): (u16, &super::Service)| {
        [&priority.to_be_bytes()[..], &target, &params(service, addresses)].concat()
    };
    let rdata: Vec<Vec<u8>> = (1..).zip(&resolver.services).map(record).collect();
    let addition = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => Addition { owner: target.clone(), rtype: rtype::A, rdata: ip.octets().to_vec() },
        IpAddr::V6(ip) => Addition { owner: target.clone(), rtype: rtype::AAAA, rdata: ip.octets().to_vec() },
    };
    let additional = addresses.iter().map(addition).collect();
    (!rdata.is_empty()).then_some(Set { rtype: rtype::SVCB, rdata, additional })
}

/// RDATA as TXT has it (RFC 9606 4). No `qnamemin`: whom we ask decides that, and there is no way to see it.
fn resinfo(errors: &[u16], info_url: Option<&str>) -> Vec<u8> {
    let mut out = Vec::new();
    let url = info_url.map(|url| format!("infourl={url}"));
    for text in [Some(format!("exterr={}", ranges(errors))), url].into_iter().flatten() {
        // The configuration bounds a URL, and there are not codes enough to come near.
        out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        out.extend(text.bytes().take(usize::from(u8::MAX)));
    }
    out
}

/// `0,3,18-19`: RFC 9606 5 lets neighbours be written as a range.
fn ranges(codes: &[u16]) -> String {
    let mut runs: Vec<(u16, u16)> = Vec::new();
    for &code in codes {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(code) => *last = code,
            _ => runs.push((code, code)),
        }
    }
    let show = |(first, last): (u16, u16)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    runs.into_iter().map(show).collect::<Vec<_>>().join(",")
}

fn of_family(addresses: &[IpAddr], family: u16) -> Vec<Vec<u8>> {
    let octets = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => (family == rtype::A).then(|| ip.octets().to_vec()),
        IpAddr::V6(ip) => (family == rtype::AAAA).then(|| ip.octets().to_vec()),
    };
    addresses.iter().filter_map(octets).collect()
}

fn ips<'a>(addresses: impl Iterator<Item = &'a Address>) -> Vec<IpAddr> {
    addresses.map(|address| address.ip).collect()
}

/// None for what is no name: a certificate may hold anything.
fn wire(text: &str) -> Option<Box<[u8]>> {
    Some(name::from_text(&text.to_ascii_lowercase()).ok()?.into())
}

#[cfg(test)]
mod tests {
    use super::super::{Protocol, Service};
    use super::*;

    fn resolver(names: &[&str], addresses: &[(&str, bool)]) -> Resolver {
        let service = |protocol: Protocol| Service { protocol, port: protocol.default_port(), path: None };
        let address =
            |(ip, is_certified): &(&str, bool)| Address { ip: ip.parse().unwrap(), is_certified: *is_certified };
        Resolver {
            names: names.iter().map(ToString::to_string).collect(),
            addresses: addresses.iter().map(address).collect(),
            services: Protocol::ALL.map(service).into(),
            authority: None,
            has_page: false,
        }
    }

    fn at<'a>(places: &'a [OwnName], text: &str) -> Option<&'a OwnName> {
        let name = wire(text).unwrap();
        places.iter().find(|place| place.name == name)
    }

    #[test]
    fn ddr_07_who_knows_an_address_is_told_of_addresses_that_it_can_verify_and_who_knows_a_name_of_all() {
        let hints = |places: &[OwnName], name| at(places, name).map(|place| place.sets[0].additional.len());
        let advertise = Advertise::default();
        for (addresses, by_address, by_name) in [
            (&[("192.0.2.1", false)][..], None, 1),
            (&[("192.0.2.1", true), ("2001:db8::1", false)], Some(1), 2),
            (&[("10.0.0.1", false)], Some(1), 1),
            (&[("fd00::1", false), ("fe80::1", false), ("169.254.0.1", false)], Some(3), 3),
            (&[("100.64.0.1", false)], None, 1),
        ] {
            let places = own_names(&resolver(&["dns.example"], addresses), &advertise, &[0]);
            assert_eq!(hints(&places, "_dns.resolver.arpa"), by_address, "{addresses:?}");
            assert_eq!(hints(&places, "_dns.dns.example"), Some(by_name), "{addresses:?}");
        }
    }

    #[test]
    fn ddr_02_without_a_name_there_is_no_designation() {
        let places = own_names(&resolver(&[], &[("192.0.2.1", true)]), &Advertise::default(), &[0]);
        assert_eq!(places.iter().map(|place| place.sets[0].rtype).collect::<Vec<_>>(), [rtype::RESINFO]);
    }

    #[test]
    fn ddr_12_all_names_lead_to_the_first() {
        let places =
            own_names(&resolver(&["a.example", "b.example"], &[("192.0.2.1", true)]), &Advertise::default(), &[]);
        for name in ["_dns.resolver.arpa", "_dns.a.example", "_dns.b.example"] {
            let set = &at(&places, name).unwrap().sets[0];
            assert_eq!(set.rdata.len(), 3);
            for (priority, rdata) in (1..).zip(&set.rdata) {
                assert_eq!(rdata[..13], [&[0, priority][..], b"\x01a\x07example\0"].concat()[..13]);
            }
        }
    }

    #[test]
    fn res_02_extended_errors_are_written_as_ranges_and_each_string_says_one_thing() {
        assert_eq!(ranges(&[0, 3, 13, 18, 19, 21, 22, 23]), "0,3,13,18-19,21-23");
        assert_eq!(ranges(&[65534, 65535]), "65534-65535");
        assert_eq!(resinfo(&[3], Some("https://x.example/")), b"\x08exterr=3\x1ainfourl=https://x.example/");
    }

    #[test]
    fn addresses_are_told_only_where_the_operator_has_said_them() {
        let own = resolver(&["dns.example"], &[("192.0.2.1", true)]);
        let types = |advertise: &Advertise| -> Vec<(u16, usize)> {
            let places = own_names(&own, advertise, &[0]);
            at(&places, "dns.example").unwrap().sets.iter().map(|set| (set.rtype, set.rdata.len())).collect()
        };
        assert_eq!(types(&Advertise::default()), [(rtype::RESINFO, 1)]);
        let addresses = vec!["192.0.2.1".parse().unwrap()];
        let unnamed = Advertise { addresses: addresses.clone(), ..Advertise::default() };
        assert_eq!(types(&unnamed), [(rtype::RESINFO, 1)]);
        let name = Some("dns.example".to_owned());
        let said = Advertise { name, addresses, resinfo: false, ..Advertise::default() };
        assert_eq!(types(&said), [(rtype::RESINFO, 0), (rtype::A, 1), (rtype::AAAA, 0)]);
    }
}
