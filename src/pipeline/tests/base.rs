//! GEN, TTL and SEC: the message itself, its ages and its bits.

use super::rig::{Built, Gateway, Plan, Play, wire};
use crate::cache;
use crate::peer::Transport;
use crate::pipeline::tests::rig::Begun;
use crate::reply::{Scope, Source, Why};
use crate::trail::{Cut, Decision, Here, Recall, UpstreamId};
use crate::wire::registry::{rcode, rtype};
use crate::wire::{Flags, HEADER_LEN, Header, Section, name, patch};
use std::time::Duration;

fn simple() -> Gateway {
    Gateway::new(|ask| Play::Answer(Built::to(ask).flags(Flags::AA, true).a(300, 1)))
}

#[tokio::test]
async fn gen_01_02_03_04_id_case_rd_and_flags_are_the_askers_own_cold_and_warm() {
    let gateway = simple();
    for (name, rd) in [("wWw.ExAmPle.com", true), ("WWW.example.COM", true), ("www.example.com", false)] {
        let query = Built::query(name, rtype::A).flags(Flags::RD, rd);
        let got = gateway.udp(&query).await;
        assert_eq!((got.header.id, got.has(Flags::RD)), (0xbeef, rd));
        assert!(got.has(Flags::QR | Flags::RA) && !got.has(Flags::AA) && !got.has(Flags::TC));
        assert_eq!(got.message[HEADER_LEN..HEADER_LEN + wire(name).len()], wire(name));
        assert_eq!(got.rdata(0), [192, 0, 2, 1]);
    }
    assert_eq!(gateway.asked(), 1, "RD=0 is answered from what was learned with RD=1 (GEN-26)");
}

#[tokio::test]
async fn gen_05_07_19_records_pass_byte_for_byte_in_order() {
    let odd = [0xc0, 0x0c, 0, 1];
    let gateway = Gateway::new(move |ask| {
        let built = Built::to(ask).record(Section::Answer, &[0xc0, 12], (65280, 9), &odd);
        Play::Answer(built.record(Section::Answer, &[0xc0, 12], (65280, 9), &[]).opt(0, false, &[]))
    });
    for _ in 0..2 {
        let got = gateway.tcp(&Built::query("t.example", 65280)).await;
        assert_eq!((got.rdata(0), got.rdata(1)), (&odd[..], &[][..]));
    }
}

#[tokio::test]
async fn gen_11_12_13_14_15_what_is_no_query_is_told_so_or_dropped() {
    let gateway = simple();
    let query = Built::query("a.example", rtype::A);
    let mut two = query.clone();
    patch::put_u16(&mut two.0, 4, 2);
    two.0.extend_from_slice(&query.0[HEADER_LEN..]);
    assert_eq!(gateway.udp(&two).await.rcode(), rcode::FORMERR);
    let none = Built(Header { id: 1, ..Header::default() }.to_octets().to_vec());
    assert_eq!(gateway.udp(&none).await.rcode(), rcode::FORMERR);
    let response = query.clone().flags(Flags::QR, true);
    assert!(matches!(gateway.begin(Transport::Udp, &response.0), Begun::Dropped(Why::NotAQuery)));
    assert!(matches!(gateway.begin(Transport::Udp, &[0; 11]), Begun::Dropped(Why::NotAQuery)));
    assert_eq!(gateway.counters.dropped[0].value(), 2);
    let mut trailing = query.clone();
    trailing.0.extend_from_slice(b"junk");
    assert_eq!(gateway.udp(&trailing).await.message.len(), query.0.len() + 16);
    assert_eq!(gateway.asked(), 1);
}

#[tokio::test]
async fn gen_17_18_an_rrset_is_served_with_its_lowest_ttl() {
    let gateway = Gateway::new(|ask| {
        let owner = wire("T.example");
        let built = Built::to(ask).a(10, 1).record(Section::Answer, &owner, (rtype::A, 300), &[192, 0, 2, 2]);
        Play::Answer(built.record(Section::Authority, &wire("example"), (rtype::NS, 60), &wire("ns.example")))
    });
    assert_eq!(gateway.udp(&Built::query("t.example", rtype::A)).await.ttls(), [10, 10, 60]);
}

fn large(answers: u8, additionals: u8) -> Gateway {
    Gateway::new(move |ask| {
        let built = (0..answers).fold(Built::to(ask), |built, last| built.a(300, last));
        Play::Answer((0..additionals).fold(built, |built, last| {
            built.record(Section::Additional, &wire("ns.example"), (rtype::A, 300), &[192, 0, 2, last])
        }))
    })
}

