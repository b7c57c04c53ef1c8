//! Many who ask the same at once: one question upstream, and each gets an answer of its own.

use std::time::Duration;

use hushgate::peer::Transport;
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;

use crate::admin::openmetrics::Scrape;
use crate::admin::scrape_until;
use crate::harness::{Act, Answer, Ask, Rig, client, message};
use crate::over_all;

/// How many of 1000 clients come over each transport.
const HERD: [(Transport, usize); 7] = [
    (Transport::Udp, 500),
    (Transport::Tcp, 220),
    (Transport::Dot, 60),
    (Transport::Doh1, 60),
    (Transport::Doh2, 60),
    (Transport::Doh3, 50),
    (Transport::Doq, 50),
];

fn held() -> Act {
    Act::Hold(Answer::new().a(300, [192, 0, 2, 9]))
}

/// `text` in a letter case of its own for each `index`.
fn cased(text: &str, index: usize) -> String {
    let bit = |at: usize| index >> (at % 9) & 1 == 1;
    text.chars().enumerate().map(|(at, c)| if bit(at) { c.to_ascii_uppercase() } else { c }).collect()
}

/// Does `reply` answer `query`: its id, its letter case, an OPT record where it had one, and the one address?
fn check(transport: Transport, query: &[u8], reply: &[u8]) {
    let end = message::question_end(query);
    assert_eq!(reply[..2], query[..2], "its own id over {}", transport.name());
    assert_eq!(reply[12..end], query[12..end], "its own letter case over {}", transport.name());
    assert_eq!(message::counts(reply)[1], 1, "{:?}", message::read(reply));
    assert_eq!(message::counts(reply)[3], u16::from_be_bytes([query[10], query[11]]), "its own EDNS");
}

#[tokio::test]
async fn ttl_14_a_thousand_clients_on_all_transports_are_one_question_upstream() {
    let rig = std::sync::Arc::new(Rig::start().await);
    rig.upstream.script(|_| held());
    let mut herd = JoinSet::new();
    let clients = HERD.into_iter().flat_map(|(transport, count)| std::iter::repeat_n(transport, count));
    for (index, transport) in clients.enumerate() {
        let zero = matches!(transport, Transport::Doq);
        let ask = Ask::a(&cased("herd.of.many.example.org", index)).id(if zero { 0 } else { 1000 + index as u16 });
        let query = if index % 3 == 0 { ask.edns() } else { ask }.bytes();
        let rig = std::sync::Arc::clone(&rig);
        herd.spawn(async move {
            let reply = rig.ask(transport, &query).await.message;
            check(transport, &query, &reply);
        });
    }
    assert_eq!(herd.len(), 1000);
    scrape_until(rig.admin(), |now| now.value("joined_total") > 998.5).await;
    rig.upstream.release();
    while let Some(ended) = herd.join_next().await {
        ended.unwrap();
    }
    assert_eq!(rig.upstream.count(), 1);
}

#[tokio::test]
async fn ttl_14_followers_are_answered_though_the_leader_was_reset() {
    let rig = Rig::start().await;
    rig.upstream.script(|_| held());
    over_all!(Transport::ALL, |transport| {
        let name = format!("{}.led.example.org", transport.name());
        let before = rig.upstream.count();
        let mut leader = TcpStream::connect(rig.dns()).await.unwrap();
        client::send_framed(&mut leader, &Ask::a(&name).bytes()).await.unwrap();
        rig.upstream.asked(before + 1).await;
        let joined = scrape_until(rig.admin(), |_| true).await.value("joined_total");
        let query = Ask::a(&name).id(0).bytes();
        let releasing = async {
            let open = |now: &Scrape| now.value("connections_open{transport=\"tcp\"}");
            let both = open(&scrape_until(rig.admin(), |now| now.value("joined_total") > joined + 0.5).await);
            leader.set_zero_linger().unwrap();
            drop(leader);
            scrape_until(rig.admin(), |now| open(now) < both - 0.5).await;
            rig.upstream.release();
        };
        let (answered, ()) = tokio::join!(rig.ask(transport, &query), releasing);
        check(transport, &query, &answered.message);
        assert_eq!(rig.upstream.count(), before + 1);
        rig.upstream.hold_again();
    });
}

/// Two ask at once over `transport`, then a third after the answer; how often was the upstream asked for each?
async fn two_and_a_third(rig: &Rig, transport: Transport, answer: Answer) -> (usize, usize) {
    named_pair_and_a_third(rig, transport, "pair", answer).await
}

async fn named_pair_and_a_third(rig: &Rig, transport: Transport, label: &str, answer: Answer) -> (usize, usize) {
    let name = format!("{}.{label}.example.org", transport.name());
    let query = Ask::a(&name).id(0).bytes();
    let (rcode, records) = (message::rcode(&answer.to(&query)), message::counts(&answer.to(&query))[1]);
    rig.upstream.script(move |_| Act::Hold(answer.clone()));
    let before = rig.upstream.count();
    let joined = scrape_until(rig.admin(), |_| true).await.value("joined_total");
    let releasing = async {
        scrape_until(rig.admin(), |now| now.value("joined_total") > joined + 0.5).await;
        rig.upstream.release();
    };
    let (first, second, ()) = tokio::join!(rig.ask(transport, &query), rig.ask(transport, &query), releasing);
    for reply in [first, second] {
        assert_eq!(reply.message[..2], query[..2], "its own id over {}", transport.name());
        assert_eq!(message::rcode(&reply.message), rcode, "over {}", transport.name());
        assert_eq!(message::counts(&reply.message)[1], records, "over {}", transport.name());
    }
    let together = rig.upstream.count() - before;
    rig.ask(transport, &query).await;
    rig.upstream.hold_again();
    (together, rig.upstream.count() - before - together)
}

