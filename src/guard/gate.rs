//! The guard itself: access by door, connection permits, rates of all kinds, what is held for whom. One for all workers.

use std::net::IpAddr;
use std::sync::Arc;

use super::access::{Access, Exempt};
use super::client::{Client, ClientNetwork};
use super::clients::{Clients, Known, Strangers};
use super::flow::{Beginning, Fault, Flows};
use super::held::{Purse, Waiting};
use super::permits::Permits;
use super::rate::{Rate, Rates, Source};
use super::strain::{self, Strain};
use super::tally::Tally;
use super::trust::{ForwardedHeader, Standing, Trusted};
use super::{Refuse, Settings};
use crate::clock::Moment;
use crate::peer::{DoorId, Peer};
use crate::telemetry::Limited;

/// Access and limits, shared by all workers.
#[derive(Debug)]
pub struct Guard {
    access: Access,
    exempt: Exempt,
    permits: Permits,
    rates: Option<Arc<Rates>>,
    queries_per_second: u32,
    flows: Arc<Flows>,
    waiting: Arc<Tally<(Client, Source)>>,
    waiting_per_client: usize,
    octets: Arc<Tally<ClientNetwork>>,
    octets_per_client: usize,
    strain: Arc<strain::Cell>,
    refuse: Refuse,
    trusted: Trusted,
    clients: Option<Clients>,
}

/// The right to hold one connection; given back on drop.
#[derive(Debug)]
pub struct Permit {
    guard: Arc<Guard>,
    /// `None` for an exempt client, which has no bound of its own.
    client: Option<ClientNetwork>,
    /// Has a proxy taken it, that has yet to say for whom?
    owes_header: bool,
}

/// Why a connection was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its network may not ask here.
    Access,
    /// The door is for proxies, and it is none.
    Untrusted,
    /// All permits are out.
    Full,
    /// Its network holds as many as it may.
    ClientFull,
    /// Its network has begun too many of late, or is shut out.
    TooOften,
}

