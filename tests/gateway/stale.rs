//! Answers past their time (STANDARDS group STL; RFC 8767), through the front doors: an outage and what comes after it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hushgate::admin::Explained;
use hushgate::peer::Transport;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::admin::{get, scrape_until};
use crate::failover::Mortal;
use crate::harness::client::{self, Answered};
use crate::harness::{Act, Answer, Ask, Rig, message};
use crate::over_all;

const OLD: [u8; 4] = [192, 0, 2, 1];
const NEW: [u8; 4] = [192, 0, 2, 2];

fn name(transport: Transport) -> String {
    format!("{}.stale.example.org", transport.name())
}

fn ask(transport: Transport) -> Vec<u8> {
    Ask::a(&name(transport)).id(0).edns().bytes()
}

/// A gateway that was told of every transport's name, ten seconds of life each, that are over.
async fn expired(extra: &str, sets: &[&str]) -> Rig {
    let rig = Rig::set(extra, sets).await;
    rig.upstream.always(Answer::new().a(10, OLD));
    for transport in Transport::ALL {
        rig.ask(transport, &ask(transport)).await;
    }
    rig.pass(11);
    rig
}

fn codes(reply: &[u8]) -> Vec<u16> {
    let options = message::options(reply).unwrap_or_default().into_iter();
    options.filter(|(code, _)| *code == 15).map(|(_, data)| u16::from_be_bytes([data[0], data[1]])).collect()
}

fn assert_stale(answered: &Answered, reason: Option<u16>) {
    let reply = &answered.message;
    assert_eq!((message::rcode(reply), message::ttls(reply)), (0, vec![30]), "{:?}", message::read(reply));
    assert_eq!(codes(reply), [Some(3), reason].into_iter().flatten().collect::<Vec<_>>());
    assert!(reply.windows(4).any(|octets| octets == OLD));
    if let Some((status, headers)) = &answered.http {
        assert_eq!((*status, headers["cache-control"].to_str().unwrap()), (200, "max-age=30"));
    }
}

#[tokio::test]
async fn stl_01_and_stl_02_and_ede_05_names_keep_resolving_while_the_upstream_fails() {
    for rcode in [2, 5] {
        let rig = expired("", &[]).await;
        rig.upstream.always(Answer::new().rcode(rcode));
        over_all!(Transport::ALL, |transport| {
            for _ in 0..2 {
                assert_stale(&rig.ask(transport, &ask(transport)).await, None);
            }
            let unknown = Ask::a(&format!("unknown.{}", name(transport))).id(0).bytes();
            assert_eq!(message::rcode(&rig.ask(transport, &unknown).await.message), rcode, "nothing is made up");
        });
    }
}

#[tokio::test]
async fn stl_01_and_stl_05_names_keep_resolving_while_the_upstream_hangs_and_what_it_says_late_is_kept() {
    let rig = expired("[cache]\nstale_after = \"150ms\"", &[]).await;
    rig.upstream.script(|_| Act::Hold(Answer::new().a(300, NEW)));
    over_all!(Transport::ALL, |transport| {
        let begun = Instant::now();
        assert_stale(&rig.ask(transport, &ask(transport)).await, None);
        assert!(begun.elapsed() >= Duration::from_millis(150), "it has its time");
    });
    rig.upstream.release();
    over_all!(Transport::ALL, |transport| {
        let fresh = async {
            while !rig.ask(transport, &ask(transport)).await.message.windows(4).any(|octets| octets == NEW) {}
        };
        tokio::time::timeout(client::PATIENCE, fresh).await.expect("the late answer is kept");
    });
}

