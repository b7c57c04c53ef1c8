//! The UDP loop over real sockets.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::timeout;

use super::*;
use crate::listen::scripted::{Script, header, query, until};
use crate::listen::{Absent, Door, DoorKind, bind};
use crate::shutdown::Stop;
use crate::telemetry::Counters;
use crate::wire::Flags;

/// A served socket.
struct Gateway {
    script: Arc<Script>,
    counters: Arc<Counters>,
    address: SocketAddr,
    stop: Stop,
    serving: JoinHandle<()>,
}

fn bound(address: &str) -> (std::net::UdpSocket, SocketAddr) {
    let door = Door { kind: DoorKind::Dns, address: address.parse().unwrap() };
    let mut doors = bind::bind(&[door], 1, Absent::Refuse).unwrap();
    let door = doors.remove(0);
    (door.udp.into_iter().next().unwrap(), door.address)
}

fn serve_at(address: &str, most_waiting: usize) -> Gateway {
    let script = Script::new();
    let (stop, context) = script.context();
    let counters = Arc::clone(&context.counters);
    let (socket, address) = bound(address);
    let turn = Turn::new(DoorId(0), context).with_most_waiting(most_waiting);
    let serving = spawn_local(run(Port::open(socket).unwrap(), turn));
    Gateway { script, counters, address, stop, serving }
}

async fn client(server: impl Into<IpAddr>, port: u16) -> UdpSocket {
    let server = server.into();
    let own: IpAddr = if server.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    let socket = UdpSocket::bind((own, 0)).await.unwrap();
    // A connected socket hears its peer only.
    socket.connect((server, port)).await.unwrap();
    // `try_send` works from here on, so that a test may send without letting the server run.
    socket.writable().await.unwrap();
    socket
}

async fn receive(client: &UdpSocket) -> Vec<u8> {
    let mut reply = vec![0; 65_535];
    let length = timeout(Duration::from_secs(5), client.recv(&mut reply)).await.expect("no reply").unwrap();
    reply.truncate(length);
    reply
}

