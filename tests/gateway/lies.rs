//! Answers that lie about themselves (STANDARDS TTL-05 to TTL-10, NEG-05, NEG-09, NEG-10), over every transport: whoever asks is not
//! told the lie, and whoever asks later has lost nothing by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hushgate::peer::Transport;

use crate::harness::{Act, Answer, Ask, Rig, Upstream, message};
use crate::over_all;

const GOOD: [u8; 4] = [192, 0, 2, 1];
const BAD: [u8; 4] = [6, 6, 6, 6];

/// A gateway in front of an upstream that is asked over TCP, so that every answer arrives, however odd.
async fn behind(extra: &str) -> (Arc<Upstream>, Rig) {
    let upstream = Arc::new(Upstream::start().await);
    let rig = Rig::set(extra, &[&format!("upstream.servers=[\"tcp://{}\"]", upstream.address)]).await;
    (upstream, rig)
}

/// The answer to `query` as the first label of its name would have it told.
fn lie(query: &[u8]) -> Vec<u8> {
    let honest = Answer::new().a(300, BAD);
    let name = message::asked_name(query);
    let count = |at: usize, count: u16| {
        let mut told = honest.to(query);
        told[at..at + 2].copy_from_slice(&count.to_be_bytes());
        told
    };
    match name.split('.').next().unwrap() {
        "no-question" => count(4, 0),
        "two-questions" => count(4, 2),
        "more-answers" => count(6, 2),
        "most-answers" => count(6, u16::MAX),
        "an-authority" => count(8, 1),
        "an-additional" => count(10, u16::MAX),
        "opt-as-answer" => honest.clone().answer(".", 41, 0, &[]).to(query),
        "two-opts" => honest.clone().opt(&[]).opt(&[]).to(query),
        "no-response" => {
            let mut told = honest.to(query);
            told[2] &= 0x7f;
            told
        }
        "truncated" => honest.clone().flag(0x0200).to(query),
        "other-name" => Answer::new().answer("victim.example.org", 1, 300, &BAD).to(query),
        "cut-short" => {
            let mut told = honest.to(query);
            told.truncate(told.len() - 1);
            told
        }
        other => panic!("no such lie: {other}"),
    }
}

const LIES: [&str; 12] = [
    "no-question",
    "two-questions",
    "more-answers",
    "most-answers",
    "an-authority",
    "an-additional",
    "opt-as-answer",
    "two-opts",
    "no-response",
    "truncated",
    "other-name",
    "cut-short",
];

#[tokio::test]
async fn ttl_10_and_ttl_08_lies_about_counts_and_hops_are_told_to_nobody_and_never_kept() {
    let (upstream, rig) = behind("").await;
    let lying = Arc::new(AtomicBool::new(true));
    let still = Arc::clone(&lying);
    upstream.script(move |asked| {
        let lies = still.load(Ordering::SeqCst) && !asked.name().is_empty();
        if lies { Act::Raw(lie(&asked.message)) } else { Act::Answer(Answer::new().a(300, GOOD)) }
    });
    let ask =
        |lie: &str, transport: Transport| Ask::a(&format!("{lie}.{}.example.org", transport.name())).id(0).bytes();
    over_all!(Transport::ALL, |transport| {
        for lie in LIES {
            let reply = rig.ask(transport, &ask(lie, transport)).await.message;
            assert_eq!(message::counts(&reply)[1..], [0; 3], "{lie}: {:?}", message::read(&reply));
            assert!(message::rcode(&reply) == 2 || message::flags(&reply) & 0x0200 != 0, "{lie}");
        }
    });
    lying.store(false, Ordering::SeqCst);
    // As long as a failure is remembered at first.
    rig.pass(6);
    over_all!(Transport::ALL, |transport| {
        for lie in LIES {
            let reply = rig.ask(transport, &ask(lie, transport)).await.message;
            assert_eq!((message::rcode(&reply), message::counts(&reply)[1]), (0, 1), "{lie}");
            assert!(reply.ends_with(&GOOD), "{lie}");
        }
    });
}

