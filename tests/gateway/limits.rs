//! One limiter over all doors: what a network has too much of is refused, counted, and nobody else's loss.
//!
//! The attacker is at 127.0.0.9; everybody else asks from 127.0.0.1, which no limit applies to.

use std::net::SocketAddr;
use std::time::Duration;

use hushgate::peer::Transport;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::admin::scrape_until;
use crate::harness::raw::{frame, rest, server};
use crate::harness::{Act, Answer, Ask, Rig, client, message};

const ATTACKER: &str = "127.0.0.9:0";

async fn limited(settings: &str) -> Rig {
    Rig::with(&format!("[limits]\nexempt = [\"127.0.0.1/32\"]\n{settings}")).await
}

async fn tcp(to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(ATTACKER.parse().unwrap())?;
    socket.connect(to).await
}

async fn tls(rig: &Rig, to: SocketAddr, alpn: &[u8]) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let config = std::sync::Arc::new(client::trust(&rig.authority(), &[alpn]));
    tokio_rustls::TlsConnector::from(config).connect(server("localhost"), tcp(to).await?).await
}

async fn quic(rig: &Rig, to: SocketAddr, alpn: &[u8]) -> Result<quinn::Connection, quinn::ConnectionError> {
    let endpoint = quinn::Endpoint::client(ATTACKER.parse().unwrap()).unwrap();
    client::quic_from(&endpoint, to, client::trust(&rig.authority(), &[alpn])).await
}

/// Is nobody let in at `other` when nobody has just been let in at `one`? Asked three times, as a second may pass between the two and
/// allow one more; a limit of its own would let four in at `other`.
async fn share(one: impl AsyncFn() -> bool, other: impl AsyncFn() -> bool) -> bool {
    for _ in 0..3 {
        while one().await {}
        if !other().await {
            return true;
        }
    }
    false
}

/// The value of `hushgate_limited_total` for a kind over a transport, once it is `least`.
async fn count(rig: &Rig, kind: &str, transport: &str, least: u32) -> u32 {
    let series = format!("limited_total{{kind=\"{kind}\",transport=\"{transport}\"}}");
    let scraped = scrape_until(rig.admin(), |scraped| scraped.value(&series) > f64::from(least) - 0.5).await;
    scraped.value(&series) as u32
}

#[tokio::test]
async fn handshakes_over_the_limit_are_refused_before_they_begin_and_counted() {
    let rig = limited("handshakes_per_second = 1").await;
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..30 {
        match tls(&rig, rig.dot(), b"dot").await {
            Ok(stream) => held.push(stream),
            Err(_) => refused += 1,
        }
    }
    assert!(held.len() >= 4 && refused >= 10, "{} were let in", held.len());
    assert_eq!(count(&rig, "handshakes", "dot", refused).await, refused);
    let (dot, doh) =
        (async || tls(&rig, rig.dot(), b"dot").await.is_ok(), async || tls(&rig, rig.doh(), b"h2").await.is_ok());
    assert!(share(dot, doh).await, "one limit for all doors");
    let query = Ask::a("inside.example.org").bytes();
    assert!(client::framed(&mut held[0], &query).await.is_some(), "those that are in stay");
    let mut clear = tcp(rig.dns()).await.unwrap();
    assert!(client::framed(&mut clear, &query).await.is_some(), "and in clear text there is no handshake");
    rig.assert_well("handshakes").await;
}

#[tokio::test]
async fn connections_over_the_limit_are_reset_whatever_the_door() {
    let rig = limited("connections_per_second = 1").await;
    let query = Ask::a("clear.example.org").bytes();
    let mut served = 0;
    for _ in 0..30 {
        let Ok(mut stream) = tcp(rig.dns()).await else { continue };
        served += u32::from(client::framed(&mut stream, &query).await.is_some());
    }
    assert!((4..20).contains(&served), "{served}");
    assert_eq!(count(&rig, "connections", "tcp", 30 - served).await, 30 - served);
    let clear = async || match tcp(rig.dns()).await {
        Ok(mut stream) => client::framed(&mut stream, &query).await.is_some(),
        Err(_) => false,
    };
    let dot = async || tls(&rig, rig.dot(), b"dot").await.is_ok();
    assert!(share(clear, dot).await, "one limit for all doors");
    rig.assert_well("connections").await;
}

