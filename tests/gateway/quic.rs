//! DNS over QUIC, and QUIC itself (STANDARDS groups DOQ, QUI and DH3).

use std::sync::Arc;
use std::time::Duration;

use hushgate::peer::Transport;
use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::harness::raw::{Noise, frame, has_run_alone, resident};
use crate::harness::{Act, Answer, Ask, Rig, client, message};

fn question(name: &str) -> Vec<u8> {
    frame(&Ask::a(name).id(0).bytes())
}

async fn open(connection: &Connection, octets: &[u8]) -> (SendStream, RecvStream) {
    let (mut send, receive) = connection.open_bi().await.unwrap();
    send.write_all(octets).await.unwrap();
    (send, receive)
}

/// The application code that the gateway closes `connection` with.
async fn closed(connection: &Connection) -> u64 {
    match timeout(client::PATIENCE, connection.closed()).await.expect("stays open") {
        ConnectionError::ApplicationClosed(close) => close.error_code.into(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn doq_03_04_and_07_octet_by_octet_a_question_gets_one_reply_with_id_0_and_the_end() {
    let rig = Rig::start().await;
    rig.upstream.always(Answer::new().a(300, [192, 0, 2, 1]));
    let (_endpoint, connection) = rig.doq_connection().await;
    for name in ["octets.example.org", "octets.example.org", "failed.example.org"] {
        if name.starts_with("failed") {
            rig.upstream.always(Answer::new().rcode(2));
        }
        let (mut send, mut receive) = open(&connection, &[]).await;
        for octet in question(name) {
            send.write_all(&[octet]).await.unwrap();
            tokio::task::yield_now().await;
        }
        send.finish().unwrap();
        let reply = receive.read_to_end(70_000).await.unwrap();
        assert_eq!(usize::from(u16::from_be_bytes([reply[0], reply[1]])), reply.len() - 2);
        assert_eq!(reply[2..4], [0, 0], "DOQ-07");
    }
    let mut unreadable = Ask::a("x.example.org").id(0).bytes();
    unreadable.truncate(20);
    let answered = client::doq_exchange(&connection, &unreadable).await.unwrap().message;
    assert_eq!((&answered[..2], message::rcode(&answered)), (&[0, 0][..], 1));
}

#[tokio::test]
async fn doq_05_06_09_11_and_13_what_rfc_9250_forbids_closes_the_connection_with_0x2() {
    let rig = Rig::start().await;
    let good = question("good.example.org");
    let with = |ask: Ask| frame(&ask.bytes());
    let mut response = Ask::a("x.example.org").id(0).bytes();
    response[2] |= 0x80;
    let table: [(&str, Vec<u8>); 10] = [
        ("a second message", [&good[..], &good].concat()),
        ("one octet more", [&good[..], &[0]].concat()),
        ("an id", with(Ask::a("id.example.org").id(1))),
        ("the end before the length", vec![0]),
        ("nothing at all", vec![]),
        ("the end inside the message", good[..good.len() - 1].to_vec()),
        ("under twelve octets", frame(&[0; 11])),
        ("an empty message", frame(&[])),
        ("keepalive", with(Ask::a("keep.example.org").id(0).option(11, &[]))),
        ("a response", frame(&response)),
    ];
    for (label, octets) in table {
        eprintln!("{label}");
        let (_endpoint, connection) = rig.doq_connection().await;
        // In the company of a good question.
        let (mut send, _receive) = open(&connection, &good).await;
        send.finish().unwrap();
        let (mut send, _receive) = open(&connection, &octets).await;
        send.finish().unwrap();
        assert_eq!(closed(&connection).await, 2, "{label}");
    }
    let (_endpoint, connection) = rig.doq_connection().await;
    let uni = timeout(Duration::from_millis(200), connection.open_uni()).await;
    assert!(uni.is_err() || closed(&connection).await == 2, "no credit for unidirectional streams, or 0x2");
    rig.assert_well("violations").await;
}

#[tokio::test]
async fn doq_15_and_doq_16_a_stopped_or_reset_stream_costs_itself_alone() {
    let rig = Rig::start().await;
    rig.upstream.script(|_| Act::Hold(Answer::new().a(300, [192, 0, 2, 1])));
    let (_endpoint, connection) = rig.doq_connection().await;
    let (mut kept, mut answer) = open(&connection, &question("kept.example.org")).await;
    kept.finish().unwrap();
    let (mut stopped, mut receive) = open(&connection, &question("stopped.example.org")).await;
    stopped.finish().unwrap();
    rig.upstream.asked(2).await;
    receive.stop(3_u32.into()).unwrap();
    let (mut reset, mut abandoned) = open(&connection, &question("reset.example.org")[..9]).await;
    reset.reset(3_u32.into()).unwrap();
    // Either may come first: the reset stream may never have been seen.
    if let Ok(ended) = timeout(client::PATIENCE, abandoned.read_to_end(100)).await {
        assert!(matches!(ended, Err(quinn::ReadToEndError::Read(quinn::ReadError::Reset(_)))), "{ended:?}");
    }
    rig.upstream.release();
    assert_eq!(answer.read_to_end(1000).await.unwrap()[7 + 2], 1);
    assert!(client::doq_exchange(&connection, &Ask::a("kept.example.org").bytes()).await.is_some());
}

#[tokio::test]
async fn doq_18_a_dead_upstream_is_a_dns_reply_and_the_end() {
    let rig = Rig::set("", &["upstream.timeout=300ms", "upstream.attempt_timeout=100ms"]).await;
    rig.upstream.script(|_| Act::Silence);
    let answered = rig.ask(Transport::Doq, &Ask::a("dead.example.org").edns().bytes()).await.message;
    assert_eq!((message::rcode(&answered), message::ede(&answered)), (2, Some(22)));
}

#[tokio::test]
async fn doq_20_an_idle_connection_is_closed_in_silence() {
    let rig = Rig::set("[limits]\nidle_timeout = \"1s\"", &[]).await;
    let (_endpoint, idle) = rig.doq_connection().await;
    let reason = timeout(client::PATIENCE, idle.closed()).await.expect("stays for ever");
    assert_eq!(reason, ConnectionError::TimedOut);
    rig.assert_well("idle").await;
}

#[tokio::test]
async fn doq_28_and_doq_32_slow_streams_hold_up_no_other_and_credit_comes_back() {
    let rig = Rig::start().await;
    rig.upstream.script(|asked| {
        let answer = Answer::new().a(300, [192, 0, 2, 1]);
        if asked.name().starts_with("slow") { Act::Hold(answer) } else { Act::Answer(answer) }
    });
    let (_endpoint, connection) = rig.doq_connection().await;
    let mut slow = Vec::new();
    for number in 0..20 {
        let (mut send, receive) = open(&connection, &question(&format!("slow{number}.example.org"))).await;
        send.finish().unwrap();
        slow.push(receive);
    }
    // Thirty times as many as may be open at first.
    for number in 0..1000 {
        let ask = Ask::a(&format!("fast{}.example.org", number % 10)).bytes();
        assert!(client::doq_exchange(&connection, &ask).await.is_some());
    }
    rig.upstream.release();
    for mut receive in slow {
        assert!(receive.read_to_end(1000).await.unwrap().len() > 14);
    }
}

#[tokio::test]
async fn doq_22_and_doh_31_early_data_is_not_offered_to_a_client_that_comes_again() {
    let rig = Rig::start().await;
    for (address, alpn) in [(rig.doq(), &b"doq"[..]), (rig.doh(), b"h3")] {
        let mut config = client::trust(&rig.authority(), &[alpn]);
        config.enable_early_data = true;
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(config).unwrap();
        let config = quinn::ClientConfig::new(Arc::new(crypto));
        let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        for _ in 0..3 {
            let connecting = endpoint.connect_with(config.clone(), address, "localhost").unwrap();
            let connection = match connecting.into_0rtt() {
                Ok(_) => panic!("0-RTT is possible"),
                Err(connecting) => connecting.await.unwrap(),
            };
            if alpn == b"doq" {
                client::doq_exchange(&connection, &Ask::a("again.example.org").bytes()).await.unwrap();
            }
            connection.close(0_u32.into(), b"");
        }
    }
}

#[tokio::test]
async fn dh3_01_http_on_quic_is_h3_whatever_else_is_offered() {
    let rig = Rig::start().await;
    let (_endpoint, connection) =
        client::quic(rig.doh(), client::trust(&rig.authority(), &[b"h2", b"h3"])).await.unwrap();
    let agreed = connection.handshake_data().unwrap().downcast::<quinn::crypto::rustls::HandshakeData>().unwrap();
    assert_eq!(agreed.protocol.as_deref(), Some(&b"h3"[..]));
}

/// A long header of `version` and a first byte, filled up to `length`.
fn long_header(first: u8, version: u32, length: usize) -> Vec<u8> {
    let mut packet = vec![first];
    packet.extend(version.to_be_bytes());
    packet.extend([8, 1, 2, 3, 4, 5, 6, 7, 8, 4, 0xa, 0xb, 0xc, 0xd]);
    // No token, a length that fills the datagram.
    packet.push(0);
    packet.extend((0x4000 | (length.saturating_sub(packet.len() + 2)) as u16).to_be_bytes());
    packet.resize(length, 0x5a);
    packet
}

#[tokio::test]
async fn qui_01_and_qui_02_small_first_datagrams_are_discarded_and_unknown_versions_negotiated() {
    let rig = Rig::start().await;
    for address in [rig.doq(), rig.doh()] {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(address).await.unwrap();
        let unheard = [
            long_header(0xc0, 0x1a2a_3a4a, 1199),
            long_header(0xc0, 1, 1199),
            long_header(0xc0, 1, 40),
            // A version negotiation of our own, which nothing may be said to.
            long_header(0x80, 0, 1200),
            Noise::new(9).octets(1200).into_iter().map(|octet| octet & 0x3f).collect(),
            vec![],
        ];
        for packet in &unheard {
            socket.send(packet).await.unwrap();
        }
        // What comes back is for this one alone: the ports keep order.
        socket.send(&long_header(0xc0, 0x1a2a_3a4a, 1200)).await.unwrap();
        let mut heard = [0; 2000];
        let length = timeout(client::PATIENCE, socket.recv(&mut heard)).await.expect("no negotiation").unwrap();
        let packet = &heard[..length];
        assert_eq!((packet[0] & 0x80, &packet[1..5]), (0x80, &[0; 4][..]), "a version negotiation packet");
        assert_eq!(packet[5..19], [4, 0xa, 0xb, 0xc, 0xd, 8, 1, 2, 3, 4, 5, 6, 7, 8], "the ids change places");
        assert!(packet[19..].chunks(4).any(|version| version == [0, 0, 0, 1]), "QUIC version 1 is listed");
        let more = timeout(Duration::from_millis(50), socket.recv(&mut heard)).await;
        assert!(more.is_err(), "something else was answered: {more:?}");
    }
    rig.assert_well("raw").await;
}

/// What slow readers may add to this process, the other tests' share included.
const GROWTH: usize = 200 << 20;

#[tokio::test]
async fn qui_09_a_message_of_64_kib_fits_the_windows_and_slow_readers_of_thousands_of_streams_hold_little() {
    if has_run_alone(
        "quic::qui_09_a_message_of_64_kib_fits_the_windows_and_slow_readers_of_thousands_of_streams_hold_little",
    ) {
        return;
    }
    let rig = Rig::start().await;
    let ask = Ask::new("large.example.org", 16).id(0);
    let bare = ask.clone().option(12, &[]).bytes().len();
    let whole = ask.clone().option(12, &vec![0; 65_535 - bare]).bytes();
    assert_eq!(whole.len(), 65_535);
    rig.upstream.always(Answer::new().big(60_000, 300));
    for transport in [Transport::Doq, Transport::Doh3] {
        let reply = rig.ask(transport, &whole).await.message;
        assert!(reply.len() > 60_000, "{} octets over {}", reply.len(), transport.name());
    }
    let (before, question) = (resident(), frame(&ask.bytes()));
    let mut held = Vec::new();
    let mut streams = 0;
    for _ in 0..60 {
        let crypto = client::trust(&rig.authority(), &[b"doq"]);
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(crypto).unwrap();
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        let mut transport = quinn::TransportConfig::default();
        transport.stream_receive_window(64_u32.into()).receive_window(4096_u32.into());
        config.transport_config(Arc::new(transport));
        let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let connection = endpoint.connect_with(config, rig.doq(), "localhost").unwrap().await.unwrap();
        // As many as the gateway gives credit for: a thousand are never open.
        while let Ok(Ok((mut send, receive))) = timeout(Duration::from_millis(20), connection.open_bi()).await {
            send.write_all(&question).await.unwrap();
            send.finish().unwrap();
            streams += 1;
            held.push((connection.clone(), endpoint.clone(), send, receive));
            assert!(streams < 60_000, "credit without end");
        }
    }
    assert!(streams >= 60 * 32, "{streams} streams");
    rig.upstream.always(Answer::new().a(300, [192, 0, 2, 1]));
    rig.assert_well("slow").await;
    let grown = resident().saturating_sub(before);
    assert!(grown < GROWTH, "{} MiB for {streams} answers of 60 kB", grown >> 20);
    // Who reads in the end is answered.
    let last = held.last().unwrap().0.stable_id();
    held.retain(|(connection, ..)| connection.stable_id() == last);
    let mut reading = tokio::task::JoinSet::new();
    for (connection, endpoint, send, mut receive) in held {
        reading.spawn(async move {
            let whole = timeout(client::PATIENCE, receive.read_to_end(70_000)).await.expect("not a word");
            drop((connection, endpoint, send));
            whole.unwrap().len()
        });
    }
    assert!(reading.join_all().await.into_iter().all(|length| length > 60_000));
}
