//! Plain DNS toward upstreams (STANDARDS groups SPF, CKI and EDN, the upstream's side): letters in random case, client cookies,
//! servers from before EDNS.

use std::collections::HashSet;

use hushgate::peer::Transport;

use crate::harness::upstream::Asked;
use crate::harness::{Act, Answer, Ask, Rig, client, message};
use crate::over_all;

fn good() -> Answer {
    Answer::new().a(300, [192, 0, 2, 1])
}

/// The question of a message as it is spelled there.
fn question(message: &[u8]) -> &[u8] {
    &message[12..message::question_end(message)]
}

/// What the upstream was asked of `domain` over UDP.
fn datagrams(rig: &Rig, domain: &str) -> Vec<Asked> {
    rig.upstream.log().into_iter().filter(|asked| !asked.tcp && asked.name().ends_with(domain)).collect()
}

#[tokio::test]
async fn spf_07_upstreams_see_random_letter_case_and_gen_04_clients_their_own() {
    let rig = Rig::start().await;
    // The owner of the first record is a pointer, that of the second is spelled out as the question was.
    rig.upstream.script(|asked| {
        let mut message = good().to(&asked.message);
        message[7] = 2;
        let end = message::question_end(&asked.message);
        message.extend_from_slice(&asked.message[12..end - 4]);
        message.extend([0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, 2]);
        Act::Raw(message)
    });
    over_all!(Transport::ALL, |transport| {
        let name = format!("{}.SoMe.LeTtErS.Example.org", transport.name());
        let ask = Ask::a(&name).id(0);
        // The second comes from the cache.
        for _ in 0..2 {
            let answered = rig.ask(transport, &ask.bytes()).await.message;
            assert_eq!(question(&answered), question(&ask.bytes()));
            let owner = message::name(&name);
            let at = message::question_end(&answered) + 16;
            let spelled = &answered[at..at + owner.len()];
            // Servers are asked in lower case and answer in it; no letter of theirs is left.
            assert!(spelled == owner.to_ascii_lowercase() || spelled[..2] == [0xc0, 12], "{answered:02x?}");
        }
    });
    let mut seen = HashSet::new();
    for number in 0..20 {
        rig.ask(Transport::Udp, &Ask::a(&format!("{number}.the-same-letters.example.org")).bytes()).await;
    }
    for asked in datagrams(&rig, "the-same-letters.example.org") {
        let end = message::question_end(&asked.message);
        seen.insert(asked.message[end - 34..end].to_vec());
    }
    assert!(seen.len() > 15, "{} spellings", seen.len());
}

#[tokio::test]
async fn spf_07_an_answer_in_another_case_is_asked_for_again_over_tcp() {
    let rig = Rig::start().await;
    rig.upstream.script(|asked| {
        let mut message =
            Answer::new().a(300, if asked.tcp { [192, 0, 2, 1] } else { [6, 6, 6, 6] }).to(&asked.message);
        let end = message::question_end(&message) - 4;
        if !asked.tcp {
            message[12..end].make_ascii_lowercase();
        }
        Act::Raw(message)
    });
    let ask = Ask::a("A-Name-Of-Many-Letters.example.org");
    let answered = rig.ask(Transport::Udp, &ask.bytes()).await.message;
    assert!(answered.ends_with(&[192, 0, 2, 1]));
    assert_eq!(question(&answered), question(&ask.bytes()));
}

#[tokio::test]
async fn cki_19_the_upstream_is_shown_a_cookie_over_plain_udp_and_its_own_again() {
    let rig = Rig::start().await;
    rig.upstream.script(|asked| {
        let shown = message::option(&asked.message, 10).unwrap_or_default();
        let given = [shown.get(..8).unwrap_or_default(), &[0x77; 16]].concat();
        Act::Answer(good().opt(&[(10, &given)]))
    });
    for number in 0..3 {
        let theirs = b"client!!";
        let ask = Ask::a(&format!("{number}.jar.example.org")).option(10, theirs);
        let answered = rig.ask(Transport::Udp, &ask.bytes()).await.message;
        let told = message::option(&answered, 10).unwrap();
        assert!(told.starts_with(theirs) && !told.ends_with(&[0x77; 16]), "CKI-23: each hop has its own");
    }
    let shown: Vec<Vec<u8>> =
        datagrams(&rig, "jar.example.org").iter().map(|asked| message::option(&asked.message, 10).unwrap()).collect();
    assert!(shown.iter().all(|cookie| !cookie.starts_with(b"client!!")));
    assert_eq!((shown[1].len(), &shown[1]), (24, &shown[2]));
    assert!(shown[1].ends_with(&[0x77; 16]));
}

