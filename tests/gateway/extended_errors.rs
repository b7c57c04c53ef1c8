//! Extended DNS errors (STANDARDS group EDE; RFC 8914): what clients are told of why, and what they never are.

use hushgate::peer::Transport;

use crate::harness::raw::refusing;
use crate::harness::{Act, Answer, Ask, Rig, STREAMS, Upstream, message};
use crate::over_all;

/// All extended errors of `reply`: code and text.
fn errors(reply: &[u8]) -> Vec<(u16, String)> {
    let options = message::options(reply).unwrap_or_default();
    let errors = options.into_iter().filter(|(code, _)| *code == 15);
    errors
        .map(|(_, data)| (u16::from_be_bytes([data[0], data[1]]), String::from_utf8(data[2..].to_vec()).unwrap()))
        .collect()
}

fn codes(reply: &[u8]) -> Vec<u16> {
    errors(reply).into_iter().map(|(code, _)| code).collect()
}

/// EDE-02, EDE-04: short, and without a digit of an address or a port.
fn assert_discreet(reply: &[u8]) {
    for (_, text) in errors(reply) {
        assert!(text.len() <= 64 && !text.contains(|c: char| c.is_ascii_digit() || c == ':'), "{text}");
        assert!(!text.contains("example"), "{text}");
    }
}

#[tokio::test]
async fn ede_01_and_ede_11_the_reason_goes_to_those_with_edns_alone() {
    let rig = Rig::start().await;
    rig.upstream.always(Answer::new().rcode(2));
    over_all!(Transport::ALL, |transport| {
        for (rcode, code, ask) in [
            (5, 21, Ask::new("zone.example", 252)),
            (5, 21, Ask::new("zone.example", 251)),
            (4, 21, Ask::a("opcode.example").flags(0x7800)),
        ] {
            let ask = ask.id(0);
            let with = rig.ask(transport, &ask.clone().edns().bytes()).await.message;
            assert_eq!((message::rcode(&with), codes(&with)), (rcode, vec![code]));
            assert_discreet(&with);
            let without = rig.ask(transport, &ask.bytes()).await.message;
            assert_eq!((message::rcode(&without), message::options(&without)), (rcode, None));
        }
    });
}

#[tokio::test]
async fn ede_01_a_malformed_question_with_an_opt_is_told_what_is_wrong_with_it() {
    let rig = Rig::start().await;
    let opt = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
    let question = Ask::a("two.example").id(0).bytes()[12..].to_vec();
    let message = |counts: [u8; 2], parts: &[&[u8]]| {
        let header = [0, 0, 1, 0, 0, counts[0], 0, 0, 0, 0, 0, counts[1]];
        [&header[..], &parts.concat()].concat()
    };
    let cases = [
        ("not one question", message([2, 1], &[&question, &question, &opt])),
        ("not one question", message([0, 1], &[&opt])),
        ("malformed message", message([1, 2], &[&question, &opt, &[0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 9]])),
        ("malformed EDNS", message([1, 2], &[&question, &opt, &opt])),
        ("malformed EDNS option", Ask::a("odd.example").id(0).option(10, &[1; 9]).bytes()),
    ];
    over_all!(Transport::ALL, |transport| {
        for (text, query) in &cases {
            let reply = rig.ask(transport, query).await.message;
            assert_eq!((message::rcode(&reply), errors(&reply)), (1, vec![(0, (*text).to_owned())]));
            assert_discreet(&reply);
        }
        let bare = rig.ask(transport, &message([2, 0], &[&question, &question])).await.message;
        assert_eq!((message::rcode(&bare), message::options(&bare)), (1, None));
    });
    assert_eq!(rig.upstream.count(), 0);
}

