//! EDN, CFM, KAL, PAD, CKI: the OPT record of replies, hop by hop.

use super::rig::{Built, Gateway, Plan, Play, SECRET, settings};
use crate::guard::Refuse;
use crate::peer::Transport;
use crate::pipeline::cookie::Cookies;
use crate::pipeline::tests::rig::Begun;
use crate::pipeline::{CookieRule, Settings};
use crate::reply::{Source, Why};
use crate::trail::{Access, Added, Cookie, Cut};
use crate::wire::registry::{ede, option, rcode, rtype};
use crate::wire::{Flags, Header, Section, patch};

const PADDING: (u16, &[u8]) = (option::PADDING, &[0xff; 3]);
const KEEPALIVE: (u16, &[u8]) = (option::KEEPALIVE, &[]);
const COOKIE: (u16, &[u8]) = (option::COOKIE, b"8octets!");

fn simple() -> Gateway {
    Gateway::new(|ask| {
        let options: [(u16, &[u8]); 4] =
            [(option::PADDING, &[0; 50]), (option::COOKIE, &[9; 24]), (option::KEEPALIVE, &[0, 9]), (65001, b"x")];
        Play::Answer(Built::to(ask).a(300, 1).opt(0, false, &options))
    })
}

fn query(options: &[(u16, &[u8])]) -> Built {
    Built::query("t.example", rtype::A).opt(0, false, options)
}

#[tokio::test]
async fn edn_01_02_11_13_one_opt_of_our_own_for_those_who_sent_one_on_every_path() {
    let gateway = simple();
    for name in ["t.example", "t.example", "localhost", "example.onion"] {
        for transport in Transport::ALL {
            for dnssec in [false, true] {
                let got = gateway.over(transport, &Built::query(name, rtype::A).opt(0, dnssec, &[])).await;
                let edns = got.edns.unwrap();
                assert_eq!((edns.udp_size, edns.version, edns.dnssec_ok), (1232, 0, dnssec), "sec_03: DO is copied");
                assert!(got.options().is_empty(), "cfm_10: nothing unasked");
            }
            assert!(gateway.over(transport, &Built::query(name, rtype::A)).await.edns.is_none());
        }
    }
}

#[tokio::test]
async fn edn_03_04_07_08_broken_opts_and_unknown_versions_get_an_opt_and_go_nowhere() {
    let gateway = simple();
    let two = query(&[]).opt(0, false, &[]);
    let mut version = query(&[(100, b"x")]);
    let at = version.0.len() - 11 + 6 - 5;
    version.0[at] = 1;
    let mut overrun = query(&[(100, b"x")]);
    let last = overrun.0.len() - 2;
    overrun.0[last] = 9;
    let placed = Built::query("t.example", rtype::A).record(Section::Authority, &[0], (rtype::OPT, 0), &[]);
    let owned = Built::query("t.example", rtype::A).record(Section::Additional, &[0xc0, 12], (rtype::OPT, 0), &[]);
    for (at, query) in [two, overrun, placed, owned].iter().enumerate() {
        let got = gateway.udp(query).await;
        assert_eq!((got.rcode(), got.edns.is_some()), (rcode::FORMERR, true), "shape {at}");
    }
    let got = gateway.udp(&version).await;
    assert_eq!((got.rcode(), got.records.len(), got.edns.unwrap().version), (rcode::BADVERS, 0, 0));
    assert!(got.options().is_empty() && !got.has(Flags::AD) && !got.has(Flags::AA));
    let early = query(&[]).record(Section::Additional, &[0], (rtype::TXT, 0), &[0]);
    assert_eq!(gateway.udp(&early).await.rcode(), rcode::NOERROR);
    assert_eq!(gateway.asked(), 1);
}