#[tokio::test]
async fn stl_04_names_keep_resolving_while_the_upstream_is_dead_and_it_is_known_to_be() {
    let mut mortal = Mortal::start();
    let server = format!("upstream.servers=[\"tcp://{}\"]", mortal.upstream.address);
    let rig = Rig::set("", &[&server, "upstream.attempt_timeout=1s"]).await;
    mortal.upstream.always(Answer::new().a(10, OLD));
    let names: Vec<Vec<u8>> = (0..20).map(|n| Ask::a(&format!("{n}.stale.example.org")).edns().bytes()).collect();
    for query in &names {
        rig.ask(Transport::Udp, query).await;
    }
    rig.pass(11);
    mortal.kill();
    for _ in 0..2 {
        for query in &names {
            let reply = rig.ask(Transport::Udp, query).await.message;
            assert_eq!((message::rcode(&reply), message::ttls(&reply)), (0, vec![30]));
            assert_eq!(codes(&reply)[0], 3);
        }
        rig.pass(31);
    }
    let page = get(rig.admin(), "/api/explain?name=7.stale.example.org&type=A").await;
    let road: Explained = serde_json::from_str(&page.body).unwrap();
    assert!(road.cache.outcome.starts_with("stale: the upstream"), "{road:?}");
    let down = scrape_until(rig.admin(), |_| true).await;
    assert!(down.value("stale_total{reason=\"down\"}") >= 20.0, "who is known to be down is not waited for");
    assert!(down.value("answers_total{source=\"stale\"}") >= 40.0);
}

#[tokio::test]
async fn stl_04_and_stl_06_a_recovered_upstream_is_believed_half_a_minute_later_at_most() {
    let rig = expired("", &[]).await;
    rig.upstream.always(Answer::new().rcode(2));
    over_all!(Transport::ALL, |transport| assert_stale(&rig.ask(transport, &ask(transport)).await, None));
    rig.upstream.always(Answer::new().a(300, NEW));
    let before = rig.upstream.count();
    rig.pass(28);
    over_all!(Transport::ALL, |transport| assert_stale(&rig.ask(transport, &ask(transport)).await, None));
    assert_eq!(rig.upstream.count(), before);
    rig.pass(3);
    over_all!(Transport::ALL, |transport| {
        let reply = rig.ask(transport, &ask(transport)).await.message;
        assert_eq!((message::ttls(&reply), codes(&reply)), (vec![300], vec![]));
    });
}

#[tokio::test]
async fn stl_03_nothing_stands_in_beyond_the_window_or_where_it_is_switched_off() {
    for (window, seconds) in [("1h", 3600), ("0s", 0)] {
        let rig = expired(&format!("[cache]\nstale_window = \"{window}\""), &[]).await;
        rig.upstream.always(Answer::new().rcode(2));
        rig.pass(seconds);
        over_all!(Transport::ALL, |transport| {
            let answered = rig.ask(transport, &ask(transport)).await;
            assert_eq!(message::rcode(&answered.message), 2);
        });
    }
}

#[tokio::test]
async fn stl_08_without_recursion_there_is_no_stale_data() {
    let rig = expired("", &[]).await;
    rig.upstream.always(Answer::new().rcode(2));
    over_all!(Transport::ALL, |transport| {
        let cold = Ask::a(&name(transport)).id(0).flags(0).bytes();
        assert_eq!(message::rcode(&rig.ask(transport, &cold).await.message), 2);
    });
}

#[tokio::test]
async fn stl_01_a_thousand_clients_of_an_expired_name_in_an_outage_are_one_question_upstream() {
    let mortal = Mortal::start();
    let server = format!("upstream.servers=[\"tcp://{}\"]", mortal.upstream.address);
    let rig = Arc::new(Rig::set("[cache]\nstale_after = \"300ms\"", &[&server]).await);
    mortal.upstream.always(Answer::new().a(10, OLD));
    rig.ask(Transport::Udp, &Ask::a("herd.example.org").edns().bytes()).await;
    rig.pass(11);
    mortal.upstream.script(|_| Act::Silence);
    let mut herd = JoinSet::new();
    for _ in 0..20 {
        let rig = Arc::clone(&rig);
        herd.spawn(async move {
            let (mut reader, mut writer) = TcpStream::connect(rig.dns()).await.unwrap().into_split();
            let asking = async {
                for id in 0..50 {
                    let query = Ask::a("herd.example.org").id(id).edns().bytes();
                    client::send_framed(&mut writer, &query).await.unwrap();
                }
            };
            let hearing = async {
                for _ in 0..50 {
                    let message = client::read_framed(&mut reader).await.expect("an answer");
                    assert_stale(&Answered { message, http: None }, None);
                }
            };
            tokio::join!(asking, hearing);
        });
    }
    while let Some(ended) = herd.join_next().await {
        ended.unwrap();
    }
    assert_eq!(mortal.upstream.count(), 2, "the first, and one for all of them");
}
