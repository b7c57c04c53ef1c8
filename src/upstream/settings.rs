//! What the upstream side is told.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Address;
use super::address::Host;
use super::ask::{Ask, Basis, Telling};
use crate::wire::Subnet;

/// How a DoH server is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Method {
    /// POST: the body says it all.
    #[default]
    Post,
    /// GET: HTTP caches on the way may help.
    Get,
}

/// What a server is told of a client's network (RFC 7871).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SubnetRule {
    /// Nothing (ECS-01).
    #[default]
    Strip,
    /// That nothing is to be told on, of us either: no bit of any address (RFC 7871 7.1.2).
    OptOut,
    /// What the client tells, up to 24 bits of IPv4 and 56 of IPv6.
    Forward,
    /// So many bits of the address that the client asks from, or fewer where it says so itself.
    Add {
        /// Of IPv4, at most 24.
        v4: u8,
        /// Of IPv6, at most 56.
        v6: u8,
    },
    /// This network with every question, whoever asks.
    Fixed(Subnet),
}

impl SubnetRule {
    /// The rule that tells as much of a client as either of two, where a question may go to a server of each. `Strip` stands for all
    /// that tell nothing of it.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self.of_clients(), other.of_clients()) {
            (Self::Add { v4, v6 }, Self::Add { v4: other_v4, v6: other_v6 }) => {
                Self::Add { v4: v4.max(other_v4), v6: v6.max(other_v6) }
            }
            (Self::Add { .. }, Self::Forward) | (Self::Forward, Self::Add { .. }) => {
                Self::Add { v4: Subnet::LONGEST_V4, v6: Subnet::LONGEST }
            }
            (Self::Strip, rule) | (rule, _) => rule,
        }
    }

    const fn of_clients(self) -> Self {
        match self {
            Self::Strip | Self::OptOut | Self::Fixed(_) => Self::Strip,
            Self::Forward | Self::Add { .. } => self,
        }
    }

    /// `subnet`, cut to what the rule tells of it.
    #[must_use]
    pub fn cut(self, subnet: Subnet) -> Subnet {
        match self {
            Self::Strip | Self::OptOut | Self::Fixed(_) => subnet.hidden(),
            Self::Forward => subnet,
            Self::Add { v4, v6 } => subnet.within(if subnet.is_v6() { v6 } else { v4 }),
        }
    }

    /// What a server with this rule is told where `most` may be told to any.
    #[must_use]
    pub fn told(self, most: Option<Telling>) -> Option<Telling> {
        let nobodys = |subnet| Some(Telling { subnet, basis: Basis::Nobody });
        let is_withheld = most.is_some_and(|most| most.basis == Basis::Nobody);
        match self {
            Self::Strip => None,
            Self::OptOut => nobodys(Subnet::NOTHING),
            Self::Fixed(subnet) => nobodys(if is_withheld { Subnet::NOTHING } else { subnet }),
            Self::Forward => most.filter(|most| most.basis != Basis::Address),
            Self::Add { .. } => most.map(|most| Telling { subnet: self.cut(most.subnet), ..most }),
        }
    }

    /// `ask` as it goes to a server with this rule.
    #[must_use]
    pub fn narrow(self, ask: &Arc<Ask>) -> Arc<Ask> {
        let subnet = self.told(ask.subnet);
        if subnet == ask.subnet { Arc::clone(ask) } else { Arc::new(Ask { subnet, ..(**ask).clone() }) }
    }
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    /// Its URL.
    pub url: Address,
    /// Where its name is, instead of a look-up.
    pub addresses: Vec<IpAddr>,
    /// The name to verify when it is not the URL's host.
    pub tls_name: Option<String>,
    /// Authorities to trust instead of the system's, a PEM file.
    pub ca: Option<PathBuf>,
    /// SHA-256 digests of public keys (SPKI) to insist on.
    pub pins: Vec<[u8; 32]>,
    /// How a DoH server is asked.
    pub method: Method,
    /// Its share under [`Strategy::Weighted`]. Default 1.
    pub weight: u16,
    /// The address its connections and datagrams leave from; None: the system chooses.
    pub source: Option<IpAddr>,
    /// Reached through this; for streams only.
    pub proxy: Option<Proxy>,
    /// What it is told of clients' networks.
    pub ecs: SubnetRule,
}

/// A way through to a server that cannot be reached directly.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proxy {
    /// What is spoken with it.
    pub kind: ProxyKind,
    /// Where it is: an address, or a name that is found like a server's.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// A file with one line `user:password`, where it asks for one.
    pub credentials: Option<PathBuf>,
}

/// What is spoken with a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyKind {
    /// SOCKS version 5 (RFC 1928), names resolved at its end.
    Socks5,
    /// HTTP CONNECT (RFC 9110 9.3.6).
    Connect,
}

impl Server {
    /// A server with nothing said beside its URL.
    #[must_use]
    pub const fn new(url: Address) -> Self {
        Self {
            url,
            addresses: Vec::new(),
            tls_name: None,
            ca: None,
            pins: Vec::new(),
            method: Method::Post,
            weight: 1,
            source: None,
            proxy: None,
            ecs: SubnetRule::Strip,
        }
    }
}

/// Who of a pool is asked first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// The quicker of two drawn at random, always exploring.
    #[default]
    Adaptive,
    /// In the order written.
    Ordered,
    /// Each in turn.
    RoundRobin,
    /// At random by weight.
    Weighted,
    /// Two at once, the first answer wins.
    Race,
}

