//! Clients that move, workers that hand each other datagrams, processes that follow each other: over real sockets.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use h3::client::SendRequest;
use h3_quinn::OpenStreams;
use http::Request;
use tokio::sync::{mpsc, watch};

use super::QuicDoors;
use super::mailboxes::{Datagram, Lost};
use super::ownership::{Ownership, SECRET};
use super::rig::{GENERATION, Plan, Rig, Steering, answer_to, ask, framed, ownership, query, until};
use crate::peer::DoorId;
use crate::telemetry::{Counter, Counters};

const PLACES: [(u8, Steering); 6] = [
    (1, Steering::Kernel),
    (2, Steering::Kernel),
    (8, Steering::Kernel),
    (1, Steering::Workers),
    (2, Steering::Workers),
    (8, Steering::Workers),
];

fn sum(rig: &Rig, counter: impl Fn(&Counters) -> &Counter) -> u64 {
    rig.all_counters.iter().map(|counters| counter(counters).value()).sum()
}

fn rebind(client: &quinn::Endpoint, ip: &str) -> SocketAddr {
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    client.rebind(socket).unwrap();
    address
}

#[tokio::test]
async fn qui_06_07_a_client_keeps_its_connection_whatever_port_it_comes_from() {
    for (workers, steering) in PLACES {
        let rig = Rig::with(Plan { workers, steering, ..Plan::default() });
        let client = rig.client("doq");
        let connection = client.connect(rig.address, "dns.test").unwrap().await.unwrap();
        for _ in 0..16 {
            assert_eq!(ask(&connection, "now").await, answer_to("now"));
            rebind(&client, "127.0.0.1");
        }
        assert_eq!(ask(&connection, "now").await, answer_to("now"));
        assert_eq!(sum(&rig, |counters| &counters.handshakes), 1, "one connection all the time");
        let handed = sum(&rig, |counters| &counters.quic_handed_over);
        // Sixteen ports that all lead to one of eight workers are no accident.
        let expected = steering == Steering::Workers && workers == 8;
        assert!(if expected { handed > 0 } else { workers == 2 || handed == 0 }, "{workers} {steering:?}: {handed}");
    }
}

/// As [`ask`] over HTTP/3: the message that comes back.
async fn post(requests: &mut SendRequest<OpenStreams, Bytes>, name: &str) -> Vec<u8> {
    let request = Request::post("https://dns.test/dns-query").header("content-type", "application/dns-message");
    let mut stream = requests.send_request(request.body(()).unwrap()).await.unwrap();
    stream.send_data(query(0, name, &[]).into()).await.unwrap();
    stream.finish().await.unwrap();
    assert_eq!(stream.recv_response().await.unwrap().status(), 200);
    let mut whole = Vec::new();
    while let Some(mut data) = stream.recv_data().await.unwrap() {
        whole.extend_from_slice(&data.copy_to_bytes(data.remaining()));
    }
    whole
}

#[tokio::test]
async fn qui_06_07_a_client_keeps_its_connection_over_http3_too() {
    for (workers, steering) in PLACES {
        let doors = QuicDoors { doq: None, doh3: Some(DoorId(0)) };
        let rig = Rig::with(Plan { doors, workers, steering, ..Plan::default() });
        let client = rig.client("h3");
        let connection = client.connect(rig.address, "dns.test").unwrap().await.unwrap();
        let http = h3_quinn::Connection::new(connection.clone());
        let (mut driver, mut requests) = h3::client::new(http).await.unwrap();
        tokio::spawn(async move { driver.wait_idle().await });
        for _ in 0..16 {
            assert_eq!(post(&mut requests, "now").await, answer_to("now")[2..]);
            rebind(&client, "127.0.0.1");
        }
        assert_eq!(post(&mut requests, "now").await, answer_to("now")[2..]);
        assert_eq!(sum(&rig, |counters| &counters.handshakes), 1, "one connection all the time");
        let handed = sum(&rig, |counters| &counters.quic_handed_over);
        let expected = steering == Steering::Workers && workers == 8;
        assert!(if expected { handed > 0 } else { workers == 2 || handed == 0 }, "{workers} {steering:?}: {handed}");
    }
}

