//! How long an answer lives, and what is never kept (STANDARDS groups TTL and NEG), through the front doors.

use hushgate::peer::Transport;

use crate::harness::{Act, Answer, Ask, Rig, message};
use crate::over_all;

/// Asks twice with `seconds` between, and tells how often the upstream was asked and what came the second time.
async fn twice(rig: &Rig, transport: Transport, ask: &Ask, seconds: u64) -> (usize, Vec<u8>) {
    let before = rig.upstream.count();
    rig.ask(transport, &ask.bytes()).await;
    rig.pass(seconds);
    let second = rig.ask(transport, &ask.bytes()).await;
    (rig.upstream.count() - before, second.message)
}

#[tokio::test]
async fn ttl_01_every_ttl_falls_by_the_seconds_passed_and_the_opt_field_never_does() {
    let rig = Rig::start().await;
    rig.upstream.always(
        Answer::new()
            .a(300, [192, 0, 2, 1])
            .authority("example.org", 2, 600, &message::name("ns.example.org"))
            .additional("ns.example.org", 1, 900, &[192, 0, 2, 2]),
    );
    over_all!(Transport::ALL, |transport| {
        let ask = Ask::a(&format!("{}.ttl.example.org", transport.name())).id(0).dnssec();
        let (asked, second) = twice(&rig, transport, &ask, 3).await;
        assert_eq!(asked, 1);
        assert_eq!(message::ttls(&second), [297, 597, 897]);
        let edns = message::read(&second).edns.unwrap();
        assert!(edns.flags().dnssec_ok && edns.version() == 0);
    });
}

#[tokio::test]
async fn ttl_02_a_message_lives_as_long_as_its_shortest_record() {
    let rig = Rig::start().await;
    let authority = message::name("ns.example.org");
    rig.upstream.always(Answer::new().a(60, [192, 0, 2, 1]).authority("example.org", 2, 2, &authority));
    let (asked, _) = twice(&rig, Transport::Udp, &Ask::a("short.example.org"), 1).await;
    assert_eq!(asked, 1);
    let (asked, _) = twice(&rig, Transport::Udp, &Ask::a("shorter.example.org"), 3).await;
    assert_eq!(asked, 2);
}

#[tokio::test]
async fn ttl_03_and_ttl_05_a_huge_ttl_is_capped_and_the_top_bit_never_sent() {
    let rig = Rig::with("[cache]\nmax_ttl = \"7d\"").await;
    for (index, ttl) in [2_000_000, 0x8000_0000, u32::MAX].into_iter().enumerate() {
        rig.upstream.always(Answer::new().a(ttl, [192, 0, 2, 1]));
        let answered = rig.ask(Transport::Tcp, &Ask::a(&format!("huge{index}.example.org")).bytes()).await;
        assert_eq!(message::ttls(&answered.message), [604_800]);
    }
}

#[tokio::test]
async fn ttl_04_a_ttl_of_zero_is_relayed_and_never_kept() {
    let rig = Rig::start().await;
    rig.upstream.always(Answer::new().a(0, [192, 0, 2, 1]));
    over_all!(Transport::ALL, |transport| {
        let (asked, second) =
            twice(&rig, transport, &Ask::a(&format!("{}.zero.example.org", transport.name())).id(0), 0).await;
        assert_eq!((asked, message::ttls(&second)), (2, vec![0]));
    });
}

#[tokio::test]
async fn ttl_06_a_truncated_answer_is_never_kept() {
    let rig = Rig::start().await;
    // Cut over TCP as well: there is nothing whole to be had.
    rig.upstream.always(Answer::new().flag(0x0200).a(300, [192, 0, 2, 1]));
    over_all!(Transport::ALL, |transport| {
        let ask = Ask::a(&format!("{}.cut.example.org", transport.name())).id(0);
        for _ in 0..2 {
            let before = rig.upstream.count();
            let reply = rig.ask(transport, &ask.bytes()).await.message;
            assert_eq!(message::counts(&reply)[1], 0);
            assert!(rig.upstream.count() > before, "asked again");
        }
    });
}

