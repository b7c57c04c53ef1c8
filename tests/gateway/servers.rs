//! How upstream servers are used: few connections, one after the other, and ids that belong to one leg alone.

use hushgate::peer::Transport;

use crate::harness::servers::{Authority, Leg, Server};
use crate::harness::{Act, Answer, Ask, Rig, STREAMS, Upstream, client, message};
use crate::over_all;

#[tokio::test]
async fn neg_16_the_failure_of_one_server_does_not_hide_another_that_answers() {
    let (broken, healthy) = (Upstream::start().await, Upstream::start().await);
    healthy.always(Answer::new().a(300, [192, 0, 2, 7]));
    for rcode in [2, 5] {
        broken.always(Answer::new().rcode(rcode));
        let servers = format!("upstream.servers=[\"udp://{}\", \"udp://{}\"]", broken.address, healthy.address);
        let rig = Rig::set("", &[&servers, "upstream.strategy=\"ordered\""]).await;
        over_all!(Transport::ALL, |transport| {
            for round in 0..2 {
                let name = format!("{}.r{round}.example.org", transport.name());
                let reply = rig.ask(transport, &Ask::a(&name).id(0).bytes()).await.message;
                assert_eq!(message::rcode(&reply), 0, "RCODE {rcode} of one server");
                assert!(reply.ends_with(&[192, 0, 2, 7]));
            }
        });
    }
    assert!(broken.count() > 0);
}

#[tokio::test]
async fn tcp_14_many_questions_share_one_connection_to_a_server() {
    let upstream = Upstream::start().await;
    let servers = format!("upstream.servers=[\"tcp://{}\"]", upstream.address);
    let rig = Rig::set("", &[&servers]).await;
    over_all!(Transport::ALL, |transport| {
        for index in 0..20 {
            rig.ask(transport, &Ask::a(&format!("n{index}.{}.example.org", transport.name())).id(0).bytes()).await;
        }
    });
    upstream.script(|_| Act::Hold(Answer::new().a(300, [192, 0, 2, 1])));
    let mut stream = rig.dot_stream().await;
    for id in 0..90 {
        client::send_framed(&mut stream, &Ask::a(&format!("p{id}.example.org")).id(id).bytes()).await.unwrap();
    }
    upstream.asked(20 * Transport::ALL.len() + 90).await;
    upstream.release();
    for _ in 0..90 {
        client::read_framed(&mut stream).await.unwrap();
    }
    assert_eq!(upstream.connections(), 1, "the probe's and everybody's");
}

#[tokio::test]
async fn doh_14_and_doq_07_and_doq_18_replies_bear_the_id_of_their_question_on_miss_hit_and_failure() {
    let rig = Rig::start().await;
    over_all!(STREAMS, |transport| {
        let id = if transport == Transport::Doq { 0 } else { 0xbeef };
        for (label, answer, rcode) in
            [("fine", Answer::new().a(300, [192, 0, 2, 1]), 0), ("gone", Answer::new().rcode(2), 2)]
        {
            rig.upstream.always(answer);
            let query = Ask::a(&format!("{label}.{}.example.org", transport.name())).id(id).bytes();
            for _ in 0..2 {
                let reply = rig.ask(transport, &query).await.message;
                assert_eq!(reply[..2], id.to_be_bytes(), "{label} over {}", transport.name());
                assert_eq!(message::rcode(&reply), rcode);
            }
        }
    });
    let ids: std::collections::BTreeSet<[u8; 2]> =
        rig.upstream.log().iter().map(|asked| [asked.message[0], asked.message[1]]).collect();
    assert!(ids.len() > 8 && !ids.contains(&[0xbe, 0xef]), "ids of their own upstream: {ids:02x?}");
}

/// A gateway that asks the server of `entry` alone for what is in `example.org`.
async fn before(entry: &str, authority: &Authority) -> Rig {
    let toml = format!("[pool.only]\nservers = [{entry}]\n[[forward]]\ndomains = [\"example.org\"]\npool = \"only\"\n");
    Rig::beside(&[("ca.pem", &authority.pem)], &toml, &[]).await
}

/// Where streams tell questions apart, the id says nothing and is 0; a stream is asked without a datagram before (TCP-01).
#[tokio::test]
async fn doq_08_and_tcp_01_cold_questions_go_to_each_kind_of_server_under_ids_that_no_client_chose() {
    let authority = Authority::new();
    for leg in [Leg::Udp, Leg::Tcp, Leg::Tls, Leg::Https, Leg::H3, Leg::Quic] {
        let server = Server::good(leg, 7, &authority, None).await;
        let rig = before(&server.entry(), &authority).await;
        over_all!(Transport::ALL, |transport| {
            let id = if transport == Transport::Doq { 0 } else { 0xbeef };
            for round in 0..4 {
                let ask = Ask::a(&format!("r{round}.{}.example.org", transport.name())).id(id);
                let reply = rig.ask(transport, &ask.bytes()).await.message;
                assert_eq!((message::rcode(&reply), message::counts(&reply)[1]), (0, 1), "{leg:?}");
            }
        });
        let ids: Vec<[u8; 2]> = server.log().iter().map(|asked| [asked[0], asked[1]]).collect();
        assert!(ids.len() >= 4 * Transport::ALL.len());
        if matches!(leg, Leg::Https | Leg::H3 | Leg::Quic) {
            assert!(ids.iter().all(|id| *id == [0, 0]), "{leg:?}: {ids:02x?}");
        } else {
            let different: std::collections::BTreeSet<_> = ids.iter().collect();
            assert!(different.len() + 3 > ids.len(), "{leg:?}: {ids:02x?}");
            // Two may fall on these by chance.
            assert!(ids.iter().filter(|id| [[0, 0], [0xbe, 0xef]].contains(id)).count() < 3, "{leg:?}: {ids:02x?}");
        }
    }
}

#[tokio::test]
async fn dot_11_a_server_of_another_key_is_asked_nothing_though_its_name_and_chain_are_right() {
    let authority = Authority::new();
    for leg in [Leg::Tls, Leg::Https, Leg::H3, Leg::Quic] {
        let server = Server::good(leg, 7, &authority, None).await;
        let pin = "pins = [\"sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"]";
        for (entry, rcode) in [(server.entry_with(pin), 2), (server.entry(), 0)] {
            let rig = before(&entry, &authority).await;
            let reply = rig.ask(Transport::Udp, &Ask::a("pinned.example.org").edns().bytes()).await.message;
            assert_eq!(message::rcode(&reply), rcode, "{leg:?}");
            assert_eq!(server.questions() > 0, rcode == 0, "{leg:?}");
        }
    }
}
