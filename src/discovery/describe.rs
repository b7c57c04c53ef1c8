//! From the facts to the description.
//!
//! Told of are the doors that those who ask could reach: a loopback door is for this machine, and told of only where every door is
//! one. Each protocol is told of once, at the port of its first door, since a client that has a name and its addresses would try
//! every port at each. Clear-text DoH is none of ours to tell of: what the web server in front shows its clients is not known here.

use std::net::IpAddr;

use super::{Address, Door, Inputs, Port, Protocol, Resolver, Service};

/// Addresses told of at most: they go into each record and into options of 255 octets.
pub const MOST_ADDRESSES: usize = 8;

/// Names told of at most.
const MOST_NAMES: usize = 16;

/// Octets of a path that is told of: the options that it goes into have 255.
pub(super) const LONGEST_PATH: usize = 128;

/// The name of this machine, on each machine another: good only where all clients are here too.
const LOCALHOST: &str = "localhost";

impl Resolver {
    /// The gateway of `inputs`. What the certificate does not cover is left out; [`super::problems`] says so.
    #[must_use]
    pub fn describe(inputs: &Inputs) -> Self {
        let doors = doors_told_of(inputs);
        let services: Vec<Service> = Protocol::ALL.into_iter().filter_map(|it| service(inputs, &doors, it)).collect();
        let addresses = addresses(inputs, &doors, &services);
        let is_here = addresses.iter().all(|address| address.ip.is_loopback());
        let names = names(inputs, is_here);
        Self {
            // Where no certificate is shown a name proves nothing.
            names: if services.is_empty() { Vec::new() } else { names },
            has_page: inputs.setup_page && services.iter().any(|service| service.protocol == Protocol::Doh),
            addresses,
            services,
            authority: inputs.authority.clone(),
        }
    }
}

/// The encrypted doors that those who ask could reach.
pub(super) fn doors_told_of(inputs: &Inputs) -> Vec<Door> {
    let encrypted = inputs.doors.iter().filter(|door| door.protocol.is_some());
    let outer: Vec<Door> = encrypted.clone().filter(|door| !door.is_loopback()).copied().collect();
    // Where addresses are said, something in front leads from there to here.
    let is_for_this_machine = inputs.doors.iter().all(Door::is_loopback) || !inputs.advertise.addresses.is_empty();
    if outer.is_empty() && is_for_this_machine { encrypted.copied().collect() } else { outer }
}

fn service(inputs: &Inputs, doors: &[Door], protocol: Protocol) -> Option<Service> {
    let mut bound =
        doors.iter().filter(|door| door.protocol == Some(protocol)).map(|door| door.address.port()).peekable();
    bound.peek()?;
    let port = match inputs.advertise.port(protocol) {
        Port::AsBound => bound.find(|&port| port != 0)?,
        Port::At(port) => port,
        Port::Hidden => return None,
    };
    let path = match protocol {
        Protocol::Doh => Some(inputs.doh_paths.iter().find(|path| path.len() <= LONGEST_PATH)?.clone()),
        Protocol::Dot | Protocol::Doq => None,
    };
    (port != 0).then_some(Service { protocol, port, path })
}

/// Those said, else those of the doors told of, certified ones first. A door that is at another port than its protocol is told of
/// gives none.
fn addresses(inputs: &Inputs, doors: &[Door], services: &[Service]) -> Vec<Address> {
    let is_told = |door: &&Door| {
        services.iter().any(|service| {
            Some(service.protocol) == door.protocol
                && (inputs.advertise.port(service.protocol) != Port::AsBound || service.port == door.address.port())
        })
    };
    let mut all: Vec<IpAddr> = Vec::new();
    if !inputs.advertise.addresses.is_empty() && !services.is_empty() {
        all.clone_from(&inputs.advertise.addresses);
    } else {
        for door in doors.iter().filter(is_told) {
            let ip = door.address.ip();
            if ip.is_unspecified() {
                all.extend(inputs.machine.iter().filter(|own| own.is_ipv4() == ip.is_ipv4()));
            } else {
                all.push(ip.to_canonical());
            }
        }
    }
    let mut told: Vec<Address> = Vec::new();
    for ip in all {
        if !told.iter().any(|known| known.ip == ip) {
            told.push(Address { ip, is_certified: inputs.certificate.has_address(ip) });
        }
    }
    told.sort_by_key(|address| !address.is_certified);
    told.truncate(MOST_ADDRESSES);
    told
}

/// The name said, if the certificate covers it, and then the certificate's own. Where the name said is not covered there is none:
/// clients are not sent to a name that the operator did not choose.
fn names(inputs: &Inputs, is_here: bool) -> Vec<String> {
    let (certificate, chosen) = (&inputs.certificate, inputs.advertise.name.as_deref());
    let mut names: Vec<String> = Vec::new();
    if let Some(chosen) = chosen {
        if !certificate.has_name(chosen) {
            return names;
        }
        names.push(chosen.to_ascii_lowercase());
    }
    for host in certificate.hosts().filter(|host| *host != LOCALHOST || is_here) {
        if !names.iter().any(|known| known == host) {
            names.push(host.to_owned());
        }
    }
    // A machine that has a name beside is better known by that.
    if chosen.is_none() {
        names.sort_by_key(|name| name == LOCALHOST);
    }
    names.truncate(MOST_NAMES);
    names
}

