//! Clients that tell their subnet, over all transports: forwarded where the operator wants it, and nobody gets another's answer.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use hushgate::config;
use hushgate::peer::Transport;
use hushgate::upstream::commons::Commons;
use hushgate::upstream::{Ask as Asking, Basis, Exchange as _, Routes, Telling};
use hushgate::wire::{Subnet, name};
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::harness::servers::{Authority, Leg, Server};
use crate::harness::upstream::Asked;
use crate::harness::{Act, Answer, Ask, Rig, Upstream, message};
use crate::over_all;

/// The client-subnet option of a question, if there is one.
fn told(asked: &Asked) -> Option<Vec<u8>> {
    message::option(&asked.message, 8)
}

/// An address that tells the third octet of the subnet, for 24 bits of it, or as many as the name begins with.
fn tailored(asked: &Asked) -> Act {
    let Some(mut data) = told(asked) else { return Act::Answer(Answer::new().a(300, [192, 0, 2, 0])) };
    data[3] = asked.name().split('.').next().and_then(|label| label.parse().ok()).unwrap_or(24);
    let last = data.get(6).copied().unwrap_or(255);
    Act::Answer(Answer::new().a(300, [192, 0, 2, last]).opt(&[(8, &data)]))
}

/// The last octet of the only address in an answer.
fn last(answered: &[u8]) -> u8 {
    assert_eq!(message::counts(answered)[1], 1, "{answered:02x?}");
    answered[message::question_end(answered) + 15]
}

async fn ask(rig: &Rig, transport: Transport, name: &str, third: u8) -> (u8, Option<Vec<u8>>) {
    let ask = Ask::a(name).id(0).option(8, &[0, 1, 32, 0, 198, 51, third, 9]);
    let answered = rig.ask(transport, &ask.bytes()).await.message;
    (last(&answered), message::option(&answered, 8))
}

#[tokio::test]
async fn ecs_05_08_11_each_network_gets_its_own_answer_and_scopes_are_shared_over_each_transport() {
    let rig = Rig::with("[privacy]\necs = \"forward\"\n").await;
    rig.upstream.script(tailored);
    over_all!(Transport::ALL, |transport| {
        let near = format!("24.{}.example.org", transport.name());
        let wide = format!("16.{}.example.org", transport.name());
        let all = format!("0.{}.example.org", transport.name());
        for (name, third, expected, scope, questions) in [
            (&near, 1, 1, 24, 1),
            (&near, 2, 2, 24, 1),
            (&near, 1, 1, 24, 0),
            (&wide, 1, 1, 16, 1),
            (&wide, 2, 1, 16, 0),
            (&all, 1, 1, 0, 1),
            (&all, 2, 1, 0, 0),
        ] {
            let before = rig.upstream.count();
            let (data, option) = ask(&rig, transport, name, third).await;
            assert_eq!((data, option), (expected, Some(vec![0, 1, 32, scope, 198, 51, third, 9])), "{name}");
            assert_eq!(rig.upstream.count() - before, questions, "{name} from {third}");
        }
        // Who tells nothing gets none of it, and has nothing told.
        let plain = rig.ask(transport, &Ask::a(&near).id(0).edns().bytes()).await.message;
        assert_eq!((last(&plain), message::option(&plain, 8)), (0, None));
        let hidden = rig.ask(transport, &Ask::a(&near).id(0).option(8, &[0, 1, 0, 0]).bytes()).await.message;
        assert_eq!(message::option(&hidden, 8), Some(vec![0, 1, 0, 0]));
    });
    for asked in rig.upstream.log().iter().filter(|asked| !asked.name().is_empty()) {
        let told = told(asked);
        assert!(told.is_none_or(|data| data == [0, 1, 0, 0] || data.len() == 7 && data[..4] == [0, 1, 24, 0]));
    }
}

#[tokio::test]
async fn ecs_01_without_being_told_to_nothing_is_forwarded_and_all_share_one_answer() {
    let rig = Rig::start().await;
    rig.upstream.script(tailored);
    over_all!(Transport::ALL, |transport| {
        let name = format!("24.{}.example.org", transport.name());
        let before = rig.upstream.count();
        for third in [1, 2] {
            assert_eq!(ask(&rig, transport, &name, third).await, (0, None));
        }
        assert_eq!(rig.upstream.count() - before, 1);
    });
}

#[tokio::test]
async fn ecs_06_a_forged_answer_for_another_subnet_is_passed_over() {
    let rig = Rig::with("[privacy]\necs = \"forward\"\n").await;
    rig.upstream.script(|asked| {
        let mine = told(asked).unwrap_or_default();
        let answer = |last, data: &[u8]| Answer::new().a(300, [192, 0, 2, last]).opt(&[(8, data)]).to(&asked.message);
        Act::Several(vec![answer(66, &[0, 1, 24, 24, 203, 0, 113]), answer(1, &mine)])
    });
    assert_eq!(ask(&rig, Transport::Udp, "a.example.org", 1).await.0, 1);
}

