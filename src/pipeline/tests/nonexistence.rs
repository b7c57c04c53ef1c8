//! NEG-03 and kin: a name that does not exist has no records of any type (RFC 2308 5).

use std::sync::Arc;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering::Relaxed;

use super::rig::{Built, Gateway, Plan, Play, wire};
use crate::peer::Transport;
use crate::trail::Recall;
use crate::wire::registry::{rcode, rtype};
use crate::wire::{Flags, Section};

/// A gateway whose upstream says what the number says: NXDOMAIN for 3, NODATA for 0, an A record of TTL 60 for 1.
fn saying(first: u16) -> (Gateway, Arc<AtomicU16>) {
    let says = Arc::new(AtomicU16::new(first));
    let script = Arc::clone(&says);
    let gateway = Gateway::new(move |ask| {
        let built = Built::to(ask);
        Play::Answer(match script.load(Relaxed) {
            1 => built.a(60, 1),
            code => built.rcode(code).soa("example", 60, 60),
        })
    });
    (gateway, says)
}

#[tokio::test]
async fn neg_03_a_name_that_does_not_exist_has_no_type_for_whoever_asks_next() {
    let (gateway, _) = saying(rcode::NXDOMAIN);
    gateway.udp(&Built::query("x.example", rtype::A)).await;
    gateway.pass(3);
    for asked in [rtype::A, rtype::AAAA, rtype::MX, rtype::ANY, rtype::NSEC, 65_280, 0] {
        let query = Built::query("X.Example", asked);
        let got = gateway.begin(Transport::Udp, &query.0).at_once();
        assert_eq!((got.rcode(), got.ttls()), (rcode::NXDOMAIN, vec![57]), "type {asked}");
        assert_eq!(got.message[12..query.0.len()], query.0[12..], "the asker's question");
        assert!(matches!(got.facts.trail.recall, Recall::Hit { age: 3, left: 57, .. }));
    }
    let without_recursion = Built::query("x.example", rtype::TXT).flags(Flags::RD, false);
    assert_eq!(gateway.begin(Transport::Udp, &without_recursion.0).at_once().rcode(), rcode::NXDOMAIN);
    assert_eq!(gateway.asked(), 1);
    for other in [
        Built::query("y.example", rtype::A),
        Built::query("a.x.example", rtype::A),
        Built::query("x.example", rtype::A).opt(0, true, &[]),
        Built::query("x.example", rtype::A).flags(Flags::CD, true),
    ] {
        let before = gateway.asked();
        gateway.udp(&other).await;
        assert_eq!(
            gateway.asked(),
            before + 1,
            "NEG-20: nothing is said of other names, nor to those who ask otherwise"
        );
    }
    gateway.pass(58);
    let before = gateway.asked();
    gateway.udp(&Built::query("x.example", rtype::MX)).await;
    assert_eq!(gateway.asked(), before + 1, "it ends with its SOA");
}

#[tokio::test]
async fn neg_03_data_that_arrives_ends_the_denial_and_a_denial_ends_the_data() {
    for exists in [1, rcode::NOERROR] {
        let gateway = Gateway::with(Plan { held: true, ..Plan::default() }, move |ask| {
            let built = Built::to(ask);
            Play::Answer(match (ask.question.ends_with(&[0, 1, 0, 1]), exists) {
                (true, _) => built.rcode(rcode::NXDOMAIN).soa("example", 60, 60),
                (false, 1) => built.record(Section::Answer, &[0xc0, 12], (rtype::TXT, 60), &[1, b'x']),
                (false, _) => built.soa("example", 60, 60),
            })
        });
        let (a, txt) = (Built::query("x.example", rtype::A), Built::query("x.example", rtype::TXT));
        let releasing = async {
            // Both are under way before either is answered; the denial lands first.
            while gateway.asked() < 2 {
                tokio::task::yield_now().await;
            }
            gateway.upstream.gate.add_permits(9);
        };
        let (denied, told, ()) = tokio::join!(gateway.udp(&a), gateway.udp(&txt), releasing);
        assert_eq!((denied.rcode(), told.rcode()), (rcode::NXDOMAIN, rcode::NOERROR));
        assert_eq!(gateway.begin(Transport::Udp, &txt.0).at_once().rcode(), rcode::NOERROR);
        gateway.udp(&a).await;
        assert_eq!(gateway.asked(), 3, "the name exists by now");
    }
    let (gateway, says) = saying(1);
    let query = Built::query("x.example", rtype::A);
    gateway.udp(&query).await;
    gateway.pass(60);
    says.store(rcode::NXDOMAIN, Relaxed);
    gateway.udp(&query).await;
    assert_eq!(gateway.begin(Transport::Udp, &query.0).at_once().rcode(), rcode::NXDOMAIN);
    assert_eq!(gateway.pipeline.shared.cache().stats().entries, 1, "the expired answer is gone: it can never stand in");
}

#[tokio::test]
async fn neg_03_no_data_for_type_0_denies_no_other_type() {
    for says in [rcode::NOERROR, 1] {
        let (gateway, _) = saying(says);
        gateway.udp(&Built::query("x.example", 0)).await;
        gateway.udp(&Built::query("x.example", rtype::A)).await;
        assert_eq!(gateway.asked(), 2);
    }
}

#[tokio::test]
async fn neg_03_and_sec_04_proofs_fetched_by_type_never_reach_those_who_want_none() {
    let gateway = Gateway::new(|ask| {
        let built = Built::to(ask).rcode(rcode::NXDOMAIN).soa("example", 60, 60);
        Play::Answer(built.record(Section::Authority, &wire("a.example"), (rtype::NSEC, 60), &wire("z.example")))
    });
    for (name, proofs) in [("x.example", rtype::NSEC), ("y.example", rtype::ANY)] {
        let before = gateway.asked();
        let query = Built::query(name, proofs);
        assert_eq!(gateway.udp(&query).await.types(), [rtype::SOA, rtype::NSEC]);
        assert_eq!(gateway.udp(&Built::query(name, rtype::A)).await.types(), [rtype::SOA]);
        assert_eq!(gateway.asked(), before + 2);
    }
}

#[tokio::test]
async fn neg_08_at_the_end_of_an_alias_another_name_does_not_exist() {
    let gateway = Gateway::new(|ask| {
        let built = Built::to(ask).rcode(rcode::NXDOMAIN).cname(60, "gone.example");
        Play::Answer(built.soa("example", 60, 60))
    });
    gateway.udp(&Built::query("alias.example", rtype::A)).await;
    assert_eq!(gateway.begin(Transport::Udp, &Built::query("alias.example", rtype::A).0).at_once().rcode(), 3);
    gateway.udp(&Built::query("alias.example", rtype::MX)).await;
    gateway.udp(&Built::query("gone.example", rtype::A)).await;
    assert_eq!(gateway.asked(), 3);
}

#[tokio::test]
async fn neg_21_no_denial_is_made_up_from_the_proofs_of_another() {
    let gateway = Gateway::new(|ask| {
        let built = Built::to(ask).rcode(rcode::NXDOMAIN).soa("example", 60, 60);
        Play::Answer(built.record(Section::Authority, &wire("a.example"), (rtype::NSEC, 60), &wire("z.example")))
    });
    for name in ["m.example", "n.example"] {
        gateway.udp(&Built::query(name, rtype::A).opt(0, true, &[])).await;
    }
    assert_eq!(gateway.asked(), 2, "covered by the same NSEC, but nothing here has validated it");
}
