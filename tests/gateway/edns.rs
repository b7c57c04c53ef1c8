//! EDNS (STANDARDS groups EDN and KAL): one OPT or none, versions, sizes, and options that belong to one hop.

use std::time::{Duration, Instant};

use hushgate::peer::Transport;
use tokio::io::AsyncReadExt as _;

use crate::harness::message::{Edns, opt};
use crate::harness::{Act, Answer, Ask, Rig, STREAMS, client, message};
use crate::over_all;

/// A query for a name of this transport with these octets as additional records.
fn with_additionals(transport: Transport, count: u8, records: &[u8]) -> Vec<u8> {
    let mut query = Ask::a(&format!("{}.raw.example", transport.name())).id(0).bytes();
    query[11] = count;
    query.extend(records);
    query
}

fn empty_opt() -> Vec<u8> {
    opt(&Edns { size: 1232, version: 0, flags: 0, options: Vec::new() })
}

/// The OPT records of `bytes`: class and TTL fields.
fn opts(bytes: &[u8]) -> Vec<(u16, u32)> {
    use hushgate::wire::{Header, Records};
    let header = Header::parse(bytes).unwrap();
    let all = Records::new(bytes, &header).unwrap().map(Result::unwrap);
    all.filter(|record| record.rtype == 41).map(|record| (record.class, record.ttl)).collect()
}

/// The RCODE with its extended bits.
fn extended_rcode(bytes: &[u8]) -> u32 {
    opts(bytes).first().map_or(0, |(_, ttl)| ttl >> 24 << 4) | u32::from(message::rcode(bytes))
}

#[tokio::test]
async fn edn_01_and_edn_02_every_path_has_one_opt_for_those_with_edns_and_none_for_others() {
    let rig = Rig::start().await;
    rig.upstream.script(|asked| {
        if asked.name().starts_with("broken.") {
            let mut cut = Answer::new().to(&asked.message);
            cut[7] = 1;
            return Act::Raw(cut);
        }
        Act::Answer(match asked.name().split('.').next().unwrap() {
            "failing" => Answer::new().rcode(2).opt(&[]),
            "big" => Answer::new().big(3000, 300),
            "nx" => Answer::new().rcode(3).soa("example", 300, 300).opt(&[(15, &[0, 22])]),
            _ => Answer::new().a(300, [192, 0, 2, 1]).opt(&[(10, &[7; 24]), (12, &[0; 30]), (3, b"id")]),
        })
    });
    over_all!(Transport::ALL, |transport| {
        let own = |first: &str| format!("{first}.{}.example", transport.name());
        let mut paths: Vec<(&str, Ask)> = ["answer", "failing", "big", "nx", "broken"]
            .map(|first| (first, Ask::new(&own(first), if first == "big" { 16 } else { 1 })))
            .into();
        paths.push(("local address", Ask::a("localhost")));
        paths.push(("local denial", Ask::a("x.onion")));
        paths.push(("transfer", Ask::new(&own("zone"), 252)));
        paths.push(("opcode", Ask::a(&own("op")).flags(0x7800)));
        for (what, ask) in paths {
            let ask = ask.id(0);
            // Twice: the second time answers and failures come from memory.
            for _ in 0..2 {
                let with = rig.ask(transport, &ask.clone().edns().bytes()).await.message;
                assert_eq!(opts(&with), [(1232, 0)], "{what}");
                let without = rig.ask(transport, &ask.bytes()).await.message;
                assert_eq!((opts(&without).len(), message::counts(&without)[3]), (0, 0), "{what}");
                assert_eq!(message::rcode(&with), message::rcode(&without), "{what}");
            }
        }
    });
}

