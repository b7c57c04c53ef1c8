//! Attacks by name that have cost others a release: each is bounded, shows in the metrics, and good clients do not notice.
//!
//! Beside `attacks` (rapid reset, floods of frames, closed windows, slow heads), `streams`, `quic` and `initials`.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::attacks::{PREFACE, flood_h2, goaway, h2_frame};
use crate::harness::raw::{frame, has_run_alone, resident, rest};
use crate::harness::{Act, Answer, Ask, Rig, client, message};

/// What an attack may add to this process, the other tests' share included.
const GROWTH: usize = 200 << 20;

/// A header block that asks for a question that waits for ever: GET, https, :path and :authority as literals.
fn held(rig: &Rig, number: u32) -> Vec<u8> {
    let asked = rig.get(&Ask::a(&format!("{number}.held.example.org")).id(0).bytes());
    let target = asked.uri().path_and_query().unwrap().as_str();
    [&[0x82, 0x87, 0x04, target.len() as u8][..], target.as_bytes(), &[0x01, 9], b"localhost"].concat()
}

#[tokio::test]
async fn doh_19_resets_that_a_client_provokes_end_the_connection() {
    let rig = Rig::start().await;
    rig.upstream.script(|asked| {
        if asked.name().contains("held") { Act::Silence } else { Act::Answer(Answer::new().a(300, [192, 0, 2, 1])) }
    });
    let before = rig.metric("hushgate_protocol_errors_total").await;
    // CVE-2025-8671, "MadeYouReset": a frame that the stream may not have makes the server reset what it works on.
    let flood: Vec<u8> = (0..5000_u32)
        .flat_map(|number| {
            let stream = number * 2 + 1;
            [h2_frame(1, 5, stream, &held(&rig, number)), h2_frame(8, 0, stream, &[0, 0, 0, 0])].concat()
        })
        .collect();
    let heard = flood_h2(&rig, &flood).await;
    assert!(goaway(&heard, 0xb) || goaway(&heard, 1), "ENHANCE_YOUR_CALM or PROTOCOL_ERROR");
    assert!(rig.upstream.count() < 2000, "{} questions went out", rig.upstream.count());
    assert!(rig.metric("hushgate_protocol_errors_total").await > before);
    rig.assert_well("provoked").await;
}

#[tokio::test]
async fn doh_19_a_header_block_that_unpacks_to_megabytes_is_refused_unpacked() {
    if has_run_alone("abuse::doh_19_a_header_block_that_unpacks_to_megabytes_is_refused_unpacked") {
        return;
    }
    let rig = Rig::start().await;
    let before = resident();
    // One field of 4000 octets enters the dynamic table, and is then named by one octet each, thousands of times.
    let entry = [&[0x40, 3][..], b"x-a", &[0x7f, 0xa1, 0x1e], &[b'a'; 4000]].concat();
    let bomb = [held(&rig, 1), entry, vec![0xbe; 12_000]].concat();
    let mut flood = Vec::new();
    for number in 0..50_u32 {
        flood.extend(h2_frame(1, 5, number * 2 + 1, &bomb));
    }
    flood_h2(&rig, &flood).await;
    rig.assert_well("unpacked").await;
    let grown = resident().saturating_sub(before);
    assert!(grown < GROWTH, "{} MiB", grown >> 20);
}

#[tokio::test]
async fn slow_bodies_are_given_up_and_hold_nobody_up() {
    let rig = Rig::start().await;
    let mut one = rig.https(b"http/1.1").await;
    let head = b"POST /dns-query HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/dns-message\r\ncontent-length: 40\r\n\r\n\0\0";
    one.write_all(head).await.unwrap();
    one.flush().await.unwrap();
    let (mut sender, connection) = h2::client::handshake(rig.https(b"h2").await).await.unwrap();
    tokio::spawn(connection);
    let request = rig.post(b"").map(drop);
    let (response, mut body) = sender.send_request(request, false).unwrap();
    body.send_data(Bytes::from_static(&[0, 0]), false).unwrap();
    rig.assert_well("slow bodies").await;
    let given_up = timeout(client::PATIENCE, response).await.expect("waits for ever").unwrap();
    assert_eq!(given_up.status(), 408);
    let mut heard = [0; 12];
    timeout(client::PATIENCE, one.read_exact(&mut heard)).await.expect("waits for ever").unwrap();
    assert_eq!(&heard, b"HTTP/1.1 408");
}

