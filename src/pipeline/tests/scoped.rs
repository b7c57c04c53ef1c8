//! Clients that tell their subnet: what servers hear of it, whom an answer serves, and what the reply says (RFC 7871).

use super::rig::{Begun, Built, Gateway, Got, Plan, Play, settings};
use crate::cache::Selection;
use crate::peer::Transport;
use crate::pipeline::{Pipeline, Settings};
use crate::reply::{Scope, Source};
use crate::trail::Told;
use crate::upstream::error::Cause;
use crate::upstream::{Ask, SubnetRule};
use crate::wire::registry::{option, rcode, rtype};
use crate::wire::{Flags, Section, Subnet};

/// A gateway that forwards subnets.
fn forwarding(script: impl Fn(&Ask) -> Play + Send + Sync + 'static) -> Gateway {
    by(SubnetRule::Forward, script)
}

/// A gateway in front of a server with this rule, for clients of any network.
fn by(ecs: SubnetRule, script: impl Fn(&Ask) -> Play + Send + Sync + 'static) -> Gateway {
    Gateway::with(Plan { ecs, allow: "0.0.0.0/0", ..Plan::default() }, script)
}

/// What `ask` tells, as the data of an option with this SCOPE.
fn echo(ask: &Ask, scope: u8) -> Option<Vec<u8>> {
    ask.subnet.map(|told| told.subnet).map(|subnet| [&subnet.head(scope)[..], subnet.address()].concat())
}

/// An A record whose last octet tells the third of the subnet, for `scope` bits of it.
fn tailored(ask: &Ask, scope: u8) -> Play {
    let data = echo(ask, scope).unwrap_or_default();
    let built = Built::to(ask).a(300, data.get(6).copied().unwrap_or(0));
    Play::Answer(if data.is_empty() { built } else { built.opt(0, false, &[(option::ECS, &data)]) })
}

/// A question from 198.51.`third`.0 of so many bits.
fn from(name: &str, length: u8, third: u8) -> Built {
    let data = [0, 1, length, 0, 198, 51, third, 0];
    telling(name, &data[..4 + usize::from(length).div_ceil(8)])
}

fn telling(name: &str, data: &[u8]) -> Built {
    Built::query(name, rtype::A).opt(0, false, &[(option::ECS, data)])
}

/// What a client gets: the last octet of the address, and the SCOPE that it is told.
async fn got(gateway: &Gateway, query: &Built) -> (u8, u8) {
    let got = gateway.udp(query).await;
    (got.rdata(0)[3], got.option(option::ECS).unwrap()[3])
}

#[tokio::test(start_paused = true)]
async fn ecs_08_and_ecs_10_networks_get_their_own_answers_and_the_longest_prefix_wins() {
    let gateway = forwarding(|ask| tailored(ask, if ask.question.starts_with(b"\x04wide") { 16 } else { 24 }));
    for _ in 0..2 {
        assert_eq!(got(&gateway, &from("near.example", 24, 1)).await, (1, 24));
        assert_eq!(got(&gateway, &from("near.example", 24, 2)).await, (2, 24));
        assert_eq!(got(&gateway, &from("near.example", 32, 2)).await, (2, 24), "what is cut off does not split");
        assert_eq!(gateway.asked(), 2);
    }
    assert_eq!(got(&gateway, &from("wide.example", 24, 1)).await, (1, 16));
    assert_eq!(got(&gateway, &from("wide.example", 24, 2)).await, (1, 16), "a sibling");
    assert_eq!(gateway.asked(), 3);
    assert_eq!(got(&gateway, &telling("wide.example", &[0, 1, 24, 0, 198, 52, 9])).await, (9, 16), "not in it");
    assert_eq!(gateway.asked(), 4);
}