#[tokio::test]
async fn ede_02_a_reason_that_does_not_fit_a_datagram_gives_way_to_data_and_tc_tells_of_it() {
    let rig = Rig::start().await;
    // Header 12, question "nnn.fit" + 4 = 13, fixed part of the record 12, OPT 11, and 6 for the error.
    for (length, fits) in [(506, true), (507, false), (512, false)] {
        let data = vec![0; length - 12 - 13 - 12 - 11];
        rig.upstream.always(Answer::new().answer("@", 65280, 300, &data).opt(&[(15, &[0, 4])]));
        let ask = Ask::new(&format!("{length}.fit"), 65280).id(0).size(512);
        for _ in 0..2 {
            let reply = rig.ask(Transport::Udp, &ask.bytes()).await.message;
            assert_eq!(message::counts(&reply)[1], 1, "{length}: data before reasons");
            assert_eq!(codes(&reply), if fits { vec![4] } else { vec![] });
            assert_eq!(message::flags(&reply) & 0x0200 != 0, !fits, "{length}");
        }
        over_all!(STREAMS, |transport| {
            let reply = rig.ask(transport, &ask.bytes()).await.message;
            assert_eq!((codes(&reply), message::flags(&reply) & 0x0200), (vec![4], 0));
        });
    }
}

#[tokio::test]
async fn ede_03_the_upstreams_first_reason_is_passed_on_and_its_texts_are_not() {
    let rig = Rig::start().await;
    rig.upstream.script(|asked| {
        let secret = b"\0\x09from 10.0.0.53 about failed.example";
        Act::Answer(if asked.name().starts_with("failed") {
            Answer::new().rcode(2).opt(&[(15, secret), (15, b"\0\x16")])
        } else {
            Answer::new().a(300, [192, 0, 2, 1]).opt(&[(15, b"\0\x03stale since 12:00"), (15, b"\0\x04")])
        })
    });
    over_all!(Transport::ALL, |transport| {
        for (name, code) in [("answered", 3), ("failed", 9)] {
            let ask = Ask::a(&format!("{name}.{}.example", transport.name())).id(0);
            let first = rig.ask(transport, &ask.clone().edns().bytes()).await.message;
            assert_eq!(errors(&first), [(code, String::new())]);
            let again = rig.ask(transport, &ask.clone().edns().bytes()).await.message;
            assert!(codes(&again).contains(&code), "kept with the answer, and with the failure");
            assert_discreet(&again);
            assert_eq!(message::options(&rig.ask(transport, &ask.bytes()).await.message), None);
        }
    });
}

#[tokio::test]
async fn ede_06_a_remembered_failure_says_so_and_what_it_was() {
    let rig = Rig::start().await;
    over_all!(Transport::ALL, |transport| {
        for (upstream, first, again) in [(None, vec![], vec![13]), (Some(22), vec![22], vec![13, 22])] {
            let answer = Answer::new().rcode(2);
            rig.upstream.always(upstream.map_or(answer.clone(), |code: u16| answer.opt(&[(15, &code.to_be_bytes())])));
            let ask = Ask::a(&format!("f{}.{}.example", first.len(), transport.name())).id(0).edns();
            for expected in [&first, &again] {
                let reply = rig.ask(transport, &ask.bytes()).await.message;
                assert_eq!((message::rcode(&reply), &codes(&reply)), (2, expected));
            }
        }
    });
}

#[tokio::test]
async fn ede_07_silence_is_22_and_nonsense_is_23() {
    // Silence is waited out; nonsense never is, so its time may be long enough for any machine.
    let brief = Rig::set("", &["upstream.timeout=\"300ms\"", "upstream.attempt_timeout=\"100ms\""]).await;
    let rig = Rig::start().await;
    brief.upstream.script(|_| Act::Silence);
    rig.upstream.script(|asked| match asked.name().split('.').next() {
        Some("closing") if asked.tcp => Act::Close,
        Some("closing") => Act::Answer(Answer::new().flag(0x0200)),
        _ => {
            let mut cut = Answer::new().to(&asked.message);
            cut[7] = 1;
            Act::Raw(cut)
        }
    });
    over_all!(Transport::ALL, |transport| {
        for (rig, name, code) in [(&brief, "silent", 22), (&rig, "garbage", 23)] {
            let ask = Ask::a(&format!("{name}.{}.example", transport.name())).id(0).edns();
            let reply = rig.ask(transport, &ask.bytes()).await.message;
            assert_eq!((message::rcode(&reply), codes(&reply)), (2, vec![code]), "{name}");
            assert_discreet(&reply);
        }
    });
    over_all!(STREAMS, |transport| {
        let ask = Ask::a(&format!("closing.{}.example", transport.name())).id(0).edns();
        let reply = rig.ask(transport, &ask.bytes()).await.message;
        assert_eq!((message::rcode(&reply), codes(&reply)), (2, vec![23]));
    });
}