#[tokio::test]
async fn gen_20_additional_data_that_does_not_fit_goes_without_tc() {
    let gateway = large(20, 30);
    for _ in 0..2 {
        let got = gateway.udp(&Built::query("t.example", rtype::A)).await;
        assert_eq!((got.records.len(), got.has(Flags::TC)), (20, false));
        assert!(got.facts.trail.cut.has(Cut::ADDITIONAL) && !got.facts.trail.cut.has(Cut::TRUNCATED));
    }
    assert_eq!(gateway.tcp(&Built::query("t.example", rtype::A)).await.records.len(), 50);
}

#[tokio::test]
async fn gen_21_22_ttl_07_size_is_the_askers_matter_and_tc_replies_are_empty() {
    for order in [[Transport::Udp, Transport::Dot], [Transport::Dot, Transport::Udp]] {
        let gateway = large(60, 0);
        for transport in order {
            let got = gateway.over(transport, &Built::query("t.example", rtype::A)).await;
            assert_eq!(got.has(Flags::TC), transport.is_datagram());
            assert_eq!(got.records.len(), if transport.is_datagram() { 0 } else { 60 });
            assert!(!transport.is_datagram() || got.message.len() <= 512);
        }
        assert_eq!((gateway.asked(), gateway.counters.truncated.value()), (1, 1));
        let with_opt = gateway.udp(&Built::query("t.example", rtype::A).sized(600)).await;
        assert!(with_opt.has(Flags::TC) && with_opt.edns.is_some(), "OPT stays in a truncated reply");
        assert!(!gateway.udp(&Built::query("t.example", rtype::A).sized(1232)).await.has(Flags::TC));
    }
}

#[tokio::test]
async fn gen_23_every_type_and_class_goes_up_and_class_is_part_of_the_key() {
    let gateway = Gateway::new(|ask| Play::Answer(Built::to(ask)));
    for (rtype, class) in [(65399u16, 65280u16), (rtype::TXT, 3), (rtype::TXT, 1), (0, 1), (rtype::ANY, 255)] {
        let mut query = Built::query("x.example", rtype);
        let at = query.0.len() - 2;
        patch::put_u16(&mut query.0, at, class);
        assert_eq!(gateway.udp(&query).await.rcode(), rcode::NOERROR);
    }
    assert_eq!(gateway.asked(), 5);
}

#[tokio::test]
async fn gen_24_zone_transfers_are_refused_on_every_transport() {
    let gateway = simple();
    for transport in Transport::ALL {
        for rtype in [rtype::AXFR, rtype::IXFR] {
            let got = gateway.over(transport, &Built::query("example", rtype).sized(1232)).await;
            assert_eq!((got.rcode(), got.edes()), (rcode::REFUSED, vec![21]));
        }
    }
    assert_eq!(gateway.asked(), 0);
}

#[tokio::test]
async fn gen_26_rd_0_goes_up_as_such_and_teaches_nobody() {
    let gateway = simple();
    let cold = Built::query("t.example", rtype::A).flags(Flags::RD, false);
    gateway.udp(&cold).await;
    gateway.udp(&cold).await;
    gateway.udp(&Built::query("t.example", rtype::A)).await;
    let asked: Vec<bool> = gateway.upstream.asked.lock().unwrap().iter().map(|ask| ask.recursion_desired).collect();
    assert_eq!(asked, [false, false, true]);
}

#[tokio::test]
async fn ttl_01_02_08_ttls_count_down_and_the_whole_ends_with_the_shortest() {
    for section in [Section::Authority, Section::Additional] {
        ends_with_the_shortest_in(section).await;
    }
}

async fn ends_with_the_shortest_in(section: Section) {
    let gateway = Gateway::new(move |ask| {
        let built = Built::to(ask).a(60, 1);
        Play::Answer(built.record(section, &wire("example"), (rtype::NS, 7), &wire("ns.example")))
    });
    let query = Built::query("t.example", rtype::A).opt(0, true, &[]);
    assert_eq!(gateway.udp(&query).await.facts.source, Source::Upstream);
    gateway.pass(3);
    let hit = gateway.begin(Transport::Udp, &query.0).at_once();
    assert_eq!(hit.ttls(), [57, 4]);
    assert!(hit.edns.unwrap().dnssec_ok, "the TTL of OPT is none");
    assert_eq!(hit.facts.source, Source::Cache);
    assert_eq!(hit.facts.trail.recall, Recall::Hit { age: 3, left: 4, supplier: UpstreamId(7) });
    assert_eq!((hit.facts.freshness.max_age, hit.facts.freshness.scope), (57, Scope::Public));
    gateway.pass(4);
    gateway.udp(&query).await;
    assert_eq!(gateway.asked(), 2);
}

