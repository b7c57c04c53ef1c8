//! Several servers as one: chosen by strategy, asked within one deadline, the fallback ones only while nobody else answers.

use std::hash::Hasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use siphasher::sip::SipHasher13;
use tokio::time::Instant;

use super::budget::Budget;
use super::commons::Commons;
use super::former::{Former, Identity};
use super::health::State;
use super::kept::Home;
use super::probe;
use super::round::Round;
use super::server::{BuildError, BuildFault, Upstream};
use super::settings::{PoolSettings, Server, Strategy, SubnetRule};
use super::{Ask, Ended, Exchange, Exchanging, Route};
use crate::trail::UpstreamId;

/// A pool of servers.
#[derive(Clone, Debug)]
pub struct Pool {
    roster: Arc<Roster>,
}

/// The servers of a pool and what they share.
#[derive(Debug)]
pub struct Roster {
    /// The pool's servers, then the fallback ones.
    pub all: Vec<Arc<Upstream>>,
    /// How many are the pool's.
    primary: usize,
    /// Who is asked first.
    pub strategy: Strategy,
    /// Questions that hedging may still cost; None: no hedging.
    pub hedges: Option<Budget>,
    /// Questions that may still be taken away from servers that have fallen silent.
    pub rescues: Budget,
    turns: AtomicUsize,
    timeout: Duration,
    /// One attempt at one server.
    pub attempt_timeout: Duration,
    fingerprint: u64,
    /// What at most any of them is told of clients' networks.
    subnets: SubnetRule,
}

/// Hedges that a quiet time saves up.
const HEDGES: u16 = 10;
/// Rescues that a quiet time saves up, and how fast they come back: a server dies with what it owes, not with what it was ever asked.
const RESCUES: (u16, u16) = (250, 1024);

impl Pool {
    /// Makes the servers of `settings` ready; their connections will live on the home runtime. Nothing is sent yet.
    ///
    /// # Errors
    /// The server, and file, at fault.
    pub fn new(settings: &PoolSettings, commons: &Commons) -> Result<Self, BuildError> {
        let pool = Self::succeeding(settings, commons, ("", &Former::default()))?;
        pool.take_effect();
        Ok(pool)
    }

    /// The same under a name, with the servers of `former` that are its own. To those nothing happens before
    /// [`Pool::take_effect`].
    ///
    /// # Errors
    /// As [`Pool::new`].
    pub fn succeeding(
        settings: &PoolSettings,
        commons: &Commons,
        (name, former): (&str, &Former),
    ) -> Result<Self, BuildError> {
        let own = commons.own().to_vec();
        let commons = &commons.with_bootstrap(&settings.bootstrap)?;
        let home = Home::new(commons, settings.attempt_timeout);
        let enlist = |server: &Server| {
            let identity = Identity::of(server, settings, &own, commons.cookies);
            if let Some(kept) = former.take(name, &identity) {
                return Ok(kept);
            }
            let id = commons.next_id().ok_or(BuildFault::TooMany);
            let id = id.map_err(|fault| BuildError { url: server.url.to_string(), fault })?;
            Upstream::new(server, id, &home).map(|made| Arc::new(made.known_by(identity)))
        };
        let all = settings.servers.iter().chain(&settings.fallback).map(enlist).collect::<Result<Vec<_>, _>>()?;
        let subnets = all.iter().fold(SubnetRule::Strip, |rule, server| rule.or(server.ecs()));
        let roster = Roster {
            all,
            primary: settings.servers.len(),
            strategy: settings.strategy,
            hedges: settings.hedge.map(|per_mille| Budget::new(per_mille, HEDGES)),
            rescues: Budget::new(RESCUES.0, RESCUES.1),
            turns: AtomicUsize::new(0),
            timeout: settings.timeout,
            attempt_timeout: settings.attempt_timeout,
            fingerprint: fingerprint(settings),
            subnets,
        };
        Ok(Self { roster: Arc::new(roster) })
    }

    /// To be called once it is asked: its servers know from now on whose they are.
    pub fn take_effect(&self) {
        let all = &self.roster.all;
        for server in all {
            server.adopt(all.len() > 1);
        }
    }

    /// Every server, in the order of the settings.
    pub fn servers(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.roster.all.iter()
    }

    /// Does any server answer one cheap question (`. NS`) by `deadline`?
    pub async fn is_alive(&self, deadline: Instant) -> bool {
        self.exchange(probe::question(), deadline).await.result.is_ok()
    }
}

