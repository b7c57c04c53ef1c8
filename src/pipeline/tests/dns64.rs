//! DNS64 (RFC 6147, 6052, 8880; STANDARDS group D64): what is made, of what, and what is left as it is.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use super::rig::{Begun, Built, Gateway, Got, Plan, Play, settings, wire};
use crate::cache;
use crate::peer::Transport;
use crate::pipeline::{Dns64, Pipeline, Settings, keys};
use crate::reply::{Source, Verdict};
use crate::trail::{Recall, Sudden, Why};
use crate::upstream::Ask;
use crate::upstream::SubnetRule;
use crate::upstream::error::Cause;
use crate::wire::registry::{class, option, rcode, rtype};
use crate::wire::{Flags, Section, patch};

type Say = fn(&Ask) -> Play;

fn plan(prefix: &str) -> Plan {
    let exclude = ["::ffff:0:0/96", "2001:db8:bad::/48"].map(|network| network.parse().unwrap()).to_vec();
    let dns64 = Some(Dns64 { prefix: prefix.parse().unwrap(), exclude });
    Plan { settings: Settings { dns64, ..settings() }, ..Plan::default() }
}

fn rtype_of(ask: &Ask) -> u16 {
    let [.., high, low, _, _] = *ask.question else { panic!("no question") };
    u16::from_be_bytes([high, low])
}

/// What is said of AAAA, and what of everything else.
fn either(aaaa: Say, other: Say) -> impl Fn(&Ask) -> Play + Send + Sync + 'static {
    move |ask| if rtype_of(ask) == rtype::AAAA { aaaa(ask) } else { other(ask) }
}

fn gateway(aaaa: Say, other: Say) -> Gateway {
    Gateway::with(plan("64:ff9b::/96"), either(aaaa, other))
}

fn nothing(ask: &Ask) -> Play {
    Play::Answer(Built::to(ask).soa("example", 250, 250))
}

fn fails(ask: &Ask) -> Play {
    Play::Answer(Built::to(ask).rcode(rcode::SERVFAIL))
}

fn address(ask: &Ask) -> Play {
    Play::Answer(Built::to(ask).a(120, 1))
}

fn v6(built: Built, ttl: u32, address: &str) -> Built {
    let octets = address.parse::<Ipv6Addr>().unwrap().octets();
    built.record(Section::Answer, &[0xc0, 12], (rtype::AAAA, ttl), &octets)
}

fn query() -> Built {
    Built::query("www.example", rtype::AAAA)
}

fn asked(gateway: &Gateway) -> Vec<u16> {
    gateway.upstream.asked.lock().unwrap().iter().map(rtype_of).collect()
}

/// The addresses of the AAAA records of an answer.
fn addresses(got: &Got) -> Vec<String> {
    let is_address = |at: &usize| got.records[*at].rtype == rtype::AAAA;
    let address = |at| Ipv6Addr::from(<[u8; 16]>::try_from(got.rdata(at)).unwrap()).to_string();
    (0..got.records.len()).filter(is_address).map(address).collect()
}

const MADE: &str = "64:ff9b::c000:201";
const BOTH: [u16; 2] = [rtype::AAAA, rtype::A];

#[tokio::test]
async fn d64_01_a_name_without_aaaa_gets_what_its_a_records_make_and_all_of_it_is_kept() {
    let gateway = gateway(nothing, address);
    let got = gateway.udp(&query().opt(0, false, &[])).await;
    assert_eq!((got.rcode(), addresses(&got), got.ttls()), (rcode::NOERROR, vec![MADE.to_owned()], vec![120]));
    assert_eq!((got.header.authorities, got.edes(), got.owner(0)), (0, vec![29], wire("www.example")));
    assert!(got.has(Flags::RA) && !got.has(Flags::AA));
    let why: Vec<Why> = got.facts.trail.attempts.kept().iter().map(|attempt| attempt.why).collect();
    assert_eq!((asked(&gateway), why), (BOTH.to_vec(), vec![Why::First, Why::Dns64]));
    gateway.pass(20);
    let hit = gateway.begin(Transport::Tcp, &query().0).at_once();
    assert_eq!((addresses(&hit), hit.ttls(), hit.facts.source), (vec![MADE.to_owned()], vec![100], Source::Cache));
    assert_eq!((hit.facts.trail.ede, gateway.counters.synthesised.value()), (Some(29), 1), "told, and made once");
    let a = gateway.begin(Transport::Udp, &Built::query("www.example", rtype::A).0).at_once();
    assert_eq!((a.rdata(0), a.ttls()), (&[192, 0, 2, 1][..], vec![100]), "the other answer is kept too");
    gateway.pass(100);
    assert!(matches!(gateway.begin(Transport::Udp, &query().0), Begun::Later(_)));
}

