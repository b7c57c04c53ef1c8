//! Who is not heard: clients outside `access.allow`, and clients over their rate. A malformed question is no way round either.

use std::collections::BTreeMap;

use hushgate::peer::Transport;
use tokio::net::{TcpStream, UdpSocket};

use crate::harness::{Ask, Rig, STREAMS, client, message};
use crate::over_all;

/// Questions of all sorts: a good one, and such as would be FORMERR, BADVERS, NOTIMP or answered here.
fn questions() -> Vec<Vec<u8>> {
    let ask = || Ask::a("denied.example").id(0).edns();
    let mut two = ask().bytes();
    two[5] = 2;
    vec![
        ask().bytes(),
        ask().option(10, &[1; 9]).bytes(),
        ask().version(1).bytes(),
        ask().flags(0x7800).bytes(),
        Ask::a("localhost").id(0).edns().bytes(),
        Ask::new("zone.example", 252).id(0).edns().bytes(),
        two,
    ]
}

#[test]
fn prg_08_by_default_no_door_hears_a_public_address() {
    let source = hushgate::config::Source { file: None, environment: None, sets: vec![] };
    let config = hushgate::config::load(&source).config.unwrap();
    let guard = hushgate::guard::Guard::new(config.guard);
    let doors = config.listen.doors.len();
    assert!(doors > 0);
    for door in 0..doors {
        let may = |text: &str| guard.may_ask(hushgate::peer::DoorId(door as u16), text.parse().unwrap());
        for public in [
            "8.8.8.8",
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "203.0.113.7",
            "2001:4860::8888",
            "2a00::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(!may(public), "{public}");
        }
        for private in ["127.0.0.1", "10.1.2.3", "172.31.0.1", "192.168.1.1", "::1", "fd00::1", "fe80::1"] {
            assert!(may(private), "{private}");
        }
    }
}

#[tokio::test]
async fn ede_10_a_client_outside_the_allowed_networks_is_refused_whatever_it_asks() {
    let rig = Rig::with("[access]\nallow = [\"192.0.2.0/24\"]").await;
    for query in questions() {
        let reply = rig.ask(Transport::Udp, &query).await.message;
        assert_eq!((message::rcode(&reply), message::counts(&reply)[1..3].to_vec()), (5, vec![0, 0]));
        if query[5] == 1 {
            assert_eq!(message::ede(&reply), Some(18));
        }
        assert_eq!(message::option(&reply, 10), None, "no cookie for a stranger");
    }
    let plain = rig.ask(Transport::Udp, &Ask::a("denied.example").bytes()).await.message;
    assert_eq!((message::rcode(&plain), message::counts(&plain)), (5, [1, 0, 0, 0]));
    assert_eq!(rig.upstream.count(), 0);
}

#[tokio::test]
async fn a_connection_from_outside_the_allowed_networks_ends_before_any_handshake() {
    let rig = Rig::with("[access]\nallow = [\"192.0.2.0/24\"]").await;
    let query = Ask::a("denied.example").bytes();
    for address in [rig.dns(), rig.dot(), rig.doh(), rig.doh_clear()] {
        // Accepted by the kernel, and closed: end or reset, and not one octet.
        if let Ok(mut stream) = TcpStream::connect(address).await {
            let asking = client::framed(&mut stream, &query);
            let answered = tokio::time::timeout(client::PATIENCE, asking).await.expect("the connection ends");
            assert!(answered.is_none());
        }
    }
    let trust = |alpn| client::trust(&rig.authority(), &[alpn]);
    for address in [rig.dot(), rig.doh()] {
        client::tls(address, trust(&b"dot"[..])).await.unwrap_err();
    }
    for (address, alpn) in [(rig.doq(), &b"doq"[..]), (rig.doh(), b"h3")] {
        client::quic(address, trust(alpn)).await.unwrap_err();
    }
    assert_eq!(rig.upstream.count(), 0);
}

#[tokio::test]
async fn refuse_drop_is_silence_over_udp_whatever_is_asked() {
    let rig = Rig::set("[access]\nallow = [\"127.0.0.2/32\"]\nrefuse = \"drop\"", &["workers=1"]).await;
    let denied = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for query in questions() {
        denied.send_to(&query, rig.dns()).await.unwrap();
    }
    flush(&rig).await;
    assert!(received(denied).is_empty());
    assert!(rig.upstream.log().iter().all(|asked| asked.name() != "denied.example"));
}

/// Asks as an allowed, unlimited client: the one worker has then answered all that was sent before.
async fn flush(rig: &Rig) {
    let socket = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    socket.send_to(&Ask::a("localhost").bytes(), rig.dns()).await.unwrap();
    let mut buffer = [0; 600];
    let reading = tokio::time::timeout(client::PATIENCE, socket.recv_from(&mut buffer));
    reading.await.expect("an answer").unwrap();
}

/// What has come so far, asked of the kernel: the runtime may not have heard of it yet.
fn received(socket: UdpSocket) -> Vec<Vec<u8>> {
    let socket = socket.into_std().unwrap();
    let mut all = Vec::new();
    let mut buffer = [0; 2000];
    while let Ok((length, _)) = socket.recv_from(&mut buffer) {
        all.push(buffer[..length].to_vec());
    }
    all
}

