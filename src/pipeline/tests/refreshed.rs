//! Answers asked for again in the last tenth of their life, so that who asks often never waits.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use super::rig::{Begun, Built, Gateway, Got, Plan, Play};
use crate::cache;
use crate::clock::Moment;
use crate::peer::{DoorId, Peer, Transport};
use crate::pipeline::Pipeline;
use crate::pipeline::join::Ticket;
use crate::pipeline::keys::Keys;
use crate::pipeline::refresh::{QUEUE, UNDER_WAY};
use crate::pipeline::walk::Walk;
use crate::query::Query;
use crate::trail::{Recall, Refresh};
use crate::upstream::error::Cause;
use crate::wire::Flags;
use crate::wire::registry::{option, rcode, rtype};

/// Seconds of a life of 100 after which it is in its last tenth, and fresh.
const LATE: u64 = 92;

fn query(name: &str) -> Built {
    Built::query(name, rtype::A)
}

fn hit(gateway: &Gateway, name: &str) -> Got {
    gateway.begin(Transport::Udp, &query(name).0).at_once()
}

/// A gateway whose errands are run.
fn running(gateway: Gateway) -> Gateway {
    tokio::spawn(Pipeline::run_errands(tokio::sync::watch::channel(gateway.pipeline.clone()).1));
    gateway
}

fn lasting(ttl: u32) -> Gateway {
    running(Gateway::new(move |ask| Play::Answer(Built::to(ask).a(ttl, 1))))
}

/// Gives the errands time to do what they will.
async fn settle(gateway: &Gateway) {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    while gateway.pipeline.shared.joins_in_flight() > 0 {
        tokio::task::yield_now().await;
    }
}

fn names(gateway: &Gateway) -> Vec<Vec<u8>> {
    gateway.upstream.asked.lock().unwrap().iter().map(|ask| ask.question.to_vec()).collect()
}

#[tokio::test]
async fn a_name_in_use_never_misses_over_many_lives_and_a_name_asked_once_expires() {
    let gateway = lasting(100);
    gateway.udp(&query("hot.example")).await;
    gateway.udp(&query("once.example")).await;
    for _ in 0..200 {
        gateway.pass(5);
        let got = hit(&gateway, "hot.example");
        let Recall::Hit { age, .. } = got.facts.trail.recall else { panic!("no hit") };
        let (ttl, left) = (got.ttls()[0], 100 - age);
        // Some lives end a little early, so that not all do at one instant.
        assert!((1..=left).contains(&ttl) && ttl + 5 >= left, "TTL {ttl} at the age of {age}");
        settle(&gateway).await;
    }
    let asked = names(&gateway);
    let hot = asked.iter().filter(|question| question.starts_with(b"\x03hot")).count();
    assert!((11..=14).contains(&hot), "{hot} times in ten lives");
    assert_eq!(asked.len(), hot + 1, "nobody asked for the other again");
    assert_eq!(gateway.counters.refreshes.value(), hot as u64 - 1);
    assert_eq!(gateway.counters.refreshes_done.value(), hot as u64 - 1);
    assert!(matches!(gateway.begin(Transport::Udp, &query("once.example").0), Begun::Later(_)));
}

#[tokio::test]
async fn the_first_asker_in_the_last_tenth_has_it_renewed_and_nobody_else() {
    let gateway = lasting(100);
    gateway.udp(&query("t.example")).await;
    for (seconds, refresh) in
        [(80, Refresh::Unasked), (12, Refresh::Queued), (0, Refresh::Unasked), (1, Refresh::Unasked)]
    {
        gateway.pass(seconds);
        assert_eq!(hit(&gateway, "t.example").facts.trail.refresh, refresh, "{seconds} s later");
    }
    settle(&gateway).await;
    assert_eq!((gateway.asked(), gateway.counters.refreshes_done.value()), (2, 1));
    let Recall::Hit { age, .. } = hit(&gateway, "t.example").facts.trail.recall else { panic!("no hit") };
    assert!(age < 80, "another life");
}

#[tokio::test]
async fn what_nobody_waits_for_is_not_asked_for_again() {
    let plain = |gateway: &Gateway| hit(gateway, "t.example").facts.trail.refresh;
    let denied = || Gateway::new(|ask| Play::Answer(Built::to(ask).rcode(rcode::NXDOMAIN).soa("example", 100, 100)));
    let off = Plan { cache: cache::Settings { prefetch: false, ..cache::Settings::default() }, ..Plan::default() };
    let short = |ttl| Gateway::new(move |ask| Play::Answer(Built::to(ask).a(ttl, 1)));
    let without = Gateway::with(off, |ask| Play::Answer(Built::to(ask).a(100, 1)));
    for (what, gateway, late) in [("NXDOMAIN", denied(), LATE), ("short", short(9), 8), ("off", without, LATE)] {
        gateway.udp(&query("t.example")).await;
        assert_eq!(plain(&gateway), Refresh::Unasked);
        gateway.pass(late);
        assert_eq!([plain(&gateway), plain(&gateway)], [Refresh::Unasked; 2], "{what}");
    }
    // Asked for the first time since it came: nobody knows whether it will be asked for again.
    let gateway = short(100);
    gateway.udp(&query("t.example")).await;
    gateway.pass(LATE);
    assert_eq!([plain(&gateway), plain(&gateway)], [Refresh::Unasked, Refresh::Queued]);
}