const LEGS: [Leg; 6] = [Leg::Udp, Leg::Tcp, Leg::Tls, Leg::Https, Leg::H3, Leg::Quic];

/// What is told of three clients.
type Told = [Option<&'static [u8]>; 3];

/// A rule as the configuration has it, and what a server with it is told of clients of this machine: of one that tells nothing, of one
/// that tells 198.51.100.9, and of one that wants nothing told.
const RULES: [(&str, &str, Told); 5] = [
    ("strip", "\"strip\"", [None, None, None]),
    ("opt-out", "\"opt-out\"", [Some(&NOTHING), Some(&NOTHING), Some(&NOTHING)]),
    ("forward", "\"forward\"", [None, Some(&[0, 1, 24, 0, 198, 51, 100]), Some(&NOTHING)]),
    // The address of this machine's clients is private, and another one is not believed.
    ("add", "{ add = { v4 = 24, v6 = 56 } }", [None, None, Some(&NOTHING)]),
    ("fixed", "{ fixed = \"203.0.113.0/24\" }", [Some(&FIXED), Some(&FIXED), Some(&FIXED)]),
];
const NOTHING: [u8; 4] = [0, 1, 0, 0];
const FIXED: [u8; 7] = [0, 1, 24, 0, 203, 0, 113];

/// A good server of every kind.
async fn servers(authority: &Authority) -> Vec<Server> {
    let mut servers = Vec::new();
    for leg in LEGS {
        servers.push(Server::good(leg, 1, authority, None).await);
    }
    servers
}

/// What `server` was told with the question for `name`.
fn heard(server: &Server, name: &str) -> Option<Vec<u8>> {
    let log = server.log();
    let asked: Vec<_> = log.iter().filter(|query| message::asked_name(query) == name).collect();
    assert!(asked.windows(2).all(|pair| message::option(pair[0], 8) == message::option(pair[1], 8)), "{name}");
    message::option(asked.last().unwrap(), 8)
}

#[tokio::test]
async fn ecs_16_each_server_is_told_what_its_own_rule_says_over_every_transport_upstream() {
    let authority = Authority::new();
    let servers = servers(&authority).await;
    let mut toml = "[privacy]\necs = \"opt-out\"\n".to_owned();
    for server in &servers {
        for (rule, ecs, _) in RULES {
            let domain = format!("{rule}.{}.example", server.leg.scheme());
            let entry = server.entry_with(&format!("ecs = {ecs}"));
            write!(toml, "[[forward]]\ndomains = [\"{domain}\"]\nservers = [{entry}]\n").unwrap();
        }
    }
    let rig = Rig::beside(&[("ca.pem", &authority.pem)], &toml, &[]).await;
    for server in &servers {
        for (rule, _, expected) in RULES {
            let asks = [
                ("silent", None),
                ("telling", Some(&[0, 1, 32, 0, 198, 51, 100, 9][..])),
                ("hidden", Some(&NOTHING[..])),
            ];
            for ((client, option), expected) in asks.into_iter().zip(expected) {
                let name = format!("{client}.{rule}.{}.example", server.leg.scheme());
                let ask = option.iter().fold(Ask::a(&name).edns(), |ask, data| ask.option(8, data));
                let reply = rig.ask(Transport::Udp, &ask.bytes()).await.message;
                assert_eq!(message::rcode(&reply), 0, "{name}");
                assert_eq!(heard(server, &name), expected.map(<[u8]>::to_vec), "{name}");
                let mirrored = message::option(&reply, 8).is_some();
                assert_eq!(mirrored, option.is_some() && matches!(rule, "forward" | "add"), "{name}");
            }
        }
    }
    // Where a server's table says nothing, what holds for all does.
    rig.ask(Transport::Udp, &Ask::a("www.example.org").bytes()).await;
    assert_eq!(told(rig.upstream.log().last().unwrap()), Some(NOTHING.to_vec()));
}

#[tokio::test]
async fn ecs_16_what_a_client_tells_is_stripped_and_nothing_told_on_over_each_transport() {
    for (ecs, sent) in [("opt-out", Some(NOTHING.to_vec())), ("strip", None)] {
        let rig = Rig::with(&format!("[privacy]\necs = \"{ecs}\"\n")).await;
        rig.upstream.script(tailored);
        over_all!(Transport::ALL, |transport| {
            for (client, option) in [("telling", &[0, 1, 24, 0, 198, 51, 100][..]), ("broken", &[0, 9, 99])] {
                let name = format!("0.{client}.{}.example.org", transport.name());
                let reply = rig.ask(transport, &Ask::a(&name).id(0).option(8, option).bytes()).await.message;
                assert_eq!((message::rcode(&reply), message::option(&reply, 8)), (0, None));
                let asked: Vec<_> = rig.upstream.log().iter().filter(|asked| asked.name() == name).map(told).collect();
                assert_eq!(asked, std::slice::from_ref(&sent), "{name}");
            }
        });
    }
}

/// The question for `name`, of a client whose network is known in this way.
fn asking(name: &str, subnet: Option<Telling>) -> Arc<Asking> {
    Arc::new(Asking { subnet, ..Asking::new(&name::from_text(name).unwrap(), 1) })
}

#[tokio::test]
async fn ecs_04_and_ecs_05_what_is_added_of_a_public_address_arrives_cut_over_every_transport_upstream() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.pem"), &authority.pem).unwrap();
    let file = folder.path().join("hushgate.toml");
    for server in servers(&authority).await {
        let entry = server.entry_with("ecs = { add = { v4 = 20, v6 = 48 } }");
        std::fs::write(&file, format!("[upstream]\nservers = [{entry}]\nfallback = []\n")).unwrap();
        let loaded = config::load(&config::Source { file: Some(file.clone()), ..config::Source::default() });
        let routes = Routes::new(&loaded.config.unwrap().upstream, &Commons::new(Handle::current())).unwrap();
        for (name, address, expected) in [
            ("v4.example", "198.51.100.9", &[0, 1, 20, 0, 198, 51, 96][..]),
            ("v6.example", "2001:db8:a:ffff::9", &[0, 2, 48, 0, 0x20, 1, 0xd, 0xb8, 0, 10]),
        ] {
            let subnet = Subnet::of(address.parse().unwrap()).public().unwrap();
            let ask = asking(name, Some(Telling { subnet, basis: Basis::Address }));
            let ended = routes.exchange(ask, Instant::now() + Duration::from_secs(10)).await;
            assert_eq!(ended.result.unwrap().told, Some(subnet.within(if name == "v4.example" { 20 } else { 48 })));
            assert_eq!(heard(&server, name), Some(expected.to_vec()), "{:?}", server.leg);
        }
    }
}

