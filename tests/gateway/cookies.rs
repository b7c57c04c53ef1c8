//! Server cookies (STANDARDS group CKI; RFC 7873, RFC 9018): given to whoever shows a client cookie, required where so configured,
//! and never a matter of anybody but this hop.

use std::hash::Hasher as _;
use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hushgate::peer::Transport;
use siphasher::sip::SipHasher24;
use tokio::net::UdpSocket;

use crate::harness::{Act, Answer, Ask, Rig, STREAMS, client, message};
use crate::over_all;

const SECRET: [u8; 16] = [0x42; 16];
const MINE: [u8; 8] = *b"client!!";

/// A gateway whose cookies are signed with [`SECRET`] and required by `rule`.
async fn rig(rule: &str, sets: &[&str]) -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secrets");
    std::fs::write(&file, "42".repeat(16)).unwrap();
    let file = file.display();
    Rig::set(&format!("[cookies]\nrequire = {rule:?}\nsecrets_file = \"{file}\""), sets).await
}

fn now() -> u32 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as u32
}

/// The cookie that RFC 9018 4.4 gives `client` for [`MINE`], with these version and reserved octets, at `time`.
fn forge(secret: [u8; 16], version: [u8; 4], time: u32, client: &[u8]) -> Vec<u8> {
    let head = [&MINE[..], &version, &time.to_be_bytes()].concat();
    let mut hasher = SipHasher24::new_with_key(&secret);
    hasher.write(&[&head[..], client].concat());
    [head, hasher.finish().to_le_bytes().to_vec()].concat()
}

const LOOPBACK: [u8; 4] = Ipv4Addr::LOCALHOST.octets();
const VERSION: [u8; 4] = [1, 0, 0, 0];

fn sound(time: u32) -> Vec<u8> {
    forge(SECRET, VERSION, time, &LOOPBACK)
}

fn ask(cookie: &[u8]) -> Ask {
    Ask::a("cookie.example").id(0).option(10, cookie)
}

/// RCODE with its extended bits, answers, and the cookie of the reply.
fn read(reply: &[u8]) -> (u16, u16, Option<Vec<u8>>) {
    let high = message::read(reply).edns.map_or(0, |edns| u16::from(edns.rcode_high()));
    (high << 4 | message::rcode(reply), message::counts(reply)[1], message::option(reply, 10))
}

/// Is `cookie` one that the gateway has just made for us? CKI-03, CKI-04.
fn is_fresh(cookie: &[u8]) -> bool {
    let time = u32::from_be_bytes(cookie[12..16].try_into().unwrap());
    cookie == sound(time) && now().wrapping_sub(time) <= 5
}

#[tokio::test]
async fn cki_01_cookies_of_an_odd_length_are_formerr_with_an_opt() {
    let rig = Rig::start().await;
    over_all!(Transport::ALL, |transport| {
        for length in [0, 1, 7, 9, 15, 41, 100] {
            let reply = rig.ask(transport, &ask(&vec![1; length]).bytes()).await.message;
            assert_eq!(read(&reply), (1, 0, None), "{length} octets");
            assert!(message::options(&reply).is_some());
        }
        for length in [8, 16, 17, 24, 39, 40] {
            let reply = rig.ask(transport, &ask(&vec![1; length]).bytes()).await.message;
            let (rcode, answers, cookie) = read(&reply);
            assert_eq!((rcode, answers, cookie.unwrap().len()), (0, 1, 24), "{length} octets");
        }
    });
}

#[tokio::test]
async fn cki_02_cki_03_and_cki_04_a_client_cookie_brings_a_server_cookie_of_rfc_9018() {
    let rig = rig("never", &[]).await;
    over_all!(Transport::ALL, |transport| {
        // From the upstream, from memory, made here, and with an error.
        for ask in [ask(&MINE), ask(&MINE), Ask::a("x.onion").id(0).option(10, &MINE)] {
            let reply = rig.ask(transport, &ask.bytes()).await.message;
            let cookie = read(&reply).2.unwrap();
            assert!(is_fresh(&cookie), "{cookie:02x?}");
            assert_eq!(message::options(&reply).unwrap().len(), 1);
        }
        let reply = rig.ask(transport, &Ask::new("zone.example", 252).id(0).option(10, &MINE).bytes()).await.message;
        assert!(is_fresh(&read(&reply).2.unwrap()));
    });
}

