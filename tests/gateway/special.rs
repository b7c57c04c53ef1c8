//! What is answered here and never asked upstream: special-use names (STANDARDS groups SUD, DDR) and zone transfers (GEN-24).

use hickory_proto::rr::RData;
use hushgate::peer::Transport;

use crate::harness::{Answer, Ask, Rig, Upstream, message};
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
async fn sud_03_sud_07_sud_12_test_local_and_home_arpa_stay_here() {
    let rig = Rig::start().await;
    over_all!(Transport::ALL, |transport| {
        let asked = async |name: &str, rtype| rig.ask(transport, &Ask::new(name, rtype).id(0).bytes()).await.message;
        for (zone, name) in [("test", "www.TEST"), ("local", "printer.local"), ("home.arpa", "nas.Home.Arpa")] {
            for rtype in [1, 28, 16, 65] {
                assert_denied(&asked(name, rtype).await, 3, zone);
            }
        }
        for rtype in [1, 16, 43] {
            assert_denied(&asked("home.arpa", rtype).await, 0, "home.arpa");
        }
        assert_eq!(answers(&asked("HOME.arpa", 2).await), ["home.arpa."]);
        assert_eq!(answers(&asked("home.arpa", 6).await).len(), 1);
    });
    assert_eq!(rig.upstream.count(), 0);
}

/// One name below each zone of RFC 6303 and RFC 7793, and the zone.
fn reverse() -> Vec<(String, String)> {
    let v4 = ["0", "10", "127", "254.169", "168.192", "2.0.192", "100.51.198", "113.0.203", "255.255.255.255"];
    let shared = (64..128).map(|second| format!("{second}.100"));
    let private = (16..32).map(|second| format!("{second}.172"));
    let v4 = v4.into_iter().map(str::to_owned).chain(shared).chain(private).map(|zone| format!("{zone}.in-addr.arpa"));
    let v6 = ["d.f", "8.e.f", "9.e.f", "a.e.f", "b.e.f", "8.b.d.0.1.0.0.2"].map(|zone| format!("{zone}.ip6.arpa"));
    let nobody = format!("{}ip6.arpa", "0.".repeat(32));
    let zones = v4.chain(v6).chain([nobody]);
    zones.map(|zone| (format!("7.{zone}"), zone)).collect()
}

#[tokio::test]
async fn sud_08_and_sud_10_addresses_of_private_networks_have_no_names_here() {
    let rig = Rig::start().await;
    let all = reverse();
    assert_eq!(all.len(), 9 + 64 + 16 + 7);
    for (name, zone) in &all {
        let reply = rig.ask(Transport::Udp, &Ask::new(name, 12).id(0).bytes()).await.message;
        assert_denied(&reply, 3, zone);
    }
    over_all!(Transport::ALL, |transport| {
        let asked = async |name: &str, rtype| rig.ask(transport, &Ask::new(name, rtype).id(0).bytes()).await.message;
        for (name, zone) in all.iter().step_by(11) {
            assert_denied(&asked(name, 12).await, 3, zone);
            assert_denied(&asked(&zone.to_uppercase(), 12).await, 0, zone);
            assert_eq!(answers(&asked(zone, 2).await), [format!("{zone}.")]);
            let soa = message::read(&asked(zone, 6).await);
            assert_eq!((soa.answers[0].name.to_ascii(), soa.answers[0].ttl), (format!("{zone}."), TTL));
        }
        assert_eq!(answers(&asked("1.0.0.127.in-addr.arpa", 12).await), ["localhost."]);
        let loopback = format!("1.{}ip6.arpa", "0.".repeat(31));
        assert_eq!(answers(&asked(&loopback, 12).await), ["localhost."]);
    });
    assert_eq!(rig.upstream.count(), 0);
    let public = ["1.1.1.1.in-addr.arpa", "1.0.32.172.in-addr.arpa", "1.0.128.100.in-addr.arpa", "1.0.0.2.ip6.arpa"];
    for name in public {
        let reply = rig.ask(Transport::Udp, &Ask::new(name, 12).id(0).bytes()).await.message;
        assert_eq!((message::rcode(&reply), message::counts(&reply)[1]), (0, 1), "{name}");
    }
    assert_eq!(rig.upstream.count(), public.len());
}

#[tokio::test]
async fn sud_07_and_sud_09_a_forward_of_a_zone_of_a_part_of_it_or_of_what_is_above_has_its_names() {
    let home = Upstream::start().await;
    home.always(Answer::new().a(300, [192, 0, 2, 9]));
    let rig = Rig::with(&format!(
        "[[forward]]\ndomains = [\"home.arpa\", \"1.168.192.in-addr.arpa\", \"ip6.arpa\", \".\"]\nservers = [\"udp://{}\"]\n",
        home.address
    ))
    .await;
    over_all!(Transport::ALL, |transport| {
        let own = transport.name();
        let asked = async |name: &str| rig.ask(transport, &Ask::a(name).id(0).bytes()).await.message;
        for zone in ["home.arpa", "1.168.192.in-addr.arpa", "d.f.ip6.arpa", "example"] {
            let reply = asked(&format!("{own}.{zone}")).await;
            assert_eq!(answers_of_upstream(&reply), ["192.0.2.9"], "{zone}");
        }
        // A forward of everything is no forward of these.
        for (name, rcode, zone) in [
            ("2.168.192.in-addr.arpa", 3, "168.192.in-addr.arpa"),
            ("168.192.in-addr.arpa", 0, "168.192.in-addr.arpa"),
            ("x.test", 3, "test"),
            ("x.onion", 3, "onion"),
        ] {
            assert_denied(&asked(name).await, rcode, zone);
        }
    });
    assert_eq!((home.count(), rig.upstream.count()), (4 * Transport::ALL.len(), 0));
}

