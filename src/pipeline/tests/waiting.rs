//! TTL-14 and the life of exchanges: equal questions wait together, and an exchange belongs to no client.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU8};
use std::time::Duration;

use super::rig::{Begun, Built, Gateway, Plan, Play};
use crate::cache::Selection;
use crate::clock::Moment;
use crate::peer::{DoorId, Peer, Transport};
use crate::pipeline::Shared;
use crate::pipeline::flushes::Flushes;
use crate::pipeline::join::FLIGHTS;
use crate::pipeline::keys::Keys;
use crate::pipeline::walk::Walk;
use crate::query::Query;
use crate::reply::{Pending, Source, Verdict};
use crate::trail::Join;
use crate::wire::Flags;
use crate::wire::registry::{rcode, rtype};

fn held() -> Gateway {
    Gateway::with(Plan { held: true, ..Plan::default() }, |ask| Play::Answer(Built::to(ask).a(300, 1)))
}

fn later(gateway: &Gateway, transport: Transport, query: &Built) -> Pending {
    match gateway.begin(transport, &query.0) {
        Begun::Later(pending) => pending,
        Begun::Sent(_) | Begun::Dropped(_) => panic!("answered at once"),
    }
}

fn shared(gateway: &Gateway) -> &Shared {
    &gateway.pipeline.shared
}

#[tokio::test]
async fn ttl_14_equal_questions_are_asked_once_and_each_gets_its_own_reply() {
    let gateway = held();
    let names = ["t.example", "T.EXAMPLE", "t.Example"];
    let mut waiting = tokio::task::JoinSet::new();
    for at in 0..99 {
        let query = Built::query(names[at % 3], rtype::A);
        let query = if at % 2 == 0 { query.opt(0, false, &[]) } else { query };
        let pending = later(&gateway, Transport::ALL[at % 7], &query);
        waiting.spawn(async move { (at, pending.await) });
    }
    while gateway.counters.joined.value() < 98 {
        tokio::task::yield_now().await;
    }
    assert_eq!((gateway.asked(), shared(&gateway).joins_in_flight()), (1, 1));
    gateway.upstream.gate.add_permits(1);
    let mut led = 0;
    while let Some(done) = waiting.join_next().await {
        let (at, Verdict::Sent(reply)) = done.unwrap() else { panic!("dropped") };
        assert_eq!(reply.facts.source, Source::Upstream);
        assert_eq!(reply.facts.trail.attempts.made(), 1);
        led += u32::from(reply.facts.trail.join == Join::Led);
        let name = crate::wire::name::from_text(names[at % 3]).unwrap();
        assert_eq!(reply.message[12..12 + name.len()], name);
        assert_eq!(reply.message.len(), 12 + 15 + 16 + if at % 2 == 0 { 11 } else { 0 });
    }
    assert_eq!((led, shared(&gateway).joins_in_flight(), gateway.counters.attempts.value()), (1, 0, 1));
}

