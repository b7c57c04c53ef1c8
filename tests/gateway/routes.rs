//! Which upstream is asked, how long, and what it never learns or decides.

use std::time::{Duration, Instant};

use hushgate::peer::Transport;

use crate::harness::{Act, Answer, Ask, Rig, Upstream, message};
use crate::over_all;

fn good() -> Answer {
    Answer::new().a(300, [192, 0, 2, 1])
}

fn last(octet: u8) -> Answer {
    Answer::new().a(300, [192, 0, 2, octet])
}

/// A gateway in front of these upstreams alone.
async fn before(servers: &[&Upstream], fallback: &[&Upstream]) -> Rig {
    let list = |upstreams: &[&Upstream]| {
        let urls: Vec<String> = upstreams.iter().map(|upstream| format!("\"udp://{}\"", upstream.address)).collect();
        format!("[{}]", urls.join(","))
    };
    let (servers, fallback) = (list(servers), list(fallback));
    let sets = [format!("upstream.servers={servers}"), format!("upstream.fallback={fallback}")];
    let times = ["upstream.attempt_timeout=400ms", "upstream.timeout=3s"];
    Rig::set("", &[&sets[0], &sets[1], times[0], times[1], "upstream.strategy=\"ordered\""]).await
}

#[tokio::test]
async fn servers_are_asked_in_order_and_the_fallback_only_when_none_of_them_answers() {
    let (first, second, fallback) = (Upstream::start().await, Upstream::start().await, Upstream::start().await);
    let rig = before(&[&first, &second], &[&fallback]).await;
    first.always(last(1));
    second.always(last(2));
    fallback.always(last(3));
    for (step, octet) in [1, 2, 2, 3, 2].into_iter().enumerate() {
        match step {
            1 => first.script(|_| Act::Silence),
            2 => first.always(Answer::new().rcode(2)),
            3 => {
                first.script(|_| Act::Silence);
                second.script(|_| Act::Silence);
            }
            4 => {
                second.always(last(2));
                // It is down, so the fallback stands in until a probe has been answered.
                let mut asked = 0;
                let is_back = |message: &[u8]| message.ends_with(&[192, 0, 2, 2]);
                let until = Instant::now() + Duration::from_secs(20);
                while !is_back(
                    &rig.ask(Transport::Udp, &Ask::a(&format!("{asked}.back.example.org")).bytes()).await.message,
                ) {
                    assert!(Instant::now() < until, "it is probed");
                    asked += 1;
                }
            }
            _ => {}
        }
        over_all!([Transport::Udp, Transport::Tcp, Transport::Doh2, Transport::Doq], |transport| {
            let name = format!("step{step}.{}.example.org", transport.name());
            let answered = rig.ask(transport, &Ask::a(&name).id(0).bytes()).await.message;
            assert!(answered.ends_with(&[192, 0, 2, octet]), "step {step}: {answered:02x?}");
        });
    }
}

#[tokio::test]
async fn neg_15_a_silent_upstream_hears_a_question_three_times_and_the_client_a_servfail_in_time() {
    let rig = Rig::set("", &["upstream.timeout=350ms", "upstream.attempt_timeout=100ms"]).await;
    rig.upstream.script(|_| Act::Silence);
    over_all!(Transport::ALL, |transport| {
        let name = format!("{}.silent.example.org", transport.name());
        let started = Instant::now();
        let answered = rig.ask(transport, &Ask::a(&name).id(0).edns().bytes()).await.message;
        assert_eq!((message::rcode(&answered), message::ede(&answered)), (2, Some(22)));
        // Four seconds are the default, and a slow machine adds to what it is set to.
        assert!(started.elapsed() < Duration::from_millis(3500), "{:?}", started.elapsed());
        let sent = rig.upstream.log().iter().filter(|asked| asked.name() == name).count();
        assert!((1..=3).contains(&sent), "{sent} times");
    });
}