#[tokio::test]
async fn doq_26_a_quic_client_over_its_handshakes_proves_its_address_first_and_then_is_refused() {
    let rig = limited("handshakes_per_second = 1").await;
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..30 {
        match quic(&rig, rig.doq(), b"doq").await {
            Ok(connection) => held.push(connection),
            Err(_) => refused += 1,
        }
    }
    // Four that only say where they are, four that have shown it, and what a second or two adds.
    assert!(held.len() >= 8 && refused >= 10, "{}", held.len());
    assert!(count(&rig, "handshakes", "doq", refused).await >= refused);
    let doq = async || quic(&rig, rig.doq(), b"doq").await.is_ok();
    let doh3 = async || quic(&rig, rig.doh(), b"h3").await.is_ok();
    assert!(share(doq, doh3).await, "one limit for all doors");
    assert!(client::doq_exchange(&held[0], &Ask::a("inside.example.org").id(0).bytes()).await.is_some());
    rig.assert_well("quic").await;
}

/// What comes back for the first packet of a QUIC client.
async fn first_reply(rig: &Rig) -> Vec<u8> {
    let bait = UdpSocket::bind(ATTACKER).await.unwrap();
    let endpoint = quinn::Endpoint::client(ATTACKER.parse().unwrap()).unwrap();
    let config = client::trust(&rig.authority(), &[b"doq"]);
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(config).unwrap();
    let config = quinn::ClientConfig::new(std::sync::Arc::new(crypto));
    let _connecting = endpoint.connect_with(config, bait.local_addr().unwrap(), "localhost").unwrap();
    let mut packet = vec![0; 2000];
    let length = timeout(client::PATIENCE, bait.recv(&mut packet)).await.unwrap().unwrap();
    let sender = UdpSocket::bind(ATTACKER).await.unwrap();
    sender.send_to(&packet[..length], rig.doq()).await.unwrap();
    let length = timeout(client::PATIENCE, sender.recv(&mut packet)).await.unwrap().unwrap();
    packet[..length].to_vec()
}

#[tokio::test]
async fn doq_26_proof_of_address_is_asked_for_never_when_busy_or_always() {
    for (word, retries) in [("never", false), ("when-busy", false), ("always", true)] {
        let rig = limited(&format!("retry = \"{word}\"")).await;
        let reply = first_reply(&rig).await;
        assert_eq!(reply[0] >> 4 == 0b1111, retries, "{word}: {:02x}", reply[0]);
        rig.assert_well(word).await;
    }
}

#[tokio::test]
async fn a_network_that_breaks_protocols_is_shut_out_of_all_doors_for_a_while() {
    let rig = limited("errors_per_second = 1").await;
    // Four at once are borne, and one a second more.
    let mut refused = None;
    for _ in 0..30 {
        let connection = match quic(&rig, rig.doq(), b"doq").await {
            Ok(connection) => connection,
            Err(error) => {
                refused = Some(error);
                break;
            }
        };
        // A stream that ends inside its length.
        let (mut send, _receive) = connection.open_bi().await.unwrap();
        send.write_all(&[0]).await.unwrap();
        send.finish().unwrap();
        timeout(client::PATIENCE, connection.closed()).await.expect("stays open");
    }
    assert!(matches!(refused, Some(quinn::ConnectionError::ConnectionClosed(_))), "{refused:?}");
    assert!(count(&rig, "errors", "doq", 1).await >= 1);
    assert!(quic(&rig, rig.doq(), b"doq").await.is_err());
    assert!(tls(&rig, rig.dot(), b"dot").await.is_err());
    let query = Ask::a("shut.example.org").bytes();
    if let Ok(mut clear) = tcp(rig.dns()).await {
        assert!(client::framed(&mut clear, &query).await.is_none());
    }
    assert!(count(&rig, "shut_out", "tcp", 1).await >= 1);
    rig.assert_well("errors").await;
}

