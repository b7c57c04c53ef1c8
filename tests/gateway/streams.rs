//! DNS on streams: TCP and DoT (STANDARDS groups TCP and DOT).

use std::collections::HashSet;
use std::time::Duration;

use hushgate::peer::Transport;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::raw::{FRAMED, frame, has_run_alone, resident, rest};
use crate::harness::{Act, Answer, Ask, Rig, STREAMS, client, message};
use crate::over_all;

fn id_of(message: &[u8]) -> u16 {
    u16::from_be_bytes([message[0], message[1]])
}

#[tokio::test]
async fn tcp_01_a_cold_question_over_a_stream_is_served_however_small() {
    over_all!(FRAMED, |transport| {
        let rig = Rig::start().await;
        let answered = rig.ask(transport, &Ask::a("cold.example.org").bytes()).await.message;
        assert_eq!((message::rcode(&answered), message::counts(&answered)[1]), (0, 1));
        assert_eq!(message::flags(&answered) & 0x0200, 0, "no TC");
    });
}

#[tokio::test]
async fn tcp_02_framing_survives_every_cut() {
    let rig = Rig::start().await;
    over_all!(FRAMED, |transport| {
        let mut stream = rig.stream(transport).await;
        let first = frame(&Ask::a("first.example.org").id(1).bytes());
        let second = frame(&Ask::a("second.example.org").id(2).bytes());
        for cut in 0..second.len() {
            stream.write_all(&[&first[..], &second[..cut]].concat()).await.unwrap();
            stream.flush().await.unwrap();
            assert_eq!(id_of(&client::read_framed(&mut stream).await.unwrap()), 1, "cut at {cut}");
            stream.write_all(&second[cut..]).await.unwrap();
            stream.flush().await.unwrap();
            assert_eq!(id_of(&client::read_framed(&mut stream).await.unwrap()), 2, "cut at {cut}");
        }
        for octet in &second {
            stream.write_all(&[*octet]).await.unwrap();
            stream.flush().await.unwrap();
        }
        assert_eq!(id_of(&client::read_framed(&mut stream).await.unwrap()), 2);
    });
}

#[tokio::test]
async fn tcp_04_and_tcp_05_200_questions_in_one_write_are_all_answered_and_the_slow_ones_hold_up_none() {
    let rig = Rig::start().await;
    rig.upstream.script(|asked| {
        let answer = Answer::new().a(300, [192, 0, 2, 9]);
        if asked.name().starts_with("slow") { Act::Hold(answer) } else { Act::Answer(answer) }
    });
    over_all!(FRAMED, |transport| {
        let mut stream = rig.stream(transport).await;
        let questions: Vec<u8> = (0..200_u16)
            .flat_map(|id| {
                let pace = if id.is_multiple_of(10) { "slow" } else { "fast" };
                frame(&Ask::a(&format!("{pace}{id}.{}.example.org", transport.name())).id(id).bytes())
            })
            .collect();
        stream.write_all(&questions).await.unwrap();
        stream.flush().await.unwrap();
        let mut ids = HashSet::new();
        for _ in 0..180 {
            let answer = timeout(client::PATIENCE, client::read_framed(&mut stream)).await.unwrap().unwrap();
            assert!(!id_of(&answer).is_multiple_of(10) && ids.insert(id_of(&answer)));
            assert!(message::asked_name(&answer).starts_with(&format!("fast{}.", id_of(&answer))));
        }
        rig.upstream.release();
        for _ in 0..20 {
            let answer = client::read_framed(&mut stream).await.unwrap();
            assert!(id_of(&answer).is_multiple_of(10) && ids.insert(id_of(&answer)));
        }
        rig.upstream.hold_again();
    });
}

#[tokio::test]
async fn tcp_07_equal_ids_on_two_connections_are_kept_apart() {
    let rig = Rig::start().await;
    rig.upstream.script(|_| Act::Hold(Answer::new().a(300, [192, 0, 2, 1])));
    let mut streams = Vec::new();
    for transport in [Transport::Tcp, Transport::Dot, Transport::Tcp, Transport::Dot] {
        let mut stream = rig.stream(transport).await;
        let name = format!("conn{}.example.org", streams.len());
        client::send_framed(&mut stream, &Ask::a(&name).id(77).bytes()).await.unwrap();
        streams.push(stream);
    }
    rig.upstream.asked(4).await;
    rig.upstream.release();
    for (index, stream) in streams.iter_mut().enumerate().rev() {
        let answer = client::read_framed(stream).await.unwrap();
        assert_eq!((id_of(&answer), message::asked_name(&answer)), (77, format!("conn{index}.example.org")));
    }
}

