//! Padding (STANDARDS group PAD; RFC 7830, RFC 8467): replies of one size for those who ask for it where it hides anything.

use hushgate::peer::Transport;

use crate::harness::{Answer, Ask, ENCRYPTED, Rig, client, message};
use crate::over_all;

const BLOCK: usize = 468;

/// The padding of `reply`, which must be zeros and the last option of the last record.
fn padding(reply: &[u8]) -> Option<usize> {
    let options = message::options(reply)?;
    let count = options.iter().filter(|(code, _)| *code == 12).count();
    assert!(count <= 1, "PAD-06");
    let (code, data) = options.last()?;
    assert_eq!(count == 1, *code == 12, "PAD-05: last");
    if count == 0 {
        return None;
    }
    assert!(data.iter().all(|&octet| octet == 0) && reply.ends_with(data), "PAD-06: zeros at the very end");
    Some(data.len())
}

#[tokio::test]
async fn pad_01_and_pad_09_padded_replies_are_whole_blocks_on_every_encrypted_transport() {
    let rig = Rig::start().await;
    for octets in [1, 300, 480, 1000, 5000] {
        rig.upstream.always(Answer::new().big(octets, 300));
        let mut sizes = Vec::new();
        over_all!(ENCRYPTED, |transport| {
            let ask = Ask::new(&format!("n{octets:04}.example"), 16).id(0).option(12, &[]);
            for _ in 0..2 {
                let reply = rig.ask(transport, &ask.bytes()).await.message;
                assert_eq!(reply.len() % BLOCK, 0);
                assert!(padding(&reply).is_some());
                message::read(&reply);
                sizes.push(reply.len());
            }
        });
        sizes.dedup();
        assert_eq!(sizes.len(), 1, "the same everywhere, from the upstream and from memory");
        assert!(sizes[0] >= octets);
    }
}

#[tokio::test]
async fn pad_01_errors_local_answers_and_denials_are_padded_like_any_other() {
    let rig = Rig::start().await;
    rig.upstream.always(Answer::new().rcode(2));
    over_all!(ENCRYPTED, |transport| {
        let asks = [
            (2, Ask::a("failing.example")),
            (0, Ask::a("localhost")),
            (3, Ask::a("x.onion")),
            (5, Ask::new("zone.example", 252)),
            (4, Ask::a("opcode.example").flags(0x7800)),
            (1, Ask::a("cookie.example").option(10, &[0; 9])),
        ];
        for (rcode, ask) in asks {
            let reply = rig.ask(transport, &ask.id(0).option(12, &[]).bytes()).await.message;
            assert_eq!((message::rcode(&reply), reply.len() % BLOCK), (rcode, 0));
            padding(&reply).unwrap();
        }
    });
}

#[tokio::test]
async fn pad_02_nothing_is_padded_in_clear_text() {
    let rig = Rig::start().await;
    over_all!([Transport::Udp, Transport::Tcp], |transport| {
        for data in [&[][..], &[0; 100]] {
            let reply = rig.ask(transport, &Ask::a("clear.example").option(12, data).bytes()).await.message;
            assert_eq!(message::options(&reply), Some(Vec::new()));
        }
    });
}

#[tokio::test]
async fn pad_02_what_a_web_server_in_front_encrypts_is_padded_too() {
    let rig = Rig::start().await;
    for (options, padded) in [(Some(&[][..]), true), (None, false)] {
        let ask = Ask::a("front.example").id(0).edns();
        let query = options.map_or(ask.clone(), |data| ask.option(12, data)).bytes();
        let mut request = rig.post(&query);
        *request.uri_mut() = format!("http://127.0.0.1:{}/dns-query", rig.doh_clear().port()).parse().unwrap();
        let connect = || tokio::net::TcpStream::connect(rig.doh_clear());
        let (_, _, one) = client::http1(connect().await.unwrap(), request.clone()).await.unwrap();
        let (_, _, two) = client::http2(connect().await.unwrap(), request).await.unwrap();
        for reply in [one, two] {
            assert_eq!((padding(&reply).is_some(), reply.len() == BLOCK), (padded, padded));
        }
    }
}

#[tokio::test]
async fn pad_03_nobody_who_did_not_ask_gets_padding() {
    let rig = Rig::start().await;
    over_all!(Transport::ALL, |transport| {
        let padded = Ask::a("shared.example").id(0).option(12, &[]);
        rig.ask(transport, &padded.bytes()).await;
        let plain = rig.ask(transport, &Ask::a("shared.example").id(0).bytes()).await.message;
        assert_eq!(message::options(&plain), None);
        let edns = rig.ask(transport, &Ask::a("shared.example").id(0).edns().bytes()).await.message;
        assert_eq!(message::options(&edns), Some(Vec::new()));
    });
}

