//! How an upstream's answer reaches the asker (STANDARDS group GEN): names, order, whole sets, and what a datagram can hold.

use hickory_proto::rr::RData;
use hushgate::peer::Transport;
use tokio::net::UdpSocket;

use crate::harness::{Act, Answer, Ask, Rig, STREAMS, message};
use crate::messages::raw_ask;
use crate::over_all;

/// A response to `query`: `counts` and `records` behind its question, RA set.
fn response(query: &[u8], counts: [u16; 3], records: &[u8]) -> Vec<u8> {
    let mut message = Answer::new().to(query);
    for (place, count) in message[6..12].chunks_mut(2).zip(counts) {
        place.copy_from_slice(&count.to_be_bytes());
    }
    message.extend(records);
    message
}

fn record(owner: &[u8], rtype: u16, rdata: &[u8]) -> Vec<u8> {
    let fixed = [&rtype.to_be_bytes()[..], &[0, 1, 0, 0, 1, 44], &(rdata.len() as u16).to_be_bytes()].concat();
    [owner, &fixed, rdata].concat()
}

/// An OPT record without options.
const OPT: [u8; 11] = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];

/// A pointer to QNAME.
const QNAME: [u8; 2] = [0xc0, 12];

/// Types of all records in `bytes` and their data, OPT aside.
fn records(bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    use hushgate::wire::{Header, Records};
    let header = Header::parse(bytes).unwrap();
    let all = Records::new(bytes, &header).unwrap().map(Result::unwrap);
    all.filter(|r| r.rtype != 41).map(|record| (record.rtype, record.rdata.of(bytes).to_vec())).collect()
}

#[tokio::test]
async fn gen_06_an_opt_in_the_middle_makes_no_data_compressed_or_changed() {
    let rig = Rig::start().await;
    // Each holds QNAME, or a tail of it, in full: a careless encoder would write a pointer instead.
    let datas = |qname: &[u8]| -> Vec<(u16, Vec<u8>)> {
        vec![
            (33, [&[0, 1, 0, 2, 0, 80], qname].concat()),
            (39, qname.to_vec()),
            (64, [&[0, 1], qname, &[0, 3, 0, 2, 1, 187]].concat()),
            (65, [&[0, 1], qname].concat()),
            (35, [&[0, 1, 0, 1, 1, b's', 0, 0][..], qname].concat()),
            (17, [qname, qname].concat()),
            (46, [&[0, 1, 13, 2, 0, 0, 1, 44, 0, 0, 0, 9, 0, 0, 0, 1, 0, 7][..], qname, &[5; 32]].concat()),
            (47, [qname, &[0, 1, 0x40]].concat()),
            (65280, qname.to_vec()),
            (15, [&[0, 10], qname].concat()),
            (5, qname.to_vec()),
        ]
    };
    rig.upstream.script(move |asked| {
        let query = &asked.message;
        let additionals = datas(&query[12..message::question_end(query) - 4]);
        let count = additionals.len() as u16 + 1;
        let first = record(&QNAME, 16, b"\x01x");
        let rest = additionals.into_iter().flat_map(|(rtype, data)| record(&QNAME, rtype, &data));
        let body = [&first[..], &OPT, &rest.collect::<Vec<u8>>()].concat();
        Act::Raw(response(query, [1, 0, count], &body))
    });
    over_all!(STREAMS, |transport| {
        let ask = Ask::new(&format!("{}.names.example", transport.name()), 16).id(0).dnssec();
        let qname = message::name(&ask.name);
        for _ in 0..2 {
            let reply = rig.ask(transport, &ask.bytes()).await.message;
            let found = records(&reply);
            assert_eq!(found.len(), 12);
            for (rtype, data) in &found[1..] {
                assert!(data.windows(qname.len()).any(|octets| octets == qname), "type {rtype}: {data:02x?}");
                // MX and CNAME might be compressed by RFC 1035, and are not.
                assert!(!data.contains(&0xc0), "type {rtype}");
            }
            assert_eq!(message::read(&reply).additionals.len(), 11);
        }
    });
}