#[tokio::test]
async fn tcp_08_a_client_that_drips_is_cut_and_tcp_10_one_that_waits_for_its_answer_is_not() {
    let rig = Rig::set("[limits]\ntcp_idle_timeout = \"1s\"", &["upstream.attempt_timeout=4s"]).await;
    rig.upstream.script(|_| Act::Hold(Answer::new().a(300, [192, 0, 2, 1])));
    let drip = |transport| {
        let rig = &rig;
        async move {
            let mut stream = rig.stream(transport).await;
            let question = frame(&Ask::a("drip.example.org").bytes());
            let mut octets = [0; 16];
            for octet in &question[..question.len() - 1] {
                // A write after the gateway's FIN may fail: the end is seen by reading.
                _ = stream.write_all(&[*octet]).await;
                _ = stream.flush().await;
                if let Ok(read) = timeout(Duration::from_millis(150), stream.read(&mut octets)).await {
                    return assert_eq!(read.unwrap_or(0), 0, "nothing is said to a client that drips");
                }
            }
            panic!("a client that drips over {} is served for ever", transport.name());
        }
    };
    let waited = tokio::sync::Barrier::new(2);
    let wait = |transport: Transport| {
        let (rig, waited) = (&rig, &waited);
        async move {
            let mut stream = rig.stream(transport).await;
            let name = format!("{}.slow.example.org", transport.name());
            client::send_framed(&mut stream, &Ask::a(&name).bytes()).await.unwrap();
            let early = timeout(Duration::from_millis(1400), client::read_framed(&mut stream)).await;
            assert!(early.is_err(), "closed or answered while the answer was on its way: {early:?}");
            waited.wait().await;
            rig.upstream.release();
            assert!(client::read_framed(&mut stream).await.is_some());
        }
    };
    tokio::join!(drip(Transport::Tcp), drip(Transport::Dot), wait(Transport::Tcp), wait(Transport::Dot));
}

#[tokio::test]
async fn tcp_11_what_a_client_that_left_had_asked_for_serves_the_next() {
    let rig = Rig::start().await;
    rig.upstream.script(|_| Act::Hold(Answer::new().a(300, [192, 0, 2, 1])));
    over_all!(STREAMS, |transport| {
        let query = Ask::a(&format!("{}.left.example.org", transport.name())).id(0).bytes();
        let before = rig.upstream.count();
        tokio::select! {
            _ = rig.ask(transport, &query) => panic!("answered while held"),
            () = rig.upstream.asked(before + 1) => {}
        }
        rig.upstream.release();
        let answered = rig.ask(transport, &query).await.message;
        assert_eq!(message::counts(&answered)[1], 1);
        assert_eq!(rig.upstream.count(), before + 1);
        rig.upstream.hold_again();
    });
    rig.upstream.release();
    rig.assert_well("left").await;
}

#[tokio::test]
async fn tcp_11_a_reset_under_unwritten_answers_harms_nobody() {
    let rig = Rig::start().await;
    rig.upstream.always(Answer::new().big(8000, 300));
    for round in 0..50 {
        let mut stream = rig.tcp().await;
        let question = frame(&Ask::new("big.example.org", 16).bytes());
        stream.write_all(&question.repeat(20)).await.unwrap();
        if round % 2 == 0 {
            client::read_framed(&mut stream).await.unwrap();
        }
        stream.set_zero_linger().unwrap();
    }
    rig.upstream.always(Answer::new().a(300, [192, 0, 2, 1]));
    rig.assert_well("reset").await;
}

#[tokio::test]
async fn tcp_12_a_client_that_has_said_it_all_still_gets_its_answers() {
    let rig = Rig::start().await;
    rig.upstream.script(|_| Act::Hold(Answer::new().a(300, [192, 0, 2, 1])));
    over_all!(FRAMED, |transport| {
        let before = rig.upstream.count();
        let mut stream = rig.stream(transport).await;
        for id in 0..5 {
            let name = format!("{id}.{}.half.example.org", transport.name());
            client::send_framed(&mut stream, &Ask::a(&name).id(id).bytes()).await.unwrap();
        }
        stream.shutdown().await.unwrap();
        rig.upstream.asked(before + 5).await;
        rig.upstream.release();
        let mut ids = HashSet::new();
        for _ in 0..5 {
            ids.insert(id_of(&client::read_framed(&mut stream).await.unwrap()));
        }
        assert_eq!(ids.len(), 5);
        assert!(rest(&mut stream).await.is_empty(), "then the connection closes");
        rig.upstream.hold_again();
    });
}