#[tokio::test]
async fn pad_03_padding_can_be_switched_off() {
    let rig = Rig::with("[privacy]\npadding = false").await;
    over_all!(ENCRYPTED, |transport| {
        let reply = rig.ask(transport, &Ask::a("off.example").id(0).option(12, &[]).bytes()).await.message;
        assert_eq!(message::options(&reply), Some(Vec::new()));
    });
}

#[tokio::test]
async fn pad_05_cookies_keepalive_and_extended_errors_count_and_come_first() {
    let rig = Rig::start().await;
    rig.upstream.always(Answer::new().rcode(2).opt(&[(15, &[0, 6])]));
    over_all!(ENCRYPTED, |transport| {
        let keeps_alive = transport == Transport::Dot;
        let mut ask = Ask::a("all.example").id(0).option(12, &[]).option(10, &[7; 8]);
        if keeps_alive {
            ask = ask.option(11, &[]);
        }
        for _ in 0..2 {
            let reply = rig.ask(transport, &ask.bytes()).await.message;
            assert_eq!(reply.len() % BLOCK, 0);
            padding(&reply).unwrap();
            for (code, expected) in [(10, true), (15, true), (11, keeps_alive)] {
                assert_eq!(message::option(&reply, code).is_some(), expected, "option {code}");
            }
        }
    });
}

#[tokio::test]
async fn pad_06_padding_of_any_content_and_length_asks_for_it() {
    let rig = Rig::start().await;
    over_all!(ENCRYPTED, |transport| {
        for data in [&[][..], &[0xff; 128], &[0; 1], &[0xa5; 2000]] {
            let ask = Ask::a("any.example").id(0).option(12, data);
            let reply = rig.ask(transport, &ask.bytes()).await.message;
            assert_eq!((message::rcode(&reply), reply.len()), (0, BLOCK));
            padding(&reply).unwrap();
        }
        let twice = Ask::a("any.example").id(0).option(12, &[1]).option(12, &[2; 7]);
        let reply = rig.ask(transport, &twice.bytes()).await.message;
        assert_eq!((message::rcode(&reply), reply.len()), (0, BLOCK));
        padding(&reply).unwrap();
    });
}

#[tokio::test]
async fn pad_07_padding_never_passes_the_largest_message() {
    let rig = Rig::start().await;
    // All but the padding: header 12, question 8 + 4, fixed part of the record 12, OPT 11.
    for (length, padded) in [
        (65_000, Some(65_052)),
        (65_516, Some(65_520)),
        (65_517, Some(65_535)),
        (65_531, Some(65_535)),
        (65_532, None),
        (65_535, None),
    ] {
        rig.upstream.always(Answer::new().answer("@", 65280, 300, &vec![1; length - 12 - 12 - 12 - 11]));
        let ask = Ask::new(&format!("p{length}"), 65280).id(0).option(12, &[]);
        assert_eq!(message::question_end(&ask.bytes()), 24);
        over_all!(ENCRYPTED, |transport| {
            for _ in 0..2 {
                let reply = rig.ask(transport, &ask.bytes()).await.message;
                assert_eq!(reply.len(), padded.unwrap_or(length));
                assert_eq!((padding(&reply).is_some(), message::counts(&reply)[1]), (padded.is_some(), 1));
            }
        });
    }
}

#[tokio::test]
async fn pad_10_the_upstreams_padding_ends_here_and_each_client_gets_its_own() {
    let rig = Rig::start().await;
    rig.upstream.always(Answer::new().a(300, [192, 0, 2, 1]).opt(&[(12, &[0; 400])]));
    over_all!(Transport::ALL, |transport| {
        let ask = Ask::a(&format!("{}.pad.example", transport.name())).id(0);
        for _ in 0..2 {
            let edns = rig.ask(transport, &ask.clone().edns().bytes()).await.message;
            assert_eq!(message::options(&edns), Some(Vec::new()));
            let plain = rig.ask(transport, &ask.bytes()).await.message;
            assert!(message::options(&plain).is_none() && plain.len() < 100);
            let padded = rig.ask(transport, &ask.clone().option(12, &[]).bytes()).await.message;
            assert_eq!(padding(&padded).is_some(), transport.is_encrypted());
            assert!(padded.len() == BLOCK || !transport.is_encrypted());
        }
    });
}
