//! What the gateway does toward its upstreams, and what clients hear when those misbehave.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hushgate::peer::Transport;

use crate::harness::raw::{Noise, frame};
use crate::harness::servers::{Authority, Leg, Server};
use crate::harness::upstream::Asked;
use crate::harness::{Act, Answer, Ask, Rig, STREAMS, client, message};
use crate::over_all;

fn good() -> Answer {
    Answer::new().a(300, [192, 0, 2, 1])
}

/// The address of the first A record.
fn address(message: &[u8]) -> &[u8] {
    assert_eq!(message::counts(message)[1], 1, "{message:02x?}");
    let at = message::question_end(message) + 12;
    &message[at..at + 4]
}

#[tokio::test]
async fn tcf_01_and_tcf_04_a_truncated_datagram_is_nothing_but_a_reason_to_ask_over_tcp() {
    let rig = Rig::start().await;
    for (index, partial) in
        [Answer::new(), Answer::new().a(300, [6, 6, 6, 6]), Answer::new().big(400, 300)].into_iter().enumerate()
    {
        rig.upstream.script(move |asked| Act::Answer(if asked.tcp { good() } else { partial.clone().flag(0x0200) }));
        let answered = rig.ask(Transport::Udp, &Ask::a(&format!("tc{index}.example.org")).bytes()).await.message;
        assert_eq!((address(&answered), message::flags(&answered) & 0x0200), (&[192, 0, 2, 1][..], 0));
        let log: Vec<bool> =
            rig.upstream.log().iter().filter(|a| a.name().starts_with(&format!("tc{index}"))).map(|a| a.tcp).collect();
        assert_eq!(log, [false, true]);
    }
}

#[tokio::test]
async fn tcf_03_a_forged_truncation_causes_no_tcp() {
    let rig = Rig::start().await;
    rig.upstream.script(|asked| {
        let mut forged = Answer::new().flag(0x0200).to(&asked.message);
        forged[1] ^= 1;
        Act::Several(vec![forged, good().to(&asked.message)])
    });
    let answered = rig.ask(Transport::Udp, &Ask::a("forged.example.org").bytes()).await.message;
    assert_eq!(address(&answered), [192, 0, 2, 1]);
    assert!(rig.upstream.log().iter().all(|asked| !asked.tcp || asked.name().is_empty()));
}

#[tokio::test]
async fn tcf_05_without_tcp_a_datagram_client_gets_tc_and_others_servfail() {
    let rig = Rig::set("", &["upstream.timeout=1s", "upstream.attempt_timeout=300ms"]).await;
    rig.upstream.script(|asked| if asked.tcp { Act::Close } else { Act::Answer(good().flag(0x0200)) });
    let answered = rig.ask(Transport::Udp, &Ask::a("cut.example.org").edns().bytes()).await.message;
    assert_eq!((message::rcode(&answered), message::flags(&answered) & 0x0200), (0, 0x0200));
    assert_eq!(message::counts(&answered)[1], 0);
    over_all!(STREAMS, |transport| {
        let answered = rig.ask(transport, &Ask::a("cut.example.org").id(0).edns().bytes()).await.message;
        assert_eq!((message::rcode(&answered), message::flags(&answered) & 0x0200), (2, 0));
        assert!(message::ede(&answered).is_some());
    });
}

#[tokio::test]
async fn tcf_06_truncation_on_a_stream_is_a_broken_answer_and_no_loop() {
    let rig = Rig::start().await;
    rig.upstream.script(|_| Act::Answer(good().flag(0x0200)));
    over_all!(STREAMS, |transport| {
        let name = format!("{}.loop.example.org", transport.name());
        let answered = rig.ask(transport, &Ask::a(&name).id(0).edns().bytes()).await.message;
        assert_eq!((message::rcode(&answered), message::ede(&answered)), (2, Some(23)));
        let asked = rig.upstream.log().iter().filter(|asked| asked.name() == name).count();
        assert!(asked <= 3, "NEG-15: {asked}");
    });
}

