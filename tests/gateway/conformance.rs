//! The query set of RFC 8906 (STANDARDS group CFM) over every transport, HTTP by GET as well: each question is answered at once,
//! and as the row says.

use hushgate::peer::Transport;

use crate::harness::{Act, Answer, Ask, Rig, client, message};

/// A way to ask: a transport, and on HTTP the method.
#[derive(Clone, Copy, Debug)]
struct Way {
    transport: Transport,
    get: bool,
}

/// Every transport, CFM-20: GET beside POST.
fn ways() -> Vec<Way> {
    let all = Transport::ALL.into_iter().map(|transport| Way { transport, get: false });
    let http = [Transport::Doh1, Transport::Doh2, Transport::Doh3];
    all.chain(http.into_iter().map(|transport| Way { transport, get: true })).collect()
}

impl Way {
    async fn ask(self, rig: &Rig, query: &[u8]) -> Vec<u8> {
        if !self.get {
            return rig.ask(self.transport, query).await.message;
        }
        let asking = rig.http(self.transport, rig.get(query));
        let (status, _, body) = tokio::time::timeout(client::PATIENCE, asking).await.unwrap().unwrap();
        assert_eq!(status, 200);
        body.to_vec()
    }
}

/// What a row of the set asks, and what comes back.
struct Row {
    name: &'static str,
    ask: Ask,
    rcode: u16,
    /// RD, AD, CD and AA of the reply.
    flags: u16,
    /// Records in the answer section.
    answers: u16,
    /// The OPT of the reply: its flags, if there is one.
    opt: Option<u16>,
}

const RD: u16 = 0x0100;
const CD: u16 = 0x0010;
const DO: u16 = 0x8000;

fn soa() -> Ask {
    Ask::new(".", 6).id(0)
}

fn row(name: &'static str, ask: Ask) -> Row {
    Row { name, ask, rcode: 0, flags: RD, answers: 1, opt: None }
}

fn edns(name: &'static str, ask: Ask) -> Row {
    Row { opt: Some(0), ..row(name, ask.edns()) }
}

fn badvers(name: &'static str, ask: Ask) -> Row {
    Row { rcode: 16, answers: 0, ..edns(name, ask.version(1)) }
}

fn rows() -> Vec<Row> {
    vec![
        row("CFM-01 and CFM-09: plain SOA", soa()),
        Row { answers: 0, ..row("CFM-02: unknown type", Ask::new(".", 1000).id(0)) },
        Row { flags: RD | CD, ..row("CFM-03: CD", soa().flags(RD | CD)) },
        row("CFM-04: AD", soa().flags(RD | 0x20)),
        row("CFM-05: Z", soa().flags(RD | 0x40)),
        Row { flags: 0, ..row("CFM-06: RD clear", soa().flags(0)) },
        edns("CFM-10: EDNS", soa()),
        badvers("CFM-11: version 1", soa()),
        badvers("CFM-11: version 1 and an unknown flag", soa().edns_flags(0x40)),
        badvers("CFM-11: version 1 and an unknown option", soa().option(100, b"")),
        Row { opt: Some(DO), ..badvers("CFM-11: version 1 and DO", soa().dnssec()) },
        edns("CFM-12: unknown option", soa().option(100, b"")),
        edns("CFM-12: unknown option with content", soa().option(65_001, &[0xff; 200])),
        edns("CFM-13: unknown flag", soa().edns_flags(0x40)),
        edns("CFM-13: all unknown flags", soa().edns_flags(0x7fff)),
        Row { opt: Some(DO), answers: 2, ..edns("CFM-17: DO", soa().dnssec()) },
    ]
}

/// The root as an upstream tells it: SOA (signed for DO), a large DNSKEY set, and nothing else.
fn root(asked: &crate::harness::upstream::Asked) -> Act {
    let dnssec = edns_flags(&asked.message) & DO != 0;
    let soa = [message::name("a.root"), message::name("nstld.root"), vec![0; 20]].concat();
    Act::Answer(match asked.rtype() {
        6 if dnssec => Answer::new().answer("@", 6, 300, &soa).answer("@", 46, 300, &signature()).opt(&[]),
        6 => Answer::new().answer("@", 6, 300, &soa).opt(&[]),
        48 => (0..4).fold(Answer::new(), |answer, n| answer.answer("@", 48, 300, &[n; 260])).opt(&[]),
        _ => Answer::new().authority("@", 6, 300, &soa).opt(&[]),
    })
}

/// The flags of the OPT that the gateway sent, which follows its question.
fn edns_flags(query: &[u8]) -> u16 {
    let opt = &query[message::question_end(query)..];
    assert_eq!(opt[..3], [0, 0, 41]);
    u16::from_be_bytes([opt[7], opt[8]])
}

/// An RRSIG over the SOA, as far as its layout goes.
fn signature() -> Vec<u8> {
    [&[0, 6, 8, 0, 0, 0, 1, 44, 0, 0, 0, 9, 0, 0, 0, 1, 0, 7, 0][..], &[5; 64]].concat()
}

/// The flags field of the OPT of `reply` and its extended RCODE, with version and options checked.
fn read_opt(reply: &[u8]) -> Option<(u16, u16)> {
    let options = message::options(reply)?;
    assert_eq!(options, [], "no option that was not asked for");
    let fixed: [u8; 11] = reply[reply.len() - 11..].try_into().unwrap();
    assert_eq!((&fixed[..5], fixed[6]), (&[0, 0, 41, 4, 208][..], 0), "root, OPT, 1232, version 0");
    Some((u16::from_be_bytes([fixed[7], fixed[8]]), u16::from(fixed[5])))
}