#[tokio::test]
async fn streams_beyond_what_a_connection_may_have_are_refused_and_cost_no_question() {
    let rig = Rig::with("[limits]\nstreams_per_connection = 10").await;
    rig.upstream.script(|asked| {
        if asked.name().contains("held") { Act::Silence } else { Act::Answer(Answer::new().a(300, [192, 0, 2, 1])) }
    });
    let flood: Vec<u8> = (0..1000_u32).flat_map(|number| h2_frame(1, 5, number * 2 + 1, &held(&rig, number))).collect();
    flood_h2(&rig, &flood).await;
    let asked = rig.upstream.count();
    assert!(asked <= 20, "{asked} questions went out");
    rig.assert_well("streams").await;
}

#[tokio::test]
async fn floods_of_key_updates_and_of_tiny_records_are_borne_within_bounds() {
    if has_run_alone("abuse::floods_of_key_updates_and_of_tiny_records_are_borne_within_bounds") {
        return;
    }
    let rig = Rig::start().await;
    let before = resident();
    let query = frame(&Ask::a("keys.example.org").id(0).bytes());
    let mut updating = rig.dot_stream().await;
    for _ in 0..2000 {
        // It is rustls that says so on the other side, and answers with its own.
        if updating.get_mut().1.refresh_traffic_keys().is_err() || updating.flush().await.is_err() {
            break;
        }
    }
    rig.assert_well("updates").await;
    let mut tiny = rig.dot_stream().await;
    let mut ended = false;
    'all: for _ in 0..200 {
        for octet in &query {
            if tiny.write_all(&[*octet]).await.is_err() || tiny.flush().await.is_err() {
                ended = true;
                break 'all;
            }
        }
        if timeout(client::PATIENCE, client::read_framed(&mut tiny)).await.expect("no answer").is_none() {
            ended = true;
            break;
        }
    }
    assert!(!ended, "slow is not wrong");
    rig.assert_well("tiny").await;
    assert!(resident().saturating_sub(before) < GROWTH);
}

#[tokio::test]
async fn tls_a_client_of_1_2_that_begins_another_handshake_is_cut_off() {
    let rig = Rig::start().await;
    let mut stream = rig.dot_stream().await;
    // A handshake record inside the session cannot be made by the library: one in clear text is what an injector has.
    stream.get_mut().0.write_all(&crate::tls::hello(0x0303, &[0xc02b])).await.unwrap();
    assert!(rest(&mut stream).await.is_empty());
    rig.assert_well("again").await;
}

#[tokio::test]
async fn qui_a_first_datagram_is_answered_with_at_most_three_times_as_much() {
    let rig = Rig::start().await;
    for (address, alpn) in [(rig.doq(), &b"doq"[..]), (rig.doh(), b"h3")] {
        let bait = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let endpoint = client::endpoint();
        let config = client::trust(&rig.authority(), &[alpn]);
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(config).unwrap();
        let config = quinn::ClientConfig::new(std::sync::Arc::new(crypto));
        let connecting = endpoint.connect_with(config, bait.local_addr().unwrap(), "localhost").unwrap();
        let mut packet = vec![0; 2000];
        let length = timeout(client::PATIENCE, bait.recv(&mut packet)).await.unwrap().unwrap();
        drop(connecting);
        // Whoever is named hears this, and the repetitions, and says nothing.
        let victim = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        victim.send_to(&packet[..length], address).await.unwrap();
        let mut heard = timeout(client::PATIENCE, victim.recv(&mut packet)).await.expect("no reply").unwrap();
        while let Ok(received) = timeout(Duration::from_millis(1500), victim.recv(&mut packet)).await {
            heard += received.unwrap();
        }
        assert!(heard > 0 && heard <= 3 * length, "{heard} octets for {length}");
    }
}