#[cfg(test)]
mod tests {
    use super::super::{Advertise, Covered, Problem, problems};
    use super::*;

    fn door(protocol: Option<Protocol>, address: &str) -> Door {
        Door { protocol, address: address.parse().unwrap() }
    }

    /// Plain DNS, DoT, DoQ and DoH at the usual ports of `ip`.
    fn inputs(ip: &str, subjects: &[&str]) -> Inputs {
        let at = |protocol, port: u16| door(protocol, &format!("{ip}:{port}"));
        Inputs {
            doors: vec![
                at(None, 53),
                at(Some(Protocol::Dot), 853),
                at(Some(Protocol::Doh), 443),
                at(Some(Protocol::Doq), 853),
            ],
            certificate: Covered::of(subjects.iter().copied()),
            doh_paths: vec!["/dns-query".into(), "/other".into()],
            machine: vec!["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()],
            ..Inputs::default()
        }
    }

    fn ports(resolver: &Resolver) -> Vec<(Protocol, u16)> {
        resolver.services.iter().map(|service| (service.protocol, service.port)).collect()
    }

    fn told(resolver: &Resolver) -> Vec<(String, bool)> {
        resolver.addresses.iter().map(|address| (address.ip.to_string(), address.is_certified)).collect()
    }

    #[test]
    fn ddr_01_services_are_those_of_the_doors_in_the_order_of_preference() {
        let resolver = Resolver::describe(&inputs("192.0.2.1", &["Dns.Example", "192.0.2.1"]));
        assert_eq!(ports(&resolver), [(Protocol::Dot, 853), (Protocol::Doq, 853), (Protocol::Doh, 443)]);
        assert_eq!(resolver.services[2].path.as_deref(), Some("/dns-query"));
        assert_eq!(resolver.names, ["dns.example"]);
        assert_eq!(told(&resolver), [("192.0.2.1".to_owned(), true)]);
    }

    #[test]
    fn a_door_at_every_address_is_told_of_at_those_of_the_machine_and_its_family() {
        let resolver = Resolver::describe(&inputs("0.0.0.0", &["dns.example"]));
        assert_eq!(told(&resolver), [("192.0.2.7".to_owned(), false)]);
        let resolver = Resolver::describe(&inputs("[::]", &["dns.example", "2001:db8::7"]));
        assert_eq!(told(&resolver), [("2001:db8::7".to_owned(), true)]);
    }

    #[test]
    fn ddr_07_addresses_that_can_be_verified_come_first_and_there_are_not_many() {
        let mut many = inputs("10.0.0.1", &["dns.example", "192.0.2.12"]);
        many.advertise.addresses = (1..=12).map(|last| [192, 0, 2, last].into()).collect();
        let told = told(&Resolver::describe(&many));
        assert_eq!((told.len(), &told[0], &told[1]), (8, &("192.0.2.12".into(), true), &("192.0.2.1".into(), false)));
    }

    #[test]
    fn svc_05_a_path_that_no_option_holds_gives_way_to_one_that_fits() {
        let mut long = inputs("192.0.2.1", &["dns.example", "192.0.2.1"]);
        long.doh_paths = vec![format!("/{}", "x".repeat(128)), format!("/{}", "y".repeat(127))];
        assert_eq!(Resolver::describe(&long).services[2].path.as_ref(), long.doh_paths.get(1));
        let told = long.doh_paths.pop();
        let silent = Problem::LongPath { octets: 129, told: None };
        assert_eq!((Resolver::describe(&long).services.len(), problems(&long)), (2, vec![silent.clone()]));
        // Profiles have no use for it either, and they are printed all the same.
        long.advertise.discovery = false;
        assert_eq!(problems(&long), [silent]);
        long.doh_paths.extend(told.clone());
        assert_eq!(problems(&long), [Problem::LongPath { octets: 129, told }]);
        long.advertise.doh = Port::Hidden;
        assert_eq!(problems(&long), []);
    }

    #[test]
    fn loopback_doors_are_told_of_only_where_every_door_is_one() {
        let local = inputs("127.0.0.1", &["localhost", "127.0.0.1"]);
        let resolver = Resolver::describe(&local);
        assert_eq!(
            (resolver.names.as_slice(), told(&resolver)),
            (&["localhost".to_owned()][..], vec![("127.0.0.1".into(), true)])
        );
        let mut outer = inputs("127.0.0.1", &["dns.example", "127.0.0.1"]);
        outer.doors.push(door(None, "192.0.2.1:53"));
        let resolver = Resolver::describe(&outer);
        assert_eq!((resolver.services.len(), resolver.addresses.len()), (0, 0));
        assert_eq!(problems(&outer), [Problem::OnlyHere]);
        outer.doors.push(door(Some(Protocol::Dot), "192.0.2.1:853"));
        let resolver = Resolver::describe(&outer);
        assert_eq!((ports(&resolver), told(&resolver)[0].0.as_str()), (vec![(Protocol::Dot, 853)], "192.0.2.1"));
    }

    #[test]
    fn what_the_operator_says_of_the_outside_holds() {
        let mut mapped = inputs("10.0.0.1", &["a.example", "*.home.example"]);
        mapped.advertise = Advertise {
            name: Some("dns.home.example".into()),
            addresses: vec!["192.0.2.80".parse().unwrap()],
            dot: Port::At(8853),
            doq: Port::Hidden,
            ..Advertise::default()
        };
        let resolver = Resolver::describe(&mapped);
        assert_eq!(ports(&resolver), [(Protocol::Dot, 8853), (Protocol::Doh, 443)]);
        assert_eq!(resolver.names, ["dns.home.example", "a.example"]);
        assert_eq!(told(&resolver), [("192.0.2.80".to_owned(), false)]);
        mapped.advertise.name = Some("other.example".into());
        assert_eq!(Resolver::describe(&mapped).names, [""; 0]);
        assert!(problems(&mapped).contains(&Problem::NameNotCovered("other.example".into())));
    }

    #[test]
    fn ddr_02_localhost_names_no_gateway_that_others_reach() {
        let outer = inputs("192.0.2.1", &["localhost", "192.0.2.1"]);
        assert_eq!(Resolver::describe(&outer).names, [""; 0]);
        assert_eq!(problems(&outer), [Problem::NoName]);
    }

    #[test]
    fn ddr_07_a_certificate_with_a_wildcard_alone_wants_a_name_said() {
        let mut wild = inputs("10.0.0.1", &["*.home.example", "10.0.0.1"]);
        assert_eq!(problems(&wild), [Problem::OnlyWildcard("*.home.example".into())]);
        wild.advertise.name = Some("dns.home.example".into());
        assert_eq!(problems(&wild), []);
        assert_eq!(Resolver::describe(&wild).names, ["dns.home.example"]);
    }

    #[test]
    fn a_name_is_not_missed_where_no_door_is_told_of() {
        let mut hidden = inputs("192.0.2.1", &["dns.example", "192.0.2.1"]);
        (hidden.advertise.dot, hidden.advertise.doh, hidden.advertise.doq) = (Port::Hidden, Port::Hidden, Port::Hidden);
        assert_eq!(problems(&hidden), []);
        let doors = vec![door(None, "192.0.2.1:0"), door(Some(Protocol::Dot), "192.0.2.1:0")];
        let mut unknown = Inputs { doors, advertise: Advertise::default(), ..hidden };
        assert_eq!((Resolver::describe(&unknown).services, problems(&unknown)), (vec![], vec![]));
        // A port that the operator has said needs no door that says it.
        unknown.advertise.dot = Port::At(853);
        assert_eq!(ports(&Resolver::describe(&unknown)), [(Protocol::Dot, 853)]);
        // The name said is wrong whatever the doors are.
        unknown.advertise = Advertise { name: Some("other.example".into()), ..Advertise::default() };
        assert_eq!(problems(&unknown), [Problem::NameNotCovered("other.example".into())]);
    }

    #[test]
    fn what_is_no_host_name_in_a_certificate_is_told_to_nobody() {
        let odd = ["<b>.example", "a b.example", "x;reboot.example", "a'b.example", "", "..", "dns.example"];
        assert_eq!(Resolver::describe(&inputs("192.0.2.1", &odd)).names, ["dns.example"]);
    }

    #[test]
    fn ddr_07_addresses_that_the_certificate_does_not_cover_are_problems() {
        let found = |ip: &str| problems(&inputs(ip, &["dns.example"]));
        assert_eq!(found("192.0.2.1"), [Problem::AddressNotCovered("192.0.2.1".parse().unwrap())]);
        assert_eq!(found("10.0.0.1"), [Problem::AddressNotVerified("10.0.0.1".parse().unwrap())]);
        assert_eq!(problems(&inputs("10.0.0.1", &["dns.example", "10.0.0.1"])), []);
        let mut off = inputs("192.0.2.1", &[]);
        off.advertise.discovery = false;
        assert_eq!(problems(&off), []);
    }

    #[test]
    fn a_second_port_of_a_protocol_is_a_problem_and_gives_no_address() {
        let mut two = inputs("192.0.2.1", &["dns.example", "192.0.2.1"]);
        two.doors.push(door(Some(Protocol::Dot), "192.0.2.2:8853"));
        assert_eq!(told(&Resolver::describe(&two)), [("192.0.2.1".to_owned(), true)]);
        assert_eq!(problems(&two), [Problem::SecondPort { protocol: Protocol::Dot, port: 8853, told: 853 }]);
        // One that nobody knows yet is told of by nobody.
        let unknown = Inputs { doors: vec![door(Some(Protocol::Dot), "192.0.2.1:0")], ..two };
        assert_eq!(Resolver::describe(&unknown).services, []);
    }
}