#[tokio::test]
async fn edn_01_unreadable_questions_with_an_opt_are_refused_with_one() {
    let rig = Rig::start().await;
    over_all!(Transport::ALL, |transport| {
        let question = Ask::a("two.example").id(0).bytes()[12..].to_vec();
        let two = [&[0, 0, 1, 0, 0, 2, 0, 0, 0, 0, 0, 1], &question[..], &question, &empty_opt()].concat();
        let cut = with_additionals(transport, 2, &[&empty_opt()[..], &[0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 9]].concat());
        for query in [two, cut] {
            let reply = rig.ask(transport, &query).await.message;
            assert_eq!((message::rcode(&reply), opts(&reply)), (1, vec![(1232, 0)]));
        }
    });
    assert_eq!(rig.upstream.count(), 0);
}

#[tokio::test]
async fn edn_03_edn_07_and_edn_08_a_wrong_opt_is_formerr_with_an_opt() {
    let rig = Rig::start().await;
    let overrun = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 6, 0, 10, 0, 8, 1, 2];
    let stub = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 3, 0, 10, 0];
    let cookie = opt(&Edns { size: 1232, version: 0, flags: 0, options: vec![(10, vec![1; 9])] });
    let named = [&[1, b'x'][..], &empty_opt()].concat();
    let two = [empty_opt(), empty_opt()].concat();
    let cases: [(&str, u8, &[u8]); 5] = [
        ("two OPT", 2, &two),
        ("an option past the end", 1, &overrun),
        ("half an option", 1, &stub),
        ("a cookie of nine octets", 1, &cookie),
        ("an OPT with a name", 1, &named),
    ];
    over_all!(Transport::ALL, |transport| {
        for (what, count, records) in cases {
            let reply = rig.ask(transport, &with_additionals(transport, count, records)).await.message;
            assert_eq!((message::rcode(&reply), opts(&reply)), (1, vec![(1232, 0)]), "{what}");
            assert_eq!(message::counts(&reply)[..3], [1, 0, 0], "{what}");
        }
        // In the answer or authority section.
        for section in [7, 9] {
            let mut query = with_additionals(transport, 0, &empty_opt());
            query[section] = 1;
            let reply = rig.ask(transport, &query).await.message;
            assert_eq!((message::rcode(&reply), opts(&reply).len()), (1, 1), "an OPT elsewhere");
        }
    });
    assert_eq!(rig.upstream.count(), 0);
    let address = [0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 1, 2, 3, 4];
    over_all!(Transport::ALL, |transport| {
        for records in [[&empty_opt()[..], &address].concat(), [&address[..], &empty_opt()].concat()] {
            let reply = rig.ask(transport, &with_additionals(transport, 2, &records)).await.message;
            assert_eq!((message::rcode(&reply), opts(&reply).len(), message::counts(&reply)[1]), (0, 1, 1));
        }
    });
}

#[tokio::test]
async fn edn_04_other_versions_are_badvers_whatever_else_they_carry() {
    let rig = Rig::start().await;
    over_all!(Transport::ALL, |transport| {
        for version in [1, 2, 255] {
            let ask = Ask::a("version.example").id(0).version(version).option(100, b"x");
            for ask in [ask.clone(), ask.clone().dnssec(), ask.clone().option(10, &[1; 3])] {
                let reply = rig.ask(transport, &ask.bytes()).await.message;
                assert_eq!((extended_rcode(&reply), message::rcode(&reply)), (16, 0));
                let (size, ttl) = opts(&reply)[0];
                assert_eq!((size, ttl & 0x00ff_0000, message::counts(&reply)), (1232, 0, [1, 0, 0, 1]));
                assert_eq!(message::options(&reply), Some(Vec::new()));
            }
        }
    });
    assert_eq!(rig.upstream.count(), 0);
}

