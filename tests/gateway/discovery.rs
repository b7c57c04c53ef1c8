//! Discovery of the doors as clients do it: SVCB (RFC 9460, RFC 9461, RFC 9462) and RESINFO (RFC 9606).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hickory_proto::rr::RData;
use hushgate::peer::Transport;

use crate::harness::{Answer, Ask, Rig, message};
use crate::over_all;

const SVCB: u16 = 64;
const RESINFO: u16 = 261;
const AA: u16 = 0x0400;

/// One SVCB record, read with no mercy.
#[derive(Debug, PartialEq, Eq)]
struct Svcb {
    priority: u16,
    target: String,
    alpn: Vec<String>,
    port: Option<u16>,
    v4: Vec<Ipv4Addr>,
    v6: Vec<Ipv6Addr>,
    path: Option<String>,
}

/// Takes `length` octets off the front.
fn take<'a>(rest: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (front, back) = rest.split_at(length);
    *rest = back;
    front
}

fn number(rest: &mut &[u8]) -> u16 {
    u16::from_be_bytes(take(rest, 2).try_into().unwrap())
}

/// A name of plain labels, without pointers (SVC-07).
fn name(rest: &mut &[u8]) -> String {
    let mut out = String::new();
    loop {
        let length = usize::from(take(rest, 1)[0]);
        assert!(length < 64, "a compressed name");
        if length == 0 {
            return out;
        }
        out += std::str::from_utf8(take(rest, length)).unwrap();
        out.push('.');
    }
}

impl Svcb {
    fn read(mut rdata: &[u8]) -> Self {
        let rest = &mut rdata;
        let (priority, target) = (number(rest), name(rest));
        assert!(priority > 0, "ServiceMode");
        let mut params: BTreeMap<u16, &[u8]> = BTreeMap::new();
        while !rest.is_empty() {
            let (key, length) = (number(rest), number(rest));
            assert!(params.last_key_value().is_none_or(|(last, _)| *last < key), "keys ascend, without duplicates");
            params.insert(key, take(rest, length.into()));
        }
        let (mut alpn, mut names) = (Vec::new(), params.remove(&1).expect("alpn"));
        while !names.is_empty() {
            let length = usize::from(take(&mut names, 1)[0]);
            alpn.push(String::from_utf8(take(&mut names, length).to_vec()).unwrap());
        }
        let port = params.remove(&3).map(|value| u16::from_be_bytes(value.try_into().unwrap()));
        let hints = |value: Option<&[u8]>, octets: usize| -> Vec<Vec<u8>> {
            let value = value.unwrap_or_default();
            assert_eq!(value.len() % octets, 0);
            value.chunks(octets).map(<[u8]>::to_vec).collect()
        };
        let v4 = hints(params.remove(&4), 4).into_iter().map(|v4| <[u8; 4]>::try_from(v4).unwrap().into()).collect();
        let v6 = hints(params.remove(&6), 16).into_iter().map(|v6| <[u8; 16]>::try_from(v6).unwrap().into()).collect();
        let path = params.remove(&7).map(|path| String::from_utf8(path.to_vec()).unwrap());
        assert!(params.is_empty(), "{params:?}");
        Self { priority, target, alpn, port, v4, v6, path }
    }
}

/// The records of a section: owner, type, TTL, RDATA.
type Raw = (String, u16, u32, Vec<u8>);

/// Answers, authorities and additional records without OPT, octet by octet.
fn sections(reply: &[u8]) -> [Vec<Raw>; 3] {
    let question_end = message::question_end(reply);
    let rest = &mut &reply[question_end..];
    let [_, counts @ ..] = message::counts(reply);
    counts.map(|count| {
        let mut records = Vec::new();
        for _ in 0..count {
            let owner = if rest.starts_with(&[0xc0, 12]) {
                take(rest, 2);
                "@".to_owned()
            } else if rest[0] & 0xc0 == 0xc0 {
                // An owner may point at one before it.
                let at = usize::from(number(rest) & 0x3fff);
                name(&mut &reply[at..])
            } else {
                name(rest)
            };
            let (rtype, _) = (number(rest), number(rest));
            let ttl = u32::from(number(rest)) << 16 | u32::from(number(rest));
            let length = number(rest);
            let rdata = take(rest, length.into()).to_vec();
            if rtype != 41 {
                records.push((owner, rtype, ttl, rdata));
            }
        }
        records
    })
}

fn svcb(reply: &[u8]) -> Vec<Svcb> {
    let [answers, ..] = sections(reply);
    assert!(answers.iter().all(|(owner, rtype, ttl, _)| owner == "@" && *rtype == SVCB && *ttl == 300), "{answers:?}");
    answers.iter().map(|(.., rdata)| Svcb::read(rdata)).collect()
}