#[tokio::test]
async fn gen_26_who_does_not_want_recursion_causes_none_and_keeps_nobody_from_it() {
    let gateway = lasting(100);
    gateway.udp(&query("t.example")).await;
    gateway.pass(LATE);
    for _ in 0..3 {
        let got = gateway.begin(Transport::Udp, &query("t.example").flags(Flags::RD, false).0).at_once();
        assert_eq!(got.facts.trail.refresh, Refresh::Unasked);
    }
    assert_eq!(hit(&gateway, "t.example").facts.trail.refresh, Refresh::Queued);
    settle(&gateway).await;
    assert_eq!(gateway.asked(), 2);
}

#[tokio::test]
async fn a_refresh_tells_nothing_of_who_asked() {
    let gateway = lasting(100);
    let ask = |name| Built::query(name, rtype::A).flags(Flags::CD, true).opt(0, true, &[(option::ECS, &[0, 1, 0, 0])]);
    gateway.tcp(&ask("T.ExAmPlE")).await;
    gateway.pass(LATE);
    for _ in 0..2 {
        gateway.begin(Transport::Tcp, &ask("t.EXAMPLE").0).at_once();
    }
    settle(&gateway).await;
    let asked = gateway.upstream.asked.lock().unwrap();
    let [_, refresh] = asked.as_slice() else { panic!("asked {} times", asked.len()) };
    assert_eq!(*refresh.question, query("t.example").0[12..]);
    assert!(refresh.recursion_desired && refresh.checking_disabled && refresh.dnssec_ok && refresh.authentic_data);
    assert!(!refresh.prefer_stream && refresh.padding);
}

#[tokio::test]
async fn a_refresh_that_fails_leaves_the_answer_for_the_rest_of_its_life() {
    let failures: [fn(&crate::upstream::Ask) -> Play; 2] =
        [|_| Play::Fail(Cause::Timeout), |ask| Play::Answer(Built::to(ask).rcode(rcode::SERVFAIL))];
    for (at, play) in failures.into_iter().enumerate() {
        let failing = Arc::new(AtomicBool::new(false));
        let is_failing = Arc::clone(&failing);
        let gateway = running(Gateway::new(move |ask| {
            if is_failing.load(Relaxed) { play(ask) } else { Play::Answer(Built::to(ask).a(100, 1)) }
        }));
        gateway.udp(&query("t.example")).await;
        failing.store(true, Relaxed);
        gateway.pass(LATE);
        hit(&gateway, "t.example");
        hit(&gateway, "t.example");
        settle(&gateway).await;
        assert_eq!(gateway.asked(), 2);
        gateway.pass(2);
        let got = hit(&gateway, "t.example");
        assert_eq!((got.rdata(0), got.facts.trail.refresh), (&[192, 0, 2, 1][..], Refresh::Unasked), "failure {at}");
        assert!((1..=6).contains(&got.ttls()[0]));
        assert_eq!((gateway.counters.refreshes.value(), gateway.counters.refreshes_dropped.value()), (1, 0));
        assert_eq!(gateway.counters.refreshes_done.value(), 0);
        settle(&gateway).await;
        assert_eq!(gateway.asked(), 2, "once in a life");
    }
}

#[tokio::test]
async fn what_is_being_asked_for_is_not_asked_for_again() {
    let gateway = lasting(100);
    gateway.udp(&query("t.example")).await;
    let keys = {
        let address = "192.0.2.9:5353".parse().unwrap();
        let peer = Peer::new(address, address, DoorId(0), Transport::Udp);
        let message = query("t.example").0;
        Keys::new(
            gateway.pipeline.shared.exchange.route(&[]),
            &Walk::of_query(&Query::parse(&message, &peer, Moment(0)).unwrap(), Transport::Udp, 1232),
            None,
        )
    };
    let Ticket::Lead(lead) = gateway.pipeline.shared.join(&keys, || false) else { panic!("somebody else leads") };
    gateway.pass(LATE);
    hit(&gateway, "t.example");
    hit(&gateway, "t.example");
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    drop(lead);
    settle(&gateway).await;
    assert_eq!((gateway.counters.refreshes.value(), gateway.asked()), (1, 1));
}