#[tokio::test]
async fn cki_05_cki_06_cki_07_and_cki_09_what_is_a_valid_cookie_and_what_is_not() {
    let rig = rig("always", &[]).await;
    rig.ask(Transport::Udp, &ask(&sound(now())).bytes()).await;
    let at = |seconds: i32| sound(now().wrapping_add_signed(seconds));
    let mut flipped = at(0);
    flipped[20] ^= 1;
    // From an IPv4 client, octets that complete the hash input of an IPv6 one: 24 are a cookie, whatever follows.
    let longer = [at(0), vec![0; 12]].concat();
    let valid = [
        ("fresh", at(0)),
        ("old", at(-3590)),
        ("from a clock ahead of ours", at(290)),
        ("with reserved octets", forge(SECRET, [1, 0xab, 0xcd, 0xef], now(), &LOOPBACK)),
    ];
    let invalid = [
        ("too old", at(-3610)),
        ("from too far ahead", at(310)),
        ("half a cycle away", sound(now().wrapping_add(0x8000_0000))),
        ("one bit off", flipped),
        ("of another address", forge(SECRET, VERSION, now(), &[127, 0, 0, 2])),
        ("of another secret", forge([0x43; 16], VERSION, now(), &LOOPBACK)),
        ("of another version", forge(SECRET, [2, 0, 0, 0], now(), &LOOPBACK)),
        ("longer", longer),
        ("shorter", at(0)[..23].to_vec()),
        ("of the client alone", MINE.to_vec()),
    ];
    for (what, cookie) in valid {
        let (rcode, answers, given) = read(&rig.ask(Transport::Udp, &ask(&cookie).bytes()).await.message);
        assert_eq!((rcode, answers), (0, 1), "{what}");
        assert!(given.is_some_and(|given| given == cookie || is_fresh(&given)), "{what}");
    }
    for (what, cookie) in invalid {
        // CKI-10: the question, a good cookie, and nothing else.
        let query = ask(&cookie).bytes();
        let reply = rig.ask(Transport::Udp, &query).await.message;
        let (rcode, answers, given) = read(&reply);
        assert_eq!((rcode, answers, reply[3] & 0xf), (23, 0, 7), "{what}");
        assert_eq!(reply[12..message::question_end(&reply)], query[12..message::question_end(&query)]);
        let retried = rig.ask(Transport::Udp, &ask(&given.unwrap()).bytes()).await.message;
        assert_eq!(message::counts(&retried)[1], 1, "{what}: the good cookie opens the door");
    }
    over_all!(STREAMS, |transport| {
        for cookie in [flipped_bit(), MINE.to_vec()] {
            let (rcode, answers, given) = read(&rig.ask(transport, &ask(&cookie).bytes()).await.message);
            assert_eq!((rcode, answers), (0, 1), "CKI-11");
            assert!(is_fresh(&given.unwrap()));
        }
    });
}

fn flipped_bit() -> Vec<u8> {
    let mut cookie = sound(now());
    cookie[23] ^= 0x80;
    cookie
}

#[tokio::test]
async fn cki_06_cki_08_and_cki_09_a_young_cookie_may_stay_and_any_other_is_renewed() {
    let rig = rig("never", &[]).await;
    over_all!(Transport::ALL, |transport| {
        let given = async |cookie: &[u8]| {
            let (rcode, answers, given) = read(&rig.ask(transport, &ask(cookie).bytes()).await.message);
            assert_eq!((rcode, answers), (0, 1));
            given.unwrap()
        };
        let young = sound(now() - 1700);
        let kept = given(&young).await;
        assert!(kept == young || is_fresh(&kept));
        for stale in [sound(now() - 1900), sound(now() - 3700), sound(now() + 400), flipped_bit(), vec![9; 16]] {
            let new = given(&stale).await;
            assert_eq!(&new[..8], &stale[..8]);
            assert!(stale[..8] != MINE || is_fresh(&new), "{new:02x?}");
        }
    });
}

#[tokio::test]
async fn cki_12_without_a_cookie_there_is_none_in_the_reply_and_tcp_proves_as_much() {
    for (rule, truncated) in [("never", 0), ("when-busy", 0), ("always", 0x0200)] {
        let rig = rig(rule, &[]).await;
        over_all!(Transport::ALL, |transport| {
            for ask in [Ask::a("plain.example").id(0), Ask::a("plain.example").id(0).edns()] {
                let reply = rig.ask(transport, &ask.bytes()).await.message;
                let expected = if transport == Transport::Udp { truncated } else { 0 };
                assert_eq!((message::rcode(&reply), message::flags(&reply) & 0x0200), (0, expected), "{rule}");
                assert_eq!(message::counts(&reply)[1], u16::from(expected == 0));
                assert_eq!(message::option(&reply, 10), None);
            }
        });
    }
}