#[tokio::test]
async fn tcp_13_the_third_connection_of_a_client_is_closed_and_udp_never_feels_it() {
    let rig = Rig::with("[limits]\nconnections_per_client = 2\nconnections_per_second = 0\nexempt = []").await;
    let query = Ask::a("limited.example.org").id(0).bytes();
    over_all!(STREAMS, |transport| {
        let mut held = Vec::new();
        // A permit comes back when the gateway has seen a client leave.
        while held.len() < 2 {
            held.extend(try_tcp(&rig, &query).await);
        }
        let refused = rig.metric("hushgate_connections_refused_total").await;
        refuses(&rig, transport, &query).await;
        assert_eq!(rig.metric("hushgate_connections_refused_total").await, refused + 1);
        rig.ask(Transport::Udp, &query).await;
        for stream in &mut held {
            assert!(client::framed(stream, &query).await.is_some(), "those that are in stay");
        }
    });
}

/// A connection that has answered, unless it was refused: the reset may come as early as in `connect`.
async fn try_tcp(rig: &Rig, query: &[u8]) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(rig.dns()).await.ok()?;
    client::framed(&mut stream, query).await.map(|_| stream)
}

/// A connection over `transport` that comes to nothing.
async fn refuses(rig: &Rig, transport: Transport, query: &[u8]) {
    let trust = |alpn: &[u8]| client::trust(&rig.authority(), &[alpn]);
    match transport {
        Transport::Tcp => assert!(try_tcp(rig, query).await.is_none()),
        Transport::Dot => assert!(client::tls(rig.dot(), trust(b"dot")).await.is_err()),
        Transport::Doh1 => assert!(client::tls(rig.doh(), trust(b"http/1.1")).await.is_err()),
        Transport::Doh2 => assert!(client::tls(rig.doh(), trust(b"h2")).await.is_err()),
        Transport::Doh3 => assert!(client::quic(rig.doh(), trust(b"h3")).await.is_err()),
        Transport::Doq => assert!(client::quic(rig.doq(), trust(b"doq")).await.is_err()),
        Transport::Udp => unreachable!("has no connections"),
    }
}

#[tokio::test]
async fn tcp_13_connections_are_bounded_in_all_and_one_that_ends_makes_room() {
    let rig = Rig::with("[limits]\nconnections = 8").await;
    let query = Ask::a("full.example.org").id(0).bytes();
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(try_tcp(&rig, &query).await.unwrap());
    }
    over_all!(STREAMS, |transport| refuses(&rig, transport, &query).await);
    rig.ask(Transport::Udp, &query).await;
    drop(held.pop());
    let room = async { while try_tcp(&rig, &query).await.is_none() {} };
    timeout(client::PATIENCE, room).await.unwrap();
}

#[tokio::test]
async fn a_connection_is_counted_once_and_no_longer_open_when_it_has_ended() {
    let rig = Rig::start().await;
    over_all!(STREAMS, |transport| {
        let before = rig.metric("hushgate_connections_total").await;
        rig.ask(transport, &Ask::a("counted.example.org").id(0).bytes()).await;
        assert_eq!(rig.metric("hushgate_connections_total").await, before + 1);
    });
    rig.ask_clear().await;
    assert_eq!(rig.metric("hushgate_connections_total").await, 7, "clear text too");
    let settled = async { while rig.metric("hushgate_connections_open").await > 0 {} };
    timeout(client::PATIENCE, settled).await.unwrap();
}

#[tokio::test]
async fn tcp_16_a_frame_without_a_header_closes_the_connection_unanswered() {
    let rig = Rig::start().await;
    over_all!(FRAMED, |transport| {
        for length in [0, 1, 2, 11] {
            let mut stream = rig.stream(transport).await;
            stream.write_all(&frame(&vec![0; length])).await.unwrap();
            stream.flush().await.unwrap();
            assert!(rest(&mut stream).await.is_empty(), "{length} octets");
            let mut stream = rig.stream(transport).await;
            let good = frame(&Ask::a("good.example.org").bytes());
            stream.write_all(&[good, frame(&vec![0xff; length])].concat()).await.unwrap();
            stream.flush().await.unwrap();
            assert!(client::read_framed(&mut stream).await.is_some(), "what was asked before is answered");
            assert!(rest(&mut stream).await.is_empty());
        }
    });
    rig.assert_well("short").await;
}

