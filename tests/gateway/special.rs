//! What is answered here and never asked upstream: special-use names (STANDARDS groups SUD, DDR) and zone transfers (GEN-24).

use hickory_proto::rr::RData;
use hushgate::peer::Transport;

use crate::harness::{Ask, Rig, message};
use crate::over_all;

const TTL: u32 = 10_800;

/// Sees that `reply` is an authoritative denial by an SOA of `zone` that HTTP and stubs may keep.
fn assert_denied(reply: &[u8], rcode: u16, zone: &str) {
    let read = message::read(reply);
    assert_eq!((message::rcode(reply), read.answers.len(), read.authorities.len()), (rcode, 0, 1));
    assert_eq!(message::flags(reply) & 0x07b0, 0x0580, "AA, RD and RA; TC, AD and CD clear");
    let soa = &read.authorities[0];
    assert_eq!(soa.name.to_lowercase().to_ascii(), format!("{zone}."));
    let RData::SOA(data) = &soa.data else { panic!("{soa:?}") };
    assert_eq!((soa.ttl, data.minimum, data.rname.to_ascii()), (TTL, TTL, "nobody.invalid.".to_owned()));
}

/// The data of the answer records.
fn answers(reply: &[u8]) -> Vec<String> {
    let read = message::read(reply);
    assert!(read.answers.iter().all(|record| record.ttl == TTL));
    read.answers.iter().map(|record| record.data.to_string()).collect()
}

#[tokio::test]
async fn sud_01_localhost_and_all_below_it_are_loopback() {
    let rig = Rig::start().await;
    over_all!(Transport::ALL, |transport| {
        for name in ["localhost", "LocalHost", "x.localhost", "a.b.c.LOCALHOST"] {
            let asked = async |rtype| rig.ask(transport, &Ask::new(name, rtype).id(0).bytes()).await.message;
            assert_eq!(answers(&asked(1).await), ["127.0.0.1"]);
            assert_eq!(answers(&asked(28).await), ["::1"]);
            for rtype in [15, 16, 65, 2] {
                assert_denied(&asked(rtype).await, 0, "localhost");
            }
        }
    });
    assert_eq!(rig.upstream.count(), 0);
}

#[tokio::test]
async fn sud_02_and_sud_05_invalid_and_onion_do_not_exist() {
    let rig = Rig::start().await;
    over_all!(Transport::ALL, |transport| {
        for (zone, name) in [
            ("invalid", "x.invalid"),
            ("invalid", "INVALID"),
            ("onion", "abc.onion"),
            ("onion", "a.b.OniON"),
            ("onion", "onion"),
        ] {
            for rtype in [1, 28, 16, 65, 255] {
                for flags in [0x0100, 0x0110] {
                    let ask = Ask::new(name, rtype).id(0).flags(flags);
                    let mut reply = rig.ask(transport, &ask.bytes()).await.message;
                    assert_eq!(message::flags(&reply) & 0x10, flags & 0x10, "SEC-01");
                    reply[3] &= !0x10;
                    assert_denied(&reply, 3, zone);
                }
            }
        }
    });
    assert_eq!(rig.upstream.count(), 0);
}

#[tokio::test]
async fn sud_15_names_are_special_by_whole_labels_and_sud_04_example_is_not() {
    let rig = Rig::start().await;
    let names = [
        "xonion",
        "notlocalhost",
        "x.notinvalid",
        "localhost.example",
        "onion.org",
        "invalid.com",
        "xresolver.arpa",
        "arpa",
        "example",
        "example.com",
        "www.example.net",
        "example.org",
    ];
    over_all!(Transport::ALL, |transport| {
        for name in names {
            let reply = rig.ask(transport, &Ask::a(name).id(0).bytes()).await.message;
            assert_eq!(message::read(&reply).answers[0].data.to_string(), "192.0.2.1", "{name}");
            assert_eq!(message::flags(&reply) & 0x0400, 0);
        }
    });
    assert_eq!(rig.upstream.count(), names.len());
}

#[tokio::test]
async fn sud_15_a_label_with_a_dot_in_it_is_no_boundary() {
    let rig = Rig::start().await;
    // One label "x.onion", and one label "resolver.arpa": neither is under the zone that it looks like.
    for name in [&b"\x07x.onion\0"[..], b"\x0dresolver.arpa\0", b"\x0bx.localhost\0"] {
        let reply = rig.ask(Transport::Tcp, &crate::messages::raw_ask(name, 1, 1)).await.message;
        assert_eq!((message::rcode(&reply), message::counts(&reply)[1]), (0, 1));
    }
    assert_eq!(rig.upstream.count(), 3);
}

#[tokio::test]
async fn ddr_05_and_ddr_06_resolver_arpa_is_empty_authoritative_and_never_forwarded() {
    let rig = Rig::start().await;
    over_all!(Transport::ALL, |transport| {
        for name in ["resolver.arpa", "x.resolver.arpa", "_DNS.Resolver.ARPA", "a.b.resolver.arpa"] {
            for (rtype, flags) in [(1, 0x0100), (28, 0x0100), (16, 0x0100), (65, 0x0100)] {
                let reply = rig.ask(transport, &Ask::new(name, rtype).id(0).flags(flags).bytes()).await.message;
                assert_denied(&reply, 0, "resolver.arpa");
            }
        }
        let reply = rig.ask(transport, &Ask::new("_dns.resolver.arpa", 64).id(0).bytes()).await.message;
        assert_eq!((message::rcode(&reply), message::flags(&reply) & 0x0400), (0, 0x0400));
    });
    assert_eq!(rig.upstream.count(), 0);
}

#[tokio::test]
async fn gen_24_and_ede_11_zone_transfers_are_refused_and_not_forwarded() {
    let rig = Rig::start().await;
    over_all!(Transport::ALL, |transport| {
        for rtype in [252, 251] {
            for _ in 0..2 {
                let reply = rig.ask(transport, &Ask::new("zone.example", rtype).id(0).edns().bytes()).await.message;
                assert_eq!((message::rcode(&reply), message::ede(&reply)), (5, Some(21)));
                assert_eq!(message::counts(&reply), [1, 0, 0, 1]);
            }
        }
    });
    assert_eq!(rig.upstream.count(), 0);
}

#[tokio::test]
async fn any_01_an_answer_to_any_never_amplifies_over_udp() {
    let rig = Rig::start().await;
    rig.upstream.always(crate::harness::Answer::new().big(900, 300));
    let ask = Ask::new("any.example", 255).id(0);
    let reply = rig.ask(Transport::Udp, &ask.bytes()).await.message;
    assert_eq!((message::flags(&reply) & 0x0200, message::counts(&reply)), (0x0200, [1, 0, 0, 0]));
    over_all!(crate::harness::STREAMS, |transport| {
        let reply = rig.ask(transport, &ask.bytes()).await.message;
        assert!(message::counts(&reply)[1] > 4);
    });
}
