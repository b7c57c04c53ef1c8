//! The base protocol (STANDARDS group GEN) as clients of every transport see it, octet by octet where octets matter.

use hushgate::peer::Transport;
use tokio::net::{TcpStream, UdpSocket};

use crate::harness::upstream::Asked;
use crate::harness::{Act, Answer, Ask, Rig, STREAMS, client, message};
use crate::over_all;

/// The id that comes back: what was sent, save on DoQ, where it is 0 (RFC 9250 4.2.1).
fn echoed(transport: Transport, id: u16) -> u16 {
    if transport == Transport::Doq { 0 } else { id }
}

fn id(message: &[u8]) -> u16 {
    u16::from_be_bytes([message[0], message[1]])
}

/// The question as sent.
fn question(message: &[u8]) -> &[u8] {
    &message[12..message::question_end(message)]
}

/// What follows the question.
fn after_question(message: &[u8]) -> &[u8] {
    &message[message::question_end(message)..]
}

/// A query for a name given as octets.
pub fn raw_ask(name: &[u8], rtype: u16, class: u16) -> Vec<u8> {
    let mut query = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    query.extend(name);
    query.extend(rtype.to_be_bytes());
    query.extend(class.to_be_bytes());
    query
}

/// Does `bad` get no DNS reply? It is followed by a good question, so that silence is told without waiting.
pub async fn is_unanswered(rig: &Rig, transport: Transport, bad: &[u8]) -> bool {
    let good = Ask::a("good.example.org").id(0x600d).bytes();
    match transport {
        Transport::Udp => {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            socket.connect(rig.dns()).await.unwrap();
            socket.send(bad).await.unwrap();
            socket.send(&good).await.unwrap();
            let mut buffer = [0; 2000];
            let reading = tokio::time::timeout(client::PATIENCE, socket.recv(&mut buffer));
            reading.await.expect("the good question is answered").unwrap();
            id(&buffer) == 0x600d
        }
        Transport::Tcp | Transport::Dot => {
            let first = if transport == Transport::Tcp {
                both(TcpStream::connect(rig.dns()).await.unwrap(), bad, &good).await
            } else {
                both(rig.dot_stream().await, bad, &good).await
            };
            first.is_none_or(|answer| id(&answer) == 0x600d)
        }
        Transport::Doh1 | Transport::Doh2 | Transport::Doh3 => rig.ask(transport, bad).await.http.unwrap().0 == 400,
        Transport::Doq => rig.try_ask(transport, bad).await.is_none(),
    }
}

/// The first answer after two messages on one stream; `None` where it ends instead.
async fn both<S>(mut stream: S, bad: &[u8], good: &[u8]) -> Option<Vec<u8>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    client::send_framed(&mut stream, bad).await.ok()?;
    client::send_framed(&mut stream, good).await.ok()?;
    tokio::time::timeout(client::PATIENCE, client::read_framed(&mut stream)).await.expect("an answer or an end")
}

/// Asks for FORMERR over every transport, and sees that nothing is forwarded and the gateway lives.
async fn assert_formerr(rig: &Rig, transport: Transport, query: &[u8], what: &str) {
    let before = rig.upstream.count();
    let message = rig.ask(transport, query).await.message;
    assert_eq!(message::rcode(&message), 1, "{what}");
    assert_eq!(id(&message), echoed(transport, id(query)), "{what}");
    assert_eq!(message::counts(&message)[1..3], [0, 0], "{what}");
    assert_eq!(rig.upstream.count(), before, "{what} went upstream");
}

#[tokio::test]
async fn gen_01_id_opcode_rd_and_question_come_back_on_miss_hit_and_local_answers() {
    let rig = Rig::start().await;
    over_all!(Transport::ALL, |transport| {
        for (name, flags) in [("gen01", 0x0100), ("gen01", 0), ("fresh", 0), ("localhost", 0x0100), ("localhost", 0)] {
            let full = if name == "localhost" { name.to_owned() } else { format!("{name}.{}.Org", transport.name()) };
            let query = Ask::a(&full).id(0xbeef).flags(flags).bytes();
            let reply = rig.ask(transport, &query).await.message;
            assert_eq!(id(&reply), echoed(transport, 0xbeef));
            assert_eq!(message::flags(&reply) & 0xf900, 0x8000 | flags, "QR, opcode 0, RD as asked");
            assert_eq!(question(&reply), question(&query));
            assert_eq!(message::counts(&reply)[..2], [1, 1]);
        }
    });
}

