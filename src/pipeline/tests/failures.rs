//! NEG-11 to NEG-17 and EDE: failures, remembered and told (RFC 9520, RFC 8914).

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::rig::{Built, Gateway, Plan, Play};
use crate::cache;
use crate::peer::Transport;
use crate::reply::{Scope, Source};
use crate::trail::{AttemptEnd, Recall};
use crate::upstream::error::Cause;
use crate::wire::Flags;
use crate::wire::registry::{option, rcode, rtype};

fn query() -> Built {
    Built::query("t.example", rtype::A).opt(0, false, &[])
}

#[tokio::test]
async fn neg_11_12_13_14_a_failure_is_asked_once_a_window_and_windows_grow_to_the_cap() {
    let gateway = Gateway::new(|ask| Play::Answer(Built::to(ask).rcode(rcode::SERVFAIL)));
    let mut windows = Vec::new();
    for asked in 1..6 {
        assert_eq!(gateway.udp(&query()).await.rcode(), rcode::SERVFAIL);
        assert_eq!(gateway.asked(), asked);
        let recalled = gateway.begin(Transport::Udp, &query().0).at_once();
        assert_eq!((recalled.rcode(), recalled.edes()), (rcode::SERVFAIL, vec![13]));
        let Recall::Failure { left } = recalled.facts.trail.recall else { panic!("no failure recalled") };
        windows.push(left);
        gateway.pass(left.into());
    }
    assert_eq!(windows, [5, 10, 20, 30, 30]);
    assert_eq!(gateway.counters.failures_recalled.value(), 5);
}

#[tokio::test]
async fn neg_16_once_a_server_has_come_back_what_failed_before_is_asked_again() {
    let up = Arc::new(AtomicBool::new(false));
    let is_up = Arc::clone(&up);
    let gateway = Gateway::new(move |ask| {
        if is_up.load(Relaxed) { Play::Answer(Built::to(ask).a(60, 1)) } else { Play::Fail(Cause::Timeout) }
    });
    assert_eq!(gateway.udp(&query()).await.rcode(), rcode::SERVFAIL);
    up.store(true, Relaxed);
    gateway.upstream.comebacks.store(1, Relaxed);
    assert_eq!(
        gateway.begin(Transport::Udp, &query().0).at_once().rcode(),
        rcode::SERVFAIL,
        "NEG-11: a second at least"
    );
    gateway.pass(1);
    assert_eq!((gateway.udp(&query()).await.rcode(), gateway.asked()), (rcode::NOERROR, 2));
}

#[tokio::test]
async fn neg_11_every_kind_of_failure_is_remembered() {
    let plays: [fn(&crate::upstream::Ask) -> Play; 7] = [
        |ask| Play::Answer(Built::to(ask).rcode(rcode::REFUSED)),
        |ask| Play::Answer(Built::to(ask).rcode(rcode::FORMERR)),
        |_| Play::Fail(Cause::Timeout),
        |_| Play::Fail(Cause::Connect),
        |_| Play::Fail(Cause::Tls),
        |_| Play::Fail(Cause::Closed),
        |_| Play::Raw(vec![0xff; 40]),
    ];
    let expected = [5, 1, 2, 2, 2, 2, 2];
    for (play, expected) in plays.into_iter().zip(expected) {
        let gateway = Gateway::new(play);
        let first = gateway.udp(&query()).await;
        let second = gateway.begin(Transport::Udp, &query().0).at_once();
        assert_eq!((first.rcode(), second.rcode(), gateway.asked()), (expected, expected, 1));
        assert_eq!(first.facts.freshness.scope, Scope::NoStore);
    }
}

#[tokio::test]
async fn neg_17_ttl_09_a_failure_to_validate_is_none_for_cd() {
    let gateway = Gateway::new(|ask| {
        let built = Built::to(ask);
        Play::Answer(if ask.checking_disabled { built.a(60, 1) } else { built.rcode(rcode::SERVFAIL) })
    });
    assert_eq!(gateway.udp(&query()).await.rcode(), rcode::SERVFAIL);
    assert_eq!(gateway.udp(&query().flags(Flags::CD, true)).await.rcode(), rcode::NOERROR);
    assert_eq!(gateway.begin(Transport::Udp, &query().0).at_once().rcode(), rcode::SERVFAIL);
}

#[tokio::test]
async fn gen_26_a_refusal_without_recursion_is_no_failure_with_it() {
    let gateway = Gateway::new(|ask| {
        let built = Built::to(ask);
        Play::Answer(if ask.recursion_desired { built.a(60, 1) } else { built.rcode(rcode::REFUSED) })
    });
    assert_eq!(gateway.udp(&query().flags(Flags::RD, false)).await.rcode(), rcode::REFUSED);
    assert_eq!(gateway.udp(&query()).await.rcode(), rcode::NOERROR);
}