#[tokio::test]
async fn kal_08_and_pad_04_and_cki_19_each_leg_carries_the_options_of_its_own_transport_and_no_client_s() {
    let authority = Authority::new();
    let (mut servers, mut toml) = (Vec::new(), String::new());
    for leg in [Leg::Udp, Leg::Tcp, Leg::Tls, Leg::Https, Leg::H3, Leg::Quic] {
        let server = Server::good(leg, 1, &authority, None).await;
        let (name, entry) = (leg.scheme(), server.entry());
        write!(
            toml,
            "[pool.{name}]\nservers = [{entry}]\n[[forward]]\ndomains = [\"{name}.example\"]\npool = \"{name}\"\n"
        )
        .unwrap();
        servers.push(server);
    }
    let rig = Rig::beside(&[("ca.pem", &authority.pem)], &toml, &[]).await;
    over_all!(Transport::ALL, |transport| {
        for server in &servers {
            let name = format!("{}.{}.example", transport.name(), server.leg.scheme());
            let own: [(u16, &[u8]); 3] = [(10, b"MyCookie"), (12, &[0xff; 9]), (65001, b"mine")];
            let ask = own.into_iter().fold(Ask::a(&name).id(0), |ask, (code, data)| ask.option(code, data));
            let ask = if transport.keeps_alive() { ask.option(11, &[]) } else { ask };
            let reply = rig.ask(transport, &ask.bytes()).await.message;
            assert_eq!((message::rcode(&reply), message::counts(&reply)[1]), (0, 1), "{name}");
            assert!(transport.keeps_alive() || message::option(&reply, 11).is_none());
        }
    });
    for server in &servers {
        let log = server.log();
        assert!(log.len() >= Transport::ALL.len());
        for asked in log {
            let options = message::options(&asked).unwrap();
            let find = |code: u16| options.iter().find(|(found, _)| *found == code).map(|(_, data)| data.as_slice());
            // A plain server is asked over TCP for a client on a stream, and its cookie is of UDP.
            let is_stream = match server.leg {
                Leg::Udp => find(10).is_none() && find(11).is_some(),
                leg => matches!(leg, Leg::Tcp | Leg::Tls),
            };
            assert_eq!(find(11), is_stream.then_some(&[][..]), "{:?}", server.leg);
            let is_encrypted = !matches!(server.leg, Leg::Udp | Leg::Tcp);
            assert_eq!((find(12).is_some(), asked.len() % 128 == 0), (is_encrypted, is_encrypted), "{:?}", server.leg);
            assert!(find(10).is_none_or(|data| server.leg == Leg::Udp && !data.starts_with(b"MyCookie")));
            assert_eq!(find(65001), None);
        }
    }
}

#[tokio::test]
async fn spf_01_and_spf_02_each_single_mismatch_is_ignored_and_the_good_answer_taken() {
    let rig = Rig::start().await;
    rig.upstream.script(|asked| {
        let query = &asked.message;
        let evil = |change: fn(&mut Vec<u8>)| {
            let mut query = query.clone();
            change(&mut query);
            Answer::new().a(300, [6, 6, 6, 6]).to(&query)
        };
        let end = message::question_end(query);
        assert_eq!(query.get(end - 4..end), Some(&[0, 1, 0, 1][..]));
        let mut request = query.clone();
        request[2] &= 0x7f;
        Act::Several(vec![
            evil(|query| query[0] ^= 0x80),
            evil(|query| query[13] = b'z'),
            evil(|query| {
                let end = message::question_end(query);
                query[end - 3] = 28;
            }),
            evil(|query| {
                let end = message::question_end(query);
                query[end - 1] = 3;
            }),
            request,
            vec![0; 5],
            good().to(query),
        ])
    });
    let name = "spoofed.example.org";
    assert_eq!(address(&rig.ask(Transport::Udp, &Ask::a(name).bytes()).await.message), [192, 0, 2, 1]);
    assert_eq!(rig.upstream.count(), 1, "one try, not counted as a failure");
}