#[tokio::test]
async fn ttl_03_05_11_ttls_are_unsigned_and_capped_but_not_lifted() {
    let cache = cache::Settings { max_ttl: Duration::from_hours(24 * 7), ..cache::Settings::default() };
    let gateway = Gateway::with(Plan { cache, ..Plan::default() }, |ask| {
        Play::Answer(Built::to(ask).a(if ask.question[1] == b'h' { 0x8000_0000 } else { 1 }, 1))
    });
    assert_eq!(gateway.udp(&Built::query("h.example", rtype::A)).await.ttls(), [604_800]);
    let short = Built::query("s.example", rtype::A);
    assert_eq!(gateway.udp(&short).await.ttls(), [1]);
    gateway.pass(2);
    gateway.udp(&short).await;
    assert_eq!(gateway.asked(), 3);
}

#[tokio::test]
async fn ttl_04_a_zero_ttl_is_relayed_once() {
    let gateway = Gateway::new(|ask| Play::Answer(Built::to(ask).a(0, 1)));
    for asked in 1..3 {
        let got = gateway.udp(&Built::query("t.example", rtype::A)).await;
        assert_eq!((got.ttls(), gateway.asked()), (vec![0], asked));
        assert_eq!(got.facts.freshness.scope, Scope::NoStore);
    }
}

#[tokio::test]
async fn ttl_09_do_and_cd_are_part_of_the_key_and_ad_is_not() {
    let gateway = simple();
    for _ in 0..2 {
        for (dnssec, cd, ad) in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0), (0, 0, 1)] {
            let query = Built::query("t.example", rtype::A).flags(Flags::CD, cd == 1).flags(Flags::AD, ad == 1);
            let got = gateway.udp(&query.opt(0, dnssec == 1, &[])).await;
            assert_eq!(got.has(Flags::CD), cd == 1, "sec_01: CD is copied, cold and warm");
        }
    }
    let asked = gateway.upstream.asked.lock().unwrap();
    let bits: Vec<_> = asked.iter().map(|ask| (ask.dnssec_ok, ask.checking_disabled)).collect();
    assert_eq!(bits, [(false, false), (true, false), (false, true), (true, true)], "sec_02");
}

#[tokio::test]
async fn ttl_16_additional_addresses_answer_nobodys_question() {
    let gateway = Gateway::new(|ask| {
        let built = Built::to(ask).a(300, 1);
        Play::Answer(built.record(Section::Additional, &wire("victim.example"), (rtype::A, 300), &[6, 6, 6, 6]))
    });
    gateway.udp(&Built::query("t.example", rtype::A)).await;
    gateway.udp(&Built::query("victim.example", rtype::A)).await;
    assert_eq!(gateway.asked(), 2);
}

#[tokio::test]
async fn sec_06_07_ad_is_for_those_who_ask_and_only_from_trusted_legs() {
    for trusted in [true, false] {
        let gateway = Gateway::with(Plan { trusted, ..Plan::default() }, |ask| {
            Play::Answer(Built::to(ask).flags(Flags::AD, true).a(300, 1))
        });
        for _ in 0..2 {
            for (dnssec, ad, wanted) in [(false, false, false), (true, false, true), (false, true, true)] {
                let query = Built::query("t.example", rtype::A).flags(Flags::AD, ad).opt(0, dnssec, &[]);
                assert_eq!(gateway.udp(&query).await.has(Flags::AD), wanted && trusted);
            }
        }
        let local = Built::query("localhost", rtype::A).opt(0, true, &[]);
        assert!(!gateway.udp(&local).await.has(Flags::AD), "sec_08: nothing made here is authentic");
    }
}

#[tokio::test]
async fn sud_and_ddr_special_names_are_answered_here_with_authority() {
    let gateway = simple();
    let here = Here::Special;
    let names = [("LocalHost", 0), ("x.invalid", 3), ("abc.onion", 3), ("_dns.resolver.arpa", 0)];
    for (name, rcode) in names {
        let got = gateway.begin(Transport::Dot, &Built::query(name, rtype::A).0).at_once();
        assert_eq!(got.rcode(), rcode, "{name}");
        assert!(got.has(Flags::AA | Flags::RA | Flags::RD));
        assert_eq!((got.facts.source, got.facts.trail.decision), (Source::Local, Decision::Local(here)));
        assert_eq!(got.facts.freshness.max_age, 10_800);
        assert_eq!(got.message[HEADER_LEN..HEADER_LEN + wire(name).len()], wire(name));
        assert!(name::is_under(&wire(name), &got.owner(0).to_ascii_lowercase()));
    }
    assert_eq!(gateway.asked(), 0);
    assert_eq!(gateway.counters.local[here as usize].value(), 4);
}