#[tokio::test]
async fn d64_01_addresses_are_made_behind_every_prefix_and_of_what_memory_holds() {
    for (prefix, made) in [
        ("2001:db8::/32", "2001:db8:c000:201::"),
        ("2001:db8:100::/40", "2001:db8:1c0:2:1::"),
        ("2001:db8:122::/48", "2001:db8:122:c000:2:100::"),
        ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:201::"),
        ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:100:0"),
        ("2001:db8:122:344::/96", "2001:db8:122:344::c000:201"),
    ] {
        let gateway = Gateway::with(plan(prefix), either(nothing, address));
        gateway.udp(&Built::query("www.example", rtype::A)).await;
        gateway.pass(50);
        let got = gateway.udp(&query()).await;
        assert_eq!(got.rdata(0), made.parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!((got.ttls(), asked(&gateway)), (vec![70], vec![rtype::A, rtype::AAAA]), "A was known");
    }
}

#[tokio::test]
async fn d64_01_without_a_prefix_nothing_is_made() {
    let gateway = Gateway::new(either(nothing, address));
    assert_eq!((gateway.udp(&query()).await.types(), asked(&gateway)), (vec![rtype::SOA], vec![rtype::AAAA]));
}

#[tokio::test]
async fn d64_02_a_name_with_aaaa_keeps_it_and_nothing_else_is_asked() {
    let gateway = gateway(|ask| Play::Answer(v6(Built::to(ask), 60, "2001:db8::1").flags(Flags::AD, true)), address);
    let got = gateway.udp(&query().flags(Flags::AD, true)).await;
    assert_eq!((addresses(&got), asked(&gateway)), (vec!["2001:db8::1".to_owned()], vec![rtype::AAAA]));
    assert!(got.has(Flags::AD));
}

#[tokio::test]
async fn d64_03_excluded_addresses_count_as_absent_and_among_others_are_left_out() {
    let all: Say = |ask| Play::Answer(v6(v6(Built::to(ask), 60, "::ffff:192.0.2.9"), 60, "2001:db8:bad::1"));
    let gateway = gateway(all, address);
    let got = gateway.udp(&query()).await;
    assert_eq!((addresses(&got), got.ttls()), (vec![MADE.to_owned()], vec![120]));

    let mixed: Say = |ask| {
        let mixed = v6(v6(v6(Built::to(ask), 60, "::ffff:192.0.2.9"), 60, "2001:db8::1"), 60, "2001:db8:bad::1");
        Play::Answer(mixed.soa("example", 60, 60).flags(Flags::AD, true))
    };
    let gateway = Gateway::with(plan("64:ff9b::/96"), either(mixed, address));
    for _ in 0..2 {
        let got = gateway.udp(&query().flags(Flags::AD, true)).await;
        assert_eq!((addresses(&got), got.types()), (vec!["2001:db8::1".to_owned()], vec![rtype::AAAA]));
        assert!(!got.has(Flags::AD));
    }
    assert_eq!(asked(&gateway), [rtype::AAAA], "kept as it was sent");

    let gateway = Gateway::with(plan("64:ff9b::/96"), either(all, nothing));
    let got = gateway.udp(&query()).await;
    assert_eq!((got.rcode(), got.types(), got.ttls()), (rcode::NOERROR, vec![rtype::SOA], vec![250]));
    let hit = gateway.begin(Transport::Udp, &query().0).at_once();
    assert_eq!(hit.types(), [rtype::SOA], "a denial that says for how long");

    // That one is of another question: that it is authentic says nothing of this.
    let proven: Say = |ask| Play::Answer(Built::to(ask).soa("example", 250, 250).flags(Flags::AD, true));
    let gateway = Gateway::with(plan("64:ff9b::/96"), either(all, proven));
    assert!(!gateway.udp(&query().flags(Flags::AD, true)).await.has(Flags::AD));
}

#[tokio::test]
async fn d64_04_that_a_name_does_not_exist_is_relayed() {
    let denies: Say = |ask| Play::Answer(Built::to(ask).rcode(rcode::NXDOMAIN).soa("example", 60, 60));
    let gateway = gateway(denies, address);
    assert_eq!((gateway.udp(&query()).await.rcode(), asked(&gateway)), (rcode::NXDOMAIN, vec![rtype::AAAA]));
}

#[tokio::test(start_paused = true)]
async fn d64_04_other_errors_and_silence_count_as_empty_and_are_not_remembered() {
    let bad: [Say; 6] = [
        fails,
        |ask| Play::Answer(Built::to(ask).rcode(rcode::REFUSED)),
        |ask| Play::Answer(Built::to(ask).rcode(rcode::NOTIMP)),
        |_| Play::Fail(Cause::Timeout),
        |_| Play::Raw(vec![0; 5]),
        |_| Play::Hang,
    ];
    for bad in bad {
        let gateway = gateway(bad, address);
        let began = tokio::time::Instant::now();
        let got = gateway.udp(&query()).await;
        assert_eq!((got.rcode(), addresses(&got), got.ttls()), (rcode::NOERROR, vec![MADE.to_owned()], vec![120]));
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        assert_eq!(asked(&gateway), BOTH);
        assert!(gateway.pipeline.shared.failures.is_empty());
        assert_eq!(addresses(&gateway.begin(Transport::Udp, &query().0).at_once()), [MADE]);
    }
}

#[tokio::test(start_paused = true)]
async fn d64_04_where_the_other_question_fails_too_what_was_said_first_is_said_and_for_no_longer_than_a_failure() {
    for bad in [fails as Say, |_| Play::Hang, |_| Play::Fail(Cause::Connect)] {
        let failing = gateway(nothing, bad);
        let got = failing.udp(&query()).await;
        assert_eq!((got.rcode(), got.types(), got.ttls()), (rcode::NOERROR, vec![rtype::SOA], vec![5]));
        let hit = failing.begin(Transport::Udp, &query().0).at_once();
        assert_eq!((hit.types(), asked(&failing)), (vec![rtype::SOA], BOTH.to_vec()));

        let failing = gateway(fails, bad);
        assert_eq!(failing.udp(&query()).await.rcode(), rcode::SERVFAIL);
        assert_eq!(failing.begin(Transport::Udp, &query().0).at_once().rcode(), rcode::SERVFAIL, "is remembered");
        assert_eq!(asked(&failing), BOTH);
    }
    let busy = gateway(|_| Play::Fail(Cause::Busy), address);
    assert_eq!(
        (busy.udp(&query()).await.rcode(), asked(&busy)),
        (rcode::SERVFAIL, vec![rtype::AAAA]),
        "our own bounds"
    );
}

#[tokio::test]
async fn d64_05_what_is_made_lives_as_long_as_both_that_it_rests_on() {
    let cases: [(Say, Say, u32); 6] = [
        (nothing, address, 120),
        (|ask| Play::Answer(Built::to(ask).soa("example", 30, 250)), address, 30),
        (|ask| Play::Answer(Built::to(ask).soa("example", 250, 40)), address, 40),
        (|ask| Play::Answer(Built::to(ask)), address, 120),
        (|ask| Play::Answer(Built::to(ask)), |ask| Play::Answer(Built::to(ask).a(9999, 1)), 600),
        (fails, |ask| Play::Answer(Built::to(ask).a(9999, 1)), 600),
    ];
    for (aaaa, a, ttl) in cases {
        let gateway = gateway(aaaa, a);
        assert_eq!(gateway.udp(&query()).await.ttls(), [ttl]);
        gateway.pass(u64::from(ttl) - 1);
        assert_eq!(gateway.begin(Transport::Udp, &query().0).at_once().ttls(), [1]);
        gateway.pass(1);
        assert!(matches!(gateway.begin(Transport::Udp, &query().0), Begun::Later(_)));
    }
    let zero = gateway(nothing, |ask| Play::Answer(Built::to(ask).a(0, 1)));
    assert_eq!(zero.udp(&query()).await.ttls(), [0]);
    assert!(matches!(zero.begin(Transport::Udp, &query().0), Begun::Later(_)), "what lives no second is not kept");
}

/// An alias by a DNAME, then one by a CNAME, then what is at the end; signed for those who want that.
fn chained(ask: &Ask) -> Play {
    let at_end = |built: Built| match rtype_of(ask) {
        rtype::A => {
            let first = built.record(Section::Answer, &wire("end.example"), (rtype::A, 90), &[192, 0, 2, 1]);
            first.record(Section::Answer, &wire("end.example"), (rtype::A, 90), &[192, 0, 2, 2])
        }
        _ => built.soa("example", 200, 200),
    };
    let signature = |covered: u16| [&covered.to_be_bytes()[..], &[13, 2, 0, 0, 0, 60]].concat();
    let built = Built::to(ask)
        .record(Section::Answer, &wire("old.example"), (rtype::DNAME, 300), &wire("new.example"))
        .record(Section::Answer, &wire("old.example"), (rtype::RRSIG, 300), &signature(rtype::DNAME))
        .record(Section::Answer, &[0xc0, 12], (rtype::CNAME, 300), b"\x03www\x03new\xc0\x14")
        .record(Section::Answer, &wire("www.new.example"), (rtype::CNAME, 60), &wire("end.example"));
    let built = at_end(built).flags(Flags::AD, true);
    Play::Answer(built.record(Section::Answer, &wire("end.example"), (rtype::RRSIG, 90), &signature(rtype::A)))
}

#[tokio::test]
async fn d64_06_the_chain_stands_before_what_is_made_of_its_end() {
    let chained: Say = |ask| {
        let built = Built::to(ask)
            .record(Section::Answer, &wire("old.example"), (rtype::DNAME, 300), &wire("new.example"))
            .record(Section::Answer, &[0xc0, 12], (rtype::CNAME, 300), &wire("www.new.example"))
            .record(Section::Answer, &wire("www.new.example"), (rtype::CNAME, 60), &wire("end.example"));
        Play::Answer(match rtype_of(ask) {
            rtype::A => [1, 2].into_iter().fold(built, |built, last| {
                built.record(Section::Answer, &wire("end.example"), (rtype::A, 90), &[192, 0, 2, last])
            }),
            _ => built.soa("example", 200, 200),
        })
    };
    let gateway = gateway(chained, chained);
    let query = Built::query("WWW.old.example", rtype::AAAA);
    let first = gateway.udp(&query).await;
    for got in [first, gateway.begin(Transport::Udp, &query.0).at_once()] {
        assert_eq!(got.types(), [rtype::DNAME, rtype::CNAME, rtype::CNAME, rtype::AAAA, rtype::AAAA]);
        let owners: Vec<_> = (0..5).map(|at| got.owner(at)).collect();
        let names = ["old.example", "WWW.old.example", "www.new.example", "end.example", "end.example"];
        assert_eq!(owners, names.map(wire));
        assert_eq!(
            [0, 1, 2].map(|at| got.rdata(at).to_vec()),
            ["new.example", "www.new.example", "end.example"].map(wire)
        );
        assert_eq!(addresses(&got), [MADE, "64:ff9b::c000:202"]);
        // A denial lives no longer than the aliases that lead to it, and so do addresses that stand in for it.
        assert_eq!(got.ttls(), [300, 300, 60, 60, 60]);
    }
    gateway.pass(60);
    assert!(matches!(gateway.begin(Transport::Udp, &query.0), Begun::Later(_)), "it lives as long as its shortest");
}

#[tokio::test]
async fn d64_07_who_validates_gets_no_made_addresses_and_who_does_not_no_false_proof() {
    let gateway = gateway(
        |ask| Play::Answer(Built::to(ask).soa("example", 250, 250).flags(Flags::AD, true)),
        |ask| {
            let signature = [&rtype::A.to_be_bytes()[..], &[13, 2, 0, 0, 0, 60]].concat();
            let built = Built::to(ask).a(120, 1).flags(Flags::AD, true);
            Play::Answer(built.record(Section::Answer, &[0xc0, 12], (rtype::RRSIG, 120), &signature))
        },
    );
    let validating = query().flags(Flags::CD, true).opt(0, true, &[]);
    assert_eq!(gateway.udp(&validating).await.types(), [rtype::SOA]);
    assert_eq!(asked(&gateway), [rtype::AAAA]);
    for query in [query().opt(0, true, &[]), query().flags(Flags::AD, true), query().flags(Flags::CD, true)] {
        let first = gateway.udp(&query).await;
        for got in [first, gateway.begin(Transport::Udp, &query.0).at_once()] {
            assert_eq!((got.types(), got.has(Flags::AD)), (vec![rtype::AAAA], false));
        }
    }
    assert_eq!(gateway.begin(Transport::Udp, &validating.0).at_once().types(), [rtype::SOA], "each keeps its own");
    let proof = gateway.udp(&Built::query("www.example", rtype::A).opt(0, true, &[])).await;
    assert_eq!((proof.types(), proof.has(Flags::AD)), (vec![rtype::A, rtype::RRSIG], true));
}

#[tokio::test]
async fn d64_07_signatures_of_aliases_stay_and_those_of_the_addresses_do_not() {
    let gateway = gateway(chained, chained);
    let got = gateway.udp(&Built::query("www.old.example", rtype::AAAA).opt(0, true, &[])).await;
    let types = [rtype::DNAME, rtype::RRSIG, rtype::CNAME, rtype::CNAME, rtype::AAAA, rtype::AAAA];
    assert_eq!((got.types(), got.has(Flags::AD)), (types.to_vec(), false));
    assert_eq!(got.rdata(2), wire("www.new.example"), "what was compressed is written in full");
}

/// The question for the name of `address`.
fn pointer(address: &str) -> Built {
    let octets = address.parse::<Ipv6Addr>().unwrap().octets();
    let digits: Vec<String> =
        octets.iter().rev().flat_map(|octet| [octet & 15, octet >> 4]).map(|digit| format!("{digit:x}")).collect();
    Built::query(&format!("{}.ip6.arpa", digits.join(".")), rtype::PTR)
}

#[tokio::test]
async fn d64_08_a_pointer_behind_the_prefix_is_an_alias_of_the_one_before_it() {
    let gateway = gateway(nothing, |ask| {
        assert!(ask.question.starts_with(b"\x0214\x03215\x03184\x0293\x07in-addr\x04arpa\0"), "{ask:?}");
        let target = [&b"\x04host\x07example"[..], &[0]].concat();
        let built = Built::to(ask).flags(Flags::AD, true);
        Play::Answer(built.record(Section::Answer, &[0xc0, 12], (rtype::PTR, 80), &target).record(
            Section::Authority,
            &wire("93.in-addr.arpa"),
            (rtype::NS, 9),
            &wire("ns.example"),
        ))
    });
    let query = pointer("64:ff9b::93.184.215.14").flags(Flags::AD, true);
    let first = gateway.udp(&query).await;
    for got in [first, gateway.begin(Transport::Udp, &query.0).at_once()] {
        let alias = wire("14.215.184.93.in-addr.arpa");
        assert_eq!((got.types(), got.ttls()), (vec![rtype::CNAME, rtype::PTR], vec![80, 80]));
        assert_eq!((got.rdata(0), got.owner(1), got.rdata(1)), (&*alias, alias.clone(), &*wire("host.example")));
        assert!(!got.has(Flags::AD) && !got.has(Flags::AA));
    }
    let plain = gateway.begin(Transport::Udp, &Built::query("14.215.184.93.in-addr.arpa", rtype::PTR).0).at_once();
    assert_eq!((plain.types()[0], asked(&gateway)), (rtype::PTR, vec![rtype::PTR]), "asked once for both");
}

#[tokio::test]
async fn d64_08_and_sud_08_a_pointer_into_a_private_network_leads_to_what_is_said_of_it_here() {
    let gateway = gateway(nothing, nothing);
    let got = gateway.udp(&pointer("64:ff9b::10.1.2.3")).await;
    assert_eq!((got.rcode(), got.types(), gateway.asked()), (rcode::NXDOMAIN, vec![rtype::CNAME, rtype::SOA], 0));
}

#[tokio::test]
async fn d64_08_denials_and_failures_of_the_alias_are_those_of_its_target() {
    let denying =
        gateway(nothing, |ask| Play::Answer(Built::to(ask).rcode(rcode::NXDOMAIN).soa("93.in-addr.arpa", 70, 70)));
    let first = denying.udp(&pointer("64:ff9b::93.184.215.14")).await;
    for got in [first, denying.begin(Transport::Udp, &pointer("64:ff9b::93.184.215.14").0).at_once()] {
        assert_eq!((got.rcode(), got.types()), (rcode::NXDOMAIN, vec![rtype::CNAME, rtype::SOA]));
        assert_eq!((got.ttls(), got.owner(1)), (vec![70, 70], wire("93.in-addr.arpa")));
    }
    let failing = gateway(nothing, |_| Play::Fail(Cause::Connect));
    for _ in 0..2 {
        let got = failing.udp(&pointer("64:ff9b::93.184.215.14").opt(0, false, &[])).await;
        assert_eq!((got.rcode(), got.records.len()), (rcode::SERVFAIL, 0));
        assert!(got.edes().contains(&22), "{:?}", got.edes());
    }
    assert_eq!(failing.asked(), 1, "remembered where it was asked");
}

#[tokio::test]
async fn d64_08_an_alias_lives_for_ten_minutes_at_most_and_claims_nothing() {
    let gateway = gateway(nothing, |ask| {
        let target = wire("host.example");
        let built = Built::to(ask).record(Section::Answer, &[0xc0, 12], (rtype::PTR, 9000), &target);
        Play::Answer(built.flags(Flags::AD, true))
    });
    let query = pointer("64:ff9b::93.184.215.14").flags(Flags::AD, true);
    let got = gateway.udp(&query).await;
    assert_eq!((got.ttls()[0], got.has(Flags::AD)), (600, false));
    gateway.pass(600);
    assert!(matches!(gateway.begin(Transport::Udp, &query.0), Begun::Later(_)));
}

#[tokio::test]
async fn d64_08_and_ecs_16_servers_of_another_domain_are_told_nothing_of_the_client() {
    let plan = Plan { ecs: SubnetRule::Forward, ..plan("64:ff9b::/96") };
    let gateway = Gateway::with(plan, nothing);
    let query = pointer("64:ff9b::93.184.215.14").opt(0, false, &[(option::ECS, &[0, 1, 24, 0, 198, 51, 100])]);
    gateway.udp(&query).await;
    let asked = gateway.upstream.asked.lock().unwrap();
    assert_eq!((asked.len(), asked[0].subnet), (1, None));
}

#[tokio::test]
async fn d64_08_other_pointers_and_other_types_are_forwarded() {
    let gateway = gateway(nothing, nothing);
    let behind = pointer("64:ff9b::93.184.215.14");
    let mut text = behind.clone();
    let at = text.0.len() - 4;
    patch::put_u16(&mut text.0, at, rtype::TXT);
    let validating = behind.clone().flags(Flags::CD, true).opt(0, true, &[]);
    for query in [pointer("2001:4860::93.184.215.14"), pointer("64:ff9b:0:1::1"), text, validating] {
        assert_eq!(gateway.udp(&query).await.types(), [rtype::SOA]);
        let asked = gateway.upstream.asked.lock().unwrap().last().unwrap().clone();
        assert!(query.0[12..].starts_with(&asked.question), "{asked:?}");
    }
}

#[tokio::test]
async fn d64_09_other_types_other_classes_and_hints_are_left_as_they_are() {
    let hints: Say = |ask| {
        let data = [&[0, 1, 0, 0, 4, 0, 4, 192, 0, 2, 1][..]].concat();
        let built = Built::to(ask).record(Section::Answer, &[0xc0, 12], (rtype_of(ask), 60), &data);
        Play::Answer(built.record(Section::Additional, &wire("x.example"), (rtype::A, 60), &[192, 0, 2, 1]))
    };
    let gateway = gateway(nothing, hints);
    for rtype in [rtype::HTTPS, rtype::SVCB, rtype::MX] {
        let got = gateway.udp(&Built::query("www.example", rtype)).await;
        assert_eq!((got.types(), got.rdata(0).len()), (vec![rtype, rtype::A], 11));
    }
    let mut chaos = query();
    let at = chaos.0.len() - 2;
    patch::put_u16(&mut chaos.0, at, class::CH);
    let before = gateway.asked();
    assert!(gateway.udp(&chaos).await.records.iter().all(|record| record.rtype != rtype::AAAA));
    assert_eq!(gateway.asked(), before + 1);
    let any = gateway.udp(&Built::query("www.example", rtype::ANY)).await;
    assert!(addresses(&any).is_empty());
}

#[tokio::test]
async fn d64_10_private_addresses_are_not_put_behind_the_well_known_prefix() {
    let private: Say =
        |ask| Play::Answer(Built::to(ask).record(Section::Answer, &[0xc0, 12], (rtype::A, 60), &[10, 0, 0, 1]));
    let both: Say = |ask| {
        let built = Built::to(ask).record(Section::Answer, &[0xc0, 12], (rtype::A, 60), &[192, 168, 0, 1]);
        Play::Answer(built.a(60, 1))
    };
    let well_known = gateway(nothing, private);
    assert_eq!(well_known.udp(&query()).await.types(), [rtype::SOA]);
    assert_eq!(addresses(&gateway(nothing, both).udp(&query()).await), [MADE]);
    let own = Gateway::with(plan("2001:db8:64::/96"), either(nothing, private));
    assert_eq!(addresses(&own.udp(&query()).await), ["2001:db8:64::a00:1"]);
}

#[tokio::test]
async fn sud_13_ipv4only_arpa_is_answered_here_and_never_asked_for() {
    let off = Gateway::new(either(nothing, address));
    assert_eq!(
        (off.udp(&Built::query("ipv4only.arpa", rtype::A)).await.facts.source, off.asked()),
        (Source::Upstream, 1)
    );
    let on = gateway(nothing, address);
    let ask = |name: &str, rtype| on.begin(Transport::Udp, &Built::query(name, rtype).opt(0, false, &[]).0).at_once();
    let a = ask("IPv4only.ARPA", rtype::A);
    assert_eq!([a.rdata(0), a.rdata(1)], [[192, 0, 0, 170], [192, 0, 0, 171]]);
    let aaaa = ask("ipv4only.arpa", rtype::AAAA);
    assert_eq!(addresses(&aaaa), ["64:ff9b::c000:aa", "64:ff9b::c000:ab"]);
    assert_eq!((a.edes(), aaaa.edes()), (vec![], vec![29]));
    assert_eq!(ask("ipv4only.arpa", rtype::ANY).types(), [rtype::A, rtype::A, rtype::AAAA, rtype::AAAA]);
    for (name, rtype, expected) in
        [("ipv4only.arpa", rtype::MX, rcode::NOERROR), ("x.ipv4only.arpa", rtype::AAAA, rcode::NXDOMAIN)]
    {
        let got = ask(name, rtype);
        assert_eq!((got.rcode(), got.types(), got.owner(0)), (expected, vec![rtype::SOA], wire("ipv4only.arpa")));
    }
    assert_eq!(on.asked(), 0);
    for (name, rtype) in [("xipv4only.arpa", rtype::A), ("ipv4only.arpa", rtype::DS)] {
        assert_eq!(on.udp(&Built::query(name, rtype)).await.facts.source, Source::Upstream, "{name}");
    }
}

#[tokio::test]
async fn a_herd_has_either_question_asked_once() {
    let gateway = Gateway::with(Plan { held: true, ..plan("64:ff9b::/96") }, either(nothing, address));
    let begin = |query: &Built| match gateway.begin(Transport::Tcp, &query.0) {
        Begun::Later(pending) => tokio::spawn(pending),
        Begun::Sent(_) | Begun::Dropped(_) => panic!("not asked"),
    };
    let mut waiting: Vec<_> = (0..20).map(|_| begin(&query())).collect();
    waiting.push(begin(&Built::query("www.example", rtype::A)));
    gateway.upstream.gate.add_permits(10);
    for reply in waiting {
        let Verdict::Sent(reply) = reply.await.unwrap() else { panic!("dropped") };
        assert_eq!(reply.facts.rcode, rcode::NOERROR);
        assert_eq!(reply.message[7], 1, "{:?}", reply.message);
    }
    assert_eq!(gateway.asked(), 2);
    assert_eq!(gateway.pipeline.shared.joins_in_flight(), 0);
}

#[tokio::test]
async fn what_was_made_is_refreshed_as_what_was_said_and_its_making_is_no_sudden_denial() {
    let gateway = gateway(nothing, |ask| Play::Answer(Built::to(ask).a(100, 1)));
    tokio::spawn(Pipeline::run_errands(tokio::sync::watch::channel(gateway.pipeline.clone()).1));
    gateway.udp(&query()).await;
    assert_eq!(gateway.begin(Transport::Udp, &query().0).at_once().ttls(), [100]);
    for round in 2..5 {
        gateway.pass(95);
        assert_eq!(gateway.begin(Transport::Udp, &query().0).at_once().ttls(), [5]);
        for _ in 0..500 {
            tokio::task::yield_now().await;
        }
        assert_eq!((gateway.asked(), gateway.pipeline.shared.joins_in_flight()), (2 * round, 0));
        let hit = gateway.begin(Transport::Udp, &query().0).at_once();
        assert_eq!((hit.ttls(), hit.facts.trail.sudden), (vec![100], Sudden::No), "made of what is as fresh");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_made_stands_in_while_nothing_fresh_can_be_had() {
    let up = Arc::new(AtomicBool::new(true));
    let is_up = Arc::clone(&up);
    let gateway = Gateway::with(plan("64:ff9b::/96"), move |ask| match (is_up.load(Relaxed), rtype_of(ask)) {
        (false, _) => Play::Fail(Cause::Connect),
        (true, rtype::A) => address(ask),
        (true, _) => nothing(ask),
    });
    gateway.udp(&query()).await;
    gateway.pass(130);
    up.store(false, Relaxed);
    let got = gateway.udp(&query().opt(0, false, &[])).await;
    assert!(matches!(got.facts.trail.recall, Recall::Stale { .. }), "{:?}", got.facts.trail.recall);
    assert_eq!((addresses(&got), got.edes()), (vec![MADE.to_owned()], vec![3, 22]));
}

#[tokio::test]
async fn under_guard_a_name_that_loses_its_a_record_suddenly_is_asked_for_elsewhere() {
    let mut cache = cache::Settings::default();
    cache.rules.insert(&wire("example"), cache::Rule { guard: true, ..cache::Rule::default() });
    let gone = Arc::new(AtomicBool::new(false));
    let is_gone = Arc::clone(&gone);
    let gateway = Gateway::with(Plan { cache, ..plan("64:ff9b::/96") }, move |ask| match rtype_of(ask) {
        rtype::A if !is_gone.load(Relaxed) || ask.avoid.is_some() => address(ask),
        _ => nothing(ask),
    });
    gateway.udp(&query()).await;
    gone.store(true, Relaxed);
    gateway.pass(130);
    assert_eq!(addresses(&gateway.udp(&query()).await), [MADE]);
}

#[tokio::test]
async fn ecs_10_what_is_made_is_for_the_network_that_its_a_records_are_for() {
    let plan = Plan { ecs: SubnetRule::Forward, ..plan("64:ff9b::/96") };
    let gateway = Gateway::with(plan, |ask| {
        let subnet = ask.subnet.unwrap().subnet;
        let data = [&subnet.head(if rtype_of(ask) == rtype::A { 24 } else { 0 })[..], subnet.address()].concat();
        let built = Built::to(ask);
        let built = if rtype_of(ask) == rtype::A { built.a(60, data[6]) } else { built.soa("example", 60, 60) };
        Play::Answer(built.opt(0, false, &[(option::ECS, &data)]))
    });
    let from = |third: u8| query().opt(0, false, &[(option::ECS, &[0, 1, 24, 0, 198, 51, third])]);
    for _ in 0..2 {
        for third in [1, 2] {
            let got = gateway.udp(&from(third)).await;
            assert_eq!(got.rdata(0)[12..], Ipv4Addr::new(192, 0, 2, third).octets());
            assert_eq!(got.option(option::ECS).unwrap()[3], 24, "SCOPE");
        }
        assert_eq!(gateway.asked(), 4);
    }
    gateway
        .udp(&Built::query("new.example", rtype::A).opt(0, false, &[(option::ECS, &[0, 1, 24, 0, 198, 51, 3])]))
        .await;
    let mut of_memory =
        Built::query("new.example", rtype::AAAA).opt(0, false, &[(option::ECS, &[0, 1, 24, 0, 198, 51, 3])]);
    let got = gateway.udp(&of_memory).await;
    assert_eq!((got.rdata(0)[15], got.option(option::ECS).unwrap()[3], gateway.asked()), (3, 24, 6));
    *of_memory.0.last_mut().unwrap() = 4;
    assert_eq!(gateway.udp(&of_memory).await.rdata(0)[15], 4, "the neighbours get their own");
}

#[tokio::test]
async fn more_than_a_message_holds_is_not_made() {
    let many: Say = |ask| {
        let end = wire(&format!("{0}.{0}.{0}.example", "x".repeat(60)));
        let at = 12 + u16::try_from(ask.question.len()).unwrap() + 10;
        let pointer = (0xc000 | (at + 2)).to_be_bytes();
        let alias = Built::to(ask).record(Section::Answer, &[0xc0, 12], (rtype::CNAME, 60), &end);
        Play::Answer((0..2000_u16).fold(alias, |built, n| {
            let [high, low] = n.to_be_bytes();
            built.record(Section::Answer, &pointer, (rtype::A, 60), &[198, 51, high, low])
        }))
    };
    let gateway = gateway(nothing, many);
    let got = gateway.tcp(&query()).await;
    assert_eq!((got.rcode(), got.types()), (rcode::NOERROR, vec![rtype::SOA]));
}

/// A prefix within `fd00::/8`, whose names are nobody's.
const PRIVATE: &str = "fd00:64::/96";

#[tokio::test]
async fn d64_07_and_sud_08_who_validates_is_told_what_is_said_here_of_a_private_network() {
    let gateway = Gateway::with(plan(PRIVATE), either(nothing, nothing));
    let query = pointer("fd00:64::93.184.215.14");
    let got = gateway.udp(&query.clone().flags(Flags::CD, true).opt(0, true, &[])).await;
    assert_eq!((got.types(), got.facts.source, gateway.asked()), (vec![rtype::SOA], Source::Local, 0));
    for query in [query.clone(), query.clone().flags(Flags::CD, true), query.opt(0, true, &[])] {
        assert_eq!(gateway.udp(&query).await.types(), [rtype::CNAME, rtype::SOA]);
    }
    let asked = gateway.upstream.asked.lock().unwrap();
    assert!(asked.iter().all(|ask| ask.question.starts_with(b"\x0214\x03215\x03184\x0293\x07in-addr\x04arpa\0")));
}

#[tokio::test]
async fn sud_08_under_guard_a_pointer_that_is_gone_suddenly_is_doubted_where_it_leads_to_alone() {
    let mut cache = cache::Settings::default();
    cache.rules.insert(&wire("arpa"), cache::Rule { guard: true, ..cache::Rule::default() });
    let gone = Arc::new(AtomicBool::new(false));
    let is_gone = Arc::clone(&gone);
    let gateway = Gateway::with(Plan { cache, ..plan(PRIVATE) }, move |ask| {
        let built = Built::to(ask);
        Play::Answer(if is_gone.load(Relaxed) {
            built.rcode(rcode::NXDOMAIN).soa("93.in-addr.arpa", 60, 60)
        } else {
            built.record(Section::Answer, &[0xc0, 12], (rtype::PTR, 60), &wire("host.example"))
        })
    });
    let query = pointer("fd00:64::93.184.215.14");
    assert_eq!(gateway.udp(&query).await.types(), [rtype::CNAME, rtype::PTR]);
    gone.store(true, Relaxed);
    gateway.pass(61);
    assert_eq!(gateway.udp(&query).await.rcode(), rcode::NXDOMAIN);
    let asked = gateway.upstream.asked.lock().unwrap();
    let names: Vec<bool> =
        asked.iter().map(|ask| ask.question.ends_with(b"\x07in-addr\x04arpa\0\0\x0c\0\x01")).collect();
    assert_eq!(names, [true; 3], "the second opinion is of the other name: {asked:?}");
}

#[tokio::test]
async fn d64_04_where_aaaa_fails_and_a_says_that_there_is_no_such_name_there_is_none() {
    let denies: Say =
        |ask| Play::Answer(Built::to(ask).rcode(rcode::NXDOMAIN).soa("example", 60, 60).flags(Flags::AD, true));
    for bad in [fails as Say, |_| Play::Fail(Cause::Timeout)] {
        let gateway = gateway(bad, denies);
        for _ in 0..2 {
            let got = gateway.udp(&query().flags(Flags::AD, true)).await;
            assert_eq!((got.rcode(), got.types(), got.has(Flags::AD)), (rcode::NXDOMAIN, vec![rtype::SOA], false));
        }
        assert_eq!((asked(&gateway), gateway.pipeline.shared.failures.is_empty()), (BOTH.to_vec(), true));
        // That there are no A records says nothing of AAAA.
        let empty = self::gateway(bad, nothing);
        assert_eq!(empty.udp(&query()).await.rcode(), rcode::SERVFAIL);
    }
}

#[tokio::test]
async fn sud_08_names_of_a_private_network_that_pointers_are_made_of_exist() {
    let gateway = Gateway::with(plan(PRIVATE), either(nothing, nothing));
    let whole = Built::query("1.0.0.0.4.6.0.0.0.0.d.f.ip6.arpa", rtype::A);
    let above = Built::query("0.0.d.f.ip6.arpa", rtype::NS);
    let mut text = pointer("fd00:64::93.184.215.14");
    let at = text.0.len() - 4;
    patch::put_u16(&mut text.0, at, rtype::TXT);
    for (query, expected) in [(text, rcode::NOERROR), (above, rcode::NOERROR), (whole, rcode::NXDOMAIN)] {
        let got = gateway.begin(Transport::Udp, &query.0).at_once();
        assert_eq!((got.rcode(), got.types()), (expected, vec![rtype::SOA]));
    }
    assert_eq!(gateway.asked(), 0);
}

#[tokio::test]
async fn ecs_01_and_d64_08_where_a_pointer_leads_to_nobody_is_told_of_the_client() {
    let plan = Plan { ecs: SubnetRule::Forward, ..plan("64:ff9b::/96") };
    let gateway = Gateway::with(plan, nothing);
    let subnet = [0, 1, 24, 0, 198, 51, 1];
    gateway.udp(&pointer("64:ff9b::93.184.215.14").opt(0, false, &[(option::ECS, &subnet)])).await;
    gateway.udp(&query().opt(0, false, &[(option::ECS, &subnet)])).await;
    let asked = gateway.upstream.asked.lock().unwrap();
    assert_eq!(asked.iter().map(|ask| ask.subnet.is_some()).collect::<Vec<_>>(), [false, true, true]);
}

#[tokio::test]
async fn d64_05_and_d64_08_aliases_are_kept_as_such_and_a_made_one_for_a_while_alone() {
    let gateway = gateway(chained, |ask| match rtype_of(ask) {
        rtype::PTR => {
            Play::Answer(Built::to(ask).record(Section::Answer, &[0xc0, 12], (rtype::PTR, 9999), &wire("host.example")))
        }
        _ => chained(ask),
    });
    let shared = &gateway.pipeline.shared;
    let (end, behind) = (Built::query("www.old.example", rtype::AAAA), pointer("64:ff9b::93.184.215.14"));
    for query in [&end, &behind] {
        gateway.udp(query).await;
        // Nothing of another type stands in for a name that has become an alias (STL-09).
        assert!(shared.cache.meta(&keys::plain(shared, &query.0[12..])).unwrap().is_alias);
    }
    gateway.pass(599);
    assert_eq!(gateway.begin(Transport::Udp, &behind.0).at_once().ttls()[0], 1);
    gateway.pass(1);
    assert!(matches!(gateway.begin(Transport::Udp, &behind.0), Begun::Later(_)));
}

#[tokio::test]
async fn of_what_is_never_kept_nothing_is_made_that_is() {
    let mut cache = cache::Settings::default();
    cache.rules.insert(&wire("example"), cache::Rule { never: true, ..cache::Rule::default() });
    let gateway = Gateway::with(Plan { cache, ..plan("64:ff9b::/96") }, either(nothing, address));
    for _ in 0..2 {
        assert_eq!(addresses(&gateway.udp(&query()).await), [MADE]);
    }
    assert_eq!(asked(&gateway), [BOTH, BOTH].concat());
}

#[tokio::test]
async fn ecs_08_what_is_made_of_an_answer_for_those_who_tell_as_much_is_for_no_others() {
    let plan = Plan { ecs: SubnetRule::Forward, ..plan("64:ff9b::/96") };
    let gateway = Gateway::with(plan, |ask| {
        let subnet = ask.subnet.unwrap().subnet;
        // More bits count than were told.
        let data = [&subnet.head(24)[..], subnet.address()].concat();
        let built = Built::to(ask);
        let built = if rtype_of(ask) == rtype::A { built.a(60, data[6]) } else { built.soa("example", 60, 60) };
        Play::Answer(built.opt(0, false, &[(option::ECS, &data)]))
    });
    let from = |rtype, length, third| {
        Built::query("www.example", rtype).opt(0, false, &[(option::ECS, &[0, 1, length, 0, 198, 51, third])])
    };
    gateway.udp(&from(rtype::A, 20, 16)).await;
    for (length, third) in [(20, 16), (24, 17), (20, 32)] {
        let got = gateway.udp(&from(rtype::AAAA, length, third)).await;
        assert_eq!((got.rdata(0)[15], got.option(option::ECS).unwrap()[3]), (third, length));
    }
}