#[tokio::test]
async fn spf_03_ids_and_spf_04_ports_toward_the_upstream_are_unpredictable() {
    let rig = Rig::start().await;
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(rig.dns()).await.unwrap();
    let mut buffer = [0; 512];
    for number in 0..400 {
        socket.send(&Ask::a(&format!("{number}.spread.example.org")).id(7).bytes()).await.unwrap();
        socket.recv(&mut buffer).await.unwrap();
    }
    let log: Vec<Asked> = rig.upstream.log().into_iter().filter(|asked| !asked.name().is_empty()).collect();
    let ids: Vec<u16> = log.iter().map(|asked| u16::from_be_bytes([asked.message[0], asked.message[1]])).collect();
    let ports: HashSet<u16> = log.iter().map(|asked| asked.from.port()).collect();
    assert!(ports.len() > 350 && ports.iter().all(|port| *port >= 1024), "{} ports", ports.len());
    assert!(ids.iter().collect::<HashSet<_>>().len() > 380);
    for bit in 0..16 {
        let set = ids.iter().filter(|id| **id >> bit & 1 == 1).count();
        assert!((140..260).contains(&set), "bit {bit} is set in {set} of 400");
    }
    let steps: HashSet<u16> = ids.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
    assert!(steps.len() > 380, "no counter");
}

#[tokio::test]
async fn tcp_06_tcp_14_and_spf_08_questions_share_a_connection_with_ids_of_their_own_and_answers_in_any_order() {
    let rig = Rig::set("", &["upstream.attempt_timeout=4s"]).await;
    rig.upstream.script(|_| Act::Hold(good()));
    let mut stream = rig.tcp().await;
    for id in 0..50 {
        client::send_framed(&mut stream, &Ask::a(&format!("{id}.order.example.org")).id(id).bytes()).await.unwrap();
    }
    rig.upstream.asked(50).await;
    let log = rig.upstream.log();
    let held: Vec<&Asked> = log.iter().filter(|asked| asked.name().contains("order")).collect();
    assert!(held.iter().all(|asked| asked.tcp), "PRG-06");
    let ids: HashSet<(usize, &[u8])> = held.iter().map(|asked| (asked.connection, &asked.message[..2])).collect();
    assert_eq!(ids.len(), 50);
    rig.upstream.release();
    for _ in 0..50 {
        let answer = client::read_framed(&mut stream).await.unwrap();
        assert!(message::asked_name(&answer).starts_with(&format!("{}.", answer[1])));
    }
    assert!(rig.upstream.connections() <= 2, "{} connections", rig.upstream.connections());
}

#[tokio::test]
async fn tcp_15_an_upstream_that_closes_under_its_questions_is_asked_again_unnoticed() {
    let rig = Rig::start().await;
    static CLOSED: AtomicUsize = AtomicUsize::new(0);
    rig.upstream.script(|asked| {
        let first = asked.name().starts_with("3.") && CLOSED.fetch_add(1, Ordering::SeqCst) == 0;
        if first { Act::Close } else { Act::Answer(good()) }
    });
    let mut stream = rig.tcp().await;
    for id in 0..10 {
        client::send_framed(&mut stream, &Ask::a(&format!("{id}.closed.example.org")).id(id).bytes()).await.unwrap();
    }
    for _ in 0..10 {
        assert_eq!(address(&client::read_framed(&mut stream).await.unwrap()), [192, 0, 2, 1]);
    }
}

#[tokio::test]
async fn prg_06_a_question_from_a_stream_goes_out_over_tcp() {
    let rig = Rig::start().await;
    over_all!(Transport::ALL, |transport| {
        let name = format!("{}.way.example.org", transport.name());
        rig.ask(transport, &Ask::a(&name).id(0).bytes()).await;
        let over_tcp = rig.upstream.log().iter().filter(|asked| asked.name() == name).all(|asked| asked.tcp);
        assert_eq!(over_tcp, transport != Transport::Udp);
    });
}

#[tokio::test]
async fn prg_07_a_datagram_larger_than_was_asked_for_is_used() {
    let rig = Rig::start().await;
    rig.upstream.always(Answer::new().big(4000, 300));
    let answered = rig.ask(Transport::Udp, &Ask::new("large.example.org", 16).size(4096).bytes()).await.message;
    assert!(message::flags(&answered) & 0x0200 != 0 || message::counts(&answered)[1] > 15);
    assert!(rig.upstream.log().iter().all(|asked| !asked.tcp), "it came whole, there is nothing to ask again");
    let whole = rig.ask(Transport::Tcp, &Ask::new("large.example.org", 16).bytes()).await.message;
    assert!(whole.len() > 4000);
}