/// The same for the same servers in every process: two settings that differ here may answer differently.
fn fingerprint(settings: &PoolSettings) -> u64 {
    let mut hasher = SipHasher13::new();
    let mut add = |group: &str, server: &Server| {
        // The weight says how often a server is asked, not what it says.
        let Server { url, addresses, tls_name, ca, pins, method, weight: _, source, proxy, ecs } = server;
        let place = format!("{group} {url} {addresses:?} {tls_name:?}");
        hasher.write(format!("{place} {ca:?} {pins:?} {method:?} {source:?} {proxy:?} {ecs:?}\n").as_bytes());
    };
    settings.servers.iter().for_each(|server| add("server", server));
    settings.fallback.iter().for_each(|server| add("fallback", server));
    settings.bootstrap.iter().for_each(|server| add("bootstrap", server));
    hasher.finish()
}

impl Exchange for Pool {
    fn exchange(&self, ask: Arc<Ask>, deadline: Instant) -> Exchanging {
        let roster = Arc::clone(&self.roster);
        Box::pin(async move {
            let until = if ask.patient { deadline } else { deadline.min(Instant::now() + roster.timeout) };
            let (result, attempts) = Round::new(&roster, ask, until).run().await;
            Ended { result, attempts }
        })
    }

    fn route(&self, _: &[u8]) -> Route {
        Route { fingerprint: self.roster.fingerprint, is_forwarded: false, subnets: self.roster.subnets }
    }

    fn is_down(&self, _: &[u8]) -> bool {
        self.roster.all.iter().all(|server| server.health().state() == State::Open)
    }

    fn comebacks(&self, _: &[u8]) -> u32 {
        self.roster.all.iter().fold(0, |sum, server| sum.wrapping_add(server.health().comebacks()))
    }

    fn name(&self, upstream: UpstreamId) -> Option<&str> {
        self.roster.all.iter().find(|server| server.id() == upstream).map(|server| server.url())
    }
}

impl Roster {
    /// Counts a question: its turn.
    pub fn turn(&self) -> usize {
        self.hedges.iter().for_each(Budget::earn);
        self.rescues.earn();
        match self.strategy {
            Strategy::RoundRobin => self.turns.fetch_add(1, Ordering::Relaxed),
            Strategy::Adaptive | Strategy::Ordered | Strategy::Weighted | Strategy::Race => 0,
        }
    }