#[tokio::test]
async fn edn_09_and_edn_10_a_datagram_fits_the_client_and_the_gateway_and_at_least_512() {
    let rig = Rig::start().await;
    for (size, length, fits) in
        [(0, 512, true), (100, 512, true), (511, 513, false), (800, 800, true), (800, 801, false), (1232, 1232, true)]
            .into_iter()
            .chain([(4096, 1232, true), (4096, 1233, false), (65_535, 1233, false), (1231, 1232, false)])
    {
        // Header 12, question 15 + 4, fixed part of the record 12, our OPT 11.
        let name = format!("{size:05}-{length:04}.fit");
        rig.upstream.always(Answer::new().answer("@", 65280, 300, &vec![0; length - 12 - 20 - 12 - 11]));
        let query = Ask::new(&name, 65280).size(size).bytes();
        assert_eq!(message::question_end(&query), 32);
        for _ in 0..2 {
            let reply = rig.ask(Transport::Udp, &query).await.message;
            assert_eq!(message::flags(&reply) & 0x0200 == 0, fits, "{size} {length}");
            assert_eq!(reply.len(), if fits { length } else { 32 + 11 });
            assert_eq!(opts(&reply).len(), 1);
        }
    }
}

#[tokio::test]
async fn edn_11_each_leg_announces_its_own_size() {
    let rig = Rig::start().await;
    over_all!(Transport::ALL, |transport| {
        for size in [512, 4096] {
            let ask = Ask::a(&format!("s{size}.{}.example", transport.name())).id(0).size(size);
            let reply = rig.ask(transport, &ask.bytes()).await.message;
            assert_eq!(opts(&reply), [(1232, 0)]);
        }
    });
    let log = rig.upstream.log();
    assert!(log.iter().all(|asked| opts(&asked.message) == [(1232, 0)]));
}

#[tokio::test]
async fn edn_12_streams_ignore_the_announced_size() {
    let rig = Rig::start().await;
    rig.upstream.always(Answer::new().big(5000, 300));
    over_all!(STREAMS, |transport| {
        for size in [0, 512, 1232] {
            let ask = Ask::new(&format!("{}.wide.example", transport.name()), 16).id(0).size(size);
            let reply = rig.ask(transport, &ask.bytes()).await.message;
            assert_eq!(message::flags(&reply) & 0x0200, 0);
            assert!(reply.len() > 5000);
        }
    });
}

#[tokio::test]
async fn edn_13_and_edn_14_options_of_one_hop_stay_on_it() {
    let rig = Rig::start().await;
    let theirs: [(u16, &[u8]); 7] = [
        (3, b"ns1"),
        (8, &[0, 1, 24, 24, 192, 0, 2]),
        (10, &[7; 24]),
        (11, &[0, 99]),
        (12, &[0; 9]),
        (65001, b"x"),
        (18, b"\0"),
    ];
    rig.upstream.always(Answer::new().a(300, [192, 0, 2, 1]).opt(&theirs));
    over_all!(Transport::ALL, |transport| {
        let mut ask = Ask::a(&format!("{}.hop.example", transport.name())).id(0).edns_flags(0x7fff);
        for (code, data) in
            [(3, &b""[..]), (8, &[0, 1, 24, 0, 203, 0, 113]), (65001, b"mine"), (12, &[0xff; 5]), (100, b"")]
        {
            ask = ask.option(code, data);
        }
        for _ in 0..2 {
            let reply = rig.ask(transport, &ask.bytes()).await.message;
            let codes: Vec<u16> = message::options(&reply).unwrap().into_iter().map(|(code, _)| code).collect();
            assert!(codes.iter().all(|&code| code == 12), "{codes:?}: padding alone, made here");
            assert_eq!(opts(&reply), [(1232, 0)], "no flag of the client's or the upstream's");
        }
    });
    for asked in rig.upstream.log() {
        assert_eq!(opts(&asked.message), [(1232, 0)]);
        for (code, data) in message::options(&asked.message).unwrap() {
            let is_ours = if asked.tcp { code == 11 && data.is_empty() } else { code == 10 };
            assert!(is_ours, "{code}: nothing but a cookie, or on a stream a keepalive, of our own");
        }
    }
}

