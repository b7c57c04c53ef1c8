//! What digest does to an upstream's message: OPT out, proofs out, names whole, ages right.

use std::time::Duration;

use bytes::BufMut as _;

use super::rig::{Built, Gateway, Got, Plan, Play, wire};
use crate::cache;
use crate::peer::Transport;
use crate::upstream::Ask;
use crate::wire::registry::{option, rcode, rtype};
use crate::wire::{Section, name, patch};

async fn relayed(query: Built, script: fn(&Ask) -> Play) -> Got {
    let gateway = Gateway::new(script);
    let cold = gateway.over(Transport::Tcp, &query).await;
    let warm = gateway.over(Transport::Tcp, &query).await;
    assert_eq!(cold.message, warm.message, "what is kept is what was relayed");
    let decoded = hickory_proto::op::Message::from_vec(&cold.message);
    assert!(decoded.is_ok(), "{decoded:?}");
    cold
}

fn full_name(got: &Got, record: usize, skip: usize) -> Vec<u8> {
    let mut out = Vec::new();
    name::expand(&got.message, usize::from(got.records[record].rdata.start) + skip, &mut out).unwrap();
    out
}

#[tokio::test]
async fn sec_04_proofs_nobody_asked_for_go_and_what_follows_stays_whole() {
    let got = relayed(Built::query("www.example", rtype::MX), |ask| {
        let mut signature = vec![0, 15];
        signature.extend([0; 16]);
        signature.extend(wire("example"));
        let mut built = Built::to(ask).record(Section::Answer, &[0xc0, 12], (rtype::RRSIG, 60), &signature);
        // The signer's name inside the signature is what the following records point into.
        let signer = u16::try_from(built.0.len() - 9).unwrap() | 0xc000;
        let mut exchange = vec![0, 10, 4];
        exchange.extend(b"mail");
        exchange.put_u16(signer);
        built = built.record(Section::Answer, &[0xc0, 12], (rtype::MX, 60), &exchange);
        let host = u16::try_from(built.0.len() - 7).unwrap() | 0xc000;
        built = built.record(Section::Authority, &signer.to_be_bytes(), (rtype::NS, 60), &host.to_be_bytes());
        built = built.record(Section::Additional, &host.to_be_bytes(), (rtype::A, 60), &[192, 0, 2, 1]);
        built = built.record(Section::Additional, &host.to_be_bytes(), (rtype::RRSIG, 60), &signature);
        Play::Answer(built.opt(0, false, &[]))
    })
    .await;
    assert_eq!(got.types(), [rtype::MX, rtype::NS, rtype::A]);
    assert_eq!((got.header.answers, got.header.authorities, got.header.additionals), (1, 1, 1));
    assert_eq!(full_name(&got, 0, 2), wire("mail.example"));
    assert_eq!((got.owner(1), full_name(&got, 1, 0)), (wire("example"), wire("mail.example")));
    assert_eq!((got.owner(2), got.rdata(2)), (wire("mail.example"), &[192, 0, 2, 1][..]));
}

#[tokio::test]
async fn sec_04_every_type_of_proof_goes_from_every_section() {
    for section in [Section::Answer, Section::Authority, Section::Additional] {
        let gateway = Gateway::new(move |ask| {
            let proofs = [rtype::RRSIG, rtype::NSEC, rtype::NSEC3, rtype::DNSKEY];
            let built = proofs.into_iter().fold(Built::to(ask).a(60, 1), |built, proof| {
                built.record(section, &[0xc0, 12], (proof, 60), &[0, 1, 2, 3])
            });
            Play::Answer(built)
        });
        assert_eq!(gateway.udp(&Built::query("t.example", rtype::A)).await.types(), [rtype::A], "{section:?}");
        let signed = gateway.udp(&Built::query("t.example", rtype::A).opt(0, true, &[])).await;
        assert_eq!(signed.types().len(), 5, "{section:?}");
    }
}

#[tokio::test]
async fn sec_05_proofs_asked_for_by_type_stay() {
    for asked in [rtype::RRSIG, rtype::DNSKEY, rtype::NSEC, rtype::ANY] {
        let gateway = Gateway::new(move |ask| {
            let own = if asked == rtype::ANY { rtype::NSEC } else { asked };
            let built = Built::to(ask).record(Section::Answer, &[0xc0, 12], (own, 60), &[0, 1, 2, 3]);
            Play::Answer(built.record(Section::Answer, &[0xc0, 12], (rtype::RRSIG, 60), &[0, 1, 2, 3]))
        });
        let got = gateway.udp(&Built::query("t.example", asked)).await;
        let expected = if asked == rtype::RRSIG { 2 } else { 1 };
        assert_eq!(got.records.len(), expected, "type {asked}");
    }
}

