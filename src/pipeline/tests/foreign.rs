//! Answers that say what was not asked, lead in circles, or lie about themselves (TTL-10, TTL-16; RFC 2181 5.4.1).

use bytes::BufMut as _;

use super::rig::{Built, Gateway, Got, Play, wire};
use crate::peer::Transport;
use crate::upstream::Ask;
use crate::wire::registry::{rcode, rtype};
use crate::wire::{Flags, Section, patch};

const CNAME: u16 = rtype::CNAME;

type Shape = fn(&Ask) -> Built;

/// What a client gets of an answer, over TCP; how many answers are kept then; and how often two questions went upstream.
async fn got(asked: u16, script: impl Fn(&Ask) -> Play + Send + Sync + 'static) -> (Got, u64, usize) {
    let gateway = Gateway::new(script);
    let query = Built::query("t.example", asked).opt(0, false, &[]);
    let got = gateway.tcp(&query).await;
    gateway.tcp(&query).await;
    (got, gateway.pipeline.shared.cache().stats().entries, gateway.asked())
}

fn answer(built: Built, owner: &str, rtype: u16, rdata: &[u8]) -> Built {
    built.record(Section::Answer, &wire(owner), (rtype, 60), rdata)
}

#[tokio::test]
async fn ttl_16_records_of_other_names_are_neither_relayed_nor_kept() {
    for place in 0..3 {
        let (got, kept, _) = got(rtype::A, move |ask| {
            let mut built = Built::to(ask).flags(Flags::AD, true);
            for at in 0..3 {
                built = if at == place { answer(built, "victim.test", rtype::A, &[6; 4]) } else { built.a(60, 1) };
            }
            Play::Answer(built.record(Section::Additional, &wire("ns.example"), (rtype::A, 60), &[192, 0, 2, 2]))
        })
        .await;
        assert_eq!(got.types(), [rtype::A; 3], "place {place}");
        assert!((0..2).all(|at| got.owner(at) == wire("t.example") && got.rdata(at) == [192, 0, 2, 1]));
        assert_eq!((got.owner(2), got.header.answers, kept), (wire("ns.example"), 2, 1));
        assert!(!got.has(Flags::AD), "SEC-06: not what the server vouched for");
    }
}

#[tokio::test]
async fn an_answer_that_is_all_of_other_names_is_none() {
    let (got, kept, asked) =
        got(rtype::A, |ask| Play::Answer(answer(Built::to(ask), "victim.test", rtype::A, &[6; 4]))).await;
    assert_eq!((got.rcode(), got.header.answers, got.edes()), (rcode::SERVFAIL, 0, vec![23]));
    assert_eq!((kept, asked), (0, 1), "NEG-11: nor is it asked for again at once");
}

#[tokio::test]
async fn records_of_another_class_go() {
    let (got, ..) = got(rtype::A, |ask| {
        let mut built = Built::to(ask).a(60, 1).a(60, 2);
        let class = built.0.len() - 12;
        patch::put_u16(&mut built.0, class, 3);
        Play::Answer(built)
    })
    .await;
    assert_eq!((got.header.answers, got.rdata(0)), (1, &[192, 0, 2, 1][..]));
}

#[tokio::test]
async fn a_chain_is_whole_in_any_order_and_letter_case_with_its_signatures_and_the_dname_that_made_it() {
    let (got, kept, _) = got(rtype::A, |ask| {
        let built = answer(Built::to(ask), "END.test", rtype::A, &[192, 0, 2, 1]);
        let built = answer(built, "mid.test", CNAME, &wire("end.test"));
        let built = answer(built, "example", rtype::DNAME, &wire("test"));
        let built = answer(built, "unrelated", rtype::DNAME, &wire("test"));
        Play::Answer(built.cname(60, "Mid.test"))
    })
    .await;
    assert_eq!((got.types(), kept), (vec![rtype::A, CNAME, rtype::DNAME, CNAME], 1));
    let names: Vec<Vec<u8>> = (0..4).map(|at| got.owner(at).to_ascii_lowercase()).collect();
    assert_eq!(names, [wire("end.test"), wire("mid.test"), wire("example"), wire("t.example")]);
}

/// A chain of `length` CNAMEs from QNAME, and an address at its end.
fn chain(ask: &Ask, length: usize) -> Built {
    let mut built = Built::to(ask).cname(60, "c1.test");
    for at in 1..length {
        built = answer(built, &format!("c{at}.test"), CNAME, &wire(&format!("c{}.test", at + 1)));
    }
    answer(built, &format!("c{length}.test"), rtype::A, &[192, 0, 2, 1])
}

#[tokio::test]
async fn a_chain_of_a_hundred_names_is_relayed_and_kept_and_an_endless_one_is_a_failure() {
    let (whole, kept, asked) = got(rtype::A, |ask| Play::Answer(chain(ask, 100))).await;
    assert_eq!((whole.header.answers, kept, asked), (101, 1, 1));
    let (endless, kept, asked) = got(rtype::A, |ask| Play::Answer(chain(ask, 1000))).await;
    assert_eq!((endless.rcode(), kept, asked), (rcode::SERVFAIL, 0, 1));
}

