//! DNS64 over each transport (STANDARDS group D64): what a host without IPv4 gets, and what the upstream is asked for that.

use hickory_proto::rr::RData;
use hushgate::peer::Transport;

use crate::harness::{Act, Answer, Ask, Rig, message};
use crate::over_all;

const ON: &str = "[dns64]\nprefix = \"64:ff9b::/96\"\n";

/// A service at its own name: priority, target, ipv4hint.
const HINTED: [u8; 11] = [0, 1, 0, 0, 4, 0, 4, 192, 0, 2, 1];

/// A name with an A record alone, one that has both, and one that does not exist.
fn zone(rig: &Rig) {
    rig.upstream.script(|asked| {
        let name = asked.name();
        let answer = Answer::new();
        Act::Answer(match (name.split('.').next().unwrap_or_default(), asked.rtype()) {
            ("none", _) => answer.rcode(3).soa("example", 200, 200),
            ("broken", 28) => answer.rcode(2),
            ("both", 28) => answer.answer("@", 28, 300, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
            (_, 1) => answer.a(120, [192, 0, 2, 1]),
            (_, 12) => answer.answer("@", 12, 90, &message::name("host.example")),
            _ => answer.soa("example", 200, 200),
        })
    });
}

/// The data of the answer records.
fn data(reply: &[u8]) -> Vec<String> {
    message::read(reply).answers.iter().map(|record| record.data.to_string()).collect()
}

#[tokio::test]
async fn d64_01_d64_02_d64_04_and_ede_09_hosts_without_ipv4_reach_what_has_ipv4_alone_over_each_transport() {
    let rig = Rig::with(ON).await;
    zone(&rig);
    over_all!(Transport::ALL, |transport| {
        let of = |label: &str| format!("{label}.{}.example", transport.name());
        for (label, rcode, expected, questions) in [
            ("v4", 0, Some("64:ff9b::c000:201"), 2),
            ("both", 0, Some("2001:db8::1"), 1),
            ("broken", 0, Some("64:ff9b::c000:201"), 2),
            ("none", 3, None, 1),
        ] {
            let before = rig.upstream.count();
            for _ in 0..2 {
                let reply = rig.ask(transport, &Ask::new(&of(label), 28).id(0).edns().bytes()).await.message;
                assert_eq!(
                    (message::rcode(&reply), data(&reply)),
                    (rcode, expected.into_iter().map(str::to_owned).collect())
                );
                assert_eq!(message::ede(&reply), (questions == 2).then_some(29), "{label}");
            }
            assert_eq!(rig.upstream.count() - before, questions, "{label}");
        }
        // D64-07: who validates is left to it.
        let ask = Ask::new(&of("signed"), 28).id(0).flags(0x0110).dnssec();
        assert_eq!(data(&rig.ask(transport, &ask.bytes()).await.message), Vec::<String>::new());
    });
}

#[tokio::test]
async fn d64_08_and_sud_13_pointers_lead_on_and_ipv4only_arpa_tells_the_prefix_over_each_transport() {
    let rig = Rig::with(ON).await;
    zone(&rig);
    let pointer = "e.0.7.d.8.b.d.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.b.9.f.f.4.6.0.0.ip6.arpa";
    over_all!(Transport::ALL, |transport| {
        let asked = async |name, rtype| rig.ask(transport, &Ask::new(name, rtype).id(0).bytes()).await.message;
        let read = message::read(&asked(pointer, 12).await);
        let RData::CNAME(alias) = &read.answers[0].data else { panic!("{read:?}") };
        assert_eq!(alias.to_string(), "14.215.184.93.in-addr.arpa.");
        assert_eq!(read.answers[1].data.to_string(), "host.example.");
        assert_eq!(data(&asked("ipv4only.arpa", 1).await), ["192.0.0.170", "192.0.0.171"]);
        assert_eq!(data(&asked("ipv4only.arpa", 28).await), ["64:ff9b::c000:aa", "64:ff9b::c000:ab"]);
        assert_eq!(message::rcode(&asked("x.ipv4only.arpa", 28).await), 3);
    });
    assert_eq!(rig.upstream.count(), 1, "the name of the IPv4 address");
}

#[tokio::test]
async fn d64_03_d64_05_d64_06_d64_09_and_d64_10_what_is_made_of_what_and_for_how_long_over_each_transport() {
    let rig = Rig::with(ON).await;
    let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1];
    let real = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    rig.upstream.script(move |asked| {
        let (name, answer) = (asked.name(), Answer::new());
        Act::Answer(match (name.split('.').next().unwrap_or_default(), asked.rtype()) {
            ("mapped", 28) => answer.answer("@", 28, 300, &mapped),
            ("mixed", 28) => answer.answer("@", 28, 300, &mapped).answer("@", 28, 300, &real),
            ("private", 1) => answer.a(120, [10, 0, 0, 1]),
            ("brief", 28) => answer.soa("example", 40, 40),
            ("mute", 28) => answer,
            ("mute", 1) => answer.a(3000, [192, 0, 2, 1]),
            ("alias", 1) => {
                let target = message::name("end.example");
                answer.answer("@", 5, 90, &target).answer("end.example", 1, 120, &[192, 0, 2, 1])
            }
            ("alias", 28) => answer.answer("@", 5, 90, &message::name("end.example")).soa("example", 200, 200),
            (_, 65) => answer.answer("@", 65, 300, &HINTED),
            (_, 1) => answer.a(120, [192, 0, 2, 1]),
            _ => answer.soa("example", 200, 200),
        })
    });
    let made = "64:ff9b::c000:201";
    over_all!(Transport::ALL, |transport| {
        let asked = async |label: &str, rtype| {
            let ask = Ask::new(&format!("{label}.{}.example", transport.name()), rtype).id(0);
            rig.ask(transport, &ask.bytes()).await.message
        };
        for (label, expected, ttls) in [
            ("mapped", &[made][..], &[120][..]),
            ("mixed", &["2001:db8::1"], &[300]),
            ("private", &[], &[200]),
            ("brief", &[made], &[40]),
            ("mute", &[made], &[600]),
            // A denial lives no longer than the alias that leads to it.
            ("alias", &["end.example.", made], &[90, 90]),
        ] {
            let reply = asked(label, 28).await;
            assert_eq!((message::rcode(&reply), data(&reply)), (0, expected.iter().map(ToString::to_string).collect()));
            assert_eq!(message::ttls(&reply), ttls, "{label}");
        }
        assert_eq!(data(&asked("v4", 1).await), ["192.0.2.1"]);
        let service = asked("v4", 65).await;
        assert!(service.ends_with(&HINTED), "{service:02x?}");
        // Of another class than IN nothing is made.
        let mut query = Ask::new(&format!("v4.{}.example", transport.name()), 28).id(0).bytes();
        *query.last_mut().unwrap() = 3;
        let reply = rig.ask(transport, &query).await.message;
        assert_eq!((message::rcode(&reply), message::counts(&reply)[1]), (0, 0));
    });
}