#[tokio::test]
async fn rd_do_and_cd_keep_questions_apart_and_ad_does_not() {
    let gateway = held();
    let base = || Built::query("t.example", rtype::A);
    let queries = [
        base(),
        base().flags(Flags::RD, false),
        base().flags(Flags::CD, true),
        base().opt(0, true, &[]),
        base().flags(Flags::AD, true),
    ];
    let mut waiting = tokio::task::JoinSet::new();
    for query in &queries {
        waiting.spawn(later(&gateway, Transport::Udp, query));
    }
    while gateway.counters.waited.value() < 5 {
        tokio::task::yield_now().await;
    }
    assert_eq!(shared(&gateway).joins_in_flight(), 4);
    gateway.upstream.gate.add_permits(5);
    assert_eq!(waiting.join_all().await.len(), 5);
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_nothing() {
    let gateway = held();
    let query = Built::query("t.example", rtype::A);
    let leader = tokio::spawn(later(&gateway, Transport::Udp, &query));
    while gateway.asked() == 0 {
        tokio::task::yield_now().await;
    }
    let follower = tokio::spawn(later(&gateway, Transport::Udp, &query));
    while gateway.counters.joined.value() == 0 {
        tokio::task::yield_now().await;
    }
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    gateway.upstream.gate.add_permits(1);
    let Verdict::Sent(reply) = follower.await.unwrap() else { panic!("dropped") };
    assert_eq!((reply.facts.rcode, reply.facts.trail.join), (rcode::NOERROR, Join::Followed));
    assert_eq!((gateway.begin(Transport::Udp, &query.0).at_once().records.len(), gateway.asked()), (1, 1));
}

#[tokio::test]
async fn a_question_that_comes_after_the_landing_finds_the_answer() {
    let gateway = Gateway::new(|ask| Play::Answer(Built::to(ask).a(300, 1)));
    let query = Built::query("t.example", rtype::A);
    let slow = later(&gateway, Transport::Udp, &query);
    gateway.udp(&query).await;
    let Verdict::Sent(reply) = slow.await else { panic!("dropped") };
    assert_eq!((reply.facts.source, gateway.asked()), (Source::Cache, 1));
}

#[tokio::test]
async fn ttl_14_an_expired_answer_is_no_reason_to_look_again() {
    let gateway = Gateway::new(|ask| Play::Answer(Built::to(ask).a(10, 1)));
    let query = Built::query("t.example", rtype::A);
    gateway.udp(&query).await;
    let walk = Walk::of_query(&Query::parse(&query.0, &peer(), Moment(0)).unwrap(), Transport::Udp, 1232);
    let keys = Keys::new(gateway.pipeline.shared.exchange.route(&[]), &walk, None);
    assert!(gateway.pipeline.is_known(&keys, gateway.clock.now()));
    gateway.pass(10);
    assert!(!gateway.pipeline.is_known(&keys, gateway.clock.now()));
}

fn peer() -> Peer {
    let address = "192.0.2.9:5353".parse().unwrap();
    Peer::new(address, address, DoorId(0), Transport::Udp)
}

#[tokio::test(start_paused = true)]
async fn ede_07_a_client_waits_no_longer_than_its_timeout_even_for_an_exchange_that_hangs() {
    let gateway = Gateway::new(|_| Play::Hang);
    let began = tokio::time::Instant::now();
    let got = gateway.udp(&Built::query("t.example", rtype::A).opt(0, false, &[])).await;
    assert_eq!((got.rcode(), got.edes()), (rcode::SERVFAIL, vec![22]));
    assert!(began.elapsed() < Duration::from_millis(4050), "{:?}", began.elapsed());
    assert_eq!(shared(&gateway).joins_in_flight(), 0, "the exchange ended too");
}

#[tokio::test]
async fn a_task_that_dies_answers_those_who_wait() {
    let gateway = Gateway::with(Plan { held: true, ..Plan::default() }, |_| Play::Panic);
    let query = Built::query("t.example", rtype::A).opt(0, false, &[]);
    let one = tokio::spawn(later(&gateway, Transport::Udp, &query));
    let two = tokio::spawn(later(&gateway, Transport::Tcp, &query));
    while gateway.counters.joined.value() == 0 {
        tokio::task::yield_now().await;
    }
    gateway.upstream.gate.add_permits(1);
    for waiting in [one, two] {
        let Verdict::Sent(reply) = waiting.await.unwrap() else { panic!("dropped") };
        assert_eq!((reply.facts.rcode, reply.facts.trail.ede), (rcode::SERVFAIL, Some(0)));
    }
    assert_eq!((shared(&gateway).joins_in_flight(), gateway.counters.panics.value()), (0, 1));
}

#[tokio::test]
async fn a_task_that_dies_is_counted_though_its_client_has_left() {
    let gateway = Gateway::with(Plan { held: true, ..Plan::default() }, |_| Play::Panic);
    let client = tokio::spawn(later(&gateway, Transport::Udp, &Built::query("t.example", rtype::A)));
    while gateway.asked() == 0 {
        tokio::task::yield_now().await;
    }
    client.abort();
    assert!(client.await.unwrap_err().is_cancelled());
    gateway.upstream.gate.add_permits(1);
    while shared(&gateway).joins_in_flight() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(gateway.counters.panics.value(), 1);
}

#[tokio::test]
async fn a_full_table_of_flights_is_a_servfail_and_counted() {
    let gateway = Gateway::new(|ask| Play::Answer(Built::to(ask).a(300, 1)));
    let joins = &shared(&gateway).joins;
    let flights: Vec<_> = (0..FLIGHTS).map(|at| joins.join(&at.to_be_bytes(), &Flushes::default(), || false)).collect();
    let query = Built::query("t.example", rtype::A).opt(0, false, &[]);
    let got = gateway.udp(&query).await;
    assert_eq!((got.rcode(), got.edes(), got.facts.trail.join), (rcode::SERVFAIL, vec![0], Join::Full));
    assert_eq!((gateway.counters.join_full.value(), gateway.asked()), (1, 0));
    drop(flights);
    assert_eq!(gateway.udp(&query).await.rcode(), rcode::NOERROR);
}

#[tokio::test]
async fn prg_06_edn_13_what_goes_up_is_the_question_and_nothing_of_the_client() {
    let gateway = Gateway::new(|ask| Play::Answer(Built::to(ask).a(0, 1)));
    for transport in Transport::ALL {
        gateway.over(transport, &Built::query("T.example", rtype::A)).await;
    }
    let asked = gateway.upstream.asked.lock().unwrap();
    for (ask, transport) in asked.iter().zip(Transport::ALL) {
        assert_eq!(
            ask.question[..11],
            Built::query("t.example", rtype::A).0[12..23],
            "not even how the client spells it"
        );
        assert_eq!((ask.prefer_stream, ask.padding, ask.recursion_desired), (!transport.is_datagram(), true, true));
    }
}

#[tokio::test]
async fn what_was_asked_before_a_flush_that_means_it_is_answered_and_not_kept() {
    for (flushed, kept) in [(Some("t.example"), 0), (Some("example"), 0), (None, 0), (Some("other.example"), 1)] {
        let gateway = held();
        let pending = later(&gateway, Transport::Tcp, &Built::query("t.example", rtype::A));
        let waiting = tokio::spawn(pending);
        while gateway.asked() == 0 {
            tokio::task::yield_now().await;
        }
        shared(&gateway).begin_flush(flushed.map_or(Selection::All, suffix));
        gateway.upstream.gate.add_permits(1);
        let Verdict::Sent(reply) = waiting.await.unwrap() else { panic!("dropped") };
        assert_eq!(reply.facts.rcode, rcode::NOERROR, "whoever waits is answered");
        assert_eq!(shared(&gateway).cache.stats().entries, kept, "{flushed:?}");
    }
}

#[tokio::test]
async fn who_asks_after_a_flush_hears_nothing_that_was_asked_before_it() {
    for (flushed, asked) in [("example", 2), ("other.example", 1)] {
        let told = AtomicU8::new(0);
        let gateway = Gateway::with(Plan { held: true, ..Plan::default() }, move |ask| {
            Play::Answer(Built::to(ask).a(300, told.fetch_add(1, Relaxed)))
        });
        let query = Built::query("t.example", rtype::A);
        let before = tokio::spawn(later(&gateway, Transport::Tcp, &query));
        while gateway.asked() < 1 {
            tokio::task::yield_now().await;
        }
        shared(&gateway).begin_flush(suffix(flushed));
        let after = [Transport::Tcp, Transport::Udp].map(|over| tokio::spawn(later(&gateway, over, &query)));
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        assert_eq!((gateway.asked(), shared(&gateway).joins_in_flight()), (asked, asked));
        gateway.upstream.gate.add_permits(2);
        assert!(before.await.is_ok());
        let newest = u8::try_from(asked).unwrap() - 1;
        for waiting in after {
            let Verdict::Sent(reply) = waiting.await.unwrap() else { panic!("dropped") };
            assert_eq!(reply.message.last(), Some(&newest), "{flushed}");
        }
        let hit = gateway.begin(Transport::Udp, &query.0).at_once();
        assert_eq!((hit.rdata(0)[3], gateway.asked(), shared(&gateway).joins_in_flight()), (newest, asked, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn what_ends_late_that_was_asked_before_a_flush_takes_nothing_from_what_was_asked_after_it() {
    let first = AtomicBool::new(true);
    let gateway =
        Gateway::new(
            move |ask| {
                if first.swap(false, Relaxed) { Play::Hang } else { Play::Answer(Built::to(ask).a(300, 2)) }
            },
        );
    let query = Built::query("t.example", rtype::A);
    let before = tokio::spawn(later(&gateway, Transport::Tcp, &query));
    while gateway.asked() < 1 {
        tokio::task::yield_now().await;
    }
    shared(&gateway).begin_flush(suffix("example"));
    assert_eq!(gateway.udp(&query).await.rcode(), rcode::NOERROR);
    let Verdict::Sent(reply) = before.await.unwrap() else { panic!("dropped") };
    assert_eq!((reply.facts.rcode, shared(&gateway).joins_in_flight()), (rcode::SERVFAIL, 0));
    gateway.begin(Transport::Udp, &query.0).at_once();
    assert!(shared(&gateway).failures.is_empty(), "nothing that is known failed");
}

fn suffix(name: &str) -> Selection {
    Selection::Suffix(crate::wire::name::from_text(name).unwrap().into())
}