#[tokio::test]
async fn edn_14_our_name_is_told_to_those_who_ask_and_nobody_else_is_asked_for_theirs() {
    let rig = Rig::with("[edns]\nnsid = \"0x6e733100\"").await;
    rig.upstream.script(|asked| {
        let failing = asked.name().starts_with("failing");
        let answer = if failing { Answer::new().rcode(2) } else { Answer::new().a(300, [192, 0, 2, 1]) };
        Act::Answer(answer.opt(&[(3, b"theirs")]))
    });
    over_all!(Transport::ALL, |transport| {
        let own = |first: &str| Ask::a(&format!("{first}.{}.example", transport.name()));
        let paths = [own("named"), own("failing"), Ask::a("x.onion"), Ask::new("zone.example", 252)];
        for ask in paths.into_iter().map(|ask| ask.id(0)) {
            for _ in 0..2 {
                let named = rig.ask(transport, &ask.clone().option(3, &[]).bytes()).await.message;
                assert_eq!(message::option(&named, 3).as_deref(), Some(&b"ns1\0"[..]));
                let silent = rig.ask(transport, &ask.clone().edns().bytes()).await.message;
                assert_eq!(message::option(&silent, 3), None);
                assert_eq!(opts(&rig.ask(transport, &ask.bytes()).await.message), []);
            }
        }
    });
    assert!(rig.upstream.log().iter().all(|asked| message::option(&asked.message, 3).is_none()));
}

#[tokio::test]
async fn edn_15_the_upstreams_extended_rcodes_are_servfail_with_edns_and_without() {
    let rig = Rig::start().await;
    for rcode in [16, 23, 4095] {
        rig.upstream.always(Answer::new().extended(rcode, &[]));
        over_all!(Transport::ALL, |transport| {
            let ask = Ask::a(&format!("r{rcode}.{}.example", transport.name())).id(0);
            for ask in [ask.clone(), ask.clone().edns(), ask] {
                let reply = rig.ask(transport, &ask.bytes()).await.message;
                assert_eq!((extended_rcode(&reply), message::counts(&reply)[1]), (2, 0), "{rcode}");
            }
        });
    }
}

#[tokio::test]
async fn edn_17_signed_messages_are_not_served_and_not_forwarded() {
    let rig = Rig::start().await;
    let signed = |rtype: u8| [&empty_opt()[..], &[0, 0, rtype, 0, 255, 0, 0, 0, 0, 0, 2, 1, 2]].concat();
    over_all!(Transport::ALL, |transport| {
        for rtype in [250, 24] {
            let reply = rig.ask(transport, &with_additionals(transport, 2, &signed(rtype))).await.message;
            assert_eq!((message::rcode(&reply), message::ede(&reply)), (4, Some(21)), "type {rtype}");
        }
    });
    assert_eq!(rig.upstream.count(), 0);
}

#[tokio::test]
async fn kal_01_and_kal_05_keepalive_is_for_tcp_and_dot_and_for_those_who_ask_with_an_opt() {
    let rig = Rig::start().await;
    over_all!([Transport::Udp, Transport::Doh1, Transport::Doh2, Transport::Doh3], |transport| {
        for data in [&[][..], &[0, 100], &[1, 2, 3]] {
            let reply = rig.ask(transport, &Ask::a("keep.example").id(0).option(11, data).bytes()).await.message;
            assert_eq!((message::rcode(&reply), message::option(&reply, 11)), (0, None), "{data:?}");
            assert_eq!(message::counts(&reply)[1], 1);
        }
    });
    over_all!([Transport::Tcp, Transport::Dot], |transport| {
        let plain = rig.ask(transport, &Ask::a("keep.example").bytes()).await.message;
        assert_eq!(opts(&plain), []);
        let silent = rig.ask(transport, &Ask::a("keep.example").edns().bytes()).await.message;
        assert_eq!(message::options(&silent), Some(Vec::new()));
    });
    let doq = rig.try_ask(Transport::Doq, &Ask::a("keep.example").id(0).option(11, &[]).bytes()).await;
    assert!(doq.is_none(), "RFC 9250 5.5.2: a fatal error");
}