#[tokio::test]
async fn cki_20_an_upstream_without_cookies_is_not_shown_another() {
    let rig = Rig::start().await;
    for number in 0..3 {
        rig.ask(Transport::Udp, &Ask::a(&format!("{number}.dry.example.org")).bytes()).await;
    }
    // The readiness probe may have been first.
    let shown = rig.upstream.log().iter().filter(|asked| message::option(&asked.message, 10).is_some()).count();
    assert!(shown <= 2, "{shown} cookies");
    assert_eq!(message::option(&datagrams(&rig, "2.dry.example.org")[0].message, 10), None);
}

#[tokio::test]
async fn cookies_client_false_shows_none() {
    let rig = Rig::with("[cookies]\nclient = false").await;
    rig.ask(Transport::Udp, &Ask::a("none.example.org").edns().bytes()).await;
    assert!(rig.upstream.log().iter().all(|asked| message::option(&asked.message, 10).is_none()));
}

#[tokio::test]
async fn cki_22_badcookie_never_reaches_a_client() {
    let rig = Rig::start().await;
    rig.upstream.script(|asked| {
        let shown = message::option(&asked.message, 10).unwrap_or_default();
        let given = [shown.get(..8).unwrap_or_default(), &[0x55; 8]].concat();
        let strict = !asked.tcp && !shown.ends_with(&[0x55; 8]);
        Act::Answer(if strict { Answer::new().extended(23, &[(10, &given)]) } else { good().opt(&[(10, &given)]) })
    });
    over_all!(Transport::ALL, |transport| {
        let ask = Ask::a(&format!("{}.strict.example.org", transport.name())).id(0);
        let answered = rig.ask(transport, &ask.bytes()).await.message;
        assert_eq!((message::rcode(&answered), message::counts(&answered)[1]), (0, 1));
    });
}

#[tokio::test]
async fn edn_16_an_upstream_from_before_edns_serves_all_but_those_who_want_dnssec() {
    let rig = Rig::start().await;
    rig.upstream.script(|asked| {
        let edns = message::options(&asked.message).is_some();
        Act::Answer(if edns { Answer::new().rcode(1) } else { good() })
    });
    over_all!(Transport::ALL, |transport| {
        let name = format!("{}.old.example.org", transport.name());
        let answered = rig.ask(transport, &Ask::a(&name).id(0).edns().bytes()).await.message;
        assert_eq!((message::rcode(&answered), message::counts(&answered)[1]), (0, 1));
        let signed = rig.ask(transport, &Ask::a(&name).id(0).dnssec().bytes()).await.message;
        assert_eq!((message::rcode(&signed), message::counts(&signed)[1]), (2, 0));
    });
    let last = rig.upstream.count();
    rig.ask(Transport::Udp, &Ask::a("again.old.example.org").bytes()).await;
    assert_eq!(rig.upstream.count(), last + 1, "it is remembered");
}

#[tokio::test]
async fn spf_06_a_flood_of_guesses_moves_the_question_to_tcp() {
    let rig = Rig::start().await;
    rig.upstream.script(|asked| {
        if asked.tcp {
            return Act::Answer(good());
        }
        let mut forged = Answer::new().a(300, [6, 6, 6, 6]).to(&asked.message);
        let guesses = (1..=40u8).map(|guess| {
            forged[1] = asked.message[1] ^ guess;
            forged.clone()
        });
        Act::Several(guesses.collect())
    });
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(rig.dns()).await.unwrap();
    socket.send(&Ask::a("siege.example.org").bytes()).await.unwrap();
    let mut buffer = [0; 600];
    let length = tokio::time::timeout(client::PATIENCE, socket.recv(&mut buffer)).await.unwrap().unwrap();
    assert!(buffer[..length].ends_with(&[192, 0, 2, 1]));
}