fn is_denied(reply: &[u8], zone: &str) -> bool {
    let [answers, authorities, _] = sections(reply);
    let soa = authorities.first().map(|(owner, rtype, ..)| (owner.to_lowercase(), *rtype));
    message::rcode(reply) == 0 && message::flags(reply) & AA != 0 && answers.is_empty() && soa == Some((zone.into(), 6))
}

async fn ask(rig: &Rig, name: &str, rtype: u16) -> Vec<u8> {
    rig.ask(Transport::Tcp, &Ask::new(name, rtype).id(0).bytes()).await.message
}

const NAMED: &str = "[tls]\nnames = [\"localhost\", \"Dns.Example\", \"127.0.0.1\"]";

#[tokio::test]
async fn ddr_01_and_svc_05_and_svc_07_the_doors_that_run_are_told_of_with_their_ports_over_every_transport() {
    let rig = Rig::with(NAMED).await;
    let hint = vec![Ipv4Addr::LOCALHOST];
    let record = |priority, alpn: &[&str], port: SocketAddr, path: Option<&str>| Svcb {
        priority,
        target: "dns.example.".into(),
        alpn: alpn.iter().map(ToString::to_string).collect(),
        port: Some(port.port()),
        v4: hint.clone(),
        v6: Vec::new(),
        path: path.map(str::to_owned),
    };
    let expected = [
        record(1, &["dot"], rig.dot(), None),
        record(2, &["doq"], rig.doq(), None),
        record(3, &["h2", "h3"], rig.doh(), Some("/dns-query{?dns}")),
    ];
    over_all!(Transport::ALL, |transport| {
        for name in ["_dns.resolver.arpa", "_DNS.Resolver.ARPA", "_dns.dns.example"] {
            let reply = rig.ask(transport, &Ask::new(name, SVCB).id(0).edns().bytes()).await.message;
            assert_eq!((message::rcode(&reply), message::flags(&reply) & AA), (0, AA));
            assert_eq!(svcb(&reply), expected, "{name}");
            // An independent reader finds the same.
            let read = message::read(&reply);
            assert!(read.answers.iter().all(|record| matches!(record.data, RData::SVCB(_))), "SVC-07");
        }
    });
    assert_eq!(rig.upstream.count(), 0);
}

#[tokio::test]
async fn ddr_03_the_targets_addresses_come_along() {
    let rig = Rig::with(NAMED).await;
    let [_, _, additional] = sections(&ask(&rig, "_dns.resolver.arpa", SVCB).await);
    assert_eq!(additional, [("dns.example.".to_owned(), 1, 300, vec![127, 0, 0, 1])]);
    // Over a datagram to a client without EDNS there is room for them too.
    let reply = rig.ask(Transport::Udp, &Ask::new("_dns.resolver.arpa", SVCB).bytes()).await.message;
    assert_eq!((message::flags(&reply) & 0x0200, message::counts(&reply)), (0, [1, 3, 0, 1]));
}

#[tokio::test]
async fn ddr_02_without_a_name_that_others_know_there_is_none_to_be_sent_to() {
    let said = "[advertise]\naddresses = [\"192.0.2.1\"]";
    let rig = Rig::with(said).await;
    assert!(is_denied(&ask(&rig, "_dns.resolver.arpa", SVCB).await, "resolver.arpa."));
    assert_eq!(rig.upstream.count(), 0);
    // On this machine alone, this machine is who everybody means.
    let rig = Rig::start().await;
    let told = svcb(&ask(&rig, "_dns.resolver.arpa", SVCB).await);
    assert!(told.len() == 3 && told.iter().all(|record| record.target == "localhost."), "{told:?}");
    // Names below localhost stay what they are.
    let reply = ask(&rig, "_dns.localhost", 1).await;
    assert_eq!(message::read(&reply).answers[0].data.to_string(), "127.0.0.1");
}

#[tokio::test]
async fn ddr_04_without_an_encrypted_door_there_is_nothing_but_an_soa() {
    let rig = Rig::set("", &["listen.dot=[]", "listen.doh=[]", "listen.doq=[]"]).await;
    over_all!([Transport::Udp, Transport::Tcp], |transport| {
        let reply = rig.ask(transport, &Ask::new("_dns.resolver.arpa", SVCB).bytes()).await.message;
        assert!(is_denied(&reply, "resolver.arpa."));
    });
    assert_eq!(rig.upstream.count(), 0);
}

