//! What one question is looked up, joined and remembered under.

use std::sync::Arc;

use super::options::Sent;
use super::shared::Shared;
use super::walk::Walk;
use crate::cache::{Bits, Cache, Key, Reach};
use crate::upstream::ask::{Passed, Telling};
use crate::upstream::{Ask, Route};
use crate::wire::registry::rtype;
use crate::wire::{Flags, Subnet};

/// There are no views yet: everyone is in this one.
const VIEW: u16 = 0;

/// Keeps what is known of RD=0 questions apart. A server that will not answer without recursion has said nothing of the same
/// question with it: were the two one, anybody could make names fail for everybody (GEN-26).
pub const NOT_RECURSIVE: u64 = 0x5244_3d30_5244_3d30;

/// Where the answer to `question` is kept for who wants recursion and neither proofs nor CD.
pub fn plain(shared: &Shared, question: &[u8]) -> Key {
    Key::new(question, Bits::default(), VIEW, shared.exchange.route(question).fingerprint)
}

/// The keys of one question.
#[derive(Clone, Debug)]
pub struct Keys {
    answer: Key,
    /// What servers are told of the client's subnet at most.
    sent: Option<Subnet>,
    /// Options of the client that pass.
    options: Option<Sent>,
    recursive: bool,
    dnssec_ok: bool,
}

impl Keys {
    /// The keys of the question of `walk`, which takes this route and has these options that pass (EDN-14).
    #[must_use]
    pub fn new(route: Route, walk: &Walk<'_>, options: Option<Sent>) -> Self {
        let bits = Bits { dnssec_ok: walk.dnssec_ok(), checking_disabled: walk.asks(Flags::CD) };
        let telling = (walk.subnet_sent(), options);
        Self::made(walk.question, bits, route, telling, walk.asks(Flags::RD))
    }

    /// The keys of a question of our own, asked in a client's stead.
    #[must_use]
    pub fn of(shared: &Shared, ask: &Ask) -> Self {
        let bits = Bits { dnssec_ok: ask.dnssec_ok, checking_disabled: ask.checking_disabled };
        let route = shared.exchange.route(&ask.question);
        let options = ask.passed.as_ref().map(|passed| shared.passing.marked(Arc::clone(passed)));
        Self::made(&ask.question, bits, route, (ask.subnet, options), ask.recursion_desired)
    }

    fn made(
        question: &[u8],
        bits: Bits,
        route: Route,
        (sent, options): (Option<Telling>, Option<Sent>),
        recursive: bool,
    ) -> Self {
        let mut answer = Key::new(question, bits, VIEW, route.fingerprint);
        let sent = sent.map(|sent| sent.subnet);
        if let Some(sent) = sent {
            // What is said to those who want nothing told of them is kept apart from what is said of all networks (ECS-09).
            answer = answer.reaching(if sent.length() > 0 { Reach::Everyone } else { Reach::Only(sent) });
        }
        Self { answer, sent, options, recursive, dnssec_ok: bits.dnssec_ok }
    }

    /// Options of the client that pass. What is answered to them is not looked up, nor kept.
    #[must_use]
    pub fn passed(&self) -> Option<&Arc<Passed>> {
        self.options.as_ref().map(|sent| &sent.passed)
    }

    /// Where its answer is kept: what was learned with recursion answers both.
    #[must_use]
    pub const fn answer(&self) -> &Key {
        &self.answer
    }

    /// Where an answer of this very question may be kept: one given without recursion may lack what recursion brings, and one to
    /// options that passed is for those who sent them.
    #[must_use]
    pub const fn insert(&self) -> Option<&Key> {
        if self.recursive && self.options.is_none() { Some(&self.answer) } else { None }
    }

    /// Where answers may be kept that are for the client's network and not for everyone: the longest prefix first. None for a client
    /// that has told no subnet.
    pub fn near<'a>(&'a self, cache: &'a Cache) -> impl Iterator<Item = Key> + 'a {
        self.subnet().into_iter().flat_map(|subnet| cache.near(&self.answer, subnet))
    }