async fn local(test: impl Future<Output = ()>) {
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_hundred_queries_at_once_have_a_hundred_answers() {
    local(async {
        let gateway = serve_at("127.0.0.1:0", 10);
        let client = client(Ipv4Addr::LOCALHOST, gateway.address.port()).await;
        for id in 0..100 {
            client.try_send(&query(id, "now")).unwrap();
        }
        let mut ids = BTreeSet::new();
        for _ in 0..100 {
            ids.insert(header(&receive(&client).await).id);
        }
        assert_eq!(ids, (0..100).collect());
    })
    .await;
}

#[tokio::test]
async fn gen_13_gen_14_responses_and_scraps_are_met_with_silence() {
    local(async {
        let gateway = serve_at("127.0.0.1:0", 10);
        let client = client(Ipv4Addr::LOCALHOST, gateway.address.port()).await;
        let mut response = query(1, "now");
        response[2] |= 0x80;
        client.send(&response).await.unwrap();
        for length in 0..12 {
            client.send(&query(2, "now")[..length]).await.unwrap();
        }
        client.send(&query(3, "drop")).await.unwrap();
        client.send(&query(4, "now")).await.unwrap();
        client.send(&query(5, "now")).await.unwrap();
        assert_eq!(header(&receive(&client).await).id, 4);
        assert_eq!(header(&receive(&client).await).id, 5);
    })
    .await;
}

#[cfg(not(feature = "portable"))]
#[tokio::test]
async fn gen_16_a_reply_comes_from_the_address_that_was_asked() {
    local(async {
        let gateway = serve_at("0.0.0.0:0", 100);
        let mut clients = Vec::new();
        for last in [2, 1, 3, 2, 1, 1, 3, 2] {
            clients.push(client(Ipv4Addr::new(127, 0, 0, last), gateway.address.port()).await);
        }
        // All in one batch, of several local addresses; and twice, since header memory is used again.
        for name in ["now", "later", "now", "later"] {
            for (id, client) in (0..).zip(&clients) {
                client.try_send(&query(id, name)).unwrap();
            }
            gateway.script.open();
            for (id, client) in (0..).zip(&clients) {
                assert_eq!(header(&receive(client).await).id, id);
            }
        }
        let asked: BTreeSet<_> = gateway.script.peers.lock().unwrap().iter().map(|peer| peer.local).collect();
        assert_eq!(asked.len(), 3);
        assert!(asked.iter().all(|local| local.port() == gateway.address.port()));
        assert_eq!(gateway.counters.send_failed.value(), 0);
    })
    .await;
}

#[tokio::test]
async fn both_families_are_served_on_wildcard_addresses() {
    local(async {
        for (wildcard, own) in
            [("0.0.0.0:0", IpAddr::from(Ipv4Addr::LOCALHOST)), ("[::]:0", Ipv6Addr::LOCALHOST.into())]
        {
            if std::net::UdpSocket::bind((own, 0)).is_err() {
                // A machine without IPv6.
                continue;
            }
            let gateway = serve_at(wildcard, 10);
            let client = client(own, gateway.address.port()).await;
            for id in 0..3 {
                client.send(&query(id, "now")).await.unwrap();
                assert_eq!(header(&receive(&client).await).id, id);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_question_that_waits_delays_none_and_is_answered_when_it_can_be() {
    local(async {
        let gateway = serve_at("127.0.0.1:0", 10);
        let client = client(Ipv4Addr::LOCALHOST, gateway.address.port()).await;
        client.send(&query(1, "later")).await.unwrap();
        client.send(&query(2, "now")).await.unwrap();
        assert_eq!(header(&receive(&client).await).id, 2);
        gateway.script.open();
        assert_eq!(header(&receive(&client).await).id, 1);
    })
    .await;
}

#[tokio::test]
async fn questions_over_the_bound_on_waiting_ones_are_dropped_and_counted() {
    local(async {
        let gateway = serve_at("127.0.0.1:0", 3);
        let client = client(Ipv4Addr::LOCALHOST, gateway.address.port()).await;
        for id in 0..5 {
            client.send(&query(id, "later")).await.unwrap();
        }
        gateway.script.asked(5).await;
        assert_eq!(gateway.counters.overflow.value(), 2);
        gateway.script.open();
        let mut ids = BTreeSet::new();
        for _ in 0..3 {
            ids.insert(header(&receive(&client).await).id);
        }
        assert_eq!(ids, (0..3).collect());
        client.send(&query(9, "later")).await.unwrap();
        assert_eq!(header(&receive(&client).await).id, 9);
    })
    .await;
}

#[tokio::test]
async fn a_panic_costs_one_question_and_is_counted() {
    local(async {
        let gateway = serve_at("127.0.0.1:0", 10);
        let client = client(Ipv4Addr::LOCALHOST, gateway.address.port()).await;
        for (id, name) in [(1, "now"), (2, "panic"), (3, "boom"), (4, "now")] {
            client.try_send(&query(id, name)).unwrap();
        }
        assert_eq!(header(&receive(&client).await).id, 1);
        assert_eq!(header(&receive(&client).await).id, 4);
        until(|| gateway.counters.panics.value() == 2).await;
        client.send(&query(5, "now")).await.unwrap();
        assert_eq!(header(&receive(&client).await).id, 5);
    })
    .await;
}

#[tokio::test]
async fn frg_05_a_reply_over_what_the_path_takes_comes_truncated() {
    local(async {
        let gateway = serve_at("127.0.0.1:0", 10);
        let client = client(Ipv4Addr::LOCALHOST, gateway.address.port()).await;
        for (id, name) in [(1, "now"), (2, "huge"), (3, "now")] {
            client.try_send(&query(id, name)).unwrap();
        }
        assert_eq!(header(&receive(&client).await).id, 1);
        let short = receive(&client).await;
        let head = header(&short);
        assert_eq!((head.id, head.flags.has(Flags::TC)), (2, true));
        assert_eq!((head.questions, head.answers, head.authorities, head.additionals), (1, 0, 0, 1));
        let opt = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
        assert_eq!(short[12..], [&query(2, "huge")[12..], &opt].concat());
        assert_eq!(header(&receive(&client).await).id, 3);
        assert_eq!(gateway.counters.send_failed.value(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_datagram_longer_than_any_query_is_dropped_and_counted() {
    local(async {
        let gateway = serve_at("127.0.0.1:0", 10);
        let client = client(Ipv4Addr::LOCALHOST, gateway.address.port()).await;
        let mut long = query(1, "now");
        long.resize(DATAGRAM, 0);
        client.send(&long).await.unwrap();
        assert_eq!(header(&receive(&client).await).id, 1);
        long.push(0);
        client.send(&long).await.unwrap();
        client.send(&query(2, "now")).await.unwrap();
        assert_eq!(header(&receive(&client).await).id, 2);
        assert_eq!(gateway.counters.dropped[0].value(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_reply_that_cannot_be_sent_holds_up_no_other() {
    local(async {
        let script = Script::new();
        let (_stop, context) = script.context();
        let counters = Arc::clone(&context.counters);
        let (socket, address) = bound("127.0.0.1:0");
        let (mut port, mut turn) = (Port::open(socket).unwrap(), Turn::new(DoorId(0), context));
        let client = client(Ipv4Addr::LOCALHOST, address.port()).await;
        // Broadcasts are not allowed on this socket.
        let bad = Route { remote: "255.255.255.255:53".parse().unwrap(), local: address, interface: 0 };
        let good = Route { remote: client.local_addr().unwrap(), ..bad };
        for (id, route) in (0..).zip([bad, good, bad, bad, good]) {
            turn.take(&query(id, "now"), route, turn.moment());
        }
        port.send(&mut turn).await;
        assert_eq!(header(&receive(&client).await).id, 1);
        assert_eq!(header(&receive(&client).await).id, 4);
        assert_eq!(counters.send_failed.value(), 3);
        assert!(turn.replies().is_empty());
    })
    .await;
}

#[tokio::test]
async fn draining_stops_reading_and_finishes_what_waits() {
    local(async {
        let gateway = serve_at("127.0.0.1:0", 10);
        let client = client(Ipv4Addr::LOCALHOST, gateway.address.port()).await;
        client.send(&query(1, "later")).await.unwrap();
        gateway.script.asked(1).await;
        gateway.stop.begin();
        tokio::task::yield_now().await;
        assert!(!gateway.serving.is_finished());
        gateway.script.open();
        assert_eq!(header(&receive(&client).await).id, 1);
        gateway.serving.await.unwrap();
        // The socket is closed with the loop.
        assert!(client.send(&query(2, "now")).await.is_err() || client.recv(&mut [0; 512]).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn an_unreachable_client_does_not_end_the_loop() {
    local(async {
        let gateway = serve_at("127.0.0.1:0", 10);
        let gone = client(Ipv4Addr::LOCALHOST, gateway.address.port()).await;
        gone.send(&query(1, "later")).await.unwrap();
        gateway.script.asked(1).await;
        drop(gone);
        gateway.script.open();
        let client = client(Ipv4Addr::LOCALHOST, gateway.address.port()).await;
        for id in 2..5 {
            client.send(&query(id, "later")).await.unwrap();
            assert_eq!(header(&receive(&client).await).id, id);
        }
    })
    .await;
}

#[tokio::test]
async fn answers_that_waited_leave_as_fast_as_questions_come() {
    local(async {
        let gateway = serve_at("127.0.0.1:0", 140);
        gateway.script.open();
        let client = client(Ipv4Addr::LOCALHOST, gateway.address.port()).await;
        for id in 0..256 {
            client.try_send(&query(id, "later")).unwrap();
        }
        for _ in 0..256 {
            receive(&client).await;
        }
        assert_eq!(gateway.counters.overflow.value(), 0);
    })
    .await;
}