#[tokio::test(start_paused = true)]
async fn ecs_08_an_answer_for_more_bits_than_were_told_is_for_those_who_tell_as_many() {
    let gateway = forwarding(|ask| tailored(ask, 24));
    assert_eq!(got(&gateway, &from("a.example", 20, 16)).await, (16, 20));
    assert_eq!(got(&gateway, &from("a.example", 20, 16)).await, (16, 20));
    assert_eq!(gateway.asked(), 1);
    assert_eq!(got(&gateway, &from("a.example", 24, 17)).await, (17, 24), "is in it, and tells more");
    assert_eq!(got(&gateway, &from("a.example", 21, 16)).await, (16, 21));
    assert_eq!(gateway.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn ecs_07_and_ecs_13_scope_zero_none_at_all_and_denials_are_for_all_who_tell_a_subnet() {
    let gateway = forwarding(|ask| match ask.question[1] {
        b'z' => tailored(ask, 0),
        b'n' => Play::Answer(Built::to(ask).a(300, 7)),
        _ => {
            let data = echo(ask, 24).unwrap();
            Play::Answer(Built::to(ask).rcode(rcode::NXDOMAIN).soa("example", 60, 60).opt(
                0,
                false,
                &[(option::ECS, &data)],
            ))
        }
    });
    for name in ["zero.example", "none.example", "denied.example"] {
        let before = gateway.asked();
        for query in [from(name, 24, 1), from(name, 24, 2), telling(name, &[0, 2, 16, 0, 0x20, 1])] {
            let got = gateway.udp(&query).await;
            assert_eq!(got.option(option::ECS).unwrap()[3], 0, "{name}");
        }
        assert_eq!(gateway.asked(), before + 1, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn ecs_02_and_ecs_09_who_wants_nothing_told_has_nothing_told_and_is_answered_apart() {
    let gateway = forwarding(|ask| tailored(ask, 0));
    let hidden = telling("a.example", &[0, 1, 0, 0]);
    for query in [&hidden, &from("a.example", 24, 1), &Built::query("a.example", rtype::A)] {
        let asked = gateway.asked();
        for _ in 0..2 {
            assert_eq!(gateway.udp(query).await.rcode(), rcode::NOERROR);
        }
        assert_eq!(gateway.asked(), asked + 1);
    }
    let asked = gateway.upstream.asked.lock().unwrap();
    let told: Vec<_> = asked.iter().map(|ask| echo(ask, 0)).collect();
    assert_eq!(told, [Some(vec![0, 1, 0, 0]), Some(vec![0, 1, 24, 0, 198, 51, 1]), None]);
}

#[tokio::test(start_paused = true)]
async fn ecs_11_the_reply_mirrors_what_was_told_and_others_hear_nothing_of_it() {
    let gateway = forwarding(|ask| tailored(ask, 16));
    let data = [0, 1, 32, 0, 198, 51, 100, 77];
    for source in [Source::Upstream, Source::Cache] {
        let got = gateway.udp(&telling("a.example", &data)).await;
        assert_eq!(got.option(option::ECS), Some(vec![0, 1, 32, 16, 198, 51, 100, 77]));
        assert_eq!((got.facts.source, got.facts.freshness.scope), (source, Scope::Private), "DOH-13");
        let local = gateway.udp(&telling("localhost", &data)).await;
        assert_eq!(local.option(option::ECS), Some(data.to_vec()));
    }
    for _ in 0..2 {
        let got = gateway.udp(&Built::query("a.example", rtype::A).sized(1232)).await;
        assert_eq!((got.option(option::ECS), got.rdata(0)[3]), (None, 0));
    }
    assert_eq!(gateway.asked(), 2);
}

/// Every rule.
fn rules() -> [SubnetRule; 5] {
    let fixed = Subnet::of([203, 0, 113, 0].into()).within(24);
    [
        SubnetRule::Strip,
        SubnetRule::OptOut,
        SubnetRule::Forward,
        SubnetRule::Add { v4: 24, v6: 56 },
        SubnetRule::Fixed(fixed),
    ]
}

/// What the server of `gateway` was told with its last question.
fn told(gateway: &Gateway) -> Option<Vec<u8>> {
    echo(gateway.upstream.asked.lock().unwrap().last().unwrap(), 0)
}

async fn ask_from(gateway: &Gateway, address: &str, query: &Built) -> Got {
    gateway.begin_from(address, Transport::Udp, &query.0).got().await
}

#[tokio::test(start_paused = true)]
async fn ecs_02_no_bit_of_a_client_is_told_by_any_rule_where_it_says_so() {
    for rule in rules() {
        for (at, hidden) in [[0, 1, 0, 0], [0, 2, 0, 0], [0, 0, 0, 0]].into_iter().enumerate() {
            let gateway = by(rule, |ask| tailored(ask, 0));
            let got = ask_from(&gateway, "198.51.100.9", &telling("a.example", &hidden)).await;
            assert_eq!(got.rcode(), rcode::NOERROR, "{rule:?}");
            let nothing = if at == 1 { [0, 2, 0, 0] } else { [0, 1, 0, 0] };
            let (sent, said) = match rule {
                SubnetRule::Strip => (None, None),
                SubnetRule::OptOut => (Some(vec![0, 1, 0, 0]), None),
                SubnetRule::Forward | SubnetRule::Add { .. } => (Some(nothing.to_vec()), Some(hidden.to_vec())),
                SubnetRule::Fixed(_) => (Some(vec![0, 1, 24, 0, 203, 0, 113]), None),
            };
            assert_eq!((told(&gateway), got.option(option::ECS)), (sent, said), "{rule:?} {hidden:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn ecs_09_who_wants_nothing_told_shares_no_answer_with_those_whose_answer_is_for_all() {
    for rule in [SubnetRule::Forward, SubnetRule::Add { v4: 24, v6: 56 }] {
        let gateway = by(rule, |ask| tailored(ask, 0));
        let (hidden, open) = (telling("a.example", &[0, 1, 0, 0]), from("a.example", 24, 1));
        for (query, asked) in [(&hidden, 1), (&open, 2), (&hidden, 2), (&open, 2)] {
            assert_eq!(ask_from(&gateway, "198.51.1.9", query).await.rcode(), rcode::NOERROR);
            assert_eq!(gateway.asked(), asked, "{rule:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn ecs_01_what_no_server_is_told_is_neither_read_nor_said_again_and_one_answer_is_for_everyone() {
    for (rule, sent) in
        [(rules()[0], None), (rules()[1], Some(vec![0, 1, 0, 0])), (rules()[4], Some(vec![0, 1, 24, 0, 203, 0, 113]))]
    {
        let gateway = by(rule, |ask| tailored(ask, 24));
        let broken = telling("a.example", &[0, 3, 8, 0, 1]);
        for query in [&Built::query("a.example", rtype::A), &from("a.example", 24, 1), &broken] {
            for address in ["198.51.100.9", "203.0.113.7"] {
                let got = ask_from(&gateway, address, query).await;
                assert_eq!((got.rcode(), got.option(option::ECS)), (rcode::NOERROR, None), "{rule:?}");
                assert_eq!(got.facts.freshness.scope, Scope::Public);
            }
        }
        assert_eq!((gateway.asked(), told(&gateway)), (1, sent), "{rule:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn ecs_04_and_ecs_05_so_many_bits_of_the_clients_own_address_are_added_and_fewer_where_it_says_so() {
    let gateway = by(SubnetRule::Add { v4: 20, v6: 56 }, |ask| {
        tailored(ask, if ask.question.starts_with(b"\x04near") { 24 } else { 20 })
    });
    let plain = Built::query("a.example", rtype::A).sized(1232);
    let got = ask_from(&gateway, "198.51.100.77", &plain).await;
    assert_eq!((told(&gateway), got.option(option::ECS)), (Some(vec![0, 1, 20, 0, 198, 51, 96]), None));
    assert_eq!((got.rdata(0)[3], got.facts.freshness.scope), (96, Scope::Private), "DOH-13");
    let noted = got.facts.trail.attempts.last().map(|attempt| attempt.told);
    assert_eq!((noted, gateway.counters.subnets_told.value()), (Some(Told::Bits(20)), 1));
    for (address, asked) in [("198.51.111.1", 1), ("198.51.112.1", 2), ("198.51.100.1", 2)] {
        ask_from(&gateway, address, &plain).await;
        assert_eq!(gateway.asked(), asked, "{address}");
    }
    // Bits that no server is told do not split what is for those who tell as much.
    let near = Built::query("near.example", rtype::A);
    let before = gateway.asked();
    for (address, asked) in [("198.51.96.1", 1), ("198.51.111.1", 1), ("198.51.112.1", 2)] {
        ask_from(&gateway, address, &near).await;
        assert_eq!(gateway.asked() - before, asked, "{address}");
    }
    let narrow = telling("b.example", &[0, 1, 16, 0, 198, 51]);
    let got = ask_from(&gateway, "198.51.100.77", &narrow).await;
    assert_eq!(told(&gateway), Some(vec![0, 1, 16, 0, 198, 51]));
    assert_eq!(got.option(option::ECS), Some(vec![0, 1, 16, 16, 198, 51]));
    let wide = telling("c.example", &[0, 1, 32, 0, 198, 51, 100, 77]);
    let got = ask_from(&gateway, "198.51.100.77", &wide).await;
    assert_eq!(told(&gateway), Some(vec![0, 1, 20, 0, 198, 51, 96]));
    assert_eq!(got.option(option::ECS), Some(vec![0, 1, 32, 20, 198, 51, 100, 77]));
}

#[tokio::test(start_paused = true)]
async fn ecs_15_who_claims_to_be_elsewhere_is_not_believed_where_addresses_are_added() {
    let gateway = by(SubnetRule::Add { v4: 24, v6: 56 }, |ask| tailored(ask, 24));
    for (at, claim) in
        [&[0, 1, 24, 0, 203, 0, 113][..], &[0, 1, 24, 0, 10, 1, 2], &[0, 2, 16, 0, 0x20, 1]].into_iter().enumerate()
    {
        let name = format!("{at}.example");
        let got = ask_from(&gateway, "198.51.100.9", &telling(&name, claim)).await;
        assert_eq!((told(&gateway), got.rdata(0)[3]), (Some(vec![0, 1, 24, 0, 198, 51, 100]), 100));
        // For no more than those who claim the same.
        let echoed = [&claim[..3], &claim[2..3], &claim[4..]].concat();
        assert_eq!(got.option(option::ECS), Some(echoed));
        let asked = gateway.asked();
        let neighbour = ask_from(&gateway, "198.51.100.10", &Built::query(&name, rtype::A)).await;
        assert_eq!((neighbour.rdata(0)[3], gateway.asked()), (100, asked));
    }
    for (at, private) in ["10.1.2.3", "127.0.0.1", "100.64.3.4"].into_iter().enumerate() {
        for query in [&Built::query(&format!("p{at}.example"), rtype::A), &from(&format!("q{at}.example"), 24, 1)] {
            ask_from(&gateway, private, query).await;
            assert_eq!(told(&gateway), None, "{private}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn ecs_12_a_server_that_refuses_what_is_added_or_fixed_is_asked_without_any_address() {
    for rule in [rules()[3], rules()[4]] {
        let gateway = by(rule, |ask| match ask.subnet {
            Some(told) if told.subnet.length() > 0 => Play::Answer(Built::to(ask).rcode(rcode::REFUSED)),
            Some(_) | None => tailored(ask, 0),
        });
        for _ in 0..2 {
            let got = ask_from(&gateway, "198.51.100.9", &Built::query("a.example", rtype::A)).await;
            assert_eq!((got.rcode(), gateway.asked()), (rcode::NOERROR, 2), "{rule:?}");
            assert_eq!(told(&gateway), Some(vec![0, 1, 0, 0]));
        }
    }
    let strips = Gateway::new(|ask| Play::Answer(Built::to(ask).rcode(rcode::REFUSED)));
    strips.udp(&from("a.example", 24, 1)).await;
    assert_eq!(strips.asked(), 1, "where nothing was told, nothing can be left out");
}

#[tokio::test(start_paused = true)]
async fn ecs_13_that_there_is_no_such_name_is_for_everyone_whatever_scope_it_came_with() {
    let gateway = by(SubnetRule::Add { v4: 24, v6: 56 }, |ask| {
        let data = echo(ask, 24).unwrap();
        let rcode = if ask.question.starts_with(b"\x04gone") { rcode::NXDOMAIN } else { rcode::NOERROR };
        Play::Answer(Built::to(ask).rcode(rcode).soa("example", 60, 60).opt(0, false, &[(option::ECS, &data)]))
    });
    for (at, name) in ["gone.example", "empty.example"].into_iter().enumerate() {
        for address in ["198.51.100.9", "203.0.113.7"] {
            ask_from(&gateway, address, &Built::query(name, rtype::A)).await;
        }
        assert_eq!(gateway.asked(), at + 1, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn ecs_15_a_private_network_is_not_told() {
    let gateway = forwarding(|ask| tailored(ask, 0));
    let got = gateway.udp(&telling("a.example", &[0, 1, 24, 0, 10, 1, 2])).await;
    assert_eq!(got.option(option::ECS), Some(vec![0, 1, 24, 0, 10, 1, 2]));
    assert_eq!(gateway.upstream.asked.lock().unwrap()[0].subnet, None);
}

#[tokio::test(start_paused = true)]
async fn ecs_03_a_broken_option_is_a_format_error_and_none_at_all_while_subnets_are_ignored() {
    let script = |ask: &Ask| tailored(ask, 0);
    let (forwards, strips) = (forwarding(script), Gateway::new(script));
    for (at, data) in
        [&[0, 3, 8, 0, 1][..], &[0, 1, 33, 0, 1, 2, 3, 4, 5], &[0, 1, 24, 8, 1, 2, 3], &[0, 1, 20, 0, 1, 2, 3], &[]]
            .into_iter()
            .enumerate()
    {
        let query = telling(&format!("{at}.example"), data);
        let got = forwards.udp(&query).await;
        assert_eq!(
            (got.rcode(), got.edns.is_some(), got.option(option::ECS)),
            (rcode::FORMERR, true, None),
            "{data:?}"
        );
        assert_eq!(strips.udp(&query).await.rcode(), rcode::NOERROR, "ECS-01");
    }
    assert_eq!(forwards.asked(), 0);
    assert!(strips.upstream.asked.lock().unwrap().iter().all(|ask| ask.subnet.is_none()));
}

#[tokio::test(start_paused = true)]
async fn ecs_06_an_answer_to_another_subnet_is_none() {
    let gateway = forwarding(|ask| {
        Play::Answer(Built::to(ask).a(300, 1).opt(0, false, &[(option::ECS, &[0, 1, 24, 24, 203, 0, 113])]))
    });
    assert_eq!(gateway.udp(&from("a.example", 24, 1)).await.rcode(), rcode::SERVFAIL);
    let unasked = gateway.udp(&Built::query("b.example", rtype::A)).await;
    assert_eq!(unasked.rcode(), rcode::NOERROR, "where none was told, it is an option like others");
}

#[tokio::test(start_paused = true)]
async fn ecs_12_a_server_that_refuses_for_the_subnet_is_asked_without_its_address() {
    let gateway = forwarding(|ask| match ask.subnet {
        Some(told) if told.subnet.length() > 0 => Play::Answer(Built::to(ask).rcode(rcode::REFUSED)),
        Some(_) | None => tailored(ask, 0),
    });
    for _ in 0..2 {
        assert_eq!(gateway.udp(&from("a.example", 24, 1)).await.rcode(), rcode::NOERROR);
        assert_eq!(gateway.asked(), 2);
    }
    gateway.udp(&from("a.example", 24, 2)).await;
    assert_eq!(gateway.asked(), 4, "nothing says that it is for others");
}

#[tokio::test(start_paused = true)]
async fn clients_of_one_network_share_a_question_and_its_failure_and_others_do_not() {
    let gateway =
        Gateway::with(Plan { ecs: SubnetRule::Forward, held: true, ..Plan::default() }, |ask| match echo(ask, 0) {
            Some(data) if data[6] == 1 => Play::Fail(Cause::Connect),
            _ => tailored(ask, 24),
        });
    let begin = |third| match gateway.begin(Transport::Udp, &from("a.example", 32, third).0) {
        Begun::Later(pending) => tokio::spawn(pending),
        Begun::Sent(_) | Begun::Dropped(_) => panic!("answered at once"),
    };
    let waiting = [begin(1), begin(1), begin(2)];
    gateway.until_asked(2).await;
    gateway.upstream.gate.add_permits(100);
    for pending in waiting {
        pending.await.unwrap();
    }
    assert_eq!(gateway.asked(), 2);
    assert_eq!(gateway.udp(&from("a.example", 24, 1)).await.rcode(), rcode::SERVFAIL);
    assert_eq!(got(&gateway, &from("a.example", 24, 2)).await, (2, 24));
    assert_eq!(gateway.asked(), 2);
    assert_eq!(got(&gateway, &from("a.example", 24, 3)).await, (3, 24), "no failure of another network's");
}

#[tokio::test(start_paused = true)]
async fn what_stands_in_and_what_is_fetched_ahead_are_the_networks_own() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    let broken = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&broken);
    let gateway =
        forwarding(move |ask| if seen.load(Ordering::SeqCst) { Play::Fail(Cause::Connect) } else { tailored(ask, 24) });
    for third in [1, 2] {
        got(&gateway, &from("a.example", 24, third)).await;
    }
    gateway.pass(285);
    got(&gateway, &from("a.example", 24, 2)).await;
    let due = gateway.udp(&from("a.example", 24, 2)).await;
    assert_eq!(due.facts.source, Source::Cache);
    let errands = tokio::spawn(Pipeline::run_errands(tokio::sync::watch::channel(gateway.pipeline.clone()).1));
    gateway.until_asked(3).await;
    assert_eq!(echo(&gateway.upstream.asked.lock().unwrap()[2], 0), Some(vec![0, 1, 24, 0, 198, 51, 2]));
    errands.abort();
    broken.store(true, Ordering::SeqCst);
    gateway.pass(400);
    for third in [1, 2] {
        let stale = gateway.udp(&from("a.example", 24, third)).await;
        assert_eq!((stale.facts.source, stale.rdata(0)[3]), (Source::Stale, third));
        assert_eq!(stale.option(option::ECS).unwrap()[3], 24);
    }
    assert_eq!(gateway.udp(&from("a.example", 24, 3)).await.rcode(), rcode::SERVFAIL, "nobody else's stands in");
}

#[tokio::test(start_paused = true)]
async fn a_flush_of_the_name_means_the_answers_of_all_networks() {
    let gateway = forwarding(|ask| tailored(ask, 24));
    for third in [1, 2] {
        got(&gateway, &from("a.example", 24, third)).await;
    }
    let name = Selection::Name { name: super::rig::wire("a.example").into(), rtype: None };
    let (cache, mut taken) = (gateway.pipeline.shared.cache(), 0);
    let mut walk = cache.walk();
    while walk.step(&mut |entry| {
        taken += u32::from(name.takes(entry.key));
        crate::cache::Fate::Goes
    }) {}
    assert_eq!((taken, cache.stats().entries), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn pad_05_and_edn_10_the_subnet_and_what_passes_count_in_blocks_and_in_the_room_of_a_datagram() {
    let settings = Settings { pass: vec![65001], ..settings() };
    let plan = Plan { settings, ecs: SubnetRule::Forward, allow: "0.0.0.0/0", ..Plan::default() };
    let gateway = Gateway::with(plan, |ask| {
        let digits = std::str::from_utf8(&ask.question[1..5]).unwrap();
        let text = vec![b'x'; digits.parse().unwrap()];
        let built = Built::to(ask).record(Section::Answer, &[0xc0, 12], (rtype::TXT, 60), &text);
        Play::Answer(built.opt(0, false, &[(65001, b"back")]))
    });
    let subnet = (option::ECS, &[0, 1, 24, 0, 198, 51, 100][..]);
    let (passing, padding) = ((65001, &b"there"[..]), (option::PADDING, &[][..]));
    for options in [&[subnet, padding][..], &[passing, padding], &[subnet, passing, padding]] {
        let got = gateway.over(Transport::Dot, &Built::query("0100.example", rtype::TXT).opt(0, false, options)).await;
        assert_eq!((got.message.len() % 468, got.options().len()), (0, options.len()), "{options:?}");
    }
    // The first label says how long the data are, in digits; header, question, record and our OPT take 12 + 20 + 12 + 11.
    let (mut whole, mut cut) = (0, 0);
    for octets in 1150..1190 {
        let got = gateway.udp(&Built::query(&format!("{octets}.example"), rtype::TXT).opt(0, false, &[subnet])).await;
        assert!(got.message.len() <= 1232, "{octets}: {}", got.message.len());
        assert_eq!(got.option(option::ECS).map(|data| data.len()), Some(7));
        if got.has(Flags::TC) { cut += 1 } else { whole += 1 }
    }
    assert!(whole > 0 && cut > 0, "{whole} {cut}");
}
