//! Denials of what was there a moment ago: counted, told, and under guard asked again elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::rig::{Built, Gateway, Plan, Play, wire};
use crate::cache;
use crate::peer::Transport;
use crate::reply::Source;
use crate::trail::{Sudden, Why};
use crate::upstream::Ask;
use crate::upstream::error::Cause;
use crate::wire::Flags;
use crate::wire::registry::{rcode, rtype};

/// A gateway whose upstream has an A record of TTL 60 until it is gone; then each asks `first`, and a second opinion `second`.
struct Turning {
    gateway: Gateway,
    gone: Arc<AtomicBool>,
}

type Say = fn(&Ask) -> Play;

fn ruled(domains: &[(&str, bool)]) -> cache::Settings {
    let mut settings = cache::Settings::default();
    for &(domain, guard) in domains {
        settings.rules.insert(&wire(domain), cache::Rule { guard, ..cache::Rule::default() });
    }
    settings
}

impl Turning {
    fn new(guarded: bool, first: Say, second: Say) -> Self {
        let gone = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&gone);
        let plan = Plan { cache: ruled(&[("example", guarded)]), ..Plan::default() };
        let gateway = Gateway::with(plan, move |ask| match (seen.load(Ordering::SeqCst), ask.avoid) {
            (false, _) => has(ask),
            (true, None) => first(ask),
            (true, Some(_)) => second(ask),
        });
        Self { gateway, gone }
    }

    /// Fills the cache, lets the data expire and go.
    async fn turn(&self, query: &Built) {
        self.gateway.udp(query).await;
        self.gateway.pass(61);
        self.gone.store(true, Ordering::SeqCst);
    }

    fn counted(&self) -> [u64; 4] {
        self.gateway.counters.sudden.each_ref().map(crate::telemetry::counters::Counter::value)
    }
}

fn has(ask: &Ask) -> Play {
    Play::Answer(Built::to(ask).a(60, 1))
}

fn denies(ask: &Ask) -> Play {
    Play::Answer(Built::to(ask).rcode(rcode::NXDOMAIN).soa("example", 250, 250))
}

fn lacks(ask: &Ask) -> Play {
    Play::Answer(Built::to(ask).soa("example", 250, 250))
}

fn censors(ask: &Ask) -> Play {
    Play::Answer(Built::to(ask).rcode(rcode::NXDOMAIN))
}

fn fails(ask: &Ask) -> Play {
    Play::Answer(Built::to(ask).rcode(rcode::SERVFAIL))
}

fn breaks(_: &Ask) -> Play {
    Play::Fail(Cause::Unknown)
}

fn hangs(_: &Ask) -> Play {
    Play::Hang
}

fn query() -> Built {
    Built::query("www.example", rtype::A)
}

#[tokio::test]
async fn a_sudden_denial_is_counted_told_and_remembered_and_otherwise_believed_as_it_is() {
    for first in [denies as Say, lacks] {
        let turning = Turning::new(false, first, has);
        turning.turn(&query()).await;
        let gateway = &turning.gateway;
        let got = gateway.udp(&query()).await;
        assert_eq!((got.ttls(), got.facts.trail.sudden), (vec![250], Sudden::Unchecked { ago: 61 }));
        assert_eq!((gateway.asked(), turning.counted()), (2, [1, 0, 0, 0]));
        let hit = gateway.begin(Transport::Udp, &query().0).at_once();
        assert_eq!((hit.types(), hit.facts.trail.sudden), (vec![rtype::SOA], Sudden::Earlier));
        gateway.pass(251);
        let again = gateway.udp(&query()).await;
        assert_eq!(again.facts.trail.sudden, Sudden::No, "by now it is no news");
        assert_eq!(turning.counted(), [1, 0, 0, 0]);
    }
}

#[tokio::test]
async fn what_another_server_still_has_is_kept_in_the_place_of_the_denial() {
    for first in [denies as Say, lacks, censors] {
        let turning = Turning::new(true, first, has);
        turning.turn(&query()).await;
        let gateway = &turning.gateway;
        let got = gateway.udp(&query()).await;
        assert_eq!((got.rcode(), got.types(), got.ttls()), (rcode::NOERROR, vec![rtype::A], vec![60]));
        let trail = got.facts.trail;
        assert_eq!(trail.sudden, Sudden::Contradicted { ago: 61 });
        let why: Vec<Why> = trail.attempts.kept().iter().map(|attempt| attempt.why).collect();
        assert_eq!(why, [Why::First, Why::Doubt]);
        let hit = gateway.begin(Transport::Udp, &query().0).at_once();
        assert_eq!((hit.types(), hit.facts.trail.sudden), (vec![rtype::A], Sudden::No));
        assert_eq!((gateway.asked(), turning.counted()), (3, [0, 0, 0, 1]));
        let asked = gateway.upstream.asked.lock().unwrap();
        let expected = Ask { avoid: Some(crate::trail::UpstreamId(7)), ..asked[1].clone() };
        assert_eq!(asked[2], expected, "the same question, elsewhere");
    }
}