#[tokio::test]
async fn cki_12_cookies_can_be_switched_off() {
    let rig = Rig::with("[cookies]\nserver = false").await;
    over_all!(Transport::ALL, |transport| {
        let (rcode, answers, cookie) = read(&rig.ask(transport, &ask(&MINE).bytes()).await.message);
        assert_eq!((rcode, answers, cookie), (0, 1, None));
    });
}

#[tokio::test]
async fn cki_13_of_several_cookies_the_first_counts() {
    let rig = rig("always", &[]).await;
    let good = sound(now());
    let first = ask(&good).option(10, &[1; 8]).bytes();
    assert_eq!(read(&rig.ask(Transport::Udp, &first).await.message), (0, 1, Some(good.clone())));
    let second = ask(&MINE).option(10, &good).bytes();
    assert_eq!(read(&rig.ask(Transport::Udp, &second).await.message).0, 23);
    over_all!(STREAMS, |transport| {
        let reply = rig.ask(transport, &ask(&MINE).option(10, &[1; 40]).bytes()).await.message;
        assert!(is_fresh(&read(&reply).2.unwrap()));
        assert_eq!(message::options(&reply).unwrap().len(), 1);
    });
}

#[tokio::test]
async fn cki_15_a_cookie_alone_is_answered_and_a_wrong_one_is_badcookie_over_udp() {
    let rig = rig("never", &[]).await;
    let alone = |cookie: &[u8]| {
        let mut query = ask(cookie).bytes();
        query.drain(12..message::question_end(&query));
        query[5] = 0;
        query
    };
    over_all!(Transport::ALL, |transport| {
        for (cookie, rcode) in [(MINE.to_vec(), 0), (sound(now()), 0), (flipped_bit(), 23)] {
            let rcode = if transport == Transport::Udp { rcode } else { 0 };
            let reply = rig.ask(transport, &alone(&cookie)).await.message;
            let given = message::option(&reply, 10).unwrap();
            assert!(is_fresh(&given));
            assert_eq!((read(&reply).0, message::counts(&reply)), (rcode, [0, 0, 0, 1]));
        }
    });
    assert_eq!(rig.upstream.count(), 0);
}