#[tokio::test]
async fn gen_02_ra_is_set_on_every_reply_made_here_and_kept_as_the_upstream_gave_it() {
    let rig = Rig::start().await;
    rig.upstream.script(|asked| match asked.name().split('.').next() {
        Some("without") => {
            let mut message = Answer::new().a(300, [192, 0, 2, 1]).to(&asked.message);
            message[3] &= 0x7f;
            Act::Raw(message)
        }
        _ => Act::Answer(Answer::new().a(300, [192, 0, 2, 1])),
    });
    over_all!(Transport::ALL, |transport| {
        let ra = async |name: &str| {
            let query = Ask::a(&format!("{name}.{}.example.org", transport.name())).id(0).bytes();
            message::flags(&rig.ask(transport, &query).await.message) & 0x0080 != 0
        };
        assert!(ra("with").await && ra("with").await);
        assert!(!ra("without").await && !ra("without").await, "on a miss and on a hit");
        for query in
            [Ask::a("x.localhost"), Ask::a("x.invalid"), Ask::new("zone.example", 252), Ask::a("x").flags(0x7800)]
        {
            let reply = rig.ask(transport, &query.id(0).bytes()).await.message;
            assert_eq!(message::flags(&reply) & 0x0080, 0x0080);
        }
    });
}

#[tokio::test]
async fn gen_03_aa_is_never_set_on_what_an_upstream_gave_and_set_on_local_zones() {
    let rig = Rig::start().await;
    rig.upstream.always(Answer::new().flag(0x0400).a(300, [192, 0, 2, 1]));
    over_all!(Transport::ALL, |transport| {
        let name = format!("{}.example.org", transport.name());
        for (name, aa) in [(name.as_str(), 0), (&name, 0), ("localhost", 0x0400), ("x.onion", 0x0400)] {
            let reply = rig.ask(transport, &Ask::a(name).id(0).bytes()).await.message;
            assert_eq!(message::flags(&reply) & 0x0400, aa, "{name}");
        }
    });
}

#[tokio::test]
async fn gen_04_each_asker_gets_its_own_letter_case_from_one_entry() {
    let rig = Rig::start().await;
    for name in ["wWw.ExAmPle.com", "WWW.example.COM", "www.example.com"] {
        over_all!(Transport::ALL, |transport| {
            let query = Ask::a(name).id(0).bytes();
            let reply = rig.ask(transport, &query).await.message;
            assert_eq!(question(&reply), question(&query));
            assert_eq!(message::counts(&reply)[1], 1);
        });
    }
    assert_eq!(rig.upstream.count(), 1);
    // Only ASCII letters fold: 0xC0 and 0xE0 differ, as do '[' and '{', '@' and '`' (RFC 4343 3).
    for label in [[0xc0], [0xe0], *b"[", *b"{", *b"@", *b"`"] {
        rig.ask(Transport::Tcp, &raw_ask(&[&[1], &label[..], b"\x03org\0"].concat(), 1, 1)).await;
    }
    assert_eq!(rig.upstream.count(), 7);
}

#[tokio::test]
async fn gen_05_data_of_unknown_types_passes_byte_for_byte() {
    let rig = Rig::start().await;
    let datas: [&[u8]; 5] = [&[0xc0, 0x0c, 0, 1], &[], &[0; 40], &[0xff; 255], &[0xc0, 0xff, 0x3f]];
    over_all!(Transport::ALL, |transport| {
        for (index, data) in datas.into_iter().enumerate() {
            rig.upstream.always(Answer::new().answer("@", 65280, 300, data));
            let query = Ask::new(&format!("x{index}.{}.org", transport.name()), 65280).id(0).bytes();
            for _ in 0..2 {
                let reply = rig.ask(transport, &query).await.message;
                assert_eq!(message::counts(&reply), [1, 1, 0, 0]);
                let expected = [&[0xc0, 12, 0xff, 0, 0, 1, 0, 0, 1, 44], &(data.len() as u16).to_be_bytes()[..], data];
                assert_eq!(after_question(&reply), expected.concat());
            }
        }
    });
}