#[tokio::test]
async fn streams_reset_over_many_connections_are_one_networks_doing() {
    let rig = limited("resets_per_second = 1").await;
    rig.upstream.script(|asked| {
        if asked.name().contains("well") { Act::Answer(Answer::new().a(300, [192, 0, 2, 1])) } else { Act::Silence }
    });
    let question = frame(&Ask::a("reset.example.org").id(0).bytes());
    let mut connections = Vec::new();
    // Each takes back as little as anybody might. Who is shut out may hear of it before the connection that was too much does.
    let closed = loop {
        if let Some(reason) = connections.iter().find_map(quinn::Connection::close_reason) {
            break reason;
        }
        let Ok(connection) = quic(&rig, rig.doq(), b"doq").await else { continue };
        let mut taken = Vec::new();
        for _ in 0..3 {
            let Ok((mut send, mut receive)) = connection.open_bi().await else { break };
            _ = send.write_all(&question).await;
            _ = send.finish();
            _ = receive.stop(3_u32.into());
            taken.push(send);
        }
        _ = timeout(Duration::from_millis(100), connection.closed()).await;
        connections.push(connection);
    };
    let quinn::ConnectionError::ApplicationClosed(close) = closed else { panic!("{closed:?}") };
    assert_eq!(u64::from(close.error_code), 4, "DOQ_EXCESSIVE_LOAD");
    assert!(count(&rig, "resets", "doq", 1).await >= 1);
    assert!(quic(&rig, rig.doq(), b"doq").await.is_err(), "and it is shut out");
    rig.assert_well("resets").await;
}

#[tokio::test]
async fn questions_that_wait_are_bounded_by_client_and_udp_is_sent_to_a_stream() {
    let rig = limited("waiting_per_client = 5").await;
    rig.upstream.script(|asked| {
        if asked.name().contains("well") { Act::Answer(Answer::new().a(300, [192, 0, 2, 1])) } else { Act::Silence }
    });
    let mut stream = tcp(rig.dns()).await.unwrap();
    for id in 0..20_u16 {
        stream.write_all(&frame(&Ask::a(&format!("t{id}.wait.example.org")).edns().id(id).bytes())).await.unwrap();
    }
    for _ in 0..15 {
        let refused = timeout(client::PATIENCE, client::read_framed(&mut stream)).await.unwrap().unwrap();
        assert_eq!((message::rcode(&refused), message::ede(&refused)), (5, Some(18)), "REFUSED, Prohibited");
    }
    let socket = UdpSocket::bind(ATTACKER).await.unwrap();
    socket.connect(rig.dns()).await.unwrap();
    for id in 0..6_u16 {
        socket.send(&Ask::a(&format!("u{id}.wait.example.org")).edns().id(id).bytes()).await.unwrap();
    }
    let mut heard = [0; 512];
    let length = timeout(client::PATIENCE, socket.recv(&mut heard)).await.unwrap().unwrap();
    assert_eq!((message::rcode(&heard[..length]), message::flags(&heard[..length]) & 0x200), (0, 0x200), "TC");
    assert_eq!(count(&rig, "waiting", "tcp", 15).await, 15);
    assert_eq!(count(&rig, "waiting", "udp", 1).await, 1, "what is only claimed is counted apart");
    rig.assert_well("waiting").await;
}

#[tokio::test]
async fn all_connections_of_a_client_together_keep_no_more_than_it_may_have_kept() {
    let rig = limited("bytes_per_client = \"256 KiB\"").await;
    rig.upstream.always(Answer::new().big(60_000, 300));
    let query = Ask::new("kept.example.org", 16).id(0).bytes();
    rig.ask(Transport::Tcp, &query).await;
    let mut held = Vec::new();
    let questions = frame(&query).repeat(200);
    for _ in 0..16 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.bind(ATTACKER.parse().unwrap()).unwrap();
        let mut stream = socket.connect(rig.dns()).await.unwrap();
        _ = stream.write_all(&questions).await;
        held.push(stream);
    }
    assert!(count(&rig, "octets", "tcp", 1).await >= 1);
    rig.upstream.always(Answer::new().a(300, [192, 0, 2, 1]));
    rig.assert_well("octets").await;
    assert!(rig.metric("hushgate_memory_bytes").await > 0);
}