impl Guard {
    /// A guard by these settings.
    #[must_use]
    pub fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            rates: Rates::new(settings.queries_per_second).map(Arc::new),
            flows: Flows::new(&settings),
            waiting: Arc::default(),
            octets: Arc::default(),
            strain: Arc::default(),
            permits: Permits::new(settings.connections, settings.connections_per_client),
            queries_per_second: settings.queries_per_second,
            waiting_per_client: or_any(settings.waiting_per_client),
            octets_per_client: settings.octets_per_client,
            access: Access::new(settings.allow),
            exempt: Exempt::new(settings.exempt),
            refuse: settings.refuse,
            trusted: Trusted::new(settings.trust),
            clients: settings.clients.map(Clients::new),
        })
    }

    /// A guard by other settings that knows what is out, and what each client has done unless the rate itself is another.
    #[must_use]
    pub fn renewed(&self, settings: Settings) -> Arc<Self> {
        let is_same_rate = self.queries_per_second == settings.queries_per_second;
        let fresh = || Rates::new(settings.queries_per_second).map(Arc::new);
        Arc::new(Self {
            rates: if is_same_rate { self.rates.clone() } else { fresh() },
            flows: self.flows.renewed(&settings),
            waiting: Arc::clone(&self.waiting),
            octets: Arc::clone(&self.octets),
            strain: Arc::clone(&self.strain),
            permits: self.permits.renewed(settings.connections, settings.connections_per_client),
            queries_per_second: settings.queries_per_second,
            waiting_per_client: or_any(settings.waiting_per_client),
            octets_per_client: settings.octets_per_client,
            access: Access::new(settings.allow),
            exempt: Exempt::new(settings.exempt),
            refuse: settings.refuse,
            trusted: Trusted::new(settings.trust),
            clients: settings.clients.map(|clients| Clients::following(clients, self.clients.as_ref())),
        })
    }

    /// May `client` come to `door`? All that is known of it is its address: it may still turn out there to be nobody of ours.
    pub fn may_ask(&self, door: DoorId, client: IpAddr) -> bool {
        self.access.allows(door, client) || self.clients.as_ref().is_some_and(|clients| clients.may_come(door, client))
    }

    /// May `peer` ask, who is `known` or nobody that has a name here? Wherever it is, and from where it has shown to be.
    pub fn hears(&self, peer: &Peer, known: Option<&Known>) -> bool {
        let is_heard_at = |address| {
            let listed = || self.access.allows(peer.door, address);
            match known {
                Some(known) => known.may_ask_from(address, listed()),
                None => !self.refuses_strangers() && listed(),
            }
        };
        is_heard_at(peer.ip()) && peer.shaken_at.is_none_or(is_heard_at)
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

    /// May `client` connect to `door`? A web server that is believed may for its clients' sake, who are judged by themselves.
    pub fn may_connect(&self, door: DoorId, client: IpAddr) -> bool {
        self.may_ask(door, client) || self.forwarder(door, client).is_some()
    }

    /// What `address` is to `door`.
    pub fn standing(&self, door: DoorId, address: IpAddr) -> Standing {
        self.trusted.standing(door, address)
    }

    /// The header in which `address` may say who asks at `door`; `None` where its word is not taken.
    pub fn forwarder(&self, door: DoorId, address: IpAddr) -> Option<ForwardedHeader> {
        self.trusted.forwarder(door, address)
    }

    /// Admits a connection.
    ///
    /// # Errors
    /// The [`Refusal`].
    pub fn admit(self: &Arc<Self>, door: DoorId, client: IpAddr) -> Result<Permit, Refusal> {
        let (client, owes_header) = match self.standing(door, client) {
            Standing::Introducer => (None, true),
            Standing::Stranger => return Err(Refusal::Untrusted),
            Standing::Client | Standing::Forwarder => (self.bounded(door, client)?, false),
        };
        self.permits.take(client)?;
        Ok(Permit { guard: Arc::clone(self), client, owes_header })
    }

    /// The network whose bound a connection of `client` counts in; `None` for one that only the total counts: a proxy would use up
    /// the bound of one client with the connections of many.
    fn bounded(&self, door: DoorId, client: IpAddr) -> Result<Option<ClientNetwork>, Refusal> {
        if self.forwarder(door, client).is_some() {
            return Ok(None);
        }
        if !self.may_ask(door, client) {
            return Err(Refusal::Access);
        }
        Ok((!self.is_exempt(client)).then(|| ClientNetwork::of(client)))
    }

    /// Takes one token of `peer`: [`Rate::Over`] once its tokens are used up, [`Rate::FarOver`] once it has asked for as many again.
    pub fn rate(&self, peer: &Peer, source: Source, now: Moment) -> Rate {
        match &self.rates {
            Some(rates) if !self.is_spared(peer) => match self.know(peer) {
                // Who has a name here is counted by that, wherever it comes from.
                Some(known) => rates.count(known.account, source, now),
                None => rates.count(Client::of(peer), source, now),
            },
            _ => Rate::Exempt,
        }
    }

    /// May `peer` begin a conversation? Asked before anything is spent on it.
    ///
    /// # Errors
    /// The limit that it has reached. That of memory is for everybody.
    pub fn may_begin(&self, peer: &Peer, beginning: Beginning, source: Source, now: Moment) -> Result<(), Limited> {
        if self.strain() == Strain::Out {
            return Err(Limited::Memory);
        }
        if self.is_spared(peer) {
            return Ok(());
        }
        self.flows.begin(ClientNetwork::of(peer.shown_ip()), beginning, source, now)
    }

    /// Counts a handshake of anybody; answers whether there are so many that unknown addresses must prove themselves first.
    pub fn is_busy(&self, now: Moment) -> bool {
        self.flows.are_many(now)
    }

    /// Counts what `peer` did wrong; from the limit on its connection is to be closed, and it is shut out for a while.
    ///
    /// # Errors
    /// The limit that it has reached.
    pub fn fault(&self, peer: &Peer, fault: Fault, now: Moment) -> Result<(), Limited> {
        if self.is_spared(peer) { Ok(()) } else { self.flows.fault(ClientNetwork::of(peer.shown_ip()), fault, now) }
    }

    /// Is `peer` shut out? For those who come by the connection of a web server: all others begin their own.
    pub fn is_shut_out(&self, peer: &Peer, now: Moment) -> bool {
        !self.is_spared(peer) && self.flows.is_shut_out(ClientNetwork::of(peer.shown_ip()), now)
    }

    /// A place for a question of `peer` that has to wait; `None` if as many wait as may.
    pub fn wait(self: &Arc<Self>, peer: &Peer, source: Source) -> Option<Waiting> {
        let key = (!self.is_spared(peer)).then(|| (Client::of(peer), source));
        let taken = self.waiting.take(key, 1, self.waiting_per_client);
        taken.then(|| Waiting::new(Arc::clone(self), key))
    }

    /// How short memory is.
    pub fn strain(&self) -> Strain {
        self.strain.get()
    }

    /// Says how short memory is.
    pub fn strain_by(&self, strain: Strain) {
        self.strain.set(strain);
    }

    /// How refused clients hear of it over UDP.
    pub fn refuse(&self) -> Refuse {
        self.refuse
    }

    /// Connections that hold a permit now.
    pub fn connections(&self) -> usize {
        self.permits.held()
    }

    /// The most connections there may be.
    pub fn most_connections(&self) -> usize {
        self.permits.bound()
    }

    /// Octets that are kept for clients.
    pub fn octets_held(&self) -> usize {
        self.octets.total()
    }

    pub(super) fn octets(&self) -> &Tally<ClientNetwork> {
        &self.octets
    }

    pub(super) const fn octets_per_client(&self) -> usize {
        self.octets_per_client
    }

    pub(super) fn waiting(&self) -> &Tally<(Client, Source)> {
        &self.waiting
    }

    /// Is `client` free of rates and of the bound on connections of one client?
    pub fn is_exempt(&self, client: IpAddr) -> bool {
        self.exempt.contains(client)
    }

    /// Does no rate apply to `peer`? What a proxy does for itself is not its clients' doing, who are judged by themselves.
    fn is_spared(&self, peer: &Peer) -> bool {
        let (door, address) = (peer.door, peer.shown_ip());
        self.is_exempt(address)
            || match peer.via {
                None => matches!(self.standing(door, address), Standing::Introducer | Standing::Forwarder),
                // A web server behind a proxy. Who is named by a web server is none, whatever it is called.
                Some(via) => {
                    self.standing(door, via) == Standing::Introducer
                        && self.forwarder(door, via).is_none()
                        && self.forwarder(door, address).is_some()
                }
            }
    }
}