#[tokio::test]
async fn edn_08_an_opt_before_other_records_goes_and_they_stay_whole() {
    let got = relayed(Built::query("t.example", rtype::A), |ask| {
        let built = Built::to(ask).a(60, 1).opt(0, false, &[(option::PADDING, &[0; 20])]);
        let at = u16::try_from(built.0.len()).unwrap() | 0xc000;
        let built = built.record(Section::Additional, &wire("ns.example"), (rtype::A, 60), &[192, 0, 2, 2]);
        Play::Answer(built.record(Section::Additional, &at.to_be_bytes(), (rtype::TXT, 60), &[1, b'x']))
    })
    .await;
    assert_eq!(got.types(), [rtype::A, rtype::A, rtype::TXT]);
    assert_eq!((got.owner(1), got.owner(2)), (wire("ns.example"), wire("ns.example")));
}

#[tokio::test]
async fn gen_06_07_names_in_moved_rdata_are_whole_and_opaque_rdata_is_untouched() {
    let got = relayed(Built::query("t.example", rtype::A), |ask| {
        let built = Built::to(ask).opt(0, false, &[]);
        let example: [u8; 2] = [0xc0, 14];
        let srv = [&[0, 1, 0, 2, 0, 3][..], &example].concat();
        let naptr = [&[0, 1, 0, 2, 1, b'u', 0, 1, b'x'][..], &example].concat();
        let soa = [&example[..], &example, &[0; 20]].concat();
        let add = |built: Built, rtype, rdata: &[u8]| built.record(Section::Additional, &example, (rtype, 60), rdata);
        let built = add(add(add(built, 33, &srv), 35, &naptr), rtype::SOA, &soa);
        Play::Answer(add(built, 65280, &example).a_first())
    })
    .await;
    let example = wire("example");
    assert_eq!(got.rdata(1), [&[0, 1, 0, 2, 0, 3][..], &example].concat());
    assert_eq!(got.rdata(2), [&[0, 1, 0, 2, 1, b'u', 0, 1, b'x'][..], &example].concat());
    assert_eq!(got.rdata(3), [&example[..], &example, &[0; 20]].concat());
    assert_eq!(got.rdata(4), [0xc0, 14]);
}

impl Built {
    /// The message with an A record of QNAME before all others; for messages whose names point into the question only.
    fn a_first(mut self) -> Self {
        let question = 12 + usize::from(crate::wire::Question::parse(&self.0).unwrap().name_len) + 4;
        let mut record = vec![0xc0, 12, 0, 1, 0, 1];
        record.put_u32(60);
        record.extend([0, 4, 192, 0, 2, 1]);
        self.0.splice(question..question, record);
        patch::put_u16(&mut self.0, 6, 1);
        self
    }
}

#[tokio::test]
async fn doh_26_what_aged_on_the_way_is_no_longer_left() {
    let gateway = Gateway::new(|ask| Play::Aged(Built::to(ask).a(600, 1), 250));
    assert_eq!(gateway.udp(&Built::query("t.example", rtype::A)).await.ttls(), [350]);
    let gateway = Gateway::new(|ask| Play::Aged(Built::to(ask).a(600, 1), 601));
    for asked in 1..3 {
        assert_eq!(gateway.udp(&Built::query("t.example", rtype::A)).await.ttls(), [0]);
        assert_eq!(gateway.asked(), asked);
    }
}

#[tokio::test]
async fn doh_26_neg_01_a_denial_ages_on_the_way_too() {
    for (ttl, minimum) in [(3600, 300), (300, 3600)] {
        let gateway = Gateway::new(move |ask| {
            Play::Aged(Built::to(ask).rcode(rcode::NXDOMAIN).soa("example", ttl, minimum), 250)
        });
        let got = gateway.udp(&Built::query("t.example", rtype::A)).await;
        assert_eq!((got.ttls(), got.facts.freshness.max_age), (vec![50], 50), "{ttl} {minimum}");
    }
}

#[tokio::test]
async fn ttl_01_a_configured_minimum_lifts_the_ttls_of_denials_too() {
    let cache = cache::Settings { min_ttl: Duration::from_secs(30), ..cache::Settings::default() };
    let gateway = Gateway::with(Plan { cache, ..Plan::default() }, |ask| {
        Play::Answer(Built::to(ask).rcode(rcode::NXDOMAIN).soa("example", 5, 60))
    });
    let query = Built::query("t.example", rtype::A);
    let got = gateway.udp(&query).await;
    assert_eq!((got.ttls(), got.facts.freshness.max_age), (vec![30], 30));
    gateway.pass(28);
    assert_eq!(gateway.begin(Transport::Udp, &query.0).at_once().ttls(), [2]);
}