#[tokio::test]
async fn kal_02_a_keepalive_with_content_is_formerr() {
    let rig = Rig::start().await;
    over_all!([Transport::Tcp, Transport::Dot], |transport| {
        for data in [&[0][..], &[0, 100], &[0; 3]] {
            let reply = rig.ask(transport, &Ask::a("keep.example").option(11, data).bytes()).await.message;
            assert_eq!((message::rcode(&reply), opts(&reply).len()), (1, 1));
        }
    });
    assert_eq!(rig.upstream.count(), 0);
}

#[tokio::test]
async fn kal_03_a_connection_is_kept_for_just_the_time_that_was_told() {
    let rig = Rig::with("[limits]\ntcp_idle_timeout = \"1s\"").await;
    let kept = async |transport| {
        let mut stream = rig.stream(transport).await;
        let before = Instant::now();
        let reply = client::framed(&mut stream, &Ask::a("kept.example").option(11, &[]).bytes()).await.unwrap().message;
        let told = message::option(&reply, 11).unwrap();
        let told = Duration::from_millis(100) * u16::from_be_bytes([told[0], told[1]]).into();
        assert_eq!(told, Duration::from_secs(1));
        let end = tokio::time::timeout(client::PATIENCE, stream.read(&mut [0; 16])).await.expect("an end");
        assert_eq!(end.unwrap_or(0), 0);
        assert!(before.elapsed() >= told, "over {}: {:?}", transport.name(), before.elapsed());
        // Ten seconds are the default; a busy machine is far from late by that much.
        assert!(before.elapsed() < told * 8, "over {}: {:?}", transport.name(), before.elapsed());
    };
    tokio::join!(kept(Transport::Tcp), kept(Transport::Dot));
}

#[tokio::test]
async fn edn_14_options_that_may_pass_go_from_end_to_end_and_split_the_question() {
    let rig = Rig::with("[edns]\npass = [65001]").await;
    rig.upstream.script(|asked| {
        let shown = message::option(&asked.message, 65001).unwrap_or_default();
        let back = [&b"re:"[..], &shown].concat();
        Act::Answer(Answer::new().a(300, [192, 0, 2, 1]).opt(&[(65001, &back), (65002, b"no"), (12, &[0; 24])]))
    });
    over_all!(Transport::ALL, |transport| {
        let ask = Ask::a(&format!("{}.end.example", transport.name())).id(0);
        for (data, back) in [(&b"one"[..], &b"re:one"[..]), (b"two", b"re:two"), (b"one", b"re:one"), (b"", b"re:")] {
            let query = ask.clone().option(65001, data).option(65002, b"stays").bytes();
            let reply = rig.ask(transport, &query).await.message;
            assert_eq!(message::options(&reply), Some(vec![(65001, back.to_vec())]));
        }
        for plain in [ask.clone().edns(), ask.clone().option(65002, b"stays")] {
            assert_eq!(message::options(&rig.ask(transport, &plain.bytes()).await.message), Some(Vec::new()));
        }
    });
    let log = rig.upstream.log();
    assert_eq!(rig.upstream.count(), Transport::ALL.len() * 5, "four that passed, and one for everyone else");
    assert!(log.iter().all(|asked| message::option(&asked.message, 65002).is_none()));
}

#[tokio::test]
async fn kal_03_the_timeout_told_is_the_one_in_force_on_every_kind_of_reply() {
    let rig = Rig::with("[limits]\ntcp_idle_timeout = \"7s\"").await;
    rig.upstream.script(|asked| {
        let failing = asked.name() == "failing.example";
        Act::Answer(if failing { Answer::new().rcode(2) } else { Answer::new().a(300, [192, 0, 2, 1]) })
    });
    over_all!([Transport::Tcp, Transport::Dot], |transport| {
        for name in ["a.example", "a.example", "failing.example", "failing.example", "x.onion"] {
            let reply = rig.ask(transport, &Ask::a(name).option(11, &[]).bytes()).await.message;
            assert_eq!(message::option(&reply, 11), Some(vec![0, 70]), "{name}: 7 s in units of 100 ms");
        }
    });
}
