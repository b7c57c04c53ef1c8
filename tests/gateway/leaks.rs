//! What a client sends beside its question reaches no server, by whatever door it came and whatever way its question takes.

use hushgate::peer::Transport;

use crate::admin::scrape_until;
use crate::harness::servers::{Authority, Leg, Server};
use crate::harness::upstream::Asked;
use crate::harness::{Act, Answer, Ask, ENCRYPTED, Rig, Upstream, message};
use crate::over_all;

const COOKIE: &[u8] = b"MyCookie";

/// A question for `name` of a client that says all it can about itself: options, flags known and unknown, letter case.
fn loud(name: &str, transport: Transport) -> Ask {
    let spelled =
        name.chars().enumerate().map(|(at, letter)| if at % 3 == 0 { letter.to_ascii_uppercase() } else { letter });
    let mut ask = Ask::a(&spelled.collect::<String>()).id(0).flags(0x0160).size(65_535).edns_flags(0x7fff);
    for (code, data) in [
        (3, &b""[..]),
        (8, &[0, 1, 32, 0, 198, 51, 100, 77]),
        (10, COOKIE),
        (12, &[0x55; 31]),
        (13, b"\x03com\0"),
        (18, b"\0"),
        (65_001, b"mine"),
    ] {
        ask = ask.option(code, data);
    }
    if transport == Transport::Doq { ask } else { ask.option(11, &[]) }
}

/// What `server` was sent for `name`, with the id and the first two letters of the name blanked; in lower case where letters are mixed
/// on purpose.
fn sent(server: &Server, name: &str) -> Vec<u8> {
    let log = server.log();
    let mut message = log.iter().rfind(|query| message::asked_name(query) == name).expect(name).clone();
    message[..2].fill(0);
    message[13..15].fill(0);
    // A keepalive tells that it came over TCP.
    if server.leg == Leg::Udp && message::option(&message, 11).is_none() {
        let end = message::question_end(&message);
        message[12..end].make_ascii_lowercase();
    }
    message
}

#[tokio::test]
async fn edn_13_ecs_16_and_cki_23_loud_clients_and_quiet_ones_send_the_same_octets_over_every_pair_of_transports() {
    let authority = Authority::new();
    let mut toml = String::new();
    let mut servers = Vec::new();
    for leg in [Leg::Udp, Leg::Tcp, Leg::Tls, Leg::Https, Leg::H3, Leg::Quic] {
        let server = Server::good(leg, 1, &authority, None).await;
        let domain = format!("{}.example", leg.scheme());
        let forward = format!("[[forward]]\ndomains = [\"{domain}\"]\nservers = [{}]\n", server.entry());
        toml.push_str(&forward);
        servers.push(server);
    }
    let rig = Rig::beside(&[("ca.pem", &authority.pem)], &toml, &[]).await;
    for server in &servers {
        let scheme = server.leg.scheme();
        // It gives no cookie, and is shown none from then on.
        rig.ask(Transport::Udp, &Ask::a(&format!("first.{scheme}.example")).bytes()).await;
        let mut quiet = Vec::new();
        for (at, transport) in [Transport::Udp, Transport::Tcp].into_iter().enumerate() {
            let (bare, with_opt) = (format!("q{at}.of.{scheme}.example"), format!("r{at}.of.{scheme}.example"));
            rig.ask(transport, &Ask::a(&bare).bytes()).await;
            rig.ask(transport, &Ask::a(&with_opt).size(512).bytes()).await;
            assert_eq!(sent(server, &bare), sent(server, &with_opt), "{scheme}: with EDNS and without");
            quiet.push(sent(server, &bare));
        }
        for (at, transport) in Transport::ALL.into_iter().enumerate() {
            let name = format!("l{at}.of.{scheme}.example");
            let reply = rig.ask(transport, &loud(&name, transport).bytes()).await.message;
            assert_eq!(message::counts(&reply)[1], 1, "{scheme}");
            let expected = &quiet[usize::from(transport != Transport::Udp)];
            assert_eq!(sent(server, &name), *expected, "{} to {scheme}", transport.name());
            if !matches!(server.leg, Leg::Udp | Leg::Tcp) {
                assert_eq!(expected.len() % 128, 0, "PAD-04");
            }
        }
    }
}