#[tokio::test]
async fn ttl_14_equal_questions_are_one_without_a_cache_too() {
    let rig = Rig::with("[cache]\nsize = \"0\"").await;
    over_all!(Transport::ALL, |transport| {
        let asked = Box::pin(two_and_a_third(&rig, transport, Answer::new().a(300, [192, 0, 2, 9]))).await;
        assert_eq!(asked, (1, 1));
    });
}

#[tokio::test]
async fn ttl_04_and_ttl_14_an_answer_of_no_ttl_serves_those_who_wait_and_nobody_after() {
    let rig = Rig::start().await;
    over_all!(Transport::ALL, |transport| {
        let asked = Box::pin(two_and_a_third(&rig, transport, Answer::new().a(0, [192, 0, 2, 9]))).await;
        assert_eq!(asked, (1, 1));
    });
}

#[tokio::test]
async fn ttl_14_a_herd_is_one_question_though_its_answer_is_not_kept() {
    let rig = Rig::start().await;
    let held = |rcode| Answer::new().rcode(rcode);
    for (what, answer, after) in [
        ("no SOA", held(0), 1),
        ("NXDOMAIN, no SOA", held(3), 1),
        // Remembered as a failure, and so not asked again at once.
        ("SERVFAIL", held(2), 0),
    ] {
        let name = what.replace([' ', ','], "");
        over_all!([Transport::Udp, Transport::Dot, Transport::Doh2, Transport::Doq], |transport| {
            let asked = Box::pin(named_pair_and_a_third(&rig, transport, &name, answer.clone())).await;
            assert_eq!(asked, (1, after), "{what}");
        });
    }
}

#[tokio::test]
async fn ttl_09_and_gen_26_questions_that_differ_in_do_cd_or_rd_are_not_joined() {
    let rig = Rig::start().await;
    rig.upstream.script(|_| held());
    let variants: Vec<Ask> = (0..8)
        .map(|bits: u16| {
            let ask = Ask::a("apart.example.org").id(bits).flags((bits & 1) << 8 | (bits & 2) << 3).edns();
            if bits & 4 != 0 { ask.dnssec() } else { ask }
        })
        .collect();
    let mut stream = rig.dot_stream().await;
    for ask in &variants {
        client::send_framed(&mut stream, &ask.bytes()).await.unwrap();
    }
    rig.upstream.asked(8).await;
    // AD is asked for always: who sets it joins who does not.
    client::send_framed(&mut stream, &Ask::a("apart.example.org").id(8).flags(0x0120).bytes()).await.unwrap();
    scrape_until(rig.admin(), |now| now.value("joined_total") > 0.5).await;
    rig.upstream.release();
    let mut ids = Vec::new();
    for _ in 0..9 {
        let reply = client::read_framed(&mut stream).await.unwrap();
        let id = u16::from_be_bytes([reply[0], reply[1]]);
        if let Some(ask) = variants.get(usize::from(id)) {
            assert_eq!(message::flags(&reply) & 0x0110, ask.flags, "RD and CD of its own");
        }
        ids.push(id);
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..9).collect::<Vec<_>>());
    let mut asked: Vec<(u16, bool)> = rig
        .upstream
        .log()
        .iter()
        .filter(|asked| !asked.name().is_empty())
        .map(|asked| {
            (message::flags(&asked.message) & 0x0110, message::read(&asked.message).edns.unwrap().flags().dnssec_ok)
        })
        .collect();
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked.len(), 8, "each as it was asked: {asked:?}");
}

/// Clients that may wait for one flight beside its leader.
const FOLLOWERS: usize = 4096;

#[tokio::test]
async fn a_flight_that_is_full_answers_servfail_and_the_next_question_is_fine() {
    // After a third of it the question goes out again: a slow machine must be done with all followers by then.
    let rig = Rig::set("", &["upstream.timeout=\"60s\"", "upstream.attempt_timeout=\"60s\""]).await;
    rig.upstream.script(|_| held());
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(rig.dns()).await.unwrap();
    socket.send(&Ask::a("full.example.org").edns().id(0).bytes()).await.unwrap();
    rig.upstream.asked(1).await;
    for id in 1..=FOLLOWERS as u16 {
        socket.send(&Ask::a("full.example.org").edns().id(id).bytes()).await.unwrap();
        if id % 64 == 0 || usize::from(id) == FOLLOWERS {
            // No more than the sockets hold at a time.
            scrape_until(rig.admin(), |now| now.value("joined_total") > f64::from(id) - 0.5).await;
        }
    }
    over_all!(Transport::ALL, |transport| {
        let refused = rig.ask(transport, &Ask::a("full.example.org").edns().id(0).bytes()).await.message;
        assert_eq!((message::rcode(&refused), message::ede(&refused)), (2, Some(0)), "{:?}", message::read(&refused));
    });
    let scraped = scrape_until(rig.admin(), |_| true).await;
    assert!((scraped.value("join_full_total") - 7.0).abs() < 1e-9);
    rig.upstream.release();
    let mut buffer = [0; 512];
    for _ in 0..=FOLLOWERS / 16 {
        tokio::time::timeout(Duration::from_secs(10), socket.recv(&mut buffer)).await.unwrap().unwrap();
        assert_eq!(message::rcode(&buffer), 0);
    }
    over_all!(Transport::ALL, |transport| {
        let answered = rig.ask(transport, &Ask::a("full.example.org").id(0).bytes()).await.message;
        assert_eq!(message::counts(&answered)[1], 1, "being refused is not remembered");
    });
    assert_eq!(rig.upstream.count(), 1);
}