fn check(row: &Row, way: Way, reply: &[u8]) {
    let what = format!("{} over {way:?}", row.name);
    let opt = read_opt(reply);
    assert_eq!(opt.map(|(flags, _)| flags), row.opt, "{what}");
    assert_eq!(message::rcode(reply) | opt.map_or(0, |(_, high)| high << 4), row.rcode, "{what}");
    // QR, RA, and of the rest what the row says: AA, TC, Z and AD are clear.
    assert_eq!(message::flags(reply) & 0xfff0, 0x8080 | row.flags, "{what}");
    let counts = message::counts(reply);
    assert_eq!((counts[0], counts[1], counts[3]), (1, row.answers, u16::from(row.opt.is_some())), "{what}");
    message::read(reply);
}

#[tokio::test]
async fn cfm_01_to_cfm_20_the_set_is_answered_alike_over_every_transport() {
    let rig = Rig::start().await;
    rig.upstream.script(root);
    for way in ways() {
        for row in rows() {
            // Cold for the first way that asks, warm for all others.
            for _ in 0..2 {
                check(&row, way, &way.ask(&rig, &row.ask.bytes()).await);
            }
        }
    }
    for asked in rig.upstream.log() {
        assert_eq!(message::flags(&asked.message) & 0x0040, 0, "CFM-05: Z is clear upstream");
        assert_eq!(edns_flags(&asked.message) & !DO, 0, "CFM-13: so are unknown flags");
    }
}

/// A query of `opcode`: its header alone, or with a question; with an OPT, of this version, or without.
fn of_opcode(opcode: u16, with_question: bool, version: Option<u8>) -> Vec<u8> {
    let ask = Ask::a("opcode.example").id(0).flags(opcode << 11);
    let ask = version.map_or(ask.clone(), |version| ask.option(100, b"x").version(version));
    let mut query = ask.bytes();
    if !with_question {
        let end = message::question_end(&query);
        query.drain(12..end);
        query[5] = 0;
    }
    query
}

#[tokio::test]
async fn cfm_07_and_cfm_08_other_opcodes_are_notimp_at_once_and_never_kept_or_forwarded() {
    let rig = Rig::start().await;
    for way in ways() {
        for (opcode, with_question) in (1..16_u16).flat_map(|opcode| [(opcode, false), (opcode, true)]) {
            for version in [None, Some(0), Some(1)] {
                let reply = way.ask(&rig, &of_opcode(opcode, with_question, version)).await;
                let what = format!("opcode {opcode} over {way:?}, question {with_question}, EDNS {version:?}");
                assert_eq!(message::rcode(&reply), 4, "{what}");
                assert_eq!(message::flags(&reply) & 0xf800, 0x8000 | opcode << 11, "{what}");
                assert_eq!(message::flags(&reply) & 0x0770, 0, "{what}: AA, TC, RD, Z, AD and CD clear");
                let opt = u16::from(version.is_some());
                assert_eq!(message::counts(&reply), [u16::from(with_question), 0, 0, opt], "{what}");
                let end = if with_question { message::question_end(&reply) } else { 12 };
                let fixed = [0, 0, 41, 4, 208, 0, 0, 0, 0];
                assert_eq!(reply.get(end..end + 9), (opt == 1).then_some(&fixed[..]), "{what}: version 0, no flag");
                assert!(message::option(&reply, 100).is_none(), "{what}");
            }
        }
    }
    assert_eq!(rig.upstream.count(), 0);
}

#[tokio::test]
async fn cfm_08_opcode_0_without_a_question_is_formerr_with_opt_only_for_those_who_sent_one() {
    let rig = Rig::start().await;
    for way in ways() {
        for version in [None, Some(0)] {
            let reply = way.ask(&rig, &of_opcode(0, false, version)).await;
            assert_eq!((message::rcode(&reply), message::flags(&reply) & 0xf870), (1, 0x8000), "{way:?} {version:?}");
            assert_eq!(message::counts(&reply), [0, 0, 0, u16::from(version.is_some())], "{way:?} {version:?}");
        }
    }
    assert_eq!(rig.upstream.count(), 0);
}

#[tokio::test]
async fn cfm_16_a_large_dnskey_set_is_truncated_with_opt_and_do_over_udp_alone() {
    let rig = Rig::start().await;
    rig.upstream.script(root);
    let query = Ask::new(".", 48).id(0).size(512).dnssec().bytes();
    for way in ways() {
        for _ in 0..2 {
            let reply = way.ask(&rig, &query).await;
            let udp = way.transport == Transport::Udp;
            assert_eq!((message::rcode(&reply), message::flags(&reply) & 0x0200 != 0), (0, udp), "{way:?}");
            assert_eq!(read_opt(&reply), Some((DO, 0)), "{way:?}");
            assert_eq!(message::counts(&reply)[1], if udp { 0 } else { 4 }, "{way:?}");
        }
    }
}

#[tokio::test]
async fn cfm_19_many_options_at_once_are_answered() {
    let rig = Rig::start().await;
    rig.upstream.script(root);
    let ask = soa().option(10, &[9; 8]).option(3, b"").option(9, b"").option(8, &[0, 1, 0, 0]);
    for way in ways() {
        for _ in 0..2 {
            let reply = way.ask(&rig, &ask.bytes()).await;
            assert_eq!((message::rcode(&reply), message::counts(&reply)[1]), (0, 1), "{way:?}");
            let options = message::options(&reply).unwrap();
            assert!(matches!(&options[..], [(10, cookie)] if cookie.len() == 24), "{way:?}: {options:?}");
        }
    }
}