/// The options of a question that are ours to send over plain transports, and nothing of the client's.
fn assert_ours(asked: &Asked, subnet: Option<&[u8]>) {
    let (name, flags) = (asked.name(), message::flags(&asked.message));
    let is_probe = name.is_empty();
    assert!(is_probe || flags & !0x0100 == 0x0020, "{name}: AD, and RD as it was asked");
    assert!(!asked.message.windows(4).any(|octets| octets == b"mine" || octets == &COOKIE[..4]), "{name}");
    let end = message::question_end(&asked.message);
    if asked.tcp {
        assert!(!asked.message[12..end - 4].iter().any(u8::is_ascii_uppercase), "{name}: not as the client spells it");
    }
    let Some(options) = message::options(&asked.message) else { return };
    assert_eq!(asked.message[end + 3..end + 9], [4, 208, 0, 0, 0, 0], "{name}: our size and no flag");
    for (code, data) in &options {
        let is_ours = match code {
            8 => Some(&data[..]) == subnet,
            10 => !asked.tcp,
            11 => asked.tcp && data.is_empty(),
            _ => false,
        };
        assert!(is_ours, "{name}: option {code}");
    }
    let told = options.iter().find(|(code, _)| *code == 8).map(|(_, data)| &data[..]);
    assert_eq!(told, subnet, "{name}: on every way");
}

/// An upstream with a way of its own for each first label.
fn wayward(asked: &Asked) -> Act {
    let answer = Answer::new().a(100, [192, 0, 2, 1]);
    let has_opt = message::counts(&asked.message)[3] > 0;
    let cookie = message::option(&asked.message, 10).unwrap_or_default();
    let name = asked.name();
    Act::Answer(match (name.split('.').next().unwrap_or_default(), asked.rtype()) {
        ("old", _) if has_opt => Answer::new().rcode(1),
        ("refusing", _) => Answer::new().rcode(5).opt(&[]),
        ("failing", _) => Answer::new().rcode(2).opt(&[]),
        ("long", _) if !asked.tcp => answer.flag(0x0200),
        ("shy", _) if cookie.len() == 8 => Answer::new().extended(23, &[(10, &[&cookie[..], &[7; 16]].concat())]),
        (_, 28) => Answer::new().soa("example", 100, 100),
        _ => answer,
    })
}

#[tokio::test]
async fn ecs_16_edn_13_and_cki_23_nothing_of_a_client_goes_along_on_any_detour() {
    const NOTHING: &[u8] = &[0, 1, 0, 0];
    for (rule, subnet) in [("strip", None), ("opt-out", Some(NOTHING))] {
        let (first, second) = (Upstream::start().await, Upstream::start().await);
        first.script(wayward);
        second.always(Answer::new().a(100, [192, 0, 2, 2]));
        let extra = format!("[privacy]\necs = \"{rule}\"\n[dns64]\nprefix = \"64:ff9b::/96\"\n");
        let servers = format!("upstream.servers=[\"udp://{}\",\"udp://{}\"]", first.address, second.address);
        let rig = Rig::set(&extra, &[&servers, "upstream.strategy=\"ordered\""]).await;
        over_all!([Transport::Udp, Transport::Doh2], |transport| {
            for way in ["shy", "plain", "refusing", "failing", "long", "six", "old"] {
                let rtype = if way == "six" { 28 } else { 1 };
                let ask = Ask { rtype, ..loud(&format!("{way}.{}.example", transport.name()), transport) };
                rig.ask(transport, &ask.bytes()).await;
            }
        });
        assert!(second.count() > 0, "the other servers are asked as well");
        // Asked for again before it expires.
        rig.pass(95);
        let before = first.count();
        let plain = format!("plain.{}.example", Transport::Udp.name());
        for _ in 0..2 {
            rig.ask(Transport::Udp, &loud(&plain, Transport::Udp).bytes()).await;
        }
        scrape_until(rig.admin(), |now| now.value("refreshes_done_total") > 0.5).await;
        assert!(first.count() > before);
        for asked in first.log().iter().chain(&second.log()) {
            let subnet = subnet.filter(|_| message::options(&asked.message).is_some());
            assert_ours(asked, subnet);
        }
        assert!(first.log().iter().any(|asked| message::options(&asked.message).is_none()), "without EDNS too");
    }
}