/// A bound of 0 is none.
fn or_any(bound: u32) -> usize {
    if bound == 0 { usize::MAX } else { usize::try_from(bound).unwrap_or(usize::MAX) }
}

impl Permit {
    /// Was it given to a proxy, which has yet to say who asks?
    pub const fn owes_header(&self) -> bool {
        self.owes_header
    }

    /// The permit of a proxy, now that of the `client` it speaks for, if `guard` lets that in.
    ///
    /// # Errors
    /// The [`Refusal`]; the permit is given back then.
    pub fn pass_to(mut self, guard: &Guard, door: DoorId, client: IpAddr) -> Result<Self, Refusal> {
        let bounded = guard.bounded(door, client)?;
        if bounded.is_some_and(|network| !guard.permits.take_for(network)) {
            return Err(Refusal::ClientFull);
        }
        self.client = bounded;
        self.owes_header = false;
        Ok(self)
    }

    /// What the octets kept for this connection are charged to.
    #[must_use]
    pub fn purse(&self) -> Purse {
        Purse::new(Arc::clone(&self.guard), self.client)
    }

    /// The guard that gave it.
    #[must_use]
    pub fn guard(&self) -> &Arc<Guard> {
        &self.guard
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
    use crate::guard::{Trust, clients};

    fn guard(queries_per_second: u32) -> Arc<Guard> {
        Guard::new(Settings {
            allow: vec![vec!["0.0.0.0/0".parse().unwrap()], vec!["10.0.0.0/8".parse().unwrap()]],
            refuse: Refuse::Drop,
            connections: 5,
            connections_per_client: 2,
            queries_per_second,
            waiting_per_client: 2,
            octets_per_client: 1000,
            exempt: vec!["127.0.0.0/8".parse().unwrap()],
            ..Settings::default()
        })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn peer(text: &str) -> Peer {
        let local = "192.0.2.53:53".parse().unwrap();
        Peer::new(std::net::SocketAddr::new(ip(text), 5353), local, DoorId(0), crate::peer::Transport::Udp)
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
    fn ppx_09_a_proxys_permit_becomes_its_clients_and_counts_in_the_clients_bound() {
        let listed = |text: &str| vec![text.parse().unwrap()];
        let guard = Guard::new(Settings {
            allow: vec![listed("192.0.2.0/24"), listed("192.0.2.0/24")],
            connections: 5,
            connections_per_client: 2,
            trust: vec![
                Trust { proxy: listed("10.0.0.1"), forwarded: listed("10.0.0.9"), ..Trust::default() },
                Trust { forwarded: listed("10.0.0.9"), ..Trust::default() },
            ],
            ..Settings::default()
        });
        assert_eq!(refused(&guard, 0, "192.0.2.1"), Some(Refusal::Untrusted));
        let pass =
            |client: &str| guard.admit(DoorId(0), ip("10.0.0.1")).unwrap().pass_to(&guard, DoorId(0), ip(client));
        let held = ["192.0.2.1", "192.0.2.1"].map(|client| pass(client).unwrap());
        assert!(!held[0].owes_header());
        assert_eq!(pass("192.0.2.1").err(), Some(Refusal::ClientFull));
        assert_eq!(pass("198.51.100.1").err(), Some(Refusal::Access));
        assert_eq!(guard.connections(), 2, "a refused permit is given back");
        let others = ["192.0.2.2", "10.0.0.9"].map(|client| pass(client).unwrap());
        let waiting = guard.admit(DoorId(0), ip("10.0.0.1")).unwrap();
        assert!(waiting.owes_header());
        assert_eq!(refused(&guard, 0, "10.0.0.1"), Some(Refusal::Full));
        drop((held, others, waiting));
        assert_eq!(guard.connections(), 0);
        // A web server has connections without end, and is let in for its clients' sake.
        let servers = [(); 5].map(|()| guard.admit(DoorId(1), ip("10.0.0.9")).unwrap());
        assert!(servers.iter().all(|permit| !permit.owes_header()));
        assert!(guard.may_connect(DoorId(1), ip("10.0.0.9")) && !guard.may_ask(DoorId(1), ip("10.0.0.9")));
    }

    #[test]
    fn a_web_server_behind_a_proxy_is_spared_and_whoever_it_names_is_not() {
        let listed = |text: &str| vec![text.parse().unwrap()];
        let trust = Trust { proxy: listed("10.0.0.1"), forwarded: listed("10.0.0.8/31"), ..Trust::default() };
        let guard = Guard::new(Settings {
            allow: vec![listed("0.0.0.0/0")],
            queries_per_second: 1,
            handshakes_per_second: 1,
            errors_per_second: 1,
            trust: vec![trust],
            ..Settings::default()
        });
        let to = |ip: IpAddr| std::net::SocketAddr::new(ip, 4711);
        let server = peer("10.0.0.1").speaking_for(to(ip("10.0.0.9")));
        let limited = |peer: &Peer| {
            let begin = || guard.may_begin(peer, Beginning::Handshake, Source::Proven, Moment(0)).is_err();
            let fault = || guard.fault(peer, Fault::Error, Moment(0)).is_err();
            let rate = || guard.rate(peer, Source::Proven, Moment(0)) != Rate::Exempt;
            [(0..100).any(|_| begin()), (0..100).any(|_| fault()), rate()]
        };
        assert_eq!(limited(&server), [false; 3]);
        for client in ["192.0.2.1", "10.0.0.8"] {
            assert_eq!(limited(&server.clone().speaking_for(to(ip(client)))), [true; 3], "{client}");
        }
        assert_eq!(limited(&peer("10.0.0.1").speaking_for(to(ip("192.0.2.2")))), [true; 3]);
    }

    #[test]
    fn who_seems_to_have_moved_has_the_rights_of_neither_place_alone_and_is_counted_where_it_was_shown_to_be() {
        let guard = Guard::new(Settings {
            allow: vec![vec!["192.0.2.0/24".parse().unwrap(), "127.0.0.0/8".parse().unwrap()]],
            queries_per_second: 1,
            errors_per_second: 1,
            exempt: vec!["127.0.0.0/8".parse().unwrap()],
            ..Settings::default()
        });
        let moved = |from: &str, to: &str| peer(from).seen_at(std::net::SocketAddr::new(ip(to), 99));
        assert!(hears(&guard, &moved("192.0.2.1", "192.0.2.2")));
        for (from, to) in [("198.51.100.1", "192.0.2.1"), ("192.0.2.1", "198.51.100.1")] {
            assert!(!hears(&guard, &moved(from, to)), "{from} {to}");
        }
        let back = moved("198.51.100.1", "192.0.2.1").seen_at("198.51.100.1:7".parse().unwrap());
        assert_eq!((back.shaken_at, back.ip()), (None, ip("198.51.100.1")));
        // A victim's address on its datagrams costs the victim nothing, and that of an exempt host frees nobody.
        for address in ["192.0.2.9", "127.0.0.1"] {
            let attacker = moved("192.0.2.66", address);
            assert_ne!(guard.rate(&attacker, Source::Proven, Moment(0)), Rate::Exempt);
            assert!((0..100).any(|_| guard.fault(&attacker, Fault::Error, Moment(0)).is_err()));
        }
        let begin = |client| guard.may_begin(&peer(client), Beginning::Clear, Source::Proven, Moment(0));
        assert_eq!((begin("192.0.2.9"), begin("192.0.2.66")), (Ok(()), Err(Limited::ShutOut)));
        assert_eq!(guard.rate(&peer("192.0.2.9"), Source::Proven, Moment(0)), Rate::Within);
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
            .map(|client| limited.rate(&peer(client), Source::Claimed, Moment(0)));
        assert_eq!(said, [Rate::Within, Rate::Over, Rate::FarOver, Rate::Within, Rate::Exempt, Rate::Exempt]);
        let off = guard(0);
        let unlimited = |()| off.rate(&peer("192.0.2.1"), Source::Claimed, Moment(0));
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

    fn named(door: u16, from: &str, client: Option<crate::peer::ClientId>) -> Peer {
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
            assert!(hears(&guard, &named(0, "198.51.100.1", known)));
            assert_eq!(hears(&guard, &named(0, "192.0.2.9", None)), heard);
            assert!(!hears(&guard, &named(0, "198.51.100.1", None)));
            assert!(guard.may_ask(DoorId(0), ip("198.51.100.1")) && !guard.may_ask(DoorId(1), ip("198.51.100.1")));
        }
    }

    #[test]
    fn a_connection_made_with_what_is_struck_off_is_a_strangers_from_then_on() {
        let before = with_clients(vec![tablet(TOKEN, None)], Strangers::Refused);
        let connection = named(0, "192.0.2.9", before.clients().unwrap().by_token(TOKEN));
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
        let rate = |from, client| guard.rate(&named(0, from, client), Source::Proven, Moment(0));
        assert_eq!([rate("192.0.2.1", known), rate("192.0.2.2", known)], [Rate::Within, Rate::Over]);
        assert_eq!([rate("192.0.2.1", None), rate("192.0.2.2", None)], [Rate::Within; 2]);
    }

    #[test]
    fn forged_questions_use_up_nothing_of_the_client_they_name() {
        let guard = guard(1);
        let forged = [(); 3].map(|()| guard.rate(&peer("192.0.2.1"), Source::Claimed, Moment(0)));
        assert_eq!(forged, [Rate::Within, Rate::Over, Rate::FarOver]);
        assert_eq!(guard.rate(&peer("192.0.2.1"), Source::Proven, Moment(0)), Rate::Within);
    }

    #[test]
    fn questions_that_wait_and_octets_that_are_kept_are_bounded_by_client_and_given_back() {
        let guard = guard(0);
        let known = Peer { client: Some(crate::peer::ClientId(7)), ..peer("192.0.2.1") };
        let held = [&peer("192.0.2.1"), &peer("::ffff:192.0.2.1"), &known].map(|peer| guard.wait(peer, Source::Proven));
        assert!(held.iter().all(Option::is_some));
        assert!(guard.wait(&peer("192.0.2.1"), Source::Proven).is_none());
        assert!(guard.wait(&peer("192.0.2.1"), Source::Claimed).is_some(), "forged ones are counted apart");
        let many: Vec<_> = (0..50).map(|_| guard.wait(&peer("127.0.0.1"), Source::Claimed)).collect();
        assert!(many.iter().all(Option::is_some));
        drop(held);
        assert!(guard.wait(&peer("192.0.2.1"), Source::Proven).is_some());
        let purses = ["192.0.2.1", "192.0.2.1", "192.0.2.2", "127.0.0.1"]
            .map(|client| guard.admit(DoorId(0), ip(client)).unwrap().purse());
        let kept: Vec<_> = purses.iter().map(|purse| purse.hold(600)).collect();
        assert_eq!(kept.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true, true]);
        assert!(purses[3].hold(100_000).is_some());
        assert_eq!(guard.octets_held(), 1800);
        drop(kept);
        assert_eq!(guard.octets_held(), 0);
    }

    #[test]
    fn without_memory_nobody_begins_and_exempt_clients_have_no_other_limit() {
        let guard = guard(0);
        let begin = |client| guard.may_begin(&peer(client), Beginning::Handshake, Source::Proven, Moment(0));
        assert!((0..1000).all(|_| begin("127.0.0.1").is_ok()));
        assert!((0..1000).all(|_| guard.fault(&peer("127.0.0.1"), Fault::Error, Moment(0)).is_ok()));
        assert_eq!((0..1000).filter(|_| begin("192.0.2.1").is_ok()).count(), 200);
        guard.strain_by(Strain::Out);
        assert_eq!([begin("127.0.0.1"), begin("192.0.2.9")], [Err(Limited::Memory); 2]);
        guard.strain_by(Strain::Short);
        assert_eq!(begin("192.0.2.9"), Ok(()));
    }

    #[test]
    fn a_renewed_guard_shares_permits_and_rates_and_has_its_own_lists_and_bounds() {
        let any = super::super::Network::of(IpAddr::from([0, 0, 0, 0]), 0);
        let settings =
            Settings { allow: vec![vec![any]], connections: 10, queries_per_second: 2, ..Settings::default() };
        let old = Guard::new(settings.clone());
        let client = "192.0.2.1".parse().unwrap();
        let asker = peer("192.0.2.1");
        let held = old.admit(DoorId(0), client).unwrap();
        for _ in 0..2 {
            assert_eq!(old.rate(&asker, Source::Proven, Moment(0)), Rate::Within);
        }
        let new = old.renewed(Settings { connections: 1, allow: vec![vec![any]], ..settings.clone() });
        assert_eq!((new.connections(), new.admit(DoorId(0), client).unwrap_err()), (1, Refusal::Full));
        assert_ne!(new.rate(&asker, Source::Proven, Moment(0)), Rate::Within, "what it has asked is known");
        drop(held);
        assert_eq!((new.connections(), old.connections()), (0, 0));
        assert!(!old.renewed(Settings { allow: vec![Vec::new()], ..settings }).may_ask(DoorId(0), client));
    }
}
