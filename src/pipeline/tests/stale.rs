//! Serve-stale (STANDARDS group STL; RFC 8767): when what has expired stands in, and when it never does.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::Instant;

use super::fickle::{Fickle, Script};
use super::rig::{Built, Gateway, Got, Plan, Play, settings, wire};
use crate::cache;
use crate::peer::Transport;
use crate::pipeline::flushes::Flushes;
use crate::pipeline::join::FLIGHTS;
use crate::pipeline::{Pipeline, Settings};
use crate::reply::{Freshness, Scope, Source};
use crate::telemetry::Counter;
use crate::trail::{Join, Recall, Stale, UpstreamId};
use crate::upstream::Ask;
use crate::upstream::error::Cause;
use crate::wire::registry::{rcode, rtype};
use crate::wire::{Flags, Section};

impl Fickle {
    /// With t.example A asked and expired since a second; then the upstream does as `then` says.
    async fn expired(plan: Plan, then: Script) -> Self {
        let fickle = Self::with(plan, good);
        assert_eq!(fickle.gateway.udp(&query()).await.rcode(), rcode::NOERROR);
        fickle.gateway.pass(11);
        fickle.now(then);
        fickle
    }

    fn cached(settings: cache::Settings) -> Plan {
        Plan { cache: settings, ..Plan::default() }
    }
}

fn query() -> Built {
    Built::query("t.example", rtype::A).opt(0, true, &[])
}

fn good(ask: &Ask) -> Play {
    Play::Answer(Built::to(ask).flags(Flags::AD, true).a(10, 1))
}

fn better(ask: &Ask) -> Play {
    Play::Answer(Built::to(ask).a(600, 2))
}

fn gone(ask: &Ask) -> Play {
    Play::Answer(Built::to(ask).rcode(rcode::NXDOMAIN).soa("example", 60, 60))
}

fn servfail(ask: &Ask) -> Play {
    Play::Answer(Built::to(ask).rcode(rcode::SERVFAIL))
}

fn dead(_: &Ask) -> Play {
    Play::Fail(Cause::Timeout)
}

fn hang(_: &Ask) -> Play {
    Play::Hang
}

fn why(got: &Got) -> Stale {
    let Recall::Stale { why, .. } = got.facts.trail.recall else { panic!("not stale: {:?}", got.facts.trail.recall) };
    why
}

fn assert_stale(got: &Got, why: Stale, edes: &[u16]) {
    assert_eq!((got.rcode(), got.ttls(), got.facts.source), (rcode::NOERROR, vec![30], Source::Stale));
    assert_eq!((self::why(got), got.edes()), (why, edes.to_vec()));
    assert_eq!(got.rdata(0), [192, 0, 2, 1]);
}