#[tokio::test]
async fn edn_09_10_12_sizes_bound_datagrams_alone() {
    let gateway = Gateway::new(|ask| Play::Answer((0..25).fold(Built::to(ask), |built, last| built.a(300, last))));
    let small = Built::query("t.example", rtype::A).sized(100);
    assert!(!gateway.udp(&small).await.has(Flags::TC), "under 512 means 512");
    let gateway = Gateway::new(|ask| Play::Answer((0..90).fold(Built::to(ask), |built, last| built.a(300, last))));
    let large = gateway.udp(&Built::query("t.example", rtype::A).sized(4096)).await;
    assert!(large.has(Flags::TC) && large.message.len() <= 1232);
    for transport in Transport::ALL.into_iter().filter(|transport| !transport.is_datagram()) {
        let got = gateway.over(transport, &Built::query("t.example", rtype::A).sized(512)).await;
        assert_eq!((got.records.len(), got.has(Flags::TC)), (90, false));
    }
}

#[tokio::test]
async fn cfm_05_07_08_11_13_odd_flags_opcodes_and_options_are_met_with_the_plain_truth() {
    let gateway = simple();
    let header = Header { id: 5, flags: Flags(15 << 11), ..Header::default() };
    let got = gateway.udp(&Built(header.to_octets().to_vec())).await;
    assert_eq!((got.rcode(), got.header.flags.opcode(), got.message.len()), (rcode::NOTIMP, 15, 12));
    assert!(!got.has(Flags::AA) && !got.has(Flags::RD) && !got.has(Flags::AD));
    for opcode in 1..16 {
        let query = query(&[]).flags(opcode << 11, true);
        let got = gateway.tcp(&query).await;
        assert_eq!((got.rcode(), u16::from(got.header.flags.opcode()), got.edes()), (rcode::NOTIMP, opcode, vec![21]));
    }
    assert_eq!(gateway.asked(), 0);
    let mut zed = query(&[(100, b"any"), (option::ECS, &[0, 1, 24, 0, 192, 0, 2]), (option::NSID, &[])]);
    zed = zed.flags(0x40, true);
    let flags = 12 + 15 + 7;
    zed.0[flags + 1] = 0x40;
    for _ in 0..2 {
        let got = gateway.udp(&zed).await;
        assert_eq!((got.rcode(), got.has(0x40)), (rcode::NOERROR, false));
        assert!(got.options().is_empty(), "ecs_01");
        assert!(got.facts.trail.cut.has(Cut::ECS) && got.facts.trail.cut.has(Cut::OPTIONS));
        assert_eq!(got.message[got.message.len() - 4..], [0, 0, 0, 0], "EDNS flags");
    }
}

#[tokio::test]
async fn edn_14_what_may_pass_goes_both_ways_and_to_nobody_else() {
    let settings = Settings { pass: vec![65001, 20292], ..settings() };
    let plan = |held| Plan { settings: settings.clone(), held, ..Plan::default() };
    let script = |ask: &crate::upstream::Ask| {
        let back: [(u16, &[u8]); 4] = [(65001, b"back"), (65002, b"no"), (option::NSID, b"no"), (option::EDE, &[0, 3])];
        match ask.question.get(1) {
            Some(b'f') => Play::Fail(crate::upstream::error::Cause::Closed),
            _ => Play::Answer(Built::to(ask).a(300, 1).opt(0, false, &back)),
        }
    };
    let gateway = Gateway::with(plan(false), script);
    let sent: [(u16, &[u8]); 4] = [(65001, b"there"), (65002, b"not"), (20292, b""), (65001, b"again")];
    assert_eq!(gateway.udp(&query(&[])).await.options().len(), 1, "what nobody asked for is not passed on");
    for transport in Transport::ALL {
        let before = gateway.asked();
        for _ in 0..2 {
            let got = gateway.over(transport, &query(&sent)).await;
            assert_eq!(
                (got.option(65001).as_deref(), got.option(65002), got.edes()),
                (Some(&b"back"[..]), None, vec![3])
            );
            assert!(got.facts.trail.cut.has(Cut::OPTIONS) && got.facts.source == Source::Upstream);
            assert!(got.facts.trail.added.has(Added::SENT_ON));
            let plain = gateway.over(transport, &query(&[(65002, b"x")])).await;
            assert!(!plain.facts.trail.added.has(Added::SENT_ON));
            assert_eq!((plain.options().len(), plain.facts.source), (1, Source::Cache));
        }
        assert_eq!(gateway.asked(), before + 2, "neither looked up nor kept");
    }
    assert_eq!(gateway.counters.options_passed.value(), 2 * Transport::ALL.len() as u64);
    let passed = gateway.upstream.asked.lock().unwrap().last().unwrap().passed.clone().unwrap();
    assert_eq!(*passed.octets, *b"\xfd\xe9\0\x05there\x4f\x44\0\0\xfd\xe9\0\x05again");
    let all = gateway.udp(&query(&[(65001, b"x"), COOKIE, PADDING, (option::ECS, &[0, 1, 0, 0])])).await;
    assert!(!all.facts.trail.cut.has(Cut::OPTIONS), "nothing of another hop was left");
    let failing = |data| Built::query("failing.example", rtype::A).opt(0, false, &[(65001, data)]);
    for (data, codes) in [(b"a", vec![23]), (b"a", vec![13, 23]), (b"b", vec![23])] {
        assert_eq!(gateway.udp(&failing(data)).await.edes(), codes, "a failure is of those who asked the same");
    }
    let before = gateway.asked();
    let long = vec![7; 509];
    assert_eq!(gateway.udp(&query(&[(65001, &long)])).await.facts.source, Source::Cache, "what is too long stays here");
    assert_eq!(gateway.asked(), before);
}