#[tokio::test]
async fn gen_07_names_the_upstream_compressed_stay_what_they_were_when_records_move() {
    let rig = Rig::start().await;
    rig.upstream.script(|asked| {
        let query = &asked.message;
        let before: &[u8] = if asked.rtype() == 33 { &[0, 1, 0, 2, 0, 80] } else { &[0, 10] };
        // A signature that nobody asked for goes, so all that follows moves. The first target stands in full; a second is told by
        // a pointer into it, and so is the owner of the address behind the OPT.
        let signature = record(&QNAME, 46, &[0; 40]);
        let first = record(&QNAME, asked.rtype(), &[before, &message::name("host.elsewhere.net")].concat());
        let host = (message::question_end(query) + signature.len() + 12 + before.len()) as u16 | 0xc000;
        let second = [before, b"\x05other", &(host + 5).to_be_bytes()].concat();
        let second = record(&QNAME, asked.rtype(), &second);
        let address = record(&host.to_be_bytes(), 1, &[192, 0, 2, 7]);
        Act::Raw(response(query, [3, 0, 2], &[&signature[..], &first, &second, &OPT, &address].concat()))
    });
    over_all!(Transport::ALL, |transport| {
        for rtype in [15, 33] {
            let name = format!("{}.example.net", transport.name());
            let ask = Ask::new(&name, rtype).id(0).option(12, &[]);
            for _ in 0..2 {
                let reply = message::read(&rig.ask(transport, &ask.bytes()).await.message);
                let targets = reply.answers.iter().map(|record| match &record.data {
                    RData::MX(mx) => mx.exchange.to_ascii(),
                    RData::SRV(srv) => srv.target.to_ascii(),
                    other => panic!("{other:?}"),
                });
                assert_eq!(targets.collect::<Vec<_>>(), ["host.elsewhere.net.", "other.elsewhere.net."]);
                assert_eq!(reply.additionals.len(), 1);
                assert_eq!(reply.additionals[0].name.to_ascii(), "host.elsewhere.net.");
            }
        }
    });
}

#[tokio::test]
async fn gen_16_a_reply_comes_from_the_address_that_was_asked() {
    let rig = Rig::set("", &["listen.dns=[\"0.0.0.0:0\"]"]).await;
    for address in ["127.0.0.1", "127.0.0.2", "127.9.8.7"] {
        for name in ["once", "once"] {
            // A connected socket hears its peer alone.
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            socket.connect((address, rig.dns().port())).await.unwrap();
            socket.send(&Ask::a(&format!("{name}.{address}.org")).bytes()).await.unwrap();
            let mut buffer = [0; 600];
            let reading = tokio::time::timeout(crate::harness::client::PATIENCE, socket.recv(&mut buffer));
            reading.await.expect("a reply from the address asked").unwrap();
            assert_eq!(message::counts(&buffer)[1], 1);
        }
    }
}

#[tokio::test]
async fn gen_17_a_set_with_unequal_ttls_is_served_at_the_lowest() {
    let rig = Rig::start().await;
    rig.upstream.always(Answer::new().a(10, [192, 0, 2, 1]).a(300, [192, 0, 2, 2]));
    over_all!(Transport::ALL, |transport| {
        let ask = Ask::a(&format!("{}.uneven.org", transport.name())).id(0).bytes();
        for _ in 0..2 {
            assert_eq!(message::ttls(&rig.ask(transport, &ask).await.message), [10, 10]);
        }
    });
}

#[tokio::test]
async fn gen_18_a_new_answer_replaces_the_old_one_whole() {
    let rig = Rig::start().await;
    over_all!(Transport::ALL, |transport| {
        let ask = Ask::a(&format!("{}.union.org", transport.name())).id(0).bytes();
        for last in [1, 2, 3] {
            rig.upstream.always(Answer::new().a(1, [192, 0, 2, last]));
            let reply = rig.ask(transport, &ask).await.message;
            assert_eq!(records(&reply), [(1, vec![192, 0, 2, last])]);
            rig.pass(2);
        }
    });
}