#[tokio::test]
async fn qui_a_client_that_moves_all_the_time_is_borne() {
    if has_run_alone("abuse::qui_a_client_that_moves_all_the_time_is_borne") {
        return;
    }
    let rig = Rig::start().await;
    let before = resident();
    let (endpoint, connection) = rig.doq_connection().await;
    for number in 0..100 {
        // Each move brings path challenges, and new connection ids for the old ones.
        endpoint.rebind(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        let ask = Ask::a(&format!("{number}.move.example.org")).id(0).bytes();
        _ = timeout(Duration::from_millis(20), client::doq_exchange(&connection, &ask)).await;
    }
    rig.assert_well("moves").await;
    assert!(resident().saturating_sub(before) < GROWTH);
}

#[tokio::test]
async fn error_replies_that_nobody_reads_do_not_pile_up() {
    if has_run_alone("abuse::error_replies_that_nobody_reads_do_not_pile_up") {
        return;
    }
    let rig = Rig::start().await;
    let before = resident();
    // Over HTTP/2: requests for what is not there, and nothing is read.
    let mut block = vec![0x82, 0x87, 0x04, 5];
    block.extend(b"/none");
    block.extend([&[0x01, 9][..], b"localhost"].concat());
    for _ in 0..5 {
        let mut stream = rig.https(b"h2").await;
        stream.write_all(&[PREFACE, &h2_frame(4, 0, 0, &[])].concat()).await.unwrap();
        let flood: Vec<u8> = (0..20_000_u32).flat_map(|number| h2_frame(1, 5, number * 2 + 1, &block)).collect();
        // It may be cut off, or left unread by the gateway.
        _ = timeout(Duration::from_millis(500), stream.write_all(&flood)).await;
    }
    // Over QUIC (CVE-2026-33595): questions whose replies are errors, and no reply is read.
    let (_endpoint, connection) = rig.doq_connection().await;
    let refused = frame(&Ask::new("example.org", 252).id(0).bytes());
    let mut kept = Vec::new();
    let asking = async {
        for _ in 0..5000 {
            let Ok((mut send, receive)) = connection.open_bi().await else { return };
            if send.write_all(&refused).await.is_err() || send.finish().is_err() {
                return;
            }
            kept.push(receive);
        }
    };
    _ = timeout(Duration::from_secs(2), asking).await;
    rig.assert_well("errors").await;
    let grown = resident().saturating_sub(before);
    assert!(grown < GROWTH, "{} MiB", grown >> 20);
}

#[tokio::test]
async fn forged_datagrams_are_answered_small_and_cookie_holders_are_served() {
    let rig = Rig::with("[limits]\nexempt = []\nqueries_per_second = 10").await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(rig.dns()).await.unwrap();
    let cookie = [7_u8; 8];
    let ask = Ask::a("holder.example.org").option(10, &cookie).id(9).bytes();
    socket.send(&ask).await.unwrap();
    let mut heard = [0; 1500];
    let length = timeout(client::PATIENCE, socket.recv(&mut heard)).await.unwrap().unwrap();
    let shown = message::option(&heard[..length], 10).unwrap();
    let forger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    forger.connect(rig.dns()).await.unwrap();
    for id in 0..200 {
        forger.send(&Ask::a("holder.example.org").id(id).bytes()).await.unwrap();
    }
    let holder = Ask::a("holder.example.org").option(10, &shown).id(77).bytes();
    socket.send(&holder).await.unwrap();
    let length = timeout(client::PATIENCE, socket.recv(&mut heard)).await.unwrap().unwrap();
    assert_eq!((message::rcode(&heard[..length]), message::counts(&heard[..length])[1]), (0, 1));
    assert!(rig.metric("hushgate_limited_total").await > 100);
}