    /// Is the server at `place` one that is asked only while none of the pool answers?
    #[must_use]
    pub const fn is_fallback(&self, place: usize) -> bool {
        place >= self.primary
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::runtime::Handle;

    use super::super::error::Cause;
    use super::super::testing::{
        Authority, Handler, ask, dns_response, https_server, plain, quic_server, reply, serve_doq, serve_h3,
        serve_stream, tls_server, udp_server,
    };
    use super::*;
    use crate::trail::AttemptEnd;
    use crate::wire::{Header, OptWriter, patch};

    const SHORT: Duration = Duration::from_millis(300);
    const LONG: Duration = Duration::from_secs(10);

    fn settings(servers: &[SocketAddr], fallback: &[SocketAddr]) -> PoolSettings {
        let over_udp = |addresses: &[SocketAddr]| addresses.iter().map(|&address| plain("udp", address)).collect();
        PoolSettings {
            fallback: over_udp(fallback),
            timeout: LONG,
            attempt_timeout: SHORT,
            strategy: Strategy::Ordered,
            ..PoolSettings::new(over_udp(servers))
        }
    }

    async fn run(settings: &PoolSettings) -> Ended {
        let pool = Pool::new(settings, &Commons::new(Handle::current())).unwrap();
        pool.exchange(ask("a.example"), Instant::now() + LONG).await
    }

    fn supplier(ended: &Ended) -> u16 {
        ended.result.as_ref().unwrap().upstream.0
    }

    fn rcode(ended: &Ended) -> u16 {
        Header::parse(&ended.result.as_ref().unwrap().message).unwrap().flags.rcode()
    }

    fn ends(ended: &Ended) -> Vec<(u16, AttemptEnd)> {
        ended.attempts.kept().iter().map(|attempt| (attempt.upstream.0, attempt.end)).collect()
    }

    fn good(query: &[u8]) -> Vec<u8> {
        reply(query, 0)
    }

    fn servfail(query: &[u8]) -> Vec<u8> {
        reply(query, 2)
    }

    fn silent(_: &[u8]) -> Vec<u8> {
        Vec::new()
    }

    #[tokio::test]
    async fn the_first_server_is_asked_and_nobody_else() {
        let ((first, _), (second, unasked)) = (udp_server(good).await, udp_server(good).await);
        let ended = run(&PoolSettings { attempt_timeout: LONG, ..settings(&[first, second], &[]) }).await;
        assert_eq!((supplier(&ended), ends(&ended)), (0, vec![(0, AttemptEnd::Answered)]));
        assert_eq!(unasked.load(Ordering::SeqCst), 0);
        assert!(!ended.result.unwrap().trusted, "SEC-07: a plain server's AD means nothing");
    }

    #[tokio::test]
    async fn stl_05_what_nobody_waits_for_has_more_time_than_the_pool_gives_its_clients() {
        let (server, _) = udp_server(silent).await;
        let settings = PoolSettings { timeout: Duration::from_millis(100), ..settings(&[server], &[]) };
        let pool = Pool::new(&settings, &Commons::new(Handle::current())).unwrap();
        for (patient, least) in [(false, 0), (true, 300)] {
            let (begun, mut ask) = (Instant::now(), ask("a.example"));
            Arc::make_mut(&mut ask).patient = patient;
            let ended = pool.exchange(ask, begun + Duration::from_millis(400)).await;
            assert!(ended.result.is_err());
            assert!(begun.elapsed() >= Duration::from_millis(least), "{:?}", begun.elapsed());
        }
    }

    #[tokio::test]
    async fn a_silent_server_is_passed_over_and_the_attempts_tell() {
        let ((first, heard), (second, _)) = (udp_server(silent).await, udp_server(good).await);
        let ended = run(&settings(&[first, second], &[])).await;
        assert_eq!(supplier(&ended), 1);
        assert_eq!(ends(&ended), [(0, AttemptEnd::Timeout), (1, AttemptEnd::Answered)]);
        assert!(ended.attempts.kept()[0].micros >= 250_000);
        assert_eq!(heard.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn servfail_goes_on_to_the_next_and_is_the_answer_if_nobody_does_better() {
        let ((first, _), (second, _)) = (udp_server(servfail).await, udp_server(good).await);
        let better = run(&settings(&[first, second], &[])).await;
        assert_eq!((supplier(&better), rcode(&better)), (1, 0));
        assert_eq!(ends(&better), [(0, AttemptEnd::Failed), (1, AttemptEnd::Answered)]);
        let (refused, _) = udp_server(|query| reply(query, 5)).await;
        let (unasked, heard) = udp_server(good).await;
        let last = run(&settings(&[first, refused], &[unasked])).await;
        assert_eq!((supplier(&last), rcode(&last)), (1, 5));
        assert_eq!(heard.load(Ordering::SeqCst), 0, "the fallback was asked though servers answered");
    }

    #[tokio::test]
    async fn a_bogus_answer_is_not_shopped_around() {
        let (first, _) = udp_server(|query| {
            let mut message = bytes::BytesMut::from(&reply(query, 2)[..]);
            let mut writer = OptWriter::start(&mut message, 1232, 2, false);
            writer.option(15, &[&6u16.to_be_bytes()]);
            writer.finish();
            patch::add_additional(&mut message);
            message.to_vec()
        })
        .await;
        let (second, unasked) = udp_server(good).await;
        let ended = run(&settings(&[first, second], &[])).await;
        assert_eq!((supplier(&ended), rcode(&ended)), (0, 2));
        assert_eq!(unasked.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn the_fallback_answers_when_nobody_else_does() {
        let ((first, _), (fallback, _)) = (udp_server(silent).await, udp_server(good).await);
        let ended = run(&settings(&[first], &[fallback])).await;
        assert_eq!(supplier(&ended), 1);
    }

    #[tokio::test]
    async fn neg_15_a_silent_server_hears_a_question_three_times_and_no_more() {
        let (first, heard) = udp_server(silent).await;
        let ended = run(&settings(&[first], &[])).await;
        assert_eq!(ended.result.unwrap_err().cause, Cause::Timeout);
        assert_eq!(heard.load(Ordering::SeqCst), 3);
        assert_eq!(ended.attempts.made(), 2);
    }

    #[tokio::test]
    async fn the_clients_deadline_ends_it_all() {
        let (first, _) = udp_server(silent).await;
        let pool = Pool::new(
            &PoolSettings { attempt_timeout: LONG, ..settings(&[first], &[]) },
            &Commons::new(Handle::current()),
        )
        .unwrap();
        let start = Instant::now();
        let ended = pool.exchange(ask("a.example"), start + SHORT).await;
        assert_eq!(ended.result.unwrap_err().cause, Cause::Timeout);
        assert!(start.elapsed() < LONG);
    }

    #[tokio::test]
    async fn an_encrypted_answer_is_trusted_and_an_untrusted_server_is_passed_over() {
        let (authority, other) = (Authority::new(), Authority::new());
        let (stranger, _) = other.identity(&["127.0.0.1"], &["dot"]);
        let (known, _) = authority.identity(&["127.0.0.1"], &["dot"]);
        let serve = |stream| serve_stream(stream, good);
        let (first, second) = (tls_server(stranger, serve).await, tls_server(known, serve).await);
        let servers = vec![authority.server("tls", first), authority.server("tls", second)];
        let ended = run(&PoolSettings { servers, attempt_timeout: LONG, ..settings(&[], &[]) }).await;
        assert_eq!(ends(&ended), [(0, AttemptEnd::Tls), (1, AttemptEnd::Answered)]);
        assert!(ended.result.unwrap().trusted);
    }

    #[tokio::test]
    async fn a_pool_of_nobody_says_so() {
        assert_eq!(run(&settings(&[], &[])).await.result.unwrap_err().cause, Cause::Unknown);
    }

    #[tokio::test]
    async fn a_probe_finds_whether_anybody_lives() {
        let ((living, _), (dead, _)) = (udp_server(good).await, udp_server(silent).await);
        let alive = Pool::new(&settings(&[living], &[]), &Commons::new(Handle::current())).unwrap();
        assert!(alive.is_alive(Instant::now() + LONG).await);
        let dead = Pool::new(&settings(&[dead], &[]), &Commons::new(Handle::current())).unwrap();
        assert!(!dead.is_alive(Instant::now() + SHORT).await);
    }

    #[tokio::test]
    async fn the_roster_names_servers_and_the_fingerprint_is_theirs() {
        let [one, two, three]: [SocketAddr; 3] =
            ["192.0.2.1:53", "192.0.2.2:53", "192.0.2.3:53"].map(|address| address.parse().unwrap());
        let pool = |servers: &[SocketAddr], fallback: &[SocketAddr]| {
            Pool::new(&settings(servers, fallback), &Commons::new(Handle::current())).unwrap()
        };
        let first = pool(&[one, two], &[three]);
        assert_eq!(first.name(UpstreamId(2)), Some("udp://192.0.2.3"));
        assert_eq!(first.name(UpstreamId(3)), None);
        assert_eq!(first.servers().count(), 3);
        assert_eq!(first.route(&[]).fingerprint, pool(&[one, two], &[three]).route(&[]).fingerprint);
        assert_ne!(first.route(&[]).fingerprint, pool(&[one], &[two, three]).route(&[]).fingerprint);
        assert_ne!(first.route(&[]).fingerprint, pool(&[two, one], &[three]).route(&[]).fingerprint);
    }

    #[tokio::test]
    async fn a_server_that_cannot_be_used_is_named_with_its_file() {
        let mut broken = plain("tls", "192.0.2.1:853".parse().unwrap());
        broken.ca = Some("/nonexistent/ca.pem".into());
        let error =
            Pool::new(&PoolSettings { servers: vec![broken], ..settings(&[], &[]) }, &Commons::new(Handle::current()))
                .unwrap_err();
        assert!(
            error.to_string().contains("tls://192.0.2.1: cannot read authorities from /nonexistent/ca.pem"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn connections_live_on_the_home_runtime_and_end_with_it() {
        let authority = Authority::new();
        let identity = |alpn: &[&str]| authority.identity(&["127.0.0.1"], alpn).0;
        let http: Handler = |_, body| dns_response(good(body));
        let dot = tls_server(identity(&["dot"]), |stream| serve_stream(stream, good)).await;
        let doh = https_server(identity(&["h2"]), http).await;
        let doh3 = quic_server(identity(&["h3"]), move |connection| serve_h3(connection, http));
        let doq = quic_server(identity(&["doq"]), |connection| serve_doq(connection, good));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (home, (stop, stopped)) = (runtime.handle().clone(), tokio::sync::oneshot::channel::<()>());
        let thread = std::thread::spawn(move || runtime.block_on(stopped));
        for (scheme, address) in [("tls", dot), ("https", doh), ("h3", doh3), ("quic", doq)] {
            let servers = vec![authority.server(scheme, address)];
            let settings = PoolSettings { servers, attempt_timeout: LONG, ..settings(&[], &[]) };
            let pool = Pool::new(&settings, &Commons::new(home.clone())).unwrap();
            for _ in 0..2 {
                let ended = pool.exchange(ask("a.example"), Instant::now() + LONG).await;
                assert!(ended.result.is_ok(), "{scheme}: {:?}", ended.result);
            }
        }
        let settings = PoolSettings { servers: vec![authority.server("tls", dot)], ..settings(&[], &[]) };
        let orphan = Pool::new(&settings, &Commons::new(home.clone())).unwrap();
        stop.send(()).unwrap();
        thread.join().unwrap().unwrap();
        let ended = orphan.exchange(ask("a.example"), Instant::now() + LONG).await;
        assert_eq!(ended.result.unwrap_err().cause, Cause::Closed);
    }
}
