//! Many made-up names of one domain: they fill the places of that domain and nobody else's.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use super::rig::{Begun, Built, Gateway, Plan, Play, settings};
use crate::peer::Transport;
use crate::pipeline::Settings;
use crate::reply::{Pending, Verdict};
use crate::trail::{Join, Recall};
use crate::upstream::error::Cause;
use crate::wire::registry::{rcode, rtype};

fn plan(outstanding_per_domain: u16, held: bool) -> Plan {
    Plan { settings: Settings { outstanding_per_domain, ..settings() }, held, ..Plan::default() }
}

fn query(name: &str) -> Built {
    Built::query(name, rtype::A).opt(0, false, &[])
}

fn later(gateway: &Gateway, name: &str) -> Pending {
    match gateway.begin(Transport::Udp, &query(name).0) {
        Begun::Later(pending) => pending,
        Begun::Sent(_) | Begun::Dropped(_) => panic!("answered at once"),
    }
}

async fn asked(gateway: &Gateway, count: usize) {
    while gateway.asked() < count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_domain_with_all_places_taken_is_a_servfail_that_says_so_and_other_domains_are_asked() {
    let gateway = Gateway::with(plan(5, true), |ask| Play::Answer(Built::to(ask).a(300, 1)));
    let flood: Vec<_> = (0..5).map(|n| tokio::spawn(later(&gateway, &format!("n{n}.victim.example")))).collect();
    asked(&gateway, 5).await;
    for transport in Transport::ALL {
        let got = gateway.over(transport, &query("one-more.victim.example")).await;
        assert_eq!((got.rcode(), got.edes(), got.facts.trail.join), (rcode::SERVFAIL, vec![0], Join::Crowded));
    }
    let joined = tokio::spawn(later(&gateway, "n0.victim.example"));
    let good = tokio::spawn(later(&gateway, "www.good.example"));
    asked(&gateway, 6).await;
    gateway.upstream.gate.add_permits(6);
    for waiting in flood.into_iter().chain([joined, good]) {
        let Verdict::Sent(reply) = waiting.await.unwrap() else { panic!("dropped") };
        assert_eq!(reply.facts.rcode, rcode::NOERROR);
    }
    assert_eq!((gateway.counters.crowded.value(), gateway.asked()), (Transport::ALL.len() as u64, 6));
    gateway.upstream.gate.add_permits(1);
    let got = gateway.udp(&query("one-more.victim.example")).await;
    assert_eq!((got.rcode(), got.facts.trail.recall), (rcode::NOERROR, Recall::Miss), "it was no failure of the name");
}

#[tokio::test(start_paused = true)]
async fn places_come_back_however_a_flight_ends() {
    let plays: [fn(&crate::upstream::Ask) -> Play; 5] = [
        |ask| Play::Answer(Built::to(ask).a(300, 1)),
        |_| Play::Raw(vec![0xff; 40]),
        |_| Play::Fail(Cause::Timeout),
        |_| Play::Panic,
        |_| Play::Hang,
    ];
    for (at, play) in plays.into_iter().enumerate() {
        let good = Arc::new(AtomicBool::new(false));
        let is_good = Arc::clone(&good);
        let gateway = Gateway::with(plan(1, false), move |ask| {
            if is_good.load(Relaxed) { Play::Answer(Built::to(ask).a(300, 1)) } else { play(ask) }
        });
        // The client leaves: its question goes on, and ends all the same.
        let client = tokio::spawn(later(&gateway, "first.victim.example"));
        asked(&gateway, 1).await;
        client.abort();
        let _ = client.await;
        while gateway.pipeline.shared.joins_in_flight() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        good.store(true, Relaxed);
        let got = gateway.udp(&query("second.victim.example")).await;
        assert_eq!((got.rcode(), got.facts.trail.join), (rcode::NOERROR, Join::Led), "after play {at}");
    }
}