/// A pool of servers, taken as equivalent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// Who is asked.
    pub servers: Vec<Server>,
    /// Asked only while none of `servers` answers.
    pub fallback: Vec<Server>,
    /// Who is asked first.
    pub strategy: Strategy,
    /// Plain servers by address that find servers given by name; none: the system's.
    pub bootstrap: Vec<Server>,
    /// All attempts together. Default 4 s.
    pub timeout: Duration,
    /// One attempt at one server. Default 1.5 s.
    pub attempt_timeout: Duration,
    /// Extra questions that hedging may cost, per thousand; None: no hedging. Default 50.
    pub hedge: Option<u16>,
}

impl PoolSettings {
    /// A pool of `servers` with the defaults of the configuration.
    #[must_use]
    pub const fn new(servers: Vec<Server>) -> Self {
        Self {
            servers,
            fallback: Vec::new(),
            strategy: Strategy::Adaptive,
            bootstrap: Vec::new(),
            timeout: Duration::from_secs(4),
            attempt_timeout: Duration::from_millis(1500),
            hedge: Some(50),
        }
    }
}

/// A pool under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPool {
    /// The name, for people and for the route's fingerprint. A pool that stands in a forward is called after its place, like
    /// `forward[0]`.
    pub name: Box<str>,
    /// The pool.
    pub pool: PoolSettings,
}

/// Domains whose questions go elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The domains, as wire names in lower case; the longest match over all forwards wins.
    pub domains: Vec<Box<[u8]>>,
    /// The index of the pool among [`Settings::pools`].
    pub pool: usize,
    /// Is the default pool asked when that one does not answer?
    pub fallthrough: bool,
}

/// How plain servers are asked over UDP, all of them together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagrams {
    /// Are they shown cookies (RFC 7873)? Default true.
    pub cookies: bool,
    /// Sockets at once: each question has one. Default 1024.
    pub sockets: usize,
}

impl Datagrams {
    /// What holds unless something is said.
    pub const DEFAULT: Self = Self { cookies: true, sockets: 1024 };
}

/// The upstream side of a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where questions go that no forward matches.
    pub default: PoolSettings,
    /// The other pools.
    pub pools: Vec<NamedPool>,
    /// What goes to them.
    pub forwards: Vec<Forward>,
    /// How plain servers are asked.
    pub datagrams: Datagrams,
    /// Our own plain doors: never asked to find a server, or the gateway would wait for itself.
    pub own: Vec<SocketAddr>,
    /// Where addresses and the time are remembered over a restart; None: nowhere.
    pub state_dir: Option<PathBuf>,
    /// Wire names in lower case: while the clock has never been right, they and what is under them may be resolved in plain DNS.
    pub time_servers_plain: Vec<Box<[u8]>>,
}

impl Settings {
    /// The longest that a client waits for any pool.
    #[must_use]
    pub fn longest_timeout(&self) -> Duration {
        self.pools.iter().map(|named| named.pool.timeout).fold(self.default.timeout, Duration::max)
    }

    /// One pool and nothing else.
    #[must_use]
    pub const fn new(default: PoolSettings) -> Self {
        Self {
            default,
            pools: Vec::new(),
            forwards: Vec::new(),
            datagrams: Datagrams::DEFAULT,
            own: Vec::new(),
            state_dir: None,
            time_servers_plain: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADD: SubnetRule = SubnetRule::Add { v4: 16, v6: 48 };

    fn telling(address: &str, length: u8, basis: Basis) -> Telling {
        Telling { subnet: Subnet::of(address.parse().unwrap()).within(length), basis }
    }

    #[test]
    fn ecs_16_each_rule_tells_no_more_than_it_says() {
        let fixed = Subnet::of([203, 0, 113, 0].into()).within(24);
        let [client, address] = [Basis::Client, Basis::Address].map(|basis| Some(telling("198.51.100.0", 24, basis)));
        let refused = Some(telling("0.0.0.0", 0, Basis::Nobody));
        let bits = |told: Option<Telling>| told.map(|told| told.subnet);
        let cut = client.map(|told| told.subnet.within(16));
        let nothing = Some(Subnet::NOTHING);
        for (rule, expected) in [
            (SubnetRule::Strip, [None; 4]),
            (SubnetRule::OptOut, [nothing; 4]),
            (SubnetRule::Forward, [None, bits(client), None, nothing]),
            (ADD, [None, cut, cut, nothing]),
            (SubnetRule::Fixed(fixed), [Some(fixed), Some(fixed), Some(fixed), nothing]),
        ] {
            assert_eq!([None, client, address, refused].map(|most| bits(rule.told(most))), expected, "{rule:?}");
        }
        let v6 = Some(telling("2001:db8:1:2::", 56, Basis::Address));
        assert_eq!(bits(ADD.told(v6)), v6.map(|told| told.subnet.within(48)));
    }

    #[test]
    fn of_two_rules_what_at_most_is_told_does_not_depend_on_their_order() {
        use SubnetRule::{Add, Forward, OptOut, Strip};
        let longest = Add { v4: 24, v6: 56 };
        for (one, other, both) in [
            (Strip, OptOut, Strip),
            (OptOut, Forward, Forward),
            (Strip, ADD, ADD),
            (Forward, ADD, longest),
            (ADD, Add { v4: 20, v6: 40 }, Add { v4: 20, v6: 48 }),
        ] {
            assert_eq!((one.or(other), other.or(one)), (both, both));
        }
    }
}