/// Asks over UDP with `cookie` until what comes back is as `wanted` would have it; answers the cookie in it.
async fn until(rig: &Rig, cookie: &[u8], wanted: impl Fn(u16, &[u8]) -> bool) -> Vec<u8> {
    let asking = async {
        loop {
            let (rcode, _, given) = read(&rig.ask(Transport::Udp, &ask(cookie).bytes()).await.message);
            let given = given.unwrap();
            if wanted(rcode, &given) {
                return given;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(3 * client::PATIENCE, asking).await.expect("a change of secrets")
}

#[tokio::test]
async fn cki_16_a_rollover_of_the_secrets_takes_effect_while_it_runs() {
    let (old, new) = ("42".repeat(16), "43".repeat(16));
    let extra = "[cookies]\nrequire = \"always\"\nsecrets_file = \"secrets\"";
    let rig = Rig::beside(&[("secrets", &old)], extra, &[]).await;
    let write = |lines: &str| {
        // As an operator should: the file is whole at every moment.
        std::fs::write(rig.folder().join("next"), lines).unwrap();
        std::fs::rename(rig.folder().join("next"), rig.folder().join("secrets")).unwrap();
    };
    let by_new = || forge([0x43; 16], VERSION, now(), &LOOPBACK);
    assert_eq!(read(&rig.ask(Transport::Udp, &ask(&by_new()).bytes()).await.message).0, 23);
    write(&format!("{old}\n{new}\n"));
    let renewed = until(&rig, &by_new(), |rcode, _| rcode == 0).await;
    assert!(is_fresh(&renewed), "the old one signs still");
    write("not a secret\n");
    let refused = async {
        while rig.metric("hushgate_secrets_refused_total").await == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(3 * client::PATIENCE, refused).await.expect("a file that is not taken");
    assert_eq!(read(&rig.ask(Transport::Udp, &ask(&sound(now())).bytes()).await.message).0, 0, "as before");
    write(&new);
    let signed = until(&rig, &sound(now()), |rcode, _| rcode == 23).await;
    let time = u32::from_be_bytes(signed[12..16].try_into().unwrap());
    assert_eq!(signed, forge([0x43; 16], VERSION, time, &LOOPBACK));
    assert_eq!(rig.metric("hushgate_secrets_refused_total").await, 1);
}

#[tokio::test]
async fn cki_17_gateways_with_the_same_secrets_accept_each_others_cookies_and_no_others() {
    let extra = "[cookies]\nrequire = \"always\"\nsecrets_file = \"secrets\"";
    let (same, other) = ("42".repeat(16), "43".repeat(16));
    let one = Rig::beside(&[("secrets", &same)], extra, &[]).await;
    let two = Rig::beside(&[("secrets", &same)], extra, &[]).await;
    let third = Rig::beside(&[("secrets", &other)], extra, &[]).await;
    let fourth = Rig::with("[cookies]\nrequire = \"always\"").await;
    let fifth = Rig::with("[cookies]\nrequire = \"always\"").await;
    let all = [&one, &two, &third, &fourth, &fifth];
    for (at, giver) in all.into_iter().enumerate() {
        let (rcode, _, cookie) = read(&giver.ask(Transport::Udp, &ask(&MINE).bytes()).await.message);
        assert_eq!(rcode, 23);
        for (other, taker) in all.into_iter().enumerate() {
            let query = ask(cookie.as_deref().unwrap()).bytes();
            let accepted = read(&taker.ask(Transport::Udp, &query).await.message).0 == 0;
            assert_eq!(accepted, at == other || (at < 2 && other < 2), "of {at} at {other}");
        }
    }
}

#[tokio::test]
async fn cki_17_a_secret_made_here_is_turned_every_day_and_its_cookies_stay_good() {
    let rig = Rig::with("[cookies]\nrequire = \"always\"").await;
    let first = until(&rig, &MINE, |_, _| true).await;
    assert_eq!(until(&rig, &first, |_, _| true).await, first);
    rig.pass(86_400);
    let second = until(&rig, &first, |rcode, given| rcode == 0 && given != first).await;
    assert_eq!(until(&rig, &second, |rcode, _| rcode == 0).await, second);
    rig.pass(3900);
    let third = until(&rig, &first, |rcode, _| rcode == 23).await;
    assert_eq!(until(&rig, &third, |rcode, _| rcode == 0).await, third, "and the second secret signs on");
    assert_eq!(read(&rig.ask(Transport::Udp, &ask(&second).bytes()).await.message).0, 0);
}

#[tokio::test]
async fn cki_18_an_ipv6_client_is_signed_by_sixteen_octets() {
    let Ok(socket) = UdpSocket::bind("[::1]:0").await else { return };
    let rig = rig("always", &["listen.dns=[\"[::1]:0\"]"]).await;
    socket.connect(rig.dns()).await.unwrap();
    let asked = async |cookie: &[u8]| {
        socket.send(&ask(cookie).bytes()).await.unwrap();
        let mut buffer = [0; 600];
        let reading = tokio::time::timeout(client::PATIENCE, socket.recv(&mut buffer));
        let length = reading.await.expect("an answer").unwrap();
        read(&buffer[..length])
    };
    let six = std::net::Ipv6Addr::LOCALHOST.octets();
    assert_eq!(asked(&forge(SECRET, VERSION, now(), &six)).await.0, 0);
    for address in [&LOOPBACK[..], &Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets(), &six[12..]] {
        assert_eq!(asked(&forge(SECRET, VERSION, now(), address)).await.0, 23);
    }
}

#[tokio::test]
async fn cki_23_cookies_are_of_one_hop_and_split_no_entry() {
    let rig = rig("never", &[]).await;
    rig.upstream.script(|asked| {
        let shown = message::option(&asked.message, 10).unwrap_or_default();
        let theirs = [shown.get(..8).unwrap_or(&MINE), &[0x77; 16]].concat();
        Act::Answer(Answer::new().a(300, [192, 0, 2, 1]).opt(&[(10, &theirs)]))
    });
    over_all!(Transport::ALL, |transport| {
        let plain = rig.ask(transport, &Ask::a("cookie.example").id(0).edns().bytes()).await.message;
        assert_eq!(message::options(&plain), Some(Vec::new()));
        for cookie in [&MINE[..], b"another!", &sound(now())] {
            let given = read(&rig.ask(transport, &ask(cookie).bytes()).await.message).2.unwrap();
            assert_eq!(&given[..8], &cookie[..8]);
            assert_ne!(&given[8..], &[0x77; 16]);
        }
    });
    assert_eq!(rig.upstream.count(), 1, "one entry for all");
    for asked in rig.upstream.log() {
        assert!(!asked.message.windows(8).any(|octets| octets == MINE || octets == b"another!"));
    }
}