#[tokio::test]
async fn ede_07_an_upstream_that_is_not_there_is_22_and_one_with_a_wrong_certificate_is_23() {
    let other = Rig::start().await;
    // A port where nobody listens, and an authority that nobody trusts.
    let (_held, nobody) = refusing();
    for (url, code) in [(format!("tcp://{nobody}"), 22), (format!("tls://{}", other.dot()), 23)] {
        let rig = Rig::set("", &[&format!("upstream.servers=[\"{url}\"]")]).await;
        over_all!(Transport::ALL, |transport| {
            let ask = Ask::a(&format!("{}.example", transport.name())).id(0).edns();
            let reply = rig.ask(transport, &ask.bytes()).await.message;
            assert_eq!((message::rcode(&reply), codes(&reply)), (2, vec![code]), "{url}");
            assert_discreet(&reply);
        });
    }
}

#[tokio::test]
async fn ede_07_of_servers_that_fail_each_in_its_own_way_the_most_telling_failure_is_told() {
    let other = Rig::start().await;
    let (_held, nobody) = refusing();
    let (stranger, nobody) = (format!("\"tls://{}\"", other.dot()), format!("\"tcp://{nobody}\""));
    for servers in [[&stranger, &nobody], [&nobody, &stranger]] {
        let servers = format!("upstream.servers=[{}, {}]", servers[0], servers[1]);
        let rig = Rig::set("", &[&servers, "upstream.strategy=\"ordered\""]).await;
        over_all!(Transport::ALL, |transport| {
            let ask = Ask::a(&format!("{}.example", transport.name())).id(0).edns();
            let reply = rig.ask(transport, &ask.bytes()).await.message;
            assert_eq!((message::rcode(&reply), codes(&reply)), (2, vec![23]), "{servers}");
            assert_discreet(&reply);
        });
    }
}

#[tokio::test]
async fn ede_03_a_failure_that_somebody_meant_is_passed_on_and_no_way_round_it_is_tried() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    second.always(Answer::new().a(300, [192, 0, 2, 1]));
    for (rcode, code) in [(2, 6u16), (2, 9), (5, 15), (5, 16), (5, 17), (5, 18)] {
        first.always(Answer::new().rcode(rcode).opt(&[(15, &code.to_be_bytes())]));
        let servers = format!("upstream.servers=[\"udp://{}\", \"udp://{}\"]", first.address, second.address);
        let rig = Rig::set("", &[&servers, "upstream.strategy=\"ordered\""]).await;
        over_all!(Transport::ALL, |transport| {
            let ask = Ask::a(&format!("{}.example", transport.name())).id(0);
            let reply = rig.ask(transport, &ask.clone().edns().bytes()).await.message;
            assert_eq!((message::rcode(&reply), codes(&reply)), (rcode, vec![code]));
            let without = rig.ask(transport, &ask.bytes()).await.message;
            assert_eq!((message::rcode(&without), message::options(&without)), (message::rcode(&reply), None));
        });
    }
    assert_eq!(second.count(), 0);
}

#[tokio::test]
async fn ede_15_validation_is_spoken_of_only_where_the_upstream_did() {
    let rig = Rig::start().await;
    let validation = [1, 2, 5, 6, 7, 8, 9, 10, 11, 12, 25, 27];
    for upstream in [None, Some(6)] {
        let answer = Answer::new().rcode(2);
        rig.upstream.always(upstream.map_or(answer.clone(), |code: u16| answer.opt(&[(15, &code.to_be_bytes())])));
        over_all!(Transport::ALL, |transport| {
            let ask = Ask::a(&format!("v{}.{}.example", upstream.is_some(), transport.name())).id(0).dnssec();
            for _ in 0..2 {
                let reply = rig.ask(transport, &ask.bytes()).await.message;
                let said: Vec<u16> = codes(&reply).into_iter().filter(|code| validation.contains(code)).collect();
                assert_eq!(said, upstream.into_iter().collect::<Vec<u16>>());
            }
        });
    }
}