#[tokio::test]
async fn edn_14_those_wait_together_who_sent_the_very_same_and_a_full_datagram_says_so() {
    let plan = Plan { settings: Settings { pass: vec![65001], ..settings() }, held: true, ..Plan::default() };
    let gateway = Gateway::with(plan, |ask| {
        let back = ask.passed.as_ref().map_or(&[][..], |passed| &passed.octets[4..]).repeat(100);
        Play::Answer(Built::to(ask).a(300, 1).opt(0, false, &[(65001, &back)]))
    });
    let begun = [&b"a"[..], b"a", b"b", b""].map(|data| {
        let options = [(65001, data)];
        gateway.begin(Transport::Udp, &query(if data.is_empty() { &[] } else { &options }).0)
    });
    let mut waiting = Vec::new();
    for begun in begun {
        let Begun::Later(pending) = begun else { panic!("answered at once") };
        waiting.push(tokio::spawn(Begun::Later(pending).got()));
    }
    while gateway.asked() < 3 {
        tokio::task::yield_now().await;
    }
    gateway.upstream.gate.add_permits(100);
    let mut got = Vec::new();
    for waiting in waiting {
        got.push(waiting.await.unwrap().option(65001));
    }
    let many = |octet: u8| Some(vec![octet; 100]);
    assert_eq!((got, gateway.asked()), (vec![many(b'a'), many(b'a'), many(b'b'), None], 3));
    // 27 of header and question, 16 of the record, 11 of our OPT, 404 of the option.
    for (data, size, fits) in [(&b"xxxx"[..], 512, true), (b"xxxxx", 512, false), (b"xxxxx", 1232, true)] {
        let mut asking = query(&[(65001, data)]);
        let at = asking.0.len() - data.len() - 4 - 8;
        patch::put_u16(&mut asking.0, at, size);
        let got = gateway.udp(&asking).await;
        assert_eq!((got.has(Flags::TC), got.option(65001).is_some()), (!fits, fits), "{data:?}");
        assert!(gateway.tcp(&asking).await.option(65001).is_some());
    }
}