#[tokio::test(start_paused = true)]
async fn stl_01_a_slow_upstream_has_its_time_before_the_stale_answer_is_sent() {
    let fickle = Fickle::expired(Plan::default(), hang).await;
    let begun = Instant::now();
    let got = fickle.gateway.udp(&query()).await;
    assert_eq!(begun.elapsed().as_millis() / 10, 180);
    assert_stale(&got, Stale::Slow, &[3]);
    assert_eq!(got.facts.trail.join, Join::Led);
    let Recall::Stale { age: 11, since: 1, supplier: UpstreamId(7), .. } = got.facts.trail.recall else {
        panic!("{:?}", got.facts.trail.recall)
    };
    let begun = Instant::now();
    let next = fickle.gateway.tcp(&query()).await;
    assert_stale(&next, Stale::Slow, &[3]);
    assert_eq!((next.facts.trail.join, begun.elapsed().as_millis()), (Join::Followed, 0), "it has had its time");
    assert_eq!(fickle.gateway.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn stl_01_a_fresh_answer_in_time_is_preferred() {
    let fickle = Fickle::expired(Plan::default(), better).await;
    let got = fickle.gateway.udp(&query()).await;
    assert_eq!((got.facts.source, got.rdata(0)), (Source::Upstream, &[192, 0, 2, 2][..]));
    assert_eq!(fickle.gateway.counters.stale.iter().map(Counter::value).sum::<u64>(), 0);
}

#[tokio::test(start_paused = true)]
async fn stl_01_a_failure_before_its_time_brings_the_stale_answer_at_once() {
    let dead: [(Script, &[u16]); 5] = [
        (dead, &[3, 22]),
        (|_| Play::Fail(Cause::Tls), &[3, 23]),
        (|_| Play::Raw(vec![0xff; 40]), &[3, 23]),
        (servfail, &[3]),
        (|ask| Play::Answer(Built::to(ask).rcode(rcode::REFUSED).opt(0, false, &[(15, &[0, 18])])), &[3, 18]),
    ];
    for (script, edes) in dead {
        let fickle = Fickle::expired(Plan::default(), script).await;
        let begun = Instant::now();
        assert_stale(&fickle.gateway.udp(&query()).await, Stale::Failed, edes);
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn stl_01_an_exchange_that_dies_or_may_not_begin_is_no_servfail_either() {
    let fickle = Fickle::expired(Plan::default(), |_| Play::Panic).await;
    assert_stale(&fickle.gateway.udp(&query()).await, Stale::Failed, &[3, 0]);
    let fickle = Fickle::expired(Plan::default(), good).await;
    let joins = &fickle.gateway.pipeline.shared.joins;
    let _flights: Vec<_> =
        (0..FLIGHTS).map(|at| joins.join(&at.to_be_bytes(), &Flushes::default(), || false)).collect();
    assert_stale(&fickle.gateway.udp(&query()).await, Stale::Full, &[3, 0]);
    assert_eq!(fickle.gateway.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn stl_01_a_client_that_waits_less_than_stale_after_gets_the_stale_answer_at_its_end() {
    let settings = Settings { timeout: Duration::from_secs(1), ..settings() };
    let fickle = Fickle::expired(Plan { settings, ..Plan::default() }, hang).await;
    let begun = Instant::now();
    assert_stale(&fickle.gateway.udp(&query()).await, Stale::Slow, &[3]);
    assert!(begun.elapsed() < Duration::from_millis(1050));
}

#[tokio::test(start_paused = true)]
async fn stl_01_without_stale_after_the_stale_answer_comes_at_once_and_is_refreshed_behind() {
    let settings = cache::Settings { stale_after: Duration::ZERO, ..cache::Settings::default() };
    let plan = Plan { held: true, ..Fickle::cached(settings) };
    let fickle = Fickle::with(plan, good);
    fickle.gateway.upstream.gate.add_permits(1);
    fickle.gateway.udp(&query()).await;
    fickle.gateway.pass(10);
    fickle.now(better);
    assert_stale(&fickle.gateway.udp(&query()).await, Stale::Slow, &[3]);
    fickle.gateway.upstream.gate.add_permits(1);
    landed(&fickle.gateway).await;
    assert_eq!(fickle.gateway.begin(Transport::Udp, &query().0).at_once().rdata(0), [192, 0, 2, 2]);
}

/// Waits until nothing is in flight.
async fn landed(gateway: &Gateway) {
    while gateway.pipeline.shared.joins_in_flight() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn stl_02_and_ede_05_and_sec_08_a_stale_answer_says_so_on_all_transports() {
    let fickle = Fickle::expired(Plan::default(), dead).await;
    for transport in Transport::ALL {
        let got = fickle.gateway.over(transport, &query()).await;
        assert!(!got.has(Flags::AD), "what was proven is no longer");
        assert_eq!((got.ttls(), got.edes()), (vec![30], vec![3, 22]));
        assert_eq!(got.facts.freshness, Freshness { max_age: 30, scope: Scope::Public });
    }
    let plain = fickle.gateway.udp(&Built::query("t.example", rtype::A)).await;
    assert_eq!(plain.rcode(), rcode::SERVFAIL, "DO is part of what was asked");
    assert_eq!(fickle.gateway.counters.answers[Source::Stale as usize].value(), 7);
}

#[tokio::test(start_paused = true)]
async fn stl_02_the_ttl_is_the_configured_one_even_above_what_the_answer_had() {
    let settings = cache::Settings { stale_ttl: Duration::from_secs(77), ..cache::Settings::default() };
    let fickle = Fickle::expired(Fickle::cached(settings), dead).await;
    assert_eq!(fickle.gateway.udp(&query()).await.ttls(), [77]);
}

#[tokio::test(start_paused = true)]
async fn ede_05_a_stale_nxdomain_is_19() {
    let fickle = Fickle::with(Plan::default(), gone);
    fickle.gateway.udp(&query()).await;
    fickle.gateway.pass(61);
    fickle.now(dead);
    let got = fickle.gateway.udp(&query()).await;
    assert_eq!((got.rcode(), got.edes(), got.ttls()), (rcode::NXDOMAIN, vec![19, 22], vec![30]));
}

#[tokio::test(start_paused = true)]
async fn stl_03_nothing_is_served_beyond_the_window_and_nothing_at_all_where_it_is_zero() {
    let settings = |window| cache::Settings { stale_window: Duration::from_secs(window), ..cache::Settings::default() };
    let fickle = Fickle::expired(Fickle::cached(settings(3600)), dead).await;
    fickle.gateway.pass(3500);
    assert_eq!(fickle.gateway.udp(&query()).await.facts.source, Source::Stale);
    fickle.gateway.pass(100);
    assert_eq!(fickle.gateway.udp(&query()).await.rcode(), rcode::SERVFAIL);
    let fickle = Fickle::expired(Fickle::cached(settings(0)), dead).await;
    fickle.gateway.upstream.down.store(true, Relaxed);
    let got = fickle.gateway.udp(&query()).await;
    assert_eq!((got.rcode(), got.edes()), (rcode::SERVFAIL, vec![22]));
}

#[tokio::test(start_paused = true)]
async fn stl_04_a_failure_is_tried_again_after_half_a_minute_and_until_then_stale_comes_at_once() {
    let fickle = Fickle::expired(Plan::default(), dead).await;
    assert_stale(&fickle.gateway.udp(&query()).await, Stale::Failed, &[3, 22]);
    for _ in 0..3 {
        let asked = fickle.gateway.asked();
        for pass in [0, 15, 14] {
            fickle.gateway.pass(pass);
            let got = fickle.gateway.begin(Transport::Udp, &query().0).at_once();
            assert_stale(&got, Stale::Lately, &[3, 22]);
        }
        assert_eq!(fickle.gateway.asked(), asked);
        fickle.gateway.pass(1);
        assert_stale(&fickle.gateway.udp(&query()).await, Stale::Failed, &[3, 22]);
        assert_eq!(fickle.gateway.asked(), asked + 1);
    }
    assert_eq!(fickle.gateway.counters.stale[Stale::Lately as usize].value(), 9);
}

#[tokio::test(start_paused = true)]
async fn stl_04_while_all_servers_are_down_stale_comes_at_once_and_they_are_asked_behind_every_half_minute() {
    let fickle = Fickle::expired(Plan::default(), dead).await;
    fickle.gateway.upstream.down.store(true, Relaxed);
    let errands = tokio::spawn(Pipeline::run_errands(tokio::sync::watch::channel(fickle.gateway.pipeline.clone()).1));
    let at_once = |why| {
        for _ in 0..50 {
            assert_stale(&fickle.gateway.begin(Transport::Udp, &query().0).at_once(), why, &[3, 22]);
        }
    };
    assert_stale(&fickle.gateway.begin(Transport::Udp, &query().0).at_once(), Stale::Down, &[3, 22]);
    at_once(Stale::Lately);
    while fickle.gateway.asked() < 2 {
        tokio::task::yield_now().await;
    }
    landed(&fickle.gateway).await;
    at_once(Stale::Lately);
    fickle.gateway.pass(30);
    fickle.now(better);
    assert_stale(&fickle.gateway.begin(Transport::Udp, &query().0).at_once(), Stale::Down, &[3, 22]);
    while fickle.gateway.asked() < 3 {
        tokio::task::yield_now().await;
    }
    landed(&fickle.gateway).await;
    let fresh = fickle.gateway.begin(Transport::Udp, &query().0).at_once();
    assert_eq!((fresh.facts.source, fresh.rdata(0)), (Source::Cache, &[192, 0, 2, 2][..]));
    assert_eq!(fickle.gateway.asked(), 3);
    errands.abort();
}

#[tokio::test(start_paused = true)]
async fn stl_04_once_a_server_has_come_back_nobody_waits_half_a_minute_for_what_failed_before() {
    let fickle = Fickle::expired(Plan::default(), dead).await;
    assert_stale(&fickle.gateway.udp(&query()).await, Stale::Failed, &[3, 22]);
    fickle.now(better);
    fickle.gateway.pass(2);
    assert_stale(&fickle.gateway.begin(Transport::Udp, &query().0).at_once(), Stale::Lately, &[3, 22]);
    fickle.gateway.upstream.comebacks.store(1, Relaxed);
    let fresh = fickle.gateway.udp(&query()).await;
    assert_eq!((fresh.facts.source, fresh.rdata(0)), (Source::Upstream, &[192, 0, 2, 2][..]));
}

#[tokio::test(start_paused = true)]
async fn stl_04_names_without_stale_data_are_asked_for_though_all_servers_are_down() {
    let fickle = Fickle::expired(Plan::default(), better).await;
    fickle.gateway.upstream.down.store(true, Relaxed);
    let other = Built::query("other.example", rtype::A);
    assert_eq!(fickle.gateway.udp(&other).await.rcode(), rcode::NOERROR);
}

#[tokio::test(start_paused = true)]
async fn stl_05_the_exchange_goes_on_behind_the_stale_answer_and_updates_the_cache() {
    let fickle = Fickle::with(Plan { held: true, ..Plan::default() }, good);
    fickle.gateway.upstream.gate.add_permits(1);
    fickle.gateway.udp(&query()).await;
    fickle.gateway.pass(10);
    fickle.now(better);
    assert_stale(&fickle.gateway.udp(&query()).await, Stale::Slow, &[3]);
    // Past the time a client waits, within that of a refresh.
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_stale(&fickle.gateway.udp(&query()).await, Stale::Slow, &[3]);
    fickle.gateway.upstream.gate.add_permits(1);
    landed(&fickle.gateway).await;
    let fresh = fickle.gateway.begin(Transport::Udp, &query().0).at_once();
    assert_eq!((fresh.facts.source, fresh.ttls()), (Source::Cache, vec![600]));
    let asked = fickle.gateway.upstream.asked.lock().unwrap();
    assert_eq!(asked.iter().map(|ask| ask.patient).collect::<Vec<_>>(), [false, true]);
}

#[tokio::test(start_paused = true)]
async fn stl_05_an_exchange_that_hangs_ends_all_the_same() {
    let fickle = Fickle::expired(Plan::default(), hang).await;
    assert_stale(&fickle.gateway.udp(&query()).await, Stale::Slow, &[3]);
    tokio::time::sleep(Duration::from_millis(8500)).await;
    assert_eq!(fickle.gateway.pipeline.shared.joins_in_flight(), 0);
    assert_stale(&fickle.gateway.begin(Transport::Udp, &query().0).at_once(), Stale::Lately, &[3, 22]);
}

#[tokio::test(start_paused = true)]
async fn stl_06_what_is_true_now_replaces_stale_data_and_failures_leave_it() {
    let empty: Script = |ask| Play::Answer(Built::to(ask).soa("example", 60, 60));
    let brief: Script = |ask| Play::Answer(Built::to(ask).a(0, 2));
    let bare: Script = |ask| Play::Answer(Built::to(ask).rcode(rcode::NXDOMAIN));
    for (fresh, expected) in [(gone as Script, rcode::NXDOMAIN), (empty, 0), (brief, 0), (bare, rcode::NXDOMAIN)] {
        let fickle = Fickle::expired(Plan::default(), servfail).await;
        assert_stale(&fickle.gateway.udp(&query()).await, Stale::Failed, &[3]);
        fickle.gateway.pass(30);
        fickle.now(fresh);
        assert_eq!(fickle.gateway.udp(&query()).await.rcode(), expected);
        fickle.now(dead);
        fickle.gateway.pass(61);
        let after = fickle.gateway.udp(&query()).await;
        assert!(after.types().iter().all(|&rtype| rtype != rtype::A), "the old address is gone");
    }
}

#[tokio::test(start_paused = true)]
async fn stl_06_data_that_may_not_be_kept_ends_a_denial_all_the_same() {
    let fickle = Fickle::with(Plan::default(), gone);
    assert_eq!(fickle.gateway.udp(&query()).await.rcode(), rcode::NXDOMAIN);
    fickle.gateway.pass(61);
    fickle.now(|ask| Play::Answer(Built::to(ask).a(0, 2)));
    assert_eq!(fickle.gateway.udp(&query()).await.rcode(), rcode::NOERROR);
    fickle.now(dead);
    assert_eq!(fickle.gateway.udp(&query()).await.rcode(), rcode::SERVFAIL, "the name has been seen to exist");
}

#[tokio::test(start_paused = true)]
async fn stl_04_a_failure_that_a_server_tells_holds_half_a_minute_too() {
    let refused: Script = |ask| Play::Answer(Built::to(ask).rcode(rcode::REFUSED));
    for then in [servfail as Script, refused] {
        let fickle = Fickle::expired(Plan::default(), then).await;
        assert_eq!(why(&fickle.gateway.udp(&query()).await), Stale::Failed);
        fickle.gateway.pass(29);
        assert_eq!(why(&fickle.gateway.begin(Transport::Udp, &query().0).at_once()), Stale::Lately);
        assert_eq!(fickle.gateway.asked(), 2, "not asked again in between");
    }
}

#[tokio::test(start_paused = true)]
async fn stl_07_and_ttl_04_what_was_not_to_be_kept_never_stands_in() {
    let scripts: [Script; 3] = [|ask| Play::Answer(Built::to(ask).a(0, 1)), servfail, dead];
    for script in scripts {
        let fickle = Fickle::with(Plan::default(), script);
        fickle.gateway.udp(&query()).await;
        fickle.gateway.pass(400);
        fickle.now(dead);
        let got = fickle.gateway.udp(&query()).await;
        assert_eq!((got.rcode(), got.edes(), got.facts.source), (rcode::SERVFAIL, vec![22], Source::Error));
    }
}

#[tokio::test(start_paused = true)]
async fn stl_08_those_who_want_no_recursion_get_no_stale_data() {
    let fickle = Fickle::expired(Plan::default(), dead).await;
    let cold = query().flags(Flags::RD, false);
    for _ in 0..2 {
        assert_eq!(fickle.gateway.udp(&cold).await.rcode(), rcode::SERVFAIL);
    }
    fickle.gateway.upstream.down.store(true, Relaxed);
    assert_eq!(fickle.gateway.udp(&cold).await.rcode(), rcode::SERVFAIL);
    assert_stale(&fickle.gateway.begin(Transport::Udp, &query().0).at_once(), Stale::Down, &[3, 22]);
}

/// t.example has an address, then `then` is learned of it under `rtype`, then nothing is heard any more: what stands in for the address?
async fn overtaken(then: Script, other: &Built) -> Got {
    let fickle = Fickle::expired(Plan::default(), then).await;
    fickle.gateway.udp(other).await;
    fickle.gateway.pass(1000);
    fickle.now(dead);
    fickle.gateway.udp(&query()).await
}

#[tokio::test(start_paused = true)]
async fn stl_09_a_name_that_has_become_an_alias_has_no_stale_records_of_other_types() {
    let alias: Script = |ask| Play::Answer(Built::to(ask).cname(300, "u.example"));
    let aliased: Script = |ask| {
        let answer = Built::to(ask).cname(300, "u.example");
        Play::Answer(answer.record(Section::Answer, &wire("u.example"), (28, 300), &[1; 16]))
    };
    for (then, rtype) in [(alias, rtype::CNAME), (aliased, rtype::AAAA)] {
        // In another letter case, and without DO: it is the name that has become an alias.
        let got = overtaken(then, &Built::query("T.EXAMPLE", rtype)).await;
        assert_eq!(got.rcode(), rcode::SERVFAIL, "{rtype}");
    }
    for (checking_disabled, dnssec_ok) in [(true, false), (false, true), (true, true)] {
        let other = Built::query("t.example", rtype::AAAA).flags(Flags::CD, checking_disabled);
        let got = overtaken(aliased, &other.opt(0, dnssec_ok, &[])).await;
        assert_eq!(got.rcode(), rcode::SERVFAIL, "whoever learned of it: CD {checking_disabled}, DO {dnssec_ok}");
    }
    let unrelated: Script =
        |ask| Play::Answer(Built::to(ask).record(Section::Answer, &[0xc0, 12], (rtype::TXT, 300), &[0]));
    assert_eq!(overtaken(unrelated, &Built::query("t.example", rtype::TXT)).await.facts.source, Source::Stale);
    assert_eq!(overtaken(alias, &Built::query("other.example", rtype::CNAME)).await.facts.source, Source::Stale);
}

#[tokio::test(start_paused = true)]
async fn stl_09_an_alias_that_is_older_forbids_nothing() {
    let fickle = Fickle::with(Plan::default(), |ask| Play::Answer(Built::to(ask).cname(10, "u.example")));
    fickle.gateway.udp(&Built::query("t.example", rtype::CNAME)).await;
    fickle.gateway.pass(20);
    fickle.now(good);
    fickle.gateway.udp(&query()).await;
    fickle.gateway.pass(20);
    fickle.now(dead);
    assert_stale(&fickle.gateway.udp(&query()).await, Stale::Failed, &[3, 22]);
}

#[tokio::test(start_paused = true)]
async fn stl_06_a_name_that_is_known_to_be_gone_has_no_stale_records() {
    assert_eq!(overtaken(gone, &Built::query("t.example", rtype::AAAA)).await.rcode(), rcode::SERVFAIL);
    let checking = Built::query("t.example", rtype::AAAA).flags(Flags::CD, true).opt(0, true, &[]);
    assert_eq!(overtaken(gone, &checking).await.rcode(), rcode::SERVFAIL, "whoever was told so");
}
