//! The guard itself: access by door, connection permits, question rates. One for all workers.

use std::net::IpAddr;
use std::sync::Arc;

use super::access::{Access, Exempt};
use super::client::ClientNetwork;
use super::permits::{Ledger, Permits};
use super::rate::{Rate, Rates, Source};
use super::trust::{ForwardedHeader, Standing, Trusted};
use super::{Refuse, Settings};
use crate::clock::Moment;
use crate::peer::DoorId;

/// Access and limits, shared by all workers.
#[derive(Debug)]
pub struct Guard {
    access: Access,
    exempt: Exempt,
    permits: Permits,
    rates: Option<Arc<Rates>>,
    queries_per_second: u32,
    refuse: Refuse,
    trusted: Trusted,
}

/// The right to hold one connection; given back on drop.
#[derive(Debug)]
pub struct Permit {
    ledger: Arc<Ledger>,
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
}

impl Guard {
    /// A guard by these settings.
    #[must_use]
    pub fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            access: Access::new(settings.allow),
            exempt: Exempt::new(settings.exempt),
            permits: Permits::new(settings.connections, settings.connections_per_client),
            rates: Rates::new(settings.queries_per_second).map(Arc::new),
            queries_per_second: settings.queries_per_second,
            refuse: settings.refuse,
            trusted: Trusted::new(settings.trust),
        })
    }

    /// A guard by other settings that knows which permits are out, and what each client has asked unless the rate itself is another.
    #[must_use]
    pub fn renewed(&self, settings: Settings) -> Arc<Self> {
        let is_same_rate = self.queries_per_second == settings.queries_per_second;
        let fresh = || Rates::new(settings.queries_per_second).map(Arc::new);
        Arc::new(Self {
            access: Access::new(settings.allow),
            exempt: Exempt::new(settings.exempt),
            permits: self.permits.renewed(settings.connections, settings.connections_per_client),
            rates: if is_same_rate { self.rates.clone() } else { fresh() },
            queries_per_second: settings.queries_per_second,
            refuse: settings.refuse,
            trusted: Trusted::new(settings.trust),
        })
    }

    /// May `client` ask at `door`?
    pub fn may_ask(&self, door: DoorId, client: IpAddr) -> bool {
        self.access.allows(door, client)
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
        Ok(Permit { ledger: self.permits.ledger(), client, owes_header })
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

    /// Takes one token of `client`'s network: [`Rate::Over`] once its tokens are used up, [`Rate::FarOver`] once it has asked for
    /// as many again.
    pub fn rate(&self, client: IpAddr, source: Source, now: Moment) -> Rate {
        match &self.rates {
            Some(rates) if !self.is_exempt(client) => rates.count(ClientNetwork::of(client), source, now),
            _ => Rate::Exempt,
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
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.ledger.give_back(self.client);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::Trust;

    fn guard(queries_per_second: u32) -> Arc<Guard> {
        Guard::new(Settings {
            allow: vec![vec!["0.0.0.0/0".parse().unwrap()], vec!["10.0.0.0/8".parse().unwrap()]],
            refuse: Refuse::Drop,
            connections: 5,
            connections_per_client: 2,
            queries_per_second,
            exempt: vec!["127.0.0.0/8".parse().unwrap()],
            trust: Vec::new(),
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

    #[test]
    fn forged_questions_use_up_nothing_of_the_client_they_name() {
        let guard = guard(1);
        let forged = [(); 3].map(|()| guard.rate(ip("192.0.2.1"), Source::Claimed, Moment(0)));
        assert_eq!(forged, [Rate::Within, Rate::Over, Rate::FarOver]);
        assert_eq!(guard.rate(ip("192.0.2.1"), Source::Proven, Moment(0)), Rate::Within);
    }

    #[test]
    fn a_renewed_guard_shares_permits_and_rates_and_has_its_own_lists_and_bounds() {
        let any = super::super::Network::of(IpAddr::from([0, 0, 0, 0]), 0);
        let settings =
            Settings { allow: vec![vec![any]], connections: 10, queries_per_second: 2, ..Settings::default() };
        let old = Guard::new(settings.clone());
        let client = "192.0.2.1".parse().unwrap();
        let held = old.admit(DoorId(0), client).unwrap();
        for _ in 0..2 {
            assert_eq!(old.rate(client, Source::Proven, Moment(0)), Rate::Within);
        }
        let new = old.renewed(Settings { connections: 1, allow: vec![vec![any]], ..settings.clone() });
        assert_eq!((new.connections(), new.admit(DoorId(0), client).unwrap_err()), (1, Refusal::Full));
        assert_ne!(new.rate(client, Source::Proven, Moment(0)), Rate::Within, "what it has asked is known");
        drop(held);
        assert_eq!((new.connections(), old.connections()), (0, 0));
        assert!(!old.renewed(Settings { allow: vec![Vec::new()], ..settings }).may_ask(DoorId(0), client));
    }
}
