//! `explain` through the real admin listener: the road of a question as it was really walked.

use hushgate::admin::{Explained, Outcome};
use hushgate::peer::Transport;

use crate::admin::{get, scrape_until};
use crate::harness::{Act, Answer, Ask, Rig, client, message};
use crate::over_all;

/// The road of a question; `query` is what comes after `?`.
async fn explain(rig: &Rig, query: &str) -> Explained {
    let page = get(rig.admin(), &format!("/api/explain?{query}")).await;
    assert_eq!(page.status, 200, "{page:?}");
    serde_json::from_str(&page.body).unwrap_or_else(|error| panic!("{error}: {page:?}"))
}

/// RCODE, extended error, source and answer records of a road that ended in a reply.
fn replied(road: &Explained) -> (&str, Option<&str>, &str, &[String]) {
    match &road.outcome {
        Outcome::Replied { rcode, ede, source, answer, .. } => (rcode, ede.as_deref(), source, answer),
        Outcome::Dropped { reason } => panic!("no reply: {reason}"),
    }
}

fn ends(road: &Explained) -> Vec<&str> {
    road.attempts.iter().map(|attempt| attempt.end.as_ref()).collect()
}

#[tokio::test]
async fn a_miss_and_then_a_hit_are_told_with_key_age_and_supplier() {
    let rig = Rig::start().await;
    let server = format!("udp://{}", rig.upstream.address);
    let miss = explain(&rig, "name=WWW.Example.org&type=A").await;
    assert_eq!((miss.question.as_str(), miss.cache.outcome.as_ref()), ("WWW.Example.org. A IN", "miss"));
    assert_eq!((miss.access.as_ref(), miss.join.as_ref()), ("allowed", "asked for this client"));
    assert_eq!((miss.cache.age, miss.cache.ttl_left, miss.cache.supplier.as_deref()), (None, None, None));
    assert_eq!((miss.attempts_made, ends(&miss)), (1, vec!["answered"]));
    assert_eq!(miss.attempts[0].server, server);
    assert!(miss.attempts[0].micros > 0 && miss.attempts[0].micros <= miss.micros, "{miss:?}");
    assert_eq!(replied(&miss).2, "upstream");
    rig.pass(7);
    let hit = explain(&rig, "name=www.example.ORG&type=A").await;
    let key = &hit.cache.key;
    assert_eq!((key.name.as_str(), key.rtype.as_str(), key.class.as_str()), ("www.example.org.", "A", "IN"));
    assert_eq!((key.dnssec_ok, key.checking_disabled, &key.route), (false, false, &miss.cache.key.route));
    assert_eq!((hit.cache.outcome.as_ref(), hit.cache.age), ("hit", Some(7)));
    // It may expire up to a twentieth early.
    assert!(hit.cache.ttl_left.is_some_and(|left| (278..=293).contains(&left)), "{hit:?}");
    assert_eq!(hit.cache.supplier.as_deref(), Some(server.as_str()));
    assert_eq!((hit.join.as_ref(), hit.attempts_made), ("not needed", 0));
    assert_eq!(rig.upstream.count(), 1);
    assert_eq!((miss.cache.hits, hit.cache.hits), (None, Some(0)));
    rig.ask(Transport::Udp, &Ask::a("www.example.org").bytes()).await;
    let hit = explain(&rig, "name=www.example.org&type=A").await;
    assert_eq!(hit.cache.hits, Some(2), "the look before was a question too");
}

#[tokio::test]
async fn hits_are_those_of_the_answer_that_was_served() {
    let rig = Rig::start().await;
    rig.upstream.always(Answer::new().rcode(3).soa("example.org", 300, 300));
    for rtype in ["A", "AAAA", "MX"] {
        let road = explain(&rig, &format!("name=gone.example.org&type={rtype}")).await;
        assert_eq!(replied(&road).0, "NXDOMAIN");
    }
    let road = explain(&rig, "name=gone.example.org&type=TXT").await;
    assert_eq!((road.cache.outcome.as_ref(), road.cache.hits), ("hit", Some(2)), "what holds for all types");
}

#[tokio::test]
async fn what_is_told_is_what_a_client_gets() {
    let rig = Rig::start().await;
    over_all!(Transport::ALL, |transport| {
        let name = format!("{}.same.example.org", transport.name());
        rig.ask(transport, &Ask::a(&name).id(0).edns().bytes()).await;
        rig.pass(5);
        let road = explain(&rig, &format!("name={name}&type=A&door={}", transport.name())).await;
        let answered = rig.ask(transport, &Ask::a(&name).id(0).edns().bytes()).await.message;
        let parsed = message::read(&answered);
        let records: Vec<String> = parsed.answers.iter().map(ToString::to_string).collect();
        assert_eq!(message::ttls(&answered), [295]);
        assert_eq!(replied(&road), ("NOERROR", None, "cache", &records[..]));
        let has_opt = message::options(&answered).is_some();
        assert_eq!(road.added.iter().any(|words| words == "OPT"), has_opt);
        let octets = match road.outcome {
            Outcome::Replied { octets, .. } => octets,
            Outcome::Dropped { .. } => 0,
        };
        assert_eq!(octets, answered.len());
    });
}