#[tokio::test]
async fn nsid_is_told_to_those_who_ask_on_every_path_and_goes_before_anything_else_does() {
    let settings = Settings { nsid: Some(b"here".as_slice().into()), ..settings() };
    let script = |ask: &crate::upstream::Ask| match ask.question.get(1) {
        Some(b'f') => Play::Answer(Built::to(ask).rcode(rcode::SERVFAIL)),
        _ => Play::Answer(Built::to(ask).a(300, 1).opt(0, false, &[(option::NSID, b"theirs")])),
    };
    let gateway = Gateway::with(Plan { settings: settings.clone(), ..Plan::default() }, script);
    for transport in Transport::ALL {
        for (name, rtype) in
            [("t.example", rtype::A), ("failing.example", rtype::A), ("localhost", rtype::A), ("x", rtype::AXFR)]
        {
            for options in [&[(option::NSID, &b""[..])][..], &[(option::NSID, b""), PADDING, COOKIE]] {
                let got = gateway.over(transport, &Built::query(name, rtype).opt(0, false, options)).await;
                assert_eq!(got.option(option::NSID).as_deref(), Some(&b"here"[..]), "{name}");
            }
            let silent = gateway.over(transport, &Built::query(name, rtype).opt(0, false, &[COOKIE])).await;
            assert_eq!(silent.option(option::NSID), None, "{name}");
        }
    }
    let unknown = Gateway::new(script);
    assert_eq!(unknown.udp(&query(&[(option::NSID, b"")])).await.option(option::NSID), None);
    // 27 of header and question, 16 of the record, 11 of our OPT, 6 of the reason, 8 of the name.
    for (limit, named, reasons) in [(68, true, 1), (67, false, 1), (59, false, 0)] {
        let settings = Settings { datagram_limit: limit, ..settings.clone() };
        let gateway = Gateway::with(Plan { settings, ..Plan::default() }, |ask| {
            Play::Answer(Built::to(ask).a(300, 1).opt(0, false, &[(option::EDE, &[0, 3])]))
        });
        let got = gateway.udp(&query(&[(option::NSID, b"")])).await;
        assert_eq!((got.option(option::NSID).is_some(), got.edes().len(), got.records.len()), (named, reasons, 1));
        assert_eq!(got.has(Flags::TC), reasons == 0, "{limit}");
    }
}

#[tokio::test]
async fn kal_01_03_05_the_idle_time_is_told_over_tcp_and_dot_to_those_who_ask() {
    let gateway = simple();
    for transport in Transport::ALL {
        for _ in 0..2 {
            let got = gateway.over(transport, &query(&[KEEPALIVE])).await;
            let told = transport.keeps_alive().then(|| vec![0, 100]);
            assert_eq!(got.option(option::KEEPALIVE), told, "{}", transport.name());
        }
        assert_eq!(gateway.over(transport, &Built::query("t.example", rtype::A)).await.options(), []);
    }
    let filled = gateway.tcp(&query(&[(option::KEEPALIVE, &[0, 100])])).await;
    assert_eq!(filled.rcode(), rcode::FORMERR, "kal_02");
}

#[tokio::test]
async fn pad_01_02_03_05_06_10_replies_are_padded_last_where_it_helps_and_was_asked() {
    let gateway = simple();
    for transport in Transport::ALL {
        for options in [&[PADDING][..], &[COOKIE, PADDING, KEEPALIVE]] {
            for _ in 0..2 {
                let got = gateway.over(transport, &query(options)).await;
                let padding = got
                    .options()
                    .last()
                    .is_some_and(|(code, data)| *code == option::PADDING && data.iter().all(|octet| *octet == 0));
                assert_eq!(padding, transport.is_encrypted(), "{}", transport.name());
                assert_eq!(got.message.len() % 468 == 0, transport.is_encrypted());
            }
        }
        let unasked = gateway.over(transport, &query(&[])).await;
        assert_eq!(unasked.option(option::PADDING), None);
    }
    let refused = gateway.over(Transport::Dot, &Built::query("example", rtype::AXFR).opt(0, false, &[PADDING])).await;
    assert_eq!((refused.message.len() % 468, refused.edes()), (0, vec![21]), "padding comes after the reason");
}

#[tokio::test]
async fn pad_07_padding_never_passes_the_largest_message() {
    // 65 520 is the last multiple of 468; past it padding fills what is left, if an option fits there at all.
    for (short, length) in [(0, 65_535), (3, 65_532), (5, 65_535), (30, 65_520)] {
        let gateway = Gateway::new(move |ask| {
            let rdata = vec![7; 65_535 - 27 - 12 - 11 - short];
            Play::Answer(Built::to(ask).record(Section::Answer, &[0xc0, 12], (rtype::A, 60), &rdata))
        });
        for _ in 0..2 {
            let got = gateway.over(Transport::Dot, &query(&[PADDING])).await;
            assert_eq!((got.rcode(), got.records.len()), (rcode::NOERROR, 1));
            assert_eq!(got.message.len(), length);
        }
    }
}

