//! Clients that mean harm: whatever they do, the others are served, nothing panics, and memory stays bounded.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use hushgate::peer::Transport;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::harness::raw::{Noise, frame, has_run_alone, resident, rest};
use crate::harness::{Act, Answer, Ask, Rig, client, message};

/// What an attack may add to this process, the other tests' share included.
const GROWTH: usize = 200 << 20;

#[tokio::test]
async fn a_hundred_half_open_handshakes_at_each_door_hold_nobody_up_and_end() {
    let rig = Rig::with("[limits]\nhandshake_timeout = \"1s\"").await;
    let mut noise = Noise::new(1);
    let mut stalled = Vec::new();
    for address in [rig.dot(), rig.doh()] {
        for length in 0..100 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // The start of a TLS record that promises more than comes.
            let hello = [&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3][..], &noise.octets(length)].concat();
            stream.write_all(&hello[..length.min(hello.len())]).await.unwrap();
            stalled.push(stream);
        }
    }
    rig.assert_well("stalled").await;
    for stream in &mut stalled {
        assert!(rest(stream).await.len() < 8, "nothing but an alert");
    }
}

#[tokio::test]
async fn slow_heads_and_bodies_are_given_up() {
    let rig = Rig::with("[limits]\nidle_timeout = \"1s\"\nhandshake_timeout = \"1s\"").await;
    let mut slow: Vec<Box<dyn crate::harness::raw::Io>> = Vec::new();
    for _ in 0..20 {
        let mut head = rig.https(b"http/1.1").await;
        head.write_all(b"GET /dns-query?dns=AAAB HTTP/1.1\r\nhost: loc").await.unwrap();
        slow.push(Box::new(head));
        let mut preface = rig.https(b"h2").await;
        preface.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
        slow.push(Box::new(preface));
        // A stream whose header block never ends.
        let mut block = rig.https(b"h2").await;
        block.write_all(&[PREFACE, &h2_frame(4, 0, 0, &[]), &h2_frame(1, 0, 1, &[0x82])].concat()).await.unwrap();
        slow.push(Box::new(block));
        let clear = TcpStream::connect(rig.doh_clear()).await.unwrap();
        slow.push(Box::new(clear));
    }
    rig.assert_well("slow").await;
    for stream in &mut slow {
        let heard = rest(stream).await;
        assert!(!heard.windows(4).any(|octets| octets == b" 200"));
    }
}

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub fn h2_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u32;
    [&length.to_be_bytes()[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Opens HTTP/2 by hand, throws `flood` at it and reads until it ends or falls silent; answers the octets heard.
pub async fn flood_h2(rig: &Rig, flood: &[u8]) -> Vec<u8> {
    let (mut reader, mut writer) = tokio::io::split(rig.https(b"h2").await);
    let mut heard = Vec::new();
    let writing = async {
        writer.write_all(&[PREFACE, &h2_frame(4, 0, 0, &[])].concat()).await?;
        writer.write_all(flood).await?;
        writer.flush().await?;
        // A flood that was borne: the connection still answers.
        writer.write_all(&h2_frame(6, 0, 0, b"are-here")).await?;
        writer.flush().await?;
        std::future::pending::<std::io::Result<()>>().await
    };
    let reading = async {
        let mut part = [0; 16_384];
        while !heard.windows(8).any(|octets| octets == b"are-here") {
            match reader.read(&mut part).await {
                Ok(length) if length > 0 => heard.extend_from_slice(&part[..length]),
                _ => return,
            }
        }
    };
    let both = async {
        tokio::pin!(reading, writing);
        tokio::select! {
            biased;
            () = &mut reading => {}
            // Refused: what has been said is still to be read.
            _ = &mut writing => reading.await,
        }
    };
    timeout(client::PATIENCE, both).await.expect("neither borne nor ended");
    heard
}

/// Is there a GOAWAY with `code` among the frames?
pub fn goaway(mut heard: &[u8], code: u32) -> bool {
    while heard.len() >= 9 {
        let length = usize::from(heard[0]) << 16 | usize::from(heard[1]) << 8 | usize::from(heard[2]);
        let Some(payload) = heard.get(9..9 + length) else { return false };
        if heard[3] == 7 && payload.get(4..8) == Some(&code.to_be_bytes()) {
            return true;
        }
        heard = &heard[9 + length..];
    }
    false
}

#[tokio::test]
async fn doh_19_a_rapid_reset_ends_the_connection_and_costs_no_upstream_a_thousand_questions() {
    if has_run_alone("attacks::doh_19_a_rapid_reset_ends_the_connection_and_costs_no_upstream_a_thousand_questions") {
        return;
    }
    let rig = Rig::start().await;
    rig.upstream.script(|_| Act::Hold(Answer::new().a(300, [192, 0, 2, 1])));
    let before = resident();
    let mut flood = Vec::new();
    for stream in 0..5000_u32 {
        let target = rig
            .get(&Ask::a(&format!("{stream}.reset.example.org")).id(0).bytes())
            .uri()
            .path_and_query()
            .unwrap()
            .to_string();
        // GET, https, :path as a literal, :authority as a literal.
        let mut block = vec![0x82, 0x87, 0x04, target.len() as u8];
        block.extend(target.as_bytes());
        block.extend([&[0x01, 9][..], b"localhost"].concat());
        flood.extend(h2_frame(1, 5, stream * 2 + 1, &block));
        flood.extend(h2_frame(3, 0, stream * 2 + 1, &[0, 0, 0, 8]));
    }
    let heard = flood_h2(&rig, &flood).await;
    assert!(goaway(&heard, 0xb), "ENHANCE_YOUR_CALM");
    assert!(rig.upstream.count() < 1000, "{} questions went out", rig.upstream.count());
    rig.upstream.release();
    rig.assert_well("reset").await;
    assert!(resident().saturating_sub(before) < GROWTH);
}

#[tokio::test]
async fn doh_19_floods_of_frames_are_borne_or_end_the_connection_within_bounds() {
    if has_run_alone("attacks::doh_19_floods_of_frames_are_borne_or_end_the_connection_within_bounds") {
        return;
    }
    let rig = Rig::start().await;
    let before = resident();
    // A header block that goes on and on: x-a: aaaa…, never indexed, in CONTINUATION frames.
    let field = [&[0x00, 3][..], b"x-a", &[100], &[b'a'; 100]].concat();
    let endless = [h2_frame(1, 0, 1, &[0x82]), h2_frame(9, 0, 1, &field.repeat(100)).repeat(2000)].concat();
    let floods = [
        ("continuation", endless),
        ("empty continuation", [h2_frame(1, 0, 1, &[0x82]), h2_frame(9, 0, 1, &[]).repeat(100_000)].concat()),
        ("settings", h2_frame(4, 0, 0, &[0, 3, 0, 0, 0, 9]).repeat(20_000)),
        ("ping", h2_frame(6, 0, 0, &[7; 8]).repeat(20_000)),
        ("priority", h2_frame(2, 0, 1, &[0, 0, 0, 0, 9]).repeat(20_000)),
        ("window", h2_frame(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff]).repeat(100)),
        ("unknown", h2_frame(77, 0, 0, &[1; 100]).repeat(10_000)),
        ("empty data", [h2_frame(1, 4, 1, &[0x83, 0x87]), h2_frame(0, 0, 1, &[]).repeat(50_000)].concat()),
    ];
    for (label, flood) in floods {
        flood_h2(&rig, &flood).await;
        let query = rig.get(&Ask::a("beside.example.org").id(0).bytes());
        let good = timeout(Duration::from_secs(5), rig.http(Transport::Doh2, query)).await;
        assert_eq!(good.expect(label).expect(label).0, 200, "{label}");
    }
    rig.assert_well("frames").await;
    let grown = resident().saturating_sub(before);
    assert!(grown < GROWTH, "{} MiB", grown >> 20);
}

#[tokio::test]
async fn a_client_of_http_2_that_opens_no_window_holds_no_big_answers() {
    if has_run_alone("attacks::a_client_of_http_2_that_opens_no_window_holds_no_big_answers") {
        return;
    }
    let rig = Rig::start().await;
    rig.upstream.always(Answer::new().big(60_000, 300));
    let query = Ask::new("window.example.org", 16).id(0).bytes();
    rig.ask(Transport::Tcp, &query).await;
    let before = resident();
    let mut held = Vec::new();
    for _ in 0..10 {
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(0);
        let (mut sender, connection) = builder.handshake::<_, Bytes>(rig.https(b"h2").await).await.unwrap();
        tokio::spawn(connection);
        for _ in 0..1000 {
            let Ok(ready) = timeout(Duration::from_millis(20), sender.ready()).await else { break };
            sender = ready.unwrap();
            let (response, _) = sender.send_request(rig.get(&query).map(drop), true).unwrap();
            held.push(tokio::spawn(response));
        }
    }
    rig.upstream.always(Answer::new().a(300, [192, 0, 2, 1]));
    rig.assert_well("window").await;
    let grown = resident().saturating_sub(before) >> 20;
    assert!(grown < GROWTH >> 20, "{grown} MiB are held for {} streams", held.len());
}

#[tokio::test]
async fn doq_15_and_doq_17_clients_that_reset_quic_streams_are_sent_away_and_disturb_nobody() {
    let rig = Rig::start().await;
    rig.upstream.script(|_| Act::Hold(Answer::new().a(300, [192, 0, 2, 1])));
    let question = frame(&Ask::a("held.example.org").id(0).bytes());
    let (_endpoint, connection) = rig.doq_connection().await;
    let resetting = async {
        loop {
            let Ok((mut send, mut receive)) = connection.open_bi().await else { return };
            if send.write_all(&question[..20]).await.is_err() {
                return;
            }
            _ = send.reset(3_u32.into());
            _ = receive.stop(3_u32.into());
        }
    };
    tokio::join!(resetting, async {
        let well = rig.doq_connection().await;
        rig.upstream.release();
        let answered = client::doq_exchange(&well.1, &Ask::a("beside.example.org").bytes()).await.unwrap();
        assert_eq!(message::counts(&answered.message)[1], 1);
        timeout(client::PATIENCE, connection.closed()).await.expect("resets for ever");
    });
    let quinn::ConnectionError::ApplicationClosed(close) = connection.closed().await else {
        panic!("closed otherwise")
    };
    assert_eq!(u64::from(close.error_code), 4, "DOQ_EXCESSIVE_LOAD");
    rig.assert_well("resets").await;
}

#[tokio::test]
async fn thousands_of_random_datagrams_on_every_port_delay_no_good_client() {
    if has_run_alone("attacks::thousands_of_random_datagrams_on_every_port_delay_no_good_client") {
        return;
    }
    let rig = Rig::start().await;
    let before = resident();
    let mut noise = Noise::new(53);
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let ports: [SocketAddr; 3] = [rig.dns(), rig.doh(), rig.doq()];
    for number in 0..6000 {
        let length = [0, 1, 12, 40, 200, 1200, 1400][noise.below(7)];
        let mut octets = noise.octets(length);
        // Half of them look like QUIC: long headers of version 1, short headers.
        if let (Some(first), 0) = (octets.first_mut(), number % 2) {
            *first |= 0x40;
            if let Some(version) = octets.get_mut(1..5).filter(|_| number % 4 == 0) {
                version.copy_from_slice(&[0, 0, 0, 1]);
            }
        }
        socket.send_to(&octets, ports[number % 3]).await.unwrap();
    }
    rig.assert_well("datagrams").await;
    assert!(resident().saturating_sub(before) < GROWTH);
}
