//! What stands in for what: expired answers beside newer ones of the same name, beside failures, and in every kind of trouble.

use std::sync::atomic::Ordering::Relaxed;

use super::fickle::{Fickle, Script};
use super::rig::{Built, Got, Plan, Play, settings, wire};
use crate::cache::{self, Rule};
use crate::pipeline::Settings;
use crate::reply::{Freshness, Scope, Source};
use crate::trail::{Join, Recall, Stale, Sudden};
use crate::upstream::Ask;
use crate::upstream::error::Cause;
use crate::wire::registry::{rcode, rtype};
use crate::wire::{Flags, Section};

impl Fickle {
    /// Asks while the upstream does as `script` says, and lets `seconds` pass.
    async fn learn(&self, script: Script, query: &Built, seconds: u64) -> Got {
        self.now(script);
        let got = self.gateway.udp(query).await;
        self.gateway.pass(seconds);
        got
    }
}

fn query(rtype: u16) -> Built {
    Built::query("t.example", rtype).opt(0, false, &[])
}

fn with_proofs(rtype: u16) -> Built {
    Built::query("t.example", rtype).opt(0, true, &[])
}

fn has(ask: &Ask) -> Play {
    Play::Answer(Built::to(ask).flags(Flags::AD, true).a(60, 1))
}

fn says(ask: &Ask) -> Play {
    Play::Answer(Built::to(ask).record(Section::Answer, &[0xc0, 12], (rtype::TXT, 60), &[1, b'x']))
}

fn lacks(ask: &Ask) -> Play {
    Play::Answer(Built::to(ask).soa("example", 60, 60))
}

fn denies(ask: &Ask) -> Play {
    Play::Answer(Built::to(ask).rcode(rcode::NXDOMAIN).soa("example", 60, 60))
}

fn dangles(ask: &Ask) -> Play {
    Play::Answer(Built::to(ask).rcode(rcode::NXDOMAIN).cname(60, "gone.example").soa("example", 60, 60))
}

fn fails(_: &Ask) -> Play {
    Play::Fail(Cause::Timeout)
}

#[tokio::test]
async fn stl_06_a_name_that_exists_again_is_not_said_to_be_gone_whoever_has_learned_that_it_does() {
    let cases: [(Script, u16); 4] = [(says, rtype::TXT), (lacks, rtype::TXT), (dangles, rtype::TXT), (lacks, 257)];
    for (then, other) in cases {
        for known in [query(other), with_proofs(other), with_proofs(other).flags(Flags::CD, true)] {
            let fickle = Fickle::with(Plan::default(), denies);
            fickle.learn(denies, &query(rtype::A), 61).await;
            fickle.learn(then, &known, 100).await;
            let got = fickle.learn(fails, &query(other), 0).await;
            let stale_denial = got.facts.source == Source::Stale
                && got.edes().first() == Some(&19)
                && !got.types().contains(&rtype::CNAME);
            assert!(!stale_denial, "type {other}: {:?}", got.facts.trail.recall);
        }
    }
    // What is older says nothing.
    let fickle = Fickle::with(Plan::default(), says);
    fickle.learn(says, &with_proofs(rtype::TXT), 61).await;
    fickle.learn(denies, &query(rtype::A), 61).await;
    let got = fickle.learn(fails, &query(rtype::A), 0).await;
    assert_eq!((got.rcode(), got.edes(), got.facts.source), (rcode::NXDOMAIN, vec![19, 22], Source::Stale));
}

#[tokio::test]
async fn neg_12_a_name_whose_stale_answer_is_gone_is_asked_for_when_its_failure_ends() {
    let plan = || {
        let stale_window = std::time::Duration::from_secs(20);
        Plan { cache: cache::Settings { stale_window, ..cache::Settings::default() }, ..Plan::default() }
    };
    let fickle = Fickle::with(plan(), has);
    fickle.learn(has, &query(rtype::A), 75).await;
    let stale = fickle.learn(fails, &query(rtype::A), 4).await;
    assert_eq!(stale.facts.source, Source::Stale);
    assert_eq!(fickle.learn(fails, &query(rtype::A), 3).await.facts.source, Source::Stale, "it is not asked again yet");
    assert_eq!(fickle.gateway.asked(), 2);
    // By now nothing stands in.
    let got = fickle.learn(has, &query(rtype::A), 0).await;
    assert_eq!((got.rcode(), got.facts.source, fickle.gateway.asked()), (rcode::NOERROR, Source::Upstream, 3));

    let fickle = Fickle::with(plan(), has);
    fickle.learn(has, &query(rtype::A), 79).await;
    fickle.learn(fails, &query(rtype::A), 1).await;
    let got = fickle.learn(fails, &query(rtype::A), 4).await;
    assert_eq!((got.rcode(), got.facts.trail.recall), (rcode::SERVFAIL, Recall::Failure { left: 4 }));
    for asked in [3, 3] {
        fickle.learn(fails, &query(rtype::A), 0).await;
        assert_eq!(fickle.gateway.asked(), asked, "NEG-13: once a window");
    }
}

