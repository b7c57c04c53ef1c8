//! Stopping: what is asked is answered, peers are told, nobody new is let in, and it ends.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hushgate::peer::Transport;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};

use crate::admin::get;
use crate::harness::client::{self, PATIENCE};
use crate::harness::{Act, Answer, Ask, Rig, message};
use crate::over_all;

/// Asks over `transport` from a task of its own, so that the rig can be stopped meanwhile; `None` where no answer comes.
fn asking(rig: &Rig, transport: Transport, name: &str) -> JoinHandle<Option<Vec<u8>>> {
    let query = Ask::a(name).id(0).bytes();
    let (request, trusted) = (rig.post(&query), rig.authority());
    let (dns, dot, doh, doq) = (rig.dns(), rig.dot(), rig.doh(), rig.doq());
    tokio::spawn(async move {
        let trust = |alpn: &[u8]| client::trust(&trusted, &[alpn]);
        let body = |answered: Option<(u16, http::HeaderMap, bytes::Bytes)>| {
            answered.filter(|(status, ..)| *status == 200).map(|(.., body)| body.to_vec())
        };
        match transport {
            Transport::Udp => {
                let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
                socket.connect(dns).await.unwrap();
                socket.send(&query).await.unwrap();
                let mut buffer = vec![0; 4096];
                let length = tokio::time::timeout(PATIENCE, socket.recv(&mut buffer)).await.ok()?.ok()?;
                Some(buffer[..length].to_vec())
            }
            Transport::Tcp => {
                let mut stream = TcpStream::connect(dns).await.unwrap();
                client::framed(&mut stream, &query).await.map(|answered| answered.message)
            }
            Transport::Dot => {
                let mut stream = client::tls(dot, trust(b"dot")).await.unwrap();
                client::framed(&mut stream, &query).await.map(|answered| answered.message)
            }
            Transport::Doh1 => body(client::http1(client::tls(doh, trust(b"http/1.1")).await.unwrap(), request).await),
            Transport::Doh2 => body(client::http2(client::tls(doh, trust(b"h2")).await.unwrap(), request).await),
            Transport::Doh3 => body(client::http3(client::quic(doh, trust(b"h3")).await.unwrap(), request).await),
            Transport::Doq => {
                let (_endpoint, connection) = client::quic(doq, trust(b"doq")).await.unwrap();
                client::doq_exchange(&connection, &query).await.map(|answered| answered.message)
            }
        }
    })
}

/// Waits until nobody new is let in at `address`.
async fn closed(address: SocketAddr) {
    let trying = async { while TcpStream::connect(address).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, trying).await.unwrap_or_else(|_| panic!("{address} still lets clients in"));
}

/// Waits for the gateway's end.
async fn ended(stopped: JoinHandle<()>) {
    tokio::time::timeout(PATIENCE, stopped).await.expect("the gateway never ended").unwrap();
}

fn held() -> Answer {
    Answer::new().a(300, [192, 0, 2, 9])
}

/// One question over `transport`, asked before the word to stop and answered upstream long after it.
async fn in_flight(transport: Transport, round: usize) {
    let mut rig =
        Rig::set("[shutdown]\ngrace = \"1m\"", &["upstream.timeout=\"20s\"", "upstream.attempt_timeout=\"20s\""]).await;
    rig.upstream.script(|_| Act::Hold(held()));
    let asking = asking(&rig, transport, &format!("r{round}.late.example.org"));
    rig.upstream.asked(1).await;
    let (dns, dot, doh, doq) = (rig.dns(), rig.dot(), rig.doh(), rig.doq());
    let trusted = rig.authority();
    let stopped = rig.stop();
    for address in [dns, dot, doh] {
        closed(address).await;
    }
    if matches!(transport, Transport::Doh3 | Transport::Doq) {
        let (address, alpn): (_, &[u8]) = if transport == Transport::Doq { (doq, b"doq") } else { (doh, b"h3") };
        let knocking = client::quic(address, client::trust(&trusted, &[alpn]));
        let refused = tokio::time::timeout(PATIENCE, knocking).await.expect("a new connection is refused at once");
        assert!(matches!(refused, Err(quinn::ConnectionError::ConnectionClosed(_))), "{:?}", refused.err());
    }
    rig.upstream.release();
    let answer = tokio::time::timeout(PATIENCE, asking).await.unwrap().unwrap();
    let answer = answer.unwrap_or_else(|| panic!("not answered over {}", transport.name()));
    assert_eq!(message::counts(&answer)[1], 1, "over {}: {:?}", transport.name(), message::read(&answer));
    ended(stopped).await;
}