#[tokio::test]
async fn every_door_can_be_asked_for_and_is_named() {
    let rig = Rig::start().await;
    let doors = [
        (Transport::Udp, rig.dns()),
        (Transport::Tcp, rig.dns()),
        (Transport::Dot, rig.dot()),
        (Transport::Doh1, rig.doh()),
        (Transport::Doh2, rig.doh()),
        (Transport::Doh3, rig.doh()),
        (Transport::Doq, rig.doq()),
    ];
    for (transport, address) in doors {
        let road = explain(&rig, &format!("name=a.example.org&door={}", transport.name())).await;
        assert_eq!(road.transport, transport.name());
        assert!(road.door.contains(&address.to_string()), "{} is not {address}", road.door);
    }
    let road = explain(&rig, "name=a.example.org&door=doh").await;
    assert_eq!(road.transport, Transport::Doh2.name());
}

#[tokio::test]
async fn clients_outside_access_are_told_apart_from_those_inside() {
    let rig = Rig::with("[access]\nallow = [\"127.0.0.0/8\", \"198.51.100.0/24\"]").await;
    let outside = explain(&rig, "name=a.example.org&from=203.0.113.9").await;
    assert_eq!((outside.access.as_ref(), outside.client.to_string().as_str()), ("denied", "203.0.113.9"));
    let (rcode, ede, source, answer) = replied(&outside);
    assert_eq!((rcode, source, answer.len()), ("REFUSED", "error", 0));
    assert_eq!(ede, Some("18 (Prohibited)"));
    assert_eq!(outside.cache.outcome, "not asked");
    assert_eq!(rig.upstream.count(), 0);
    let inside = explain(&rig, "name=a.example.org&from=198.51.100.9").await;
    assert_eq!((inside.access.as_ref(), inside.limit.as_ref()), ("allowed", "within the client's rate"));
    assert_eq!(replied(&inside).0, "NOERROR");

    let rig = Rig::with("[access]\nrefuse = \"drop\"").await;
    let outside = explain(&rig, "name=a.example.org&from=203.0.113.9&door=udp").await;
    assert_eq!(outside.access, "denied");
    assert!(matches!(&outside.outcome, Outcome::Dropped { reason } if reason.contains("access.refuse")));
}

#[tokio::test]
async fn a_truncated_answer_asked_again_over_tcp_is_two_attempts() {
    let rig = Rig::start().await;
    rig.upstream.script(|asked| {
        let answer = Answer::new();
        Act::Answer(if asked.tcp { answer.big(3000, 300) } else { answer.flag(0x0200) })
    });
    let road = explain(&rig, "name=big.example.org&type=TXT&door=udp").await;
    assert_eq!((road.attempts_made, ends(&road)), (2, vec!["truncated, asked again over TCP", "answered"]));
    assert!(road.attempts.iter().all(|attempt| attempt.micros > 0), "{road:?}");
    assert_eq!(road.cut, ["the answer, TC set"], "3000 octets do not fit a datagram");
    let road = explain(&rig, "name=big.example.org&type=TXT&door=dot").await;
    assert_eq!((road.cache.outcome.as_ref(), road.cut.len()), ("hit", 0));
    assert!(!replied(&road).3.is_empty());
}

#[tokio::test]
async fn ede_06_a_failure_that_is_remembered_is_told_with_the_time_it_has_left() {
    let rig = Rig::start().await;
    rig.upstream.always(Answer::new().rcode(2));
    let first = explain(&rig, "name=broken.example.org").await;
    assert_eq!((replied(&first).0, first.cache.outcome.as_ref()), ("SERVFAIL", "miss"));
    assert!(first.attempts_made >= 1 && ends(&first).iter().all(|end| *end == "answered with a failure"), "{first:?}");
    let asked = rig.upstream.count();
    rig.pass(2);
    let second = explain(&rig, "name=broken.example.org").await;
    assert_eq!((second.cache.outcome.as_ref(), second.cache.ttl_left), ("failure", Some(3)));
    assert_eq!((replied(&second).0, replied(&second).1), ("SERVFAIL", Some("13 (Cached Error)")));
    assert_eq!((second.attempts_made, rig.upstream.count()), (0, asked));
    assert!(second.added.iter().any(|words| words == "extended error"), "{second:?}");
}