#[tokio::test]
async fn pad_05_replies_with_every_option_at_once_are_whole_blocks_and_padded_last() {
    let extra = "[edns]\nnsid = \"one-name-of-64-octets-one-name-of-64-octets-one-name-of-64-octet\"\npass = [65001]\n\
                 [privacy]\necs = \"forward\"\n";
    let rig = Rig::with(extra).await;
    over_all!(ENCRYPTED, |transport| {
        for passed in [0, 200, 256, 257, 400, 500] {
            for octets in [1, 400, 3000] {
                let back = vec![0xaa; passed];
                rig.upstream.always(Answer::new().big(octets, 300).opt(&[(65_001, &back), (15, &[0, 6, b'x'])]));
                let name = format!("{passed}.{octets}.{}.example", transport.name());
                let ask = Ask { rtype: 16, ..loud(&name, transport) };
                let reply = rig.ask(transport, &ask.bytes()).await.message;
                assert_eq!((reply.len() % 468, message::rcode(&reply)), (0, 0), "{name}");
                let mut codes: Vec<u16> = message::options(&reply).unwrap().iter().map(|(code, _)| *code).collect();
                assert_eq!(codes.pop(), Some(12), "{name}: last");
                codes.sort_unstable();
                let keepalive = (transport == Transport::Dot).then_some(11);
                let expected = [3, 8, 10].into_iter().chain(keepalive).chain([15, 65_001]);
                assert_eq!(codes, expected.collect::<Vec<_>>(), "{name}");
                assert!(!reply.windows(3).any(|octets| octets == [0, 6, b'x']), "no text but ours");
            }
        }
    });
}

#[tokio::test]
async fn edn_10_and_edn_14_whatever_is_to_be_said_a_datagram_stays_within_what_its_client_takes() {
    let extra = "[edns]\nnsid = \"one-name-of-64-octets-one-name-of-64-octets-one-name-of-64-octet\"\npass = [65001]\n\
                 [privacy]\necs = \"forward\"\n";
    let rig = Rig::with(extra).await;
    for (passed, octets) in [(0, 1), (100, 1), (400, 1), (500, 1), (0, 180), (0, 700), (300, 100)] {
        let back = vec![0xaa; passed];
        rig.upstream.always(Answer::new().big(octets, 300).opt(&[(65_001, &back), (15, &[0, 6])]));
        for size in [0, 512, 600, 1232, 4096] {
            let name = format!("{passed}.{octets}.{size}.{}.example", "n".repeat(60));
            let ask = Ask { rtype: 16, ..loud(&name, Transport::Udp) }.size(size).bytes();
            let reply = rig.ask(Transport::Udp, &ask).await.message;
            assert!(reply.len() <= usize::from(size.clamp(512, 1232)), "{name}: {}", reply.len());
            message::read(&reply);
            // What the client told comes back even where there is room for nothing else.
            assert_eq!(message::option(&reply, 8).map(|data| data.len()), Some(8), "{name}");
            let codes: Vec<u16> = message::options(&reply).unwrap().iter().map(|(code, _)| *code).collect();
            assert!(!codes.contains(&12) && !codes.contains(&11), "{name}");
            let is_whole = message::counts(&reply)[1] > 0;
            assert!(is_whole || message::flags(&reply) & 0x0200 != 0, "{name}: TC where there is no data");
            assert!(!is_whole || codes.contains(&10), "{name}: and the cookie that vouches for it");
            assert!(!is_whole || codes.contains(&65_001), "{name}: what was brought goes with the data");
        }
    }
}