#[tokio::test]
async fn edn_11_edn_13_ecs_01_ecs_16_and_cki_23_nothing_of_a_clients_opt_reaches_the_upstream() {
    let rig = Rig::start().await;
    rig.upstream.always(good().opt(&[(10, &[9; 24]), (8, &[0, 1, 24, 24, 198, 51, 100]), (3, b"ns1"), (65_001, b"x")]));
    over_all!(Transport::ALL, |transport| {
        for size in [0, 512, 4096, 65_535] {
            let name = format!("{size}.{}.hop.example.org", transport.name());
            let mut ask = Ask::a(&name).id(0).size(size).option(8, &[0, 1, 24, 0, 198, 51, 100]);
            ask = ask.option(10, &[1, 2, 3, 4, 5, 6, 7, 8]).option(12, &[0; 31]).option(3, &[]).option(65_001, b"mine");
            if transport != Transport::Doq {
                ask = ask.option(11, &[]);
            }
            let answered = rig.ask(transport, &ask.bytes()).await.message;
            for code in [8, 65_001] {
                assert_eq!(message::option(&answered, code), None, "option {code} comes back");
            }
            assert_ne!(message::option(&answered, 10), Some(vec![9; 24]), "CKI-23");
            assert!(message::option(&answered, 10).is_none_or(|cookie| cookie.starts_with(&[1, 2, 3, 4, 5, 6, 7, 8])));
            let log = rig.upstream.log();
            let asked = log.iter().find(|asked| asked.name() == name).unwrap();
            let sent = message::options(&asked.message).unwrap_or_default();
            assert!(sent.iter().all(|(code, _)| ![3, 8, 12, 65_001].contains(code)), "{sent:?}");
            let is_ours = |data: &[u8]| asked.tcp && data.is_empty();
            assert!(sent.iter().all(|(code, data)| *code != 11 || is_ours(data)), "KAL-08: {sent:?}");
            assert!(sent.iter().all(|(_, data)| !data.starts_with(&[1, 2, 3, 4, 5, 6, 7, 8])), "{sent:?}");
            let opt = message::question_end(&asked.message) + 3;
            assert_eq!(asked.message[opt..opt + 2], 1232_u16.to_be_bytes(), "EDN-11");
        }
        // CKI-23: another client, another cookie, the same entry.
        let before = rig.upstream.count();
        let name = format!("512.{}.hop.example.org", transport.name());
        rig.ask(transport, &Ask::a(&name).id(0).option(10, &[8; 8]).option(8, &[0, 1, 0, 0]).bytes()).await;
        assert_eq!(rig.upstream.count(), before);
    });
}

#[tokio::test]
async fn edn_15_rcodes_of_the_upstreams_leg_never_reach_a_client() {
    let rig = Rig::start().await;
    over_all!(Transport::ALL, |transport| {
        for rcode in [16, 23] {
            rig.upstream.always(Answer::new().extended(rcode, &[]));
            for ask in [Ask::a("x"), Ask::a("x").edns()] {
                let edns = ask.edns.is_some();
                let ask = Ask { name: format!("{rcode}.{edns}.{}.example.org", transport.name()), ..ask.id(0) };
                let answered = rig.ask(transport, &ask.bytes()).await.message;
                let whole = message::read(&answered).metadata.response_code;
                assert_eq!(u16::from(whole), 2, "{rcode} with EDNS {edns}");
            }
        }
    });
}

#[tokio::test]
async fn dot_09_an_untrusted_upstream_gets_no_octet_of_dns_and_clients_a_servfail() {
    let other = Rig::start().await;
    let doors = [
        format!("tls://{}", other.dot()),
        format!("https://{}/dns-query", other.doh()),
        format!("h3://{}/dns-query", other.doh()),
        format!("quic://{}", other.doq()),
    ];
    for url in doors {
        let servers = format!("upstream.servers=[\"{url}\"]");
        let rig = Rig::set("", &[&servers, "upstream.timeout=1500ms"]).await;
        over_all!([Transport::Udp, Transport::Dot, Transport::Doh2, Transport::Doq], |transport| {
            let answered = rig.ask(transport, &Ask::a("secret.example.org").id(0).edns().bytes()).await.message;
            assert_eq!(message::rcode(&answered), 2, "{url}");
            assert!([22, 23, 13].contains(&message::ede(&answered).unwrap()), "{url}");
        });
        assert_eq!(other.metric("hushgate_questions_total").await, 0, "{url}");
        assert_eq!(rig.upstream.count(), 0, "no clear text instead");
    }
    assert_eq!(other.upstream.count(), 0);
    // With the authority trusted the same upstreams answer: it was the certificate.
    let ca = other.folder().join("state/authority.pem");
    let server = format!("upstream.servers=[{{url=\"tls://{}\", ca=\"{}\"}}]", other.dot(), ca.display());
    let rig = Rig::set("", &[&server]).await;
    let answered = rig.ask(Transport::Udp, &Ask::a("secret.example.org").bytes()).await.message;
    assert_eq!(message::counts(&answered)[1], 1);
}