#[tokio::test]
async fn a_silent_upstream_is_told_as_attempts_that_timed_out() {
    let sets = ["upstream.attempt_timeout=\"100ms\"", "upstream.timeout=\"500ms\""];
    let rig = Rig::set("", &sets).await;
    rig.upstream.script(|_| Act::Silence);
    let road = explain(&rig, "name=silent.example.org&door=udp").await;
    assert!(road.attempts_made >= 1 && ends(&road).iter().all(|end| *end == "timed out"), "{road:?}");
    assert!(road.attempts.iter().all(|attempt| attempt.micros >= 90_000), "{road:?}");
    assert_eq!(replied(&road).0, "SERVFAIL");
}

#[tokio::test]
async fn a_question_that_joined_an_equal_one_says_so() {
    let rig = Rig::start().await;
    rig.upstream.script(|_| Act::Hold(Answer::new().a(300, [192, 0, 2, 1])));
    let mut leader = rig.dot_stream().await;
    client::send_framed(&mut leader, &Ask::a("joined.example.org").bytes()).await.unwrap();
    rig.upstream.asked(1).await;
    let releasing = async {
        scrape_until(rig.admin(), |now| now.value("joined_total") > 0.5).await;
        rig.upstream.release();
    };
    let (road, ()) = tokio::join!(explain(&rig, "name=joined.example.org&door=dot"), releasing);
    assert_eq!((road.cache.outcome.as_ref(), road.join.as_ref()), ("miss", "joined an equal question in flight"));
    assert_eq!((road.attempts_made, rig.upstream.count()), (1, 1));
    assert_eq!(replied(&road).0, "NOERROR");
    client::read_framed(&mut leader).await.unwrap();
}

#[tokio::test]
async fn what_is_answered_here_is_told_as_such() {
    let rig = Rig::start().await;
    let road = explain(&rig, "name=localhost&type=AAAA").await;
    assert_eq!(
        (road.decision.as_ref(), road.cache.outcome.as_ref()),
        ("answered here: a special name (see [special])", "not asked")
    );
    let (rcode, _, source, answer) = replied(&road);
    assert_eq!((rcode, source), ("NOERROR", "local"));
    assert!(answer[0].ends_with("::1"), "{answer:?}");
    assert_eq!(rig.upstream.count(), 0);
}

#[tokio::test]
async fn what_cannot_be_explained_is_an_error_in_json() {
    let rig = Rig::start().await;
    for query in ["", "name=a..b", "name=a.example&type=NOTYPE", "name=a.example&from=here", "name=a&door=fax", "x=1"] {
        let page = get(rig.admin(), &format!("/api/explain?{query}")).await;
        assert_eq!(page.status, 400, "{query}");
        assert!(page.json()["error"].is_string());
    }
}

#[tokio::test]
async fn what_is_answered_here_is_told_with_its_reason_and_counted() {
    let rig = Rig::with(
        "[dns64]\nprefix = \"64:ff9b::/96\"\n[tls]\nnames = [\"localhost\", \"dns.example\", \"127.0.0.1\"]\n",
    )
    .await;
    for (query, expected) in [
        ("name=printer.local", "a special name"),
        ("name=ipv4only.arpa&type=AAAA", "how addresses are synthesised"),
        ("name=a.onion", "a special name"),
        ("name=_dns.resolver.arpa&type=64", "what the gateway says of itself"),
        ("name=example.org&type=AXFR", "this type is not served"),
    ] {
        let road = explain(&rig, query).await;
        assert!(road.decision.starts_with("answered here: ") && road.decision.contains(expected), "{query}: {road:?}");
    }
    assert_eq!(rig.upstream.count(), 0);
    scrape_until(rig.admin(), |now| {
        now.value("local_total{reason=\"special\"}") > 1.5 && now.value("local_total{reason=\"type\"}") > 0.5
    })
    .await;
}

#[tokio::test]
async fn what_a_server_was_told_of_a_client_and_what_was_synthesised_is_told() {
    let rig = Rig::with("[dns64]\nprefix = \"64:ff9b::/96\"\n[privacy]\necs = { fixed = \"203.0.113.0/24\" }\n").await;
    rig.upstream.script(|asked| {
        Act::Answer(match asked.rtype() {
            1 => Answer::new().a(120, [192, 0, 2, 1]),
            _ => Answer::new().soa("example", 200, 200),
        })
    });
    let road = explain(&rig, "name=v4.example&type=AAAA").await;
    assert_eq!(road.attempts.iter().map(|attempt| attempt.why.as_ref()).collect::<Vec<_>>(), ["first", "dns64"]);
    for attempt in &road.attempts {
        assert_eq!(attempt.told.as_deref(), Some("told the network of privacy.ecs or its own ecs"));
    }
    for _ in 0..2 {
        let road = explain(&rig, "name=v4.example&type=AAAA").await;
        assert_eq!(replied(&road).1, Some("29 (Synthesized)"), "{road:?}");
    }
    scrape_until(rig.admin(), |now| now.value("synthesised_total") > 0.5 && now.value("subnets_told_total") > 1.5)
        .await;
}
