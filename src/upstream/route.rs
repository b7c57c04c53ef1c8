//! Which pool a question goes to: the forward with the longest matching domain, else the default pool.
//!
//! What a forward's servers do not answer stays unanswered unless the forward says `fallthrough`: the names of a company are
//! nobody else's business. An answer that a name does not exist is an answer.

use std::hash::Hasher as _;
use std::sync::Arc;
use std::time::Duration;

use siphasher::sip::SipHasher13;
use tokio::time::Instant;

use super::commons::Commons;
use super::former::Former;
use super::server::{BuildError, Upstream};
use super::settings::{Forward, NamedPool, SubnetRule};
use super::time_names::TimeNames;
use super::{Ask, Ended, Exchange, Exchanging, Pool, Route, Settings};
use crate::trail::UpstreamId;
use crate::wire::Suffixes;

/// All pools of a gateway and the way to each.
#[derive(Debug)]
pub struct Routes {
    default: Gathered,
    /// Of the default pool alone.
    fingerprint: u64,
    /// What at most servers of the default pool are told of clients' networks.
    subnets: SubnetRule,
    pools: Vec<Gathered>,
    domains: Domains,
    ways: Vec<Way>,
    time_names: TimeNames,
}

/// A pool and what is to be known of it from outside.
#[derive(Debug)]
struct Gathered {
    name: Box<str>,
    pool: Pool,
    timeout: Duration,
    attempt_timeout: Duration,
}

/// One forward.
#[derive(Debug)]
struct Way {
    pool: usize,
    fallthrough: bool,
    fingerprint: u64,
    subnets: SubnetRule,
}

/// The pool of `[upstream]`, by its name for people; no other has it.
pub const DEFAULT: &str = "default";

impl Routes {
    /// Makes the servers of `settings` ready; nothing is sent yet.
    ///
    /// # Errors
    /// The server, and file, at fault.
    pub fn new(settings: &Settings, commons: &Commons) -> Result<Self, BuildError> {
        let routes = Self::succeeding(settings, commons, (&Former::default(), None))?;
        routes.take_effect();
        Ok(routes)
    }

    /// What they become by other settings: a server that is the same goes on with its connections, its health and its tallies. Nothing
    /// changes before [`Routes::take_effect`].
    ///
    /// # Errors
    /// As [`Routes::new`].
    pub fn renewed(&self, settings: &Settings, commons: &Commons) -> Result<Self, BuildError> {
        Self::succeeding(settings, commons, (&Former::of(self.pools()), Some(&self.time_names)))
    }

    /// To be called once they are asked.
    pub fn take_effect(&self) {
        self.pools().for_each(|(_, pool)| pool.take_effect());
    }

    fn succeeding(
        settings: &Settings,
        commons: &Commons,
        (former, time_names): (&Former, Option<&TimeNames>),
    ) -> Result<Self, BuildError> {
        let gather = |name: &str, settings: &super::PoolSettings| {
            let pool = Pool::succeeding(settings, commons, (name, former))?;
            let (timeout, attempt_timeout) = (settings.timeout, settings.attempt_timeout);
            Ok(Gathered { name: name.into(), pool, timeout, attempt_timeout })
        };
        let default = gather(DEFAULT, &settings.default)?;
        let named = settings.pools.iter().map(|NamedPool { name, pool }| gather(name, pool));
        let pools = named.collect::<Result<Vec<_>, _>>()?;
        let way = |&Forward { pool, fallthrough, .. }: &Forward| {
            let asked = || pools.get(pool).into_iter().chain(fallthrough.then_some(&default));
            Way { pool, fallthrough, fingerprint: fingerprint(asked()), subnets: subnets(asked()) }
        };
        let ways = settings.forwards.iter().map(way).collect();
        let (fingerprint, subnets) = (fingerprint([&default]), subnets([&default]));
        let time_names = match time_names.filter(|known| known.is_of(settings)) {
            Some(known) => known.clone(),
            None => TimeNames::new(settings, commons)?,
        };
        Ok(Self { domains: Domains::new(&settings.forwards), fingerprint, subnets, ways, default, pools, time_names })
    }

    /// The names of time servers, which have a way out of their own.
    #[must_use]
    pub const fn time_names(&self) -> &TimeNames {
        &self.time_names
    }

    /// Every server of every pool.
    pub fn servers(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.pools().flat_map(|(_, pool)| pool.servers())
    }