    /// Where an answer is kept that is for `scope` bits of the subnet told to its server (RFC 7871 7.3.1): one for more bits than that
    /// is for those who tell just as much (ECS-08).
    #[must_use]
    pub fn place(&self, scope: u8) -> Key {
        match self.subnet() {
            Some(subnet) if scope > subnet.length() => self.answer.reaching(Reach::Only(subnet)),
            Some(subnet) if scope > 0 => self.answer.reaching(Reach::Within(subnet.within(scope))),
            Some(_) | None => self.answer,
        }
    }

    /// What servers are told of the client's subnet, some bits at least.
    fn subnet(&self) -> Option<Subnet> {
        self.sent.filter(|subnet| subnet.length() > 0)
    }

    /// Where it is kept that the name does not exist, whatever its type (NEG-03). Made when it is wanted: a hit never is.
    #[must_use]
    pub fn denial(&self) -> Key {
        self.answer.of_all_types()
    }

    /// May what is learned from this very question be kept for all types? What was asked for proofs by type has them for a client
    /// that never asked for any (SEC-04).
    #[must_use]
    pub fn speaks_for_all_types(&self) -> bool {
        let proofs =
            matches!(self.answer.rtype(), rtype::RRSIG | rtype::NSEC | rtype::NSEC3 | rtype::DNSKEY | rtype::ANY);
        self.dnssec_ok || !proofs
    }

    /// Where its failure is remembered, and what it is joined by.
    ///
    /// DO and CD are part of a key, so a failure to validate is none for those who do not want validation (NEG-17). AD is not: it
    /// is always asked for. Made when it is wanted: a hit never is.
    #[must_use]
    pub fn own(&self) -> Key {
        let own = if self.recursive { self.answer } else { self.answer.apart(NOT_RECURSIVE) };
        let own = self.options.as_ref().map_or(own, |options| own.apart(options.mark));
        self.sent.map_or(own, |sent| own.reaching(Reach::Only(sent)))
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Handle;

    use super::*;
    use crate::cache;
    use crate::clock::Clock;
    use crate::guard::{self, Guard};
    use crate::peer::Transport;
    use crate::pipeline::tests::rig;
    use crate::upstream::commons::Commons;
    use crate::upstream::settings::{Forward, NamedPool};
    use crate::upstream::{PoolSettings, Routes, Server, Settings};
    use crate::wire::Header;

    /// The keys of `name` A where lan is forwarded to `server`.
    fn keys(name: &str, server: &str) -> Keys {
        let pool = |url: &str| PoolSettings::new(vec![Server::new(url.parse().unwrap())]);
        let settings = Settings {
            pools: vec![NamedPool { name: "home".into(), pool: pool(server) }],
            forwards: vec![Forward { domains: vec![rig::wire("lan").into()], pool: 0, fallthrough: false }],
            ..Settings::new(pool("udp://192.0.2.1"))
        };
        let routes = Routes::new(&settings, &Commons::new(Handle::current())).unwrap();
        let guard = Guard::new(guard::Settings {
            allow: Vec::new(),
            connections: 1,
            connections_per_client: 1,
            queries_per_second: 0,
            ..guard::Settings::default()
        });
        let cache = cache::Settings::default();
        let shared = Shared::new(rig::settings(), cache, guard, std::sync::Arc::new(routes), Clock::start());
        let question = [rig::wire(name), vec![0, 1, 0, 1]].concat();
        Keys::new(
            shared.exchange.route(&question),
            &Walk { question: &question, ..Walk::bare(Header::default(), None, Transport::Udp) },
            None,
        )
    }

    #[tokio::test]
    async fn what_another_server_said_of_a_forwarded_name_is_not_found_after_the_forward_has_moved() {
        let (before, after) = (keys("host.lan", "udp://192.0.2.2"), keys("host.lan", "udp://192.0.2.3"));
        assert_ne!(before.answer(), after.answer());
        assert_ne!(before.own(), after.own(), "nor its failure");
        assert_eq!(before.answer(), keys("HOST.lan", "udp://192.0.2.2").answer());
        let elsewhere = keys("host.example", "udp://192.0.2.2");
        assert_eq!(elsewhere.answer(), keys("host.example", "udp://192.0.2.3").answer(), "other names lose nothing");
    }
}