#[tokio::test]
async fn ttl_10_errors_and_what_answers_something_else_are_never_kept_as_answers() {
    let rig = Rig::start().await;
    let strange = message::name("other.example.org");
    for (index, answer) in [
        Answer::new().rcode(2).a(300, [192, 0, 2, 1]),
        Answer::new().rcode(5).a(300, [192, 0, 2, 1]),
        Answer::new().rcode(6).a(300, [192, 0, 2, 1]),
        Answer::new().answer("other.example.org", 1, 300, &[6, 6, 6, 6]),
        Answer::new().answer("other.example.org", 5, 300, &strange),
    ]
    .into_iter()
    .enumerate()
    {
        rig.upstream.always(answer);
        let ask = Ask::a(&format!("strange{index}.example.org")).bytes();
        for transport in [Transport::Udp, Transport::Doh2] {
            let reply = rig.ask(transport, &ask).await.message;
            assert_ne!(message::rcode(&reply), 0, "{index}");
        }
        // What is remembered is a failure, which ends within seconds, whatever the TTL.
        rig.pass(6);
        rig.upstream.always(Answer::new().a(300, [192, 0, 2, 7]));
        let reply = rig.ask(Transport::Udp, &ask).await.message;
        assert!(reply.ends_with(&[192, 0, 2, 7]), "{index}");
    }
}

#[tokio::test]
async fn ttl_11_no_ttl_is_lifted_unless_somebody_says_so() {
    let rig = Rig::start().await;
    rig.upstream.always(Answer::new().a(1, [192, 0, 2, 1]));
    over_all!(Transport::ALL, |transport| {
        let ask = Ask::a(&format!("{}.brief.example.org", transport.name())).id(0);
        let (asked, second) = twice(&rig, transport, &ask, 2).await;
        assert_eq!((asked, message::ttls(&second)), (2, vec![1]));
    });
}

#[tokio::test]
async fn rules_say_how_long_the_names_below_a_domain_are_kept() {
    let rig = Rig::with(
        "[[cache.rule]]\ndomains = [\"corp.example\"]\nmax_ttl = \"60s\"\nnegative_ttl = \"5s\"\n\
         [[cache.rule]]\ndomains = [\"live.corp.example\"]\nnever = true\n",
    )
    .await;
    rig.upstream.script(|asked| {
        let denied = asked.name().starts_with("nx");
        let denial = Answer::new().rcode(3).soa("example", 300, 300);
        Act::Answer(if denied { denial } else { Answer::new().a(300, [192, 0, 2, 1]) })
    });
    over_all!(Transport::ALL, |transport| {
        let of = |name: &str| Ask::a(&format!("{name}.{}.corp.example", transport.name())).id(0);
        let (asked, second) = twice(&rig, transport, &of("a"), 10).await;
        assert_eq!((asked, message::ttls(&second)), (1, vec![50]));
        let (asked, second) = twice(&rig, transport, &of("nx"), 6).await;
        assert_eq!((asked, message::ttls(&second)), (2, vec![5]));
        let live = Ask::a(&format!("{}.live.corp.example", transport.name())).id(0);
        let (asked, second) = twice(&rig, transport, &live, 0).await;
        assert_eq!((asked, message::ttls(&second)), (2, vec![300]));
    });
}

#[tokio::test]
async fn ttl_07_one_full_answer_is_cut_for_each_client_by_itself() {
    let rig = Rig::start().await;
    rig.upstream.always(Answer::new().big(3000, 300));
    for order in [[Transport::Udp, Transport::Dot], [Transport::Dot, Transport::Udp]] {
        let name = format!("{}.big.example.org", order[0].name());
        for transport in order {
            let answered = rig.ask(transport, &Ask::new(&name, 16).id(0).bytes()).await.message;
            let truncated = message::flags(&answered) & 0x0200 != 0;
            assert_eq!(truncated, transport == Transport::Udp, "TC is for datagrams");
            assert!(transport != Transport::Udp || answered.len() <= 512);
        }
    }
    assert_eq!(rig.upstream.log().iter().filter(|asked| asked.name().starts_with("udp.big")).count(), 1);
}