#[tokio::test]
async fn a_sudden_denial_under_guard_does_not_stand_in_and_another_says_that_it_was_sudden() {
    for (guard, source, sudden) in [(true, Source::Error, Sudden::No), (false, Source::Stale, Sudden::Earlier)] {
        let mut cache = cache::Settings::default();
        cache.rules.insert(&wire("example"), Rule { guard, ..Rule::default() });
        let fickle = Fickle::with(Plan { cache, ..Plan::default() }, has);
        fickle.learn(has, &query(rtype::A), 61).await;
        assert_ne!(fickle.learn(denies, &query(rtype::A), 61).await.facts.trail.sudden, Sudden::No);
        let got = fickle.learn(fails, &query(rtype::A), 0).await;
        assert_eq!((got.facts.source, got.facts.trail.sudden), (source, sudden), "guard: {guard}");
    }
}

fn hangs(_: &Ask) -> Play {
    Play::Hang
}

fn refuses(ask: &Ask) -> Play {
    Play::Answer(Built::to(ask).rcode(rcode::REFUSED))
}

fn dies(_: &Ask) -> Play {
    Play::Panic
}

#[tokio::test(start_paused = true)]
async fn whatever_the_trouble_what_stands_in_looks_the_same_and_every_question_is_counted_once() {
    let troubles: [(Script, Stale, Join, &[u16]); 6] = [
        (fails, Stale::Failed, Join::Led, &[22]),
        (refuses, Stale::Failed, Join::Led, &[]),
        (dies, Stale::Failed, Join::Led, &[0]),
        (hangs, Stale::Slow, Join::Led, &[]),
        (fails, Stale::Down, Join::Unasked, &[22]),
        (fails, Stale::Full, Join::Crowded, &[0]),
    ];
    let kinds: [(Script, u16, u16); 3] =
        [(has, rcode::NOERROR, 3), (lacks, rcode::NOERROR, 3), (denies, rcode::NXDOMAIN, 19)];
    for (kept, code, first) in kinds {
        for (trouble, why, join, more) in troubles {
            let plan = Plan { settings: Settings { outstanding_per_domain: 1, ..settings() }, ..Plan::default() };
            let fickle = Fickle::with(plan, kept);
            fickle.learn(kept, &with_proofs(rtype::A), 100).await;
            let gateway = &fickle.gateway;
            gateway.upstream.down.store(why == Stale::Down, Relaxed);
            let key = wire("t.example");
            let _place = (why == Stale::Full).then(|| gateway.pipeline.shared.crowds.enter(&key).unwrap());
            let got = fickle.learn(trouble, &with_proofs(rtype::A), 0).await;
            let trail = got.facts.trail;
            assert!(matches!(trail.recall, Recall::Stale { age: 100, since: 40, why: told, .. } if told == why));
            assert_eq!((got.rcode(), got.facts.source, trail.join), (code, Source::Stale, join), "{why:?}");
            assert_eq!((got.edes()[0], &got.edes()[1..], got.has(Flags::AD)), (first, more, false), "{why:?}");
            assert!(got.ttls().iter().all(|&ttl| ttl == 30));
            assert_eq!(got.facts.freshness, Freshness { max_age: 30, scope: Scope::Public });
            // Without recursion nothing stands in, and without the bits nothing of theirs does.
            for other in [with_proofs(rtype::A).flags(Flags::RD, false), query(rtype::A)] {
                assert_ne!(gateway.udp(&other).await.facts.source, Source::Stale);
            }
            let sum: u64 = gateway.counters.answers.iter().map(crate::telemetry::Counter::value).sum();
            assert_eq!(sum, 4, "{why:?}");
        }
    }
}
