//! The guard itself: access by door, connection permits, question rates. One for all workers.

use std::net::IpAddr;
use std::sync::Arc;

use super::access::{Access, Exempt};
use super::client::ClientNetwork;
use super::clients::{Clients, Known, Strangers};
use super::permits::Permits;
use super::rate::{Rate, Rates, Source};
use super::{Refuse, Settings};
use crate::clock::Moment;
use crate::peer::{DoorId, Peer};

/// Access and limits, shared by all workers.
#[derive(Debug)]
pub struct Guard {
    access: Access,
    exempt: Exempt,
    permits: Permits,
    rates: Option<Rates>,
    refuse: Refuse,
    clients: Option<Clients>,
}

/// The right to hold one connection; given back on drop.
#[derive(Debug)]
pub struct Permit {
    guard: Arc<Guard>,
    /// `None` for an exempt client, which has no bound of its own.
    client: Option<ClientNetwork>,
}

/// Why a connection was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its network may not ask here.
    Access,
    /// All permits are out.
    Full,
    /// Its network holds as many as it may.
    ClientFull,
}

impl Guard {
    /// A guard by these settings.
    #[must_use]
    pub fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            access: Access::new(settings.allow),
            exempt: Exempt::new(settings.exempt),
            permits: Permits::new(settings.connections, settings.connections_per_client),
            rates: Rates::new(settings.queries_per_second),
            refuse: settings.refuse,
            clients: settings.clients.map(Clients::new),
        })
    }

    /// May `client` come to `door`? All that is known of it is its address: it may still turn out there to be nobody of ours.
    pub fn may_ask(&self, door: DoorId, client: IpAddr) -> bool {
        self.access.allows(door, client) || self.clients.as_ref().is_some_and(|clients| clients.may_come(door, client))
    }

    /// May `peer` ask, who is `known` or nobody that has a name here?
    pub fn hears(&self, peer: &Peer, known: Option<&Known>) -> bool {
        let listed = || self.access.allows(peer.door, peer.ip());
        match known {
            Some(known) => known.may_ask_from(peer.ip(), listed()),
            None => !self.refuses_strangers() && listed(),
        }
    }

    /// Who is `peer`, if it has a name here?
    pub fn know(&self, peer: &Peer) -> Option<&Known> {
        self.clients.as_ref()?.of(peer)
    }

    /// The clients that have a name here, if any have.
    pub const fn clients(&self) -> Option<&Clients> {
        self.clients.as_ref()
    }

    /// Is nobody heard who has no name here?
    pub fn refuses_strangers(&self) -> bool {
        self.clients.as_ref().is_some_and(|clients| clients.strangers() == Strangers::Refused)
    }

    /// Admits a connection.
    ///
    /// # Errors
    /// The [`Refusal`].
    pub fn admit(self: &Arc<Self>, door: DoorId, client: IpAddr) -> Result<Permit, Refusal> {
        if !self.may_ask(door, client) {
            return Err(Refusal::Access);
        }
        let client = (!self.is_exempt(client)).then(|| ClientNetwork::of(client));
        self.permits.take(client)?;
        Ok(Permit { guard: Arc::clone(self), client })
    }

    /// Takes one token of `client`'s network: [`Rate::Over`] once its tokens are used up, [`Rate::FarOver`] once it has asked for
    /// as many again.
    pub fn rate(&self, client: IpAddr, source: Source, now: Moment) -> Rate {
        match &self.rates {
            Some(rates) if !self.is_exempt(client) => rates.count(ClientNetwork::of(client), source, now),
            _ => Rate::Exempt,
        }
    }

    /// The same of `peer`: who has a name here is counted by that, wherever it comes from.
    pub fn rate_of(&self, peer: &Peer, source: Source, now: Moment) -> Rate {
        match (&self.rates, self.know(peer)) {
            (Some(rates), Some(known)) if !self.is_exempt(peer.ip()) => rates.count(known.number, source, now),
            _ => self.rate(peer.ip(), source, now),
        }
    }

    /// How refused clients hear of it over UDP.
    pub fn refuse(&self) -> Refuse {
        self.refuse
    }

    /// Connections that hold a permit now.
    pub fn connections(&self) -> usize {
        self.permits.held()
    }

    /// Is `client` free of rates and of the bound on connections of one client?
    pub fn is_exempt(&self, client: IpAddr) -> bool {
        self.exempt.contains(client)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.guard.permits.give_back(self.client);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::clients;

    fn guard(queries_per_second: u32) -> Arc<Guard> {
        Guard::new(Settings {
            allow: vec![vec!["0.0.0.0/0".parse().unwrap()], vec!["10.0.0.0/8".parse().unwrap()]],
            refuse: Refuse::Drop,
            connections: 5,
            connections_per_client: 2,
            queries_per_second,
            exempt: vec!["127.0.0.0/8".parse().unwrap()],
            clients: None,
        })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn refused(guard: &Arc<Guard>, door: u16, client: &str) -> Option<Refusal> {
        guard.admit(DoorId(door), ip(client)).err()
    }

    #[test]
    fn a_dropped_permit_frees_its_place_in_both_bounds() {
        let guard = guard(0);
        let first = guard.admit(DoorId(0), ip("192.0.2.1")).unwrap();
        let second = guard.admit(DoorId(0), ip("::ffff:192.0.2.1")).unwrap();
        assert_eq!(refused(&guard, 0, "192.0.2.1"), Some(Refusal::ClientFull));
        assert_eq!(guard.connections(), 2);
        drop(first);
        assert_eq!(guard.connections(), 1);
        assert_eq!(refused(&guard, 0, "192.0.2.1"), None);
        drop(second);
        assert_eq!(guard.connections(), 0);
    }

    #[test]
    fn exempt_clients_pass_their_own_bound_but_not_the_total() {
        let guard = guard(0);
        let held: Vec<_> = (0..5).map(|_| guard.admit(DoorId(0), ip("127.0.0.1")).unwrap()).collect();
        assert_eq!(refused(&guard, 0, "127.0.0.1"), Some(Refusal::Full));
        assert_eq!(refused(&guard, 0, "192.0.2.1"), Some(Refusal::Full));
        drop(held);
        assert_eq!(refused(&guard, 0, "192.0.2.1"), None);
    }

    #[test]
    fn access_is_asked_before_permits_and_by_door() {
        let guard = guard(0);
        assert_eq!(refused(&guard, 1, "192.0.2.1"), Some(Refusal::Access));
        assert_eq!(refused(&guard, 1, "10.0.0.1"), None);
        assert_eq!(refused(&guard, 2, "10.0.0.1"), Some(Refusal::Access));
        assert!(!guard.may_ask(DoorId(1), ip("127.0.0.1")), "exempt is not allowed");
        assert_eq!(guard.connections(), 0);
        assert_eq!(guard.refuse(), Refuse::Drop);
    }

    #[test]
    fn rates_apply_to_all_but_exempt_clients_and_not_at_all_when_off() {
        let limited = guard(1);
        let said = ["192.0.2.1", "192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2", "127.0.0.1", "127.0.0.1"]
            .map(|client| limited.rate(ip(client), Source::Claimed, Moment(0)));
        assert_eq!(said, [Rate::Within, Rate::Over, Rate::FarOver, Rate::Within, Rate::Exempt, Rate::Exempt]);
        let off = guard(0);
        let unlimited = |()| off.rate(ip("192.0.2.1"), Source::Claimed, Moment(0));
        assert_eq!([(), ()].map(unlimited), [Rate::Exempt; 2]);
    }

    fn with_clients(list: Vec<clients::Client>, strangers: Strangers) -> Arc<Guard> {
        let clients = clients::Settings { list, strangers, showing: vec![DoorId(0)], vouch: None };
        Guard::new(Settings {
            allow: vec![vec!["192.0.2.0/24".parse().unwrap()]; 2],
            queries_per_second: 1,
            clients: Some(clients),
            ..Settings::default()
        })
    }

    fn tablet(token: &[u8], allow: Option<&str>) -> clients::Client {
        let credentials = vec![clients::Credential::Token(clients::TokenHash::of(token))];
        let allow = allow.map(|network| vec![network.parse().unwrap()]);
        clients::Client { name: "tablet".into(), credentials, allow }
    }

    fn peer(door: u16, from: &str, client: Option<crate::peer::ClientId>) -> Peer {
        let address = |ip: &str| std::net::SocketAddr::new(ip.parse().unwrap(), 5300);
        let peer = Peer::new(address(from), address("192.0.2.1"), DoorId(door), crate::peer::Transport::Doh2);
        Peer { client, ..peer }
    }

    fn hears(guard: &Guard, peer: &Peer) -> bool {
        guard.hears(peer, guard.know(peer))
    }

    const TOKEN: &[u8] = b"0123456789abcdef";

    #[test]
    fn who_is_known_is_heard_by_its_own_list_and_strangers_by_the_doors_or_not_at_all() {
        for (strangers, heard) in [(Strangers::Heard, true), (Strangers::Refused, false)] {
            let guard = with_clients(vec![tablet(TOKEN, Some("0.0.0.0/0"))], strangers);
            let known = guard.clients().unwrap().by_token(TOKEN);
            assert!(hears(&guard, &peer(0, "198.51.100.1", known)));
            assert_eq!(hears(&guard, &peer(0, "192.0.2.9", None)), heard);
            assert!(!hears(&guard, &peer(0, "198.51.100.1", None)));
            assert!(guard.may_ask(DoorId(0), ip("198.51.100.1")) && !guard.may_ask(DoorId(1), ip("198.51.100.1")));
        }
    }

    #[test]
    fn a_connection_made_with_what_is_struck_off_is_a_strangers_from_then_on() {
        let before = with_clients(vec![tablet(TOKEN, None)], Strangers::Refused);
        let connection = peer(0, "192.0.2.9", before.clients().unwrap().by_token(TOKEN));
        assert!(hears(&before, &connection));
        let after = with_clients(vec![tablet(b"another-0123456789", None)], Strangers::Refused);
        assert!(!hears(&after, &connection));
        let again = with_clients(vec![tablet(TOKEN, None)], Strangers::Refused);
        assert!(hears(&again, &connection), "what still holds needs no new connection");
    }

    #[test]
    fn who_is_known_has_one_rate_wherever_it_comes_from() {
        let guard = with_clients(vec![tablet(TOKEN, None)], Strangers::Heard);
        let known = guard.clients().unwrap().by_token(TOKEN);
        let rate = |from, client| guard.rate_of(&peer(0, from, client), Source::Proven, Moment(0));
        assert_eq!([rate("192.0.2.1", known), rate("192.0.2.2", known)], [Rate::Within, Rate::Over]);
        assert_eq!([rate("192.0.2.1", None), rate("192.0.2.2", None)], [Rate::Within; 2]);
    }

    #[test]
    fn forged_questions_use_up_nothing_of_the_client_they_name() {
        let guard = guard(1);
        let forged = [(); 3].map(|()| guard.rate(ip("192.0.2.1"), Source::Claimed, Moment(0)));
        assert_eq!(forged, [Rate::Within, Rate::Over, Rate::FarOver]);
        assert_eq!(guard.rate(ip("192.0.2.1"), Source::Proven, Moment(0)), Rate::Within);
    }
}