#[tokio::test]
async fn ttl_08_the_cache_keeps_no_opt_and_a_client_without_edns_gets_none() {
    let rig = Rig::start().await;
    rig.upstream.always(Answer::new().a(300, [192, 0, 2, 1]).opt(&[(12, &[0; 40]), (10, &[7; 24])]));
    over_all!(Transport::ALL, |transport| {
        let name = format!("{}.opt.example.org", transport.name());
        let with = rig.ask(transport, &Ask::a(&name).id(0).option(10, &[1; 8]).bytes()).await.message;
        assert!(message::options(&with).is_some());
        let without = rig.ask(transport, &Ask::a(&name).id(0).bytes()).await.message;
        assert_eq!(message::options(&without), None, "EDN-02");
        assert_eq!(message::counts(&without)[3], 0);
    });
}

#[tokio::test]
async fn ttl_09_do_and_cd_split_the_cache() {
    let rig = Rig::start().await;
    let variants = [
        Ask::a("split.example.org"),
        Ask::a("split.example.org").dnssec(),
        Ask::a("split.example.org").flags(0x0110),
        Ask::a("split.example.org").flags(0x0110).dnssec(),
    ];
    for _ in 0..2 {
        for ask in &variants {
            rig.ask(Transport::Tcp, &ask.bytes()).await;
        }
    }
    assert_eq!(rig.upstream.count(), 4);
}

#[tokio::test]
async fn ttl_14_equal_questions_of_all_doors_are_asked_once() {
    let rig = Rig::start().await;
    rig.upstream.script(|_| Act::Hold(Answer::new().a(300, [192, 0, 2, 1])));
    let message = Ask::a("herd.example.org").id(0).bytes();
    let asking = async {
        tokio::join!(
            rig.ask(Transport::Udp, &message),
            rig.ask(Transport::Tcp, &message),
            rig.ask(Transport::Dot, &message),
            rig.ask(Transport::Doh1, &message),
            rig.ask(Transport::Doh2, &message),
            rig.ask(Transport::Doh3, &message),
            rig.ask(Transport::Doq, &message),
        )
    };
    let releasing = async {
        rig.upstream.asked(1).await;
        // Everyone else has either joined or will find the answer in the cache.
        rig.upstream.release();
    };
    tokio::join!(asking, releasing);
    assert_eq!(rig.upstream.count(), 1);
}

#[tokio::test]
async fn ttl_16_an_additional_record_never_becomes_an_answer() {
    let rig = Rig::start().await;
    rig.upstream.always(Answer::new().a(300, [192, 0, 2, 1]).additional("victim.example.org", 1, 300, &[6, 6, 6, 6]));
    rig.ask(Transport::Udp, &Ask::a("bait.example.org").bytes()).await;
    rig.upstream.always(Answer::new().a(300, [192, 0, 2, 5]));
    let answered = rig.ask(Transport::Udp, &Ask::a("victim.example.org").bytes()).await.message;
    assert!(answered.ends_with(&[192, 0, 2, 5]));
    assert_eq!(rig.upstream.count(), 2);
}

#[tokio::test]
async fn ttl_16_what_a_server_adds_to_an_answer_reaches_nobody() {
    let rig = Rig::start().await;
    rig.upstream.always(Answer::new().a(300, [192, 0, 2, 1]).answer("victim.example.org", 1, 300, &[6, 6, 6, 6]));
    over_all!(Transport::ALL, |transport| {
        let ask = Ask::a(&format!("{}.bait.example.org", transport.name())).id(0).bytes();
        for _ in 0..2 {
            let reply = rig.ask(transport, &ask).await.message;
            assert_eq!(message::counts(&reply)[1], 1);
            assert!(reply.ends_with(&[192, 0, 2, 1]));
        }
    });
}