#[tokio::test]
async fn neg_14_18_a_success_ends_the_growth_and_fresh_data_comes_first() {
    let fails = Arc::new(AtomicBool::new(true));
    let script = Arc::clone(&fails);
    let cache = cache::Settings { stale_window: Duration::ZERO, ..cache::Settings::default() };
    let gateway = Gateway::with(Plan { cache, ..Plan::default() }, move |ask| {
        let built = Built::to(ask);
        Play::Answer(if script.load(Relaxed) { built.rcode(rcode::SERVFAIL) } else { built.a(3, 1) })
    });
    gateway.udp(&query()).await;
    gateway.pass(5);
    fails.store(false, Relaxed);
    assert_eq!(gateway.udp(&query()).await.rcode(), rcode::NOERROR);
    assert!(gateway.pipeline.shared.failures.is_empty());
    assert_eq!(gateway.begin(Transport::Udp, &query().0).at_once().facts.source, Source::Cache);
    gateway.pass(3);
    fails.store(true, Relaxed);
    gateway.udp(&query()).await;
    let recalled = gateway.begin(Transport::Udp, &query().0).at_once();
    assert_eq!(recalled.facts.trail.recall, Recall::Failure { left: 5 });
}

#[tokio::test]
async fn ede_01_06_07_15_reasons_are_told_to_those_who_speak_edns() {
    for (cause, code, end) in [
        (Cause::Timeout, 22, AttemptEnd::Timeout),
        (Cause::Connect, 22, AttemptEnd::Connect),
        (Cause::Tls, 23, AttemptEnd::Tls),
    ] {
        let gateway = Gateway::new(move |_| Play::Fail(cause));
        let got = gateway.udp(&query()).await;
        assert_eq!((got.rcode(), got.edes(), got.facts.source), (rcode::SERVFAIL, vec![code], Source::Error));
        assert_eq!((got.facts.trail.ede, got.facts.trail.attempts.kept()[0].end), (Some(code), end));
        assert_eq!(gateway.udp(&query()).await.edes(), [13, code]);
        assert!(gateway.udp(&Built::query("t.example", rtype::A)).await.edns.is_none());
    }
}

#[tokio::test]
async fn ede_03_an_upstreams_reason_is_relayed_and_kept() {
    let gateway = Gateway::new(|ask| {
        let options: [(u16, &[u8]); 3] = [(option::NSID, b"x"), (option::EDE, &[0, 6, b'b']), (option::EDE, &[0, 9])];
        Play::Answer(Built::to(ask).rcode(rcode::SERVFAIL).opt(0, true, &options))
    });
    let got = gateway.udp(&query()).await;
    assert_eq!((got.rcode(), got.edes()), (rcode::SERVFAIL, vec![6]));
    assert_eq!(got.option(option::NSID), None);
    assert_eq!(gateway.udp(&query()).await.edes(), [13, 6]);
}

#[tokio::test]
async fn edn_15_rcodes_of_the_upstream_hop_stay_there() {
    for code in [16, 23] {
        let gateway = Gateway::new(move |ask| Play::Answer(Built::to(ask).rcode(code).opt(code, false, &[])));
        assert_eq!(gateway.udp(&query()).await.rcode(), rcode::SERVFAIL);
    }
}

#[tokio::test]
async fn tcf_05_06_truncation_upstream_is_tc_for_datagrams_alone_and_never_kept() {
    let gateway = Gateway::new(|_| Play::Fail(Cause::Truncated));
    for _ in 0..2 {
        let got = gateway.udp(&query()).await;
        assert_eq!((got.rcode(), got.has(Flags::TC), got.records.len()), (rcode::NOERROR, true, 0));
    }
    let got = gateway.tcp(&query()).await;
    assert_eq!((got.rcode(), got.has(Flags::TC), got.edes()), (rcode::SERVFAIL, false, vec![23]));
    assert_eq!(gateway.asked(), 3, "ttl_06");
    let gateway = Gateway::new(|ask| Play::Answer(Built::to(ask).a(60, 1).flags(Flags::TC, true)));
    for transport in [Transport::Udp, Transport::Dot] {
        let got = gateway.over(transport, &query()).await;
        assert_eq!((got.rcode(), got.has(Flags::TC), got.edes()), (rcode::SERVFAIL, false, vec![23]));
    }
    assert_eq!(gateway.asked(), 2);
}

#[tokio::test]
async fn prg_09_an_unreadable_answer_is_a_prompt_servfail() {
    let shapes: [fn(&crate::upstream::Ask) -> Vec<u8>; 6] = [
        |_| Vec::new(),
        |_| vec![0; 12],
        |ask| Built::to(ask).a(60, 1).0[..40].to_vec(),
        |ask| Built::to(ask).record(crate::wire::Section::Answer, &[0xc0, 0xff], (1, 1), &[1, 2, 3, 4]).0,
        |ask| Built::to(ask).opt(0, false, &[]).opt(0, false, &[]).0,
        |_| Built::query("other.example", rtype::A).flags(Flags::QR, true).0,
    ];
    for (at, shape) in shapes.into_iter().enumerate() {
        let gateway = Gateway::new(move |ask| Play::Raw(shape(ask)));
        let got = gateway.udp(&query()).await;
        assert_eq!((got.rcode(), got.edes()), (rcode::SERVFAIL, vec![23]), "shape {at}");
    }
}