#[tokio::test]
async fn gen_19_a_chain_comes_in_the_upstreams_order_on_miss_and_hit() {
    let rig = Rig::start().await;
    let link = |n: u8| message::name(&format!("c{n}.example.net"));
    let mut chain = Answer::new().answer("@", 5, 300, &link(0));
    for n in 0..4 {
        chain = chain.answer(&format!("c{n}.example.net"), 5, 300, &link(n + 1));
    }
    for last in [9, 3, 7, 1] {
        chain = chain.answer("c4.example.net", 1, 300, &[192, 0, 2, last]);
    }
    rig.upstream.always(chain);
    let mut expected: Vec<(u16, Vec<u8>)> = (0..5).map(|n| (5, link(n))).collect();
    expected.extend([9, 3, 7, 1].map(|last| (1, vec![192, 0, 2, last])));
    over_all!(Transport::ALL, |transport| {
        let ask = Ask::a(&format!("{}.chain.org", transport.name())).id(0).bytes();
        for _ in 0..2 {
            assert_eq!(records(&rig.ask(transport, &ask).await.message), expected);
        }
    });
}

#[tokio::test]
async fn gen_20_additional_data_gives_way_without_tc() {
    let rig = Rig::start().await;
    rig.upstream.always(Answer::new().big(350, 300).additional("glue.org", 16, 300, &[[200; 201], [0; 201]].concat()));
    let ask = Ask::new("glue.example.org", 16).id(0).bytes();
    for _ in 0..2 {
        let reply = rig.ask(Transport::Udp, &ask).await.message;
        assert_eq!((message::flags(&reply) & 0x0200, message::counts(&reply)), (0, [1, 2, 0, 0]));
        assert!(reply.len() <= 512);
        message::read(&reply);
    }
    over_all!(STREAMS, |transport| {
        assert_eq!(message::counts(&rig.ask(transport, &ask).await.message), [1, 2, 0, 1], "room for all of it");
    });
}

#[tokio::test]
async fn gen_21_and_gen_22_what_does_not_fit_a_datagram_is_tc_without_half_a_set() {
    let rig = Rig::start().await;
    rig.upstream.always(Answer::new().big(700, 300));
    // Whoever comes first: a small datagram client spoils nothing for the others, nor they for it.
    for (first, name) in [(Transport::Udp, "small"), (Transport::Tcp, "stream")] {
        let plain = Ask::new(&format!("{name}.example.org"), 16).id(0);
        rig.ask(first, &plain.bytes()).await;
        for (ask, arcount) in [(plain.clone(), 0), (plain.clone().size(512), 1), (plain.clone().size(700), 1)] {
            let reply = rig.ask(Transport::Udp, &ask.bytes()).await.message;
            assert_eq!((message::flags(&reply) & 0x0200, message::counts(&reply)), (0x0200, [1, 0, 0, arcount]));
            assert!(reply.len() <= 512);
            assert_eq!(message::read(&reply).queries.len(), 1);
            assert_eq!(message::options(&reply), ask.edns.as_ref().map(|_| Vec::new()));
        }
        let roomy = rig.ask(Transport::Udp, &plain.clone().size(1232).bytes()).await.message;
        assert_eq!((message::flags(&roomy) & 0x0200, message::counts(&roomy)), (0, [1, 4, 0, 1]));
        over_all!(STREAMS, |transport| {
            let reply = rig.ask(transport, &plain.bytes()).await.message;
            assert_eq!((message::flags(&reply) & 0x0200, message::counts(&reply)), (0, [1, 4, 0, 0]));
        });
    }
    assert_eq!(rig.upstream.count(), 2);
}

#[tokio::test]
async fn gen_21_five_hundred_and_twelve_octets_fit_and_one_more_does_not() {
    let rig = Rig::start().await;
    // Header 12, question "nnn.fit" + 4, fixed part of the record 12.
    for (length, fits) in [(512, true), (513, false)] {
        let rdata = vec![0; length - 12 - 13 - 12];
        rig.upstream.always(Answer::new().answer("@", 65280, 300, &rdata));
        let ask = Ask::new(&format!("{length}.fit"), 65280).id(0);
        for _ in 0..2 {
            let reply = rig.ask(Transport::Udp, &ask.bytes()).await.message;
            assert_eq!(message::flags(&reply) & 0x0200 == 0, fits);
            assert_eq!(reply.len(), if fits { 512 } else { 25 });
        }
    }
}