/// The data of records that an upstream gave.
fn answers_of_upstream(reply: &[u8]) -> Vec<String> {
    assert_eq!((message::rcode(reply), message::flags(reply) & 0x0400), (0, 0));
    message::read(reply).answers.iter().map(|record| record.data.to_string()).collect()
}

#[tokio::test]
async fn sud_06_and_sud_09_zones_are_switched_one_by_one_and_all_at_once() {
    let some = "[special]\nask = [\"test\", \"100.in-addr.arpa\"]\ndeny = [\"alt\"]\n";
    let off = "[special]\nenabled = false\ndeny = [\"alt\"]\n";
    let names = ["x.alt", "x.test", "1.64.100.in-addr.arpa", "x.local", "1.10.in-addr.arpa", "x.onion", "x.invalid"];
    for (toml, here) in [
        ("", [false, true, true, true, true, true, true]),
        (some, [true, false, false, true, true, true, true]),
        (off, [true, false, false, false, false, true, true]),
    ] {
        let rig = Rig::with(toml).await;
        over_all!(Transport::ALL, |transport| {
            for (name, here) in names.into_iter().zip(here) {
                let reply = rig.ask(transport, &Ask::a(name).id(0).bytes()).await.message;
                assert_eq!(
                    (message::rcode(&reply) == 3, message::counts(&reply)[1] == 0),
                    (here, here),
                    "{name} {toml}"
                );
            }
        });
        assert_eq!(rig.upstream.count(), here.into_iter().filter(|here| !here).count(), "{toml}");
    }
}

#[tokio::test]
async fn sud_11_the_proof_that_home_arpa_is_not_signed_comes_from_its_parent() {
    let rig = Rig::start().await;
    rig.upstream.always(Answer::new().soa("arpa", 300, 300).authority(
        "home.arpa",
        47,
        300,
        &message::name("in-addr.arpa"),
    ));
    over_all!(Transport::ALL, |transport| {
        for zone in ["home.arpa", "10.in-addr.arpa"] {
            let unsigned = rig.ask(transport, &Ask::new(zone, 43).id(0).bytes()).await.message;
            assert_denied(&unsigned, 0, zone);
            let proven = rig.ask(transport, &Ask::new(zone, 43).id(0).dnssec().bytes()).await.message;
            assert_eq!((message::counts(&proven)[1], message::counts(&proven)[2]), (0, 2), "{zone}");
        }
        let below = rig.ask(transport, &Ask::new("x.home.arpa", 43).id(0).dnssec().bytes()).await.message;
        assert_eq!(message::rcode(&below), 3);
    });
    let asked: Vec<(String, u16)> = rig.upstream.log().iter().map(|asked| (asked.name(), asked.rtype())).collect();
    let asked: Vec<_> = asked.iter().filter(|(name, _)| !name.is_empty()).collect();
    assert!(asked.iter().all(|(name, rtype)| *rtype == 43 && !name.starts_with("x.")), "{asked:?}");
}

#[tokio::test]
async fn any_01_and_any_02_one_set_is_told_over_every_transport_or_all_over_streams_alone() {
    let proof = [&[0, 16][..], &[0; 30]].concat();
    let sets = Answer::new().answer("@", 16, 300, b"\x01x").answer("@", 46, 300, &proof).a(300, [192, 0, 2, 1]);
    for (toml, full) in [("", false), ("[special]\nany = \"full\"\n", true)] {
        let rig = Rig::with(toml).await;
        rig.upstream.always(sets.clone());
        over_all!(Transport::ALL, |transport| {
            for (ask, minimal) in [(Ask::new("any.example", 255), 1), (Ask::new("any.example", 255).dnssec(), 2)] {
                let reply = rig.ask(transport, &ask.id(0).bytes()).await.message;
                let (truncated, count) = match (full, transport) {
                    (false, _) => (0, minimal),
                    (true, Transport::Udp) => (0x0200, 0),
                    (true, _) => (0, 3),
                };
                assert_eq!((message::flags(&reply) & 0x0200, message::counts(&reply)[1]), (truncated, count), "{toml}");
            }
        });
        assert_eq!(rig.upstream.count(), 2, "it is kept as it is told");
    }
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
    rig.upstream.always(Answer::new().big(900, 300));
    let ask = Ask::new("any.example", 255).id(0);
    let reply = rig.ask(Transport::Udp, &ask.bytes()).await.message;
    assert_eq!((message::flags(&reply) & 0x0200, message::counts(&reply)), (0x0200, [1, 0, 0, 0]));
    over_all!(crate::harness::STREAMS, |transport| {
        let reply = rig.ask(transport, &ask.bytes()).await.message;
        assert!(message::counts(&reply)[1] > 4);
    });
}