#[tokio::test]
async fn neg_01_and_neg_04_a_negative_answer_lives_by_the_smaller_of_soa_ttl_and_minimum() {
    let rig = Rig::start().await;
    for (index, (ttl, minimum)) in [(3600, 5), (5, 3600)].into_iter().enumerate() {
        rig.upstream.always(Answer::new().rcode(3).soa("example.org", ttl, minimum));
        let ask = Ask::a(&format!("nx{index}.example.org"));
        let (asked, second) = twice(&rig, Transport::Udp, &ask, 3).await;
        assert_eq!((asked, message::rcode(&second), message::counts(&second)[2]), (1, 3, 1));
        rig.pass(3);
        let before = rig.upstream.count();
        rig.ask(Transport::Udp, &ask.bytes()).await;
        assert_eq!(rig.upstream.count(), before + 1, "after six seconds it is asked again");
    }
}

#[tokio::test]
async fn neg_02_nodata_is_for_its_type_alone() {
    let rig = Rig::start().await;
    rig.upstream.script(|asked| {
        Act::Answer(match asked.rtype() {
            28 => Answer::new().soa("example.org", 300, 300),
            _ => Answer::new().a(300, [192, 0, 2, 1]),
        })
    });
    rig.ask(Transport::Udp, &Ask::new("half.example.org", 28).bytes()).await;
    let answered = rig.ask(Transport::Udp, &Ask::a("half.example.org").bytes()).await.message;
    assert_eq!(message::counts(&answered)[1], 1);
}

#[tokio::test]
async fn neg_03_and_neg_04_a_name_that_does_not_exist_has_no_type_over_any_transport() {
    let rig = Rig::start().await;
    rig.upstream.always(Answer::new().rcode(3).soa("example.org", 300, 300));
    over_all!(Transport::ALL, |transport| {
        let name = format!("{}.gone.example.org", transport.name());
        let before = rig.upstream.count();
        rig.ask(Transport::Udp, &Ask::a(&name).bytes()).await;
        rig.pass(3);
        for rtype in [28, 15, 65, 255] {
            let ask = Ask::new(&name, rtype).id(0).bytes();
            let reply = rig.ask(transport, &ask).await.message;
            assert_eq!((message::rcode(&reply), message::ttls(&reply)), (3, vec![297]));
            assert_eq!(reply[12..ask.len()], ask[12..], "the question of whoever asks");
        }
        assert_eq!(rig.upstream.count(), before + 1);
    });
}

#[tokio::test]
async fn neg_06_no_denial_is_believed_for_longer_than_the_ceiling() {
    let rig = Rig::start().await;
    rig.upstream.always(Answer::new().rcode(3).soa("example.org", 604_800, 604_800));
    over_all!(Transport::ALL, |transport| {
        let ask = Ask::a(&format!("{}.far.example.org", transport.name())).id(0);
        let (asked, second) = twice(&rig, transport, &ask, 299).await;
        assert_eq!((asked, message::ttls(&second)), (1, vec![1]));
        assert_eq!(twice(&rig, transport, &ask, 2).await.0, 1, "asked again once it has ended");
    });
}

#[tokio::test]
async fn neg_10_the_soa_of_an_unrelated_zone_lends_a_denial_no_lifetime() {
    let rig = Rig::start().await;
    for (index, rcode) in [3, 0].into_iter().enumerate() {
        rig.upstream.always(Answer::new().rcode(rcode).soa("example.com", 300, 300));
        let (asked, _) = twice(&rig, Transport::Udp, &Ask::a(&format!("lent{index}.example.org")), 0).await;
        assert_eq!(asked, 2);
    }
}