    /// Every pool by its name, the default one first.
    pub fn pools(&self) -> impl Iterator<Item = (&str, &Pool)> {
        std::iter::once(&self.default).chain(&self.pools).map(|gathered| (&*gathered.name, &gathered.pool))
    }

    /// The greatest id of a server; below it there may be gaps, of servers that are no longer asked.
    #[must_use]
    pub fn last_id(&self) -> Option<u16> {
        self.servers().map(|server| server.id().0).chain(self.time_names.last_id()).max()
    }

    /// The servers of the default pool.
    pub fn default_servers(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.default.pool.servers()
    }

    /// The name of the pool that `question` goes to first.
    #[must_use]
    pub fn pool_name(&self, question: &[u8]) -> &str {
        self.find(question).map_or(&*self.default.name, |(_, gathered)| &*gathered.name)
    }

    /// Does any server of the default pool answer one cheap question by `deadline`?
    pub async fn is_alive(&self, deadline: Instant) -> bool {
        self.default.pool.is_alive(deadline).await
    }

    fn find(&self, question: &[u8]) -> Option<(&Way, &Gathered)> {
        let way = self.ways.get(self.domains.find(question)?.0)?;
        Some((way, self.pools.get(way.pool)?))
    }
}

impl Exchange for Routes {
    fn exchange(&self, ask: Arc<Ask>, deadline: Instant) -> Exchanging {
        match self.find(&ask.question) {
            // A name that the operator forwards stays with its forward, be it a time server's.
            None => self.time_names.around(ask, deadline, |ask, deadline| self.default.pool.exchange(ask, deadline)),
            Some((Way { fallthrough: false, .. }, first)) => first.pool.exchange(ask, deadline),
            // The first opinion was an answer: there is nothing to fall through for.
            Some((Way { fallthrough: true, .. }, first)) if ask.avoid.is_some() => first.pool.exchange(ask, deadline),
            Some((Way { fallthrough: true, .. }, first)) => fall_through(first, &self.default, ask, deadline),
        }
    }

    fn route(&self, question: &[u8]) -> Route {
        let found = self.domains.find(question);
        match found.and_then(|(place, domain)| Some((self.ways.get(place)?, domain))) {
            Some((&Way { fingerprint, subnets, .. }, domain)) => {
                Route { fingerprint, is_forwarded: domain != Domain::Root, subnets }
            }
            None => Route { fingerprint: self.fingerprint, is_forwarded: false, subnets: self.subnets },
        }
    }

    fn is_down(&self, question: &[u8]) -> bool {
        match self.find(question) {
            None => self.default.pool.is_down(question),
            Some((Way { fallthrough, .. }, first)) => {
                first.pool.is_down(question) && (!fallthrough || self.default.pool.is_down(question))
            }
        }
    }

    fn comebacks(&self, question: &[u8]) -> u32 {
        let own = self.default.pool.comebacks(question);
        match self.find(question) {
            None => own,
            Some((Way { fallthrough: false, .. }, first)) => first.pool.comebacks(question),
            Some((Way { fallthrough: true, .. }, first)) => first.pool.comebacks(question).wrapping_add(own),
        }
    }

    fn name(&self, upstream: UpstreamId) -> Option<&str> {
        let server = self.servers().find(|server| server.id() == upstream).map(|server| server.url());
        server.or_else(|| self.time_names.server(upstream))
    }
}

/// Asks `first`, and `second` where no server of it answers, within the time that `first` alone would have. One attempt at
/// `second`, or half of the time if that is less, is left over for it.
fn fall_through(first: &Gathered, second: &Gathered, ask: Arc<Ask>, deadline: Instant) -> Exchanging {
    let reserve = second.attempt_timeout;
    let (timeout, first, second) = (first.timeout, first.pool.clone(), second.pool.clone());
    Box::pin(async move {
        let now = Instant::now();
        let until = if ask.patient { deadline } else { deadline.min(now + timeout) };
        let half = until.saturating_duration_since(now) / 2;
        let Ended { result, mut attempts } = first.exchange(Arc::clone(&ask), until - reserve.min(half)).await;
        if result.is_ok() {
            return Ended { result, attempts };
        }
        let ended = second.exchange(ask, until).await;
        attempts.follow(&ended.attempts);
        Ended { result: ended.result, attempts }
    })
}