#[tokio::test]
async fn a_question_in_flight_is_answered_after_the_word_to_stop_and_nobody_new_is_let_in() {
    // Several rounds: a client lands on either worker, and the upstream's connection lives on the first.
    let mut rounds = JoinSet::new();
    for transport in Transport::ALL {
        for round in 0..4 {
            rounds.spawn(in_flight(transport, round));
        }
    }
    while let Some(ended) = rounds.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test]
async fn dot_idle_connections_hear_close_notify_and_tcp_ones_a_fin() {
    let mut rig = Rig::with("[shutdown]\ngrace = \"1m\"").await;
    let mut tcp = TcpStream::connect(rig.dns()).await.unwrap();
    client::framed(&mut tcp, &Ask::a("a.example.org").bytes()).await.unwrap();
    let mut dot = rig.dot_stream().await;
    client::framed(&mut dot, &Ask::a("a.example.org").bytes()).await.unwrap();
    let mut http = client::tls(rig.doh(), client::trust(&rig.authority(), &[b"http/1.1"])).await.unwrap();
    http.write_all(b"GET /dns-query?dns=none HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut buffer = [0; 4096];
    assert!(http.read(&mut buffer).await.unwrap() > 12);
    let begun = Instant::now();
    let stopped = rig.stop();
    assert_eq!(tokio::time::timeout(PATIENCE, tcp.read(&mut buffer)).await.unwrap().unwrap(), 0);
    // Without close_notify this is an error, not an end.
    assert_eq!(tokio::time::timeout(PATIENCE, dot.read(&mut buffer)).await.unwrap().unwrap(), 0);
    while tokio::time::timeout(PATIENCE, http.read(&mut buffer)).await.unwrap().unwrap() > 0 {}
    drop((tcp, dot, http));
    ended(stopped).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "idle connections hold nothing up: {:?}", begun.elapsed());
}

#[tokio::test]
async fn doh2_connections_hear_goaway_without_an_error() {
    let mut rig = Rig::with("[shutdown]\ngrace = \"1m\"").await;
    let mut stream = client::tls(rig.doh(), client::trust(&rig.authority(), &[b"h2"])).await.unwrap();
    let empty_settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&empty_settings).await.unwrap();
    let (kind, ..) = frame(&mut stream).await.unwrap();
    assert_eq!(kind, 4, "their SETTINGS first");
    let stopped = rig.stop();
    let mut last = None;
    while let Some((kind, flags, payload)) = frame(&mut stream).await {
        match kind {
            6 if flags & 1 == 0 => {
                stream.write_all(&[0, 0, 8, 6, 1, 0, 0, 0, 0]).await.unwrap();
                stream.write_all(&payload).await.unwrap();
            }
            7 => last = Some(payload),
            _ => {}
        }
    }
    let last = last.expect("GOAWAY");
    assert_eq!(last[..8], [0; 8], "no stream was served, no error");
    ended(stopped).await;
}

/// Type, flags and payload of the next HTTP/2 frame; `None` at the end of the stream.
async fn frame(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Option<(u8, u8, Vec<u8>)> {
    let mut head = [0; 9];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut head)).await.expect("a frame or the end").ok()?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    stream.read_exact(&mut payload).await.ok()?;
    Some((head[3], head[4], payload))
}