#[tokio::test]
async fn neg_18_a_flood_of_failures_leaves_what_is_kept_alone() {
    let rig = Rig::start().await;
    let hot = Ask::a("hot.example.org").bytes();
    rig.ask(Transport::Tcp, &hot).await;
    rig.upstream.always(Answer::new().rcode(2));
    for index in 0..300 {
        rig.ask(Transport::Tcp, &Ask::a(&format!("flood{index}.example.org")).bytes()).await;
    }
    let before = rig.upstream.count();
    let reply = rig.ask(Transport::Tcp, &hot).await.message;
    assert_eq!((message::rcode(&reply), message::counts(&reply)[1], rig.upstream.count()), (0, 1, before));
}

#[tokio::test]
async fn neg_05_and_neg_09_negatives_without_an_soa_are_relayed_and_not_kept() {
    let rig = Rig::start().await;
    let referral = Answer::new().authority("example.org", 2, 300, &message::name("ns.example.org"));
    for (index, answer) in [Answer::new().rcode(3), Answer::new(), referral].into_iter().enumerate() {
        rig.upstream.always(answer);
        let (asked, _) = twice(&rig, Transport::Udp, &Ask::a(&format!("bare{index}.example.org")), 0).await;
        assert_eq!(asked, 2);
    }
}

#[tokio::test]
async fn neg_08_a_chain_to_nowhere_says_nothing_of_other_types() {
    let rig = Rig::start().await;
    let target = message::name("gone.example.org");
    rig.upstream.always(Answer::new().rcode(3).answer("@", 5, 300, &target).soa("example.org", 300, 300));
    rig.ask(Transport::Udp, &Ask::a("alias.example.org").bytes()).await;
    rig.ask(Transport::Udp, &Ask::new("alias.example.org", 15).bytes()).await;
    assert_eq!(rig.upstream.count(), 2);
}

#[tokio::test]
async fn neg_11_to_neg_14_a_failure_is_not_tried_again_at_once_and_its_window_grows() {
    let rig = Rig::start().await;
    rig.upstream.always(Answer::new().rcode(2));
    let ask = Ask::a("broken.example.org").edns().bytes();
    rig.ask(Transport::Udp, &ask).await;
    let effort = rig.upstream.count();
    over_all!([Transport::Udp, Transport::Tcp, Transport::Dot], |transport| {
        let answered = rig.ask(transport, &ask).await.message;
        assert_eq!((message::rcode(&answered), message::ede(&answered)), (2, Some(13)), "EDE-06");
    });
    assert_eq!(rig.upstream.count(), effort, "NEG-13: nothing goes out while the failure holds");
    rig.pass(6);
    rig.ask(Transport::Udp, &ask).await;
    let second = rig.upstream.count();
    assert!(second > effort, "tried again after five seconds");
    rig.pass(6);
    rig.ask(Transport::Udp, &ask).await;
    assert_eq!(rig.upstream.count(), second, "NEG-14: the second window is longer");
    rig.upstream.always(Answer::new().a(300, [192, 0, 2, 1]));
    rig.pass(30);
    let answered = rig.ask(Transport::Udp, &ask).await.message;
    assert_eq!(message::rcode(&answered), 0, "NEG-12: recovered within the cap");
}

#[tokio::test]
async fn neg_17_a_failure_of_validation_never_answers_a_client_that_checks_itself() {
    let rig = Rig::start().await;
    rig.upstream.script(|asked| {
        let checking_disabled = asked.message[3] & 0x10 != 0;
        Act::Answer(if checking_disabled { Answer::new().a(300, [192, 0, 2, 1]) } else { Answer::new().rcode(2) })
    });
    let failed = rig.ask(Transport::Udp, &Ask::a("bogus.example.org").bytes()).await.message;
    assert_eq!(message::rcode(&failed), 2);
    let answered = rig.ask(Transport::Udp, &Ask::a("bogus.example.org").flags(0x0110).bytes()).await.message;
    assert_eq!((message::rcode(&answered), message::flags(&answered) & 0x10), (0, 0x10), "SEC-01");
}