#[tokio::test]
async fn two_servers_asked_at_once_are_each_told_by_their_own_rule_and_the_answer_is_for_whom_its_server_knew() {
    let authority = Authority::new();
    let (stranger, mute) = (Server::good(Leg::Udp, 7, &authority, None).await, Upstream::start().await);
    mute.script(|_| Act::Silence);
    let pool = format!(
        "[pool.both]\nstrategy = \"race\"\nservers = [{}, {{ url = \"udp://{}\", ecs = \"forward\" }}]\n\
         [[forward]]\ndomains = [\"both.example\"]\npool = \"both\"\n",
        stranger.entry_with("ecs = \"strip\""),
        mute.address
    );
    let rig = Rig::with(&pool).await;
    for third in [1, 2] {
        let (data, option) = ask(&rig, Transport::Udp, "www.both.example", third).await;
        assert_eq!((data, option), (7, Some(vec![0, 1, 32, 0, 198, 51, third, 9])), "for everyone");
    }
    assert_eq!(heard(&stranger, "www.both.example"), None);
    assert_eq!(stranger.questions(), 1);
    mute.asked(1).await;
    assert_eq!(told(&mute.log()[0]), Some(vec![0, 1, 24, 0, 198, 51, 1]));
}

#[tokio::test]
async fn ecs_03_what_breaks_the_form_of_the_option_is_formerr_with_an_opt_over_each_transport() {
    let rig = Rig::with("[privacy]\necs = \"forward\"\n").await;
    rig.upstream.script(tailored);
    let broken = [
        ("another family", &[0, 3, 8, 0, 1][..]),
        ("too many bits of IPv4", &[0, 1, 33, 0, 198, 51, 100, 9, 0]),
        ("too many bits of IPv6", &[0, 2, 129, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("a scope", &[0, 1, 24, 24, 198, 51, 100]),
        ("an octet too few", &[0, 1, 24, 0, 198, 51]),
        ("an octet too many", &[0, 1, 24, 0, 198, 51, 100, 0]),
        ("a bit behind the last", &[0, 1, 23, 0, 198, 51, 101]),
        ("no length", &[0, 1]),
        ("nothing", &[]),
    ];
    over_all!(Transport::ALL, |transport| {
        for (what, option) in broken {
            let reply = rig.ask(transport, &Ask::a("0.example.org").id(0).option(8, option).bytes()).await.message;
            assert_eq!((message::rcode(&reply), message::counts(&reply)[1]), (1, 0), "{what}");
            assert!(message::options(&reply).is_some() && message::option(&reply, 8).is_none(), "{what}");
        }
    });
    assert_eq!(rig.upstream.count(), 0);
    // No bit of any family is nothing told, and no fault.
    let hidden = Ask::a("0.example.org").option(8, &[0, 9, 0, 0]).bytes();
    assert_eq!(message::rcode(&rig.ask(Transport::Udp, &hidden).await.message), 0);
    let log = rig.upstream.log();
    let asked = log.iter().find(|asked| !asked.name().is_empty()).unwrap();
    assert_eq!(told(asked), Some(NOTHING.to_vec()));
}

#[tokio::test]
async fn ecs_02_ecs_07_ecs_09_and_ecs_13_whom_an_answer_for_all_and_a_denial_serve_over_each_transport() {
    let rig = Rig::with("[privacy]\necs = \"forward\"\n").await;
    rig.upstream.script(|asked| match asked.name().split('.').next() {
        Some("none") => Act::Answer(Answer::new().a(300, [192, 0, 2, 1])),
        Some("denied") => {
            let mut data = told(asked).unwrap_or_default();
            let Some(scope) = data.get_mut(3) else { return Act::Silence };
            *scope = 24;
            Act::Answer(Answer::new().rcode(3).soa("example.org", 60, 60).opt(&[(8, &data)]))
        }
        _ => tailored(asked),
    });
    over_all!(Transport::ALL, |transport| {
        let asked = async |label: &str, option: &[u8]| {
            let before = rig.upstream.count();
            let ask = Ask::a(&format!("{label}.{}.example.org", transport.name())).id(0).option(8, option);
            let reply = rig.ask(transport, &ask.bytes()).await.message;
            (message::option(&reply, 8).map(|data| data[3]), rig.upstream.count() - before)
        };
        for label in ["none", "denied", "0"] {
            assert_eq!(asked(label, &[0, 1, 24, 0, 198, 51, 1]).await, (Some(0), 1), "{label}");
            assert_eq!(asked(label, &[0, 1, 24, 0, 203, 0, 113]).await, (Some(0), 0), "{label}");
            assert_eq!(asked(label, &[0, 2, 32, 0, 0x20, 1, 0xd, 0xb8]).await, (Some(0), 0), "{label}");
        }
        // Who wants nothing told has its own answer, whoever asked before.
        assert_eq!(asked("0", &NOTHING).await, (Some(0), 1));
        assert_eq!(asked("0", &NOTHING).await, (Some(0), 0));
        assert_eq!(told(rig.upstream.log().last().unwrap()), Some(NOTHING.to_vec()));
    });
}

#[tokio::test]
async fn ecs_12_a_server_that_refuses_to_know_is_asked_without_an_address_over_each_transport() {
    let rig = Rig::with("[privacy]\necs = \"forward\"\n").await;
    rig.upstream.script(|asked| match told(asked) {
        Some(data) if data[2] > 0 => Act::Answer(Answer::new().rcode(5)),
        Some(_) | None => Act::Answer(Answer::new().a(300, [192, 0, 2, 1])),
    });
    over_all!(Transport::ALL, |transport| {
        let name = format!("{}.example.org", transport.name());
        let (data, option) = ask(&rig, transport, &name, 1).await;
        // Nothing says that what is told to nobody is for others.
        assert_eq!((data, option), (1, Some(vec![0, 1, 32, 24, 198, 51, 1, 9])));
        let log = rig.upstream.log();
        let last: Vec<_> = log.iter().filter(|asked| asked.name() == name).map(told).collect();
        assert_eq!(last.first(), Some(&Some(vec![0, 1, 24, 0, 198, 51, 1])));
        assert!(last.len() == 2 && last[1].as_ref().is_none_or(|data| *data == NOTHING), "{last:?}");
    });
}

#[tokio::test]
async fn ecs_15_who_claims_another_network_and_whose_own_is_private_is_not_told_of_over_each_transport() {
    let rig = Rig::with("[privacy]\necs = { add = { v4 = 24, v6 = 56 } }\n").await;
    rig.upstream.script(tailored);
    over_all!(Transport::ALL, |transport| {
        for (client, option) in [
            ("elsewhere", &[0, 1, 24, 0, 198, 51, 100][..]),
            ("own", &[0, 1, 32, 0, 127, 0, 0, 1]),
            ("six", &[0, 2, 56, 0, 0x20, 1, 0xd, 0xb8, 0, 0, 0]),
        ] {
            let name = format!("{client}.{}.example.org", transport.name());
            let reply = rig.ask(transport, &Ask::a(&name).id(0).option(8, option).bytes()).await.message;
            assert_eq!((message::rcode(&reply), message::option(&reply, 8).as_deref()), (0, Some(option)), "{name}");
        }
    });
    assert!(rig.upstream.log().iter().all(|asked| told(asked).is_none()));
    assert_eq!(rig.upstream.count(), 3 * Transport::ALL.len());
}