/// How many replies of each sort `count` questions bring when they come at once.
async fn burst(rig: &Rig, query: &[u8], count: usize) -> BTreeMap<&'static str, usize> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for _ in 0..count {
        socket.send_to(query, rig.dns()).await.unwrap();
    }
    flush(rig).await;
    let mut sorts = BTreeMap::new();
    for reply in received(socket) {
        let high = message::read(&reply).edns.map_or(0, |edns| u16::from(edns.rcode_high()));
        let sort = match (message::flags(&reply) & 0x0200 != 0, high << 4 | message::rcode(&reply)) {
            (true, 0) => "truncated",
            (false, 0) => "answered",
            (false, 1) => "formerr",
            (false, 5) => "refused",
            (false, 23) => "badcookie",
            other => panic!("{other:?}"),
        };
        let empty = message::counts(&reply)[1] == 0;
        assert_eq!(empty, sort != "answered");
        *sorts.entry(sort).or_default() += 1;
    }
    // The next burst finds a full bucket.
    rig.pass(60);
    sorts
}

/// A gateway with one worker and five questions a second for everybody but 127.0.0.2.
async fn limited() -> Rig {
    let rig = Rig::set("[limits]\nqueries_per_second = 5\nexempt = [\"127.0.0.2/32\"]", &["workers=1"]).await;
    rig.pass(60);
    rig
}

/// The rate and the same again, give or take what refills while a slow machine sends.
fn is_about_five(count: Option<&usize>) -> bool {
    count.is_some_and(|count| (5..=8).contains(count))
}

#[tokio::test]
async fn over_its_rate_a_udp_client_hears_tc_and_then_nothing() {
    let rig = limited().await;
    let sorts = burst(&rig, &Ask::a("localhost").bytes(), 30).await;
    assert!(is_about_five(sorts.get("answered")) && is_about_five(sorts.get("truncated")), "{sorts:?}");
    assert_eq!(sorts.len(), 2, "{sorts:?}: the rest is silence");
}

#[tokio::test]
async fn over_its_rate_a_malformed_question_is_treated_like_any_other() {
    let rig = limited().await;
    let malformed = Ask::a("localhost").option(10, &[1; 9]).bytes();
    let sorts = burst(&rig, &malformed, 30).await;
    assert!(is_about_five(sorts.get("formerr")) && is_about_five(sorts.get("truncated")), "{sorts:?}");
    assert_eq!(sorts.len(), 2, "{sorts:?}");
}

#[tokio::test]
async fn cki_10_and_cki_14_over_its_rate_a_client_with_a_cookie_learns_how_to_prove_itself_and_then_fares_better() {
    let rig = limited().await;
    for cookie in [vec![1; 8], vec![1; 24]] {
        let sorts = burst(&rig, &Ask::a("localhost").option(10, &cookie).bytes(), 30).await;
        assert!(is_about_five(sorts.get("answered")) && is_about_five(sorts.get("badcookie")), "{sorts:?}");
        assert_eq!(sorts.len(), 2, "{sorts:?}");
    }
    let reply = rig.ask(Transport::Udp, &Ask::a("localhost").option(10, &[1; 8]).bytes()).await.message;
    let valid = message::option(&reply, 10).unwrap();
    rig.pass(60);
    let sorts = burst(&rig, &Ask::a("localhost").option(10, &valid).bytes(), 30).await;
    assert!(sorts.get("answered").is_some_and(|&count| (10..=16).contains(&count)), "{sorts:?}: twice the rate");
    assert_eq!(sorts.values().sum::<usize>(), 30, "{sorts:?}: REFUSED, never silence");
    assert_eq!(sorts.get("refused"), Some(&(30 - sorts["answered"])));
}

#[tokio::test]
async fn over_its_rate_a_stream_client_is_refused_and_told_why() {
    let rig = limited().await;
    let malformed = Ask::a("localhost").id(0).option(10, &[1; 9]).bytes();
    over_all!(STREAMS, |transport| {
        for query in [Ask::a("localhost").id(0).edns().bytes(), malformed.clone()] {
            let mut heard = Vec::new();
            // A token comes back every 200 ms, which a slow machine may take for a handshake: then once more.
            for _ in 0..10 {
                burst_over_tcp(&rig).await;
                let reply = rig.ask(transport, &query).await.message;
                heard.push((message::rcode(&reply), message::ede(&reply)));
                rig.pass(60);
                if heard.last() == Some(&(5, Some(18))) {
                    break;
                }
            }
            assert_eq!(heard.last(), Some(&(5, Some(18))), "{heard:?}");
        }
        let reply = rig.ask(transport, &Ask::a("localhost").id(0).bytes()).await.message;
        assert_eq!(message::counts(&reply)[1], 1, "a minute later all is well");
        rig.pass(60);
    });
}

/// Uses up all tokens that 127.0.0.1 has over streams.
async fn burst_over_tcp(rig: &Rig) {
    let mut stream = rig.tcp().await;
    let query = Ask::a("localhost").bytes();
    for _ in 0..20 {
        client::send_framed(&mut stream, &query).await.unwrap();
    }
    for _ in 0..20 {
        client::read_framed(&mut stream).await.unwrap();
    }
}

#[tokio::test]
async fn a_flood_of_datagrams_in_a_clients_name_takes_nothing_from_its_streams() {
    let rig = limited().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for _ in 0..30 {
        socket.send_to(&Ask::a("localhost").bytes(), rig.dns()).await.unwrap();
    }
    flush(&rig).await;
    assert!(received(socket).len() < 30, "the flood is over its rate");
    over_all!([Transport::Tcp, Transport::Dot, Transport::Doh2, Transport::Doq], |transport| {
        let reply = rig.ask(transport, &Ask::a("localhost").id(0).bytes()).await.message;
        assert_eq!(message::rcode(&reply), 0);
    });
}
