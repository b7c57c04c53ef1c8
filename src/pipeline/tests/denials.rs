//! NEG: what does not exist, and for how long (RFC 2308, RFC 6604).

use super::rig::{Built, Gateway, Play, wire};
use crate::peer::Transport;
use crate::reply::Scope;
use crate::wire::registry::{rcode, rtype};
use crate::wire::{Section, patch};

fn denying(rcode: u16, ttl: u32, minimum: u32) -> Gateway {
    Gateway::new(move |ask| Play::Answer(Built::to(ask).rcode(rcode).soa("example", ttl, minimum)))
}

#[tokio::test]
async fn neg_01_04_doh_12_a_denial_lives_for_the_smaller_of_soa_ttl_and_minimum() {
    for code in [rcode::NXDOMAIN, rcode::NOERROR] {
        for (ttl, minimum) in [(250, 5), (5, 250)] {
            let gateway = denying(code, ttl, minimum);
            let query = Built::query("nx.example", rtype::A);
            let got = gateway.udp(&query).await;
            assert_eq!((got.rcode(), got.ttls(), got.facts.freshness.max_age), (code, vec![5], 5));
            gateway.pass(3);
            let hit = gateway.begin(Transport::Udp, &query.0).at_once();
            assert_eq!((hit.types(), hit.ttls(), hit.facts.freshness.max_age), (vec![rtype::SOA], vec![2], 2));
            gateway.pass(3);
            gateway.udp(&query).await;
            assert_eq!(gateway.asked(), 2);
        }
    }
}

#[tokio::test]
async fn neg_02_nodata_is_of_one_type() {
    let gateway = denying(rcode::NOERROR, 60, 60);
    gateway.udp(&Built::query("x.example", rtype::AAAA)).await;
    gateway.udp(&Built::query("x.example", rtype::A)).await;
    assert_eq!(gateway.asked(), 2);
}

#[tokio::test]
async fn neg_06_denials_are_capped() {
    let gateway = denying(rcode::NXDOMAIN, 604_800, 604_800);
    assert_eq!(gateway.udp(&Built::query("x.example", rtype::A)).await.ttls(), [300]);
}

/// The RDATA of an SOA, and `over` octets too many.
fn soa(over: usize) -> Vec<u8> {
    let numbers = [1, 2, 3, 4, 60_u32].map(u32::to_be_bytes).concat();
    [wire("ns.example"), wire("admin.example"), numbers, vec![0; over]].concat()
}

#[tokio::test]
async fn neg_05_09_10_what_proves_no_lifetime_is_relayed_and_not_kept() {
    let shapes: [fn(Built) -> Built; 9] = [
        |built| built.rcode(rcode::NXDOMAIN),
        |built| built,
        |built| built.record(Section::Authority, &wire("example"), (rtype::NS, 60), &wire("ns.example")),
        |built| built.rcode(rcode::NXDOMAIN).soa("other.test", 60, 60),
        |built| built.soa("deeper.x.example", 60, 60),
        // Of another class, of another length than it says, and beside the matter.
        |built| {
            let class = built.0.len() + wire("example").len() + 2;
            let mut built = built.rcode(rcode::NXDOMAIN).soa("example", 60, 60);
            patch::put_u16(&mut built.0, class, 3);
            built
        },
        |built| built.record(Section::Authority, &wire("example"), (rtype::SOA, 60), &soa(1)),
        |built| built.record(Section::Additional, &wire("example"), (rtype::SOA, 60), &soa(0)),
        |built| {
            let built = built.record(Section::Answer, &[0xc0, 12], (rtype::CNAME, 60), &wire("y.example"));
            built.record(Section::Additional, &wire("example"), (rtype::SOA, 60), &soa(0))
        },
    ];
    for (at, shape) in shapes.into_iter().enumerate() {
        let gateway = Gateway::new(move |ask| Play::Answer(shape(Built::to(ask))));
        for asked in 1..3 {
            let got = gateway.udp(&Built::query("x.example", rtype::A)).await;
            assert_eq!((gateway.asked(), got.facts.freshness.scope), (asked, Scope::NoStore), "shape {at}");
        }
    }
}

#[tokio::test]
async fn neg_07_proofs_are_kept_for_those_who_ask_for_them() {
    let gateway = Gateway::new(|ask| {
        let built = Built::to(ask).rcode(rcode::NXDOMAIN).soa("example", 60, 60);
        let built = built.record(Section::Authority, &wire("example"), (rtype::RRSIG, 60), &[0, 6, 1, 2]);
        Play::Answer(built.record(Section::Authority, &wire("a.example"), (rtype::NSEC, 60), &wire("z.example")))
    });
    let query = Built::query("x.example", rtype::A).opt(0, true, &[]);
    for _ in 0..2 {
        assert_eq!(gateway.udp(&query).await.types(), [rtype::SOA, rtype::RRSIG, rtype::NSEC]);
    }
    assert_eq!(gateway.asked(), 1);
}

#[tokio::test]
async fn neg_08_10_a_chain_to_nowhere_denies_its_end_and_only_for_the_question() {
    let gateway = Gateway::new(|ask| {
        let built = Built::to(ask).rcode(rcode::NXDOMAIN).cname(40, "gone.example");
        Play::Answer(built.soa("example", 60, 60))
    });
    let query = Built::query("alias.invest", rtype::A);
    let got = gateway.udp(&query).await;
    assert_eq!((got.rcode(), got.facts.freshness.max_age), (rcode::NXDOMAIN, 40));
    gateway.begin(Transport::Udp, &query.0).at_once();
    gateway.udp(&Built::query("alias.invest", rtype::MX)).await;
    assert_eq!(gateway.asked(), 2);
}

#[tokio::test]
async fn neg_10_the_soa_must_stand_above_the_end_of_the_chain() {
    let gateway = Gateway::new(|ask| Play::Answer(Built::to(ask).cname(40, "end.example").soa("invest", 60, 60)));
    let query = Built::query("alias.invest", rtype::A);
    gateway.udp(&query).await;
    gateway.udp(&query).await;
    assert_eq!(gateway.asked(), 2);
}

#[tokio::test]
async fn ttl_10_a_denial_that_brings_what_it_denies_is_relayed_and_not_kept() {
    let gateway =
        Gateway::new(|ask| Play::Answer(Built::to(ask).rcode(rcode::NXDOMAIN).a(60, 1).soa("example", 60, 60)));
    for asked in 1..3 {
        let got = gateway.udp(&Built::query("x.example", rtype::A)).await;
        assert_eq!((got.rcode(), got.header.answers, gateway.asked()), (rcode::NXDOMAIN, 1, asked));
    }
}
