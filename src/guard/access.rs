//! Who may ask at which door, and whom no limit applies to. Asked for every connection and every datagram, before anything else.

use std::net::IpAddr;

use super::Network;
use crate::peer::DoorId;

/// The networks that may ask, by door.
#[derive(Debug)]
pub struct Access {
    doors: Box<[Box<[Network]>]>,
}

impl Access {
    /// Lists by the index of the door.
    #[must_use]
    pub fn new(doors: Vec<Vec<Network>>) -> Self {
        Self { doors: doors.into_iter().map(Vec::into_boxed_slice).collect() }
    }

    /// May `client` ask at `door`? A door without a list lets nobody in.
    pub fn allows(&self, door: DoorId, client: IpAddr) -> bool {
        self.doors.get(usize::from(door.0)).is_some_and(|list| list.iter().any(|network| network.contains(client)))
    }
}

/// The networks that no rate and no per-client bound applies to.
#[derive(Debug)]
pub struct Exempt {
    loopback: bool,
    networks: Box<[Network]>,
}

impl Exempt {
    /// Exempts `networks`.
    #[must_use]
    pub fn new(networks: Vec<Network>) -> Self {
        let all_of_127 = Network::of(IpAddr::from([127, 0, 0, 0]), 8);
        Self { loopback: networks.contains(&all_of_127), networks: networks.into_boxed_slice() }
    }

    /// Is `client` exempt? A local proxy or web server asks the most, so 127.0.0.0/8 is looked at first.
    pub fn contains(&self, client: IpAddr) -> bool {
        if self.loopback && matches!(client, IpAddr::V4(v4) if v4.is_loopback()) {
            return true;
        }
        self.networks.iter().any(|network| network.contains(client))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Vec<Network> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_door_has_its_own_list_and_an_unknown_door_is_shut() {
        let access = Access::new(vec![networks(&["10.0.0.0/8"]), networks(&["0.0.0.0/0", "::/0"]), vec![]]);
        assert!(access.allows(DoorId(0), ip("10.1.2.3")));
        assert!(access.allows(DoorId(0), ip("::ffff:10.1.2.3")));
        assert!(!access.allows(DoorId(0), ip("192.0.2.1")));
        assert!(!access.allows(DoorId(0), ip("::1")));
        assert!(access.allows(DoorId(1), ip("2001:db8::1")));
        assert!(!access.allows(DoorId(2), ip("10.1.2.3")));
        assert!(!access.allows(DoorId(3), ip("10.1.2.3")));
    }

    #[test]
    fn loopback_is_exempt_only_where_it_is_listed() {
        let listed = Exempt::new(networks(&["127.0.0.0/8", "::1"]));
        assert!(listed.contains(ip("127.1.2.3")));
        assert!(listed.contains(ip("::1")));
        assert!(listed.contains(ip("::ffff:127.0.0.1")));
        assert!(!listed.contains(ip("128.0.0.1")));
        let other = Exempt::new(networks(&["192.0.2.0/24", "127.0.0.1"]));
        assert!(other.contains(ip("192.0.2.77")));
        assert!(other.contains(ip("127.0.0.1")));
        assert!(!other.contains(ip("127.0.0.2")));
        assert!(!Exempt::new(Vec::new()).contains(ip("127.0.0.1")));
    }
}
