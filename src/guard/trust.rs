//! Whose word about other addresses is taken, by door: proxies that send a PROXY header, web servers that forward requests.

use std::net::IpAddr;

use super::Network;
use crate::peer::DoorId;

/// Whom one door believes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Networks that must send a PROXY header; where there are any, nobody else is served. Default none.
    pub proxy: Vec<Network>,
    /// Networks whose header about forwarded requests is believed (DoH). Default none.
    pub forwarded: Vec<Network>,
    /// The header that those write. Default `X-Forwarded-For`.
    pub header: ForwardedHeader,
}

/// The header field in which web servers say for whom they ask. One of the two: the other may be the client's own, passed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`: addresses, each hop's at the end.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// What an address is to a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// One that asks for itself.
    Client,
    /// A proxy: it says by a PROXY header who asks.
    Introducer,
    /// A web server: each of its requests may say who asks.
    Forwarder,
    /// Nobody who is served: the door is for proxies, and this is none.
    Stranger,
}

/// The lists of all doors.
#[derive(Debug)]
pub(super) struct Trusted {
    /// Empty where no door has any, so that a question costs no look at them.
    doors: Box<[Trust]>,
}

impl Trusted {
    /// Lists by the index of the door.
    pub fn new(doors: Vec<Trust>) -> Self {
        let any = doors.iter().any(|trust| !trust.proxy.is_empty() || !trust.forwarded.is_empty());
        Self { doors: if any { doors.into() } else { Box::default() } }
    }

    /// What `address` is to `door`.
    pub fn standing(&self, door: DoorId, address: IpAddr) -> Standing {
        let Some(trust) = self.doors.get(usize::from(door.0)) else { return Standing::Client };
        if !trust.proxy.is_empty() {
            let listed = trust.proxy.iter().any(|network| network.contains(address));
            return if listed { Standing::Introducer } else { Standing::Stranger };
        }
        if trust.forwarded.iter().any(|network| network.contains(address)) {
            return Standing::Forwarder;
        }
        Standing::Client
    }

    /// The header in which `address` may say who asks at `door`; `None` where its word is not taken.
    pub fn forwarder(&self, door: DoorId, address: IpAddr) -> Option<ForwardedHeader> {
        let trust = self.doors.get(usize::from(door.0))?;
        trust.forwarded.iter().any(|network| network.contains(address)).then_some(trust.header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted() -> Trusted {
        let networks = |text: &str| vec![text.parse().unwrap()];
        Trusted::new(vec![
            Trust { proxy: networks("10.0.0.0/8"), forwarded: networks("192.0.2.0/24"), ..Trust::default() },
            Trust { forwarded: networks("2001:db8::/32"), header: ForwardedHeader::Forwarded, ..Trust::default() },
            Trust::default(),
        ])
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_door_for_proxies_is_for_nobody_else_and_each_door_has_its_own_lists() {
        let trusted = trusted();
        let standing = |door, text| trusted.standing(DoorId(door), ip(text));
        assert_eq!(standing(0, "10.1.2.3"), Standing::Introducer);
        assert_eq!(standing(0, "::ffff:10.1.2.3"), Standing::Introducer);
        assert_eq!(standing(0, "192.0.2.1"), Standing::Stranger);
        assert_eq!(standing(1, "2001:db8::1"), Standing::Forwarder);
        assert_eq!(standing(1, "10.1.2.3"), Standing::Client);
        assert_eq!(standing(2, "10.1.2.3"), Standing::Client);
        assert_eq!(standing(3, "10.1.2.3"), Standing::Client);
    }

    #[test]
    fn a_web_server_behind_a_proxy_is_believed_once_the_proxy_has_named_it() {
        let trusted = trusted();
        assert_eq!(trusted.forwarder(DoorId(0), ip("192.0.2.1")), Some(ForwardedHeader::XForwardedFor));
        assert_eq!(trusted.forwarder(DoorId(1), ip("2001:db8::9")), Some(ForwardedHeader::Forwarded));
        assert_eq!(trusted.forwarder(DoorId(2), ip("192.0.2.1")), None);
        assert!(Trusted::new(vec![Trust::default()]).doors.is_empty());
    }
}