#[tokio::test]
async fn qui_06_an_answer_finds_a_client_that_has_moved_since_it_asked() {
    for (workers, steering) in PLACES {
        let rig = Rig::with(Plan { workers, steering, ..Plan::default() });
        let client = rig.client("doq");
        let connection = client.connect(rig.address, "dns.test").unwrap().await.unwrap();
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        send.write_all(&framed(&query(0, "later", &[]))).await.unwrap();
        send.finish().unwrap();
        until(|| rig.script.waiting.load(std::sync::atomic::Ordering::Relaxed) == 1).await;
        rebind(&client, "127.0.0.1");
        rig.gate.send_replace(true);
        assert_eq!(recv.read_to_end(70_000).await.unwrap(), answer_to("later"));
    }
}

#[tokio::test]
async fn questions_are_asked_for_the_address_that_they_come_from() {
    let rig = Rig::start();
    let client = rig.client("doq");
    let connection = client.connect(rig.address, "dns.test").unwrap().await.unwrap();
    // Half of a question waits while its client moves.
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    let half = framed(&query(0, "half", &[]));
    send.write_all(&half[..9]).await.unwrap();
    ask(&connection, "now").await;
    let moved = rebind(&client, "127.0.0.2");
    send.write_all(&half[9..]).await.unwrap();
    send.finish().unwrap();
    recv.read_to_end(70_000).await.unwrap();
    ask(&connection, "now").await;
    let peers = rig.script.peers.lock().unwrap();
    assert_eq!(peers[0].ip().to_string(), "127.0.0.1");
    assert_eq!([peers[1].remote, peers[2].remote], [moved; 2]);
}

/// A client's way to one of several servers, which it takes for one; what comes back, from whichever, it gets from here.
struct Way {
    address: SocketAddr,
    to: watch::Sender<SocketAddr>,
}

impl Way {
    async fn to(server: SocketAddr) -> Self {
        let [near, far] = [bound().await, bound().await].map(Arc::new);
        let address = near.local_addr().unwrap();
        let (to, towards) = watch::channel(server);
        let (client, known) = watch::channel(address);
        let (inner, outer) = (Arc::clone(&near), Arc::clone(&far));
        tokio::spawn(async move {
            let mut octets = vec![0; 65_536];
            while let Ok((length, source)) = inner.recv_from(&mut octets).await {
                client.send_replace(source);
                let server = *towards.borrow();
                let _ = outer.send_to(&octets[..length], server).await;
            }
        });
        tokio::spawn(async move {
            let mut octets = vec![0; 65_536];
            while let Ok((length, _)) = far.recv_from(&mut octets).await {
                let client = *known.borrow();
                let _ = near.send_to(&octets[..length], client).await;
            }
        });
        Self { address, to }
    }
}

async fn bound() -> tokio::net::UdpSocket {
    tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap()
}

/// The same keys in another process.
fn successor() -> Ownership {
    Ownership::new(&[5; SECRET], GENERATION + 1)
}

#[tokio::test]
async fn qui_05_after_a_restart_a_client_is_told_at_once_that_its_connection_is_gone() {
    for (workers, steering) in [(1, Steering::Kernel), (8, Steering::Kernel), (8, Steering::Workers)] {
        let plan = Plan { workers, steering, ..Plan::default() };
        let before = Rig::with(plan);
        let after = Rig::at(plan, ([127, 0, 0, 1], 0).into(), successor());
        let way = Way::to(before.address).await;
        let connection = before.client("doq").connect(way.address, "dns.test").unwrap().await.unwrap();
        assert_eq!(ask(&connection, "now").await, answer_to("now"));
        way.to.send_replace(after.address);
        let (mut send, _recv) = connection.open_bi().await.unwrap();
        // Long enough for a reset to be shorter.
        send.write_all(&[1; 200]).await.unwrap();
        assert_eq!(connection.closed().await, quinn::ConnectionError::Reset, "{workers} {steering:?}");
    }
}

