//! Choice, hedging, rescue and breaker with scripted servers on loopback and a clock that jumps.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use super::super::commons::Commons;
use super::super::health::{Health, Outcome, State};
use super::super::testing::{
    Authority, ask, datagrams, plain, quic_server, reply, serve_doq, serve_stream, tls_server, udp_server, unheard,
};
use super::super::{Ended, Exchange as _, Pool, PoolSettings, Server};
use super::*;

const NEVER: u64 = u64::MAX;

/// A server whose answers take as long as it is told.
struct Fake {
    address: SocketAddr,
    heard: Arc<AtomicU32>,
    delay: Arc<AtomicU64>,
}

impl Fake {
    async fn new(delay: u64) -> Self {
        let (socket, address) = datagrams().await;
        Self::on(socket, address, delay)
    }

    fn on(socket: UdpSocket, address: SocketAddr, delay: u64) -> Self {
        let fake = Self { address, heard: Arc::default(), delay: Arc::new(delay.into()) };
        let (heard, delay, socket) = (Arc::clone(&fake.heard), Arc::clone(&fake.delay), Arc::new(socket));
        tokio::spawn(async move {
            let mut buffer = [0; 2048];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
                heard.fetch_add(1, Ordering::SeqCst);
                let millis = delay.load(Ordering::SeqCst);
                if millis == NEVER {
                    continue;
                }
                let (socket, answer) = (Arc::clone(&socket), reply(&buffer[..length], 0));
                tokio::spawn(async move {
                    if millis > 0 {
                        sleep(Duration::from_millis(millis)).await;
                    }
                    socket.send_to(&answer, peer).await.unwrap();
                });
            }
        });
        fake
    }

    fn takes(&self, millis: u64) {
        self.delay.store(millis, Ordering::SeqCst);
    }

    fn heard(&self) -> u32 {
        self.heard.load(Ordering::SeqCst)
    }

    fn server(&self) -> Server {
        plain("udp", self.address)
    }
}

fn settings(strategy: Strategy, servers: &[&Fake], fallback: &[&Fake]) -> PoolSettings {
    PoolSettings {
        strategy,
        fallback: fallback.iter().map(|fake| fake.server()).collect(),
        timeout: Duration::from_secs(10),
        attempt_timeout: Duration::from_secs(2),
        ..PoolSettings::new(servers.iter().map(|fake| fake.server()).collect())
    }
}

fn pool(settings: &PoolSettings) -> Pool {
    Pool::new(settings, &Commons::new(Handle::current())).unwrap()
}

async fn run(pool: &Pool) -> Ended {
    pool.exchange(ask("a.example"), Instant::now() + Duration::from_secs(10)).await
}

