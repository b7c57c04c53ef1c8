//! Real messages with something wrong: a thousand over each way to ask, a thousand from servers of each transport. Nothing panics,
//! connections and questions under way come back to none, and the next good question is answered.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hushgate::peer::Transport;
use tokio::time::timeout;

use crate::admin::scrape_until;
use crate::harness::mutation::{Way, corpus, mutant, mutate};
use crate::harness::raw::Noise;
use crate::harness::servers::{Authority, Leg, Server};
use crate::harness::{Answer, Ask, Rig, client, message};

/// Mutants for each way to ask, and for each transport of servers.
const MANY: usize = 1000;

/// Where the noise begins; each way has its own, so that one alone fails as it does among the others.
const SEED: u64 = 8906;

#[tokio::test]
async fn a_thousand_mutants_over_each_way_provoke_no_panic_and_leave_nothing_behind() {
    let rig = Rig::set("[limits]\nqueries_per_second = 0", &["upstream.timeout=500ms"]).await;
    let (corpus, endpoint) = (corpus(), client::endpoint());
    for (way, seed) in Way::all().zip(SEED..) {
        eprintln!("{way:?}, seed {seed}");
        let mut noise = Noise::new(seed);
        for batch in 0..4 {
            let mutants = (0..MANY / 4).map(|_| mutant(&corpus, &mut noise)).collect();
            timeout(client::PATIENCE, way.send(&rig, &endpoint, mutants)).await.unwrap();
            let name = format!("good{batch}.{}.{}.example.net", way.get, way.transport.name());
            let reply = rig.ask(way.transport, &Ask::a(&name).id(0).bytes()).await.message;
            assert_eq!((message::rcode(&reply), message::counts(&reply)[1]), (0, 1), "after batch {batch}");
        }
        assert_eq!(rig.metric("hushgate_panics_total").await, 0, "seed {seed}");
        rig.upstream.forget();
    }
    rig.assert_well("mutants").await;
    assert_nothing_left(&rig).await;
}

/// No connection and no question under way. (Memory is measured where nothing else runs: `tests/flat.rs`.)
async fn assert_nothing_left(rig: &Rig) {
    let left = |what: &'static str| move |now: &crate::admin::openmetrics::Scrape| now.value(what) < 0.5;
    scrape_until(rig.admin(), left("joins")).await;
    scrape_until(rig.admin(), left("connections_held")).await;
}

/// Every kind of server there is.
const LEGS: [Leg; 6] = [Leg::Udp, Leg::Tcp, Leg::Tls, Leg::Https, Leg::H3, Leg::Quic];

/// An answer to `query` of one of many shapes, most of them wrong behind the question, some anywhere.
fn mutant_answer(query: &[u8], corpus: &[Vec<u8>], noise: &mut Noise) -> Vec<u8> {
    let soa = |answer: Answer| answer.soa("example", 60, 60);
    let shape = match noise.below(5) {
        0 => Answer::new().a(300, [192, 0, 2, 1]),
        1 => {
            Answer::new().answer("@", 5, 300, &message::name("t.example")).answer("t.example", 1, 300, &[192, 0, 2, 2])
        }
        2 => soa(Answer::new().rcode(3)),
        3 => soa(Answer::new()).authority(
            "@",
            46,
            60,
            &[&[0, 6, 8, 2][..], &[0; 14], &message::name("example"), &[5; 64]].concat(),
        ),
        _ => Answer::new().answer("@", 15, 60, &[0, 1, 0xc0, 12]).additional("x.example", 28, 60, &[1; 16]),
    };
    let mut octets = shape.opt(&[(15, &[0, 22, b'x']), (10, &[1; 16])]).to(query);
    let from = if noise.below(4) == 0 { 0 } else { message::question_end(query) };
    mutate(&mut octets, from, corpus, noise);
    octets
}

/// What reaches a client can be read to its end; what the data of a record means is not ours to judge.
fn assert_whole(reply: &[u8]) {
    use hushgate::wire::{Header, Record, Records};
    let header = Header::parse(reply).unwrap();
    let records: Vec<Record> = Records::new(reply, &header).unwrap().map(Result::unwrap).collect();
    let counts = message::counts(reply);
    assert_eq!(records.len(), counts[1..].iter().map(|&count| usize::from(count)).sum::<usize>());
    assert_eq!(records.last().map_or(message::question_end(reply), |last| last.rdata.end.into()), reply.len());
}

#[tokio::test]
async fn a_thousand_mutants_from_servers_of_each_transport_provoke_no_panic_and_are_forgotten() {
    let authority = Authority::new();
    let messages = Arc::new(corpus());
    let good = Arc::new(AtomicBool::new(false));
    let mut servers = Vec::new();
    let mut toml = String::from("[limits]\nqueries_per_second = 0\noutstanding_per_domain = 2000\n");
    for (leg, seed) in LEGS.into_iter().zip(SEED..) {
        eprintln!("{leg:?}, seed {seed}");
        let noise = std::sync::Mutex::new(Noise::new(seed));
        let (messages, good) = (Arc::clone(&messages), Arc::clone(&good));
        let server = Server::saying(leg, &authority, move |query| {
            if good.load(Ordering::SeqCst) {
                return Answer::new().a(300, [192, 0, 2, 9]).to(query);
            }
            mutant_answer(query, &messages, &mut noise.lock().unwrap())
        });
        let server = server.await;
        let scheme = leg.scheme();
        write!(
            toml,
            "[pool.{scheme}]\nservers = [{}]\ntimeout = \"400ms\"\nattempt_timeout = \"150ms\"\n\
             [[forward]]\ndomains = [\"{scheme}.example\"]\npool = \"{scheme}\"\n",
            server.entry()
        )
        .unwrap();
        servers.push(server);
    }
    let rig = Arc::new(Rig::beside(&[("ca.pem", &authority.pem)], &toml, &[]).await);
    for server in &servers {
        let mut asked = 0;
        while server.questions() < MANY {
            assert!(asked < 20 * MANY, "{:?} hears {} of {asked} questions", server.leg, server.questions());
            let mut asking = tokio::task::JoinSet::new();
            for _ in 0..100 {
                asked += 1;
                let name = format!("n{asked}.{}.example", server.leg.scheme());
                let (rig, ask) = (Arc::clone(&rig), Ask::a(&name).id(0).edns());
                asking.spawn(async move {
                    let reply = rig.ask(Transport::Udp, &ask.bytes()).await.message;
                    assert_whole(&reply);
                });
            }
            asking.join_all().await;
        }
        assert_eq!(rig.metric("hushgate_panics_total").await, 0, "{:?}", server.leg);
    }
    good.store(true, Ordering::SeqCst);
    for server in &servers {
        let until = Instant::now() + client::PATIENCE;
        for round in 0.. {
            let ask = Ask::a(&format!("good{round}.{}.example", server.leg.scheme())).bytes();
            if rig.ask(Transport::Udp, &ask).await.message.ends_with(&[192, 0, 2, 9]) {
                break;
            }
            assert!(Instant::now() < until, "{:?} is never asked again", server.leg);
            // It may be left alone for a moment first.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    rig.assert_well("answers").await;
    assert_nothing_left(&rig).await;
}