#[tokio::test]
async fn a_denial_that_another_server_makes_too_is_believed_for_thirty_seconds() {
    for (first, second, code) in [(denies as Say, denies as Say, 3), (lacks, denies, 0), (denies, censors, 3)] {
        let turning = Turning::new(true, first, second);
        turning.turn(&query()).await;
        let gateway = &turning.gateway;
        let got = gateway.udp(&query()).await;
        assert_eq!((got.rcode(), got.ttls(), got.facts.freshness.max_age), (code, vec![30], 30));
        assert_eq!(got.facts.trail.sudden, Sudden::Confirmed { ago: 61 });
        gateway.pass(29);
        let hit = gateway.begin(Transport::Udp, &query().0).at_once();
        assert_eq!((hit.ttls(), hit.facts.trail.sudden), (vec![1], Sudden::Earlier));
        gateway.pass(1);
        let again = gateway.udp(&query()).await;
        assert_eq!((gateway.asked(), again.ttls()), (4, vec![250]), "asked anew, and no longer sudden");
        assert_eq!(turning.counted(), [0, 0, 1, 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_denial_that_nobody_else_judges_is_believed_for_thirty_seconds_and_in_the_clients_time() {
    for second in [fails as Say, breaks, hangs] {
        let turning = Turning::new(true, denies, second);
        turning.turn(&query()).await;
        let began = Instant::now();
        let got = turning.gateway.udp(&query()).await;
        assert_eq!((got.rcode(), got.ttls()), (rcode::NXDOMAIN, vec![30]));
        assert_eq!(got.facts.trail.sudden, Sudden::Alone { ago: 61 });
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        assert_eq!(turning.counted(), [0, 1, 0, 0]);
        turning.gateway.begin(Transport::Udp, &query().0).at_once();
    }
}

#[tokio::test]
async fn a_denial_without_a_lifetime_is_told_as_sudden_and_not_kept() {
    let turning = Turning::new(true, censors, censors);
    turning.turn(&query()).await;
    // It is believed, so the data is forgotten, and it is no news the next time.
    for (asked, sudden) in [(3, Sudden::Confirmed { ago: 61 }), (4, Sudden::No)] {
        let got = turning.gateway.udp(&query()).await;
        assert_eq!((got.rcode(), got.facts.trail.sudden, turning.gateway.asked()), (rcode::NXDOMAIN, sudden, asked));
    }
}

#[tokio::test]
async fn what_was_never_there_or_went_long_ago_or_fails_is_not_sudden() {
    let turning = Turning::new(true, denies, has);
    turning.gone.store(true, Ordering::SeqCst);
    let got = turning.gateway.udp(&query()).await;
    assert_eq!((got.ttls(), got.facts.trail.sudden, turning.gateway.asked()), (vec![250], Sudden::No, 1));

    for (passed, is_news) in [(3500, true), (3600, false)] {
        let turning = Turning::new(true, denies, has);
        turning.turn(&query()).await;
        turning.gateway.pass(passed);
        let sudden = turning.gateway.udp(&query()).await.facts.trail.sudden;
        assert_eq!(matches!(sudden, Sudden::Contradicted { .. }), is_news, "{sudden:?}");
    }

    let turning = Turning::new(true, fails, has);
    turning.turn(&query()).await;
    let got = turning.gateway.udp(&query()).await;
    assert_eq!((got.facts.source, got.facts.trail.sudden), (Source::Stale, Sudden::No));
    assert_eq!((turning.gateway.asked(), turning.counted()), (2, [0; 4]));
}

#[tokio::test]
async fn a_denial_of_another_question_or_without_recursion_is_not_sudden() {
    let turning = Turning::new(true, lacks, has);
    turning.turn(&query()).await;
    for other in [
        Built::query("www.example", rtype::AAAA),
        Built::query("w.example", rtype::A),
        query().opt(0, true, &[]),
        query().flags(Flags::RD, false),
    ] {
        assert_eq!(turning.gateway.udp(&other).await.facts.trail.sudden, Sudden::No);
    }
    assert_eq!(turning.gateway.asked(), 5);
}

#[tokio::test]
async fn that_a_name_does_not_exist_is_sudden_whatever_type_it_had_data_of() {
    let aaaa = Built::query("www.example", rtype::AAAA);
    let turning = Turning::new(true, denies, lacks);
    turning.turn(&query()).await;
    let got = turning.gateway.udp(&aaaa).await;
    let sudden = Sudden::Contradicted { ago: 61 };
    assert_eq!((got.rcode(), got.facts.trail.sudden), (rcode::NOERROR, sudden), "no data is no denial of the name");
    let turning = Turning::new(true, denies, denies);
    turning.turn(&query()).await;
    let got = turning.gateway.udp(&aaaa).await;
    assert_eq!((got.rcode(), got.facts.trail.sudden), (rcode::NXDOMAIN, Sudden::Confirmed { ago: 61 }));
}

#[tokio::test]
async fn whoever_waits_for_the_flight_hears_the_second_opinion() {
    let turning = Turning::new(true, denies, has);
    turning.turn(&query()).await;
    let query = query();
    let (one, other) = tokio::join!(turning.gateway.udp(&query), turning.gateway.tcp(&query));
    for got in [one, other] {
        assert_eq!((got.types(), got.facts.trail.sudden), (vec![rtype::A], Sudden::Contradicted { ago: 61 }));
    }
    assert_eq!((turning.gateway.asked(), turning.counted()), (3, [0, 0, 0, 1]));
}

#[test]
fn the_longest_domain_says_whether_a_name_is_under_guard() {
    let settings = ruled(&[("example", true), ("open.example", false), ("x.open.example", true)]);
    for (name, guarded) in [
        ("example", true),
        ("www.Example", true),
        ("open.example", false),
        ("a.OPEN.example", false),
        ("a.x.open.example", true),
        ("wwwexample", false),
        (".", false),
    ] {
        assert_eq!(settings.is_guarded(&wire(name)), guarded, "{name}");
    }
    assert!(!cache::Settings::default().is_guarded(&wire("example")));
}