#[tokio::test]
async fn a_configured_minimum_lifts_ttls_but_no_zero() {
    let cache = cache::Settings { min_ttl: Duration::from_secs(30), ..cache::Settings::default() };
    let gateway = Gateway::with(Plan { cache, ..Plan::default() }, |ask| {
        let ttl = if ask.question[1] == b'z' { 0 } else { 5 };
        let built = Built::to(ask).a(ttl, 1);
        Play::Answer(built.record(Section::Authority, &wire("example"), (rtype::NS, 60), &wire("ns.example")))
    });
    let got = gateway.udp(&Built::query("t.example", rtype::A)).await;
    assert_eq!((got.ttls(), got.facts.freshness.max_age), (vec![30, 60], 30));
    gateway.pass(28);
    assert_eq!(gateway.begin(Transport::Udp, &Built::query("t.example", rtype::A).0).at_once().ttls(), [2, 32]);
    assert_eq!(gateway.udp(&Built::query("z.example", rtype::A)).await.ttls(), [0, 60]);
}

#[tokio::test]
async fn ttl_10_signatures_over_the_message_are_of_the_hop() {
    let got = relayed(Built::query("t.example", rtype::A), |ask| {
        let built = Built::to(ask).a(60, 1).opt(0, false, &[]);
        Play::Answer(built.record(Section::Additional, &wire("key"), (rtype::TSIG, 0), &[0; 16]))
    })
    .await;
    assert_eq!((got.types(), got.ttls(), got.header.additionals), (vec![rtype::A], vec![60], 0));
}

#[tokio::test]
async fn an_error_without_its_question_gets_it_back() {
    let gateway = Gateway::new(|_| {
        let flags = crate::wire::Flags(crate::wire::Flags::QR).with_rcode(rcode::REFUSED);
        let header = crate::wire::Header { flags, ..crate::wire::Header::default() };
        Play::Raw(header.to_octets().to_vec())
    });
    let got = gateway.udp(&Built::query("T.example", rtype::A)).await;
    assert_eq!((got.rcode(), got.header.questions), (rcode::REFUSED, 1));
    assert_eq!(got.message[12..], Built::query("T.example", rtype::A).0[12..]);
}

#[tokio::test]
async fn a_rewritten_answer_too_large_for_a_message_goes_without_its_additional_section() {
    let gateway = Gateway::new(|ask| {
        let mut built = Built::to(ask).a(60, 1).opt(0, false, &[]);
        // Two names take turns, each a pointer into the other's RDATA: whole names are 200 octets longer.
        let label = format!("{0}.{0}.{0}", "x".repeat(63));
        built = built.record(Section::Additional, &wire("a.example"), (rtype::NS, 60), &wire(&label));
        let target = u16::try_from(built.0.len() - wire(&label).len()).unwrap() | 0xc000;
        for _ in 0..1000 {
            built = built.record(Section::Additional, &[0xc0, 12], (rtype::NS, 60), &target.to_be_bytes());
        }
        Play::Answer(built)
    });
    let got = gateway.tcp(&Built::query("t.example", rtype::A)).await;
    assert_eq!((got.types(), got.header.additionals), (vec![rtype::A], 0));
}

#[test]
fn gen_10_no_bytes_of_an_upstream_make_digest_panic() {
    use crate::clock::Moment;
    use crate::pipeline::AnyRule;
    use crate::pipeline::digest::digest;
    use crate::trail::UpstreamId;
    use crate::upstream::Answered;

    let question: Box<[u8]> = Built::query("t.example", rtype::A).0[12..].into();
    let ask = Ask {
        question,
        recursion_desired: true,
        checking_disabled: false,
        authentic_data: true,
        dnssec_ok: false,
        padding: true,
        prefer_stream: false,
        without_edns: false,
        patient: false,
        avoid: None,
        subnet: None,
        passed: None,
    };
    let whole = Built::to(&ask)
        .cname(60, "x.example")
        .record(Section::Answer, &[0xc0, 12], (rtype::RRSIG, 60), &[0, 1, 2])
        .soa("example", 60, 60)
        .opt(0, false, &[(option::EDE, &[0, 6])])
        .record(Section::Additional, &[0xc0, 12], (rtype::MX, 60), &[0, 1, 0xc0, 12])
        .0;
    let settings = crate::cache::Settings::default();
    let run = |message: Vec<u8>| {
        let answered = Answered { message: message.into(), upstream: UpstreamId(0), age: 0, trusted: true, told: None };
        digest(&answered, &ask, (&settings, AnyRule::Minimal), Moment(0)).is_ok()
    };
    assert!(run(whole.clone()));
    for at in 0..whole.len() {
        assert!(!run(whole[..at].to_vec()), "cut at {at}");
        for value in [0, 1, 0x3f, 0x40, 0x7f, 0xc0, 0xff] {
            let mut changed = whole.clone();
            changed[at] = value;
            run(changed);
        }
    }
}