#[tokio::test]
async fn gen_10_and_prg_09_an_answer_that_cannot_be_read_is_a_prompt_servfail() {
    let rig = Rig::set("", &["upstream.timeout=1s", "upstream.attempt_timeout=300ms"]).await;
    let end = |message: &[u8]| message::question_end(message);
    let spoil = move |kind: usize, query: &[u8]| {
        let mut whole = good().to(query);
        let at = end(query);
        match kind {
            0 => whole.truncate(at + 5),
            1 => whole.truncate(whole.len() - 1),
            // An owner that points to itself, forward, past the end.
            2 => whole[at..at + 2].copy_from_slice(&[0xc0, at as u8]),
            3 => whole[at..at + 2].copy_from_slice(&[0xc0, at as u8 + 4]),
            4 => whole[at..at + 2].copy_from_slice(&[0xff, 0xff]),
            5 => whole[7] = 9,
            6 => whole[at + 10] = 0xff,
            _ => whole[at] = 0x40,
        }
        whole
    };
    for transport in Transport::ALL {
        for kind in 0..8 {
            rig.upstream.script(move |asked| Act::Raw(spoil(kind, &asked.message)));
            let name = format!("{kind}.{}.junk.example.org", transport.name());
            let started = Instant::now();
            let answered = rig.ask(transport, &Ask::a(&name).id(0).edns().bytes()).await.message;
            assert_eq!(message::rcode(&answered), 2, "kind {kind} over {}", transport.name());
            assert!(message::ede(&answered).is_some());
            // Not the four seconds of an upstream that says nothing.
            assert!(started.elapsed() < Duration::from_millis(3500), "kind {kind} over {}", transport.name());
        }
    }
    rig.upstream.always(good());
    rig.assert_well("junk").await;
}

#[tokio::test]
async fn gen_10_a_target_that_loops_is_a_prompt_servfail() {
    let rig = Rig::set("", &["upstream.timeout=1s", "upstream.attempt_timeout=300ms"]).await;
    rig.upstream.script(|asked| {
        let rdata = message::question_end(&asked.message) as u8 + 12;
        Act::Answer(Answer::new().answer("@", 5, 300, &[0xc0, rdata]))
    });
    over_all!(Transport::ALL, |transport| {
        let name = format!("{}.knot.example.org", transport.name());
        let answered = rig.ask(transport, &Ask::a(&name).id(0).edns().bytes()).await.message;
        assert_eq!((message::rcode(&answered), message::counts(&answered)[1]), (2, 0));
    });
}

#[tokio::test]
async fn random_upstream_answers_never_break_the_gateway() {
    let rig = Rig::set("", &["upstream.timeout=400ms", "upstream.attempt_timeout=150ms"]).await;
    rig.upstream.script(|asked| {
        let mut noise = Noise::new(asked.name().bytes().fold(9, |sum, octet| sum * 31 % 65_521 + u64::from(octet)));
        let mut whole = Answer::new().big(300, 300).soa("example.org", 5, 5).to(&asked.message);
        let end = message::question_end(&asked.message);
        for _ in 0..=noise.below(4) {
            let at = end + noise.below(whole.len() - end);
            whole[at] = noise.next() as u8;
        }
        whole[6..12].iter_mut().for_each(|octet| *octet ^= u8::from(noise.below(6) == 0));
        Act::Raw(whole)
    });
    let mut stream = rig.tcp().await;
    let questions: Vec<u8> =
        (0..300).flat_map(|id| frame(&Ask::new(&format!("{id}.fuzz.example.org"), 16).id(id).bytes())).collect();
    tokio::io::AsyncWriteExt::write_all(&mut stream, &questions).await.unwrap();
    for _ in 0..300 {
        assert!([0, 2].contains(&message::rcode(&client::read_framed(&mut stream).await.unwrap())));
    }
    rig.upstream.always(good());
    rig.assert_well("fuzz").await;
}