#[tokio::test]
async fn an_answer_without_room_for_our_opt_is_cut_or_refused_but_never_tc_on_a_stream() {
    let gateway = Gateway::new(move |ask| {
        let rdata = vec![7; 65_535 - 27 - 12];
        Play::Answer(Built::to(ask).record(Section::Answer, &[0xc0, 12], (rtype::A, 60), &rdata))
    });
    for _ in 0..2 {
        let got = gateway.over(Transport::Dot, &query(&[])).await;
        assert_eq!((got.rcode(), got.has(Flags::TC), got.edes()), (rcode::SERVFAIL, false, vec![0]));
        assert_eq!(gateway.tcp(&Built::query("t.example", rtype::A)).await.message.len(), 65_535);
    }
}

#[tokio::test]
async fn ede_02_a_reason_goes_before_data_does_and_tc_tells_of_it() {
    let gateway = Gateway::new(|ask| {
        let built = (0..29).fold(Built::to(ask), |built, last| built.a(300, last));
        Play::Answer(built.opt(0, false, &[(option::EDE, &[0, 3])]))
    });
    // 27 of header and question, 29 records of 16, our OPT of 11: 502, where the reason takes 6 more.
    for (size, reasons) in [(512, 1), (507, 0)] {
        let settings = Settings { datagram_limit: size, ..settings() };
        let gateway = Gateway::with(Plan { settings, ..Plan::default() }, {
            let upstream = gateway.upstream.clone();
            move |ask| upstream.play(ask)
        });
        let got = gateway.udp(&query(&[])).await;
        assert_eq!((got.records.len(), got.has(Flags::TC), got.edes().len()), (29, reasons == 0, reasons));
        assert_eq!(got.facts.trail.ede, Some(ede::STALE), "the trail knows what would have been said");
    }
}

#[tokio::test]
async fn ede_02_on_a_stream_a_reason_that_does_not_fit_is_no_truncation() {
    // 27 of header and question, 10 + 2 of the record, 11 + 6 of the upstream's OPT: the largest message. Ours is as large without
    // the reason, for the client asks how long it may stay.
    let gateway = Gateway::new(|ask| {
        let text = vec![0; 65_535 - 27 - 12 - 17];
        let built = Built::to(ask).record(Section::Answer, &[0xc0, 12], (10, 300), &text);
        Play::Answer(built.opt(0, false, &[(option::EDE, &[0, 3])]))
    });
    for (options, reasons) in [(&[][..], 1), (&[KEEPALIVE], 0)] {
        let got = gateway.tcp(&query(options)).await;
        assert_eq!((got.message.len(), got.records.len(), got.has(Flags::TC)), (65_535, 1, false));
        assert_eq!(got.edes().len(), reasons);
    }
}

#[tokio::test]
async fn cki_02_08_12_13_23_cookies_are_of_this_hop_and_of_no_key() {
    let gateway = simple();
    for transport in Transport::ALL {
        let first = gateway.over(transport, &query(&[COOKIE, (option::COOKIE, b"another!")])).await;
        let cookie = first.option(option::COOKIE).unwrap();
        assert_eq!((&cookie[..8], cookie.len(), first.facts.trail.cookie), (&b"8octets!"[..], 24, Cookie::ClientOnly));
        let again = gateway.over(transport, &query(&[(option::COOKIE, &cookie)])).await;
        assert_eq!((again.option(option::COOKIE), again.facts.trail.cookie), (Some(cookie), Cookie::Valid));
        assert_eq!(gateway.over(transport, &query(&[])).await.option(option::COOKIE), None);
    }
    assert_eq!(gateway.asked(), 1);
}

#[tokio::test]
async fn cki_01_lengths_that_no_cookie_has_are_formerr_with_an_opt() {
    let gateway = simple();
    for length in [0, 1, 7, 9, 15, 41] {
        let got = gateway.udp(&query(&[(option::COOKIE, &vec![1; length])])).await;
        assert_eq!((got.rcode(), got.option(option::COOKIE), got.edes()), (rcode::FORMERR, None, vec![0]), "{length}");
    }
}