#[tokio::test]
async fn a_process_with_other_keys_ends_nobodys_connections() {
    let before = Rig::start();
    let after = Rig::at(Plan::default(), ([127, 0, 0, 1], 0).into(), Ownership::new(&[6; SECRET], GENERATION));
    let way = Way::to(before.address).await;
    let connection = before.client("doq").connect(way.address, "dns.test").unwrap().await.unwrap();
    way.to.send_replace(after.address);
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    send.write_all(&[1; 200]).await.unwrap();
    assert_eq!(ask(&after.connect().await, "now").await, answer_to("now"));
    assert_eq!(connection.close_reason(), None);
    way.to.send_replace(before.address);
    assert_eq!(ask(&connection, "now").await, answer_to("now"));
}

#[tokio::test]
async fn while_another_process_lives_its_datagrams_are_passed_on_to_it() {
    let plan = Plan { workers: 2, steering: Steering::Workers, ..Plan::default() };
    let old = Rig::with(plan);
    let new = Rig::at(plan, ([127, 0, 0, 1], 0).into(), successor());
    let (passer, mut strays) = mpsc::channel(64);
    new.mailboxes.pass_on_to(Some(passer));
    let (mailboxes, address, door) = (Arc::clone(&old.mailboxes), old.address, new.address);
    tokio::spawn(async move {
        while let Some(stray) = strays.recv().await {
            assert_eq!((stray.door, stray.owner.generation), (door, GENERATION));
            mailboxes.take_in(address, stray.datagram).unwrap();
        }
    });
    let way = Way::to(old.address).await;
    let connection = old.client("doq").connect(way.address, "dns.test").unwrap().await.unwrap();
    way.to.send_replace(new.address);
    assert_eq!(ask(&connection, "now").await, answer_to("now"));
    assert!(sum(&new, |counters| &counters.quic_passed_on) > 0);
    assert_eq!(sum(&new, |counters| &counters.handshakes), 0);
}

#[tokio::test]
async fn what_finds_no_room_or_no_worker_is_lost_and_counted() {
    let rig = Rig::with(Plan { workers: 2, steering: Steering::Workers, ..Plan::default() });
    let (passer, mut strays) = mpsc::channel(1);
    rig.mailboxes.pass_on_to(Some(passer));
    let owner = successor().worker(0);
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let packet = |id: &[u8]| [&[0x40][..], id, &[7; 40]].concat();
    for _ in 0..3 {
        sender.send_to(&packet(&ownership().key.id(owner, rand::random())), rig.address).unwrap();
    }
    until(|| sum(&rig, |counters| &counters.quic_lost) == 2).await;
    assert_eq!(strays.recv().await.unwrap().owner, owner);

    let datagram = |id: &[u8]| Datagram { source: rig.address, local: None, ecn: None, octets: packet(id).into() };
    let known = ownership().key.id(ownership().worker(1), [1; 5]);
    let take_in = |door, id: &[u8]| rig.mailboxes.take_in(door, datagram(id));
    // Nothing is read meanwhile: this test has not waited.
    let taken = (0..300).filter(|_| take_in(rig.address, &known).is_ok()).count();
    assert_eq!((taken, take_in(rig.address, &known)), (256, Err(Lost::Full)));
    let elsewhere = ([127, 0, 0, 1], 1).into();
    for (door, id) in [
        (elsewhere, &known[..]),
        (rig.address, &[1; 10]),
        (rig.address, &ownership().key.id(ownership().worker(2), [1; 5])),
        (rig.address, &ownership().key.id(owner, [1; 5])),
    ] {
        assert_eq!(take_in(door, id), Err(Lost::Nobody));
    }
    assert_eq!(ask(&rig.connect().await, "now").await, answer_to("now"));
}