#[tokio::test]
async fn ddr_05_other_types_and_names_are_empty_and_any_is_one_set() {
    let rig = Rig::with(NAMED).await;
    for (name, rtype) in [("_dns.resolver.arpa", 1), ("_dns.resolver.arpa", 65), ("x._dns.resolver.arpa", SVCB)] {
        assert!(is_denied(&ask(&rig, name, rtype).await, "resolver.arpa."), "{name} {rtype}");
    }
    // RFC 8482 4.1.
    for (name, count) in [("_dns.resolver.arpa", 3), ("resolver.arpa", 1), ("_dns.dns.example", 3)] {
        assert_eq!(sections(&ask(&rig, name, 255).await)[0].len(), count, "{name}");
    }
    for rtype in [1, 28, 65, RESINFO] {
        assert!(is_denied(&ask(&rig, "_dns.dns.example", rtype).await, "_dns.dns.example."), "{rtype}");
    }
    assert_eq!(rig.upstream.count(), 0);
}

#[tokio::test]
async fn ddr_07_addresses_that_the_certificate_is_not_for_are_kept_from_those_who_would_verify_them() {
    let hints = async |names: &str, name: &str| -> Option<Vec<IpAddr>> {
        let said = format!("[tls]\nnames = {names}\n[advertise]\naddresses = [\"192.0.2.1\", \"192.0.2.2\"]");
        let told = svcb(&ask(&Rig::with(&said).await, name, SVCB).await);
        told.first().map(|first| first.v4.iter().copied().map(IpAddr::from).collect())
    };
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let (one, both) = (r#"["dns.example", "192.0.2.2"]"#, r#"["dns.example", "192.0.2.1", "192.0.2.2"]"#);
    assert_eq!(hints(one, "_dns.resolver.arpa").await, Some(vec![ip("192.0.2.2")]));
    assert_eq!(hints(both, "_dns.resolver.arpa").await, Some(vec![ip("192.0.2.1"), ip("192.0.2.2")]));
    assert_eq!(hints(r#"["dns.example"]"#, "_dns.resolver.arpa").await, None);
    // Who knows the name verifies the name.
    assert_eq!(hints(r#"["dns.example"]"#, "_dns.dns.example").await, Some(vec![ip("192.0.2.1"), ip("192.0.2.2")]));
}

#[tokio::test]
async fn ddr_07_the_certificate_shown_to_who_names_nobody_is_for_the_address() {
    let rig = Rig::with(NAMED).await;
    let config = crate::harness::client::trust(&rig.authority(), &[b"dot"]);
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let tcp = tokio::net::TcpStream::connect(rig.dot()).await.unwrap();
    // A client that connects to an address sends no server name, and verifies that address.
    let name = rustls::pki_types::ServerName::from(rig.dot().ip());
    connector.connect(name, tcp).await.unwrap();
}

#[tokio::test]
async fn ddr_08_whatever_path_or_port_a_question_comes_by_it_is_answered_alike() {
    let rig = Rig::with("[doh]\npaths = [\"/dns-query\", \"/other\"]").await;
    rig.upstream.always(Answer::new().a(300, [192, 0, 2, 1]));
    let mut replies = Vec::new();
    for path in ["/dns-query", "/other"] {
        let mut request = rig.post(&Ask::a("www.example").id(0).bytes());
        *request.uri_mut() = rig.doh_uri(path).parse().unwrap();
        let (status, _, body) = rig.http(Transport::Doh2, request).await.unwrap();
        assert_eq!(status, 200);
        replies.push(message::read(&body).answers[0].data.to_string());
    }
    assert_eq!(replies, ["192.0.2.1", "192.0.2.1"]);
    let told = svcb(&ask(&rig, "_dns.resolver.arpa", SVCB).await);
    assert_eq!(told[2].path.as_deref(), Some("/dns-query{?dns}"));
}

#[tokio::test]
async fn ddr_12_and_svc_06_what_the_operator_says_of_the_outside_is_told() {
    let rig = Rig::with(
        "[tls]\nnames = [\"a.example\", \"dns.example\", \"192.0.2.1\", \"2001:db8::1\"]\n[advertise]\nname = \"dns.example\"\n\
         addresses = [\"192.0.2.1\", \"2001:db8::1\"]\ndot = 853\ndoh = 8443\ndoq = 0",
    )
    .await;
    for name in ["_dns.resolver.arpa", "_dns.dns.example", "_dns.a.example"] {
        let told = svcb(&ask(&rig, name, SVCB).await);
        let ports: Vec<_> = told.iter().map(|record| (record.alpn.join(","), record.port)).collect();
        assert_eq!(ports, [("dot".to_owned(), None), ("h2,h3".to_owned(), Some(8443))]);
        for record in told {
            assert_eq!(record.target, "dns.example.");
            assert_eq!(
                (record.v4, record.v6),
                (vec![Ipv4Addr::new(192, 0, 2, 1)], vec!["2001:db8::1".parse().unwrap()])
            );
        }
    }
    // The name's addresses are those said; the rest of the name is its zone's.
    let data = async |name: &str, rtype| -> Vec<String> {
        let reply = ask(&rig, name, rtype).await;
        assert_eq!(message::flags(&reply) & AA, AA);
        message::read(&reply).answers.iter().map(|record| record.data.to_string()).collect()
    };
    assert_eq!(data("DNS.example", 1).await, ["192.0.2.1"]);
    assert_eq!(data("dns.example", 28).await, ["2001:db8::1"]);
    assert_eq!(rig.upstream.count(), 0);
    for (name, rtype, count) in [("dns.example", 15, 1), ("a.example", 1, 2)] {
        let reply = ask(&rig, name, rtype).await;
        assert_eq!((message::flags(&reply) & AA, rig.upstream.count()), (0, count), "{name}");
    }
}

#[tokio::test]
async fn own_name_under_home_arpa_has_its_addresses_and_is_denied_no_other_type_by_nxdomain() {
    let rig = Rig::with(
        "[tls]\nnames = [\"dns.home.arpa\"]\n[advertise]\nname = \"dns.home.arpa\"\naddresses = [\"192.0.2.1\"]",
    )
    .await;
    assert_eq!(message::read(&ask(&rig, "dns.home.arpa", 1).await).answers.len(), 1);
    // HTTPS is asked beside A by every browser, and NXDOMAIN would mean that there is no A either (RFC 8020).
    for rtype in [65, 15] {
        assert!(is_denied(&ask(&rig, "dns.home.arpa", rtype).await, "home.arpa."), "{rtype}");
    }
    assert_eq!(message::flags(&ask(&rig, "other.home.arpa", 65).await) & 0xf, 3);
    assert_eq!(rig.upstream.count(), 0);
}

#[tokio::test]
async fn ddr_04_discovery_switched_off_leaves_resolver_arpa_empty_and_own_names_to_their_zones() {
    let rig = Rig::with(&format!("{NAMED}\n[advertise]\ndiscovery = false")).await;
    assert!(is_denied(&ask(&rig, "_dns.resolver.arpa", SVCB).await, "resolver.arpa."));
    assert_eq!(rig.upstream.count(), 0);
    ask(&rig, "_dns.dns.example", SVCB).await;
    assert_eq!(rig.upstream.count(), 1);
}

/// The strings of a RESINFO record.
fn strings(mut rdata: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    while !rdata.is_empty() {
        let length = usize::from(take(&mut rdata, 1)[0]);
        found.push(String::from_utf8(take(&mut rdata, length).to_vec()).unwrap());
    }
    found
}

#[tokio::test]
async fn res_01_and_res_02_resinfo_is_one_record_with_or_without_rd_and_never_asked_upstream() {
    let rig = Rig::with(&format!("{NAMED}\n[advertise]\ninfo_url = \"https://dns.example/about\"")).await;
    rig.upstream.always(Answer::new().answer("@", RESINFO, 60, b"\x0aqnamemin=x"));
    over_all!(Transport::ALL, |transport| {
        for name in ["resolver.arpa", "Dns.Example"] {
            for flags in [0x0000, 0x0100] {
                let reply = rig.ask(transport, &Ask::new(name, RESINFO).id(0).flags(flags).bytes()).await.message;
                let [answers, ..] = sections(&reply);
                assert_eq!((answers.len(), message::flags(&reply) & (AA | 0x0100)), (1, AA | flags));
                let expected = ["exterr=0,3,13,18-19,21-23", "infourl=https://dns.example/about"];
                assert_eq!(strings(&answers[0].3), expected);
            }
        }
    });
    assert_eq!(rig.upstream.count(), 0);
}

#[tokio::test]
async fn res_03_resinfo_switched_off_is_nothing_and_not_another_resolvers() {
    let rig = Rig::with(&format!("{NAMED}\n[advertise]\nresinfo = false")).await;
    rig.upstream.always(Answer::new().answer("@", RESINFO, 60, b"\x08exterr=1"));
    over_all!(Transport::ALL, |transport| {
        for name in ["resolver.arpa", "dns.example"] {
            let reply = rig.ask(transport, &Ask::new(name, RESINFO).id(0).bytes()).await.message;
            assert!(is_denied(&reply, &format!("{name}.")));
        }
    });
    assert_eq!(rig.upstream.count(), 0);
}