#[tokio::test]
async fn gen_05_the_largest_message_passes_over_every_stream_though_udp_truncates_it() {
    let rig = Rig::start().await;
    // Header, question and the record's fixed part take 12 + 19 + 12 octets; the rest is data.
    let data: Vec<u8> = (0..65_535 - 43).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let whole = Answer::new().answer("@", 65280, 300, &data);
    rig.upstream.script(move |asked| Act::Answer(if asked.tcp { whole.clone() } else { Answer::new().flag(0x0200) }));
    let query = Ask::new("large.example", 65280).id(0).bytes();
    assert_eq!(message::question_end(&query), 12 + 19);
    let truncated = rig.ask(Transport::Udp, &query).await.message;
    assert_eq!((message::flags(&truncated) & 0x0200, message::counts(&truncated)), (0x0200, [1, 0, 0, 0]));
    over_all!(STREAMS, |transport| {
        let reply = rig.ask(transport, &query).await.message;
        assert_eq!(reply.len(), 65_535);
        assert_eq!((message::flags(&reply) & 0x0200, message::counts(&reply)), (0, [1, 1, 0, 0]));
        assert!(reply.ends_with(&data), "the data is another");
    });
    assert_eq!(rig.upstream.log().iter().filter(|asked| asked.tcp && !asked.name().is_empty()).count(), 1);
}

#[tokio::test]
async fn gen_08_labels_of_any_octets_survive_and_are_told_apart() {
    let rig = Rig::start().await;
    let names: [&[u8]; 7] = [
        b"\x03a b\x03org\0",
        b"\x03\0.\xff\x03org\0",
        b"\x03a.b\x03org\0",
        b"\x01a\x01b\x03org\0",
        b"\x04\x80\x81\xfe\xff\x03org\0",
        b"\x02\\0\x03org\0",
        b"\x05\xc0\x0c\x01\x00\x2a\x03org\0",
    ];
    over_all!(Transport::ALL, |transport| {
        for (index, name) in names.into_iter().enumerate() {
            let mark = [1, b'a' + transport as u8];
            let query = raw_ask(&[&mark, name].concat(), 1, 1);
            let before = rig.upstream.count();
            for _ in 0..2 {
                let reply = rig.ask(transport, &query).await.message;
                assert_eq!(question(&reply), question(&query), "name {index}");
                assert_eq!(message::counts(&reply)[1], 1);
            }
            assert_eq!(rig.upstream.count(), before + 1, "name {index} is a key of its own, and found again");
            let log = rig.upstream.log();
            let kept = |asked: &Asked| question(&asked.message).eq_ignore_ascii_case(question(&query));
            assert!(log.iter().any(kept), "name {index}");
        }
    });
}

#[tokio::test]
async fn gen_09_long_labels_and_names_are_formerr() {
    let rig = Rig::start().await;
    let label = |length: u8| [vec![length], vec![b'x'; length.into()]].concat();
    let name = |last: u8| [label(63), label(63), label(63), label(last), vec![0]].concat();
    over_all!(Transport::ALL, |transport| {
        assert_formerr(&rig, transport, &raw_ask(&[label(64), vec![0]].concat(), 1, 1), "a label of 64").await;
        assert_formerr(&rig, transport, &raw_ask(&name(62), 1, 1), "a name of 256").await;
        let longest = rig.ask(transport, &raw_ask(&name(61), 1, 1)).await.message;
        assert_eq!((message::rcode(&longest), message::counts(&longest)[1]), (0, 1), "255 octets are a name");
    });
}

#[tokio::test]
async fn gen_10_unsound_queries_are_formerr_and_the_next_question_is_answered() {
    let rig = Rig::start().await;
    let record = |owner: &[u8]| {
        let mut query = raw_ask(b"\x01a\x03org\0", 1, 1);
        query[11] = 1;
        [&query[..], owner, &[0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 1, 2, 3, 4]].concat()
    };
    let whole = record(&[0]);
    let cases: [(&str, Vec<u8>); 8] = [
        ("a question that points at itself", raw_ask(&[0xc0, 12], 1, 1)),
        ("a pointer forward", raw_ask(&[0xc0, 40], 1, 1)),
        ("a pointer past the end", raw_ask(&[0xff, 0xff], 1, 1)),
        ("a loop of two", raw_ask(&[1, b'a', 0xc0, 12], 1, 1)),
        ("a record whose owner points at itself", record(&[0xc0, 23])),
        ("a record cut short", whole[..whole.len() - 1].to_vec()),
        ("a header alone", vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]),
        ("a label type of no meaning", raw_ask(&[0x80, 1, 0], 1, 1)),
    ];
    over_all!(Transport::ALL, |transport| {
        for (what, query) in &cases {
            assert_formerr(&rig, transport, query, what).await;
        }
        let good = rig.ask(transport, &Ask::a("after.example.org").id(0).bytes()).await.message;
        assert_eq!(message::counts(&good)[1], 1);
    });
}