/// The same for the same pools in every process.
fn fingerprint<'a>(pools: impl IntoIterator<Item = &'a Gathered>) -> u64 {
    let mut hasher = SipHasher13::new();
    for gathered in pools {
        hasher.write(gathered.name.as_bytes());
        hasher.write_u64(gathered.pool.route(&[]).fingerprint);
    }
    hasher.finish()
}

/// What at most servers of `pools` are told of clients' networks.
fn subnets<'a>(pools: impl IntoIterator<Item = &'a Gathered>) -> SubnetRule {
    pools.into_iter().fold(SubnetRule::Strip, |rule, gathered| rule.or(gathered.pool.route(&[]).subnets))
}

/// How much of the tree a forward takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Domain {
    /// All that no other forward takes.
    Root,
    /// A part.
    Zone,
}

/// The domains of all forwards, and which forward each belongs to.
#[derive(Debug, Default)]
struct Domains(Suffixes<usize>);

impl Domains {
    fn new(forwards: &[Forward]) -> Self {
        let mut domains = Suffixes::default();
        for (place, forward) in forwards.iter().enumerate() {
            for domain in &forward.domains {
                domains.insert(domain, place);
            }
        }
        Self(domains)
    }

    /// The forward with the longest domain that the QNAME of `question` is at or under, by whole labels.
    fn find(&self, question: &[u8]) -> Option<(usize, Domain)> {
        let (qname, _) = question.split_last_chunk::<4>()?;
        let (&place, length) = self.0.find(qname)?;
        Some((place, if length == 1 { Domain::Root } else { Domain::Zone }))
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::atomic::Ordering;

    use tokio::runtime::Handle;

    use super::super::address::Scheme;
    use super::super::error::Cause;
    use super::super::health::{Outcome, State};
    use super::super::settings::{Method, PoolSettings, Proxy, ProxyKind, Server};
    use super::super::testing::{ask, plain, reply, udp_server};
    use super::*;
    use crate::wire::{Header, name};

    const LONG: Duration = Duration::from_secs(10);

    fn pool(address: SocketAddr) -> PoolSettings {
        PoolSettings { timeout: LONG, attempt_timeout: LONG, ..PoolSettings::new(vec![plain("udp", address)]) }
    }

    fn nowhere(last: u8) -> PoolSettings {
        pool(SocketAddr::from(([192, 0, 2, last], 53)))
    }

    fn forward(domains: &[&str], pool: usize) -> Forward {
        let wire = |text: &&str| name::from_text(text).unwrap().to_ascii_lowercase().into();
        Forward { domains: domains.iter().map(wire).collect(), pool, fallthrough: false }
    }

    fn settings(default: PoolSettings, named: Vec<(&str, PoolSettings)>, forwards: Vec<Forward>) -> Settings {
        let pools = named.into_iter().map(|(name, pool)| NamedPool { name: name.into(), pool }).collect();
        Settings { pools, forwards, ..Settings::new(default) }
    }

    fn build(settings: &Settings) -> Routes {
        Routes::new(settings, &Commons::new(Handle::current())).unwrap()
    }

    fn question(text: &str) -> Vec<u8> {
        let mut question = name::from_text(text).unwrap();
        question.extend([0, 1, 0, 1]);
        question
    }

    fn good(query: &[u8]) -> Vec<u8> {
        reply(query, 0)
    }

    fn silent(_: &[u8]) -> Vec<u8> {
        Vec::new()
    }

    fn three() -> Settings {
        let named = vec![("corp", nowhere(2)), ("lab", nowhere(3)), ("home", nowhere(4))];
        let forwards = vec![
            forward(&["corp.example", "10.in-addr.arpa"], 0),
            forward(&["lab.corp.example", "7.10.in-addr.arpa"], 1),
            forward(&["lan"], 2),
        ];
        settings(nowhere(1), named, forwards)
    }

    #[tokio::test]
    async fn the_longest_domain_wins_by_whole_labels_in_any_letter_case() {
        let routes = build(&three());
        for (asked, pool) in [
            ("corp.example", "corp"),
            ("www.Corp.EXAMPLE", "corp"),
            ("lab.corp.example", "lab"),
            ("x.y.LAB.corp.example", "lab"),
            ("xlab.corp.example", "corp"),
            ("corp.example.org", "default"),
            ("xcorp.example", "default"),
            ("example", "default"),
            (".", "default"),
            ("lan", "home"),
            ("printer.LAN", "home"),
            ("wlan", "default"),
            ("lan.example", "default"),
            ("1.2.3.10.in-addr.arpa", "corp"),
            ("1.2.7.10.in-addr.arpa", "lab"),
            ("10.1.1.1.in-addr.arpa", "default"),
            ("110.in-addr.arpa", "default"),
        ] {
            let question = question(asked);
            assert_eq!(routes.pool_name(&question), pool, "{asked}");
            assert_eq!(routes.route(&question).is_forwarded, pool != "default", "{asked}");
        }
    }

    /// Lets the servers of `pool` fail until nobody asks them any more.
    fn bring_down(routes: &Routes, pool: &str) {
        let (_, pool) = routes.pools().find(|(name, _)| *name == pool).unwrap();
        for server in pool.servers() {
            for _ in 0..3 {
                let now = Instant::now();
                server.health().depart(now);
                let _ = server.health().land(now, Outcome::Lost(Cause::Timeout), now);
            }
        }
    }

    #[tokio::test]
    async fn a_question_has_nobody_to_go_to_when_all_servers_of_its_way_are_down_fallbacks_included() {
        let mut settings = three();
        settings.default.fallback = nowhere(9).servers;
        settings.forwards[0].fallthrough = true;
        let routes = build(&settings);
        let down = || ["www.example", "corp.example", "printer.lan"].map(|name| routes.is_down(&question(name)));
        assert_eq!(down(), [false; 3]);
        bring_down(&routes, "corp");
        bring_down(&routes, "home");
        assert_eq!(down(), [false, false, true], "corp falls through to the default pool");
        bring_down(&routes, DEFAULT);
        assert_eq!(down(), [true; 3]);
        let (_, default) = routes.pools().next().unwrap();
        let fallback = default.servers().last().unwrap();
        let _ = fallback.health().probed(Ok(()), Instant::now());
        assert_eq!(down(), [false, false, true]);
        let back = || ["www.example", "corp.example", "printer.lan"].map(|name| routes.comebacks(&question(name)));
        assert_eq!(back(), [0; 3], "a probe is no question");
        let _ = fallback.health().land(Instant::now(), Outcome::Answered, Instant::now());
        assert_eq!(back(), [1, 1, 0]);
        let now = Instant::now();
        (0..8).for_each(|_| fallback.health().depart(now));
        let _ = fallback.health().silent(now + Duration::from_secs(10));
        assert_eq!(
            (fallback.health().state(), down()),
            (State::Suspect, [false, false, true]),
            "who is silent may yet answer"
        );
    }

    #[tokio::test]
    async fn a_label_with_a_dot_in_it_is_no_boundary_and_no_octets_are_too_strange() {
        let routes = build(&three());
        assert_eq!(routes.pool_name(b"\x08host.lan\0\0\x01\0\x01"), "default");
        assert_eq!(routes.pool_name(b"\x0ccorp.example\0\0\x01\0\x01"), "default");
        assert_eq!(routes.pool_name(b"\x01\xff\x03LaN\0\0\x01\0\x01"), "home");
        let long = [b"\x3f".as_slice(), &[b'a'; 63]].concat().repeat(3);
        assert_eq!(routes.pool_name(&[&long[..], &question("lan")].concat()), "home");
        for strange in [&b""[..], b"\0", b"\x03", b"\x3flan\0\0\x01\0\x01", b"\xc0\x0c\0\x01\0\x01", &[1; 300]] {
            assert_eq!(routes.pool_name(strange), "default", "{strange:?}");
            assert!(!routes.route(strange).is_forwarded);
        }
    }

    #[tokio::test]
    async fn a_forward_of_the_root_takes_what_no_other_takes_and_makes_no_name_known() {
        let mut settings = three();
        settings.forwards.push(forward(&["."], 0));
        let routes = build(&settings);
        for (asked, pool, known) in [
            ("www.example.org", "corp", false),
            (".", "corp", false),
            ("a.lan", "home", true),
            ("a.corp.example", "corp", true),
        ] {
            let question = question(asked);
            assert_eq!((routes.pool_name(&question), routes.route(&question).is_forwarded), (pool, known), "{asked}");
        }
    }

    #[tokio::test]
    async fn names_of_the_same_forward_share_a_fingerprint_and_others_do_not() {
        let routes = build(&three());
        let of = |asked: &str| routes.route(&question(asked)).fingerprint;
        assert_eq!(of("a.corp.example"), of("1.10.in-addr.arpa"));
        let all = [of("a.corp.example"), of("a.lab.corp.example"), of("a.lan"), of("a.example")];
        let apart: std::collections::HashSet<u64> = all.into_iter().collect();
        assert_eq!(apart.len(), all.len());
        let again = build(&three());
        assert_eq!(again.route(&question("a.corp.example")).fingerprint, all[0], "the same in every process");
    }

    /// What the fingerprint of `a.corp.example` is after `change`.
    fn changed(change: impl FnOnce(&mut Settings)) -> u64 {
        let mut settings = three();
        // Over TCP, as datagrams cannot pass a proxy.
        settings.pools[0].pool.servers[0].url.scheme = Scheme::Tcp;
        change(&mut settings);
        build(&settings).route(&question("a.corp.example")).fingerprint
    }

    #[tokio::test]
    async fn whatever_may_change_answers_changes_the_fingerprint() {
        fn server(settings: &mut Settings) -> &mut Server {
            &mut settings.pools[0].pool.servers[0]
        }
        let before = changed(|_| {});
        let proxy = Proxy {
            kind: ProxyKind::Socks5,
            host: plain("udp", ([192, 0, 2, 9], 1).into()).url.host,
            port: 1,
            credentials: None,
        };
        let all = [
            changed(|all| all.forwards[0].pool = 1),
            changed(|all| all.pools[0].name = "other".into()),
            changed(|all| server(all).url.port = 54),
            changed(|all| server(all).addresses.push([192, 0, 2, 9].into())),
            changed(|all| server(all).tls_name = Some("dns.example".into())),
            changed(|all| server(all).pins.push([1; 32])),
            changed(|all| server(all).method = Method::Get),
            changed(|all| server(all).source = Some([192, 0, 2, 9].into())),
            changed(|all| server(all).url.scheme = Scheme::Tls),
            changed(|all| server(all).ecs = SubnetRule::OptOut),
            changed(|all| server(all).proxy = Some(proxy)),
            changed(|all| all.pools[0].pool.fallback = nowhere(9).servers),
            changed(|all| all.forwards[0].fallthrough = true),
            changed(|all| {
                all.forwards[0].fallthrough = true;
                all.default.servers[0].url.port = 54;
            }),
        ];
        let apart: std::collections::HashSet<u64> = all.into_iter().chain([before]).collect();
        assert_eq!(apart.len(), all.len() + 1);
        for same in [
            changed(|all| server(all).weight = 7),
            changed(|all| all.pools[0].pool.strategy = super::super::settings::Strategy::Race),
            changed(|all| all.default.servers[0].url.port = 54),
            changed(|all| all.forwards[2].fallthrough = true),
        ] {
            assert_eq!(same, before);
        }
    }

    #[tokio::test]
    async fn a_route_knows_what_at_most_its_servers_are_told_of_clients() {
        let mut settings = three();
        settings.default.fallback = nowhere(9).servers;
        settings.default.fallback[0].ecs = SubnetRule::Forward;
        settings.pools[0].pool.servers[0].ecs = SubnetRule::Add { v4: 16, v6: 48 };
        let of = |settings: &Settings| {
            let routes = build(settings);
            ["a.example", "a.corp.example", "a.lan"].map(|asked| routes.route(&question(asked)).subnets)
        };
        let add = settings.pools[0].pool.servers[0].ecs;
        assert_eq!(of(&settings), [SubnetRule::Forward, add, SubnetRule::Strip]);
        settings.forwards[0].fallthrough = true;
        assert_eq!(of(&settings)[1], SubnetRule::Add { v4: 24, v6: 56 }, "the default pool hears of it too");
    }

    #[tokio::test]
    async fn ids_are_unique_over_pools_and_every_server_has_its_name() {
        let routes = build(&three());
        let ids: Vec<u16> = routes.servers().map(|server| server.id().0).collect();
        assert_eq!(ids, [0, 1, 2, 3]);
        assert_eq!(routes.default_servers().count(), 1);
        assert_eq!(routes.name(UpstreamId(0)), Some("udp://192.0.2.1"));
        assert_eq!(routes.name(UpstreamId(3)), Some("udp://192.0.2.4"));
        assert_eq!(routes.name(UpstreamId(4)), None);
        let names: Vec<&str> = routes.pools().map(|(name, _)| name).collect();
        assert_eq!(names, ["default", "corp", "lab", "home"]);
    }

    /// Asks for a.corp.example where `corp` answers by `respond`; how that ended, and how often the default server was asked.
    async fn fallen(respond: fn(&[u8]) -> Vec<u8>, fallthrough: bool) -> (Ended, u32) {
        let ((default, heard), (corp, _)) = (udp_server(good).await, udp_server(respond).await);
        let corp = PoolSettings { timeout: Duration::from_millis(600), ..pool(corp) };
        let mut settings = settings(pool(default), vec![("corp", corp)], vec![forward(&["corp.example"], 0)]);
        settings.forwards[0].fallthrough = fallthrough;
        let ended = build(&settings).exchange(ask("a.corp.example"), Instant::now() + LONG).await;
        (ended, heard.load(Ordering::SeqCst))
    }

    #[tokio::test]
    async fn a_forward_that_fails_falls_through_only_where_it_was_told_to() {
        let (ended, heard) = fallen(silent, false).await;
        assert!(ended.result.is_err());
        assert_eq!(heard, 0, "the default pool learnt a name that is not its business");
        let (ended, heard) = fallen(silent, true).await;
        assert_eq!((ended.result.unwrap().upstream, heard), (UpstreamId(0), 1));
        let ids: Vec<u16> = ended.attempts.kept().iter().map(|attempt| attempt.upstream.0).collect();
        assert_eq!((ids.first(), ids.last()), (Some(&1), Some(&0)));
    }

    #[tokio::test]
    async fn a_second_opinion_does_not_fall_through() {
        let ((default, heard), (corp, _)) = (udp_server(good).await, udp_server(denied).await);
        let mut settings = settings(pool(default), vec![("corp", pool(corp))], vec![forward(&["corp.example"], 0)]);
        settings.forwards[0].fallthrough = true;
        let elsewhere = Ask { avoid: Some(UpstreamId(1)), ..(*ask("a.corp.example")).clone() };
        let ended = build(&settings).exchange(Arc::new(elsewhere), Instant::now() + LONG).await;
        assert!(ended.result.is_err());
        assert_eq!(heard.load(Ordering::SeqCst), 0, "the default pool learnt a name that its own servers had answered");
    }

    #[tokio::test]
    async fn a_denial_and_a_failure_that_a_server_states_are_answers() {
        for (respond, rcode) in [(denied as fn(&[u8]) -> Vec<u8>, 3), (failed, 2), (refused, 5)] {
            let (ended, heard) = fallen(respond, true).await;
            let message = ended.result.unwrap().message;
            assert_eq!((Header::parse(&message).unwrap().flags.rcode(), heard), (rcode, 0));
        }
    }

    fn denied(query: &[u8]) -> Vec<u8> {
        reply(query, 3)
    }

    fn failed(query: &[u8]) -> Vec<u8> {
        reply(query, 2)
    }

    fn refused(query: &[u8]) -> Vec<u8> {
        reply(query, 5)
    }

    #[tokio::test]
    async fn renewed_routes_keep_the_servers_that_stay_and_number_new_ones_on() {
        let at = |last: u8| plain("udp", ([192, 0, 2, last], 53).into());
        let of = |servers: Vec<Server>| Settings::new(PoolSettings::new(servers));
        let settings = of(vec![at(1), at(2)]);
        let commons = Commons::of(&settings, tokio::runtime::Handle::current()).unwrap();
        let old = Routes::new(&settings, &commons).unwrap();
        let next = of(vec![at(3), at(2)]);
        let new = old.renewed(&next, &commons.renewed(&next).unwrap()).unwrap();
        let (before, after): (Vec<_>, Vec<_>) = (old.servers().collect(), new.servers().collect());
        assert!(Arc::ptr_eq(before[1], after[1]), "the same server is the same object");
        assert_eq!(after[0].id(), UpstreamId(2), "what answers were kept from is not mistaken for another");
        assert_eq!(new.name(UpstreamId(0)), None);
        let slower = PoolSettings { attempt_timeout: Duration::from_millis(7), ..next.default };
        let slower = old.renewed(&Settings::new(slower.clone()), &commons).unwrap();
        assert!(slower.servers().all(|server| !before.iter().any(|known| Arc::ptr_eq(known, server))));
    }
}
