//! `[[cache.rule]]`: names that are kept for longer, for less, or not at all.

use std::time::Duration;

use super::rig::{Built, Gateway, Plan, Play, wire};
use crate::cache::{self, Rule};
use crate::peer::Transport;
use crate::reply::Scope;
use crate::trail::Recall;
use crate::upstream::Ask;
use crate::wire::registry::{rcode, rtype};

/// A gateway with rules, whose upstream denies names that begin with `n` and answers all others, TTL 300.
fn ruled(rules: &[(&str, Rule)], script: fn(&Ask) -> Play) -> Gateway {
    let mut cache = cache::Settings::default();
    for (domain, rule) in rules {
        cache.rules.insert(&wire(domain), *rule);
    }
    Gateway::with(Plan { cache, ..Plan::default() }, script)
}

fn answering(ask: &Ask) -> Play {
    let built = Built::to(ask);
    Play::Answer(if ask.question[1] == b'n' {
        built.rcode(rcode::NXDOMAIN).soa("example", 300, 300)
    } else {
        built.a(300, 1)
    })
}

#[tokio::test]
async fn the_rule_of_the_longest_domain_decides_how_long_a_name_is_kept() {
    let gateway = ruled(
        &[
            (
                "corp.example",
                Rule {
                    max_ttl: Some(Duration::from_mins(1)),
                    negative_ttl: Some(Duration::from_secs(10)),
                    ..Rule::default()
                },
            ),
            ("lab.corp.example", Rule { min_ttl: Some(Duration::from_hours(1)), ..Rule::default() }),
        ],
        answering,
    );
    for (name, ttl) in [
        ("a.example", 300),
        ("xcorp.example", 300),
        ("Corp.Example", 60),
        ("a.corp.example", 60),
        ("n.corp.example", 10),
        ("a.lab.corp.example", 3600),
        ("n.lab.corp.example", 300),
    ] {
        let query = Built::query(name, rtype::A);
        assert_eq!(gateway.udp(&query).await.ttls(), [ttl], "{name}");
        let hit = gateway.begin(Transport::Udp, &query.0).at_once();
        assert_eq!((hit.ttls(), hit.facts.freshness.max_age), (vec![ttl], ttl), "{name}");
    }
}

#[tokio::test]
async fn what_is_never_kept_is_asked_for_each_time_and_by_equal_questions_once() {
    let gateway = ruled(&[("live.example", Rule { never: true, ..Rule::default() })], answering);
    for name in ["a.live.example", "n.live.example"] {
        let before = gateway.asked();
        for asked in 1..3 {
            let got = gateway.udp(&Built::query(name, rtype::A)).await;
            assert_eq!(
                (gateway.asked() - before, got.ttls()),
                (asked, vec![300]),
                "{name}: its TTL is the client's to use"
            );
            assert_eq!(got.facts.freshness.scope, Scope::NoStore);
        }
    }
    assert_eq!(gateway.pipeline.shared.cache().stats().entries, 0);
    let held = {
        let mut cache = cache::Settings::default();
        cache.rules.insert(&wire("live.example"), Rule { never: true, ..Rule::default() });
        Gateway::with(Plan { cache, held: true, ..Plan::default() }, answering)
    };
    let query = Built::query("a.live.example", rtype::A);
    let releasing = async {
        tokio::task::yield_now().await;
        held.upstream.gate.add_permits(9);
    };
    let (one, other, ()) = tokio::join!(held.udp(&query), held.tcp(&query), releasing);
    assert_eq!((held.asked(), one.ttls(), other.ttls()), (1, vec![300], vec![300]));
}

#[tokio::test]
async fn failures_of_what_is_never_kept_are_remembered_all_the_same() {
    let failing = |ask: &Ask| Play::Answer(Built::to(ask).rcode(rcode::SERVFAIL));
    let gateway = ruled(&[("live.example", Rule { never: true, ..Rule::default() })], failing);
    let query = Built::query("a.live.example", rtype::A);
    gateway.udp(&query).await;
    let recalled = gateway.begin(Transport::Udp, &query.0).at_once();
    assert_eq!((recalled.facts.trail.recall, gateway.asked()), (Recall::Failure { left: 5 }, 1));
}