#[tokio::test]
async fn doh2_takes_no_request_after_goaway_and_answers_the_one_before() {
    let mut rig = Rig::with("[shutdown]\ngrace = \"1m\"").await;
    rig.upstream.script(|_| Act::Hold(held()));
    let stream = client::tls(rig.doh(), client::trust(&rig.authority(), &[b"h2"])).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    let driving = tokio::spawn(connection);
    let request = || http::Request::get(rig.get(&Ask::a("late.example.org").id(0).bytes()).uri()).body(()).unwrap();
    let (first, second) = (request(), request());
    let mut sender = sender.ready().await.unwrap();
    let (response, _) = sender.send_request(first, true).unwrap();
    rig.upstream.asked(1).await;
    let stopped = rig.stop();
    let refused = async {
        loop {
            match sender.clone().ready().await {
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => return error,
            }
        }
    };
    let error = tokio::time::timeout(PATIENCE, refused).await.expect("GOAWAY");
    assert!(error.is_go_away() && error.is_remote(), "{error:?}");
    assert_eq!(error.reason(), Some(h2::Reason::NO_ERROR));
    assert!(sender.send_request(second, true).is_err());
    rig.upstream.release();
    let (head, mut body) = response.await.unwrap().into_parts();
    let answer = body.data().await.unwrap().unwrap();
    assert_eq!((head.status.as_u16(), message::counts(&answer)[1]), (200, 1));
    ended(stopped).await;
    drop(sender);
    _ = driving.await;
}

#[tokio::test]
async fn doh3_connections_hear_goaway_and_are_closed_without_an_error() {
    let mut rig = Rig::with("[shutdown]\ngrace = \"1m\"").await;
    rig.upstream.script(|_| Act::Hold(held()));
    let (_endpoint, connection) = client::quic(rig.doh(), client::trust(&rig.authority(), &[b"h3"])).await.unwrap();
    let mut ours = connection.open_uni().await.unwrap();
    ours.write_all(&[0, 4, 0]).await.unwrap();
    let (mut send, mut answer) = connection.open_bi().await.unwrap();
    send.write_all(&h3_get(rig.get(&Ask::a("late.example.org").id(0).bytes()).uri())).await.unwrap();
    send.finish().unwrap();
    rig.upstream.asked(1).await;
    let stopped = rig.stop();
    let hearing = async {
        let mut theirs = connection.accept_uni().await.unwrap();
        while varint(&mut theirs).await != 0 {
            theirs = connection.accept_uni().await.unwrap();
        }
        loop {
            let (kind, length) = (varint(&mut theirs).await, varint(&mut theirs).await);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            theirs.read_exact(&mut payload).await.unwrap();
            if kind == 7 {
                return theirs;
            }
        }
    };
    let _control = tokio::time::timeout(PATIENCE, hearing).await.expect("GOAWAY while the question is in flight");
    rig.upstream.release();
    let answer = tokio::time::timeout(PATIENCE, answer.read_to_end(4096)).await.unwrap().unwrap();
    assert!(answer.ends_with(&[192, 0, 2, 9]), "{answer:02x?}");
    assert_eq!(closing_code(&connection).await, 0x100, "H3_NO_ERROR");
    ended(stopped).await;
}

/// A request as one HEADERS frame (RFC 9114 7.2.2), its fields from QPACK's static table or spelt out (RFC 9204 4.5).
fn h3_get(uri: &http::Uri) -> Vec<u8> {
    let mut fields = vec![0, 0, 0xd1, 0xd7];
    for (index, text) in [(0x50, uri.authority().unwrap().as_str()), (0x51, uri.path_and_query().unwrap().as_str())] {
        fields.extend([index, u8::try_from(text.len()).unwrap()]);
        fields.extend(text.bytes());
    }
    let length = u16::try_from(fields.len()).unwrap() | 0x4000;
    [&[1][..], &length.to_be_bytes(), &fields].concat()
}