#[tokio::test]
async fn ttl_05_a_ttl_with_its_top_bit_set_is_large_in_every_section_and_never_sent() {
    let (upstream, rig) = behind("[cache]\nmax_ttl = \"7d\"").await;
    let authority = message::name("ns.example.org");
    for ttl in [0x8000_0000, u32::MAX] {
        let answer = Answer::new().a(ttl, GOOD).authority("example.org", 2, ttl, &authority);
        upstream.always(answer.additional("ns.example.org", 1, ttl, &GOOD));
        over_all!(Transport::ALL, |transport| {
            let ask = Ask::a(&format!("top{ttl}.{}.example.org", transport.name())).id(0).bytes();
            let first = rig.ask(transport, &ask).await;
            assert_eq!(message::ttls(&first.message), [604_800; 3]);
            if let Some((_, headers)) = &first.http {
                assert_eq!(headers["cache-control"], "max-age=604800");
            }
            rig.pass(10);
            assert_eq!(message::ttls(&rig.ask(transport, &ask).await.message), [604_790; 3]);
        });
    }
}

#[tokio::test]
async fn neg_05_neg_09_and_neg_10_what_denies_without_a_right_to_is_relayed_and_never_kept_over_any_transport() {
    let (upstream, rig) = behind("").await;
    let referral = || Answer::new().authority("example.org", 2, 300, &message::name("ns.example.org"));
    let shapes = [
        ("bare NXDOMAIN", 3, Answer::new().rcode(3)),
        ("bare NODATA", 0, Answer::new()),
        ("referral", 0, referral()),
        ("referral with glue", 0, referral().additional("ns.example.org", 1, 300, &GOOD)),
        ("SOA of an unrelated zone", 3, Answer::new().rcode(3).soa("example.com", 300, 300)),
        ("the same as NODATA", 0, Answer::new().soa("example.com", 300, 300)),
        ("SOA of a zone below", 0, Answer::new().soa("below.shape.example.org", 300, 300)),
        ("SOA as additional data", 3, Answer::new().rcode(3).additional("example.org", 6, 300, &soa())),
    ];
    for (at, (what, rcode, answer)) in shapes.into_iter().enumerate() {
        upstream.always(answer);
        over_all!(Transport::ALL, |transport| {
            let ask = Ask::a(&format!("shape{at}.{}.example.org", transport.name())).id(0).bytes();
            for _ in 0..2 {
                let before = upstream.count();
                let answered = rig.ask(transport, &ask).await;
                let is_kept = upstream.count() == before;
                assert!(!is_kept, "{what}");
                assert_eq!((message::rcode(&answered.message), message::counts(&answered.message)[1]), (rcode, 0));
                if let Some((_, headers)) = &answered.http {
                    assert_eq!(headers["cache-control"], "no-store", "{what}");
                }
            }
        });
    }
}

/// The RDATA of an SOA.
fn soa() -> Vec<u8> {
    let numbers = [1, 3600, 600, 86_400, 300].map(u32::to_be_bytes).concat();
    [message::name("ns.example.org"), message::name("root.example.org"), numbers].concat()
}

#[tokio::test]
async fn ttl_07_an_answer_of_nearly_64_kib_is_whole_over_every_stream_and_cut_for_datagrams() {
    let (upstream, rig) = behind("").await;
    upstream.always(Answer::new().big(64_000, 300));
    over_all!(Transport::ALL, |transport| {
        let ask = Ask::new(&format!("{}.huge.example.org", transport.name()), 16).id(0).edns().bytes();
        for _ in 0..3 {
            let reply = rig.ask(transport, &ask).await.message;
            let (is_cut, is_whole) = (message::flags(&reply) & 0x0200 != 0, reply.len() > 64_000);
            assert_eq!((is_cut, is_whole), (transport == Transport::Udp, transport != Transport::Udp));
        }
    });
}
