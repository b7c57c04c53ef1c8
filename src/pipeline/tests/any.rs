//! QTYPE ANY: of what an upstream knows one set is told (RFC 8482), or all of it where its sender is known to get it.

use super::rig::{Built, Gateway, Plan, Play, settings, wire};
use crate::peer::Transport;
use crate::pipeline::{AnyRule, Settings};
use crate::upstream::Ask;
use crate::wire::Section::{self, Additional, Answer, Authority};
use crate::wire::registry::{class, rcode, rtype};
use crate::wire::{Flags, patch, u16_at};

const QNAME: &[u8] = &[0xc0, 12];

/// The signature of a set of this type.
fn signature(built: Built, rtype: u16) -> Built {
    built.record(Answer, QNAME, (rtype::RRSIG, 60), &[&rtype.to_be_bytes()[..], &[0; 20]].concat())
}

/// An answer with three sets, each signed, the second the shortest.
fn three_sets(ask: &Ask) -> Built {
    let text = |built: Built| built.record(Answer, QNAME, (rtype::TXT, 60), &[1, b'x']);
    let built = signature(Built::to(ask).flags(Flags::AD, true), rtype::MX);
    let built = built.record(Answer, QNAME, (rtype::MX, 60), &[0, 1, 0xc0, 12]);
    let built = signature(text(text(built)).a(60, 1), rtype::TXT);
    let built = signature(built, rtype::A).record(Answer, QNAME, (rtype::MX, 60), &[0, 2, 0xc0, 12]);
    let built = built.record(Authority, &wire("example"), (rtype::NS, 60), &wire("ns.example"));
    built.record(Additional, &wire("ns.example"), (rtype::A, 60), &[192, 0, 2, 2])
}

fn any() -> Built {
    Built::query("t.example", rtype::ANY)
}

fn signed() -> Built {
    any().opt(0, true, &[])
}

#[tokio::test]
async fn any_01_one_set_is_told_and_kept_of_what_the_upstream_knows() {
    let gateway = Gateway::new(|ask| Play::Answer(three_sets(ask)));
    let got = gateway.udp(&any().flags(Flags::AD, true)).await;
    assert_eq!(got.types(), [rtype::MX, rtype::MX]);
    assert!(!got.has(Flags::AD) && !got.has(Flags::TC), "SEC-06: AD vouches for an answer as it was sent");
    for transport in [Transport::Udp, Transport::Tcp, Transport::Doh2] {
        assert_eq!(gateway.begin(transport, &any().0).at_once().message[6..], got.message[6..]);
    }
    assert_eq!(gateway.asked(), 1);
}

#[tokio::test]
async fn any_02_the_set_comes_with_its_signatures_for_those_who_want_proofs() {
    let gateway = Gateway::new(|ask| Play::Answer(three_sets(ask)));
    let got = gateway.udp(&signed()).await;
    assert_eq!(got.types(), [rtype::RRSIG, rtype::MX, rtype::MX, rtype::NS]);
    assert_eq!(u16_at(got.rdata(0), 0), Ok(rtype::MX));
}

#[tokio::test]
async fn any_02_of_an_alias_the_alias_is_told_with_what_it_was_made_from() {
    let alias = |ask: &Ask| signature(Built::to(ask).a(60, 1).cname(60, "x.example"), rtype::CNAME);
    let gateway = Gateway::new(move |ask| Play::Answer(alias(ask)));
    assert_eq!(gateway.udp(&any()).await.types(), [rtype::CNAME]);
    assert_eq!(gateway.udp(&signed()).await.types(), [rtype::CNAME, rtype::RRSIG]);

    let gateway = Gateway::new(|ask| {
        let built = Built::to(ask).record(Answer, &wire("example"), (rtype::DNAME, 60), &wire("example.org"));
        let proof = [&rtype::DNAME.to_be_bytes()[..], &[0; 20]].concat();
        let built = built.record(Answer, &wire("example"), (rtype::RRSIG, 60), &proof);
        Play::Answer(built.cname(60, "t.example.org"))
    });
    assert_eq!(gateway.udp(&any()).await.types(), [rtype::DNAME, rtype::CNAME]);
    assert_eq!(gateway.udp(&signed()).await.types(), [rtype::DNAME, rtype::RRSIG, rtype::CNAME]);
}

#[tokio::test]
async fn any_01_data_goes_before_proofs_and_signatures_alone_are_of_one_set() {
    let proof = |built: Built, rtype| built.record(Answer, QNAME, (rtype, 60), &[0; 4]);
    let gateway =
        Gateway::new(move |ask| Play::Answer(proof(proof(Built::to(ask), rtype::NSEC), rtype::DNSKEY).a(60, 1)));
    assert_eq!(gateway.udp(&any()).await.types(), [rtype::A]);
    let gateway = Gateway::new(move |ask| Play::Answer(signature(proof(Built::to(ask), rtype::DNSKEY), rtype::A)));
    assert_eq!(gateway.udp(&any()).await.types(), [rtype::DNSKEY]);
    let gateway = Gateway::new(move |ask| Play::Answer(signature(signature(Built::to(ask), rtype::A), rtype::MX)));
    assert_eq!(gateway.udp(&any()).await.types(), [rtype::RRSIG]);
}

#[tokio::test]
async fn any_01_denials_and_answers_of_one_set_are_as_they_were_sent() {
    let gateway = Gateway::new(|ask| Play::Answer(Built::to(ask).flags(Flags::AD, true).a(60, 1).a(60, 2)));
    let got = gateway.udp(&any().flags(Flags::AD, true)).await;
    assert!(got.types() == [rtype::A, rtype::A] && got.has(Flags::AD));
    let gateway = Gateway::new(|ask| Play::Answer(Built::to(ask).rcode(rcode::NXDOMAIN).soa("example", 60, 60)));
    let got = gateway.udp(&any()).await;
    assert_eq!((got.rcode(), got.types()), (rcode::NXDOMAIN, vec![rtype::SOA]));
    let short = |ask: &Ask| Built::to(ask).record(Section::Answer, QNAME, (rtype::RRSIG, 60), &[0]);
    let gateway = Gateway::new(move |ask| Play::Answer(short(ask)));
    assert_eq!(gateway.udp(&any()).await.rcode(), rcode::SERVFAIL);
}

#[tokio::test]
async fn any_01_all_that_is_known_goes_over_streams_alone() {
    let full = Plan { settings: Settings { any: AnyRule::Full, ..settings() }, ..Plan::default() };
    let gateway = Gateway::with(full, |ask| Play::Answer(three_sets(ask)));
    for asked in [any(), signed()] {
        let got = gateway.begin(Transport::Udp, &asked.0).at_once();
        assert_eq!((got.rcode(), got.has(Flags::TC), got.records.len()), (rcode::NOERROR, true, 0));
    }
    assert_eq!(gateway.asked(), 0);
    assert_eq!(gateway.tcp(&any()).await.records.len(), 10);
}

#[tokio::test]
async fn any_01_a_set_is_of_one_class_whatever_classes_were_asked_for() {
    let gateway = Gateway::new(|ask| {
        let mut built = Built::to(ask).a(60, 1);
        let at = built.0.len() + QNAME.len() + 2;
        built = built.a(60, 2);
        patch::put_u16(&mut built.0, at, class::CH);
        Play::Answer(built)
    });
    let mut query = any();
    let at = query.0.len() - 2;
    patch::put_u16(&mut query.0, at, class::ANY);
    let got = gateway.udp(&query).await;
    assert_eq!((got.types(), got.rdata(0)), (vec![rtype::A], &[192, 0, 2, 1][..]));
}