async fn together(pool: &Pool, count: usize) -> Vec<Ended> {
    let asking: Vec<_> = (0..count).map(|_| tokio::spawn(pool.exchange(ask("a.example"), far()))).collect();
    let mut ended = Vec::new();
    for asking in asking {
        ended.push(asking.await.unwrap());
    }
    ended
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

fn told(ended: &Ended) -> Vec<(u16, Why, AttemptEnd)> {
    ended.attempts.kept().iter().map(|attempt| (attempt.upstream.0, attempt.why, attempt.end)).collect()
}

fn server(pool: &Pool, place: usize) -> &Arc<Upstream> {
    pool.servers().nth(place).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_late_server_is_hedged_and_the_first_answer_taken() {
    let (slow, quick) = (Fake::new(1500).await, Fake::new(0).await);
    let pool = pool(&settings(Strategy::RoundRobin, &[&slow, &quick], &[]));
    let start = Instant::now();
    let ended = run(&pool).await;
    assert_eq!(told(&ended), [(0, Why::First, AttemptEnd::Overtaken), (1, Why::Hedge, AttemptEnd::Answered)]);
    assert!(start.elapsed() < Duration::from_millis(400), "{:?}", start.elapsed());
    assert_eq!((server(&pool, 1).tally().hedges.value(), server(&pool, 0).tally().failures.value()), (1, 0));
    assert_eq!((server(&pool, 0).health().state(), ended.attempts.overtaken()), (State::Closed, 1));
}

#[tokio::test(start_paused = true)]
async fn a_hedge_that_is_slower_changes_nothing() {
    let (first, slower) = (Fake::new(300).await, Fake::new(900).await);
    let pool = pool(&settings(Strategy::RoundRobin, &[&first, &slower], &[]));
    let ended = run(&pool).await;
    assert_eq!(told(&ended), [(1, Why::Hedge, AttemptEnd::Overtaken), (0, Why::First, AttemptEnd::Answered)]);
}

#[tokio::test(start_paused = true)]
async fn no_hedge_with_ordered_nor_to_the_fallback_nor_when_switched_off() {
    let (slow, quick) = (Fake::new(900).await, Fake::new(0).await);
    let off = PoolSettings { hedge: None, ..settings(Strategy::RoundRobin, &[&slow, &quick], &[]) };
    let ordered = settings(Strategy::Ordered, &[&slow, &quick], &[]);
    for settings in [off, ordered, settings(Strategy::Adaptive, &[&slow], &[&quick])] {
        assert_eq!(told(&run(&pool(&settings)).await), [(0, Why::First, AttemptEnd::Answered)]);
    }
    assert_eq!(quick.heard(), 0);
}

#[tokio::test(start_paused = true)]
async fn hedges_stay_within_their_budget() {
    let (one, two) = (Fake::new(500).await, Fake::new(500).await);
    let pool = pool(&settings(Strategy::RoundRobin, &[&one, &two], &[]));
    together(&pool, 40).await;
    let hedges: u64 = pool.servers().map(|server| server.tally().hedges.value()).sum();
    assert!((10..=12).contains(&hedges), "a burst of 10 and 5 % of 40: {hedges}");
}

#[tokio::test(start_paused = true)]
async fn questions_in_flight_are_rescued_from_a_server_that_falls_silent_and_new_ones_avoid_it() {
    let (first, second) = (Fake::new(5).await, Fake::new(5).await);
    let pool = pool(&settings(Strategy::Ordered, &[&first, &second], &[]));
    together(&pool, 20).await;
    assert_eq!((first.heard(), second.heard()), (20, 0));
    first.takes(NEVER);
    let start = Instant::now();
    let ended = together(&pool, 20).await;
    assert!(start.elapsed() < Duration::from_millis(200), "{:?}", start.elapsed());
    for ended in &ended {
        assert_eq!(told(ended), [(0, Why::First, AttemptEnd::Overtaken), (1, Why::Rescue, AttemptEnd::Answered)]);
    }
    assert_eq!(server(&pool, 1).tally().rescues.value(), 20);
    assert_eq!(server(&pool, 0).health().state(), State::Suspect);
    assert_eq!(told(&run(&pool).await), [(1, Why::First, AttemptEnd::Answered)]);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(server(&pool, 0).health().state(), State::Open, "its probe was not answered either");
    assert_eq!(server(&pool, 0).tally().opened.value(), 1);
    first.takes(5);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(server(&pool, 0).health().state(), State::Closed);
    assert_eq!(told(&run(&pool).await), [(0, Why::First, AttemptEnd::Answered)]);
}

#[tokio::test(start_paused = true)]
async fn a_few_slow_questions_make_nobody_suspect() {
    let (first, second) = (Fake::new(1000).await, Fake::new(5).await);
    let pool = pool(&settings(Strategy::Ordered, &[&first, &second], &[]));
    assert!(together(&pool, 7).await.iter().all(|ended| ended.attempts.made() == 1));
    assert_eq!(second.heard(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_breaker_opens_after_three_failures_and_a_probe_closes_it() {
    let (_held, address) = unheard().await;
    let second = Fake::new(0).await;
    let mut settings = settings(Strategy::Ordered, &[&second], &[]);
    settings.servers.insert(0, plain("udp", address));
    let pool = pool(&settings);
    for _ in 0..3 {
        assert_eq!(
            told(&run(&pool).await),
            [(0, Why::First, AttemptEnd::Connect), (1, Why::Retry, AttemptEnd::Answered)]
        );
    }
    let report = server(&pool, 0).health().report(Instant::now());
    assert_eq!((report.state, report.last_failure), (State::Open, Some(Cause::Connect)));
    assert!(report.next_probe.is_some() && report.since.is_some());
    assert_eq!(told(&run(&pool).await), [(1, Why::First, AttemptEnd::Answered)]);
    assert_eq!(server(&pool, 0).tally().opened.value(), 1);
    let Ok(socket) = UdpSocket::bind(address).await else { return };
    let back = Fake::on(socket, address, 0);
    sleep(Duration::from_secs(8)).await;
    assert_eq!((server(&pool, 0).health().state(), back.heard()), (State::Closed, 1), "one good probe is enough");
    assert_eq!(told(&run(&pool).await), [(0, Why::First, AttemptEnd::Answered)]);
    sleep(Duration::from_mins(10)).await;
    assert_eq!(back.heard(), 2, "who is up is not probed");
}

#[tokio::test(start_paused = true)]
async fn probes_come_ever_more_slowly_and_end_with_the_pool() {
    let (dead, second) = (Fake::new(NEVER).await, Fake::new(0).await);
    let pool = pool(&settings(Strategy::Ordered, &[&dead, &second], &[]));
    for _ in 0..3 {
        run(&pool).await;
    }
    assert_eq!(server(&pool, 0).health().state(), State::Open);
    let asked = dead.heard();
    sleep(Duration::from_mins(1)).await;
    let first_minute = dead.heard() - asked;
    assert!((4..=7).contains(&first_minute), "{first_minute}");
    sleep(Duration::from_mins(10)).await;
    let later = dead.heard() - asked - first_minute;
    assert!((8..=16).contains(&later), "once a minute: {later}");
    drop(pool);
    sleep(Duration::from_secs(10)).await;
    let last = dead.heard();
    sleep(Duration::from_mins(10)).await;
    assert_eq!(dead.heard(), last);
}

#[tokio::test(start_paused = true)]
async fn a_slow_name_does_not_open_the_breaker_of_a_server_that_answers_others() {
    let (first, second) = (Fake::new(5).await, Fake::new(5).await);
    let pool = pool(&settings(Strategy::Ordered, &[&first, &second], &[]));
    let health = server(&pool, 0).health();
    for _ in 0..10 {
        let asked = Instant::now();
        health.depart(asked);
        sleep(Duration::from_millis(10)).await;
        run(&pool).await;
        _ = health.land(asked, super::super::health::Outcome::Lost(Cause::Timeout), Instant::now());
    }
    assert_eq!(health.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn the_fallback_stands_in_while_the_pool_is_down_and_the_pool_is_asked_after_it() {
    let (only, fallback) = (Fake::new(NEVER).await, Fake::new(0).await);
    let pool = pool(&settings(Strategy::Adaptive, &[&only], &[&fallback]));
    for _ in 0..3 {
        assert_eq!(
            told(&run(&pool).await),
            [(0, Why::First, AttemptEnd::Timeout), (1, Why::Fallback, AttemptEnd::Answered)]
        );
    }
    assert_eq!(told(&run(&pool).await), [(1, Why::Fallback, AttemptEnd::Answered)]);
    fallback.takes(NEVER);
    only.takes(0);
    let ended = run(&pool).await;
    assert_eq!(
        told(&ended),
        [(1, Why::Fallback, AttemptEnd::Timeout), (0, Why::Retry, AttemptEnd::Answered)],
        "nobody is left unasked"
    );
    assert_eq!(server(&pool, 0).health().state(), State::Closed, "an answer closes it");
}

/// A server that has `. NS` in its cache and nobody to ask for anything else.
async fn cut_off() -> (SocketAddr, Arc<AtomicU32>) {
    let (heard, (socket, address)) = (Arc::new(AtomicU32::new(0)), datagrams().await);
    let counter = Arc::clone(&heard);
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            if buffer[12] == 0 {
                socket.send_to(&reply(&buffer[..length], 0), peer).await.unwrap();
            } else {
                counter.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    (address, heard)
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_probes_and_no_question_is_asked_ever_more_rarely() {
    for crowd in [1, 20] {
        let ((address, heard), second) = (cut_off().await, Fake::new(1).await);
        let mut settings = settings(Strategy::Ordered, &[&second], &[]);
        settings.servers.insert(0, plain("udp", address));
        let pool = pool(&settings);
        let start = Instant::now();
        while start.elapsed() < Duration::from_mins(3) {
            assert!(together(&pool, crowd).await.iter().all(|ended| ended.result.is_ok()));
            sleep(Duration::from_millis(500)).await;
        }
        let opened = server(&pool, 0).tally().opened.value();
        assert!((4..=14).contains(&opened), "{opened}");
        let heard = usize::try_from(heard.load(Ordering::SeqCst)).unwrap();
        assert!(heard < 40 * crowd, "{heard} of {crowd} at a time");
    }
}

/// A server that refuses everything at once while it is told to.
async fn refuser() -> (Server, Arc<AtomicU32>, Arc<AtomicU64>) {
    let refuses = Arc::new(AtomicU64::new(5));
    let rcode = Arc::clone(&refuses);
    let (address, heard) =
        udp_server(move |query| reply(query, u16::try_from(rcode.load(Ordering::SeqCst)).unwrap())).await;
    (plain("udp", address), heard, refuses)
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_everything_is_asked_after_the_others_until_it_helps_again() {
    for strategy in [Strategy::Ordered, Strategy::RoundRobin, Strategy::Weighted, Strategy::Adaptive] {
        let ((server, heard, rcode), good) = (refuser().await, Fake::new(20).await);
        let mut settings = settings(strategy, &[&good], &[]);
        settings.servers.insert(0, server);
        let pool = pool(&settings);
        for _ in 0..40 {
            assert!(together(&pool, 20).await.iter().all(|ended| ended.result.as_ref().unwrap().upstream.0 == 1));
            sleep(Duration::from_millis(100)).await;
        }
        let during = heard.load(Ordering::SeqCst);
        assert!(during < 20 * 15, "{strategy:?}: {during} of 800");
        rcode.store(0, Ordering::SeqCst);
        sleep(Duration::from_mins(2)).await;
        // Whom adaptive explores, and when, is drawn by lot.
        let helps = || heard.load(Ordering::SeqCst) > during + 50;
        for _ in 0..3000 {
            if helps() {
                break;
            }
            run(&pool).await;
        }
        assert!(helps(), "{strategy:?}: it helps again");
    }
}

#[tokio::test(start_paused = true)]
async fn where_all_refuse_all_are_asked_and_the_fallback_is_not() {
    let ((one, heard_one, _), (two, heard_two, _), fallback) = (refuser().await, refuser().await, Fake::new(0).await);
    let mut settings = settings(Strategy::Ordered, &[], &[&fallback]);
    settings.servers = vec![one, two];
    let pool = pool(&settings);
    for _ in 0..20 {
        assert!(run(&pool).await.result.is_ok());
    }
    let heard = [heard_one, heard_two].map(|heard| heard.load(Ordering::SeqCst));
    assert_eq!((heard, fallback.heard()), ([20, 20], 0));
}

#[tokio::test(start_paused = true)]
async fn a_lone_server_that_is_down_is_asked_all_the_same() {
    let only = Fake::new(NEVER).await;
    let pool = pool(&settings(Strategy::Adaptive, &[&only], &[]));
    for _ in 0..3 {
        assert!(run(&pool).await.result.is_err());
    }
    assert_eq!(server(&pool, 0).health().state(), State::Open);
    only.takes(0);
    assert!(run(&pool).await.result.is_ok());
}

#[test]
fn a_server_has_come_back_with_its_first_answer_to_a_question_and_not_with_that_to_a_probe() {
    let (health, now) = (Health::default(), Instant::now());
    let ends = |outcome| {
        health.depart(now);
        let _ = health.land(now, outcome, now);
        health.comebacks()
    };
    assert_eq!((ends(Outcome::Answered), health.comebacks()), (0, 0), "it was never away");
    assert_eq!([(); 3].map(|()| ends(Outcome::Lost(Cause::Connect))), [0; 3]);
    assert_eq!(health.state(), State::Open);
    let _ = health.probed(Ok(()), now);
    assert_eq!((health.state(), health.comebacks()), (State::Closed, 0));
    assert_eq!((ends(Outcome::Failed), ends(Outcome::Answered), ends(Outcome::Answered)), (0, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn round_robin_takes_turns_and_weighted_goes_by_weight() {
    let (one, two) = (Fake::new(0).await, Fake::new(0).await);
    let turns = pool(&settings(Strategy::RoundRobin, &[&one, &two], &[]));
    for turn in 0..10 {
        assert_eq!(told(&run(&turns).await)[0].0, turn % 2);
    }
    let mut weighted = settings(Strategy::Weighted, &[&one, &two], &[]);
    weighted.servers[0].weight = 9;
    let (pool, before) = (pool(&weighted), two.heard());
    for _ in 0..400 {
        run(&pool).await;
    }
    let light = two.heard() - before;
    assert!((15..=80).contains(&light), "about a tenth of 400: {light}");
}

#[tokio::test(start_paused = true)]
async fn race_asks_two_at_once_and_takes_the_first_answer() {
    let (slow, quick) = (Fake::new(80).await, Fake::new(10).await);
    let pool = pool(&settings(Strategy::Race, &[&slow, &quick], &[]));
    for _ in 0..5 {
        let start = Instant::now();
        let ended = run(&pool).await;
        assert_eq!(told(&ended), [(0, Why::First, AttemptEnd::Overtaken), (1, Why::First, AttemptEnd::Answered)]);
        assert!(start.elapsed() < Duration::from_millis(50));
    }
}

#[tokio::test(start_paused = true)]
async fn adaptive_prefers_the_quicker_and_keeps_trying_the_other() {
    let (slow, quick) = (Fake::new(100).await, Fake::new(10).await);
    let pool = pool(&PoolSettings { hedge: None, ..settings(Strategy::Adaptive, &[&slow, &quick], &[]) });
    for _ in 0..50 {
        run(&pool).await;
    }
    assert!((1..=3).contains(&slow.heard()), "{}", slow.heard());
    slow.takes(1);
    for _ in 0..500 {
        sleep(Duration::from_millis(100)).await;
        run(&pool).await;
    }
    assert!(slow.heard() > 20, "it became the quicker one: {}", slow.heard());
}

#[tokio::test(start_paused = true)]
async fn a_silent_first_server_does_not_spend_the_time_of_the_others() {
    let (dead, also_dead, good) = (Fake::new(NEVER).await, Fake::new(NEVER).await, Fake::new(0).await);
    let settings = PoolSettings {
        timeout: Duration::from_secs(2),
        ..settings(Strategy::Ordered, &[&dead, &also_dead, &good], &[])
    };
    assert!(run(&pool(&settings)).await.result.is_ok());
}

#[tokio::test]
async fn dot_14_doq_31_failed_trust_is_remembered_and_a_lone_server_is_retried_sooner() {
    let (authority, other) = (Authority::new(), Authority::new());
    let dot =
        tls_server(other.identity(&["127.0.0.1"], &["dot"]).0, |stream| serve_stream(stream, |query| reply(query, 0)));
    let doq = quic_server(other.identity(&["127.0.0.1"], &["doq"]).0, |connection| {
        serve_doq(connection, |query| reply(query, 0))
    });
    let good = tls_server(authority.identity(&["127.0.0.1"], &["dot"]).0, |stream| {
        serve_stream(stream, |query| reply(query, 0))
    });
    let good = authority.server("tls", good.await);
    for stranger in [authority.server("tls", dot.await), authority.server("quic", doq)] {
        let base = PoolSettings { strategy: Strategy::Ordered, ..PoolSettings::new(Vec::new()) };
        let pair = pool(&PoolSettings { servers: vec![stranger.clone(), good.clone()], ..base.clone() });
        for _ in 0..5 {
            assert_eq!(run(&pair).await.result.unwrap().upstream, UpstreamId(1));
        }
        assert_eq!(server(&pair, 0).health().state(), State::Open);
        assert_eq!(server(&pair, 0).tally().questions.value(), 1, "one failure is enough with others to ask");
        let lone = pool(&PoolSettings { servers: vec![stranger], ..base });
        for _ in 0..3 {
            assert_eq!(run(&lone).await.result.unwrap_err().cause, Cause::Tls);
        }
        assert_eq!(server(&lone, 0).tally().questions.value(), 3);
        let health = server(&lone, 0).health();
        assert!(health.needs_breath(Instant::now()), "not with every question");
        assert!(!health.needs_breath(Instant::now() + Duration::from_secs(2)), "but soon again");
    }
}

#[tokio::test]
async fn ede_07_of_servers_that_fail_each_in_its_own_way_the_most_telling_failure_is_told() {
    let (authority, other) = (Authority::new(), Authority::new());
    let config = other.identity(&["127.0.0.1"], &["dot"]).0;
    let stranger = tls_server(config, |stream| serve_stream(stream, |query| reply(query, 0))).await;
    let stranger = authority.server("tls", stranger);
    let (_held, address) = unheard().await;
    let nobody = plain("udp", address);
    for servers in [vec![stranger.clone(), nobody.clone()], vec![nobody, stranger]] {
        let pool = pool(&PoolSettings { strategy: Strategy::Ordered, ..PoolSettings::new(servers) });
        assert_eq!(run(&pool).await.result.unwrap_err().cause, Cause::Tls);
    }
}

const STRATEGIES: [Strategy; 5] =
    [Strategy::Adaptive, Strategy::Ordered, Strategy::RoundRobin, Strategy::Weighted, Strategy::Race];

/// Asks for a second opinion on what the server of `id` said.
async fn doubt(pool: &Pool, id: u16) -> Ended {
    let ask = Ask { avoid: Some(UpstreamId(id)), ..(*ask("a.example")).clone() };
    pool.exchange(Arc::new(ask), far()).await
}

#[tokio::test(start_paused = true)]
async fn a_second_opinion_is_another_servers_whatever_the_strategy() {
    for strategy in STRATEGIES {
        let (first, second) = (Fake::new(0).await, Fake::new(0).await);
        let pool = pool(&settings(strategy, &[&first, &second], &[]));
        for id in [0, 1] {
            for _ in 0..10 {
                assert_eq!(told(&doubt(&pool, id).await), [(1 - id, Why::First, AttemptEnd::Answered)], "{strategy:?}");
            }
        }
        assert_eq!((first.heard(), second.heard()), (10, 10));
    }
}

#[tokio::test(start_paused = true)]
async fn without_another_server_that_is_up_there_is_no_second_opinion_and_nobody_is_asked() {
    for strategy in STRATEGIES {
        let (only, fallback) = (Fake::new(0).await, Fake::new(0).await);
        let pool = pool(&settings(strategy, &[&only], &[&fallback]));
        let ended = doubt(&pool, 0).await;
        assert_eq!((ended.result.unwrap_err().cause, ended.attempts.made()), (Cause::Unknown, 0));
        assert_eq!((only.heard(), fallback.heard()), (0, 0), "{strategy:?}");
    }
    let (dead, second) = (Fake::new(NEVER).await, Fake::new(0).await);
    let pool = pool(&settings(Strategy::Ordered, &[&dead, &second], &[]));
    together(&pool, 20).await;
    assert_ne!(server(&pool, 0).health().state(), State::Closed);
    let heard = dead.heard();
    let ended = doubt(&pool, 1).await;
    assert_eq!((ended.result.is_err(), ended.attempts.made(), dead.heard()), (true, 0, heard));
}