#[tokio::test]
async fn tcp_17_messages_of_65535_octets_pass_both_ways() {
    let rig = Rig::start().await;
    rig.upstream.script(|asked| {
        let spare = if asked.name().starts_with("edns") { 11 } else { 0 };
        let rdata = 65_535 - spare - message::question_end(&asked.message) - 12;
        Act::Answer(Answer::new().answer("@", 65_400, 300, &vec![7; rdata]))
    });
    over_all!(STREAMS, |transport| {
        for _ in 0..2 {
            let ask = Ask::new(&format!("{}.vast.example.org", transport.name()), 65_400).id(0);
            assert_eq!(rig.ask(transport, &ask.bytes()).await.message.len(), 65_535);
            let ask = Ask::new(&format!("edns.{}.vast.example.org", transport.name()), 65_400).id(0);
            // No room for the NSID and the cookie that are asked for: options go before records do.
            let ask = ask.option(3, &[]).option(10, &[1; 8]);
            let answered = rig.ask(transport, &ask.bytes()).await.message;
            assert_eq!((answered.len(), message::counts(&answered)), (65_535, [1, 1, 0, 1]));
        }
        let ask = Ask::new("edns.vast.example.org", 1).id(0);
        let spare = 65_535 - ask.clone().option(12, &[]).bytes().len();
        let ask = ask.option(12, &vec![0; spare]).bytes();
        assert_eq!(ask.len(), 65_535);
        assert_eq!(message::rcode(&rig.ask(transport, &ask).await.message), 0);
    });
}

#[tokio::test]
async fn dot_05_a_connection_stays_for_the_next_question() {
    let rig = Rig::start().await;
    over_all!(FRAMED, |transport| {
        let mut stream = rig.stream(transport).await;
        for round in 0..20 {
            let ask = Ask::a(&format!("{round}.kept.example.org")).bytes();
            assert!(client::framed(&mut stream, &ask).await.is_some());
        }
    });
}

/// The TLS library takes an end without `close_notify` for an error.
#[tokio::test]
async fn tcp_09_and_dot_05_an_idle_connection_has_its_time_and_dot_06_hears_a_goodbye_before_the_end() {
    let rig = Rig::set("[limits]\ntcp_idle_timeout = \"1s\"", &[]).await;
    let rest = |transport, asks: bool| {
        let rig = &rig;
        async move {
            let mut stream = rig.stream(transport).await;
            if asks {
                assert!(client::framed(&mut stream, &Ask::a("idle.example.org").bytes()).await.is_some());
            }
            let began = tokio::time::Instant::now();
            let end = timeout(client::PATIENCE, stream.read(&mut [0; 16])).await.expect("stays for ever");
            assert_eq!(end.unwrap(), 0, "over {}", transport.name());
            // The handshake may have taken some of the second.
            assert!(!asks || began.elapsed() > Duration::from_millis(900), "{:?}", began.elapsed());
        }
    };
    let (tcp, dot) = (Transport::Tcp, Transport::Dot);
    tokio::join!(rest(tcp, false), rest(dot, false), rest(tcp, true), rest(dot, true));
    let mut broken = rig.dot_stream().await;
    client::send_framed(&mut broken, &[0; 2]).await.unwrap();
    let end = timeout(client::PATIENCE, broken.read(&mut [0; 16])).await.expect("stays for ever");
    assert_eq!(end.unwrap(), 0, "goodbye to a client that breaks the rules too");
}

#[tokio::test]
async fn a_client_that_never_reads_holds_neither_memory_nor_others() {
    if has_run_alone("streams::a_client_that_never_reads_holds_neither_memory_nor_others") {
        return;
    }
    let rig = Rig::start().await;
    rig.upstream.always(Answer::new().big(60_000, 300));
    let question = frame(&Ask::new("huge.example.org", 16).bytes());
    rig.ask(Transport::Tcp, &question[2..]).await;
    let before = resident();
    let mut silent = Vec::new();
    for transport in FRAMED {
        for _ in 0..30 {
            let mut stream = rig.stream(transport).await;
            stream.write_all(&question.repeat(300)).await.unwrap();
            stream.flush().await.unwrap();
            silent.push(stream);
        }
    }
    rig.upstream.always(Answer::new().a(300, [192, 0, 2, 1]));
    rig.assert_well("unread").await;
    let grown = resident().saturating_sub(before);
    assert!(grown < 256 << 20, "1080 MB were asked for, {} MB are held", grown >> 20);
}