#[tokio::test]
async fn a_chain_in_a_circle_is_a_failure_but_whoever_asks_for_the_alias_gets_it() {
    let circle = |ask: &Ask| {
        let built = answer(Built::to(ask).cname(60, "u.example"), "U.example", CNAME, &wire("T.example"));
        Play::Answer(built.soa("example", 60, 60))
    };
    let (failed, kept, asked) = got(rtype::A, circle).await;
    assert_eq!((failed.rcode(), kept, asked), (rcode::SERVFAIL, 0, 1));
    let (alias, kept, _) = got(CNAME, circle).await;
    assert_eq!((alias.rcode(), alias.header.answers, kept), (rcode::NOERROR, 1, 1), "of that name alone");
    let itself = |ask: &Ask| Play::Answer(Built::to(ask).cname(60, "t.example"));
    assert_eq!(got(rtype::A, itself).await.0.rcode(), rcode::SERVFAIL);
}

#[tokio::test]
async fn counts_that_lie_bring_nothing_into_the_cache() {
    for (at, count) in [(4, 0), (4, 2), (6, 0), (6, 2), (6, 0xffff), (8, 1), (10, 3), (10, 0xffff)] {
        let (got, kept, _) = got(rtype::A, move |ask| {
            let mut built = Built::to(ask).a(60, 1);
            patch::put_u16(&mut built.0, at, count);
            Play::Answer(built)
        })
        .await;
        let expected = if (at, count) == (6, 0) { rcode::NOERROR } else { rcode::SERVFAIL };
        assert_eq!((got.rcode(), got.header.answers, kept), (expected, 0, 0), "{count} at {at}");
    }
}

#[tokio::test]
async fn ttl_10_what_is_no_answer_to_the_question_is_not_kept() {
    let shapes: [(&str, Shape); 11] = [
        ("opcode", |ask| {
            let mut built = Built::to(ask).a(60, 1);
            built.0[2] |= 0x28;
            built
        }),
        ("QR clear", |ask| Built::to(ask).a(60, 1).flags(Flags::QR, false)),
        ("another question", |_| {
            Built::query("other.example", rtype::A).flags(Flags::QR, true).record(
                Section::Answer,
                &[0xc0, 12],
                (rtype::A, 60),
                &[6; 4],
            )
        }),
        ("SERVFAIL with data", |ask| Built::to(ask).a(60, 1).rcode(rcode::SERVFAIL)),
        ("REFUSED with data", |ask| Built::to(ask).a(60, 1).rcode(rcode::REFUSED)),
        ("YXDOMAIN", |ask| Built::to(ask).a(60, 1).rcode(6)),
        ("an extended RCODE", |ask| Built::to(ask).a(60, 1).opt(0x17, false, &[])),
        ("TC", |ask| Built::to(ask).a(60, 1).flags(Flags::TC, true)),
        ("two OPTs", |ask| Built::to(ask).a(60, 1).opt(0, false, &[]).opt(0, false, &[])),
        ("an OPT as an answer", |ask| Built::to(ask).a(60, 1).record(Section::Answer, &[0], (rtype::OPT, 0), &[])),
        ("an OPT with a name", |ask| {
            Built::to(ask).a(60, 1).record(Section::Additional, &[0xc0, 12], (rtype::OPT, 0), &[])
        }),
    ];
    for (what, shape) in shapes {
        let (got, kept, _) = got(rtype::A, move |ask| Play::Answer(shape(ask))).await;
        assert_eq!((kept, got.records.iter().any(|record| record.rtype == rtype::OPT)), (0, false), "{what}");
        assert_ne!((got.rcode(), got.header.answers), (rcode::NOERROR, 1), "{what}");
    }
}

#[tokio::test]
async fn ttl_10_what_is_answered_here_and_transfers_stay_out_of_the_cache() {
    let gateway = Gateway::new(|ask| Play::Answer(Built::to(ask).a(60, 1)));
    for (name, asked) in [("localhost", rtype::A), ("x.onion", rtype::A), ("t.example", 252), ("t.example", 251)] {
        gateway.tcp(&Built::query(name, asked)).await;
    }
    assert_eq!((gateway.asked(), gateway.pipeline.shared.cache().stats().entries), (0, 0));
}

#[tokio::test]
async fn ttl_07_an_answer_of_64_kib_is_whole_for_streams_and_cut_for_datagrams() {
    let gateway = Gateway::new(|ask| {
        let mut built = Built::to(ask);
        while built.0.len() + 12 + 256 <= 65_535 {
            let text = [&[255][..], &[b'x'; 255]].concat();
            built = built.record(Section::Answer, &[0xc0, 12], (rtype::TXT, 60), &text[..256 - 12]);
        }
        let left = 65_535 - built.0.len() - 12;
        let mut rdata = Vec::new();
        while rdata.len() < left {
            rdata.put_u8(0);
        }
        Play::Answer(built.record(Section::Answer, &[0xc0, 12], (rtype::TXT, 60), &rdata))
    });
    let query = Built::query("t.example", rtype::TXT);
    for _ in 0..2 {
        assert_eq!(gateway.tcp(&query).await.message.len(), 65_535);
        let cut = gateway.udp(&query).await;
        assert_eq!((cut.has(Flags::TC), cut.records.len()), (true, 0));
    }
    let with_edns = gateway.over(Transport::Tcp, &query.clone().opt(0, false, &[])).await;
    assert_eq!(with_edns.rcode(), rcode::SERVFAIL, "there is no room for an OPT beside it");
}

#[tokio::test]
async fn neg_10_a_denial_by_another_zone_is_relayed_once_for_any_type() {
    let denied = |ask: &Ask| Play::Answer(Built::to(ask).rcode(rcode::NXDOMAIN).soa("other.test", 60, 60));
    let (got, kept, asked) = got(rtype::A, denied).await;
    assert_eq!((got.rcode(), kept, asked), (rcode::NXDOMAIN, 0, 2));
}