#[tokio::test]
async fn cki_09_10_11_enforcement_gives_badcookie_and_a_good_cookie_over_udp_alone() {
    let settings = Settings { require_cookie: CookieRule::Always, ..settings() };
    let gateway = Gateway::with(Plan { settings, ..Plan::default() }, |ask| Play::Answer(Built::to(ask).a(60, 1)));
    for shown in [&[1; 8][..], &[1; 24]] {
        let got = gateway.udp(&query(&[(option::COOKIE, shown)])).await;
        assert_eq!((got.rcode(), got.records.len(), got.header.questions), (rcode::BADCOOKIE, 0, 1));
        let good = got.option(option::COOKIE).unwrap();
        assert_eq!(gateway.udp(&query(&[(option::COOKIE, &good)])).await.rcode(), rcode::NOERROR);
        assert_eq!(gateway.tcp(&query(&[(option::COOKIE, shown)])).await.rcode(), rcode::NOERROR);
    }
    let none = gateway.udp(&query(&[])).await;
    assert_eq!((none.rcode(), none.has(Flags::TC), none.options().len()), (rcode::NOERROR, true, 1));
}

#[tokio::test]
async fn cki_15_gen_12_a_cookie_alone_is_answered_with_one() {
    let gateway = simple();
    let alone = |cookie: &[u8]| {
        let header = Header { id: 3, ..Header::default() };
        Built(header.to_octets().to_vec()).opt(0, false, &[(option::COOKIE, cookie)])
    };
    let got = gateway.udp(&alone(b"8octets!")).await;
    assert_eq!((got.rcode(), got.header.questions, got.facts.source), (rcode::NOERROR, 0, Source::Local));
    let client = "192.0.2.9".parse().unwrap();
    let cookie = got.option(option::COOKIE).unwrap();
    let made = u32::from_be_bytes(cookie[12..16].try_into().unwrap());
    assert_eq!(Cookies::new(&[SECRET], gateway.clock.now()).check(&cookie, client, made).unwrap().0, Cookie::Valid);
    assert_eq!(gateway.udp(&alone(&cookie)).await.rcode(), rcode::NOERROR);
    assert_eq!(gateway.udp(&alone(&[1; 24])).await.rcode(), rcode::BADCOOKIE);
    assert_eq!(gateway.tcp(&alone(&[1; 24])).await.rcode(), rcode::NOERROR);
    let strict = Settings { require_cookie: CookieRule::Always, ..settings() };
    let strict = Gateway::with(Plan { settings: strict, ..Plan::default() }, |ask| Play::Answer(Built::to(ask)));
    let got = strict.udp(&alone(b"8octets!")).await;
    assert_eq!(
        (got.rcode(), got.option(option::COOKIE).unwrap().len()),
        (rcode::NOERROR, 24),
        "it asked for just that"
    );
    assert_eq!(strict.udp(&alone(&[1; 24])).await.rcode(), rcode::BADCOOKIE);
    let off = Plan { settings: Settings { cookies: false, ..settings() }, ..Plan::default() };
    let off = Gateway::with(off, |ask| Play::Answer(Built::to(ask)));
    let got = off.udp(&alone(b"8octets!")).await;
    assert_eq!((got.rcode(), got.option(option::COOKIE), got.edes()), (rcode::FORMERR, None, vec![0]));
}

#[tokio::test]
async fn ede_10_who_may_not_ask_is_told_so_or_hears_nothing() {
    for refuse in [Refuse::Answer, Refuse::Drop] {
        let plan = Plan { refuse, allow: "10.0.0.0/8", ..Plan::default() };
        let gateway = Gateway::with(plan, |ask| Play::Answer(Built::to(ask).a(60, 1)));
        for transport in Transport::ALL {
            let mut malformed = query(&[]);
            patch::put_u16(&mut malformed.0, 8, 7);
            for message in [query(&[]), malformed] {
                match gateway.begin(transport, &message.0) {
                    Begun::Dropped(why) => {
                        assert!(refuse == Refuse::Drop && transport.is_datagram());
                        assert_eq!(why, Why::Access);
                    }
                    other => {
                        assert!(refuse == Refuse::Answer || !transport.is_datagram());
                        let got = other.at_once();
                        assert_eq!((got.rcode(), got.facts.trail.access), (rcode::REFUSED, Access::Denied));
                        assert_eq!(got.edes().first().copied().unwrap_or(18), 18);
                    }
                }
            }
        }
        assert_eq!(gateway.asked(), 0);
    }
}