#[tokio::test]
async fn questions_over_the_rate_are_counted_by_transport() {
    let rig = limited("queries_per_second = 1").await;
    let mut stream = tcp(rig.dns()).await.unwrap();
    let query = Ask::a("rate.example.org").bytes();
    let mut refused = 0;
    for _ in 0..10 {
        let answer = client::framed(&mut stream, &query).await.unwrap();
        refused += u32::from(message::rcode(&answer.message) == 5);
    }
    assert!(refused >= 5);
    assert_eq!(count(&rig, "questions", "tcp", refused).await, refused);
}

#[tokio::test]
async fn hits_pass_questions_that_wait_for_an_upstream_that_hangs() {
    let rig = Rig::with("[limits]\nstreams_per_connection = 10").await;
    let known = Ask::a("known.example.org").edns().id(777).bytes();
    rig.ask(Transport::Tcp, &known).await;
    rig.upstream.script(|_| Act::Silence);
    for transport in [Transport::Tcp, Transport::Dot] {
        let mut stream = rig.stream(transport).await;
        for id in 0..12_u16 {
            let name = format!("{}{id}.hung.example.org", transport.name());
            stream.write_all(&frame(&Ask::a(&name).edns().id(id).bytes())).await.unwrap();
        }
        stream.write_all(&frame(&known)).await.unwrap();
        stream.flush().await.unwrap();
        for _ in 0..2 {
            let declined = timeout(client::PATIENCE, client::read_framed(&mut stream)).await.unwrap().unwrap();
            assert_eq!((message::rcode(&declined), message::ede(&declined)), (2, Some(0)), "SERVFAIL, and why");
        }
        let hit = timeout(client::PATIENCE, client::read_framed(&mut stream)).await.unwrap().unwrap();
        assert_eq!((message::rcode(&hit), message::counts(&hit)[1]), (0, 1), "{:?}", message::read(&hit));
    }
    assert_eq!(rig.metric("hushgate_overflow_total").await, 4);
}

#[tokio::test]
async fn as_many_slow_questions_as_there_are_are_all_answered_while_answers_come() {
    let rig = Rig::with("[limits]\nstreams_per_connection = 4").await;
    let mut stream = rig.tcp().await;
    let questions: Vec<u8> =
        (0..200_u16).flat_map(|id| frame(&Ask::a(&format!("n{id}.cold.example.org")).id(id).bytes())).collect();
    stream.write_all(&questions).await.unwrap();
    for _ in 0..200 {
        let answer = timeout(client::PATIENCE, client::read_framed(&mut stream)).await.unwrap().unwrap();
        assert_eq!((message::rcode(&answer), message::counts(&answer)[1]), (0, 1));
    }
}

#[tokio::test]
async fn without_memory_nobody_new_is_let_in_and_datagrams_are_answered() {
    // This process has more already.
    let rig = Rig::with("[limits]\nmemory = \"32 MiB\"\nconnections = 100").await;
    let query = Ask::a("tight.example.org").id(0).bytes();
    let refused = async {
        loop {
            let Ok(mut stream) = TcpStream::connect(rig.dns()).await else { return };
            if client::framed(&mut stream, &query).await.is_none() {
                return;
            }
        }
    };
    timeout(client::PATIENCE, refused).await.expect("never short of memory");
    assert!(count(&rig, "memory", "tcp", 1).await >= 1);
    rig.ask(Transport::Udp, &query).await;
    // The reset may come as early as in `connect`.
    if let Ok(mut stream) = TcpStream::connect(rig.dns()).await {
        assert!(rest(&mut stream).await.is_empty());
    }
}