#[tokio::test]
async fn gen_10_unsound_upstream_answers_are_servfail_and_the_next_question_is_answered() {
    let rig = Rig::start().await;
    let bodies: [&[u8]; 5] = [
        &[0xc0, 0xff, 0, 1, 0, 1, 0, 0, 1, 0, 0, 4, 1, 2, 3, 4],
        &[0xc0, 28, 0, 5, 0, 1, 0, 0, 1, 0, 0, 2, 0xc0, 0x0c],
        &[0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 0, 0, 9, 1, 2, 3, 4],
        &[0xc0, 12, 0, 1, 0, 1],
        &[],
    ];
    for (index, body) in bodies.into_iter().enumerate() {
        rig.upstream.script(move |asked| {
            let mut message = Answer::new().to(&asked.message);
            message[7] = 1;
            message.extend(body);
            Act::Raw(message)
        });
        over_all!(Transport::ALL, |transport| {
            let name = format!("b{index}.{}.org", transport.name());
            let reply = rig.ask(transport, &Ask::a(&name).id(0).edns().bytes()).await.message;
            assert_eq!((message::rcode(&reply), message::ede(&reply)), (2, Some(23)), "answer {index}");
        });
    }
    rig.upstream.always(Answer::new().a(300, [192, 0, 2, 1]));
    over_all!(Transport::ALL, |transport| {
        let reply = rig.ask(transport, &Ask::a("after.example.org").id(0).bytes()).await.message;
        assert_eq!(message::counts(&reply)[1], 1);
    });
}

#[tokio::test]
async fn gen_11_and_gen_12_two_questions_or_none_are_formerr_and_none_with_a_cookie_is_answered() {
    let rig = Rig::start().await;
    let one = Ask::a("one.example.org").id(0).bytes();
    let two = [&[0, 0, 1, 0, 0, 2, 0, 0, 0, 0, 0, 0], &one[12..], &one[12..]].concat();
    let with = |options: &[(u16, Vec<u8>)]| {
        let edns = message::Edns { size: 1232, version: 0, flags: 0, options: options.to_vec() };
        [&[0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1][..], &message::opt(&edns)].concat()
    };
    over_all!(Transport::ALL, |transport| {
        assert_formerr(&rig, transport, &two, "two questions").await;
        assert_formerr(&rig, transport, &[0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0], "no question").await;
        assert_formerr(&rig, transport, &with(&[]), "no question and no cookie").await;
        let reply = rig.ask(transport, &with(&[(10, vec![7; 8])])).await.message;
        assert_eq!((message::rcode(&reply), message::counts(&reply)), (0, [0, 0, 0, 1]), "CKI-15");
        let cookie = message::option(&reply, 10).unwrap();
        assert_eq!((cookie.len(), &cookie[..8]), (24, &[7; 8][..]));
    });
    assert_eq!(rig.upstream.count(), 0);
}

#[tokio::test]
async fn gen_13_and_gen_14_responses_and_scraps_of_a_header_are_never_answered() {
    let rig = Rig::start().await;
    let response = Ask::a("loop.example.org").id(0).flags(0x8180).bytes();
    over_all!(Transport::ALL, |transport| {
        assert!(is_unanswered(&rig, transport, &response).await, "a response");
        for length in 1..12 {
            assert!(is_unanswered(&rig, transport, &response[..length]).await, "{length} octets of a response");
            assert!(is_unanswered(&rig, transport, &[0; 12][..length]).await, "{length} octets");
        }
    });
    assert!(rig.upstream.log().iter().all(|asked| !asked.name().starts_with("loop")));
}

#[tokio::test]
async fn gen_15_octets_behind_the_message_go_nowhere() {
    let rig = Rig::start().await;
    over_all!(Transport::ALL, |transport| {
        let query = Ask::a(&format!("tail.{}.org", transport.name())).id(0).bytes();
        let clean = rig.ask(transport, &[&query[..], &[0x5a; 16]].concat()).await.message;
        let again = rig.ask(transport, &query).await.message;
        assert_eq!(clean, again, "neither echoed nor kept");
        assert_eq!(message::read(&clean).answers.len(), 1);
    });
    assert!(rig.upstream.log().iter().all(|asked| !asked.message.windows(4).any(|octets| octets == [0x5a; 4])));
}