/// The next variable-length integer of a stream (RFC 9000 16).
async fn varint(stream: &mut quinn::RecvStream) -> u64 {
    let mut first = [0];
    stream.read_exact(&mut first).await.unwrap();
    let mut value = u64::from(first[0] & 0x3f);
    for _ in 1..1 << (first[0] >> 6) {
        let mut next = [0];
        stream.read_exact(&mut next).await.unwrap();
        value = value << 8 | u64::from(next[0]);
    }
    value
}

/// The code that the gateway closes `connection` with.
async fn closing_code(connection: &quinn::Connection) -> u64 {
    match tokio::time::timeout(PATIENCE, connection.closed()).await.expect("the connection is closed") {
        quinn::ConnectionError::ApplicationClosed(closed) => closed.error_code.into_inner(),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn doq_connections_are_closed_with_no_error_idle_ones_at_once() {
    let mut rig = Rig::with("[shutdown]\ngrace = \"1m\"").await;
    let (_endpoint, idle) = rig.doq_connection().await;
    client::doq_exchange(&idle, &Ask::a("a.example.org").bytes()).await.unwrap();
    rig.upstream.script(|_| Act::Hold(held()));
    let (_other, busy) = rig.doq_connection().await;
    let asking = {
        let busy = busy.clone();
        tokio::spawn(async move { client::doq_exchange(&busy, &Ask::a("late.example.org").bytes()).await })
    };
    rig.upstream.asked(2).await;
    let stopped = rig.stop();
    assert_eq!(closing_code(&idle).await, 0, "DOQ_NO_ERROR");
    assert!(busy.close_reason().is_none(), "one that waits for an answer is not closed under it");
    rig.upstream.release();
    assert_eq!(message::counts(&asking.await.unwrap().unwrap().message)[1], 1);
    assert_eq!(closing_code(&busy).await, 0, "DOQ_NO_ERROR");
    ended(stopped).await;
}

#[tokio::test]
async fn every_door_lets_new_clients_in_while_the_delay_lasts() {
    let mut rig = Rig::with("[shutdown]\ndelay = \"3s\"").await;
    let stopped = {
        let stopping = rig.stop();
        let readiness = async { while get(rig.admin(), "/readyz").await.status != 503 {} };
        tokio::time::timeout(PATIENCE, readiness).await.unwrap();
        stopping
    };
    over_all!(Transport::ALL, |transport| _ = rig.ask(transport, &Ask::a("still.example.org").id(0).bytes()).await);
    assert_eq!(get(rig.admin(), "/readyz").await.status, 503);
    assert!(!stopped.is_finished());
    ended(stopped).await;
    assert!(TcpStream::connect(rig.dns()).await.is_err());
    assert!(TcpStream::connect(rig.admin()).await.is_err());
}

#[tokio::test]
async fn the_grace_ends_what_an_upstream_never_answers() {
    let mut rig = Rig::set("[shutdown]\ngrace = \"300ms\"", &["upstream.timeout=\"30s\""]).await;
    rig.upstream.script(|_| Act::Hold(held()));
    let asking: Vec<_> = Transport::ALL
        .into_iter()
        .map(|transport| (transport, asking(&rig, transport, &format!("{}.never.example.org", transport.name()))))
        .collect();
    rig.upstream.asked(asking.len()).await;
    let begun = Instant::now();
    ended(rig.stop()).await;
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(9), "{took:?}");
    // Datagrams end with nothing; QUIC clients find out by their own timers.
    let on_tcp = [Transport::Tcp, Transport::Dot, Transport::Doh1, Transport::Doh2];
    for (transport, asking) in asking.into_iter().filter(|(transport, _)| on_tcp.contains(transport)) {
        let answer = tokio::time::timeout(PATIENCE, asking).await;
        let answer = answer.unwrap_or_else(|_| panic!("{} never ends", transport.name())).unwrap();
        assert!(answer.is_none(), "an answer out of nowhere over {}", transport.name());
    }
}