/// Asks for `count` names, and again when it is time to renew them.
async fn many(gateway: &Gateway, count: usize) -> Vec<Refresh> {
    let names: Vec<String> = (0..count).map(|n| format!("n{n}.zone{n}.example")).collect();
    for name in &names {
        gateway.udp(&query(name)).await;
        hit(gateway, name);
    }
    gateway.pass(LATE);
    names.iter().map(|name| hit(gateway, name).facts.trail.refresh).collect()
}

#[tokio::test]
async fn refreshes_that_find_no_room_in_the_queue_are_dropped_and_counted() {
    let gateway = Gateway::new(|ask| Play::Answer(Built::to(ask).a(100, 1)));
    let refreshes = many(&gateway, QUEUE + 3).await;
    let (queued, dropped) = refreshes.split_at(QUEUE);
    assert!(queued.iter().all(|&refresh| refresh == Refresh::Queued));
    assert_eq!(dropped, [Refresh::Dropped; 3]);
    let counters = &gateway.counters;
    assert_eq!((counters.refreshes.value(), counters.refreshes_dropped.value()), (QUEUE as u64, 3));
}

#[tokio::test(start_paused = true)]
async fn so_many_refreshes_are_under_way_at_a_time_and_each_ends() {
    let hanging = Arc::new(AtomicBool::new(false));
    let is_hanging = Arc::clone(&hanging);
    let gateway = running(Gateway::new(move |ask| {
        if is_hanging.load(Relaxed) { Play::Hang } else { Play::Answer(Built::to(ask).a(100, 1)) }
    }));
    let count = UNDER_WAY + 9;
    let refreshes = many(&gateway, count).await;
    assert!(refreshes.iter().all(|&refresh| refresh == Refresh::Queued));
    hanging.store(true, Relaxed);
    for _ in 0..500 {
        tokio::task::yield_now().await;
    }
    assert_eq!((gateway.asked(), gateway.pipeline.shared.joins_in_flight()), (count + UNDER_WAY, UNDER_WAY));
    // Each is given up after ten seconds, and makes room.
    tokio::time::sleep(std::time::Duration::from_secs(11)).await;
    assert_eq!((gateway.asked(), gateway.pipeline.shared.joins_in_flight()), (2 * count, 9));
    tokio::time::sleep(std::time::Duration::from_secs(11)).await;
    assert_eq!((gateway.pipeline.shared.joins_in_flight(), gateway.counters.refreshes_done.value()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_joins_a_refresh_waits_its_own_time() {
    let hanging = Arc::new(AtomicBool::new(false));
    let is_hanging = Arc::clone(&hanging);
    let cache = cache::Settings { stale_window: std::time::Duration::ZERO, ..cache::Settings::default() };
    let gateway = running(Gateway::with(Plan { cache, ..Plan::default() }, move |ask| {
        if is_hanging.load(Relaxed) { Play::Hang } else { Play::Answer(Built::to(ask).a(100, 1)) }
    }));
    many(&gateway, 1).await;
    hanging.store(true, Relaxed);
    while gateway.asked() < 2 {
        tokio::task::yield_now().await;
    }
    // The refresh has nine seconds left, the client its four.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    gateway.pass(8);
    let began = tokio::time::Instant::now();
    let got = gateway.udp(&query("n0.zone0.example")).await;
    assert_eq!((got.rcode(), gateway.asked(), gateway.counters.joined.value()), (rcode::SERVFAIL, 2, 1));
    let waited = began.elapsed().as_millis();
    assert!((4000..4100).contains(&waited), "{waited} ms");
}

#[tokio::test]
async fn a_refresh_that_dies_takes_no_other_with_it() {
    let dying = Arc::new(AtomicBool::new(false));
    let is_dying = Arc::clone(&dying);
    let gateway = running(Gateway::new(move |ask| {
        if is_dying.load(Relaxed) && ask.question.starts_with(b"\x02n0") {
            Play::Panic
        } else {
            Play::Answer(Built::to(ask).a(100, 1))
        }
    }));
    let refreshes = many(&gateway, UNDER_WAY + 2).await;
    dying.store(true, Relaxed);
    assert!(refreshes.iter().all(|&refresh| refresh == Refresh::Queued));
    settle(&gateway).await;
    while gateway.asked() < 2 * (UNDER_WAY + 2) {
        tokio::task::yield_now().await;
    }
    settle(&gateway).await;
    assert_eq!(gateway.counters.panics.value(), 1);
    assert_eq!(gateway.counters.refreshes_done.value(), UNDER_WAY as u64 + 1);
    assert!(hit(&gateway, "n1.zone1.example").ttls()[0] > 50);
}