#[tokio::test]
async fn gen_23_every_type_and_class_is_answered_and_class_is_part_of_the_key() {
    let rig = Rig::start().await;
    rig.upstream.script(|asked| {
        let end = message::question_end(&asked.message);
        let mut answer = record(&QNAME, asked.rtype(), b"\x01x");
        answer[4..6].copy_from_slice(&asked.message[end - 2..end]);
        Act::Raw(response(&asked.message, [1, 0, 0], &answer))
    });
    over_all!(Transport::ALL, |transport| {
        let name = [&[1, b'a' + transport as u8][..], b"\x03org\0"].concat();
        for class in [1, 3, 4, 254, 255, 65280] {
            let before = rig.upstream.count();
            for _ in 0..2 {
                let reply = rig.ask(transport, &raw_ask(&name, 16, class)).await.message;
                assert_eq!((message::rcode(&reply), message::counts(&reply)[1]), (0, 1), "class {class}");
                assert!(reply[..].windows(2).any(|octets| octets == class.to_be_bytes()));
            }
            assert_eq!(rig.upstream.count(), before + 1, "class {class} has an entry of its own");
        }
        for rtype in [0, 10, 41, 128, 249, 250, 251, 252, 253, 254, 255, 256, 65280, 65535] {
            rig.ask(transport, &raw_ask(&name, rtype, 1)).await;
        }
    });
}

#[tokio::test]
async fn gen_26_recursion_desired_travels_on_and_a_cached_answer_serves_both() {
    let rig = Rig::start().await;
    over_all!(Transport::ALL, |transport| {
        let ask = Ask::a(&format!("{}.rd.org", transport.name())).id(0);
        for flags in [0, 0x0100, 0] {
            let reply = rig.ask(transport, &ask.clone().flags(flags).bytes()).await.message;
            assert_eq!((message::flags(&reply) & 0x0100, message::counts(&reply)[1]), (flags, 1));
        }
        let sent: Vec<u16> = rig
            .upstream
            .log()
            .iter()
            .filter(|asked| asked.name() == ask.name)
            .map(|asked| message::flags(&asked.message) & 0x0100)
            .collect();
        assert_eq!(sent, [0, 0x0100], "the third is served by what the second brought");
    });
}

#[tokio::test]
async fn svc_01_service_bindings_pass_as_they_are_whatever_their_parameters_and_nothing_is_added() {
    let parameter =
        |key: u16, value: &[u8]| [&key.to_be_bytes()[..], &(value.len() as u16).to_be_bytes(), value].concat();
    let bound = |priority: u16, target: &str, parameters: &[Vec<u8>]| {
        [&priority.to_be_bytes()[..], &message::name(target), &parameters.concat()].concat()
    };
    let records = [
        // The name of the question as the target, uncompressed; an unknown key; hints.
        bound(
            1,
            "svc.example",
            &[parameter(1, b"\x02h2\x02h3"), parameter(4, &[192, 0, 2, 1]), parameter(65_333, b"x\0y")],
        ),
        // Keys out of order, one twice, ALPN that overruns its value: not ours to judge.
        bound(
            2,
            "Other.Example",
            &[parameter(6, &[0x20; 16]), parameter(3, &[1]), parameter(3, &[1]), parameter(1, &[9, b'h'])],
        ),
        // Alias mode.
        bound(0, "alias.example", &[]),
    ];
    let rig = Rig::start().await;
    let sent = records.clone();
    rig.upstream.script(move |asked| {
        let answer = sent.iter().fold(Answer::new(), |answer, data| answer.answer("@", asked.rtype(), 300, data));
        Act::Answer(answer.opt(&[]))
    });
    over_all!(Transport::ALL, |transport| {
        for rtype in [64, 65] {
            let ask = Ask::new(&format!("{}.svc.example", transport.name()), rtype).id(0).size(1232);
            // With padding the records move behind nothing that they could point to.
            for ask in [ask.clone(), ask.clone(), ask.option(12, &[0; 8])] {
                let reply = rig.ask(transport, &ask.bytes()).await.message;
                assert_eq!(message::counts(&reply), [1, 3, 0, 1], "no record is invented");
                for data in &records {
                    let found = reply.windows(data.len()).any(|octets| octets == data);
                    assert!(found, "type {rtype}: {data:02x?} in {reply:02x?}");
                }
            }
        }
    });
}
